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
    places: Vec<Place>,
}

/// A place for an isolate.
#[derive(Default)]
struct Place {
    isolate: OnceCell<Isolate>,
    /// How many calls wait for an answer of it.
    unanswered: AtomicUsize,
}

/// A place that has a call more, until this is dropped.
struct Taken<'a>(&'a Place);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.unanswered.fetch_sub(1, Ordering::Relaxed);
    }
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
            places: (0..threads.max(1)).map(|_| Place::default()).collect(),
        }
    }

    async fn isolate<'a>(&self, place: &'a Place) -> Result<&'a Isolate, Outcome> {
        let begin = async || {
            Isolate::start(
                Arc::clone(&self.program),
                self.limits,
                Arc::clone(&self.services),
                tokio::runtime::Handle::current(),
            )
        };
        place
            .isolate
            .get_or_try_init(begin)
            .await
            .map_err(|error| Outcome::lost(&error.to_string()))
    }

    /// The place of the fewest calls, the first of several. Code that does not pause holds up the calls of its
    /// thread, and those that come later go past it.
    fn least_busy(&self) -> Option<Taken<'_>> {
        loop {
            let loads = self.places.iter().map(|place| {
                let load = place.unanswered.load(Ordering::Relaxed);
                (place, load)
            });
            let (place, load) = loads.min_by_key(|(_, load)| *load)?;
            let order = Ordering::Relaxed;
            let taken = place
                .unanswered
                .compare_exchange(load, load + 1, order, order);
            if taken.is_ok() {
                return Some(Taken(place));
            }
        }
    }

    /// Makes a call, on the thread of the fewest.
    pub(crate) async fn run(&self, call: Call) -> Outcome {
        let Some(taken) = self.least_busy() else {
            return Outcome::lost("there is no thread to run it");
        };
        match self.isolate(taken.0).await {
            Ok(isolate) => isolate.run(call).await,
            Err(lost) => lost,
        }
    }

    /// As [`Isolate::run_in_order`], always on the same thread.
    pub(crate) async fn run_in_order(&self, calls: Vec<Call>) -> Vec<Outcome> {
        let Some(place) = self.places.first() else {
            return vec![Outcome::lost("there is no thread to run it")];
        };
        place.unanswered.fetch_add(1, Ordering::Relaxed);
        let taken = Taken(place);
        match self.isolate(taken.0).await {
            Ok(isolate) => isolate.run_in_order(calls).await,
            Err(lost) => vec![lost],
        }
    }
}
