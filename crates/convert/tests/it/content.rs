//! Contents: a row says what its document does, whatever its table has become, and nothing else.

use arrow::array::AsArray;
use bson::{Bson, Document, doc};
use proptest::collection::vec;
use proptest::prelude::*;
use tributary_convert::content::{RowReader, id_of_document};
use tributary_convert::recast::recast_batch;
use tributary_convert::{Content, DecodedBatch, Key, Naming};
use tributary_model::TableSchema;

use crate::arbitrary;
use crate::roundtrip::{decode_raw, same, with_key};

fn content(document: &Document) -> Content {
    Content::of_document(&document.to_vec().unwrap()).unwrap()
}

/// Contents and keys of all rows, through the final schema.
fn rows(batches: &[DecodedBatch], schema: &TableSchema) -> Vec<(Content, Key)> {
    let mut rows = Vec::new();
    for decoded in batches {
        let batch =
            recast_batch(&decoded.batch, &decoded.schema, schema, Naming::Physical).unwrap();
        let rescued = batch.columns().last().unwrap().as_string::<i32>();
        let mut reader = RowReader::new(schema, &batch, Some(rescued)).unwrap();
        for row in 0..batch.num_rows() {
            let id = reader.id(row).unwrap();
            rows.push((reader.content(row), Key::of_document(&id).unwrap()));
        }
    }
    rows
}

fn row_of(document: &Document, beside: &[Document]) -> Content {
    let all = std::iter::once(document).chain(beside);
    let raw: Vec<Vec<u8>> = all.map(|d| d.to_vec().unwrap()).collect();
    let (batches, schema) = decode_raw(&raw, &TableSchema::default(), usize::MAX);
    rows(&batches, &schema.settled())[0].0
}

