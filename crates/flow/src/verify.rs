//! Comparing collections with their tables while both move.
//!
//! Every document and every row falls into a range of the hash of its key, and each range is summed
//! up on both sides: how many, and the sum of what they say. Ranges of key hashes, and not of `_id`:
//! the source orders keys of all types in a way that the rows of a table are not in, so a range of
//! `_id` could not be told from the rows without sorting them; and changes to neighbouring keys, as
//! new ones mostly are, would make few ranges differ by much instead of each key its own. Where the
//! sums of a range differ, a second pass finds the keys.
//!
//! A key that differs may just have changed. It is settled by what is known of both sides' moments.
//! The table says up to which moment it holds every change; the row of a document may be of a later
//! one, because changes come with the document as it is when they are read, but not of an earlier
//! one. So a row is right if it is as the document was at the table's moment, or has been seen to be
//! at a later one. It is wrong if the table has moved on past the moment when the row was found,
//! without writing it again, and the row is not as the document is at the table's new moment: a
//! change would have written it. Where the table stands still, it is wrong if the document is, each
//! time that one looks, as it was at the table's moment, and the row is not. Everything else is
//! looked at again when the table has moved on, and told apart in the report if it never does.

mod ranges;
mod suspects;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tributary_model::{ClusterTime, Error, ErrorKind, Namespace, Position, Result};

use crate::batch::DocumentBatch;
use crate::changes::ChangeSource;
use crate::observe::Observer;
use crate::retry::Backoff;
use crate::snapshot::{CollectionInfo, CollectionKind, PartitionTotals, SnapshotSource};

use suspects::{Settled, Suspect};

/// Documents for each range, where that makes neither too few nor too many ranges.
const DOCUMENTS_PER_RANGE: u64 = 128;
const LEAST_RANGES: u64 = 1 << 10;
const MOST_RANGES: u64 = 1 << 18;
/// How many keys are held in memory to find those that differ.
const KEYS_AT_ONCE: u64 = 1 << 20;

/// The hash of a document's key, and that of all it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// Equal for keys that the source holds equal.
    pub key: [u8; 16],
    /// Equal for a document and a row that say the same.
    pub content: u128,
}

/// A row found by its key.
#[derive(Debug, Clone)]
pub struct FoundRow {
    /// What it is.
    pub fingerprint: Fingerprint,
    /// Its key as raw BSON, `{"_id": …}`.
    pub id: Bytes,
    /// Where it is in the table: another number when it has been written again.
    pub place: u64,
}

/// The moment that documents are read as of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Some moment that is not before this one.
    Behind(ClusterTime),
    /// This one exactly.
    At(ClusterTime),
}

/// A deployment whose documents can be read by their keys.
#[async_trait]
pub trait LookupSource: Send + Sync {
    /// Sends the documents with these keys, each raw BSON `{"_id": …}`, to `out`. False where the
    /// deployment does not remember the moment asked for.
    async fn look_up(
        &self,
        collection: &Namespace,
        ids: &[Bytes],
        moment: Moment,
        out: mpsc::Sender<DocumentBatch>,
    ) -> Result<bool>;
}

/// Takes the fingerprints of some rows; called from several threads.
pub type TakeFingerprints = Arc<dyn Fn(&[Fingerprint]) -> Result<()> + Send + Sync>;

/// Tables that collections are compared with, and how to compare them.
#[async_trait]
pub trait ComparedTables: Send + Sync {
    /// The table of a collection as it is now; none where there is none.
    ///
    /// # Errors
    /// There is a table, but not one that says how far it has followed its collection.
    async fn open(&self, collection: &Namespace) -> Result<Option<Box<dyn ComparedTable>>>;

    /// The fingerprint of a raw document. Computes: called off the async threads.
    fn fingerprint(&self, document: &[u8]) -> Result<Fingerprint>;

    /// The key of a raw document, as `{"_id": …}`.
    fn id(&self, document: &[u8]) -> Result<Bytes>;

    /// A key as canonical Extended JSON.
    fn spell(&self, id: &[u8]) -> String;
}

/// The table of one collection, at one of its versions.
#[async_trait]
pub trait ComparedTable: Send {
    /// Where it is, without credentials.
    fn place(&self) -> String;

