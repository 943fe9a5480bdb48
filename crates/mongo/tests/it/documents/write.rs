use mongodb::bson::{Bson, Document, doc};

use super::Calls;
use crate::support::{Fixture, number};

async fn with(name: &str, documents: Vec<Document>) -> (Fixture, Calls) {
    let fixture = Fixture::new(name).await;
    if !documents.is_empty() {
        fixture.insert("c", documents).await;
    }
    let calls = Calls::new(&fixture).await;
    (fixture, calls)
}

#[track_caller]
fn counts(result: &Bson, expected: &[(&str, i64)]) {
    let result = result.as_document().expect("a document");
    for (name, expected) in expected {
        assert_eq!(number(&result[*name]), *expected, "{name} of {result}");
    }
}

#[tokio::test]
async fn an_inserted_document_has_an_id_in_front() {
    let (fixture, calls) = with("insert", vec![]).await;
    let inserted = calls
        .call("insertOne", doc! { "document": { "a": 1 } })
        .await;
    let id = inserted.as_document().unwrap()["insertedId"].clone();
    assert!(id.as_object_id().is_some());
    let stored = &fixture.all("c").await[0];
    assert_eq!(stored, &doc! { "_id": id, "a": 1 });
    assert_eq!(stored.keys().next().map(String::as_str), Some("_id"));

    let own = calls
        .call("insertOne", doc! { "document": { "a": 1, "_id": "own" } })
        .await;
    assert_eq!(own, Bson::from(doc! { "insertedId": "own" }));
    let again = doc! { "document": { "_id": "own" }, "options": { "comment": "a test" } };
    let error = calls
        .fails("insertOne", again, "E11000 duplicate key")
        .await;
    assert_eq!((error.code, error.is_transient), (Some(11_000), false));
    assert!(error.labels.is_empty(), "{error:?}");
}

#[tokio::test]
async fn many_inserted_documents_have_their_ids_in_order() {
    let (fixture, calls) = with("insert_many", vec![]).await;
    let documents = vec![doc! { "_id": 1 }, doc! { "a": 1 }, doc! { "_id": 2 }];
    let inserted = calls
        .call("insertMany", doc! { "documents": documents })
        .await;
    let ids = inserted
        .as_document()
        .unwrap()
        .get_array("insertedIds")
        .unwrap();
    assert_eq!((&ids[0], &ids[2]), (&Bson::Int32(1), &Bson::Int32(2)));
    assert!(ids[1].as_object_id().is_some());

    let documents = vec![doc! { "_id": 3 }, doc! { "_id": 1 }, doc! { "_id": 4 }];
    let ordered = doc! { "documents": &documents };
    let error = calls
        .fails("insertMany", ordered, "(1 of 3 operations were done)")
        .await;
    assert_eq!(error.code, Some(11_000));
    assert!(error.message.contains("E11000"), "{error:?}");
    let unordered = doc! { "documents": &documents, "options": { "ordered": false } };
    calls
        .fails("insertMany", unordered, "(1 of 3 operations were done)")
        .await;
    assert_eq!(fixture.all("c").await.len(), 5);
    calls
        .fails(
            "insertMany",
            doc! { "documents": [1] },
            "no array of documents",
        )
        .await;
}

