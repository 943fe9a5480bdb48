//! PostgreSQL: rows arrive by binary `COPY`, and changes are merged by one delete and one
//! `INSERT … ON CONFLICT`.

mod copy;
mod ledger;
mod rows;
pub(crate) mod types;

use async_trait::async_trait;
use tokio_postgres::{Client, GenericClient, Transaction};
use tributary_flow::Applied;
use tributary_model::schema::RESCUED_COLUMN;
use tributary_model::{Error, ErrorKind, Result};

use crate::client::{Pool, Server};
use crate::columns::{Column, KEY, Plan, columns_of, key_of};
use crate::dialect::{Dialect, Incoming, NewTable, SqlType, Work};
use crate::layout::TableLayout;
use crate::ledger::Entry;
use crate::names::{NameRules, TableName, literal, quoted};

use copy::Copy;
use types::PgType;

/// The table that changes are copied into, for the time of a transaction.
const STAGE: &str = "pg_temp.tributary_stage";
/// Its column that says that the row of a key is gone.
const GONE: &str = "tributary_gone";

/// PostgreSQL, 13 and later.
pub(crate) struct Postgres;

#[async_trait]
impl Dialect for Postgres {
    type Type = PgType;
    type Ready = Incoming;

    const SERVER: Server = Server::Postgres;
    const NAMES: NameRules = NameRules {
        max_bytes: 63,
        folds_case: false,
        system_columns: &["cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"],
    };
    /// A table has at most 1,600.
    const MAX_COLUMNS: usize = 1_590;

    async fn create_ledger(&self, pool: &Pool) -> Result<()> {
        let mut client = pool.get().await?;
        let made = ledger::create(&mut client).await;
        made.map_err(|error| pool.failed("cannot make the ledger", error))?;
        pool.put(client);
        Ok(())
    }

    async fn create_schema(&self, pool: &Pool, schema: &str) -> Result<()> {
        let mut client = pool.get().await?;
        let made = ledger::create_schema(&mut client, schema).await;
        let failed = |error| pool.failed("cannot create the schema", error);
        made.map_err(|error| failed(error).on("schema", quoted(schema)))?;
        pool.put(client);
        Ok(())
    }

    async fn read_known(
        &self,
        client: &Client,
    ) -> Result<Vec<(String, TableName)>, tokio_postgres::Error> {
        ledger::known(client).await
    }

    async fn read_entry(
        &self,
        client: &Client,
        name: &TableName,
    ) -> Result<Option<Entry<PgType>>, tokio_postgres::Error> {
        ledger::read(client, name, false).await
    }

    async fn locked_entry(
        &self,
        pool: &Pool,
        transaction: &Transaction<'_>,
        name: &TableName,
    ) -> Result<Option<Entry<PgType>>> {
        let entry = ledger::read(transaction, name, true).await;
        entry.map_err(|error| {
            pool.failed("cannot read the ledger", error)
                .on("table", name)
        })
    }

    async fn write_entry(
        &self,
        transaction: &Transaction<'_>,
        name: &TableName,
        entry: &Entry<PgType>,
    ) -> Result<(), tokio_postgres::Error> {
        ledger::write(transaction, name, entry).await
    }

