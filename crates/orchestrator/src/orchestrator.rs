//! All of it together: what is started, what is stopped, and what others may ask and do.

mod here;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tributary_model::{DescribedTable, Error, ErrorKind, Namespace, Result};

use crate::alerts::{self, Alerts};
use crate::config::{Job, OnObject, Plan, Watched};
use crate::control::Control;
use crate::deliver::Delivery;
use crate::ended::EndedRuns;
use crate::engine::{Engine, TriggerHost};
use crate::flows::Flows;
use crate::numbers::{self, JobNumbers};
use crate::objects::{self, CreatedObject, Takes};
use crate::runs::{self, Runner};
use crate::schedule;
use crate::status::{
    AlertStatus, Cause, DeadLetterDetail, DeadLetterStatus, DecisionStatus, FlowStatus,
    FunctionRunDetail, FunctionRunFilter, FunctionRunStatus, JobStatus, LetterFilter, Letters,
    Notice, Overview, Reloaded, Run, RunDetail, RunFilter, RunState, SchemaStatus, SourceStatus,
    Told, TriggerState, TriggerStatus,
};
use crate::steering::{Steering, whole};
use crate::store::{RunnerLock, Store};
use crate::triggers::Triggers;

/// How many notices may wait for one who listens.
const NOTICES: usize = 1024;
/// How often numbers of flows are told that change all the time.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked for what can be forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3600);
/// How long to wait before objects are watched for again after a failure.
const WATCH_AGAIN: Duration = Duration::from_secs(10);

/// Answers the plan that is in use.
pub(crate) type Plans = Arc<dyn Fn() -> Arc<Plan> + Send + Sync>;

/// What an orchestrator is made of.
pub struct Setup {
    /// What is to run.
    pub plan: Plan,
    /// The file that it was read from, and is read from again.
    pub file: PathBuf,
    /// What is to be remembered.
    pub store: Store,
    /// What moves data.
    pub engine: Arc<dyn Engine>,
    /// What runs triggers.
    pub triggers: Option<Arc<dyn TriggerHost>>,
    /// More numbers, in Prometheus's text format.
    pub numbers: Arc<dyn Fn() -> String + Send + Sync>,
}

/// Runs a plan.
pub struct Orchestrator {
    steering: Arc<Steering>,
    store: Store,
    engine: Arc<dyn Engine>,
    triggers: Option<Arc<dyn TriggerHost>>,
    numbers: Arc<dyn Fn() -> String + Send + Sync>,
    flows: Arc<Flows>,
    runner: Arc<Runner>,
    alerts: Arc<Alerts>,
    notices: broadcast::Sender<Notice>,
    started_at: DateTime<Utc>,
    ended: EndedRuns,
    watchers: Mutex<BTreeMap<String, Watcher>>,
    _lock: RunnerLock,
}

/// What watches for the objects that a job runs on.
struct Watcher {
    on_object: OnObject,
    stop: CancellationToken,
    _task: AbortOnDropHandle<()>,
}

impl Orchestrator {
    /// Takes the place of the one that runs this plan.
    ///
    /// # Errors
    /// Another process runs it.
    pub fn new(setup: Setup) -> Result<Self> {
        let Setup {
            plan,
            file,
            store,
            engine,
            triggers,
            numbers,
        } = setup;
        let Some(lock) = store.lock_to_stay()? else {
            return Err(
                Error::new(ErrorKind::Conflict, "another process runs with this state")
                    .on("directory", store.directory().display())
                    .remedy("stop it first, or give this one another directory with `state`"),
            );
        };
        let (notices, _) = broadcast::channel(NOTICES);
        let flows = Arc::new(Flows::new(Arc::clone(&engine), notices.clone()));
        flows.know(&plan.flows);
        let alerts = Arc::new(Alerts {
            store: store.clone(),
            flows: Arc::clone(&flows),
            triggers: triggers.clone(),
            notices: notices.clone(),
            delivery: Delivery::new()?,
            host: host(),
        });
        let ended = EndedRuns::new(store.clone())?;
        let steering = Steering::new(
            file,
            plan,
            store.clone(),
            Arc::clone(&engine),
            triggers.clone(),
            Arc::clone(&flows),
            notices.clone(),
        );
        Ok(Self {
            steering: Arc::new(steering),
            runner: Arc::new(Runner::new(
                store.clone(),
                Arc::clone(&engine),
                notices.clone(),
            )),
            store,
            engine,
            triggers,
            numbers,
            flows,
            alerts,
            notices,
            started_at: Utc::now(),
            ended,
            watchers: Mutex::default(),
            _lock: lock,
        })
    }

