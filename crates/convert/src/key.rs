//! The identity of a document: its `_id` as sixteen bytes.
//!
//! A [`Key`] is the xxh3-128 hash of canonical bytes of the `_id`. MongoDB's unique index on `_id`
//! does not tell apart numbers that are equal, of whatever type and wherever in the value, nor a
//! string from a symbol; their canonical bytes are the same. Neither does it tell NaN from NaN, nor
//! the two zeros. All other values have different canonical bytes, except where a table cannot hold
//! the difference: the order of a regular expression's options, the names of an array's elements,
//! and what is not UTF-8 in a field name.

use arrow::array::{Array, ArrayRef, StringArray};
use tributary_model::schema::Column;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::decode::scalar::{Decimal, double_to_coefficient};
use crate::encode::{EncodeError, ValueEncoder};
use crate::extjson::{self, MAX_DEPTH};
use crate::raw::{MalformedBson, RawElement, RawElements, kind};

/// What the canonical bytes of a number begin with; the other types have their BSON type there.
mod tag {
    /// A whole number that an int64 holds.
    pub(super) const INTEGER: u8 = 0x12;
    /// Another number that a decimal128 holds: sign, digits and exponent.
    pub(super) const DECIMAL: u8 = 0x13;
    /// A double that is neither.
    pub(super) const DOUBLE: u8 = 0x01;
    pub(super) const NAN: u8 = 0xF0;
    pub(super) const INFINITY: u8 = 0xF1;
    pub(super) const NEGATIVE_INFINITY: u8 = 0xF2;
}

/// The path of the key among rescued values.
pub(crate) const KEY_PATH: &[u8] = b"/_id";

/// The most bytes of text that are hashed in one piece.
const SHORT: usize = 128;

/// A document's identity: equal for two documents whose `_id`s MongoDB holds equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub [u8; 16]);

impl Key {
    /// The key of a document whose `_id` is null, or that has none: an index on `_id` holds both
    /// as null.
    #[must_use]
    pub fn null() -> Self {
        Self::of_bytes(&[kind::NULL])
    }

    /// The key of an `_id` given as its BSON type, one of [`kind`], and exactly its bytes.
    ///
    /// # Errors
    /// The bytes are not a value of the type.
    #[inline]
    pub fn of(kind: u8, value: &[u8]) -> Result<Self, MalformedBson> {
        let element = RawElement {
            kind,
            name: b"",
            value,
        };
        Ok(match kind {
            kind::OBJECT_ID => {
                let mut bytes = [kind::OBJECT_ID; 13];
                bytes[1..].copy_from_slice(element.as_object_id()?);
                Self::of_bytes(&bytes)
            }
            kind::INT32 => Self::of_bytes(&integer(i64::from(element.as_i32()?))),
            kind::INT64 => Self::of_bytes(&integer(element.as_i64()?)),
            kind::STRING | kind::SYMBOL => Self::of_text(element.as_string_bytes()?),
            _ => {
                let mut bytes = Vec::with_capacity(64);
                write(&element, 1, &mut bytes)?;
                Self::of_bytes(&bytes)
            }
        })
    }

    /// The key of a document; see [`null`](Self::null) for one without `_id`.
    ///
    /// Of several fields of that name the first that is not null counts: it is the one that tables
    /// hold.
    ///
    /// # Errors
    /// The document is not BSON up to its `_id`, or the `_id` is not BSON.
    #[inline]
    pub fn of_document(document: &[u8]) -> Result<Self, MalformedBson> {
        for element in RawElements::new(document)? {
            let element = element?;
            if element.name == b"_id" && element.kind != kind::NULL {
                return Self::of(element.kind, element.value)
                    .map_err(|error| error.seen_from(document, element.value));
            }
        }
        Ok(Self::null())
    }

    #[inline]
    fn of_bytes(canonical: &[u8]) -> Self {
        Self(xxh3_128(canonical).to_be_bytes())
    }

    #[inline]
    fn of_text(text: &[u8]) -> Self {
        let head = text_head(kind::STRING, text);
        let mut bytes = [0; SHORT];
        let end = head.len() + text.len();
        if let Some(place) = bytes.get_mut(head.len()..end) {
            place.copy_from_slice(text);
            bytes[..head.len()].copy_from_slice(&head);
            return Self::of_bytes(&bytes[..end]);
        }
        let mut hasher = Xxh3::new();
        hasher.update(&head);
        hasher.update(text);
        Self(hasher.digest128().to_be_bytes())
    }
}

