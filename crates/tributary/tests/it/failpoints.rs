//! A sync that ends at every point between something it writes and what says that it counts, and
//! is started again: the tables hold what the collections do, and the histories each event once.

use std::fs::File;
use std::time::{Duration, Instant, SystemTime};

use bson::{Document, doc};
use mongodb::change_stream::ChangeStream;
use mongodb::change_stream::event::ChangeStreamEvent;
use mongodb::{Client, Collection};
use tributary_flow::Failpoint;

use crate::external::{SYMLINK_MANIFEST, compare_manifest, manifest_lag};
use crate::support::{Fixture, LIMIT, Run, files_below, run_command};
use crate::sync::{COPY_ON_WRITE, assert_same, sync, tokens};

/// The signal of a process that a failpoint ended.
pub(crate) const ABORTED: i32 = 6;

/// What has to go on for a point to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// A collection without a table.
    Load,
    /// Changes of every kind.
    Changes,
    /// The same, for what is common to all that is written.
    Commits,
    /// Nothing of a collection, while there are changes of another.
    Quiet,
    /// Tables that are put in order at every opportunity.
    Upkeep,
    /// The same, for what is common to all that is written.
    CommitsOfUpkeep,
    /// More rows than go into the key index at once.
    Large,
    /// Changes and upkeep of tables that keep a symlink manifest.
    Manifest,
    /// Changes that become files.
    ChangeFiles,
    /// Such files, of which some are written and do not count.
    UnfinishedChangeFiles,
    /// Changes that become records of a stream.
    Records,
}

fn scenarios(point: Failpoint) -> &'static [Scenario] {
    use Scenario::{
        ChangeFiles, Changes, Commits, CommitsOfUpkeep, Large, Load, Manifest, Quiet, Records,
        UnfinishedChangeFiles, Upkeep,
    };
    match point {
        Failpoint::CommitBefore
        | Failpoint::CommitAfter
        | Failpoint::IndexBefore
        | Failpoint::IndexAfter => &[Load, Commits, CommitsOfUpkeep],
        Failpoint::UploadUnfinished => &[Load, Changes],
        Failpoint::LoadPlanned
        | Failpoint::PartitionWritten
        | Failpoint::ReceiptWritten
        | Failpoint::LoadUnified
        | Failpoint::LoadCommitted
        | Failpoint::LoadSwept
        | Failpoint::ReceiptsRemoved
        | Failpoint::LoadEnded
        | Failpoint::HistoryCreated => &[Load],
        Failpoint::BatchBegun
        | Failpoint::BatchApplied
        | Failpoint::DataFileWritten
        | Failpoint::VectorsWritten
        | Failpoint::ChangesCommitted
        | Failpoint::ChangesRecorded
        | Failpoint::HistoryFileWritten
        | Failpoint::HistoryCommitted
        | Failpoint::WidenFileWritten
        | Failpoint::WidenCommitted
        | Failpoint::WidenRecorded => &[Changes],
        // Of copies alone: `resume.rs`.
        Failpoint::FilesSwept => &[],
        Failpoint::HeartbeatCommitted => &[Quiet],
        Failpoint::ManifestBefore => &[Manifest],
        Failpoint::CompactionWritten
        | Failpoint::CompactionCommitted
        | Failpoint::CompactionRecorded
        | Failpoint::CheckpointWritten
        | Failpoint::LogCleaned
        | Failpoint::VacuumListed
        | Failpoint::VacuumRemoved
        | Failpoint::VacuumUnnoted
        | Failpoint::VacuumNoted => &[Upkeep],
        Failpoint::IndexBetween | Failpoint::CompactionBetween => &[Large],
        Failpoint::PublishBegun | Failpoint::PublishEnded => &[ChangeFiles, Records],
        Failpoint::EventFilesPlanned
        | Failpoint::EventFileWritten
        | Failpoint::EventFilesWritten
        | Failpoint::EventFilesCounted => &[ChangeFiles],
        Failpoint::EventFileRemoved => &[UnfinishedChangeFiles],
        Failpoint::RecordsSent | Failpoint::RecordsCounted => &[Records],
    }
}

