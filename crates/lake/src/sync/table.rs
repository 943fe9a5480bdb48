//! One table and the batches that are applied to it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use roaring::RoaringTreemap;
use serde_json::{Value, json};
use tributary_convert::arrow_schema::table_schema;
use tributary_convert::key::Key;
use tributary_convert::recast::recast_batch;
use tributary_convert::{Decoder, Naming};
use tributary_flow::{
    Applied, Change, ChangeBatch, ChangeTable, Event, EventKind, Failpoint, Stages, Stopwatch,
};
use tributary_model::{
    Error, ErrorKind, Gap, GapRemedy, OnSchemaChange, Operation, Position, Result, SchemaChange,
    TableSchema,
};

use super::copy_on_write::{self, Copied};
use super::history::HistoryTable;
use super::places::Places;
use super::rewrite::{self, NewFile, Source};
use super::upkeep::Upkeep;
use super::widen;
use crate::delta::follow::{Edit, LiveTable, Outcome};
use crate::delta::gaps;
use crate::delta::table::add_action;
use crate::load::state::Lock;
use crate::location::Location;
use crate::parquet_file::{DataFile, ParquetFile};

/// How much BSON is decoded into one record batch.
const BATCH_BYTES: usize = 4 << 20;
/// The most rows of one record batch.
const BATCH_ROWS: usize = 64 << 10;

/// A table that follows a collection, with the places of its rows.
pub(super) struct FollowedTable {
    pub(super) live: LiveTable,
    pub(super) places: Places,
    pub(super) upkeep: Upkeep,
    history: Option<HistoryTable>,
    on_schema_change: OnSchemaChange,
    /// What came of a batch whose version the manifest could not follow.
    untold: Option<Applied>,
    /// Keeps other processes of this machine from writing to the table.
    _lock: Option<Lock>,
}

/// What is left of a batch when only the last change of each key counts.
struct Reduced {
    /// Every key that changes.
    keys: Vec<Key>,
    /// The new documents, each with the place of its key in `keys`.
    documents: Vec<(usize, bytes::Bytes)>,
}

/// New rows as they are to be written.
pub(super) struct Decoded {
    pub(super) batches: Vec<RecordBatch>,
    /// All that is known of the table's values now.
    pub(super) known: TableSchema,
    pub(super) rescued: u64,
    /// What does not fit the schema, where that is kept.
    misfits: Vec<SchemaChange>,
}

impl FollowedTable {
    pub(super) fn new(
        live: LiveTable,
        places: Places,
        upkeep: Upkeep,
        history: Option<HistoryTable>,
        on_schema_change: OnSchemaChange,
        lock: Option<Lock>,
    ) -> Self {
        Self {
            live,
            places,
            upkeep,
            history,
            on_schema_change,
            untold: None,
            _lock: lock,
        }
    }

    /// Finds the places of the rows that the index does not know.
    pub(super) async fn find_rows(&mut self) -> Result<()> {
        self.places.find_missing(&mut self.live).await
    }

    /// Applies a batch, without upkeep.
    pub(super) async fn apply_only(&mut self, batch: &ChangeBatch) -> Result<Applied> {
        // A try before this one may have failed between taking over others' versions and finding
        // their rows, or before its own were recorded.
        if self.places.version() != Some(self.live.version) {
            self.find_rows().await?;
        }
        if batch.clears {
            return self.clear(batch).await;
        }
        let reduced = reduce(&batch.changes, self.live.position())?;
        self.write(reduced, batch).await
    }

    /// Deletes all rows: whatever the changes of the batch did before its last event, that leaves
    /// nothing.
    async fn clear(&mut self, batch: &ChangeBatch) -> Result<Applied> {
        let Some(event) = ending(batch, self.live.position()) else {
            return Ok(Applied::default());
        };
        let deleted = loop {
            let files = self.live.files.values();
            let rows = files.map(|file| file.rows.unwrap_or(0).saturating_sub(file.deleted_rows()));
            let deleted: u64 = rows.sum();
            let edit = Edit {
                removed: self.live.files.keys().cloned().collect(),
                ..Edit::default()
            };
            let mut parameters = json!({ "deleted": deleted });
            add_event(&mut parameters, event);
            let position = Some(batch.position.clone());
            let outcome = self
                .live
                .commit(edit, position, "STREAMING UPDATE", parameters)
                .await?;
            match outcome {
                Outcome::Committed => break deleted,
                Outcome::Overtaken(files) => {
                    self.places.find(&mut self.live, &files).await?;
                    if self.live.position().reaches(&batch.position) {
                        break deleted;
                    }
                }
            }
        };
        // The index forgets the files that are gone.
        self.find_rows().await?;
        Ok(Applied {
            deleted,
            ..Applied::default()
        })
    }

