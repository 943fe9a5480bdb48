//! Triggers that set themselves off: noticed by how many runs in a row were each caused by the one before.
//!
//! A run that writes where its trigger looks causes an event, and a run of that. What it wrote is known by
//! key where the operation says it, and by number otherwise; the next event of that key, or else the next one
//! of any, is taken for what it caused, if it happened behind what was known of the deployment's present when
//! the run began: what waited then was written by others. Chains that end by themselves, because a run does not
//! write, begin at nothing again.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use tributary_model::ClusterTime;

use super::Written;

/// How long it may take until an event comes back.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How many causes are remembered; more are no chain, but a crowd.
const CAUSES: usize = 100_000;
/// How many runs a second a chain has at least that is taken for endless: slower ones may be meant. A run that
/// waits for a service or for a distant deployment takes a good part of a second.
const SLOWEST: f64 = 2.0;
/// How many of the runs since the chain began have written, at least, where it is endless. Where a function finds
/// nothing to do for what it wrote itself, these are half of them, however much others write in between.
const WRITING: f64 = 0.9;

/// How a run came about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Chain {
    /// How many runs of this trigger came before it, each caused by the one before.
    pub(super) depth: u32,
    /// When the first of them began.
    pub(super) since: Instant,
    /// How many runs there were by then, and how many of them had written.
    runs: u64,
    writing: u64,
    /// What it writes is written behind this.
    present: ClusterTime,
}

/// A write, which may come back as an event.
#[derive(Debug)]
struct Cause {
    /// The chain of the run that comes of it.
    chain: Chain,
    at: Instant,
}

/// What is known of a trigger's own writes.
#[derive(Debug)]
pub(super) struct Recursion {
    longest: u32,
    by_key: HashMap<u64, VecDeque<Cause>>,
    unknown: VecDeque<Cause>,
    remembered: usize,
    /// Where the deployment is at least.
    present: ClusterTime,
    /// How many runs there were, and how many of them have written.
    runs: u64,
    writing: u64,
}

impl Recursion {
    /// Chains of more than `longest` runs are endless.
    pub(super) fn new(longest: u32) -> Self {
        Self {
            longest,
            by_key: HashMap::new(),
            unknown: VecDeque::new(),
            remembered: 0,
            present: ClusterTime::default(),
            runs: 0,
            writing: 0,
        }
    }

    /// The deployment is at this moment at least.
    pub(super) fn is_at(&mut self, present: ClusterTime) {
        self.present = self.present.max(present);
    }

    /// One that nothing of the trigger's own has caused.
    fn chain(&self, now: Instant) -> Chain {
        Chain {
            depth: 0,
            since: now,
            runs: self.runs,
            writing: self.writing,
            present: self.present,
        }
    }

    /// How the run of an event comes about, which happened at `time` to the document of this key.
    pub(super) fn begins(&mut self, key: Option<u64>, time: ClusterTime, now: Instant) -> Chain {
        let new = self.chain(now);
        self.runs += 1;
        if self.remembered == 0 {
            return new;
        }
        let mut cause = None;
        if let Some(key) = key
            && let Some(causes) = self.by_key.get_mut(&key)
        {
            let before = causes.len();
            cause = take(causes, time, now);
            self.remembered -= before - causes.len();
            if causes.is_empty() {
                self.by_key.remove(&key);
            }
        }
        if cause.is_none() {
            let before = self.unknown.len();
            cause = take(&mut self.unknown, time, now);
            self.remembered -= before - self.unknown.len();
        }
        cause.map_or(new, |cause| Chain {
            present: self.present,
            ..cause
        })
    }

