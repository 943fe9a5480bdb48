//! Where each document of a table is: a local index from keys to places in data files.
//!
//! The index is no more than a memory of what the table holds. It always reflects exactly one
//! version of the table, [`KeyIndex::version`], because what a version changes is written in one
//! atomic step with its number. After a crash it may be some versions behind, and it is made anew
//! where it is damaged, of another form or of another table.
//!
//! All is in one key space of a log-structured store. Keys of documents have 16 bytes; what else is
//! to be known has longer ones, which begin with [`META`].

mod files;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use tributary_convert::Key;
use tributary_flow::Failpoint;
use tributary_model::{Error, ErrorKind, Result};

use files::{check_files, lock};

/// The number of the form in which entries and keys are kept.
const FORMAT: u32 = 1;

/// Memory for blocks that have been read.
const CACHE_BYTES: u64 = 32 << 20;
/// Memory for what has not been sorted into files yet.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// Disk space for the journals; the least that the store takes.
const JOURNAL_BYTES: u64 = 64 << 20;

/// What the keys of everything but documents begin with.
const META: [u8; 16] = [0xFF; 16];
/// The form and the table.
const IDENTITY: u8 = 0;
/// Version, number of the last batch, and next number of a file.
const STATE: u8 = 1;
/// The path of a file, by its number.
const FILE: u8 = 2;
/// The number of the last batch among those that have this remainder by [`TRACES`].
const TRACE: u8 = 3;
/// How many of the last batches leave a trace. A batch that is missing is noticed by it: the
/// journals' checksums do not tell that a whole batch is gone.
const TRACES: u64 = 4096;

/// How many memtables may wait to be sorted into files before a batch is written. The store itself
/// waits at 4, for ever if the thread that sorts has failed meanwhile.
const WAITING_MEMTABLES: usize = 2;
/// As before, for files that wait to be merged; the store waits at 30.
const WAITING_FILES: usize = 24;

/// Where a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The number of the data file.
    pub(crate) file: u32,
    /// The position of the row, counted from 0 through all row groups.
    pub(crate) row: u32,
}

impl Place {
    fn to_bytes(self) -> [u8; 8] {
        (u64::from(self.file) << 32 | u64::from(self.row)).to_be_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let both = u64::from_be_bytes(bytes.try_into().ok()?);
        Some(Self {
            file: (both >> 32) as u32,
            row: both as u32,
        })
    }
}

/// The index of one table, opened by one process at a time.
pub(crate) struct KeyIndex {
    store: Option<Store>,
    state: State,
    paths: BTreeMap<u32, String>,
    numbers: HashMap<String, u32>,
    directory: PathBuf,
    table_id: String,
    /// Held until the index is dropped, after the store.
    _lock: File,
}

struct Store {
    entries: Keyspace,
    database: Database,
}

/// What changes with every batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct State {
    version: Option<u64>,
    batch: u64,
    next_file: u32,
}

impl State {
    fn to_bytes(self) -> [u8; 21] {
        let mut bytes = [0; 21];
        bytes[0] = u8::from(self.version.is_some());
        bytes[1..9].copy_from_slice(&self.version.unwrap_or(0).to_be_bytes());
        bytes[9..17].copy_from_slice(&self.batch.to_be_bytes());
        bytes[17..].copy_from_slice(&self.next_file.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (known, rest) = bytes.split_first()?;
        let (version, rest) = rest.split_first_chunk::<8>()?;
        let (batch, rest) = rest.split_first_chunk::<8>()?;
        Some(Self {
            version: (*known == 1).then_some(u64::from_be_bytes(*version)),
            batch: u64::from_be_bytes(*batch),
            next_file: u32::from_be_bytes(rest.try_into().ok()?),
        })
    }
}

/// Why an index that is there cannot be used.
enum Unusable {
    /// It is to be made anew: it is damaged, or not what is asked for.
    Discard(String),
    /// The disk does not let it be read or written.
    Failed(fjall::Error),
}

impl From<fjall::Error> for Unusable {
    fn from(error: fjall::Error) -> Self {
        if is_disk_failure(&error) {
            Self::Failed(error)
        } else {
            Self::Discard(error.to_string())
        }
    }
}

impl KeyIndex {
    /// Opens the index in `directory`, which belongs to it alone, or makes an empty one.
    ///
    /// An index that is damaged, of another form or of a table other than `table_id` is emptied.
    ///
    /// # Errors
    /// Another process has the index open, or the directory cannot be written.
    pub(crate) fn open(directory: &Path, table_id: &str) -> Result<Self> {
        let lock = lock(directory)?;
        let mut index = Self {
            store: None,
            state: State::default(),
            paths: BTreeMap::new(),
            numbers: HashMap::new(),
            directory: directory.to_owned(),
            table_id: table_id.to_owned(),
            _lock: lock,
        };
        let is_new = !index.data().exists();
        let reason = if is_new {
            None
        } else if index.mark().exists() {
            Some("it was found damaged, or never got open".to_owned())
        } else {
            // There should the store end the process: then the next one does not try.
            let marked = std::fs::write(index.mark(), b"");
            marked.map_err(|error| index.failed("open", error.into()))?;
            match index.load() {
                Ok(()) => {
                    let unmarked = std::fs::remove_file(index.mark());
                    unmarked.map_err(|error| index.failed("open", error.into()))?;
                    return Ok(index);
                }
                Err(Unusable::Failed(error)) => {
                    let _ = std::fs::remove_file(index.mark());
                    return Err(index.failed("open", error));
                }
                Err(Unusable::Discard(reason)) => Some(reason),
            }
        };
        if let Some(reason) = reason {
            tracing::warn!(
                directory = %directory.display(),
                reason,
                "the index of keys cannot be used and is made anew"
            );
        }
        index.renew()?;
        Ok(index)
    }

