//! Tables under changes and upkeep at once, compared with a map of what they should hold.

mod manifest;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use bson::{Bson, doc};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;
use tributary_convert::Key;
use tributary_flow::{Change, ChangeBatch, ChangeTable, Event, EventKind};
use tributary_model::{ClusterTime, GapRemedy, Namespace, Operation, Position, TableSchema};

use super::history::HistoryTable;
use super::table::FollowedTable;
use super::upkeep::names_of;
use super::{SyncOptions, SyncSink, UpkeepOptions};
use crate::delta::follow::{Edit, LiveFile, LiveTable};
use crate::delta::table::{self, Following, Loaded};
use crate::location::Location;
use crate::sql::{Lake, QueryOutput};

/// What a table should hold: the value of each key.
type Model = BTreeMap<i32, Bson>;

fn position(time: u32) -> Position {
    Position {
        resume_token: Some(format!("82{time:08X}")),
        ..Position::at(ClusterTime::new(time, 1))
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
        reduced: false,
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

/// How rows are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// Marked in deletion vectors.
    Marked,
    /// Left out of their files, which are written again.
    Copied,
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
        Self::with_rows(Rows::Marked, upkeep, retention).await
    }

    async fn with_rows(rows: Rows, upkeep: UpkeepOptions, retention: Duration) -> Self {
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
        let following = Following {
            position: &position(1),
            copy_on_write: rows == Rows::Copied,
            lacking: None,
        };
        let (place, has_manifest) = (world.place(), rows == Rows::Copied);
        table::commit(
            &place,
            None,
            &schema,
            &[],
            Loaded {
                load: "load",
                copy: None,
                outcome: serde_json::Value::Null,
            },
            Some(following),
            has_manifest,
        )
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
            clears: false,
            position: position(self.time),
        }
    }

    /// The same, and then the collection is dropped.
    fn dropped(&mut self, changes: &[(i32, Option<Bson>)], clears: bool) -> ChangeBatch {
        let mut batch = self.batch(changes);
        self.time += 1;
        let mut dropped = event(self.time, 0, None);
        dropped.kind = EventKind::Drop;
        batch.changes.push(dropped);
        batch.position = position(self.time);
        batch.clears = clears;
        if clears {
            self.model.clear();
        }
        batch
    }

    /// Passes over a stretch of history that is not known.
    async fn skip(&mut self) {
        let before = self.table().gaps();
        let from = self.table().position();
        self.time += 10;
        let to = position(self.time);
        for _ in 0..2 {
            let skipped = self.table().skip(&from, &to, GapRemedy::Accepted);
            skipped.await.unwrap();
        }
        self.reopen().await;
        assert_eq!(self.table().position(), to);
        let gaps = self.table().gaps();
        let last = gaps.last().unwrap();
        assert_eq!(last.to, to.cluster_time);
        assert!(last.from <= from.cluster_time);
        assert!(gaps.len() <= before.len() + 1);
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

    /// Another writer makes the next version, which is not known before there is to be one after it.
    async fn foreign_version(&mut self) {
        let place = self.place().child("_delta_log");
        let line = b"{\"commitInfo\":{\"operation\":\"VACUUM START\"}}\n";
        for version in self.table().live.version + 1.. {
            let place = place.child(&format!("{version:020}.json"));
            if place.create(line.to_vec()).await.unwrap() {
                break;
            }
        }
    }

    async fn end_joining(&mut self) {
        let table = self.table();
        table
            .upkeep
            .end_compaction(&mut table.live, Some(&mut table.places))
            .await;
    }

    /// Ends what is going on beside the changes, so that what is due next begins with the next one
    /// however busy the machine is.
    async fn settle(&mut self) {
        self.end_joining().await;
        let table = self.table();
        table.upkeep.end_chore(&table.live).await;
    }

    /// Puts the table in order until there is nothing more to do.
    async fn finish(&mut self) {
        loop {
            let before = self.table().live.version;
            self.table().finish().await;
            if self.table().live.version == before {
                return;
            }
        }
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
        let table = &self.table().live;
        if table.definition.is_copy_on_write() {
            assert!(!table.files.values().any(LiveFile::has_vector));
            assert!(!table.definition.allows_deletion_vectors());
        }
        if table.definition.has_symlink_manifest() {
            let files: BTreeSet<String> = table.files.keys().cloned().collect();
            assert_eq!(self.named_in_manifest(), files);
        }

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

    /// The files that the manifest names, which are there.
    fn named_in_manifest(&self) -> BTreeSet<String> {
        let table = self.path("lake/db/c");
        let manifest = format!("{table}/_symlink_format_manifest/manifest");
        let text = std::fs::read_to_string(manifest).unwrap();
        let start = format!("file:{table}/");
        let names = text.lines().map(|line| line.strip_prefix(&start).unwrap());
        let names: BTreeSet<String> = names.map(str::to_owned).collect();
        assert!(names.is_subset(&self.objects()), "{names:?}");
        names
    }

    /// One version of the log.
    fn commit(&self, version: u64) -> String {
        let log = format!("lake/db/c/_delta_log/{version:020}.json");
        std::fs::read_to_string(self.path(&log)).unwrap()
    }

    /// What changes by a version of a table without deletion vectors, as readers of the change data
    /// feed see it: keys, what happens to them, and values.
    fn changes(&self, version: u64) -> Vec<(i32, String, i32)> {
        let mut from_files = Vec::new();
        let mut told = Vec::new();
        for line in self.commit(version).lines() {
            let action: serde_json::Value = serde_json::from_str(line).unwrap();
            for (name, kind) in [("cdc", ""), ("add", "insert"), ("remove", "delete")] {
                let Some(file) = action.get(name) else {
                    continue;
                };
                if name != "cdc" && file["dataChange"] == false {
                    continue;
                }
                let path = format!("lake/db/c/{}", file["path"].as_str().unwrap());
                for batch in rows_of_file(Path::new(&self.path(&path))) {
                    let ints = |name| batch.column_by_name(name).unwrap().as_primitive();
                    let (ids, values) = (ints("_id"), ints("v"));
                    let _: &arrow::array::Int32Array = ids;
                    let kinds = batch.column_by_name("_change_type");
                    for row in 0..batch.num_rows() {
                        let kind = kinds.map_or(kind, |kinds| kinds.as_string::<i32>().value(row));
                        let change = (ids.value(row), kind.to_owned(), values.value(row));
                        let changes = if name == "cdc" {
                            &mut told
                        } else {
                            &mut from_files
                        };
                        changes.push(change);
                    }
                }
            }
        }
        if told.is_empty() { from_files } else { told }
    }

    fn log(&self) -> BTreeSet<String> {
        let directory = Path::new(&self.path("lake")).join("db/c/_delta_log");
        std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect()
    }
}

fn rows_of_file(path: &Path) -> Vec<RecordBatch> {
    let file = std::fs::File::open(path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    reader.build().unwrap().map(Result::unwrap).collect()
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
    /// The collection is dropped behind some changes, while files begin to be joined.
    Drop(Vec<(i32, Option<i32>)>, bool),
    /// What comes next is forgotten.
    Skip,
    /// As after a kill: what runs is lost.
    Reopen,
    /// All that is due is done.
    Finish,
    /// The table is opened as one that is copied on write.
    Switch,
    /// Another writer makes a version.
    Foreign,
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
        2 => (changes(), any::<bool>()).prop_map(|(changes, clears)| Step::Drop(changes, clears)),
        1 => Just(Step::Skip),
        2 => Just(Step::Reopen),
        2 => Just(Step::Finish),
        1 => Just(Step::Switch),
        3 => Just(Step::Foreign),
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

async fn run(rows: Rows, steps: Vec<Step>) {
    let upkeep = UpkeepOptions {
        // Files of several sizes by what is large in a table that is copied on write.
        file_bytes: if rows == Rows::Copied {
            25_000
        } else {
            1 << 20
        },
        ..eager()
    };
    let mut world = World::with_rows(rows, upkeep, Duration::ZERO).await;
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
                    clears: false,
                    position: batch.changes[..half].last().map_or_else(
                        || world.table().live.position().clone(),
                        |event| position(event.cluster_time.seconds()),
                    ),
                };
                world.table().apply(&first).await.unwrap();
                world.table().apply(&batch).await.unwrap();
                world.end_joining().await;
            }
            Step::Drop(changes, clears) => {
                world.begin_joining().await;
                let batch = world.dropped(&values(&changes, as_text), clears);
                world.table().apply(&batch).await.unwrap();
                // Once more, as after a try whose success was not heard of.
                world.table().apply(&batch).await.unwrap();
                world.end_joining().await;
            }
            Step::Skip => world.skip().await,
            Step::Reopen => world.reopen().await,
            Step::Finish => {
                let table = world.table();
                table.finish().await;
            }
            Step::Foreign => world.foreign_version().await,
            Step::Switch => {
                world.options.copy_on_write = true;
                world.options.symlink_manifest = true;
                world.reopen().await;
                let definition = &world.table().live.definition;
                assert!(definition.is_copy_on_write() && definition.has_symlink_manifest());
                world.options.copy_on_write = false;
                world.options.symlink_manifest = false;
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
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn upkeep_changes_nothing_that_a_table_holds(steps in steps()) {
        block_on(run(Rows::Marked, steps));
    }

    #[test]
    fn a_table_without_deletion_vectors_holds_the_same(steps in steps()) {
        block_on(run(Rows::Copied, steps));
    }
}

fn block_on(run: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_table_in_upkeep_stay_few() {
    stay_few(Rows::Marked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_table_that_is_copied_on_write_stay_few() {
    stay_few(Rows::Copied).await;
}

async fn stay_few(rows: Rows) {
    let upkeep = UpkeepOptions {
        vacuum_every: Duration::from_secs(3600),
        ..eager()
    };
    let mut world = World::with_rows(rows, upkeep, Duration::from_secs(3600)).await;
    let mut most = 0;
    for n in 0..300 {
        let changes: Vec<_> = (0..5).map(|i| ((n * 7 + i * 13) % 150, int(n))).collect();
        world.apply(&changes).await;
        if n % 10 == 0 {
            world.settle().await;
        }
        most = most.max(world.table().live.files.len());
    }
    world.finish().await;
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
async fn a_commit_that_arrived_unseen_is_not_taken_for_the_next_one() {
    let mut world = World::new(eager(), Duration::from_secs(3600)).await;
    for n in 0..4 {
        let batch = world.batch(&[(n, int(n))]);
        world.table().apply_only(&batch).await.unwrap();
    }
    // Files are joined, but the answer to the commit is lost: as far as the process knows, nothing
    // has come of it.
    let before = world.table().live.clone();
    world.begin_joining().await;
    world.end_joining().await;
    assert_eq!(world.table().live.version, before.version + 1);
    world.table().live = before;
    world.apply(&[(1, int(11)), (5, int(5)), (2, None)]).await;
    world.check().await;

    // The same with changes, the answer to whose commit is lost, and then others.
    let before = world.table().live.clone();
    world.apply(&[(6, int(6)), (1, int(12))]).await;
    world.table().live = before;
    world.apply(&[(7, int(7)), (6, None)]).await;
    world.check().await;
    world.reopen().await;
    world.check().await;

    // And with a column that becomes wider, whose files are written again before.
    let before = world.table().live.clone();
    let batch = world.batch(&[(8, Some(Bson::String("wide".to_owned())))]);
    world.table().apply_only(&batch).await.unwrap();
    world.table().live = before;
    world.table().apply_only(&batch).await.unwrap();
    world.apply(&[(9, int(9))]).await;
    world.check().await;
    world.reopen().await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_copied_while_they_are_joined_are_left_out() {
    let retention = Duration::from_secs(3600);
    let mut world = World::with_rows(Rows::Copied, eager(), retention).await;
    for n in 0..5 {
        let changes: Vec<_> = (0..10).map(|i| (n * 10 + i, int(i))).collect();
        let batch = world.batch(&changes);
        world.table().apply_only(&batch).await.unwrap();
    }
    assert_eq!(world.table().live.files.len(), 5);
    world.begin_joining().await;
    // One file of the five goes, and another is replaced.
    let mut during: Vec<_> = (20..30).map(|key| (key, None)).collect();
    during.push((31, int(-31)));
    let batch = world.batch(&during);
    world.table().apply_only(&batch).await.unwrap();
    assert_eq!(world.table().live.files.len(), 4);
    let version = world.table().live.version;
    world.end_joining().await;
    assert_eq!(world.table().live.version, version + 1);
    // The three that are left became one.
    assert_eq!(world.table().live.files.len(), 2);
    let text = world.commit(version + 1);
    assert!(
        text.contains("OPTIMIZE") && !text.contains("\"dataChange\":true"),
        "{text}"
    );
    world.check().await;
    world.reopen().await;
    world.check().await;

    // Of nothing but what has changed there is nothing to join.
    for n in 0..3 {
        let batch = world.batch(&[(n + 100, int(n))]);
        world.table().apply_only(&batch).await.unwrap();
    }
    world.options.upkeep.join_files = 4;
    world.reopen().await;
    let objects = world.objects().len();
    world.begin_joining().await;
    let all: Vec<_> = (0..200).map(|key| (key, None)).collect();
    let batch = world.batch(&all);
    world.table().apply_only(&batch).await.unwrap();
    let version = world.table().live.version;
    world.end_joining().await;
    assert_eq!(world.table().live.version, version);
    assert_eq!(world.objects().len(), objects);
    assert!(world.table().live.files.is_empty());
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_switched_has_no_vector_and_asks_for_no_reader_that_knows_them() {
    let mut world = World::new(eager(), Duration::from_secs(3600)).await;
    for n in 0..4 {
        let changes: Vec<_> = (0..10).map(|i| (n * 10 + i, int(i))).collect();
        let batch = world.batch(&changes);
        world.table().apply_only(&batch).await.unwrap();
    }
    let batch = world.batch(&[(1, None), (2, int(7)), (15, None)]);
    world.table().apply_only(&batch).await.unwrap();
    let marked = |world: &mut World| {
        let files = world.table().live.files.values();
        files.filter(|file| file.has_vector()).count()
    };
    assert_eq!(marked(&mut world), 2);
    let version = world.table().live.version;

    world.options.copy_on_write = true;
    world.reopen().await;
    assert_eq!(world.table().live.version, version + 1);
    let commit = world.commit(version + 1);
    assert!(!commit.contains("\"dataChange\":true"), "{commit}");
    assert!(commit.contains(r#""minReaderVersion":1"#), "{commit}");
    assert!(!commit.contains("readerFeatures"), "{commit}");
    assert!(commit.contains(r#""delta.enableDeletionVectors":"false""#));
    assert_eq!(marked(&mut world), 0);
    world.check().await;

    // It stays so, whatever it is opened with, and once is enough.
    world.reopen().await;
    world.options.copy_on_write = false;
    world.reopen().await;
    world.apply(&[(3, None), (20, int(8))]).await;
    world.check().await;
    assert_eq!(marked(&mut world), 0);

    // A table without a vector only says so.
    let mut world = World::new(eager(), Duration::from_secs(3600)).await;
    world.apply(&[(1, int(1))]).await;
    let version = world.table().live.version;
    world.options.copy_on_write = true;
    world.reopen().await;
    let commit = world.commit(version + 1);
    assert!(!commit.contains("\"remove\""), "{commit}");
    world.apply(&[(1, int(2))]).await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_others_mark_during_a_switch_are_gone_behind_it() {
    let mut world = World::new(eager(), Duration::from_secs(3600)).await;
    for n in 0..2 {
        let changes: Vec<_> = (0..10).map(|i| (n * 10 + i, int(i))).collect();
        let batch = world.batch(&changes);
        world.table().apply_only(&batch).await.unwrap();
    }
    let batch = world.batch(&[(1, None)]);
    world.table().apply_only(&batch).await.unwrap();
    // What another writer has marked meanwhile is not known yet.
    let mut other = LiveTable::open(&world.place()).await.unwrap().unwrap();
    let path = {
        let files = other.files.values();
        let mut whole = files.filter(|file| !file.has_vector());
        whole.next().unwrap().add.path.clone()
    };
    let edit = Edit {
        deleted: [(path, [0, 1, 2].into_iter().collect())].into(),
        ..Edit::default()
    };
    let at = other.version + 1;
    other.commit(edit, None, "DELETE", json!({})).await.unwrap();
    // It is not a commit of a sync.
    let log = Path::new(&world.path("lake/db/c")).join(format!("_delta_log/{at:020}.json"));
    let text = std::fs::read_to_string(&log).unwrap();
    let lines = text.lines().filter(|line| !line.contains("commitInfo"));
    std::fs::write(&log, lines.collect::<Vec<_>>().join("\n")).unwrap();

    let table = world.table();
    table.copy_on_write().await.unwrap();
    assert!(!table.live.files.values().any(LiveFile::has_vector));
    assert_eq!(world.rows().await.len(), 16);
    world.reopen().await;
    assert_eq!(world.rows().await.len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_from_before_a_table_was_copied_on_write_count_as_long_as_there_are_any() {
    let mut world = World::new(eager(), Duration::from_secs(3600)).await;
    for n in 0..4 {
        let changes: Vec<_> = (0..10).map(|i| (n * 10 + i, int(i))).collect();
        let batch = world.batch(&changes);
        world.table().apply_only(&batch).await.unwrap();
    }
    let batch = world.batch(&[(1, None), (2, None), (12, None), (25, None)]);
    world.table().apply_only(&batch).await.unwrap();
    // As somebody else does it, who leaves the files as they are.
    let definition = &mut world.table().live.definition;
    definition.set_property("delta.enableDeletionVectors", "false");
    let marked = |world: &mut World| {
        let files = world.table().live.files.values();
        files.filter(|file| file.has_vector()).count()
    };
    let batch = world.batch(&[(0, None), (3, int(-3)), (35, int(-35))]);
    world.table().apply_only(&batch).await.unwrap();
    assert_eq!(marked(&mut world), 2);
    assert_eq!(world.rows().await, world.expected());
    world.reopen().await;
    assert_eq!(world.rows().await, world.expected());

    world.options.copy_on_write = true;
    world.reopen().await;
    assert_eq!(marked(&mut world), 0);
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_data_feed_tells_what_changes_in_a_table_that_is_copied_on_write() {
    let upkeep = UpkeepOptions {
        file_bytes: 25_000,
        ..eager()
    };
    let retention = Duration::from_secs(3600);
    let mut world = World::with_rows(Rows::Copied, upkeep, retention).await;
    let definition = &mut world.table().live.definition;
    definition.set_property("delta.enableChangeDataFeed", "true");
    let mut models = vec![(0, Model::new())];
    for n in 0..40 {
        let changes: Vec<_> = (0..6)
            .map(|i| {
                (
                    (n * 7 + i * 5) % 60,
                    ((i + n / 2) % 5 != 0).then(|| Bson::Int32(n)),
                )
            })
            .collect();
        let batch = world.batch(&changes);
        world.table().apply_only(&batch).await.unwrap();
        models.push((world.table().live.version, world.model.clone()));
        if n % 8 == 7 {
            world.begin_joining().await;
            world.end_joining().await;
        }
    }
    let last = world.table().live.version;
    let mut fed = Model::new();
    let mut told = BTreeSet::new();
    for version in 1..=last {
        let mut changes = world.changes(version);
        changes.sort();
        let keys_of = |sought: &str| -> Vec<i32> {
            let found = changes.iter().filter(|(_, kind, _)| kind == sought);
            found.map(|(key, ..)| *key).collect()
        };
        assert_eq!(keys_of("update_preimage"), keys_of("update_postimage"));
        for (key, kind, value) in &changes {
            told.insert(kind.clone());
            match kind.as_str() {
                "delete" | "update_preimage" => {
                    assert_eq!(fed.remove(key), Some(Bson::Int32(*value)), "{changes:?}");
                }
                _ => {}
            }
        }
        for (key, kind, value) in &changes {
            if matches!(kind.as_str(), "insert" | "update_postimage") {
                assert_eq!(fed.insert(*key, Bson::Int32(*value)), None, "{changes:?}");
            }
        }
        let model = models.iter().rfind(|(at, _)| *at <= version);
        assert_eq!(fed, model.unwrap().1, "version {version}");
    }
    assert_eq!(told.len(), 4, "{told:?}");

    // Its files go once nobody may ask for them any more.
    let feed = || {
        let directory = Path::new(&world.path("lake/db/c")).join("_change_data");
        std::fs::read_dir(directory).unwrap().count()
    };
    assert!(feed() > 10);
    let used = names_of(&world.table.as_ref().unwrap().live);
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        super::vacuum::run(&world.place(), &used, Duration::ZERO, Duration::ZERO)
            .await
            .unwrap();
    }
    assert_eq!(feed(), 0);
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_the_feed_s_own_name_ends_the_feed() {
    let mut world = World::new(eager(), Duration::from_secs(3600)).await;
    world.apply(&[(1, int(1))]).await;
    assert!(world.table().live.definition.has_change_data_feed());
    let mut batch = world.batch(&[(2, int(2))]);
    let EventKind::Change(change) = &mut batch.changes[0].kind else {
        unreachable!()
    };
    change.document = Some(bytes(&doc! { "_id": 2, "v": 2, "_Change_type": "mine" }));
    world.table().apply(&batch).await.unwrap();
    assert!(!world.table().live.definition.has_change_data_feed());
    world.reopen().await;
    assert!(!world.table().live.definition.has_change_data_feed());
    world.check().await;
}

/// As when a process ended between the commit of the history and that of the table.
#[tokio::test(flavor = "multi_thread")]
async fn what_happened_elsewhere_takes_nothing_back_to_where_it_was() {
    let upkeep = UpkeepOptions {
        join_files: 1000,
        ..eager()
    };
    let mut world = World::new(upkeep, Duration::from_secs(3600)).await;
    let place = world.lake().child("db").child("c__history");
    let (options, slots) = (
        Arc::new(world.options.clone()),
        Arc::new(tokio::sync::Semaphore::new(1)),
    );
    let mut history = HistoryTable::open(&place, &position(1), options, slots)
        .await
        .unwrap();
    let batch = world.batch(&[(1, int(1)), (2, int(2)), (1, None)]);
    history.append(&batch).await.unwrap();
    world.table().apply(&batch).await.unwrap();
    let versions = (history.live.version, world.table().live.version);
    for time in 1..=world.time {
        let elsewhere = ChangeBatch {
            changes: Vec::new(),
            clears: false,
            position: position(time),
        };
        history.append(&elsewhere).await.unwrap();
        world.table().apply(&elsewhere).await.unwrap();
    }
    history.append(&batch).await.unwrap();
    assert_eq!(history.position(), &batch.position);
    assert_eq!(world.table().live.position(), &batch.position);
    assert_eq!((history.live.version, world.table().live.version), versions);
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_history_stay_few_and_its_rows_in_order() {
    let upkeep = UpkeepOptions {
        vacuum_every: Duration::from_secs(3600),
        ..eager()
    };
    let world = World::new(upkeep, Duration::from_secs(3600)).await;
    let place = world.lake().child("db").child("c__history");
    let options = Arc::new(world.options.clone());
    let open = async || {
        let slots = Arc::new(tokio::sync::Semaphore::new(1));
        HistoryTable::open(&place, &position(1), Arc::clone(&options), slots)
            .await
            .unwrap()
    };
    let mut history = open().await;
    let (mut time, mut most) = (1, 0);
    for n in 0..150_u32 {
        // Some are much larger than those around them.
        let count = if n % 29 == 28 { 3000 } else { 1 + n % 4 };
        let events = (0..count).map(|i| {
            time += 1;
            event(time, i.cast_signed(), int(1).as_ref())
        });
        let batch = ChangeBatch {
            changes: events.collect(),
            clears: false,
            position: position(time),
        };
        history.append(&batch).await.unwrap();
        history.go_on().await;
        match n % 25 {
            // As after a kill, perhaps while files are joined.
            24 => {
                drop(history);
                history = open().await;
            }
            // What is due next begins with the next batch then, however busy the machine is.
            _ if n % 5 == 0 => {
                history.upkeep.end_compaction(&mut history.live, None).await;
                history.upkeep.end_chore(&history.live).await;
            }
            _ => {}
        }
        assert_eq!(history.position(), &position(time));
        most = most.max(history.live.files.len());
    }
    loop {
        let before = history.live.version;
        history.finish().await;
        if history.live.version == before {
            break;
        }
    }
    assert!(most < 50, "{most} files");
    assert!(
        history.live.files.len() <= 10,
        "{}",
        history.live.files.len()
    );
    assert!(history.live.version > 150);
    let log = Path::new(&world.path("lake/db/c__history")).join("_delta_log");
    let names = std::fs::read_dir(log).unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.any(|name| name.contains("checkpoint")));

    // Each file has a part of the events that is whole and in order.
    let mut parts: Vec<Vec<String>> = Vec::new();
    for path in history.live.files.keys() {
        let path = Path::new(&world.path("lake/db/c__history")).join(path);
        let rows = rows_of_file(&path);
        let ids = rows.iter().flat_map(|batch| {
            let ids = batch.column_by_name("_id").unwrap().as_string::<i32>();
            ids.iter()
                .map(|id| id.unwrap().to_owned())
                .collect::<Vec<_>>()
        });
        parts.push(ids.collect());
    }
    parts.sort();
    let all: Vec<String> = (2..=time).map(|time| format!("82{time:08X}")).collect();
    assert_eq!(parts.concat(), all);
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
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        // A file that is still being written has another name.
        let objects = world.objects();
        if objects
            .iter()
            .any(|name| !before.contains(name) && !name.contains('#'))
        {
            break;
        }
        assert!(Instant::now() < deadline, "no file is written");
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
    // What one vacuum finds the next one removes.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        world.table().finish().await;
        let used: BTreeSet<String> = names_of(&world.table().live).into_iter().collect();
        let objects = world.objects();
        if objects == used {
            break;
        }
        assert!(Instant::now() < deadline, "{objects:?} and not {used:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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
        clears: false,
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
    world.foreign_version().await;
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
        .end_compaction(&mut other.live, Some(&mut other.places))
        .await;
    drop(other);
    world.end_joining().await;
    world.check().await;
    world.apply(&[(1, int(5)), (2, None), (4, int(9))]).await;
    world.check().await;
    world.reopen().await;
    world.check().await;
}
