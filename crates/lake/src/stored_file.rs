//! Parquet files read back, from threads that block.

use std::fmt;
use std::io;

use arrow::array::RecordBatch;
use bytes::{Buf, Bytes};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::file::reader::{ChunkReader, Length};
use roaring::RoaringTreemap;
use tokio::runtime::Handle;
use tributary_model::{Error, ErrorKind, Result};

use crate::location::Location;

/// Rows read at once.
const BATCH_ROWS: usize = 8 << 10;

/// A file of an object store.
#[derive(Clone)]
pub(crate) struct StoredFile {
    table: Location,
    path: Path,
    size: u64,
    runtime: Handle,
}

impl StoredFile {
    /// The file `name` below `table`, of `size` bytes.
    pub(crate) fn new(table: &Location, name: &str, size: u64) -> Self {
        let path = name
            .split('/')
            .fold(table.path().clone(), |path, part| path.join(part));
        Self {
            table: table.clone(),
            path,
            size,
            runtime: Handle::current(),
        }
    }

    fn fetch(&self, start: u64, length: u64) -> Result<Bytes, object_store::Error> {
        self.runtime.block_on(
            self.table
                .root()
                .get_range(&self.path, start..start + length),
        )
    }

    fn failed(&self, error: parquet::errors::ParquetError) -> Error {
        Error::new(ErrorKind::Storage, "cannot read a file of the table")
            .on("file", self)
            .because(error)
    }
}

impl fmt::Display for StoredFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path.as_ref())
    }
}

/// Reads a file's batches one by one: all columns, or the top-level ones of these names.
pub(crate) fn read(
    file: &StoredFile,
    columns: Option<&[&str]>,
    mut each: impl FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone())
        .map_err(|error| file.failed(error))?;
    read_with(file, builder, columns, &mut each)
}

/// As [`read`], for files that any program has written: columns are of the types that Parquet says,
/// not of those that the writer had in memory. Of the rows, only those of these numbers, in order.
pub(crate) fn read_foreign(
    file: &StoredFile,
    columns: Option<&[&str]>,
    rows: Option<&RoaringTreemap>,
    mut each: impl FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let mut builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file.clone(), options)
        .map_err(|error| file.failed(error))?;
    if let Some(rows) = rows {
        let total = builder.metadata().file_metadata().num_rows();
        let total = usize::try_from(total).unwrap_or(0);
        let ranges = rows.iter().map(|row| row as usize..row as usize + 1);
        let ranges = ranges.take_while(|range| range.end <= total);
        let chosen = RowSelection::from_consecutive_ranges(ranges, total);
        builder = builder.with_row_selection(chosen);
    }
    read_with(file, builder, columns, &mut each)
}

fn read_with(
    file: &StoredFile,
    builder: ParquetRecordBatchReaderBuilder<StoredFile>,
    columns: Option<&[&str]>,
    each: &mut dyn FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    let mut builder = builder.with_batch_size(BATCH_ROWS);
    if let Some(columns) = columns {
        let root = builder.parquet_schema().root_schema().get_fields();
        let chosen = root
            .iter()
            .enumerate()
            .filter(|(_, field)| columns.contains(&field.name()))
            .map(|(index, _)| index);
        let mask = ProjectionMask::roots(builder.parquet_schema(), chosen);
        builder = builder.with_projection(mask);
    }
    let batches = builder.build().map_err(|error| file.failed(error))?;
    for batch in batches {
        each(batch.map_err(|error| file.failed(error.into()))?)?;
    }
    Ok(())
}

impl Length for StoredFile {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for StoredFile {
    type T = Forward;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(Forward {
            file: self.clone(),
            position: start,
            buffer: Bytes::new(),
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        self.fetch(start, length as u64)
            .map_err(|error| parquet::errors::ParquetError::External(error.into()))
    }
}

/// Reads on from a place in a file, a little at a time: page headers are read so.
pub(crate) struct Forward {
    file: StoredFile,
    position: u64,
    buffer: Bytes,
}

impl io::Read for Forward {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        const AT_ONCE: u64 = 16 << 10;
        if self.buffer.is_empty() {
            let length = AT_ONCE.min(self.file.size - self.position);
            if length == 0 {
                return Ok(0);
            }
            self.buffer = self
                .file
                .fetch(self.position, length)
                .map_err(io::Error::other)?;
            self.position += length;
        }
        let count = into.len().min(self.buffer.len());
        self.buffer.copy_to_slice(&mut into[..count]);
        Ok(count)
    }
}
