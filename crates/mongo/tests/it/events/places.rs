use mongodb::bson::doc;
use tributary_flow::{EventSource, Watch};
use tributary_model::{ErrorKind, Position};
use tributary_mongo::{Connection, MongoEvents};
use tributary_testkit::Mongod;

use super::{Following, behind, parsed, raw, watch};
use crate::support::{Fixture, number};

fn id(event: &tributary_flow::RawEvent) -> i64 {
    number(&parsed(event).get_document("documentKey").unwrap()["_id"])
}

#[tokio::test]
async fn following_goes_on_by_token_without_loss_and_without_duplicates() {
    let fixture = Fixture::new("resume").await;
    let from = fixture.events().await.now().await.unwrap();
    fixture
        .insert("c", (0..100).map(|n| doc! { "_id": n }).collect())
        .await;
    let watch = watch(Some(&fixture.name), Some("c"));
    let (mut position, mut come) = (from, Vec::new());
    while come.len() < 100 {
        let mut following = Following::new(&fixture, &watch, &position).await;
        let events = following.take(20).await;
        position = behind(events.last().unwrap(), &following.position);
        come.extend(events.iter().map(id));
        following.end().await.unwrap();
    }
    assert_eq!(come, (0..100).collect::<Vec<i64>>());
}

#[tokio::test]
async fn another_selection_goes_on_by_time_and_tokens_tell_what_has_passed() {
    let fixture = Fixture::new("other_selection").await;
    let from = fixture.events().await.now().await.unwrap();
    fixture
        .insert("c", (0..40).map(|n| doc! { "_id": n }).collect())
        .await;
    let whole = watch(Some(&fixture.name), None);
    let mut following = Following::new(&fixture, &whole, &from).await;
    let events = following.take(25).await;
    let position = behind(events.last().unwrap(), &following.position);
    following.end().await.unwrap();

    // Does not select the event that the token is of.
    let odd = doc! { "$match": { "$expr": { "$eq": [{ "$mod": ["$documentKey._id", 2] }, 1] } } };
    let other = Watch {
        stages: vec![raw(&odd)],
        ..watch(Some(&fixture.name), Some("c"))
    };
    let mut following = Following::new(&fixture, &other, &position).await;
    let mut come = Vec::new();
    while come.last() != Some(&39) {
        let event = following.next().await.unwrap();
        if !position.has_passed(&event.token, event.cluster_time) {
            come.push(id(&event));
        }
    }
    assert_eq!(come, [25, 27, 29, 31, 33, 35, 37, 39]);
    assert_ne!(following.position.stream, position.stream);
    following.end().await.unwrap();

    // By time alone, all of them come again.
    let at = Position::at(events[0].cluster_time);
    let mut following = Following::new(&fixture, &whole, &at).await;
    let again = following.take(40).await;
    assert_eq!(
        again.iter().map(id).collect::<Vec<_>>(),
        (0..40).collect::<Vec<i64>>()
    );
    following.end().await.unwrap();
}

#[tokio::test]
async fn an_idle_stream_moves_on_and_ends_with_whom_it_is_for() {
    let fixture = Fixture::new("idle").await;
    let events = fixture.events().await;
    let from = events.now().await.unwrap();
    assert!(from.deployment.is_some());
    let window = events.window().await.unwrap().unwrap();
    assert!(window.oldest <= from.cluster_time && window.newest >= window.oldest);
    let watch = watch(Some(&fixture.name), Some("c"));
    let mut following = Following::new(&fixture, &watch, &from).await;
    fixture.insert("other", vec![doc! { "_id": 1 }]).await;
    let present = events.now().await.unwrap().cluster_time;
    loop {
        let batch = following.batch().await.unwrap();
        assert!(batch.events.is_empty());
        assert!(batch.bytes > 0);
        assert_eq!(batch.position.deployment, from.deployment);
        if batch.complete_to >= present {
            break;
        }
    }
    following.end().await.unwrap();
}

