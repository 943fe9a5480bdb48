//! Publishing events as they are: one stream, batch by batch and in order, to one place.

mod batch;
mod reduced;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tributary_model::{ClusterTime, Error, ErrorKind, Namespace, Position, Result};

use crate::changes::{Applied, HistoryWindow, Stages};
use crate::events::{EventSource, RawEvent, RawEvents, Watch};
use crate::failpoint::Failpoint;
use crate::observe::{AppliedBatch, Observer};
use crate::read::read_on;
use crate::retry::Backoff;
use batch::{Batch, Gathered, wall_time};
use reduced::Reduced;

/// Batches of events waiting between the stream and the publisher.
const WAITING_BATCHES: usize = 2;
/// A place that is no further behind is not warned of.
const NOT_YET_LATE: Duration = Duration::from_secs(60);

/// Where events are published.
///
/// Order: events are published in the order in which they are given. Durability: when `publish` has
/// returned, the batch is durable there and so is the position that it reaches: in one step where the place
/// can do that, else the position behind the events. So a batch that was cut short may be published again, in
/// whole or in part, before anything that comes after it. An event is recognised by the `_data` of its `_id`.
#[async_trait]
pub trait Publisher: Send {
    /// Where it is, without credentials.
    fn place(&self) -> String;

    /// Is told, before anything else, what is cancelled when it is to end: a place for which a batch may take
    /// longer than anybody waits for the end of a process leaves the rest of it then.
    fn heed(&mut self, _stop: CancellationToken) {}

    /// How far it has got, once what an earlier process left unfinished is put in order; none where nothing
    /// has ever been published. Called before anything is published, and again after a transient failure.
    ///
    /// # Errors
    /// The place cannot be used, or somebody else publishes there.
    async fn position(&mut self) -> Result<Option<Position>>;

    /// Publishes a batch; one without events makes its position durable. After a transient error it is given
    /// the same batch again, and after one of which it has left a part, nothing.
    async fn publish(&mut self, batch: &[RawEvent], position: &Position) -> Result<Published>;
}

/// What came of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// By collection; what is about a whole database has an empty collection name.
    pub collections: BTreeMap<Namespace, Written>,
    /// How many events at its end were left, because it is to end: the position that is durable is behind the
    /// one before them.
    pub left: usize,
}

/// What was written of a collection's events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes written.
    pub bytes: u64,
    /// Events that were too large for the place or for the server, and were written without some fields.
    pub reduced: u64,
}

/// How events are published.
#[derive(Debug, Clone)]
pub struct PublishOptions {
    /// How long events are gathered before they are published.
    pub interval: Duration,
    /// How many events are gathered at most.
    pub max_events: usize,
    /// How many bytes of events are gathered at most, unless one event is larger. While a batch is being
    /// published, as many are held beside it.
    pub max_bytes: usize,
    /// How old the position gets before it is made durable by itself.
    pub heartbeat: Duration,
    /// How often it is looked how far back the source remembers.
    pub watch_every: Duration,
    /// Catch up with the source as it is now, and end.
    pub once: bool,
}

impl Default for PublishOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            max_events: 10_000,
            max_bytes: 32 << 20,
            heartbeat: Duration::from_secs(600),
            watch_every: Duration::from_secs(60),
            once: false,
        }
    }
}

/// Everything that publishing works with.
pub struct Publish {
    /// Where events are read.
    pub source: Arc<dyn EventSource>,
    /// Which ones.
    pub watch: Watch,
    /// Where they go.
    pub publisher: Box<dyn Publisher>,
    /// Who is told.
    pub observer: Arc<dyn Observer>,
    /// How.
    pub options: PublishOptions,
}

/// What was published of one collection.
#[derive(Debug, Clone, Default)]
pub struct PublishedCollection {
    /// Its events.
    pub events: u64,
    /// What those wrote and deleted, and the bytes that were written of them.
    pub applied: Applied,
}

/// What was published in all.
#[derive(Debug, Clone)]
pub struct PublishReport {
    /// Where it was published, without credentials.
    pub place: String,
    /// How far the place has got.
    pub position: Position,
    /// By collection; what is about a whole database has an empty collection name.
    pub collections: BTreeMap<Namespace, PublishedCollection>,
    /// How many events there were that change no document, by the server's names for them.
    pub other_events: BTreeMap<String, u64>,
}

