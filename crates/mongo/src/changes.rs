//! Reading a deployment's changes as raw batches of one change stream.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use mongodb::bson::{Document, RawBsonRef, RawDocument, doc};
use mongodb::options::{ReadPreference, SelectionCriteria};
use tokio::sync::mpsc;
use tributary_flow::{
    Change, ChangeSource, Event, EventBatch, EventKind, HistoryWindow, TransactionId,
};
use tributary_model::{ClusterTime, Error, ErrorKind, Namespace, Operation, Position, Result};

use crate::error::CHANGE_STREAM_FATAL_ERROR;
use crate::selection::is_the_servers;
use crate::snapshot::{MongoSource, reply_bytes, whole_number};
use crate::updated::{LookupError, look_up};

/// How long the server waits for something to happen before it answers that nothing has.
const IDLE: Duration = Duration::from_secs(1);
/// How long an answer is waited for at most. A server that reads through millions of changes of
/// other collections is silent for minutes; the driver itself notices a server that is gone.
const SILENCE: Duration = Duration::from_secs(15 * 60);
/// What servers of version 6.0 say of their protocol.
const WIRE_VERSION_6_0: u64 = 17;
/// The most events of a batch. The server ends one at 16 MB by itself.
const BATCH_EVENTS: u32 = 5_000;

#[async_trait]
impl ChangeSource for MongoSource {
    async fn now(&self) -> Result<Position> {
        let reply = self
            .connection
            .client
            .database("admin")
            .run_command(doc! { "ping": 1 })
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .await
            .map_err(|error| self.connection.failed("cannot connect", &error))?;
        let time = reply.get_timestamp("operationTime").map_err(|_| {
            Error::new(ErrorKind::InvalidData, "the server has no change streams")
                .on("server", &self.connection.server)
                .remedy("connect to a replica set or a sharded cluster: a standalone server keeps no history of changes")
        })?;
        let hello = self
            .connection
            .client
            .database("admin")
            .run_command(doc! { "hello": 1 })
            .selection_criteria(self.connection.read_from.clone())
            .await
            .map_err(|error| self.connection.failed("cannot connect", &error))?;
        let wire_version = whole_number(&hello, "maxWireVersion");
        self.is_6_0
            .store(wire_version >= WIRE_VERSION_6_0, Ordering::Relaxed);
        let cluster_time = ClusterTime::new(time.time, time.increment);
        self.read_behind(cluster_time);
        Ok(Position {
            cluster_time,
            resume_token: None,
        })
    }

    async fn follow(&self, from: &Position, out: mpsc::Sender<EventBatch>) -> Result<()> {
        let mut reached = from.clone();
        let result = self.read_changes(&mut reached, &out).await;
        let Err(ReadFailure::TokenNotFound) = result else {
            return result.map_err(|failure| failure.told(self));
        };
        // The event of the token is not among those that are selected now. The time will do: what
        // has been passed is known by the tables.
        let mut from = Position {
            resume_token: None,
            ..reached
        };
        let result = self.read_changes(&mut from, &out).await;
        result.map_err(|failure| failure.told(self))
    }

    fn selects(&self, collection: &Namespace) -> bool {
        let database = self.connection.database();
        database.is_none_or(|database| database == collection.database)
            && self.selection.includes(&collection.collection)
    }

    async fn window(&self) -> Result<Option<HistoryWindow>> {
        Ok(self
            .oplog_bounds()
            .await
            .ok()
            .flatten()
            .map(|(oldest, newest)| HistoryWindow { oldest, newest }))
    }
}

/// Why the changes cannot be read on.
enum ReadFailure {
    /// The stream has no event of that token.
    TokenNotFound,
    Driver(mongodb::error::Error),
    Told(Error),
}

impl ReadFailure {
    fn of(error: mongodb::error::Error) -> Self {
        match error.kind.as_ref() {
            mongodb::error::ErrorKind::Command(command)
                if command.code == CHANGE_STREAM_FATAL_ERROR
                    && command.message.contains("resume token was not found") =>
            {
                Self::TokenNotFound
            }
            _ => Self::Driver(error),
        }
    }

    fn told(self, source: &MongoSource) -> Error {
        const WHAT: &str = "cannot read the changes";
        match self {
            Self::TokenNotFound => Error::new(ErrorKind::HistoryLost, WHAT)
                .on("server", &source.connection.server)
                .because("the server does not know the resume token"),
            Self::Driver(error) => source.connection.failed(WHAT, &error),
            Self::Told(error) => error,
        }
    }
}

