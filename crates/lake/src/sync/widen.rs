//! Files written again because a column has outgrown the type it had in them.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use serde_json::json;
use tributary_convert::Naming;
use tributary_convert::arrow_schema::{column_names, physical_name};
use tributary_convert::recast::recast_batch;
use tributary_flow::Failpoint;
use tributary_model::schema::{Column, ColumnType, RESCUED_COLUMN};
use tributary_model::{Error, ErrorKind, Result, TableSchema};

use super::places::Places;
use super::table::{blocking, new_file_name};
use crate::delta::follow::{Edit, LiveTable, Outcome};
use crate::delta::table::add_action;
use crate::location::Location;
use crate::parquet_file::{DataFile, ParquetFile};
use crate::stored_file::{self, StoredFile};

/// Writes all files of the table again if some column is to have another type than they have it
/// in, as one version in which no row changes or moves.
pub(super) async fn rewrite_outgrown(
    live: &mut LiveTable,
    mut places: Option<&mut Places>,
    known: &TableSchema,
) -> Result<()> {
    loop {
        let (old, new) = (live.schema.settled(), known.settled());
        if live.files.is_empty() || reads_as(&old.columns, &new.columns, true) {
            return Ok(());
        }
        let mut rewritten = HashMap::new();
        let mut moved = Vec::new();
        let (mut bytes, begun) = (0, std::time::Instant::now());
        let paths: Vec<(String, u64)> = live
            .files
            .iter()
            .map(|(path, file)| (path.clone(), file.add.size.unsigned_abs()))
            .collect();
        for (path, size) in paths {
            let (place, old, new) = (live.place.clone(), old.clone(), new.clone());
            let stored = StoredFile::new(&place, &path, size);
            let file = blocking(move || rewrite(&place, &stored, &old, &new)).await??;
            Failpoint::WidenFileWritten.hit();
            bytes += file.size;
            moved.push((path.clone(), file.name.clone()));
            rewritten.insert(path, add_action(&file));
        }
        live.definition.evolve(known);
        let edit = Edit {
            rewritten,
            ..Edit::default()
        };
        let parameters = json!({ "reason": "a column has a wider type" });
        match live.commit(edit, None, "WRITE", parameters).await? {
            Outcome::Committed => {
                live.schema = known.clone();
                Failpoint::WidenCommitted.hit();
                let files = moved.len();
                if let Some(places) = places {
                    places.moved(live, moved).await?;
                }
                Failpoint::WidenRecorded.hit();
                tracing::warn!(
                    table = %live.place, files, bytes,
                    seconds = begun.elapsed().as_secs_f64(),
                    "a column has a wider type: the table's files were written again"
                );
                return Ok(());
            }
            Outcome::Overtaken(files) => {
                if let Some(places) = &mut places {
                    places.find(live, &files).await?;
                }
            }
        }
    }
}

/// Whether readers of `new` read files written under `old` as they are: what a file lacks is null.
pub(super) fn reads_as(old: &[Column], new: &[Column], at_root: bool) -> bool {
    let names = column_names(new, at_root);
    let by_field: HashMap<&str, (&Column, &String)> = new
        .iter()
        .zip(&names)
        .map(|(column, name)| (column.field.as_str(), (column, name)))
        .collect();
    old.iter()
        .zip(column_names(old, at_root))
        .all(|(column, name)| {
            by_field
                .get(column.field.as_str())
                .is_some_and(|(wider, new_name)| {
                    **new_name == name && type_reads_as(&column.column_type, &wider.column_type)
                })
        })
}

fn type_reads_as(old: &ColumnType, new: &ColumnType) -> bool {
    match (old, new) {
        (ColumnType::Document(old), ColumnType::Document(new)) => reads_as(old, new, false),
        (ColumnType::Array(old), ColumnType::Array(new)) => type_reads_as(old, new),
        _ => old.has_layout_of(new),
    }
}

fn rewrite(
    place: &Location,
    stored: &StoredFile,
    old: &TableSchema,
    new: &TableSchema,
) -> Result<DataFile> {
    let name = new_file_name();
    let mut out: Option<ParquetFile> = None;
    stored_file::read_foreign(stored, None, None, |batch| {
        let batch = brought_to(&batch, old, new).map_err(|error| error.on("file", stored))?;
        let out = match &mut out {
            Some(out) => out,
            None => out.insert(ParquetFile::begin(
                place,
                name.clone(),
                new.clone(),
                &batch,
            )?),
        };
        out.write(&batch)
    })?;
    match out {
        Some(out) => out.finish(),
        None => Err(
            Error::new(ErrorKind::InvalidData, "a file of the table has no rows")
                .on("file", stored),
        ),
    }
}

/// Brings rows of a file of a table with the settled schema `old` to `new`, which was joined from
/// it.
pub(super) fn brought_to(
    batch: &RecordBatch,
    old: &TableSchema,
    new: &TableSchema,
) -> Result<RecordBatch> {
    let (in_file, batch) = laid_out(batch, old)?;
    recast_batch(&batch, &in_file, new, Naming::Physical).map_err(|error| {
        Error::new(ErrorKind::Internal, "cannot bring a file to a wider schema").because(error)
    })
}

/// The columns of `schema` that a file has, in their order there, and `_rescued_data` behind them.
pub(crate) fn laid_out(
    batch: &RecordBatch,
    schema: &TableSchema,
) -> Result<(TableSchema, RecordBatch)> {
    let mut columns = Vec::new();
    let mut places = Vec::new();
    for (column, name) in schema
        .columns
        .iter()
        .zip(column_names(&schema.columns, true))
    {
        if let Some((place, field)) = batch.schema().column_with_name(&physical_name(&name)) {
            let column_type = in_file(&column.column_type, field.data_type());
            columns.push(Column::new(column.field.clone(), column_type));
            places.push(place);
        }
    }
    let failed = |error: ArrowError| {
        Error::new(ErrorKind::InvalidData, "cannot read a file of the table").because(error)
    };
    let rescued = batch
        .schema()
        .column_with_name(RESCUED_COLUMN)
        .map(|(at, _)| at);
    let batch = match rescued {
        Some(rescued) => {
            places.push(rescued);
            batch.project(&places).map_err(failed)?
        }
        None => {
            return Err(failed(ArrowError::SchemaError(format!(
                "no column {RESCUED_COLUMN}"
            ))));
        }
    };
    Ok((TableSchema { columns }, batch))
}

/// The part of a type that a file has.
fn in_file(column_type: &ColumnType, stored: &DataType) -> ColumnType {
    match (column_type, stored) {
        (ColumnType::Document(columns), DataType::Struct(fields)) => ColumnType::Document(
            columns
                .iter()
                .zip(column_names(columns, false))
                .filter_map(|(column, name)| {
                    let (_, field) = fields.find(&physical_name(&name))?;
                    let column_type = in_file(&column.column_type, field.data_type());
                    Some(Column::new(column.field.clone(), column_type))
                })
                .collect(),
        ),
        (ColumnType::Array(items), DataType::List(field)) => {
            ColumnType::Array(Box::new(in_file(items, field.data_type())))
        }
        (column_type, _) => column_type.clone(),
    }
}
