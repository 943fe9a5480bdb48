//! Functions in JavaScript, as what triggers run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::sync::OnceCell;

use super::witness::{Witness, Witnessed};
use super::{Processor, Selection, Task, Written};
use crate::script::{Call, Isolate, Limits, Outcome, Program};
use crate::services::Services;

/// Runs a function of an application.
pub struct ScriptProcessor {
    function: String,
    program: Arc<Program>,
    limits: Limits,
    services: Arc<dyn Services>,
    /// Begun when they are needed.
    isolates: Vec<OnceCell<Isolate>>,
    next: AtomicUsize,
    witness: Arc<Witness>,
}

impl ScriptProcessor {
    /// Runs `function` of `program` on `threads` threads of its own, at least one, and looks at what it
    /// writes where `selection` has its trigger look.
    #[must_use]
    pub fn new(
        function: String,
        program: Arc<Program>,
        limits: Limits,
        services: Arc<dyn Services>,
        threads: usize,
        selection: Option<&Selection>,
    ) -> Self {
        let witness = Arc::new(match selection {
            Some(selection) => {
                Witness::of(selection.database.clone(), selection.collection.clone())
            }
            None => Witness::of(None, None),
        });
        Self {
            function,
            program,
            limits,
            services: Arc::new(Witnessed {
                services,
                witness: Arc::clone(&witness),
            }),
            isolates: (0..threads.max(1)).map(|_| OnceCell::new()).collect(),
            next: AtomicUsize::new(0),
            witness,
        }
    }

    async fn isolate(&self, place: usize) -> Result<&Isolate, Outcome> {
        let isolate = self.isolates.get(place % self.isolates.len());
        let begin = async || {
            Isolate::start(
                Arc::clone(&self.program),
                self.limits,
                Arc::clone(&self.services),
                tokio::runtime::Handle::current(),
            )
        };
        let begun = match isolate {
            Some(isolate) => isolate.get_or_try_init(begin).await,
            None => return Err(Outcome::lost("there is no thread to run it")),
        };
        begun.map_err(|error| Outcome::lost(&error.to_string()))
    }

    fn call(&self, task: Task) -> Call {
        Call {
            function: self.function.clone(),
            arguments: task.arguments,
            request: None,
            run: task.run,
        }
    }
}

#[async_trait]
impl Processor for ScriptProcessor {
    async fn run(&self, task: Task) -> Outcome {
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        match self.isolate(place).await {
            Ok(isolate) => isolate.run(self.call(task)).await,
            Err(lost) => lost,
        }
    }

    async fn run_in_order(&self, tasks: Vec<Task>) -> Vec<Outcome> {
        match self.isolate(0).await {
            Ok(isolate) => {
                let calls = tasks.into_iter().map(|task| self.call(task)).collect();
                isolate.run_in_order(calls).await
            }
            Err(lost) => vec![lost],
        }
    }

    fn written(&self, run: u64) -> Vec<Written> {
        self.witness.take(run)
    }
}
