//! JSON that services answer, as BSON.

use bson::{Bson, Document};
use serde_json::Value;

/// Numbers become the smallest of int32, int64 and double that holds them.
pub(super) fn to_bson(value: Value) -> Bson {
    match value {
        Value::Null => Bson::Null,
        Value::Bool(flag) => Bson::Boolean(flag),
        Value::String(text) => Bson::String(text),
        Value::Array(values) => Bson::Array(values.into_iter().map(to_bson).collect()),
        Value::Object(fields) => {
            let mut document = Document::new();
            for (name, value) in fields {
                // BSON's names end at a zero.
                document.insert(name.replace('\0', ""), to_bson(value));
            }
            Bson::Document(document)
        }
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => match i32::try_from(whole) {
                Ok(small) => Bson::Int32(small),
                Err(_) => Bson::Int64(whole),
            },
            (None, Some(double)) => Bson::Double(double),
            (None, None) => Bson::String(number.to_string()),
        },
    }
}
