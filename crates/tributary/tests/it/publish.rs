//! Changes as they are, in files and in Kinesis, through kills: compared with a change stream of the driver's.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bson::{Document, doc};
use mongodb::change_stream::ChangeStream;
use mongodb::change_stream::event::ChangeStreamEvent;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tributary_flow::Failpoint;
use tributary_functions::services::{AwsClient, AwsSettings, HttpLimits};
use tributary_testkit::{AzuriteServer, S3Server, unique_name};

use crate::failpoints::{ABORTED, Scenario, points, tries};
use crate::running::Running;
use crate::storage::Store;
use crate::support::{Fixture, Run, command, files_below, run, run_command};
use crate::sync::{collection, tokens, work};

/// A sync of the fixture's changes into files.
fn into_files(fixture: &Fixture, arguments: &[&str]) -> Command {
    let (uri, place) = (fixture.uri(), fixture.path("changes"));
    let fixed = ["sync", &uri, &place, "--changes", "--output", "json"];
    command(&[&fixed, arguments].concat())
}

fn catch_up(fixture: &Fixture, arguments: &[&str]) -> Run {
    run_command(into_files(fixture, &[&["--once"], arguments].concat())).ok()
}

/// The files of a collection's events, in the order of their names.
fn files_of(fixture: &Fixture, collection: &str) -> Vec<String> {
    let directory = Path::new(&fixture.path("changes"))
        .join(&fixture.name)
        .join(collection);
    match directory.is_dir() {
        true => files_below(&directory),
        false => Vec::new(),
    }
}

/// The events of a collection, in the order of the files' names.
fn events_of(fixture: &Fixture, collection: &str) -> Vec<Value> {
    let directory = Path::new(&fixture.path("changes"))
        .join(&fixture.name)
        .join(collection);
    let mut events = Vec::new();
    for name in files_of(fixture, collection) {
        let bytes = std::fs::read(directory.join(&name)).unwrap();
        let mut text = String::new();
        match name.ends_with(".gz") {
            true => flate2::read::GzDecoder::new(&bytes[..])
                .read_to_string(&mut text)
                .unwrap(),
            false => (&bytes[..]).read_to_string(&mut text).unwrap(),
        };
        events.extend(
            text.lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap()),
        );
    }
    events
}

fn token(event: &Value) -> String {
    event["_id"]["_data"].as_str().unwrap().to_owned()
}

/// Something happens that no test looks at, so that what is looked at comes behind where a stream begins.
pub(crate) async fn stir(fixture: &Fixture) {
    collection(fixture, "before")
        .insert_one(doc! {})
        .await
        .unwrap();
}

pub(crate) type Stream = ChangeStream<ChangeStreamEvent<Document>>;

/// Changes of every kind in two collections, some of them in one transaction.
pub(crate) async fn change(fixture: &Fixture, round: i32) {
    let client = fixture.mongod.client().await.unwrap();
    let database = client.database(&fixture.name);
    let (c, d) = (
        database.collection::<Document>("c"),
        database.collection::<Document>("d"),
    );
    c.insert_many((0..5).map(|i| doc! { "_id": round * 10 + i, "n": i }))
        .await
        .unwrap();
    let id = doc! { "_id": round * 10 };
    c.update_one(id.clone(), doc! { "$inc": { "n": 1 } })
        .await
        .unwrap();
    c.replace_one(id.clone(), doc! { "other": true })
        .await
        .unwrap();
    c.delete_one(id).await.unwrap();
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    for i in 0..4 {
        for collection in [&c, &d] {
            collection
                .insert_one(doc! { "_id": round * 10 + 5 + i })
                .session(&mut session)
                .await
                .unwrap();
        }
    }
    session.commit_transaction().await.unwrap();
}

