use mongodb::bson::doc;
use tributary_flow::{EventSource, Watch};
use tributary_model::ErrorKind;

use super::{Following, operations, parsed, raw, watch};
use crate::support::Fixture;

#[tokio::test]
async fn an_event_that_is_too_large_comes_with_less_and_the_rest_follows_whole() {
    let fixture = Fixture::new("large").await;
    let create = fixture.database.create_collection("c");
    let images = mongodb::options::ChangeStreamPreAndPostImages::builder()
        .enabled(true)
        .build();
    create
        .change_stream_pre_and_post_images(images)
        .await
        .unwrap();
    let c = fixture.collection("c");
    c.insert_one(doc! { "_id": 1, "x": "x".repeat(12 << 20) })
        .await
        .unwrap();
    let from = fixture.events().await.now().await.unwrap();
    let set = |id: i32, n: i32| c.update_one(doc! { "_id": id }, doc! { "$set": { "n": n } });
    c.insert_one(doc! { "_id": 2 }).await.unwrap();
    set(2, 1).await.unwrap();
    set(1, 1).await.unwrap();
    set(2, 2).await.unwrap();
    set(1, 2).await.unwrap();
    set(2, 3).await.unwrap();
    let updates_or_inserts = doc! { "$match": { "$or": [
        { "updateDescription.updatedFields.n": { "$exists": true } },
        { "operationType": "insert", "documentKey._id": 2 },
    ] } };
    let project = doc! { "$project": {
        "documentKey": 1, "after": "$fullDocument", "before": "$fullDocumentBeforeChange",
        "updateDescription": 1,
    } };
    for is_projected in [false, true] {
        let mut stages = vec![raw(&updates_or_inserts)];
        if is_projected {
            stages.push(raw(&project));
        }
        let watch = Watch {
            stages,
            is_projected,
            full_document: true,
            before_change: true,
            ..watch(Some(&fixture.name), Some("c"))
        };
        let mut following = Following::new(&fixture, &watch, &from).await;
        let events = following.take(6).await;
        let expected = ["insert", "update", "update", "update", "update", "update"];
        assert_eq!(operations(&events), expected);
        let reduced: Vec<_> = events.iter().map(|event| event.is_reduced).collect();
        assert_eq!(reduced, [false, false, true, false, true, false]);
        let (after, before) = match is_projected {
            true => ("after", "before"),
            false => ("fullDocument", "fullDocumentBeforeChange"),
        };
        for event in &events[1..] {
            let document = parsed(event);
            let is_whole = !event.is_reduced;
            assert_eq!(document.get_document(before).is_ok(), is_whole);
            assert_eq!(document.get_document("updateDescription").is_ok(), is_whole);
            let key = document.get_document("documentKey").unwrap();
            let found = document.get_document(after).unwrap();
            assert_eq!(found["_id"], key["_id"]);
        }
        following.end().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_too_large_even_without_images_comes_without_its_document_or_is_an_error() {
    let fixture = Fixture::new("larger").await;
    let from = fixture.events().await.now().await.unwrap();
    let c = fixture.collection("c");
    c.insert_one(doc! { "_id": 1, "x": "x".repeat(9 << 20) })
        .await
        .unwrap();
    c.insert_one(doc! { "_id": 2 }).await.unwrap();
    let also = |fields: mongodb::bson::Document| Watch {
        stages: vec![raw(&doc! { "$addFields": fields })],
        ..watch(Some(&fixture.name), Some("c"))
    };
    let twice = also(doc! { "again": "$fullDocument.x" });
    let mut following = Following::new(&fixture, &twice, &from).await;
    let events = following.take(2).await;
    assert_eq!((events[0].is_reduced, events[1].is_reduced), (true, false));
    let first = parsed(&events[0]);
    assert!(first.get("fullDocument").is_none() && first.get_str("again").is_ok());
    assert!(parsed(&events[1]).get_document("fullDocument").is_ok());
    following.end().await.unwrap();

    let thrice = also(doc! { "again": "$fullDocument.x", "more": "$fullDocument.x" });
    let error = Following::new(&fixture, &thrice, &from)
        .await
        .failure()
        .await;
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(
        error.to_string().contains("larger than an event"),
        "{error}"
    );
}
