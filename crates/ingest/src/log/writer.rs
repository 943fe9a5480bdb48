//! The thread that writes a log.

#[cfg(test)]
mod tests;

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
const FREED_AT_ONCE: usize = 4096;
/// How often it is looked for old events, and how far a log without new ones is behind the clock, at most.
const TICK: Duration = Duration::from_secs(60);

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
    ticked: Instant,
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
            ticked: Instant::now(),
        }
    }

    /// Appends what comes until nobody can send any more, and removes what is old.
    pub(super) fn run(mut self, waiting: &Receiver<Append>) {
        // What has become old since the log was open last.
        let mut is_behind = true;
        loop {
            let every = self.options().retention / 4;
            let every = every.clamp(Duration::from_millis(10), TICK);
            let patience = match is_behind {
                true => Duration::ZERO,
                false => every,
            };
            let mut appended = 0;
            match waiting.recv_timeout(patience) {
                Ok(first) => {
                    let mut appends = vec![first];
                    let mut bytes = appends.iter().map(Append::bytes).sum::<usize>();
                    while bytes < COMMIT_BYTES
                        && let Ok(next) = waiting.try_recv()
                    {
                        bytes += next.bytes();
                        appends.push(next);
                    }
                    appended = appends.iter().map(|append| append.events.len()).sum();
                    self.append(appends);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let is_due = self.ticked.elapsed() >= every;
            if is_due {
                self.ticked = Instant::now();
                self.go_with_the_clock();
            }
            if is_due || is_behind || self.is_too_large() {
                is_behind = self.retain(appended);
            }
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

    fn is_too_large(&self) -> bool {
        let largest = self.options().largest;
        largest.is_some_and(|most| self.told.borrow().bytes > most)
    }

    /// Moves the end of the log on where nothing has come for a while, so that positions there are not older
    /// than they look. It is durable before anybody sees it: no event gets a number before it, whatever the
    /// clock does then.
    fn go_with_the_clock(&mut self) {
        if present() <= self.told.borrow().last {
            return;
        }
        match self.move_on() {
            Ok(state) => {
                self.told.send_replace(state);
            }
            Err(error) => {
                let error = storage(&self.file, "write", error);
                tracing::warn!(%error, "the log of events stays behind the clock");
            }
        }
    }

    fn move_on(&mut self) -> rusqlite::Result<State> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut state = database::state(&transaction)?;
        state.last = state.last.max(present());
        database::set_state(&transaction, state)?;
        transaction.commit()?;
        Ok(state)
    }

    /// Removes some of what is not to be remembered any more, and gives back some of what that took; whether there is
    /// more. Who appends waits for that only: it is no less than what has just been appended, so that a log that is
    /// too large does not grow.
    fn retain(&mut self, appended: usize) -> bool {
        let options = self.options();
        let mut removed = 0;
        let tidied = loop {
            match self.remove(&options) {
                Ok(None) => {
                    break self
                        .free()
                        .map(|freed| removed > 0 || freed == FREED_AT_ONCE);
                }
                Ok(Some(state)) => {
                    self.told.send_replace(state);
                    removed += REMOVED_AT_ONCE as usize;
                    if removed >= appended {
                        break self.free().map(|_| true);
                    }
                }
                Err(error) => break Err(error),
            }
        };
        tidied.unwrap_or_else(|error| {
            let error = storage(&self.file, "remove old events from", error);
            tracing::error!(%error, "old events stay in their log");
            false
        })
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
        Ok(Some(state))
    }

    /// Gives pages that hold nothing back to the file system; answers how many.
    fn free(&self) -> rusqlite::Result<usize> {
        // Each step of it frees one page.
        let mut free = self
            .connection
            .prepare(&format!("PRAGMA incremental_vacuum({FREED_AT_ONCE})"))?;
        let mut pages = free.query([])?;
        let mut freed = 0;
        while pages.next()?.is_some() {
            freed += 1;
        }
        Ok(freed)
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
