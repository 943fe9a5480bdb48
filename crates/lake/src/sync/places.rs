//! Where each key's row is.
//!
//! The index is a cache of what the table says: it is filled from the files that it does not know
//! yet, and a place in it counts only if the table has a row there that is not deleted.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{AsArray, RecordBatch};
use roaring::RoaringTreemap;
use tributary_convert::encode::EncodeError;
use tributary_convert::key::{Key, keys_of_rows};
use tributary_flow::Failpoint;
use tributary_model::schema::RESCUED_COLUMN;
use tributary_model::{Error, ErrorKind, Result, TableSchema};

use super::rewrite::NewFile;
use super::table::blocking;
use crate::delta::follow::LiveTable;
use crate::delta::log;
use crate::index::{KeyIndex, Place};
use crate::stored_file::{self, StoredFile};

/// How many places are put into the index at once; fewer where failpoints are, so that tests get between two such
/// steps with tables that are not large.
const AT_ONCE: usize = if cfg!(debug_assertions) {
    20_000
} else {
    100_000
};

/// The key index of one table. Its methods compute and block on a thread of their own.
pub(super) struct Places {
    index: Arc<Mutex<KeyIndex>>,
}

impl Places {
    pub(super) async fn open(root: &Path, live: &LiveTable) -> Result<Self> {
        let id = live.definition.id().to_owned();
        let directory = root.join(&id);
        let index = blocking(move || KeyIndex::open(&directory, &id)).await??;
        Ok(Self {
            index: Arc::new(Mutex::new(index)),
        })
    }

    fn index(&self) -> MutexGuard<'_, KeyIndex> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn with_index<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut KeyIndex) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let index = Arc::clone(&self.index);
        blocking(move || work(&mut index.lock().unwrap_or_else(PoisonError::into_inner))).await?
    }

    /// The version of the table that the index is up to.
    pub(super) fn version(&self) -> Option<u64> {
        self.index().version()
    }

    /// Brings the index up to the table's version.
    pub(super) async fn find_missing(&mut self, live: &mut LiveTable) -> Result<()> {
        let files = match self.stale(live).await? {
            Some(stale) => stale,
            None => {
                self.with_index(KeyIndex::clear).await?;
                live.files.keys().cloned().collect()
            }
        };
        self.find(live, &files).await?;
        self.forget_gone(live).await
    }

    /// The files whose rows the index may not know: new ones, and those that others have put back.
    /// None where that cannot be told any more.
    async fn stale(&self, live: &LiveTable) -> Result<Option<Vec<String>>> {
        let (version, mut stale): (u64, Vec<String>) = {
            let index = self.index();
            let Some(version) = index.version().filter(|known| *known <= live.version) else {
                return Ok(None);
            };
            let files = live.files.keys();
            let new = files.filter(|path| index.file_number(path).is_none());
            (version, new.cloned().collect())
        };
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
        let version = live.version;
        for path in files {
            let deleted = live.deleted(path).await?.cloned().unwrap_or_default();
            let Some(file) = live.files.get(path) else {
                continue;
            };
            let stored = StoredFile::new(&live.place, path, file.add.size.unsigned_abs());
            let (schema, path) = (live.schema.settled(), path.clone());
            self.with_index(move |index| find_rows(index, &stored, path, &schema, &deleted))
                .await?;
        }
        self.with_index(move |index| {
            index.apply(Some(version), &[], [], [])?;
            index.persist()
        })
        .await
    }

    /// The rows of the keys that have one, by the files that they are in.
    pub(super) async fn rows_of(
        &self,
        keys: &Arc<Vec<Key>>,
        live: &mut LiveTable,
    ) -> Result<HashMap<String, RoaringTreemap>> {
        let wanted = Arc::clone(keys);
        let by_file = self
            .with_index(move |index| {
                let mut by_file: HashMap<u32, RoaringTreemap> = HashMap::new();
                for place in index.places(&wanted)?.into_iter().flatten() {
                    by_file
                        .entry(place.file)
                        .or_default()
                        .insert(place.row.into());
                }
                let named = by_file.into_iter().filter_map(|(file, rows)| {
                    // The rows of a file that the table has no longer are not there.
                    Some((index.file_path(file)?.to_owned(), rows))
                });
                Ok(named.collect::<Vec<_>>())
            })
            .await?;
        let mut found = HashMap::with_capacity(by_file.len());
        for (path, mut rows) in by_file {
            if let Some(deleted) = live.deleted(&path).await? {
                rows -= deleted;
                if !rows.is_empty() {
                    found.insert(path, rows);
                }
            }
        }
        Ok(found)
    }

    /// Records a commit: `rows` are in the new file `path`, and the keys `gone` have no row any
    /// more.
    pub(super) async fn record(
        &mut self,
        live: &LiveTable,
        path: Option<&str>,
        rows: Vec<(Key, u32)>,
        gone: Vec<Key>,
    ) -> Result<()> {
        let (version, path) = (live.version, path.map(str::to_owned));
        self.with_index(move |index| {
            let file = index.next_file_number();
            let files: Vec<(u32, String)> = path.into_iter().map(|path| (file, path)).collect();
            let put = rows
                .into_iter()
                .map(|(key, row)| (key, Place { file, row }));
            index.apply(Some(version), &files, put, gone)
        })
        .await
    }

    /// Records that the rows of files are in the same places of others now.
    pub(super) async fn moved(
        &mut self,
        live: &LiveTable,
        files: Vec<(String, String)>,
    ) -> Result<()> {
        let version = live.version;
        self.with_index(move |index| {
            let renamed: Vec<(u32, String)> = files
                .into_iter()
                .filter_map(|(old, new)| Some((index.file_number(&old)?, new)))
                .collect();
            index.apply(Some(version), &renamed, [], [])
        })
        .await
    }

    /// Records a commit by which these files have come in place of others, and the keys `gone` have
    /// no row any more.
    pub(super) async fn taken_over(
        &mut self,
        live: &mut LiveTable,
        files: Vec<NewFile>,
        gone: Vec<Key>,
    ) -> Result<()> {
        // The index says that it is at the table's version only once all of it is there.
        self.with_index(move |index| index.apply(index.version(), &[], [], gone))
            .await?;
        let mut unknown = Vec::new();
        for NewFile { file, keys } in files {
            let path = file.name;
            let Some(keys) = keys else {
                unknown.push(path);
                continue;
            };
            let Some(deleted) = live.deleted(&path).await?.cloned() else {
                continue;
            };
            self.with_index(move |index| {
                let (version, number) = (index.version(), reserve(index, &path)?);
                for (keys, first) in keys.chunks(AT_ONCE).zip((0..).step_by(AT_ONCE)) {
                    let places = places_of(keys, first, number, &deleted);
                    index.apply(version, &[], places, [])?;
                    Failpoint::CompactionBetween.hit();
                }
                index.apply(version, &[(number, path)], [], [])
            })
            .await?;
        }
        if unknown.is_empty() {
            let version = live.version;
            self.with_index(move |index| index.apply(Some(version), &[], [], []))
                .await?;
        } else {
            self.find(live, &unknown).await?;
        }
        self.forget_gone(live).await
    }

    /// Forgets the files that the table has no longer.
    async fn forget_gone(&self, live: &LiveTable) -> Result<()> {
        let gone: Vec<u32> = {
            let index = self.index();
            let known = index.file_numbers();
            let gone = known.filter(|(path, _)| !live.files.contains_key(*path));
            gone.map(|(_, number)| number).collect()
        };
        if gone.is_empty() {
            return Ok(());
        }
        self.with_index(move |index| index.forget(&gone)).await
    }
}

