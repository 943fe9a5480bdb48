use mongodb::bson::{Bson, doc};

use super::{Calls, ids};
use crate::support::{Fixture, number, until};

async fn with_numbers(name: &str) -> (Fixture, Calls) {
    let fixture = Fixture::new(name).await;
    let documents = (1..=5).map(|n| doc! { "_id": n, "n": n % 3, "name": format!("N{n}") });
    fixture.insert("c", documents.collect()).await;
    let index = mongodb::IndexModel::builder().keys(doc! { "n": 1 }).build();
    fixture.collection("c").create_index(index).await.unwrap();
    let calls = Calls::new(&fixture).await;
    (fixture, calls)
}

#[tokio::test]
async fn find_does_what_its_options_say() {
    let (_fixture, calls) = with_numbers("find").await;
    let find = async |filter: mongodb::bson::Document, options: mongodb::bson::Document| {
        ids(&calls
            .find(doc! { "filter": filter, "options": options })
            .await)
    };
    assert_eq!(ids(&calls.find(doc! {}).await), [1, 2, 3, 4, 5]);
    assert_eq!(find(doc! { "n": 1 }, doc! {}).await, [1, 4]);
    assert_eq!(
        find(doc! {}, doc! { "sort": { "_id": -1 } }).await,
        [5, 4, 3, 2, 1]
    );
    assert_eq!(
        find(
            doc! {},
            doc! { "sort": { "n": 1, "_id": -1 }, "skip": 1, "limit": 3.0 }
        )
        .await,
        [4, 1, 5]
    );
    assert_eq!(find(doc! {}, doc! { "hint": "n_1" }).await, [3, 1, 4, 2, 5]);
    assert_eq!(
        find(doc! {}, doc! { "hint": { "n": 1 } }).await,
        [3, 1, 4, 2, 5]
    );
    let any_case = doc! { "collation": { "locale": "en", "strength": 2 } };
    assert_eq!(find(doc! { "name": "n2" }, any_case).await, [2]);
    assert_eq!(find(doc! { "name": "n2" }, doc! {}).await, [] as [i64; 0]);
    let wanted = doc! { "$expr": { "$eq": ["$n", "$$wanted"] } };
    assert_eq!(find(wanted, doc! { "let": { "wanted": 2 } }).await, [2, 5]);
    let harmless = doc! { "comment": "a test", "maxTimeMS": 30_000, "allowDiskUse": true };
    assert_eq!(find(doc! { "_id": { "$gt": 4 } }, harmless).await, [5]);
    let projected = calls
        .find(doc! { "filter": { "_id": 1 }, "options": { "projection": { "n": 1, "_id": 0 } } })
        .await;
    assert_eq!(projected, [doc! { "n": 1 }]);
}

#[tokio::test]
async fn find_one_answers_a_document_or_null() {
    let (_fixture, calls) = with_numbers("find_one").await;
    let options = doc! { "sort": { "_id": -1 }, "skip": 1, "projection": { "name": 0 } };
    let found = calls
        .call("findOne", doc! { "filter": {}, "options": options })
        .await;
    assert_eq!(found, Bson::from(doc! { "_id": 4, "n": 1 }));
    let found = calls
        .call("findOne", doc! { "filter": { "_id": 99 } })
        .await;
    assert_eq!(found, Bson::Null);
}

#[tokio::test]
async fn a_cursor_is_read_batch_by_batch_until_it_is_closed() {
    let (fixture, calls) = with_numbers("cursor").await;
    let two = doc! { "options": { "batchSize": 2 } };
    let first = calls.call("find", two.clone()).await;
    let batches = calls.rest(first).await;
    let sizes: Vec<_> = batches.iter().map(Vec::len).collect();
    assert_eq!(sizes, [2, 2, 1]);
    assert_eq!(ids(&batches.concat()), [1, 2, 3, 4, 5]);

    let first = calls.call("find", two.clone()).await;
    let cursor = first.as_document().unwrap().get_i32("cursor").unwrap();
    assert_eq!(fixture.open_cursors().await, 1);
    let closed = calls.call("closeCursor", doc! { "cursor": cursor }).await;
    assert_eq!(closed, Bson::Null);
    until("the cursor is closed", async || {
        fixture.open_cursors().await == 0
    })
    .await;
    calls
        .fails("getMore", doc! { "cursor": cursor }, "closed")
        .await;
    calls
        .fails("getMore", doc! {}, "needs the argument `cursor`")
        .await;

    calls.call("find", two.clone()).await;
    calls.call("find", two).await;
    assert_eq!(fixture.open_cursors().await, 2);
    // Also where that is no thread of the runtime.
    std::thread::spawn(move || drop(calls)).join().unwrap();
    until("the scope's cursors are closed", async || {
        fixture.open_cursors().await == 0
    })
    .await;
}

#[tokio::test]
async fn many_bytes_come_in_several_parts() {
    let fixture = Fixture::new("parts").await;
    let calls = Calls::new(&fixture).await;
    let large = "x".repeat(1 << 20);
    for from in [1, 11] {
        let documents = (from..from + 10).map(|n| doc! { "_id": n, "x": &large });
        fixture.insert("c", documents.collect()).await;
    }
    fixture
        .insert("c", vec![doc! { "_id": 21, "x": "x".repeat(6 << 20) }])
        .await;
    let first = calls
        .call("find", doc! { "options": { "sort": { "_id": 1 } } })
        .await;
    let batches = calls.rest(first).await;
    assert!(
        batches.iter().all(|batch| batch.len() <= 4),
        "more than 4 MB at once"
    );
    let all: Vec<i64> = (1..=21).collect();
    assert_eq!(ids(&batches.concat()), all);
}