    fn plan(&self) -> Arc<Plan> {
        self.steering.plan()
    }

    /// The triggers as they are now.
    fn triggers_now(&self) -> Triggers {
        Triggers::of(&self.plan(), self.triggers.as_deref(), &self.store)
    }

    /// Runs all of it, until stopped: then flows commit what they have read, and runs of jobs are cut short
    /// where they can be gone on with.
    ///
    /// # Errors
    /// The state cannot be used, or something in an application is wrong.
    pub async fn serve(self: Arc<Self>, stop: CancellationToken) -> Result<()> {
        let shared = Arc::clone(&self);
        let plans: Plans = Arc::new(move || shared.plan());
        let mut tasks = JoinSet::new();
        self.steering.begin().await?;
        tasks.spawn(Arc::clone(&self.runner).serve(Arc::clone(&plans), stop.clone()));
        let of = Arc::clone(&plans);
        tasks.spawn(schedule::serve(
            self.store.clone(),
            move || of(),
            self.notices.clone(),
            Arc::clone(&self.runner.wake),
            stop.clone(),
        ));
        tasks.spawn(Arc::clone(&self.alerts).watch(Arc::clone(&plans), stop.clone()));
        tasks.spawn(Arc::clone(&self.alerts).deliver(Arc::clone(&plans), stop.clone()));
        tasks.spawn(Arc::clone(&self).keep_house(stop.clone()));
        stop.cancelled().await;
        self.steering.end().await;
        let watchers =
            std::mem::take(&mut *self.watchers.lock().unwrap_or_else(PoisonError::into_inner));
        drop(watchers);
        while let Some(ended) = tasks.join_next().await {
            if let Err(panic) = ended {
                tracing::error!(error = %panic, "a part of the orchestrator ended early");
            }
        }
        Ok(())
    }

    /// Tells the numbers of flows and states of triggers, watches for objects as the plan says, and forgets what is old.
    async fn keep_house(self: Arc<Self>, stop: CancellationToken) {
        let mut forgotten: Option<std::time::Instant> = None;
        let mut told = HashMap::new();
        while !stop.is_cancelled() {
            self.watch_objects(&self.plan());
            for (_, watch) in self.flows.watches() {
                if let Some(news) = watch.news() {
                    let _ = self.notices.send(Notice::Flow(news));
                }
            }
            if self.triggers.is_some()
                && let Err(error) = self.tell_triggers(&mut told).await
            {
                tracing::error!(%error, "cannot see what triggers are doing");
            }
            if forgotten.is_none_or(|at| at.elapsed() >= FORGET_EVERY) {
                forgotten = Some(std::time::Instant::now());
                let plan = self.plan();
                let before = Utc::now() - plan.keep_history;
                // All files of a directory are told at each start.
                let of_directories = plan.jobs.iter().filter(|(_, job)| {
                    let watched = job.on_object.as_ref().map(|on| &on.watched);
                    matches!(watched, Some(Watched::Directory(_)))
                });
                let told_again = of_directories.map(|(name, _)| name.clone()).collect();
                if let Err(error) = self.ended.forget(before, told_again).await {
                    tracing::error!(%error, "cannot forget old runs");
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(TELL_EVERY) => {}
            }
        }
    }

    /// Tells of the triggers whose state is not that which was told last.
    async fn tell_triggers(&self, told: &mut HashMap<String, TriggerState>) -> Result<()> {
        let triggers = self.triggers_now().list().await?;
        told.retain(|name, _| triggers.iter().any(|trigger| trigger.name == *name));
        for trigger in triggers {
            let before = told.insert(trigger.name.clone(), trigger.state);
            // What was gone before the start is no news.
            let is_old = before.is_none() && trigger.state == TriggerState::Gone;
            if before != Some(trigger.state) && !is_old {
                let _ = self.notices.send(Notice::Trigger(trigger));
            }
        }
        Ok(())
    }

    /// Watches for the objects that jobs run on; where nothing has changed, what watches goes on.
    fn watch_objects(self: &Arc<Self>, plan: &Plan) {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|name, watcher| {
            let wanted = plan.jobs.get(name).and_then(|job| job.on_object.as_ref());
            let stays = wanted == Some(&watcher.on_object);
            if !stays {
                watcher.stop.cancel();
            }
            stays
        });
        for (name, job) in &plan.jobs {
            let Some(on_object) = &job.on_object else {
                continue;
            };
            if watchers.contains_key(name) {
                continue;
            }
            let stop = CancellationToken::new();
            let watches = Arc::clone(self).watch_for(name.clone(), on_object.clone(), stop.clone());
            let watcher = Watcher {
                on_object: on_object.clone(),
                stop,
                _task: AbortOnDropHandle::new(tokio::spawn(watches)),
            };
            watchers.insert(name.clone(), watcher);
        }
    }

