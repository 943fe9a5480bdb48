//! The key index of a table on this machine's disk: where the row of each key is.
//!
//! It is a cache, and built anew where it is missing, damaged, or of another table. Every change
//! of it is one atomic batch together with the table's version that it is up to.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use tributary_convert::Key;
use tributary_model::{Error, ErrorKind, Result};

/// Changes when an index of another version of this code must not be read.
const FORMAT: &str = "2";
/// Memory for blocks read.
const CACHE_BYTES: u64 = 32 << 20;
/// Memory for entries not yet in a sorted file.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// The journals of entries not yet in a sorted file.
const JOURNAL_BYTES: u64 = 64 << 20;

/// Where a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The number of its file.
    pub(crate) file: u32,
    /// Its number in the file.
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
            row: (both & u64::from(u32::MAX)) as u32,
        })
    }
}

/// The places of the rows of one table.
pub(crate) struct KeyIndex {
    database: Database,
    places: Keyspace,
    facts: Keyspace,
    files: Files,
    version: Option<u64>,
}

/// The files that places speak of. A number is never given to another file.
#[derive(Default)]
struct Files {
    numbers: HashMap<String, u32>,
    paths: HashMap<u32, String>,
    /// Those whose rows are all in the index.
    found: HashSet<u32>,
    next: u32,
}

impl Files {
    fn insert(&mut self, number: u32, path: String) {
        self.next = self.next.max(number + 1);
        if let Some(old) = self.paths.insert(number, path.clone()) {
            self.numbers.remove(&old);
        }
        self.numbers.insert(path, number);
    }
}

const TABLE: &str = "table";
const VERSION: &str = "version";
const FILE: &str = "file/";
const FOUND: &str = "found/";

