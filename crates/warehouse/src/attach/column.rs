//! Columns of attached tables: what a type becomes, and the values of one batch.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder,
    Float64Builder, Int16Builder, Int32Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, TimeUnit};

use super::{binary, text};

/// The zone of moments, as the lake's tables have it.
const UTC: &str = "UTC";
/// The most digits of a decimal.
const MAX_PRECISION: i32 = 38;

/// A column of an attached table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) read: Read,
    /// The database takes two texts for equal only if their bytes are.
    pub(super) equal_by_bytes: bool,
}

/// How a column's values are asked for and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    Boolean,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    /// Digits in all, and those behind the point.
    Decimal(u8, i8),
    Text,
    Binary,
    Uuid,
    Date,
    Timestamp,
    /// With a time zone.
    Moment,
    /// What the database makes a text of.
    AsText,
    /// Redshift's `super`, as JSON.
    Serialized,
    /// Redshift's `varbyte`, which comes as hexadecimal digits.
    Hexadecimal,
}

impl Read {
    /// How values of a type are read. `name` is the type's in the words of the SQL standard where it
    /// has some; `size` are the digits of a `numeric`, in all and behind the point.
    pub(super) fn of(name: &str, size: Option<(i32, i32)>) -> Self {
        match name {
            "boolean" => Self::Boolean,
            "smallint" => Self::Int16,
            "integer" => Self::Int32,
            "bigint" => Self::Int64,
            "real" => Self::Float32,
            "double precision" => Self::Float64,
            "numeric" => size.map_or(Self::AsText, |(precision, scale)| {
                Self::decimal(precision, scale)
            }),
            "text" | "character varying" | "character" | "name" => Self::Text,
            "bytea" => Self::Binary,
            "uuid" => Self::Uuid,
            "date" => Self::Date,
            "timestamp without time zone" => Self::Timestamp,
            "timestamp with time zone" => Self::Moment,
            "super" => Self::Serialized,
            "binary varying" | "varbyte" => Self::Hexadecimal,
            _ => Self::AsText,
        }
    }

    /// A `numeric` that says its size. From PostgreSQL 15 on the digits behind the point may be more
    /// than all of them, or fewer than none.
    fn decimal(precision: i32, scale: i32) -> Self {
        let (precision, scale) = if scale < 0 {
            (precision - scale, 0)
        } else {
            (precision.max(scale), scale)
        };
        match (u8::try_from(precision), i8::try_from(scale)) {
            (Ok(digits @ 1..), Ok(scale)) if precision <= MAX_PRECISION => {
                Self::Decimal(digits, scale)
            }
            _ => Self::AsText,
        }
    }
}

impl Column {
    pub(super) fn field(&self) -> Field {
        let data_type = match self.read {
            Read::Boolean => DataType::Boolean,
            Read::Int16 => DataType::Int16,
            Read::Int32 => DataType::Int32,
            Read::Int64 => DataType::Int64,
            Read::Float32 => DataType::Float32,
            Read::Float64 => DataType::Float64,
            Read::Decimal(precision, scale) => DataType::Decimal128(precision, scale),
            Read::Text | Read::Uuid | Read::AsText | Read::Serialized => DataType::Utf8,
            Read::Binary | Read::Hexadecimal => DataType::Binary,
            Read::Date => DataType::Date32,
            Read::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Read::Moment => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        };
        Field::new(&self.name, data_type, true)
    }
}

/// Why a value cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable(pub(super) String);

impl Unreadable {
    pub(super) fn new(why: &str) -> Self {
        Self(why.to_owned())
    }

    /// A value that is none of its type, which no server sends.
    pub(super) fn garbled(what: &str) -> Self {
        Self(format!("the server has sent no {what}"))
    }
}

/// The values of a column in one batch.
pub(super) enum Values {
    Boolean(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder, i8),
    Text(StringBuilder),
    Binary(BinaryBuilder),
    Hexadecimal(BinaryBuilder),
    Uuid(StringBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Moment(TimestampMicrosecondBuilder),
}

/// The same for every sort of values.
macro_rules! on_builder {
    ($values:expr, $builder:ident => $done:expr) => {
        match $values {
            Values::Boolean($builder) => $done,
            Values::Int16($builder) => $done,
            Values::Int32($builder) => $done,
            Values::Int64($builder) => $done,
            Values::Float32($builder) => $done,
            Values::Float64($builder) => $done,
            Values::Decimal($builder, _) => $done,
            Values::Text($builder) | Values::Uuid($builder) => $done,
            Values::Binary($builder) | Values::Hexadecimal($builder) => $done,
            Values::Date($builder) => $done,
            Values::Timestamp($builder) | Values::Moment($builder) => $done,
        }
    };
}

impl Values {
    pub(super) fn new(read: Read) -> Self {
        match read {
            Read::Boolean => Self::Boolean(BooleanBuilder::new()),
            Read::Int16 => Self::Int16(Int16Builder::new()),
            Read::Int32 => Self::Int32(Int32Builder::new()),
            Read::Int64 => Self::Int64(Int64Builder::new()),
            Read::Float32 => Self::Float32(Float32Builder::new()),
            Read::Float64 => Self::Float64(Float64Builder::new()),
            Read::Decimal(precision, scale) => {
                let data_type = DataType::Decimal128(precision, scale);
                let builder = Decimal128Builder::new().with_data_type(data_type);
                Self::Decimal(builder, scale)
            }
            Read::Text | Read::AsText | Read::Serialized => Self::Text(StringBuilder::new()),
            Read::Uuid => Self::Uuid(StringBuilder::new()),
            Read::Binary => Self::Binary(BinaryBuilder::new()),
            Read::Hexadecimal => Self::Hexadecimal(BinaryBuilder::new()),
            Read::Date => Self::Date(Date32Builder::new()),
            Read::Timestamp => Self::Timestamp(TimestampMicrosecondBuilder::new()),
            Read::Moment => Self::Moment(TimestampMicrosecondBuilder::new().with_timezone(UTC)),
        }
    }

