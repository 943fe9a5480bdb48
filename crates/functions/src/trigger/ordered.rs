//! Events that run one after the other.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tributary_flow::RawEvent;
use tributary_model::{Position, Result};

use super::keeper::Ended;
use super::lane::Lane;
use super::recursion::Chain;
use super::stream::Delivery;
use super::{OnFailure, Task, arguments};
use crate::script::{FailureKind, Outcome};

/// The most events that are handed over together: enough to make a hand-over cheap, few enough to be
/// stopped between.
const TOGETHER: usize = 256;
/// The most bytes of them.
const TOGETHER_BYTES: usize = 8 << 20;
/// How long those that are handed over together are to take: so long a pause or an end waits for them.
const TOGETHER_TIME: Duration = Duration::from_millis(50);

/// Runs what is delivered, until it ends.
pub(super) async fn run(
    lane: &mut Lane,
    mut deliveries: mpsc::Receiver<Result<Delivery>>,
) -> Result<Ended> {
    loop {
        let due = tokio::time::Instant::from_std(lane.journal.due_at());
        let delivery = tokio::select! {
            biased;
            () = lane.stop.cancelled() => return lane.end(Ended::Stopped).await,
            () = lane.is_asked() => return lane.end(Ended::Asked).await,
            delivery = deliveries.recv() => delivery,
            () = tokio::time::sleep_until(due), if lane.is_dirty => {
                lane.record().await?;
                continue;
            }
        };
        let Some(delivery) = delivery else {
            return lane.end(Ended::Again).await;
        };
        let delivery = match delivery {
            Ok(delivery) => delivery,
            Err(error) => {
                lane.end(Ended::Again).await?;
                return Err(error);
            }
        };
        lane.hears(delivery.present);
        let mut waiting: VecDeque<RawEvent> = delivery.events.into();
        while !waiting.is_empty() {
            lane.live.queued.store(waiting.len(), Ordering::Relaxed);
            lane.live
                .oldest(waiting.front().map(|event| event.wall_time));
            if lane.stop.is_cancelled() {
                return lane.end(Ended::Stopped).await;
            }
            if lane.was_asked() {
                return lane.end(Ended::Asked).await;
            }
            if let Some(ended) = run_some(lane, &mut waiting, &delivery.position).await? {
                return lane.end(ended).await;
            }
            if lane.journal.is_due() {
                lane.record().await?;
            }
        }
        lane.live.queued.store(0, Ordering::Relaxed);
        lane.live.oldest(None);
        lane.reaches(delivery.position);
        if deliveries.is_empty() && lane.journal.is_due() {
            lane.record().await?;
        }
    }
}

/// Runs the first of the events that wait.
async fn run_some(
    lane: &mut Lane,
    waiting: &mut VecDeque<RawEvent>,
    reached: &Position,
) -> Result<Option<Ended>> {
    let place = match lane.turn().await {
        Ok(place) => place,
        Err(ended) => return Ok(Some(ended)),
    };
    let mut tasks = Vec::new();
    let mut chains = Vec::new();
    let mut bytes = 0;
    let now = Instant::now();
    for event in waiting.iter().take(together(lane.pace)) {
        bytes += event.document.len();
        if bytes > TOGETHER_BYTES && !tasks.is_empty() {
            break;
        }
        let task = Task {
            run: lane.next_run(),
            arguments: arguments::of_event(&event.document),
        };
        let key = arguments::key_of_event(&event.document);
        let chain = lane.recursion.begins(key, event.cluster_time, now);
        chains.push((task.run, chain));
        tasks.push(task);
    }
    lane.live.in_flight.store(1, Ordering::Relaxed);
    let outcomes = {
        let ran = lane.trigger.processor.run_in_order(tasks);
        ends_in_time(&lane.stop, ran).await
    };
    drop(place);
    lane.live.in_flight.store(0, Ordering::Relaxed);
    let Some(outcomes) = outcomes else {
        return Ok(Some(Ended::Stopped));
    };
    if let Some(last) = outcomes.last() {
        lane.pace = last.duration;
    }
    for (outcome, (run, chain)) in outcomes.iter().zip(chains) {
        let Some(event) = waiting.front() else { break };
        lane.ran(&event.token, 1, outcome);
        let written = lane.trigger.processor.written(run);
        let endless = lane.recursion.wrote(chain, &written, Instant::now());
        if outcome.result.is_err() {
            let failed = Failed {
                event: event.clone(),
                chain,
                outcome: outcome.clone(),
                endless,
            };
            return try_again(lane, failed, waiting, reached).await;
        }
        let passed = waiting.pop_front();
        if let Some(event) = passed {
            lane.reaches(behind(&event, reached));
        }
        if let Err(reason) = endless {
            return Ok(Some(lane.suspend(reason).await?));
        }
    }
    Ok(None)
}

/// An event whose first try has failed.
struct Failed {
    event: RawEvent,
    chain: Chain,
    outcome: Outcome,
    /// An error where it belongs to a chain that does not end.
    endless: Result<(), String>,
}

