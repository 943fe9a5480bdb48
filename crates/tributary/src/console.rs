//! What people and programs see: logs, errors, progress and the summary.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};
use tributary_flow::{
    AppliedBatch, CollectionInfo, Lag, LoadReport, LoadSummary, Observer, PartitionTotals,
    SyncReport,
};
use tributary_model::{ClusterTime, Error, Gap, Namespace, Position};

use crate::cli::{Logs, Output};
use crate::{SharedObserver, lines, telemetry};

/// How often a plain line tells of progress.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// How often a JSON line does.
const EVENT_EVERY: Duration = Duration::from_secs(1);

/// Sends log messages to standard error, and to a collector once there is one.
pub(crate) fn set_up_logs(logs: &Logs) {
    let filter = EnvFilter::try_new(&logs.log).unwrap_or_else(|_| EnvFilter::new("warn"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if logs.log_json {
        lines.json().boxed()
    } else {
        lines.boxed()
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(telemetry::layer())
        .init();
}

/// Tells an error on standard error.
pub(crate) fn report(error: &Error) {
    note(&format!("error: {error}"));
}

/// Puts a line on standard error. There is nowhere to tell that it cannot be written.
pub(crate) fn note(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Puts a line on standard output; its reader may have gone.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Progress bars on a terminal, plain lines otherwise.
pub(crate) struct TextProgress {
    bars: Option<MultiProgress>,
    collections: Mutex<HashMap<Namespace, Shown>>,
    followed: Mutex<HashMap<Namespace, Followed>>,
}

/// A collection whose changes are followed.
struct Followed {
    bar: ProgressBar,
    changes: u64,
    /// Transient failures of it.
    retries: u64,
    lag: Lag,
    /// How old the oldest change of the last batch was when it became visible.
    latency: Duration,
    told: Option<Instant>,
}

impl Followed {
    fn new(bar: ProgressBar) -> Self {
        Self {
            bar,
            changes: 0,
            retries: 0,
            lag: Lag::default(),
            latency: Duration::ZERO,
            told: None,
        }
    }

    fn message(&self) -> String {
        let lag = if self.lag.is_none() {
            "up to date".to_owned()
        } else {
            format!("{:.1} s behind", self.latency.as_secs_f64())
        };
        let retries = match self.retries {
            0 => String::new(),
            times => format!("  {} retries", group(times)),
        };
        format!("{} changes  {lag}{retries}", group(self.changes))
    }
}

struct Shown {
    bar: ProgressBar,
    /// When the first of its documents came in this run.
    begun: Option<Instant>,
    told: Instant,
    done: PartitionTotals,
    /// Bytes that earlier runs have read.
    done_before: u64,
    expected: Option<u64>,
}

impl TextProgress {
    pub(crate) fn new() -> Self {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        Self {
            bars,
            collections: Mutex::default(),
            followed: Mutex::default(),
        }
    }

    /// Takes the bars away.
    pub(crate) fn clear(&self) {
        if let Some(bars) = &self.bars {
            // What cannot be drawn need not be taken away.
            let _ = bars.clear();
        }
    }

    fn followed(&self) -> std::sync::MutexGuard<'_, HashMap<Namespace, Followed>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with(&self, namespace: &Namespace, change: impl FnOnce(&mut Shown)) {
        let mut collections = self
            .collections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(shown) = collections.get_mut(namespace) {
            change(shown);
        }
    }

    fn tell(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| note(line)),
            None => note(line),
        }
    }
}

impl Shown {
    fn message(&self) -> String {
        let Some(begun) = self.begun else {
            return "waiting".to_owned();
        };
        let seconds = begun.elapsed().as_secs_f64().max(0.001);
        let read = self.done.bytes.saturating_sub(self.done_before) as f64;
        let left = self
            .expected
            .filter(|_| read > 0.0)
            .map(|expected| {
                let left = expected.saturating_sub(self.done.bytes) as f64;
                format!("  {:.0} s left", seconds * left / read)
            })
            .unwrap_or_default();
        format!(
            "{} documents  {}  {}/s{left}",
            group(self.done.documents),
            HumanBytes(self.done.bytes),
            HumanBytes((read / seconds) as u64),
        )
    }
}

impl Observer for TextProgress {
    fn started(&self, collection: &CollectionInfo, partitions: usize, done: PartitionTotals) {
        let bar = match &self.bars {
            Some(bars) => {
                let bar = bars.add(ProgressBar::new(collection.bytes.unwrap_or(0)));
                let template = if collection.bytes.is_some_and(|bytes| bytes > 0) {
                    "{prefix:28!} [{bar:24}] {percent:>3}%  {msg}"
                } else {
                    "{prefix:28!} {spinner} {msg}"
                };
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.set_prefix(collection.namespace.to_string());
                bar.set_position(done.bytes);
                bar.enable_steady_tick(Duration::from_millis(200));
                bar
            }
            None => {
                note(&lines::started(collection, partitions, done));
                ProgressBar::hidden()
            }
        };
        let shown = Shown {
            bar,
            begun: None,
            told: Instant::now(),
            done,
            done_before: done.bytes,
            expected: collection.bytes,
        };
        shown.bar.set_message(shown.message());
        let mut collections = self
            .collections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        collections.insert(collection.namespace.clone(), shown);
    }

    fn progressed(&self, namespace: &Namespace, more: PartitionTotals) {
        let plain = self.bars.is_none();
        let mut line = None;
        self.with(namespace, |shown| {
            shown.begun.get_or_insert_with(Instant::now);
            shown.done += more;
            shown.bar.set_position(shown.done.bytes);
            shown.bar.set_message(shown.message());
            if plain && shown.told.elapsed() >= LINE_EVERY {
                shown.told = Instant::now();
                line = Some(format!("{namespace}: {}", shown.message()));
            }
        });
        if let Some(line) = line {
            note(&line);
        }
    }

    fn restarted(&self, namespace: &Namespace, lost: PartitionTotals) {
        self.with(namespace, |shown| {
            shown.done.documents = shown.done.documents.saturating_sub(lost.documents);
            shown.done.bytes = shown.done.bytes.saturating_sub(lost.bytes);
            shown.done.rescued = shown.done.rescued.saturating_sub(lost.rescued);
        });
    }

    fn committing(&self, namespace: &Namespace) {
        self.with(namespace, |shown| shown.bar.set_message("committing"));
    }

    fn retrying(&self, namespace: &Namespace, error: &Error, wait: Duration) {
        if let Some(followed) = self.followed().get_mut(namespace) {
            followed.retries += 1;
            followed.bar.set_message(followed.message());
        }
        self.tell(&lines::retrying(namespace, error, wait));
    }

    fn finished(&self, namespace: &Namespace, _summary: &LoadSummary, _seconds: f64) {
        self.with(namespace, |shown| shown.bar.finish_and_clear());
    }

    fn failed(&self, namespace: &Namespace, error: &Error) {
        self.with(namespace, |shown| shown.bar.finish_and_clear());
        // What failed before it was followed is told at once, by the summary.
        if let Some(followed) = self.followed().remove(namespace) {
            followed.bar.finish_and_clear();
            self.tell(&format!(
                "{namespace}: failed, and the others go on: {}",
                error.message()
            ));
        }
    }

    fn following(&self, namespace: &Namespace, position: &Position) {
        match &self.bars {
            Some(bars) => {
                let bar = bars.add(ProgressBar::no_length());
                if let Ok(style) = ProgressStyle::with_template("{prefix:28!} {spinner} {msg}") {
                    bar.set_style(style);
                }
                bar.set_prefix(namespace.to_string());
                bar.set_message(format!("following{}", lines::from_on(position)));
                bar.enable_steady_tick(Duration::from_millis(200));
                let mut followed = self.followed();
                followed.insert(namespace.clone(), Followed::new(bar));
            }
            None => {
                note(&lines::following(namespace, position));
                let mut followed = self.followed();
                followed.insert(namespace.clone(), Followed::new(ProgressBar::hidden()));
            }
        }
    }

    fn applied(&self, namespace: &Namespace, batch: &AppliedBatch) {
        let mut line = None;
        if let Some(followed) = self.followed().get_mut(namespace) {
            followed.changes += batch.changes;
            followed.latency = batch.oldest_latency();
            followed.lag.applied();
            let text = followed.message();
            if self.bars.is_none()
                && followed
                    .told
                    .is_none_or(|told| told.elapsed() >= LINE_EVERY)
            {
                followed.told = Some(Instant::now());
                line = Some(format!("{namespace}: {text}"));
            }
            followed.bar.set_message(text);
        }
        if let Some(line) = line {
            note(&line);
        }
    }

    fn gathering(&self, namespace: &Namespace, oldest: SystemTime) {
        if let Some(followed) = self.followed().get_mut(namespace) {
            followed.lag.gathering(oldest);
        }
    }

    fn happened(&self, namespace: &Namespace, what: &str) {
        self.tell(&lines::happened(namespace, what));
    }

    fn lacks(&self, namespace: &Namespace, gap: &Gap) {
        self.tell(&lines::lacks(namespace, gap));
    }

    fn noticed(&self, what: &str) {
        self.tell(what);
    }

    fn falling_behind(&self, namespace: &Namespace, behind: Duration, remembered: Duration) {
        self.tell(&lines::falling_behind(namespace, behind, remembered));
    }

    fn source_retrying(&self, error: &Error, wait: Duration) {
        self.tell(&lines::source_retrying(error, wait));
    }
}

/// A JSON object a line on standard output.
#[derive(Default)]
pub(crate) struct JsonProgress {
    collections: Mutex<HashMap<Namespace, (PartitionTotals, Option<Instant>)>>,
}

impl JsonProgress {
    fn with(&self, namespace: &Namespace, change: impl FnOnce(&mut PartitionTotals) -> bool) {
        let mut collections = self
            .collections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (totals, told) = collections.entry(namespace.clone()).or_default();
        if change(totals) && told.is_none_or(|told| told.elapsed() >= EVENT_EVERY) {
            *told = Some(Instant::now());
            emit(&json!({
                "event": "progress", "namespace": namespace.to_string(),
                "documents": totals.documents, "bytes": totals.bytes, "rescued": totals.rescued,
            }));
        }
    }
}

/// Puts one event on standard output.
pub(crate) fn emit(event: &Value) {
    say(&event.to_string());
}

impl Observer for JsonProgress {
    fn started(&self, collection: &CollectionInfo, partitions: usize, done: PartitionTotals) {
        self.with(&collection.namespace, |totals| {
            *totals = done;
            false
        });
        emit(&json!({
            "event": "started", "namespace": collection.namespace.to_string(), "partitions": partitions,
            "estimatedDocuments": collection.documents, "estimatedBytes": collection.bytes,
            "documentsDoneBefore": done.documents,
        }));
    }

    fn progressed(&self, namespace: &Namespace, more: PartitionTotals) {
        self.with(namespace, |totals| {
            *totals += more;
            true
        });
    }

    fn restarted(&self, namespace: &Namespace, lost: PartitionTotals) {
        self.with(namespace, |totals| {
            totals.documents = totals.documents.saturating_sub(lost.documents);
            totals.bytes = totals.bytes.saturating_sub(lost.bytes);
            totals.rescued = totals.rescued.saturating_sub(lost.rescued);
            false
        });
    }

    fn retrying(&self, namespace: &Namespace, error: &Error, wait: Duration) {
        emit(&json!({
            "event": "retrying", "namespace": namespace.to_string(), "error": error.to_string(),
            "waitSeconds": wait.as_secs_f64(),
        }));
    }

    fn failed(&self, namespace: &Namespace, error: &Error) {
        emit(
            &json!({ "event": "failed", "namespace": namespace.to_string(), "error": error.to_string() }),
        );
    }

    fn following(&self, namespace: &Namespace, position: &Position) {
        emit(
            &json!({ "event": "following", "namespace": namespace.to_string(), "position": position }),
        );
    }

    fn applied(&self, namespace: &Namespace, batch: &AppliedBatch) {
        let stages = batch.applied.stages.named();
        let stages: serde_json::Map<String, Value> = stages
            .map(|(stage, time)| (stage.to_owned(), time.as_secs_f64().into()))
            .collect();
        emit(&json!({
            "event": "applied", "namespace": namespace.to_string(), "changes": batch.changes,
            "bytes": batch.bytes, "upserted": batch.applied.upserted, "deleted": batch.applied.deleted,
            "rescued": batch.applied.rescued, "bytesWritten": batch.applied.bytes,
            "changedAt": millis(batch.changed), "begunAt": millis(batch.begun),
            "committedAt": millis(batch.committed), "lagSeconds": batch.newest_latency().as_secs_f64(),
            "oldestChangedAt": millis(batch.oldest), "oldestLagSeconds": batch.oldest_latency().as_secs_f64(),
            "gatherSeconds": batch.gathered.as_secs_f64(), "stageSeconds": stages,
        }));
    }

    fn happened(&self, namespace: &Namespace, what: &str) {
        emit(&json!({ "event": "happened", "namespace": namespace.to_string(), "what": what }));
    }

    fn lacks(&self, namespace: &Namespace, gap: &Gap) {
        let mut event = json!({ "event": "gap", "namespace": namespace.to_string() });
        if let (Value::Object(event), Value::Object(gap)) = (&mut event, gap_json(gap)) {
            event.extend(gap);
        }
        emit(&event);
    }

    fn noticed(&self, what: &str) {
        emit(&json!({ "event": "noticed", "what": what }));
    }

    fn falling_behind(&self, namespace: &Namespace, behind: Duration, remembered: Duration) {
        emit(&json!({
            "event": "fallingBehind", "namespace": namespace.to_string(),
            "behindSeconds": behind.as_secs(), "rememberedSeconds": remembered.as_secs(),
        }));
    }

    fn source_retrying(&self, error: &Error, wait: Duration) {
        emit(&json!({
            "event": "retrying", "error": error.to_string(), "waitSeconds": wait.as_secs_f64(),
        }));
    }
}

/// A stretch of history that a table lacks.
fn gap_json(gap: &Gap) -> Value {
    let end = |time: ClusterTime| {
        let text = chrono::DateTime::from_timestamp(time.seconds().into(), 0);
        let text = text.map(|time| time.format("%FT%TZ").to_string());
        json!({ "time": text, "clusterTime": { "t": time.seconds(), "i": time.ordinal() } })
    };
    json!({ "from": end(gap.from), "to": end(gap.to), "how": gap.remedy })
}

/// Milliseconds since 1970.
fn millis(time: SystemTime) -> u128 {
    time.duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis())
}

