use mongodb::bson::{RawBson, RawDocumentBuf, rawdoc};
use tributary_flow::DocumentError;

use super::Fields;

fn fields(document: &RawDocumentBuf) -> Fields<'_> {
    Fields::unchecked("option", "find", document)
}

#[track_caller]
fn message<T>(result: Result<T, super::Failure>) -> String {
    match result {
        Ok(_) => panic!("nothing is wrong"),
        Err(failure) => DocumentError::from(failure).message,
    }
}

#[test]
fn whole_numbers_may_be_of_any_type() {
    let given = rawdoc! { "a": 5, "b": 5_i64, "c": 5.0, "d": 5.5, "e": -1, "f": "5", "g": 1e300 };
    let given = fields(&given);
    for name in ["a", "b", "c"] {
        assert_eq!(given.whole::<u32>(name).expect("a number"), Some(5));
    }
    for name in ["d", "e", "f", "g"] {
        let told = message(given.whole::<u32>(name));
        assert!(told.contains(name) && told.contains("find"), "{told}");
    }
    assert_eq!(given.whole::<i64>("e").expect("a number"), Some(-1));
    assert_eq!(given.whole::<u32>("z").expect("none"), None);
}

#[test]
fn numbers_stand_for_true_and_false() {
    let given = rawdoc! { "a": true, "b": 1, "c": -1_i64, "d": 0.5, "e": false, "f": 0, "g": 0.0, "h": "1", "i": {} };
    let given = fields(&given);
    for (names, expected) in [
        (["a", "b", "c", "d"].as_slice(), true),
        (&["e", "f", "g"], false),
    ] {
        for name in names {
            assert_eq!(
                given.boolean(name).expect("a flag"),
                Some(expected),
                "{name}"
            );
        }
    }
    for name in ["h", "i"] {
        let told = message(given.boolean(name));
        assert_eq!(
            told,
            format!("the option `{name}` of find is neither true nor false")
        );
    }
}

#[test]
fn null_is_as_good_as_nothing() {
    let given = rawdoc! { "a": RawBson::Null, "b": RawBson::Undefined };
    assert!(fields(&given).document("a").expect("none").is_none());
    assert!(fields(&given).boolean("b").expect("none").is_none());
    assert!(message(fields(&given).required("a", None::<i32>)).contains("needs the option `a`"));
}

#[test]
fn an_unknown_one_is_named_with_those_that_are_known() {
    let given = rawdoc! { "limit": 1, "limti": 2 };
    let told = message(fields(&given).checked(&["limit", "skip"]));
    assert_eq!(told, "find has no option `limti`; it has limit, skip");
    assert!(fields(&given).checked(&["limit", "limti"]).is_ok());
}

#[test]
fn a_hint_is_a_name_or_keys_and_a_collation_has_known_fields() {
    let given = rawdoc! { "hint": 1, "collation": { "locale": "de", "strenght": 1 } };
    assert!(message(fields(&given).hint()).contains("neither a name nor a document"));
    assert!(message(fields(&given).collation()).contains("`strenght`"));
    let given = rawdoc! { "hint": "a_1", "collation": { "locale": "de", "strength": 1 } };
    assert!(fields(&given).hint().expect("a hint").is_some());
    assert!(fields(&given).collation().expect("a collation").is_some());
    let given = rawdoc! { "collation": { "strength": 1 } };
    assert!(message(fields(&given).collation()).contains("locale"));
}

#[test]
fn updates_have_operators_and_replacements_have_none() {
    for (given, words) in [
        (rawdoc! { "update": {} }, "must not be empty"),
        (rawdoc! { "update": { "a": 1 } }, "update modifiers"),
        (rawdoc! { "update": 1 }, "neither a document nor a pipeline"),
        (rawdoc! {}, "needs the option `update`"),
        (rawdoc! { "update": [1] }, "no array of documents"),
    ] {
        let told = message(fields(&given).update());
        assert!(told.contains(words), "{told}");
    }
    let given = rawdoc! { "replacement": { "$set": { "a": 1 } } };
    assert!(message(fields(&given).replacement()).contains("update modifiers"));
    let given = rawdoc! { "replacement": {}, "update": [{ "$set": { "a": 1 } }] };
    assert!(fields(&given).replacement().is_ok());
    assert!(fields(&given).update().is_ok());
}
