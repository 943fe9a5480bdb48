//! What the outside is told of loads and flows while they run.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tributary_model::{Error, Gap, Namespace, Position};

use crate::changes::{Applied, HistoryWindow};
use crate::snapshot::{CollectionInfo, LoadSummary, PartitionTotals};

/// Hears of progress. Its methods are called from many threads and must not block.
pub trait Observer: Send + Sync {
    /// A collection's load begins, or goes on after `done` had been finished before: all of it, where there
    /// are no partitions.
    fn started(&self, _collection: &CollectionInfo, _partitions: usize, _done: PartitionTotals) {}

    /// More has been written.
    fn progressed(&self, _namespace: &Namespace, _more: PartitionTotals) {}

    /// A partition is read again from its beginning: what it had counted does not count.
    fn restarted(&self, _namespace: &Namespace, _lost: PartitionTotals) {}

    /// All partitions are written, and the load is being made visible.
    fn committing(&self, _namespace: &Namespace) {}

    /// A transient failure; the next try comes after `wait`.
    fn retrying(&self, _namespace: &Namespace, _error: &Error, _wait: Duration) {}

    /// A collection is done.
    fn finished(&self, _namespace: &Namespace, _summary: &LoadSummary, _seconds: f64) {}

    /// A collection's changes are followed from now on.
    fn following(&self, _namespace: &Namespace, _position: &Position) {}

    /// A table that takes over another holds all that its source had at this moment, and is followed.
    fn current_to(&self, _namespace: &Namespace, _at: SystemTime) {}

    /// Changes of a collection begin to be gathered into the next batch that has any; the oldest was
    /// made at this moment.
    fn gathering(&self, _namespace: &Namespace, _oldest: SystemTime) {}

    /// A batch of changes is durable and visible: of those that were gathered, the oldest.
    fn applied(&self, _namespace: &Namespace, _batch: &AppliedBatch) {}

    /// Something happened to a collection as a whole.
    fn happened(&self, _namespace: &Namespace, _what: &str) {}

    /// A table lacks a stretch of history, which it has recorded.
    fn lacks(&self, _namespace: &Namespace, _gap: &Gap) {}

    /// Something is to be known of the stream of all collections.
    fn noticed(&self, _what: &str) {}

    /// An event that changes nothing of a collection's content, by the server's name for it.
    fn passed_over(&self, _namespace: &Namespace, _name: &str) {}

    /// The stream has been read up to this position, and to this moment by the wall clock, whether
    /// anything happened in it or not.
    fn reached(&self, _position: &Position, _at: SystemTime) {}

    /// How far back the source remembers its changes.
    fn remembers(&self, _window: HistoryWindow) {}

    /// A table is so far behind, or falls back so fast, that the source, which remembers so much,
    /// may forget what comes next.
    fn falling_behind(&self, _namespace: &Namespace, _behind: Duration, _remembered: Duration) {}

    /// Reading the changes failed for now; the next try comes after `wait`.
    fn source_retrying(&self, _error: &Error, _wait: Duration) {}

    /// A collection failed.
    fn failed(&self, _namespace: &Namespace, _error: &Error) {}
}

/// A batch of changes on its way, and when it was where.
#[derive(Debug, Clone, Copy)]
pub struct AppliedBatch {
    /// Changes in it.
    pub changes: u64,
    /// Their size on the wire, in bytes.
    pub bytes: u64,
    /// What came of them.
    pub applied: Applied,
    /// How long they were gathered.
    pub gathered: Duration,
    /// When the first of them was made, by the server's wall clock.
    pub oldest: SystemTime,
    /// When the last of them was made, by the server's wall clock: T0.
    pub changed: SystemTime,
    /// When the batch was begun to be applied: T1.
    pub begun: SystemTime,
    /// When its commit was acknowledged: T2.
    pub committed: SystemTime,
}

impl AppliedBatch {
    /// How old its oldest change was when it became visible.
    #[must_use]
    pub fn oldest_latency(&self) -> Duration {
        since(self.oldest, self.committed)
    }

    /// What it took to apply it.
    #[must_use]
    pub fn time(&self) -> Duration {
        since(self.begun, self.committed)
    }

    /// How old its newest change was when it became visible.
    #[must_use]
    pub fn newest_latency(&self) -> Duration {
        since(self.changed, self.committed)
    }
}

/// A server whose clock is ahead has no change before it is made.
fn since(earlier: SystemTime, later: SystemTime) -> Duration {
    later.duration_since(earlier).unwrap_or_default()
}

/// How far the table of one flow is behind its collection.
#[derive(Debug, Clone, Default)]
pub struct Lag {
    /// When the oldest change of each batch was made that is not applied yet.
    waiting: VecDeque<SystemTime>,
    /// The moment up to which the table has all, where that is told of it alone.
    current_to: Option<SystemTime>,
}

impl Lag {
    /// As [`Observer::gathering`].
    pub fn gathering(&mut self, oldest: SystemTime) {
        self.waiting.push_back(oldest);
    }

    /// As [`Observer::applied`].
    pub fn applied(&mut self) {
        self.waiting.pop_front();
    }

    /// As [`Observer::current_to`].
    pub fn current_to(&mut self, at: SystemTime) {
        self.waiting.clear();
        self.current_to = Some(at);
    }

    /// Whether all changes that were read are applied.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How old the oldest change is that the table lacks. Where it lacks none of those that were
    /// read, how long ago the stream has been read up to its end: `read_to`.
    #[must_use]
    pub fn at(&self, now: SystemTime, read_to: SystemTime) -> Duration {
        since(self.holds_to(read_to), now)
    }

    /// The moment up to which the table has all, where the stream has been read up to its end at
    /// `read_to`.
    #[must_use]
    pub fn holds_to(&self, read_to: SystemTime) -> SystemTime {
        let oldest = self.waiting.front().copied();
        oldest.or(self.current_to).unwrap_or(read_to)
    }
}

/// Tells several, one after the other.
pub struct All(pub Vec<Arc<dyn Observer>>);

macro_rules! told_to_all {
    ($($method:ident($($name:ident: $kind:ty),*);)+) => {
        impl Observer for All {
            $(fn $method(&self, $($name: $kind),*) {
                for observer in &self.0 {
                    observer.$method($($name),*);
                }
            })+
        }
    };
}

told_to_all! {
    started(collection: &CollectionInfo, partitions: usize, done: PartitionTotals);
    progressed(namespace: &Namespace, more: PartitionTotals);
    restarted(namespace: &Namespace, lost: PartitionTotals);
    committing(namespace: &Namespace);
    retrying(namespace: &Namespace, error: &Error, wait: Duration);
    finished(namespace: &Namespace, summary: &LoadSummary, seconds: f64);
    following(namespace: &Namespace, position: &Position);
    current_to(namespace: &Namespace, at: SystemTime);
    gathering(namespace: &Namespace, oldest: SystemTime);
    applied(namespace: &Namespace, batch: &AppliedBatch);
    happened(namespace: &Namespace, what: &str);
    lacks(namespace: &Namespace, gap: &Gap);
    noticed(what: &str);
    passed_over(namespace: &Namespace, name: &str);
    reached(position: &Position, at: SystemTime);
    remembers(window: HistoryWindow);
    falling_behind(namespace: &Namespace, behind: Duration, remembered: Duration);
    source_retrying(error: &Error, wait: Duration);
    failed(namespace: &Namespace, error: &Error);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Observer for Quiet {}
