//! Change events, as triggers give them to functions.

use super::stage::Stage;
use super::table::{Row, ends, returns};

const ROWS: &[Row] = &[
    returns(
        "events/onInsert",
        r#"[{
            "_id": { "_data": "8201" },
            "operationType": "insert",
            "clusterTime": { "$timestamp": { "t": 1700000000, "i": 3 } },
            "wallTime": { "$date": "2023-11-14T22:13:20Z" },
            "ns": { "db": "shop", "coll": "orders" },
            "documentKey": { "_id": { "$oid": "64b0c0ffee64b0c0ffee64b0" } },
            "fullDocument": {
                "_id": { "$oid": "64b0c0ffee64b0c0ffee64b0" },
                "total": { "$numberDecimal": "9.90" },
                "views": { "$numberLong": "9007199254740993" },
                "placed": { "$date": "2023-11-14T22:13:19.5Z" }
            }
        }]"#,
        "true",
    ),
    returns(
        "events/onUpdate",
        r#"[{
            "_id": { "_data": "8202" },
            "operationType": "update",
            "ns": { "db": "shop", "coll": "orders" },
            "documentKey": { "_id": 7 },
            "updateDescription": {
                "updatedFields": { "price": { "$numberDecimal": "12.50" }, "state": "paid" },
                "removedFields": ["coupon"],
                "truncatedArrays": [{ "field": "lines", "newSize": 1 }]
            },
            "fullDocument": { "_id": 7, "price": { "$numberDecimal": "12.50" }, "state": "paid", "lines": [1] },
            "fullDocumentBeforeChange": {
                "_id": 7, "price": { "$numberDecimal": "9.50" }, "coupon": "c", "lines": [1, 2]
            }
        }]"#,
        r#"{
            "changed": ["price: 12.50", "state: paid"],
            "removedFields": ["coupon"],
            "truncated": ["lines to 1"],
            "rise": 3
        }"#,
    ),
    returns(
        "events/onReplace",
        r#"[{
            "_id": { "_data": "8203" },
            "operationType": "replace",
            "ns": { "db": "shop", "coll": "orders" },
            "documentKey": { "_id": 7 },
            "fullDocument": { "_id": 7, "a": { "$numberLong": "2" }, "same": [1], "c": 3 },
            "fullDocumentBeforeChange": { "_id": 7, "a": { "$numberLong": "1" }, "same": [1], "b": 2 }
        }]"#,
        r#"["a", "b", "c"]"#,
    ),
    returns(
        "events/onDelete",
        r#"[{
            "_id": { "_data": "8204" },
            "operationType": "delete",
            "wallTime": { "$date": "2023-11-14T22:13:20Z" },
            "ns": { "db": "shop", "coll": "orders" },
            "documentKey": { "_id": 7 },
            "fullDocumentBeforeChange": { "_id": 7, "item": "tea", "price": { "$numberDecimal": "12.50" } }
        }]"#,
        "true",
    ),
    ends(
        "events/audit",
        r#"[{
            "_id": { "_data": "8205" },
            "operationType": "delete",
            "clusterTime": { "$timestamp": { "t": 1700000000, "i": 4 } },
            "wallTime": { "$date": "2023-11-14T22:13:20Z" },
            "ns": { "db": "shop", "coll": "orders" },
            "documentKey": { "_id": { "$numberLong": "8" } }
        }]"#,
    ),
];

const LEFT: &[(&str, &str, &str)] = &[
    (
        "shop",
        "seen",
        r#"[{
            "_id": { "$oid": "64b0c0ffee64b0c0ffee64b0" },
            "id": "64b0c0ffee64b0c0ffee64b0",
            "total": { "$numberDecimal": "9.90" },
            "doubled": { "$numberLong": "18014398509481986" },
            "placed": "2023-11-14T22:13:19.500Z",
            "from": "shop.orders",
            "operationType": "insert",
            "second": 1700000000
        }]"#,
    ),
    (
        "shop",
        "archive",
        r#"[{
            "_id": 7,
            "item": "tea",
            "price": { "$numberDecimal": "12.50" },
            "deletedAt": { "$date": "2023-11-14T22:13:20Z" }
        }]"#,
    ),
    (
        "audit",
        "orders",
        r#"[{
            "_id": "8205",
            "operationType": "delete",
            "clusterTime": { "$timestamp": { "t": 1700000000, "i": 4 } },
            "wallTime": { "$date": "2023-11-14T22:13:20Z" },
            "ns": { "db": "shop", "coll": "orders" },
            "documentKey": { "_id": { "$numberLong": "8" } }
        }]"#,
    ),
];

pub(super) async fn run(stage: &mut Stage) {
    stage.rows(ROWS).await;
    for (database, collection, expected) in LEFT {
        stage.expect_documents(database, collection, expected).await;
    }
}
