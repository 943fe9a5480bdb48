//! Documents into tables and back: nothing is lost, rounded or clamped, whatever the documents
//! are, however they are cut into batches and partitions, and however their types mix.

use std::cmp::Ordering;

use bson::{Bson, Document, doc};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;
use tributary_convert::encode::Encoder;
use tributary_convert::extjson;
use tributary_convert::recast::recast_batch;
use tributary_convert::{DecodedBatch, Decoder, Naming};
use tributary_model::TableSchema;
use tributary_model::schema::ColumnType;

use crate::arbitrary;

/// A row of a table as it can be read back.
struct Row {
    document: Document,
    /// Path and value of each rescued value.
    rescued: Vec<(String, Bson)>,
}

fn decode(documents: &[Document], schema: &TableSchema) -> (Vec<DecodedBatch>, TableSchema) {
    decode_raw(
        &documents
            .iter()
            .map(|d| d.to_vec().unwrap())
            .collect::<Vec<_>>(),
        schema,
        usize::MAX,
    )
}

/// Decodes documents as one partition, a batch being finished behind every `batch` of them.
pub(crate) fn decode_raw(
    documents: &[Vec<u8>],
    schema: &TableSchema,
    batch: usize,
) -> (Vec<DecodedBatch>, TableSchema) {
    decode_with(Decoder::new(schema), documents, batch)
}

fn decode_with(
    mut decoder: Decoder,
    documents: &[Vec<u8>],
    batch: usize,
) -> (Vec<DecodedBatch>, TableSchema) {
    let mut batches = Vec::new();
    for (i, document) in documents.iter().enumerate() {
        decoder.append(document).unwrap();
        if (i + 1) % batch == 0 {
            batches.push(decoder.finish(Naming::Physical).unwrap());
        }
    }
    batches.push(decoder.finish(Naming::Physical).unwrap());
    (batches, decoder.schema())
}

/// Reads all rows back, through the final schema.
fn rows(batches: &[DecodedBatch], schema: &TableSchema) -> Vec<Row> {
    let mut rows = Vec::new();
    for decoded in batches {
        let batch = recast_batch(&decoded.batch, &decoded.schema, schema, Naming::Logical).unwrap();
        let encoder = Encoder::new(schema, &batch).unwrap();
        let rescued = arrow::array::AsArray::as_string::<i32>(batch.columns().last().unwrap());
        for row in 0..batch.num_rows() {
            let mut bytes = Vec::new();
            encoder.document(row, &mut bytes).unwrap();
            let text = arrow::array::Array::is_valid(rescued, row).then(|| rescued.value(row));
            rows.push(Row {
                document: Document::from_reader(bytes.as_slice()).unwrap(),
                rescued: text.map(parse_rescued).unwrap_or_default(),
            });
        }
    }
    rows
}

fn parse_rescued(text: &str) -> Vec<(String, Bson)> {
    let Value::Array(entries) = serde_json::from_str(text).unwrap() else {
        panic!("not an array: {text}")
    };
    entries
        .into_iter()
        .map(|entry| {
            let path = entry["path"].as_str().unwrap().to_owned();
            let value = extjson::parse_document(&format!("{{\"v\":{}}}", entry["value"])).unwrap();
            let value = Document::from_reader(value.as_slice())
                .unwrap()
                .remove("v")
                .unwrap();
            (path, value)
        })
        .collect()
}

