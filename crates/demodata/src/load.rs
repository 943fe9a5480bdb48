//! Inserts generated documents into a collection.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bson::RawDocumentBuf;
use futures::future::try_join_all;
use mongodb::error::Error;
use mongodb::{Client, Collection};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Generator, Kind};

/// A message of a driver may have 48 MB; a third of that keeps what is held in memory small.
const BATCH_BYTES: u64 = 16 * 1024 * 1024;

/// More documents in a batch make inserting no faster.
const BATCH_DOCUMENTS: u64 = 1000;

/// One inserts while the other one makes its documents.
const WORKERS: usize = 2;

/// At a limited rate this many batches are begun in a second, so that documents arrive evenly.
const BATCHES_PER_SECOND: f64 = 10.0;

/// Called with the number of documents inserted so far.
pub type Progress = Arc<dyn Fn(u64) + Send + Sync>;

/// What to insert, where, and how fast.
#[derive(Clone)]
pub struct LoadOptions {
    /// Database to insert into.
    pub database: String,
    /// Collection to insert into; it is created if it does not exist.
    pub collection: String,
    /// What the documents look like.
    pub kind: Kind,
    /// Seed of the generator.
    pub seed: u64,
    /// Index of the first document: 0, or where the run that is to be continued ended ([`LoadReport::next`]).
    pub start: u64,
    /// How many documents to insert; none: until `stop`.
    pub count: Option<u64>,
    /// Documents a second at most, above 0; none: as fast as the server takes them.
    pub rate: Option<f64>,
    /// Drops the collection first.
    pub drop: bool,
    /// Ends the load early: batches that are under way are finished, no other is begun.
    pub stop: CancellationToken,
    /// Told after each batch.
    pub progress: Option<Progress>,
}

impl LoadOptions {
    /// Inserts `count` documents of `kind` with seed 1 from index 0 on, as fast as possible.
    pub fn new(
        database: impl Into<String>,
        collection: impl Into<String>,
        kind: Kind,
        count: u64,
    ) -> Self {
        Self {
            database: database.into(),
            collection: collection.into(),
            kind,
            seed: 1,
            start: 0,
            count: Some(count),
            rate: None,
            drop: false,
            stop: CancellationToken::new(),
            progress: None,
        }
    }
}

/// What was inserted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadReport {
    /// Documents inserted.
    pub documents: u64,
    /// Their size as BSON.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// Index of the document that comes next: all from [`LoadOptions::start`] up to it have been inserted.
    pub next: u64,
}

/// Inserts documents as `options` say, in unordered batches, two of them at a time.
///
/// Ends when all are inserted or when told to stop. Nothing is undone on an error; an index that has been inserted
/// before is refused by the server as a duplicate `_id`.
pub async fn load(client: &Client, options: LoadOptions) -> Result<LoadReport, Error> {
    let collection = client
        .database(&options.database)
        .collection(&options.collection);
    if options.drop {
        collection.drop().await?;
    }
    let loader = Loader {
        collection,
        generator: Generator::new(options.kind, options.seed),
        plan: Plan::new(&options),
        stop: options.stop,
        progress: options.progress,
        started: Instant::now(),
        next: AtomicU64::new(options.start),
        documents: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
    };
    try_join_all((0..WORKERS).map(|_| loader.work())).await?;
    let documents = loader.documents.into_inner();
    Ok(LoadReport {
        documents,
        bytes: loader.bytes.into_inner(),
        elapsed: loader.started.elapsed(),
        next: options.start + documents,
    })
}

struct Loader {
    collection: Collection<RawDocumentBuf>,
    generator: Generator,
    plan: Plan,
    stop: CancellationToken,
    progress: Option<Progress>,
    started: Instant,
    next: AtomicU64,
    documents: AtomicU64,
    bytes: AtomicU64,
}

impl Loader {
    async fn work(&self) -> Result<(), Error> {
        while let Some(range) = self.claim().await {
            let generator = self.generator;
            let batch = tokio::task::spawn_blocking(move || {
                range
                    .map(|index| generator.document(index))
                    .collect::<Vec<_>>()
            });
            let batch = batch.await.map_err(Error::custom)?;
            self.collection.insert_many(&batch).ordered(false).await?;
            let bytes = batch
                .iter()
                .map(|document| document.as_bytes().len() as u64)
                .sum();
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            let documents = self
                .documents
                .fetch_add(batch.len() as u64, Ordering::Relaxed)
                + batch.len() as u64;
            if let Some(progress) = &self.progress {
                progress(documents);
            }
        }
        Ok(())
    }

    /// The indexes of the next batch, once its time has come; none when there is no other. A batch that has been
    /// claimed is inserted, so that no index is left out before [`LoadReport::next`].
    async fn claim(&self) -> Option<Range<u64>> {
        let delay = self.plan.delay(self.next.load(Ordering::Relaxed));
        let wait = delay.saturating_sub(self.started.elapsed());
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            () = tokio::time::sleep(wait) => {
                self.plan.batch(self.next.fetch_add(self.plan.batch, Ordering::Relaxed))
            }
        }
    }
}

/// How the indexes are cut into batches.
#[derive(Debug, PartialEq)]
struct Plan {
    start: u64,
    end: u64,
    batch: u64,
    rate: Option<f64>,
}

impl Plan {
    fn new(options: &LoadOptions) -> Self {
        let mut batch = (BATCH_BYTES / options.kind.typical_bytes()).clamp(1, BATCH_DOCUMENTS);
        if let Some(rate) = options.rate {
            batch = batch.min((rate / BATCHES_PER_SECOND) as u64).max(1);
        }
        let end = options
            .count
            .map_or(u64::MAX, |count| options.start.saturating_add(count));
        Self {
            start: options.start,
            end,
            batch,
            rate: options.rate,
        }
    }

    /// The batch that begins at `start`.
    fn batch(&self, start: u64) -> Option<Range<u64>> {
        let range = start..start.saturating_add(self.batch).min(self.end);
        (!range.is_empty()).then_some(range)
    }

    /// When, after the beginning of the load, the document `index` is due.
    fn delay(&self, index: u64) -> Duration {
        let ahead = index.saturating_sub(self.start) as f64;
        let seconds = self.rate.map_or(0.0, |rate| ahead / rate);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LoadOptions, Plan};
    use crate::Kind;

    fn plan(kind: Kind, change: impl FnOnce(&mut LoadOptions)) -> Plan {
        let mut options = LoadOptions::new("shop", "orders", kind, 2_500);
        change(&mut options);
        Plan::new(&options)
    }

    #[test]
    fn batches_are_cut_by_documents_and_by_bytes() {
        let flat = plan(Kind::Flat, |options| options.start = 100);
        assert_eq!(flat.batch(100), Some(100..1_100));
        assert_eq!(flat.batch(2_100), Some(2_100..2_600));
        assert_eq!(flat.batch(3_100), None);
        assert_eq!(plan(Kind::Sized250K, |_| {}).batch, 65);
    }

    #[test]
    fn a_rate_spreads_documents_over_time() {
        let paced = plan(Kind::Flat, |options| {
            options.rate = Some(50.0);
            options.start = 10;
            options.count = None;
        });
        assert_eq!(paced.batch(10), Some(10..15));
        assert_eq!(paced.delay(10), Duration::ZERO);
        assert_eq!(paced.delay(110), Duration::from_secs(2));
        let slow = plan(Kind::Flat, |options| options.rate = Some(0.5));
        assert_eq!((slow.batch, slow.delay(1)), (1, Duration::from_secs(2)));
    }
}
