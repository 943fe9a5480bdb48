//! Loading collections into tables and files.
//!
//! While a load runs, its files carry its id in their names and no reader knows of them; what is
//! finished stands in small state files beside them ([`state`]). The end makes all of it visible
//! in one step ([`commit`]).

mod commit;
mod part;
mod rewrite;
pub(crate) mod state;
mod whole;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use deltalake::DeltaTable;
use serde::{Deserialize, Serialize};
use tributary_flow::{
    CollectionInfo, Failpoint, Load, LoadSink, LoadSummary, Opened, Partition, PartitionTotals,
    PartitionWriter,
};
use tributary_model::{ClusterTime, Error, ErrorKind, Namespace, Position, Result, TableSchema};

use crate::delta::table;
use crate::format::Format;
use crate::location::Location;
use crate::parquet_file::DataFile;
use commit::Manifest;
use part::{JsonlPart, ParquetPart};
use state::{Fingerprint, Lock, Plan, Receipt, StateFiles};

pub use whole::WholeCopy;

/// How loads are written.
#[derive(Debug, Clone)]
pub struct SinkOptions {
    /// The format of the files.
    pub format: Format,
    /// Replace what is there.
    pub overwrite: bool,
    /// Where the source stands before anything of it is read: Delta tables then follow their
    /// collections from there on.
    pub position: Option<Position>,
    /// The tables that are replaced because they lack changes, and from when on. Each records that.
    pub lacking: HashMap<Namespace, ClusterTime>,
    /// Tables that follow their collections have no deletion vectors: rows are deleted by writing
    /// their files again.
    pub copy_on_write: bool,
    /// Delta tables keep a symlink manifest, for engines that read their files and not their log.
    pub symlink_manifest: bool,
}

/// A lake that loads are written into.
#[derive(Debug, Clone)]
pub struct FileSink {
    lake: Location,
    options: SinkOptions,
    copy: Option<WholeCopy>,
}

impl FileSink {
    /// A sink that writes below `lake`.
    #[must_use]
    pub fn new(lake: Location, options: SinkOptions) -> Self {
        Self {
            lake,
            options,
            copy: None,
        }
    }

    /// Its loads are parts of a copy, which finds those again that are complete.
    #[must_use]
    pub fn part_of(self, copy: WholeCopy) -> Self {
        Self {
            copy: Some(copy),
            ..self
        }
    }
}

/// What came of a load, as its commit keeps it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Outcome {
    totals: PartitionTotals,
    files: u64,
    file_bytes: u64,
    rewritten_bytes: u64,
}

impl Outcome {
    fn summary(self, places: &Places) -> LoadSummary {
        LoadSummary {
            totals: self.totals,
            table: places.table.to_string(),
            files: self.files,
            file_bytes: self.file_bytes,
            rewritten_bytes: self.rewritten_bytes,
        }
    }
}

/// Where the parts of one load are.
#[derive(Debug, Clone)]
struct Places {
    /// The table or the files, once they are visible.
    table: Location,
    /// The files while the load runs.
    data: Location,
    state: StateFiles,
}

impl Places {
    fn new(lake: &Location, collection: &CollectionInfo, format: Format) -> Self {
        let database = lake.child(&collection.namespace.database);
        let table = database.child(&collection.namespace.collection);
        // A directory of plain files is written under another name and then renamed as a whole.
        let data = if format != Format::Delta && table.is_local() {
            database.child(&format!(".{}.loading", collection.namespace.collection))
        } else {
            table.clone()
        };
        let state = StateFiles::new(&data);
        Self { table, data, state }
    }

    /// Whether these files are there still; those of a store are kept until the load is visible.
    fn has_all(&self, files: &[DataFile]) -> bool {
        let directory = self.data.directory();
        directory
            .is_none_or(|directory| files.iter().all(|file| directory.join(&file.name).exists()))
    }
}

/// What the target holds already.
enum Existing {
    Nothing,
    Table(Box<DeltaTable>),
    Files(Option<Manifest>),
}

impl Existing {
    async fn find(places: &Places, format: Format) -> Result<Self> {
        if let Some(table) = table::open(&places.table).await? {
            return Ok(Self::Table(Box::new(table)));
        }
        if let Some(manifest) = Manifest::read(&places.table).await? {
            return Ok(Self::Files(Some(manifest)));
        }
        if format == Format::Delta {
            return Ok(Self::Nothing);
        }
        let state = places.state.directory().path().clone();
        let other = places
            .table
            .list()
            .await?
            .into_iter()
            .any(|object| !object.location.prefix_matches(&state));
        // Files of the load itself stand in the same place in an object store.
        let own =
            places.state.read_plan().await?.is_some() && places.data.path() == places.table.path();
        Ok(if other && !own {
            Self::Files(None)
        } else {
            Self::Nothing
        })
    }

