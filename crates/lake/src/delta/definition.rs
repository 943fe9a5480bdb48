//! What a table is, beside its files: the protocol and metadata of its log.

use deltalake::kernel::{Action, Metadata, Protocol};
use deltalake::table::state::DeltaTableState;
use serde_json::{Value, json};
use tributary_model::{Error, ErrorKind, Result, TableSchema};

use crate::delta::schema;
use crate::location::Location;

/// The property that holds the schema with all that is known of the values, as JSON.
const SCHEMA: &str = "tributary.schema";
const MAPPING_MODE: &str = "delta.columnMapping.mode";
const GREATEST_COLUMN: &str = "delta.columnMapping.maxColumnId";
const DELETION_VECTORS: &str = "delta.enableDeletionVectors";
/// How the logs of tables that follow a collection are kept small, unless someone has said
/// otherwise. Each commit leaves the earlier state of every file that it touches as a tombstone;
/// all of those younger than the first duration are in every checkpoint. Vacuum does not need them
/// there. Commits are kept longer, for those who read the table's changes or earlier versions.
const UPKEEP: &[(&str, &str)] = &[
    ("delta.deletedFileRetentionDuration", "interval 1 days"),
    ("delta.logRetentionDuration", "interval 7 days"),
    (CHECKPOINT_INTERVAL, "100"),
];
const CHECKPOINT_INTERVAL: &str = "delta.checkpointInterval";
/// The commits between checkpoints where a table does not say.
const COMMITS_TO_CHECKPOINT: u64 = 100;
/// Features that rewrite or constrain what a writer does in ways that are not done here.
const NOT_KEPT: &[&str] = &[
    "catalogManaged",
    "clustering",
    "generatedColumns",
    "icebergCompatV1",
    "icebergCompatV2",
    "identityColumns",
    "inCommitTimestamp",
    "rowTracking",
    "typeWidening",
];

/// A table's protocol and metadata, and whether they differ from those in the log.
#[derive(Debug, Clone)]
pub(crate) struct Definition {
    metadata: Value,
    protocol: Value,
    metadata_changed: bool,
    protocol_changed: bool,
}

impl Definition {
    /// The definition of a table that is not there yet.
    pub(crate) fn new() -> Self {
        Self {
            metadata: json!({
                "id": uuid::Uuid::new_v4().to_string(),
                "format": { "provider": "parquet", "options": {} },
                "partitionColumns": [],
                "createdTime": chrono::Utc::now().timestamp_millis(),
                "configuration": {},
            }),
            protocol: json!({ "minReaderVersion": 1, "minWriterVersion": 2 }),
            metadata_changed: true,
            protocol_changed: true,
        }
    }

    /// The definition of a table as it is.
    pub(crate) fn of(table: &DeltaTableState) -> Result<Self, serde_json::Error> {
        Ok(Self::from_log(
            serde_json::to_value(table.metadata())?,
            serde_json::to_value(table.protocol())?,
        ))
    }

    fn from_log(metadata: Value, protocol: Value) -> Self {
        Self {
            metadata,
            protocol,
            metadata_changed: false,
            protocol_changed: false,
        }
    }

