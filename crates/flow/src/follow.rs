//! Following changes: one stream, fanned out to the tables of its collections, each of which
//! commits by itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tributary_model::{ClusterTime, Error, ErrorKind, Namespace, Position, Result};

use crate::changes::{
    Applied, ChangeBatch, ChangeSource, ChangeTable, Event, EventBatch, EventKind, HistoryWindow,
};
use crate::observe::{AppliedBatch, Observer};
use crate::retry::Backoff;

/// Batches of events waiting between the stream and the tables.
const WAITING_BATCHES: usize = 2;
/// What an event takes in memory beside its documents.
const EVENT_BYTES: usize = 300;

/// How often it is looked how far back the source remembers.
const WATCH_EVERY: Duration = Duration::from_secs(60);
/// A table that is no further behind is not warned of.
const NOT_YET_LATE: Duration = Duration::from_secs(60);

/// How changes are followed.
#[derive(Debug, Clone)]
pub struct FollowOptions {
    /// How long changes are gathered before they are committed.
    pub commit_interval: Duration,
    /// How many bytes of changes of one collection are gathered at most.
    pub batch_bytes: usize,
    /// How many bytes of changes of all collections are held in memory at most.
    pub memory_bytes: usize,
    /// How old the position of a table without changes gets before it is committed by itself: old
    /// ones are forgotten by the source.
    pub heartbeat: Duration,
    /// Stop when everything up to this moment is committed.
    pub until: Option<ClusterTime>,
}

impl Default for FollowOptions {
    fn default() -> Self {
        Self {
            commit_interval: Duration::from_secs(1),
            batch_bytes: 32 << 20,
            memory_bytes: 64 << 20,
            heartbeat: Duration::from_secs(600),
            until: None,
        }
    }
}

/// Why following has ended.
#[derive(Debug)]
pub enum Followed {
    /// It was stopped, or has reached the position it was to reach.
    Done,
    /// A collection has appeared that is to be loaded first.
    Appeared(Namespace),
    /// A collection's whole content has been replaced, and is to be loaded anew.
    Replaced(Namespace),
}

/// A table that is followed, and what has come of it.
pub(crate) struct Flow {
    pub(crate) namespace: Arc<Namespace>,
    /// Where the table is.
    pub(crate) place: String,
    /// None while a batch is being applied, and after a failure.
    table: Option<Box<dyn ChangeTable>>,
    /// How far the table has got.
    position: Position,
    pending: Vec<Event>,
    pending_bytes: usize,
    /// When the first of the pending changes came.
    since: Option<Instant>,
    /// Bytes of the batch that is being applied.
    applying: usize,
    pub(crate) applied: Applied,
    pub(crate) changes: u64,
    pub(crate) failure: Option<Error>,
}

impl Flow {
    pub(crate) fn new(namespace: Namespace, table: Box<dyn ChangeTable>) -> Self {
        Self {
            namespace: Arc::new(namespace),
            place: table.place(),
            position: table.position(),
            table: Some(table),
            pending: Vec::new(),
            pending_bytes: 0,
            since: None,
            applying: 0,
            applied: Applied::default(),
            changes: 0,
            failure: None,
        }
    }

    fn is_idle(&self) -> bool {
        self.failure.is_some() || (self.table.is_some() && self.pending.is_empty())
    }

    /// Whether its position is older than `age` while nothing is pending for it.
    fn is_behind(&self, stream: &Position, age: Duration) -> bool {
        let (own, now) = (self.position.cluster_time, stream.cluster_time);
        u64::from(now.seconds().saturating_sub(own.seconds())) >= age.as_secs()
    }

    /// Lets the table put itself in order.
    pub(crate) async fn finish(&mut self) {
        if let (Some(table), None) = (&mut self.table, &self.failure) {
            table.finish().await;
        }
    }

    fn fail(&mut self, error: Error) {
        self.pending = Vec::new();
        self.pending_bytes = 0;
        self.applying = 0;
        self.since = None;
        self.failure = Some(error);
    }
}

/// A batch that has been applied, or has failed.
struct Outcome {
    namespace: Arc<Namespace>,
    table: Box<dyn ChangeTable>,
    result: Result<AppliedBatch>,
}

