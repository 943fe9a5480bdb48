//! Copies that are stopped, killed or lose their server, and go on.

use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use bson::doc;
use serde_json::Value;
use tributary_testkit::{ReplicaSet, Signal, halt, send_signal};

use crate::failpoints::ABORTED;
use crate::support::{
    Fixture, LIMIT, Run, command, files_below, filler, run, run_command, sql_of, wait,
};

const DOCUMENTS: usize = 50_000;

/// Enough for several partitions.
async fn large(fixture: &Fixture) {
    for chunk in (0..DOCUMENTS).collect::<Vec<_>>().chunks(5000) {
        let documents = chunk
            .iter()
            .map(|&i| doc! { "_id": i as i64, "text": filler(i, 800), "half": i as f64 / 2.0 })
            .collect();
        fixture.insert("c", documents).await;
    }
}

/// What a complete copy holds, in a form that two copies can be compared by.
fn content(lake: &str, database: &str) -> Value {
    let query = format!(
        "SELECT count(*) AS n, count(DISTINCT _id) AS keys, sum(_id) AS sum, sum(half) AS halves, \
         min(text) AS least, max(text) AS greatest, sum(length(text)) AS length FROM {database}.c"
    );
    sql_of(lake, &query).remove(0)
}

/// How many files the first commit added.
fn committed_files(table: &Path) -> u64 {
    let log = std::fs::read_to_string(table.join("_delta_log/00000000000000000000.json")).unwrap();
    log.lines()
        .filter(|line| line.starts_with("{\"add\""))
        .count() as u64
}

/// Asserts that a directory holds a table's files and nothing else.
#[track_caller]
fn assert_no_orphans(table: &Path, files: u64) {
    let found = files_below(table);
    let data: Vec<_> = found
        .iter()
        .filter(|name| name.ends_with(".parquet"))
        .collect();
    assert_eq!(data.len() as u64, files, "{found:#?}");
    let others: Vec<_> = found
        .iter()
        .filter(|name| !name.ends_with(".parquet"))
        .collect();
    assert_eq!(
        others,
        ["_delta_log/00000000000000000000.json"],
        "{found:#?}"
    );
    let siblings = files_below(table.parent().unwrap());
    assert!(
        siblings.iter().all(|name| name.starts_with("c/")),
        "{siblings:#?}"
    );
}

fn start(uri: &str, lake: &str) -> Child {
    start_with(uri, lake, "8")
}

fn start_with(uri: &str, lake: &str, parallel: &str) -> Child {
    let mut copy = command(&[
        "copy",
        uri,
        lake,
        "--output",
        "json",
        "--parallel",
        parallel,
    ]);
    copy.spawn().expect("the binary starts")
}

/// Kills the copy after a while; answers its result if it was done before.
fn kill_after(uri: &str, lake: &str, wait_for: Duration) -> Option<Run> {
    let mut child = start(uri, lake);
    std::thread::sleep(wait_for);
    if child.try_wait().expect("a child").is_none() {
        kill(child);
        return None;
    }
    Some(wait(child).ok())
}

fn kill(mut child: Child) {
    child.kill().expect("a child");
    child.wait().expect("a child");
}

/// A copy that stands still at a moment at which `is_so` holds. It is halted to be looked at; one
/// that went past that moment before is killed, and what `prepare` makes begins again.
fn halted_when(what: &str, mut prepare: impl FnMut() -> Child, is_so: impl Fn() -> bool) -> Child {
    let deadline = Instant::now() + LIMIT;
    loop {
        let mut child = prepare();
        while !is_so() && child.try_wait().expect("a child").is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if halt(&child).expect("a child") && is_so() {
            return child;
        }
        kill(child);
        assert!(Instant::now() < deadline, "no copy was met while {what}");
    }
}

