//! Load what is not there yet, then follow the changes.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tributary_model::{Error, ErrorKind, Namespace, Position, Result};

use crate::changes::{Applied, ChangeSink, ChangeSource};
use crate::follow::{Flow, FollowOptions, Followed, follow};
use crate::load::{LoadOptions, load_collections};
use crate::observe::Observer;
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
    /// Where collections are loaded to that are then followed from a position on.
    pub loads: &'a (dyn Fn(Position) -> Arc<dyn LoadSink> + Send + std::marker::Sync),
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
    let mut flows: HashMap<Namespace, Flow> = HashMap::new();
    let mut loaded: HashMap<Namespace, LoadSummary> = HashMap::new();
    let mut failed: HashMap<Namespace, Error> = HashMap::new();
    let mut options = sync.follow.clone();
    loop {
        let listed = sync.changes.now().await?;
        if sync.once {
            options.until.get_or_insert_with(|| listed.clone());
        }
        let missing = sync.open(&mut flows, &mut failed).await?;
        if !missing.is_empty() {
            let report = load_collections(
                missing,
                Arc::clone(&sync.snapshots),
                (sync.loads)(listed.clone()),
                Arc::clone(&sync.observer),
                sync.load.clone(),
                stop.clone(),
            )
            .await?;
            for outcome in report.collections {
                match outcome.result {
                    Ok(summary) => {
                        let table = sync.sink.open(&outcome.namespace).await;
                        match table.and_then(|table| table.ok_or_else(vanished)) {
                            Ok(table) => {
                                let flow = Flow::new(outcome.namespace.clone(), table);
                                flows.insert(outcome.namespace.clone(), flow);
                            }
                            Err(error) => {
                                let error = error.on("namespace", &outcome.namespace);
                                sync.observer.failed(&outcome.namespace, &error);
                                failed.insert(outcome.namespace.clone(), error);
                            }
                        }
                        loaded.insert(outcome.namespace, summary);
                    }
                    Err(error) => {
                        failed.insert(outcome.namespace, error);
                    }
                }
            }
        }
        if stop.is_cancelled() || flows.is_empty() {
            break;
        }
        let ended = follow(
            &sync.changes,
            &mut flows,
            &listed,
            &options,
            &sync.observer,
            &stop,
        )
        .await?;
        match ended {
            Followed::Done => break,
            Followed::Appeared(namespace) => sync.observer.happened(&namespace, "appeared"),
        }
    }

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

impl Sync<'_> {
    /// Opens the tables of the collections that have one, and answers the others.
    async fn open(
        &self,
        flows: &mut HashMap<Namespace, Flow>,
        failed: &mut HashMap<Namespace, Error>,
    ) -> Result<Vec<CollectionInfo>> {
        let mut missing = Vec::new();
        for collection in self.snapshots.collections().await? {
            let namespace = &collection.namespace;
            if collection.kind != CollectionKind::Collection
                || flows.contains_key(namespace)
                || failed.contains_key(namespace)
            {
                continue;
            }
            match self.sink.open(namespace).await {
                Ok(Some(table)) => {
                    flows.insert(namespace.clone(), Flow::new(namespace.clone(), table));
                }
                Ok(None) => missing.push(collection),
                Err(error) => {
                    let error = error.on("namespace", namespace);
                    self.observer.failed(namespace, &error);
                    failed.insert(namespace.clone(), error);
                }
            }
        }
        Ok(missing)
    }
}

fn vanished() -> Error {
    Error::new(ErrorKind::NotFound, "the table that was loaded is gone")
}
