//! A trigger that runs, and how far it has got.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tributary_flow::{StartAt, TriggerLedger, TriggerRecord};
use tributary_model::{ClusterTime, Position, Result};

use super::journal::Journal;
use super::keeper::{Ended, Keeper, Runs, suspend};
use super::live::{Live, LiveState};
use super::recursion::Recursion;
use super::room::{Place, Room};
use super::stream::{Hub, Wanted};
use super::{Occasion, Trigger, ordered, scheduled, unordered};
use crate::script::Outcome;

/// A trigger that runs, and how far it has got.
pub(super) struct Lane {
    pub(super) trigger: Arc<Trigger>,
    ledger: Arc<dyn TriggerLedger>,
    /// What the ledger said when it began.
    pub(super) record: TriggerRecord,
    pub(super) journal: Journal,
    pub(super) recursion: Recursion,
    pub(super) live: Arc<Live>,
    pub(super) runs: Arc<Runs>,
    pub(super) stop: CancellationToken,
    /// Whether there is something to record.
    pub(super) is_dirty: bool,
    /// How long the last run of an ordered trigger took; at first, so long that it runs alone.
    pub(super) pace: Duration,
    room: Room,
    asked: watch::Receiver<u64>,
    /// Where it was asked to begin, until something has come from there: the source may not know it any more.
    replays: Option<Position>,
    position: Option<Position>,
    head: Option<String>,
    unfinished: Vec<String>,
    passed_to: Option<DateTime<Utc>>,
}

impl Lane {
    pub(super) fn new(keeper: &Keeper, record: TriggerRecord, room: Room) -> Self {
        Self {
            trigger: Arc::clone(&keeper.trigger),
            ledger: Arc::clone(&keeper.ledger),
            journal: Journal::new(),
            recursion: Recursion::new(keeper.trigger.policy.longest_chain),
            live: Arc::clone(&keeper.live),
            runs: Arc::clone(&keeper.runs),
            stop: keeper.stop.clone(),
            is_dirty: false,
            pace: Duration::MAX,
            room,
            asked: keeper.asked.clone(),
            replays: None,
            position: record.position.clone(),
            head: record.head.clone(),
            unfinished: record.unfinished.clone(),
            passed_to: record.passed_to,
            record,
        }
    }

    pub(super) async fn run(&mut self, hub: &Arc<Hub>) -> Result<Ended> {
        let trigger = Arc::clone(&self.trigger);
        let (source, source_name, selection) = match &trigger.occasion {
            Occasion::Moment { cron, .. } => {
                self.live.is(LiveState::Running);
                return scheduled::run(self, cron).await;
            }
            Occasion::Change {
                source,
                source_name,
                selection,
            } => (source, source_name, selection),
        };
        let begins = match (self.record.from, &self.record.position) {
            (Some(StartAt::Time(time)), _) => {
                let begins = position_at(time);
                self.replays = Some(begins.clone());
                begins
            }
            (None, Some(position)) => position.clone(),
            (Some(StartAt::Now), _) | (None, None) => source.now().await?,
        };
        if self.replays.is_none() {
            // Whatever happens from here on is this trigger's, also in the next process.
            self.begins_at(begins.clone());
            self.record().await?;
        }
        self.live.is(LiveState::Running);
        let deliveries = hub.subscribe(Wanted {
            source: Arc::clone(source),
            source_name: source_name.clone(),
            selection: selection.clone(),
            from: begins,
        });
        match selection.unordered {
            true => unordered::run(self, deliveries).await,
            false => ordered::run(self, deliveries).await,
        }
    }

    fn begins_at(&mut self, position: Position) {
        if self.record.from.is_some() {
            self.begun(None, Vec::new());
        }
        self.reaches(position);
    }

    /// Something has come from the source, which knows the place where this begins then.
    pub(super) fn hears(&mut self, present: ClusterTime) {
        if let Some(begins) = self.replays.take() {
            self.begins_at(begins);
        }
        self.recursion.is_at(present);
    }

    /// Whether nothing has come yet from where it was asked to begin.
    pub(super) fn is_to_replay(&self) -> bool {
        self.replays.is_some()
    }

