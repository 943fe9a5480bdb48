//! BSON's types in JavaScript.

use super::stage::Stage;
use super::table::{Expected, Row, returns};

/// One of everything.
const EVERYTHING: &str = r#"{
    "objectId": { "$oid": "64b0c0ffee64b0c0ffee64b0" },
    "long": { "$numberLong": "9007199254740993" },
    "small": { "$numberLong": "5" },
    "decimal": { "$numberDecimal": "1.10" },
    "date": { "$date": { "$numberLong": "-1" } },
    "binary": { "$binary": { "base64": "AP8=", "subType": "80" } },
    "timestamp": { "$timestamp": { "t": 1700000000, "i": 7 } },
    "minKey": { "$minKey": 1 },
    "maxKey": { "$maxKey": 1 },
    "pattern": { "$regularExpression": { "pattern": "^a.c$", "options": "i" } },
    "fraction": 1.5,
    "null": null,
    "array": [1, "x", true, { "deep": [{ "$numberDecimal": "NaN" }] }]
}"#;

const ROWS: &[Row] = &[
    returns("echo", "[[]]", "[]"),
    returns("echo", "[{}]", "{}"),
    returns("echo", r#"["\u0000 é 𝄞"]"#, r#""\u0000 é 𝄞""#),
    returns(
        "bson/types",
        "[]",
        r#"{
            "objectId": { "$oid": "64b0c0ffee64b0c0ffee64b0" },
            "long": { "$numberLong": "9007199254740993" },
            "int32": { "$numberInt": "42" },
            "double": { "$numberDouble": "42.0" },
            "decimal": { "$numberDecimal": "1.10" },
            "binary": { "$binary": { "base64": "AP8=", "subType": "00" } },
            "timestamp": { "$timestamp": { "t": 1700000000, "i": 7 } },
            "minKey": { "$minKey": 1 },
            "maxKey": { "$maxKey": 1 },
            "regExp": { "$regularExpression": { "pattern": "^a.c$", "options": "im" } },
            "literal": { "$regularExpression": { "pattern": "x+", "options": "i" } },
            "uuid": { "$binary": { "base64": "OyQRAeK7QlWMr0E2xWapYg==", "subType": "04" } },
            "date": { "$date": { "$numberLong": "0" } },
            "fraction": 1.5,
            "nothing": null,
            "nested": [{ "id": { "$oid": "000000000000000000000001" } }]
        }"#,
    ),
    returns(
        "bson/stores",
        "[]",
        r#"{
            "_id": "string",
            "objectId": "objectId",
            "long": "long",
            "int32": "int",
            "double": "double",
            "decimal": "decimal",
            "binary": "binData",
            "timestamp": "timestamp",
            "minKey": "minKey",
            "maxKey": "maxKey",
            "regExp": "regex",
            "literal": "regex",
            "uuid": "binData",
            "date": "date",
            "fraction": "double",
            "nothing": "null",
            "nested": "array"
        }"#,
    ),
    returns(
        "bson/longs",
        r#"[
            { "$numberLong": "9007199254740993" }, { "$numberDecimal": "12.50" },
            { "$oid": "64b0c0ffee64b0c0ffee64b0" }
        ]"#,
        r#"{
            "added": "9007199254740994",
            "number": 9007199254740992,
            "compared": true,
            "multiplied": "-9223372036854775808",
            "isLong": true,
            "price": "12.50",
            "isDecimal": true,
            "seconds": 1689305343,
            "hex": "64b0c0ffee64b0c0ffee64b0",
            "equal": true,
            "fresh": 24,
            "json": "{\"id\":\"64b0c0ffee64b0c0ffee64b0\"}"
        }"#,
    ),
    returns(
        "bson/extendedJson",
        "[]",
        r#"{
            "relaxed": "{\"id\":{\"$oid\":\"64b0c0ffee64b0c0ffee64b0\"},\"when\":{\"$date\":\"2024-02-29T00:00:00Z\"},\"price\":{\"$numberDecimal\":\"9.90\"},\"count\":3,\"n\":1}",
            "canonical": "{\"id\":{\"$oid\":\"64b0c0ffee64b0c0ffee64b0\"},\"when\":{\"$date\":{\"$numberLong\":\"1709164800000\"}},\"price\":{\"$numberDecimal\":\"9.90\"},\"count\":{\"$numberLong\":\"3\"},\"n\":{\"$numberInt\":\"1\"}}",
            "kept": true,
            "serialized": "2",
            "deserialized": true
        }"#,
    ),
    returns(
        "bson/binaries",
        r#"[{ "$binary": { "base64": "aMOpbGxv", "subType": "00" } }]"#,
        r#"{
            "text": "héllo",
            "base64": "aMOpbGxv",
            "hex": "68c3a96c6c6f",
            "bytes": [0, 255, 16],
            "joined": { "$binary": { "base64": "AP8Q", "subType": "00" } }
        }"#,
    ),
];

pub(super) async fn run(stage: &mut Stage) {
    stage.rows(ROWS).await;

    let row = Row {
        expected: Expected::Value(EVERYTHING),
        ..returns("echo", "", "")
    };
    let outcome = stage.call(row.function, &format!("[{EVERYTHING}]")).await;
    stage.note(row.judge(&outcome));
}
