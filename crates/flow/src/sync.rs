//! Load what is not there yet, then follow the changes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tributary_model::{ClusterTime, Error, ErrorKind, Gap, GapRemedy, Namespace, Position, Result};

use crate::changes::{Applied, ChangeSink, ChangeSource, ChangeTable, HistoryWindow};
use crate::follow::{Ends, Flow, FollowOptions, Followed, PassedOver, follow};
use crate::load::{CollectionOutcome, LoadOptions, load_collections};
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
    /// The stretches of history that its table lacks since this run.
    pub gaps: Vec<Gap>,
    /// Why it stopped before the others.
    pub failure: Option<Error>,
}

/// What became of a sync.
#[derive(Debug, Default)]
pub struct SyncReport {
    /// Each collection, by name.
    pub collections: Vec<SyncOutcome>,
    /// How many events there were that change nothing of a collection's content, by the server's
    /// names for them.
    pub other_events: BTreeMap<String, u64>,
}

/// What is done about a table whose next changes the source has forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnLostHistory {
    /// It stops, alone.
    #[default]
    Fail,
    /// Its collection is loaded anew, and replaces its content in one step.
    Reload,
    /// It goes on from the oldest moment that the source remembers.
    Accept,
}

/// How collections are to be loaded.
#[derive(Debug, Clone)]
pub struct Loading {
    /// From where on they are followed then.
    pub position: Position,
    /// Whether tables that are there are to be replaced.
    pub replace: bool,
    /// The tables that are replaced because they lack changes, and from when on. Each records that
    /// in the step that replaces it.
    pub lacking: HashMap<Namespace, ClusterTime>,
}

/// Everything that a sync works with.
pub struct Sync<'a> {
    /// Where collections are loaded from.
    pub snapshots: Arc<dyn SnapshotSource>,
    /// Where their changes are read.
    pub changes: Arc<dyn ChangeSource>,
    /// Where collections are loaded to that are then followed.
    pub loads: &'a (dyn Fn(Loading) -> Arc<dyn LoadSink> + Send + std::marker::Sync),
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
    /// What is done about tables whose next changes the source has forgotten.
    pub on_lost_history: OnLostHistory,
}

/// How often in a row the oldest moment that the source remembers is tried to go on from. It may
/// forget that one too before the stream is opened; then its present is gone on from.
const OLDEST_TRIED: u32 = 3;
/// How often in a row the stream may turn out to be lost before anything was read.
const TRIES: u32 = 6;
/// How often in a row a collection is loaded anew: what comes behind the position that it is loaded
/// from may be forgotten before that is done.
const RELOADS: u32 = 3;

/// What is known of the source when tables are opened.
struct Now<'a> {
    listed: &'a Position,
    window: Option<HistoryWindow>,
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
    while let Some((listed, missing)) = sync.look(&mut run, &stop).await? {
        if sync.once {
            options.until.get_or_insert(listed.cluster_time);
        }
        sync.load(missing, &listed, &mut run, &stop).await?;
        if stop.is_cancelled() {
            break;
        }
        if !run.replaced.is_empty() {
            // What was loaded has been overtaken while it was.
            continue;
        }
        if run.flows.is_empty() {
            break;
        }
        sync.compare_streams(&listed, &mut run);
        let ended = follow(
            Ends {
                source: &sync.changes,
                sink: &sync.sink,
            },
            &mut run.flows,
            &mut run.passed_over,
            &listed,
            &options,
            &sync.observer,
            &stop,
        )
        .await?;
        let has_moved = !matches!(ended, Followed::Lost { moved: false, .. });
        if has_moved {
            run.losses = Losses::default();
        }
        match ended {
            Followed::Done => break,
            Followed::Appeared(namespace) => sync.observer.happened(&namespace, "appeared"),
            Followed::Replaced(namespace) => {
                sync.observer.happened(&namespace, "has other content");
                run.close(&namespace);
                run.replaced.insert(namespace);
            }
            Followed::Decided(namespace) => {
                sync.observer
                    .happened(&namespace, "goes on: its schema change was decided");
                run.close(&namespace);
            }
            Followed::Lost { at, error, .. } => sync.lost(&at, error, &mut run, &stop).await?,
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
        passed_over,
        earlier,
        ..
    } = run;

    let mut collections: Vec<SyncOutcome> = failed
        .into_iter()
        .map(|(namespace, error)| SyncOutcome {
            namespace,
            loaded: None,
            table: String::new(),
            changes: 0,
            applied: Applied::default(),
            gaps: Vec::new(),
            failure: Some(error),
        })
        .collect();
    collections.extend(flows.into_iter().map(|(namespace, flow)| {
        let (changes, mut applied) = earlier.get(&namespace).copied().unwrap_or_default();
        applied += flow.applied;
        SyncOutcome {
            loaded: loaded.remove(&namespace),
            namespace,
            table: flow.place,
            changes: changes + flow.changes,
            applied,
            gaps: flow.gaps,
            failure: flow.failure,
        }
    }));
    collections.sort_by(|a, b| a.namespace.cmp(&b.namespace));
    Ok(SyncReport {
        collections,
        other_events: passed_over.by_name,
    })
}

