//! Small files joined, and files with many deleted rows written without them.
//!
//! Files are joined by tiers, each of files about eight times as large as those of the one below:
//! when a tier has as many files as that, they and those below become one. So a row is written
//! again about once a tier, and there are only so many files of each. The rows stay the same, and
//! no reader of the table's changes sees any of it.
//!
//! Writing takes its time, and the table moves on meanwhile: rows that are deleted in a file after
//! it was read are deleted in the new file from its beginning.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use roaring::RoaringTreemap;
use serde_json::json;
use tokio::runtime::Handle;
use tributary_convert::Key;
use tributary_model::{Error, ErrorKind, Result, TableSchema};

use super::places::{Places, keys_of_batch};
use super::table::new_file_name;
use super::upkeep::UpkeepOptions;
use super::widen;
use crate::delta::follow::{Edit, LiveFile, LiveTable, Outcome};
use crate::delta::table::add_action;
use crate::location::Location;
use crate::parquet_file::{DataFile, ParquetFile};
use crate::stored_file::{self, StoredFile};

/// The size below which files are of the lowest tier.
const LOWEST_TIER: u64 = 32 << 10;
/// How much larger the files of the next tier are.
const TIER_FACTOR: u64 = 8;
/// The most rows that are written at once, unless one file has more: their keys are in memory.
const MOST_ROWS: u64 = 4 << 20;
/// The most files that are joined at once.
const MOST_FILES: usize = 1000;

/// A file by what is left of it.
struct Candidate<'a> {
    path: &'a str,
    live_rows: u64,
    live_bytes: u64,
    dead_bytes: u64,
    /// None where it is large enough.
    tier: Option<u32>,
}

impl<'a> Candidate<'a> {
    /// None where a file cannot be joined with others.
    fn of(path: &'a str, file: &LiveFile, options: &UpkeepOptions) -> Option<Self> {
        let (rows, dead) = (file.rows?, file.deleted_rows());
        if rows == 0 || dead > rows || !file.add.partition_values.is_empty() {
            return None;
        }
        let bytes = file.add.size.unsigned_abs();
        let dead_bytes = share(bytes, dead, rows);
        let live_bytes = bytes - dead_bytes;
        Some(Self {
            path,
            live_rows: rows - dead,
            live_bytes,
            dead_bytes,
            tier: (live_bytes < options.file_bytes / 2).then(|| tier(live_bytes)),
        })
    }
}

/// `part` of `whole` of the bytes.
fn share(bytes: u64, part: u64, whole: u64) -> u64 {
    let share = u128::from(bytes) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(share).unwrap_or(bytes)
}

fn tier(mut bytes: u64) -> u32 {
    let mut tier = 0;
    while bytes >= LOWEST_TIER {
        bytes /= TIER_FACTOR;
        tier += 1;
    }
    tier
}

/// The files that are to be written again together; none where nothing is due.
pub(super) fn choose(files: &HashMap<String, LiveFile>, options: &UpkeepOptions) -> Vec<String> {
    let candidates = || {
        files
            .iter()
            .filter_map(|(path, file)| Candidate::of(path, file, options))
    };
    let mut by_tier: HashMap<u32, usize> = HashMap::new();
    for tier in candidates().filter_map(|candidate| candidate.tier) {
        *by_tier.entry(tier).or_default() += 1;
    }
    let due = by_tier
        .into_iter()
        .filter(|(_, count)| *count >= options.join_files.max(2))
        .map(|(tier, _)| tier)
        .max();
    if let Some(due) = due {
        let mut small: Vec<_> = candidates()
            .filter(|candidate| candidate.tier.is_some_and(|tier| tier <= due))
            .collect();
        small.sort_by_key(|candidate| candidate.live_bytes);
        let chosen = within_bounds(&small, options);
        if chosen.len() > 1 {
            return chosen;
        }
    }
    let mut dead: Vec<_> = candidates()
        .filter(|candidate| {
            let whole = candidate.live_bytes + candidate.dead_bytes;
            candidate.dead_bytes >= options.dead_bytes
                && candidate.dead_bytes >= share(whole, options.dead_percent, 100)
        })
        .collect();
    dead.sort_by_key(|candidate| std::cmp::Reverse(candidate.dead_bytes));
    within_bounds(&dead, options)
}

