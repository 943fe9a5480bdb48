//! Faults while tables follow their collections: of members, networks, stores, disks, and by
//! other writers. After each the table holds what the collection does.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Decimal128, Document, doc};
use futures::TryStreamExt;
use mongodb::options::{Acknowledgment, WriteConcern};
use mongodb::{Client, Collection, Database};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use tempfile::TempDir;
use tributary_testkit::{
    Fault, FaultProxy, HttpProxy, Mode, Mongod, ReplicaSet, S3Server, SharedMongod, Signal, halt,
    send_signal, unique_name,
};

use crate::metrics::{Scraped, address};
use crate::readers::{self, compare_at};
use crate::running::Running;
use crate::support::{LIMIT, Run, command, filler, run_command};
use crate::sync::{COPY_ON_WRITE, LEAST_WRITES};
use crate::sync_lost::mark;

/// The key of a document that is written last: a table that has it has all before it.
pub(crate) const END: i32 = -1;

/// A database and a lake whose tables follow it.
pub(crate) struct Place {
    /// What sync is told to read, perhaps through faults.
    pub(crate) source: String,
    /// The deployment itself.
    uri: String,
    pub(crate) name: String,
    pub(crate) database: Database,
    lake: String,
    /// How the lake's store is reached without faults.
    environment: Vec<(String, String)>,
    /// What every sync is told beside.
    options: Vec<&'static str>,
    directory: TempDir,
}

impl Place {
    /// A new database of the deployment at `uri`, and a lake on disk.
    pub(crate) async fn new(uri: &str, name: &str) -> Self {
        let name = unique_name(name);
        let client = Client::with_uri_str(uri).await.unwrap();
        let directory = TempDir::new().unwrap();
        let (address, options) = uri.split_once('?').unwrap();
        let address = address.trim_end_matches('/');
        Self {
            source: format!("{address}/{name}?{options}"),
            uri: uri.to_owned(),
            database: client.database(&name),
            name,
            lake: directory.path().join("lake").to_string_lossy().into_owned(),
            environment: Vec::new(),
            options: Vec::new(),
            directory,
        }
    }

    /// The same with the lake in a bucket.
    async fn in_s3(uri: &str, name: &str, server: &S3Server) -> Self {
        let mut place = Self::new(uri, name).await;
        let bucket = unique_name("lake");
        server.create_bucket(&bucket).await.unwrap();
        place.lake = format!("s3://{bucket}/lake");
        place.environment = server.env();
        place
    }

    pub(crate) fn collection(&self, name: &str) -> Collection<Document> {
        self.database.collection(name)
    }

    pub(crate) fn table(&self, collection: &str) -> PathBuf {
        Path::new(&self.lake).join(&self.name).join(collection)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        let path = self.directory.path().join(name);
        path.to_string_lossy().into_owned()
    }

    /// A sync of the whole database, through `endpoint` instead of the store where that is given.
    pub(crate) fn sync_through(&self, endpoint: Option<&str>, arguments: &[&str]) -> Command {
        let index = self.path("index");
        let fixed = ["sync", &self.source, &self.lake, "--output", "json"];
        let mut sync = command(&[&fixed, arguments].concat());
        if !arguments.contains(&"--index") {
            sync.args(["--index", &index]);
        }
        sync.args(&self.options);
        sync.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(endpoint) = endpoint {
            sync.env("AWS_ENDPOINT_URL", endpoint);
        }
        sync
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        Running::start(self.sync_through(None, arguments))
    }

    pub(crate) fn once(&self) -> Run {
        run_command(self.sync_through(None, &["--once"]))
    }

    /// The newest version of a table on disk.
    fn version(&self, collection: &str) -> Option<String> {
        let log = self.table(collection).join("_delta_log");
        let mut names = crate::support::files_below(&log);
        names.retain(|name| name.ends_with(".json"));
        names.pop()
    }

    /// The rows of a query; none where it cannot be answered, perhaps not yet.
    pub(crate) fn rows(&self, query: &str) -> Option<Vec<Value>> {
        let run = self.query(query);
        (run.code == Some(0)).then(|| run.rows())
    }

    /// What comes of a query over the lake.
    pub(crate) fn query(&self, query: &str) -> Run {
        let query = query.replace("FROM ", &format!("FROM {}.", self.name));
        let mut sql = command(&["sql", "--lake", &self.lake, "--output", "json", &query]);
        sql.envs(self.environment.iter().map(|(name, value)| (name, value)));
        run_command(sql)
    }

    pub(crate) fn count(&self, collection: &str, condition: &str) -> Option<i64> {
        let query = format!("SELECT count(*) AS n FROM {collection} WHERE {condition}");
        self.rows(&query)?[0]["n"].as_i64()
    }

    pub(crate) async fn wait_for_count(&self, collection: &str, condition: &str, rows: i64) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let found = self.count(collection, condition);
            if found == Some(rows) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{collection} has {found:?} rows of {condition}, and not {rows}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Writes a last document and waits until the table has it.
    pub(crate) async fn reach_end(&self, collection: &str) {
        let n = rand::rng().random_range(0..1_000_000_000);
        let end = doc! { "n": n, "text": "end" };
        let collection_of_end = self.collection(collection);
        let replace = collection_of_end.replace_one(doc! { "_id": END }, end);
        replace.upsert(true).await.unwrap();
        self.wait_for_count(collection, &format!("_id = {END} AND n = {n}"), 1)
            .await;
    }

    /// Asserts that a table on disk holds what its collection does, as readers of its own see both.
    #[track_caller]
    pub(crate) fn assert_same(&self, collection: &str) {
        let table = self.table(collection);
        let table = table.to_string_lossy();
        compare_at("deltalake", &self.uri, &self.name, collection, &table);
    }