/// At how many of the times that a point is reached it is tried.
pub(crate) fn tries(point: Failpoint) -> u32 {
    match point {
        // Those of a history, of a table, and of what is done to either before and behind.
        Failpoint::CommitBefore | Failpoint::CommitAfter => 4,
        Failpoint::IndexBefore | Failpoint::IndexAfter => 3,
        // Of both collections, their histories, wider columns and files that are joined.
        Failpoint::ManifestBefore => 8,
        Failpoint::WidenFileWritten | Failpoint::VacuumRemoved => 2,
        // Of one batch and of the next.
        Failpoint::EventFileWritten | Failpoint::EventFileRemoved | Failpoint::RecordsSent => 3,
        _ => 1,
    }
}

pub(crate) fn points(scenario: Scenario) -> impl Iterator<Item = Failpoint> {
    let all = Failpoint::ALL.iter().copied();
    all.filter(move |point| scenarios(*point).contains(&scenario))
}

/// A database whose collections change in rounds, none like another.
struct World {
    fixture: Fixture,
    client: Client,
    stream: ChangeStream<ChangeStreamEvent<Document>>,
    arguments: Vec<String>,
    eager: bool,
    round: i32,
}

impl World {
    /// Two collections with their tables, and the stream of all that happens from then on.
    async fn new(name: &str, arguments: &[&str], eager: bool) -> Self {
        let fixture = Fixture::new(name).await;
        let mut world = Self {
            client: fixture.mongod.client().await.unwrap(),
            stream: fixture.database.watch().await.unwrap(),
            fixture,
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
            eager,
            round: 0,
        };
        for name in ["c", "d"] {
            let documents = (0..120).map(|i| doc! { "_id": i, "n": i });
            let collection = world.collection(name);
            collection.insert_many(documents).await.unwrap();
        }
        world.sync(None).ok();
        world.stream = world.fixture.database.watch().await.unwrap();
        world
    }

    fn collection(&self, name: &str) -> Collection<Document> {
        // Of the client whose sessions are used.
        let database = self.client.database(&self.fixture.name);
        database.collection(name)
    }

    /// Catches up, or ends at a point when it is reached for the nth time.
    fn sync(&self, end_at: Option<(Failpoint, u32)>) -> Run {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let mut sync = sync(&self.fixture, &[&["--once"], &arguments[..]].concat());
        if self.eager {
            sync.env("TRIBUTARY_EAGER_UPKEEP", "1");
        }
        if let Some((point, nth)) = end_at {
            sync.env("TRIBUTARY_FAILPOINT", format!("{}:{nth}", point.name()));
        }
        run_command(sync)
    }

    /// Whether a sync ended at the point; it must be reached once at least.
    #[track_caller]
    fn ends_at(&self, point: Failpoint, nth: u32) -> bool {
        let run = self.sync(Some((point, nth)));
        if nth > 1 && run.code == Some(0) {
            return false;
        }
        let told = format!("failpoint {}\n", point.name());
        let ended = run.signal == Some(ABORTED) && run.stderr.ends_with(&told);
        assert!(ended, "not ended at {} {nth}: {run:#?}", point.name());
        true
    }

    /// Changes of every kind, each of them a column that gets a wider type among them.
    async fn change(&mut self) {
        self.round += 1;
        let round = self.round;
        let (c, d) = (self.collection("c"), self.collection("d"));
        let (narrow, wide) = (format!("w{round}"), format!("w{}", round - 1));
        let some = doc! { "_id": { "$lt": 40 } };
        c.update_many(some, doc! { "$inc": { "n": 1 } })
            .await
            .unwrap();
        let content = doc! { "n": round, narrow: round };
        let replace = c.replace_one(doc! { "_id": 50 + round % 7 }, content);
        replace.upsert(true).await.unwrap();
        let content = doc! { "n": round, wide: "text" };
        let replace = c.replace_one(doc! { "_id": 60 + round % 7 }, content);
        replace.upsert(true).await.unwrap();
        c.delete_one(doc! { "_id": 40 + round % 7 }).await.unwrap();
        c.insert_one(doc! { "_id": 1000 + round, "n": round })
            .await
            .unwrap();
        // Deleted and there again, and there and deleted again.
        c.delete_one(doc! { "_id": 70 }).await.unwrap();
        c.insert_one(doc! { "_id": 70, "n": round }).await.unwrap();
        c.insert_one(doc! { "_id": 2000, "n": round })
            .await
            .unwrap();
        c.delete_one(doc! { "_id": 2000 }).await.unwrap();
        // All events of a transaction have one time.
        let mut session = self.client.start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        for key in [80, 81, 3000 + round] {
            for collection in [&c, &d] {
                let update = collection.update_one(
                    doc! { "_id": key },
                    doc! { "$set": { "moved": round + key } },
                );
                update.upsert(true).session(&mut session).await.unwrap();
            }
        }
        session.commit_transaction().await.unwrap();
        d.delete_one(doc! { "_id": round % 80 }).await.unwrap();
    }

