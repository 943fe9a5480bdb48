//! A source, a ledger and a processor in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bson::{doc, rawdoc};
use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tributary_flow::{
    DeadLetter, EventSource, FunctionRun, HistoryWindow, Progress, RawEvent, RawEvents, StartAt,
    TriggerLedger, TriggerRecord, TriggerState, Watch,
};
use tributary_model::{ClusterTime, Error, ErrorKind, Position, Result};

use crate::script::{Failure, FailureKind, Outcome};
use crate::trigger::{Host, Occasion, Policy, Processor, Selection, Task, Trigger, Written};

/// How long something is waited for that is to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until it is so.
pub(super) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "it never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A deployment whose events are a list.
#[derive(Default)]
pub(super) struct FakeSource {
    events: Mutex<Vec<RawEvent>>,
    more: Notify,
    /// How often it was followed, and from where.
    pub(super) followed: Mutex<Vec<(Watch, Position)>>,
    /// What following it fails with, once each.
    pub(super) fails: Mutex<Vec<Error>>,
    /// What happened before this has been forgotten.
    pub(super) oldest: Mutex<Option<ClusterTime>>,
    /// Whether nobody may watch more than one database, or more than one collection.
    pub(super) reserve: Mutex<Reserve>,
}

/// Of what a source lets nobody watch more than one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Reserve {
    #[default]
    None,
    Database,
    Collection,
}

impl FakeSource {
    pub(super) fn happens(&self, operation: &str, database: &str, collection: &str, id: i32) {
        let mut events = self.events.lock().unwrap();
        let number = events.len() as u32 + 1;
        let token = format!("82{number:08}");
        let event = rawdoc! {
            "_id": { "_data": token.as_str() },
            "operationType": operation,
            "ns": { "db": database, "coll": collection },
            "documentKey": { "_id": id },
        };
        events.push(RawEvent {
            token,
            cluster_time: ClusterTime::new(1_000 + number, 1),
            wall_time: 1_700_000_000_000,
            operation: operation.to_owned(),
            database: database.to_owned(),
            collection: Some(collection.to_owned()),
            document: Bytes::from(event.into_bytes()),
            is_reduced: false,
        });
        drop(events);
        self.more.notify_waiters();
    }

    pub(super) fn inserts(&self, ids: std::ops::Range<i32>) {
        for id in ids {
            self.happens("insert", "shop", "orders", id);
        }
    }

    /// How large an event is that [`inserts`](Self::inserts) makes.
    pub(super) fn event_bytes() -> usize {
        let source = Self::default();
        source.inserts(0..1);
        let events = source.events.lock().unwrap();
        events[0].document.len()
    }

    fn last(&self) -> Position {
        let events = self.events.lock().unwrap();
        let time = events
            .last()
            .map_or(ClusterTime::new(1_000, 1), |event| event.cluster_time);
        Position::at(time)
    }
}

#[async_trait]
impl EventSource for FakeSource {
    fn place(&self) -> &str {
        "nowhere"
    }

    async fn now(&self) -> Result<Position> {
        let mut last = self.last();
        last.cluster_time.0 += 1;
        Ok(last)
    }

    async fn follow(
        &self,
        watch: &Watch,
        from: &Position,
        out: mpsc::Sender<RawEvents>,
    ) -> Result<()> {
        self.followed
            .lock()
            .unwrap()
            .push((watch.clone(), from.clone()));
        if let Some(error) = self.fails.lock().unwrap().pop() {
            return Err(error);
        }
        let forbidden = match *self.reserve.lock().unwrap() {
            Reserve::None => false,
            Reserve::Database => watch.database.is_none(),
            Reserve::Collection => watch.collection.is_none(),
        };
        if forbidden {
            return Err(Error::new(ErrorKind::Forbidden, "not authorized"));
        }
        if (*self.oldest.lock().unwrap()).is_some_and(|oldest| from.cluster_time < oldest) {
            return Err(lost_history());
        }
        let mut next = {
            let events = self.events.lock().unwrap();
            let passed = |event: &RawEvent| from.has_passed(&event.token, event.cluster_time);
            events.iter().take_while(|event| passed(event)).count()
        };
        let mut position = from.clone();
        loop {
            let more = self.more.notified();
            let (events, present): (Vec<RawEvent>, _) = {
                let all = self.events.lock().unwrap();
                let present = all.last().map(|event| event.cluster_time);
                (all.iter().skip(next).take(7).cloned().collect(), present)
            };
            next += events.len();
            if let Some(last) = events.last() {
                position.cluster_time = last.cluster_time;
                position.resume_token = Some(last.token.clone());
            }
            let is_idle = events.is_empty();
            let batch = RawEvents {
                events,
                position: position.clone(),
                complete_to: position.cluster_time,
                present: present.unwrap_or_default(),
                bytes: 0,
                received: SystemTime::now(),
            };
            if out.send(batch).await.is_err() {
                return Ok(());
            }
            if is_idle {
                tokio::select! {
                    () = more => {}
                    () = out.closed() => return Ok(()),
                    () = tokio::time::sleep(Duration::from_millis(50)) => {}
                }
            }
        }
    }

