//! The file as it is written: what may stand where.

mod ingest;
mod publish;
mod triggers;

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::values::{Name, Period, Secret, Text};

pub(super) use ingest::IngestEntry;
pub use publish::{BatchEvents, JsonSpelling};
pub(super) use publish::{FilesEntry, StreamEntry};
pub(super) use triggers::{AppEntry, AwsEntry, FunctionEntry, TriggerEntry};
pub use triggers::{ChangeKind, Environment, OnFailure};

/// Everything by its name.
pub(super) type Named<T> = BTreeMap<Name, T>;

/// `tributary.yaml`: what flows, what runs when, and who is told.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    /// The directory of the run history, and of what else is to be remembered; relative to the file.
    /// [default: tributary.state]
    pub(super) state: Option<Text>,
    /// How long ended runs and alerts are remembered. [default: 90d]
    pub(super) keep_history: Option<Period>,
    /// MongoDB deployments, and what pushes their events.
    #[schemars(with = "Named<SourceEntry>")]
    pub(super) sources: Named<Spanned<SourceEntry>>,
    /// Directories and buckets of Delta tables.
    #[schemars(with = "Named<LakeEntry>")]
    pub(super) lakes: Named<Spanned<LakeEntry>>,
    /// PostgreSQL and Redshift databases.
    #[schemars(with = "Named<WarehouseEntry>")]
    pub(super) warehouses: Named<Spanned<WarehouseEntry>>,
    /// Streams that changes go to as they are.
    #[schemars(with = "Named<StreamEntry>")]
    pub(super) streams: Named<Spanned<StreamEntry>>,
    /// Directories and buckets that changes go to as they are, as files of JSON.
    #[schemars(with = "Named<FilesEntry>")]
    pub(super) files: Named<Spanned<FilesEntry>>,
    /// What is kept current all the time.
    #[schemars(with = "Named<FlowEntry>")]
    pub(super) flows: Named<Spanned<FlowEntry>>,
    /// What runs by a schedule, on an event or by hand.
    #[schemars(with = "Named<JobEntry>")]
    pub(super) jobs: Named<Spanned<JobEntry>>,
    /// Applications with triggers and functions: directories as App Services exports them.
    #[schemars(with = "Named<AppEntry>")]
    pub(super) apps: Named<Spanned<AppEntry>>,
    /// Triggers without an application.
    #[schemars(with = "Named<TriggerEntry>")]
    pub(super) triggers: Named<Spanned<TriggerEntry>>,
    /// Who is told of what.
    pub(super) alerts: AlertsEntry,
    /// The HTTP API. Without it nothing listens.
    #[schemars(with = "Option<ServerEntry>")]
    pub(super) server: Option<Spanned<ServerEntry>>,
    /// Where logs and metrics are sent.
    #[schemars(with = "Option<TelemetryEntry>")]
    pub(super) telemetry: Option<Spanned<TelemetryEntry>>,
}

/// A MongoDB deployment, or what pushes its events.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceEntry {
    /// Its address: mongodb://[user:password@]host[:port]/database[?options]
    #[serde(default)]
    #[schemars(with = "Option<Secret>")]
    pub(super) uri: Option<Spanned<Secret>>,
    /// Which members are read.
    #[serde(default)]
    pub(super) read_preference: Option<ReadPreference>,
    /// In the place of `uri`: its events are pushed to `POST /ingest/NAME` of the server
    #[serde(default)]
    pub(super) ingest: Option<IngestEntry>,
}

/// Which members of a replica set are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ReadPreference {
    Primary,
    PrimaryPreferred,
    Secondary,
    SecondaryPreferred,
    Nearest,
}

/// A lake.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LakeEntry {
    /// A directory, relative to the file, or s3://bucket/prefix, az://container/prefix or
    /// abfss://container@account.dfs.core.windows.net/prefix
    #[schemars(with = "Text")]
    pub(super) path: Spanned<Text>,
}

/// A warehouse.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WarehouseEntry {
    /// Its address: postgres://user:password@host/database or redshift://user:password@host/database
    pub(super) uri: Secret,
    /// Where rows are put for Redshift to copy: s3://bucket/prefix
    #[serde(default)]
    pub(super) s3_staging: Option<Text>,
    /// The role as which Redshift reads there, or `default`
    #[serde(default)]
    pub(super) iam_role: Option<Text>,
    /// How its tables are laid out, where `tables` does not say otherwise
    #[serde(default)]
    pub(super) layout: LayoutEntry,
    /// Tables that are laid out in another way, as database.collection
    #[serde(default)]
    pub(super) tables: BTreeMap<String, LayoutEntry>,
}

