//! The ledger in PostgreSQL.

use tokio_postgres::types::Json;
use tokio_postgres::{Client, Error, GenericClient, Transaction};
use tributary_flow::TableVersion;

use super::types::PgType;
use crate::ledger::{Definition, Entry};
use crate::names::{TableName, quoted};

const CREATE: &str = "\
CREATE SCHEMA IF NOT EXISTS tributary;
CREATE TABLE IF NOT EXISTS tributary.ledger (
  table_schema text NOT NULL,
  table_name text NOT NULL,
  sequence bigint NOT NULL,
  collection text NOT NULL,
  source text NOT NULL,
  source_table text NOT NULL,
  version bigint NOT NULL,
  definition jsonb NOT NULL,
  updated_at timestamp with time zone NOT NULL DEFAULT now(),
  PRIMARY KEY (table_schema, table_name)
)";

/// What keeps processes from making the ledger, or a schema, at the same time: `IF NOT EXISTS` fails
/// then.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7809653110)";

/// Makes the ledger where there is none.
pub(super) async fn create(client: &mut Client) -> Result<(), Error> {
    let there = "SELECT to_regclass('tributary.ledger') IS NOT NULL";
    if client.query_one(there, &[]).await?.get(0) {
        return Ok(());
    }
    let transaction = client.transaction().await?;
    transaction.batch_execute(LOCK).await?;
    transaction.batch_execute(CREATE).await?;
    transaction.commit().await
}

/// Makes a schema where there is none. An empty one that is left behind does no harm.
pub(super) async fn create_schema(client: &mut Client, schema: &str) -> Result<(), Error> {
    let there = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)";
    if client.query_one(there, &[&schema]).await?.get(0) {
        return Ok(());
    }
    let transaction = client.transaction().await?;
    transaction.batch_execute(LOCK).await?;
    let create = format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(schema));
    transaction.batch_execute(&create).await?;
    transaction.commit().await
}

/// Which collections have a table.
pub(super) async fn known(client: &Client) -> Result<Vec<(String, TableName)>, Error> {
    let all = "SELECT collection, table_schema, table_name FROM tributary.ledger";
    let rows = client.query(all, &[]).await?;
    let known = rows.iter().map(|row| {
        let (schema, name) = (row.get(1), row.get(2));
        (row.get(0), TableName { schema, name })
    });
    Ok(known.collect())
}

/// What is said of a table. Once it is locked, nobody changes that until the transaction ends.
pub(super) async fn read(
    client: &impl GenericClient,
    table: &TableName,
    lock: bool,
) -> Result<Option<Entry<PgType>>, Error> {
    let lock = if lock { "FOR UPDATE" } else { "" };
    let query = format!(
        "SELECT sequence, collection, source, source_table, version, definition \
         FROM tributary.ledger \
         WHERE table_schema = $1 AND table_name = $2 {lock}"
    );
    let row = client
        .query_opt(&query, &[&table.schema, &table.name])
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let Json(definition): Json<Definition<PgType>> = row.try_get(5)?;
    Ok(Some(Entry {
        sequence: row.try_get::<_, i64>(0)?.unsigned_abs(),
        collection: row.try_get(1)?,
        source: row.try_get(2)?,
        reached: TableVersion {
            table: row.try_get(3)?,
            version: row.try_get::<_, i64>(4)?.unsigned_abs(),
        },
        definition,
    }))
}

/// Writes what is true when the transaction is committed.
pub(super) async fn write(
    transaction: &Transaction<'_>,
    table: &TableName,
    entry: &Entry<PgType>,
) -> Result<(), Error> {
    let number = |number| i64::try_from(number).unwrap_or(i64::MAX);
    transaction
        .execute(
            "INSERT INTO tributary.ledger \
               (table_schema, table_name, sequence, collection, source, source_table, version, \
                definition) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
             ON CONFLICT (table_schema, table_name) DO UPDATE SET \
               sequence = EXCLUDED.sequence, collection = EXCLUDED.collection, source = EXCLUDED.source, \
               source_table = EXCLUDED.source_table, version = EXCLUDED.version, \
               definition = EXCLUDED.definition, updated_at = now()",
            &[
                &table.schema,
                &table.name,
                &number(entry.sequence),
                &entry.collection,
                &entry.source,
                &entry.reached.table,
                &number(entry.reached.version),
                &Json(&entry.definition),
            ],
        )
        .await?;
    Ok(())
}
