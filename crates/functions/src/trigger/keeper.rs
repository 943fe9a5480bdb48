//! What keeps one trigger going.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tributary_flow::{StartAt, TriggerLedger, TriggerRecord, TriggerState};
use tributary_model::{ErrorKind, Position, Result};

use super::journal::{Journal, run_of};
use super::live::{Live, LiveState};
use super::recursion::Recursion;
use super::stream::{Hub, Wanted};
use super::{Occasion, Task, Trigger, ordered, scheduled, unordered};
use crate::script::Outcome;

/// How long to wait before what failed is tried again; twice as long each time.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// How long at most.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Numbers runs.
#[derive(Debug, Default)]
pub(super) struct Runs(AtomicU64);

impl Runs {
    pub(super) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// Why a trigger does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was to end.
    Stopped,
    /// Something was asked of it, or it is suspended: the ledger says what.
    Asked,
    /// Its stream has ended.
    Again,
}

/// Keeps one trigger going.
pub(super) struct Keeper {
    pub(super) trigger: Arc<Trigger>,
    pub(super) ledger: Arc<dyn TriggerLedger>,
    pub(super) hub: Arc<Hub>,
    pub(super) runs: Arc<Runs>,
    pub(super) live: Arc<Live>,
    /// The revision of the trigger in the ledger.
    pub(super) asked: watch::Receiver<u64>,
    pub(super) stop: CancellationToken,
}