    async fn write(&mut self, reduced: Reduced, batch: &ChangeBatch) -> Result<Applied> {
        let position = &batch.position;
        let event = ending(batch, self.live.position()).cloned();
        // Also what changes no row is to be committed, unless it is known.
        let is_later = !self.live.position().reaches(position);
        let is_fact = batch.changes.is_empty() && is_later || event.is_some();
        let Reduced { keys, documents } = reduced;
        let keys = Arc::new(keys);
        let upserted = documents.len() as u64;
        let (keys_of_rows, documents): (Vec<usize>, Vec<_>) = documents.into_iter().unzip();
        let (mut stages, mut watch) = (Stages::default(), Stopwatch::start());
        let decoded = self.decode(documents, position).await?;
        stages.decode = watch.lap();
        let Decoded {
            batches,
            known,
            rescued,
            misfits,
        } = decoded;
        self.evolve(&known, &misfits).await?;
        let definition = &mut self.live.definition;
        if definition.has_outlived_waiting(position.cluster_time) {
            definition.evolve(&known);
        }
        let rows = Arc::new(batches);
        let written: HashSet<usize> = keys_of_rows.iter().copied().collect();
        let gone: Vec<Key> = keys
            .iter()
            .enumerate()
            .filter(|(number, _)| !written.contains(number))
            .map(|(_, key)| *key)
            .collect();
        let mut applied = Applied {
            upserted,
            deleted: gone.len() as u64,
            rescued,
            bytes: 0,
            stages,
        };
        let stages = &mut applied.stages;
        loop {
            let deleted = self.places.rows_of(&keys, &mut self.live).await?;
            stages.find += watch.lap();
            let marked: u64 = deleted.values().map(RoaringTreemap::len).sum();
            if upserted == 0 && deleted.is_empty() && !is_fact {
                return Ok(Applied::default());
            }
            let is_copied = self.live.definition.is_copy_on_write() && !deleted.is_empty();
            let (edit, files) = if is_copied {
                self.copied(&rows, deleted).await?
            } else {
                self.marked(&rows, &known, deleted).await?
            };
            stages.write += watch.lap();
            if !files.is_empty() {
                Failpoint::DataFileWritten.hit();
            }
            applied.bytes = files.iter().map(|new| new.file.size).sum();
            let mut parameters = json!({ "upserted": upserted, "deleted": marked });
            if let Some(event) = &event {
                add_event(&mut parameters, event);
            }
            let outcome = self
                .live
                .commit(edit, Some(position.clone()), "STREAMING UPDATE", parameters)
                .await?;
            stages.commit += watch.lap();
            match outcome {
                Outcome::Committed => {
                    Failpoint::ChangesCommitted.hit();
                    if batch.changes.is_empty() {
                        Failpoint::HeartbeatCommitted.hit();
                    }
                    if is_copied {
                        self.places.taken_over(&mut self.live, files, gone).await?;
                    } else {
                        let path = files.first().map(|new| new.file.name.as_str());
                        let rows = keys_of_rows.iter().zip(0..);
                        let rows = rows.map(|(key, row)| (keys[*key], row)).collect();
                        self.places.record(&self.live, path, rows, gone).await?;
                    }
                    stages.record = watch.lap();
                    Failpoint::ChangesRecorded.hit();
                    return Ok(applied);
                }
                Outcome::Overtaken(others) => {
                    self.places.find(&mut self.live, &others).await?;
                    if self.live.position().reaches(position) {
                        // It had arrived, perhaps with the files of an earlier try: the places of
                        // its rows have just been found.
                        return Ok(applied);
                    }
                    rewrite::discard(&self.live, &files).await?;
                    // Another writer may have put back the schema of before.
                    self.evolve(&known, &misfits).await?;
                }
            }
        }
    }

