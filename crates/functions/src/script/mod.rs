//! The JavaScript of functions: where it runs, and what it finds there.
//!
//! An [`Isolate`] is a thread with an engine of its own. The thread owns all that its JavaScript is made of, so nothing
//! is locked; it is told by messages what to run and what services answered. Of the globals that functions find:
//!
//! - `EJSON.stringify` writes canonical Extended JSON, and relaxed with `{ relaxed: true }`; a number is of the type
//!   that MongoDB would be given, so `42` is a `$numberInt`, where Atlas documents a `$numberLong`; `EJSON.parse` gives plain numbers for integers that a number can hold, unless told `{ relaxed: false }`;
//! - `JSON.stringify` writes an `ObjectId` as its digits, a `Long` as a number, a `Decimal128` and a long beyond
//!   what numbers hold as text, binary data as Base64, and other types as Extended JSON;
//! - `encodeBodyAsJSON` of HTTP requests writes what `EJSON.stringify` does, as Atlas documents it.

mod bson;
mod failure;
mod globals;
mod heap;
mod host;
mod isolate;
mod modules;
mod natives;
mod pool;
mod prelude;
mod realm;
mod thread;
mod turns;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use isolate::Isolate;
pub(crate) use pool::Pool;

/// All that the functions of an application see of it.
#[derive(Clone, Default)]
pub struct Program {
    /// Their sources, by name. A name may hold slashes.
    pub functions: BTreeMap<String, Source>,
    /// Other files that they may `require`, by their path below `functions/`, `node_modules/…` included.
    pub modules: BTreeMap<String, Source>,
    /// `context.values`, each a document of raw BSON with the value as its field `v`.
    pub values: BTreeMap<String, Bytes>,
    /// `context.environment.tag`.
    pub environment: String,
    /// `context.environment.values`, as `values`.
    pub environment_values: BTreeMap<String, Bytes>,
    /// `context.services`: the kind of each, by name: `mongodb`, `aws`, `http`, `twilio`, `github` or `push`.
    pub services: BTreeMap<String, String>,
    /// `context.app`.
    pub app: AppMetadata,
}

/// What is known of an application in App Services. What is empty is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppMetadata {
    /// Its name.
    pub name: String,
    /// Its id; the one of clients where no other is known.
    pub id: String,
    /// The id by which clients name it, such as `myapp-abcde`.
    pub client_id: String,
    /// The id of its project.
    pub project_id: String,
    /// How it is deployed: `GLOBAL` or `LOCAL`.
    pub deployment_model: String,
    /// Where it is deployed, such as `aws-us-east-1`.
    pub provider_region: String,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may have come from secrets.
        f.debug_struct("Program")
            .field("functions", &self.functions)
            .field("modules", &self.modules)
            .field("values", &self.values.keys())
            .field("environment", &self.environment)
            .field("environment_values", &self.environment_values.keys())
            .field("services", &self.services)
            .field("app", &self.app)
            .finish()
    }
}

/// A file of JavaScript.
#[derive(Debug, Clone)]
pub struct Source {
    /// What traces of calls name it: its path below the application's directory.
    pub file: String,
    /// Its text.
    pub text: Arc<str>,
}

/// What a run may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory of one thread's JavaScript, in bytes.
    pub memory: usize,
    /// Its stack, in bytes.
    pub stack: usize,
    /// How long a run may take, waiting included.
    pub timeout: Duration,
    /// The most bytes that a run may write to its console; what comes behind is left out.
    pub console: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 256 << 20,
            stack: 1 << 20,
            timeout: Duration::from_secs(300),
            console: 64 << 10,
        }
    }
}

/// A call of a function.
#[derive(Debug, Clone)]
pub struct Call {
    /// The name of the function.
    pub function: String,
    /// A document of raw BSON whose field `v` is the array of arguments.
    pub arguments: Bytes,
    /// `context.request`, as a document of raw BSON; none where nobody asked over HTTP.
    pub request: Option<Bytes>,
    /// Which run it is, in this process: what it reaches is told.
    pub run: u64,
}

/// What came of a call.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// A document of raw BSON whose field `v` is what the function returned (missing for `undefined`),
    /// or why it did not.
    pub result: Result<Bytes, Failure>,
    /// What it wrote to its console, a line each.
    pub console: Vec<ConsoleLine>,
    /// How long it took.
    pub duration: Duration,
}

/// A line of the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleLine {
    /// `log`, `info`, `warn`, `error` or `debug`.
    pub level: &'static str,
    /// The text.
    pub text: String,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In which way.
    pub kind: FailureKind,
    /// The name of what was thrown, such as `TypeError`.
    pub name: String,
    /// What it says.
    pub message: String,
    /// The file and line where it was thrown, where that is known.
    pub place: Option<(String, u32)>,
    /// The trace of calls, where there is one.
    pub stack: Option<String>,
}

/// One line: `TypeError: x is not a function`.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.name.is_empty() {
            write!(f, "{}: ", self.name)?;
        }
        f.write_str(&self.message)
    }
}

/// In which way a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// It threw, or its promise was rejected.
    Thrown,
    /// It was not done in time.
    TimedOut,
    /// It took more memory than it may.
    OutOfMemory,
    /// There is no such function, or its file is no JavaScript.
    NotLoaded,
    /// It did not return, and nothing is left that it could wait for.
    NeverSettled,
    /// What it returned cannot be a BSON value, as where it contains itself.
    BadResult,
    /// Its thread ended, through no fault of its own.
    Lost,
}

impl Outcome {
    /// That of a call which could not be begun.
    pub(crate) fn lost(message: &str) -> Self {
        Self {
            result: Err(Failure {
                kind: FailureKind::Lost,
                name: String::new(),
                message: message.to_owned(),
                place: None,
                stack: None,
            }),
            console: Vec::new(),
            duration: Duration::ZERO,
        }
    }
}
