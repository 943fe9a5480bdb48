//! What stands for all that runs: it answers plausible things, remembers who asked, and fails as it is told.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::{Semaphore, broadcast};
use tributary_model::{Error, ErrorKind, Result};
use tributary_orchestrator::control::Control;
use tributary_orchestrator::status::{
    AlertStatus, Cause, ConsoleLine, DeadLetterDetail, DeadLetterStatus, DecisionStatus, FlowState,
    FlowStatus, FunctionError, FunctionRunDetail, FunctionRunFilter, FunctionRunStatus, JobStatus,
    LetterFilter, Letters, Notice, Overview, Reloaded, Run, RunDetail, RunFilter, RunState,
    SchemaStatus, SourceStatus, StepRun, TableStatus, Told, TriggerKind, TriggerState,
    TriggerStatus,
};

/// So many notices a subscriber may be behind.
pub(super) const BEHIND: usize = 16;

pub(super) struct Fake {
    pub(super) notices: broadcast::Sender<Notice>,
    pub(super) unready: Mutex<Option<String>>,
    /// What every question about the whole fails with.
    pub(super) failure: Mutex<Option<ErrorKind>>,
    /// Who had something run or cancelled.
    pub(super) asked_by: Mutex<Vec<String>>,
    pub(super) filter: Mutex<Option<RunFilter>>,
    pub(super) letter_filter: Mutex<Option<LetterFilter>>,
    pub(super) function_filter: Mutex<Option<FunctionRunFilter>>,
    /// What was done to triggers and dead letters.
    pub(super) done: Mutex<Vec<String>>,
    /// What `alerts` waits for.
    pub(super) gate: Semaphore,
}

impl Fake {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            notices: broadcast::channel(BEHIND).0,
            unready: Mutex::new(None),
            failure: Mutex::new(None),
            asked_by: Mutex::new(Vec::new()),
            filter: Mutex::new(None),
            letter_filter: Mutex::new(None),
            function_filter: Mutex::new(None),
            done: Mutex::new(Vec::new()),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        })
    }

    fn did(&self, what: String) {
        self.done.lock().unwrap().push(what);
    }

    fn did_to(&self, what: &str, letters: &Letters) -> Result<usize> {
        let Letters::These(ids) = letters else {
            panic!("{letters:?}")
        };
        for id in ids {
            known(id, &letter().id)?;
            self.did(format!("{what} {id}"));
        }
        Ok(ids.len())
    }
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_760_000_000 + seconds, 0).unwrap()
}

fn known(name: &str, expected: &str) -> Result<()> {
    if name == expected {
        return Ok(());
    }
    Err(
        Error::new(ErrorKind::NotFound, "there is nothing of that name")
            .on("name", name)
            .remedy("ask for all of them"),
    )
}

pub(super) fn flow() -> FlowStatus {
    FlowStatus {
        name: "shop".to_owned(),
        from: "production".to_owned(),
        to: "lake".to_owned(),
        through: None,
        state: FlowState::Following,
        since: at(0),
        restarts: 1,
        next_try_at: None,
        error: None,
        tables: vec![TableStatus {
            namespace: "shop.orders".to_owned(),
            state: FlowState::Following,
            lag_seconds: Some(0.25),
            documents: 1000,
            changes: 20,
            rescued: 0,
            changed_at: Some(at(5)),
            error: None,
        }],
    }
}

pub(super) fn run() -> Run {
    Run {
        id: "0199c2a0-0000-7000-8000-000000000001".to_owned(),
        job: "nightly".to_owned(),
        state: RunState::Running,
        cause: Cause::Asked {
            by: "command line".to_owned(),
        },
        queued_at: at(0),
        started_at: Some(at(1)),
        ended_at: None,
        documents: 10,
        bytes: 1234,
        error: None,
    }
}

/// Every cause there is; that of `run` comes first.
fn causes() -> [Cause; 4] {
    [
        run().cause,
        Cause::Schedule {
            due_at: at(0),
            missed: 1,
        },
        Cause::After {
            job: "hourly".to_owned(),
            run: run().id,
        },
        Cause::Objects {
            count: 2,
            first: "s3://exports/a.json".to_owned(),
        },
    ]
}