    /// The new rows in a file of their own, and the old ones to be marked as deleted.
    async fn marked(
        &self,
        rows: &Arc<Vec<RecordBatch>>,
        known: &TableSchema,
        deleted: HashMap<String, RoaringTreemap>,
    ) -> Result<(Edit, Vec<NewFile>)> {
        let mut files = Vec::new();
        if !rows.is_empty() {
            let (place, known, rows) = (self.live.place.clone(), known.clone(), Arc::clone(rows));
            let file = blocking(move || write_file(&place, &known, &rows)).await??;
            files.push(NewFile { file, keys: None });
        }
        let edit = Edit {
            added: files.iter().map(|new| add_action(&new.file)).collect(),
            deleted,
            ..Edit::default()
        };
        Ok((edit, files))
    }

    /// The new rows, and what is left of the files of the old ones.
    async fn copied(
        &mut self,
        rows: &Arc<Vec<RecordBatch>>,
        deleted: HashMap<String, RoaringTreemap>,
    ) -> Result<(Edit, Vec<NewFile>)> {
        let mut touched = Vec::with_capacity(deleted.len());
        for (path, rows) in deleted {
            let source = Source::of(&mut self.live, &path).await?;
            touched.extend(source.map(|source| (source, rows)));
        }
        let work = copy_on_write::Work {
            place: self.live.place.clone(),
            schema: self.live.schema.settled(),
            rows: Arc::clone(rows),
            file_bytes: self.upkeep.file_bytes(),
            has_feed: self.live.definition.has_change_data_feed(),
            touched,
        };
        let (work, copied) = blocking(move || {
            let copied = copy_on_write::write(&work);
            (work, copied)
        })
        .await?;
        let Copied { files, changes } = copied?;
        let edit = Edit {
            added: files.iter().map(|new| add_action(&new.file)).collect(),
            removed: work.touched.into_iter().map(|(s, _)| s.path).collect(),
            changes,
            ..Edit::default()
        };
        Ok((edit, files))
    }

    /// Has rows deleted by writing their files again from now on, if that is not so already.
    pub(super) async fn copy_on_write(&mut self) -> Result<()> {
        let file_bytes = self.upkeep.file_bytes();
        copy_on_write::switch_to(&mut self.live, &mut self.places, file_bytes).await
    }

    /// Keeps the table's manifest right from now on, where it has one or is to have one.
    pub(super) async fn keep_manifest(&mut self, is_wanted: bool) -> Result<()> {
        self.live.follow_manifest().await?;
        if is_wanted {
            self.live.enable_manifest().await?;
            if self.places.version() != Some(self.live.version) {
                self.find_rows().await?;
            }
        }
        Ok(())
    }

    /// Writes the manifests that could not be written behind their commits.
    async fn catch_up_manifests(&mut self) -> Result<()> {
        if let Some(history) = &mut self.history {
            history.live.catch_up_manifest().await?;
        }
        self.live.catch_up_manifest().await
    }

    /// Decodes new documents, as far as the table's schema may change for them.
    async fn decode(
        &mut self,
        documents: Vec<bytes::Bytes>,
        reached: &Position,
    ) -> Result<Decoded> {
        let mut schema = self.live.schema.clone();
        // The first documents give a table its schema.
        let is_new = schema.columns.is_empty();
        let stops = self.on_schema_change == OnSchemaChange::Stop && !is_new;
        let keeps = self.on_schema_change == OnSchemaChange::Rescue && !is_new;
        if let (true, Some(approved)) = (stops, self.live.definition.approved_schema()) {
            schema = schema.join(&approved);
        }
        let permitted = schema.clone();
        let decoder = move || match keeps {
            true => Decoder::keeping(&schema),
            false => Decoder::new(&schema),
        };
        let decoded = blocking(move || decode(decoder(), &documents)).await??;
        if stops && !permitted.changes_to(&decoded.known).is_empty() {
            return Err(self.stop(&decoded.known, reached).await?);
        }
        Ok(decoded)
    }