impl MongoSource {
    /// Sends the events behind `position`, and moves it on with them.
    async fn read_changes(
        &self,
        position: &mut Position,
        out: &mpsc::Sender<EventBatch>,
    ) -> Result<(), ReadFailure> {
        let (database, whole) = match self.connection.database() {
            Some(database) => (database, false),
            None => ("admin", true),
        };
        // Without a first batch the answer comes at once, however much there is to read through.
        let mut cursor = self
            .connection
            .client
            .database(database)
            .run_cursor_command(doc! {
                "aggregate": 1,
                "pipeline": self.change_pipeline(position, whole),
                "cursor": { "batchSize": 0 },
                "readConcern": { "level": "majority" },
                "comment": "tributary sync",
            })
            .selection_criteria(self.connection.read_from.clone())
            .batch_size(BATCH_EVENTS)
            .max_time(IDLE)
            .batch()
            .await
            .map_err(ReadFailure::of)?;
        let mut names = Names::default();
        // What the server had told of its present when it was asked for the batch that comes.
        let mut asked_at = ClusterTime::default();
        let mut read: Option<EventBatch> = None;
        loop {
            // The documents of one batch are looked up while the server puts the next together.
            let next = tokio::time::timeout(SILENCE, cursor.next());
            let (next, passed_on) = tokio::join!(next, self.pass_on(read.take(), position, out));
            if !passed_on? {
                return Ok(());
            }
            let Ok(next) = next else {
                let silent = Error::new(
                    ErrorKind::Unreachable,
                    "the server does not answer any more",
                );
                return Err(self.told(silent));
            };
            let Some(reply) = next else {
                return Ok(());
            };
            let reply = reply_bytes(reply.map_err(ReadFailure::of)?);
            let (batch, present) = parse_batch(&reply, &mut names, asked_at).map_err(|error| {
                let malformed = Error::new(
                    ErrorKind::InvalidData,
                    "an event of the change stream cannot be read",
                );
                self.told(malformed.because(error))
            })?;
            asked_at = present;
            read = Some(batch);
        }
    }

    /// Sends a batch, its documents looked up, and moves `position` on; false where nobody listens
    /// any more.
    async fn pass_on(
        &self,
        batch: Option<EventBatch>,
        position: &mut Position,
        out: &mpsc::Sender<EventBatch>,
    ) -> Result<bool, ReadFailure> {
        let Some(mut batch) = batch else {
            return Ok(true);
        };
        look_up(&self.connection, &mut batch.events)
            .await
            .map_err(|error| match error {
                LookupError::Driver(error) => ReadFailure::of(error),
                LookupError::Malformed(error) => {
                    let malformed = Error::new(ErrorKind::InvalidData, "a document cannot be read");
                    self.told(malformed.because(error))
                }
            })?;
        *position = batch.position.clone();
        Ok(out.send(batch).await.is_ok())
    }

    fn told(&self, error: Error) -> ReadFailure {
        ReadFailure::Told(error.on("server", &self.connection.server))
    }

    /// Whether the server is of version 6.0 or later, as far as `now` has found.
    fn tells_more(&self) -> bool {
        self.is_6_0.load(Ordering::Relaxed)
    }

    fn change_pipeline(&self, from: &Position, whole_deployment: bool) -> Vec<Document> {
        let mut stream = doc! {};
        if self.tells_more() {
            // Also events of collections as such, and the UUID of each event's collection.
            stream.insert("showExpandedEvents", true);
        }
        if self.every_version && self.tells_more() {
            stream.insert("fullDocument", "whenAvailable");
            stream.insert("fullDocumentBeforeChange", "whenAvailable");
        }
        match &from.resume_token {
            // Also behind an event that has ended its stream.
            Some(token) => stream.insert("startAfter", doc! { "_data": token }),
            None => {
                let time = from.cluster_time;
                let time = mongodb::bson::Timestamp {
                    time: time.seconds(),
                    increment: time.ordinal(),
                };
                stream.insert("startAtOperationTime", time)
            }
        };
        if whole_deployment {
            stream.insert("allChangesForCluster", true);
        }
        let mut pipeline = vec![doc! { "$changeStream": stream }];
        if let Some(names) = self.selection.to_regex() {
            pipeline.push(doc! { "$match": { "$or": [
                { "ns.coll": { "$regex": &names } },
                { "to.coll": { "$regex": &names } },
                { "ns.coll": { "$exists": false } },
            ] } });
        }
        if !self.every_version {
            // Documents are looked up as a whole. An update of several megabytes would be larger
            // than an event may be.
            pipeline.push(doc! { "$unset": ["updateDescription"] });
        }
        pipeline
    }

