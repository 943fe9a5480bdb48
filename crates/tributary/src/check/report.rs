//! What people and programs see of a check.

use indicatif::HumanBytes;
use serde_json::{Value, json};
use tributary_flow::CollectionKind;
use tributary_mongo::{DeploymentReport, Finding};

use super::{SourceReport, TargetReport, bucket};
use crate::cli::CheckArguments;
use crate::console::{self, aligned, group, say};

/// Tells a program.
pub(super) fn emit(source: &SourceReport, target: Option<&TargetReport>) {
    console::emit(&json!({
        "event": "checked",
        "source": of_source(source),
        "target": target.map(of_target),
    }));
}

/// What a program is told of a source.
pub(super) fn of_source(source: &SourceReport) -> Value {
    let mut told = json!(source.deployment);
    if let Value::Object(fields) = &mut told {
        fields.insert("changed".to_owned(), json!(source.changed));
    }
    told
}

/// What a program is told of a target.
pub(super) fn of_target(target: &TargetReport) -> Value {
    json!({
        "place": target.place,
        "writable": target.probe.is_ok(),
        "error": target.probe.as_ref().err().map(ToString::to_string),
        "bucket": target.bucket.as_ref().map(bucket::BucketReport::to_json),
        "findings": target.findings(),
        "changed": target.changed(),
    })
}

/// Tells people.
pub(super) fn tell(
    source: &SourceReport,
    target: Option<&TargetReport>,
    arguments: &CheckArguments,
) {
    let report = &source.deployment;
    let mut facts = facts(report);
    if let Some(target) = target {
        let state = match target.probe {
            Ok(()) => "can be written",
            Err(_) => "CANNOT be written",
        };
        facts.push(["target".to_owned(), format!("{} {state}", target.place)]);
        let bucket = target.bucket.as_ref();
        if let Some(settings) = bucket.and_then(|bucket| bucket.settings.as_ref()) {
            facts.extend(bucket::facts(settings));
        }
    }
    say(&aligned(&facts));
    tell_collections(report, arguments.pre_and_post_images);
    say("");
    let changed = target.map_or(&[][..], TargetReport::changed);
    for what in source.changed.iter().chain(changed) {
        say(&format!("changed: {what}"));
    }
    if arguments.fix && source.changed.is_empty() && changed.is_empty() {
        say("changed: nothing");
    }
    let of_bucket = target.map_or(&[][..], TargetReport::findings);
    for finding in report.findings.iter().chain(of_bucket) {
        tell_finding(finding);
    }
    if let Some(Err(error)) = target.map(|target| &target.probe) {
        say(&format!("error: {error}"));
    }
    let writable = target.is_none_or(|target| target.probe.is_ok());
    if report.findings.is_empty() && of_bucket.is_empty() && writable {
        say("nothing is wrong");
    }
}

pub(super) fn tell_finding(finding: &Finding) {
    let sort = if finding.fatal { "error" } else { "warning" };
    say(&format!("{sort}: {}; {}", finding.what, finding.remedy));
}

fn facts(report: &DeploymentReport) -> Vec<[String; 2]> {
    let mut facts = vec![
        ["server".to_owned(), report.server.clone()],
        ["version".to_owned(), report.version.clone()],
        ["topology".to_owned(), report.topology.clone()],
        ["read".to_owned(), report.read_preference.clone()],
    ];
    if !report.users.is_empty() {
        facts.push(["user".to_owned(), report.users.join(", ")]);
    }
    if let Some(oplog) = &report.oplog {
        let text = format!(
            "reaches back {:.1} hours, at most {}",
            oplog.hours,
            HumanBytes(oplog.max_bytes)
        );
        facts.push(["oplog".to_owned(), text]);
    }
    facts.push([
        "clock".to_owned(),
        format!("{:+.1} s from this machine's", report.clock_skew_seconds),
    ]);
    facts
}

fn tell_collections(report: &DeploymentReport, images: bool) {
    if report.collections.is_empty() {
        return;
    }
    let row = |cells: [&str; 4], of_images: &str| {
        let [namespace, kind, documents, bytes] = cells.map(str::to_owned);
        let of_images = if images { of_images } else { "" };
        [namespace, kind, documents, bytes, of_images.to_owned()]
    };
    let mut rows = vec![row(["collection", "kind", "documents", "BSON"], "images")];
    for collection in &report.collections {
        let info = &collection.info;
        let kind = match info.kind {
            CollectionKind::Collection => "collection",
            CollectionKind::View => "view",
            CollectionKind::TimeSeries => "time series",
        };
        let unknown = || "?".to_owned();
        let documents = info
            .documents
            .map_or_else(unknown, |n| format!("~{}", group(n)));
        let bytes = info
            .bytes
            .map_or_else(unknown, |n| HumanBytes(n).to_string());
        let kept = match collection.pre_and_post_images {
            Some(true) => "kept",
            Some(false) => "not kept",
            None => "?",
        };
        rows.push(row(
            [&info.namespace.to_string(), kind, &documents, &bytes],
            kept,
        ));
    }
    say(&format!("\n{}", aligned(&rows)));
}
