//! From tables of a lake into tables of a warehouse: what both promise each other, and the loop.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tributary_model::{Error, ErrorKind, Namespace, Result, TableSchema};

use crate::changes::Applied;
use crate::observe::{AppliedBatch, Observer};
use crate::retry::Backoff;
use crate::snapshot::{CollectionInfo, CollectionKind, LoadSummary, PartitionTotals};
use crate::sync::{SyncOutcome, SyncReport};

/// One version of a table: the position of a flow out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableVersion {
    /// The table's id: one that is made again in its place is another.
    pub table: String,
    /// The version.
    pub version: u64,
}

/// A table of the lake as it is at one version.
#[derive(Debug, Clone)]
pub struct TableState {
    /// Which version.
    pub at: TableVersion,
    /// Its columns, settled.
    pub schema: TableSchema,
    /// How many rows it has, as far as that is known.
    pub rows: u64,
    /// The size of its files in bytes.
    pub bytes: u64,
    /// When it was committed; none where the log does not say.
    pub committed: Option<SystemTime>,
}

/// Rows on their way: the columns of the schema in their order, and `_rescued_data` behind them.
pub type RowBatches = mpsc::Receiver<Result<RecordBatch>>;

/// Changes of rows on their way. No key comes twice.
#[derive(Debug)]
pub enum RowChange {
    /// Rows that are new, or have come in the place of others with their keys.
    Upsert(RecordBatch),
    /// Keys whose rows are gone: as rows of which all but `_id` is null, and `_rescued_data` where the
    /// key is there.
    Delete(RecordBatch),
}

/// Tables that can be followed, version by version.
#[async_trait]
pub trait TableSource: Send + Sync {
    /// The tables there are and that are selected.
    async fn tables(&self) -> Result<Vec<Namespace>>;

    /// One of them.
    async fn open(&self, table: &Namespace) -> Result<Box<dyn TableFeed>>;

    /// Up to which moment a table holds all that there was to hold, where it has come up to `at` by
    /// its own log. None while it is in trouble itself, which is told by whoever fills it.
    fn holds_to(&self, _table: &Namespace, at: SystemTime) -> Option<SystemTime> {
        Some(at)
    }
}

/// One table that is followed.
#[async_trait]
pub trait TableFeed: Send {
    /// The table as it is now. What is read next is read as of then.
    async fn now(&mut self) -> Result<TableState>;

    /// All rows.
    async fn rows(&mut self) -> Result<RowBatches>;

    /// What has changed since an earlier version of the same table.
    ///
    /// # Errors
    /// Of kind [`HistoryLost`](ErrorKind::HistoryLost) where the table does not know that any more,
    /// or where so much has changed that all rows are sooner read.
    async fn changes(&mut self, since: u64) -> Result<mpsc::Receiver<Result<RowChange>>>;

    /// When the first version behind `since` was committed; none where the log does not say, or not any
    /// more.
    async fn committed_behind(&mut self, since: u64) -> Result<Option<SystemTime>>;
}

/// Tables that take over those of a lake.
#[async_trait]
pub trait TableSink: Send + Sync {
    /// Looks whether tables can be taken over at all.
    async fn check(&self) -> Result<()>;

    /// The table that takes over the lake's table of that name, whether it is there yet or not.
    ///
    /// # Errors
    /// There is a table of that name that is none of these.
    async fn open(&self, table: &Namespace) -> Result<Box<dyn SinkTable>>;
}

/// One table that takes over another.
///
/// Durability and visibility: when `load` or `apply` has returned, the rows and the version that
/// they reach are durable and visible, in one step; when it fails or the process dies in it, neither
/// are.
#[async_trait]
pub trait SinkTable: Send {
    /// Where it is, without credentials.
    fn place(&self) -> String;

    /// The version it has reached; none where it holds nothing yet.
    fn reached(&self) -> Option<&TableVersion>;

    /// Looks whether it may be taken to that state. Nothing has been read for it yet.
    ///
    /// # Errors
    /// Of kind [`SchemaChanged`](ErrorKind::SchemaChanged) where its schema has to be approved first.
    async fn admit(&mut self, _state: &TableState) -> Result<()> {
        Ok(())
    }

    /// Replaces all that it holds.
    async fn load(&mut self, state: &TableState, rows: RowBatches) -> Result<Applied>;

    /// Applies changes since the version it has reached.
    ///
    /// # Errors
    /// Of kind [`HistoryLost`](ErrorKind::HistoryLost) where it cannot be changed to the schema that
    /// the table has now, but must be loaded anew.
    async fn apply(
        &mut self,
        state: &TableState,
        changes: mpsc::Receiver<Result<RowChange>>,
    ) -> Result<Applied>;
}

