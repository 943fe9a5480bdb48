//! What is to be remembered: runs and their steps, the objects that they are for, the times that have
//! passed, flows that were stopped, how far triggers have got and what became of their events, and alerts
//! with the messages that are to be sent.
//!
//! One SQLite database in the state directory. Every call is one transaction, durable when it returns; the
//! process that runs the file and those that ask about it share the database.

mod alerts;
mod function_runs;
mod objects;
mod runs;
mod schedules;
#[cfg(test)]
mod tests;
mod triggers;

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tributary_model::{Error, ErrorKind, Result};

pub(crate) use alerts::{Outgoing, Raised, Telling};
pub(crate) use runs::{Request, RunCount};
pub(crate) use triggers::{Ask, Remembered};

/// How long another process may hold the database.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked whether the place of the process that runs the file is free.
const LOOKS: u32 = 10;
/// How long between that: longer than others take the place to see whether it is.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Each brings a database of the version before it to its own.
const MIGRATIONS: &[&str] = &[
    include_str!("store/1.sql"),
    include_str!("store/2.sql"),
    include_str!("store/3.sql"),
];

/// How many statements are kept ready: as many as there are that are done often.
const STATEMENTS: usize = 64;

/// The database.
#[derive(Clone)]
pub struct Store {
    connection: Arc<Mutex<Connection>>,
    directory: PathBuf,
}

/// That this process runs the file, and no other does.
#[derive(Debug)]
pub struct RunnerLock {
    _file: File,
}

impl Store {
    /// Opens the database below `directory`, or makes it.
    ///
    /// # Errors
    /// The directory cannot be written, or holds something else.
    pub fn open(directory: &Path) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Storage, "cannot make the directory of the state")
                .on("directory", directory.display())
                .because(error)
                .remedy("name another one with `state`, or make it one that can be written")
        };
        // What programs told is in it, which is nobody else's business.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed)?;
        let path = directory.join("tributary.db");
        let mut connection =
            Connection::open(&path).map_err(|error| storage(&path, "open", error))?;
        prepare(&mut connection).map_err(|error| storage(&path, "open", error))?;
        let version = migrate(&mut connection).map_err(|error| storage(&path, "open", error))?;
        if version > MIGRATIONS.len() {
            return Err(Error::new(
                ErrorKind::Storage,
                "the state was written by a later version of Tributary",
            )
            .on("file", path.display())
            .on("version", version)
            .remedy("run that version, or name another directory with `state`"));
        }
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            directory: directory.to_owned(),
        })
    }

    /// The directory that it is in.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Takes the place of the one process that runs the file; none where another has it.
    ///
    /// # Errors
    /// The lock cannot be asked for.
    pub fn lock(&self) -> Result<Option<RunnerLock>> {
        let path = self.directory.join("lock");
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Storage, "cannot lock the state")
                .on("file", path.display())
                .because(error)
        };
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(RunnerLock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// As [`lock`](Self::lock), for whoever stays there: others see that nobody does by taking it for a moment.
    ///
    /// # Errors
    /// The lock cannot be asked for.
    pub(crate) fn lock_to_stay(&self) -> Result<Option<RunnerLock>> {
        for _ in 0..LOOKS {
            if let Some(lock) = self.lock()? {
                return Ok(Some(lock));
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
        self.lock()
    }

    /// Does something in one transaction, off the async threads.
    pub(crate) async fn transact<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || store.transact_here(work))
            .await
            .map_err(|error| {
                Error::new(
                    ErrorKind::Internal,
                    "a transaction of the state ended early",
                )
                .because(error)
            })?
    }

    /// The same, on this thread.
    pub(crate) fn transact_here<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let failed = |error| storage(&self.directory.join("tributary.db"), "use", error);
        // Who reads first and writes then would have to begin anew if another wrote in between.
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let result = work(&transaction).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(result)
    }

    /// Forgets what ended before `before`, all but the objects of the jobs that would be told of them
    /// again, and answers how many runs of jobs that were.
    pub(crate) async fn forget(
        &self,
        before: DateTime<Utc>,
        told_again: Vec<String>,
    ) -> Result<Vec<RunCount>> {
        self.transact(move |db| {
            let forgotten = runs::forget(db, before, &told_again)?;
            function_runs::forget(db, before)?;
            alerts::forget(db, before)?;
            Ok(forgotten)
        })
        .await
    }

    /// Whether a flow was stopped by hand.
    pub(crate) async fn stopped_flows(&self) -> Result<Vec<String>> {
        self.transact(|db| {
            let mut query = db.prepare_cached("SELECT name FROM stopped_flow")?;
            let names = query.query_map([], |row| row.get(0))?;
            names.collect()
        })
        .await
    }

    /// Remembers whether a flow is stopped by hand.
    pub(crate) async fn set_stopped(&self, flow: &str, is_stopped: bool) -> Result<()> {
        let flow = flow.to_owned();
        self.transact(move |db| {
            let statement = match is_stopped {
                true => "INSERT OR IGNORE INTO stopped_flow (name) VALUES (?1)",
                false => "DELETE FROM stopped_flow WHERE name = ?1",
            };
            db.execute(statement, [flow]).map(|_| ())
        })
        .await
    }
}

fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(PATIENCE)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // What was answered is on the disk.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)
}

/// Brings the database to the newest version that is known, and answers that which it has.
fn migrate(connection: &mut Connection) -> rusqlite::Result<usize> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let mut version = version as usize;
    for migration in MIGRATIONS.iter().skip(version) {
        transaction.execute_batch(migration)?;
        version += 1;
        transaction.pragma_update(None, "user_version", version as u32)?;
    }
    transaction.commit()?;
    Ok(version)
}

fn storage(path: &Path, what: &str, error: rusqlite::Error) -> Error {
    Error::new(ErrorKind::Storage, format!("cannot {what} the state"))
        .on("file", path.display())
        .because(error)
        .remedy("see that the disk has room and the file can be written; if it is damaged, move it away: flows and tables do not need it")
}

/// A moment as the database has it: milliseconds since 1970.
fn moment(at: DateTime<Utc>) -> i64 {
    at.timestamp_millis()
}

fn of_moment(milliseconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(milliseconds).unwrap_or_default()
}

/// This moment, as the database will have it.
fn now() -> DateTime<Utc> {
    of_moment(moment(Utc::now()))
}

/// A value of a column that holds JSON.
fn of_json<T: serde::de::DeserializeOwned>(column: usize, text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Text,
            Box::new(error),
        )
    })
}

fn to_json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}
