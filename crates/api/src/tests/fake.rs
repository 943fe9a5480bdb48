//! What stands for all that runs: it answers plausible things, remembers who asked, and fails as it is told.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::{Semaphore, broadcast};
use tributary_model::{Error, ErrorKind, Result};
use tributary_orchestrator::control::Control;
use tributary_orchestrator::status::{
    AlertStatus, Cause, DecisionStatus, FlowState, FlowStatus, JobStatus, Notice, Overview,
    Reloaded, Run, RunDetail, RunFilter, RunState, SchemaStatus, SourceStatus, StepRun,
    TableStatus, Told,
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
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        })
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
