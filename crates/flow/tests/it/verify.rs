//! Comparing a source with its table in a world where both move, and where what is wrong is known.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tributary_flow::verify::TakeFingerprints;
use tributary_flow::{
    Bookmark, ChangeSource, CollectionInfo, CollectionKind, ComparedTable, ComparedTables,
    DocumentBatch, EventBatch, Fingerprint, FoundRow, HistoryWindow, LookupSource, Moment,
    Partition, Quiet, SnapshotSource, Verified, Verify, VerifyOptions, verify,
};
use tributary_model::{ClusterTime, Error, ErrorKind, Namespace, Position, Result};

/// The first keys change all the time, the others never.
const HOT: u32 = 12;
const KEYS: u32 = 40;

#[derive(Clone, Copy)]
struct Row {
    value: u32,
    /// Counts the times that it was written.
    place: u64,
}

/// All that there is. A moment passes whenever somebody looks.
struct World {
    random: StdRng,
    /// The documents at every moment.
    history: Vec<BTreeMap<u32, u32>>,
    rows: BTreeMap<u32, Row>,
    position: usize,
    changes: bool,
    syncs: bool,
    remembers: bool,
    written: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let documents: BTreeMap<u32, u32> = (0..KEYS).map(|key| (key, 1)).collect();
        let rows = documents.iter().map(|(key, value)| {
            let row = Row {
                value: *value,
                place: 0,
            };
            (*key, row)
        });
        Self {
            random: StdRng::seed_from_u64(seed),
            rows: rows.collect(),
            history: vec![documents; 2],
            position: 1,
            changes: true,
            syncs: true,
            remembers: true,
            written: 0,
        }
    }

    fn now(&self) -> usize {
        self.history.len() - 1
    }

    fn pass(&mut self) {
        for _ in 0..self.random.random_range(0..4) {
            let mut next = self.history[self.now()].clone();
            if self.changes {
                // Few values, so that a document often is again what it was.
                let key = self.random.random_range(0..HOT);
                match self.random.random_range(0..4) {
                    0 => next.remove(&key),
                    value => next.insert(key, value),
                };
            }
            self.history.push(next);
        }
        if self.syncs && self.random.random_ratio(1, 2) {
            self.sync();
        }
    }

    /// Brings the table to a later moment. An update comes with the document as it is when it is
    /// looked up, which may be later still.
    fn sync(&mut self) {
        let to = self.random.random_range(self.position..=self.now());
        for key in 0..KEYS {
            let changed = (self.position + 1..=to)
                .rfind(|at| self.history[*at].get(&key) != self.history[at - 1].get(&key));
            let Some(changed) = changed else {
                continue;
            };
            self.written += 1;
            match self.history[changed].get(&key) {
                None => {
                    self.rows.remove(&key);
                }
                Some(value) => {
                    let looked_up = self.random.random_range(changed..=self.now());
                    let value = *self.history[looked_up].get(&key).unwrap_or(value);
                    let place = self.written;
                    self.rows.insert(key, Row { value, place });
                }
            }
        }
        self.position = to;
    }
}

fn document(key: u32, value: u32) -> Vec<u8> {
    let mut document = 13_i32.to_le_bytes().to_vec();
    document.extend_from_slice(&key.to_le_bytes());
    document.extend_from_slice(&value.to_le_bytes());
    document.push(0);
    document
}

fn batch(documents: impl Iterator<Item = (u32, u32)>) -> DocumentBatch {
    let mut array = vec![0; 4];
    for (key, value) in documents {
        array.extend_from_slice(b"\x030\0");
        array.extend_from_slice(&document(key, value));
    }
    array.push(0);
    DocumentBatch::new(Bytes::from(array))
}

fn key_of(document: &[u8]) -> u32 {
    u32::from_le_bytes(document[4..8].try_into().unwrap())
}

fn fingerprint(key: u32, value: u32) -> Fingerprint {
    let mut hash = [0; 16];
    hash[4..8].copy_from_slice(&key.to_be_bytes());
    Fingerprint {
        key: hash,
        content: u128::from(key) << 32 | u128::from(value),
    }
}

fn time(moment: usize) -> ClusterTime {
    ClusterTime(moment as u64)
}

