//! The thread that writes a log.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use tokio::sync::{oneshot, watch};
use tributary_model::ClusterTime;

use super::database::{self, State, number, stored};
use super::{Appended, LogOptions, NotAppended, is_full, order, storage};
use crate::check::{CheckedEvent, Order};

/// How many bytes of events are in one transaction at most, if they come in several requests.
const COMMIT_BYTES: usize = 32 << 20;
/// How many events are removed in one transaction.
const REMOVED_AT_ONCE: u32 = 1000;
/// How many pages are given back to the file system at once.
const FREED_AT_ONCE: u32 = 4096;
/// How often it is looked for old events at least.
const RETAIN_EVERY: Duration = Duration::from_secs(60);

/// Events that are to be appended, and who waits for that.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) events: Vec<CheckedEvent>,
    pub(super) done: oneshot::Sender<Result<Appended, NotAppended>>,
}

impl Append {
    fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.document.len()).sum()
    }
}

pub(super) struct Writer {
    connection: Connection,
    file: PathBuf,
    options: Arc<Mutex<LogOptions>>,
    told: watch::Sender<State>,
    /// When it was looked for old events last.
    retained: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        file: PathBuf,
        options: Arc<Mutex<LogOptions>>,
        told: watch::Sender<State>,
    ) -> Self {
        Self {
            connection,
            file,
            options,
            told,
            retained: None,
        }
    }

    /// Appends what comes until nobody can send any more, and removes what is old.
    pub(super) fn run(mut self, waiting: &Receiver<Append>) {
        loop {
            let every = self.options().retention / 4;
            match waiting.recv_timeout(every.clamp(Duration::from_millis(10), RETAIN_EVERY)) {
                Ok(first) => {
                    let mut appends = vec![first];
                    let mut bytes = appends.iter().map(Append::bytes).sum::<usize>();
                    while bytes < COMMIT_BYTES
                        && let Ok(next) = waiting.try_recv()
                    {
                        bytes += next.bytes();
                        appends.push(next);
                    }
                    self.append(appends);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.retain();
        }
    }

    fn options(&self) -> LogOptions {
        self.options
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Appends all of these in one transaction, and answers each.
    fn append(&mut self, appends: Vec<Append>) {
        match self.commit(&appends) {
            Ok((answers, state)) => {
                // Who is answered may look for its events.
                self.told.send_replace(state);
                for (append, answer) in appends.into_iter().zip(answers) {
                    let _ = append.done.send(Ok(answer));
                }
            }
            Err(error) => {
                let is_full = is_full(&error);
                let error = storage(&self.file, "write", error);
                for append in appends {
                    let error = error.clone();
                    let _ = append.done.send(Err(NotAppended { error, is_full }));
                }
            }
        }
    }

    fn commit(&mut self, appends: &[Append]) -> rusqlite::Result<(Vec<Appended>, State)> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        // What was tried last may have arrived though that was not heard of.
        let mut state = database::state(&transaction)?;
        let received = milliseconds();
        let mut answers = Vec::with_capacity(appends.len());
        for append in appends {
            let mut answer = Appended::default();
            for event in &append.events {
                match insert(&transaction, event, received, &mut state)? {
                    true => answer.accepted += 1,
                    false => answer.duplicates += 1,
                }
            }
            answers.push(answer);
        }
        database::set_state(&transaction, state)?;
        transaction.commit()?;
        Ok((answers, state))
    }

    /// Removes what is not to be remembered any more.
    fn retain(&mut self) {
        let options = self.options();
        let is_too_large = |state: &State| options.largest.is_some_and(|most| state.bytes > most);
        let every = (options.retention / 4).min(RETAIN_EVERY);
        let is_due = self.retained.is_none_or(|at| at.elapsed() >= every);
        if !is_due && !is_too_large(&self.told.borrow()) {
            return;
        }
        self.retained = Some(Instant::now());
        loop {
            match self.remove(&options) {
                Ok(None) => return,
                Ok(Some(state)) => {
                    self.told.send_replace(state);
                }
                Err(error) => {
                    let error = storage(&self.file, "remove old events from", error);
                    tracing::error!(%error, "old events stay in their log");
                    return;
                }
            }
        }
    }

    /// Removes some of the events that are too old or too many; none where there are none.
    fn remove(&mut self, options: &LogOptions) -> rusqlite::Result<Option<State>> {
        let age = i64::try_from(options.retention.as_millis()).unwrap_or(i64::MAX);
        let before = milliseconds().saturating_sub(age);
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut state = database::state(&transaction)?;
        let removed = state.removed;
        {
            let mut query = transaction.prepare_cached(
                "SELECT number, received, length(document) FROM event ORDER BY number LIMIT ?1",
            )?;
            let mut rows = query.query([REMOVED_AT_ONCE])?;
            while let Some(row) = rows.next()? {
                let received: i64 = row.get(1)?;
                if received >= before && options.largest.is_none_or(|most| state.bytes <= most) {
                    break;
                }
                state.removed = number(row.get(0)?);
                let bytes: u64 = row.get::<_, i64>(2)?.try_into().unwrap_or(0);
                state.bytes = state.bytes.saturating_sub(bytes);
            }
        }
        if state.removed == removed {
            return Ok(None);
        }
        for statement in [
            "DELETE FROM event WHERE number <= ?1",
            "DELETE FROM newest WHERE number <= ?1",
        ] {
            transaction
                .prepare_cached(statement)?
                .execute([stored(state.removed)])?;
        }
        database::set_state(&transaction, state)?;
        transaction.commit()?;
        let free = format!("PRAGMA incremental_vacuum({FREED_AT_ONCE})");
        self.connection.execute_batch(&free)?;
        Ok(Some(state))
    }
}

/// Adds an event, unless it is there.
fn insert(
    transaction: &Transaction<'_>,
    event: &CheckedEvent,
    received: i64,
    state: &mut State,
) -> rusqlite::Result<bool> {
    let is_there = transaction
        .prepare_cached("SELECT 1 FROM event WHERE identity = ?1")?
        .exists([event.identity.0])?;
    if is_there {
        return Ok(false);
    }
    // One number stays free between any two.
    let number = present().max(state.last + 2);
    let arrived = Order {
        time: ClusterTime(number),
        token: None,
    };
    let order = event.order.as_ref().unwrap_or(&arrived);
    let is_late = order::record(transaction, &event.subject, order, number)?;
    transaction
        .prepare_cached(
            "INSERT INTO event (number, received, late, identity, checksum, document) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            stored(number),
            received,
            is_late,
            event.identity.0,
            crc32fast::hash(&event.document),
            &*event.document
        ])?;
    state.last = number;
    state.bytes += event.document.len() as u64;
    Ok(true)
}

/// Milliseconds since 1970.
fn milliseconds() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

/// This moment as the number of an event.
pub(super) fn present() -> u64 {
    let seconds = u32::try_from(milliseconds() / 1000).unwrap_or(u32::MAX);
    ClusterTime::new(seconds, 1).0
}