/// How a table of a warehouse is laid out when it is made.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LayoutEntry {
    /// Redshift: auto, even, all, or those with the same value of a field together
    #[schemars(with = "Option<Text>")]
    pub(super) distribution: Option<Spanned<Text>>,
    /// Redshift: the fields that its rows are sorted by
    #[schemars(with = "Vec<Text>")]
    pub(super) sort_key: Vec<Spanned<Text>>,
    /// The fields that are its primary key
    pub(super) primary_key: Vec<Text>,
}

/// What is kept current all the time.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FlowEntry {
    /// The name of a source, or of a lake
    #[schemars(with = "String")]
    pub(super) from: Spanned<String>,
    /// The name of a lake or of a warehouse; of a stream or of files, for changes as they are
    #[schemars(with = "String")]
    pub(super) to: Spanned<String>,
    /// From a source into a warehouse: the name of the lake that lies between
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(super) through: Option<Spanned<String>>,
    /// The collections; `*`, `?` and `[…]` match as in a shell. [default: all]
    #[serde(default)]
    #[schemars(with = "Vec<Text>")]
    pub(super) collections: Vec<Spanned<Text>>,
    /// How it is followed
    #[serde(default)]
    pub(super) options: FollowEntry,
    /// Waits to be started by hand
    #[serde(default)]
    pub(super) paused: bool,
}

/// How a source is followed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FollowEntry {
    /// How long changes are gathered before they are committed. [default: 1s]
    pub commit_interval: Option<Period>,
    /// How long files are kept that are no part of a table any more, at least 1h. [default: 7d]
    pub retention: Option<Period>,
    /// How old the position of a table without changes gets before it is committed. [default: 10m]
    pub heartbeat: Option<Period>,
    /// How many partitions are read and written at once while loading. [default: the number of cores]
    pub parallel: Option<Parallel>,
    /// What becomes of a table whose next changes the source has forgotten. [default: fail]
    pub on_lost_history: Option<OnLostHistory>,
    /// What becomes of a table whose collection is dropped. [default: keep]
    pub on_drop: Option<OnDrop>,
    /// What is done when documents have another schema than their table. [default: evolve]
    pub on_schema_change: Option<OnSchemaChange>,
    /// Keep every version of every document in a second table. [default: false]
    pub history: Option<bool>,
    /// Mark rows as deleted instead of writing files again. [default: true]
    pub deletion_vectors: Option<bool>,
    /// Keep a symlink manifest of each table; needs `deletion_vectors: false`. [default: false]
    pub symlink_manifest: Option<bool>,
    /// The directory of this machine for key indexes. [default: in the user's cache directory]
    pub index: Option<Text>,
}

/// How many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "u16")]
pub struct Parallel(#[schemars(range(min = 1, max = 256))] pub u16);

impl TryFrom<u16> for Parallel {
    type Error = String;

    fn try_from(count: u16) -> Result<Self, String> {
        if !(1..=256).contains(&count) {
            return Err("it is 1 at least and 256 at most".to_owned());
        }
        Ok(Self(count))
    }
}

/// What becomes of a table whose next changes the source has forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLostHistory {
    /// It stops alone
    Fail,
    /// It is loaded anew, and the gap recorded
    Reload,
    /// It goes on from the oldest moment that is remembered, and the gap is recorded
    Accept,
}

/// What becomes of a table whose collection is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDrop {
    /// It keeps its rows
    Keep,
    /// It loses its rows
    Clear,
    /// It stops alone
    Stop,
}

/// What is done when documents have another schema than their table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnSchemaChange {
    /// Columns are added, and become wider
    Evolve,
    /// What does not fit goes to `_rescued_data`
    Rescue,
    /// The table waits for approval
    Stop,
}

/// Steps that run together.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JobEntry {
    /// When it runs
    #[serde(default)]
    pub(super) schedule: Option<ScheduleEntry>,
    /// The jobs behind which it runs, each time that one of them has succeeded
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(super) after: Vec<Spanned<String>>,
    /// The objects whose creation it runs on
    #[serde(default)]
    #[schemars(with = "Option<OnObjectEntry>")]
    pub(super) on_object: Option<Spanned<OnObjectEntry>>,
    /// What is done when it is to run while it runs. [default: queue]
    #[serde(default)]
    pub(super) overlap: Overlap,
    /// How long a run may take as a whole
    #[serde(default)]
    pub(super) timeout: Option<Period>,
    /// What it does, by name
    #[schemars(with = "Named<StepEntry>")]
    pub(super) steps: Named<Spanned<StepEntry>>,
}

