//! Following changes: one stream, fanned out to the tables of its collections, each of which
//! commits by itself.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tributary_model::{ClusterTime, Error, ErrorKind, Gap, GapRemedy, Namespace, Position, Result};

use crate::changes::{
    Applied, ChangeBatch, ChangeSink, ChangeSource, ChangeTable, Event, EventBatch, EventKind,
    HistoryWindow,
};
use crate::failpoint::Failpoint;
use crate::observe::{AppliedBatch, Observer};
use crate::read::read_on;
use crate::retry::Backoff;

/// Batches of events waiting between the stream and the tables.
const WAITING_BATCHES: usize = 2;
/// What an event takes in memory beside its documents.
const EVENT_BYTES: usize = 300;

/// How often it is looked whether a schema change has been approved.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// A table that is no further behind is not warned of.
const NOT_YET_LATE: Duration = Duration::from_secs(60);
/// A table whose next changes will be forgotten within this time, at the present pace, is warned of.
const WARNED_BEFORE: Duration = Duration::from_secs(3600);
/// Over how many looks at the source's memory the pace is taken: it forgets in leaps.
const PACE_OF: usize = 10;

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
    /// How often it is looked how far back the source remembers.
    pub watch_every: Duration,
    /// What becomes of a table whose collection is dropped, renamed away or gone with its database.
    pub on_drop: OnDrop,
}

/// What becomes of a table whose collection is gone. Whatever it is, what happened is recorded, and
/// a collection that takes the name later is followed into the same table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDrop {
    /// It keeps its rows.
    #[default]
    Keep,
    /// It loses them, at the event's place in the order of changes.
    Clear,
    /// It stops, before the event, and waits for another choice.
    Stop,
}