    /// Readers find each key once, whenever the process has ended.
    #[track_caller]
    fn assert_no_key_twice(&self) {
        let database = &self.fixture.name;
        let query = format!("SELECT count(*) - count(DISTINCT _id) AS more FROM {database}.c");
        assert_eq!(self.fixture.number(&query), 0);
    }

    /// Asserts at last that the other collection, and the histories of both, are right too.
    async fn end(self) {
        assert_same(&self.fixture, "d");
        self.assert_histories(&both(), 0).await;
    }

    /// Asserts that the histories hold each event once, in order; the first `before` ones came
    /// before the load.
    async fn assert_histories(self, names: &[String], before: usize) {
        let mut happened = tokens(self.stream, &self.fixture.database).await;
        for name in names {
            let happened = happened.remove(name).unwrap();
            let query = format!(
                "SELECT _id FROM {}.{name}__history WHERE _id >= '{}' ORDER BY _id",
                self.fixture.name, happened[0]
            );
            let rows = self.fixture.sql(&query);
            let kept: Vec<&str> = rows
                .iter()
                .map(|row| row["_id"].as_str().unwrap())
                .collect();
            assert!(kept.len() >= happened.len() - before, "{name}: {kept:?}");
            // The event at whose very moment the load began may be there too.
            assert_eq!(kept, happened[happened.len() - kept.len()..], "{name}");
        }
    }
}

