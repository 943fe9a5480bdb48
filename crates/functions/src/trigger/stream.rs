//! Streams of events, which triggers of one source share where what they want allows it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bson::doc;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tributary_flow::{EventSource, RawEvent, RawEvents, WantedEvents, Watch};
use tributary_model::{ClusterTime, Error, ErrorKind, Position, Result};

use super::Selection;

/// How long a stream waits for others to share it before it begins.
const SETTLES: Duration = Duration::from_millis(100);
/// How many deliveries may wait for a trigger: each is what the server sent at once, 16 MB at most.
const QUEUE: usize = 4;
/// How long a stream that is shared waits for one of its triggers. Then that one gets a stream of its own.
const PATIENCE: Duration = Duration::from_secs(1);
/// How far positions may lie apart whose triggers share a stream, in seconds: who is ahead waits for those
/// behind.
const APART: u32 = 10;
/// How often a trigger without events is told how far its stream has got.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long to wait before a stream that has ended is opened again.
const BREATHER: Duration = Duration::from_millis(500);

/// Events that are about to be triggered.
#[derive(Debug)]
pub(super) struct Delivery {
    /// They, in their order; none where it is merely told how far the stream has got.
    pub(super) events: Vec<RawEvent>,
    /// How far the stream has got with them.
    pub(super) position: Position,
    /// Where the deployment was at least when they were read.
    pub(super) present: ClusterTime,
}

/// What a trigger wants to have delivered.
pub(super) struct Wanted {
    pub(super) source: Arc<dyn EventSource>,
    pub(super) source_name: String,
    pub(super) selection: Selection,
    pub(super) from: Position,
}

/// What triggers have in common that can share a stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Shared {
    source_name: String,
    /// Which of those that had this name: another address may have it now.
    source: usize,
    full_document: bool,
    before_change: bool,
}

/// All streams.
#[derive(Default)]
pub(super) struct Hub {
    joining: Mutex<HashMap<Shared, Vec<Member>>>,
}

/// A trigger, to its stream.
struct Member {
    selection: Selection,
    wanted: WantedEvents,
    /// What it has been told, or begins behind.
    position: Position,
    out: mpsc::Sender<Result<Delivery>>,
    /// When it was told something; at once when the stream has begun.
    told_at: Option<Instant>,
}

impl Hub {
    /// Events of which a trigger wants to hear. The stream ends when nobody listens any more.
    pub(super) fn subscribe(self: &Arc<Self>, wanted: Wanted) -> mpsc::Receiver<Result<Delivery>> {
        let (out, deliveries) = mpsc::channel(QUEUE);
        let Wanted {
            source,
            source_name,
            selection,
            from,
        } = wanted;
        let can_share = selection.matching.is_none() && selection.project.is_none();
        let shared = Shared {
            source_name,
            source: Arc::as_ptr(&source).cast::<()>() as usize,
            full_document: selection.full_document,
            before_change: selection.before_change,
        };
        let member = Member {
            wanted: events_of(&selection),
            selection,
            position: from,
            out,
            told_at: None,
        };
        if !can_share {
            tokio::spawn(Stream::of(source, vec![member]).run());
            return deliveries;
        }
        let mut joining = self.joining.lock().unwrap_or_else(PoisonError::into_inner);
        let members = joining.entry(shared.clone()).or_default();
        members.push(member);
        if members.len() == 1 {
            let hub = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(SETTLES).await;
                let members = hub
                    .joining
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&shared);
                for members in near_one_another(members.unwrap_or_default()) {
                    tokio::spawn(Stream::of(Arc::clone(&source), members).run());
                }
            });
        }
        deliveries
    }
}

/// Those that can share a stream without waiting long for one another.
fn near_one_another(mut members: Vec<Member>) -> Vec<Vec<Member>> {
    members.sort_by_key(|member| member.position.cluster_time);
    let mut groups: Vec<Vec<Member>> = Vec::new();
    for member in members {
        let seconds = member.position.cluster_time.seconds();
        let near = groups.last_mut().filter(|group| {
            group.first().is_some_and(|first| {
                seconds.saturating_sub(first.position.cluster_time.seconds()) <= APART
            })
        });
        match near {
            Some(group) => group.push(member),
            None => groups.push(vec![member]),
        }
    }
    groups
}

