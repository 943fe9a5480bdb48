//! One table of a warehouse that takes over one of the lake: the steps, and what is in one
//! transaction.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_postgres::{GenericClient, Transaction};
use tributary_flow::{Applied, RowBatches, RowChange, SinkTable, TableState, TableVersion};
use tributary_model::{
    Decision, Decisions, Error, ErrorKind, Namespace, OnSchemaChange, Result, SchemaChange,
    SchemaDecision, TableSchema,
};

use crate::client::Pool;
use crate::columns::{Column, KEY, Plan, key_of};
use crate::dialect::{Dialect, Incoming, NewTable, SqlType, Work};
use crate::kept::Keeping;
use crate::layout::TableLayout;
use crate::ledger::{Definition, Entry};
use crate::names::{TableName, quoted};

/// The tables that have been replaced.
pub(crate) type Replaced = Arc<Mutex<HashSet<TableName>>>;

/// What all tables of a sink have in common.
pub(crate) struct Shared<D> {
    pub(crate) dialect: D,
    pub(crate) pool: Pool,
    /// The lake, for people.
    pub(crate) source: String,
    /// Which tables have been replaced, where all are to be.
    pub(crate) replaced: Option<Replaced>,
    pub(crate) on_schema_change: OnSchemaChange,
}

/// A table, and what the ledger said of it when it was looked at last.
pub(crate) struct WarehouseTable<D: Dialect> {
    shared: Arc<Shared<D>>,
    collection: Namespace,
    name: TableName,
    layout: TableLayout,
    entry: Option<Entry<D::Type>>,
}

