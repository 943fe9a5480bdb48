//! From BSON bytes to JSON text.

use super::text::{push_base64, push_hex, push_name, push_quoted, push_string, sorted_options};
use super::{MAX_DEPTH, date, decimal};
use crate::raw::{MalformedBson, RawElement, RawElements, kind};

/// Which of the two forms of Extended JSON to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every type can be told from every other.
    Canonical,
    /// Numbers and dates are easy to read; the width of an integer is lost.
    ///
    /// Dates from 1970 to 9999 are ISO 8601 in UTC, with milliseconds if they are not zero. A
    /// double keeps a decimal point or an exponent, so that it stays a double.
    Relaxed,
}

/// Appends a document, which must be the whole of `doc`, as one JSON object.
///
/// On error, `out` is as it was before; the offset counts from the start of `doc`.
pub fn write_document(out: &mut Vec<u8>, doc: &[u8], mode: Mode) -> Result<(), MalformedBson> {
    let start = out.len();
    Writer { out, mode }
        .document(doc, 1)
        .inspect_err(|_| out.truncate(start))
}

/// Appends the value of an element, without its name, as one JSON value.
///
/// On error, `out` is as it was before; the offset counts from the start of the value.
pub fn write_value(
    out: &mut Vec<u8>,
    element: &RawElement<'_>,
    mode: Mode,
) -> Result<(), MalformedBson> {
    let start = out.len();
    Writer { out, mode }
        .value(element, 1)
        .inspect_err(|_| out.truncate(start))
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
    mode: Mode,
}

