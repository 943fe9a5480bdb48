//! `tributary run`: everything that the file says, in one process.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tributary_api::Outside;
use tributary_flow::{All, Observer};
use tributary_model::{DescribedTable, Namespace, Result};
use tributary_orchestrator::config::{Flow, Plan, Telemetry, Work};
use tributary_orchestrator::control::Control;
use tributary_orchestrator::engine::{Engine, Moved, Tell, TriggerHost};
use tributary_orchestrator::status::{FlowState, Notice};
use tributary_orchestrator::{Orchestrator, Setup, Store};

use crate::cli::{Output, RunArguments};
use crate::engine::Pipes;
use crate::functions::FunctionHost;
use crate::ingest::Logs;
use crate::metrics::FlowMetrics;
use crate::telemetry::{self, Telemetered};
use crate::{DONE, console};

pub(crate) async fn run(arguments: RunArguments, stop: CancellationToken) -> Result<u8> {
    // Until somebody listens for it, it ends the process.
    let hangup = signal(SignalKind::hangup()).ok();
    let plan = Plan::read(&arguments.file)?;
    let server = plan.server.clone();
    let mut telemetered = plan.telemetry.as_ref().and_then(telemetered);
    let store = Store::open(&plan.state)?;
    let logs = Arc::new(Logs::default());
    let functions = Arc::new(FunctionHost::new(
        Arc::new(store.clone()),
        Arc::clone(&logs),
    ));
    let triggers: Arc<dyn TriggerHost> = functions.clone();
    let orchestrator = orchestrator(
        plan,
        arguments.file,
        store,
        Arc::clone(&logs),
        Some(triggers),
    )
    .await?;
    let control: Arc<dyn Control> = orchestrator.clone();
    if let Some(telemetered) = &mut telemetered {
        telemetered.measure(Arc::clone(&control));
    }
    let api_stop = CancellationToken::new();
    let outside = Outside {
        ingests: Some(logs),
        endpoints: Some(functions.clone()),
    };
    let served = match &server {
        Some(server) => Some(
            tributary_api::serve(server, Arc::clone(&control), outside, api_stop.clone()).await?,
        ),
        None => None,
    };
    if let Some(served) = &served {
        let address = served.address();
        match arguments.output {
            Output::Text => console::note(&format!("the API is at {address}")),
            Output::Json => console::emit(&json!({ "event": "listening", "address": address })),
        }
    }
    let told = AbortOnDropHandle::new(tokio::spawn(tell(Arc::clone(&control), arguments.output)));
    let reloads = AbortOnDropHandle::new(tokio::spawn(reload_on_signal(control, hangup)));
    let result = orchestrator.serve(stop).await;
    // Whoever listens hears the end of it.
    api_stop.cancel();
    if let Some(served) = served {
        served.ended().await;
        functions.recorded().await;
    }
    drop((told, reloads));
    if let Some(telemetered) = telemetered {
        telemetered.end().await;
    }
    if let Output::Json = arguments.output {
        console::emit(&json!({ "event": "stopped" }));
    }
    result.map(|()| DONE)
}

/// Begins to send telemetry. The work goes on without it where it cannot.
fn telemetered(telemetry: &Telemetry) -> Option<Telemetered> {
    telemetry::begin(telemetry)
        .inspect_err(|error| tracing::warn!(%error, "no telemetry is sent"))
        .ok()
}

/// What runs a plan, that data is moved by as on the command line. The logs of events that are pushed are open
/// then.
pub(crate) async fn orchestrator(
    plan: Plan,
    file: PathBuf,
    store: Store,
    logs: Arc<Logs>,
    triggers: Option<Arc<dyn TriggerHost>>,
) -> Result<Arc<Orchestrator>> {
    let metrics = Arc::new(FlowMetrics::new()?);
    let engine = Measured {
        engine: Pipes::new(Arc::clone(&logs)),
        metrics: Arc::clone(&metrics),
    };
    let orchestrator = Orchestrator::new(Setup {
        plan: plan.clone(),
        file,
        store,
        engine: Arc::new(engine),
        triggers,
        numbers: Arc::new(move || metrics.render()),
    })?;
    // Whoever else runs the file has been noticed by now.
    logs.become_these(&plan).await?;
    Ok(Arc::new(orchestrator))
}

