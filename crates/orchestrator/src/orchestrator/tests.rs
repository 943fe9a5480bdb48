//! An orchestrator with an engine that does as its work says: what runs, what is remembered, and what is
//! gone on with.

mod left_runs;
mod object_runs;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use tempfile::TempDir;
use tributary_flow::{DeadLetter, Observer, Progress, TriggerLedger, TriggerState as Remains};
use tributary_model::{ClusterTime, Position};

use super::*;
use crate::config::{Flow, Work};
use crate::engine::{Activity, Durations, KnownTrigger, LiveTrigger, Moved, Tell};
use crate::status::{FlowState, RunState};

/// Does what a query, or the first collection of a flow, says.
#[derive(Default)]
struct Scripted {
    calls: Mutex<HashMap<String, u32>>,
    at_once: AtomicU32,
    most_at_once: AtomicU32,
    /// How many follow each flow, and how many have at most.
    following: Mutex<HashMap<String, (u32, u32)>>,
    /// Lets the flows end that are slow to.
    drained: CancellationToken,
}

impl Scripted {
    /// How often something was begun.
    fn calls(&self, what: &str) -> u32 {
        self.calls.lock().unwrap().get(what).copied().unwrap_or(0)
    }

    fn count(&self, what: &str) -> u32 {
        let mut calls = self.calls.lock().unwrap();
        let count = calls.entry(what.to_owned()).or_default();
        *count += 1;
        *count
    }

    async fn does(&self, script: &str, stop: &CancellationToken) -> Result<Moved> {
        let count = self.count(script);
        let mut words = script.split(' ');
        let failed = || Error::new(ErrorKind::Unreachable, "as it was to be").remedy("wait");
        match (words.next(), words.next()) {
            (Some("moves"), Some(documents)) => Ok(Moved {
                documents: documents.parse().unwrap(),
                bytes: 10,
            }),
            // Ends when there are two at once.
            (Some("meets"), Some(documents)) => {
                while self.most_at_once.load(Ordering::SeqCst) < 2 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Ok(Moved {
                    documents: documents.parse().unwrap(),
                    bytes: 10,
                })
            }
            (Some("fails"), None) => Err(failed()),
            (Some("fails"), Some(times)) if count <= times.parse().unwrap() => Err(failed()),
            (Some("waits"), _) => Err(Error::new(ErrorKind::SchemaChanged, "as it was to be")),
            (Some("hangs"), _) => {
                stop.cancelled().await;
                Err(Error::new(ErrorKind::Interrupted, "stopped"))
            }
            // Takes a moment to end.
            (Some("drains-once"), _) if count == 1 => {
                stop.cancelled().await;
                tokio::time::sleep(Duration::from_millis(20)).await;
                self.drained.cancel();
                Err(Error::new(ErrorKind::Interrupted, "stopped"))
            }
            (Some("hangs-once"), _) if count == 1 => std::future::pending().await,
            (Some("panics"), _) => panic!("as it was to be"),
            _ => Ok(Moved::default()),
        }
    }
}

#[async_trait]
impl Engine for Scripted {
    async fn follow(
        &self,
        flow: &Flow,
        observer: Arc<dyn Observer>,
        stop: CancellationToken,
    ) -> Result<()> {
        let count = self.count(&flow.name);
        let table = Namespace::new("db", "c");
        let script = flow.route.collections[0].as_str();
        // The name of the flow is behind it: no two flows have the same collections.
        let script = script.split(' ').next().unwrap_or_default();
        let failed = |kind| Error::new(kind, "as it was to be");
        match script {
            "fails" => return Err(failed(ErrorKind::Unreachable)),
            "fails-once" if count == 1 => return Err(failed(ErrorKind::Forbidden)),
            "table-fails-once" if count == 1 => {
                observer.following(&table, &Position::at(ClusterTime::new(1, 1)));
                observer.failed(&table, &failed(ErrorKind::InvalidData));
            }
            "waits" => observer.failed(&table, &failed(ErrorKind::SchemaChanged)),
            "panics-once" if count == 1 => panic!("as it was to be"),
            _ => observer.following(&table, &Position::at(ClusterTime::new(1, 1))),
        }
        let follow = |more: bool| {
            let mut following = self.following.lock().unwrap();
            let (now, most) = following.entry(flow.name.clone()).or_default();
            match more {
                true => *now += 1,
                false => *now -= 1,
            }
            *most = (*most).max(*now);
        };
        follow(true);
        stop.cancelled().await;
        if script.starts_with("drains") {
            self.count("draining");
            self.drained.cancelled().await;
        }
        follow(false);
        Ok(())
    }

    async fn work(
        &self,
        work: &Work,
        tell: Arc<dyn Tell>,
        stop: CancellationToken,
    ) -> Result<Moved> {
        let Work::Query(query) = work else {
            panic!("{work:?}")
        };
        let at_once = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        tell.tell(&format!("doing: {}", query.query));
        let done = self.does(&query.query, &stop).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        done
    }

    async fn tables(&self, _: &Flow) -> Result<Vec<DescribedTable>> {
        Ok(Vec::new())
    }

    async fn approve(&self, _: &Flow, _: &Namespace) -> Result<()> {
        Ok(())
    }
}

/// Runs nothing, and says that it runs the triggers of the plan.
#[derive(Default)]
struct Hosts {
    live: Mutex<Vec<LiveTrigger>>,
    applied: AtomicU32,
    is_stopped: AtomicBool,
}

#[async_trait]
impl TriggerHost for Hosts {
    fn live(&self) -> Vec<LiveTrigger> {
        self.live.lock().unwrap().clone()
    }

    async fn apply(&self, plan: &Plan) -> Result<()> {
        if plan.apps.contains_key("broken") {
            return Err(Error::new(ErrorKind::Usage, "the app is broken"));
        }
        self.applied.fetch_add(1, Ordering::SeqCst);
        let live = |trigger| LiveTrigger {
            trigger: KnownTrigger::of(trigger),
            activity: Activity {
                queued: 3,
                in_flight: 1,
                lag: Some(Duration::from_secs(2)),
                durations: Durations {
                    bounds: vec![0.5, 1.0],
                    counts: vec![4, 2, 1],
                    sum: 5.5,
                },
                failure: None,
            },
        };
        *self.live.lock().unwrap() = plan.triggers.values().map(live).collect();
        Ok(())
    }