    /// A run has written this; the error says why the trigger is to stop.
    pub(super) fn wrote(
        &mut self,
        chain: Chain,
        written: &[Written],
        now: Instant,
    ) -> Result<(), String> {
        if written.is_empty() {
            return Ok(());
        }
        self.writing += 1;
        let next = Chain {
            depth: chain.depth + 1,
            ..chain
        };
        if next.depth > self.longest {
            let seconds = now.duration_since(chain.since).as_secs_f64().max(0.001);
            let rate = f64::from(next.depth) / seconds;
            let (runs, writing) = (self.runs - chain.runs, self.writing - chain.writing);
            #[allow(clippy::cast_precision_loss)]
            let part = writing as f64 / runs.max(1) as f64;
            if rate >= SLOWEST && part >= WRITING {
                return Err(format!(
                    "it sets itself off: {} runs in a row, {rate:.0} a second, were each caused by what the \
                     one before wrote; have the function return where there is nothing to change, or keep \
                     its own changes from it with `match`, then resume it",
                    next.depth
                ));
            }
        }
        for written in written {
            if self.remembered >= CAUSES {
                self.forget(now);
            }
            match written {
                Written::Key(key) => {
                    let causes = self.by_key.entry(*key).or_default();
                    causes.push_back(Cause {
                        chain: next,
                        at: now,
                    });
                    self.remembered += 1;
                }
                Written::Some(count) => {
                    let room = CAUSES.saturating_sub(self.remembered) as u64;
                    for _ in 0..(*count).min(room) {
                        self.unknown.push_back(Cause {
                            chain: next,
                            at: now,
                        });
                        self.remembered += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// Forgets what has not come back; where that is not enough, all of it.
    fn forget(&mut self, now: Instant) {
        let is_fresh = |cause: &Cause| cause.is_fresh(now);
        self.by_key.retain(|_, causes| {
            causes.retain(is_fresh);
            !causes.is_empty()
        });
        self.unknown.retain(is_fresh);
        self.remembered =
            self.by_key.values().map(VecDeque::len).sum::<usize>() + self.unknown.len();
        if self.remembered >= CAUSES {
            self.by_key.clear();
            self.unknown.clear();
            self.remembered = 0;
        }
    }
}

impl Cause {
    fn is_fresh(&self, now: Instant) -> bool {
        now.duration_since(self.at) < REMEMBERED
    }
}

/// Takes what an event of this time may have come of.
fn take(causes: &mut VecDeque<Cause>, time: ClusterTime, now: Instant) -> Option<Chain> {
    while let Some(first) = causes.front() {
        let is_fresh = first.is_fresh(now);
        if is_fresh && time <= first.chain.present {
            return None;
        }
        let cause = causes.pop_front()?;
        if is_fresh {
            return Some(cause.chain);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time of an event that happened behind all that is known.
    const LATER: ClusterTime = ClusterTime(u64::MAX);

    /// Runs a chain in which each run writes `written` and takes `step`, until it is stopped or was long
    /// enough.
    fn length(written: &[Written], step: Duration, keys: &[u64]) -> Option<u32> {
        let mut recursion = Recursion::new(100);
        let mut now = Instant::now();
        for run in 0..1000 {
            let key = keys[run % keys.len()];
            let chain = recursion.begins(Some(key), LATER, now);
            now += step;
            if recursion.wrote(chain, written, now).is_err() {
                return Some(run as u32);
            }
        }
        None
    }

    #[test]
    fn a_run_that_writes_its_own_document_again_and_again_is_stopped() {
        let fast = Duration::from_millis(5);
        assert_eq!(length(&[Written::Key(7)], fast, &[7]), Some(100));
        assert_eq!(length(&[Written::Some(1)], fast, &[7]), Some(100));
    }

    #[test]
    fn a_slow_chain_goes_on() {
        for (millis, stopped) in [(5_000, None), (600, None), (400, Some(100))] {
            let step = Duration::from_millis(millis);
            assert_eq!(length(&[Written::Key(7)], step, &[7]), stopped, "{step:?}");
        }
    }

    #[test]
    fn a_chain_that_is_slow_at_first_is_stopped_once_it_is_fast() {
        let mut recursion = Recursion::new(100);
        let mut now = Instant::now();
        let mut stopped = None;
        for run in 0..1_000 {
            let chain = recursion.begins(Some(7), LATER, now);
            now += Duration::from_millis(if run < 50 { 2_000 } else { 10 });
            if recursion.wrote(chain, &[Written::Key(7)], now).is_err() {
                stopped = Some(run);
                break;
            }
        }
        // Two a second of all that ran since it began.
        assert_eq!(stopped, Some(203));
    }

    #[test]
    fn writes_to_other_documents_that_set_off_nothing_are_no_chain() {
        let fast = Duration::from_millis(5);
        assert_eq!(length(&[Written::Key(8)], fast, &[7]), None);
    }

    #[test]
    fn documents_that_follow_one_another_are_a_chain() {
        let mut recursion = Recursion::new(100);
        let now = Instant::now();
        let mut stopped = None;
        for key in 0..1000_u64 {
            let chain = recursion.begins(Some(key), LATER, now);
            if recursion
                .wrote(
                    chain,
                    &[Written::Key(key + 1)],
                    now + Duration::from_secs(1),
                )
                .is_err()
            {
                stopped = Some(key);
                break;
            }
        }
        assert_eq!(stopped, Some(100));
    }

    #[test]
    fn a_run_that_finds_nothing_to_do_ends_its_chain() {
        let mut recursion = Recursion::new(3);
        let now = Instant::now();
        for _ in 0..100 {
            // Somebody changes the document, the run writes it, and the run of that does not.
            let chain = recursion.begins(Some(1), LATER, now);
            assert_eq!(chain.depth, 0);
            recursion.wrote(chain, &[Written::Key(1)], now).unwrap();
            let chain = recursion.begins(Some(1), LATER, now);
            assert_eq!(chain.depth, 1);
            recursion.wrote(chain, &[], now).unwrap();
        }
    }

    #[test]
    fn what_others_write_in_between_is_no_chain_where_a_run_ends_what_it_began() {
        let mut recursion = Recursion::new(100);
        let mut now = Instant::now();
        // Of a backlog the next of somebody else's events comes before what the run has caused.
        for foreign in 0..1_000_u64 {
            now += Duration::from_millis(1);
            let chain = recursion.begins(Some(foreign), LATER, now);
            recursion.wrote(chain, &[Written::Some(1)], now).unwrap();
            if foreign > 0 {
                let own = recursion.begins(Some(1_000_000), LATER, now);
                recursion.wrote(own, &[], now).unwrap();
            }
        }
    }

    #[test]
    fn a_backlog_is_no_chain_whatever_is_written_for_it() {
        for written in [Written::Some(1), Written::Key(7)] {
            let mut recursion = Recursion::new(100);
            let mut now = Instant::now();
            // The deployment was there when the backlog was read: it was there before all that is written for it.
            recursion.is_at(ClusterTime(1_000));
            for time in 0..1_000 {
                now += Duration::from_millis(1);
                let chain = recursion.begins(Some(7), ClusterTime(time), now);
                recursion.wrote(chain, &[written], now).unwrap();
            }
            // What it has written comes behind it, and nothing is to be done for that.
            for time in 1_001..2_000 {
                let chain = recursion.begins(Some(7), ClusterTime(time), now);
                assert_eq!(chain.depth, 1);
                recursion.wrote(chain, &[], now).unwrap();
            }
        }
    }

    #[test]
    fn what_comes_back_behind_the_present_is_a_chain() {
        for written in [Written::Some(1), Written::Key(7)] {
            let mut recursion = Recursion::new(100);
            let mut now = Instant::now();
            let mut stopped = None;
            for time in 1..1_000 {
                now += Duration::from_millis(5);
                // The event was the last when it was read, and the next is what comes of it.
                recursion.is_at(ClusterTime(time));
                let chain = recursion.begins(Some(7), ClusterTime(time), now);
                if recursion.wrote(chain, &[written], now).is_err() {
                    stopped = Some(time);
                    break;
                }
            }
            assert_eq!(stopped, Some(101));
        }
    }

    #[test]
    fn what_does_not_come_back_is_forgotten() {
        let mut recursion = Recursion::new(3);
        let now = Instant::now();
        let chain = recursion.begins(Some(0), LATER, now);
        for key in 0..2 * CAUSES as u64 {
            recursion.wrote(chain, &[Written::Key(key)], now).unwrap();
        }
        assert!(recursion.remembered <= CAUSES);
        recursion.forget(now + REMEMBERED);
        assert_eq!(recursion.remembered, 0);
        assert_eq!(recursion.begins(Some(1), LATER, now).depth, 0);
    }
}
