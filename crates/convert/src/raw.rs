//! A cursor over raw BSON, for code that looks at each element once.
//!
//! It checks that every length and terminator it depends on is right and that each value lies
//! within its document. It copies nothing and does not look inside strings: names and strings are
//! byte slices that need not be UTF-8. Nested documents are checked when they are walked in turn.

use std::fmt;
use std::iter::FusedIterator;

/// The element types of BSON, as the byte that precedes an element's name.
pub mod kind {
    /// 64-bit IEEE 754 floating point.
    pub const DOUBLE: u8 = 0x01;
    /// String.
    pub const STRING: u8 = 0x02;
    /// Embedded document.
    pub const DOCUMENT: u8 = 0x03;
    /// Array: a document whose names are the indexes.
    pub const ARRAY: u8 = 0x04;
    /// Binary data with a subtype.
    pub const BINARY: u8 = 0x05;
    /// Undefined (deprecated).
    pub const UNDEFINED: u8 = 0x06;
    /// ObjectId.
    pub const OBJECT_ID: u8 = 0x07;
    /// Boolean.
    pub const BOOL: u8 = 0x08;
    /// Milliseconds since the Unix epoch.
    pub const DATE: u8 = 0x09;
    /// Null.
    pub const NULL: u8 = 0x0A;
    /// Regular expression.
    pub const REGEX: u8 = 0x0B;
    /// Namespace and ObjectId (deprecated).
    pub const DB_POINTER: u8 = 0x0C;
    /// JavaScript code.
    pub const CODE: u8 = 0x0D;
    /// Symbol (deprecated).
    pub const SYMBOL: u8 = 0x0E;
    /// JavaScript code with its scope (deprecated).
    pub const CODE_WITH_SCOPE: u8 = 0x0F;
    /// 32-bit integer.
    pub const INT32: u8 = 0x10;
    /// Seconds and ordinal, as the replication log uses them.
    pub const TIMESTAMP: u8 = 0x11;
    /// 64-bit integer.
    pub const INT64: u8 = 0x12;
    /// 128-bit IEEE 754-2008 decimal floating point.
    pub const DECIMAL128: u8 = 0x13;
    /// Compares below every other value.
    pub const MIN_KEY: u8 = 0xFF;
    /// Compares above every other value.
    pub const MAX_KEY: u8 = 0x7F;
}

/// The subtype of binary data that repeats its length inside the value.
const BINARY_OLD: u8 = 0x02;

/// Bytes that are not BSON, or not of the type they were read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedBson {
    /// Where, in bytes from the start of the slice that was read.
    pub offset: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl MalformedBson {
    #[inline]
    pub(crate) fn new(offset: usize, what: &'static str) -> Self {
        Self { offset, what }
    }

    /// The same error seen from the bytes `outer`, of which the slice `inner` is a part.
    #[cold]
    pub(crate) fn seen_from(self, outer: &[u8], inner: &[u8]) -> Self {
        let start = (inner.as_ptr() as usize).wrapping_sub(outer.as_ptr() as usize);
        Self::new(self.offset.wrapping_add(start), self.what)
    }
}

impl fmt::Display for MalformedBson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed BSON at byte {}: {}", self.offset, self.what)
    }
}

impl std::error::Error for MalformedBson {}

/// One element of a document.
///
/// The accessors return an error if the element is of another type or the inside of its value is
/// malformed; the error's offset counts from the start of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawElement<'a> {
    /// The element type, one of [`kind`].
    pub kind: u8,
    /// The field name without its terminator; not necessarily UTF-8.
    pub name: &'a [u8],
    /// Exactly the bytes of the value.
    pub value: &'a [u8],
}

