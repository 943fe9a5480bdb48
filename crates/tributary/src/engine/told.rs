//! What loads and flows tell of themselves, for the log of a step.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tributary_flow::{AppliedBatch, CollectionInfo, LoadSummary, Observer, PartitionTotals};
use tributary_model::{Error, Gap, Namespace, Position};
use tributary_orchestrator::engine::{Moved, Tell};

use crate::lines;

/// Tells a step's log.
pub(super) struct Told {
    tell: Arc<dyn Tell>,
    counts: bool,
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    moved: Moved,
    /// What was told and is read again, so that it is not told twice.
    again: HashMap<Namespace, Moved>,
}

impl Told {
    pub(super) fn new(tell: Arc<dyn Tell>) -> Self {
        Self {
            tell,
            counts: true,
            counted: Mutex::default(),
        }
    }

    /// One that does not tell how much is moved, for what only reads.
    pub(super) fn without_counting(tell: Arc<dyn Tell>) -> Self {
        Self {
            counts: false,
            ..Self::new(tell)
        }
    }

    /// How much was moved.
    pub(super) fn moved(&self) -> Moved {
        self.counted().moved
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, namespace: &Namespace, mut more: Moved) {
        if !self.counts {
            return;
        }
        {
            let mut counted = self.counted();
            if let Some(again) = counted.again.get_mut(namespace) {
                let (documents, bytes) = (
                    again.documents.min(more.documents),
                    again.bytes.min(more.bytes),
                );
                again.documents -= documents;
                again.bytes -= bytes;
                more.documents -= documents;
                more.bytes -= bytes;
            }
            counted.moved += more;
        }
        if more != Moved::default() {
            self.tell.moved(more);
        }
    }
}

impl Observer for Told {
    fn started(&self, collection: &CollectionInfo, partitions: usize, done: PartitionTotals) {
        self.tell
            .tell(&lines::started(collection, partitions, done));
        if self.counts {
            // It was told when it was moved.
            let (documents, bytes) = (done.documents, done.bytes);
            self.counted().moved += Moved { documents, bytes };
        }
    }

    fn progressed(&self, namespace: &Namespace, more: PartitionTotals) {
        let (documents, bytes) = (more.documents, more.bytes);
        self.count(namespace, Moved { documents, bytes });
    }

    fn restarted(&self, namespace: &Namespace, lost: PartitionTotals) {
        let (documents, bytes) = (lost.documents, lost.bytes);
        let mut counted = self.counted();
        *counted.again.entry(namespace.clone()).or_default() += Moved { documents, bytes };
    }

    fn retrying(&self, namespace: &Namespace, error: &Error, wait: Duration) {
        self.tell.tell(&lines::retrying(namespace, error, wait));
    }

    fn finished(&self, namespace: &Namespace, summary: &LoadSummary, seconds: f64) {
        self.tell
            .tell(&lines::finished(namespace, summary, seconds));
    }

    fn following(&self, namespace: &Namespace, position: &Position) {
        self.tell.tell(&lines::following(namespace, position));
    }

    fn applied(&self, namespace: &Namespace, batch: &AppliedBatch) {
        let (documents, bytes) = (batch.changes, batch.bytes);
        self.count(namespace, Moved { documents, bytes });
    }

    fn happened(&self, namespace: &Namespace, what: &str) {
        self.tell.tell(&lines::happened(namespace, what));
    }

    fn lacks(&self, namespace: &Namespace, gap: &Gap) {
        self.tell.tell(&lines::lacks(namespace, gap));
    }

    fn noticed(&self, what: &str) {
        self.tell.tell(what);
    }

    fn falling_behind(&self, namespace: &Namespace, behind: Duration, remembered: Duration) {
        self.tell
            .tell(&lines::falling_behind(namespace, behind, remembered));
    }

    fn source_retrying(&self, error: &Error, wait: Duration) {
        self.tell.tell(&lines::source_retrying(error, wait));
    }

    fn failed(&self, namespace: &Namespace, error: &Error) {
        self.tell.tell(&lines::failed(namespace, error));
    }
}
