//! Files written anew with rows of others, in bounded memory.
//!
//! It computes and blocks, on blocking threads.

use std::ops::Range;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use roaring::RoaringTreemap;
use tokio::runtime::Handle;
use tributary_convert::Key;
use tributary_model::{Error, ErrorKind, Result, TableSchema};

use super::places::keys_of_batch;
use super::table::new_file_name;
use super::widen;
use crate::delta::follow::LiveTable;
use crate::location::Location;
use crate::parquet_file::{DataFile, ParquetFile};
use crate::stored_file::{self, StoredFile};

/// How many keys of new rows are held in memory, 16 bytes each. Those of further files are read
/// from them when they are needed, in tests of some.
const MOST_KEYS: usize = if cfg!(test) { 25 } else { 4 << 20 };

/// A file of the table whose rows are written again.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) path: String,
    pub(super) size: u64,
    /// Rows in it, deleted ones included; none where its writer has not told.
    pub(super) rows: Option<u64>,
    /// The rows that are deleted.
    pub(super) deleted: RoaringTreemap,
}

impl Source {
    /// The file as the table has it now; none where it has it no longer.
    pub(super) async fn of(live: &mut LiveTable, path: &str) -> Result<Option<Self>> {
        let Some(deleted) = live.deleted(path).await?.cloned() else {
            return Ok(None);
        };
        Ok(live.files.get(path).map(|file| Self {
            path: path.to_owned(),
            size: file.add.size.unsigned_abs(),
            rows: file.rows,
            deleted,
        }))
    }

    /// Calls `each` with the file's rows, deleted ones included, as they are in it and in order, and
    /// with their numbers.
    pub(super) fn read(
        &self,
        table: &Location,
        mut each: impl FnMut(Range<u64>, RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let stored = StoredFile::new(table, &self.path, self.size);
        let mut read = 0;
        stored_file::read_foreign(&stored, None, None, |batch| {
            let rows = read..read + batch.num_rows() as u64;
            read = rows.end;
            each(rows, batch).map_err(|error| error.on("file", &stored))
        })?;
        if self.rows.is_some_and(|rows| rows != read) {
            return Err(Error::new(
                ErrorKind::InvalidData,
                "a file of the table has another number of rows than the log says",
            )
            .on("file", &stored));
        }
        Ok(())
    }
}

/// The rows of a batch for which `is_chosen`, by their numbers: its first row has the number
/// `first`.
pub(super) fn chosen(
    batch: &RecordBatch,
    first: u64,
    is_chosen: impl Fn(u64) -> bool,
) -> Result<RecordBatch> {
    let chosen: BooleanArray = (first..first + batch.num_rows() as u64)
        .map(|row| Some(is_chosen(row)))
        .collect();
    if chosen.true_count() == batch.num_rows() {
        return Ok(batch.clone());
    }
    filter_record_batch(batch, &chosen).map_err(|error| {
        Error::new(ErrorKind::Internal, "rows cannot be left out of a batch").because(error)
    })
}

/// A file that has been written, and is not yet part of the table.
pub(super) struct NewFile {
    pub(super) file: DataFile,
    /// The keys of its rows in order; none where they are not held.
    pub(super) keys: Option<Vec<Key>>,
}

/// Files being written, one after the other.
pub(super) struct Rewriter {
    place: Location,
    /// The table's settled schema.
    schema: TableSchema,
    /// The size at which a file is closed.
    file_bytes: u64,
    with_keys: bool,
    keys_held: usize,
    open: Option<(ParquetFile, Option<Vec<Key>>, u64)>,
    files: Vec<NewFile>,
}

impl Rewriter {
    /// Files below `place` of rows with the settled schema `schema`. The keys of the rows are kept
    /// if `with_keys`.
    pub(super) fn new(
        place: &Location,
        schema: &TableSchema,
        file_bytes: u64,
        with_keys: bool,
    ) -> Self {
        Self {
            place: place.clone(),
            schema: schema.clone(),
            file_bytes,
            with_keys,
            keys_held: 0,
            open: None,
            files: Vec::new(),
        }
    }

    /// Writes rows as they are in a file of the table, and answers the number of the new file that
    /// they are in and there that of the first of them.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(usize, u64)> {
        let batch = widen::brought_to(batch, &self.schema, &self.schema)?;
        let bytes = usize::try_from(self.file_bytes).unwrap_or(usize::MAX);
        if self.open.as_ref().is_some_and(|(f, ..)| f.size() >= bytes) {
            self.close()?;
        }
        let (file, keys, rows) = match &mut self.open {
            Some(open) => open,
            None => {
                let (name, schema) = (new_file_name(), self.schema.clone());
                let file = ParquetFile::begin(&self.place, name, schema, &batch)?;
                self.open.insert((file, self.with_keys.then(Vec::new), 0))
            }
        };
        let first = *rows;
        file.write(&batch)?;
        *rows += batch.num_rows() as u64;
        if let Some(held) = keys {
            if self.keys_held + batch.num_rows() > MOST_KEYS {
                self.keys_held -= held.len();
                *keys = None;
            } else {
                self.keys_held += batch.num_rows();
                held.extend(keys_of_rows(&self.schema, &batch)?);
            }
        }
        Ok((self.files.len(), first))
    }

    /// Ends the file that is being written: what comes is in the next.
    pub(super) fn close(&mut self) -> Result<()> {
        if let Some((file, keys, _)) = self.open.take() {
            let file = file.finish()?;
            self.files.push(NewFile { file, keys });
        }
        Ok(())
    }

    /// The files, once all rows are written.
    pub(super) fn finish(mut self) -> Result<Vec<NewFile>> {
        match self.close() {
            Ok(()) => Ok(self.files),
            Err(error) => {
                self.discard();
                Err(error)
            }
        }
    }

    /// Removes what has been written. What cannot be removed is vacuumed one day.
    pub(super) fn discard(self) {
        let names = self.files.iter().map(|new| &new.file.name);
        for name in names {
            let path = self.place.child(name);
            let _ = Handle::current().block_on(self.place.remove(path.path()));
        }
    }
}

/// Removes new files, as far as they have not become part of the table after all.
pub(super) async fn discard(live: &LiveTable, files: &[NewFile]) -> Result<()> {
    for name in files.iter().map(|new| &new.file.name) {
        if !live.files.contains_key(name) {
            live.place.remove(live.place.child(name).path()).await?;
        }
    }
    Ok(())
}

/// The keys of rows of a table with the settled schema `schema`.
pub(super) fn keys_of_rows(schema: &TableSchema, batch: &RecordBatch) -> Result<Vec<Key>> {
    keys_of_batch(schema, batch).map_err(|error| {
        Error::new(ErrorKind::InvalidData, "cannot read the keys of rows").because(error)
    })
}
