//! Replies of a change stream as batches of events.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use mongodb::bson::{RawArray, RawBsonRef, RawDocument};
use tributary_flow::{Change, Event, EventBatch, EventKind, TransactionId};
use tributary_model::{ClusterTime, Namespace, Operation, Position};

use super::fragments::{Fragments, Joined};
use crate::selection::is_the_servers;

pub(crate) type ParseError = Box<dyn std::error::Error + Send + Sync>;

/// The replies of one stream, in order.
pub(super) struct Replies {
    names: Names,
    fragments: Fragments,
    progress: Progress,
    /// Whether the events lack what makes them too large.
    reduced: bool,
}

impl Replies {
    /// The replies of a stream that begins at `position`.
    pub(super) fn new(position: Position, reduced: bool) -> Self {
        Self {
            names: Names::default(),
            fragments: Fragments::default(),
            progress: Progress::new(position),
            reduced,
        }
    }

    /// The batch of a reply.
    pub(super) fn parse(&mut self, reply: &Bytes) -> Result<EventBatch, ParseError> {
        let root = RawDocument::from_bytes(reply)?;
        let cursor = root.get_document("cursor")?;
        let mut parsed = Vec::new();
        let mut last = None;
        for event in events_of(cursor)? {
            let event = event?.as_document().ok_or("the event is not a document")?;
            let event = match self.fragments.join(event)? {
                Joined::Whole => parse_event(reply, event, &mut self.names)?,
                Joined::Assembled(whole) => {
                    let event = RawDocument::from_bytes(&whole)?;
                    parse_event(&whole, event, &mut self.names)?
                }
                Joined::Incomplete => continue,
            };
            last = Some(event.token.clone());
            // Renames tell of collections that are to be loaded.
            let is_rename = matches!(event.kind, EventKind::Rename { .. });
            if is_rename || !is_the_servers(&event.namespace.collection) {
                parsed.push(event);
            }
        }
        if self.reduced {
            for event in &mut parsed {
                if let EventKind::Change(change) = &mut event.kind {
                    change.reduced = true;
                }
            }
        }
        let are_pending = self.fragments.are_pending();
        let token = match token_behind(cursor)? {
            // It stands behind a fragment: a stream that begins there would lack those before it.
            _ if are_pending => last
                .as_ref()
                .map(|token: &Bytes| std::str::from_utf8(token))
                .transpose()?,
            Some(token) => Some(token),
            None => Some(
                parsed
                    .last()
                    .map(Event::token)
                    .ok_or("the reply has no resume token")?,
            ),
        };
        let nothing_came = parsed.is_empty() && !are_pending;
        let complete_to = self.progress.advance(root, token, nothing_came)?;
        Ok(EventBatch {
            events: parsed,
            position: self.progress.position.clone(),
            complete_to,
            bytes: reply.len(),
            received: SystemTime::now(),
        })
    }
}

/// The events of a reply.
pub(crate) fn events_of(cursor: &RawDocument) -> Result<&RawArray, ParseError> {
    let events = match cursor.get("nextBatch")? {
        Some(batch) => batch,
        None => cursor.get("firstBatch")?.ok_or("no batch in the reply")?,
    };
    Ok(events.as_array().ok_or("the batch is not an array")?)
}

/// The token of the place behind all that a reply tells of.
pub(crate) fn token_behind(cursor: &RawDocument) -> Result<Option<&str>, ParseError> {
    let Some(token) = cursor.get("postBatchResumeToken")? else {
        return Ok(None);
    };
    let token = token
        .as_document()
        .ok_or("the resume token is not a document")?;
    Ok(Some(token.get_str("_data")?))
}

/// How far the replies of one stream have got.
pub(crate) struct Progress {
    /// What the server had told of its present when it was asked for the reply that comes next.
    pub(crate) asked_at: ClusterTime,
    /// Behind the last event that is complete.
    pub(crate) position: Position,
}

impl Progress {
    pub(crate) fn new(position: Position) -> Self {
        Self {
            asked_at: ClusterTime::default(),
            position,
        }
    }

    /// Moves on behind `token` with a reply, and answers up to which moment everything has come.
    pub(crate) fn advance(
        &mut self,
        reply: &RawDocument,
        token: Option<&str>,
        nothing_came: bool,
    ) -> Result<ClusterTime, ParseError> {
        if let Some(token) = token {
            self.position.cluster_time =
                time_of_token(token).ok_or("the resume token holds no time")?;
            self.position.resume_token = Some(token.to_owned());
        }
        let present = match reply.get("operationTime")? {
            Some(RawBsonRef::Timestamp(time)) => ClusterTime::new(time.time, time.increment),
            _ => ClusterTime::default(),
        };
        // A token of a moment may stand before the moment's own events. But where nothing more was
        // found by a server that had been at a moment before, there is nothing more up to it.
        let mut complete_to = ClusterTime(self.position.cluster_time.0.saturating_sub(1));
        if nothing_came {
            complete_to = complete_to.max(self.asked_at);
        }
        self.asked_at = present;
        Ok(complete_to)
    }
}

/// The names of collections that have been met, each kept once.
#[derive(Default)]
struct Names {
    last: Option<Arc<Namespace>>,
    all: HashMap<Namespace, Arc<Namespace>>,
}

impl Names {
    fn get(&mut self, database: &str, collection: &str) -> Arc<Namespace> {
        if let Some(last) = &self.last
            && last.collection == collection
            && last.database == database
        {
            return Arc::clone(last);
        }
        let name = Namespace::new(database, collection);
        let shared = match self.all.get(&name) {
            Some(known) => Arc::clone(known),
            None => {
                let shared = Arc::new(name.clone());
                self.all.insert(name, Arc::clone(&shared));
                shared
            }
        };
        self.last = Some(Arc::clone(&shared));
        shared
    }
}

