//! Tables under changes and upkeep at once, compared with a map of what they should hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, doc};
use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;
use tributary_convert::Key;
use tributary_flow::{Change, ChangeBatch, ChangeTable, Event, EventKind};
use tributary_model::{ClusterTime, Namespace, Operation, Position, TableSchema};

use super::table::FollowedTable;
use super::upkeep::names_of;
use super::{SyncOptions, SyncSink, UpkeepOptions};
use crate::delta::follow::LiveTable;
use crate::delta::table;
use crate::location::Location;
use crate::sql::{Lake, QueryOutput};

/// What a table should hold: the value of each key.
type Model = BTreeMap<i32, Bson>;

fn position(time: u32) -> Position {
    Position {
        cluster_time: ClusterTime::new(time, 1),
        resume_token: Some(format!("82{time:08X}")),
    }
}

fn name() -> Namespace {
    Namespace::new("db", "c")
}

fn bytes(document: &bson::Document) -> Bytes {
    document.to_vec().unwrap().into()
}

/// A change of one key: to a value, or none to delete it.
fn event(time: u32, key: i32, value: Option<&Bson>) -> Event {
    let change = Change {
        operation: match value {
            Some(_) => Operation::Replace,
            None => Operation::Delete,
        },
        key: bytes(&doc! { "_id": key }),
        document: value.map(|value| bytes(&doc! { "_id": key, "v": value.clone() })),
        looked_up: false,
        before: None,
        update: None,
        transaction: None,
    };
    Event {
        namespace: Arc::new(name()),
        collection: None,
        token: format!("82{time:08X}").into(),
        cluster_time: ClusterTime::new(time, 1),
        wall_time: 0,
        kind: EventKind::Change(change),
    }
}

/// One lake with one table, and what it should hold.
struct World {
    directory: TempDir,
    options: SyncOptions,
    table: Option<FollowedTable>,
    model: Model,
    time: u32,
    /// Whether the log has the token of the position.
    position_is_kept: bool,
}

/// Everything is due all the time.
fn eager() -> UpkeepOptions {
    UpkeepOptions {
        join_files: 3,
        file_bytes: 1 << 20,
        dead_percent: 25,
        dead_bytes: 1,
        checkpoint_bytes: 20_000,
        vacuum_every: Duration::from_millis(20),
        at_once: 1,
    }
}

impl World {
    async fn new(upkeep: UpkeepOptions, retention: Duration) -> Self {
        let directory = TempDir::new().unwrap();
        let options = SyncOptions {
            retention,
            upkeep,
            ..SyncOptions::new(directory.path().join("index"))
        };
        let mut world = Self {
            directory,
            options,
            table: None,
            model: Model::new(),
            time: 1,
            position_is_kept: true,
        };
        let schema = TableSchema::default();
        let at = position(1);
        table::commit(&world.place(), None, &schema, &[], "load", Some(&at))
            .await
            .unwrap();
        world.reopen().await;
        world
    }

    fn lake(&self) -> Location {
        Location::parse(&self.path("lake")).unwrap()
    }

    fn path(&self, name: &str) -> String {
        self.directory
            .path()
            .join(name)
            .to_string_lossy()
            .into_owned()
    }

    fn place(&self) -> Location {
        self.lake().child("db").child("c")
    }

    async fn reopen(&mut self) {
        let before = self.table.take().map(|table| table.live.position().clone());
        let sink = SyncSink::new(self.lake(), self.options.clone());
        let live = LiveTable::open(&self.place()).await.unwrap().unwrap();
        if self.position_is_kept {
            assert_eq!(live.position(), &before.unwrap_or_else(|| position(1)));
        }
        self.table = Some(sink.followed(&name(), live, None).await.unwrap());
    }

    fn table(&mut self) -> &mut FollowedTable {
        self.table.as_mut().unwrap()
    }

    /// The batch of these changes, which the model has then.
    fn batch(&mut self, changes: &[(i32, Option<Bson>)]) -> ChangeBatch {
        let mut events = Vec::new();
        for (key, value) in changes {
            self.time += 1;
            events.push(event(self.time, *key, value.as_ref()));
            match value {
                Some(value) => self.model.insert(*key, value.clone()),
                None => self.model.remove(key),
            };
        }
        ChangeBatch {
            changes: events,
            position: position(self.time),
        }
    }

