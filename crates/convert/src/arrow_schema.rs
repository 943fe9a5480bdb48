//! The Arrow schema of a table, and the names of its columns.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use tributary_model::TableSchema;
use tributary_model::schema::{
    Column, ColumnType, DecimalShape, MAX_DECIMAL_DIGITS, RESCUED_COLUMN,
};
use xxhash_rust::xxh3::xxh3_64;

/// Key of a column's metadata that holds its [`Column`] as JSON, so that a table's documents can
/// be read back from it as they were.
pub const COLUMN_METADATA: &str = "tributary.column";

/// Which names the columns are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// The names that users see.
    Logical,
    /// The names inside the files of a Delta table with column mapping. They differ from the
    /// logical ones only where those hold a character that other engines refuse in Parquet.
    Physical,
    /// Names as Avro allows them: letters, digits and underscores.
    Avro,
}

/// Whether `name` can stand in the Parquet files of a Delta table without column mapping.
#[must_use]
pub fn needs_mapping(name: &str) -> bool {
    name.chars().any(|c| {
        matches!(
            c,
            ' ' | ',' | ';' | '{' | '}' | '(' | ')' | '\n' | '\t' | '='
        )
    })
}

/// The name in the files of the column that users see as `name`. It depends on the name alone, so
/// files written at different times agree.
#[must_use]
pub fn physical_name(name: &str) -> String {
    if needs_mapping(name) {
        format!("col-{:016x}", xxh3_64(name.as_bytes()))
    } else {
        name.to_owned()
    }
}

/// The column names of `columns`: their fields' names where they can be.
///
/// Engines take names that differ only in case for the same one, so the second of such a pair gets
/// a number behind it; the empty name becomes `_`; and `_rescued_data` is kept free at the root.
#[must_use]
pub fn column_names(columns: &[Column], at_root: bool) -> Vec<String> {
    let mut taken: HashSet<String> = HashSet::with_capacity(columns.len() + 1);
    if at_root {
        taken.insert(RESCUED_COLUMN.to_owned());
    }
    // Names that can stay as they are go first, whatever stands before them.
    let exact: HashSet<&str> = columns.iter().map(|c| c.field.as_str()).collect();
    columns
        .iter()
        .map(|column| {
            let wanted = if column.field.is_empty() {
                "_"
            } else {
                column.field.as_str()
            };
            let mut name = wanted.to_owned();
            let mut number = 2;
            while !taken.insert(name.to_lowercase()) {
                loop {
                    name = format!("{wanted}_{number}");
                    number += 1;
                    if !exact.contains(name.as_str()) {
                        break;
                    }
                }
            }
            name
        })
        .collect()
}

/// The Arrow schema of a table: a column for each of the settled `schema`, and `_rescued_data`.
#[must_use]
pub fn table_schema(schema: &TableSchema, naming: Naming) -> SchemaRef {
    let mut fields = named_fields(&schema.columns, naming, true);
    for (field, column) in fields.iter_mut().zip(&schema.columns) {
        // A schema always is JSON.
        let text = serde_json::to_string(column).unwrap_or_default();
        let described = field
            .as_ref()
            .clone()
            .with_metadata(HashMap::from([(COLUMN_METADATA.to_owned(), text)]));
        *field = Arc::new(described);
    }
    fields.push(Arc::new(Field::new(RESCUED_COLUMN, DataType::Utf8, true)));
    Arc::new(Schema::new(fields))
}

/// The schema that [`table_schema`] described in the metadata of an Arrow schema's fields; none if
/// a column has no description.
#[must_use]
pub fn described_schema(schema: &Schema) -> Option<TableSchema> {
    let columns = schema
        .fields()
        .iter()
        .filter(|field| field.name() != RESCUED_COLUMN)
        .map(|field| serde_json::from_str(field.metadata().get(COLUMN_METADATA)?).ok())
        .collect::<Option<Vec<Column>>>()?;
    Some(TableSchema { columns })
}

/// The fields of a struct that holds documents of `columns`.
#[must_use]
pub fn fields(columns: &[Column], naming: Naming) -> Vec<FieldRef> {
    named_fields(columns, naming, false)
}

fn named_fields(columns: &[Column], naming: Naming, at_root: bool) -> Vec<FieldRef> {
    let names = match naming {
        Naming::Logical => column_names(columns, at_root),
        Naming::Physical => column_names(columns, at_root)
            .iter()
            .map(|name| physical_name(name))
            .collect(),
        Naming::Avro => {
            let plain: Vec<Column> = columns
                .iter()
                .map(|c| Column::new(avro_name(&c.field), ColumnType::Unknown))
                .collect();
            column_names(&plain, at_root)
        }
    };
    names
        .into_iter()
        .zip(columns)
        .map(|(name, column)| {
            Arc::new(Field::new(
                name,
                arrow_type(&column.column_type, naming),
                true,
            ))
        })
        .collect()
}

fn avro_name(field: &str) -> String {
    let mut name: String = field
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

/// The field of a list's items; Delta calls it `element`.
#[must_use]
pub fn item_field(items: &ColumnType, naming: Naming) -> FieldRef {
    Arc::new(Field::new("element", arrow_type(items, naming), true))
}

/// The Arrow type of a decimal column.
#[must_use]
pub fn decimal_type(shape: DecimalShape) -> DataType {
    // A scale is at most 38.
    DataType::Decimal128(MAX_DECIMAL_DIGITS, shape.scale as i8)
}

/// The Arrow type of a column.
#[must_use]
pub fn arrow_type(column_type: &ColumnType, naming: Naming) -> DataType {
    match column_type {
        ColumnType::Unknown => DataType::Null,
        ColumnType::Bool => DataType::Boolean,
        ColumnType::Int32 => DataType::Int32,
        ColumnType::Int64 { .. } => DataType::Int64,
        ColumnType::Double { .. } => DataType::Float64,
        ColumnType::Decimal(shape) => decimal_type(*shape),
        ColumnType::String
        | ColumnType::ObjectId
        | ColumnType::Uuid
        | ColumnType::Json
        | ColumnType::Special => DataType::Utf8,
        ColumnType::Date => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ColumnType::Binary { .. } => DataType::Binary,
        ColumnType::Document(columns) => DataType::Struct(fields(columns, naming).into()),
        ColumnType::Array(items) => DataType::List(item_field(items, naming)),
    }
}
