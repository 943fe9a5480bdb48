use bytes::Bytes;
use mongodb::bson::{Bson, doc};
use tributary_flow::{DocumentCall, DocumentStore};
use tributary_mongo::{Connection, MongoDocuments};
use tributary_testkit::Mongod;

use super::Calls;
use crate::support::Fixture;

#[tokio::test]
async fn what_an_operation_does_not_know_is_said_by_name() {
    let fixture = Fixture::new("unknown").await;
    let calls = Calls::new(&fixture).await;
    let (filter, update) = (doc! { "_id": 1 }, doc! { "$set": { "a": 1 } });
    for (operation, arguments) in [
        ("find", doc! {}),
        ("findOne", doc! {}),
        ("aggregate", doc! { "pipeline": [] }),
        ("count", doc! {}),
        ("countDocuments", doc! {}),
        ("estimatedDocumentCount", doc! {}),
        ("distinct", doc! { "field": "a" }),
        ("insertOne", doc! { "document": {} }),
        ("insertMany", doc! { "documents": [{}] }),
        ("updateOne", doc! { "filter": &filter, "update": &update }),
        ("updateMany", doc! { "filter": &filter, "update": &update }),
        ("replaceOne", doc! { "filter": &filter, "replacement": {} }),
        ("deleteOne", doc! { "filter": &filter }),
        ("deleteMany", doc! { "filter": &filter }),
        (
            "findOneAndUpdate",
            doc! { "filter": &filter, "update": &update },
        ),
        (
            "findOneAndReplace",
            doc! { "filter": &filter, "replacement": {} },
        ),
        ("findOneAndDelete", doc! { "filter": &filter }),
        ("runCommand", doc! { "command": { "ping": 1 } }),
        ("startSession", doc! {}),
        ("closeCursor", doc! { "cursor": 1 }),
    ] {
        let mut with_option = arguments.clone();
        with_option.insert("options", doc! { "wharever": 1 });
        let error = calls
            .fails(operation, with_option, "no option `wharever`; it has")
            .await;
        assert!(error.message.starts_with(operation), "{error:?}");
        assert_eq!((error.code, error.is_transient), (None, false));
        let mut with_argument = arguments.clone();
        with_argument.insert("wharever", 1);
        calls
            .fails(operation, with_argument, "no argument `wharever`; it has")
            .await;
        for required in arguments.keys() {
            let mut without = arguments.clone();
            without.insert(required, Bson::Null);
            calls
                .fails(
                    operation,
                    without,
                    &format!("needs the argument `{required}`"),
                )
                .await;
        }
    }
    assert!(fixture.all("c").await.is_empty());
    calls
        .fails("findTwo", doc! {}, "no operation `findTwo`")
        .await;
    let nowhere = calls.of_database();
    nowhere
        .fails("findOne", doc! {}, "is done in a collection")
        .await;
}

#[tokio::test]
async fn what_the_server_or_driver_refuses_is_told_as_they_say_it() {
    let fixture = Fixture::new("refused").await;
    fixture.insert("c", vec![doc! { "_id": 1, "a": "x" }]).await;
    let calls = Calls::new(&fixture).await;
    let update = |update: Bson| doc! { "filter": { "_id": 1 }, "update": update };
    let unknown = update(doc! { "$sett": { "a": 1 } }.into());
    let error = calls.fails("updateOne", unknown, "$sett").await;
    assert_eq!(error.code, Some(9));
    let increment = update(doc! { "$inc": { "a": 1 } }.into());
    let error = calls.fails("updateOne", increment, "non-numeric").await;
    assert_eq!(error.code, Some(14));
    for operation in ["updateOne", "updateMany", "findOneAndUpdate"] {
        let plain = update(doc! { "a": 1 }.into());
        calls.fails(operation, plain, "update modifiers").await;
        let empty = update(doc! {}.into());
        calls.fails(operation, empty, "must not be empty").await;
    }
    for operation in ["replaceOne", "findOneAndReplace"] {
        let operators = doc! { "filter": {}, "replacement": { "$set": { "a": 1 } } };
        calls.fails(operation, operators, "update modifiers").await;
    }
    let error = calls
        .fails("find", doc! { "filter": { "a": { "$near": 1 } } }, "")
        .await;
    assert!(error.code.is_some() && !error.is_transient, "{error:?}");
    let hint = doc! { "options": { "hint": "none" } };
    let error = calls.fails("findOne", hint, "hint").await;
    assert_eq!(error.code, Some(2));
    let slow =
        doc! { "filter": { "$where": "sleep(2000) || true" }, "options": { "maxTimeMS": 50 } };
    let error = calls.fails("findOne", slow, "").await;
    assert_eq!((error.code, error.is_transient), (Some(50), true));
}

#[tokio::test]
async fn more_than_48_mb_are_refused_without_asking_the_server() {
    let fixture = Fixture::new("too_large").await;
    let scope = fixture.documents().await.scope();
    let call = DocumentCall {
        database: fixture.name.clone(),
        collection: Some("c".to_owned()),
        operation: "insertMany".to_owned(),
        arguments: Bytes::from(vec![0; (48 << 20) + 1]),
    };
    let error = scope.call(call.clone()).await.unwrap_err();
    assert!(error.message.contains("50331649 bytes"), "{error:?}");
    // Arguments that are no BSON.
    let malformed = DocumentCall {
        arguments: Bytes::from_static(&[9, 0, 0, 0, 1]),
        ..call
    };
    scope.call(malformed).await.unwrap_err();
}

#[tokio::test]
async fn a_server_that_is_not_there_may_come_back() {
    let uri = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200";
    let connection = Connection::open(uri, None).await.unwrap();
    let store = MongoDocuments::new(connection);
    assert_eq!(store.place(), "127.0.0.1:1");
    let calls = Calls {
        scope: store.scope(),
        database: "d".to_owned(),
        collection: Some("c".to_owned()),
    };
    for (operation, arguments) in [
        ("findOne", doc! {}),
        ("insertOne", doc! { "document": {} }),
        (
            "bulkWrite",
            doc! { "operations": [{ "deleteOne": { "filter": {} } }] },
        ),
    ] {
        let error = calls.fails(operation, arguments, "").await;
        assert!(error.is_transient, "{error:?}");
        assert_eq!(error.code, None);
    }
}

#[tokio::test]
async fn a_wrong_password_is_not_told_to_anybody() {
    let mongod = Mongod::builder().with_auth().start().await.unwrap();
    let uri = mongod.uri_as("root", "not-the-password", "shop");
    let connection = Connection::open(&uri, None).await.unwrap();
    let store = MongoDocuments::new(connection);
    let shown = format!("{store:?} {}", store.place());
    assert!(!shown.contains("not-the-password"), "{shown}");
    let calls = Calls {
        scope: store.scope(),
        database: "shop".to_owned(),
        collection: Some("c".to_owned()),
    };
    let error = calls.fails("findOne", doc! {}, "uthentication").await;
    assert!(!error.is_transient, "{error:?}");
    assert!(!error.message.contains("not-the-password"), "{error:?}");
}