    /// How far it has followed its collection.
    fn position(&self) -> Position;

    /// Goes on to the newest version; false where it is there already.
    async fn refresh(&mut self) -> Result<bool>;

    /// Gives the fingerprints of all rows to `take`, in no order.
    async fn scan(&mut self, parallel: usize, take: TakeFingerprints) -> Result<()>;

    /// The rows that have one of these keys.
    async fn rows(&mut self, keys: Arc<HashSet<[u8; 16]>>) -> Result<Vec<FoundRow>>;
}

/// How collections are compared.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// How many partitions and files are read at once.
    pub parallel: usize,
    /// How long it is waited for a table to move on.
    pub wait: Duration,
    /// How many keys of each sort are kept for the report.
    pub shown: usize,
    /// How long it is waited before the same keys are looked at again.
    pub pause: Duration,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            parallel: 1,
            wait: Duration::from_secs(60),
            shown: 20,
            pause: Duration::from_secs(1),
        }
    }
}

/// Everything that a comparison works with.
pub struct Verify {
    /// Where collections are read.
    pub snapshots: Arc<dyn SnapshotSource>,
    /// What tells the present.
    pub changes: Arc<dyn ChangeSource>,
    /// Where documents are read by their keys.
    pub lookups: Arc<dyn LookupSource>,
    /// The tables.
    pub tables: Arc<dyn ComparedTables>,
    /// Who is told.
    pub observer: Arc<dyn Observer>,
    /// How it is done.
    pub options: VerifyOptions,
}

/// Keys of one sort: how many, and the first of them as canonical Extended JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// How many.
    pub count: u64,
    /// The first ones, in the order of their spelling.
    pub keys: Vec<String>,
}

/// What the comparison of one collection has found.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Where the table is.
    pub table: String,
    /// How far it had got when it was last looked at.
    pub position: Position,
    /// Documents counted in the source.
    pub documents: u64,
    /// Rows counted in the table.
    pub rows: u64,
    /// How many ranges of keys were compared.
    pub ranges: u64,
    /// Documents without a row.
    pub missing: Differences,
    /// Rows without a document, or more than one of the same key.
    pub extra: Differences,
    /// Rows that do not say what their document does.
    pub different: Differences,
    /// Keys that differ, of which it cannot be told whether the table is only behind.
    pub unsettled: Differences,
    /// Keys that have changed since: the row is as the document was at the table's position.
    pub changed_since: u64,
    /// Ranges that differ and were not looked into, because enough had been found in others.
    pub ranges_left: u64,
}

impl Verified {
    /// Whether nothing differs, as far as the table has got.
    #[must_use]
    pub fn agrees(&self) -> bool {
        let kinds = [&self.missing, &self.extra, &self.different, &self.unsettled];
        kinds.iter().all(|kind| kind.count == 0) && self.ranges_left == 0
    }

    /// Whether something differs for certain.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.missing.count + self.extra.count + self.different.count > 0
    }
}

/// What became of one collection.
#[derive(Debug)]
pub struct VerifyOutcome {
    /// The collection.
    pub namespace: Namespace,
    /// What was found, or why it could not be compared.
    pub result: Result<Verified>,
    /// How long it took.
    pub elapsed: Duration,
}

/// What became of a comparison.
#[derive(Debug)]
pub struct VerifyReport {
    /// Each collection, by name.
    pub collections: Vec<VerifyOutcome>,
}

/// Compares every collection with its table, one after the other. One collection's failure stops no
/// other.
///
/// When `stop` is cancelled, the collections not done yet answer [`ErrorKind::Interrupted`].
///
/// # Errors
/// The source cannot be reached, or its collections cannot be listed.
pub async fn verify(verify: &Verify, stop: CancellationToken) -> Result<VerifyReport> {
    // A deployment without a clock of its own says so before anything is read.
    verify.changes.now().await?;
    let mut collections = Vec::new();
    for collection in verify.snapshots.collections().await? {
        if collection.kind != CollectionKind::Collection {
            continue;
        }
        let begun = Instant::now();
        let namespace = collection.namespace.clone();
        let compared = tokio::select! {
            biased;
            () = stop.cancelled() => Err(interrupted()),
            compared = verify.collection(Arc::new(collection)) => compared,
        };
        let result = compared.map_err(|error| error.on("namespace", &namespace));
        if let Err(error) = &result {
            verify.observer.failed(&namespace, error);
        }
        collections.push(VerifyOutcome {
            namespace,
            result,
            elapsed: begun.elapsed(),
        });
    }
    Ok(VerifyReport { collections })
}

