//! Positions that the source does not know any more, and those that it never knew.

use std::process::Command;
use std::time::{Duration, Instant};

use bson::{Document, Timestamp, doc};
use futures::TryStreamExt;
use rand::Rng;
use serde_json::{Value, json};
use tributary_testkit::{Mongod, Signal, send_signal};

use crate::support::{LIMIT, Run, files_below, run_command};
use crate::sync_faults::{Failing, Place, fill, forget, forgetful, shared};

/// What the last commit of a table says of itself that was made with a position.
pub(crate) fn mark(place: &Place, table: &str) -> (std::path::PathBuf, Value) {
    let log = place.table(table).join("_delta_log");
    let mut names = files_below(&log);
    names.retain(|name| name.ends_with(".json"));
    names
        .iter()
        .rev()
        .find_map(|name| {
            let path = log.join(name);
            let text = std::fs::read_to_string(&path).unwrap();
            let info: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
            let mark = info["commitInfo"]["tributary"].clone();
            (!mark.is_null()).then_some((path, mark))
        })
        .expect("a commit with a position")
}

/// Changes what the last commit says of its position, as if it came from elsewhere.
fn alter(place: &Place, table: &str, change: impl FnOnce(&mut Value)) {
    let (path, _) = mark(place, table);
    let text = std::fs::read_to_string(&path).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    let mut info: Value = serde_json::from_str(first).unwrap();
    change(&mut info["commitInfo"]["tributary"]["position"]);
    std::fs::write(&path, format!("{info}\n{rest}")).unwrap();
}

/// The property of a table that tells of the history it lacks.
fn gaps(place: &Place, table: &str) -> Vec<Value> {
    let log = place.table(table).join("_delta_log");
    let mut names = files_below(&log);
    names.retain(|name| name.ends_with(".json"));
    for name in names.iter().rev() {
        let text = std::fs::read_to_string(log.join(name)).unwrap();
        for line in text.lines().rev() {
            let action: Value = serde_json::from_str(line).unwrap();
            let properties = &action["metaData"]["configuration"];
            if properties.is_object() {
                let gaps = properties["tributary.gaps"].as_str();
                return gaps.map_or_else(Vec::new, |gaps| serde_json::from_str(gaps).unwrap());
            }
        }
    }
    panic!("no definition of {table}");
}

fn sync(place: &Place, arguments: &[&str]) -> Command {
    place.sync_through(None, arguments)
}

/// Catches up with every version kept.
fn once(place: &Place, arguments: &[&str]) -> Run {
    run_command(sync(place, &[&["--once", "--history"], arguments].concat()))
}

fn outcome(run: &Run, collection: &str) -> Value {
    let finished = run.finished();
    let outcomes = finished["collections"].as_array().unwrap();
    let is_it = |o: &&Value| {
        o["namespace"]
            .as_str()
            .unwrap()
            .ends_with(&format!(".{collection}"))
    };
    outcomes.iter().find(is_it).unwrap().clone()
}

fn history(place: &Place, collection: &str) -> Vec<Value> {
    let query =
        format!("SELECT _id, operation, key, details FROM {collection}__history ORDER BY _id");
    place.query(&query).ok().rows()
}

/// The ends of the gap of a history, which is in one place. Where the oplog goes
/// on forgetting while it is passed, it is told in pieces, without anything between them.
fn gap_of(place: &Place, collection: &str) -> Value {
    let rows = history(place, collection);
    let before = rows
        .iter()
        .take_while(|row| row["operation"] != "gap")
        .count();
    let told = rows[before..]
        .iter()
        .take_while(|row| row["operation"] == "gap");
    let pieces: Vec<Value> = told
        .map(|row| {
            assert!(row["key"].is_null());
            serde_json::from_str(row["details"].as_str().unwrap()).unwrap()
        })
        .collect();
    assert!(!pieces.is_empty(), "{rows:#?}");
    assert!(
        rows[before + pieces.len()..]
            .iter()
            .all(|row| row["operation"] != "gap"),
        "{rows:#?}"
    );
    assert!(
        pieces.windows(2).all(|two| two[0]["to"] == two[1]["from"]),
        "{pieces:#?}"
    );
    json!({ "from": pieces[0]["from"], "to": pieces[pieces.len() - 1]["to"] })
}

/// How many documents the history says were inserted.
fn inserts(place: &Place, collection: &str) -> usize {
    let rows = history(place, collection);
    rows.iter()
        .filter(|row| row["operation"] == "insert")
        .count()
}

