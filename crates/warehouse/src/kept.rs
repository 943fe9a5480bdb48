//! Rows of one schema as those of another, which a table keeps.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use bson::{Bson, Document};
use serde_json::Value;
use tributary_convert::Decoder;
use tributary_convert::arrow_schema::Naming;
use tributary_convert::encode::{EncodeError, Encoder};
use tributary_model::{ColumnType, TableSchema};

use crate::rescue;

/// Brings rows to a schema that has not all of their columns: what it does not hold goes to
/// `_rescued_data`.
pub(crate) struct Keeping {
    from: TableSchema,
    to: TableSchema,
    decoder: Decoder,
    document: Vec<u8>,
}

impl Keeping {
    /// From rows of the settled schema `from` to those of `to`.
    pub(crate) fn new(from: &TableSchema, to: &TableSchema) -> Self {
        Self {
            from: from.clone(),
            to: to.clone(),
            decoder: Decoder::keeping(to),
            document: Vec::new(),
        }
    }

    /// The rows of a batch.
    pub(crate) fn batch(&mut self, batch: &RecordBatch) -> Result<RecordBatch, EncodeError> {
        let encoder = Encoder::new(&self.from, batch)?;
        for row in 0..batch.num_rows() {
            self.document.clear();
            encoder.document(row, &mut self.document)?;
            let unreadable = |error: bson::error::Error| EncodeError::new(error.to_string());
            let mut document: Document =
                bson::deserialize_from_slice(&self.document).map_err(unreadable)?;
            for column in &self.to.columns {
                if let Some(value) = document.get_mut(&column.field) {
                    narrow(value, &column.column_type);
                }
            }
            let document = bson::serialize_to_vec(&document).map_err(unreadable)?;
            self.decoder.append(&document)?;
        }
        let decoded = self.decoder.finish(Naming::Logical)?;
        let earlier = batch.columns().get(self.from.columns.len());
        let earlier = earlier.and_then(|array| array.as_string_opt::<i32>());
        let earlier =
            earlier.ok_or_else(|| EncodeError::new("a batch has no column `_rescued_data`"))?;
        let last = decoded.batch.num_columns() - 1;
        let here = decoded.batch.column(last).as_string::<i32>().clone();
        let mut columns: Vec<ArrayRef> = decoded.batch.columns().to_vec();
        columns[last] = Arc::new(joined(earlier, &here)?);
        Ok(RecordBatch::try_new(decoded.batch.schema(), columns)?)
    }
}

/// Makes numbers what they were before their column in the lake became wider, as far as the type that
/// is kept holds them: what is a 4 there is not to be rescued as 4.0.
fn narrow(value: &mut Bson, kept: &ColumnType) {
    match (&mut *value, kept) {
        (Bson::Document(document), ColumnType::Document(columns)) => {
            for column in columns {
                if let Some(value) = document.get_mut(&column.field) {
                    narrow(value, &column.column_type);
                }
            }
        }
        (Bson::Array(items), ColumnType::Array(kept)) => {
            items.iter_mut().for_each(|item| narrow(item, kept));
        }
        (_, ColumnType::Int32 | ColumnType::Int64 { .. }) => {
            if let Some(whole) = whole(value) {
                *value = match (kept, i32::try_from(whole)) {
                    (ColumnType::Int32, Ok(whole)) => Bson::Int32(whole),
                    _ => Bson::Int64(whole),
                };
            }
        }
        (Bson::Decimal128(decimal), ColumnType::Double { .. }) => {
            let text = decimal.to_string();
            let double = text.parse::<f64>().ok();
            if let Some(double) = double.filter(|double| double.to_string() == text) {
                *value = Bson::Double(double);
            }
        }
        _ => {}
    }
}