/// Signals a copy when some of its partitions are finished and others have not begun, and waits for
/// its end.
fn interrupt_half_way(fixture: &Fixture, signal: Signal) -> Run {
    let (uri, lake, table) = (fixture.uri(), fixture.lake(), fixture.table("c"));
    let prepare = || {
        // What is there of an earlier try goes.
        let _ = std::fs::remove_dir_all(&lake);
        // A plan of so many partitions as are worked on at once, and then one of them at a time.
        let planned = halted_when(
            "there was a plan and no receipt",
            || {
                let _ = std::fs::remove_dir_all(&lake);
                start_with(&uri, &lake, "8")
            },
            || is_planned(&table) && receipts(&table) == 0,
        );
        kill(planned);
        start_with(&uri, &lake, "1")
    };
    let child = halted_when("it was half-way", prepare, || {
        let finished = receipts(&table);
        finished > 0 && finished + 2 < partitions(&table) && !is_committed(&table)
    });
    send_signal(&child, signal).expect("a child");
    send_signal(&child, Signal::CONT).expect("a child");
    let run = wait(child);
    assert!(receipts(&table) > 0 && !is_committed(&table), "{run:#?}");
    run
}

/// Whether a load into the table has begun and is not at its end.
fn is_planned(table: &Path) -> bool {
    table.join("_tributary/plan.json").exists()
}

fn is_committed(table: &Path) -> bool {
    table.join("_delta_log/00000000000000000000.json").exists()
}

fn partitions(table: &Path) -> usize {
    let plan = std::fs::read(table.join("_tributary/plan.json")).unwrap_or_default();
    let plan: Value = serde_json::from_slice(&plan).unwrap_or_default();
    plan["partitions"].as_array().map_or(0, Vec::len)
}

/// How many partitions are finished.
fn receipts(table: &Path) -> usize {
    let entries = std::fs::read_dir(table.join("_tributary")).into_iter();
    let names = entries.flatten().flatten().map(|entry| entry.file_name());
    let is_receipt = |name: &String| name.starts_with("part-") && name.ends_with(".json");
    names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(is_receipt)
        .count()
}

#[tokio::test]
async fn a_copy_killed_at_any_moment_goes_on_and_ends_as_if_it_had_not_been() {
    let fixture = Fixture::new("killed").await;
    large(&fixture).await;
    let uri = fixture.uri();
    let undisturbed = fixture.path("undisturbed");
    run(&["copy", &uri, &undisturbed, "--parallel", "8"]).ok();
    let expected = content(&undisturbed, &fixture.name);

    for (round, first) in [50, 200, 400, 700].into_iter().enumerate() {
        let lake = fixture.path(&format!("lake{round}"));
        let table = Path::new(&lake).join(&fixture.name).join("c");
        let mut milliseconds = first;
        let done = loop {
            if let Some(done) = kill_after(&uri, &lake, Duration::from_millis(milliseconds)) {
                break Some(done);
            }
            if is_committed(&table) && !is_planned(&table) {
                // Killed when all was done but the telling of it, perhaps with the lock in hand.
                if Path::new(&lake).join("_tributary").exists() {
                    run(&["copy", &uri, &lake]).ok();
                }
                run(&["copy", &uri, &lake]).fails(1, &["already holds"]);
                break None;
            }
            milliseconds *= 2;
        };
        assert_eq!(content(&lake, &fixture.name), expected);
        let files = match done {
            Some(done) => {
                let collection = done.collection();
                assert_eq!(collection["documents"], DOCUMENTS);
                collection["files"].as_u64().unwrap()
            }
            None => committed_files(&table),
        };
        assert_no_orphans(&table, files);
    }
    // Of this one it is known that there is something to go on from.
    interrupt_half_way(&fixture, Signal::KILL);
    let done = wait(start(&uri, &fixture.lake())).ok();
    let started: Value = serde_json::from_str(done.stdout.lines().next().unwrap()).unwrap();
    let before = started["documentsDoneBefore"].as_u64().unwrap();
    assert!(before > 0 && before < DOCUMENTS as u64, "{started}");
    assert_eq!(content(&fixture.lake(), &fixture.name), expected);
    assert_no_orphans(
        &fixture.table("c"),
        done.collection()["files"].as_u64().unwrap(),
    );
}

