//! Runs of endpoints on their way into the ledger.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::task::TaskTracker;
use tributary_flow::{FunctionRun, TriggerLedger};

use crate::script::Outcome;
use crate::trigger::{INTERVAL, RunLog};

/// Records runs, those of a while together. No answer waits for it.
pub(super) struct Recorder {
    ledger: Arc<dyn TriggerLedger>,
    log_successes: bool,
    log: Arc<Mutex<RunLog>>,
    recording: TaskTracker,
}

impl Recorder {
    /// Records in a ledger what is to be logged.
    pub(super) fn new(ledger: Arc<dyn TriggerLedger>, log_successes: bool) -> Self {
        Self {
            ledger,
            log_successes,
            log: Arc::default(),
            recording: TaskTracker::new(),
        }
    }

    /// A run has ended.
    pub(super) fn ended(&self, outcome: &Outcome, record: impl FnOnce() -> FunctionRun) {
        let is_first = {
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            let was_empty = log.is_empty();
            log.ended(self.log_successes, outcome, record);
            was_empty && !log.is_empty()
        };
        if !is_first {
            return;
        }
        let (log, ledger) = (Arc::clone(&self.log), Arc::clone(&self.ledger));
        self.recording.spawn(async move {
            tokio::time::sleep(INTERVAL).await;
            let runs = log.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Err(error) = ledger.record(runs).await {
                tracing::warn!(%error, "runs of endpoints could not be recorded");
            }
        });
    }

    /// Returns when all runs that have ended are recorded.
    pub(super) async fn recorded(&self) {
        self.recording.close();
        self.recording.wait().await;
    }
}