    /// The version of the table that all entries reflect; none where the index must be built.
    pub(crate) fn version(&self) -> Option<u64> {
        self.state.version
    }

    /// Where the documents are, in the order of `keys`.
    ///
    /// # Errors
    /// The index cannot be read. It is made anew when it is opened the next time.
    pub(crate) fn places(&self, keys: &[Key]) -> Result<Vec<Option<Place>>> {
        let store = self.store()?;
        // In their order, keys near to one another are read from the same block.
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        order.sort_unstable_by_key(|&i| keys[i as usize]);
        let mut places = vec![None; keys.len()];
        for i in order {
            let found = self.guarded("read", || store.entries.get(keys[i as usize].0))?;
            if let Some(bytes) = found {
                let place = Place::from_bytes(&bytes);
                places[i as usize] = Some(place.ok_or_else(|| self.damaged("an entry"))?);
            }
        }
        Ok(places)
    }

    /// Writes what `version` of the table changes, or a part of it, as one step: files and the numbers they
    /// get, places of documents, and keys that are gone. A key both put and removed is put; of
    /// several places of a key the last counts.
    ///
    /// The changes survive the end of the process at once, and the end of the machine from the next
    /// [`persist`](Self::persist) on; until then the index may go back to an earlier version.
    ///
    /// # Errors
    /// The index cannot be written.
    pub(crate) fn apply(
        &mut self,
        version: Option<u64>,
        files: &[(u32, String)],
        put: impl IntoIterator<Item = (Key, Place)>,
        remove: impl IntoIterator<Item = Key>,
    ) -> Result<()> {
        let mut changes: Vec<(Key, Option<Place>)> =
            remove.into_iter().map(|key| (key, None)).collect();
        changes.extend(put.into_iter().map(|(key, place)| (key, Some(place))));
        self.write(version, files, &[], changes)
    }

    /// Forgets the paths of files that the table has no longer. Entries may still name their
    /// numbers, which are not given to other files.
    ///
    /// # Errors
    /// The index cannot be written.
    pub(crate) fn forget(&mut self, numbers: &[u32]) -> Result<()> {
        self.write(self.state.version, &[], numbers, Vec::new())
    }

    /// The path of the file that has this number.
    pub(crate) fn file_path(&self, number: u32) -> Option<&str> {
        self.paths.get(&number).map(String::as_str)
    }

    /// The number of the file that has this path.
    pub(crate) fn file_number(&self, path: &str) -> Option<u32> {
        self.numbers.get(path).copied()
    }

    /// The files that have a number.
    pub(crate) fn file_numbers(&self) -> impl Iterator<Item = (&str, u32)> {
        self.numbers
            .iter()
            .map(|(path, number)| (path.as_str(), *number))
    }

    /// A number that no file has had, and neither had any greater.
    pub(crate) fn next_file_number(&self) -> u32 {
        self.state.next_file
    }

    /// Empties the index, to be built from the table. It has no version until one is applied.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub(crate) fn clear(&mut self) -> Result<()> {
        self.renew()
    }

