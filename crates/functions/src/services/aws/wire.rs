//! Arguments and results between BSON and the JSON of Amazon's services.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document};
use serde_json::{Map, Number, Value};

use super::AwsError;
use crate::services::{arguments, json};

/// Arguments as they go over the wire. `blobs` are the members that hold bytes: a string given there is the bytes
/// of its text.
///
/// What is null is left out, as the services take it for a value.
pub(super) fn to_json(args: &Document, blobs: &[&str]) -> Result<Value, AwsError> {
    let mut fields = Map::new();
    for (name, value) in args {
        if let Some(value) = member(name, value, blobs)? {
            fields.insert(name.clone(), value);
        }
    }
    Ok(Value::Object(fields))
}

fn member(name: &str, value: &Bson, blobs: &[&str]) -> Result<Option<Value>, AwsError> {
    Ok(Some(match value {
        Bson::Null | Bson::Undefined => return Ok(None),
        Bson::String(text) if blobs.contains(&name) => Value::String(STANDARD.encode(text)),
        Bson::Binary(binary) => Value::String(STANDARD.encode(&binary.bytes)),
        Bson::String(text) => Value::String(text.clone()),
        Bson::Boolean(flag) => Value::Bool(*flag),
        Bson::Int32(number) => Value::from(*number),
        Bson::Int64(number) => Value::from(*number),
        Bson::Double(number) => double(*number).ok_or_else(|| {
            AwsError::of_parameter(format!("`{name}` is a number that JSON does not have"))
        })?,
        Bson::DateTime(moment) => {
            let millis = moment.timestamp_millis();
            match millis % 1000 {
                0 => Value::from(millis / 1000),
                _ => Value::from(millis as f64 / 1000.0),
            }
        }
        Bson::Document(document) => to_json(document, blobs)?,
        Bson::Array(values) => {
            let values = values.iter().map(|value| member(name, value, blobs));
            Value::Array(
                values
                    .filter_map(Result::transpose)
                    .collect::<Result<_, _>>()?,
            )
        }
        other => match arguments::plain(other) {
            Some(text) => Value::String(text),
            None => {
                return Err(AwsError::of_parameter(format!(
                    "`{name}` has a value of a type that AWS does not know"
                )));
            }
        },
    }))
}

/// A whole number without a point: members that are integers refuse one.
fn double(number: f64) -> Option<Value> {
    match arguments::whole_of(number) {
        Some(whole) => Some(Value::from(whole)),
        None => Number::from_f64(number).map(Value::Number),
    }
}

/// Results as functions see them: the members `blobs` as binary, `times` as dates.
pub(super) fn to_bson(value: Value, blobs: &[&str], times: &[&str]) -> Bson {
    named("", value, blobs, times)
}

fn named(name: &str, value: Value, blobs: &[&str], times: &[&str]) -> Bson {
    match value {
        Value::Object(fields) => {
            let mut document = Document::new();
            for (name, value) in fields {
                let value = named(&name, value, blobs, times);
                document.insert(name.replace('\0', ""), value);
            }
            Bson::Document(document)
        }
        Value::Array(values) => {
            let values = values.into_iter();
            Bson::Array(
                values
                    .map(|value| named(name, value, blobs, times))
                    .collect(),
            )
        }
        Value::String(text) if blobs.contains(&name) => match STANDARD.decode(&text) {
            Ok(bytes) => Bson::Binary(Binary {
                subtype: BinarySubtype::Generic,
                bytes,
            }),
            Err(_) => Bson::String(text),
        },
        Value::Number(number) if times.contains(&name) => match number.as_f64() {
            Some(seconds) => {
                let millis = (seconds * 1000.0).round() as i64;
                Bson::DateTime(bson::DateTime::from_millis(millis))
            }
            None => json::to_bson(Value::Number(number)),
        },
        value => json::to_bson(value),
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_become_what_services_take() {
        let binary = Binary {
            subtype: BinarySubtype::Generic,
            bytes: vec![0, 255],
        };
        let args = doc! {
            "Data": "héllo",
            "Records": [{ "Data": binary, "PartitionKey": "Data" }],
            "Limit": 10.0,
            "Share": 0.5,
            "Long": 1_i64 << 60,
            "Timestamp": bson::DateTime::from_millis(1_500),
            "Whole": bson::DateTime::from_millis(2_000),
            "Id": bson::oid::ObjectId::from_bytes([1; 12]),
            "Null": Bson::Null,
            "List": ["a", Bson::Null],
        };
        let expected = json!({
            "Data": "aMOpbGxv",
            "Records": [{ "Data": "AP8=", "PartitionKey": "Data" }],
            "Limit": 10,
            "Share": 0.5,
            "Long": 1_i64 << 60,
            "Timestamp": 1.5,
            "Whole": 2,
            "Id": "010101010101010101010101",
            "List": ["a"],
        });
        assert_eq!(to_json(&args, &["Data"]).unwrap(), expected);
        let odd = doc! { "Limit": f64::NAN };
        assert!(to_json(&odd, &[]).is_err());
        let odd = doc! { "Limit": Bson::MinKey };
        assert!(to_json(&odd, &[]).is_err());
    }

    #[test]
    fn results_become_bson() {
        let answer = json!({
            "Records": [{ "Data": "AP8=", "At": 1.5, "N": 1, "Big": 5_000_000_000_i64, "D": 0.5 }],
            "Data": "no base64!",
            "Bs": ["AA=="],
        });
        let bytes = |bytes: &[u8]| Binary {
            subtype: BinarySubtype::Generic,
            bytes: bytes.to_vec(),
        };
        let expected = doc! {
            "Records": [{
                "Data": bytes(&[0, 255]),
                "At": bson::DateTime::from_millis(1_500),
                "N": 1_i32,
                "Big": 5_000_000_000_i64,
                "D": 0.5,
            }],
            "Data": "no base64!",
            "Bs": [bytes(&[0])],
        };
        let answer = to_bson(answer, &["Data", "Bs"], &["At"]);
        assert_eq!(answer, Bson::Document(expected));
    }
}
