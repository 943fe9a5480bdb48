//! Where each key's row is.
//!
//! The index is a cache of what the table says: it is filled from the files that it does not know
//! yet, and a place in it counts only if the table has a row there that is not deleted.

use std::path::Path;

use roaring::RoaringTreemap;
use tributary_convert::key::{Key, keys_of_column};
use tributary_model::schema::{Column, RESCUED_COLUMN};
use tributary_model::{Error, ErrorKind, Result, TableSchema};

use super::table::{RowPlace, blocking};
use crate::delta::follow::LiveTable;
use crate::delta::log;
use crate::index::{KeyIndex, Place};
use crate::stored_file::{self, StoredFile};

/// How many places are put into the index at once.
const AT_ONCE: usize = 200_000;

/// The key index of one table.
pub(super) struct Places {
    index: KeyIndex,
}

impl Places {
    pub(super) async fn open(root: &Path, live: &LiveTable) -> Result<Self> {
        let id = live.definition.id().to_owned();
        let directory = root.join(&id);
        let index = blocking(move || KeyIndex::open(&directory, &id)).await??;
        Ok(Self { index })
    }

    /// Whether the index is at the table's version.
    pub(super) fn are_of(&self, live: &LiveTable) -> bool {
        self.index.version() == Some(live.version)
    }

    /// Brings the index up to the table's version.
    pub(super) async fn find_missing(&mut self, live: &mut LiveTable) -> Result<()> {
        let files = match self.stale(live).await? {
            Some(stale) => stale,
            None => {
                self.index.clear()?;
                live.files.keys().cloned().collect()
            }
        };
        self.find(live, &files).await
    }

    /// The files whose rows the index may not know: new ones, and those that others have put back.
    /// None where that cannot be told any more.
    async fn stale(&self, live: &LiveTable) -> Result<Option<Vec<String>>> {
        let Some(version) = self.index.version() else {
            return Ok(None);
        };
        if version > live.version {
            return Ok(None);
        }
        let mut stale: Vec<String> = live
            .files
            .keys()
            .filter(|path| !self.index.has_rows_of(path))
            .cloned()
            .collect();
        for version in version + 1..=live.version {
            let Some(commit) = log::read(&live.place, version).await? else {
                return Ok(None);
            };
            if commit.own().is_none() {
                stale.extend(commit.adds.into_iter().map(|add| add.path));
            }
        }
        stale.sort();
        stale.dedup();
        stale.retain(|path| live.files.contains_key(path));
        Ok(Some(stale))
    }

    /// Puts the rows of `files` into the index, which then is at the table's version.
    pub(super) async fn find(&mut self, live: &mut LiveTable, files: &[String]) -> Result<()> {
        if files.len() > 1 {
            tracing::info!(table = %live.place, files = files.len(), "building the key index");
        }
        let mut found = Vec::with_capacity(files.len());
        for path in files {
            let deleted = live.deleted(path).await?.cloned().unwrap_or_default();
            let Some(file) = live.files.get(path) else {
                continue;
            };
            let stored = StoredFile::new(&live.place, path, file.add.size.unsigned_abs());
            let number = self.index.number_for(path)?;
            let schema = live.schema.settled();
            let index = self.index.writer();
            blocking(move || {
                let mut found = Vec::new();
                keys_of_file(&stored, &schema, |first, keys| {
                    found.extend(place_live(first, keys, &deleted, number));
                    if found.len() >= AT_ONCE {
                        index.put(&found)?;
                        found.clear();
                    }
                    Ok(())
                })?;
                index.put(&found)
            })
            .await??;
            found.push(number);
        }
        self.index.finish(live.version, &found)
    }

    /// The place of each key's row, where it has one.
    pub(super) async fn of(
        &self,
        keys: &[Key],
        live: &mut LiveTable,
    ) -> Result<Vec<Option<RowPlace>>> {
        let found = self.index.places(keys)?;
        let mut places = Vec::with_capacity(found.len());
        for place in found {
            let place = match place.and_then(|p| Some((self.index.file_path(p.file)?, p.row))) {
                Some((path, row)) if live.is_live(path, row).await? => Some((path.to_owned(), row)),
                _ => None,
            };
            places.push(place);
        }
        Ok(places)
    }

    /// Records a commit: `rows` are in the new file `path`, and the keys of `changed` that are not
    /// among them have no row any more.
    pub(super) fn record(
        &mut self,
        live: &LiveTable,
        path: Option<&str>,
        rows: &[(Key, u32)],
        gone: &[Key],
    ) -> Result<()> {
        let file = match path {
            Some(path) => self.index.number_for(path)?,
            None => 0,
        };
        let put: Vec<(Key, Place)> = rows
            .iter()
            .map(|(key, row)| (*key, Place { file, row: *row }))
            .collect();
        self.index
            .apply(live.version, &put, gone, path.map(|_| file).as_slice())
    }

    /// Records that the rows of one file are in the same places of another now.
    pub(super) fn moved(&mut self, live: &LiveTable, files: &[(String, String)]) -> Result<()> {
        self.index.rename(live.version, files)
    }
}

fn place_live<'a>(
    first: u64,
    keys: &'a [Key],
    deleted: &'a RoaringTreemap,
    file: u32,
) -> impl Iterator<Item = (Key, Place)> + 'a {
    keys.iter().zip(first..).filter_map(move |(key, row)| {
        let place = Place {
            file,
            row: u32::try_from(row).ok()?,
        };
        (!deleted.contains(row)).then_some((*key, place))
    })
}

/// Calls `each` with the keys of a file's rows, in order, and the number of the first of them.
fn keys_of_file(
    file: &StoredFile,
    schema: &TableSchema,
    mut each: impl FnMut(u64, &[Key]) -> Result<()>,
) -> Result<()> {
    let Some(id) = schema.column("_id") else {
        return Ok(());
    };
    let mut first = 0;
    stored_file::read(file, Some(&["_id", RESCUED_COLUMN]), |batch| {
        let keys = keys_of_batch(id, &batch).map_err(|error| {
            Error::new(ErrorKind::InvalidData, "cannot read the keys of a file")
                .on("file", file)
                .because(error)
        })?;
        each(first, &keys)?;
        first += keys.len() as u64;
        Ok(())
    })
}

fn keys_of_batch(
    id: &Column,
    batch: &arrow::array::RecordBatch,
) -> Result<Vec<Key>, Box<dyn std::error::Error + Send + Sync>> {
    use arrow::array::AsArray;
    let column = batch
        .column_by_name("_id")
        .ok_or("there is no column `_id`")?;
    let rescued = batch
        .column_by_name(RESCUED_COLUMN)
        .and_then(|column| column.as_string_opt::<i32>());
    let mut keys = Vec::with_capacity(batch.num_rows());
    keys_of_column(id, column, rescued, &mut keys)?;
    Ok(keys)
}
