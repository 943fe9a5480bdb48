//! The type wrappers: objects such as `{"$oid": …}` that stand for a value.

use std::borrow::Cow;

use super::json::ExtJsonError;
use super::read::Reader;
use super::text::{decode_base64, sorted_options};
use super::{INVALID_UTF8, date, decimal};
use crate::raw::kind;

/// What an object with a certain key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrapper {
    Binary,
    Code,
    Date,
    DbPointer,
    Decimal,
    Double,
    Int32,
    Int64,
    InvalidUtf8,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Symbol,
    Timestamp,
    Undefined,
    Uuid,
}

impl Wrapper {
    pub(super) fn of(key: &str) -> Option<Self> {
        Some(match key {
            "$binary" => Self::Binary,
            "$code" => Self::Code,
            "$date" => Self::Date,
            "$dbPointer" => Self::DbPointer,
            "$numberDecimal" => Self::Decimal,
            "$numberDouble" => Self::Double,
            "$numberInt" => Self::Int32,
            "$numberLong" => Self::Int64,
            INVALID_UTF8 => Self::InvalidUtf8,
            "$maxKey" => Self::MaxKey,
            "$minKey" => Self::MinKey,
            "$oid" => Self::ObjectId,
            "$regularExpression" => Self::Regex,
            "$symbol" => Self::Symbol,
            "$timestamp" => Self::Timestamp,
            "$undefined" => Self::Undefined,
            "$uuid" => Self::Uuid,
            _ => return None,
        })
    }

    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Binary => "$binary",
            Self::Code => "$code",
            Self::Date => "$date",
            Self::DbPointer => "$dbPointer",
            Self::Decimal => "$numberDecimal",
            Self::Double => "$numberDouble",
            Self::Int32 => "$numberInt",
            Self::Int64 => "$numberLong",
            Self::InvalidUtf8 => INVALID_UTF8,
            Self::MaxKey => "$maxKey",
            Self::MinKey => "$minKey",
            Self::ObjectId => "$oid",
            Self::Regex => "$regularExpression",
            Self::Symbol => "$symbol",
            Self::Timestamp => "$timestamp",
            Self::Undefined => "$undefined",
            Self::Uuid => "$uuid",
        }
    }
}

type Read<T> = Result<T, ExtJsonError>;

impl<'a> Reader<'a> {
    /// Appends the value of a wrapper, whose key and colon have been read, up to its closing
    /// brace; returns the type of the value.
    pub(super) fn wrapper(&mut self, wrapper: Wrapper, depth: usize) -> Read<u8> {
        let kind = match wrapper {
            Wrapper::Binary => self.binary()?,
            Wrapper::Code => return self.code(depth),
            Wrapper::Date => self.date()?,
            Wrapper::DbPointer => self.db_pointer()?,
            Wrapper::Decimal => {
                let text = self.json_string(wrapper)?;
                let bytes = decimal::parse(&text).ok_or_else(|| {
                    self.error_in(wrapper, "not a decimal that 128 bits hold exactly")
                })?;
                self.out.extend_from_slice(&bytes);
                kind::DECIMAL128
            }
            Wrapper::Double => {
                let text = self.json_string(wrapper)?;
                let value = parse_double(&text)
                    .ok_or_else(|| self.error_in(wrapper, "not a number that a double can hold"))?;
                self.out.extend_from_slice(&value.to_le_bytes());
                kind::DOUBLE
            }
            Wrapper::Int32 => {
                let value: i32 = self.integer_text(wrapper, "not a 32-bit integer")?;
                self.out.extend_from_slice(&value.to_le_bytes());
                kind::INT32
            }
            Wrapper::Int64 => {
                let value: i64 = self.integer_text(wrapper, "not a 64-bit integer")?;
                self.out.extend_from_slice(&value.to_le_bytes());
                kind::INT64
            }
            Wrapper::InvalidUtf8 => {
                let bytes = self.base64(wrapper)?;
                self.push_string(&bytes)?;
                kind::STRING
            }
            Wrapper::MaxKey => self.one(wrapper, kind::MAX_KEY)?,
            Wrapper::MinKey => self.one(wrapper, kind::MIN_KEY)?,
            Wrapper::ObjectId => {
                self.object_id(wrapper)?;
                kind::OBJECT_ID
            }
            Wrapper::Regex => self.regex()?,
            Wrapper::Symbol => {
                self.text(wrapper)?;
                kind::SYMBOL
            }
            Wrapper::Timestamp => self.timestamp()?,
            Wrapper::Undefined if self.json.take_word("true") => kind::UNDEFINED,
            Wrapper::Undefined => return Err(self.error_in(wrapper, "not true")),
            Wrapper::Uuid => self.uuid()?,
        };
        self.end_wrapper(wrapper)?;
        Ok(kind)
    }