/// An engine whose flows are counted.
struct Measured {
    engine: Pipes,
    metrics: Arc<FlowMetrics>,
}

#[async_trait]
impl Engine for Measured {
    async fn prepare(&self, plan: &Plan) -> Result<()> {
        self.engine.prepare(plan).await
    }

    async fn follow(
        &self,
        flow: &Flow,
        observer: Arc<dyn Observer>,
        stop: CancellationToken,
    ) -> Result<()> {
        let observer = Arc::new(All(vec![observer, self.metrics.of(&flow.name)]));
        let ended = self.engine.follow(flow, observer, stop).await;
        if ended.is_err() {
            self.metrics.retries(&flow.name);
        }
        ended
    }

    fn ended(&self, flow: &Flow) {
        self.engine.ended(flow);
        self.metrics.end(&flow.name);
    }

    async fn work(
        &self,
        work: &Work,
        tell: Arc<dyn Tell>,
        stop: CancellationToken,
    ) -> Result<Moved> {
        self.engine.work(work, tell, stop).await
    }

    async fn tables(&self, flow: &Flow) -> Result<Vec<DescribedTable>> {
        self.engine.tables(flow).await
    }

    async fn approve(&self, flow: &Flow, table: &Namespace) -> Result<()> {
        self.engine.approve(flow, table).await
    }
}

/// Reads the configuration again, whenever SIGHUP asks for it.
async fn reload_on_signal(control: Arc<dyn Control>, hangup: Option<Signal>) {
    let Some(mut hangup) = hangup else {
        return;
    };
    while hangup.recv().await.is_some() {
        if let Err(error) = control.reload().await {
            console::report(&error);
        }
    }
}

/// Tells what happens: as lines when something becomes another, as JSON everything.
async fn tell(control: Arc<dyn Control>, output: Output) {
    let mut notices = control.notices();
    let mut shown = std::collections::HashMap::new();
    loop {
        let notice = match notices.recv().await {
            Ok(notice) => notice,
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        if let Output::Json = output {
            console::emit(&serde_json::to_value(&notice).unwrap_or_default());
            continue;
        }
        let line = match notice {
            Notice::Flow(flow) => {
                if shown.insert(flow.name.clone(), flow.state) == Some(flow.state) {
                    continue;
                }
                let failed = flow.tables.iter().find_map(|table| table.error.as_ref());
                let error = flow.error.as_ref().or(failed);
                let why = match (flow.state, error) {
                    (_, None) => String::new(),
                    (FlowState::Starting | FlowState::Stopped | FlowState::Following, _) => {
                        String::new()
                    }
                    (_, Some(error)) => format!(": {error}"),
                };
                format!("flow {}: {}{why}", flow.name, word(flow.state))
            }
            Notice::Run(run) => {
                let why = run
                    .error
                    .map_or_else(String::new, |error| format!(": {error}"));
                format!(
                    "job {} (run {}): {}{why}",
                    run.job,
                    run.id,
                    run.state.name()
                )
            }
            Notice::Trigger(trigger) => {
                let why = trigger
                    .reason
                    .map_or_else(String::new, |reason| format!(": {reason}"));
                format!("trigger {}: {}{why}", trigger.name, trigger.state.name())
            }
            Notice::Alert(alert) => {
                let what = match alert.recovered_at {
                    None => "alert",
                    Some(_) => "alert recovered",
                };
                format!("{what}: {}: {}", alert.subject, alert.summary)
            }
            Notice::Reloaded(reloaded) => format!(
                "reloaded: {} flows started, {} stopped, {} restarted, {} kept",
                reloaded.started.len(),
                reloaded.stopped.len(),
                reloaded.restarted.len(),
                reloaded.kept.len()
            ),
        };
        console::note(&line);
    }
}

fn word(state: FlowState) -> &'static str {
    match state {
        FlowState::Starting => "starting",
        FlowState::Loading => "loading",
        FlowState::Following => "following",
        FlowState::Retrying => "failed, and is tried again",
        FlowState::Waiting => "waits for the approval of a schema change",
        FlowState::Failed => "a table has failed",
        FlowState::Stopped => "stopped",
    }
}
