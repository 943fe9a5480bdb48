//! Tables that follow their collections, through kills and faults.

use std::collections::HashMap;
use std::ops::Range;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bson::{Bson, Document, doc};
use mongodb::Collection;
use mongodb::change_stream::ChangeStream;
use mongodb::change_stream::event::ChangeStreamEvent;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tributary_demodata::{Generator, Kind};
use tributary_testkit::{Signal, send_signal};

use crate::readers::compare;
use crate::support::{Fixture, Run, command, run_command, wait};

/// A sync of the fixture's database into its lake.
pub(crate) fn sync(fixture: &Fixture, arguments: &[&str]) -> Command {
    let (uri, lake, index) = (fixture.uri(), fixture.lake(), fixture.path("index"));
    let fixed = ["sync", &uri, &lake, "--index", &index, "--output", "json"];
    command(&[&fixed, arguments].concat())
}

pub(crate) fn catch_up(fixture: &Fixture) -> Run {
    run_command(sync(fixture, &["--once"])).ok()
}

/// Asserts that a table holds what its collection does, as readers of its own see both.
#[track_caller]
fn assert_same(fixture: &Fixture, collection: &str) {
    let table = fixture.table(collection);
    compare("deltalake", fixture, collection, &table.to_string_lossy());
}

fn collection(fixture: &Fixture, name: &str) -> Collection<Document> {
    fixture.database.collection(name)
}

/// Ends a sync as an operator does, and answers what it said.
pub(crate) fn stop(child: Child) -> Run {
    send_signal(&child, Signal::TERM).expect("a child");
    wait(child).ok()
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

/// Works on several collections until it is told to stop, now and then in a transaction of both.
pub(crate) async fn work(
    fixture: &Fixture,
    names: &[&str],
    seed: u64,
    stop: Arc<AtomicBool>,
) -> u64 {
    let mut random = StdRng::seed_from_u64(seed);
    let client = fixture.mongod.client().await.expect("a client");
    let database = client.database(&fixture.name);
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
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
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_every_kind_reach_the_table() {
    let fixture = Fixture::new("sync").await;
    let c = collection(&fixture, "c");
    let documents = (0..500).map(|i| doc! { "_id": i, "n": i, "s": format!("v{i}") });
    c.insert_many(documents).await.unwrap();
    catch_up(&fixture);
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
}

#[tokio::test(flavor = "multi_thread")]
async fn other_readers_agree_on_what_was_changed() {
    let fixture = Fixture::new("shared").await;
    let generator = Generator::new(Kind::Banking, 5);
    let documents = |range: Range<u64>| {
        range
            .map(|i| generator.document(i).into_bytes())
            .collect::<Vec<_>>()
    };
    fixture.insert_raw("banking", documents(0..200)).await;
    catch_up(&fixture);
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
    let table = fixture.table("banking");
    assert!(
        !fixture.files("banking", "bin").is_empty(),
        "no deletion vectors"
    );
    for reader in ["deltalake", "polars"] {
        compare(reader, &fixture, "banking", &table.to_string_lossy());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_runs_follows_until_it_is_stopped() {
    let fixture = Fixture::new("sync").await;
    let c = collection(&fixture, "c");
    c.insert_one(doc! { "_id": 0 }).await.unwrap();
    let child = sync(&fixture, &["--commit-interval", "100ms"])
        .spawn()
        .unwrap();
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
    let run = stop(child).finished();
    assert_eq!(run["interrupted"], true, "{run}");
    assert_same(&fixture, "c");
    assert_same(&fixture, "appeared");
}

/// The resume tokens of the changes so far, by collection, as the database's own stream has them.
async fn tokens(
    mut stream: ChangeStream<ChangeStreamEvent<Document>>,
) -> HashMap<String, Vec<String>> {
    let mut tokens: HashMap<String, Vec<String>> = HashMap::new();
    let mut idle = 0;
    while idle < 3 {
        let Some(event) = stream.next_if_any().await.expect("the stream") else {
            idle += 1;
            continue;
        };
        idle = 0;
        let collection = event.ns.and_then(|ns| ns.coll).unwrap_or_default();
        let token = bson::serialize_to_document(&event.id).expect("a token");
        let token = token.get_str("_data").expect("a token").to_owned();
        tokens.entry(collection).or_default().push(token);
    }
    tokens
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_is_killed_at_any_moment_loses_and_doubles_nothing() {
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
    run_command(sync(&fixture, &["--once", "--history"])).ok();
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
        assert!(worker.await.unwrap() > 100);
    }
    run_command(sync(&fixture, &["--once", "--history"])).ok();
    let mut happened = tokens(stream).await;
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

    let child = sync(&fixture, &[]).spawn().unwrap();
    fixture.wait_for_lock("c").await;
    let second = run_command(sync(&fixture, &["--once"]));
    second.fails(1, &["is running"]);
    stop(child);
}
