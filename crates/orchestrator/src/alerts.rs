//! Alerts: what the rules find, and telling it.

mod finds;
mod outbox;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tributary_model::Result;

use crate::config::Plan;
use crate::deliver::Delivery;
use crate::engine::TriggerHost;
use crate::flows::Flows;
use crate::orchestrator::Plans;
use crate::status::Notice;
use crate::store::{Raised, Store, Telling};

use finds::Found;
pub(crate) use outbox::test;

/// How often the rules are looked at, and messages sent.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long something has to be over before it is: what is tried again may fail again.
const OVER_AFTER: Duration = Duration::from_secs(10);

/// Looks at the rules, and tells what they find.
pub(crate) struct Alerts {
    pub(crate) store: Store,
    pub(crate) flows: Arc<Flows>,
    pub(crate) triggers: Option<Arc<dyn TriggerHost>>,
    pub(crate) notices: broadcast::Sender<Notice>,
    pub(crate) delivery: Delivery,
    pub(crate) host: String,
}

/// What was the case of late.
struct Seen {
    /// By rule and subject, with the moment at which it was last.
    raised: HashMap<(String, String), (Instant, Raised)>,
    /// Up to when runs have been looked at.
    runs_to: DateTime<Utc>,
}

impl Seen {
    /// What the process before this one has told, and has not seen to be over.
    async fn before(store: &Store, now: Instant) -> Result<Self> {
        let firing = store.firing_alerts().await?.into_iter();
        Ok(Self {
            raised: firing
                .map(|raised| ((raised.rule.clone(), raised.subject.clone()), (now, raised)))
                .collect(),
            // What failed within this time is not over, so that it is told once.
            runs_to: Utc::now() - OVER_AFTER,
        })
    }
}

impl Alerts {
    /// Looks at the rules, until stopped.
    pub(crate) async fn watch(self: Arc<Self>, plans: Plans, stop: CancellationToken) {
        let mut seen = None;
        while !stop.is_cancelled() {
            if let Err(error) = self.look(&plans(), &mut seen, Instant::now()).await {
                tracing::error!(%error, "cannot look at the rules of alerts");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn look(&self, plan: &Plan, seen: &mut Option<Seen>, now: Instant) -> Result<()> {
        let seen = match seen {
            Some(seen) => seen,
            None => seen.insert(Seen::before(&self.store, now).await?),
        };
        let Found {
            raised,
            unclear,
            runs_to,
        } = self.find(plan, seen.runs_to).await?;
        seen.runs_to = runs_to;
        for raised in raised {
            let key = (raised.rule.clone(), raised.subject.clone());
            seen.raised.insert(key, (now, raised));
        }
        for (at, raised) in seen.raised.values_mut() {
            if unclear.iter().any(|unclear| unclear.covers(raised)) {
                *at = now;
            }
        }
        seen.raised.retain(|(rule, _), (at, _)| {
            plan.rules.contains_key(rule) && now.duration_since(*at) < OVER_AFTER
        });
        let raised = seen.raised.values().map(|(_, raised)| raised.clone());
        let raised = raised.collect();
        let tellings = plan
            .rules
            .iter()
            .map(|(name, rule)| {
                let telling = Telling {
                    receivers: rule.notify.clone(),
                    repeat: rule.repeat,
                };
                (name.clone(), telling)
            })
            .collect();
        let changed = self
            .store
            .raise(raised, tellings, self.host.clone())
            .await?;
        for alert in changed {
            let _ = self.notices.send(Notice::Alert(alert));
        }
        Ok(())
    }
}
