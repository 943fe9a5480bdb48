//! What runs, as numbers in Prometheus's text format.

use std::fmt::Write;

use crate::status::{FlowStatus, JobStatus, RunState};
use crate::store::RunCount;

/// Jobs, runs and flows as they are now.
pub(crate) fn render(flows: &[FlowStatus], jobs: &[JobStatus], counts: &[RunCount]) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, lines: Vec<(String, f64)>| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in lines {
            let _ = writeln!(text, "{name}{{{labels}}} {value}");
        }
    };
    family(
        "tributary_flow_restarts_total",
        "counter",
        "How often a flow was started again after a failure.",
        flows
            .iter()
            .map(|flow| (label("flow", &flow.name), flow.restarts as f64))
            .collect(),
    );
    family(
        "tributary_flow_running",
        "gauge",
        "1 while a flow runs, 0 while it waits to be tried again or is stopped.",
        flows
            .iter()
            .map(|flow| {
                use crate::status::FlowState::{Retrying, Stopped};
                let runs = !matches!(flow.state, Retrying | Stopped);
                (label("flow", &flow.name), f64::from(u8::from(runs)))
            })
            .collect(),
    );
    family(
        "tributary_job_runs_total",
        "counter",
        "Runs of a job that are remembered, by how they ended.",
        counts
            .iter()
            .map(|count| {
                let labels = format!(
                    "{},{}",
                    label("job", &count.job),
                    label("state", count.state.name())
                );
                (labels, count.runs as f64)
            })
            .collect(),
    );
    let last = |job: &JobStatus| {
        job.last_run
            .as_ref()
            .map(|run| (job.name.clone(), run.clone()))
    };
    let lasts: Vec<_> = jobs.iter().filter_map(last).collect();
    family(
        "tributary_job_running",
        "gauge",
        "1 while a run of the job runs.",
        lasts
            .iter()
            .map(|(job, run)| {
                let runs = run.state == RunState::Running;
                (label("job", job), f64::from(u8::from(runs)))
            })
            .collect(),
    );
    family(
        "tributary_job_last_run_succeeded",
        "gauge",
        "1 where the last run of the job that has ended succeeded, 0 where it did not.",
        lasts
            .iter()
            .filter(|(_, run)| run.state.is_end())
            .map(|(job, run)| {
                let succeeded = run.state == RunState::Succeeded;
                (label("job", job), f64::from(u8::from(succeeded)))
            })
            .collect(),
    );
    family(
        "tributary_job_last_run_seconds",
        "gauge",
        "How long the last run of the job took that has ended.",
        lasts
            .iter()
            .filter_map(|(job, run)| {
                let time = run.ended_at? - run.started_at?;
                Some((label("job", job), time.as_seconds_f64()))
            })
            .collect(),
    );
    text
}

fn label(name: &str, value: &str) -> String {
    let value = value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}
