//! Triggers, their dead letters and runs of functions: what is known of them, and what can be asked of them
//! by hand. Who runs them sees in the store what was asked, in this process or another.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use tributary_convert::extjson::{self, Mode};
use tributary_convert::raw::{MalformedBson, RawElements};
use tributary_flow::{StartAt, TriggerState as Remains};
use tributary_model::{Error, ErrorKind, Position, Result};

use crate::config::{Occasion, Plan, Trigger};
use crate::engine::{Activity, KnownTrigger, LiveTrigger, TriggerHost};
use crate::status::{
    DeadLetterDetail, DeadLetterStatus, FunctionRunDetail, FunctionRunFilter, FunctionRunStatus,
    LetterFilter, Letters, TriggerKind, TriggerState, TriggerStatus,
};
use crate::store::{Ask, Remembered, Store};

/// Triggers that there are, and those that are remembered.
pub struct Triggers {
    known: BTreeMap<String, (KnownTrigger, Option<Activity>)>,
    store: Store,
}

impl KnownTrigger {
    /// A trigger of the file that has no application. Its function is called as its file, without what
    /// comes behind the dot.
    #[must_use]
    pub fn of(trigger: &Trigger) -> Self {
        let (kind, watches, next_at) = match &trigger.occasion {
            Occasion::Changes(changes) => (TriggerKind::Database, changes.place(), None),
            Occasion::Moments { text, cron } => {
                let next = cron.find_next_occurrence(&Utc::now(), false).ok();
                (TriggerKind::Scheduled, text.clone(), next)
            }
        };
        let function = trigger.function.file_stem().unwrap_or_default();
        Self {
            name: trigger.name.clone(),
            app: None,
            kind,
            function: function.to_string_lossy().into_owned(),
            source: trigger.source.as_ref().map(|source| source.name.clone()),
            watches,
            is_disabled: trigger.is_disabled(),
            hides_arguments: false,
            next_at,
        }
    }
}

impl Triggers {
    /// Those that are known, of which nothing runs in this process.
    #[must_use]
    pub fn new(known: Vec<KnownTrigger>, store: Store) -> Self {
        let known = known.into_iter();
        Self {
            known: known
                .map(|trigger| (trigger.name.clone(), (trigger, None)))
                .collect(),
            store,
        }
    }

