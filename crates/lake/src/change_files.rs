//! Change events as files: an event each, or lines of several.
//!
//! The files of a collection are `<place>/<database>/<collection>/<name>`, and those of what is about a whole
//! database `<place>/<database>/<name>`. A name begins with the cluster time of the file's first event and the
//! number of that event among those of its moment, so that names sort as the events do and no two files have the
//! same one. Beside them, in a directory that no database can be called, is what makes each event count once:
//!
//! - `_changes.state/position.json` says how far the files reach. A file counts once that reaches it.
//! - `_changes.state/pending.json` names the files that come next, before any of them is there. Whoever begins
//!   there anew lets them count where all of them are there, and else removes them; their events are read again.

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
/// Each event is in one file, once: see the module. Another process that writes to the same place is refused on
/// a file system; in an object store the one that began later goes on, and the other is refused its next batch.
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

    /// Lets the files of an unfinished batch count, or removes them.
    async fn settle(&mut self, counted: Counted, pending: Pending) -> Result<Counted> {
        // Whoever wrote them is refused to count them from here on.
        let counted = self.state.count(counted.taken_over()).await?;
        let places: Vec<Location> = pending
            .files
            .iter()
            .map(|file| self.directory(file).child(&file.name))
            .collect();
        let found = stream::iter(&places).map(store::exists).buffered(PARALLEL);
        let found: Vec<bool> = found.try_collect().await?;
        if found.iter().all(|found| *found) {
            return self.state.count(pending.counted(&counted)).await;
        }
        for place in &places {
            store::remove(place).await?;
            Failpoint::EventFileRemoved.hit();
        }
        Ok(counted)
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
        let Some(mut counted) = self.state.read_counted().await? else {
            self.counted = None;
            return Ok(None);
        };
        if counted.database != self.options.database {
            let all = "all databases";
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                "the target holds the changes of another database",
            )
            .on("target", &self.place)
            .on("database", counted.database.as_deref().unwrap_or(all))
            .remedy("choose another target, or the database that it was begun with"));
        }
        if let Some(pending) = self.state.read_pending().await?
            && pending.follows(&counted)
        {
            counted = self.settle(counted, pending).await?;
        }
        let position = counted.position.clone();
        self.counted = Some(counted);
        Ok(Some(position))
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
        let (events, layout, at) = (batch.to_vec(), self.layout(), before.moment);
        let planned = tokio::task::spawn_blocking(move || plan(&events, at, layout)).await;
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
