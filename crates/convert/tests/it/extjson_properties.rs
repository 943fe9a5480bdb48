//! Extended JSON of arbitrary documents, compared with the `bson` crate and with itself.

use bson::{Bson, DateTime, Decimal128, Document};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;
use tributary_convert::extjson::{Mode, parse_document, parse_value, write_document, write_value};
use tributary_convert::raw::{RawElements, kind};

use crate::arbitrary;
use crate::raw::with_value;

fn written(doc: &[u8], mode: Mode) -> String {
    let mut out = Vec::new();
    write_document(&mut out, doc, mode).expect("well-formed");
    String::from_utf8(out).expect("JSON is UTF-8")
}

/// Whether two values agree, but for how this crate and `bson` write the same thing differently:
/// the notation of doubles, the sign of NaN, canonical doubles that are subnormal (which `bson`
/// writes as plain numbers), and trailing zeros in fractions of seconds.
fn agree(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            let only = |key: &str| {
                let text = |object: &serde_json::Map<String, Value>| {
                    object
                        .get(key)
                        .filter(|_| object.len() == 1)?
                        .as_str()
                        .map(str::to_owned)
                };
                text(ours).zip(text(theirs))
            };
            if let Some((ours, theirs)) = only("$numberDouble") {
                let (ours, theirs): (f64, f64) =
                    (ours.parse().expect("ours"), theirs.parse().expect("theirs"));
                return ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan());
            }
            if let Some((ours, theirs)) = only("$date") {
                let millis = |text: &str| {
                    DateTime::parse_rfc3339_str(text)
                        .expect("a date")
                        .timestamp_millis()
                };
                return millis(&ours) == millis(&theirs);
            }
            ours.len() == theirs.len()
                && ours
                    .iter()
                    .zip(theirs)
                    .all(|(a, b)| a.0 == b.0 && agree(a.1, b.1))
        }
        (Value::Object(ours), Value::Number(theirs)) => {
            let text = ours
                .get("$numberDouble")
                .and_then(Value::as_str)
                .expect("a double");
            text.parse::<f64>().ok().is_some_and(f64::is_subnormal)
                && theirs.as_f64().is_some_and(f64::is_subnormal)
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| agree(a, b))
        }
        (Value::Number(ours), Value::Number(theirs)) if ours.is_f64() && theirs.is_f64() => {
            // Reading a number with serde_json may be off in the last digit.
            let (ours, theirs) = (
                ours.as_f64().unwrap_or(f64::NAN),
                theirs.as_f64().unwrap_or(f64::NAN),
            );
            ours.to_bits().abs_diff(theirs.to_bits()) <= 4
        }
        _ => ours == theirs,
    }
}

/// What a value becomes by way of relaxed text: an int64 that fits in 32 bits becomes an int32.
fn narrowed(value: Bson) -> Bson {
    match value {
        Bson::Int64(value) => i32::try_from(value).map_or(Bson::Int64(value), Bson::Int32),
        Bson::Array(values) => Bson::Array(values.into_iter().map(narrowed).collect()),
        Bson::Document(doc) => Bson::Document(narrowed_document(doc)),
        Bson::JavaScriptCodeWithScope(mut code) => {
            code.scope = narrowed_document(code.scope);
            Bson::JavaScriptCodeWithScope(code)
        }
        other => other,
    }
}

fn narrowed_document(doc: Document) -> Document {
    doc.into_iter()
        .map(|(name, value)| (name, narrowed(value)))
        .collect()
}

/// Reads everything that can be read of `doc`.
fn explore(doc: &[u8], depth: usize) {
    let Ok(elements) = RawElements::new(doc) else {
        return;
    };
    for element in elements {
        let Ok(element) = element else { return };
        let _ = (
            element.as_i32(),
            element.as_i64(),
            element.as_f64(),
            element.as_bool(),
        );
        let _ = (
            element.as_date_millis(),
            element.as_timestamp(),
            element.as_object_id(),
        );
        let _ = (
            element.as_string_bytes(),
            element.as_binary(),
            element.as_regex(),
        );
        let _ = (element.as_db_pointer(), element.as_decimal128());
        if let (Ok(inner), true) = (element.as_document(), depth < 100) {
            explore(inner, depth + 1);
        }
        if let (Ok((_, scope)), true) = (element.as_code_with_scope(), depth < 100) {
            explore(scope, depth + 1);
        }
    }
}

