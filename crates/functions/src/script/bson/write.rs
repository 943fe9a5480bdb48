//! From JavaScript to raw BSON.

use std::fmt;
use std::io::Write as _;

use rquickjs::function::This;
use rquickjs::{Array, Error, Value};
use tributary_convert::raw::kind;

use super::raw::{Class, Properties};
use super::{Kind, MAX_DEPTH, Types, raw};

/// The most bytes that one value may take, three times what MongoDB takes for a message: a sparse array is small in
/// JavaScript and huge in BSON.
const MAX_BYTES: usize = 3 * 48_000_000;

/// Why a value cannot be BSON.
#[derive(Debug)]
pub(crate) enum Unwritable {
    /// The engine raised an exception, as where a getter throws. It is pending.
    Raised,
    /// It has no form in BSON.
    Unfit {
        /// What is wrong with it.
        what: String,
        /// Where it is, from the innermost name.
        path: Vec<String>,
    },
}

impl Unwritable {
    fn unfit(what: impl Into<String>) -> Self {
        Self::Unfit {
            what: what.into(),
            path: Vec::new(),
        }
    }

    fn below(mut self, name: impl FnOnce() -> String) -> Self {
        if let Self::Unfit { path, .. } = &mut self {
            path.push(name());
        }
        self
    }
}

impl From<Error> for Unwritable {
    fn from(error: Error) -> Self {
        match error {
            Error::Exception | Error::Allocation => Self::Raised,
            other => Self::unfit(other.to_string()),
        }
    }
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raised => f.write_str("it raised an exception"),
            Self::Unfit { what, path } if path.is_empty() => f.write_str(what),
            Self::Unfit { what, path } => {
                write!(f, "{what}, at ")?;
                for (index, name) in path.iter().rev().take(20).enumerate() {
                    if index > 0 && !name.starts_with('[') {
                        f.write_str(".")?;
                    }
                    f.write_str(name)?;
                }
                if path.len() > 20 {
                    f.write_str("…")?;
                }
                Ok(())
            }
        }
    }
}

/// What becomes of `undefined`, functions and symbols, for which BSON has nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// They are left out of documents and null in arrays, as `JSON.stringify` has it.
    LeftOut,
    /// `undefined` is null, as the Node.js driver has it, and functions and symbols are an error: a filter that
    /// lost a condition would match more than was meant.
    Told,
}

/// Writes a value as the field `v` of a document; without that field where it is `undefined` or a function.
///
/// # Errors
/// Where the value has no form in BSON. Getters and `toBSON` are called, and may raise exceptions.
pub(crate) fn write_field<'js>(
    types: &Types<'js>,
    value: &Value<'js>,
) -> Result<Vec<u8>, Unwritable> {
    let mut writer = Writer::new(types, Absent::LeftOut);
    let start = writer.open();
    writer.element(Key::Name("v"), value)?;
    writer.close(start)?;
    Ok(writer.out)
}

/// Writes an object as a document.
///
/// # Errors
/// As [`write_field`], and where the value is no object.
pub(crate) fn write_document<'js>(
    types: &Types<'js>,
    value: &Value<'js>,
    absent: Absent,
) -> Result<Vec<u8>, Unwritable> {
    let mut writer = Writer::new(types, absent);
    if !value.is_object() || value.is_array() {
        return Err(Unwritable::unfit("a document must be an object"));
    }
    writer.document(value)?;
    Ok(writer.out)
}

/// What an element is called.
#[derive(Clone, Copy)]
enum Key<'a> {
    Name(&'a str),
    Index(i64),
}

struct Writer<'a, 'js> {
    types: &'a Types<'js>,
    absent: Absent,
    out: Vec<u8>,
    /// The objects that the current one is within, by identity.
    within: Vec<usize>,
}

impl<'a, 'js> Writer<'a, 'js> {
    fn new(types: &'a Types<'js>, absent: Absent) -> Self {
        Self {
            types,
            absent,
            out: Vec::with_capacity(256),
            within: Vec::new(),
        }
    }

    fn open(&mut self) -> usize {
        let start = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        start
    }

    fn close(&mut self, start: usize) -> Result<(), Unwritable> {
        self.out.push(0);
        let length = i32::try_from(self.out.len() - start)
            .map_err(|_| Unwritable::unfit("the value is too large"))?;
        self.patch(start, length);
        Ok(())
    }

    fn patch(&mut self, at: usize, length: i32) {
        if let Some(place) = self.out.get_mut(at..at + 4) {
            place.copy_from_slice(&length.to_le_bytes());
        }
    }

