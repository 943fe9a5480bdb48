//! Reading a deployment's changes as raw batches of one change stream.

mod fragments;
mod reply;

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::{ReadPreference, SelectionCriteria};
use tokio::sync::mpsc;
use tributary_flow::{ChangeSource, EventBatch, HistoryWindow};
use tributary_model::{ClusterTime, Error, ErrorKind, Namespace, Position, Result};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{BSON_OBJECT_TOO_LARGE, CHANGE_STREAM_FATAL_ERROR};
use crate::snapshot::{MongoSource, reply_bytes};
use crate::updated::{LookupError, look_up};
use reply::Replies;

/// How long the server waits for something to happen before it answers that nothing has.
pub(crate) const IDLE: Duration = Duration::from_secs(1);
/// The same where nothing is read beyond the present. A server that has got there answers what the
/// end waits for; one that has not is asked again so often.
pub(crate) const IDLE_AT_THE_PRESENT: Duration = Duration::from_millis(20);
/// How long an answer is waited for at most. A server that reads through millions of changes of
/// other collections is silent for minutes; the driver itself notices a server that is gone.
const SILENCE: Duration = Duration::from_secs(15 * 60);
/// The most events of a batch. The server ends one at 16 MB by itself.
const BATCH_EVENTS: u32 = 5_000;

/// What is known of the deployment since it was last asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Server {
    version: [i32; 3],
    /// The id of the replica set or the sharded cluster, where the user may read it.
    deployment: Option<String>,
}

impl Server {
    /// Whether it tells of more than documents: version 6.0 and later.
    fn tells_more(&self) -> bool {
        self.version >= [6, 0, 0]
    }

    /// Whether it can split events that are too large.
    fn splits_events(&self) -> bool {
        let of_6_0 = self.version[..2] == [6, 0] && self.version[2] >= 9;
        of_6_0 || self.version >= [7, 0, 0]
    }
}

/// How much of an event is asked for. An event with everything may be larger than the server can
/// send; it fails its whole batch then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// Everything.
    All,
    /// Everything, in batches of one event: those before the one that is too large still come.
    OneByOne,
    /// One event without the document before it and the description of the update.
    WithoutImages,
    /// One event without any document, which is looked up.
    KeyOnly,
}

impl Detail {
    /// What is tried when this was too much.
    fn less(self) -> Option<Self> {
        match self {
            Self::All => Some(Self::OneByOne),
            Self::OneByOne => Some(Self::WithoutImages),
            Self::WithoutImages => Some(Self::KeyOnly),
            Self::KeyOnly => None,
        }
    }

    /// The most events of a batch, and after how many everything is asked for again.
    fn events(self) -> (u32, Option<usize>) {
        match self {
            Self::All => (BATCH_EVENTS, None),
            // The one that was too large is among so many.
            Self::OneByOne => (1, Some(BATCH_EVENTS as usize)),
            Self::WithoutImages | Self::KeyOnly => (1, Some(1)),
        }
    }

    fn is_reduced(self) -> bool {
        matches!(self, Self::WithoutImages | Self::KeyOnly)
    }
}

/// Why reading has ended without a failure.
enum Read {
    /// Nobody listens any more, or the stream was invalidated.
    Ended,
    /// As many events were passed as were to be read in this way.
    Passed,
}

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
        let server = self.ask_server().await?;
        *self.server() = server.clone();
        let cluster_time = ClusterTime::new(time.time, time.increment);
        self.read_behind(cluster_time);
        Ok(Position {
            deployment: server.deployment,
            stream: Some(self.stream_id()),
            ..Position::at(cluster_time)
        })
    }

    async fn follow(&self, from: &Position, out: mpsc::Sender<EventBatch>) -> Result<()> {
        self.check_deployment(from).await?;
        let stream = self.stream_id();
        let mut reached = match from.stream.as_ref() == Some(&stream) {
            true => from.clone(),
            // The token may be of an event that is not among those that are selected now. The time
            // will do: what has been passed is known by the tables.
            false => from.without_token(),
        };
        reached.stream = Some(stream);
        reached.deployment = self.server().deployment.clone();
        let mut detail = Detail::All;
        loop {
            let failure = match self.read_changes(&mut reached, detail, &out).await {
                Ok(Read::Ended) => return Ok(()),
                Ok(Read::Passed) => {
                    detail = Detail::All;
                    continue;
                }
                Err(failure) => failure,
            };
            detail = match (&failure, detail.less()) {
                (ReadFailure::TooLarge(_), Some(less)) => less,
                _ => return Err(failure.told(self)),
            };
        }
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
    TokenNotFound(mongodb::error::Error),
    /// An event is larger than the server can send.
    TooLarge(mongodb::error::Error),
    Driver(mongodb::error::Error),
    Told(Error),
}

