//! The log: every event that was acknowledged, until it is old.
//!
//! One SQLite database in a directory of its own. One thread writes it: events that wait while a transaction
//! is on its way to the disk are in the next one together. An append returns when its transaction is durable.

mod database;
mod order;
mod writer;

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::{oneshot, watch};
use tributary_model::{ClusterTime, Error, ErrorKind, Namespace, Position, Result};

use crate::check::CheckedEvent;
pub(crate) use database::State;
pub(crate) use database::StoredEvent;
use writer::{Append, Writer};

/// How many bytes of events are read at once.
const PAGE_BYTES: usize = 4 << 20;
/// How many events are read at once.
const PAGE_EVENTS: usize = 4096;
/// The file of the database.
const FILE: &str = "events.db";

/// How much a log remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// For how long.
    pub retention: Duration,
    /// How many bytes of events at most; none for as many as there are.
    pub largest: Option<u64>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            retention: Duration::from_secs(7 * 24 * 3600),
            largest: None,
        }
    }
}

/// What came of appending events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Appended {
    /// Those that are new, and in the log now.
    pub accepted: u64,
    /// Those that were there.
    pub duplicates: u64,
}

/// Why events were not appended.
#[derive(Debug, Clone)]
pub struct NotAppended {
    /// What failed.
    pub error: Error,
    /// Whether it is that there is no room.
    pub is_full: bool,
}

/// Where the table of a collection begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beginning {
    /// Behind this.
    pub position: Position,
    /// From when on changes are not remembered that came before, where there were any.
    pub lacking: Option<ClusterTime>,
}

/// A collection that events have been about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownCollection {
    pub(crate) namespace: Namespace,
    /// Whether it has taken its name from another.
    pub(crate) is_renamed: bool,
}

/// Events that were read together.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) events: Vec<StoredEvent>,
    /// The number up to which everything has been read.
    pub(crate) through: u64,
    /// Whether there was nothing more.
    pub(crate) is_last: bool,
}

/// The events of one source, on the local disk. One process has it open at a time.
#[derive(Debug)]
pub struct EventLog {
    name: String,
    file: PathBuf,
    id: String,
    options: Arc<Mutex<LogOptions>>,
    /// How far it has got. The writer is gone when nobody sends any more.
    state: watch::Receiver<State>,
    /// None only while it is dropped.
    appends: Option<mpsc::Sender<Append>>,
    writer: Option<JoinHandle<()>>,
    readers: Mutex<Vec<Connection>>,
    _lock: File,
}

impl Drop for EventLog {
    fn drop(&mut self) {
        drop(self.appends.take());
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!(log = self.name, "the writer of a log of events ended early");
        }
    }
}

