//! Triggers: what happens, what runs for it, and what becomes of that.
//!
//! A [`Host`] runs triggers. Each is kept going by a task of its own (`keeper`), which reads what the ledger
//! says of it, takes events from a `stream` that it may share with others, has them run one after the other
//! (`ordered`) or side by side (`unordered`), or runs by the clock (`scheduled`), and records what came of it
//! (`journal`), while `letters` tries dead letters again beside them, within the same `room`. `recursion` notices
//! triggers that set themselves off. Where one has got to is its `lane`.

mod arguments;
mod event_bridge;
mod host;
mod journal;
mod keeper;
mod lane;
mod letters;
mod live;
mod ordered;
mod recursion;
mod room;
mod scheduled;
mod script;
mod stream;
#[cfg(test)]
mod tests;
mod unordered;
mod witness;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use croner::Cron;
use tributary_flow::EventSource;

use crate::script::Outcome;

pub use event_bridge::EventBridgeProcessor;
pub use host::Host;
pub(crate) use journal::{INTERVAL, RunLog, run_of};
pub use live::{DURATION_BOUNDS, Durations, LiveState, LiveTrigger};
pub use script::ScriptProcessor;

/// A trigger that is to run.
#[derive(Clone)]
pub struct Trigger {
    /// Its name among all triggers: `app/trigger`.
    pub name: String,
    /// Its application; empty where it has none.
    pub app: String,
    /// What runs, for people: the name of its function.
    pub function: String,
    /// What it waits for.
    pub occasion: Occasion,
    /// What runs.
    pub processor: Arc<dyn Processor>,
    /// What is done when that fails, and how much runs at once.
    pub policy: Policy,
    /// Whether it does not run.
    pub is_disabled: bool,
    /// Changes with everything above: where it is the same, what runs goes on.
    pub fingerprint: u64,
}

/// What a trigger waits for.
#[derive(Clone)]
pub enum Occasion {
    /// Events of a deployment.
    Change {
        /// The deployment.
        source: Arc<dyn EventSource>,
        /// Its name: triggers of one name may share a stream.
        source_name: String,
        /// Which events.
        selection: Selection,
    },
    /// Moments, in UTC.
    Moment {
        /// Which.
        cron: Box<Cron>,
        /// Whether those that passed while it did not run are passed over.
        skip_catchup: bool,
    },
}

/// Which events a trigger runs for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The database; none for the whole deployment.
    pub database: Option<String>,
    /// The collection; none for the whole database.
    pub collection: Option<String>,
    /// Their `operationType`s.
    pub operations: Vec<String>,
    /// Updates come with their document.
    pub full_document: bool,
    /// Events come with the document before them.
    pub before_change: bool,
    /// What they are to match: a document of raw BSON, as `$match` takes it.
    pub matching: Option<Bytes>,
    /// What the function is given of them: a document of raw BSON, as `$project` takes it.
    pub project: Option<Bytes>,
    /// They run side by side.
    pub unordered: bool,
    /// What happens while it is paused or suspended is passed over.
    pub skip_catchup: bool,
    /// Where the deployment does not know what comes next, it goes on with the present.
    pub tolerate_resume_errors: bool,
}

/// What is done when a run fails, and how much runs at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How often it is tried again.
    pub retries: u32,
    /// How long before the first of these; twice as long before each next one.
    pub wait: Duration,
    /// How long at most.
    pub longest_wait: Duration,
    /// What is done when that was of no use.
    pub on_failure: OnFailure,
    /// A suspended trigger resumes by itself after so long.
    pub auto_resume: Option<Duration>,
    /// How many runs of an unordered trigger there are at once.
    pub concurrency: usize,
    /// How many bytes of events they are for, beyond the first.
    pub bytes_in_flight: usize,
    /// Runs that succeed are logged, and not only those that fail or write to their console.
    pub log_successes: bool,
    /// How many times in a row runs may set each other off.
    pub longest_chain: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            retries: 3,
            wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
            on_failure: OnFailure::Skip,
            auto_resume: None,
            concurrency: 100,
            bytes_in_flight: 32 << 20,
            log_successes: false,
            longest_chain: 100,
        }
    }
}

impl Policy {
    /// How long to wait before the try behind `attempt` failed ones.
    fn wait_after(&self, attempt: u32) -> Duration {
        let factor = 2_u32.saturating_pow(attempt.saturating_sub(1).min(20));
        let ceiling = self.wait.saturating_mul(factor).min(self.longest_wait);
        ceiling.mul_f64(rand::Rng::random_range(&mut rand::rng(), 0.75..=1.0))
    }
}

/// What is done with an event whose run fails every time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// It becomes a dead letter, and the trigger goes on.
    #[default]
    Skip,
    /// The trigger is suspended in front of it.
    Suspend,
}

/// Runs what a trigger is there for.
#[async_trait]
pub trait Processor: Send + Sync {
    /// Runs one task.
    async fn run(&self, task: Task) -> Outcome;

    /// Runs tasks one after the other, and stops behind the first that fails: the answer may be shorter.
    async fn run_in_order(&self, tasks: Vec<Task>) -> Vec<Outcome>;

    /// The documents that a run has written where its trigger looks; none where that is not known.
    fn written(&self, run: u64) -> Vec<Written>;
}

/// What is run once.
#[derive(Debug, Clone)]
pub struct Task {
    /// Which run it is, in this process.
    pub run: u64,
    /// A document of raw BSON whose field `v` is the array of arguments.
    pub arguments: Bytes,
}

/// Something that a run has written where its trigger looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The document of this key, by the key's hash.
    Key(u64),
    /// So many documents of which the keys are not known.
    Some(u64),
}