    /// The table's id.
    pub(crate) fn id(&self) -> &str {
        self.metadata["id"].as_str().unwrap_or_default()
    }

    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        self.metadata["configuration"].get(name)?.as_str()
    }

    pub(crate) fn set_property(&mut self, name: &str, value: &str) {
        if self.property(name) != Some(value) {
            self.metadata["configuration"][name] = value.into();
            self.metadata_changed = true;
        }
    }

    /// The schema as it was set, with what is known of the values; none in a table of another
    /// writer.
    pub(crate) fn schema(&self) -> Option<TableSchema> {
        serde_json::from_str(self.property(SCHEMA)?).ok()
    }

    /// Makes `known` the table's schema: its settled form for readers, all of it for writers.
    pub(crate) fn set_schema(&mut self, known: &TableSchema) {
        let described = schema::describe(&known.settled());
        let text = described.schema.to_string();
        if self.metadata["schemaString"].as_str() != Some(&text) {
            self.metadata["schemaString"] = text.into();
            self.metadata_changed = true;
        }
        let was_mapped = self.property(MAPPING_MODE).is_some();
        if let Some(id) = described.max_column_id {
            let before = self
                .property(GREATEST_COLUMN)
                .and_then(|text| text.parse().ok())
                .unwrap_or(0);
            self.set_property(MAPPING_MODE, "name");
            self.set_property(GREATEST_COLUMN, &id.max(before).to_string());
            if !was_mapped {
                self.allow("columnMapping", 2, 5);
            }
        } else if was_mapped
            && let Some(configuration) = self.metadata["configuration"].as_object_mut()
        {
            configuration.remove(MAPPING_MODE);
            self.metadata_changed = true;
        }
        // A schema always is JSON.
        let known = serde_json::to_string(known).unwrap_or_default();
        self.set_property(SCHEMA, &known);
    }

    /// Has no partitions any more.
    pub(crate) fn unpartition(&mut self) {
        if self.metadata["partitionColumns"] != json!([]) {
            self.metadata["partitionColumns"] = json!([]);
            self.metadata_changed = true;
        }
    }

    /// Lets rows be marked as deleted, which readers of older protocols do not know.
    pub(crate) fn enable_deletion_vectors(&mut self) {
        self.allow("deletionVectors", u64::MAX, u64::MAX);
        self.set_property(DELETION_VECTORS, "true");
    }

    /// Says how long the log keeps what is past, where nothing has been said yet.
    pub(crate) fn set_upkeep(&mut self) {
        for (name, value) in UPKEEP {
            if self.property(name).is_none() {
                self.set_property(name, value);
            }
        }
    }

    /// After how many commits there is to be a checkpoint.
    pub(crate) fn commits_to_checkpoint(&self) -> u64 {
        self.property(CHECKPOINT_INTERVAL)
            .and_then(|text| text.parse().ok())
            .filter(|commits| *commits > 0)
            .unwrap_or(COMMITS_TO_CHECKPOINT)
    }

    /// Puts a feature into the protocol: by the versions that imply it, or by its name where those
    /// are not enough.
    fn allow(&mut self, feature: &str, reader: u64, writer: u64) {
        let version = |protocol: &Value, key: &str| protocol[key].as_u64().unwrap_or(0);
        self.protocol_changed = true;
        if writer < 7 && version(&self.protocol, "minWriterVersion") < 7 {
            let old = &self.protocol;
            let (reader, writer) = (
                version(old, "minReaderVersion").max(reader),
                version(old, "minWriterVersion").max(writer),
            );
            self.protocol["minReaderVersion"] = reader.into();
            self.protocol["minWriterVersion"] = writer.into();
            return;
        }
        if version(&self.protocol, "minWriterVersion") < 7 {
            // What the versions so far stood for, by name. Expressions that a table of an older
            // version may have are refused elsewhere.
            let mut reads = Vec::new();
            let mut writes = vec!["appendOnly", "invariants"];
            if self.property(MAPPING_MODE).is_some() {
                reads.push("columnMapping");
                writes.push("columnMapping");
            }
            if self.property("delta.enableChangeDataFeed") == Some("true") {
                writes.push("changeDataFeed");
            }
            self.protocol = json!({
                "minReaderVersion": 3, "minWriterVersion": 7,
                "readerFeatures": reads, "writerFeatures": writes,
            });
        }
        for key in ["readerFeatures", "writerFeatures"] {
            if let Some(features) = self.protocol[key].as_array_mut()
                && !features.contains(&feature.into())
            {
                features.push(feature.into());
            }
        }
    }

    /// That a table of another writer asks for nothing that would not be kept.
    pub(crate) fn check_writable(&self, place: &Location) -> Result<()> {
        let features = self.protocol["writerFeatures"].as_array();
        let refused = features
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .find(|feature| NOT_KEPT.contains(feature));
        let constrained = self.metadata["configuration"]
            .as_object()
            .is_some_and(|c| c.keys().any(|key| key.starts_with("delta.constraints.")));
        let refused = refused.or(constrained.then_some("checkConstraints"));
        let Some(feature) = refused else {
            return Ok(());
        };
        Err(Error::new(
            ErrorKind::InvalidData,
            format!("the table has the feature `{feature}`, which is not supported"),
        )
        .on("table", place)
        .remedy("drop that feature from the table, or choose another target"))
    }

    /// What of it has changed, as actions for the log.
    pub(crate) fn actions(&self) -> Result<Vec<Action>, serde_json::Error> {
        let mut actions = Vec::new();
        if self.protocol_changed {
            let protocol = serde_json::from_value::<Protocol>(self.protocol.clone())?;
            actions.push(Action::Protocol(protocol));
        }
        if self.metadata_changed {
            let metadata = serde_json::from_value::<Metadata>(self.metadata.clone())?;
            actions.push(Action::Metadata(metadata));
        }
        Ok(actions)
    }

    /// Remembers that the log has it now.
    pub(crate) fn committed(&mut self) {
        self.metadata_changed = false;
        self.protocol_changed = false;
    }
}
