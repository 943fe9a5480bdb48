//! Columns written under an earlier schema, brought to a later one.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Float64Array, ListArray, StringArray, StructArray,
    new_null_array,
};
use arrow::datatypes::{Decimal128Type, Float64Type, Int32Type, Int64Type};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use tributary_model::TableSchema;
use tributary_model::schema::{Column, ColumnType};

use crate::arrow_schema::{self, Naming, arrow_type};
use crate::decode::ValueDecoder;
use crate::decode::scalar::double_to_decimal;
use crate::encode::{EncodeError, ValueEncoder};
use crate::extjson::{self, Mode};

/// Brings a batch written under the settled schema `from` to the settled schema `to`, which was
/// joined from it: columns are added, widened and reordered, and none is lost.
///
/// # Errors
/// A text column that should hold Extended JSON does not.
pub fn recast_batch(
    batch: &RecordBatch,
    from: &TableSchema,
    to: &TableSchema,
    naming: Naming,
) -> Result<RecordBatch, EncodeError> {
    let place: HashMap<&str, usize> = from
        .columns
        .iter()
        .enumerate()
        .map(|(i, c)| (c.field.as_str(), i))
        .collect();
    let mut columns = Vec::with_capacity(to.columns.len() + 1);
    for column in &to.columns {
        columns.push(match place.get(column.field.as_str()) {
            Some(&i) => {
                let mode = if column.field == "_id" {
                    Mode::Canonical
                } else {
                    Mode::Relaxed
                };
                let array = recast(
                    batch.column(i),
                    &from.columns[i].column_type,
                    &column.column_type,
                    mode,
                )?;
                named(&array, &column.column_type, naming)
            }
            None => new_null_array(&arrow_type(&column.column_type, naming), batch.num_rows()),
        });
    }
    columns.push(Arc::clone(batch.column(from.columns.len())));
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(
        arrow_schema::table_schema(to, naming),
        columns,
        &options,
    )?)
}

/// Brings the values of a column from one settled type to another that was joined from it. Text
/// is written in `mode`.
pub(crate) fn recast(
    array: &ArrayRef,
    from: &ColumnType,
    to: &ColumnType,
    mode: Mode,
) -> Result<ArrayRef, EncodeError> {
    use ColumnType as T;
    Ok(match (from, to) {
        (T::Int32, T::Int64 { .. }) => {
            let values = array.as_primitive::<Int32Type>();
            Arc::new(values.unary::<_, Int64Type>(i64::from))
        }
        (T::Int32, T::Double { .. }) => {
            let values = array.as_primitive::<Int32Type>();
            Arc::new(values.unary::<_, Float64Type>(f64::from))
        }
        (T::Int64 { .. }, T::Double { .. }) => {
            let values = array.as_primitive::<Int64Type>();
            Arc::new(values.unary::<_, Float64Type>(|v| v as f64))
        }
        (T::Int32 | T::Int64 { .. } | T::Double { .. } | T::Decimal(_), T::Decimal(shape)) => {
            to_decimal(array, from, shape.scale)?
        }
        (T::Document(own), T::Document(joined)) => recast_struct(array, own, joined, mode)?,
        (T::Array(own), T::Array(joined)) => {
            let list = array.as_list::<i32>();
            let items = recast(list.values(), own, joined, mode)?;
            let items = named(&items, joined, Naming::Logical);
            let field = arrow_schema::item_field(joined, Naming::Logical);
            Arc::new(ListArray::try_new(
                field,
                list.offsets().clone(),
                items,
                list.nulls().cloned(),
            )?)
        }
        (T::Json, T::Json) | (T::Special, T::Json) => Arc::clone(array),
        (_, T::Json) => to_text(array, from, mode)?,
        // An empty document or array shows no type, so it was written as text.
        (T::Json, T::Document(_) | T::Array(_)) => from_text(array, to)?,
        _ => Arc::clone(array),
    })
}

/// The array with the field names of `naming`: names alone change, no value is copied.
fn named(array: &ArrayRef, column_type: &ColumnType, naming: Naming) -> ArrayRef {
    match column_type {
        ColumnType::Document(columns) => {
            let parent = array.as_struct();
            let children = parent
                .columns()
                .iter()
                .zip(columns)
                .map(|(a, c)| named(a, &c.column_type, naming))
                .collect();
            let fields = arrow_schema::fields(columns, naming);
            Arc::new(StructArray::new(
                fields.into(),
                children,
                parent.nulls().cloned(),
            ))
        }
        ColumnType::Array(items) => {
            let list = array.as_list::<i32>();
            let values = named(list.values(), items, naming);
            let field = arrow_schema::item_field(items, naming);
            Arc::new(ListArray::new(
                field,
                list.offsets().clone(),
                values,
                list.nulls().cloned(),
            ))
        }
        _ => Arc::clone(array),
    }
}

