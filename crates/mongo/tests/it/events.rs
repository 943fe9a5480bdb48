//! Events of change streams as they are.

mod kinds;
mod large;
mod places;
mod stages;

use std::time::Duration;

use bytes::Bytes;
use mongodb::bson::Document;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tributary_flow::{EventSource, RawEvent, RawEvents, Watch};
use tributary_model::{Error, Position, Result};

use crate::support::{Fixture, LIMIT};

/// A watch on a collection, a database or, without either, the deployment.
fn watch(database: Option<&str>, collection: Option<&str>) -> Watch {
    Watch {
        database: database.map(str::to_owned),
        collection: collection.map(str::to_owned),
        ..Watch::default()
    }
}

fn raw(document: &Document) -> Bytes {
    document.to_vec().expect("a document").into()
}

fn parsed(event: &RawEvent) -> Document {
    Document::from_reader(&event.document[..]).expect("raw BSON")
}

/// Someone who follows.
struct Following {
    batches: mpsc::Receiver<RawEvents>,
    task: JoinHandle<Result<()>>,
    /// Events that have come with others.
    come: std::collections::VecDeque<RawEvent>,
    /// Behind the last batch.
    position: Position,
}

impl Following {
    async fn new(fixture: &Fixture, watch: &Watch, from: &Position) -> Self {
        let events = fixture.events().await;
        let (out, batches) = mpsc::channel(1);
        let (watch, start) = (watch.clone(), from.clone());
        let task = tokio::spawn(async move { events.follow(&watch, &start, out).await });
        Self {
            batches,
            task,
            come: std::collections::VecDeque::new(),
            position: from.clone(),
        }
    }

    async fn batch(&mut self) -> Option<RawEvents> {
        let batch = tokio::time::timeout(LIMIT, self.batches.recv());
        let batch = batch.await.expect("nothing comes")?;
        self.position = batch.position.clone();
        for event in &batch.events {
            assert!(batch.position.has_passed(&event.token, event.cluster_time));
        }
        Some(batch)
    }

    /// The next event; none where following has ended.
    async fn next(&mut self) -> Option<RawEvent> {
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            if let Some(event) = self.come.pop_front() {
                return Some(event);
            }
            assert!(tokio::time::Instant::now() < deadline, "no event comes");
            let batch = self.batch().await?;
            self.come.extend(batch.events);
        }
    }

    async fn take(&mut self, number: usize) -> Vec<RawEvent> {
        let mut events = Vec::new();
        while events.len() < number {
            match self.next().await {
                Some(event) => events.push(event),
                None => panic!("following has ended behind {events:?}"),
            }
        }
        events
    }

    /// Everything up to the end, which comes by itself.
    async fn read_to_the_end(&mut self) -> Vec<RawEvent> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    /// How following has ended.
    async fn end(self) -> Result<()> {
        drop(self.batches);
        let end = tokio::time::timeout(Duration::from_secs(10), self.task);
        end.await
            .expect("following does not end")
            .expect("no panic")
    }

    async fn failure(mut self) -> Error {
        assert!(self.next().await.is_none());
        self.end().await.expect_err("a failure")
    }
}

/// The position behind an event.
fn behind(event: &RawEvent, of: &Position) -> Position {
    Position {
        cluster_time: event.cluster_time,
        resume_token: Some(event.token.clone()),
        ..of.clone()
    }
}

fn operations(events: &[RawEvent]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event.operation.as_str())
        .collect()
}