/// How tables are followed.
#[derive(Debug, Clone)]
pub struct TableOptions {
    /// How long it is waited before it is looked for new versions again.
    pub interval: Duration,
    /// How many tables are worked on at once.
    pub parallel: usize,
    /// Take over what is there now, and end.
    pub once: bool,
}

/// Takes over the tables of a lake, and then each of their versions, until stopped.
///
/// # Errors
/// The tables cannot be listed. One table's failure stops no other, and is part of the report.
pub async fn take_over(
    source: Arc<dyn TableSource>,
    sink: Arc<dyn TableSink>,
    observer: Arc<dyn Observer>,
    options: TableOptions,
    stop: CancellationToken,
) -> Result<SyncReport> {
    let mut backoff = Backoff::default();
    // What only looks is not waited for when it is to end: nothing is lost by that.
    loop {
        let Some(checked) = stop.run_until_cancelled(sink.check()).await else {
            return Ok(SyncReport::default());
        };
        let Err(error) = checked else { break };
        let Some(wait) = backoff.wait_after(&error, !options.once) else {
            return Err(error);
        };
        observer.source_retrying(&error, wait);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return Ok(SyncReport::default()),
        }
    }
    let slots = Arc::new(Semaphore::new(options.parallel.max(1)));
    let mut flows = JoinSet::new();
    let mut known = HashSet::new();
    let mut collections = Vec::new();
    loop {
        let Some(listed) = stop.run_until_cancelled(source.tables()).await else {
            break;
        };
        let listed = match listed {
            Ok(listed) => listed,
            // What runs goes on.
            Err(error) if error.kind().is_transient() && !known.is_empty() => {
                observer.source_retrying(&error, options.interval);
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        for namespace in listed {
            if known.insert(namespace.clone()) {
                let flow = TableFlow {
                    source: Arc::clone(&source),
                    sink: Arc::clone(&sink),
                    observer: Arc::clone(&observer),
                    options: options.clone(),
                    slots: Arc::clone(&slots),
                    stop: stop.clone(),
                    is_told: false,
                    outcome: SyncOutcome {
                        namespace,
                        loaded: None,
                        table: String::new(),
                        changes: 0,
                        applied: Applied::default(),
                        gaps: Vec::new(),
                        failure: None,
                    },
                };
                flows.spawn(flow.run());
            }
        }
        if options.once || stop.is_cancelled() {
            break;
        }
        // Tables that come later are taken over too.
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(LOOK_EVERY.max(options.interval)) => {}
            Some(ended) = flows.join_next() => {
                collections.push(ended.map_err(abnormal)?);
                if flows.is_empty() {
                    break;
                }
            }
        }
    }
    while let Some(ended) = flows.join_next().await {
        collections.push(ended.map_err(abnormal)?);
    }
    collections.sort_by(|a: &SyncOutcome, b| a.namespace.cmp(&b.namespace));
    Ok(SyncReport {
        collections,
        ..SyncReport::default()
    })
}

fn abnormal(panic: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Internal, "the flow of a table ended abnormally").because(panic)
}

/// How often it is looked for tables that are new.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How often it is looked whether a schema change has been approved.
const DECISION_INTERVAL: Duration = Duration::from_secs(2);

/// One table on its way.
struct TableFlow {
    source: Arc<dyn TableSource>,
    sink: Arc<dyn TableSink>,
    observer: Arc<dyn Observer>,
    options: TableOptions,
    slots: Arc<Semaphore>,
    stop: CancellationToken,
    /// Whether it has been told how far the table is.
    is_told: bool,
    outcome: SyncOutcome,
}

/// Both sides of a flow.
struct Sides {
    feed: Box<dyn TableFeed>,
    table: Box<dyn SinkTable>,
}

/// What one step has come to.
enum Step {
    /// There may be more at once.
    Moved,
    /// Both sides are at the same version.
    Current,
}

impl TableFlow {
    async fn run(mut self) -> SyncOutcome {
        let mut backoff = Backoff::default();
        let mut sides = None;
        while !self.stop.is_cancelled() {
            let step = self.step(&mut sides).await;
            self.is_told |= step.is_ok();
            let error = match step {
                Ok(Step::Moved) => {
                    backoff.reset();
                    if self.outcome.failure.take().is_some() {
                        let what = "goes on: its schema change was approved";
                        self.observer.happened(&self.outcome.namespace, what);
                    }
                    continue;
                }
                Ok(Step::Current) if self.options.once => break,
                Ok(Step::Current) => {
                    backoff.reset();
                    self.pause(self.options.interval).await;
                    continue;
                }
                Err(error) => error.on("table", &self.outcome.namespace),
            };
            // After a failure nothing is known of the connection.
            sides = None;
            if error.kind() == ErrorKind::SchemaChanged && !self.options.once {
                // It is told once, and goes on when somebody has decided.
                if self.outcome.failure.is_none() {
                    self.observer.failed(&self.outcome.namespace, &error);
                }
                self.outcome.failure = Some(error);
                self.pause(DECISION_INTERVAL).await;
                continue;
            }
            let Some(wait) = backoff.wait_after(&error, !self.options.once) else {
                self.observer.failed(&self.outcome.namespace, &error);
                self.outcome.failure = Some(error);
                break;
            };
            self.observer
                .retrying(&self.outcome.namespace, &error, wait);
            self.pause(wait).await;
        }
        self.outcome
    }

