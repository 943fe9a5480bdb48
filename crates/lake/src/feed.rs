//! The lake's tables as sources: all rows of a version, and what changed from one to another.
//!
//! What changed is what the commits in between say: rows that were marked as deleted or whose files
//! were removed, and rows of files that were added. Commits that only move rows say nothing. The
//! commits are looked through from the last to the first, and of each key the last fact counts.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use async_trait::async_trait;
use deltalake::DeltaTableError;
use deltalake::kernel::Add;
use roaring::RoaringTreemap;
use tokio::sync::mpsc;
use tributary_convert::recast::recast_batch;
use tributary_convert::{Key, Naming};
use tributary_flow::{RowBatches, RowChange, TableFeed, TableSource, TableState, TableVersion};
use tributary_model::schema::RESCUED_COLUMN;
use tributary_model::{Error, ErrorKind, Namespace, Result, TableSchema};

use crate::delta::definition::Definition;
use crate::delta::follow::LiveFile;
use crate::delta::log::{self, Commit};
use crate::delta::{deletion_vector, table};
use crate::error::table_failed;
use crate::location::Location;
use crate::schemas;
use crate::stored_file::{self, Rows, StoredFile};
use crate::sync::keys_of_batch;
use crate::sync::widen::laid_out;

/// Batches of rows that wait for the sink.
const WAITING: usize = 4;
/// Where more rows than this have changed, and more than half as many as the table has, it is read
/// as a whole: that is sooner done, and keys need no memory.
const MANY_CHANGES: u64 = 200_000;
/// However large the table, the keys of more changes are not held in memory.
const MOST_CHANGES: u64 = 2_000_000;

/// The tables of a lake, each of which can be followed.
#[derive(Clone)]
pub struct LakeFeed {
    lake: Location,
    selects: Arc<dyn Fn(&Namespace) -> bool + Send + Sync>,
    /// The tables that have been looked at, and whether each is one of a collection.
    known: Arc<Mutex<HashMap<Namespace, bool>>>,
}

impl LakeFeed {
    /// The tables below `lake` that `selects` chooses.
    #[must_use]
    pub fn new(
        lake: Location,
        selects: impl Fn(&Namespace) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            lake,
            selects: Arc::new(selects),
            known: Arc::default(),
        }
    }

    /// Whether a table is one of a collection. Results of queries stand beside those, and have no keys.
    async fn is_of_collection(&self, table: &Namespace, place: &Location) -> Result<bool> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known().get(table) {
            return Ok(*known);
        }
        let is_one = match Feed::open(place).await {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                tracing::warn!(%error, "a table is passed over");
                false
            }
            // Whoever opens it is told.
            Err(_) => return Ok(true),
        };
        known().insert(table.clone(), is_one);
        Ok(is_one)
    }
}

#[async_trait]
impl TableSource for LakeFeed {
    async fn tables(&self) -> Result<Vec<Namespace>> {
        let mut found = Vec::new();
        for namespace in schemas::tables_below(&self.lake).await? {
            let place = schemas::place_of(&self.lake, &namespace);
            if (self.selects)(&namespace)
                && table::is_table(&place).await?
                && self.is_of_collection(&namespace, &place).await?
            {
                found.push(namespace);
            }
        }
        if found.is_empty() {
            return Err(schemas::no_tables(&self.lake));
        }
        found.sort();
        Ok(found)
    }

    async fn open(&self, table: &Namespace) -> Result<Box<dyn TableFeed>> {
        let place = schemas::place_of(&self.lake, table);
        Ok(Box::new(Feed::open(&place).await?))
    }
}

/// One table that is read version by version.
struct Feed {
    place: Location,
    version: u64,
    id: String,
    /// Settled.
    schema: TableSchema,
    files: HashMap<String, LiveFile>,
    committed: Option<SystemTime>,
}

/// Rows of one file.
struct FileRows {
    path: String,
    size: u64,
    /// The rows: all but those of `without`, or those of `only`.
    without: RoaringTreemap,
    only: Option<RoaringTreemap>,
}

/// What one commit says of rows.
#[derive(Default)]
struct Said {
    deleted: Vec<FileRows>,
    inserted: Vec<FileRows>,
}

impl Said {
    fn is_empty(&self) -> bool {
        self.deleted.is_empty() && self.inserted.is_empty()
    }
}

