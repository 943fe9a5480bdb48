//! Alerts: what the rules find, and telling it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tributary_model::Result;

use crate::config::{Condition, Place, Plan, Rule};
use crate::deliver::{AlertState, Delivery, Message};
use crate::engine::TriggerHost;
use crate::flows::Flows;
use crate::orchestrator::Plans;
use crate::runs::in_words;
use crate::status::{FlowState, Notice, Run, RunState, Told, TriggerState, TriggerStatus};
use crate::store::{Outgoing, Raised, Store, Telling};
use crate::triggers::Triggers;

/// How often the rules are looked at, and messages sent.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long something has to be over before it is: what is tried again may fail again.
const OVER_AFTER: Duration = Duration::from_secs(10);
/// How long to wait before a message is sent again; twice as long each time.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// How often a message is sent that its receiver refuses.
const MOST_REFUSALS: u32 = 5;

/// Looks at the rules, and tells what they find.
pub(crate) struct Alerts {
    pub(crate) store: Store,
    pub(crate) flows: Arc<Flows>,
    pub(crate) triggers: Option<Arc<dyn TriggerHost>>,
    pub(crate) notices: broadcast::Sender<Notice>,
    pub(crate) delivery: Delivery,
    pub(crate) host: String,
}

impl Alerts {
    /// Looks at the rules, until stopped.
    pub(crate) async fn watch(self: Arc<Self>, plans: Plans, stop: CancellationToken) {
        let mut seen: HashMap<(String, String), (Instant, Raised)> = HashMap::new();
        while !stop.is_cancelled() {
            if let Err(error) = self.look(&plans(), &mut seen).await {
                tracing::error!(%error, "cannot look at the rules of alerts");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn look(
        &self,
        plan: &Plan,
        seen: &mut HashMap<(String, String), (Instant, Raised)>,
    ) -> Result<()> {
        let now = Instant::now();
        for raised in self.raised(plan).await? {
            let key = (raised.rule.clone(), raised.subject.clone());
            seen.insert(key, (now, raised));
        }
        seen.retain(|(rule, _), (at, _)| {
            plan.rules.contains_key(rule) && now.duration_since(*at) < OVER_AFTER
        });
        let raised = seen.values().map(|(_, raised)| raised.clone()).collect();
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

    /// What is the case now.
    async fn raised(&self, plan: &Plan) -> Result<Vec<Raised>> {
        let mut found = Vec::new();
        let of_runs = |rule: &Rule| rule.when == Condition::RunFailed;
        let results = match plan.rules.values().any(of_runs) {
            true => {
                let jobs = plan.jobs.keys().cloned().collect();
                self.store.last_results(jobs).await?
            }
            false => Vec::new(),
        };
        let triggers = match plan.rules.values().any(is_of_triggers) {
            true => {
                let triggers = Triggers::of(plan, self.triggers.as_deref(), &self.store);
                triggers.list().await?
            }
            false => Vec::new(),
        };
        for (name, rule) in &plan.rules {
            let mut finds = Finds {
                rule: name,
                found: &mut found,
            };
            match &rule.when {
                Condition::RunFailed => finds.failed_runs(plan, rule, &results),
                Condition::DiskAbove(share) => finds.full_disks(plan, share.0),
                Condition::OplogWindowBelow(least) => {
                    finds.short_windows(self, rule, least.0);
                }
                _ if is_of_triggers(rule) => finds.triggers(rule, &triggers),
                _ => finds.flows(self, rule),
            }
        }
        Ok(found)
    }

    fn watches(&self, rule: &Rule) -> Vec<(String, Arc<crate::watch::FlowWatch>)> {
        let mut watches = self.flows.watches();
        watches.retain(|(name, _)| {
            rule.flows.is_empty() || rule.flows.iter().any(|pattern| pattern.matches(name))
        });
        watches
    }

    /// Sends messages, until stopped.
    pub(crate) async fn deliver(self: Arc<Self>, plans: Plans, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.store.due_messages().await {
                Ok(due) => {
                    let plan = plans();
                    let sends = due.into_iter().map(|outgoing| self.send(outgoing, &plan));
                    for result in futures::future::join_all(sends).await {
                        if let Err(error) = result {
                            tracing::error!(%error, "cannot record what became of a message");
                        }
                    }
                }
                Err(error) => tracing::error!(%error, "cannot see which messages are to be sent"),
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

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

/// Whether a rule is about triggers.
fn is_of_triggers(rule: &Rule) -> bool {
    matches!(
        rule.when,
        Condition::TriggerSuspended | Condition::DeadLetters(_)
    )
}

/// What one rule finds.
struct Finds<'a> {
    rule: &'a str,
    found: &'a mut Vec<Raised>,
}

impl Finds<'_> {
    fn find(&mut self, subject: String, summary: String, detail: Option<String>) {
        self.found.push(Raised {
            rule: self.rule.to_owned(),
            subject,
            summary,
            detail,
        });
    }

    fn failed_runs(&mut self, plan: &Plan, rule: &Rule, results: &[Run]) {
        for run in results {
            let is_meant = plan.jobs.contains_key(&run.job)
                && (rule.jobs.is_empty() || rule.jobs.iter().any(|jobs| jobs.matches(&run.job)));
            if is_meant && run.state == RunState::Failed {
                self.find(
                    format!("job {}", run.job),
                    "a run failed".to_owned(),
                    Some(format!(
                        "run {}: {}",
                        run.id,
                        run.error.as_deref().unwrap_or_default()
                    )),
                );
            }
        }
    }

    fn triggers(&mut self, rule: &Rule, triggers: &[TriggerStatus]) {
        for trigger in triggers {
            let is_meant = rule.triggers.is_empty()
                || rule.triggers.iter().any(|of| of.matches(&trigger.name));
            if !is_meant || trigger.state == TriggerState::Gone {
                continue;
            }
            let subject = format!("trigger {}", trigger.name);
            let reason = trigger.reason.clone();
            match (&rule.when, trigger.state) {
                (Condition::TriggerSuspended, TriggerState::Suspended) => {
                    let summary = "the trigger is suspended, and waits to be resumed".to_owned();
                    self.find(subject, summary, reason);
                }
                (Condition::TriggerSuspended, TriggerState::Failed) => {
                    let summary = "the trigger cannot run, and is tried again".to_owned();
                    self.find(subject, summary, reason);
                }
                (Condition::DeadLetters(least), _) if trigger.dead_letters >= least.get() => {
                    let summary = format!("the trigger has {least} dead letters or more");
                    self.find(subject, summary, trigger.last_error.clone());
                }
                _ => {}
            }
        }
    }

    fn short_windows(&mut self, alerts: &Alerts, rule: &Rule, least: Duration) {
        let mut sources: HashMap<String, u64> = HashMap::new();
        for (_, watch) in alerts.watches(rule) {
            if let Some(source) = watch.source()
                && let Some(window) = watch.window()
                && window < least.as_secs()
            {
                sources.insert(source.name, window);
            }
        }
        for (source, window) in sources {
            let window = in_words(Duration::from_secs(window));
            let summary = format!(
                "the oplog reaches back {window} only, less than {}",
                in_words(least)
            );
            let detail = "a flow that stands still for longer has to be loaded anew; make the oplog larger, \
                          or set storage.oplogMinRetentionHours";
            self.find(format!("source {source}"), summary, Some(detail.to_owned()));
        }
    }

    fn flows(&mut self, alerts: &Alerts, rule: &Rule) {
        for (name, watch) in alerts.watches(rule) {
            let flow = watch.status();
            if flow.state == FlowState::Stopped {
                continue;
            }
            if rule.when == Condition::FlowFailed
                && let Some(error) = flow.error
            {
                self.find(
                    format!("flow {name}"),
                    "the flow has failed, and is tried again".to_owned(),
                    Some(error),
                );
            }
            for facts in watch.facts() {
                let table = &facts.status;
                let subject = format!("flow {name}, table {}", table.namespace);
                let error = table.error.clone();
                match &rule.when {
                    Condition::FlowFailed if table.state == FlowState::Failed => {
                        self.find(subject, "the table has failed".to_owned(), error);
                    }
                    Condition::SchemaStopped if table.state == FlowState::Waiting => {
                        let summary = "a schema change waits for approval".to_owned();
                        self.find(subject, summary, error);
                    }
                    Condition::LagAbove(most) => {
                        if let Some(lag) = table.lag_seconds
                            && lag > most.0.as_secs_f64()
                        {
                            let summary =
                                format!("the table is behind by more than {}", in_words(most.0));
                            self.find(subject, summary, error);
                        }
                    }
                    Condition::NoDataFor(most) => {
                        let since = table.changed_at.unwrap_or(facts.began_at);
                        let quiet = (Utc::now() - since).to_std().unwrap_or_default();
                        if quiet > most.0 {
                            let summary =
                                format!("the table has got no change for {}", in_words(most.0));
                            self.find(subject, summary, error);
                        }
                    }
                    Condition::RescuedValues(least) if facts.rescued_of_late >= least.get() => {
                        let summary = format!(
                            "{least} values or more did not fit their columns within an hour, and are in _rescued_data"
                        );
                        self.find(subject, summary, error);
                    }
                    _ => {}
                }
            }
        }
    }

    fn full_disks(&mut self, plan: &Plan, most: u8) {
        let lakes = plan.places.iter().filter_map(|(name, place)| match place {
            Place::Lake(path) if !path.contains("://") => {
                Some((format!("lake {name}"), Path::new(path)))
            }
            Place::Files(files) if !files.path.contains("://") => {
                Some((format!("files {name}"), Path::new(&files.path)))
            }
            _ => None,
        });
        let state = ("state".to_owned(), plan.state.as_path());
        for (subject, path) in lakes.chain([state]) {
            if let Some(share) = full(path)
                && share > most
            {
                let summary = format!("the disk is full to more than {most} percent");
                let detail = format!("{}: {share} percent", path.display());
                self.find(subject, summary, Some(detail));
            }
        }
    }
}

/// How full the disk of a directory is, in percent, as `df` says it; none where there is no such directory.
fn full(path: &Path) -> Option<u8> {
    // A lake that has no table yet is going to be where it is to be.
    let there = path.ancestors().find(|path| path.exists())?;
    let disk = rustix::fs::statvfs(there).ok()?;
    let used = disk.f_blocks.checked_sub(disk.f_bfree)?;
    // What is kept for root is of no use to anybody else.
    let usable = used.checked_add(disk.f_bavail)?;
    let share = used.saturating_mul(100).checked_div(usable)?;
    u8::try_from(share.min(100)).ok()
}