/// A number that is whole, as such.
fn whole(value: &Bson) -> Option<i64> {
    /// From here on, not every whole number is a double.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        Bson::Double(number) if number.fract() == 0.0 && number.abs() <= EXACT => {
            Some(*number as i64)
        }
        Bson::Decimal128(decimal) => {
            let text = decimal.to_string();
            let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
            let is_whole = fraction.bytes().all(|digit| digit == b'0');
            is_whole.then(|| whole.parse().ok()).flatten()
        }
        _ => None,
    }
}

/// What was rescued before and what is rescued now.
fn joined(earlier: &StringArray, here: &StringArray) -> Result<StringArray, EncodeError> {
    let text = |array: &StringArray, row| array.is_valid(row).then(|| array.value(row).to_owned());
    (0..earlier.len())
        .map(|row| match (text(earlier, row), text(here, row)) {
            (Some(earlier), Some(here)) => {
                let mut entries = rescue::entries(Some(&earlier))?;
                entries.append(&mut rescue::entries(Some(&here))?);
                Ok(Some(Value::Array(entries).to_string()))
            }
            (earlier, here) => Ok(earlier.or(here)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use tributary_model::Column;

    use super::*;

    #[test]
    fn numbers_are_what_they_were_where_that_is_exact() {
        let narrowed = |value: Bson, kept: &ColumnType| {
            let mut value = value;
            narrow(&mut value, kept);
            value
        };
        let decimal = |text: &str| Bson::Decimal128(text.parse().unwrap());
        let (int, long) = (ColumnType::Int32, ColumnType::Int64 { exact: true });
        let double = ColumnType::Double { decimal: None };
        assert_eq!(narrowed(Bson::Double(4.0), &int), Bson::Int32(4));
        assert_eq!(narrowed(Bson::Double(4.5), &int), Bson::Double(4.5));
        assert_eq!(
            narrowed(Bson::Double(-3e9), &int),
            Bson::Int64(-3_000_000_000)
        );
        assert_eq!(narrowed(Bson::Double(1e300), &long), Bson::Double(1e300));
        assert_eq!(narrowed(decimal("12.00"), &long), Bson::Int64(12));
        assert_eq!(narrowed(decimal("12.01"), &long), decimal("12.01"));
        assert_eq!(narrowed(decimal("0.25"), &double), Bson::Double(0.25));
        assert_eq!(
            narrowed(Bson::String("4".into()), &int),
            Bson::String("4".into())
        );
    }

    #[test]
    fn what_the_kept_schema_does_not_hold_is_rescued_and_the_rest_is_what_it_was() {
        let mut decoder = Decoder::default();
        for document in [
            bson::doc! { "_id": 1, "n": 1, "in": { "a": 1 } },
            bson::doc! { "_id": 2, "n": "two", "in": { "a": 2, "b": true }, "new": 1.5 },
        ] {
            decoder
                .append(&bson::serialize_to_vec(&document).unwrap())
                .unwrap();
        }
        let decoded = decoder.finish(Naming::Logical).unwrap();
        let inner = ColumnType::Document(vec![Column::new("a", ColumnType::Int32)]);
        let kept = TableSchema {
            columns: vec![
                Column::new("_id", ColumnType::Int32),
                Column::new("n", ColumnType::Int32),
                Column::new("in", inner),
            ],
        };
        let rows = Keeping::new(&decoded.schema, &kept)
            .batch(&decoded.batch)
            .unwrap();
        assert_eq!(rows.num_columns(), 4);
        let n = rows.column(1).as_primitive::<arrow::datatypes::Int32Type>();
        assert_eq!((n.value(0), n.is_null(1)), (1, true));
        let rescued = rows.column(3).as_string::<i32>();
        assert!(rescued.is_null(0));
        let entries = rescue::entries(Some(rescued.value(1))).unwrap();
        let mut paths: Vec<&str> = entries
            .iter()
            .map(|e| e["path"].as_str().unwrap())
            .collect();
        paths.sort_unstable();
        assert_eq!(paths, ["/in/b", "/n", "/new"]);
    }
}