/// Follows the changes behind the least of the tables' positions.
///
/// `listed` is where the source stood when its collections were listed: an event of a collection
/// that has no table, behind it, tells of a new one.
pub(crate) async fn follow(
    source: &Arc<dyn ChangeSource>,
    flows: &mut HashMap<Namespace, Flow>,
    listed: &Position,
    options: &FollowOptions,
    observer: &Arc<dyn Observer>,
    stop: &CancellationToken,
) -> Result<Followed> {
    let mut start = listed.clone();
    for flow in flows.values().filter(|flow| flow.failure.is_none()) {
        observer.following(&flow.namespace, &flow.position);
        if !flow.position.reaches(&start) {
            start = flow.position.clone();
        }
    }
    let (out, events) = mpsc::channel(WAITING_BATCHES);
    let reader = tokio::spawn(read_on(
        Arc::clone(source),
        start.clone(),
        out,
        Arc::clone(observer),
        options.until.is_none(),
    ));
    let (told, windows) = mpsc::channel(1);
    let watch = tokio::spawn(watch_history(Arc::clone(source), told));
    let (outcomes, applied) = mpsc::unbounded_channel();
    let mut router = Router {
        flows,
        listed,
        options,
        observer,
        position: start,
        complete_to: ClusterTime::default(),
        outcomes,
        ending: None,
    };
    let ended = router.run(events, applied, windows, stop).await;
    watch.abort();
    let read = reader.await.map_err(|panic| {
        Error::new(
            ErrorKind::Internal,
            "the reader of changes ended abnormally",
        )
        .because(panic)
    })?;
    // The stream's own failure is the cause of an end without a reason.
    read?;
    Ok(ended)
}

/// Reads the stream, through as many interruptions as it takes.
async fn read_on(
    source: Arc<dyn ChangeSource>,
    mut position: Position,
    out: mpsc::Sender<EventBatch>,
    observer: Arc<dyn Observer>,
    for_ever: bool,
) -> Result<()> {
    let mut backoff = Backoff::default();
    loop {
        let (inner, mut batches) = mpsc::channel::<EventBatch>(1);
        let from = position.clone();
        let read = source.follow(&from, inner);
        let forward = async {
            // The first batch may say no more than that the stream has been opened.
            let mut opened = false;
            while let Some(batch) = batches.recv().await {
                let reached = batch.position.clone();
                let is_progress = opened || !batch.events.is_empty();
                if out.send(batch).await.is_err() {
                    break;
                }
                if is_progress {
                    backoff.reset();
                }
                opened = true;
                position = reached;
            }
            // Closed, so that the source sees that nobody listens.
            drop(batches);
        };
        let result = tokio::select! {
            (result, ()) = async { tokio::join!(read, forward) } => result,
            () = out.closed() => return Ok(()),
        };
        if out.is_closed() {
            return Ok(());
        }
        let error = match result {
            // The stream was invalidated: a new one begins behind.
            Ok(()) => continue,
            Err(error) => error,
        };
        if !error.kind().is_transient() {
            return Err(error);
        }
        let wait = match backoff.next_wait() {
            Some(wait) => wait,
            None if for_ever => Backoff::LONGEST,
            None => return Err(error),
        };
        observer.source_retrying(&error, wait);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = out.closed() => return Ok(()),
        }
    }
}

struct Router<'a> {
    flows: &'a mut HashMap<Namespace, Flow>,
    listed: &'a Position,
    options: &'a FollowOptions,
    observer: &'a Arc<dyn Observer>,
    /// How far the stream has been read.
    position: Position,
    /// The moment up to which all of it has been read.
    complete_to: ClusterTime,
    outcomes: mpsc::UnboundedSender<Outcome>,
    /// Set when no more is read, and what has been read is being committed.
    ending: Option<Followed>,
}

