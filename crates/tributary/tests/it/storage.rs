//! Lakes in S3 and Azure.

use std::time::Duration;

use bson::doc;
use serde_json::Value;
use tributary_testkit::{AzuriteServer, S3Server, unique_name};

use crate::failpoints::ABORTED;
use crate::support::{Fixture, Run, command, filler, run_command, wait};

/// A lake in an object store.
pub(crate) struct Store {
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) lake: String,
}

impl Store {
    pub(crate) async fn s3() -> (S3Server, Self) {
        let server = S3Server::shared().await.unwrap();
        let bucket = unique_name("lake");
        server.create_bucket(&bucket).await.unwrap();
        let store = Self {
            environment: server.env(),
            lake: format!("s3://{bucket}/some/prefix"),
        };
        (server, store)
    }

    async fn azure() -> (AzuriteServer, Self) {
        let server = AzuriteServer::shared().await.unwrap();
        let container = unique_name("lake");
        server.create_container(&container).await.unwrap();
        let store = Self {
            environment: server.env(),
            lake: format!("az://{container}/lake"),
        };
        (server, store)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        let mut command = command(arguments);
        command.envs(self.environment.iter().map(|(k, v)| (k, v)));
        run_command(command)
    }

    fn copy(&self, fixture: &Fixture, arguments: &[&str]) -> Run {
        self.run(
            &[
                &["copy", &fixture.uri(), &self.lake, "--output", "json"],
                arguments,
            ]
            .concat(),
        )
    }

