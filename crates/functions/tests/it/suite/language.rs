//! The language itself, and modules.

use super::stage::Stage;
use super::table::{Row, ends, fails, returns};
use tributary_functions::script::FailureKind;

const ROWS: &[Row] = &[
    returns("greet", r#"["Ada"]"#, r#""Hello, Ada!""#),
    returns("greet", "[]", r#""Hello, stranger!""#),
    returns("greet", "[null]", r#""Hello, stranger!""#),
    returns("arrow", "[1, 2, 3.5]", "6.5"),
    ends("nothing", "[]"),
    returns(
        "language/collections",
        r#"[["tea", "jam", "tea", "coffee"]]"#,
        r#"{
            "counts": { "coffee": 1, "jam": 1, "tea": 2 },
            "distinct": ["coffee", "jam", "tea"],
            "size": 3,
            "seen": "counted",
            "longest": "coffee"
        }"#,
    ),
    returns(
        "language/classes",
        "[3]",
        r#"{
            "text": "SQUARE with 4 sides and area 9",
            "isShape": true,
            "made": 1,
            "keys": ["sides", "length"]
        }"#,
    ),
    returns(
        "language/asynchronous",
        "[]",
        r#"{
            "seen": [10, 20, 30],
            "all": [1, 2, 3],
            "settled": [["fulfilled", "a"], ["rejected", "b"]],
            "first": "fast",
            "any": "yes",
            "cleaned": "x",
            "order": "x!"
        }"#,
    ),
    returns(
        "language/patterns",
        r#"[{
            "_id": 7, "customer": { "name": "Ada" }, "placed": "2024-02-29", "lines": ["a", "b", "c"],
            "total": 5, "discount": 0
        }]"#,
        r#"{
            "name": "Ada",
            "city": "unknown",
            "month": "2024/02",
            "swapped": "29.02.2024",
            "words": ["1", "22"],
            "lookbehind": "7",
            "missing": null,
            "called": "nobody",
            "zero": 0,
            "copy": {
                "placed": "2024-02-29", "total": 5, "discount": 0, "id": 7, "lines": ["b", "c", "a"]
            },
            "tagged": "id <7>\\n"
        }"#,
    ),
    returns(
        "language/bigNumbers",
        "[]",
        r#"{
            "factorial": "15511210043330985984000000",
            "power": "10000000000000000",
            "wrapped": "-9223372036854775808",
            "type": "bigint",
            "compared": true,
            "rounded": 9007199254740992,
            "separated": 1000000
        }"#,
    ),
    returns(
        "language/iteration",
        "[]",
        r#"{
            "fibonacci": [0, 1, 1, 2, 3, 5, 8, 13],
            "range": [1, 4, 9, 16],
            "flat": [1, 2, 3, [4]],
            "flatMap": ["a", "b", "c"],
            "entries": ["x1", "y2"],
            "found": 1,
            "includes": true,
            "padded": "007|-",
            "trimmed": "x |",
            "sorted": [1, 3, 20],
            "at": 3,
            "symbols": "tag"
        }"#,
    ),
    returns(
        "language/dates",
        r#"[{ "$date": "2024-02-29T12:00:00Z" }]"#,
        r#"{
            "isDate": true,
            "iso": "2024-02-29T12:00:00.000Z",
            "weekday": 4,
            "next": { "$date": "2024-03-01T12:00:00Z" },
            "utc": 1709164800000,
            "parsed": 1709161200000,
            "text": "{\n \"moment\": \"2024-02-29T12:00:00.000Z\",\n \"list\": [\n  null,\n  null\n ]\n}",
            "same": true,
            "recent": true
        }"#,
    ),
    returns(
        "language/timers",
        "[]",
        r#"["now", "microtask", "immediate", "tick", "tick", "given", "twice"]"#,
    ),
    returns("shared/tax", r#"[10, "reduced"]"#, "0.5"),
    returns(
        "modules/usesModules",
        "[10]",
        r#"{ "gross": "12.00 EUR", "reduced": 0.5, "level": "silver", "version": "1.0.0", "same": true }"#,
    ),
    returns(
        "modules/usesNode",
        r#"["hello world"]"#,
        r#"{
            "heard": ["hello", "world"],
            "digest": "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9",
            "name": "orders",
            "query": "a=1&b=x%20y",
            "formatted": "cart has 3",
            "base64": "aGVsbG8gd29ybGQ=",
            "doubled": 42
        }"#,
    ),
    returns(
        "modules/missesModule",
        "[]",
        r#"{ "isError": true, "named": true }"#,
    ),
    fails(
        "no/such/function",
        "[]",
        FailureKind::NotLoaded,
        "",
        "no/such/function",
    ),
];

pub(super) async fn run(stage: &mut Stage) {
    stage.rows(ROWS).await;
}