/// The event that tells where the metrics are.
pub(crate) fn metrics_event(address: &str) -> Value {
    json!({ "event": "metrics", "address": address })
}

/// Who tells of progress on standard output.
pub(crate) fn progress(output: Output) -> SharedObserver {
    match output {
        Output::Text => Arc::new(TextProgress::new()),
        Output::Json => Arc::new(JsonProgress::default()),
    }
}

/// The last event of `sync`: what became of each collection.
pub(crate) fn synced_event(report: &SyncReport, seconds: f64, interrupted: bool) -> Value {
    let collections: Vec<Value> = report
        .collections
        .iter()
        .map(|collection| {
            let loaded = collection.loaded.as_ref();
            let rescued = loaded.map_or(0, |loaded| loaded.totals.rescued);
            let mut event = json!({
                "namespace": collection.namespace.to_string(),
                "documents": loaded.map_or(0, |loaded| loaded.totals.documents),
                "bytes": loaded.map_or(0, |loaded| loaded.totals.bytes),
                "rescued": rescued + collection.applied.rescued,
                "seconds": seconds,
                "table": collection.table,
                "changes": collection.changes,
                "upserted": collection.applied.upserted,
                "deleted": collection.applied.deleted,
            });
            if !collection.gaps.is_empty() {
                event["gaps"] = collection.gaps.iter().map(gap_json).collect();
            }
            if let Some(error) = &collection.failure {
                event["error"] = error.to_string().into();
            }
            event
        })
        .collect();
    json!({
        "event": "finished", "seconds": seconds, "interrupted": interrupted, "collections": collections,
        "otherEvents": report.other_events,
    })
}

