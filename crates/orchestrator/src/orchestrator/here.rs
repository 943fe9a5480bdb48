//! A job that runs where nothing else does.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tributary_model::Result;

use super::{Orchestrator, Plans, ask};
use crate::config::Plan;
use crate::status::{Cause, Run, RunFilter, RunState};

impl Orchestrator {
    /// Has a job run in this process, and those that come behind it, until they have ended; it runs nothing
    /// else.
    ///
    /// # Errors
    /// There is no such job, or the state cannot be used.
    pub async fn run_here(&self, name: &str, by: &str, stop: &CancellationToken) -> Result<Run> {
        let plan = self.plan();
        let in_use = Arc::clone(&plan);
        let plans: Plans = Arc::new(move || Arc::clone(&in_use));
        let asked = ask(&self.store, &plan, name, by).await?;
        let runs = async {
            // What another process has left comes first: no other run of its job begins before it has ended.
            let reached = and_behind(&plan, name);
            for left in self.store.running().await? {
                if reached.contains(left.job.as_str()) && !stop.is_cancelled() {
                    self.runner.carry(left, &plans, stop).await?;
                }
            }
            let mut ran: BTreeSet<String> = BTreeSet::new();
            let mut next = vec![asked.id.clone()];
            // What cannot begin now does not begin here at all.
            let mut tried: BTreeSet<String> = BTreeSet::new();
            while let Some(id) = next.pop() {
                tried.insert(id.clone());
                if let Some(run) = self.store.begin_run(&id).await? {
                    ran.insert(self.runner.carry(run, &plans, stop).await?.id);
                }
                let queued = RunFilter {
                    state: Some(RunState::Queued),
                    limit: usize::MAX,
                    ..RunFilter::default()
                };
                let behind = |run: &Run| match &run.cause {
                    Cause::After { run, .. } => ran.contains(run),
                    _ => false,
                };
                let mut queued = self.store.runs(queued).await?;
                queued
                    .retain(|run| behind(run) && !tried.contains(&run.id) && !stop.is_cancelled());
                next = queued.into_iter().map(|run| run.id).collect();
            }
            Ok(())
        };
        tokio::select! {
            result = runs => result?,
            never = self.runner.heed_cancels() => match never {},
        }
        Ok(self.store.run(&asked.id).await?.run)
    }
}

/// A job, and those that can come behind it.
fn and_behind<'a>(plan: &'a Plan, name: &'a str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::from([name]);
    loop {
        let is_next = |after: &Vec<String>| after.iter().any(|job| reached.contains(job.as_str()));
        let next: Vec<&str> = plan
            .jobs
            .iter()
            .filter(|(name, job)| !reached.contains(name.as_str()) && is_next(&job.after))
            .map(|(name, _)| name.as_str())
            .collect();
        if next.is_empty() {
            return reached;
        }
        reached.extend(next);
    }
}
