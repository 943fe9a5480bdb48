//! Functions in JavaScript, as what triggers run.

use std::sync::Arc;

use async_trait::async_trait;

use super::witness::{Witness, Witnessed};
use super::{Processor, Selection, Task, Written};
use crate::script::{Call, Limits, Outcome, Pool, Program};
use crate::services::Services;

/// Runs a function of an application.
pub struct ScriptProcessor {
    function: String,
    pool: Pool,
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
        let witness = Arc::new(Witness::of(selection));
        let services = Arc::new(Witnessed {
            services,
            witness: Arc::clone(&witness),
        });
        Self {
            function,
            pool: Pool::new(program, limits, services, threads),
            witness,
        }
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
        self.pool.run(self.call(task)).await
    }

    async fn run_in_order(&self, tasks: Vec<Task>) -> Vec<Outcome> {
        let calls = tasks.into_iter().map(|task| self.call(task)).collect();
        self.pool.run_in_order(calls).await
    }

    fn written(&self, run: u64) -> Vec<Written> {
        self.witness.take(run)
    }
}
