//! Rows that are replaced or deleted by writing their files again without them, in tables for
//! readers that know no deletion vectors.
//!
//! The new files, the old ones' removal and the position are one commit, as anywhere. What is left
//! of small files is written together with the new rows, so that rows that change often are soon
//! in small files, and small files are few; larger ones are each written by themselves.
//!
//! Such a commit moves rows that have not changed, so readers of the change data feed cannot tell by
//! its files which have. Where the table's `delta.enableChangeDataFeed` is true, a file of its own
//! tells them: the rows as they were are read anyway.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use deltalake::kernel::AddCDCFile;
use roaring::RoaringTreemap;
use serde_json::json;
use tributary_convert::Key;
use tributary_model::{Error, ErrorKind, Result, TableSchema};

use super::places::Places;
use super::rewrite::{NewFile, Rewriter, Source, chosen, keys_of_rows};
use super::table::blocking;
use super::{compact, widen};
use crate::delta::follow::{Edit, LiveTable, Outcome};
use crate::location::Location;
use crate::parquet_file::ParquetFile;

/// The directory of the files of the change data feed, by Delta's protocol.
pub(super) const FEED_DIRECTORY: &str = "_change_data";
const CHANGE_TYPE: &str = "_change_type";

/// Files of this part of the size of a full one are written together with the new rows: the cost of
/// the next change of those rows.
const SMALL: u64 = 16;

/// What is to be written.
pub(super) struct Work {
    pub(super) place: Location,
    /// The table's settled schema.
    pub(super) schema: TableSchema,
    /// The files that rows are replaced or deleted in, and which these are.
    pub(super) touched: Vec<(Source, RoaringTreemap)>,
    /// The new rows.
    pub(super) rows: Arc<Vec<RecordBatch>>,
    /// The size at which a new file is closed.
    pub(super) file_bytes: u64,
    /// Whether the table has a change data feed.
    pub(super) has_feed: bool,
}

/// Files that take the place of those that were touched.
pub(super) struct Copied {
    pub(super) files: Vec<NewFile>,
    pub(super) changes: Option<AddCDCFile>,
}

/// Writes what is left of the touched files, and the new rows. It computes and blocks: it is called
/// on a blocking thread.
pub(super) fn write(work: &Work) -> Result<Copied> {
    let mut rewriter = Rewriter::new(&work.place, &work.schema, work.file_bytes, true);
    match write_all(work, &mut rewriter) {
        Ok(changes) => Ok(Copied {
            files: rewriter.finish()?,
            changes,
        }),
        Err(error) => {
            rewriter.discard();
            Err(error)
        }
    }
}

fn write_all(work: &Work, rewriter: &mut Rewriter) -> Result<Option<AddCDCFile>> {
    let mut feed = match work.has_feed {
        true => Some(Feed::new(work)?),
        false => None,
    };
    let is_small = |source: &Source| source.size < work.file_bytes / SMALL;
    let (small, large): (Vec<_>, Vec<_>) = work
        .touched
        .iter()
        .partition(|(source, _)| is_small(source));
    for (source, gone) in large {
        copy(work, source, gone, rewriter, feed.as_mut())?;
        rewriter.close()?;
    }
    for (source, gone) in small {
        copy(work, source, gone, rewriter, feed.as_mut())?;
    }
    for batch in work.rows.iter() {
        rewriter.write(batch)?;
        if let Some(feed) = &mut feed {
            feed.came(batch)?;
        }
    }
    feed.map_or(Ok(None), Feed::finish)
}

fn copy(
    work: &Work,
    source: &Source,
    gone: &RoaringTreemap,
    rewriter: &mut Rewriter,
    mut feed: Option<&mut Feed<'_>>,
) -> Result<()> {
    source.read(&work.place, |rows, batch| {
        let first = rows.start;
        let is_left = |row| !source.deleted.contains(row) && !gone.contains(row);
        let left = chosen(&batch, first, is_left)?;
        if left.num_rows() > 0 {
            rewriter.write(&left)?;
        }
        match &mut feed {
            Some(feed) => feed.went(&chosen(&batch, first, |row| gone.contains(row))?),
            None => Ok(()),
        }
    })
}

/// The file that tells which rows change by a commit.
struct Feed<'a> {
    work: &'a Work,
    file: Option<ParquetFile>,
    /// The keys that have a new row.
    coming: HashSet<Key>,
    /// Those of them that had one before.
    replaced: HashSet<Key>,
}