impl Feed {
    async fn open(place: &Location) -> Result<Self> {
        let failed = |error: DeltaTableError| {
            table_failed("cannot read the table's log", &place.to_string(), error)
        };
        let table = table::open(place).await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "there is no table").on("table", place)
        })?;
        let snapshot = table.snapshot().map_err(failed)?;
        let definition = Definition::of(snapshot).map_err(|error| failed(error.into()))?;
        let schema = definition.schema().ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidData,
                "the table was not made by `tributary copy` or `tributary sync`",
            )
            .on("table", place)
            .remedy("leave it out with --collection, or load it anew")
        })?;
        let files: HashMap<String, LiveFile> = table::files(&table, place)
            .await?
            .into_iter()
            .map(|add| (add.path.clone(), LiveFile::new(add)))
            .collect();
        let version = snapshot.version();
        let last = log::read(place, version).await?;
        Ok(Self {
            place: place.clone(),
            version,
            id: definition.id().to_owned(),
            schema: schema.settled(),
            files,
            committed: last.as_ref().and_then(committed),
        })
    }

    /// Takes over the commits that have come since.
    async fn catch_up(&mut self) -> Result<()> {
        while let Some(commit) = log::read(&self.place, self.version + 1).await? {
            if commit.redefines {
                *self = Self::open(&self.place).await?;
                continue;
            }
            self.version += 1;
            self.committed = committed(&commit);
            for remove in &commit.removes {
                self.files.remove(&remove.path);
            }
            for add in commit.adds {
                self.files.insert(add.path.clone(), LiveFile::new(add));
            }
        }
        Ok(())
    }

    /// What the commits behind `since` say, the last first.
    async fn said_since(&self, since: u64) -> Result<Vec<Said>> {
        let mut said = Vec::new();
        let mut changed = 0;
        let most = (self.live_rows() / 2).clamp(MANY_CHANGES, MOST_CHANGES);
        for version in (since + 1..=self.version).rev() {
            let Some(commit) = log::read(&self.place, version).await? else {
                return Err(Error::new(
                    ErrorKind::HistoryLost,
                    "the log of the table does not reach back to the version that was loaded last",
                )
                .on("table", &self.place));
            };
            let of_commit = self.said_by(&commit).await?;
            changed += of_commit.1;
            if changed > most {
                return Err(
                    Error::new(ErrorKind::HistoryLost, "most of its rows have changed")
                        .on("table", &self.place),
                );
            }
            said.push(of_commit.0);
        }
        Ok(said)
    }

    /// What one commit says of rows, and of how many at most.
    async fn said_by(&self, commit: &Commit) -> Result<(Said, u64)> {
        let mut said = Said::default();
        let mut rows = 0;
        let added: HashMap<&str, &Add> = commit
            .adds
            .iter()
            .filter(|add| add.data_change)
            .map(|add| (add.path.as_str(), add))
            .collect();
        let mut paired = HashSet::new();
        for remove in commit.removes.iter().filter(|remove| remove.data_change) {
            let before = self.vector(remove.deletion_vector.as_ref()).await?;
            let Some(size) = remove.size.map(i64::unsigned_abs) else {
                return Err(Error::new(
                    ErrorKind::HistoryLost,
                    "another writer has not said how large the files are that it removed",
                )
                .on("table", &self.place));
            };
            let file = |without, only| FileRows {
                path: remove.path.clone(),
                size,
                without,
                only,
            };
            match added.get(remove.path.as_str()) {
                Some(add) => {
                    paired.insert(add.path.as_str());
                    let after = self.vector(add.deletion_vector.as_ref()).await?;
                    let (gone, back) = (&after - &before, &before - &after);
                    rows += gone.len() + back.len();
                    let none = RoaringTreemap::new;
                    if !gone.is_empty() {
                        said.deleted.push(file(none(), Some(gone)));
                    }
                    if !back.is_empty() {
                        said.inserted.push(file(none(), Some(back)));
                    }
                }
                None => {
                    // Its statistics are not part of a removal.
                    rows += 1;
                    said.deleted.push(file(before, None));
                }
            }
        }
        for add in added
            .values()
            .filter(|add| !paired.contains(add.path.as_str()))
        {
            let without = self.vector(add.deletion_vector.as_ref()).await?;
            rows += LiveFile::new((*add).clone()).live_rows();
            said.inserted.push(FileRows {
                path: add.path.clone(),
                size: add.size.unsigned_abs(),
                without,
                only: None,
            });
        }
        Ok((said, rows))
    }

    async fn vector(
        &self,
        vector: Option<&deltalake::kernel::DeletionVectorDescriptor>,
    ) -> Result<RoaringTreemap> {
        match vector {
            Some(vector) => deletion_vector::read(&self.place, vector).await,
            None => Ok(RoaringTreemap::new()),
        }
    }

    fn live_rows(&self) -> u64 {
        self.files.values().map(LiveFile::live_rows).sum()
    }

    fn stored(&self, file: &FileRows) -> StoredFile {
        StoredFile::new(&self.place, &file.path, file.size)
    }
}

#[async_trait]
impl TableFeed for Feed {
    async fn now(&mut self) -> Result<TableState> {
        self.catch_up().await?;
        Ok(TableState {
            at: TableVersion {
                table: self.id.clone(),
                version: self.version,
            },
            schema: self.schema.clone(),
            rows: self.live_rows(),
            bytes: self
                .files
                .values()
                .map(|file| file.add.size.unsigned_abs())
                .sum(),
            committed: self.committed,
        })
    }