impl EventLog {
    /// Opens the log of the source `name` in `directory`, which belongs to it alone, or makes an empty one.
    /// What was not acknowledged when a process ended may be there or not; nothing is there in part.
    ///
    /// It blocks, as opening files does.
    ///
    /// # Errors
    /// Another process has it open, the directory cannot be written, or holds something else.
    pub fn open(directory: &Path, name: &str, options: LogOptions) -> Result<Self> {
        let file = directory.join(FILE);
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Storage, "cannot open the log of events")
                .on("directory", directory.display())
                .because(error)
                .remedy("make the directory of the state one that can be written")
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join("lock"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "another process has the log of events open",
                )
                .on("directory", directory.display())
                .remedy("stop it first"));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let connection = database::open(&file, writer::present())
            .map_err(|error| storage(&file, "open", error))?
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Storage,
                    "the log of events was written by a later version of Tributary",
                )
                .on("file", file.display())
                .remedy("run that version, or move the directory away")
            })?;
        let (id, state) =
            database::identity(&connection).map_err(|error| storage(&file, "open", error))?;
        let (told, reached) = watch::channel(state);
        let (appends, waiting) = mpsc::channel();
        let options = Arc::new(Mutex::new(options));
        let writer = Writer::new(connection, file.clone(), Arc::clone(&options), told);
        let writer = std::thread::Builder::new()
            .name(format!("ingest {name}"))
            .spawn(move || writer.run(&waiting))
            .map_err(failed)?;
        Ok(Self {
            name: format!("ingest:{name}"),
            file,
            id,
            options,
            state: reached,
            appends: Some(appends),
            writer: Some(writer),
            readers: Mutex::default(),
            _lock: lock,
        })
    }

    /// What it is called as a source: `ingest:NAME`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Changes how much is remembered from now on.
    pub fn set_options(&self, options: LogOptions) {
        *self.options.lock().unwrap_or_else(PoisonError::into_inner) = options;
    }

    /// Appends events in their order, all of them or none. They are durable when it returns.
    ///
    /// # Errors
    /// They could not be made durable: perhaps they are there all the same, and appending them again adds
    /// nothing then.
    pub async fn append(&self, events: Vec<CheckedEvent>) -> Result<Appended, NotAppended> {
        let (done, answer) = oneshot::channel();
        let append = Append { events, done };
        let sent = self.appends.as_ref().map(|appends| appends.send(append));
        if !matches!(sent, Some(Ok(()))) {
            return Err(self.ended());
        }
        answer.await.unwrap_or_else(|_| Err(self.ended()))
    }

    fn ended(&self) -> NotAppended {
        NotAppended {
            error: Error::new(
                ErrorKind::Internal,
                "the writer of the log of events has ended",
            )
            .on("file", self.file.display()),
            is_full: false,
        }
    }

    /// Behind all that has been acknowledged. No event ever has this number.
    pub(crate) fn present(&self) -> Position {
        let last = self.state.borrow().last;
        Position {
            resume_token: None,
            ..self.behind(last + 1)
        }
    }

    /// The position behind an event.
    pub(crate) fn behind(&self, number: u64) -> Position {
        Position {
            cluster_time: ClusterTime(number),
            resume_token: Some(token(number)),
            stream: Some(self.name.clone()),
            deployment: Some(self.id.clone()),
        }
    }

    /// The number behind which following goes on from a position.
    ///
    /// # Errors
    /// The position is not of this log, or what comes behind it has been removed.
    pub(crate) fn number_of(&self, position: &Position) -> Result<u64> {
        let State { last, removed, .. } = *self.state.borrow();
        let is_other = position
            .deployment
            .as_ref()
            .is_some_and(|id| *id != self.id);
        // Without its token, the events of its moment are still to come.
        let number = match &position.resume_token {
            Some(_) => position.cluster_time.0,
            None => position.cluster_time.0.saturating_sub(1),
        };
        // A moment to come is as good as the present: nothing gets a number before it.
        let is_ahead = position.resume_token.is_some() && number > last;
        let number = number.min(last);
        if is_other || is_ahead {
            return Err(Error::new(
                ErrorKind::OtherSource,
                "the log of events never was at this position",
            )
            .on("log", &self.name)
            .on("position", position.cluster_time)
            .remedy(
                "put the directory of the state back that it is of, or follow into another lake",
            ));
        }
        if position.cluster_time.0 < removed {
            return Err(self.forgotten(position.cluster_time));
        }
        // The event of that moment is removed itself, or there was none.
        Ok(number.max(removed))
    }

    fn forgotten(&self, at: ClusterTime) -> Error {
        Error::new(
            ErrorKind::HistoryLost,
            "the log of events does not go back to this position any more",
        )
        .on("log", &self.name)
        .on("position", at)
        .remedy("keep events for longer, with the `retention` of the source")
    }

    /// The number of the last event that has been removed, and that of the last or a moment behind it.
    pub(crate) fn window(&self) -> (u64, u64) {
        let state = self.state.borrow();
        (state.removed, state.last)
    }

    /// Hears of every event that is appended.
    pub(crate) fn reached(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// The events behind a number, as many as are read at once.
    ///
    /// # Errors
    /// The first of them has been removed, the disk cannot be read, or an event is not what was written.
    pub(crate) async fn read(self: &Arc<Self>, after: u64) -> Result<Page> {
        let (events, is_last, state) = self
            .query(move |connection| database::page(connection, after, PAGE_EVENTS, PAGE_BYTES))
            .await?;
        if after < state.removed {
            return Err(self.forgotten(ClusterTime(after)));
        }
        if let Some(event) = events.iter().find(|event| !event.is_whole()) {
            return Err(Error::new(
                ErrorKind::InvalidData,
                "an event of the log is damaged",
            )
            .on("file", self.file.display())
            .on("event", ClusterTime(event.number))
            .remedy("put the directory back from a backup, or move it away and load the tables anew"));
        }
        let through = match (is_last, events.last()) {
            (false, Some(event)) => event.number,
            _ => after.max(state.last),
        };
        Ok(Page {
            events,
            through,
            is_last,
        })
    }

    /// The collections that events have been about, by name.
    pub(crate) async fn collections(self: &Arc<Self>) -> Result<Vec<KnownCollection>> {
        self.query(database::collections).await
    }

    /// Waits until there is an event of a document.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) async fn wait_for_collection(
        self: &Arc<Self>,
        is_wanted: impl Fn(&Namespace) -> bool,
    ) -> Result<()> {
        let mut reached = self.reached();
        loop {
            reached.mark_unchanged();
            let known = self.collections().await?;
            if known.iter().any(|known| is_wanted(&known.namespace))
                || reached.changed().await.is_err()
            {
                return Ok(());
            }
        }
    }

    /// Where the table of a collection begins: before the first event that is remembered of it.
    ///
    /// # Errors
    /// The log cannot be read, or has never heard of the collection.
    pub async fn beginning(self: &Arc<Self>, collection: &Namespace) -> Result<Beginning> {
        let wanted = collection.clone();
        let (first, state) = self
            .query(move |connection| database::first(connection, &wanted))
            .await?;
        let first = first.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "no event has been about this collection",
            )
            .on("log", &self.name)
            .on("namespace", collection)
        })?;
        if first <= state.removed {
            return Ok(Beginning {
                position: self.behind(state.removed),
                lacking: Some(ClusterTime(first)),
            });
        }
        Ok(Beginning {
            position: Position {
                resume_token: None,
                ..self.behind(first)
            },
            lacking: None,
        })
    }

    /// Asks the database, off the async threads.
    async fn query<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let log = Arc::clone(self);
        tokio::task::spawn_blocking(move || log.query_here(ask))
            .await
            .map_err(|panic| {
                Error::new(ErrorKind::Internal, "reading the log of events ended early")
                    .because(panic)
            })?
    }

    fn query_here<T>(&self, ask: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T> {
        let readers = || self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |error| storage(&self.file, "read", error);
        let known = readers().pop();
        let mut connection = match known {
            Some(connection) => connection,
            None => database::reader(&self.file).map_err(failed)?,
        };
        let answer = ask(&mut connection).map_err(failed)?;
        readers().push(connection);
        Ok(answer)
    }
}

/// The token of an event: its number, in as many digits as any other's.
pub(crate) fn token(number: u64) -> String {
    format!("{number:016x}")
}

/// The token as bytes.
pub(crate) fn token_bytes(number: u64) -> Bytes {
    Bytes::from(token(number))
}

/// What the database says, as an error that is told.
fn storage(file: &Path, what: &str, error: rusqlite::Error) -> Error {
    Error::new(
        ErrorKind::Storage,
        format!("cannot {what} the log of events"),
    )
    .on("file", file.display())
    .because(error)
    .remedy("see that the disk has room and the file can be written")
}

/// Whether the disk has no room.
pub(crate) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}
