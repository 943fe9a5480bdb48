//! The one-time load: every partition of every collection, side by side, then one commit each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tributary_model::{Error, ErrorKind, Namespace, Result};

use crate::batch::DocumentBatch;
use crate::observe::Observer;
use crate::retry::Backoff;
use crate::snapshot::{
    Bookmark, CollectionInfo, Load, LoadSink, LoadSummary, Opened, Partition, PartitionTotals,
    PartitionWriter, SnapshotSource,
};

/// Batches waiting between the reader and the writer of a partition. One is enough to keep both
/// busy; each may be several megabytes.
const WAITING_BATCHES: usize = 1;

/// How a load is run.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// How many partitions are read and written at once.
    pub parallel: usize,
}

/// What became of one collection.
#[derive(Debug)]
pub struct CollectionOutcome {
    /// The collection.
    pub namespace: Namespace,
    /// Its load, or why it failed.
    pub result: Result<LoadSummary>,
    /// How long it took.
    pub elapsed: Duration,
}

/// What became of a load.
#[derive(Debug)]
pub struct LoadReport {
    /// Each collection, by name.
    pub collections: Vec<CollectionOutcome>,
}

struct Run {
    source: Arc<dyn SnapshotSource>,
    sink: Arc<dyn LoadSink>,
    observer: Arc<dyn Observer>,
    /// One permit for each partition that may be worked on.
    permits: Arc<Semaphore>,
    parallel: usize,
    stop: CancellationToken,
}

/// Loads all collections of `source` into `sink`. One collection's failure stops no other.
///
/// When `stop` is cancelled, partitions being written are given up, finished ones are kept, and
/// the collections not done yet answer [`ErrorKind::Interrupted`].
///
/// # Errors
/// The collections cannot be listed.
pub async fn load(
    source: Arc<dyn SnapshotSource>,
    sink: Arc<dyn LoadSink>,
    observer: Arc<dyn Observer>,
    options: LoadOptions,
    stop: CancellationToken,
) -> Result<LoadReport> {
    let collections = tokio::select! {
        biased;
        () = stop.cancelled() => return Err(interrupted()),
        collections = source.collections() => collections?,
    };
    load_collections(collections, source, sink, observer, options, stop).await
}

/// As [`load`], for these collections of `source`.
///
/// # Errors
/// A task ended abnormally: a bug.
pub async fn load_collections(
    collections: Vec<CollectionInfo>,
    source: Arc<dyn SnapshotSource>,
    sink: Arc<dyn LoadSink>,
    observer: Arc<dyn Observer>,
    options: LoadOptions,
    stop: CancellationToken,
) -> Result<LoadReport> {
    let parallel = options.parallel.max(1);
    let run = Arc::new(Run {
        source,
        sink,
        observer,
        permits: Arc::new(Semaphore::new(parallel)),
        parallel,
        stop,
    });

    let mut tasks = JoinSet::new();
    let mut outcomes = Vec::with_capacity(collections.len());
    let mut waiting = collections.into_iter();
    loop {
        // One collection more than there are permits, so that small ones leave no permit idle
        // while the next is opened.
        while tasks.len() <= parallel
            && let Some(collection) = waiting.next()
        {
            tasks.spawn(load_collection(Arc::clone(&run), collection));
        }
        match tasks.join_next().await {
            Some(Ok(outcome)) => outcomes.push(outcome),
            Some(Err(panic)) => {
                return Err(
                    Error::new(ErrorKind::Internal, "a load task ended abnormally").because(panic),
                );
            }
            None => break,
        }
    }
    outcomes.sort_by(|a, b| a.namespace.cmp(&b.namespace));
    Ok(LoadReport {
        collections: outcomes,
    })
}

fn interrupted() -> Error {
    Error::new(ErrorKind::Interrupted, "stopped before the end")
        .remedy("start again with the same arguments to go on where it stopped")
}

async fn load_collection(run: Arc<Run>, collection: CollectionInfo) -> CollectionOutcome {
    let begun = Instant::now();
    let namespace = collection.namespace.clone();
    let result = Arc::clone(&run)
        .collection(Arc::new(collection))
        .await
        .map_err(|e| e.on("namespace", &namespace));
    let elapsed = begun.elapsed();
    match &result {
        Ok(summary) => run
            .observer
            .finished(&namespace, summary, elapsed.as_secs_f64()),
        Err(error) => run.observer.failed(&namespace, error),
    }
    CollectionOutcome {
        namespace,
        result,
        elapsed,
    }
}