    /// Begins an element.
    fn head(&mut self, kind: u8, key: Key<'_>) -> Result<(), Unwritable> {
        if self.out.len() > MAX_BYTES {
            return Err(Unwritable::unfit("the value is too large"));
        }
        self.out.push(kind);
        match key {
            Key::Name(name) if name.as_bytes().contains(&0) => {
                return Err(Unwritable::unfit("the name of a field contains a NUL"));
            }
            Key::Name(name) => self.out.extend_from_slice(name.as_bytes()),
            Key::Index(index) => {
                // Writing to memory does not fail.
                let _ = write!(self.out, "{index}");
            }
        }
        self.out.push(0);
        Ok(())
    }

    fn string(&mut self, text: &Value<'js>) -> Result<(), Unwritable> {
        let out = &mut self.out;
        let fits = raw::with_text(text, |text| {
            let Ok(length) = i32::try_from(text.len() + 1) else {
                return false;
            };
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(text.as_bytes());
            out.push(0);
            true
        })?;
        if fits {
            Ok(())
        } else {
            Err(Unwritable::unfit("a string is too long"))
        }
    }

    fn cstring(&mut self, text: &Value<'js>) -> Result<(), Unwritable> {
        let out = &mut self.out;
        let has_nul = raw::with_text(text, |text| {
            out.extend_from_slice(text.as_bytes());
            out.push(0);
            text.as_bytes().contains(&0)
        })?;
        if has_nul {
            return Err(Unwritable::unfit("a regular expression contains a NUL"));
        }
        Ok(())
    }

    fn null(&mut self, key: Key<'_>) -> Result<(), Unwritable> {
        self.head(kind::NULL, key)
    }

    /// Writes an element, unless it is one that documents leave out.
    fn element(&mut self, key: Key<'_>, value: &Value<'js>) -> Result<(), Unwritable> {
        if let Some(int) = value.as_int() {
            self.head(kind::INT32, key)?;
            self.out.extend_from_slice(&int.to_le_bytes());
        } else if let Some(number) = value.as_float() {
            self.number(key, number)?;
        } else if raw::is_string(value) {
            self.head(kind::STRING, key)?;
            self.string(value)?;
        } else if let Some(flag) = value.as_bool() {
            self.head(kind::BOOL, key)?;
            self.out.push(u8::from(flag));
        } else if value.is_null() {
            self.null(key)?;
        } else if raw::is_big_int(value) {
            let Some(integer) = raw::as_i64(value)? else {
                return Err(Unwritable::unfit("a bigint is beyond 64 bits"));
            };
            self.head(kind::INT64, key)?;
            self.out.extend_from_slice(&integer.to_le_bytes());
        } else if value.is_object() && !value.is_function() {
            self.object(key, value, true)?;
        } else if let Some(kind) = self.types.key_class(value) {
            self.head(kind, key)?;
        } else {
            self.absent(key, value)?;
        }
        Ok(())
    }

    /// Writes what there is in the place of `undefined`, a function or a symbol.
    fn absent(&mut self, key: Key<'_>, value: &Value<'js>) -> Result<(), Unwritable> {
        match (self.absent, key) {
            (Absent::LeftOut, Key::Name(_)) => Ok(()),
            (Absent::Told, _) if value.is_function() => Err(Unwritable::unfit(
                "a function is no value that MongoDB can be given",
            )),
            (Absent::Told, _) if !value.is_undefined() => Err(Unwritable::unfit(
                "a symbol is no value that MongoDB can be given",
            )),
            _ => self.null(key),
        }
    }

    fn number(&mut self, key: Key<'_>, number: f64) -> Result<(), Unwritable> {
        let int = number as i32;
        // Casting -0 gives 0, of which the bits are others.
        if f64::from(int).to_bits() == number.to_bits() {
            self.head(kind::INT32, key)?;
            self.out.extend_from_slice(&int.to_le_bytes());
        } else {
            self.head(kind::DOUBLE, key)?;
            self.out.extend_from_slice(&number.to_le_bytes());
        }
        Ok(())
    }

