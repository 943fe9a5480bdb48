//! What each type looks like in Extended JSON.

use tributary_convert::extjson::{MAX_DEPTH, Mode, parse_document, parse_value, write_document};
use tributary_convert::raw::kind;

use crate::raw::with_value;

fn written(doc: &[u8], mode: Mode) -> String {
    let mut out = Vec::new();
    write_document(&mut out, doc, mode).expect("well-formed");
    String::from_utf8(out).expect("JSON is UTF-8")
}

fn string(text: &[u8]) -> Vec<u8> {
    let length = i32::try_from(text.len() + 1).expect("short");
    [&length.to_le_bytes()[..], text, &[0]].concat()
}

/// Both modes write `value` as told, and canonical text is read back as the same bytes.
fn check(kind: u8, value: &[u8], canonical: &str, relaxed: &str) {
    let doc = with_value(kind, value);
    assert_eq!(
        written(&doc, Mode::Canonical),
        format!("{{\"a\":{canonical}}}")
    );
    assert_eq!(written(&doc, Mode::Relaxed), format!("{{\"a\":{relaxed}}}"));
    assert_eq!(parse_document(&format!("{{\"a\":{canonical}}}")), Ok(doc));
    let parsed = parse_value(canonical).expect("readable");
    assert_eq!((parsed.kind, &parsed.value[..]), (kind, value));
    assert!(parse_value(relaxed).is_ok(), "{relaxed}");
}

fn check_same(kind: u8, value: &[u8], both: &str) {
    check(kind, value, both, both);
}

#[test]
fn integers() {
    for value in [0, 1, -1, i32::MIN, i32::MAX] {
        let canonical = format!("{{\"$numberInt\":\"{value}\"}}");
        check(
            kind::INT32,
            &value.to_le_bytes(),
            &canonical,
            &value.to_string(),
        );
    }
    for value in [0, 1, -1, i64::MIN, i64::MAX] {
        let canonical = format!("{{\"$numberLong\":\"{value}\"}}");
        check(
            kind::INT64,
            &value.to_le_bytes(),
            &canonical,
            &value.to_string(),
        );
    }
}

#[test]
fn doubles() {
    let cases = [
        (1.0, "1.0"),
        (-1.0, "-1.0"),
        (5.0, "5.0"),
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (42.42, "42.42"),
        (1.0001220703125, "1.0001220703125"),
        (1.2345678921232e18, "1.2345678921232e+18"),
        (f64::MAX, "1.7976931348623157e+308"),
        (5e-324, "5e-324"),
        (1e21, "1e+21"),
        (0.1 + 0.2, "0.30000000000000004"),
    ];
    for (value, text) in cases {
        check(
            kind::DOUBLE,
            &value.to_le_bytes(),
            &format!("{{\"$numberDouble\":\"{text}\"}}"),
            text,
        );
    }
    for (value, text) in [
        (f64::NAN, "NaN"),
        (f64::INFINITY, "Infinity"),
        (f64::NEG_INFINITY, "-Infinity"),
    ] {
        check_same(
            kind::DOUBLE,
            &value.to_le_bytes(),
            &format!("{{\"$numberDouble\":\"{text}\"}}"),
        );
    }
    let negative_nan = with_value(kind::DOUBLE, &(-f64::NAN).to_le_bytes());
    assert_eq!(
        written(&negative_nan, Mode::Relaxed),
        r#"{"a":{"$numberDouble":"NaN"}}"#
    );
}

