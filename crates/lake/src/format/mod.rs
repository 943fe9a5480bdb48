//! The formats that a load is written in.

pub(crate) mod avro;
pub(crate) mod csv;
pub(crate) mod jsonl;

/// What a collection becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A Delta table.
    Delta,
    /// Parquet files.
    Parquet,
    /// A document a line, as Extended JSON.
    Jsonl(JsonMode),
    /// Comma-separated values, with nested fields flattened.
    Csv,
    /// Avro object container files.
    Avro,
}

/// How Extended JSON spells values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonMode {
    /// Every type told apart.
    Canonical,
    /// Numbers and dates as other programs read them.
    Relaxed,
}

impl Format {
    /// Its name on the command line and in the state of an interrupted load.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Delta => "delta",
            Self::Parquet => "parquet",
            Self::Jsonl(JsonMode::Relaxed) => "jsonl",
            Self::Jsonl(JsonMode::Canonical) => "jsonl-canonical",
            Self::Csv => "csv",
            Self::Avro => "avro",
        }
    }

    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Delta | Self::Parquet => "zstd.parquet",
            Self::Jsonl(_) => "jsonl",
            Self::Csv => "csv",
            Self::Avro => "avro",
        }
    }
}
