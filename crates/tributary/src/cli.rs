//! The arguments of the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tributary_lake::{Format, JsonMode, QueryOutput};
use tributary_mongo::ReadFrom;

/// Moves data between MongoDB and the lake and warehouse.
///
/// Loads whole deployments into typed Delta tables or plain files, keeps the tables current, and
/// queries them.
#[derive(Debug, Parser)]
#[command(
    name = "tributary",
    version,
    max_term_width = 100,
    propagate_version = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) logs: Logs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What is logged to standard error.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Which log messages are written to standard error, such as `info` or `tributary=debug`
    #[arg(
        long,
        global = true,
        env = "TRIBUTARY_LOG",
        default_value = "warn",
        value_name = "FILTER",
        hide_env_values = true
    )]
    pub(crate) log: String,
    /// Write log messages as JSON, one a line
    #[arg(long, global = true)]
    pub(crate) log_json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Load collections once into Delta tables or files
    ///
    /// Reads every collection of the source's database (or of the whole deployment, if the address
    /// names no database) in parallel partitions and writes each as the table
    /// TARGET/database/collection. A table becomes visible when all of it is written, in one step.
    ///
    /// A copy that was stopped or killed goes on where it was when it is started again with the
    /// same arguments: finished partitions are not read again, and the result is the same.
    #[command(after_long_help = COPY_HELP)]
    Copy(Box<CopyArguments>),
    /// Load collections, then follow their changes
    ///
    /// Loads every collection that has no table yet, as `copy` does, and then follows inserts,
    /// updates, replaces and deletes until stopped. Every commit of a table holds its changes
    /// together with the position that they reach: a sync that was stopped or killed goes on where
    /// the tables are, and nothing is lost or doubled.
    ///
    /// Needs a replica set or a sharded cluster.
    #[command(after_long_help = SYNC_HELP)]
    Sync(Box<SyncArguments>),
    /// Compare collections with their tables, document by document
    ///
    /// Reads both sides in parallel and compares them by ranges of keys: how many there are, and a
    /// hash of what they say. Where a range differs, finds the keys: rows that are missing, rows
    /// that are extra, and rows that say something else than their document.
    ///
    /// May run while a sync does. A key that differs is looked at again until it is certain that the
    /// row is wrong and not merely behind; what cannot be told is reported as such.
    #[command(after_long_help = VERIFY_HELP)]
    Verify(Box<VerifyArguments>),
    /// Query the lake's tables
    ///
    /// Every Delta table of the lake is `database.collection`. Names are case-sensitive, as the
    /// documents' are, and double quotes take any name. Fields of documents are reached with
    /// `column['field']`, items of arrays with `column[1]`, and `unnest(column)` makes a row of each
    /// item. If the lake has one database only, its name may be left out.
    #[command(after_long_help = SQL_HELP)]
    Sql(SqlArguments),
    /// Reach a source and a target and say what is wrong with them
    ///
    /// Connects to both, and reports the server's version and topology, how far back its oplog
    /// reaches, privileges that are missing, the collections with their estimated counts and
    /// sizes, whether the target can be written, and whether the clocks agree. Changes nothing but
    /// a file at the target that is written and removed again.
    Check(Box<CheckArguments>),
    /// Write realistic sample documents into MongoDB
    ///
    /// The documents depend on the kind and the seed alone: the same command writes the same
    /// documents on every machine.
    DemoData(DemoArguments),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a directory
    Man {
        /// The directory, which must exist
        directory: PathBuf,
    },
}

const COPY_HELP: &str = "\
Examples:
  All collections of a database into Delta tables on disk:
    tributary copy mongodb://localhost:27017/shop ./lake

  Some collections into S3, reading from secondaries only:
    tributary copy 'mongodb+srv://cluster0.example.net/shop' s3://bucket/lake \\
      --collection orders --collection 'customer*' --read-preference secondary

  Last year's paid orders, three fields of them, as CSV:
    tributary copy mongodb://localhost/shop ./export --collection orders --format csv \\
      --filter '{\"status\":\"paid\",\"at\":{\"$gte\":{\"$date\":\"2024-01-01T00:00:00Z\"}}}' \\
      --fields customer,total,at

Credentials of the target come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL, AWS_SERVER_SIDE_ENCRYPTION (AES256 or aws:kms) and
AWS_SSE_KMS_KEY_ID for s3://; AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY,
AZURE_STORAGE_SAS_KEY, AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and
AZURE_STORAGE_ENDPOINT for az:// and abfss://.

