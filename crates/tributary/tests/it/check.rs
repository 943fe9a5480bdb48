//! Looking before copying.

use bson::doc;
use serde_json::Value;
use tributary_testkit::Mongod;

use crate::support::{Fixture, run};

#[tokio::test]
async fn a_good_source_and_target_are_described() {
    let fixture = Fixture::new("check").await;
    fixture
        .insert("c", (0..10).map(|i| doc! { "_id": i }).collect())
        .await;
    let (uri, lake) = (fixture.uri(), fixture.lake());

    let text = run(&["check", &uri, &lake]).ok().stdout;
    for words in [
        "replica set",
        "reaches back",
        "~10",
        "can be written",
        "nothing is wrong",
    ] {
        assert!(text.contains(words), "no `{words}` in {text}");
    }
    assert!(
        !std::path::Path::new(&lake).exists(),
        "the check leaves nothing behind"
    );

    let run = run(&["check", &uri, &lake, "--output", "json"]).ok();
    let report: Value = serde_json::from_str(run.stdout.trim()).unwrap();
    assert!(report["source"]["version"].as_str().unwrap().contains('.'));
    assert_eq!(report["source"]["collections"][0]["documents"], 10);
    assert_eq!(report["target"]["writable"], true);
    assert!(report["source"]["clockSkewSeconds"].as_f64().unwrap().abs() < 5.0);
}

#[tokio::test]
async fn what_is_missing_is_told() {
    let mongod = Mongod::builder().with_auth().start().await.unwrap();
    let client = mongod.client().await.unwrap();
    client
        .database("secret")
        .collection("c")
        .insert_one(doc! { "x": 1 })
        .await
        .unwrap();
    mongod
        .create_user("nobody", "pass", &[("read", "other")])
        .await
        .unwrap();
    let uri = mongod.uri_as("nobody", "pass", "secret");

    let run = run(&["check", &uri, "/proc/nowhere/lake"]);

    assert_eq!(run.code, Some(1), "{run:#?}");
    for words in [
        "nobody@admin",
        "not authorized",
        "`read` role",
        "CANNOT be written",
    ] {
        assert!(run.stdout.contains(words), "no `{words}` in {run:#?}");
    }
    assert!(!run.stdout.contains("pass@"), "{run:#?}");
}
