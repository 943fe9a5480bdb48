//! Arguments that say from where and to where, which commands share.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tributary_ingest::EventLog;

use super::{JsonSpelling, ReadPreference};

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
