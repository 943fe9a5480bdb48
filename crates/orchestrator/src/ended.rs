//! How many runs of jobs have ended, as a number that only grows.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use tributary_model::Result;

use crate::status::RunState;
use crate::store::{RunCount, Store};

/// How many runs of each job have ended since the start, by how.
pub(crate) struct EndedRuns {
    store: Store,
    /// What is to be added to the number of those that are remembered: less those of before the start, and
    /// with those that have been forgotten since.
    difference: tokio::sync::Mutex<HashMap<(String, RunState), i64>>,
}

impl EndedRuns {
    /// Begins to count.
    ///
    /// # Errors
    /// The state cannot be read.
    pub(crate) fn new(store: Store) -> Result<Self> {
        let before = store.run_counts_here()?.into_iter();
        let before = before.map(|count| ((count.job, count.state), -count.runs.cast_signed()));
        Ok(Self {
            difference: tokio::sync::Mutex::new(before.collect()),
            store,
        })
    }

    /// As [`Store::forget`].
    pub(crate) async fn forget(
        &self,
        before: DateTime<Utc>,
        told_again: Vec<String>,
    ) -> Result<()> {
        let mut difference = self.difference.lock().await;
        for forgotten in self.store.forget(before, told_again).await? {
            let of = difference
                .entry((forgotten.job, forgotten.state))
                .or_default();
            *of += forgotten.runs.cast_signed();
        }
        Ok(())
    }

    /// How many there are by now.
    pub(crate) async fn counts(&self) -> Result<Vec<RunCount>> {
        let difference = self.difference.lock().await;
        let mut counts = difference.clone();
        for remembered in self.store.run_counts().await? {
            let of = counts
                .entry((remembered.job, remembered.state))
                .or_default();
            *of += remembered.runs.cast_signed();
        }
        let mut counts: Vec<RunCount> = counts
            .into_iter()
            .map(|((job, state), runs)| RunCount {
                job,
                state,
                runs: runs.max(0).cast_unsigned(),
            })
            .collect();
        counts.sort_by(|a, b| (&a.job, a.state.name()).cmp(&(&b.job, b.state.name())));
        Ok(counts)
    }
}
