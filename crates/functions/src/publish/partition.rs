//! Which records keep their order: those with the same partition key.

use bson::{RawBsonRef, RawDocument};
use tributary_convert::extjson::{Mode, write_document};
use tributary_flow::RawEvent;
use tributary_model::{Error, ErrorKind, Result};

/// The longest partition key, in characters.
const LONGEST: usize = 256;

/// The field of events whose value is the partition key.
#[derive(Debug, Clone)]
pub(super) struct KeyField(Vec<String>);

impl Default for KeyField {
    fn default() -> Self {
        Self(["documentKey", "_id"].map(str::to_owned).to_vec())
    }
}

impl KeyField {
    /// A path such as `fullDocument.customer`.
    ///
    /// # Errors
    /// `Usage`: it is none.
    pub(super) fn parse(path: &str) -> Result<Self> {
        let parts: Vec<String> = path.split('.').map(str::to_owned).collect();
        match parts.iter().any(String::is_empty) {
            false => Ok(Self(parts)),
            true => Err(
                Error::new(ErrorKind::Usage, "the partition key is no path of a field")
                    .on("path", path)
                    .remedy("write it as documentKey._id or fullDocument.customer"),
            ),
        }
    }

    /// The partition key of an event: the value of the field; where there is none, the document's `_id`; and
    /// of what is about no document, the name of the collection.
    pub(super) fn of(&self, event: &RawEvent) -> String {
        let document = RawDocument::from_bytes(&event.document).ok();
        let found = document.and_then(|document| {
            text_at(document, &self.0).or_else(|| text_at(document, &Self::default().0))
        });
        shortened(found.unwrap_or_else(|| event.namespace().to_string()))
    }
}

/// What is at a path, as text.
fn text_at(document: &RawDocument, path: &[String]) -> Option<String> {
    let (first, rest) = path.split_first()?;
    let value = document.get(first).ok().flatten()?;
    if rest.is_empty() {
        return Some(text_of(value));
    }
    text_at(value.as_document()?, rest)
}

/// A string or an ObjectId as it is, and anything else as canonical Extended JSON.
fn text_of(value: RawBsonRef<'_>) -> String {
    match value {
        RawBsonRef::String(text) if !text.is_empty() => return text.to_owned(),
        RawBsonRef::ObjectId(id) => return id.to_hex(),
        _ => {}
    }
    let canonical = || {
        let mut document = bson::RawDocumentBuf::new();
        document.append(bson::cstr!("v"), value);
        let mut json = Vec::new();
        write_document(&mut json, document.as_bytes(), Mode::Canonical).ok()?;
        let json = String::from_utf8(json).ok()?;
        Some(json.strip_prefix("{\"v\":")?.strip_suffix('}')?.to_owned())
    };
    // What is of a document can be written.
    canonical().unwrap_or_else(|| format!("{value:?}"))
}

/// Itself, or where it is too long its hash.
fn shortened(key: String) -> String {
    if key.chars().nth(LONGEST).is_none() {
        return key;
    }
    let hash = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    hex::encode(hash)
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;
    use bson::{Bson, Document, doc};
    use tributary_model::ClusterTime;

    use super::*;

    fn event(document: &Document) -> RawEvent {
        RawEvent {
            token: "82".to_owned(),
            cluster_time: ClusterTime::new(1, 1),
            wall_time: 0,
            operation: "insert".to_owned(),
            database: "shop".to_owned(),
            collection: Some("orders".to_owned()),
            document: bson::serialize_to_vec(document).unwrap().into(),
            is_reduced: false,
        }
    }

    fn key_of(id: impl Into<Bson>) -> String {
        let event = event(&doc! { "documentKey": { "region": "eu", "_id": id.into() } });
        KeyField::default().of(&event)
    }

    #[test]
    fn keys_of_different_types_differ() {
        let id = ObjectId::parse_str("65a1b2c3d4e5f60718293a4b").unwrap();
        assert_eq!(key_of(id), "65a1b2c3d4e5f60718293a4b");
        assert_eq!(key_of("five"), "five");
        assert_eq!(key_of(5), r#"{"$numberInt":"5"}"#);
        assert_eq!(key_of(5_i64), r#"{"$numberLong":"5"}"#);
        assert_eq!(
            key_of(doc! { "a": 1, "b": "x" }),
            r#"{"a":{"$numberInt":"1"},"b":"x"}"#
        );
        assert_eq!(key_of(Bson::Null), "null");
        // Kinesis takes no empty one.
        assert_eq!(key_of(""), r#""""#);
    }

    #[test]
    fn a_long_key_becomes_its_hash() {
        assert_eq!(key_of("ä".repeat(256)), "ä".repeat(256));
        let hashed = key_of("ä".repeat(257));
        assert_eq!(hashed.len(), 64);
        assert_ne!(hashed, key_of("ä".repeat(258)));
    }

    #[test]
    fn a_field_that_is_missing_gives_way_to_the_id_and_that_to_the_collection() {
        let field = KeyField::parse("fullDocument.customer.id").unwrap();
        let with = |customer: Bson| {
            let id = doc! { "_id": "o1" };
            event(&doc! { "documentKey": id, "fullDocument": { "customer": customer } })
        };
        assert_eq!(field.of(&with(doc! { "id": "c7" }.into())), "c7");
        assert_eq!(field.of(&with(7.into())), "o1");
        assert_eq!(
            field.of(&event(&doc! { "operationType": "drop" })),
            "shop.orders"
        );
        assert!(KeyField::parse("fullDocument..id").is_err());
        assert!(KeyField::parse("").is_err());
    }
}