    /// Those that this process runs, or where it runs none, those of the plan without an application.
    pub(crate) fn of(plan: &Plan, host: Option<&dyn TriggerHost>, store: &Store) -> Self {
        let Some(host) = host else {
            let known = plan.triggers.values().map(KnownTrigger::of).collect();
            return Self::new(known, store.clone());
        };
        let live = host.live().into_iter();
        Self {
            known: live
                .map(|LiveTrigger { trigger, activity }| {
                    (trigger.name.clone(), (trigger, Some(activity)))
                })
                .collect(),
            store: store.clone(),
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.known.len()
    }

    /// What those do that run in this process.
    pub(crate) fn activities(&self) -> impl Iterator<Item = (&str, &Activity)> {
        let activities = self.known.iter();
        activities.filter_map(|(name, (_, activity))| Some((name.as_str(), activity.as_ref()?)))
    }

    /// All triggers, by name, those that are only remembered included.
    ///
    /// # Errors
    /// The state cannot be used.
    pub async fn list(&self) -> Result<Vec<TriggerStatus>> {
        let remembered = self.store.triggers().await?.into_iter();
        let mut remembered: BTreeMap<String, Remembered> = remembered
            .map(|trigger| (trigger.name.clone(), trigger))
            .collect();
        let mut all: Vec<TriggerStatus> = self
            .known
            .iter()
            .map(|(name, (trigger, activity))| {
                let memory = remembered.remove(name);
                status(trigger, activity.as_ref(), memory.as_ref())
            })
            .collect();
        all.extend(remembered.values().map(gone));
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    /// One trigger.
    ///
    /// # Errors
    /// There is no such trigger, or the state cannot be used.
    pub async fn show(&self, name: &str) -> Result<TriggerStatus> {
        let all = self.list().await?;
        let found = all.into_iter().find(|trigger| trigger.name == name);
        found.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "there is no such trigger")
                .on("trigger", name)
                .remedy("`tributary trigger list` shows those there are; those of an app are called app/trigger")
        })
    }

    /// Has a trigger wait until it is resumed.
    ///
    /// # Errors
    /// There is no such trigger, or the state cannot be used.
    pub async fn pause(&self, name: &str) -> Result<TriggerStatus> {
        self.show(name).await?;
        self.store.ask_trigger(name, Ask::Pause).await?;
        self.show(name).await
    }

    /// Has a trigger go on that is paused or suspended. One that runs goes on.
    ///
    /// # Errors
    /// There is no such trigger, the configuration disables it, or the state cannot be used.
    pub async fn resume(&self, name: &str) -> Result<TriggerStatus> {
        self.check_enabled(name).await?;
        self.store.ask_trigger(name, Ask::Resume).await?;
        self.show(name).await
    }

    /// Has a trigger run for all that happened from a moment on, again where it has. One that is suspended
    /// is resumed; one that is paused begins there when it is.
    ///
    /// # Errors
    /// There is no such trigger, the configuration disables it, the moment has not come, or the state cannot
    /// be used.
    pub async fn replay(&self, name: &str, from: DateTime<Utc>) -> Result<TriggerStatus> {
        self.check_enabled(name).await?;
        if from > Utc::now() {
            return Err(Error::new(ErrorKind::Usage, "that moment has not come yet")
                .on("from", from.to_rfc3339())
                .remedy("name a moment that has passed"));
        }
        let ask = Ask::Replay(StartAt::Time(from));
        self.store.ask_trigger(name, ask).await?;
        self.show(name).await
    }

    async fn check_enabled(&self, name: &str) -> Result<()> {
        if self.show(name).await?.state != TriggerState::Disabled {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Conflict,
            "the configuration disables the trigger",
        )
        .on("trigger", name)
        .remedy("enable it there, and have the configuration read again"))
    }

    /// Dead letters, the newest first.
    ///
    /// # Errors
    /// The state cannot be used.
    pub async fn dead_letters(&self, filter: LetterFilter) -> Result<Vec<DeadLetterStatus>> {
        self.store.dead_letters(filter).await
    }

    /// One dead letter, with what its function was called with, unless that is not to be shown.
    ///
    /// # Errors
    /// There is no such dead letter, or the state cannot be used.
    pub async fn dead_letter(&self, id: &str) -> Result<DeadLetterDetail> {
        let Some((letter, arguments)) = self.store.dead_letter(id).await? else {
            return Err(no_letter(id));
        };
        let trigger = self.known.get(&letter.trigger);
        if trigger.is_some_and(|(trigger, _)| trigger.hides_arguments) {
            let arguments = Vec::new();
            return Ok(DeadLetterDetail { letter, arguments });
        }
        let arguments = values(&arguments).map_err(|error| {
            Error::new(ErrorKind::InvalidData, "a dead letter cannot be read")
                .on("dead letter", id)
                .because(error)
                .remedy("discard it")
        })?;
        Ok(DeadLetterDetail { letter, arguments })
    }

    /// Has dead letters be tried again: those that succeed are gone. Answers how many.
    ///
    /// # Errors
    /// There is no such dead letter, and none is tried, or the state cannot be used.
    pub async fn replay_dead_letters(&self, letters: Letters) -> Result<usize> {
        self.store
            .ask_letters(letters)
            .await?
            .map_err(|id| no_letter(&id))
    }

    /// Forgets dead letters. Answers how many.
    ///
    /// # Errors
    /// There is no such dead letter, and none is forgotten, or the state cannot be used.
    pub async fn discard_dead_letters(&self, letters: Letters) -> Result<usize> {
        self.store
            .discard_letters(letters)
            .await?
            .map_err(|id| no_letter(&id))
    }

    /// Runs of functions, the newest first.
    ///
    /// # Errors
    /// The state cannot be used.
    pub async fn function_runs(&self, filter: FunctionRunFilter) -> Result<Vec<FunctionRunStatus>> {
        self.store.function_runs(filter).await
    }

    /// One run of a function, with what it wrote.
    ///
    /// # Errors
    /// There is no such run, or the state cannot be used.
    pub async fn function_run(&self, id: &str) -> Result<FunctionRunDetail> {
        let found = self.store.function_run(id).await?;
        found.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "there is no such run of a function")
                .on("run", id)
                .remedy("`tributary trigger runs` lists those that are remembered")
        })
    }
}

