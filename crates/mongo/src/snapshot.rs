//! Reading collections as raw batches.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use mongodb::Collection;
use mongodb::bson::{Bson, Document, RawDocumentBuf, Timestamp, doc};
use mongodb::options::{Hint, ReadConcern};
use mongodb::raw_batch_cursor::RawBatch;
use mongodb::results::CollectionType;
use tokio::sync::mpsc;
use tributary_flow::{
    Bookmark, CollectionInfo, CollectionKind, DocumentBatch, Partition, SnapshotSource,
};
use tributary_model::{ClusterTime, Error, ErrorKind, Namespace, Result};

use crate::changes::{IDLE, IDLE_AT_THE_PRESENT, Server};
use crate::connect::Connection;
use crate::error::NAMESPACE_NOT_FOUND;
use crate::selection::Selection;

/// How large the server is asked to make a batch. Larger ones read no faster and take memory in
/// several places at once.
const BATCH_BYTES: u64 = 4 << 20;
/// The most documents in a batch: small ones are costly one by one, not by their bytes.
const BATCH_DOCUMENTS: u64 = 20_000;
/// The documents in a batch where their size is not known.
const BATCH_UNKNOWN: u64 = 1_000;

/// How many collections are asked for their sizes at the same time.
const DESCRIBED_AT_ONCE: usize = 16;
const COMMAND_NOT_SUPPORTED_ON_VIEW: i32 = 166;

/// The collections of a deployment that were selected.
#[derive(Debug)]
pub struct MongoSource {
    pub(crate) connection: Connection,
    pub(crate) selection: Selection,
    /// What snapshots must show: everything up to this moment.
    behind: AtomicU64,
    pub(crate) server: Mutex<Server>,
    /// Whether changes are to say what exactly they were.
    pub(crate) every_version: bool,
    /// How long the server waits for a change before it answers that there is none.
    pub(crate) idle: Duration,
}

impl MongoSource {
    /// A source that reads what `selection` says.
    #[must_use]
    pub fn new(connection: Connection, selection: Selection) -> Self {
        Self {
            connection,
            selection,
            behind: AtomicU64::new(0),
            server: Mutex::default(),
            every_version: false,
            idle: IDLE,
        }
    }

    /// The same, whose changes also say what an update did, and show the document before and after
    /// each where the server keeps those.
    #[must_use]
    pub fn with_every_version(self) -> Self {
        Self {
            every_version: true,
            ..self
        }
    }

    /// The same, whose changes are read to the present and no further: that there is none is said
    /// soon, and not after a time in which one may come.
    #[must_use]
    pub fn to_the_present(self) -> Self {
        Self {
            idle: IDLE_AT_THE_PRESENT,
            ..self
        }
    }

    /// Makes the snapshots read from now on show everything up to `time`, whichever member they
    /// are read from. Without that, a majority read may answer with an older state.
    pub(crate) fn read_behind(&self, time: ClusterTime) {
        self.behind.fetch_max(time.0, Ordering::Relaxed);
    }

    pub(crate) fn collection(&self, namespace: &Namespace) -> Collection<RawDocumentBuf> {
        self.connection
            .client
            .database(&namespace.database)
            .collection(&namespace.collection)
    }

    async fn databases(&self) -> Result<Vec<String>> {
        if let Some(database) = self.connection.database() {
            return Ok(vec![database.to_owned()]);
        }
        let names = self
            .connection
            .client
            .list_database_names()
            .await
            .map_err(|error| self.connection.failed("cannot list the databases", &error))?;
        Ok(names
            .into_iter()
            .filter(|name| !matches!(name.as_str(), "admin" | "config" | "local"))
            .collect())
    }

    async fn describe(
        &self,
        database: &str,
        listed: mongodb::results::CollectionSpecification,
    ) -> Result<CollectionInfo> {
        let namespace = Namespace::new(database, &listed.name);
        let kind = match listed.collection_type {
            CollectionType::View => CollectionKind::View,
            CollectionType::Timeseries => CollectionKind::TimeSeries,
            _ => CollectionKind::Collection,
        };
        let uuid = listed
            .info
            .uuid
            .and_then(|uuid| uuid.to_uuid().ok())
            .map(|uuid| uuid.to_string());
        let (mut documents, mut bytes) = (None, None);
        if kind == CollectionKind::Collection {
            // Metadata alone: neither counts documents nor reads them.
            (documents, bytes) = self.size(&namespace).await?;
        }
        Ok(CollectionInfo {
            namespace,
            kind,
            uuid,
            documents,
            bytes,
        })
    }

