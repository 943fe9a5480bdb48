//! An application in a few lines.

use serde::Serialize;

use super::problem::Finding;
use super::trigger::{Processor, TriggerEvent};
use super::{App, Trigger};

/// What an application holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Its name.
    pub name: String,
    /// Its id in App Services, empty where that is not known.
    pub id: String,
    /// The environment whose values it has; empty for none.
    pub environment: String,
    /// How many functions it has.
    pub functions: usize,
    /// How many modules functions may require.
    pub modules: usize,
    /// How many values it has, those of the environment included.
    pub values: usize,
    /// Its triggers, by name.
    pub triggers: Vec<TriggerSummary>,
    /// Its services, each `NAME (KIND)`.
    pub services: Vec<String>,
    /// Its endpoints, each `METHOD ROUTE`.
    pub endpoints: Vec<String>,
    /// Its log forwarders, by name.
    pub log_forwarders: Vec<String>,
    /// What it asks for and does not get.
    pub findings: Vec<Finding>,
}

/// A trigger in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TriggerSummary {
    /// Its name.
    pub name: String,
    /// Whether it is not to run.
    pub disabled: bool,
    /// When it fires.
    pub when: String,
    /// What is done then.
    pub does: String,
}

impl TriggerSummary {
    fn of(trigger: &Trigger) -> Self {
        let when = match &trigger.event {
            TriggerEvent::Database(database) => {
                let operations: Vec<&str> = database
                    .operations
                    .iter()
                    .map(|operation| operation.name())
                    .collect();
                let names = [&database.database, &database.collection];
                let mut place = database.service.clone();
                for name in names.into_iter().flatten() {
                    place.push('/');
                    place.push_str(name);
                }
                format!("on {} of {place}", operations.join(", "))
            }
            TriggerEvent::Scheduled(scheduled) => format!("at `{}` UTC", scheduled.text),
        };
        let does = match &trigger.function {
            Processor::Function(name) => format!("calls `{name}`"),
            Processor::EventBridge(bridge) => format!(
                "sends to EventBridge of {} in {}",
                bridge.account_id, bridge.region
            ),
        };
        Self {
            name: trigger.name.clone(),
            disabled: trigger.disabled,
            when,
            does,
        }
    }
}

impl Summary {
    pub(super) fn of(app: &App) -> Self {
        Self {
            name: app.metadata.name.clone(),
            id: app.metadata.id.clone(),
            environment: app.environment.clone(),
            functions: app.functions.len(),
            modules: app.modules.len(),
            values: app.values.len() + app.environment_values.len(),
            triggers: app.triggers.iter().map(TriggerSummary::of).collect(),
            services: app
                .services
                .values()
                .map(|service| format!("{} ({})", service.name, service.kind.name()))
                .collect(),
            endpoints: app
                .endpoints
                .iter()
                .map(|endpoint| format!("{} {}", endpoint.method.name(), endpoint.route))
                .collect(),
            log_forwarders: app
                .log_forwarders
                .iter()
                .map(|forwarder| forwarder.name.clone())
                .collect(),
            findings: app.findings.clone(),
        }
    }

    /// The summary as lines of text.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "application {}: {} functions, {} modules, {} values",
            self.name, self.functions, self.modules, self.values
        )];
        for trigger in &self.triggers {
            let disabled = if trigger.disabled { " (disabled)" } else { "" };
            lines.push(format!(
                "trigger {}{disabled}: {} {}",
                trigger.name, trigger.when, trigger.does
            ));
        }
        let listed = [
            ("service", &self.services),
            ("endpoint", &self.endpoints),
            ("log forwarder", &self.log_forwarders),
        ];
        for (what, names) in listed {
            lines.extend(names.iter().map(|name| format!("{what} {name}")));
        }
        lines.extend(
            self.findings
                .iter()
                .map(|finding| format!("not honoured: {finding}")),
        );
        lines
    }
}
