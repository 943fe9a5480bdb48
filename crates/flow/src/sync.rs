//! Load what is not there yet, then follow the changes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tributary_model::{Error, ErrorKind, Namespace, Position, Result};

use crate::changes::{Applied, ChangeSink, ChangeSource, HistoryWindow};
use crate::follow::{Flow, FollowOptions, Followed, follow};
use crate::load::{LoadOptions, load_collections};
use crate::observe::Observer;
use crate::retry::Backoff;
use crate::snapshot::{CollectionInfo, CollectionKind, LoadSink, LoadSummary, SnapshotSource};

/// What became of one collection.
#[derive(Debug)]
pub struct SyncOutcome {
    /// The collection.
    pub namespace: Namespace,
    /// Its load, where it had no table yet.
    pub loaded: Option<LoadSummary>,
    /// Where its table is; empty where it could not be opened.
    pub table: String,
    /// Changes that were applied.
    pub changes: u64,
    /// What came of them.
    pub applied: Applied,
    /// Why it stopped before the others.
    pub failure: Option<Error>,
}

/// What became of a sync.
#[derive(Debug)]
pub struct SyncReport {
    /// Each collection, by name.
    pub collections: Vec<SyncOutcome>,
}

/// Everything that a sync works with.
pub struct Sync<'a> {
    /// Where collections are loaded from.
    pub snapshots: Arc<dyn SnapshotSource>,
    /// Where their changes are read.
    pub changes: Arc<dyn ChangeSource>,
    /// Where collections are loaded to that are then followed from a position on. The second
    /// argument says whether a table that is there is to be replaced.
    pub loads: &'a (dyn Fn(Position, bool) -> Arc<dyn LoadSink> + Send + std::marker::Sync),
    /// The tables that follow.
    pub sink: Arc<dyn ChangeSink>,
    /// Who is told.
    pub observer: Arc<dyn Observer>,
    /// How collections are loaded.
    pub load: LoadOptions,
    /// How changes are followed.
    pub follow: FollowOptions,
    /// Catch up with the source as it is when the sync begins, and end.
    pub once: bool,
}

/// Loads the collections that have no table yet, and then follows the changes of all.
///
/// The position is taken before a collection is read: what changes while it is read is applied
/// again, by key, and leads to the same rows.
///
/// # Errors
/// The source cannot be reached, or its changes cannot be read. One collection's failure stops no
/// other, and is part of the report.
pub async fn sync(sync: Sync<'_>, stop: CancellationToken) -> Result<SyncReport> {
    let mut run = Run::default();
    let mut options = sync.follow.clone();
    // The collections whose tables do not show what is there any more.
    let mut replaced = HashSet::new();
    loop {
        let Some((listed, missing)) = sync.look(&mut run, &replaced, &stop).await? else {
            break;
        };
        if sync.once {
            options.until.get_or_insert(listed.cluster_time);
        }
        let (again, fresh): (Vec<_>, Vec<_>) = missing
            .into_iter()
            .partition(|collection| replaced.contains(&collection.namespace));
        replaced.clear();
        for (collections, replace) in [(fresh, false), (again, true)] {
            let sink = (sync.loads)(listed.clone(), replace);
            sync.load(collections, sink, &mut run, &stop).await?;
        }
        if stop.is_cancelled() || run.flows.is_empty() {
            break;
        }
        let ended = follow(
            &sync.changes,
            &mut run.flows,
            &listed,
            &options,
            &sync.observer,
            &stop,
        )
        .await?;
        match ended {
            Followed::Done => break,
            Followed::Appeared(namespace) => sync.observer.happened(&namespace, "appeared"),
            Followed::Replaced(namespace) => {
                sync.observer.happened(&namespace, "has other content");
                run.flows.remove(&namespace);
                replaced.insert(namespace);
            }
        }
    }
    for flow in run.flows.values_mut() {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = flow.finish() => {}
        }
    }
    let Run {
        flows,
        mut loaded,
        failed,
    } = run;

    let mut collections: Vec<SyncOutcome> = failed
        .into_iter()
        .map(|(namespace, error)| SyncOutcome {
            namespace,
            loaded: None,
            table: String::new(),
            changes: 0,
            applied: Applied::default(),
            failure: Some(error),
        })
        .collect();
    collections.extend(flows.into_iter().map(|(namespace, flow)| SyncOutcome {
        loaded: loaded.remove(&namespace),
        namespace,
        table: flow.place,
        changes: flow.changes,
        applied: flow.applied,
        failure: flow.failure,
    }));
    collections.sort_by(|a, b| a.namespace.cmp(&b.namespace));
    Ok(SyncReport { collections })
}

/// What a sync has come to.
#[derive(Default)]
struct Run {
    flows: HashMap<Namespace, Flow>,
    loaded: HashMap<Namespace, LoadSummary>,
    failed: HashMap<Namespace, Error>,
}