    async fn watch_for(self: Arc<Self>, job: String, on_object: OnObject, stop: CancellationToken) {
        let taker = ForJob {
            orchestrator: &self,
            job: &job,
        };
        let OnObject {
            watched,
            matching,
            gather,
        } = &on_object;
        while !stop.is_cancelled() {
            let watch = objects::watch(watched, matching.as_ref(), *gather, &taker, stop.clone());
            if let Err(error) = watch.await {
                tracing::error!(job, %error, "cannot watch for the objects that a job runs on");
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(WATCH_AGAIN) => {}
                }
            }
        }
    }

    fn job_of<'a>(plan: &'a Plan, name: &str) -> Result<&'a Job> {
        plan.jobs.get(name).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "there is no such job")
                .on("job", name)
                .remedy("it is to stand under `jobs` in the configuration")
        })
    }
}

/// Tells every receiver of a plan that this is a test, and what came of it.
///
/// # Errors
/// There is no TLS to tell them by.
pub async fn test_alerts(plan: &Plan) -> Result<Vec<Told>> {
    Ok(alerts::test(&Delivery::new()?, &host(), plan).await)
}

/// The name of this machine.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| "this machine".to_owned(), |name| name.trim().to_owned())
}

/// Asks for a run of a job.
pub(crate) async fn ask(store: &Store, plan: &Plan, name: &str, by: &str) -> Result<Run> {
    let job = Orchestrator::job_of(plan, name)?;
    let cause = Cause::Asked { by: by.to_owned() };
    Ok(store.enqueue(runs::request(name, job), cause).await?.run)
}

/// Takes the objects that a job runs on.
struct ForJob<'a> {
    orchestrator: &'a Orchestrator,
    job: &'a str,
}

#[async_trait]
impl Takes for ForJob<'_> {
    async fn take(&self, objects: Vec<CreatedObject>) -> Result<()> {
        let orchestrator = self.orchestrator;
        let plan = orchestrator.plan();
        let Some(job) = plan.jobs.get(self.job) else {
            let error = Error::new(
                ErrorKind::Unavailable,
                "the job for these objects is not in the configuration any more",
            );
            return Err(error
                .on("job", self.job)
                .remedy("who watches there next is told of them"));
        };
        let request = runs::request(self.job, job);
        let enqueued = orchestrator.store.enqueue_for(request, objects).await?;
        if let Some(enqueued) = enqueued {
            let _ = orchestrator.notices.send(Notice::Run(enqueued.run));
            orchestrator.runner.wake.notify_one();
        }
        Ok(())
    }
}

fn schema_of(flow: &str, table: DescribedTable) -> SchemaStatus {
    SchemaStatus {
        flow: flow.to_owned(),
        namespace: table.namespace.to_string(),
        waiting: table.is_waiting,
        decisions: table
            .decisions
            .into_iter()
            .map(|decision| DecisionStatus {
                at: decision.at,
                decision: decision.decision.name().to_owned(),
                changes: decision.changes.iter().map(ToString::to_string).collect(),
            })
            .collect(),
    }
}

