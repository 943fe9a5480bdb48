//! Data sources and other services that functions reach by name.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::directory::Directory;
use super::fields::Fields;
use crate::services::Secret;

/// Settings that are secrets also where they are written in the open, as older exports have them.
const SECRET_SETTINGS: [&str; 7] = [
    "secretAccessKey",
    "auth_token",
    "apiKey",
    "api_key",
    "secret",
    "password",
    "uri",
];

/// A service.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name in `context.services.get`.
    pub name: String,
    /// What it is.
    pub kind: ServiceKind,
    /// Its settings by their names in the export, such as `clusterName`, `region` or `sid`.
    pub settings: BTreeMap<String, Value>,
    /// Its settings that nobody is told, such as `secretAccessKey` or `auth_token`.
    pub secrets: BTreeMap<String, Secret>,
}

/// What a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceKind {
    /// A deployment of MongoDB.
    MongoDb,
    /// Amazon Web Services.
    Aws,
    /// HTTP.
    Http,
    /// Text messages over Twilio.
    Twilio,
    /// GitHub.
    GitHub,
    /// Push notifications over Firebase.
    Push,
}

impl ServiceKind {
    /// Its name in [`Program::services`](crate::script::Program::services).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MongoDb => "mongodb",
            Self::Aws => "aws",
            Self::Http => "http",
            Self::Twilio => "twilio",
            Self::GitHub => "github",
            Self::Push => "push",
        }
    }

    fn of(kind: &str) -> Option<Self> {
        Some(match kind {
            "mongodb-atlas" | "mongodb" | "datalake" => Self::MongoDb,
            "aws" | "aws-s3" | "aws-ses" | "aws-sqs" => Self::Aws,
            "http" => Self::Http,
            "twilio" => Self::Twilio,
            "github" => Self::GitHub,
            "gcm" | "fcm" => Self::Push,
            _ => return None,
        })
    }
}

/// All services, and how else than by name they are named.
#[derive(Debug, Default)]
pub(super) struct Services {
    pub(super) by_name: BTreeMap<String, Service>,
    files: BTreeMap<String, String>,
    ids: BTreeMap<String, String>,
    /// The services that have webhooks, with the directory of these.
    pub(super) webhooks: Vec<(String, String)>,
}

impl Services {
    /// The names of those that are databases.
    pub(super) fn databases(&self) -> impl Iterator<Item = &str> + Clone {
        let is_database = |service: &&Service| service.kind == ServiceKind::MongoDb;
        self.by_name
            .values()
            .filter(is_database)
            .map(|service| service.name.as_str())
    }

    pub(super) fn of_id(&self, id: &str) -> Option<String> {
        self.ids.get(id).cloned()
    }

    /// The database on a cluster of Atlas.
    pub(super) fn of_cluster(&self, cluster: &str) -> Option<String> {
        let is_on = |service: &&Service| {
            let name = service.settings.get("clusterName");
            service.kind == ServiceKind::MongoDb && name.and_then(Value::as_str) == Some(cluster)
        };
        self.by_name
            .values()
            .find(is_on)
            .map(|service| service.name.clone())
    }

    /// Adds a database of which only the name is known.
    pub(super) fn imply(&mut self, name: &str) {
        let service = Service {
            name: name.to_owned(),
            kind: ServiceKind::MongoDb,
            settings: BTreeMap::new(),
            secrets: BTreeMap::new(),
        };
        self.by_name.insert(name.to_owned(), service);
    }

    fn add(&mut self, directory: &mut Directory<'_>, file: &str, service: Service) {
        if let Some(other) = self.files.insert(service.name.clone(), file.to_owned()) {
            let what = format!("the service `{}` is in {other} too", service.name);
            directory.wrong(file, what, "give one of them another name");
        }
        self.by_name.insert(service.name.clone(), service);
    }
}