    async fn columns_there<C: GenericClient + Sync>(
        &self,
        client: &C,
        name: &TableName,
    ) -> Result<Vec<(String, String)>, tokio_postgres::Error> {
        let columns = "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute \
                       WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";
        let rows = client.query(columns, &[&name.to_string()]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    fn create_table(&self, table: &NewTable<'_, PgType>) -> Result<Vec<String>> {
        let rescued = Column::rescued();
        let columns = table.columns.iter().chain([&rescued]);
        let columns: Vec<String> = columns.map(Column::declared).collect();
        Ok(vec![
            format!("CREATE TABLE {} ({})", table.name, columns.join(", ")),
            format!(
                "COMMENT ON TABLE {} IS {}",
                table.name,
                literal(table.comment)
            ),
        ])
    }

    fn alter_table(
        &self,
        name: &TableName,
        plan: &Plan<PgType>,
        _layout: &TableLayout,
    ) -> Option<Vec<String>> {
        let added = plan.added.iter();
        let mut parts: Vec<String> = added
            .map(|column| format!("ADD COLUMN {}", column.declared()))
            .collect();
        for (columns, value) in [(&plan.cast, None), (&plan.replaced, Some("NULL"))] {
            parts.extend(columns.iter().map(|column| {
                let (name, pg_type) = (quoted(&column.name), column.sql_type.name());
                let value = value.unwrap_or(&name);
                format!("ALTER COLUMN {name} TYPE {pg_type} USING {value}::{pg_type}")
            }));
        }
        if parts.is_empty() {
            return Some(Vec::new());
        }
        Some(vec![format!("ALTER TABLE {name} {}", parts.join(", "))])
    }

    /// The primary key, and a unique index of `_id` where that is another.
    async fn add_keys(
        &self,
        work: &Work<'_, PgType>,
        transaction: &Transaction<'_>,
        layout: &TableLayout,
    ) -> Result<()> {
        let Some(key) = key_of(work.columns) else {
            return Ok(());
        };
        if has_key(work, transaction, &key.name).await? {
            return Ok(());
        }
        let mut statements = Vec::new();
        let fields = layout.primary_key.as_deref().unwrap_or_default();
        if fields.is_empty() || fields == [KEY] {
            statements.push(format!(
                "ALTER TABLE {} ADD PRIMARY KEY ({})",
                work.name,
                quoted(&key.name)
            ));
        } else {
            let names = fields.iter().map(|field| column_named(work, field));
            let names: Vec<String> = names.collect::<Result<_>>()?;
            statements.push(format!(
                "ALTER TABLE {} ADD PRIMARY KEY ({})",
                work.name,
                names.join(", ")
            ));
            statements.push(format!(
                "ALTER TABLE {} ADD UNIQUE ({})",
                work.name,
                quoted(&key.name)
            ));
        }
        for statement in statements {
            work.execute(transaction, &statement, "cannot make the table's key")
                .await?;
        }
        Ok(())
    }

    /// They are sent from where they come.
    async fn ready(&self, _work: &Work<'_, PgType>, rows: Incoming) -> Result<Incoming> {
        Ok(rows)
    }

    async fn append(
        &self,
        work: &Work<'_, PgType>,
        transaction: &Transaction<'_>,
        ready: &mut Incoming,
        is_new: bool,
    ) -> Result<Applied> {
        let columns = columns_of(work.columns, work.schema);
        let into = work.name.to_string();
        let copy = Copy::begin(work, transaction, &into, &columns, None, is_new).await?;
        copy.all(work, &columns, ready).await
    }

    async fn merge(
        &self,
        work: &Work<'_, PgType>,
        transaction: &Transaction<'_>,
        ready: &mut Incoming,
        layout: &TableLayout,
    ) -> Result<Applied> {
        let rescued = Column::rescued();
        let stage = work.columns.iter().chain([&rescued]);
        let mut stage: Vec<String> = stage.map(Column::declared).collect();
        stage.push(format!("{GONE} boolean NOT NULL"));
        let create = format!(
            "CREATE TEMPORARY TABLE tributary_stage ({}) ON COMMIT DROP",
            stage.join(", ")
        );
        work.execute(transaction, &create, "cannot stage changes")
            .await?;
        let columns = columns_of(work.columns, work.schema);
        let copy = Copy::begin(work, transaction, STAGE, &columns, Some(GONE), false).await?;
        let applied = copy.all(work, &columns, ready).await?;
        if applied.upserted + applied.deleted > 0 {
            self.add_keys(work, transaction, layout).await?;
            merge(work, transaction).await?;
        }
        Ok(applied)
    }
}

/// Makes the rows that have been staged those of the table.
async fn merge(work: &Work<'_, PgType>, transaction: &Transaction<'_>) -> Result<()> {
    let Some(key) = key_of(work.columns) else {
        // What has no key is no row here: nothing of it can be gone, and nothing comes.
        return Ok(());
    };
    let key = quoted(&key.name);
    let names = work.columns.iter().map(|column| quoted(&column.name));
    let names: Vec<String> = names.chain([quoted(RESCUED_COLUMN)]).collect();
    let others = names.iter().filter(|name| **name != key);
    let set: Vec<String> = others
        .map(|name| format!("{name} = EXCLUDED.{name}"))
        .collect();
    let names = names.join(", ");
    let table = work.name;
    let gone = format!(
        "DELETE FROM {table} USING {STAGE} AS stage \
         WHERE {table}.{key} = stage.{key} AND stage.{GONE}"
    );
    let merge = format!(
        "INSERT INTO {table} ({names}) SELECT {names} FROM {STAGE} WHERE NOT {GONE} \
         ON CONFLICT ({key}) DO UPDATE SET {}",
        set.join(", ")
    );
    // The stage has just been filled, and the planner knows nothing of it.
    let statements = format!("ANALYZE {STAGE}; {gone}; {merge}");
    work.execute(transaction, &statements, "cannot merge changes")
        .await
}

/// Whether a column is unique.
async fn has_key(
    work: &Work<'_, PgType>,
    transaction: &Transaction<'_>,
    column: &str,
) -> Result<bool> {
    let found = transaction
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_index \
             WHERE indrelid = to_regclass($1) AND indisunique AND indisvalid \
               AND indpred IS NULL AND indnkeyatts = 1 AND indkey[0] = \
                 (SELECT attnum FROM pg_attribute \
                  WHERE attrelid = to_regclass($1) AND attname = $2))",
            &[&work.name.to_string(), &column],
        )
        .await
        .map_err(|error| work.failed("cannot read the table's indexes", error))?;
    Ok(found.get(0))
}

/// The quoted name of the column of a field that an option names.
fn column_named(work: &Work<'_, PgType>, field: &str) -> Result<String> {
    let column = work.columns.iter().find(|column| column.field == field);
    let column = column.ok_or_else(|| {
        Error::new(
            ErrorKind::Usage,
            "the primary key names a field that no document has",
        )
        .on("table", work.name)
        .on("field", field)
        .remedy("give --primary-key another field, or leave it out")
    })?;
    Ok(quoted(&column.name))
}