/// Whether a double's sign of zero is anywhere in a value: contents tell it apart, equality of
/// numbers does not.
fn has_negative_zero(value: &Bson) -> bool {
    match value {
        Bson::Double(v) => v.to_bits() == (-0.0_f64).to_bits(),
        Bson::Array(items) => items.iter().any(has_negative_zero),
        Bson::Document(fields) => fields.values().any(has_negative_zero),
        Bson::JavaScriptCodeWithScope(code) => code.scope.values().any(has_negative_zero),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_row_says_what_its_document_does(
        documents in vec(with_key(), 1..16),
        batch in 1_usize..5,
        cut in any::<prop::sample::Index>(),
        learns in any::<bool>(),
    ) {
        let raw: Vec<Vec<u8>> = documents.iter().map(|d| d.to_vec().unwrap()).collect();
        let (first, second) = raw.split_at(cut.index(raw.len()));
        let (mut batches, a) = decode_raw(first, &TableSchema::default(), batch);
        let known = if learns { a.clone() } else { TableSchema::default() };
        let (more, b) = decode_raw(second, &known, batch);
        batches.extend(more);
        let rows = rows(&batches, &a.join(&b).settled());
        prop_assert_eq!(rows.len(), raw.len());
        for (raw, (content, key)) in raw.iter().zip(rows) {
            prop_assert_eq!(Content::of_document(raw).unwrap(), content);
            prop_assert_eq!(Key::of_document(raw).unwrap(), key);
        }
    }

    #[test]
    fn documents_whose_fields_repeat_are_said_by_their_rows(
        documents in vec(arbitrary::document_bytes(), 1..8)
    ) {
        let (batches, schema) = decode_raw(&documents, &TableSchema::default(), 3);
        for (raw, (content, _)) in documents.iter().zip(rows(&batches, &schema.settled())) {
            prop_assert_eq!(Content::of_document(raw).unwrap(), content);
        }
    }

    #[test]
    fn contents_are_equal_where_documents_are(a in arbitrary::document(), b in arbitrary::document()) {
        let (a_value, b_value) = (Bson::Document(a.clone()), Bson::Document(b.clone()));
        if !has_negative_zero(&a_value) && !has_negative_zero(&b_value) {
            prop_assert_eq!(same(&a_value, &b_value), content(&a) == content(&b));
        }
    }

    #[test]
    fn a_value_in_place_of_another_is_noticed(
        mut document in arbitrary::document(),
        name in arbitrary::field_name(),
        before in arbitrary::value(),
        after in arbitrary::value(),
    ) {
        document.insert(name.clone(), before.clone());
        let original = content(&document);
        document.insert(name, after.clone());
        if !has_negative_zero(&before) && !has_negative_zero(&after) {
            prop_assert_eq!(same(&before, &after), original == content(&document));
        }
    }

    #[test]
    fn the_order_of_fields_does_not_count(document in arbitrary::document()) {
        let fields: Vec<(String, Bson)> = document.clone().into_iter().collect();
        let turned: Document = fields.into_iter().rev().collect();
        prop_assert_eq!(content(&document), content(&turned));
    }

    #[test]
    fn no_bytes_make_it_panic(mut bytes in vec(any::<u8>(), 5..200)) {
        let length = bytes.len() as i32;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        let _ = Content::of_document(&bytes);
        let _ = id_of_document(&bytes);
    }
}

#[test]
fn what_tables_do_not_tell_apart_is_the_same() {
    let decimal = |text: &str| Bson::Decimal128(text.parse().unwrap());
    for (a, b) in [
        (doc! { "x": 5 }, doc! { "x": 5_i64 }),
        (doc! { "x": 5 }, doc! { "x": 5.0 }),
        (doc! { "x": 0.5 }, doc! { "x": decimal("0.50") }),
        (doc! { "x": f64::NAN }, doc! { "x": -f64::NAN }),
        (doc! { "x": f64::NAN }, doc! { "x": decimal("NaN") }),
        (doc! { "x": -f64::NAN }, doc! { "x": decimal("-NaN") }),
        (
            doc! { "x": f64::INFINITY },
            doc! { "x": decimal("Infinity") },
        ),
        (
            doc! { "x": f64::NEG_INFINITY },
            doc! { "x": decimal("-Infinity") },
        ),
        (doc! { "x": Bson::Null, "y": 1 }, doc! { "y": 1 }),
        (doc! { "x": { "y": Bson::Null } }, doc! { "x": {} }),
        (
            doc! { "x": [{ "y": 1, "z": 2 }] },
            doc! { "x": [{ "z": 2.0, "y": 1 }] },
        ),
    ] {
        assert_eq!(content(&a), content(&b), "{a} {b}");
        assert!(same(&a.clone().into(), &b.clone().into()), "{a} {b}");
    }
}

#[test]
fn what_tables_tell_apart_is_not_the_same() {
    let documents = [
        doc! {},
        doc! { "x": 0 },
        doc! { "x": -0.0 },
        doc! { "x": "" },
        doc! { "x": "0" },
        doc! { "x": Bson::Symbol("0".to_owned()) },
        doc! { "x": {} },
        doc! { "x": [] },
        doc! { "x": [Bson::Null] },
        doc! { "x": [Bson::Null, Bson::Null] },
        doc! { "x": [0] },
        doc! { "x": { "0": 0 } },
        doc! { "x": [0, Bson::Null] },
        doc! { "x": [Bson::Null, 0] },
        doc! { "x": [[0]] },
        doc! { "x/0": 0 },
        doc! { "x~10": 0 },
        doc! { "y": 0 },
        doc! { "x": 0, "y": 0 },
        doc! { "x": f64::NAN },
        doc! { "x": f64::INFINITY },
        doc! { "x": 0.1 },
        doc! { "x": bson::DateTime::from_millis(0) },
        doc! { "x": Bson::Undefined },
        doc! { "x": false },
    ];
    for (i, a) in documents.iter().enumerate() {
        for b in &documents[..i] {
            assert_ne!(content(a), content(b), "{a} {b}");
        }
    }
}

#[test]
fn values_that_two_documents_have_exchanged_are_noticed_in_their_sum() {
    let sum = |documents: [Document; 2]| {
        let [a, b] = documents.map(|d| content(&d).0);
        a.wrapping_add(b)
    };
    assert_ne!(
        sum([doc! { "_id": 1, "x": "a" }, doc! { "_id": 2, "x": "b" }]),
        sum([doc! { "_id": 1, "x": "b" }, doc! { "_id": 2, "x": "a" }]),
    );
}

#[test]
fn a_value_says_the_same_in_its_column_as_text_and_rescued() {
    let never = bson::DateTime::from_millis(i64::MAX);
    let document = doc! { "_id": 1, "x": never, "n": 1, "a": [never, 1] };
    let expected = content(&document);
    for beside in [
        vec![],
        vec![doc! { "x": bson::DateTime::from_millis(0) }],
        vec![doc! { "x": 1, "n": "text", "a": { "b": 1 } }],
        vec![doc! { "n": 0.5 }, doc! { "n": 0.1, "_id": "text" }],
    ] {
        assert_eq!(row_of(&document, &beside), expected, "{beside:?}");
    }
}

#[test]
fn a_document_that_looks_like_another_type_is_that_type() {
    let date = doc! { "x": { "$date": { "$numberLong": "5" } } };
    let text = doc! { "x": "makes the column text" };
    assert_eq!(row_of(&date, &[text]), content(&date));
    assert_eq!(row_of(&date, &[]), content(&date));
}
