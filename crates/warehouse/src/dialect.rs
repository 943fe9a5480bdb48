//! What a warehouse does in its own way.

use std::fmt;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_postgres::{Client, GenericClient, Transaction};
use tributary_flow::{Applied, RowBatches, RowChange};
use tributary_model::{ColumnType, Error, ErrorKind, Result, TableSchema};

use crate::client::{Pool, Server};
use crate::columns::{Column, Plan};
use crate::kept::Keeping;
use crate::layout::TableLayout;
use crate::ledger::Entry;
use crate::names::{NameRules, TableName};

/// The type of a column.
pub(crate) trait SqlType:
    Clone + PartialEq + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// The type that holds the values of a lake's column.
    fn of(column_type: &ColumnType, is_key: bool) -> Self;

    /// The type of `_rescued_data`.
    fn rescued() -> Self;

    /// Its name in a statement.
    fn name(&self) -> String;

    /// How a column of this type comes to hold values of `wanted`.
    fn way_to(&self, wanted: &Self) -> Way<Self>;

    /// Whether a column that is found with the type `found`, as
    /// [`Dialect::columns_there`] tells it, is as a column of this type was left.
    fn is_as_left(&self, found: &str) -> bool {
        self.name() == found
    }
}

/// How a column gets to another type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way<T> {
    /// It holds them as it is.
    Stays,
    /// By a cast that leaves every value what it is.
    Casts(T),
    /// Not at all: all rows are loaded anew.
    Replaced(T),
}

/// Rows on their way into a table.
pub(crate) struct Incoming {
    rows: Receiving,
    /// What brings them to the schema that the table keeps.
    keeping: Option<Keeping>,
}

enum Receiving {
    /// All that the table is to hold.
    Rows(RowBatches),
    /// Changes of what it holds. No key comes twice.
    Changes(mpsc::Receiver<Result<RowChange>>),
}

/// The next rows, and whether they are gone.
type Next = Option<Result<(RecordBatch, bool)>>;

impl Incoming {
    pub(crate) fn rows(rows: RowBatches) -> Self {
        Self {
            rows: Receiving::Rows(rows),
            keeping: None,
        }
    }

    pub(crate) fn changes(changes: mpsc::Receiver<Result<RowChange>>) -> Self {
        Self {
            rows: Receiving::Changes(changes),
            keeping: None,
        }
    }

    /// Whether these are all rows that the table is to hold.
    pub(crate) fn are_all(&self) -> bool {
        matches!(self.rows, Receiving::Rows(_))
    }

    /// The same rows in another schema.
    pub(crate) fn kept(self, keeping: Option<Keeping>) -> Self {
        Self { keeping, ..self }
    }

    pub(crate) async fn next(&mut self) -> Next {
        let next = match &mut self.rows {
            Receiving::Rows(rows) => rows.recv().await?.map(|batch| (batch, false)),
            Receiving::Changes(changes) => changes.recv().await?.map(marked),
        };
        Some(self.brought(next))
    }

    /// The same on a thread that may block.
    pub(crate) fn blocking_next(&mut self) -> Next {
        let next = match &mut self.rows {
            Receiving::Rows(rows) => rows.blocking_recv()?.map(|batch| (batch, false)),
            Receiving::Changes(changes) => changes.blocking_recv()?.map(marked),
        };
        Some(self.brought(next))
    }

    fn brought(&mut self, next: Result<(RecordBatch, bool)>) -> Result<(RecordBatch, bool)> {
        let (batch, gone) = next?;
        match &mut self.keeping {
            None => Ok((batch, gone)),
            Some(keeping) => match keeping.batch(&batch) {
                Ok(batch) => Ok((batch, gone)),
                Err(error) => Err(Error::new(
                    ErrorKind::InvalidData,
                    "rows cannot be brought to the schema that the table keeps",
                )
                .because(error)),
            },
        }
    }
}

fn marked(change: RowChange) -> (RecordBatch, bool) {
    match change {
        RowChange::Upsert(batch) => (batch, false),
        RowChange::Delete(batch) => (batch, true),
    }
}

/// One table that is worked on.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a, T> {
    pub(crate) pool: &'a Pool,
    pub(crate) name: &'a TableName,
    /// The columns of the rows, in their order.
    pub(crate) schema: &'a TableSchema,
    /// All columns of the table.
    pub(crate) columns: &'a [Column<T>],
}

impl<T> Work<'_, T> {
    pub(crate) fn failed(&self, what: &str, error: tokio_postgres::Error) -> Error {
        self.pool.failed(what, error).on("table", self.name)
    }

    pub(crate) async fn execute(
        &self,
        transaction: &Transaction<'_>,
        statements: &str,
        what: &str,
    ) -> Result<()> {
        let done = transaction.batch_execute(statements).await;
        done.map_err(|error| self.failed(what, error))
    }
}

/// A table as it is to be made.
pub(crate) struct NewTable<'a, T> {
    pub(crate) name: &'a TableName,
    /// Its columns, without `_rescued_data`.
    pub(crate) columns: &'a [Column<T>],
    pub(crate) layout: &'a TableLayout,
    pub(crate) comment: &'a str,
}

