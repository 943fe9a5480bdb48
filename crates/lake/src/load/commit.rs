//! Making a load visible, in one step, and leaving nothing else behind.

use std::collections::HashSet;
use std::sync::Arc;

use deltalake::DeltaTable;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};
use tributary_convert::arrow_schema::column_names;
use tributary_flow::{Failpoint, LoadSummary, PartitionTotals};
use tributary_model::{Error, ErrorKind, Result, TableSchema};

use super::state::Receipt;
use super::{Existing, Inner, Outcome, Places, StateFiles, rewrite};
use crate::delta::follow::LiveFile;
use crate::delta::table::{self, Following, Loaded};
use crate::delta::{log, manifest};
use crate::format::Format;
use crate::location::Location;
use crate::parquet_file::DataFile;

const MANIFEST: &str = "_manifest.json";

/// What a directory or prefix of plain files holds. Readers of an object store, where files cannot
/// be renamed, take the files that it names and no others.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// The load that wrote the files.
    pub(super) load: String,
    /// What marks it as a part of a copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    copy: Option<String>,
    format: String,
    documents: u64,
    /// Of the documents, as BSON.
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    rescued: u64,
    /// Names of the columns, for formats that have them.
    columns: Vec<String>,
    pub(super) files: Vec<ManifestFile>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ManifestFile {
    name: String,
    size: u64,
    rows: u64,
}

impl Manifest {
    pub(super) async fn read(table: &Location) -> Result<Option<Self>> {
        let Some(bytes) = table.child(MANIFEST).read().await? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            Error::new(
                ErrorKind::InvalidData,
                "the manifest of the files cannot be read",
            )
            .on("target", table)
            .because(error)
            .remedy(
                "the directory may belong to another program: choose another target, or remove it",
            )
        })
    }

    pub(super) fn is_of_copy(&self, mark: &str) -> bool {
        self.copy.as_deref() == Some(mark)
    }

    pub(super) fn outcome(&self) -> Outcome {
        let (documents, bytes, rescued) = (self.documents, self.bytes, self.rescued);
        Outcome {
            totals: PartitionTotals {
                documents,
                bytes,
                rescued,
            },
            files: self.files.len() as u64,
            file_bytes: self.files.iter().map(|file| file.size).sum(),
            rewritten_bytes: 0,
        }
    }

    async fn write(&self, table: &Location) -> Result<()> {
        // Plain structs with text keys always are JSON.
        table
            .child(MANIFEST)
            .write(serde_json::to_vec_pretty(self).unwrap_or_default())
            .await
    }
}

/// Makes the load visible.
pub(super) async fn commit(inner: &Arc<Inner>, existing: &Existing) -> Result<LoadSummary> {
    let (receipts, schema) = {
        let progress = inner.progress();
        let mut receipts: Vec<Receipt> = progress.receipts.values().cloned().collect();
        receipts.sort_by_key(|receipt| receipt.partition);
        (receipts, progress.schema.clone())
    };
    // Joined anew in the order of the partitions, so that the order of columns does not depend on
    // which was read first.
    let joined = receipts
        .iter()
        .fold(TableSchema::default(), |joined, r| joined.join(&r.schema));
    let known = joined.join(&schema);
    let schema = known.settled();
    let written: Vec<DataFile> = receipts
        .iter()
        .flat_map(|r| r.files.iter().cloned())
        .collect();
    let (files, rewritten_bytes) = {
        let (inner, schema) = (Arc::clone(inner), schema.clone());
        tokio::task::spawn_blocking(move || finish_files(&inner, written, &schema))
            .await
            .map_err(|panic| {
                Error::new(ErrorKind::Internal, "a rewriting thread ended abnormally")
                    .because(panic)
            })??
    };
    Failpoint::LoadUnified.hit();
    let places = &inner.places;
    let outcome = Outcome {
        totals: totals(&receipts),
        files: files.len() as u64,
        file_bytes: files.iter().map(|file| file.size).sum(),
        rewritten_bytes,
    };
    match inner.format {
        Format::Delta => {
            let old = if let Existing::Table(table) = existing {
                Some(table.as_ref())
            } else {
                None
            };
            let following = inner.plan.position.as_ref().map(|position| Following {
                position,
                copy_on_write: inner.plan.copy_on_write,
                lacking: inner.notes.lacking,
            });
            table::commit(
                &places.table,
                old,
                &known,
                &files,
                Loaded {
                    load: &inner.plan.load,
                    copy: inner.notes.mark.as_deref(),
                    outcome: serde_json::to_value(outcome).unwrap_or_default(),
                },
                following,
                inner.plan.symlink_manifest,
            )
            .await?;
        }
        _ => publish_files(inner, existing, &schema, &files, outcome.totals).await?,
    }
    Failpoint::LoadCommitted.hit();
    let written = files.iter().map(|file| file.name.as_str());
    sweep(&places.table, &inner.plan.load, written).await?;
    Failpoint::LoadSwept.hit();
    StateFiles::new(&places.table).remove().await?;
    Failpoint::LoadEnded.hit();
    Ok(outcome.summary(places))
}

