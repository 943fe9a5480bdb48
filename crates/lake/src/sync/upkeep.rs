//! Tables put in order while they follow: files joined, checkpoints of the log written, and what
//! has expired removed.
//!
//! All of it runs beside the changes that are applied, a piece at a time, and none of it fails
//! them: what cannot be done is told, and tried again later. Between two batches only the short
//! end of a compaction is done, its commit and the new places of its rows.
//!
//! - Compaction: [`super::compact`].
//! - Checkpoints: after as many commits as the table's `delta.checkpointInterval` says (100), or
//!   as many bytes of them as [`UpkeepOptions::checkpoint_bytes`]. Once an hour, what of the log
//!   is older than `delta.logRetentionDuration` (7 days) and than the retention of files is
//!   removed, unless `delta.enableExpiredLogCleanup` is false. Tombstones leave the checkpoints
//!   after `delta.deletedFileRetentionDuration` (1 day): there is one for every file and every
//!   deletion vector that a commit has replaced.
//! - Vacuum: [`super::vacuum`].
//!
//! The position of the table outlives the log's clean-up as the version of a `txn` action, without
//! its token; the newest commits, which have the token, are never removed.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use deltalake::{DeltaTableError, checkpoints};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tributary_flow::Failpoint;
use tributary_model::{Error, ErrorKind, Result};

use super::compact::{self, Work, Written};
use super::places::Places;
use super::rewrite::Source;
use super::{SyncOptions, vacuum};
use crate::delta::follow::LiveTable;
use crate::delta::{deletion_vector, manifest, table};
use crate::error::table_failed;
use crate::location::Location;
use crate::parquet_file::FILE_BYTES;

/// How long nothing is tried again after it has failed.
const REST: Duration = Duration::from_secs(600);
/// How often the log is cleaned up.
const CLEAN_UP_EVERY: Duration = Duration::from_secs(3600);
/// How long the log is kept where a table does not say.
const LOG_RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);

/// When a table is put in order.
#[derive(Debug, Clone)]
pub struct UpkeepOptions {
    /// How many files of about the same size are joined.
    pub join_files: usize,
    /// The size that files are joined to.
    pub file_bytes: u64,
    /// The percentage of deleted rows from which on a file is written again.
    pub dead_percent: u64,
    /// The bytes that deleted rows take at least before their file is written again.
    pub dead_bytes: u64,
    /// The bytes of commits after which there is a checkpoint, however few they are.
    pub checkpoint_bytes: u64,
    /// How often files that are no part of the table any more are looked for.
    pub vacuum_every: Duration,
    /// How many tables have files joined at the same time.
    pub at_once: usize,
}

impl Default for UpkeepOptions {
    fn default() -> Self {
        Self {
            join_files: 8,
            file_bytes: FILE_BYTES as u64,
            dead_percent: 30,
            dead_bytes: 1 << 20,
            checkpoint_bytes: 10 << 20,
            vacuum_every: Duration::from_secs(24 * 3600),
            at_once: 2,
        }
    }
}

/// Which files may be joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joining {
    /// Any: the key index knows where their rows are then.
    Any,
    /// Those that come one after the other, since their rows are in order.
    InOrder,
}

/// What is done to one table beside applying changes.
pub(super) struct Upkeep {
    options: Arc<SyncOptions>,
    joining: Joining,
    /// What all tables together may run.
    slots: Arc<Semaphore>,
    compaction: Option<Compaction>,
    rest_until: Option<Instant>,
    chore: Option<JoinHandle<Result<Done>>>,
    /// The version of the last checkpoint.
    checkpoint: u64,
    /// [`LiveTable::log_bytes`] at the last checkpoint.
    checkpoint_bytes: u64,
    cleaned: Option<Instant>,
    vacuum_at: Instant,
}

/// Files being joined.
struct Compaction {
    task: JoinHandle<Result<Written>>,
    stop: Arc<AtomicBool>,
}

/// A chore that is done.
enum Done {
    Checkpoint {
        version: u64,
    },
    /// Vacuum, which is due again after this time.
    Vacuum(Duration),
}

impl Upkeep {
    pub(super) async fn open(
        live: &LiveTable,
        options: Arc<SyncOptions>,
        slots: Arc<Semaphore>,
        joining: Joining,
    ) -> Self {
        let checkpoint = match last_checkpoint(&live.place).await {
            Ok(version) => version,
            Err(error) => {
                tell(live, "the last checkpoint of the log is not known", &error);
                None
            }
        };
        Self {
            options,
            joining,
            slots,
            compaction: None,
            rest_until: None,
            chore: None,
            checkpoint: checkpoint.unwrap_or(0),
            checkpoint_bytes: live.log_bytes,
            cleaned: None,
            vacuum_at: Instant::now(),
        }
    }

