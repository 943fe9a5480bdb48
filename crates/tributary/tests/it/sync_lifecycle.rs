//! Collections that are dropped, renamed and gone with their database, and events of other kinds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bson::{Document, doc};
use mongodb::IndexModel;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::support::{Run, files_below, filler, run_command};
use crate::sync_faults::{Place, fill, shared};

fn once(place: &Place, arguments: &[&str]) -> Run {
    run_command(place.sync_through(None, &[&["--once"], arguments].concat()))
}

/// What the commits of a table say that name an event, oldest first.
fn events(place: &Place, table: &str) -> Vec<Value> {
    let log = place.table(table).join("_delta_log");
    let mut names = files_below(&log);
    names.retain(|name| name.ends_with(".json"));
    let parameters = names.iter().map(|name| {
        let text = std::fs::read_to_string(log.join(name)).unwrap();
        let info: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        info["commitInfo"]["operationParameters"].clone()
    });
    parameters.filter(|p| !p["event"].is_null()).collect()
}

fn names(events: &[Value], field: &str) -> Vec<String> {
    let names = events
        .iter()
        .map(|event| event[field].as_str().unwrap().to_owned());
    names.collect()
}

async fn rename(place: &Place, from: &str, to: &str) {
    let name = |collection: &str| format!("{}.{collection}", place.name);
    let rename = doc! { "renameCollection": name(from), "to": name(to) };
    let admin = place.database.client().database("admin");
    admin.run_command(rename).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_collection_leaves_its_table_empty_where_that_was_chosen() {
    let mongod = shared().await;
    let place = Place::new(mongod.uri(), "clear").await;
    let arguments = ["--history", "--on-drop", "clear"];
    for name in ["dropped", "renamed", "again", "database"] {
        fill(&place, name, 0..20).await;
    }
    once(&place, &arguments).ok();
    fill(&place, "dropped", 20..30).await;
    place.collection("dropped").drop().await.unwrap();
    fill(&place, "renamed", 20..30).await;
    rename(&place, "renamed", "target").await;
    for key in [5, 50] {
        fill(&place, "again", key + 40..key + 45).await;
        place.collection("again").drop().await.unwrap();
        fill(&place, "again", key..key + 5).await;
    }
    let run = once(&place, &arguments).ok();
    assert_eq!(place.count("dropped", "true"), Some(0), "{run:#?}");
    assert_eq!(place.count("renamed", "true"), Some(0), "{run:#?}");
    place.assert_same("target");
    place.assert_same("again");
    assert_eq!(place.count("again", "true"), Some(5));

    let dropped = events(&place, "dropped");
    assert_eq!(names(&dropped, "event"), ["drop"]);
    assert_eq!(
        names(&dropped, "namespace"),
        [format!("{}.dropped", place.name)]
    );
    chrono::DateTime::parse_from_rfc3339(dropped[0]["time"].as_str().unwrap()).unwrap();
    let renamed = events(&place, "renamed");
    assert_eq!(names(&renamed, "event"), ["rename"]);
    assert_eq!(names(&renamed, "to"), [format!("{}.target", place.name)]);
    assert_eq!(names(&events(&place, "again"), "event"), ["drop", "drop"]);
    let kept = place.rows("SELECT operation, key, details FROM renamed__history ORDER BY _id");
    let kept = kept.unwrap();
    assert_eq!(kept.last().unwrap()["operation"], "rename");
    assert!(kept.last().unwrap()["key"].is_null());
    let details: Value =
        serde_json::from_str(kept.last().unwrap()["details"].as_str().unwrap()).unwrap();
    assert_eq!(details["to"]["coll"], "target");
    let kept = place
        .rows("SELECT operation FROM again__history ORDER BY _id")
        .unwrap();
    let operations: Vec<&str> = kept
        .iter()
        .map(|row| row["operation"].as_str().unwrap())
        .collect();
    let one = [["insert"; 5].as_slice(), &["drop"], &["insert"; 5]].concat();
    assert_eq!(operations, [one.clone(), one].concat());

    // The database goes, while nothing runs and while a sync does.
    place.database.drop().await.unwrap();
    let run = once(&place, &arguments).ok();
    assert_eq!(place.count("again", "true"), Some(0), "{run:#?}");
    assert_eq!(place.count("database", "true"), Some(0), "{run:#?}");
    assert_eq!(
        names(&events(&place, "database"), "event"),
        ["drop", "dropDatabase"]
    );
    let mut sync = place.start(&[
        "--history",
        "--on-drop",
        "clear",
        "--commit-interval",
        "50ms",
    ]);
    sync.wait_for_events("following", 5).await;
    fill(&place, "database", 0..5).await;
    fill(&place, "fresh", 0..5).await;
    place.reach_end("database").await;
    place.reach_end("fresh").await;
    place.assert_same("database");
    place.assert_same("fresh");
    place.database.drop().await.unwrap();
    place.wait_for_count("database", "true", 0).await;
    place.wait_for_count("fresh", "true", 0).await;
    sync.stop().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_to_stop_with_its_collection_goes_on_as_chosen_then() {
    let mongod = shared().await;
    let place = Place::new(mongod.uri(), "stop").await;
    fill(&place, "c", 0..20).await;
    fill(&place, "other", 0..20).await;
    once(&place, &[]).ok();
    fill(&place, "c", 20..30).await;
    place.collection("c").drop().await.unwrap();
    fill(&place, "c", 25..35).await;
    fill(&place, "other", 20..30).await;
    for _ in 0..2 {
        let run = once(&place, &["--on-drop", "stop"]);
        run.fails(
            1,
            &["was dropped", "--on-drop keep", "--on-drop clear", ".c,"],
        );
        // What came before has been applied, and nothing behind it.
        assert_eq!(place.count("c", "true"), Some(30));
        place.assert_same("other");
        assert!(events(&place, "c").is_empty());
    }
    let mut sync = place.start(&["--on-drop", "clear", "--commit-interval", "50ms"]);
    place.reach_end("c").await;
    place.assert_same("c");
    assert_eq!(names(&events(&place, "c"), "event"), ["drop"]);
    sync.wait_for_events("following", 2).await;
    sync.stop().ok();

    // While it runs, the others go on.
    let mut sync = place.start(&["--on-drop", "stop", "--commit-interval", "50ms"]);
    sync.wait_for_events("following", 2).await;
    fill(&place, "c", 100..110).await;
    rename(&place, "c", "new").await;
    sync.wait_for_events("failed", 1).await;
    place.reach_end("other").await;
    place.reach_end("new").await;
    assert_eq!(place.count("c", "_id >= 100"), Some(10));
    sync.stop().fails(1, &["was renamed to"]);
    once(&place, &["--on-drop", "keep"]).ok();
    assert_eq!(place.count("c", "_id >= 100"), Some(10));
    assert_eq!(names(&events(&place, "c"), "event"), ["drop", "rename"]);
}

/// Fills and drops collections until it is told to stop; answers how often each was dropped.
async fn churn(
    place: &Place,
    name: &'static str,
    done: Arc<AtomicBool>,
) -> tokio::task::JoinHandle<usize> {
    let collection = place.collection(name);
    tokio::spawn(async move {
        let mut random = StdRng::from_rng(&mut rand::rng());
        let mut dropped = 0;
        let mut key = 0;
        while !done.load(Ordering::Relaxed) {
            for _ in 0..random.random_range(1..20) {
                key += 1;
                let document = doc! { "_id": key % 37, "n": key };
                let replace = collection.replace_one(doc! { "_id": key % 37 }, document);
                replace.upsert(true).await.unwrap();
            }
            collection.drop().await.unwrap();
            dropped += 1;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..60))).await;
        }
        let rest = (0..5).map(|i| doc! { "_id": i, "n": -i });
        collection.insert_many(rest).await.unwrap();
        dropped
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn drops_are_applied_once_and_in_their_order_through_kills() {
    let mongod = shared().await;
    let place = Place::new(mongod.uri(), "dropkill").await;
    for name in ["c", "d"] {
        fill(&place, name, 0..20).await;
    }
    let arguments = [
        "--history",
        "--on-drop",
        "clear",
        "--commit-interval",
        "20ms",
    ];
    once(&place, &arguments).ok();
    let done = Arc::new(AtomicBool::new(false));
    let workers = [
        churn(&place, "c", Arc::clone(&done)).await,
        churn(&place, "d", Arc::clone(&done)).await,
    ];
    for _ in 0..12 {
        let mut child = place.sync_through(None, &arguments).spawn().unwrap();
        let wait = rand::rng().random_range(100..1000);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        if let Some(status) = child.try_wait().unwrap() {
            panic!(
                "it ended by itself with {status}: {:#?}",
                crate::support::wait(child)
            );
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    done.store(true, Ordering::Relaxed);
    for (worker, name) in workers.into_iter().zip(["c", "d"]) {
        let dropped = worker.await.unwrap();
        once(&place, &arguments).ok();
        place.assert_same(name);
        assert_eq!(events(&place, name).len(), dropped, "{name}");
        let query = format!(
            "SELECT count(*) AS n, count(DISTINCT _id) AS events FROM {name}__history WHERE operation = 'drop'"
        );
        let expected = format!(r#"{{"n":{dropped},"events":{dropped}}}"#);
        assert_eq!(
            place.rows(&query).unwrap()[0].to_string(),
            expected,
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_other_kinds_are_counted_by_name() {
    let mongod = shared().await;
    let place = Place::new(mongod.uri(), "others").await;
    fill(&place, "c", 0..20).await;
    once(&place, &[]).ok();
    let index = |field: &str| IndexModel::builder().keys(doc! { field: 1 }).build();
    for field in ["n", "text"] {
        place
            .collection("c")
            .create_index(index(field))
            .await
            .unwrap();
    }
    place.collection("c").drop_indexes().await.unwrap();
    // The stream is read again from before when a collection appears.
    fill(&place, "appears", 0..5).await;
    fill(&place, "c", 20..30).await;
    let run = once(&place, &[]).ok().finished();
    let counted = &run["otherEvents"];
    assert_eq!(counted["createIndexes"], 2, "{run}");
    assert_eq!(counted["dropIndexes"], 2, "{run}");
    place.assert_same("c");
}

/// The document that an update finds, and the one that it leaves, are each almost as large as an
/// event may be; so is what it changes.
#[tokio::test(flavor = "multi_thread")]
async fn changes_larger_than_an_event_are_kept_in_the_history() {
    let mongod = shared().await;
    let place = Place::new(mongod.uri(), "large").await;
    let options = doc! { "create": "c", "changeStreamPreAndPostImages": { "enabled": true } };
    place.database.run_command(options).await.unwrap();
    let c = place.collection("c");
    const LARGE: usize = 9 << 20;
    c.insert_one(doc! { "_id": 1, "n": 0, "text": filler(0, LARGE) })
        .await
        .unwrap();
    c.insert_one(doc! { "_id": 2, "n": 0 }).await.unwrap();
    once(&place, &["--history"]).ok();
    let set = async |key: i32, n: i32, large: bool| {
        let mut set = doc! { "n": n };
        if large {
            set.insert("text", filler(n as usize, LARGE));
        }
        c.update_one(doc! { "_id": key }, doc! { "$set": set })
            .await
            .unwrap();
    };
    set(2, 1, false).await;
    set(1, 2, true).await;
    set(2, 3, false).await;
    set(1, 4, true).await;
    let document: Document = doc! { "_id": 1, "n": 5, "text": filler(5, LARGE) };
    c.replace_one(doc! { "_id": 1 }, document).await.unwrap();
    set(2, 6, false).await;
    c.delete_one(doc! { "_id": 1 }).await.unwrap();
    c.insert_one(doc! { "_id": 3, "n": 7 }).await.unwrap();
    let run = once(&place, &["--history"]).ok();
    place.assert_same("c");
    assert_eq!(
        run.stdout.matches("too large for an event").count(),
        3,
        "{:?}",
        run.stdout
    );
    let query = "SELECT operation, key['_id'] AS key, document['n'] AS after, before['n'] AS before, \
                 \"update\" IS NOT NULL AS told FROM c__history WHERE operation <> 'insert' OR key['_id'] = 3 ORDER BY _id";
    let rows: Vec<String> = place
        .rows(query)
        .unwrap()
        .iter()
        .map(Value::to_string)
        .collect();
    let expected = [
        r#"{"operation":"update","key":2,"after":1,"before":0,"told":true}"#,
        r#"{"operation":"update","key":1,"after":2,"told":false}"#,
        r#"{"operation":"update","key":2,"after":3,"before":1,"told":true}"#,
        r#"{"operation":"update","key":1,"after":4,"told":false}"#,
        r#"{"operation":"replace","key":1,"after":5,"told":false}"#,
        r#"{"operation":"update","key":2,"after":6,"before":3,"told":true}"#,
        r#"{"operation":"delete","key":1,"before":5,"told":false}"#,
        r#"{"operation":"insert","key":3,"after":7,"told":false}"#,
    ];
    assert_eq!(rows, expected);
    // Nothing comes again.
    let run = once(&place, &["--history"]).ok().finished();
    assert_eq!(run["collections"][0]["changes"], 0, "{run}");
}