fn job() -> JobStatus {
    JobStatus {
        name: "nightly".to_owned(),
        schedule: Some("0 2 * * *".to_owned()),
        time_zone: Some("Europe/Berlin".to_owned()),
        next_at: Some(at(60)),
        after: Vec::new(),
        on_object: None,
        steps: vec!["load".to_owned()],
        last_run: Some(run()),
    }
}

fn schema() -> SchemaStatus {
    SchemaStatus {
        flow: "shop".to_owned(),
        namespace: "shop.orders".to_owned(),
        waiting: true,
        decisions: vec![DecisionStatus {
            at: at(3),
            decision: "waiting".to_owned(),
            changes: vec!["new column `note`: string".to_owned()],
        }],
    }
}

/// A trigger of an app: its name has a slash.
pub(super) fn trigger() -> TriggerStatus {
    TriggerStatus {
        name: "billing/charge".to_owned(),
        app: Some("billing".to_owned()),
        kind: TriggerKind::Database,
        function: Some("charge".to_owned()),
        source: Some("production".to_owned()),
        watches: Some("shop.orders".to_owned()),
        state: TriggerState::Suspended,
        reason: Some("charge failed".to_owned()),
        position_at: Some(at(2)),
        replays_from: None,
        lag_seconds: Some(1.5),
        queued: Some(3),
        in_flight: Some(0),
        succeeded: 100,
        failed: 4,
        dead_letters: 1,
        last_run_at: Some(at(3)),
        last_error: Some("charge failed".to_owned()),
        next_at: None,
    }
}

pub(super) fn letter() -> DeadLetterStatus {
    DeadLetterStatus {
        id: "0199c2a0-0000-7000-8000-000000000002".to_owned(),
        trigger: "billing/charge".to_owned(),
        token: Some("82".to_owned()),
        error: "charge failed".to_owned(),
        attempts: 4,
        at: at(4),
        replaying: false,
    }
}

pub(super) fn function_run() -> FunctionRunStatus {
    FunctionRunStatus {
        id: "0199c2a0-0000-7000-8000-000000000003".to_owned(),
        app: "billing".to_owned(),
        function: "charge".to_owned(),
        cause: "trigger billing/charge".to_owned(),
        subject: Some("82".to_owned()),
        attempt: 1,
        started_at: at(4),
        seconds: 0.25,
        error: Some(FunctionError {
            message: "no such card".to_owned(),
            file: Some("functions/charge.js".to_owned()),
            line: Some(7),
            stack: None,
        }),
    }
}

fn alert() -> AlertStatus {
    AlertStatus {
        rule: "lag".to_owned(),
        subject: "flow shop".to_owned(),
        summary: "flow shop is 5 minutes behind".to_owned(),
        since: at(0),
        recovered_at: None,
        untold: vec!["chat: connection refused".to_owned()],
    }
}

#[async_trait]
impl Control for Fake {
    async fn overview(&self) -> Result<Overview> {
        if let Some(kind) = *self.failure.lock().unwrap() {
            return Err(Error::new(kind, "cannot do it")
                .on("server", "db1:27017")
                .because("it said so")
                .remedy("try something else"));
        }
        Ok(Overview {
            version: "0.1.0".to_owned(),
            started_at: at(0),
            configured_at: at(0),
            flows: 1,
            jobs: 1,
            triggers: 1,
            running: 1,
            alerts: 1,
        })
    }

    async fn unready(&self) -> Option<String> {
        self.unready.lock().unwrap().clone()
    }

    async fn flows(&self) -> Result<Vec<FlowStatus>> {
        Ok(vec![flow()])
    }

    async fn flow(&self, name: &str) -> Result<FlowStatus> {
        assert_ne!(name, "panics", "the test wants it");
        known(name, "shop").map(|()| flow())
    }

    async fn start_flow(&self, name: &str) -> Result<FlowStatus> {
        known(name, "shop").map(|()| flow())
    }

    async fn stop_flow(&self, name: &str) -> Result<FlowStatus> {
        known(name, "shop").map(|()| flow())
    }

    async fn sources(&self) -> Result<Vec<SourceStatus>> {
        Ok(vec![SourceStatus {
            name: "production".to_owned(),
            flows: vec!["shop".to_owned()],
            connected: true,
            oplog_window_seconds: Some(86_400),
            read_to: Some(at(9)),
            error: None,
        }])
    }

    async fn jobs(&self) -> Result<Vec<JobStatus>> {
        Ok(vec![job()])
    }

