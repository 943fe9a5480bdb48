//! The cursor over raw BSON.

use bson::doc;
use tributary_convert::raw::{RawElement, RawElements, kind};

/// The bytes of a document that holds one element named `a`.
pub(crate) fn with_value(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = i32::try_from(value.len() + 8).expect("short");
    [&length.to_le_bytes()[..], &[kind, b'a', 0], value, &[0]].concat()
}

fn outcome(doc: &[u8]) -> Result<Vec<RawElement<'_>>, String> {
    RawElements::new(doc)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| error.to_string())
}

#[test]
fn elements_come_in_order_with_exact_values() {
    let bytes = doc! { "a": 1_i32, "b": "two", "": { "c": [] }, "d": bson::Bson::Null }
        .to_vec()
        .expect("BSON");
    let elements = outcome(&bytes).expect("well-formed");
    let names: Vec<_> = elements.iter().map(|element| element.name).collect();
    assert_eq!(names, [&b"a"[..], b"b", b"", b"d"]);
    assert_eq!(elements[0].as_i32(), Ok(1));
    assert_eq!(elements[0].value, [1, 0, 0, 0]);
    assert_eq!(elements[1].as_string_bytes(), Ok(&b"two"[..]));
    assert_eq!(elements[1].value, b"\x04\0\0\0two\0");
    let inner = outcome(elements[2].as_document().expect("a document")).expect("well-formed");
    assert_eq!(inner[0].kind, kind::ARRAY);
    assert_eq!(elements[3].value, b"");
}

#[test]
fn the_offset_is_where_the_next_element_starts() {
    let bytes = doc! { "a": 1_i32, "b": true }.to_vec().expect("BSON");
    let mut elements = RawElements::new(&bytes).expect("a document");
    let mut offsets = vec![elements.offset()];
    while elements.next().is_some() {
        offsets.push(elements.offset());
    }
    assert_eq!(offsets, [4, 11, 15]);
}

#[test]
fn names_and_strings_need_not_be_utf8() {
    let bytes = [
        &[15, 0, 0, 0, kind::STRING, 0xFF, 0][..],
        &[3, 0, 0, 0, 0xC3, 0x28, 0],
        &[0],
    ]
    .concat();
    let elements = outcome(&bytes).expect("well-formed");
    assert_eq!(elements[0].name, [0xFF]);
    assert_eq!(elements[0].as_string_bytes(), Ok(&[0xC3, 0x28][..]));
}

#[test]
fn what_is_malformed_is_reported_with_its_place() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "byte 0: document of less than 5 bytes"),
        (b"\x05\0\0\0", "byte 0: document of less than 5 bytes"),
        (
            b"\x04\0\0\0\0",
            "byte 0: document length does not match its bytes",
        ),
        (
            b"\xFF\xFF\xFF\xFF\0",
            "byte 0: document length does not match its bytes",
        ),
        (
            b"\x05\0\0\0\0\0",
            "byte 0: document length does not match its bytes",
        ),
        (b"\x05\0\0\0\x01", "byte 4: document without terminator"),
        (b"\x07\0\0\0\0\0\0", "byte 4: unknown element type"),
        (b"\x08\0\0\0\x80a\0\0", "byte 4: unknown element type"),
        (
            b"\x07\0\0\0\x0Aa\0",
            "byte 4: field name without terminator",
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(
            outcome(bytes),
            Err(format!("malformed BSON at {expected}")),
            "{bytes:?}"
        );
    }
}

#[test]
fn values_must_lie_within_their_document() {
    let cases: &[(u8, &[u8], &str)] = &[
        (kind::INT32, b"\0\0\0", "value reaches beyond its document"),
        (
            kind::DOUBLE,
            b"\0\0\0\0",
            "value reaches beyond its document",
        ),
        (
            kind::STRING,
            b"\0\0\0\0",
            "length of the value is too small",
        ),
        (
            kind::STRING,
            b"\xFF\xFF\xFF\xFF",
            "length of the value is too small",
        ),
        (
            kind::STRING,
            b"\xFF\xFF\xFF\x7F",
            "value reaches beyond its document",
        ),
        (kind::STRING, b"\x01\0\0\0x", "value without terminator"),
        (
            kind::DOCUMENT,
            b"\x04\0\0\0",
            "length of the value is too small",
        ),
        (
            kind::DOCUMENT,
            b"\x05\0\0\0\x01",
            "value without terminator",
        ),
        (
            kind::BINARY,
            b"\xFF\xFF\xFF\xFF\0",
            "length of the value is too small",
        ),
        (
            kind::BINARY,
            b"\x02\0\0\0\0x",
            "value reaches beyond its document",
        ),
        (kind::REGEX, b"a\0b", "value reaches beyond its document"),
        (
            kind::DB_POINTER,
            b"\x01\0\0\0\0",
            "value reaches beyond its document",
        ),
        (
            kind::CODE_WITH_SCOPE,
            b"\x0D\0\0\0",
            "length of the value is too small",
        ),
    ];
    for (kind, value, expected) in cases {
        let bytes = with_value(*kind, value);
        assert_eq!(
            outcome(&bytes),
            Err(format!("malformed BSON at byte 4: {expected}")),
            "{kind} {value:?}"
        );
    }
}

#[test]
fn the_inner_length_of_old_binary_data_is_checked() {
    let binary = |value: &[u8]| {
        RawElement {
            kind: kind::BINARY,
            name: b"a",
            value,
        }
        .as_binary()
        .map(|(subtype, bytes)| (subtype, bytes.to_vec()))
    };
    assert_eq!(binary(b"\x02\0\0\0\x00hi"), Ok((0, b"hi".to_vec())));
    assert_eq!(
        binary(b"\x06\0\0\0\x02\x02\0\0\0hi"),
        Ok((2, b"hi".to_vec()))
    );
    for inner in [b"\x03\0\0\0", b"\x01\0\0\0", b"\xFF\xFF\xFF\xFF"] {
        let value = [b"\x06\0\0\0\x02", &inner[..], b"hi"].concat();
        assert!(binary(&value).is_err(), "{inner:?}");
    }
    assert!(binary(b"\x02\0\0\0\x02hi").is_err());
}

#[test]
fn accessors_refuse_other_types() {
    let int = RawElement {
        kind: kind::INT32,
        name: b"a",
        value: &[1, 0, 0, 0],
    };
    assert!(int.as_i64().is_err() && int.as_f64().is_err() && int.as_bool().is_err());
    assert!(
        int.as_string_bytes().is_err() && int.as_document().is_err() && int.as_binary().is_err()
    );
    assert!(
        int.as_object_id().is_err() && int.as_decimal128().is_err() && int.as_timestamp().is_err()
    );
    assert!(
        int.as_regex().is_err()
            && int.as_db_pointer().is_err()
            && int.as_code_with_scope().is_err()
    );
    let two = RawElement {
        kind: kind::BOOL,
        name: b"a",
        value: &[2],
    };
    assert!(two.as_bool().is_err());
}