    async fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
    }
}

/// A directory with a file, and what runs it.
struct World {
    directory: TempDir,
    engine: Arc<Scripted>,
    hosts: Arc<Hosts>,
}

const PLACES: &str =
    "sources: { s: { uri: 'mongodb://localhost/db' } }\nlakes: { l: { path: lake } }\n";

/// What runs a file at the moment.
struct Running {
    orchestrator: Arc<Orchestrator>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<()>>,
}

impl World {
    fn new(rest: &str) -> Self {
        let world = Self {
            directory: TempDir::new().unwrap(),
            engine: Arc::default(),
            hosts: Arc::default(),
        };
        world.write(rest);
        world
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("tributary.yaml")
    }

    fn write(&self, rest: &str) {
        std::fs::write(self.file(), format!("{PLACES}{rest}")).unwrap();
    }

    fn orchestrator(&self) -> Result<Arc<Orchestrator>> {
        let plan = Plan::read(&self.file())?;
        let store = Store::open(&plan.state)?;
        Ok(Arc::new(Orchestrator::new(Setup {
            plan,
            file: self.file(),
            store,
            engine: self.engine.clone(),
            triggers: Some(self.hosts.clone()),
            numbers: Arc::new(String::new),
        })?))
    }

    fn start(&self) -> Running {
        let orchestrator = self.orchestrator().unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(Arc::clone(&orchestrator).serve(stop.clone()));
        Running {
            orchestrator,
            stop,
            task,
        }
    }
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        drop(self.orchestrator);
        self.task.await.unwrap().unwrap();
    }

    async fn ended(&self, id: &str) -> RunDetail {
        self.until(async || {
            let detail = self.orchestrator.run(id).await.unwrap();
            detail.run.state.is_end().then_some(detail)
        })
        .await
    }

    /// Asks until there is an answer.
    async fn until<T>(&self, ask: impl AsyncFn() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            assert!(Instant::now() < deadline, "it never came to be");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn runs_of(&self, job: &str) -> Vec<Run> {
        let filter = RunFilter {
            job: Some(job.to_owned()),
            limit: 100,
            ..RunFilter::default()
        };
        self.orchestrator.runs(filter).await.unwrap()
    }

    async fn flow_is(&self, name: &str, state: FlowState) -> FlowStatus {
        self.until(async || {
            let flow = self.orchestrator.flow(name).await.unwrap();
            (flow.state == state).then_some(flow)
        })
        .await
    }
}

fn job(name: &str, more: &str, steps: &[(&str, &str, &str)]) -> String {
    let mut text = format!("  {name}:\n{more}    steps:\n");
    for (step, needs, script) in steps {
        text.push_str(&format!(
            "      {step}: {{ needs: [{needs}], sql: {{ lake: l, query: '{script}' }}, retries: {{ times: 2, wait: 10ms }} }}\n"
        ));
    }
    text
}

