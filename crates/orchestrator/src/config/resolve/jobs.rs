//! Jobs: what starts them, and their steps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;
use serde_saphyr::{Location, Spanned};
use tributary_convert::extjson;
use url::Url;

use super::flows::FOLLOWED_INTO;
use super::{Resolver, named};
use crate::config::file::{
    CommandEntry, CopyEntry, Format, JobEntry, OnObjectEntry, RetriesEntry, ScheduleEntry,
    SqlEntry, StepEntry, SyncEntry, VerifyEntry,
};
use crate::config::plan::{
    Command, Copy, End, Job, OnObject, PlaceKind, Query, Retries, Route, Schedule, Script, Step,
    Sync, Verify, Watched, Work,
};
use crate::config::problem::unknown;
use crate::config::values::{Name, Text};

const GATHER: Duration = Duration::from_secs(1);
const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(600);

impl Resolver<'_> {
    /// Checks that what follows what ends somewhere, and that all of it is there.
    pub(super) fn check_order(
        &mut self,
        kind: &str,
        key: &str,
        names: &BTreeSet<String>,
        follows: &BTreeMap<String, Vec<Spanned<String>>>,
    ) {
        let mut is_whole = true;
        for before in follows.values().flatten() {
            if !names.contains(&before.value) {
                is_whole = false;
                let what = unknown(kind, &before.value, names.iter().map(String::as_str));
                self.wrong(before.referenced, what);
            }
        }
        // What is begun with nothing before it, and then again: what is left is in a circle.
        let mut left: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        loop {
            let free: Vec<&str> = left
                .iter()
                .filter(|name| {
                    let before = follows.get(**name).into_iter().flatten();
                    before
                        .into_iter()
                        .all(|before| !left.contains(before.value.as_str()))
                })
                .copied()
                .collect();
            if free.is_empty() {
                break;
            }
            for name in free {
                left.remove(name);
            }
        }
        if let (Some(first), true) = (left.first(), is_whole) {
            let circle = circle(first, &left, follows);
            let at = follows[*first]
                .first()
                .map_or(Location::UNKNOWN, |before| before.referenced);
            self.wrong(
                at,
                format!("`{key}` goes in a circle: {}", circle.join(" → ")),
            );
        }
    }

    pub(super) fn job(&mut self, name: &Name, entry: Spanned<JobEntry>) -> Option<Job> {
        let at = entry.referenced;
        let JobEntry {
            schedule,
            after,
            on_object,
            overlap,
            timeout,
            steps,
        } = entry.value;
        if steps.is_empty() {
            self.wrong(at, "a job has one step at least");
        }
        let names: BTreeSet<String> = steps.keys().map(Name::to_string).collect();
        let follows: BTreeMap<String, Vec<Spanned<String>>> = steps
            .iter()
            .map(|(name, step)| (name.to_string(), step.value.needs.clone()))
            .collect();
        self.check_order("step", "needs", &names, &follows);
        let schedule = schedule.map(|schedule| self.schedule(&schedule));
        let on_object = on_object.map(|watched| self.on_object(name, &watched));
        let steps = named(steps, |_, step| self.step(step));
        let is_whole = steps.values().all(Option::is_some);
        let job = Job {
            schedule: schedule.flatten(),
            after: after.into_iter().map(|name| name.value).collect(),
            on_object: on_object.flatten(),
            overlap,
            timeout: timeout.map(|period| period.0),
            steps: steps
                .into_iter()
                .filter_map(|(name, step)| Some((name, step?)))
                .collect(),
        };
        is_whole.then_some(job)
    }

    fn schedule(&mut self, entry: &ScheduleEntry) -> Option<Schedule> {
        let cron = self.cron_pattern(&entry.cron)?;
        let time_zone = match &entry.time_zone {
            None => Tz::UTC,
            Some(name) => match name.value.as_str().parse() {
                Ok(zone) => zone,
                Err(_) => {
                    let known = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
                    let nearest = unknown("time zone", name.value.as_str(), known);
                    // There are too many to name them all.
                    let what = nearest.split("; there is").next().unwrap_or(&nearest);
                    self.wrong(name.referenced, what);
                    return None;
                }
            },
        };
        self.check_comes(&entry.cron, &cron, time_zone)?;
        Some(Schedule {
            text: entry.cron.value.as_str().to_owned(),
            cron,
            time_zone,
            catch_up: entry.catch_up,
        })
    }

    fn on_object(&mut self, job: &Name, entry: &Spanned<OnObjectEntry>) -> Option<OnObject> {
        let OnObjectEntry {
            queue,
            directory,
            matching,
            gather,
        } = &entry.value;
        let watched = match (queue, directory) {
            (Some(queue), None) => {
                self.queue(job, queue);
                Watched::Queue(queue.value.as_str().to_owned())
            }
            (None, Some(directory)) => Watched::Directory(self.path(directory.as_str())),
            _ => {
                self.wrong(
                    entry.referenced,
                    "`on_object` has a `queue` or a `directory`, and not both",
                );
                return None;
            }
        };
        let matching = match matching {
            None => None,
            Some(pattern) => Some(self.pattern(pattern)?),
        };
        Some(OnObject {
            watched,
            matching,
            gather: gather.map_or(GATHER, |period| period.0),
        })
    }

    /// Checks the address of a queue, which one job alone reads: each message comes to one of those who do.
    fn queue(&mut self, job: &Name, queue: &Spanned<Text>) {
        let url = Url::parse(queue.value.as_str()).ok();
        let Some(url) = url.filter(Url::has_host) else {
            self.wrong(
                queue.referenced,
                "`queue` is no address of an SQS queue, https://sqs.REGION.amazonaws.com/ACCOUNT/NAME",
            );
            return;
        };
        let address = url.as_str().trim_end_matches('/').to_owned();
        match self.queues.get(&address) {
            Some(other) => {
                let what = format!(
                    "the job `{other}` has this `queue` already, and each message comes to one of them alone: give each job a queue of its own, or let one job do both"
                );
                self.wrong(queue.referenced, what);
            }
            None => {
                self.queues.insert(address, job.to_string());
            }
        }
    }

    fn step(&mut self, entry: Spanned<StepEntry>) -> Option<Step> {
        let at = entry.referenced;
        let StepEntry {
            needs,
            timeout,
            retries,
            copy,
            sync,
            verify,
            sql,
            command,
        } = entry.value;
        let mut works: Vec<Option<Work>> = Vec::new();
        if let Some(entry) = copy {
            works.push(self.copy(at, &entry));
        }
        if let Some(entry) = sync {
            works.push(self.sync(at, entry));
        }
        if let Some(entry) = verify {
            works.push(self.verify(&entry));
        }
        if let Some(entry) = sql {
            works.push(self.sql(at, &entry));
        }
        if let Some(entry) = command {
            works.push(self.command(at, entry));
        }
        if works.len() != 1 {
            self.wrong(
                at,
                "a step is one of `copy`, `sync`, `verify`, `sql` and `command`, and one only",
            );
        }
        Some(Step {
            needs: needs.into_iter().map(|name| name.value).collect(),
            timeout: timeout.map(|period| period.0),
            retries: retries_of(&retries),
            work: works.into_iter().next()??,
        })
    }

    fn copy(&mut self, at: Location, entry: &CopyEntry) -> Option<Work> {
        let route = self.route(
            &entry.from,
            &entry.to,
            entry.through.as_ref(),
            &[PlaceKind::Lake, PlaceKind::Warehouse],
            &entry.collections,
        )?;
        if route.from.place.kind() == PlaceKind::Ingest {
            self.wrong(
                at,
                "`copy` is for a source with `uri`: what events are pushed of cannot be loaded; use `sync`",
            );
        }
        let into_warehouse = route.to.place.kind() == PlaceKind::Warehouse;
        if into_warehouse && entry.format != Format::Delta {
            self.wrong(at, "`format` is for what goes into a lake");
        }
        if let Some(filter) = &entry.filter
            && let Err(error) = extjson::parse_document(filter.value.as_str())
        {
            self.wrong(
                filter.referenced,
                format!("`filter` is no query in Extended JSON: {error}"),
            );
        }
        let from_lake = route.from.place.kind() == PlaceKind::Lake;
        if from_lake && (entry.filter.is_some() || !entry.fields.is_empty()) {
            self.wrong(at, "`filter` and `fields` are for what comes from a source");
        }
        Some(Work::Copy(Copy {
            route,
            filter: entry.filter.as_ref().map(|filter| filter.value.clone()),
            fields: entry.fields.clone(),
            format: entry.format,
            overwrite: entry.overwrite,
            parallel: entry.parallel,
        }))
    }

    fn sync(&mut self, at: Location, entry: SyncEntry) -> Option<Work> {
        let route = self.route(
            &entry.from,
            &entry.to,
            entry.through.as_ref(),
            &FOLLOWED_INTO,
            &entry.collections,
        )?;
        self.follow(at, &route, &entry.options);
        self.publish_alone(entry.to.referenced, &route, None);
        Some(Work::Sync(Sync {
            route,
            options: entry.options,
        }))
    }

    fn verify(&mut self, entry: &VerifyEntry) -> Option<Work> {
        let collections = self.collections(&entry.collections);
        let from = self.end(&entry.from, &[PlaceKind::Source]);
        let to = self.end(&entry.to, &[PlaceKind::Lake]);
        Some(Work::Verify(Verify {
            route: Route {
                from: from?,
                to: to?,
                through: None,
                collections,
            },
            wait: entry.wait.map(|period| period.0),
            parallel: entry.parallel,
        }))
    }

    fn sql(&mut self, at: Location, entry: &SqlEntry) -> Option<Work> {
        match (&entry.lake, &entry.query, &entry.warehouse, &entry.script) {
            (Some(lake), Some(query), None, None) => {
                let lake = self.end(lake, &[PlaceKind::Lake]);
                let attach: Vec<Option<End>> = entry
                    .attach
                    .iter()
                    .map(|name| self.end(name, &[PlaceKind::Warehouse]))
                    .collect();
                let into = match &entry.into {
                    None => None,
                    Some(table) => match table.value.as_str().split_once('.') {
                        Some((database, name)) if !database.is_empty() && !name.is_empty() => {
                            Some((database.to_owned(), name.to_owned()))
                        }
                        _ => {
                            self.wrong(
                                table.referenced,
                                format!("`{}` is no table: write database.table", table.value),
                            );
                            None
                        }
                    },
                };
                Some(Work::Query(Query {
                    lake: lake?,
                    query: query.as_str().to_owned(),
                    into,
                    attach: attach.into_iter().collect::<Option<_>>()?,
                }))
            }
            (None, None, Some(warehouse), Some(script)) => {
                if entry.into.is_some() || !entry.attach.is_empty() {
                    self.wrong(at, "`into` and `attach` are for a `query` of a `lake`");
                }
                Some(Work::Script(Script {
                    warehouse: self.end(warehouse, &[PlaceKind::Warehouse])?,
                    script: script.as_str().to_owned(),
                }))
            }
            _ => {
                self.wrong(
                    at,
                    "`sql` has a `lake` and a `query`, or a `warehouse` and a `script`",
                );
                None
            }
        }
    }

    fn command(&mut self, at: Location, entry: CommandEntry) -> Option<Work> {
        let mut words = entry.run.iter().map(|word| word.as_str().to_owned());
        let Some(program) = words.next().filter(|program| !program.is_empty()) else {
            self.wrong(at, "`run` of a `command` names no program");
            return None;
        };
        for name in entry.environment.keys() {
            if name.is_empty() || name.contains(['=', '\0']) {
                self.wrong(
                    at,
                    format!("`{name}` is no name of an environment variable"),
                );
            }
        }
        Some(Work::Command(Command {
            program,
            arguments: words.collect(),
            directory: self.path(entry.directory.as_ref().map_or(".", Text::as_str)),
            environment: entry.environment,
            secrets: Arc::clone(&self.secrets),
        }))
    }
}

/// The names on a way round in `left`, in each of which something is before.
fn circle(
    first: &str,
    left: &BTreeSet<&str>,
    follows: &BTreeMap<String, Vec<Spanned<String>>>,
) -> Vec<String> {
    let mut way = vec![first.to_owned()];
    loop {
        let last = &way[way.len() - 1];
        let before = follows.get(last).into_iter().flatten();
        let next = before
            .map(|before| before.value.clone())
            .find(|name| left.contains(name.as_str()));
        let Some(next) = next else { return way };
        if let Some(begun) = way.iter().position(|name| *name == next) {
            way.push(next);
            return way.split_off(begun);
        }
        way.push(next);
    }
}

fn retries_of(entry: &RetriesEntry) -> Retries {
    let wait = entry.wait.map_or(FIRST_WAIT, |period| period.0);
    Retries {
        times: entry.times,
        wait,
        longest_wait: entry
            .longest_wait
            .map_or(LONGEST_WAIT, |period| period.0)
            .max(wait),
    }
}
