//! What a flow is doing, put together from what it tells.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};
use tokio::sync::broadcast;
use tributary_flow::{
    AppliedBatch, CollectionInfo, HistoryWindow, Lag, LoadSummary, Observer, PartitionTotals,
};
use tributary_model::{ClusterTime, Error, ErrorKind, Namespace, Position};

use crate::config::{Flow, Place};
use crate::status::{FlowState, FlowStatus, Notice, SourceStatus, TableStatus};

/// Over what time values that went to `_rescued_data` are counted.
const RESCUED_WITHIN: Duration = Duration::from_secs(3600);
/// Into how many parts that time is divided.
const RESCUED_PARTS: u32 = 60;

/// What one flow is doing.
pub(crate) struct FlowWatch {
    name: String,
    from: String,
    to: String,
    through: Option<String>,
    /// The source that it reads, where it reads one.
    source: Option<String>,
    inner: Mutex<Inner>,
    notices: broadcast::Sender<Notice>,
}

struct Inner {
    /// What the flow as a whole is doing; none while its tables say it.
    phase: Option<FlowState>,
    shown: FlowState,
    since: DateTime<Utc>,
    restarts: u64,
    next_try_at: Option<DateTime<Utc>>,
    error: Option<String>,
    tables: BTreeMap<Namespace, TableWatch>,
    connected: bool,
    /// The oldest moment that the source remembered when it was first asked.
    oldest: Option<ClusterTime>,
    /// Whether it has been seen to forget: what is young remembers little, and all of it.
    forgets: bool,
    window: Option<u64>,
    read_to: Option<DateTime<Utc>>,
    read_at: Option<SystemTime>,
    source_error: Option<String>,
    /// When the first table was followed since it was started last.
    follows_since: Option<Instant>,
    is_new: bool,
}

struct TableWatch {
    state: FlowState,
    lag: Option<Lag>,
    documents: u64,
    changes: u64,
    rescued: u64,
    changed_at: Option<DateTime<Utc>>,
    began_at: DateTime<Utc>,
    error: Option<String>,
    /// When it failed, since the flow was started last.
    failed_at: Option<Instant>,
    rescued_of_late: VecDeque<(Instant, u64)>,
}

impl Default for TableWatch {
    fn default() -> Self {
        Self {
            state: FlowState::Starting,
            lag: None,
            documents: 0,
            changes: 0,
            rescued: 0,
            changed_at: None,
            began_at: Utc::now(),
            error: None,
            failed_at: None,
            rescued_of_late: VecDeque::new(),
        }
    }
}

impl TableWatch {
    /// It follows, and whatever was wrong is over.
    fn follows(&mut self) {
        self.state = FlowState::Following;
        self.error = None;
        self.failed_at = None;
    }

    /// Something of it arrives. Where it has failed, or waits for an approval, that came on the way from a
    /// lake in between, and says nothing of what is wrong.
    fn progresses(&mut self, state: FlowState) {
        if self.failed_at.is_none() && self.state != FlowState::Waiting {
            self.state = state;
            self.error = None;
        }
    }

    fn rescue(&mut self, count: u64) {
        if count == 0 {
            return;
        }
        self.rescued += count;
        let now = Instant::now();
        match self.rescued_of_late.back_mut() {
            Some((since, sum)) if now - *since < RESCUED_WITHIN / RESCUED_PARTS => *sum += count,
            _ => self.rescued_of_late.push_back((now, count)),
        }
    }

    fn rescued_of_late(&self) -> u64 {
        let parts = self.rescued_of_late.iter();
        parts
            .filter(|(since, _)| since.elapsed() < RESCUED_WITHIN)
            .map(|(_, count)| count)
            .sum()
    }

    fn forget_rescued(&mut self) {
        while let Some((since, _)) = self.rescued_of_late.front()
            && since.elapsed() >= RESCUED_WITHIN
        {
            self.rescued_of_late.pop_front();
        }
    }
}

/// What rules ask of a table beside its status.
pub(crate) struct TableFacts {
    pub(crate) status: TableStatus,
    /// When it was first heard of.
    pub(crate) began_at: DateTime<Utc>,
    /// Values rescued within the last hour.
    pub(crate) rescued_of_late: u64,
}

