//! A log as the source of tables.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tributary_convert::raw::{RawElement, kind};
use tributary_flow::{
    Bookmark, Change, ChangeSource, CollectionInfo, CollectionKind, DocumentBatch, Event,
    EventBatch, EventKind, HistoryWindow, Partition, SnapshotSource, TransactionId,
};
use tributary_model::{ClusterTime, Error, ErrorKind, Namespace, Operation, Position, Result};

use crate::cursor::Cursor;
use crate::fields::Fields;
use crate::log::{EventLog, KnownCollection, StoredEvent, token_bytes};

/// Some collections of a log.
#[derive(Debug)]
pub struct IngestSource {
    log: Arc<EventLog>,
    collections: Vec<glob::Pattern>,
}

impl IngestSource {
    /// The collections of these names, of whatever database; none for all. `*`, `?` and `[…]` match as in a
    /// shell.
    ///
    /// # Errors
    /// A pattern is malformed.
    pub fn new(log: Arc<EventLog>, collections: &[String]) -> Result<Self> {
        let pattern = |name: &String| {
            glob::Pattern::new(name).map_err(|error| {
                Error::new(ErrorKind::Usage, "malformed pattern")
                    .on("collection", name)
                    .because(error)
            })
        };
        Ok(Self {
            collections: collections.iter().map(pattern).collect::<Result<_>>()?,
            log,
        })
    }

    /// Waits until there is a collection to follow.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn wait_for_collections(&self) -> Result<()> {
        let is_selected = |namespace: &Namespace| self.selects(namespace);
        self.log.wait_for_collection(is_selected).await
    }

    async fn known(&self) -> Result<Vec<KnownCollection>> {
        let mut known = self.log.collections().await?;
        known.retain(|known| self.selects(&known.namespace));
        Ok(known)
    }
}

#[async_trait]
impl SnapshotSource for IngestSource {
    fn address(&self) -> String {
        self.log.name().to_owned()
    }

    async fn collections(&self) -> Result<Vec<CollectionInfo>> {
        let present = self.present().await?;
        if present.is_empty() {
            return Err(Error::new(
                ErrorKind::NotFound,
                "no event of these collections has been pushed yet",
            )
            .on("source", self.log.name()));
        }
        Ok(present)
    }

    async fn present(&self) -> Result<Vec<CollectionInfo>> {
        let known = self.known().await?;
        let info = |known: KnownCollection| CollectionInfo {
            namespace: known.namespace,
            kind: CollectionKind::Collection,
            uuid: None,
            documents: Some(0),
            bytes: Some(0),
        };
        Ok(known.into_iter().map(info).collect())
    }

    /// One partition without documents: a table begins empty, and all that is in it comes from the log.
    async fn plan(&self, collection: &CollectionInfo, _parallel: usize) -> Result<Vec<Partition>> {
        let known = self.known().await?;
        let is_renamed =
            |known: &KnownCollection| known.is_renamed && known.namespace == collection.namespace;
        if known.iter().any(is_renamed) {
            return Err(Error::new(
                ErrorKind::InvalidData,
                "the collection was renamed, and what it held then is not in the log of events",
            )
            .on("source", self.log.name())
            .remedy("follow it from its MongoDB: a source with `uri`"));
        }
        Ok(vec![Partition {
            index: 0,
            lower: None,
            upper: None,
            bytes: Some(0),
        }])
    }

