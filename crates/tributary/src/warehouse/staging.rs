//! The lake between a MongoDB and a warehouse, while it is being filled.
//!
//! What is told is what arrives in the warehouse. Of the way into the lake it is told what goes wrong and what is
//! known of the source, and how far behind the lake's tables are counts for those of the warehouse.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tributary_flow::{
    AppliedBatch, CollectionInfo, HistoryWindow, Lag, Observer, PartitionTotals, TableFeed,
    TableSource,
};
use tributary_lake::LakeFeed;
use tributary_model::{Error, Namespace, Position, Result};

use crate::SharedObserver;

/// Hears of the way into the lake.
pub(super) struct Staging {
    observer: SharedObserver,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    tables: HashMap<Namespace, Table>,
    /// When the source's changes have been read to their end.
    read_to: Option<SystemTime>,
}

/// A table of the lake.
#[derive(Default)]
struct Table {
    /// None before it follows.
    lag: Option<Lag>,
    /// Whether it has failed, or waits for an approval.
    has_failed: bool,
    /// Whether what is applied to it is being tried again.
    is_retried: bool,
}

impl Staging {
    /// One that tells this observer.
    pub(super) fn new(observer: SharedObserver) -> Self {
        Self {
            observer,
            inner: Mutex::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with(&self, namespace: &Namespace, change: impl FnOnce(&mut Table)) {
        change(self.inner().tables.entry(namespace.clone()).or_default());
    }

    fn holds_to(&self, namespace: &Namespace, at: SystemTime) -> Option<SystemTime> {
        let inner = self.inner();
        match inner.tables.get(namespace) {
            // Nobody fills it, or nobody does yet: that is known when the source is being read.
            None => inner.read_to.map(|_| at),
            Some(table) => {
                let lag = table.lag.as_ref()?;
                // A position alone that is written again holds up nothing.
                let is_held_up = table.is_retried && !lag.is_none();
                let holds_to = lag.holds_to(inner.read_to.unwrap_or(at)).min(at);
                (!table.has_failed && !is_held_up).then_some(holds_to)
            }
        }
    }
}

impl Observer for Staging {
    fn started(&self, collection: &CollectionInfo, _: usize, _: PartitionTotals) {
        self.with(&collection.namespace, |table| *table = Table::default());
    }

    fn retrying(&self, namespace: &Namespace, error: &Error, wait: Duration) {
        self.with(namespace, |table| table.is_retried = true);
        self.observer.retrying(namespace, error, wait);
    }

    fn following(&self, namespace: &Namespace, _: &Position) {
        self.with(namespace, |table| {
            *table = Table {
                lag: Some(Lag::default()),
                ..Table::default()
            };
        });
        // It is behind by what it finds, from now on.
        self.inner().read_to.get_or_insert_with(SystemTime::now);
    }

    fn gathering(&self, namespace: &Namespace, oldest: SystemTime) {
        self.with(namespace, |table| {
            if let Some(lag) = &mut table.lag {
                lag.gathering(oldest);
            }
        });
    }

    fn applied(&self, namespace: &Namespace, _: &AppliedBatch) {
        self.with(namespace, |table| {
            table.is_retried = false;
            if let Some(lag) = &mut table.lag {
                lag.applied();
            }
        });
    }

    fn happened(&self, namespace: &Namespace, what: &str) {
        self.observer.happened(namespace, what);
    }

    fn reached(&self, position: &Position, at: SystemTime) {
        self.inner().read_to = Some(at);
        self.observer.reached(position, at);
    }

    fn remembers(&self, window: HistoryWindow) {
        self.observer.remembers(window);
    }

    fn falling_behind(&self, namespace: &Namespace, behind: Duration, remembered: Duration) {
        self.observer.falling_behind(namespace, behind, remembered);
    }

    fn source_retrying(&self, error: &Error, wait: Duration) {
        self.observer.source_retrying(error, wait);
    }

    fn failed(&self, namespace: &Namespace, error: &Error) {
        self.with(namespace, |table| table.has_failed = true);
        self.observer.failed(namespace, error);
    }
}

/// The lake's tables while they are being filled.
pub(super) struct Staged {
    pub(super) feed: LakeFeed,
    pub(super) staging: Arc<Staging>,
}

#[async_trait]
impl TableSource for Staged {
    async fn tables(&self) -> Result<Vec<Namespace>> {
        self.feed.tables().await
    }

    async fn open(&self, table: &Namespace) -> Result<Box<dyn TableFeed>> {
        self.feed.open(table).await
    }

    fn holds_to(&self, table: &Namespace, at: SystemTime) -> Option<SystemTime> {
        self.staging.holds_to(table, at)
    }
}

#[cfg(test)]
mod tests {
    use tributary_flow::{Applied, Quiet};
    use tributary_model::{ClusterTime, ErrorKind};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_table_of_the_warehouse_is_as_far_as_that_of_the_lake() {
        let staging = Staging::new(Arc::new(Quiet));
        let (table, now) = (Namespace::new("db", "c"), SystemTime::now());
        let position = Position::at(ClusterTime::new(1, 1));
        // Until the source is read, nobody knows.
        assert_eq!(staging.holds_to(&table, now), None);
        staging.started(
            &CollectionInfo {
                namespace: table.clone(),
                kind: tributary_flow::CollectionKind::Collection,
                uuid: None,
                documents: None,
                bytes: None,
            },
            1,
            PartitionTotals::default(),
        );
        assert_eq!(staging.holds_to(&table, now), None);
        staging.following(&table, &position);
        staging.reached(&position, now - 5 * SECOND);
        assert_eq!(staging.holds_to(&table, now), Some(now - 5 * SECOND));
        // What nobody fills is as far as it is.
        let other = Namespace::new("db", "other");
        assert_eq!(staging.holds_to(&other, now), Some(now));
        staging.reached(&position, now + SECOND);
        assert_eq!(staging.holds_to(&table, now), Some(now));
        staging.gathering(&table, now - 9 * SECOND);
        assert_eq!(staging.holds_to(&table, now), Some(now - 9 * SECOND));
        staging.failed(&table, &Error::new(ErrorKind::Storage, "as it was to be"));
        assert_eq!(staging.holds_to(&table, now), None);
        staging.following(&table, &position);
        assert_eq!(staging.holds_to(&table, now), Some(now));
        let error = Error::new(ErrorKind::Unreachable, "as it was to be");
        staging.retrying(&table, &error, SECOND);
        assert_eq!(staging.holds_to(&table, now), Some(now));
        staging.gathering(&table, now - SECOND);
        assert_eq!(staging.holds_to(&table, now), None);
        let batch = AppliedBatch {
            changes: 1,
            bytes: 1,
            applied: Applied::default(),
            gathered: SECOND,
            oldest: now,
            changed: now,
            begun: now,
            committed: now,
        };
        staging.applied(&table, &batch);
        assert_eq!(staging.holds_to(&table, now), Some(now));
    }
}