#[tokio::test]
async fn pipelines_are_of_a_collection_or_of_the_database() {
    let (_fixture, calls) = with_numbers("aggregate").await;
    let pipeline = vec![
        doc! { "$match": { "$expr": { "$gt": ["$_id", "$$above"] } } },
        doc! { "$group": { "_id": "$n", "sum": { "$sum": "$_id" } } },
        doc! { "$sort": { "_id": 1 } },
    ];
    let options = doc! {
        "let": { "above": 1 }, "batchSize": 2, "allowDiskUse": false, "comment": "a test",
        "maxTimeMS": 30_000, "hint": "_id_", "collation": { "locale": "en" },
        "bypassDocumentValidation": false,
    };
    let first = calls
        .call(
            "aggregate",
            doc! { "pipeline": pipeline, "options": options },
        )
        .await;
    let batches = calls.rest(first).await;
    assert_eq!(batches[0].len(), 2);
    let sums: Vec<_> = batches.concat().iter().map(|d| number(&d["sum"])).collect();
    assert_eq!(sums, [3, 4, 7]);

    let database = calls.of_database();
    let pipeline = vec![doc! { "$documents": [{ "a": 1 }, { "a": 2 }] }];
    let first = database
        .call("aggregate", doc! { "pipeline": pipeline })
        .await;
    assert_eq!(
        database.rest(first).await.concat(),
        [doc! { "a": 1 }, doc! { "a": 2 }]
    );
    calls
        .fails("aggregate", doc! {}, "needs the argument `pipeline`")
        .await;
    let unknown = vec![doc! { "$nothing": {} }];
    let error = calls
        .fails("aggregate", doc! { "pipeline": unknown }, "$nothing")
        .await;
    assert_eq!(error.code, Some(40_324));
}

#[tokio::test]
async fn documents_are_counted_and_their_values_listed() {
    let (_fixture, calls) = with_numbers("count").await;
    for count in ["count", "countDocuments"] {
        let counted = async |arguments| number(&calls.call(count, arguments).await);
        assert_eq!(counted(doc! {}).await, 5);
        assert_eq!(counted(doc! { "filter": { "n": 1 } }).await, 2);
        let options = doc! { "skip": 1, "limit": 3, "hint": "n_1", "maxTimeMS": 30_000 };
        assert_eq!(counted(doc! { "options": options }).await, 3);
        assert_eq!(counted(doc! { "options": { "limit": 0 } }).await, 5);
        let any_case = doc! { "collation": { "locale": "en", "strength": 2 }, "comment": "a test" };
        let arguments = doc! { "filter": { "name": "n2" }, "options": any_case };
        assert_eq!(counted(arguments).await, 1);
    }
    let options = doc! { "maxTimeMS": 30_000, "comment": "a test" };
    let counted = calls
        .call("estimatedDocumentCount", doc! { "options": options })
        .await;
    assert_eq!(counted, Bson::Int32(5));
    let filtered = doc! { "filter": { "n": 1 } };
    calls
        .fails(
            "estimatedDocumentCount",
            filtered,
            "countDocuments takes a filter",
        )
        .await;

    let values = calls.call(
        "distinct",
        doc! { "field": "n", "filter": { "_id": { "$gt": 1 } } },
    );
    assert_eq!(values.await, Bson::from(vec![0, 1, 2]));
    let options =
        doc! { "collation": { "locale": "en" }, "maxTimeMS": 30_000, "comment": "a test" };
    let values = calls.call("distinct", doc! { "field": "n", "options": options });
    assert_eq!(values.await, Bson::from(vec![0, 1, 2]));
    calls
        .fails("distinct", doc! {}, "needs the argument `field`")
        .await;
}

#[tokio::test]
async fn a_command_of_the_database_answers_its_reply() {
    let (_fixture, calls) = with_numbers("command").await;
    let database = calls.of_database();
    let reply = database
        .call("runCommand", doc! { "command": { "count": "c" } })
        .await;
    assert_eq!(number(&reply.as_document().unwrap()["n"]), 5);
    let error = database
        .fails(
            "runCommand",
            doc! { "command": { "noSuchThing": 1 } },
            "noSuchThing",
        )
        .await;
    assert_eq!(error.code, Some(59));
}

#[tokio::test]
async fn reads_go_where_the_address_says() {
    use tributary_flow::DocumentStore;
    let (fixture, calls) = with_numbers("secondary").await;
    let uri = format!(
        "{}&readPreference=secondary&serverSelectionTimeoutMS=300",
        fixture.mongod.uri_for(&fixture.name)
    );
    let connection = tributary_mongo::Connection::open(&uri, None).await.unwrap();
    let elsewhere = Calls {
        scope: tributary_mongo::MongoDocuments::new(connection).scope(),
        ..calls
    };
    // There is none.
    for read in [
        "findOne",
        "find",
        "countDocuments",
        "estimatedDocumentCount",
    ] {
        let error = elsewhere.fails(read, doc! {}, "").await;
        assert!(error.is_transient, "{read}: {error:?}");
    }
    elsewhere
        .call("insertOne", doc! { "document": { "_id": 6 } })
        .await;
}