    /// The size at which files are closed.
    pub(super) fn file_bytes(&self) -> u64 {
        self.options.upkeep.file_bytes
    }

    /// Takes over what is done, and begins what is due. It waits for nothing that takes long.
    pub(super) async fn go_on(&mut self, live: &mut LiveTable, places: Option<&mut Places>) {
        if self
            .compaction
            .as_ref()
            .is_some_and(|c| c.task.is_finished())
        {
            self.end_compaction(live, places).await;
        }
        if self.chore.as_ref().is_some_and(JoinHandle::is_finished) {
            self.end_chore(live).await;
        }
        if self.chore.is_none() {
            self.begin_chore(live);
        }
        // Files that are written and not yet committed are not to be vacuumed.
        if self.compaction.is_none()
            && !self.is_vacuum_due()
            && let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned()
        {
            self.begin_compaction(live, slot).await;
        }
    }

    /// Does what is due, and waits until it is done.
    pub(super) async fn finish(&mut self, live: &mut LiveTable, mut places: Option<&mut Places>) {
        self.end_compaction(live, places.as_deref_mut()).await;
        self.end_chore(live).await;
        if let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await {
            self.begin_compaction(live, slot).await;
            self.end_compaction(live, places).await;
        }
        // A checkpoint and vacuum.
        for _ in 0..2 {
            self.begin_chore(live);
            self.end_chore(live).await;
        }
    }

    /// Whether vacuum is due, or runs.
    fn is_vacuum_due(&self) -> bool {
        self.vacuum_at <= Instant::now()
    }

    /// Begins to join files, if that is due.
    pub(super) async fn begin_compaction(
        &mut self,
        live: &mut LiveTable,
        slot: OwnedSemaphorePermit,
    ) {
        if self.rest_until.is_some_and(|until| until > Instant::now()) {
            return;
        }
        let chosen = match self.joining {
            Joining::Any => compact::choose(&live.files, &self.options.upkeep),
            Joining::InOrder => compact::choose_in_order(&live.files, &self.options.upkeep),
        };
        if chosen.is_empty() {
            return;
        }
        let mut victims = Vec::with_capacity(chosen.len());
        for path in chosen {
            match Source::of(live, &path).await {
                Ok(victim) => victims.extend(victim),
                Err(error) => return self.compaction_failed(live, &error),
            }
        }
        let stop = Arc::new(AtomicBool::new(false));
        let work = Work {
            place: live.place.clone(),
            schema: live.schema.settled(),
            victims,
            file_bytes: self.options.upkeep.file_bytes,
            with_keys: self.joining == Joining::Any,
            stop: Arc::clone(&stop),
        };
        let task = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            compact::write(work)
        });
        self.compaction = Some(Compaction { task, stop });
    }

    /// Commits what has been joined, once that is written.
    pub(super) async fn end_compaction(
        &mut self,
        live: &mut LiveTable,
        places: Option<&mut Places>,
    ) {
        let Some(mut compaction) = self.compaction.take() else {
            return;
        };
        let begun = Instant::now();
        let result = match (&mut compaction.task).await {
            Ok(Ok(written)) => written.commit(live, places).await,
            Ok(Err(error)) => Err(error),
            Err(panic) => Err(panicked(panic)),
        };
        match result {
            Ok(Some(done)) => tracing::info!(
                table = %live.place,
                removed = done.removed,
                added = done.added,
                bytes = done.bytes,
                commit_seconds = begun.elapsed().as_secs_f64(),
                "files were joined"
            ),
            Ok(None) => tracing::debug!(
                table = %live.place,
                "the table has changed under files that were being joined: another time"
            ),
            Err(error) => self.compaction_failed(live, &error),
        }
    }

    fn compaction_failed(&mut self, live: &LiveTable, error: &Error) {
        tell(live, "files could not be joined, and will be later", error);
        self.rest_until = Some(Instant::now() + REST);
    }

    /// Begins a chore, if one is due.
    fn begin_chore(&mut self, live: &LiveTable) {
        let commits = live.version.saturating_sub(self.checkpoint);
        let bytes = live.log_bytes.saturating_sub(self.checkpoint_bytes);
        let is_checkpoint_due = commits >= live.definition.commits_to_checkpoint()
            || (commits > 0 && bytes >= self.options.upkeep.checkpoint_bytes);
        if is_checkpoint_due {
            self.checkpoint = live.version;
            self.checkpoint_bytes = live.log_bytes;
            let clean_up = self.cleaned.is_none_or(|at| at.elapsed() >= CLEAN_UP_EVERY);
            if clean_up {
                self.cleaned = Some(Instant::now());
            }
            let keep = clean_up.then_some(self.options.retention);
            let place = live.place.clone();
            self.chore = Some(tokio::spawn(async move {
                let version = write_checkpoint(&place, keep).await?;
                Ok(Done::Checkpoint { version })
            }));
        } else if self.is_vacuum_due() && self.compaction.is_none() {
            let mut names = names_of(live);
            let has_manifest = live.definition.has_symlink_manifest();
            let (place, options) = (live.place.clone(), Arc::clone(&self.options));
            let task = async move {
                if has_manifest {
                    // It may be of an earlier version, and its readers take what it says.
                    names.extend(manifest::names(&place).await?);
                }
                let (retention, every) = (options.retention, options.upkeep.vacuum_every);
                vacuum::run(&place, &names, retention, every)
                    .await
                    .map(Done::Vacuum)
            };
            self.chore = Some(tokio::spawn(task));
        }
    }

    pub(super) async fn end_chore(&mut self, live: &LiveTable) {
        let Some(chore) = self.chore.take() else {
            return;
        };
        let result = chore.await.unwrap_or_else(|panic| Err(panicked(panic)));
        match result {
            Ok(Done::Checkpoint { version }) => {
                tracing::debug!(table = %live.place, version, "the log has a checkpoint");
            }
            Ok(Done::Vacuum(wait)) => self.vacuum_at = Instant::now() + wait,
            Err(error) => {
                tell(live, "the table could not be put in order", &error);
                if self.is_vacuum_due() {
                    self.vacuum_at = Instant::now() + REST;
                }
            }
        }
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        if let Some(compaction) = &self.compaction {
            compaction.stop.store(true, Ordering::Relaxed);
        }
        if let Some(chore) = &self.chore {
            chore.abort();
        }
    }
}

