//! The columns of a query's result as those of a Delta table.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, PrimitiveArray, RecordBatch, RecordBatchOptions,
    StructArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use serde_json::{Map, Value, json};
use tributary_convert::arrow_schema::{column_names, needs_mapping, physical_name};
use tributary_model::schema::{Column, ColumnType};
use tributary_model::{Error, ErrorKind, Result};

use crate::delta::schema::DeltaSchema;

/// The most digits that a decimal of Delta has.
const MOST_DIGITS: u8 = 38;

/// How the rows of a result are written.
pub(super) struct Columns {
    /// The schema of the files.
    physical: SchemaRef,
}

impl Columns {
    /// Those of a result, and the schema of their table. Types that Delta does not have become the
    /// next wider one that it has: times of the day and intervals are texts, moments without a time zone
    /// are of UTC.
    pub(super) fn of(result: &Schema) -> Result<(Self, DeltaSchema)> {
        let mut ids = result.fields().iter().any(is_odd).then_some(0);
        let (mut fields, mut described) = (Vec::new(), Vec::new());
        for (column, name) in result.fields().iter().zip(names(result.fields())) {
            let (field, text) =
                field(&name, column.data_type(), &mut ids).map_err(|data_type| {
                    Error::new(
                        ErrorKind::Usage,
                        "a column of the result has a type that tables cannot have",
                    )
                    .on("column", column.name())
                    .on("type", data_type)
                    .remedy("cast it to another type in the query, or leave it out")
                })?;
            fields.push(field);
            described.push(text);
        }
        let schema = DeltaSchema {
            schema: json!({ "type": "struct", "fields": described }),
            max_column_id: ids,
        };
        let physical = Arc::new(Schema::new(fields));
        Ok((Self { physical }, schema))
    }

    /// Rows of the result as they are written.
    pub(super) fn conform(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let mut columns = Vec::with_capacity(rows.num_columns());
        for (index, (column, field)) in rows
            .columns()
            .iter()
            .zip(self.physical.fields())
            .enumerate()
        {
            columns.push(conform(column, field.data_type()).map_err(|error| {
                Error::new(
                    ErrorKind::InvalidData,
                    "a value of the result does not fit into its column",
                )
                .on("column", rows.schema_ref().field(index).name())
                .because(error)
                .remedy("cast the column to another type in the query")
            })?);
        }
        RecordBatch::try_new_with_options(Arc::clone(&self.physical), columns, &options).map_err(
            |error| {
                Error::new(
                    ErrorKind::Internal,
                    "the columns of a result do not fit together",
                )
                .because(error)
            },
        )
    }
}

/// The names of columns, different from each other to engines that do not tell case apart.
fn names(fields: &Fields) -> Vec<String> {
    let columns: Vec<Column> = fields
        .iter()
        .map(|field| Column::new(field.name().clone(), ColumnType::Unknown))
        .collect();
    column_names(&columns, false)
}

/// Whether a name in a column needs column mapping.
fn is_odd(field: &FieldRef) -> bool {
    needs_mapping(field.name()) || is_odd_inside(field.data_type())
}

fn is_odd_inside(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().any(is_odd),
        DataType::List(items)
        | DataType::LargeList(items)
        | DataType::FixedSizeList(items, _)
        | DataType::ListView(items)
        | DataType::LargeListView(items)
        | DataType::Map(items, _) => is_odd_inside(items.data_type()),
        _ => false,
    }
}

/// A column in the files and in the log; else the type that it cannot have.
fn field(
    name: &str,
    data_type: &DataType,
    ids: &mut Option<u32>,
) -> Result<(Field, Value), DataType> {
    let mut metadata = Map::new();
    if let Some(last) = ids {
        *last += 1;
        metadata.insert("delta.columnMapping.id".to_owned(), (*last).into());
        metadata.insert(
            "delta.columnMapping.physicalName".to_owned(),
            physical_name(name).into(),
        );
    }
    let (written, said) = column_type(data_type, ids)?;
    let text = json!({ "name": name, "type": said, "nullable": true, "metadata": metadata });
    Ok((Field::new(physical_name(name), written, true), text))
}