#[async_trait]
impl Control for Orchestrator {
    async fn overview(&self) -> Result<Overview> {
        let plan = self.plan();
        let alerts = self.store.alerts().await?;
        Ok(Overview {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            configured_at: self.steering.configured_at(),
            flows: plan.flows.len(),
            jobs: plan.jobs.len(),
            triggers: self.triggers_now().count(),
            running: self.runner.count(),
            alerts: alerts
                .iter()
                .filter(|alert| alert.recovered_at.is_none())
                .count(),
        })
    }

    async fn unready(&self) -> Option<String> {
        // A transaction that may write has to get the disk's leave.
        let asked = self.store.stopped_flows().await;
        asked.err().map(|error| error.to_string())
    }

    async fn flows(&self) -> Result<Vec<FlowStatus>> {
        Ok(self.flows.statuses())
    }

    async fn flow(&self, name: &str) -> Result<FlowStatus> {
        self.flows.status(name)
    }

    async fn start_flow(&self, name: &str) -> Result<FlowStatus> {
        let (steering, name) = (Arc::clone(&self.steering), name.to_owned());
        whole(async move { steering.start_flow(&name).await }).await
    }

    async fn stop_flow(&self, name: &str) -> Result<FlowStatus> {
        let (steering, name) = (Arc::clone(&self.steering), name.to_owned());
        whole(async move { steering.stop_flow(&name).await }).await
    }

    async fn sources(&self) -> Result<Vec<SourceStatus>> {
        let mut sources: BTreeMap<String, SourceStatus> = BTreeMap::new();
        for (_, watch) in self.flows.watches() {
            let Some(source) = watch.source() else {
                continue;
            };
            match sources.get_mut(&source.name) {
                None => {
                    sources.insert(source.name.clone(), source);
                }
                Some(known) => {
                    known.flows.extend(source.flows);
                    known.connected |= source.connected;
                    known.oplog_window_seconds =
                        known.oplog_window_seconds.or(source.oplog_window_seconds);
                    known.read_to = known.read_to.max(source.read_to);
                    known.error = known.error.take().or(source.error);
                }
            }
        }
        Ok(sources.into_values().collect())
    }

    async fn jobs(&self) -> Result<Vec<JobStatus>> {
        let plan = self.plan();
        jobs_of(&plan, &self.store).await
    }

    async fn job(&self, name: &str) -> Result<JobStatus> {
        Self::job_of(&self.plan(), name)?;
        let jobs = self.jobs().await?;
        let job = jobs.into_iter().find(|job| job.name == name);
        job.ok_or_else(|| Error::new(ErrorKind::NotFound, "there is no such job").on("job", name))
    }

    async fn run_job(&self, name: &str, by: &str) -> Result<Run> {
        let run = ask(&self.store, &self.plan(), name, by).await?;
        let _ = self.notices.send(Notice::Run(run.clone()));
        self.runner.wake.notify_one();
        Ok(run)
    }

    async fn runs(&self, filter: RunFilter) -> Result<Vec<Run>> {
        self.store.runs(filter).await
    }

    async fn run(&self, id: &str) -> Result<RunDetail> {
        self.store.run(id).await
    }

    async fn cancel_run(&self, id: &str, by: &str) -> Result<Run> {
        let run = self.store.cancel(id, by).await?;
        let _ = self.notices.send(Notice::Run(run.clone()));
        self.runner.wake.notify_one();
        Ok(run)
    }

    async fn schemas(&self, flow: &str) -> Result<Vec<SchemaStatus>> {
        let found = self.flows.flow(flow)?;
        let tables = self.engine.tables(&found).await?;
        Ok(tables
            .into_iter()
            .map(|table| schema_of(flow, table))
            .collect())
    }

