//! Where the creation of objects is told: by an SQS queue, or by the directory that they are in.

mod directory;
mod notification;
mod sqs;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tributary_model::{Error, Result};

use crate::config::Watched;

/// An object that was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CreatedObject {
    /// Another one for each creation, and the same one each time that a creation is told: bucket, key
    /// and version or sequencer; path, time and size of files.
    pub(crate) id: String,
    /// Its bucket, unless it is a file.
    pub(crate) bucket: Option<String>,
    /// Its key, or its path below the directory.
    pub(crate) key: String,
    /// Its size in bytes, where it is known.
    pub(crate) size: Option<u64>,
    /// When it was created.
    pub(crate) at: DateTime<Utc>,
}

impl fmt::Display for CreatedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(bucket) = &self.bucket {
            write!(f, "{bucket}/")?;
        }
        f.write_str(&self.key)
    }
}

/// Takes what was created.
#[async_trait]
pub(crate) trait Takes: Send + Sync {
    /// Takes objects. When it answers `Ok`, that is durable; otherwise they are told again.
    ///
    /// Objects are told at least once: queues repeat messages, and after a restart all files of a
    /// directory are told anew. So it is to drop those whose id it has taken before.
    async fn take(&self, objects: Vec<CreatedObject>) -> Result<()>;
}

/// Tells `into` what is created until `stop` is cancelled, in no order.
///
/// What comes within `gather` is told together. Failures that may pass, and those of `into`, are
/// logged and waited out.
///
/// # Errors
/// The queue or directory is missing or may not be read.
pub(crate) async fn watch(
    watched: &Watched,
    matching: Option<&glob::Pattern>,
    gather: Duration,
    into: &dyn Takes,
    stop: CancellationToken,
) -> Result<()> {
    match watched {
        Watched::Queue(url) => {
            let client = sqs::connect(url).await?;
            sqs::watch(&client, url, matching, gather, into, &stop).await
        }
        Watched::Directory(path) => directory::watch(path, matching, gather, into, &stop).await,
    }
}

/// Whether an object is one of those that are asked for: `*` stays within a directory.
fn is_wanted(matching: Option<&glob::Pattern>, key: &str) -> bool {
    let options = glob::MatchOptions {
        require_literal_separator: true,
        ..glob::MatchOptions::default()
    };
    matching.is_none_or(|pattern| pattern.matches_with(key, options))
}

/// Waits longer each time, until something succeeds.
#[derive(Debug, Default)]
struct BackOff {
    failures: u32,
}

impl BackOff {
    const FIRST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(60);

    /// Logs the failure, and answers how long to wait.
    fn after(&mut self, what: &str, error: &Error) -> Duration {
        let wait = Self::FIRST
            .saturating_mul(1 << self.failures.min(10))
            .min(Self::LONGEST);
        self.failures = self.failures.saturating_add(1);
        // Many that wait for the same server are not to come back at the same moment.
        let wait = wait.mul_f64(rand::rng().random_range(0.5..1.0));
        tracing::warn!(%error, wait_ms = wait.as_millis() as u64, "{what}; it is tried again");
        wait
    }

    fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Sleeps, and answers whether it was not to be stopped meanwhile.
async fn slept(time: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = sleep(time) => true,
    }
}
