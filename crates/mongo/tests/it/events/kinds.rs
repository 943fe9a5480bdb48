use mongodb::IndexModel;
use mongodb::bson::{Bson, doc};
use tributary_flow::{EventSource, Watch};

use super::{Following, behind, operations, parsed, raw, watch};
use crate::support::Fixture;

/// Everything that can happen to a collection and its database, once.
async fn happen(fixture: &Fixture) {
    fixture.database.create_collection("c").await.unwrap();
    let c = fixture.collection("c");
    c.insert_one(doc! { "_id": 1, "n": 1 }).await.unwrap();
    c.update_one(doc! { "_id": 1 }, doc! { "$set": { "n": 2 } })
        .await
        .unwrap();
    c.replace_one(doc! { "_id": 1 }, doc! { "m": 3 })
        .await
        .unwrap();
    c.delete_one(doc! { "_id": 1 }).await.unwrap();
    c.create_index(IndexModel::builder().keys(doc! { "n": 1 }).build())
        .await
        .unwrap();
    let rename = doc! {
        "renameCollection": format!("{}.c", fixture.name),
        "to": format!("{}.d", fixture.name),
    };
    let admin = fixture.database.client().database("admin");
    admin.run_command(rename).await.unwrap();
    fixture.collection("d").drop().await.unwrap();
    fixture.insert("e", vec![doc! { "_id": 1 }]).await;
    fixture.database.drop().await.unwrap();
}

const OF_DOCUMENTS: &[&str] = &["insert", "update", "replace", "delete"];

#[tokio::test]
async fn events_of_every_kind_come_from_deployment_and_database() {
    let fixture = Fixture::new("kinds").await;
    let from = fixture.events().await.now().await.unwrap();
    happen(&fixture).await;
    let of_this = doc! { "$match": { "ns.db": &fixture.name } };
    let deployment = Watch {
        stages: vec![raw(&of_this)],
        ..watch(None, None)
    };
    let database = watch(Some(&fixture.name), None);
    let plain = [
        OF_DOCUMENTS,
        &["rename", "drop", "insert", "drop", "dropDatabase"],
    ]
    .concat();
    let expanded = [
        &["create"],
        OF_DOCUMENTS,
        &[
            "createIndexes",
            "rename",
            "drop",
            "create",
            "insert",
            "drop",
            "dropDatabase",
        ],
    ]
    .concat();
    for (watch, is_expanded) in [
        (&deployment, false),
        (&deployment, true),
        (&database, false),
        (&database, true),
    ] {
        let watch = Watch {
            expanded: is_expanded,
            ..watch.clone()
        };
        let mut following = Following::new(&fixture, &watch, &from).await;
        let mut expected = if is_expanded {
            expanded.clone()
        } else {
            plain.clone()
        };
        let events = match watch.database {
            Some(_) => {
                expected.push("invalidate");
                following.read_to_the_end().await
            }
            None => following.take(expected.len()).await,
        };
        assert_eq!(operations(&events), expected);
        following.end().await.unwrap();
        for event in &events {
            let document = parsed(event);
            assert_eq!(document.get_str("operationType").unwrap(), event.operation);
            let token = document.get_document("_id").unwrap();
            assert_eq!(token.get_str("_data").unwrap(), event.token);
            assert!(!event.is_reduced);
            assert!(event.cluster_time >= from.cluster_time);
            let ago = i64::from(event.cluster_time.seconds()) * 1000 - event.wall_time;
            assert!(ago.abs() < 60_000, "{event:?}");
            if event.operation != "invalidate" {
                assert_eq!(event.database, fixture.name);
            }
            let is_of_database = matches!(event.operation.as_str(), "dropDatabase" | "invalidate");
            assert_eq!(event.collection.is_none(), is_of_database, "{event:?}");
        }
        let tokens: Vec<_> = events.iter().map(|event| &event.token).collect();
        assert!(tokens.is_sorted());
    }
}

#[tokio::test]
async fn the_stream_of_a_collection_ends_with_it_and_goes_on_behind_its_end() {
    let fixture = Fixture::new("invalidate").await;
    let from = fixture.events().await.now().await.unwrap();
    happen(&fixture).await;
    let watch = watch(Some(&fixture.name), Some("c"));
    let mut following = Following::new(&fixture, &watch, &from).await;
    let events = following.read_to_the_end().await;
    assert_eq!(
        operations(&events),
        [OF_DOCUMENTS, &["rename", "invalidate"]].concat()
    );
    let end = following.position.clone();
    following.end().await.unwrap();
    let last = events.last().unwrap();
    assert_eq!(end, behind(last, &end));

    // Nothing but its end behind the last event before it.
    let rename = behind(&events[events.len() - 2], &end);
    let mut following = Following::new(&fixture, &watch, &rename).await;
    assert_eq!(
        operations(&following.read_to_the_end().await),
        ["invalidate"]
    );

    fixture.insert("c", vec![doc! { "_id": 2 }]).await;
    let mut following = Following::new(&fixture, &watch, &end).await;
    let event = following.next().await.unwrap();
    assert_eq!(event.operation, "insert");
    assert_eq!(
        parsed(&event).get_document("documentKey").unwrap()["_id"],
        Bson::Int32(2)
    );
    following.end().await.unwrap();
}

#[tokio::test]
async fn updates_show_documents_after_and_before_them_where_that_is_asked_for() {
    let fixture = Fixture::new("images").await;
    let create = fixture.database.create_collection("c");
    let images = mongodb::options::ChangeStreamPreAndPostImages::builder()
        .enabled(true)
        .build();
    create
        .change_stream_pre_and_post_images(images)
        .await
        .unwrap();
    let from = fixture.events().await.now().await.unwrap();
    let c = fixture.collection("c");
    c.insert_one(doc! { "_id": 1, "n": 1 }).await.unwrap();
    c.update_one(doc! { "_id": 1 }, doc! { "$set": { "n": 2 } })
        .await
        .unwrap();
    c.update_one(doc! { "_id": 1 }, doc! { "$set": { "n": 3 } })
        .await
        .unwrap();
    for full_document in [false, true] {
        for before_change in [false, true] {
            let watch = Watch {
                full_document,
                before_change,
                ..watch(Some(&fixture.name), Some("c"))
            };
            let mut following = Following::new(&fixture, &watch, &from).await;
            let events = following.take(3).await;
            let update = parsed(&events[1]);
            let n = |name: &str| Some(update.get_document(name).ok()?["n"].clone());
            assert_eq!(n("fullDocument"), full_document.then_some(Bson::Int32(3)));
            assert_eq!(
                n("fullDocumentBeforeChange"),
                before_change.then_some(Bson::Int32(1))
            );
            following.end().await.unwrap();
        }
    }
}
