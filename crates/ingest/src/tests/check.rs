use bson::{Bson, Document, doc};

use super::{bytes, event};
use crate::check::check;

/// Asserts that an event is refused, and that it is said why.
#[track_caller]
fn is_wrong(event: &Document, words: &[&str]) {
    let wrong = check(bytes(event)).unwrap_err();
    assert_eq!(wrong.len(), words.len(), "{wrong:#?}");
    for (what, word) in wrong.iter().zip(words) {
        assert!(what.contains(word), "no `{word}` in `{what}`");
    }
}

fn with(event: &Document, field: &str, value: impl Into<Bson>) -> Document {
    let mut event = event.clone();
    event.insert(field, value);
    event
}

fn without(event: &Document, field: &str) -> Document {
    let mut event = event.clone();
    event.remove(field);
    event
}

#[test]
fn every_sort_of_event_is_taken() {
    for operation in ["insert", "update", "replace", "delete"] {
        check(bytes(&event(operation, 1, 5))).unwrap();
    }
    let ns = doc! { "db": "shop", "coll": "orders" };
    for operation in [
        "drop",
        "create",
        "createIndexes",
        "modify",
        "shardCollection",
    ] {
        let event = doc! { "_id": 1, "operationType": operation, "ns": ns.clone() };
        check(bytes(&event)).unwrap();
    }
    let rename =
        doc! { "_id": 1, "operationType": "rename", "ns": ns, "to": { "db": "a", "coll": "b.c" } };
    check(bytes(&rename)).unwrap();
    check(bytes(
        &doc! { "_id": 1, "operationType": "dropDatabase", "ns": { "db": "shop" } },
    ))
    .unwrap();
    check(bytes(&doc! { "_id": 1, "operationType": "invalidate" })).unwrap();
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    is_wrong(
        &doc! { "hello": "world" },
        &["no `_id`", "no `operationType`"],
    );
    is_wrong(
        &doc! { "_id": null, "operationType": "insert", "clusterTime": 5, "wallTime": "now" },
        &[
            "no `_id`",
            "`clusterTime` is not a timestamp",
            "`wallTime` is not a date",
            "`ns` is not a document",
            "`documentKey` is not a document with `_id`",
            "no `fullDocument`",
        ],
    );
    let insert = event("insert", 1, 5);
    is_wrong(&with(&insert, "operationType", "upsert"), &["`upsert`"]);
    is_wrong(
        &with(&insert, "ns", doc! { "db": "a/b", "coll": "" }),
        &["`ns.db`", "`ns.coll`"],
    );
    let long = doc! { "db": "shop", "coll": "x".repeat(251) };
    is_wrong(&with(&insert, "ns", long), &["longer than 255 bytes"]);
    is_wrong(
        &with(&insert, "fullDocument", doc! { "n": 1 }),
        &["`fullDocument` has no `_id`"],
    );
    is_wrong(
        &with(&insert, "fullDocument", doc! { "_id": 2 }),
        &["`fullDocument._id` is not `documentKey._id`"],
    );
    is_wrong(
        &with(&insert, "fullDocument", Bson::Null),
        &["`fullDocument` is not a document"],
    );
    let fragment = doc! { "fragment": 1, "of": 2 };
    is_wrong(&with(&insert, "splitEvent", fragment), &["fragment"]);
    is_wrong(
        &with(&insert, "updateDescription", "x"),
        &["`updateDescription`"],
    );
    let rename = doc! { "_id": 1, "operationType": "rename", "ns": { "db": "a", "coll": "b" } };
    is_wrong(&rename, &["`to` is not a document"]);
}

#[test]
fn an_update_comes_with_its_document() {
    let update = event("update", 1, 5);
    is_wrong(&without(&update, "fullDocument"), &["full_document: true"]);
    // It had been deleted when it was looked up.
    check(bytes(&with(&update, "fullDocument", Bson::Null))).unwrap();
}

#[test]
fn numbers_that_mongodb_holds_equal_are_one_key() {
    let insert = event("insert", 1, 5);
    check(bytes(&with(&insert, "documentKey", doc! { "_id": 1_i64 }))).unwrap();
    check(bytes(&with(
        &insert,
        "documentKey",
        doc! { "shard": "a", "_id": 1.0 },
    )))
    .unwrap();
}

#[test]
fn a_field_that_is_there_twice_is_refused() {
    let mut twice = bson::RawDocumentBuf::new();
    for _ in 0..2 {
        twice.append(bson::cstr!("operationType"), "invalidate");
    }
    twice.append(bson::cstr!("_id"), 1);
    let wrong = check(twice.into_bytes().into()).unwrap_err();
    assert_eq!(wrong, ["`operationType` is there more than once"]);
}

#[test]
fn what_is_no_bson_or_too_large_is_refused() {
    let mut cut = bytes(&event("insert", 1, 5)).to_vec();
    let length = cut.len();
    cut[length - 6] = 0x55;
    cut.truncate(length - 1);
    assert!(check(cut.into()).unwrap_err()[0].contains("malformed BSON"));
    let mut deep = doc! {};
    for _ in 0..300 {
        deep = doc! { "d": deep };
    }
    let deep = with(&event("insert", 1, 5), "fullDocument", deep);
    assert!(check(bytes(&deep)).unwrap_err()[0].contains("nested too deeply"));
    let large = doc! { "_id": 1, "text": "x".repeat(17 << 20) };
    is_wrong(
        &with(&event("insert", 1, 5), "fullDocument", large),
        &["the largest event"],
    );
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_checked_without_a_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = check(bytes.into());
    }

    #[test]
    fn an_event_with_a_changed_byte_is_checked_without_a_panic(at in 0..200_usize, byte: u8) {
        let mut changed = bytes(&event("update", 1, 5)).to_vec();
        let at = at % changed.len();
        changed[at] = byte;
        let _ = check(changed.into());
    }
}