    async fn size(&self, namespace: &Namespace) -> Result<(Option<u64>, Option<u64>)> {
        let failed = |error: mongodb::error::Error| {
            self.connection
                .failed("cannot read the collection's size", &error)
                .on("namespace", namespace)
        };
        let cursor = self
            .collection(namespace)
            .aggregate([doc! { "$collStats": { "storageStats": {} } }])
            .selection_criteria(self.connection.read_from.clone())
            .with_type::<Document>()
            .await;
        let mut cursor = match cursor {
            Ok(cursor) => cursor,
            Err(error) => match error.kind.as_ref() {
                mongodb::error::ErrorKind::Command(c)
                    if matches!(c.code, NAMESPACE_NOT_FOUND | COMMAND_NOT_SUPPORTED_ON_VIEW) =>
                {
                    return Ok((None, None));
                }
                _ => return Err(failed(error)),
            },
        };
        let (mut documents, mut bytes) = (0, 0);
        // One document for each shard.
        while let Some(stats) = cursor.next().await {
            let stats = stats.map_err(failed)?;
            let Ok(storage) = stats.get_document("storageStats") else {
                continue;
            };
            documents += whole_number(storage, "count");
            bytes += whole_number(storage, "size");
        }
        Ok((Some(documents), Some(bytes)))
    }

    /// The collections that are selected, and whether there are any at all.
    async fn list(&self) -> Result<(Vec<CollectionInfo>, bool)> {
        let mut found = Vec::new();
        let mut listed_any = false;
        for database in self.databases().await? {
            let failed = |error| {
                self.connection
                    .failed("cannot list the collections", &error)
                    .on("database", &database)
            };
            let mut listed = self
                .connection
                .client
                .database(&database)
                .list_collections()
                .await
                .map_err(failed)?;
            let mut selected = Vec::new();
            while let Some(collection) = listed.next().await {
                let collection = collection.map_err(failed)?;
                listed_any = true;
                if self.selection.includes(&collection.name) {
                    selected.push(collection);
                }
            }
            let described = selected.into_iter().map(|c| self.describe(&database, c));
            let described = stream::iter(described).buffer_unordered(DESCRIBED_AT_ONCE);
            found.extend(described.try_collect::<Vec<_>>().await?);
        }
        found.sort_by(|a, b| a.namespace.cmp(&b.namespace));
        Ok((found, listed_any))
    }
}

#[async_trait]
impl SnapshotSource for MongoSource {
    fn address(&self) -> String {
        format!(
            "mongodb://{} {}",
            self.connection.server(),
            self.selection.describe()
        )
    }

    async fn collections(&self) -> Result<Vec<CollectionInfo>> {
        let (found, listed_any) = self.list().await?;
        let not_found = |what: String| {
            let mut error =
                Error::new(ErrorKind::NotFound, what).on("server", &self.connection.server);
            if let Some(database) = self.connection.database() {
                error = error.on("database", database);
            }
            error
        };
        if !listed_any {
            return Err(not_found("no such database, or it is empty".to_owned())
                .remedy("check the database name in the address; names are case-sensitive"));
        }
        for name in self.selection.exact_names() {
            if !found.iter().any(|c| c.namespace.collection == name) {
                return Err(not_found("no such collection".to_owned())
                    .on("collection", name)
                    .remedy("check the name; names are case-sensitive"));
            }
        }
        if found.is_empty() {
            return Err(not_found("no collection matches".to_owned())
                .remedy("check the --collection patterns"));
        }
        Ok(found)
    }

    async fn present(&self) -> Result<Vec<CollectionInfo>> {
        Ok(self.list().await?.0)
    }

    async fn plan(&self, collection: &CollectionInfo, parallel: usize) -> Result<Vec<Partition>> {
        self.cut(collection, parallel).await
    }

