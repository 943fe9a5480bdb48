//! What runs, as numbers for Prometheus: `--metrics ADDRESS` answers `GET /metrics`.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;
use tributary_flow::{
    AppliedBatch, CollectionInfo, HistoryWindow, Lag, LoadSummary, Observer, PartitionTotals,
};
use tributary_model::{Error, ErrorKind, Namespace, Position, Result};

/// Seconds: a commit to a disk takes a hundredth, one to an object store half of one, and a table
/// that is written again for a wider column minutes.
const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];
/// Changes of a batch.
const CHANGES: &[f64] = &[
    1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5,
];
/// Bytes of a batch, which is committed at 32 MB at the latest.
const BYTES: &[f64] = &[
    1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0, 67108864.0,
];

/// How often what histograms have gathered is counted, whether anybody asks or not.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// How long somebody who asks may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest request that is read.
const LONGEST_REQUEST: u64 = 16 << 10;

const METADATA: Metadata<'_> = Metadata::new("tributary", Level::INFO, None);

/// What a flow is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Loading,
    Following,
    Retrying,
    Failed,
}

impl State {
    const ALL: [(Self, &str); 4] = [
        (Self::Loading, "loading"),
        (Self::Following, "following"),
        (Self::Retrying, "retrying"),
        (Self::Failed, "failed"),
    ];
}

macro_rules! descriptions {
    ($($describe:ident $name:literal $help:literal;)+) => {
        fn describe(recorder: &PrometheusRecorder) {
            $(recorder.$describe(KeyName::from_const_str($name), None, $help.into());)+
        }
    };
}

descriptions! {
    describe_gauge "tributary_flow_state" "What the flow is doing: 1 for its state, 0 for the others.";
    describe_counter "tributary_loaded_documents_total"
        "Documents written by loads, those of partitions that were begun anew included.";
    describe_counter "tributary_loaded_bytes_total" "Bytes of BSON of these documents.";
    describe_counter "tributary_changes_total" "Changes applied.";
    describe_counter "tributary_change_bytes_total" "Bytes of the changes applied.";
    describe_counter "tributary_upserts_total" "Rows written for changes, new ones and new versions.";
    describe_counter "tributary_deletes_total" "Rows gone by changes.";
    describe_counter "tributary_written_bytes_total" "Bytes of files written for changes.";
    describe_counter "tributary_rescued_values_total" "Values that went to _rescued_data.";
    describe_counter "tributary_retries_total" "Transient failures that were waited out, of the load or the table.";
    describe_histogram "tributary_stage_seconds"
        "Time of each stage of a batch: gather, history, decode, write, find, commit, record, and apply for all behind gather.";
    describe_histogram "tributary_latency_seconds"
        "Time from a change to its visibility in the table: the oldest and the newest change of each batch.";
    describe_histogram "tributary_batch_changes" "Changes of a batch.";
    describe_histogram "tributary_batch_bytes" "Bytes of the changes of a batch.";
    describe_gauge "tributary_source_connected" "1 while the change stream is read, 0 while it is not.";
    describe_gauge "tributary_source_position_timestamp_seconds"
        "The cluster time up to which the change stream has been read, since 1970.";
    describe_gauge "tributary_source_oplog_window_seconds" "How far back the server remembers its changes.";
    describe_counter "tributary_source_retries_total" "Times that the source was lost and tried again.";
}

/// An observer that counts.
pub(crate) struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    /// What all its numbers are told apart by from those of other observers.
    labels: Vec<Label>,
    flows: Mutex<HashMap<Namespace, Flow>>,
    source: Mutex<Source>,
    connected: Gauge,
    position: Gauge,
    window: Gauge,
    reconnects: Counter,
}

/// How far the stream has been read.
#[derive(Debug, Default)]
struct Source {
    read_to: Option<SystemTime>,
}

/// One collection's numbers.
struct Flow {
    labels: Vec<Label>,
    state: Option<State>,
    states: [Gauge; State::ALL.len()],
    /// None before it follows, and when it does no more.
    lag: Option<Lag>,
    loaded_documents: Counter,
    loaded_bytes: Counter,
    changes: Counter,
    change_bytes: Counter,
    upserts: Counter,
    deletes: Counter,
    written_bytes: Counter,
    rescued: Counter,
    retries: Counter,
    batch_changes: Histogram,
    batch_bytes: Histogram,
    oldest: Histogram,
    newest: Histogram,
    stages: HashMap<&'static str, Histogram>,
}

fn counter(recorder: &PrometheusRecorder, name: &'static str, labels: &[Label]) -> Counter {
    let counter = recorder.register_counter(&key(name, labels), &METADATA);
    // It is there from the beginning.
    counter.increment(0);
    counter
}