impl<D: Dialect> WarehouseTable<D> {
    pub(crate) async fn open(
        shared: Arc<Shared<D>>,
        collection: &Namespace,
        name: TableName,
        layout: TableLayout,
    ) -> Result<Self> {
        let mut table = Self {
            shared,
            collection: collection.clone(),
            name,
            layout,
            entry: None,
        };
        let Shared { dialect, pool, .. } = &*table.shared;
        let entry = dialect.entry(pool, &table.name).await?;
        match &entry {
            Some(entry) if entry.collection != collection.to_string() => {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    "the table is another collection's",
                )
                .on("table", &table.name)
                .on("collection", &entry.collection)
                .remedy("start again: it gets another name then"));
            }
            None if !table.overwrites() => table.check_free().await?,
            _ => {}
        }
        table.entry = entry;
        Ok(table)
    }

    /// Whether the table is to be made anew, whatever it is.
    fn overwrites(&self) -> bool {
        self.shared.replaced.as_ref().is_some_and(|replaced| {
            // Nothing that can panic runs while it is held.
            let replaced = replaced.lock().unwrap_or_else(PoisonError::into_inner);
            !replaced.contains(&self.name)
        })
    }

    fn failed(&self, what: &str, error: tokio_postgres::Error) -> Error {
        self.shared.pool.failed(what, error).on("table", &self.name)
    }

    async fn columns_there<C: GenericClient + Sync>(
        &self,
        client: &C,
    ) -> Result<Vec<(String, String)>> {
        let there = self.shared.dialect.columns_there(client, &self.name).await;
        there.map_err(|error| self.failed("cannot read the table's columns", error))
    }

    /// That there is no table of that name, whose rows would be lost.
    async fn check_free(&self) -> Result<()> {
        let client = self.shared.pool.get().await?;
        let is_free = self.columns_there(&client).await?.is_empty();
        self.shared.pool.put(client);
        if is_free {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::AlreadyExists,
            "there is a table of that name that the ledger does not know",
        )
        .on("table", &self.name)
        .remedy("rename it, or give --overwrite to replace it"))
    }

    /// Looks whether the table still is what it was when this process saw it last. It stays so until
    /// the transaction ends.
    async fn check_unchanged(&self, transaction: &Transaction<'_>) -> Result<()> {
        let Shared { dialect, pool, .. } = &*self.shared;
        let entry = dialect.locked_entry(pool, transaction, &self.name).await?;
        if entry != self.entry {
            return Err(Error::new(
                ErrorKind::Conflict,
                "another process has loaded the table meanwhile",
            )
            .on("table", &self.name));
        }
        let Some(entry) = entry else {
            return Ok(());
        };
        let there: HashMap<String, String> =
            self.columns_there(transaction).await?.into_iter().collect();
        let rescued = Column::rescued();
        for column in entry.definition.columns.iter().chain([&rescued]) {
            let found = there.get(&column.name).map(String::as_str);
            if !found.is_some_and(|found| column.sql_type.is_as_left(found)) {
                return Err(Error::new(
                    ErrorKind::InvalidData,
                    "the table is not as it was left: somebody has changed it",
                )
                .on("table", &self.name)
                .on("column", &column.name)
                .on("type", found.unwrap_or("none"))
                .on("expected", column.sql_type.name())
                .remedy("undo that, or give --overwrite to load it anew"));
            }
        }
        Ok(())
    }

    /// What becomes of the table's schema when rows of `schema` come.
    fn settle(&self, schema: &TableSchema, makes: bool) -> Settled {
        let mut settled = Settled {
            schema: schema.clone(),
            keeping: None,
            decisions: Decisions::default(),
        };
        let Some(Entry { definition, .. }) = self.entry.as_ref().filter(|_| !makes) else {
            return settled;
        };
        settled.decisions = definition.decisions.clone();
        settled.decisions.forget_waiting();
        let changes = definition.changes_to(schema);
        // The schema of the first documents is no change.
        if changes.is_empty() || definition.schema.columns.is_empty() {
            return settled;
        }
        if self.shared.on_schema_change != OnSchemaChange::Rescue {
            // What was approved has been recorded.
            if !definition.has_approved(schema) {
                let decision = SchemaDecision::now(Decision::Evolved, changes);
                settled.decisions.record(decision);
            }
            return settled;
        }
        let mut kept = definition.schema.clone();
        let joined = kept.join(schema);
        // A row is nothing without its key, which therefore always has the type that it needs.
        if let (Some(own), Some(needed)) = (
            kept.columns.iter_mut().find(|column| column.field == KEY),
            joined.column(KEY),
        ) {
            own.column_type = needed.column_type.clone();
        }
        let changes = kept.changes_to(&joined);
        if !changes.is_empty() {
            settled.decisions.record_rescued(&changes);
            settled.keeping = Some(Keeping::new(schema, &kept));
            settled.schema = kept;
        }
        settled
    }

    /// Records that a schema waits for approval, and says so.
    async fn wait_for(&mut self, schema: &TableSchema) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let Shared { dialect, pool, .. } = &*shared;
        let Some(mut entry) = self.entry.clone() else {
            return Ok(());
        };
        let changes = entry.definition.changes_to(schema);
        if entry.definition.wait_for(schema) {
            let mut client = pool.get().await?;
            let transaction = pool.begin(&mut client).await?;
            self.check_unchanged(&transaction).await?;
            entry.sequence += 1;
            dialect
                .commit(pool, transaction, &self.name, &entry)
                .await?;
            pool.put(client);
            self.entry = Some(entry);
        }
        Err(SchemaChange::waiting(&changes).on("table", &self.name))
    }

    /// Takes the table to a version.
    async fn take_to(&mut self, state: &TableState, rows: Incoming) -> Result<Applied> {
        let shared = Arc::clone(&self.shared);
        let Shared { dialect, pool, .. } = &*shared;
        let mut step = self.step(state, rows.are_all())?;
        let rows = rows.kept(step.settled.keeping.take());
        if step.replaces {
            dialect.create_schema(pool, &self.name.schema).await?;
        }
        let work = self.work(pool, &step);
        let mut ready = dialect.ready(&work, rows).await?;
        let grown = dialect.grown(&ready, &step.plan.columns);
        if !grown.is_empty() {
            let there = grown
                .iter()
                .filter(|grown| step.existing.iter().any(|column| column.name == grown.name));
            let cast = dialect.grow(&work, there.cloned().collect()).await?;
            step.plan.grow(&grown, cast);
        }
        let written = self.write(state, step, &mut ready).await;
        dialect.discard(ready).await;
        let (applied, entry) = written?;
        dialect.tidy(pool, &self.name, entry.sequence).await;
        self.entry = Some(entry);
        if let Some(replaced) = &shared.replaced {
            let mut replaced = replaced.lock().unwrap_or_else(PoisonError::into_inner);
            replaced.insert(self.name.clone());
        }
        Ok(applied)
    }

    /// What is to be done, as far as it is known without the rows.
    fn step(&self, state: &TableState, replaces: bool) -> Result<Step<D::Type>> {
        // What somebody has changed, and what is not ours, is made anew.
        let overwrites = self.overwrites();
        let makes = replaces && (self.entry.is_none() || overwrites);
        let existing = match &self.entry {
            Some(entry) if !makes => entry.definition.columns.clone(),
            _ => Vec::new(),
        };
        let settled = self.settle(&state.schema, makes);
        let plan = Plan::new::<D>(&existing, &settled.schema);
        if !replaces && let Some(column) = plan.replaced.first() {
            return Err(Error::new(
                ErrorKind::HistoryLost,
                format!(
                    "column {} becomes one of type {}",
                    quoted(&column.name),
                    column.sql_type.name()
                ),
            )
            .on("table", &self.name));
        }
        Ok(Step {
            replaces,
            overwrites,
            makes,
            existing,
            settled,
            plan,
        })
    }

    fn work<'a>(&'a self, pool: &'a Pool, step: &'a Step<D::Type>) -> Work<'a, D::Type> {
        Work {
            pool,
            name: &self.name,
            schema: &step.settled.schema,
            columns: &step.plan.columns,
        }
    }

    /// Writes the rows and what is said of them, in one transaction.
    async fn write(
        &self,
        state: &TableState,
        mut step: Step<D::Type>,
        ready: &mut D::Ready,
    ) -> Result<(Applied, Entry<D::Type>)> {
        let Shared { dialect, pool, .. } = &*self.shared;
        let mut client = pool.get().await?;
        let transaction = pool.begin(&mut client).await?;
        if self.entry.is_some() && !step.overwrites {
            self.check_unchanged(&transaction).await?;
        }
        let layout = self.change(&transaction, &mut step).await?;
        let work = self.work(pool, &step);
        let applied = if step.replaces {
            let applied = dialect
                .append(&work, &transaction, ready, step.makes)
                .await?;
            dialect.add_keys(&work, &transaction, &layout).await?;
            applied
        } else {
            dialect.merge(&work, &transaction, ready, &layout).await?
        };
        if key_of(work.columns).is_none() && applied.upserted > 0 {
            return Err(no_key().on("table", &self.name));
        }
        let earlier = self.entry.as_ref().map_or(0, |entry| entry.sequence);
        let entry = Entry {
            sequence: earlier + 1,
            collection: self.collection.to_string(),
            source: self.shared.source.clone(),
            reached: state.at.clone(),
            definition: Definition {
                columns: step.plan.columns.clone(),
                schema: step.settled.schema.clone(),
                layout,
                decisions: step.settled.decisions.clone(),
                waiting: None,
                approved: None,
            },
        };
        dialect
            .commit(pool, transaction, &self.name, &entry)
            .await?;
        pool.put(client);
        Ok((applied, entry))
    }

    /// Makes the table what the rows need, and empty where they replace all; answers how it is laid
    /// out then.
    async fn change(
        &self,
        transaction: &Transaction<'_>,
        step: &mut Step<D::Type>,
    ) -> Result<TableLayout> {
        let Shared {
            dialect,
            pool,
            source,
            ..
        } = &*self.shared;
        if !step.makes
            && let Some(entry) = &self.entry
        {
            let layout = &entry.definition.layout;
            if let Some(statements) = dialect.alter_table(&self.name, &step.plan, layout) {
                let work = self.work(pool, step);
                if step.replaces {
                    let delete = format!("DELETE FROM {}", self.name);
                    work.execute(transaction, &delete, "cannot replace the rows")
                        .await?;
                }
                for statement in &statements {
                    work.execute(transaction, statement, "cannot change the table")
                        .await?;
                }
                return Ok(layout.clone());
            }
            if !step.replaces {
                return Err(Error::new(
                    ErrorKind::HistoryLost,
                    "its key, distribution or order get columns of other types",
                )
                .on("table", &self.name));
            }
        }
        step.makes = true;
        let work = self.work(pool, step);
        if step.overwrites || self.entry.is_some() {
            let drop = format!("DROP TABLE IF EXISTS {}", self.name);
            work.execute(transaction, &drop, "cannot replace the table")
                .await?;
        }
        let comment = format!("kept current by tributary from {source}");
        let table = NewTable {
            name: &self.name,
            columns: &step.plan.columns,
            layout: &self.layout,
            comment: &comment,
        };
        for statement in dialect.create_table(&table)? {
            work.execute(transaction, &statement, "cannot create the table")
                .await?;
        }
        Ok(self.layout.clone())
    }
}

