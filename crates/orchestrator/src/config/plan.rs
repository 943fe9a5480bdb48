//! What the file says, once it has been checked: plain values without places in a text.

mod ingest;
mod publish;
mod triggers;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;
use croner::Cron;

use super::file::{
    CatchUp, Condition, FollowEntry, Format, Overlap, Parallel, ReadPreference, Role,
};
use super::values::{Secret, Text};

pub use ingest::Ingest;
pub use publish::{Files, Stream};
pub use triggers::{App, Changes, FunctionOptions, Occasion, Reach, Trigger};

/// All that is to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The directory that the file is in.
    pub directory: PathBuf,
    /// The directory of what is to be remembered.
    pub state: PathBuf,
    /// How long ended runs and alerts are remembered.
    pub keep_history: Duration,
    /// Every source, and everything that data goes to, by name.
    pub places: BTreeMap<String, Place>,
    /// What is kept current, by name.
    pub flows: BTreeMap<String, Flow>,
    /// What runs at times, by name.
    pub jobs: BTreeMap<String, Job>,
    /// Applications, by name.
    pub apps: BTreeMap<String, App>,
    /// Triggers without one, by name.
    pub triggers: BTreeMap<String, Trigger>,
    /// Who can be told, by name.
    pub receivers: BTreeMap<String, Receiver>,
    /// What they are told, by name.
    pub rules: BTreeMap<String, Rule>,
    /// The HTTP API.
    pub server: Option<Server>,
    /// Where logs and metrics are sent.
    pub telemetry: Option<Telemetry>,
}

/// Where data is read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A MongoDB deployment.
    Source(Source),
    /// A MongoDB deployment whose events are pushed.
    Ingest(Ingest),
    /// A lake: the path or address of its directory.
    Lake(String),
    /// A database that tables are loaded into.
    Warehouse(Warehouse),
    /// A stream that changes go to as they are.
    Stream(Stream),
    /// A place for files of changes.
    Files(Files),
}

impl Place {
    /// What sort of place it is.
    #[must_use]
    pub fn kind(&self) -> PlaceKind {
        match self {
            Self::Source(_) => PlaceKind::Source,
            Self::Ingest(_) => PlaceKind::Ingest,
            Self::Lake(_) => PlaceKind::Lake,
            Self::Warehouse(_) => PlaceKind::Warehouse,
            Self::Stream(_) => PlaceKind::Stream,
            Self::Files(_) => PlaceKind::Files,
        }
    }
}

/// What a name in the file may be one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceKind {
    /// A MongoDB deployment.
    Source,
    /// A MongoDB deployment whose events are pushed.
    Ingest,
    /// A lake.
    Lake,
    /// A database that tables are loaded into.
    Warehouse,
    /// A stream that changes go to as they are.
    Stream,
    /// A place for files of changes.
    Files,
}

impl Place {
    /// Whether changes go there as they are, and not into tables.
    #[must_use]
    pub fn takes_changes(&self) -> bool {
        matches!(self, Self::Stream(_) | Self::Files(_))
    }
}

impl PlaceKind {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Ingest => "pushed source",
            Self::Lake => "lake",
            Self::Warehouse => "warehouse",
            Self::Stream => "stream",
            Self::Files => "place for files",
        }
    }
}

/// A MongoDB deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its address.
    pub uri: Secret,
    /// Which members are read.
    pub read_preference: Option<ReadPreference>,
}

/// A warehouse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warehouse {
    /// Its address.
    pub uri: Secret,
    /// Where rows are put for Redshift to copy.
    pub s3_staging: Option<Text>,
    /// The role as which Redshift reads there.
    pub iam_role: Option<Text>,
    /// How its tables are laid out: all of them, by the name of none, and some in another way.
    pub layouts: Vec<(Option<String>, Layout)>,
}

/// How a table of a warehouse is laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Which rows are together.
    pub distribution: Option<Text>,
    /// What they are sorted by.
    pub sort_key: Vec<Text>,
    /// The primary key.
    pub primary_key: Vec<Text>,
}

/// A place, and what the file calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Its name.
    pub name: String,
    /// What it is.
    pub place: Place,
}

/// From where to where, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where it is read.
    pub from: End,
    /// Where it is written.
    pub to: End,
    /// The lake between a source and a warehouse.
    pub through: Option<End>,
    /// The collections; none for all.
    pub collections: Vec<Text>,
}

/// What is kept current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Its name.
    pub name: String,
    /// From where to where.
    pub route: Route,
    /// How.
    pub options: FollowEntry,
    /// Whether it waits to be started by hand.
    pub paused: bool,
}

/// Steps that run together.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// When.
    pub schedule: Option<Schedule>,
    /// Behind which jobs.
    pub after: Vec<String>,
    /// On which objects.
    pub on_object: Option<OnObject>,
    /// What is done while it runs.
    pub overlap: Overlap,
    /// How long a run may take.
    pub timeout: Option<Duration>,
    /// What it does, by name.
    pub steps: BTreeMap<String, Step>,
}

