//! Rows of the lake as the Parquet files that Redshift copies have them.
//!
//! Most columns are the lake's own arrays. JSON is made of nested ones, and what a column cannot
//! hold goes to `_rescued_data`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, ListBuilder, RecordBatch, StringArray,
    StringBuilder, StructBuilder, TimestampMicrosecondArray,
};
use arrow::compute::nullif;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimestampMicrosecondType};
use serde_json::Value;
use tributary_convert::encode::{EncodeError, ValueEncoder};
use tributary_convert::extjson::Mode;
use tributary_model::TableSchema;
use tributary_model::schema::RESCUED_COLUMN;

use super::ledger::cut;
use super::types::{MAX_BINARY, MAX_TEXT, RsType};
use super::{GONE, MAX_JSON};
use crate::columns::{Column, KEY, columns_of};
use crate::rescue::{self, Fit, JsonLimits};

/// What a column of the type `super` holds that is parsed from text.
const LIMITS: JsonLimits = JsonLimits {
    text_bytes: MAX_TEXT,
    bytes: MAX_JSON,
};

/// Makes rows into those of staged files, and sees how large their values are.
pub(super) struct Shaper {
    schema: TableSchema,
    /// The columns of the fields; none for a field that has no column, all of which is rescued.
    columns: Vec<Option<Column<RsType>>>,
    staged: SchemaRef,
    /// The most bytes of a value, for each field.
    pub(super) widths: Vec<usize>,
    pub(super) rescued: u64,
}

/// What is rescued of a batch, for each row.
type RescuedRows = BTreeMap<usize, Vec<Value>>;

impl Shaper {
    pub(super) fn new(schema: &TableSchema, columns: &[Column<RsType>]) -> Self {
        let columns: Vec<Option<Column<RsType>>> = columns_of(columns, schema)
            .into_iter()
            .map(Option::<&Column<RsType>>::cloned)
            .collect();
        let staged = columns.iter().flatten();
        let mut fields: Vec<Field> = staged
            .map(|column| Field::new(&column.name, arrow_type(column.sql_type), true))
            .collect();
        fields.push(Field::new(RESCUED_COLUMN, rescued_type(), true));
        fields.push(Field::new(GONE, DataType::Boolean, true));
        Self {
            widths: vec![0; columns.len()],
            schema: schema.clone(),
            columns,
            staged: Arc::new(Schema::new(fields)),
            rescued: 0,
        }
    }

    /// The schema of the files.
    pub(super) fn staged(&self) -> SchemaRef {
        Arc::clone(&self.staged)
    }

    /// The columns that the files have, without the last two.
    pub(super) fn staged_columns(&self) -> Vec<Column<RsType>> {
        self.columns.iter().flatten().cloned().collect()
    }

    /// Rows as they are staged.
    ///
    /// # Errors
    /// They are not of the schema, or have no key.
    pub(super) fn shape(
        &mut self,
        batch: &RecordBatch,
        gone: bool,
    ) -> Result<RecordBatch, EncodeError> {
        let mut rescued = RescuedRows::new();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.staged.fields().len());
        for (place, (field, array)) in self.schema.columns.iter().zip(batch.columns()).enumerate() {
            let column = Values {
                field: &field.field,
                array,
                encoder: ValueEncoder::new(&field.column_type, array)?,
            };
            let Some(sql_type) = self.columns[place].as_ref().map(|column| column.sql_type) else {
                column.rescue(0..array.len(), &mut rescued)?;
                continue;
            };
            let width = &mut self.widths[place];
            let shaped = match sql_type {
                RsType::Varchar(_) if field.column_type.is_nested() => {
                    column.key(width, &mut rescued)?
                }
                RsType::Char(_) | RsType::Varchar(_) => column.text(width, &mut rescued)?,
                RsType::Varbyte(_) => column.binary(width, &mut rescued)?,
                RsType::Timestamp => column.moments(&mut rescued)?,
                RsType::Super => column.json(&mut rescued)?,
                _ => Arc::clone(array),
            };
            if field.field == KEY && shaped.null_count() > 0 {
                return Err(EncodeError::new(
                    "a row has no key, or one that Redshift has no room for",
                ));
            }
            arrays.push(shaped);
        }
        let earlier = batch.columns().get(self.schema.columns.len());
        let earlier = earlier.and_then(|array| array.as_string_opt::<i32>());
        let earlier =
            earlier.ok_or_else(|| EncodeError::new("a batch has no column `_rescued_data`"))?;
        self.rescued += rescued
            .values()
            .map(|values| values.len() as u64)
            .sum::<u64>();
        arrays.push(rescued_rows(earlier, &rescued)?);
        arrays.push(Arc::new(BooleanArray::from(vec![gone; batch.num_rows()])));
        Ok(RecordBatch::try_new(self.staged(), arrays)?)
    }
}

