//! Applications and triggers.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use croner::Cron;
use serde_saphyr::{Location, Spanned};
use tributary_convert::extjson;
use tributary_model::host::HostPattern;
use url::Url;

use super::Resolver;
use crate::config::file::{AppEntry, AwsEntry, ChangeKind, FunctionEntry, TriggerEntry};
use crate::config::plan::{
    App, Changes, End, FunctionOptions, Occasion, PlaceKind, Reach, Retries, Trigger,
};
use crate::config::values::{Name, Secret, Text};

/// Names of data sources, secrets and triggers are no longer.
const LONGEST_NAME: usize = 255;
/// A trigger that resumes more often than that would be busy with nothing else.
const LEAST_RESUME: Duration = Duration::from_secs(1);

impl Resolver<'_> {
    pub(super) fn app(&mut self, name: &Name, entry: Spanned<AppEntry>) -> Option<App> {
        let at = entry.referenced;
        let AppEntry {
            path,
            source,
            data_sources,
            environment,
            secrets,
            allow_hosts,
            aws,
            options,
            triggers,
        } = entry.value;
        if path.as_str().is_empty() {
            self.wrong(at, format!("the `path` of app `{name}` is empty"));
        }
        for (kind, names) in [
            ("data source", data_sources.keys().collect::<Vec<_>>()),
            ("trigger", triggers.keys().collect()),
        ] {
            for name in names {
                self.check_name(at, kind, name);
            }
        }
        let source = self.source(source.as_ref(), &[PlaceKind::Source]);
        let data_sources: BTreeMap<String, Option<End>> = data_sources
            .iter()
            .map(|(name, source)| {
                (
                    name.clone(),
                    self.source(Some(source), &[PlaceKind::Source]).flatten(),
                )
            })
            .collect();
        let reach = self.reach(at, secrets, allow_hosts, &aws);
        let options = self.options(at, &options, &FunctionOptions::default());
        let triggers = triggers
            .into_iter()
            .map(|(name, entry)| (name, self.options(at, &entry, &options)))
            .collect();
        let data_sources = data_sources
            .into_iter()
            .map(|(name, end)| Some((name, end?)))
            .collect::<Option<_>>()?;
        Some(App {
            name: name.to_string(),
            path: self.path(path.as_str()),
            source: source?,
            data_sources,
            environment,
            reach,
            options,
            triggers,
        })
    }

    pub(super) fn trigger(&mut self, name: &Name, entry: Spanned<TriggerEntry>) -> Option<Trigger> {
        let at = entry.referenced;
        let mut entry = entry.value;
        let secrets = std::mem::take(&mut entry.secrets);
        let allow_hosts = entry.allow_hosts.take();
        let reach = self.reach(at, secrets, allow_hosts, &entry.aws);
        let options = self.options(at, &entry.options, &FunctionOptions::default());
        if entry.function.as_str().is_empty() {
            self.wrong(at, format!("the `function` of trigger `{name}` is no file"));
        }
        // What runs by the clock has a source for its documents alone, which are not pushed.
        let kinds: &[PlaceKind] = match entry.schedule {
            Some(_) => &[PlaceKind::Source],
            None => &[PlaceKind::Source, PlaceKind::Ingest],
        };
        let source = self.source(entry.source.as_ref(), kinds);
        if let Some(Some(End { place, .. })) = &source
            && place.kind() == PlaceKind::Ingest
            && (entry.matching.is_some() || entry.project.is_some())
        {
            self.wrong(at, "`match` and `project` are for a source with `uri`");
        }
        let occasion = match &entry.schedule {
            Some(schedule) => {
                self.check_scheduled(at, &entry);
                let cron = self.cron(schedule);
                Occasion::Moments {
                    text: schedule.value.as_str().to_owned(),
                    cron: Box::new(cron?),
                }
            }
            None => Occasion::Changes(self.changes(at, &entry)?),
        };
        Some(Trigger {
            name: name.to_string(),
            source: source?,
            occasion,
            skip_catchup_events: entry.skip_catchup_events,
            function: self.path(entry.function.as_str()),
            reach,
            options,
        })
    }

    /// A source that is named or not; none where the name is wrong.
    fn source(
        &mut self,
        name: Option<&Spanned<String>>,
        kinds: &[PlaceKind],
    ) -> Option<Option<End>> {
        match name {
            None => Some(None),
            Some(name) => self.end(name, kinds).map(Some),
        }
    }

    fn check_name(&mut self, at: Location, kind: &str, name: &str) {
        if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
            self.wrong(at, format!("`{name}` is no name of a {kind}"));
        }
    }

    fn reach(
        &mut self,
        at: Location,
        secrets: BTreeMap<String, Secret>,
        allow_hosts: Option<Vec<Spanned<Text>>>,
        aws: &AwsEntry,
    ) -> Reach {
        for name in secrets.keys() {
            self.check_name(at, "secret", name);
        }
        let allow_hosts = allow_hosts.map(|hosts| {
            hosts
                .iter()
                .filter_map(|host| self.host_pattern(host))
                .collect()
        });
        if let Some(endpoint) = &aws.endpoint {
            let url = Url::parse(endpoint.value.as_str());
            if !url.is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
                let what = format!("`{}` is no address, https://host[:port]", endpoint.value);
                self.wrong(endpoint.referenced, what);
            }
        }
        let text = |text: &Text| text.as_str().to_owned();
        Reach {
            secrets,
            allow_hosts,
            aws_endpoint: aws.endpoint.as_ref().map(|endpoint| text(&endpoint.value)),
            aws_region: aws.region.as_ref().map(text),
        }
    }

    /// A host, a pattern of hosts, or a network: no address.
    fn host_pattern(&mut self, host: &Spanned<Text>) -> Option<String> {
        let text = host.value.as_str();
        if let Err(reason) = HostPattern::parse(text) {
            self.wrong(
                host.referenced,
                format!(
                    "`{text}` cannot be allowed: {reason}; write it without scheme and path, as api.example.com, \
                     *.example.com, example.com:8443 or 10.0.0.0/8"
                ),
            );
            return None;
        }
        Some(text.to_lowercase())
    }

    /// What an entry says, and `base` where it says nothing.
    fn options(
        &mut self,
        at: Location,
        entry: &FunctionEntry,
        base: &FunctionOptions,
    ) -> FunctionOptions {
        if entry.timeout.is_some_and(|timeout| timeout.0.is_zero()) {
            self.wrong(at, "`timeout` is more than nothing");
        }
        if entry.auto_resume.is_some_and(|wait| wait.0 < LEAST_RESUME) {
            self.wrong(at, "`auto_resume` is 1s at least");
        }
        let retries = &entry.retries;
        let wait = retries.wait.map_or(base.retries.wait, |period| period.0);
        let longest_wait = retries
            .longest_wait
            .map_or(base.retries.longest_wait, |period| period.0);
        FunctionOptions {
            disabled: entry.disabled.or(base.disabled),
            timeout: entry.timeout.map_or(base.timeout, |period| period.0),
            memory: entry.memory.map_or(base.memory, |memory| memory.bytes()),
            concurrency: entry.concurrency.map_or(base.concurrency, |count| {
                usize::try_from(count.get()).unwrap_or(usize::MAX)
            }),
            retries: Retries {
                times: retries.times.unwrap_or(base.retries.times),
                wait,
                longest_wait: longest_wait.max(wait),
            },
            on_failure: entry.on_failure.unwrap_or(base.on_failure),
            auto_resume: entry.auto_resume.map(|wait| wait.0).or(base.auto_resume),
            log_successes: entry.log_successes.unwrap_or(base.log_successes),
        }
    }

    fn check_scheduled(&mut self, at: Location, entry: &TriggerEntry) {
        let given = [
            ("database", entry.database.is_some()),
            ("collection", entry.collection.is_some()),
            ("operations", !entry.operations.is_empty()),
            ("match", entry.matching.is_some()),
            ("project", entry.project.is_some()),
            ("full_document", entry.full_document.is_some()),
            (
                "full_document_before_change",
                entry.full_document_before_change.is_some(),
            ),
            ("ordered", entry.ordered.is_some()),
            (
                "tolerate_resume_errors",
                entry.tolerate_resume_errors.is_some(),
            ),
        ];
        for (key, _) in given.iter().filter(|(_, is_given)| *is_given) {
            let what =
                format!("`{key}` is for a trigger on changes, and this one has a `schedule`");
            self.wrong(at, what);
        }
    }

    fn changes(&mut self, at: Location, entry: &TriggerEntry) -> Option<Changes> {
        if entry.source.is_none() {
            self.wrong(
                at,
                "a trigger has a `source` whose changes it runs on, or a `schedule`",
            );
        }
        if entry.operations.is_empty() {
            self.wrong(
                at,
                "`operations` says what a trigger runs on, such as [insert, update]",
            );
        }
        if let (Some(collection), None) = (&entry.collection, &entry.database) {
            self.wrong(collection.referenced, "`collection` needs its `database`");
        }
        for (i, operation) in entry.operations.iter().enumerate() {
            let before = entry.operations.get(..i).unwrap_or_default();
            let name = operation.value.name();
            if before.iter().any(|before| before.value == operation.value) {
                self.wrong(operation.referenced, format!("`{name}` is there twice"));
            }
            if operation.value == ChangeKind::DropDatabase && entry.collection.is_some() {
                self.wrong(
                    operation.referenced,
                    "`drop_database` is no change of a collection: leave `collection` out",
                );
            }
        }
        let matching = entry.matching.as_ref().map(|text| self.document(text));
        let project = entry.project.as_ref().map(|text| self.document(text));
        let text = |text: &Text| text.as_str().to_owned();
        Some(Changes {
            database: entry.database.as_ref().map(text),
            collection: entry.collection.as_ref().map(|name| text(&name.value)),
            operations: entry.operations.iter().map(|kind| kind.value).collect(),
            matching: matching.map_or(Some(None), |document| document.map(Some))?,
            project: project.map_or(Some(None), |document| document.map(Some))?,
            full_document: entry.full_document == Some(true),
            full_document_before_change: entry.full_document_before_change == Some(true),
            ordered: entry.ordered != Some(false),
            tolerate_resume_errors: entry.tolerate_resume_errors == Some(true),
        })
    }

    /// A document that is written as Extended JSON.
    fn document(&mut self, text: &Spanned<Text>) -> Option<Bytes> {
        match extjson::parse_document(text.value.as_str()) {
            Ok(document) => Some(document.into()),
            Err(error) => {
                self.wrong(
                    text.referenced,
                    format!("this is no document in Extended JSON: {error}"),
                );
                None
            }
        }
    }

    /// A pattern of moments in UTC.
    fn cron(&mut self, text: &Spanned<Text>) -> Option<Cron> {
        let cron = self.cron_pattern(text)?;
        self.check_comes(text, &cron, chrono_tz::Tz::UTC)?;
        Some(cron)
    }

    /// A pattern, which may be one of moments that never come.
    pub(super) fn cron_pattern(&mut self, text: &Spanned<Text>) -> Option<Cron> {
        let written = text.value.as_str();
        Cron::from_str(written)
            .inspect_err(|error| {
                self.wrong(
                    text.referenced,
                    format!(
                        "`{written}` is no cron pattern: {}; write minute, hour, day of month, month and day of week, such as `0 2 * * *`",
                        error.to_string().trim_end_matches('.').to_lowercase()
                    ),
                );
            })
            .ok()
    }

    /// Tells where a pattern is one of moments that never come.
    pub(super) fn check_comes(
        &mut self,
        text: &Spanned<Text>,
        cron: &Cron,
        zone: chrono_tz::Tz,
    ) -> Option<()> {
        let now = chrono::Utc::now().with_timezone(&zone);
        if cron.find_next_occurrence(&now, false).is_err() {
            let what = format!("`{}` is a moment that never comes", text.value);
            self.wrong(text.referenced, what);
            return None;
        }
        Some(())
    }
}