/// What a sync has come to.
#[derive(Default)]
struct Run {
    flows: HashMap<Namespace, Flow>,
    loaded: HashMap<Namespace, LoadSummary>,
    failed: HashMap<Namespace, Error>,
    passed_over: PassedOver,
    /// The collections whose tables do not show what is there any more.
    replaced: HashSet<Namespace>,
    /// Those of them that lack changes, and from when on.
    lacking: HashMap<Namespace, ClusterTime>,
    losses: Losses,
    /// Whether it has been told that another stream is read than before.
    told_of_stream: bool,
    /// What came of flows that were closed, to be opened again.
    earlier: HashMap<Namespace, (u64, Applied)>,
}

impl Run {
    /// Closes a collection's table; it is opened again with those that are new.
    fn close(&mut self, namespace: &Namespace) {
        if let Some(flow) = self.flows.remove(namespace) {
            self.keep_counts(&flow);
        }
    }

    fn keep_counts(&mut self, flow: &Flow) {
        let namespace = flow.namespace.as_ref().clone();
        let (changes, applied) = self.earlier.entry(namespace).or_default();
        *changes += flow.changes;
        *applied += flow.applied;
    }
}

/// What has been tried about lost history since anything was read last.
#[derive(Default)]
struct Losses {
    tries: u32,
    backoff: Backoff,
    reloads: HashMap<Namespace, u32>,
}

/// Why a table cannot go on from where it is.
struct Loss<'a> {
    /// Everything up to here is lost.
    up_to: ClusterTime,
    /// How far the table had got, which may be further than it has committed.
    from: &'a Position,
    kind: ErrorKind,
    because: String,
    /// Whether all has been tried that may be done about it.
    is_final: bool,
}

