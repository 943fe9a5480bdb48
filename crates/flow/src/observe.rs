//! What the outside is told while a load runs.

use tributary_model::{Error, Namespace};

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

    /// A collection failed.
    fn failed(&self, _namespace: &Namespace, _error: &Error) {}
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Observer for Quiet {}
