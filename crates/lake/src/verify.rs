//! What the rows of tables that follow collections say, for comparing them with the source.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use roaring::RoaringTreemap;
use tributary_convert::Key;
use tributary_convert::content::{self, RowReader};
use tributary_convert::encode::EncodeError;
use tributary_convert::extjson::{self, Mode};
use tributary_convert::key::keys_of_rows;
use tributary_convert::raw::RawElements;
use tributary_flow::verify::TakeFingerprints;
use tributary_flow::{ComparedTable, ComparedTables, Fingerprint, FoundRow};
use tributary_model::schema::{Column, RESCUED_COLUMN};
use tributary_model::{Error, ErrorKind, Namespace, Position, Result, TableSchema};

use crate::delta::follow::LiveTable;
use crate::delta::log;
use crate::location::Location;
use crate::schemas::place_of;
use crate::stored_file::{self, StoredFile};
use crate::sync::widen::laid_out;

/// How many files are read at once for a few of their rows.
const FILES_AT_ONCE: usize = 4;

/// A lake whose tables are compared with their collections.
#[derive(Debug, Clone)]
pub struct LakeTables {
    lake: Location,
}

impl LakeTables {
    /// The tables below `lake`.
    #[must_use]
    pub fn new(lake: Location) -> Self {
        Self { lake }
    }
}

#[async_trait]
impl ComparedTables for LakeTables {
    async fn open(&self, collection: &Namespace) -> Result<Option<Box<dyn ComparedTable>>> {
        let place = place_of(&self.lake, collection);
        let live = LiveTable::open(&place).await.map_err(|error| {
            if error.kind() == ErrorKind::AlreadyExists {
                error.remedy(
                    "only a table that `tributary sync` keeps current can be told from one that is behind",
                )
            } else {
                error
            }
        })?;
        Ok(live.map(|live| Box::new(LakeTable { live }) as _))
    }

    fn fingerprint(&self, document: &[u8]) -> Result<Fingerprint> {
        let (key, content) = content::identify(document).map_err(not_bson)?;
        Ok(Fingerprint {
            key: key.0,
            content: content.0,
        })
    }

    fn id(&self, document: &[u8]) -> Result<Bytes> {
        Ok(content::id_of_document(document).map_err(not_bson)?.into())
    }

    fn spell(&self, id: &[u8]) -> String {
        let mut text = Vec::new();
        if let Ok(mut elements) = RawElements::new(id)
            && let Some(Ok(element)) = elements.next()
            && extjson::write_value(&mut text, &element, Mode::Canonical).is_ok()
        {
            return String::from_utf8_lossy(&text).into_owned();
        }
        "null".to_owned()
    }
}

fn not_bson(error: tributary_convert::raw::MalformedBson) -> Error {
    Error::new(ErrorKind::InvalidData, "a document is not BSON").because(error)
}

/// A table at one version.
struct LakeTable {
    live: LiveTable,
}

/// A file of the version, and its deleted rows.
struct Part {
    file: StoredFile,
    deleted: RoaringTreemap,
}

impl LakeTable {
    async fn parts(&mut self) -> Result<Vec<Part>> {
        let mut paths: Vec<String> = self.live.files.keys().cloned().collect();
        paths.sort();
        let mut parts = Vec::with_capacity(paths.len());
        for path in paths {
            let deleted = self.live.deleted(&path).await?.cloned().unwrap_or_default();
            if let Some(file) = self.live.files.get(&path) {
                let size = file.add.size.unsigned_abs();
                let file = StoredFile::new(&self.live.place, &path, size);
                parts.push(Part { file, deleted });
            }
        }
        Ok(parts)
    }
}

#[async_trait]
impl ComparedTable for LakeTable {
    fn place(&self) -> String {
        self.live.place.to_string()
    }

    fn position(&self) -> Position {
        self.live.position().clone()
    }

    async fn refresh(&mut self) -> Result<bool> {
        let place = self.live.place.clone();
        if log::read(&place, self.live.version + 1).await?.is_none() {
            return Ok(false);
        }
        match LiveTable::open(&place).await? {
            Some(live) => self.live = live,
            None => {
                return Err(Error::new(ErrorKind::NotFound, "the table is gone").on("table", place));
            }
        }
        Ok(true)
    }

    async fn scan(&mut self, parallel: usize, take: TakeFingerprints) -> Result<()> {
        let schema = Arc::new(self.live.schema.settled());
        let parts = self.parts().await?;
        let work = parts.into_iter().map(|part| {
            let (schema, take) = (Arc::clone(&schema), Arc::clone(&take));
            blocking(move || scan_part(&part, &schema, &*take))
        });
        stream::iter(work)
            .buffer_unordered(parallel.max(1))
            .try_for_each(|()| async { Ok(()) })
            .await
    }

