//! Where the logs of an application are to go as well.

use std::collections::BTreeMap;

use super::directory::Directory;
use super::fields::Fields;
use super::function::Function;
use super::problem::meant;
use super::service::Services;
use super::trigger::check_service;

/// What logs are about, where anything here writes logs of it.
const LOG_TYPES: [&str; 5] = [
    "endpoint",
    "function",
    "service",
    "trigger",
    "trigger_error_handler",
];
/// What else App Services logs, and nothing here does.
const OTHER_LOG_TYPES: [&str; 5] = ["auth", "graphql", "push", "schema", "sync"];
const LOG_STATUSES: [&str; 2] = ["error", "success"];

/// Something that logs are forwarded to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogForwarder {
    /// Its name.
    pub name: String,
    /// The file that it is written in, relative to the application's directory.
    pub file: String,
    /// What the logs are about: of `endpoint`, `function`, `service`, `trigger` and `trigger_error_handler`.
    pub log_types: Vec<String>,
    /// How what they tell of ended: `error`, `success` or both.
    pub log_statuses: Vec<String>,
    /// Whether they come many at a time.
    pub is_batched: bool,
    /// Whether nothing is forwarded.
    pub disabled: bool,
    /// What is done with them.
    pub action: LogAction,
}

/// What is done with logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogAction {
    /// The function of this name is called with them.
    Function(String),
    /// They are put into a collection.
    Collection {
        /// The service of the deployment.
        service: String,
        /// The database.
        database: String,
        /// The collection.
        collection: String,
    },
}

/// Reads `log_forwarders/`.
pub(super) fn read_log_forwarders(
    directory: &mut Directory<'_>,
    functions: &BTreeMap<String, Function>,
    services: &mut Services,
) -> Vec<LogForwarder> {
    let mut forwarders: Vec<LogForwarder> = Vec::new();
    for path in directory.json_files("log_forwarders") {
        let Some(forwarder) = read_forwarder(directory, &path, functions, services) else {
            continue;
        };
        if let Some(other) = forwarders.iter().find(|other| other.name == forwarder.name) {
            let what = format!("`{}` is in {} too", forwarder.name, other.file);
            directory.wrong(&path, what, "give one of them another name");
        }
        forwarders.push(forwarder);
    }
    forwarders
}

fn read_forwarder(
    directory: &mut Directory<'_>,
    path: &str,
    functions: &BTreeMap<String, Function>,
    services: &mut Services,
) -> Option<LogForwarder> {
    let mut fields = Fields::new(path, directory.object(path)?);
    fields.skip(&["id", "_id"]);
    let name = fields.needed(directory, "name");
    let disabled = fields.flag(directory, "disabled");
    if !disabled {
        directory.found(
            path,
            "logs are not forwarded",
            "see them with `tributary trigger runs`, or send them to a collector with `telemetry`",
        );
    }
    let mut log_types = fields.texts(directory, "log_types");
    log_types.retain(|of| {
        let is_logged = LOG_TYPES.contains(&of.as_str());
        if !is_logged {
            let what = match OTHER_LOG_TYPES.contains(&of.as_str()) {
                true => format!("nothing is logged of `{of}`"),
                false => format!("`{of}` is nothing that is logged"),
            };
            directory.found(path, what, "remove it from `log_types`");
        }
        is_logged
    });
    let mut log_statuses = fields.texts(directory, "log_statuses");
    log_statuses.retain(|status| {
        let is_known = LOG_STATUSES.contains(&status.as_str());
        if !is_known {
            let what = format!("`{status}` is no status of logs");
            directory.found(path, what, "use `error` and `success`");
        }
        is_known
    });
    let mut policy = fields.object(directory, "policy");
    let is_batched = match policy.text(directory, "type").as_deref() {
        None | Some("single") => Some(false),
        Some("batch") => Some(true),
        Some(other) => {
            let what = format!("there is no policy `{other}`");
            directory.wrong(path, what, "use `single` or `batch`");
            None
        }
    };
    policy.finish(directory);
    let action = fields.object(directory, "action");
    let action = read_action(directory, path, action, functions, services);
    fields.finish(directory);
    Some(LogForwarder {
        name: name?,
        file: path.to_owned(),
        log_types,
        log_statuses,
        is_batched: is_batched?,
        disabled,
        action: action?,
    })
}

fn read_action(
    directory: &mut Directory<'_>,
    path: &str,
    mut action: Fields<'_>,
    functions: &BTreeMap<String, Function>,
    services: &mut Services,
) -> Option<LogAction> {
    let read = match action.needed(directory, "type")?.as_str() {
        "function" => {
            let name = action.needed(directory, "name")?;
            if !functions.contains_key(&name) {
                let what = format!("it calls `{name}`, and there is no such function");
                let known = functions.keys().map(String::as_str);
                let remedy = meant(&name, known, &format!("add functions/{name}.js"));
                directory.wrong(path, what, remedy);
            }
            LogAction::Function(name)
        }
        "collection" => {
            let service = action.needed(directory, "data_source");
            let database = action.needed(directory, "database");
            let collection = action.needed(directory, "collection");
            LogAction::Collection {
                service: check_service(directory, path, service?, services)?,
                database: database?,
                collection: collection?,
            }
        }
        other => {
            directory.found(
                path,
                format!("logs cannot be forwarded by `{other}`"),
                "use `function` or `collection`",
            );
            return None;
        }
    };
    action.finish(directory);
    Some(read)
}
