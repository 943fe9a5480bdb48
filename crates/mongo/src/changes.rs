//! Reading a deployment's changes as raw batches of one change stream.

mod deployment;
mod fragments;
pub(crate) mod reading;
pub(crate) mod reply;

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::{Bson, Document, doc};
use tokio::sync::mpsc;
use tributary_flow::{ChangeSource, EventBatch, HistoryWindow};
use tributary_model::{Error, ErrorKind, Namespace, Position, Result};
use xxhash_rust::xxh3::xxh3_64;

use crate::snapshot::MongoSource;
use crate::updated::{LookupError, look_up};
pub(crate) use deployment::Server;
use reading::{Detail, Opening, Read, ReadFailure, next_reply, start_of};
use reply::Replies;

/// How long the server waits for something to happen before it answers that nothing has.
pub(crate) const IDLE: Duration = Duration::from_secs(1);
/// The same where nothing is read beyond the present. A server that has got there answers what the
/// end waits for; one that has not is asked again so often.
pub(crate) const IDLE_AT_THE_PRESENT: Duration = Duration::from_millis(20);

#[async_trait]
impl ChangeSource for MongoSource {
    async fn now(&self) -> Result<Position> {
        let cluster_time = self.connection.present().await?;
        let server = self.connection.ask_server().await?;
        *self.server() = server.clone();
        self.read_behind(cluster_time);
        Ok(Position {
            deployment: server.deployment,
            stream: Some(self.stream_id()),
            ..Position::at(cluster_time)
        })
    }

    async fn follow(&self, from: &Position, out: mpsc::Sender<EventBatch>) -> Result<()> {
        if from.deployment.is_some() {
            let found = self.connection.ask_deployment().await;
            self.connection.check_deployment(from, found.as_deref())?;
        }
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
            detail = match detail.after(&failure) {
                Some(less) => less,
                None => return Err(failure.told(&self.connection)),
            };
        }
    }

    fn selects(&self, collection: &Namespace) -> bool {
        let database = self.connection.database();
        database.is_none_or(|database| database == collection.database)
            && self.selection.includes(&collection.collection)
    }

    async fn window(&self) -> Result<Option<HistoryWindow>> {
        Ok(self.connection.history_window().await)
    }
}

impl MongoSource {
    fn server(&self) -> MutexGuard<'_, Server> {
        // Nothing that can panic runs while it is held.
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
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
        let opening = Opening {
            database,
            collection: None,
            pipeline: self.change_pipeline(start_of(position), whole, detail),
            idle: self.idle,
            detail,
            comment: "tributary sync",
        };
        let mut cursor = opening.open(&self.connection).await?;
        let most_events = detail.events().1;
        let mut replies = Replies::new(position.clone(), detail.is_reduced());
        let mut read: Option<EventBatch> = None;
        let mut events = 0;
        loop {
            if most_events.is_some_and(|most| events >= most) {
                let is_heard = self.pass_on(read.take(), position, out).await?;
                return Ok(if is_heard { Read::Passed } else { Read::Ended });
            }
            // The documents of one batch are looked up while the server puts the next together.
            let next = next_reply(&self.connection, &mut cursor);
            let (next, passed_on) = tokio::join!(next, self.pass_on(read.take(), position, out));
            if !passed_on? {
                return Ok(Read::Ended);
            }
            let Some(reply) = next? else {
                return Ok(Read::Ended);
            };
            let batch = replies
                .parse(&reply)
                .map_err(|error| ReadFailure::malformed(&self.connection, error))?;
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
            pipeline.push(doc! { "$unset": detail.left_out() });
        } else if !self.every_version {
            // Documents are looked up as a whole. An update of several megabytes would be larger
            // than an event may be.
            pipeline.push(doc! { "$unset": ["updateDescription"] });
        }
        if self.every_version && server.splits_events() {
            pipeline.push(doc! { "$changeStreamSplitLargeEvent": {} });
        }
        pipeline
    }
}
