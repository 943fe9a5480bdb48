//! Keys that differ, looked at until it is certain what they are.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;
use tributary_model::{ClusterTime, Error, ErrorKind, Namespace, Result};

use super::ranges::{Pairs, Tally};
use super::{ComparedTable, Fingerprint, Moment, Verify, retried};
use crate::batch::DocumentBatch;

/// How often a key must be found wrong in a table that stands still before it is told.
const CONFIRMATIONS: u32 = 3;
/// How often keys are looked at, should they change all the time.
const MOST_LOOKS: u32 = 40;
/// What a document was seen to be is remembered so many times.
const SIGHTINGS: usize = 16;

/// What a document was seen to be, at a moment between these.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sighting {
    pub(super) from: ClusterTime,
    pub(super) until: ClusterTime,
    pub(super) source: Tally,
}

/// A key that differed when it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Suspect {
    pub(super) id: Option<Bytes>,
    /// The row, when it was last looked at.
    pub(super) table: Tally,
    /// Where the row was then, and a moment behind the one when it was found there first.
    pub(super) place: u64,
    pub(super) placed: Option<ClusterTime>,
    /// The document, each time that it was looked at.
    pub(super) seen: Vec<Sighting>,
    /// How often the row was found wrong, one time after the other.
    pub(super) wrong: u32,
}

pub(super) type Suspects = HashMap<[u8; 16], Suspect>;

/// What documents say, by their keys.
pub(super) type Contents = HashMap<[u8; 16], Tally>;

impl Suspect {
    pub(super) fn see(&mut self, sighting: Sighting) {
        if self.seen.len() >= SIGHTINGS {
            self.seen.remove(0);
        }
        self.seen.push(sighting);
    }

    /// The document as it was seen last.
    pub(super) fn source(&self) -> Tally {
        self.seen.last().map_or_else(Tally::default, |s| s.source)
    }

    /// Whether the document was seen to be what the row says, at the table's position or later.
    pub(super) fn was_seen_as_row(&self, position: ClusterTime) -> bool {
        let mut later = self.seen.iter().filter(|s| s.from >= position);
        later.any(|sighting| sighting.source == self.table)
    }

    /// How often the row has been found wrong now. `then` and `before` are the document at the
    /// table's position and just before it, where the source remembers them.
    pub(super) fn judged(
        &self,
        position: ClusterTime,
        moved: bool,
        then: Option<Tally>,
        before: Option<Tally>,
    ) -> u32 {
        let placed = self.placed.unwrap_or(ClusterTime(u64::MAX));
        // Seen between the row and the table's position.
        let mut between = self
            .seen
            .iter()
            .filter(|s| placed <= s.from && s.until < position);
        let is_there = self.table.count > 0;
        match then {
            // A transaction of the very moment may be in the table in part.
            _ if before == Some(self.table) => 0,
            // The table has moved on without writing the row again.
            Some(_) if placed <= position => CONFIRMATIONS,
            Some(then) if !moved && self.seen.iter().all(|s| s.source == then) => self.wrong + 1,
            None if is_there && between.any(|s| s.source != self.table) => CONFIRMATIONS,
            None if !is_there && between.any(|s| s.source == self.source()) => self.wrong + 1,
            _ => 0,
        }
    }
}

/// What looking at suspects has come to.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub(super) wrong: Vec<Suspect>,
    pub(super) unsettled: Vec<Suspect>,
    pub(super) changed_since: u64,
    /// The table's position when its rows were last looked at.
    pub(super) looked_at: Option<ClusterTime>,
}

impl Verify {
    /// Looks at keys that differ until each is the same, or differs for certain, or nothing more
    /// can be learnt.
    pub(super) async fn settle(
        &self,
        namespace: &Namespace,
        table: &mut dyn ComparedTable,
        pairs: Pairs,
    ) -> Result<Settled> {
        let mut settled = Settled::default();
        let mut suspects: Suspects = pairs
            .into_iter()
            .map(|(key, pair)| {
                let suspect = Suspect {
                    id: pair.id,
                    ..Suspect::default()
                };
                (key, suspect)
            })
            .collect();
        let mut stands_still = false;
        for _ in 0..MOST_LOOKS {
            let until = self
                .look(namespace, table, &mut suspects, &mut settled)
                .await?;
            let is_open = |suspect: &Suspect| suspect.wrong == 0;
            let is_doubtful = |suspect: &Suspect| (1..CONFIRMATIONS).contains(&suspect.wrong);
            let any_doubtful = suspects.values().any(is_doubtful);
            let any_open = suspects.values().any(is_open);
            if !any_doubtful && (!any_open || stands_still) {
                break;
            }
            tokio::time::sleep(self.options.pause).await;
            if any_open && !stands_still {
                stands_still = !self.wait_for(table, until).await?;
            }
        }
        for suspect in suspects.into_values() {
            if suspect.wrong >= CONFIRMATIONS {
                settled.wrong.push(suspect);
            } else {
                settled.unsettled.push(suspect);
            }
        }
        Ok(settled)
    }