impl Router<'_> {
    async fn run(
        &mut self,
        events: mpsc::Receiver<EventBatch>,
        mut applied: mpsc::UnboundedReceiver<Outcome>,
        mut windows: mpsc::Receiver<HistoryWindow>,
        stop: &CancellationToken,
    ) -> Followed {
        let mut events = Some(events);
        loop {
            if self.is_done() {
                self.ending.get_or_insert(Followed::Done);
            }
            if self.ending.is_some() {
                // The reader sees it, and ends.
                events = None;
            }
            let due = self.begin_due(stop);
            if self.ending.is_some() && self.flows.values().all(Flow::is_idle) {
                return self.ending.take().unwrap_or(Followed::Done);
            }
            let may_read = self.held_bytes() < self.options.memory_bytes;
            let next = async {
                match &mut events {
                    Some(events) if may_read => events.recv().await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled(), if self.ending.is_none() => {
                    self.ending = Some(Followed::Done);
                }
                Some(outcome) = applied.recv() => self.finish(outcome),
                Some(window) = windows.recv() => self.compare_with(window),
                batch = next => match batch {
                    Some(batch) => self.route(batch),
                    // The reader has failed: what it had read is committed.
                    None => self.ending = Some(Followed::Done),
                },
                () = sleep_until(due) => {}
            }
        }
    }

    /// Warns while there is time: when a table is further behind than half of what the source
    /// remembers.
    fn compare_with(&self, window: HistoryWindow) {
        let seconds = |later: ClusterTime, earlier: ClusterTime| {
            Duration::from_secs(later.seconds().saturating_sub(earlier.seconds()).into())
        };
        let remembered = seconds(window.newest, window.oldest);
        let flows = self.flows.values().filter(|flow| flow.failure.is_none());
        let Some(last) = flows.min_by_key(|flow| flow.position.cluster_time) else {
            return;
        };
        let behind = seconds(window.newest, last.position.cluster_time);
        // A source that has just been set up remembers little, and has forgotten nothing.
        if behind > remembered / 2 && behind > self.options.heartbeat + NOT_YET_LATE {
            self.observer
                .falling_behind(&last.namespace, behind, remembered);
        }
    }

    /// Whether everything that was to be reached is committed.
    fn is_done(&self) -> bool {
        let reached = self
            .options
            .until
            .is_some_and(|until| self.complete_to >= until);
        reached || self.flows.values().all(|flow| flow.failure.is_some())
    }

    fn held_bytes(&self) -> usize {
        self.flows
            .values()
            .map(|flow| flow.pending_bytes + flow.applying)
            .sum()
    }

    fn route(&mut self, mut batch: EventBatch) {
        let reasons = batch.events.iter().map(|event| self.reason_to_end(event));
        let end = reasons
            .enumerate()
            .find_map(|(at, reason)| Some((at, reason?)));
        if let Some((at, reason)) = end {
            // That event and those behind it are read again when that is done.
            self.ending = Some(reason);
            batch.events.truncate(at);
            if let Some(last) = batch.events.last() {
                self.position = last.position();
            }
        } else {
            self.position = batch.position;
            self.complete_to = self.complete_to.max(batch.complete_to);
            self.observer.reached(&self.position);
        }
        let now = Instant::now();
        for event in batch.events {
            if let Some(what) = description(&event.kind) {
                self.observer.happened(&event.namespace, &what);
            }
            let Some(flow) = self.flows.get_mut(event.namespace.as_ref()) else {
                continue;
            };
            let EventKind::Change(change) = &event.kind else {
                continue;
            };
            let passed = flow.position.has_passed(event.token(), event.cluster_time);
            if passed || flow.failure.is_some() {
                continue;
            }
            let document = change.document.as_ref().map_or(0, bytes::Bytes::len);
            let before = change.before.as_ref().map_or(0, bytes::Bytes::len);
            flow.pending_bytes += EVENT_BYTES + change.key.len() + document + before;
            flow.since.get_or_insert(now);
            flow.pending.push(event);
        }
    }

    /// Why an event cannot be followed as things are: it is of a collection without a table, or
    /// gives one another content.
    fn reason_to_end(&self, event: &Event) -> Option<Followed> {
        let is_new = |namespace: &Namespace| {
            !self.flows.contains_key(namespace)
                && !self.listed.has_passed(event.token(), event.cluster_time)
        };
        match &event.kind {
            EventKind::Change(_) if is_new(&event.namespace) => {
                Some(Followed::Appeared(event.namespace.as_ref().clone()))
            }
            EventKind::Rename { to } => match self.flows.get(to) {
                Some(flow) if flow.position.has_passed(event.token(), event.cluster_time) => None,
                Some(flow) if flow.failure.is_some() => None,
                Some(_) => Some(Followed::Replaced(to.clone())),
                None => is_new(to).then(|| Followed::Appeared(to.clone())),
            },
            _ => None,
        }
    }

    /// Begins to apply what is due, and says when the next is.
    fn begin_due(&mut self, stop: &CancellationToken) -> Option<Instant> {
        let mut next = None;
        let full = self.held_bytes() >= self.options.memory_bytes;
        for flow in self.flows.values_mut() {
            if flow.table.is_none() {
                continue;
            }
            match flow.since {
                Some(since) => {
                    let due = since + self.options.commit_interval;
                    let is_due = self.ending.is_some()
                        || full
                        || flow.pending_bytes >= self.options.batch_bytes
                        || due <= Instant::now();
                    if !is_due {
                        next = Some(next.map_or(due, |next: Instant| next.min(due)));
                        continue;
                    }
                }
                None if flow.is_behind(&self.position, self.options.heartbeat) => {}
                None => continue,
            }
            if let Some(table) = flow.table.take() {
                flow.since = None;
                flow.applying = std::mem::take(&mut flow.pending_bytes);
                let batch = ChangeBatch {
                    changes: std::mem::take(&mut flow.pending),
                    position: self.position.clone(),
                };
                let apply = apply(
                    Arc::clone(&flow.namespace),
                    table,
                    batch,
                    flow.applying as u64,
                    self.outcomes.clone(),
                    Arc::clone(self.observer),
                    self.options.until.is_none().then(|| stop.clone()),
                );
                tokio::spawn(apply);
            }
        }
        next
    }

    fn finish(&mut self, outcome: Outcome) {
        let Some(flow) = self.flows.get_mut(outcome.namespace.as_ref()) else {
            return;
        };
        flow.applying = 0;
        match outcome.result {
            Ok(batch) => {
                flow.position = outcome.table.position();
                flow.table = Some(outcome.table);
                if batch.changes > 0 {
                    flow.changes += batch.changes;
                    flow.applied += batch.applied;
                    self.observer.applied(&outcome.namespace, &batch);
                }
            }
            Err(error) => {
                let error = error.on("namespace", &outcome.namespace);
                self.observer.failed(&outcome.namespace, &error);
                flow.fail(error);
            }
        }
    }
}