    /// Writes an object; `asks` says whether it may still say by `toBSON` what is to be written in its place.
    fn object(&mut self, key: Key<'_>, value: &Value<'js>, asks: bool) -> Result<(), Unwritable> {
        let kind = self.types.kind(value)?;
        if kind != Kind::Plain {
            return self.wrapper(key, value, kind);
        }
        if value.is_array() {
            return self.array(key, value);
        }
        if asks {
            let to_bson = raw::property(value, self.types.to_bson)?;
            if let Some(to_bson) = to_bson.as_function() {
                let replaced: Value<'js> = to_bson.call((This(value.clone()),))?;
                return if replaced.is_object() && !replaced.is_function() {
                    self.object(key, &replaced, false)
                } else {
                    self.element(key, &replaced)
                };
            }
        }
        match raw::class(value) {
            Class::Date => {
                let millis: f64 = self.types.get_time.call((This(value.clone()),))?;
                if millis.is_nan() {
                    return Err(Unwritable::unfit("a date is invalid"));
                }
                self.head(kind::DATE, key)?;
                self.out.extend_from_slice(&(millis as i64).to_le_bytes());
                Ok(())
            }
            Class::RegExp => {
                let flags = raw::text(&raw::property(value, self.types.flags)?)?;
                let source = raw::property(value, self.types.source)?;
                self.head(kind::REGEX, key)?;
                self.cstring(&source)?;
                // Other flags say how to search, not what to find.
                let options = flags.bytes().filter(|flag| b"ims".contains(flag));
                self.out.extend(options);
                self.out.push(0);
                Ok(())
            }
            Class::Bytes | Class::Buffer => {
                self.head(kind::BINARY, key)?;
                self.binary(value, 0)
            }
            Class::Map => {
                let flat: Array<'js> = self.types.entries.call((value.clone(),))?;
                self.enter(value)?;
                self.head(kind::DOCUMENT, key)?;
                let start = self.open();
                let flat = flat.into_value();
                for index in (0..raw::length(&flat)?).step_by(2) {
                    let name = raw::text(&raw::element(&flat, index)?)?;
                    let item = raw::element(&flat, index + 1)?;
                    self.element(Key::Name(&name), &item)
                        .map_err(|error| error.below(|| name.clone()))?;
                }
                self.close(start)?;
                self.within.pop();
                Ok(())
            }
            Class::Other => {
                self.head(kind::DOCUMENT, key)?;
                self.document(value)
            }
        }
    }

    /// Notes that what follows is within an object.
    fn enter(&mut self, value: &Value<'js>) -> Result<(), Unwritable> {
        let identity = raw::identity(value);
        if self.within.contains(&identity) {
            return Err(Unwritable::unfit("the value contains itself"));
        }
        if self.within.len() >= MAX_DEPTH {
            return Err(Unwritable::unfit(format!(
                "the value is nested deeper than {MAX_DEPTH} levels"
            )));
        }
        self.within.push(identity);
        Ok(())
    }

    fn document(&mut self, value: &Value<'js>) -> Result<(), Unwritable> {
        self.enter(value)?;
        let start = self.open();
        let properties = Properties::of(value)?;
        for index in 0..properties.count() {
            let Some(name) = properties.name(index) else {
                break;
            };
            let item = raw::property(value, name)?;
            if item.is_undefined() && self.absent == Absent::LeftOut {
                continue;
            }
            let text = properties.with_name(name, str::to_owned)?;
            self.element(Key::Name(&text), &item)
                .map_err(|error| error.below(|| text.clone()))?;
        }
        self.close(start)?;
        self.within.pop();
        Ok(())
    }

    fn array(&mut self, key: Key<'_>, value: &Value<'js>) -> Result<(), Unwritable> {
        self.enter(value)?;
        self.head(kind::ARRAY, key)?;
        let start = self.open();
        for index in 0..raw::length(value)? {
            let item = raw::element(value, index)?;
            self.element(Key::Index(index), &item)
                .map_err(|error| error.below(|| format!("[{index}]")))?;
        }
        self.close(start)?;
        self.within.pop();
        Ok(())
    }

    fn binary(&mut self, bytes: &Value<'js>, subtype: u8) -> Result<(), Unwritable> {
        let out = &mut self.out;
        let fits = raw::with_bytes(bytes, |bytes| {
            // Subtype 2 repeats the length within the value.
            let extra = if subtype == 2 { 4 } else { 0 };
            let (Ok(length), Ok(whole)) = (
                i32::try_from(bytes.len()),
                i32::try_from(bytes.len() + extra),
            ) else {
                return false;
            };
            out.extend_from_slice(&whole.to_le_bytes());
            out.push(subtype);
            if subtype == 2 {
                out.extend_from_slice(&length.to_le_bytes());
            }
            out.extend_from_slice(bytes);
            true
        })?;
        if fits {
            Ok(())
        } else {
            Err(Unwritable::unfit("binary data is too long"))
        }
    }