/// What came of the load with this mark; none where the table does not hold it.
pub(super) async fn outcome_of_copy(
    table: &DeltaTable,
    mark: &str,
    places: &Places,
) -> Result<Option<Outcome>> {
    let Some(version) = table::version_of_copy(table, mark, &places.table).await? else {
        return Ok(None);
    };
    if let Some(outcome) = outcome_at(version, places).await? {
        return Ok(Some(outcome));
    }
    // The log does not reach back so far: what is there now is told.
    let files = table::files(table, &places.table).await?;
    let files: Vec<LiveFile> = files.into_iter().map(LiveFile::new).collect();
    let totals = PartitionTotals {
        documents: files.iter().map(LiveFile::live_rows).sum(),
        ..PartitionTotals::default()
    };
    Ok(Some(Outcome {
        totals,
        files: files.len() as u64,
        file_bytes: files.iter().map(|file| file.add.size.unsigned_abs()).sum(),
        rewritten_bytes: 0,
    }))
}

/// What came of the load that a version is.
async fn outcome_at(version: u64, places: &Places) -> Result<Option<Outcome>> {
    let commit = log::read(&places.table, version).await?;
    let own = commit.as_ref().and_then(|commit| commit.own());
    Ok(own.and_then(|own| serde_json::from_value(own["load"].clone()).ok()))
}

fn finish_files(
    inner: &Inner,
    written: Vec<DataFile>,
    schema: &TableSchema,
) -> Result<(Vec<DataFile>, u64)> {
    match inner.format {
        Format::Jsonl(_) => Ok((written, 0)),
        Format::Delta | Format::Parquet => rewrite::unify(inner, written, schema),
        Format::Csv | Format::Avro => Ok((rewrite::convert(inner, &written, schema)?, 0)),
    }
}

async fn publish_files(
    inner: &Inner,
    existing: &Existing,
    schema: &TableSchema,
    files: &[DataFile],
    totals: PartitionTotals,
) -> Result<()> {
    let places = &inner.places;
    let columns = if matches!(inner.format, Format::Jsonl(_)) {
        Vec::new()
    } else {
        column_names(&schema.columns, true)
    };
    let manifest = Manifest {
        load: inner.plan.load.clone(),
        copy: inner.notes.mark.clone(),
        format: inner.format.name().to_owned(),
        documents: totals.documents,
        bytes: totals.bytes,
        rescued: totals.rescued,
        columns,
        files: files
            .iter()
            .map(|f| ManifestFile {
                name: f.name.clone(),
                size: f.size,
                rows: f.rows,
            })
            .collect(),
    };
    let (Some(from), Some(to)) = (places.data.directory(), places.table.directory()) else {
        manifest.write(&places.table).await?;
        if let Existing::Files(old) = existing {
            remove_replaced(&places.table, old.as_ref(), files).await?;
        }
        return Ok(());
    };
    let written = files.iter().map(|file| file.name.as_str());
    sweep(&places.data, &inner.plan.load, written).await?;
    Failpoint::FilesSwept.hit();
    manifest.write(&places.data).await?;
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Storage, "cannot put the files into their place")
            .on("target", &places.table)
            .because(error)
    };
    if to.exists() {
        renameat_with(CWD, &from, CWD, &to, RenameFlags::EXCHANGE).map_err(|e| failed(e.into()))?;
        places.data.remove_all().await
    } else {
        std::fs::rename(&from, &to).map_err(failed)
    }
}

