//! Tables that follow a collection: where they stand, which files they consist of, and how both
//! move on together.

use std::collections::HashMap;

use deltalake::kernel::{Action, Add, AddCDCFile, Remove, Transaction};
use deltalake::{DeltaTable, DeltaTableError};
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tributary_flow::Failpoint;
use tributary_model::{
    ClusterTime, Error, ErrorKind, Gap, GapRemedy, Position, Result, TableSchema,
};
use uuid::Uuid;

use crate::delta::definition::Definition;
use crate::delta::log::{self, Commit, CommitInfo};
use crate::delta::manifest::ManifestState;
use crate::delta::{deletion_vector, gaps, table};
use crate::error::table_failed;
use crate::location::Location;

/// The name under which the log keeps how far the table has got.
const APPLICATION: &str = "tributary:sync";
/// How many versions are looked through for the token of the position.
const VERSIONS_READ_BACK: usize = 10_000;

/// How far a table has got, as its commits carry it.
///
/// The cluster time is the version of a `txn` action, which outlives the clean-up of the log; the
/// token is in the `commitInfo` of the same commit, which does not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) position: Position,
    /// The process that wrote it.
    writer: Uuid,
    /// Counts the commits of that process.
    sequence: u64,
}

impl Mark {
    /// The mark of a table that begins at `position`.
    pub(crate) fn new(position: Position) -> Self {
        Self {
            position,
            writer: Uuid::new_v4(),
            sequence: 0,
        }
    }

    /// The mark of the same process after the next commit.
    fn next(&self, position: Position) -> Self {
        Self {
            position,
            writer: self.writer,
            sequence: self.sequence + 1,
        }
    }

    pub(crate) fn transaction(&self) -> Transaction {
        let time = self.position.cluster_time.0.cast_signed();
        let now = chrono::Utc::now().timestamp_millis();
        Transaction::new_with_last_update(APPLICATION, time, Some(now))
    }

    pub(crate) fn to_json(&self) -> Value {
        // A plain struct always is JSON.
        serde_json::to_value(self).unwrap_or_default()
    }

    fn of(commit: &Commit) -> Option<Self> {
        serde_json::from_value(commit.own()?.clone()).ok()
    }

    /// Whether the same process wrote both.
    fn is_of(&self, other: &Self) -> bool {
        self.writer == other.writer
    }
}

/// Whether a table follows a collection.
pub(crate) async fn is_followed(table: &DeltaTable, place: &Location) -> Result<bool> {
    let failed = |error: DeltaTableError| {
        table_failed("cannot read the table's log", &place.to_string(), error)
    };
    let snapshot = table.snapshot().map_err(failed)?;
    let log = table.log_store();
    let position = snapshot
        .transaction_version(log.as_ref(), APPLICATION)
        .await;
    Ok(position.map_err(failed)?.is_some())
}

/// A data file of the current version.
#[derive(Debug, Clone)]
pub(crate) struct LiveFile {
    /// The action that put it there.
    pub(crate) add: Add,
    /// Rows in it, deleted ones included; none where its writer has not told.
    pub(crate) rows: Option<u64>,
    /// The rows that are deleted; none where its deletion vector has not been read yet.
    deleted: Option<RoaringTreemap>,
}

impl LiveFile {
    pub(crate) fn new(add: Add) -> Self {
        let rows = add
            .stats
            .as_deref()
            .and_then(|stats| serde_json::from_str::<Value>(stats).ok())
            .and_then(|stats| stats["numRecords"].as_u64());
        let deleted = add.deletion_vector.is_none().then(RoaringTreemap::new);
        Self { add, rows, deleted }
    }

    /// Whether rows of it are marked as deleted.
    pub(crate) fn has_vector(&self) -> bool {
        self.add.deletion_vector.is_some()
    }

    /// Rows in it that are not deleted, as far as its writer has told.
    pub(crate) fn live_rows(&self) -> u64 {
        self.rows.unwrap_or(0).saturating_sub(self.deleted_rows())
    }

    /// How many of its rows are deleted.
    pub(crate) fn deleted_rows(&self) -> u64 {
        self.add
            .deletion_vector
            .as_ref()
            .map_or(0, |vector| vector.cardinality.unsigned_abs())
    }

    fn remove_action(&self, data_change: bool) -> Remove {
        Remove {
            path: self.add.path.clone(),
            data_change,
            deletion_timestamp: Some(chrono::Utc::now().timestamp_millis()),
            extended_file_metadata: Some(true),
            partition_values: Some(self.add.partition_values.clone()),
            size: Some(self.add.size),
            tags: self.add.tags.clone(),
            deletion_vector: self.add.deletion_vector.clone(),
            base_row_id: self.add.base_row_id,
            default_row_commit_version: self.add.default_row_commit_version,
        }
    }
}