    /// Writes a value of a class of BSON's.
    fn wrapper(&mut self, key: Key<'_>, value: &Value<'js>, kind: Kind) -> Result<(), Unwritable> {
        let first = raw::property(value, self.types.first)?;
        let bad = |name: &str| {
            Unwritable::unfit(format!("an object is no {name}, but has its prototype"))
        };
        match kind {
            Kind::ObjectId => {
                let id: [u8; 12] = unhex(&first)?.ok_or_else(|| bad("ObjectId"))?;
                self.head(kind::OBJECT_ID, key)?;
                self.out.extend_from_slice(&id);
            }
            Kind::Long => {
                if !raw::is_big_int(&first) {
                    return Err(bad("Long"));
                }
                let integer = raw::as_i64(&first)?.ok_or_else(|| bad("Long"))?;
                self.head(kind::INT64, key)?;
                self.out.extend_from_slice(&integer.to_le_bytes());
            }
            Kind::Int32 => {
                let int = first.as_number().ok_or_else(|| bad("Int32"))? as i32;
                self.head(kind::INT32, key)?;
                self.out.extend_from_slice(&int.to_le_bytes());
            }
            Kind::Double => {
                let number = first.as_number().ok_or_else(|| bad("Double"))?;
                self.head(kind::DOUBLE, key)?;
                self.out.extend_from_slice(&number.to_le_bytes());
            }
            Kind::Decimal128 => {
                let bytes: [u8; 16] = unhex(&first)?.ok_or_else(|| bad("Decimal128"))?;
                self.head(kind::DECIMAL128, key)?;
                self.out.extend_from_slice(&bytes);
            }
            Kind::Binary => {
                let subtype = self.second(value)?.as_number();
                if raw::class(&first) != Class::Bytes {
                    return Err(bad("Binary"));
                }
                self.head(kind::BINARY, key)?;
                self.binary(&first, subtype.ok_or_else(|| bad("Binary"))? as u8)?;
            }
            Kind::Timestamp => {
                let time = first.as_number().ok_or_else(|| bad("Timestamp"))?;
                let increment = self.second(value)?.as_number();
                let increment = increment.ok_or_else(|| bad("Timestamp"))?;
                self.head(kind::TIMESTAMP, key)?;
                self.out
                    .extend_from_slice(&(increment as u32).to_le_bytes());
                self.out.extend_from_slice(&(time as u32).to_le_bytes());
            }
            Kind::Regex => {
                let options = self.second(value)?;
                if !raw::is_string(&first) || !raw::is_string(&options) {
                    return Err(bad("BSONRegExp"));
                }
                self.head(kind::REGEX, key)?;
                self.cstring(&first)?;
                self.cstring(&options)?;
            }
            Kind::Code => self.code(key, value, &first)?,
            Kind::Symbol => {
                self.head(kind::SYMBOL, key)?;
                self.string(&first)?;
            }
            Kind::DbPointer => {
                let id: [u8; 12] = unhex(&self.second(value)?)?.ok_or_else(|| bad("DBPointer"))?;
                self.head(kind::DB_POINTER, key)?;
                self.string(&first)?;
                self.out.extend_from_slice(&id);
            }
            Kind::MinKey => self.head(kind::MIN_KEY, key)?,
            Kind::MaxKey => self.head(kind::MAX_KEY, key)?,
            Kind::Boxed => {
                let primitive: Value<'js> = self.types.value_of.call((value.clone(),))?;
                if primitive.is_object() {
                    return Err(bad("primitive"));
                }
                self.element(key, &primitive)?;
            }
            // The caller tells plain objects apart.
            Kind::Plain => return Err(Unwritable::unfit("a value has no form")),
        }
        Ok(())
    }

    fn second(&self, value: &Value<'js>) -> Result<Value<'js>, Unwritable> {
        Ok(raw::property(value, self.types.second)?)
    }

    fn code(
        &mut self,
        key: Key<'_>,
        value: &Value<'js>,
        code: &Value<'js>,
    ) -> Result<(), Unwritable> {
        let scope = self.second(value)?;
        if !scope.is_object() {
            self.head(kind::CODE, key)?;
            return self.string(code);
        }
        self.head(kind::CODE_WITH_SCOPE, key)?;
        let start = self.open();
        self.string(code)?;
        self.document(&scope)?;
        let length = i32::try_from(self.out.len() - start)
            .map_err(|_| Unwritable::unfit("the value is too large"))?;
        self.patch(start, length);
        Ok(())
    }
}

/// The bytes that hexadecimal digits stand for, where the value is as many of them as it must be.
fn unhex<const N: usize>(digits: &Value<'_>) -> Result<Option<[u8; N]>, Unwritable> {
    if !raw::is_string(digits) {
        return Ok(None);
    }
    Ok(raw::with_text(digits, |digits| {
        let mut bytes = [0; N];
        hex::decode_to_slice(digits, &mut bytes)
            .ok()
            .map(|()| bytes)
    })?)
}
