//! Tables that follow their collections, through kills and faults.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, doc};
use futures::StreamExt;
use mongodb::change_stream::ChangeStream;
use mongodb::change_stream::event::ChangeStreamEvent;
use mongodb::{Collection, Database};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use serde_json::Value;
use tributary_demodata::{Generator, Kind};
use tributary_testkit::{Signal, run_in_group, send_signal};

use crate::readers::{compare, foreign, python};
use crate::running::Running;
use crate::support::{Fixture, LIMIT, Run, command, run_command, wait};

/// A sync of the fixture's database into its lake.
pub(crate) fn sync(fixture: &Fixture, arguments: &[&str]) -> Command {
    let (uri, lake, index) = (fixture.uri(), fixture.lake(), fixture.path("index"));
    let fixed = ["sync", &uri, &lake, "--index", &index, "--output", "json"];
    command(&[&fixed, arguments].concat())
}

pub(crate) fn catch_up(fixture: &Fixture) -> Run {
    catch_up_with(fixture, &[])
}

fn catch_up_with(fixture: &Fixture, arguments: &[&str]) -> Run {
    run_command(sync(fixture, &[&["--once"], arguments].concat())).ok()
}

/// Has tables without deletion vectors.
pub(crate) const COPY_ON_WRITE: &str = "--no-deletion-vectors";

/// Asserts that a table holds what its collection does, as readers of its own see both.
#[track_caller]
pub(crate) fn assert_same(fixture: &Fixture, collection: &str) {
    let table = fixture.table(collection);
    compare("deltalake", fixture, collection, &table.to_string_lossy());
}

pub(crate) fn collection(fixture: &Fixture, name: &str) -> Collection<Document> {
    fixture.database.collection(name)
}

/// A value of one of many types: columns widen as they come.
fn value(random: &mut StdRng) -> Bson {
    match random.random_range(0..12) {
        0 => Bson::Null,
        1 => Bson::Int64(random.random()),
        2 => Bson::Double(random.random_range(-1e6..1e6)),
        3 => Bson::String(format!("text {}", random.random_range(0..1000))),
        4 => Bson::Boolean(random.random()),
        5 => Bson::DateTime(bson::DateTime::from_millis(random.random_range(0..1 << 42))),
        6 => Bson::Document(doc! { "a": random.random_range(0..9), "b": "in" }),
        7 => Bson::Array(vec![Bson::Int32(1), Bson::Int32(random.random_range(0..9))]),
        _ => Bson::Int32(random.random_range(-1000..1000)),
    }
}

/// One random operation on one of `keys` documents. `mixed` also changes the types of fields.
async fn operate(collection: &Collection<Document>, keys: i32, mixed: bool, random: &mut StdRng) {
    let key = random.random_range(0..keys);
    let n = random.random_range(0..1_000_000);
    let mut content = doc! { "n": n, "text": "x".repeat(random.random_range(0..200)) };
    if mixed && random.random_ratio(1, 20) {
        let field = format!("f{}", random.random_range(0..6));
        content.insert(field, value(random));
    }
    let filter = doc! { "_id": key };
    let result = match random.random_range(0..10) {
        0..4 => collection
            .update_one(filter, doc! { "$set": content })
            .upsert(true)
            .await
            .map(drop),
        4..6 => collection
            .replace_one(filter, content)
            .upsert(true)
            .await
            .map(drop),
        6..8 => collection.delete_one(filter).await.map(drop),
        _ => collection
            .update_one(
                filter,
                doc! { "$inc": { "n": 1 }, "$unset": { "text": "" } },
            )
            .await
            .map(drop),
    };
    result.expect("the operation");
}

/// How often workers write at least, however fast all else is.
pub(crate) const LEAST_WRITES: u64 = 100;