    async fn apply(&mut self, changes: &[(i32, Option<Bson>)]) {
        let batch = self.batch(changes);
        self.table().apply(&batch).await.unwrap();
    }

    /// Begins to join files, as when that is due.
    async fn begin_joining(&mut self) {
        let table = self.table();
        let slots = Arc::new(tokio::sync::Semaphore::new(1));
        let slot = slots.acquire_owned().await.unwrap();
        table.upkeep.begin_compaction(&mut table.live, slot).await;
    }

    async fn end_joining(&mut self) {
        let table = self.table();
        table
            .upkeep
            .end_compaction(&mut table.live, &mut table.places)
            .await;
    }

    /// Asserts that readers, the files, the index and the log's position agree with the model.
    async fn check(&mut self) {
        let live: u64 = {
            let files = self.table().live.files.values();
            files
                .map(|file| file.rows.unwrap() - file.deleted_rows())
                .sum()
        };
        assert_eq!(live, self.model.len() as u64);

        // The index has a place for each key of the model, and for no other.
        let table = self.table.as_mut().unwrap();
        let mut found = BTreeSet::new();
        let mut distinct = BTreeSet::new();
        for key in 0..200_i32 {
            let hashed = Arc::new(vec![Key::of(0x10, &key.to_le_bytes()).unwrap()]);
            let rows = table.places.rows_of(&hashed, &mut table.live);
            for (path, rows) in rows.await.unwrap() {
                found.insert(key);
                distinct.extend(rows.iter().map(|row| (path.clone(), row)));
            }
        }
        assert_eq!(found, self.model.keys().copied().collect());
        assert_eq!(distinct.len(), self.model.len());

        let at = position(self.time);
        // A batch that changes nothing is not committed.
        assert!(at.reaches(self.table().live.position()));
        // A table that never had a row has no column to ask for.
        if self.table().live.schema.column("_id").is_some() {
            assert_eq!(self.rows().await, self.expected());
        }
    }

    fn expected(&self) -> Vec<(i64, String)> {
        let text = |value: &Bson| match value {
            Bson::String(text) => text.clone(),
            other => other.to_string(),
        };
        let rows = self.model.iter();
        rows.map(|(key, value)| (i64::from(*key), text(value)))
            .collect()
    }

    /// The rows as deltalake's reader has them, by key; values as text.
    async fn rows(&self) -> Vec<(i64, String)> {
        let lake = Lake::open(self.lake()).await.unwrap();
        let mut out = Vec::new();
        let sql = "SELECT _id, v FROM db.c ORDER BY _id";
        lake.query(sql, QueryOutput::Json, &mut out).await.unwrap();
        out.split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                let row: serde_json::Value = serde_json::from_slice(line).unwrap();
                let value = match &row["v"] {
                    // In a column of values of several types each is JSON.
                    serde_json::Value::String(text) => match serde_json::from_str(text) {
                        Ok(serde_json::Value::String(text)) => text,
                        _ => text.clone(),
                    },
                    other => other.to_string(),
                };
                (row["_id"].as_i64().unwrap(), value)
            })
            .collect()
    }

    /// The objects of the table that are data files or deletion vectors.
    fn objects(&self) -> BTreeSet<String> {
        let directory = Path::new(&self.path("lake")).join("db").join("c");
        std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| !name.starts_with('_'))
            .collect()
    }

    fn log(&self) -> BTreeSet<String> {
        let directory = Path::new(&self.path("lake")).join("db/c/_delta_log");
        std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect()
    }
}

fn int(value: i32) -> Option<Bson> {
    Some(Bson::Int32(value))
}

#[derive(Debug, Clone)]
enum Step {
    Apply(Vec<(i32, Option<i32>)>),
    /// Values become text, which the column takes from then on.
    Widen(i32),
    /// Files begin to be joined, and more is applied meanwhile.
    Race(Vec<(i32, Option<i32>)>),
    /// As after a kill: what runs is lost.
    Reopen,
    /// All that is due is done.
    Finish,
}