    fn rows(&self, query: &str) -> Vec<Value> {
        let run = self
            .run(&["sql", "--lake", &self.lake, "--output", "json", query])
            .ok();
        run.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

async fn some(name: &str) -> Fixture {
    let fixture = Fixture::new(name).await;
    fixture
        .insert(
            "c",
            (0..3000)
                .map(|i| doc! { "_id": i, "n": { "x": i }, "text": filler(i as usize, 900) })
                .collect(),
        )
        .await;
    fixture
}

fn loads_and_replaces(store: &Store, fixture: &Fixture) {
    assert_eq!(
        store.copy(fixture, &[]).ok().collection()["documents"],
        3000
    );
    let query = format!("SELECT count(*) n, sum(n['x']) s FROM {}.c", fixture.name);
    assert_eq!(
        store.rows(&query)[0].to_string(),
        r#"{"n":3000,"s":4498500}"#
    );
    store
        .copy(fixture, &[])
        .fails(1, &["already holds", "--overwrite"]);
    store
        .copy(
            fixture,
            &["--overwrite", "--filter", r#"{"_id":{"$lt":10}}"#],
        )
        .ok();
    assert_eq!(store.rows(&query)[0].to_string(), r#"{"n":10,"s":45}"#);
}

#[tokio::test]
async fn a_lake_in_s3_is_loaded_replaced_and_queried() {
    let (_server, store) = Store::s3().await;
    let fixture = some("s3").await;
    loads_and_replaces(&store, &fixture);
}

#[tokio::test]
async fn a_lake_in_azure_is_loaded_replaced_and_queried() {
    let (_server, store) = Store::azure().await;
    let fixture = some("azure").await;
    loads_and_replaces(&store, &fixture);
}

#[tokio::test]
async fn files_in_s3_are_seen_through_their_manifest() {
    let (_server, store) = Store::s3().await;
    let fixture = some("manifest").await;
    let objects = |store: &Store| {
        use futures::TryStreamExt;
        use object_store::ObjectStore;
        let bucket = store.lake.split('/').nth(2).unwrap().to_owned();
        let builder = store.environment.iter().fold(
            object_store::aws::AmazonS3Builder::new(),
            |builder, (k, v)| match k.to_lowercase().parse() {
                Ok(key) => builder.with_config(key, v),
                Err(_) => builder,
            },
        );
        let bucket = builder
            .with_bucket_name(bucket)
            .with_allow_http(true)
            .build()
            .unwrap();
        async move {
            let list: Vec<_> = bucket.list(None).try_collect().await.unwrap();
            let mut names: Vec<_> = list
                .iter()
                .map(|o| o.location.filename().unwrap().to_owned())
                .collect();
            names.sort();
            names
        }
    };
    store.copy(&fixture, &["--format", "jsonl"]).ok();
    let first = objects(&store).await;
    assert_eq!(first.len(), 2, "{first:?}");
    assert_eq!(first[0], "_manifest.json");
    store
        .copy(&fixture, &["--format", "jsonl", "--overwrite"])
        .ok();
    let second = objects(&store).await;
    assert_eq!(second.len(), 2, "{second:?}");
    assert_ne!(first[1], second[1]);
}

#[tokio::test]
async fn a_copy_into_s3_goes_on_after_a_kill() {
    let (_server, store) = Store::s3().await;
    let fixture = Fixture::new("s3killed").await;
    for chunk in (0..45_000).collect::<Vec<i64>>().chunks(5000) {
        let documents = chunk
            .iter()
            .map(|&i| doc! { "_id": i, "text": filler(i as usize, 800) })
            .collect();
        fixture.insert("c", documents).await;
    }
    let mut milliseconds = 1500;
    let done = loop {
        let mut copy = command(&[
            "copy",
            &fixture.uri(),
            &store.lake,
            "--output",
            "json",
            "--parallel",
            "6",
        ]);
        let mut child = copy
            .envs(store.environment.iter().map(|(k, v)| (k, v)))
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        if child.try_wait().unwrap().is_some() {
            break wait(child);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        milliseconds += 1000;
    };
    if done.code == Some(0) {
        assert_eq!(done.collection()["documents"], 45_000);
    } else {
        // The one before was killed when all was done but the telling of it.
        done.fails(1, &["already holds"]);
    }
    let query = format!(
        "SELECT count(*) n, count(DISTINCT _id) d FROM {}.c",
        fixture.name
    );
    assert_eq!(
        store.rows(&query)[0].to_string(),
        r#"{"n":45000,"d":45000}"#
    );
}

#[tokio::test]
async fn a_copy_into_s3_goes_on_behind_collections_that_are_complete() {
    let fixture = Fixture::new("s3several").await;
    for name in ["aa", "bb"] {
        fixture.insert(name, vec![doc! { "_id": 1 }]).await;
    }
    for format in ["delta", "jsonl"] {
        let (_server, store) = Store::s3().await;
        let (uri, more) = (fixture.uri(), ["--format", format]);
        let mut copy = command(&[&["copy", &uri, &store.lake], &more[..]].concat());
        copy.envs(store.environment.iter().map(|(k, v)| (k, v)));
        copy.env("TRIBUTARY_FAILPOINT", "load.ended");
        let killed = run_command(copy);
        assert_eq!(killed.signal, Some(ABORTED), "{killed:#?}");
        let event = store.copy(&fixture, &more).ok().finished();
        for collection in event["collections"].as_array().unwrap() {
            assert_eq!(collection["documents"], 1, "{event}");
        }
        let again = store.copy(&fixture, &more);
        assert_eq!(again.code, Some(1), "{again:#?}");
        assert_eq!(
            again.stderr.matches("already holds").count(),
            2,
            "{again:#?}"
        );
    }
}

#[tokio::test]
async fn server_side_encryption_is_asked_for() {
    let (_server, mut store) = Store::s3().await;
    let fixture = some("sse").await;
    store
        .environment
        .push(("AWS_SERVER_SIDE_ENCRYPTION".to_owned(), "AES256".to_owned()));
    store.copy(&fixture, &[]).ok();
    store.environment.pop();
    store.environment.push((
        "AWS_SERVER_SIDE_ENCRYPTION".to_owned(),
        "aws:kms".to_owned(),
    ));
    store
        .environment
        .push(("AWS_SSE_KMS_KEY_ID".to_owned(), "alias/aws/s3".to_owned()));
    store.copy(&fixture, &["--overwrite"]).ok();
    assert_eq!(
        store.rows(&format!("SELECT count(*) n FROM {}.c", fixture.name))[0]["n"],
        3000
    );
}

#[tokio::test]
async fn a_missing_bucket_and_wrong_credentials_are_told() {
    let (_server, mut s3) = Store::s3().await;
    let (_azurite, mut azure) = Store::azure().await;
    let fixture = some("denied").await;
    s3.lake = "s3://no-such-bucket-anywhere/lake".to_owned();
    s3.copy(&fixture, &[])
        .fails(1, &["no-such-bucket-anywhere", "create the bucket"]);
    let right = azure.lake.clone();
    azure.lake = "az://no-such-container/lake".to_owned();
    azure
        .copy(&fixture, &[])
        .fails(1, &["no-such-container", "create the bucket or container"]);
    azure.lake = right;
    for (name, value) in &mut azure.environment {
        if name == "AZURE_STORAGE_ACCOUNT_KEY" {
            *value = "d3Jvbmcga2V5".to_owned();
        }
    }
    let denied = azure.copy(&fixture, &[]);
    denied.fails(1, &["AZURE_STORAGE_ACCOUNT_KEY"]);
    assert!(!denied.stderr.contains("d3Jvbmcga2V5"), "{denied:#?}");
}