/// A source that has forgotten ten documents of `c`, of which it has told the lake fifty before.
async fn lost(name: &str) -> (Mongod, Place) {
    let mongod = forgetful().await;
    let place = Place::new(&mongod.uri(), name).await;
    fill(&place, "c", 0..50).await;
    fill(&place, "other", 0..10).await;
    once(&place, &[]).ok();
    fill(&place, "c", 50..60).await;
    forget(&mongod, async |_| {}).await;
    (mongod, place)
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_history_is_accepted_from_the_oldest_moment_on_and_recorded() {
    let (_mongod, place) = lost("accept").await;
    fill(&place, "c", 60..70).await;
    let run = once(&place, &[]);
    assert_eq!(run.code, Some(1), "{run:#?}");
    for words in [
        "error:",
        "--on-lost-history reload",
        "--on-lost-history accept",
    ] {
        assert_eq!(run.stderr.matches(words).count(), 2, "{run:#?}");
    }
    assert!(gaps(&place, "c").is_empty());
    let run = once(&place, &["--on-lost-history", "accept"]).ok();
    let of_run = &outcome(&run, "c")["gaps"];
    assert_eq!(of_run.as_array().unwrap().len(), 1, "{run:#?}");
    assert_eq!(of_run[0]["how"], "accepted");
    assert!(run.stdout.contains("\"event\":\"gap\""), "{run:#?}");
    // What is remembered has been read.
    assert_eq!(place.count("c", "_id < 50"), Some(50));
    assert_eq!(place.count("c", "_id >= 50 AND _id < 60"), Some(0));
    assert_eq!(place.count("c", "_id >= 60"), Some(10));
    place.assert_same("other");

    let [gap] = &gaps(&place, "c")[..] else {
        panic!("{:?}", gaps(&place, "c"));
    };
    assert_eq!(
        (&gap["from"], &gap["to"]),
        (&of_run[0]["from"], &of_run[0]["to"])
    );
    let seconds = |end: &str| gap[end]["clusterTime"]["t"].as_i64().unwrap();
    assert!(seconds("from") <= seconds("to"), "{gap}");
    for end in ["from", "to"] {
        let time = gap[end]["time"].as_str().unwrap();
        let time = chrono::DateTime::parse_from_rfc3339(time).unwrap();
        assert_eq!(time.timestamp(), seconds(end));
    }
    let (missing, rows) = (gap_of(&place, "c"), history(&place, "c").len());
    assert_eq!(missing["from"]["$timestamp"], gap["from"]["clusterTime"]);
    assert_eq!(missing["to"]["$timestamp"], gap["to"]["clusterTime"]);

    // It is not recorded again, and nothing is read twice.
    let run = once(&place, &["--on-lost-history", "accept"]).ok();
    assert!(outcome(&run, "c")["gaps"].is_null(), "{run:#?}");
    assert_eq!(outcome(&run, "c")["changes"], 0, "{run:#?}");
    assert_eq!(gaps(&place, "c").len(), 1);
    assert_eq!(history(&place, "c").len(), rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_lacks_history_is_loaded_anew_through_kills() {
    let (_mongod, place) = lost("reload").await;
    let arguments = [
        "--history",
        "--on-lost-history",
        "reload",
        "--commit-interval",
        "20ms",
    ];
    for _ in 0..8 {
        let mut child = sync(&place, &arguments).spawn().unwrap();
        let wait = rand::rng().random_range(20..600);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        child.kill().unwrap();
        child.wait().unwrap();
    }
    fill(&place, "c", 60..70).await;
    once(&place, &["--on-lost-history", "reload"]).ok();
    place.assert_same("c");
    place.assert_same("other");
    for table in ["c", "other"] {
        let gaps = gaps(&place, table);
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        assert_eq!(gaps[0]["how"], "reloaded");
        gap_of(&place, table);
    }
    // The history goes on with what is remembered.
    assert_eq!(inserts(&place, "c"), 10);
    // Nothing more is lost, nor loaded.
    let run = once(&place, &["--on-lost-history", "reload"]).ok();
    assert_eq!(outcome(&run, "c")["documents"], 0, "{run:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn accepting_a_loss_is_recorded_once_through_kills() {
    let (_mongod, place) = lost("acceptkill").await;
    let arguments = [
        "--history",
        "--on-lost-history",
        "accept",
        "--commit-interval",
        "20ms",
    ];
    for _ in 0..8 {
        let mut child = sync(&place, &arguments).spawn().unwrap();
        let wait = rand::rng().random_range(20..400);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        child.kill().unwrap();
        child.wait().unwrap();
    }
    fill(&place, "c", 60..70).await;
    once(&place, &["--on-lost-history", "accept"]).ok();
    assert_eq!(gaps(&place, "c").len(), 1);
    gap_of(&place, "c");
    assert_eq!(inserts(&place, "c"), 10);
    assert_eq!(place.count("c", "_id < 50 OR _id >= 60"), Some(60));
}

/// Waits until no change stream waits for events at the server.
async fn until_answered(mongod: &Mongod) {
    let admin = mongod.client().await.unwrap().database("admin");
    let pipeline = [
        doc! { "$currentOp": {} },
        doc! { "$match": { "active": true, "command.getMore": { "$exists": true } } },
    ];
    let deadline = Instant::now() + LIMIT;
    loop {
        let waiting = admin.aggregate(pipeline.clone()).await.unwrap();
        if waiting.try_collect::<Vec<_>>().await.unwrap().is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "a change stream waits");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_that_is_lost_during_a_pause_is_handled_as_chosen() {
    for choice in ["fail", "accept", "reload"] {
        let mongod = forgetful().await;
        let place = Place::new(&mongod.uri(), "pause").await;
        fill(&place, "c", 0..50).await;
        let mut sync = place.start(&["--commit-interval", "50ms", "--on-lost-history", choice]);
        sync.wait_for_events("following", 1).await;
        place.reach_end("c").await;
        send_signal(&sync.child, Signal::STOP).unwrap();
        // What it has asked for already is still to come, and this answers it.
        fill(&place, "c", 100..101).await;
        until_answered(&mongod).await;
        forget(&mongod, async |_| {}).await;
        fill(&place, "c", 50..60).await;
        forget(&mongod, async |_| {}).await;
        send_signal(&sync.child, Signal::CONT).unwrap();
        if choice == "fail" {
            sync.end().fails(1, &["oplog", "--on-lost-history"]);
            assert!(gaps(&place, "c").is_empty());
            continue;
        }
        sync.wait_for_events("gap", 1).await;
        place.reach_end("c").await;
        let run = sync.stop().ok();
        assert_eq!(outcome(&run, "c")["gaps"].as_array().unwrap().len(), 1);
        assert_eq!(gaps(&place, "c").len(), 1);
        match choice {
            "accept" => assert_eq!(place.count("c", "_id >= 50 AND _id < 60"), Some(0)),
            _ => place.assert_same("c"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_that_the_oplog_does_not_show_loses_nothing() {
    let server = Failing::start().await;
    let place = Place::new(&server.mongod.uri(), "noloss").await;
    fill(&place, "c", 0..50).await;
    let mut sync = place.start(&["--commit-interval", "50ms", "--on-lost-history", "accept"]);
    sync.wait_for_events("following", 1).await;
    place.reach_end("c").await;
    let followed = sync.events("following");
    let lost = doc! { "errorCode": 286 };
    server
        .fail(&["getMore"], doc! { "times": 2 }, lost.clone())
        .await;
    sync.wait_for_events("following", followed + 2).await;
    fill(&place, "c", 50..60).await;
    place.reach_end("c").await;
    place.assert_same("c");
    assert!(gaps(&place, "c").is_empty());
    // Where it goes on, it gives up.
    server.fail(&["getMore"], "alwaysOn", lost).await;
    sync.end().fails(1, &["oplog"]);
    server.mend().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_collections_than_before_are_explained_and_lose_nothing() {
    let mongod = shared().await;
    let place = Place::new(mongod.uri(), "selected").await;
    for name in ["a", "b"] {
        fill(&place, name, 0..10).await;
    }
    place.once().ok();
    for name in ["a", "b"] {
        fill(&place, name, 10..20).await;
    }
    place.once().ok();
    let noticed = |run: &Run| run.stdout.matches("\"event\":\"noticed\"").count();
    let runs: [&[&str]; 6] = [
        &["--collection", "a"],
        &["--collection", "a", "--collection", "b"],
        &["--collection", "b", "--collection", "a"],
        &[],
        &["--history"],
        &["--history"],
    ];
    for (round, arguments) in runs.into_iter().enumerate() {
        let first = 100 * (round as i32 + 1);
        for name in ["a", "b"] {
            fill(&place, name, first..first + 10).await;
        }
        // The token that is kept is of an event that another selection does not have.
        fill(&place, "a", first + 10..first + 11).await;
        let run = run_command(sync(&place, &[&["--once"], arguments].concat())).ok();
        // The same names in another order are the same stream, and so is the same again.
        let expected = if [2, 5].contains(&round) { 0 } else { 1 };
        assert_eq!(noticed(&run), expected, "{round}: {run:#?}");
        place.assert_same("a");
        if round > 0 {
            place.assert_same("b");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_deployment_at_the_same_address_is_refused() {
    let first = shared().await;
    let mut place = Place::new(first.uri(), "moved").await;
    fill(&place, "c", 0..20).await;
    fill(&place, "d", 0..20).await;
    place.once().ok();
    let second = Mongod::start().await.unwrap();
    place.source = second.uri_for(&place.name);
    let other = second.client().await.unwrap().database(&place.name);
    let c = other.collection::<Document>("c");
    c.insert_one(doc! { "_id": 1000 }).await.unwrap();
    for choice in ["fail", "accept", "reload"] {
        let run = run_command(sync(&place, &["--once", "--on-lost-history", choice]));
        // Each table says so.
        assert_eq!(run.code, Some(1), "{run:#?}");
        let said = "another deployment";
        assert_eq!(
            run.stderr.matches("follows another deployment").count(),
            2,
            "{run:#?}"
        );
        assert!(run.stderr.contains(said) && run.stderr.contains("--overwrite"));
    }
    place.assert_same("c");
    // As after a move on purpose.
    run_command(sync(&place, &["--once", "--overwrite"])).ok();
    assert_eq!(place.count("c", "_id = 1000"), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_the_source_never_had_is_refused() {
    let mongod = shared().await;
    let place = Place::new(mongod.uri(), "unknown").await;
    fill(&place, "c", 0..20).await;
    place.once().ok();
    // An event of a database that is not followed, as one of another deployment would be.
    let name = tributary_testkit::unique_name("elsewhere");
    let elsewhere = mongod.client().await.unwrap().database(&name);
    let mut stream = elsewhere.watch().await.unwrap();
    let c = elsewhere.collection::<Document>("c");
    c.insert_one(doc! {}).await.unwrap();
    let token = loop {
        if let Some(event) = stream.next_if_any().await.unwrap() {
            let token = bson::serialize_to_document(&event.id).unwrap();
            break token.get_str("_data").unwrap().to_owned();
        }
    };
    alter(&place, "c", |position| {
        position["resumeToken"] = token.as_str().into()
    });
    fill(&place, "c", 20..30).await;
    for choice in ["fail", "accept", "reload"] {
        let run = run_command(sync(&place, &["--once", "--on-lost-history", choice]));
        run.fails(
            1,
            &[
                "does not know the event",
                "another deployment",
                "--overwrite",
            ],
        );
        assert_eq!(place.count("c", "true"), Some(20));
    }
    // A token of another stream, or of one that nobody knows, says nothing: its time does.
    for (keys, stream) in [(30..40, Value::from("another")), (40..50, Value::Null)] {
        alter(&place, "c", |position| {
            position["resumeToken"] = token.as_str().into();
            position["stream"] = stream;
        });
        fill(&place, "c", keys).await;
        let run = place.once().ok();
        assert!(run.stdout.contains("\"event\":\"noticed\""), "{run:#?}");
        place.assert_same("c");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_in_the_future_of_the_source_is_refused() {
    let mongod = shared().await;
    let place = Place::new(mongod.uri(), "future").await;
    fill(&place, "c", 0..20).await;
    place.once().ok();
    let now = mark(&place, "c").1["position"]["clusterTime"]
        .as_u64()
        .unwrap();
    alter(&place, "c", |position| {
        position["clusterTime"] = (now + (3600 << 32)).into();
    });
    fill(&place, "c", 20..30).await;
    place
        .once()
        .fails(1, &["in the future of the source", "backup"]);
    assert_eq!(place.count("c", "true"), Some(20));
}

/// A deployment's clock goes far ahead when one client says that it is later.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_whose_clock_jumps_ahead_is_followed() {
    let mongod = Mongod::start().await.unwrap();
    let place = Place::new(&mongod.uri(), "jump").await;
    fill(&place, "c", 0..20).await;
    fill(&place, "quiet", 0..20).await;
    place.once().ok();
    let client = mongod.client().await.unwrap();
    let mut session = client.start_session().await.unwrap();
    let admin = client.database("admin");
    let reply = admin.run_command(doc! { "ping": 1 });
    let now = reply.await.unwrap().get_timestamp("operationTime").unwrap();
    let mut time = doc! { "signature": { "hash": bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![0; 20] }, "keyId": 0_i64 } };
    let ahead = Timestamp {
        time: now.time + 300 * 24 * 3600,
        increment: 1,
    };
    time.insert("clusterTime", ahead);
    let time = bson::deserialize_from_document(time).unwrap();
    session.advance_cluster_time(&time);
    let ping = admin.run_command(doc! { "ping": 1 });
    ping.session(&mut session).await.unwrap();
    fill(&place, "c", 20..30).await;
    let at = admin.run_command(doc! { "ping": 1 });
    let at = at.await.unwrap().get_timestamp("operationTime").unwrap();
    assert!(at.time >= ahead.time, "the clock has not jumped: {at:?}");

    let mut sync = place.start(&["--commit-interval", "50ms"]);
    sync.wait_for_events("following", 2).await;
    place.reach_end("c").await;
    sync.stop().ok();
    fill(&place, "quiet", 20..30).await;
    fill(&place, "later", 0..10).await;
    place.once().ok();
    for name in ["c", "quiet", "later"] {
        place.assert_same(name);
    }
}