impl Writer<'_> {
    fn document(&mut self, doc: &[u8], depth: usize) -> Result<(), MalformedBson> {
        self.elements(doc, depth, b'{', b'}')
    }

    fn array(&mut self, doc: &[u8], depth: usize) -> Result<(), MalformedBson> {
        self.elements(doc, depth, b'[', b']')
    }

    fn elements(
        &mut self,
        doc: &[u8],
        depth: usize,
        open: u8,
        close: u8,
    ) -> Result<(), MalformedBson> {
        if depth > MAX_DEPTH {
            return Err(MalformedBson::new(0, "nested too deeply"));
        }
        self.out.push(open);
        let mut first = true;
        for element in RawElements::new(doc)? {
            let element = element?;
            if !first {
                self.out.push(b',');
            }
            first = false;
            if open == b'{' {
                push_name(self.out, element.name);
                self.out.push(b':');
            }
            self.value(&element, depth + 1)
                .map_err(|error| error.seen_from(doc, element.value))?;
        }
        self.out.push(close);
        Ok(())
    }

    /// Writes a value; `depth` is its own level, should it be a document.
    fn value(&mut self, element: &RawElement<'_>, depth: usize) -> Result<(), MalformedBson> {
        let canonical = self.mode == Mode::Canonical;
        match element.kind {
            kind::STRING => push_string(self.out, element.as_string_bytes()?),
            kind::DOCUMENT => self.document(element.as_document()?, depth)?,
            kind::ARRAY => self.array(element.as_document()?, depth)?,
            kind::INT32 if canonical => {
                self.wrapped(b"{\"$numberInt\":\"", element.as_i32()?, b"\"}");
            }
            kind::INT32 => self.integer(element.as_i32()?),
            kind::INT64 if canonical => {
                self.wrapped(b"{\"$numberLong\":\"", element.as_i64()?, b"\"}");
            }
            kind::INT64 => self.integer(element.as_i64()?),
            kind::DOUBLE => self.double(element.as_f64()?),
            kind::BOOL if element.as_bool()? => self.literal(b"true"),
            kind::BOOL => self.literal(b"false"),
            kind::NULL => self.literal(b"null"),
            kind::OBJECT_ID => self.object_id(element.as_object_id()?),
            kind::DATE => self.date(element.as_date_millis()?),
            kind::DECIMAL128 => {
                self.literal(b"{\"$numberDecimal\":\"");
                decimal::push(self.out, element.as_decimal128()?);
                self.literal(b"\"}");
            }
            kind::BINARY => {
                let (subtype, bytes) = element.as_binary()?;
                self.literal(b"{\"$binary\":{\"base64\":\"");
                push_base64(self.out, bytes);
                self.literal(b"\",\"subType\":\"");
                push_hex(self.out, &[subtype]);
                self.literal(b"\"}}");
            }
            kind::TIMESTAMP => {
                let (time, increment) = element.as_timestamp()?;
                self.wrapped(b"{\"$timestamp\":{\"t\":", time, b",\"i\":");
                self.wrapped(b"", increment, b"}}");
            }
            kind::REGEX => {
                let (pattern, options) = element.as_regex()?;
                self.literal(b"{\"$regularExpression\":{\"pattern\":");
                push_string(self.out, pattern);
                self.literal(b",\"options\":");
                match sorted_options(options) {
                    Some(sorted) => push_quoted(self.out, &sorted),
                    None => push_string(self.out, options),
                }
                self.literal(b"}}");
            }
            kind::CODE => self.wrapped_text(b"{\"$code\":", element.as_string_bytes()?),
            kind::SYMBOL => self.wrapped_text(b"{\"$symbol\":", element.as_string_bytes()?),
            kind::CODE_WITH_SCOPE => {
                let (code, scope) = element.as_code_with_scope()?;
                self.literal(b"{\"$code\":");
                push_string(self.out, code);
                self.literal(b",\"$scope\":");
                self.document(scope, depth + 1)
                    .map_err(|error| error.seen_from(element.value, scope))?;
                self.literal(b"}");
            }
            kind::DB_POINTER => {
                let (namespace, id) = element.as_db_pointer()?;
                self.literal(b"{\"$dbPointer\":{\"$ref\":");
                push_string(self.out, namespace);
                self.literal(b",\"$id\":");
                self.object_id(id);
                self.literal(b"}}");
            }
            kind::UNDEFINED => self.literal(b"{\"$undefined\":true}"),
            kind::MIN_KEY => self.literal(b"{\"$minKey\":1}"),
            kind::MAX_KEY => self.literal(b"{\"$maxKey\":1}"),
            _ => return Err(MalformedBson::new(0, "unknown element type")),
        }
        Ok(())
    }

    #[inline]
    fn literal(&mut self, text: &[u8]) {
        self.out.extend_from_slice(text);
    }

    #[inline]
    fn integer(&mut self, value: impl itoa::Integer) {
        self.literal(itoa::Buffer::new().format(value).as_bytes());
    }

    #[inline]
    fn wrapped(&mut self, before: &[u8], value: impl itoa::Integer, after: &[u8]) {
        self.literal(before);
        self.integer(value);
        self.literal(after);
    }

    fn wrapped_text(&mut self, before: &[u8], text: &[u8]) {
        self.literal(before);
        push_string(self.out, text);
        self.literal(b"}");
    }

    fn object_id(&mut self, id: &[u8; 12]) {
        self.literal(b"{\"$oid\":\"");
        push_hex(self.out, id);
        self.literal(b"\"}");
    }

    fn double(&mut self, value: f64) {
        if value.is_finite() {
            let mut buffer = zmij::Buffer::new();
            let text = buffer.format_finite(value).as_bytes();
            if self.mode == Mode::Relaxed {
                return self.literal(text);
            }
            self.literal(b"{\"$numberDouble\":\"");
            self.literal(text);
            self.literal(b"\"}");
        } else if value.is_nan() {
            self.literal(b"{\"$numberDouble\":\"NaN\"}");
        } else if value > 0.0 {
            self.literal(b"{\"$numberDouble\":\"Infinity\"}");
        } else {
            self.literal(b"{\"$numberDouble\":\"-Infinity\"}");
        }
    }

    fn date(&mut self, millis: i64) {
        if self.mode == Mode::Relaxed && (0..=date::MAX_MILLIS).contains(&millis) {
            self.literal(b"{\"$date\":\"");
            date::push(self.out, millis);
            self.literal(b"\"}");
        } else {
            self.wrapped(b"{\"$date\":{\"$numberLong\":\"", millis, b"\"}}");
        }
    }
}
