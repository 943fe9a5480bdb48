//! Runs of jobs: which begins, and what its steps do.
//!
//! What is asked for stands in the store, by whatever process it was put there, and is begun in that
//! order, one run of a job at a time. A process that ends in the middle leaves its runs as they are; the
//! next one goes on with the steps that had not succeeded, as this one does with a run that it could not
//! record the end of.

mod log;
mod objects;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use rand::Rng;
use tokio::sync::{Notify, broadcast};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tributary_model::{Error, ErrorKind, Result};

use crate::command::{self, Invocation};
use crate::config::{Job, Plan, Retries, Step, Work};
use crate::engine::{Engine, Moved};
use crate::orchestrator::Plans;
use crate::status::{Notice, Run, RunDetail, RunState};
use crate::store::{Request, Store};

use log::StepLog;
use objects::ObjectsOfRun;

/// How often it is looked whether another process has asked for something.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a step that is told to stop may take, before it is dropped.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// How long a run is left alone whose end could not be recorded: what fills a disk takes a while to go.
const CARRY_AGAIN: Duration = Duration::from_secs(5);

/// What is asked of the store to have a job run.
pub(crate) fn request(name: &str, job: &Job) -> Request {
    Request {
        job: name.to_owned(),
        overlap: job.overlap,
        steps: in_order(job)
            .into_iter()
            .map(|(name, step)| (name.to_owned(), step.work.name()))
            .collect(),
    }
}

/// The requests of the jobs that come behind one.
fn behind(plan: &Plan, name: &str) -> Vec<Request> {
    plan.jobs
        .iter()
        .filter(|(_, job)| job.after.iter().any(|before| before == name))
        .map(|(name, job)| request(name, job))
        .collect()
}

/// The steps of a job, each behind those that it needs.
pub(crate) fn in_order(job: &Job) -> Vec<(&str, &Step)> {
    let mut ordered: Vec<(&str, &Step)> = Vec::new();
    while ordered.len() < job.steps.len() {
        let before = ordered.len();
        for (name, step) in &job.steps {
            let is_there = |name: &str| ordered.iter().any(|(other, _)| *other == name);
            if !is_there(name) && step.needs.iter().all(|needed| is_there(needed)) {
                ordered.push((name, step));
            }
        }
        if ordered.len() == before {
            // No plan has steps that wait for one another.
            break;
        }
    }
    ordered
}

/// Begins runs, and carries them through.
pub(crate) struct Runner {
    pub(crate) store: Store,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) notices: broadcast::Sender<Notice>,
    /// Something may have been asked for.
    pub(crate) wake: Arc<Notify>,
    running: Mutex<HashMap<String, Cancel>>,
}

/// How one run is told to end.
#[derive(Clone, Default)]
struct Cancel {
    token: CancellationToken,
    /// Who wants that.
    by: Arc<Mutex<Option<String>>>,
}

/// What came of the steps of a run.
enum Outcome {
    /// What it is to end as, and why.
    Ended(RunState, Option<String>),
    /// Nothing: its job has other steps since it began, which this asks for.
    Outdated(Request),
    /// It was cut short.
    CutShort,
}