    async fn rows(&mut self, keys: Arc<HashSet<[u8; 16]>>) -> Result<Vec<FoundRow>> {
        let schema = Arc::new(self.live.schema.settled());
        let parts = self.parts().await?;
        let work = parts.into_iter().map(|part| {
            let (schema, keys) = (Arc::clone(&schema), Arc::clone(&keys));
            blocking(move || rows_of_part(&part, &schema, &keys))
        });
        let found: Vec<Vec<FoundRow>> = stream::iter(work)
            .buffer_unordered(FILES_AT_ONCE)
            .try_collect()
            .await?;
        Ok(found.into_iter().flatten().collect())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|panic| {
        Error::new(ErrorKind::Internal, "a reading thread ended abnormally").because(panic)
    })?
}

/// Takes the fingerprints of all rows of a file that are not deleted.
fn scan_part(
    part: &Part,
    schema: &TableSchema,
    take: &(dyn Fn(&[Fingerprint]) -> Result<()> + Send + Sync),
) -> Result<()> {
    let mut first = 0;
    let mut found = Vec::new();
    stored_file::read_foreign(&part.file, None, None, |batch| {
        found.clear();
        let rows = batch.num_rows() as u64;
        each_row(&part.file, schema, &batch, |reader, row, key| {
            if !part.deleted.contains(first + row as u64) {
                found.push(Fingerprint {
                    key: key.0,
                    content: reader.content(row).0,
                });
            }
            Ok(())
        })?;
        first += rows;
        take(&found)
    })
}

/// The rows of a file that have one of these keys and are not deleted.
fn rows_of_part(
    part: &Part,
    schema: &TableSchema,
    keys: &HashSet<[u8; 16]>,
) -> Result<Vec<FoundRow>> {
    let mut chosen = RoaringTreemap::new();
    let mut first = 0;
    let id = schema.column("_id").map(std::slice::from_ref);
    stored_file::read_foreign(&part.file, Some(&["_id", RESCUED_COLUMN]), None, |batch| {
        let only_id = TableSchema {
            columns: id.map(<[Column]>::to_vec).unwrap_or_default(),
        };
        each_row(&part.file, &only_id, &batch, |_, row, key| {
            let row = first + row as u64;
            if keys.contains(&key.0) && !part.deleted.contains(row) {
                chosen.insert(row);
            }
            Ok(())
        })?;
        first += batch.num_rows() as u64;
        Ok(())
    })?;
    let mut found = Vec::new();
    if chosen.is_empty() {
        return Ok(found);
    }
    let mut places = chosen.iter();
    stored_file::read_foreign(&part.file, None, Some(&chosen), |batch| {
        each_row(&part.file, schema, &batch, |reader, row, key| {
            let fingerprint = Fingerprint {
                key: key.0,
                content: reader.content(row).0,
            };
            let id = reader
                .id(row)
                .map_err(|error| unreadable(&part.file, error))?;
            let mut place = DefaultHasher::new();
            (part.file.to_string(), places.next()).hash(&mut place);
            found.push(FoundRow {
                fingerprint,
                id: id.into(),
                place: place.finish(),
            });
            Ok(())
        })
    })?;
    Ok(found)
}

/// Calls `each` with the number and the key of each row of a batch of `file`.
fn each_row(
    file: &StoredFile,
    schema: &TableSchema,
    batch: &RecordBatch,
    mut each: impl FnMut(&mut RowReader<'_>, usize, Key) -> Result<()>,
) -> Result<()> {
    let (schema, batch) = laid_out(batch, schema)?;
    let failed = |error| unreadable(file, error);
    let rescued = batch
        .columns()
        .last()
        .and_then(|column| column.as_string_opt::<i32>());
    let mut columns = schema.columns.iter().zip(batch.columns());
    let id = columns.find(|(column, _)| column.field == "_id");
    let keys = keys_of_rows(id, rescued, batch.num_rows()).map_err(failed)?;
    let mut reader = RowReader::new(&schema, &batch, rescued).map_err(failed)?;
    for (row, key) in keys.into_iter().enumerate() {
        each(&mut reader, row, key)?;
    }
    Ok(())
}

fn unreadable(file: &StoredFile, error: EncodeError) -> Error {
    Error::new(ErrorKind::InvalidData, "cannot read the rows of a file")
        .on("file", file)
        .because(error)
}