    /// Whether it is the result of the load `id`.
    async fn is_load(&self, id: &str, places: &Places) -> Result<bool> {
        match self {
            Self::Nothing | Self::Files(None) => Ok(false),
            Self::Table(delta) => table::holds(delta, id, &places.table).await,
            Self::Files(Some(manifest)) => Ok(manifest.load == id),
        }
    }

    /// What came of the load with this mark, where it has become visible here.
    async fn of_copy(&self, mark: &str, places: &Places) -> Result<Option<LoadSummary>> {
        let outcome = match self {
            Self::Nothing | Self::Files(None) => None,
            Self::Table(delta) => commit::outcome_of_copy(delta, mark, places).await?,
            Self::Files(Some(manifest)) => manifest.is_of_copy(mark).then(|| manifest.outcome()),
        };
        Ok(outcome.map(|outcome| outcome.summary(places)))
    }
}

#[async_trait]
impl LoadSink for FileSink {
    async fn open(&self, source: &str, collection: &CollectionInfo) -> Result<Opened> {
        let format = self.options.format;
        let places = Places::new(&self.lake, collection, format);
        let lock = Lock::of(&places.table)?;
        let fingerprint = Fingerprint {
            source: source.to_owned(),
            namespace: collection.namespace.to_string(),
            uuid: collection.uuid.clone(),
            format: match &self.options.position {
                Some(_) => format!("{}, followed", format.name()),
                None => format.name().to_owned(),
            },
        };
        if format != Format::Delta && places.table.is_local() {
            // A load that became visible just before its process ended took its state with it.
            let moved = StateFiles::new(&places.table);
            if let Some(plan) = moved.read_plan().await? {
                let receipts = moved.read_receipts(&plan.load).await?;
                moved.remove().await?;
                places.data.remove_all().await?;
                if plan.fingerprint == fingerprint {
                    let summary = match Manifest::read(&places.table).await? {
                        Some(manifest) => manifest.outcome().summary(&places),
                        None => commit::summary(&places, receipts.values()),
                    };
                    return Ok(Opened::Complete(summary));
                }
            }
        }
        let existing = Existing::find(&places, format).await?;
        let plan = places.state.read_plan().await?;
        let visible = match &plan {
            Some(plan) => existing.is_load(&plan.load, &places).await?,
            None => false,
        };
        let mark = match &self.copy {
            Some(copy) => Some(copy.mark(&fingerprint).await?),
            None => None,
        };
        // One that is visible and has left its state is cleaned up behind first.
        let is_own = |plan: &Plan| plan.fingerprint == fingerprint;
        let is_to_end = visible && plan.as_ref().is_some_and(is_own);
        if !is_to_end
            && let Some(mark) = &mark
            && let Some(summary) = existing.of_copy(mark, &places).await?
        {
            return Ok(Opened::Complete(summary));
        }
        let lacking = self.options.lacking.get(&collection.namespace).copied();
        let notes = Notes { lacking, mark };
        if let Some(plan) = plan {
            if plan.fingerprint == fingerprint {
                let mut receipts = places.state.read_receipts(&plan.load).await?;
                if visible {
                    let summary =
                        commit::finish_summary(&places, format, &plan.load, receipts.values())
                            .await?;
                    places.state.remove().await?;
                    return Ok(Opened::Complete(summary));
                }
                // What other files were made of is gone when these were about to come into their place.
                receipts.retain(|_, receipt| places.has_all(&receipt.files));
                let files = receipts.values().flat_map(|receipt| &receipt.files);
                let written: Vec<&str> = files.map(|file| file.name.as_str()).collect();
                commit::sweep(&places.data, &plan.load, written).await?;
                let partitions = plan.partitions.clone();
                let load = self.load(places, plan, receipts, existing, notes, lock);
                return Ok(Opened::Resumed(Box::new(load), partitions));
            }
            if !visible && !self.options.overwrite {
                return Err(Error::new(ErrorKind::AlreadyExists, "an unfinished copy with other arguments is here")
                    .on("target", &places.table)
                    .on("arguments", format!("{} {}", plan.fingerprint.source, plan.fingerprint.format))
                    .remedy("repeat it with the same arguments to finish it, or give --overwrite to discard it"));
            }
            if !visible {
                commit::sweep(&places.data, &plan.load, std::iter::empty()).await?;
            }
            places.state.remove().await?;
        }
        if !matches!(existing, Existing::Nothing) && !self.options.overwrite {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                "the target already holds a table or files",
            )
            .on("target", &places.table)
            .remedy("give --overwrite to replace it, or choose another target"));
        }
        if format == Format::Delta && matches!(existing, Existing::Files(_)) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                "the target holds plain files, not a Delta table",
            )
            .on("target", &places.table)
            .remedy("remove them, or choose another target"));
        }
        if format != Format::Delta && matches!(existing, Existing::Table(_)) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                "the target is a Delta table, not plain files",
            )
            .on("target", &places.table)
            .remedy("choose another target for files of this format"));
        }
        let load = uuid::Uuid::now_v7().simple().to_string();
        let plan = Plan {
            load,
            fingerprint,
            partitions: Vec::new(),
            position: self.options.position.clone(),
            copy_on_write: self.options.copy_on_write,
            symlink_manifest: self.options.symlink_manifest,
        };
        let load = self.load(places, plan, HashMap::new(), existing, notes, lock);
        Ok(Opened::Fresh(Box::new(load)))
    }
}

