//! Values that options choose between.

use clap::ValueEnum;
use tributary_lake::{Format, JsonMode, QueryOutput};
use tributary_model::OnSchemaChange;
use tributary_mongo::ReadFrom;

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

impl From<SchemaPolicy> for OnSchemaChange {
    fn from(policy: SchemaPolicy) -> Self {
        match policy {
            SchemaPolicy::Evolve => Self::Evolve,
            SchemaPolicy::Rescue => Self::Rescue,
            SchemaPolicy::Stop => Self::Stop,
        }
    }
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

impl From<OnLostHistory> for tributary_flow::OnLostHistory {
    fn from(choice: OnLostHistory) -> Self {
        match choice {
            OnLostHistory::Fail => Self::Fail,
            OnLostHistory::Reload => Self::Reload,
            OnLostHistory::Accept => Self::Accept,
        }
    }
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

impl From<SqlOutput> for QueryOutput {
    fn from(output: SqlOutput) -> Self {
        match output {
            SqlOutput::Table => Self::Table,
            SqlOutput::Json => Self::Json,
            SqlOutput::Csv => Self::Csv,
        }
    }
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
