//! Reading a log to its end, and then what is appended.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tributary_model::{ClusterTime, Position, Result};

use crate::log::{EventLog, Page};

/// How often it is told that there is nothing new.
const IDLE: Duration = Duration::from_secs(1);

/// A place in a log.
pub(crate) struct Cursor {
    log: Arc<EventLog>,
    after: u64,
    changed: watch::Receiver<crate::log::State>,
    is_at_the_end: bool,
}

impl Cursor {
    /// Behind a position.
    ///
    /// # Errors
    /// The position is not of this log, or what comes behind it has been removed.
    pub(crate) fn new(log: Arc<EventLog>, from: &Position) -> Result<Self> {
        let mut changed = log.reached();
        changed.mark_changed();
        Ok(Self {
            after: log.number_of(from)?,
            changed,
            log,
            is_at_the_end: false,
        })
    }

    /// The events that come next; none where none has come for a while.
    pub(crate) async fn next(&mut self) -> Result<Page> {
        if self.is_at_the_end {
            // Nobody sends any more only when the process ends.
            let _ = tokio::time::timeout(IDLE, self.changed.changed()).await;
        }
        self.changed.mark_unchanged();
        let page = self.log.read(self.after).await?;
        self.after = page.through;
        self.is_at_the_end = page.is_last;
        Ok(page)
    }

    /// The position behind what has been read.
    pub(crate) fn position(&self) -> Position {
        self.log.behind(self.after)
    }

    /// The moment up to which everything has been read.
    pub(crate) fn complete_to(&self) -> ClusterTime {
        ClusterTime(match self.is_at_the_end {
            // No event ever has the next number.
            true => self.after + 1,
            false => self.after,
        })
    }
}