/// What values of a type become, and Delta's word for it.
fn column_type(data_type: &DataType, ids: &mut Option<u32>) -> Result<(DataType, Value), DataType> {
    let plain = |written: DataType, said: &str| Ok((written, said.into()));
    let decimal = |digits: u8, scale: i8| match u8::try_from(scale) {
        Ok(places) if (1..=MOST_DIGITS).contains(&digits) && places <= digits => plain(
            DataType::Decimal128(digits, scale),
            &format!("decimal({digits},{scale})"),
        ),
        _ => plain(DataType::Decimal128(MOST_DIGITS, 0), "decimal(38,0)"),
    };
    match data_type {
        DataType::Boolean => plain(DataType::Boolean, "boolean"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => {
            plain(DataType::Int32, "integer")
        }
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => plain(DataType::Int64, "long"),
        DataType::Float16 | DataType::Float32 => plain(DataType::Float32, "float"),
        DataType::Float64 => plain(DataType::Float64, "double"),
        DataType::Decimal32(digits, scale)
        | DataType::Decimal64(digits, scale)
        | DataType::Decimal128(digits, scale) => decimal(*digits, *scale),
        DataType::Decimal256(digits, scale) => decimal((*digits).min(MOST_DIGITS), *scale),
        DataType::Date32 | DataType::Date64 => plain(DataType::Date32, "date"),
        DataType::Timestamp(..) => plain(
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            "timestamp",
        ),
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Null
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Interval(_)
        | DataType::Duration(_) => plain(DataType::Utf8, "string"),
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => plain(DataType::Binary, "binary"),
        DataType::Dictionary(_, values) => column_type(values, ids),
        DataType::List(items)
        | DataType::LargeList(items)
        | DataType::FixedSizeList(items, _)
        | DataType::ListView(items)
        | DataType::LargeListView(items) => {
            let (written, said) = column_type(items.data_type(), ids)?;
            let items = Arc::new(Field::new("element", written, true));
            let said = json!({ "type": "array", "elementType": said, "containsNull": true });
            Ok((DataType::List(items), said))
        }
        DataType::Struct(fields) if !fields.is_empty() => {
            let (mut written, mut said) = (Vec::new(), Vec::new());
            for (inner, name) in fields.iter().zip(names(fields)) {
                let (one, text) = field(&name, inner.data_type(), ids)?;
                written.push(one);
                said.push(text);
            }
            let said = json!({ "type": "struct", "fields": said });
            Ok((DataType::Struct(written.into()), said))
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else {
                return Err(data_type.clone());
            };
            let [key, value] = pair.as_ref() else {
                return Err(data_type.clone());
            };
            let (key, said_key) = column_type(key.data_type(), ids)?;
            let (value, said_value) = column_type(value.data_type(), ids)?;
            let pair: Fields = vec![
                Field::new("key", key, false),
                Field::new("value", value, true),
            ]
            .into();
            let entries = Field::new("key_value", DataType::Struct(pair), false);
            let said = json!({
                "type": "map", "keyType": said_key, "valueType": said_value,
                "valueContainsNull": true,
            });
            Ok((DataType::Map(Arc::new(entries), false), said))
        }
        _ => Err(data_type.clone()),
    }
}

/// The values as those of `written`, which [`column_type`] answered for their type. One that does not
/// fit is an error, never null.
fn conform(values: &ArrayRef, written: &DataType) -> Result<ArrayRef, ArrowError> {
    let cast = |values: &ArrayRef, to: &DataType| {
        let options = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        cast_with_options(values, to, &options)
    };
    match (values.data_type(), written) {
        (is, wanted) if is == wanted => Ok(Arc::clone(values)),
        (DataType::Timestamp(_, zone), DataType::Timestamp(unit, wanted)) => {
            // Moments are counted in UTC, whatever the zone that they are shown in.
            let values = cast(values, &DataType::Timestamp(*unit, zone.clone()))?;
            let moments: &PrimitiveArray<TimestampMicrosecondType> = values.as_primitive();
            Ok(Arc::new(moments.clone().with_timezone_opt(wanted.clone())))
        }
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let old = values.as_struct();
            let inner = old.columns().iter().zip(fields);
            let inner: Vec<ArrayRef> = inner
                .map(|(column, field)| conform(column, field.data_type()))
                .collect::<Result<_, _>>()?;
            let new = StructArray::try_new(fields.clone(), inner, old.nulls().cloned())?;
            Ok(Arc::new(new))
        }
        (DataType::List(_), DataType::List(items)) => {
            let old = values.as_list::<i32>();
            let inner = conform(old.values(), items.data_type())?;
            let (offsets, nulls) = (old.offsets().clone(), old.nulls().cloned());
            let new = ListArray::try_new(Arc::clone(items), offsets, inner, nulls)?;
            Ok(Arc::new(new))
        }
        (
            DataType::LargeList(items)
            | DataType::FixedSizeList(items, _)
            | DataType::ListView(items)
            | DataType::LargeListView(items),
            DataType::List(_),
        ) => conform(&cast(values, &DataType::List(Arc::clone(items)))?, written),
        (DataType::Map(..), DataType::Map(entries, ordered)) => {
            let DataType::Struct(pair) = entries.data_type() else {
                return cast(values, written);
            };
            let old = values.as_map();
            let inner = [old.keys(), old.values()].into_iter().zip(pair);
            let inner: Vec<ArrayRef> = inner
                .map(|(column, field)| conform(column, field.data_type()))
                .collect::<Result<_, _>>()?;
            let pairs = StructArray::try_new(pair.clone(), inner, None)?;
            let (offsets, nulls) = (old.offsets().clone(), old.nulls().cloned());
            let new = MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, *ordered)?;
            Ok(Arc::new(new))
        }
        (DataType::Dictionary(_, inner), _) => conform(&cast(values, inner)?, written),
        _ => cast(values, written),
    }
}
