//! The files of `triggers/`.

use std::collections::{BTreeMap, btree_map};

use bytes::Bytes;
use serde_json::Value;

use super::{
    DatabaseTrigger, EventBridge, Operation, Processor, ScheduledTrigger, Trigger, TriggerEvent,
    parse_expression,
};
use crate::app::directory::Directory;
use crate::app::fields::Fields;
use crate::app::function::Function;
use crate::app::problem::meant;
use crate::app::service::{ServiceKind, Services};

/// What triggers name.
pub(in crate::app) struct Named<'n> {
    pub(in crate::app) functions: &'n BTreeMap<String, Function>,
    pub(in crate::app) services: &'n mut Services,
}

/// Reads `triggers/`.
pub(in crate::app) fn read_triggers(
    directory: &mut Directory<'_>,
    named: &mut Named<'_>,
) -> Vec<Trigger> {
    let mut triggers: BTreeMap<String, Trigger> = BTreeMap::new();
    for path in directory.json_files("triggers") {
        let Some(trigger) = read_trigger(directory, &path, named) else {
            continue;
        };
        match triggers.entry(trigger.name.clone()) {
            btree_map::Entry::Occupied(other) => {
                let what = format!(
                    "the trigger `{}` is in {} too",
                    trigger.name,
                    other.get().file
                );
                directory.wrong(&path, what, "give one of them another name");
            }
            btree_map::Entry::Vacant(place) => {
                place.insert(trigger);
            }
        }
    }
    triggers.into_values().collect()
}

fn read_trigger(
    directory: &mut Directory<'_>,
    path: &str,
    named: &mut Named<'_>,
) -> Option<Trigger> {
    let mut fields = Fields::new(path, directory.object(path)?);
    fields.skip(&["id", "_id", "function_id"]);
    let name = fields.needed(directory, "name");
    let kind = fields.needed(directory, "type");
    let disabled = fields.flag(directory, "disabled");
    let config = fields.object(directory, "config");
    let event = match kind.as_deref() {
        Some("DATABASE") => {
            read_database(directory, path, config, named).map(TriggerEvent::Database)
        }
        Some("SCHEDULED") => read_schedule(directory, path, config).map(TriggerEvent::Scheduled),
        Some("AUTHENTICATION") => {
            directory.found(
                path,
                "triggers on the authentication of users do not run: there are no users",
                "remove it",
            );
            return None;
        }
        Some(other) => {
            directory.wrong(
                path,
                format!("there is no trigger of type `{other}`"),
                "use DATABASE or SCHEDULED",
            );
            None
        }
        None => None,
    };
    let function = read_processor(directory, path, &mut fields);
    fields.refuse(
        directory,
        "error_handler",
        "what fails is kept as failed, and no function is called",
        "watch the executions of the trigger instead",
    );
    fields.finish(directory);
    let (name, function) = (name?, function?);
    if let Processor::Function(called) = &function {
        check_function(directory, path, &name, called, disabled, named);
    }
    match Trigger::new(name, path, event?, function) {
        Ok(trigger) => Some(Trigger {
            disabled,
            ..trigger
        }),
        Err(what) => {
            directory.wrong(path, what, "give it another name");
            None
        }
    }
}

fn check_function(
    directory: &mut Directory<'_>,
    path: &str,
    trigger: &str,
    called: &str,
    disabled: bool,
    named: &Named<'_>,
) {
    if named.functions.contains_key(called) {
        return;
    }
    let what = format!("the trigger `{trigger}` calls `{called}`, and there is no such function");
    let known = named.functions.keys().map(String::as_str);
    let remedy = meant(called, known, &format!("add functions/{called}.js"));
    // App Services disables a trigger whose function is deleted, and exports it so.
    match disabled {
        true => directory.found(path, what, remedy),
        false => directory.wrong(path, what, remedy),
    }
}

/// The name of the function in `function_name`, or what `event_processors` says.
fn read_processor(
    directory: &mut Directory<'_>,
    path: &str,
    fields: &mut Fields<'_>,
) -> Option<Processor> {
    let of_trigger = fields.text(directory, "function_name");
    let mut processors = fields.object(directory, "event_processors");
    let mut function = processors.object(directory, "FUNCTION");
    let mut config = function.object(directory, "config");
    config.skip(&["function_id"]);
    let of_processor = config.text(directory, "function_name");
    config.finish(directory);
    function.finish(directory);
    let mut bridge = processors.object(directory, "AWS_EVENTBRIDGE");
    let mut config = bridge.object(directory, "config");
    let is_bridge = !config.is_empty();
    let account = match is_bridge {
        true => config.needed(directory, "account_id"),
        false => None,
    };
    let region = match is_bridge {
        true => config.needed(directory, "region"),
        false => None,
    };
    let extended_json = config.flag(directory, "extended_json_enabled");
    config.finish(directory);
    bridge.finish(directory);
    processors.finish(directory);

    if let (Some(one), Some(other)) = (&of_trigger, &of_processor)
        && one != other
    {
        directory.wrong(
            path,
            format!("`function_name` is `{one}`, and in `event_processors` it is `{other}`"),
            "name one function",
        );
        return None;
    }
    match (of_processor.or(of_trigger), is_bridge) {
        (Some(function), false) => Some(Processor::Function(function)),
        (None, true) => match EventBridge::new(account?, region?, extended_json) {
            Ok(bridge) => Some(Processor::EventBridge(bridge)),
            Err(what) => {
                directory.wrong(path, what, "correct `account_id`");
                None
            }
        },
        (Some(_), true) => {
            directory.wrong(
                path,
                "it has a function and AWS EventBridge for its events",
                "keep one of them",
            );
            None
        }
        (None, false) => {
            directory.wrong(
                path,
                "nothing is said of what is done with its events",
                "name a function in `event_processors.FUNCTION.config.function_name`",
            );
            None
        }
    }
}

