//! Opening tables and committing loads to their log.

use std::sync::Arc;

use deltalake::kernel::transaction::{CommitBuilder, CommitProperties, TableReference};
use deltalake::kernel::{Action, Add, Metadata, Protocol, Transaction};
use deltalake::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::{DeltaTable, DeltaTableError};
use futures::TryStreamExt;
use object_store::prefix::PrefixStore;
use serde_json::{Value, json};
use tributary_model::{Error, ErrorKind, Result, TableSchema};

use crate::delta::schema;
use crate::error::table_failed;
use crate::location::Location;
use crate::parquet_file::DataFile;

/// The log of the table at `place`.
pub(crate) fn log_store(place: &Location) -> LogStoreRef {
    let prefixed = Arc::new(PrefixStore::new(
        Arc::clone(place.root()),
        place.path().clone(),
    ));
    default_logstore(
        prefixed,
        Arc::clone(place.root()),
        &place.url(),
        &StorageConfig::default(),
    )
}

/// The table at `place` as it is now; none where there is no table.
pub(crate) async fn open(place: &Location) -> Result<Option<DeltaTable>> {
    let log = log_store(place);
    let failed =
        |error: DeltaTableError| table_failed("cannot open the table", &place.to_string(), error);
    if !log.is_delta_table_location().await.map_err(failed)? {
        return Ok(None);
    }
    let mut table = DeltaTable::new(log);
    table.load().await.map_err(failed)?;
    Ok(Some(table))
}

/// The name under which the log remembers that a load was committed.
fn transaction(load: &str) -> String {
    format!("tributary:load:{load}")
}

/// Whether `table` holds the load already.
pub(crate) async fn holds(table: &DeltaTable, load: &str, place: &Location) -> Result<bool> {
    let failed = |error: DeltaTableError| {
        table_failed("cannot read the table's log", &place.to_string(), error)
    };
    let version = table
        .snapshot()
        .map_err(failed)?
        .transaction_version(table.log_store().as_ref(), transaction(load))
        .await
        .map_err(failed)?;
    Ok(version.is_some())
}

/// The files that the table's current version consists of.
pub(crate) async fn file_names(table: &DeltaTable, place: &Location) -> Result<Vec<DataFile>> {
    let failed = |error: DeltaTableError| {
        table_failed("cannot read the table's log", &place.to_string(), error)
    };
    let log = table.log_store();
    let files = table
        .snapshot()
        .map_err(failed)?
        .snapshot()
        .file_views(&log, None);
    files
        .map_ok(|file| DataFile {
            name: file.path().to_string(),
            size: 0,
            rows: 0,
            schema: TableSchema::default(),
            stats: None,
        })
        .try_collect()
        .await
        .map_err(failed)
}

/// Commits a load as one version: the files become the table's content, in place of what `existing`
/// held.
pub(crate) async fn commit(
    place: &Location,
    existing: Option<&DeltaTable>,
    schema: &TableSchema,
    files: &[DataFile],
    load: &str,
) -> Result<()> {
    let failed = |error: DeltaTableError| commit_failed(place, error);
    let mut actions = table_actions(existing, schema).map_err(failed)?;
    let now = chrono::Utc::now().timestamp_millis();
    actions.extend(files.iter().map(|file| {
        Action::Add(Add {
            path: file.name.clone(),
            size: i64::try_from(file.size).unwrap_or(i64::MAX),
            modification_time: now,
            data_change: true,
            stats: file.stats.clone(),
            ..Add::default()
        })
    }));
    let snapshot = existing
        .map(DeltaTable::snapshot)
        .transpose()
        .map_err(failed)?;
    if let (Some(table), Some(snapshot)) = (existing, snapshot) {
        let log = table.log_store();
        let old: Vec<Action> = snapshot
            .snapshot()
            .file_views(&log, None)
            .map_ok(|file| Action::Remove(file.remove_action(true)))
            .try_collect()
            .await
            .map_err(failed)?;
        actions.extend(old);
    }
    let operation = DeltaOperation::Write {
        mode: if existing.is_some() {
            SaveMode::Overwrite
        } else {
            SaveMode::ErrorIfExists
        },
        partition_by: None,
        predicate: None,
    };
    let engine = Value::from(format!("tributary/{}", env!("CARGO_PKG_VERSION")));
    let properties = CommitProperties::default()
        .with_application_transaction(Transaction::new(transaction(load), 0))
        .with_metadata([("engineInfo".to_owned(), engine)]);
    CommitBuilder::from(properties)
        .with_actions(actions)
        .build(
            snapshot.map(|s| s as &dyn TableReference),
            log_store(place),
            operation,
        )
        .await
        .map_err(failed)?;
    Ok(())
}

