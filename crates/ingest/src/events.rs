//! A log as the source of triggers.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bson::doc;
use tokio::sync::mpsc;
use tributary_flow::{EventSource, HistoryWindow, RawEvent, RawEvents, Watch};
use tributary_model::{ClusterTime, Error, ErrorKind, Position, Result};

use crate::changes::fields;
use crate::cursor::Cursor;
use crate::log::{EventLog, StoredEvent, token};

/// The events that change streams tell of without being asked for more.
const ORDINARY: [&str; 8] = [
    "insert",
    "update",
    "replace",
    "delete",
    "drop",
    "rename",
    "dropDatabase",
    "invalidate",
];

/// The events of a log, as they were pushed.
#[derive(Debug)]
pub struct IngestEvents {
    log: Arc<EventLog>,
}

impl IngestEvents {
    /// All events of `log`.
    #[must_use]
    pub fn new(log: Arc<EventLog>) -> Self {
        Self { log }
    }
}

#[async_trait]
impl EventSource for IngestEvents {
    fn place(&self) -> &str {
        self.log.name()
    }

    async fn now(&self) -> Result<Position> {
        Ok(self.log.present())
    }

    /// Events come as they were pushed: with the documents that were sent with them, whether or not those are
    /// asked for, and without those that were not.
    async fn follow(
        &self,
        watch: &Watch,
        from: &Position,
        out: mpsc::Sender<RawEvents>,
    ) -> Result<()> {
        if watch.is_projected || !watch.stages.is_empty() {
            return Err(Error::new(
                ErrorKind::Usage,
                "the events that are pushed cannot be matched or projected",
            )
            .on("source", self.log.name())
            .remedy("leave out `match` and `project`, or have the trigger follow a MongoDB: a source with `uri`"));
        }
        let mut cursor = Cursor::new(Arc::clone(&self.log), from)?;
        loop {
            let page = tokio::select! {
                page = cursor.next() => page?,
                () = out.closed() => return Ok(()),
            };
            let bytes = page.events.iter().map(|event| event.document.len()).sum();
            let events = page.events.iter().map(raw).collect::<Result<Vec<_>>>()?;
            let events = events.into_iter().filter(|event| is_watched(event, watch));
            let batch = RawEvents {
                events: events.collect(),
                position: cursor.position(),
                complete_to: cursor.complete_to(),
                present: cursor.complete_to(),
                bytes,
                received: SystemTime::now(),
            };
            if out.send(batch).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn window(&self) -> Result<Option<HistoryWindow>> {
        let (removed, last) = self.log.window();
        Ok(Some(HistoryWindow {
            oldest: ClusterTime(removed),
            newest: ClusterTime(last),
        }))
    }
}

fn raw(stored: &StoredEvent) -> Result<RawEvent> {
    let fields = fields(stored)?;
    let namespace = fields.namespace();
    let (database, collection) = namespace.map_or_else(Default::default, |namespace| {
        (namespace.database, namespace.collection)
    });
    Ok(RawEvent {
        token: token(stored.number),
        cluster_time: ClusterTime(stored.number),
        wall_time: fields.wall_time().unwrap_or(stored.received),
        operation: fields.operation().unwrap_or_default().to_owned(),
        database,
        collection: Some(collection).filter(|name| !name.is_empty()),
        document: stored.document.clone(),
        is_reduced: false,
    })
}

fn is_watched(event: &RawEvent, watch: &Watch) -> bool {
    let is =
        |wanted: &Option<String>, own: Option<&str>| wanted.is_none() || wanted.as_deref() == own;
    is(&watch.database, Some(&event.database))
        && is(&watch.collection, event.collection.as_deref())
        && (watch.expanded || ORDINARY.contains(&event.operation.as_str()))
        && (watch.wanted.is_empty() || watch.wanted.iter().any(|wanted| wanted.takes(event)))
}
