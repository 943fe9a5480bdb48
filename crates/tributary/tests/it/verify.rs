//! Comparing collections with their tables, while both move and after others have changed one.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bson::{Bson, Document, doc};
use mongodb::Collection;
use serde_json::{Value, json};
use tributary_demodata::{Generator, Kind};

use crate::readers::python;
use crate::running::Running;
use crate::support::{Fixture, Run, command, run_command};
use crate::sync::{catch_up, sync, work};

fn verify(fixture: &Fixture, arguments: &[&str]) -> Run {
    let (uri, lake) = (fixture.uri(), fixture.lake());
    let mut fixed = vec!["verify", &uri, &lake, "--output", "json"];
    if !arguments.contains(&"--wait") {
        fixed.extend(["--wait", "3s"]);
    }
    run_command(command(&[&fixed[..], arguments].concat()))
}

fn collection(fixture: &Fixture, name: &str) -> Collection<Document> {
    fixture.database.collection(name)
}

/// The counts of what differs: missing, extra, different, unsettled.
fn counts(collection: &Value) -> [u64; 4] {
    ["missing", "extra", "different", "unsettled"].map(|sort| {
        collection[sort]["count"]
            .as_u64()
            .unwrap_or_else(|| panic!("no {sort} in {collection}"))
    })
}

#[track_caller]
fn assert_agrees(run: Run) -> Value {
    let run = run.ok();
    let finished = run.finished();
    for collection in finished["collections"].as_array().unwrap() {
        assert_eq!(collection["agrees"], true, "{run:#?}");
        assert_eq!(counts(collection), [0; 4], "{run:#?}");
    }
    finished
}

