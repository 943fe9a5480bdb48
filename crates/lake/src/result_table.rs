//! The result of a query as a table of the lake, which it replaces in one commit.
//!
//! The table is read by the version that is there when the query begins, and its next version is the
//! result: who commits between makes the query fail, so a query of the very table that it replaces loses
//! nothing. Files that no commit names are never seen, and are removed with those of earlier versions when
//! the retention has passed.

mod columns;

use std::collections::HashSet;
use std::time::Duration;

use arrow::array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use deltalake::DeltaTable;
use futures::TryStreamExt;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tributary_model::{Error, ErrorKind, Result};
use uuid::Uuid;

use crate::delta::definition::Definition;
use crate::delta::{follow, table};
use crate::location::Location;
use crate::parquet_file::{DataFile, FILE_BYTES, ParquetFile};
use crate::sql::Lake;
use crate::sync::{checkpoint, vacuum};
use columns::Columns;

/// How long earlier results, and what unfinished queries have left, are kept.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often such files are looked for.
const VACUUM_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Batches of rows between the query and the file: as many as keep both at work.
const BATCHES: usize = 2;

/// How much a query has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenResult {
    /// Rows.
    pub rows: u64,
    /// The bytes of their files.
    pub bytes: u64,
}

impl Lake {
    /// Runs one query, and makes its result the table `name` of `database`, in place of what that held
    /// and under the result's own columns. It becomes visible as a whole, in one commit.
    ///
    /// # Errors
    /// As [`query`](Lake::query). The table is one of a collection; or another writer changes it
    /// meanwhile, and the result is not there then.
    pub async fn query_into(&self, sql: &str, database: &str, name: &str) -> Result<WrittenResult> {
        for part in [database, name] {
            if part.is_empty() || part.starts_with(['.', '_']) {
                return Err(Error::new(
                    ErrorKind::Usage,
                    "queries would not find a table of this name",
                )
                .on("table", format!("{database}.{name}"))
                .remedy("begin neither the database nor the table with a dot or an underscore"));
            }
        }
        let place = self.place().child(database).child(name);
        let base = Base::open(&place).await?;
        let rows = self.rows_of(sql).await?;
        let (columns, schema) = Columns::of(&rows.schema())?;
        let files = self.write(sql, &place, columns, rows).await?;
        let written = WrittenResult {
            rows: files.iter().map(|file| file.rows).sum(),
            bytes: files.iter().map(|file| file.size).sum(),
        };
        let mut definition = base.definition;
        definition.describe(schema);
        definition.set_upkeep();
        let every = definition.commits_to_checkpoint();
        let version =
            table::replace_by_result(&place, base.table.as_ref(), definition, &files).await?;
        if let Err(error) = keep_in_order(&place, version, every, &files).await {
            tracing::warn!(table = %place, %error, "the table could not be put in order, and will be later");
        }
        Ok(written)
    }

    /// Writes rows into files, which are no part of the table yet.
    async fn write(
        &self,
        sql: &str,
        place: &Location,
        columns: Columns,
        mut rows: SendableRecordBatchStream,
    ) -> Result<Vec<DataFile>> {
        let (sender, receiver) = mpsc::channel(BATCHES);
        let writer = {
            let place = place.clone();
            tokio::task::spawn_blocking(move || write_files(&place, &columns, receiver))
        };
        let mut failure = None;
        loop {
            match rows.try_next().await {
                // Where the writer has ended, it tells why.
                Ok(batch) => {
                    let is_last = batch.is_none();
                    if sender.send(batch).await.is_err() || is_last {
                        break;
                    }
                }
                Err(error) => {
                    failure = Some(self.query_failed(sql, &error));
                    break;
                }
            }
        }
        drop(sender);
        let written = writer.await.map_err(|panic| {
            Error::new(ErrorKind::Internal, "a writing thread ended abnormally").because(panic)
        })?;
        match failure {
            Some(error) => Err(error),
            None => written,
        }
    }
}

/// The table that is replaced.
struct Base {
    table: Option<DeltaTable>,
    definition: Definition,
}

impl Base {
    async fn open(place: &Location) -> Result<Self> {
        let Some(table) = table::open(place).await? else {
            return Ok(Self {
                table: None,
                definition: Definition::new(),
            });
        };
        let definition = table::definition_of(&table, place)?;
        definition.check_writable(place)?;
        // Histories and tables that were loaded once have a collection's schema as well.
        if definition.schema().is_some() || follow::is_followed(&table, place).await? {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                "the result of a query cannot replace the table of a collection",
            )
            .on("table", place)
            .remedy("name another table, which holds nothing but this query's results"));
        }
        Ok(Self {
            table: Some(table),
            definition,
        })
    }
}

/// Writes files until the rows end, which is told by `None`. What was written until then is removed where
/// they do not.
fn write_files(
    place: &Location,
    columns: &Columns,
    mut rows: mpsc::Receiver<Option<RecordBatch>>,
) -> Result<Vec<DataFile>> {
    let id = Uuid::new_v4().simple();
    let mut files = Vec::new();
    let mut open: Option<ParquetFile> = None;
    let mut begun = 0;
    let mut append = |batch: &RecordBatch, files: &mut Vec<DataFile>| -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let batch = columns.conform(batch)?;
        if let Some(full) = open.take_if(|file| file.size() >= FILE_BYTES) {
            files.push(full.finish()?);
        }
        let file = match &mut open {
            Some(file) => file,
            None => {
                let name = format!("part-{begun:05}-{id}-c000.zstd.parquet");
                begun += 1;
                let schema = tributary_model::TableSchema::default();
                open.insert(ParquetFile::begin(place, name, schema, &batch)?)
            }
        };
        file.write(&batch)
    };
    let ended = loop {
        match rows.blocking_recv() {
            Some(Some(batch)) => {
                if let Err(error) = append(&batch, &mut files) {
                    break Err(error);
                }
            }
            Some(None) => break Ok(()),
            None => {
                break Err(Error::new(
                    ErrorKind::Interrupted,
                    "the query was stopped before its end",
                ));
            }
        }
    };
    let last = open.take();
    let ended = match (ended, last) {
        (Ok(()), Some(last)) => last.finish().map(|file| files.push(file)),
        (ended, _) => ended,
    };
    if ended.is_err() {
        for file in &files {
            // What cannot be removed now is removed with what expires.
            let _ = Handle::current().block_on(place.remove(place.child(&file.name).path()));
        }
    }
    ended.map(|()| files)
}

/// Keeps the log short, and removes the files of results that have expired.
async fn keep_in_order(
    place: &Location,
    version: u64,
    every: u64,
    files: &[DataFile],
) -> Result<()> {
    if version > 0 && version.is_multiple_of(every) {
        checkpoint(place, RETENTION).await?;
    }
    let used: HashSet<String> = files.iter().map(|file| file.name.clone()).collect();
    vacuum::run(place, &used, RETENTION, VACUUM_EVERY)
        .await
        .map(drop)
}
