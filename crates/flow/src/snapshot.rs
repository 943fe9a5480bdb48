//! What a source of snapshots and a sink of loads promise each other.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tributary_model::{Namespace, Result};

use crate::batch::DocumentBatch;

/// What sort of collection is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CollectionKind {
    /// An ordinary, capped or clustered collection.
    Collection,
    /// A view.
    View,
    /// A time-series collection.
    TimeSeries,
}

/// A collection, and what its server knows of it without reading it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CollectionInfo {
    /// Its name.
    pub namespace: Namespace,
    /// What it is.
    pub kind: CollectionKind,
    /// Its UUID, where it has one: a collection dropped and created again is another.
    pub uuid: Option<String>,
    /// About how many documents it holds; none where that is not known.
    pub documents: Option<u64>,
    /// About how many bytes of BSON they are.
    pub bytes: Option<u64>,
}

/// A part of a collection that is read by itself: all documents whose `_id` is at least `lower`
/// and below `upper`, in the order of the `_id` index.
///
/// Partitions are independent of one another and of the process that planned them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Partition {
    /// Its number, from 0.
    pub index: u32,
    /// The least `_id` in it, as canonical Extended JSON; none for the first partition.
    pub lower: Option<String>,
    /// The least `_id` of the next one; none for the last partition.
    pub upper: Option<String>,
    /// About how many bytes of BSON it holds.
    pub bytes: Option<u64>,
}

/// Where reading a partition can go on: behind the document with this `_id`, in canonical
/// Extended JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bookmark(pub String);

/// A deployment whose collections can be read once, as they are now.
///
/// Concurrency: `read` is called for several partitions at once. Order: none between documents is
/// promised beyond what a bookmark needs. Duplicates: while a collection changes, a document whose
/// `_id` does not change comes at most once per partition read.
#[async_trait]
pub trait SnapshotSource: Send + Sync {
    /// The source's address without credentials, as resumed loads are recognised by.
    fn address(&self) -> String;

    /// The collections to be read.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](tributary_model::ErrorKind::NotFound) where there are none, or one
    /// that was asked for by its name is not there.
    async fn collections(&self) -> Result<Vec<CollectionInfo>>;

    /// Those of them that are there now, which may be none.
    async fn present(&self) -> Result<Vec<CollectionInfo>> {
        self.collections().await
    }

    /// Cuts a collection into partitions, cheaply: without reading all of it.
    async fn plan(&self, collection: &CollectionInfo, parallel: usize) -> Result<Vec<Partition>>;

    /// Sends the documents of a partition to `out`, from its beginning or from behind `from`.
    /// Returns when all have been sent, or when `out` is closed.
    ///
    /// # Errors
    /// After a transient error reading can go on from the last batch's bookmark; where batches
    /// have none, the partition must be read again from its beginning.
    async fn read(
        &self,
        collection: &CollectionInfo,
        partition: &Partition,
        from: Option<&Bookmark>,
        out: mpsc::Sender<DocumentBatch>,
    ) -> Result<()>;
}

/// What has been written of a partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionTotals {
    /// Documents.
    pub documents: u64,
    /// Bytes of BSON.
    pub bytes: u64,
    /// Values that went to `_rescued_data`.
    pub rescued: u64,
}

impl std::ops::AddAssign for PartitionTotals {
    fn add_assign(&mut self, other: Self) {
        self.documents += other.documents;
        self.bytes += other.bytes;
        self.rescued += other.rescued;
    }
}

/// A load that has become visible.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoadSummary {
    /// What it holds.
    pub totals: PartitionTotals,
    /// Where the table or the files are.
    pub table: String,
    /// How many files there are.
    pub files: u64,
    /// Bytes of the files.
    pub file_bytes: u64,
    /// Bytes of files that had to be written again because a column widened after they were.
    pub rewritten_bytes: u64,
}

/// Where tables or files are written.
#[async_trait]
pub trait LoadSink: Send + Sync {
    /// Begins the load of a collection, or goes on with the one that was interrupted.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`](tributary_model::ErrorKind::AlreadyExists) where the target
    /// holds something that was not to be replaced.
    async fn open(&self, source: &str, collection: &CollectionInfo) -> Result<Opened>;
}

/// How a load begins.
#[must_use]
pub enum Opened {
    /// Nothing of it is there yet: the partitions must be planned.
    Fresh(Box<dyn Load>),
    /// It was interrupted, and goes on with the partitions that were planned then.
    Resumed(Box<dyn Load>, Vec<Partition>),
    /// It had become visible already when what it is a part of was cut short.
    Complete(LoadSummary),
}

/// The load of one collection.
///
/// Durability: once a writer's `finish` has returned, its partition survives a crash and is not
/// read again. Visibility: readers see nothing of the load before `commit`, and all of it after.
#[async_trait]
pub trait Load: Send + Sync {
    /// Records the partitions, so that an interrupted load goes on with the same ones.
    async fn plan(&self, partitions: &[Partition]) -> Result<()>;

    /// What was written of a partition that is finished; none for one that is not.
    fn finished(&self, partition: &Partition) -> Option<PartitionTotals>;

    /// A writer for one partition. What an earlier writer of the same partition left unfinished is
    /// no part of the load.
    async fn writer(&self, partition: &Partition) -> Result<Box<dyn PartitionWriter>>;

    /// Makes the load visible, as a whole.
    async fn commit(&self) -> Result<LoadSummary>;
}

/// Writes one partition. Its methods compute and block: they are called off the async threads, on
/// a thread of a Tokio runtime's blocking pool.
pub trait PartitionWriter: Send {
    /// Writes a batch, in order.
    fn write(&mut self, batch: &DocumentBatch) -> Result<PartitionTotals>;

    /// Makes what was written durable.
    fn finish(self: Box<Self>) -> Result<PartitionTotals>;

    /// Forgets what was written.
    fn abandon(self: Box<Self>);
}