/// Asserts that the files hold each event once, in order.
pub(crate) async fn assert_files(fixture: &Fixture, stream: Stream, names: &[&str]) {
    let mut happened = tokens(stream, &fixture.database).await;
    for name in names {
        let events = events_of(fixture, name);
        let kept: Vec<String> = events.iter().map(token).collect();
        assert_eq!(kept, happened.remove(*name).unwrap(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_becomes_a_file_that_says_what_was_before_and_is_after() {
    let fixture = Fixture::new("changes").await;
    fixture
        .database
        .create_collection("c")
        .change_stream_pre_and_post_images(
            mongodb::options::ChangeStreamPreAndPostImages::builder()
                .enabled(true)
                .build(),
        )
        .await
        .unwrap();
    stir(&fixture).await;
    let alone = ["--batch-events", "1", "--json", "canonical"];
    catch_up(&fixture, &alone);
    let c = collection(&fixture, "c");
    let id = doc! { "_id": 1 };
    c.insert_one(doc! { "_id": 1, "n": 1_i64 }).await.unwrap();
    c.update_one(id.clone(), doc! { "$set": { "n": 2 } })
        .await
        .unwrap();
    c.replace_one(id.clone(), doc! { "m": 3 }).await.unwrap();
    c.delete_one(id).await.unwrap();
    let report = catch_up(&fixture, &alone).finished();
    let collections = report["collections"].as_array().unwrap();
    let told = collections
        .iter()
        .find(|told| told["namespace"] == format!("{}.c", fixture.name))
        .unwrap();
    assert_eq!(told["changes"], 4, "{report}");
    assert_eq!(told["upserted"], 3, "{report}");
    assert_eq!(told["deleted"], 1, "{report}");

    let files = files_of(&fixture, "c");
    assert_eq!(files.len(), 4, "{files:?}");
    for file in &files {
        // Seconds, ordinal, number, batch.
        let parts: Vec<usize> = file
            .strip_suffix(".json")
            .unwrap()
            .split('-')
            .map(str::len)
            .collect();
        assert_eq!(parts, [10, 10, 8, 13], "{file}");
    }
    let events = events_of(&fixture, "c");
    let operations: Vec<&Value> = events.iter().map(|event| &event["operationType"]).collect();
    assert_eq!(operations, ["insert", "update", "replace", "delete"]);
    let int = |n: i32| json!({ "$numberInt": n.to_string() });
    assert_eq!(
        events[0]["fullDocument"],
        json!({ "_id": int(1), "n": { "$numberLong": "1" } })
    );
    assert_eq!(events[1]["updateDescription"]["updatedFields"]["n"], int(2));
    assert!(
        events[1]["fullDocumentBeforeChange"]["n"]["$numberLong"] == "1",
        "{}",
        events[1]
    );
    assert_eq!(events[2]["fullDocument"]["m"], int(3));
    assert_eq!(events[3]["documentKey"], json!({ "_id": int(1) }));
    assert_eq!(
        events[3]["fullDocumentBeforeChange"],
        json!({ "_id": int(1), "m": int(3) })
    );

    // What happens to collections and databases is told too.
    c.drop().await.unwrap();
    fixture.database.drop().await.unwrap();
    catch_up(&fixture, &alone);
    let last = events_of(&fixture, "c").pop().unwrap();
    assert_eq!(last["operationType"], "drop");
    let of_database: Vec<String> = files_of(&fixture, "")
        .into_iter()
        .filter(|name| !name.contains('/'))
        .collect();
    assert_eq!(of_database.len(), 1, "{of_database:?}");
    // A database that is there again is followed on.
    c.insert_one(doc! { "_id": 2 }).await.unwrap();
    catch_up(&fixture, &alone);
    let last = events_of(&fixture, "c").pop().unwrap();
    assert_eq!(last["operationType"], "insert");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_cut_by_their_number_and_compressed() {
    let fixture = Fixture::new("changes").await;
    stir(&fixture).await;
    let arguments = ["--batch-events", "40", "--gzip", "--collection", "c*"];
    catch_up(&fixture, &arguments);
    let stream = fixture.database.watch().await.unwrap();
    for name in ["c", "customers", "other"] {
        let documents = (0..100).map(|i| doc! { "_id": i });
        collection(&fixture, name)
            .insert_many(documents)
            .await
            .unwrap();
    }
    let report = catch_up(&fixture, &arguments).finished();
    assert_eq!(report["collections"].as_array().unwrap().len(), 2);
    for name in ["c", "customers"] {
        let files = files_of(&fixture, name);
        assert!(files.len() >= 3, "{files:?}");
        assert!(files.iter().all(|file| file.ends_with(".jsonl.gz")));
    }
    assert!(files_of(&fixture, "other").is_empty());
    assert_files(&fixture, stream, &["c", "customers"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_is_written_when_it_is_stopped() {
    let fixture = Fixture::new("changes").await;
    stir(&fixture).await;
    let mut sync = Running::start(into_files(&fixture, &["--commit-interval", "1h"]));
    sync.wait_for_events("noticed", 1).await;
    let stream = fixture.database.watch().await.unwrap();
    change(&fixture, 1).await;
    sync.wait_for_events("following", 2).await;
    // The stream is read in order: behind this everything before it has been.
    collection(&fixture, "behind")
        .insert_one(doc! {})
        .await
        .unwrap();
    let behind = format!("{}.behind", fixture.name);
    fixture
        .wait_until("the last event is read", || {
            let lines = sync.lines.lock().unwrap();
            lines
                .iter()
                .any(|line| line.contains("following") && line.contains(&behind))
        })
        .await;
    assert_eq!(sync.events("applied"), 0);
    let run = sync.stop().ok();
    assert_eq!(run.finished()["interrupted"], true);
    assert_files(&fixture, stream, &["c", "d"]).await;
}

fn ends_at(mut sync: Command, point: Failpoint, nth: u32) -> bool {
    sync.env("TRIBUTARY_FAILPOINT", format!("{}:{nth}", point.name()));
    let run = run_command(sync);
    if nth > 1 && run.code == Some(0) {
        return false;
    }
    let told = format!("failpoint {}\n", point.name());
    let ended = run.signal == Some(ABORTED) && run.stderr.ends_with(&told);
    assert!(ended, "not ended at {} {nth}: {run:#?}", point.name());
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn files_whose_sync_ends_at_any_point_hold_each_change_once() {
    let fixture = Fixture::new("changes").await;
    stir(&fixture).await;
    catch_up(&fixture, &[]);
    let stream = fixture.database.watch().await.unwrap();
    let mut round = 0;
    for point in points(Scenario::ChangeFiles) {
        for nth in 1..=tries(point) {
            round += 1;
            change(&fixture, round).await;
            // Files are cut otherwise in each run.
            let events = (1 + round % 4).to_string();
            let arguments = ["--once", "--batch-events", &events];
            let is_last = !ends_at(into_files(&fixture, &arguments), point, nth);
            round += 1;
            change(&fixture, round).await;
            catch_up(&fixture, &["--batch-events", "3"]);
            if is_last {
                break;
            }
        }
    }
    for point in points(Scenario::UnfinishedChangeFiles) {
        for nth in 1..=tries(point) {
            round += 1;
            // Many more than are written at once: when the fourth has been, some have not been begun.
            let many = (0..40).map(|n| doc! { "round": round, "n": n });
            collection(&fixture, "c").insert_many(many).await.unwrap();
            let alone = ["--once", "--batch-events", "1"];
            let written = into_files(&fixture, &alone);
            assert!(ends_at(written, Failpoint::EventFileWritten, 4));
            let is_last = !ends_at(into_files(&fixture, &["--once"]), point, nth);
            catch_up(&fixture, &[]);
            if is_last {
                break;
            }
        }
    }
    assert_files(&fixture, stream, &["c", "d"]).await;
    let left = files_below(Path::new(&fixture.path("changes")));
    assert!(
        !left.iter().any(|name| name.contains("unfinished")),
        "{left:?}"
    );
}

const KILLS: u32 = 20;

/// Kills a sync again and again while two workers write; then catches up.
async fn killed_again_and_again(
    fixture: Arc<Fixture>,
    mut sync: impl FnMut(&[&str]) -> Command,
    variants: &[&[&str]],
) {
    let done = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..2)
        .map(|seed| {
            let (fixture, done) = (Arc::clone(&fixture), Arc::clone(&done));
            tokio::spawn(async move { work(&fixture, &["c", "d"], seed, done).await })
        })
        .collect();
    let mut random = StdRng::seed_from_u64(7);
    for kill in 0..KILLS {
        let variant = variants[kill as usize % variants.len()];
        let arguments = [&["--commit-interval", "20ms"], variant].concat();
        let mut running = Running::start(sync(&arguments));
        running.wait_for_events("noticed", 1).await;
        // Some get through what is waiting for them, however slow the machine is.
        if kill % 4 == 3 {
            running.wait_for_events("applied", 1).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
        running.kill();
    }
    done.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
    run_command(sync(&["--once"])).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_whose_sync_is_killed_at_any_moment_hold_each_change_once() {
    let fixture = Arc::new(Fixture::new("changes").await);
    stir(&fixture).await;
    catch_up(&fixture, &[]);
    let stream = fixture.database.watch().await.unwrap();
    let variants: [&[&str]; 3] = [&["--batch-events", "1"], &["--batch-events", "7"], &[]];
    let of = Arc::clone(&fixture);
    killed_again_and_again(
        Arc::clone(&fixture),
        |arguments| into_files(&of, arguments),
        &variants,
    )
    .await;
    assert_files(&fixture, stream, &["c", "d"]).await;
}

/// What stays the same wherever an object store is.
async fn into_store(store: Store) {
    let fixture = Fixture::new("changes").await;
    stir(&fixture).await;
    let uri = fixture.uri();
    let sync = |arguments: &[&str]| {
        let fixed = ["sync", &uri, &store.lake, "--changes", "--output", "json"];
        let mut command = command(&[&fixed, arguments].concat());
        command.envs(store.environment.iter().map(|(k, v)| (k, v)));
        command
    };
    run_command(sync(&["--once"])).ok();
    for (round, point) in (1..).zip([Failpoint::EventFileWritten, Failpoint::EventFilesWritten]) {
        change(&fixture, round).await;
        assert!(ends_at(sync(&["--once", "--batch-events", "2"]), point, 1));
    }
    let run = run_command(sync(&["--once"])).ok().finished();
    let collections = run["collections"].as_array().unwrap();
    assert!(collections.iter().all(|told| told["changes"] != 0), "{run}");

    // The one that began later goes on.
    let mut first = Running::start(sync(&["--commit-interval", "10ms"]));
    first.wait_for_events("noticed", 1).await;
    change(&fixture, 3).await;
    first.wait_for_events("applied", 2).await;
    let mut second = Running::start(sync(&["--commit-interval", "10ms"]));
    second.wait_for_events("noticed", 1).await;
    change(&fixture, 4).await;
    let pids = (first.child.id(), second.child.id());
    fixture
        .wait_until("one of them ends", || {
            has_ended(pids.0) || has_ended(pids.1)
        })
        .await;
    let (ended, other) = match has_ended(pids.0) {
        true => (first, second),
        false => (second, first),
    };
    ended.end().fails(1, &["another process writes changes"]);
    other.stop().ok();
}

/// Whether a process runs no more; one whose end nobody has asked for yet is a zombie.
fn has_ended(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| {
        stat.rsplit_once(") ")
            .is_some_and(|(_, state)| state.starts_with('Z'))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_go_into_a_bucket_that_one_process_writes_to() {
    let (_server, store) = Store::s3().await;
    into_store(store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_go_into_a_container_that_one_process_writes_to() {
    let server = AzuriteServer::shared().await.unwrap();
    let container = unique_name("changes");
    server.create_container(&container).await.unwrap();
    into_store(Store {
        environment: server.env(),
        lake: format!("az://{container}/changes"),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_changes_are_kept_apart() {
    let fixture = Fixture::new("changes").await;
    fixture.insert("c", vec![doc! { "_id": 1 }]).await;
    let (uri, place) = (fixture.uri(), fixture.path("changes"));
    run(&["sync", &uri, &place, "--once"]).ok();
    // The first start says where it begins, and no file is written.
    catch_up(&fixture, &[]);
    fixture.insert("c", vec![doc! { "_id": 2 }]).await;
    run_command(into_files(&fixture, &["--once"])).fails(1, &["holds a table", "another place"]);
    run(&["sync", &uri, &place, "--once"]).fails(1, &["files of changes", "--changes"]);

    let other = fixture.mongod.uri_for(&unique_name("other"));
    let sync = ["sync", &other, &place, "--changes", "--once"];
    run(&sync).fails(1, &["of another database", &fixture.name]);
}

#[tokio::test(flavor = "multi_thread")]
async fn options_of_something_else_are_refused_by_their_names() {
    let uri = "mongodb://localhost:1/db";
    for (target, arguments, words) in [
        ("./changes", &["--gzip"][..], "--gzip"),
        ("./changes", &["--state", "x"], "--state"),
        ("./changes", &["--partition-key", "x"], "--partition-key"),
        ("./changes", &["--batch-events", "2"], "--batch-events"),
        ("./changes", &["--json", "relaxed"], "--json"),
        ("./changes", &["--changes", "--state", "x"], "--state"),
        ("./changes", &["--changes", "--history"], "--history"),
        ("./changes", &["--changes", "--index", "x"], "--index"),
        ("./changes", &["--changes", "--overwrite"], "--overwrite"),
        ("./changes", &["--changes", "--parallel", "2"], "--parallel"),
        ("./changes", &["--changes", "--stage", "x"], "--stage"),
        ("kinesis://s", &["--changes"], "--changes"),
        ("kinesis://s", &["--gzip"], "--gzip"),
        ("kinesis://s", &["--batch-events", "2"], "--batch-events"),
        ("kinesis://s", &["--on-drop", "clear"], "--on-drop"),
        ("kinesis://s?shard=1", &[], "shard"),
        ("kinesis://a/b", &[], "name of a stream"),
        ("postgres://localhost/db", &["--changes"], "--changes"),
    ] {
        let arguments = [&["sync", uri, target], arguments].concat();
        run(&arguments).fails(2, &[words]);
    }
}

/// A stream of Kinesis of one test.
pub(crate) struct Kinesis {
    pub(crate) server: S3Server,
    client: AwsClient,
    pub(crate) stream: String,
}

impl Kinesis {
    pub(crate) async fn new() -> Self {
        let server = S3Server::shared().await.unwrap();
        let settings = AwsSettings {
            region: Some("us-east-1".to_owned()),
            access_key_id: Some("testkit".to_owned()),
            secret_access_key: Some("testkit".to_owned().into()),
            endpoint: Some(server.endpoint().to_owned()),
            ..AwsSettings::default()
        };
        let kinesis = Self {
            client: AwsClient::new(settings, HttpLimits::default()).unwrap(),
            server,
            stream: unique_name("changes"),
        };
        kinesis
            .ask("CreateStream", json!({ "ShardCount": 3 }))
            .await;
        kinesis
    }

    async fn ask(&self, action: &str, mut body: Value) -> Value {
        body["StreamName"] = self.stream.as_str().into();
        let answer = self.client.call_json("kinesis", action, body).await;
        answer.unwrap_or_else(|error| panic!("{action}: {error}"))
    }

    /// The records of each shard, in their order: keys and events.
    async fn records(&self) -> Vec<Vec<(String, Value)>> {
        let shards = self.ask("ListShards", json!({})).await;
        let mut all = Vec::new();
        for shard in shards["Shards"].as_array().unwrap() {
            let of = json!({ "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON" });
            let mut next = self.ask("GetShardIterator", of).await["ShardIterator"].clone();
            let mut records = Vec::new();
            loop {
                // So many are well below the most that the client takes of an answer.
                let body = json!({ "ShardIterator": next, "Limit": 1000 });
                let answer = self.client.call_json("kinesis", "GetRecords", body).await;
                let answer = answer.unwrap();
                let some = answer["Records"].as_array().unwrap();
                if some.is_empty() {
                    break;
                }
                for record in some {
                    let data = STANDARD.decode(record["Data"].as_str().unwrap()).unwrap();
                    let key = record["PartitionKey"].as_str().unwrap().to_owned();
                    records.push((key, serde_json::from_slice(&data).unwrap()));
                }
                next = answer["NextShardIterator"].clone();
            }
            all.push(records);
        }
        all
    }

    fn sync(&self, fixture: &Fixture, arguments: &[&str]) -> Command {
        let (uri, state) = (fixture.uri(), fixture.path("state"));
        let target = format!("kinesis://{}", self.stream);
        let fixed = ["sync", &uri, &target, "--state", &state, "--output", "json"];
        let mut command = command(&[&fixed, arguments].concat());
        command.envs(self.server.env());
        command
    }

    /// Asserts that the stream holds every event, and those of each key in their order where what comes again is
    /// passed over; answers how many came again.
    pub(crate) async fn assert_events(
        &self,
        fixture: &Fixture,
        stream: Stream,
        names: &[&str],
    ) -> usize {
        let happened = tokens(stream, &fixture.database).await;
        let mut expected: Vec<&String> = names.iter().flat_map(|name| &happened[*name]).collect();
        expected.sort();
        let mut found: Vec<String> = Vec::new();
        let mut again = 0;
        for shard in self.records().await {
            let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (key, event) in shard {
                if !names.iter().any(|name| event["ns"]["coll"] == **name) {
                    continue;
                }
                let seen = by_key.entry(key).or_default();
                let token = token(&event);
                match seen.last() {
                    // What comes again has been there, and everything before it.
                    Some(last) if token <= *last => {
                        assert!(seen.contains(&token), "an event came late: {event}");
                        again += 1;
                    }
                    _ => seen.push(token),
                }
            }
            found.extend(by_key.into_values().flatten());
        }
        found.sort();
        assert_eq!(found.iter().collect::<Vec<_>>(), expected);
        again
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stand_in_keeps_all_records_that_are_put_at_once() {
    let kinesis = Kinesis::new().await;
    let puts = (0..16).map(|writer| {
        let kinesis = &kinesis;
        async move {
            for number in 0..10 {
                let record = |at| {
                    let data = json!({ "writer": writer, "number": number, "at": at });
                    json!({ "PartitionKey": format!("{at}"), "Data": STANDARD.encode(data.to_string()) })
                };
                let records: Vec<Value> = (0..100).map(record).collect();
                let put = kinesis.ask("PutRecords", json!({ "Records": records }));
                assert_eq!(put.await["FailedRecordCount"], 0);
            }
        }
    });
    futures::future::join_all(puts).await;
    assert_eq!(kinesis.records().await.concat().len(), 16 * 10 * 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_becomes_a_record_in_the_order_of_its_key() {
    let kinesis = Kinesis::new().await;
    let fixture = Fixture::new("kinesis").await;
    stir(&fixture).await;
    run_command(kinesis.sync(&fixture, &["--once"])).ok();
    let stream = fixture.database.watch().await.unwrap();
    for round in 1..4 {
        change(&fixture, round).await;
    }
    let run = run_command(kinesis.sync(&fixture, &["--once"])).ok();
    let of_c = format!("{}.c", fixture.name);
    let told = run.finished();
    let collections = told["collections"].as_array().unwrap();
    let told = collections.iter().find(|told| told["namespace"] == of_c);
    assert_eq!(told.unwrap()["changes"], 36);
    assert_eq!(told.unwrap()["deleted"], 3);
    assert_eq!(
        kinesis.assert_events(&fixture, stream, &["c", "d"]).await,
        0
    );
    let records: Vec<_> = kinesis.records().await.concat();
    let of_key = |key: &str| {
        let of_key = records.iter().filter(|(of, _)| of == key);
        let operations = of_key.map(|(_, event)| event["operationType"].as_str().unwrap());
        operations.collect::<Vec<_>>()
    };
    assert_eq!(
        of_key(r#"{"$numberInt":"10"}"#),
        ["insert", "update", "replace", "delete"]
    );
    // Nothing more but what ended the comparison: nothing is sent again.
    run_command(kinesis.sync(&fixture, &["--once"])).ok();
    let count = kinesis.records().await.concat().len();
    assert_eq!(count, records.len() + 1);
    run_command(kinesis.sync(&fixture, &["--once"])).ok();
    assert_eq!(kinesis.records().await.concat().len(), count);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_of_the_document_is_the_partition_key_where_it_is_asked_for() {
    let kinesis = Kinesis::new().await;
    let fixture = Fixture::new("kinesis").await;
    stir(&fixture).await;
    let arguments = [
        "--once",
        "--partition-key",
        "fullDocument.customer",
        "--json",
        "canonical",
    ];
    run_command(kinesis.sync(&fixture, &arguments)).ok();
    let documents = (0..60).map(|i| doc! { "_id": i, "customer": format!("c{}", i % 2) });
    fixture.insert("c", documents.collect()).await;
    run_command(kinesis.sync(&fixture, &arguments)).ok();
    let records = kinesis.records().await.concat();
    for customer in ["c0", "c1"] {
        let of_key = records.iter().filter(|(key, _)| key == customer);
        let ids = of_key.map(|(_, event)| &event["fullDocument"]["_id"]["$numberInt"]);
        let ids: Vec<u32> = ids
            .map(|id| id.as_str().unwrap().parse().unwrap())
            .collect();
        assert_eq!(ids.len(), 30);
        assert!(ids.is_sorted(), "{ids:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_whose_sync_ends_at_any_point_are_all_there_and_in_order() {
    let kinesis = Kinesis::new().await;
    let fixture = Fixture::new("kinesis").await;
    stir(&fixture).await;
    run_command(kinesis.sync(&fixture, &["--once"])).ok();
    let stream = fixture.database.watch().await.unwrap();
    let mut round = 0;
    for point in points(Scenario::Records) {
        for nth in 1..=tries(point) {
            round += 1;
            change(&fixture, round).await;
            let is_last = !ends_at(kinesis.sync(&fixture, &["--once"]), point, nth);
            round += 1;
            change(&fixture, round).await;
            run_command(kinesis.sync(&fixture, &["--once"])).ok();
            if is_last {
                break;
            }
        }
    }
    let again = kinesis.assert_events(&fixture, stream, &["c", "d"]).await;
    assert!(
        again > 0,
        "nothing was cut short between a request and the position"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn records_whose_sync_is_killed_at_any_moment_are_all_there_and_in_order() {
    let kinesis = Arc::new(Kinesis::new().await);
    let fixture = Arc::new(Fixture::new("kinesis").await);
    stir(&fixture).await;
    run_command(kinesis.sync(&fixture, &["--once"])).ok();
    let stream = fixture.database.watch().await.unwrap();
    let (of, into) = (Arc::clone(&fixture), Arc::clone(&kinesis));
    killed_again_and_again(
        Arc::clone(&fixture),
        |arguments| into.sync(&of, arguments),
        &[&[]],
    )
    .await;
    kinesis.assert_events(&fixture, stream, &["c", "d"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_there_is_one_clear_error() {
    let kinesis = Kinesis::new().await;
    let fixture = Fixture::new("kinesis").await;
    fixture.insert("c", vec![doc! { "_id": 1 }]).await;
    let (uri, state) = (fixture.uri(), fixture.path("state"));
    let to = |target: &str, environment: &[(String, String)]| {
        let sync = ["sync", &uri, target, "--state", &state, "--once"];
        let mut command = command(&sync);
        command.envs(environment.iter().map(|(k, v)| (k, v)));
        run_command(command)
    };
    let environment = kinesis.server.env();
    to("kinesis://missing", &environment).fails(1, &["stream missing", "create the stream"]);
    // Streams are of a region.
    let elsewhere = format!("kinesis://{}?region=eu-west-1", kinesis.stream);
    to(&elsewhere, &environment).fails(1, &[&kinesis.stream, "the region"]);
    let here = format!("kinesis://{}", kinesis.stream);
    let nowhere: Vec<(String, String)> = environment
        .iter()
        .filter(|(name, _)| name != "AWS_REGION")
        .cloned()
        .chain([("AWS_CONFIG_FILE".to_owned(), "/nowhere".to_owned())])
        .chain([("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned())])
        .collect();
    to(&here, &nowhere).fails(2, &["region", "AWS_REGION"]);
    // One process at a time.
    let mut first = Running::start(kinesis.sync(&fixture, &[]));
    first.wait_for_events("noticed", 1).await;
    run_command(kinesis.sync(&fixture, &["--once"]))
        .fails(1, &["another process", "--state", "`state` in the file"]);
    first.stop().ok();
}