Exit status: 0 done, or stopped by Ctrl-C; 1 failed, and nothing is lost; 2 wrong usage.";

const SYNC_HELP: &str = "\
Examples:
  Keep all collections of a database current in a lake on disk:
    tributary sync mongodb://localhost:27017/shop ./lake

  Catch up with two collections and end, for a schedule:
    tributary sync 'mongodb+srv://cluster0.example.net/shop' s3://bucket/lake --once \\
      --collection orders --collection 'customer*'

Credentials of the target come from the environment, as for `copy`.

Exit status: 0 done, or stopped by Ctrl-C; 1 failed, and nothing is lost; 2 wrong usage.";

const VERIFY_HELP: &str = "\
Examples:
  Compare all collections of a database with their tables, while a sync runs or not:
    tributary verify mongodb://localhost:27017/shop ./lake

  Compare one collection, for a program:
    tributary verify mongodb://localhost/shop s3://bucket/lake --collection orders --output json

A row is compared with what it should be at the position of its table, so a table that is behind
does not differ. Where the server does not remember that moment any more (it does for five minutes,
unless minSnapshotHistoryWindowInSeconds says otherwise) and no sync brings the table forward, keys
that have changed since cannot be told from wrong ones: run `tributary sync --once` first.

Makes no difference: the order of fields, null or missing, the type of numbers that are equal.

Exit status: 0 everything agrees; 1 something differs, cannot be told, or failed; 2 wrong usage.";

const SQL_HELP: &str = "\
Examples:
  tributary sql --lake ./lake 'SHOW TABLES'
  tributary sql --lake ./lake 'SELECT status, count(*) FROM shop.orders GROUP BY status'
  tributary sql --lake s3://bucket/lake --output csv \\
    \"SELECT _id, address['city'] AS city FROM shop.customers LIMIT 10\"";

#[derive(Debug, Args)]
pub(crate) struct CollectionArguments {
    /// MongoDB address: mongodb://[user:password@]host[:port]/database[?options]. Without a
    /// database, all databases but admin, config and local. Set SOURCE to `env:NAME` to take it
    /// from an environment variable and keep the password out of the list of processes
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    /// A collection to read; `*`, `?` and `[…]` match as in a shell. May be given several times
    /// [default: all but system collections]
    #[arg(long = "collection", value_name = "NAME")]
    pub(crate) collections: Vec<String>,
    /// Which members of a replica set are read [default: the address's readPreference, or
    /// secondaryPreferred]
    #[arg(long, value_name = "MODE")]
    pub(crate) read_preference: Option<ReadPreference>,
}