/// Those that can share a stream of less than all of these together: of one database, or of one collection where
/// they are of one database; all of them where they are of one place.
fn narrower(members: Vec<Member>) -> Vec<Vec<Member>> {
    let mut databases: BTreeMap<Option<String>, Vec<Member>> = BTreeMap::new();
    for member in members {
        let database = member.selection.database.clone();
        databases.entry(database).or_default().push(member);
    }
    if databases.len() != 1 {
        return databases.into_values().collect();
    }
    let mut collections: BTreeMap<Option<String>, Vec<Member>> = BTreeMap::new();
    for member in databases.into_values().flatten() {
        let collection = member.selection.collection.clone();
        collections.entry(collection).or_default().push(member);
    }
    collections.into_values().collect()
}

/// A stream, and who listens.
struct Stream {
    source: Arc<dyn EventSource>,
    members: Vec<Member>,
    watch: Watch,
}

impl Stream {
    fn of(source: Arc<dyn EventSource>, members: Vec<Member>) -> Self {
        let watch = watch_of(members.iter().map(|member| &member.selection));
        Self {
            source,
            members,
            watch,
        }
    }

    /// Delivers until nobody listens, or it fails, which everybody hears.
    async fn run(mut self) {
        let watch = match &self.watch.stages {
            stages if stages.iter().any(Bytes::is_empty) => {
                let error = Error::new(ErrorKind::InvalidData, "a stage cannot be written as BSON");
                return self.fail(error).await;
            }
            _ => self.watch.clone(),
        };
        let Some(mut from) = self
            .members
            .iter()
            .map(|member| member.position.clone())
            // At the same moment the one without a token is before all of its events.
            .min_by(|a, b| {
                (a.cluster_time, &a.resume_token).cmp(&(b.cluster_time, &b.resume_token))
            })
        else {
            return;
        };
        loop {
            let (out, mut batches) = mpsc::channel::<RawEvents>(1);
            let source = Arc::clone(&self.source);
            let (watched, begins) = (watch.clone(), from.clone());
            let following = AbortOnDropHandle::new(tokio::spawn(async move {
                source.follow(&watched, &begins, out).await
            }));
            while let Some(batch) = batches.recv().await {
                from = batch.position.clone();
                self.deliver(batch).await;
                if self.members.is_empty() {
                    return;
                }
            }
            match following.await {
                // The stream of what is gone has ended; behind it there may be more.
                Ok(Ok(())) => tokio::time::sleep(BREATHER).await,
                Ok(Err(error)) if error.kind() == ErrorKind::Forbidden => {
                    return self.narrow(error).await;
                }
                Ok(Err(error)) => return self.fail(error).await,
                Err(panic) => {
                    let error = Error::new(ErrorKind::Internal, "a stream ended early");
                    return self.fail(error.because(panic)).await;
                }
            }
            if self.members.iter().all(|member| member.out.is_closed()) {
                return;
            }
        }
    }

    /// Nobody may watch all of this: goes on with streams of less, which is what the triggers themselves ask for.
    async fn narrow(self, error: Error) {
        let mut narrower = narrower(self.members);
        if narrower.len() == 1
            && let Some(members) = narrower.pop()
        {
            return Self::of(self.source, members).fail(error).await;
        }
        tracing::debug!(%error, streams = narrower.len(), "triggers do not share a stream that nobody may watch");
        for members in narrower {
            spawn(Self::of(Arc::clone(&self.source), members));
        }
    }

    async fn fail(self, error: Error) {
        // One that is slow is waited for by nobody else.
        let told = self.members.into_iter().map(|member| {
            let error = error.clone();
            async move {
                let _ = member.out.send(Err(error)).await;
            }
        });
        futures::future::join_all(told).await;
    }

