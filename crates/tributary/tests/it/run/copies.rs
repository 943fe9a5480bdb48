//! Steps that copy several collections, and are cut short when some of them are there.

use std::fs::File;
use std::path::Path;

use bson::doc;
use serde_json::Value;

use super::{Api, Site};
use crate::failpoints::ABORTED;
use crate::support::{Run, command, run, run_command, sql_of};

/// A site with two collections.
async fn two(name: &str) -> Site {
    let site = Site::new(name).await;
    for (collection, count) in [("aa", 30), ("bb", 20)] {
        let documents = (0..count).map(|key| doc! { "_id": key }).collect();
        site.fixture.insert(collection, documents).await;
    }
    site
}

impl Site {
    /// Writes a file with a job that copies into a directory.
    fn write_copy(&self, lake: &str, options: &str) {
        let uri = self.fixture.uri();
        self.write_all(&format!(
            "sources: {{ shop: {{ uri: '{uri}' }} }}\nlakes: {{ main: {{ path: {lake} }} }}\n\
             server: {{ listen: '127.0.0.1:0' }}\n\
             jobs: {{ j: {{ steps: {{ s: {{ copy: {{ from: shop, to: main{options} }}, retries: {{ times: 9, wait: 100ms }} }} }} }} }}\n"
        ));
    }

    /// Runs the job right here, and ends when a point is reached for the nth time.
    #[track_caller]
    fn run_killed_at(&self, point: &str) {
        let mut job = command(&["job", "run", "j", "--wait", "--config", &self.file()]);
        job.env("TRIBUTARY_FAILPOINT", point);
        let killed = run_command(job);
        assert_eq!(killed.signal, Some(ABORTED), "{killed:#?}");
    }

    fn last_run(&self) -> Value {
        let rows = self.job(&["history", "--output", "json"]).ok().rows();
        rows[0]["runs"][0].clone()
    }
}

/// The run when it has ended.
async fn ended(api: &Api, id: &str) -> Value {
    let is_over = |run: &Value| run["state"] == "succeeded" || run["state"] == "failed";
    api.wait(&format!("/api/v1/runs/{id}"), "ended", is_over)
        .await
}

/// How many documents of a collection have been copied.
fn copied(lake: &str, database: &str, collection: &str) -> Value {
    let manifest = Path::new(lake).join(database).join(collection);
    match std::fs::read(manifest.join("_manifest.json")) {
        Ok(text) => serde_json::from_slice::<Value>(&text).unwrap()["documents"].clone(),
        Err(_) => {
            let query = format!("SELECT count(*) AS n FROM {database}.{collection}");
            sql_of(lake, &query)[0]["n"].clone()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_killed_behind_a_collection_goes_on_with_the_others() {
    let site = two("copykill").await;
    let cases = [
        ("delta", "load.ended:1"),
        ("delta", "load.ended:2"),
        ("delta", "load.committed:2"),
        ("parquet", "load.ended:1"),
        ("parquet", "load.ended:2"),
        ("jsonl", "load.ended:1"),
        ("csv", "load.ended:1"),
        ("avro", "load.ended:1"),
    ];
    for (round, (format, point)) in cases.into_iter().enumerate() {
        let lake = format!("lake{round}");
        site.write_copy(&lake, &format!(", format: {format}"));
        site.run_killed_at(point);
        let id = site.last_run()["id"].as_str().unwrap().to_owned();
        let (running, api) = site.start().await;
        let run = ended(&api, &id).await;
        assert_eq!(run["state"], "succeeded", "{format} {point}: {run:#}");
        assert_eq!(
            run["steps"][0]["documents"], 50,
            "{format} {point}: {run:#}"
        );
        running.stop().ok();
        let lake = site.fixture.path(&lake);
        for (collection, count) in [("aa", 30), ("bb", 20)] {
            assert_eq!(copied(&lake, &site.fixture.name, collection), count);
        }
        assert!(!Path::new(&lake).join("_tributary").exists());
    }
    // Another run is another copy.
    let again: Run = site.job(&["run", "j", "--wait"]);
    assert_eq!(again.code, Some(1), "{again:#?}");
    let run = site.last_run();
    let error = run["error"].as_str().unwrap_or_default();
    assert!(error.contains("already holds"), "{run:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_replaces_does_not_load_again_what_it_has_loaded() {
    let site = two("copyagain").await;
    site.write_copy("lake", ", overwrite: true");
    site.job(&["run", "j", "--wait"]).ok();
    site.run_killed_at("load.ended:2");
    let log = site.fixture.table("aa").join("_delta_log");
    let versions = || std::fs::read_dir(&log).unwrap().count();
    assert_eq!(versions(), 2);
    let id = site.last_run()["id"].as_str().unwrap().to_owned();
    let (running, api) = site.start().await;
    assert_eq!(ended(&api, &id).await["state"], "succeeded");
    assert_eq!(versions(), 2);
    running.stop().ok();
    site.job(&["run", "j", "--wait"]).ok();
    assert_eq!(versions(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_tried_again_with_those_of_its_collections_that_failed() {
    for format in ["delta", "parquet"] {
        let site = two("copytry").await;
        site.write_copy("lake", &format!(", format: {format}"));
        let database = Path::new(&site.fixture.lake()).join(&site.fixture.name);
        std::fs::create_dir_all(&database).unwrap();
        let lock = File::create(database.join(".bb.lock")).unwrap();
        lock.lock().unwrap();
        let (running, api) = site.start().await;
        let run = api.post("/api/v1/jobs/j/runs").await;
        let id = run["id"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/runs/{id}");
        let is_tried = |run: &Value| run["steps"][0]["attempts"].as_u64() >= Some(2);
        api.wait(&path, "tried again", is_tried).await;
        // It is stopped between two tries, or in one.
        running.stop().ok();
        let (running, api) = site.start().await;
        let attempts = api.get(&path).await["steps"][0]["attempts"].as_u64();
        let is_tried = |run: &Value| run["steps"][0]["attempts"].as_u64() > attempts;
        api.wait(&path, "tried again", is_tried).await;
        drop(lock);
        let run = ended(&api, &id).await;
        assert_eq!(run["state"], "succeeded", "{format}: {run:#}");
        assert_eq!(run["steps"][0]["documents"], 50, "{format}: {run:#}");
        running.stop().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_places_of_a_file_may_be_above_it() {
    let site = two("copyabove").await;
    site.write_copy("../lake", "");
    let directory = site.fixture.path("inner");
    std::fs::create_dir(&directory).unwrap();
    let file = format!("{directory}/tributary.yaml");
    std::fs::rename(site.file(), &file).unwrap();
    run(&["job", "run", "j", "--wait", "--config", &file]).ok();
    let query = format!("SELECT count(*) AS n FROM {}.aa", site.fixture.name);
    let mut sql = command(&["sql", "--lake", "../lake", "--output", "json", &query]);
    sql.current_dir(&directory);
    assert_eq!(run_command(sql).ok().rows()[0]["n"], 30);
}
