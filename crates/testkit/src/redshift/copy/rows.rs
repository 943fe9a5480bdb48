//! Rows of Parquet in the text format of PostgreSQL's `COPY`.

use std::fmt::Write;

use arrow::{
    array::{Array, AsArray, RecordBatch, TimestampMicrosecondArray},
    datatypes::{DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType},
    util::display::array_value_to_string,
};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use tokio::sync::mpsc;

use super::{
    json::{self, is_nested},
    objects::Object,
};
use crate::redshift::{refusal::Refusal, types::Type};

/// Rows that are converted at a time.
const ROWS: usize = 4_096;

/// A column that is loaded.
#[derive(Debug, Clone)]
pub(in crate::redshift) struct Target {
    pub(in crate::redshift) name: String,
    pub(in crate::redshift) kind: Type,
}

/// What of the statement matters to rows.
#[derive(Debug, Clone)]
pub(in crate::redshift) struct Layout {
    pub(in crate::redshift) targets: Vec<Target>,
    pub(in crate::redshift) serialize_to_json: bool,
    pub(in crate::redshift) fill_record: bool,
}

/// Text for `COPY` and the number of its rows.
pub(in crate::redshift) type Chunk = Result<(Vec<u8>, usize), Refusal>;

impl Layout {
    /// Converts an object, on a thread that may block, until it ends or is refused.
    pub(in crate::redshift) fn convert(&self, object: &Object, chunks: &mpsc::Sender<Chunk>) {
        let converted = self.convert_all(object, |chunk| chunks.blocking_send(Ok(chunk)).is_ok());
        if let Err(refusal) = converted {
            // Where nobody listens any more, the statement has failed for another reason.
            chunks.blocking_send(Err(refusal)).ok();
        }
    }

