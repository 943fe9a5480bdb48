//! `tributary function`: functions by hand, and cases that they are tried with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bson::{Bson, Document};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tributary_convert::extjson::{self, Mode};
use tributary_functions::script::{Call, Failure, Isolate, Outcome};
use tributary_model::{Error, ErrorKind, Result};
use tributary_orchestrator::config::{self, Plan};

use super::build::{Ready, ready};
use super::document;
use super::reach::Deployments;
use crate::cli::{FunctionArguments, FunctionCommand, Output};
use crate::console::{self, say};
use crate::{DONE, FAILED};

/// A larger file of a case is a mistake.
const LARGEST_CASE: u64 = 16 << 20;

pub(crate) async fn run(command: FunctionCommand, stop: CancellationToken) -> Result<u8> {
    match command {
        FunctionCommand::Run {
            name,
            arg,
            arguments,
        } => {
            let tried = async {
                let ready = ready_app(&arguments).await?;
                run_one(&ready, &name, &arg, arguments.file.output).await
            };
            tokio::select! {
                code = tried => code,
                () = stop.cancelled() => Ok(DONE),
            }
        }
        FunctionCommand::Test {
            directory,
            arguments,
        } => {
            let tried = async {
                let ready = ready_app(&arguments).await?;
                test(&ready, &directory, arguments.file.output).await
            };
            tokio::select! {
                code = tried => code,
                () = stop.cancelled() => Ok(DONE),
            }
        }
    }
}

/// The application that is named, or the only one.
async fn ready_app(arguments: &FunctionArguments) -> Result<Ready> {
    let plan = Plan::read(&arguments.file.config)?;
    let app = app_of(&plan, arguments.app.as_deref())?;
    ready(app, &mut Deployments::default())
        .await
        .map_err(|error| error.on("app", &app.name))
}

fn app_of<'a>(plan: &'a Plan, name: Option<&str>) -> Result<&'a config::App> {
    let known: Vec<&str> = plan.apps.keys().map(String::as_str).collect();
    let wrong = |what: &str| {
        Error::new(ErrorKind::Usage, what).remedy(match known.is_empty() {
            true => "name one under `apps` in the configuration".to_owned(),
            false => format!("name one with --app: {}", known.join(", ")),
        })
    };
    match name {
        Some(name) => plan
            .apps
            .get(name)
            .ok_or_else(|| wrong("there is no such application").on("app", name)),
        None => match plan.apps.values().collect::<Vec<_>>()[..] {
            [app] => Ok(app),
            [] => Err(wrong("there is no application in the configuration")),
            _ => Err(wrong("there are several applications")),
        },
    }
}

fn isolate(ready: &Ready) -> Result<Isolate> {
    Isolate::start(
        Arc::clone(&ready.program),
        ready.limits,
        Arc::clone(&ready.services),
        tokio::runtime::Handle::current(),
    )
}

async fn run_one(ready: &Ready, name: &str, arg: &[String], output: Output) -> Result<u8> {
    if !ready.program.functions.contains_key(name) {
        let known: Vec<&str> = ready.program.functions.keys().map(String::as_str).collect();
        return Err(Error::new(ErrorKind::Usage, "there is no such function")
            .on("function", name)
            .remedy(format!("the application has {}", known.join(", "))));
    }
    let call = Call {
        function: name.to_owned(),
        arguments: arguments(arg)?,
        request: None,
        run: 0,
    };
    let outcome = isolate(ready)?.run(call).await;
    let result = match &outcome.result {
        Ok(result) => Some(text_of(result)?),
        Err(_) => None,
    };
    match output {
        Output::Json => console::emit(&json!({
            "event": "finished",
            "function": name,
            "result": result.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok()),
            "error": outcome.result.as_ref().err().map(error_json),
            "console": outcome.console.iter().map(|line| json!({ "level": line.level, "text": line.text })).collect::<Vec<_>>(),
            "seconds": outcome.duration.as_secs_f64(),
        })),
        Output::Text => {
            for line in &outcome.console {
                console::note(&format!("{}: {}", line.level, line.text));
            }
            match &outcome.result {
                Ok(_) => say(result.as_deref().unwrap_or("undefined")),
                Err(failure) => console::note(&told(failure)),
            }
        }
    }
    Ok(match outcome.result {
        Ok(_) => DONE,
        Err(_) => FAILED,
    })
}

