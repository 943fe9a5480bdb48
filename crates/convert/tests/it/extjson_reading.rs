//! Extended JSON that this crate does not write, or that is wrong.

use tributary_convert::extjson::{parse_document, parse_value};
use tributary_convert::raw::{RawElements, kind};

fn kind_of(json: &str) -> u8 {
    parse_value(json)
        .unwrap_or_else(|error| panic!("{json}: {error}"))
        .kind
}

#[test]
fn numbers_become_the_smallest_type_that_holds_them() {
    let cases = [
        ("0", kind::INT32),
        ("2147483647", kind::INT32),
        ("-2147483648", kind::INT32),
        ("2147483648", kind::INT64),
        ("9223372036854775807", kind::INT64),
        ("-9223372036854775808", kind::INT64),
        ("9223372036854775808", kind::DOUBLE),
        ("18446744073709551616", kind::DOUBLE),
        ("1.0", kind::DOUBLE),
        ("1e2", kind::DOUBLE),
        ("-0.0", kind::DOUBLE),
        ("-0", kind::INT32),
    ];
    for (json, kind) in cases {
        assert_eq!(kind_of(json), kind, "{json}");
    }
    // The nearest double, where a reader that rounds twice is off by one.
    for text in [
        "8.41888915e-20",
        "1.7339253062092163e-255",
        "9007199254740993.0",
        "0.1",
    ] {
        let expected: f64 = text.parse().expect("a number");
        assert_eq!(
            parse_value(text).expect("a number").value,
            expected.to_le_bytes()
        );
    }
}

#[test]
fn the_order_of_keys_in_a_wrapper_does_not_matter() {
    let pairs = [
        (
            r#"{"$scope":{"x":1},"$code":"f"}"#,
            r#"{"$code":"f","$scope":{"x":1}}"#,
        ),
        (
            r#"{"$timestamp":{"i":1,"t":2}}"#,
            r#"{"$timestamp":{"t":2,"i":1}}"#,
        ),
        (
            r#"{"$binary":{"subType":"2","base64":"AA=="}}"#,
            r#"{"$binary":{"base64":"AA==","subType":"02"}}"#,
        ),
        (
            r#"{"$regularExpression":{"options":"i","pattern":"p"}}"#,
            r#"{"$regularExpression":{"pattern":"p","options":"i"}}"#,
        ),
        (
            r#" { "$oid" : "56E1FC72E0C917E9C4714161" } "#,
            r#"{"$oid":"56e1fc72e0c917e9c4714161"}"#,
        ),
        (
            r#"{"\u0024oid":"56e1fc72e0c917e9c4714161"}"#,
            r#"{"$oid":"56e1fc72e0c917e9c4714161"}"#,
        ),
    ];
    for (odd, usual) in pairs {
        assert_eq!(
            parse_value(odd).expect(odd),
            parse_value(usual).expect(usual)
        );
    }
    let pointer = r#"{"$dbPointer":{"$id":{"$oid":"56e1fc72e0c917e9c4714161"},"$ref":"c"}}"#;
    assert_eq!(kind_of(pointer), kind::DB_POINTER);
}

#[test]
fn dates_may_have_an_offset_and_any_number_of_zeros() {
    let cases = [
        ("2012-12-24T12:15:30.501Z", 1_356_351_330_501),
        ("2012-12-24T12:15:30.501000000Z", 1_356_351_330_501),
        ("2012-12-24T12:15:30.5Z", 1_356_351_330_500),
        ("2012-12-24T13:15:30.501+01:00", 1_356_351_330_501),
        ("2012-12-24T07:15:30.501-0500", 1_356_351_330_501),
        ("2012-12-24T13:15:30+01", 1_356_351_330_000),
        ("1960-12-24T12:15:30.499Z", -284_643_869_501),
        ("0001-01-01T00:00:00Z", -62_135_596_800_000),
    ];
    for (text, millis) in cases {
        let parsed = parse_value(&format!("{{\"$date\":\"{text}\"}}")).expect(text);
        assert_eq!(parsed.value, i64::to_le_bytes(millis), "{text}");
    }
}