#[test]
fn dates() {
    let cases = [
        (0_i64, "1970-01-01T00:00:00Z"),
        (1_356_351_330_000, "2012-12-24T12:15:30Z"),
        (1_356_351_330_501, "2012-12-24T12:15:30.501Z"),
        (1_356_351_330_500, "2012-12-24T12:15:30.500Z"),
        (1_356_351_330_001, "2012-12-24T12:15:30.001Z"),
        (951_782_400_000, "2000-02-29T00:00:00Z"),
        (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ];
    for (millis, text) in cases {
        let canonical = format!("{{\"$date\":{{\"$numberLong\":\"{millis}\"}}}}");
        let relaxed = format!("{{\"$date\":\"{text}\"}}");
        check(kind::DATE, &millis.to_le_bytes(), &canonical, &relaxed);
        assert_eq!(
            parse_value(&relaxed).expect("a date").value,
            millis.to_le_bytes()
        );
    }
    for millis in [
        -1,
        -284_643_869_501,
        253_402_300_800_000,
        i64::MIN,
        i64::MAX,
    ] {
        let both = format!("{{\"$date\":{{\"$numberLong\":\"{millis}\"}}}}");
        check_same(kind::DATE, &millis.to_le_bytes(), &both);
    }
}

#[test]
fn strings() {
    let cases: &[(&str, &str)] = &[
        ("", r#""""#),
        (
            "ab\0\u{1}\u{7}\u{8}\t\n\u{B}\u{C}\r\u{1F} ",
            r#""ab\u0000\u0001\u0007\b\t\n\u000b\f\r\u001f ""#,
        ),
        (r#"a"b\c/d"#, r#""a\"b\\c/d""#),
        (
            "\u{7F}é\u{2028}\u{2029}☆😀",
            "\"\u{7F}é\u{2028}\u{2029}☆😀\"",
        ),
        ("1234567\"", r#""1234567\"""#),
        ("12345678\"90", r#""12345678\"90""#),
    ];
    for (text, json) in cases {
        check_same(kind::STRING, &string(text.as_bytes()), json);
        check_same(
            kind::CODE,
            &string(text.as_bytes()),
            &format!("{{\"$code\":{json}}}"),
        );
        check_same(
            kind::SYMBOL,
            &string(text.as_bytes()),
            &format!("{{\"$symbol\":{json}}}"),
        );
    }
}

#[test]
fn strings_that_are_not_utf8() {
    let wrapped = r#"{"$invalidUTF8":"Yf9i"}"#;
    check_same(kind::STRING, &string(b"a\xFFb"), wrapped);
    check_same(
        kind::SYMBOL,
        &string(b"a\xFFb"),
        &format!("{{\"$symbol\":{wrapped}}}"),
    );
    let regex = format!("{{\"$regularExpression\":{{\"pattern\":{wrapped},\"options\":\"\"}}}}");
    check_same(kind::REGEX, b"a\xFFb\0\0", &regex);
    let pointer = format!(
        "{{\"$dbPointer\":{{\"$ref\":{wrapped},\"$id\":{{\"$oid\":\"{}\"}}}}}}",
        "00".repeat(12)
    );
    check_same(
        kind::DB_POINTER,
        &[&string(b"a\xFFb")[..], &[0; 12]].concat(),
        &pointer,
    );
    let code = format!("{{\"$code\":{wrapped},\"$scope\":{{}}}}");
    let value = [
        &21_i32.to_le_bytes()[..],
        &string(b"a\xFFbcdef"),
        &[5, 0, 0, 0, 0],
    ]
    .concat();
    check_same(
        kind::CODE_WITH_SCOPE,
        &value,
        &code.replace("Yf9i", "Yf9iY2RlZg=="),
    );

    let odd_name = [&[8, 0, 0, 0, kind::NULL, b'\xFF', 0][..], &[0]].concat();
    assert_eq!(written(&odd_name, Mode::Canonical), "{\"\u{FFFD}\":null}");
}

#[test]
fn single_values() {
    check_same(kind::BOOL, &[1], "true");
    check_same(kind::BOOL, &[0], "false");
    check_same(kind::NULL, &[], "null");
    check_same(kind::UNDEFINED, &[], r#"{"$undefined":true}"#);
    check_same(kind::MIN_KEY, &[], r#"{"$minKey":1}"#);
    check_same(kind::MAX_KEY, &[], r#"{"$maxKey":1}"#);
    let id = [
        0x56, 0xE1, 0xFC, 0x72, 0xE0, 0xC9, 0x17, 0xE9, 0xC4, 0x71, 0x41, 0x61,
    ];
    check_same(
        kind::OBJECT_ID,
        &id,
        r#"{"$oid":"56e1fc72e0c917e9c4714161"}"#,
    );
    let pointer = r#"{"$dbPointer":{"$ref":"b.c","$id":{"$oid":"56e1fc72e0c917e9c4714161"}}}"#;
    check_same(
        kind::DB_POINTER,
        &[&string(b"b.c")[..], &id].concat(),
        pointer,
    );
    let timestamp = [0x2A, 0, 0, 0, 0x15, 0xCD, 0x5B, 0x07];
    check_same(
        kind::TIMESTAMP,
        &timestamp,
        r#"{"$timestamp":{"t":123456789,"i":42}}"#,
    );
    check_same(
        kind::TIMESTAMP,
        &[0xFF; 8],
        r#"{"$timestamp":{"t":4294967295,"i":4294967295}}"#,
    );
}

#[test]
fn binary_data() {
    let both = |base64: &str, subtype: &str| {
        format!("{{\"$binary\":{{\"base64\":\"{base64}\",\"subType\":\"{subtype}\"}}}}")
    };
    check_same(kind::BINARY, b"\0\0\0\0\0", &both("", "00"));
    check_same(kind::BINARY, b"\x02\0\0\0\0\xFF\xFF", &both("//8=", "00"));
    check_same(kind::BINARY, b"\x02\0\0\0\x01\xFF\xFF", &both("//8=", "01"));
    check_same(
        kind::BINARY,
        b"\x06\0\0\0\x02\x02\0\0\0\xFF\xFF",
        &both("//8=", "02"),
    );
    check_same(kind::BINARY, b"\x02\0\0\0\x80\xFF\xFF", &both("//8=", "80"));
    let uuid = b"\x10\0\0\0\x04\x73\xFF\xD2\x64\x44\xB3\x4C\x69\x90\xE8\xE7\xD1\xDF\xC0\x35\xD4";
    check_same(kind::BINARY, uuid, &both("c//SZESzTGmQ6OfR38A11A==", "04"));
    let legacy =
        parse_value(r#"{"$uuid":"73ffd264-44b3-4c69-90e8-e7d1dfc035d4"}"#).expect("a UUID");
    assert_eq!(legacy.value, uuid);
}

#[test]
fn regular_expressions() {
    let both = |pattern: &str, options: &str| {
        format!(
            "{{\"$regularExpression\":{{\"pattern\":\"{pattern}\",\"options\":\"{options}\"}}}}"
        )
    };
    check_same(kind::REGEX, b"\0\0", &both("", ""));
    check_same(kind::REGEX, b"ab/cd\0im\0", &both("ab/cd", "im"));
    check_same(kind::REGEX, b"ab\\\"ab\0\0", &both(r#"ab\\\"ab"#, ""));
    let unsorted = with_value(kind::REGEX, b"abc\0mix\0");
    assert_eq!(
        written(&unsorted, Mode::Canonical),
        format!("{{\"a\":{}}}", both("abc", "imx"))
    );
    assert_eq!(
        parse_value(&both("abc", "mix")).expect("a regex").value,
        b"abc\0imx\0"
    );
}

#[test]
fn containers() {
    check_same(kind::DOCUMENT, &[5, 0, 0, 0, 0], "{}");
    check_same(kind::ARRAY, &[5, 0, 0, 0, 0], "[]");
    check(
        kind::ARRAY,
        b"\x0F\0\0\0\x100\0\x01\0\0\0\x0A1\0\0",
        r#"[{"$numberInt":"1"},null]"#,
        "[1,null]",
    );
    check(
        kind::CODE_WITH_SCOPE,
        b"\x16\0\0\0\x02\0\0\0f\0\x0C\0\0\0\x10x\0\x01\0\0\0\0",
        r#"{"$code":"f","$scope":{"x":{"$numberInt":"1"}}}"#,
        r#"{"$code":"f","$scope":{"x":1}}"#,
    );
    check_same(
        kind::DOCUMENT,
        &with_value(kind::NULL, b""),
        r#"{"a":null}"#,
    );
    check_same(
        kind::CODE_WITH_SCOPE,
        b"\x1B\0\0\0\x01\0\0\0\0\x12\0\0\0\x02$oid\0\x03\0\0\0no\0\0",
        r#"{"$code":"","$scope":{"$oid":"no"}}"#,
    );
    // What resembles a wrapper is written as it is.
    let lookalike = b"\x10\0\0\0\x10$date\0\x05\0\0\0\0";
    assert_eq!(written(lookalike, Mode::Relaxed), r#"{"$date":5}"#);
    assert_eq!(
        parse_document(r#"{"$date":5}"#).as_deref(),
        Ok(&lookalike[..])
    );
}

#[test]
fn decimals() {
    let cases = [
        "0",
        "-0",
        "0E+3",
        "0E-6176",
        "-0.0",
        "0.000001234567890123456789012345678901234",
        "1",
        "1E+3",
        "-0.001",
        "0.000001",
        "1E-7",
        "1.000000000000000000000000000000000E+6144",
        "1E-6176",
        "1234567890123456789012345678901234",
        "9.999999999999999999999999999999999E+6144",
        "12.34",
        "NaN",
        "Infinity",
        "-Infinity",
        "1.05E+3",
        "0.1",
    ];
    for text in cases {
        let json = format!("{{\"$numberDecimal\":\"{text}\"}}");
        let expected: bson::Decimal128 = text.parse().expect("a decimal");
        check_same(kind::DECIMAL128, &expected.bytes(), &json);
    }
    let top = |byte: u8| with_value(kind::DECIMAL128, &[&[0; 15][..], &[byte]].concat());
    for (byte, text) in [
        (0x7E, "NaN"),
        (0xFC, "NaN"),
        (0xF8, "-Infinity"),
        (0x6C, "0"),
    ] {
        let json = written(&top(byte), Mode::Relaxed);
        if text != "0" {
            assert_eq!(json, format!("{{\"a\":{{\"$numberDecimal\":\"{text}\"}}}}"));
        } else {
            assert!(
                json.starts_with("{\"a\":{\"$numberDecimal\":\"0E"),
                "{json}"
            );
        }
    }
}

fn nested(levels: usize, kind: u8) -> Vec<u8> {
    let mut doc = vec![5, 0, 0, 0, 0];
    for _ in 1..levels {
        doc = with_value(kind, &doc);
    }
    doc
}

#[test]
fn nesting_is_limited_the_same_way_in_both_directions() {
    for kind in [kind::DOCUMENT, kind::ARRAY] {
        let deepest = nested(MAX_DEPTH, kind);
        let json = written(&deepest, Mode::Canonical);
        let read = parse_document(&json).expect("deep, but allowed");
        assert_eq!(read.len(), deepest.len());
        let mut out = b"kept".to_vec();
        let error = write_document(&mut out, &nested(MAX_DEPTH + 1, kind), Mode::Relaxed)
            .expect_err("too deep");
        assert_eq!(
            (error.what, error.offset),
            ("nested too deeply", MAX_DEPTH * 7)
        );
        assert_eq!(out, b"kept");
    }
    let text = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    assert!(parse_value(&text(MAX_DEPTH)).is_ok());
    assert_eq!(
        parse_value(&text(MAX_DEPTH + 1))
            .expect_err("too deep")
            .what,
        "nested too deeply"
    );
    assert!(parse_value(&"[".repeat(1_000_000)).is_err());
    assert!(parse_value(&r#"{"$scope":"#.repeat(1_000_000)).is_err());
    assert!(parse_value(&r#"{"$code":"","$scope":"#.repeat(1_000_000)).is_err());
}