/// The keys of the rows of a table: those of the documents that were decoded into it, whatever type
/// its column `_id` has had to take.
///
/// `id` is that column, as the settled schema has it that the array was written under; there is none
/// where no document before had an `_id` but null. An `_id` that had no column is in `rescued`, the
/// rows' `_rescued_data`.
///
/// # Errors
/// The array is not of the column's type, or text that should be Extended JSON is not.
pub fn keys_of_rows(
    id: Option<(&Column, &ArrayRef)>,
    rescued: Option<&StringArray>,
    rows: usize,
) -> Result<Vec<Key>, EncodeError> {
    let encoder = id
        .map(|(column, array)| ValueEncoder::new(&column.column_type, array))
        .transpose()?;
    let mut value = Vec::new();
    let mut key = |row| {
        value.clear();
        let kind = match &encoder {
            Some(encoder) => encoder.value(row, &mut value)?,
            None => None,
        };
        match (kind, rescued) {
            (Some(kind), _) => Ok(Key::of(kind, &value)?),
            (None, Some(rescued)) if row < rescued.len() && rescued.is_valid(row) => {
                key_of_rescued(rescued.value(row))
            }
            _ => Ok(Key::null()),
        }
    };
    (0..rows).map(&mut key).collect()
}

/// The key among the rescued values of one row.
fn key_of_rescued(text: &str) -> Result<Key, EncodeError> {
    let mut key = None;
    each_rescued(text, |path, value| {
        if path == KEY_PATH && key.is_none() {
            key = Some(Key::of(value.kind, value.value)?);
        }
        Ok(())
    })?;
    Ok(key.unwrap_or_else(Key::null))
}

/// Calls `each` with the path and the value of each rescued value of a row.
pub(crate) fn each_rescued(
    text: &str,
    mut each: impl FnMut(&[u8], &RawElement<'_>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let entries = extjson::parse_value(text)?;
    if entries.kind != kind::ARRAY {
        return Err(EncodeError::new("rescued values are not a JSON array"));
    }
    for entry in RawElements::new(&entries.value)? {
        let entry = entry?;
        let (mut path, mut value) = (None, None);
        for element in RawElements::new(entry.as_document()?)? {
            let element = element?;
            match element.name {
                b"path" => path = Some(element.as_string_bytes()?),
                b"value" => value = Some(element),
                _ => {}
            }
        }
        let (Some(path), Some(value)) = (path, value) else {
            return Err(EncodeError::new("a rescued value has no path or no value"));
        };
        each(path, &value)?;
    }
    Ok(())
}

#[inline]
fn integer(value: i64) -> [u8; 9] {
    let mut bytes = [tag::INTEGER; 9];
    bytes[1..].copy_from_slice(&value.to_le_bytes());
    bytes
}

/// What stands before a text: its type and its length, so that texts in a row are told apart.
#[inline]
fn text_head(kind: u8, text: &[u8]) -> [u8; 5] {
    let mut head = [kind; 5];
    // No BSON document reaches 2 GiB.
    head[1..].copy_from_slice(&(text.len() as u32).to_le_bytes());
    head
}

fn write_text(kind: u8, text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&text_head(kind, text));
    out.extend_from_slice(text);
}

