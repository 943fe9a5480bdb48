//! What does the work: the traits that the orchestrator has others move data by.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use tributary_flow::Observer;
use tributary_model::{DescribedTable, Namespace, Result};

use crate::config::{Flow, Plan, Work};
use crate::status::TriggerKind;

/// Moves data, and knows the tables that it was moved to.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Takes what a plan says of the places into use, before anything of it is done.
    ///
    /// # Errors
    /// Something cannot be used; nothing has changed then.
    async fn prepare(&self, _plan: &Plan) -> Result<()> {
        Ok(())
    }

    /// Keeps a flow current, until it is stopped: then it commits what it has read, and answers `Ok`.
    ///
    /// A table that fails stops alone and is told to the observer. It ends with an error when the flow as
    /// a whole cannot go on, and also, with the first table's, when all tables have failed.
    ///
    /// # Errors
    /// Why it cannot go on. It may be tried again, whatever the kind.
    async fn follow(
        &self,
        flow: &Flow,
        observer: Arc<dyn Observer>,
        stop: CancellationToken,
    ) -> Result<()>;

    /// A flow is not followed any more: it was stopped, or another takes its place.
    fn ended(&self, _flow: &Flow) {}

    /// Does the work of a step, all but that of [`Work::Command`]. May be begun again after it was cut
    /// short at any moment, and then leads to the same.
    ///
    /// # Errors
    /// Why it could not be done, with the first of the reasons where there are several, the others being
    /// told by `tell`; [`Interrupted`](tributary_model::ErrorKind::Interrupted) where it was stopped
    /// before its end.
    async fn work(
        &self,
        work: &Work,
        tell: Arc<dyn Tell>,
        stop: CancellationToken,
    ) -> Result<Moved>;

    /// What is known of the tables of a flow: their columns, and the schema changes that were decided.
    ///
    /// # Errors
    /// The lake or warehouse cannot be read.
    async fn tables(&self, flow: &Flow) -> Result<Vec<DescribedTable>>;

    /// Approves the schema change that a table of a flow waits with.
    ///
    /// # Errors
    /// There is no such table, or nothing waits.
    async fn approve(&self, flow: &Flow, table: &Namespace) -> Result<()>;
}

/// Hears what a step tells of itself, a line at a time, without secrets.
pub trait Tell: Send + Sync {
    /// A line.
    fn tell(&self, line: &str);

    /// So much has been moved since it was told last.
    fn moved(&self, more: Moved);

    /// What the step of this run is called by, and no other one: work that is begun again knows by it what it
    /// has done itself.
    fn step(&self) -> Option<String> {
        None
    }
}

/// How much was moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Documents, rows or changes.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl std::ops::AddAssign for Moved {
    fn add_assign(&mut self, more: Self) {
        self.documents += more.documents;
        self.bytes += more.bytes;
    }
}

/// Runs the triggers of a plan, by what a [`TriggerLedger`](tributary_flow::TriggerLedger) says of each: what
/// is asked of one by hand is written there, and its revision is another then.
#[async_trait]
pub trait TriggerHost: Send + Sync {
    /// All triggers of the plan that it has been given last, with what they are doing now, those that do not
    /// run included.
    fn live(&self) -> Vec<LiveTrigger>;

    /// Brings what runs to a plan: what has not changed goes on. Returns when what is to stop has stopped.
    ///
    /// # Errors
    /// Something in an application of the plan is wrong. Nothing has changed then.
    async fn apply(&self, plan: &Plan) -> Result<()>;

    /// Stops all triggers, and returns when what they have done is recorded.
    async fn stop(&self);
}

/// A trigger that is there, whether it runs or not.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownTrigger {
    /// Its name: `app/trigger`, or without an application the name alone.
    pub name: String,
    /// Its application.
    pub app: Option<String>,
    /// What it runs on.
    pub kind: TriggerKind,
    /// The name of its function.
    pub function: String,
    /// The source whose changes it runs on, or that its function reaches.
    pub source: Option<String>,
    /// What it watches, for people: database and collection, or a cron pattern.
    pub watches: String,
    /// Whether the configuration has it not run.
    pub is_disabled: bool,
    /// Whether nobody is shown what its function is called with.
    pub hides_arguments: bool,
    /// When it is to run next by its schedule.
    pub next_at: Option<DateTime<Utc>>,
}

/// A trigger of this process.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveTrigger {
    /// Which.
    pub trigger: KnownTrigger,
    /// What it is doing.
    pub activity: Activity,
}

/// What a trigger is doing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Activity {
    /// Why it cannot run, while it is tried again.
    pub failure: Option<String>,
    /// Events that were read and wait.
    pub queued: u64,
    /// Runs that have begun and not ended.
    pub in_flight: u64,
    /// The age of the oldest event that was read and has not been dealt with; none where there is none.
    pub lag: Option<Duration>,
    /// How long its runs took.
    pub durations: Durations,
}

/// How long runs took since the process was started.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Durations {
    /// Upper bounds in seconds, rising.
    pub bounds: Vec<f64>,
    /// How many took as long as each bound at most, and longer than the one before it; behind these, how
    /// many took longer than all.
    pub counts: Vec<u64>,
    /// All of them together, in seconds.
    pub sum: f64,
}