    async fn window(&self) -> Result<Option<HistoryWindow>> {
        let oldest = *self.oldest.lock().unwrap();
        Ok(oldest.map(|oldest| HistoryWindow {
            oldest,
            newest: self.last().cluster_time,
        }))
    }
}

/// A ledger in memory, which outlives hosts.
#[derive(Default)]
pub(super) struct FakeLedger {
    pub(super) records: Mutex<BTreeMap<String, TriggerRecord>>,
    pub(super) letters: Mutex<Vec<(DeadLetter, bool)>>,
    pub(super) runs: Mutex<Vec<FunctionRun>>,
    pub(super) counts: Mutex<HashMap<String, (u64, u64)>>,
    pub(super) advances: AtomicUsize,
}

impl FakeLedger {
    pub(super) fn record(&self, trigger: &str) -> TriggerRecord {
        let records = self.records.lock().unwrap();
        records.get(trigger).cloned().unwrap_or_default()
    }

    /// What somebody asks of a trigger.
    pub(super) fn ask(&self, trigger: &str, state: TriggerState, from: Option<StartAt>) {
        let mut records = self.records.lock().unwrap();
        let record = records.entry(trigger.to_owned()).or_default();
        record.state = state;
        record.from = from.or(record.from);
        record.revision += 1;
    }

    /// That a dead letter is to be tried again.
    pub(super) fn ask_replay(&self, trigger: &str) {
        for (letter, asked) in &mut *self.letters.lock().unwrap() {
            *asked |= letter.trigger == trigger;
        }
        let mut records = self.records.lock().unwrap();
        records.entry(trigger.to_owned()).or_default().revision += 1;
    }

    pub(super) fn is_suspended(&self, trigger: &str) -> Option<String> {
        match self.record(trigger).state {
            TriggerState::Suspended { reason } => Some(reason),
            _ => None,
        }
    }
}

#[async_trait]
impl TriggerLedger for FakeLedger {
    async fn load(&self, trigger: &str) -> Result<TriggerRecord> {
        Ok(self.record(trigger))
    }

    async fn revisions(&self) -> Result<Vec<(String, u64)>> {
        let records = self.records.lock().unwrap();
        let revisions = records
            .iter()
            .map(|(name, record)| (name.clone(), record.revision));
        Ok(revisions.collect())
    }

    async fn advance(&self, trigger: &str, progress: Progress) -> Result<()> {
        let mut records = self.records.lock().unwrap();
        let record = records.entry(trigger.to_owned()).or_default();
        if progress.revision == record.revision {
            record.position = progress.position;
            record.head = progress.head;
            record.unfinished = progress.unfinished;
            record.passed_to = progress.passed_to;
            record.from = None;
        }
        let mut counts = self.counts.lock().unwrap();
        let counts = counts.entry(trigger.to_owned()).or_default();
        counts.0 += progress.succeeded;
        counts.1 += progress.failed;
        let letters = progress.dead.into_iter().map(|letter| (letter, false));
        self.letters.lock().unwrap().extend(letters);
        self.runs.lock().unwrap().extend(progress.runs);
        self.advances.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn set_state(
        &self,
        trigger: &str,
        revision: u64,
        state: TriggerState,
        from: Option<StartAt>,
    ) -> Result<()> {
        let mut records = self.records.lock().unwrap();
        let record = records.entry(trigger.to_owned()).or_default();
        if record.revision <= revision {
            record.state = state;
            record.from = record.from.or(from);
        }
        Ok(())
    }

    async fn to_replay(&self, trigger: &str) -> Result<Vec<DeadLetter>> {
        let letters = self.letters.lock().unwrap();
        let asked = letters
            .iter()
            .filter(|(letter, asked)| *asked && letter.trigger == trigger);
        Ok(asked.map(|(letter, _)| letter.clone()).collect())
    }

    async fn replayed(&self, letter: &str, error: Option<String>, run: FunctionRun) -> Result<()> {
        let mut letters = self.letters.lock().unwrap();
        match error {
            None => letters.retain(|(one, _)| one.id != letter),
            Some(error) => {
                for (one, asked) in letters.iter_mut().filter(|(one, _)| one.id == letter) {
                    one.attempts += 1;
                    one.error.clone_from(&error);
                    *asked = false;
                }
            }
        }
        self.runs.lock().unwrap().push(run);
        Ok(())
    }

    async fn record(&self, runs: Vec<FunctionRun>) -> Result<()> {
        self.runs.lock().unwrap().extend(runs);
        Ok(())
    }
}

/// What a run of an event does.
pub(super) type Does = Box<dyn Fn(i32) -> Done + Send + Sync>;

/// What came of it.
pub(super) enum Done {
    Well,
    /// It takes so long, and is well then.
    After(Duration),
    /// It never ends.
    Never,
    Fails(FailureKind),
    /// It takes a while, and where others run meanwhile one of two runs out of memory and the other is lost.
    NeedsAll,
}

/// Runs that do as they are told, and the keys of the events that they were for, in order of their ends.
pub(super) struct FakeProcessor {
    does: Does,
    pub(super) ran: Mutex<Vec<i32>>,
    pub(super) begun: Mutex<Vec<i32>>,
    pub(super) running: AtomicUsize,
    pub(super) most: AtomicUsize,
    /// What every run is seen to write.
    pub(super) writes: Mutex<Vec<Written>>,
}

impl FakeProcessor {
    pub(super) fn new(does: impl Fn(i32) -> Done + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            does: Box::new(does),
            ran: Mutex::default(),
            begun: Mutex::default(),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            writes: Mutex::default(),
        })
    }

    pub(super) fn well() -> Arc<Self> {
        Self::new(|_| Done::Well)
    }

    pub(super) fn ran(&self) -> Vec<i32> {
        self.ran.lock().unwrap().clone()
    }
}

