//! What a table is, beside its files: the protocol and metadata of its log.

use deltalake::kernel::{Action, Metadata, Protocol};
use deltalake::table::state::DeltaTableState;
use serde_json::{Value, json};
use tributary_model::{Error, ErrorKind, Result, TableSchema};

use crate::delta::schema::{self, DeltaSchema};
use crate::location::Location;

/// The property that holds the schema with all that is known of the values, as JSON.
const SCHEMA: &str = "tributary.schema";
const MAPPING_MODE: &str = "delta.columnMapping.mode";
const GREATEST_COLUMN: &str = "delta.columnMapping.maxColumnId";
const DELETION_VECTORS: &str = "delta.enableDeletionVectors";
/// The property by which Delta's writers keep a symlink manifest right.
pub(crate) const SYMLINK_MANIFEST: &str = "delta.compatibility.symlinkFormatManifest.enabled";
/// The same while columns are mapped, since Spark's commits fail in such tables with that property.
const MAPPED_MANIFEST: &str = "tributary.symlinkManifest";
const CHANGE_DATA_FEED: &str = "delta.enableChangeDataFeed";
/// The columns that readers of the change data feed get beside those of the table.
const FEED_COLUMNS: &[&str] = &["_change_type", "_commit_version", "_commit_timestamp"];
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

    pub(crate) fn remove_property(&mut self, name: &str) {
        let configuration = self.metadata["configuration"].as_object_mut();
        if configuration.is_some_and(|properties| properties.remove(name).is_some()) {
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
        self.describe(schema::describe(&known.settled()));
        // A schema always is JSON.
        let known_text = serde_json::to_string(known).unwrap_or_default();
        self.set_property(SCHEMA, &known_text);
        if self.has_change_data_feed()
            && let Some(field) = reserved_field(known)
        {
            tracing::warn!(
                field,
                "a table cannot have a change data feed and a column of this name: the feed ends"
            );
            self.set_property(CHANGE_DATA_FEED, "false");
        }
    }

    /// Makes `described` the table's schema for readers.
    pub(crate) fn describe(&mut self, described: DeltaSchema) {
        let text = described.schema.to_string();
        if self.metadata["schemaString"].as_str() != Some(&text) {
            self.metadata["schemaString"] = text.into();
            self.metadata_changed = true;
        }
        let was_mapped = self.property(MAPPING_MODE).is_some();
        let has_manifest = self.has_symlink_manifest();
        if let Some(id) = described.max_column_id {
            let before = self
                .property(GREATEST_COLUMN)
                .and_then(|text| text.parse().ok())
                .unwrap_or(0);
            self.set_property(MAPPING_MODE, "name");
            self.set_property(GREATEST_COLUMN, &id.max(before).to_string());
            if !was_mapped {
                self.allow("columnMapping", Some(2), 5);
            }
        } else if was_mapped {
            self.remove_property(MAPPING_MODE);
        }
        if has_manifest {
            self.enable_symlink_manifest();
        }
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
        self.allow("deletionVectors", Some(u64::MAX), u64::MAX);
        self.set_property(DELETION_VECTORS, "true");
    }

    /// Has rows deleted by writing their files again, and asks of readers no more than that takes.
    /// No file of the table may have a deletion vector.
    pub(crate) fn set_copy_on_write(&mut self) {
        self.set_property(DELETION_VECTORS, "false");
        for key in ["readerFeatures", "writerFeatures"] {
            if let Some(features) = self.protocol[key].as_array_mut()
                && let Some(at) = features.iter().position(|f| f == "deletionVectors")
            {
                features.remove(at);
                self.protocol_changed = true;
            }
        }
        // Readers need the third version for what is named there alone.
        let version = match self.protocol["readerFeatures"]
            .as_array()
            .map(Vec::as_slice)
        {
            Some([]) => 1,
            Some([mapping]) if mapping == "columnMapping" => 2,
            _ => return,
        };
        self.protocol["minReaderVersion"] = version.into();
        if let Some(protocol) = self.protocol.as_object_mut() {
            protocol.remove("readerFeatures");
        }
        self.protocol_changed = true;
    }

    /// Whether files with rows that are deleted are written again without them, instead of having
    /// those rows marked in deletion vectors.
    pub(crate) fn is_copy_on_write(&self) -> bool {
        !self.is_set(DELETION_VECTORS)
    }

    /// Whether files may have deletion vectors by the table's protocol.
    pub(crate) fn allows_deletion_vectors(&self) -> bool {
        let features = self.protocol["writerFeatures"].as_array();
        features.is_some_and(|features| features.iter().any(|f| f == "deletionVectors"))
    }

    /// Whether the table has a symlink manifest that is to be kept right.
    pub(crate) fn has_symlink_manifest(&self) -> bool {
        self.is_set(SYMLINK_MANIFEST) || self.is_set(MAPPED_MANIFEST)
    }

    /// Has a symlink manifest. Rows must be deleted by writing their files again.
    pub(crate) fn enable_symlink_manifest(&mut self) {
        let (said, unsaid) = match self.property(MAPPING_MODE) {
            Some(mode) if mode != "none" => (MAPPED_MANIFEST, SYMLINK_MANIFEST),
            _ => (SYMLINK_MANIFEST, MAPPED_MANIFEST),
        };
        self.set_property(said, "true");
        self.remove_property(unsaid);
    }

    /// Lets the table's changes be read.
    pub(crate) fn enable_change_data_feed(&mut self, known: &TableSchema) {
        if reserved_field(known).is_none() {
            self.allow("changeDataFeed", None, 4);
            self.set_property(CHANGE_DATA_FEED, "true");
        }
    }

    /// Whether the table's changes can be read.
    pub(crate) fn has_change_data_feed(&self) -> bool {
        self.is_set(CHANGE_DATA_FEED)
    }

    fn is_set(&self, name: &str) -> bool {
        self.property(name)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
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
    /// are not enough. Without a version for readers it is one that they need not know.
    fn allow(&mut self, feature: &str, reader: Option<u64>, writer: u64) {
        let version = |protocol: &Value, key: &str| protocol[key].as_u64().unwrap_or(0);
        self.protocol_changed = true;
        if writer < 7 && version(&self.protocol, "minWriterVersion") < 7 {
            let old = &self.protocol;
            let (reader, writer) = (
                version(old, "minReaderVersion").max(reader.unwrap_or(0)),
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
            if self.has_change_data_feed() {
                writes.push("changeDataFeed");
            }
            self.protocol = json!({
                "minReaderVersion": 3, "minWriterVersion": 7,
                "readerFeatures": reads, "writerFeatures": writes,
            });
        }
        let before = version(&self.protocol, "minReaderVersion");
        match reader {
            None => {}
            // What readers are to know is said by versions alone, below the third.
            Some(reader @ ..3) if before < 3 => {
                self.protocol["minReaderVersion"] = before.max(reader).into();
            }
            Some(_) => {
                if before < 3 {
                    let named: &[&str] = if before == 2 { &["columnMapping"] } else { &[] };
                    self.protocol["minReaderVersion"] = 3.into();
                    self.protocol["readerFeatures"] = json!(named);
                }
                self.name("readerFeatures", feature);
            }
        }
        self.name("writerFeatures", feature);
    }

    /// Puts a feature into a list of them.
    fn name(&mut self, list: &str, feature: &str) {
        if let Some(features) = self.protocol[list].as_array_mut()
            && !features.contains(&feature.into())
        {
            features.push(feature.into());
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

    /// Whether the log does not have it as it is.
    pub(crate) fn has_changed(&self) -> bool {
        self.protocol_changed || self.metadata_changed
    }

    /// Remembers that the log has it now.
    pub(crate) fn committed(&mut self) {
        self.metadata_changed = false;
        self.protocol_changed = false;
    }
}

/// A field that has the name of a column of the change data feed.
fn reserved_field(schema: &TableSchema) -> Option<&str> {
    let fields = schema.columns.iter().map(|column| column.field.as_str());
    let mut reserved = fields.filter(|field| {
        let is_same = |name: &&str| name.eq_ignore_ascii_case(field);
        FEED_COLUMNS.iter().any(is_same)
    });
    reserved.next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_model::schema::{Column, ColumnType};

    fn schema(field: &str) -> TableSchema {
        TableSchema {
            columns: vec![Column::new(field, ColumnType::Bool)],
        }
    }

    fn reads(definition: &Definition) -> (u64, Value) {
        let version = definition.protocol["minReaderVersion"].as_u64().unwrap();
        (version, definition.protocol["readerFeatures"].clone())
    }

    #[test]
    fn a_protocol_asks_for_no_more_than_the_table_has() {
        for (field, version, mapping) in [
            ("plain", 1, json!([])),
            ("with space", 2, json!(["columnMapping"])),
        ] {
            let mut definition = Definition::new();
            definition.set_schema(&schema(field));
            definition.set_copy_on_write();
            assert_eq!(reads(&definition), (version, Value::Null));
            assert!(definition.is_copy_on_write());

            // There and back again, twice.
            for _ in 0..2 {
                definition.enable_deletion_vectors();
                definition.enable_change_data_feed(&schema(field));
                let mut features = mapping.as_array().unwrap().clone();
                features.push("deletionVectors".into());
                assert_eq!(reads(&definition), (3, features.into()));
                assert_eq!(definition.protocol["minWriterVersion"], 7);
                let writes = definition.protocol["writerFeatures"].to_string();
                for feature in ["deletionVectors", "changeDataFeed", "appendOnly"] {
                    assert_eq!(writes.matches(feature).count(), 1, "{writes}");
                }
                assert!(!definition.is_copy_on_write());

                definition.set_copy_on_write();
                assert_eq!(reads(&definition), (version, Value::Null));
                assert!(!definition.allows_deletion_vectors());
                definition.actions().unwrap();
            }
            // A name that needs column mapping may come any time.
            definition.enable_symlink_manifest();
            definition.set_schema(&schema("with space"));
            assert!(definition.has_symlink_manifest());
            assert_eq!(definition.property(SYMLINK_MANIFEST), None);
            assert_eq!(reads(&definition), (2, Value::Null));
            let writes = definition.protocol["writerFeatures"].to_string();
            assert_eq!(writes.matches("columnMapping").count(), 1, "{writes}");
            // And may be gone again, where a table is loaded anew.
            definition.set_schema(&schema("plain"));
            assert!(definition.has_symlink_manifest());
            assert_eq!(definition.property(SYMLINK_MANIFEST), Some("true"));
            assert_eq!(definition.property(MAPPED_MANIFEST), None);
        }
    }
}
