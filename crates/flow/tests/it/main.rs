//! The loop between a source and a sink that fail in every way they may.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod sync;
mod tables;
mod verify;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tributary_flow::{
    Bookmark, CollectionInfo, CollectionKind, DocumentBatch, Load, LoadOptions, LoadReport,
    LoadSink, LoadSummary, Opened, Partition, PartitionTotals, PartitionWriter, Quiet,
    SnapshotSource, load,
};
use tributary_model::{Error, ErrorKind, Namespace, Result};

/// Documents of a partition; a document is its number.
const DOCUMENTS: u32 = 40;
const PARTITIONS: u32 = 3;
const BATCH: u32 = 4;

/// A batch of documents `{"": number}`.
fn batch(numbers: impl IntoIterator<Item = u32>) -> DocumentBatch {
    let mut array = vec![0; 4];
    for number in numbers {
        array.extend_from_slice(b"\x030\0");
        array.extend_from_slice(&11_i32.to_le_bytes());
        array.extend_from_slice(b"\x10\0");
        array.extend_from_slice(&number.to_le_bytes());
        array.push(0);
    }
    array.push(0);
    DocumentBatch::new(Bytes::from(array))
}

fn number(document: &[u8]) -> u32 {
    u32::from_le_bytes(document[6..10].try_into().unwrap())
}

/// Fails each partition once for every entry, behind that many documents.
#[derive(Default)]
struct Source {
    failures: Mutex<HashMap<u32, Vec<(u32, ErrorKind)>>>,
    bookmarks: bool,
    collections: Vec<&'static str>,
    /// Stops the load when this document is sent.
    stop_at: Option<(u32, CancellationToken)>,
}

impl Source {
    fn new(bookmarks: bool) -> Self {
        Self {
            bookmarks,
            collections: vec!["c"],
            ..Self::default()
        }
    }

    fn failing(self, partition: u32, failures: &[(u32, ErrorKind)]) -> Self {
        self.failures
            .lock()
            .unwrap()
            .insert(partition, failures.to_vec());
        self
    }
}

#[async_trait]
impl SnapshotSource for Source {
    fn address(&self) -> String {
        "memory".to_owned()
    }

    async fn collections(&self) -> Result<Vec<CollectionInfo>> {
        let info = |name: &&str| CollectionInfo {
            namespace: Namespace::new("db", *name),
            kind: CollectionKind::Collection,
            uuid: None,
            documents: None,
            bytes: None,
        };
        Ok(self.collections.iter().map(info).collect())
    }

    async fn plan(&self, _: &CollectionInfo, _: usize) -> Result<Vec<Partition>> {
        Ok((0..PARTITIONS)
            .map(|index| Partition {
                index,
                lower: None,
                upper: None,
                bytes: None,
            })
            .collect())
    }

    async fn read(
        &self,
        collection: &CollectionInfo,
        partition: &Partition,
        from: Option<&Bookmark>,
        out: mpsc::Sender<DocumentBatch>,
    ) -> Result<()> {
        let first = partition.index * DOCUMENTS;
        // The document of the bookmark comes once more, as from a server.
        let mut next = from.map_or(first, |bookmark| bookmark.0.parse().unwrap());
        let mut again = from.is_some();
        while next < first + DOCUMENTS {
            let end = (next + BATCH).min(first + DOCUMENTS);
            let failure = {
                let mut failures = self.failures.lock().unwrap();
                let due = failures.entry(partition.index).or_default();
                let is_due = collection.namespace.collection != "sound"
                    && due.first().is_some_and(|(behind, _)| first + behind < end);
                is_due.then(|| due.remove(0))
            };
            if let Some((_, kind)) = failure {
                return Err(Error::new(kind, "as asked"));
            }
            let mut sent = batch(next..end);
            sent.skip = usize::from(again);
            again = false;
            if self.bookmarks {
                sent.bookmark = Some(Bookmark((end - 1).to_string()));
            }
            if let Some((at, stop)) = &self.stop_at
                && (next..end).contains(at)
            {
                stop.cancel();
            }
            if out.send(sent).await.is_err() {
                return Ok(());
            }
            next = end;
        }
        Ok(())
    }
}