#[tokio::test]
async fn documents_are_updated_by_operators_and_by_pipelines() {
    let documents = (1..=3).map(|n| doc! { "_id": n, "n": n, "list": [n, 5] });
    let (fixture, calls) = with("update", documents.collect()).await;
    let one = doc! { "filter": { "_id": 1 }, "update": { "$inc": { "n": 10 } } };
    let updated = calls.call("updateOne", one).await;
    assert_eq!(
        updated,
        Bson::from(doc! { "matchedCount": 1, "modifiedCount": 1 })
    );
    let same = doc! { "filter": {}, "update": { "$set": { "n": 2 } } };
    let updated = calls.call("updateMany", same).await;
    counts(&updated, &[("matchedCount", 3), ("modifiedCount", 2)]);
    let pipeline = vec![doc! { "$set": { "m": { "$add": ["$n", "$$more"] } } }];
    let options = doc! { "let": { "more": 1 }, "hint": "_id_", "comment": "a test" };
    let piped = doc! { "filter": { "_id": 2 }, "update": pipeline, "options": options };
    counts(
        &calls.call("updateOne", piped).await,
        &[("modifiedCount", 1)],
    );
    let options = doc! { "arrayFilters": [{ "e": { "$gt": 4 } }] };
    let filtered = doc! { "filter": { "_id": 3 }, "update": { "$set": { "list.$[e]": 0 } }, "options": options };
    counts(
        &calls.call("updateOne", filtered).await,
        &[("modifiedCount", 1)],
    );
    let stored = fixture.all("c").await;
    assert_eq!(stored[1]["m"], Bson::Int32(3));
    assert_eq!(stored[2]["list"], Bson::from(vec![3, 0]));

    let options = doc! { "upsert": true, "collation": { "locale": "en", "strength": 2 } };
    let upsert =
        doc! { "filter": { "_id": "new" }, "update": { "$set": { "n": 1 } }, "options": options };
    let upserted = calls.call("updateOne", upsert.clone()).await;
    let expected = doc! { "matchedCount": 0, "modifiedCount": 0, "upsertedId": "new" };
    assert_eq!(upserted, Bson::from(expected));
    // The collation does not tell it from the one that is there.
    let mut again = upsert;
    again.insert("filter", doc! { "_id": "NEW" });
    counts(
        &calls.call("updateOne", again).await,
        &[("matchedCount", 1)],
    );
}

#[tokio::test]
async fn documents_are_replaced_and_deleted() {
    let documents = (1..=4).map(|n| doc! { "_id": n, "n": n });
    let (fixture, calls) = with("replace", documents.collect()).await;
    let replace = doc! { "filter": { "_id": 1 }, "replacement": { "m": 1 } };
    let replaced = calls.call("replaceOne", replace).await;
    assert_eq!(
        replaced,
        Bson::from(doc! { "matchedCount": 1, "modifiedCount": 1 })
    );
    let options = doc! { "upsert": true, "hint": { "_id": 1 }, "let": { "a": 1 } };
    let upsert = doc! { "filter": { "_id": 9 }, "replacement": { "m": 9 }, "options": options };
    let replaced = calls.call("replaceOne", upsert).await;
    assert_eq!(
        replaced.as_document().unwrap()["upsertedId"],
        Bson::Int32(9)
    );
    assert_eq!(fixture.all("c").await[0], doc! { "_id": 1, "m": 1 });

    let one = calls
        .call("deleteOne", doc! { "filter": { "n": { "$gt": 1 } } })
        .await;
    assert_eq!(one, Bson::from(doc! { "deletedCount": 1 }));
    let options = doc! { "hint": "_id_", "comment": "a test" };
    let many = doc! { "filter": { "n": { "$gt": 1 } }, "options": options };
    assert_eq!(
        calls.call("deleteMany", many).await,
        Bson::from(doc! { "deletedCount": 2 })
    );
    let none = calls
        .call("deleteOne", doc! { "filter": { "_id": 77 } })
        .await;
    assert_eq!(none, Bson::from(doc! { "deletedCount": 0 }));
    assert_eq!(super::ids(&fixture.all("c").await), [1, 9]);
}

