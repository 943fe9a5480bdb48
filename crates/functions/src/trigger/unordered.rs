//! Events that run side by side.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tributary_flow::RawEvent;
use tributary_model::{Position, Result};

use super::keeper::{Ended, Runs};
use super::lane::Lane;
use super::ordered::{Attempts, PATIENCE, behind, soon};
use super::recursion::Chain;
use super::room::{Place, Room, may_be_of_others};
use super::stream::Delivery;
use super::{OnFailure, Policy, Processor, Task, arguments};
use crate::script::Outcome;

/// How many events may have begun behind one that has not ended.
const BEHIND: usize = 10_000;

/// Events that have begun, in their order, and which of them have ended.
#[derive(Debug, Default)]
pub(super) struct Begun {
    events: VecDeque<(u64, String, i64, Position)>,
    ended: HashSet<u64>,
    next: u64,
    head: Option<String>,
    /// How large those are together that run.
    bytes: usize,
}

impl Begun {
    fn begin(&mut self, event: &RawEvent, reached: &Position) -> u64 {
        let number = self.next;
        self.next += 1;
        self.head = Some(event.token.clone());
        self.bytes += event.document.len();
        let position = behind(event, reached);
        self.events
            .push_back((number, event.token.clone(), event.wall_time, position));
        number
    }

    /// An event has ended; answers the position up to which all have, where that is another now.
    fn end(&mut self, number: u64) -> Option<Position> {
        self.ended.insert(number);
        let mut reached = None;
        while let Some((number, ..)) = self.events.front() {
            if !self.ended.remove(number) {
                break;
            }
            reached = self.events.pop_front().map(|(_, _, _, position)| position);
        }
        reached
    }

    fn oldest(&self) -> Option<i64> {
        self.events.front().map(|(_, _, wall_time, _)| *wall_time)
    }

    /// The tokens of those that have not ended.
    fn unfinished(&self) -> Vec<String> {
        self.events
            .iter()
            .filter(|(number, ..)| !self.ended.contains(number))
            .map(|(_, token, ..)| token.clone())
            .collect()
    }
}

/// An event that begins.
struct Beginning {
    number: u64,
    event: RawEvent,
    chain: Chain,
    place: Place,
}

/// An event that has ended, with all its tries.
struct Tried {
    number: u64,
    event: RawEvent,
    chain: Chain,
    /// Each with the run that it was.
    outcomes: Vec<(u64, Outcome)>,
    attempts: u32,
    /// It was given up before its time, and is to be run again.
    is_cut_short: bool,
}

/// Runs what is delivered, until it ends.
pub(super) async fn run(
    lane: &mut Lane,
    mut deliveries: mpsc::Receiver<Result<Delivery>>,
) -> Result<Ended> {
    let mut begun = Begun::default();
    // What an earlier process had begun beyond its position, and ended.
    let mut earlier = Earlier::of(lane);
    let mut waiting: VecDeque<RawEvent> = VecDeque::new();
    let mut reached: Option<Position> = None;
    let mut running = FuturesUnordered::new();
    // What waits to be tried again ends at once where nothing more is to be begun.
    let hurry = CancellationToken::new();
    let tries = Tries {
        processor: Arc::clone(&lane.trigger.processor),
        policy: lane.trigger.policy.clone(),
        runs: Arc::clone(&lane.runs),
        room: lane.room().clone(),
        hurry: hurry.clone(),
    };
    let most_bytes = lane.trigger.policy.bytes_in_flight;
    // A place that was waited for.
    let mut place: Option<Place> = None;
    let mut failure = None;
    let mut ended = loop {
        let mut is_full = false;
        while let (Some(event), Some(reached)) = (waiting.front(), &reached) {
            let is_room = begun.events.len() < BEHIND
                && (running.is_empty() || begun.bytes + event.document.len() <= most_bytes);
            if !is_room {
                break;
            }
            let Some(free) = place.take().or_else(|| tries.room.try_enter()) else {
                is_full = true;
                break;
            };
            let Some(event) = waiting.pop_front() else {
                break;
            };
            if earlier.has_ended(&event) {
                place = Some(free);
                continue;
            }
            earlier.unfinished.remove(&event.token);
            let key = arguments::key_of_event(&event.document);
            let chain = lane
                .recursion
                .begins(key, event.cluster_time, Instant::now());
            running.push(tries.clone().until_done(Beginning {
                number: begun.begin(&event, reached),
                event,
                chain,
                place: free,
            }));
        }
        if !is_full {
            // It is for dead letters meanwhile.
            place = None;
        }
        lane.live.queued.store(waiting.len(), Ordering::Relaxed);
        lane.live.in_flight.store(running.len(), Ordering::Relaxed);
        lane.live.oldest(begun.oldest());
        if waiting.is_empty()
            && running.is_empty()
            && let Some(reached) = reached.take()
        {
            begun.head = None;
            lane.reaches(reached);
        }
        let due = tokio::time::Instant::from_std(lane.journal.due_at());
        tokio::select! {
            biased;
            () = lane.stop.cancelled() => break Ended::Stopped,
            () = lane.is_asked() => break Ended::Asked,
            Some(tried) = running.next(), if !running.is_empty() => {
                if let Some(ended) = take(lane, &mut begun, &earlier, tried).await? {
                    break ended;
                }
            }
            free = tries.room.enter(), if is_full => place = Some(free),
            delivery = deliveries.recv(), if waiting.is_empty() => match delivery {
                Some(Ok(delivery)) => {
                    lane.hears(delivery.present);
                    waiting = delivery.events.into();
                    reached = Some(delivery.position);
                    continue;
                }
                Some(Err(error)) => {
                    failure = Some(error);
                    break Ended::Again;
                }
                None => break Ended::Again,
            },
            () = tokio::time::sleep_until(due), if lane.is_dirty => {}
        }
        if lane.is_dirty && lane.journal.is_due() {
            note(lane, &begun, &earlier);
            lane.record().await?;
        }
    };
    // What runs is waited for, for a while; the rest is begun anew the next time.
    hurry.cancel();
    let given_up = tokio::time::sleep(PATIENCE);
    tokio::pin!(given_up);
    loop {
        let tried = tokio::select! {
            biased;
            tried = running.next() => tried,
            () = &mut given_up => break,
        };
        let Some(tried) = tried else { break };
        if let Some(suspended) = take(lane, &mut begun, &earlier, tried).await? {
            ended = suspended;
        }
    }
    note(lane, &begun, &earlier);
    let ended = lane.end(ended).await?;
    match failure {
        Some(error) => Err(error),
        None => Ok(ended),
    }
}