/// What a sink has of one collection.
#[derive(Default)]
struct Stored {
    plan: Option<Vec<Partition>>,
    finished: BTreeMap<u32, Vec<u32>>,
    committed: Option<Vec<u32>>,
    abandoned: u32,
}

#[derive(Default, Clone)]
struct Sink {
    stored: Arc<Mutex<HashMap<String, Stored>>>,
    /// Fails the write of this document.
    fail_at: Option<u32>,
}

impl Sink {
    fn with<T>(&self, collection: &str, look: impl FnOnce(&mut Stored) -> T) -> T {
        look(
            self.stored
                .lock()
                .unwrap()
                .entry(collection.to_owned())
                .or_default(),
        )
    }
}

struct OneLoad {
    sink: Sink,
    collection: String,
}

struct Writer {
    sink: Sink,
    collection: String,
    partition: u32,
    written: Vec<u32>,
}

#[async_trait]
impl LoadSink for Sink {
    async fn open(&self, _: &str, collection: &CollectionInfo) -> Result<Opened> {
        let name = collection.namespace.collection.clone();
        let plan = self.with(&name, |stored| stored.plan.clone());
        let load = Box::new(OneLoad {
            sink: self.clone(),
            collection: name,
        });
        Ok(match plan {
            Some(plan) => Opened::Resumed(load, plan),
            None => Opened::Fresh(load),
        })
    }
}

#[async_trait]
impl Load for OneLoad {
    async fn plan(&self, partitions: &[Partition]) -> Result<()> {
        self.sink.with(&self.collection, |stored| {
            stored.plan = Some(partitions.to_vec())
        });
        Ok(())
    }

    fn finished(&self, partition: &Partition) -> Option<PartitionTotals> {
        self.sink.with(&self.collection, |stored| {
            let documents = stored.finished.get(&partition.index)?.len() as u64;
            Some(PartitionTotals {
                documents,
                ..PartitionTotals::default()
            })
        })
    }

    async fn writer(&self, partition: &Partition) -> Result<Box<dyn PartitionWriter>> {
        Ok(Box::new(Writer {
            sink: self.sink.clone(),
            collection: self.collection.clone(),
            partition: partition.index,
            written: Vec::new(),
        }))
    }

    async fn commit(&self) -> Result<LoadSummary> {
        self.sink.with(&self.collection, |stored| {
            let all: Vec<u32> = stored.finished.values().flatten().copied().collect();
            let documents = all.len() as u64;
            stored.committed = Some(all);
            Ok(LoadSummary {
                totals: PartitionTotals {
                    documents,
                    ..PartitionTotals::default()
                },
                table: "memory".to_owned(),
                files: 0,
                file_bytes: 0,
                rewritten_bytes: 0,
            })
        })
    }
}

impl PartitionWriter for Writer {
    fn write(&mut self, batch: &DocumentBatch) -> Result<PartitionTotals> {
        let mut more = PartitionTotals::default();
        for document in batch.documents() {
            let number = number(document?);
            if self.sink.fail_at == Some(number) && self.collection != "sound" {
                return Err(Error::new(ErrorKind::Storage, "disk full"));
            }
            self.written.push(number);
            more.documents += 1;
        }
        Ok(more)
    }

    fn finish(self: Box<Self>) -> Result<PartitionTotals> {
        let Self {
            sink,
            collection,
            partition,
            written,
        } = *self;
        let documents = written.len() as u64;
        sink.with(&collection, |stored| {
            stored.finished.insert(partition, written)
        });
        Ok(PartitionTotals {
            documents,
            ..PartitionTotals::default()
        })
    }

    fn abandon(self: Box<Self>) {
        self.sink
            .with(&self.collection, |stored| stored.abandoned += 1);
    }
}

async fn run(source: Source, sink: &Sink) -> LoadReport {
    let stop = source
        .stop_at
        .as_ref()
        .map(|(_, stop)| stop.clone())
        .unwrap_or_default();
    load(
        Arc::new(source),
        Arc::new(sink.clone()),
        Arc::new(Quiet),
        LoadOptions { parallel: 2 },
        stop,
    )
    .await
    .unwrap()
}