/// Takes the value at `path` out of a document, leaving null.
fn take(document: &mut Bson, path: &str) -> Option<Bson> {
    let mut place = document;
    for step in path.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        place = match place {
            Bson::Document(inner) => inner.get_mut(&step)?,
            Bson::Array(items) => items.get_mut(step.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(std::mem::replace(place, Bson::Null))
}

/// Whether two values are the same but for what a table does not tell apart: null and missing, the
/// types of equal numbers, and the order in which a document has its fields.
pub(crate) fn same(a: &Bson, b: &Bson) -> bool {
    match (a, b) {
        (Bson::Document(a), Bson::Document(b)) => {
            let missing = Bson::Null;
            let added = b.keys().filter(|key| !a.contains_key(*key));
            a.keys().chain(added).all(|key| {
                same(
                    a.get(key).unwrap_or(&missing),
                    b.get(key).unwrap_or(&missing),
                )
            })
        }
        (Bson::Array(a), Bson::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Bson::JavaScriptCodeWithScope(a), Bson::JavaScriptCodeWithScope(b)) => {
            let scope = |code: &bson::JavaScriptCodeWithScope| Bson::Document(code.scope.clone());
            a.code == b.code && same(&scope(a), &scope(b))
        }
        _ => match (number(a), number(b)) {
            (Some(a), Some(b)) => a == b,
            // As text, a NaN inside a scope is equal to itself.
            _ => a.clone().into_canonical_extjson() == b.clone().into_canonical_extjson(),
        },
    }
}

/// As [`same`], for keys: order, nulls and the document's shape count.
fn same_key(a: &Bson, b: &Bson) -> bool {
    match (a, b) {
        (Bson::Document(a), Bson::Document(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|((ka, a), (kb, b))| ka == kb && same_key(a, b))
        }
        (Bson::Array(a), Bson::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_key(a, b))
        }
        _ => same(a, b),
    }
}

/// A number's exact value in one spelling for all types.
pub(crate) fn number(value: &Bson) -> Option<String> {
    let text = match value {
        Bson::Int32(v) => v.to_string(),
        Bson::Int64(v) => v.to_string(),
        Bson::Double(v) if v.is_finite() => format!("{v:.1100}"),
        Bson::Double(v) => return Some(v.to_string()),
        Bson::Decimal128(v) => return decimal(&v.to_string()),
        _ => return None,
    };
    decimal(&text)
}

fn decimal(text: &str) -> Option<String> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text),
    };
    match text {
        "NaN" => return Some("NaN".to_owned()),
        "Infinity" => return Some(format!("{sign}inf")),
        _ => {}
    }
    let (mantissa, exponent) = text.split_once('E').unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut exponent: i64 = exponent.parse().unwrap();
    exponent -= fraction.len() as i64;
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some("0".to_owned());
    }
    exponent += (digits.len() - significant.len()) as i64;
    Some(format!("{sign}{significant}e{exponent}"))
}

/// Asserts that the document and its key are in the row.
#[track_caller]
fn assert_kept(original: &Document, row: &Row) {
    assert_said(original, row);
    if let Some(id) = original.get("_id").filter(|id| **id != Bson::Null) {
        let back = row.document.get("_id").expect("a key is never null");
        assert!(same_key(id, back), "a key changed from {id:?} to {back:?}");
    }
}

/// Asserts that the document is in the row, rescued or not.
#[track_caller]
fn assert_said(original: &Document, row: &Row) {
    let mut expected = Bson::Document(original.clone());
    for (path, value) in &row.rescued {
        let taken = take(&mut expected, path);
        assert!(
            taken
                .as_ref()
                .is_some_and(|taken| taken == value || same(taken, value)),
            "rescued {value:?} at {path:?}, but the document has {taken:?} there: {original:?}"
        );
    }
    assert!(
        same(&expected, &Bson::Document(row.document.clone())),
        "a document changed\n  from {original:?}\n  to   {:?}\n  with {:?} rescued",
        row.document,
        row.rescued
    );
}

fn check(documents: &[Document]) -> (TableSchema, Vec<Row>) {
    let (batches, schema) = decode(documents, &TableSchema::default());
    let settled = schema.settled();
    let rows = rows(&batches, &settled);
    assert_eq!(rows.len(), documents.len());
    for (document, row) in documents.iter().zip(&rows) {
        assert_kept(document, row);
    }
    (settled, rows)
}

fn type_of(documents: &[Document], field: &str) -> Option<ColumnType> {
    let (schema, _) = check(documents);
    schema
        .column(field)
        .map(|column| column.column_type.clone())
}

