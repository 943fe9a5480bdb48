//! `tributary job`: jobs and their runs.

use std::fmt::Write;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tributary_model::{Error, ErrorKind, Result};
use tributary_orchestrator::config::Plan;
use tributary_orchestrator::status::{Cause, JobStatus, Run, RunDetail, RunFilter, RunState};
use tributary_orchestrator::{Jobs, Orchestrator, Store};

use crate::cli::{JobArguments, JobCommand, Output};
use crate::console::{self, aligned, group, say};
use crate::run::orchestrator;
use crate::{DONE, FAILED};

/// Who asks, as the history has it.
const BY: &str = "command line";

pub(crate) async fn run(command: JobCommand, stop: CancellationToken) -> Result<u8> {
    match command {
        JobCommand::List { arguments } => {
            let list = jobs(&arguments)?.list().await?;
            match arguments.output {
                Output::Json => console::emit(&json!({ "event": "jobs", "jobs": list })),
                Output::Text => say(&listed(&list)),
            }
            Ok(DONE)
        }
        JobCommand::History {
            job,
            state,
            limit,
            arguments,
        } => {
            let state = match state {
                Some(name) => Some(RunState::of(&name).ok_or_else(|| {
                    let known = RunState::ALL.map(RunState::name).join(", ");
                    Error::new(ErrorKind::Usage, "there is no such state")
                        .on("state", name)
                        .remedy(format!("it is one of {known}"))
                })?),
                None => None,
            };
            let filter = RunFilter {
                job,
                state,
                before: None,
                limit,
            };
            let runs = jobs(&arguments)?.history(filter).await?;
            match arguments.output {
                Output::Json => console::emit(&json!({ "event": "runs", "runs": runs })),
                Output::Text => say(&history(&runs)),
            }
            Ok(DONE)
        }
        JobCommand::Show { run, arguments } => {
            let detail = jobs(&arguments)?.show(&run).await?;
            tell(&detail, arguments.output);
            Ok(DONE)
        }
        JobCommand::Cancel { run, arguments } => {
            let run = jobs(&arguments)?.cancel(&run, BY).await?;
            match arguments.output {
                Output::Json => console::emit(&json!({ "event": "cancelled", "run": run })),
                Output::Text if run.state == RunState::Running => {
                    say(&format!("run {}: it is being cancelled", run.id));
                }
                Output::Text => say(&format!("run {}: {}", run.id, run.state.name())),
            }
            Ok(DONE)
        }
        JobCommand::Run {
            job,
            wait,
            arguments,
        } => run_job(&job, wait, &arguments, &stop).await,
    }
}

/// The jobs of the file.
fn jobs(arguments: &JobArguments) -> Result<Jobs> {
    let plan = Plan::read(&arguments.config)?;
    let store = Store::open(&plan.state)?;
    Ok(Jobs::new(plan, store))
}

/// Has a job run: by the process that runs the file, and where there is none, or none any more, here.
async fn run_job(
    name: &str,
    wait: bool,
    arguments: &JobArguments,
    stop: &CancellationToken,
) -> Result<u8> {
    let plan = Plan::read(&arguments.config)?;
    let store = Store::open(&plan.state)?;
    let jobs = Jobs::new(plan.clone(), store.clone());
    if !plan.jobs.contains_key(name) {
        return Err(Error::new(ErrorKind::Usage, "there is no such job")
            .on("job", name)
            .remedy("it is to stand under `jobs` in the configuration; `tributary job list` shows those there are"));
    }
    let mut ran_here = false;
    let asked = match here(&plan, &store, arguments).await? {
        Some(orchestrator) => {
            let asked = orchestrator.ask(name, BY).await?.id;
            orchestrator.run_here(&asked, stop).await?;
            ran_here = true;
            asked
        }
        None => jobs.ask(name, BY).await?.id,
    };
    // What was asked for just before a process gave its place up was not seen by it: it is looked for again
    // behind that, by that process and by the one that asked.
    let detail = loop {
        let detail = jobs.show(&asked).await?;
        let is_open = !detail.run.state.is_end();
        let goes_on = is_open || ran_here && jobs.is_anything_waiting().await?;
        if !goes_on || stop.is_cancelled() {
            break detail;
        }
        if let Some(orchestrator) = here(&plan, &store, arguments).await? {
            orchestrator.run_here(&asked, stop).await?;
            ran_here = true;
        } else if wait && is_open {
            jobs.wait(&asked, stop).await?;
        } else {
            break detail;
        }
    };
    tell(&detail, arguments.output);
    Ok(match detail.run.state {
        RunState::Succeeded | RunState::Queued | RunState::Running => DONE,
        RunState::Failed | RunState::Cancelled | RunState::Skipped => FAILED,
    })
}

