use bson::{Document, doc};
use tributary_flow::{ChangeSource, EventBatch, EventKind};

use super::{Fixture, event};
use crate::IngestSource;

/// What tables are told of each event, in the order of arrival.
async fn told(fixture: &Fixture) -> Vec<String> {
    let source = IngestSource::new(fixture.log.clone(), &[]).unwrap();
    let (removed, _) = fixture.log.window();
    let (out, mut batches) = tokio::sync::mpsc::channel::<EventBatch>(4);
    let from = fixture.log.behind(removed);
    let following = tokio::spawn(async move { source.follow(&from, out).await });
    let batch = batches.recv().await.unwrap();
    drop(batches);
    following.await.unwrap().unwrap();
    let name = |kind: &EventKind, name: &str| match kind {
        EventKind::Other(other) => other.clone(),
        _ => name.to_owned(),
    };
    let events = batch.events.iter();
    events
        .map(|event| name(&event.kind, event.name()))
        .collect()
}

async fn arrive(events: &[Document]) -> Vec<String> {
    let fixture = Fixture::new();
    fixture.append(events).await;
    told(&fixture).await
}

fn of_collection(operation: &str, time: u32) -> Document {
    doc! {
        "_id": { "_data": super::token(time) },
        "operationType": operation,
        "clusterTime": bson::Timestamp { time, increment: 1 },
        "ns": { "db": "shop", "coll": "orders" },
    }
}

#[tokio::test]
async fn an_older_change_of_a_document_does_not_overwrite_a_newer_one() {
    let told = arrive(&[
        event("update", 1, 7),
        event("insert", 1, 5),
        event("insert", 2, 4),
        event("delete", 1, 9),
        event("update", 1, 8),
        event("insert", 1, 10),
    ])
    .await;
    assert_eq!(
        told,
        [
            "update",
            "late insert",
            "insert",
            "delete",
            "late update",
            "insert"
        ]
    );
}

#[tokio::test]
async fn it_is_known_after_another_start_too() {
    let fixture = Fixture::new();
    fixture.append(&[event("update", 1, 7)]).await;
    let fixture = fixture.reopen();
    fixture.append(&[event("insert", 1, 5)]).await;
    assert_eq!(told(&fixture).await, ["update", "late insert"]);
}

#[tokio::test]
async fn changes_of_one_moment_are_told_apart_by_their_tokens() {
    let with = |token: &str| {
        let mut event = event("replace", 1, 5);
        event.insert("_id", doc! { "_data": token });
        event
    };
    let told = arrive(&[with("82000000050000000102"), with("82000000050000000101")]).await;
    assert_eq!(told, ["replace", "late replace"]);
}

#[tokio::test]
async fn without_a_cluster_time_the_token_says_when() {
    let mut early = event("replace", 1, 5);
    early.remove("clusterTime");
    let told = arrive(&[event("replace", 1, 6), early]).await;
    assert_eq!(told, ["replace", "late replace"]);
}

#[tokio::test]
async fn without_any_time_what_arrives_later_is_later() {
    let unordered = |id: i32| {
        let mut event = event("replace", 1, 5);
        event.remove("clusterTime");
        event.insert("_id", id);
        event
    };
    let told = arrive(&[unordered(2), unordered(1)]).await;
    assert_eq!(told, ["replace", "replace"]);
}

#[tokio::test]
async fn what_happened_before_a_collection_was_dropped_does_not_come_back() {
    let told = arrive(&[
        event("insert", 1, 5),
        of_collection("drop", 8),
        event("insert", 2, 7),
        event("insert", 2, 9),
    ])
    .await;
    assert_eq!(told, ["insert", "drop", "late insert", "insert"]);
}

#[tokio::test]
async fn a_drop_does_not_take_what_came_behind_it() {
    let told = arrive(&[event("insert", 1, 9), of_collection("drop", 8)]).await;
    assert_eq!(told, ["insert", "late drop"]);
    let mut database = of_collection("dropDatabase", 8);
    database.insert("ns", doc! { "db": "shop" });
    let told = arrive(&[event("insert", 1, 9), database]).await;
    assert_eq!(told, ["insert", "late dropDatabase"]);
}
