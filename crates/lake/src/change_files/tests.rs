//! Files of events in a store that fails and processes that end, compared with the events.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use async_trait::async_trait;
use bson::doc;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tributary_model::ClusterTime;

use super::*;

/// What becomes of a call of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Well,
    /// Nothing is done.
    Refused,
    /// It is done, and the answer is lost.
    Unanswered,
    /// It is done, and the process ends.
    LastBreath,
    /// The process ends.
    Death,
}

/// A store, and what is to become of the next calls.
#[derive(Clone, Default)]
struct Fated {
    inner: Arc<InMemory>,
    fates: Arc<Mutex<VecDeque<Fate>>>,
    is_dead: Arc<Mutex<bool>>,
    /// Each file of events takes one.
    permits: Option<Arc<Semaphore>>,
    /// What decides how long others come first.
    chance: Option<Arc<AtomicU64>>,
}

impl Fated {
    fn place(&self) -> Location {
        // To make a client of S3 takes longer than all that a test does.
        static PLACE: LazyLock<Location> =
            LazyLock::new(|| Location::parse("s3://bucket/changes").unwrap());
        let store = self.clone();
        PLACE.clone().through(|_| Arc::new(store))
    }

    async fn let_others_come_first(&self) {
        let Some(chance) = &self.chance else { return };
        // Knuth's linear congruential generator, whose higher bits are the better ones.
        let next = |seed: u64| {
            let seed = seed.wrapping_mul(6_364_136_223_846_793_005);
            seed.wrapping_add(1_442_695_040_888_963_407)
        };
        let seed = chance.load(Ordering::Relaxed);
        chance.store(next(seed), Ordering::Relaxed);
        for _ in 0..(seed >> 33) % 8 {
            tokio::task::yield_now().await;
        }
    }

    async fn call<T>(
        &self,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> object_store::Result<T> {
        let refused = || object_store::Error::Generic {
            store: "fated",
            source: "it fails".into(),
        };
        if *self.is_dead.lock().unwrap() {
            return Err(refused());
        }
        self.let_others_come_first().await;
        let fate = self.fates.lock().unwrap().pop_front();
        match fate.unwrap_or(Fate::Well) {
            Fate::Well => work.await,
            Fate::Refused => Err(refused()),
            Fate::Unanswered => {
                let _ = work.await;
                Err(refused())
            }
            Fate::LastBreath => {
                let _ = work.await;
                *self.is_dead.lock().unwrap() = true;
                Err(refused())
            }
            Fate::Death => {
                *self.is_dead.lock().unwrap() = true;
                Err(refused())
            }
        }
    }
}

impl fmt::Debug for Fated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fated")
    }
}

impl fmt::Display for Fated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fated")
    }
}