/// Arguments, each Extended JSON, as a function is called with.
fn arguments(arg: &[String]) -> Result<Bytes> {
    for (place, text) in (1..).zip(arg) {
        extjson::parse_value(text).map_err(|error| {
            Error::new(ErrorKind::Usage, "an argument is not Extended JSON")
                .on("argument", place)
                .because(error)
                .remedy("write it as JSON, such as '{\"total\": 5}' or '\"text\"'")
        })?;
    }
    document(&format!("{{\"v\":[{}]}}", arg.join(",")))
}

/// What a function returned, as relaxed Extended JSON; `undefined` has no other.
fn text_of(result: &[u8]) -> Result<String> {
    let failed = || {
        Error::new(
            ErrorKind::Internal,
            "what the function returned cannot be written",
        )
    };
    let mut text = Vec::new();
    extjson::write_document(&mut text, result, Mode::Relaxed)
        .map_err(|error| failed().because(error))?;
    let text = String::from_utf8(text).map_err(|error| failed().because(error))?;
    let value = text
        .strip_prefix("{\"v\":")
        .and_then(|value| value.strip_suffix('}'));
    Ok(value.unwrap_or("undefined").to_owned())
}

fn error_json(failure: &Failure) -> Value {
    json!({
        "name": failure.name,
        "message": failure.message,
        "file": failure.place.as_ref().map(|(file, _)| file),
        "line": failure.place.as_ref().map(|(_, line)| line),
        "stack": failure.stack,
    })
}

/// A failure for people: what, where, and the trace of calls.
fn told(failure: &Failure) -> String {
    let mut text = failure.to_string();
    if let Some((file, line)) = &failure.place {
        text.push_str(&format!(" ({file}:{line})"));
    }
    if let Some(stack) = &failure.stack {
        text.push('\n');
        text.push_str(stack.trim_end());
    }
    text
}

/// A case, as it is written.
struct Case {
    function: String,
    /// `{ v: [arguments] }`, as raw BSON.
    arguments: Bytes,
    /// What it is to return, as `{ v: value }`.
    returns: Option<Bytes>,
    /// Text that is to be in what it throws.
    throws: Option<String>,
    /// Texts that its console is to have, each in a line.
    console: Vec<String>,
}

impl Case {
    /// Reads Extended JSON: `{ function, args, returns, throws, console }`, all but the first being optional.
    fn parse(text: &str) -> Result<Self> {
        let wrong = |what: String| Error::new(ErrorKind::Usage, what);
        let case = document(text)?;
        let mut case: Document = bson::deserialize_from_slice(&case)
            .map_err(|error| wrong("the case is no document".to_owned()).because(error))?;
        let function = match case.remove("function") {
            Some(Bson::String(function)) => function,
            _ => {
                return Err(wrong(
                    "the case lacks `function`, the name of one".to_owned(),
                ));
            }
        };
        let arguments = match case.remove("args") {
            None => value(Bson::Array(Vec::new()))?,
            Some(args @ Bson::Array(_)) => value(args)?,
            Some(_) => return Err(wrong("`args` of a case is an array".to_owned())),
        };
        let throws = match case.remove("throws") {
            None => None,
            Some(Bson::String(text)) => Some(text),
            Some(_) => return Err(wrong("`throws` of a case is text".to_owned())),
        };
        let mut console = Vec::new();
        match case.remove("console") {
            None => {}
            Some(Bson::Array(lines)) => {
                for line in lines {
                    let Bson::String(line) = line else {
                        return Err(wrong("`console` of a case is an array of texts".to_owned()));
                    };
                    console.push(line);
                }
            }
            Some(_) => return Err(wrong("`console` of a case is an array of texts".to_owned())),
        }
        let returns = case.remove("returns").map(value).transpose()?;
        if let Some(key) = case.keys().next() {
            return Err(wrong(format!("a case has no `{key}`"))
                .remedy("it has function, args, returns, throws and console"));
        }
        if returns.is_some() && throws.is_some() {
            return Err(wrong("a case that is to throw returns nothing".to_owned()));
        }
        Ok(Self {
            function,
            arguments,
            returns,
            throws,
            console,
        })
    }
}

