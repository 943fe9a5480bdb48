//! Dead letters that somebody wants tried again, beside the events of their trigger.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{StreamExt, TryStreamExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tributary_flow::{DeadLetter, TriggerLedger};
use tributary_model::Result;

use super::journal::run_of;
use super::keeper::Runs;
use super::live::Live;
use super::ordered::ends_in_time;
use super::room::{Room, at_once, may_be_of_others};
use super::{Task, Trigger};

/// How long to wait where the ledger cannot be asked for letters.
const LATER: Duration = Duration::from_secs(5);

/// Tries dead letters of one trigger again.
pub(super) struct Letters {
    pub(super) trigger: Arc<Trigger>,
    pub(super) ledger: Arc<dyn TriggerLedger>,
    pub(super) live: Arc<Live>,
    pub(super) runs: Arc<Runs>,
    pub(super) room: Room,
    /// The revision of the trigger in the ledger: letters end where it exceeds `revision`.
    pub(super) asked: watch::Receiver<u64>,
    pub(super) revision: u64,
    /// No more are begun, and what runs is waited for, for a while.
    pub(super) over: CancellationToken,
}

impl Letters {
    /// Tries letters until there are none, or something is asked of the trigger, or it ends.
    pub(super) async fn replay(&self) {
        while !self.is_over() {
            match self.some().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(trigger = self.trigger.name, %error, "dead letters have to wait");
                    let (mut asked, revision) = (self.asked.clone(), self.revision);
                    tokio::select! {
                        () = self.over.cancelled() => {}
                        _ = asked.wait_for(|now| *now > revision) => {}
                        () = tokio::time::sleep(LATER) => {}
                    }
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.over.is_cancelled() || *self.asked.borrow() > self.revision
    }

    /// Tries the next few; false where there are none.
    async fn some(&self) -> Result<bool> {
        let letters = self.ledger.to_replay(&self.trigger.name).await?;
        if letters.is_empty() {
            return Ok(false);
        }
        // The other half of what runs at once is for what happens meanwhile.
        let at_once = (at_once(&self.trigger) / 2).max(1);
        futures::stream::iter(letters)
            .map(|letter| self.again(letter))
            .buffer_unordered(at_once)
            .try_for_each(|()| std::future::ready(Ok(())))
            .await?;
        Ok(true)
    }

    async fn again(&self, letter: DeadLetter) -> Result<()> {
        let _place = tokio::select! {
            biased;
            () = self.over.cancelled() => return Ok(()),
            place = self.room.enter() => place,
        };
        // As with events: who may have been ended by those beside it is tried again by itself.
        let mut is_alone = false;
        let outcome = loop {
            let _company = tokio::select! {
                biased;
                () = self.over.cancelled() => return Ok(()),
                company = self.room.company(is_alone) => company,
            };
            if self.is_over() {
                return Ok(());
            }
            let task = Task {
                run: self.runs.next(),
                arguments: letter.arguments.clone(),
            };
            let run = task.run;
            let ran = self.trigger.processor.run(task);
            let Some(outcome) = ends_in_time(&self.over, ran).await else {
                return Ok(());
            };
            let _ = self.trigger.processor.written(run);
            if is_alone || !may_be_of_others(&outcome) {
                break outcome;
            }
            is_alone = true;
        };
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
        self.ledger.replayed(&letter.id, error, run).await
    }
}