#[async_trait]
impl ObjectStore for Fated {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        if let Some(permits) = &self.permits
            && !location.as_ref().contains("_changes.state")
        {
            permits.acquire().await.unwrap().forget();
        }
        self.call(self.inner.put_opts(location, payload, options))
            .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        self.call(self.inner.get_opts(location, options)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let this = self.clone();
        let delete = move |path: object_store::Result<Path>| {
            let this = this.clone();
            async move {
                let path = path?;
                this.call(this.inner.delete(&path)).await?;
                Ok(path)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn token(number: usize) -> String {
    format!("82{number:08X}")
}

/// The nth event: several have the same moment.
fn event(number: usize, collection: Option<&str>) -> RawEvent {
    let document = doc! { "_id": { "_data": token(number) }, "n": number as i32 };
    RawEvent {
        token: token(number),
        cluster_time: ClusterTime::new(1000 + number as u32 / 7, 1 + number as u32 % 7 / 3),
        wall_time: 0,
        operation: "insert".to_owned(),
        database: "shop".to_owned(),
        collection: collection.map(str::to_owned),
        document: bson::serialize_to_vec(&document).unwrap().into(),
        is_reduced: false,
    }
}

fn behind(event: &RawEvent) -> Position {
    Position {
        resume_token: Some(event.token.clone()),
        ..Position::at(event.cluster_time)
    }
}

fn options(events_per_file: usize) -> ChangeFilesOptions {
    ChangeFilesOptions {
        json: JsonMode::Relaxed,
        gzip: false,
        events_per_file,
        database: Some("shop".to_owned()),
    }
}

/// The tokens in the files of each directory, in the order of the files' names.
async fn tokens_in(store: &InMemory) -> BTreeMap<String, Vec<String>> {
    tokens_where(store, |_| true).await
}

/// The tokens in those that count, as anybody can tell them.
async fn counted_tokens(store: &InMemory) -> BTreeMap<String, Vec<String>> {
    let path = Path::from("changes/_changes.state/position.json");
    let bytes = store.get(&path).await.unwrap().bytes().await.unwrap();
    let position: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let last = position["batch"].as_u64().unwrap();
    let withdrawn = position["withdrawn"].as_array().unwrap();
    tokens_where(store, |name| {
        let batch = name.strip_suffix(".jsonl").unwrap().rsplit_once('-');
        let batch: u64 = batch.unwrap().1.parse().unwrap();
        batch <= last && !withdrawn.contains(&batch.into())
    })
    .await
}

async fn tokens_where(
    store: &InMemory,
    counts: impl Fn(&str) -> bool,
) -> BTreeMap<String, Vec<String>> {
    let mut objects: Vec<Path> = store
        .list(None)
        .map(|object| object.unwrap().location)
        .collect()
        .await;
    objects.sort();
    let mut tokens: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for object in objects {
        let (directory, _) = object.as_ref().rsplit_once('/').unwrap();
        if directory.ends_with("_changes.state") || !counts(object.filename().unwrap()) {
            continue;
        }
        let bytes = store.get(&object).await.unwrap().bytes().await.unwrap();
        for line in std::str::from_utf8(&bytes).unwrap().lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            let token = event["_id"]["_data"].as_str().unwrap().to_owned();
            tokens.entry(directory.to_owned()).or_default().push(token);
        }
    }
    tokens
}

/// Publishes all events, by as many processes as it takes. Each looks where it is, and cuts batches and files in
/// its own way.
async fn publish_all(
    events: &[RawEvent],
    fates: Vec<Fate>,
    cuts: &[(usize, usize)],
) -> Arc<InMemory> {
    let store = Fated {
        fates: Arc::new(Mutex::new(fates.into())),
        ..Fated::default()
    };
    let place = store.place();
    let mut cuts = cuts.iter().copied().cycle();
    'process: loop {
        *store.is_dead.lock().unwrap() = false;
        let (of_batch, of_file) = cuts.next().unwrap();
        let mut files = ChangeFiles::new(place.clone(), options(of_file));
        let position = loop {
            match files.position().await {
                Ok(position) => break position,
                Err(_) if *store.is_dead.lock().unwrap() => continue 'process,
                Err(error) => assert!(error.kind().is_transient(), "{error}"),
            }
        };
        let mut position = match position {
            Some(position) => position,
            None => {
                let start = Position::at(ClusterTime::new(1, 1));
                loop {
                    match files.publish(&[], &start).await {
                        Ok(_) => break start,
                        Err(_) if *store.is_dead.lock().unwrap() => continue 'process,
                        Err(error) => assert!(error.kind().is_transient(), "{error}"),
                    }
                }
            }
        };
        // What does not count is gone.
        for token in tokens_in(&store.inner).await.into_values().flatten() {
            let reached = position.resume_token.as_deref().unwrap_or_default();
            assert!(token.as_str() <= reached, "{token} at {reached}");
        }
        loop {
            let next: Vec<RawEvent> = events
                .iter()
                .filter(|event| !position.has_passed(&event.token, event.cluster_time))
                .take(of_batch)
                .cloned()
                .collect();
            let Some(last) = next.last() else {
                return store.inner;
            };
            let reached = behind(last);
            loop {
                match files.publish(&next, &reached).await {
                    Ok(_) => break,
                    Err(_) if *store.is_dead.lock().unwrap() => continue 'process,
                    Err(error) => assert!(error.kind().is_transient(), "{error}"),
                }
            }
            position = reached;
        }
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        12 => Just(Fate::Well),
        2 => Just(Fate::Refused),
        2 => Just(Fate::Unanswered),
        1 => Just(Fate::LastBreath),
        1 => Just(Fate::Death),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_fails_each_event_is_in_one_file_in_order(
        of in prop::collection::vec(0..3_usize, 1..60),
        fates in prop::collection::vec(fate(), 0..150),
        cuts in prop::collection::vec((1..20_usize, 1..6_usize), 1..6),
    ) {
        let names = [Some("orders"), Some("a/b"), None];
        let events: Vec<RawEvent> =
            of.iter().enumerate().map(|(number, of)| event(number, names[*of])).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let store = runtime.block_on(publish_all(&events, fates, &cuts));
        let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for event in &events {
            let directory = match event.collection.as_deref() {
                Some("a/b") => "changes/shop/a=2Fb",
                Some(_) => "changes/shop/orders",
                None => "changes/shop",
            };
            expected.entry(directory.to_owned()).or_default().push(event.token.clone());
        }
        prop_assert_eq!(runtime.block_on(tokens_in(&store)), expected);
    }
}

#[tokio::test]
async fn who_was_overtaken_is_refused_its_next_batch() {
    let store: Arc<InMemory> = Arc::default();
    let place = Location::parse("s3://bucket/changes")
        .unwrap()
        .through(|_| store.clone());
    let new = || ChangeFiles::new(place.clone(), options(1));
    let (mut first, mut second) = (new(), new());
    let events: Vec<RawEvent> = (0..3).map(|number| event(number, Some("orders"))).collect();
    first.position().await.unwrap();
    let start = Position::at(ClusterTime::new(1, 1));
    first.publish(&[], &start).await.unwrap();
    first
        .publish(&events[..1], &behind(&events[0]))
        .await
        .unwrap();
    assert_eq!(second.position().await.unwrap(), Some(behind(&events[0])));
    second
        .publish(&events[1..2], &behind(&events[1]))
        .await
        .unwrap();
    let refused = first
        .publish(&events[1..3], &behind(&events[2]))
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    assert!(refused.to_string().contains("another process"), "{refused}");
    second
        .publish(&events[2..], &behind(&events[2]))
        .await
        .unwrap();
    let expected: Vec<String> = (0..3).map(token).collect();
    assert_eq!(
        tokens_in(&store).await.into_values().collect::<Vec<_>>(),
        [expected]
    );
}

/// Events of two collections in turn.
fn of_two(count: usize) -> Vec<RawEvent> {
    let name = |number: usize| ["orders", "customers"][number % 2];
    (0..count)
        .map(|number| event(number, Some(name(number))))
        .collect()
}

fn by_directory(events: &[RawEvent]) -> BTreeMap<String, Vec<String>> {
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in events {
        let collection = event.collection.as_deref().unwrap();
        let tokens = expected.entry(format!("changes/shop/{collection}"));
        tokens.or_default().push(event.token.clone());
    }
    expected
}

#[tokio::test]
async fn files_of_a_writer_that_was_overtaken_never_count_however_late_they_come() {
    let slow_store = Fated {
        permits: Some(Arc::new(Semaphore::new(1))),
        ..Fated::default()
    };
    let store = Fated {
        permits: None,
        ..slow_store.clone()
    };
    let events = of_two(10);
    let start = Position::at(ClusterTime::new(1, 1));
    let mut slow = ChangeFiles::new(slow_store.place(), options(3));
    assert_eq!(slow.position().await.unwrap(), None);
    slow.publish(&[], &start).await.unwrap();
    let first = events[..6].to_vec();
    let late = tokio::spawn(async move { slow.publish(&first, &behind(&first[5])).await });
    // One of its two files comes in time.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while tokens_in(&store.inner).await.is_empty() {
        assert!(std::time::Instant::now() < deadline, "no file was written");
        tokio::task::yield_now().await;
    }
    let mut next = ChangeFiles::new(store.place(), options(100));
    assert_eq!(next.position().await.unwrap(), Some(start));
    next.publish(&events[..9], &behind(&events[8]))
        .await
        .unwrap();
    slow_store.permits.unwrap().add_permits(10);
    let refused = late.await.unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "{refused}");
    let all = tokens_in(&store.inner).await;
    assert_eq!(all.values().map(Vec::len).sum::<usize>(), 9 + 3, "{all:?}");
    assert_eq!(
        counted_tokens(&store.inner).await,
        by_directory(&events[..9])
    );
    drop(next);
    let mut last = ChangeFiles::new(store.place(), options(3));
    assert_eq!(last.position().await.unwrap(), Some(behind(&events[8])));
    last.publish(&events[9..], &behind(&events[9]))
        .await
        .unwrap();
    assert_eq!(counted_tokens(&store.inner).await, by_directory(&events));
}

/// Publishes what is left in small batches until all is published; whether it was.
async fn publish_rest(store: &Fated, events: &[RawEvent], of_file: usize) -> bool {
    let mut files = ChangeFiles::new(store.place(), options(of_file));
    let Ok(Some(mut position)) = files.position().await else {
        return false;
    };
    loop {
        let next: Vec<RawEvent> = events
            .iter()
            .filter(|event| !position.has_passed(&event.token, event.cluster_time))
            .take(7)
            .cloned()
            .collect();
        let Some(last) = next.last() else { return true };
        position = behind(last);
        if files.publish(&next, &position).await.is_err() {
            return false;
        }
    }
}

#[tokio::test]
async fn writers_that_overtake_each_other_lose_and_double_nothing() {
    for seed in 0..60 {
        let store = Fated {
            chance: Some(Arc::new(AtomicU64::new(seed))),
            ..Fated::default()
        };
        let events = of_two(60);
        let mut first = ChangeFiles::new(store.place(), options(1));
        first.position().await.unwrap();
        let start = Position::at(ClusterTime::new(1, 1));
        first.publish(&[], &start).await.unwrap();
        let starts = |of_file: usize| {
            let (store, events) = (store.clone(), events.clone());
            async move {
                for _ in 0..6 {
                    if publish_rest(&store, &events, of_file).await {
                        break;
                    }
                }
            }
        };
        tokio::join!(starts(2), starts(3), starts(100));
        assert!(publish_rest(&store, &events, 5).await, "seed {seed}");
        let expected = by_directory(&events);
        assert_eq!(counted_tokens(&store.inner).await, expected, "seed {seed}");
    }
}

#[tokio::test]
async fn on_disk_a_second_process_is_refused_at_once() {
    let directory = TempDir::new().unwrap();
    let place = Location::parse(&directory.path().to_string_lossy()).unwrap();
    let mut first = ChangeFiles::new(place.clone(), options(1));
    first.position().await.unwrap();
    let mut second = ChangeFiles::new(place.clone(), options(1));
    let refused = second.position().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    drop(first);
    assert_eq!(second.position().await.unwrap(), None);
}

#[test]
fn a_reduced_event_says_what_it_lacks() {
    let mut reduced = event(1, Some("orders"));
    reduced.is_reduced = true;
    let layout = Layout {
        mode: Mode::Relaxed,
        gzip: false,
        events_per_file: 10,
    };
    let planned = plan(
        &[event(0, Some("orders")), reduced],
        1,
        plan::Moment::default(),
        layout,
    );
    let planned = planned.unwrap();
    assert_eq!(planned.files.len(), 1);
    assert_eq!(planned.files[0].reduced, 1);
    assert_eq!(
        String::from_utf8(planned.files[0].content.clone()).unwrap(),
        "{\"_id\":{\"_data\":\"8200000000\"},\"n\":0}\n\
         {\"_id\":{\"_data\":\"8200000001\"},\"n\":1,\"_tributary\":{\"leftOut\":\
         [\"fullDocumentBeforeChange\",\"updateDescription\",\"fullDocument\"]}}\n"
    );
}
