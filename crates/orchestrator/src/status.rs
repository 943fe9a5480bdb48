//! What runs, as it is told: by the API, on the command line, and in alerts. Times are UTC; nothing here
//! holds a secret.

mod triggers;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use triggers::{
    ConsoleLine, DeadLetterDetail, DeadLetterStatus, FunctionError, FunctionRunDetail,
    FunctionRunFilter, FunctionRunStatus, LetterFilter, Letters, TriggerKind, TriggerState,
    TriggerStatus,
};

/// The whole of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// The version of Tributary.
    pub version: String,
    /// When it was started.
    pub started_at: DateTime<Utc>,
    /// When the configuration was read that it runs by.
    pub configured_at: DateTime<Utc>,
    /// How many flows there are.
    pub flows: usize,
    /// How many jobs there are.
    pub jobs: usize,
    /// How many triggers there are.
    pub triggers: usize,
    /// How many runs of jobs run now.
    pub running: usize,
    /// How many alerts fire.
    pub alerts: usize,
}

/// What a flow, or a table of one, is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FlowState {
    /// It is being started.
    Starting,
    /// It loads what is there.
    Loading,
    /// It follows the changes.
    Following,
    /// It waits to try again after a failure.
    Retrying,
    /// It waits for the approval of a schema change.
    Waiting,
    /// It has failed.
    Failed,
    /// It was stopped by hand, or is paused in the file.
    Stopped,
}

/// A flow.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlowStatus {
    /// Its name.
    pub name: String,
    /// The name of where it reads.
    pub from: String,
    /// The name of where it writes.
    pub to: String,
    /// The name of the lake between.
    pub through: Option<String>,
    /// What it is doing.
    pub state: FlowState,
    /// Since when.
    pub since: DateTime<Utc>,
    /// How often it was started again after a failure, since Tributary was started.
    pub restarts: u64,
    /// When it is tried again.
    pub next_try_at: Option<DateTime<Utc>>,
    /// Why it failed last, while it has not recovered.
    pub error: Option<String>,
    /// Its tables.
    pub tables: Vec<TableStatus>,
}

/// A table that a flow keeps current.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableStatus {
    /// Its collection, as database.collection.
    pub namespace: String,
    /// What it is doing.
    pub state: FlowState,
    /// How far it is behind, in seconds; none before it follows.
    pub lag_seconds: Option<f64>,
    /// Documents loaded since the start.
    pub documents: u64,
    /// Changes applied since the start.
    pub changes: u64,
    /// Values that went to `_rescued_data` since the start.
    pub rescued: u64,
    /// When a change was applied last.
    pub changed_at: Option<DateTime<Utc>>,
    /// Why it failed last, while it has not recovered.
    pub error: Option<String>,
}

/// A source.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// The flows that read it.
    pub flows: Vec<String>,
    /// Whether its changes are being read.
    pub connected: bool,
    /// How far back it remembers its changes, in seconds; none before that is known.
    pub oplog_window_seconds: Option<u64>,
    /// The cluster time up to which its changes have been read.
    pub read_to: Option<DateTime<Utc>>,
    /// Why it could not be read last, while it cannot.
    pub error: Option<String>,
}

/// A job.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// Its name.
    pub name: String,
    /// Its cron pattern.
    pub schedule: Option<String>,
    /// The time zone of that.
    pub time_zone: Option<String>,
    /// When it runs next by it.
    pub next_at: Option<DateTime<Utc>>,
    /// The jobs behind which it runs.
    pub after: Vec<String>,
    /// Where the creation of objects is told that it runs on.
    pub on_object: Option<String>,
    /// Its steps, by name, each behind those that it needs.
    pub steps: Vec<String>,
    /// Its last run.
    pub last_run: Option<Run>,
}

/// What a run, or a step of one, is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It waits.
    Queued,
    /// It runs.
    Running,
    /// All of it is done.
    Succeeded,
    /// It failed.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// It was left out: another run was there, or a step before it did not succeed.
    Skipped,
}

