//! Following a source that forgets, whose clock jumps and whose collections go, all in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tributary_flow::{
    Applied, AppliedBatch, Change, ChangeBatch, ChangeSink, ChangeSource, ChangeTable,
    CollectionInfo, DocumentBatch, Event, EventBatch, EventKind, FollowOptions, HistoryWindow,
    Load, LoadOptions, LoadSink, LoadSummary, Loading, Observer, OnDrop, OnLostHistory, Opened,
    Partition, PartitionTotals, PartitionWriter, SnapshotSource, Sync, SyncReport, sync,
};
use tributary_model::{
    ClusterTime, Error, ErrorKind, Gap, GapRemedy, Namespace, Operation, Position, Result,
};

const HOUR: u32 = 3600;

fn name(collection: &str) -> Namespace {
    Namespace::new("db", collection)
}

fn time(seconds: u32) -> ClusterTime {
    ClusterTime::new(seconds, 1)
}

fn position(seconds: u32) -> Position {
    Position {
        resume_token: Some(format!("82{:016X}", time(seconds).0)),
        ..Position::at(time(seconds))
    }
}

fn event(seconds: u32, collection: &str, kind: EventKind) -> Event {
    Event {
        namespace: Arc::new(name(collection)),
        collection: None,
        token: position(seconds).resume_token.unwrap().into(),
        cluster_time: time(seconds),
        wall_time: i64::from(seconds) * 1000,
        kind,
    }
}

/// The document `key` has this content from a second on.
fn put(seconds: u32, collection: &str, key: &'static str, content: &'static str) -> Event {
    let change = Change {
        operation: Operation::Replace,
        key: Bytes::from_static(key.as_bytes()),
        document: Some(Bytes::from_static(content.as_bytes())),
        looked_up: false,
        before: None,
        update: None,
        reduced: false,
        transaction: None,
    };
    event(seconds, collection, EventKind::Change(change))
}

/// A deployment and the tables that follow it.
#[derive(Default)]
struct World {
    now: u32,
    oldest: u32,
    log: Vec<Event>,
    /// What is told of the oplog, one after the other; the last again and again.
    windows: VecDeque<HistoryWindow>,
    /// How often a stream is refused though the oplog seems to reach back, and what it forgets each
    /// time.
    refusals: u32,
    forgets: u32,
    /// How often the stream was begun.
    begun: u32,
    tables: BTreeMap<Namespace, Table>,
    /// The collections that are there, with their documents.
    collections: BTreeMap<Namespace, BTreeMap<String, String>>,
    loads: u32,
    gaps: Vec<(Namespace, Gap)>,
    warned: Vec<(Namespace, Duration, Duration)>,
    applied: Vec<AppliedBatch>,
}

/// What is durable of a table.
#[derive(Debug, Clone, Default)]
struct Table {
    position: u32,
    rows: BTreeMap<String, String>,
    ends: Vec<String>,
    gaps: Vec<Gap>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    fn look<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    fn table(&self, collection: &str) -> Table {
        self.look(|world| world.tables[&name(collection)].clone())
    }
}

#[async_trait]
impl SnapshotSource for Shared {
    fn address(&self) -> String {
        "memory".to_owned()
    }

    async fn collections(&self) -> Result<Vec<CollectionInfo>> {
        let names: Vec<Namespace> = self.look(|world| world.collections.keys().cloned().collect());
        let info = |namespace| CollectionInfo {
            namespace,
            kind: tributary_flow::CollectionKind::Collection,
            uuid: None,
            documents: None,
            bytes: None,
        };
        Ok(names.into_iter().map(info).collect())
    }

    async fn plan(&self, _: &CollectionInfo, _: usize) -> Result<Vec<Partition>> {
        Ok(Vec::new())
    }

