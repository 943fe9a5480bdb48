//! Keys: equal where MongoDB's index on `_id` holds two values equal, different otherwise, and the
//! same from a table as from the documents in it.

use std::collections::HashMap;

use arrow::array::AsArray;
use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use proptest::collection::vec;
use proptest::prelude::*;
use tributary_convert::key::{Key, keys_of_rows};
use tributary_convert::raw::{RawElements, kind};
use tributary_convert::recast::recast_batch;
use tributary_convert::{DecodedBatch, Decoder, Naming};
use tributary_model::TableSchema;
use tributary_model::schema::ColumnType;

use crate::arbitrary;
use crate::roundtrip::number;

fn key(value: impl Into<Bson>) -> Key {
    Key::of_document(&doc! { "a": 1, "_id": value.into() }.to_vec().unwrap()).unwrap()
}

fn decimal(text: &str) -> Bson {
    Bson::Decimal128(text.parse().unwrap())
}

/// The value in one spelling for all that are equal as keys.
fn spelled(value: &Bson) -> String {
    match value {
        Bson::String(text) | Bson::Symbol(text) => format!("text {text:?}"),
        Bson::Array(items) => format!("{:?}", items.iter().map(spelled).collect::<Vec<_>>()),
        Bson::Document(fields) => fields_spelled(fields),
        Bson::JavaScriptCodeWithScope(code) => {
            format!("code {:?} {}", code.code, fields_spelled(&code.scope))
        }
        _ => number(value).unwrap_or_else(|| value.clone().into_canonical_extjson().to_string()),
    }
}

fn fields_spelled(fields: &Document) -> String {
    let fields: Vec<_> = fields.iter().map(|(k, v)| (k, spelled(v))).collect();
    format!("{{{fields:?}}}")
}

/// The same number in every type that holds it, and its neighbours.
fn spellings() -> impl Strategy<Value = Bson> {
    let fraction = (-40..40_i64, 0..4_u32).prop_map(|(value, halvings)| {
        let double = value as f64 / f64::from(1_u32 << halvings);
        (double, format!("{double}"))
    });
    let power = (0..120_i32, any::<bool>()).prop_map(|(power, tenth)| {
        let double = 2_f64.powi(if tenth { -power } else { power });
        (double, format!("{double:e}"))
    });
    let edge = prop::sample::select(vec![
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "9007199254740993",
        "1e22",
        "1e23",
        "1e33",
        "1e34",
        "5e33",
        "0.1",
        "1e300",
    ])
    .prop_map(|text| (text.parse::<f64>().unwrap(), text.to_owned()));
    (prop_oneof![fraction, power, edge], 0..6_u8).prop_map(|((double, text), form)| {
        let as_decimal = |text: &str| text.parse().map(Bson::Decimal128);
        match form {
            0 if double.trunc() == double && double.abs() < 1e9 => Bson::Int32(double as i32),
            1 => text.parse().map_or(Bson::Double(double), Bson::Int64),
            2 => as_decimal(&format!("{text}0").replace("e", "E"))
                .ok()
                .filter(|_| text.contains('.') && !text.contains('e'))
                .unwrap_or(Bson::Double(double)),
            3 => as_decimal(&text.replace('e', "E")).unwrap_or(Bson::Double(double)),
            _ => Bson::Double(double),
        }
    })
}

fn nested_spellings() -> impl Strategy<Value = Bson> {
    prop_oneof![
        spellings(),
        spellings().prop_map(|v| Bson::Document(doc! { "a": v })),
        (spellings(), spellings()).prop_map(|(a, b)| Bson::Document(doc! { "a": [a, { "b": b }] })),
    ]
}

/// `_id`s of one or of many types.
fn ids() -> impl Strategy<Value = Vec<Bson>> {
    let object_id = any::<[u8; 12]>().prop_map(|id| Bson::ObjectId(ObjectId::from_bytes(id)));
    let alike = prop_oneof![
        vec(object_id.clone(), 1..8),
        vec(spellings(), 1..8),
        vec(arbitrary::text().prop_map(Bson::String), 1..8),
        vec(arbitrary::binary().prop_map(Bson::Binary), 1..8),
        vec(arbitrary::decimal().prop_map(Bson::Decimal128), 1..8),
        vec(arbitrary::double().prop_map(Bson::Double), 1..8),
        vec(
            (spellings(), object_id).prop_map(|(n, id)| Bson::Document(doc! { "n": n, "id": id })),
            1..8
        ),
        vec(
            arbitrary::date_millis().prop_map(|d| Bson::DateTime(bson::DateTime::from_millis(d))),
            1..8
        ),
    ];
    let mixed = vec(
        prop_oneof![
            arbitrary::value(),
            nested_spellings(),
            arbitrary::int64().prop_map(Bson::Int64)
        ],
        1..10,
    );
    prop_oneof![2 => alike, 3 => mixed]
}