fn read_schedule(
    directory: &mut Directory<'_>,
    path: &str,
    mut config: Fields<'_>,
) -> Option<ScheduledTrigger> {
    // The form in which the schedule was entered.
    config.skip(&["schedule_type"]);
    let schedule = config.needed(directory, "schedule");
    let skip_catchup_events = config.flag(directory, "skip_catchup_events");
    config.finish(directory);
    match ScheduledTrigger::new(&schedule?, skip_catchup_events) {
        Ok(scheduled) => Some(scheduled),
        Err(what) => {
            directory.wrong(
                path,
                what,
                "write `config.schedule` such as `0 2 * * *`, in UTC",
            );
            None
        }
    }
}

fn read_database(
    directory: &mut Directory<'_>,
    path: &str,
    mut config: Fields<'_>,
    named: &mut Named<'_>,
) -> Option<DatabaseTrigger> {
    let service = read_service(directory, path, &mut config, named.services);
    let database = config.text(directory, "database");
    let collection = config.text(directory, "collection");
    let names = config.texts(directory, "operation_types");
    let full_document = config.flag(directory, "full_document");
    let full_document_before_change = config.flag(directory, "full_document_before_change");
    let matching = read_expression(directory, path, &mut config, "match");
    let project = read_expression(directory, path, &mut config, "project");
    let unordered = config.flag(directory, "unordered");
    let skip_catchup_events = config.flag(directory, "skip_catchup_events");
    let tolerate_resume_errors = config.flag(directory, "tolerate_resume_errors");
    let maximum_throughput = config.flag(directory, "maximum_throughput");
    config.finish(directory);

    let mut operations = Vec::with_capacity(names.len());
    for name in names {
        match Operation::parse(&name) {
            Ok(operation) => operations.push(operation),
            Err(what) => {
                directory.wrong(path, what, "correct `config.operation_types`");
                return None;
            }
        }
    }
    // Without one, what it watches is looked at all the same.
    let known = service.is_some();
    let trigger = DatabaseTrigger::new(
        service.unwrap_or_default(),
        database,
        collection,
        operations,
    );
    match trigger {
        Ok(trigger) => known.then_some(DatabaseTrigger {
            full_document,
            full_document_before_change,
            matching,
            project,
            unordered,
            skip_catchup_events,
            tolerate_resume_errors,
            maximum_throughput,
            ..trigger
        }),
        Err(what) => {
            directory.wrong(
                path,
                what,
                "correct `database`, `collection` or `operation_types` of `config`",
            );
            None
        }
    }
}

/// An expression, as an object or as the text of one.
fn read_expression(
    directory: &mut Directory<'_>,
    path: &str,
    config: &mut Fields<'_>,
    key: &str,
) -> Option<Bytes> {
    let parsed = match config.value(key)? {
        Value::String(text) => parse_expression(&text),
        Value::Object(object) => parse_expression(&Value::Object(object).to_string()),
        _ => Err("it is no document".to_owned()),
    };
    parsed.unwrap_or_else(|what| {
        directory.wrong(
            path,
            format!("`config.{key}` cannot be used: {what}"),
            "write a document of Extended JSON",
        );
        None
    })
}

/// The service that a trigger watches, by its name, its id or its cluster.
fn read_service(
    directory: &mut Directory<'_>,
    path: &str,
    config: &mut Fields<'_>,
    services: &mut Services,
) -> Option<String> {
    let name = config.text(directory, "service_name");
    let id = config.text(directory, "service_id");
    let mut clusters = config.texts(directory, "cluster_names");
    clusters.extend(config.text(directory, "cluster_name"));
    clusters.dedup();
    if let Some(name) = name {
        return check_service(directory, path, name, services);
    }
    if let [_, _, ..] = clusters.as_slice() {
        directory.wrong(
            path,
            "it watches several clusters",
            "write a trigger for each, with the cluster's data source as `config.service_name`",
        );
        return None;
    }
    if let Some(cluster) = clusters.pop() {
        return match services.of_cluster(&cluster) {
            Some(service) => Some(service),
            None => check_service(directory, path, cluster, services),
        };
    }
    if let Some(service) = id.as_deref().and_then(|id| services.of_id(id)) {
        return Some(service);
    }
    let mut databases = services.databases();
    match (databases.next(), databases.next()) {
        (Some(only), None) => Some(only.to_owned()),
        (None, _) => {
            drop(databases);
            check_service(directory, path, "mongodb-atlas".to_owned(), services)
        }
        (Some(_), Some(_)) => {
            drop(databases);
            directory.wrong(
                path,
                "nothing says which of the data sources it watches",
                "name one in `config.service_name`",
            );
            None
        }
    }
}

/// Checks that a service is a database. An application that describes none of its data sources has those that
/// its triggers name.
pub(in crate::app) fn check_service(
    directory: &mut Directory<'_>,
    path: &str,
    name: String,
    services: &mut Services,
) -> Option<String> {
    let kind = services.by_name.get(&name).map(|service| service.kind);
    match kind {
        Some(ServiceKind::MongoDb) => Some(name),
        Some(_) => {
            directory.wrong(
                path,
                format!("the service `{name}` is no database"),
                "name a data source",
            );
            None
        }
        None if services.databases().next().is_none() => {
            directory.found(
                path,
                format!("the data source `{name}` is not described"),
                format!("add data_sources/{name}/config.json"),
            );
            services.imply(&name);
            Some(name)
        }
        None => {
            let remedy = meant(&name, services.databases(), "add it to data_sources/");
            directory.wrong(path, format!("there is no data source `{name}`"), remedy);
            None
        }
    }
}