impl FlowWatch {
    pub(crate) fn new(flow: &Flow, notices: broadcast::Sender<Notice>) -> Self {
        let route = &flow.route;
        let is_source = matches!(route.from.place, Place::Source(_) | Place::Ingest(_));
        Self {
            name: flow.name.clone(),
            from: route.from.name.clone(),
            to: route.to.name.clone(),
            through: route.through.as_ref().map(|end| end.name.clone()),
            source: is_source.then(|| route.from.name.clone()),
            inner: Mutex::new(Inner {
                phase: Some(FlowState::Stopped),
                shown: FlowState::Stopped,
                since: Utc::now(),
                restarts: 0,
                next_try_at: None,
                error: None,
                tables: BTreeMap::new(),
                connected: false,
                oldest: None,
                forgets: false,
                window: None,
                read_to: None,
                read_at: None,
                source_error: None,
                follows_since: None,
                is_new: false,
            }),
            notices,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and tells it at once if the flow is in another state then.
    fn change(&self, change: impl FnOnce(&mut Inner)) {
        let notice = {
            let mut inner = self.inner();
            change(&mut inner);
            inner.is_new = true;
            let state = inner.state();
            if state == inner.shown {
                return;
            }
            inner.shown = state;
            inner.since = Utc::now();
            inner.is_new = false;
            self.status_of(&inner)
        };
        // Nobody may be listening.
        let _ = self.notices.send(Notice::Flow(notice));
    }

    fn with(&self, namespace: &Namespace, change: impl FnOnce(&mut TableWatch)) {
        self.change(|inner| match inner.tables.get_mut(namespace) {
            Some(table) => change(table),
            None => change(inner.tables.entry(namespace.clone()).or_default()),
        });
    }

    pub(crate) fn starting(&self) {
        self.change(|inner| {
            inner.phase = Some(FlowState::Starting);
            inner.next_try_at = None;
            inner.follows_since = None;
            for table in inner.tables.values_mut() {
                table.failed_at = None;
                if table.state == FlowState::Loading {
                    table.state = FlowState::Starting;
                }
            }
        });
    }

    pub(crate) fn stopped(&self) {
        self.change(|inner| {
            inner.phase = Some(FlowState::Stopped);
            inner.next_try_at = None;
            inner.error = None;
            inner.connected = false;
            inner.tables.clear();
        });
    }

    /// It could not go on, and is tried again.
    pub(crate) fn retries(&self, error: Option<&Error>, at: DateTime<Utc>) {
        self.change(|inner| {
            inner.connected = false;
            inner.next_try_at = Some(at);
            inner.error = error.map(ToString::to_string);
            let has_failed = |table: &TableWatch| table.failed_at.is_some();
            let fails = error.is_some() || inner.tables.values().any(has_failed);
            inner.restarts += u64::from(fails);
            inner.phase = Some(match fails {
                true => FlowState::Retrying,
                // There was nothing to do.
                false => FlowState::Following,
            });
        });
    }

    /// Since when the table has failed that has for the longest time, since the flow was started last.
    pub(crate) fn failed_since(&self) -> Option<Instant> {
        self.inner().failed_since()
    }

    /// Whether a table is being loaded.
    pub(crate) fn is_loading(&self) -> bool {
        let inner = self.inner();
        let mut tables = inner.tables.values();
        tables.any(|table| table.state == FlowState::Loading)
    }

    /// How long tables were followed since it was started last, before the first of them failed.
    pub(crate) fn went_well_for(&self) -> Duration {
        let inner = self.inner();
        let Some(since) = inner.follows_since else {
            return Duration::ZERO;
        };
        let until = inner.failed_since().unwrap_or_else(Instant::now);
        until.saturating_duration_since(since)
    }

    pub(crate) fn status(&self) -> FlowStatus {
        self.status_of(&self.inner())
    }

    fn status_of(&self, inner: &Inner) -> FlowStatus {
        FlowStatus {
            name: self.name.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            through: self.through.clone(),
            state: inner.state(),
            since: inner.since,
            restarts: inner.restarts,
            next_try_at: inner.next_try_at,
            error: inner.error.clone(),
            tables: inner
                .tables
                .iter()
                .map(|(namespace, table)| inner.table(namespace, table))
                .collect(),
        }
    }

    /// What the flow's numbers are, if they have changed since they were asked for.
    pub(crate) fn news(&self) -> Option<FlowStatus> {
        let mut inner = self.inner();
        for table in inner.tables.values_mut() {
            table.forget_rescued();
        }
        std::mem::take(&mut inner.is_new).then(|| self.status_of(&inner))
    }

    pub(crate) fn facts(&self) -> Vec<TableFacts> {
        let inner = self.inner();
        let tables = inner.tables.iter();
        tables
            .map(|(namespace, table)| TableFacts {
                status: inner.table(namespace, table),
                began_at: table.began_at,
                rescued_of_late: table.rescued_of_late(),
            })
            .collect()
    }

    /// How far back its source remembers its changes, in seconds, where it has been seen to forget.
    pub(crate) fn window(&self) -> Option<u64> {
        let inner = self.inner();
        inner.window.filter(|_| inner.forgets)
    }

    /// What it knows of its source.
    pub(crate) fn source(&self) -> Option<SourceStatus> {
        let inner = self.inner();
        Some(SourceStatus {
            name: self.source.clone()?,
            flows: vec![self.name.clone()],
            connected: inner.connected,
            oplog_window_seconds: inner.window,
            read_to: inner.read_to,
            error: inner.source_error.clone().or_else(|| inner.error.clone()),
        })
    }
}

impl Inner {
    fn failed_since(&self) -> Option<Instant> {
        let tables = self.tables.values();
        tables.filter_map(|table| table.failed_at).min()
    }

    fn state(&self) -> FlowState {
        if let Some(phase) = self.phase {
            return phase;
        }
        let has = |state| self.tables.values().any(|table| table.state == state);
        let worst = [
            FlowState::Failed,
            FlowState::Waiting,
            FlowState::Retrying,
            FlowState::Loading,
        ];
        worst
            .into_iter()
            .find(|state| has(*state))
            .unwrap_or(FlowState::Following)
    }

    fn table(&self, namespace: &Namespace, table: &TableWatch) -> TableStatus {
        let now = SystemTime::now();
        let lag = table
            .lag
            .as_ref()
            .map(|lag| lag.at(now, self.read_at.unwrap_or(now)).as_secs_f64());
        TableStatus {
            namespace: namespace.to_string(),
            state: table.state,
            lag_seconds: lag,
            documents: table.documents,
            changes: table.changes,
            rescued: table.rescued,
            changed_at: table.changed_at,
            error: table.error.clone(),
        }
    }
}

impl Observer for FlowWatch {
    fn started(&self, collection: &CollectionInfo, _: usize, _: PartitionTotals) {
        self.change(|inner| inner.goes_on());
        self.with(&collection.namespace, |table| {
            table.progresses(FlowState::Loading);
        });
    }

    fn progressed(&self, namespace: &Namespace, more: PartitionTotals) {
        self.with(namespace, |table| {
            table.progresses(FlowState::Loading);
            table.documents += more.documents;
            table.rescue(more.rescued);
        });
    }

    fn restarted(&self, namespace: &Namespace, lost: PartitionTotals) {
        self.with(namespace, |table| {
            table.documents = table.documents.saturating_sub(lost.documents);
        });
    }

    fn retrying(&self, namespace: &Namespace, error: &Error, _: Duration) {
        self.with(namespace, |table| {
            table.state = FlowState::Retrying;
            table.error = Some(error.to_string());
        });
    }

    fn finished(&self, namespace: &Namespace, _: &LoadSummary, _: f64) {
        self.with(namespace, |table| {
            table.progresses(FlowState::Loading);
            table.changed_at = Some(Utc::now());
        });
    }

    fn following(&self, namespace: &Namespace, _: &Position) {
        self.change(|inner| {
            inner.follows();
            // It is behind by what it finds, from now on.
            inner.read_at.get_or_insert_with(SystemTime::now);
        });
        self.with(namespace, |table| {
            table.follows();
            table.lag = Some(Lag::default());
        });
    }

    fn current_to(&self, namespace: &Namespace, at: SystemTime) {
        self.change(Inner::follows);
        self.with(namespace, |table| {
            table.follows();
            table.lag.get_or_insert_default().current_to(at);
        });
    }

    fn gathering(&self, namespace: &Namespace, oldest: SystemTime) {
        self.with(namespace, |table| {
            if let Some(lag) = &mut table.lag {
                lag.gathering(oldest);
            }
        });
    }

    fn applied(&self, namespace: &Namespace, batch: &AppliedBatch) {
        self.with(namespace, |table| {
            table.progresses(FlowState::Following);
            if let Some(lag) = &mut table.lag {
                lag.applied();
            }
            if batch.changes > 0 {
                table.changed_at = Some(Utc::now());
            }
            table.changes += batch.changes;
            table.rescue(batch.applied.rescued);
        });
    }

    fn reached(&self, position: &Position, at: SystemTime) {
        // What arrives in a lake says nothing of what is behind it.
        let is_all = self.through.is_none();
        self.change(|inner| {
            if is_all {
                inner.goes_on();
            }
            inner.connected = true;
            inner.source_error = None;
            let seconds = i64::from(position.cluster_time.seconds());
            inner.read_to = DateTime::from_timestamp(seconds, 0);
            inner.read_at = Some(at);
        });
    }

    fn remembers(&self, window: HistoryWindow) {
        let seconds = window.newest.seconds();
        let seconds = seconds.saturating_sub(window.oldest.seconds());
        self.change(|inner| {
            inner.oldest.get_or_insert(window.oldest);
            inner.window = Some(seconds.into());
            inner.forgets |= inner.oldest != Some(window.oldest);
        });
    }

    fn source_retrying(&self, error: &Error, _: Duration) {
        self.change(|inner| {
            inner.connected = false;
            inner.source_error = Some(error.to_string());
        });
    }

    fn failed(&self, namespace: &Namespace, error: &Error) {
        let waits = error.kind() == ErrorKind::SchemaChanged;
        self.change(|inner| inner.goes_on());
        self.with(namespace, |table| {
            table.error = Some(error.to_string());
            if waits {
                table.state = FlowState::Waiting;
                table.failed_at = None;
            } else if error.kind() != ErrorKind::Interrupted {
                table.state = FlowState::Failed;
                table.failed_at.get_or_insert_with(Instant::now);
            }
        });
    }
}

impl Inner {
    /// Its tables say what it is doing from now on.
    fn goes_on(&mut self) {
        if self.phase != Some(FlowState::Stopped) {
            self.phase = None;
            self.next_try_at = None;
            self.error = None;
        }
    }

    /// A table of it is followed.
    fn follows(&mut self) {
        self.goes_on();
        self.follows_since.get_or_insert_with(Instant::now);
    }
}