/// The summary of `sync` for people.
pub(crate) fn sync_table(report: &SyncReport, seconds: f64) -> String {
    let mut rows = vec![
        [
            "collection",
            "loaded",
            "changes",
            "upserted",
            "deleted",
            "rescued",
            "table",
        ]
        .map(str::to_owned),
    ];
    let mut changes = 0;
    for collection in &report.collections {
        let loaded = collection.loaded.as_ref().map(|loaded| loaded.totals);
        let loaded = loaded.unwrap_or_default();
        changes += collection.changes;
        rows.push([
            collection.namespace.to_string(),
            group(loaded.documents),
            group(collection.changes),
            group(collection.applied.upserted),
            group(collection.applied.deleted),
            group(loaded.rescued + collection.applied.rescued),
            collection.table.clone(),
        ]);
    }
    let mut text = format!(
        "{}\n{} changes in {seconds:.1} s",
        aligned(&rows),
        group(changes)
    );
    if !report.other_events.is_empty() {
        let events = report.other_events.iter();
        let events: Vec<String> = events
            .map(|(name, count)| format!("{} {name}", group(*count)))
            .collect();
        text.push_str(&format!(
            "; events that change no document: {}",
            events.join(", ")
        ));
    }
    text
}

/// The last event of a command: what became of each collection.
pub(crate) fn finished_event(report: &LoadReport, seconds: f64, interrupted: bool) -> Value {
    let collections: Vec<Value> = report
        .collections
        .iter()
        .map(|outcome| match &outcome.result {
            Ok(summary) => json!({
                "namespace": outcome.namespace.to_string(),
                "documents": summary.totals.documents,
                "bytes": summary.totals.bytes,
                "rescued": summary.totals.rescued,
                "seconds": outcome.elapsed.as_secs_f64(),
                "table": summary.table,
                "files": summary.files,
                "fileBytes": summary.file_bytes,
                "rewrittenBytes": summary.rewritten_bytes,
            }),
            Err(error) => {
                json!({ "namespace": outcome.namespace.to_string(), "error": error.to_string() })
            }
        })
        .collect();
    json!({ "event": "finished", "seconds": seconds, "interrupted": interrupted, "collections": collections })
}