/// Publishes the events behind the position that the place has, or behind the present where it has none,
/// until it is stopped or, with `once`, has caught up. What has been read by then is published, unless the place
/// leaves some of it for the next start.
///
/// # Errors
/// The source cannot be read, or the place cannot be written. Transient failures are waited out, with `once`
/// for about two minutes.
pub async fn publish(publish: Publish, stop: CancellationToken) -> Result<PublishReport> {
    let Publish {
        source,
        watch,
        mut publisher,
        observer,
        options,
    } = publish;
    publisher.heed(stop.clone());
    let from = begin(&*source, &mut *publisher, &*observer, &options, &stop).await?;
    let until = match options.once {
        // The present is behind all that has happened; the stream may be silent for a while there.
        true => {
            let now = present(&*source, &*observer, &options, &stop).await?;
            Some(ClusterTime(now.cluster_time.0.saturating_sub(1)))
        }
        false => None,
    };
    let place = publisher.place();
    observer.noticed(&format!(
        "changes go to {place}, from {} on",
        from.cluster_time
    ));
    let (out, batches) = mpsc::channel(WAITING_BATCHES);
    let stream = Arc::clone(&source);
    let reader = tokio::spawn(read_on(
        move |from, out| {
            let (source, watch) = (Arc::clone(&stream), watch.clone());
            Box::pin(async move { source.follow(&watch, &from, out).await })
        },
        leave_out,
        from.clone(),
        out,
        Arc::clone(&observer),
        !options.once,
    ));
    let (told, windows) = mpsc::channel(1);
    let _watch = AbortOnDropHandle::new(tokio::spawn(watch_history(
        source,
        options.watch_every,
        told,
    )));
    let mut flow = Flow {
        observer,
        stop,
        gathered: Gathered::new(from.clone()),
        complete_to: ClusterTime::default(),
        until,
        reduced: Reduced::default(),
        report: PublishReport {
            place,
            position: from,
            collections: BTreeMap::new(),
            other_events: BTreeMap::new(),
        },
        options,
    };
    let published = flow.run(publisher, batches, windows).await;
    flow.reduced.tell_all(&*flow.observer);
    let read = reader.await.map_err(|panic| {
        Error::new(ErrorKind::Internal, "the reader of events ended abnormally").because(panic)
    })?;
    // Whatever the stream says, what could not be published is the nearer reason.
    published?;
    read?;
    Ok(flow.report)
}

/// The event with which a stream tells that it ends, because what it watched is gone. It is about the
/// stream and about nothing else.
const INVALIDATE: &str = "invalidate";

/// Leaves out what is at or before the position that a stream was opened at: a source that goes on by time
/// alone tells it again.
fn leave_out(batch: &mut RawEvents, from: &Position) {
    batch.events.retain(|event| {
        event.operation != INVALIDATE && !from.has_passed(&event.token, event.cluster_time)
    });
}

/// Where to begin. That is durable before anything else is done.
async fn begin(
    source: &dyn EventSource,
    publisher: &mut dyn Publisher,
    observer: &dyn Observer,
    options: &PublishOptions,
    stop: &CancellationToken,
) -> Result<Position> {
    let mut patience = Patience::new(options, stop);
    let position = loop {
        match publisher.position().await {
            Ok(position) => break position,
            Err(error) => {
                let told = |error: &Error, wait| observer.source_retrying(error, wait);
                patience.wait_out(error, told).await?;
                not_stopped(stop)?;
            }
        }
    };
    if let Some(position) = position {
        return Ok(position);
    }
    let now = present(source, observer, options, stop).await?;
    let mut patience = Patience::new(options, stop);
    while let Err(error) = publisher.publish(&[], &now).await {
        let told = |error: &Error, wait| observer.source_retrying(error, wait);
        patience.wait_out(error, told).await?;
        not_stopped(stop)?;
    }
    Ok(now)
}

/// Where the source is now.
async fn present(
    source: &dyn EventSource,
    observer: &dyn Observer,
    options: &PublishOptions,
    stop: &CancellationToken,
) -> Result<Position> {
    let mut patience = Patience::new(options, stop);
    loop {
        match source.now().await {
            Ok(now) => return Ok(now),
            Err(error) => {
                let told = |error: &Error, wait| observer.source_retrying(error, wait);
                patience.wait_out(error, told).await?;
                not_stopped(stop)?;
            }
        }
    }
}

fn not_stopped(stop: &CancellationToken) -> Result<()> {
    match stop.is_cancelled() {
        true => Err(Error::new(
            ErrorKind::Interrupted,
            "it was stopped before anything was published",
        )),
        false => Ok(()),
    }
}