impl<'a> RawElement<'a> {
    #[inline]
    fn fixed<const N: usize>(
        &self,
        kind: u8,
        what: &'static str,
    ) -> Result<&'a [u8; N], MalformedBson> {
        match self.value.first_chunk::<N>() {
            Some(bytes) if self.kind == kind && self.value.len() == N => Ok(bytes),
            _ => Err(MalformedBson::new(0, what)),
        }
    }

    /// A double.
    #[inline]
    pub fn as_f64(&self) -> Result<f64, MalformedBson> {
        self.fixed(kind::DOUBLE, "not a double")
            .map(|b| f64::from_le_bytes(*b))
    }

    /// An int32.
    #[inline]
    pub fn as_i32(&self) -> Result<i32, MalformedBson> {
        self.fixed(kind::INT32, "not an int32")
            .map(|b| i32::from_le_bytes(*b))
    }

    /// An int64.
    #[inline]
    pub fn as_i64(&self) -> Result<i64, MalformedBson> {
        self.fixed(kind::INT64, "not an int64")
            .map(|b| i64::from_le_bytes(*b))
    }

    /// A date, in milliseconds since the Unix epoch.
    #[inline]
    pub fn as_date_millis(&self) -> Result<i64, MalformedBson> {
        self.fixed(kind::DATE, "not a date")
            .map(|b| i64::from_le_bytes(*b))
    }

    /// A boolean; any byte but 0 and 1 is an error.
    #[inline]
    pub fn as_bool(&self) -> Result<bool, MalformedBson> {
        match self.fixed(kind::BOOL, "not a boolean")? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(MalformedBson::new(0, "boolean is neither 0 nor 1")),
        }
    }

    /// The bytes of an ObjectId.
    #[inline]
    pub fn as_object_id(&self) -> Result<&'a [u8; 12], MalformedBson> {
        self.fixed(kind::OBJECT_ID, "not an objectId")
    }

    /// The bytes of a decimal128, least significant first.
    #[inline]
    pub fn as_decimal128(&self) -> Result<&'a [u8; 16], MalformedBson> {
        self.fixed(kind::DECIMAL128, "not a decimal128")
    }

    /// The seconds and the ordinal of a timestamp.
    #[inline]
    pub fn as_timestamp(&self) -> Result<(u32, u32), MalformedBson> {
        let bytes: &[u8; 8] = self.fixed(kind::TIMESTAMP, "not a timestamp")?;
        let both = u64::from_le_bytes(*bytes);
        Ok(((both >> 32) as u32, both as u32))
    }

    /// The text of a string, code or symbol, without its length and terminator.
    #[inline]
    pub fn as_string_bytes(&self) -> Result<&'a [u8], MalformedBson> {
        match (self.kind, take_string(self.value)) {
            (kind::STRING | kind::CODE | kind::SYMBOL, Some((text, []))) => Ok(text),
            _ => Err(MalformedBson::new(0, "not a string, code or symbol")),
        }
    }

    /// The bytes of a document or an array, for [`RawElements::new`].
    #[inline]
    pub fn as_document(&self) -> Result<&'a [u8], MalformedBson> {
        match self.kind {
            kind::DOCUMENT | kind::ARRAY => Ok(self.value),
            _ => Err(MalformedBson::new(0, "not a document or an array")),
        }
    }

    /// The subtype and the bytes of binary data, without the second length that subtype 2 has.
    #[inline]
    pub fn as_binary(&self) -> Result<(u8, &'a [u8]), MalformedBson> {
        let (kind::BINARY, Some((length, [subtype, bytes @ ..]))) =
            (self.kind, self.value.split_first_chunk::<4>())
        else {
            return Err(MalformedBson::new(0, "not binary data"));
        };
        if usize::try_from(i32::from_le_bytes(*length)) != Ok(bytes.len()) {
            return Err(MalformedBson::new(
                0,
                "binary length does not match its bytes",
            ));
        }
        if *subtype != BINARY_OLD {
            return Ok((*subtype, bytes));
        }
        match bytes.split_first_chunk::<4>() {
            Some((inner, rest))
                if usize::try_from(i32::from_le_bytes(*inner)) == Ok(rest.len()) =>
            {
                Ok((BINARY_OLD, rest))
            }
            _ => Err(MalformedBson::new(
                5,
                "inner length of binary subtype 2 does not match its bytes",
            )),
        }
    }

    /// The pattern and the options of a regular expression.
    #[inline]
    pub fn as_regex(&self) -> Result<(&'a [u8], &'a [u8]), MalformedBson> {
        if self.kind == kind::REGEX
            && let Some((pattern, rest)) = take_cstring(self.value)
            && let Some((options, [])) = take_cstring(rest)
        {
            return Ok((pattern, options));
        }
        Err(MalformedBson::new(0, "not a regular expression"))
    }

    /// The namespace and the ObjectId of a dbPointer.
    #[inline]
    pub fn as_db_pointer(&self) -> Result<(&'a [u8], &'a [u8; 12]), MalformedBson> {
        if self.kind == kind::DB_POINTER
            && let Some((namespace, rest)) = take_string(self.value)
            && let Some((id, [])) = rest.split_first_chunk::<12>()
        {
            return Ok((namespace, id));
        }
        Err(MalformedBson::new(0, "not a dbPointer"))
    }

    /// The text of the code and the bytes of the scope, a document.
    #[inline]
    pub fn as_code_with_scope(&self) -> Result<(&'a [u8], &'a [u8]), MalformedBson> {
        if self.kind == kind::CODE_WITH_SCOPE
            && let Some((length, rest)) = self.value.split_first_chunk::<4>()
            && usize::try_from(i32::from_le_bytes(*length)) == Ok(self.value.len())
            && let Some((code, scope)) = take_string(rest)
        {
            return Ok((code, scope));
        }
        Err(MalformedBson::new(0, "not code with scope"))
    }
}

