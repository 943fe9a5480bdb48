//! Flows are kept going: each by a task of its own, and started again when it fails.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use chrono::Utc;
use rand::Rng;
use tokio::sync::{Notify, broadcast};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tributary_flow::{All, Observer};
use tributary_model::{Error, ErrorKind, Namespace, Position, Result};

use crate::config::Flow;
use crate::engine::Engine;
use crate::status::{FlowState, FlowStatus, Notice, Reloaded};
use crate::watch::FlowWatch;

/// How long to wait before a flow is started again; twice as long each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// How long at most: somebody who has mended something does not want to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Who has gone on for so long has recovered.
const RECOVERED_AFTER: Duration = Duration::from_secs(60);
/// How often it is looked for tables that have failed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a flow that is to end may take to commit what it has read.
const STOP_PATIENCE: Duration = Duration::from_secs(45);

/// All flows.
pub(crate) struct Flows {
    engine: Arc<dyn Engine>,
    notices: broadcast::Sender<Notice>,
    /// How long a flow that is to end may take.
    patience: Duration,
    kept: Mutex<BTreeMap<String, Kept>>,
    /// One thing is done to the flows at a time, and none is started any more when all have been stopped
    /// at the end.
    is_over: tokio::sync::Mutex<bool>,
}

/// A flow, and what keeps it going.
struct Kept {
    flow: Flow,
    watch: Arc<FlowWatch>,
    task: Option<Task>,
}

struct Task {
    stop: CancellationToken,
    /// Ends a wait.
    wake: Arc<Notify>,
    handle: JoinHandle<()>,
}

