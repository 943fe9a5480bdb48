//! Copies that are stopped, killed or lose their server, and go on.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use bson::doc;
use serde_json::Value;
use tributary_testkit::{ReplicaSet, Signal, send_signal};

use crate::support::{Fixture, Run, command, files_below, filler, run, sql_of, wait};

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
    let mut copy = command(&["copy", uri, lake, "--output", "json", "--parallel", "8"]);
    copy.spawn().expect("the binary starts")
}

/// Kills the copy after a while; answers its result if it was done before.
fn kill_after(uri: &str, lake: &str, wait_for: Duration) -> Option<Run> {
    let mut child = start(uri, lake);
    std::thread::sleep(wait_for);
    if child.try_wait().expect("a child").is_none() {
        child.kill().expect("a child");
        child.wait().expect("a child");
        return None;
    }
    Some(wait(child).ok())
}

/// Signals a copy when some of its partitions are finished and others are not, and waits for its
/// end. On a fast machine that takes a few tries, each with an empty lake.
fn interrupt_half_way(fixture: &Fixture, signal: Signal) -> Run {
    let (uri, lake, table) = (fixture.uri(), fixture.lake(), fixture.table("c"));
    for _ in 0..30 {
        let mut child = start(&uri, &lake);
        while !has_receipt(&table) && child.try_wait().expect("a child").is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // It may have ended by now.
        let _ = send_signal(&child, signal);
        let run = wait(child);
        if has_receipt(&table) {
            return run;
        }
        std::fs::remove_dir_all(&lake).expect("removed");
    }
    panic!("no copy could be interrupted half-way");
}

fn has_receipt(table: &Path) -> bool {
    std::fs::read_dir(table.join("_tributary")).is_ok_and(|mut entries| {
        entries
            .any(|entry| entry.is_ok_and(|e| e.file_name().to_string_lossy().starts_with("part-")))
    })
}

#[tokio::test]
async fn a_copy_killed_at_any_moment_goes_on_and_ends_as_if_it_had_not_been() {
    let fixture = Fixture::new("killed").await;
    large(&fixture).await;
    let uri = fixture.uri();
    let undisturbed = fixture.path("undisturbed");
    run(&["copy", &uri, &undisturbed, "--parallel", "8"]).ok();
    let expected = content(&undisturbed, &fixture.name);

    let mut resumed = 0;
    for (round, first) in [50, 200, 400, 700].into_iter().enumerate() {
        let lake = fixture.path(&format!("lake{round}"));
        let table = Path::new(&lake).join(&fixture.name).join("c");
        let mut milliseconds = first;
        let done = loop {
            if let Some(done) = kill_after(&uri, &lake, Duration::from_millis(milliseconds)) {
                break Some(done);
            }
            if table.join("_delta_log").exists() && !table.join("_tributary").exists() {
                // Killed when all was done but the telling of it.
                break None;
            }
            milliseconds += 250;
        };
        assert_eq!(content(&lake, &fixture.name), expected);
        let files = match done {
            Some(done) => {
                let started: Value =
                    serde_json::from_str(done.stdout.lines().next().unwrap()).unwrap();
                resumed += started["documentsDoneBefore"].as_u64().unwrap_or(0);
                let collection = done.collection();
                assert_eq!(collection["documents"], DOCUMENTS);
                collection["files"].as_u64().unwrap()
            }
            None => committed_files(&table),
        };
        assert_no_orphans(&table, files);
    }
    interrupt_half_way(&fixture, Signal::KILL);
    let done = wait(start(&uri, &fixture.lake())).ok();
    let started: Value = serde_json::from_str(done.stdout.lines().next().unwrap()).unwrap();
    resumed += started["documentsDoneBefore"].as_u64().unwrap();
    assert_eq!(content(&fixture.lake(), &fixture.name), expected);
    assert_no_orphans(
        &fixture.table("c"),
        done.collection()["files"].as_u64().unwrap(),
    );
    assert!(resumed > 0, "no copy went on from a finished partition");
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

#[tokio::test]
async fn two_copies_into_one_target_do_not_meet() {
    let fixture = Fixture::new("two").await;
    large(&fixture).await;
    let (uri, lake) = (fixture.uri(), fixture.lake());
    let first = command(&["copy", &uri, &lake, "--output", "json"])
        .spawn()
        .unwrap();
    let plan = fixture.table("c").join("_tributary/plan.json");
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !plan.exists() {
        assert!(
            std::time::Instant::now() < deadline,
            "the first copy never began"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    send_signal(&first, Signal::STOP).unwrap();
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
    let child = copy.stderr(Stdio::piped()).spawn().unwrap();
    let plan = directory.path().join("lake/shop/c/_tributary/plan.json");
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !plan.exists() {
        assert!(std::time::Instant::now() < deadline, "the copy never began");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    set.kill_member(primary).unwrap();
    let done = tokio::task::spawn_blocking(move || wait(child))
        .await
        .unwrap()
        .ok();

    assert_eq!(done.collection()["documents"], DOCUMENTS);
    let row = content(&lake, "shop");
    assert_eq!(row["n"], DOCUMENTS);
    assert_eq!(row["keys"], DOCUMENTS);
}