fn interrupted() -> Error {
    Error::new(ErrorKind::Interrupted, "stopped before the end")
        .remedy("start again to compare all")
}

impl Verify {
    async fn collection(&self, collection: Arc<CollectionInfo>) -> Result<Verified> {
        let namespace = &collection.namespace;
        // The table first: the source is then read at a moment that is not before the table's.
        let Some(mut table) = self.tables.open(namespace).await? else {
            return Err(Error::new(
                ErrorKind::NotFound,
                "the collection has no table in the target",
            )
            .remedy("load it with `tributary sync`, or choose others with --collection"));
        };
        self.changes.now().await?;
        let partitions = self.partitions(&collection).await?;
        self.observer
            .started(&collection, partitions.len(), PartitionTotals::default());
        let documents = collection.documents.unwrap_or(0);
        let ranges = (documents / DOCUMENTS_PER_RANGE)
            .clamp(LEAST_RANGES, MOST_RANGES)
            .next_power_of_two() as usize;
        let (source, rows) = tokio::try_join!(
            self.sum_source(&collection, &partitions, ranges),
            self.sum_table(table.as_mut(), ranges),
        )?;
        let mut differing: Vec<(usize, u64)> = source
            .0
            .iter()
            .zip(&rows.0)
            .enumerate()
            .filter(|(_, (source, table))| source != table)
            .map(|(range, (source, table))| (range, source.count.max(table.count)))
            .collect();
        differing.reverse();

        let mut settled = Settled::default();
        while !differing.is_empty() && settled.wrong.is_empty() {
            let mut chosen = vec![false; ranges];
            let mut keys = 0;
            while let Some((range, count)) = differing.last()
                && (keys == 0 || keys + count <= KEYS_AT_ONCE)
            {
                chosen[*range] = true;
                keys += count;
                differing.pop();
            }
            let pairs = self
                .differing_keys(&collection, &partitions, table.as_mut(), chosen)
                .await?;
            let more = self.settle(namespace, table.as_mut(), pairs).await?;
            settled.wrong.extend(more.wrong);
            settled.unsettled.extend(more.unsettled);
            settled.changed_since += more.changed_since;
        }

        let of_sort = |is: &dyn Fn(&Suspect) -> bool, of: &[Suspect]| {
            let of: Vec<&Suspect> = of.iter().filter(|suspect| is(suspect)).collect();
            self.differences(&of)
        };
        let is_missing = |s: &Suspect| s.table.count == 0;
        let is_extra = |s: &Suspect| s.table.count > s.source().count;
        Ok(Verified {
            table: table.place(),
            position: table.position(),
            documents: source.count(),
            rows: rows.count(),
            ranges: ranges as u64,
            missing: of_sort(&is_missing, &settled.wrong),
            extra: of_sort(&|s| !is_missing(s) && is_extra(s), &settled.wrong),
            different: of_sort(&|s| !is_missing(s) && !is_extra(s), &settled.wrong),
            unsettled: of_sort(&|_| true, &settled.unsettled),
            changed_since: settled.changed_since,
            ranges_left: differing.len() as u64,
        })
    }

    fn differences(&self, of: &[&Suspect]) -> Differences {
        let mut keys: Vec<String> = of
            .iter()
            .filter_map(|suspect| Some(self.tables.spell(suspect.id.as_ref()?)))
            .collect();
        keys.sort();
        keys.truncate(self.options.shown);
        Differences {
            count: of.len() as u64,
            keys,
        }
    }
}

/// Does something again where it fails for now.
async fn retried<T>(mut work: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let mut backoff = Backoff::default();
    loop {
        let error = match work().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        match backoff.wait_after(&error, false) {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return Err(error),
        }
    }
}
