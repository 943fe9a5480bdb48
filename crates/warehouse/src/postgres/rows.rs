//! Rows of the lake as PostgreSQL's binary `COPY` takes them.
//!
//! A value that its column cannot hold there (text with the character NUL, a date before 4714 BC) goes
//! to the row's `_rescued_data` with its path, and its neighbours stay what they are.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int32Array,
    Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{
    Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use serde_json::Value;
use tributary_convert::encode::{EncodeError, ValueEncoder};
use tributary_convert::extjson::Mode;
use tributary_model::schema::{Column, ColumnType};

use super::types::PgType;
use crate::rescue::{self, Fit, JsonLimits};

/// What a binary copy begins with: its signature, no flags and no extension.
pub(crate) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with.
pub(crate) const TRAILER: &[u8] = &(-1_i16).to_be_bytes();

/// The rows of one batch.
pub(crate) struct Rows<'a> {
    columns: Vec<ColumnRows<'a>>,
    rescued: &'a StringArray,
    /// Room to work in.
    value: Vec<u8>,
    text: Vec<u8>,
}

struct ColumnRows<'a> {
    /// The name of the field that the column holds.
    field: &'a str,
    array: &'a ArrayRef,
    values: Values<'a>,
    /// The values as BSON, for those that are rescued.
    encoder: ValueEncoder<'a>,
}

