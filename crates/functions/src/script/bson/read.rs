//! From raw BSON to JavaScript.

use rquickjs::function::Args;
use rquickjs::{Array, Ctx, Error, Exception, Object, Result, Value};
use tributary_convert::raw::{MalformedBson, RawElement, RawElements, kind};

use super::{Kind, MAX_DEPTH, Types, raw};

/// How deep what is read may nest, beyond what MongoDB itself allows.
const DEPTH: usize = MAX_DEPTH + 50;

/// The largest whole number up to which all of them are numbers of JavaScript.
const MAX_SAFE: u64 = (1 << 53) - 1;

/// How to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Every type that has a class becomes one of it.
    Exact,
    /// An int64 becomes a number where that is exact.
    Relaxed,
}

/// Reads a document.
///
/// # Errors
/// An exception where the bytes are no BSON or memory is short.
pub(crate) fn read_document<'js>(
    ctx: &Ctx<'js>,
    types: &Types<'js>,
    document: &[u8],
) -> Result<Value<'js>> {
    let reader = Reader {
        ctx,
        types,
        reading: Reading::Exact,
    };
    reader.document(document, 1)
}

/// Reads the field `v` of a document, `undefined` where there is none.
///
/// # Errors
/// As [`read_document`].
pub(crate) fn read_field<'js>(
    ctx: &Ctx<'js>,
    types: &Types<'js>,
    document: &[u8],
    reading: Reading,
) -> Result<Value<'js>> {
    let reader = Reader {
        ctx,
        types,
        reading,
    };
    match reader.field(document)? {
        Some(element) => reader.value(&element, 1),
        None => Ok(Value::new_undefined(ctx.clone())),
    }
}

/// Reads the array that is the field `v` of a document as the arguments of a call.
///
/// # Errors
/// As [`read_document`].
pub(crate) fn read_arguments<'js>(
    ctx: &Ctx<'js>,
    types: &Types<'js>,
    document: &[u8],
) -> Result<Args<'js>> {
    let reader = Reader {
        ctx,
        types,
        reading: Reading::Exact,
    };
    let mut arguments = Args::new_unsized(ctx.clone());
    if let Some(list) = reader.field(document)? {
        let list = list
            .as_document()
            .map_err(|error| reader.malformed(error))?;
        for element in reader.elements(list)? {
            let element = element.map_err(|error| reader.malformed(error))?;
            arguments.push_arg(reader.value(&element, 1)?)?;
        }
    }
    Ok(arguments)
}

struct Reader<'a, 'js> {
    ctx: &'a Ctx<'js>,
    types: &'a Types<'js>,
    reading: Reading,
}