/// The first of them, as many as make one file, and one at least.
fn within_bounds(candidates: &[Candidate<'_>], options: &UpkeepOptions) -> Vec<String> {
    let (mut bytes, mut rows) = (0, 0);
    candidates
        .iter()
        .take(MOST_FILES)
        .enumerate()
        .take_while(|(at, candidate)| {
            bytes += candidate.live_bytes;
            rows += candidate.live_rows;
            *at == 0 || (bytes <= options.file_bytes && rows <= MOST_ROWS)
        })
        .map(|(_, candidate)| candidate.path.to_owned())
        .collect()
}

/// A file that is written again.
pub(super) struct Victim {
    path: String,
    size: u64,
    rows: u64,
    /// The rows that were deleted when it was chosen.
    deleted: RoaringTreemap,
}

impl Victim {
    /// The file as the table has it now.
    pub(super) async fn of(live: &mut LiveTable, path: String) -> Result<Option<Self>> {
        let Some(deleted) = live.deleted(&path).await?.cloned() else {
            return Ok(None);
        };
        let known = live.files.get(&path);
        let known = known.and_then(|file| Some((file.add.size.unsigned_abs(), file.rows?)));
        Ok(known.map(|(size, rows)| Self {
            path,
            size,
            rows,
            deleted,
        }))
    }
}

/// Rows of a file that went to a new one, in their order and without those that were deleted.
struct Moved {
    victim: usize,
    /// Their numbers, those of deleted rows included.
    rows: Range<u64>,
    file: usize,
    /// The number in the new file of the first of them.
    first: u64,
}

struct NewFile {
    file: DataFile,
    /// The keys of its rows.
    keys: Vec<Key>,
}

/// Files written anew, not yet part of the table.
pub(super) struct Written {
    /// The table's settled schema when they were begun.
    schema: TableSchema,
    victims: Vec<Victim>,
    files: Vec<NewFile>,
    moved: Vec<Moved>,
}

/// What is to be written again.
pub(super) struct Work {
    pub(super) place: Location,
    /// The table's settled schema.
    pub(super) schema: TableSchema,
    pub(super) victims: Vec<Victim>,
    /// The size at which a new file is closed.
    pub(super) file_bytes: u64,
    /// Set when nobody waits for it any more.
    pub(super) stop: Arc<AtomicBool>,
}

/// Writes the rows of the victims into new files. It computes and blocks: it is called on a
/// blocking thread.
pub(super) fn write(work: Work) -> Result<Written> {
    let mut writer = Writer {
        open: None,
        files: Vec::new(),
        moved: Vec::new(),
        work: &work,
    };
    match writer.write_all() {
        Ok(()) => Ok(Written {
            files: writer.files,
            moved: writer.moved,
            schema: work.schema,
            victims: work.victims,
        }),
        Err(error) => {
            for new in &writer.files {
                let path = work.place.child(&new.file.name);
                // What cannot be removed is vacuumed one day.
                let _ = Handle::current().block_on(work.place.remove(path.path()));
            }
            Err(error)
        }
    }
}

struct Writer<'a> {
    work: &'a Work,
    open: Option<(ParquetFile, Vec<Key>)>,
    files: Vec<NewFile>,
    moved: Vec<Moved>,
}

impl Writer<'_> {
    fn write_all(&mut self) -> Result<()> {
        let work = self.work;
        for (number, victim) in work.victims.iter().enumerate() {
            let stored = StoredFile::new(&work.place, &victim.path, victim.size);
            let mut read = 0;
            stored_file::read(&stored, None, |batch| {
                if work.stop.load(Ordering::Relaxed) {
                    return Err(Error::new(ErrorKind::Interrupted, "stopped"));
                }
                let rows = read..read + batch.num_rows() as u64;
                read = rows.end;
                let batch = left_of(&batch, &victim.deleted, rows.start)?;
                if batch.num_rows() == 0 {
                    return Ok(());
                }
                let batch = widen::brought_to(&batch, &work.schema, &work.schema)
                    .map_err(|error| error.on("file", &stored))?;
                self.write(number, rows, &batch)
            })?;
            if read != victim.rows {
                return Err(Error::new(
                    ErrorKind::InvalidData,
                    "a file of the table has another number of rows than the log says",
                )
                .on("file", &stored));
            }
        }
        self.close()
    }

    fn write(&mut self, victim: usize, rows: Range<u64>, batch: &RecordBatch) -> Result<()> {
        let bytes = usize::try_from(self.work.file_bytes).unwrap_or(usize::MAX);
        if self.open.as_ref().is_some_and(|(f, _)| f.size() >= bytes) {
            self.close()?;
        }
        let schema = &self.work.schema;
        let (file, keys) = match &mut self.open {
            Some(open) => open,
            None => {
                let name = new_file_name();
                let file = ParquetFile::begin(&self.work.place, name, schema.clone(), batch)?;
                self.open.insert((file, Vec::new()))
            }
        };
        self.moved.push(Moved {
            victim,
            rows,
            file: self.files.len(),
            first: keys.len() as u64,
        });
        file.write(batch)?;
        let Some(id) = schema.column("_id") else {
            return Err(Error::new(
                ErrorKind::InvalidData,
                "the table has no column `_id`",
            ));
        };
        keys.extend(keys_of_batch(id, batch).map_err(|error| {
            Error::new(ErrorKind::InvalidData, "cannot read the keys of rows").because(error)
        })?);
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        if let Some((file, keys)) = self.open.take() {
            let file = file.finish()?;
            self.files.push(NewFile { file, keys });
        }
        Ok(())
    }
}

