//! `tributary check`.

use indicatif::HumanBytes;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tributary_lake::Location;
use tributary_model::Result;
use tributary_mongo::DeploymentReport;

use crate::cli::{CheckArguments, Output};
use crate::console::{self, aligned, group, say};
use crate::{DONE, FAILED};

pub(crate) async fn run(arguments: CheckArguments, stop: CancellationToken) -> Result<u8> {
    tokio::select! {
        () = stop.cancelled() => Ok(DONE),
        code = check(&arguments) => code,
    }
}

async fn check(arguments: &CheckArguments) -> Result<u8> {
    let source = crate::copy::source(&arguments.source, &arguments.part).await?;
    let place = arguments
        .target
        .as_deref()
        .map(Location::parse)
        .transpose()?;
    let report = source.inspect().await?;
    let target = match &place {
        Some(place) => Some((place.to_string(), place.probe().await)),
        None => None,
    };
    match arguments.output {
        Output::Text => tell(&report, target.as_ref()),
        Output::Json => console::emit(&json!({
            "event": "checked",
            "source": report,
            "target": target.as_ref().map(|(place, result)| json!({
                "place": place,
                "writable": result.is_ok(),
                "error": result.as_ref().err().map(ToString::to_string),
            })),
        })),
    }
    let failed = report.findings.iter().any(|f| f.fatal)
        || target.is_some_and(|(_, result)| result.is_err());
    Ok(if failed { FAILED } else { DONE })
}

fn tell(report: &DeploymentReport, target: Option<&(String, Result<()>)>) {
    let mut facts = vec![
        ["server".to_owned(), report.server.clone()],
        ["version".to_owned(), report.version.clone()],
        ["topology".to_owned(), report.topology.clone()],
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
    if let Some((place, result)) = target {
        let state = if result.is_ok() {
            "can be written"
        } else {
            "CANNOT be written"
        };
        facts.push(["target".to_owned(), format!("{place} {state}")]);
    }
    say(&aligned(&facts));
    if !report.collections.is_empty() {
        let mut rows = vec![["collection", "kind", "documents", "BSON"].map(str::to_owned)];
        for collection in &report.collections {
            let kind = match collection.kind {
                tributary_flow::CollectionKind::Collection => "collection",
                tributary_flow::CollectionKind::View => "view",
                tributary_flow::CollectionKind::TimeSeries => "time series",
            };
            rows.push([
                collection.namespace.to_string(),
                kind.to_owned(),
                collection
                    .documents
                    .map_or_else(|| "?".to_owned(), |n| format!("~{}", group(n))),
                collection
                    .bytes
                    .map_or_else(|| "?".to_owned(), |n| HumanBytes(n).to_string()),
            ]);
        }
        say(&format!("\n{}", aligned(&rows)));
    }
    say("");
    for finding in &report.findings {
        let sort = if finding.fatal { "error" } else { "warning" };
        say(&format!("{sort}: {}; {}", finding.what, finding.remedy));
    }
    if let Some((_, Err(error))) = target {
        say(&format!("error: {error}"));
    }
    if report.findings.is_empty() && target.is_none_or(|(_, result)| result.is_ok()) {
        say("nothing is wrong");
    }
}