/// Reads `data_sources/`, `services/`, and the services of webhooks in `http_endpoints/`.
pub(super) fn read_services(directory: &mut Directory<'_>) -> Services {
    let mut services = Services::default();
    for within in ["data_sources", "services", "http_endpoints"] {
        for entry in directory.entries(within) {
            let file = format!("{}/config.json", entry.path);
            if entry.name.starts_with('.') {
                continue;
            }
            if !entry.is_directory {
                if within != "http_endpoints" {
                    directory.found(
                        &entry.path,
                        "is not read: there is a directory for each service",
                        "remove it",
                    );
                }
                continue;
            }
            if !directory.has(&file) {
                directory.wrong(
                    &entry.path,
                    "it has no config.json",
                    "add it, or remove all",
                );
                continue;
            }
            let Some(object) = directory.object(&file) else {
                continue;
            };
            read_service(directory, &entry.path, &file, object, &mut services);
        }
    }
    services
}

fn read_service(
    directory: &mut Directory<'_>,
    path: &str,
    file: &str,
    object: Map<String, Value>,
    services: &mut Services,
) {
    let mut fields = Fields::new(file, object);
    let ids = [fields.text(directory, "id"), fields.text(directory, "_id")];
    fields.skip(&["version"]);
    let name = fields.needed(directory, "name");
    let kind = fields.needed(directory, "type");
    let config = fields.object(directory, "config");
    let secret_config = fields.object(directory, "secret_config");
    fields.finish(directory);
    let (Some(name), Some(kind)) = (name, kind) else {
        return;
    };
    let Some(kind) = ServiceKind::of(&kind) else {
        directory.found(
            file,
            format!("services of type `{kind}` are not available, and `{name}` is none"),
            "have functions do over HTTP what it did",
        );
        return;
    };
    let mut service = Service {
        name,
        kind,
        settings: BTreeMap::new(),
        secrets: BTreeMap::new(),
    };
    read_config(directory, config, &mut service);
    for (key, value) in secret_config.rest() {
        match value {
            Value::String(secret) if secret.is_empty() => {}
            Value::String(secret) => {
                if let Some(secret) = directory.secret(file, &secret) {
                    service.secrets.insert(key, secret);
                }
            }
            _ => directory.wrong(
                file,
                format!("`secret_config.{key}` is not a text"),
                "write the name of a secret",
            ),
        }
    }
    note_rules(directory, path, kind);
    let webhooks = format!("{path}/incoming_webhooks");
    if !directory.entries(&webhooks).is_empty() {
        match kind {
            ServiceKind::Http => services.webhooks.push((service.name.clone(), webhooks)),
            _ => directory.found(
                &webhooks,
                "webhooks of this service are not served",
                "make them HTTPS endpoints",
            ),
        }
    } else if path.starts_with("http_endpoints/") {
        services
            .webhooks
            .push((service.name.clone(), path.to_owned()));
    }
    for id in ids.into_iter().flatten() {
        services.ids.insert(id, service.name.clone());
    }
    services.add(directory, file, service);
}

/// The settings of a service. What only Atlas can do is noted.
fn read_config(directory: &mut Directory<'_>, mut config: Fields<'_>, service: &mut Service) {
    if service.kind == ServiceKind::MongoDb {
        config.refuse(
            directory,
            "wireProtocolEnabled",
            "clients cannot connect through the application",
            "connect them to the deployment",
        );
        for key in ["sync", "flexible_sync"] {
            let why = "devices are not synchronised";
            config.refuse(directory, key, why, "remove it");
        }
        config.refuse(
            directory,
            "namespaces",
            "rules are not enforced",
            "remove it",
        );
    }
    for (key, value) in config.rest() {
        match value {
            Value::String(text) if SECRET_SETTINGS.contains(&key.as_str()) => {
                if !text.is_empty() {
                    service.secrets.insert(key, Secret::from(text));
                }
            }
            value => {
                service.settings.insert(key, value);
            }
        }
    }
}

/// Notes rules and schemas, once for all of a service.
fn note_rules(directory: &mut Directory<'_>, path: &str, kind: ServiceKind) {
    let has_rules = match kind {
        ServiceKind::MongoDb => {
            let config = format!("{path}/config.json");
            let files = directory.files_below(path);
            files
                .iter()
                .any(|file| *file != config && file.ends_with(".json"))
        }
        _ => !directory.entries(&format!("{path}/rules")).is_empty(),
    };
    if has_rules {
        directory.found(
            path,
            "its rules and schemas are not enforced: functions run as the system",
            "check in functions who may do what",
        );
    }
}
