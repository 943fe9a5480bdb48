//! Small files joined, and files with many deleted rows written without them.
//!
//! Files are joined by tiers, each of files about eight times as large as those of the one below:
//! when a tier has as many files as that, they and those below become one. So a row is written
//! again about once a tier, and there are only so many files of each. The rows stay the same, and
//! no reader of the table's changes sees any of it.
//!
//! Writing takes its time, and the table moves on meanwhile: rows that are deleted in a file after
//! it was read are deleted in the new file from its beginning. In a table that is copied on write,
//! where rows cannot be marked, such a file has become another, and what is left of the joined ones
//! is written once more, between two batches.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use roaring::RoaringTreemap;
use serde_json::{Value, json};
use tributary_flow::Failpoint;
use tributary_model::{Error, ErrorKind, Result, TableSchema};

use super::places::Places;
use super::rewrite::{self, NewFile, Rewriter, Source};
use super::table::blocking;
use super::upkeep::UpkeepOptions;
use super::widen;
use crate::delta::follow::{Edit, LiveFile, LiveTable, Outcome};
use crate::delta::table::add_action;
use crate::location::Location;

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
        let chosen = within_bounds(&small.iter().collect::<Vec<_>>(), options);
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
    within_bounds(&dead.iter().collect::<Vec<_>>(), options)
}

/// As [`choose`], for tables that are only appended to: files that come one after the other by the
/// least `_id` in them, so that the rows of the new one are in order.
pub(super) fn choose_in_order(
    files: &HashMap<String, LiveFile>,
    options: &UpkeepOptions,
) -> Vec<String> {
    let join_files = options.join_files.max(2);
    let mut by_tier: BTreeMap<u32, usize> = BTreeMap::new();
    for (path, file) in files {
        if let Some(tier) = Candidate::of(path, file, options).and_then(|c| c.tier) {
            *by_tier.entry(tier).or_default() += 1;
        }
    }
    by_tier.retain(|_, count| *count >= join_files);
    if by_tier.is_empty() {
        return Vec::new();
    }
    let mut ordered: Vec<_> = files
        .iter()
        .map(|(path, file)| (least_id(file), path, Candidate::of(path, file, options)))
        .collect();
    ordered.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    let candidates: Vec<_> = ordered
        .into_iter()
        .map(|(_, _, candidate)| candidate)
        .collect();
    let tier = |candidate: &Option<Candidate<'_>>| candidate.as_ref().and_then(|c| c.tier);
    for due in by_tier.into_keys().rev() {
        for run in candidates.split(|candidate| tier(candidate).is_none_or(|tier| tier > due)) {
            if run.iter().filter(|c| tier(c) == Some(due)).count() < join_files {
                continue;
            }
            let run: Vec<_> = run.iter().flatten().collect();
            let chosen = (0..run.len()).map(|start| within_bounds(&run[start..], options));
            if let Some(chosen) = chosen.into_iter().find(|chosen| chosen.len() > 1) {
                return chosen;
            }
        }
    }
    Vec::new()
}

/// The least `_id` of a file's rows, or what it begins with.
fn least_id(file: &LiveFile) -> Option<String> {
    let stats: Value = serde_json::from_str(file.add.stats.as_deref()?).ok()?;
    Some(stats["minValues"]["_id"].as_str()?.to_owned())
}