/// The values of one column.
struct Values<'a> {
    field: &'a str,
    array: &'a ArrayRef,
    encoder: ValueEncoder<'a>,
}

impl Values<'_> {
    fn wrong(&self) -> EncodeError {
        EncodeError::new(format!(
            "the column of {} is of type {}",
            self.field,
            self.array.data_type()
        ))
    }

    /// Puts values into `rescued`.
    fn rescue(
        &self,
        rows: impl IntoIterator<Item = usize>,
        rescued: &mut RescuedRows,
    ) -> Result<(), EncodeError> {
        let (mut value, mut text) = (Vec::new(), Vec::new());
        for row in rows {
            if self.array.is_valid(row) {
                let entry = rescue::value(&self.encoder, self.field, row, &mut value, &mut text)?;
                rescued.entry(row).or_default().push(entry);
            }
        }
        Ok(())
    }

    /// The array without the values of `unfit` rows, which are rescued.
    fn without(&self, unfit: &[usize], rescued: &mut RescuedRows) -> Result<ArrayRef, EncodeError> {
        if unfit.is_empty() {
            return Ok(Arc::clone(self.array));
        }
        self.rescue(unfit.iter().copied(), rescued)?;
        let mut mask = vec![false; self.array.len()];
        for row in unfit {
            mask[*row] = true;
        }
        Ok(nullif(self.array, &BooleanArray::from(mask))?)
    }

    fn text(&self, width: &mut usize, rescued: &mut RescuedRows) -> Result<ArrayRef, EncodeError> {
        let array: &StringArray = self.array.as_string_opt().ok_or_else(|| self.wrong())?;
        let mut unfit = Vec::new();
        for (row, text) in array.iter().enumerate() {
            let Some(text) = text else { continue };
            if text.len() > MAX_TEXT || !rescue::is_text(text.as_bytes()) {
                unfit.push(row);
            } else {
                *width = (*width).max(text.len());
            }
        }
        self.without(&unfit, rescued)
    }

    fn binary(
        &self,
        width: &mut usize,
        rescued: &mut RescuedRows,
    ) -> Result<ArrayRef, EncodeError> {
        let array = self
            .array
            .as_binary_opt::<i32>()
            .ok_or_else(|| self.wrong())?;
        let mut unfit = Vec::new();
        for (row, bytes) in array.iter().enumerate() {
            let Some(bytes) = bytes else { continue };
            if bytes.len() > MAX_BINARY {
                unfit.push(row);
            } else {
                *width = (*width).max(bytes.len());
            }
        }
        self.without(&unfit, rescued)
    }

    /// Moments without their time zone, which is UTC.
    fn moments(&self, rescued: &mut RescuedRows) -> Result<ArrayRef, EncodeError> {
        let array: &TimestampMicrosecondArray = self
            .array
            .as_primitive_opt::<TimestampMicrosecondType>()
            .ok_or_else(|| self.wrong())?;
        let unfit: Vec<usize> = array
            .iter()
            .enumerate()
            .filter(|(_, at)| at.is_some_and(|at| rescue::moment(at).is_none()))
            .map(|(row, _)| row)
            .collect();
        let array = self.without(&unfit, rescued)?;
        let array = array.as_primitive::<TimestampMicrosecondType>().clone();
        Ok(Arc::new(array.with_timezone_opt(None::<Arc<str>>)))
    }

    /// A key that is a document or an array, as canonical Extended JSON.
    fn key(&self, width: &mut usize, rescued: &mut RescuedRows) -> Result<ArrayRef, EncodeError> {
        let mut keys = StringBuilder::new();
        let (mut value, mut text) = (Vec::new(), Vec::new());
        for row in 0..self.array.len() {
            text.clear();
            let is_there = self
                .encoder
                .text(row, Mode::Canonical, &mut value, &mut text)?;
            let key =
                std::str::from_utf8(&text).map_err(|_| EncodeError::new("a key is not UTF-8"))?;
            if is_there && key.len() <= MAX_TEXT {
                *width = (*width).max(key.len());
                keys.append_value(key);
            } else {
                self.rescue([row], rescued)?;
                keys.append_null();
            }
        }
        Ok(Arc::new(keys.finish()))
    }

    fn json(&self, rescued: &mut RescuedRows) -> Result<ArrayRef, EncodeError> {
        let mut json = BinaryBuilder::new();
        let (mut value, mut text) = (Vec::new(), Vec::new());
        for row in 0..self.array.len() {
            text.clear();
            let is_there = self
                .encoder
                .text(row, Mode::Relaxed, &mut value, &mut text)?;
            if !is_there {
                json.append_null();
                continue;
            }
            let mut parts = Vec::new();
            match LIMITS.fit(&text, self.field, &mut parts)? {
                Fit::AsIs => json.append_value(&text),
                Fit::Changed(text) => json.append_value(text),
                Fit::Not => {
                    self.rescue([row], rescued)?;
                    json.append_null();
                }
            }
            if !parts.is_empty() {
                rescued.entry(row).or_default().append(&mut parts);
            }
        }
        Ok(Arc::new(json.finish()))
    }
}

