//! When what has been begun is left.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long records are sent on once the process is to end. Most batches are through by then, and who ends
/// processes by force waits longer: Docker ten seconds, Kubernetes thirty.
const GRACE: Duration = Duration::from_secs(5);

/// An end that is asked for, and comes some seconds later.
#[derive(Default)]
pub(super) struct Ending {
    stop: CancellationToken,
    at: Option<Instant>,
}

impl Ending {
    pub(super) fn after(stop: CancellationToken) -> Self {
        Self { stop, at: None }
    }

    /// Whether it has come.
    pub(super) fn is_due(&mut self) -> bool {
        self.stop.is_cancelled() && Instant::now() >= self.at()
    }

    /// Waits until it has come.
    pub(super) async fn comes(&mut self) {
        self.stop.cancelled().await;
        tokio::time::sleep_until(self.at()).await;
    }

    /// When it comes, for what has just been stopped or was before.
    fn at(&mut self) -> Instant {
        *self.at.get_or_insert_with(|| Instant::now() + GRACE)
    }
}
