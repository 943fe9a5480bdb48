//! Opening tables and committing loads to their log.

use std::sync::Arc;

use deltalake::kernel::{Action, Add, Transaction};
use deltalake::logstore::{LogStoreRef, StorageConfig, default_logstore};
use deltalake::{DeltaTable, DeltaTableError};
use futures::TryStreamExt;
use object_store::prefix::PrefixStore;
use serde_json::{Value, json};
use tributary_model::{
    ClusterTime, Error, ErrorKind, Gap, GapRemedy, Position, Result, TableSchema,
};

use crate::delta::definition::Definition;
use crate::delta::log::{self, CommitInfo};
use crate::delta::{follow, gaps, manifest};
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

/// Whether there is a table at `place`.
pub(crate) async fn is_table(place: &Location) -> Result<bool> {
    let is_table = log_store(place).is_delta_table_location().await;
    is_table.map_err(|error| table_failed("cannot open the table", &place.to_string(), error))
}

/// The files of a table's current version.
pub(crate) async fn files(table: &DeltaTable, place: &Location) -> Result<Vec<Add>> {
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
        .map_ok(|file| Add {
            path: file.path().into_owned(),
            size: file.size(),
            modification_time: file.modification_time(),
            data_change: true,
            stats: file.stats(),
            partition_values: file.partition_values_map(),
            deletion_vector: file.deletion_vector_descriptor(),
            ..Add::default()
        })
        .try_collect()
        .await
        .map_err(failed)
}

/// What the table at `place` is, beside its files; none where there is no table.
pub(crate) async fn definition(place: &Location) -> Result<Option<Definition>> {
    match open(place).await? {
        Some(table) => definition_of(&table, place).map(Some),
        None => Ok(None),
    }
}

/// What a table is, beside its files.
pub(crate) fn definition_of(table: &DeltaTable, place: &Location) -> Result<Definition> {
    let failed = |error: DeltaTableError| {
        table_failed("cannot read the table's log", &place.to_string(), error)
    };
    let definition = Definition::of(table.snapshot().map_err(failed)?);
    definition.map_err(|error| failed(error.into()))
}

/// The name under which the log remembers that a load was committed.
fn transaction(load: &str) -> String {
    format!("tributary:load:{load}")
}

/// The name under which the log remembers which part of a copy was committed.
fn copy_transaction(mark: &str) -> String {
    format!("tributary:copy:{mark}")
}

/// Whether `table` holds the load already.
pub(crate) async fn holds(table: &DeltaTable, load: &str, place: &Location) -> Result<bool> {
    let version = version_of_load(table, load, place).await?;
    Ok(version.is_some())
}

/// The version that made the load visible.
pub(crate) async fn version_of_load(
    table: &DeltaTable,
    load: &str,
    place: &Location,
) -> Result<Option<u64>> {
    version_of(table, transaction(load), place).await
}

/// The version that made the part of a copy visible that is marked so.
pub(crate) async fn version_of_copy(
    table: &DeltaTable,
    mark: &str,
    place: &Location,
) -> Result<Option<u64>> {
    version_of(table, copy_transaction(mark), place).await
}

async fn version_of(
    table: &DeltaTable,
    transaction: String,
    place: &Location,
) -> Result<Option<u64>> {
    let failed = |error: DeltaTableError| {
        table_failed("cannot read the table's log", &place.to_string(), error)
    };
    let version = table
        .snapshot()
        .map_err(failed)?
        .transaction_version(table.log_store().as_ref(), transaction)
        .await
        .map_err(failed)?;
    Ok(version.map(i64::unsigned_abs))
}

/// The `add` of a new data file.
pub(crate) fn add_action(file: &DataFile) -> Add {
    Add {
        path: file.name.clone(),
        size: i64::try_from(file.size).unwrap_or(i64::MAX),
        modification_time: chrono::Utc::now().timestamp_millis(),
        data_change: true,
        stats: file.stats.clone(),
        ..Add::default()
    }
}

/// How a table follows its collection once it is loaded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Following<'a> {
    /// Where it stands when it is loaded.
    pub(crate) position: &'a Position,
    /// Rows are deleted by writing their files again, so that readers need not know deletion
    /// vectors.
    pub(crate) copy_on_write: bool,
    /// From when on the table that is replaced lacks changes, where it does.
    pub(crate) lacking: Option<ClusterTime>,
}

/// A load, as its commit tells of it.
#[derive(Debug, Clone)]
pub(crate) struct Loaded<'a> {
    /// Its id.
    pub(crate) load: &'a str,
    /// What marks it as a part of a copy.
    pub(crate) copy: Option<&'a str>,
    /// What came of it.
    pub(crate) outcome: Value,
}

