//! Replies as a server would make them.

use mongodb::bson::{Bson, Document, Timestamp, doc};

use super::*;

/// A token of this second; those of one second sort by their ends.
fn token(seconds: u32, end: &str) -> String {
    format!("82{seconds:08X}00000001{end}")
}

fn event(seconds: u32, end: &str, fields: Document) -> Document {
    let mut event = doc! { "_id": { "_data": token(seconds, end) } };
    event.extend(fields);
    event
}

fn update(seconds: u32, key: i32) -> Document {
    doc! {
        "operationType": "update",
        "clusterTime": Timestamp { time: seconds, increment: 1 },
        "ns": { "db": "db", "coll": "c" },
        "documentKey": { "_id": key },
    }
}

/// Fragment `fragment` of `of`, with these fields.
fn fragment(seconds: u32, fragment: i32, of: i32, fields: Document) -> Document {
    let mut fields = fields;
    fields.insert("splitEvent", doc! { "fragment": fragment, "of": of });
    event(seconds, &format!("{fragment:02X}"), fields)
}

fn reply(events: Vec<Document>, token: &str) -> Bytes {
    let batch: Vec<Bson> = events.into_iter().map(Bson::Document).collect();
    let cursor = doc! { "nextBatch": batch, "postBatchResumeToken": { "_data": token } };
    let reply = doc! { "cursor": cursor, "operationTime": Timestamp { time: 99, increment: 1 } };
    reply.to_vec().unwrap().into()
}

fn start() -> Position {
    Position {
        resume_token: Some(token(1, "00")),
        stream: Some("stream".to_owned()),
        ..Position::at(ClusterTime::new(1, 1))
    }
}

fn tokens(batch: &EventBatch) -> Vec<&str> {
    batch.events.iter().map(Event::token).collect()
}

fn parsed(replies: &mut Replies, events: Vec<Document>, token: &str) -> EventBatch {
    replies.parse(&reply(events, token)).unwrap()
}

#[test]
fn fragments_become_one_event_with_the_token_of_the_last() {
    let mut replies = Replies::new(start(), false);
    let document = doc! { "_id": 1, "text": "x" };
    let parts = vec![
        event(2, "", update(2, 7)),
        fragment(3, 1, 3, update(3, 1)),
        fragment(3, 2, 3, doc! { "fullDocument": document.clone() }),
        fragment(
            3,
            3,
            3,
            doc! { "updateDescription": { "updatedFields": { "text": "x" } } },
        ),
        event(4, "", update(4, 8)),
    ];
    let batch = parsed(&mut replies, parts, &token(5, ""));
    assert_eq!(tokens(&batch), [token(2, ""), token(3, "03"), token(4, "")]);
    let EventKind::Change(change) = &batch.events[1].kind else {
        panic!("{batch:?}");
    };
    assert_eq!(change.operation, Operation::Update);
    assert_eq!(
        change.document.as_deref(),
        Some(&*document.to_vec().unwrap())
    );
    assert!(change.update.is_some());
    assert_eq!(batch.position.resume_token, Some(token(5, "")));
    assert_eq!(batch.position.stream.as_deref(), Some("stream"));
}

#[test]
fn the_position_waits_for_the_last_fragment() {
    let mut replies = Replies::new(start(), false);
    // Nothing is complete: the stream has not moved.
    let first = fragment(3, 1, 3, update(3, 1));
    let batch = parsed(&mut replies, vec![first], &token(3, "01"));
    assert!(batch.events.is_empty());
    assert_eq!(batch.position, start());
    // Nor does it by an idle reply in between.
    let batch = parsed(&mut replies, Vec::new(), &token(3, "01"));
    assert_eq!(batch.position, start());
    assert!(batch.complete_to < ClusterTime::new(3, 1));
    let second = fragment(3, 2, 3, doc! { "fullDocument": { "_id": 1 } });
    let batch = parsed(&mut replies, vec![second], &token(3, "02"));
    assert_eq!(batch.position, start());
    // The last comes together with the beginning of another.
    let last = fragment(3, 3, 3, doc! { "updateDescription": {} });
    let next = fragment(4, 1, 2, update(4, 2));
    let batch = parsed(&mut replies, vec![last, next], &token(4, "01"));
    assert_eq!(tokens(&batch), [token(3, "03")]);
    assert_eq!(batch.position.resume_token, Some(token(3, "03")));
    assert_eq!(batch.position.cluster_time, ClusterTime::new(3, 1));
    let last = fragment(4, 2, 2, doc! { "fullDocument": { "_id": 2 } });
    let batch = parsed(&mut replies, vec![last], &token(6, ""));
    assert_eq!(tokens(&batch), [token(4, "02")]);
    assert_eq!(batch.position.resume_token, Some(token(6, "")));
}

#[test]
fn a_position_behind_complete_events_stands_before_a_fragment() {
    let mut replies = Replies::new(start(), false);
    // The server's own collection is left out, and has been passed all the same.
    let mut internal = update(2, 1);
    internal.insert("ns", doc! { "db": "db", "coll": "system.views" });
    let parts = vec![event(2, "", internal), fragment(3, 1, 2, update(3, 1))];
    let batch = parsed(&mut replies, parts, &token(3, "01"));
    assert!(batch.events.is_empty());
    assert_eq!(batch.position.resume_token, Some(token(2, "")));
}

#[test]
fn fragments_out_of_order_are_refused() {
    let first = || fragment(3, 1, 3, update(3, 1));
    let cases = [
        vec![fragment(3, 2, 3, update(3, 1))],
        vec![first(), fragment(3, 3, 3, doc! {})],
        vec![first(), first()],
        vec![first(), fragment(3, 2, 4, doc! {})],
        vec![first(), event(4, "", update(4, 1))],
        vec![fragment(3, 1, 0, update(3, 1))],
    ];
    for events in cases {
        let mut replies = Replies::new(start(), false);
        let parsed = replies.parse(&reply(events.clone(), &token(9, "")));
        assert!(parsed.is_err(), "{events:?}");
    }
}

#[test]
fn events_that_were_asked_for_in_part_say_so() {
    for reduced in [false, true] {
        let mut replies = Replies::new(start(), reduced);
        let batch = parsed(
            &mut replies,
            vec![event(2, "", update(2, 1))],
            &token(2, ""),
        );
        let EventKind::Change(change) = &batch.events[0].kind else {
            panic!("{batch:?}");
        };
        assert_eq!(change.reduced, reduced);
    }
}
