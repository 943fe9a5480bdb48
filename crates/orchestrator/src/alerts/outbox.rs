//! Sending what is to be told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tributary_model::Result;

use super::{Alerts, LOOK_EVERY};
use crate::config::Plan;
use crate::deliver::{AlertState, Delivery, Message};
use crate::orchestrator::Plans;
use crate::status::Told;
use crate::store::Outgoing;

/// How long to wait before a message is sent again; twice as long each time.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// How often a message is sent that its receiver refuses.
const MOST_REFUSALS: u32 = 5;

impl Alerts {
    /// Sends messages, until stopped: to each receiver by a task of its own, so that one that takes long
    /// to answer keeps none from the others.
    pub(crate) async fn deliver(self: Arc<Self>, plans: Plans, stop: CancellationToken) {
        let mut tasks: HashMap<String, AbortOnDropHandle<()>> = HashMap::new();
        while !stop.is_cancelled() {
            tasks.retain(|_, task| !task.is_finished());
            match self.store.due_receivers().await {
                Ok(receivers) => {
                    for receiver in receivers {
                        tasks.entry(receiver.clone()).or_insert_with(|| {
                            let (alerts, plans) = (Arc::clone(&self), Arc::clone(&plans));
                            let stop = stop.clone();
                            AbortOnDropHandle::new(tokio::spawn(async move {
                                alerts.send_due(&receiver, &plans, &stop).await;
                            }))
                        });
                    }
                }
                Err(error) => tracing::error!(%error, "cannot see which messages are to be sent"),
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        for (receiver, task) in tasks {
            if let Err(panic) = task.await {
                tracing::error!(receiver, error = %panic, "sending messages ended early");
            }
        }
    }

    /// Sends one receiver what is due, one message after the other.
    pub(super) async fn send_due(&self, receiver: &str, plans: &Plans, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let sent = match self.store.due_message(receiver).await {
                Ok(None) => return,
                Ok(Some(outgoing)) => self.send(outgoing, &plans()).await,
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                tracing::error!(receiver, %error, "cannot record what became of a message");
                return;
            }
        }
    }

    /// Sends one message, and records what became of it.
    async fn send(&self, outgoing: Outgoing, plan: &Plan) -> Result<()> {
        let Outgoing {
            id,
            receiver,
            attempts,
            message,
        } = outgoing;
        let Some(at) = plan.receivers.get(&receiver) else {
            // There is nobody of that name any more.
            return self.store.message_is_done(id).await;
        };
        let error = match self.delivery.tell(at, &message).await {
            Ok(()) => return self.store.message_is_done(id).await,
            Err(error) => error,
        };
        let (rule, subject) = (&message.rule, &message.subject);
        if !error.kind().is_transient() && attempts + 1 >= MOST_REFUSALS {
            tracing::error!(receiver, rule, subject, %error, "an alert was refused, and is not told");
            return self.store.message_is_done(id).await;
        }
        let wait = FIRST_WAIT
            .saturating_mul(2_u32.saturating_pow(attempts.min(16)))
            .min(LONGEST_WAIT);
        tracing::warn!(receiver, rule, subject, ?wait, %error, "an alert could not be told");
        let next_at = Utc::now() + wait;
        self.store
            .message_failed(id, error.to_string(), next_at)
            .await
    }
}

/// Tells every receiver of a plan that this is a test.
pub(crate) async fn test(delivery: &Delivery, host: &str, plan: &Plan) -> Vec<Told> {
    let message = Message {
        state: AlertState::Test,
        rule: "test".to_owned(),
        subject: "Tributary".to_owned(),
        summary: "this is a test: alerts reach you".to_owned(),
        detail: None,
        since: Utc::now(),
        host: host.to_owned(),
    };
    let tells = plan.receivers.iter().map(|(name, receiver)| async {
        let told = delivery.tell(receiver, &message).await;
        Told {
            receiver: name.clone(),
            error: told.err().map(|error| error.to_string()),
        }
    });
    futures::future::join_all(tells).await
}