    /// Sees to it that all that was applied survives the end of the machine.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(crate) fn persist(&self) -> Result<()> {
        let store = self.store()?;
        self.guarded("write", || store.database.persist(PersistMode::SyncAll))
    }

    fn write(
        &mut self,
        version: Option<u64>,
        files: &[(u32, String)],
        forget: &[u32],
        mut changes: Vec<(Key, Option<Place>)>,
    ) -> Result<()> {
        // Only one change of a key may be in a batch: the last, behind those equal to it.
        changes.sort_by_key(|(key, _)| *key);
        let next_file = files.iter().map(|(number, _)| number.saturating_add(1));
        let state = State {
            version,
            batch: self.state.batch + 1,
            next_file: next_file.fold(self.state.next_file, u32::max),
        };
        let store = self.store()?;
        self.wait_for_room(store)?;
        let entries = &store.entries;
        let mut batch = store.database.batch();
        for (i, (key, place)) in changes.iter().enumerate() {
            if changes.get(i + 1).is_some_and(|(next, _)| next == key) {
                continue;
            }
            match place {
                Some(place) => batch.insert(entries, key.0, place.to_bytes()),
                None => batch.remove(entries, key.0),
            }
        }
        for (number, path) in files {
            batch.insert(entries, file_key(*number), path.as_bytes());
        }
        for number in forget {
            batch.remove(entries, file_key(*number));
        }
        batch.insert(entries, trace_key(state.batch), state.batch.to_be_bytes());
        batch.insert(entries, meta_key(STATE), state.to_bytes());
        Failpoint::IndexBefore.hit();
        self.guarded("write", || batch.commit())?;
        Failpoint::IndexAfter.hit();
        self.state = state;
        for (number, path) in files {
            if let Some(old) = self.paths.insert(*number, path.clone()) {
                self.numbers.remove(&old);
            }
            self.numbers.insert(path.clone(), *number);
        }
        for number in forget {
            if let Some(path) = self.paths.remove(number)
                && self.numbers.get(&path) == Some(number)
            {
                self.numbers.remove(&path);
            }
        }
        Ok(())
    }

    /// Waits until the store takes a batch without waiting itself.
    fn wait_for_room(&self, store: &Store) -> Result<()> {
        while store.entries.sealed_memtable_count() > WAITING_MEMTABLES
            || store.entries.l0_table_count() > WAITING_FILES
        {
            // An error where the store's own thread has failed.
            self.guarded("write", || store.database.persist(PersistMode::Buffer))?;
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn store(&self) -> Result<&Store> {
        self.store.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Internal, "the index of keys is not open")
                .on("index", self.directory.display())
        })
    }

    /// The store's directory.
    fn data(&self) -> PathBuf {
        self.directory.join("entries")
    }

    /// A file that is there where the store is damaged, and while it is opened.
    fn mark(&self) -> PathBuf {
        self.directory.join("damaged")
    }

    /// Opens what is there, and checks that it is whole and what is asked for.
    fn load(&mut self) -> Result<(), Unusable> {
        // The store takes what it reads for what it wrote in places.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            check_files(&self.data())?;
            let store = Store::open(&self.data())?;
            let contents = store.contents(&self.table_id)?;
            Ok((store, contents))
        }));
        let (store, contents) =
            opened.unwrap_or_else(|_| Err(Unusable::Discard("it is damaged".to_owned())))?;
        self.state = contents.state;
        self.numbers = contents
            .paths
            .iter()
            .map(|(number, path)| (path.clone(), *number))
            .collect();
        self.paths = contents.paths;
        self.store = Some(store);
        Ok(())
    }

    /// Puts an empty index in the place of what there is.
    fn renew(&mut self) -> Result<()> {
        self.store = None;
        self.state = State::default();
        self.paths.clear();
        self.numbers.clear();
        let failed = |error: io::Error| {
            Error::new(ErrorKind::Storage, "cannot make an index of keys")
                .on("index", self.directory.display())
                .because(error)
        };
        for result in [
            std::fs::remove_dir_all(self.data()),
            std::fs::remove_file(self.mark()),
        ] {
            match result {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        let made = Store::open(&self.data()).and_then(|store| {
            let mut identity = FORMAT.to_be_bytes().to_vec();
            identity.extend_from_slice(self.table_id.as_bytes());
            let state = State::default().to_bytes();
            let mut batch = store.database.batch();
            batch.insert(&store.entries, meta_key(IDENTITY), identity);
            batch.insert(&store.entries, trace_key(0), 0_u64.to_be_bytes());
            batch.insert(&store.entries, meta_key(STATE), state);
            batch.commit()?;
            Ok(store)
        });
        self.store = Some(made.map_err(|error| self.failed("make", error))?);
        Ok(())
    }

    /// Runs an operation of the store. Where it fails otherwise than by the disk, the index is made
    /// anew the next time.
    fn guarded<T>(
        &self,
        what: &str,
        operation: impl FnOnce() -> Result<T, fjall::Error>,
    ) -> Result<T> {
        match catch_unwind(AssertUnwindSafe(operation)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) if is_disk_failure(&error) => Err(self.failed(what, error)),
            Ok(Err(error)) => Err(self.damaged(what).because(error)),
            Err(_) => Err(self.damaged(what)),
        }
    }

    fn damaged(&self, what: &str) -> Error {
        // Where even this fails, the damage is found again.
        let _ = std::fs::write(self.mark(), b"");
        Error::new(
            ErrorKind::InvalidData,
            format!("the index of keys is damaged (while trying to {what})"),
        )
        .on("index", self.directory.display())
        .remedy("start again: the index is made anew from the table")
    }

    fn failed(&self, what: &str, error: fjall::Error) -> Error {
        Error::new(
            ErrorKind::Storage,
            format!("cannot {what} the index of keys"),
        )
        .on("index", self.directory.display())
        .because(error)
    }
}

