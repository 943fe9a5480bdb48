//! Who is told of what.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_saphyr::Spanned;
use url::Url;

use super::{Resolver, named_from};
use crate::config::file::{AlertsEntry, Condition, EmailEntry, ReceiverEntry, RuleEntry};
use crate::config::plan::{Email, MailTls, Receiver, Rule};
use crate::config::problem::unknown;
use crate::config::values::{Name, Period, Text};

/// The oplog window below which everybody is told, where the file has no rules.
const LEAST_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// The names of what rules can be about.
pub(super) struct Known {
    pub(super) flows: Vec<String>,
    pub(super) jobs: Vec<String>,
    /// Those without an application.
    pub(super) triggers: Vec<String>,
    pub(super) apps: Vec<String>,
}

impl Resolver<'_> {
    pub(super) fn receiver(&mut self, entry: &Spanned<ReceiverEntry>) -> Option<Receiver> {
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

    pub(super) fn rules(&mut self, alerts: &AlertsEntry, known: &Known) -> BTreeMap<String, Rule> {
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
