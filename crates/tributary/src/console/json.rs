//! Progress as programs see it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tributary_flow::{AppliedBatch, CollectionInfo, Observer, PartitionTotals};
use tributary_model::{Error, Gap, Namespace, Position};

use super::emit;
use super::events::gap_json;

/// How often a JSON line tells of progress.
const EVENT_EVERY: Duration = Duration::from_secs(1);

/// A JSON object a line on standard output.
#[derive(Default)]
pub(crate) struct JsonProgress {
    collections: Mutex<HashMap<Namespace, (PartitionTotals, Option<Instant>)>>,
}

impl JsonProgress {
    fn with(&self, namespace: &Namespace, change: impl FnOnce(&mut PartitionTotals) -> bool) {
        let mut collections = self
            .collections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (totals, told) = collections.entry(namespace.clone()).or_default();
        if change(totals) && told.is_none_or(|told| told.elapsed() >= EVENT_EVERY) {
            *told = Some(Instant::now());
            emit(&json!({
                "event": "progress", "namespace": namespace.to_string(),
                "documents": totals.documents, "bytes": totals.bytes, "rescued": totals.rescued,
            }));
        }
    }
}

impl Observer for JsonProgress {
    fn started(&self, collection: &CollectionInfo, partitions: usize, done: PartitionTotals) {
        self.with(&collection.namespace, |totals| {
            *totals = done;
            false
        });
        emit(&json!({
            "event": "started", "namespace": collection.namespace.to_string(), "partitions": partitions,
            "estimatedDocuments": collection.documents, "estimatedBytes": collection.bytes,
            "documentsDoneBefore": done.documents,
        }));
    }

    fn progressed(&self, namespace: &Namespace, more: PartitionTotals) {
        self.with(namespace, |totals| {
            *totals += more;
            true
        });
    }

    fn restarted(&self, namespace: &Namespace, lost: PartitionTotals) {
        self.with(namespace, |totals| {
            totals.documents = totals.documents.saturating_sub(lost.documents);
            totals.bytes = totals.bytes.saturating_sub(lost.bytes);
            totals.rescued = totals.rescued.saturating_sub(lost.rescued);
            false
        });
    }

    fn retrying(&self, namespace: &Namespace, error: &Error, wait: Duration) {
        emit(&json!({
            "event": "retrying", "namespace": namespace.to_string(), "error": error.to_string(),
            "waitSeconds": wait.as_secs_f64(),
        }));
    }

    fn failed(&self, namespace: &Namespace, error: &Error) {
        emit(
            &json!({ "event": "failed", "namespace": namespace.to_string(), "error": error.to_string() }),
        );
    }

    fn following(&self, namespace: &Namespace, position: &Position) {
        emit(
            &json!({ "event": "following", "namespace": namespace.to_string(), "position": position }),
        );
    }

    fn applied(&self, namespace: &Namespace, batch: &AppliedBatch) {
        let stages = batch.applied.stages.named();
        let stages: serde_json::Map<String, Value> = stages
            .map(|(stage, time)| (stage.to_owned(), time.as_secs_f64().into()))
            .collect();
        emit(&json!({
            "event": "applied", "namespace": namespace.to_string(), "changes": batch.changes,
            "bytes": batch.bytes, "upserted": batch.applied.upserted, "deleted": batch.applied.deleted,
            "rescued": batch.applied.rescued, "bytesWritten": batch.applied.bytes,
            "changedAt": millis(batch.changed), "begunAt": millis(batch.begun),
            "committedAt": millis(batch.committed), "lagSeconds": batch.newest_latency().as_secs_f64(),
            "oldestChangedAt": millis(batch.oldest), "oldestLagSeconds": batch.oldest_latency().as_secs_f64(),
            "gatherSeconds": batch.gathered.as_secs_f64(), "stageSeconds": stages,
        }));
    }

    fn happened(&self, namespace: &Namespace, what: &str) {
        emit(&json!({ "event": "happened", "namespace": namespace.to_string(), "what": what }));
    }

    fn lacks(&self, namespace: &Namespace, gap: &Gap) {
        let mut event = json!({ "event": "gap", "namespace": namespace.to_string() });
        if let (Value::Object(event), Value::Object(gap)) = (&mut event, gap_json(gap)) {
            event.extend(gap);
        }
        emit(&event);
    }

    fn noticed(&self, what: &str) {
        emit(&json!({ "event": "noticed", "what": what }));
    }

    fn falling_behind(&self, namespace: &Namespace, behind: Duration, remembered: Duration) {
        emit(&json!({
            "event": "fallingBehind", "namespace": namespace.to_string(),
            "behindSeconds": behind.as_secs(), "rememberedSeconds": remembered.as_secs(),
        }));
    }

    fn source_retrying(&self, error: &Error, wait: Duration) {
        emit(&json!({
            "event": "retrying", "error": error.to_string(), "waitSeconds": wait.as_secs_f64(),
        }));
    }
}

/// Milliseconds since 1970.
fn millis(time: SystemTime) -> u128 {
    time.duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis())
}
