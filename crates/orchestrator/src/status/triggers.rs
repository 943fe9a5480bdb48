//! Triggers, their dead letters, and runs of functions.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a trigger runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TriggerKind {
    /// Changes of a source.
    Database,
    /// Moments.
    Scheduled,
}

impl TriggerKind {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Scheduled => "scheduled",
        }
    }
}

/// What a trigger is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TriggerState {
    /// It runs.
    Running,
    /// It waits to be resumed, as somebody wants it.
    Paused,
    /// It waits to be resumed, because something failed.
    Suspended,
    /// The configuration has it not run.
    Disabled,
    /// It cannot run now, and is tried again.
    Failed,
    /// It is remembered, and not in the configuration any more.
    Gone,
}

impl TriggerState {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Running,
        Self::Paused,
        Self::Suspended,
        Self::Disabled,
        Self::Failed,
        Self::Gone,
    ];

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Suspended => "suspended",
            Self::Disabled => "disabled",
            Self::Failed => "failed",
            Self::Gone => "gone",
        }
    }
}

/// A trigger.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TriggerStatus {
    /// Its name: `app/trigger`, or without an application the name alone.
    pub name: String,
    /// Its application.
    pub app: Option<String>,
    /// What it runs on.
    pub kind: TriggerKind,
    /// The function that it runs; none where it is gone.
    pub function: Option<String>,
    /// The source whose changes it runs on.
    pub source: Option<String>,
    /// What it watches: database and collection, or a cron pattern; none where it is gone.
    pub watches: Option<String>,
    /// What it is doing.
    pub state: TriggerState,
    /// Why it is suspended or failed.
    pub reason: Option<String>,
    /// The moment up to which everything has been dealt with; none where it has not begun.
    pub position_at: Option<DateTime<Utc>>,
    /// The moment from which on it is to begin again, where that was asked for and has not been done.
    pub replays_from: Option<DateTime<Utc>>,
    /// How old the oldest event is that was read and has not been dealt with, in seconds; none where there
    /// is none, or it is not known.
    pub lag_seconds: Option<f64>,
    /// Events that were read and wait; none where that is not known.
    pub queued: Option<u64>,
    /// Runs that have begun and not ended; none where that is not known.
    pub in_flight: Option<u64>,
    /// Runs that succeeded, ever.
    pub succeeded: u64,
    /// Runs that failed, ever, those that were tried again included.
    pub failed: u64,
    /// Events that it has given up on.
    pub dead_letters: u64,
    /// When a run last ended, as far as that is recorded.
    pub last_run_at: Option<DateTime<Utc>>,
    /// Why a run failed last, while none has succeeded since.
    pub last_error: Option<String>,
    /// When it runs next by its schedule.
    pub next_at: Option<DateTime<Utc>>,
}

/// An event that its trigger has given up on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterStatus {
    /// Its id.
    pub id: String,
    /// The trigger.
    pub trigger: String,
    /// The token of the event; none for a moment of a schedule.
    pub token: Option<String>,
    /// Why it was given up on.
    pub error: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was given up on.
    pub at: DateTime<Utc>,
    /// Whether it is to be tried again.
    pub replaying: bool,
}

/// A dead letter with what its function was called with.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterDetail {
    /// The dead letter.
    #[serde(flatten)]
    pub letter: DeadLetterStatus,
    /// The arguments, as relaxed Extended JSON; none where those of its function are not to be shown.
    pub arguments: Vec<serde_json::Value>,
}

/// Which dead letters are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// Of this trigger.
    pub trigger: Option<String>,
    /// Those before this one, the newest first.
    pub before: Option<String>,
    /// How many at most.
    pub limit: usize,
}

/// Dead letters that are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Letters {
    /// Those of these ids.
    These(Vec<String>),
    /// All of a trigger.
    AllOf(String),
}

/// A run of a function.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FunctionRunStatus {
    /// Its id.
    pub id: String,
    /// The application; empty where there is none.
    pub app: String,
    /// The function.
    pub function: String,
    /// Why it ran: `trigger NAME`, `endpoint METHOD ROUTE` or `command line`.
    pub cause: String,
    /// What it was for: the token of an event, or a moment.
    pub subject: Option<String>,
    /// Which try it was, from 1.
    pub attempt: u32,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Why it failed; none where it did not.
    pub error: Option<FunctionError>,
}

/// Why a run of a function failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FunctionError {
    /// What it says.
    pub message: String,
    /// The file, where it is known.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
    /// The trace of calls.
    pub stack: Option<String>,
}

/// A run of a function with what it wrote.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FunctionRunDetail {
    /// The run.
    #[serde(flatten)]
    pub run: FunctionRunStatus,
    /// What it wrote to its console.
    pub console: Vec<ConsoleLine>,
}

/// A line of a function's console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsoleLine {
    /// `log`, `info`, `warn`, `error` or `debug`.
    pub level: String,
    /// The text.
    pub text: String,
}

/// Which runs of functions are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FunctionRunFilter {
    /// Of this application.
    pub app: Option<String>,
    /// Of this function.
    pub function: Option<String>,
    /// Of this trigger.
    pub trigger: Option<String>,
    /// Only those that failed.
    pub failed: bool,
    /// Those before this run, the newest first.
    pub before: Option<String>,
    /// How many at most.
    pub limit: usize,
}