    async fn rows(&mut self) -> Result<RowBatches> {
        let mut files = Vec::with_capacity(self.files.len());
        for LiveFile { add, .. } in self.files.values() {
            let without = self.vector(add.deletion_vector.as_ref()).await?;
            let file = FileRows {
                path: add.path.clone(),
                size: add.size.unsigned_abs(),
                without,
                only: None,
            };
            files.push((self.stored(&file), file));
        }
        let schema = self.schema.clone();
        let (out, batches) = mpsc::channel(WAITING);
        tokio::task::spawn_blocking(move || {
            for (stored, file) in files {
                let read = read_rows(&stored, &file, &schema, None, |batch| {
                    out.blocking_send(Ok(batch)).map_err(|_| nobody_listens())
                });
                if let Err(error) = read {
                    // Nobody is left to hear of it only when the sink has failed itself.
                    let _ = out.blocking_send(Err(error));
                    return;
                }
            }
        });
        Ok(batches)
    }

    async fn changes(&mut self, since: u64) -> Result<mpsc::Receiver<Result<RowChange>>> {
        let said = self.said_since(since).await?;
        let (out, changes) = mpsc::channel(WAITING);
        if said.iter().all(Said::is_empty) {
            return Ok(changes);
        }
        let said: Vec<_> = said
            .into_iter()
            .map(|said| {
                let stored = |files: Vec<FileRows>| -> Vec<_> {
                    let files = files.into_iter();
                    files.map(|file| (self.stored(&file), file)).collect()
                };
                (stored(said.inserted), stored(said.deleted))
            })
            .collect();
        let schema = self.schema.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = send_changes(said, &schema, &out) {
                // As above.
                let _ = out.blocking_send(Err(error));
            }
        });
        Ok(changes)
    }

    async fn committed_behind(&mut self, since: u64) -> Result<Option<SystemTime>> {
        let commit = log::read(&self.place, since + 1).await?;
        Ok(commit.as_ref().and_then(committed))
    }
}

type Files = Vec<(StoredFile, FileRows)>;

/// Sends the last fact of each key.
fn send_changes(
    said: Vec<(Files, Files)>,
    schema: &TableSchema,
    out: &mpsc::Sender<Result<RowChange>>,
) -> Result<()> {
    let mut decided: HashSet<Key> = HashSet::new();
    let mut undecided = |batch: &RecordBatch| -> Result<Option<RecordBatch>> {
        let keys = keys_of_batch(schema, batch).map_err(|error| {
            Error::new(
                ErrorKind::InvalidData,
                "cannot read the keys of changed rows",
            )
            .because(error)
        })?;
        let chosen: BooleanArray = keys
            .into_iter()
            .map(|key| Some(decided.insert(key)))
            .collect();
        if chosen.true_count() == 0 {
            return Ok(None);
        }
        filter_record_batch(batch, &chosen)
            .map(Some)
            .map_err(|error| {
                Error::new(ErrorKind::Internal, "changed rows cannot be chosen").because(error)
            })
    };
    let send = |change| out.blocking_send(Ok(change)).map_err(|_| nobody_listens());
    for (inserted, deleted) in said {
        // In one commit the row that goes stands before the one that comes in its place.
        for (stored, file) in &inserted {
            read_rows(stored, file, schema, None, |batch| {
                match undecided(&batch)? {
                    Some(batch) => send(RowChange::Upsert(batch)),
                    None => Ok(()),
                }
            })?;
        }
        for (stored, file) in &deleted {
            let columns = ["_id", RESCUED_COLUMN];
            read_rows(
                stored,
                file,
                schema,
                Some(&columns),
                |batch| match undecided(&batch)? {
                    Some(batch) => send(RowChange::Delete(batch)),
                    None => Ok(()),
                },
            )?;
        }
    }
    Ok(())
}

/// Reads rows of a file, brought to the settled `schema`.
fn read_rows(
    stored: &StoredFile,
    file: &FileRows,
    schema: &TableSchema,
    columns: Option<&[&str]>,
    mut each: impl FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    let rows = match &file.only {
        Some(only) => Rows::Only(only),
        None => Rows::Without(&file.without),
    };
    let read = stored_file::read_described(stored, columns, rows, |described, batch| {
        let (in_file, batch) = laid_out(&batch, described.unwrap_or(schema))?;
        let batch = recast_batch(&batch, &in_file, schema, Naming::Logical).map_err(|error| {
            Error::new(
                ErrorKind::InvalidData,
                "cannot bring rows to the table's schema",
            )
            .on("file", stored)
            .because(error)
        })?;
        each(batch)
    });
    read.map_err(|error| match error.kind() {
        // Files that the table has no longer are kept for a time only.
        ErrorKind::NotFound => Error::new(
            ErrorKind::HistoryLost,
            "a file with rows of earlier versions is gone",
        )
        .on("file", stored),
        _ => error,
    })
}

/// When a commit was made.
fn committed(commit: &Commit) -> Option<SystemTime> {
    let millis = commit.info.get("timestamp")?.as_u64()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
}

fn nobody_listens() -> Error {
    Error::new(ErrorKind::Interrupted, "the rows are not wanted any more")
}
