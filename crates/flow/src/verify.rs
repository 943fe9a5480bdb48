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

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tributary_model::{ClusterTime, Error, ErrorKind, Namespace, Position, Result};

use crate::batch::DocumentBatch;
use crate::changes::ChangeSource;
use crate::observe::Observer;
use crate::retry::Backoff;
use crate::snapshot::{
    Bookmark, CollectionInfo, CollectionKind, Partition, PartitionTotals, SnapshotSource,
};

/// Documents for each range, where that makes neither too few nor too many ranges.
const DOCUMENTS_PER_RANGE: u64 = 128;
const LEAST_RANGES: u64 = 1 << 10;
const MOST_RANGES: u64 = 1 << 18;
/// How many keys are held in memory to find those that differ.
const KEYS_AT_ONCE: u64 = 1 << 20;
/// How often a key must be found wrong in a table that stands still before it is told.
const CONFIRMATIONS: u32 = 3;
/// How often keys are looked at, should they change all the time.
const MOST_LOOKS: u32 = 40;
/// What a document was seen to be is remembered so many times.
const SIGHTINGS: usize = 16;

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

/// How many there are of something, and the sum of what they say. Does not depend on their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    count: u64,
    sum: u128,
}

impl Tally {
    fn one(content: u128) -> Self {
        Self {
            count: 1,
            sum: content,
        }
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// The sums of all ranges of one side. Their number is a power of two.
#[derive(Debug, Clone)]
struct Ranges(Vec<Tally>);

impl Ranges {
    fn new(count: usize) -> Self {
        Self(vec![Tally::default(); count])
    }

    fn add(&mut self, fingerprint: &Fingerprint) {
        let range = range_of(&fingerprint.key, self.0.len());
        self.0[range] += Tally::one(fingerprint.content);
    }

    fn merge(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            *own += *other;
        }
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|tally| tally.count).sum()
    }
}

/// The range of a key among `count`, a power of two.
fn range_of(key: &[u8; 16], count: usize) -> usize {
    let mut head = [0; 8];
    head.copy_from_slice(&key[..8]);
    u64::from_be_bytes(head) as usize & (count - 1)
}

/// A key of a range that differs.
#[derive(Debug, Clone, Default)]
struct Pair {
    table: Tally,
    source: Tally,
    /// Known where a document was read.
    id: Option<Bytes>,
}

type Pairs = HashMap<[u8; 16], Pair>;

/// What a document was seen to be, at a moment between these.
#[derive(Debug, Clone, Copy)]
struct Sighting {
    from: ClusterTime,
    until: ClusterTime,
    source: Tally,
}

/// A key that differed when it was last looked at.
#[derive(Debug, Default)]
struct Suspect {
    id: Option<Bytes>,
    /// The row, when it was last looked at.
    table: Tally,
    /// Where the row was then, and a moment behind the one when it was found there first.
    place: u64,
    placed: Option<ClusterTime>,
    /// The document, each time that it was looked at.
    seen: Vec<Sighting>,
    /// How often the row was found wrong, one time after the other.
    wrong: u32,
}

type Suspects = HashMap<[u8; 16], Suspect>;

/// What documents say, by their keys.
type Contents = HashMap<[u8; 16], Tally>;

impl Suspect {
    fn see(&mut self, sighting: Sighting) {
        if self.seen.len() >= SIGHTINGS {
            self.seen.remove(0);
        }
        self.seen.push(sighting);
    }

    /// The document as it was seen last.
    fn source(&self) -> Tally {
        self.seen.last().map_or_else(Tally::default, |s| s.source)
    }

    /// Whether the document was seen to be what the row says, at the table's position or later.
    fn was_seen_as_row(&self, position: ClusterTime) -> bool {
        let mut later = self.seen.iter().filter(|s| s.from >= position);
        later.any(|sighting| sighting.source == self.table)
    }