impl ReadFailure {
    fn of(error: mongodb::error::Error) -> Self {
        let mongodb::error::ErrorKind::Command(command) = error.kind.as_ref() else {
            return Self::Driver(error);
        };
        match command.code {
            CHANGE_STREAM_FATAL_ERROR if command.message.contains("resume token was not found") => {
                Self::TokenNotFound(error)
            }
            BSON_OBJECT_TOO_LARGE => Self::TooLarge(error),
            _ => Self::Driver(error),
        }
    }

    fn told(self, source: &MongoSource) -> Error {
        const WHAT: &str = "cannot read the changes";
        match self {
            Self::TokenNotFound(error) => other_source(
                "the source does not know the event that was read last",
                source,
            )
            .because(error.to_string()),
            Self::TooLarge(error) => Error::new(
                ErrorKind::InvalidData,
                "a change is larger than an event of the change stream can be, even without its documents",
            )
            .on("server", &source.connection.server)
            .because(error.to_string())
            .remedy("its `_id` takes several megabytes: delete that document, and load the collection anew with --overwrite"),
            Self::Driver(error) => source.connection.failed(WHAT, &error),
            Self::Told(error) => error,
        }
    }
}

/// The source is not the one whose changes have been followed so far.
fn other_source(what: &str, source: &MongoSource) -> Error {
    Error::new(ErrorKind::OtherSource, what).on("server", &source.connection.server)
}

impl MongoSource {
    fn server(&self) -> MutexGuard<'_, Server> {
        // Nothing that can panic runs while it is held.
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask_server(&self) -> Result<Server> {
        let build = self
            .connection
            .client
            .database("admin")
            .run_command(doc! { "buildInfo": 1 })
            .selection_criteria(self.connection.read_from.clone())
            .await
            .map_err(|error| self.connection.failed("cannot connect", &error))?;
        let mut version = [0; 3];
        let parts = build.get_array("versionArray").into_iter().flatten();
        for (part, number) in version.iter_mut().zip(parts) {
            *part = number.as_i32().unwrap_or(0);
        }
        Ok(Server {
            version,
            deployment: self.ask_deployment().await,
        })
    }

    /// The id of the replica set or the sharded cluster; none where the user may not read it.
    async fn ask_deployment(&self) -> Option<String> {
        let find = async |database: &str, collection: &str| {
            let collection = self
                .connection
                .client
                .database(database)
                .collection(collection);
            let find = collection
                .find_one(doc! {})
                .selection_criteria(self.connection.read_from.clone());
            let found: Option<Document> = find.await.ok()?;
            found
        };
        let id = |id: &Bson| id.as_object_id().map(|id| id.to_hex());
        if let Some(set) = find("local", "system.replset").await {
            return id(set.get_document("settings").ok()?.get("replicaSetId")?);
        }
        id(find("config", "version").await?.get("clusterId")?)
    }

    /// That it is the deployment that `position` is a place in.
    async fn check_deployment(&self, position: &Position) -> Result<()> {
        let Some(expected) = &position.deployment else {
            return Ok(());
        };
        match self.ask_deployment().await {
            Some(found) if found != *expected => Err(other_source(
                "another deployment answers at the source's address",
                self,
            )),
            _ => Ok(()),
        }
    }

    /// What the stream selects, in short: tokens of streams that select the same are good for one
    /// another.
    fn stream_id(&self) -> String {
        let (database, whole) = self.watched();
        let mut pipeline = self.change_pipeline(doc! {}, whole, Detail::All);
        pipeline.push(doc! { "database": database });
        let text = Bson::from(pipeline).into_canonical_extjson().to_string();
        format!("{:016x}", xxh3_64(text.as_bytes()))
    }

    /// The database that is watched, and whether that means all of them.
    fn watched(&self) -> (&str, bool) {
        match self.connection.database() {
            Some(database) => (database, false),
            None => ("admin", true),
        }
    }