impl Default for FollowOptions {
    fn default() -> Self {
        Self {
            commit_interval: Duration::from_secs(1),
            batch_bytes: 32 << 20,
            memory_bytes: 64 << 20,
            heartbeat: Duration::from_secs(600),
            until: None,
            watch_every: Duration::from_secs(60),
            on_drop: OnDrop::Keep,
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
    /// A collection whose table had stopped may go on.
    Decided(Namespace),
    /// The stream cannot go on from where it has been read to: what comes next is forgotten, or was
    /// never there.
    Lost {
        /// How far it had been read; all of that is committed.
        at: Position,
        /// Whether anything had been read.
        moved: bool,
        /// What the source says.
        error: Error,
    },
}

/// The events that change nothing of any content, each counted once.
#[derive(Debug, Default)]
pub(crate) struct PassedOver {
    pub(crate) by_name: BTreeMap<String, u64>,
    /// The stream is read again from earlier on when a collection appears.
    counted: Option<Position>,
}

impl PassedOver {
    /// Counts an event; false where it has been counted before.
    fn count(&mut self, event: &Event, name: &str, stream: &Position) -> bool {
        let counted = self.counted.as_ref();
        if counted.is_some_and(|counted| counted.has_passed(event.token(), event.cluster_time)) {
            return false;
        }
        *self.by_name.entry(name.to_owned()).or_default() += 1;
        self.counted = Some(event.position(stream));
        true
    }
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
    pending: VecDeque<Event>,
    pending_bytes: usize,
    /// Why it stops as soon as what is pending is committed.
    stopping: Option<Error>,
    /// When the first of the pending changes came.
    since: Option<Instant>,
    /// Bytes of the batch that is being applied.
    applying: usize,
    pub(crate) applied: Applied,
    pub(crate) changes: u64,
    /// What has been recorded as missing since it was opened.
    pub(crate) gaps: Vec<Gap>,
    pub(crate) failure: Option<Error>,
}

impl Flow {
    pub(crate) fn new(namespace: Namespace, table: Box<dyn ChangeTable>) -> Self {
        Self {
            namespace: Arc::new(namespace),
            place: table.place(),
            position: table.position(),
            table: Some(table),
            pending: VecDeque::new(),
            pending_bytes: 0,
            stopping: None,
            since: None,
            applying: 0,
            applied: Applied::default(),
            changes: 0,
            gaps: Vec::new(),
            failure: None,
        }
    }

    fn is_idle(&self) -> bool {
        let is_quiet = self.table.is_some() && self.pending.is_empty() && self.stopping.is_none();
        self.failure.is_some() || is_quiet
    }

    /// How far its table has got.
    pub(crate) fn position(&self) -> &Position {
        &self.position
    }

    /// How far what shows the collection as it is has got.
    pub(crate) fn content_position(&self) -> Position {
        let table = self.table.as_ref();
        table.map_or_else(|| self.position.clone(), |table| table.content_position())
    }

    /// What its table has recorded as missing.
    pub(crate) fn recorded_gaps(&self) -> Vec<Gap> {
        self.table
            .as_ref()
            .map_or_else(Vec::new, |table| table.gaps())
    }

    /// Goes on at `to`, though what is between `from` and there is not known.
    pub(crate) async fn skip(
        &mut self,
        from: &Position,
        to: &Position,
        remedy: GapRemedy,
    ) -> Result<()> {
        if let Some(table) = &mut self.table {
            table.skip(from, to, remedy).await?;
            self.position = table.position();
        }
        Ok(())
    }

    /// Takes an event that is to be applied, unless that has been done.
    fn take(&mut self, event: Event, on_drop: OnDrop, now: Instant) {
        let passed = self.position.has_passed(event.token(), event.cluster_time);
        if passed || self.failure.is_some() || self.stopping.is_some() {
            return;
        }
        if event.ends_collection() && on_drop == OnDrop::Stop {
            self.stopping = Some(stopped_by(&event));
            return;
        }
        self.pending_bytes += bytes_of(&event);
        self.since.get_or_insert(now);
        self.pending.push_back(event);
    }

    /// What is to be applied next: all that is pending, but no further than to the first event that
    /// ends the collection.
    fn next_batch(&mut self, stream: &Position, on_drop: OnDrop) -> ChangeBatch {
        let end = self.pending.iter().position(Event::ends_collection);
        let changes: Vec<Event> = match end {
            Some(end) => self.pending.drain(..=end).collect(),
            None => self.pending.drain(..).collect(),
        };
        let is_part = end.is_some() || self.stopping.is_some();
        let position = match changes.last() {
            Some(last) if is_part => last.position(stream),
            _ => stream.clone(),
        };
        if self.pending.is_empty() {
            self.since = None;
        }
        self.applying = changes.iter().map(bytes_of).sum();
        self.pending_bytes = self.pending_bytes.saturating_sub(self.applying);
        ChangeBatch {
            changes,
            clears: end.is_some() && on_drop == OnDrop::Clear,
            position,
        }
    }

    /// Whether it has stopped until a schema change is approved.
    fn awaits_decision(&self) -> bool {
        let failure = self.failure.as_ref().map(Error::kind);
        failure == Some(ErrorKind::SchemaChanged)
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

    pub(crate) fn fail(&mut self, error: Error) {
        self.table = None;
        self.pending = VecDeque::new();
        self.pending_bytes = 0;
        self.applying = 0;
        self.since = None;
        self.failure = Some(error);
    }
}

/// Gives a table an event, and tells where that begins a batch.
fn give(
    flow: &mut Flow,
    event: Event,
    on_drop: OnDrop,
    now: Instant,
    observer: &Arc<dyn Observer>,
) {
    let (was_idle, at) = (flow.since.is_none(), wall_time(&event));
    flow.take(event, on_drop, now);
    if was_idle && flow.since.is_some() {
        observer.gathering(&flow.namespace, at);
    }
}

/// What an event takes in memory.
fn bytes_of(event: &Event) -> usize {
    let EventKind::Change(change) = &event.kind else {
        return EVENT_BYTES;
    };
    let document = change.document.as_ref().map_or(0, bytes::Bytes::len);
    let before = change.before.as_ref().map_or(0, bytes::Bytes::len);
    EVENT_BYTES + change.key.len() + document + before
}

/// Why a table stops where its collection does.
fn stopped_by(event: &Event) -> Error {
    let what = match &event.kind {
        EventKind::Rename { to } => format!("the collection was renamed to {to}"),
        EventKind::DropDatabase => "the collection's database was dropped".to_owned(),
        _ => "the collection was dropped".to_owned(),
    };
    Error::new(ErrorKind::NotFound, what)
        .on("clusterTime", event.cluster_time)
        .remedy(
            "start again with --on-drop keep to keep the table's rows, or with --on-drop clear to \
             delete them; a collection that takes the name is then followed into the same table",
        )
}

/// A batch that has been applied, or has failed.
struct Outcome {
    namespace: Arc<Namespace>,
    table: Box<dyn ChangeTable>,
    /// Whether there was anything in it but a position.
    has_events: bool,
    result: Result<AppliedBatch>,
}

/// What is followed, and where to.
pub(crate) struct Ends<'a> {
    pub(crate) source: &'a Arc<dyn ChangeSource>,
    pub(crate) sink: &'a Arc<dyn ChangeSink>,
}

/// Follows the changes behind the least of the tables' positions.
///
/// `listed` is where the source stood when its collections were listed: an event of a collection
/// that has no table, behind it, tells of a new one.
pub(crate) async fn follow(
    Ends { source, sink }: Ends<'_>,
    flows: &mut HashMap<Namespace, Flow>,
    passed_over: &mut PassedOver,
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
    let stream = Arc::clone(source);
    let reader = tokio::spawn(read_on(
        move |from, out| {
            let source = Arc::clone(&stream);
            Box::pin(async move { source.follow(&from, out).await })
        },
        |_, _| {},
        start.clone(),
        out,
        Arc::clone(observer),
        options.until.is_none(),
    ));
    let (told, windows) = mpsc::channel(1);
    let watch = tokio::spawn(watch_history(Arc::clone(source), options.watch_every, told));
    let (outcomes, applied) = mpsc::unbounded_channel();
    let mut router = Router {
        sink,
        flows,
        passed_over,
        listed,
        options,
        observer,
        position: start.clone(),
        paces: VecDeque::new(),
        complete_to: ClusterTime::default(),
        outcomes,
        undecided: JoinSet::new(),
        ending: None,
    };
    router.ask_again();
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
    match read {
        Ok(()) => Ok(ended),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::HistoryLost | ErrorKind::OtherSource
            ) =>
        {
            Ok(Followed::Lost {
                moved: router.position.cluster_time > start.cluster_time,
                at: router.position,
                error,
            })
        }
        Err(error) => Err(error),
    }
}

struct Router<'a> {
    sink: &'a Arc<dyn ChangeSink>,
    flows: &'a mut HashMap<Namespace, Flow>,
    passed_over: &'a mut PassedOver,
    listed: &'a Position,
    options: &'a FollowOptions,
    observer: &'a Arc<dyn Observer>,
    /// How far the stream has been read.
    position: Position,
    /// What the source remembered when it was looked, and how far the last of the tables was.
    paces: VecDeque<(HistoryWindow, ClusterTime)>,
    /// The moment up to which all of it has been read.
    complete_to: ClusterTime,
    outcomes: mpsc::UnboundedSender<Outcome>,
    /// Waiting until the schema changes of stopped tables are decided.
    undecided: JoinSet<Namespace>,
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
            self.stop_due();
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
                Some(Ok(decided)) = self.undecided.join_next(), if self.ending.is_none() => {
                    self.ending = Some(Followed::Decided(decided));
                }
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
    /// remembers, or will be behind all of it soon at the pace of the last minutes.
    fn compare_with(&mut self, window: HistoryWindow) {
        self.observer.remembers(window);
        let seconds = |later: ClusterTime, earlier: ClusterTime| {
            Duration::from_secs(later.seconds().saturating_sub(earlier.seconds()).into())
        };
        let remembered = seconds(window.newest, window.oldest);
        let flows = self.flows.values();
        let flows = flows.filter(|flow| flow.failure.is_none() || flow.awaits_decision());
        let Some(last) = flows.min_by_key(|flow| flow.position.cluster_time) else {
            return;
        };
        let position = last.position.cluster_time;
        let behind = seconds(window.newest, position);
        let left = seconds(position, window.oldest).as_secs_f64();
        let will_be_lost = self.paces.front().is_some_and(|(earlier, then)| {
            // By the source's own clock: how much less is left than was.
            let took = seconds(window.newest, earlier.newest).as_secs_f64();
            let lost = seconds(*then, earlier.oldest).as_secs_f64() - left;
            lost > 0.0 && left * took < lost * WARNED_BEFORE.as_secs_f64()
        });
        // A source that has just been set up remembers little, and has forgotten nothing.
        let is_late = behind > self.options.heartbeat + NOT_YET_LATE;
        if is_late && (behind > remembered / 2 || will_be_lost) {
            self.observer
                .falling_behind(&last.namespace, behind, remembered);
        }
        self.paces.push_back((window, position));
        if self.paces.len() > PACE_OF {
            self.paces.pop_front();
        }
    }