/// A number for a file that the index does not know yet. It is not given to another file, should
/// the reading of this one be interrupted; nor is the file known before it is given its own path.
fn reserve(index: &mut KeyIndex, path: &str) -> Result<u32> {
    let number = index.next_file_number();
    let name = format!("{path} (being read)");
    index.apply(index.version(), &[(number, name)], [], [])?;
    Ok(number)
}

/// The places of a file's rows that are not deleted: `keys` are those of the rows from `first` on.
fn places_of<'a>(
    keys: &'a [Key],
    first: u64,
    file: u32,
    deleted: &'a RoaringTreemap,
) -> impl Iterator<Item = (Key, Place)> + 'a {
    keys.iter().zip(first..).filter_map(move |(key, row)| {
        let place = Place {
            file,
            row: u32::try_from(row).ok()?,
        };
        (!deleted.contains(row)).then_some((*key, place))
    })
}

/// Puts the rows of one file that are not deleted. The index stays at the version it is at.
fn find_rows(
    index: &mut KeyIndex,
    file: &StoredFile,
    path: String,
    schema: &TableSchema,
    deleted: &RoaringTreemap,
) -> Result<()> {
    let version = index.version();
    let number = match index.file_number(&path) {
        Some(number) => number,
        None => reserve(index, &path)?,
    };
    let mut found: Vec<(Key, Place)> = Vec::new();
    keys_of_file(file, schema, |first, keys| {
        found.extend(places_of(&keys, first, number, deleted));
        if found.len() >= AT_ONCE {
            index.apply(version, &[], found.drain(..), [])?;
            Failpoint::IndexBetween.hit();
        }
        Ok(())
    })?;
    // Only now is the file one that the index knows.
    index.apply(version, &[(number, path)], found, [])
}

/// Calls `each` with the keys of a file's rows, in order, and the number of the first of them.
fn keys_of_file(
    file: &StoredFile,
    schema: &TableSchema,
    mut each: impl FnMut(u64, Vec<Key>) -> Result<()>,
) -> Result<()> {
    let mut first = 0;
    stored_file::read_foreign(file, Some(&["_id", RESCUED_COLUMN]), None, |batch| {
        let keys = keys_of_batch(schema, &batch).map_err(|error| {
            Error::new(ErrorKind::InvalidData, "cannot read the keys of a file")
                .on("file", file)
                .because(error)
        })?;
        let rows = keys.len() as u64;
        each(first, keys)?;
        first += rows;
        Ok(())
    })
}

/// The keys of a batch's rows, whose column `_id` is as the table's settled schema has it, if the
/// batch has one.
pub(crate) fn keys_of_batch(
    schema: &TableSchema,
    batch: &RecordBatch,
) -> Result<Vec<Key>, EncodeError> {
    let id = schema.column("_id").zip(batch.column_by_name("_id"));
    let rescued = batch
        .column_by_name(RESCUED_COLUMN)
        .and_then(|column| column.as_string_opt::<i32>());
    keys_of_rows(id, rescued, batch.num_rows())
}
