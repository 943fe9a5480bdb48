//! Ranges of keys: the sums of both sides, and the keys where they differ.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tributary_model::{Error, ErrorKind, Result};

use super::{ComparedTable, Fingerprint, TakeFingerprints, Verify, retried};
use crate::batch::DocumentBatch;
use crate::retry::Backoff;
use crate::snapshot::{Bookmark, CollectionInfo, Partition, PartitionTotals};

/// How many there are of something, and the sum of what they say. Does not depend on their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) count: u64,
    pub(super) sum: u128,
}

impl Tally {
    pub(super) fn one(content: u128) -> Self {
        Self {
            count: 1,
            sum: content,
        }
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// The sums of all ranges of one side. Their number is a power of two.
#[derive(Debug, Clone)]
pub(super) struct Ranges(pub(super) Vec<Tally>);

impl Ranges {
    pub(super) fn new(count: usize) -> Self {
        Self(vec![Tally::default(); count])
    }

    pub(super) fn add(&mut self, fingerprint: &Fingerprint) {
        let range = range_of(&fingerprint.key, self.0.len());
        self.0[range] += Tally::one(fingerprint.content);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            *own += *other;
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|tally| tally.count).sum()
    }
}

/// The range of a key among `count`, a power of two.
pub(super) fn range_of(key: &[u8; 16], count: usize) -> usize {
    let mut head = [0; 8];
    head.copy_from_slice(&key[..8]);
    u64::from_be_bytes(head) as usize & (count - 1)
}

/// A key of a range that differs.
#[derive(Debug, Clone, Default)]
pub(super) struct Pair {
    pub(super) table: Tally,
    pub(super) source: Tally,
    /// Known where a document was read.
    pub(super) id: Option<Bytes>,
}

pub(super) type Pairs = HashMap<[u8; 16], Pair>;

impl Verify {
    pub(super) async fn partitions(&self, collection: &CollectionInfo) -> Result<Vec<Partition>> {
        let parallel = self.options.parallel.max(1);
        retried(async || self.snapshots.plan(collection, parallel).await).await
    }

    pub(super) async fn sum_table(
        &self,
        table: &mut dyn ComparedTable,
        ranges: usize,
    ) -> Result<Ranges> {
        let sums = Arc::new(Mutex::new(Ranges::new(ranges)));
        let all = Arc::clone(&sums);
        let take: TakeFingerprints = Arc::new(move |rows: &[Fingerprint]| {
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            rows.iter().for_each(|row| all.add(row));
            Ok(())
        });
        table.scan(self.options.parallel, take).await?;
        let sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(sums.clone())
    }

    pub(super) async fn sum_source(
        &self,
        collection: &Arc<CollectionInfo>,
        partitions: &[Partition],
        ranges: usize,
    ) -> Result<Ranges> {
        let work = partitions.iter().map(|partition| {
            let tables = Arc::clone(&self.tables);
            let observer = Arc::clone(&self.observer);
            let namespace = collection.namespace.clone();
            let fresh = move || Ranges::new(ranges);
            let take = move |sums: &mut Ranges, batch: &DocumentBatch| {
                let mut read = PartitionTotals::default();
                for document in batch.documents() {
                    let document = document?;
                    sums.add(&tables.fingerprint(document)?);
                    read.documents += 1;
                    read.bytes += document.len() as u64;
                }
                observer.progressed(&namespace, read);
                Ok(())
            };
            self.read(collection, partition, fresh, take)
        });
        let parts = stream::iter(work).buffer_unordered(self.options.parallel.max(1));
        parts
            .try_fold(Ranges::new(ranges), |mut all, part| async move {
                all.merge(&part);
                Ok(all)
            })
            .await
    }

