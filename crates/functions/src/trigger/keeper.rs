//! What keeps one trigger going.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tributary_flow::{StartAt, TriggerLedger, TriggerRecord, TriggerState};
use tributary_model::{Error, ErrorKind, Result};

use super::lane::Lane;
use super::letters::Letters;
use super::live::{Live, LiveState};
use super::room::Room;
use super::stream::Hub;
use super::{Occasion, Trigger};

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
        let room = Room::of(&self.trigger);
        let letters = self.letters(&record, room.clone());
        if self.trigger.is_disabled {
            self.live.is(LiveState::Disabled);
            letters.replay().await;
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
                letters.replay().await;
                return self.wait(&record, self.trigger.policy.auto_resume).await;
            }
        }
        let revision = record.revision;
        let mut lane = Lane::new(self, record, room);
        let runs = async {
            let result = lane.run(&self.hub).await;
            letters.over.cancel();
            result
        };
        let (result, ()) = tokio::join!(runs, letters.replay());
        self.live.oldest(None);
        self.live.queued.store(0, Ordering::Relaxed);
        let Err(error) = result else { return result };
        match error.kind() {
            ErrorKind::HistoryLost if lane.is_to_replay() => {
                self.cannot_replay(&mut lane, error).await?;
                Ok(Ended::Asked)
            }
            ErrorKind::HistoryLost | ErrorKind::OtherSource if self.tolerates() => {
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

    fn letters(&self, record: &TriggerRecord, room: Room) -> Letters {
        Letters {
            trigger: Arc::clone(&self.trigger),
            ledger: Arc::clone(&self.ledger),
            live: Arc::clone(&self.live),
            runs: Arc::clone(&self.runs),
            room,
            asked: self.asked.clone(),
            revision: record.revision,
            over: self.stop.child_token(),
        }
    }

    /// Leaves a trigger where it was that cannot begin where it was asked to.
    async fn cannot_replay(&self, lane: &mut Lane, error: Error) -> Result<()> {
        lane.stays().await?;
        let name = &self.trigger.name;
        let mut reason = format!("it cannot begin where it was asked to: {error}");
        if let Occasion::Change { source, .. } = &self.trigger.occasion
            && let Ok(Some(window)) = source.window().await
            && let Some(oldest) = DateTime::from_timestamp(window.oldest.seconds().into(), 0)
        {
            let oldest = oldest.to_rfc3339_opts(SecondsFormat::Secs, true);
            reason = format!("{reason}; the source knows what happened since {oldest}");
        }
        if self.tolerates() {
            tracing::warn!(trigger = name, reason, "a trigger goes on where it was");
            return Ok(());
        }
        let reason = format!(
            "{reason}; `tributary trigger resume {name}` goes on where it was before, `tributary trigger replay {name} --from TIME` \
             at a later time"
        );
        self.suspend(lane.record.revision, reason).await
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
}

pub(super) async fn suspend(
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