impl Flows {
    pub(crate) fn new(engine: Arc<dyn Engine>, notices: broadcast::Sender<Notice>) -> Self {
        Self {
            engine,
            notices,
            patience: STOP_PATIENCE,
            kept: Mutex::default(),
            is_over: tokio::sync::Mutex::default(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn watches(&self) -> Vec<(String, Arc<FlowWatch>)> {
        let kept = self.kept();
        kept.iter()
            .map(|(name, kept)| (name.clone(), Arc::clone(&kept.watch)))
            .collect()
    }

    pub(crate) fn statuses(&self) -> Vec<FlowStatus> {
        let watches = self.watches();
        watches.iter().map(|(_, watch)| watch.status()).collect()
    }

    pub(crate) fn status(&self, name: &str) -> Result<FlowStatus> {
        let kept = self.kept();
        let kept = kept.get(name).ok_or_else(|| no_flow(name))?;
        Ok(kept.watch.status())
    }

    pub(crate) fn flow(&self, name: &str) -> Result<Flow> {
        let kept = self.kept();
        let kept = kept.get(name).ok_or_else(|| no_flow(name))?;
        Ok(kept.flow.clone())
    }

    /// Knows these flows from now on, and starts none.
    pub(crate) fn know(&self, flows: &BTreeMap<String, Flow>) {
        let mut kept = self.kept();
        for (name, flow) in flows {
            kept.insert(name.clone(), self.known(flow));
        }
    }

    fn known(&self, flow: &Flow) -> Kept {
        Kept {
            flow: flow.clone(),
            watch: Arc::new(FlowWatch::new(flow, self.notices.clone())),
            task: None,
        }
    }

    /// Brings what runs to these flows: what has not changed goes on. It is to be waited for to its end, as
    /// all that starts and stops flows: what is stopped is known to nobody else meanwhile.
    pub(crate) async fn become_these(
        &self,
        flows: &BTreeMap<String, Flow>,
        is_stopped: impl Fn(&str) -> bool,
    ) -> Reloaded {
        let is_over = self.is_over.lock().await;
        let mut reloaded = Reloaded::default();
        let mut ending = Vec::new();
        {
            let mut kept = self.kept();
            let gone: Vec<String> = kept
                .iter()
                .filter(|(name, kept)| flows.get(*name) != Some(&kept.flow))
                .map(|(name, _)| name.clone())
                .collect();
            for name in gone {
                if let Some(was) = kept.remove(&name) {
                    ending.push((name, was));
                }
            }
        }
        for task in ending.iter().filter_map(|(_, was)| was.task.as_ref()) {
            task.stop.cancel();
        }
        for (name, was) in ending {
            end(was.task).await;
            match flows.contains_key(&name) {
                true => reloaded.restarted.push(name),
                false => reloaded.stopped.push(name),
            }
        }
        let mut kept = self.kept();
        for (name, flow) in flows {
            let is_new = !kept.contains_key(name);
            let kept = kept.entry(name.clone()).or_insert_with(|| self.known(flow));
            if kept.task.is_none() && !flow.paused && !is_stopped(name) && !*is_over {
                kept.task = Some(self.begin(flow, &kept.watch));
            }
            match is_new {
                false => reloaded.kept.push(name.clone()),
                true if reloaded.restarted.contains(name) => {}
                true => reloaded.started.push(name.clone()),
            }
        }
        reloaded
    }

    fn begin(&self, flow: &Flow, watch: &Arc<FlowWatch>) -> Task {
        let stop = CancellationToken::new();
        let wake = Arc::new(Notify::new());
        watch.starting();
        let keeper = Keeper {
            engine: Arc::clone(&self.engine),
            flow: flow.clone(),
            watch: Arc::clone(watch),
            patience: self.patience,
            stop: stop.clone(),
            wake: Arc::clone(&wake),
        };
        let handle = tokio::spawn(keeper.keep());
        Task { stop, wake, handle }
    }

    /// Starts a flow; one that waits is tried at once.
    pub(crate) async fn start(&self, name: &str) -> Result<FlowStatus> {
        let is_over = self.is_over.lock().await;
        let mut kept = self.kept();
        let kept = kept.get_mut(name).ok_or_else(|| no_flow(name))?;
        match &kept.task {
            _ if *is_over => return Err(ending(name)),
            Some(task) => task.wake.notify_one(),
            None => kept.task = Some(self.begin(&kept.flow, &kept.watch)),
        }
        Ok(kept.watch.status())
    }

    /// Stops a flow, when it has committed what it has read.
    pub(crate) async fn stop(&self, name: &str) -> Result<FlowStatus> {
        let _turn = self.is_over.lock().await;
        let task = {
            let mut kept = self.kept();
            let kept = kept.get_mut(name).ok_or_else(|| no_flow(name))?;
            kept.task.take()
        };
        end(task).await;
        self.status(name)
    }

    /// Tells all flows to end, whatever is being done to one of them.
    pub(crate) fn tell_to_end(&self) {
        for task in self.kept().values().filter_map(|kept| kept.task.as_ref()) {
            task.stop.cancel();
        }
    }

    /// Stops all flows, when they have committed what they have read, for good.
    pub(crate) async fn stop_all(&self) {
        let mut is_over = self.is_over.lock().await;
        *is_over = true;
        self.tell_to_end();
        let tasks: Vec<Task> = {
            let mut kept = self.kept();
            kept.values_mut()
                .filter_map(|kept| kept.task.take())
                .collect()
        };
        for task in tasks {
            end(Some(task)).await;
        }
    }
}

async fn end(task: Option<Task>) {
    let Some(task) = task else { return };
    task.stop.cancel();
    if let Err(panic) = task.handle.await {
        tracing::error!(error = %panic, "what kept a flow going ended early");
    }
}

fn no_flow(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, "there is no such flow")
        .on("flow", name)
        .remedy("it is to stand under `flows` in the configuration")
}

fn ending(name: &str) -> Error {
    Error::new(
        ErrorKind::Conflict,
        "no flow is started while Tributary is ending",
    )
    .on("flow", name)
    .remedy("it is started with Tributary the next time")
}

/// Keeps one flow going.
struct Keeper {
    engine: Arc<dyn Engine>,
    flow: Flow,
    watch: Arc<FlowWatch>,
    /// How long it may take to end.
    patience: Duration,
    stop: CancellationToken,
    wake: Arc<Notify>,
}

/// Why a flow does not go on.
enum Ended {
    /// It was to end.
    Stopped,
    /// There was nothing to do.
    Idle,
    /// Tables that failed are to be tried again.
    TriesTables,
    /// It failed.
    Failed(Error),
}

impl Ended {
    /// How long to wait then, after so many failures before.
    fn wait(&self, failures: u32) -> Duration {
        match self {
            // It was waited while the other tables went on.
            Self::Stopped | Self::TriesTables => Duration::ZERO,
            Self::Idle | Self::Failed(_) => wait_after(failures),
        }
    }
}

impl Keeper {
    async fn keep(self) {
        let mut failures = 0;
        loop {
            let (begun, patience) = (Instant::now(), wait_after(failures));
            let ended = self.follow(patience).await;
            let went_well = match ended {
                // What comes before the first table is followed, such as opening all of them, may take long.
                Ended::TriesTables => self.watch.went_well_for(),
                _ => begun.elapsed().saturating_sub(patience),
            };
            if went_well >= RECOVERED_AFTER {
                failures = 0;
            }
            let wait = ended.wait(failures);
            let error = match ended {
                Ended::Stopped => break,
                Ended::Idle | Ended::TriesTables => None,
                Ended::Failed(error) => Some(error),
            };
            failures += 1;
            let at = Utc::now() + wait;
            self.watch.retries(error.as_ref(), at);
            if let Some(error) = &error {
                tracing::warn!(flow = self.flow.name, %error, ?wait, "a flow failed");
            }
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = self.wake.notified() => failures = 0,
                () = tokio::time::sleep(wait) => {}
            }
            self.watch.starting();
        }
        self.watch.stopped();
        self.engine.ended(&self.flow);
    }

    /// Follows until it ends, or a table has failed for `patience`, during which the others go on. They also
    /// load to their ends: a load that is cut short again and again may never get there.
    async fn follow(&self, patience: Duration) -> Ended {
        let stop = self.stop.child_token();
        let (engine, flow) = (Arc::clone(&self.engine), self.flow.clone());
        let (watch, ends) = (Arc::clone(&self.watch), stop.clone());
        let begins: Arc<dyn Observer> = Arc::new(Beginning::of(&self.flow, &watch));
        let observer = Arc::new(All(vec![watch, begins]));
        // A panic ends the flow alone; a flow that is dropped does nothing more.
        let work = tokio::spawn(async move { engine.follow(&flow, observer, ends).await });
        let mut work = AbortOnDropHandle::new(work);
        let overdue = async {
            self.stop.cancelled().await;
            tokio::time::sleep(self.patience).await;
        };
        tokio::pin!(overdue);
        let mut tries_again = false;
        let result = loop {
            tokio::select! {
                result = &mut work => break result,
                () = &mut overdue => {
                    let (flow, waited) = (&self.flow.name, self.patience);
                    tracing::warn!(flow, ?waited, "a flow did not end, and is cut short: what it has not committed is read again");
                    work.abort();
                    break work.await;
                }
                () = self.wake.notified() => {
                    tries_again |= self.watch.failed_since().is_some();
                }
                () = tokio::time::sleep(LOOK_EVERY) => {
                    let failed = self.watch.failed_since();
                    let is_due = failed.is_some_and(|since| since.elapsed() >= patience);
                    tries_again |= is_due && !self.watch.is_loading();
                }
            }
            if tries_again {
                stop.cancel();
            }
        };
        match result {
            _ if self.stop.is_cancelled() => Ended::Stopped,
            Ok(Ok(())) if tries_again => Ended::TriesTables,
            Ok(Ok(())) => Ended::Idle,
            Ok(Err(error)) => Ended::Failed(error),
            Err(panic) => Ended::Failed(
                Error::new(ErrorKind::Internal, "the flow ended early").because(panic),
            ),
        }
    }
}

/// Hears why a flow cannot begin: what it waits for is told while none of its tables says anything.
struct Beginning {
    name: String,
    watch: Arc<FlowWatch>,
    /// What arrives in a lake says nothing of what is behind it.
    is_staged: bool,
    has_begun: AtomicBool,
}

impl Beginning {
    fn of(flow: &Flow, watch: &Arc<FlowWatch>) -> Self {
        Self {
            name: flow.name.clone(),
            watch: Arc::clone(watch),
            is_staged: flow.route.through.is_some(),
            has_begun: AtomicBool::new(false),
        }
    }

