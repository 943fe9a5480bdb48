//! Jobs and their runs, to a process that runs nothing itself: what it asks for is done by the one that
//! runs the file.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tributary_model::Result;

use crate::config::Plan;
use crate::orchestrator::{ask, jobs_of};
use crate::status::{JobStatus, Run, RunDetail, RunFilter};
use crate::store::Store;

/// How often it is looked whether a run has ended.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long nobody runs the file before its place is taken: one that is started again takes it up by itself.
const LEFT_FOR: Duration = Duration::from_secs(5);

/// The jobs of a plan.
pub struct Jobs {
    plan: Plan,
    store: Store,
}

impl Jobs {
    /// Those of this plan, whose runs are in this store.
    #[must_use]
    pub fn new(plan: Plan, store: Store) -> Self {
        Self { plan, store }
    }

    /// All jobs, by name.
    ///
    /// # Errors
    /// The state cannot be used.
    pub async fn list(&self) -> Result<Vec<JobStatus>> {
        jobs_of(&self.plan, &self.store).await
    }

    /// Runs, the newest first.
    ///
    /// # Errors
    /// The state cannot be used.
    pub async fn history(&self, filter: RunFilter) -> Result<Vec<Run>> {
        self.store.runs(filter).await
    }

    /// One run with its steps.
    ///
    /// # Errors
    /// There is no such run.
    pub async fn show(&self, id: &str) -> Result<RunDetail> {
        self.store.run(id).await
    }

    /// Asks a run to end.
    ///
    /// # Errors
    /// There is no such run, or it has ended.
    pub async fn cancel(&self, id: &str, by: &str) -> Result<Run> {
        self.store.cancel(id, by).await
    }

    /// Asks for a run of a job.
    ///
    /// # Errors
    /// There is no such job.
    pub async fn ask(&self, name: &str, by: &str) -> Result<Run> {
        ask(&self.store, &self.plan, name, by).await
    }

    /// Whether a run of one of the jobs waits to begin.
    ///
    /// # Errors
    /// The state cannot be used.
    pub async fn is_anything_waiting(&self) -> Result<bool> {
        let jobs = self.plan.jobs.keys().cloned().collect();
        Ok(!self.store.waiting(jobs).await?.is_empty())
    }

    /// Waits until a run has ended, `stop`, or nobody has run the file for a while who could carry it through.
    ///
    /// # Errors
    /// The state cannot be used.
    pub async fn wait(&self, id: &str, stop: &CancellationToken) -> Result<RunDetail> {
        let mut left_since: Option<Instant> = None;
        loop {
            let detail = self.store.run(id).await?;
            if self.store.lock()?.is_some() {
                left_since.get_or_insert_with(Instant::now);
            } else {
                left_since = None;
            }
            let is_left = left_since.is_some_and(|since| since.elapsed() >= LEFT_FOR);
            if detail.run.state.is_end() || stop.is_cancelled() || is_left {
                return Ok(detail);
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }
}
