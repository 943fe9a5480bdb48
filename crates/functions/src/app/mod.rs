//! The directory of an application, as App Services exports it.
//!
//! Both layouts of exports are read: the one of `root_config.json` or `realm_config.json`, with one
//! `functions/config.json` for all functions; and the older one of `config.json` or `stitch.json`, with a
//! directory for each function and with webhooks below services. What cannot be run is an error, and all
//! errors are told at once. What an application asks for and does not get is a [`Finding`].

mod directory;
mod endpoint;
mod fields;
mod function;
mod log_forwarder;
mod problem;
mod secret;
mod service;
mod summary;
mod trigger;
mod unsupported;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use bytes::Bytes;
use tributary_model::{Error, ErrorKind, Result};

use crate::script::{AppMetadata, Program, Source};
use directory::Directory;
use fields::Fields;
use function::Functions;
use trigger::Named;

pub use endpoint::{Endpoint, EndpointMethod, ReturnType, Validation};
pub use function::Function;
pub use log_forwarder::{LogAction, LogForwarder};
pub use problem::{Finding, Problem};
pub use secret::secret_variable;
pub use service::{Service, ServiceKind};
pub use summary::{Summary, TriggerSummary};
pub use trigger::{
    DatabaseTrigger, EventBridge, Operation, Processor, ScheduledTrigger, Scope, Trigger,
    TriggerEvent, check_trigger_name, parse_expression,
};
pub use value::AppValue;

/// The files that say what an application is called, newest layout first.
const ROOT_FILES: [&str; 4] = [
    "root_config.json",
    "realm_config.json",
    "config.json",
    "stitch.json",
];

/// What an application is read with.
pub struct AppSettings<'a> {
    /// The environment whose values it gets: empty for none, `development`, `testing`, `qa` or `production`.
    pub environment: String,
    /// Answers the value of an environment variable. A secret is asked for by its own name, then by its
    /// [`secret_variable`].
    pub secret: &'a dyn Fn(&str) -> Option<String>,
}

impl fmt::Debug for AppSettings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppSettings")
            .field("environment", &self.environment)
            .finish_non_exhaustive()
    }
}

/// An application.
#[derive(Debug, Clone, Default)]
pub struct App {
    /// What is known of it in App Services. Its name is that of its directory where it has none.
    pub metadata: AppMetadata,
    /// Its triggers, by name. Those on authentication are left out.
    pub triggers: Vec<Trigger>,
    /// Its functions by name, those of webhooks included.
    pub functions: BTreeMap<String, Function>,
    /// What functions may `require`, by path below `functions/`.
    pub modules: BTreeMap<String, Source>,
    /// Its values, by name.
    pub values: BTreeMap<String, AppValue>,
    /// The environment that was chosen.
    pub environment: String,
    /// The values of the environment, by name.
    pub environment_values: BTreeMap<String, AppValue>,
    /// Its services, by name.
    pub services: BTreeMap<String, Service>,
    /// Its endpoints and webhooks.
    pub endpoints: Vec<Endpoint>,
    /// Where its logs go as well.
    pub log_forwarders: Vec<LogForwarder>,
    /// What it asks for and does not get, in the order of the files.
    pub findings: Vec<Finding>,
}

impl App {
    /// Reads and checks an application.
    ///
    /// # Errors
    /// All that is wrong with it, in one error.
    pub fn read(directory: &Path, settings: &AppSettings<'_>) -> Result<Self> {
        Self::check(directory, settings).map_err(|problems| {
            let told: Vec<String> = problems.iter().map(Problem::to_string).collect();
            Error::new(
                ErrorKind::Usage,
                format!(
                    "the application has {} {}",
                    told.len(),
                    match told.len() {
                        1 => "problem",
                        _ => "problems",
                    }
                ),
            )
            .on("directory", directory.display())
            .because(told.join("; "))
            .remedy("correct this, and start again")
        })
    }

    /// Reads and checks an application.
    ///
    /// # Errors
    /// All that is wrong with it, in the order of the files.
    pub fn check(
        directory: &Path,
        settings: &AppSettings<'_>,
    ) -> std::result::Result<Self, Vec<Problem>> {
        let of_directory = |what: String, remedy: &str| {
            vec![Problem {
                file: String::new(),
                at: None,
                what,
                remedy: remedy.to_owned(),
            }]
        };
        let root = directory.canonicalize().map_err(|error| {
            let what = format!("the directory cannot be read: {error}");
            of_directory(what, "name the directory of an application")
        })?;
        if !root.is_dir() {
            let what = "this is no directory".to_owned();
            return Err(of_directory(what, "name the directory of an application"));
        }
        let is_app = ["triggers", "functions"]
            .iter()
            .chain(&ROOT_FILES)
            .any(|name| root.join(name).exists());
        if !is_app {
            let what = "there is no application in this directory".to_owned();
            return Err(of_directory(
                what,
                "name the directory that has triggers/ and functions/ in it",
            ));
        }
        let mut directory = Directory::new(root, settings);
        let app = Self::read_parts(&mut directory);
        let mut problems = directory.problems;
        if problems.is_empty() {
            let mut findings = directory.findings;
            findings.sort();
            findings.dedup();
            return Ok(Self { findings, ..app });
        }
        problems.sort();
        problems.dedup();
        Err(problems)
    }