impl FileSink {
    fn load(
        &self,
        places: Places,
        plan: Plan,
        receipts: HashMap<u32, Receipt>,
        existing: Existing,
        notes: Notes,
        lock: Option<Lock>,
    ) -> LakeLoad {
        let schema = receipts
            .values()
            .fold(TableSchema::default(), |schema, r| schema.join(&r.schema));
        let progress = Progress {
            receipts,
            schema,
            version: 0,
        };
        let inner = Inner {
            places,
            format: self.options.format,
            plan,
            notes,
            progress: Mutex::new(progress),
        };
        LakeLoad {
            inner: Arc::new(inner),
            copy: self.copy.clone(),
            existing,
            _lock: lock,
        }
    }
}

/// One load, as its commit sees it.
struct LakeLoad {
    inner: Arc<Inner>,
    copy: Option<WholeCopy>,
    existing: Existing,
    /// Keeps other processes from loading into the same place.
    _lock: Option<Lock>,
}

/// One load, as its writers share it.
struct Inner {
    places: Places,
    format: Format,
    plan: Plan,
    notes: Notes,
    progress: Mutex<Progress>,
}

/// What the commit of a load says beside what was loaded.
struct Notes {
    /// From when on the table that is replaced lacks changes, where it does.
    lacking: Option<ClusterTime>,
    /// What marks the load as a part of its copy.
    mark: Option<String>,
}

struct Progress {
    receipts: HashMap<u32, Receipt>,
    /// What all writers together know of the collection, so that one need not learn by itself what
    /// another has found: files then differ less, and fewer are written again.
    schema: TableSchema,
    /// Counts the changes of `schema`.
    version: u64,
}

impl Inner {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        // Nothing that can panic runs while it is held.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, receipt: Receipt) {
        let mut progress = self.progress();
        progress.schema = progress.schema.join(&receipt.schema);
        progress.version += 1;
        progress.receipts.insert(receipt.partition, receipt);
    }
}

#[async_trait]
impl Load for LakeLoad {
    async fn plan(&self, partitions: &[Partition]) -> Result<()> {
        let plan = Plan {
            partitions: partitions.to_vec(),
            ..self.inner.plan.clone()
        };
        self.inner.places.state.write_plan(&plan).await?;
        Failpoint::LoadPlanned.hit();
        Ok(())
    }

    fn finished(&self, partition: &Partition) -> Option<PartitionTotals> {
        self.inner
            .progress()
            .receipts
            .get(&partition.index)
            .map(|receipt| receipt.totals)
    }

    async fn writer(&self, partition: &Partition) -> Result<Box<dyn PartitionWriter>> {
        let inner = Arc::clone(&self.inner);
        Ok(match inner.format {
            Format::Jsonl(mode) => Box::new(JsonlPart::new(inner, partition, mode)),
            _ => Box::new(ParquetPart::new(inner, partition)),
        })
    }

    async fn commit(&self) -> Result<LoadSummary> {
        if let Some(copy) = &self.copy {
            copy.remember().await?;
        }
        commit::commit(&self.inner, &self.existing).await
    }
}