/// What an index knows beside its entries.
struct Contents {
    state: State,
    paths: BTreeMap<u32, String>,
}

impl Store {
    fn open(directory: &Path) -> Result<Self, fjall::Error> {
        let database = Database::builder(directory)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1)
            .open()?;
        let entries = database.keyspace("entries", || {
            // Filters on all levels: keys of new documents are looked for in vain.
            KeyspaceCreateOptions::default()
                .max_memtable_size(MEMTABLE_BYTES)
                .expect_point_read_hits(false)
        })?;
        Ok(Self { entries, database })
    }

    fn contents(&self, table_id: &str) -> Result<Contents, Unusable> {
        let damaged = |what: &str| Unusable::Discard(format!("it is damaged: {what}"));
        let identity = self.entries.get(meta_key(IDENTITY))?;
        let (format, table) = identity
            .as_deref()
            .and_then(<[u8]>::split_first_chunk::<4>)
            .ok_or_else(|| damaged("it does not say what it is"))?;
        if u32::from_be_bytes(*format) != FORMAT {
            return Err(Unusable::Discard("it is of another form".to_owned()));
        }
        if table != table_id.as_bytes() {
            return Err(Unusable::Discard("it is of another table".to_owned()));
        }
        let state = self
            .entries
            .get(meta_key(STATE))?
            .and_then(|bytes| State::from_bytes(&bytes))
            .ok_or_else(|| damaged("its version is missing"))?;
        let mut paths = BTreeMap::new();
        for item in self.entries.prefix(meta_key(FILE)) {
            let (key, path) = item.into_inner()?;
            let number = key.get(META.len() + 1..).and_then(|n| n.try_into().ok());
            let path = std::str::from_utf8(&path).ok().map(str::to_owned);
            let (Some(number), Some(path)) = (number, path) else {
                return Err(damaged("a file's name"));
            };
            paths.insert(u32::from_be_bytes(number), path);
        }
        let mut traces = 0;
        for item in self.entries.prefix(meta_key(TRACE)) {
            let (key, batch) = item.into_inner()?;
            let batch = batch.as_ref().try_into().map(u64::from_be_bytes);
            let is_expected = batch.is_ok_and(|batch| {
                batch <= state.batch
                    && batch + TRACES > state.batch
                    && trace_key(batch).as_slice() == key.as_ref()
            });
            if !is_expected {
                return Err(damaged("a change is missing"));
            }
            traces += 1;
        }
        if traces != TRACES.min(state.batch + 1) {
            return Err(damaged("a change is missing"));
        }
        Ok(Contents { state, paths })
    }
}

fn meta_key(tag: u8) -> Vec<u8> {
    let mut key = META.to_vec();
    key.push(tag);
    key
}

fn file_key(number: u32) -> Vec<u8> {
    let mut key = meta_key(FILE);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

fn trace_key(batch: u64) -> Vec<u8> {
    let mut key = meta_key(TRACE);
    key.extend_from_slice(&((batch % TRACES) as u16).to_be_bytes());
    key
}

/// Whether the disk is at fault, and not what is on it.
fn is_disk_failure(error: &fjall::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied
                    | io::ErrorKind::ReadOnlyFilesystem
                    | io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
                    | io::ErrorKind::OutOfMemory
            );
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
mod tests;