fn gauge(recorder: &PrometheusRecorder, name: &'static str, labels: &[Label]) -> Gauge {
    recorder.register_gauge(&key(name, labels), &METADATA)
}

fn histogram(recorder: &PrometheusRecorder, name: &'static str, labels: &[Label]) -> Histogram {
    recorder.register_histogram(&key(name, labels), &METADATA)
}

fn key(name: &'static str, labels: &[Label]) -> Key {
    Key::from_parts(name, labels.to_vec())
}

fn with(labels: &[Label], name: &'static str, value: impl Into<SharedString>) -> Vec<Label> {
    let more = Label::new(name, value);
    labels.iter().cloned().chain([more]).collect()
}

impl Flow {
    fn new(recorder: &PrometheusRecorder, base: &[Label], namespace: &Namespace) -> Self {
        let labels = with(base, "namespace", namespace.to_string());
        let counter = |name| counter(recorder, name, &labels);
        let histogram = |name, labels: &[Label]| histogram(recorder, name, labels);
        let latency = |which| {
            let labels = with(&labels, "change", which);
            histogram("tributary_latency_seconds", &labels)
        };
        let state = |(_, state)| {
            let labels = with(&labels, "state", state);
            gauge(recorder, "tributary_flow_state", &labels)
        };
        Self {
            state: None,
            states: State::ALL.map(state),
            lag: None,
            loaded_documents: counter("tributary_loaded_documents_total"),
            loaded_bytes: counter("tributary_loaded_bytes_total"),
            changes: counter("tributary_changes_total"),
            change_bytes: counter("tributary_change_bytes_total"),
            upserts: counter("tributary_upserts_total"),
            deletes: counter("tributary_deletes_total"),
            written_bytes: counter("tributary_written_bytes_total"),
            rescued: counter("tributary_rescued_values_total"),
            retries: counter("tributary_retries_total"),
            batch_changes: histogram("tributary_batch_changes", &labels),
            batch_bytes: histogram("tributary_batch_bytes", &labels),
            oldest: latency("oldest"),
            newest: latency("newest"),
            stages: HashMap::new(),
            labels,
        }
    }

    fn is(&mut self, state: impl Into<Option<State>>) {
        let state = state.into();
        if self.state == state {
            return;
        }
        self.state = state;
        for ((known, _), gauge) in State::ALL.iter().zip(&self.states) {
            gauge.set(if Some(*known) == state { 1.0 } else { 0.0 });
        }
    }

    fn stage(&mut self, recorder: &PrometheusRecorder, stage: &'static str, time: Duration) {
        let histogram = self.stages.entry(stage).or_insert_with(|| {
            let labels = with(&self.labels, "stage", stage);
            histogram(recorder, "tributary_stage_seconds", &labels)
        });
        histogram.record(time.as_secs_f64());
    }
}

/// What gathers the numbers of all observers of a process.
fn recorder() -> Result<Arc<PrometheusRecorder>> {
    let suffix = |suffix: &str| Matcher::Suffix(suffix.to_owned());
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(suffix("_seconds"), SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(suffix("_changes"), CHANGES))
        .and_then(|builder| builder.set_buckets_for_metric(suffix("_bytes"), BYTES))
        .map_err(|error| {
            Error::new(ErrorKind::Internal, "the metrics have no buckets").because(error)
        })?;
    let recorder = builder.build_recorder();
    describe(&recorder);
    Ok(Arc::new(recorder))
}

impl Metrics {
    fn new() -> Result<Self> {
        Ok(Self::labelled(recorder()?, Vec::new()))
    }

    fn labelled(recorder: Arc<PrometheusRecorder>, labels: Vec<Label>) -> Self {
        let gauge = |name| gauge(&recorder, name, &labels);
        Self {
            connected: gauge("tributary_source_connected"),
            position: gauge("tributary_source_position_timestamp_seconds"),
            window: gauge("tributary_source_oplog_window_seconds"),
            reconnects: counter(&recorder, "tributary_source_retries_total", &labels),
            flows: Mutex::default(),
            source: Mutex::default(),
            recorder,
            labels,
        }
    }

