//! Places that changes go to as they are.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::config::values::Text;

/// A stream of Amazon Kinesis. Each change becomes a record; after a crash, some may come again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct StreamEntry {
    /// Its address: kinesis://STREAM
    #[schemars(with = "Text")]
    pub(in crate::config) uri: Spanned<Text>,
    /// The region that it is in. [default: what the environment says, AWS_REGION]
    #[serde(default)]
    #[schemars(with = "Option<Text>")]
    pub(in crate::config) region: Option<Spanned<Text>>,
    /// The address of the service, such as that of an emulator. [default: that of the region]
    #[serde(default)]
    #[schemars(with = "Option<Text>")]
    pub(in crate::config) endpoint: Option<Spanned<Text>>,
    /// The field of events that is the partition key, such as fullDocument.customer: events with the same one
    /// keep their order. [default: documentKey._id]
    #[serde(default)]
    #[schemars(with = "Option<Text>")]
    pub(in crate::config) partition_key: Option<Spanned<Text>>,
    /// How events spell values. [default: relaxed]
    #[serde(default)]
    pub(in crate::config) json: JsonSpelling,
}

/// A place for files of changes, each of which is there once: DATABASE/COLLECTION/NAME.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct FilesEntry {
    /// A directory, relative to the file, or s3://bucket/prefix, az://container/prefix or
    /// abfss://container@account.dfs.core.windows.net/prefix
    #[schemars(with = "Text")]
    pub(in crate::config) path: Spanned<Text>,
    /// How events spell values. [default: relaxed]
    #[serde(default)]
    pub(in crate::config) json: JsonSpelling,
    /// Compress the files, whose names then end in .gz. [default: false]
    #[serde(default)]
    pub(in crate::config) gzip: bool,
    /// How many events a file holds at most. With 1 it is one JSON object, NAME.json; with more, an object a
    /// line, NAME.jsonl. [default: 1000]
    #[serde(default)]
    #[schemars(with = "Option<u32>", range(min = 1, max = 10_000))]
    pub(in crate::config) batch_events: Option<BatchEvents>,
}

/// How events spell values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JsonSpelling {
    /// As other programs read them
    #[default]
    Relaxed,
    /// With every type told apart
    Canonical,
}

/// How many events a file holds at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub struct BatchEvents(pub u32);

impl TryFrom<u32> for BatchEvents {
    type Error = String;

    fn try_from(count: u32) -> Result<Self, String> {
        if !(1..=10_000).contains(&count) {
            return Err("it is 1 at least and 10000 at most".to_owned());
        }
        Ok(Self(count))
    }
}