fn keys_of_batch(decoded: &DecodedBatch) -> Vec<Key> {
    let rescued = decoded.batch.columns().last().unwrap().as_string::<i32>();
    let mut columns = decoded.schema.columns.iter().zip(decoded.batch.columns());
    let id = columns.find(|(column, _)| column.field == "_id");
    keys_of_rows(id, Some(rescued), decoded.batch.num_rows()).unwrap()
}

/// Checks the keys of the documents' tables, cut into batches and partitions, as they are written
/// and as they are recast to the schema of all.
fn check(documents: &[Vec<u8>], batch: usize) {
    let expected: Vec<Key> = documents
        .iter()
        .map(|document| Key::of_document(document).unwrap())
        .collect();
    let mut batches = Vec::new();
    let mut schema = TableSchema::default();
    for partition in documents.chunks(batch * 2) {
        let mut decoder = Decoder::default();
        for part in partition.chunks(batch) {
            for document in part {
                decoder.append(document).unwrap();
            }
            batches.push(decoder.finish(Naming::Physical).unwrap());
        }
        schema = schema.join(&decoder.schema());
    }
    let keys: Vec<Key> = batches.iter().flat_map(keys_of_batch).collect();
    assert_eq!(keys, expected, "as decoded: {batches:?}");
    let schema = schema.settled();
    let recast: Vec<Key> = batches
        .iter()
        .flat_map(|decoded| {
            let batch =
                recast_batch(&decoded.batch, &decoded.schema, &schema, Naming::Logical).unwrap();
            keys_of_batch(&DecodedBatch {
                batch,
                schema: schema.clone(),
                rescued: 0,
            })
        })
        .collect();
    assert_eq!(recast, expected, "as recast to {schema:?}");
}