fn changes() -> impl Strategy<Value = Vec<(i32, Option<i32>)>> {
    let value = prop_oneof![3 => any::<i16>().prop_map(|n| Some(i32::from(n))), 1 => Just(None)];
    proptest::collection::vec((0..40, value), 1..12)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => changes().prop_map(Step::Apply),
        6 => changes().prop_map(Step::Race),
        1 => (0..40).prop_map(Step::Widen),
        2 => Just(Step::Reopen),
        2 => Just(Step::Finish),
    ];
    proptest::collection::vec(step, 1..40)
}

fn values(changes: &[(i32, Option<i32>)], as_text: bool) -> Vec<(i32, Option<Bson>)> {
    let value = |n: i32| {
        if as_text {
            Bson::String(format!("t{n}"))
        } else {
            Bson::Int32(n)
        }
    };
    changes
        .iter()
        .map(|(key, n)| (*key, n.map(value)))
        .collect()
}

async fn run(steps: Vec<Step>) {
    let mut world = World::new(eager(), Duration::ZERO).await;
    let mut as_text = false;
    for step in steps {
        match step {
            Step::Apply(changes) => world.apply(&values(&changes, as_text)).await,
            Step::Widen(key) => {
                as_text = true;
                world.begin_joining().await;
                world.apply(&values(&[(key, Some(0))], true)).await;
                world.end_joining().await;
            }
            Step::Race(changes) => {
                world.begin_joining().await;
                let batch = world.batch(&values(&changes, as_text));
                let half = batch.changes.len() / 2;
                let first = ChangeBatch {
                    changes: batch.changes[..half].to_vec(),
                    position: batch.changes[..half].last().map_or_else(
                        || world.table().live.position().clone(),
                        |event| position(event.cluster_time.seconds()),
                    ),
                };
                world.table().apply(&first).await.unwrap();
                world.table().apply(&batch).await.unwrap();
                world.end_joining().await;
            }
            Step::Reopen => world.reopen().await,
            Step::Finish => {
                let table = world.table();
                table.finish().await;
            }
        }
        world.check().await;
    }
    world.table().finish().await;
    world.check().await;
    world.reopen().await;
    world.check().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn upkeep_changes_nothing_that_a_table_holds(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(run(steps));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_table_in_upkeep_stay_few() {
    let upkeep = UpkeepOptions {
        vacuum_every: Duration::from_secs(3600),
        ..eager()
    };
    let mut world = World::new(upkeep, Duration::from_secs(3600)).await;
    let mut most = 0;
    for n in 0..300 {
        let changes: Vec<_> = (0..5).map(|i| ((n * 7 + i * 13) % 150, int(n))).collect();
        world.apply(&changes).await;
        if n % 10 == 0 {
            world.end_joining().await;
        }
        most = most.max(world.table().live.files.len());
    }
    world.table().finish().await;
    assert!(most < 30, "{most} files");
    assert!(world.table().live.files.len() <= 4);
    world.check().await;
    // The log has checkpoints, and so is read from the last.
    assert!(world.log().iter().any(|name| name.contains("checkpoint")));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_change_while_they_are_joined_change_in_the_new_file() {
    let mut world = World::new(
        UpkeepOptions {
            join_files: usize::MAX,
            ..eager()
        },
        Duration::from_secs(3600),
    )
    .await;
    for n in 0..4 {
        let changes: Vec<_> = (0..40).map(|i| (n * 40 + i, int(i))).collect();
        world.apply(&changes).await;
    }
    // Some rows are deleted before, so that those behind them move up.
    let before: Vec<_> = (0..160).step_by(7).map(|key| (key, None)).collect();
    world.apply(&before).await;
    world.options.upkeep.join_files = 3;
    world.options.upkeep.dead_percent = 200;
    world.reopen().await;
    world.begin_joining().await;
    let during: Vec<_> = (0..160)
        .filter(|key| key % 3 == 0)
        .map(|key| (key, if key % 2 == 0 { None } else { int(-key) }))
        // All rows of one file.
        .chain((40..80).map(|key| (key, None)))
        .collect();
    let batch = world.batch(&during);
    world.table().apply_only(&batch).await.unwrap();
    let before = world.table().live.version;
    world.end_joining().await;
    assert_eq!(world.table().live.version, before + 1);
    world.check().await;
    // The one of the joined rows, and the one of the new values.
    assert_eq!(world.table().live.files.len(), 2);
    world.reopen().await;
    world.check().await;

    // Readers of changes see nothing of it.
    let log = format!("_delta_log/{:020}.json", before + 1);
    let text = std::fs::read_to_string(Path::new(&world.path("lake/db/c")).join(log)).unwrap();
    assert!(text.contains("OPTIMIZE") && text.contains("deletionVector"));
    assert!(!text.contains("\"dataChange\":true"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_all_deleted_while_they_are_joined_are_gone() {
    let mut world = World::new(eager(), Duration::from_secs(3600)).await;
    for n in 0..3 {
        let changes: Vec<_> = (0..10).map(|i| (n * 10 + i, int(i))).collect();
        let batch = world.batch(&changes);
        world.table().apply_only(&batch).await.unwrap();
    }
    world.begin_joining().await;
    let all: Vec<_> = (0..30).map(|key| (key, None)).collect();
    let batch = world.batch(&all);
    world.table().apply_only(&batch).await.unwrap();
    world.end_joining().await;
    assert!(world.table().live.files.is_empty());
    assert!(world.model.is_empty());
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_left_is_vacuumed_and_nothing_else() {
    let mut world = World::new(eager(), Duration::ZERO).await;
    for n in 0..3 {
        let batch = world.batch(&[(n, int(n)), (n + 10, int(n))]);
        world.table().apply_only(&batch).await.unwrap();
    }
    let batch = world.batch(&[(0, None)]);
    world.table().apply_only(&batch).await.unwrap();
    let before = world.objects();
    world.begin_joining().await;
    // Written, and not committed: the process ends.
    loop {
        if world.objects().len() > before.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.reopen().await;
    world.check().await;
    let used = names_of(&world.table().live);
    assert!(used.iter().any(|name| name.ends_with(".bin")));
    let orphans: Vec<_> = world
        .objects()
        .into_iter()
        .filter(|name| !used.contains(name) && !name.contains('#'))
        .collect();
    assert_eq!(orphans.len(), 1, "{orphans:?}");
    let foreign = Path::new(&world.path("lake/db/c")).join("notes.txt");
    std::fs::write(&foreign, "not ours").unwrap();

    let place = world.place();
    let vacuum = async |retention, every| {
        super::vacuum::run(&place, &used, retention, every)
            .await
            .unwrap()
    };
    // The run that finds it leaves it; so does one before its time, and one that is not due.
    vacuum(Duration::ZERO, Duration::ZERO).await;
    assert!(world.objects().contains(&orphans[0]));
    vacuum(Duration::from_secs(3600), Duration::ZERO).await;
    assert!(world.objects().contains(&orphans[0]));
    let wait = vacuum(Duration::ZERO, Duration::from_secs(60)).await;
    assert!(wait > Duration::from_secs(50));
    assert!(world.objects().contains(&orphans[0]));
    tokio::time::sleep(Duration::from_millis(5)).await;
    vacuum(Duration::ZERO, Duration::ZERO).await;
    let left = world.objects();
    assert!(!left.contains(&orphans[0]));
    assert!(left.contains("notes.txt"));
    assert!(used.is_subset(&left.into_iter().collect()));
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_part_of_the_table_any_more_is_vacuumed_in_time() {
    let mut world = World::new(eager(), Duration::ZERO).await;
    for n in 0..60 {
        world.apply(&[(n % 7, int(n)), (n % 5 + 50, None)]).await;
    }
    for _ in 0..3 {
        world.table().finish().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let used: BTreeSet<String> = names_of(&world.table().live).into_iter().collect();
    assert_eq!(world.objects(), used);
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_goes_on_from_a_checkpoint_alone() {
    let mut world = World::new(eager(), Duration::from_secs(3600)).await;
    for n in 0..40 {
        world.apply(&[(n % 20, int(n)), (n % 11 + 30, None)]).await;
    }
    world.options.upkeep.checkpoint_bytes = 1;
    world.reopen().await;
    world.apply(&[(1, int(1))]).await;
    world.table().finish().await;
    world.check().await;
    let version = world.table().live.version;
    let log = world.log();
    assert!(log.contains(&format!("{version:020}.checkpoint.parquet")));
    assert!(log.contains("_last_checkpoint"));

    // As after a clean-up by somebody who keeps no commits at all.
    let directory = Path::new(&world.path("lake")).join("db/c/_delta_log");
    for name in log.iter().filter(|name| name.ends_with(".json")) {
        std::fs::remove_file(directory.join(name)).unwrap();
    }
    world.position_is_kept = false;
    world.reopen().await;
    world.position_is_kept = true;
    let at = world.table().live.position().clone();
    assert_eq!(at.cluster_time, position(world.time).cluster_time);
    assert_eq!(at.resume_token, None);
    // What happened at that time comes again, and changes nothing.
    let last = world.time;
    let again = ChangeBatch {
        changes: vec![event(last, 1, Some(&Bson::Int32(1)))],
        position: position(last),
    };
    world.table().apply(&again).await.unwrap();
    world.check().await;
    world.apply(&[(2, None), (3, int(33)), (60, int(6))]).await;
    world.check().await;
    world.reopen().await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_cleaned_up_only_behind_a_checkpoint_and_its_retention() {
    let mut world = World::new(eager(), Duration::from_secs(3600)).await;
    for n in 0..30 {
        world.apply(&[(n, int(n))]).await;
    }
    world.table().finish().await;
    // The older commits were written nine days ago.
    let directory = Path::new(&world.path("lake")).join("db/c/_delta_log");
    let old = std::time::SystemTime::now() - Duration::from_secs(9 * 24 * 3600);
    let version = world.table().live.version;
    let aged = version - 5;
    for name in world.log() {
        let number = name.split('.').next().and_then(|n| n.parse::<u64>().ok());
        if number.is_some_and(|number| number < aged) {
            let file = std::fs::File::options()
                .write(true)
                .open(directory.join(&name))
                .unwrap();
            file.set_modified(old).unwrap();
        }
    }
    world.options.upkeep.checkpoint_bytes = 1;
    // Kept for longer than the log: the commits are, too.
    world.options.retention = Duration::from_secs(10 * 24 * 3600);
    world.reopen().await;
    world.apply(&[(100, int(1))]).await;
    world.table().finish().await;
    assert!(world.log().contains(&format!("{:020}.json", 0)));

    world.options.retention = Duration::from_secs(3600);
    world.reopen().await;
    world.apply(&[(101, int(1))]).await;
    world.table().finish().await;
    let log = world.log();
    assert!(!log.contains(&format!("{:020}.json", 0)), "{log:?}");
    for kept in aged..=version {
        assert!(log.contains(&format!("{kept:020}.json")), "{log:?}");
    }
    world.reopen().await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_writers_commit_is_taken_over_while_files_are_joined() {
    let mut world = World::new(eager(), Duration::from_secs(3600)).await;
    for n in 0..3 {
        let batch = world.batch(&[(n, int(n)), (n + 10, int(n))]);
        world.table().apply_only(&batch).await.unwrap();
    }
    world.begin_joining().await;
    // Somebody else's commit takes the next version.
    let next = world.table().live.version + 1;
    let place = world.place().child("_delta_log");
    let line = b"{\"commitInfo\":{\"operation\":\"VACUUM START\"}}\n".to_vec();
    let created = place.child(&format!("{next:020}.json")).create(line).await;
    assert!(created.unwrap());
    world.end_joining().await;
    assert_eq!(world.table().live.version, next + 1);
    assert_eq!(world.table().live.files.len(), 1);
    world.check().await;

    // Somebody else removes what is being joined.
    for n in 3..6 {
        let batch = world.batch(&[(n, int(n))]);
        world.table().apply_only(&batch).await.unwrap();
    }
    world.begin_joining().await;
    let other = SyncSink::new(
        world.lake(),
        SyncOptions {
            index: world.directory.path().join("other"),
            ..world.options.clone()
        },
    );
    let live = LiveTable::open(&world.place()).await.unwrap().unwrap();
    let mut other = other.followed(&name(), live, None).await.unwrap();
    let slots = Arc::new(tokio::sync::Semaphore::new(1));
    let slot = slots.acquire_owned().await.unwrap();
    other.upkeep.begin_compaction(&mut other.live, slot).await;
    other
        .upkeep
        .end_compaction(&mut other.live, &mut other.places)
        .await;
    drop(other);
    world.end_joining().await;
    world.check().await;
    world.apply(&[(1, int(5)), (2, None), (4, int(9))]).await;
    world.check().await;
    world.reopen().await;
    world.check().await;
}