    async fn read(
        &self,
        collection: &CollectionInfo,
        partition: &Partition,
        from: Option<&Bookmark>,
        out: mpsc::Sender<DocumentBatch>,
    ) -> Result<()> {
        let failed = |error| {
            self.connection
                .failed("cannot read the collection", &error)
                .on("namespace", &collection.namespace)
        };
        let typed = self.collection(&collection.namespace);
        let mut find = typed
            .find(self.selection.filter.clone())
            .batch_size(batch_documents(collection) as u32)
            .read_concern(ReadConcern::majority())
            .selection_criteria(self.connection.read_from.clone());
        if let Some(projection) = &self.selection.projection {
            find = find.projection(projection.clone());
        }
        let bounded = partition.lower.is_some() || partition.upper.is_some();
        if bounded {
            find = find.hint(Hint::Keys(doc! { "_id": 1 }));
            let lower = from
                .map(|bookmark| &bookmark.0)
                .or(partition.lower.as_ref());
            if let Some(lower) = lower {
                find = find.min(doc! { "_id": parse_bound(lower)? });
            }
            if let Some(upper) = &partition.upper {
                find = find.max(doc! { "_id": parse_bound(upper)? });
            }
        }
        let mut session = self
            .connection
            .client
            .start_session()
            .await
            .map_err(failed)?;
        let behind = ClusterTime(self.behind.load(Ordering::Relaxed));
        if behind != ClusterTime::default() {
            session.advance_operation_time(Timestamp {
                time: behind.seconds(),
                increment: behind.ordinal(),
            });
        }
        let mut cursor = find.session(&mut session).batch().await.map_err(failed)?;
        let mut cursor = cursor.stream(&mut session);
        let mut passed = from.cloned();
        while let Some(batch) = cursor.next().await {
            let batch = batch.map_err(failed)?;
            let mut batch = zero_copy(batch).map_err(failed)?;
            if bounded {
                // `min` includes its bound: the document read last comes again, unless it is gone.
                if let Some(passed) = passed.take()
                    && first_id(&batch)? == Some(passed)
                {
                    batch.skip = 1;
                }
                batch.bookmark = last_id(&batch)?;
            }
            if out.send(batch).await.is_err() {
                // Writing failed, and the writer tells why.
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The count or size that a server's answer has under `key`, of whatever type it is; 0 where there
/// is none.
pub(crate) fn whole_number(answer: &Document, key: &str) -> u64 {
    match answer.get(key) {
        Some(Bson::Int32(n)) => u64::try_from(*n).unwrap_or(0),
        Some(Bson::Int64(n)) => u64::try_from(*n).unwrap_or(0),
        Some(Bson::Double(n)) => *n as u64,
        _ => 0,
    }
}

fn batch_documents(collection: &CollectionInfo) -> u64 {
    match (collection.bytes, collection.documents) {
        (Some(bytes), Some(documents)) if documents > 0 => {
            (BATCH_BYTES / (bytes / documents).max(1)).clamp(1, BATCH_DOCUMENTS)
        }
        _ => BATCH_UNKNOWN,
    }
}

fn parse_bound(text: &str) -> Result<Bson> {
    let malformed = || {
        Error::new(
            ErrorKind::InvalidData,
            "a partition's bound is not Extended JSON",
        )
        .on("bound", text)
    };
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|e| malformed().because(e))?;
    Bson::try_from(value).map_err(|e| malformed().because(e))
}

/// The reply's buffer itself.
pub(crate) fn reply_bytes(batch: RawBatch) -> Bytes {
    struct Reply(RawBatch);
    impl AsRef<[u8]> for Reply {
        fn as_ref(&self) -> &[u8] {
            self.0.as_raw_document().as_bytes()
        }
    }
    Bytes::from_owner(Reply(batch))
}

/// The reply's buffer, narrowed to its array of documents.
pub(crate) fn zero_copy(batch: RawBatch) -> Result<DocumentBatch, mongodb::error::Error> {
    let (start, length) = {
        let array = batch.doc_slices()?.as_bytes();
        let reply = batch.as_raw_document().as_bytes();
        (
            array.as_ptr() as usize - reply.as_ptr() as usize,
            array.len(),
        )
    };
    let array = reply_bytes(batch).slice(start..start + length);
    Ok(DocumentBatch::new(array))
}

fn first_id(batch: &DocumentBatch) -> Result<Option<Bookmark>> {
    Ok(batch.documents().next().transpose()?.and_then(id_of))
}

fn last_id(batch: &DocumentBatch) -> Result<Option<Bookmark>> {
    Ok(batch.documents().last().transpose()?.and_then(id_of))
}

/// The document's key; none where it cannot be spelt as Extended JSON, being text that is not
/// UTF-8. Reading cannot go on from such a one.
fn id_of(document: &[u8]) -> Option<Bookmark> {
    let document = mongodb::bson::RawDocument::from_bytes(document).ok()?;
    let id = Bson::try_from(document.get("_id").ok()??).ok()?;
    Some(Bookmark(id.into_canonical_extjson().to_string()))
}