/// What one commit does to the files of a table.
#[derive(Debug, Default)]
pub(crate) struct Edit {
    /// New files.
    pub(crate) added: Vec<Add>,
    /// Rows to be marked as deleted, by file: not in a table that is copied on write.
    pub(crate) deleted: HashMap<String, RoaringTreemap>,
    /// Files to be replaced by others that hold the same rows in the same places: the rows deleted
    /// in the one are deleted in the other. Not together with `deleted`.
    pub(crate) rewritten: HashMap<String, Add>,
    /// Files whose rows are deleted, or in those of `added` or `moved`.
    pub(crate) removed: Vec<String>,
    /// New files with rows of others, and the rows in them that are deleted already: not all.
    pub(crate) moved: Vec<(Add, RoaringTreemap)>,
    /// The file that tells readers of the change data feed which rows change, where the other files
    /// do not.
    pub(crate) changes: Option<AddCDCFile>,
}

/// What became of an attempt to commit.
pub(crate) enum Outcome {
    /// It is the table's current version.
    Committed,
    /// Others have committed first, or the commit itself had arrived before. The table has been
    /// brought up to its current version, and these of its files are new or changed.
    Overtaken(Vec<String>),
}

/// A table that follows a collection, at its current version.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct LiveTable {
    pub(crate) place: Location,
    pub(crate) version: u64,
    pub(crate) definition: Definition,
    /// All that is known of its values.
    pub(crate) schema: TableSchema,
    pub(crate) files: HashMap<String, LiveFile>,
    /// Bytes of the commits made here.
    pub(crate) log_bytes: u64,
    /// How its symlink manifest stands to it.
    pub(super) manifest: ManifestState,
    mark: Mark,
}

