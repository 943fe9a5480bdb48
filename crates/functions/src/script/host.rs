//! What the code of functions calls, and what is known of the run that it belongs to.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::ConsoleLine;
use super::heap::Heap;
use crate::services::ServiceCall;

/// The longest delay of a timer; longer ones are this long. No run takes as long.
const LONGEST_DELAY: Duration = Duration::from_secs(86_400);

/// The shortest time between two firings of one timer.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// Why code was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its run is not done in time.
    TimedOut,
    /// The memory of the thread is used up.
    OutOfMemory,
    /// Nobody waits for its run any more.
    Abandoned,
    /// The thread is to end.
    Stopping,
}

/// What a run asked for while its code executed.
#[derive(Debug)]
pub(super) enum Effect {
    /// A call of a service, by the number of its promise.
    Call(u64, ServiceCall),
    /// A timer, by its number: when it is due, and whether again and again after how long.
    Timer(u64, Instant, Option<Duration>),
    /// A timer is not to fire any more.
    ClearTimer(u64),
}

/// The console of a run.
#[derive(Debug)]
pub(super) struct Console {
    lines: Vec<ConsoleLine>,
    left: usize,
    is_full: bool,
}

impl Console {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            lines: Vec::new(),
            left: limit,
            is_full: false,
        }
    }

    pub(super) fn print(&mut self, level: &'static str, text: String) {
        if self.is_full {
            return;
        }
        if let Some(left) = self.left.checked_sub(text.len()) {
            self.left = left;
            self.lines.push(ConsoleLine { level, text });
        } else {
            self.is_full = true;
            self.lines.push(ConsoleLine {
                level: "warn",
                text: "the run wrote more than its console takes; the rest is left out".to_owned(),
            });
        }
    }

    pub(super) fn into_lines(self) -> Vec<ConsoleLine> {
        self.lines
    }
}

/// What of a run is at hand while its code executes.
#[derive(Debug)]
pub(super) struct Current {
    /// When it must be done.
    pub(super) deadline: Instant,
    /// Whether nobody waits for it any more.
    pub(super) abandoned: Arc<AtomicBool>,
    /// Its console.
    pub(super) console: Console,
    /// `context.request`.
    pub(super) request: Option<Bytes>,
}

/// Shared by the thread's loop and the native functions, which all run on one thread. It holds no values of
/// JavaScript: those would keep the functions that hold it alive, and be kept by them.
pub(super) struct Host {
    heap: Rc<Heap>,
    stopping: Arc<AtomicBool>,
    current: RefCell<Option<Current>>,
    verdict: Cell<Option<Verdict>>,
    ids: Cell<u64>,
    effects: RefCell<Vec<Effect>>,
    rejections: RefCell<Vec<(usize, String)>>,
}

impl Host {
    pub(super) fn new(heap: Rc<Heap>, stopping: Arc<AtomicBool>) -> Rc<Self> {
        Rc::new(Self {
            heap,
            stopping,
            current: RefCell::new(None),
            verdict: Cell::new(None),
            ids: Cell::new(1),
            effects: RefCell::new(Vec::new()),
            rejections: RefCell::new(Vec::new()),
        })
    }

    /// A number that nothing else has: of runs, promises and timers alike.
    pub(super) fn next_id(&self) -> u64 {
        self.ids.replace(self.ids.get() + 1)
    }

    /// What follows belongs to a run, until [`leave`](Self::leave).
    pub(super) fn enter(&self, current: Current) {
        self.verdict.set(None);
        self.current.replace(Some(current));
    }

    /// Ends what [`enter`](Self::enter) began, and says why code was interrupted, where it was.
    pub(super) fn leave(&self) -> (Option<Current>, Option<Verdict>) {
        let verdict = if self.heap.exceeded() {
            self.verdict.take();
            Some(Verdict::OutOfMemory)
        } else {
            self.verdict.take()
        };
        (self.current.replace(None), verdict)
    }

    /// Whether the code that executes must end, and notes why. Code of the prelude alone is never interrupted.
    pub(super) fn interrupts(&self) -> bool {
        if self.verdict.get().is_some() {
            return true;
        }
        // The handler may be called while a native function has the run at hand.
        let Ok(current) = self.current.try_borrow() else {
            return false;
        };
        let Some(current) = current.as_ref() else {
            return false;
        };
        let verdict = if self.heap.exceeded() {
            Verdict::OutOfMemory
        } else if self.stopping.load(Ordering::Relaxed) {
            Verdict::Stopping
        } else if current.abandoned.load(Ordering::Relaxed) {
            Verdict::Abandoned
        } else if Instant::now() >= current.deadline {
            Verdict::TimedOut
        } else {
            return false;
        };
        self.verdict.set(Some(verdict));
        true
    }

    /// Whether code was interrupted since [`enter`](Self::enter).
    pub(super) fn is_interrupted(&self) -> bool {
        self.verdict.get().is_some()
    }

    /// The request of the run whose code executes.
    pub(super) fn request(&self) -> Option<Bytes> {
        self.current.borrow().as_ref()?.request.clone()
    }

    /// Writes to its console.
    pub(super) fn print(&self, level: &str, text: String) {
        let level = match level {
            "info" => "info",
            "warn" => "warn",
            "error" => "error",
            "debug" => "debug",
            _ => "log",
        };
        if let Some(current) = self.current.borrow_mut().as_mut() {
            current.console.print(level, text);
        }
    }

    /// Asks for a call of a service, and answers the number of its promise.
    pub(super) fn call(&self, call: ServiceCall) -> u64 {
        let id = self.next_id();
        self.effects.borrow_mut().push(Effect::Call(id, call));
        id
    }

    /// Starts a timer, and answers its number. The delay is in milliseconds.
    pub(super) fn timer(&self, delay: f64, repeats: bool) -> u64 {
        let id = self.next_id();
        // As elsewhere, what is no delay is the shortest one.
        let delay = Duration::try_from_secs_f64((delay / 1000.0).max(0.0))
            .unwrap_or(LONGEST_DELAY)
            .min(LONGEST_DELAY);
        let again = repeats.then_some(delay.max(SHORTEST_INTERVAL));
        self.effects
            .borrow_mut()
            .push(Effect::Timer(id, Instant::now() + delay, again));
        id
    }

    /// Stops a timer.
    pub(super) fn clear_timer(&self, id: u64) {
        self.effects.borrow_mut().push(Effect::ClearTimer(id));
    }

    /// What was asked for since this was last called.
    pub(super) fn take_effects(&self) -> Vec<Effect> {
        std::mem::take(&mut *self.effects.borrow_mut())
    }

    /// Notes that a promise was rejected and nobody looked at it yet.
    pub(super) fn rejected(&self, promise: usize, reason: String) {
        self.rejections.borrow_mut().push((promise, reason));
    }

    /// Notes that somebody looked at a rejected promise after all.
    pub(super) fn handled(&self, promise: usize) {
        self.rejections
            .borrow_mut()
            .retain(|(rejected, _)| *rejected != promise);
    }

    /// The rejected promises that nobody looked at, since this was last called.
    pub(super) fn take_rejections(&self) -> Vec<(usize, String)> {
        std::mem::take(&mut *self.rejections.borrow_mut())
    }
}