#[async_trait]
impl Processor for FakeProcessor {
    async fn run(&self, task: Task) -> Outcome {
        let arguments: bson::Document = bson::deserialize_from_slice(&task.arguments).unwrap();
        let id = match arguments.get_array("v").unwrap().first() {
            Some(event) => event
                .as_document()
                .unwrap()
                .get_document("documentKey")
                .unwrap()
                .get_i32("_id")
                .unwrap(),
            None => -1,
        };
        self.begun.lock().unwrap().push(id);
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        let kind = match (self.does)(id) {
            Done::Well => None,
            Done::After(duration) => {
                tokio::time::sleep(duration).await;
                None
            }
            Done::Never => std::future::pending().await,
            Done::Fails(kind) => Some(kind),
            Done::NeedsAll => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let now = self.running.load(Ordering::SeqCst);
                let kind = match id % 2 {
                    0 => FailureKind::OutOfMemory,
                    _ => FailureKind::Lost,
                };
                (running.max(now) > 1).then_some(kind)
            }
        };
        self.running.fetch_sub(1, Ordering::SeqCst);
        let result = match kind {
            None => {
                self.ran.lock().unwrap().push(id);
                Ok(Bytes::from(bson::serialize_to_vec(&doc! {}).unwrap()))
            }
            Some(kind) => Err(Failure {
                kind,
                name: "Error".to_owned(),
                message: format!("it fails for {id}"),
                place: None,
                stack: None,
            }),
        };
        Outcome {
            result,
            console: Vec::new(),
            duration: Duration::from_millis(1),
        }
    }

    async fn run_in_order(&self, tasks: Vec<Task>) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for task in tasks {
            let outcome = self.run(task).await;
            let failed = outcome.result.is_err();
            outcomes.push(outcome);
            if failed {
                break;
            }
        }
        outcomes
    }

    fn written(&self, _run: u64) -> Vec<Written> {
        self.writes.lock().unwrap().clone()
    }
}

/// All that a test is about.
pub(super) struct World {
    pub(super) source: Arc<FakeSource>,
    pub(super) ledger: Arc<FakeLedger>,
    pub(super) host: Arc<Host>,
}

impl World {
    pub(super) fn new() -> Self {
        let ledger = Arc::new(FakeLedger::default());
        Self {
            source: Arc::default(),
            host: Host::new(ledger.clone()),
            ledger,
        }
    }

    /// Another process, where the first was killed: nothing of it was recorded at its end.
    pub(super) fn killed(self) -> Self {
        Self {
            source: Arc::clone(&self.source),
            host: Host::new(self.ledger.clone()),
            ledger: Arc::clone(&self.ledger),
        }
    }

    /// A trigger for inserts into shop.orders.
    pub(super) fn trigger(&self, name: &str, processor: Arc<FakeProcessor>) -> Trigger {
        Trigger {
            name: name.to_owned(),
            app: "app".to_owned(),
            function: "does".to_owned(),
            occasion: Occasion::Change {
                source: self.source.clone(),
                source_name: "shop".to_owned(),
                selection: selection(),
            },
            processor,
            policy: Policy {
                retries: 2,
                wait: Duration::from_millis(1),
                ..Policy::default()
            },
            is_disabled: false,
            fingerprint: 0,
        }
    }

    /// That a trigger has begun: what happens from now on is its.
    pub(super) async fn begins(&self, name: &str) {
        until("it begins", || self.ledger.record(name).position.is_some()).await;
    }

    /// That a trigger has recorded all that has happened.
    pub(super) async fn is_through(&self, name: &str) {
        let last = self.source.last();
        until("all is recorded", || {
            let record = self.ledger.record(name);
            record.unfinished.is_empty()
                && record
                    .position
                    .is_some_and(|position| position.cluster_time >= last.cluster_time)
        })
        .await;
    }
}

pub(super) fn selection() -> Selection {
    Selection {
        database: Some("shop".to_owned()),
        collection: Some("orders".to_owned()),
        operations: vec!["insert".to_owned()],
        ..Selection::default()
    }
}

/// The same trigger with another selection.
pub(super) fn selecting(mut trigger: Trigger, change: impl FnOnce(&mut Selection)) -> Trigger {
    if let Occasion::Change { selection, .. } = &mut trigger.occasion {
        change(selection);
    }
    trigger
}

pub(super) fn lost_history() -> Error {
    Error::new(ErrorKind::HistoryLost, "the source has forgotten")
}