    async fn approve_schema(&self, flow: &str, table: &str) -> Result<SchemaStatus> {
        let found = self.flows.flow(flow)?;
        let Some((database, collection)) = table.split_once('.') else {
            return Err(Error::new(ErrorKind::Usage, "this is no table")
                .on("table", table)
                .remedy("write it as database.collection"));
        };
        let namespace = Namespace::new(database, collection);
        self.engine.approve(&found, &namespace).await?;
        let tables = self.engine.tables(&found).await?;
        let approved = tables
            .into_iter()
            .find(|table| table.namespace == namespace);
        approved.map(|table| schema_of(flow, table)).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "the flow has no such table").on("table", table)
        })
    }

    async fn triggers(&self) -> Result<Vec<TriggerStatus>> {
        self.triggers_now().list().await
    }

    async fn trigger(&self, name: &str) -> Result<TriggerStatus> {
        self.triggers_now().show(name).await
    }

    async fn pause_trigger(&self, name: &str) -> Result<TriggerStatus> {
        self.triggers_now().pause(name).await
    }

    async fn resume_trigger(&self, name: &str) -> Result<TriggerStatus> {
        self.triggers_now().resume(name).await
    }

    async fn replay_trigger(&self, name: &str, from: DateTime<Utc>) -> Result<TriggerStatus> {
        self.triggers_now().replay(name, from).await
    }

    async fn dead_letters(&self, filter: LetterFilter) -> Result<Vec<DeadLetterStatus>> {
        self.triggers_now().dead_letters(filter).await
    }

    async fn dead_letter(&self, id: &str) -> Result<DeadLetterDetail> {
        self.triggers_now().dead_letter(id).await
    }

    async fn replay_dead_letters(&self, letters: Letters) -> Result<usize> {
        self.triggers_now().replay_dead_letters(letters).await
    }

    async fn discard_dead_letters(&self, letters: Letters) -> Result<usize> {
        self.triggers_now().discard_dead_letters(letters).await
    }

    async fn function_runs(&self, filter: FunctionRunFilter) -> Result<Vec<FunctionRunStatus>> {
        self.triggers_now().function_runs(filter).await
    }

    async fn function_run(&self, id: &str) -> Result<FunctionRunDetail> {
        self.triggers_now().function_run(id).await
    }

    async fn alerts(&self) -> Result<Vec<AlertStatus>> {
        self.store.alerts().await
    }

    async fn test_alerts(&self) -> Result<Vec<Told>> {
        Ok(alerts::test(&self.alerts.delivery, &self.alerts.host, &self.plan()).await)
    }

    async fn reload(&self) -> Result<Reloaded> {
        let steering = Arc::clone(&self.steering);
        whole(async move { steering.reload().await }).await
    }

    fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    async fn metrics(&self) -> Result<String> {
        let flows = self.flows.statuses();
        let plan = self.plan();
        let running = RunFilter {
            state: Some(RunState::Running),
            limit: usize::MAX,
            ..RunFilter::default()
        };
        let jobs = JobNumbers {
            running: self.store.runs(running).await?,
            results: self
                .store
                .last_results(plan.jobs.keys().cloned().collect())
                .await?,
            ended: self.ended.counts().await?,
        };
        let triggers = self.triggers_now();
        let states = triggers.list().await?;
        let mut text = (self.numbers)();
        text.push_str(&numbers::render(&flows, &plan, &jobs));
        text.push_str(&numbers::of_triggers(&states, triggers.activities()));
        Ok(text)
    }
}

/// The jobs of a plan, and what the store knows of them.
pub(crate) async fn jobs_of(plan: &Plan, store: &Store) -> Result<Vec<JobStatus>> {
    let mut last: HashMap<String, Run> = store
        .last_runs(plan.jobs.keys().cloned().collect())
        .await?
        .into_iter()
        .map(|run| (run.job.clone(), run))
        .collect();
    let jobs = plan.jobs.iter();
    Ok(jobs
        .map(|(name, job)| JobStatus {
            name: name.clone(),
            schedule: job.schedule.as_ref().map(|schedule| schedule.text.clone()),
            time_zone: job
                .schedule
                .as_ref()
                .map(|schedule| schedule.time_zone.name().to_owned()),
            next_at: job
                .schedule
                .as_ref()
                .and_then(|schedule| schedule.next(Utc::now())),
            after: job.after.clone(),
            on_object: job.on_object.as_ref().map(|on| match &on.watched {
                Watched::Queue(queue) => queue.clone(),
                Watched::Directory(directory) => directory.display().to_string(),
            }),
            steps: runs::in_order(job)
                .into_iter()
                .map(|(name, _)| name.to_owned())
                .collect(),
            last_run: last.remove(name),
        })
        .collect())
}