    /// How often the row has been found wrong now. `then` and `before` are the document at the
    /// table's position and just before it, where the source remembers them.
    fn judged(
        &self,
        position: ClusterTime,
        moved: bool,
        then: Option<Tally>,
        before: Option<Tally>,
    ) -> u32 {
        let placed = self.placed.unwrap_or(ClusterTime(u64::MAX));
        // Seen between the row and the table's position.
        let mut between = self
            .seen
            .iter()
            .filter(|s| placed <= s.from && s.until < position);
        let is_there = self.table.count > 0;
        match then {
            // A transaction of the very moment may be in the table in part.
            _ if before == Some(self.table) => 0,
            // The table has moved on without writing the row again.
            Some(_) if placed <= position => CONFIRMATIONS,
            Some(then) if !moved && self.seen.iter().all(|s| s.source == then) => self.wrong + 1,
            None if is_there && between.any(|s| s.source != self.table) => CONFIRMATIONS,
            None if !is_there && between.any(|s| s.source == self.source()) => self.wrong + 1,
            _ => 0,
        }
    }
}

/// What looking at suspects has come to.
#[derive(Debug, Default)]
struct Settled {
    wrong: Vec<Suspect>,
    unsettled: Vec<Suspect>,
    changed_since: u64,
    /// The table's position when its rows were last looked at.
    looked_at: Option<ClusterTime>,
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

    async fn partitions(&self, collection: &CollectionInfo) -> Result<Vec<Partition>> {
        let parallel = self.options.parallel.max(1);
        retried(async || self.snapshots.plan(collection, parallel).await).await
    }

    async fn sum_table(&self, table: &mut dyn ComparedTable, ranges: usize) -> Result<Ranges> {
        let sums = Arc::new(Mutex::new(Ranges::new(ranges)));
        let all = Arc::clone(&sums);
        let take: TakeFingerprints = Arc::new(move |rows: &[Fingerprint]| {
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            rows.iter().for_each(|row| all.add(row));
            Ok(())
        });
        table.scan(self.options.parallel, take).await?;
        let sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(sums.clone())
    }

    async fn sum_source(
        &self,
        collection: &Arc<CollectionInfo>,
        partitions: &[Partition],
        ranges: usize,
    ) -> Result<Ranges> {
        let work = partitions.iter().map(|partition| {
            let tables = Arc::clone(&self.tables);
            let observer = Arc::clone(&self.observer);
            let namespace = collection.namespace.clone();
            let fresh = move || Ranges::new(ranges);
            let take = move |sums: &mut Ranges, batch: &DocumentBatch| {
                let mut read = PartitionTotals::default();
                for document in batch.documents() {
                    let document = document?;
                    sums.add(&tables.fingerprint(document)?);
                    read.documents += 1;
                    read.bytes += document.len() as u64;
                }
                observer.progressed(&namespace, read);
                Ok(())
            };
            self.read(collection, partition, fresh, take)
        });
        let parts = stream::iter(work).buffer_unordered(self.options.parallel.max(1));
        parts
            .try_fold(Ranges::new(ranges), |mut all, part| async move {
                all.merge(&part);
                Ok(all)
            })
            .await
    }

    /// The keys of the chosen ranges that are not the same on both sides.
    async fn differing_keys(
        &self,
        collection: &Arc<CollectionInfo>,
        partitions: &[Partition],
        table: &mut dyn ComparedTable,
        chosen: Vec<bool>,
    ) -> Result<Pairs> {
        table.refresh().await?;
        self.changes.now().await?;
        let chosen = Arc::new(chosen);
        let pairs = Arc::new(Mutex::new(Pairs::new()));
        let (all, within) = (Arc::clone(&pairs), Arc::clone(&chosen));
        let take: TakeFingerprints = Arc::new(move |rows: &[Fingerprint]| {
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            for row in rows
                .iter()
                .filter(|row| within[range_of(&row.key, within.len())])
            {
                all.entry(row.key).or_default().table += Tally::one(row.content);
            }
            Ok(())
        });
        table.scan(self.options.parallel, take).await?;

        let work = partitions.iter().map(|partition| {
            let (tables, all) = (Arc::clone(&self.tables), Arc::clone(&pairs));
            let within = Arc::clone(&chosen);
            let take = move |(): &mut (), batch: &DocumentBatch| {
                let mut found = Vec::new();
                for document in batch.documents() {
                    let document = document?;
                    let fingerprint = tables.fingerprint(document)?;
                    if within[range_of(&fingerprint.key, within.len())] {
                        found.push((fingerprint, document));
                    }
                }
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                for (Fingerprint { key, content }, document) in found {
                    let pair = all.entry(key).or_default();
                    // A document that is read again counts once; one that is not the same any
                    // more is looked at again in any case.
                    pair.source = Tally::one(content);
                    if pair.table != pair.source {
                        pair.id = Some(tables.id(document)?);
                    }
                }
                Ok(())
            };
            self.read(collection, partition, || (), take)
        });
        stream::iter(work)
            .buffer_unordered(self.options.parallel.max(1))
            .try_for_each(|()| async { Ok(()) })
            .await?;
        let mut pairs = std::mem::take(&mut *pairs.lock().unwrap_or_else(PoisonError::into_inner));
        pairs.retain(|_, pair| pair.table != pair.source);
        Ok(pairs)
    }

