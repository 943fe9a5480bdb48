//! Who shares a stream, and what each is delivered.

use std::time::Duration;

use bson::rawdoc;
use bytes::Bytes;

use super::fakes::{Done, FakeProcessor, Reserve, World, selecting, until};

#[tokio::test]
async fn triggers_of_one_source_share_a_stream_where_they_can() {
    let world = World::new();
    let (orders, deletes, all) = (
        FakeProcessor::well(),
        FakeProcessor::well(),
        FakeProcessor::well(),
    );
    let triggers = vec![
        world.trigger("app/orders", orders.clone()),
        selecting(world.trigger("app/deletes", deletes.clone()), |selection| {
            selection.collection = None;
            selection.operations = vec!["delete".to_owned()];
        }),
        selecting(world.trigger("app/all", all.clone()), |selection| {
            selection.database = None;
            selection.collection = None;
        }),
    ];
    world.host.apply(triggers).await;
    for name in ["app/orders", "app/deletes", "app/all"] {
        world.begins(name).await;
    }
    world.source.happens("insert", "shop", "orders", 1);
    world.source.happens("delete", "shop", "customers", 2);
    world.source.happens("insert", "crm", "leads", 3);
    world.source.happens("delete", "crm", "leads", 4);
    until("all ran", || all.ran() == [1, 3]).await;
    until("the deletes ran", || deletes.ran() == [2]).await;
    assert_eq!(orders.ran(), [1]);
    let followed = world.source.followed.lock().unwrap().clone();
    assert_eq!(followed.len(), 1, "{followed:?}");
    assert_eq!(followed[0].0.database, None);
    world.host.stop().await;
}

#[tokio::test]
async fn a_trigger_that_matches_has_a_stream_of_its_own() {
    let world = World::new();
    let matching = Bytes::from(rawdoc! { "fullDocument.n": 5 }.into_bytes());
    let project = Bytes::from(rawdoc! { "fullDocument": 1 }.into_bytes());
    let triggers = vec![
        world.trigger("app/a", FakeProcessor::well()),
        selecting(world.trigger("app/b", FakeProcessor::well()), |selection| {
            selection.matching = Some(matching);
            selection.project = Some(project);
        }),
    ];
    world.host.apply(triggers).await;
    until("both are followed", || {
        world.source.followed.lock().unwrap().len() == 2
    })
    .await;
    let followed = world.source.followed.lock().unwrap().clone();
    let (own, _) = followed
        .iter()
        .find(|(watch, _)| watch.is_projected)
        .expect("one of them projects");
    let stages: Vec<bson::Document> = own
        .stages
        .iter()
        .map(|stage| bson::deserialize_from_slice(stage).unwrap())
        .collect();
    assert_eq!(stages.len(), 2);
    assert_eq!(stages[0], bson::doc! { "$match": { "fullDocument.n": 5 } });
    assert_eq!(stages[1], bson::doc! { "$project": { "fullDocument": 1 } });
    world.host.stop().await;
}

#[tokio::test]
async fn a_slow_trigger_does_not_hold_up_those_that_share_its_stream() {
    let world = World::new();
    let slow = FakeProcessor::new(|id| match id {
        0 => Done::After(Duration::from_secs(4)),
        _ => Done::Well,
    });
    let fast = FakeProcessor::well();
    let triggers = vec![
        world.trigger("app/slow", slow.clone()),
        world.trigger("app/fast", fast.clone()),
    ];
    world.host.apply(triggers).await;
    world.begins("app/slow").await;
    world.begins("app/fast").await;
    // More than waits for a trigger.
    world.source.inserts(0..100);
    until("the fast one ran", || fast.ran().len() == 100).await;
    assert!(slow.ran().is_empty(), "it was not faster than the slow one");
    until("the slow one ran", || slow.ran().len() == 100).await;
    assert_eq!(slow.ran(), (0..100).collect::<Vec<_>>());
    assert_eq!(fast.ran(), (0..100).collect::<Vec<_>>());
    world.host.stop().await;
}

#[tokio::test]
async fn triggers_that_nobody_may_watch_together_get_streams_of_what_each_may() {
    for reserve in [Reserve::Database, Reserve::Collection] {
        let world = World::new();
        *world.source.reserve.lock().unwrap() = reserve;
        let does = [(); 3].map(|()| FakeProcessor::well());
        let places = [("shop", "orders"), ("shop", "carts"), ("crm", "leads")];
        let triggers = does
            .iter()
            .zip(places)
            .map(|(does, (database, collection))| {
                let name = format!("app/{collection}");
                selecting(world.trigger(&name, does.clone()), |selection| {
                    selection.database = Some(database.to_owned());
                    selection.collection = Some(collection.to_owned());
                })
            });
        world.host.apply(triggers.collect()).await;
        for (_, collection) in places {
            world.begins(&format!("app/{collection}")).await;
        }
        for (id, (database, collection)) in (0..).zip(places) {
            world.source.happens("insert", database, collection, id);
        }
        for (id, does) in (0..).zip(&does) {
            until("each ran for its own", || does.ran() == [id]).await;
        }
        world.host.stop().await;
    }
}
