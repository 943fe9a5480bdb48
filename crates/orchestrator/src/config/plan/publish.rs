//! Places that changes go to as they are, once they have been checked.

use std::path::PathBuf;

use crate::config::file::{BatchEvents, JsonSpelling};
use crate::config::values::Text;

/// A stream of Amazon Kinesis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Its address, kinesis://STREAM.
    pub uri: String,
    /// The region that it is in; none for that of the environment.
    pub region: Option<Text>,
    /// The address of the service; none for that of the region.
    pub endpoint: Option<Text>,
    /// The path of the field of events that is the partition key; none for the document's `_id`.
    pub partition_key: Option<Text>,
    /// How values are spelt.
    pub json: JsonSpelling,
    /// The directory below the state that its positions are kept in: one of each source, in a directory of its name.
    pub positions: PathBuf,
}

/// A place for files of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The path or address of its directory.
    pub path: String,
    /// How values are spelt.
    pub json: JsonSpelling,
    /// Whether files are compressed.
    pub gzip: bool,
    /// How many events a file holds at most.
    pub batch_events: Option<BatchEvents>,
}