impl<'a> Feed<'a> {
    fn new(work: &'a Work) -> Result<Self> {
        let mut coming = HashSet::new();
        for batch in work.rows.iter() {
            coming.extend(keys_of_rows(&work.schema, batch)?);
        }
        Ok(Self {
            work,
            file: None,
            coming,
            replaced: HashSet::new(),
        })
    }

    /// Rows, as they are in a file of the table, that are gone.
    fn went(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let batch = widen::brought_to(batch, &self.work.schema, &self.work.schema)?;
        let mut types = Vec::with_capacity(batch.num_rows());
        for key in keys_of_rows(&self.work.schema, &batch)? {
            types.push(if self.coming.contains(&key) {
                self.replaced.insert(key);
                "update_preimage"
            } else {
                "delete"
            });
        }
        self.write(&batch, types)
    }

    /// Rows that are new, once all that are gone have been told.
    fn came(&mut self, batch: &RecordBatch) -> Result<()> {
        let keys = keys_of_rows(&self.work.schema, batch)?;
        let types = keys.iter().map(|key| match self.replaced.contains(key) {
            true => "update_postimage",
            false => "insert",
        });
        self.write(batch, types.collect())
    }

    fn write(&mut self, batch: &RecordBatch, types: Vec<&str>) -> Result<()> {
        let batch = with_types(batch, types).map_err(|error| {
            Error::new(ErrorKind::Internal, "cannot tell which rows change").because(error)
        })?;
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let name = format!(
                    "cdc-00000-{}-c000.zstd.parquet",
                    uuid::Uuid::new_v4().simple()
                );
                let place = self.work.place.child(FEED_DIRECTORY);
                let schema = self.work.schema.clone();
                self.file
                    .insert(ParquetFile::begin(&place, name, schema, &batch)?)
            }
        };
        file.write(&batch)
    }

    fn finish(self) -> Result<Option<AddCDCFile>> {
        let Some(file) = self.file else {
            return Ok(None);
        };
        let file = file.finish()?;
        Ok(Some(AddCDCFile {
            path: format!("{FEED_DIRECTORY}/{}", file.name),
            size: i64::try_from(file.size).unwrap_or(i64::MAX),
            ..AddCDCFile::default()
        }))
    }
}

fn with_types(batch: &RecordBatch, types: Vec<&str>) -> Result<RecordBatch, ArrowError> {
    let mut fields = batch.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(CHANGE_TYPE, DataType::Utf8, false)));
    let mut columns = batch.columns().to_vec();
    let types: ArrayRef = Arc::new(StringArray::from(types));
    columns.push(types);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Has a table copied on write from now on: its files with deletion vectors are written without the
/// rows that are marked there, in the commit that says so.
pub(super) async fn switch_to(
    live: &mut LiveTable,
    places: &mut Places,
    file_bytes: u64,
) -> Result<()> {
    while !is_switched(live) {
        let begun = std::time::Instant::now();
        let marked = live.files.iter().filter(|(_, file)| file.has_vector());
        let marked: Vec<String> = marked.map(|(path, _)| path.clone()).collect();
        let mut victims = Vec::with_capacity(marked.len());
        for path in marked {
            victims.extend(Source::of(live, &path).await?);
        }
        let files = victims.len();
        live.definition.set_copy_on_write();
        let is_done = if victims.is_empty() {
            let parameters = json!({ "properties": "{\"delta.enableDeletionVectors\":\"false\"}" });
            let operation = "SET TBLPROPERTIES";
            match live
                .commit(Edit::default(), None, operation, parameters)
                .await?
            {
                Outcome::Committed => true,
                Outcome::Overtaken(files) => {
                    places.find(live, &files).await?;
                    false
                }
            }
        } else {
            let work = compact::Work {
                place: live.place.clone(),
                schema: live.schema.settled(),
                victims,
                file_bytes,
                with_keys: true,
                stop: Arc::new(AtomicBool::new(false)),
            };
            let written = blocking(move || compact::write(work)).await??;
            written.commit(live, Some(places)).await?.is_some()
        };
        if is_done {
            tracing::warn!(
                table = %live.place, files,
                seconds = begun.elapsed().as_secs_f64(),
                "the table has no deletion vectors any more: files that had one were written again"
            );
        } else {
            // The definition has not got into the log, or has been overtaken.
            live.reload().await?;
            places.find_missing(live).await?;
        }
    }
    Ok(())
}

/// Whether a table has no deletion vectors, and readers need not know them.
pub(super) fn is_switched(live: &LiveTable) -> bool {
    let definition = &live.definition;
    definition.is_copy_on_write() && !definition.allows_deletion_vectors() && !live.has_vector()
}
