//! The runs of one engine, which take turns.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rquickjs::{Ctx, qjs};
use tokio::task::AbortHandle;

use super::bson::raw;
use super::heap::Heap;
use super::host::{Console, Current, Effect, Host, Verdict};
use super::realm::{Realm, Returned};
use super::thread::{Batch, Exit, Message, Work};
use super::{Failure, FailureKind, Outcome};
use crate::services::{ServiceError, ServiceScope};

/// A turn that takes longer than this is added to the time that the other runs have.
const NOTICEABLE: Duration = Duration::from_millis(5);

/// How many messages are taken before timers and deadlines are looked at again.
const MESSAGES_AT_ONCE: usize = 64;

/// How many jobs may execute between two looks at the deadline. The engine itself looks only within code.
const JOBS_AT_ONCE: u32 = 64;

/// The most jobs that an ended run may leave; each of them only fails, and rarely leads to another.
const MOST_LEFT_JOBS: usize = 1_000_000;

/// What came of a run.
type Ending = Result<Bytes, Failure>;

/// A function that was called and has not ended.
struct Run<'js> {
    batch: Batch,
    started: Instant,
    deadline: Instant,
    console: Console,
    /// Which run it is to those outside.
    number: u64,
    request: Option<Bytes>,
    returned: Returned<'js>,
    realm: Realm<'js>,
    /// What the function has returned, while services still do what it asked for and did not wait for.
    result: Option<Bytes>,
    scope: Option<Arc<dyn ServiceScope>>,
    calls: HashMap<u64, AbortHandle>,
    timers: HashSet<u64>,
}

impl Run<'_> {
    /// Whether anything is left that it could wait for.
    fn waits(&self) -> bool {
        !self.calls.is_empty() || !self.timers.is_empty()
    }
}

struct Timer {
    run: u64,
    interval: Option<Duration>,
}

/// The runs of one engine.
pub(super) struct Turns<'w, 'js> {
    work: &'w Work,
    ctx: Ctx<'js>,
    host: Rc<Host>,
    heap: Rc<Heap>,
    /// Contexts that no run has; those of the last runs come first again.
    idle: Vec<Realm<'js>>,
    runs: BTreeMap<u64, Run<'js>>,
    timers: HashMap<u64, Timer>,
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    exit: Option<Exit>,
}

impl<'w, 'js> Turns<'w, 'js> {
    pub(super) fn new(
        work: &'w Work,
        ctx: Ctx<'js>,
        host: Rc<Host>,
        heap: Rc<Heap>,
        first: Realm<'js>,
    ) -> Self {
        Self {
            work,
            ctx,
            host,
            heap,
            idle: vec![first],
            runs: BTreeMap::new(),
            timers: HashMap::new(),
            due: BinaryHeap::new(),
            exit: None,
        }
    }

    /// Takes turns until the engine is not to be used any more. `ready` are the batches whose next call is to begin.
    pub(super) fn take(&mut self, ready: &mut VecDeque<Batch>) -> Exit {
        loop {
            if let Some(message) = self.next_message(ready.is_empty() || !self.has_room()) {
                self.receive(message, ready);
                // Answers that are there count before the deadlines of those who wait for them.
                for _ in 1..MESSAGES_AT_ONCE {
                    let Ok(message) = self.work.inbox.try_recv() else {
                        break;
                    };
                    self.receive(message, ready);
                    if self.exit.is_some() {
                        break;
                    }
                }
            }
            if self.exit.is_none()
                && self.has_room()
                && let Some(batch) = ready.pop_front()
            {
                self.begin(batch, ready);
            }
            if self.exit.is_none() && !self.runs.is_empty() {
                self.fire_timers(ready);
                self.end_overdue(ready);
            }
            if let Some(exit) = self.exit {
                return exit;
            }
            if self.work.stopping.load(Ordering::Relaxed) {
                return Exit::Stop;
            }
        }
    }

    /// Waits for a message, at most until the next timer or deadline.
    fn next_message(&self, may_wait: bool) -> Option<Message> {
        if !may_wait {
            return self.work.inbox.try_recv().ok();
        }
        let deadline = self.runs.values().map(|run| run.deadline).min();
        let timer = self.due.peek().map(|Reverse((due, _))| *due);
        match deadline.into_iter().chain(timer).min() {
            None => Some(self.work.inbox.recv().unwrap_or(Message::Stop)),
            Some(until) => {
                let wait = until.saturating_duration_since(Instant::now());
                match self.work.inbox.recv_timeout(wait) {
                    Ok(message) => Some(message),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => Some(Message::Stop),
                }
            }
        }
    }