/// The cluster time at the beginning of a token: the byte that stands for a timestamp, and its
/// eight bytes.
fn time_of_token(token: &str) -> Option<ClusterTime> {
    const TIMESTAMP: &str = "82";
    let digits = token.strip_prefix(TIMESTAMP)?.get(..16)?;
    u64::from_str_radix(digits, 16).ok().map(ClusterTime)
}

/// What events have.
#[derive(Default)]
pub(crate) struct Fields<'a> {
    pub(crate) token: Option<&'a str>,
    pub(crate) operation: Option<&'a str>,
    pub(crate) cluster_time: Option<ClusterTime>,
    pub(crate) wall_time: Option<i64>,
    pub(crate) namespace: Option<&'a RawDocument>,
    to: Option<&'a RawDocument>,
    collection: Option<[u8; 16]>,
    key: Option<&'a RawDocument>,
    document: Option<&'a RawDocument>,
    before: Option<&'a RawDocument>,
    update: Option<&'a RawDocument>,
    session: Option<&'a RawDocument>,
    transaction: Option<i64>,
}

impl<'a> Fields<'a> {
    pub(crate) fn of(event: &'a RawDocument) -> Result<Self, ParseError> {
        let mut fields = Self::default();
        for element in event {
            let (name, value) = element?;
            match (name.as_str(), value) {
                ("_id", RawBsonRef::Document(id)) => fields.token = Some(id.get_str("_data")?),
                ("operationType", RawBsonRef::String(name)) => fields.operation = Some(name),
                ("clusterTime", RawBsonRef::Timestamp(time)) => {
                    fields.cluster_time = Some(ClusterTime::new(time.time, time.increment));
                }
                ("wallTime", RawBsonRef::DateTime(time)) => {
                    fields.wall_time = Some(time.timestamp_millis());
                }
                ("ns", RawBsonRef::Document(ns)) => fields.namespace = Some(ns),
                ("to", RawBsonRef::Document(ns)) => fields.to = Some(ns),
                ("collectionUUID", RawBsonRef::Binary(uuid)) => {
                    fields.collection = uuid.bytes.try_into().ok();
                }
                ("documentKey", RawBsonRef::Document(key)) => fields.key = Some(key),
                ("fullDocument", RawBsonRef::Document(document)) => {
                    fields.document = Some(document);
                }
                ("fullDocumentBeforeChange", RawBsonRef::Document(document)) => {
                    fields.before = Some(document);
                }
                ("updateDescription", RawBsonRef::Document(update)) => {
                    fields.update = Some(update);
                }
                ("lsid", RawBsonRef::Document(session)) => fields.session = Some(session),
                ("txnNumber", value) => {
                    fields.transaction = value.as_i64().or_else(|| value.as_i32().map(i64::from));
                }
                _ => {}
            }
        }
        Ok(fields)
    }

    /// When it happened, by the deployment's clock.
    pub(crate) fn time(&self) -> Result<ClusterTime, ParseError> {
        let told = self.cluster_time.or_else(|| time_of_token(self.token?));
        Ok(told.ok_or("an event has no time")?)
    }

    /// When it happened, in milliseconds since 1970.
    pub(crate) fn wall_time(&self, cluster_time: ClusterTime) -> i64 {
        // Servers before 6.0 tell the second only.
        self.wall_time
            .unwrap_or_else(|| i64::from(cluster_time.seconds()) * 1000)
    }
}

fn parse_event(reply: &Bytes, event: &RawDocument, names: &mut Names) -> Result<Event, ParseError> {
    let fields = Fields::of(event)?;
    let slice = |document: &RawDocument| reply.slice_ref(document.as_bytes());
    let token = fields.token.ok_or("an event has no resume token")?;
    let name = fields.operation.ok_or("an event has no type")?;
    let operation = match name {
        "insert" => Some(Operation::Insert),
        "update" => Some(Operation::Update),
        "replace" => Some(Operation::Replace),
        "delete" => Some(Operation::Delete),
        _ => None,
    };
    let kind = match (operation, name) {
        (Some(operation), _) => EventKind::Change(Change {
            operation,
            key: slice(fields.key.ok_or("a change has no key")?),
            document: fields.document.map(slice),
            looked_up: false,
            before: fields.before.map(slice),
            update: fields.update.map(slice),
            reduced: false,
            transaction: fields
                .session
                .zip(fields.transaction)
                .map(|(session, number)| TransactionId {
                    session: slice(session),
                    number,
                }),
        }),
        (None, "drop") => EventKind::Drop,
        (None, "rename") => {
            let to = fields.to.ok_or("a rename has no new name")?;
            EventKind::Rename {
                to: Namespace::new(to.get_str("db")?, to.get_str("coll")?),
            }
        }
        (None, "dropDatabase") => EventKind::DropDatabase,
        (None, "invalidate") => EventKind::Invalidate,
        (None, other) => EventKind::Other(other.to_owned()),
    };
    let namespace = match fields.namespace {
        Some(ns) => names.get(ns.get_str("db")?, ns.get_str("coll").unwrap_or_default()),
        None => names.get("", ""),
    };
    let cluster_time = fields.time()?;
    Ok(Event {
        namespace,
        collection: fields.collection,
        token: reply.slice_ref(token.as_bytes()),
        cluster_time,
        wall_time: fields.wall_time(cluster_time),
        kind,
    })
}

#[cfg(test)]
mod tests;