/// When a job runs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScheduleEntry {
    /// Minute, hour, day of month, month, day of week: `0 2 * * *`. A sixth field in front is the
    /// second
    #[schemars(with = "Text")]
    pub(super) cron: Spanned<Text>,
    /// The time zone by its name in the IANA database, such as Europe/Berlin. [default: UTC]
    #[serde(default)]
    #[schemars(with = "Option<Text>")]
    pub(super) time_zone: Option<Spanned<Text>>,
    /// What is done about times that passed while nothing ran. [default: last]
    #[serde(default)]
    pub(super) catch_up: CatchUp,
}

/// What is done about times that passed while nothing ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// Nothing
    Skip,
    /// One run for all of them
    #[default]
    Last,
    /// A run for each of them, a hundred at most
    All,
}

/// What is done when a job is to run while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It does not run, and that is recorded; for created objects it runs when the other run has ended
    Skip,
    /// It runs when the other run has ended
    #[default]
    Queue,
    /// The other run is cancelled, and its objects are taken over
    Replace,
}

/// Objects whose creation a job runs on: in a bucket, as S3 tells a queue, or in a directory.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OnObjectEntry {
    /// The address of the SQS queue that the bucket notifies, directly or through SNS or EventBridge;
    /// no other job has it
    #[serde(default)]
    #[schemars(with = "Option<Text>")]
    pub(super) queue: Option<Spanned<Text>>,
    /// Or the directory that is watched, relative to the file
    #[serde(default)]
    pub(super) directory: Option<Text>,
    /// Only objects whose key, or path below the directory, matches; `*` stays within a directory, and
    /// `**` does not. [default: all]
    #[serde(default)]
    #[schemars(with = "Option<Text>")]
    pub(super) matching: Option<Spanned<Text>>,
    /// How long objects are gathered into one run. [default: 1s]
    #[serde(default)]
    pub(super) gather: Option<Period>,
}

/// A step: exactly one of the things that can be done.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StepEntry {
    /// The steps that are to succeed before
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(super) needs: Vec<Spanned<String>>,
    /// How long one try may take
    #[serde(default)]
    pub(super) timeout: Option<Period>,
    /// How often it is tried again when it fails
    #[serde(default)]
    pub(super) retries: RetriesEntry,
    /// Loads collections once
    #[serde(default)]
    pub(super) copy: Option<CopyEntry>,
    /// Catches up with changes, and ends
    #[serde(default)]
    pub(super) sync: Option<SyncEntry>,
    /// Compares collections with their tables
    #[serde(default)]
    pub(super) verify: Option<VerifyEntry>,
    /// Queries the lake, or runs a script in a warehouse
    #[serde(default)]
    pub(super) sql: Option<SqlEntry>,
    /// Runs a program
    #[serde(default)]
    pub(super) command: Option<CommandEntry>,
}

/// How often a step is tried again.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RetriesEntry {
    /// How often. [default: 0]
    pub(super) times: u32,
    /// How long before the first of them; twice as long before each next one. [default: 10s]
    pub(super) wait: Option<Period>,
    /// How long at most. [default: 10m]
    pub(super) longest_wait: Option<Period>,
}

/// A load.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CopyEntry {
    /// The name of a source, or of a lake
    #[schemars(with = "String")]
    pub(super) from: Spanned<String>,
    /// The name of a lake, or of a warehouse
    #[schemars(with = "String")]
    pub(super) to: Spanned<String>,
    /// From a source into a warehouse: the name of the lake that lies between
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(super) through: Option<Spanned<String>>,
    /// The collections. [default: all]
    #[serde(default)]
    #[schemars(with = "Vec<Text>")]
    pub(super) collections: Vec<Spanned<Text>>,
    /// Only documents that match this query, as Extended JSON
    #[serde(default)]
    #[schemars(with = "Option<Text>")]
    pub(super) filter: Option<Spanned<Text>>,
    /// Only these fields
    #[serde(default)]
    pub(super) fields: Vec<Text>,
    /// What each collection becomes in a lake. [default: delta]
    #[serde(default)]
    pub(super) format: Format,
    /// Replace what is there
    #[serde(default)]
    pub(super) overwrite: bool,
    /// How many partitions are read and written at once. [default: the number of cores]
    #[serde(default)]
    pub(super) parallel: Option<Parallel>,
}