    /// The same for a lake in S3, where the documents are those of [`work`].
    async fn assert_same_rows(&self, collection: &str) {
        let found = self
            .rows(&format!(
                "SELECT _id, n, text FROM {collection} ORDER BY _id"
            ))
            .expect("the lake's rows");
        let collection = self.collection(collection);
        let documents: Vec<Document> = collection
            .find(doc! {})
            .sort(doc! { "_id": 1 })
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        assert_eq!(found.len(), documents.len());
        for (row, document) in found.iter().zip(documents) {
            let expected = ["_id", "n", "text"]
                .map(|field| document.get(field).cloned().map(Bson::into_relaxed_extjson));
            let found = ["_id", "n", "text"].map(|field| row.get(field).cloned());
            assert_eq!(found, expected);
        }
    }
}

/// Writes to collections until it is told to stop, whatever becomes of single writes.
pub(crate) struct Workers {
    done: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Workers {
    pub(crate) fn start(place: &Place, names: &[&'static str]) -> Self {
        let mut workers = Self {
            done: Arc::default(),
            written: Arc::default(),
            tasks: Vec::new(),
        };
        for name in names {
            let task = work(
                place.collection(name),
                Arc::clone(&workers.done),
                Arc::clone(&workers.written),
            );
            workers.tasks.push(tokio::spawn(task));
        }
        workers
    }

    /// Waits until so much more has been written.
    pub(crate) async fn wait_for(&self, more: u64) {
        let goal = self.written.load(Ordering::Relaxed) + more;
        let deadline = Instant::now() + LIMIT;
        while self.written.load(Ordering::Relaxed) < goal {
            assert!(Instant::now() < deadline, "nothing is written any more");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends it once enough has been written, however fast all else is.
    pub(crate) async fn stop(self) {
        let missing = LEAST_WRITES.saturating_sub(self.written.load(Ordering::Relaxed));
        self.wait_for(missing).await;
        self.done.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

async fn work(collection: Collection<Document>, done: Arc<AtomicBool>, written: Arc<AtomicU64>) {
    let mut random = StdRng::from_rng(&mut rand::rng());
    while !done.load(Ordering::Relaxed) {
        let filter = doc! { "_id": random.random_range(0..300) };
        let n = random.random_range(0..1_000_000);
        let content = doc! { "n": n, "text": "x".repeat(random.random_range(0..100)) };
        let result = match random.random_range(0..10) {
            0..5 => {
                let update = collection.update_one(filter, doc! { "$set": content });
                update.upsert(true).await.map(drop)
            }
            5..8 => {
                let replace = collection.replace_one(filter, content);
                replace.upsert(true).await.map(drop)
            }
            _ => collection.delete_one(filter).await.map(drop),
        };
        if result.is_ok() {
            written.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) async fn fill(place: &Place, collection: &str, keys: std::ops::Range<i32>) {
    let documents = keys.map(|i| doc! { "_id": i, "n": i, "text": "first" });
    place
        .collection(collection)
        .insert_many(documents)
        .await
        .unwrap();
}

pub(crate) async fn shared() -> SharedMongod {
    Mongod::shared().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn primaries_that_step_down_and_die_are_survived() {
    let mut set = ReplicaSet::start(3).await.unwrap();
    let place = Place::new(&set.uri(), "elect").await;
    fill(&place, "c", 0..200).await;
    let mut sync = place.start(&[
        "--commit-interval",
        "50ms",
        "--read-preference",
        "primaryPreferred",
    ]);
    sync.wait_for_events("following", 1).await;
    let workers = Workers::start(&place, &["c"]);
    workers.wait_for(100).await;
    let mut killed = None;
    for _ in 0..2 {
        if let Some(member) = killed.take() {
            set.restart_member(member).await.unwrap();
        }
        set.step_down().await.unwrap();
        workers.wait_for(50).await;
        let primary = set.wait_for_primary().await.unwrap();
        set.kill_member(primary).unwrap();
        set.wait_for_primary().await.unwrap();
        workers.wait_for(50).await;
        killed = Some(primary);
    }
    workers.stop().await;
    place.reach_end("c").await;
    place.assert_same("c");
    sync.stop().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_started_again_is_waited_for() {
    let mut mongod = Mongod::start().await.unwrap();
    let place = Place::new(&mongod.uri(), "restart").await;
    fill(&place, "c", 0..200).await;
    let mut sync = place.start(&["--commit-interval", "50ms"]);
    sync.wait_for_events("following", 1).await;
    let workers = Workers::start(&place, &["c"]);
    for round in 0..3 {
        workers.wait_for(100).await;
        let retried = sync.events("retrying");
        mongod.kill();
        sync.wait_for_events("retrying", retried + 1).await;
        if round == 1 {
            // A collection appears as soon as the server is there again.
            mongod.restart().await.unwrap();
            fill(&place, "appeared", 0..10).await;
            mongod.kill();
        }
        mongod.restart().await.unwrap();
    }
    workers.stop().await;
    place.reach_end("c").await;
    place.reach_end("appeared").await;
    place.assert_same("c");
    place.assert_same("appeared");
    sync.stop().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_stalls_resets_refuses_and_cuts_is_survived() {
    let mongod = shared().await;
    let mut place = Place::new(mongod.uri(), "network").await;
    let server = mongod.uri().split(['/', '?']).nth(2).unwrap();
    let mut proxy = FaultProxy::start(server.parse().unwrap()).await.unwrap();
    place.source = format!(
        "mongodb://{}/{}?directConnection=true",
        proxy.addr(),
        place.name
    );
    fill(&place, "c", 0..200).await;
    let mut sync = place.start(&["--commit-interval", "50ms"]);
    sync.wait_for_events("following", 1).await;
    let workers = Workers::start(&place, &["c"]);
    workers.wait_for(50).await;
    let mut faults = vec![
        (Mode::Stall, 3000),
        (Mode::Reset, 1000),
        (Mode::Refuse, 2000),
    ];
    // In the middle of a reply's header, of its first event, and of a later one.
    faults.extend([3, 40, 700, 6_000].map(|bytes| (Mode::CutAfter(bytes), 1000)));
    for (mode, milliseconds) in faults {
        proxy.set_mode(mode).await.unwrap();
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        proxy.set_mode(Mode::Pass).await.unwrap();
        place.reach_end("c").await;
    }
    assert!(sync.events("retrying") > 0);
    workers.stop().await;
    place.reach_end("c").await;
    place.assert_same("c");
    sync.stop().ok();
}

/// A server whose commands fail as they are told to.
pub(crate) struct Failing {
    pub(crate) mongod: Mongod,
    pub(crate) admin: Database,
}

impl Failing {
    pub(crate) async fn start() -> Self {
        let builder = Mongod::builder().parameter("enableTestCommands", "1");
        let mongod = builder.start().await.unwrap();
        let admin = mongod.client().await.unwrap().database("admin");
        Self { mongod, admin }
    }

    /// Makes commands of the sync fail, and of nobody else.
    pub(crate) async fn fail(&self, commands: &[&str], mode: impl Into<Bson>, how: Document) {
        let mut data = doc! { "failCommands": commands, "appName": "tributary" };
        data.extend(how);
        let failpoint =
            doc! { "configureFailPoint": "failCommand", "mode": mode.into(), "data": data };
        self.admin.run_command(failpoint).await.unwrap();
    }

    pub(crate) async fn mend(&self) {
        let off = doc! { "configureFailPoint": "failCommand", "mode": "off" };
        self.admin.run_command(off).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_interrupted_is_opened_again() {
    let server = Failing::start().await;
    let place = Place::new(&server.mongod.uri(), "interrupt").await;
    fill(&place, "c", 0..200).await;
    let mut sync = place.start(&["--commit-interval", "50ms", "--metrics", "127.0.0.1:0"]);
    let metrics = address(&mut sync).await;
    sync.wait_for_events("following", 1).await;
    let workers = Workers::start(&place, &["c"]);
    let label = "ResumableChangeStreamError";
    let read: &[&str] = &["getMore"];
    let faults = [
        (read, doc! { "closeConnection": true }),
        (read, doc! { "errorCode": 11602, "errorLabels": [label] }),
        (read, doc! { "errorCode": 43 }),
        (read, doc! { "errorCode": 11601 }),
        (read, doc! { "errorCode": 136 }),
        (read, doc! { "errorCode": 237 }),
        // Opening it again fails as well.
        (&["getMore", "aggregate"], doc! { "errorCode": 262 }),
    ];
    let mut retried = 0;
    for (commands, how) in faults {
        // It goes on before the next: waits after failures in a row get longer.
        let applied = sync.events("applied");
        sync.wait_for_events("applied", applied + 2).await;
        let times = doc! { "times": commands.len() as i32 };
        server.fail(commands, times, how).await;
        retried += commands.len();
        sync.wait_for_events("retrying", retried).await;
    }
    workers.stop().await;
    place.reach_end("c").await;
    assert_eq!(sync.events("retrying"), retried);
    let scraped = Scraped::of(&metrics);
    assert_eq!(
        scraped.get("tributary_source_retries_total", &[]),
        Some(retried as f64)
    );
    assert_eq!(scraped.get("tributary_source_connected", &[]), Some(1.0));
    server.mend().await;
    place.assert_same("c");
    sync.stop().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_history_is_lost_is_told_and_its_position_kept() {
    let server = Failing::start().await;
    let place = Place::new(&server.mongod.uri(), "lost").await;
    fill(&place, "c", 0..200).await;
    let mut sync = place.start(&["--commit-interval", "50ms"]);
    sync.wait_for_events("following", 1).await;
    place.reach_end("c").await;
    server
        .fail(&["getMore"], "alwaysOn", doc! { "errorCode": 286 })
        .await;
    sync.end().fails(1, &["oplog", "--overwrite"]);
    fill(&place, "c", 1000..1010).await;
    place.once().fails(1, &["oplog", "--overwrite"]);
    assert_eq!(place.count("c", "_id >= 1000"), Some(0));
    server.mend().await;
    let run = place.once().ok().finished();
    assert_eq!(run["collections"][0]["changes"], 10, "{run}");
    place.assert_same("c");
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_before_the_snapshot_of_a_lagging_secondary_are_not_lost() {
    let builder = Mongod::builder().parameter("enableTestCommands", "1");
    let set = ReplicaSet::start_with(3, builder).await.unwrap();
    let place = Place::new(&set.uri(), "lagging").await;
    let everywhere = WriteConcern::builder().w(Acknowledgment::Nodes(3)).build();
    let here = WriteConcern::builder().w(Acknowledgment::Nodes(1)).build();
    let insert = |keys: std::ops::Range<i32>, concern: &WriteConcern| {
        let (collection, concern) = (place.collection("c"), concern.clone());
        async move {
            let documents = keys.map(|i| doc! { "_id": i, "n": i, "text": "first" });
            let insert = collection.insert_many(documents).write_concern(concern);
            insert.await.unwrap();
        }
    };
    insert(0..20, &everywhere).await;
    let primary = set.wait_for_primary().await.unwrap();
    let mut secondaries = Vec::new();
    for member in (0..3).filter(|member| *member != primary) {
        let client = Client::with_uri_str(set.uri_of(member).unwrap());
        secondaries.push(client.await.unwrap().database("admin"));
    }
    let apply = |stop: &'static str| doc! { "configureFailPoint": "rsSyncApplyStop", "mode": stop };
    for secondary in &secondaries {
        secondary.run_command(apply("alwaysOn")).await.unwrap();
    }
    insert(20..60, &here).await;
    let mut sync = place.start(&[
        "--commit-interval",
        "50ms",
        "--read-preference",
        "secondary",
    ]);
    sync.wait_for_events("started", 1).await;
    insert(60..70, &here).await;
    // Long enough for a load that does not wait for what it lacks.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(sync.events("following"), 0, "it read an old state");
    for secondary in &secondaries {
        secondary.run_command(apply("off")).await.unwrap();
    }
    sync.wait_for_events("following", 1).await;
    place.reach_end("c").await;
    place.assert_same("c");
    sync.stop().ok();
}

/// A server whose oplog holds a few megabytes.
pub(crate) async fn forgetful() -> Mongod {
    let arguments = ["--oplogSize", "1", "--syncdelay", "1"];
    let builder = arguments
        .into_iter()
        .fold(Mongod::builder(), |builder, a| builder.argument(a));
    builder.start().await.unwrap()
}

/// Writes into another database until the oplog has forgotten what is now.
pub(crate) async fn forget(mongod: &Mongod, mut meanwhile: impl AsyncFnMut(i32)) {
    let client = mongod.client().await.unwrap();
    let reply = client
        .database("admin")
        .run_command(doc! { "ping": 1 })
        .await;
    let now = reply.unwrap().get_timestamp("operationTime").unwrap();
    let noise = client.database("noise").collection::<Document>("noise");
    let oplog = client.database("local").collection::<Document>("oplog.rs");
    let deadline = Instant::now() + LIMIT;
    for round in 0.. {
        let documents = (0..100).map(|i| doc! { "text": filler(round * 100 + i, 5000) });
        noise.insert_many(documents).await.unwrap();
        meanwhile(round as i32).await;
        let first = oplog.find_one(doc! {}).sort(doc! { "$natural": 1 });
        let first = first.await.unwrap().unwrap();
        if first.get_timestamp("ts").unwrap() > now {
            return;
        }
        assert!(Instant::now() < deadline, "the oplog does not roll over");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_the_oplog_has_lost_is_told_and_overwritten() {
    let mongod = forgetful().await;
    let place = Place::new(&mongod.uri(), "forgot").await;
    fill(&place, "c", 0..50).await;
    fill(&place, "other", 0..10).await;
    place.once().ok();
    fill(&place, "c", 50..60).await;
    forget(&mongod, async |_| {}).await;
    let again = ["--once", "--overwrite", "--collection", "other"];
    run_command(place.sync_through(None, &again)).ok();
    for round in 0..2 {
        // It stops its table alone.
        fill(&place, "other", 10 + 10 * round..20 + 10 * round).await;
        place
            .once()
            .fails(1, &["oplog", "--overwrite", "--collection 'c'"]);
        assert_eq!(place.count("c", "true"), Some(50));
        place.assert_same("other");
    }
    run_command(place.sync_through(None, &["--once", "--overwrite"])).ok();
    place.assert_same("c");
    fill(&place, "c", 60..70).await;
    place.once().ok();
    place.assert_same("c");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_table_keeps_up_with_the_oplog() {
    let mongod = forgetful().await;
    let place = Place::new(&mongod.uri(), "quiet").await;
    fill(&place, "quiet", 0..10).await;
    fill(&place, "busy", 0..10).await;
    let mut sync = place.start(&["--commit-interval", "50ms", "--heartbeat", "1s"]);
    sync.wait_for_events("following", 2).await;
    // It is never more than one round behind, so that what it is to read next is not forgotten.
    forget(&mongod, async |round| {
        let before = sync.events("applied");
        fill(&place, "busy", 100 + 10 * round..110 + 10 * round).await;
        sync.wait_for_events("applied", before + 1).await;
    })
    .await;
    // As the busy collection moves on, in little steps, the quiet table's position does too.
    place.reach_end("busy").await;
    let now = mark(&place, "busy").1["position"]["clusterTime"].as_u64();
    let deadline = Instant::now() + LIMIT;
    while mark(&place, "quiet").1["position"]["clusterTime"].as_u64() < now {
        assert!(Instant::now() < deadline, "the quiet table stands still");
        place.reach_end("busy").await;
    }
    sync.stop().ok();
    fill(&place, "quiet", 10..20).await;
    place.once().ok();
    place.assert_same("quiet");
    place.assert_same("busy");
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_through_a_broken_network_to_s3_are_made_once() {
    let mongod = shared().await;
    let server = S3Server::shared().await.unwrap();
    let place = Place::in_s3(mongod.uri(), "s3net", &server).await;
    let address = server.endpoint().strip_prefix("http://").unwrap();
    let mut proxy = FaultProxy::start(address.parse().unwrap()).await.unwrap();
    fill(&place, "c", 0..200).await;
    let endpoint = format!("http://{}", proxy.addr());
    let arguments = ["--commit-interval", "50ms"];
    let mut sync = Running::start(place.sync_through(Some(&endpoint), &arguments));
    sync.wait_for_events("following", 1).await;
    let workers = Workers::start(&place, &["c"]);
    let faults = [
        (Mode::Reset, 500),
        (Mode::CutAfter(0), 500),
        (Mode::Refuse, 1000),
        (Mode::CutAfter(60), 500),
        (Mode::Stall, 2000),
        (Mode::CutAfter(2000), 1000),
        (Mode::Reset, 1000),
    ];
    for (mode, milliseconds) in faults {
        let applied = sync.events("applied");
        sync.wait_for_events("applied", applied + 3).await;
        proxy.set_mode(mode).await.unwrap();
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        proxy.set_mode(Mode::Pass).await.unwrap();
    }
    workers.stop().await;
    place.reach_end("c").await;
    place.assert_same_rows("c").await;
    sync.stop().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_to_s3_that_is_killed_at_any_moment_loses_and_doubles_nothing() {
    let mongod = shared().await;
    let server = S3Server::shared().await.unwrap();
    let place = Place::in_s3(mongod.uri(), "s3kill", &server).await;
    fill(&place, "c", 0..200).await;
    fill(&place, "d", 0..200).await;
    let workers = Workers::start(&place, &["c", "d"]);
    for _ in 0..10 {
        let mut sync = place.start(&["--commit-interval", "20ms"]);
        let wait = rand::rng().random_range(200..1500);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        sync.kill();
    }
    workers.stop().await;
    place.once().ok();
    place.assert_same_rows("c").await;
    place.assert_same_rows("d").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_answers_with_errors_is_tried_again() {
    let mongod = shared().await;
    let server = S3Server::shared().await.unwrap();
    let place = Place::in_s3(mongod.uri(), "s3errors", &server).await;
    let asked = AtomicUsize::new(0);
    let proxy = HttpProxy::start(server.endpoint(), move |_| {
        match asked.fetch_add(1, Ordering::Relaxed) % 11 {
            3 => Fault::Answer(500),
            6 => Fault::Answer(503),
            9 => Fault::AnswerBehind(500),
            _ => Fault::Pass,
        }
    });
    let proxy = proxy.await.unwrap();
    fill(&place, "c", 0..200).await;
    let arguments = ["--commit-interval", "50ms"];
    let mut sync = Running::start(place.sync_through(Some(&proxy.endpoint()), &arguments));
    sync.wait_for_events("following", 1).await;
    let workers = Workers::start(&place, &["c"]);
    sync.wait_for_events("applied", 20).await;
    workers.stop().await;
    place.reach_end("c").await;
    place.assert_same_rows("c").await;
    sync.stop().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_arrived_and_was_not_acknowledged_is_recognised() {
    unacknowledged(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unacknowledged_commit_is_recognised_without_deletion_vectors() {
    unacknowledged(&[COPY_ON_WRITE]).await;
}

async fn unacknowledged(options: &[&'static str]) {
    let mongod = shared().await;
    let server = S3Server::shared().await.unwrap();
    let mut place = Place::in_s3(mongod.uri(), "s3unsaid", &server).await;
    place.options = options.to_vec();
    // The log's next version is written and the answer lost; then it cannot be looked for.
    let broken = Arc::new(AtomicBool::new(false));
    let lost = Arc::new(AtomicUsize::new(0));
    let (is_broken, count) = (Arc::clone(&broken), Arc::clone(&lost));
    let proxy = HttpProxy::start(server.endpoint(), move |request| {
        let is_log = request.path.contains("_delta_log/0");
        match request.method.as_str() {
            "PUT" if is_log && is_broken.swap(false, Ordering::Relaxed) => {
                count.store(1, Ordering::Relaxed);
                Fault::AnswerBehind(400)
            }
            "GET" if is_log && count.swap(0, Ordering::Relaxed) == 1 => Fault::Answer(400),
            _ => Fault::Pass,
        }
    });
    let proxy = proxy.await.unwrap();
    fill(&place, "c", 0..50).await;
    let arguments = ["--commit-interval", "50ms"];
    let mut sync = Running::start(place.sync_through(Some(&proxy.endpoint()), &arguments));
    sync.wait_for_events("following", 1).await;
    let c = place.collection("c");
    for round in 0..4 {
        let retried = sync.events("retrying");
        broken.store(true, Ordering::Relaxed);
        let change = match round {
            // A wider type: the files are written again by a commit of their own first.
            2 => doc! { "$set": { "n": 1.5 } },
            _ => doc! { "$set": { "text": format!("round {round}") } },
        };
        let keys = doc! { "_id": { "$lt": 20 } };
        c.update_many(keys, change).await.unwrap();
        c.delete_one(doc! { "_id": 40 + round }).await.unwrap();
        sync.wait_for_events("retrying", retried + 1).await;
        place.reach_end("c").await;
        assert_eq!(
            place.rows("SELECT count(*) AS n, count(DISTINCT _id) AS keys FROM c"),
            place.rows("SELECT count(DISTINCT _id) AS n, count(*) AS keys FROM c"),
        );
    }
    let found = place
        .rows("SELECT count(*) AS n, sum(n) AS s, count(DISTINCT _id) AS keys FROM c")
        .unwrap();
    // 50 documents without 4, and the last one.
    assert_eq!(found[0]["n"], 47, "{found:?}");
    assert_eq!(found[0]["keys"], 47, "{found:?}");
    assert_eq!(place.count("c", "text = 'round 3'"), Some(20));
    assert_eq!(place.count("c", "n = 1.5"), Some(20));
    sync.stop().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_for_a_moment_is_read_again() {
    let mongod = shared().await;
    let server = S3Server::shared().await.unwrap();
    let place = Place::in_s3(mongod.uri(), "s3read", &server).await;
    let broken = Arc::new(AtomicUsize::new(0));
    let is_broken = Arc::clone(&broken);
    let proxy = HttpProxy::start(server.endpoint(), move |request| {
        let reads = request.method == "GET" && request.path.contains(".parquet");
        let left = |left: usize| left.checked_sub(1);
        if reads
            && is_broken
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
                .is_ok()
        {
            Fault::Answer(400)
        } else {
            Fault::Pass
        }
    });
    let proxy = proxy.await.unwrap();
    fill(&place, "c", 0..50).await;
    let arguments = ["--commit-interval", "50ms"];
    let mut sync = Running::start(place.sync_through(Some(&proxy.endpoint()), &arguments));
    sync.wait_for_events("following", 1).await;
    let wider = [doc! { "n": 1.5, "m": 1 }, doc! { "m": 1.5 }];
    for (round, wider) in wider.into_iter().enumerate() {
        broken.store(1 + round, Ordering::Relaxed);
        // The files are read, to be written again.
        let keys = doc! { "_id": { "$lt": 20 } };
        let change = doc! { "$set": wider };
        place
            .collection("c")
            .update_many(keys, change)
            .await
            .unwrap();
        place.reach_end("c").await;
        assert_eq!(broken.load(Ordering::Relaxed), 0, "no file was read");
    }
    assert!(sync.events("retrying") >= 2);
    assert_eq!(place.count("c", "n = 1.5 AND m = 1.5"), Some(20));
    sync.stop().ok();
}

/// Another program writes to the table; answers the version it made.
fn foreign(place: &Place, collection: &str, arguments: &[&str]) -> Result<i64, String> {
    readers::foreign(&place.table(collection), arguments)
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_other_writers_are_followed_after_a_stop() {
    followed_after_a_stop(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_other_writers_are_followed_after_a_stop_without_deletion_vectors() {
    followed_after_a_stop(&[COPY_ON_WRITE]).await;
}

async fn followed_after_a_stop(options: &[&'static str]) {
    let mongod = shared().await;
    let mut place = Place::new(mongod.uri(), "foreign").await;
    place.options = options.to_vec();
    // Of a single file nothing can be joined.
    let moved: &[&str] = if options.is_empty() {
        &["compact"]
    } else {
        &["sort"]
    };
    let c = place.collection("c");
    fill(&place, "c", 0..100).await;
    place.once().ok();
    let change = async |filter: Document, n: i32| {
        c.update_many(filter, doc! { "$set": { "n": n } })
            .await
            .unwrap();
        place.once().ok();
    };
    change(doc! { "_id": { "$lt": 30 } }, 1000).await;
    change(doc! { "_id": { "$lt": 20 } }, 2000).await;
    let version = foreign(&place, "c", &["checkpoint"]).unwrap();

    foreign(&place, "c", moved).unwrap();
    change(doc! { "_id": { "$lt": 10 } }, 3000).await;
    place.assert_same("c");
    change(doc! { "_id": { "$gte": 5, "$lt": 60 } }, 4000).await;
    place.assert_same("c");

    // What another writer has deleted is gone until it changes again.
    foreign(&place, "c", &["delete", "n = 3000"]).unwrap();
    change(doc! { "_id": { "$gte": 90 } }, 5000).await;
    assert_eq!(place.count("c", "true"), Some(95));
    change(doc! { "_id": { "$lt": 5 } }, 6000).await;
    place.assert_same("c");

    foreign(
        &place,
        "c",
        &["property", "delta.logRetentionDuration=interval 9 days"],
    )
    .unwrap();
    change(doc! { "_id": { "$lt": 50 } }, 7000).await;
    place.assert_same("c");

    // Rows of before are there again, each once, and as they were until they change.
    foreign(&place, "c", &["restore", &version.to_string()]).unwrap();
    change(doc! { "_id": { "$lt": 40 } }, 8000).await;
    let rows = "SELECT count(*) AS n, count(DISTINCT _id) AS keys FROM c";
    let rows = place.rows(rows).unwrap();
    assert_eq!(rows[0].to_string(), r#"{"n":100,"keys":100}"#);
    change(doc! {}, 9000).await;
    place.assert_same("c");

    change(doc! { "_id": { "$gte": 70 } }, 9500).await;
    foreign(&place, "c", moved).unwrap();
    foreign(&place, "c", &["vacuum"]).unwrap();
    change(doc! { "_id": { "$lt": 50 } }, 10_000).await;
    place.assert_same("c");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_other_writers_are_read_whatever_they_had_in_memory() {
    let mongod = shared().await;
    for options in [&[] as &[&'static str], &[COPY_ON_WRITE]] {
        let mut place = Place::new(mongod.uri(), "laid").await;
        place.options = options.to_vec();
        let c = place.collection("c");
        let documents = (0..60).map(|i: i32| {
            let amount: Decimal128 = format!("{i}.5").parse().unwrap();
            doc! {
                "_id": format!("key {i}"), "n": i, "amount": amount, "at": DateTime::from_millis(i.into()),
                "in": { "text": "x", "list": [{ "a": i, "b": "c" }, { "b": "d" }] }, "texts": ["y", "z"],
                "bytes": Binary { subtype: BinarySubtype::Generic, bytes: vec![1, 2] },
            }
        });
        c.insert_many(documents).await.unwrap();
        place.once().ok();
        let change = async |key: &str, set: Document| {
            c.update_one(doc! { "_id": key }, doc! { "$set": set })
                .await
                .unwrap();
            place.once().ok();
            place.assert_same("c");
        };
        change("key 1", doc! { "n": -1 }).await;
        // It holds texts and binary data as views, and says so in the file.
        foreign(&place, "c", &["sort"]).unwrap();
        change("key 2", doc! { "n": -2 }).await;
        foreign(&place, "c", &["sort"]).unwrap();
        change("key 3", doc! { "n": 0.5, "in.list": "text" }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_writer_has_not_counted_its_rows_keeps_them() {
    uncounted(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_rows_are_not_counted_is_copied_whole() {
    uncounted(&[COPY_ON_WRITE]).await;
}

async fn uncounted(options: &[&'static str]) {
    let mongod = shared().await;
    let mut place = Place::new(mongod.uri(), "uncounted").await;
    place.options = options.to_vec();
    fill(&place, "c", 0..20).await;
    let mut sync = place.start(&["--commit-interval", "50ms"]);
    sync.wait_for_events("following", 1).await;
    // Another writer puts the same file there again, and tells nothing of it.
    let log = place.table("c").join("_delta_log");
    let first = std::fs::read_to_string(log.join("00000000000000000000.json")).unwrap();
    let mut actions = first
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut add = actions.find(|action| action.get("add").is_some()).unwrap();
    add["add"].as_object_mut().unwrap().remove("stats").unwrap();
    std::fs::write(log.join("00000000000000000001.json"), add.to_string()).unwrap();
    let gone = doc! { "_id": 3 };
    place.collection("c").delete_one(gone).await.unwrap();
    place.reach_end("c").await;
    place.assert_same("c");
    sync.stop().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_other_writers_are_followed_while_it_runs() {
    followed_while_it_runs(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_other_writers_are_followed_while_it_runs_without_deletion_vectors() {
    followed_while_it_runs(&[COPY_ON_WRITE]).await;
}

async fn followed_while_it_runs(options: &[&'static str]) {
    let mongod = shared().await;
    let mut place = Place::new(mongod.uri(), "between").await;
    place.options = options.to_vec();
    fill(&place, "c", 0..200).await;
    let mut sync = place.start(&["--commit-interval", "100ms"]);
    sync.wait_for_events("following", 1).await;
    let workers = Workers::start(&place, &["c"]);
    for round in 0..6 {
        let applied = sync.events("applied");
        sync.wait_for_events("applied", applied + 1).await;
        let property = format!("delta.logRetentionDuration=interval {round} days");
        let set: &[&str] = &["property", &property];
        // It may lose the race for the next version.
        if round % 3 == 0 && foreign(&place, "c", set).is_ok() {
            continue;
        }
        // A sync that is halted, wherever it is, cannot win it. Nor does it join files meanwhile: deltalake joins
        // those again that have gone into another file since it looked, and their rows are there twice.
        assert!(halt(&sync.child).unwrap());
        // Of a single file nothing can be joined.
        if round % 3 == 0 || foreign(&place, "c", &["compact"]).is_err() {
            foreign(&place, "c", set).unwrap();
        }
        send_signal(&sync.child, Signal::CONT).unwrap();
    }
    // And a schema that widens behind one.
    workers.stop().await;
    let wider = doc! { "$set": { "n": 0.5 } };
    let c = place.collection("c");
    c.update_many(doc! { "_id": { "$lt": 20 } }, wider)
        .await
        .unwrap();
    assert!(halt(&sync.child).unwrap());
    foreign(&place, "c", &["compact"]).ok();
    send_signal(&sync.child, Signal::CONT).unwrap();
    place.reach_end("c").await;
    place.assert_same("c");
    sync.stop().ok();
}

/// A sync to a disk that takes no file above so many KiB: writes fail in the middle of one.
fn on_a_full_disk(place: &Place, kib: u32) -> Command {
    let sync = place.sync_through(None, &["--once"]);
    let mut shell = Command::new("bash");
    shell
        .args([
            "-c",
            &format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" \"$@\""),
        ])
        .arg(sync.get_program())
        .args(sync.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    shell
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_stops_its_table_alone() {
    let mongod = shared().await;
    let place = Place::new(mongod.uri(), "full").await;
    fill(&place, "large", 0..50).await;
    fill(&place, "small", 0..50).await;
    place.once().ok();
    for i in 0..20 {
        let update = doc! { "$set": { "text": filler(i, 200_000) } };
        let large = place.collection("large");
        large
            .update_one(doc! { "_id": i as i32 }, update)
            .await
            .unwrap();
    }
    fill(&place, "small", 50..60).await;
    let version = place.version("large");
    let run = run_command(on_a_full_disk(&place, 1000));
    run.fails(1, &["large", "start again"]);
    assert_eq!(place.version("large"), version);
    place.assert_same("small");
    place.once().ok();
    place.assert_same("large");
}

/// Makes directories writable or read-only.
fn permit(directories: &[PathBuf], mode: u32) {
    for directory in directories {
        std::fs::set_permissions(directory, Permissions::from_mode(mode)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_that_becomes_read_only_stops_the_sync_and_loses_nothing() {
    let mongod = shared().await;
    let place = Place::new(mongod.uri(), "readonly").await;
    fill(&place, "c", 0..50).await;
    // Nothing is read-only for root; and another user may not reach where the binary is.
    permit(&[place.directory.path().to_owned()], 0o777);
    let is_root = std::fs::metadata(place.directory.path()).unwrap().uid() == 0;
    let copied = place.directory.path().join("tributary");
    if is_root {
        std::fs::copy(env!("CARGO_BIN_EXE_tributary"), &copied).unwrap();
    }
    let sync = |arguments: &[&str]| {
        let sync = place.sync_through(None, arguments);
        if !is_root {
            return sync;
        }
        let mut as_nobody = Command::new(&copied);
        as_nobody.args(sync.get_args()).uid(65_534).gid(65_534);
        as_nobody.stdin(Stdio::null());
        as_nobody.stdout(Stdio::piped()).stderr(Stdio::piped());
        as_nobody
    };
    let mut running = Running::start(sync(&["--commit-interval", "50ms"]));
    running.wait_for_events("following", 1).await;
    let table = place.table("c");
    let directories = [table.join("_delta_log"), table.clone()];
    permit(&directories, 0o555);
    fill(&place, "c", 50..60).await;
    running.end().fails(1, &["writable"]);
    assert_eq!(place.count("c", "true"), Some(50));
    permit(&directories, 0o755);
    run_command(sync(&["--once"])).ok();
    place.assert_same("c");

    // Nor can it begin where it may not write.
    let directory = table.parent().unwrap().to_owned();
    permit(std::slice::from_ref(&directory), 0o555);
    fill(&place, "c", 60..70).await;
    run_command(sync(&["--once"])).fails(1, &["writable"]);
    permit(&[directory], 0o755);
    run_command(sync(&["--once"])).ok();
    place.assert_same("c");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_deletion_vector_stops_the_sync_until_it_is_repaired() {
    let mongod = shared().await;
    let place = Place::new(mongod.uri(), "vector").await;
    let c = place.collection("c");
    fill(&place, "c", 0..50).await;
    place.once().ok();
    let change = async |n: i32| {
        let some = doc! { "_id": { "$gte": 10 * n, "$lt": 10 * n + 15 } };
        let update = doc! { "$set": { "n": -n } };
        c.update_many(some, update).await.unwrap();
    };
    change(0).await;
    place.once().ok();
    for (n, damage) in [(1, "removed"), (2, "flipped"), (3, "cut")] {
        let vectors = crate::support::files_below(&place.table("c"))
            .into_iter()
            .filter(|name| name.ends_with(".bin"))
            .map(|name| place.table("c").join(name));
        let saved: Vec<_> = vectors
            .map(|path| (std::fs::read(&path).unwrap(), path))
            .collect();
        for (bytes, path) in &saved {
            match damage {
                "removed" => std::fs::remove_file(path).unwrap(),
                "flipped" => {
                    let bytes: Vec<u8> = bytes.iter().map(|byte| byte ^ 1).collect();
                    std::fs::write(path, bytes).unwrap();
                }
                _ => std::fs::write(path, &bytes[..20]).unwrap(),
            }
        }
        change(n).await;
        let version = place.version("c");
        place.once().fails(1, &["deletion vector"]);
        assert_eq!(place.version("c"), version);
        for (bytes, path) in saved {
            std::fs::write(path, bytes).unwrap();
        }
        place.once().ok();
        place.assert_same("c");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_syncs_of_one_table_in_s3_one_stops() {
    let mongod = shared().await;
    let server = S3Server::shared().await.unwrap();
    let place = Place::in_s3(mongod.uri(), "s3two", &server).await;
    fill(&place, "c", 0..100).await;
    place.once().ok();
    // On one machine the key index is held.
    let mut first = place.start(&["--commit-interval", "50ms"]);
    first.wait_for_events("following", 1).await;
    place.once().fails(1, &["another process"]);
    // On another nothing is, until both write.
    let other = place.path("other-index");
    let mut second = place.start(&["--commit-interval", "50ms", "--index", &other]);
    second.wait_for_events("following", 1).await;
    let workers = Workers::start(&place, &["c"]);
    workers.wait_for(200).await;
    let deadline = Instant::now() + LIMIT;
    let mut both = [Some(first), Some(second)];
    let stopped = loop {
        let ended = both.iter_mut().find_map(|sync| {
            let child = &mut sync.as_mut()?.child;
            child.try_wait().unwrap()?;
            sync.take()
        });
        if let Some(ended) = ended {
            break ended;
        }
        assert!(Instant::now() < deadline, "both go on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    stopped
        .end()
        .fails(1, &["another sync writes", "stop one of the two"]);
    workers.stop().await;
    place.reach_end("c").await;
    place.assert_same_rows("c").await;
    let left = both.into_iter().flatten().next().unwrap();
    left.stop().ok();
}

/// Documents that tell which incarnation of their collection they are of.
pub(crate) async fn fill_as(
    place: &Place,
    collection: &str,
    keys: std::ops::Range<i32>,
    text: &str,
) {
    let documents = keys.map(|i| doc! { "_id": i, "text": text });
    place
        .collection(collection)
        .insert_many(documents)
        .await
        .unwrap();
}

/// A dropped collection's rows stay; those of one that takes its name come beside them, by key.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_is_dropped_and_made_again_is_followed_on() {
    let mongod = shared().await;
    let place = Place::new(mongod.uri(), "again").await;
    fill_as(&place, "c", 0..20, "old").await;
    fill_as(&place, "d", 0..20, "old").await;
    place.once().ok();
    place.collection("c").drop().await.unwrap();
    fill_as(&place, "c", 10..30, "new").await;
    place.once().ok();
    let rows = |collection: &str, text: &str| {
        place
            .count(collection, &format!("text = '{text}'"))
            .unwrap()
    };
    assert_eq!((rows("c", "old"), rows("c", "new")), (10, 20));

    let mut sync = place.start(&["--commit-interval", "50ms"]);
    sync.wait_for_events("following", 2).await;
    place.collection("d").drop().await.unwrap();
    fill_as(&place, "d", 10..30, "new").await;
    place.reach_end("d").await;
    assert_eq!((rows("d", "old"), rows("d", "new")), (10, 20));

    // The stream of a database ends with it, and goes on with the next of its name.
    place.database.drop().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    fill_as(&place, "c", 20..40, "third").await;
    fill_as(&place, "fresh", 0..5, "third").await;
    place.reach_end("c").await;
    place.reach_end("fresh").await;
    assert_eq!(
        (rows("c", "old"), rows("c", "new"), rows("c", "third")),
        (10, 10, 20)
    );
    assert_eq!(rows("d", "new"), 20);
    place.assert_same("fresh");
    place.database.drop().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    sync.stop().ok();

    // Without any collection the tables are followed all the same, and stay as they are.
    place.once().ok();
    assert_eq!((rows("c", "third"), rows("fresh", "third")), (20, 5));
    fill_as(&place, "c", 40..50, "fourth").await;
    place.once().ok();
    assert_eq!((rows("c", "third"), rows("c", "fourth")), (20, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_before_a_signal_is_committed() {
    let mongod = shared().await;
    let place = Place::new(mongod.uri(), "drain").await;
    fill(&place, "c", 0..10).await;
    fill(&place, "large", 0..10).await;
    let mut sync = place.start(&["--commit-interval", "1h"]);
    sync.wait_for_events("following", 2).await;
    fill(&place, "c", 10..40).await;
    // So much that it is committed at once: what comes before it in the stream has been read then.
    for i in 0..40 {
        let document = doc! { "_id": 100 + i, "n": 0, "text": filler(i as usize, 1_000_000) };
        place
            .collection("large")
            .insert_one(document)
            .await
            .unwrap();
    }
    sync.wait_for_events("applied", 1).await;
    assert_eq!(place.count("c", "true"), Some(10));
    let run = sync.stop().ok().finished();
    assert_eq!(run["interrupted"], true, "{run}");
    place.assert_same("c");
}