impl<'js> Reader<'_, 'js> {
    #[cold]
    fn malformed(&self, error: MalformedBson) -> Error {
        Exception::throw_message(self.ctx, &error.to_string())
    }

    fn elements<'b>(&self, document: &'b [u8]) -> Result<RawElements<'b>> {
        RawElements::new(document).map_err(|error| self.malformed(error))
    }

    fn field<'b>(&self, document: &'b [u8]) -> Result<Option<RawElement<'b>>> {
        for element in self.elements(document)? {
            let element = element.map_err(|error| self.malformed(error))?;
            if element.name == b"v" {
                return Ok(Some(element));
            }
        }
        Ok(None)
    }

    fn deeper(&self, depth: usize) -> Result<usize> {
        if depth > DEPTH {
            return Err(Exception::throw_message(
                self.ctx,
                "a document is nested too deeply",
            ));
        }
        Ok(depth + 1)
    }

    fn document(&self, document: &[u8], depth: usize) -> Result<Value<'js>> {
        let depth = self.deeper(depth)?;
        let object = Object::new(self.ctx.clone())?;
        for element in self.elements(document)? {
            let element = element.map_err(|error| self.malformed(error))?;
            raw::define(&object, element.name, &self.value(&element, depth)?)?;
        }
        Ok(object.into_value())
    }

    fn array(&self, document: &[u8], depth: usize) -> Result<Value<'js>> {
        let depth = self.deeper(depth)?;
        let array = Array::new(self.ctx.clone())?;
        for (index, element) in (0..).zip(self.elements(document)?) {
            let element = element.map_err(|error| self.malformed(error))?;
            raw::push(array.as_object(), index, &self.value(&element, depth)?)?;
        }
        Ok(array.into_value())
    }

    fn value(&self, element: &RawElement<'_>, depth: usize) -> Result<Value<'js>> {
        let ctx = || self.ctx.clone();
        let string = |bytes: &[u8]| raw::new_string(self.ctx, bytes);
        let read = |result| -> Result<Value<'js>> {
            match result {
                Ok(value) => value,
                Err(error) => Err(self.malformed(error)),
            }
        };
        match element.kind {
            kind::INT32 => read(
                element
                    .as_i32()
                    .map(|value| Ok(Value::new_int(ctx(), value))),
            ),
            kind::DOUBLE => read(element.as_f64().map(|value| {
                // The engine computes faster with whole numbers, but has only one zero of them.
                Ok(if value == 0.0 {
                    Value::new_float(ctx(), value)
                } else {
                    Value::new_number(ctx(), value)
                })
            })),
            kind::STRING => read(element.as_string_bytes().map(string)),
            kind::DOCUMENT => read(
                element
                    .as_document()
                    .map(|document| self.document(document, depth)),
            ),
            kind::ARRAY => read(element.as_document().map(|array| self.array(array, depth))),
            kind::BOOL => read(
                element
                    .as_bool()
                    .map(|value| Ok(Value::new_bool(ctx(), value))),
            ),
            kind::NULL => Ok(Value::new_null(ctx())),
            kind::UNDEFINED => Ok(Value::new_undefined(ctx())),
            kind::DATE => read(
                element
                    .as_date_millis()
                    .map(|millis| raw::new_date(self.ctx, millis as f64)),
            ),
            _ => self.wrapper(element, depth),
        }
    }

    /// A value of a type that JavaScript has none for.
    fn wrapper(&self, element: &RawElement<'_>, depth: usize) -> Result<Value<'js>> {
        let string = |bytes: &[u8]| raw::new_string(self.ctx, bytes);
        let malformed = |error| self.malformed(error);
        match element.kind {
            kind::OBJECT_ID => {
                let id: [u8; 24] = hex(element.as_object_id().map_err(malformed)?)?;
                self.types.make(Kind::ObjectId, &string(&id)?, None)
            }
            kind::INT64 => {
                let value = element.as_i64().map_err(malformed)?;
                if self.reading == Reading::Relaxed && value.unsigned_abs() <= MAX_SAFE {
                    return Ok(Value::new_number(self.ctx.clone(), value as f64));
                }
                let big = Value::new_big_int(self.ctx.clone(), value)?;
                self.types.make(Kind::Long, &big, None)
            }
            kind::BINARY => {
                let (subtype, bytes) = element.as_binary().map_err(malformed)?;
                let subtype = Value::new_int(self.ctx.clone(), i32::from(subtype));
                let bytes = raw::new_bytes(self.ctx, bytes)?;
                self.types.make(Kind::Binary, &bytes, Some(&subtype))
            }
            kind::TIMESTAMP => {
                let (time, increment) = element.as_timestamp().map_err(malformed)?;
                let number = |part: u32| Value::new_number(self.ctx.clone(), f64::from(part));
                self.types
                    .make(Kind::Timestamp, &number(time), Some(&number(increment)))
            }
            kind::DECIMAL128 => {
                let bytes: [u8; 32] = hex(element.as_decimal128().map_err(malformed)?)?;
                self.types.make(Kind::Decimal128, &string(&bytes)?, None)
            }
            kind::REGEX => {
                let (pattern, options) = element.as_regex().map_err(malformed)?;
                self.types
                    .make(Kind::Regex, &string(pattern)?, Some(&string(options)?))
            }
            kind::CODE => {
                let code = string(element.as_string_bytes().map_err(malformed)?)?;
                self.types.make(Kind::Code, &code, None)
            }
            kind::CODE_WITH_SCOPE => {
                let (code, scope) = element.as_code_with_scope().map_err(malformed)?;
                let scope = self.document(scope, depth)?;
                self.types.make(Kind::Code, &string(code)?, Some(&scope))
            }
            kind::SYMBOL => {
                let symbol = string(element.as_string_bytes().map_err(malformed)?)?;
                self.types.make(Kind::Symbol, &symbol, None)
            }
            kind::DB_POINTER => {
                let (namespace, id) = element.as_db_pointer().map_err(malformed)?;
                let id: [u8; 24] = hex(id)?;
                self.types
                    .make(Kind::DbPointer, &string(namespace)?, Some(&string(&id)?))
            }
            kind::MIN_KEY => Ok(raw::object_of(self.types.prototype(Kind::MinKey)?)?.into_value()),
            kind::MAX_KEY => Ok(raw::object_of(self.types.prototype(Kind::MaxKey)?)?.into_value()),
            _ => Err(Exception::throw_message(
                self.ctx,
                "a document has a value of an unknown type",
            )),
        }
    }
}

/// Hexadecimal digits, of which there are twice as many as bytes.
fn hex<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    let mut digits = [0; N];
    hex::encode_to_slice(bytes, &mut digits).map_err(|_| Error::Unknown)?;
    Ok(digits)
}