/// What runs jobs in this process; none where another runs the file.
async fn here(
    plan: &Plan,
    store: &Store,
    arguments: &JobArguments,
) -> Result<Option<Arc<Orchestrator>>> {
    if store.lock()?.is_none() {
        return Ok(None);
    }
    let file = arguments.config.clone();
    match orchestrator(plan.clone(), file, store.clone(), Arc::default(), None).await {
        Ok(orchestrator) => {
            console::note("no `tributary run` runs with this state: jobs run here");
            Ok(Some(orchestrator))
        }
        // Another was faster.
        Err(error) if error.kind() == ErrorKind::Conflict && store.lock()?.is_none() => Ok(None),
        Err(error) => Err(error),
    }
}

fn tell(detail: &RunDetail, output: Output) {
    match output {
        Output::Json => console::emit(&json!({ "event": "run", "run": detail })),
        Output::Text => say(&shown(detail)),
    }
}

fn listed(jobs: &[JobStatus]) -> String {
    if jobs.is_empty() {
        return "there is no job in the configuration".to_owned();
    }
    let mut rows = vec![["job", "runs", "next", "last run", "state"].map(str::to_owned)];
    for job in jobs {
        let mut when = Vec::new();
        if let Some(schedule) = &job.schedule {
            let zone = job.time_zone.as_deref().unwrap_or("UTC");
            when.push(format!("{schedule} ({zone})"));
        }
        if !job.after.is_empty() {
            when.push(format!("after {}", job.after.join(", ")));
        }
        if let Some(watched) = &job.on_object {
            when.push(format!("on objects of {watched}"));
        }
        if when.is_empty() {
            when.push("when asked".to_owned());
        }
        rows.push([
            job.name.clone(),
            when.join("; "),
            job.next_at.map_or_else(String::new, time),
            job.last_run
                .as_ref()
                .map_or_else(|| "never".to_owned(), |run| time(run.queued_at)),
            job.last_run
                .as_ref()
                .map_or_else(String::new, |run| run.state.name().to_owned()),
        ]);
    }
    aligned(&rows)
}

fn history(runs: &[Run]) -> String {
    if runs.is_empty() {
        return "no run is remembered".to_owned();
    }
    let mut rows = vec![
        [
            "run",
            "job",
            "state",
            "because",
            "began",
            "took",
            "documents",
        ]
        .map(str::to_owned),
    ];
    for run in runs {
        rows.push([
            run.id.clone(),
            run.job.clone(),
            run.state.name().to_owned(),
            because(&run.cause),
            run.started_at.map_or_else(String::new, time),
            took(run.started_at, run.ended_at),
            group(run.documents),
        ]);
    }
    aligned(&rows)
}

fn shown(detail: &RunDetail) -> String {
    let run = &detail.run;
    let mut text = format!(
        "run {} of job {}: {}, {}",
        run.id,
        run.job,
        run.state.name(),
        because(&run.cause)
    );
    if let Some(error) = &run.error {
        let _ = write!(text, "\n{error}");
    }
    let mut rows = vec![
        [
            "step",
            "work",
            "state",
            "tries",
            "began",
            "took",
            "documents",
        ]
        .map(str::to_owned),
    ];
    for step in &detail.steps {
        rows.push([
            step.name.clone(),
            step.work.clone(),
            step.state.name().to_owned(),
            step.attempts.to_string(),
            step.started_at.map_or_else(String::new, time),
            took(step.started_at, step.ended_at),
            group(step.documents),
        ]);
    }
    let _ = write!(text, "\n\n{}", aligned(&rows));
    for step in detail.steps.iter().filter(|step| !step.log.is_empty()) {
        let _ = write!(text, "\n\n{}:\n{}", step.name, step.log.trim_end());
    }
    text
}

fn because(cause: &Cause) -> String {
    match cause {
        Cause::Schedule { due_at, missed: 0 } => format!("scheduled for {}", time(*due_at)),
        Cause::Schedule { due_at, missed } => {
            format!("scheduled for {}, and {missed} times before", time(*due_at))
        }
        Cause::After { job, .. } => format!("after {job}"),
        Cause::Objects { count: 1, first } => first.clone(),
        Cause::Objects { count, first } => format!("{first} and {} more", count - 1),
        Cause::Asked { by } => format!("asked for by {by}"),
    }
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%F %TZ").to_string()
}

fn took(began: Option<DateTime<Utc>>, ended: Option<DateTime<Utc>>) -> String {
    let (Some(began), Some(ended)) = (began, ended) else {
        return String::new();
    };
    format!("{:.1} s", (ended - began).as_seconds_f64())
}
