//! Parquet files read back, from threads that block.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use bytes::{Buf, Bytes};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
    RowSelector,
};
use parquet::file::reader::{ChunkReader, Length};
use roaring::RoaringTreemap;
use tokio::runtime::Handle;
use tributary_convert::arrow_schema::described_schema;
use tributary_model::{Error, ErrorKind, Result, TableSchema};

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
    /// Why the store did not answer last: readers of Parquet pass on no more than its text.
    failure: Arc<Mutex<Option<object_store::Error>>>,
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
            failure: Arc::default(),
        }
    }

    fn fetch(&self, start: u64, length: u64) -> Result<Bytes, String> {
        let range = start..start + length;
        let fetched = self
            .runtime
            .block_on(self.table.root().get_range(&self.path, range));
        fetched.map_err(|error| {
            let text = error.to_string();
            *self.failure() = Some(error);
            text
        })
    }

    fn failure(&self) -> MutexGuard<'_, Option<object_store::Error>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error of a failed read: the store's own, where there is one.
    fn failed(&self, error: parquet::errors::ParquetError) -> Error {
        if let Some(failure) = self.failure().take() {
            let what = "cannot read a file of the table";
            return self.table.failed(what, failure).on("file", self);
        }
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
        if let Some(chosen) = Rows::Only(rows).selection(usize::try_from(total).unwrap_or(0)) {
            builder = builder.with_row_selection(chosen);
        }
    }
    read_with(file, builder, columns, &mut each)
}

/// As [`read_foreign`], and with the schema that the file was written under, where it tells.
pub(crate) fn read_described(
    file: &StoredFile,
    columns: Option<&[&str]>,
    rows: Rows<'_>,
    mut each: impl FnMut(Option<&TableSchema>, RecordBatch) -> Result<()>,
) -> Result<()> {
    let failed = |error| file.failed(error);
    let told = ArrowReaderMetadata::load(file, ArrowReaderOptions::new()).map_err(failed)?;
    let schema = described_schema(told.schema());
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let metadata =
        ArrowReaderMetadata::try_new(Arc::clone(told.metadata()), options).map_err(failed)?;
    let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file.clone(), metadata);
    let total = builder.metadata().file_metadata().num_rows();
    if let Some(chosen) = rows.selection(usize::try_from(total).unwrap_or(0)) {
        builder = builder.with_row_selection(chosen);
    }
    read_with(file, builder, columns, &mut |batch| {
        each(schema.as_ref(), batch)
    })
}

/// Which rows of a file are read, by their numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rows<'a> {
    /// These.
    Only(&'a RoaringTreemap),
    /// All but these.
    Without(&'a RoaringTreemap),
}

impl Rows<'_> {
    /// The rows of a file of `total`; none where all are read.
    fn selection(self, total: usize) -> Option<RowSelection> {
        let (rows, chosen) = match self {
            Self::Only(rows) => (rows, true),
            Self::Without(rows) if rows.is_empty() => return None,
            Self::Without(rows) => (rows, false),
        };
        let ranges = rows.iter().map(|row| row as usize..row as usize + 1);
        let ranges = ranges.take_while(|range| range.end <= total);
        let selection = RowSelection::from_consecutive_ranges(ranges, total);
        if chosen {
            return Some(selection);
        }
        let inverted = selection.iter().map(|selector| RowSelector {
            skip: !selector.skip,
            ..*selector
        });
        Some(inverted.collect::<Vec<_>>().into())
    }
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