    /// Records that the schema would become `known`, and says why the table does not go on.
    async fn stop(&mut self, known: &TableSchema, reached: &Position) -> Result<Error> {
        let definition = &mut self.live.definition;
        // A try before this one may have failed to commit it.
        if definition.wait_for(known, reached.cluster_time) || definition.has_changed() {
            let edit = Edit::default();
            let parameters = json!({ "reason": "a schema change waits for approval" });
            let outcome = self
                .live
                .commit(edit, None, "SET TBLPROPERTIES", parameters)
                .await?;
            if let Outcome::Overtaken(_) = outcome {
                // It may have been approved just now.
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "another writer has changed the table",
                )
                .on("table", &self.live.place));
            }
        }
        let changes = self.live.schema.changes_to(known);
        Ok(SchemaChange::waiting(&changes).on("table", &self.live.place))
    }

    /// Brings the table to a schema that holds `known` too, and records that, and what did not fit.
    async fn evolve(&mut self, known: &TableSchema, misfits: &[SchemaChange]) -> Result<()> {
        if *known != self.live.schema {
            widen::rewrite_outgrown(&mut self.live, Some(&mut self.places), known).await?;
            self.live.schema = known.clone();
            self.live.definition.evolve(known);
        }
        if !misfits.is_empty() {
            self.live.definition.record_rescued(misfits);
        }
        Ok(())
    }
}

#[async_trait]
impl ChangeTable for FollowedTable {
    fn place(&self) -> String {
        self.live.place.to_string()
    }

    fn position(&self) -> Position {
        let own = self.live.position();
        match &self.history {
            Some(history) if own.reaches(history.position()) => history.position().clone(),
            _ => own.clone(),
        }
    }

    fn content_position(&self) -> Position {
        self.live.position().clone()
    }

    async fn apply(&mut self, batch: &ChangeBatch) -> Result<Applied> {
        let mut watch = Stopwatch::start();
        self.catch_up_manifests().await?;
        if let Some(applied) = self.untold.take()
            && self.position().reaches(&batch.position)
        {
            return Ok(applied);
        }
        if let Some(history) = &mut self.history {
            history.append(batch).await?;
            Failpoint::HistoryCommitted.hit();
        }
        let history = watch.lap();
        let mut applied = self.apply_only(batch).await?;
        applied.stages.history = history;
        let places = Some(&mut self.places);
        self.upkeep.go_on(&mut self.live, places).await;
        if let Some(history) = &mut self.history {
            history.go_on().await;
        }
        if let Err(error) = self.catch_up_manifests().await {
            self.untold = Some(applied);
            return Err(error);
        }
        Ok(applied)
    }

    async fn skip(&mut self, from: &Position, to: &Position, remedy: GapRemedy) -> Result<()> {
        if let Some(history) = &mut self.history {
            history.skip(from, to, remedy).await?;
        }
        if self.places.version() != Some(self.live.version) {
            self.find_rows().await?;
        }
        while !self.live.position().reaches(to) {
            match self.live.skip(Edit::default(), from, to, remedy).await? {
                Outcome::Committed => {
                    self.places
                        .record(&self.live, None, Vec::new(), Vec::new())
                        .await?;
                }
                Outcome::Overtaken(files) => self.places.find(&mut self.live, &files).await?,
            }
        }
        self.catch_up_manifests().await
    }

    fn gaps(&self) -> Vec<Gap> {
        let mut gaps = self.live.gaps();
        let of_history = self.history.iter().flat_map(HistoryTable::gaps);
        for gap in of_history {
            if !gaps.iter().any(|own| own.to == gap.to) {
                gaps.push(gap);
            }
        }
        gaps.sort_by_key(|gap| gap.to);
        gaps
    }

    async fn finish(&mut self) {
        let places = Some(&mut self.places);
        self.upkeep.finish(&mut self.live, places).await;
        if let Some(history) = &mut self.history {
            history.finish().await;
        }
        if let Err(error) = self.catch_up_manifests().await {
            let error = error.to_string();
            tracing::warn!(
                table = %self.live.place, error,
                "the manifest is of an earlier version, until the next start"
            );
        }
    }
}

/// What a batch ends with that happened to the collection as a whole, unless the table has it
/// already.
fn ending<'a>(batch: &'a ChangeBatch, passed: &Position) -> Option<&'a Event> {
    let last = batch.changes.last()?;
    let is_new = !passed.has_passed(last.token(), last.cluster_time);
    (last.ends_collection() && is_new).then_some(last)
}

