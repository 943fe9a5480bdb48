//! What the rules find.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tributary_model::Result;

use super::Alerts;
use crate::config::{Condition, Place, Plan, Rule};
use crate::runs::in_words;
use crate::status::{FlowState, Run, RunState, TriggerState, TriggerStatus};
use crate::store::Raised;
use crate::triggers::Triggers;
use crate::watch::FlowWatch;

/// What all rules find.
pub(super) struct Found {
    /// What is the case.
    pub(super) raised: Vec<Raised>,
    /// Of what it cannot be told whether it is: where it was, it goes on.
    pub(super) unclear: Vec<Unclear>,
    /// Up to when it is known which runs have failed.
    pub(super) runs_to: DateTime<Utc>,
}

/// What a rule cannot tell of: a subject, and where that is a flow all of its tables.
pub(super) struct Unclear {
    rule: String,
    subject: String,
}

impl Unclear {
    pub(super) fn covers(&self, raised: &Raised) -> bool {
        let of_it = raised.subject.strip_prefix(&self.subject);
        let is_covered = of_it.is_some_and(|rest| rest.is_empty() || rest.starts_with(", table "));
        raised.rule == self.rule && is_covered
    }
}

impl Alerts {
    /// What is the case now, and which runs have failed since `runs_from`.
    pub(super) async fn find(&self, plan: &Plan, runs_from: DateTime<Utc>) -> Result<Found> {
        let of_runs = |rule: &Rule| rule.when == Condition::RunFailed;
        let (results, runs_to) = match plan.rules.values().any(of_runs) {
            true => {
                let jobs: Vec<String> = plan.jobs.keys().cloned().collect();
                // One that failed is told also where another has succeeded since.
                let failed = self.store.failed_since(jobs.clone(), runs_from).await?;
                let (mut results, runs_to) = failed;
                results.extend(self.store.last_results(jobs).await?);
                (results, runs_to)
            }
            false => (Vec::new(), Utc::now()),
        };
        let mut found = Found {
            raised: Vec::new(),
            unclear: Vec::new(),
            runs_to,
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
                _ => finds.flows(plan, self, rule),
            }
        }
        Ok(found)
    }

    fn watches(&self, rule: &Rule) -> Vec<(String, Arc<FlowWatch>)> {
        let mut watches = self.flows.watches();
        watches.retain(|(name, _)| is_of_flow(rule, name));
        watches
    }
}

/// Whether a rule is about a flow, if it is about flows.
fn is_of_flow(rule: &Rule, name: &str) -> bool {
    rule.flows.is_empty() || rule.flows.iter().any(|pattern| pattern.matches(name))
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
    found: &'a mut Found,
}

impl Finds<'_> {
    fn find(&mut self, subject: String, summary: String, detail: Option<String>) {
        self.found.raised.push(Raised {
            rule: self.rule.to_owned(),
            subject,
            summary,
            detail,
        });
    }

    fn cannot_tell(&mut self, subject: String) {
        self.found.unclear.push(Unclear {
            rule: self.rule.to_owned(),
            subject,
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
        let mut windows: BTreeMap<String, Option<u64>> = BTreeMap::new();
        for (_, watch) in alerts.watches(rule) {
            let Some(source) = watch.source() else {
                continue;
            };
            let remembered = source.oplog_window_seconds;
            // What has not been seen to forget may remember more, unless it remembers enough.
            let window = watch
                .window()
                .or(remembered.filter(|w| *w >= least.as_secs()));
            let is_asked = watch.status().state != FlowState::Stopped;
            if window.is_some() || is_asked {
                let known = windows.entry(source.name).or_default();
                // Where flows differ, the least is told.
                *known = [*known, window].into_iter().flatten().min();
            }
        }
        let mut short = Vec::new();
        for (source, window) in windows {
            match window {
                Some(window) if window < least.as_secs() => short.push((source, window)),
                Some(_) => {}
                None => self.cannot_tell(format!("source {source}")),
            }
        }
        for (source, window) in short {
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

    fn flows(&mut self, plan: &Plan, alerts: &Alerts, rule: &Rule) {
        let watches = alerts.watches(rule);
        for name in plan.flows.keys() {
            let is_watched = watches.iter().any(|(watched, _)| watched == name);
            // Another configuration has it end, and begin anew.
            if is_of_flow(rule, name) && !is_watched {
                self.cannot_tell(format!("flow {name}"));
            }
        }
        for (name, watch) in watches {
            let flow = watch.status();
            if flow.state == FlowState::Stopped {
                continue;
            }
            let is_down = flow.state == FlowState::Retrying && flow.error.is_some();
            if is_down || flow.state == FlowState::Starting {
                self.cannot_tell(format!("flow {name}"));
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
                if table.state == FlowState::Starting {
                    self.cannot_tell(subject.clone());
                }
                match &rule.when {
                    Condition::FlowFailed if table.state == FlowState::Failed => {
                        self.find(subject, "the table has failed".to_owned(), error);
                    }
                    // It is over when the table follows, and not while it is being tried again.
                    Condition::FlowFailed
                        if matches!(table.state, FlowState::Loading | FlowState::Retrying) =>
                    {
                        self.cannot_tell(subject);
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
                        } else if table.changed_at.is_none() {
                            // When the last one came is not remembered over restarts.
                            self.cannot_tell(subject);
                        }
                    }
                    Condition::RescuedValues(least) if facts.rescued_of_late >= least.get() => {
                        let summary = format!(
                            "{least} values or more did not fit their columns within an hour, and are in _rescued_data"
                        );
                        self.find(subject, summary, error);
                    }
                    // Those from before a restart are not counted.
                    Condition::RescuedValues(_)
                        if Utc::now() - facts.began_at < TimeDelta::hours(1) =>
                    {
                        self.cannot_tell(subject);
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