/// A value as the field `v` of a document of raw BSON.
fn value(value: Bson) -> Result<Bytes> {
    let document = bson::doc! { "v": value };
    bson::serialize_to_vec(&document)
        .map(Bytes::from)
        .map_err(|error| {
            Error::new(ErrorKind::Usage, "a value of the case cannot be BSON").because(error)
        })
}

async fn test(ready: &Ready, directory: &Path, output: Output) -> Result<u8> {
    let files = cases(directory)?;
    let mut failed = 0;
    for file in &files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        // What one case leaves behind is not there for the next.
        let outcome = try_case(&isolate(ready)?, file).await;
        failed += usize::from(outcome.is_err());
        match output {
            Output::Json => console::emit(&json!({
                "event": "case", "name": name, "passed": outcome.is_ok(),
                "error": outcome.as_ref().err().map(ToString::to_string),
            })),
            Output::Text => say(&match &outcome {
                Ok(()) => format!("ok      {name}"),
                Err(error) => format!("FAILED  {name}: {error}"),
            }),
        }
    }
    let passed = files.len() - failed;
    match output {
        Output::Json => {
            console::emit(&json!({ "event": "finished", "passed": passed, "failed": failed }));
        }
        Output::Text => say(&format!("{passed} passed, {failed} failed")),
    }
    Ok(if failed > 0 { FAILED } else { DONE })
}

/// The cases of a directory, by name.
fn cases(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Usage, "cannot read the directory of cases")
            .on("directory", directory.display())
            .because(error)
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Error::new(ErrorKind::Usage, "there is no case in the directory")
            .on("directory", directory.display())
            .remedy("a case is a file NAME.json such as {\"function\": \"f\", \"args\": [1], \"returns\": 2}"));
    }
    Ok(files)
}

async fn try_case(isolate: &Isolate, file: &Path) -> Result<()> {
    let failed = |what: &str| Error::new(ErrorKind::Usage, what).on("file", file.display());
    let size = std::fs::metadata(file)
        .map_err(|error| failed("cannot read the case").because(error))?
        .len();
    if size > LARGEST_CASE {
        return Err(failed("the case is too large").on("bytes", size));
    }
    let text = std::fs::read_to_string(file)
        .map_err(|error| failed("cannot read the case").because(error))?;
    let case = Case::parse(&text).map_err(|error| error.on("file", file.display()))?;
    let call = Call {
        function: case.function.clone(),
        arguments: case.arguments.clone(),
        request: None,
        run: 0,
    };
    compare(&case, &isolate.run(call).await)
}

fn compare(case: &Case, outcome: &Outcome) -> Result<()> {
    let differs = |what: String| Err(Error::new(ErrorKind::InvalidData, what));
    match (&outcome.result, &case.throws) {
        (Err(failure), None) => return differs(told(failure)),
        (Ok(_), Some(text)) => return differs(format!("it did not throw `{text}`")),
        (Err(failure), Some(text)) => {
            let said = told(failure);
            if !said.contains(text.as_str()) {
                return differs(format!("it threw `{said}` and not `{text}`"));
            }
        }
        (Ok(result), None) => {
            if let Some(expected) = &case.returns {
                let (is, wanted) = (text_of(result)?, text_of(expected)?);
                if is != wanted {
                    return differs(format!("it returned {is} and not {wanted}"));
                }
            }
        }
    }
    for text in &case.console {
        if !outcome.console.iter().any(|line| line.text.contains(text)) {
            return differs(format!("its console has no line with `{text}`"));
        }
    }
    Ok(())
}