    /// Reads a partition through as many interruptions as it takes, and takes its batches on a
    /// thread of its own. What `fresh` makes is filled by `take`, and made anew where the partition
    /// must be read again.
    async fn read<T: Send + 'static>(
        &self,
        collection: &Arc<CollectionInfo>,
        partition: &Partition,
        fresh: impl Fn() -> T + Send,
        take: impl Fn(&mut T, &DocumentBatch) -> Result<()> + Clone + Send + 'static,
    ) -> Result<T> {
        let mut backoff = Backoff::default();
        let (mut taken, mut from): (T, Option<Bookmark>) = (fresh(), None);
        loop {
            let (out, mut batches) = mpsc::channel::<DocumentBatch>(1);
            let (take, mut bookmark) = (take.clone(), from.clone());
            let work = tokio::task::spawn_blocking(move || {
                let mut batches_taken = 0_u64;
                while let Some(batch) = batches.blocking_recv() {
                    take(&mut taken, &batch)?;
                    batches_taken += 1;
                    bookmark = batch.bookmark;
                }
                Ok::<_, Error>((taken, bookmark, batches_taken))
            });
            let read = self
                .snapshots
                .read(collection, partition, from.as_ref(), out);
            let (read, worked) = tokio::join!(read, work);
            let worked = worked.map_err(|panic| {
                Error::new(ErrorKind::Internal, "a reading thread ended abnormally").because(panic)
            })?;
            let batches_taken;
            (taken, from, batches_taken) = worked?;
            let error = match read {
                Ok(()) => return Ok(taken),
                Err(error) => error,
            };
            if batches_taken > 0 && from.is_some() {
                backoff.reset();
            }
            let Some(wait) = backoff.wait_after(&error, false) else {
                return Err(error);
            };
            self.observer.retrying(&collection.namespace, &error, wait);
            tokio::time::sleep(wait).await;
            if from.is_none() {
                taken = fresh();
            }
        }
    }

    /// Looks at keys that differ until each is the same, or differs for certain, or nothing more
    /// can be learnt.
    async fn settle(
        &self,
        namespace: &Namespace,
        table: &mut dyn ComparedTable,
        pairs: Pairs,
    ) -> Result<Settled> {
        let mut settled = Settled::default();
        let mut suspects: Suspects = pairs
            .into_iter()
            .map(|(key, pair)| {
                let suspect = Suspect {
                    id: pair.id,
                    ..Suspect::default()
                };
                (key, suspect)
            })
            .collect();
        let mut stands_still = false;
        for _ in 0..MOST_LOOKS {
            let until = self
                .look(namespace, table, &mut suspects, &mut settled)
                .await?;
            let is_open = |suspect: &Suspect| suspect.wrong == 0;
            let is_doubtful = |suspect: &Suspect| (1..CONFIRMATIONS).contains(&suspect.wrong);
            let any_doubtful = suspects.values().any(is_doubtful);
            let any_open = suspects.values().any(is_open);
            if !any_doubtful && (!any_open || stands_still) {
                break;
            }
            tokio::time::sleep(self.options.pause).await;
            if any_open && !stands_still {
                stands_still = !self.wait_for(table, until).await?;
            }
        }
        for suspect in suspects.into_values() {
            if suspect.wrong >= CONFIRMATIONS {
                settled.wrong.push(suspect);
            } else {
                settled.unsettled.push(suspect);
            }
        }
        Ok(settled)
    }

    /// Waits until the table has passed `time`. False where it does not in time.
    async fn wait_for(&self, table: &mut dyn ComparedTable, time: ClusterTime) -> Result<bool> {
        let deadline = Instant::now() + self.options.wait;
        loop {
            retried(async || table.refresh().await).await?;
            if table.position().cluster_time > time {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(self.options.pause / 4).await;
        }
    }

    /// Looks at both sides of all suspects, and leaves those that are not known to be right.
    /// Answers a moment that is behind all that was seen of the source.
    async fn look(
        &self,
        namespace: &Namespace,
        table: &mut dyn ComparedTable,
        suspects: &mut Suspects,
        settled: &mut Settled,
    ) -> Result<ClusterTime> {
        let keys: Arc<HashSet<[u8; 16]>> = Arc::new(suspects.keys().copied().collect());
        let rows = retried(async || {
            table.refresh().await?;
            table.rows(Arc::clone(&keys)).await
        })
        .await?;
        let position = table.position().cluster_time;
        let moved = settled
            .looked_at
            .replace(position)
            .is_some_and(|p| p != position);
        let mut found: HashMap<[u8; 16], (Tally, u64)> = HashMap::new();
        for row in rows {
            let key = row.fingerprint.key;
            let (tally, place) = found.entry(key).or_default();
            *tally += Tally::one(row.fingerprint.content);
            *place = place.wrapping_add(row.place);
            if let Some(suspect) = suspects.get_mut(&key) {
                suspect.id.get_or_insert(row.id);
            }
        }
        // A row that is gone, of a document that was not there.
        suspects.retain(|_, suspect| suspect.id.is_some());

        // The source behind the table: what is seen now is not from before the row was written.
        let from = self.now().await?;
        let now = self
            .documents(namespace, suspects, Moment::Behind(from))
            .await?
            .unwrap_or_default();
        let until = self.now().await?;
        suspects.retain(|key, suspect| {
            let source = now.get(key).copied().unwrap_or_default();
            let (row, place) = found.get(key).copied().unwrap_or_default();
            if suspect.placed.is_none() || suspect.place != place {
                suspect.placed = Some(from);
            }
            (suspect.table, suspect.place) = (row, place);
            suspect.see(Sighting {
                from,
                until,
                source,
            });
            !suspect.was_seen_as_row(position)
        });
        if suspects.is_empty() {
            return Ok(until);
        }

        // The source at the table's position. A transaction of that very moment may be in the table
        // in part: where a row is as its document was just before, nothing is known yet.
        let just_before = ClusterTime(position.0.saturating_sub(1));
        let then = self
            .documents(namespace, suspects, Moment::At(position))
            .await?;
        let before = self
            .documents(namespace, suspects, Moment::At(just_before))
            .await?;
        suspects.retain(|key, suspect| {
            let at = |moment: &Option<Contents>| {
                let documents = moment.as_ref()?;
                Some(documents.get(key).copied().unwrap_or_default())
            };
            let (then, before) = (at(&then), at(&before));
            if then == Some(suspect.table) {
                settled.changed_since += 1;
                return false;
            }
            suspect.wrong = suspect.judged(position, moved, then, before);
            true
        });
        Ok(until)
    }

    async fn now(&self) -> Result<ClusterTime> {
        let position = retried(async || self.changes.now().await).await?;
        Ok(position.cluster_time)
    }

    /// What documents say at a moment, by key; none where the source does not remember it.
    async fn documents(
        &self,
        namespace: &Namespace,
        suspects: &Suspects,
        moment: Moment,
    ) -> Result<Option<Contents>> {
        let ids: Vec<Bytes> = suspects.values().filter_map(|s| s.id.clone()).collect();
        retried(async || {
            let (out, mut batches) = mpsc::channel::<DocumentBatch>(1);
            let tables = Arc::clone(&self.tables);
            let work = tokio::task::spawn_blocking(move || {
                let mut found = HashMap::new();
                while let Some(batch) = batches.blocking_recv() {
                    for document in batch.documents() {
                        let Fingerprint { key, content } = tables.fingerprint(document?)?;
                        found.insert(key, Tally::one(content));
                    }
                }
                Ok::<_, Error>(found)
            });
            let read = self.lookups.look_up(namespace, &ids, moment, out);
            let (read, found) = tokio::join!(read, work);
            let found = found.map_err(|panic| {
                Error::new(ErrorKind::Internal, "a reading thread ended abnormally").because(panic)
            })??;
            Ok(read?.then_some(found))
        })
        .await
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