    /// Records that it is where it was, whatever it was asked for.
    pub(super) async fn stays(&mut self) -> Result<()> {
        self.replays = None;
        self.position = self.record.position.clone();
        self.head = self.record.head.clone();
        self.unfinished = self.record.unfinished.clone();
        self.is_dirty = true;
        self.record().await
    }

    /// What an earlier process had begun beyond where this begins: the last of these, and those that had not ended.
    pub(super) fn earlier(&self) -> (Option<String>, Vec<String>) {
        match self.record.from {
            Some(_) => (None, Vec::new()),
            None => (self.record.head.clone(), self.record.unfinished.clone()),
        }
    }

    /// The places of what runs at once.
    pub(super) fn room(&self) -> &Room {
        &self.room
    }

    /// Waits for the turn of a run, where these come one after the other; or says that the trigger ends first.
    pub(super) async fn turn(&self) -> Result<Place, Ended> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Ended::Stopped),
            () = self.is_asked() => Err(Ended::Asked),
            place = self.room.enter() => Ok(place),
        }
    }

    pub(super) fn next_run(&self) -> u64 {
        self.runs.next()
    }

    /// A run has ended.
    pub(super) fn ran(&mut self, subject: &str, attempt: u32, outcome: &Outcome) {
        self.is_dirty = true;
        let error = outcome.result.as_ref().err().map(ToString::to_string);
        self.live.ran(outcome.duration, error.as_deref());
        self.journal.ran(&self.trigger, subject, attempt, outcome);
    }

    pub(super) fn gave_up(
        &mut self,
        subject: &str,
        arguments: Bytes,
        error: String,
        attempts: u32,
    ) {
        self.is_dirty = true;
        self.journal
            .gave_up(&self.trigger, subject, arguments, error, attempts);
    }

    /// Everything up to `position` has been dealt with.
    pub(super) fn reaches(&mut self, position: Position) {
        self.is_dirty = true;
        self.position = Some(position);
    }

    /// These have begun beyond the position.
    pub(super) fn begun(&mut self, head: Option<String>, unfinished: Vec<String>) {
        self.head = head;
        self.unfinished = unfinished;
    }

    /// All moments up to this one have been dealt with.
    pub(super) fn passed(&mut self, moment: DateTime<Utc>) {
        self.is_dirty = true;
        self.passed_to = Some(moment);
    }

    /// Records what there is.
    pub(super) async fn record(&mut self) -> Result<()> {
        if !self.is_dirty {
            return Ok(());
        }
        let mut progress = self.journal.take();
        progress.revision = self.record.revision;
        progress.position = self.position.clone();
        progress.head = self.head.clone();
        progress.unfinished = self.unfinished.clone();
        progress.passed_to = self.passed_to;
        self.ledger.advance(&self.trigger.name, progress).await?;
        self.is_dirty = false;
        Ok(())
    }

    /// Records what there is, and then that the trigger is suspended.
    pub(super) async fn suspend(&mut self, reason: String) -> Result<Ended> {
        self.record().await?;
        let revision = self.record.revision;
        suspend(&self.trigger, self.ledger.as_ref(), revision, reason).await?;
        Ok(Ended::Asked)
    }

    /// Records what there is, at the end.
    pub(super) async fn end(&mut self, ended: Ended) -> Result<Ended> {
        self.record().await?;
        Ok(ended)
    }

    /// Whether something was asked of the trigger since it began.
    pub(super) fn was_asked(&self) -> bool {
        *self.asked.borrow() > self.record.revision
    }

    /// Waits until something is asked of it.
    pub(super) async fn is_asked(&self) {
        let mut asked = self.asked.clone();
        let revision = self.record.revision;
        if asked.wait_for(|now| *now > revision).await.is_err() {
            // Nobody can ask any more: the process ends.
            std::future::pending::<()>().await;
        }
    }
}

/// The place before everything that happened from a moment on.
fn position_at(moment: DateTime<Utc>) -> Position {
    let seconds = u32::try_from(moment.timestamp()).unwrap_or(0);
    Position::at(ClusterTime::new(seconds, 0))
}
