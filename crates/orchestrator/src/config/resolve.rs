//! From what the file says to what is to run: names are looked up, defaults filled in, and all that
//! is wrong is gathered.

mod ingest;
mod publish;
mod triggers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono_tz::Tz;
use serde_saphyr::{Location, Spanned};
use url::Url;

use super::file::{
    AlertsEntry, CommandEntry, CopyEntry, EmailEntry, File, FlowEntry, FollowEntry, JobEntry,
    LayoutEntry, Named, OnObjectEntry, ReceiverEntry, RetriesEntry, RuleEntry, ScheduleEntry,
    ServerEntry, SourceEntry, SqlEntry, StepEntry, SyncEntry, TelemetryEntry, VerifyEntry,
    WarehouseEntry,
};
use super::file::{Condition, Format, OnLostHistory};
use super::plan::{
    Command, Copy, Email, End, Flow, Job, Layout, MailTls, OnObject, Place, PlaceKind, Plan, Query,
    Receiver, Retries, Route, Rule, Schedule, Script, Server, Source, Step, Sync, Telemetry, Token,
    Verify, Warehouse, Watched, Work,
};
use super::problem::{Problem, unknown};
use super::values::{Name, Period, Text};

const STATE: &str = "tributary.state";
const KEEP_HISTORY: Duration = Duration::from_secs(90 * 24 * 3600);
const GATHER: Duration = Duration::from_secs(1);
const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(600);
const LISTEN: &str = "127.0.0.1:8087";
const LARGEST_REQUEST: usize = 1 << 20;
const METRICS_EVERY: Duration = Duration::from_secs(10);
/// Below this a query that runs could lose the files that it reads.
const LEAST_RETENTION: Duration = Duration::from_secs(3600);
/// The oplog window below which everybody is told, where the file has no rules.
const LEAST_WINDOW: Duration = Duration::from_secs(24 * 3600);
/// What a flow and a `sync` go into.
const FOLLOWED_INTO: [PlaceKind; 4] = [
    PlaceKind::Lake,
    PlaceKind::Warehouse,
    PlaceKind::Stream,
    PlaceKind::Files,
];
/// What can be guessed is no secret.
const SHORTEST_TOKEN: usize = 16;