    /// The first and the last moment that the oplog holds.
    async fn oplog_bounds(
        &self,
    ) -> Result<Option<(ClusterTime, ClusterTime)>, mongodb::error::Error> {
        let oplog = self
            .connection
            .client
            .database("local")
            .collection::<Document>("oplog.rs");
        let mut bounds = Vec::new();
        for direction in [1, -1] {
            let entry = oplog
                .find_one(doc! {})
                .sort(doc! { "$natural": direction })
                .projection(doc! { "ts": 1 })
                .selection_criteria(self.connection.read_from.clone())
                .await?;
            let time = entry.and_then(|entry| entry.get_timestamp("ts").ok());
            bounds.extend(time.map(|t| ClusterTime::new(t.time, t.increment)));
        }
        Ok(match bounds[..] {
            [oldest, newest] => Some((oldest, newest)),
            _ => None,
        })
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

type ParseError = Box<dyn std::error::Error + Send + Sync>;

/// The batch of a reply, and what the server told of its present in it.
fn parse_batch(
    reply: &Bytes,
    names: &mut Names,
    asked_at: ClusterTime,
) -> Result<(EventBatch, ClusterTime), ParseError> {
    let root = RawDocument::from_bytes(reply)?;
    let cursor = root.get_document("cursor")?;
    let events = match cursor.get("nextBatch")? {
        Some(batch) => batch,
        None => cursor.get("firstBatch")?.ok_or("no batch in the reply")?,
    };
    let events = events.as_array().ok_or("the batch is not an array")?;
    let mut parsed = Vec::new();
    for event in events {
        let event = event?.as_document().ok_or("the event is not a document")?;
        let event = parse_event(reply, event, names)?;
        // Renames tell of collections that are to be loaded.
        let is_rename = matches!(event.kind, EventKind::Rename { .. });
        if is_rename || !is_the_servers(&event.namespace.collection) {
            parsed.push(event);
        }
    }
    let token = match cursor.get("postBatchResumeToken")? {
        Some(token) => token
            .as_document()
            .ok_or("the resume token is not a document")?
            .get_str("_data")?,
        None => parsed
            .last()
            .map(Event::token)
            .ok_or("the reply has no resume token")?,
    };
    let position = Position {
        cluster_time: time_of_token(token).ok_or("the resume token holds no time")?,
        resume_token: Some(token.to_owned()),
    };
    let present = match root.get("operationTime")? {
        Some(RawBsonRef::Timestamp(time)) => ClusterTime::new(time.time, time.increment),
        _ => ClusterTime::default(),
    };
    // A token of a moment may stand before the moment's own events. But where nothing more was
    // found by a server that had been at a moment before, there is nothing more up to it.
    let mut complete_to = ClusterTime(position.cluster_time.0.saturating_sub(1));
    if parsed.is_empty() {
        complete_to = complete_to.max(asked_at);
    }
    let batch = EventBatch {
        events: parsed,
        position,
        complete_to,
        bytes: reply.len(),
        received: SystemTime::now(),
    };
    Ok((batch, present))
}

/// The cluster time at the beginning of a token: the byte that stands for a timestamp, and its
/// eight bytes.
fn time_of_token(token: &str) -> Option<ClusterTime> {
    const TIMESTAMP: &str = "82";
    let digits = token.strip_prefix(TIMESTAMP)?.get(..16)?;
    u64::from_str_radix(digits, 16).ok().map(ClusterTime)
}

#[derive(Default)]
struct Fields<'a> {
    token: Option<&'a str>,
    operation: Option<&'a str>,
    cluster_time: Option<ClusterTime>,
    wall_time: Option<i64>,
    namespace: Option<&'a RawDocument>,
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
    fn of(event: &'a RawDocument) -> Result<Self, ParseError> {
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
    let cluster_time = match fields.cluster_time {
        Some(time) => time,
        None => time_of_token(token).ok_or("an event has no time")?,
    };
    Ok(Event {
        namespace,
        collection: fields.collection,
        token: reply.slice_ref(token.as_bytes()),
        cluster_time,
        // Servers before 6.0 tell the second only.
        wall_time: fields
            .wall_time
            .unwrap_or_else(|| i64::from(cluster_time.seconds()) * 1000),
        kind,
    })
}