/// What a collection becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Format {
    #[default]
    Delta,
    Parquet,
    Jsonl,
    Csv,
    Avro,
}

/// A flow that catches up and ends.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SyncEntry {
    /// The name of a source, or of a lake
    #[schemars(with = "String")]
    pub(super) from: Spanned<String>,
    /// The name of a lake or of a warehouse; of a stream or of files, for changes as they are
    #[schemars(with = "String")]
    pub(super) to: Spanned<String>,
    /// From a source into a warehouse: the name of the lake that lies between
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(super) through: Option<Spanned<String>>,
    /// The collections. [default: all]
    #[serde(default)]
    #[schemars(with = "Vec<Text>")]
    pub(super) collections: Vec<Spanned<Text>>,
    /// How it is followed
    #[serde(default)]
    pub(super) options: FollowEntry,
}

/// A comparison. It fails where something differs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VerifyEntry {
    /// The name of a source
    #[schemars(with = "String")]
    pub(super) from: Spanned<String>,
    /// The name of a lake
    #[schemars(with = "String")]
    pub(super) to: Spanned<String>,
    /// The collections. [default: all]
    #[serde(default)]
    #[schemars(with = "Vec<Text>")]
    pub(super) collections: Vec<Spanned<Text>>,
    /// How long to wait for a table that may merely be behind. [default: 60s]
    #[serde(default)]
    pub(super) wait: Option<Period>,
    /// How many partitions are read at once. [default: the number of cores]
    #[serde(default)]
    pub(super) parallel: Option<Parallel>,
}

/// A query of a lake, or a script for a warehouse.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SqlEntry {
    /// The name of the lake that is queried
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(super) lake: Option<Spanned<String>>,
    /// The query
    #[serde(default)]
    pub(super) query: Option<Text>,
    /// The table of the lake that its result becomes, as database.table, in place of what it holds
    #[serde(default)]
    #[schemars(with = "Option<Text>")]
    pub(super) into: Option<Spanned<Text>>,
    /// The warehouses whose tables it may read, as NAME.schema.table
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(super) attach: Vec<Spanned<String>>,
    /// Or the name of the warehouse that the script runs in
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub(super) warehouse: Option<Spanned<String>>,
    /// Statements with `;` between them, which run in one transaction
    #[serde(default)]
    pub(super) script: Option<Text>,
}

/// A program. It is given TRIBUTARY_JOB, TRIBUTARY_RUN, TRIBUTARY_STEP and TRIBUTARY_ATTEMPT, and in
/// TRIBUTARY_OBJECTS_FILE the path of a file that holds, as a JSON array, the objects whose creation the run
/// is for. TRIBUTARY_OBJECTS holds the same where that is no more than 100,000 bytes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CommandEntry {
    /// The program and its arguments: no shell takes them apart
    pub(super) run: Vec<Text>,
    /// The directory that it runs in, relative to the file. [default: that of the file]
    #[serde(default)]
    pub(super) directory: Option<Text>,
    /// Variables of its environment, beside those of Tributary's own
    #[serde(default)]
    pub(super) environment: BTreeMap<String, Secret>,
}

/// Who is told of what.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AlertsEntry {
    /// Who can be told, by name
    #[schemars(with = "Named<ReceiverEntry>")]
    pub(super) notify: Named<Spanned<ReceiverEntry>>,
    /// What is told, by name. [default: failed runs and flows, schema changes that wait, triggers that are
    /// suspended, and an oplog window below a day, to all receivers]
    #[schemars(with = "Option<Named<RuleEntry>>")]
    pub(super) rules: Option<Named<Spanned<RuleEntry>>>,
}

/// Somebody who is told: exactly one of the ways.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReceiverEntry {
    /// A webhook that takes Slack's messages
    #[serde(default)]
    pub(super) webhook: Option<WebhookEntry>,
    /// E-mail
    #[serde(default)]
    pub(super) email: Option<EmailEntry>,
    /// `true`: a line on standard error
    #[serde(default)]
    pub(super) stderr: Option<bool>,
}

/// A webhook.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookEntry {
    /// Its address
    #[schemars(with = "Secret")]
    pub(super) url: Spanned<Secret>,
    /// Headers of the request
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Secret>,
}