fn both() -> [String; 2] {
    ["c", "d"].map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_ends_at_any_point_goes_on() {
    let mut world = World::new("points", &["--history"], false).await;
    let mut names = Vec::new();
    for point in points(Scenario::Load) {
        for nth in 1..=tries(point) {
            let name = format!("c{}", names.len());
            let fresh = world.collection(&name);
            let documents = (0..100).map(|i| doc! { "_id": i, "n": i });
            fresh.insert_many(documents).await.unwrap();
            world.arguments = ["--history", "--collection", &name]
                .map(str::to_owned)
                .to_vec();
            let is_last = !world.ends_at(point, nth);
            names.push(name);
            let some = doc! { "_id": { "$lt": 30 } };
            fresh
                .update_many(some.clone(), doc! { "$set": { "n": "text" } })
                .await
                .unwrap();
            fresh.delete_one(doc! { "_id": 5 }).await.unwrap();
            world.sync(None).ok();
            assert_same(&world.fixture, names.last().unwrap());
            if is_last {
                break;
            }
        }
    }
    // What was there before the load is no part of its history.
    world.assert_histories(&names, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_whose_sync_ends_at_any_point_are_applied_once() {
    at_each_point(Scenario::Changes, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_whose_sync_ends_around_any_commit_are_applied_once() {
    at_each_point(Scenario::Commits, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_that_ends_around_any_commit_changes_nothing() {
    at_each_point(Scenario::CommitsOfUpkeep, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_that_ends_at_any_point_changes_nothing() {
    at_each_point(Scenario::Upkeep, true).await;
}

async fn at_each_point(scenario: Scenario, eager: bool) {
    /// Each change leaves a column, and files that are written again for the next one that gets
    /// wider: a sync takes ten times as long after thirty of them.
    const MOST_ROUNDS: i32 = 10;
    let new = || World::new("points", &["--history"], eager);
    let mut world = new().await;
    for point in points(scenario) {
        for nth in 1..=tries(point) {
            // Where files are joined all the time there are never many.
            if !eager && world.round >= MOST_ROUNDS {
                std::mem::replace(&mut world, new().await).end().await;
            }
            world.change().await;
            if eager {
                age_logs(&world.fixture);
            }
            let is_last = !world.ends_at(point, nth);
            world.assert_no_key_twice();
            world.change().await;
            world.sync(None).ok();
            assert_same(&world.fixture, "c");
            if is_last {
                break;
            }
        }
    }
    world.end().await;
}

/// Makes the logs so old that they are cleaned up.
fn age_logs(fixture: &Fixture) {
    let old = SystemTime::now() - Duration::from_secs(60 * 24 * 3600);
    for name in ["c", "d"] {
        let log = fixture.table(name).join("_delta_log");
        for file in files_below(&log) {
            let file = File::options().write(true).open(log.join(file)).unwrap();
            file.set_modified(old).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_without_changes_is_committed_before_or_not_at_all() {
    let arguments = ["--history", "--heartbeat", "1s"];
    let mut world = World::new("points", &arguments, false).await;
    let admin = world.client.database("admin");
    let now = async || {
        let reply = admin.run_command(doc! { "ping": 1 }).await.unwrap();
        reply.get_timestamp("operationTime").unwrap().time
    };
    for point in points(Scenario::Quiet) {
        for nth in 1..=tries(point) {
            let (since, deadline) = (now().await, Instant::now() + LIMIT);
            while now().await < since + 3 {
                assert!(Instant::now() < deadline, "the server's clock stands still");
                let noise = world.collection("noise");
                noise.insert_one(doc! { "text": "noise" }).await.unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let is_last = !world.ends_at(point, nth);
            world.change().await;
            world.sync(None).ok();
            assert_same(&world.fixture, "c");
            if is_last {
                break;
            }
        }
    }
    world.assert_histories(&both(), 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_was_not_written_behind_its_commit_is_written_at_the_next_start() {
    let arguments = ["--history", COPY_ON_WRITE, SYMLINK_MANIFEST];
    let mut world = World::new("points", &arguments, true).await;
    let tables = ["c", "d", "c__history", "d__history"].map(|name| world.fixture.table(name));
    for point in points(Scenario::Manifest) {
        for nth in 1..=tries(point) {
            world.change().await;
            let is_last = !world.ends_at(point, nth);
            if !is_last {
                // Each table commits by itself, so it may be more than one.
                let behind = tables.each_ref().map(|table| manifest_lag(table));
                assert!(behind.contains(&1), "{behind:?}");
                assert!(behind.iter().all(|lag| *lag <= 1), "{behind:?}");
            }
            world.assert_no_key_twice();
            world.change().await;
            world.sync(None).ok();
            for table in &tables {
                assert_eq!(manifest_lag(table), 0);
            }
            compare_manifest(&world.fixture, "c");
            if is_last {
                break;
            }
        }
    }
    compare_manifest(&world.fixture, "d");
    world.assert_histories(&both(), 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_index_that_is_filled_by_half_is_filled_on() {
    const KEYS: i32 = 50_000;
    let mut world = World::new("points", &[], true).await;
    world.arguments = ["--collection", "large"].map(str::to_owned).to_vec();
    let large = world.collection("large");
    for first in (0..KEYS).step_by(10_000) {
        let documents = (first..first + 10_000).map(|i| doc! { "_id": i });
        large.insert_many(documents).await.unwrap();
    }
    for point in points(Scenario::Large) {
        // So many rows are deleted that the rest, still many, is written again.
        let few = doc! { "_id": { "$gte": 30_000 } };
        if point == Failpoint::CompactionBetween {
            large.delete_many(few).await.unwrap();
        }
        assert!(world.ends_at(point, 1));
        large
            .delete_many(doc! { "_id": { "$lt": 100 } })
            .await
            .unwrap();
        let update = large.update_many(
            doc! { "_id": { "$gte": 28_000, "$lt": 29_000 } },
            doc! { "$set": { "n": point.name() } },
        );
        update.await.unwrap();
        world.sync(None).ok();
        assert_same(&world.fixture, "large");
    }
}
