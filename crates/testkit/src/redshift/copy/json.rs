//! Values of Parquet as JSON, for columns of type `SUPER`.

use arrow::{
    array::{Array, AsArray},
    datatypes::{
        DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
        Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
    util::display::array_value_to_string,
};

use super::rows::wall_clock;

/// The longest string in a value, in bytes.
const LONGEST_STRING: usize = 65_535;

/// The longest value, in bytes.
const LONGEST_VALUE: usize = 16 << 20;

/// Whether a type holds others.
pub(super) fn is_nested(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Struct(_)
            | DataType::List(_)
            | DataType::LargeList(_)
            | DataType::FixedSizeList(..)
            | DataType::Map(..)
    )
}

/// A value as JSON; what keeps it from being one is said.
pub(super) fn written(array: &dyn Array, row: usize) -> Result<String, String> {
    let mut text = String::new();
    write(array, row, &mut text)?;
    if text.len() > LONGEST_VALUE {
        return Err(format!(
            "the value has {} bytes, more than the {LONGEST_VALUE} that SUPER holds",
            text.len()
        ));
    }
    Ok(text)
}

fn write(array: &dyn Array, row: usize, text: &mut String) -> Result<(), String> {
    if array.is_null(row) {
        text.push_str("null");
        return Ok(());
    }
    match array.data_type() {
        DataType::Null => text.push_str("null"),
        DataType::Boolean => text.push_str(&array.as_boolean().value(row).to_string()),
        DataType::Int8 => text.push_str(&array.as_primitive::<Int8Type>().value(row).to_string()),
        DataType::Int16 => text.push_str(&array.as_primitive::<Int16Type>().value(row).to_string()),
        DataType::Int32 => text.push_str(&array.as_primitive::<Int32Type>().value(row).to_string()),
        DataType::Int64 => text.push_str(&array.as_primitive::<Int64Type>().value(row).to_string()),
        DataType::UInt8 => text.push_str(&array.as_primitive::<UInt8Type>().value(row).to_string()),
        DataType::UInt16 => {
            text.push_str(&array.as_primitive::<UInt16Type>().value(row).to_string())
        }
        DataType::UInt32 => {
            text.push_str(&array.as_primitive::<UInt32Type>().value(row).to_string())
        }
        DataType::UInt64 => {
            text.push_str(&array.as_primitive::<UInt64Type>().value(row).to_string())
        }
        DataType::Float32 => float(array.as_primitive::<Float32Type>().value(row).into(), text)?,
        DataType::Float64 => float(array.as_primitive::<Float64Type>().value(row), text)?,
        DataType::Decimal128(..) => {
            text.push_str(&array.as_primitive::<Decimal128Type>().value_as_string(row));
        }
        DataType::Utf8 => string(array.as_string::<i32>().value(row), text)?,
        DataType::Date32 => {
            let date = array_value_to_string(array, row).map_err(|error| error.to_string())?;
            string(&date, text)?;
        }
        DataType::Timestamp(..) => string(&wall_clock(array, row)?, text)?,
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            text.push('{');
            for (at, (field, column)) in fields.iter().zip(columns).enumerate() {
                separate(at, text);
                string(field.name(), text)?;
                text.push(':');
                write(column, row, text)?;
            }
            text.push('}');
        }
        DataType::List(_) => {
            let values = array.as_list::<i32>().value(row);
            text.push('[');
            for at in 0..values.len() {
                separate(at, text);
                write(&values, at, text)?;
            }
            text.push(']');
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            text.push('{');
            for at in 0..entries.len() {
                separate(at, text);
                let key = array_value_to_string(keys, at).map_err(|error| error.to_string())?;
                string(&key, text)?;
                text.push(':');
                write(values, at, text)?;
            }
            text.push('}');
        }
        other => return Err(format!("a value of type {other} cannot be one of SUPER")),
    }
    Ok(())
}

fn separate(at: usize, text: &mut String) {
    if at > 0 {
        text.push(',');
    }
}

fn float(value: f64, text: &mut String) -> Result<(), String> {
    if !value.is_finite() {
        return Err(format!("{value} is no number of JSON"));
    }
    text.push_str(&value.to_string());
    Ok(())
}

fn string(value: &str, text: &mut String) -> Result<(), String> {
    if value.len() > LONGEST_STRING {
        return Err(format!(
            "a string has {} bytes, more than the {LONGEST_STRING} that one in SUPER may have",
            value.len()
        ));
    }
    text.push_str(&serde_json::Value::from(value).to_string());
    Ok(())
}
