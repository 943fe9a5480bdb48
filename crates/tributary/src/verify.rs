//! `tributary verify`.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tributary_flow::{
    Differences, Verified, Verify, VerifyOptions, VerifyOutcome, VerifyReport, verify,
};
use tributary_lake::{LakeTables, Location};
use tributary_model::Result;

use crate::cli::{Output, PartArguments, VerifyArguments};
use crate::console::{self, JsonProgress, TextProgress};
use crate::{DONE, FAILED, SharedObserver, copy};

pub(crate) async fn run(arguments: VerifyArguments, stop: CancellationToken) -> Result<u8> {
    let begun = Instant::now();
    let bars = Arc::new(TextProgress::new());
    let observer: SharedObserver = match arguments.output {
        Output::Text => bars.clone(),
        Output::Json => Arc::new(JsonProgress::default()),
    };
    let report = work(&arguments, observer, &stop).await?;

    let seconds = begun.elapsed().as_secs_f64();
    bars.clear();
    match arguments.output {
        Output::Json => console::emit(&finished_event(&report, seconds, stop.is_cancelled())),
        Output::Text => console::say(&summary(&report, seconds)),
    }
    let mut agrees = true;
    for collection in &report.collections {
        match &collection.result {
            Ok(verified) => agrees &= verified.agrees(),
            Err(error) => {
                agrees = false;
                console::report(error);
            }
        }
    }
    Ok(if agrees { DONE } else { FAILED })
}

/// Compares the collections of a MongoDB with their tables in a lake.
pub(crate) async fn work(
    arguments: &VerifyArguments,
    observer: SharedObserver,
    stop: &CancellationToken,
) -> Result<VerifyReport> {
    let lake = Location::parse(&arguments.target)?;
    let source = Arc::new(copy::source(&arguments.source, &PartArguments::default()).await?);
    let work = Verify {
        snapshots: source.clone(),
        changes: source.clone(),
        lookups: source,
        tables: Arc::new(LakeTables::new(lake)),
        observer,
        options: VerifyOptions {
            parallel: copy::parallel(arguments.parallel),
            wait: arguments.wait,
            shown: arguments.max_differences,
            ..VerifyOptions::default()
        },
    };
    verify(&work, stop.clone()).await
}

/// The last event: what was found in each collection.
fn finished_event(report: &VerifyReport, seconds: f64, interrupted: bool) -> Value {
    let collections: Vec<Value> = report.collections.iter().map(collection_event).collect();
    json!({ "event": "finished", "seconds": seconds, "interrupted": interrupted, "collections": collections })
}

fn collection_event(outcome: &VerifyOutcome) -> Value {
    let (namespace, seconds) = (outcome.namespace.to_string(), outcome.elapsed.as_secs_f64());
    match &outcome.result {
        Ok(verified) => json!({
            "namespace": namespace,
            "agrees": verified.agrees(),
            "documents": verified.documents,
            "rows": verified.rows,
            "ranges": verified.ranges,
            "missing": differences_event(&verified.missing),
            "extra": differences_event(&verified.extra),
            "different": differences_event(&verified.different),
            "unsettled": differences_event(&verified.unsettled),
            "rangesLeft": verified.ranges_left,
            "changedSince": verified.changed_since,
            "position": verified.position,
            "table": verified.table,
            "seconds": seconds,
        }),
        Err(error) => {
            json!({ "namespace": namespace, "error": error.to_string(), "seconds": seconds })
        }
    }
}

fn differences_event(of: &Differences) -> Value {
    let keys: Vec<Value> = of
        .keys
        .iter()
        .map(|key| serde_json::from_str(key).unwrap_or_else(|_| key.as_str().into()))
        .collect();
    json!({ "count": of.count, "keys": keys })
}

/// The summary for people: a line for each collection, and below it what differs.
fn summary(report: &VerifyReport, seconds: f64) -> String {
    let mut rows = vec![["collection", "documents", "rows", "ranges", "result"].map(str::to_owned)];
    let mut details = Vec::new();
    for outcome in &report.collections {
        let namespace = outcome.namespace.to_string();
        match &outcome.result {
            Ok(verified) => {
                rows.push([
                    namespace.clone(),
                    console::group(verified.documents),
                    console::group(verified.rows),
                    console::group(verified.ranges),
                    verdict(verified).to_owned(),
                ]);
                details.extend(explain(&namespace, verified));
            }
            Err(_) => rows.push([
                namespace,
                String::new(),
                String::new(),
                String::new(),
                "failed".to_owned(),
            ]),
        }
    }
    let mut text = console::aligned(&rows);
    for line in details {
        text.push('\n');
        text.push_str(&line);
    }
    text.push_str(&format!(
        "\n{} collections compared in {seconds:.1} s",
        report.collections.len()
    ));
    text
}

fn verdict(verified: &Verified) -> &'static str {
    match (verified.differs(), verified.agrees()) {
        (true, _) => "differs",
        (false, true) => "agrees",
        (false, false) => "cannot be told",
    }
}

/// What differs in a collection, line by line.
pub(crate) fn explain(namespace: &str, verified: &Verified) -> Vec<String> {
    let mut lines = Vec::new();
    let at = stands_at(verified);
    let sorts = [
        (&verified.missing, "missing in the table"),
        (&verified.extra, "extra in the table"),
        (&verified.different, "different in the table"),
        (&verified.unsettled, "not the same now, perhaps not yet"),
    ];
    for (differences, what) in sorts {
        if differences.count == 0 {
            continue;
        }
        let count = console::group(differences.count);
        lines.push(format!("{namespace}: {count} {what}:"));
        lines.extend(differences.keys.iter().map(|key| format!("  _id {key}")));
        let more = differences.count - differences.keys.len() as u64;
        if more > 0 {
            lines.push(format!("  and {} more", console::group(more)));
        }
    }
    if verified.unsettled.count > 0 {
        lines.push(format!(
            "{namespace}: the table stands at {at} and the source has moved on; to be certain, run \
             `tributary sync --once` and compare again"
        ));
    }
    if verified.ranges_left > 0 {
        lines.push(format!(
            "{namespace}: {} more ranges of keys differ that were not looked into",
            console::group(verified.ranges_left)
        ));
    }
    if verified.changed_since > 0 {
        lines.push(format!(
            "{namespace}: the table stands at {at}; {} documents have changed since",
            console::group(verified.changed_since)
        ));
    }
    lines
}

fn stands_at(verified: &Verified) -> String {
    let time = verified.position.cluster_time;
    chrono::DateTime::from_timestamp(time.seconds().into(), 0)
        .map_or_else(|| time.to_string(), |at| at.format("%F %TZ").to_string())
}
