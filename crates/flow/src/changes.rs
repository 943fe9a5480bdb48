//! What a source of changes and a sink that follows them promise each other.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tributary_model::{ClusterTime, Gap, GapRemedy, Namespace, Operation, Position, Result};

/// One change of one document. Documents are raw BSON, slices of the server's reply.
#[derive(Debug, Clone)]
pub struct Change {
    /// What it does.
    pub operation: Operation,
    /// The `documentKey`: `_id`, and before it the shard key where there is one.
    pub key: Bytes,
    /// The document after the change. None for a delete, and for an update whose document had been
    /// deleted when the server looked it up: its delete comes later.
    pub document: Option<Bytes>,
    /// The document was looked up after the change, and may be of a later one.
    pub looked_up: bool,
    /// The document before the change, where the server keeps it.
    pub before: Option<Bytes>,
    /// The `updateDescription` of an update.
    pub update: Option<Bytes>,
    /// The event was too large with everything: it came without the document before the change and
    /// the description of the update.
    pub reduced: bool,
    /// The transaction it was part of.
    pub transaction: Option<TransactionId>,
}

/// A transaction: its session and its number in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionId {
    /// The `lsid`, as raw BSON.
    pub session: Bytes,
    /// The `txnNumber`.
    pub number: i64,
}

/// One event of a change stream.
#[derive(Debug, Clone)]
pub struct Event {
    /// The collection; for events of a whole database, an empty collection name.
    pub namespace: Arc<Namespace>,
    /// The UUID of the collection, where the server tells it: one that is dropped and created again
    /// is another.
    pub collection: Option<[u8; 16]>,
    /// The `_data` of its resume token.
    pub token: Bytes,
    /// When it happened, by the deployment's clock.
    pub cluster_time: ClusterTime,
    /// When it happened, by the server's wall clock, in milliseconds since 1970.
    pub wall_time: i64,
    /// What happened.
    pub kind: EventKind,
}

/// What an event is about.
#[derive(Debug, Clone)]
pub enum EventKind {
    /// A document.
    Change(Change),
    /// The collection was dropped.
    Drop,
    /// The collection has another name now.
    Rename {
        /// The new name.
        to: Namespace,
    },
    /// The database was dropped, after all its collections.
    DropDatabase,
    /// The stream has ended, because what it watched is gone; a new one can begin behind it. The
    /// stream of a database ends with the database; that of a deployment never does.
    Invalidate,
    /// Something this version knows nothing of, by the server's name for it.
    Other(String),
}

impl Event {
    /// The token as text.
    #[must_use]
    pub fn token(&self) -> &str {
        // Only hexadecimal digits are ever put there.
        std::str::from_utf8(&self.token).unwrap_or_default()
    }

    /// The position right behind it, in the same stream as `other`.
    #[must_use]
    pub fn position(&self, other: &Position) -> Position {
        Position {
            cluster_time: self.cluster_time,
            resume_token: Some(self.token().to_owned()),
            ..other.clone()
        }
    }

    /// The name that change streams give it.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.kind {
            EventKind::Change(change) => change.operation.name(),
            EventKind::Drop => "drop",
            EventKind::Rename { .. } => "rename",
            EventKind::DropDatabase => "dropDatabase",
            EventKind::Invalidate => "invalidate",
            EventKind::Other(name) => name,
        }
    }

    /// Whether it is about its collection as a whole, which is not what it was behind it.
    #[must_use]
    pub fn ends_collection(&self) -> bool {
        matches!(
            self.kind,
            EventKind::Drop | EventKind::Rename { .. } | EventKind::DropDatabase
        )
    }
}

/// Events as they came off the wire together, in the order of the stream.
#[derive(Debug, Clone)]
pub struct EventBatch {
    /// The events; none where the stream was idle.
    pub events: Vec<Event>,
    /// How far the stream has got with this batch. Behind its last event, or later.
    pub position: Position,
    /// Everything up to this moment is in this batch or was in an earlier one.
    pub complete_to: ClusterTime,
    /// Bytes of the server's reply, which the events keep in memory.
    pub bytes: usize,
    /// When the batch was received.
    pub received: SystemTime,
}

/// How far back the deployment remembers its changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryWindow {
    /// The oldest moment that a stream can begin with.
    pub oldest: ClusterTime,
    /// The newest.
    pub newest: ClusterTime,
}

/// A deployment whose changes can be followed.
///
/// Order: events come in the deployment's order; those of one document never change places.
/// Duplicates: an event comes once in each call of `follow`.
#[async_trait]
pub trait ChangeSource: Send + Sync {
    /// Where the deployment is now. Everything that was acknowledged before this call is at or
    /// before it, and snapshots that are read after it show all of that. Its `stream` and
    /// `deployment` are those of the positions that come from here.
    async fn now(&self) -> Result<Position>;

