//! `tributary check FILE`: everything that the file names is reached.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;
use tributary_lake::Location;
use tributary_model::{Error, ErrorKind, OnSchemaChange, Result};
use tributary_mongo::{Finding, InspectOptions};
use tributary_orchestrator::config::{FollowEntry, Place, Plan, Route, Source, Warehouse, Work};

use super::{
    CheckArguments, SourceReport, TargetReport, look_at_source, look_at_target, report, wishes,
};
use crate::cli::{Output, PartArguments};
use crate::console::{self, say};
use crate::engine::arguments;
use crate::functions::{self, AppReport};
use crate::{DONE, FAILED, copy, publish, warehouse};

/// What there is to say of a place.
enum Found {
    Source(SourceReport),
    Ingest,
    Lake(TargetReport),
    Warehouse,
    Stream,
    Files(TargetReport),
    Unreachable(Error),
}

impl Found {
    fn findings(&self) -> Vec<&Finding> {
        match self {
            Self::Source(source) => source.deployment.findings.iter().collect(),
            Self::Lake(target) | Self::Files(target) => target.findings().iter().collect(),
            Self::Ingest | Self::Warehouse | Self::Stream | Self::Unreachable(_) => Vec::new(),
        }
    }

    fn changed(&self) -> &[String] {
        match self {
            Self::Source(source) => &source.changed,
            Self::Lake(target) | Self::Files(target) => target.changed(),
            Self::Ingest | Self::Warehouse | Self::Stream | Self::Unreachable(_) => &[],
        }
    }

    fn error(&self) -> Option<&Error> {
        match self {
            Self::Unreachable(error) => Some(error),
            Self::Lake(target) | Self::Files(target) => target.probe.as_ref().err(),
            Self::Source(_) | Self::Ingest | Self::Warehouse | Self::Stream => None,
        }
    }

    fn has_failed(&self) -> bool {
        self.error().is_some() || self.findings().iter().any(|finding| finding.fatal)
    }
}

pub(super) async fn check(arguments: &CheckArguments) -> Result<u8> {
    refuse_more(arguments)?;
    let plan = Plan::read(Path::new(&arguments.subject))?;
    let apps = functions::look(&plan)?;
    let mut all = Vec::new();
    for (name, place) in &plan.places {
        let found = match place {
            Place::Source(source) => look_at(name, source, &plan, arguments)
                .await
                .map(Found::Source),
            // There is nothing to ask: others come to it.
            Place::Ingest(_) => Ok(Found::Ingest),
            Place::Lake(path) => look_at_lake(path, arguments).await.map(Found::Lake),
            Place::Warehouse(warehouse) => reach(warehouse).await.map(|()| Found::Warehouse),
            Place::Stream(stream) => {
                let (target, how) = arguments::of_stream(stream);
                let reached = publish::reach(&target, &how).await;
                reached.map(|()| Found::Stream)
            }
            Place::Files(files) => look_at_lake(&files.path, arguments).await.map(Found::Files),
        };
        all.push((name, place, found.unwrap_or_else(Found::Unreachable)));
    }
    match arguments.output {
        Output::Json => {
            let places = all.iter().map(|(name, place, found)| {
                json!({
                    "name": name,
                    "kind": place.kind().name(),
                    "source": match found { Found::Source(source) => report::of_source(source), _ => json!(null) },
                    "lake": match found { Found::Lake(lake) => report::of_target(lake), _ => json!(null) },
                    "files": match found { Found::Files(files) => report::of_target(files), _ => json!(null) },
                    "error": found.error().map(ToString::to_string),
                })
            });
            let places: Vec<_> = places.collect();
            console::emit(&json!({
                "event": "checked",
                "file": arguments.subject,
                "flows": plan.flows.len(),
                "jobs": plan.jobs.len(),
                "triggers": plan.triggers.len(),
                "apps": apps,
                "places": places,
            }));
        }
        Output::Text => tell(&plan, &apps, &all, arguments.fix),
    }
    let failed = all.iter().any(|(.., found)| found.has_failed());
    Ok(if failed { FAILED } else { DONE })
}

