//! Rows of a table as they come from the server.

use std::pin::Pin;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::{StreamExt, TryStreamExt};
use tokio_postgres::binary_copy::BinaryCopyOutStream;
use tokio_postgres::types::Type;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryStream};
use tributary_flow::{AttachedName, RowStream};
use tributary_model::{Error, ErrorKind, Result};

use super::batch::Batch;
use super::column::{Column, Unreadable, Values};
use super::error::unreadable;
use super::{Database, Session};
use crate::client::Server;

/// What could not be read of a table.
const CANNOT_READ: &str = "cannot read the table";

/// Reads the rows of `statement`, whose columns are these.
pub(super) async fn read(
    database: Arc<Database>,
    table: AttachedName,
    schema: SchemaRef,
    columns: Vec<Column>,
    statement: &str,
) -> Result<RowStream> {
    let session = database.session().await?;
    let answer = answer(&session, database.server, columns.len(), statement).await;
    let answer = answer.map_err(|error| database.failed(CANNOT_READ, error).on("table", &table))?;
    let reading = Reading {
        batch: Batch::new(schema, &columns),
        database,
        table,
        columns,
        running: Some((answer, session)),
    };
    let batches = futures::stream::try_unfold(reading, |mut reading| async move {
        let batch = reading.next_batch().await?;
        Ok(batch.map(|batch| (batch, reading)))
    });
    Ok(batches.boxed())
}

/// The rows of a statement as the server sends them, which it does no faster than they are taken.
enum Answer {
    Copied(Pin<Box<BinaryCopyOutStream>>),
    Queried(Pin<Box<SimpleQueryStream>>),
}

async fn answer(
    session: &Session,
    server: Server,
    columns: usize,
    statement: &str,
) -> Result<Answer, tokio_postgres::Error> {
    match server {
        Server::Postgres => {
            let copy = format!("COPY ({statement}) TO STDOUT (FORMAT binary)");
            let copied = session.client.copy_out(&copy).await?;
            // All are taken as their bytes. There is always one, if only to count rows.
            let types = vec![Type::BYTEA; columns.max(1)];
            let rows = BinaryCopyOutStream::new(copied, &types);
            Ok(Answer::Copied(Box::pin(rows)))
        }
        Server::Redshift => {
            session.client.batch_execute("BEGIN READ ONLY").await?;
            let rows = session.client.simple_query_raw(statement).await?;
            Ok(Answer::Queried(Box::pin(rows)))
        }
    }
}

/// A statement whose rows are being read. When it is dropped the session ends, and with it the
/// statement.
struct Reading {
    database: Arc<Database>,
    table: AttachedName,
    columns: Vec<Column>,
    batch: Batch,
    /// None once all has been read.
    running: Option<(Answer, Session)>,
}

impl Reading {
    async fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        while !self.batch.is_full() {
            let Some((answer, _)) = &mut self.running else {
                break;
            };
            let took = match answer {
                Answer::Copied(rows) => match rows.try_next().await {
                    Ok(Some(row)) => {
                        let value = |i| row.try_get(i);
                        take_row(&mut self.batch, &self.columns, value, Values::append_binary)
                    }
                    Ok(None) => Ok(Took::All),
                    Err(error) => Err(Failed::Server(error)),
                },
                Answer::Queried(rows) => match rows.try_next().await {
                    Ok(Some(SimpleQueryMessage::Row(row))) => {
                        let value = |i| row.try_get(i);
                        take_row(&mut self.batch, &self.columns, value, Values::append_text)
                    }
                    Ok(Some(_)) => Ok(Took::Row),
                    Ok(None) => Ok(Took::All),
                    Err(error) => Err(Failed::Server(error)),
                },
            };
            match took.map_err(|failed| self.failed(failed))? {
                Took::Row => {}
                Took::All => self.end().await,
            }
        }
        self.batch.take().map_err(|error| {
            Error::new(ErrorKind::Internal, CANNOT_READ)
                .on("table", &self.table)
                .because(error)
        })
    }

    /// Keeps the session for another statement.
    async fn end(&mut self) {
        let Some((answer, session)) = self.running.take() else {
            return;
        };
        // What is left of the answer is not waited for by the next one.
        drop(answer);
        // One whose transaction does not end is of no use any more, and has answered nevertheless.
        let is_ready = match self.database.server {
            Server::Postgres => true,
            Server::Redshift => session.client.batch_execute("COMMIT").await.is_ok(),
        };
        if is_ready {
            self.database.idle().push(session);
        }
    }

    fn failed(&self, failed: Failed) -> Error {
        match failed {
            Failed::Server(error) => self
                .database
                .failed(CANNOT_READ, error)
                .on("table", &self.table),
            Failed::Value(column, why) => {
                let column = &self.columns[column];
                unreadable(self.database.pool.place(), &self.table, column, why)
            }
        }
    }
}

enum Took {
    Row,
    All,
}

enum Failed {
    Server(tokio_postgres::Error),
    /// The value in the column of that number.
    Value(usize, Unreadable),
}

fn take_row<V: AsRef<[u8]>>(
    batch: &mut Batch,
    columns: &[Column],
    value: impl Fn(usize) -> Result<Option<V>, tokio_postgres::Error>,
    append: impl Fn(&mut Values, V) -> Result<(), Unreadable>,
) -> Result<Took, Failed> {
    for column in 0..columns.len() {
        let value = value(column).map_err(Failed::Server)?;
        batch
            .append(column, value, &append)
            .map_err(|why| Failed::Value(column, why))?;
    }
    batch.end_row();
    Ok(Took::Row)
}
