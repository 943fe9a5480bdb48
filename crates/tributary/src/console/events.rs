//! The events that programs read, but for those of progress.

use serde_json::{Value, json};
use tributary_flow::{LoadReport, SyncReport};
use tributary_model::{ClusterTime, Gap};

/// The event that tells where the metrics are.
pub(crate) fn metrics_event(address: &str) -> Value {
    json!({ "event": "metrics", "address": address })
}

/// The last event of `sync`: what became of each collection.
pub(crate) fn synced_event(report: &SyncReport, seconds: f64, interrupted: bool) -> Value {
    let collections: Vec<Value> = report
        .collections
        .iter()
        .map(|collection| {
            let loaded = collection.loaded.as_ref();
            let rescued = loaded.map_or(0, |loaded| loaded.totals.rescued);
            let mut event = json!({
                "namespace": collection.namespace.to_string(),
                "documents": loaded.map_or(0, |loaded| loaded.totals.documents),
                "bytes": loaded.map_or(0, |loaded| loaded.totals.bytes),
                "rescued": rescued + collection.applied.rescued,
                "seconds": seconds,
                "table": collection.table,
                "changes": collection.changes,
                "upserted": collection.applied.upserted,
                "deleted": collection.applied.deleted,
            });
            if !collection.gaps.is_empty() {
                event["gaps"] = collection.gaps.iter().map(gap_json).collect();
            }
            if let Some(error) = &collection.failure {
                event["error"] = error.to_string().into();
            }
            event
        })
        .collect();
    json!({
        "event": "finished", "seconds": seconds, "interrupted": interrupted, "collections": collections,
        "otherEvents": report.other_events,
    })
}

/// The last event of a command: what became of each collection.
pub(crate) fn finished_event(report: &LoadReport, seconds: f64, interrupted: bool) -> Value {
    let collections: Vec<Value> = report
        .collections
        .iter()
        .map(|outcome| match &outcome.result {
            Ok(summary) => json!({
                "namespace": outcome.namespace.to_string(),
                "documents": summary.totals.documents,
                "bytes": summary.totals.bytes,
                "rescued": summary.totals.rescued,
                "seconds": outcome.elapsed.as_secs_f64(),
                "table": summary.table,
                "files": summary.files,
                "fileBytes": summary.file_bytes,
                "rewrittenBytes": summary.rewritten_bytes,
            }),
            Err(error) => {
                json!({ "namespace": outcome.namespace.to_string(), "error": error.to_string() })
            }
        })
        .collect();
    json!({ "event": "finished", "seconds": seconds, "interrupted": interrupted, "collections": collections })
}

/// A stretch of history that a table lacks.
pub(super) fn gap_json(gap: &Gap) -> Value {
    let end = |time: ClusterTime| {
        let text = chrono::DateTime::from_timestamp(time.seconds().into(), 0);
        let text = text.map(|time| time.format("%FT%TZ").to_string());
        json!({ "time": text, "clusterTime": { "t": time.seconds(), "i": time.ordinal() } })
    };
    json!({ "from": end(gap.from), "to": end(gap.to), "how": gap.remedy })
}
