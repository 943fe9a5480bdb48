//! Looking before copying.

use bson::doc;
use serde_json::Value;
use tributary_testkit::{Mongod, ReplicaSet};

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

#[tokio::test]
async fn a_read_preference_that_no_member_meets_is_told() {
    let fixture = Fixture::new("nosecondary").await;
    fixture.insert("c", vec![doc! { "_id": 1 }]).await;
    let uri = format!("{}&serverSelectionTimeoutMS=2000", fixture.uri());

    let run = run(&["check", &uri, "--read-preference", "secondary"]);
    assert_eq!(run.code, Some(1), "{run:#?}");
    for words in [
        "replica set",
        "`secondary`",
        "no such secondary",
        "ask for `secondaryPreferred`",
    ] {
        assert!(run.stdout.contains(words), "no `{words}` in {run:#?}");
    }
    assert_eq!(run.stdout.matches("error:").count(), 1, "{run:#?}");
}

#[tokio::test]
async fn a_preference_for_secondaries_that_do_not_exist_is_a_warning() {
    let fixture = Fixture::new("onlyprimary").await;
    fixture.insert("c", vec![doc! { "_id": 1 }]).await;

    let run = run(&[
        "check",
        &fixture.uri(),
        "--read-preference",
        "secondaryPreferred",
    ])
    .ok();
    for words in ["~1", "warning", "there is no secondary"] {
        assert!(run.stdout.contains(words), "no `{words}` in {run:#?}");
    }
}

#[tokio::test]
async fn secondaries_that_exist_are_no_matter_of_warning() {
    let set = ReplicaSet::start(2).await.unwrap();
    let client = set.client().await.unwrap();
    let collection = client.database("shop").collection("c");
    let everywhere = mongodb::options::WriteConcern::builder()
        .w(mongodb::options::Acknowledgment::Nodes(2))
        .build();
    collection
        .insert_one(doc! { "_id": 1 })
        .write_concern(everywhere)
        .await
        .unwrap();
    for preference in ["secondary", "secondaryPreferred", "primary"] {
        let run = run(&[
            "check",
            &set.uri_for("shop"),
            "--read-preference",
            preference,
        ])
        .ok();
        assert!(run.stdout.contains("nothing is wrong"), "{run:#?}");
    }
}

/// Whether a collection keeps images, as the server says.
async fn keeps_images(database: &mongodb::Database, collection: &str) -> bool {
    let list = doc! { "listCollections": 1, "filter": { "name": collection } };
    let answer = database.run_command(list).await.unwrap();
    let first = answer
        .get_document("cursor")
        .unwrap()
        .get_array("firstBatch")
        .unwrap();
    let options = first[0]
        .as_document()
        .unwrap()
        .get_document("options")
        .unwrap();
    options
        .get_document("changeStreamPreAndPostImages")
        .is_ok_and(|images| images.get_bool("enabled").unwrap_or(false))
}

#[tokio::test]
async fn images_are_wanted_only_where_that_is_said_and_set_once() {
    let fixture = Fixture::new("images").await;
    for collection in ["one", "two", "other"] {
        fixture.insert(collection, vec![doc! { "_id": 1 }]).await;
    }
    let uri = fixture.uri();
    let check = |arguments: &[&str]| {
        let common: &[&str] = &["check", &uri, "--collection", "one", "--collection", "two"];
        run(&[common, arguments].concat()).ok()
    };

    let unasked = check(&["--fix"]);
    assert!(unasked.stdout.contains("changed: nothing"), "{unasked:#?}");
    assert!(unasked.stdout.contains("nothing is wrong"), "{unasked:#?}");
    let asked = check(&["--pre-and-post-images"]);
    let lacking = format!(
        "no pre- and post-images are kept of {0}.one, {0}.two",
        fixture.name
    );
    assert!(asked.stdout.contains(&lacking), "{asked:#?}");
    assert!(asked.stdout.contains("not kept"), "{asked:#?}");
    assert!(!keeps_images(&fixture.database, "one").await);

    let fixed = check(&["--pre-and-post-images", "--fix"]);
    assert_eq!(
        fixed
            .stdout
            .matches("changed: pre- and post-images")
            .count(),
        2,
        "{fixed:#?}"
    );
    assert!(fixed.stdout.contains("nothing is wrong"), "{fixed:#?}");
    assert!(keeps_images(&fixture.database, "one").await);
    assert!(keeps_images(&fixture.database, "two").await);
    assert!(!keeps_images(&fixture.database, "other").await);

    let again = check(&["--pre-and-post-images", "--fix", "--output", "json"]);
    let report: Value = serde_json::from_str(again.stdout.trim()).unwrap();
    assert_eq!(report["source"]["changed"], serde_json::json!([]));
    assert_eq!(report["source"]["collections"][0]["preAndPostImages"], true);
}

#[tokio::test]
async fn privileges_that_changes_take_are_told() {
    let mongod = Mongod::builder().with_auth().start().await.unwrap();
    let client = mongod.client().await.unwrap();
    let shop = client.database("shop");
    shop.collection("c")
        .insert_one(doc! { "x": 1 })
        .await
        .unwrap();
    let role = doc! {
        "createRole": "copier",
        "privileges": [
            { "resource": { "db": "shop", "collection": "" }, "actions": ["find", "listCollections", "collStats"] },
        ],
        "roles": [],
    };
    client.database("admin").run_command(role).await.unwrap();
    for (name, role, database) in [("reader", "read", "shop"), ("copier", "copier", "admin")] {
        mongod
            .create_user(name, "pass", &[(role, database)])
            .await
            .unwrap();
    }

    let copier = run(&["check", &mongod.uri_as("copier", "pass", "shop")]).ok();
    for words in [
        "warning: changes cannot be followed",
        "`changeStream`",
        "role `read` on shop",
    ] {
        assert!(copier.stdout.contains(words), "no `{words}` in {copier:#?}");
    }
    let reader = mongod.uri_as("reader", "pass", "shop");
    let seen = run(&["check", &reader, "--pre-and-post-images"]).ok();
    for words in ["shop.c", "lacks the privilege `collMod`", "`dbAdmin`"] {
        assert!(seen.stdout.contains(words), "no `{words}` in {seen:#?}");
    }
    assert!(!seen.stdout.contains("cannot be followed"), "{seen:#?}");
    let refused = run(&["check", &reader, "--pre-and-post-images", "--fix"]);
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(
        refused.stdout.contains("error: the user may not"),
        "{refused:#?}"
    );
    assert_eq!(refused.stdout.matches("error:").count(), 1, "{refused:#?}");
    assert!(!keeps_images(&shop, "c").await);
}