/// Asks now and then how far back the source remembers.
async fn watch_history(source: Arc<dyn ChangeSource>, told: mpsc::Sender<HistoryWindow>) {
    loop {
        tokio::time::sleep(WATCH_EVERY).await;
        // A source that does not answer is noticed by its reader.
        if let Ok(Some(window)) = source.window().await
            && told.send(window).await.is_err()
        {
            return;
        }
    }
}

/// What happened to a collection as a whole, for people.
fn description(kind: &EventKind) -> Option<String> {
    Some(match kind {
        EventKind::Change(_) | EventKind::Invalidate => return None,
        EventKind::Drop => "dropped".to_owned(),
        EventKind::Rename { to } => format!("renamed to {to}"),
        EventKind::DropDatabase => "database dropped".to_owned(),
        // Indexes, options and the like: nothing of the content.
        EventKind::Other(_) => return None,
    })
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Applies one batch, through as many transient failures as it takes: without end until
/// `patient_until`, where that is given.
async fn apply(
    namespace: Arc<Namespace>,
    mut table: Box<dyn ChangeTable>,
    batch: ChangeBatch,
    bytes: u64,
    outcomes: mpsc::UnboundedSender<Outcome>,
    observer: Arc<dyn Observer>,
    patient_until: Option<CancellationToken>,
) {
    let begun = SystemTime::now();
    let mut backoff = Backoff::default();
    let result = loop {
        let error = match table.apply(&batch).await {
            Ok(applied) => break Ok(applied),
            Err(error) => error,
        };
        if !error.kind().is_transient() {
            break Err(error);
        }
        let patient = patient_until.as_ref().filter(|stop| !stop.is_cancelled());
        let wait = match (backoff.next_wait(), patient) {
            (Some(wait), _) => wait,
            (None, Some(_)) => Backoff::LONGEST,
            (None, None) => break Err(error),
        };
        observer.retrying(&namespace, &error, wait);
        let stopped = async {
            match patient {
                Some(stop) => stop.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stopped => {}
        }
    };
    let changed = batch.changes.last().map_or(0, |event| event.wall_time);
    let changed = Duration::from_millis(u64::try_from(changed).unwrap_or(0));
    let result = result.map(|applied| AppliedBatch {
        changes: batch.changes.len() as u64,
        bytes,
        applied,
        changed: SystemTime::UNIX_EPOCH + changed,
        begun,
        committed: SystemTime::now(),
    });
    // Nobody is left to hear of it only when the process ends.
    let _ = outcomes.send(Outcome {
        namespace,
        table,
        result,
    });
}
