//! Moments, as a trigger's schedule has them.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, Utc};
use croner::Cron;
use tributary_flow::StartAt;
use tributary_model::Result;

use super::keeper::Ended;
use super::lane::Lane;
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

/// The last of the moments behind `from`, up to `to`: one more than are caught up on, at most.
fn missed(cron: &Cron, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let mut moments = VecDeque::new();
    let mut last = cron.find_previous_occurrence(&to, true);
    while let Ok(moment) = last
        && moment > from
        && moments.len() <= CAUGHT_UP
    {
        moments.push_front(moment);
        last = cron.find_previous_occurrence(&moment, false);
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
            let _place = match lane.turn().await {
                Ok(place) => place,
                Err(ended) => return Ok(Some(ended)),
            };
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

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    fn at(moment: &str) -> DateTime<Utc> {
        moment.parse().unwrap()
    }

    #[test]
    fn the_last_of_the_moments_that_passed_are_found_from_behind() {
        let (from, to) = (at("2026-01-01T00:00:00Z"), at("2026-03-01T12:00:00.5Z"));
        for pattern in ["0 12 * * *", "*/30 9 * * MON", "0 0 29 2 *", "0 12 1 3 *"] {
            let cron = Cron::from_str(pattern).unwrap();
            let expected: Vec<_> = cron
                .iter_after(from)
                .take_while(|moment| *moment <= to)
                .collect();
            assert_eq!(missed(&cron, from, to), expected, "{pattern}");
        }
    }

    #[test]
    fn no_more_moments_are_looked_for_than_are_caught_up_on() {
        let every_minute = Cron::from_str("* * * * *").unwrap();
        let to = at("2026-03-01T12:00:30Z");
        let found = missed(&every_minute, DateTime::UNIX_EPOCH, to);
        assert_eq!(found.len(), CAUGHT_UP + 1);
        assert_eq!(found.last(), Some(&at("2026-03-01T12:00:00Z")));
        assert_eq!(found.first(), Some(&at("2026-03-01T10:20:00Z")));
    }
}
