use std::time::{Duration, Instant};

use bson::{Document, doc};
use bytes::Bytes;
use tokio::sync::mpsc;
use tributary_flow::{
    ChangeSource, EventKind, EventSource, RawEvents, SnapshotSource, WantedEvents, Watch,
};
use tributary_model::{ErrorKind, Namespace, Position};

use super::{Fixture, bytes, event};
use crate::{IngestEvents, IngestSource};

const PATIENCE: Duration = Duration::from_secs(20);

fn in_collection(name: &str, id: i32, time: u32) -> Document {
    let mut event = event("insert", id, time);
    event.insert("ns", doc! { "db": "shop", "coll": name });
    event
}

/// Follows until there are so many events; answers them and the last position.
async fn changes(
    source: &IngestSource,
    from: &Position,
    count: usize,
) -> (Vec<tributary_flow::Event>, Position) {
    let (out, mut batches) = mpsc::channel(1);
    let read = async {
        let (mut events, mut position) = (Vec::new(), from.clone());
        let begun = Instant::now();
        while events.len() < count {
            assert!(begun.elapsed() < PATIENCE, "there are only {events:?}");
            let batch: tributary_flow::EventBatch = batches.recv().await.expect("a batch");
            events.extend(batch.events);
            position = batch.position;
        }
        drop(batches);
        (events, position)
    };
    let (followed, read) = tokio::join!(source.follow(from, out), read);
    followed.unwrap();
    read
}

#[tokio::test]
async fn changes_come_in_their_order_and_go_on_behind_a_position() {
    let fixture = Fixture::new();
    let source = IngestSource::new(fixture.log.clone(), &[]).unwrap();
    let begun = source.now().await.unwrap();
    fixture
        .append(&[event("insert", 1, 5), event("update", 1, 6)])
        .await;
    let (events, position) = changes(&source, &begun, 2).await;
    let names: Vec<&str> = events.iter().map(tributary_flow::Event::name).collect();
    assert_eq!(names, ["insert", "update"]);
    let EventKind::Change(update) = &events[1].kind else {
        panic!("{:?}", events[1]);
    };
    assert_eq!(update.key, bytes(&doc! { "_id": 1 }));
    assert_eq!(update.document, Some(bytes(&doc! { "_id": 1, "n": 6_i64 })));
    assert!(update.looked_up);
    assert_eq!(events[1].wall_time, 6000);
    // Positions are those of events, and pass them.
    assert_eq!(events[1].position(&begun), position);
    assert!(position.has_passed(events[1].token(), events[1].cluster_time));
    assert!(!begun.has_passed(events[0].token(), events[0].cluster_time));
    fixture.append(&[event("delete", 1, 7)]).await;
    let (more, _) = changes(&source, &position, 1).await;
    assert_eq!(more[0].name(), "delete");
    // By the time alone, the last one comes again.
    let (again, _) = changes(&source, &position.without_token(), 2).await;
    assert_eq!(again[0].token(), events[1].token());
}

#[tokio::test]
async fn what_is_appended_while_it_is_followed_comes_at_once() {
    let fixture = Fixture::new();
    let source = IngestSource::new(fixture.log.clone(), &[]).unwrap();
    let from = source.now().await.unwrap();
    let appends = async {
        for id in 0..50 {
            fixture.append(&[event("insert", id, 5)]).await;
        }
    };
    let ((events, _), ()) = tokio::join!(changes(&source, &from, 50), appends);
    assert_eq!(events.len(), 50);
}

#[tokio::test]
async fn all_that_was_acknowledged_is_complete_when_it_has_been_read() {
    let fixture = Fixture::new();
    let source = IngestSource::new(fixture.log.clone(), &[]).unwrap();
    let from = source.now().await.unwrap();
    fixture.append(&[event("insert", 1, 5)]).await;
    let until = source.now().await.unwrap();
    let (out, mut batches) = mpsc::channel(1);
    let read = async {
        let batch = batches.recv().await.unwrap();
        drop(batches);
        batch
    };
    let (_, batch) = tokio::join!(source.follow(&from, out), read);
    assert!(batch.complete_to >= until.cluster_time);
    // And nothing that comes later is at or before it.
    fixture.append(&[event("insert", 2, 5)]).await;
    let (events, _) = changes(&source, &batch.position, 1).await;
    assert!(events[0].cluster_time > batch.complete_to);
}