#[derive(Clone)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    fn look<T>(&self, with: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.0.lock().unwrap();
        world.pass();
        with(&mut world)
    }
}

#[async_trait]
impl SnapshotSource for Shared {
    fn address(&self) -> String {
        "memory".to_owned()
    }

    async fn collections(&self) -> Result<Vec<CollectionInfo>> {
        Ok(vec![CollectionInfo {
            namespace: Namespace::new("db", "c"),
            kind: CollectionKind::Collection,
            uuid: None,
            documents: None,
            bytes: None,
        }])
    }

    async fn plan(&self, _: &CollectionInfo, _: usize) -> Result<Vec<Partition>> {
        let partition = |index| Partition {
            index,
            lower: None,
            upper: None,
            bytes: None,
        };
        Ok((0..4).map(partition).collect())
    }

    async fn read(
        &self,
        _: &CollectionInfo,
        partition: &Partition,
        _: Option<&Bookmark>,
        out: mpsc::Sender<DocumentBatch>,
    ) -> Result<()> {
        // Each document at a moment of its own.
        for key in (0..KEYS).filter(|key| key % 4 == partition.index) {
            let value = self.look(|world| world.history[world.now()].get(&key).copied());
            if out
                .send(batch(value.map(|v| (key, v)).into_iter()))
                .await
                .is_err()
            {
                return Ok(());
            }
            if self.0.lock().unwrap().random.random_ratio(1, 50) {
                return Err(Error::new(ErrorKind::Unavailable, "for now"));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl ChangeSource for Shared {
    async fn now(&self) -> Result<Position> {
        Ok(Position::at(self.look(|world| time(world.now()))))
    }

    async fn follow(&self, _: &Position, _: mpsc::Sender<EventBatch>) -> Result<()> {
        Ok(())
    }

    fn selects(&self, _: &Namespace) -> bool {
        true
    }

    async fn window(&self) -> Result<Option<HistoryWindow>> {
        Ok(None)
    }
}

#[async_trait]
impl LookupSource for Shared {
    async fn look_up(
        &self,
        _: &Namespace,
        ids: &[Bytes],
        moment: Moment,
        out: mpsc::Sender<DocumentBatch>,
    ) -> Result<bool> {
        let found = self.look(|world| {
            let at = match moment {
                Moment::At(_) if !world.remembers => return None,
                Moment::At(time) => time.0 as usize,
                Moment::Behind(time) => world.random.random_range(time.0 as usize..=world.now()),
            };
            let documents = &world.history[at];
            let keys = ids.iter().map(|id| key_of(id));
            Some(
                keys.filter_map(|key| Some((key, *documents.get(&key)?)))
                    .collect::<Vec<_>>(),
            )
        });
        let Some(found) = found else {
            return Ok(false);
        };
        let _ = out.send(batch(found.into_iter())).await;
        Ok(true)
    }
}

#[async_trait]
impl ComparedTables for Shared {
    async fn open(&self, _: &Namespace) -> Result<Option<Box<dyn ComparedTable>>> {
        Ok(Some(Box::new(Table::of(self))))
    }

    fn fingerprint(&self, document: &[u8]) -> Result<Fingerprint> {
        let value = u32::from_le_bytes(document[8..12].try_into().unwrap());
        Ok(fingerprint(key_of(document), value))
    }

    fn id(&self, document: &[u8]) -> Result<Bytes> {
        Ok(Bytes::copy_from_slice(document))
    }

    fn spell(&self, id: &[u8]) -> String {
        format!("{:02}", key_of(id))
    }
}

/// The table at one version.
struct Table {
    world: Shared,
    rows: BTreeMap<u32, Row>,
    position: usize,
}

impl Table {
    fn of(world: &Shared) -> Self {
        let (rows, position) = world.look(|world| (world.rows.clone(), world.position));
        Self {
            world: world.clone(),
            rows,
            position,
        }
    }
}

#[async_trait]
impl ComparedTable for Table {
    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn position(&self) -> Position {
        Position::at(time(self.position))
    }

    async fn refresh(&mut self) -> Result<bool> {
        *self = Self::of(&self.world.clone());
        Ok(true)
    }

    async fn scan(&mut self, _: usize, take: TakeFingerprints) -> Result<()> {
        for (key, row) in &self.rows {
            take(&[fingerprint(*key, row.value)])?;
        }
        Ok(())
    }

    async fn rows(&mut self, keys: Arc<HashSet<[u8; 16]>>) -> Result<Vec<FoundRow>> {
        let found = self.rows.iter().map(|(key, row)| FoundRow {
            fingerprint: fingerprint(*key, row.value),
            id: document(*key, 0).into(),
            place: row.place,
        });
        Ok(found
            .filter(|row| keys.contains(&row.fingerprint.key))
            .collect())
    }
}

fn compare(world: World) -> Verified {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // A table that moves on is waited for as long as it takes on a busy machine.
    let wait = Duration::from_millis(if world.syncs { 10_000 } else { 20 });
    let world = Shared(Arc::new(Mutex::new(world)));
    let work = Verify {
        snapshots: Arc::new(world.clone()),
        changes: Arc::new(world.clone()),
        lookups: Arc::new(world.clone()),
        tables: Arc::new(world),
        observer: Arc::new(Quiet),
        options: VerifyOptions {
            parallel: 2,
            wait,
            pause: Duration::from_millis(1),
            ..VerifyOptions::default()
        },
    };
    let mut report = runtime
        .block_on(verify(&work, CancellationToken::new()))
        .unwrap();
    report.collections.remove(0).result.unwrap()
}

/// Keys found wrong, of whatever sort.
fn wrong(found: &Verified) -> Vec<&str> {
    let mut keys: Vec<&str> = [&found.missing, &found.extra, &found.different]
        .into_iter()
        .flat_map(|sort| sort.keys.iter().map(String::as_str))
        .collect();
    keys.sort_unstable();
    keys
}

#[test]
fn a_table_that_follows_is_never_called_wrong() {
    for seed in 0..10 {
        let found = compare(World::new(seed));
        assert_eq!(wrong(&found), [""; 0], "seed {seed}: {found:#?}");
        let world = World {
            remembers: false,
            ..World::new(seed)
        };
        let found = compare(world);
        assert_eq!(wrong(&found), [""; 0], "seed {seed}: {found:#?}");
    }
}

#[test]
fn a_table_that_stands_still_is_never_called_wrong() {
    for seed in 0..10 {
        for remembers in [true, false] {
            let mut world = World::new(seed);
            for _ in 0..20 {
                world.pass();
            }
            world.syncs = false;
            world.remembers = remembers;
            let found = compare(world);
            assert_eq!(wrong(&found), [""; 0], "seed {seed}: {found:#?}");
        }
    }
}

#[test]
fn a_table_that_follows_a_source_at_rest_agrees() {
    for seed in 0..10 {
        let mut world = World::new(seed);
        for _ in 0..20 {
            world.pass();
        }
        world.changes = false;
        let found = compare(world);
        assert!(found.agrees(), "seed {seed}: {found:#?}");
    }
}

#[test]
fn what_is_wrong_is_found_whatever_moves() {
    for seed in 0..10 {
        for (syncs, remembers) in [(true, true), (true, false), (false, true)] {
            let mut world = World::new(seed);
            world.syncs = syncs;
            world.remembers = remembers;
            // Among those that never change: missing, different, extra.
            world.rows.remove(&20);
            world.rows.insert(21, Row { value: 7, place: 0 });
            world.history.iter_mut().for_each(|documents| {
                documents.remove(&22);
            });
            let found = compare(world);
            assert_eq!(found.missing.keys, ["20"], "seed {seed}: {found:#?}");
            assert_eq!(found.different.keys, ["21"], "seed {seed}: {found:#?}");
            assert_eq!(found.extra.keys, ["22"], "seed {seed}: {found:#?}");
        }
    }
}

#[test]
fn what_cannot_be_told_is_not_called_wrong_nor_right() {
    let mut world = World::new(1);
    world.syncs = false;
    world.changes = false;
    world.remembers = false;
    world.rows.insert(21, Row { value: 7, place: 0 });
    let found = compare(world);
    assert_eq!(wrong(&found), [""; 0], "{found:#?}");
    assert_eq!(found.unsettled.keys, ["21"]);
    assert!(!found.agrees() && !found.differs());
}