fn recast_struct(
    array: &ArrayRef,
    own: &[Column],
    joined: &[Column],
    mode: Mode,
) -> Result<ArrayRef, EncodeError> {
    let parent = array.as_struct();
    let place: HashMap<&str, usize> = own
        .iter()
        .enumerate()
        .map(|(i, c)| (c.field.as_str(), i))
        .collect();
    let mut children = Vec::with_capacity(joined.len());
    for column in joined {
        children.push(match place.get(column.field.as_str()) {
            Some(&i) => {
                let child = recast(
                    parent.column(i),
                    &own[i].column_type,
                    &column.column_type,
                    mode,
                )?;
                named(&child, &column.column_type, Naming::Logical)
            }
            None => new_null_array(
                &arrow_type(&column.column_type, Naming::Logical),
                parent.len(),
            ),
        });
    }
    let fields = arrow_schema::fields(joined, Naming::Logical);
    Ok(Arc::new(StructArray::try_new(
        fields.into(),
        children,
        parent.nulls().cloned(),
    )?))
}

fn to_decimal(array: &ArrayRef, from: &ColumnType, scale: u8) -> Result<ArrayRef, EncodeError> {
    let power = 10i128.pow(u32::from(scale));
    // Values that do not fit would have made the joined type text.
    let lost = || EncodeError::new("a number does not fit the decimal column it was joined into");
    let values: Decimal128Array = match from {
        ColumnType::Int32 => array
            .as_primitive::<Int32Type>()
            .unary(|v| i128::from(v) * power),
        ColumnType::Int64 { .. } => array
            .as_primitive::<Int64Type>()
            .unary(|v| i128::from(v) * power),
        ColumnType::Double { .. } => {
            let doubles: &Float64Array = array.as_primitive::<Float64Type>();
            doubles.try_unary(|v| double_to_decimal(v, scale).ok_or_else(lost))?
        }
        ColumnType::Decimal(own) => {
            let power = 10i128.pow(u32::from(scale.checked_sub(own.scale).ok_or_else(lost)?));
            array
                .as_primitive::<Decimal128Type>()
                .try_unary(|v| v.checked_mul(power).ok_or_else(lost))?
        }
        _ => return Err(lost()),
    };
    let shape = tributary_model::DecimalShape { integer: 0, scale };
    Ok(Arc::new(
        values.with_data_type(arrow_schema::decimal_type(shape)),
    ))
}

/// The values of a column as relaxed Extended JSON text.
///
/// # Errors
/// The array is not of the type said.
pub fn array_to_text(array: &ArrayRef, column_type: &ColumnType) -> Result<ArrayRef, EncodeError> {
    to_text(array, column_type, Mode::Relaxed)
}

fn to_text(array: &ArrayRef, from: &ColumnType, mode: Mode) -> Result<ArrayRef, EncodeError> {
    let encoder = ValueEncoder::new(from, array)?;
    let mut texts = arrow::array::StringBuilder::with_capacity(array.len(), array.len() * 16);
    let mut value = Vec::new();
    let mut text = Vec::new();
    for row in 0..array.len() {
        text.clear();
        if encoder.text(row, mode, &mut value, &mut text)? {
            let text = std::str::from_utf8(&text);
            texts.append_value(text.map_err(|_| EncodeError::new("invalid UTF-8"))?);
        } else {
            texts.append_null();
        }
    }
    Ok(Arc::new(texts.finish()))
}

fn from_text(array: &ArrayRef, to: &ColumnType) -> Result<ArrayRef, EncodeError> {
    let texts: &StringArray = array.as_string();
    let mut decoder = ValueDecoder::new(to);
    for text in texts {
        match text {
            Some(text) => {
                let parsed = extjson::parse_value(text)?;
                decoder.append(parsed.kind, &parsed.value)?;
            }
            None => decoder.append_null(),
        }
    }
    let (own, array) = decoder.finish();
    if own == *to {
        Ok(array)
    } else {
        recast(&array, &own, to, Mode::Relaxed)
    }
}