impl Run {
    async fn collection(self: Arc<Self>, collection: Arc<CollectionInfo>) -> Result<LoadSummary> {
        if self.stop.is_cancelled() {
            return Err(interrupted());
        }
        let (load, partitions) = match self.sink.open(&self.source.address(), &collection).await? {
            Opened::Complete(summary) => {
                self.observer.started(&collection, 0, summary.totals);
                return Ok(summary);
            }
            Opened::Resumed(load, partitions) => (load, partitions),
            Opened::Fresh(load) => {
                let partitions = self.source.plan(&collection, self.parallel).await?;
                load.plan(&partitions).await?;
                (load, partitions)
            }
        };
        let load: Arc<dyn Load> = Arc::from(load);
        let mut done = PartitionTotals::default();
        let mut todo = Vec::new();
        let planned = partitions.len();
        for partition in partitions {
            match load.finished(&partition) {
                Some(totals) => done += totals,
                None => todo.push(partition),
            }
        }
        self.observer.started(&collection, planned, done);

        let mut tasks = JoinSet::new();
        let failed = self.stop.child_token();
        for partition in todo {
            let (run, collection, load, stop) = (
                Arc::clone(&self),
                Arc::clone(&collection),
                Arc::clone(&load),
                failed.clone(),
            );
            tasks.spawn(async move {
                let Ok(_permit) = Arc::clone(&run.permits).acquire_owned().await else {
                    return Err(interrupted());
                };
                run.partition(&collection, &partition, load.as_ref(), &stop)
                    .await
            });
        }
        let mut first_error: Option<Error> = None;
        while let Some(joined) = tasks.join_next().await {
            let result = joined.unwrap_or_else(|panic| {
                Err(
                    Error::new(ErrorKind::Internal, "a partition's task ended abnormally")
                        .because(panic),
                )
            });
            if let Err(error) = result {
                failed.cancel();
                // The others then end as interrupted: the first one tells why.
                first_error.get_or_insert(error);
            }
        }
        match first_error {
            Some(error) => Err(error),
            None if self.stop.is_cancelled() => Err(interrupted()),
            None => {
                self.observer.committing(&collection.namespace);
                load.commit().await
            }
        }
    }

    /// Reads and writes one partition, through as many interruptions as it takes.
    async fn partition(
        &self,
        collection: &CollectionInfo,
        partition: &Partition,
        load: &dyn Load,
        stop: &CancellationToken,
    ) -> Result<()> {
        let mut backoff = Backoff::default();
        let mut attempt = Attempt::new(load.writer(partition).await?);
        loop {
            let before = attempt.written;
            let result;
            (attempt, result) = self.attempt(collection, partition, attempt, stop).await?;
            let error = match result {
                Ok(()) => return attempt.finish().await,
                Err(error) => error,
            };
            if attempt.written != before {
                backoff.reset();
            }
            let may_retry = error.kind().is_transient() && !stop.is_cancelled();
            let Some(wait) = may_retry.then(|| backoff.next_wait()).flatten() else {
                attempt.abandon().await;
                return Err(error);
            };
            self.observer.retrying(&collection.namespace, &error, wait);
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
            }
            if attempt.bookmark.is_none() {
                self.observer
                    .restarted(&collection.namespace, attempt.written);
                attempt.abandon().await;
                attempt = Attempt::new(load.writer(partition).await?);
            }
        }
    }

    /// Reads in this task and writes on a thread of its own, until the end or the first failure.
    ///
    /// One thread writes all of it: what a batch allocates, the next one on the same thread can use
    /// again.
    async fn attempt(
        &self,
        collection: &CollectionInfo,
        partition: &Partition,
        attempt: Attempt,
        stop: &CancellationToken,
    ) -> Result<(Attempt, Result<()>)> {
        let (out, batches) = mpsc::channel::<DocumentBatch>(WAITING_BATCHES);
        let from = attempt.bookmark.clone();
        let read = async {
            tokio::select! {
                biased;
                () = stop.cancelled() => Err(interrupted()),
                result = self.source.read(collection, partition, from.as_ref(), out) => result,
            }
        };
        let (observer, namespace) = (Arc::clone(&self.observer), collection.namespace.clone());
        let write = blocking(move || {
            let mut attempt = attempt;
            let result = attempt.write_all(batches, |more| observer.progressed(&namespace, more));
            (attempt, result)
        });
        let (read, written) = tokio::join!(read, write);
        let (attempt, written) = written?;
        Ok((attempt, written.and(read)))
    }
}

/// A partition on its way.
struct Attempt {
    writer: Box<dyn PartitionWriter>,
    bookmark: Option<Bookmark>,
    written: PartitionTotals,
}

impl Attempt {
    fn new(writer: Box<dyn PartitionWriter>) -> Self {
        Self {
            writer,
            bookmark: None,
            written: PartitionTotals::default(),
        }
    }

    /// Writes all batches that come. Closes the channel when it fails, which the reader sees.
    fn write_all(
        &mut self,
        mut batches: mpsc::Receiver<DocumentBatch>,
        progressed: impl Fn(PartitionTotals),
    ) -> Result<()> {
        while let Some(batch) = batches.blocking_recv() {
            let more = self.writer.write(&batch)?;
            self.bookmark = batch.bookmark;
            self.written += more;
            progressed(more);
        }
        Ok(())
    }

    async fn finish(self) -> Result<()> {
        blocking(move || self.writer.finish()).await??;
        Ok(())
    }

    async fn abandon(self) {
        // A failure to clean up is not worth more than the failure that led here; the next start
        // removes what is left.
        let _ = blocking(move || self.writer.abandon()).await;
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|panic| {
        Error::new(ErrorKind::Internal, "a writing thread ended abnormally").because(panic)
    })
}