    async fn read(
        &self,
        _collection: &CollectionInfo,
        _partition: &Partition,
        _from: Option<&Bookmark>,
        _out: mpsc::Sender<DocumentBatch>,
    ) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl ChangeSource for IngestSource {
    async fn now(&self) -> Result<Position> {
        Ok(self.log.present())
    }

    async fn follow(&self, from: &Position, out: mpsc::Sender<EventBatch>) -> Result<()> {
        let mut cursor = Cursor::new(Arc::clone(&self.log), from)?;
        let mut names = Names::default();
        loop {
            let page = tokio::select! {
                page = cursor.next() => page?,
                () = out.closed() => return Ok(()),
            };
            let bytes = page.events.iter().map(|event| event.document.len()).sum();
            let events = page.events.iter().map(|event| names.event(event));
            let mut events = events.collect::<Result<Vec<_>>>()?;
            events.retain(|event| self.concerns(event));
            let batch = EventBatch {
                events,
                position: cursor.position(),
                complete_to: cursor.complete_to(),
                bytes,
                received: SystemTime::now(),
            };
            if out.send(batch).await.is_err() {
                return Ok(());
            }
        }
    }

    fn selects(&self, collection: &Namespace) -> bool {
        let name = &collection.collection;
        let is_selected = self.collections.is_empty()
            || self.collections.iter().any(|pattern| pattern.matches(name));
        is_selected && !name.starts_with("system.")
    }

    async fn window(&self) -> Result<Option<HistoryWindow>> {
        let (removed, last) = self.log.window();
        Ok(Some(HistoryWindow {
            oldest: ClusterTime(removed),
            newest: ClusterTime(last),
        }))
    }
}

impl IngestSource {
    /// Whether an event says something of a collection that is selected.
    fn concerns(&self, event: &Event) -> bool {
        match &event.kind {
            EventKind::Rename { to } => self.selects(&event.namespace) || self.selects(to),
            EventKind::DropDatabase => true,
            // Such as one of a whole database.
            _ if event.namespace.collection.is_empty() => true,
            _ => self.selects(&event.namespace),
        }
    }
}

/// The names of collections that have been met, each kept once.
#[derive(Default)]
struct Names(HashSet<Arc<Namespace>>);

impl Names {
    fn get(&mut self, namespace: Namespace) -> Arc<Namespace> {
        if let Some(known) = self.0.get(&namespace) {
            return Arc::clone(known);
        }
        let shared = Arc::new(namespace);
        self.0.insert(Arc::clone(&shared));
        shared
    }

    /// An event of the log as tables apply it.
    fn event(&mut self, stored: &StoredEvent) -> Result<Event> {
        let fields = fields(stored)?;
        let name = fields.operation().unwrap_or_default();
        let namespace = fields.namespace().unwrap_or_else(|| Namespace::new("", ""));
        Ok(Event {
            namespace: self.get(namespace),
            collection: fields.collection_uuid(),
            token: token_bytes(stored.number),
            cluster_time: ClusterTime(stored.number),
            wall_time: fields.wall_time().unwrap_or(stored.received),
            kind: kind_of(name, &fields, stored)?,
        })
    }
}

/// The fields of an event, which has been checked before it was stored.
pub(crate) fn fields(stored: &StoredEvent) -> Result<Fields<'_>> {
    Fields::of(&stored.document).map_err(|error| {
        Error::new(ErrorKind::InvalidData, "an event of the log is not BSON").because(error)
    })
}

fn kind_of(name: &str, fields: &Fields<'_>, stored: &StoredEvent) -> Result<EventKind> {
    if stored.is_late {
        // It is counted by this name, and changes nothing.
        return Ok(EventKind::Other(format!("late {name}")));
    }
    let operation = match name {
        "insert" => Operation::Insert,
        "update" => Operation::Update,
        "replace" => Operation::Replace,
        "delete" => Operation::Delete,
        "drop" => return Ok(EventKind::Drop),
        "dropDatabase" => return Ok(EventKind::DropDatabase),
        "rename" => {
            let to = fields.renamed_to().ok_or_else(|| unlike("to"))?;
            return Ok(EventKind::Rename { to });
        }
        // An invalidation, too: the log goes on behind it.
        other => return Ok(EventKind::Other(other.to_owned())),
    };
    let slice = |element: &Option<RawElement<'_>>| -> Option<Bytes> {
        let element = element.as_ref()?;
        (element.kind == kind::DOCUMENT).then(|| stored.document.slice_ref(element.value))
    };
    let document = match operation {
        Operation::Delete => None,
        _ => slice(&fields.document),
    };
    Ok(EventKind::Change(Change {
        operation,
        key: slice(&fields.key).ok_or_else(|| unlike("documentKey"))?,
        document,
        // Who pushes it had it looked up.
        looked_up: operation == Operation::Update,
        before: slice(&fields.before),
        update: slice(&fields.update),
        reduced: false,
        transaction: slice(&fields.session)
            .zip(fields.transaction())
            .map(|(session, number)| TransactionId { session, number }),
    }))
}

fn unlike(field: &str) -> Error {
    Error::new(
        ErrorKind::Internal,
        "an event of the log is not as it was checked",
    )
    .on("field", field)
}