impl Runner {
    pub(crate) fn new(
        store: Store,
        engine: Arc<dyn Engine>,
        notices: broadcast::Sender<Notice>,
    ) -> Self {
        Self {
            store,
            engine,
            notices,
            wake: Arc::default(),
            running: Mutex::default(),
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, Cancel>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many runs run.
    pub(crate) fn count(&self) -> usize {
        self.running().len()
    }

    /// Begins what is asked for, until stopped. Then the runs are cut short, and gone on with by the next
    /// process.
    pub(crate) async fn serve(self: Arc<Self>, plans: Plans, stop: CancellationToken) {
        let mut runs = JoinSet::new();
        while !stop.is_cancelled() {
            match self.due().await {
                Ok(due) => {
                    for run in due {
                        let (runner, plans) = (Arc::clone(&self), Arc::clone(&plans));
                        let stop = stop.clone();
                        runs.spawn(async move { runner.carry_through(run, &plans, &stop).await });
                    }
                }
                Err(error) => tracing::error!(%error, "cannot see which runs are asked for"),
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
                // Another run of the same job may wait for it.
                Some(_) = runs.join_next() => {}
            }
        }
        while runs.join_next().await.is_some() {}
    }

    /// Tells the runs that are to end.
    async fn cancel_asked(&self) -> Result<()> {
        for (id, by) in self.store.to_be_cancelled().await? {
            if let Some(cancel) = self.running().get(&id) {
                let mut who = cancel.by.lock().unwrap_or_else(PoisonError::into_inner);
                who.get_or_insert(by);
                cancel.token.cancel();
            }
        }
        Ok(())
    }

    /// Tells runs that are to end, for as long as it is asked to.
    pub(crate) async fn heed_cancels(&self) -> Infallible {
        loop {
            if let Err(error) = self.cancel_asked().await {
                tracing::error!(%error, "cannot see which runs are to end");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The runs that are to begin now, and those that nobody goes on with: of a process that ended, or that
    /// could not be carried through. Tells those that are to end.
    async fn due(&self) -> Result<Vec<Run>> {
        // Asked before the store is: what ends meanwhile is not left by anybody.
        let carried: BTreeSet<String> = self.running().keys().cloned().collect();
        let mut due = self.store.running().await?;
        due.retain(|run| !carried.contains(&run.id));
        for run in &due {
            tracing::info!(
                run = run.id,
                job = run.job,
                "going on with a run that was cut short"
            );
        }
        due.extend(self.store.begin_runs().await?);
        for run in &due {
            self.running().insert(run.id.clone(), Cancel::default());
        }
        if let Err(error) = self.cancel_asked().await {
            tracing::error!(%error, "cannot see which runs are to end");
        }
        Ok(due)
    }

    /// Carries one run through that is due. Where what became of it could not be recorded, it counts as
    /// one that runs for a while yet, and is due again then.
    async fn carry_through(&self, run: Run, plans: &Plans, stop: &CancellationToken) {
        let carried = AssertUnwindSafe(self.try_to_carry(&run, plans, stop));
        let error = match carried.catch_unwind().await {
            Ok(carried) => carried.err(),
            Err(_) => Some(Error::new(ErrorKind::Internal, "the run ended early")),
        };
        if let Some(error) = error {
            let (id, job) = (&run.id, &run.job);
            tracing::error!(run = id, job, %error, wait = ?CARRY_AGAIN, "a run could not be carried through, and is gone on with");
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(CARRY_AGAIN) => {}
            }
        }
        self.running().remove(&run.id);
    }

    /// Carries one run through that has begun, where nothing else does, and answers it as it has ended; as it
    /// is, where it was cut short.
    pub(crate) async fn carry(
        &self,
        run: Run,
        plans: &Plans,
        stop: &CancellationToken,
    ) -> Result<Run> {
        self.running().insert(run.id.clone(), Cancel::default());
        let carried = self.try_to_carry(&run, plans, stop).await;
        self.running().remove(&run.id);
        Ok(carried?.unwrap_or(run))
    }

    /// The run as it has ended; none where it was cut short.
    async fn try_to_carry(
        &self,
        run: &Run,
        plans: &Plans,
        stop: &CancellationToken,
    ) -> Result<Option<Run>> {
        let cancel = self.running().entry(run.id.clone()).or_default().clone();
        let _ = self.notices.send(Notice::Run(run.clone()));
        // The file of its objects is gone by then: a run that has ended leaves none, wherever the process is killed.
        match self.do_steps(run, &plans(), &cancel, stop).await? {
            // What comes behind it is what the plan says that is in use by then.
            Outcome::Ended(state, error) => self.end(run, state, error, &plans()).await.map(Some),
            Outcome::Outdated(anew) => self.begin_anew(run, anew).await.map(Some),
            Outcome::CutShort => Ok(None),
        }
    }

    /// Does the steps of a run, and answers what came of it.
    async fn do_steps(
        &self,
        run: &Run,
        plan: &Plan,
        cancel: &Cancel,
        stop: &CancellationToken,
    ) -> Result<Outcome> {
        let objects = self.store.objects(&run.id).await?;
        let objects = ObjectsOfRun::new(self.store.directory(), &run.id, objects);
        let Some(job) = plan.jobs.get(&run.job) else {
            let error = "the job is not in the configuration any more";
            return Ok(Outcome::Ended(RunState::Failed, Some(error.to_owned())));
        };
        let mut detail = self.store.run(&run.id).await?;
        if !self.has_steps_of(&mut detail, job).await? {
            return Ok(Outcome::Outdated(request(&run.job, job)));
        }
        // Ends the steps: whoever wants that.
        let halt = CancellationToken::new();
        if cancel.token.is_cancelled() || stop.is_cancelled() {
            halt.cancel();
        }
        let deadline = async {
            match job.timeout {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        let mut timed_out = false;
        let ended = {
            let steps = self.steps(run, job, &detail, &objects, &halt);
            tokio::pin!(steps);
            let ended = tokio::select! {
                ended = &mut steps => Some(ended),
                () = stop.cancelled() => None,
                () = cancel.token.cancelled() => None,
                () = deadline => {
                    timed_out = true;
                    None
                }
            };
            match ended {
                Some(ended) => ended,
                None => {
                    halt.cancel();
                    steps.await
                }
            }
        };
        let by = cancel
            .by
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Ok(match ended? {
            None => Outcome::Ended(RunState::Succeeded, None),
            Some(error) => match (by, timed_out, job.timeout) {
                (Some(by), ..) => {
                    Outcome::Ended(RunState::Cancelled, Some(format!("cancelled by {by}")))
                }
                (None, true, Some(time)) => {
                    let error = format!("the run took longer than {}", in_words(time));
                    Outcome::Ended(RunState::Failed, Some(error))
                }
                _ if stop.is_cancelled() && halt.is_cancelled() => Outcome::CutShort,
                _ => Outcome::Ended(RunState::Failed, Some(error)),
            },
        })
    }

    async fn end(
        &self,
        run: &Run,
        state: RunState,
        error: Option<String>,
        plan: &Plan,
    ) -> Result<Run> {
        let behind = match state {
            RunState::Succeeded => behind(plan, &run.job),
            _ => Vec::new(),
        };
        let moved = self.moved(run).await?;
        let ended = self.store.end_run(&run.id, state, error, moved, behind);
        let (run, enqueued) = ended.await?;
        let enqueued = enqueued.into_iter().map(|enqueued| enqueued.run).collect();
        Ok(self.tell_end(run, enqueued))
    }

    /// Ends a run whose steps are not those of its job any more. Its objects are those of another run then.
    async fn begin_anew(&self, run: &Run, request: Request) -> Result<Run> {
        let moved = self.moved(run).await?;
        let (run, other) = self.store.begin_anew(&run.id, moved, request).await?;
        Ok(self.tell_end(run, other.into_iter().collect()))
    }

    /// What the steps of a run have moved.
    async fn moved(&self, run: &Run) -> Result<Moved> {
        let mut moved = Moved::default();
        for step in self.store.run(&run.id).await?.steps {
            moved += Moved {
                documents: step.documents,
                bytes: step.bytes,
            };
        }
        Ok(moved)
    }

    /// Tells that a run has ended, and what was asked for by that.
    fn tell_end(&self, run: Run, asked: Vec<Run>) -> Run {
        let (state, error) = (run.state.name(), run.error.as_deref());
        tracing::info!(run = run.id, job = run.job, state, error, "a run has ended");
        for run in std::iter::once(run.clone()).chain(asked) {
            let _ = self.notices.send(Notice::Run(run));
        }
        self.wake.notify_one();
        run
    }

    /// Whether a run has the steps that its job has now. One that has not begun gets them.
    async fn has_steps_of(&self, detail: &mut RunDetail, job: &Job) -> Result<bool> {
        let wanted: Vec<(String, &'static str)> = request("", job).steps;
        let is_same = detail.steps.len() == wanted.len()
            && detail
                .steps
                .iter()
                .zip(&wanted)
                .all(|(step, (name, work))| step.name == *name && step.work == *work);
        if is_same {
            return Ok(true);
        }
        if detail.steps.iter().any(|step| step.attempts > 0) {
            return Ok(false);
        }
        self.store.set_steps(&detail.run.id, wanted).await?;
        *detail = self.store.run(&detail.run.id).await?;
        Ok(true)
    }

    /// Does the steps that have not succeeded; the first reason why not all of them have, in words.
    async fn steps(
        &self,
        run: &Run,
        job: &Job,
        detail: &RunDetail,
        objects: &ObjectsOfRun,
        halt: &CancellationToken,
    ) -> Result<Option<String>> {
        let mut states: BTreeMap<&str, RunState> = BTreeMap::new();
        for step in &detail.steps {
            let state = match step.state {
                RunState::Succeeded => RunState::Succeeded,
                _ => RunState::Queued,
            };
            states.insert(step.name.as_str(), state);
        }
        let order = in_order(job);
        let mut failures: BTreeMap<usize, String> = BTreeMap::new();
        let mut at_work = futures::stream::FuturesUnordered::new();
        let mut begun: BTreeSet<&str> = BTreeSet::new();
        let mut broken = None;
        loop {
            for (position, (name, step)) in order.iter().enumerate() {
                let of = |name: &str| states.get(name).copied().unwrap_or(RunState::Queued);
                if of(name) != RunState::Queued || begun.contains(name) || halt.is_cancelled() {
                    continue;
                }
                if step
                    .needs
                    .iter()
                    .all(|needed| of(needed) == RunState::Succeeded)
                {
                    begun.insert(name);
                    let does = self.step(run, name, step, objects, halt);
                    at_work.push(async move { (position, does.await) });
                }
            }
            let Some((position, result)) = futures::StreamExt::next(&mut at_work).await else {
                break;
            };
            let (name, _) = order[position];
            match result {
                Ok(None) => {
                    states.insert(name, RunState::Succeeded);
                }
                Ok(Some(error)) => {
                    states.insert(name, RunState::Failed);
                    failures.insert(position, format!("step {name}: {error}"));
                }
                Err(error) => {
                    // The run is gone on with, and what is at work has to be over by then.
                    halt.cancel();
                    broken.get_or_insert(error);
                }
            }
        }
        if let Some(error) = broken {
            return Err(error);
        }
        if halt.is_cancelled() && failures.is_empty() {
            let is_done = states.values().all(|state| *state == RunState::Succeeded);
            return Ok((!is_done).then(|| "it was stopped".to_owned()));
        }
        Ok(failures.into_values().next())
    }

    /// Does one step, as often as it may be tried; why it did not succeed, in words.
    async fn step(
        &self,
        run: &Run,
        name: &str,
        step: &Step,
        objects: &ObjectsOfRun,
        halt: &CancellationToken,
    ) -> Result<Option<String>> {
        let log = StepLog::open(self.store.clone(), &run.id, name);
        let mut failed = 0;
        let error = loop {
            let attempt = self.store.begin_step(&run.id, name).await?;
            let error = match self
                .attempt(run, name, step, attempt, objects, &log, halt)
                .await
            {
                Ok(()) => break None,
                Err(error) => error,
            };
            if halt.is_cancelled() {
                break Some(error);
            }
            log.line(&format!("failed: {error}"));
            failed += 1;
            // These stay as they are until somebody does something about them, who is told at once.
            // Of what was cut off, nobody knows whether it has been done.
            let stays = matches!(
                error.kind(),
                ErrorKind::Usage | ErrorKind::SchemaChanged | ErrorKind::Interrupted
            );
            if failed > step.retries.times || stays {
                break Some(error);
            }
            let wait = wait_before(&step.retries, failed);
            log.line(&format!("trying again in {}", in_words(wait)));
            self.store
                .end_step(&run.id, name, RunState::Running, Some(error.to_string()))
                .await?;
            log.flush().await;
            tokio::select! {
                () = halt.cancelled() => break Some(error),
                () = tokio::time::sleep(wait) => {}
            }
        };
        log.close().await;
        if halt.is_cancelled() && error.is_some() {
            // What it is then is decided with the run.
            return Ok(error.map(|error| error.to_string()));
        }
        let state = match error {
            None => RunState::Succeeded,
            Some(_) => RunState::Failed,
        };
        let error = error.map(|error| error.to_string());
        self.store
            .end_step(&run.id, name, state, error.clone())
            .await?;
        Ok(error)
    }

    /// One try of a step.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is another part of what the try is of"
    )]
    async fn attempt(
        &self,
        run: &Run,
        name: &str,
        step: &Step,
        attempt: u32,
        objects: &ObjectsOfRun,
        log: &StepLog,
        halt: &CancellationToken,
    ) -> Result<()> {
        let stop = halt.child_token();
        let work = async {
            match &step.work {
                Work::Command(command) => {
                    let mut variables = objects.variables().await?;
                    variables.extend([
                        ("TRIBUTARY_JOB", run.job.clone()),
                        ("TRIBUTARY_RUN", run.id.clone()),
                        ("TRIBUTARY_STEP", name.to_owned()),
                        ("TRIBUTARY_ATTEMPT", attempt.to_string()),
                    ]);
                    let output = |_, line: &str| log.line(line);
                    let invocation = Invocation {
                        command,
                        variables,
                        output: &output,
                    };
                    command::run(invocation, &stop).await
                }
                work => {
                    let (engine, work) = (Arc::clone(&self.engine), work.clone());
                    let (tell, ends) = (log.teller(), stop.clone());
                    // A panic ends the step alone; a step that is dropped does nothing more.
                    let done = tokio::spawn(async move { engine.work(&work, tell, ends).await });
                    let moved = AbortOnDropHandle::new(done).await.map_err(|panic| {
                        Error::new(ErrorKind::Internal, "the step ended early").because(panic)
                    })?;
                    moved.map(|moved| log.moved_in_all(moved))
                }
            }
        };
        tokio::pin!(work);
        let mut took_too_long = false;
        tokio::select! {
            result = &mut work => return result,
            () = halt.cancelled() => {}
            () = async {
                match step.timeout {
                    Some(time) => tokio::time::sleep(time).await,
                    None => std::future::pending().await,
                }
            } => took_too_long = true,
        }
        stop.cancel();
        // What does not stop is dropped, and does nothing more then.
        let result = tokio::time::timeout(STOP_PATIENCE, work).await;
        if took_too_long && let Some(time) = step.timeout {
            let what = format!("the step took longer than {}", in_words(time));
            return Err(Error::new(ErrorKind::Unavailable, what)
                .remedy("give it more time with `timeout`, or less to do"));
        }
        match result {
            // It was done just then.
            Ok(Ok(())) => Ok(()),
            _ => Err(Error::new(ErrorKind::Interrupted, "the step was stopped")),
        }
    }
}

/// How long to wait before another try: twice as long each time, and not all at the same moment.
fn wait_before(retries: &Retries, failed: u32) -> Duration {
    let factor = 2_u32.saturating_pow(failed.saturating_sub(1).min(20));
    let longest = retries
        .wait
        .saturating_mul(factor)
        .min(retries.longest_wait);
    longest.mul_f64(rand::rng().random_range(0.75..=1.0))
}

/// A time for people.
pub(crate) fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86400),
    }
}