    /// Sends the events behind `position`, and moves it on with them.
    async fn read_changes(
        &self,
        position: &mut Position,
        detail: Detail,
        out: &mpsc::Sender<EventBatch>,
    ) -> Result<Read, ReadFailure> {
        let (database, whole) = self.watched();
        let (batch_events, most_events) = detail.events();
        // Without a first batch the answer comes at once, however much there is to read through.
        let mut cursor = self
            .connection
            .client
            .database(database)
            .run_cursor_command(doc! {
                "aggregate": 1,
                "pipeline": self.change_pipeline(start_of(position), whole, detail),
                "cursor": { "batchSize": 0 },
                "readConcern": { "level": "majority" },
                "comment": "tributary sync",
            })
            .selection_criteria(self.connection.read_from.clone())
            .batch_size(batch_events)
            .max_time(self.idle)
            .batch()
            .await
            .map_err(ReadFailure::of)?;
        let mut replies = Replies::new(position.clone(), detail.is_reduced());
        let mut read: Option<EventBatch> = None;
        let mut events = 0;
        loop {
            if most_events.is_some_and(|most| events >= most) {
                let is_heard = self.pass_on(read.take(), position, out).await?;
                return Ok(if is_heard { Read::Passed } else { Read::Ended });
            }
            // The documents of one batch are looked up while the server puts the next together.
            let next = tokio::time::timeout(SILENCE, cursor.next());
            let (next, passed_on) = tokio::join!(next, self.pass_on(read.take(), position, out));
            if !passed_on? {
                return Ok(Read::Ended);
            }
            let Ok(next) = next else {
                let silent = Error::new(
                    ErrorKind::Unreachable,
                    "the server does not answer any more",
                );
                return Err(self.told(silent));
            };
            let Some(reply) = next else {
                return Ok(Read::Ended);
            };
            let reply = reply_bytes(reply.map_err(ReadFailure::of)?);
            let batch = replies.parse(&reply).map_err(|error| {
                let malformed = Error::new(
                    ErrorKind::InvalidData,
                    "an event of the change stream cannot be read",
                );
                self.told(malformed.because(error))
            })?;
            events += batch.events.len();
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

    /// The stages of the stream that begins as `start` says.
    fn change_pipeline(
        &self,
        start: Document,
        whole_deployment: bool,
        detail: Detail,
    ) -> Vec<Document> {
        let server = self.server().clone();
        let mut stream = start;
        if server.tells_more() {
            // Also events of collections as such, and the UUID of each event's collection.
            stream.insert("showExpandedEvents", true);
        }
        if self.every_version && server.tells_more() {
            stream.insert("fullDocument", "whenAvailable");
            stream.insert("fullDocumentBeforeChange", "whenAvailable");
        }
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
        if detail.is_reduced() {
            pipeline.push(doc! { "$unset": ["fullDocumentBeforeChange", "updateDescription"] });
        } else if !self.every_version {
            // Documents are looked up as a whole. An update of several megabytes would be larger
            // than an event may be.
            pipeline.push(doc! { "$unset": ["updateDescription"] });
        }
        if detail == Detail::KeyOnly {
            pipeline.push(doc! { "$unset": ["fullDocument"] });
        }
        if self.every_version && server.splits_events() {
            pipeline.push(doc! { "$changeStreamSplitLargeEvent": {} });
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

/// Where a stream begins, as its first stage says it.
fn start_of(position: &Position) -> Document {
    match &position.resume_token {
        // Also behind an event that has ended its stream.
        Some(token) => doc! { "startAfter": { "_data": token } },
        None => {
            let time = position.cluster_time;
            let time = mongodb::bson::Timestamp {
                time: time.seconds(),
                increment: time.ordinal(),
            };
            doc! { "startAtOperationTime": time }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Detail, Server};

    #[test]
    fn servers_split_events_from_6_0_9_on() {
        let splits = |version| {
            let server = Server {
                version,
                deployment: None,
            };
            server.splits_events()
        };
        for version in [[5, 0, 31], [6, 0, 0], [6, 0, 8], [6, 3, 9]] {
            assert!(!splits(version), "{version:?}");
        }
        for version in [[6, 0, 9], [6, 0, 24], [7, 0, 0], [8, 2, 1]] {
            assert!(splits(version), "{version:?}");
        }
    }

    #[test]
    fn less_and_less_is_asked_for_until_nothing_is_left_out() {
        let mut detail = Detail::All;
        let mut ways = vec![detail];
        while let Some(less) = detail.less() {
            ways.push(less);
            detail = less;
        }
        assert_eq!(ways.len(), 4);
        // Only what was too large is asked for in part.
        assert!(
            ways.iter()
                .all(|way| !way.is_reduced() || way.events().1 == Some(1))
        );
    }
}
