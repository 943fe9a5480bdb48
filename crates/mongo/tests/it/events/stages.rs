use mongodb::bson::{Document, doc};
use tributary_flow::{EventSource, Watch};
use tributary_model::ErrorKind;

use super::{Following, behind, operations, parsed, raw, watch};
use crate::support::Fixture;

async fn with_changes(name: &str) -> (Fixture, tributary_model::Position) {
    let fixture = Fixture::new(name).await;
    let from = fixture.events().await.now().await.unwrap();
    let c = fixture.collection("c");
    c.insert_one(doc! { "_id": 1, "n": 1, "kind": "a" })
        .await
        .unwrap();
    c.insert_one(doc! { "_id": 2, "n": 2, "kind": "b" })
        .await
        .unwrap();
    c.update_one(doc! { "_id": 2 }, doc! { "$set": { "n": 5 } })
        .await
        .unwrap();
    c.delete_one(doc! { "_id": 1 }).await.unwrap();
    (fixture, from)
}

#[tokio::test]
async fn only_what_matches_comes() {
    let (fixture, from) = with_changes("match").await;
    for (selected, expected) in [
        (
            doc! { "operationType": { "$in": ["insert", "delete"] } },
            vec!["insert", "insert", "delete"],
        ),
        (doc! { "fullDocument.kind": "b" }, vec!["insert", "update"]),
        (
            doc! { "updateDescription.updatedFields.n": { "$exists": true } },
            vec!["update"],
        ),
    ] {
        // The last one is there to see that nothing comes between.
        let last = doc! { "documentKey._id": "last" };
        let matched = doc! { "$match": { "$or": [selected, last] } };
        let watch = Watch {
            stages: vec![raw(&matched)],
            full_document: true,
            ..watch(Some(&fixture.name), Some("c"))
        };
        let c = fixture.collection("c");
        c.insert_one(doc! { "_id": "last" }).await.unwrap();
        c.delete_one(doc! { "_id": "last" }).await.unwrap();
        let mut following = Following::new(&fixture, &watch, &from).await;
        let events = following.take(expected.len() + 1).await;
        let operations = operations(&events);
        assert_eq!(operations[..expected.len()], expected);
        let key = parsed(&events[expected.len()]);
        assert_eq!(
            key.get_document("documentKey")
                .unwrap()
                .get_str("_id")
                .unwrap(),
            "last"
        );
        following.end().await.unwrap();
    }
}

#[tokio::test]
async fn a_projection_takes_away_what_it_says_and_the_event_is_known_all_the_same() {
    let (fixture, from) = with_changes("projection").await;
    let keys = |document: &Document| document.keys().cloned().collect::<Vec<_>>();
    for (projection, expected) in [
        (
            doc! { "fullDocument.n": 1 },
            doc! { "fullDocument": { "n": 1 } },
        ),
        (doc! { "_id": 1 }, doc! {}),
        (
            doc! { "_id": 1, "documentKey": true },
            doc! { "documentKey": { "_id": 1 } },
        ),
        (
            doc! {
                "operationType": 0, "clusterTime": false, "wallTime": 0, "ns": 0,
                "fullDocument": { "kind": 0 }, "lsid": 0, "txnNumber": 0,
            },
            doc! { "fullDocument": { "_id": 1, "n": 1 }, "documentKey": { "_id": 1 } },
        ),
        (
            doc! { "sum": { "$add": ["$fullDocument.n", 1] }, "type": "$operationType" },
            doc! { "sum": 2, "type": "insert" },
        ),
    ] {
        let watch = Watch {
            stages: vec![
                raw(&doc! { "$match": { "operationType": "insert" } }),
                raw(&doc! { "$project": &projection }),
            ],
            is_projected: true,
            ..watch(Some(&fixture.name), Some("c"))
        };
        let mut following = Following::new(&fixture, &watch, &from).await;
        let event = following.next().await.unwrap();
        assert_eq!(event.operation, "insert");
        assert_eq!(event.database, fixture.name);
        assert_eq!(event.collection.as_deref(), Some("c"));
        assert!(event.cluster_time >= from.cluster_time);
        let mut document = parsed(&event);
        let id = document.remove("_id").expect("a token");
        assert_eq!(
            id.as_document().unwrap().get_str("_data").unwrap(),
            event.token
        );
        assert_eq!(keys(&document), keys(&expected), "{projection}");
        assert_eq!(document, expected, "{projection}");
        following.end().await.unwrap();
    }
}

#[tokio::test]
async fn a_projection_without_the_token_gives_events_without_it_that_are_known_all_the_same() {
    let (fixture, from) = with_changes("no_token").await;
    let key = || doc! { "_id": 1 };
    for (projection, expected) in [
        (
            doc! { "_id": 0, "documentKey": 1 },
            doc! { "documentKey": key() },
        ),
        (
            doc! {
                "_id": false, "operationType": 0, "clusterTime": 0, "wallTime": 0, "ns": 0,
                "fullDocument": 0, "lsid": 0, "txnNumber": 0,
            },
            doc! { "documentKey": key() },
        ),
    ] {
        let watch = Watch {
            stages: vec![raw(&doc! { "$project": &projection })],
            is_projected: true,
            ..watch(Some(&fixture.name), Some("c"))
        };
        let mut following = Following::new(&fixture, &watch, &from).await;
        let event = following.next().await.unwrap();
        assert_eq!(event.operation, "insert");
        assert_eq!(parsed(&event), expected, "{projection}");
        // The token is good: what comes behind the event is what comes next.
        let behind = behind(&event, &following.position);
        following.end().await.unwrap();
        let mut following = Following::new(&fixture, &watch, &behind).await;
        let next = following.next().await.unwrap();
        assert_eq!(
            (next.operation.as_str(), next.token > event.token),
            ("insert", true)
        );
        following.end().await.unwrap();
    }
    let all = Watch {
        stages: vec![raw(&doc! { "$project": { "_id": 0 } })],
        is_projected: true,
        ..watch(Some(&fixture.name), Some("c"))
    };
    let mut following = Following::new(&fixture, &all, &from).await;
    let event = parsed(&following.next().await.unwrap());
    assert!(!event.contains_key("_id"), "{event}");
    assert_eq!(event.get_str("operationType").unwrap(), "insert");
    following.end().await.unwrap();
}

#[tokio::test]
async fn stages_that_the_server_does_not_take_are_an_error() {
    let (fixture, from) = with_changes("wrong_stages").await;
    let watch = Watch {
        stages: vec![raw(&doc! { "$group": { "_id": 1 } })],
        ..watch(Some(&fixture.name), Some("c"))
    };
    let error = Following::new(&fixture, &watch, &from)
        .await
        .failure()
        .await;
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().contains("$group"), "{error}");
}