impl Sync<'_> {
    /// Where the source is, and which of its collections have no table; none when it was stopped.
    ///
    /// A source that is away is waited for where something is followed already.
    async fn look(
        &self,
        run: &mut Run,
        stop: &CancellationToken,
    ) -> Result<Option<(Position, Vec<CollectionInfo>)>> {
        let mut backoff = Backoff::default();
        loop {
            let looked = async {
                let listed = self.changes.now().await?;
                let missing = self.open(&listed, run).await?;
                Ok((listed, missing))
            };
            let error: Error = match looked.await {
                Ok(found) => return Ok(Some(found)),
                Err(error) => error,
            };
            let wait = match run.flows.is_empty() {
                true => None,
                false => backoff.wait_after(&error, !self.once),
            };
            let Some(wait) = wait else {
                return Err(error);
            };
            self.observer.source_retrying(&error, wait);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return Ok(None),
            }
        }
    }

    /// Opens the tables of the collections that have one, and answers the collections without.
    async fn open(&self, listed: &Position, run: &mut Run) -> Result<Vec<CollectionInfo>> {
        let (collections, not_found) = match self.snapshots.collections().await {
            Ok(collections) => (collections, None),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                (self.snapshots.present().await?, Some(error))
            }
            Err(error) => return Err(error),
        };
        let now = self.look_at(listed).await;
        self.open_orphans(&collections, &now, run).await?;
        // Where tables are followed, their collections may be gone, and come again.
        if let (Some(error), true) = (not_found, run.flows.is_empty() && run.failed.is_empty()) {
            return Err(error);
        }
        let mut missing = Vec::new();
        for collection in collections {
            let namespace = &collection.namespace;
            if collection.kind != CollectionKind::Collection
                || run.flows.contains_key(namespace)
                || run.failed.contains_key(namespace)
            {
                continue;
            }
            if run.replaced.contains(namespace) {
                missing.push(collection);
                continue;
            }
            match self.sink.open(namespace).await {
                Ok(Some(table)) => self.begin(namespace, table, &now, true, run).await,
                Ok(None) => {
                    missing.push(collection);
                    continue;
                }
                Err(error) => self.fail(namespace, error, run),
            }
            if run.replaced.contains(namespace) {
                missing.push(collection);
            }
        }
        Ok(missing)
    }

    /// Opens the tables of collections that are gone: what happened to them before that may not
    /// have been read yet, and others may take their names.
    async fn open_orphans(
        &self,
        collections: &[CollectionInfo],
        now: &Now<'_>,
        run: &mut Run,
    ) -> Result<()> {
        let there: HashSet<&Namespace> = collections.iter().map(|c| &c.namespace).collect();
        for namespace in self.sink.tables().await? {
            if there.contains(&namespace)
                || run.flows.contains_key(&namespace)
                || run.failed.contains_key(&namespace)
                || !self.changes.selects(&namespace)
            {
                continue;
            }
            // Other tables may stand in the lake too.
            if let Ok(Some(table)) = self.sink.open(&namespace).await {
                self.begin(&namespace, table, now, false, run).await;
            }
        }
        Ok(())
    }

    async fn look_at<'a>(&self, listed: &'a Position) -> Now<'a> {
        // Who may not know how far the source remembers finds out when the stream is opened.
        let window = self.changes.window().await.unwrap_or(None);
        if let Some(window) = window {
            self.observer.remembers(window);
        }
        Now { listed, window }
    }

    /// Begins to follow with a table, if it can go on from where it is. `is_there` says whether its
    /// collection is.
    async fn begin(
        &self,
        namespace: &Namespace,
        table: Box<dyn ChangeTable>,
        now: &Now<'_>,
        is_there: bool,
        run: &mut Run,
    ) {
        let position = table.position();
        let mut flow = Flow::new(namespace.clone(), table);
        if let Some(what) = is_elsewhere(&position, now.listed) {
            let error = Error::new(ErrorKind::OtherSource, what)
                .on("position", position.cluster_time)
                .on("source", now.listed.cluster_time)
                .remedy(other_source_remedy(namespace));
            self.stop(&mut flow, error);
        } else if let Some(window) = now.window
            && position.cluster_time < window.oldest
        {
            let loss = Loss {
                up_to: window.oldest,
                from: &position,
                kind: ErrorKind::HistoryLost,
                because: "the oplog does not reach back to where this stopped".to_owned(),
                is_final: false,
            };
            if !self.mend(&mut flow, &loss, is_there, run).await {
                return;
            }
        }
        run.flows.insert(namespace.clone(), flow);
    }

    /// Says once that the stream is not the one that the tables have followed before.
    fn compare_streams(&self, listed: &Position, run: &mut Run) {
        let is_other = |flow: &Flow| {
            let position = flow.position();
            position.resume_token.is_some() && position.stream != listed.stream
        };
        if !run.told_of_stream && run.flows.values().any(is_other) {
            run.told_of_stream = true;
            self.observer.noticed(
                "other collections or events are selected than before: the tables go on from the times of their \
                 positions, as the resume tokens are of another stream",
            );
        }
    }

    /// Does what is to be done about the tables that cannot go on behind `at`.
    async fn lost(
        &self,
        at: &Position,
        error: Error,
        run: &mut Run,
        stop: &CancellationToken,
    ) -> Result<()> {
        // By their times: a stream that begins with a moment is at first before the moment's events.
        let is_stuck =
            |flow: &Flow| flow.failure.is_none() && flow.position().cluster_time <= at.cluster_time;
        let flows = run.flows.iter();
        let stuck: Vec<Namespace> = flows
            .filter(|(_, flow)| is_stuck(flow))
            .map(|(namespace, _)| namespace.clone())
            .collect();
        if stuck.is_empty() {
            return Err(error);
        }
        let mut loss = Loss {
            up_to: at.cluster_time,
            from: at,
            kind: error.kind(),
            because: error.to_string(),
            is_final: false,
        };
        run.losses.tries += 1;
        loss.is_final = run.losses.tries >= TRIES;
        if run.losses.tries > 1
            && !loss.is_final
            && let Some(wait) = run.losses.backoff.next_wait()
        {
            self.observer.source_retrying(&error, wait);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
        let there = self.snapshots.present().await;
        for namespace in stuck {
            let Some(mut flow) = run.flows.remove(&namespace) else {
                continue;
            };
            let is_there = there
                .as_ref()
                .map_or(true, |there| there.iter().any(|c| c.namespace == namespace));
            if self.mend(&mut flow, &loss, is_there, run).await {
                run.flows.insert(namespace, flow);
            } else {
                run.keep_counts(&flow);
            }
        }
        Ok(())
    }

    /// Does what is to be done about a table that cannot go on; false where it is to be loaded anew.
    async fn mend(&self, flow: &mut Flow, loss: &Loss<'_>, is_there: bool, run: &mut Run) -> bool {
        let namespace = flow.namespace.as_ref().clone();
        let has_content = flow.content_position().cluster_time > loss.up_to;
        let choice = match self.on_lost_history {
            _ if loss.kind != ErrorKind::HistoryLost || loss.is_final => OnLostHistory::Fail,
            // Only what is kept beside it lacks something. That is accepted where all was to be
            // loaded anew.
            OnLostHistory::Fail if has_content && run.loaded.contains_key(&namespace) => {
                OnLostHistory::Accept
            }
            // There is nothing to load.
            OnLostHistory::Reload if has_content || !is_there => OnLostHistory::Accept,
            OnLostHistory::Reload if run.losses.reloads.get(&namespace) >= Some(&RELOADS) => {
                OnLostHistory::Fail
            }
            choice => choice,
        };
        let error = match choice {
            OnLostHistory::Fail => {
                let lost = loss.kind == ErrorKind::HistoryLost;
                let (what, remedy) = if lost {
                    (
                        "the server does not remember the changes that the table lacks",
                        lost_history_remedy(&namespace),
                    )
                } else {
                    (
                        "the source does not know the place where the table stands",
                        other_source_remedy(&namespace),
                    )
                };
                Error::new(loss.kind, what)
                    .because(loss.because.as_str())
                    .remedy(remedy)
            }
            OnLostHistory::Reload => {
                let from = loss
                    .from
                    .cluster_time
                    .max(flow.content_position().cluster_time);
                self.observer.happened(
                    &namespace,
                    "lacks changes that are forgotten, and is loaded anew",
                );
                *run.losses.reloads.entry(namespace.clone()).or_default() += 1;
                run.lacking.insert(namespace.clone(), from);
                run.replaced.insert(namespace);
                return false;
            }
            OnLostHistory::Accept => match self.accept(flow, loss, run.losses.tries).await {
                Ok(()) => return true,
                Err(error) => error,
            },
        };
        self.stop(flow, error);
        true
    }

    /// Lets a table go on from where the source remembers.
    async fn accept(&self, flow: &mut Flow, loss: &Loss<'_>, tries: u32) -> Result<()> {
        let mut backoff = Backoff::default();
        loop {
            let skipped = async {
                let mut to = self.changes.now().await?;
                if tries <= OLDEST_TRIED
                    && let Some(window) = self.changes.window().await?
                {
                    to.cluster_time = to.cluster_time.min(window.oldest);
                }
                flow.skip(loss.from, &to, GapRemedy::Accepted).await?;
                Ok(to)
            };
            let error: Error = match skipped.await {
                Ok(to) => {
                    self.tell_gap(flow, &to);
                    return Ok(());
                }
                Err(error) => error,
            };
            match backoff.wait_after(&error, false) {
                Some(wait) => {
                    self.observer.retrying(&flow.namespace, &error, wait);
                    tokio::time::sleep(wait).await;
                }
                None => return Err(error),
            }
        }
    }

    /// Tells of what a table has recorded as missing before `to`.
    fn tell_gap(&self, flow: &mut Flow, to: &Position) {
        let gaps = flow.recorded_gaps();
        if let Some(gap) = gaps.into_iter().find(|gap| gap.to == to.cluster_time) {
            self.observer.lacks(&flow.namespace, &gap);
            // What is met by the next is one with it.
            flow.gaps.retain(|earlier| earlier.from != gap.from);
            flow.gaps.push(gap);
        }
    }

    /// Loads collections, and opens their tables.
    async fn load(
        &self,
        missing: Vec<CollectionInfo>,
        listed: &Position,
        run: &mut Run,
        stop: &CancellationToken,
    ) -> Result<()> {
        let replaced = std::mem::take(&mut run.replaced);
        let lacking = std::mem::take(&mut run.lacking);
        let (again, fresh): (Vec<_>, Vec<_>) = missing
            .into_iter()
            .partition(|collection| replaced.contains(&collection.namespace));
        for (collections, replace) in [(fresh, false), (again, true)] {
            if collections.is_empty() {
                continue;
            }
            let sink = (self.loads)(Loading {
                position: listed.clone(),
                replace,
                lacking: lacking.clone(),
            });
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
                self.loaded(outcome, listed, run).await;
            }
        }
        Ok(())
    }

    /// Opens the table of a collection that has been loaded.
    async fn loaded(&self, outcome: CollectionOutcome, listed: &Position, run: &mut Run) {
        let namespace = outcome.namespace;
        let summary = match outcome.result {
            Ok(summary) => summary,
            // The observer has heard of it.
            Err(error) => {
                run.failed.insert(namespace, error);
                return;
            }
        };
        run.loaded.insert(namespace.clone(), summary);
        let table = self.sink.open(&namespace).await;
        match table.and_then(|table| table.ok_or_else(vanished)) {
            Ok(table) => {
                let content = table.content_position();
                let now = self.look_at(listed).await;
                self.begin(&namespace, table, &now, true, run).await;
                if let Some(flow) = run.flows.get_mut(&namespace) {
                    self.tell_gap(flow, &content);
                }
            }
            Err(error) => self.fail(&namespace, error, run),
        }
    }

    /// Stops a table alone.
    fn stop(&self, flow: &mut Flow, error: Error) {
        let error = error
            .on("namespace", &flow.namespace)
            .on("table", &flow.place);
        self.observer.failed(&flow.namespace, &error);
        flow.fail(error);
    }

    fn fail(&self, namespace: &Namespace, error: Error, run: &mut Run) {
        let error = error.on("namespace", namespace);
        self.observer.failed(namespace, &error);
        run.failed.insert(namespace.clone(), error);
    }
}

/// Why a position cannot be one in the history that has now got to `listed`.
fn is_elsewhere(position: &Position, listed: &Position) -> Option<&'static str> {
    if let (Some(own), Some(other)) = (&position.deployment, &listed.deployment)
        && own != other
    {
        return Some("the table follows another deployment than the one that answers");
    }
    let is_ahead = position.cluster_time > listed.cluster_time;
    is_ahead.then_some("the table's position lies in the future of the source")
}

fn other_source_remedy(namespace: &Namespace) -> String {
    format!(
        "check the source's address: this is another deployment, or one restored from a backup. If it is the one to \
         follow from now on, load the collection anew with --collection '{}' --overwrite; the other collections go on",
        namespace.collection
    )
}

fn lost_history_remedy(namespace: &Namespace) -> String {
    format!(
        "load it anew, with --on-lost-history reload or --collection '{}' --overwrite, or go on without them, with \
         --on-lost-history accept; and make the oplog larger (`replSetResizeOplog`). The other collections go on",
        namespace.collection
    )
}

fn vanished() -> Error {
    Error::new(ErrorKind::NotFound, "the table that was loaded is gone")
}