    /// Waits until the table has passed `time`. False where it does not in time.
    pub(super) async fn wait_for(
        &self,
        table: &mut dyn ComparedTable,
        time: ClusterTime,
    ) -> Result<bool> {
        let deadline = Instant::now() + self.options.wait;
        loop {
            retried(async || table.refresh().await).await?;
            if table.position().cluster_time > time {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(self.options.pause / 4).await;
        }
    }

    /// Looks at both sides of all suspects, and leaves those that are not known to be right.
    /// Answers a moment that is behind all that was seen of the source.
    pub(super) async fn look(
        &self,
        namespace: &Namespace,
        table: &mut dyn ComparedTable,
        suspects: &mut Suspects,
        settled: &mut Settled,
    ) -> Result<ClusterTime> {
        let keys: Arc<HashSet<[u8; 16]>> = Arc::new(suspects.keys().copied().collect());
        let rows = retried(async || {
            table.refresh().await?;
            table.rows(Arc::clone(&keys)).await
        })
        .await?;
        let position = table.position().cluster_time;
        let moved = settled
            .looked_at
            .replace(position)
            .is_some_and(|p| p != position);
        let mut found: HashMap<[u8; 16], (Tally, u64)> = HashMap::new();
        for row in rows {
            let key = row.fingerprint.key;
            let (tally, place) = found.entry(key).or_default();
            *tally += Tally::one(row.fingerprint.content);
            *place = place.wrapping_add(row.place);
            if let Some(suspect) = suspects.get_mut(&key) {
                suspect.id.get_or_insert(row.id);
            }
        }
        // A row that is gone, of a document that was not there.
        suspects.retain(|_, suspect| suspect.id.is_some());

        // The source behind the table: what is seen now is not from before the row was written.
        let from = self.now().await?;
        let now = self
            .documents(namespace, suspects, Moment::Behind(from))
            .await?
            .unwrap_or_default();
        let until = self.now().await?;
        suspects.retain(|key, suspect| {
            let source = now.get(key).copied().unwrap_or_default();
            let (row, place) = found.get(key).copied().unwrap_or_default();
            if suspect.placed.is_none() || suspect.place != place {
                suspect.placed = Some(from);
            }
            (suspect.table, suspect.place) = (row, place);
            suspect.see(Sighting {
                from,
                until,
                source,
            });
            !suspect.was_seen_as_row(position)
        });
        if suspects.is_empty() {
            return Ok(until);
        }

        // The source at the table's position. A transaction of that very moment may be in the table
        // in part: where a row is as its document was just before, nothing is known yet.
        let just_before = ClusterTime(position.0.saturating_sub(1));
        let then = self
            .documents(namespace, suspects, Moment::At(position))
            .await?;
        let before = self
            .documents(namespace, suspects, Moment::At(just_before))
            .await?;
        suspects.retain(|key, suspect| {
            let at = |moment: &Option<Contents>| {
                let documents = moment.as_ref()?;
                Some(documents.get(key).copied().unwrap_or_default())
            };
            let (then, before) = (at(&then), at(&before));
            if then == Some(suspect.table) {
                settled.changed_since += 1;
                return false;
            }
            suspect.wrong = suspect.judged(position, moved, then, before);
            true
        });
        Ok(until)
    }

    pub(super) async fn now(&self) -> Result<ClusterTime> {
        let position = retried(async || self.changes.now().await).await?;
        Ok(position.cluster_time)
    }

    /// What documents say at a moment, by key; none where the source does not remember it.
    pub(super) async fn documents(
        &self,
        namespace: &Namespace,
        suspects: &Suspects,
        moment: Moment,
    ) -> Result<Option<Contents>> {
        let ids: Vec<Bytes> = suspects.values().filter_map(|s| s.id.clone()).collect();
        retried(async || {
            let (out, mut batches) = mpsc::channel::<DocumentBatch>(1);
            let tables = Arc::clone(&self.tables);
            let work = tokio::task::spawn_blocking(move || {
                let mut found = HashMap::new();
                while let Some(batch) = batches.blocking_recv() {
                    for document in batch.documents() {
                        let Fingerprint { key, content } = tables.fingerprint(document?)?;
                        found.insert(key, Tally::one(content));
                    }
                }
                Ok::<_, Error>(found)
            });
            let read = self.lookups.look_up(namespace, &ids, moment, out);
            let (read, found) = tokio::join!(read, work);
            let found = found.map_err(|panic| {
                Error::new(ErrorKind::Internal, "a reading thread ended abnormally").because(panic)
            })??;
            Ok(read?.then_some(found))
        })
        .await
    }
}
