use std::time::Duration;

use bson::{Document, doc};
use mongodb::{
    Collection,
    options::{Acknowledgment, WriteConcern},
};
use tributary_testkit::ReplicaSet;

/// Writes, with the patience of an application: until the set has a primary that takes it.
async fn insert(collection: &Collection<Document>, id: i32) {
    let majority = WriteConcern::builder().w(Acknowledgment::Majority).build();
    let write = async {
        let wanted = doc! { "_id": id };
        while collection
            .update_one(wanted.clone(), doc! { "$set": { "seen": true } })
            .upsert(true)
            .write_concern(majority.clone())
            .await
            .is_err()
        {}
    };
    tokio::time::timeout(Duration::from_secs(60), write)
        .await
        .unwrap();
}

#[tokio::test]
async fn three_members_fail_over_when_the_primary_steps_down_or_dies() {
    let mut set = ReplicaSet::start(3).await.unwrap();
    let client = set.client().await.unwrap();
    let collection = client.database("test").collection::<Document>("c");
    insert(&collection, 1).await;
    let first = set.wait_for_primary().await.unwrap();

    let second = set.step_down().await.unwrap();
    assert_ne!(first, second);
    insert(&collection, 2).await;

    set.kill_member(second).unwrap();
    assert_eq!(set.pid(second), None);
    let third = set.wait_for_primary().await.unwrap();
    assert_ne!(second, third);
    insert(&collection, 3).await;

    set.restart_member(second).await.unwrap();
    insert(&collection, 4).await;
    assert_eq!(collection.count_documents(doc! {}).await.unwrap(), 4);
}
