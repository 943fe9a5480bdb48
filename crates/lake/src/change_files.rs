//! Change events as files: an event each, or lines of several.
//!
//! The files of a collection are `<place>/<database>/<collection>/<name>`, and those of what is about a whole
//! database `<place>/<database>/<name>`. A name begins with the cluster time of the file's first event and the
//! number of that event among those of its moment, so that names sort as the events do, and ends with the number of
//! the batch that the file is of. Beside them, in a directory that no database can be called, is what makes each
//! event count once:
//!
//! - `_changes.state/position.json` says how far the files reach. A file counts if its batch is at most `batch` there,
//!   and not one of `withdrawn`.
//! - `_changes.state/pending.json` names the files that come next, before any of them is there. Whoever begins
//!   there anew lets them count where all of them are there, and else withdraws and removes them; their events are
//!   read again.
//!
//! In an object store nothing keeps another process out, nor from still writing when it was overtaken. Both files
//! are replaced only as they were read, so each number is of one batch of one writer: no two write the same file,
//! and what an overtaken one still writes is of a batch that was withdrawn, or has been there before.

mod plan;
mod state;
mod store;

use std::collections::BTreeSet;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use tributary_convert::extjson::Mode;
use tributary_flow::{Failpoint, Published, Publisher, RawEvent, Written};
use tributary_model::{Error, ErrorKind, Namespace, Position, Result};

use crate::format::JsonMode;
use crate::load::state::Lock;
use crate::location::Location;
use plan::{FileName, Layout, PlannedFile, plan};
use state::{Counted, Pending, StateFiles};

/// Files that are written at once.
const PARALLEL: usize = 16;

/// How change events become files.
#[derive(Debug, Clone)]
pub struct ChangeFilesOptions {
    /// How values are spelt.
    pub json: JsonMode,
    /// Whether files are compressed.
    pub gzip: bool,
    /// How many events a file holds at most, 1 at least. With 1, files hold one JSON object and are called
    /// `.json`; with more, an object a line, and they are called `.jsonl`.
    pub events_per_file: usize,
    /// The database whose changes they are; none for those of a whole deployment.
    pub database: Option<String>,
}

/// A place where change events become files.
///
/// Each event is in one file that counts, once: see the module. Another process that writes to the same place is
/// refused on a file system; in an object store the one that began later goes on, and the other is refused its next
/// batch.
pub struct ChangeFiles {
    place: Location,
    options: ChangeFilesOptions,
    state: StateFiles,
    /// How far the files reach; none before anything has been published.
    counted: Option<Counted>,
    /// Collections that have been looked at.
    known: BTreeSet<Namespace>,
    lock: Option<Lock>,
}

impl ChangeFiles {
    /// The files below `place`. Nothing is reached yet.
    #[must_use]
    pub fn new(place: Location, options: ChangeFilesOptions) -> Self {
        Self {
            state: StateFiles::new(&place),
            place,
            options,
            counted: None,
            known: BTreeSet::new(),
            lock: None,
        }
    }

    /// Whether change events become files at `place`.
    ///
    /// # Errors
    /// The place cannot be read.
    pub async fn is_at(place: &Location) -> Result<bool> {
        Ok(StateFiles::new(place).read_counted().await?.is_some())
    }

    /// The directory that a file is in.
    fn directory(&self, file: &FileName) -> Location {
        let database = self.place.child(&file.database);
        match &file.collection {
            Some(collection) => database.child(collection),
            None => database,
        }
    }

    /// Takes over from whoever wrote here: that one can neither count nor announce files from here on.
    async fn take_over(&mut self) -> Result<Option<Counted>> {
        let mut counted = loop {
            let Some(found) = self.state.read_counted().await? else {
                return Ok(None);
            };
            self.expect_database(&found)?;
            // That one may have counted some more since.
            if let Some(taken) = self.state.take_over(found).await? {
                break taken;
            }
        };
        loop {
            if let Some(pending) = self.state.read_pending().await? {
                if pending.is_beyond(&counted) {
                    return Err(self.state.overtaken());
                }
                if pending.follows(&counted) {
                    counted = self.settle(counted, &pending).await?;
                }
                if counted.has_withdrawn(&pending) {
                    self.remove(&pending).await?;
                }
            }
            // Where that one has announced files in between, these are looked at as well.
            if self.state.announce_none(&counted).await? {
                break;
            }
        }
        // Whoever has taken over by now may be further on, and whoever does later sees what is announced from here on.
        match self.state.read_counted().await? {
            Some(found) if found == counted => Ok(Some(counted)),
            _ => Err(self.state.overtaken()),
        }
    }

