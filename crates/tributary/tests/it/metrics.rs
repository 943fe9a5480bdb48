//! What `sync --metrics` answers, as Prometheus reads it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bson::{Bson, doc};
use serde_json::Value;
use tributary_testkit::python_venv;

use crate::running::Running;
use crate::support::{Fixture, LIMIT, run_command};
use crate::sync::sync;

/// Where a sync that runs says its metrics are: `host:port`.
pub(crate) async fn address(sync: &mut Running) -> String {
    sync.wait_for_events("metrics", 1).await;
    let event = sync.last_event("metrics");
    let address = event["address"].as_str().unwrap();
    let address = address.strip_prefix("http://").unwrap();
    address.strip_suffix("/metrics").unwrap().to_owned()
}

/// The head and the body of an answer.
fn ask(address: &str, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// All numbers at one moment.
pub(crate) struct Scraped(Value);

impl Scraped {
    pub(crate) fn of(address: &str) -> Self {
        let (head, body) = ask(address, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("text/plain; version=0.0.4"), "{head}");
        let python = python_venv("metrics", &["prometheus-client==0.26.0"]).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/readers/metrics.py");
        let mut reader = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = reader.stdin.take().unwrap();
        input.write_all(body.as_bytes()).unwrap();
        drop(input);
        let output = reader.wait_with_output().unwrap();
        assert!(output.status.success(), "cannot be read: {body}");
        Self(serde_json::from_slice(&output.stdout).unwrap())
    }

    /// The value of a sample that has these labels and no others but its `le`.
    pub(crate) fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let families = self.0.as_object().unwrap();
        let mut samples = families
            .values()
            .flat_map(|family| family["samples"].as_array().unwrap());
        let wanted = |sample: &&Value| {
            let found = sample["labels"].as_object().unwrap();
            sample["name"] == name
                && found.len() == labels.len()
                && labels
                    .iter()
                    .all(|(label, value)| found.get(*label) == Some(&(*value).into()))
        };
        samples.find(wanted)?["value"].as_f64()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_say_what_was_written() {
    let fixture = Fixture::new("metrics").await;
    let (c, quiet) = (
        fixture.database.collection::<bson::Document>("c"),
        fixture.database.collection::<bson::Document>("quiet"),
    );
    c.insert_many((0..100).map(|i| doc! { "_id": i, "n": i }))
        .await
        .unwrap();
    quiet.insert_one(doc! { "_id": 1 }).await.unwrap();
    fixture.insert("copied", vec![doc! { "_id": 1 }]).await;
    fixture.copy(&["--collection", "copied"]).ok();

    let arguments = [
        "--metrics",
        "127.0.0.1:0",
        "--commit-interval",
        "50ms",
        "--history",
    ];
    let mut running = Running::start(sync(&fixture, &arguments));
    let address = address(&mut running).await;
    running.wait_for_events("following", 2).await;
    c.update_many(doc! { "_id": { "$lt": 30 } }, doc! { "$inc": { "n": 1 } })
        .await
        .unwrap();
    c.delete_many(doc! { "_id": { "$gte": 90 } }).await.unwrap();
    let far = Bson::DateTime(bson::DateTime::from_millis(i64::MAX));
    c.insert_one(doc! { "_id": 200, "at": bson::DateTime::now() })
        .await
        .unwrap();
    c.insert_one(doc! { "_id": 201, "at": far }).await.unwrap();
    let name = format!("{}.c", fixture.name);
    let of_c = [("namespace", name.as_str())];
    let deadline = Instant::now() + LIMIT;
    let scraped = loop {
        let scraped = Scraped::of(&address);
        // The time of a batch is the last that is recorded of it.
        let recorded = [of_c[0], ("stage", "apply")];
        let is_recorded = scraped.get("tributary_changes_total", &of_c) == Some(42.0)
            && scraped.get("tributary_stage_seconds_count", &recorded)
                == scraped.get("tributary_batch_changes_count", &of_c)
            && scraped.get("tributary_source_oplog_window_seconds", &[]) > Some(0.0);
        if is_recorded {
            break Scraped::of(&address);
        }
        assert!(Instant::now() < deadline, "{}", scraped.0);
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let get = |name: &str| scraped.get(name, &of_c);
    assert_eq!(get("tributary_loaded_documents_total"), Some(100.0));
    assert!(get("tributary_loaded_bytes_total") > Some(1000.0));
    assert_eq!(get("tributary_upserts_total"), Some(32.0));
    assert_eq!(get("tributary_deletes_total"), Some(10.0));
    assert_eq!(get("tributary_rescued_values_total"), Some(1.0));
    assert_eq!(get("tributary_retries_total"), Some(0.0));
    assert!(get("tributary_written_bytes_total") > Some(100.0));
    assert_eq!(get("tributary_batch_changes_sum"), Some(42.0));
    assert_eq!(
        get("tributary_batch_bytes_sum"),
        get("tributary_change_bytes_total")
    );
    let batches = get("tributary_batch_changes_count");
    let told = batches.unwrap() as usize;
    running.wait_for_events("applied", told).await;
    assert_eq!(running.events("applied"), told);
    for stage in [
        "gather", "history", "decode", "write", "find", "commit", "record", "apply",
    ] {
        let labels = [of_c[0], ("stage", stage)];
        let get = |name| scraped.get(name, &labels);
        assert_eq!(get("tributary_stage_seconds_count"), batches, "{stage}");
        assert!(get("tributary_stage_seconds_sum") > Some(0.0), "{stage}");
    }
    for change in ["oldest", "newest"] {
        let labels = [of_c[0], ("change", change)];
        let get = |name| scraped.get(name, &labels);
        assert_eq!(get("tributary_latency_seconds_count"), batches, "{change}");
        assert!(get("tributary_latency_seconds_sum") > Some(0.0), "{change}");
    }
    let state = |collection: &str, state: &str| {
        let namespace = format!("{}.{collection}", fixture.name);
        let labels = [("namespace", namespace.as_str()), ("state", state)];
        scraped.get("tributary_flow_state", &labels)
    };
    for (collection, is) in [
        ("c", "following"),
        ("quiet", "following"),
        ("copied", "failed"),
    ] {
        for known in ["loading", "following", "retrying", "failed"] {
            let value = if known == is { 1.0 } else { 0.0 };
            assert_eq!(
                state(collection, known),
                Some(value),
                "{collection} {known}"
            );
        }
    }
    assert_eq!(scraped.get("tributary_source_connected", &[]), Some(1.0));
    assert_eq!(
        scraped.get("tributary_source_retries_total", &[]),
        Some(0.0)
    );
    assert!(scraped.get("tributary_source_position_timestamp_seconds", &[]) > Some(1.6e9));
    let documentation = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ARCHITECTURE.md");
    let documentation = std::fs::read_to_string(documentation).unwrap();
    for (family, content) in scraped.0.as_object().unwrap() {
        assert_ne!(content["help"], "", "{family} has no help");
        assert_ne!(content["type"], "unknown", "{family} has no type");
        let base = family.strip_prefix("tributary_");
        assert!(base.is_some(), "{family} is somebody else's");
        let suffix = if content["type"] == "counter" {
            "_total`"
        } else {
            "`"
        };
        let documented = documentation.contains(&format!("`{family}{suffix}"));
        assert!(documented, "{family} is not documented");
    }

    // A collection of which nothing has happened for a while is not behind for that.
    let since = Instant::now();
    let quiet_name = format!("{}.quiet", fixture.name);
    loop {
        let scraped = Scraped::of(&address);
        let labels = [("namespace", quiet_name.as_str())];
        let lag = scraped.get("tributary_lag_seconds", &labels).unwrap();
        let quiet_for = since.elapsed().as_secs_f64();
        if quiet_for > 3.0 && lag < quiet_for / 2.0 {
            break;
        }
        assert!(Instant::now() < deadline, "{lag} after {quiet_for}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let run = running.stop();
    run.fails(1, &["copied", "--overwrite"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_cannot_be_used_is_told_at_once() {
    let fixture = Fixture::new("metrics").await;
    fixture.insert("c", vec![doc! { "_id": 1 }]).await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let run = run_command(sync(&fixture, &["--once", "--metrics", &address]));
    run.fails(
        2,
        &["cannot serve metrics", &address, "in use", "--metrics"],
    );
    assert!(!fixture.table("c").exists());
    let run = run_command(sync(&fixture, &["--once", "--metrics", "9100"]));
    run.fails(2, &["cannot serve metrics", "9100"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_metrics_are_answered() {
    let fixture = Fixture::new("metrics").await;
    fixture.insert("c", vec![doc! { "_id": 1 }]).await;
    let mut running = Running::start(sync(&fixture, &["--metrics", "127.0.0.1:0"]));
    let address = address(&mut running).await;
    // Somebody who says nothing keeps nobody else waiting.
    let silent = TcpStream::connect(&address).unwrap();
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("GET /metrics/more HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        ("nonsense\r\n\r\n", "405 Method Not Allowed"),
        ("GET /metrics?name=x HTTP/1.0\r\n\r\n", "200 OK"),
    ] {
        let (head, _) = ask(&address, request);
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{request}: {head}"
        );
    }
    let (_, body) = ask(&address, "HEAD /metrics HTTP/1.1\r\n\r\n");
    assert_eq!(body, "");
    // A request without end is not read for ever.
    let mut endless = TcpStream::connect(&address).unwrap();
    let _ = endless.write_all(&[b'x'; 64 << 10]);
    let mut answer = Vec::new();
    let _ = endless.read_to_end(&mut answer);
    assert_eq!(answer, b"");
    drop(silent);
    running.stop().ok();
}
