//! Applications, and triggers without one.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::config::values::{Memory, Period, Secret, Text};

/// An application, as App Services exports it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct AppEntry {
    /// Its directory, relative to the file
    pub(in crate::config) path: Text,
    /// The name of the source that its data sources stand for, but for those of `data_sources`
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(in crate::config) source: Option<Spanned<String>>,
    /// The name of a source for each of its data sources, by their names
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub(in crate::config) data_sources: BTreeMap<String, Spanned<String>>,
    /// The environment whose values it sees. [default: none]
    #[serde(default)]
    pub(in crate::config) environment: Option<Environment>,
    /// Its secrets, by name. Those that are not here are taken from environment variables of their names
    #[serde(default)]
    pub(in crate::config) secrets: BTreeMap<String, Secret>,
    /// The only hosts that its functions may call over HTTP: api.example.com, *.example.com for all below it, an address
    /// or 10.0.0.0/8, with :port where only that one is meant; none with an empty list.
    /// [default: all but link-local, metadata and loopback addresses]
    #[serde(default)]
    #[schemars(with = "Option<Vec<Text>>")]
    pub(in crate::config) allow_hosts: Option<Vec<Spanned<Text>>>,
    /// Where its AWS services are
    #[serde(default)]
    pub(in crate::config) aws: AwsEntry,
    /// How its triggers and functions run
    #[serde(default)]
    pub(in crate::config) options: FunctionEntry,
    /// How single triggers run, by name, where that differs from `options`
    #[serde(default)]
    pub(in crate::config) triggers: BTreeMap<String, FunctionEntry>,
}

/// An environment of App Services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Environment {
    Development,
    Testing,
    Qa,
    Production,
}

impl Environment {
    /// What App Services calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Testing => "testing",
            Self::Qa => "qa",
            Self::Production => "production",
        }
    }
}

/// Where AWS services are, in place of what their configuration says.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct AwsEntry {
    /// The address of all of them, such as that of an emulator
    #[schemars(with = "Option<Text>")]
    pub(in crate::config) endpoint: Option<Spanned<Text>>,
    /// The region
    pub(in crate::config) region: Option<Text>,
}

/// How triggers and functions run.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct FunctionEntry {
    /// They do not run. [default: as the application says, and false without one]
    pub(in crate::config) disabled: Option<bool>,
    /// How long a run may take. [default: 300s]
    pub(in crate::config) timeout: Option<Period>,
    /// How much memory a thread of functions may take: 256MB, or a number of megabytes. [default: 256MB]
    pub(in crate::config) memory: Option<Memory>,
    /// How many runs of a trigger there are at once where its events need no order. [default: 100]
    pub(in crate::config) concurrency: Option<NonZeroU32>,
    /// How often a run is tried again when it fails
    pub(in crate::config) retries: TriggerRetriesEntry,
    /// What is done with an event whose run fails every time. [default: skip]
    pub(in crate::config) on_failure: Option<OnFailure>,
    /// After how long a suspended trigger resumes by itself. [default: never]
    pub(in crate::config) auto_resume: Option<Period>,
    /// Log runs that succeed and write nothing to their console too. [default: false]
    pub(in crate::config) log_successes: Option<bool>,
}

/// How often a run of a trigger is tried again.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct TriggerRetriesEntry {
    /// How often. [default: 3]
    pub(in crate::config) times: Option<u32>,
    /// How long before the first of them; twice as long before each next one. [default: 1s]
    pub(in crate::config) wait: Option<Period>,
    /// How long at most. [default: 1m]
    pub(in crate::config) longest_wait: Option<Period>,
}

/// What is done with an event whose run fails every time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// It becomes a dead letter, and the trigger goes on
    #[default]
    Skip,
    /// The trigger is suspended in front of it
    Suspend,
}

/// A trigger without an application: on changes of a source, or by a schedule.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct TriggerEntry {
    /// The name of the source whose changes it runs for, and that its function reaches as `mongodb-atlas`
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(in crate::config) source: Option<Spanned<String>>,
    /// The database. [default: the whole deployment]
    #[serde(default)]
    pub(in crate::config) database: Option<Text>,
    /// The collection. [default: the whole database]
    #[serde(default)]
    #[schemars(with = "Option<Text>")]
    pub(in crate::config) collection: Option<Spanned<Text>>,
    /// What is to happen for it to run
    #[serde(default)]
    #[schemars(with = "Vec<ChangeKind>")]
    pub(in crate::config) operations: Vec<Spanned<ChangeKind>>,
    /// Only events that match this, as Extended JSON for `$match`
    #[serde(default, rename = "match")]
    #[schemars(with = "Option<Text>")]
    pub(in crate::config) matching: Option<Spanned<Text>>,
    /// What the function is given of an event, as Extended JSON for `$project`. [default: all]
    #[serde(default)]
    #[schemars(with = "Option<Text>")]
    pub(in crate::config) project: Option<Spanned<Text>>,
    /// Updates come with their document as it is when they are read. [default: false]
    #[serde(default)]
    pub(in crate::config) full_document: Option<bool>,
    /// Events come with the document before the change, where the source keeps it. [default: false]
    #[serde(default)]
    pub(in crate::config) full_document_before_change: Option<bool>,
    /// Runs come one after the other, in the order of events. [default: true]
    #[serde(default)]
    pub(in crate::config) ordered: Option<bool>,
    /// What happens while it is paused or suspended is passed over. [default: false]
    #[serde(default)]
    pub(in crate::config) skip_catchup_events: bool,
    /// Where the source has forgotten what comes next, it goes on with the present. [default: false]
    #[serde(default)]
    pub(in crate::config) tolerate_resume_errors: Option<bool>,
    /// Instead of changes: minute, hour, day of month, month, day of week, in UTC. A sixth field in front
    /// is the second
    #[serde(default)]
    #[schemars(with = "Option<Text>")]
    pub(in crate::config) schedule: Option<Spanned<Text>>,
    /// The file of JavaScript that runs, relative to the file
    pub(in crate::config) function: Text,
    /// Secrets that the function sees, by name
    #[serde(default)]
    pub(in crate::config) secrets: BTreeMap<String, Secret>,
    /// The only hosts that the function may call over HTTP: api.example.com, *.example.com for all below it, an address
    /// or 10.0.0.0/8, with :port where only that one is meant; none with an empty list.
    /// [default: all but link-local, metadata and loopback addresses]
    #[serde(default)]
    #[schemars(with = "Option<Vec<Text>>")]
    pub(in crate::config) allow_hosts: Option<Vec<Spanned<Text>>>,
    /// Where its AWS services are
    #[serde(default)]
    pub(in crate::config) aws: AwsEntry,
    /// How it runs
    #[serde(default)]
    pub(in crate::config) options: FunctionEntry,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ChangeKind {
    Insert,
    Update,
    Replace,
    Delete,
    Create,
    Modify,
    CreateIndexes,
    DropIndexes,
    Rename,
    Drop,
    DropDatabase,
    ShardCollection,
    ReshardCollection,
    RefineCollectionShardKey,
}

impl ChangeKind {
    /// The `operationType` of its events.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::Create => "create",
            Self::Modify => "modify",
            Self::CreateIndexes => "createIndexes",
            Self::DropIndexes => "dropIndexes",
            Self::Rename => "rename",
            Self::Drop => "drop",
            Self::DropDatabase => "dropDatabase",
            Self::ShardCollection => "shardCollection",
            Self::ReshardCollection => "reshardCollection",
            Self::RefineCollectionShardKey => "refineCollectionShardKey",
        }
    }
}
