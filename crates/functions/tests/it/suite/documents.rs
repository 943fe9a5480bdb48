//! Databases.

use std::time::Duration;

use bson::{Document, doc};
use tributary_functions::script::FailureKind;

use super::stage::Stage;
use super::table::{Row, fails, returns};

const ROWS: &[Row] = &[
    returns(
        "orders/place",
        r#"["tea", "9.90"]"#,
        r#"{
            "same": true,
            "stored": {
                "item": "tea",
                "price": { "$numberDecimal": "9.90" },
                "quantity": 2,
                "views": { "$numberLong": "7" },
                "placed": { "$date": "2024-05-01T10:00:00Z" },
                "tags": ["new"],
                "note": null
            }
        }"#,
    ),
    returns(
        "orders/placeMany",
        "[12]",
        "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]",
    ),
    returns(
        "orders/list",
        "[1]",
        r#"{
            "page": [[6, 6], [5, 5], [4, 4], [3, 3], [2, 2]],
            "named": [
                { "item": "item 1", "quantity": 1 },
                { "item": "item 1", "quantity": 4 },
                { "item": "item 1", "quantity": 7 },
                { "item": "item 1", "quantity": 10 }
            ]
        }"#,
    ),
    returns(
        "orders/walk",
        "[]",
        r#"{ "first": 0, "second": 1, "end": "undefined", "total": 66, "ids": [2, 1, 0] }"#,
    ),
    returns(
        "orders/one",
        "[4]",
        r#"{
            "whole": { "_id": 4, "item": "item 1", "quantity": 4 },
            "part": { "item": "item 1" },
            "none": null,
            "byExpression": 11
        }"#,
    ),
    returns(
        "orders/advance",
        "[]",
        r#"{
            "before": { "_id": 1, "state": "new" },
            "after": { "_id": 1, "state": "sent", "version": 1 },
            "created": { "_id": 9, "state": "made" },
            "replaced": { "_id": 2, "state": "swapped" },
            "removed": { "_id": 9, "state": "made" },
            "none": null
        }"#,
    ),
    returns(
        "orders/reprice",
        "[]",
        r#"{
            "one": [1, 1],
            "many": [3, 3],
            "upsertedId": "oil",
            "unmatched": [0, 0],
            "elements": [1, 1],
            "replaced": [1, 1]
        }"#,
    ),
    returns("orders/remove", "[]", "[1, 2, 0]"),
    returns(
        "orders/forget",
        r#"[{ "operationType": "delete" }]"#,
        r#"{ "deletedCount": 2, "left": [{ "_id": 1, "order": 7, "note": null }] }"#,
    ),
    returns(
        "orders/report",
        "[]",
        r#"{
            "items": [
                { "_id": "item 0", "count": 3, "total": 18 },
                { "_id": "item 1", "count": 4, "total": 22 },
                { "_id": "item 2", "count": 4, "total": 26 }
            ],
            "merged": 3
        }"#,
    ),
    returns(
        "orders/numbers",
        "[]",
        r#"{
            "all": 12,
            "few": 5,
            "documents": 4,
            "limited": 4,
            "distinct": ["item 0", "item 1", "item 2"],
            "some": [0, 1, 2]
        }"#,
    ),
    returns(
        "orders/bulk",
        "[]",
        r#"{ "inserted": 2, "matched": 4, "modified": 4, "upserted": 1, "deleted": 1 }"#,
    ),
    returns(
        "orders/options",
        "[]",
        r#"{
            "areGenerated": true,
            "after": { "_id": 3, "n": 13 },
            "found": [{ "_id": 3, "n": 13 }, { "_id": 2, "n": 2 }],
            "one": { "_id": 3, "n": 13 },
            "grouped": [{ "_id": 2, "n": 2 }],
            "counts": [2, 2, 3, 3],
            "three": [1, 2, 3, null],
            "forbidden": "Cannot set write concern after starting a transaction",
            "wrong": "the option `upsert` of updateOne is neither true nor false"
        }"#,
    ),
    fails(
        "orders/watches",
        "[]",
        FailureKind::Thrown,
        "Error",
        "watch is not supported",
    ),
    returns(
        "orders/twice",
        "[]",
        r#"{ "code": 11000, "isError": true, "said": true }"#,
    ),
    fails(
        "orders/breaksRule",
        "[]",
        FailureKind::Thrown,
        "MongoServerError",
        "$noSuchOperator",
    ),
    returns("accounts/transfer", r#"["ada", "bob", 4]"#, r#""done""#),
    returns(
        "accounts/transfer",
        r#"["ada", "bob", 40]"#,
        r#""ada has not enough""#,
    ),
    returns(
        "accounts/byHand",
        "[]",
        r#"{ "inside": 1, "outside": 0, "left": [{ "_id": "kept" }] }"#,
    ),
    returns("accounts/leavesOpen", "[]", r#""left""#),
    returns(
        "accounts/conflicts",
        "[]",
        r#"{ "count": 4, "again": true }"#,
    ),
];

/// What the functions have left behind.
const LEFT: &[(&str, &str, &str)] = &[
    (
        "shop",
        "states",
        r#"[
            { "_id": 1, "state": "sent", "version": 1 },
            { "_id": 2, "state": "swapped" },
            { "_id": 3, "state": "old" }
        ]"#,
    ),
    (
        "shop",
        "prices",
        r#"[
            { "_id": "jam", "net": 6, "sizes": [1], "gross": 12 },
            { "_id": "oil", "net": 1 },
            { "_id": "rye", "net": 9 },
            { "_id": "tea", "net": 5, "sizes": [1, 2, 0, 0], "gross": 10 }
        ]"#,
    ),
    ("shop", "old", r#"[{ "_id": 4, "even": true }]"#),
    (
        "shop",
        "bulk",
        r#"[{ "_id": 1, "n": 11, "seen": true }, { "_id": 2, "n": 20 }]"#,
    ),
    ("shop", "once", r#"[{ "_id": "8264" }]"#),
    (
        "bank",
        "accounts",
        r#"[{ "_id": "ada", "balance": 6 }, { "_id": "bob", "balance": 4 }]"#,
    ),
    ("bank", "ledger", r#"[{ "_id": "kept" }]"#),
    ("bank", "counters", r#"[{ "_id": "visits", "count": 4 }]"#),
];

/// A transaction that nobody has ended lasts a minute.
const SOON: Duration = Duration::from_secs(30);

pub(super) async fn run(stage: &mut Stage) {
    let bank = stage.mongodb().await.database("bank");
    let accounts = [
        doc! { "_id": "ada", "balance": 10 },
        doc! { "_id": "bob", "balance": 0 },
    ];
    let collection = bank.collection::<Document>("accounts");
    collection.insert_many(accounts).await.unwrap();

    stage.rows(ROWS).await;
    for (database, collection, expected) in LEFT {
        stage.expect_documents(database, collection, expected).await;
    }

    // This waits for as long as another transaction has inserted the same key.
    let open = bank.collection::<Document>("open");
    let same = open.insert_one(doc! { "_id": "forgotten" });
    let inserted = tokio::time::timeout(SOON, same.into_future()).await;
    let is_free = inserted.is_ok_and(|result| result.is_ok());
    stage.expect(
        "a transaction left open is ended with its run",
        is_free,
        true,
    );
}
