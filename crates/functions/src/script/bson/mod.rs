//! BSON values in JavaScript: their classes, and the way between them and raw BSON.
//!
//! | BSON | JavaScript | and back |
//! |---|---|---|
//! | double, int32 | number | int32 where it is a whole number in its range, else double; `-0` is a double |
//! | int64 | `BSON.Long` | int64, as is a bigint |
//! | string | string | string; half surrogate pairs and what is not UTF-8 are replaced |
//! | document | object | document of its own enumerable properties; also a `Map` |
//! | array | array | array |
//! | binary | `BSON.Binary` | the same; a `Uint8Array` or `ArrayBuffer` is of subtype 0 |
//! | undefined | `undefined` | left out of documents, null in arrays; null in what MongoDB is given |
//! | min key, max key | `BSON.MinKey`, `BSON.MaxKey` | the same, also of the classes themselves |
//! | date | `Date` | date; an invalid one is an error |
//! | regular expression | `BSON.BSONRegExp` | the same, also of a `RegExp` |
//! | other types | the class of that name in `BSON` | the same |
//!
//! Objects list keys that are whole numbers first and in ascending order, whatever the order in which they were
//! set. A document with such keys can come back in another order; all other documents keep theirs. Dates beyond
//! 8.64e15 milliseconds from the epoch have no value in JavaScript and become invalid.

pub(crate) mod raw;
mod read;
mod write;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use rquickjs::{Ctx, Error, Function, JsLifetime, Object, Result, Value};
use tributary_convert::raw::kind;

pub(crate) use read::{Reading, read_arguments, read_document, read_field};
pub(crate) use write::{Absent, Unwritable, write_document, write_field};

use raw::Name;

/// How deep documents and arrays may nest in what functions return and give to services.
const MAX_DEPTH: usize = 200;

/// What an object is of, as its chain of prototypes says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    ObjectId,
    Long,
    Int32,
    Double,
    Decimal128,
    Binary,
    Timestamp,
    Regex,
    Code,
    Symbol,
    DbPointer,
    MinKey,
    MaxKey,
    Boxed,
    Plain,
}

/// Every class by its name in the prelude.
const CLASSES: [(&str, Kind); 13] = [
    ("ObjectId", Kind::ObjectId),
    ("Long", Kind::Long),
    ("Int32", Kind::Int32),
    ("Double", Kind::Double),
    ("Decimal128", Kind::Decimal128),
    ("Binary", Kind::Binary),
    ("Timestamp", Kind::Timestamp),
    ("BSONRegExp", Kind::Regex),
    ("Code", Kind::Code),
    ("BSONSymbol", Kind::Symbol),
    ("DBPointer", Kind::DbPointer),
    ("MinKey", Kind::MinKey),
    ("MaxKey", Kind::MaxKey),
];

/// The classes of a context, kept at hand.
pub(crate) struct Types<'js> {
    /// The prototypes, by [`Kind`], in the order of [`CLASSES`].
    prototypes: Vec<Object<'js>>,
    /// The prototypes that tell a kind, by identity.
    kinds: Vec<(usize, Kind)>,
    /// `BSON.MinKey` and `BSON.MaxKey`, by identity, and the type that each stands for where it is not called.
    key_classes: [(usize, u8); 2],
    first: Name,
    second: Name,
    to_bson: Name,
    source: Name,
    flags: Name,
    get_time: Function<'js>,
    value_of: Function<'js>,
    entries: Function<'js>,
}

/// The classes of each context of an engine, by the context's address.
#[derive(Default)]
struct TypesOfContexts<'js>(RefCell<HashMap<usize, Rc<Types<'js>>>>);

// SAFETY: the type is the same but for the lifetime of its values.
unsafe impl<'js> JsLifetime<'js> for TypesOfContexts<'js> {
    type Changed<'to> = TypesOfContexts<'to>;
}

fn address(ctx: &Ctx<'_>) -> usize {
    ctx.as_raw().as_ptr() as usize
}

impl<'js> Types<'js> {
    /// Those of a context.
    ///
    /// # Errors
    /// The context has none.
    pub(crate) fn of(ctx: &Ctx<'js>) -> Result<Rc<Self>> {
        let all = ctx.userdata::<TypesOfContexts<'js>>();
        let all = all.ok_or(Error::Unknown)?;
        let types = all.0.borrow().get(&address(ctx)).cloned();
        types.ok_or(Error::Unknown)
    }

