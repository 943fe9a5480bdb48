//! What there is: triggers and applications of a plan, by what they say and without reaching anything.

use chrono::Utc;
use croner::Cron;
use serde::Serialize;
use tributary_functions::app::{
    self, App, Finding, Processor as AppProcessor, ServiceKind, Summary,
};
use tributary_model::{Error, ErrorKind, Result};
use tributary_orchestrator::config::{self, Plan};
use tributary_orchestrator::engine::KnownTrigger;
use tributary_orchestrator::status::TriggerKind;

use super::reach::{no_source, other_service, outbound, source_of};
use super::source::{read, read_function};

/// A trigger, whether it runs or not.
pub(super) struct Known {
    trigger: KnownTrigger,
    /// When it runs, where it runs at moments.
    cron: Option<Cron>,
}

impl Known {
    /// What is known of it now.
    pub(super) fn now(&self) -> KnownTrigger {
        let next = self
            .cron
            .as_ref()
            .and_then(|cron| cron.find_next_occurrence(&Utc::now(), false).ok());
        KnownTrigger {
            next_at: next,
            ..self.trigger.clone()
        }
    }

    pub(super) fn of_app(app: &config::App, read: &App, one: &app::Trigger) -> Self {
        let (kind, watches, source, cron) = match &one.event {
            app::TriggerEvent::Scheduled(scheduled) => (
                TriggerKind::Scheduled,
                scheduled.text.clone(),
                None,
                Some(scheduled.cron.clone()),
            ),
            app::TriggerEvent::Database(database) => {
                let watches = match (&database.database, &database.collection) {
                    (Some(database), Some(collection)) => format!("{database}.{collection}"),
                    (Some(database), None) => database.clone(),
                    (None, _) => "all databases".to_owned(),
                };
                let source = source_of(app, &database.service).map(|end| end.name.clone());
                (TriggerKind::Database, watches, source, None)
            }
        };
        let options = app.options_of(&one.name);
        let function = match &one.function {
            AppProcessor::Function(function) => read.functions.get(function),
            AppProcessor::EventBridge(_) => None,
        };
        Self {
            trigger: KnownTrigger {
                name: format!("{}/{}", app.name, one.name),
                app: Some(app.name.clone()),
                kind,
                function: match &one.function {
                    AppProcessor::Function(function) => function.clone(),
                    AppProcessor::EventBridge(_) => "EventBridge".to_owned(),
                },
                source,
                watches,
                is_disabled: options.disabled.unwrap_or(one.disabled),
                hides_arguments: function.is_some_and(|function| function.hides_arguments),
                next_at: None,
            },
            cron,
        }
    }

    pub(super) fn of_plan(one: &config::Trigger) -> Self {
        let cron = match &one.occasion {
            config::Occasion::Moments { cron, .. } => Some((**cron).clone()),
            config::Occasion::Changes(_) => None,
        };
        Self {
            trigger: KnownTrigger::of(one),
            cron,
        }
    }
}

/// All triggers of a plan, those of its applications included.
///
/// # Errors
/// An application cannot be read.
pub(crate) fn known(plan: &Plan) -> Result<Vec<KnownTrigger>> {
    let mut all = Vec::new();
    for app in plan.apps.values() {
        let read = read(app).map_err(|error| error.on("app", &app.name))?;
        all.extend(
            read.triggers
                .iter()
                .map(|one| Known::of_app(app, &read, one).now()),
        );
    }
    all.extend(plan.triggers.values().map(|one| Known::of_plan(one).now()));
    Ok(all)
}

/// What an application has, and what of it cannot be honoured.
#[derive(Debug, Serialize)]
pub(crate) struct AppReport {
    /// Its name.
    pub(crate) name: String,
    /// What it has.
    pub(crate) summary: Summary,
    /// What cannot be honoured.
    pub(crate) findings: Vec<Finding>,
}

/// Looks at all applications and functions of a plan, and reaches nothing.
///
/// # Errors
/// One of them could not run.
pub(crate) fn look(plan: &Plan) -> Result<Vec<AppReport>> {
    let mut reports = Vec::new();
    for app in plan.apps.values() {
        let look = || {
            let read = read(app)?;
            unknown_triggers(app, &read)?;
            outbound(&app.reach)?;
            for service in read.services.values() {
                match service.kind {
                    ServiceKind::MongoDb if source_of(app, &service.name).is_none() => {
                        return Err(no_source(app, &service.name));
                    }
                    ServiceKind::MongoDb => {}
                    _ => drop(other_service(service, &app.reach)?),
                }
            }
            Ok(read)
        };
        let read: App = look().map_err(|error: Error| error.on("app", &app.name))?;
        reports.push(AppReport {
            name: app.name.clone(),
            summary: read.summary(),
            findings: read.findings,
        });
    }
    for trigger in plan.triggers.values() {
        let on = |error: Error| error.on("trigger", &trigger.name);
        read_function(&trigger.function).map_err(on)?;
        outbound(&trigger.reach).map_err(on)?;
    }
    Ok(reports)
}

/// The first override of a trigger that the application does not have.
pub(super) fn unknown_triggers(app: &config::App, read: &App) -> Result<()> {
    for name in app.triggers.keys() {
        if !read.triggers.iter().any(|trigger| trigger.name == *name) {
            let known: Vec<&str> = read.triggers.iter().map(|one| one.name.as_str()).collect();
            return Err(
                Error::new(ErrorKind::Usage, "the application has no such trigger")
                    .on("app", &app.name)
                    .on("trigger", name)
                    .remedy(match known.is_empty() {
                        true => "it has none at all".to_owned(),
                        false => format!("it has {}", known.join(", ")),
                    }),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