    async fn read(
        &self,
        _: &CollectionInfo,
        _: &Partition,
        _: Option<&tributary_flow::Bookmark>,
        _: mpsc::Sender<DocumentBatch>,
    ) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl ChangeSource for Shared {
    async fn now(&self) -> Result<Position> {
        Ok(Position::at(self.look(|world| time(world.now))))
    }

    async fn follow(&self, from: &Position, out: mpsc::Sender<EventBatch>) -> Result<()> {
        let refused = self.look(|world| {
            world.begun += 1;
            if world.refusals > 0 {
                world.refusals -= 1;
                world.oldest += world.forgets;
                return true;
            }
            from.cluster_time < time(world.oldest)
        });
        if refused {
            return Err(Error::new(
                ErrorKind::HistoryLost,
                "cannot read the changes",
            ));
        }
        let mut reached = from.clone();
        loop {
            let batch = self.look(|world| {
                let is_new = |e: &&Event| !reached.has_passed(e.token(), e.cluster_time);
                let events: Vec<Event> = world.log.iter().filter(is_new).cloned().collect();
                EventBatch {
                    events,
                    position: position(world.now),
                    complete_to: time(world.now),
                    bytes: 0,
                    received: SystemTime::now(),
                }
            });
            reached = batch.position.clone();
            if out.send(batch).await.is_err() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn selects(&self, _: &Namespace) -> bool {
        true
    }

    async fn window(&self) -> Result<Option<HistoryWindow>> {
        Ok(self.look(|world| match world.windows.len() {
            0 => None,
            1 => world.windows.front().copied(),
            _ => world.windows.pop_front(),
        }))
    }
}

#[async_trait]
impl ChangeSink for Shared {
    async fn open(&self, collection: &Namespace) -> Result<Option<Box<dyn ChangeTable>>> {
        let is_there = self.look(|world| world.tables.contains_key(collection));
        let table = OpenTable(self.clone(), collection.clone());
        Ok(is_there.then(|| Box::new(table) as Box<dyn ChangeTable>))
    }

    async fn may_go_on(&self, _: &Namespace) -> Result<bool> {
        Ok(false)
    }

    async fn tables(&self) -> Result<Vec<Namespace>> {
        Ok(self.look(|world| world.tables.keys().cloned().collect()))
    }
}

struct OpenTable(Shared, Namespace);

impl OpenTable {
    fn with<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        self.0
            .look(|world| change(world.tables.get_mut(&self.1).unwrap()))
    }
}

#[async_trait]
impl ChangeTable for OpenTable {
    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn position(&self) -> Position {
        position(self.with(|table| table.position))
    }

    async fn apply(&mut self, batch: &ChangeBatch) -> Result<Applied> {
        self.with(|table| {
            for event in &batch.changes {
                match &event.kind {
                    EventKind::Change(change) => {
                        let text = |b: &Bytes| String::from_utf8(b.to_vec()).unwrap();
                        let document = change.document.as_ref().unwrap();
                        table.rows.insert(text(&change.key), text(document));
                    }
                    _ => table.ends.push(event.name().to_owned()),
                }
            }
            if batch.clears {
                table.rows.clear();
            }
            table.position = batch.position.cluster_time.seconds();
        });
        Ok(Applied::default())
    }

    async fn skip(&mut self, from: &Position, to: &Position, remedy: GapRemedy) -> Result<()> {
        self.with(|table| {
            if table.position < to.cluster_time.seconds() {
                let from = from.cluster_time.max(time(table.position));
                let to = to.cluster_time;
                table.gaps.push(Gap { from, to, remedy });
                table.position = to.seconds();
            }
        });
        Ok(())
    }

    fn gaps(&self) -> Vec<Gap> {
        self.with(|table| table.gaps.clone())
    }
}

/// Loads a collection as it is, in one step.
struct Loads(Shared, Loading);

struct OneLoad(Shared, Loading, Namespace);

#[async_trait]
impl LoadSink for Loads {
    async fn open(&self, _: &str, collection: &CollectionInfo) -> Result<Opened> {
        let load = OneLoad(self.0.clone(), self.1.clone(), collection.namespace.clone());
        Ok(Opened::Fresh(Box::new(load)))
    }
}

#[async_trait]
impl Load for OneLoad {
    async fn plan(&self, _: &[Partition]) -> Result<()> {
        Ok(())
    }

    fn finished(&self, _: &Partition) -> Option<PartitionTotals> {
        None
    }

    async fn writer(&self, _: &Partition) -> Result<Box<dyn PartitionWriter>> {
        Err(Error::new(ErrorKind::Internal, "there are no partitions"))
    }

    async fn commit(&self) -> Result<LoadSummary> {
        let Self(world, loading, namespace) = self;
        world.look(|world| {
            world.loads += 1;
            let table = world.tables.entry(namespace.clone()).or_default();
            table.rows = world.collections[namespace].clone();
            let to = loading.position.cluster_time;
            table.position = to.seconds();
            if let Some(&from) = loading.lacking.get(namespace) {
                let remedy = GapRemedy::Reloaded;
                table.gaps.push(Gap { from, to, remedy });
            }
            // Time goes by while it is loaded.
            world.now += world.forgets;
            world.oldest += world.forgets;
        });
        Ok(LoadSummary {
            totals: PartitionTotals::default(),
            table: "memory".to_owned(),
            files: 0,
            file_bytes: 0,
            rewritten_bytes: 0,
        })
    }
}

struct Told(Shared);

impl Observer for Told {
    fn lacks(&self, namespace: &Namespace, gap: &Gap) {
        self.0
            .look(|world| world.gaps.push((namespace.clone(), *gap)));
    }

    fn falling_behind(&self, namespace: &Namespace, behind: Duration, remembered: Duration) {
        let warning = (namespace.clone(), behind, remembered);
        self.0.look(|world| world.warned.push(warning));
    }

    fn applied(&self, _: &Namespace, batch: &AppliedBatch) {
        self.0.look(|world| world.applied.push(*batch));
    }
}

/// A world at this second, with tables that have got to others.
fn world(now: u32, tables: &[(&str, u32)]) -> Shared {
    let world = Shared::default();
    world.look(|world| {
        world.now = now;
        for (collection, position) in tables {
            let table = Table {
                position: *position,
                ..Table::default()
            };
            world.tables.insert(name(collection), table);
        }
    });
    world
}

struct Choices {
    once: bool,
    lost: OnLostHistory,
    follow: FollowOptions,
}

impl Default for Choices {
    fn default() -> Self {
        Self {
            once: true,
            lost: OnLostHistory::default(),
            follow: FollowOptions::default(),
        }
    }
}

async fn run(world: &Shared, choices: Choices, stop: &CancellationToken) -> SyncReport {
    let loads = |loading: Loading| -> Arc<dyn LoadSink> { Arc::new(Loads(world.clone(), loading)) };
    let sync = sync(
        Sync {
            snapshots: Arc::new(world.clone()),
            changes: Arc::new(world.clone()),
            loads: &loads,
            sink: Arc::new(world.clone()),
            observer: Arc::new(Told(world.clone())),
            load: LoadOptions { parallel: 1 },
            follow: choices.follow,
            once: choices.once,
            on_lost_history: choices.lost,
        },
        stop.clone(),
    );
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, sync).await.unwrap().unwrap()
}

async fn once(world: &Shared, lost: OnLostHistory) -> SyncReport {
    let choices = Choices {
        lost,
        ..Choices::default()
    };
    run(world, choices, &CancellationToken::new()).await
}

fn window(oldest: u32, newest: u32) -> HistoryWindow {
    HistoryWindow {
        oldest: time(oldest),
        newest: time(newest),
    }
}

/// What is warned of first while the oplog has these windows and a table does not move.
async fn first_warning(windows: &[HistoryWindow], table: u32) -> (Duration, Duration) {
    let world = world(table, &[("c", table)]);
    // One look is taken at the beginning.
    let first = windows[0];
    world.look(|world| {
        world.windows.push_back(first);
        world.windows.extend(windows);
    });
    let stop = CancellationToken::new();
    let choices = Choices {
        once: false,
        follow: FollowOptions {
            watch_every: Duration::from_millis(2),
            ..FollowOptions::default()
        },
        ..Choices::default()
    };
    let watched = async {
        while world.look(|world| world.warned.is_empty()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.cancel();
    };
    tokio::join!(run(&world, choices, &stop), watched);
    world.look(|world| {
        let (namespace, behind, remembered) = world.warned[0].clone();
        assert_eq!(namespace, name("c"));
        (behind, remembered)
    })
}

fn hours(behind: u32, remembered: u32) -> (Duration, Duration) {
    let hours = |n: u32| Duration::from_secs((n * HOUR).into());
    (hours(behind), hours(remembered))
}

#[tokio::test]
async fn a_table_that_falls_behind_half_of_what_is_remembered_is_warned_of() {
    let table = 100 * HOUR;
    // Ten hours are remembered, and all goes on at the same pace.
    let windows: Vec<_> = (1..=8)
        .map(|behind| window(table + behind * HOUR - 10 * HOUR, table + behind * HOUR))
        .collect();
    assert_eq!(first_warning(&windows, table).await, hours(6, 10));
}

#[tokio::test]
async fn a_table_whose_changes_will_soon_be_forgotten_is_warned_of_before() {
    let table = 100 * HOUR;
    let at = |minutes: u32, remembered: u32| {
        let newest = table + 2 * HOUR + minutes * 60;
        window(newest - remembered, newest)
    };
    // Steady, then a bulk load rolls over an hour of the oplog in a minute, twice.
    let windows = [
        at(0, 10 * HOUR),
        at(1, 10 * HOUR),
        at(2, 10 * HOUR),
        at(3, 9 * HOUR),
        at(4, 8 * HOUR),
    ];
    let (behind, remembered) = first_warning(&windows, table).await;
    assert_eq!(remembered, Duration::from_secs((9 * HOUR).into()));
    assert!(behind < remembered / 2);
}

#[tokio::test]
async fn a_loss_is_accepted_from_the_oldest_moment_on() {
    let world = world(1000, &[("c", 100), ("ahead", 900)]);
    world.look(|world| {
        world.oldest = 500;
        world.windows.push_back(window(500, 1000));
        world.log = vec![
            put(200, "c", "lost", "x"),
            put(600, "c", "kept", "x"),
            put(950, "ahead", "kept", "x"),
        ];
    });
    let report = once(&world, OnLostHistory::Accept).await;
    assert!(report.collections.iter().all(|c| c.failure.is_none()));
    let gap = Gap {
        from: time(100),
        to: time(500),
        remedy: GapRemedy::Accepted,
    };
    let table = world.table("c");
    assert_eq!(table.gaps, [gap]);
    assert_eq!(table.rows.keys().collect::<Vec<_>>(), ["kept"]);
    assert!(world.table("ahead").gaps.is_empty());
    assert_eq!(world.table("ahead").rows.len(), 1);
    assert_eq!(world.look(|world| world.gaps.clone()), [(name("c"), gap)]);
    assert_eq!(report.collections[1].gaps, [gap]);
}

#[tokio::test]
async fn what_is_forgotten_before_the_stream_is_opened_is_accepted_too() {
    let world = world(1000, &[("c", 100)]);
    world.look(|world| {
        world.oldest = 500;
        world.refusals = 2;
        world.forgets = 100;
        world
            .windows
            .extend([500, 600, 700, 800].map(|oldest| window(oldest, 1000)));
        world.log = vec![put(950, "c", "kept", "x")];
    });
    let report = once(&world, OnLostHistory::Accept).await;
    assert!(report.collections[0].failure.is_none());
    let table = world.table("c");
    assert_eq!(table.rows.len(), 1);
    assert_eq!(table.gaps.first().unwrap().from, time(100));
    assert!(table.gaps.windows(2).all(|two| two[0].to == two[1].from));
    assert!(table.gaps.last().unwrap().to >= time(700));
}

#[tokio::test]
async fn a_source_that_does_not_tell_how_far_it_remembers_is_followed_from_its_present() {
    let world = world(1000, &[("c", 100), ("ahead", 900)]);
    world.look(|world| {
        world.oldest = 500;
        world.log = vec![put(950, "ahead", "kept", "x")];
    });
    let report = once(&world, OnLostHistory::Accept).await;
    assert!(report.collections.iter().all(|c| c.failure.is_none()));
    assert_eq!(world.table("c").gaps[0].to, time(1000));
    assert_eq!(world.table("ahead").rows.len(), 1);
    assert!(world.table("ahead").gaps.is_empty());
}

#[tokio::test]
async fn a_source_that_never_goes_on_is_given_up() {
    let world = world(1000, &[("c", 100)]);
    world.look(|world| world.refusals = u32::MAX);
    let report = once(&world, OnLostHistory::Accept).await;
    let failure = report.collections[0].failure.as_ref().unwrap();
    assert_eq!(failure.kind(), ErrorKind::HistoryLost);
    assert!(world.look(|world| world.begun) < 20);
}

#[tokio::test]
async fn a_lost_table_stops_alone_where_nothing_else_was_chosen() {
    // Who may not see the oplog learns it from the stream.
    for knows in [true, false] {
        let world = world(1000, &[("c", 100), ("later", 200), ("ahead", 900)]);
        world.look(|world| {
            world.oldest = 500;
            if knows {
                world.windows.push_back(window(500, 1000));
            }
            world.log = vec![put(950, "ahead", "kept", "x")];
        });
        let report = once(&world, OnLostHistory::Fail).await;
        for outcome in report.collections {
            match outcome.namespace.collection.as_str() {
                "ahead" => assert!(outcome.failure.is_none()),
                _ => {
                    let failure = outcome.failure.unwrap();
                    assert_eq!(failure.kind(), ErrorKind::HistoryLost);
                    let told = failure.to_string();
                    assert!(told.contains("--on-lost-history reload"), "{told}");
                }
            }
        }
        assert_eq!(world.table("ahead").rows.len(), 1);
        assert_eq!(world.table("c").position, 100);
    }
}

#[tokio::test]
async fn a_reload_records_from_when_on_changes_are_missing() {
    let world = world(1000, &[("c", 100), ("gone", 100)]);
    world.look(|world| {
        world.oldest = 500;
        world.windows.push_back(window(500, 1000));
        let documents = BTreeMap::from([("now".to_owned(), "x".to_owned())]);
        world.collections.insert(name("c"), documents);
    });
    once(&world, OnLostHistory::Reload).await;
    let table = world.table("c");
    let gap = Gap {
        from: time(100),
        to: time(1000),
        remedy: GapRemedy::Reloaded,
    };
    assert_eq!(table.gaps, [gap]);
    assert_eq!(table.rows.len(), 1);
    // There is nothing to load of a collection that is gone.
    assert_eq!(world.table("gone").gaps[0].remedy, GapRemedy::Accepted);
    let told = world.look(|world| world.gaps.clone());
    assert!(told.contains(&(name("c"), gap)), "{told:?}");
}

#[tokio::test]
async fn a_collection_that_loads_longer_than_the_source_remembers_is_given_up() {
    let world = world(1000, &[("c", 100)]);
    world.look(|world| {
        world.oldest = 900;
        world.forgets = 200;
        world.collections.insert(name("c"), BTreeMap::new());
    });
    let report = once(&world, OnLostHistory::Reload).await;
    assert!(report.collections[0].failure.is_some());
    assert!(world.look(|world| world.loads) <= 5);
}

#[tokio::test]
async fn clocks_that_are_ahead_behind_or_jump_lose_nothing() {
    let far = u32::MAX - 10;
    let world = world(far, &[("c", 100)]);
    world.look(|world| {
        world.windows.push_back(window(50, far));
        let walls = [0, -1, i64::MIN, i64::MAX, i64::from(far) * 1000];
        for (at, wall) in (0..).zip(walls) {
            for seconds in [101 + at, far - 20 + at] {
                let key = [["a", "b", "c", "d", "e"], ["A", "B", "C", "D", "E"]]
                    [usize::from(seconds > 1000)][at as usize];
                let mut event = put(seconds, "c", key, "x");
                event.wall_time = wall;
                world.log.push(event);
            }
        }
        world.log.sort_by_key(|event| event.cluster_time);
    });
    let mut report = once(&world, OnLostHistory::Fail).await;
    assert!(report.collections.remove(0).failure.is_none());
    assert_eq!(world.table("c").rows.len(), 10);
    // Times that lie ahead are told as they are.
    let last = world.look(|world| *world.applied.last().unwrap());
    assert!(last.changed > last.committed);
}

#[tokio::test]
async fn a_drop_stands_between_what_is_before_and_behind_it() {
    for (on_drop, rows, ends) in [
        (OnDrop::Keep, vec!["after", "before"], 1),
        (OnDrop::Clear, vec!["after"], 1),
        (OnDrop::Stop, vec!["before"], 0),
    ] {
        let world = world(1000, &[("c", 100), ("other", 100)]);
        world.look(|world| {
            world.log = vec![
                put(200, "c", "before", "x"),
                event(300, "c", EventKind::Drop),
                put(400, "c", "after", "x"),
                put(400, "other", "kept", "x"),
            ];
        });
        let choices = || Choices {
            follow: FollowOptions {
                on_drop,
                ..FollowOptions::default()
            },
            ..Choices::default()
        };
        let stop = CancellationToken::new();
        // Once more changes nothing.
        for _ in 0..2 {
            let report = run(&world, choices(), &stop).await;
            let table = world.table("c");
            assert_eq!(table.rows.keys().collect::<Vec<_>>(), rows, "{on_drop:?}");
            assert_eq!(table.ends.len(), ends, "{on_drop:?}");
            assert_eq!(world.table("other").rows.len(), 1);
            let failure = &report.collections[0].failure;
            match on_drop {
                OnDrop::Stop => {
                    assert!(failure.is_some());
                    assert!(table.position < 300);
                }
                _ => assert!(failure.is_none(), "{failure:?}"),
            }
        }
    }
}