fn tell(plan: &Plan, apps: &[AppReport], all: &[(&String, &Place, Found)], fix: bool) {
    say(&format!(
        "the file is right: {} flows, {} jobs, {} rules of alerts",
        plan.flows.len(),
        plan.jobs.len(),
        plan.rules.len()
    ));
    for app in apps {
        for line in app.summary.lines() {
            say(&format!("app {}: {line}", app.name));
        }
        for finding in &app.findings {
            say(&format!("app {}: {finding}", app.name));
        }
    }
    for (name, place, found) in all {
        let state = match (found, found.has_failed()) {
            (Found::Source(source), false) => format!(
                "MongoDB {}, {}",
                source.deployment.version, source.deployment.topology
            ),
            (Found::Lake(target) | Found::Files(target), false) => {
                format!("{} can be written", target.place)
            }
            (Found::Warehouse | Found::Stream, false) => "can be reached".to_owned(),
            (Found::Ingest, false) => format!("events are pushed to /ingest/{name}"),
            (_, true) | (Found::Unreachable(_), _) => "WRONG".to_owned(),
        };
        say(&format!("{} {name}: {state}", place.kind().name()));
        for what in found.changed() {
            say(&format!("changed: {what}"));
        }
        for finding in found.findings() {
            report::tell_finding(finding);
        }
        if let Some(error) = found.error() {
            say(&format!("error: {error}"));
        }
    }
    if fix && all.iter().all(|(.., found)| found.changed().is_empty()) {
        say("changed: nothing");
    }
}

/// The file says itself what is for one source and target alone.
fn refuse_more(arguments: &CheckArguments) -> Result<()> {
    let given = [
        ("TARGET", arguments.target.is_some()),
        ("--collection", !arguments.collections.is_empty()),
        ("--read-preference", arguments.read_preference.is_some()),
        ("--filter", arguments.part.filter.is_some()),
        ("--fields", !arguments.part.fields.is_empty()),
    ];
    match given.iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((option, _)) => Err(Error::new(
            ErrorKind::Usage,
            "the option is for the address of a MongoDB, and this is a file",
        )
        .on("option", option)
        .on("file", &arguments.subject)
        .remedy("leave it out: the file says it; a MongoDB is written as mongodb://host/database")),
    }
}

/// What reads or follows a source.
fn routes<'a>(
    plan: &'a Plan,
    name: &'a str,
) -> impl Iterator<Item = (&'a Route, Option<&'a FollowEntry>)> {
    let flows = plan
        .flows
        .values()
        .map(|flow| (&flow.route, Some(&flow.options)));
    let steps = plan.jobs.values().flat_map(|job| job.steps.values());
    let steps = steps.filter_map(|step| match &step.work {
        Work::Copy(copy) => Some((&copy.route, None)),
        Work::Sync(sync) => Some((&sync.route, Some(&sync.options))),
        Work::Verify(verify) => Some((&verify.route, None)),
        _ => None,
    });
    flows
        .chain(steps)
        .filter(move |(route, _)| route.from.name == name)
}

async fn look_at(
    name: &str,
    source: &Source,
    plan: &Plan,
    arguments: &CheckArguments,
) -> Result<SourceReport> {
    let mut collections = BTreeSet::new();
    let (mut has_history, mut is_all) = (false, false);
    for (route, options) in routes(plan, name) {
        is_all |= route.collections.is_empty();
        has_history |= options.is_some_and(|options| options.history == Some(true));
        collections.extend(
            route
                .collections
                .iter()
                .map(|text| text.as_str().to_owned()),
        );
    }
    if is_all {
        collections.clear();
    }
    let collections = arguments::of_source(source, collections.into_iter().collect());
    let source = copy::source(&collections, &PartArguments::default()).await?;
    let options = InspectOptions {
        images: arguments.pre_and_post_images || has_history,
    };
    look_at_source(&source, options, arguments.fix).await
}

async fn look_at_lake(path: &str, arguments: &CheckArguments) -> Result<TargetReport> {
    let place = Location::parse(path)?;
    // What is for buckets is not for a lake on a disk beside them.
    let wishes = match place.bucket() {
        Some(_) => wishes(arguments, Some(&place))?,
        None => super::Wishes::default(),
    };
    Ok(look_at_target(&place, &wishes, arguments.fix).await)
}

async fn reach(warehouse: &Warehouse) -> Result<()> {
    let arguments = arguments::of_warehouse(warehouse);
    let sink = warehouse::SinkArguments::new(
        warehouse.uri.as_str(),
        &arguments,
        false,
        OnSchemaChange::Evolve,
    )?;
    sink.sink("check".to_owned())?.check().await
}
