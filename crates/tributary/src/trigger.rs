//! `tributary trigger`: triggers, what they have given up on, and runs of functions.
//!
//! It works on the state, whether a `tributary run` runs with it or not: one that does sees what was asked.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use serde_json::json;
use tributary_model::{Error, ErrorKind, Result};
use tributary_orchestrator::config::Plan;
use tributary_orchestrator::status::{
    DeadLetterDetail, DeadLetterStatus, FunctionRunDetail, FunctionRunFilter, FunctionRunStatus,
    LetterFilter, Letters, TriggerKind, TriggerState, TriggerStatus,
};
use tributary_orchestrator::{Store, Triggers};

use crate::DONE;
use crate::cli::{JobArguments, LetterArguments, LetterCommand, Output, TriggerCommand};
use crate::console::{self, aligned, group, say};
use crate::functions::known;

/// What is shown of a long text in a table.
const LONGEST_CELL: usize = 80;

pub(crate) async fn run(command: TriggerCommand) -> Result<u8> {
    match command {
        TriggerCommand::List { arguments } => {
            let list = triggers(&arguments)?.list().await?;
            match arguments.output {
                Output::Json => console::emit(&json!({ "event": "triggers", "triggers": list })),
                Output::Text => say(&listed(&list)),
            }
        }
        TriggerCommand::Show { name, arguments } => {
            let trigger = triggers(&arguments)?.show(&name).await?;
            tell(&trigger, arguments.output);
        }
        TriggerCommand::Pause { name, arguments } => {
            let trigger = triggers(&arguments)?.pause(&name).await?;
            tell(&trigger, arguments.output);
        }
        TriggerCommand::Resume { name, arguments } => {
            let trigger = triggers(&arguments)?.resume(&name).await?;
            tell(&trigger, arguments.output);
        }
        TriggerCommand::Replay {
            name,
            from,
            arguments,
        } => {
            let trigger = triggers(&arguments)?.replay(&name, from).await?;
            tell(&trigger, arguments.output);
        }
        TriggerCommand::Dlq(command) => letters(command).await?,
        TriggerCommand::Runs {
            app,
            function,
            trigger,
            failed,
            limit,
            run,
            arguments,
        } => {
            let triggers = triggers(&arguments)?;
            if let Some(id) = run {
                let detail = triggers.function_run(&id).await?;
                match arguments.output {
                    Output::Json => console::emit(&json!({ "event": "run", "run": detail })),
                    Output::Text => say(&shown_run(&detail)),
                }
                return Ok(DONE);
            }
            let filter = FunctionRunFilter {
                app,
                function,
                trigger,
                failed,
                before: None,
                limit,
            };
            let runs = triggers.function_runs(filter).await?;
            match arguments.output {
                Output::Json => console::emit(&json!({ "event": "runs", "runs": runs })),
                Output::Text => say(&listed_runs(&runs)),
            }
        }
    }
    Ok(DONE)
}

async fn letters(command: LetterCommand) -> Result<()> {
    match command {
        LetterCommand::List {
            name,
            limit,
            arguments,
        } => {
            let filter = LetterFilter {
                trigger: name,
                before: None,
                limit,
            };
            let letters = triggers(&arguments)?.dead_letters(filter).await?;
            match arguments.output {
                Output::Json => {
                    console::emit(&json!({ "event": "deadLetters", "deadLetters": letters }));
                }
                Output::Text => say(&listed_letters(&letters)),
            }
        }
        LetterCommand::Show { id, arguments } => {
            let detail = triggers(&arguments)?.dead_letter(&id).await?;
            match arguments.output {
                Output::Json => {
                    console::emit(&json!({ "event": "deadLetter", "deadLetter": detail }));
                }
                Output::Text => say(&shown_letter(&detail)),
            }
        }
        LetterCommand::Replay { which } => {
            let (letters, arguments) = meant(which);
            let count = triggers(&arguments)?.replay_dead_letters(letters).await?;
            match arguments.output {
                Output::Json => console::emit(&json!({ "event": "replaying", "count": count })),
                Output::Text => say(&format!("dead letters that are tried again: {count}")),
            }
        }
        LetterCommand::Discard { which } => {
            let (letters, arguments) = meant(which);
            let count = triggers(&arguments)?.discard_dead_letters(letters).await?;
            match arguments.output {
                Output::Json => console::emit(&json!({ "event": "discarded", "count": count })),
                Output::Text => say(&format!("dead letters that are gone: {count}")),
            }
        }
    }
    Ok(())
}

