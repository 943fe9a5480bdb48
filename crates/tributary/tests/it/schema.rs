//! Schema changes while following: tables that grow, that stay as they are, and that wait.

use std::time::Duration;

use bson::{Bson, doc};
use serde_json::{Value, json};

use crate::running::Running;
use crate::support::{Fixture, Run, run, run_command};
use crate::sync::{assert_same, catch_up, collection, sync};

fn schema(fixture: &Fixture, arguments: &[&str]) -> Run {
    let lake = fixture.lake();
    run(&[&["schema"], arguments, &["--lake", &lake]].concat())
}

/// The decisions of all tables: each with what is changed, without its time.
fn decisions(fixture: &Fixture) -> Vec<Value> {
    let list = schema(fixture, &["list", "--output", "json"]).ok();
    let decisions = list.stdout.lines().map(|line| {
        let mut decision: Value = serde_json::from_str(line).expect("JSON");
        decision["at"].take();
        decision
    });
    decisions.collect()
}

fn decision(fixture: &Fixture, collection: &str, decision: &str, changes: Value) -> Value {
    let table = format!("{}.{collection}", fixture.name);
    json!({ "table": table, "at": null, "decision": decision, "changes": changes })
}

fn once(fixture: &Fixture, policy: &str) -> Run {
    run_command(sync(fixture, &["--once", "--on-schema-change", policy]))
}