/// Waits between tries: without end, but for a while only once it is to stop, or where it is to end by itself.
struct Patience<'a> {
    backoff: Backoff,
    for_ever: bool,
    stop: &'a CancellationToken,
}

impl<'a> Patience<'a> {
    fn new(options: &PublishOptions, stop: &'a CancellationToken) -> Self {
        Self {
            backoff: Backoff::default(),
            for_ever: !options.once,
            stop,
        }
    }

    /// Waits before the next try; the error where there is to be none.
    async fn wait_out(&mut self, error: Error, told: impl FnOnce(&Error, Duration)) -> Result<()> {
        let is_stopping = self.stop.is_cancelled();
        let Some(wait) = self
            .backoff
            .wait_after(&error, self.for_ever && !is_stopping)
        else {
            return Err(error);
        };
        told(&error, wait);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.stop.cancelled(), if !is_stopping => {}
        }
        Ok(())
    }
}

async fn watch_history(
    source: Arc<dyn EventSource>,
    every: Duration,
    told: mpsc::Sender<HistoryWindow>,
) {
    loop {
        tokio::time::sleep(every).await;
        // A source that does not answer is noticed by its reader.
        if let Ok(Some(window)) = source.window().await
            && told.send(window).await.is_err()
        {
            return;
        }
    }
}

/// A batch that has been published, or has failed.
struct Outcome {
    publisher: Box<dyn Publisher>,
    batch: Batch,
    begun: SystemTime,
    result: Result<Published>,
}

struct Flow {
    observer: Arc<dyn Observer>,
    stop: CancellationToken,
    options: PublishOptions,
    gathered: Gathered,
    /// The moment up to which all of the stream has been read.
    complete_to: ClusterTime,
    /// The moment at which to end.
    until: Option<ClusterTime>,
    reduced: Reduced,
    report: PublishReport,
}

impl Flow {
    async fn run(
        &mut self,
        publisher: Box<dyn Publisher>,
        batches: mpsc::Receiver<RawEvents>,
        mut windows: mpsc::Receiver<HistoryWindow>,
    ) -> Result<()> {
        let mut batches = Some(batches);
        let mut idle = Some(publisher);
        let (outcomes, mut ended) = mpsc::channel::<Outcome>(1);
        let mut is_ending = false;
        loop {
            if self.until.is_some_and(|until| self.complete_to >= until) {
                is_ending = true;
            }
            if is_ending {
                // The reader sees it, and ends.
                batches = None;
            }
            if let Some(publisher) = idle.take() {
                match self.next_batch(is_ending) {
                    Some(batch) => {
                        let outcomes = outcomes.clone();
                        let work = self.deliver(publisher, batch);
                        tokio::spawn(async move {
                            // Nobody is left to hear of it only when the process ends.
                            let _ = outcomes.send(work.await).await;
                        });
                    }
                    None if is_ending => return Ok(()),
                    None => idle = Some(publisher),
                }
            }
            let may_read = self.gathered.bytes() < self.options.max_bytes;
            let next = async {
                match &mut batches {
                    Some(batches) if may_read => batches.recv().await,
                    _ => std::future::pending().await,
                }
            };
            let due = match idle.is_some() {
                true => self
                    .gathered
                    .since()
                    .map(|since| since + self.options.interval),
                false => None,
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled(), if !is_ending => is_ending = true,
                Some(outcome) = ended.recv() => match self.finish(outcome)? {
                    Some(publisher) => idle = Some(publisher),
                    // What has been read behind what was left is left as well.
                    None => return Ok(()),
                },
                Some(window) = windows.recv() => self.compare_with(window),
                batch = next => match batch {
                    Some(batch) => self.take(batch),
                    // The reader has failed: what it had read is published.
                    None => is_ending = true,
                },
                () = sleep_until(due) => {}
            }
        }
    }

    fn take(&mut self, batch: RawEvents) {
        self.complete_to = self.complete_to.max(batch.complete_to);
        let read_to = match batch.events.last() {
            Some(last) => wall_time(last),
            None => batch.received,
        };
        self.observer.reached(&batch.position, read_to);
        self.reduced.tell_due(&*self.observer);
        let observer = Arc::clone(&self.observer);
        let PublishReport {
            position,
            collections,
            ..
        } = &mut self.report;
        self.gathered.take(batch, |namespace, oldest| {
            if !collections.contains_key(namespace) {
                collections.insert(namespace.clone(), PublishedCollection::default());
                observer.following(namespace, position);
            }
            observer.gathering(namespace, oldest);
        });
    }