fn meant(which: LetterArguments) -> (Letters, JobArguments) {
    let letters = match which.all {
        Some(trigger) => Letters::AllOf(trigger),
        None => Letters::These(which.ids),
    };
    (letters, which.arguments)
}

/// The triggers of the file, and those that are remembered.
fn triggers(arguments: &JobArguments) -> Result<Triggers> {
    let plan = Plan::read(&arguments.config)?;
    let store = Store::open(&plan.state)?;
    Ok(Triggers::new(known(&plan)?, store))
}

/// A moment, as RFC 3339 has it.
pub(crate) fn moment(text: &str) -> Result<DateTime<Utc>> {
    let moment = DateTime::parse_from_rfc3339(text).map_err(|error| {
        Error::new(ErrorKind::Usage, "this is no moment")
            .on("moment", text)
            .because(error)
            .remedy("write it as 2026-01-31T12:00:00Z")
    })?;
    Ok(moment.with_timezone(&Utc))
}

fn tell(trigger: &TriggerStatus, output: Output) {
    match output {
        Output::Json => console::emit(&json!({ "event": "trigger", "trigger": trigger })),
        Output::Text => say(&shown(trigger)),
    }
}

fn listed(triggers: &[TriggerStatus]) -> String {
    if triggers.is_empty() {
        return "there is no trigger in the configuration, and none is remembered".to_owned();
    }
    let heads = [
        "trigger",
        "state",
        "watches",
        "succeeded",
        "failed",
        "dead letters",
        "last run",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    for trigger in triggers {
        rows.push([
            trigger.name.clone(),
            trigger.state.name().to_owned(),
            watched(trigger),
            group(trigger.succeeded),
            group(trigger.failed),
            group(trigger.dead_letters),
            trigger.last_run_at.map_or_else(|| "never".to_owned(), time),
        ]);
    }
    aligned(&rows)
}

/// What a trigger watches, and of which source, or when it runs.
fn watched(trigger: &TriggerStatus) -> String {
    let Some(watches) = &trigger.watches else {
        return String::new();
    };
    match (trigger.kind, &trigger.source, trigger.next_at) {
        (TriggerKind::Scheduled, _, Some(next)) => format!("{watches} (UTC), next {}", time(next)),
        (TriggerKind::Scheduled, _, None) => format!("{watches} (UTC)"),
        (TriggerKind::Database, Some(source), _) => format!("{watches} of {source}"),
        (TriggerKind::Database, None, _) => watches.clone(),
    }
}

fn shown(trigger: &TriggerStatus) -> String {
    let why = trigger.reason.as_ref();
    let why = why.map_or_else(String::new, |reason| format!(": {reason}"));
    let mut text = format!("trigger {}: {}{why}", trigger.name, trigger.state.name());
    if trigger.state == TriggerState::Gone {
        text.push_str(" from the configuration");
    }
    let mut line = |what: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let _ = write!(text, "\n{what}: {value}");
        }
    };
    line("kind", Some(trigger.kind.name().to_owned()));
    line("watches", Some(watched(trigger)));
    line("function", trigger.function.clone());
    line("dealt with up to", trigger.position_at.map(time));
    line("to begin again from", trigger.replays_from.map(time));
    line(
        "runs",
        Some(format!(
            "{} succeeded, {} failed",
            group(trigger.succeeded),
            group(trigger.failed)
        )),
    );
    line("dead letters", Some(group(trigger.dead_letters)));
    line("last run", trigger.last_run_at.map(time));
    line("last error", trigger.last_error.clone());
    text
}

fn listed_letters(letters: &[DeadLetterStatus]) -> String {
    if letters.is_empty() {
        return "there is no dead letter".to_owned();
    }
    let mut rows = vec![["dead letter", "trigger", "at", "tries", "error"].map(str::to_owned)];
    for letter in letters {
        let error = cell(&letter.error);
        rows.push([
            letter.id.clone(),
            letter.trigger.clone(),
            time(letter.at),
            letter.attempts.to_string(),
            match letter.replaying {
                true => format!("is tried again; {error}"),
                false => error,
            },
        ]);
    }
    aligned(&rows)
}

fn shown_letter(detail: &DeadLetterDetail) -> String {
    let letter = &detail.letter;
    let mut text = format!(
        "dead letter {} of trigger {}: given up on at {} after {} tries",
        letter.id,
        letter.trigger,
        time(letter.at),
        letter.attempts
    );
    if letter.replaying {
        text.push_str(", and is tried again");
    }
    let _ = write!(text, "\n{}", letter.error);
    for argument in &detail.arguments {
        let argument = serde_json::to_string_pretty(argument).unwrap_or_default();
        let _ = write!(text, "\n\n{argument}");
    }
    text
}

