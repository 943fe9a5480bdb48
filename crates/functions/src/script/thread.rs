//! What the thread of an isolate does: it takes calls and answers, lets code go on, and looks what has come of it.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender};

use bytes::Bytes;
use rquickjs::{Context, Ctx, Function, Runtime, Value};
use tokio::sync::oneshot;
use tracing::warn;

use super::bson::raw;
use super::heap::{Heap, HeapAllocator};
use super::host::Host;
use super::modules::Files;
use super::realm::Realm;
use super::turns::Turns;
use super::{Call, Limits, Outcome, Program};
use crate::services::{ServiceError, Services};

/// What the thread is told.
pub(super) enum Message {
    /// Calls to run in order.
    Run(Batch),
    /// What a service answered.
    Answer {
        /// The run that asked.
        run: u64,
        /// The number of the promise.
        call: u64,
        /// The answer.
        result: Result<Bytes, ServiceError>,
    },
    /// Somebody does not wait any more.
    Abandoned,
    /// The thread is to end.
    Stop,
}

/// Calls that run in order.
pub(super) struct Batch {
    /// Those not begun.
    pub(super) calls: VecDeque<Call>,
    /// What came of the others.
    pub(super) outcomes: Vec<Outcome>,
    /// Who waits for it.
    pub(super) reply: oneshot::Sender<Vec<Outcome>>,
    /// Set where nobody does any more.
    pub(super) abandoned: Arc<AtomicBool>,
}

impl Batch {
    /// Adds an outcome, and answers where that was the last one or a failure.
    pub(super) fn with(mut self, outcome: Outcome) -> Option<Self> {
        let is_last = outcome.result.is_err() || self.calls.is_empty();
        self.outcomes.push(outcome);
        if is_last {
            // Nobody may wait any more, which is no concern of ours.
            let _ = self.reply.send(self.outcomes);
            return None;
        }
        Some(self)
    }
}

/// Why the thread stops using an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// Its memory is used up, or it is in a state that nothing is known of.
    Renew,
    /// The thread is to end.
    Stop,
}

/// What the thread works with.
pub(super) struct Work {
    pub(super) program: Arc<Program>,
    pub(super) limits: Limits,
    pub(super) services: Arc<dyn Services>,
    pub(super) io: tokio::runtime::Handle,
    pub(super) inbox: Receiver<Message>,
    pub(super) outbox: Sender<Message>,
    pub(super) stopping: Arc<AtomicBool>,
    files: Rc<Files>,
}

/// Why an engine could not be made.
struct Unstarted(String);

impl<E: fmt::Display> From<E> for Unstarted {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl Work {
    pub(super) fn new(
        program: Arc<Program>,
        limits: Limits,
        services: Arc<dyn Services>,
        io: tokio::runtime::Handle,
        inbox: Receiver<Message>,
        outbox: Sender<Message>,
        stopping: Arc<AtomicBool>,
    ) -> Self {
        let files = Rc::new(Files::new(&program));
        Self {
            program,
            limits,
            services,
            io,
            inbox,
            outbox,
            stopping,
            files,
        }
    }

    /// Works until the thread is told to end; says once whether it could begin.
    pub(super) fn run(self, started: &SyncSender<Result<(), String>>) {
        // What services leave open may be closed by a task when it is dropped here.
        let _io = self.io.enter();
        let mut ready = VecDeque::new();
        loop {
            let mut is_started = false;
            let served = catch_unwind(AssertUnwindSafe(|| {
                self.serve(&mut ready, || {
                    is_started = true;
                    let _ = started.try_send(Ok(()));
                })
            }));
            match served {
                Ok(Ok(Exit::Stop)) => return,
                Ok(Ok(Exit::Renew)) => {}
                Ok(Err(Unstarted(why))) => {
                    warn!(error = %why, "cannot start the engine for functions");
                    let _ = started.try_send(Err(why));
                    return;
                }
                // Those who waited were told by their channels, which are gone.
                Err(_) if is_started && !self.stopping.load(Ordering::Relaxed) => {
                    warn!("the engine for functions failed and is started again");
                }
                Err(_) => return,
            }
        }
    }

    /// Makes an engine, and works with it.
    fn serve(
        &self,
        ready: &mut VecDeque<Batch>,
        started: impl FnOnce(),
    ) -> Result<Exit, Unstarted> {
        let heap = Heap::new(self.limits.memory);
        let exit = {
            let runtime = Runtime::new_with_alloc(HeapAllocator(Rc::clone(&heap)))?;
            runtime.set_max_stack_size(self.limits.stack);
            let host = Host::new(Rc::clone(&heap), Arc::clone(&self.stopping));
            let at = Rc::clone(&host);
            runtime.set_interrupt_handler(Some(Box::new(move || at.interrupts())));
            let at = Rc::clone(&host);
            runtime.set_host_promise_rejection_tracker(Some(Box::new(
                move |_ctx, promise, reason, is_handled| {
                    let promise = raw::identity(&promise);
                    if is_handled {
                        at.handled(promise);
                    } else {
                        at.rejected(promise, reason_text(&reason));
                    }
                },
            )));
            let context = Context::full(&runtime)?;
            let exit = context.with(|ctx| self.turn(&ctx, &host, &heap, ready, started));
            runtime.set_interrupt_handler(None);
            runtime.set_host_promise_rejection_tracker(None);
            exit?
        };
        if heap.used() > 0 {
            warn!(
                bytes = heap.used(),
                "an engine for functions left memory behind"
            );
        }
        Ok(exit)
    }

    /// Makes a context in an engine.
    pub(super) fn realm<'js>(
        &self,
        engine: &Ctx<'js>,
        host: &Rc<Host>,
    ) -> rquickjs::Result<Realm<'js>> {
        Realm::new(engine, host, &self.program, &self.files)
    }

    fn turn<'js>(
        &self,
        ctx: &Ctx<'js>,
        host: &Rc<Host>,
        heap: &Rc<Heap>,
        ready: &mut VecDeque<Batch>,
        started: impl FnOnce(),
    ) -> Result<Exit, Unstarted> {
        // Native functions of all contexts inherit from the prototype of the first one made: it is that of no run.
        Function::new(ctx.clone(), || ())?;
        let first = match self.realm(ctx, host) {
            Ok(realm) if !heap.exceeded() => realm,
            Ok(_) => return Err(Unstarted("the memory limit is too low".to_owned())),
            Err(rquickjs::Error::Exception) => {
                let thrown = ctx.catch();
                return Err(Unstarted(reason_text(&thrown)));
            }
            Err(error) => return Err(error.into()),
        };
        started();
        let mut turns = Turns::new(self, ctx.clone(), Rc::clone(host), Rc::clone(heap), first);
        let exit = turns.take(ready);
        turns.lose_all();
        Ok(exit)
    }
}

/// One line for a value that was thrown, without calling code for it where that can be helped.
fn reason_text(reason: &Value<'_>) -> String {
    let Some(object) = reason.as_object() else {
        if reason.is_symbol() {
            return "a symbol".to_owned();
        }
        return raw::text(reason).unwrap_or_default();
    };
    let part = |name: &str| {
        object
            .get::<_, Value<'_>>(name)
            .ok()
            .filter(raw::is_string)
            .and_then(|text| raw::text(&text).ok())
    };
    match (part("name"), part("message")) {
        (Some(name), Some(message)) => format!("{name}: {message}"),
        (None, Some(text)) | (Some(text), None) => text,
        (None, None) => "an object that is no error".to_owned(),
    }
}
