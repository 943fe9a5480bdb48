//! A thread that runs functions.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;
use tributary_model::{Error, ErrorKind, Result};

use super::thread::{Batch, Message, Work};
use super::{Call, Failure, FailureKind, Limits, Outcome, Program};
use crate::services::Services;

/// What a thread needs beyond the stack that JavaScript may take: for native code below it and between.
const NATIVE_STACK: usize = 4 << 20;

/// The largest stack for which the engine looks at the limit; above, it would have none.
const LARGEST_STACK: usize = 16 << 20;

/// A thread of its own with its own JavaScript and its own memory.
///
/// Many runs may be in flight at once. Their code takes turns where it awaits something, so a function whose code
/// does not pause holds up the others, at most for as long as a run may take; that time does not count as theirs.
///
/// A run has globals and modules that no other in flight sees. Those of a run that ended well are used again by a later
/// one, so what functions keep in variables of their files may be there, and may not; those of one that failed are not.
/// Where there is no memory for more of them, runs wait for one another.
///
/// A run ends when its function has returned and services have done what it asked of them, awaited or not; timers that
/// are left then do not fire.
#[derive(Debug)]
pub struct Isolate {
    outbox: Sender<Message>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Isolate {
    /// Starts a thread for a program. What its functions ask of services is done on `io`.
    ///
    /// Functions are loaded when they are first called, so a file that is no JavaScript is an error of its calls.
    ///
    /// # Errors
    /// Where the thread cannot be started, or the memory it may use is too little for the language itself.
    pub fn start(
        program: Arc<Program>,
        limits: Limits,
        services: Arc<dyn Services>,
        io: tokio::runtime::Handle,
    ) -> Result<Self> {
        let (outbox, inbox) = mpsc::channel();
        let (started, is_started) = mpsc::sync_channel(1);
        let stopping = Arc::new(AtomicBool::new(false));
        let limits = Limits {
            stack: limits.stack.min(LARGEST_STACK),
            ..limits
        };
        let work = {
            let outbox = outbox.clone();
            let stopping = Arc::clone(&stopping);
            move || Work::new(program, limits, services, io, inbox, outbox, stopping).run(&started)
        };
        let failed = |what: String| {
            Error::new(ErrorKind::Internal, "cannot start a thread for functions").because(what)
        };
        let thread = std::thread::Builder::new()
            .name("functions".to_owned())
            .stack_size(limits.stack + NATIVE_STACK)
            .spawn(work)
            .map_err(|error| failed(error.to_string()))?;
        match is_started.recv() {
            Ok(Ok(())) => Ok(Self {
                outbox,
                stopping,
                thread: Some(thread),
            }),
            Ok(Err(why)) => Err(failed(why)),
            Err(_) => Err(failed("it ended at once".to_owned())),
        }
    }

    /// Calls a function, and waits for what comes of it. Where this is dropped, the run is abandoned.
    pub async fn run(&self, call: Call) -> Outcome {
        self.run_in_order(vec![call])
            .await
            .pop()
            .unwrap_or_else(lost)
    }

    /// Calls functions one after the other, each when the one before has ended, up to the first that fails.
    ///
    /// The answer has an outcome for each that was called, so it is shorter where one failed. Where this is
    /// dropped, the run of the moment is abandoned, and those behind it are not begun.
    pub async fn run_in_order(&self, calls: Vec<Call>) -> Vec<Outcome> {
        if calls.is_empty() {
            return Vec::new();
        }
        let (reply, answer) = oneshot::channel();
        let mut waiting = Waiting {
            outbox: &self.outbox,
            abandoned: Arc::new(AtomicBool::new(false)),
            is_over: false,
        };
        let batch = Batch {
            outcomes: Vec::with_capacity(calls.len()),
            calls: VecDeque::from(calls),
            reply,
            abandoned: Arc::clone(&waiting.abandoned),
        };
        if self.outbox.send(Message::Run(batch)).is_err() {
            waiting.is_over = true;
            return vec![lost()];
        }
        let outcomes = answer.await.unwrap_or_else(|_| vec![lost()]);
        waiting.is_over = true;
        outcomes
    }
}

impl Drop for Isolate {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        // Where the thread has ended already, nobody takes the message, and nobody needs it.
        let _ = self.outbox.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What came of a call of which nothing is known.
fn lost() -> Outcome {
    Outcome {
        result: Err(Failure::of(
            FailureKind::Lost,
            "Error",
            "the thread of the function ended",
        )),
        console: Vec::new(),
        duration: Duration::ZERO,
    }
}

/// Tells the thread where nobody waits for the answer any more.
struct Waiting<'a> {
    outbox: &'a Sender<Message>,
    abandoned: Arc<AtomicBool>,
    is_over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.abandoned.store(true, Ordering::Relaxed);
            let _ = self.outbox.send(Message::Abandoned);
        }
    }
}
