//! What came of runs, gathered until it is recorded together with the position that it reaches.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tributary_flow::{DeadLetter, FunctionRun, Progress, RunError};
use uuid::Uuid;

use super::Trigger;
use crate::script::Outcome;

/// How long what came of runs is gathered: a process that is killed repeats so much.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);
/// How many runs that succeeded are logged of each interval. Those that failed all are.
const LOGGED: usize = 20;

/// Which runs are logged: all that failed, and some of those that succeeded.
#[derive(Debug, Default)]
pub(crate) struct RunLog {
    runs: Vec<FunctionRun>,
    succeeded: usize,
}

impl RunLog {
    /// A run has ended. Its record is made only where it is logged: not of one that succeeded without a word, unless
    /// `log_successes` says so.
    pub(crate) fn ended(
        &mut self,
        log_successes: bool,
        outcome: &Outcome,
        record: impl FnOnce() -> FunctionRun,
    ) {
        if outcome.result.is_ok() {
            let is_told = log_successes || !outcome.console.is_empty();
            if !is_told || self.succeeded >= LOGGED {
                return;
            }
            self.succeeded += 1;
        }
        self.runs.push(record());
    }

    /// Whether there is nothing to be recorded.
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Takes what there is, to be recorded; it is done once an [`INTERVAL`].
    pub(crate) fn take(&mut self) -> Vec<FunctionRun> {
        self.succeeded = 0;
        std::mem::take(&mut self.runs)
    }
}

/// What came of runs since it was recorded last.
#[derive(Debug)]
pub(super) struct Journal {
    progress: Progress,
    log: RunLog,
    recorded_at: Instant,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self {
            progress: Progress::default(),
            log: RunLog::default(),
            recorded_at: Instant::now(),
        }
    }

    /// A run has ended: its try `attempt` of `subject`.
    pub(super) fn ran(
        &mut self,
        trigger: &Trigger,
        subject: &str,
        attempt: u32,
        outcome: &Outcome,
    ) {
        match &outcome.result {
            Ok(_) => self.progress.succeeded += 1,
            Err(_) => self.progress.failed += 1,
        }
        let log_successes = trigger.policy.log_successes;
        self.log.ended(log_successes, outcome, || {
            let cause = format!("trigger {}", trigger.name);
            let subject = Some(subject.to_owned());
            let (app, function) = (&trigger.app, &trigger.function);
            run_of(app, function, cause, subject, attempt, outcome)
        });
    }

    /// An event is not tried any more.
    pub(super) fn gave_up(
        &mut self,
        trigger: &Trigger,
        subject: &str,
        arguments: Bytes,
        error: String,
        attempts: u32,
    ) {
        tracing::warn!(
            trigger = trigger.name,
            attempts,
            error,
            "an event has become a dead letter"
        );
        self.progress.dead.push(DeadLetter {
            id: Uuid::now_v7().to_string(),
            trigger: trigger.name.clone(),
            token: subject.to_owned(),
            arguments,
            error,
            attempts,
            at: Utc::now(),
        });
    }

    /// Whether it is time to record it, or something is in it that must not wait.
    pub(super) fn is_due(&self) -> bool {
        !self.progress.dead.is_empty() || self.recorded_at.elapsed() >= INTERVAL
    }

    /// When it will be.
    pub(super) fn due_at(&self) -> Instant {
        self.recorded_at + INTERVAL
    }

    /// Takes what there is, to be recorded.
    pub(super) fn take(&mut self) -> Progress {
        self.recorded_at = Instant::now();
        self.progress.runs = self.log.take();
        std::mem::take(&mut self.progress)
    }
}

/// The record of a run that has just ended.
pub(crate) fn run_of(
    app: &str,
    function: &str,
    cause: String,
    subject: Option<String>,
    attempt: u32,
    outcome: &Outcome,
) -> FunctionRun {
    let started_at: DateTime<Utc> = SystemTime::now()
        .checked_sub(outcome.duration)
        .unwrap_or(SystemTime::UNIX_EPOCH)
        .into();
    FunctionRun {
        id: Uuid::now_v7().to_string(),
        app: app.to_owned(),
        function: function.to_owned(),
        cause,
        subject,
        attempt,
        started_at,
        duration: outcome.duration,
        error: outcome.result.as_ref().err().map(|failure| RunError {
            message: failure.to_string(),
            file: failure.place.as_ref().map(|(file, _)| file.clone()),
            line: failure.place.as_ref().map(|(_, line)| *line),
            stack: failure.stack.clone(),
        }),
        console: outcome
            .console
            .iter()
            .map(|line| (line.level.to_owned(), line.text.clone()))
            .collect(),
    }
}