/// Checks a file, and makes a plan of it.
pub(super) fn resolve(file: File, directory: &Path) -> Result<Plan, Vec<Problem>> {
    let mut resolver = Resolver {
        directory,
        places: BTreeMap::new(),
        publishing: publish::Publishing::new(),
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
    places: BTreeMap<String, Place>,
    /// The flows that changes go to places by as they are.
    publishing: publish::Publishing,
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
        let jobs = named(file.jobs, |_, job| self.job(job));
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

    /// The places that flows and steps can name. One name is one place, whatever it is.
    fn find_places(&mut self, file: &File, state: &Path) {
        let mut found: Vec<(String, Location, Place)> = Vec::new();
        for (name, entry) in &file.sources {
            let place = self.source_place(name, entry, file.server.is_some());
            found.extend(place.map(|place| (name.to_string(), entry.referenced, place)));
        }
        for (name, entry) in &file.lakes {
            let path = entry.value.path.as_str();
            if path.is_empty() {
                self.wrong(
                    entry.referenced,
                    format!("the `path` of lake `{name}` is empty"),
                );
            }
            let path = self.path_or_address(path);
            found.push((name.to_string(), entry.referenced, Place::Lake(path)));
        }
        for (name, entry) in &file.warehouses {
            let warehouse = self.warehouse(name, entry);
            found.push((
                name.to_string(),
                entry.referenced,
                Place::Warehouse(warehouse),
            ));
        }
        for (name, entry) in &file.streams {
            let place = Place::Stream(self.stream(name, entry, state));
            found.push((name.to_string(), entry.referenced, place));
        }
        for (name, entry) in &file.files {
            let place = Place::Files(self.files(name, entry));
            found.push((name.to_string(), entry.referenced, place));
        }
        for (name, at, place) in found {
            let kind = place.kind().name();
            if let Some(other) = self.places.get(&name) {
                let other = other.kind().name();
                let what =
                    format!("`{name}` is a {other} and a {kind}: give each a name of its own");
                self.wrong(at, what);
                continue;
            }
            self.places.insert(name, place);
        }
    }

    fn source_place(
        &mut self,
        name: &Name,
        entry: &Spanned<SourceEntry>,
        has_server: bool,
    ) -> Option<Place> {
        let (at, source) = (entry.referenced, &entry.value);
        let uri = match (&source.uri, &source.ingest) {
            (Some(uri), None) => uri,
            (None, Some(ingest)) => {
                if source.read_preference.is_some() {
                    let what =
                        format!("`read_preference` of source `{name}` is for one with `uri`");
                    self.wrong(at, what);
                }
                let ingest = self.ingest(at, name, ingest, has_server);
                return Some(Place::Ingest(ingest));
            }
            _ => {
                let what = format!("source `{name}` has a `uri` or `ingest`, and one of them only");
                self.wrong(at, what);
                return None;
            }
        };
        if !["mongodb://", "mongodb+srv://"]
            .iter()
            .any(|scheme| uri.as_str().starts_with(scheme))
        {
            self.wrong(
                at,
                format!("the `uri` of source `{name}` is not mongodb://… or mongodb+srv://…"),
            );
        }
        Some(Place::Source(Source {
            uri: uri.clone(),
            read_preference: source.read_preference,
        }))
    }

    fn warehouse(&mut self, name: &Name, entry: &Spanned<WarehouseEntry>) -> Warehouse {
        let warehouse = &entry.value;
        let scheme = warehouse.uri.as_str().split("://").next();
        let is_redshift = scheme == Some("redshift");
        if !is_redshift && !matches!(scheme, Some("postgres" | "postgresql")) {
            self.wrong(
                entry.referenced,
                format!("the `uri` of warehouse `{name}` is not postgres://… or redshift://…"),
            );
        } else if is_redshift && warehouse.s3_staging.is_none() {
            self.wrong(
                entry.referenced,
                format!(
                    "warehouse `{name}` has no `s3_staging`: Redshift copies rows from S3; name a place there, s3://bucket/prefix"
                ),
            );
        } else if !is_redshift && (warehouse.s3_staging.is_some() || warehouse.iam_role.is_some()) {
            self.wrong(
                entry.referenced,
                format!("`s3_staging` and `iam_role` of warehouse `{name}` are for Redshift"),
            );
        }
        let mut layouts = vec![(None, layout(&warehouse.layout))];
        for (table, entry_of_table) in &warehouse.tables {
            if table.split_once('.').is_none() {
                self.wrong(
                    entry.referenced,
                    format!(
                        "`{table}` of warehouse `{name}` is no table: write database.collection"
                    ),
                );
            }
            layouts.push((Some(table.clone()), layout(entry_of_table)));
        }
        Warehouse {
            uri: warehouse.uri.clone(),
            s3_staging: warehouse.s3_staging.clone(),
            iam_role: warehouse.iam_role.clone(),
            layouts,
        }
    }

    /// The place of a name, which is to be of one of these kinds.
    fn end(&mut self, name: &Spanned<String>, kinds: &[PlaceKind]) -> Option<End> {
        // One that is pushed to is a source as well, where either may stand; and who has no place for changes
        // as they are means none.
        let is_said = |kind: &&PlaceKind| match kind {
            PlaceKind::Ingest => !kinds.contains(&PlaceKind::Source),
            PlaceKind::Stream | PlaceKind::Files => {
                self.places.values().any(|place| place.kind() == **kind)
            }
            _ => true,
        };
        let words: Vec<&str> = kinds
            .iter()
            .filter(is_said)
            .map(|kind| kind.name())
            .collect();
        let words = words.join(" or ");
        match self.places.get(&name.value) {
            Some(place) if kinds.contains(&place.kind()) => {
                return Some(End {
                    name: name.value.clone(),
                    place: place.clone(),
                });
            }
            Some(place) => {
                let kind = place.kind().name();
                let what = format!("`{}` is a {kind}; here stands a {words}", name.value);
                self.wrong(name.referenced, what);
            }
            None => {
                let known = self
                    .places
                    .iter()
                    .filter(|(_, place)| kinds.contains(&place.kind()))
                    .map(|(name, _)| name.as_str());
                let what = unknown(&words, &name.value, known);
                self.wrong(name.referenced, what);
            }
        }
        None
    }

    fn route(
        &mut self,
        from: &Spanned<String>,
        to: &Spanned<String>,
        through: Option<&Spanned<String>>,
        targets: &[PlaceKind],
        collections: &[Text],
    ) -> Option<Route> {
        let kinds = [PlaceKind::Source, PlaceKind::Ingest, PlaceKind::Lake];
        let from_end = self.end(from, &kinds);
        let to_end = self.end(to, targets);
        let through_end = match through {
            Some(name) => Some(self.end(name, &[PlaceKind::Lake])?),
            None => None,
        };
        let (from_end, to_end) = (from_end?, to_end?);
        if to_end.place.takes_changes() && from_end.place.kind() != PlaceKind::Source {
            let (name, to, kind) = (&from_end.name, &to_end.name, from_end.place.kind().name());
            let what =
                format!("`{name}` is a {kind}: changes go to `{to}` from a source with `uri`");
            self.wrong(from.referenced, what);
        }
        match (from_end.place.kind(), to_end.place.kind(), through) {
            (PlaceKind::Source | PlaceKind::Ingest, PlaceKind::Warehouse, None) => self.wrong(
                to.referenced,
                "from a source into a warehouse it goes through a lake: name it with `through`",
            ),
            (PlaceKind::Lake, PlaceKind::Lake, _) => self.wrong(
                to.referenced,
                "from a lake it goes into a warehouse, not into another lake",
            ),
            (PlaceKind::Lake, _, Some(through))
            | (_, PlaceKind::Lake | PlaceKind::Stream | PlaceKind::Files, Some(through)) => self
                .wrong(
                    through.referenced,
                    "`through` is for what goes from a source into a warehouse",
                ),
            _ => {}
        }
        Some(Route {
            from: from_end,
            to: to_end,
            through: through_end,
            collections: collections.to_vec(),
        })
    }

    fn follow(&mut self, at: Location, route: &Route, options: &FollowEntry) {
        let least = Duration::from_secs(1);
        if options.heartbeat.is_some_and(|beat| beat.0 < least) {
            self.wrong(at, "`heartbeat` is 1s at least");
        }
        if route.to.place.takes_changes() {
            self.refuse_tables(at, route, options);
            return;
        }
        if options
            .retention
            .is_some_and(|kept| kept.0 < LEAST_RETENTION)
        {
            self.wrong(at, "`retention` is 1h at least: readers need their files");
        }
        if options.symlink_manifest == Some(true) && options.deletion_vectors != Some(false) {
            self.wrong(at, "`symlink_manifest` needs `deletion_vectors: false`");
        }
        if route.from.place.kind() == PlaceKind::Ingest
            && options.on_lost_history == Some(OnLostHistory::Reload)
        {
            self.wrong(
                at,
                "`on_lost_history: reload` is for a source with `uri`: what events are pushed of cannot be loaded",
            );
        }
        if route.from.place.kind() == PlaceKind::Lake {
            let given = [
                ("history", options.history.is_some()),
                ("index", options.index.is_some()),
                ("retention", options.retention.is_some()),
                ("heartbeat", options.heartbeat.is_some()),
                ("deletion_vectors", options.deletion_vectors.is_some()),
                ("symlink_manifest", options.symlink_manifest.is_some()),
                ("on_drop", options.on_drop.is_some()),
                ("on_lost_history", options.on_lost_history.is_some()),
            ];
            for (option, _) in given.iter().filter(|(_, is_given)| *is_given) {
                self.wrong(at, format!("`{option}` is for what comes from a source"));
            }
        }
    }

    fn flow(&mut self, name: &Name, entry: Spanned<FlowEntry>) -> Option<Flow> {
        let at = entry.referenced;
        let FlowEntry {
            from,
            to,
            through,
            collections,
            options,
            paused,
        } = entry.value;
        let route = self.route(&from, &to, through.as_ref(), &FOLLOWED_INTO, &collections)?;
        self.follow(at, &route, &options);
        self.publish_alone(to.referenced, &route, Some(name));
        Some(Flow {
            name: name.to_string(),
            route,
            options,
            paused,
        })
    }

    /// Checks that what follows what ends somewhere, and that all of it is there.
    fn check_order(
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

    fn job(&mut self, entry: Spanned<JobEntry>) -> Option<Job> {
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
        let on_object = on_object.map(|watched| self.on_object(&watched));
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

    fn on_object(&mut self, entry: &Spanned<OnObjectEntry>) -> Option<OnObject> {
        let OnObjectEntry {
            queue,
            directory,
            matching,
            gather,
        } = &entry.value;
        let watched = match (queue, directory) {
            (Some(queue), None) => {
                if !Url::parse(queue.as_str()).is_ok_and(|url| url.has_host()) {
                    self.wrong(
                        entry.referenced,
                        "`queue` is no address of an SQS queue, https://sqs.REGION.amazonaws.com/ACCOUNT/NAME",
                    );
                }
                Watched::Queue(queue.as_str().to_owned())
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
        let from_lake = route.from.place.kind() == PlaceKind::Lake;
        if from_lake && (entry.filter.is_some() || !entry.fields.is_empty()) {
            self.wrong(at, "`filter` and `fields` are for what comes from a source");
        }
        Some(Work::Copy(Copy {
            route,
            filter: entry.filter.clone(),
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
        let from = self.end(&entry.from, &[PlaceKind::Source]);
        let to = self.end(&entry.to, &[PlaceKind::Lake]);
        Some(Work::Verify(Verify {
            route: Route {
                from: from?,
                to: to?,
                through: None,
                collections: entry.collections.clone(),
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
        }))
    }

    fn receiver(&mut self, entry: &Spanned<ReceiverEntry>) -> Option<Receiver> {
        match (&entry.value.webhook, &entry.value.email, entry.value.stderr) {
            (Some(webhook), None, None) => {
                let url = Url::parse(webhook.url.value.as_str());
                if !url.is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
                    self.wrong(
                        webhook.url.referenced,
                        "`url` is no address of a webhook, https://…",
                    );
                }
                Some(Receiver::Webhook {
                    url: webhook.url.value.clone(),
                    headers: webhook.headers.clone(),
                })
            }
            (None, Some(email), None) => self.email(email),
            (None, None, Some(true)) => Some(Receiver::Stderr),
            _ => {
                self.wrong(
                    entry.referenced,
                    "a receiver is one of `webhook`, `email` and `stderr: true`, and one only",
                );
                None
            }
        }
    }

    fn email(&mut self, entry: &EmailEntry) -> Option<Receiver> {
        let url = Url::parse(entry.server.value.as_str()).ok();
        let server = url.as_ref().and_then(|url| {
            let (tls, port) = match url.scheme() {
                "smtps" => (MailTls::Wrapped, 465),
                "smtp" => (MailTls::StartTls, 587),
                "smtp+plain" => (MailTls::None, 25),
                _ => return None,
            };
            let host = url.host_str()?.to_owned();
            let is_bare = url.username().is_empty() && url.password().is_none();
            is_bare.then(|| (tls, host, url.port().unwrap_or(port)))
        });
        let Some((tls, host, port)) = server else {
            self.wrong(
                entry.server.referenced,
                "`server` is no address of a mail server: smtps://host, smtp://host or smtp+plain://host; user and password have keys of their own",
            );
            return None;
        };
        for address in entry.to.iter().chain([&entry.from]) {
            if address
                .value
                .as_str()
                .parse::<lettre::message::Mailbox>()
                .is_err()
            {
                self.wrong(
                    address.referenced,
                    format!("`{}` is no e-mail address", address.value),
                );
            }
        }
        if entry.to.is_empty() {
            self.wrong(entry.server.referenced, "`to` names nobody");
        }
        let login = match (&entry.user, &entry.password) {
            (Some(user), Some(password)) => Some((user.as_str().to_owned(), password.clone())),
            (None, None) => None,
            _ => {
                self.wrong(entry.server.referenced, "`user` and `password` go together");
                None
            }
        };
        Some(Receiver::Email(Email {
            tls,
            host,
            port,
            login,
            from: entry.from.value.to_string(),
            to: entry.to.iter().map(|to| to.value.to_string()).collect(),
        }))
    }

    fn rules(&mut self, alerts: &AlertsEntry, known: &Known) -> BTreeMap<String, Rule> {
        let everybody: Vec<String> = alerts.notify.keys().map(Name::to_string).collect();
        let Some(rules) = &alerts.rules else {
            return default_rules(&everybody);
        };
        named_from(rules, |entry| self.rule(entry, &everybody, known))
    }

    fn rule(&mut self, entry: &Spanned<RuleEntry>, everybody: &[String], known: &Known) -> Rule {
        let rule = &entry.value;
        for name in &rule.notify {
            if !everybody.contains(&name.value) {
                let known = everybody.iter().map(String::as_str);
                let what = unknown("receiver", &name.value, known);
                self.wrong(name.referenced, what);
            }
        }
        if everybody.is_empty() {
            self.wrong(
                entry.referenced,
                "there is nobody to tell: `notify` is empty",
            );
        }
        let notify: Vec<String> = match rule.notify.is_empty() {
            true => everybody.to_vec(),
            false => rule.notify.iter().map(|name| name.value.clone()).collect(),
        };
        let of_jobs = rule.when == Condition::RunFailed;
        let of_triggers = matches!(
            rule.when,
            Condition::TriggerSuspended | Condition::DeadLetters(_)
        );
        let of_flows = !of_jobs && !of_triggers && !matches!(rule.when, Condition::DiskAbove(_));
        if !of_jobs && let Some(first) = rule.jobs.first() {
            self.wrong(first.referenced, "`jobs` is for `run_failed`");
        }
        if !of_flows && let Some(first) = rule.flows.first() {
            self.wrong(first.referenced, "`flows` is for what is told of flows");
        }
        if !of_triggers && let Some(first) = rule.triggers.first() {
            let what = "`triggers` is for `trigger_suspended` and `dead_letters`";
            self.wrong(first.referenced, what);
        }
        Rule {
            when: rule.when.clone(),
            flows: self.selected("flow", &rule.flows, &known.flows),
            jobs: self.selected("job", &rule.jobs, &known.jobs),
            triggers: self.selected_triggers(&rule.triggers, known),
            notify,
            repeat: rule.repeat.map(|period| period.0),
        }
    }

    /// Patterns, each of which selects something.
    fn selected(
        &mut self,
        kind: &str,
        patterns: &[Spanned<Text>],
        names: &[String],
    ) -> Vec<glob::Pattern> {
        let mut selected = Vec::new();
        for text in patterns {
            let Some(pattern) = self.pattern(text) else {
                continue;
            };
            if !names.iter().any(|name| pattern.matches(name)) {
                let names = names.iter().map(String::as_str);
                let what = unknown(kind, text.value.as_str(), names);
                self.wrong(text.referenced, what);
            }
            selected.push(pattern);
        }
        selected
    }

    /// Patterns of triggers. Which ones an application has is not known here, only which ones are of none.
    fn selected_triggers(&mut self, texts: &[Spanned<Text>], known: &Known) -> Vec<glob::Pattern> {
        let mut selected = Vec::new();
        for text in texts {
            let pattern = text.value.as_str();
            let app = pattern.split_once('/').map(|(app, _)| app);
            let may_be_of_app = match (app, glob::Pattern::new(app.unwrap_or(pattern))) {
                (None, _) => pattern.contains(['*', '?', '[']) && !known.apps.is_empty(),
                (Some(_), Ok(app)) => known.apps.iter().any(|name| app.matches(name)),
                (Some(_), Err(_)) => false,
            };
            match may_be_of_app {
                true => selected.extend(self.pattern(text)),
                false => {
                    let one = std::slice::from_ref(text);
                    selected.extend(self.selected("trigger", one, &known.triggers));
                }
            }
        }
        selected
    }

    fn server(&mut self, entry: Spanned<ServerEntry>) -> Option<Server> {
        let server = entry.value;
        let (text, at) = match &server.listen {
            Some(listen) => (listen.value.as_str(), listen.referenced),
            None => (LISTEN, entry.referenced),
        };
        let Ok(listen) = text.parse::<std::net::SocketAddr>() else {
            self.wrong(
                at,
                format!("`{text}` is no address and port, such as 127.0.0.1:8087"),
            );
            return None;
        };
        let mut tokens = Vec::new();
        for (name, token) in server.tokens {
            if token.token.value.as_str().len() < SHORTEST_TOKEN {
                self.wrong(
                    token.token.referenced,
                    format!(
                        "the token `{name}` is too short: {SHORTEST_TOKEN} characters at least, as of `openssl rand -hex 32`"
                    ),
                );
            }
            tokens.push(Token {
                name: name.to_string(),
                token: token.token.value,
                role: token.role,
            });
        }
        if !listen.ip().is_loopback() {
            if tokens.is_empty() {
                self.wrong(at, "listening beyond this machine needs `tokens`");
            }
            if server.tls.is_none() && !server.behind_proxy {
                self.wrong(
                    at,
                    "listening beyond this machine needs `tls`, or `behind_proxy: true` where something before it has TLS",
                );
            }
        }
        Some(Server {
            listen,
            tls: server.tls.map(|tls| {
                (
                    self.path(tls.certificate.as_str()),
                    self.path(tls.key.as_str()),
                )
            }),
            tokens,
            largest_request: server
                .largest_request
                .and_then(|bytes| usize::try_from(bytes.get()).ok())
                .unwrap_or(LARGEST_REQUEST),
        })
    }

    fn telemetry(&mut self, entry: Spanned<TelemetryEntry>) -> Option<Telemetry> {
        let telemetry = entry.value;
        let otlp = telemetry.otlp.value.as_str();
        if !Url::parse(otlp).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
            self.wrong(
                telemetry.otlp.referenced,
                format!("`{otlp}` is no address of an OTLP collector, http://host:4318"),
            );
            return None;
        }
        Some(Telemetry {
            otlp: otlp.trim_end_matches('/').to_owned(),
            headers: telemetry.headers,
            interval: telemetry.interval.map_or(METRICS_EVERY, |period| period.0),
        })
    }
}

/// The names of what rules can be about.
struct Known {
    flows: Vec<String>,
    jobs: Vec<String>,
    /// Those without an application.
    triggers: Vec<String>,
    apps: Vec<String>,
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

fn layout(entry: &LayoutEntry) -> Layout {
    Layout {
        distribution: entry.distribution.clone(),
        sort_key: entry.sort_key.clone(),
        primary_key: entry.primary_key.clone(),
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

/// What is told where there are no rules.
fn default_rules(everybody: &[String]) -> BTreeMap<String, Rule> {
    if everybody.is_empty() {
        return BTreeMap::new();
    }
    let conditions = [
        ("failed-runs", Condition::RunFailed),
        ("failed-flows", Condition::FlowFailed),
        ("stopped-schemas", Condition::SchemaStopped),
        ("suspended-triggers", Condition::TriggerSuspended),
        (
            "short-oplog",
            Condition::OplogWindowBelow(Period(LEAST_WINDOW)),
        ),
    ];
    let rule = |when| Rule {
        when,
        flows: Vec::new(),
        jobs: Vec::new(),
        triggers: Vec::new(),
        notify: everybody.to_vec(),
        repeat: None,
    };
    conditions
        .into_iter()
        .map(|(name, when)| (name.to_owned(), rule(when)))
        .collect()
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