    fn read_parts(directory: &mut Directory<'_>) -> Self {
        let mut app = Self {
            environment: directory.settings.environment.clone(),
            ..Self::default()
        };
        app.read_root(directory);
        let mut services = service::read_services(directory);
        let Functions {
            by_name: mut functions,
            modules,
        } = function::read_functions(directory);
        if directory.is_over() {
            // What could not be read would be told as missing.
            return app;
        }
        let named = &mut Named {
            functions: &functions,
            services: &mut services,
        };
        app.triggers = trigger::read_triggers(directory, named);
        app.values = value::read_values(directory);
        app.environment_values = value::read_environments(directory);
        app.endpoints = endpoint::read_endpoints(directory, &mut functions, &services);
        app.log_forwarders =
            log_forwarder::read_log_forwarders(directory, &functions, &mut services);
        unsupported::note_unsupported(directory);
        app.functions = functions;
        app.modules = modules;
        app.services = services.by_name;
        app
    }

    /// Reads what the application says of itself as a whole.
    fn read_root(&mut self, directory: &mut Directory<'_>) {
        let mut files = ROOT_FILES.iter().filter(|file| directory.has(file));
        let file = files.next().copied();
        let others: Vec<&str> = files.copied().collect();
        for other in others {
            let what = format!("is not read beside {}", file.unwrap_or_default());
            directory.found(other, what, "remove it");
        }
        if let Some(file) = file
            && let Some(object) = directory.object(file)
        {
            self.read_root_file(directory, file, object);
        }
        const META: &str = ".mdb/meta.json";
        if directory.has(META)
            && let Some(object) = directory.object(META)
        {
            self.read_ids(directory, &mut Fields::new(META, object));
        }
        let about = &mut self.metadata;
        if about.name.is_empty() {
            about.name = directory.name();
        }
        if about.id.is_empty() {
            about.id = about.client_id.clone();
        }
    }

    /// Reads the ids that are not known yet. Older files have that of clients as `app_id`.
    fn read_ids(&mut self, directory: &mut Directory<'_>, fields: &mut Fields<'_>) {
        let app = fields.text(directory, "app_id");
        let client = fields.text(directory, "client_app_id");
        let project = fields.text(directory, "group_id");
        let (id, older) = match app {
            Some(id) if is_object_id(&id) => (Some(id), None),
            older => (None, older),
        };
        let about = &mut self.metadata;
        for (known, read) in [
            (&mut about.id, id),
            (&mut about.client_id, client.or(older)),
            (&mut about.project_id, project),
        ] {
            if known.is_empty() {
                *known = read.unwrap_or_default();
            }
        }
    }

    fn read_root_file(
        &mut self,
        directory: &mut Directory<'_>,
        file: &str,
        object: serde_json::Map<String, serde_json::Value>,
    ) {
        let mut fields = Fields::new(file, object);
        self.read_ids(directory, &mut fields);
        for (known, key) in [
            (&mut self.metadata.name, "name"),
            (&mut self.metadata.deployment_model, "deployment_model"),
            (&mut self.metadata.provider_region, "provider_region"),
        ] {
            *known = fields.text(directory, key).unwrap_or_default();
        }
        fields.skip(&["config_version", "location"]);
        let environment = fields.text(directory, "environment").unwrap_or_default();
        if environment != self.environment {
            let what = format!(
                "`environment` is `{environment}`, and the values are those of `{}`",
                self.environment
            );
            directory.found(file, what, "choose one of them in both places");
        }
        let origins = "requests are answered from wherever they come";
        let remedy = "check it in front of the endpoints";
        fields.refuse(directory, "allowed_request_origins", origins, remedy);
        let mut security = fields.object(directory, "security");
        security.refuse(directory, "allowed_request_origins", origins, remedy);
        security.finish(directory);
        for (key, switches, why) in [
            (
                "hosting",
                ["enabled", "custom_domain"],
                "files are not served",
            ),
            (
                "custom_user_data_config",
                ["enabled", "on_user_creation_function_name"],
                "there are no users",
            ),
            (
                "sync",
                ["development_mode_enabled", "state"],
                "devices are not synchronised",
            ),
        ] {
            let mut part = fields.object(directory, key);
            for switch in switches {
                part.refuse(directory, switch, why, "remove it");
            }
        }
        fields.finish(directory);
    }

    /// What functions see of it.
    #[must_use]
    pub fn program(&self) -> Program {
        let documents = |values: &BTreeMap<String, AppValue>| -> BTreeMap<String, Bytes> {
            values
                .iter()
                .map(|(name, value)| (name.clone(), value.document.clone()))
                .collect()
        };
        Program {
            functions: self
                .functions
                .iter()
                .map(|(name, function)| (name.clone(), function.source.clone()))
                .collect(),
            modules: self.modules.clone(),
            values: documents(&self.values),
            environment: self.environment.clone(),
            environment_values: documents(&self.environment_values),
            services: self
                .services
                .values()
                .map(|service| (service.name.clone(), service.kind.name().to_owned()))
                .collect(),
            app: self.metadata.clone(),
        }
    }

    /// What it holds, for a person or a program to read.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary::of(self)
    }
}

fn is_object_id(text: &str) -> bool {
    text.len() == 24 && text.bytes().all(|digit| digit.is_ascii_hexdigit())
}