fn listed_runs(runs: &[FunctionRunStatus]) -> String {
    if runs.is_empty() {
        return "no run is remembered".to_owned();
    }
    let heads = [
        "run", "function", "because", "try", "began", "took", "error",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    for run in runs {
        let error = run.error.as_ref();
        rows.push([
            run.id.clone(),
            named(run),
            run.cause.clone(),
            run.attempt.to_string(),
            time(run.started_at),
            took(run.seconds),
            error.map_or_else(String::new, |error| cell(&error.message)),
        ]);
    }
    aligned(&rows)
}

fn shown_run(detail: &FunctionRunDetail) -> String {
    let run = &detail.run;
    let mut text = format!(
        "run {} of {}: {}, try {}, began {}, took {}",
        run.id,
        named(run),
        run.cause,
        run.attempt,
        time(run.started_at),
        took(run.seconds)
    );
    if let Some(subject) = &run.subject {
        let _ = write!(text, "\nfor {subject}");
    }
    if let Some(error) = &run.error {
        let _ = write!(text, "\n{}", error.message);
        match (&error.file, error.line) {
            (Some(file), Some(line)) => {
                let _ = write!(text, " ({file}:{line})");
            }
            (Some(file), None) => {
                let _ = write!(text, " ({file})");
            }
            (None, _) => {}
        }
        if let Some(stack) = &error.stack {
            let _ = write!(text, "\n{}", stack.trim_end());
        }
    }
    if !detail.console.is_empty() {
        text.push('\n');
    }
    for line in &detail.console {
        let _ = write!(text, "\n{}: {}", line.level, line.text);
    }
    text
}

/// A function, and of which application.
fn named(run: &FunctionRunStatus) -> String {
    match run.app.is_empty() {
        true => run.function.clone(),
        false => format!("{}/{}", run.app, run.function),
    }
}

/// The beginning of a text, in one line.
fn cell(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut cell: String = line.chars().take(LONGEST_CELL).collect();
    if cell.len() < text.len() {
        cell.push('…');
    }
    cell
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%F %TZ").to_string()
}

fn took(seconds: f64) -> String {
    match seconds < 1.0 {
        true => format!("{:.1} ms", seconds * 1000.0),
        false => format!("{seconds:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(line: &str) -> Result<TriggerCommand, String> {
        let words = ["tributary", "trigger"].into_iter().chain(line.split(' '));
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        match cli.command {
            Command::Trigger(command) => Ok(command),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn what_is_asked_of_triggers_is_read() {
        assert!(matches!(
            parse("list --config x.yaml --output json"),
            Ok(TriggerCommand::List { arguments })
                if arguments.output == Output::Json && arguments.config.ends_with("x.yaml")
        ));
        assert!(matches!(
            parse("pause billing/charge"),
            Ok(TriggerCommand::Pause { name, .. }) if name == "billing/charge"
        ));
        let Ok(TriggerCommand::Replay { from, .. }) =
            parse("replay t --from 2026-01-31T13:00:00+01:00")
        else {
            panic!("it is no replay")
        };
        assert_eq!(from.to_rfc3339(), "2026-01-31T12:00:00+00:00");
        let error = parse("replay t --from yesterday").unwrap_err();
        assert!(error.contains("this is no moment"), "{error}");
        assert!(parse("replay t").unwrap_err().contains("--from"));
        assert!(matches!(
            parse("runs --function charge --failed"),
            Ok(TriggerCommand::Runs { function: Some(function), failed: true, limit: 20, .. })
                if function == "charge"
        ));
    }

    #[test]
    fn dead_letters_are_meant_by_their_ids_or_their_trigger() {
        let which = |line: &str| match parse(line)? {
            TriggerCommand::Dlq(
                LetterCommand::Replay { which } | LetterCommand::Discard { which },
            ) => Ok(meant(which).0),
            other => Err(format!("{other:?}")),
        };
        let these = Letters::These(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(which("dlq replay a b"), Ok(these.clone()));
        assert_eq!(which("dlq discard a b"), Ok(these));
        let all = Letters::AllOf("app/t".to_owned());
        assert_eq!(which("dlq discard --all app/t"), Ok(all));
        assert!(which("dlq discard").is_err());
        assert!(which("dlq replay a --all t").is_err());
    }

    #[test]
    fn a_long_text_is_one_line_of_a_table() {
        assert_eq!(cell("short"), "short");
        assert_eq!(cell("first\nsecond"), "first…");
        assert_eq!(cell(&"x".repeat(100)).chars().count(), LONGEST_CELL + 1);
    }
}
