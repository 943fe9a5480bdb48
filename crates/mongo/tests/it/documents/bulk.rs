use mongodb::bson::{Bson, doc};

use super::{Calls, ids};
use crate::support::Fixture;

#[tokio::test]
async fn a_bulk_counts_what_it_did_by_the_places_of_its_operations() {
    let fixture = Fixture::new("bulk").await;
    let documents = (1..=4).map(|n| doc! { "_id": n, "n": n, "list": [1, n] });
    fixture.insert("c", documents.collect()).await;
    let calls = Calls::new(&fixture).await;
    let operations = vec![
        doc! { "insertOne": { "document": { "_id": 10, "n": 10 } } },
        doc! { "updateOne": { "filter": { "_id": 10 }, "update": { "$inc": { "n": 1 } } } },
        doc! { "updateMany": { "filter": { "_id": { "$lte": 4 } }, "update": [{ "$set": { "n": { "$add": ["$n", 0] } } }] } },
        doc! { "updateOne": { "filter": { "_id": 20 }, "update": { "$set": { "n": 20 } }, "upsert": true } },
        doc! { "replaceOne": { "filter": { "_id": 1 }, "replacement": { "m": 1 }, "hint": "_id_" } },
        doc! { "replaceOne": { "filter": { "_id": 30 }, "replacement": { "m": 3 }, "upsert": true } },
        doc! { "updateOne": { "filter": { "_id": 2 }, "update": { "$set": { "list.$[e]": 0 } }, "arrayFilters": [{ "e": 1 }] } },
        doc! { "insertOne": { "document": { "n": 11 } } },
        doc! { "insertOne": { "document": { "_id": 12 } } },
        doc! { "deleteOne": { "filter": { "n": { "$gte": 10 } } } },
        doc! { "deleteMany": { "filter": { "_id": { "$in": [3, 4] } }, "collation": { "locale": "en" } } },
    ];
    let options = doc! { "comment": "a test", "let": { "a": 1 } };
    let result = calls
        .call(
            "bulkWrite",
            doc! { "operations": operations, "options": options },
        )
        .await;
    let mut result = result.as_document().unwrap().clone();
    let inserted = result.get_document_mut("insertedIds").unwrap();
    assert!(inserted.remove("7").unwrap().as_object_id().is_some());
    let expected = doc! {
        "insertedCount": 3,
        "matchedCount": 7,
        "modifiedCount": 3,
        "deletedCount": 3,
        "upsertedCount": 2,
        "insertedIds": { "0": 10, "8": 12 },
        "upsertedIds": { "3": 20, "5": 30 },
    };
    assert_eq!(result, expected);
    let stored = fixture.all("c").await;
    assert_eq!(stored[0], doc! { "_id": 1, "m": 1 });
    assert_eq!(stored[1]["list"], Bson::from(vec![0, 2]));
}

#[tokio::test]
async fn a_bulk_inserts_documents_that_are_named_or_by_themselves() {
    let fixture = Fixture::new("bulk_inserts").await;
    let calls = Calls::new(&fixture).await;
    let operations = vec![
        doc! { "insertOne": { "_id": 1, "name": "x", "reviews": [] } },
        doc! { "insertOne": { "document": { "_id": 2 } } },
        doc! { "insertOne": { "_id": 3, "document": { "a": 1 } } },
        doc! { "insertOne": { "document": { "_id": 4, "document": { "a": 1 } } } },
        doc! { "insertOne": { "document": "a" } },
        doc! { "insertOne": {} },
    ];
    let result = calls
        .call("bulkWrite", doc! { "operations": operations })
        .await;
    let result = result.as_document().unwrap();
    assert_eq!(result["insertedCount"], Bson::Int32(6));
    let inserted = result.get_document("insertedIds").unwrap();
    let generated = ["4", "5"].map(|place| inserted.get_object_id(place).unwrap());
    assert_eq!(
        fixture.all("c").await,
        [
            doc! { "_id": 1, "name": "x", "reviews": [] },
            doc! { "_id": 2 },
            doc! { "_id": 3, "document": { "a": 1 } },
            doc! { "_id": 4, "document": { "a": 1 } },
            doc! { "_id": generated[0], "document": "a" },
            doc! { "_id": generated[1] },
        ]
    );
}

