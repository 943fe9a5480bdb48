//! What runs, as numbers in Prometheus's text format.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::config::Plan;
use crate::engine::Activity;
use crate::status::{FlowStatus, Run, RunState, TriggerState, TriggerStatus};
use crate::store::RunCount;

/// What is known of the jobs of a plan.
pub(crate) struct JobNumbers {
    /// The runs that run.
    pub(crate) running: Vec<Run>,
    /// The last run of each that succeeded or failed.
    pub(crate) results: Vec<Run>,
    /// How many have ended since the start.
    pub(crate) ended: Vec<RunCount>,
}

/// Jobs, runs and flows as they are now.
pub(crate) fn render(flows: &[FlowStatus], plan: &Plan, jobs: &JobNumbers) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, lines: Vec<(String, f64)>| {
        add(&mut text, name, kind, help, lines);
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
    let mut ended: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for job in plan.jobs.keys() {
        // What begins with its first one is not seen to grow by it.
        for state in RunState::ALL.iter().filter(|state| state.is_end()) {
            ended.insert((job, state.name()), 0);
        }
    }
    for count in &jobs.ended {
        ended.insert((&count.job, count.state.name()), count.runs);
    }
    family(
        "tributary_job_runs_total",
        "counter",
        "Runs of a job that have ended since the start, by how.",
        ended
            .iter()
            .map(|((job, state), runs)| {
                let labels = format!("{},{}", label("job", job), label("state", state));
                (labels, *runs as f64)
            })
            .collect(),
    );
    family(
        "tributary_job_running",
        "gauge",
        "1 while a run of the job runs.",
        plan.jobs
            .keys()
            .map(|job| {
                let runs = jobs.running.iter().any(|run| run.job == *job);
                (label("job", job), f64::from(u8::from(runs)))
            })
            .collect(),
    );
    family(
        "tributary_job_last_run_succeeded",
        "gauge",
        "1 where the last run of the job that succeeded or failed did succeed, 0 where it failed.",
        jobs.results
            .iter()
            .map(|run| {
                let succeeded = run.state == RunState::Succeeded;
                (label("job", &run.job), f64::from(u8::from(succeeded)))
            })
            .collect(),
    );
    family(
        "tributary_job_last_run_seconds",
        "gauge",
        "How long the last run of the job took that succeeded or failed.",
        jobs.results
            .iter()
            .filter_map(|run| {
                let time = run.ended_at? - run.started_at?;
                Some((label("job", &run.job), time.as_seconds_f64()))
            })
            .collect(),
    );
    text
}

/// Triggers as they are now, and what those of this process have done.
pub(crate) fn of_triggers<'a>(
    triggers: &[TriggerStatus],
    activities: impl Iterator<Item = (&'a str, &'a Activity)>,
) -> String {
    let mut text = String::new();
    let each = |number: &dyn Fn(&TriggerStatus) -> Option<f64>| -> Vec<(String, f64)> {
        let numbers = triggers.iter();
        numbers
            .filter_map(|trigger| Some((label("trigger", &trigger.name), number(trigger)?)))
            .collect()
    };
    let mut runs = Vec::new();
    let mut states = Vec::new();
    for trigger in triggers {
        let name = label("trigger", &trigger.name);
        let mut count = |result, runs_of: u64| {
            runs.push((
                format!("{name},{}", label("result", result)),
                runs_of as f64,
            ));
        };
        count("succeeded", trigger.succeeded);
        count("failed", trigger.failed);
        for state in TriggerState::ALL {
            let is = f64::from(u8::from(trigger.state == state));
            states.push((format!("{name},{}", label("state", state.name())), is));
        }
    }
    let mut gauge = |name: &str, help: &str, lines| add(&mut text, name, "gauge", help, lines);
    gauge(
        "tributary_trigger_state",
        "1 for the state that a trigger is in, 0 for the others.",
        states,
    );
    gauge(
        "tributary_trigger_queue_depth",
        "Events that were read and wait.",
        each(&|trigger| trigger.queued.map(|count| count as f64)),
    );
    gauge(
        "tributary_trigger_in_flight",
        "Runs that have begun and not ended.",
        each(&|trigger| trigger.in_flight.map(|count| count as f64)),
    );
    gauge(
        "tributary_trigger_lag_seconds",
        "The age of the oldest event that was read and has not been dealt with, 0 where there is none.",
        each(&|trigger| {
            trigger
                .in_flight
                .map(|_| trigger.lag_seconds.unwrap_or(0.0))
        }),
    );
    gauge(
        "tributary_trigger_dead_letters",
        "Events that a trigger has given up on, and that are kept.",
        each(&|trigger| Some(trigger.dead_letters as f64)),
    );
    let help = "Runs of a trigger, by how they ended.";
    add(
        &mut text,
        "tributary_trigger_runs_total",
        "counter",
        help,
        runs,
    );
    add_durations(&mut text, activities);
    text
}

/// A histogram: each bucket counts all that took as long as its bound at most.
fn add_durations<'a>(text: &mut String, activities: impl Iterator<Item = (&'a str, &'a Activity)>) {
    let name = "tributary_trigger_duration_seconds";
    let _ = writeln!(
        text,
        "# HELP {name} How long runs of a trigger took, since the start.\n# TYPE {name} histogram"
    );
    for (trigger, activity) in activities {
        let durations = &activity.durations;
        let labels = label("trigger", trigger);
        let mut count = 0;
        for (bound, more) in durations.bounds.iter().zip(&durations.counts) {
            count += more;
            let bound = label("le", &bound.to_string());
            let _ = writeln!(text, "{name}_bucket{{{labels},{bound}}} {count}");
        }
        let count: u64 = durations.counts.iter().sum();
        let _ = writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
        let _ = writeln!(text, "{name}_sum{{{labels}}} {}", durations.sum);
        let _ = writeln!(text, "{name}_count{{{labels}}} {count}");
    }
}

fn add(text: &mut String, name: &str, kind: &str, help: &str, lines: Vec<(String, f64)>) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in lines {
        let _ = writeln!(text, "{name}{{{labels}}} {value}");
    }
}

fn label(name: &str, value: &str) -> String {
    let value = value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}
