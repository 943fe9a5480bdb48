//! Events of change streams that have become too large for where they go.

use crate::raw::{MalformedBson, RawElements, kind};

/// What an event can do without, the most easily missed first: with its key, its operation and its
/// time it still says which document has changed.
pub const DISPENSABLE: [&str; 3] = [
    "fullDocumentBeforeChange",
    "updateDescription",
    "fullDocument",
];

/// The field in which an event says what was left out of it: `{ leftOut: [NAME, …] }`.
pub const MARK: &str = "_tributary";

/// The event without the fields of these names, and with a [`MARK`] that names all of them, whether they
/// had been there or not.
///
/// # Errors
/// `event` is not BSON.
pub fn without(event: &[u8], names: &[&str]) -> Result<Vec<u8>, MalformedBson> {
    let mut list = Document::begin();
    for (at, name) in names.iter().enumerate() {
        let mut text = Vec::with_capacity(name.len() + 5);
        text.extend_from_slice(&length(name.len() + 1));
        text.extend_from_slice(name.as_bytes());
        text.push(0);
        list.push(kind::STRING, at.to_string().as_bytes(), &text);
    }
    let mut mark = Document::begin();
    mark.push(kind::ARRAY, b"leftOut", &list.end());
    let mut lighter = Document::begin();
    for element in RawElements::new(event)? {
        let element = element?;
        if !names.iter().any(|name| name.as_bytes() == element.name) {
            lighter.push(element.kind, element.name, element.value);
        }
    }
    lighter.push(kind::DOCUMENT, MARK.as_bytes(), &mark.end());
    Ok(lighter.end())
}

/// Which of the [`DISPENSABLE`] fields an event does not have.
///
/// # Errors
/// `event` is not BSON.
pub fn lacking(event: &[u8]) -> Result<Vec<&'static str>, MalformedBson> {
    let mut lacking = DISPENSABLE.to_vec();
    for element in RawElements::new(event)? {
        let element = element?;
        lacking.retain(|name| name.as_bytes() != element.name);
    }
    Ok(lacking)
}

/// The bytes of a document that is being written.
struct Document(Vec<u8>);

impl Document {
    fn begin() -> Self {
        Self(vec![0; 4])
    }

    fn push(&mut self, kind: u8, name: &[u8], value: &[u8]) {
        self.0.push(kind);
        self.0.extend_from_slice(name);
        self.0.push(0);
        self.0.extend_from_slice(value);
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push(0);
        let length = length(self.0.len());
        for (byte, of_length) in self.0.iter_mut().zip(length) {
            *byte = of_length;
        }
        self.0
    }
}

/// A length as BSON has it. What is written here is part of a document, which is no longer than that.
fn length(bytes: usize) -> [u8; 4] {
    i32::try_from(bytes).unwrap_or(i32::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use bson::{Document, doc};

    use super::{DISPENSABLE, lacking, without};

    fn read(bytes: &[u8]) -> Document {
        bson::deserialize_from_slice(bytes).unwrap()
    }

    #[test]
    fn an_event_says_what_was_left_out_of_it() {
        let event = doc! {
            "_id": { "_data": "82" }, "operationType": "update",
            "fullDocument": { "_id": 1, "text": "long" }, "updateDescription": { "updatedFields": {} },
        };
        let bytes = bson::serialize_to_vec(&event).unwrap();
        assert_eq!(lacking(&bytes).unwrap(), ["fullDocumentBeforeChange"]);
        let lighter = without(&bytes, &DISPENSABLE).unwrap();
        assert_eq!(
            read(&lighter),
            doc! {
                "_id": { "_data": "82" }, "operationType": "update",
                "_tributary": { "leftOut": DISPENSABLE.to_vec() },
            }
        );
        assert_eq!(lacking(&lighter).unwrap(), DISPENSABLE);
    }

    #[test]
    fn nothing_left_out_is_marked_as_such() {
        let bytes = bson::serialize_to_vec(&doc! { "a": 1 }).unwrap();
        let marked = without(&bytes, &[]).unwrap();
        assert_eq!(
            read(&marked),
            doc! { "a": 1, "_tributary": { "leftOut": [] } }
        );
        assert!(without(&bytes[1..], &[]).is_err());
    }
}
