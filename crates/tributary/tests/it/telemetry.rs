//! `tributary run` and a collector of logs and metrics.

use std::process::Child;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, metric, number_data_point};
use prost::Message;
use serde_json::Value;
use tempfile::TempDir;
use tributary_testkit::{HttpReceiver, ReceivedRequest};

use crate::support::{NOBODY, Run, command, wait};

const KEY: &str = "hunter2-hunter2";
const LIMIT: Duration = Duration::from_secs(60);

/// A process that runs a job every second and sends telemetry.
struct Running {
    directory: TempDir,
    child: Option<Child>,
}

impl Running {
    fn start(otlp: &str, arguments: &[&str]) -> Self {
        let directory = TempDir::new().expect("a directory");
        let file = directory.path().join("tributary.yaml");
        let text = format!(
            "state: state\njobs:\n  often:\n    schedule: {{ cron: '* * * * * *' }}\n    steps: {{ \
             mark: {{ command: {{ run: [sh, -c, 'echo x >> ran'] }} }} }}\n\
             telemetry: {{ otlp: '{otlp}', headers: {{ x-key: '${{OTLP_KEY}}' }}, interval: 300ms }}\n"
        );
        std::fs::write(&file, text).expect("written");
        let file = file.to_string_lossy().into_owned();
        let mut command = command(&[&["run", &file], arguments].concat());
        command.env("OTLP_KEY", KEY).env_remove("TRIBUTARY_LOG");
        let child = Some(command.spawn().expect("the binary starts"));
        Self { directory, child }
    }

    /// How often the job has done its work.
    fn ran(&self) -> usize {
        let ran = std::fs::read_to_string(self.directory.path().join("ran"));
        ran.map_or(0, |ran| ran.lines().count())
    }

    async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !is_so() {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks it to end, and waits for that.
    async fn stop(mut self) -> Run {
        let child = self.child.take().expect("a child");
        let killed = std::process::Command::new("kill")
            .args(["-TERM", &child.id().to_string()])
            .status();
        assert!(killed.expect("kill runs").success());
        tokio::task::spawn_blocking(move || wait(child))
            .await
            .expect("an end")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn of(requests: Vec<ReceivedRequest>, path: &str) -> Vec<ReceivedRequest> {
    let of_path = requests.into_iter().filter(|request| request.path == path);
    of_path.collect()
}

fn text(value: Option<&AnyValue>) -> &str {
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text,
        _ => "",
    }
}

fn attribute<'a>(attributes: &'a [KeyValue], name: &str) -> &'a str {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    found.map_or("", |found| text(found.value.as_ref()))
}

fn records(receiver: &HttpReceiver) -> Vec<LogRecord> {
    of(receiver.requests(), "/v1/logs")
        .iter()
        .flat_map(|request| {
            ExportLogsServiceRequest::decode(&*request.body)
                .expect("logs")
                .resource_logs
        })
        .flat_map(|logs| {
            let attributes = logs.resource.expect("a resource").attributes;
            assert_eq!(attribute(&attributes, "service.name"), "tributary");
            assert_ne!(attribute(&attributes, "service.version"), "");
            assert_ne!(attribute(&attributes, "host.name"), "");
            logs.scope_logs
        })
        .flat_map(|logs| logs.log_records)
        .collect()
}

