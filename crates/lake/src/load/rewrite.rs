//! Files that were written under an earlier schema, written again under the final one, and files
//! of formats that need the final schema from the start.
//!
//! All of it computes and blocks: it is called on a blocking thread.

use arrow::array::RecordBatch;
use tributary_convert::Naming;
use tributary_convert::arrow_schema::{column_names, table_schema};
use tributary_convert::recast::recast_batch;
use tributary_model::{Error, ErrorKind, Result, TableSchema};

use super::Inner;
use crate::format::avro::AvroFile;
use crate::format::{Format, csv};
use crate::location::Location;
use crate::parquet_file::{DataFile, FILE_BYTES, ParquetFile};
use crate::stored_file::{self, StoredFile};
use crate::upload::Upload;

/// Below this a file that was cut short by a change of schema is joined with the next ones.
const SMALL_FILE: u64 = 32 << 20;

/// The files of a load as they are to be: those that fit the final schema as they are, the others
/// written again. Answers them with the bytes that were written again.
pub(super) fn unify(
    inner: &Inner,
    files: Vec<DataFile>,
    schema: &TableSchema,
) -> Result<(Vec<DataFile>, u64)> {
    let (keep, again): (Vec<_>, Vec<_>) = files
        .into_iter()
        .partition(|file| fits(file, schema, inner.format));
    if again.is_empty() {
        return Ok((keep, 0));
    }
    // Small ones come along: they are small because the schema changed behind them.
    let (small, mut files): (Vec<_>, Vec<_>) =
        keep.into_iter().partition(|file| file.size < SMALL_FILE);
    let naming = if inner.format == Format::Delta {
        Naming::Physical
    } else {
        Naming::Logical
    };
    let mut bytes = 0;
    let mut begun = 0;
    let mut open: Option<ParquetFile> = None;
    let mut close = |file: Option<ParquetFile>| -> Result<()> {
        if let Some(file) = file {
            let file = file.finish()?;
            bytes += file.size;
            files.push(file);
        }
        Ok(())
    };
    for file in again.iter().chain(&small) {
        read(&inner.places.data, file, |batch| {
            let batch = recast(&batch, file, schema, naming)?;
            if open.as_ref().is_some_and(|open| open.size() >= FILE_BYTES) {
                close(open.take())?;
            }
            let out = match &mut open {
                Some(out) => out,
                None => {
                    let name = format!("part-joined-{}-c{begun:03}.zstd.parquet", inner.plan.load);
                    begun += 1;
                    open.insert(ParquetFile::begin(
                        &inner.places.data,
                        name,
                        schema.clone(),
                        &batch,
                    )?)
                }
            };
            out.write(&batch)
        })?;
    }
    close(open)?;
    Ok((files, bytes))
}

/// Makes files of a converted format, one of each file written while reading.
pub(super) fn convert(
    inner: &Inner,
    files: &[DataFile],
    schema: &TableSchema,
) -> Result<Vec<DataFile>> {
    let data = &inner.places.data;
    let mut converted = Vec::with_capacity(files.len());
    for (number, file) in files.iter().enumerate() {
        let name = format!(
            "part-{number:05}-{}.{}",
            inner.plan.load,
            inner.format.extension()
        );
        let mut upload = Upload::begin(data, &data.path().clone().join(name.as_str()))?;
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(ErrorKind::Storage, "cannot write a file")
                .on("file", data.child(&name))
                .because(error)
        };
        let mut upload = match inner.format {
            Format::Avro => {
                let mut out = AvroFile::begin(upload, &table_schema(schema, Naming::Avro))
                    .map_err(|e| failed(e.into()))?;
                read(data, file, |batch| {
                    out.write(&recast(&batch, file, schema, Naming::Avro)?)
                        .map_err(|e| failed(e.into()))
                })?;
                out.finish().map_err(|e| failed(e.into()))?
            }
            _ => {
                csv::write_header(schema, &mut upload).map_err(|e| upload.explain(e))?;
                read(data, file, |batch| {
                    let batch = recast(&batch, file, schema, Naming::Logical)?;
                    csv::write_batch(&batch, schema, &mut upload).map_err(|e| upload.explain(e))
                })?;
                upload
            }
        };
        let size = upload.finish()?;
        converted.push(DataFile {
            name,
            size,
            rows: file.rows,
            schema: TableSchema::default(),
            stats: None,
        });
    }
    Ok(converted)
}

fn recast(
    batch: &RecordBatch,
    file: &DataFile,
    schema: &TableSchema,
    naming: Naming,
) -> Result<RecordBatch> {
    recast_batch(batch, &file.schema, schema, naming).map_err(|error| {
        Error::new(
            ErrorKind::Internal,
            "cannot bring a file to the final schema",
        )
        .on("file", &file.name)
        .because(error)
    })
}

/// Whether readers of the final schema read the file as it is. A column that a file lacks is null
/// to readers of Delta; readers of plain files want all files alike.
fn fits(file: &DataFile, schema: &TableSchema, format: Format) -> bool {
    if format != Format::Delta {
        return file.schema.has_layout_of(schema);
    }
    let own_names = column_names(&file.schema.columns, true);
    let names = column_names(&schema.columns, true);
    file.schema
        .columns
        .iter()
        .zip(own_names)
        .all(|(own, own_name)| {
            let joined = schema
                .columns
                .iter()
                .zip(&names)
                .find(|(column, _)| column.field == own.field);
            joined.is_some_and(|(column, name)| {
                *name == own_name && own.column_type.has_layout_of(&column.column_type)
            })
        })
}

/// Reads a file's batches one by one.
fn read(
    data: &Location,
    file: &DataFile,
    each: impl FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    stored_file::read(&StoredFile::new(data, &file.name, file.size), None, each)
}