fn columns(fixture: &Fixture, collection: &str) -> Vec<String> {
    let table = format!("{}.{collection}", fixture.name);
    let shown = schema(fixture, &["show", &table, "--output", "json"]).ok();
    let shown: Value = serde_json::from_str(&shown.stdout).expect("JSON");
    let columns = shown["columns"].as_array().expect("a list");
    let column = |column: &Value| {
        format!(
            "{} {}",
            column["field"].as_str().unwrap(),
            column["type"].as_str().unwrap()
        )
    };
    columns.iter().map(column).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_evolves_remembers_how() {
    let fixture = Fixture::new("evolve").await;
    let c = collection(&fixture, "c");
    c.insert_one(doc! { "_id": 1, "n": 1, "in": { "a": 1 } })
        .await
        .unwrap();
    catch_up(&fixture);
    assert_eq!(decisions(&fixture), Vec::<Value>::new());
    let text = schema(&fixture, &["list"]).ok().stdout;
    assert_eq!(text, "no schema has changed\n");

    c.insert_one(doc! { "_id": 2, "n": 2.5, "in": { "a": 1, "b": true }, "new": "x" })
        .await
        .unwrap();
    catch_up(&fixture);
    let changes = json!([
        { "path": "/n", "from": "int32", "to": "double" },
        { "path": "/in/b", "to": "bool" },
        { "path": "/new", "to": "string" },
    ]);
    assert_eq!(
        decisions(&fixture),
        [decision(&fixture, "c", "evolved", changes)]
    );
    let text = schema(&fixture, &["list"]).ok().stdout;
    assert!(text.contains("int32 → double"), "{text}");
    // Facts that change without the table do not count.
    c.insert_one(doc! { "_id": 3, "n": i64::from(i32::MAX) + 1 })
        .await
        .unwrap();
    catch_up(&fixture);
    assert_eq!(decisions(&fixture).len(), 1);
    assert_same(&fixture, "c");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_keeps_its_schema_rescues_what_does_not_fit() {
    let fixture = Fixture::new("rescue").await;
    let c = collection(&fixture, "c");
    c.insert_one(doc! { "_id": 1, "n": 1, "in": { "a": 1 }, "items": [{ "n": 1 }] })
        .await
        .unwrap();
    let first = once(&fixture, "rescue").ok();
    assert_eq!(first.collection()["rescued"], 0);
    let before = columns(&fixture, "c");
    assert_eq!(
        before,
        [
            "_id int32",
            "n int32",
            "in document<a: int32>",
            "items array<document<n: int32>>"
        ]
    );

    c.insert_many([
        doc! { "_id": 2, "n": "text", "new": 1, "in": { "a": 1, "b": [1] }, "items": [{ "n": 2.5 }, { "n": 2 }, 7] },
        doc! { "_id": "key", "n": 3 },
        doc! { "_id": "other", "n": 4 },
        doc! { "_id": { "a": 1 }, "n": Bson::Null, "gone": Bson::Null },
    ])
    .await
    .unwrap();
    let second = once(&fixture, "rescue").ok();
    assert_eq!(second.collection()["rescued"], 8);
    // Rows whose key was rescued are found again.
    c.update_one(doc! { "_id": "key" }, doc! { "$set": { "n": 5 } })
        .await
        .unwrap();
    c.delete_one(doc! { "_id": "other" }).await.unwrap();
    std::fs::remove_dir_all(fixture.path("index")).unwrap();
    c.update_one(doc! { "_id": { "a": 1 } }, doc! { "$set": { "n": 6 } })
        .await
        .unwrap();
    once(&fixture, "rescue").ok();

    assert_eq!(columns(&fixture, "c"), before);
    let changes = json!([
        { "path": "/_id", "from": "int32", "to": "mixed (Extended JSON text)" },
        { "path": "/in/b", "to": "array" },
        { "path": "/items/*", "from": "document<n: int32>", "to": "int32" },
        { "path": "/items/*/n", "from": "int32", "to": "double" },
        { "path": "/n", "from": "int32", "to": "string" },
        { "path": "/new", "to": "int32" },
    ]);
    assert_eq!(
        decisions(&fixture),
        [decision(&fixture, "c", "rescued", changes)]
    );
    assert_same(&fixture, "c");
    run(&["verify", &fixture.uri(), &fixture.lake()]).ok();

    // What was rescued stays where it is when the table evolves from now on.
    c.insert_one(doc! { "_id": 9, "new": 2 }).await.unwrap();
    once(&fixture, "evolve").ok();
    assert_same(&fixture, "c");
    let new = json!([{ "path": "/new", "to": "int32" }]);
    assert_eq!(
        decisions(&fixture).last(),
        Some(&decision(&fixture, "c", "evolved", new))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_told_apart_in_a_table_without_a_column_for_their_keys() {
    for policy in ["rescue", "evolve"] {
        let fixture = Fixture::new("nokey").await;
        let c = collection(&fixture, "c");
        c.insert_one(doc! { "_id": Bson::Null, "n": 1 })
            .await
            .unwrap();
        once(&fixture, policy).ok();
        assert_eq!(columns(&fixture, "c"), ["n int32"]);

        // The row has its place in an index that is made anew.
        std::fs::remove_dir_all(fixture.path("index")).unwrap();
        c.update_one(doc! { "_id": Bson::Null }, doc! { "$set": { "n": 2 } })
            .await
            .unwrap();
        once(&fixture, policy).ok();
        assert_same(&fixture, "c");

        c.insert_many([doc! { "_id": "a", "n": 3 }, doc! { "_id": "b", "n": 4 }])
            .await
            .unwrap();
        once(&fixture, policy).ok();
        std::fs::remove_dir_all(fixture.path("index")).unwrap();
        c.update_many(doc! {}, doc! { "$inc": { "n": 10 } })
            .await
            .unwrap();
        c.delete_one(doc! { "_id": "b" }).await.unwrap();
        once(&fixture, policy).ok();
        assert_same(&fixture, "c");
        run(&["verify", &fixture.uri(), &fixture.lake()]).ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_waits_goes_on_when_it_is_approved_while_others_never_stop() {
    let fixture = Fixture::new("approve").await;
    let (a, b) = (collection(&fixture, "a"), collection(&fixture, "b"));
    for c in [&a, &b] {
        c.insert_one(doc! { "_id": 1, "n": 1 }).await.unwrap();
    }
    let arguments = ["--on-schema-change", "stop", "--commit-interval", "20ms"];
    let child = sync(&fixture, &arguments).spawn().unwrap();
    fixture.wait_for_rows("b", 1).await;

    a.insert_one(doc! { "_id": 2, "n": 2 }).await.unwrap();
    fixture.wait_for_rows("a", 2).await;
    a.insert_one(doc! { "_id": 3, "n": "three", "new": 1 })
        .await
        .unwrap();
    a.delete_one(doc! { "_id": 1 }).await.unwrap();
    let changes = json!([
        { "path": "/n", "from": "int32", "to": "mixed (Extended JSON text)" },
        { "path": "/new", "to": "int32" },
    ]);
    let waiting = [decision(&fixture, "a", "waiting", changes.clone())];
    fixture
        .wait_until("the change is noticed", || decisions(&fixture) == waiting)
        .await;
    // The other goes on, and this one holds what it held.
    b.insert_one(doc! { "_id": 2, "n": 2 }).await.unwrap();
    fixture.wait_for_rows("b", 2).await;
    a.insert_one(doc! { "_id": 4, "n": 4 }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    fixture.wait_for_rows("a", 2).await;
    let shown = schema(&fixture, &["show", &format!("{}.a", fixture.name)]).ok();
    assert!(shown.stdout.contains("It waits"), "{shown:#?}");

    schema(&fixture, &["approve", "--all"]).ok();
    fixture.wait_for_rows("a", 3).await;
    assert_same(&fixture, "a");
    assert_same(&fixture, "b");
    assert_eq!(
        decisions(&fixture),
        [decision(&fixture, "a", "approved", changes)]
    );

    // It waits for the next change as for the first, and stopping then is a failure that says why.
    a.insert_one(doc! { "_id": 5, "more": true }).await.unwrap();
    fixture
        .wait_until("it waits again", || decisions(&fixture).len() == 2)
        .await;
    tributary_testkit::send_signal(&child, tributary_testkit::Signal::TERM).unwrap();
    let ended = crate::support::wait(child);
    ended.fails(1, &["/more new, bool", "schema approve", &fixture.name]);
    let happened = ended.stdout.lines().filter(|line| {
        line.contains("\"happened\"") && line.contains("its schema change was decided")
    });
    assert_eq!(happened.count(), 1, "{ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_waits_is_kept_over_restarts_and_kills() {
    let fixture = Fixture::new("wait").await;
    let c = collection(&fixture, "c");
    c.insert_one(doc! { "_id": 1, "n": 1 }).await.unwrap();
    once(&fixture, "stop").ok();
    c.insert_one(doc! { "_id": 2, "n": 2 }).await.unwrap();
    c.insert_one(doc! { "_id": 3, "new": 3 }).await.unwrap();
    for _ in 0..2 {
        once(&fixture, "stop").fails(1, &["documents have another schema", "/new new, int32"]);
        assert_eq!(decisions(&fixture).len(), 1);
    }
    let arguments = ["--on-schema-change", "stop", "--commit-interval", "20ms"];
    for _ in 0..3 {
        let mut child = sync(&fixture, &arguments).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // Documents that are gone do not hold the others up.
    c.delete_one(doc! { "_id": 3 }).await.unwrap();
    once(&fixture, "stop").ok();
    assert_eq!(decisions(&fixture), Vec::<Value>::new());
    assert_same(&fixture, "c");

    // An approval that comes while nothing runs counts, and another policy decides too.
    c.insert_one(doc! { "_id": 4, "new": 4 }).await.unwrap();
    once(&fixture, "stop").fails(1, &["/new new, int32"]);
    let table = format!("{}.c", fixture.name);
    schema(&fixture, &["approve", &table]).ok();
    once(&fixture, "stop").ok();
    assert_same(&fixture, "c");
    c.insert_one(doc! { "_id": 5, "new": "five" })
        .await
        .unwrap();
    once(&fixture, "stop").fails(1, &["/new int32 → mixed"]);
    let child = Running::start(sync(&fixture, &["--commit-interval", "20ms"]));
    fixture.wait_for_rows("c", 4).await;
    child.stop().ok();
    assert_same(&fixture, "c");
    let made: Vec<Value> = decisions(&fixture)
        .iter()
        .map(|decision| decision["decision"].clone())
        .collect();
    assert_eq!(made, ["approved", "evolved"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_approved_is_said() {
    let fixture = Fixture::new("unapproved").await;
    schema(&fixture, &["list"]).fails(1, &["there is no table in the lake"]);
    schema(&fixture, &["approve", "db.none"]).fails(1, &["there is no such table", "db.none"]);
    schema(&fixture, &["show", "none"]).fails(2, &["DATABASE.COLLECTION"]);
    collection(&fixture, "c")
        .insert_one(doc! { "_id": 1 })
        .await
        .unwrap();
    catch_up(&fixture);
    let table = format!("{}.c", fixture.name);
    schema(&fixture, &["approve", &table]).fails(1, &["no schema change waits"]);
    let none = schema(&fixture, &["approve", "--all"]).ok();
    assert_eq!(none.stdout, "no schema change waits for approval\n");
    let run = run(&["schema", "approve", "--lake", &fixture.lake()]);
    assert_eq!(run.code, Some(2), "{run:#?}");
}
