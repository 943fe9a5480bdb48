//! The arguments of the command line.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tributary_ingest::EventLog;
use tributary_lake::{ExternalEngine, Format, JsonMode, QueryOutput};
use tributary_model::OnSchemaChange;
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

#[derive(Debug, Subcommand)]
pub(crate) enum SchemaCommand {
    /// List the schema changes of all tables, and what was decided of them
    List {
        #[command(flatten)]
        arguments: SchemaArguments,
    },
    /// Show the columns of a table, and its schema changes
    Show {
        /// The table, as DATABASE.COLLECTION
        #[arg(value_name = "TABLE")]
        table: String,
        #[command(flatten)]
        arguments: SchemaArguments,
    },
    /// Approve the schema changes that tables wait with
    Approve {
        /// The tables, as DATABASE.COLLECTION
        #[arg(value_name = "TABLE", required_unless_present = "all")]
        tables: Vec<String>,
        /// Approve what waits in all tables
        #[arg(long, conflicts_with = "tables")]
        all: bool,
        #[command(flatten)]
        arguments: SchemaArguments,
    },
    /// Print the statements by which a warehouse reads tables where they are
    ///
    /// For Amazon Redshift Spectrum, external tables over the tables' symlink manifests; the external
    /// schema must be there. For PostgreSQL, views with the extension pg_duckdb. They name the columns
    /// that a table has now, and are to be run again when those change.
    External {
        /// The tables, as DATABASE.COLLECTION [default: all of the lake]
        #[arg(value_name = "TABLE")]
        tables: Vec<String>,
        /// What is to read the tables
        #[arg(long = "for", value_enum, value_name = "ENGINE")]
        engine: ExternalReader,
        /// The schema of the external tables or views [default: spectrum, or for postgres the
        /// database's name]
        #[arg(long, value_name = "NAME")]
        external_schema: Option<String>,
        #[command(flatten)]
        place: LakeArgument,
        /// How the result is shown
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExternalReader {
    /// Amazon Redshift Spectrum: tables of `sync --no-deletion-vectors --symlink-manifest` in S3
    Spectrum,
    /// PostgreSQL with the extension pg_duckdb
    Postgres,
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// The file
    #[arg(
        value_name = "FILE",
        default_value = "tributary.yaml",
        env = "TRIBUTARY_CONFIG"
    )]
    pub(crate) file: PathBuf,
    /// How what happens is told
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct JobArguments {
    /// The file that says what runs
    #[arg(
        long,
        value_name = "FILE",
        default_value = "tributary.yaml",
        env = "TRIBUTARY_CONFIG"
    )]
    pub(crate) config: PathBuf,
    /// How the result is shown
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// List the jobs: when they run, and how they last did
    List {
        #[command(flatten)]
        arguments: JobArguments,
    },
    /// List runs, the newest first
    History {
        /// Only those of this job
        #[arg(long, value_name = "NAME")]
        job: Option<String>,
        /// Only those in this state: queued, running, succeeded, failed, cancelled or skipped
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
        #[command(flatten)]
        arguments: JobArguments,
    },
    /// Show a run: its steps, and what they told
    Show {
        /// The run, by its id
        #[arg(value_name = "RUN")]
        run: String,
        #[command(flatten)]
        arguments: JobArguments,
    },
    /// Cancel a run that waits or runs
    Cancel {
        /// The run, by its id
        #[arg(value_name = "RUN")]
        run: String,
        #[command(flatten)]
        arguments: JobArguments,
    },
    /// Have a job run
    Run {
        /// The job
        #[arg(value_name = "NAME")]
        job: String,
        /// Wait until it has ended
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        arguments: JobArguments,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum FunctionCommand {
    /// Run a function of an application, and print what it returns
    ///
    /// It runs here, with the services of the configuration, and is not recorded. Exit status: 0 it
    /// returned; 1 it threw.
    Run {
        /// The function
        #[arg(value_name = "NAME")]
        name: String,
        /// An argument, as Extended JSON; give it again for each next one
        #[arg(long, value_name = "EJSON")]
        arg: Vec<String>,
        #[command(flatten)]
        arguments: FunctionArguments,
    },
    /// Try functions with the cases of a directory
    ///
    /// Each file NAME.json is a case, as Extended JSON: {"function": "total", "args": [{"order": 5}],
    /// "returns": 12}; or with "throws", a text that is to be in the error, in place of "returns".
    /// "console" is an array of texts that are to be written to the console. Exit status: 0 all agree;
    /// 1 some do not.
    Test {
        /// The directory of the cases
        #[arg(value_name = "DIRECTORY")]
        directory: PathBuf,
        #[command(flatten)]
        arguments: FunctionArguments,
    },
}

/// Which application.
#[derive(Debug, Args)]
pub(crate) struct FunctionArguments {
    /// The application, where there are several
    #[arg(long, value_name = "NAME")]
    pub(crate) app: Option<String>,
    #[command(flatten)]
    pub(crate) file: JobArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TriggerCommand {
    /// List the triggers: what they watch, and how they are doing
    List {
        #[command(flatten)]
        arguments: JobArguments,
    },
    /// Show a trigger
    Show {
        /// The trigger
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        arguments: JobArguments,
    },
    /// Have a trigger wait until it is resumed
    Pause {
        /// The trigger
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        arguments: JobArguments,
    },
    /// Have a trigger go on that is paused or suspended
    Resume {
        /// The trigger
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        arguments: JobArguments,
    },
    /// Have a trigger run for all that happened from a moment on, again where it has
    ///
    /// One that is suspended is resumed; one that is paused begins there when it is.
    Replay {
        /// The trigger
        #[arg(value_name = "NAME")]
        name: String,
        /// The moment, as RFC 3339 has it: 2026-01-31T12:00:00Z
        #[arg(long, value_name = "TIME", value_parser = crate::trigger::moment)]
        from: chrono::DateTime<chrono::Utc>,
        #[command(flatten)]
        arguments: JobArguments,
    },
    /// See, try again and discard the events that triggers have given up on
    #[command(subcommand)]
    Dlq(LetterCommand),
    /// List runs of functions, the newest first, or show one
    Runs {
        /// The run that is shown, by its id
        #[arg(value_name = "RUN")]
        run: Option<String>,
        /// Only those of this application
        #[arg(long, value_name = "NAME", conflicts_with = "run")]
        app: Option<String>,
        /// Only those of this function
        #[arg(long, value_name = "NAME", conflicts_with = "run")]
        function: Option<String>,
        /// Only those of this trigger
        #[arg(long, value_name = "NAME", conflicts_with = "run")]
        trigger: Option<String>,
        /// Only those that failed
        #[arg(long, conflicts_with = "run")]
        failed: bool,
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
        #[command(flatten)]
        arguments: JobArguments,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum LetterCommand {
    /// List dead letters, the newest first
    List {
        /// Only those of this trigger
        #[arg(value_name = "TRIGGER")]
        name: Option<String>,
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
        #[command(flatten)]
        arguments: JobArguments,
    },
    /// Show a dead letter, and what its function was called with
    Show {
        /// The dead letter, by its id
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        arguments: JobArguments,
    },
    /// Have dead letters be tried again: those that succeed are gone
    Replay {
        #[command(flatten)]
        which: LetterArguments,
    },
    /// Forget dead letters
    Discard {
        #[command(flatten)]
        which: LetterArguments,
    },
}

/// Which dead letters are meant.
#[derive(Debug, Args)]
pub(crate) struct LetterArguments {
    /// The dead letters, by their ids
    #[arg(value_name = "ID", required_unless_present = "all")]
    pub(crate) ids: Vec<String>,
    /// All of this trigger
    #[arg(long, value_name = "TRIGGER", conflicts_with = "ids")]
    pub(crate) all: Option<String>,
    #[command(flatten)]
    pub(crate) arguments: JobArguments,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AlertCommand {
    /// Tell every receiver of the file that this is a test
    Test {
        #[command(flatten)]
        arguments: JobArguments,
    },
}

#[derive(Debug, Args)]
pub(crate) struct LakeArgument {
    /// The lake: a directory or an address as for `copy`
    #[arg(
        long,
        default_value = "./lake",
        env = "TRIBUTARY_LAKE",
        value_name = "PATH"
    )]
    pub(crate) lake: String,
}

#[derive(Debug, Args)]
pub(crate) struct SchemaArguments {
    #[command(flatten)]
    pub(crate) place: LakeArgument,
    /// The warehouse whose tables are meant, instead of a lake: its address as for `sync`, or
    /// `env:NAME`
    #[arg(long, value_name = "ADDRESS", conflicts_with = "lake")]
    pub(crate) warehouse: Option<String>,
    /// How the result is shown
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, Default, Args)]
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
    /// Events that are pushed, which are followed in the place of SOURCE.
    #[arg(skip)]
    pub(crate) log: Option<Arc<EventLog>>,
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

/// What is for warehouses alone.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Warehouses")]
pub(crate) struct WarehouseArguments {
    /// The lake that collections go through on their way from MongoDB into a warehouse
    #[arg(long, value_name = "LAKE")]
    pub(crate) stage: Option<String>,
    /// Where rows are put for Redshift to copy, s3://bucket/prefix in the cluster's own region. They
    /// are removed when they have arrived
    #[arg(long, value_name = "PREFIX")]
    pub(crate) s3_staging: Option<String>,
    /// The role as which Redshift reads there, arn:aws:iam::ACCOUNT:role/NAME, or `default`
    /// [default: Redshift is given the AWS keys of the environment]
    #[arg(long, value_name = "ARN")]
    pub(crate) iam_role: Option<String>,
    /// Which rows Redshift has together on one node, when it makes a table: auto, even, all, or
    /// those with the same value of a field. With DATABASE.COLLECTION= in front, for one table
    /// [default: _id]
    #[arg(long, value_name = "[TABLE=]STYLE")]
    pub(crate) distribution: Vec<String>,
    /// The fields, with commas between them, by which Redshift sorts a table that it makes; with
    /// DATABASE.COLLECTION= in front, one table [default: _id]
    #[arg(long, value_name = "[TABLE=]FIELDS")]
    pub(crate) sort_key: Vec<String>,
    /// The fields, with commas between them, that are the primary key of a table that is made; with
    /// DATABASE.COLLECTION= in front, of one table. No document may lack them [default: _id]
    #[arg(long, value_name = "[TABLE=]FIELDS")]
    pub(crate) primary_key: Vec<String>,
}

/// What is for changes that go on as they are.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Changes as they are")]
pub(crate) struct PublishArguments {
    /// Write the change events themselves into the lake, as files of JSON, in place of tables: nothing is
    /// loaded, and what happens from the first start on is kept, each event once. Files are
    /// DATABASE/COLLECTION/NAME, and their names sort as the events do; one counts as soon as
    /// _changes.state/position.json reaches it
    #[arg(long)]
    pub(crate) changes: bool,
    /// How events spell values: `relaxed` as other programs read them, `canonical` with every type told
    /// apart [default: relaxed]
    #[arg(long, value_enum, value_name = "SPELLING")]
    pub(crate) json: Option<JsonSpelling>,
    /// How many events a file holds at most. With 1 it is one JSON object, NAME.json; with more, an object
    /// a line, NAME.jsonl [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) batch_events: Option<u32>,
    /// Compress the files, whose names then end in .gz
    #[arg(long)]
    pub(crate) gzip: bool,
    /// The field of events, such as fullDocument.customer, that is the partition key in Kinesis. Events with
    /// the same one keep their order, and go one in each request; of one that lacks it, the document's _id
    /// is [default: documentKey._id]
    #[arg(long, value_name = "PATH")]
    pub(crate) partition_key: Option<String>,
    /// The directory of this machine where it is kept how far a stream of Kinesis has got. It is no cache:
    /// without it, the stream goes on from the present [default: tributary.state]
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) state: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CopyArguments {
    #[command(flatten)]
    pub(crate) source: CollectionArguments,
    #[command(flatten)]
    pub(crate) part: PartArguments,
    /// Directory, s3://bucket/prefix, az://container/prefix or
    /// abfss://container@account.dfs.core.windows.net/prefix; or the warehouse
    /// postgres://user:password@host/database or redshift://user:password@host/database, and SOURCE
    /// then is a lake, or a MongoDB with --stage
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
    #[command(flatten)]
    pub(crate) warehouse: WarehouseArguments,
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
    /// Write a symlink manifest of each Delta table, for engines that read files and not Delta's log,
    /// such as Redshift Spectrum: _symlink_format_manifest/manifest names the table's files
    #[arg(long)]
    pub(crate) symlink_manifest: bool,
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
    /// abfss://container@account.dfs.core.windows.net/prefix; or the warehouse
    /// postgres://user:password@host/database or redshift://user:password@host/database, and SOURCE
    /// then is a lake, or a MongoDB with --stage; or kinesis://STREAM[?region=REGION], which takes the
    /// change events themselves
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
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = crate::sync::parse_heartbeat)]
    pub(crate) heartbeat: std::time::Duration,
    /// How many partitions are read and written at once while loading [default: the number of
    /// cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) parallel: Option<u16>,
    /// What becomes of a table whose next changes the server's oplog has forgotten
    #[arg(long, value_enum, value_name = "CHOICE", default_value_t = OnLostHistory::Fail)]
    pub(crate) on_lost_history: OnLostHistory,
    /// What becomes of a table whose collection is dropped, renamed, or gone with its database
    #[arg(long, value_enum, value_name = "CHOICE", default_value_t = OnDrop::Keep)]
    pub(crate) on_drop: OnDrop,
    /// What is done when documents come that have another schema than their table
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = SchemaPolicy::Evolve)]
    pub(crate) on_schema_change: SchemaPolicy,
    /// Keep every version of every document, from now on, in a second table COLLECTION__history
    #[arg(long)]
    pub(crate) history: bool,
    /// Make tables that readers without deletion vectors can read: files with rows that change are
    /// written again without them, which costs more. A table keeps to it when it is synced without
    /// this option later; one that has deletion vectors has the files that have one written again
    #[arg(long)]
    pub(crate) no_deletion_vectors: bool,
    /// Keep a symlink manifest of each table, for engines that read files and not Delta's log, such as
    /// Redshift Spectrum: _symlink_format_manifest/manifest names the files of the newest version. A
    /// table keeps it when it is synced without this option later
    #[arg(long, requires = "no_deletion_vectors")]
    pub(crate) symlink_manifest: bool,
    /// Load all collections anew, replacing what the target holds
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Answer Prometheus at this address, such as 127.0.0.1:9100: state, lag, changes, times of each
    /// stage, under /metrics. Port 0 takes a free one, and tells which
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics: Option<String>,
    /// The directory of this machine for the key indexes: a cache, built anew where it is missing
    /// [default: tributary/index in the user's cache directory]
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) index: Option<PathBuf>,
    /// How progress and result are told on standard output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    // Behind all others, which would stand under their headings.
    #[command(flatten)]
    pub(crate) warehouse: WarehouseArguments,
    #[command(flatten)]
    pub(crate) publish: PublishArguments,
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
    #[command(flatten)]
    pub(crate) place: LakeArgument,
    /// A database whose tables the query may read as NAME.schema.table:
    /// NAME=postgres://user:password@host/database or NAME=redshift://user:password@host/database.
    /// NAME=env:VARIABLE takes the address from an environment variable and keeps the password out of
    /// the list of processes. May be given several times
    #[arg(long = "attach", value_name = "NAME=ADDRESS")]
    pub(crate) attached: Vec<String>,
    /// How the result is shown
    #[arg(long, value_enum, default_value_t = SqlOutput::Table)]
    pub(crate) output: SqlOutput,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// A MongoDB address as for `copy`, or the file that `run` takes: then everything that it names is
    /// reached
    #[arg(
        value_name = "SOURCE|FILE",
        default_value = "tributary.yaml",
        env = "TRIBUTARY_CONFIG"
    )]
    pub(crate) subject: String,
    /// Print what may stand in the file, as JSON Schema for editors, and end
    #[arg(long, exclusive = true)]
    pub(crate) schema: bool,
    /// A collection to look at; `*`, `?` and `[…]` match as in a shell. May be given several times
    /// [default: all but system collections]
    #[arg(long = "collection", value_name = "NAME")]
    pub(crate) collections: Vec<String>,
    /// Which members of a replica set are to be read [default: the address's readPreference, or
    /// secondaryPreferred]
    #[arg(long, value_name = "MODE")]
    pub(crate) read_preference: Option<ReadPreference>,
    #[command(flatten)]
    pub(crate) part: PartArguments,
    /// Where `copy` would write
    #[arg(value_name = "TARGET")]
    pub(crate) target: Option<String>,
    /// Set what is off: versioning, default encryption and, with --log-bucket, access logs of the
    /// target's bucket; with --pre-and-post-images, those of the source's collections
    #[arg(long)]
    pub(crate) fix: bool,
    /// Where the logs of access to the target's bucket are to go: a prefix of another bucket of the
    /// same account and region
    #[arg(long, value_name = "s3://BUCKET/PREFIX", requires = "target")]
    pub(crate) log_bucket: Option<String>,
    /// The key of KMS that the target's bucket is to encrypt with [default: any encryption will do,
    /// and --fix sets AES256]
    #[arg(long, value_name = "ARN", requires = "target")]
    pub(crate) kms_key: Option<String>,
    /// Collections are to keep the documents before and after each change, for exact versions in the
    /// history (MongoDB 6.0 and later)
    #[arg(long)]
    pub(crate) pre_and_post_images: bool,
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
pub(crate) enum SchemaPolicy {
    /// Add columns, and make them wider
    Evolve,
    /// Keep the schema, and put what does not fit into `_rescued_data`
    Rescue,
    /// Stop that collection alone, until `tributary schema approve`
    Stop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnLostHistory {
    /// It stops alone, and says what to do
    Fail,
    /// The collection is loaded anew in place of its content, and the gap recorded
    Reload,
    /// It goes on from the oldest moment that the server remembers, and the gap is recorded
    Accept,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnDrop {
    /// It keeps its rows
    Keep,
    /// It loses its rows, at that moment in the order of changes
    Clear,
    /// It stops alone, before that moment, until started with another choice
    Stop,
}

impl From<OnLostHistory> for tributary_flow::OnLostHistory {
    fn from(choice: OnLostHistory) -> Self {
        match choice {
            OnLostHistory::Fail => Self::Fail,
            OnLostHistory::Reload => Self::Reload,
            OnLostHistory::Accept => Self::Accept,
        }
    }
}

impl From<OnDrop> for tributary_flow::OnDrop {
    fn from(choice: OnDrop) -> Self {
        match choice {
            OnDrop::Keep => Self::Keep,
            OnDrop::Clear => Self::Clear,
            OnDrop::Stop => Self::Stop,
        }
    }
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

impl From<ExternalReader> for ExternalEngine {
    fn from(reader: ExternalReader) -> Self {
        match reader {
            ExternalReader::Spectrum => Self::Spectrum,
            ExternalReader::Postgres => Self::Postgres,
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

impl From<SchemaPolicy> for OnSchemaChange {
    fn from(policy: SchemaPolicy) -> Self {
        match policy {
            SchemaPolicy::Evolve => Self::Evolve,
            SchemaPolicy::Rescue => Self::Rescue,
            SchemaPolicy::Stop => Self::Stop,
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
