//! What is told of loads and flows, a line each, wherever lines are told: on a terminal and in the log of
//! a step.

use std::time::Duration;

use indicatif::HumanBytes;
use tributary_flow::{CollectionInfo, LoadSummary, PartitionTotals};
use tributary_model::{ClusterTime, Error, Gap, GapRemedy, Namespace, Position};

use crate::console::group;

pub(crate) fn started(
    collection: &CollectionInfo,
    partitions: usize,
    done: PartitionTotals,
) -> String {
    if partitions == 0 {
        let documents = group(done.documents);
        return format!(
            "{}: {documents} documents, all done before",
            collection.namespace
        );
    }
    let resumed = if done.documents > 0 {
        format!(", {} documents of them done before", group(done.documents))
    } else {
        String::new()
    };
    let about = collection
        .documents
        .map_or_else(String::new, |n| format!("about {} documents", group(n)));
    format!(
        "{}: {about}{}{partitions} {}{resumed}",
        collection.namespace,
        if about.is_empty() { "" } else { " in " },
        if partitions == 1 {
            "partition"
        } else {
            "partitions"
        },
    )
}

pub(crate) fn finished(namespace: &Namespace, summary: &LoadSummary, seconds: f64) -> String {
    format!(
        "{namespace}: {} documents, {} in {seconds:.1} s",
        group(summary.totals.documents),
        HumanBytes(summary.totals.bytes)
    )
}

pub(crate) fn retrying(namespace: &Namespace, error: &Error, wait: Duration) -> String {
    format!("{namespace}: {}", source_retrying(error, wait))
}

pub(crate) fn source_retrying(error: &Error, wait: Duration) -> String {
    format!("{error}; trying again in {:.1} s", wait.as_secs_f64())
}

pub(crate) fn following(namespace: &Namespace, position: &Position) -> String {
    format!("{namespace}: following{}", from_on(position))
}

/// From when on something is followed, with a space before it.
pub(crate) fn from_on(position: &Position) -> String {
    let at = chrono::DateTime::from_timestamp(position.cluster_time.seconds().into(), 0);
    at.map_or_else(String::new, |at| {
        format!(" from {} on", at.format("%F %TZ"))
    })
}

pub(crate) fn happened(namespace: &Namespace, what: &str) -> String {
    format!("{namespace}: {what}")
}

pub(crate) fn failed(namespace: &Namespace, error: &Error) -> String {
    format!("{namespace}: failed: {error}")
}

pub(crate) fn lacks(namespace: &Namespace, gap: &Gap) -> String {
    let what = match gap.remedy {
        GapRemedy::Reloaded => "were lost, and the collection has been loaded anew",
        GapRemedy::Accepted => "are lost, and it goes on without them",
    };
    format!(
        "{namespace}: the changes between {} and {} {what}",
        moment(gap.from),
        moment(gap.to)
    )
}

pub(crate) fn falling_behind(
    namespace: &Namespace,
    behind: Duration,
    remembered: Duration,
) -> String {
    format!(
        "warning: {namespace}: {:.1} h behind, and the server's oplog reaches back {:.1} h: make the oplog larger \
         (`replSetResizeOplog`), or what comes next is forgotten",
        behind.as_secs_f64() / 3600.0,
        remembered.as_secs_f64() / 3600.0
    )
}

/// A moment's second, for people.
fn moment(time: ClusterTime) -> String {
    let time = chrono::DateTime::from_timestamp(time.seconds().into(), 0);
    time.map_or_else(String::new, |time| time.format("%F %TZ").to_string())
}
