//! Moments, as a trigger's schedule has them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use croner::Cron;
use tributary_flow::StartAt;
use tributary_model::Result;

use super::keeper::{Ended, Lane};
use super::ordered::{Attempts, ends_in_time};
use super::{OnFailure, Task, arguments};

/// How many moments that passed meanwhile are caught up on at most, the last ones.
const CAUGHT_UP: usize = 100;
/// How long is slept at most: the clock may be set meanwhile.
const NAP: Duration = Duration::from_secs(30);

/// Runs at each moment, until it ends.
pub(super) async fn run(lane: &mut Lane, cron: &Cron) -> Result<Ended> {
    let now = Utc::now();
    let mut passed = match (lane.record.passed_to, lane.record.from) {
        (Some(passed), None) => passed,
        (_, Some(StartAt::Time(from))) => from - chrono::TimeDelta::milliseconds(1),
        _ => now,
    };
    let missed = missed(cron, passed, now);
    if missed.len() > CAUGHT_UP
        && let Some(first) = missed.get(missed.len() - CAUGHT_UP)
    {
        tracing::warn!(
            trigger = lane.trigger.name,
            missed = missed.len(),
            "only the last of the moments that have passed are caught up on"
        );
        passed = *first - chrono::TimeDelta::milliseconds(1);
    }
    lane.passed(passed);
    lane.record().await?;
    loop {
        if lane.stop.is_cancelled() {
            return lane.end(Ended::Stopped).await;
        }
        if lane.was_asked() {
            return lane.end(Ended::Asked).await;
        }
        let Ok(next) = cron.find_next_occurrence(&passed, false) else {
            // There is none any more.
            lane.stop.cancelled().await;
            return lane.end(Ended::Stopped).await;
        };
        while let Ok(wait) = (next - Utc::now()).to_std()
            && !wait.is_zero()
        {
            tokio::select! {
                biased;
                () = lane.stop.cancelled() => return lane.end(Ended::Stopped).await,
                () = lane.is_asked() => return lane.end(Ended::Asked).await,
                () = tokio::time::sleep(wait.min(NAP)) => {}
            }
        }
        if let Some(ended) = at(lane, next).await? {
            return lane.end(ended).await;
        }
        passed = next;
        lane.passed(passed);
        lane.record().await?;
    }
}

/// The moments behind `from`, up to `to`; a few more than are caught up on at most.
fn missed(cron: &Cron, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let mut moments = std::collections::VecDeque::new();
    let mut last = from;
    while let Ok(next) = cron.find_next_occurrence(&last, false)
        && next <= to
    {
        moments.push_back(next);
        if moments.len() > CAUGHT_UP + 1 {
            moments.pop_front();
        }
        last = next;
    }
    moments.into()
}

/// Runs at a moment, until that succeeds or is given up on.
async fn at(lane: &mut Lane, moment: DateTime<Utc>) -> Result<Option<Ended>> {
    let subject = moment.to_rfc3339();
    let mut attempts = Attempts::default();
    for attempt in 1.. {
        let task = Task {
            run: lane.next_run(),
            arguments: arguments::none(),
        };
        let run = task.run;
        let ran = {
            let ran = lane.trigger.processor.run(task);
            ends_in_time(&lane.stop, ran).await
        };
        let Some(outcome) = ran else {
            return Ok(Some(Ended::Stopped));
        };
        let _ = lane.trigger.processor.written(run);
        lane.ran(&subject, attempt, &outcome);
        let Err(failure) = &outcome.result else {
            return Ok(None);
        };
        if let Some(wait) = attempts.failed(&outcome, &lane.trigger.policy) {
            lane.record().await?;
            tokio::select! {
                biased;
                () = lane.stop.cancelled() => return Ok(Some(Ended::Stopped)),
                () = lane.is_asked() => return Ok(Some(Ended::Asked)),
                () = tokio::time::sleep(wait) => continue,
            }
        }
        let error = failure.to_string();
        if lane.trigger.policy.on_failure == OnFailure::Suspend {
            let reason = format!("its function failed {} times: {error}", attempts.count);
            return Ok(Some(lane.suspend(reason).await?));
        }
        lane.gave_up(&subject, arguments::none(), error, attempts.count);
        return Ok(None);
    }
    Ok(None)
}
