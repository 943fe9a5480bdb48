//! Schedules: which moments of a cron pattern have come, and which of them a job runs for.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, TimeDelta, TimeZone as _, Timelike as _, Utc};
use chrono_tz::Tz;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

use crate::config::{CatchUp, Job, Plan, Schedule};
use crate::runs;
use crate::status::{Cause, Notice};
use crate::store::Store;

/// How late a run may begin that is not caught up on: a machine may be busy.
const PUNCTUAL: Duration = Duration::from_secs(60);
/// How many moments are caught up on, at most.
const MOST_CAUGHT_UP: usize = 100;
/// The longest time between two looks at the clock, which may be put forward.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Schedule {
    /// What tells it from others.
    fn pattern(&self) -> String {
        format!("{} {}", self.text, self.time_zone.name())
    }

    /// The next moment after `after`.
    pub(crate) fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.names_times() {
            return self.next_named(after);
        }
        let after = after.with_timezone(&self.time_zone);
        let next = self.cron.find_next_occurrence(&after, false).ok()?;
        Some(next.with_timezone(&Utc))
    }

    /// Whether it names times of the day: such a time comes once a day, also where the clock leaves it out or
    /// has it twice. Those of patterns with `*` or a step come as often as the clock shows them.
    fn names_times(&self) -> bool {
        let pattern = &self.cron.pattern;
        let mut fields = [&pattern.hours, &pattern.minutes, &pattern.seconds].into_iter();
        fields.all(|field| field.step == 1 && !field.from_wildcard)
    }

    /// The next moment of a pattern that names times.
    fn next_named(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // The clock as if it were never put forward or back.
        let mut clock = after.with_timezone(&self.time_zone).naive_local().and_utc();
        loop {
            clock = self.cron.find_next_occurrence(&clock, false).ok()?;
            let next = first_of(self.time_zone, clock.naive_utc())?;
            // Times that come a second time have been dealt with.
            if next > after {
                return Some(next);
            }
        }
    }

    /// The moments for which a job is to run, and the last of all that have come since `passed`.
    pub(crate) fn due(
        &self,
        passed: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Option<(Vec<Cause>, DateTime<Utc>)> {
        let mut moments = std::collections::VecDeque::new();
        let (mut missed, mut last) = (0_u64, passed);
        while let Some(next) = self.next(last).filter(|next| *next <= now && *next > last) {
            moments.push_back(next);
            if moments.len() > MOST_CAUGHT_UP {
                moments.pop_front();
            }
            missed += 1;
            last = next;
        }
        let latest = *moments.back()?;
        let at = |due_at, missed| Cause::Schedule { due_at, missed };
        let is_punctual = (now - latest).to_std().unwrap_or_default() <= PUNCTUAL;
        let due = match self.catch_up {
            CatchUp::Last => vec![at(latest, missed - 1)],
            CatchUp::All => moments.into_iter().map(|moment| at(moment, 0)).collect(),
            CatchUp::Skip if is_punctual => vec![at(latest, 0)],
            CatchUp::Skip => Vec::new(),
        };
        Some((due, latest))
    }
}

/// When a clock shows a time first; where it leaves the time out, when it shows the first one behind it.
fn first_of(zone: Tz, time: NaiveDateTime) -> Option<DateTime<Utc>> {
    if let Some(at) = zone.from_local_datetime(&time).earliest() {
        return Some(at.to_utc());
    }
    // Clocks are put forward by whole minutes, and never by more than a day.
    let minute = time.with_second(0)?.with_nanosecond(0)?;
    (1..=24 * 60).find_map(|minutes| {
        let later = minute + TimeDelta::minutes(minutes);
        let at = zone.from_local_datetime(&later).earliest()?;
        Some(at.to_utc())
    })
}

/// Has jobs run when it is time, until stopped.
pub(crate) async fn serve(
    store: Store,
    plan: impl Fn() -> Arc<Plan>,
    notices: broadcast::Sender<Notice>,
    wake: Arc<Notify>,
    stop: CancellationToken,
) {
    // Up to when the moments of each job's pattern have been dealt with.
    let mut passed: BTreeMap<String, (String, DateTime<Utc>)> = BTreeMap::new();
    // The jobs whose schedules are remembered.
    let mut kept: Option<Vec<String>> = None;
    while !stop.is_cancelled() {
        let plan = plan();
        let scheduled = plan.jobs.iter().filter(|(_, job)| job.schedule.is_some());
        let scheduled: Vec<String> = scheduled.map(|(name, _)| name.clone()).collect();
        if kept.as_ref() != Some(&scheduled) {
            passed.retain(|name, _| scheduled.contains(name));
            match store.keep_schedules(scheduled.clone()).await {
                Ok(()) => kept = Some(scheduled),
                Err(error) => tracing::error!(%error, "cannot forget schedules that are gone"),
            }
        }
        for (name, job) in &plan.jobs {
            let Some(schedule) = &job.schedule else {
                continue;
            };
            if let Err(error) =
                look(&store, name, job, schedule, &mut passed, &notices, &wake).await
            {
                tracing::error!(job = name, %error, "cannot see whether it is time for a job");
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

async fn look(
    store: &Store,
    name: &str,
    job: &Job,
    schedule: &Schedule,
    passed: &mut BTreeMap<String, (String, DateTime<Utc>)>,
    notices: &broadcast::Sender<Notice>,
    wake: &Notify,
) -> tributary_model::Result<()> {
    let pattern = schedule.pattern();
    let since = match passed.get(name) {
        Some((known, since)) if *known == pattern => *since,
        _ => store.passed_to(name, &pattern).await?,
    };
    passed.insert(name.to_owned(), (pattern.clone(), since));
    let Some((due, to)) = schedule.due(since, Utc::now()) else {
        return Ok(());
    };
    let request = runs::request(name, job);
    let enqueued = store.pass(request, pattern.clone(), due, to).await?;
    passed.insert(name.to_owned(), (pattern, to));
    for enqueued in enqueued {
        tracing::info!(job = name, run = enqueued.run.id, "it is time for a job");
        let _ = notices.send(Notice::Run(enqueued.run));
    }
    wake.notify_one();
    Ok(())
}
