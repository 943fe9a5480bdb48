use mongodb::bson::{Bson, Document, doc};

use super::{Calls, ids};
use crate::support::Fixture;

async fn session(calls: &Calls) -> i32 {
    let session = calls.call("startSession", doc! {}).await;
    session.as_i32().expect("a number")
}

async fn insert(calls: &Calls, session: i32, id: i32) -> Bson {
    let insert = doc! { "document": { "_id": id }, "session": session };
    calls.call("insertOne", insert).await
}

#[tokio::test]
async fn a_transaction_is_seen_once_it_is_committed_and_never_where_it_is_aborted() {
    let fixture = Fixture::new("transaction").await;
    fixture.insert("c", vec![doc! { "_id": 0 }]).await;
    let calls = Calls::new(&fixture).await;
    let s = session(&calls).await;
    let options = doc! {
        "readConcern": { "level": "snapshot" },
        "writeConcern": { "w": "majority", "j": true, "wtimeoutMS": 30_000 },
        "readPreference": "primary",
        "maxCommitTimeMS": 30_000,
    };
    let start = doc! { "session": s, "options": options };
    assert_eq!(calls.call("startTransaction", start).await, Bson::Null);
    insert(&calls, s, 1).await;
    let operations = vec![
        doc! { "insertOne": { "document": { "_id": 2 } } },
        doc! { "updateOne": { "filter": { "_id": 0 }, "update": { "$set": { "a": 1 } } } },
    ];
    calls
        .call("bulkWrite", doc! { "operations": operations, "session": s })
        .await;
    assert_eq!(ids(&calls.find(doc! {}).await), [0]);
    // Options may name the session as well.
    let inside = calls
        .call("find", doc! { "options": { "session": s, "batchSize": 2 } })
        .await;
    let inside = calls.rest(inside).await;
    assert_eq!((inside[0].len(), ids(&inside.concat())), (2, vec![0, 1, 2]));
    let first = doc! { "filter": { "a": 1 }, "session": s };
    assert_eq!(
        calls.call("findOne", first).await,
        Bson::from(doc! { "_id": 0, "a": 1 })
    );
    let count = calls.call("countDocuments", doc! { "session": s }).await;
    assert_eq!(count, Bson::Int32(3));
    calls.call("commitTransaction", doc! { "session": s }).await;
    assert_eq!(ids(&fixture.all("c").await), [0, 1, 2]);

    calls.call("startTransaction", doc! { "session": s }).await;
    insert(&calls, s, 3).await;
    calls
        .call(
            "updateMany",
            doc! { "filter": {}, "update": { "$set": { "b": 1 } }, "session": s },
        )
        .await;
    calls
        .call(
            "replaceOne",
            doc! { "filter": { "_id": 1 }, "replacement": {}, "session": s },
        )
        .await;
    calls
        .call(
            "findOneAndDelete",
            doc! { "filter": { "_id": 1 }, "session": s },
        )
        .await;
    calls
        .call("deleteMany", doc! { "filter": {}, "session": s })
        .await;
    calls.call("abortTransaction", doc! { "session": s }).await;
    assert_eq!(ids(&fixture.all("c").await), [0, 1, 2]);
    calls
        .fails("abortTransaction", doc! { "session": s }, "abort")
        .await;
    calls
        .fails("estimatedDocumentCount", doc! { "session": s }, "session")
        .await;
}

#[tokio::test]
async fn a_write_conflict_is_labelled_as_transient() {
    let fixture = Fixture::new("conflict").await;
    fixture.insert("c", vec![doc! { "_id": 1, "n": 0 }]).await;
    let calls = Calls::new(&fixture).await;
    let (one, other) = (session(&calls).await, session(&calls).await);
    let update =
        |s: i32| doc! { "filter": { "_id": 1 }, "update": { "$inc": { "n": 1 } }, "session": s };
    for s in [one, other] {
        calls.call("startTransaction", doc! { "session": s }).await;
    }
    calls.call("updateOne", update(one)).await;
    let error = calls.fails("updateOne", update(other), "").await;
    assert_eq!(error.code, Some(112));
    assert!(error.is_transient);
    assert!(
        error
            .labels
            .iter()
            .any(|label| label == "TransientTransactionError"),
        "{error:?}"
    );
    calls
        .call("commitTransaction", doc! { "session": one })
        .await;
    // The other can be tried again.
    calls
        .call("abortTransaction", doc! { "session": other })
        .await;
    calls
        .call("startTransaction", doc! { "session": other })
        .await;
    calls.call("updateOne", update(other)).await;
    calls
        .call("commitTransaction", doc! { "session": other })
        .await;
    assert_eq!(fixture.all("c").await[0]["n"], Bson::Int32(2));
}