    async fn job(&self, name: &str) -> Result<JobStatus> {
        known(name, "nightly").map(|()| job())
    }

    async fn run_job(&self, name: &str, by: &str) -> Result<Run> {
        self.asked_by.lock().unwrap().push(by.to_owned());
        known(name, "nightly").map(|()| run())
    }

    async fn runs(&self, filter: RunFilter) -> Result<Vec<Run>> {
        *self.filter.lock().unwrap() = Some(filter);
        Ok(causes().map(|cause| Run { cause, ..run() }).to_vec())
    }

    async fn run(&self, id: &str) -> Result<RunDetail> {
        let run = run();
        known(id, &run.id)?;
        Ok(RunDetail {
            run,
            steps: vec![StepRun {
                name: "load".to_owned(),
                work: "copy".to_owned(),
                state: RunState::Running,
                attempts: 1,
                started_at: Some(at(1)),
                ended_at: None,
                documents: 10,
                bytes: 1234,
                error: None,
                log: "loaded shop.orders\n".to_owned(),
            }],
        })
    }

    async fn cancel_run(&self, id: &str, by: &str) -> Result<Run> {
        self.asked_by.lock().unwrap().push(by.to_owned());
        known(id, &run().id).map(|()| run())
    }

    async fn schemas(&self, flow: &str) -> Result<Vec<SchemaStatus>> {
        known(flow, "shop").map(|()| vec![schema()])
    }

    async fn approve_schema(&self, flow: &str, table: &str) -> Result<SchemaStatus> {
        known(flow, "shop")?;
        known(table, "shop.orders").map(|()| schema())
    }

    async fn triggers(&self) -> Result<Vec<TriggerStatus>> {
        Ok(vec![trigger()])
    }

    async fn trigger(&self, name: &str) -> Result<TriggerStatus> {
        known(name, "billing/charge").map(|()| trigger())
    }

    async fn pause_trigger(&self, name: &str) -> Result<TriggerStatus> {
        self.did(format!("pause {name}"));
        self.trigger(name).await
    }

    async fn resume_trigger(&self, name: &str) -> Result<TriggerStatus> {
        self.did(format!("resume {name}"));
        self.trigger(name).await
    }

    async fn replay_trigger(&self, name: &str, from: DateTime<Utc>) -> Result<TriggerStatus> {
        self.did(format!("replay {name} from {from}"));
        self.trigger(name).await
    }

    async fn dead_letters(&self, filter: LetterFilter) -> Result<Vec<DeadLetterStatus>> {
        *self.letter_filter.lock().unwrap() = Some(filter);
        Ok(vec![letter()])
    }

    async fn dead_letter(&self, id: &str) -> Result<DeadLetterDetail> {
        let letter = letter();
        known(id, &letter.id)?;
        Ok(DeadLetterDetail {
            letter,
            arguments: vec![serde_json::json!({ "operationType": "insert" }), 1.into()],
        })
    }

    async fn replay_dead_letters(&self, letters: Letters) -> Result<usize> {
        self.did_to("replay", &letters)
    }

    async fn discard_dead_letters(&self, letters: Letters) -> Result<usize> {
        self.did_to("discard", &letters)
    }

    async fn function_runs(&self, filter: FunctionRunFilter) -> Result<Vec<FunctionRunStatus>> {
        *self.function_filter.lock().unwrap() = Some(filter);
        Ok(vec![function_run()])
    }

    async fn function_run(&self, id: &str) -> Result<FunctionRunDetail> {
        let run = function_run();
        known(id, &run.id)?;
        Ok(FunctionRunDetail {
            run,
            console: vec![ConsoleLine {
                level: "log".to_owned(),
                text: "charging".to_owned(),
            }],
        })
    }

    async fn alerts(&self) -> Result<Vec<AlertStatus>> {
        let _passed = self.gate.acquire().await.unwrap();
        Ok(vec![alert()])
    }

    async fn test_alerts(&self) -> Result<Vec<Told>> {
        Ok(vec![Told {
            receiver: "chat".to_owned(),
            error: None,
        }])
    }

    async fn reload(&self) -> Result<Reloaded> {
        Ok(Reloaded {
            kept: vec!["shop".to_owned()],
            ..Reloaded::default()
        })
    }

    fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    async fn metrics(&self) -> Result<String> {
        Ok("# TYPE tributary_flows gauge\ntributary_flows 1\n".to_owned())
    }
}
