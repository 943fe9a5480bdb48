//! What has to be remembered of triggers: how far each has got, what failed, and what was asked of it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tributary_model::{Position, Result};

/// Remembers triggers, by their names (`app/trigger`). Every call is one transaction, durable when it
/// returns.
#[async_trait]
pub trait TriggerLedger: Send + Sync {
    /// What is remembered of a trigger; [`TriggerRecord::default`] where it is nothing.
    async fn load(&self, trigger: &str) -> Result<TriggerRecord>;

    /// How often something was asked of each trigger, by hand and maybe by another process: who runs it
    /// [loads](Self::load) it again where that has become more.
    async fn revisions(&self) -> Result<Vec<(String, u64)>>;

    /// Records what came of events, all of it together. Where the trigger was asked since
    /// [`Progress::revision`] to begin somewhere else, its places stay as they are, and everything else is
    /// recorded.
    async fn advance(&self, trigger: &str, progress: Progress) -> Result<()>;

    /// Records what a trigger's runner has come to: what it is to do from now on, and, where `from` is given,
    /// from where. What somebody has asked for stands: nothing is recorded where the trigger's revision is not
    /// `revision` any more, and neither a pause nor where it is to begin is overwritten.
    async fn set_state(
        &self,
        trigger: &str,
        revision: u64,
        state: TriggerState,
        from: Option<StartAt>,
    ) -> Result<()>;

    /// The first of the dead letters of a trigger that are to be tried again, a few of them.
    async fn to_replay(&self, trigger: &str) -> Result<Vec<DeadLetter>>;

    /// Records what came of trying a dead letter again: it is gone, or stays with this error, and one
    /// more attempt.
    async fn replayed(&self, letter: &str, error: Option<String>, run: FunctionRun) -> Result<()>;

    /// Records runs of functions that are no trigger's.
    async fn record(&self, runs: Vec<FunctionRun>) -> Result<()>;
}

/// What is remembered of a trigger.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TriggerRecord {
    /// How often something was asked of it.
    pub revision: u64,
    /// Everything up to here has been dealt with; none where it has not begun.
    pub position: Option<Position>,
    /// Of an unordered trigger: the token of the last event that was begun…
    pub head: Option<String>,
    /// …and those up to it that had not ended. Everything else up to it has.
    pub unfinished: Vec<String>,
    /// Of a scheduled trigger: the last moment that has been dealt with.
    pub passed_to: Option<DateTime<Utc>>,
    /// What it is to do.
    pub state: TriggerState,
    /// Where it is to begin, in the place of `position`. Gone with the next [`Progress`] of one who knew it.
    pub from: Option<StartAt>,
}

/// What a trigger is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum TriggerState {
    /// It runs.
    #[default]
    Running,
    /// It waits to be resumed, as somebody wants it.
    Paused,
    /// It waits to be resumed, because of this.
    Suspended {
        /// Why, for people.
        reason: String,
    },
}

/// Where a trigger is to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartAt {
    /// With what happens from now on.
    Now,
    /// With what happened from this moment on.
    Time(DateTime<Utc>),
}

/// What came of events.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// The [`TriggerRecord::revision`] that this is progress of. Where something was asked of the trigger
    /// since, how far it has got is not recorded, for it may be somewhere else now; everything else is.
    pub revision: u64,
    /// As in [`TriggerRecord`].
    pub position: Option<Position>,
    /// As there.
    pub head: Option<String>,
    /// As there.
    pub unfinished: Vec<String>,
    /// As there.
    pub passed_to: Option<DateTime<Utc>>,
    /// Events that are not tried any more.
    pub dead: Vec<DeadLetter>,
    /// Runs of the function that are to be shown. Those without anything to tell are only counted.
    pub runs: Vec<FunctionRun>,
    /// Runs that succeeded.
    pub succeeded: u64,
    /// Runs that failed, those that were tried again included.
    pub failed: u64,
}

/// An event that its trigger has given up on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Sorts by time.
    pub id: String,
    /// The trigger.
    pub trigger: String,
    /// The token of the event; empty for a moment of a schedule.
    pub token: String,
    /// What the function was called with: a document of raw BSON with the array of arguments as `v`.
    pub arguments: Bytes,
    /// Why.
    pub error: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was given up on.
    pub at: DateTime<Utc>,
}

/// A run of a function.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionRun {
    /// Sorts by time.
    pub id: String,
    /// The application.
    pub app: String,
    /// The function.
    pub function: String,
    /// Why it ran: `trigger NAME`, `endpoint METHOD ROUTE`, `command line`.
    pub cause: String,
    /// What it was for: the token of an event, or a moment.
    pub subject: Option<String>,
    /// Which try it was, from 1.
    pub attempt: u32,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How long it took.
    pub duration: Duration,
    /// Why it failed; none where it did not.
    pub error: Option<RunError>,
    /// What it wrote to its console: level and text of each line.
    pub console: Vec<(String, String)>,
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunError {
    /// What it says.
    pub message: String,
    /// The file, where it is known.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
    /// The trace of calls.
    pub stack: Option<String>,
}