fn states(detail: &RunDetail) -> Vec<(&str, RunState)> {
    let steps = detail.steps.iter();
    steps.map(|step| (step.name.as_str(), step.state)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_change_that_waits_for_approval_is_not_tried_again() {
    let text = job("j", "", &[("a", "", "waits"), ("b", "", "fails")]);
    let world = World::new(&format!("jobs:\n{text}"));
    let running = world.start();
    let run = running.orchestrator.run_job("j", "me").await.unwrap();
    let detail = running.ended(&run.id).await;
    assert_eq!(detail.run.state, RunState::Failed, "{detail:?}");
    let tries: Vec<u32> = detail.steps.iter().map(|step| step.attempts).collect();
    assert_eq!(tries, [1, 3]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_run_behind_those_that_they_need_and_others_at_once() {
    let steps = [
        ("a", "", "moves 2"),
        ("b", "a", "meets 3"),
        ("c", "a", "meets 4"),
        ("z", "b, c", "ok"),
    ];
    let world = World::new(&format!("jobs:\n{}", job("j", "", &steps)));
    let running = world.start();
    let run = running.orchestrator.run_job("j", "me").await.unwrap();
    let detail = running.ended(&run.id).await;
    assert_eq!(detail.run.state, RunState::Succeeded, "{detail:?}");
    assert_eq!(detail.run.documents, 9);
    assert_eq!(
        detail.run.cause,
        Cause::Asked {
            by: "me".to_owned()
        }
    );
    assert_eq!(world.engine.most_at_once.load(Ordering::SeqCst), 2);
    let step = |name: &str| detail.steps.iter().find(|step| step.name == name).unwrap();
    assert!(step("a").ended_at <= step("b").started_at);
    assert!(step("c").ended_at <= step("z").started_at);
    assert!(
        step("a").log.contains("doing: moves 2"),
        "{}",
        step("a").log
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_tried_again_and_what_needs_one_that_fails_is_left_out() {
    let steps = [
        ("a", "", "fails 2"),
        ("b", "a", "fails"),
        ("c", "b", "ok"),
        ("d", "a", "ok d"),
    ];
    let text = format!(
        "jobs:\n{}{}",
        job("j", "", &steps),
        job("k", "    after: [j]\n", &[("x", "", "ok x")])
    );
    let world = World::new(&text);
    let running = world.start();
    let run = running.orchestrator.run_job("j", "me").await.unwrap();
    let detail = running.ended(&run.id).await;
    assert_eq!(
        states(&detail),
        [
            ("a", RunState::Succeeded),
            ("b", RunState::Failed),
            ("c", RunState::Skipped),
            ("d", RunState::Succeeded),
        ]
    );
    let tries: Vec<u32> = detail.steps.iter().map(|step| step.attempts).collect();
    assert_eq!(tries, [3, 3, 0, 1]);
    let error = detail.run.error.unwrap();
    assert_eq!(error, "step b: as it was to be; wait");
    assert_eq!(running.runs_of("k").await, []);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_behind_another_that_succeeded() {
    let text = format!(
        "jobs:\n{}{}",
        job("j", "", &[("x", "", "ok")]),
        job("k", "    after: [j]\n", &[("x", "", "moves 1")])
    );
    let world = World::new(&text);
    let running = world.start();
    let run = running.orchestrator.run_job("j", "me").await.unwrap();
    let behind = running
        .until(async || running.runs_of("k").await.into_iter().next())
        .await;
    let ended = running.ended(&behind.id).await.run;
    assert_eq!(ended.state, RunState::Succeeded);
    let cause = Cause::After {
        job: "j".to_owned(),
        run: run.id,
    };
    assert_eq!(ended.cause, cause);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_behind_a_run_is_what_the_file_says_when_it_ends() {
    let jobs = |behind: &str| {
        format!(
            "jobs:\n{}{}{}",
            job("j", "", &[("x", "", "meets 1")]),
            job("other", "", &[("x", "", "meets 2")]),
            job(behind, "    after: [j]\n", &[("x", "", "ok")])
        )
    };
    let world = World::new(&jobs("before"));
    let running = world.start();
    let run = running.orchestrator.run_job("j", "me").await.unwrap();
    running
        .until(async || (world.engine.calls("meets 1") == 1).then_some(()))
        .await;
    world.write(&jobs("now"));
    running.orchestrator.reload().await.unwrap();
    running.orchestrator.run_job("other", "me").await.unwrap();
    assert_eq!(running.ended(&run.id).await.run.state, RunState::Succeeded);
    let behind = running.runs_of("now").await;
    assert_eq!(behind.len(), 1, "{behind:?}");
    let behind = running.ended(&behind[0].id).await.run;
    assert_eq!(behind.state, RunState::Succeeded);
    assert_eq!(running.runs_of("before").await, []);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_is_stopped() {
    let text = "\
jobs:
  step: { steps: { x: { timeout: 100ms, sql: { lake: l, query: 'hangs 1' } } } }
  whole: { timeout: 100ms, steps: { x: { sql: { lake: l, query: 'hangs 2' } }, y: { needs: [x], sql: { lake: l, query: ok } } } }
";
    let world = World::new(text);
    let running = world.start();
    let one = running.orchestrator.run_job("step", "me").await.unwrap();
    let other = running.orchestrator.run_job("whole", "me").await.unwrap();
    let one = running.ended(&one.id).await;
    assert_eq!(one.run.state, RunState::Failed);
    let error = one.run.error.unwrap();
    assert!(error.contains("the step took longer than 0.1 s"), "{error}");
    let other = running.ended(&other.id).await;
    assert_eq!(
        other.run.error.as_deref(),
        Some("the run took longer than 0.1 s")
    );
    assert_eq!(
        states(&other),
        [("x", RunState::Failed), ("y", RunState::Skipped)]
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_cancelled_while_it_waits_and_while_it_runs() {
    let text = format!("jobs:\n{}", job("j", "", &[("x", "", "hangs")]));
    let world = World::new(&text);
    let running = world.start();
    let control = &running.orchestrator;
    let first = control.run_job("j", "me").await.unwrap();
    let second = control.run_job("j", "me").await.unwrap();
    running
        .until(async || (world.engine.calls("hangs") == 1).then_some(()))
        .await;
    let cancelled = control.cancel_run(&second.id, "you").await.unwrap();
    assert_eq!(cancelled.state, RunState::Cancelled);
    control.cancel_run(&first.id, "you").await.unwrap();
    let first = running.ended(&first.id).await;
    assert_eq!(first.run.state, RunState::Cancelled);
    assert_eq!(first.run.error.as_deref(), Some("cancelled by you"));
    assert_eq!(states(&first), [("x", RunState::Cancelled)]);
    let again = control.cancel_run(&first.run.id, "you").await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict);
    let nobody = control.cancel_run("none", "you").await.unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::NotFound);
    assert_eq!(world.engine.calls("hangs"), 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_a_job_do_not_overlap() {
    let text = format!(
        "jobs:\n{}{}{}",
        job("skips", "    overlap: skip\n", &[("x", "", "hangs 1")]),
        job("queues", "", &[("x", "", "moves 1")]),
        job(
            "replaces",
            "    overlap: replace\n",
            &[("x", "", "hangs 2")]
        ),
    );
    let world = World::new(&text);
    let running = world.start();
    let control = &running.orchestrator;
    let begun = async |script: &str, times| {
        running
            .until(async || (world.engine.calls(script) == times).then_some(()))
            .await;
    };
    let first = control.run_job("skips", "me").await.unwrap();
    begun("hangs 1", 1).await;
    let second = control.run_job("skips", "me").await.unwrap();
    assert_eq!(second.state, RunState::Skipped);
    assert!(second.error.unwrap().contains(&first.id));

    let mut queued = Vec::new();
    for _ in 0..3 {
        queued.push(control.run_job("queues", "me").await.unwrap().id);
    }
    let mut before = None;
    for id in queued {
        let run = running.ended(&id).await.run;
        assert_eq!(run.state, RunState::Succeeded);
        assert!(before <= run.started_at);
        before = run.ended_at;
    }

    let first = control.run_job("replaces", "me").await.unwrap();
    begun("hangs 2", 1).await;
    let second = control.run_job("replaces", "me").await.unwrap();
    let first = running.ended(&first.id).await.run;
    assert_eq!(
        first.error.as_deref(),
        Some("cancelled by the run in its place")
    );
    begun("hangs 2", 2).await;
    assert_eq!(
        control.run(&second.id).await.unwrap().run.state,
        RunState::Running
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_cut_short_goes_on_with_the_steps_that_had_not_succeeded() {
    let steps = [
        ("a", "", "moves 5"),
        ("b", "a", "hangs-once b"),
        ("c", "b", "moves 7"),
    ];
    let world = World::new(&format!("jobs:\n{}", job("j", "", &steps)));
    // The process ends without a word: its runtime with all that it does.
    let engine = Arc::clone(&world.engine);
    let id = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let id = runtime.block_on(async {
                let running = world.start();
                let run = running.orchestrator.run_job("j", "me").await.unwrap();
                running
                    .until(async || (engine.calls("hangs-once b") == 1).then_some(()))
                    .await;
                run.id
            });
            runtime.shutdown_background();
            id
        });
        thread.join().unwrap()
    });
    let store = Store::open(&Plan::read(&world.file()).unwrap().state).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while store.lock().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the lock is still held");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let running = world.start();
    let detail = running.ended(&id).await;
    assert_eq!(detail.run.state, RunState::Succeeded, "{detail:?}");
    assert_eq!(world.engine.calls("moves 5"), 1);
    assert_eq!(world.engine.calls("hangs-once b"), 2);
    assert_eq!(detail.run.documents, 12);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_leaves_runs_to_the_next_start() {
    let text = format!("jobs:\n{}", job("j", "", &[("x", "", "hangs")]));
    let world = World::new(&text);
    let running = world.start();
    let run = running.orchestrator.run_job("j", "me").await.unwrap();
    running
        .until(async || (world.engine.calls("hangs") == 1).then_some(()))
        .await;
    running.stop().await;
    let store = Store::open(&Plan::read(&world.file()).unwrap().state).unwrap();
    assert_eq!(
        store.run(&run.id).await.unwrap().run.state,
        RunState::Running
    );
    let running = world.start();
    running
        .until(async || (world.engine.calls("hangs") == 2).then_some(()))
        .await;
    running
        .orchestrator
        .cancel_run(&run.id, "me")
        .await
        .unwrap();
    running.ended(&run.id).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_runs_a_state() {
    let world = World::new("");
    let running = world.start();
    let Err(error) = world.orchestrator() else {
        panic!("two of them")
    };
    assert_eq!(error.kind(), ErrorKind::Conflict);
    running.stop().await;
    world.orchestrator().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_where_nothing_else_does() {
    let text = format!(
        "jobs:\n{}{}{}{}",
        job("j", "", &[("x", "", "moves 3")]),
        job("k1", "    after: [j]\n", &[("x", "", "moves 4")]),
        job("k2", "    after: [k1]\n", &[("x", "", "moves 5")]),
        job("hangs", "", &[("x", "", "hangs")]),
    );
    let world = World::new(&text);
    let orchestrator = world.orchestrator().unwrap();
    let stop = CancellationToken::new();
    let asked = orchestrator.ask("j", "me").await.unwrap().id;
    let run = orchestrator.run_here(&asked, &stop).await.unwrap();
    assert_eq!((run.state, run.documents), (RunState::Succeeded, 3));
    assert_eq!(
        (world.engine.calls("moves 4"), world.engine.calls("moves 5")),
        (1, 1)
    );

    let hangs = async {
        let asked = orchestrator.ask("hangs", "me").await.unwrap().id;
        let run = orchestrator.run_here(&asked, &stop).await.unwrap();
        assert_eq!(run.state, RunState::Cancelled);
    };
    let cancels = async {
        let filter = RunFilter {
            state: Some(RunState::Running),
            limit: 1,
            ..RunFilter::default()
        };
        let run = loop {
            match orchestrator.runs(filter.clone()).await.unwrap().pop() {
                Some(run) => break run,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        // What another process asks for meanwhile is done by this one, in that order.
        let store = Store::open(orchestrator.store.directory()).unwrap();
        let plan = orchestrator.plan();
        let mut asked = Vec::new();
        for name in ["k1", "j", "k1"] {
            asked.push(ask(&store, &plan, name, "you").await.unwrap().id);
        }
        store.cancel(&run.id, "you").await.unwrap();
        asked
    };
    let ((), asked) = tokio::join!(hangs, cancels);
    let mut before = None;
    for id in asked {
        let run = orchestrator.run(&id).await.unwrap().run;
        assert_eq!(run.state, RunState::Succeeded, "{run:?}");
        assert!(before <= run.started_at, "{run:?}");
        before = run.ended_at;
    }
    let error = orchestrator.ask("none", "me").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_one_step_alone() {
    let text = format!(
        "jobs:\n{}{}",
        job("j", "", &[("x", "", "panics")]),
        job("k", "", &[("x", "", "ok")])
    );
    let world = World::new(&text);
    let running = world.start();
    let one = running.orchestrator.run_job("j", "me").await.unwrap();
    let one = running.ended(&one.id).await.run;
    assert_eq!(one.state, RunState::Failed);
    let error = one.error.unwrap();
    assert!(error.contains("this is a bug in tributary"), "{error}");
    let other = running.orchestrator.run_job("k", "me").await.unwrap();
    assert_eq!(
        running.ended(&other.id).await.run.state,
        RunState::Succeeded
    );
    running.stop().await;
}

fn flow(name: &str, script: &str, more: &str) -> String {
    format!("  {name}: {{ from: s, to: l, collections: [{script} {name}]{more} }}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_fails_is_started_again_and_stops_no_other() {
    let text = format!(
        "flows:\n{}{}{}{}{}",
        flow("fails", "fails", ""),
        flow("fails-once", "fails-once", ""),
        flow("panics", "panics-once", ""),
        flow("table", "table-fails-once", ""),
        flow("good", "good", ""),
    );
    let world = World::new(&text);
    let running = world.start();
    running.flow_is("good", FlowState::Following).await;
    let failed = running.flow_is("fails", FlowState::Retrying).await;
    assert_eq!(
        failed
            .error
            .as_deref()
            .map(|e| e.starts_with("as it was to be")),
        Some(true)
    );
    assert!(failed.next_try_at.is_some());
    for name in ["fails-once", "panics", "table"] {
        let recovered = running
            .until(async || {
                let flow = running.orchestrator.flow(name).await.unwrap();
                (flow.state == FlowState::Following && flow.restarts == 1).then_some(flow)
            })
            .await;
        assert_eq!(recovered.error, None, "{name}");
        assert_eq!(world.engine.calls(name), 2);
    }
    assert_eq!(world.engine.calls("good"), 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_was_stopped_stays_so_over_a_restart() {
    let text = format!(
        "flows:\n{}{}",
        flow("a", "good", ""),
        flow("b", "good", ", paused: true")
    );
    let world = World::new(&text);
    let running = world.start();
    running.flow_is("a", FlowState::Following).await;
    running.flow_is("b", FlowState::Stopped).await;
    let stopped = running.orchestrator.stop_flow("a").await.unwrap();
    assert_eq!(stopped.state, FlowState::Stopped);
    running.stop().await;
    let running = world.start();
    assert_eq!(running.flow_is("a", FlowState::Stopped).await.restarts, 0);
    assert_eq!(world.engine.calls("a"), 1);
    running.orchestrator.start_flow("a").await.unwrap();
    running.flow_is("a", FlowState::Following).await;
    let error = running.orchestrator.start_flow("c").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_configuration_changes_only_what_is_another_in_it() {
    let (a, b, c) = (
        flow("a", "good", ""),
        flow("b", "good", ""),
        flow("c", "good", ""),
    );
    let world = World::new(&format!("flows:\n{a}{b}"));
    let running = world.start();
    running.flow_is("a", FlowState::Following).await;
    running.flow_is("b", FlowState::Following).await;
    let changed = flow("b", "better", "");
    // Another place in the text is no change.
    world.write(&format!("# moved\n\nflows:\n{c}{changed}{a}"));
    let reloaded = running.orchestrator.reload().await.unwrap();
    let expected = Reloaded {
        started: vec!["c".to_owned()],
        stopped: Vec::new(),
        restarted: vec!["b".to_owned()],
        kept: vec!["a".to_owned()],
    };
    assert_eq!(reloaded, expected);
    running.flow_is("b", FlowState::Following).await;
    assert_eq!((world.engine.calls("a"), world.engine.calls("b")), (1, 2));

    world.write("flows:\n  a: { from: nowhere, to: l }\n");
    let error = running.orchestrator.reload().await.unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
    assert_eq!(running.orchestrator.flows().await.unwrap().len(), 3);

    world.write(&format!("flows:\n{a}"));
    let reloaded = running.orchestrator.reload().await.unwrap();
    assert_eq!(reloaded.stopped, ["b", "c"]);
    assert_eq!(world.engine.calls("a"), 1);
    running.stop().await;
}

/// Begins to do something, and is gone when the flow that is slow to end is to.
async fn begin_only<T>(running: &Running, engine: &Scripted, work: impl Future<Output = T>) {
    tokio::select! {
        _ = work => panic!("it waited for nothing"),
        () = running.until(async || (engine.calls("draining") > 0).then_some(())) => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_nobody_waits_for_any_more_is_done_to_its_end() {
    let flows = |script: &str| {
        let names = ["a", "b", "c"].into_iter();
        let flows: String = names.map(|name| flow(name, script, "")).collect();
        format!("flows:\n{flows}")
    };
    let world = World::new(&flows("drains"));
    let running = world.start();
    for name in ["a", "b", "c"] {
        running.flow_is(name, FlowState::Following).await;
    }
    world.write(&flows("good"));
    let reload = running.orchestrator.reload();
    begin_only(&running, &world.engine, reload).await;
    world.engine.drained.cancel();
    for name in ["a", "b", "c"] {
        running
            .until(async || {
                let flow = running.orchestrator.flow(name).await.ok()?;
                let is_new = world.engine.calls(name) == 2;
                (is_new && flow.state == FlowState::Following).then_some(())
            })
            .await;
    }
    running.stop().await;
    let following = world.engine.following.lock().unwrap();
    assert!(
        following.values().all(|count| *count == (0, 1)),
        "{following:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_is_slow_to_stop_keeps_no_other_from_ending_and_nothing_is_begun_behind_that() {
    let flows = format!(
        "flows:\n{}{}",
        flow("a", "drains", ""),
        flow("b", "good", "")
    );
    let world = World::new(&flows);
    let running = world.start();
    for name in ["a", "b"] {
        running.flow_is(name, FlowState::Following).await;
    }
    let orchestrator = Arc::clone(&running.orchestrator);
    let stop = orchestrator.stop_flow("a");
    begin_only(&running, &world.engine, stop).await;
    running.stop.cancel();
    let follows = |name: &str| world.engine.following.lock().unwrap()[name].0;
    running
        .until(async || (follows("b") == 0).then_some(()))
        .await;
    assert_eq!(follows("a"), 1);
    world.engine.drained.cancel();
    running.stop().await;
    let error = orchestrator.reload().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(world.engine.calls("b"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_is_started_while_it_still_stops_runs_once() {
    let world = World::new(&format!("flows:\n{}", flow("a", "drains", "")));
    let running = world.start();
    running.flow_is("a", FlowState::Following).await;
    let stop = running.orchestrator.stop_flow("a");
    begin_only(&running, &world.engine, stop).await;
    let mut start = running.orchestrator.start_flow("a");
    let early = tokio::time::timeout(Duration::from_millis(200), &mut start).await;
    assert!(early.is_err(), "it was started beside the one that ends");
    world.engine.drained.cancel();
    start.await.unwrap();
    running.flow_is("a", FlowState::Following).await;
    assert_eq!(world.engine.calls("a"), 2);
    let stopped = running.orchestrator.store.stopped_flows().await.unwrap();
    assert_eq!(stopped, Vec::<String>::new());
    running.stop().await;
    let following = world.engine.following.lock().unwrap();
    assert_eq!(following["a"], (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_told_once_and_again_when_it_is_over() {
    let text = format!(
        "alerts: {{ notify: {{ nobody: {{ webhook: {{ url: 'http://127.0.0.1:1/' }} }} }} }}\njobs:\n{}flows:\n{}",
        job("j", "", &[("x", "", "fails 3")]),
        flow("waits", "waits", ""),
    );
    let world = World::new(&text);
    let running = world.start();
    let run = running.orchestrator.run_job("j", "me").await.unwrap();
    assert_eq!(running.ended(&run.id).await.run.state, RunState::Failed);
    let fires = async |subject: &str| {
        let alerts = running.orchestrator.alerts().await.unwrap();
        let mut of = alerts.into_iter().filter(|alert| alert.subject == subject);
        let alert = of.next()?;
        assert!(of.next().is_none(), "told twice");
        Some(alert)
    };
    let schema = running
        .until(async || fires("flow waits, table db.c").await)
        .await;
    assert_eq!(schema.rule, "stopped-schemas");
    let failed = running.until(async || fires("job j").await).await;
    assert_eq!(
        (failed.rule.as_str(), failed.recovered_at),
        ("failed-runs", None)
    );
    assert!(failed.untold[0].starts_with("nobody"), "{failed:?}");

    let run = running.orchestrator.run_job("j", "me").await.unwrap();
    assert_eq!(running.ended(&run.id).await.run.state, RunState::Succeeded);
    let over = running
        .until(async || {
            fires("job j")
                .await
                .filter(|alert| alert.recovered_at.is_some())
        })
        .await;
    assert_eq!(over.since, failed.since);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_taken_once_and_gathered_into_a_run_that_waits() {
    let text = format!("jobs:\n{}", job("j", "", &[("x", "", "ok")]));
    let world = World::new(&text);
    let orchestrator = world.orchestrator().unwrap();
    let plan = orchestrator.plan();
    let store = orchestrator.store.clone();
    let object = |id: &str| CreatedObject {
        id: id.to_owned(),
        bucket: Some("b".to_owned()),
        key: id.to_owned(),
        size: None,
        at: Utc::now(),
    };
    let take = async |ids: &[&str]| {
        let request = runs::request("j", &plan.jobs["j"]);
        let objects = ids.iter().map(|id| object(id)).collect();
        store.enqueue_for(request, objects).await.unwrap()
    };
    let first = take(&["1", "2", "2"]).await.unwrap().run;
    assert_eq!(take(&["1"]).await, None);
    let second = take(&["2", "3"]).await.unwrap().run;
    assert_eq!(second.id, first.id);
    let cause = Cause::Objects {
        count: 3,
        first: "b/1".to_owned(),
    };
    assert_eq!(second.cause, cause);
    // What has begun takes no more.
    store.begin_run(&first.id).await.unwrap().unwrap();
    let third = take(&["4"]).await.unwrap().run;
    assert_ne!(third.id, first.id);
    let ids = store.objects(&first.id).await.unwrap();
    let ids: Vec<String> = ids.into_iter().map(|object| object.id).collect();
    assert_eq!(ids, ["1", "2", "3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_name_flows_and_jobs() {
    let text = format!(
        "jobs:\n{}flows:\n{}",
        job("j", "", &[("x", "", "ok")]),
        flow("f", "good", "")
    );
    let world = World::new(&text);
    let running = world.start();
    running.flow_is("f", FlowState::Following).await;
    let run = running.orchestrator.run_job("j", "me").await.unwrap();
    running.ended(&run.id).await;
    let numbers = running.orchestrator.metrics().await.unwrap();
    for line in [
        "tributary_flow_running{flow=\"f\"} 1",
        "tributary_job_runs_total{job=\"j\",state=\"succeeded\"} 1",
        "tributary_job_last_run_succeeded{job=\"j\"} 1",
    ] {
        assert!(numbers.lines().any(|found| found == line), "{numbers}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_a_job_are_of_what_ended_and_runs_whatever_waits() {
    let text = format!(
        "jobs:\n{}{}",
        job("j", "", &[("x", "", "ok")]),
        job("skips", "    overlap: skip\n", &[("x", "", "ok")]),
    );
    let world = World::new(&text);
    let store = Store::open(&Plan::read(&world.file()).unwrap().state).unwrap();
    let plan = Plan::read(&world.file()).unwrap();
    let queue = async |name: &str| {
        let run = ask(&store, &plan, name, "me").await.unwrap();
        run.id
    };
    let does = async |name: &str| {
        let id = queue(name).await;
        store.begin_run(&id).await.unwrap().unwrap();
        id
    };
    let ends = async |id: &str| {
        let ended = store.end_run(id, RunState::Succeeded, None, Moved::default(), Vec::new());
        ended.await.unwrap();
    };
    for name in ["j", "skips"] {
        ends(&does(name).await).await;
    }
    // What had ended before the start is not counted.
    let orchestrator = world.orchestrator().unwrap();
    let has = async |lines: &[&str]| {
        let numbers = orchestrator.metrics().await.unwrap();
        for line in lines {
            assert!(
                numbers.lines().any(|found| found == *line),
                "{line}\n{numbers}"
            );
        }
    };
    has(&[
        "tributary_job_runs_total{job=\"j\",state=\"succeeded\"} 0",
        "tributary_job_running{job=\"j\"} 0",
        "tributary_job_last_run_succeeded{job=\"j\"} 1",
    ])
    .await;
    ends(&does("j").await).await;
    for name in ["j", "skips"] {
        does(name).await;
        queue(name).await;
    }
    let expected = [
        "tributary_job_runs_total{job=\"j\",state=\"succeeded\"} 1",
        "tributary_job_runs_total{job=\"skips\",state=\"skipped\"} 1",
        "tributary_job_running{job=\"j\"} 1",
        "tributary_job_running{job=\"skips\"} 1",
        "tributary_job_last_run_succeeded{job=\"j\"} 1",
        "tributary_job_last_run_succeeded{job=\"skips\"} 1",
    ];
    has(&expected).await;
    let numbers = orchestrator.metrics().await.unwrap();
    for name in ["j", "skips"] {
        let series = format!("tributary_job_last_run_seconds{{job=\"{name}\"}}");
        assert!(numbers.contains(&series), "{numbers}");
    }
    // What is forgotten has been counted.
    let later = Utc::now() + Duration::from_secs(60);
    orchestrator.ended.forget(later, Vec::new()).await.unwrap();
    assert_eq!(store.run_counts().await.unwrap(), []);
    has(&expected[..4]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_fails_behind_a_later_one_is_the_last_result() {
    let world = World::new(&format!("jobs:\n{}", job("j", "", &[("x", "", "ok")])));
    let orchestrator = world.orchestrator().unwrap();
    let store = &orchestrator.store;
    let first = orchestrator.run_job("j", "me").await.unwrap();
    let second = orchestrator.run_job("j", "me").await.unwrap();
    let ends = async |run: &Run, state| {
        let ended = store.end_run(&run.id, state, None, Moved::default(), Vec::new());
        ended.await.unwrap();
    };
    ends(&second, RunState::Succeeded).await;
    let since = Utc::now();
    tokio::time::sleep(Duration::from_millis(5)).await;
    ends(&first, RunState::Failed).await;
    let jobs = vec!["j".to_owned()];
    let (failed, _) = store.failed_since(jobs.clone(), since).await.unwrap();
    let ids = |runs: Vec<Run>| -> Vec<String> { runs.into_iter().map(|run| run.id).collect() };
    assert_eq!(ids(failed), std::slice::from_ref(&first.id));
    let last = store.last_results(jobs).await.unwrap();
    assert_eq!(ids(last), [first.id]);
}

#[test]
fn a_state_that_cannot_be_used_is_told() {
    let directory = TempDir::new().unwrap();
    let open = |path: &Path| Store::open(path).map(|_| ()).unwrap_err();
    let file = directory.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert_eq!(open(&file).kind(), ErrorKind::Storage);
    let junk = directory.path().join("junk");
    std::fs::create_dir(&junk).unwrap();
    std::fs::write(junk.join("tributary.db"), "no database at all, not by far").unwrap();
    let error = open(&junk).to_string();
    assert!(error.contains("move it away"), "{error}");
    let later = directory.path().join("later");
    Store::open(&later).unwrap();
    let db = rusqlite::Connection::open(later.join("tributary.db")).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let error = open(&later).to_string();
    assert!(error.contains("a later version"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_pattern_begins_anew() {
    let world = World::new("");
    let orchestrator = world.orchestrator().unwrap();
    let store = &orchestrator.store;
    let long_ago = Utc::now() - Duration::from_secs(100_000);
    let request = runs::request(
        "j",
        &Job {
            schedule: None,
            after: Vec::new(),
            on_object: None,
            overlap: crate::config::Overlap::Queue,
            timeout: None,
            steps: BTreeMap::new(),
        },
    );
    let (old, new) = ("0 2 * * * UTC", "0 * * * * UTC");
    store
        .pass(request, old.to_owned(), Vec::new(), long_ago)
        .await
        .unwrap();
    let passed = store.passed_to("j", old).await.unwrap();
    assert!((passed - long_ago).abs() < chrono::TimeDelta::seconds(1));
    let passed = store.passed_to("j", new).await.unwrap();
    assert!(Utc::now() - passed < chrono::TimeDelta::seconds(60));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_comes_again_is_not_caught_up_on() {
    let with = |schedule: &str| format!("jobs:\n{}", job("j", schedule, &[("x", "", "ok")]));
    let world = World::new(&with(""));
    let orchestrator = world.orchestrator().unwrap();
    let request = runs::request("j", &orchestrator.plan().jobs["j"]);
    let long_ago = Utc::now() - Duration::from_secs(800 * 24 * 3600);
    let pattern = "0 0 1 1 * UTC".to_owned();
    let passed = orchestrator
        .store
        .pass(request, pattern, Vec::new(), long_ago);
    passed.await.unwrap();
    drop(orchestrator);

    let running = world.start();
    let passed_to = async || -> Option<i64> {
        let store = &running.orchestrator.store;
        let passed = store.transact(|db| {
            let mut query = db.prepare("SELECT passed_to FROM schedule")?;
            query.query_map([], |row| row.get(0))?.next().transpose()
        });
        passed.await.unwrap()
    };
    running
        .until(async || passed_to().await.is_none().then_some(()))
        .await;
    world.write(&with("    schedule: { cron: '0 0 1 1 *' }\n"));
    running.orchestrator.reload().await.unwrap();
    let passed = running.until(passed_to).await;
    assert!(passed > long_ago.timestamp_millis() + 1000);
    assert_eq!(running.runs_of("j").await, []);
    running.stop().await;
}

fn trigger(name: &str, more: &str) -> String {
    format!(
        "  {name}: {{ source: s, database: db, collection: c, operations: [insert], function: f.js{more} }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn triggers_begin_stop_and_change_with_the_configuration() {
    let world = World::new(&format!("triggers:\n{}", trigger("a", "")));
    let running = world.start();
    let first = running
        .until(async || running.orchestrator.triggers().await.unwrap().pop())
        .await;
    assert_eq!((first.name.as_str(), first.queued), ("a", Some(3)));
    assert_eq!(first.watches.as_deref(), Some("db.c"));
    assert_eq!(first.function.as_deref(), Some("f"));

    world.write(&format!("triggers:\n{}", trigger("b", "")));
    running.orchestrator.reload().await.unwrap();
    let names = async || -> Vec<String> {
        let triggers = running.orchestrator.triggers().await.unwrap();
        triggers.into_iter().map(|trigger| trigger.name).collect()
    };
    assert_eq!(names().await, ["b"]);
    // Where an application is wrong, all is as it was, flows included.
    world.write(&format!(
        "apps: {{ broken: {{ path: x }} }}\nflows:\n{}",
        flow("f", "good", "")
    ));
    let error = running.orchestrator.reload().await.unwrap_err();
    assert!(error.to_string().contains("broken"), "{error}");
    assert_eq!(names().await, ["b"]);
    assert_eq!(running.orchestrator.flows().await.unwrap().len(), 0);
    assert_eq!(running.orchestrator.overview().await.unwrap().triggers, 1);
    assert_eq!(world.hosts.applied.load(Ordering::SeqCst), 2);
    running.stop().await;
    assert!(world.hosts.is_stopped.load(Ordering::SeqCst));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_is_wrong_at_the_start_ends_it() {
    let world = World::new("apps: { broken: { path: x } }\n");
    let running = world.start();
    let error = running.task.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_state_of_a_trigger_is_told_once() {
    let world = World::new(&format!("triggers:\n{}", trigger("t", "")));
    let orchestrator = world.orchestrator().unwrap();
    let mut notices = orchestrator.notices();
    let stop = CancellationToken::new();
    let task = tokio::spawn(Arc::clone(&orchestrator).serve(stop.clone()));
    let mut next = async || loop {
        let wait = tokio::time::timeout(Duration::from_secs(60), notices.recv());
        if let Notice::Trigger(trigger) = wait.await.unwrap().unwrap() {
            return trigger.state;
        }
    };
    assert_eq!(next().await, TriggerState::Running);
    orchestrator.pause_trigger("t").await.unwrap();
    assert_eq!(next().await, TriggerState::Paused);
    // What changes nothing is no news: the next that is told is another.
    orchestrator.pause_trigger("t").await.unwrap();
    let from = Utc::now() - Duration::from_secs(60);
    orchestrator.replay_trigger("t", from).await.unwrap();
    orchestrator.resume_trigger("t").await.unwrap();
    assert_eq!(next().await, TriggerState::Running);
    let record = orchestrator.store.load("t").await.unwrap();
    assert_eq!((record.revision, record.from.is_some()), (4, true));
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_is_suspended_and_dead_letters_are_told_of() {
    let text = format!(
        "\
alerts:
  notify: {{ me: {{ stderr: true }} }}
  rules:
    suspended: {{ when: trigger_suspended }}
    dead: {{ when: {{ dead_letters: 2 }}, triggers: ['a*'] }}
triggers:
{}{}",
        trigger("a", ""),
        trigger("b", "")
    );
    let world = World::new(&text);
    let running = world.start();
    let control = &running.orchestrator;
    let store = &control.store;
    let letter = |trigger: &str, id: u32| DeadLetter {
        id: format!("{trigger}{id}"),
        trigger: trigger.to_owned(),
        token: id.to_string(),
        arguments: vec![5, 0, 0, 0, 0].into(),
        error: "it failed".to_owned(),
        attempts: 1,
        at: Utc::now(),
    };
    // One is not enough, and the rule is not about the other.
    for (trigger, count) in [("a", 1), ("b", 5)] {
        let dead = (0..count).map(|id| letter(trigger, id)).collect();
        let progress = Progress {
            dead,
            ..Progress::default()
        };
        store.advance(trigger, progress).await.unwrap();
    }
    let suspended = Remains::Suspended {
        reason: "no such function".to_owned(),
    };
    store
        .set_state("b", u64::MAX, suspended, None)
        .await
        .unwrap();
    let fires = async || -> Vec<(String, String, bool)> {
        let alerts = control.alerts().await.unwrap().into_iter();
        alerts
            .map(|alert| (alert.rule, alert.subject, alert.recovered_at.is_none()))
            .collect()
    };
    let alert = |rule: &str, subject: &str, fires| (rule.to_owned(), subject.to_owned(), fires);
    let of_b = |fires| alert("suspended", "trigger b", fires);
    running
        .until(async || (fires().await == [of_b(true)]).then_some(()))
        .await;
    let more = Progress {
        dead: vec![letter("a", 7)],
        ..Progress::default()
    };
    store.advance("a", more).await.unwrap();
    running
        .until(async || {
            let found = fires().await;
            found
                .contains(&alert("dead", "trigger a", true))
                .then_some(())
        })
        .await;
    control.resume_trigger("b").await.unwrap();
    let all = Letters::AllOf("a".to_owned());
    assert_eq!(control.discard_dead_letters(all).await.unwrap(), 2);
    running
        .until(async || {
            let found = fires().await;
            let is_over =
                found.contains(&of_b(false)) && found.contains(&alert("dead", "trigger a", false));
            is_over.then_some(())
        })
        .await;
    assert_eq!(fires().await.len(), 2);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_name_triggers() {
    let world = World::new(&format!("triggers:\n{}", trigger("t", "")));
    let running = world.start();
    let progress = Progress {
        succeeded: 7,
        failed: 2,
        ..Progress::default()
    };
    let store = &running.orchestrator.store;
    store.advance("t", progress).await.unwrap();
    running
        .until(async || {
            let live = !world.hosts.live().is_empty();
            live.then_some(())
        })
        .await;
    let numbers = running.orchestrator.metrics().await.unwrap();
    for line in [
        "tributary_trigger_runs_total{trigger=\"t\",result=\"succeeded\"} 7",
        "tributary_trigger_runs_total{trigger=\"t\",result=\"failed\"} 2",
        "tributary_trigger_state{trigger=\"t\",state=\"running\"} 1",
        "tributary_trigger_state{trigger=\"t\",state=\"suspended\"} 0",
        "tributary_trigger_queue_depth{trigger=\"t\"} 3",
        "tributary_trigger_in_flight{trigger=\"t\"} 1",
        "tributary_trigger_lag_seconds{trigger=\"t\"} 2",
        "tributary_trigger_dead_letters{trigger=\"t\"} 0",
        "tributary_trigger_duration_seconds_bucket{trigger=\"t\",le=\"0.5\"} 4",
        "tributary_trigger_duration_seconds_bucket{trigger=\"t\",le=\"1\"} 6",
        "tributary_trigger_duration_seconds_bucket{trigger=\"t\",le=\"+Inf\"} 7",
        "tributary_trigger_duration_seconds_sum{trigger=\"t\"} 5.5",
        "tributary_trigger_duration_seconds_count{trigger=\"t\"} 7",
    ] {
        assert!(
            numbers.lines().any(|found| found == line),
            "{line}\n{numbers}"
        );
    }
    running.stop().await;
}