/// The rows of a batch that are not deleted; its first row has the number `first`.
fn left_of(batch: &RecordBatch, deleted: &RoaringTreemap, first: u64) -> Result<RecordBatch> {
    let left: BooleanArray = (first..first + batch.num_rows() as u64)
        .map(|row| Some(!deleted.contains(row)))
        .collect();
    if left.true_count() == batch.num_rows() {
        return Ok(batch.clone());
    }
    filter_record_batch(batch, &left).map_err(|error| {
        Error::new(ErrorKind::Internal, "rows cannot be left out of a batch").because(error)
    })
}

/// What came of a compaction.
#[derive(Debug, Default)]
pub(super) struct Compacted {
    pub(super) removed: usize,
    pub(super) added: usize,
    pub(super) bytes: u64,
}

impl Written {
    /// Makes the new files part of the table in place of the old ones. None where the table has
    /// changed so that they do not fit any more: they are removed then.
    pub(super) async fn commit(
        mut self,
        live: &mut LiveTable,
        places: &mut Places,
    ) -> Result<Option<Compacted>> {
        let (removed, deleted) = loop {
            let Some((removed, deleted)) = self.matched(live).await? else {
                self.discard(live).await?;
                return Ok(None);
            };
            let moved = self
                .files
                .iter()
                .zip(&deleted)
                .filter(|(new, deleted)| deleted.len() < new.file.rows)
                .map(|(new, deleted)| (add_action(&new.file), deleted.clone()))
                .collect();
            let edit = Edit {
                removed: removed.clone(),
                moved,
                ..Edit::default()
            };
            let parameters = json!({ "predicate": "[]" });
            match live.commit(edit, None, "OPTIMIZE", parameters).await? {
                Outcome::Committed => break (removed, deleted),
                Outcome::Overtaken(files) => places.find(live, &files).await?,
            }
        };
        let mut compacted = Compacted {
            removed: removed.len(),
            ..Compacted::default()
        };
        let mut files = Vec::new();
        let mut empty = Vec::new();
        for (new, deleted) in self.files.drain(..).zip(deleted) {
            if deleted.len() < new.file.rows {
                compacted.added += 1;
                compacted.bytes += new.file.size;
                files.push((new.file.name, new.keys));
            } else {
                empty.push(new.file.name);
            }
        }
        places.taken_over(live, files).await?;
        for name in empty {
            live.place.remove(live.place.child(&name).path()).await?;
        }
        Ok(Some(compacted))
    }

    /// The victims that the table still has, and the rows of each new file that have been deleted
    /// in them since. None where the new files do not hold what the table does.
    async fn matched(
        &self,
        live: &mut LiveTable,
    ) -> Result<Option<(Vec<String>, Vec<RoaringTreemap>)>> {
        let now = live.schema.settled();
        if !widen::reads_as(&self.schema.columns, &now.columns, true) {
            return Ok(None);
        }
        let mut removed = Vec::new();
        let mut since = Vec::with_capacity(self.victims.len());
        for victim in &self.victims {
            since.push(match live.deleted(&victim.path).await? {
                // It was written under another schema, or put back as it was.
                Some(now) if !victim.deleted.is_subset(now) => return Ok(None),
                Some(now) => {
                    removed.push(victim.path.clone());
                    now - &victim.deleted
                }
                // All its rows are gone, or somewhere else.
                None => {
                    let mut all = RoaringTreemap::new();
                    all.insert_range(0..victim.rows);
                    all - &victim.deleted
                }
            });
        }
        if removed.is_empty() {
            return Ok(None);
        }
        let mut deleted = vec![RoaringTreemap::new(); self.files.len()];
        for moved in &self.moved {
            let before = &self.victims[moved.victim].deleted;
            let at_start = below(before, moved.rows.start);
            let mut rows = since[moved.victim].iter();
            rows.advance_to(moved.rows.start);
            for row in rows.take_while(|row| *row < moved.rows.end) {
                let left_out = below(before, row) - at_start;
                let number = moved.first + (row - moved.rows.start) - left_out;
                deleted[moved.file].insert(number);
            }
        }
        Ok(Some((removed, deleted)))
    }

    /// Removes the new files, as far as they have not become part of the table after all.
    async fn discard(&self, live: &LiveTable) -> Result<()> {
        for name in self.files.iter().map(|new| &new.file.name) {
            if !live.files.contains_key(name) {
                live.place.remove(live.place.child(name).path()).await?;
            }
        }
        Ok(())
    }
}

/// How many of the rows have a lesser number.
fn below(rows: &RoaringTreemap, number: u64) -> u64 {
    number.checked_sub(1).map_or(0, |last| rows.rank(last))
}
