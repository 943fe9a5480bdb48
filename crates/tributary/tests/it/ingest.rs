//! A source that events are pushed to, by a real change stream that is read apart from Tributary: through
//! kills, in any order, by who may not, and on a disk that is full.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bson::{Bson, Document, doc};
use futures::{StreamExt, TryStreamExt};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::running::Running;
use crate::support::{Fixture, LIMIT, command, run};

const KEY: &str = "0123456789abcdef-key";

/// A `tributary.yaml` with a source that events are pushed to.
struct Site {
    fixture: Fixture,
    client: Client,
}

/// Where events are pushed to now: it is another port after each start.
#[derive(Clone, Default)]
struct Address(Arc<Mutex<String>>);

impl Address {
    fn get(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl Site {
    async fn new(name: &str, ingest: &str, flow: &str) -> Self {
        let site = Self {
            fixture: Fixture::new(name).await,
            client: Client::builder().no_proxy().timeout(LIMIT).build().unwrap(),
        };
        site.write(ingest, flow);
        site
    }

    fn file(&self) -> String {
        self.fixture.path("tributary.yaml")
    }

    fn write(&self, ingest: &str, flow: &str) {
        let text = format!(
            "sources: {{ atlas: {{ ingest: {{ {ingest} }} }} }}\nlakes: {{ main: {{ path: lake }} }}\n\
             server: {{ listen: '127.0.0.1:0' }}\n\
             flows: {{ in: {{ from: atlas, to: main, options: {{ commit_interval: 50ms, {flow} }} }} }}\n"
        );
        std::fs::write(self.file(), text).unwrap();
    }

    fn command(&self) -> Command {
        command(&["run", &self.file(), "--output", "json"])
    }

    async fn start(&self, address: &Address) -> Running {
        self.start_as(self.command(), address).await
    }

    async fn start_as(&self, command: Command, address: &Address) -> Running {
        let mut running = Running::start(command);
        running.wait_for_events("listening", 1).await;
        let event = running.last_event("listening");
        event["address"]
            .as_str()
            .unwrap()
            .clone_into(&mut address.0.lock().unwrap());
        running
    }

    /// What is answered to events that are pushed once.
    async fn push(&self, address: &Address, key: &str, body: String) -> reqwest::Response {
        let request = self.client.post(format!("{}/ingest/atlas", address.get()));
        let request = request.header("X-API-Key", key).body(body);
        request.send().await.unwrap()
    }

    /// The rows of a table, as far as they are asked for here, by `_id`.
    fn rows(&self, collection: &str) -> BTreeMap<i64, i64> {
        let query = format!("SELECT _id, n FROM {}.{collection}", self.fixture.name);
        let run = run(&[
            "sql",
            "--lake",
            &self.fixture.lake(),
            "--output",
            "json",
            &query,
        ]);
        if run.code != Some(0) {
            return BTreeMap::new();
        }
        let rows = run.rows();
        let row = |row: &Value| (row["_id"].as_i64().unwrap(), row["n"].as_i64().unwrap());
        let found: BTreeMap<i64, i64> = rows.iter().map(row).collect();
        assert_eq!(found.len(), rows.len(), "a row is there twice");
        found
    }

    /// The documents of a collection in the same form.
    async fn documents(&self, collection: &str) -> BTreeMap<i64, i64> {
        let documents = self.fixture.database.collection::<Document>(collection);
        let found = documents.find(doc! {}).await.unwrap();
        let number = |document: &Document, field| i64::from(document.get_i32(field).unwrap());
        found
            .map_ok(|document| (number(&document, "_id"), number(&document, "n")))
            .try_collect()
            .await
            .unwrap()
    }

    async fn wait_until_same(&self, collection: &str) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let (rows, documents) = (self.rows(collection), self.documents(collection).await);
            if rows == documents {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{collection}: {} rows and {} documents, different ones",
                rows.len(),
                documents.len()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Changes two collections for a while, and answers all events of that.
    async fn change(&self, changes: u64) -> Vec<Document> {
        let options = mongodb::options::FullDocumentType::UpdateLookup;
        let stream = self.fixture.database.watch().full_document(options);
        let mut stream = stream.await.unwrap().with_type::<Document>();
        // Read at the same time, so that documents are looked up as they are on the way.
        let reading = tokio::spawn(async move {
            let mut events = Vec::new();
            loop {
                let event = stream.next().await.unwrap().unwrap();
                if collection_of(&event) == "end" {
                    return events;
                }
                events.push(event);
            }
        });
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        for n in 0..i32::try_from(changes).unwrap() {
            let name = ["orders", "customers"][random.random_range(0..2)];
            let documents = self.fixture.database.collection::<Document>(name);
            let key = doc! { "_id": random.random_range(0..40) };
            match random.random_range(0..10) {
                0 => drop(documents.delete_one(key).await.unwrap()),
                1..4 => {
                    let new = doc! { "n": n };
                    drop(documents.replace_one(key, new).upsert(true).await.unwrap());
                }
                _ => {
                    let set = doc! { "$set": { "n": n } };
                    drop(documents.update_one(key, set).upsert(true).await.unwrap());
                }
            }
        }
        let end = self.fixture.database.collection::<Document>("end");
        end.insert_one(doc! { "_id": 0 }).await.unwrap();
        reading.await.unwrap()
    }
}

/// The name of the collection that an event is about.
fn collection_of(event: &Document) -> &str {
    let namespace = event.get_document("ns").unwrap();
    namespace.get_str("coll").unwrap()
}

/// An event as an Atlas function pushes it.
fn ejson(event: &Document) -> Value {
    Bson::Document(event.clone()).into_canonical_extjson()
}

/// Pushes events, and again until each push has been acknowledged; answers how many were accepted.
///
/// What is acknowledged is counted in `acknowledged`.
async fn push_all(
    client: Client,
    address: Address,
    batches: Vec<Vec<Document>>,
    acknowledged: Arc<AtomicUsize>,
) -> u64 {
    let mut accepted = 0;
    for batch in batches {
        let body = Value::Array(batch.iter().map(ejson).collect()).to_string();
        let deadline = Instant::now() + LIMIT;
        loop {
            let request = client.post(format!("{}/ingest/atlas", address.get()));
            let answer = request.bearer_auth(KEY).body(body.clone()).send().await;
            match answer {
                Ok(answer) if answer.status() == StatusCode::OK => {
                    // What is lost on the way is not counted.
                    let answer: Value = answer.json().await.unwrap_or_default();
                    accepted += answer["accepted"].as_u64().unwrap_or(0);
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                Ok(answer) if !answer.status().is_server_error() => {
                    panic!("{}: {}", answer.status(), answer.text().await.unwrap());
                }
                _ => {}
            }
            assert!(Instant::now() < deadline, "it was never acknowledged");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    accepted
}

/// Events in requests of up to `largest`.
fn in_batches(events: Vec<Document>, largest: usize) -> Vec<Vec<Document>> {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(3);
    let (mut batches, mut events) = (Vec::new(), events.into_iter().peekable());
    while events.peek().is_some() {
        let size = random.random_range(1..=largest);
        batches.push(events.by_ref().take(size).collect());
    }
    batches
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_through_kills_is_there_once_and_in_order() {
    let site = Site::new("pushkill", &format!("key: {KEY}"), "history: true").await;
    let address = Address::default();
    let mut running = site.start(&address).await;
    let events = site.change(1500).await;
    // Each document's events are pushed by one, in their order; most of them twice.
    let mut lanes: Vec<Vec<Document>> = vec![Vec::new(); 4];
    for event in &events {
        let key = event
            .get_document("documentKey")
            .unwrap()
            .get_i32("_id")
            .unwrap();
        lanes[usize::try_from(key).unwrap() % 4].push(event.clone());
    }
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let lanes: Vec<Vec<Vec<Document>>> = lanes
        .into_iter()
        .map(|lane| {
            let batches = in_batches(lane, 5).into_iter();
            batches.flat_map(|batch| [batch.clone(), batch]).collect()
        })
        .collect();
    let requests: usize = lanes.iter().map(Vec::len).sum();
    let pushes: Vec<_> = lanes
        .into_iter()
        .map(|lane| {
            let (client, address) = (site.client.clone(), address.clone());
            push_all(client, address, lane, Arc::clone(&acknowledged))
        })
        .collect();
    let pushes = tokio::spawn(futures::future::join_all(pushes));
    // As far apart in what is pushed, however fast that goes.
    for kill in 1..=6 {
        let deadline = Instant::now() + LIMIT;
        while acknowledged.load(Ordering::Relaxed) < requests * kill / 7 {
            assert!(Instant::now() < deadline, "it is not acknowledged");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        running.kill();
        running = site.start(&address).await;
    }
    let accepted: u64 = pushes.await.unwrap().into_iter().sum();
    assert!(accepted <= events.len() as u64, "{accepted}");
    for collection in ["orders", "customers"] {
        site.wait_until_same(collection).await;
    }
    // Each event is in the history once.
    let name = &site.fixture.name;
    for collection in ["orders", "customers"] {
        let expected = events
            .iter()
            .filter(|event| collection_of(event) == collection);
        let query = format!("SELECT count(*) AS n FROM {name}.{collection}__history");
        assert_eq!(
            site.fixture.number(&query),
            expected.count() as i64,
            "{collection}"
        );
    }
    running.stop().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_arrive_in_any_order_lead_to_the_same_rows() {
    let site = Site::new("pushorder", &format!("key: {KEY}"), "").await;
    let address = Address::default();
    let running = site.start(&address).await;
    let mut events = site.change(800).await;
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(11);
    events.shuffle(&mut random);
    let count = events.len();
    let lanes: Vec<Vec<Document>> = events.chunks(count / 4 + 1).map(<[_]>::to_vec).collect();
    let pushes = lanes.into_iter().map(|lane| {
        push_all(
            site.client.clone(),
            address.clone(),
            in_batches(lane, 3),
            Arc::default(),
        )
    });
    let accepted: u64 = futures::future::join_all(pushes).await.into_iter().sum();
    assert_eq!(accepted, count as u64);
    for collection in ["orders", "customers"] {
        site.wait_until_same(collection).await;
    }
    running.stop().ok();
}

/// An event of a document.
fn insert(database: &str, id: i32, text: &str) -> Value {
    json!({
        "_id": { "_data": format!("82{id:08X}00000001") },
        "operationType": "insert",
        "clusterTime": { "$timestamp": { "t": 5, "i": 1 } },
        "ns": { "db": database, "coll": "orders" },
        "documentKey": { "_id": id },
        "fullDocument": { "_id": id, "n": id, "text": text },
    })
}

fn signed(secret: &str, body: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let tag = ring::hmac::sign(&key, body.as_bytes());
    let digits: String = tag
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256={digits}")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_push_and_what_is_wrong_leaves_nothing() {
    const SECRET: &str = "0123456789abcdef-secret";
    let ingest = format!("key: {KEY}, largest_request: 64KB");
    let site = Site::new("pushwrong", &ingest, "").await;
    let address = Address::default();
    let running = site.start(&address).await;
    let name = site.fixture.name.clone();
    let one = |id| insert(&name, id, "").to_string();
    let status = async |key: &str, body: String| site.push(&address, key, body).await.status();
    assert_eq!(
        status("0123456789abcdef-kez", one(1)).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        status(KEY, "x".repeat(65 << 10)).await,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    let other = site.client.post(format!("{}/ingest/other", address.get()));
    let other = other
        .header("X-API-Key", KEY)
        .body(one(1))
        .send()
        .await
        .unwrap();
    assert_eq!(other.status(), StatusCode::UNAUTHORIZED);
    // One that is wrong takes the others with it.
    let mut update = insert(&name, 2, "");
    update["operationType"] = "update".into();
    update.as_object_mut().unwrap().remove("fullDocument");
    let batch = json!([insert(&name, 1, ""), { "hello": "world" }, update]).to_string();
    let answer = site.push(&address, KEY, batch).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let problem: Value = answer.json().await.unwrap();
    let indexes = problem["errors"].as_array().unwrap().iter();
    let indexes: Vec<i64> = indexes
        .map(|error| error["index"].as_i64().unwrap())
        .collect();
    assert_eq!(indexes, [1, 1, 2], "{problem}");
    // What is right is taken, once, and comes alone.
    let answer = site.push(
        &address,
        KEY,
        json!([insert(&name, 3, ""), insert(&name, 3, "")]).to_string(),
    );
    let taken: Value = answer.await.json().await.unwrap();
    assert_eq!(taken, json!({ "accepted": 1, "duplicates": 1 }));
    site.fixture.wait_for_rows("orders", 1).await;
    assert_eq!(site.rows("orders"), BTreeMap::from([(3, 3)]));
    // From a reload on, a signature is needed as well.
    site.write(&format!("key: {KEY}, hmac: {SECRET}"), "");
    let reload = site.client.post(format!("{}/api/v1/reload", address.get()));
    assert_eq!(reload.send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(status(KEY, one(4)).await, StatusCode::UNAUTHORIZED);
    let push = async |signature: String| {
        let request = site.client.post(format!("{}/ingest/atlas", address.get()));
        let request = request
            .header("X-API-Key", KEY)
            .header("X-Signature-256", signature);
        request.body(one(4)).send().await.unwrap().status()
    };
    assert_eq!(
        push(signed(SECRET, &one(5))).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        push(signed("another", &one(4))).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(push(signed(SECRET, &one(4))).await, StatusCode::OK);
    site.fixture.wait_for_rows("orders", 2).await;
    running.stop().ok();
    let state =
        crate::support::files_below(std::path::Path::new(&site.fixture.path("tributary.state")));
    assert!(
        state.iter().any(|file| file == "ingest/atlas/events.db"),
        "{state:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_fails_leaves_who_may_push_as_it_was() {
    let site = Site::new("pushreload", &format!("key: {KEY}"), "").await;
    let address = Address::default();
    let running = site.start(&address).await;
    let name = site.fixture.name.clone();
    let status = async |key: &str, id: i32| {
        let body = insert(&name, id, "").to_string();
        site.push(&address, key, body).await.status()
    };
    let reload = async || {
        let reload = site.client.post(format!("{}/api/v1/reload", address.get()));
        let answer = reload.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    assert_eq!(status(KEY, 1).await, StatusCode::OK);
    let good = std::fs::read_to_string(site.file()).unwrap();
    let (places, _) = good.split_once("flows:").unwrap();
    let (_, without) = places.split_once('\n').unwrap();
    let wrong = "apps: { a: { path: nowhere } }\n";
    let another = "0123456789abcdef-another";
    let files = [
        format!("{good}{wrong}").replace(KEY, another),
        format!("{without}{wrong}"),
    ];
    for (id, file) in (2..).zip(files) {
        std::fs::write(site.file(), file).unwrap();
        let (code, text) = reload().await;
        assert!(!code.is_success() && text.contains("nowhere"), "{text}");
        assert_eq!(status(another, 9).await, StatusCode::UNAUTHORIZED);
        assert_eq!(status(KEY, id).await, StatusCode::OK);
    }
    std::fs::write(site.file(), &good).unwrap();
    let (code, text) = reload().await;
    assert_eq!(code, StatusCode::OK, "{text}");
    assert_eq!(status(KEY, 4).await, StatusCode::OK);
    site.fixture.wait_for_rows("orders", 4).await;
    running.stop().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_nothing_is_acknowledged_that_is_lost() {
    let site = Site::new("pushfull", &format!("key: {KEY}"), "").await;
    let address = Address::default();
    // No file gets larger than four megabytes.
    let mut limited = Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 4096; exec \"$@\"", "bash"]);
    let own = site.command();
    limited.arg(own.get_program()).args(own.get_args());
    limited.stdin(std::process::Stdio::null());
    limited.stdout(std::process::Stdio::piped());
    limited.stderr(std::process::Stdio::piped());
    let running = site.start_as(limited, &address).await;
    let name = site.fixture.name.clone();
    let text = crate::support::filler(1, 200 << 10);
    let one = |id| insert(&name, id, &text).to_string();
    let mut refused = None;
    for id in 0..200 {
        let answer = site.push(&address, KEY, one(id)).await;
        if answer.status() != StatusCode::OK {
            let status = answer.status().as_u16();
            assert!([503, 507].contains(&status), "{status}");
            refused = Some(id);
            break;
        }
    }
    let refused = refused.expect("the disk is full at some time");
    assert!(refused > 2, "{refused}");
    running.stop();
    // With room again, all that was acknowledged is there, and what was not can be pushed again.
    let running = site.start(&address).await;
    for id in 0..refused {
        let answer = site.push(&address, KEY, one(id)).await;
        let taken: Value = answer.json().await.unwrap();
        assert_eq!(taken, json!({ "accepted": 0, "duplicates": 1 }), "{id}");
    }
    assert_eq!(
        site.push(&address, KEY, one(refused)).await.status(),
        StatusCode::OK
    );
    site.fixture
        .wait_for_rows("orders", i64::from(refused) + 1)
        .await;
    running.stop().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_catches_up_with_what_was_pushed() {
    let site = Site::new("pushstep", &format!("key: {KEY}"), "").await;
    let text = std::fs::read_to_string(site.file()).unwrap();
    let (places, _) = text.split_once("flows:").unwrap();
    let jobs = "jobs: { load: { steps: { in: { sync: { from: atlas, to: main } } } } }\n";
    std::fs::write(site.file(), format!("{places}{jobs}")).unwrap();
    let address = Address::default();
    let running = site.start(&address).await;
    let name = site.fixture.name.clone();
    for round in 0..3 {
        let events: Vec<Value> = (0..10)
            .map(|id| insert(&name, round * 10 + id, ""))
            .collect();
        let pushed = site
            .push(&address, KEY, Value::Array(events).to_string())
            .await;
        assert_eq!(pushed.status(), StatusCode::OK);
        run(&["job", "run", "load", "--wait", "--config", &site.file()]).ok();
        assert_eq!(
            site.rows("orders").len(),
            usize::try_from(round + 1).unwrap() * 10
        );
    }
    running.stop().ok();
}