impl RunState {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Skipped,
    ];

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether it will not change any more.
    #[must_use]
    pub fn is_end(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// Why a run began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(
    tag = "kind",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub enum Cause {
    /// It was time.
    #[serde(rename_all = "camelCase")]
    Schedule {
        /// The moment of the schedule.
        due_at: DateTime<Utc>,
        /// How many moments before it had passed by, for which it runs too.
        missed: u64,
    },
    /// Another job's run succeeded.
    After {
        /// That job.
        job: String,
        /// That run.
        run: String,
    },
    /// Objects were created.
    Objects {
        /// How many.
        count: u64,
        /// The first of them: bucket and key, or path.
        first: String,
    },
    /// Somebody asked for it.
    Asked {
        /// Who: `command line`, or the name of an API token.
        by: String,
    },
}

/// One run of a job.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Its id.
    pub id: String,
    /// The job.
    pub job: String,
    /// What it is doing.
    pub state: RunState,
    /// Why it began.
    pub cause: Cause,
    /// When it was asked for.
    pub queued_at: DateTime<Utc>,
    /// When it began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Documents and changes that its steps moved.
    pub documents: u64,
    /// Their size, in bytes.
    pub bytes: u64,
    /// Why it failed, or was skipped or cancelled.
    pub error: Option<String>,
}

/// A step of a run.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepRun {
    /// The step.
    pub name: String,
    /// What it does: `copy`, `sync`, `sql`, `command` or `verify`.
    pub work: String,
    /// What it is doing.
    pub state: RunState,
    /// How often it was begun.
    pub attempts: u32,
    /// When it began first.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Documents and changes that it moved.
    pub documents: u64,
    /// Their size, in bytes.
    pub bytes: u64,
    /// Why it failed last.
    pub error: Option<String>,
    /// The last lines of what it told, 64 KiB at most.
    pub log: String,
}

/// A run with its steps.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunDetail {
    /// The run.
    #[serde(flatten)]
    pub run: Run,
    /// Its steps, in the order in which they can run.
    pub steps: Vec<StepRun>,
}

/// Which runs are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Of this job.
    pub job: Option<String>,
    /// In this state.
    pub state: Option<RunState>,
    /// Those before this run, the newest first.
    pub before: Option<String>,
    /// How many at most.
    pub limit: usize,
}

/// The schema changes of a table.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SchemaStatus {
    /// The flow.
    pub flow: String,
    /// The table, as database.collection.
    pub namespace: String,
    /// Whether a change waits for approval.
    pub waiting: bool,
    /// What was decided, the newest last.
    pub decisions: Vec<DecisionStatus>,
}

/// Schema changes that came together, and what was decided.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionStatus {
    /// When.
    pub at: DateTime<Utc>,
    /// `evolved`, `rescued`, `waiting` or `approved`.
    pub decision: String,
    /// Each change, in words.
    pub changes: Vec<String>,
}

/// Something that is the case and should not be.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertStatus {
    /// The rule.
    pub rule: String,
    /// What it is about, such as `job nightly` or `flow shop, table shop.orders`.
    pub subject: String,
    /// In one line.
    pub summary: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Until when; none while it fires.
    pub recovered_at: Option<DateTime<Utc>>,
    /// The receivers that have not been told yet, and why.
    pub untold: Vec<String>,
}

/// What came of telling a receiver.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// The receiver.
    pub receiver: String,
    /// Why it could not be told.
    pub error: Option<String>,
}

/// What a new configuration changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reloaded {
    /// Flows that were started.
    pub started: Vec<String>,
    /// Flows that were stopped.
    pub stopped: Vec<String>,
    /// Flows that were stopped and started in another way.
    pub restarted: Vec<String>,
    /// Flows that went on.
    pub kept: Vec<String>,
}

/// Something that has just happened.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Notice {
    /// A flow is in another state, or its numbers are others.
    Flow(FlowStatus),
    /// A run is in another state.
    Run(Run),
    /// A trigger is in another state.
    Trigger(TriggerStatus),
    /// An alert fires, or has recovered.
    Alert(AlertStatus),
    /// A new configuration is in use.
    Reloaded(Reloaded),
}
