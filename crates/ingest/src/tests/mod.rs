//! The log and what stands around it, on a real disk.

mod access;
mod body;
mod check;
mod follow;
mod late;
mod log;

use std::sync::Arc;

use bson::{Document, doc};
use bytes::Bytes;
use tempfile::TempDir;

use crate::{Appended, CheckedEvent, EventLog, LogOptions};

fn bytes(document: &Document) -> Bytes {
    bson::serialize_to_vec(document).unwrap().into()
}

/// A resume token of a moment, as servers make them.
fn token(time: u32) -> String {
    format!("82{time:08X}000000012B")
}

/// An event of a document of `shop.orders`.
fn event(operation: &str, id: i32, time: u32) -> Document {
    let mut event = doc! {
        "_id": { "_data": format!("{}{id:08X}", token(time)) },
        "operationType": operation,
        "clusterTime": bson::Timestamp { time, increment: 1 },
        "ns": { "db": "shop", "coll": "orders" },
        "documentKey": { "_id": id },
    };
    if operation != "delete" {
        event.insert("fullDocument", doc! { "_id": id, "n": i64::from(time) });
    }
    event
}

fn checked(event: &Document) -> CheckedEvent {
    crate::check(bytes(event)).unwrap()
}

/// A log in a directory of its own.
struct Fixture {
    directory: TempDir,
    log: Arc<EventLog>,
}

impl Fixture {
    fn new() -> Self {
        Self::with(LogOptions::default())
    }

    fn with(options: LogOptions) -> Self {
        let directory = TempDir::new().unwrap();
        let log = Arc::new(EventLog::open(directory.path(), "atlas", options).unwrap());
        Self { directory, log }
    }

    /// Closes the log, and opens it again.
    fn reopen(self) -> Self {
        let Self { directory, log } = self;
        drop(Arc::into_inner(log).expect("nobody else has the log"));
        let log = EventLog::open(directory.path(), "atlas", LogOptions::default()).unwrap();
        Self {
            directory,
            log: Arc::new(log),
        }
    }

    async fn append(&self, events: &[Document]) -> Appended {
        let events = events.iter().map(checked).collect();
        self.log.append(events).await.unwrap()
    }
}
