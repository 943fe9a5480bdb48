//! Rows of a table back into BSON documents.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int32Array,
    Int64Array, ListArray, StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use tributary_model::TableSchema;
use tributary_model::schema::ColumnType;

use crate::extjson::{self, ExtJsonError, Mode};
use crate::raw::{MalformedBson, RawElement, kind};

/// A row that cannot be made a document.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct EncodeError {
    what: String,
}

impl EncodeError {
    /// One that says what is wrong.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}

impl From<ExtJsonError> for EncodeError {
    fn from(error: ExtJsonError) -> Self {
        Self::new(format!(
            "a column holds text that is not Extended JSON: {error}"
        ))
    }
}

impl From<MalformedBson> for EncodeError {
    fn from(error: MalformedBson) -> Self {
        Self::new(error.to_string())
    }
}

impl From<ArrowError> for EncodeError {
    fn from(error: ArrowError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<EncodeError> for ArrowError {
    fn from(error: EncodeError) -> Self {
        Self::ComputeError(error.what)
    }
}

/// Makes documents of the rows of one batch.
///
/// A null column is a missing field. Values in `_rescued_data` are not put back.
pub struct Encoder<'a> {
    columns: Vec<(&'a str, ValueEncoder<'a>)>,
}

impl<'a> Encoder<'a> {
    /// An encoder for the rows of `batch`, whose first columns are those of the settled `schema`
    /// in their order.
    ///
    /// # Errors
    /// A column of the batch is not of the type the schema says.
    pub fn new(schema: &'a TableSchema, batch: &'a RecordBatch) -> Result<Self, EncodeError> {
        let columns = schema
            .columns
            .iter()
            .zip(batch.columns())
            .map(|(column, array)| {
                Ok((
                    column.field.as_str(),
                    ValueEncoder::new(&column.column_type, array)?,
                ))
            })
            .collect::<Result<_, EncodeError>>()?;
        Ok(Self { columns })
    }