    fn flows(&self) -> MutexGuard<'_, HashMap<Namespace, Flow>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with(&self, namespace: &Namespace, change: impl FnOnce(&mut Flow)) {
        let mut flows = self.flows();
        match flows.get_mut(namespace) {
            Some(flow) => change(flow),
            None => {
                let flow = Flow::new(&self.recorder, &self.labels, namespace);
                change(flows.entry(namespace.clone()).or_insert(flow));
            }
        }
    }

    /// All numbers as they are now, in Prometheus's text format.
    fn render(&self) -> String {
        render(&self.recorder, std::iter::once(self))
    }

    /// A line for each table that is followed. The recorder has no numbers that end.
    fn write_lags(&self, text: &mut String) {
        let now = SystemTime::now();
        let read_to = self.source().read_to.unwrap_or(now);
        for flow in self.flows().values() {
            let Some(lag) = &flow.lag else { continue };
            let labels: Vec<String> = flow.labels.iter().map(label_text).collect();
            let seconds = lag.at(now, read_to).as_secs_f64();
            let _ = writeln!(text, "{LAG}{{{}}} {seconds}", labels.join(","));
        }
    }

    /// It is to go on, and cannot for now.
    fn retries(&self) {
        self.connected.set(0.0);
        for flow in self.flows().values_mut() {
            if flow.state.is_some() {
                flow.is(State::Retrying);
            }
        }
    }

    /// It does not go on any more.
    fn end(&self) {
        self.connected.set(0.0);
        *self.source() = Source::default();
        for flow in self.flows().values_mut() {
            flow.is(None::<State>);
            flow.lag = None;
        }
    }
}

const LAG: &str = "tributary_lag_seconds";
const LAG_HELP: &str = "Age of the oldest change that the table lacks; where it has all that were read, the time since the stream was read to its end.";

fn render<'a>(
    recorder: &PrometheusRecorder,
    observers: impl Iterator<Item = &'a Metrics>,
) -> String {
    let mut text = recorder.handle().render();
    let mut lags = String::new();
    for observer in observers {
        observer.write_lags(&mut lags);
    }
    if !lags.is_empty() {
        let _ = write!(
            text,
            "# HELP {LAG} {LAG_HELP}\n# TYPE {LAG} gauge\n{lags}\n"
        );
    }
    text
}

fn label_text(label: &Label) -> String {
    let value = label
        .value()
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("{}=\"{value}\"", label.key())
}

impl Observer for Metrics {
    fn started(&self, collection: &CollectionInfo, _: usize, _: PartitionTotals) {
        self.with(&collection.namespace, |flow| flow.is(State::Loading));
    }

    fn progressed(&self, namespace: &Namespace, more: PartitionTotals) {
        self.with(namespace, |flow| {
            flow.is(State::Loading);
            flow.loaded_documents.increment(more.documents);
            flow.loaded_bytes.increment(more.bytes);
            flow.rescued.increment(more.rescued);
        });
    }

    fn retrying(&self, namespace: &Namespace, _: &Error, _: Duration) {
        self.with(namespace, |flow| {
            flow.is(State::Retrying);
            flow.retries.increment(1);
        });
    }

    fn finished(&self, namespace: &Namespace, _: &LoadSummary, _: f64) {
        self.with(namespace, |flow| flow.is(State::Loading));
    }

    fn following(&self, namespace: &Namespace, _: &Position) {
        // It is behind by what it finds, from now on.
        self.source().read_to.get_or_insert_with(SystemTime::now);
        self.with(namespace, |flow| {
            flow.is(State::Following);
            flow.lag = Some(Lag::default());
        });
    }

    fn current_to(&self, namespace: &Namespace, at: SystemTime) {
        self.with(namespace, |flow| {
            flow.is(State::Following);
            flow.lag.get_or_insert_default().current_to(at);
        });
    }

    fn gathering(&self, namespace: &Namespace, oldest: SystemTime) {
        self.with(namespace, |flow| {
            if let Some(lag) = &mut flow.lag {
                lag.gathering(oldest);
            }
        });
    }

    fn applied(&self, namespace: &Namespace, batch: &AppliedBatch) {
        self.with(namespace, |flow| {
            flow.is(State::Following);
            if let Some(lag) = &mut flow.lag {
                lag.applied();
            }
            flow.changes.increment(batch.changes);
            flow.change_bytes.increment(batch.bytes);
            flow.upserts.increment(batch.applied.upserted);
            flow.deletes.increment(batch.applied.deleted);
            flow.written_bytes.increment(batch.applied.bytes);
            flow.rescued.increment(batch.applied.rescued);
            flow.batch_changes.record(batch.changes as f64);
            flow.batch_bytes.record(batch.bytes as f64);
            flow.oldest.record(batch.oldest_latency().as_secs_f64());
            flow.newest.record(batch.newest_latency().as_secs_f64());
            flow.stage(&self.recorder, "gather", batch.gathered);
            for (stage, time) in batch.applied.stages.named() {
                flow.stage(&self.recorder, stage, time);
            }
            flow.stage(&self.recorder, "apply", batch.time());
        });
    }

    fn reached(&self, position: &Position, at: SystemTime) {
        self.connected.set(1.0);
        self.position.set(position.cluster_time.seconds());
        self.source().read_to = Some(at);
    }