    /// Whether everything that was to be reached is committed.
    fn is_done(&self) -> bool {
        let reached = self
            .options
            .until
            .is_some_and(|until| self.complete_to >= until);
        let have_failed = self.flows.values().all(|flow| flow.failure.is_some());
        reached || (have_failed && self.undecided.is_empty())
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
                self.position = last.position(&batch.position);
            }
        } else {
            self.position = batch.position;
            self.complete_to = self.complete_to.max(batch.complete_to);
            let read_to = match batch.events.last() {
                Some(last) => wall_time(last),
                None => batch.received,
            };
            self.observer.reached(&self.position, read_to);
        }
        let now = Instant::now();
        for event in batch.events {
            self.pass(event, now);
        }
    }

    /// Gives an event to the tables that it is for.
    fn pass(&mut self, event: Event, now: Instant) {
        if let Some(what) = description(&event.kind) {
            self.observer.happened(&event.namespace, &what);
        }
        let on_drop = self.options.on_drop;
        match &event.kind {
            EventKind::Invalidate => {}
            EventKind::Other(name) => {
                if self.passed_over.count(&event, name, &self.position) {
                    self.observer.passed_over(&event.namespace, name);
                }
            }
            EventKind::DropDatabase => {
                let database = event.namespace.database.clone();
                let flows = self.flows.values_mut();
                for flow in flows.filter(|flow| flow.namespace.database == database) {
                    give(flow, event.clone(), on_drop, now, self.observer);
                }
            }
            EventKind::Change(_) | EventKind::Drop | EventKind::Rename { .. } => {
                if let Some(flow) = self.flows.get_mut(event.namespace.as_ref()) {
                    let is_reduced =
                        matches!(&event.kind, EventKind::Change(change) if change.reduced);
                    let pending = flow.pending.len();
                    give(flow, event, on_drop, now, self.observer);
                    if is_reduced && flow.pending.len() > pending {
                        self.observer.happened(
                            &flow.namespace,
                            "a change was too large for an event: it comes without the document before it and \
                             what exactly was updated",
                        );
                    }
                }
            }
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

    /// Stops the tables that are to stop and have committed what came before.
    fn stop_due(&mut self) {
        for flow in self.flows.values_mut() {
            if flow.table.is_none() || !flow.pending.is_empty() {
                continue;
            }
            if let Some(error) = flow.stopping.take() {
                let error = error
                    .on("namespace", &flow.namespace)
                    .on("table", &flow.place);
                self.observer.failed(&flow.namespace, &error);
                flow.fail(error);
            }
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
                        || flow.stopping.is_some()
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
                let since = flow.since;
                let batch = flow.next_batch(&self.position, self.options.on_drop);
                if let Some(left) = flow.pending.front() {
                    self.observer.gathering(&flow.namespace, wall_time(left));
                }
                let gathered = Gathered {
                    batch,
                    bytes: flow.applying as u64,
                    time: since.map_or(Duration::ZERO, |since| since.elapsed()),
                };
                let apply = apply(
                    Arc::clone(&flow.namespace),
                    table,
                    gathered,
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
                if outcome.has_events {
                    flow.changes += batch.changes;
                    flow.applied += batch.applied;
                    self.observer.applied(&outcome.namespace, &batch);
                }
            }
            Err(error) => {
                let error = error.on("namespace", &outcome.namespace);
                self.observer.failed(&outcome.namespace, &error);
                flow.fail(error);
                if flow.awaits_decision() {
                    self.await_decision(outcome.namespace.as_ref().clone());
                }
            }
        }
    }

    /// Waits for the decisions of all tables that have stopped for one.
    fn ask_again(&mut self) {
        let stopped: Vec<Namespace> = self
            .flows
            .iter()
            .filter(|(_, flow)| flow.awaits_decision())
            .map(|(namespace, _)| namespace.clone())
            .collect();
        for namespace in stopped {
            self.await_decision(namespace);
        }
    }

    /// Waits for a decision, unless all is to end soon anyway.
    fn await_decision(&mut self, namespace: Namespace) {
        if self.options.until.is_some() {
            return;
        }
        let sink = Arc::clone(self.sink);
        self.undecided.spawn(async move {
            loop {
                tokio::time::sleep(ASK_EVERY).await;
                // A store that is away is asked again.
                if sink.may_go_on(&namespace).await.unwrap_or(false) {
                    return namespace;
                }
            }
        });
    }
}

/// Asks now and then how far back the source remembers.
async fn watch_history(
    source: Arc<dyn ChangeSource>,
    every: Duration,
    told: mpsc::Sender<HistoryWindow>,
) {
    loop {
        tokio::time::sleep(every).await;
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

/// A batch that is to be applied.
struct Gathered {
    batch: ChangeBatch,
    bytes: u64,
    /// How long it was gathered.
    time: Duration,
}

/// When an event happened, by the server's wall clock.
fn wall_time(event: &Event) -> SystemTime {
    let millis = u64::try_from(event.wall_time).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

/// Applies one batch, through as many transient failures as it takes: without end until
/// `patient_until`, where that is given.
async fn apply(
    namespace: Arc<Namespace>,
    mut table: Box<dyn ChangeTable>,
    gathered: Gathered,
    outcomes: mpsc::UnboundedSender<Outcome>,
    observer: Arc<dyn Observer>,
    patient_until: Option<CancellationToken>,
) {
    let Gathered { batch, bytes, time } = gathered;
    let begun = SystemTime::now();
    Failpoint::BatchBegun.hit();
    let mut backoff = Backoff::default();
    let result = loop {
        let error = match table.apply(&batch).await {
            Ok(applied) => break Ok(applied),
            Err(error) => error,
        };
        let patient = patient_until.as_ref().filter(|stop| !stop.is_cancelled());
        let Some(wait) = backoff.wait_after(&error, patient.is_some()) else {
            break Err(error);
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
    Failpoint::BatchApplied.hit();
    let made = |event: Option<&Event>| event.map_or(SystemTime::UNIX_EPOCH, wall_time);
    let result = result.map(|applied| AppliedBatch {
        changes: batch
            .changes
            .iter()
            .filter(|event| matches!(event.kind, EventKind::Change(_)))
            .count() as u64,
        bytes,
        applied,
        gathered: time,
        oldest: made(batch.changes.first()),
        changed: made(batch.changes.last()),
        begun,
        committed: SystemTime::now(),
    });
    // Nobody is left to hear of it only when the process ends.
    let _ = outcomes.send(Outcome {
        namespace,
        table,
        has_events: !batch.changes.is_empty(),
        result,
    });
}