/// Iterates over the elements of one document.
///
/// It ends after the first error.
#[derive(Clone, Debug)]
pub struct RawElements<'a> {
    /// What is left of the document, without its terminator.
    rest: &'a [u8],
    /// The length of the document without its terminator.
    body_end: usize,
}

impl<'a> RawElements<'a> {
    /// Starts on a document, which must be the whole of `doc`.
    #[inline]
    pub fn new(doc: &'a [u8]) -> Result<Self, MalformedBson> {
        let Some((length, [rest @ .., terminator])) = doc.split_first_chunk::<4>() else {
            return Err(MalformedBson::new(0, "document of less than 5 bytes"));
        };
        if usize::try_from(i32::from_le_bytes(*length)) != Ok(doc.len()) {
            return Err(MalformedBson::new(
                0,
                "document length does not match its bytes",
            ));
        }
        if *terminator != 0 {
            return Err(MalformedBson::new(
                doc.len() - 1,
                "document without terminator",
            ));
        }
        Ok(Self {
            rest,
            body_end: doc.len() - 1,
        })
    }

    /// Where the next element starts, in bytes from the start of the document.
    #[inline]
    pub fn offset(&self) -> usize {
        self.body_end - self.rest.len()
    }
}

impl<'a> Iterator for RawElements<'a> {
    type Item = Result<RawElement<'a>, MalformedBson>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (&kind, after_kind) = self.rest.split_first()?;
        let taken = take_cstring(after_kind)
            .ok_or("field name without terminator")
            .and_then(|(name, after_name)| {
                let length = value_length(kind, after_name)?;
                let (value, rest) = after_name
                    .split_at_checked(length)
                    .ok_or("value reaches beyond its document")?;
                Ok((RawElement { kind, name, value }, rest))
            });
        match taken {
            Ok((element, rest)) => {
                self.rest = rest;
                Some(Ok(element))
            }
            Err(what) => {
                let offset = self.offset();
                self.rest = &[];
                Some(Err(MalformedBson::new(offset, what)))
            }
        }
    }
}

impl FusedIterator for RawElements<'_> {}

/// The length of the value that `bytes` begin with.
#[inline]
fn value_length(kind: u8, bytes: &[u8]) -> Result<usize, &'static str> {
    const BEYOND: &str = "value reaches beyond its document";
    let declared = |minimum: i32, extra: usize| {
        let length = i32::from_le_bytes(*bytes.first_chunk::<4>().ok_or(BEYOND)?);
        if length < minimum {
            return Err("length of the value is too small");
        }
        (length as usize).checked_add(extra).ok_or(BEYOND)
    };
    let terminated = |length: usize| match bytes.get(length - 1) {
        Some(0) => Ok(length),
        Some(_) => Err("value without terminator"),
        None => Err(BEYOND),
    };
    match kind {
        kind::INT32 => Ok(4),
        kind::DOUBLE | kind::DATE | kind::TIMESTAMP | kind::INT64 => Ok(8),
        kind::STRING | kind::CODE | kind::SYMBOL => terminated(declared(1, 4)?),
        kind::DOCUMENT | kind::ARRAY => terminated(declared(5, 0)?),
        kind::OBJECT_ID => Ok(12),
        kind::BOOL => Ok(1),
        kind::NULL | kind::UNDEFINED | kind::MIN_KEY | kind::MAX_KEY => Ok(0),
        kind::BINARY => declared(0, 5),
        kind::DECIMAL128 => Ok(16),
        kind::REGEX => {
            let rest = take_cstring(bytes)
                .and_then(|(_, rest)| take_cstring(rest))
                .ok_or(BEYOND)?
                .1;
            Ok(bytes.len() - rest.len())
        }
        kind::DB_POINTER => Ok(terminated(declared(1, 4)?)?.saturating_add(12)),
        kind::CODE_WITH_SCOPE => terminated(declared(14, 0)?),
        _ => Err("unknown element type"),
    }
}

/// Splits off the bytes before the first NUL.
#[inline]
fn take_cstring(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    let (text, rest) = bytes.split_at_checked(end)?;
    Some((text, rest.get(1..)?))
}

/// Splits off the text of a length-prefixed string.
#[inline]
fn take_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(i32::from_le_bytes(*length)).ok()?;
    match rest.split_at_checked(length)? {
        ([text @ .., 0], rest) => Some((text, rest)),
        _ => None,
    }
}