#[tokio::test]
async fn a_place_of_another_deployment_and_a_collection_of_no_database_are_refused() {
    let fixture = Fixture::new("places").await;
    let from = fixture.events().await.now().await.unwrap();
    let watch = watch(Some(&fixture.name), Some("c"));
    let elsewhere = Position {
        deployment: Some("0123456789abcdef01234567".to_owned()),
        ..from.clone()
    };
    let error = Following::new(&fixture, &watch, &elsewhere)
        .await
        .failure()
        .await;
    assert_eq!(error.kind(), ErrorKind::OtherSource);
    let nowhere = super::watch(None, Some("c"));
    let error = Following::new(&fixture, &nowhere, &from)
        .await
        .failure()
        .await;
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[tokio::test]
async fn a_token_that_the_stream_does_not_know_is_of_another_source() {
    let fixture = Fixture::new("unknown_token").await;
    let from = fixture.events().await.now().await.unwrap();
    fixture.insert("c", vec![doc! { "_id": 1 }]).await;
    fixture.insert("d", vec![doc! { "_id": 1 }]).await;
    let (c, d) = (
        watch(Some(&fixture.name), Some("c")),
        watch(Some(&fixture.name), Some("d")),
    );
    // An event that stages select stays selected, where they look at nothing that may change.
    let selected = Watch {
        stages: vec![raw(&doc! { "$match": { "ns.coll": "c" } })],
        ..c.clone()
    };
    let mut of_d = Following::new(&fixture, &d, &from).await;
    let event = of_d.next().await.unwrap();
    of_d.end().await.unwrap();
    for (id, c) in (2..).zip([c, selected]) {
        let mut of_c = Following::new(&fixture, &c, &from).await;
        of_c.next().await.unwrap();
        fixture.insert("c", vec![doc! { "_id": id }]).await;
        // It says that the token is its own.
        let position = behind(&event, &of_c.position);
        of_c.end().await.unwrap();
        let error = Following::new(&fixture, &c, &position)
            .await
            .failure()
            .await;
        assert_eq!(error.kind(), ErrorKind::OtherSource, "{error}");
    }
}

#[tokio::test]
async fn an_event_that_does_not_match_any_more_holds_up_nothing() {
    let fixture = Fixture::new("no_match").await;
    let c = fixture.collection("c");
    fixture
        .insert("c", vec![doc! { "_id": 1 }, doc! { "_id": 2 }])
        .await;
    let from = fixture.events().await.now().await.unwrap();
    let set = async |id: i32, status: &str| {
        let set = doc! { "$set": { "status": status } };
        c.update_one(doc! { "_id": id }, set).await.unwrap();
    };
    let paid = Watch {
        full_document: true,
        stages: vec![raw(
            &doc! { "$match": { "operationType": "update", "fullDocument.status": "paid" } },
        )],
        ..watch(Some(&fixture.name), Some("c"))
    };
    set(1, "paid").await;
    let mut following = Following::new(&fixture, &paid, &from).await;
    let event = following.next().await.unwrap();
    let position = behind(&event, &following.position);
    following.end().await.unwrap();

    set(1, "shipped").await;
    set(2, "paid").await;
    let mut following = Following::new(&fixture, &paid, &position).await;
    let next = following.next().await.unwrap();
    assert_eq!(id(&next), 2);
    assert!(!position.has_passed(&next.token, next.cluster_time));
    // It goes on by the token of what it has found.
    let position = behind(&next, &following.position);
    following.end().await.unwrap();
    set(1, "paid").await;
    let mut following = Following::new(&fixture, &paid, &position).await;
    assert_eq!(id(&following.next().await.unwrap()), 1);
    following.end().await.unwrap();
}

#[tokio::test]
async fn history_that_the_deployment_has_forgotten_is_lost() {
    let mongod = Mongod::builder().parameter("enableTestCommands", "1");
    let mongod = mongod.start().await.unwrap();
    let connection = Connection::open(&mongod.uri(), None).await.unwrap();
    let events = MongoEvents::new(connection);
    let from = events.now().await.unwrap();
    let admin = mongod.client().await.unwrap().database("admin");
    const CHANGE_STREAM_HISTORY_LOST: i32 = 286;
    let forget = doc! {
        "configureFailPoint": "failCommand",
        "mode": "alwaysOn",
        "data": { "failCommands": ["getMore"], "errorCode": CHANGE_STREAM_HISTORY_LOST },
    };
    admin.run_command(forget).await.unwrap();
    let (out, _batches) = tokio::sync::mpsc::channel(1);
    let error = events.follow(&Watch::default(), &from, out).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::HistoryLost);
}