/// Names an event in the parameters of the commit that is at its place in the table's history.
fn add_event(parameters: &mut Value, event: &Event) {
    parameters["event"] = event.name().into();
    parameters["namespace"] = event.namespace.to_string().into();
    if let EventKind::Rename { to } = &event.kind {
        parameters["to"] = to.to_string().into();
    }
    parameters["clusterTime"] = event.cluster_time.to_string().into();
    parameters["time"] = gaps::in_words(event.cluster_time).into();
}

/// Leaves out what the table has already, and all but the last change of each key.
fn reduce(changes: &[Event], passed: &Position) -> Result<Reduced> {
    let mut last: HashMap<Key, usize> = HashMap::with_capacity(changes.len());
    let mut keys = Vec::new();
    let mut documents: Vec<Option<bytes::Bytes>> = Vec::new();
    for event in changes {
        if passed.has_passed(event.token(), event.cluster_time) {
            continue;
        }
        let EventKind::Change(Change {
            operation,
            key,
            document,
            ..
        }) = &event.kind
        else {
            continue;
        };
        // The document had been deleted when it was looked up: its delete comes, and until then the
        // row stays as it is.
        if *operation != Operation::Delete && document.is_none() {
            continue;
        }
        let key = Key::of_document(key).map_err(|error| {
            Error::new(ErrorKind::InvalidData, "a change's key is not BSON").because(error)
        })?;
        match last.entry(key) {
            Entry::Occupied(entry) => documents[*entry.get()].clone_from(document),
            Entry::Vacant(entry) => {
                entry.insert(keys.len());
                keys.push(key);
                documents.push(document.clone());
            }
        }
    }
    let documents = documents
        .into_iter()
        .enumerate()
        .filter_map(|(key, document)| Some((key, document?)))
        .collect();
    Ok(Reduced { keys, documents })
}

pub(super) fn decode(mut decoder: Decoder, documents: &[bytes::Bytes]) -> Result<Decoded> {
    let start = decoder.schema();
    let mut parts = Vec::new();
    let mut pending = 0;
    let mut rescued = 0;
    let mut finish = |decoder: &mut Decoder| -> Result<()> {
        let part = decoder.finish(Naming::Physical).map_err(|error| {
            Error::new(ErrorKind::Internal, "decoded columns do not fit together").because(error)
        })?;
        rescued += part.rescued;
        parts.push(part);
        Ok(())
    };
    for document in documents {
        decoder.append(document).map_err(|error| {
            Error::new(ErrorKind::InvalidData, "a document is not BSON").because(error)
        })?;
        pending += document.len();
        if pending >= BATCH_BYTES || decoder.rows() >= BATCH_ROWS {
            pending = 0;
            finish(&mut decoder)?;
        }
    }
    if decoder.rows() > 0 {
        finish(&mut decoder)?;
    }
    let known = decoder.schema();
    let settled = known.settled();
    let batches = parts
        .into_iter()
        .map(|part| {
            if part.schema.has_layout_of(&settled) {
                return Ok(part.batch);
            }
            recast_batch(&part.batch, &part.schema, &settled, Naming::Physical).map_err(|error| {
                Error::new(ErrorKind::Internal, "cannot bring rows to a wider schema")
                    .because(error)
            })
        })
        .collect::<Result<_>>()?;
    let misfits = decoder
        .take_misfits()
        .into_iter()
        .map(|(path, own)| SchemaChange {
            from: start.type_at(&path).map(ToString::to_string),
            to: own.to_string(),
            path,
        })
        .collect();
    Ok(Decoded {
        batches,
        known,
        rescued,
        misfits,
    })
}

/// Writes the rows into one file; their numbers in it are their order.
pub(super) fn write_file(
    place: &Location,
    known: &TableSchema,
    batches: &[RecordBatch],
) -> Result<DataFile> {
    let settled = known.settled();
    let name = new_file_name();
    let empty = RecordBatch::new_empty(table_schema(&settled, Naming::Physical));
    let first = batches.first().unwrap_or(&empty);
    let mut file = ParquetFile::begin(place, name, settled, first)?;
    for batch in batches {
        file.write(batch)?;
    }
    file.finish()
}

/// A name that no other file of the table has.
pub(super) fn new_file_name() -> String {
    format!(
        "part-00000-{}-c000.zstd.parquet",
        uuid::Uuid::new_v4().simple()
    )
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|panic| {
        Error::new(ErrorKind::Internal, "a writing thread ended abnormally").because(panic)
    })
}
