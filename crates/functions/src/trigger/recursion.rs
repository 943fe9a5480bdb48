//! Triggers that set themselves off: noticed by how many runs in a row were each caused by the one before.
//!
//! A run that writes where its trigger looks causes an event, and a run of that. What it wrote is known by
//! key where the operation says it, and by number otherwise; the next event of that key, or one of that
//! time, is taken for what it caused. Chains that end by themselves, because a run does not write, begin at
//! nothing again.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::Written;

/// How long it may take until an event comes back.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How many causes are remembered; more are no chain, but a crowd.
const CAUSES: usize = 100_000;
/// How many runs a second a chain has at least that is taken for endless: slower ones may be meant.
const SLOWEST: f64 = 10.0;
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
}

/// What is known of a trigger's own writes.
#[derive(Debug)]
pub(super) struct Recursion {
    longest: u32,
    by_key: HashMap<u64, VecDeque<(Chain, Instant)>>,
    unknown: VecDeque<(Chain, Instant)>,
    remembered: usize,
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
            runs: 0,
            writing: 0,
        }
    }

    /// One that nothing of the trigger's own has caused.
    fn chain(&self, now: Instant) -> Chain {
        Chain {
            depth: 0,
            since: now,
            runs: self.runs,
            writing: self.writing,
        }
    }

    /// How the run of an event comes about.
    pub(super) fn begins(&mut self, key: Option<u64>, now: Instant) -> Chain {
        let new = self.chain(now);
        self.runs += 1;
        if self.remembered == 0 {
            return new;
        }
        if let Some(causes) = key.and_then(|key| self.by_key.get_mut(&key)) {
            let cause = causes.pop_front();
            if causes.is_empty()
                && let Some(key) = key
            {
                self.by_key.remove(&key);
            }
            if let Some((chain, at)) = cause {
                self.remembered -= 1;
                if now.duration_since(at) < REMEMBERED {
                    return chain;
                }
            }
        }
        while let Some((chain, at)) = self.unknown.pop_front() {
            self.remembered -= 1;
            if now.duration_since(at) < REMEMBERED {
                return chain;
            }
        }
        new
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
                    self.by_key.entry(*key).or_default().push_back((next, now));
                    self.remembered += 1;
                }
                Written::Some(count) => {
                    let room = CAUSES.saturating_sub(self.remembered) as u64;
                    for _ in 0..(*count).min(room) {
                        self.unknown.push_back((next, now));
                        self.remembered += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// Forgets what has not come back; where that is not enough, all of it.
    fn forget(&mut self, now: Instant) {
        let is_fresh = |(_, at): &(Chain, Instant)| now.duration_since(*at) < REMEMBERED;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a chain in which each run writes `written` and takes `step`, until it is stopped or was long
    /// enough.
    fn length(written: &[Written], step: Duration, keys: &[u64]) -> Option<u32> {
        let mut recursion = Recursion::new(100);
        let mut now = Instant::now();
        for run in 0..1000 {
            let key = keys[run % keys.len()];
            let chain = recursion.begins(Some(key), now);
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
        assert_eq!(
            length(&[Written::Key(7)], Duration::from_secs(5), &[7]),
            None
        );
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
            let chain = recursion.begins(Some(key), now);
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
            let chain = recursion.begins(Some(1), now);
            assert_eq!(chain.depth, 0);
            recursion.wrote(chain, &[Written::Key(1)], now).unwrap();
            let chain = recursion.begins(Some(1), now);
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
            let chain = recursion.begins(Some(foreign), now);
            recursion.wrote(chain, &[Written::Some(1)], now).unwrap();
            if foreign > 0 {
                let own = recursion.begins(Some(1_000_000), now);
                recursion.wrote(own, &[], now).unwrap();
            }
        }
    }

    #[test]
    fn what_does_not_come_back_is_forgotten() {
        let mut recursion = Recursion::new(3);
        let now = Instant::now();
        let chain = recursion.begins(Some(0), now);
        for key in 0..2 * CAUSES as u64 {
            recursion.wrote(chain, &[Written::Key(key)], now).unwrap();
        }
        assert!(recursion.remembered <= CAUSES);
        recursion.forget(now + REMEMBERED);
        assert_eq!(recursion.remembered, 0);
        assert_eq!(recursion.begins(Some(1), now).depth, 0);
    }
}
