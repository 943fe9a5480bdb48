//! The arguments of the command line.

mod choices;
mod data;
mod operation;
mod places;
mod schema;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use self::choices::{
    JsonSpelling, OnDrop, OnLostHistory, Output, OutputFormat, ReadPreference, SchemaPolicy,
    SqlOutput,
};
pub(crate) use self::data::{
    CheckArguments, CopyArguments, DemoArguments, SqlArguments, SyncArguments, VerifyArguments,
};
pub(crate) use self::operation::{
    AlertCommand, FunctionArguments, FunctionCommand, JobArguments, JobCommand, LetterArguments,
    LetterCommand, RunArguments, TriggerCommand,
};
pub(crate) use self::places::{
    CollectionArguments, LakeArgument, PartArguments, PublishArguments, WarehouseArguments,
};
pub(crate) use self::schema::{SchemaArguments, SchemaCommand};

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
    ///
    /// With --attach, queries also read tables of a PostgreSQL or Redshift, as they are now:
    /// `name.schema.table`. Only the columns and, as far as it can tell them, the rows that a query
    /// needs are asked of the server.
    #[command(after_long_help = SQL_HELP)]
    Sql(SqlArguments),
    /// See how the schemas of tables change, approve changes, and tell warehouses of tables
    ///
    /// Every table remembers its last hundred schema changes and what was decided of them: `evolved`,
    /// `rescued`, `waiting` or `approved`, by the `--on-schema-change` of the sync.
    #[command(subcommand, after_long_help = SCHEMA_HELP)]
    Schema(SchemaCommand),
    /// Run everything that a file says: flows, jobs, alerts, the API
    ///
    /// Each flow is kept going by itself: it follows its source, and is started again, later and later,
    /// when it fails. Jobs run by their schedules, behind one another, on objects that are created, by the
    /// API or by `tributary job run`. SIGHUP reads the file again: flows that are not changed in it go on.
    ///
    /// Ctrl-C and SIGTERM stop it: flows commit what they have read; runs of jobs that are cut short are
    /// gone on with at the next start.
    #[command(after_long_help = RUN_HELP)]
    Run(RunArguments),
    /// See jobs and their runs, have a job run, cancel a run
    #[command(subcommand, after_long_help = JOB_HELP)]
    Job(JobCommand),
    /// See triggers, pause, resume and replay them, and deal with what they have given up on
    #[command(subcommand, after_long_help = TRIGGER_HELP)]
    Trigger(TriggerCommand),
    /// Run functions of applications by hand, and try them with cases
    #[command(subcommand)]
    Function(FunctionCommand),
    /// Try how alerts are told
    #[command(subcommand)]
    Alert(AlertCommand),
    /// Reach a source and a target, or all that a file names, and say what is wrong with them
    ///
    /// A file is checked first: what may not stand in it, names of what is not there, and variables that
    /// are not set are told with line and column.
    ///
    /// Connects to the source and the target, and reports the server's version and topology, how far back its oplog
    /// reaches, whether the members that are to be read exist, privileges that are missing, the
    /// collections with their estimated counts and sizes, whether the target can be written, and
    /// whether the clocks agree. Of a target in S3, also the bucket's versioning, default encryption
    /// and access logs.
    ///
    /// Changes nothing but a file at the target that is written and removed again; with --fix, it
    /// sets what is off, and says what it has changed.
    #[command(after_long_help = CHECK_HELP)]
    Check(Box<CheckArguments>),
    /// Ask a running `tributary run` whether it is well
    ///
    /// For health checks of containers, which may have no other client of HTTP. Exit status: 0 it
    /// answers 200; 1 it does not.
    Health {
        /// The address to ask
        #[arg(value_name = "URL", default_value = "http://127.0.0.1:8087/health")]
        url: String,
    },
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

