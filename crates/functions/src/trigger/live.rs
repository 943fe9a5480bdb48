//! What triggers are doing right now.

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Upper bounds of the durations of runs that are counted together, in seconds; what is longer is counted last.
pub const DURATION_BOUNDS: [f64; 12] = [
    0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0,
];

/// How long runs took.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Durations {
    /// How many took as long as each of [`DURATION_BOUNDS`] at most, and longer than the bound before it; the
    /// last of these, those that took longer than all.
    pub counts: [u64; DURATION_BOUNDS.len() + 1],
    /// All of them together, in seconds.
    pub sum: f64,
}

/// What a trigger is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LiveState {
    /// It is about to run.
    #[default]
    Starting,
    /// It runs.
    Running,
    /// It waits to be tried again: this failed.
    Retrying(String),
    /// It waits to be resumed.
    Paused,
    /// It waits to be resumed, because of this.
    Suspended(String),
    /// The configuration has it not run.
    Disabled,
}

/// A trigger as it is right now.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveTrigger {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: LiveState,
    /// Events that were read and wait.
    pub queued: usize,
    /// Runs that have begun and not ended.
    pub in_flight: usize,
    /// The age of the oldest event that was read and has not been dealt with; none where there is none.
    pub lag: Option<Duration>,
    /// Runs of this process that succeeded.
    pub succeeded: u64,
    /// Those that failed.
    pub failed: u64,
    /// How long they took.
    pub durations: Durations,
    /// Why the last one that failed did.
    pub last_error: Option<String>,
}

/// What a running trigger tells of itself.
#[derive(Debug, Default)]
pub(super) struct Live {
    state: Mutex<LiveState>,
    pub(super) queued: AtomicUsize,
    pub(super) in_flight: AtomicUsize,
    /// The wall time of the oldest event that was read and has not been dealt with, in milliseconds since
    /// 1970; 0 for none.
    oldest: AtomicI64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    durations: Mutex<Durations>,
    last_error: Mutex<Option<String>>,
}

impl Live {
    pub(super) fn is(&self, state: LiveState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// The oldest event that has not been dealt with is of this time.
    pub(super) fn oldest(&self, wall_time: Option<i64>) {
        self.oldest.store(wall_time.unwrap_or(0), Ordering::Relaxed);
    }

    pub(super) fn ran(&self, duration: Duration, error: Option<&str>) {
        match error {
            None => self.succeeded.fetch_add(1, Ordering::Relaxed),
            Some(error) => {
                let mut last = self
                    .last_error
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                *last = Some(error.to_owned());
                self.failed.fetch_add(1, Ordering::Relaxed)
            }
        };
        let seconds = duration.as_secs_f64();
        let place = DURATION_BOUNDS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(DURATION_BOUNDS.len());
        let mut durations = self
            .durations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        durations.sum += seconds;
        if let Some(count) = durations.counts.get_mut(place) {
            *count += 1;
        }
    }

    pub(super) fn of(&self, name: &str) -> LiveTrigger {
        let oldest = self.oldest.load(Ordering::Relaxed);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis());
        let age = i64::try_from(now)
            .unwrap_or(i64::MAX)
            .saturating_sub(oldest);
        let lag = Duration::from_millis(u64::try_from(age).unwrap_or(0));
        LiveTrigger {
            name: name.to_owned(),
            state: self
                .state
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            queued: self.queued.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            lag: (oldest > 0).then_some(lag),
            succeeded: self.succeeded.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            durations: self
                .durations
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            last_error: self
                .last_error
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }
}