/// The first of them, as many as make one file, and one at least.
fn within_bounds(candidates: &[&Candidate<'_>], options: &UpkeepOptions) -> Vec<String> {
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

/// Rows of a file that went to a new one, in their order and without those that were deleted.
struct Moved {
    victim: usize,
    /// Their numbers, those of deleted rows included.
    rows: Range<u64>,
    file: usize,
    /// The number in the new file of the first of them.
    first: u64,
}

/// Files written anew, not yet part of the table.
pub(super) struct Written {
    work: Work,
    files: Vec<NewFile>,
    moved: Vec<Moved>,
}

/// What is to be written again.
pub(super) struct Work {
    pub(super) place: Location,
    /// The table's settled schema.
    pub(super) schema: TableSchema,
    pub(super) victims: Vec<Source>,
    /// The size at which a new file is closed.
    pub(super) file_bytes: u64,
    /// Whether the places of the rows are to be known afterwards.
    pub(super) with_keys: bool,
    /// Set when nobody waits for it any more.
    pub(super) stop: Arc<AtomicBool>,
}

/// Writes the rows of the victims into new files. It computes and blocks: it is called on a
/// blocking thread.
pub(super) fn write(work: Work) -> Result<Written> {
    let Work { place, schema, .. } = &work;
    let mut rewriter = Rewriter::new(place, schema, work.file_bytes, work.with_keys);
    match write_all(&work, &mut rewriter) {
        Ok(moved) => Ok(Written {
            files: rewriter.finish()?,
            moved,
            work,
        }),
        Err(error) => {
            rewriter.discard();
            Err(error)
        }
    }
}

fn write_all(work: &Work, rewriter: &mut Rewriter) -> Result<Vec<Moved>> {
    let mut moved = Vec::new();
    for (number, victim) in work.victims.iter().enumerate() {
        victim.read(&work.place, |rows, batch| {
            if work.stop.load(Ordering::Relaxed) {
                return Err(Error::new(ErrorKind::Interrupted, "stopped"));
            }
            let left = rewrite::chosen(&batch, rows.start, |row| !victim.deleted.contains(row))?;
            if left.num_rows() > 0 {
                let (file, first) = rewriter.write(&left)?;
                moved.push(Moved {
                    victim: number,
                    rows,
                    file,
                    first,
                });
            }
            Ok(())
        })?;
    }
    Ok(moved)
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
        mut places: Option<&mut Places>,
    ) -> Result<Option<Compacted>> {
        Failpoint::CompactionWritten.hit();
        let (removed, deleted) = loop {
            let Some((removed, deleted)) = self.matched(live).await? else {
                self.discard(live).await?;
                return Ok(None);
            };
            if live.definition.is_copy_on_write() && deleted.iter().any(|rows| !rows.is_empty()) {
                // Rows cannot be marked: those of the files that have not changed are written
                // again, while nothing else changes the table.
                self.discard(live).await?;
                if removed.len() < 2 {
                    return Ok(None);
                }
                let mut work = self.work;
                work.victims.retain(|victim| removed.contains(&victim.path));
                for victim in &mut work.victims {
                    if let Some(now) = live.deleted(&victim.path).await? {
                        victim.deleted.clone_from(now);
                    }
                }
                self = blocking(move || write(work)).await??;
                continue;
            }
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
                Outcome::Overtaken(files) => {
                    if let Some(places) = &mut places {
                        places.find(live, &files).await?;
                    }
                }
            }
        };
        Failpoint::CompactionCommitted.hit();
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
                files.push(new);
            } else {
                empty.push(new.file.name);
            }
        }
        if let Some(places) = places {
            places.taken_over(live, files, Vec::new()).await?;
        }
        Failpoint::CompactionRecorded.hit();
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
        let Work {
            schema, victims, ..
        } = &self.work;
        let now = live.schema.settled();
        if !widen::reads_as(&schema.columns, &now.columns, true) {
            return Ok(None);
        }
        // Where deletion vectors are about to be no part of the table's protocol, another writer may
        // have marked rows of a file that was not among those that had one.
        let is_victim = |path: &String| victims.iter().any(|victim| victim.path == *path);
        if !live.definition.allows_deletion_vectors()
            && live
                .files
                .iter()
                .any(|(path, file)| file.has_vector() && !is_victim(path))
        {
            return Ok(None);
        }
        let mut removed = Vec::new();
        let mut since = Vec::with_capacity(victims.len());
        for (number, victim) in victims.iter().enumerate() {
            since.push(match live.deleted(&victim.path).await? {
                // It was written under another schema, or put back as it was.
                Some(now) if !victim.deleted.is_subset(now) => return Ok(None),
                Some(now) => {
                    removed.push(victim.path.clone());
                    now - &victim.deleted
                }
                // All its rows are gone, or somewhere else.
                None => {
                    let moved = self.moved.iter().filter(|moved| moved.victim == number);
                    let end = moved.map(|moved| moved.rows.end).max();
                    let mut all = RoaringTreemap::new();
                    all.insert_range(0..end.unwrap_or_default());
                    all - &victim.deleted
                }
            });
        }
        if removed.is_empty() {
            return Ok(None);
        }
        let mut deleted = vec![RoaringTreemap::new(); self.files.len()];
        for moved in &self.moved {
            let before = &victims[moved.victim].deleted;
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
        rewrite::discard(live, &self.files).await
    }
}

/// How many of the rows have a lesser number.
fn below(rows: &RoaringTreemap, number: u64) -> u64 {
    number.checked_sub(1).map_or(0, |last| rows.rank(last))
}
