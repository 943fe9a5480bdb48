//! One table and the batches that are applied to it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use roaring::RoaringTreemap;
use serde_json::json;
use tributary_convert::arrow_schema::table_schema;
use tributary_convert::key::Key;
use tributary_convert::recast::recast_batch;
use tributary_convert::{Decoder, Naming};
use tributary_flow::{Applied, Change, ChangeBatch, ChangeTable, Event, EventKind};
use tributary_model::{Error, ErrorKind, Operation, Position, Result, TableSchema};

use super::history::HistoryTable;
use super::places::Places;
use super::upkeep::Upkeep;
use super::widen;
use crate::delta::follow::{Edit, LiveTable, Outcome};
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
}

impl FollowedTable {
    pub(super) fn new(
        live: LiveTable,
        places: Places,
        upkeep: Upkeep,
        history: Option<HistoryTable>,
        lock: Option<Lock>,
    ) -> Self {
        Self {
            live,
            places,
            upkeep,
            history,
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
        let reduced = reduce(&batch.changes, self.live.position())?;
        self.write(reduced, batch).await
    }

    async fn write(&mut self, reduced: Reduced, batch: &ChangeBatch) -> Result<Applied> {
        let (position, is_heartbeat) = (&batch.position, batch.changes.is_empty());
        let Reduced { keys, documents } = reduced;
        let keys = Arc::new(keys);
        let upserted = documents.len() as u64;
        let (keys_of_rows, documents): (Vec<usize>, Vec<_>) = documents.into_iter().unzip();
        let schema = self.live.schema.clone();
        let decoded = blocking(move || decode(&schema, &documents)).await??;
        let Decoded {
            batches,
            known,
            rescued,
        } = decoded;
        self.evolve(&known).await?;
        let file = match upserted {
            0 => None,
            _ => {
                let (place, known) = (self.live.place.clone(), known.clone());
                Some(blocking(move || write_file(&place, &known, batches)).await??)
            }
        };
        loop {
            let deleted = self.places.rows_of(&keys, &mut self.live).await?;
            let marked: u64 = deleted.values().map(RoaringTreemap::len).sum();
            if file.is_none() && deleted.is_empty() && !is_heartbeat {
                return Ok(Applied::default());
            }
            let edit = Edit {
                added: file.iter().map(add_action).collect(),
                deleted,
                ..Edit::default()
            };
            let parameters = json!({ "upserted": upserted, "deleted": marked });
            let outcome = self
                .live
                .commit(edit, Some(position.clone()), "STREAMING UPDATE", parameters)
                .await?;
            match outcome {
                Outcome::Committed => break,
                Outcome::Overtaken(files) => {
                    self.places.find(&mut self.live, &files).await?;
                    if self.live.position().reaches(position) {
                        // It had arrived, perhaps with the file of an earlier try: the places of
                        // its rows have just been found.
                        return Ok(Applied {
                            upserted,
                            deleted: keys.len() as u64 - upserted,
                            rescued,
                            bytes: file.map_or(0, |file| file.size),
                        });
                    }
                    // Another writer may have put back the schema of before.
                    self.evolve(&known).await?;
                    self.live.definition.set_schema(&known);
                }
            }
        }
        let rows: Vec<(Key, u32)> = keys_of_rows
            .iter()
            .zip(0..)
            .map(|(key, row)| (keys[*key], row))
            .collect();
        let written: HashSet<Key> = rows.iter().map(|(key, _)| *key).collect();
        let gone: Vec<Key> = keys
            .iter()
            .filter(|key| !written.contains(key))
            .copied()
            .collect();
        let path = file.as_ref().map(|file| file.name.as_str());
        let deleted = gone.len() as u64;
        self.places.record(&self.live, path, rows, gone).await?;
        Ok(Applied {
            upserted,
            deleted,
            rescued,
            bytes: file.map_or(0, |file| file.size),
        })
    }

    /// Brings the table to a schema that holds `known` too.
    async fn evolve(&mut self, known: &TableSchema) -> Result<()> {
        if *known == self.live.schema {
            return Ok(());
        }
        widen::rewrite_outgrown(&mut self.live, Some(&mut self.places), known).await?;
        self.live.schema = known.clone();
        self.live.definition.set_schema(known);
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

    async fn apply(&mut self, batch: &ChangeBatch) -> Result<Applied> {
        if let Some(history) = &mut self.history {
            history.append(batch).await?;
        }
        let applied = self.apply_only(batch).await?;
        self.upkeep.go_on(&mut self.live, &mut self.places).await;
        Ok(applied)
    }

    async fn finish(&mut self) {
        self.upkeep.finish(&mut self.live, &mut self.places).await;
    }
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

pub(super) fn decode(schema: &TableSchema, documents: &[bytes::Bytes]) -> Result<Decoded> {
    let mut decoder = Decoder::new(schema);
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
    Ok(Decoded {
        batches,
        known,
        rescued,
    })
}

/// Writes the rows into one file; their numbers in it are their order.
pub(super) fn write_file(
    place: &Location,
    known: &TableSchema,
    batches: Vec<RecordBatch>,
) -> Result<DataFile> {
    let settled = known.settled();
    let name = new_file_name();
    let empty = RecordBatch::new_empty(table_schema(&settled, Naming::Physical));
    let first = batches.first().unwrap_or(&empty);
    let mut file = ParquetFile::begin(place, name, settled, first)?;
    for batch in &batches {
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