impl KeyIndex {
    /// Opens the index in `directory`, empty where there is none for this table.
    pub(crate) fn open(directory: &Path, table: &str) -> Result<Self> {
        match Self::open_existing(directory, table) {
            Ok(Some(index)) => return Ok(index),
            Ok(None) => {}
            Err(fjall::Error::Locked) => {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    "another process uses the table's key index",
                )
                .on("index", directory.display())
                .remedy("stop the other sync of this table"));
            }
            Err(error) => {
                let error = error.to_string();
                tracing::warn!(index = %directory.display(), error, "the key index is damaged, and built anew");
            }
        }
        if let Err(error) = std::fs::remove_dir_all(directory)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(cannot_write(directory, error));
        }
        std::fs::create_dir_all(directory).map_err(|error| cannot_write(directory, error))?;
        let created = Self::create(directory, table);
        created.map_err(|error| cannot_write(directory, error))
    }

    fn database(directory: &Path) -> Result<Database, fjall::Error> {
        Database::builder(directory)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1)
            .open()
    }

    fn with_keyspaces(database: Database) -> Result<Self, fjall::Error> {
        let places = database.keyspace("places", || {
            KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES)
        })?;
        let facts = database.keyspace("facts", KeyspaceCreateOptions::default)?;
        Ok(Self {
            database,
            places,
            facts,
            files: Files::default(),
            version: None,
        })
    }

    fn create(directory: &Path, table: &str) -> Result<Self, fjall::Error> {
        let index = Self::with_keyspaces(Self::database(directory)?)?;
        index.facts.insert(TABLE, identity(table))?;
        Ok(index)
    }

    fn open_existing(directory: &Path, table: &str) -> Result<Option<Self>, fjall::Error> {
        if !directory.exists() {
            return Ok(None);
        }
        let mut index = Self::with_keyspaces(Self::database(directory)?)?;
        let known = index.facts.get(TABLE)?;
        if known.as_deref() != Some(identity(table).as_bytes()) {
            return Ok(None);
        }
        index.version = index
            .facts
            .get(VERSION)?
            .and_then(|bytes| Some(u64::from_be_bytes(bytes.as_ref().try_into().ok()?)));
        for entry in index.facts.prefix(FOUND) {
            let (name, _) = entry.into_inner()?;
            index.files.found.extend(number_of(&name, FOUND));
        }
        for entry in index.facts.prefix(FILE) {
            let (name, path) = entry.into_inner()?;
            let number = number_of(&name, FILE);
            let path = String::from_utf8(path.to_vec()).ok();
            if let Some((number, path)) = number.zip(path) {
                index.files.insert(number, path);
            }
        }
        Ok(Some(index))
    }

    /// The version of the table that it is up to; none while it has to be built.
    pub(crate) fn version(&self) -> Option<u64> {
        self.version
    }

    /// Whether all rows of a file are in it, and not only some, of which a process that ended had
    /// put the places.
    pub(crate) fn has_rows_of(&self, path: &str) -> bool {
        self.file_number(path)
            .is_some_and(|number| self.files.found.contains(&number))
    }

    /// The number of a file that it knows.
    fn file_number(&self, path: &str) -> Option<u32> {
        self.files.numbers.get(path).copied()
    }

    /// The file of a number.
    pub(crate) fn file_path(&self, number: u32) -> Option<&str> {
        self.files.paths.get(&number).map(String::as_str)
    }

    /// The number of a file, a new one where it is not known yet.
    pub(crate) fn number_for(&mut self, path: &str) -> Result<u32> {
        if let Some(number) = self.file_number(path) {
            return Ok(number);
        }
        let number = self.files.next;
        self.facts
            .insert(file_name(number), path)
            .map_err(|error| failed(&error))?;
        self.files.insert(number, path.to_owned());
        Ok(number)
    }

    /// The places of keys, in their order.
    pub(crate) fn places(&self, keys: &[Key]) -> Result<Vec<Option<Place>>> {
        keys.iter()
            .map(|key| {
                let found = self.places.get(key.0).map_err(|error| failed(&error))?;
                Ok(found.and_then(|bytes| Place::from_bytes(&bytes)))
            })
            .collect()
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) -> Result<()> {
        let clear = || {
            self.facts.remove(VERSION)?;
            self.places.clear()?;
            for number in self.files.paths.keys() {
                self.facts.remove(file_name(*number))?;
                self.facts.remove(found_name(*number))?;
            }
            Ok(())
        };
        clear().map_err(|error| failed(&error))?;
        self.version = None;
        self.files = Files::default();
        Ok(())
    }

    /// Something that puts places from another thread.
    pub(crate) fn writer(&self) -> PlaceWriter {
        PlaceWriter {
            database: self.database.clone(),
            places: self.places.clone(),
        }
    }

    /// Records that it is up to `version` of the table, and has all rows of the files `found`.
    pub(crate) fn finish(&mut self, version: u64, found: &[u32]) -> Result<()> {
        self.apply(version, &[], &[], found)
    }

    /// Puts and removes entries, after which it is up to `version` of the table, and has all rows
    /// of the files `found`.
    pub(crate) fn apply(
        &mut self,
        version: u64,
        put: &[(Key, Place)],
        remove: &[Key],
        found: &[u32],
    ) -> Result<()> {
        let mut batch = self.database.batch();
        for (key, place) in put {
            batch.insert(&self.places, key.0, place.to_bytes());
        }
        for key in remove {
            batch.remove(&self.places, key.0);
        }
        for number in found {
            batch.insert(&self.facts, found_name(*number), "");
        }
        batch.insert(&self.facts, VERSION, version.to_be_bytes());
        batch.commit().map_err(|error| failed(&error))?;
        self.files.found.extend(found);
        self.version = Some(version);
        Ok(())
    }

    /// Gives the numbers of files to others that hold the same rows in the same places.
    pub(crate) fn rename(&mut self, version: u64, files: &[(String, String)]) -> Result<()> {
        let mut batch = self.database.batch();
        for (old, new) in files {
            if let Some(number) = self.file_number(old) {
                batch.insert(&self.facts, file_name(number), new.as_str());
                self.files.insert(number, new.clone());
            }
        }
        batch.insert(&self.facts, VERSION, version.to_be_bytes());
        batch.commit().map_err(|error| failed(&error))?;
        self.version = Some(version);
        Ok(())
    }
}

/// Puts places without saying what version they are of.
pub(crate) struct PlaceWriter {
    database: Database,
    places: Keyspace,
}

impl PlaceWriter {
    pub(crate) fn put(&self, entries: &[(Key, Place)]) -> Result<()> {
        let mut batch = self.database.batch();
        for (key, place) in entries {
            batch.insert(&self.places, key.0, place.to_bytes());
        }
        batch.commit().map_err(|error| failed(&error))
    }
}

fn identity(table: &str) -> String {
    format!("{FORMAT} {table}")
}

fn file_name(number: u32) -> String {
    format!("{FILE}{number}")
}

fn found_name(number: u32) -> String {
    format!("{FOUND}{number}")
}

