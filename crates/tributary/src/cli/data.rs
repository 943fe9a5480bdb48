//! Arguments of the commands that move, compare, query and check data.

use std::path::PathBuf;

use clap::Args;

use super::{
    CollectionArguments, JsonSpelling, LakeArgument, OnDrop, OnLostHistory, Output, OutputFormat,
    PartArguments, PublishArguments, ReadPreference, SchemaPolicy, SqlOutput, WarehouseArguments,
};

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
    /// What this copy is called, where its arguments alone do not tell it from others.
    #[arg(skip)]
    pub(crate) name: Option<String>,
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