    /// Appends the document of `row` to `out`.
    ///
    /// # Errors
    /// A text column that should hold Extended JSON does not.
    pub fn document(&self, row: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write_fields(&self.columns, row, out)
    }
}

fn write_fields(
    columns: &[(&str, ValueEncoder<'_>)],
    row: usize,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let start = begin(out);
    for (field, encoder) in columns {
        write_element(encoder, row, field.as_bytes(), out)?;
    }
    end(start, out)
}

/// Writes an element, and tells whether there was a value.
fn write_element(
    encoder: &ValueEncoder<'_>,
    row: usize,
    name: &[u8],
    out: &mut Vec<u8>,
) -> Result<bool, EncodeError> {
    let at = out.len();
    out.push(0);
    out.extend_from_slice(name);
    out.push(0);
    match encoder.value(row, out)? {
        Some(kind) => {
            out[at] = kind;
            Ok(true)
        }
        None => {
            out.truncate(at);
            Ok(false)
        }
    }
}

fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    start
}

fn end(start: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.push(0);
    let length = i32::try_from(out.len() - start)
        .map_err(|_| EncodeError::new("a document is over 2 GiB"))?;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// One column bound to its array.
pub struct ValueEncoder<'a> {
    nulls: Option<&'a NullBuffer>,
    values: Values<'a>,
}

enum Values<'a> {
    Nothing,
    Bool(&'a BooleanArray),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    Double(&'a Float64Array),
    Decimal(&'a Decimal128Array, u8),
    String(&'a StringArray),
    ObjectId(&'a StringArray),
    Uuid(&'a StringArray),
    Json(&'a StringArray),
    Date(&'a TimestampMicrosecondArray),
    Binary(&'a BinaryArray, u8),
    Document(Vec<(&'a str, ValueEncoder<'a>)>),
    Array(&'a ListArray, Box<ValueEncoder<'a>>),
}

impl<'a> ValueEncoder<'a> {
    /// An encoder for the values of `array`, which are of the settled type `column_type`.
    ///
    /// # Errors
    /// They are not.
    pub fn new(column_type: &'a ColumnType, array: &'a ArrayRef) -> Result<Self, EncodeError> {
        let wrong = || {
            EncodeError::new(format!(
                "a column of type {} does not hold {column_type:?}",
                array.data_type()
            ))
        };
        let text = || array.as_string_opt::<i32>().ok_or_else(wrong);
        let values = match column_type {
            ColumnType::Unknown => Values::Nothing,
            ColumnType::Bool => Values::Bool(array.as_boolean_opt().ok_or_else(wrong)?),
            ColumnType::Int32 => {
                Values::Int32(array.as_primitive_opt::<Int32Type>().ok_or_else(wrong)?)
            }
            ColumnType::Int64 { .. } => {
                Values::Int64(array.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?)
            }
            ColumnType::Double { .. } => {
                Values::Double(array.as_primitive_opt::<Float64Type>().ok_or_else(wrong)?)
            }
            ColumnType::Decimal(shape) => Values::Decimal(
                array
                    .as_primitive_opt::<Decimal128Type>()
                    .ok_or_else(wrong)?,
                shape.scale,
            ),
            ColumnType::String => Values::String(text()?),
            ColumnType::ObjectId => Values::ObjectId(text()?),
            ColumnType::Uuid => Values::Uuid(text()?),
            ColumnType::Json | ColumnType::Special => Values::Json(text()?),
            ColumnType::Date => Values::Date(
                array
                    .as_primitive_opt::<TimestampMicrosecondType>()
                    .ok_or_else(wrong)?,
            ),
            ColumnType::Binary { subtype } => {
                Values::Binary(array.as_binary_opt::<i32>().ok_or_else(wrong)?, *subtype)
            }
            ColumnType::Document(columns) => {
                let parent = array.as_struct_opt().ok_or_else(wrong)?;
                let children = columns
                    .iter()
                    .zip(parent.columns())
                    .map(|(c, a)| Ok((c.field.as_str(), ValueEncoder::new(&c.column_type, a)?)))
                    .collect::<Result<_, EncodeError>>()?;
                Values::Document(children)
            }
            ColumnType::Array(items) => {
                let list = array.as_list_opt::<i32>().ok_or_else(wrong)?;
                Values::Array(list, Box::new(ValueEncoder::new(items, list.values())?))
            }
        };
        Ok(Self {
            nulls: array.nulls(),
            values,
        })
    }

    /// Appends the value of `row` to `out` as Extended JSON; false, and nothing is appended, for
    /// null. `value` is room to work in.
    ///
    /// # Errors
    /// A text column that should hold Extended JSON does not.
    pub fn text(
        &self,
        row: usize,
        mode: Mode,
        value: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<bool, EncodeError> {
        value.clear();
        let Some(kind) = self.value(row, value)? else {
            return Ok(false);
        };
        let name = b"";
        extjson::write_value(out, &RawElement { kind, name, value }, mode)?;
        Ok(true)
    }

    /// Appends the bytes of the value of `row` to `out`, and tells its BSON type; none for null.
    pub(crate) fn value(&self, row: usize, out: &mut Vec<u8>) -> Result<Option<u8>, EncodeError> {
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            return Ok(None);
        }
        Ok(Some(match &self.values {
            Values::Nothing => return Ok(None),
            Values::Bool(array) => {
                out.push(u8::from(array.value(row)));
                kind::BOOL
            }
            Values::Int32(array) => {
                out.extend_from_slice(&array.value(row).to_le_bytes());
                kind::INT32
            }
            Values::Int64(array) => {
                out.extend_from_slice(&array.value(row).to_le_bytes());
                kind::INT64
            }
            Values::Double(array) => {
                out.extend_from_slice(&array.value(row).to_le_bytes());
                kind::DOUBLE
            }
            Values::Decimal(array, scale) => {
                out.extend_from_slice(&decimal128(array.value(row), *scale)?);
                kind::DECIMAL128
            }
            Values::String(array) => {
                write_string(array.value(row), out)?;
                kind::STRING
            }
            Values::ObjectId(array) => {
                let mut id = [0; 12];
                hex::decode_to_slice(array.value(row), &mut id).map_err(|_| {
                    EncodeError::new(
                        "an objectId column holds text that is not 24 hexadecimal digits",
                    )
                })?;
                out.extend_from_slice(&id);
                kind::OBJECT_ID
            }
            Values::Uuid(array) => {
                let mut id = [0; 16];
                hex::decode_to_slice(array.value(row).replace('-', ""), &mut id)
                    .map_err(|_| EncodeError::new("a UUID column holds text that is not a UUID"))?;
                write_binary(4, &id, out)?;
                kind::BINARY
            }
            Values::Json(array) => {
                let parsed = extjson::parse_value(array.value(row))?;
                out.extend_from_slice(&parsed.value);
                parsed.kind
            }
            Values::Date(array) => {
                out.extend_from_slice(&array.value(row).div_euclid(1000).to_le_bytes());
                kind::DATE
            }
            Values::Binary(array, subtype) => {
                write_binary(*subtype, array.value(row), out)?;
                kind::BINARY
            }
            Values::Document(children) => {
                write_fields(children, row, out)?;
                kind::DOCUMENT
            }
            Values::Array(list, items) => {
                let start = begin(out);
                let offsets = list.value_offsets();
                let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
                for (index, item) in (from..to).enumerate() {
                    let name = index.to_string();
                    if !write_element(items, item, name.as_bytes(), out)? {
                        out.push(kind::NULL);
                        out.extend_from_slice(name.as_bytes());
                        out.push(0);
                    }
                }
                end(start, out)?;
                kind::ARRAY
            }
        }))
    }
}

fn write_string(value: &str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let length =
        i32::try_from(value.len() + 1).map_err(|_| EncodeError::new("a string is over 2 GiB"))?;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(value.as_bytes());
    out.push(0);
    Ok(())
}

fn write_binary(subtype: u8, value: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let length =
        i32::try_from(value.len()).map_err(|_| EncodeError::new("a binary value is over 2 GiB"))?;
    // The old subtype 2 repeats the length inside.
    let inner = if subtype == 2 { 4 } else { 0 };
    out.extend_from_slice(&(length + inner).to_le_bytes());
    out.push(subtype);
    if subtype == 2 {
        out.extend_from_slice(&length.to_le_bytes());
    }
    out.extend_from_slice(value);
    Ok(())
}

/// A decimal column's value as a BSON decimal128: at most 34 digits, so zeros at the end go where
/// there are more.
fn decimal128(unscaled: i128, scale: u8) -> Result<[u8; 16], EncodeError> {
    let mut coefficient = unscaled.unsigned_abs();
    let mut exponent = -i32::from(scale);
    while coefficient >= 10u128.pow(34) {
        if !coefficient.is_multiple_of(10) {
            return Err(EncodeError::new(
                "a decimal of more than 34 digits is no decimal128",
            ));
        }
        coefficient /= 10;
        exponent += 1;
    }
    let biased = (exponent + 6176) as u128;
    let sign = u128::from(unscaled < 0) << 127;
    Ok((sign | biased << 113 | coefficient).to_le_bytes())
}
