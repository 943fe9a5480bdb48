//! Events on their way, and batches of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tributary_model::{Namespace, Operation, Position};

use crate::events::{RawEvent, RawEvents};

/// What an event takes in memory beside its document.
const EVENT_BYTES: usize = 300;

/// Events that are published together.
pub(super) struct Batch {
    pub(super) events: Vec<RawEvent>,
    /// How far the stream has got with them.
    pub(super) position: Position,
    /// How long the first of them waited.
    pub(super) gathered: Duration,
    /// What there is of each collection.
    pub(super) collections: BTreeMap<Namespace, Part>,
    /// How many events change no document, by the server's names for them.
    pub(super) other_events: BTreeMap<String, u64>,
}

/// A collection's part of a batch.
pub(super) struct Part {
    pub(super) events: u64,
    /// Their size on the wire.
    pub(super) bytes: u64,
    pub(super) upserted: u64,
    pub(super) deleted: u64,
    /// When the first of them was made.
    pub(super) oldest: SystemTime,
    /// When the last of them was made.
    pub(super) newest: SystemTime,
}

impl Batch {
    fn new(events: Vec<RawEvent>, position: Position, gathered: Duration) -> Self {
        let mut collections: BTreeMap<Namespace, Part> = BTreeMap::new();
        let mut other_events = BTreeMap::new();
        for event in &events {
            let at = wall_time(event);
            let part = collections.entry(event.namespace()).or_insert(Part {
                events: 0,
                bytes: 0,
                upserted: 0,
                deleted: 0,
                oldest: at,
                newest: at,
            });
            part.events += 1;
            part.bytes += event.document.len() as u64;
            part.newest = at;
            let operation = event.operation.as_str();
            if operation == Operation::Delete.name() {
                part.deleted += 1;
            } else if [Operation::Insert, Operation::Update, Operation::Replace]
                .iter()
                .any(|written| written.name() == operation)
            {
                part.upserted += 1;
            } else {
                *other_events.entry(event.operation.clone()).or_default() += 1;
            }
        }
        Self {
            events,
            position,
            gathered,
            collections,
            other_events,
        }
    }

    /// The same without its last events. Where nothing is left, it is where it was `before`.
    pub(super) fn without_last(self, count: usize, before: &Position) -> Self {
        let mut events = self.events;
        events.truncate(events.len().saturating_sub(count));
        let position = match events.last() {
            Some(last) => last.position(&self.position),
            None => before.clone(),
        };
        Self::new(events, position, self.gathered)
    }
}

/// Events that have been read and not yet been published.
pub(super) struct Gathered {
    pending: VecDeque<RawEvent>,
    bytes: usize,
    /// When the first of them came.
    since: Option<Instant>,
    /// How far the stream has been read.
    position: Position,
    /// The collections of which some are.
    collections: BTreeSet<Namespace>,
}

impl Gathered {
    pub(super) fn new(position: Position) -> Self {
        Self {
            pending: VecDeque::new(),
            bytes: 0,
            since: None,
            position,
            collections: BTreeSet::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    pub(super) fn position(&self) -> &Position {
        &self.position
    }

    /// Takes what has been read; `begins` hears of each collection that had nothing pending, with the moment
    /// at which its first event was made.
    pub(super) fn take(
        &mut self,
        batch: RawEvents,
        mut begins: impl FnMut(&Namespace, SystemTime),
    ) {
        self.position = batch.position;
        if !batch.events.is_empty() {
            self.since.get_or_insert_with(Instant::now);
        }
        for event in batch.events {
            self.bytes += bytes_of(&event);
            let namespace = event.namespace();
            if !self.collections.contains(&namespace) {
                begins(&namespace, wall_time(&event));
                self.collections.insert(namespace);
            }
            self.pending.push_back(event);
        }
    }

    /// The next events, no more than so many and, unless the first is larger, so many bytes. `begins` hears of
    /// each collection of which some are left.
    pub(super) fn next_batch(
        &mut self,
        max_events: usize,
        max_bytes: usize,
        mut begins: impl FnMut(&Namespace, SystemTime),
    ) -> Batch {
        let (mut events, mut bytes) = (Vec::new(), 0);
        while let Some(event) = self.pending.front() {
            let of_event = bytes_of(event);
            let is_full = events.len() >= max_events || bytes + of_event > max_bytes;
            if is_full && !events.is_empty() {
                break;
            }
            bytes += of_event;
            events.extend(self.pending.pop_front());
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        let gathered = self.since.map_or(Duration::ZERO, |since| since.elapsed());
        self.collections.clear();
        for event in &self.pending {
            let namespace = event.namespace();
            if !self.collections.contains(&namespace) {
                begins(&namespace, wall_time(event));
                self.collections.insert(namespace);
            }
        }
        let position = match (events.last(), self.pending.is_empty()) {
            (Some(last), false) => last.position(&self.position),
            _ => self.position.clone(),
        };
        if self.pending.is_empty() {
            self.since = None;
        }
        Batch::new(events, position, gathered)
    }

    /// How far the stream has been read, where nothing is pending.
    pub(super) fn without_events(&self) -> Batch {
        Batch::new(Vec::new(), self.position.clone(), Duration::ZERO)
    }
}

/// When it was made, by the server's wall clock.
pub(super) fn wall_time(event: &RawEvent) -> SystemTime {
    let since = Duration::from_millis(u64::try_from(event.wall_time).unwrap_or(0));
    SystemTime::UNIX_EPOCH + since
}

fn bytes_of(event: &RawEvent) -> usize {
    EVENT_BYTES + event.token.len() + event.document.len()
}