    fn convert_all(
        &self,
        object: &Object,
        mut send: impl FnMut((Vec<u8>, usize)) -> bool,
    ) -> Result<(), Refusal> {
        let file = FileContext { object };
        // What the file was written from is of no concern to Redshift, so only Parquet's own types are.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder =
            ParquetRecordBatchReaderBuilder::try_new_with_options(object.content.clone(), options)
                .map_err(|error| {
                    file.refusal(&format!(
                        "has an invalid version number or is no Parquet: {error}"
                    ))
                })?;
        let fields = builder.schema().fields().clone();
        let (found, wanted) = (fields.len(), self.targets.len());
        if found != wanted && !(self.fill_record && found < wanted) {
            return Err(file.refusal(&format!(
                "has unmatched number of columns: table columns: {wanted}, file columns: {found}"
            )));
        }
        for (target, field) in self.targets.iter().zip(&fields) {
            if !self.takes(target.kind, field.data_type()) {
                return Err(file.refusal(&format!(
                    "has an incompatible Parquet schema for column '{}'. Column type: {}, Parquet schema: {} {}",
                    target.name,
                    target.kind.to_string().to_uppercase(),
                    field.data_type(),
                    field.name(),
                )));
            }
        }
        let reader = builder.with_batch_size(ROWS).build();
        let reader = reader.map_err(|error| file.refusal(&format!("cannot be read: {error}")))?;
        for batch in reader {
            let batch = batch.map_err(|error| file.refusal(&format!("cannot be read: {error}")))?;
            if !send(self.written(&batch)?) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn takes(&self, kind: Type, found: &DataType) -> bool {
        match (kind, found) {
            (Type::SmallInt, DataType::Int16)
            | (Type::Integer, DataType::Int32)
            | (Type::BigInt, DataType::Int64)
            | (Type::Real, DataType::Float32)
            | (Type::Double, DataType::Float64)
            | (Type::Boolean, DataType::Boolean)
            | (Type::Char(_) | Type::Varchar(_), DataType::Utf8)
            | (Type::Varbyte(_), DataType::Binary | DataType::FixedSizeBinary(_))
            | (Type::Date, DataType::Date32)
            | (
                Type::Timestamp,
                DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Millisecond, _),
            ) => true,
            (Type::Decimal { precision, scale }, DataType::Decimal128(digits, places)) => {
                u32::from(*digits) <= precision && i64::from(*places) == i64::from(scale)
            }
            (Type::Super, nested) if is_nested(nested) => self.serialize_to_json,
            (Type::Super, DataType::Binary | DataType::FixedSizeBinary(_)) => false,
            (Type::Super, _) => true,
            _ => false,
        }
    }

    fn written(&self, batch: &RecordBatch) -> Result<(Vec<u8>, usize), Refusal> {
        let mut text = String::new();
        for row in 0..batch.num_rows() {
            for (at, target) in self.targets.iter().enumerate() {
                if at > 0 {
                    text.push('\t');
                }
                match batch.columns().get(at) {
                    Some(column) if column.is_valid(row) => value(target, column, row, &mut text)?,
                    Some(_) | None => text.push_str("\\N"),
                }
            }
            text.push('\n');
        }
        Ok((text.into_bytes(), batch.num_rows()))
    }
}

fn value(
    target: &Target,
    column: &dyn Array,
    row: usize,
    text: &mut String,
) -> Result<(), Refusal> {
    let failed = |why: String| scan_error(&format!("column '{}': {why}", target.name));
    match target.kind {
        Type::Super => {
            let value = json::written(column, row).map_err(failed)?;
            escape(&value, text);
        }
        Type::Char(most) | Type::Varchar(most) => {
            let value = column.as_string::<i32>().value(row);
            fits(target, value.len(), most)?;
            escape(value, text);
        }
        Type::Varbyte(most) => {
            let value = match column.data_type() {
                DataType::Binary => column.as_binary::<i32>().value(row),
                _ => column.as_fixed_size_binary().value(row),
            };
            fits(target, value.len(), most)?;
            text.push_str("\\\\x");
            text.push_str(&hex::encode(value));
        }
        Type::Timestamp => {
            let value = wall_clock(column, row).map_err(failed)?;
            text.push_str(&value);
        }
        Type::Real
        | Type::Double
        | Type::SmallInt
        | Type::Integer
        | Type::BigInt
        | Type::Boolean
        | Type::Date
        | Type::Decimal { .. }
        | Type::Timestamptz => {
            let value =
                array_value_to_string(column, row).map_err(|error| failed(error.to_string()))?;
            text.push_str(&value);
        }
    }
    Ok(())
}

/// A timestamp without its zone: Parquet's are in UTC, or in none.
pub(super) fn wall_clock(array: &dyn Array, row: usize) -> Result<String, String> {
    let micros = match array.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            let value = array.as_primitive::<TimestampMillisecondType>().value(row);
            value
                .checked_mul(1_000)
                .ok_or("a timestamp is out of range")?
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            array.as_primitive::<TimestampMicrosecondType>().value(row)
        }
        other => {
            return Err(format!(
                "{other} is not a timestamp of milliseconds or microseconds"
            ));
        }
    };
    let value = TimestampMicrosecondArray::from(vec![micros]).value_as_datetime(0);
    let value = value.ok_or("a timestamp is out of range")?;
    let text = value.format("%H:%M:%S%.6f").to_string();
    let year = chrono::Datelike::year(&value.date());
    let (year, era) = if year > 0 {
        (year, "")
    } else {
        (1 - year, " BC")
    };
    let mut date = String::new();
    write!(date, "{year:04}-{} {text}{era}", value.format("%m-%d"))
        .map_err(|error| error.to_string())?;
    Ok(date)
}

fn fits(target: &Target, length: usize, most: u32) -> Result<(), Refusal> {
    if length > most as usize {
        return Err(scan_error(&format!(
            "The length of the data column {} is longer than the length defined in the table. Table: {most}, Data: \
             {length}",
            target.name
        )));
    }
    Ok(())
}

/// What the text format would take for something else.
fn escape(value: &str, text: &mut String) {
    for char in value.chars() {
        match char {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            other => text.push(other),
        }
    }
}

struct FileContext<'a> {
    object: &'a Object,
}

impl FileContext<'_> {
    fn refusal(&self, what: &str) -> Refusal {
        scan_error(&format!("File '{}' {what}", self.object.url))
    }
}

fn scan_error(what: &str) -> Refusal {
    Refusal::internal(format!("Spectrum Scan Error. {what}"))
}