/// Notes what has begun and not ended.
fn note(lane: &mut Lane, begun: &Begun, earlier: &Earlier) {
    let mut unfinished = begun.unfinished();
    let mut head = begun.head.clone();
    if earlier.head.is_some() {
        // Up to there all but these have ended, whatever has been begun again since.
        unfinished.extend(earlier.unfinished.iter().cloned());
        head = head.max(earlier.head.clone());
    }
    lane.begun(head, unfinished);
}

/// Records an event that has ended.
async fn take(
    lane: &mut Lane,
    begun: &mut Begun,
    earlier: &Earlier,
    tried: Tried,
) -> Result<Option<Ended>> {
    begun.bytes = begun.bytes.saturating_sub(tried.event.document.len());
    let mut endless = Ok(());
    for (attempt, (run, outcome)) in (1..).zip(&tried.outcomes) {
        lane.ran(&tried.event.token, attempt, outcome);
        let written = lane.trigger.processor.written(*run);
        if endless.is_ok() {
            endless = lane.recursion.wrote(tried.chain, &written, Instant::now());
        }
    }
    if tried.is_cut_short {
        return Ok(None);
    }
    if let Some((_, outcome)) = tried.outcomes.last()
        && let Err(failure) = &outcome.result
    {
        let error = failure.to_string();
        if lane.trigger.policy.on_failure == OnFailure::Suspend {
            let reason = format!("its function failed {} times: {error}", tried.attempts);
            note(lane, begun, earlier);
            return Ok(Some(lane.suspend(reason).await?));
        }
        let arguments = arguments::of_event(&tried.event.document);
        lane.gave_up(&tried.event.token, arguments, error, tried.attempts);
    }
    match begun.end(tried.number) {
        Some(position) => lane.reaches(position),
        None => lane.is_dirty = true,
    }
    match endless {
        Ok(()) => Ok(None),
        Err(reason) => {
            note(lane, begun, earlier);
            Ok(Some(lane.suspend(reason).await?))
        }
    }
}

/// How events are tried.
#[derive(Clone)]
struct Tries {
    processor: Arc<dyn Processor>,
    policy: Policy,
    runs: Arc<Runs>,
    room: Room,
    hurry: CancellationToken,
}

impl Tries {
    /// Tries an event until it succeeds, or is given up on.
    async fn until_done(self, begins: Beginning) -> Tried {
        let Beginning {
            number,
            event,
            chain,
            place: _place,
        } = begins;
        let mut attempts = Attempts::default();
        let mut outcomes = Vec::new();
        // Many runs may take the memory of a thread together, and end one another: who was among them is tried
        // again by itself, so that each pays for nothing but its own.
        let mut is_alone = false;
        let is_cut_short = loop {
            let company = tokio::select! {
                biased;
                () = self.hurry.cancelled() => break true,
                company = self.room.company(is_alone) => company,
            };
            let task = Task {
                run: self.runs.next(),
                arguments: arguments::of_event(&event.document),
            };
            let run = task.run;
            let outcome = self.processor.run(task).await;
            drop(company);
            let is_of_others = !is_alone && may_be_of_others(&outcome);
            let wait = match is_of_others {
                true => Some(soon(&self.policy)),
                false => attempts.failed(&outcome, &self.policy),
            };
            is_alone |= is_of_others;
            outcomes.push((run, outcome));
            let Some(wait) = wait else { break false };
            tokio::select! {
                biased;
                () = self.hurry.cancelled() => break true,
                () = tokio::time::sleep(wait) => {}
            }
        };
        Tried {
            number,
            event,
            chain,
            outcomes,
            attempts: attempts.count,
            is_cut_short,
        }
    }
}

/// What an earlier process had begun: up to the head, all but those that had not ended.
struct Earlier {
    head: Option<String>,
    unfinished: HashSet<String>,
}

impl Earlier {
    fn of(lane: &Lane) -> Self {
        let (head, unfinished) = lane.earlier();
        Self {
            head,
            unfinished: unfinished.into_iter().collect(),
        }
    }

    /// Tokens of one deployment sort as their events do.
    fn has_ended(&mut self, event: &RawEvent) -> bool {
        let Some(head) = &self.head else {
            return false;
        };
        if event.token > *head {
            self.head = None;
            return false;
        }
        !self.unfinished.contains(&event.token)
    }
}