/// Commits a load as one version: the files become the table's content, in place of what `existing`
/// held. It has a symlink manifest then if that is asked for, or it had one.
pub(crate) async fn commit(
    place: &Location,
    existing: Option<&DeltaTable>,
    schema: &TableSchema,
    files: &[DataFile],
    loaded: Loaded<'_>,
    following: Option<Following<'_>>,
    symlink_manifest: bool,
) -> Result<()> {
    let failed = |error: DeltaTableError| {
        table_failed("cannot read the table's log", &place.to_string(), error)
    };
    let (mut definition, mut version) = (Definition::new(), 0);
    let mut removes = Vec::new();
    if let Some(table) = existing {
        let snapshot = table.snapshot().map_err(failed)?;
        definition = Definition::of(snapshot).map_err(|error| failed(error.into()))?;
        version = snapshot.version() + 1;
        definition.unpartition();
        removes = all_removed(table, place).await?;
    }
    definition.set_schema(schema);
    let now = chrono::Utc::now().timestamp_millis();
    let names = [
        Some(transaction(loaded.load)),
        loaded.copy.map(copy_transaction),
    ];
    let at = i64::try_from(version).unwrap_or(i64::MAX);
    let done = |name| Action::Txn(Transaction::new_with_last_update(name, at, Some(now)));
    let mut own = Some(json!({ "load": loaded.outcome }));
    let mut actions: Vec<Action> = names.into_iter().flatten().map(done).collect();
    if symlink_manifest {
        definition.enable_symlink_manifest();
    }
    let has_manifest = definition.has_symlink_manifest();
    if has_manifest && definition.allows_deletion_vectors() {
        definition.set_copy_on_write();
    }
    if let Some(following) = following {
        if following.copy_on_write || has_manifest {
            definition.set_copy_on_write();
        } else {
            definition.enable_deletion_vectors();
            definition.enable_change_data_feed(schema);
        }
        definition.set_upkeep();
        if let Some(from) = following.lacking {
            let to = following.position.cluster_time;
            let remedy = GapRemedy::Reloaded;
            gaps::record(&mut definition, Gap { from, to, remedy });
        }
        let mark = follow::Mark::new(following.position.clone());
        actions.push(Action::Txn(mark.transaction()));
        own = Some(mark.to_json());
    }
    actions.extend(definition.actions().map_err(|error| failed(error.into()))?);
    actions.extend(removes);
    actions.extend(files.iter().map(|file| Action::Add(add_action(file))));
    let mode = if existing.is_some() {
        "Overwrite"
    } else {
        "ErrorIfExists"
    };
    let info = CommitInfo {
        operation: "WRITE",
        parameters: json!({ "mode": mode, "partitionBy": "[]" }),
        is_blind_append: false,
        own,
    };
    if log::put(place, version, &info, &actions).await?.is_some() {
        if has_manifest {
            manifest::write(place, files.iter().map(|file| file.name.as_str())).await?;
        }
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::AlreadyExists,
        "another writer changed the table while it was being loaded",
    )
    .on("table", place)
    .remedy("start again with --overwrite to replace what it wrote, or load into another place"))
}

/// The removal of every file of a table.
async fn all_removed(table: &DeltaTable, place: &Location) -> Result<Vec<Action>> {
    let failed = |error: DeltaTableError| {
        table_failed("cannot read the table's log", &place.to_string(), error)
    };
    let snapshot = table.snapshot().map_err(failed)?;
    let removes = snapshot
        .snapshot()
        .file_views(&table.log_store(), None)
        .map_ok(|file| Action::Remove(file.remove_action(true)));
    removes.try_collect().await.map_err(failed)
}

/// Commits the result of a query as one version: the files become the table's content and `definition`
/// what it is, in place of `existing`. Answers the version.
pub(crate) async fn replace_by_result(
    place: &Location,
    existing: Option<&DeltaTable>,
    mut definition: Definition,
    files: &[DataFile],
) -> Result<u64> {
    let failed = |error: DeltaTableError| {
        table_failed("cannot read the table's log", &place.to_string(), error)
    };
    let (mut removes, mut version) = (Vec::new(), 0);
    if let Some(table) = existing {
        version = table.snapshot().map_err(failed)?.version() + 1;
        removes = all_removed(table, place).await?;
        definition.unpartition();
    }
    let mut actions = definition.actions().map_err(|error| failed(error.into()))?;
    actions.extend(removes);
    actions.extend(files.iter().map(|file| Action::Add(add_action(file))));
    let info = CommitInfo {
        operation: "WRITE",
        parameters: json!({ "mode": "Overwrite", "partitionBy": "[]" }),
        is_blind_append: false,
        own: None,
    };
    if log::put(place, version, &info, &actions).await?.is_none() {
        return Err(Error::new(
            ErrorKind::Conflict,
            "another writer changed the table while the query ran",
        )
        .on("table", place)
        .remedy("run the query again"));
    }
    if definition.has_symlink_manifest() {
        manifest::write(place, files.iter().map(|file| file.name.as_str())).await?;
    }
    Ok(version)
}

/// Creates an empty table that follows a collection from `position` on.
pub(crate) async fn create(
    place: &Location,
    schema: &TableSchema,
    position: &Position,
    properties: &[(&str, &str)],
) -> Result<()> {
    let mut definition = Definition::new();
    definition.set_schema(schema);
    for (name, value) in properties {
        definition.set_property(name, value);
    }
    definition.set_upkeep();
    let mark = follow::Mark::new(position.clone());
    let mut actions = vec![Action::Txn(mark.transaction())];
    actions.extend(definition.actions().map_err(|error| {
        table_failed("cannot create the table", &place.to_string(), error.into())
    })?);
    let info = CommitInfo {
        operation: "CREATE TABLE",
        parameters: json!({}),
        is_blind_append: true,
        own: Some(mark.to_json()),
    };
    if log::put(place, 0, &info, &actions).await?.is_some() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::AlreadyExists,
        "another writer has created the table",
    )
    .on("table", place))
}
