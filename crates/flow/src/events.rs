//! The events of a change stream as they are, for those who want them whole.

use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tributary_model::{ClusterTime, Namespace, Position, Result};

use crate::changes::HistoryWindow;

/// What is watched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Watch {
    /// The database; none for the whole deployment.
    pub database: Option<String>,
    /// The collection; none for all of the database.
    pub collection: Option<String>,
    /// Of these, the events that are wanted: those that one of them takes; all where there are none.
    pub wanted: Vec<WantedEvents>,
    /// Stages behind `$changeStream`, each a document of raw BSON. None of them takes `_id`,
    /// `operationType`, `ns`, `clusterTime` and `wallTime` away, or a [`ProjectedEvent`](Self::is_projected)
    /// keeps them.
    pub stages: Vec<Bytes>,
    /// Whether the last stage is a projection that may take away what is needed of each event. The source
    /// keeps that aside then.
    pub is_projected: bool,
    /// Whether updates come with the document as it is when they are read.
    pub full_document: bool,
    /// Whether events come with the document before the change, where the server keeps it.
    pub before_change: bool,
    /// Whether events beyond those of documents come too: `create`, `modify`, `createIndexes`, …
    pub expanded: bool,
}

/// Events that somebody wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WantedEvents {
    /// Of which database; none for any.
    pub database: Option<String>,
    /// Of which collection; none for any.
    pub collection: Option<String>,
    /// Their `operationType`s.
    pub operations: Vec<String>,
}

impl WantedEvents {
    /// Whether an event is one of them.
    #[must_use]
    pub fn takes(&self, event: &RawEvent) -> bool {
        let database = self.database.as_deref();
        let collection = self.collection.as_deref();
        database.is_none_or(|name| name == event.database)
            && collection.is_none_or(|name| event.collection.as_deref() == Some(name))
            && self.operations.contains(&event.operation)
    }
}

/// One event.
#[derive(Debug, Clone)]
pub struct RawEvent {
    /// The `_data` of its resume token.
    pub token: String,
    /// When it happened, by the deployment's clock.
    pub cluster_time: ClusterTime,
    /// When it happened, by the server's wall clock, in milliseconds since 1970.
    pub wall_time: i64,
    /// Its `operationType`.
    pub operation: String,
    /// The database that it is about; empty where it is about none.
    pub database: String,
    /// The collection, where it is about one.
    pub collection: Option<String>,
    /// The whole event as raw BSON, its `_id` included, as the stages left it.
    pub document: Bytes,
    /// Whether it was too large with everything, and came without `updateDescription` and
    /// `fullDocumentBeforeChange`, or even without `fullDocument`.
    pub is_reduced: bool,
}

impl RawEvent {
    /// The collection that it is about; what is about a whole database has an empty collection name.
    #[must_use]
    pub fn namespace(&self) -> Namespace {
        Namespace::new(
            self.database.as_str(),
            self.collection.as_deref().unwrap_or_default(),
        )
    }

    /// The position behind it, in the stream that `other` is a position of.
    #[must_use]
    pub fn position(&self, other: &Position) -> Position {
        Position {
            cluster_time: self.cluster_time,
            resume_token: Some(self.token.clone()),
            ..other.clone()
        }
    }
}

/// Events as they came off the wire together, in the order of the stream.
#[derive(Debug, Clone)]
pub struct RawEvents {
    /// The events; none where the stream was idle.
    pub events: Vec<RawEvent>,
    /// How far the stream has got with them.
    pub position: Position,
    /// Everything up to this moment has been passed on.
    pub complete_to: ClusterTime,
    /// Where the deployment was when it sent them: what is written after they have been received is behind it.
    pub present: ClusterTime,
    /// Bytes of the server's reply.
    pub bytes: usize,
    /// When they were received.
    pub received: SystemTime,
}

/// A deployment whose events can be followed.
///
/// Order: that of the deployment. Duplicates: where a place is not known any more, all events of its moment come
/// again; by its token, whoever follows knows what had come before.
#[async_trait]
pub trait EventSource: Send + Sync {
    /// Where it is, without credentials.
    fn place(&self) -> &str;

    /// Where the deployment is now: behind everything that was acknowledged before this call, and before
    /// everything that is begun after it.
    async fn now(&self) -> Result<Position>;

    /// Sends the events behind `from` to `out`, batch by batch and without end; an idle stream sends
    /// batches without events. Returns without an error when `out` is closed, or behind an event
    /// `invalidate`, with which the stream of a collection or database that is gone ends; following can
    /// go on from that event's position.
    ///
    /// # Errors
    /// As [`ChangeSource::follow`](crate::ChangeSource::follow).
    async fn follow(
        &self,
        watch: &Watch,
        from: &Position,
        out: mpsc::Sender<RawEvents>,
    ) -> Result<()>;

    /// How far back the deployment remembers; none where the user may not know.
    async fn window(&self) -> Result<Option<HistoryWindow>>;
}
