//! What tests see of the statements and do to them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::refusal::Refusal;

/// What happens to a statement.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    Fail(Refusal),
    CutBefore,
    CutAfter,
}

/// The statements that were seen, and the faults that wait for one.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    seen: Vec<String>,
    /// Each with a text that is part of the statement, in lower case.
    waiting: Vec<(String, Fault)>,
}

impl Faults {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, text: &str, fault: Fault) {
        let text = text.to_lowercase();
        self.state().waiting.push((text, fault));
    }

    pub(super) fn clear(&self) {
        self.state().waiting.clear();
    }

    pub(super) fn seen(&self) -> Vec<String> {
        self.state().seen.clone()
    }

    /// Notes a statement, and takes the first fault that waited for it.
    pub(super) fn meet(&self, statement: &str) -> Option<Fault> {
        let mut state = self.state();
        state.seen.push(statement.to_owned());
        let statement = statement.to_lowercase();
        let mut waiting = state.waiting.iter();
        let at = waiting.position(|(text, _)| statement.contains(text.as_str()))?;
        Some(state.waiting.remove(at).1)
    }
}
