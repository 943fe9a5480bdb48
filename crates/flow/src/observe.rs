//! What the outside is told while a load runs.

use std::time::SystemTime;

use tributary_model::{Error, Namespace, Position};

use crate::changes::Applied;
use crate::snapshot::{CollectionInfo, LoadSummary, PartitionTotals};

/// Hears of progress. Its methods are called from many threads and must not block.
pub trait Observer: Send + Sync {
    /// A collection's load begins, or goes on after `done` had been finished before.
    fn started(&self, _collection: &CollectionInfo, _partitions: usize, _done: PartitionTotals) {}

    /// More has been written.
    fn progressed(&self, _namespace: &Namespace, _more: PartitionTotals) {}

    /// A partition is read again from its beginning: what it had counted does not count.
    fn restarted(&self, _namespace: &Namespace, _lost: PartitionTotals) {}

    /// All partitions are written, and the load is being made visible.
    fn committing(&self, _namespace: &Namespace) {}

    /// A transient failure; the next try comes after `wait`.
    fn retrying(&self, _namespace: &Namespace, _error: &Error, _wait: std::time::Duration) {}

    /// A collection is done.
    fn finished(&self, _namespace: &Namespace, _summary: &LoadSummary, _seconds: f64) {}

    /// A collection's changes are followed from now on.
    fn following(&self, _namespace: &Namespace, _position: &Position) {}

    /// A batch of changes is durable and visible.
    fn applied(&self, _namespace: &Namespace, _batch: &AppliedBatch) {}

    /// Something happened to a collection as a whole.
    fn happened(&self, _namespace: &Namespace, _what: &str) {}

    /// The stream has been read up to this moment, whether anything happened in it or not.
    fn reached(&self, _position: &Position) {}

    /// A table is so far behind that the source, which remembers so much, may forget what comes next.
    fn falling_behind(
        &self,
        _namespace: &Namespace,
        _behind: std::time::Duration,
        _remembered: std::time::Duration,
    ) {
    }

    /// Reading the changes failed for now; the next try comes after `wait`.
    fn source_retrying(&self, _error: &Error, _wait: std::time::Duration) {}

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
    /// When the last of them was made, by the server's wall clock: T0.
    pub changed: SystemTime,
    /// When the batch was begun to be applied: T1.
    pub begun: SystemTime,
    /// When its commit was acknowledged: T2.
    pub committed: SystemTime,
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Observer for Quiet {}
