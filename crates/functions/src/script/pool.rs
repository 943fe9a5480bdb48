//! Several threads for one program.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::OnceCell;

use super::{Call, Isolate, Limits, Outcome, Program};
use crate::services::Services;

/// Isolates of one program. Each is begun when it is first needed.
pub(crate) struct Pool {
    program: Arc<Program>,
    limits: Limits,
    services: Arc<dyn Services>,
    isolates: Vec<OnceCell<Isolate>>,
    next: AtomicUsize,
}

impl Pool {
    /// One of so many threads, at least one.
    pub(crate) fn new(
        program: Arc<Program>,
        limits: Limits,
        services: Arc<dyn Services>,
        threads: usize,
    ) -> Self {
        Self {
            program,
            limits,
            services,
            isolates: (0..threads.max(1)).map(|_| OnceCell::new()).collect(),
            next: AtomicUsize::new(0),
        }
    }

    async fn isolate(&self, place: usize) -> Result<&Isolate, Outcome> {
        let begin = async || {
            Isolate::start(
                Arc::clone(&self.program),
                self.limits,
                Arc::clone(&self.services),
                tokio::runtime::Handle::current(),
            )
        };
        let Some(isolate) = self.isolates.get(place % self.isolates.len()) else {
            return Err(Outcome::lost("there is no thread to run it"));
        };
        isolate
            .get_or_try_init(begin)
            .await
            .map_err(|error| Outcome::lost(&error.to_string()))
    }

    /// Makes a call, on one of the threads by turns.
    pub(crate) async fn run(&self, call: Call) -> Outcome {
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        match self.isolate(place).await {
            Ok(isolate) => isolate.run(call).await,
            Err(lost) => lost,
        }
    }

    /// As [`Isolate::run_in_order`], always on the same thread.
    pub(crate) async fn run_in_order(&self, calls: Vec<Call>) -> Vec<Outcome> {
        match self.isolate(0).await {
            Ok(isolate) => isolate.run_in_order(calls).await,
            Err(lost) => vec![lost],
        }
    }
}