    fn begins(&self) {
        self.has_begun.store(true, Ordering::Relaxed);
    }

    fn waits(&self, error: &Error, wait: Duration) {
        let wait = chrono::TimeDelta::from_std(wait).unwrap_or_default();
        self.watch.retries(Some(error), Utc::now() + wait);
        tracing::warn!(flow = self.name, %error, %wait, "a flow cannot begin");
    }

    /// Whether no table has said anything yet.
    fn is_silent(&self) -> bool {
        let status = self.watch.status();
        status.state == FlowState::Starting || status.next_try_at.is_some()
    }
}

impl Observer for Beginning {
    fn following(&self, _: &Namespace, _: &Position) {
        self.begins();
    }

    fn current_to(&self, _: &Namespace, _: SystemTime) {
        self.begins();
    }

    fn failed(&self, _: &Namespace, _: &Error) {
        self.begins();
    }

    fn retrying(&self, _: &Namespace, error: &Error, wait: Duration) {
        if self.is_silent() {
            self.waits(error, wait);
        }
    }

    fn source_retrying(&self, error: &Error, wait: Duration) {
        let has_begun = self.has_begun.load(Ordering::Relaxed);
        if self.is_silent() || self.is_staged && !has_begun {
            self.waits(error, wait);
        }
    }
}

/// How long to wait when something has failed so often.
fn wait_after(failures: u32) -> Duration {
    let wait = FIRST_WAIT
        .saturating_mul(2_u32.saturating_pow(failures.min(16)))
        .min(LONGEST_WAIT);
    // Not all at once.
    wait.mul_f64(rand::rng().random_range(0.75..=1.0))
}