impl Sync<'_> {
    /// Where the source is, and which of its collections have no table; none when it was stopped.
    ///
    /// A source that is away is waited for where something is followed already.
    async fn look(
        &self,
        run: &mut Run,
        replaced: &HashSet<Namespace>,
        stop: &CancellationToken,
    ) -> Result<Option<(Position, Vec<CollectionInfo>)>> {
        let mut backoff = Backoff::default();
        loop {
            let looked = async {
                let listed = self.changes.now().await?;
                Ok((listed, self.open(run, replaced).await?))
            };
            let error: Error = match looked.await {
                Ok(found) => return Ok(Some(found)),
                Err(error) => error,
            };
            let may_wait = error.kind().is_transient() && !run.flows.is_empty();
            let wait = match backoff.next_wait() {
                Some(wait) if may_wait => wait,
                None if may_wait && !self.once => Backoff::LONGEST,
                _ => return Err(error),
            };
            self.observer.source_retrying(&error, wait);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return Ok(None),
            }
        }
    }

    /// The collections there are; none is an error only where nothing is followed.
    async fn collections(&self, run: &Run) -> Result<Vec<CollectionInfo>> {
        match self.snapshots.collections().await {
            Err(error) if error.kind() == ErrorKind::NotFound && !run.flows.is_empty() => {
                Ok(Vec::new())
            }
            listed => listed,
        }
    }

    /// Opens the tables of the collections that have one, and answers the others.
    async fn open(
        &self,
        run: &mut Run,
        replaced: &HashSet<Namespace>,
    ) -> Result<Vec<CollectionInfo>> {
        let mut missing = Vec::new();
        let listed = self.collections(run).await?;
        // Who may not know it finds out when the stream is opened.
        let window = self.changes.window().await.unwrap_or(None);
        self.open_orphans(&listed, run).await?;
        for collection in listed {
            let namespace = &collection.namespace;
            if collection.kind != CollectionKind::Collection
                || run.flows.contains_key(namespace)
                || run.failed.contains_key(namespace)
            {
                continue;
            }
            if replaced.contains(namespace) {
                missing.push(collection);
                continue;
            }
            match self.sink.open(namespace).await {
                Ok(Some(table)) if is_forgotten(&table.position(), window) => {
                    let error = Error::new(
                        ErrorKind::HistoryLost,
                        "the server does not remember the changes that the table lacks",
                    )
                    .on("table", table.place());
                    let remedy = format!(
                        "load it anew, with --collection '{}' --overwrite, and make the oplog larger \
                         (`replSetResizeOplog`); the other collections go on",
                        namespace.collection
                    );
                    self.fail(namespace, error.remedy(remedy), run);
                }
                Ok(Some(table)) => {
                    let flow = Flow::new(namespace.clone(), table);
                    run.flows.insert(namespace.clone(), flow);
                }
                Ok(None) => missing.push(collection),
                Err(error) => self.fail(namespace, error, run),
            }
        }
        Ok(missing)
    }

    /// Opens the tables of collections that are gone: what happened to them before that may not
    /// have been read yet.
    async fn open_orphans(&self, listed: &[CollectionInfo], run: &mut Run) -> Result<()> {
        let listed: HashSet<&Namespace> = listed.iter().map(|c| &c.namespace).collect();
        for namespace in self.sink.tables().await? {
            if listed.contains(&namespace)
                || run.flows.contains_key(&namespace)
                || !self.changes.selects(&namespace)
            {
                continue;
            }
            // Other tables may stand in the lake too.
            if let Ok(Some(table)) = self.sink.open(&namespace).await {
                let flow = Flow::new(namespace.clone(), table);
                run.flows.insert(namespace, flow);
            }
        }
        Ok(())
    }

    /// Loads collections, and opens their tables.
    async fn load(
        &self,
        collections: Vec<CollectionInfo>,
        sink: Arc<dyn LoadSink>,
        run: &mut Run,
        stop: &CancellationToken,
    ) -> Result<()> {
        if collections.is_empty() {
            return Ok(());
        }
        let report = load_collections(
            collections,
            Arc::clone(&self.snapshots),
            sink,
            Arc::clone(&self.observer),
            self.load.clone(),
            stop.clone(),
        )
        .await?;
        for outcome in report.collections {
            let namespace = outcome.namespace;
            match outcome.result {
                Ok(summary) => {
                    let table = self.sink.open(&namespace).await;
                    match table.and_then(|table| table.ok_or_else(vanished)) {
                        Ok(table) => {
                            let flow = Flow::new(namespace.clone(), table);
                            run.flows.insert(namespace.clone(), flow);
                        }
                        Err(error) => self.fail(&namespace, error, run),
                    }
                    run.loaded.insert(namespace, summary);
                }
                // The observer has heard of it.
                Err(error) => {
                    run.failed.insert(namespace, error);
                }
            }
        }
        Ok(())
    }

    fn fail(&self, namespace: &Namespace, error: Error, run: &mut Run) {
        let error = error.on("namespace", namespace);
        self.observer.failed(namespace, &error);
        run.failed.insert(namespace.clone(), error);
    }
}

/// Whether what comes behind a position is not remembered any more.
fn is_forgotten(position: &Position, window: Option<HistoryWindow>) -> bool {
    window.is_some_and(|window| position.cluster_time < window.oldest)
}

fn vanished() -> Error {
    Error::new(ErrorKind::NotFound, "the table that was loaded is gone")
}