/// Checks the keys of documents in a table whose schema is that of the first of them.
fn check_kept(documents: &[Vec<u8>]) {
    let mut first = Decoder::default();
    first.append(&documents[0]).unwrap();
    let mut decoder = Decoder::keeping(&first.schema());
    for document in documents {
        decoder.append(document).unwrap();
    }
    let decoded = decoder.finish(Naming::Physical).unwrap();
    let expected: Vec<Key> = documents
        .iter()
        .map(|document| Key::of_document(document).unwrap())
        .collect();
    assert_eq!(keys_of_batch(&decoded), expected, "{decoded:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn keys_are_equal_where_values_are(values in vec(nested_spellings(), 2..40)) {
        let mut seen: HashMap<Key, String> = HashMap::new();
        let mut keys: HashMap<String, Key> = HashMap::new();
        for value in values {
            let (key, text) = (key(value.clone()), spelled(&value));
            let before = seen.entry(key).or_insert_with(|| text.clone());
            prop_assert_eq!(&*before, &text, "different values have one key: {:?}", value);
            let before = keys.entry(text).or_insert(key);
            prop_assert_eq!(*before, key, "equal values have two keys: {:?}", value);
        }
    }

    #[test]
    fn keys_of_any_values_are_equal_where_the_values_are(values in vec(arbitrary::value(), 2..10)) {
        let mut seen: HashMap<Key, String> = HashMap::new();
        for value in &values {
            let text = spelled(value);
            let before = seen.entry(key(value.clone())).or_insert_with(|| text.clone());
            prop_assert_eq!(&*before, &text);
        }
        let texts: std::collections::HashSet<_> = values.iter().map(spelled).collect();
        prop_assert_eq!(seen.len(), texts.len());
    }

    #[test]
    fn a_table_has_the_keys_of_its_documents(ids in ids(), batch in 1_usize..6) {
        let documents: Vec<Vec<u8>> =
            ids.into_iter().map(|id| doc! { "x": 1, "_id": id, "y": "a" }.to_vec().unwrap()).collect();
        check(&documents, batch);
        check_kept(&documents);
    }

    #[test]
    fn no_bytes_make_a_key_panic(mut bytes in vec(any::<u8>(), 0..80), id in arbitrary::value(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        for kind in 0..=255 {
            let _ = Key::of(kind, &bytes);
        }
        if bytes.len() >= 5 {
            let length = bytes.len() as i32;
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            let _ = Key::of(kind::DOCUMENT, &bytes);
        }
        let mut document = doc! { "_id": id }.to_vec().unwrap();
        let at = at.index(document.len());
        document[at] = to;
        let _ = Key::of_document(&document);
    }
}

#[test]
fn equal_numbers_of_all_types_have_one_key() {
    let one = key(1);
    for value in [
        Bson::Int64(1),
        Bson::Double(1.0),
        decimal("1"),
        decimal("1.000"),
        decimal("10E-1"),
        decimal("0.1E+1"),
    ] {
        assert_eq!(key(value.clone()), one, "{value:?}");
    }
    let zero = key(0);
    for value in [
        Bson::Double(0.0),
        Bson::Double(-0.0),
        decimal("-0"),
        decimal("0E+3000"),
    ] {
        assert_eq!(key(value.clone()), zero, "{value:?}");
    }
    assert_eq!(key(0.5), key(decimal("0.50")));
    assert_eq!(key(1e22), key(decimal("1E+22")));
    assert_eq!(key(-9223372036854775808.0), key(i64::MIN));
    assert_eq!(key(f64::NAN), key(decimal("NaN")));
    assert_eq!(
        key(f64::from_bits(0xFFF8_0000_0000_0001)),
        key(decimal("NaN"))
    );
    assert_eq!(key(f64::INFINITY), key(decimal("Infinity")));
    assert_eq!(key(f64::NEG_INFINITY), key(decimal("-Infinity")));
    assert_eq!(
        key(doc! { "a": [1, { "b": 2.0 }] }),
        key(doc! { "a": [1_i64, { "b": decimal("2.0") }] })
    );
    assert_eq!(key("a"), key(Bson::Symbol("a".to_owned())));
}

#[test]
fn values_that_only_look_alike_have_different_keys() {
    let id = ObjectId::parse_str("0123456789abcdef01234567").unwrap();
    let values = [
        Bson::ObjectId(id),
        Bson::String(id.to_hex()),
        Bson::Binary(bson::Binary {
            subtype: 0.into(),
            bytes: id.bytes().to_vec(),
        }),
        Bson::Binary(bson::Binary {
            subtype: 5.into(),
            bytes: id.bytes().to_vec(),
        }),
        Bson::Double(0.1),
        decimal("0.1"),
        decimal("0.1000000000000000055511151231257827"),
        Bson::Int64((1 << 53) + 1),
        Bson::Int64(1 << 53),
        Bson::Int64(i64::MAX),
        Bson::Double(9223372036854775807.0),
        Bson::Double(f64::MAX),
        Bson::Double(5e-324),
        Bson::String(String::new()),
        Bson::Null,
        Bson::Undefined,
        Bson::Boolean(false),
        Bson::Boolean(true),
        Bson::Int32(0),
        Bson::Int32(1),
        Bson::String("1".to_owned()),
        Bson::JavaScriptCode("1".to_owned()),
        Bson::DateTime(bson::DateTime::from_millis(1)),
        Bson::Timestamp(bson::Timestamp {
            time: 0,
            increment: 1,
        }),
        Bson::MinKey,
        Bson::MaxKey,
        Bson::Double(f64::NAN),
        Bson::Double(f64::INFINITY),
        Bson::Double(f64::NEG_INFINITY),
        Bson::Document(doc! {}),
        Bson::Document(doc! { "a": 1, "b": 2 }),
        Bson::Document(doc! { "b": 2, "a": 1 }),
        Bson::Document(doc! { "a": 1 }),
        Bson::Document(doc! { "a": 1, "b": Bson::Null }),
        Bson::Document(doc! { "a": { "b": 1 } }),
        Bson::Document(doc! { "a": {}, "b": 1 }),
        Bson::Array(vec![]),
        Bson::Array(vec![1.into(), 2.into()]),
        Bson::Array(vec![Bson::Array(vec![1.into()]), 2.into()]),
        Bson::Array(vec!["ab".into(), "".into()]),
        Bson::Array(vec!["a".into(), "b".into()]),
    ];
    let keys: std::collections::HashSet<Key> = values.iter().cloned().map(key).collect();
    assert_eq!(keys.len(), values.len());
}

#[test]
fn a_key_does_not_change_from_version_to_version() {
    // Kept indexes hold these: a change needs a new format number there.
    let id = ObjectId::parse_str("0123456789abcdef01234567").unwrap();
    let shown = |value: Bson| hex::encode(key(value).0);
    assert_eq!(
        [
            shown(id.into()),
            shown(7.into()),
            shown("text".into()),
            shown(Bson::Document(doc! { "a": [0.1, decimal("1E+40")] })),
        ],
        [
            "c9f54c7205c3f3e9c6e654a9f195ce82",
            "ff8114b05e8270b68a1dd2e8a63907a8",
            "e2ad8e32bc2544918d28eb8c99557cef",
            "7f6dcff3ec6501024903e1fba8cb3234"
        ]
    );
}

#[test]
fn texts_of_all_lengths_have_keys_of_their_own() {
    let texts: Vec<String> = (0..400).map(|length| "x".repeat(length)).collect();
    let keys: std::collections::HashSet<Key> = texts.iter().map(|t| key(t.as_str())).collect();
    assert_eq!(keys.len(), texts.len());
    // As a part of a value they are hashed in another way.
    for text in &texts {
        let symbol = Bson::Symbol(text.clone());
        assert_eq!(key(symbol), key(text.as_str()));
    }
}

#[test]
fn a_document_without_key_has_that_of_null() {
    let null = Key::of_document(&doc! { "_id": Bson::Null }.to_vec().unwrap()).unwrap();
    assert_eq!(null, Key::null());
    assert_eq!(Key::of(kind::NULL, &[]), Ok(null));
    assert_eq!(
        Key::of_document(&doc! { "a": { "_id": 1 } }.to_vec().unwrap()),
        Ok(null)
    );
    check(
        &[
            doc! { "a": 1 },
            doc! { "_id": 5 },
            doc! { "_id": Bson::Null },
        ]
        .map(|d| d.to_vec().unwrap()),
        3,
    );
}

#[test]
fn keys_that_are_not_utf8_are_found_in_their_text() {
    let broken = |text: &[u8]| {
        let mut raw = doc! { "_id": "xy" }.to_vec().unwrap();
        let at = raw.iter().position(|b| *b == b'x').unwrap();
        raw[at..at + 2].copy_from_slice(text);
        raw
    };
    let documents = [
        broken(b"\xff\xfe"),
        broken(b"\xfe\xff"),
        broken(b"ab"),
        doc! { "_id": 5 }.to_vec().unwrap(),
    ];
    let keys: Vec<_> = documents
        .iter()
        .map(|d| Key::of_document(d).unwrap())
        .collect();
    assert!(keys[0] != keys[1] && keys[1] != keys[2]);
    for batch in 1..5 {
        check(&documents, batch);
    }
}

#[test]
fn of_several_keys_the_one_in_the_table_counts() {
    let mut raw = bson::RawDocumentBuf::new();
    raw.append(bson::cstr!("_id"), bson::RawBson::Null);
    raw.append(bson::cstr!("_id"), "second");
    raw.append(bson::cstr!("_id"), "third");
    let raw = raw.into_bytes();
    assert_eq!(Key::of_document(&raw).unwrap(), key("second"));
    check(&[raw], 1);
}

#[test]
fn a_key_without_column_is_taken_from_the_rescued_values() {
    let mut documents: Vec<Vec<u8>> = Vec::new();
    let wide: Document = (0..tributary_model::schema::MAX_FIELDS)
        .map(|i| (format!("f{i}"), Bson::Int32(1)))
        .collect();
    documents.push(wide.to_vec().unwrap());
    for id in [
        Bson::Int32(7),
        Bson::Document(doc! { "a": 1 }),
        "text".into(),
    ] {
        documents.push(doc! { "f0": 1, "other": 2, "_id": id }.to_vec().unwrap());
    }
    let mut decoder = Decoder::default();
    for document in &documents {
        decoder.append(document).unwrap();
    }
    let decoded = decoder.finish(Naming::Physical).unwrap();
    assert!(decoded.schema.column("_id").is_none());
    let rescued = decoded.batch.columns().last().unwrap().as_string::<i32>();
    let column = tributary_model::Column::new("_id", ColumnType::ObjectId);
    let nulls = arrow::array::new_null_array(&arrow::datatypes::DataType::Utf8, documents.len());
    let keys = keys_of_rows(Some((&column, &nulls)), Some(rescued), nulls.len()).unwrap();
    let expected: Vec<Key> = documents
        .iter()
        .map(|d| Key::of_document(d).unwrap())
        .collect();
    assert_eq!(keys, expected);
    assert_eq!(keys[0], Key::null());
    assert!(RawElements::new(&documents[1]).is_ok());
}

#[test]
fn nesting_beyond_all_bounds_is_an_error() {
    let mut nested = doc! {};
    for _ in 0..300 {
        nested = doc! { "a": nested };
    }
    assert!(Key::of_document(&doc! { "_id": nested }.to_vec().unwrap()).is_err());
}

#[test]
fn rows_have_their_keys_in_a_table_that_keeps_a_schema_without_the_column() {
    let documents = [Bson::Null, "a".into(), 1.into(), Bson::Null]
        .map(|id| doc! { "x": 1, "_id": id, "y": "a" }.to_vec().unwrap());
    check_kept(&documents);
    check(&documents, 2);
}