#[tokio::test]
async fn a_commit_whose_process_was_killed_behind_it_is_recognised() {
    let fixture = Fixture::new("behind").await;
    large(&fixture).await;
    let table = fixture.table("c");
    // Stopped half-way, so that its state can be kept; then finished, and the state put back: that
    // is what a kill between the commit and the end leaves.
    let (uri, lake) = (fixture.uri(), fixture.lake());
    interrupt_half_way(&fixture, Signal::KILL);
    let saved = fixture.path("saved");
    let copied = std::process::Command::new("cp")
        .args(["-r"])
        .arg(table.join("_tributary"))
        .arg(&saved)
        .status();
    assert!(copied.unwrap().success());
    let first = run(&["copy", &uri, &lake, "--output", "json", "--parallel", "8"])
        .ok()
        .collection();
    let copied = std::process::Command::new("cp")
        .args(["-r", &saved])
        .arg(table.join("_tributary"))
        .status();
    assert!(copied.unwrap().success());

    run(&["copy", &uri, &lake, "--output", "json", "--parallel", "8"]).ok();

    assert_no_orphans(&table, first["files"].as_u64().unwrap());
    assert_eq!(content(&lake, &fixture.name)["n"], DOCUMENTS);
    // And now it is a table like any other.
    fixture.copy(&[]).fails(1, &["already holds"]);
}