#[derive(Debug, Default, Args)]
pub(crate) struct PartArguments {
    /// Read only documents that match this query, as Extended JSON
    #[arg(long, value_name = "QUERY")]
    pub(crate) filter: Option<String>,
    /// Read only these fields (and _id), with commas between their paths
    #[arg(long, value_name = "PATHS", value_delimiter = ',')]
    pub(crate) fields: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CopyArguments {
    #[command(flatten)]
    pub(crate) source: CollectionArguments,
    #[command(flatten)]
    pub(crate) part: PartArguments,
    /// Directory, s3://bucket/prefix, az://container/prefix or
    /// abfss://container@account.dfs.core.windows.net/prefix
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
    /// What each collection becomes
    #[arg(long, value_enum, default_value_t = OutputFormat::Delta)]
    pub(crate) format: OutputFormat,
    /// How JSON lines spell values: `relaxed` as other programs read them, `canonical` with every
    /// type told apart
    #[arg(long, value_enum, default_value_t = JsonSpelling::Relaxed)]
    pub(crate) json: JsonSpelling,
    /// How many partitions are read and written at once [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) parallel: Option<u16>,
    /// Replace what the target holds, in one step at the end
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// How progress and result are told on standard output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct SyncArguments {
    #[command(flatten)]
    pub(crate) source: CollectionArguments,
    /// The lake: directory, s3://bucket/prefix, az://container/prefix or
    /// abfss://container@account.dfs.core.windows.net/prefix
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
    /// Catch up with what is there now, and end
    #[arg(long)]
    pub(crate) once: bool,
    /// How long changes are gathered before they are committed, such as 500ms, 1s or 2m
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = crate::sync::parse_duration)]
    pub(crate) commit_interval: std::time::Duration,
    /// How long files that are no part of a table any more are kept, for those who read its changes
    /// or earlier versions, such as 12h or 7d
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = crate::sync::parse_retention)]
    pub(crate) retention: std::time::Duration,
    /// How old the position of a table without changes gets before it is committed by itself. Keep
    /// it well below the time that the oplog reaches back
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = crate::sync::parse_duration)]
    pub(crate) heartbeat: std::time::Duration,
    /// How many partitions are read and written at once while loading [default: the number of
    /// cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) parallel: Option<u16>,
    /// Keep every version of every document, from now on, in a second table COLLECTION__history
    #[arg(long)]
    pub(crate) history: bool,
    /// Load all collections anew, replacing what the target holds
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// The directory of this machine for the key indexes: a cache, built anew where it is missing
    /// [default: tributary/index in the user's cache directory]
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) index: Option<PathBuf>,
    /// How progress and result are told on standard output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    #[command(flatten)]
    pub(crate) source: CollectionArguments,
    /// The lake, as for `sync`
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
    /// How many partitions and files are read at once [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) parallel: Option<u16>,
    /// How many keys of each sort of difference are shown
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) max_differences: usize,
    /// How long to wait for a sync to bring a table forward, while keys differ that may merely be
    /// behind
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = crate::sync::parse_duration)]
    pub(crate) wait: std::time::Duration,
    /// How progress and result are told on standard output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct SqlArguments {
    /// The query
    pub(crate) query: String,
    /// The lake: a directory or an address as for `copy`
    #[arg(
        long,
        default_value = "./lake",
        env = "TRIBUTARY_LAKE",
        value_name = "PATH"
    )]
    pub(crate) lake: String,
    /// How the result is shown
    #[arg(long, value_enum, default_value_t = SqlOutput::Table)]
    pub(crate) output: SqlOutput,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    #[command(flatten)]
    pub(crate) source: CollectionArguments,
    #[command(flatten)]
    pub(crate) part: PartArguments,
    /// Where `copy` would write
    #[arg(value_name = "TARGET")]
    pub(crate) target: Option<String>,
    /// How the report is shown
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// MongoDB address with the database to write into
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
    /// The collection to write into
    #[arg(long, value_name = "NAME", default_value = "account_statements")]
    pub(crate) collection: String,
    /// What kind of documents
    #[arg(long, default_value = "banking", value_name = "KIND")]
    pub(crate) kind: tributary_demodata::Kind,
    /// How many documents; with --rate, 0 means until stopped
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub(crate) count: u64,
    /// The number of the first document
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) start: u64,
    /// The seed of all that is random
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,
    /// Documents a second [default: as fast as possible]
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<f64>,
    /// Drop the collection first
    #[arg(long)]
    pub(crate) drop: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Delta tables
    Delta,
    /// Parquet files
    Parquet,
    /// JSON lines
    Jsonl,
    /// Comma-separated values
    Csv,
    /// Avro object container files
    Avro,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum JsonSpelling {
    Relaxed,
    Canonical,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people: progress bars on a terminal, plain lines otherwise, a summary at the end
    Text,
    /// A JSON object a line
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SqlOutput {
    /// A table for people
    #[value(alias = "text")]
    Table,
    /// A JSON object a line
    Json,
    /// Comma-separated values with a line of names
    Csv,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "camelCase")]
pub(crate) enum ReadPreference {
    Primary,
    PrimaryPreferred,
    Secondary,
    SecondaryPreferred,
    Nearest,
}

impl OutputFormat {
    pub(crate) fn format(self, json: JsonSpelling) -> Format {
        match self {
            Self::Delta => Format::Delta,
            Self::Parquet => Format::Parquet,
            Self::Jsonl => Format::Jsonl(match json {
                JsonSpelling::Relaxed => JsonMode::Relaxed,
                JsonSpelling::Canonical => JsonMode::Canonical,
            }),
            Self::Csv => Format::Csv,
            Self::Avro => Format::Avro,
        }
    }
}

impl From<SqlOutput> for QueryOutput {
    fn from(output: SqlOutput) -> Self {
        match output {
            SqlOutput::Table => Self::Table,
            SqlOutput::Json => Self::Json,
            SqlOutput::Csv => Self::Csv,
        }
    }
}

impl From<ReadPreference> for ReadFrom {
    fn from(preference: ReadPreference) -> Self {
        match preference {
            ReadPreference::Primary => Self::Primary,
            ReadPreference::PrimaryPreferred => Self::PrimaryPreferred,
            ReadPreference::Secondary => Self::Secondary,
            ReadPreference::SecondaryPreferred => Self::SecondaryPreferred,
            ReadPreference::Nearest => Self::Nearest,
        }
    }
}
