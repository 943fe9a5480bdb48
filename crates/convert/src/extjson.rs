//! MongoDB Extended JSON (v2), as its
//! [specification](https://github.com/mongodb/specifications/blob/master/source/extended-json/extended-json.md)
//! describes it, between JSON text and BSON bytes without a tree of values in between.
//!
//! [`write_document`] followed by [`parse_document`] in canonical mode gives back the same bytes,
//! with these exceptions, which the format has no room for:
//!
//! - NaN loses its sign and payload, and a decimal128 that is not in canonical encoding gets it;
//! - the options of a regular expression are sorted;
//! - the elements of an array are named by their index;
//! - a field name that is not UTF-8 is written with U+FFFD in place of what is invalid;
//! - a document that has the form of a type wrapper is written as it is, so `{"$date": 5}` is not
//!   told from a date when it is read. Reading it gives the type it looks like, or an error.
//!
//! A string that is not UTF-8 is written as `{"$invalidUTF8": "<base64 of its bytes>"}`, an
//! extension of our own that is also read; it may take the place of any string of a value,
//! such as the pattern of a regular expression.

mod date;
mod decimal;
mod json;
mod read;
mod text;
mod wrapper;
mod write;

pub use json::ExtJsonError;
pub use read::{ParsedValue, parse_document, parse_value};
pub use write::{Mode, write_document, write_value};

/// How deep documents and arrays may nest, the outermost counting as 1; more is an error.
///
/// MongoDB itself allows 100 levels in what it stores and up to 200 in what it passes on.
pub const MAX_DEPTH: usize = 250;

/// The key of the wrapper for strings that are not UTF-8.
const INVALID_UTF8: &str = "$invalidUTF8";

/// Whether a document whose first field has this name may be taken for another type when it is read
/// back from text.
pub(crate) fn is_wrapper_key(name: &[u8]) -> bool {
    name.first() == Some(&b'$')
        && std::str::from_utf8(name).is_ok_and(|name| wrapper::Wrapper::of(name).is_some())
}
