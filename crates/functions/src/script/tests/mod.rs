mod bson;
mod builtins;
mod console;
mod cursors;
mod limits;
mod modules;
mod options;
mod pool;
mod runs;
mod services;
mod sessions;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ::bson::{Bson, Document, doc};
use async_trait::async_trait;
use bytes::Bytes;

use super::{
    AppMetadata, Call, Failure, FailureKind, Isolate, Limits, Outcome, Pool, Program, Source,
};
use crate::services::{ServiceCall, ServiceError, ServiceScope, Services};

/// What a fake service does with a call.
enum Reply {
    Value(Bson),
    Error(ServiceError),
    Late(Duration, Bson),
    Never,
}

type Answering = dyn Fn(&ServiceCall, &Document) -> Reply + Send + Sync;

/// Services that keep what they are asked, and answer as a test says.
struct Fake {
    calls: Mutex<Vec<(ServiceCall, Document)>>,
    open: AtomicUsize,
    answering: Box<Answering>,
}

impl Fake {
    fn new(
        answering: impl Fn(&ServiceCall, &Document) -> Reply + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            calls: Mutex::new(Vec::new()),
            open: AtomicUsize::new(0),
            answering: Box::new(answering),
        })
    }

    /// Services that answer every call by null.
    fn idle() -> Arc<Self> {
        Self::new(|_, _| Reply::Value(Bson::Null))
    }

    /// The operations asked for, with their arguments.
    fn asked(&self) -> Vec<(String, Document)> {
        let calls = self.calls.lock().unwrap();
        calls
            .iter()
            .map(|(call, arguments)| (call.operation.clone(), arguments.clone()))
            .collect()
    }

    fn operations(&self) -> Vec<String> {
        self.asked().into_iter().map(|(name, _)| name).collect()
    }

    /// How many scopes are open.
    fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

/// Services to be given to an isolate.
struct Reached(Arc<Fake>);

struct Scope(Arc<Fake>);

impl Services for Reached {
    fn scope(&self, _run: u64) -> Arc<dyn ServiceScope> {
        self.0.open.fetch_add(1, Ordering::SeqCst);
        Arc::new(Scope(Arc::clone(&self.0)))
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl ServiceScope for Scope {
    async fn call(&self, call: ServiceCall) -> Result<Bytes, ServiceError> {
        let arguments = Document::from_reader(&call.arguments[..]).unwrap();
        let reply = (self.0.answering)(&call, &arguments);
        self.0.calls.lock().unwrap().push((call, arguments));
        match reply {
            Reply::Value(value) => Ok(bytes(doc! { "v": value })),
            Reply::Error(error) => Err(error),
            Reply::Late(after, value) => {
                tokio::time::sleep(after).await;
                Ok(bytes(doc! { "v": value }))
            }
            Reply::Never => std::future::pending().await,
        }
    }
}

fn bytes(document: Document) -> Bytes {
    document.to_vec().unwrap().into()
}

fn source(file: &str, text: &str) -> Source {
    Source {
        file: format!("functions/{file}"),
        text: text.into(),
    }
}

/// A program of functions, by name and text.
fn program(functions: &[(&str, &str)]) -> Program {
    Program {
        functions: functions
            .iter()
            .map(|(name, text)| ((*name).to_owned(), source(&format!("{name}.js"), text)))
            .collect(),
        services: BTreeMap::from([
            ("mongodb-atlas".to_owned(), "mongodb".to_owned()),
            ("cloud".to_owned(), "aws".to_owned()),
            ("web".to_owned(), "http".to_owned()),
            ("phone".to_owned(), "twilio".to_owned()),
        ]),
        app: AppMetadata {
            id: "app-id".to_owned(),
            name: "app-name".to_owned(),
            ..AppMetadata::default()
        },
        environment: "production".to_owned(),
        ..Program::default()
    }
}

fn start(program: Program, limits: Limits, fake: &Arc<Fake>) -> Isolate {
    Isolate::start(
        Arc::new(program),
        limits,
        Arc::new(Reached(Arc::clone(fake))),
        tokio::runtime::Handle::current(),
    )
    .unwrap()
}

/// An isolate for one function, `f`, within short limits.
fn isolate(text: &str) -> Isolate {
    start(program(&[("f", text)]), short(), &Fake::idle())
}

fn short() -> Limits {
    Limits {
        memory: 32 << 20,
        stack: 512 << 10,
        timeout: Duration::from_secs(20),
        console: 4 << 10,
    }
}

/// Limits with so little time that a test can wait for its end, and enough for a short run on a busy machine.
fn hasty() -> Limits {
    Limits {
        timeout: Duration::from_millis(1500),
        ..short()
    }
}

fn call(function: &str, arguments: Vec<Bson>) -> Call {
    Call {
        function: function.to_owned(),
        arguments: bytes(doc! { "v": arguments }),
        request: None,
        run: 0,
    }
}

/// What an outcome has returned, none for `undefined`.
fn returned(outcome: &Outcome) -> Option<Bson> {
    let document = outcome.result.as_ref().unwrap();
    Document::from_reader(&document[..]).unwrap().remove("v")
}

fn failed(outcome: &Outcome) -> &Failure {
    outcome.result.as_ref().unwrap_err()
}

/// What a function returns, by its text.
async fn result_of(text: &str) -> Bson {
    let outcome = isolate(text).run(call("f", vec![])).await;
    returned(&outcome).unwrap()
}

/// What an expression is.
async fn value_of(expression: &str) -> Bson {
    result_of(&format!("exports = async () => ({expression});")).await
}

/// How a function fails, by its text.
async fn failure_of(text: &str, limits: Limits) -> Failure {
    let isolate = start(program(&[("f", text)]), limits, &Fake::idle());
    failed(&isolate.run(call("f", vec![])).await).clone()
}

/// Waits until a condition holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