    /// Sends the events behind `from` to `out`, batch by batch and without end; an idle stream
    /// sends batches without events. Returns without an error when `out` is closed, or behind an
    /// [`EventKind::Invalidate`].
    ///
    /// # Errors
    /// After a transient error following can go on from the last batch's position. An error of
    /// kind [`HistoryLost`](tributary_model::ErrorKind::HistoryLost) says that the deployment does
    /// not remember what comes behind the last batch's position, or `from`, any more; one of kind
    /// [`OtherSource`](tributary_model::ErrorKind::OtherSource), that it never was there.
    async fn follow(&self, from: &Position, out: mpsc::Sender<EventBatch>) -> Result<()>;

    /// Whether a collection's changes are among those that are followed.
    fn selects(&self, collection: &Namespace) -> bool;

    /// How far back the deployment remembers; none where the user may not know.
    async fn window(&self) -> Result<Option<HistoryWindow>>;
}

/// Changes of one collection that are applied together, in order.
#[derive(Debug, Clone)]
pub struct ChangeBatch {
    /// The changes, each with the event it came with. Where something happened to the collection
    /// as a whole ([`Event::ends_collection`]), that is the last of them.
    pub changes: Vec<Event>,
    /// Whether that last event leaves nothing in the table.
    pub clears: bool,
    /// How far the stream had got: everything of this collection up to here is in this batch or in
    /// an earlier one.
    pub position: Position,
}

/// What came of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Documents written, new ones and new versions.
    pub upserted: u64,
    /// Documents gone.
    pub deleted: u64,
    /// Values that went to `_rescued_data`.
    pub rescued: u64,
    /// Bytes written.
    pub bytes: u64,
    /// What it took.
    pub stages: Stages,
}

/// What the stages of applying changes took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stages {
    /// Appending every version to the history, all of it.
    pub history: Duration,
    /// Decoding documents into columns.
    pub decode: Duration,
    /// Writing the file of new rows, and files again whose columns widen.
    pub write: Duration,
    /// Finding the old rows.
    pub find: Duration,
    /// Committing.
    pub commit: Duration,
    /// Recording where the new rows are.
    pub record: Duration,
}

impl Stages {
    /// Each with its name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        [
            ("history", self.history),
            ("decode", self.decode),
            ("write", self.write),
            ("find", self.find),
            ("commit", self.commit),
            ("record", self.record),
        ]
        .into_iter()
    }
}

impl std::ops::AddAssign for Stages {
    fn add_assign(&mut self, other: Self) {
        self.history += other.history;
        self.decode += other.decode;
        self.write += other.write;
        self.find += other.find;
        self.commit += other.commit;
        self.record += other.record;
    }
}

/// Measures stages that come one after the other.
#[derive(Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// The first stage begins.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// What the stage took that ends now; the next one begins.
    pub fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now - std::mem::replace(&mut self.0, now)
    }
}

impl std::ops::AddAssign for Applied {
    fn add_assign(&mut self, other: Self) {
        self.upserted += other.upserted;
        self.deleted += other.deleted;
        self.rescued += other.rescued;
        self.bytes += other.bytes;
        self.stages += other.stages;
    }
}

/// Tables that follow collections.
#[async_trait]
pub trait ChangeSink: Send + Sync {
    /// The table of a collection, ready to go on; none where there is none yet.
    ///
    /// # Errors
    /// There is a table, but not one that has followed this collection.
    async fn open(&self, collection: &Namespace) -> Result<Option<Box<dyn ChangeTable>>>;

    /// The collections that may have a table here.
    async fn tables(&self) -> Result<Vec<Namespace>>;

    /// Whether the table of a collection, which has failed because of a
    /// [schema change](tributary_model::ErrorKind::SchemaChanged), may be opened again, because that
    /// has been decided.
    async fn may_go_on(&self, collection: &Namespace) -> Result<bool>;
}

/// The table of one collection.
///
/// Durability and visibility: when `apply` has returned, the batch and the position it reaches are
/// durable and visible, in one step; when it fails or the process dies in it, neither are.
#[async_trait]
pub trait ChangeTable: Send {
    /// Where it is, without credentials.
    fn place(&self) -> String;

    /// How far it has got.
    fn position(&self) -> Position;

    /// How far what shows the collection as it is has got; what is kept beside it may be behind.
    fn content_position(&self) -> Position {
        self.position()
    }

    /// Applies a batch. Changes at or before the table's position are passed over. A batch without
    /// changes makes its position durable. An event of the collection as a whole is recorded.
    async fn apply(&mut self, batch: &ChangeBatch) -> Result<Applied>;

    /// Goes on at `to`, though what happened between `from`, or the table's own position where that
    /// is later, and there is not known. Position and gap are recorded in one step. Does nothing
    /// where the table is there already.
    async fn skip(&mut self, from: &Position, to: &Position, remedy: GapRemedy) -> Result<()>;

    /// The stretches of history that it has not seen, oldest first.
    fn gaps(&self) -> Vec<Gap>;

    /// Puts the table in order, as far as that is due, when no more is to be applied. What is not
    /// done then is done another time.
    async fn finish(&mut self) {}
}
