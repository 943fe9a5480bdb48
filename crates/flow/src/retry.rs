//! How often and how long a transient failure is waited out.

use std::time::Duration;

use rand::Rng as _;
use tributary_model::Error;

/// The first wait.
const FIRST: Duration = Duration::from_millis(250);
/// How many failures in a row, without any progress between them, are waited out. Together with
/// the driver's own server selection this rides out about two minutes.
const ATTEMPTS: u32 = 8;

/// Exponential back-off with full jitter. Progress sets it back.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The longest wait: a new primary is elected well within it.
    pub const LONGEST: Duration = Duration::from_secs(15);

    /// The wait before the next try; none when it is time to give up.
    pub fn next_wait(&mut self) -> Option<Duration> {
        if self.failures >= ATTEMPTS {
            return None;
        }
        let ceiling = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(Self::LONGEST);
        self.failures += 1;
        let half = ceiling / 2;
        Some(half + half.mul_f64(rand::rng().random::<f64>()))
    }

    /// The wait before what failed with `error` is tried again; none where that would be of no use, or
    /// it is time to give up, which `for_ever` it never is.
    pub fn wait_after(&mut self, error: &Error, for_ever: bool) -> Option<Duration> {
        if !error.kind().is_transient() {
            return None;
        }
        self.next_wait().or(for_ever.then_some(Self::LONGEST))
    }

    /// Something was achieved since the last failure.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}