fn tell(live: &LiveTable, what: &str, error: &Error) {
    let error = error.to_string();
    tracing::warn!(table = %live.place, error, "{what}");
}

fn panicked(panic: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Internal, "a background task ended abnormally").because(panic)
}

/// The names of the objects that the table consists of.
pub(super) fn names_of(live: &LiveTable) -> HashSet<String> {
    let vectors = live.files.values().filter_map(|file| {
        let vector = file.add.deletion_vector.as_ref()?;
        let place = deletion_vector::file(&live.place, vector).ok()??;
        Some(place.path().filename()?.to_owned())
    });
    vectors.chain(live.files.keys().cloned()).collect()
}

async fn last_checkpoint(place: &Location) -> Result<Option<u64>> {
    let hint = place.child("_delta_log").child("_last_checkpoint");
    let Some(bytes) = hint.read().await? else {
        return Ok(None);
    };
    // What cannot be read is no hint.
    let hint: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    Ok(hint["version"].as_u64())
}

/// Writes a checkpoint of the table's current version, and removes what of the log has expired and is
/// older than `keep`.
pub(crate) async fn checkpoint(place: &Location, keep: Duration) -> Result<()> {
    write_checkpoint(place, Some(keep)).await.map(drop)
}

/// Writes a checkpoint of the table's current version. With `keep`, removes what of the log has
/// expired and is older than that.
async fn write_checkpoint(place: &Location, keep: Option<Duration>) -> Result<u64> {
    let failed = |error: DeltaTableError| {
        table_failed(
            "cannot write a checkpoint of the log",
            &place.to_string(),
            error,
        )
    };
    let Some(table) = table::open(place).await? else {
        return Err(Error::new(ErrorKind::NotFound, "the table is gone").on("table", place));
    };
    let snapshot = table.snapshot().map_err(failed)?;
    let version = snapshot.version();
    checkpoints::create_checkpoint(&table, None)
        .await
        .map_err(failed)?;
    Failpoint::CheckpointWritten.hit();
    let properties = snapshot.table_config();
    if let Some(keep) = keep.filter(|_| properties.enable_expired_log_cleanup != Some(false)) {
        let keep = keep.max(properties.log_retention_duration.unwrap_or(LOG_RETENTION));
        let cutoff = chrono::Utc::now() - keep;
        let removed = checkpoints::cleanup_expired_logs_for(
            version,
            table.log_store().as_ref(),
            cutoff.timestamp_millis(),
            None,
        )
        .await
        .map_err(failed)?;
        Failpoint::LogCleaned.hit();
        tracing::debug!(table = %place, removed, "expired parts of the log were removed");
    }
    Ok(version)
}