    pub(super) fn end_wrapper(&mut self, wrapper: Wrapper) -> Read<()> {
        if self.json.take(b'}') {
            Ok(())
        } else {
            Err(self.error_in(wrapper, "the object has other keys"))
        }
    }

    fn json_string(&mut self, wrapper: Wrapper) -> Read<Cow<'a, str>> {
        match self.json.peek() {
            Some(b'"') => self.json.string(),
            _ => Err(self.error_in(wrapper, "expected a string")),
        }
    }

    fn open(&mut self, wrapper: Wrapper) -> Read<()> {
        if self.json.take(b'{') {
            Ok(())
        } else {
            Err(self.error_in(wrapper, "expected an object"))
        }
    }

    /// Reads an object of exactly the two fields `names`, in either order.
    fn two_fields<A, B>(
        &mut self,
        wrapper: Wrapper,
        names: [&str; 2],
        first: impl Fn(&mut Self) -> Read<A>,
        second: impl Fn(&mut Self) -> Read<B>,
    ) -> Read<(A, B)> {
        self.open(wrapper)?;
        let (mut a, mut b) = (None, None);
        if self.json.peek() == Some(b'"') {
            let mut next = Some(self.json.name()?);
            while let Some(name) = next {
                if a.is_none() && name == names[0] {
                    a = Some(first(self)?);
                } else if b.is_none() && name == names[1] {
                    b = Some(second(self)?);
                } else {
                    return Err(self.error_in(wrapper, "unexpected field in its object"));
                }
                next = self.next_name()?;
            }
        }
        a.zip(b)
            .ok_or_else(|| self.error_in(wrapper, "its object lacks a field"))
    }

    /// The bytes of a string, which may be a wrapper for what is not UTF-8.
    fn string_bytes(&mut self, wrapper: Wrapper) -> Read<Cow<'a, [u8]>> {
        if !self.json.take(b'{') {
            return Ok(match self.json_string(wrapper)? {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            });
        }
        if self.json.peek() != Some(b'"') || self.json.name()? != INVALID_UTF8 {
            return Err(self.error_in(wrapper, "expected a string"));
        }
        let bytes = self.base64(Wrapper::InvalidUtf8)?;
        self.end_wrapper(Wrapper::InvalidUtf8)?;
        Ok(Cow::Owned(bytes))
    }

    /// Appends a string with its length and terminator.
    pub(super) fn text(&mut self, wrapper: Wrapper) -> Read<()> {
        let bytes = self.string_bytes(wrapper)?;
        self.push_string(&bytes)
    }

    fn base64(&mut self, wrapper: Wrapper) -> Read<Vec<u8>> {
        let text = self.json_string(wrapper)?;
        let mut bytes = Vec::new();
        decode_base64(&mut bytes, &text)
            .ok_or_else(|| self.error_in(wrapper, "not base64 with padding"))?;
        Ok(bytes)
    }

    fn integer_text<T: std::str::FromStr>(
        &mut self,
        wrapper: Wrapper,
        what: &'static str,
    ) -> Read<T> {
        let text = self.json_string(wrapper)?;
        match text.parse() {
            Ok(value) if !text.starts_with('+') => Ok(value),
            _ => Err(self.error_in(wrapper, what)),
        }
    }

    /// A JSON integer of 32 bits without sign.
    fn u32(&mut self, wrapper: Wrapper) -> Read<u32> {
        let number = match self.json.peek() {
            Some(b'0'..=b'9') => self.json.number()?.text.parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| self.error_in(wrapper, "not a 32-bit integer without sign"))
    }

    fn one(&mut self, wrapper: Wrapper, kind: u8) -> Read<u8> {
        if self.json.peek() == Some(b'1') && self.json.number()?.text == "1" {
            return Ok(kind);
        }
        Err(self.error_in(wrapper, "not 1"))
    }

    fn object_id(&mut self, wrapper: Wrapper) -> Read<()> {
        let text = self.json_string(wrapper)?;
        let mut id = [0; 12];
        hex::decode_to_slice(text.as_bytes(), &mut id)
            .map_err(|_| self.error_in(wrapper, "not 24 hexadecimal digits"))?;
        self.out.extend_from_slice(&id);
        Ok(())
    }

    fn binary(&mut self) -> Read<u8> {
        let wrapper = Wrapper::Binary;
        let (bytes, subtype) = self.two_fields(
            wrapper,
            ["base64", "subType"],
            |reader| reader.base64(wrapper),
            |reader| {
                let text = reader.json_string(wrapper)?;
                match text.len() {
                    1 | 2 if !text.starts_with('+') => u8::from_str_radix(&text, 16).ok(),
                    _ => None,
                }
                .ok_or_else(|| {
                    reader.error_in(wrapper, "subType is not one or two hexadecimal digits")
                })
            },
        )?;
        self.push_binary(subtype, &bytes)
    }

    fn push_binary(&mut self, subtype: u8, bytes: &[u8]) -> Read<u8> {
        let start = self.out.len();
        self.out.extend_from_slice(&[0, 0, 0, 0, subtype]);
        if subtype == 2 {
            self.out.extend_from_slice(&[0; 4]);
        }
        self.out.extend_from_slice(bytes);
        if subtype == 2 {
            self.set_length(start + 5, start + 9)?;
        }
        self.set_length(start, start + 5)?;
        Ok(kind::BINARY)
    }

    fn uuid(&mut self) -> Read<u8> {
        let text = self.json_string(Wrapper::Uuid)?;
        let mut bytes = [0; 16];
        let groups = text.split('-').map(str::len);
        if !groups.eq([8, 4, 4, 4, 12])
            || hex::decode_to_slice(text.replace('-', ""), &mut bytes).is_err()
        {
            return Err(self.error_in(
                Wrapper::Uuid,
                "not hexadecimal digits in groups of 8-4-4-4-12",
            ));
        }
        self.push_binary(4, &bytes)
    }

    fn date(&mut self) -> Read<u8> {
        let wrapper = Wrapper::Date;
        let millis = if self.json.take(b'{') {
            if self.json.peek() != Some(b'"') || self.json.name()? != "$numberLong" {
                return Err(self.error_in(wrapper, "expected ISO 8601 text or $numberLong"));
            }
            let millis = self.integer_text(Wrapper::Int64, "not a 64-bit integer")?;
            self.end_wrapper(Wrapper::Int64)?;
            millis
        } else {
            let text = self.json_string(wrapper)?;
            date::parse(&text).ok_or_else(|| {
                self.error_in(
                    wrapper,
                    "not an ISO 8601 date and time of at most milliseconds",
                )
            })?
        };
        self.out.extend_from_slice(&millis.to_le_bytes());
        Ok(kind::DATE)
    }

    fn timestamp(&mut self) -> Read<u8> {
        let wrapper = Wrapper::Timestamp;
        let number = |reader: &mut Self| reader.u32(wrapper);
        let (time, increment) = self.two_fields(wrapper, ["t", "i"], number, number)?;
        self.out.extend_from_slice(&increment.to_le_bytes());
        self.out.extend_from_slice(&time.to_le_bytes());
        Ok(kind::TIMESTAMP)
    }

    fn regex(&mut self) -> Read<u8> {
        let wrapper = Wrapper::Regex;
        let text = |reader: &mut Self| reader.string_bytes(wrapper);
        let (pattern, options) = self.two_fields(wrapper, ["pattern", "options"], text, text)?;
        self.push_cstring(&pattern)?;
        match sorted_options(&options) {
            Some(sorted) => self.push_cstring(sorted.as_bytes())?,
            None => self.push_cstring(&options)?,
        }
        Ok(kind::REGEX)
    }

    fn db_pointer(&mut self) -> Read<u8> {
        let wrapper = Wrapper::DbPointer;
        let (namespace, id) = self.two_fields(
            wrapper,
            ["$ref", "$id"],
            |reader| reader.string_bytes(wrapper),
            |reader| {
                reader.open(wrapper)?;
                if reader.json.peek() != Some(b'"') || reader.json.name()? != "$oid" {
                    return Err(reader.error_in(wrapper, "$id is not an $oid"));
                }
                let start = reader.out.len();
                reader.object_id(Wrapper::ObjectId)?;
                let id = reader.out.split_off(start);
                reader.end_wrapper(Wrapper::ObjectId)?;
                Ok(id)
            },
        )?;
        self.push_string(&namespace)?;
        self.out.extend_from_slice(&id);
        Ok(kind::DB_POINTER)
    }

    /// `$code`, with `$scope` or without.
    fn code(&mut self, depth: usize) -> Read<u8> {
        let wrapper = Wrapper::Code;
        let start = self.out.len();
        let code = self.string_bytes(wrapper)?;
        match self.next_name()? {
            None => {
                self.push_string(&code)?;
                return Ok(kind::CODE);
            }
            Some(name) if name == "$scope" => {}
            Some(_) => return Err(self.error_in(wrapper, "the object has other keys")),
        }
        self.out.extend_from_slice(&[0; 4]);
        self.push_string(&code)?;
        if self.json.peek() != Some(b'{') {
            return Err(self.error_in(wrapper, "$scope is not a document"));
        }
        self.document(depth + 1)?;
        self.end_wrapper(wrapper)?;
        self.set_length(start, start)?;
        Ok(kind::CODE_WITH_SCOPE)
    }
}

fn parse_double(text: &str) -> Option<f64> {
    match text {
        "NaN" => return Some(f64::NAN),
        "Infinity" => return Some(f64::INFINITY),
        "-Infinity" => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let value: f64 = plain.then(|| text.parse().ok())??;
    value.is_finite().then_some(value)
}
