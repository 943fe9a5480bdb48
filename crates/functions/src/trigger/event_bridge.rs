//! Events for Amazon EventBridge, in the place of a function.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bson::RawBsonRef;
use bson::raw::RawDocument;
use bytes::Bytes;

use super::{Processor, Task, Written};
use crate::script::{Failure, FailureKind, Outcome};
use crate::services::{AwsClient, AwsError, BusEvent};

/// Puts events on a bus of EventBridge.
pub struct EventBridgeProcessor {
    client: AwsClient,
    source: String,
    is_canonical: bool,
}

impl EventBridgeProcessor {
    /// Puts them on the default bus as events of `source`; as canonical Extended JSON, or as relaxed.
    #[must_use]
    pub fn new(client: AwsClient, source: String, is_canonical: bool) -> Self {
        Self {
            client,
            source,
            is_canonical,
        }
    }

    async fn put(&self, task: &Task) -> Result<(), AwsError> {
        let malformed = || AwsError {
            code: "InvalidParameter".to_owned(),
            message: "the event is no BSON".to_owned(),
            status: None,
            is_transient: false,
        };
        let arguments = RawDocument::from_bytes(&task.arguments).map_err(|_| malformed())?;
        let all = arguments.get_array("v").map_err(|_| malformed())?;
        let event = match all.get(0) {
            Ok(Some(RawBsonRef::Document(event))) => event,
            // A moment of a schedule.
            _ => RawDocument::from_bytes(&[5, 0, 0, 0, 0]).map_err(|_| malformed())?,
        };
        let namespace = event.get_document("ns").ok();
        let name = |field: &str| namespace.and_then(|names| names.get_str(field).ok());
        let put = self.client.put_event(BusEvent {
            bus: None,
            source: &self.source,
            database: name("db").unwrap_or_default(),
            collection: name("coll"),
            document: event.as_bytes(),
            is_canonical: self.is_canonical,
        });
        put.await.map(|_| ())
    }
}

#[async_trait]
impl Processor for EventBridgeProcessor {
    async fn run(&self, task: Task) -> Outcome {
        let begun = Instant::now();
        let result = self.put(&task).await;
        Outcome {
            result: match result {
                // `{}`: nothing is returned.
                Ok(()) => Ok(Bytes::from_static(&[5, 0, 0, 0, 0])),
                Err(error) => Err(Failure {
                    kind: FailureKind::Thrown,
                    name: error.code,
                    message: error.message,
                    place: None,
                    stack: None,
                }),
            },
            console: Vec::new(),
            duration: begun.elapsed().max(Duration::from_nanos(1)),
        }
    }

    async fn run_in_order(&self, tasks: Vec<Task>) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(tasks.len());
        for task in tasks {
            let outcome = self.run(task).await;
            let has_failed = outcome.result.is_err();
            outcomes.push(outcome);
            if has_failed {
                break;
            }
        }
        outcomes
    }

    fn written(&self, _run: u64) -> Vec<Written> {
        Vec::new()
    }
}
