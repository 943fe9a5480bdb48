//! `mongodb`: that calls arrive whole, and what belongs to a run ends with it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bson::{Bson, Document, doc};
use bytes::Bytes;
use tributary_flow::{DocumentCall, DocumentError, DocumentScope, DocumentStore};
use tributary_functions::services::ServiceSettings;

use super::{call, run};

/// Keeps what it is asked, and answers what it is told to.
#[derive(Default)]
struct Store {
    calls: Arc<Mutex<Vec<DocumentCall>>>,
    fails: Arc<Mutex<Option<DocumentError>>>,
    open: Arc<AtomicUsize>,
    opened: AtomicUsize,
}

struct Scope {
    calls: Arc<Mutex<Vec<DocumentCall>>>,
    fails: Arc<Mutex<Option<DocumentError>>>,
    open: Arc<AtomicUsize>,
}

impl DocumentStore for Store {
    fn place(&self) -> &str {
        "the store"
    }

    fn scope(&self) -> Arc<dyn DocumentScope> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        self.open.fetch_add(1, Ordering::SeqCst);
        Arc::new(Scope {
            calls: Arc::clone(&self.calls),
            fails: Arc::clone(&self.fails),
            open: Arc::clone(&self.open),
        })
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl DocumentScope for Scope {
    async fn call(&self, call: DocumentCall) -> Result<Bytes, DocumentError> {
        self.calls.lock().unwrap().push(call);
        match self.fails.lock().unwrap().clone() {
            Some(error) => Err(error),
            None => Ok(doc! { "v": 7 }.to_vec().unwrap().into()),
        }
    }
}

fn given(call: &DocumentCall) -> Document {
    Document::from_reader(call.arguments.as_ref()).unwrap()
}

#[tokio::test]
async fn a_run_has_one_scope_and_leaves_none() {
    let store = Arc::new(Store::default());
    let run = run([("mongodb-atlas", ServiceSettings::MongoDb(store.clone()))]);
    assert_eq!(store.opened.load(Ordering::SeqCst), 0);
    let find = doc! { "db": "d", "coll": "c", "filter": { "db": 1, "coll": [2] }, "options": {} };
    let found = call(&run, "mongodb-atlas/find", find).await.unwrap();
    assert_eq!(found, Bson::Int32(7));
    let command = doc! { "db": "d", "command": { "ping": 1 } };
    call(&run, "mongodb-atlas/runCommand", command)
        .await
        .unwrap();
    call(
        &run,
        "mongodb-atlas/commitTransaction",
        doc! { "session": 1 },
    )
    .await
    .unwrap();
    assert_eq!(store.opened.load(Ordering::SeqCst), 1);
    assert_eq!(store.open.load(Ordering::SeqCst), 1);
    drop(run);
    assert_eq!(store.open.load(Ordering::SeqCst), 0);
    let calls = store.calls.lock().unwrap();
    let places: Vec<_> = calls
        .iter()
        .map(|call| {
            (
                call.operation.as_str(),
                call.database.as_str(),
                call.collection.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        places,
        [
            ("find", "d", Some("c")),
            ("runCommand", "d", None),
            ("commitTransaction", "", None),
        ]
    );
    assert_eq!(
        given(&calls[0]),
        doc! { "filter": { "db": 1, "coll": [2] }, "options": {} }
    );
    assert_eq!(given(&calls[1]), doc! { "command": { "ping": 1 } });
    assert_eq!(given(&calls[2]), doc! { "session": 1 });
}

#[tokio::test]
async fn errors_are_those_of_the_driver() {
    let store = Arc::new(Store::default());
    let run = run([("m", ServiceSettings::MongoDb(store.clone()))]);
    let insert = || doc! { "db": "d", "coll": "c", "document": {} };
    *store.fails.lock().unwrap() = Some(DocumentError {
        message: "E11000 duplicate key".to_owned(),
        code: Some(11000),
        is_transient: false,
        labels: vec!["a label".to_owned()],
    });
    let error = call(&run, "m/insertOne", insert()).await.unwrap_err();
    assert_eq!(
        (error.name.as_str(), error.code),
        ("MongoServerError", Some(11000))
    );
    assert_eq!(error.message, "E11000 duplicate key");
    assert_eq!(error.labels, ["a label"]);
    assert!(!error.is_transient);
    *store.fails.lock().unwrap() = Some(DocumentError {
        message: "lost".to_owned(),
        code: None,
        is_transient: true,
        labels: Vec::new(),
    });
    let error = call(&run, "m/insertOne", insert()).await.unwrap_err();
    assert_eq!(
        (error.name.as_str(), error.is_transient),
        ("MongoError", true)
    );
    let count = store.calls.lock().unwrap().len();
    let error = call(&run, "m/insertOne", doc! { "coll": "c" })
        .await
        .unwrap_err();
    assert!(error.message.contains("names no database"), "{error:?}");
    let error = call(&run, "m/find", doc! { "db": "d", "coll": 5 })
        .await
        .unwrap_err();
    assert!(error.message.contains("is no string: `coll`"), "{error:?}");
    assert_eq!(store.calls.lock().unwrap().len(), count);
}