    /// What is to be published now, if anything is.
    fn next_batch(&mut self, is_ending: bool) -> Option<Batch> {
        let options = &self.options;
        if self.gathered.is_empty() {
            let (own, now) = (
                self.report.position.cluster_time,
                self.gathered.position().cluster_time,
            );
            let age = Duration::from_secs(now.seconds().saturating_sub(own.seconds()).into());
            let has_moved = self.report.position != *self.gathered.position();
            let is_due = has_moved && (is_ending || age >= options.heartbeat);
            return is_due.then(|| self.gathered.without_events());
        }
        let has_waited = self
            .gathered
            .since()
            .is_some_and(|since| since.elapsed() >= options.interval);
        let is_full =
            self.gathered.len() >= options.max_events || self.gathered.bytes() >= options.max_bytes;
        if !is_ending && !has_waited && !is_full {
            return None;
        }
        let observer = Arc::clone(&self.observer);
        Some(
            self.gathered
                .next_batch(options.max_events, options.max_bytes, |left, oldest| {
                    observer.gathering(left, oldest);
                }),
        )
    }

    /// Publishes one batch, through as many transient failures as it takes.
    fn deliver(
        &self,
        mut publisher: Box<dyn Publisher>,
        batch: Batch,
    ) -> impl Future<Output = Outcome> + Send + use<> {
        let (observer, options, stop) = (
            Arc::clone(&self.observer),
            self.options.clone(),
            self.stop.clone(),
        );
        async move {
            let begun = SystemTime::now();
            Failpoint::PublishBegun.hit();
            let mut patience = Patience::new(&options, &stop);
            let result = loop {
                let error = match publisher.publish(&batch.events, &batch.position).await {
                    Ok(published) => break Ok(published),
                    Err(error) => error,
                };
                let told = |error: &Error, wait| {
                    if batch.collections.is_empty() {
                        observer.source_retrying(error, wait);
                    }
                    for namespace in batch.collections.keys() {
                        observer.retrying(namespace, error, wait);
                    }
                };
                if let Err(error) = patience.wait_out(error, told).await {
                    break Err(error);
                }
            };
            Failpoint::PublishEnded.hit();
            Outcome {
                publisher,
                batch,
                begun,
                result,
            }
        }
    }

    /// Counts what came of a batch; no publisher where it has left some of it.
    fn finish(&mut self, outcome: Outcome) -> Result<Option<Box<dyn Publisher>>> {
        let Outcome {
            publisher,
            mut batch,
            begun,
            result,
        } = outcome;
        let published = result?;
        if published.left > 0 {
            batch = batch.without_last(published.left, &self.report.position);
        }
        let committed = SystemTime::now();
        for (namespace, part) in &batch.collections {
            let written = published
                .collections
                .get(namespace)
                .copied()
                .unwrap_or_default();
            let applied = Applied {
                upserted: part.upserted,
                deleted: part.deleted,
                rescued: 0,
                bytes: written.bytes,
                stages: Stages::default(),
            };
            if written.reduced > 0 {
                self.reduced
                    .count(namespace, written.reduced, &*self.observer);
            }
            self.observer.applied(
                namespace,
                &AppliedBatch {
                    changes: part.events,
                    bytes: part.bytes,
                    applied,
                    gathered: batch.gathered,
                    oldest: part.oldest,
                    changed: part.newest,
                    begun,
                    committed,
                },
            );
            let total = self
                .report
                .collections
                .entry(namespace.clone())
                .or_default();
            total.events += part.events;
            total.applied += applied;
        }
        for (name, count) in batch.other_events {
            *self.report.other_events.entry(name).or_default() += count;
        }
        self.report.position = batch.position;
        Ok((published.left == 0).then_some(publisher))
    }

    /// Warns while there is time: when the place is further behind than half of what the source remembers.
    fn compare_with(&self, window: HistoryWindow) {
        self.observer.remembers(window);
        let seconds = |later: ClusterTime, earlier: ClusterTime| {
            Duration::from_secs(later.seconds().saturating_sub(earlier.seconds()).into())
        };
        let remembered = seconds(window.newest, window.oldest);
        let behind = seconds(window.newest, self.report.position.cluster_time);
        // A source that has just been set up remembers little, and has forgotten nothing.
        if behind > self.options.heartbeat + NOT_YET_LATE && behind > remembered / 2 {
            for namespace in self.report.collections.keys() {
                self.observer.falling_behind(namespace, behind, remembered);
            }
        }
    }
}

async fn sleep_until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
