//! From what the file says to what is to run: names are looked up, defaults filled in, and all that
//! is wrong is gathered.

mod addresses;
mod alerts;
mod collections;
mod flows;
mod ingest;
mod jobs;
mod places;
mod publish;
mod server;
mod triggers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_saphyr::{Location, Spanned};

use self::alerts::Known;
use super::file::{File, Named};
use super::plan::{Place, Plan, Receiver};
use super::problem::Problem;
use super::values::{Name, Secret, Text};

const STATE: &str = "tributary.state";
const KEEP_HISTORY: Duration = Duration::from_secs(90 * 24 * 3600);

/// Checks a file, and makes a plan of it.
pub(super) fn resolve(
    file: File,
    directory: &Path,
    secrets: BTreeSet<Secret>,
) -> Result<Plan, Vec<Problem>> {
    let mut resolver = Resolver {
        directory,
        secrets: Arc::new(secrets),
        places: BTreeMap::new(),
        publishing: publish::Publishing::new(),
        following: collections::Following::new(),
        queues: BTreeMap::new(),
        problems: Vec::new(),
    };
    let plan = resolver.plan(file);
    let mut problems = resolver.problems;
    if problems.is_empty() {
        return Ok(plan);
    }
    problems.sort_by_key(|problem| (problem.line, problem.column));
    Err(problems)
}

struct Resolver<'a> {
    directory: &'a Path,
    /// The values of variables that are secrets.
    secrets: Arc<BTreeSet<Secret>>,
    places: BTreeMap<String, Place>,
    /// The flows that changes go to places by as they are.
    publishing: publish::Publishing,
    /// The flows that keep tables.
    following: collections::Following,
    /// The jobs that run on the objects of which SQS queues tell.
    queues: BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl Resolver<'_> {
    fn plan(&mut self, file: File) -> Plan {
        let state = self.path(file.state.as_ref().map_or(STATE, Text::as_str));
        self.find_places(&file, &state);
        let flows = named(file.flows, |name, flow| self.flow(name, flow));
        let names: BTreeSet<String> = file.jobs.keys().map(Name::to_string).collect();
        let follows: BTreeMap<String, Vec<Spanned<String>>> = file
            .jobs
            .iter()
            .map(|(name, job)| (name.to_string(), job.value.after.clone()))
            .collect();
        self.check_order("job", "after", &names, &follows);
        let jobs = named(file.jobs, |name, job| self.job(name, job));
        let apps = named(file.apps, |name, app| self.app(name, app));
        let triggers = named(file.triggers, |name, trigger| self.trigger(name, trigger));
        let alerts = file.alerts;
        let receivers: BTreeMap<String, Receiver> =
            named_from(&alerts.notify, |entry| self.receiver(entry))
                .into_iter()
                .filter_map(|(name, receiver)| Some((name, receiver?)))
                .collect();
        let known = Known {
            flows: flows.keys().cloned().collect(),
            jobs: names.into_iter().collect(),
            triggers: triggers.keys().cloned().collect(),
            apps: apps.keys().cloned().collect(),
        };
        let rules = self.rules(&alerts, &known);
        let server = file.server.and_then(|server| self.server(server));
        let telemetry = file.telemetry.and_then(|entry| self.telemetry(entry));
        Plan {
            directory: self.directory.to_owned(),
            state,
            keep_history: file.keep_history.map_or(KEEP_HISTORY, |period| period.0),
            places: std::mem::take(&mut self.places),
            flows: flows
                .into_iter()
                .filter_map(|(name, flow)| Some((name, flow?)))
                .collect(),
            jobs: jobs
                .into_iter()
                .filter_map(|(name, job)| Some((name, job?)))
                .collect(),
            apps: apps
                .into_iter()
                .filter_map(|(name, app)| Some((name, app?)))
                .collect(),
            triggers: triggers
                .into_iter()
                .filter_map(|(name, trigger)| Some((name, trigger?)))
                .collect(),
            receivers,
            rules,
            server,
            telemetry,
        }
    }

    fn wrong(&mut self, at: Location, what: impl Into<String>) {
        self.problems.push(Problem::at(at, what));
    }

    /// A path of the file, which is relative to it.
    fn path(&self, path: &str) -> PathBuf {
        self.directory.join(path).components().collect()
    }

    /// A path of the file as a text, or an address as it is.
    fn path_or_address(&self, path: &str) -> String {
        match path.contains("://") {
            true => path.to_owned(),
            false => self.path(path).to_string_lossy().into_owned(),
        }
    }

    fn pattern(&mut self, pattern: &Spanned<Text>) -> Option<glob::Pattern> {
        let text = pattern.value.as_str();
        match glob::Pattern::new(text) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                self.wrong(
                    pattern.referenced,
                    format!("`{text}` is no pattern: {error}"),
                );
                None
            }
        }
    }
}

fn named<T, U>(entries: Named<T>, mut make: impl FnMut(&Name, T) -> U) -> BTreeMap<String, U> {
    entries
        .into_iter()
        .map(|(name, entry)| {
            let made = make(&name, entry);
            (name.to_string(), made)
        })
        .collect()
}

fn named_from<T, U>(entries: &Named<T>, mut make: impl FnMut(&T) -> U) -> BTreeMap<String, U> {
    entries
        .iter()
        .map(|(name, entry)| (name.to_string(), make(entry)))
        .collect()
}
