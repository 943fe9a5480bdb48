//! `examples/redshift-pipeline` as it stands, from a secondary through S3 and SQS into what stands in for
//! Redshift.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use bson::{Document, doc};
use futures::TryStreamExt;
use mongodb::{Collection, Database};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use tributary_testkit::{HttpReceiver, ReplicaSet, S3Server, Signal, send_signal, unique_name};

use crate::readers::compare_at;
use crate::support::{Fixture, LIMIT, Run, command, wait};
use crate::warehouse::{ROLE, Warehouse};

const EXAMPLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../examples/redshift-pipeline"
);
/// The collections that the example names.
const COLLECTIONS: [&str; 2] = ["orders", "customers"];
const NONE: &str = "there is nothing yet";

struct Pipeline {
    fixture: Fixture,
    set: ReplicaSet,
    shop: Database,
    warehouse: Warehouse,
    alerts: HttpReceiver,
    bucket: String,
    env: Vec<(String, String)>,
}

impl Pipeline {
    async fn new() -> Self {
        let fixture = Fixture::new("pipeline").await;
        let set = ReplicaSet::start(2).await.expect("a replica set");
        let shop = set.client().await.expect("a client").database("shop");
        let warehouse = Warehouse::redshift(&fixture).await;
        let alerts = HttpReceiver::start().await.expect("a receiver");
        let s3 = S3Server::shared().await.expect("an S3");
        let bucket = unique_name("lake");
        s3.create_bucket(&bucket).await.expect("a bucket");
        let queue = notified_queue(s3.endpoint(), &bucket).await;
        fs::copy(
            Path::new(EXAMPLE).join("tributary.yaml"),
            fixture.path("tributary.yaml"),
        )
        .expect("the example");
        let mut env = s3.env();
        for (name, value) in [
            ("MONGODB_URI", set.uri_for("shop")),
            ("LAKE_BUCKET", bucket.clone()),
            ("REDSHIFT_URI", warehouse.uri.clone()),
            ("S3_STAGING", warehouse.staging()),
            ("IAM_ROLE", ROLE.to_owned()),
            ("QUEUE_URL", queue),
            ("ALERT_URL", alerts.url()),
            ("EXTRACT_CRON", "*/2 * * * * *".to_owned()),
            ("XDG_CACHE_HOME", fixture.path("cache")),
        ] {
            env.push((name.to_owned(), value));
        }
        Self {
            fixture,
            set,
            shop,
            warehouse,
            alerts,
            bucket,
            env,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command.envs(self.env.clone());
        command
    }

    /// Runs the example. What it says is kept in a file: nobody reads a pipe meanwhile.
    fn start(&self) -> Child {
        let file = self.fixture.path("tributary.yaml");
        let said = File::options()
            .create(true)
            .append(true)
            .open(self.fixture.path("said"))
            .expect("a file");
        self.command(&["run", &file, "--output", "json"])
            .stdout(said.try_clone().expect("a file"))
            .stderr(Stdio::from(said))
            .spawn()
            .expect("the binary starts")
    }

    fn run(&self, arguments: &[&str]) -> Run {
        wait(self.command(arguments).spawn().expect("the binary starts"))
    }

    fn said(&self) -> String {
        fs::read_to_string(self.fixture.path("said")).unwrap_or_default()
    }

    fn collection(&self, name: &str) -> Collection<Document> {
        self.shop.collection(name)
    }

    /// The keys and numbers of a collection, in the order of keys.
    async fn in_mongodb(&self, name: &str) -> Vec<(i32, i32)> {
        let collection = self.collection(name);
        let found = collection.find(doc! {}).sort(doc! { "_id": 1 });
        let found: Vec<Document> = found.await.unwrap().try_collect().await.unwrap();
        let found = found.iter();
        found
            .map(|of| (of.get_i32("_id").unwrap(), of.get_i32("n").unwrap()))
            .collect()
    }

    async fn in_warehouse(&self, name: &str) -> Result<Vec<(i32, i32)>, String> {
        let query = format!("SELECT \"_id\", \"n\" FROM \"shop\".\"{name}\" ORDER BY \"_id\"");
        let client = self.warehouse.client().await;
        let rows = client.query(&query, &[]).await;
        let rows = rows.map_err(|_| NONE.to_owned())?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Waits until the warehouse has what MongoDB has.
    async fn arrives(&self, what: &str) {
        let deadline = Instant::now() + LIMIT;
        for name in COLLECTIONS {
            let expected = self.in_mongodb(name).await;
            loop {
                let found = self.in_warehouse(name).await;
                if found.as_ref() == Ok(&expected) {
                    break;
                }
                assert!(
                    Instant::now() < deadline,
                    "{what}: {name} has {found:?} instead of {expected:?}: {}",
                    self.said()
                );
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// Asserts that, of every field, as a reader of its own sees both.
    #[track_caller]
    fn assert_same(&self) {
        for name in COLLECTIONS {
            compare_at(
                "redshift",
                &self.set.uri(),
                "shop",
                name,
                &self.warehouse.uri,
            );
        }
    }

    /// Waits for an alert that has all of these words.
    async fn alerted(&self, words: &[&str]) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let requests = self.alerts.requests();
            let bodies = requests.iter();
            let mut bodies = bodies.map(|request| String::from_utf8_lossy(&request.body));
            if let Some(body) = bodies.find(|body| words.iter().all(|word| body.contains(word))) {
                return body.into_owned();
            }
            assert!(
                Instant::now() < deadline,
                "no alert with {words:?} in {requests:#?}: {}",
                self.said()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The member that is read.
    async fn secondary(&self) -> Database {
        let primary = self.set.wait_for_primary().await.unwrap();
        let uri = self.set.uri_of(1 - primary).unwrap();
        let client = mongodb::Client::with_uri_str(uri).await.unwrap();
        client.database("shop")
    }
}

/// A queue that the bucket tells of its objects.
async fn notified_queue(endpoint: &str, bucket: &str) -> String {
    let keys = Credentials::new("testkit", "testkit", None, None, "testkit");
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(keys)
        .endpoint_url(endpoint)
        .build();
    let name = unique_name("lake-objects");
    let created = Client::from_conf(config).create_queue().queue_name(&name);
    let url = created.send().await.unwrap().queue_url.unwrap();
    let rule = format!(
        "<NotificationConfiguration><QueueConfiguration><Id>1</Id>\
         <Queue>arn:aws:sqs:us-east-1:123456789012:{name}</Queue>\
         <Event>s3:ObjectCreated:*</Event></QueueConfiguration></NotificationConfiguration>"
    );
    let client = reqwest::Client::new();
    let put = client.put(format!("{endpoint}/{bucket}?notification"));
    let answer = put.body(rule).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    url
}

/// Writes, changes and removes documents of a collection.
async fn write(collection: &Collection<Document>, random: &mut StdRng, times: u32) {
    for _ in 0..times {
        let key = doc! { "_id": random.random_range(0..200) };
        let n: i32 = random.random_range(0..1_000_000);
        match random.random_range(0..4) {
            0 => collection.delete_one(key).await.map(drop),
            _ => collection
                .update_one(
                    key,
                    doc! { "$set": { "n": n, "text": format!("text {n}") } },
                )
                .upsert(true)
                .await
                .map(drop),
        }
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_keeps_redshift_exact_through_a_kill_and_a_schema_change() {
    let pipeline = Pipeline::new().await;
    let mut random = StdRng::seed_from_u64(11);
    for name in COLLECTIONS {
        let documents = (0..300).map(|i| doc! { "_id": i, "n": i, "text": format!("text {i}") });
        let collection = pipeline.collection(name);
        collection.insert_many(documents).await.unwrap();
    }
    let secondary = pipeline.secondary().await;
    let profile = doc! { "profile": 2 };
    secondary.run_command(profile).await.unwrap();

    // All there is, and what changes.
    let mut child = pipeline.start();
    pipeline.arrives("the first load").await;
    for name in COLLECTIONS {
        write(&pipeline.collection(name), &mut random, 100).await;
    }
    pipeline.arrives("changes").await;
    pipeline.assert_same();
    let read = secondary.collection::<Document>("system.profile");
    let reads = doc! { "ns": "shop.orders", "op": { "$in": ["query", "command", "getmore"] } };
    assert!(read.count_documents(reads).await.unwrap() > 0);
    secondary.run_command(doc! { "profile": 0 }).await.unwrap();

    // Killed while there is something to do.
    write(&pipeline.collection("orders"), &mut random, 100).await;
    let wait = Duration::from_millis(random.random_range(500..3_000));
    let until = Instant::now() + wait;
    while Instant::now() < until {
        write(&pipeline.collection("customers"), &mut random, 5).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for name in COLLECTIONS {
        write(&pipeline.collection(name), &mut random, 50).await;
    }
    let child = pipeline.start();
    pipeline.arrives("what was killed").await;
    pipeline.assert_same();

    // A document with another schema has its table wait, and the other one goes on.
    let more = doc! { "_id": 1_000, "n": 1, "coupon": "SPRING" };
    pipeline
        .collection("orders")
        .insert_one(more)
        .await
        .unwrap();
    let alert = pipeline
        .alerted(&["extract", "/coupon new, string", "tributary schema approve"])
        .await;
    assert!(alert.contains("shop/orders"), "{alert}");
    write(&pipeline.collection("customers"), &mut random, 20).await;
    let customers = pipeline.in_mongodb("customers").await;
    let deadline = Instant::now() + LIMIT;
    while pipeline.in_warehouse("customers").await.as_ref() != Ok(&customers) {
        assert!(Instant::now() < deadline, "{}", pipeline.said());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    write(&pipeline.collection("orders"), &mut random, 20).await;
    let waiting = pipeline.in_warehouse("orders").await.unwrap();
    assert!(waiting.iter().all(|(id, _)| *id != 1_000), "{waiting:?}");

    let lake = format!("s3://{}/lake", pipeline.bucket);
    let approve = ["schema", "approve", "--lake", &lake, "shop.orders"];
    let approved = pipeline.run(&approve).ok();
    assert!(approved.stdout.contains("/coupon"), "{approved:#?}");
    pipeline.arrives("what was approved").await;
    pipeline.assert_same();
    pipeline.alerted(&["extract", "recovered"]).await;

    // What happened is remembered.
    let file = pipeline.fixture.path("tributary.yaml");
    let history = ["job", "history", "--config", &file, "--limit", "1000"];
    let history = pipeline
        .run(&[&history[..], &["--output", "json"]].concat())
        .ok();
    let runs: Value = serde_json::from_str(history.stdout.trim()).unwrap();
    let of = |job: &str, state: &str| {
        let runs = runs["runs"].as_array().unwrap().iter();
        runs.filter(|run| run["job"] == job && run["state"] == state)
            .count()
    };
    assert!(of("extract", "failed") > 0 && of("extract", "succeeded") > 0);
    assert!(of("load", "succeeded") > 0);
    assert_eq!(pipeline.warehouse.staged_files().await, 0);
    send_signal(&child, Signal::TERM).expect("a child");
    crate::support::wait(child).ok();
}