    /// The keys of the chosen ranges that are not the same on both sides.
    pub(super) async fn differing_keys(
        &self,
        collection: &Arc<CollectionInfo>,
        partitions: &[Partition],
        table: &mut dyn ComparedTable,
        chosen: Vec<bool>,
    ) -> Result<Pairs> {
        table.refresh().await?;
        self.changes.now().await?;
        let chosen = Arc::new(chosen);
        let pairs = Arc::new(Mutex::new(Pairs::new()));
        let (all, within) = (Arc::clone(&pairs), Arc::clone(&chosen));
        let take: TakeFingerprints = Arc::new(move |rows: &[Fingerprint]| {
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            for row in rows
                .iter()
                .filter(|row| within[range_of(&row.key, within.len())])
            {
                all.entry(row.key).or_default().table += Tally::one(row.content);
            }
            Ok(())
        });
        table.scan(self.options.parallel, take).await?;

        let work = partitions.iter().map(|partition| {
            let (tables, all) = (Arc::clone(&self.tables), Arc::clone(&pairs));
            let within = Arc::clone(&chosen);
            let take = move |(): &mut (), batch: &DocumentBatch| {
                let mut found = Vec::new();
                for document in batch.documents() {
                    let document = document?;
                    let fingerprint = tables.fingerprint(document)?;
                    if within[range_of(&fingerprint.key, within.len())] {
                        found.push((fingerprint, document));
                    }
                }
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                for (Fingerprint { key, content }, document) in found {
                    let pair = all.entry(key).or_default();
                    // A document that is read again counts once; one that is not the same any
                    // more is looked at again in any case.
                    pair.source = Tally::one(content);
                    if pair.table != pair.source {
                        pair.id = Some(tables.id(document)?);
                    }
                }
                Ok(())
            };
            self.read(collection, partition, || (), take)
        });
        stream::iter(work)
            .buffer_unordered(self.options.parallel.max(1))
            .try_for_each(|()| async { Ok(()) })
            .await?;
        let mut pairs = std::mem::take(&mut *pairs.lock().unwrap_or_else(PoisonError::into_inner));
        pairs.retain(|_, pair| pair.table != pair.source);
        Ok(pairs)
    }

    /// Reads a partition through as many interruptions as it takes, and takes its batches on a
    /// thread of its own. What `fresh` makes is filled by `take`, and made anew where the partition
    /// must be read again.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        collection: &Arc<CollectionInfo>,
        partition: &Partition,
        fresh: impl Fn() -> T + Send,
        take: impl Fn(&mut T, &DocumentBatch) -> Result<()> + Clone + Send + 'static,
    ) -> Result<T> {
        let mut backoff = Backoff::default();
        let (mut taken, mut from): (T, Option<Bookmark>) = (fresh(), None);
        loop {
            let (out, mut batches) = mpsc::channel::<DocumentBatch>(1);
            let (take, mut bookmark) = (take.clone(), from.clone());
            let work = tokio::task::spawn_blocking(move || {
                let mut batches_taken = 0_u64;
                while let Some(batch) = batches.blocking_recv() {
                    take(&mut taken, &batch)?;
                    batches_taken += 1;
                    bookmark = batch.bookmark;
                }
                Ok::<_, Error>((taken, bookmark, batches_taken))
            });
            let read = self
                .snapshots
                .read(collection, partition, from.as_ref(), out);
            let (read, worked) = tokio::join!(read, work);
            let worked = worked.map_err(|panic| {
                Error::new(ErrorKind::Internal, "a reading thread ended abnormally").because(panic)
            })?;
            let batches_taken;
            (taken, from, batches_taken) = worked?;
            let error = match read {
                Ok(()) => return Ok(taken),
                Err(error) => error,
            };
            if batches_taken > 0 && from.is_some() {
                backoff.reset();
            }
            let Some(wait) = backoff.wait_after(&error, false) else {
                return Err(error);
            };
            self.observer.retrying(&collection.namespace, &error, wait);
            tokio::time::sleep(wait).await;
            if from.is_none() {
                taken = fresh();
            }
        }
    }
}