#[async_trait]
impl<D: Dialect> SinkTable for WarehouseTable<D> {
    fn place(&self) -> String {
        format!("{}/{}", self.shared.pool.place(), self.name)
    }

    fn reached(&self) -> Option<&TableVersion> {
        let entry = self.entry.as_ref().filter(|_| !self.overwrites());
        entry.map(|entry| &entry.reached)
    }

    async fn admit(&mut self, state: &TableState) -> Result<()> {
        let stops = self.shared.on_schema_change == OnSchemaChange::Stop && !self.overwrites();
        let holds = self.entry.as_ref().is_some_and(|Entry { definition, .. }| {
            !definition.schema.columns.is_empty()
                && !definition.changes_to(&state.schema).is_empty()
                && !definition.has_approved(&state.schema)
        });
        if stops && holds {
            return self.wait_for(&state.schema).await;
        }
        Ok(())
    }

    async fn load(&mut self, state: &TableState, rows: RowBatches) -> Result<Applied> {
        self.take_to(state, Incoming::rows(rows)).await
    }

    async fn apply(
        &mut self,
        state: &TableState,
        changes: mpsc::Receiver<Result<RowChange>>,
    ) -> Result<Applied> {
        self.take_to(state, Incoming::changes(changes)).await
    }
}

/// What is to be done to take a table to a version.
struct Step<T> {
    /// The rows are all that it is to hold.
    replaces: bool,
    /// It is made anew, whatever it is.
    overwrites: bool,
    /// It is made, and not changed.
    makes: bool,
    /// The columns that it has, unless it is made.
    existing: Vec<Column<T>>,
    settled: Settled,
    plan: Plan<T>,
}

/// What the rows are written as.
struct Settled {
    schema: TableSchema,
    keeping: Option<Keeping>,
    decisions: Decisions,
}

/// What is said of rows without a key.
fn no_key() -> Error {
    Error::new(ErrorKind::InvalidData, "the rows have no key")
        .remedy("a document whose _id is null cannot be a row here: leave its collection out")
}