#[tokio::test]
async fn a_scope_that_is_dropped_aborts_its_transactions() {
    let fixture = Fixture::new("dropped").await;
    fixture.insert("c", vec![doc! { "_id": 1 }]).await;
    for is_cut_off in [false, true] {
        let calls = Calls::new(&fixture).await;
        let s = session(&calls).await;
        calls.call("startTransaction", doc! { "session": s }).await;
        let arguments =
            doc! { "filter": { "_id": 1 }, "update": { "$set": { "a": 1 } }, "session": s };
        let update = calls.try_call("updateOne", arguments);
        if is_cut_off {
            // Begun, and not waited for.
            let mut update = Box::pin(update);
            let begun = futures::poll!(update.as_mut());
            assert!(begun.is_pending());
            drop(update);
        } else {
            update.await.unwrap();
        }
        std::thread::spawn(move || drop(calls)).join().unwrap();
        fixture.write_over("c", 1).await;
        let stored = &fixture.all("c").await[0];
        assert!(!stored.contains_key("a"), "{stored}");
    }
}

#[tokio::test]
async fn operations_of_a_session_wait_for_one_another_and_those_of_others_do_not() {
    let fixture = Fixture::new("order").await;
    let calls = Calls::new(&fixture).await;
    let s = session(&calls).await;
    calls.call("startTransaction", doc! { "session": s }).await;
    let push = |n: i32| {
        let update = doc! { "$push": { "order": n } };
        doc! { "filter": { "_id": 1 }, "update": update, "options": { "upsert": true }, "session": s }
    };
    let arguments: Vec<Document> = (0..20).map(push).collect();
    let all = arguments
        .into_iter()
        .map(|arguments| calls.call("updateOne", arguments));
    futures::future::join_all(all).await;
    calls.call("commitTransaction", doc! { "session": s }).await;
    let expected: Vec<i32> = (0..20).collect();
    assert_eq!(fixture.all("c").await[0]["order"], Bson::from(expected));

    // One of the session takes its time; one without does not wait for it.
    let slow = doc! { "filter": { "$where": "sleep(8000) || true" }, "session": s };
    let mut slow = Box::pin(calls.call("findOne", slow));
    let quick = calls.call("findOne", doc! {});
    tokio::select! {
        biased;
        _ = &mut slow => panic!("the quick one waits"),
        found = quick => assert_ne!(found, Bson::Null),
    }
    assert_ne!(slow.await, Bson::Null);
}

#[tokio::test]
async fn a_session_that_has_ended_is_gone_with_its_transaction() {
    let fixture = Fixture::new("ended").await;
    let calls = Calls::new(&fixture).await;
    let options = doc! { "causalConsistency": true, "defaultTransactionOptions": { "readConcern": { "level": "majority" } } };
    let s = calls
        .call("startSession", doc! { "options": options })
        .await;
    let s = s.as_i32().unwrap();
    insert(&calls, s, 1).await;
    calls.call("startTransaction", doc! { "session": s }).await;
    calls
        .fails(
            "startTransaction",
            doc! { "session": s },
            "already in progress",
        )
        .await;
    insert(&calls, s, 2).await;
    assert_eq!(
        calls.call("endSession", doc! { "session": s }).await,
        Bson::Null
    );
    assert_eq!(ids(&fixture.all("c").await), [1]);
    fixture.write_over("c", 2).await;
    calls
        .fails("findOne", doc! { "session": s }, "the session has ended")
        .await;
    calls
        .fails("commitTransaction", doc! {}, "needs a session")
        .await;

    let wrong = doc! { "options": { "readConcern": "majority" }, "session": session(&calls).await };
    calls
        .fails(
            "startTransaction",
            wrong,
            "`readConcern` of startTransaction is no document",
        )
        .await;
    let wrong =
        doc! { "options": { "readPreference": "closest" }, "session": session(&calls).await };
    calls
        .fails("startTransaction", wrong, "no read preference `closest`")
        .await;
    let wrong = doc! { "options": { "isolation": 1 }, "session": session(&calls).await };
    calls
        .fails("startTransaction", wrong, "no option `isolation`")
        .await;
}
