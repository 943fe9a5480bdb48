//! Results as raw BSON.

use bytes::Bytes;
use mongodb::bson::raw::BindRawBsonRef;
use mongodb::bson::{RawBson, RawBsonRef, RawDocument, RawDocumentBuf, cstr};

/// The answer whose result this is.
pub(super) fn of(result: impl BindRawBsonRef) -> Bytes {
    let mut answer = RawDocumentBuf::new();
    answer.append(cstr!("v"), result);
    answer.into_bytes().into()
}

/// The answer of what has no result.
pub(super) fn null() -> Bytes {
    of(RawBsonRef::Null)
}

/// The answer that is a document, if there is one.
pub(super) fn document(found: Option<&RawDocument>) -> Bytes {
    of(found.map_or(RawBsonRef::Null, RawBsonRef::Document))
}

/// A count as the smallest whole number that it fits into.
pub(super) fn count(count: u64) -> RawBson {
    match i32::try_from(count) {
        Ok(count) => RawBson::Int32(count),
        Err(_) => RawBson::Int64(i64::try_from(count).unwrap_or(i64::MAX)),
    }
}
