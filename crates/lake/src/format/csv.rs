//! Comma-separated values (RFC 4180), with nested fields flattened.
//!
//! A document's fields become columns named by their path, `a.b.c`; arrays are relaxed Extended
//! JSON; binary is base64; timestamps are ISO 8601 in UTC. A null is an empty field and an empty
//! text is `""`, as PostgreSQL reads and writes them. Of two columns with one name the second gets a
//! number behind it, as in tables.

use std::io::Write;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tributary_convert::arrow_schema::column_names;
use tributary_convert::recast::array_to_text;
use tributary_model::TableSchema;
use tributary_model::schema::{Column, ColumnType, RESCUED_COLUMN};

/// Writes the line of column names.
pub(crate) fn write_header(schema: &TableSchema, out: &mut impl Write) -> std::io::Result<()> {
    let mut leaves = Vec::new();
    leaf_columns("", &schema.columns, &mut leaves);
    let mut names = column_names(&leaves, true);
    names.push(RESCUED_COLUMN.to_owned());
    let mut line = Vec::new();
    for (i, name) in names.iter().enumerate() {
        if i > 0 {
            line.push(b',');
        }
        push_field(&mut line, name);
    }
    line.extend_from_slice(b"\r\n");
    out.write_all(&line)
}

/// The columns of a file, each with its path as its field.
fn leaf_columns(prefix: &str, columns: &[Column], leaves: &mut Vec<Column>) {
    for column in columns {
        let path = format!("{prefix}{}", column.field);
        match &column.column_type {
            ColumnType::Document(inner) => leaf_columns(&format!("{path}."), inner, leaves),
            leaf => leaves.push(Column::new(path, leaf.clone())),
        }
    }
}

/// Writes the rows of a batch laid out by `schema`.
pub(crate) fn write_batch(
    batch: &RecordBatch,
    schema: &TableSchema,
    out: &mut impl Write,
) -> Result<(), ArrowError> {
    let mut leaves = Vec::new();
    let columns = schema
        .columns
        .iter()
        .map(|c| &c.column_type)
        .chain(std::iter::once(&ColumnType::String));
    for (array, column_type) in batch.columns().iter().zip(columns) {
        flatten(array, column_type, &mut leaves)?;
    }
    let options = FormatOptions::default().with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.3fZ"));
    let formatters = leaves
        .iter()
        .map(|array| ArrayFormatter::try_new(array, &options))
        .collect::<Result<Vec<_>, _>>()?;
    let mut line = Vec::new();
    let mut text = String::new();
    for row in 0..batch.num_rows() {
        line.clear();
        for (i, (array, formatter)) in leaves.iter().zip(&formatters).enumerate() {
            if i > 0 {
                line.push(b',');
            }
            if array.is_null(row) {
                continue;
            }
            if let Some(strings) = array.as_string_opt::<i32>() {
                push_field(&mut line, strings.value(row));
            } else {
                text.clear();
                formatter.value(row).write(&mut text)?;
                push_field(&mut line, &text);
            }
        }
        line.extend_from_slice(b"\r\n");
        out.write_all(&line)?;
    }
    Ok(())
}

fn flatten(
    array: &ArrayRef,
    column_type: &ColumnType,
    leaves: &mut Vec<ArrayRef>,
) -> Result<(), ArrowError> {
    match column_type {
        ColumnType::Document(columns) => {
            let parent = array.as_struct();
            for (child, column) in parent.columns().iter().zip(columns) {
                // A child may have values under a null parent.
                let nulls = arrow::buffer::NullBuffer::union(parent.nulls(), child.nulls());
                let child =
                    arrow::array::make_array(child.to_data().into_builder().nulls(nulls).build()?);
                flatten(&child, &column.column_type, leaves)?;
            }
        }
        ColumnType::Array(_) => leaves.push(array_to_text(array, column_type)?),
        ColumnType::Binary { .. } => {
            let values = array.as_binary::<i32>();
            let texts: arrow::array::StringArray = values
                .iter()
                .map(|v| v.map(|v| STANDARD.encode(v)))
                .collect();
            leaves.push(std::sync::Arc::new(texts));
        }
        _ => leaves.push(array.clone()),
    }
    Ok(())
}

fn push_field(line: &mut Vec<u8>, text: &str) {
    if !text.is_empty() && !text.contains([',', '"', '\r', '\n']) {
        line.extend_from_slice(text.as_bytes());
        return;
    }
    line.push(b'"');
    line.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    line.push(b'"');
}