impl LiveTable {
    /// The table at `place` as it is now; none where there is none.
    ///
    /// # Errors
    /// There is a table, but not one that follows a collection.
    pub(crate) async fn open(place: &Location) -> Result<Option<Self>> {
        let Some(table) = table::open(place).await? else {
            return Ok(None);
        };
        let failed = |error: DeltaTableError| {
            table_failed("cannot read the table's log", &place.to_string(), error)
        };
        let log = table.log_store();
        let snapshot = table.snapshot().map_err(failed)?;
        let definition = Definition::of(snapshot).map_err(|error| failed(error.into()))?;
        definition.check_writable(place)?;
        let time = snapshot
            .transaction_version(log.as_ref(), APPLICATION)
            .await
            .map_err(failed)?;
        let (Some(time), Some(schema)) = (time, definition.schema()) else {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                "the target holds a table that does not follow a collection",
            )
            .on("table", place)
            .remedy("give --overwrite to replace it, or choose another target"));
        };
        let files = table::files(&table, place).await?.into_iter();
        let files = files.map(|add| (add.path.clone(), LiveFile::new(add)));
        let files = files.collect();
        let version = snapshot.version();
        let cluster_time = ClusterTime(time.cast_unsigned());
        let position = read_position(place, version, cluster_time).await?;
        Ok(Some(Self {
            place: place.clone(),
            version,
            definition,
            schema,
            files,
            log_bytes: 0,
            manifest: ManifestState::default(),
            mark: Mark::new(position),
        }))
    }

    /// How far it has got.
    pub(crate) fn position(&self) -> &Position {
        &self.mark.position
    }

    /// The stretches of history that it has not seen.
    pub(crate) fn gaps(&self) -> Vec<Gap> {
        gaps::gaps(&self.definition)
    }

    /// Goes on at `to`, which it has not reached, and records that it does not know what happened
    /// between `from`, or its own position where that is later, and there.
    pub(crate) async fn skip(
        &mut self,
        edit: Edit,
        from: &Position,
        to: &Position,
        remedy: GapRemedy,
    ) -> Result<Outcome> {
        let gap = Gap {
            from: from.cluster_time.max(self.mark.position.cluster_time),
            to: to.cluster_time,
            remedy,
        };
        gaps::record(&mut self.definition, gap);
        let parameters = json!({
            "event": "gap", "from": gaps::in_words(gap.from), "to": gaps::in_words(gap.to),
        });
        self.commit(edit, Some(to.clone()), "STREAMING UPDATE", parameters)
            .await
    }

    /// Whether rows of some file are marked as deleted.
    pub(crate) fn has_vector(&self) -> bool {
        self.files.values().any(LiveFile::has_vector)
    }

    /// The rows of a file that are deleted.
    pub(crate) async fn deleted(&mut self, path: &str) -> Result<Option<&RoaringTreemap>> {
        match self.files.get_mut(path) {
            Some(file) => Ok(Some(&*deleted_rows(&self.place, file).await?)),
            None => Ok(None),
        }
    }

    /// Commits `edit` together with the definition as it stands, as the next version. By it the
    /// table reaches `position`; where there is none, its content stays the same.
    pub(crate) async fn commit(
        &mut self,
        edit: Edit,
        position: Option<Position>,
        operation: &'static str,
        parameters: Value,
    ) -> Result<Outcome> {
        let data_change = position.is_some();
        let mut changed = Vec::new();
        let mut removes = Vec::new();
        let mut gone = Vec::new();
        let mut vectors = deletion_vector::VectorFile::new();
        for (path, rows) in &edit.deleted {
            let Some(file) = self.files.get_mut(path) else {
                continue;
            };
            let mut deleted = deleted_rows(&self.place, file).await?.clone();
            deleted |= rows;
            removes.push(file.remove_action(data_change));
            if file.rows.is_some_and(|rows| deleted.len() >= rows) {
                gone.push(path.clone());
                continue;
            }
            let mut add = file.add.clone();
            add.deletion_vector = Some(vectors.push(&deleted)?);
            add.stats = add.stats.map(|stats| loosened(&stats));
            add.data_change = data_change;
            let mut file = LiveFile::new(add);
            file.deleted = Some(deleted);
            changed.push((path.clone(), file));
        }
        for (path, new) in &edit.rewritten {
            let Some(file) = self.files.get(path) else {
                continue;
            };
            removes.push(file.remove_action(data_change));
            let mut add = new.clone();
            add.data_change = data_change;
            add.deletion_vector.clone_from(&file.add.deletion_vector);
            if add.deletion_vector.is_some() {
                add.stats = add.stats.map(|stats| loosened(&stats));
            }
            let mut new = LiveFile::new(add);
            new.deleted.clone_from(&file.deleted);
            changed.push((path.clone(), new));
        }
        for path in &edit.removed {
            if let Some(file) = self.files.get(path) {
                removes.push(file.remove_action(data_change));
                gone.push(path.clone());
            }
        }
        for (add, deleted) in edit.moved {
            let mut add = add;
            add.data_change = data_change;
            if !deleted.is_empty() {
                add.deletion_vector = Some(vectors.push(&deleted)?);
                add.stats = add.stats.map(|stats| loosened(&stats));
            }
            let mut file = LiveFile::new(add);
            file.deleted = Some(deleted);
            changed.push((file.add.path.clone(), file));
        }
        if !vectors.is_empty() {
            if self.definition.is_copy_on_write() {
                return Err(Error::new(
                    ErrorKind::Internal,
                    "rows cannot be marked in a table that has no deletion vectors",
                )
                .on("table", &self.place));
            }
            let file = self.place.child(&vectors.name());
            file.write(vectors.into_bytes()).await?;
            Failpoint::VectorsWritten.hit();
        }

        let mark = self.mark.next(
            position
                .clone()
                .unwrap_or_else(|| self.mark.position.clone()),
        );
        let mut actions = Vec::new();
        if position.is_some() {
            actions.push(Action::Txn(mark.transaction()));
        }
        let definition = self.definition.actions().map_err(|error| {
            Error::new(ErrorKind::Internal, "a table's definition is not JSON").because(error)
        })?;
        actions.extend(definition);
        actions.extend(removes.into_iter().map(Action::Remove));
        actions.extend(
            changed
                .iter()
                .map(|(_, file)| Action::Add(file.add.clone())),
        );
        actions.extend(edit.added.iter().cloned().map(Action::Add));
        actions.extend(edit.changes.map(Action::Cdc));
        let info = CommitInfo {
            operation,
            parameters,
            is_blind_append: false,
            own: Some(mark.to_json()),
        };
        let Some(bytes) = log::put(&self.place, self.version + 1, &info, &actions).await? else {
            return self.catch_up().await;
        };
        self.log_bytes += bytes;
        self.version += 1;
        self.mark = mark;
        self.definition.committed();
        for path in gone {
            self.files.remove(&path);
        }
        for (old, file) in changed {
            self.files.remove(&old);
            self.files.insert(file.add.path.clone(), file);
        }
        for add in edit.added {
            self.files.insert(add.path.clone(), LiveFile::new(add));
        }
        self.write_manifest().await;
        Ok(Outcome::Committed)
    }

    /// Takes over the versions that others have committed, and those of its own that have arrived
    /// after their requests had been given up: what was tried last, or something before it. What
    /// such a commit says, and nothing else, is how far the table has got by it.
    async fn catch_up(&mut self) -> Result<Outcome> {
        let mut touched = Vec::new();
        let mut redefined = false;
        while let Some(commit) = log::read(&self.place, self.version + 1).await? {
            let own = Mark::of(&commit).filter(|mark| mark.is_of(&self.mark));
            let is_followers = commit
                .transactions
                .iter()
                .any(|txn| txn.app_id == APPLICATION);
            if own.is_none() && is_followers {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    "another sync writes to the same table",
                )
                .on("table", &self.place)
                .remedy("stop one of the two"));
            }
            self.version += 1;
            redefined |= commit.redefines;
            for remove in &commit.removes {
                self.files.remove(&remove.path);
            }
            for add in commit.adds {
                touched.push(add.path.clone());
                self.files.insert(add.path.clone(), LiveFile::new(add));
            }
            if let Some(own) = own {
                self.mark = own;
            }
        }
        if redefined {
            self.reload().await?;
            touched = self.files.keys().cloned().collect();
        }
        touched.retain(|path| self.files.contains_key(path));
        self.write_manifest().await;
        Ok(Outcome::Overtaken(touched))
    }

    /// Opens the table again, as when another writer has changed its definition.
    pub(crate) async fn reload(&mut self) -> Result<()> {
        let Some(now) = Box::pin(Self::open(&self.place)).await? else {
            return Err(Error::new(ErrorKind::NotFound, "the table is gone")
                .on("table", &self.place)
                .remedy("start again to load it anew"));
        };
        let (writer, sequence) = (self.mark.writer, self.mark.sequence);
        let (log_bytes, manifest) = (self.log_bytes, self.manifest);
        *self = now;
        self.log_bytes = log_bytes;
        if manifest != ManifestState::Left {
            self.manifest = ManifestState::Behind;
        }
        self.mark.writer = writer;
        self.mark.sequence = sequence;
        Ok(())
    }
}