/// What each message told of a counter of the job.
fn succeeded(receiver: &HttpReceiver) -> Vec<f64> {
    let mut told = Vec::new();
    for request in of(receiver.requests(), "/v1/metrics") {
        let message = ExportMetricsServiceRequest::decode(&*request.body).expect("metrics");
        for metrics in message.resource_metrics {
            let attributes = metrics.resource.expect("a resource").attributes;
            assert_eq!(attribute(&attributes, "service.name"), "tributary");
            for metric in metrics.scope_metrics.into_iter().flat_map(|m| m.metrics) {
                let Some(metric::Data::Sum(sum)) = metric.data else {
                    continue;
                };
                if metric.name != "tributary_job_runs_total" {
                    continue;
                }
                assert!(sum.is_monotonic);
                let cumulative = AggregationTemporality::Cumulative as i32;
                assert_eq!(sum.aggregation_temporality, cumulative);
                for point in sum.data_points {
                    assert_eq!(attribute(&point.attributes, "job"), "often");
                    if attribute(&point.attributes, "state") == "succeeded" {
                        let Some(number_data_point::Value::AsDouble(value)) = point.value else {
                            panic!("no number: {point:?}");
                        };
                        told.push(value);
                    }
                }
            }
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_and_growing_counters_arrive_at_the_collector() {
    let receiver = HttpReceiver::start().await.expect("a receiver");
    let running = Running::start(
        &receiver.url(),
        &["--log", "info", "--log-json", "--output", "json"],
    );
    let ended = |record: &LogRecord| text(record.body.as_ref()) == "a run has ended";
    running
        .until("a run is logged and counted twice", || {
            let counts = succeeded(&receiver);
            records(&receiver).iter().any(ended)
                && counts
                    .first()
                    .zip(counts.last())
                    .is_some_and(|(a, b)| b > a)
        })
        .await;
    let run = running.stop().await.ok();

    let records = records(&receiver);
    let record = records.iter().find(|record| ended(record)).expect("one");
    assert_eq!(record.severity_text, "INFO");
    assert_eq!(attribute(&record.attributes, "job"), "often");
    let counts = succeeded(&receiver);
    assert!(counts.is_sorted(), "{counts:?}");
    for request in receiver.requests() {
        assert_eq!(request.method, "POST");
        assert_eq!(request.header("x-key"), Some(KEY));
        let kind = request.header("content-type");
        assert_eq!(kind, Some("application/x-protobuf"));
    }
    let logged: Vec<Value> = run
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    assert!(
        logged
            .iter()
            .any(|line| line["fields"]["message"] == "a run has ended"),
        "{run:#?}"
    );
    assert!(!run.stderr.contains("telemetry cannot"), "{run:#?}");
    assert!(!run.stderr.contains(KEY), "{run:#?}");
    for record in records {
        assert!(!format!("{record:?}").contains(KEY));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_runs_arrive_when_it_ends() {
    let receiver = HttpReceiver::start().await.expect("a receiver");
    let running = Running::start(&receiver.url(), &[]);
    // When the second has begun, the first has ended: the runs of a job do not overlap.
    running.until("the job ran", || running.ran() > 1).await;
    running.stop().await.ok();
    let bodies = records(&receiver);
    let ended = bodies
        .iter()
        .filter(|record| text(record.body.as_ref()) == "a run has ended")
        .count();
    assert!(ended > 0, "{bodies:#?}");
    assert_eq!(succeeded(&receiver).last(), Some(&(ended as f64)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_fails_hinders_no_work_and_is_told_once_and_again_when_it_is_back() {
    let receiver = HttpReceiver::start().await.expect("a receiver");
    receiver.answer_with(500, &[], "no");
    let running = Running::start(&receiver.url(), &[]);
    running.until("the job ran", || running.ran() > 2).await;
    receiver.wait_for(6, LIMIT).await;
    receiver.answer_with(200, &[], "");
    let before = receiver.requests().len();
    running
        .until("logs and metrics arrive", || {
            let since = receiver.requests().split_off(before);
            ["/v1/logs", "/v1/metrics"]
                .iter()
                .all(|path| !of(since.clone(), path).is_empty())
        })
        .await;
    let run = running.stop().await.ok();
    let count = |what: &str| run.stderr.matches(what).count();
    // Logs and metrics are sent side by side: one may still be refused when the other is taken already.
    let (failed, back) = (
        count("telemetry cannot be sent"),
        count("telemetry is sent again"),
    );
    assert_eq!(failed, back, "{run:#?}");
    assert!((1..=2).contains(&failed), "{run:#?}");
    assert!(!run.stderr.contains(KEY), "{run:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_or_never_answers_hinders_neither_the_work_nor_its_end() {
    let silent = HttpReceiver::start().await.expect("a receiver");
    silent.never_answer();
    for otlp in [silent.url(), format!("http://{NOBODY}")] {
        let running = Running::start(&otlp, &[]);
        running.until("the job ran", || running.ran() > 2).await;
        let run = running.stop().await.ok();
        let warnings = run.stderr.matches("telemetry cannot be sent").count();
        assert_eq!(warnings, 1, "{run:#?}");
        assert!(!run.stderr.contains(KEY), "{run:#?}");
        assert!(!run.stderr.contains("panicked"), "{run:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_no_request_can_be_sent_to_is_a_warning() {
    let running = Running::start("http://127.0.0.1:1/a b", &[]);
    running.until("the job ran", || running.ran() > 0).await;
    let run = running.stop().await.ok();
    assert_eq!(run.stderr.matches("telemetry").count(), 1, "{run:#?}");
}