#[tokio::test]
async fn a_document_is_found_and_changed_in_one_step() {
    let documents = (1..=3).map(|n| doc! { "_id": n, "n": n, "list": [1, n] });
    let (fixture, calls) = with("find_and", documents.collect()).await;
    let update = |options: Document| doc! { "filter": {}, "update": { "$inc": { "n": 1 } }, "options": options };
    let n = |found: &Bson| number(&found.as_document().expect("a document")["n"]);
    let last = doc! { "_id": -1 };
    let found = calls
        .call("findOneAndUpdate", update(doc! { "sort": &last }))
        .await;
    assert_eq!(n(&found), 3);
    for (options, expected) in [
        (doc! { "returnDocument": "before" }, 4),
        (doc! { "returnDocument": "after" }, 6),
        (doc! { "returnNewDocument": true }, 7),
        (doc! { "returnNewDocument": false }, 7),
    ] {
        let mut options = options;
        options.insert("sort", &last);
        options.insert("projection", doc! { "n": 1, "_id": 0 });
        let found = calls
            .call("findOneAndUpdate", update(options.clone()))
            .await;
        assert_eq!(found, Bson::from(doc! { "n": expected }), "{options}");
    }
    let both = doc! { "returnDocument": "after", "returnNewDocument": true };
    calls
        .fails("findOneAndUpdate", update(both), "give one of them")
        .await;
    let neither = doc! { "returnDocument": "later" };
    calls
        .fails("findOneAndUpdate", update(neither), "`before` or `after`")
        .await;
    let options =
        doc! { "arrayFilters": [{ "e": 1 }], "returnNewDocument": true, "maxTimeMS": 30_000 };
    let filtered = doc! { "filter": { "_id": 2 }, "update": { "$set": { "list.$[e]": 0 } }, "options": options };
    let found = calls.call("findOneAndUpdate", filtered).await;
    assert_eq!(found.as_document().unwrap()["list"], Bson::from(vec![0, 2]));

    let options = doc! { "upsert": true };
    let upsert = doc! { "filter": { "_id": 8 }, "replacement": { "n": 8 }, "options": options };
    assert_eq!(calls.call("findOneAndReplace", upsert).await, Bson::Null);
    let options = doc! { "returnDocument": "after", "hint": "_id_", "comment": "a test" };
    let replace = doc! { "filter": { "_id": 8 }, "replacement": { "n": 9 }, "options": options };
    let found = calls.call("findOneAndReplace", replace).await;
    assert_eq!(found, Bson::from(doc! { "_id": 8, "n": 9 }));

    let options = doc! { "sort": { "_id": 1 }, "projection": { "list": 0 } };
    let delete = doc! { "filter": {}, "options": options };
    let found = calls.call("findOneAndDelete", delete).await;
    assert_eq!(found, Bson::from(doc! { "_id": 1, "n": 1 }));
    let delete = doc! { "filter": { "_id": 1 } };
    assert_eq!(calls.call("findOneAndDelete", delete).await, Bson::Null);
    assert_eq!(super::ids(&fixture.all("c").await), [2, 3, 8]);
}

#[tokio::test]
async fn validation_is_bypassed_where_that_is_asked_for() {
    let (fixture, calls) = with("validation", vec![]).await;
    let create = fixture.database.create_collection("c");
    create
        .validator(doc! { "n": { "$type": "number" } })
        .await
        .unwrap();
    let bypass = doc! { "bypassDocumentValidation": true };
    for (operation, arguments) in [
        ("insertOne", doc! { "document": { "_id": 1, "n": "x" } }),
        ("insertMany", doc! { "documents": [{ "_id": 2, "n": "x" }] }),
        (
            "updateOne",
            doc! { "filter": { "_id": 3 }, "update": { "$set": { "n": "x" } } },
        ),
        (
            "replaceOne",
            doc! { "filter": { "_id": 3 }, "replacement": { "n": "y" } },
        ),
        (
            "findOneAndUpdate",
            doc! { "filter": { "_id": 4 }, "update": { "$set": { "n": "x" } } },
        ),
        (
            "findOneAndReplace",
            doc! { "filter": { "_id": 4 }, "replacement": { "n": "y" } },
        ),
        (
            "bulkWrite",
            doc! { "operations": [{ "updateOne": { "filter": { "_id": 4 }, "update": { "$set": { "n": "z" } } } }] },
        ),
    ] {
        // A document that is invalid already may stay so: each begins with valid ones.
        fixture
            .collection("c")
            .delete_many(doc! { "_id": { "$gt": 2 } })
            .await
            .unwrap();
        for id in [3, 4] {
            fixture.insert("c", vec![doc! { "_id": id, "n": 1 }]).await;
        }
        let error = calls
            .fails(operation, arguments.clone(), "failed validation")
            .await;
        assert_eq!(error.code, Some(121), "{operation}");
        let mut arguments = arguments;
        arguments.insert("options", bypass.clone());
        calls.call(operation, arguments).await;
    }
}