#[track_caller]
fn assert_whole(sink: &Sink, collection: &str) {
    let committed = sink.with(collection, |stored| stored.committed.clone());
    assert_eq!(
        committed,
        Some((0..PARTITIONS * DOCUMENTS).collect::<Vec<_>>())
    );
}

const TRANSIENT: ErrorKind = ErrorKind::Unreachable;

#[tokio::test]
async fn a_lost_connection_goes_on_behind_the_bookmark() {
    let sink = Sink::default();
    let source = Source::new(true)
        .failing(0, &[(0, TRANSIENT), (10, TRANSIENT), (39, TRANSIENT)])
        .failing(2, &[(20, TRANSIENT)]);
    let report = run(source, &sink).await;
    assert!(report.collections[0].result.is_ok(), "{report:?}");
    assert_whole(&sink, "c");
    // The first failure came before there was a bookmark; none of the others lost anything.
    assert_eq!(sink.with("c", |stored| stored.abandoned), 1);
}

#[tokio::test]
async fn without_bookmarks_a_partition_begins_anew() {
    let sink = Sink::default();
    let report = run(
        Source::new(false).failing(1, &[(10, TRANSIENT), (30, TRANSIENT)]),
        &sink,
    )
    .await;
    assert!(report.collections[0].result.is_ok(), "{report:?}");
    assert_whole(&sink, "c");
    assert_eq!(sink.with("c", |stored| stored.abandoned), 2);
}

#[tokio::test]
async fn a_permanent_failure_stops_its_collection_alone_and_keeps_what_is_finished() {
    let sink = Sink::default();
    let mut source = Source::new(true).failing(2, &[(39, ErrorKind::Forbidden)]);
    source.collections.push("sound");
    let report = run(source, &sink).await;
    let error = report.collections[0].result.as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forbidden);
    assert!(error.to_string().contains("namespace db.c"), "{error}");
    assert!(sink.with("c", |stored| stored.committed.is_none()));
    assert_whole(&sink, "sound");

    // The next start reads only what is missing.
    run(Source::new(true), &sink).await;
    assert_whole(&sink, "c");
}

#[tokio::test]
async fn a_failure_to_write_is_told_and_abandons_the_partition() {
    let sink = Sink {
        fail_at: Some(50),
        ..Sink::default()
    };
    let report = run(Source::new(true), &sink).await;
    let error = report.collections[0].result.as_ref().unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::Storage, "disk full")
    );
    assert!(sink.with("c", |stored| stored.abandoned) >= 1);
    assert!(sink.with("c", |stored| stored.committed.is_none()));
}

#[tokio::test]
async fn stopping_keeps_finished_partitions_and_the_next_start_goes_on() {
    let sink = Sink::default();
    let stop = CancellationToken::new();
    let source = Source {
        stop_at: Some((DOCUMENTS + 5, stop)),
        ..Source::new(true)
    };
    let report = run(source, &sink).await;
    assert_eq!(
        report.collections[0].result.as_ref().unwrap_err().kind(),
        ErrorKind::Interrupted
    );
    assert!(sink.with("c", |stored| stored.committed.is_none()));
    run(Source::new(true), &sink).await;
    assert_whole(&sink, "c");
}

#[test]
fn a_reply_that_is_no_array_of_documents_is_an_error() {
    for bytes in [
        &b"\0\0\0\0\x02x\0"[..],
        b"\0\0\0\0\x030\0\xff\xff\xff\xff",
        b"\0\0\0\0\x030\0\x05\0\0",
        b"\0\0\0\0\x03",
    ] {
        let batch = DocumentBatch::new(Bytes::copy_from_slice(bytes));
        assert!(batch.documents().next().unwrap().is_err(), "{bytes:?}");
        assert_eq!(batch.documents().count(), 1);
    }
    assert_eq!(DocumentBatch::new(Bytes::new()).documents().count(), 0);
}