/// A warehouse.
#[async_trait]
pub(crate) trait Dialect: Send + Sync + 'static {
    /// The types of its columns.
    type Type: SqlType;
    /// Rows that have been made ready for a transaction to take.
    type Ready: Send;

    /// Which server it is.
    const SERVER: Server;
    /// What it allows in names.
    const NAMES: NameRules;
    /// The most columns that get a value of their own; there is `_rescued_data` beside them.
    const MAX_COLUMNS: usize;

    /// Makes the ledger where there is none.
    async fn create_ledger(&self, pool: &Pool) -> Result<()>;

    /// Makes a schema where there is none. An empty one that is left behind does no harm.
    async fn create_schema(&self, pool: &Pool, schema: &str) -> Result<()>;

    /// Which collections the ledger knows, each with its table.
    async fn read_known(
        &self,
        client: &Client,
    ) -> Result<Vec<(String, TableName)>, tokio_postgres::Error>;

    /// What the ledger says of a table.
    async fn read_entry(
        &self,
        client: &Client,
        name: &TableName,
    ) -> Result<Option<Entry<Self::Type>>, tokio_postgres::Error>;

    /// [`read_known`](Self::read_known), over a connection of its own.
    async fn known_tables(&self, pool: &Pool) -> Result<Vec<(String, TableName)>> {
        let client = pool.get().await?;
        let known = self.read_known(&client).await;
        let known = known.map_err(|error| pool.failed("cannot read the ledger", error))?;
        pool.put(client);
        Ok(known)
    }

    /// [`read_entry`](Self::read_entry), over a connection of its own.
    async fn entry(&self, pool: &Pool, name: &TableName) -> Result<Option<Entry<Self::Type>>> {
        let client = pool.get().await?;
        let entry = self.read_entry(&client, name).await;
        let failed = |error| pool.failed("cannot read the ledger", error);
        let entry = entry.map_err(|error| failed(error).on("table", name))?;
        pool.put(client);
        Ok(entry)
    }

    /// The same, and nobody changes it or the table before the transaction ends.
    async fn locked_entry(
        &self,
        pool: &Pool,
        transaction: &Transaction<'_>,
        name: &TableName,
    ) -> Result<Option<Entry<Self::Type>>>;

    /// Writes what is true when the transaction is committed.
    async fn write_entry(
        &self,
        transaction: &Transaction<'_>,
        name: &TableName,
        entry: &Entry<Self::Type>,
    ) -> Result<(), tokio_postgres::Error>;

    /// Writes an entry as the last statement of a transaction, and commits that.
    async fn commit(
        &self,
        pool: &Pool,
        transaction: Transaction<'_>,
        name: &TableName,
        entry: &Entry<Self::Type>,
    ) -> Result<()> {
        let failed = |what, error| pool.failed(what, error).on("table", name);
        let written = self.write_entry(&transaction, name, entry).await;
        written.map_err(|error| failed("cannot write the ledger", error))?;
        let committed = transaction.commit().await;
        committed.map_err(|error| failed("cannot commit the rows", error))
    }

    /// The names and types of the columns that a table has; none where there is no table.
    async fn columns_there<C: GenericClient + Sync>(
        &self,
        client: &C,
        name: &TableName,
    ) -> Result<Vec<(String, String)>, tokio_postgres::Error>;

    /// The statements that make a table, with `_rescued_data` as its last column.
    ///
    /// # Errors
    /// It cannot be laid out as is asked.
    fn create_table(&self, table: &NewTable<'_, Self::Type>) -> Result<Vec<String>>;

    /// The statements that change a table as planned, whose values are kept or, where columns are
    /// replaced, are gone; none where it is rather made anew.
    fn alter_table(
        &self,
        name: &TableName,
        plan: &Plan<Self::Type>,
        layout: &TableLayout,
    ) -> Option<Vec<String>>;

    /// Makes the table's keys, where they are not part of how it is created.
    async fn add_keys(
        &self,
        work: &Work<'_, Self::Type>,
        transaction: &Transaction<'_>,
        layout: &TableLayout,
    ) -> Result<()>;

    /// Does with rows what can be done without a transaction.
    async fn ready(&self, work: &Work<'_, Self::Type>, rows: Incoming) -> Result<Self::Ready>;

    /// What the rows that are ready need of the columns: those that have to be larger.
    fn grown(
        &self,
        _ready: &Self::Ready,
        _columns: &[Column<Self::Type>],
    ) -> Vec<Column<Self::Type>> {
        Vec::new()
    }

    /// Makes columns larger, which needs no transaction and takes nothing away; answers those that
    /// cannot be made so.
    async fn grow(
        &self,
        _work: &Work<'_, Self::Type>,
        _grown: Vec<Column<Self::Type>>,
    ) -> Result<Vec<Column<Self::Type>>> {
        Ok(Vec::new())
    }

    /// Appends rows to the table, which is empty; `is_new` if the same transaction has made it.
    async fn append(
        &self,
        work: &Work<'_, Self::Type>,
        transaction: &Transaction<'_>,
        ready: &mut Self::Ready,
        is_new: bool,
    ) -> Result<Applied>;

    /// Puts rows in the place of those that have their keys, and takes away those whose rows are gone.
    async fn merge(
        &self,
        work: &Work<'_, Self::Type>,
        transaction: &Transaction<'_>,
        ready: &mut Self::Ready,
        layout: &TableLayout,
    ) -> Result<Applied>;

    /// Clears away rows that have arrived, or never will.
    async fn discard(&self, _ready: Self::Ready) {}

    /// Keeps the ledger small, where it has an entry of this `sequence` for the table now.
    async fn tidy(&self, _pool: &Pool, _name: &TableName, _sequence: u64) {}
}