#[test]
fn documents_that_only_resemble_wrappers_are_documents() {
    for json in [
        r#"{"$ref":"collection","$id":{"$oid":"56e1fc72e0c917e9c4714161"},"$db":"db"}"#,
        r#"{"$regex":"not-a-regex","$options":"i","$banana":"peel"}"#,
        r#"{"$type":"string"}"#,
        r#"{"$scope":{"a":1}}"#,
        r#"{"$scope":1,"b":2}"#,
        r#"{"$key":{"$numberInt":"42"}}"#,
    ] {
        assert_eq!(kind_of(json), kind::DOCUMENT, "{json}");
    }
    let outermost =
        parse_document(r#"{"$oid":42,"$code":"x","b":{"$numberLong":"1"}}"#).expect("a document");
    let kinds: Vec<_> = RawElements::new(&outermost)
        .expect("a document")
        .map(|e| e.expect("an element").kind)
        .collect();
    assert_eq!(kinds, [kind::INT32, kind::STRING, kind::INT64]);
}

#[test]
fn field_order_and_duplicate_names_are_kept() {
    let doc = parse_document(r#"{"b":1,"a":2,"b":3,"B":4,"":5}"#).expect("a document");
    let elements: Vec<_> = RawElements::new(&doc)
        .expect("a document")
        .map(|e| e.expect("an element"))
        .collect();
    let fields: Vec<_> = elements
        .iter()
        .map(|e| (e.name, e.as_i32().expect("an integer")))
        .collect();
    assert_eq!(
        fields,
        [(&b"b"[..], 1), (b"a", 2), (b"b", 3), (b"B", 4), (b"", 5)]
    );
}

#[test]
fn escapes_are_resolved() {
    let parsed = parse_value(r#""\"\\\/\b\f\n\r\t\u0000\u00E9\ud83d\ude00x""#).expect("a string");
    let text = "\"\\/\u{8}\u{C}\n\r\t\0é😀x";
    assert_eq!(&parsed.value[4..parsed.value.len() - 1], text.as_bytes());
}

#[test]
fn malformed_wrappers_name_their_key() {
    let cases = [
        ("$oid", r#"{"$oid":42}"#),
        ("$oid", r#"{"$oid":"56e1fc72e0c917e9c471416"}"#),
        (
            "$oid",
            r#"{"$oid":"56e1fc72e0c917e9c4714161","unrelated":true}"#,
        ),
        (
            "$oid",
            r#"{"unrelated":true,"$oid":"56e1fc72e0c917e9c4714161"}"#,
        ),
        ("$numberInt", r#"{"$numberInt":42}"#),
        ("$numberInt", r#"{"$numberInt":"2147483648"}"#),
        ("$numberInt", r#"{"$numberInt":"+1"}"#),
        ("$numberInt", r#"{"$numberInt":""}"#),
        ("$numberLong", r#"{"$numberLong":42}"#),
        ("$numberLong", r#"{"$numberLong":"42","unrelated":true}"#),
        ("$numberDouble", r#"{"$numberDouble":42}"#),
        ("$numberDouble", r#"{"$numberDouble":"nan"}"#),
        ("$numberDouble", r#"{"$numberDouble":"1e999"}"#),
        ("$numberDouble", r#"{"$numberDouble":""}"#),
        ("$numberDecimal", r#"{"$numberDecimal":42}"#),
        ("$numberDecimal", r#"{"$numberDecimal":""}"#),
        ("$numberDecimal", r#"{"$numberDecimal":"1.2.3"}"#),
        ("$numberDecimal", r#"{"$numberDecimal":"."}"#),
        ("$numberDecimal", r#"{"$numberDecimal":"E01"}"#),
        ("$numberDecimal", r#"{"$numberDecimal":"1E"}"#),
        ("$numberDecimal", r#"{"$numberDecimal":"1E+6145"}"#),
        ("$numberDecimal", r#"{"$numberDecimal":"1E-6177"}"#),
        (
            "$numberDecimal",
            r#"{"$numberDecimal":"12345678901234567890123456789012345"}"#,
        ),
        ("$binary", r#"{"$binary":0,"$type":"00"}"#),
        ("$binary", r#"{"$binary":{"base64":"//8","subType":"00"}}"#),
        ("$binary", r#"{"$binary":{"base64":"","subType":"000"}}"#),
        ("$binary", r#"{"$binary":{"base64":"","subType":0}}"#),
        ("$binary", r#"{"$binary":{"base64":""}}"#),
        ("$binary", r#"{"$binary":{}}"#),
        (
            "$binary",
            r#"{"$binary":{"base64":"","base64":"","subType":"00"}}"#,
        ),
        ("$uuid", r#"{"$uuid":"73ffd26444b34c6990e8e7d1dfc035d4"}"#),
        ("$uuid", r#"{"$uuid":{"data":"x"}}"#),
        ("$code", r#"{"$code":42}"#),
        ("$code", r#"{"$code":"","unrelated":true}"#),
        ("$code", r#"{"$code":"","$scope":42}"#),
        ("$code", r#"{"$scope":42,"$code":""}"#),
        ("$code", r#"{"$code":"","$scope":{},"unrelated":true}"#),
        ("$timestamp", r#"{"$timestamp":42}"#),
        ("$timestamp", r#"{"$timestamp":{"t":"1","i":42}}"#),
        ("$timestamp", r#"{"$timestamp":{"t":-1,"i":42}}"#),
        ("$timestamp", r#"{"$timestamp":{"t":1.0,"i":42}}"#),
        ("$timestamp", r#"{"$timestamp":{"t":4294967296,"i":42}}"#),
        ("$timestamp", r#"{"$timestamp":{"t":1}}"#),
        (
            "$timestamp",
            r#"{"$timestamp":{"t":1,"i":2,"unrelated":3}}"#,
        ),
        (
            "$regularExpression",
            r#"{"$regularExpression":{"pattern":42,"options":""}}"#,
        ),
        (
            "$regularExpression",
            r#"{"$regularExpression":{"pattern":"a"}}"#,
        ),
        ("$date", r#"{"$date":42}"#),
        ("$date", r#"{"$date":{"$numberInt":"1"}}"#),
        ("$date", r#"{"$date":"2012-12-24"}"#),
        ("$date", r#"{"$date":"2011-02-29T00:00:00Z"}"#),
        ("$date", r#"{"$date":"2012-12-24T24:00:00Z"}"#),
        ("$date", r#"{"$date":"2012-12-24T12:15:30.5011Z"}"#),
        ("$date", r#"{"$date":"2012-12-24T12:15:30"}"#),
        ("$date", r#"{"$date":"2012-12-24T12:15:30.Z"}"#),
        ("$date", r#"{"$date":{"$numberLong":"1"},"unrelated":true}"#),
        ("$minKey", r#"{"$minKey":true}"#),
        ("$minKey", r#"{"$minKey":0}"#),
        ("$minKey", r#"{"$minKey":1,"unrelated":true}"#),
        ("$maxKey", r#"{"$maxKey":"1"}"#),
        ("$maxKey", r#"{"$maxKey":10}"#),
        ("$undefined", r#"{"$undefined":false}"#),
        ("$symbol", r#"{"$symbol":1}"#),
        (
            "$dbPointer",
            r#"{"$dbPointer":{"a":1,"$id":{"$oid":"56e1fc72e0c917e9c4714161"},"$ref":"b"}}"#,
        ),
        (
            "$dbPointer",
            r#"{"$dbPointer":{"$ref":"b","$id":"56e1fc72e0c917e9c4714161"}}"#,
        ),
        ("$invalidUTF8", r#"{"$invalidUTF8":"%"}"#),
    ];
    for (key, json) in cases {
        let error = parse_value(json).expect_err(json);
        assert_eq!(error.key, Some(key), "{json}: {error}");
        assert!(
            parse_document(&format!("{{\"a\":{json}}}")).is_err(),
            "{json}"
        );
    }
}

#[test]
fn malformed_json_is_refused() {
    for json in [
        "",
        " ",
        "nul",
        "nullx",
        "True",
        "{",
        "}",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "1 2",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "0x1",
        "NaN",
        "Infinity",
        "1e999",
        "\"",
        "\"a\nb\"",
        r#""\x""#,
        r#""\u12""#,
        r#""\u12g4""#,
        r#""\u+123""#,
        r#""\ud800""#,
        r#""\udc00""#,
        r#""\ud800\u0041""#,
        r#"{"a\u0000b":1}"#,
        r#"{"$regularExpression":{"pattern":"\u0000","options":""}}"#,
        "\u{FEFF}1",
        "{}{}",
        "[1 2]",
    ] {
        assert!(parse_value(json).is_err(), "{json}");
    }
    let error = parse_value("[1, 2, x]").expect_err("not JSON");
    assert_eq!(
        error.to_string(),
        "malformed extended JSON at byte 7: expected a value"
    );
    let error = parse_value(r#"{"$oid":"x"}"#).expect_err("not an ObjectId");
    assert_eq!(
        error.to_string(),
        "malformed extended JSON at byte 11: $oid: not 24 hexadecimal digits"
    );
    assert!(parse_document("[]").is_err());
    assert!(parse_document("1").is_err());
}
