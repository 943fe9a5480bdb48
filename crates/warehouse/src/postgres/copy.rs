//! Rows on their way into PostgreSQL.

use std::pin::Pin;

use arrow::array::RecordBatch;
use bytes::Bytes;
use futures::SinkExt;
use tokio_postgres::{CopyInSink, Transaction};
use tributary_flow::Applied;
use tributary_model::schema::RESCUED_COLUMN;
use tributary_model::{Error, ErrorKind, Result};

use super::rows::{HEADER, Rows, TRAILER};
use super::types::PgType;
use crate::columns::Column;
use crate::dialect::{Incoming, Work};
use crate::names::quoted;

/// How much is sent at once.
const CHUNK_BYTES: usize = 256 << 10;

/// A binary copy.
pub(super) struct Copy {
    sink: Pin<Box<CopyInSink<Bytes>>>,
    buffer: Vec<u8>,
    applied: Applied,
    /// There is a column behind the others that says whether a row is gone.
    tells_gone: bool,
}

impl Copy {
    /// A copy into `into`, of the columns that fields have, of `_rescued_data` and of `gone`.
    pub(super) async fn begin(
        work: &Work<'_, PgType>,
        transaction: &Transaction<'_>,
        into: &str,
        columns: &[Option<&Column<PgType>>],
        gone: Option<&str>,
        freeze: bool,
    ) -> Result<Self> {
        let names = columns.iter().flatten().map(|column| column.name.as_str());
        let names: Vec<String> = names
            .chain([RESCUED_COLUMN])
            .chain(gone)
            .map(quoted)
            .collect();
        let freeze = if freeze { ", FREEZE" } else { "" };
        let statement = format!(
            "COPY {into} ({}) FROM STDIN (FORMAT binary{freeze})",
            names.join(", ")
        );
        let sink = transaction.copy_in(&statement).await;
        let sink = sink.map_err(|error| work.failed("cannot copy rows", error))?;
        Ok(Self {
            sink: Box::pin(sink),
            buffer: HEADER.to_vec(),
            applied: Applied::default(),
            tells_gone: gone.is_some(),
        })
    }

    /// Sends all rows there are.
    pub(super) async fn all(
        mut self,
        work: &Work<'_, PgType>,
        columns: &[Option<&Column<PgType>>],
        rows: &mut Incoming,
    ) -> Result<Applied> {
        while let Some(next) = rows.next().await {
            let (batch, gone) = next?;
            self.write(work, columns, &batch, gone).await?;
        }
        self.buffer.extend_from_slice(TRAILER);
        self.send(work).await?;
        let finished = self.sink.as_mut().finish().await;
        finished.map_err(|error| work.failed("cannot copy rows", error))?;
        Ok(self.applied)
    }

    async fn write(
        &mut self,
        work: &Work<'_, PgType>,
        columns: &[Option<&Column<PgType>>],
        batch: &RecordBatch,
        gone: bool,
    ) -> Result<()> {
        let malformed = |error| {
            Error::new(ErrorKind::InvalidData, "rows of the lake cannot be read")
                .on("table", work.name)
                .because(error)
        };
        let types = columns.iter();
        let types: Vec<Option<PgType>> = types
            .map(|column| column.map(|column| column.sql_type))
            .collect();
        let flag = self.tells_gone.then_some(gone);
        let mut rows = Rows::new(&work.schema.columns, batch, &types).map_err(malformed)?;
        for row in 0..batch.num_rows() {
            self.applied.rescued += rows.write(row, flag, &mut self.buffer).map_err(malformed)?;
            if self.buffer.len() >= CHUNK_BYTES {
                self.send(work).await?;
            }
        }
        let count = batch.num_rows() as u64;
        if gone {
            self.applied.deleted += count;
        } else {
            self.applied.upserted += count;
        }
        Ok(())
    }

    async fn send(&mut self, work: &Work<'_, PgType>) -> Result<()> {
        self.applied.bytes += self.buffer.len() as u64;
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK_BYTES));
        let sent = self.sink.send(chunk.into()).await;
        sent.map_err(|error| work.failed("cannot copy rows", error))
    }
}
