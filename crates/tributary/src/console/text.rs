//! Progress as people see it.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};
use tributary_flow::{AppliedBatch, CollectionInfo, Lag, LoadSummary, Observer, PartitionTotals};
use tributary_model::{Error, Gap, Namespace, Position};

use super::{group, note};
use crate::lines;

/// How often a plain line tells of progress.
const LINE_EVERY: Duration = Duration::from_secs(5);

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