/// Works on several collections until it is told to stop, now and then in a transaction of both.
pub(crate) async fn work(fixture: &Fixture, names: &[&str], seed: u64, stop: Arc<AtomicBool>) {
    let mut random = StdRng::seed_from_u64(seed);
    let client = fixture.mongod.client().await.expect("a client");
    let database = client.database(&fixture.name);
    let mut done: u64 = 0;
    while done < LEAST_WRITES || !stop.load(Ordering::Relaxed) {
        let name = names[random.random_range(0..names.len())];
        operate(
            &database.collection(name),
            300,
            name == "mixed",
            &mut random,
        )
        .await;
        done += 1;
        if random.random_ratio(1, 25) {
            let mut session = client.start_session().await.expect("a session");
            session.start_transaction().await.expect("a transaction");
            let mut written = true;
            for name in names {
                let key = random.random_range(0..300);
                let result = database
                    .collection::<Document>(name)
                    .update_one(
                        doc! { "_id": key },
                        doc! { "$set": { "moved": done as i64 } },
                    )
                    .upsert(true)
                    .session(&mut session)
                    .await;
                // The other worker may write to the same document.
                if let Err(error) = result {
                    assert!(error.contains_label("TransientTransactionError"), "{error}");
                    written = false;
                    break;
                }
            }
            if written && random.random_ratio(4, 5) {
                session.commit_transaction().await.expect("a commit");
            } else {
                session.abort_transaction().await.expect("an abort");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_every_kind_reach_the_table() {
    changes_of_every_kind(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_every_kind_reach_a_table_without_deletion_vectors() {
    changes_of_every_kind(&[COPY_ON_WRITE]).await;
}

async fn changes_of_every_kind(arguments: &[&str]) {
    let fixture = Fixture::new("sync").await;
    let c = collection(&fixture, "c");
    let documents = (0..500).map(|i| doc! { "_id": i, "n": i, "s": format!("v{i}") });
    c.insert_many(documents).await.unwrap();
    catch_up_with(&fixture, arguments);
    assert_same(&fixture, "c");

    c.insert_one(doc! { "_id": 1000, "new": { "deep": [1, 2] } })
        .await
        .unwrap();
    c.update_many(doc! { "_id": { "$lt": 50 } }, doc! { "$set": { "n": 2.5 } })
        .await
        .unwrap();
    c.replace_one(doc! { "_id": 60 }, doc! { "other": true })
        .await
        .unwrap();
    c.delete_many(doc! { "_id": { "$gte": 400, "$lt": 450 } })
        .await
        .unwrap();
    // Deleted and there again, and there and deleted again, all in one batch.
    c.delete_one(doc! { "_id": 70 }).await.unwrap();
    c.insert_one(doc! { "_id": 70, "n": -70 }).await.unwrap();
    c.insert_one(doc! { "_id": 2000, "n": 1 }).await.unwrap();
    c.delete_one(doc! { "_id": 2000 }).await.unwrap();
    // A collection that appears.
    collection(&fixture, "later")
        .insert_one(doc! { "x": 1 })
        .await
        .unwrap();
    let run = catch_up(&fixture).finished();
    assert_eq!(run["collections"][0]["deleted"], 51, "{run}");
    assert_same(&fixture, "c");
    assert_same(&fixture, "later");

    // Nothing more: nothing is applied again.
    let version = fixture.files("c", "json").len();
    let run = catch_up(&fixture).finished();
    assert_eq!(run["collections"][0]["changes"], 0, "{run}");
    assert_eq!(fixture.files("c", "json").len(), version);
    // What the table was made with it keeps to.
    let has_vectors = !fixture.files("c", "bin").is_empty();
    assert_eq!(has_vectors, arguments.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn other_readers_agree_on_what_was_changed() {
    let fixture = changed_banking(&[]).await;
    assert!(
        !fixture.files("banking", "bin").is_empty(),
        "no deletion vectors"
    );
    let table = fixture.table("banking");
    for reader in ["deltalake", "polars", "sail"] {
        compare(reader, &fixture, "banking", &table.to_string_lossy());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_know_no_deletion_vectors_agree_on_what_was_changed() {
    let fixture = changed_banking(&[COPY_ON_WRITE]).await;
    assert!(fixture.files("banking", "bin").is_empty());
    let table = fixture.table("banking");
    let readers = [
        "deltalake",
        "deltalake-pyarrow",
        "polars",
        "duckdb-delta",
        "sail",
    ];
    for reader in readers {
        compare(reader, &fixture, "banking", &table.to_string_lossy());
    }
}

/// A followed table of which rows were replaced and deleted.
async fn changed_banking(arguments: &[&str]) -> Fixture {
    let fixture = Fixture::new("shared").await;
    let generator = Generator::new(Kind::Banking, 5);
    let documents = |range: Range<u64>| {
        range
            .map(|i| generator.document(i).into_bytes())
            .collect::<Vec<_>>()
    };
    fixture.insert_raw("banking", documents(0..200)).await;
    catch_up_with(&fixture, arguments);
    let banking = collection(&fixture, "banking");
    fixture.insert_raw("banking", documents(200..250)).await;
    let changed = doc! { "$set": { "transactions": [], "added": { "n": 1 } } };
    let savings = doc! { "accountType": "savings" };
    banking.update_many(savings, changed).await.unwrap();
    banking
        .delete_many(doc! { "accountType": "credit" })
        .await
        .unwrap();
    catch_up(&fixture);
    fixture
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_has_deletion_vectors_is_written_without_them() {
    let fixture = Fixture::new("switch").await;
    let c = collection(&fixture, "c");
    c.insert_many((0..300).map(|i| doc! { "_id": i, "n": i }))
        .await
        .unwrap();
    catch_up(&fixture);
    let changed = doc! { "$set": { "n": -1 } };
    c.update_many(doc! { "_id": { "$lt": 50 } }, changed)
        .await
        .unwrap();
    catch_up(&fixture);
    let table = fixture.table("c");
    let vectors = fixture.files("c", "bin").len();
    assert!(vectors > 0);
    catch_up_with(&fixture, &[COPY_ON_WRITE]);
    for reader in ["deltalake", "deltalake-pyarrow", "sail"] {
        compare(reader, &fixture, "c", &table.to_string_lossy());
    }
    c.delete_many(doc! { "_id": { "$gt": 250 } }).await.unwrap();
    catch_up(&fixture);
    compare("deltalake-pyarrow", &fixture, "c", &table.to_string_lossy());
    assert_eq!(fixture.files("c", "bin").len(), vectors);

    // What replaces it may have them again, and what replaces that not.
    for (arguments, has_vectors) in [
        (&["--overwrite"] as &[&str], true),
        (&["--overwrite", COPY_ON_WRITE], false),
    ] {
        catch_up_with(&fixture, arguments);
        let before = fixture.files("c", "bin").len();
        c.update_one(doc! { "_id": 7 }, doc! { "$inc": { "n": 1 } })
            .await
            .unwrap();
        catch_up(&fixture);
        assert_eq!(fixture.files("c", "bin").len() > before, has_vectors);
        assert_same(&fixture, "c");
    }
    compare("deltalake-pyarrow", &fixture, "c", &table.to_string_lossy());
}

/// The versions of a table from `first` on, as its change data feed tells them to a reader that replays it: each
/// with its operation, and the keys that were inserted, updated and deleted.
#[track_caller]
fn feed(reader: &str, fixture: &Fixture, collection: &str, first: usize) -> Vec<Value> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/readers/feed.py");
    let mut command = Command::new(python());
    command
        .args([
            script,
            reader,
            fixture.mongod.uri(),
            &fixture.name,
            collection,
        ])
        .arg(fixture.table(collection))
        .arg(first.to_string());
    let (status, text) = run_in_group(command, LIMIT).expect("python runs");
    let is_ok = status.is_some_and(|status| status.success());
    assert!(is_ok, "{reader}: {status:?} {text}");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {text}")))
        .collect()
}

/// Changes a collection in ways of which each is one version of its table, until its files are
/// joined, and asserts that the feed tells what happened. It is read from `first` on.
async fn assert_fed(fixture: &Fixture, readers: &[&str], first: usize) {
    let before = versions(fixture);
    let c = collection(fixture, "c");
    let mut happened = Vec::new();
    for round in 0..9 {
        let keys: Vec<i32> = (0..5).map(|i| i * 20 + round).collect();
        c.update_many(
            doc! { "_id": { "$in": &keys } },
            doc! { "$inc": { "n": 1000 } },
        )
        .await
        .unwrap();
        let gone = [100 + round, 110 + round];
        c.delete_many(doc! { "_id": { "$in": &gone } })
            .await
            .unwrap();
        // There and deleted before anybody sees it; and deleted and there again.
        c.insert_one(doc! { "_id": -1 }).await.unwrap();
        c.delete_one(doc! { "_id": -1 }).await.unwrap();
        c.delete_one(doc! { "_id": keys[0] }).await.unwrap();
        let new = [
            doc! { "_id": keys[0], "n": round, "s": "again" },
            doc! { "_id": 1000 + round, "n": 1 },
        ];
        c.insert_many(new).await.unwrap();
        catch_up(fixture);
        happened.push(serde_json::json!({
            "operation": "STREAMING UPDATE",
            "inserted": [1000 + round], "updated": keys, "deleted": gone,
        }));
    }
    // One more version, so that there are files to be joined by somebody else, too.
    c.insert_one(doc! { "_id": 5000, "n": 0 }).await.unwrap();
    catch_up(fixture);
    happened.push(serde_json::json!({
        "operation": "STREAMING UPDATE", "inserted": [5000], "updated": [], "deleted": [],
    }));
    foreign(&fixture.table("c"), &["compact"]).unwrap();
    for reader in readers {
        let versions = feed(reader, fixture, "c", first);
        let mut told = versions[before - first..].to_vec();
        // Versions that join files change nothing.
        let joined = told.extract_if(.., |version| version["operation"] == "OPTIMIZE");
        let joined: Vec<Value> = joined.collect();
        assert!(!joined.is_empty());
        let nothing = serde_json::json!([]);
        for version in joined {
            for kind in ["inserted", "updated", "deleted"] {
                assert_eq!(version[kind], nothing, "{reader}: {version}");
            }
        }
        // The position may move on without changes.
        told.retain(|version| version["updated"] != nothing || version["inserted"] != nothing);
        assert_eq!(told, happened, "{reader}");
    }
}

/// How many versions the table of `c` has.
fn versions(fixture: &Fixture) -> usize {
    let mut commits = fixture.files("c", "json");
    commits.retain(|name| name.starts_with("_delta_log"));
    commits.len()
}

async fn fed_collection(arguments: &[&str]) -> Fixture {
    let fixture = Fixture::new("feed").await;
    let documents = (0..200).map(|i| doc! { "_id": i, "n": i, "s": format!("v{i}") });
    collection(&fixture, "c")
        .insert_many(documents)
        .await
        .unwrap();
    catch_up_with(&fixture, arguments);
    // What came while the collection was loaded is applied again: a version of its own.
    catch_up(&fixture);
    fixture
}

#[tokio::test(flavor = "multi_thread")]
async fn the_change_data_feed_of_a_table_tells_what_happened() {
    let fixture = fed_collection(&[]).await;
    assert_fed(&fixture, &["kernel", "deltalake"], 0).await;
    assert!(!fixture.files("c", "bin").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_change_data_feed_of_a_table_without_deletion_vectors_tells_what_happened() {
    let fixture = fed_collection(&[COPY_ON_WRITE]).await;
    let table = fixture.table("c");
    foreign(&table, &["property", "delta.enableChangeDataFeed=true"]).unwrap();
    let first = versions(&fixture);
    assert_fed(&fixture, &["kernel", "deltalake"], first).await;
    assert!(fixture.files("c", "bin").is_empty());
    for reader in ["deltalake", "deltalake-pyarrow", "sail"] {
        compare(reader, &fixture, "c", &table.to_string_lossy());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_change_data_feed_is_right_for_files_of_several_row_groups() {
    let fixture = Fixture::new("groups").await;
    let c = collection(&fixture, "c");
    let mut random = StdRng::seed_from_u64(1);
    for part in 0..5 {
        let documents = (0..500).map(|i| {
            let mut bytes = vec![0; 12_000];
            random.fill_bytes(&mut bytes);
            let bytes = Binary {
                subtype: BinarySubtype::Generic,
                bytes,
            };
            doc! { "_id": part * 500 + i, "n": i, "bytes": bytes }
        });
        c.insert_many(documents).await.unwrap();
    }
    catch_up(&fixture);
    catch_up(&fixture);
    let data = fixture.files("c", "parquet");
    let groups = "import sys, pyarrow.parquet as p; \
                  print(max(p.ParquetFile(f).num_row_groups for f in sys.argv[1:]))";
    let mut command = Command::new(python());
    command.args(["-c", groups]);
    command.args(data.iter().map(|name| fixture.table("c").join(name)));
    let (_, groups) = run_in_group(command, LIMIT).unwrap();
    assert!(groups.trim().parse::<u32>().unwrap() > 1, "{groups}");

    let first = versions(&fixture);
    // The last of them is in the last row group: kernels of before 2026 take all rows of groups
    // behind the last one that changes for deleted.
    let keys: Vec<i32> = (0..2500).step_by(97).chain([2450]).collect();
    let changed = doc! { "$set": { "n": -1 } };
    c.update_many(doc! { "_id": { "$in": &keys } }, changed)
        .await
        .unwrap();
    let gone: Vec<i32> = (1..2500).step_by(389).collect();
    c.delete_many(doc! { "_id": { "$in": &gone } })
        .await
        .unwrap();
    catch_up(&fixture);
    let versions = feed("kernel", &fixture, "c", 0);
    let version = &versions[first];
    assert_eq!(version["updated"], serde_json::json!(keys));
    assert_eq!(version["deleted"], serde_json::json!(gone));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_runs_follows_until_it_is_stopped() {
    let fixture = Fixture::new("sync").await;
    let c = collection(&fixture, "c");
    c.insert_one(doc! { "_id": 0 }).await.unwrap();
    let child = Running::start(sync(&fixture, &["--commit-interval", "100ms"]));
    fixture.wait_for_rows("c", 1).await;
    for i in 1..6 {
        c.insert_one(doc! { "_id": i }).await.unwrap();
        collection(&fixture, "appeared")
            .insert_one(doc! { "_id": i })
            .await
            .unwrap();
        fixture.wait_for_rows("c", i as i64 + 1).await;
    }
    fixture.wait_for_rows("appeared", 5).await;
    c.delete_many(doc! {}).await.unwrap();
    fixture.wait_for_rows("c", 0).await;
    let run = child.stop().ok().finished();
    assert_eq!(run["interrupted"], true, "{run}");
    assert_same(&fixture, "c");
    assert_same(&fixture, "appeared");
}

/// The files that a table consists of, by its log alone: the least `_id` in each, and its size.
fn live_files(table: &Path) -> Vec<(String, u64)> {
    let mut commits = crate::support::files_below(&table.join("_delta_log"));
    commits.retain(|name| name.ends_with(".json"));
    let mut files = HashMap::new();
    for name in commits {
        let commit = std::fs::read_to_string(table.join("_delta_log").join(name)).unwrap();
        for line in commit.lines() {
            let action: Value = serde_json::from_str(line).unwrap();
            let add = &action["add"];
            if let Some(path) = add["path"].as_str() {
                let stats: Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
                let least = stats["minValues"]["_id"].as_str().unwrap().to_owned();
                files.insert(path.to_owned(), (least, add["size"].as_u64().unwrap()));
            }
            if let Some(removed) = action["remove"]["path"].as_str() {
                files.remove(removed);
            }
        }
    }
    files.into_values().collect()
}

/// Asserts that of a table that is only appended to no files are to be joined any more. Files below 32 KiB are of
/// the lowest tier, and those of each other one up to eight times as large as those below it: fewer than eight of a
/// tier come one after the other, those of lower tiers between them aside.
#[track_caller]
fn assert_joined(mut files: Vec<(String, u64)>) {
    const JOINED: usize = 8;
    let tier = |size: u64| (0..).find(|tier| size < (32 << 10) << (3 * tier)).unwrap();
    files.sort();
    let tiers: Vec<u32> = files.iter().map(|(_, size)| tier(*size)).collect();
    for due in 0..=tiers.iter().max().copied().unwrap_or_default() {
        for run in tiers.split(|tier| *tier > due) {
            let count = run.iter().filter(|tier| **tier == due).count();
            assert!(count < JOINED, "{count} of tier {due} are left: {tiers:?}");
        }
    }
}

/// The resume tokens of the changes so far, by collection, as the database's own stream has them.
pub(crate) async fn tokens(
    mut stream: ChangeStream<ChangeStreamEvent<Document>>,
    database: &Database,
) -> HashMap<String, Vec<String>> {
    const LAST: &str = "last";
    let last = database.collection(LAST);
    last.insert_one(doc! {}).await.expect("inserted");
    let mut tokens: HashMap<String, Vec<String>> = HashMap::new();
    loop {
        let next = tokio::time::timeout(LIMIT, stream.next()).await;
        let event = next
            .expect("an event")
            .expect("more events")
            .expect("the stream");
        let collection = event.ns.and_then(|ns| ns.coll).unwrap_or_default();
        if collection == LAST {
            return tokens;
        }
        let token = bson::serialize_to_document(&event.id).expect("a token");
        let token = token.get_str("_data").expect("a token").to_owned();
        tokens.entry(collection).or_default().push(token);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_is_killed_at_any_moment_loses_and_doubles_nothing() {
    killed_at_any_moment(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_without_deletion_vectors_that_is_killed_loses_and_doubles_nothing() {
    killed_at_any_moment(&[COPY_ON_WRITE]).await;
}

async fn killed_at_any_moment(options: &[&str]) {
    const KILLS: u32 = 30;
    let fixture = Arc::new(Fixture::new("kill").await);
    let names = ["plain", "mixed", "third"];
    for name in names {
        let documents = (0..200).map(|i| doc! { "_id": i, "n": i });
        collection(&fixture, name)
            .insert_many(documents)
            .await
            .unwrap();
    }
    catch_up_with(&fixture, &[&["--history"], options].concat());
    let stream = fixture.database.watch().await.unwrap();

    let done = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..2)
        .map(|seed| {
            let (fixture, done) = (Arc::clone(&fixture), Arc::clone(&done));
            tokio::spawn(async move { work(&fixture, &names, seed, done).await })
        })
        .collect();
    let mut random = StdRng::from_rng(&mut rand::rng());
    let arguments = ["--history", "--commit-interval", "20ms"];
    for _ in 0..KILLS {
        let mut child = sync(&fixture, &arguments).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(random.random_range(100..1200))).await;
        if let Some(status) = child.try_wait().unwrap() {
            panic!("it ended by itself with {status}: {:#?}", wait(child));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    done.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
    run_command(sync(&fixture, &["--once", "--history"])).ok();
    let mut happened = tokens(stream, &fixture.database).await;
    for name in names {
        assert_same(&fixture, name);
        // Every version is in the history, once, and in order.
        let happened = happened.remove(name).unwrap();
        let query = format!(
            "SELECT _id FROM {}.{name}__history WHERE _id >= '{}' ORDER BY _id",
            fixture.name, happened[0]
        );
        let kept: Vec<String> = fixture
            .sql(&query)
            .iter()
            .map(|row| row["_id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(kept, happened, "{name}");
        // However many were appended, only so many files of each size are left. Those that syncs
        // were killed before they could join are joined by the next ones.
        let history = fixture.table(&format!("{name}__history"));
        let mut files = live_files(&history);
        loop {
            run_command(sync(&fixture, &["--once", "--history"])).ok();
            let left = live_files(&history);
            let (count, before) = (left.len(), files.len());
            assert!(count <= before, "{before} files became {count}");
            files = left;
            if count == before {
                break;
            }
        }
        assert_joined(files);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_holds_what_happened_to_each_document() {
    let fixture = Fixture::new("history").await;
    let options = doc! { "create": "c", "changeStreamPreAndPostImages": { "enabled": true } };
    fixture.database.run_command(options).await.unwrap();
    let c = collection(&fixture, "c");
    c.insert_one(doc! { "_id": 1, "n": 0 }).await.unwrap();
    run_command(sync(&fixture, &["--once", "--history"])).ok();
    c.insert_one(doc! { "_id": 2, "n": 1 }).await.unwrap();
    for n in 2..5 {
        c.update_one(doc! { "_id": 2 }, doc! { "$set": { "n": n } })
            .await
            .unwrap();
    }
    c.replace_one(doc! { "_id": 2 }, doc! { "n": 5 })
        .await
        .unwrap();
    c.delete_one(doc! { "_id": 2 }).await.unwrap();
    run_command(sync(&fixture, &["--once", "--history"])).ok();
    let query = format!(
        "SELECT operation, before['n'] AS before, document['n'] AS after, \"update\" AS change \
         FROM {}.c__history WHERE key['_id'] = 2 ORDER BY _id",
        fixture.name
    );
    let rows: Vec<String> = fixture
        .sql(&query)
        .iter()
        .map(|row| row.to_string())
        .collect();
    let changed = |n: i32| {
        format!(
            r#"{{"operation":"update","before":{},"after":{n},"change":"{{\"updatedFields\":{{\"n\":{n}}},\"removedFields\":[],\"truncatedArrays\":[]}}"}}"#,
            n - 1
        )
    };
    assert_eq!(
        rows,
        [
            r#"{"operation":"insert","after":1}"#.to_owned(),
            changed(2),
            changed(3),
            changed(4),
            r#"{"operation":"replace","before":4,"after":5}"#.to_owned(),
            r#"{"operation":"delete","before":5}"#.to_owned(),
        ]
    );
    assert_same(&fixture, "c");
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_of_any_name_are_followed() {
    let fixture = Fixture::new("names").await;
    let names = [
        "日本", "ümlaut", "a b", "a/b", "a\\b", "50%", "a%20b", "a'b", "a\"b", "a#b", "a?b", "a*b",
        "[a]", "{a}", "a|b", "a~b", "a\tb", "a=2Fb", "a:b", "a.b",
    ];
    for name in names {
        collection(&fixture, name)
            .insert_one(doc! { "_id": 1, "name": name })
            .await
            .unwrap();
    }
    catch_up(&fixture);
    for name in names {
        collection(&fixture, name)
            .insert_one(doc! { "_id": 2, "name": name })
            .await
            .unwrap();
    }
    // Chosen one by one, and all at once.
    for name in names {
        let pattern = name
            .replace('[', "[[]")
            .replace('*', "[*]")
            .replace('?', "[?]");
        let run = run_command(sync(&fixture, &["--once", "--collection", &pattern])).ok();
        assert_eq!(run.collection()["changes"], 1, "{name}: {run:#?}");
    }
    catch_up(&fixture);
    for name in names {
        let quoted = name.replace('"', "\"\"");
        let query = format!("SELECT name FROM {}.\"{quoted}\"", fixture.name);
        let rows = fixture.sql(&query);
        assert_eq!(rows.len(), 2, "{name}");
        assert!(rows.iter().all(|row| row["name"] == name), "{rows:?}");
    }
    let verified = crate::support::run(&["verify", &fixture.uri(), &fixture.lake()]).ok();
    assert!(verified.stdout.contains("日本"), "{verified:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_index_is_built_anew() {
    let fixture = Fixture::new("index").await;
    let c = collection(&fixture, "c");
    // Keys of several types, one of them in a document.
    let keys: [Bson; 6] = [
        Bson::Int32(1),
        Bson::String("one".to_owned()),
        Bson::Double(2.5),
        Bson::ObjectId(bson::oid::ObjectId::new()),
        Bson::Document(doc! { "a": 1, "b": "x" }),
        Bson::Null,
    ];
    for key in &keys {
        c.insert_one(doc! { "_id": key, "n": 0 }).await.unwrap();
    }
    catch_up(&fixture);
    for (round, damage) in ["removed", "emptied", "stale"].into_iter().enumerate() {
        let index = fixture.path("index");
        match damage {
            "removed" => std::fs::remove_dir_all(&index).unwrap(),
            "emptied" => {
                for file in crate::support::files_below(index.as_ref()) {
                    std::fs::write(std::path::Path::new(&index).join(file), b"").unwrap();
                }
            }
            _ => {
                // The table moves on with another index, and comes back to this one.
                let aside = fixture.path("aside");
                std::fs::rename(&index, &aside).unwrap();
                c.update_many(doc! {}, doc! { "$inc": { "m": 1 } })
                    .await
                    .unwrap();
                catch_up(&fixture);
                std::fs::remove_dir_all(&index).unwrap();
                std::fs::rename(&aside, &index).unwrap();
            }
        }
        c.update_many(doc! {}, doc! { "$set": { "n": round as i32 } })
            .await
            .unwrap();
        c.delete_one(doc! { "_id": &keys[round] }).await.unwrap();
        catch_up(&fixture);
        assert_same(&fixture, "c");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_comes_by_renaming_is_loaded() {
    let fixture = Fixture::new("rename").await;
    let c = collection(&fixture, "c");
    c.insert_many((0..20).map(|i| doc! { "_id": i, "of": "c" }))
        .await
        .unwrap();
    catch_up(&fixture);
    let admin = fixture.mongod.client().await.unwrap().database("admin");
    let name = |collection: &str| format!("{}.{collection}", fixture.name);

    // To a name that is new. The table of the old name keeps what there was.
    c.update_one(doc! { "_id": 0 }, doc! { "$set": { "of": "changed" } })
        .await
        .unwrap();
    let rename = doc! { "renameCollection": name("c"), "to": name("d") };
    admin.run_command(rename).await.unwrap();
    collection(&fixture, "d")
        .insert_one(doc! { "_id": 100, "of": "d" })
        .await
        .unwrap();
    catch_up(&fixture);
    assert_same(&fixture, "d");
    let changed = format!(
        "SELECT count(*) FROM {}.c WHERE of = 'changed'",
        fixture.name
    );
    assert_eq!(fixture.number(&changed), 1);

    // Onto one that is followed.
    c.insert_many((50..60).map(|i| doc! { "_id": i, "of": "new" }))
        .await
        .unwrap();
    catch_up(&fixture);
    let rename = doc! { "renameCollection": name("c"), "to": name("d"), "dropTarget": true };
    admin.run_command(rename).await.unwrap();
    catch_up(&fixture);
    assert_same(&fixture, "d");

    // By `$out`, which fills another collection first.
    let out = [
        doc! { "$match": { "_id": { "$lt": 55 } } },
        doc! { "$out": "d" },
    ];
    collection(&fixture, "d").aggregate(out).await.unwrap();
    catch_up(&fixture);
    assert_same(&fixture, "d");
    assert_eq!(
        fixture.number(&format!("SELECT count(*) FROM {}.d", fixture.name)),
        5
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_larger_than_an_event_may_be_is_applied() {
    let fixture = Fixture::new("large").await;
    let c = collection(&fixture, "c");
    c.insert_one(doc! { "_id": 1, "text": "x".repeat(10 << 20) })
        .await
        .unwrap();
    catch_up(&fixture);
    let update = doc! { "$set": { "text": "y".repeat(12 << 20) } };
    c.update_one(doc! { "_id": 1 }, update).await.unwrap();
    c.insert_one(doc! { "_id": 2 }).await.unwrap();
    catch_up(&fixture);
    assert_same(&fixture, "c");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_do_not_follow_are_refused() {
    let fixture = Fixture::new("refused").await;
    collection(&fixture, "c")
        .insert_one(doc! { "_id": 1 })
        .await
        .unwrap();
    fixture.copy(&[]).ok();
    let run = run_command(sync(&fixture, &["--once"]));
    run.fails(1, &["does not follow a collection", "--overwrite"]);
    run_command(sync(&fixture, &["--once", "--overwrite"])).ok();
    collection(&fixture, "c")
        .insert_one(doc! { "_id": 2 })
        .await
        .unwrap();
    catch_up(&fixture);
    assert_same(&fixture, "c");

    let mut child = Running::start(sync(&fixture, &[]));
    child.wait_for_events("following", 1).await;
    let second = run_command(sync(&fixture, &["--once"]));
    second.fails(1, &["is running"]);
    child.stop().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_fails_is_told_to_people_while_the_others_go_on() {
    let fixture = Fixture::new("told").await;
    for name in ["c", "d"] {
        fixture.insert(name, vec![doc! { "_id": 0 }]).await;
    }
    let (uri, lake, index) = (fixture.uri(), fixture.lake(), fixture.path("index"));
    let arguments = [
        "sync",
        &uri,
        &lake,
        "--index",
        &index,
        "--commit-interval",
        "50ms",
    ];
    let child = command(&arguments).spawn().unwrap();
    for name in ["c", "d"] {
        fixture.wait_for_rows(name, 1).await;
        fixture.insert(name, vec![doc! { "_id": 1 }]).await;
        fixture.wait_for_rows(name, 2).await;
    }
    // Nothing can be written where the table was.
    std::fs::remove_dir_all(fixture.table("c")).unwrap();
    std::fs::write(fixture.table("c"), b"").unwrap();
    for name in ["c", "d"] {
        fixture.insert(name, vec![doc! { "_id": 2 }]).await;
    }
    fixture.wait_for_rows("d", 3).await;
    send_signal(&child, Signal::TERM).unwrap();
    let run = wait(child);
    run.fails(1, &["c: failed, and the others go on: cannot write"]);
    let last = run.stderr.lines().rfind(|line| line.contains(".d: "));
    // How many changes it tells of together depends on how fast they came.
    let is_told = |n: u32| {
        last.unwrap()
            .ends_with(&format!(" {n} changes  up to date"))
    };
    assert!((1..=3).any(is_told), "{run:#?}");
}