/// Protocol and metadata: of a new table, or of one whose content is replaced. Such a table keeps
/// its id and its own settings.
fn table_actions(
    existing: Option<&DeltaTable>,
    schema: &TableSchema,
) -> Result<Vec<Action>, DeltaTableError> {
    let described = schema::describe(schema);
    let mut metadata = json!({
        "id": uuid::Uuid::new_v4().to_string(),
        "format": { "provider": "parquet", "options": {} },
        "partitionColumns": [],
        "createdTime": chrono::Utc::now().timestamp_millis(),
        "configuration": {},
    });
    let mut protocol = json!({ "minReaderVersion": 1, "minWriterVersion": 2 });
    let mut actions = Vec::new();
    if let Some(table) = existing {
        let snapshot = table.snapshot()?;
        metadata = serde_json::to_value(snapshot.metadata())?;
        metadata["partitionColumns"] = json!([]);
        protocol = serde_json::to_value(snapshot.protocol())?;
    }
    let was_mapped = metadata["configuration"]
        .get("delta.columnMapping.mode")
        .is_some();
    metadata["schemaString"] = described.schema.to_string().into();
    if let Some(id) = described.max_column_id {
        let before = metadata["configuration"]["delta.columnMapping.maxColumnId"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        metadata["configuration"]["delta.columnMapping.mode"] = "name".into();
        metadata["configuration"]["delta.columnMapping.maxColumnId"] =
            id.max(before).to_string().into();
        if !was_mapped {
            allow_mapping(&mut protocol);
        }
    } else if was_mapped && let Some(configuration) = metadata["configuration"].as_object_mut() {
        configuration.remove("delta.columnMapping.mode");
    }
    if existing.is_none() || (described.max_column_id.is_some() && !was_mapped) {
        actions.push(Action::Protocol(serde_json::from_value::<Protocol>(
            protocol,
        )?));
    }
    actions.push(Action::Metadata(serde_json::from_value::<Metadata>(
        metadata,
    )?));
    Ok(actions)
}

fn allow_mapping(protocol: &mut Value) {
    let version = |protocol: &Value, key: &str| protocol[key].as_u64().unwrap_or(0);
    if version(protocol, "minWriterVersion") < 7 {
        protocol["minReaderVersion"] = version(protocol, "minReaderVersion").max(2).into();
        protocol["minWriterVersion"] = version(protocol, "minWriterVersion").max(5).into();
        return;
    }
    for key in ["readerFeatures", "writerFeatures"] {
        if let Some(features) = protocol[key].as_array_mut()
            && !features.contains(&"columnMapping".into())
        {
            features.push("columnMapping".into());
        }
    }
}

fn commit_failed(place: &Location, error: DeltaTableError) -> Error {
    if let DeltaTableError::VersionAlreadyExists(_) | DeltaTableError::Transaction { .. } = &error {
        return Error::new(
            ErrorKind::AlreadyExists,
            "another writer changed the table while it was being loaded",
        )
        .on("table", place)
        .because(error)
        .remedy(
            "start again with --overwrite to replace what it wrote, or load into another place",
        );
    }
    table_failed("cannot commit to the table", &place.to_string(), error)
}