    fn expect_database(&self, counted: &Counted) -> Result<()> {
        if counted.database == self.options.database {
            return Ok(());
        }
        let all = "all databases";
        Err(Error::new(
            ErrorKind::AlreadyExists,
            "the target holds the changes of another database",
        )
        .on("target", &self.place)
        .on("database", counted.database.as_deref().unwrap_or(all))
        .remedy("choose another target, or the database that it was begun with"))
    }

    /// Lets the files of an unfinished batch count, or withdraws them.
    async fn settle(&mut self, counted: Counted, pending: &Pending) -> Result<Counted> {
        let places = self.places(pending);
        let found = stream::iter(&places).map(store::exists).buffered(PARALLEL);
        let found: Vec<bool> = found.try_collect().await?;
        if found.iter().all(|found| *found) {
            return self.state.count(pending.counted(&counted)).await;
        }
        self.state.count(pending.withdrawn(counted)).await
    }

    /// Removes files that will never count: before that is said, somebody else may still let them.
    async fn remove(&self, withdrawn: &Pending) -> Result<()> {
        for place in self.places(withdrawn) {
            store::remove(&place).await?;
            Failpoint::EventFileRemoved.hit();
        }
        Ok(())
    }

    /// Where the files are, or are to be.
    fn places(&self, pending: &Pending) -> Vec<Location> {
        let files = pending.files.iter();
        files
            .map(|file| self.directory(file).child(&file.name))
            .collect()
    }

    /// Refuses to write into the directory of a table, which would be taken for part of it or removed with what
    /// the table needs no more.
    async fn look_at(&mut self, files: &[PlannedFile]) -> Result<()> {
        for file in files {
            let namespace = file.name.namespace();
            if self.known.contains(&namespace) {
                continue;
            }
            let directory = self.directory(&file.name);
            if store::holds_any(&directory.child("_delta_log")).await? {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    "the target holds a table of this collection",
                )
                .on("target", directory)
                .remedy("write the changes to another place than the tables"));
            }
            self.known.insert(namespace);
        }
        Ok(())
    }

    fn layout(&self) -> Layout {
        Layout {
            mode: match self.options.json {
                JsonMode::Canonical => Mode::Canonical,
                JsonMode::Relaxed => Mode::Relaxed,
            },
            gzip: self.options.gzip,
            events_per_file: self.options.events_per_file.max(1),
        }
    }
}

#[async_trait]
impl Publisher for ChangeFiles {
    fn place(&self) -> String {
        self.place.to_string()
    }

    async fn position(&mut self) -> Result<Option<Position>> {
        if self.lock.is_none() {
            self.lock = Lock::of(self.state.place())?;
        }
        self.counted = self.take_over().await?;
        Ok(self
            .counted
            .as_ref()
            .map(|counted| counted.position.clone()))
    }

    async fn publish(&mut self, batch: &[RawEvent], position: &Position) -> Result<Published> {
        let Some(before) = self.counted.clone() else {
            let first = Counted::first(position, self.options.database.clone());
            self.counted = Some(self.state.count(first).await?);
            // Without a beginning there is nothing that could come behind it.
            return match batch {
                [] => Ok(Published::default()),
                _ => Err(Error::new(
                    ErrorKind::Internal,
                    "events were published before their beginning",
                )),
            };
        };
        let (events, layout) = (batch.to_vec(), self.layout());
        let (number, at) = (before.next_batch(), before.moment);
        let planned = tokio::task::spawn_blocking(move || plan(&events, number, at, layout)).await;
        let planned = planned.map_err(|panic| {
            Error::new(ErrorKind::Internal, "the files cannot be put together").because(panic)
        })??;
        if planned.files.is_empty() {
            self.counted = Some(self.state.count(before.moved(position)).await?);
            return Ok(Published::default());
        }
        self.look_at(&planned.files).await?;
        let names = planned.files.iter().map(|file| file.name.clone()).collect();
        let pending = Pending::new(&before, position, planned.moment, names);
        self.state.announce(&pending).await?;
        Failpoint::EventFilesPlanned.hit();
        let mut published = Published::default();
        for file in &planned.files {
            let of_collection: &mut Written = published
                .collections
                .entry(file.name.namespace())
                .or_default();
            of_collection.bytes += file.content.len() as u64;
            of_collection.reduced += file.reduced;
        }
        let writes = planned.files.into_iter().map(|file| {
            let place = self.directory(&file.name).child(&file.name.name);
            async move {
                store::write(&place, file.content).await?;
                Failpoint::EventFileWritten.hit();
                Ok::<_, Error>(())
            }
        });
        stream::iter(writes)
            .buffer_unordered(PARALLEL)
            .try_collect::<()>()
            .await?;
        Failpoint::EventFilesWritten.hit();
        self.counted = Some(self.state.count(pending.counted(&before)).await?);
        Failpoint::EventFilesCounted.hit();
        Ok(published)
    }
}

#[cfg(test)]
mod tests;
