//! A table's schema as Delta's log has it.

use serde_json::{Map, Value, json};
use tributary_convert::arrow_schema::{
    COLUMN_METADATA, column_names, needs_mapping, physical_name,
};
use tributary_model::TableSchema;
use tributary_model::schema::{Column, ColumnType, MAX_DECIMAL_DIGITS, RESCUED_COLUMN};

/// A schema for the log, and whether it needs column mapping.
pub(crate) struct DeltaSchema {
    /// The `schemaString`, as JSON.
    pub(crate) schema: Value,
    /// The greatest column id, where columns are mapped.
    pub(crate) max_column_id: Option<u32>,
}

/// Describes the settled `schema`. Columns are mapped to other names in the files only where some
/// name holds a character that Delta forbids without: mapping shuts out older readers.
pub(crate) fn describe(schema: &TableSchema) -> DeltaSchema {
    let mut ids = any_odd_name(&schema.columns).then_some(0);
    let names = column_names(&schema.columns, true);
    let mut fields: Vec<Value> = schema
        .columns
        .iter()
        .zip(names)
        .map(|(column, name)| {
            let text = serde_json::to_string(column).unwrap_or_default();
            field(
                &name,
                &column.column_type,
                Map::from_iter([(COLUMN_METADATA.to_owned(), text.into())]),
                &mut ids,
            )
        })
        .collect();
    fields.push(field(
        RESCUED_COLUMN,
        &ColumnType::String,
        Map::new(),
        &mut ids,
    ));
    DeltaSchema {
        schema: json!({ "type": "struct", "fields": fields }),
        max_column_id: ids,
    }
}

fn any_odd_name(columns: &[Column]) -> bool {
    columns
        .iter()
        .any(|column| needs_mapping(&column.field) || odd_inside(&column.column_type))
}

fn odd_inside(column_type: &ColumnType) -> bool {
    match column_type {
        ColumnType::Document(columns) => any_odd_name(columns),
        ColumnType::Array(items) => odd_inside(items),
        _ => false,
    }
}

fn field(
    name: &str,
    column_type: &ColumnType,
    mut metadata: Map<String, Value>,
    ids: &mut Option<u32>,
) -> Value {
    if let Some(last) = ids {
        *last += 1;
        metadata.insert("delta.columnMapping.id".to_owned(), (*last).into());
        metadata.insert(
            "delta.columnMapping.physicalName".to_owned(),
            physical_name(name).into(),
        );
    }
    json!({ "name": name, "type": data_type(column_type, ids), "nullable": true, "metadata": metadata })
}

fn data_type(column_type: &ColumnType, ids: &mut Option<u32>) -> Value {
    match column_type {
        ColumnType::Bool => "boolean".into(),
        ColumnType::Int32 => "integer".into(),
        ColumnType::Int64 { .. } => "long".into(),
        ColumnType::Double { .. } => "double".into(),
        ColumnType::Decimal(shape) => {
            format!("decimal({MAX_DECIMAL_DIGITS},{})", shape.scale).into()
        }
        ColumnType::Date => "timestamp".into(),
        ColumnType::Binary { .. } => "binary".into(),
        ColumnType::Document(columns) => {
            let names = column_names(columns, false);
            let fields: Vec<Value> = columns
                .iter()
                .zip(names)
                .map(|(c, name)| field(&name, &c.column_type, Map::new(), ids))
                .collect();
            json!({ "type": "struct", "fields": fields })
        }
        ColumnType::Array(items) => {
            json!({ "type": "array", "elementType": data_type(items, ids), "containsNull": true })
        }
        ColumnType::Unknown
        | ColumnType::String
        | ColumnType::ObjectId
        | ColumnType::Uuid
        | ColumnType::Json
        | ColumnType::Special => "string".into(),
    }
}