/// Two collections of the same documents, the second changed by `change`; the table of the first
/// takes the place of the second's.
async fn tampered(
    fixture: &Fixture,
    documents: &[Document],
    change: impl AsyncFn(&Collection<Document>),
) {
    let (original, changed) = (collection(fixture, "original"), collection(fixture, "c"));
    original.insert_many(documents).await.unwrap();
    changed.insert_many(documents).await.unwrap();
    change(&changed).await;
    run_command(sync(fixture, &["--once", "--collection", "original"])).ok();
    // A position behind the changes, which a load alone does not have.
    original
        .update_one(doc! {}, doc! { "$set": { "touched": 1 } })
        .await
        .unwrap();
    changed
        .update_one(doc! {}, doc! { "$set": { "touched": 1 } })
        .await
        .unwrap();
    run_command(sync(fixture, &["--once", "--collection", "original"])).ok();
    std::fs::rename(fixture.table("original"), fixture.table("c")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_that_loaded_tables_agree() {
    let fixture = Fixture::new("verify").await;
    for (kind, count) in [
        (Kind::Everything, 700),
        (Kind::Nested, 2_000),
        (Kind::Banking, 20),
        (Kind::Wide, 300),
    ] {
        let generator = Generator::new(kind, 7);
        let documents = (0..count).map(|i| generator.document(i).into_bytes());
        fixture.insert_raw(kind.name(), documents.collect()).await;
    }
    catch_up(&fixture);
    let finished = assert_agrees(verify(&fixture, &[]));
    let collections = finished["collections"].as_array().unwrap();
    assert_eq!(collections.len(), 4, "{finished}");
    assert_eq!(
        collections[1]["namespace"],
        format!("{}.everything", fixture.name)
    );
    assert_eq!(collections[1]["documents"], 700);
    assert_eq!(collections[1]["rows"], 700);
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_agrees_where_types_have_widened_and_rows_have_moved() {
    let fixture = Fixture::new("verify").await;
    let c = collection(&fixture, "c");
    let documents = (0..400).map(
        |i| doc! { "_id": i, "n": i, "at": bson::DateTime::from_millis(i64::MAX - i64::from(i)) },
    );
    c.insert_many(documents).await.unwrap();
    c.insert_one(doc! { "_id": "text", "at": bson::DateTime::from_millis(0), "a b": { "c": [] } })
        .await
        .unwrap();
    catch_up(&fixture);
    assert_agrees(verify(&fixture, &[]));
    for value in [
        Bson::Double(0.5),
        Bson::Int64(i64::MAX),
        Bson::String("text".to_owned()),
        Bson::Double(-0.0),
    ] {
        c.update_many(
            doc! { "_id": { "$mod": [7, 1] } },
            doc! { "$set": { "n": value.clone(), "at": value } },
        )
        .await
        .unwrap();
        c.delete_one(doc! { "_id": { "$gt": 100 } }).await.unwrap();
        catch_up(&fixture);
        assert_agrees(verify(&fixture, &[]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_exactly_the_keys_that_differ() {
    let fixture = Fixture::new("verify").await;
    let documents: Vec<Document> = (0..3_000)
        .map(|i| doc! { "_id": i, "n": i, "inner": { "list": [i, 2, 3] }, "s": format!("v{i}") })
        .collect();
    tampered(&fixture, &documents, async |c| {
        // In the table, but not in the collection, and the other way round.
        c.delete_many(doc! { "_id": { "$in": [17, 18] } })
            .await
            .unwrap();
        c.insert_one(doc! { "_id": "here only", "n": 1 })
            .await
            .unwrap();
        // An item of an array, a field, a type that is no number.
        c.update_one(doc! { "_id": 30 }, doc! { "$set": { "inner.list.1": 9 } })
            .await
            .unwrap();
        c.update_one(doc! { "_id": 31 }, doc! { "$unset": { "s": 1 } })
            .await
            .unwrap();
        c.update_one(doc! { "_id": 32 }, doc! { "$set": { "n": "32" } })
            .await
            .unwrap();
        // No difference for a table: the type of a number, null, the order of fields.
        c.update_one(doc! { "_id": 40 }, doc! { "$set": { "n": 40.0 } })
            .await
            .unwrap();
        c.update_one(doc! { "_id": 41 }, doc! { "$set": { "more": Bson::Null } })
            .await
            .unwrap();
        c.replace_one(
            doc! { "_id": 42 },
            doc! { "s": "v42", "inner": { "list": [42, 2, 3] }, "n": 42 },
        )
        .await
        .unwrap();
    })
    .await;
    let run = verify(&fixture, &["--collection", "c"]);
    assert_eq!(run.code, Some(1), "{run:#?}");
    let found = run.collection();
    assert_eq!(counts(&found), [1, 2, 3, 0], "{found:#}");
    assert_eq!(found["agrees"], false);
    assert_eq!(found["documents"], 2_999);
    assert_eq!(found["rows"], 3_000);
    assert_eq!(found["missing"]["keys"], json!(["here only"]));
    let number = |n: i32| json!({ "$numberInt": n.to_string() });
    assert_eq!(found["extra"]["keys"], json!([number(17), number(18)]));
    assert_eq!(
        found["different"]["keys"],
        json!([number(30), number(31), number(32)])
    );

    let (uri, lake) = (fixture.uri(), fixture.lake());
    let run = run_command(command(&[
        "verify",
        &uri,
        &lake,
        "--collection",
        "c",
        "--max-differences",
        "1",
    ]));
    assert_eq!(run.code, Some(1), "{run:#?}");
    for words in [
        "differs",
        "c: 1 missing in the table:\n  _id \"here only\"",
        "c: 2 extra in the table:\n  _id {\"$numberInt\":\"17\"}\n  and 1 more",
        "c: 3 different in the table:",
    ] {
        assert!(run.stdout.contains(words), "no `{words}` in {run:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_notices_what_another_program_has_written_into_the_table() {
    let fixture = Fixture::new("verify").await;
    let c = collection(&fixture, "c");
    let documents = (0..100).map(|i| doc! { "_id": i, "n": i, "s": format!("v{i}") });
    c.insert_many(documents).await.unwrap();
    catch_up(&fixture);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/readers/tamper.py");
    let output = Command::new(python())
        .arg(script)
        .arg(fixture.table("c"))
        .output()
        .expect("python runs");
    assert!(output.status.success(), "{output:#?}");
    let run = verify(&fixture, &[]);
    assert_eq!(run.code, Some(1), "{run:#?}");
    let found = run.collection();
    assert_eq!(counts(&found), [1, 1, 1, 0], "{run:#?}");
    assert_eq!(found["missing"]["keys"], json!([{ "$numberInt": "3" }]));
    assert_eq!(found["different"]["keys"], json!([{ "$numberInt": "5" }]));
    assert_eq!(found["extra"]["keys"], json!([{ "$numberInt": "900" }]));
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_takes_a_table_that_is_behind_for_what_it_is() {
    let fixture = Fixture::new("verify").await;
    let c = collection(&fixture, "c");
    c.insert_many((0..100).map(|i| doc! { "_id": i, "n": i }))
        .await
        .unwrap();
    catch_up(&fixture);
    c.update_one(doc! { "_id": 1 }, doc! { "$set": { "n": -1 } })
        .await
        .unwrap();
    c.delete_one(doc! { "_id": 2 }).await.unwrap();
    c.insert_one(doc! { "_id": 200 }).await.unwrap();
    let finished = assert_agrees(verify(&fixture, &[]));
    assert_eq!(finished["collections"][0]["changedSince"], 3, "{finished}");
    catch_up(&fixture);
    let finished = assert_agrees(verify(&fixture, &[]));
    assert_eq!(finished["collections"][0]["changedSince"], 0, "{finished}");
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_does_not_call_wrong_what_it_cannot_tell() {
    let fixture = Fixture::new("verify").await;
    let c = collection(&fixture, "c");
    c.insert_many((0..100).map(|i| doc! { "_id": i, "n": i }))
        .await
        .unwrap();
    catch_up(&fixture);
    c.update_one(doc! { "_id": 1 }, doc! { "$set": { "n": -1 } })
        .await
        .unwrap();
    // The table stands where it does for a year: the server does not remember that any more.
    let files = fixture.files("c", "json").into_iter();
    let newest = files.filter(|name| name.starts_with("_delta_log/0")).max();
    let log = fixture.table("c").join(newest.unwrap());
    let original = std::fs::read_to_string(&log).unwrap();
    let time = original.split("\"clusterTime\":").nth(1).unwrap();
    let time: String = time.chars().take_while(char::is_ascii_digit).collect();
    let earlier = time.parse::<u64>().unwrap() - ((365 * 24 * 3_600) << 32);
    std::fs::write(&log, original.replace(&time, &earlier.to_string())).unwrap();
    let run = verify(&fixture, &[]);
    assert_eq!(run.code, Some(1), "{run:#?}");
    let found = run.collection();
    assert_eq!(counts(&found), [0, 0, 0, 1], "{found:#}");
    assert_eq!(found["unsettled"]["keys"], json!([{ "$numberInt": "1" }]));
    let (uri, lake) = (fixture.uri(), fixture.lake());
    let run = run_command(command(&["verify", &uri, &lake, "--wait", "0s"]));
    assert_eq!(run.code, Some(1), "{run:#?}");
    for words in [
        "cannot be told",
        "the table stands at 20",
        "`tributary sync --once`",
    ] {
        assert!(run.stdout.contains(words), "no `{words}` in {run:#?}");
    }
    std::fs::write(&log, original).unwrap();
    catch_up(&fixture);
    assert_agrees(verify(&fixture, &[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_agrees_while_a_sync_runs_under_load() {
    let fixture = Arc::new(Fixture::new("verify").await);
    let names = ["plain", "mixed", "third"];
    for name in names {
        let documents = (0..300).map(|i| doc! { "_id": i, "n": i });
        collection(&fixture, name)
            .insert_many(documents)
            .await
            .unwrap();
    }
    let child = Running::start(sync(&fixture, &["--commit-interval", "100ms"]));
    for name in names {
        fixture.wait_for_rows(name, 300).await;
    }
    let done = Arc::new(AtomicBool::new(false));
    let worker = {
        let (fixture, done) = (Arc::clone(&fixture), Arc::clone(&done));
        tokio::spawn(async move { work(&fixture, &names, 3, done).await })
    };
    let begun = Instant::now();
    let mut runs = 0;
    while begun.elapsed() < Duration::from_secs(15) || runs < 2 {
        assert_agrees(verify(&fixture, &["--wait", "30s"]));
        runs += 1;
    }
    done.store(true, Ordering::Relaxed);
    worker.await.unwrap();
    assert_agrees(verify(&fixture, &["--wait", "30s"]));
    child.stop().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_what_is_wrong_while_a_sync_runs_under_load() {
    let fixture = Arc::new(Fixture::new("verify").await);
    let c = collection(&fixture, "plain");
    let documents = (0..300).map(|i| doc! { "_id": i, "n": i });
    c.insert_many(documents.clone()).await.unwrap();
    c.insert_many((1_000..1_100).map(|i| doc! { "_id": i, "n": i }))
        .await
        .unwrap();
    catch_up(&fixture);
    let script = "import sys; from deltalake import DeltaTable; DeltaTable(sys.argv[1]).delete('_id = 1050')";
    let output = Command::new(python())
        .args(["-c", script])
        .arg(fixture.table("plain"))
        .output()
        .expect("python runs");
    assert!(output.status.success(), "{output:#?}");
    let mut child = Running::start(sync(&fixture, &["--commit-interval", "100ms"]));
    child.wait_for_events("following", 1).await;
    let done = Arc::new(AtomicBool::new(false));
    let worker = {
        let (fixture, done) = (Arc::clone(&fixture), Arc::clone(&done));
        tokio::spawn(async move { work(&fixture, &["plain"], 4, done).await })
    };
    let run = verify(&fixture, &["--wait", "30s"]);
    assert_eq!(run.code, Some(1), "{run:#?}");
    let found = run.collection();
    assert_eq!(counts(&found), [1, 0, 0, 0], "{found:#}");
    assert_eq!(found["missing"]["keys"], json!([{ "$numberInt": "1050" }]));
    done.store(true, Ordering::Relaxed);
    worker.await.unwrap();
    child.stop().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_says_what_is_wrong_with_its_arguments() {
    let fixture = Fixture::new("verify").await;
    collection(&fixture, "c")
        .insert_one(doc! { "_id": 1 })
        .await
        .unwrap();
    let run = verify(&fixture, &[]);
    run.fails(1, &["has no table", "tributary sync", ".c"]);
    assert!(run.collection()["error"].is_string());
    verify(&fixture, &["--collection", "other"]).fails(1, &["no such collection", "other"]);
    fixture.copy(&[]).ok();
    verify(&fixture, &[]).fails(1, &["does not follow a collection", "tributary sync"]);
    let lake = fixture.lake();
    let run = run_command(command(&["verify", "http://localhost", &lake]));
    run.fails(2, &["not a MongoDB address"]);
    let uri = fixture.uri();
    let run = run_command(command(&["verify", &uri, "gopher://lake"]));
    assert_eq!(run.code, Some(2), "{run:#?}");
    let run = run_command(command(&["verify", &uri, &lake, "--wait", "soon"]));
    assert_eq!(run.code, Some(2), "{run:#?}");
}
