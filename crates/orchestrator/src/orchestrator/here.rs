//! Jobs that run where nothing else does.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tributary_model::Result;

use super::{Orchestrator, Plans, ask};
use crate::status::Run;

impl Orchestrator {
    /// Asks for a run of a job.
    ///
    /// # Errors
    /// There is no such job, or the state cannot be used.
    pub async fn ask(&self, name: &str, by: &str) -> Result<Run> {
        ask(&self.store, &self.plan(), name, by).await
    }

    /// Carries through in this process what has been asked for, one run after the other and the oldest first,
    /// until nothing waits: this one, and what others ask for meanwhile, who find that this process runs the
    /// file. It runs nothing else.
    ///
    /// # Errors
    /// There is no such run, or the state cannot be used.
    pub async fn run_here(self: &Arc<Self>, id: &str, stop: &CancellationToken) -> Result<Run> {
        let shared = Arc::clone(self);
        let plans: Plans = Arc::new(move || shared.plan());
        let runs = async {
            while !stop.is_cancelled() {
                let waiting = self.store.waiting(self.jobs_here()).await?;
                let mut jobs: BTreeSet<&str> = waiting.iter().map(|run| run.job.as_str()).collect();
                let asked = self.store.run(id).await?.run;
                if !asked.state.is_end() {
                    jobs.insert(&asked.job);
                }
                // What another process has left comes first: no other run of its job begins before it has ended.
                let mut left = self.store.running().await?;
                left.retain(|run| jobs.contains(run.job.as_str()));
                let run = match (left.into_iter().next(), waiting.first()) {
                    (Some(left), _) => Some(left),
                    (None, Some(next)) => self.store.begin_run(&next.id).await?,
                    (None, None) => break,
                };
                if let Some(run) = run {
                    self.runner.carry(run, &plans, stop).await?;
                }
            }
            Ok(())
        };
        tokio::select! {
            result = runs => result?,
            never = self.runner.heed_cancels() => match never {},
        }
        Ok(self.store.run(id).await?.run)
    }

    /// The jobs that this process knows.
    fn jobs_here(&self) -> Vec<String> {
        self.plan().jobs.keys().cloned().collect()
    }
}