/// Tries the first of the events that wait, which has failed, until it succeeds or is given up on.
async fn try_again(
    lane: &mut Lane,
    failed: Failed,
    waiting: &mut VecDeque<RawEvent>,
    reached: &Position,
) -> Result<Option<Ended>> {
    let Failed {
        event,
        chain,
        mut outcome,
        mut endless,
    } = failed;
    let mut attempts = Attempts::default();
    while let Some(wait) = attempts.failed(&outcome, &lane.trigger.policy) {
        // What was done before is not to be repeated for this event's sake.
        lane.record().await?;
        tokio::select! {
            biased;
            () = lane.stop.cancelled() => return Ok(Some(Ended::Stopped)),
            () = lane.is_asked() => return Ok(Some(Ended::Asked)),
            () = tokio::time::sleep(wait) => {}
        }
        let task = Task {
            run: lane.next_run(),
            arguments: arguments::of_event(&event.document),
        };
        let run = task.run;
        let place = match lane.turn().await {
            Ok(place) => place,
            Err(ended) => return Ok(Some(ended)),
        };
        lane.live.in_flight.store(1, Ordering::Relaxed);
        let ran = {
            let ran = lane.trigger.processor.run(task);
            ends_in_time(&lane.stop, ran).await
        };
        drop(place);
        lane.live.in_flight.store(0, Ordering::Relaxed);
        let Some(ran) = ran else {
            return Ok(Some(Ended::Stopped));
        };
        outcome = ran;
        lane.ran(&event.token, attempts.count + 1, &outcome);
        let written = lane.trigger.processor.written(run);
        endless = endless.and(lane.recursion.wrote(chain, &written, Instant::now()));
    }
    if let Err(failure) = &outcome.result {
        let error = failure.to_string();
        if lane.trigger.policy.on_failure == OnFailure::Suspend {
            let reason = format!("its function failed {} times: {error}", attempts.count);
            return Ok(Some(lane.suspend(reason).await?));
        }
        lane.gave_up(
            &event.token,
            arguments::of_event(&event.document),
            error,
            attempts.count,
        );
    }
    waiting.pop_front();
    lane.reaches(behind(&event, reached));
    match endless {
        Ok(()) => Ok(None),
        Err(reason) => Ok(Some(lane.suspend(reason).await?)),
    }
}

/// How many events are handed over together when the last one took so long.
fn together(pace: Duration) -> usize {
    let many = TOGETHER_TIME.as_nanos() / pace.as_nanos().max(1);
    usize::try_from(many).unwrap_or(TOGETHER).clamp(1, TOGETHER)
}

/// What runs, unless it goes on for longer than is waited for at the end: it is given up then, and begun again by
/// the next process.
pub(super) async fn ends_in_time<T>(
    stop: &CancellationToken,
    runs: impl Future<Output = T>,
) -> Option<T> {
    let given_up = async {
        stop.cancelled().await;
        tokio::time::sleep(PATIENCE).await;
    };
    tokio::select! {
        biased;
        done = runs => Some(done),
        () = given_up => None,
    }
}

/// How long runs that have begun are waited for at the end.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How often something has failed.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// Tries that count.
    pub(super) count: u32,
    /// Tries that ended through no fault of the function.
    lost: u32,
}

/// How often what another run has ended is tried again: it may be this one that ends others.
const LOST: u32 = 5;

/// How long to wait before what has ended through no fault of its own is tried again.
pub(super) fn soon(policy: &super::Policy) -> Duration {
    policy.wait_after(1).min(Duration::from_secs(1))
}

impl Attempts {
    /// A try has failed: how long to wait before the next; none where it is of no use.
    pub(super) fn failed(&mut self, outcome: &Outcome, policy: &super::Policy) -> Option<Duration> {
        let kind = match &outcome.result {
            Ok(_) => return None,
            Err(failure) => failure.kind,
        };
        if kind == FailureKind::Lost && self.lost < LOST {
            self.lost += 1;
            return Some(soon(policy));
        }
        self.count += 1;
        // What it did is done, and it would return the same.
        let is_final = matches!(kind, FailureKind::NotLoaded | FailureKind::BadResult);
        (!is_final && self.count <= policy.retries).then(|| policy.wait_after(self.count))
    }
}

/// The position right behind an event, in the stream of `reached`.
pub(super) fn behind(event: &RawEvent, reached: &Position) -> Position {
    Position {
        cluster_time: event.cluster_time,
        resume_token: Some(event.token.clone()),
        ..reached.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fast_functions_are_handed_many_events_and_slow_ones_one() {
        assert_eq!(together(Duration::ZERO), TOGETHER);
        assert_eq!(together(Duration::from_micros(5)), TOGETHER);
        assert_eq!(together(Duration::from_millis(1)), 50);
        assert_eq!(together(Duration::from_secs(1)), 1);
    }
}