/// `_rescued_data`: what the lake had rescued, and what is rescued here. The values are canonical
/// Extended JSON as text, in parts where that is longer than a text may be.
fn rescued_rows(earlier: &StringArray, more: &RescuedRows) -> Result<ArrayRef, EncodeError> {
    let DataType::List(item) = rescued_type() else {
        return Err(EncodeError::new("`_rescued_data` is no list"));
    };
    let DataType::Struct(fields) = item.data_type() else {
        return Err(EncodeError::new("`_rescued_data` is no list of structs"));
    };
    let entries = StructBuilder::from_fields(fields.clone(), 0);
    let mut rows = ListBuilder::new(entries).with_field(Arc::clone(&item));
    for row in 0..earlier.len() {
        let text = earlier.is_valid(row).then(|| earlier.value(row));
        let of_lake = rescue::entries(text)?;
        let here = more.get(&row).map(Vec::as_slice).unwrap_or_default();
        for entry in of_lake.iter().chain(here) {
            append(rows.values(), entry)?;
        }
        rows.append(text.is_some() || !here.is_empty());
    }
    Ok(Arc::new(rows.finish()))
}

fn append(entries: &mut StructBuilder, entry: &Value) -> Result<(), EncodeError> {
    let wrong = || EncodeError::new("an entry of `_rescued_data` is not laid out as such");
    let path = entry["path"].as_str().ok_or_else(wrong)?;
    // The paths of fields whose names are that long are no paths that anybody could follow.
    let path = cut(path, MAX_TEXT).next().unwrap_or_default();
    let value = entry["value"].to_string();
    let paths = entries
        .field_builder::<StringBuilder>(0)
        .ok_or_else(wrong)?;
    paths.append_value(path);
    let whole = value.len() <= MAX_TEXT;
    let values = entries
        .field_builder::<StringBuilder>(1)
        .ok_or_else(wrong)?;
    values.append_option(whole.then_some(&value));
    let parts = entries
        .field_builder::<ListBuilder<Box<dyn arrow::array::ArrayBuilder>>>(2)
        .ok_or_else(wrong)?;
    if !whole {
        let texts = parts.values().as_any_mut();
        let texts = texts.downcast_mut::<StringBuilder>().ok_or_else(wrong)?;
        for part in cut(&value, MAX_TEXT) {
            texts.append_value(part);
        }
    }
    parts.append(!whole);
    entries.append(true);
    Ok(())
}

fn rescued_type() -> DataType {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let parts = DataType::List(Arc::new(text("item")));
    let entry = Fields::from(vec![
        text("path"),
        text("value"),
        Field::new("parts", parts, true),
    ]);
    DataType::List(Arc::new(Field::new("item", DataType::Struct(entry), true)))
}

fn arrow_type(sql_type: RsType) -> DataType {
    match sql_type {
        RsType::Boolean => DataType::Boolean,
        RsType::Integer => DataType::Int32,
        RsType::Bigint => DataType::Int64,
        RsType::Double => DataType::Float64,
        RsType::Numeric(scale) => DataType::Decimal128(38, scale as i8),
        RsType::Char(_) | RsType::Varchar(_) => DataType::Utf8,
        RsType::Timestamp => DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None),
        RsType::Varbyte(_) | RsType::Super => DataType::Binary,
    }
}
