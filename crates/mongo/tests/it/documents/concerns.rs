use mongodb::bson::{Document, doc};

use super::{Calls, ids};
use crate::support::Fixture;

/// Arguments of each operation that reads, or of each that writes.
fn operations(is_writing: bool) -> Vec<(&'static str, Document)> {
    let (filter, update) = (doc! { "_id": 1 }, doc! { "$set": { "a": 1 } });
    let update = doc! { "filter": &filter, "update": update };
    let replace = doc! { "filter": &filter, "replacement": { "a": 2 } };
    let delete = doc! { "filter": { "_id": 2 } };
    match is_writing {
        false => vec![
            ("find", doc! {}),
            ("findOne", doc! {}),
            ("aggregate", doc! { "pipeline": [] }),
            ("count", doc! {}),
            ("countDocuments", doc! {}),
            ("estimatedDocumentCount", doc! {}),
            ("distinct", doc! { "field": "a" }),
        ],
        true => vec![
            ("insertOne", doc! { "document": {} }),
            ("insertMany", doc! { "documents": [{}] }),
            ("updateOne", update.clone()),
            ("updateMany", update.clone()),
            ("replaceOne", replace.clone()),
            ("deleteOne", delete.clone()),
            ("deleteMany", delete.clone()),
            ("findOneAndUpdate", update.clone()),
            ("findOneAndReplace", replace.clone()),
            ("findOneAndDelete", delete.clone()),
            ("bulkWrite", doc! { "operations": [{ "insertOne": {} }] }),
            (
                "bulkWrite",
                doc! { "operations": [{ "updateOne": update }] },
            ),
            (
                "bulkWrite",
                doc! { "operations": [{ "deleteOne": delete }] },
            ),
            ("aggregate", doc! { "pipeline": [{ "$out": "other" }] }),
        ],
    }
}

fn with(arguments: &Document, options: Document) -> Document {
    let mut arguments = arguments.clone();
    arguments.insert("options", options);
    arguments
}

#[tokio::test]
async fn operations_wait_for_what_their_concerns_say() {
    let fixture = Fixture::new("concerns").await;
    fixture.insert("c", vec![doc! { "_id": 1 }]).await;
    let calls = Calls::new(&fixture).await;
    for (operation, arguments) in operations(true) {
        let majority = doc! { "writeConcern": { "w": "majority", "j": true, "wtimeout": 30_000 } };
        calls.call(operation, with(&arguments, majority)).await;
        // There are not as many.
        let many = doc! { "writeConcern": { "w": 7, "wtimeout": 100 } };
        let error = calls.fails(operation, with(&arguments, many), "").await;
        assert_eq!(error.code, Some(100), "{operation}: {error:?}");
        for (concern, words) in [
            (doc! { "w": 0 }, "is not supported"),
            (
                doc! { "w": 1.5 },
                "`w` of a write concern is not a whole number",
            ),
            (doc! { "x": 1 }, "a write concern has no field `x`"),
        ] {
            let wrong = doc! { "writeConcern": concern };
            calls.fails(operation, with(&arguments, wrong), words).await;
        }
        let wrong = doc! { "writeConcern": "majority" };
        calls
            .fails(operation, with(&arguments, wrong), "`writeConcern` of")
            .await;
    }
    for (operation, arguments) in operations(false) {
        let tags =
            doc! { "mode": "nearest", "tags": [{ "a": "b" }, {}], "maxStalenessSeconds": 90 };
        for preference in [mongodb::bson::Bson::from("primaryPreferred"), tags.into()] {
            let options =
                doc! { "readConcern": { "level": "majority" }, "readPreference": preference };
            calls.call(operation, with(&arguments, options)).await;
        }
        let unknown = doc! { "readConcern": { "level": "minority" } };
        let error = calls.fails(operation, with(&arguments, unknown), "").await;
        assert!(error.code.is_some(), "{operation}: {error:?}");
        for (preference, words) in [
            (doc! { "mode": "closest" }, "no read preference `closest`"),
            (doc! { "mode": "primary", "tags": [{}] }, "has neither tags"),
            (doc! { "tags": [] }, "needs the field `mode`"),
            (
                doc! { "mode": "nearest", "tags": [{ "a": 1 }] },
                "is no string",
            ),
        ] {
            let wrong = doc! { "readPreference": preference };
            calls.fails(operation, with(&arguments, wrong), words).await;
        }
    }
    let command = doc! { "command": { "ping": 1 } };
    calls
        .call(
            "runCommand",
            with(&command, doc! { "readPreference": "nearest" }),
        )
        .await;
    calls
        .fails(
            "runCommand",
            with(&command, doc! { "readPreference": "closest" }),
            "no read preference",
        )
        .await;
}

#[tokio::test]
async fn operations_of_a_transaction_leave_concerns_to_it() {
    let fixture = Fixture::new("concerns_inside").await;
    fixture.insert("c", vec![doc! { "_id": 1 }]).await;
    let calls = Calls::new(&fixture).await;
    let session = calls.call("startSession", doc! {}).await;
    calls
        .call("startTransaction", doc! { "session": &session })
        .await;
    let inside = |arguments: &Document, options: Document| {
        let mut arguments = with(arguments, options);
        arguments.insert("session", &session);
        arguments
    };
    for (operation, arguments) in operations(true) {
        if operation == "aggregate" {
            continue;
        }
        let options = doc! { "writeConcern": { "w": "majority" } };
        let words = "Cannot set write concern after starting a transaction";
        calls
            .fails(operation, inside(&arguments, options), words)
            .await;
    }
    for (operation, arguments) in operations(false) {
        if operation == "estimatedDocumentCount" {
            continue;
        }
        let options = doc! { "readConcern": { "level": "local" } };
        let words = "Cannot set read concern after starting a transaction";
        calls
            .fails(operation, inside(&arguments, options), words)
            .await;
        let options = doc! { "readPreference": "nearest" };
        let words = "read preference in a transaction must be primary";
        calls
            .fails(operation, inside(&arguments, options), words)
            .await;
        let options = doc! { "readPreference": "primary" };
        calls.call(operation, inside(&arguments, options)).await;
    }
}

#[tokio::test]
async fn find_is_bounded_by_an_index_and_says_what_it_is_asked_of_it() {
    let fixture = Fixture::new("bounds").await;
    let documents = (1..=5).map(|n| doc! { "_id": n, "n": n });
    fixture.insert("c", documents.collect()).await;
    let calls = Calls::new(&fixture).await;
    let options = doc! {
        "hint": { "_id": 1 }, "min": { "_id": 2 }, "max": { "_id": 4 }, "noCursorTimeout": true,
        "allowPartialResults": false, "batchSize": 1,
    };
    let found = calls.find(doc! { "options": options }).await;
    assert_eq!(ids(&found), [2, 3]);
    let by_key = doc! { "hint": { "_id": 1 }, "returnKey": 1 };
    let with_place = doc! { "showRecordId": true };
    for (options, expected) in [
        (by_key, &["_id"][..]),
        (with_place, &["_id", "n", "$recordId"]),
    ] {
        let found = calls
            .call(
                "findOne",
                doc! { "filter": { "_id": 3 }, "options": options },
            )
            .await;
        let names: Vec<_> = found.as_document().unwrap().keys().collect();
        assert_eq!(names, expected);
    }
}