impl Keeper {
    /// Runs until it is stopped.
    pub(super) async fn keep(mut self) {
        let mut wait = FIRST_WAIT;
        while !self.stop.is_cancelled() {
            let begun = std::time::Instant::now();
            let error = match self.once().await {
                Ok(Ended::Stopped) => break,
                Ok(Ended::Asked) => {
                    wait = FIRST_WAIT;
                    continue;
                }
                Ok(Ended::Again) => None,
                Err(error) => Some(error),
            };
            if begun.elapsed() > LONGEST_WAIT {
                wait = FIRST_WAIT;
            }
            if let Some(error) = error {
                tracing::warn!(trigger = self.trigger.name, %error, ?wait, "a trigger is held up");
                self.live.is(LiveState::Retrying(error.to_string()));
            }
            tokio::select! {
                () = self.stop.cancelled() => break,
                _ = self.asked.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Does what the ledger says, until that is something else.
    async fn once(&mut self) -> Result<Ended> {
        self.asked.mark_unchanged();
        let record = self.ledger.load(&self.trigger.name).await?;
        self.replay_letters().await?;
        if self.trigger.is_disabled {
            self.live.is(LiveState::Disabled);
            return self.wait(&record, None).await;
        }
        match &record.state {
            TriggerState::Running => {}
            TriggerState::Paused => {
                self.live.is(LiveState::Paused);
                return self.wait(&record, None).await;
            }
            TriggerState::Suspended { reason } => {
                self.live.is(LiveState::Suspended(reason.clone()));
                return self.wait(&record, self.trigger.policy.auto_resume).await;
            }
        }
        let revision = record.revision;
        let mut lane = Lane::new(self, record);
        let result = lane.run(&self.hub).await;
        self.live.oldest(None);
        self.live.queued.store(0, Ordering::Relaxed);
        let Err(error) = result else { return result };
        match error.kind() {
            ErrorKind::HistoryLost if self.tolerates() => {
                tracing::warn!(trigger = self.trigger.name, %error,
                    "events are lost: the trigger goes on with the present");
                self.ledger
                    .set_state(
                        &self.trigger.name,
                        revision,
                        TriggerState::Running,
                        Some(StartAt::Now),
                    )
                    .await?;
                Ok(Ended::Asked)
            }
            ErrorKind::HistoryLost | ErrorKind::OtherSource => {
                let reason = format!(
                    "{error}; `tributary trigger replay {} --from TIME` goes on at a time that the source still knows",
                    self.trigger.name
                );
                self.suspend(revision, reason).await?;
                Ok(Ended::Asked)
            }
            _ => Err(error),
        }
    }

    fn tolerates(&self) -> bool {
        matches!(&self.trigger.occasion, Occasion::Change { selection, .. } if selection.tolerate_resume_errors)
    }

    fn skips_catchup(&self) -> bool {
        match &self.trigger.occasion {
            Occasion::Change { selection, .. } => selection.skip_catchup,
            Occasion::Moment { skip_catchup, .. } => *skip_catchup,
        }
    }

    async fn suspend(&self, revision: u64, reason: String) -> Result<()> {
        suspend(&self.trigger, self.ledger.as_ref(), revision, reason).await
    }

    /// Waits until something is asked, or for so long; then it resumes.
    async fn wait(
        &mut self,
        record: &TriggerRecord,
        resumes_after: Option<Duration>,
    ) -> Result<Ended> {
        let has_begun = record.position.is_some() || record.passed_to.is_some();
        if self.skips_catchup() && record.from.is_none() && has_begun {
            // What happens until it is resumed is not wanted.
            self.ledger
                .set_state(
                    &self.trigger.name,
                    record.revision,
                    record.state.clone(),
                    Some(StartAt::Now),
                )
                .await?;
        }
        let resumes = async {
            match resumes_after {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => return Ok(Ended::Stopped),
            _ = self.asked.changed() => {}
            () = resumes => {
                tracing::info!(trigger = self.trigger.name, "a suspended trigger resumes by itself");
                self.ledger
                    .set_state(
                        &self.trigger.name,
                        record.revision,
                        TriggerState::Running,
                        None,
                    )
                    .await?;
            }
        }
        Ok(Ended::Asked)
    }

    /// Tries dead letters again that somebody wants tried.
    async fn replay_letters(&self) -> Result<()> {
        let mut letters = Vec::new();
        loop {
            if letters.is_empty() {
                letters = self.ledger.to_replay(&self.trigger.name).await?;
                letters.reverse();
            }
            let Some(letter) = letters.pop() else {
                return Ok(());
            };
            if self.stop.is_cancelled() {
                return Ok(());
            }
            let task = Task {
                run: self.runs.next(),
                arguments: letter.arguments.clone(),
            };
            let run = task.run;
            let ran = self.trigger.processor.run(task);
            let Some(outcome) = ordered::ends_in_time(&self.stop, ran).await else {
                return Ok(());
            };
            let _ = self.trigger.processor.written(run);
            let error = outcome.result.as_ref().err().map(ToString::to_string);
            self.live.ran(outcome.duration, error.as_deref());
            let run = run_of(
                &self.trigger.app,
                &self.trigger.function,
                format!("dead letter of {}", self.trigger.name),
                Some(letter.token.clone()),
                letter.attempts + 1,
                &outcome,
            );
            self.ledger.replayed(&letter.id, error, run).await?;
        }
    }
}

async fn suspend(
    trigger: &Trigger,
    ledger: &dyn TriggerLedger,
    revision: u64,
    reason: String,
) -> Result<()> {
    tracing::error!(
        trigger = trigger.name,
        reason,
        "a trigger is suspended until it is resumed"
    );
    ledger
        .set_state(
            &trigger.name,
            revision,
            TriggerState::Suspended { reason },
            None,
        )
        .await
}

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
    asked: watch::Receiver<u64>,
    position: Option<Position>,
    head: Option<String>,
    unfinished: Vec<String>,
    passed_to: Option<DateTime<Utc>>,
}

impl Lane {
    fn new(keeper: &Keeper, record: TriggerRecord) -> Self {
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
            asked: keeper.asked.clone(),
            position: record.position.clone(),
            head: record.head.clone(),
            unfinished: record.unfinished.clone(),
            passed_to: record.passed_to,
            record,
        }
    }

    async fn run(&mut self, hub: &Arc<Hub>) -> Result<Ended> {
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
        let begins = match self.record.from {
            Some(from) => {
                self.record.head = None;
                self.record.unfinished.clear();
                self.begun(None, Vec::new());
                ordered::position_of(from)
            }
            None => self.record.position.clone(),
        };
        let begins = match begins {
            Some(position) => position,
            None => source.now().await?,
        };
        // Whatever happens from here on is this trigger's, also in the next process.
        self.reaches(begins.clone());
        self.record().await?;
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