/// The summary table for people.
pub(crate) fn summary_table(report: &LoadReport, seconds: f64) -> String {
    let mut rows = vec![
        [
            "collection",
            "documents",
            "BSON",
            "files",
            "rescued",
            "seconds",
            "table",
        ]
        .map(str::to_owned),
    ];
    let mut all = PartitionTotals::default();
    let mut rewritten = 0;
    for outcome in &report.collections {
        let Ok(summary) = &outcome.result else {
            continue;
        };
        all += summary.totals;
        rewritten += summary.rewritten_bytes;
        rows.push([
            outcome.namespace.to_string(),
            group(summary.totals.documents),
            HumanBytes(summary.totals.bytes).to_string(),
            format!("{} ({})", summary.files, HumanBytes(summary.file_bytes)),
            group(summary.totals.rescued),
            format!("{:.1}", outcome.elapsed.as_secs_f64()),
            summary.table.clone(),
        ]);
    }
    let mut text = aligned(&rows);
    let rate = HumanBytes((all.bytes as f64 / seconds.max(0.001)) as u64);
    text.push_str(&format!(
        "\n{} documents, {} in {seconds:.1} s ({rate}/s)",
        group(all.documents),
        HumanBytes(all.bytes)
    ));
    if rewritten > 0 {
        text.push_str(&format!(
            "; {} written again because a column widened",
            HumanBytes(rewritten)
        ));
    }
    if all.rescued > 0 {
        text.push_str(&format!(
            "; {} values kept in _rescued_data",
            group(all.rescued)
        ));
    }
    text
}

/// Rows with their columns one below the other.
pub(crate) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells: Vec<String> = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}

/// A number with a space between its thousands.
pub(crate) fn group(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}