/// Removes the files that a load replaced in an object store.
async fn remove_replaced(
    table: &Location,
    old: Option<&Manifest>,
    files: &[DataFile],
) -> Result<()> {
    let keep: HashSet<&str> = files.iter().map(|f| f.name.as_str()).collect();
    let Some(old) = old else { return Ok(()) };
    for file in old
        .files
        .iter()
        .filter(|file| !keep.contains(file.name.as_str()))
    {
        table.remove(table.child(&file.name).path()).await?;
    }
    Ok(())
}

/// Removes the files of the load `id` that are not among `keep`: those of attempts that failed or
/// were killed, and those that were written again.
pub(super) async fn sweep<'a>(
    data: &Location,
    id: &str,
    keep: impl IntoIterator<Item = &'a str>,
) -> Result<()> {
    let keep: HashSet<&str> = keep.into_iter().collect();
    let is_left = |name: &str| name.contains(id) && !keep.contains(name);
    if let Some(directory) = data.directory() {
        // Listed as it is: an object store hides the parts of unfinished files.
        let failed = |error: std::io::Error| {
            Error::new(
                ErrorKind::Storage,
                "cannot remove what an unfinished copy left",
            )
            .on("target", data)
            .because(error)
        };
        let mut entries = match tokio::fs::read_dir(&directory).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        while let Some(entry) = entries.next_entry().await.map_err(failed)? {
            if is_left(&entry.file_name().to_string_lossy()) {
                tokio::fs::remove_file(entry.path()).await.map_err(failed)?;
            }
        }
        return Ok(());
    }
    for object in data.list().await? {
        if object.location.filename().is_some_and(is_left) {
            data.remove(&object.location).await?;
        }
    }
    Ok(())
}

/// The summary of a load that was committed by a process that then ended, after cleaning up what
/// that process left.
pub(super) async fn finish_summary<'a>(
    places: &Places,
    format: Format,
    id: &str,
    receipts: impl Iterator<Item = &'a Receipt> + Clone,
) -> Result<LoadSummary> {
    if format != Format::Delta
        && let Some(manifest) = Manifest::read(&places.table).await?
    {
        let keep = manifest.files.iter().map(|file| file.name.as_str());
        sweep(&places.table, id, keep).await?;
        return Ok(manifest.outcome().summary(places));
    }
    if let Some(table) = table::open(&places.table).await? {
        let keep = table::files(&table, &places.table).await?;
        let definition = table::definition_of(&table, &places.table)?;
        if definition.has_symlink_manifest() {
            // It may have ended before that was written.
            manifest::write(&places.table, keep.iter().map(|add| add.path.as_str())).await?;
        }
        sweep(&places.table, id, keep.iter().map(|add| add.path.as_str())).await?;
        if let Some(version) = table::version_of_load(&table, id, &places.table).await?
            && let Some(outcome) = outcome_at(version, places).await?
        {
            return Ok(outcome.summary(places));
        }
    }
    Ok(summary(places, receipts))
}

impl From<ManifestFile> for DataFile {
    fn from(file: ManifestFile) -> Self {
        Self {
            name: file.name,
            size: file.size,
            rows: file.rows,
            schema: TableSchema::default(),
            stats: None,
        }
    }
}

/// The summary of a load by what its partitions recorded.
pub(super) fn summary<'a>(
    places: &Places,
    receipts: impl Iterator<Item = &'a Receipt> + Clone,
) -> LoadSummary {
    let files = receipts.clone().flat_map(|r| &r.files);
    let outcome = Outcome {
        totals: totals(receipts.clone()),
        files: files.clone().count() as u64,
        file_bytes: files.map(|file| file.size).sum(),
        rewritten_bytes: 0,
    };
    outcome.summary(places)
}

fn totals<'a>(receipts: impl IntoIterator<Item = &'a Receipt>) -> PartitionTotals {
    receipts
        .into_iter()
        .fold(PartitionTotals::default(), |mut sum, receipt| {
            sum += receipt.totals;
            sum
        })
}