/// E-mail by SMTP.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EmailEntry {
    /// The server: smtps://host[:port] with TLS from the beginning, smtp://host[:port] with STARTTLS, or
    /// without any TLS smtp+plain://host[:port]
    #[schemars(with = "Text")]
    pub(super) server: Spanned<Text>,
    /// The user, where the server asks for one
    #[serde(default)]
    pub(super) user: Option<Text>,
    /// Its password
    #[serde(default)]
    pub(super) password: Option<Secret>,
    /// The sender's address
    #[schemars(with = "Text")]
    pub(super) from: Spanned<Text>,
    /// The receivers' addresses
    #[schemars(with = "Vec<Text>")]
    pub(super) to: Vec<Spanned<Text>>,
}

/// What is told.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleEntry {
    /// What has to be the case
    pub(super) when: Condition,
    /// Of which flows; `*` and `?` match as in a shell. [default: all]
    #[serde(default)]
    #[schemars(with = "Vec<Text>")]
    pub(super) flows: Vec<Spanned<Text>>,
    /// Of which jobs. [default: all]
    #[serde(default)]
    #[schemars(with = "Vec<Text>")]
    pub(super) jobs: Vec<Spanned<Text>>,
    /// Of which triggers; those of applications as APP/TRIGGER. [default: all]
    #[serde(default)]
    #[schemars(with = "Vec<Text>")]
    pub(super) triggers: Vec<Spanned<Text>>,
    /// Who is told, by name. [default: all]
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(super) notify: Vec<Spanned<String>>,
    /// How often it is told again while it lasts. [default: never]
    #[serde(default)]
    pub(super) repeat: Option<Period>,
}

/// What is told of.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// A run of a job has failed, until one succeeds
    RunFailed,
    /// A flow, or a table of it, has failed, until it goes on
    FlowFailed,
    /// A table waits for the approval of a schema change
    SchemaStopped,
    /// A table is behind its collection by more than this
    LagAbove(Period),
    /// A table has got no change for so long
    NoDataFor(Period),
    /// A source remembers less than this of its changes
    OplogWindowBelow(Period),
    /// So many values or more went to `_rescued_data` within an hour
    RescuedValues(NonZeroU64),
    /// A trigger is suspended, or cannot run, until it goes on
    TriggerSuspended,
    /// A trigger has so many dead letters or more
    DeadLetters(NonZeroU64),
    /// The disk of the state, or of a lake in a directory, is full to more than so many percent
    DiskAbove(Percent),
}

/// A share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "u8")]
pub struct Percent(#[schemars(range(min = 1, max = 99))] pub u8);

impl TryFrom<u8> for Percent {
    type Error = String;

    fn try_from(share: u8) -> Result<Self, String> {
        if !(1..=99).contains(&share) {
            return Err("it is 1 at least and 99 at most".to_owned());
        }
        Ok(Self(share))
    }
}

/// The HTTP API.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ServerEntry {
    /// The address and port to listen at. Beyond this machine it needs `tls` and `tokens`.
    /// [default: 127.0.0.1:8087]
    #[serde(default)]
    #[schemars(with = "Option<Text>")]
    pub(super) listen: Option<Spanned<Text>>,
    /// TLS. Without it, HTTP
    #[serde(default)]
    pub(super) tls: Option<TlsEntry>,
    /// Listen beyond this machine without TLS, behind a proxy that has it. [default: false]
    #[serde(default)]
    pub(super) behind_proxy: bool,
    /// Who may ask, by name. Without any, everybody who reaches it may
    #[serde(default)]
    pub(super) tokens: Named<TokenEntry>,
    /// The largest request, in bytes. [default: 1048576]
    #[serde(default)]
    pub(super) largest_request: Option<NonZeroU32>,
}

/// Files of TLS.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsEntry {
    /// The file of the certificate and those above it, as PEM, relative to the file
    pub(super) certificate: Text,
    /// The file of its private key, as PEM
    pub(super) key: Text,
}

/// A token.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenEntry {
    /// The token: 16 characters at least
    #[schemars(with = "Secret")]
    pub(super) token: Spanned<Secret>,
    /// What it is good for
    pub(super) role: Role,
}

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// To see everything
    Read,
    /// And to start, stop, cancel, approve, replay and discard
    Operate,
}

/// Where logs and metrics are sent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TelemetryEntry {
    /// The OTLP collector, by HTTP: http://host:4318
    #[schemars(with = "Text")]
    pub(super) otlp: Spanned<Text>,
    /// Headers of its requests
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Secret>,
    /// How often metrics are sent. [default: 10s]
    #[serde(default)]
    pub(super) interval: Option<Period>,
}
