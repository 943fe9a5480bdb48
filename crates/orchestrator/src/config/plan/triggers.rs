//! Applications and triggers, once they have been checked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use croner::Cron;

use super::{End, Retries};
use crate::config::file::{ChangeKind, Environment, OnFailure};
use crate::config::values::Secret;

/// An application, in a directory as App Services exports it.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub path: PathBuf,
    /// The source that its data sources stand for.
    pub source: Option<End>,
    /// The source of each data source that stands for another, by the names of these.
    pub data_sources: BTreeMap<String, End>,
    /// The environment whose values it sees.
    pub environment: Option<Environment>,
    /// What its functions may know and reach.
    pub reach: Reach,
    /// How its triggers and functions run.
    pub options: FunctionOptions,
    /// How single triggers run, by the names that they have in the application. That there are such is not
    /// known here.
    pub triggers: BTreeMap<String, FunctionOptions>,
}

impl App {
    /// How a trigger runs, by the name that it has in the application.
    #[must_use]
    pub fn options_of(&self, trigger: &str) -> &FunctionOptions {
        self.triggers.get(trigger).unwrap_or(&self.options)
    }
}

/// What functions may know and reach.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reach {
    /// Secrets, by name.
    pub secrets: BTreeMap<String, Secret>,
    /// The only hosts that they may call, in lower case; none for all but those that are of this machine and
    /// its surroundings.
    pub allow_hosts: Option<Vec<String>>,
    /// The address of all AWS services.
    pub aws_endpoint: Option<String>,
    /// Their region.
    pub aws_region: Option<String>,
}

/// How triggers and functions run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunctionOptions {
    /// Whether they do not run; none for what the application says.
    pub disabled: Option<bool>,
    /// How long a run may take.
    pub timeout: Duration,
    /// How much memory a thread may take, in bytes.
    pub memory: usize,
    /// How many runs of an unordered trigger there are at once.
    pub concurrency: usize,
    /// How often a run is tried again.
    pub retries: Retries,
    /// What is done with an event whose run fails every time.
    pub on_failure: OnFailure,
    /// After how long a suspended trigger resumes by itself.
    pub auto_resume: Option<Duration>,
    /// Whether runs are logged that succeed and write nothing to their console.
    pub log_successes: bool,
}

impl Default for FunctionOptions {
    fn default() -> Self {
        Self {
            disabled: None,
            timeout: Duration::from_secs(300),
            memory: 256 << 20,
            concurrency: 100,
            retries: Retries {
                times: 3,
                wait: Duration::from_secs(1),
                longest_wait: Duration::from_secs(60),
            },
            on_failure: OnFailure::default(),
            auto_resume: None,
            log_successes: false,
        }
    }
}

/// A trigger without an application.
#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// The source that its function reaches; where it runs on changes, there is one.
    pub source: Option<End>,
    /// What it runs on.
    pub occasion: Occasion,
    /// Whether what happens while it is paused or suspended is passed over.
    pub skip_catchup_events: bool,
    /// The file of its function.
    pub function: PathBuf,
    /// What that may know and reach.
    pub reach: Reach,
    /// How it runs.
    pub options: FunctionOptions,
}

impl Trigger {
    /// Whether it does not run.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        self.options.disabled == Some(true)
    }
}

/// What a trigger runs on.
#[derive(Debug, Clone, PartialEq)]
pub enum Occasion {
    /// Changes of its source.
    Changes(Changes),
    /// Moments, in UTC.
    Moments {
        /// The pattern as it was written.
        text: String,
        /// The pattern.
        cron: Box<Cron>,
    },
}

/// The changes that a trigger runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The database; none for the whole deployment.
    pub database: Option<String>,
    /// The collection; none for the whole database.
    pub collection: Option<String>,
    /// What is to happen.
    pub operations: Vec<ChangeKind>,
    /// What events are to match: raw BSON, for `$match`.
    pub matching: Option<Bytes>,
    /// What is passed on of them: raw BSON, for `$project`.
    pub project: Option<Bytes>,
    /// Whether updates come with their document.
    pub full_document: bool,
    /// Whether events come with the document before them.
    pub full_document_before_change: bool,
    /// Whether runs come one after the other.
    pub ordered: bool,
    /// Whether it goes on with the present where the source has forgotten what comes next.
    pub tolerate_resume_errors: bool,
}

impl Changes {
    /// What is watched, for people: `shop.orders`, `shop`, or `all databases`.
    #[must_use]
    pub fn place(&self) -> String {
        match (&self.database, &self.collection) {
            (Some(database), Some(collection)) => format!("{database}.{collection}"),
            (Some(database), None) => database.clone(),
            (None, _) => "all databases".to_owned(),
        }
    }
}
