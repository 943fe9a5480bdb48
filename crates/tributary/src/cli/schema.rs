//! Arguments of `tributary schema`.

use clap::{Args, Subcommand, ValueEnum};
use tributary_lake::ExternalEngine;

use super::{LakeArgument, Output};

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExternalReader {
    /// Amazon Redshift Spectrum: tables of `sync --no-deletion-vectors --symlink-manifest` in S3
    Spectrum,
    /// PostgreSQL with the extension pg_duckdb
    Postgres,
}

impl From<ExternalReader> for ExternalEngine {
    fn from(reader: ExternalReader) -> Self {
        match reader {
            ExternalReader::Spectrum => Self::Spectrum,
            ExternalReader::Postgres => Self::Postgres,
        }
    }
}