fn no_letter(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, "there is no such dead letter")
        .on("dead letter", id)
        .remedy("`tributary trigger dlq list` shows those there are")
}

fn status(
    trigger: &KnownTrigger,
    activity: Option<&Activity>,
    memory: Option<&Remembered>,
) -> TriggerStatus {
    let failure = activity.and_then(|activity| activity.failure.clone());
    let remains = memory.map(|memory| memory.record.state.clone());
    let (state, reason) = match (trigger.is_disabled, remains.unwrap_or_default(), failure) {
        (true, _, _) => (TriggerState::Disabled, None),
        (_, Remains::Paused, _) => (TriggerState::Paused, None),
        (_, Remains::Suspended { reason }, _) => (TriggerState::Suspended, Some(reason)),
        (_, Remains::Running, Some(failure)) => (TriggerState::Failed, Some(failure)),
        (_, Remains::Running, None) => (TriggerState::Running, None),
    };
    let runs = matches!(state, TriggerState::Running | TriggerState::Failed);
    let lag = activity.and_then(|activity| activity.lag);
    TriggerStatus {
        app: trigger.app.clone(),
        kind: trigger.kind,
        function: Some(trigger.function.clone()),
        source: trigger.source.clone(),
        watches: Some(trigger.watches.clone()),
        state,
        reason,
        lag_seconds: lag.map(|lag| lag.as_secs_f64()),
        queued: activity.map(|activity| activity.queued),
        in_flight: activity.map(|activity| activity.in_flight),
        next_at: trigger.next_at.filter(|_| runs),
        ..remembered(&trigger.name, trigger.kind, memory)
    }
}

/// A trigger that is not in the configuration any more.
fn gone(memory: &Remembered) -> TriggerStatus {
    let kind = match memory.record.passed_to {
        Some(_) => TriggerKind::Scheduled,
        None => TriggerKind::Database,
    };
    remembered(&memory.name, kind, Some(memory))
}

/// What is remembered of a trigger, and nothing else.
fn remembered(name: &str, kind: TriggerKind, memory: Option<&Remembered>) -> TriggerStatus {
    let record = memory.map(|memory| &memory.record);
    let place = record.and_then(|record| {
        let of_changes = record.position.as_ref().and_then(moment);
        record.passed_to.or(of_changes)
    });
    TriggerStatus {
        name: name.to_owned(),
        app: name.split_once('/').map(|(app, _)| app.to_owned()),
        kind,
        function: None,
        source: None,
        watches: None,
        state: TriggerState::Gone,
        reason: None,
        position_at: place,
        replays_from: record.and_then(|record| match record.from {
            Some(StartAt::Time(from)) => Some(from),
            Some(StartAt::Now) | None => None,
        }),
        lag_seconds: None,
        queued: None,
        in_flight: None,
        succeeded: memory.map_or(0, |memory| memory.succeeded),
        failed: memory.map_or(0, |memory| memory.failed),
        dead_letters: memory.map_or(0, |memory| memory.dead_letters),
        last_run_at: memory.and_then(|memory| memory.last_run_at),
        last_error: memory.and_then(|memory| memory.last_error.clone()),
        next_at: None,
    }
}

fn moment(position: &Position) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(i64::from(position.cluster_time.seconds()), 0)
}

/// The values of the array `v` of a document of raw BSON, as relaxed Extended JSON.
fn values(document: &[u8]) -> Result<Vec<serde_json::Value>, MalformedBson> {
    let Some(array) = RawElements::new(document)?.next().transpose()? else {
        return Ok(Vec::new());
    };
    let mut values = Vec::new();
    for element in RawElements::new(array.value)? {
        let mut text = Vec::new();
        extjson::write_value(&mut text, &element?, Mode::Relaxed)?;
        // It has just been written as JSON. Where a number has no place in a value it is a text.
        let value = serde_json::from_slice(&text)
            .unwrap_or_else(|_| String::from_utf8_lossy(&text).into_owned().into());
        values.push(value);
    }
    Ok(values)
}