#[tokio::test]
async fn an_ordered_bulk_stops_where_it_fails_and_an_unordered_one_goes_on() {
    let fixture = Fixture::new("bulk_order").await;
    let calls = Calls::new(&fixture).await;
    fixture
        .insert("c", vec![doc! { "_id": 1 }, doc! { "_id": 2 }])
        .await;
    let failing_inserts = vec![
        doc! { "updateOne": { "filter": { "_id": 1 }, "update": { "$set": { "a": 1 } } } },
        doc! { "insertOne": { "document": { "_id": 3 } } },
        doc! { "insertOne": { "document": { "_id": 1 } } },
        doc! { "insertOne": { "document": { "_id": 4 } } },
        doc! { "deleteOne": { "filter": { "_id": 2 } } },
    ];
    let arguments = doc! { "operations": &failing_inserts };
    let error = calls
        .fails("bulkWrite", arguments, "(2 of 5 operations were done)")
        .await;
    assert_eq!((error.code, error.is_transient), (Some(11_000), false));
    assert!(error.message.starts_with("E11000"), "{error:?}");
    assert_eq!(ids(&fixture.all("c").await), [1, 2, 3]);

    let arguments = doc! { "operations": failing_inserts, "options": { "ordered": false } };
    // The document 3 is there by now.
    calls
        .fails("bulkWrite", arguments, "(3 of 5 operations were done)")
        .await;
    assert_eq!(ids(&fixture.all("c").await), [1, 3, 4]);

    let failing_updates = vec![
        doc! { "updateOne": { "filter": { "_id": 1 }, "update": { "$set": { "b": 1 } } } },
        doc! { "updateOne": { "filter": { "_id": 1 }, "update": { "$inc": { "b.c": 1 } } } },
        doc! { "updateOne": { "filter": { "_id": 3 }, "update": { "$set": { "b": 1 } } } },
        doc! { "deleteOne": { "filter": { "_id": 4 } } },
    ];
    let arguments = doc! { "operations": &failing_updates };
    let error = calls
        .fails("bulkWrite", arguments, "(1 of 4 operations were done)")
        .await;
    assert_eq!(error.code, Some(28));
    assert_eq!(fixture.all("c").await[1], doc! { "_id": 3 });
    let arguments = doc! { "operations": failing_updates, "options": { "ordered": false } };
    let error = calls
        .fails("bulkWrite", arguments, "(3 of 4 operations were done)")
        .await;
    assert_eq!(error.code, Some(28));
    assert_eq!(
        fixture.all("c").await,
        [doc! { "_id": 1, "a": 1, "b": 1 }, doc! { "_id": 3, "b": 1 }]
    );
}

#[tokio::test]
async fn a_bulk_may_be_larger_than_a_command() {
    let fixture = Fixture::new("bulk_large").await;
    let calls = Calls::new(&fixture).await;
    let large = "x".repeat(3 << 20);
    let replace = |id: i32| {
        let replacement = doc! { "x": &large, "n": id };
        doc! { "replaceOne": { "filter": { "_id": id }, "replacement": replacement, "upsert": true } }
    };
    let operations: Vec<_> = (0..10).map(replace).collect();
    let result = calls
        .call("bulkWrite", doc! { "operations": operations })
        .await;
    let result = result.as_document().unwrap();
    assert_eq!(result["upsertedCount"], Bson::Int32(10));
    let upserted = result.get_document("upsertedIds").unwrap();
    assert!(
        (0..10).all(|id| upserted[&id.to_string()] == Bson::Int32(id)),
        "{upserted}"
    );
    let stored = fixture.all("c").await;
    assert!(
        stored
            .iter()
            .all(|document| document["_id"] == document["n"])
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_bulk_is_said_before_any_of_it_is_done() {
    let fixture = Fixture::new("bulk_wrong").await;
    let calls = Calls::new(&fixture).await;
    let insert = doc! { "insertOne": { "document": { "_id": 1 } } };
    for (wrong, words) in [
        (
            doc! { "insert": { "document": {} } },
            "bulkWrite has no operation `insert`",
        ),
        (doc! {}, "operation 1 of bulkWrite"),
        (doc! { "deleteOne": 1 }, "operation 1 of bulkWrite"),
        (
            doc! { "deleteOne": { "filter": {} }, "x": 1 },
            "operation 1 of bulkWrite",
        ),
        (
            doc! { "deleteOne": {} },
            "deleteOne needs the field `filter`",
        ),
        (
            doc! { "deleteOne": { "filter": {}, "upsert": true } },
            "deleteOne has no field `upsert`",
        ),
        (
            doc! { "updateOne": { "filter": {}, "update": { "a": 1 } } },
            "update modifiers",
        ),
        (
            doc! { "replaceOne": { "filter": {}, "replacement": { "$set": {} } } },
            "update modifiers",
        ),
    ] {
        let operations = vec![insert.clone(), wrong];
        calls
            .fails("bulkWrite", doc! { "operations": operations }, words)
            .await;
    }
    let none: Vec<Bson> = Vec::new();
    calls
        .fails("bulkWrite", doc! { "operations": none }, "at least one")
        .await;
    let options = doc! { "orderd": false };
    let arguments = doc! { "operations": [insert], "options": options };
    calls
        .fails("bulkWrite", arguments, "has no option `orderd`")
        .await;
    assert!(fixture.all("c").await.is_empty());
}