    fn receive(&mut self, message: Message, ready: &mut VecDeque<Batch>) {
        match message {
            Message::Run(batch) => ready.push_back(batch),
            Message::Answer { run, call, result } => self.answer(run, call, result, ready),
            Message::Abandoned => {
                let is_abandoned = |batch: &Batch| batch.abandoned.load(Ordering::Relaxed);
                ready.retain(|batch| !is_abandoned(batch));
                let abandoned: Vec<u64> = self
                    .runs
                    .iter()
                    .filter(|(_, run)| is_abandoned(&run.batch))
                    .map(|(id, _)| *id)
                    .collect();
                for id in abandoned {
                    if let Some(mut run) = self.runs.remove(&id) {
                        self.give_up(&mut run);
                    }
                }
            }
            Message::Stop => self.exit = Some(Exit::Stop),
        }
    }

    /// Whether a run may begin: in a context that no other has, or in a new one that there is memory for.
    fn has_room(&self) -> bool {
        !self.idle.is_empty() || self.runs.is_empty() || self.heap.used() < self.heap.limit() / 2
    }

    /// A context for a run.
    fn realm(&mut self) -> Result<Realm<'js>, Failure> {
        if let Some(realm) = self.idle.pop() {
            return Ok(realm);
        }
        let made = self.work.realm(&self.ctx, &self.host);
        if self.heap.exceeded() {
            self.exit.get_or_insert(Exit::Renew);
            return Err(self.out_of_memory());
        }
        made.map_err(|_| {
            self.ctx.catch();
            self.exit.get_or_insert(Exit::Renew);
            lost()
        })
    }

    /// Begins the next call of a batch.
    fn begin(&mut self, mut batch: Batch, ready: &mut VecDeque<Batch>) {
        let Some(call) = batch.calls.pop_front() else {
            return;
        };
        let started = Instant::now();
        let realm = match self.realm() {
            Ok(realm) => realm,
            Err(failure) => {
                batch.with(Outcome {
                    result: Err(failure),
                    console: Vec::new(),
                    duration: started.elapsed(),
                });
                return;
            }
        };
        let id = self.host.next_id();
        let run = Run {
            batch,
            started,
            // A time beyond what the clock can say is as good as none.
            deadline: started
                .checked_add(self.work.limits.timeout)
                .unwrap_or_else(|| started + Duration::from_secs(86_400 * 365)),
            console: Console::new(self.work.limits.console),
            number: call.run,
            request: call.request.clone(),
            returned: Returned::Nothing,
            realm,
            result: None,
            scope: None,
            calls: HashMap::new(),
            timers: HashSet::new(),
        };
        self.runs.insert(id, run);
        self.turn(id, ready, |run| match run.realm.call(&call) {
            Ok(returned) => {
                run.returned = returned;
                None
            }
            Err(failure) => Some(Err(failure)),
        });
    }

    /// Lets code of a run execute, with all that follows from it at once, and looks what has come of the run.
    fn turn(
        &mut self,
        id: u64,
        ready: &mut VecDeque<Batch>,
        act: impl FnOnce(&mut Run<'js>) -> Option<Ending>,
    ) {
        let Some(mut run) = self.runs.remove(&id) else {
            return;
        };
        let began = Instant::now();
        self.host.enter(Current {
            deadline: run.deadline,
            abandoned: Arc::clone(&run.batch.abandoned),
            console: std::mem::replace(&mut run.console, Console::new(0)),
            request: run.request.take(),
        });
        let mut ending = act(&mut run);
        self.drain();
        if ending.is_none() && run.result.is_none() {
            ending = run.realm.settled(&run.returned);
            self.drain();
        }
        self.report_rejections(&run);
        let (current, verdict) = self.host.leave();
        if let Some(current) = current {
            run.console = current.console;
            run.request = current.request;
        }
        let effects = self.host.take_effects();
        match verdict {
            None => {}
            Some(Verdict::TimedOut) => ending = Some(Err(self.timed_out())),
            Some(Verdict::OutOfMemory) => {
                ending = Some(Err(self.out_of_memory()));
                self.exit.get_or_insert(Exit::Renew);
            }
            Some(Verdict::Abandoned) => {
                self.give_up(&mut run);
                return;
            }
            Some(Verdict::Stopping) => {
                ending = Some(Err(lost()));
                self.exit = Some(Exit::Stop);
            }
        }
        match ending.or_else(|| run.result.take().map(Ok)) {
            Some(Ok(result)) => {
                self.apply(id, &mut run, effects);
                if run.calls.is_empty() {
                    self.end(run, Ok(result), ready);
                } else {
                    run.result = Some(result);
                    self.runs.insert(id, run);
                }
            }
            Some(Err(failure)) => self.end(run, Err(failure), ready),
            None => {
                self.apply(id, &mut run, effects);
                if run.waits() {
                    self.runs.insert(id, run);
                } else {
                    self.end(run, Err(never_settled()), ready);
                }
            }
        }
        let took = began.elapsed();
        if took > NOTICEABLE {
            for (_, other) in self.runs.iter_mut().filter(|(other, _)| **other != id) {
                other.deadline += took;
            }
        }
    }

    /// Executes what promises have queued.
    fn drain(&mut self) {
        let mut jobs = 0;
        loop {
            if self.host.is_interrupted() || (jobs == JOBS_AT_ONCE && self.host.interrupts()) {
                return self.purge();
            }
            jobs = if jobs == JOBS_AT_ONCE { 0 } else { jobs + 1 };
            if !self.ctx.execute_pending_job() {
                return;
            }
        }
    }

    /// Gets rid of the jobs of a run that was interrupted, without executing any of its code.
    ///
    /// The engine cannot drop jobs. With no stack to run on, each of them fails before its code is called.
    fn purge(&mut self) {
        self.set_stack(1);
        let mut left = MOST_LEFT_JOBS;
        while left > 0 && self.ctx.execute_pending_job() {
            left -= 1;
        }
        self.set_stack(self.work.limits.stack);
        self.ctx.catch();
        if left == 0 {
            self.exit.get_or_insert(Exit::Renew);
        }
    }

    fn set_stack(&self, size: usize) {
        // SAFETY: the context is entered, and the runtime is its own. The safe interface would lock the runtime,
        // which is locked as long as the context is entered.
        unsafe {
            let runtime = qjs::JS_GetRuntime(self.ctx.as_raw().as_ptr());
            qjs::JS_SetMaxStackSize(runtime, size as qjs::size_t);
        }
    }

    /// Says on the console which promises were rejected without anybody looking; the run's own is looked at here.
    fn report_rejections(&self, run: &Run<'js>) {
        let rejections = self.host.take_rejections();
        if rejections.is_empty() {
            return;
        }
        let own = match &run.returned {
            Returned::Promise(promise) => Some(raw::identity(promise.as_value())),
            _ => None,
        };
        for (rejected, reason) in rejections {
            if own != Some(rejected) {
                self.host.print(
                    "error",
                    format!("a promise was rejected and nobody looked: {reason}"),
                );
            }
        }
    }

    /// Does what a run asked for.
    fn apply(&mut self, id: u64, run: &mut Run<'js>, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Call(call, asked) => {
                    let scope = Arc::clone(
                        run.scope
                            .get_or_insert_with(|| self.work.services.scope(run.number)),
                    );
                    let mut answer = Answer {
                        outbox: self.work.outbox.clone(),
                        run: id,
                        call,
                        is_sent: false,
                    };
                    let task = self
                        .work
                        .io
                        .spawn(async move { answer.send(scope.call(asked).await) });
                    run.calls.insert(call, task.abort_handle());
                }
                Effect::Timer(timer, due, interval) => {
                    self.timers.insert(timer, Timer { run: id, interval });
                    self.due.push(Reverse((due, timer)));
                    run.timers.insert(timer);
                }
                Effect::ClearTimer(timer) => {
                    if run.timers.remove(&timer) {
                        self.timers.remove(&timer);
                    }
                }
            }
        }
    }

    fn answer(
        &mut self,
        id: u64,
        call: u64,
        result: Result<Bytes, ServiceError>,
        ready: &mut VecDeque<Batch>,
    ) {
        self.turn(id, ready, |run| {
            // It may have been told already that nothing will come.
            run.calls.remove(&call)?;
            match run.realm.deliver(call, result) {
                Ok(()) => None,
                Err(_) => Some(Err(run.realm.thrown(FailureKind::Thrown))),
            }
        });
    }

    fn fire_timers(&mut self, ready: &mut VecDeque<Batch>) {
        let now = Instant::now();
        while self.exit.is_none()
            && let Some(Reverse((due, id))) = self.due.peek().copied()
            && due <= now
        {
            self.due.pop();
            let Some(timer) = self.timers.get(&id) else {
                continue;
            };
            let owner = timer.run;
            if let Some(interval) = timer.interval {
                self.due.push(Reverse((Instant::now() + interval, id)));
            } else {
                self.timers.remove(&id);
                if let Some(run) = self.runs.get_mut(&owner) {
                    run.timers.remove(&id);
                }
            }
            self.turn(owner, ready, |run| match run.realm.fire(id) {
                Ok(()) => None,
                Err(_) => Some(Err(run.realm.thrown(FailureKind::Thrown))),
            });
        }
    }

    fn end_overdue(&mut self, ready: &mut VecDeque<Batch>) {
        let now = Instant::now();
        while let Some(id) = self
            .runs
            .iter()
            .find(|(_, run)| run.deadline <= now)
            .map(|(id, _)| *id)
        {
            if let Some(mut run) = self.runs.remove(&id) {
                let ending = match run.result.take() {
                    Some(result) => {
                        let given_up = format!(
                            "{} calls of services were given up: the function had not waited for them",
                            run.calls.len()
                        );
                        run.console.print("error", given_up);
                        Ok(result)
                    }
                    None => Err(self.timed_out()),
                };
                self.end(run, ending, ready);
            }
        }
    }

    /// Ends a run: what it left open is closed, and whoever waits is told, or the next call of its batch is ready.
    ///
    /// Its context is used again where it ended well: what a run that failed has left there may be half done.
    fn end(&mut self, mut run: Run<'js>, ending: Ending, ready: &mut VecDeque<Batch>) {
        self.give_up(&mut run);
        // Nothing of the run is kept while the memory that it leaves is looked at.
        run.returned = Returned::Nothing;
        let is_usable = ending.is_ok() && self.exit.is_none() && !self.is_nearly_full();
        if is_usable && run.realm.forget().is_ok() {
            self.idle.push(run.realm);
        } else {
            drop(run.realm);
            self.ctx.catch();
            if self.is_nearly_full() {
                self.idle.clear();
                self.ctx.run_gc();
                if self.runs.is_empty() && self.is_nearly_full() {
                    self.exit.get_or_insert(Exit::Renew);
                }
            }
        }
        let outcome = Outcome {
            result: ending,
            console: run.console.into_lines(),
            duration: run.started.elapsed(),
        };
        if let Some(batch) = run.batch.with(outcome) {
            ready.push_back(batch);
        }
    }

    /// Whether what variables of files keep leaves too little memory for runs.
    fn is_nearly_full(&self) -> bool {
        self.heap.used() > self.heap.limit() / 8 * 7
    }

    /// Lets go of what a run waits for.
    fn give_up(&mut self, run: &mut Run<'js>) {
        for (_, task) in run.calls.drain() {
            task.abort();
        }
        run.scope = None;
        for timer in run.timers.drain() {
            self.timers.remove(&timer);
        }
    }

    /// The failure of a run that is not done in time.
    fn timed_out(&self) -> Failure {
        let limit = self.work.limits.timeout;
        Failure::of(
            FailureKind::TimedOut,
            "TimeoutError",
            format!("the function was not done within {limit:?}"),
        )
    }

    /// The failure of a run that used up the memory.
    fn out_of_memory(&self) -> Failure {
        let limit = self.work.limits.memory;
        Failure::of(
            FailureKind::OutOfMemory,
            "InternalError",
            format!("the functions of the thread took more than {limit} bytes of memory"),
        )
    }

    /// Tells those who wait for a run that it is lost, as the engine is.
    pub(super) fn lose_all(&mut self) {
        for (_, mut run) in std::mem::take(&mut self.runs) {
            for task in run.calls.values() {
                task.abort();
            }
            run.returned = Returned::Nothing;
            run.batch.calls.clear();
            run.batch.with(Outcome {
                result: Err(lost()),
                console: run.console.into_lines(),
                duration: run.started.elapsed(),
            });
        }
    }
}

/// The failure of a run that waits for what cannot come.
fn never_settled() -> Failure {
    Failure::of(
        FailureKind::NeverSettled,
        "Error",
        "the promise that the function returned is not settled, and nothing is left that could settle it",
    )
}

/// The failure of a run whose engine ended for another reason than the run.
fn lost() -> Failure {
    Failure::of(
        FailureKind::Lost,
        "Error",
        "the engine of the function ended, for no reason of the function's",
    )
}

/// Sends the answer of a service, and says so where there is none: the task may be ended or panic.
struct Answer {
    outbox: std::sync::mpsc::Sender<Message>,
    run: u64,
    call: u64,
    is_sent: bool,
}

impl Answer {
    fn send(&mut self, result: Result<Bytes, ServiceError>) {
        self.is_sent = true;
        // Where the thread has ended, nobody waits for the answer.
        let _ = self.outbox.send(Message::Answer {
            run: self.run,
            call: self.call,
            result,
        });
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.is_sent {
            self.send(Err(ServiceError {
                name: "Error".to_owned(),
                message: "the service gave no answer".to_owned(),
                code: None,
                labels: Vec::new(),
                is_transient: false,
            }));
        }
    }
}