    /// Makes them those of a context, until [`forget`](Self::forget).
    ///
    /// # Errors
    /// What the engine says.
    pub(crate) fn keep(self, ctx: &Ctx<'js>) -> Result<()> {
        if ctx.userdata::<TypesOfContexts<'js>>().is_none() {
            ctx.store_userdata(TypesOfContexts::default())
                .map_err(|_| Error::Unknown)?;
        }
        let all = ctx.userdata::<TypesOfContexts<'js>>();
        let all = all.ok_or(Error::Unknown)?;
        all.0.borrow_mut().insert(address(ctx), Rc::new(self));
        Ok(())
    }

    /// Lets go of those of a context, whose values they are.
    pub(crate) fn forget(ctx: &Ctx<'js>) {
        if let Some(all) = ctx.userdata::<TypesOfContexts<'js>>() {
            let types = all.0.borrow_mut().remove(&address(ctx));
            drop(types);
        }
    }

    /// Takes what the prelude made.
    ///
    /// # Errors
    /// What the engine says, as where memory is short.
    pub(crate) fn new(ctx: &Ctx<'js>, made: &Object<'js>) -> Result<Self> {
        let by_name: Object<'js> = made.get("prototypes")?;
        let mut prototypes = Vec::with_capacity(CLASSES.len());
        let mut kinds = Vec::with_capacity(CLASSES.len() + 5);
        let globals = ctx.globals();
        let standard = |name: &str| -> Result<Object<'js>> {
            globals.get::<_, Object<'js>>(name)?.get("prototype")
        };
        kinds.push((raw::identity(standard("Object")?.as_value()), Kind::Plain));
        for (name, kind) in CLASSES {
            let prototype: Object<'js> = by_name.get(name)?;
            kinds.push((raw::identity(&prototype), kind));
            prototypes.push(prototype);
        }
        for name in ["Number", "String", "Boolean", "BigInt"] {
            kinds.push((raw::identity(standard(name)?.as_value()), Kind::Boxed));
        }
        let classes: Object<'js> = made.get("BSON")?;
        let class = |name: &str| -> Result<usize> {
            Ok(raw::identity(&classes.get::<_, Value<'js>>(name)?))
        };
        let name = |text: &str| -> Result<Name> {
            Name::new(ctx, &raw::new_string(ctx, text.as_bytes())?)
        };
        Ok(Self {
            prototypes,
            kinds,
            key_classes: [
                (class("MinKey")?, kind::MIN_KEY),
                (class("MaxKey")?, kind::MAX_KEY),
            ],
            first: Name::new(ctx, &made.get("FIRST")?)?,
            second: Name::new(ctx, &made.get("SECOND")?)?,
            to_bson: name("toBSON")?,
            source: name("source")?,
            flags: name("flags")?,
            get_time: standard("Date")?.get("getTime")?,
            value_of: ctx.eval("(boxed) => boxed.valueOf()")?,
            entries: made.get("entries")?,
        })
    }

    /// The prototype of a class, which [`CLASSES`] has.
    fn prototype(&self, kind: Kind) -> Result<&Object<'js>> {
        CLASSES
            .iter()
            .position(|(_, known)| *known == kind)
            .and_then(|index| self.prototypes.get(index))
            .ok_or(Error::Unknown)
    }

    /// A value of a class, made of one or two parts.
    fn make(
        &self,
        kind: Kind,
        first: &Value<'js>,
        second: Option<&Value<'js>>,
    ) -> Result<Value<'js>> {
        let object = raw::object_of(self.prototype(kind)?)?;
        raw::define_named(&object, self.first, first)?;
        if let Some(second) = second {
            raw::define_named(&object, self.second, second)?;
        }
        Ok(object.into_value())
    }

    /// The type of BSON that a class stands for by itself: Atlas's functions write `{ $lt: BSON.MaxKey }`.
    fn key_class(&self, value: &Value<'js>) -> Option<u8> {
        if !value.is_function() {
            return None;
        }
        let identity = raw::identity(value);
        self.key_classes
            .iter()
            .find(|(class, _)| *class == identity)
            .map(|(_, kind)| *kind)
    }

    /// The kind of an object.
    fn kind(&self, object: &Value<'js>) -> Result<Kind> {
        let mut prototype = raw::prototype(object)?;
        // Chains end, but a proxy may go on giving prototypes for as long as it likes.
        for _ in 0..MAX_DEPTH {
            if !prototype.is_object() {
                break;
            }
            let identity = raw::identity(&prototype);
            if let Some((_, kind)) = self.kinds.iter().find(|(known, _)| *known == identity) {
                return Ok(*kind);
            }
            prototype = raw::prototype(&prototype)?;
        }
        Ok(Kind::Plain)
    }
}