/// When a job runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// The pattern as it was written.
    pub text: String,
    /// The pattern.
    pub cron: Cron,
    /// Where its hours are those of the clock.
    pub time_zone: Tz,
    /// What is done about times that have passed.
    pub catch_up: CatchUp,
}

/// The objects that a job runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnObject {
    /// Where they are told.
    pub watched: Watched,
    /// Which of them; none for all.
    pub matching: Option<glob::Pattern>,
    /// How long they are gathered.
    pub gather: Duration,
}

/// Where the creation of objects is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// In an SQS queue.
    Queue(String),
    /// By the directory that they are in.
    Directory(PathBuf),
}

/// A step of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The steps before it.
    pub needs: Vec<String>,
    /// How long one try may take.
    pub timeout: Option<Duration>,
    /// How often it is tried again.
    pub retries: Retries,
    /// What it does.
    pub work: Work,
}

/// How often something is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// How often.
    pub times: u32,
    /// How long before the first time.
    pub wait: Duration,
    /// How long at most.
    pub longest_wait: Duration,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Loads collections once.
    Copy(Copy),
    /// Catches up with changes.
    Sync(Sync),
    /// Compares collections with their tables.
    Verify(Verify),
    /// Queries a lake.
    Query(Query),
    /// Runs statements in a warehouse.
    Script(Script),
    /// Runs a program.
    Command(Command),
}

impl Work {
    /// The word for it in the file.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Copy(_) => "copy",
            Self::Sync(_) => "sync",
            Self::Verify(_) => "verify",
            Self::Query(_) | Self::Script(_) => "sql",
            Self::Command(_) => "command",
        }
    }
}

/// A load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// From where to where.
    pub route: Route,
    /// Only documents that match.
    pub filter: Option<Text>,
    /// Only these fields; none for all.
    pub fields: Vec<Text>,
    /// What each collection becomes.
    pub format: Format,
    /// Whether what is there is replaced.
    pub overwrite: bool,
    /// How many partitions at once.
    pub parallel: Option<Parallel>,
}

/// A flow that ends when it has caught up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    /// From where to where.
    pub route: Route,
    /// How.
    pub options: FollowEntry,
}

/// A comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verify {
    /// From where to where.
    pub route: Route,
    /// How long to wait for a table that may merely be behind.
    pub wait: Option<Duration>,
    /// How many partitions at once.
    pub parallel: Option<Parallel>,
}

/// A query of a lake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The lake.
    pub lake: End,
    /// The query.
    pub query: String,
    /// The table that its result becomes: database and name.
    pub into: Option<(String, String)>,
    /// The warehouses whose tables it may read.
    pub attach: Vec<End>,
}

/// Statements for a warehouse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The warehouse.
    pub warehouse: End,
    /// The statements.
    pub script: String,
}

/// A program that is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Where it runs.
    pub directory: PathBuf,
    /// Variables of its environment.
    pub environment: BTreeMap<String, Secret>,
    /// The secrets of the whole file that come from variables: the program may have those too, and print them.
    pub secrets: Arc<BTreeSet<Secret>>,
}

/// Somebody who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receiver {
    /// A webhook that takes Slack's messages.
    Webhook {
        /// Its address.
        url: Secret,
        /// Headers of its requests.
        headers: BTreeMap<String, Secret>,
    },
    /// E-mail.
    Email(Email),
    /// A line on standard error.
    Stderr,
}

/// E-mail by SMTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email {
    /// How the server is talked to.
    pub tls: MailTls,
    /// The server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// User and password.
    pub login: Option<(String, Secret)>,
    /// The sender.
    pub from: String,
    /// The receivers.
    pub to: Vec<String>,
}

/// How a mail server is talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailTls {
    /// TLS from the beginning.
    Wrapped,
    /// TLS once it is asked for, which it has to be.
    StartTls,
    /// None.
    None,
}

/// What is told to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What has to be the case.
    pub when: Condition,
    /// Of which flows; none for all.
    pub flows: Vec<glob::Pattern>,
    /// Of which jobs; none for all.
    pub jobs: Vec<glob::Pattern>,
    /// Of which triggers; none for all.
    pub triggers: Vec<glob::Pattern>,
    /// Who is told.
    pub notify: Vec<String>,
    /// How often it is told again.
    pub repeat: Option<Duration>,
}

/// The HTTP API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The files of its certificate and key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Who may ask; everybody where there is nobody.
    pub tokens: Vec<Token>,
    /// The largest request, in bytes.
    pub largest_request: usize,
}

/// Somebody who may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Whose it is.
    pub name: String,
    /// The token.
    pub token: Secret,
    /// What it is good for.
    pub role: Role,
}

/// Where logs and metrics are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// The collector.
    pub otlp: String,
    /// Headers of requests.
    pub headers: BTreeMap<String, Secret>,
    /// How often metrics are sent.
    pub interval: Duration,
}