    pub(super) fn append_null(&mut self) {
        on_builder!(self, builder => builder.append_null());
    }

    /// Appends a value as a binary copy has it.
    pub(super) fn append_binary(&mut self, value: &[u8]) -> Result<(), Unreadable> {
        match self {
            Self::Boolean(values) => values.append_value(binary::boolean(value)?),
            Self::Int16(values) => values.append_value(i16::from_be_bytes(binary::bytes(value)?)),
            Self::Int32(values) => values.append_value(i32::from_be_bytes(binary::bytes(value)?)),
            Self::Int64(values) => values.append_value(i64::from_be_bytes(binary::bytes(value)?)),
            Self::Float32(values) => {
                values.append_value(one_nan_32(f32::from_be_bytes(binary::bytes(value)?)));
            }
            Self::Float64(values) => {
                values.append_value(one_nan_64(f64::from_be_bytes(binary::bytes(value)?)));
            }
            Self::Decimal(values, scale) => {
                values.append_value(binary::decimal(value, *scale)?);
            }
            Self::Text(values) => values.append_value(binary::text(value)?),
            Self::Uuid(values) => values.append_value(binary::uuid(value)?),
            Self::Binary(values) => values.append_value(value),
            Self::Hexadecimal(values) => {
                values.append_value(text::hexadecimal(binary::text(value)?)?);
            }
            Self::Date(values) => values.append_value(binary::date(value)?),
            Self::Timestamp(values) | Self::Moment(values) => {
                values.append_value(binary::timestamp(value)?);
            }
        }
        Ok(())
    }

    /// Appends a value as the answer to a plain query has it.
    pub(super) fn append_text(&mut self, value: &str) -> Result<(), Unreadable> {
        match self {
            Self::Boolean(values) => values.append_value(text::boolean(value)?),
            Self::Int16(values) => values.append_value(text::number(value)?),
            Self::Int32(values) => values.append_value(text::number(value)?),
            Self::Int64(values) => values.append_value(text::number(value)?),
            Self::Float32(values) => values.append_value(one_nan_32(text::number(value)?)),
            Self::Float64(values) => values.append_value(one_nan_64(text::number(value)?)),
            Self::Decimal(values, scale) => values.append_value(text::decimal(value, *scale)?),
            Self::Text(values) | Self::Uuid(values) => values.append_value(value),
            Self::Binary(values) => values.append_value(text::bytea(value)?),
            Self::Hexadecimal(values) => values.append_value(text::hexadecimal(value)?),
            Self::Date(values) => values.append_value(text::date(value)?),
            Self::Timestamp(values) => values.append_value(text::timestamp(value)?),
            Self::Moment(values) => values.append_value(text::moment(value)?),
        }
        Ok(())
    }

    /// The values so far, and room for others.
    pub(super) fn finish(&mut self) -> ArrayRef {
        on_builder!(self, builder => Arc::new(builder.finish()))
    }
}

/// PostgreSQL has one NaN, whatever its bits, and it is the greatest number; so it must have a plus
/// here, where the sign counts.
fn one_nan_32(value: f32) -> f32 {
    if value.is_nan() { f32::NAN } else { value }
}

fn one_nan_64(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numeric_is_a_decimal_where_all_its_values_fit_and_text_where_not() {
        for (size, read) in [
            (Some((10, 2)), Read::Decimal(10, 2)),
            (Some((38, 38)), Read::Decimal(38, 38)),
            (Some((3, 5)), Read::Decimal(5, 5)),
            (Some((5, -2)), Read::Decimal(7, 0)),
            (Some((37, -2)), Read::AsText),
            (Some((39, 2)), Read::AsText),
            (Some((3, 40)), Read::AsText),
            (None, Read::AsText),
        ] {
            assert_eq!(Read::of("numeric", size), read, "{size:?}");
        }
    }

    #[test]
    fn batches_follow_each_other_with_the_same_type() {
        let mut values = Values::new(Read::Decimal(5, 1));
        values.append_text("1.5").expect("a decimal");
        let first = values.finish();
        values.append_null();
        let second = values.finish();
        assert_eq!(first.data_type(), &DataType::Decimal128(5, 1));
        assert_eq!(first.data_type(), second.data_type());
        assert_eq!((first.len(), second.len()), (1, 1));
        let mut values = Values::new(Read::Moment);
        let first = values.finish();
        assert_eq!(first.data_type(), values.finish().data_type());
    }
}
