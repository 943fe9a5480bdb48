//! BSON written by hand, because the bson crate rightly refuses to make some of what a server may hold: DBPointers,
//! strings that are not UTF-8, two fields of one name.
//!
//! The layout is that of <https://bsonspec.org/spec.html>.

use bson::{Decimal128, RawDocumentBuf, oid::ObjectId};

/// A value: the byte that tells its type, and its bytes.
#[derive(Clone)]
pub(super) struct Value(u8, Vec<u8>);

pub(super) const NULL: Value = Value(0x0a, Vec::new());
pub(super) const UNDEFINED: Value = Value(0x06, Vec::new());
pub(super) const MIN_KEY: Value = Value(0xff, Vec::new());
pub(super) const MAX_KEY: Value = Value(0x7f, Vec::new());

pub(super) fn double(value: f64) -> Value {
    Value(0x01, value.to_le_bytes().to_vec())
}

pub(super) fn string(text: impl AsRef<[u8]>) -> Value {
    Value(0x02, length_prefixed(text.as_ref()))
}

pub(super) fn document(fields: &[(&str, Value)]) -> Value {
    let mut elements = Elements::new();
    for (name, value) in fields {
        elements.push(name, value);
    }
    Value(0x03, elements.close())
}

pub(super) fn array(values: &[Value]) -> Value {
    let mut elements = Elements::new();
    for (position, value) in values.iter().enumerate() {
        elements.push(&position.to_string(), value);
    }
    Value(0x04, elements.close())
}

pub(super) fn binary(subtype: u8, payload: &[u8]) -> Value {
    const OLD: u8 = 2;
    let inner = if subtype == OLD {
        [&length(payload.len()), payload].concat()
    } else {
        payload.to_vec()
    };
    Value(
        0x05,
        [length(inner.len()).as_slice(), &[subtype], &inner].concat(),
    )
}

pub(super) fn object_id(value: ObjectId) -> Value {
    Value(0x07, value.bytes().to_vec())
}

pub(super) fn bool(value: bool) -> Value {
    Value(0x08, vec![u8::from(value)])
}

pub(super) fn date(milliseconds: i64) -> Value {
    Value(0x09, milliseconds.to_le_bytes().to_vec())
}

pub(super) fn regex(pattern: &str, options: &str) -> Value {
    Value(
        0x0b,
        [pattern.as_bytes(), &[0], options.as_bytes(), &[0]].concat(),
    )
}

pub(super) fn db_pointer(namespace: &str, id: ObjectId) -> Value {
    Value(
        0x0c,
        [
            length_prefixed(namespace.as_bytes()).as_slice(),
            &id.bytes(),
        ]
        .concat(),
    )
}

pub(super) fn code(source: &str) -> Value {
    Value(0x0d, length_prefixed(source.as_bytes()))
}

pub(super) fn symbol(text: &str) -> Value {
    Value(0x0e, length_prefixed(text.as_bytes()))
}

pub(super) fn code_with_scope(source: &str, scope: &[(&str, Value)]) -> Value {
    let Value(_, scope) = document(scope);
    let body = [length_prefixed(source.as_bytes()), scope].concat();
    Value(0x0f, [length(body.len() + 4).as_slice(), &body].concat())
}

pub(super) fn int32(value: i32) -> Value {
    Value(0x10, value.to_le_bytes().to_vec())
}

pub(super) fn timestamp(seconds: u32, increment: u32) -> Value {
    Value(
        0x11,
        [increment.to_le_bytes(), seconds.to_le_bytes()].concat(),
    )
}

pub(super) fn int64(value: i64) -> Value {
    Value(0x12, value.to_le_bytes().to_vec())
}

pub(super) fn decimal(value: Decimal128) -> Value {
    Value(0x13, value.bytes().to_vec())
}

fn length(bytes: usize) -> [u8; 4] {
    (bytes as u32).to_le_bytes()
}

fn length_prefixed(text: &[u8]) -> Vec<u8> {
    [&length(text.len() + 1), text, &[0]].concat()
}

/// The elements of a document, in the order in which they are pushed.
pub(super) struct Elements(Vec<u8>);

impl Elements {
    pub(super) fn new() -> Self {
        Self(vec![0; 4])
    }

    /// Appends a field, whether or not there is one of that name. Names hold no NUL.
    pub(super) fn push(&mut self, name: &str, Value(element_type, bytes): &Value) {
        self.0.push(*element_type);
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(0);
        self.0.extend_from_slice(bytes);
    }

    fn close(mut self) -> Vec<u8> {
        self.0.push(0);
        let total = length(self.0.len());
        self.0[..4].copy_from_slice(&total);
        self.0
    }

    pub(super) fn finish(self) -> RawDocumentBuf {
        // Only the length and the last byte are checked, and `close` has just written both.
        #[allow(clippy::expect_used)]
        RawDocumentBuf::from_bytes(self.close()).expect("the document ends where its length says")
    }
}
