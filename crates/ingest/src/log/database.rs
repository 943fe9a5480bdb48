//! What stands in the database, and how it is asked.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};
use tributary_model::Namespace;

use super::KnownCollection;

/// How long a reader or the writer waits for the other, which is for moments only.
const PATIENCE: Duration = Duration::from_secs(10);
/// The journal is cut back to this when it has been written into the database.
const JOURNAL_BYTES: i64 = 64 << 20;

/// Each brings a database of the version before it to its own.
const MIGRATIONS: &[&str] = &[include_str!("1.sql")];

/// How far the log has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    /// The number of the last event, or a moment before the first.
    pub(crate) last: u64,
    /// The number of the last event that was removed, or a moment before the first.
    pub(crate) removed: u64,
    /// What the events have together.
    pub(crate) bytes: u64,
}

/// An event of the log.
#[derive(Debug, Clone)]
pub(crate) struct StoredEvent {
    pub(crate) number: u64,
    /// When it arrived, in milliseconds since 1970.
    pub(crate) received: i64,
    /// Whether a later one of its document had arrived before.
    pub(crate) is_late: bool,
    pub(crate) document: Bytes,
    checksum: u32,
}

impl StoredEvent {
    /// Whether it is what was written.
    pub(crate) fn is_whole(&self) -> bool {
        crc32fast::hash(&self.document) == self.checksum
    }
}

/// A number as it stands in the database.
pub(super) fn stored(number: u64) -> i64 {
    (number ^ 1 << 63).cast_signed()
}

/// A number that stands in the database.
pub(super) fn number(stored: i64) -> u64 {
    stored.cast_unsigned() ^ 1 << 63
}

/// Opens a database to write it, or makes one that begins at `present`. None where a later version has written
/// what is there.
pub(super) fn open(file: &Path, present: u64) -> rusqlite::Result<Option<Connection>> {
    let mut connection = Connection::open(file)?;
    connection.busy_timeout(PATIENCE)?;
    // What removed events took is given back; it can be said only before there are tables.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // What was answered is on the disk.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", JOURNAL_BYTES)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version as usize > MIGRATIONS.len() {
        return Ok(None);
    }
    for (migration, next) in MIGRATIONS.iter().zip(1_u32..).skip(version as usize) {
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", next)?;
    }
    let begins = stored(present);
    transaction.execute(
        "INSERT OR IGNORE INTO log (only, id, last, removed, bytes) VALUES (1, ?1, ?2, ?2, 0)",
        params![uuid::Uuid::new_v4().to_string(), begins],
    )?;
    transaction.commit()?;
    Ok(Some(connection))
}

/// Opens a database to read it.
pub(super) fn reader(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(PATIENCE)?;
    Ok(connection)
}

/// The id of the log, and how far it has got.
pub(super) fn identity(connection: &Connection) -> rusqlite::Result<(String, State)> {
    let id = connection.query_row("SELECT id FROM log", [], |row| row.get(0))?;
    Ok((id, state(connection)?))
}

pub(super) fn state(connection: &Connection) -> rusqlite::Result<State> {
    let mut query = connection.prepare_cached("SELECT last, removed, bytes FROM log")?;
    query.query_row([], |row| {
        Ok(State {
            last: number(row.get(0)?),
            removed: number(row.get(1)?),
            bytes: row.get::<_, i64>(2)?.try_into().unwrap_or(0),
        })
    })
}

pub(super) fn set_state(connection: &Connection, state: State) -> rusqlite::Result<()> {
    let bytes = i64::try_from(state.bytes).unwrap_or(i64::MAX);
    connection
        .prepare_cached("UPDATE log SET last = ?1, removed = ?2, bytes = ?3")?
        .execute(params![stored(state.last), stored(state.removed), bytes])
        .map(|_| ())
}

/// The events behind a number, up to so many or so many bytes, and the state in the same moment.
pub(super) fn page(
    connection: &mut Connection,
    after: u64,
    most_events: usize,
    most_bytes: usize,
) -> rusqlite::Result<(Vec<StoredEvent>, State)> {
    let transaction = connection.transaction()?;
    let state = state(&transaction)?;
    let mut query = transaction.prepare_cached(
        "SELECT number, received, late, checksum, document FROM event WHERE number > ?1 ORDER BY number",
    )?;
    let mut rows = query.query([stored(after)])?;
    let (mut events, mut bytes) = (Vec::new(), 0);
    while events.len() < most_events
        && bytes < most_bytes
        && let Some(row) = rows.next()?
    {
        let document = Bytes::copy_from_slice(row.get_ref(4)?.as_blob()?);
        bytes += document.len();
        events.push(StoredEvent {
            number: number(row.get(0)?),
            received: row.get(1)?,
            is_late: row.get(2)?,
            checksum: row.get(3)?,
            document,
        });
    }
    Ok((events, state))
}

pub(super) fn collections(connection: &mut Connection) -> rusqlite::Result<Vec<KnownCollection>> {
    let mut query = connection
        .prepare_cached("SELECT database, name, renamed FROM collection ORDER BY database, name")?;
    let rows = query.query_map([], |row| {
        Ok(KnownCollection {
            namespace: Namespace::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?),
            is_renamed: row.get(2)?,
        })
    })?;
    rows.collect()
}

/// The number of the first event of a collection, where there was one, and the state in the same moment.
pub(super) fn first(
    connection: &mut Connection,
    collection: &Namespace,
) -> rusqlite::Result<(Option<u64>, State)> {
    let transaction = connection.transaction()?;
    let state = state(&transaction)?;
    let first = transaction
        .prepare_cached("SELECT first FROM collection WHERE database = ?1 AND name = ?2")?
        .query_row([&collection.database, &collection.collection], |row| {
            row.get::<_, i64>(0)
        })
        .optional()?;
    Ok((first.map(number), state))
}