pub(crate) fn with_key() -> impl Strategy<Value = Document> {
    (prop::option::of(arbitrary::value()), arbitrary::document()).prop_map(|(id, mut document)| {
        document.remove("_id");
        match id {
            None | Some(Bson::Array(_) | Bson::Null) => document,
            Some(id) => {
                let mut keyed = doc! { "_id": id };
                keyed.extend(document);
                keyed
            }
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_document_comes_back_from_its_table(documents in vec(with_key(), 1..12)) {
        check(&documents);
    }

    #[test]
    fn cutting_into_batches_and_partitions_loses_nothing(
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
        let schema = a.join(&b).settled();
        let rows = rows(&batches, &schema);
        prop_assert_eq!(rows.len(), documents.len());
        for (document, row) in documents.iter().zip(&rows) {
            assert_kept(document, row);
        }
    }

    #[test]
    fn a_schema_that_is_kept_loses_nothing(
        first in vec(with_key(), 1..6),
        second in vec(with_key(), 1..12),
        batch in 1_usize..5,
    ) {
        let raw = |documents: &[Document]| -> Vec<Vec<u8>> {
            documents.iter().map(|d| d.to_vec().unwrap()).collect()
        };
        let (mut batches, schema) = decode(&first, &TableSchema::default());
        let (more, known) = decode_with(Decoder::keeping(&schema), &raw(&second), batch);
        prop_assert!(known.settled().has_layout_of(&schema.settled()), "{:?} became {:?}", schema, known);
        prop_assert_eq!(known.join(&schema), known.clone());
        batches.extend(more);
        let rows = rows(&batches, &known.settled());
        prop_assert_eq!(rows.len(), first.len() + second.len());
        for (document, row) in first.iter().chain(&second).zip(&rows) {
            assert_said(document, row);
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(mut bytes in vec(any::<u8>(), 5..200), documents in vec(with_key(), 1..3), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let length = bytes.len() as i32;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        let mut decoder = Decoder::default();
        let _ = decoder.append(&bytes);
        for document in documents {
            let mut bytes = document.to_vec().unwrap();
            let at = at.index(bytes.len());
            bytes[at] = to;
            let mut decoder = Decoder::default();
            if decoder.append(&bytes).is_ok() {
                decoder.finish(Naming::Logical).unwrap();
            }
        }
    }
}

#[test]
fn fields_keep_their_order_and_odd_names() {
    let document = doc! { "z": 1, "a.b": 2, "$c": 3, "": 4, "Name": 5, "name": 6, "with space": 7, "_rescued_data": 8 };
    let (batches, schema) = decode(std::slice::from_ref(&document), &TableSchema::default());
    let names: Vec<_> = batches[0]
        .batch
        .schema()
        .fields()
        .iter()
        .map(|f| f.name().clone())
        .collect();
    assert_eq!(
        names,
        [
            "z",
            "a.b",
            "$c",
            "_",
            "Name",
            "name_2",
            &names[6],
            "_rescued_data_2",
            "_rescued_data"
        ]
    );
    assert!(names[6].starts_with("col-"));
    let rows = rows(&batches, &schema.settled());
    assert_eq!(rows[0].document, document);
}

#[test]
fn what_does_not_fit_a_schema_that_is_kept_is_told_by_its_path() {
    let first = doc! { "_id": 1, "n": 1, "items": [{ "sku": "a" }], "in": { "a": 1.5 }, "none": Bson::Null };
    let (_, schema) = decode(&[first], &TableSchema::default());
    let mut decoder = Decoder::keeping(&schema);
    let odd = doc! {
        "_id": 2, "n": "text", "items": [{ "sku": "b", "n": 3 }, 7], "in": { "a": 2, "b": true },
        "none": "some", "new": [1],
    };
    decoder.append(&odd.to_vec().unwrap()).unwrap();
    decoder
        .append(&doc! { "_id": 3, "n": i64::MAX }.to_vec().unwrap())
        .unwrap();
    let misfits: Vec<(String, ColumnType)> = decoder.take_misfits().into_iter().collect();
    assert_eq!(
        misfits,
        [
            ("/in/b".to_owned(), ColumnType::Bool),
            ("/items/*".to_owned(), ColumnType::Int32),
            ("/items/*/n".to_owned(), ColumnType::Int32),
            ("/n".to_owned(), ColumnType::Json),
            (
                "/new".to_owned(),
                ColumnType::Array(Box::new(ColumnType::Unknown))
            ),
            ("/none".to_owned(), ColumnType::String),
        ]
    );
    assert_eq!(decoder.take_misfits().len(), 0);
    assert_eq!(decoder.finish(Naming::Physical).unwrap().rescued, 7);
}

#[test]
fn an_optional_field_stands_where_it_does_in_its_documents() {
    let (schema, rows) = check(&[doc! { "a": 1, "c": 1 }, doc! { "a": 1, "b": 1, "c": 1 }]);
    let names: Vec<_> = schema.columns.iter().map(|c| c.field.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(rows[1].document, doc! { "a": 1, "b": 1, "c": 1 });
}

#[test]
fn whole_numbers_beside_doubles_become_doubles() {
    let documents = [doc! { "x": 1 }, doc! { "x": 2.5 }, doc! { "x": 3_i64 }];
    assert!(matches!(
        type_of(&documents, "x"),
        Some(ColumnType::Double { .. })
    ));
}

#[test]
fn an_integer_that_is_no_double_is_not_rounded() {
    let big = (1_i64 << 53) + 1;
    // 0.1 has 55 digits: no decimal column holds it.
    let documents = [doc! { "x": big }, doc! { "x": 0.1 }];
    assert_eq!(type_of(&documents, "x"), Some(ColumnType::Json));
    let documents = [doc! { "x": big }, doc! { "x": 0.5 }];
    assert!(
        matches!(type_of(&documents, "x"), Some(ColumnType::Decimal(shape)) if shape.scale == 1)
    );
}

#[test]
fn a_double_of_more_digits_than_a_decimal128_has_makes_text() {
    let big = (1_i64 << 53) + 1;
    let documents = [doc! { "x": big }, doc! { "x": -1.0268475987725745e34 }];
    assert_eq!(type_of(&documents, "x"), Some(ColumnType::Json));
}

#[test]
fn a_decimal_takes_its_scale_from_the_data() {
    let decimal = |text: &str| Bson::Decimal128(text.parse().unwrap());
    let documents = [
        doc! { "x": decimal("1.5") },
        doc! { "x": decimal("2.125") },
        doc! { "x": 7 },
    ];
    assert!(
        matches!(type_of(&documents, "x"), Some(ColumnType::Decimal(shape)) if shape.scale == 3)
    );
}

#[test]
fn a_value_that_no_column_holds_is_rescued_with_its_path() {
    let decimal = |text: &str| Bson::Decimal128(text.parse().unwrap());
    let documents = [
        doc! { "a": { "d": [{ "at": bson::DateTime::from_millis(i64::MAX) }] }, "n": decimal("NaN"), "k/~": decimal("1E+6000") },
        doc! { "a": { "d": [{ "at": bson::DateTime::from_millis(0) }] }, "n": decimal("1"), "k/~": decimal("1") },
    ];
    let (schema, rows) = check(&documents);
    let paths: Vec<_> = rows[0]
        .rescued
        .iter()
        .map(|(path, _)| path.as_str())
        .collect();
    assert_eq!(paths, ["/a/d/0/at", "/n", "/k~1~0"]);
    assert!(rows[1].rescued.is_empty());
    assert!(matches!(
        schema.column("n").unwrap().column_type,
        ColumnType::Decimal(_)
    ));
}

#[test]
fn a_second_field_of_the_same_name_is_rescued() {
    let mut raw = bson::RawDocumentBuf::new();
    raw.append(bson::cstr!("a"), 1);
    raw.append(bson::cstr!("a"), "two");
    let (batches, schema) = decode_raw(&[raw.into_bytes()], &TableSchema::default(), 9);
    let rows = rows(&batches, &schema.settled());
    assert_eq!(rows[0].document, doc! { "a": 1 });
    assert_eq!(rows[0].rescued, [("/a".to_owned(), Bson::from("two"))]);
    assert_eq!(batches[0].rescued, 1);
}

#[test]
fn text_that_is_not_utf8_is_rescued_as_bytes() {
    let mut raw = doc! { "a": "xy" }.to_vec().unwrap();
    let at = raw.iter().position(|b| *b == b'x').unwrap();
    raw[at] = 0xff;
    let mut decoder = Decoder::default();
    decoder.append(&raw).unwrap();
    let decoded = decoder.finish(Naming::Logical).unwrap();
    assert_eq!(decoded.rescued, 1);
    let texts = arrow::array::AsArray::as_string::<i32>(decoded.batch.columns().last().unwrap());
    assert_eq!(
        texts.value(0),
        r#"[{"path":"/a","value":{"$invalidUTF8":"/3k="}}]"#
    );
}

#[test]
fn documents_nested_to_the_server_s_limit_come_back() {
    let mut nested = doc! { "leaf": 1 };
    for _ in 0..100 {
        nested = doc! { "n": nested };
    }
    check(&[nested, doc! { "n": { "n": "text" } }]);
}

#[test]
fn a_document_used_as_a_map_becomes_text() {
    let documents: Vec<Document> = (0..2_500)
        .map(|i| doc! { "_id": i, "map": { format!("key{i}"): i }, "x": 1 })
        .collect();
    assert_eq!(type_of(&documents, "map"), Some(ColumnType::Json));
}

#[test]
fn too_many_fields_at_the_root_are_rescued() {
    let documents: Vec<Document> = (0..2_100).map(|i| doc! { format!("key{i}"): i }).collect();
    let (schema, rows) = check(&documents);
    assert_eq!(schema.columns.len(), tributary_model::schema::MAX_FIELDS);
    assert_eq!(rows.iter().map(|row| row.rescued.len()).sum::<usize>(), 100);
}

#[test]
fn keys_that_are_documents_are_columns_while_they_are_alike() {
    let alike = [
        doc! { "_id": { "a": 1, "b": "x" } },
        doc! { "_id": { "a": 2, "b": "y" } },
    ];
    assert!(matches!(
        type_of(&alike, "_id"),
        Some(ColumnType::Document(_))
    ));
    let mixed = [
        doc! { "_id": { "a": 1, "b": 2 } },
        doc! { "_id": { "b": 2, "a": 1 } },
    ];
    assert_eq!(type_of(&mixed, "_id"), Some(ColumnType::Json));
    let null = [
        doc! { "_id": { "a": 1, "b": Bson::Null } },
        doc! { "_id": { "a": 1 } },
    ];
    assert_eq!(type_of(&null, "_id"), Some(ColumnType::Json));
}

#[test]
fn empty_documents_and_arrays_are_told_from_null() {
    let documents = [
        doc! { "d": {}, "a": [], "n": [Bson::Null, Bson::Null], "m": [{}, []] },
        doc! { "d": Bson::Null },
    ];
    let (schema, rows) = check(&documents);
    assert_eq!(schema.column("d").unwrap().column_type, ColumnType::Json);
    assert_eq!(rows[0].document, documents[0]);
    // And where the type shows only later, and in another partition.
    let raw = |d: &Document| d.to_vec().unwrap();
    let (mut batches, a) = decode_raw(&[raw(&documents[0])], &TableSchema::default(), 1);
    let later = doc! { "d": { "x": 1 }, "a": [1], "n": ["x"] };
    let (more, b) = decode_raw(&[raw(&later)], &TableSchema::default(), 1);
    batches.extend(more);
    let schema = a.join(&b).settled();
    let rows = self::rows(&batches, &schema);
    assert!(matches!(
        schema.column("d").unwrap().column_type,
        ColumnType::Document(_)
    ));
    assert!(matches!(
        schema.column("a").unwrap().column_type,
        ColumnType::Array(_)
    ));
    assert_kept(&documents[0], &rows[0]);
    assert_eq!(rows[0].document.get("d"), Some(&Bson::Document(doc! {})));
}

proptest! {
    /// The schema does not depend on which partition was read first.
    #[test]
    fn joining_types_is_commutative_and_associative(documents in vec(arbitrary::document(), 3)) {
        let schemas: Vec<TableSchema> = documents.iter().map(|d| decode(std::slice::from_ref(d), &TableSchema::default()).1).collect();
        let [a, b, c] = [&schemas[0], &schemas[1], &schemas[2]];
        prop_assert_eq!(sorted(&a.join(b)), sorted(&b.join(a)));
        prop_assert_eq!(sorted(&a.join(b).join(c)), sorted(&a.join(&b.join(c))));
    }
}

/// The schema with the columns of every document in the order of their names.
fn sorted(schema: &TableSchema) -> TableSchema {
    fn sort(columns: &mut [tributary_model::Column]) {
        columns.sort_by(|a, b| {
            if a.field == b.field {
                Ordering::Equal
            } else {
                a.field.cmp(&b.field)
            }
        });
        for column in columns {
            sort_inside(&mut column.column_type);
        }
    }
    fn sort_inside(column_type: &mut ColumnType) {
        match column_type {
            ColumnType::Document(columns) => sort(columns),
            ColumnType::Array(items) => sort_inside(items),
            _ => {}
        }
    }
    let mut schema = schema.clone();
    sort(&mut schema.columns);
    schema
}