/// The rows of a file that are deleted, read when they are first asked for.
async fn deleted_rows<'a>(
    place: &Location,
    file: &'a mut LiveFile,
) -> Result<&'a mut RoaringTreemap> {
    let vector = file.add.deletion_vector.as_ref();
    let read = match (&file.deleted, vector) {
        (None, Some(vector)) => Some(deletion_vector::read(place, vector).await?),
        _ => None,
    };
    Ok(file.deleted.get_or_insert_with(|| read.unwrap_or_default()))
}

/// Statistics of a file of which rows are deleted: its bounds still hold, but need not be met.
///
/// The text is kept as it is otherwise: numbers that are read and written again may differ in their
/// last digit.
fn loosened(stats: &str) -> String {
    const TIGHT: &str = r#""tightBounds":true"#;
    const LOOSE: &str = r#""tightBounds":false"#;
    let stats = stats.trim_start();
    match stats.strip_prefix('{') {
        _ if stats.contains(LOOSE) => stats.to_owned(),
        _ if stats.contains(TIGHT) => stats.replacen(TIGHT, LOOSE, 1),
        Some("}") | None => stats.to_owned(),
        Some(rest) => format!("{{{LOOSE},{rest}"),
    }
}

/// The position of the table at `version`: with the token, where the log still has it.
async fn read_position(
    place: &Location,
    version: u64,
    cluster_time: ClusterTime,
) -> Result<Position> {
    for version in (0..=version).rev().take(VERSIONS_READ_BACK) {
        let Some(commit) = log::read(place, version).await? else {
            break;
        };
        if let Some(mark) = Mark::of(&commit) {
            return Ok(mark.position);
        }
    }
    Ok(Position::at(cluster_time))
}

#[cfg(test)]
mod tests {
    use super::loosened;

    #[test]
    fn loosened_statistics_keep_every_digit() {
        let stats = r#"{"numRecords":1,"minValues":{"x":99.67110649623207}}"#;
        let loose = r#"{"tightBounds":false,"numRecords":1,"minValues":{"x":99.67110649623207}}"#;
        assert_eq!(loosened(stats), loose);
        assert_eq!(loosened(loose), loose);
        let tight = stats.replacen('{', r#"{"tightBounds":true,"#, 1);
        assert_eq!(loosened(&tight), loose);
        assert_eq!(loosened("{}"), "{}");
    }
}
