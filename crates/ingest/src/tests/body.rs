use bson::{Bson, Document};
use bytes::Bytes;
use tributary_convert::extjson::{Mode, write_document};

use super::{bytes, event};
use crate::body::{Form, documents};

fn text(event: &Document, mode: Mode) -> String {
    let mut out = Vec::new();
    write_document(&mut out, &bytes(event), mode).unwrap();
    String::from_utf8(out).unwrap()
}

fn read(form: Form, body: impl Into<Bytes>) -> Vec<Bytes> {
    let read = documents(form, &body.into()).unwrap();
    read.into_iter().map(Result::unwrap).collect()
}

#[test]
fn events_are_the_same_however_they_are_written() {
    let events = [
        event("insert", 1, 5),
        event("update", 2, 6),
        event("delete", 3, 7),
    ];
    let expected: Vec<Bytes> = events.iter().map(bytes).collect();
    for mode in [Mode::Canonical, Mode::Relaxed] {
        let texts: Vec<String> = events.iter().map(|event| text(event, mode)).collect();
        let array = read(Form::Json, format!("[{}]", texts.join(",\n")));
        let lines = read(Form::Lines, format!("{}\r\n\n", texts.join("\n")));
        assert_eq!(array, lines);
        for (text, event) in texts.iter().zip(&array) {
            assert_eq!(read(Form::Json, format!("\n {text}\n")), [event]);
        }
        if mode == Mode::Canonical {
            assert_eq!(array, expected);
        }
    }
    assert_eq!(read(Form::Bson, expected.concat()), expected);
    assert_eq!(read(Form::Json, "[]"), Vec::<Bytes>::new());
}

#[test]
fn dates_and_timestamps_keep_their_types() {
    let json = r#"{"_id": {"_data": "82"}, "clusterTime": {"$timestamp": {"t": 5, "i": 1}},
        "wallTime": {"$date": "2026-01-02T03:04:05.006Z"}, "n": {"$numberDecimal": "1.10"}}"#;
    let read = read(Form::Json, json);
    let document: Document = bson::deserialize_from_slice(&read[0]).unwrap();
    assert_eq!(
        document["clusterTime"],
        Bson::Timestamp(bson::Timestamp {
            time: 5,
            increment: 1
        })
    );
    assert!(
        matches!(document["wallTime"], Bson::DateTime(date) if date.timestamp_millis() == 1_767_323_045_006)
    );
    assert_eq!(document["n"].to_string(), "1.10");
}

#[test]
fn what_is_malformed_is_told_with_its_place() {
    let fault = |form, body: &'static [u8]| documents(form, &Bytes::from_static(body)).unwrap_err();
    assert!(fault(Form::Json, b"{\"a\": ").what.contains("byte 6"));
    assert!(fault(Form::Json, b"").what.contains("expected an object"));
    assert!(fault(Form::Json, b"{} {}").what.contains("malformed"));
    assert!(
        fault(Form::Json, b"{\"a\": \"\xff\"}")
            .what
            .contains("UTF-8")
    );
    let bson = fault(Form::Bson, b"\x05\0\0\0\0\x09\0\0\0\0");
    assert_eq!(bson.index, Some(1));
    let lines = documents(Form::Lines, &Bytes::from_static(b"{}\n{\"a\"}\n{}")).unwrap();
    let wrong: Vec<bool> = lines.iter().map(Result::is_err).collect();
    assert_eq!(wrong, [false, true, false]);
    let array = documents(Form::Json, &Bytes::from_static(b"[{}, 5]")).unwrap();
    assert_eq!(array[1], Err("it is not a document".to_owned()));
}

#[test]
fn media_types_say_the_form() {
    assert_eq!(Form::of(None), Some(Form::Json));
    assert_eq!(
        Form::of(Some("application/json; charset=utf-8")),
        Some(Form::Json)
    );
    assert_eq!(Form::of(Some("Application/EJSON")), Some(Form::Json));
    assert_eq!(Form::of(Some("application/x-ndjson")), Some(Form::Lines));
    assert_eq!(Form::of(Some("application/bson")), Some(Form::Bson));
    assert_eq!(Form::of(Some("text/plain")), None);
}