const RUN_HELP: &str = "\
A file that keeps a lake current, and runs a query every night:

  sources:
    shop: { uri: '${MONGODB_URI}' }
  lakes:
    main: { path: s3://bucket/lake }
  flows:
    shop: { from: shop, to: main }
  jobs:
    totals:
      schedule: { cron: '0 2 * * *', time_zone: Europe/Berlin }
      steps:
        query:
          sql: { lake: main, query: 'SELECT status, count(*) FROM shop.orders GROUP BY status', into: reports.totals }
  server: {}

`tributary check --schema` prints what may stand in it, as JSON Schema for editors.

Exit status: 0 stopped by Ctrl-C or SIGTERM; 1 failed; 2 the file is wrong.";

const JOB_HELP: &str = "\
Examples:
  tributary job list
  tributary job run nightly --wait
  tributary job history --job nightly --state failed
  tributary job show 01997d2c-0e4c-7a51-9e5f-0b6f3c2f7a10

A job runs in the process of `tributary run`. Where there is none with the same state, `job run` runs it
itself.

Exit status of `job run`: 0 it succeeded, or without --wait is on its way; 1 it did not; 2 wrong usage.";

const TRIGGER_HELP: &str = "\
Examples:
  tributary trigger list
  tributary trigger pause billing/charge
  tributary trigger replay billing/charge --from 2026-01-31T12:00:00Z
  tributary trigger dlq list billing/charge
  tributary trigger dlq replay --all billing/charge
  tributary trigger runs --function charge --failed

A trigger of an app is called APP/TRIGGER. Triggers run in the process of `tributary run`, which sees within
seconds what is asked of them here; where there is none with the same state, they do so when it is started.";

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

  Tables that Redshift Spectrum reads where they are; `schema external` prints their definitions:
    tributary sync mongodb://localhost/shop s3://bucket/lake --no-deletion-vectors --symlink-manifest

  Take the tables of that lake over into PostgreSQL, version by version:
    tributary sync s3://bucket/lake env:WAREHOUSE

  Write the changes themselves, a JSON object each, or pass them on to Kinesis:
    tributary sync mongodb://localhost/shop s3://bucket/changes --changes --batch-events 1
    tributary sync mongodb://localhost/shop kinesis://shop-changes --partition-key fullDocument.customer

  Changes come with the document after them, and the document before where the collection keeps pre-images.
  Kinesis gets each at least once, and in order for each partition key: _id._data tells one that comes again.

Credentials of the lake come from the environment, as for `copy`. Set TARGET to `env:NAME` to take a
warehouse's address, with its password, from an environment variable.

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

const CHECK_HELP: &str = "\
Examples:
  Look before a copy:
    tributary check mongodb://localhost:27017/shop ./lake

  Set what is off of the bucket and of the collections, which are to keep every version:
    tributary check mongodb://localhost/shop s3://bucket/lake --pre-and-post-images --fix \\
      --log-bucket s3://logs/lake --kms-key arn:aws:kms:us-east-1:123456789012:key/KEY

Setting what is off takes the privileges s3:PutBucketVersioning, s3:PutEncryptionConfiguration and
s3:PutBucketLogging of the bucket, and `collMod` (the role `dbAdmin`) of the collections.

Exit status: 0 nothing is in the way, though there may be warnings; 1 something is, or could not be
set; 2 wrong usage.";

const SCHEMA_HELP: &str = "\
Examples:
  tributary schema list --lake ./lake
  tributary schema show --lake ./lake shop.orders
  tributary schema approve --lake s3://bucket/lake shop.orders shop.customers
  tributary schema external --lake s3://bucket/lake --for spectrum shop.orders

A sync that runs with --on-schema-change stop goes on with an approved table within seconds; one that
is started later, at once. What had been held back is read again from the oplog: approve before that
has forgotten it.";

const SQL_HELP: &str = "\
Examples:
  tributary sql --lake ./lake 'SHOW TABLES'
  tributary sql --lake ./lake 'SELECT status, count(*) FROM shop.orders GROUP BY status'
  tributary sql --lake s3://bucket/lake --output csv \\
    \"SELECT _id, address['city'] AS city FROM shop.customers LIMIT 10\"
  tributary sql --lake ./lake --attach pg=postgres://user:password@localhost/crm \\
    'SELECT c.name, sum(o.total) FROM shop.orders o
     JOIN pg.public.customers c ON c.id = o.customer GROUP BY c.name'";