/// The number at the end of a name.
fn number_of(name: &[u8], prefix: &str) -> Option<u32> {
    let digits = name.get(prefix.len()..)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn failed(error: &fjall::Error) -> Error {
    Error::new(ErrorKind::Storage, "the key index cannot be used")
        .because(error.to_string())
        .remedy("see that its disk has space, and start again; a damaged index is built anew")
}

fn cannot_write(
    directory: &Path,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::new(
        ErrorKind::Storage,
        "the directory of the key index cannot be written",
    )
    .on("index", directory.display())
    .because(error)
    .remedy("make it writable for this user, or give another with --index")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> Key {
        Key::of(0x10, &n.to_le_bytes()).unwrap()
    }

    fn place(file: u32, row: u32) -> Place {
        Place { file, row }
    }

    #[test]
    fn what_was_put_is_found_after_opening_again() {
        let directory = tempfile::TempDir::new().unwrap();
        let mut index = KeyIndex::open(directory.path(), "t").unwrap();
        assert_eq!(index.version(), None);
        assert_eq!(index.number_for("a").unwrap(), 0);
        assert_eq!(index.number_for("b").unwrap(), 1);
        assert_eq!(index.number_for("a").unwrap(), 0);
        let put: Vec<_> = (0..1000).map(|n| (key(n), place(n % 2, n))).collect();
        index.apply(7, &put, &[], &[0, 1]).unwrap();
        index
            .apply(8, &[(key(1), place(1, 5000))], &[key(2)], &[])
            .unwrap();
        drop(index);
        let index = KeyIndex::open(directory.path(), "t").unwrap();
        assert_eq!(index.version(), Some(8));
        assert_eq!(index.file_path(1), Some("b"));
        let found = index
            .places(&[key(0), key(1), key(2), key(3), key(1000)])
            .unwrap();
        assert_eq!(
            found,
            [
                Some(place(0, 0)),
                Some(place(1, 5000)),
                None,
                Some(place(1, 3)),
                None
            ]
        );
    }

    #[test]
    fn a_file_counts_as_found_only_when_all_its_rows_are() {
        let directory = tempfile::TempDir::new().unwrap();
        let mut index = KeyIndex::open(directory.path(), "t").unwrap();
        let whole = index.number_for("whole").unwrap();
        index.finish(1, &[whole]).unwrap();
        let half = index.number_for("half").unwrap();
        index.writer().put(&[(key(1), place(half, 0))]).unwrap();
        drop(index);
        let mut index = KeyIndex::open(directory.path(), "t").unwrap();
        assert!(index.has_rows_of("whole"));
        assert!(!index.has_rows_of("half"));
        // What was put is not taken for a row of another file.
        assert_ne!(index.number_for("other").unwrap(), half);
        index.clear().unwrap();
        assert!(!index.has_rows_of("whole"));
    }

    #[test]
    fn a_file_that_is_rewritten_keeps_its_number() {
        let directory = tempfile::TempDir::new().unwrap();
        let mut index = KeyIndex::open(directory.path(), "t").unwrap();
        let number = index.number_for("old").unwrap();
        index
            .rename(3, &[("old".to_owned(), "new".to_owned())])
            .unwrap();
        drop(index);
        let mut index = KeyIndex::open(directory.path(), "t").unwrap();
        assert_eq!(index.file_number("new"), Some(number));
        assert_eq!(index.file_number("old"), None);
        assert_ne!(index.number_for("old").unwrap(), number);
    }

    #[test]
    fn an_index_of_another_table_is_emptied() {
        let directory = tempfile::TempDir::new().unwrap();
        let mut index = KeyIndex::open(directory.path(), "t").unwrap();
        index.apply(1, &[(key(1), place(0, 1))], &[], &[]).unwrap();
        drop(index);
        let index = KeyIndex::open(directory.path(), "u").unwrap();
        assert_eq!(index.version(), None);
        assert_eq!(index.places(&[key(1)]).unwrap(), [None]);
    }

    #[test]
    fn an_index_in_use_is_told() {
        let directory = tempfile::TempDir::new().unwrap();
        let _index = KeyIndex::open(directory.path(), "t").unwrap();
        let error = KeyIndex::open(directory.path(), "t").err().unwrap();
        assert!(error.to_string().contains("another process"), "{error}");
    }

    #[test]
    fn a_damaged_index_is_emptied_or_right() {
        let directory = tempfile::TempDir::new().unwrap();
        let mut index = KeyIndex::open(directory.path(), "t").unwrap();
        let put: Vec<_> = (0..1000).map(|n| (key(n), place(0, n))).collect();
        index.apply(7, &put, &[], &[]).unwrap();
        drop(index);
        let files: Vec<_> = walk(directory.path());
        assert!(!files.is_empty());
        for file in files {
            let Ok(bytes) = std::fs::read(&file) else {
                continue;
            };
            std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
            let index = KeyIndex::open(directory.path(), "t").unwrap();
            if index.version() == Some(7) {
                assert_eq!(
                    index.places(&[key(999)]).unwrap(),
                    [Some(place(0, 999))],
                    "{file:?}"
                );
            }
        }
    }

    fn walk(directory: &Path) -> Vec<std::path::PathBuf> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files.extend(walk(&path));
            } else {
                files.push(path);
            }
        }
        files.sort();
        files
    }
}