enum Values<'a> {
    Boolean(&'a BooleanArray),
    Integer(&'a Int32Array),
    Bigint(&'a Int64Array),
    Double(&'a Float64Array),
    Numeric(&'a Decimal128Array, u8),
    Text(&'a StringArray),
    Timestamp(&'a TimestampMicrosecondArray),
    Bytea(&'a BinaryArray),
    Uuid(&'a StringArray),
    /// JSON that is to be made of nested values; canonical for a key.
    Nested {
        is_key: bool,
    },
    /// JSON that is in the lake as text.
    Json(&'a StringArray),
    /// There is no column for it: all of it is rescued.
    Missing,
}

/// A value that its column cannot hold.
struct Unfit;

impl<'a> Rows<'a> {
    /// The rows of `batch`, whose columns are those of the settled schema in their order and
    /// `_rescued_data` behind them. `types` are the columns of the warehouse's table; a field that
    /// has none there is rescued.
    pub(crate) fn new(
        columns: &'a [Column],
        batch: &'a RecordBatch,
        types: &[Option<PgType>],
    ) -> Result<Self, EncodeError> {
        let rescued = batch
            .columns()
            .get(columns.len())
            .and_then(|array| array.as_string_opt::<i32>())
            .ok_or_else(|| EncodeError::new("a batch has no column `_rescued_data`"))?;
        let columns = columns
            .iter()
            .zip(batch.columns())
            .zip(types)
            .map(|((column, array), pg_type)| {
                Ok(ColumnRows {
                    field: &column.field,
                    array,
                    values: Values::new(column, array, *pg_type)?,
                    encoder: ValueEncoder::new(&column.column_type, array)?,
                })
            })
            .collect::<Result<_, EncodeError>>()?;
        Ok(Self {
            columns,
            rescued,
            value: Vec::new(),
            text: Vec::new(),
        })
    }

    /// Appends a row to a copy of the columns that there are, of `_rescued_data`, and of `flag` where
    /// there is one, and answers how many of its values had to be rescued.
    pub(crate) fn write(
        &mut self,
        row: usize,
        flag: Option<bool>,
        out: &mut Vec<u8>,
    ) -> Result<u64, EncodeError> {
        let present = self.columns.iter().filter(|column| !column.is_missing());
        // A table has at most 1,600 columns.
        let fields = present.count() as i16 + 1 + i16::from(flag.is_some());
        out.extend_from_slice(&fields.to_be_bytes());
        let mut rescued: Vec<Value> = Vec::new();
        for column in &self.columns {
            if column.array.is_null(row) {
                if !column.is_missing() {
                    write_null(out);
                }
                continue;
            }
            let before = out.len();
            out.extend_from_slice(&[0; 4]);
            let wrote = column.write(row, &mut self.value, &mut self.text, &mut rescued, out)?;
            match wrote {
                Ok(()) => {
                    let length = i32::try_from(out.len() - before - 4)
                        .map_err(|_| EncodeError::new("a value is over 2 GiB"))?;
                    out[before..before + 4].copy_from_slice(&length.to_be_bytes());
                }
                Err(Unfit) => {
                    out.truncate(before);
                    if !column.is_missing() {
                        write_null(out);
                    }
                    rescued.push(column.rescued(row, &mut self.value, &mut self.text)?);
                }
            }
        }
        self.write_rescued(row, &rescued, out)?;
        if let Some(flag) = flag {
            write_bytes(&[u8::from(flag)], out);
        }
        Ok(rescued.len() as u64)
    }

    /// What the lake had rescued, and what is rescued here.
    fn write_rescued(
        &self,
        row: usize,
        more: &[Value],
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let earlier = self.rescued.is_valid(row).then(|| self.rescued.value(row));
        if more.is_empty() {
            match earlier {
                Some(text) => write_bytes(text.as_bytes(), out),
                None => write_null(out),
            }
            return Ok(());
        }
        let mut entries = rescue::entries(earlier)?;
        entries.extend_from_slice(more);
        write_bytes(Value::Array(entries).to_string().as_bytes(), out);
        Ok(())
    }
}

impl ColumnRows<'_> {
    fn is_missing(&self) -> bool {
        matches!(self.values, Values::Missing)
    }

    /// Appends the value of `row`, which is not null, without its length.
    fn write(
        &self,
        row: usize,
        value: &mut Vec<u8>,
        text: &mut Vec<u8>,
        rescued: &mut Vec<Value>,
        out: &mut Vec<u8>,
    ) -> Result<Result<(), Unfit>, EncodeError> {
        match &self.values {
            Values::Boolean(array) => out.push(u8::from(array.value(row))),
            Values::Integer(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
            Values::Bigint(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
            Values::Double(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
            Values::Numeric(array, scale) => write_numeric(array.value(row), *scale, out),
            Values::Text(array) => {
                let text = array.value(row).as_bytes();
                if !rescue::is_text(text) {
                    return Ok(Err(Unfit));
                }
                out.extend_from_slice(text);
            }
            Values::Timestamp(array) => match rescue::moment(array.value(row)) {
                Some(micros) => out.extend_from_slice(&micros.to_be_bytes()),
                None => return Ok(Err(Unfit)),
            },
            Values::Bytea(array) => out.extend_from_slice(array.value(row)),
            Values::Uuid(array) => match uuid(array.value(row)) {
                Some(uuid) => out.extend_from_slice(&uuid),
                None => return Err(EncodeError::new("a UUID column holds text that is no UUID")),
            },
            Values::Nested { is_key: true } => {
                text.clear();
                self.encoder.text(row, Mode::Canonical, value, text)?;
                out.extend_from_slice(text);
            }
            Values::Nested { is_key: false } => {
                text.clear();
                self.encoder.text(row, Mode::Relaxed, value, text)?;
                return self.write_jsonb(text, rescued, out);
            }
            Values::Json(array) => {
                return self.write_jsonb(array.value(row).as_bytes(), rescued, out);
            }
            Values::Missing => return Ok(Err(Unfit)),
        }
        Ok(Ok(()))
    }

    /// Appends JSON; the texts in it that hold the character NUL are rescued.
    fn write_jsonb(
        &self,
        text: &[u8],
        rescued: &mut Vec<Value>,
        out: &mut Vec<u8>,
    ) -> Result<Result<(), Unfit>, EncodeError> {
        /// The version of the format.
        const VERSION: u8 = 1;
        /// One text has room for more than a document.
        const LIMITS: JsonLimits = JsonLimits {
            text_bytes: usize::MAX,
            bytes: usize::MAX,
        };
        out.push(VERSION);
        match LIMITS.fit(text, self.field, rescued)? {
            Fit::AsIs => out.extend_from_slice(text),
            Fit::Changed(text) => out.extend_from_slice(&text),
            Fit::Not => return Ok(Err(Unfit)),
        }
        Ok(Ok(()))
    }

    /// The value of `row` as an entry of `_rescued_data`.
    fn rescued(
        &self,
        row: usize,
        value: &mut Vec<u8>,
        text: &mut Vec<u8>,
    ) -> Result<Value, EncodeError> {
        rescue::value(&self.encoder, self.field, row, value, text)
    }
}

impl<'a> Values<'a> {
    fn new(
        column: &Column,
        array: &'a ArrayRef,
        pg_type: Option<PgType>,
    ) -> Result<Self, EncodeError> {
        let Some(pg_type) = pg_type else {
            return Ok(Self::Missing);
        };
        let wrong = || {
            EncodeError::new(format!(
                "a column of type {} cannot be loaded as {}",
                array.data_type(),
                pg_type.word()
            ))
        };
        let text = || array.as_string_opt::<i32>().ok_or_else(wrong);
        Ok(match (pg_type, &column.column_type) {
            (PgType::Boolean, _) => Self::Boolean(array.as_boolean_opt().ok_or_else(wrong)?),
            (PgType::Integer, _) => {
                Self::Integer(array.as_primitive_opt::<Int32Type>().ok_or_else(wrong)?)
            }
            (PgType::Bigint, _) => {
                Self::Bigint(array.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?)
            }
            (PgType::Double, _) => {
                Self::Double(array.as_primitive_opt::<Float64Type>().ok_or_else(wrong)?)
            }
            (PgType::Numeric, ColumnType::Decimal(shape)) => Self::Numeric(
                array
                    .as_primitive_opt::<Decimal128Type>()
                    .ok_or_else(wrong)?,
                shape.scale,
            ),
            (PgType::Timestamp, _) => Self::Timestamp(
                array
                    .as_primitive_opt::<TimestampMicrosecondType>()
                    .ok_or_else(wrong)?,
            ),
            (PgType::Bytea, _) => Self::Bytea(array.as_binary_opt::<i32>().ok_or_else(wrong)?),
            (PgType::Uuid, _) => Self::Uuid(text()?),
            (PgType::Text, ColumnType::Document(_) | ColumnType::Array(_)) => {
                Self::Nested { is_key: true }
            }
            (PgType::Text, _) => Self::Text(text()?),
            (PgType::Jsonb, ColumnType::Json) => Self::Json(text()?),
            (PgType::Jsonb, _) => Self::Nested { is_key: false },
            (PgType::Json | PgType::Numeric, _) => return Err(wrong()),
        })
    }
}

fn write_null(out: &mut Vec<u8>) {
    out.extend_from_slice(&(-1_i32).to_be_bytes());
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    // What is longer than that is in no batch.
    let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a decimal: the number of digits to base 10,000, the weight of the first, the sign, and
/// the number of decimals that are shown.
fn write_numeric(unscaled: i128, scale: u8, out: &mut Vec<u8>) {
    const NEGATIVE: u16 = 0x4000;
    let scale = usize::from(scale);
    let mut digits = unscaled.unsigned_abs().to_string();
    if digits.len() <= scale {
        digits.insert_str(0, &"0".repeat(scale + 1 - digits.len()));
    }
    let point = digits.len() - scale;
    let (whole, fraction) = digits.split_at(point);
    let whole = format!(
        "{}{whole}",
        "0".repeat(whole.len().next_multiple_of(4) - whole.len())
    );
    let fraction = format!(
        "{fraction}{}",
        "0".repeat(fraction.len().next_multiple_of(4) - fraction.len())
    );
    let group = |text: &str| {
        text.bytes()
            .fold(0, |n, digit| n * 10 + u16::from(digit - b'0'))
    };
    let groups: Vec<u16> = [whole.as_bytes(), fraction.as_bytes()]
        .concat()
        .chunks(4)
        .map(|chunk| group(std::str::from_utf8(chunk).unwrap_or_default()))
        .collect();
    let first = groups.iter().position(|group| *group != 0);
    let last = groups.iter().rposition(|group| *group != 0);
    let significant = match (first, last) {
        (Some(first), Some(last)) => &groups[first..=last],
        _ => &[],
    };
    // At most 38 digits and their padding.
    let weight = (whole.len() / 4) as i16 - 1 - first.unwrap_or(0) as i16;
    let weight = if significant.is_empty() { 0 } else { weight };
    let sign = if unscaled < 0 { NEGATIVE } else { 0 };
    out.extend_from_slice(&(significant.len() as i16).to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&(scale as u16).to_be_bytes());
    for group in significant {
        out.extend_from_slice(&group.to_be_bytes());
    }
}

/// The sixteen bytes of a UUID in its usual form.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let digits = std::str::from_utf8(&digits).ok()?;
    if digits.len() != 32 {
        return None;
    }
    Some(u128::from_str_radix(digits, 16).ok()?.to_be_bytes())
}