    async fn deliver(&mut self, batch: RawEvents) {
        let is_shared = self.members.len() > 1;
        let mut staying = Vec::with_capacity(self.members.len());
        for mut member in std::mem::take(&mut self.members) {
            let events: Vec<RawEvent> = batch
                .events
                .iter()
                .filter(|event| member.wants(event))
                .cloned()
                .collect();
            let is_silent = events.is_empty();
            let is_told = |at: Instant| at.elapsed() < HEARTBEAT;
            if is_silent && member.told_at.is_some_and(is_told) {
                if !member.out.is_closed() {
                    staying.push(member);
                }
                continue;
            }
            let delivery = Delivery {
                events,
                // Who is ahead of the others stays where it is.
                position: match batch.position.reaches(&member.position) {
                    true => batch.position.clone(),
                    false => member.position.clone(),
                },
                present: batch.present,
            };
            let reached = delivery.position.clone();
            let sent = match is_shared {
                // Who is busy hears the next time how far the stream has got.
                _ if is_silent => match member.out.try_send(Ok(delivery)) {
                    Err(mpsc::error::TrySendError::Full(_)) => {
                        staying.push(member);
                        continue;
                    }
                    sent => sent
                        .map_err(|error| mpsc::error::SendTimeoutError::Closed(error.into_inner())),
                },
                true => member.out.send_timeout(Ok(delivery), PATIENCE).await,
                false => member
                    .out
                    .send(Ok(delivery))
                    .await
                    .map_err(|error| mpsc::error::SendTimeoutError::Closed(error.0)),
            };
            match sent {
                Ok(()) => {
                    member.position = reached;
                    member.told_at = Some(Instant::now());
                    staying.push(member);
                }
                Err(mpsc::error::SendTimeoutError::Closed(_)) => {}
                Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                    // What it was not sent is read again, for it alone.
                    tracing::debug!(
                        "a trigger that is slower than others gets a stream of its own"
                    );
                    let alone = Stream::of(Arc::clone(&self.source), vec![member]);
                    spawn(alone);
                }
            }
        }
        self.members = staying;
    }
}

/// Begins a stream. By itself, so that the type of its future does not contain itself.
fn spawn(stream: Stream) {
    let run: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(stream.run());
    tokio::spawn(run);
}

impl Member {
    fn wants(&self, event: &RawEvent) -> bool {
        self.wanted.takes(event) && !self.position.has_passed(&event.token, event.cluster_time)
    }
}

/// What is watched for all of these together.
fn watch_of<'a>(selections: impl Iterator<Item = &'a Selection>) -> Watch {
    let selections: Vec<&Selection> = selections.collect();
    let same = |of: fn(&Selection) -> &Option<String>| {
        let first = selections
            .first()
            .and_then(|selection| of(selection).clone());
        selections
            .iter()
            .all(|selection| *of(selection) == first)
            .then_some(first)
            .flatten()
    };
    let database = same(|selection| &selection.database);
    let collection = match database {
        Some(_) => same(|selection| &selection.collection),
        None => None,
    };
    let mut stages = Vec::new();
    let mut is_projected = false;
    // Those with stages of their own are alone.
    if let [selection] = selections[..] {
        if let Some(matching) = &selection.matching {
            stages.push(stage("$match", matching));
        }
        if let Some(project) = &selection.project {
            stages.push(stage("$project", project));
            is_projected = true;
        }
    }
    Watch {
        database,
        collection,
        wanted: selections.iter().copied().map(events_of).collect(),
        stages,
        is_projected,
        full_document: selections.iter().any(|selection| selection.full_document),
        before_change: selections.iter().any(|selection| selection.before_change),
        expanded: selections.iter().any(|selection| {
            selection
                .operations
                .iter()
                .any(|operation| !ORDINARY.contains(&operation.as_str()))
        }),
    }
}

/// The events that a trigger runs for.
fn events_of(selection: &Selection) -> WantedEvents {
    WantedEvents {
        database: selection.database.clone(),
        collection: selection.collection.clone(),
        operations: selection.operations.clone(),
    }
}

/// The operations that change streams tell of without being asked for more.
const ORDINARY: [&str; 7] = [
    "insert",
    "update",
    "replace",
    "delete",
    "drop",
    "rename",
    "dropDatabase",
];

fn stage(name: &str, document: &Bytes) -> Bytes {
    match bson::deserialize_from_slice::<bson::Document>(document) {
        Ok(document) => raw(&doc! { name: document }),
        Err(_) => Bytes::new(),
    }
}

fn raw(document: &bson::Document) -> Bytes {
    bson::serialize_to_vec(document).map_or_else(|_| Bytes::new(), Bytes::from)
}

#[cfg(test)]
mod tests;