#[tokio::test]
async fn collections_are_those_that_events_were_about_and_begin_empty() {
    let fixture = Fixture::new();
    let source = IngestSource::new(fixture.log.clone(), &["o*".to_owned()]).unwrap();
    let error = source.collections().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let later = async {
        fixture.append(&[in_collection("customers", 1, 5)]).await;
        fixture.append(&[in_collection("orders", 2, 5)]).await;
    };
    let waits = tokio::time::timeout(PATIENCE, source.wait_for_collections());
    let (waited, ()) = tokio::join!(waits, later);
    waited.expect("in time").unwrap();
    let collections = source.collections().await.unwrap();
    let names: Vec<&Namespace> = collections.iter().map(|info| &info.namespace).collect();
    assert_eq!(names, [&Namespace::new("shop", "orders")]);
    let partitions = source.plan(&collections[0], 4).await.unwrap();
    let (out, mut documents) = mpsc::channel(1);
    source
        .read(&collections[0], &partitions[0], None, out)
        .await
        .unwrap();
    assert!(documents.recv().await.is_none());
    let (removed, _) = fixture.log.window();
    let (events, _) = changes(&source, &fixture.log.behind(removed), 1).await;
    assert_eq!(events[0].namespace.collection, "orders");
}

#[tokio::test]
async fn a_collection_that_was_renamed_cannot_begin_empty() {
    let fixture = Fixture::new();
    let rename = doc! {
        "_id": 1, "operationType": "rename",
        "ns": { "db": "shop", "coll": "orders" }, "to": { "db": "shop", "coll": "old" },
    };
    fixture.append(&[event("insert", 1, 5), rename]).await;
    let source = IngestSource::new(fixture.log.clone(), &[]).unwrap();
    let collections = source.collections().await.unwrap();
    let old = collections
        .iter()
        .find(|info| info.namespace.collection == "old");
    let error = source.plan(old.unwrap(), 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
}

async fn watched(fixture: &Fixture, watch: &Watch, count: usize) -> Vec<tributary_flow::RawEvent> {
    let source = IngestEvents::new(fixture.log.clone());
    let (removed, _) = fixture.log.window();
    let from = fixture.log.behind(removed);
    let (out, mut batches) = mpsc::channel::<RawEvents>(1);
    let read = async {
        let mut events = Vec::new();
        let begun = Instant::now();
        while events.len() < count {
            assert!(begun.elapsed() < PATIENCE, "there are only {events:?}");
            events.extend(batches.recv().await.expect("a batch").events);
        }
        drop(batches);
        events
    };
    let (followed, events) = tokio::join!(source.follow(watch, &from, out), read);
    followed.unwrap();
    events
}

#[tokio::test]
async fn triggers_get_events_as_they_arrived() {
    let fixture = Fixture::new();
    let pushed = [
        event("update", 1, 7),
        event("insert", 1, 5),
        in_collection("customers", 1, 6),
        doc! { "_id": 9, "operationType": "create", "ns": { "db": "shop", "coll": "new" } },
    ];
    fixture.append(&pushed).await;
    let all = watched(&fixture, &Watch::default(), 3).await;
    let documents: Vec<&Bytes> = all.iter().map(|event| &event.document).collect();
    // The late one, too; and none that has to be asked for.
    let expected: Vec<Bytes> = pushed[..3].iter().map(bytes).collect();
    assert_eq!(documents, expected.iter().collect::<Vec<_>>());
    assert_eq!(
        (all[0].database.as_str(), all[0].operation.as_str()),
        ("shop", "update")
    );
    let expanded = Watch {
        expanded: true,
        ..Watch::default()
    };
    assert_eq!(watched(&fixture, &expanded, 4).await.len(), 4);
    let wanted = WantedEvents {
        database: Some("shop".to_owned()),
        collection: Some("orders".to_owned()),
        operations: vec!["insert".to_owned()],
    };
    let some = Watch {
        wanted: vec![wanted],
        ..Watch::default()
    };
    let events = watched(&fixture, &some, 1).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].operation, "insert");
}

#[tokio::test]
async fn stages_beyond_what_is_wanted_need_a_mongodb() {
    let fixture = Fixture::new();
    fixture.append(&[event("insert", 1, 5)]).await;
    let source = IngestEvents::new(fixture.log.clone());
    let stage = |document: Document| Watch {
        wanted: vec![WantedEvents {
            operations: vec!["insert".to_owned()],
            ..WantedEvents::default()
        }],
        stages: vec![bytes(&document)],
        ..Watch::default()
    };
    let more = stage(doc! { "$match": { "fullDocument.n": 5 } });
    let (out, _batches) = mpsc::channel(1);
    let from = source.now().await.unwrap();
    let error = source.follow(&more, &from, out).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(
        error.to_string().contains("`match` and `project`"),
        "{error}"
    );
}
