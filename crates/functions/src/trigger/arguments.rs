//! What functions of triggers are called with, and what is to be known of an event, as raw BSON.

use std::hash::{DefaultHasher, Hasher};

use bson::RawBsonRef;
use bson::raw::RawDocument;
use bytes::{BufMut, Bytes, BytesMut};

/// The type of an embedded document, from the BSON specification.
const DOCUMENT: u8 = 0x03;
/// The type of an array.
const ARRAY: u8 = 0x04;

/// `{ v: [event] }`.
pub(super) fn of_event(event: &[u8]) -> Bytes {
    // Length, one element with its name, and the end.
    let array = 4 + 3 + event.len() + 1;
    let whole = 4 + 3 + array + 1;
    let mut bytes = BytesMut::with_capacity(whole);
    put_length(&mut bytes, whole);
    bytes.put_u8(ARRAY);
    bytes.put_slice(b"v\0");
    put_length(&mut bytes, array);
    bytes.put_u8(DOCUMENT);
    bytes.put_slice(b"0\0");
    bytes.put_slice(event);
    bytes.put_u8(0);
    bytes.put_u8(0);
    bytes.freeze()
}

/// `{ v: [] }`.
pub(super) fn none() -> Bytes {
    let mut bytes = BytesMut::with_capacity(13);
    put_length(&mut bytes, 13);
    bytes.put_u8(ARRAY);
    bytes.put_slice(b"v\0");
    put_length(&mut bytes, 5);
    bytes.put_u8(0);
    bytes.put_u8(0);
    bytes.freeze()
}

fn put_length(bytes: &mut BytesMut, length: usize) {
    // An event is 16 MB at most, as is every document of a server.
    bytes.put_i32_le(i32::try_from(length).unwrap_or(i32::MAX));
}

/// The hash of the `_id` in an event's `documentKey`; none where the event is of no document.
pub(super) fn key_of_event(event: &[u8]) -> Option<u64> {
    let event = RawDocument::from_bytes(event).ok()?;
    let key = event.get_document("documentKey").ok()?;
    key.get("_id").ok()?.map(hash_of)
}

/// The hash of a key: values that are the same have the same.
pub(super) fn hash_of(value: RawBsonRef<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut document = bson::RawDocumentBuf::new();
    let name = bson::raw::cstr!("k");
    // Numbers of one value are one key to the server. Two large ones may share a hash, as any two keys may.
    match value {
        RawBsonRef::Int32(number) => document.append(name, f64::from(number)),
        #[allow(clippy::cast_precision_loss)]
        RawBsonRef::Int64(number) => document.append(name, number as f64),
        value => document.append(name, bson::RawBson::from(value)),
    }
    hasher.write(document.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use bson::{doc, oid::ObjectId, rawdoc};

    use super::*;

    #[test]
    fn an_event_is_the_one_argument() {
        let event = rawdoc! { "operationType": "insert", "n": 1 };
        let arguments = of_event(event.as_bytes());
        let read = bson::deserialize_from_slice::<bson::Document>(&arguments).unwrap();
        assert_eq!(read, doc! { "v": [{ "operationType": "insert", "n": 1 }] });
        let read = bson::deserialize_from_slice::<bson::Document>(&none()).unwrap();
        assert_eq!(read, doc! { "v": [] });
    }

    #[test]
    fn keys_are_known_by_their_values() {
        let id = ObjectId::new();
        let key = |document: bson::RawDocumentBuf| key_of_event(document.as_bytes());
        let event = rawdoc! { "documentKey": { "shard": 5, "_id": id } };
        let same = rawdoc! { "documentKey": { "_id": id } };
        assert_eq!(key(event), key(same));
        let one = key(rawdoc! { "documentKey": { "_id": 1 } });
        assert_eq!(one, key(rawdoc! { "documentKey": { "_id": 1.0 } }));
        assert_eq!(one, key(rawdoc! { "documentKey": { "_id": 1_i64 } }));
        assert_ne!(one, key(rawdoc! { "documentKey": { "_id": "1" } }));
        assert_eq!(key(rawdoc! { "operationType": "drop" }), None);
    }
}
