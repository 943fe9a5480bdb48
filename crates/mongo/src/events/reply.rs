//! Replies of a change stream as batches of whole events.

use std::time::SystemTime;

use bytes::Bytes;
use mongodb::bson::{RawDocument, RawDocumentBuf};
use tributary_flow::{RawEvent, RawEvents};
use tributary_model::Position;

use super::pipeline::{ASIDE, WITHOUT_ID};
use crate::changes::reply::{Fields, ParseError, Progress, events_of, token_behind};

/// The replies of one stream, in order.
pub(super) struct RawReplies {
    progress: Progress,
    is_reduced: bool,
}

impl RawReplies {
    /// The replies of a stream that begins at `position`.
    pub(super) fn new(position: Position, is_reduced: bool) -> Self {
        Self {
            progress: Progress::new(position),
            is_reduced,
        }
    }

    /// The batch of a reply.
    pub(super) fn parse(&mut self, reply: &Bytes) -> Result<RawEvents, ParseError> {
        let root = RawDocument::from_bytes(reply)?;
        let cursor = root.get_document("cursor")?;
        let mut events = Vec::new();
        for event in events_of(cursor)? {
            let event = event?.as_document().ok_or("the event is not a document")?;
            events.push(raw_event(reply, event, self.is_reduced)?);
        }
        let token = match token_behind(cursor)? {
            Some(token) => token,
            None => events
                .last()
                .map(|event: &RawEvent| event.token.as_str())
                .ok_or("the reply has no resume token")?,
        };
        let complete_to = self
            .progress
            .advance(root, Some(token), events.is_empty())?;
        Ok(RawEvents {
            events,
            position: self.progress.position.clone(),
            complete_to,
            present: self.progress.asked_at,
            bytes: reply.len(),
            received: SystemTime::now(),
        })
    }
}

fn raw_event(reply: &Bytes, event: &RawDocument, is_reduced: bool) -> Result<RawEvent, ParseError> {
    let mut fields = Fields::of(event)?;
    let document = match event.get(ASIDE)? {
        Some(aside) => {
            let aside = aside.as_document().ok_or("what was kept is no document")?;
            let token = fields.token;
            fields = Fields::of(aside)?;
            fields.token = token;
            let is_without_id = aside.get_bool(WITHOUT_ID).unwrap_or_default();
            without_aside(event, is_without_id)?
        }
        None => reply.slice_ref(event.as_bytes()),
    };
    let cluster_time = fields.time()?;
    let (database, collection) = match fields.namespace {
        Some(ns) => (
            ns.get_str("db").unwrap_or_default(),
            ns.get_str("coll").ok(),
        ),
        None => ("", None),
    };
    Ok(RawEvent {
        token: fields
            .token
            .ok_or("an event has no resume token")?
            .to_owned(),
        cluster_time,
        wall_time: fields.wall_time(cluster_time),
        operation: fields.operation.ok_or("an event has no type")?.to_owned(),
        database: database.to_owned(),
        collection: collection.map(str::to_owned),
        document,
        is_reduced,
    })
}

/// The event as the stages left it, and as they would have without its token.
fn without_aside(event: &RawDocument, is_without_id: bool) -> Result<Bytes, ParseError> {
    let mut stripped = RawDocumentBuf::new();
    for field in event {
        let (name, value) = field?;
        match name.as_str() {
            ASIDE => {}
            "_id" if is_without_id => {}
            _ => stripped.append(name, value),
        }
    }
    Ok(stripped.into_bytes().into())
}