/// Appends the canonical bytes of a value; `depth` is its own level, should it be a document.
pub(crate) fn write(
    element: &RawElement<'_>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), MalformedBson> {
    match element.kind {
        kind::INT32 => out.extend_from_slice(&integer(i64::from(element.as_i32()?))),
        kind::INT64 => out.extend_from_slice(&integer(element.as_i64()?)),
        kind::DOUBLE => write_double(element.as_f64()?, out),
        kind::DECIMAL128 => write_decimal128(element.as_decimal128()?, out),
        kind::STRING | kind::SYMBOL => write_text(kind::STRING, element.as_string_bytes()?, out),
        kind::CODE => write_text(kind::CODE, element.as_string_bytes()?, out),
        kind::DOCUMENT | kind::ARRAY => {
            write_elements(element.kind, element.as_document()?, depth, out)?;
        }
        kind::BINARY => {
            let (subtype, bytes) = element.as_binary()?;
            write_text(kind::BINARY, bytes, out);
            out.push(subtype);
        }
        // As the decoder takes it.
        kind::BOOL => out.extend_from_slice(&[kind::BOOL, u8::from(element.value == [1])]),
        kind::REGEX => {
            let (pattern, options) = element.as_regex()?;
            let mut options = options.to_vec();
            options.sort_unstable();
            write_text(kind::REGEX, pattern, out);
            write_text(kind::REGEX, &options, out);
        }
        kind::DB_POINTER => {
            let (namespace, id) = element.as_db_pointer()?;
            write_text(kind::DB_POINTER, namespace, out);
            out.extend_from_slice(id);
        }
        kind::CODE_WITH_SCOPE => {
            let (code, scope) = element.as_code_with_scope()?;
            write_text(kind::CODE_WITH_SCOPE, code, out);
            write_elements(kind::DOCUMENT, scope, depth + 1, out)?;
        }
        kind::OBJECT_ID => {
            let id = element.as_object_id()?;
            out.push(kind::OBJECT_ID);
            out.extend_from_slice(id);
        }
        kind::DATE | kind::TIMESTAMP if element.value.len() == 8 => {
            out.push(element.kind);
            out.extend_from_slice(element.value);
        }
        kind::NULL | kind::UNDEFINED | kind::MIN_KEY | kind::MAX_KEY
            if element.value.is_empty() =>
        {
            out.push(element.kind);
        }
        _ => return Err(MalformedBson::new(0, "not a BSON value")),
    }
    Ok(())
}

fn write_elements(
    kind: u8,
    document: &[u8],
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), MalformedBson> {
    if depth > MAX_DEPTH {
        return Err(MalformedBson::new(0, "nested too deeply"));
    }
    out.push(kind);
    for element in RawElements::new(document)? {
        let element = element?;
        if kind == kind::DOCUMENT {
            let name = String::from_utf8_lossy(element.name);
            write_text(kind::DOCUMENT, name.as_bytes(), out);
        }
        write(&element, depth + 1, out).map_err(|e| e.seen_from(document, element.value))?;
    }
    // Neither a name nor a value begins with zero.
    out.push(0);
    Ok(())
}

fn write_double(value: f64, out: &mut Vec<u8>) {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if value.is_nan() {
        out.push(tag::NAN);
    } else if value.is_infinite() {
        write_infinity(value < 0.0, out);
    } else if value.trunc() == value && (-LIMIT..LIMIT).contains(&value) {
        out.extend_from_slice(&integer(value as i64));
    } else if let Some((coefficient, exponent)) = double_to_coefficient(value) {
        write_digits(value < 0.0, coefficient, exponent, out);
    } else {
        out.push(tag::DOUBLE);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn write_decimal128(bytes: &[u8; 16], out: &mut Vec<u8>) {
    let Some(decimal) = Decimal::decode(*bytes) else {
        // The five bits behind the sign: all but the last are set for an infinity, all for NaN.
        if bytes[15] & 0x7C == 0x7C {
            out.push(tag::NAN);
        } else {
            write_infinity(bytes[15] & 0x80 != 0, out);
        }
        return;
    };
    let (mut coefficient, mut exponent) = (decimal.coefficient, decimal.exponent);
    if coefficient == 0 {
        return out.extend_from_slice(&integer(0));
    }
    while coefficient.is_multiple_of(10) {
        coefficient /= 10;
        exponent += 1;
    }
    match whole(decimal.negative, coefficient, exponent) {
        Some(value) => out.extend_from_slice(&integer(value)),
        None => write_digits(decimal.negative, coefficient, exponent, out),
    }
}

/// The number as an int64, if it is one.
fn whole(negative: bool, coefficient: u128, exponent: i32) -> Option<i64> {
    let power = 10u128.checked_pow(u32::try_from(exponent).ok()?)?;
    let value = i128::try_from(coefficient.checked_mul(power)?).ok()?;
    i64::try_from(if negative { -value } else { value }).ok()
}

/// Writes a number whose last digit is not zero.
fn write_digits(negative: bool, coefficient: u128, exponent: i32, out: &mut Vec<u8>) {
    out.extend_from_slice(&[tag::DECIMAL, u8::from(negative)]);
    out.extend_from_slice(&coefficient.to_le_bytes());
    out.extend_from_slice(&exponent.to_le_bytes());
}

fn write_infinity(negative: bool, out: &mut Vec<u8>) {
    out.push(if negative {
        tag::NEGATIVE_INFINITY
    } else {
        tag::INFINITY
    });
}