    fn remembers(&self, window: HistoryWindow) {
        let seconds = window.newest.seconds();
        let seconds = seconds.saturating_sub(window.oldest.seconds());
        self.window.set(seconds);
    }

    fn source_retrying(&self, _: &Error, _: Duration) {
        self.connected.set(0.0);
        self.reconnects.increment(1);
    }

    fn failed(&self, namespace: &Namespace, _: &Error) {
        self.with(namespace, |flow| flow.is(State::Failed));
    }
}

/// The numbers of several flows, each with its name.
pub(crate) struct FlowMetrics {
    recorder: Arc<PrometheusRecorder>,
    flows: Mutex<HashMap<String, Arc<Metrics>>>,
    _upkeep: AbortOnDropHandle<()>,
}

impl FlowMetrics {
    /// Begins with none.
    ///
    /// # Errors
    /// Only where the buckets are wrong.
    pub(crate) fn new() -> Result<Self> {
        let recorder = recorder()?;
        Ok(Self {
            _upkeep: upkeep(Arc::clone(&recorder)),
            recorder,
            flows: Mutex::default(),
        })
    }

    fn flows(&self) -> MutexGuard<'_, HashMap<String, Arc<Metrics>>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The observer of a flow.
    pub(crate) fn of(&self, flow: &str) -> Arc<Metrics> {
        let mut flows = self.flows();
        let metrics = flows.entry(flow.to_owned()).or_insert_with(|| {
            let labels = vec![Label::new("flow", flow.to_owned())];
            Arc::new(Metrics::labelled(Arc::clone(&self.recorder), labels))
        });
        Arc::clone(metrics)
    }

    /// A flow is to go on, and cannot for now.
    pub(crate) fn retries(&self, flow: &str) {
        if let Some(metrics) = self.flows().get(flow) {
            metrics.retries();
        }
    }

    /// A flow does not go on any more.
    pub(crate) fn end(&self, flow: &str) {
        if let Some(metrics) = self.flows().get(flow) {
            metrics.end();
        }
    }

    /// All numbers as they are now, in Prometheus's text format.
    pub(crate) fn render(&self) -> String {
        let flows = self.flows();
        render(&self.recorder, flows.values().map(Arc::as_ref))
    }
}

/// Counts what histograms have gathered, from time to time.
fn upkeep(recorder: Arc<PrometheusRecorder>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP_EVERY).await;
            recorder.handle().run_upkeep();
        }
    }))
}

/// Metrics that are answered for as long as this is kept.
pub(crate) struct Served {
    pub(crate) metrics: Arc<Metrics>,
    /// Where they are.
    pub(crate) address: String,
    _listener: AbortOnDropHandle<()>,
    _upkeep: AbortOnDropHandle<()>,
}

/// Begins to answer at `address`; port 0 takes one that is free.
///
/// # Errors
/// The address cannot be listened at.
pub(crate) async fn serve(address: &str) -> Result<Served> {
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Usage, "cannot serve metrics")
            .on("address", address)
            .because(error)
            .remedy("give --metrics an address of this machine whose port is free, such as 127.0.0.1:9100; port 0 takes any")
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let metrics = Arc::new(Metrics::new()?);
    let (served, recorder) = (Arc::clone(&metrics), Arc::clone(&metrics.recorder));
    Ok(Served {
        metrics,
        address: format!("http://{bound}/metrics"),
        _listener: AbortOnDropHandle::new(tokio::spawn(listen(listener, served))),
        _upkeep: upkeep(recorder),
    })
}

async fn listen(listener: TcpListener, metrics: Arc<Metrics>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let metrics = Arc::clone(&metrics);
                // Whoever asks and goes away hears nothing.
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(PATIENCE, answer(stream, &metrics)).await;
                });
            }
            // Too many files are open, for example: that passes.
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection for metrics");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Answers one request, and closes the connection.
async fn answer(mut stream: TcpStream, metrics: &Metrics) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut limited = (&mut stream).take(LONGEST_REQUEST);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if limited.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let text = String::from_utf8_lossy(&request);
    let mut words = text.split_ascii_whitespace();
    let (method, target) = (words.next(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let (status, content_type, body) = match (method, path) {
        (Some("GET" | "HEAD"), "/metrics") => (
            "200 OK",
            "text/plain; version=0.0.4; charset=utf-8",
            metrics.render(),
        ),
        (Some("GET" | "HEAD"), _) => (
            "404 Not Found",
            "text/plain; charset=utf-8",
            "the metrics are at /metrics\n".to_owned(),
        ),
        _ => (
            "405 Method Not Allowed",
            "text/plain; charset=utf-8",
            "only GET and HEAD\n".to_owned(),
        ),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    if method != Some("HEAD") {
        stream.write_all(body.as_bytes()).await?;
    }
    stream.shutdown().await
}