/// Explores and writes `doc`; what can be written is JSON, and reading it does not panic.
fn survive(doc: &[u8]) {
    explore(doc, 0);
    for mode in [Mode::Canonical, Mode::Relaxed] {
        let mut out = Vec::new();
        if write_document(&mut out, doc, mode).is_ok() {
            let json = String::from_utf8(out).expect("JSON is UTF-8");
            serde_json::from_str::<Value>(&json).expect("JSON");
            let _ = (parse_document(&json), parse_value(&json));
        } else {
            assert!(out.is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn writes_what_the_bson_crate_writes(doc in arbitrary::document()) {
        let bytes = doc.to_vec().expect("BSON");
        let value = Bson::Document(doc);
        let canonical: Value = serde_json::from_str(&written(&bytes, Mode::Canonical)).expect("JSON");
        let theirs = value.clone().into_canonical_extjson();
        prop_assert!(agree(&canonical, &theirs), "{canonical}\n{theirs}");
        let relaxed: Value = serde_json::from_str(&written(&bytes, Mode::Relaxed)).expect("JSON");
        let theirs = value.into_relaxed_extjson();
        prop_assert!(agree(&relaxed, &theirs), "{relaxed}\n{theirs}");
    }

    #[test]
    fn canonical_text_gives_back_the_same_bytes(bytes in arbitrary::document_bytes()) {
        let json = written(&bytes, Mode::Canonical);
        prop_assert_eq!(parse_document(&json), Ok(bytes));
    }

    #[test]
    fn relaxed_text_gives_back_the_same_values(doc in arbitrary::document()) {
        let json = written(&doc.to_vec().expect("BSON"), Mode::Relaxed);
        let expected = narrowed_document(doc).to_vec().expect("BSON");
        prop_assert_eq!(parse_document(&json), Ok(expected));
    }

    #[test]
    fn single_values_give_back_the_same_bytes(value in arbitrary::value()) {
        let doc = arbitrary::from_fields(&[("a".to_owned(), value)]);
        let element = RawElements::new(&doc).expect("a document").next().expect("a field").expect("well-formed");
        let mut out = Vec::new();
        write_value(&mut out, &element, Mode::Canonical).expect("well-formed");
        let parsed = parse_value(std::str::from_utf8(&out).expect("UTF-8")).expect("readable");
        prop_assert_eq!((parsed.kind, &parsed.value[..]), (element.kind, element.value));
    }

    #[test]
    fn any_decimal_is_written_as_the_bson_crate_does(bytes in arbitrary::decimal_bytes()) {
        let json = written(&with_value(kind::DECIMAL128, &bytes), Mode::Canonical);
        let text = Decimal128::from_bytes(bytes).to_string();
        prop_assert_eq!(json, format!("{{\"a\":{{\"$numberDecimal\":\"{text}\"}}}}"));
    }

    #[test]
    fn any_decimal_text_is_read_as_the_bson_crate_does(text in "[+-]?[0-9]{1,20}(\\.[0-9]{0,20})?(E[+-]?[0-9]{1,4})?") {
        let ours = parse_value(&format!("{{\"$numberDecimal\":\"{text}\"}}")).ok().map(|parsed| parsed.value);
        let theirs = text.parse::<Decimal128>().ok().map(|decimal| decimal.bytes().to_vec());
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn truncated_documents_do_no_harm(bytes in arbitrary::document_bytes(), at in any::<Index>()) {
        let mut cut = bytes[..at.index(bytes.len())].to_vec();
        survive(&cut);
        // A consistent outer length lets the cut be found further inside.
        if let Some(length) = cut.first_chunk_mut::<4>() {
            *length = u32::try_from(at.index(bytes.len())).expect("short").to_le_bytes();
        }
        survive(&cut);
    }

    #[test]
    fn mutated_documents_do_no_harm(
        mut bytes in arbitrary::document_bytes(),
        changes in vec((any::<Index>(), any::<u8>()), 1..6),
    ) {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            survive(&bytes);
        }
    }

    #[test]
    fn mutated_text_does_no_harm(
        bytes in arbitrary::document_bytes(),
        changes in vec((any::<Index>(), "[{}\\[\\]\",:0-9a-z$\\\\]|\\PC"), 1..6),
    ) {
        let mut json: Vec<char> = written(&bytes, Mode::Canonical).chars().collect();
        for (at, change) in changes {
            let at = at.index(json.len());
            json[at] = change.chars().next().unwrap_or(' ');
            let text: String = json.iter().collect();
            if let Ok(doc) = parse_document(&text) {
                survive(&doc);
            }
            let cut: String = json[..at].iter().collect();
            let _ = (parse_document(&cut), parse_value(&cut), parse_value(&text));
        }
    }

    #[test]
    fn arbitrary_text_is_read_as_serde_json_does(text in "[\\[\\]{}\":,0-2eE.+ntru\\\\ -]{0,12}") {
        let theirs = serde_json::from_str::<Value>(&text);
        prop_assert_eq!(parse_value(&text).is_ok(), theirs.is_ok(), "{}", text);
    }
}