    async fn pause(&self, time: Duration) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(time) => {}
        }
    }

    /// Tells that the table has what the source held to that moment, where that is known.
    fn is_current_to(&self, held_to: Option<SystemTime>) {
        if let Some(at) = held_to {
            self.observer.current_to(&self.outcome.namespace, at);
        }
    }

    /// Takes the sink to the version that the source has now.
    async fn step(&mut self, sides: &mut Option<Sides>) -> Result<Step> {
        let namespace = self.outcome.namespace.clone();
        if sides.is_none() {
            let open = async {
                let feed = self.source.open(&namespace).await?;
                Ok::<_, Error>((feed, self.sink.open(&namespace).await?))
            };
            let Some(opened) = self.stop.run_until_cancelled(open).await else {
                return Ok(Step::Current);
            };
            let (feed, table) = opened?;
            self.outcome.table = table.place();
            *sides = Some(Sides { feed, table });
        }
        let Some(Sides { feed, table }) = sides else {
            return Ok(Step::Current);
        };
        let looked = SystemTime::now();
        // Before it is looked: what comes into the source in between is not claimed.
        let held_to = self.source.holds_to(&namespace, looked);
        let state = feed.now().await?;
        if table.reached() != Some(&state.at) {
            table.admit(&state).await?;
        }
        let since = match table.reached() {
            Some(reached) if *reached == state.at => {
                self.is_current_to(held_to);
                return Ok(Step::Current);
            }
            Some(reached)
                if reached.table == state.at.table && reached.version < state.at.version =>
            {
                Some(reached.version)
            }
            _ => None,
        };
        // Whoever was current before is behind since then.
        if let (Some(since), false) = (since, self.is_told) {
            let lacks = feed.committed_behind(since).await?.or(state.committed);
            let lacks = lacks.unwrap_or(looked);
            self.is_current_to(self.source.holds_to(&namespace, lacks));
            self.is_told = true;
        }
        let slot = tokio::select! {
            slot = self.slots.acquire() => slot,
            () = self.stop.cancelled() => return Ok(Step::Current),
        };
        // It is closed nowhere.
        let _slot = slot.ok();
        let begun = SystemTime::now();
        if let Some(since) = since {
            let applied = match feed.changes(since).await {
                Ok(changes) => table.apply(&state, changes).await,
                Err(error) => Err(error),
            };
            match applied {
                Ok(applied) => {
                    self.outcome.applied += applied;
                    self.outcome.changes += applied.upserted + applied.deleted;
                    let batch = AppliedBatch {
                        changes: applied.upserted + applied.deleted,
                        bytes: applied.bytes,
                        applied,
                        oldest: state.committed.unwrap_or(begun),
                        changed: state.committed.unwrap_or(begun),
                        gathered: Duration::ZERO,
                        begun,
                        committed: SystemTime::now(),
                    };
                    if batch.changes > 0 {
                        self.observer.applied(&namespace, &batch);
                    }
                    self.is_current_to(held_to);
                    return Ok(Step::Moved);
                }
                Err(error) if error.kind() == ErrorKind::HistoryLost => {
                    self.observer
                        .happened(&namespace, &format!("is loaded anew: {}", error.message()));
                }
                Err(error) => return Err(error),
            }
        }
        let started = Instant::now();
        self.observer.started(
            &CollectionInfo {
                namespace: namespace.clone(),
                kind: CollectionKind::Collection,
                uuid: None,
                documents: Some(state.rows),
                bytes: Some(state.bytes),
            },
            1,
            PartitionTotals::default(),
        );
        let rows = feed.rows().await?;
        let applied = table.load(&state, rows).await?;
        let totals = PartitionTotals {
            documents: applied.upserted,
            bytes: applied.bytes,
            rescued: applied.rescued,
        };
        self.observer.progressed(&namespace, totals);
        let summary = LoadSummary {
            table: table.place(),
            totals,
            files: 0,
            file_bytes: totals.bytes,
            rewritten_bytes: 0,
        };
        let seconds = started.elapsed().as_secs_f64();
        self.observer.finished(&namespace, &summary, seconds);
        self.outcome.loaded = Some(summary);
        self.is_current_to(held_to);
        Ok(Step::Moved)
    }
}
