//! What can be asked of that which runs, and what it can be told to do.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::broadcast;
use tributary_model::Result;

use crate::status::{
    AlertStatus, DeadLetterDetail, DeadLetterStatus, FlowStatus, FunctionRunDetail,
    FunctionRunFilter, FunctionRunStatus, JobStatus, LetterFilter, Letters, Notice, Overview,
    Reloaded, Run, RunDetail, RunFilter, SchemaStatus, SourceStatus, Told, TriggerStatus,
};

/// All that runs, to whoever may ask: the API, and whatever comes beside it.
///
/// Whatever is not there is an error of [`NotFound`](tributary_model::ErrorKind::NotFound), what cannot be
/// done now one of [`Conflict`](tributary_model::ErrorKind::Conflict), and what is asked for wrongly one of
/// [`Usage`](tributary_model::ErrorKind::Usage). What was answered with `Ok` is durable. Starting and stopping
/// flows and reloading, which take as long as flows take to commit what they have read, go on to their ends
/// also when nobody waits for the answer any more.
#[async_trait]
pub trait Control: Send + Sync {
    /// The whole of it.
    async fn overview(&self) -> Result<Overview>;

    /// Why it cannot do its work now, such as that the state cannot be written; none when it is ready.
    async fn unready(&self) -> Option<String>;

    /// All flows, by name.
    async fn flows(&self) -> Result<Vec<FlowStatus>>;

    /// One flow.
    async fn flow(&self, name: &str) -> Result<FlowStatus>;

    /// Starts a flow that was stopped. One that runs goes on; one that waits to be tried again is tried
    /// now.
    async fn start_flow(&self, name: &str) -> Result<FlowStatus>;

    /// Stops a flow: what it has read is committed first. It stays stopped until it is started, also
    /// over a restart of Tributary.
    async fn stop_flow(&self, name: &str) -> Result<FlowStatus>;

    /// All sources, by name.
    async fn sources(&self) -> Result<Vec<SourceStatus>>;

    /// All jobs, by name.
    async fn jobs(&self) -> Result<Vec<JobStatus>>;

    /// One job.
    async fn job(&self, name: &str) -> Result<JobStatus>;

    /// Has a job run, as its overlap policy says, and answers its run, which may be queued or skipped.
    async fn run_job(&self, name: &str, by: &str) -> Result<Run>;

    /// Runs, the newest first.
    async fn runs(&self, filter: RunFilter) -> Result<Vec<Run>>;

    /// One run with its steps.
    async fn run(&self, id: &str) -> Result<RunDetail>;

    /// Cancels a run that waits or runs. It ends within seconds; one that has ended is an error.
    async fn cancel_run(&self, id: &str, by: &str) -> Result<Run>;

    /// The schema changes of the tables of a flow.
    async fn schemas(&self, flow: &str) -> Result<Vec<SchemaStatus>>;

    /// Approves the schema change that a table of a flow waits with.
    async fn approve_schema(&self, flow: &str, table: &str) -> Result<SchemaStatus>;

    /// All triggers, by name, those included that are remembered and not in the configuration any more.
    async fn triggers(&self) -> Result<Vec<TriggerStatus>>;

    /// One trigger.
    async fn trigger(&self, name: &str) -> Result<TriggerStatus>;

    /// Has a trigger wait until it is resumed, also over a restart of Tributary. Runs that have begun end.
    async fn pause_trigger(&self, name: &str) -> Result<TriggerStatus>;

    /// Has a trigger go on that is paused or suspended. One that runs goes on.
    async fn resume_trigger(&self, name: &str) -> Result<TriggerStatus>;

    /// Has a trigger run for all that happened from a moment on, again where it has. One that is suspended is
    /// resumed; one that is paused begins there when it is.
    async fn replay_trigger(&self, name: &str, from: DateTime<Utc>) -> Result<TriggerStatus>;

    /// Events that triggers have given up on, the newest first.
    async fn dead_letters(&self, filter: LetterFilter) -> Result<Vec<DeadLetterStatus>>;

    /// One of them, with what its function was called with.
    async fn dead_letter(&self, id: &str) -> Result<DeadLetterDetail>;

    /// Has dead letters be tried again: those that succeed are gone. Answers how many. Where one of them is
    /// not there, none is tried.
    async fn replay_dead_letters(&self, letters: Letters) -> Result<usize>;

    /// Forgets dead letters. Answers how many. Where one of them is not there, none is forgotten.
    async fn discard_dead_letters(&self, letters: Letters) -> Result<usize>;

    /// Runs of functions that are remembered, the newest first.
    async fn function_runs(&self, filter: FunctionRunFilter) -> Result<Vec<FunctionRunStatus>>;

    /// One run of a function, with what it wrote.
    async fn function_run(&self, id: &str) -> Result<FunctionRunDetail>;

    /// The alerts that fire, and those that have recovered of late.
    async fn alerts(&self) -> Result<Vec<AlertStatus>>;

    /// Tells every receiver that this is a test.
    async fn test_alerts(&self) -> Result<Vec<Told>>;

    /// Reads the configuration again, and takes it into use. Nothing changes where it is wrong.
    async fn reload(&self) -> Result<Reloaded>;

    /// What happens from now on. Who falls behind by too much is told so, and may ask for all again.
    fn notices(&self) -> broadcast::Receiver<Notice>;

    /// All numbers, in Prometheus's text format.
    async fn metrics(&self) -> Result<String>;
}
