//! All triggers that run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tributary_flow::TriggerLedger;

use super::Trigger;
use super::keeper::{Keeper, Runs};
use super::live::{Live, LiveTrigger};
use super::stream::Hub;

/// How often it is looked for what was asked of triggers.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Runs triggers. Those of one that is dropped without having been stopped are cut off.
pub struct Host {
    ledger: Arc<dyn TriggerLedger>,
    hub: Arc<Hub>,
    runs: Arc<Runs>,
    kept: Mutex<BTreeMap<String, Kept>>,
    /// One thing is done to all of them at a time.
    turn: tokio::sync::Mutex<()>,
    looks: Mutex<Option<AbortOnDropHandle<()>>>,
}

struct Kept {
    fingerprint: u64,
    live: Arc<Live>,
    asked: watch::Sender<u64>,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Host {
    /// A host that remembers in this ledger, and runs nothing yet.
    #[must_use]
    pub fn new(ledger: Arc<dyn TriggerLedger>) -> Arc<Self> {
        Arc::new(Self {
            ledger,
            hub: Arc::default(),
            runs: Arc::default(),
            kept: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            looks: Mutex::default(),
        })
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs these triggers from now on: those that have not changed go on, the others end first.
    pub async fn apply(self: &Arc<Self>, triggers: Vec<Trigger>) {
        let _turn = self.turn.lock().await;
        self.look();
        let stays = |name: &str, fingerprint: u64| {
            triggers
                .iter()
                .any(|trigger| trigger.name == name && trigger.fingerprint == fingerprint)
        };
        let mut ending = Vec::new();
        {
            let mut kept = self.kept();
            let names: Vec<String> = kept
                .iter()
                .filter(|(name, kept)| !stays(name, kept.fingerprint))
                .map(|(name, _)| name.clone())
                .collect();
            ending.extend(names.iter().filter_map(|name| kept.remove(name)));
        }
        end(ending).await;
        let mut kept = self.kept();
        for trigger in triggers {
            if !kept.contains_key(&trigger.name) {
                kept.insert(trigger.name.clone(), self.begin(trigger));
            }
        }
    }

    fn begin(&self, trigger: Trigger) -> Kept {
        let (asked, asks) = watch::channel(0);
        let stop = CancellationToken::new();
        let live = Arc::new(Live::default());
        let fingerprint = trigger.fingerprint;
        let keeper = Keeper {
            trigger: Arc::new(trigger),
            ledger: Arc::clone(&self.ledger),
            hub: Arc::clone(&self.hub),
            runs: Arc::clone(&self.runs),
            live: Arc::clone(&live),
            asked: asks,
            stop: stop.clone(),
        };
        Kept {
            fingerprint,
            live,
            asked,
            stop,
            task: AbortOnDropHandle::new(tokio::spawn(keeper.keep())),
        }
    }

    /// Looks for what is asked of triggers from now on.
    fn look(self: &Arc<Self>) {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.is_some() {
            return;
        }
        let host = Arc::downgrade(self);
        *looks = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let Some(host) = host.upgrade() else { return };
                let revisions = match host.ledger.revisions().await {
                    Ok(revisions) => revisions,
                    Err(error) => {
                        tracing::warn!(%error, "cannot look for what is asked of triggers");
                        continue;
                    }
                };
                let kept = host.kept();
                for (name, revision) in revisions {
                    if let Some(kept) = kept.get(&name) {
                        kept.asked.send_if_modified(|known| {
                            let is_new = revision > *known;
                            *known = revision.max(*known);
                            is_new
                        });
                    }
                }
            }
        })));
    }

    /// What all triggers are doing, by name.
    pub fn live(&self) -> Vec<LiveTrigger> {
        let kept = self.kept();
        kept.iter().map(|(name, kept)| kept.live.of(name)).collect()
    }

    /// Ends all triggers: what runs is waited for, and how far they have got is recorded.
    pub async fn stop(&self) {
        let _turn = self.turn.lock().await;
        self.looks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let all = std::mem::take(&mut *self.kept());
        end(all.into_values().collect()).await;
    }
}

async fn end(ending: Vec<Kept>) {
    for kept in &ending {
        kept.stop.cancel();
    }
    for kept in ending {
        if let Err(panic) = kept.task.await {
            tracing::error!(error = %panic, "what kept a trigger going ended early");
        }
    }
}