#[tokio::test]
async fn ctrl_c_stops_cleanly_and_the_copy_can_go_on() {
    let fixture = Fixture::new("stopped").await;
    large(&fixture).await;
    let (uri, lake) = (fixture.uri(), fixture.lake());
    let stopped = interrupt_half_way(&fixture, Signal::INT).ok();
    assert!(
        stopped
            .stderr
            .contains("start again with the same arguments"),
        "{stopped:#?}"
    );
    assert_eq!(stopped.finished()["interrupted"], true);

    let other = fixture.copy(&["--filter", r#"{"half":1}"#]);
    other.fails(1, &["unfinished copy with other arguments", "--overwrite"]);

    let done = run(&["copy", &uri, &lake, "--output", "json", "--parallel", "8"])
        .ok()
        .collection();
    assert_eq!(done["documents"], DOCUMENTS);
    assert_no_orphans(&fixture.table("c"), done["files"].as_u64().unwrap());
}

/// What was copied of two collections: their names and documents.
#[track_caller]
fn both(run: Run) -> Vec<(String, u64)> {
    let event = run.ok().finished();
    let collections = event["collections"].as_array().unwrap().iter();
    let found = collections.map(|collection| {
        assert!(collection["bytes"].as_u64() > Some(0), "{event}");
        assert_eq!(collection["files"], 1, "{event}");
        let name = collection["namespace"].as_str().unwrap();
        let name = name.split_once('.').unwrap().1.to_owned();
        (name, collection["documents"].as_u64().unwrap())
    });
    found.collect()
}

#[tokio::test]
async fn a_copy_of_several_collections_goes_on_behind_those_that_are_complete() {
    let fixture = Fixture::new("several").await;
    let insert = async |keys: std::ops::Range<i32>| {
        for name in ["aa", "bb"] {
            let documents = keys.clone().map(|key| doc! { "_id": key }).collect();
            fixture.insert(name, documents).await;
        }
    };
    let expected = |count| vec![("aa".to_owned(), count), ("bb".to_owned(), count)];
    insert(0..30).await;
    for (round, format) in ["delta", "parquet", "jsonl", "csv", "avro"]
        .into_iter()
        .enumerate()
    {
        let (uri, lake) = (fixture.uri(), fixture.path(format));
        let arguments = ["copy", &uri, &lake, "--format", format, "--output", "json"];
        let copy = |more: &[&str]| run(&[&arguments, more].concat());
        let killed = |more: &[&str], point: &str| {
            let mut copy = command(&[&arguments, more].concat());
            copy.env("TRIBUTARY_FAILPOINT", point);
            let run = run_command(copy);
            assert_eq!(run.signal, Some(ABORTED), "{run:#?}");
        };
        let refused = || {
            let run = copy(&[]);
            assert_eq!(run.code, Some(1), "{run:#?}");
            assert_eq!(run.stderr.matches("already holds").count(), 2, "{run:#?}");
        };
        let count = 30 + 2 * round as u64;
        if format != "delta" {
            killed(&[], "load.files.swept");
        }
        killed(&[], "load.ended");
        assert_eq!(both(copy(&[])), expected(count), "{format}");
        assert!(!Path::new(&lake).join("_tributary").exists());
        refused();

        insert(count as i32..count as i32 + 2).await;
        // One that replaces is another copy, and the next such one is another again.
        killed(&["--overwrite"], "load.ended");
        assert_eq!(
            both(copy(&["--overwrite"])),
            expected(count + 2),
            "{format}"
        );
        refused();
        killed(&["--overwrite"], "load.ended:2");
        both(copy(&["--overwrite"]));
        refused();
    }
}

#[tokio::test]
async fn a_copy_that_failed_for_a_collection_goes_on_with_it() {
    let fixture = Fixture::new("failed").await;
    for name in ["aa", "bb"] {
        fixture.insert(name, vec![doc! { "_id": 1 }]).await;
    }
    let database = Path::new(&fixture.lake()).join(&fixture.name);
    std::fs::create_dir_all(&database).unwrap();
    let lock = std::fs::File::create(database.join(".bb.lock")).unwrap();
    lock.lock().unwrap();
    fixture
        .copy(&[])
        .fails(1, &["another copy into this target is running"]);
    drop(lock);
    assert_eq!(both(fixture.copy(&[])).len(), 2);
    let lock = std::fs::File::create(database.join(".bb.lock")).unwrap();
    lock.lock().unwrap();
    fixture.copy(&["--overwrite"]).fails(1, &["another copy"]);
    drop(lock);
    fixture.insert("aa", vec![doc! { "_id": 2 }]).await;
    // What is to be replaced is not left as an earlier copy made it that has ended.
    both(fixture.copy(&["--overwrite"]));
    let query = format!("SELECT count(*) FROM {}.aa", fixture.name);
    assert_eq!(fixture.number(&query), 2);
}

#[tokio::test]
async fn two_copies_into_one_target_do_not_meet() {
    let fixture = Fixture::new("two").await;
    large(&fixture).await;
    let (uri, lake) = (fixture.uri(), fixture.lake());
    let prepare = || {
        let _ = std::fs::remove_dir_all(&lake);
        start(&uri, &lake)
    };
    let first = halted_when("it loads", prepare, || is_planned(&fixture.table("c")));
    fixture
        .copy(&[])
        .fails(1, &["another copy into this target is running"]);
    send_signal(&first, Signal::CONT).unwrap();
    assert_eq!(wait(first).ok().collection()["documents"], DOCUMENTS);
}

#[tokio::test]
async fn a_member_killed_in_the_middle_of_a_copy_is_replaced() {
    let mut set = ReplicaSet::start(3).await.unwrap();
    let client = set.client().await.unwrap();
    let collection = client.database("shop").collection::<bson::Document>("c");
    for chunk in (0..DOCUMENTS).collect::<Vec<_>>().chunks(5000) {
        let documents = chunk
            .iter()
            .map(|&i| doc! { "_id": i as i64, "text": filler(i, 800), "half": i as f64 / 2.0 });
        collection
            .insert_many(documents.collect::<Vec<_>>())
            .write_concern(
                mongodb::options::WriteConcern::builder()
                    .w(mongodb::options::Acknowledgment::Nodes(3))
                    .build(),
            )
            .await
            .unwrap();
    }
    let directory = tempfile::TempDir::new().unwrap();
    let lake = directory.path().join("lake").to_string_lossy().into_owned();
    let primary = set.wait_for_primary().await.unwrap();
    let prepare = || {
        let _ = std::fs::remove_dir_all(&lake);
        let mut copy = command(&[
            "copy",
            &set.uri_for("shop"),
            &lake,
            "--output",
            "json",
            "--parallel",
            "8",
            "--read-preference",
            "primaryPreferred",
        ]);
        copy.spawn().expect("the binary starts")
    };
    let table = directory.path().join("lake/shop/c");
    let child = halted_when("it loads", prepare, || is_planned(&table));
    set.kill_member(primary).unwrap();
    send_signal(&child, Signal::CONT).unwrap();
    let done = tokio::task::spawn_blocking(move || wait(child))
        .await
        .unwrap()
        .ok();

    assert_eq!(done.collection()["documents"], DOCUMENTS);
    let row = content(&lake, "shop");
    assert_eq!(row["n"], DOCUMENTS);
    assert_eq!(row["keys"], DOCUMENTS);
}
