//! Redshift: rows are staged as Parquet files in S3, from where it copies them; changes are merged
//! by a delete and an insert.
//!
//! Its keys are not enforced, and its conflicts are told by tables: what keeps two processes from
//! loading one table twice is the lock of that table, under which the ledger is read.

mod ledger;
mod rows;
mod staged;
mod types;

use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::{Client, GenericClient, Transaction};
use tributary_flow::Applied;
use tributary_model::schema::RESCUED_COLUMN;
use tributary_model::{Error, ErrorKind, Result};

use crate::client::{Pool, Server};
use crate::columns::{Column, KEY, Plan, key_of};
use crate::dialect::{Dialect, Incoming, NewTable, SqlType, Work};
use crate::layout::{Distribution, TableLayout};
use crate::ledger::Entry;
use crate::names::{NameRules, TableName, quoted};
use crate::sink::RedshiftOptions;

use staged::Staged;
use types::RsType;

/// The table that rows are copied into, for the time of a transaction.
const STAGE: &str = "\"tributary_stage\"";
/// Its column that says that the row of a key is gone.
const GONE: &str = "tributary_gone";
/// The most bytes of JSON that are parsed into one value.
const MAX_JSON: usize = 1 << 20;
/// Staged files that are older than this were left behind by a process that was killed: none takes
/// so long.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Redshift, and how it gets at files.
pub(crate) struct Redshift {
    /// None where no rows are loaded.
    options: Option<RedshiftOptions>,
}

impl Redshift {
    pub(crate) fn new(options: RedshiftOptions) -> Result<Self> {
        if let Some(role) = &options.role {
            let is_role = role == "default" || role.starts_with("arn:");
            if !is_role || role.contains(['\'', '\\']) {
                return Err(Error::new(ErrorKind::Usage, "not the name of a role")
                    .on("role", role)
                    .remedy("give its ARN, arn:aws:iam::ACCOUNT:role/NAME, or `default`"));
            }
        }
        let options = Some(options);
        Ok(Self { options })
    }

    /// One whose tables are only looked at.
    pub(crate) fn reading() -> Self {
        Self { options: None }
    }

    fn options(&self) -> Result<&RedshiftOptions> {
        self.options
            .as_ref()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "there is no place to stage rows"))
    }

    /// What a copy says of how the files are read.
    async fn access(&self) -> Result<String> {
        let options = self.options()?;
        Ok(match options.role.as_deref() {
            Some("default") => "IAM_ROLE default".to_owned(),
            Some(role) => format!("IAM_ROLE '{role}'"),
            None => {
                let keys = options.stage.keys().await?;
                let token = match keys.token {
                    Some(token) => format!(" SESSION_TOKEN {}", literal(&token)),
                    None => String::new(),
                };
                format!(
                    "ACCESS_KEY_ID {} SECRET_ACCESS_KEY {}{token}",
                    literal(&keys.id),
                    literal(&keys.secret)
                )
            }
        })
    }

    /// Copies staged rows into a table of the session.
    async fn copy(
        &self,
        work: &Work<'_, RsType>,
        transaction: &Transaction<'_>,
        ready: &Staged,
    ) -> Result<()> {
        let columns = ready.columns.iter().map(|staged| {
            // It may have grown since it was planned.
            let column = work
                .columns
                .iter()
                .find(|column| column.name == staged.name);
            let sql_type = column.map_or(staged.sql_type, |column| column.sql_type);
            format!("{} {}", quoted(&staged.name), sql_type.staged())
        });
        let mut columns: Vec<String> = columns.collect();
        columns.push(format!("{} super", quoted(RESCUED_COLUMN)));
        columns.push(format!("{} boolean", quoted(GONE)));
        let create = format!("CREATE TEMPORARY TABLE {STAGE} ({})", columns.join(", "));
        work.execute(transaction, &create, "cannot stage rows")
            .await?;
        let from = format!("{}/{}/", self.options()?.stage.address(), ready.directory());
        let copy = format!(
            "COPY {STAGE} FROM {} {} FORMAT AS PARQUET SERIALIZETOJSON",
            literal(&from),
            self.access().await?
        );
        work.execute(transaction, &copy, "cannot copy the staged files")
            .await
            .map_err(|error| error.on("files", from))
    }

    /// Inserts the rows that have been copied.
    async fn insert(
        &self,
        work: &Work<'_, RsType>,
        transaction: &Transaction<'_>,
        ready: &Staged,
    ) -> Result<()> {
        let mut names = Vec::new();
        let mut values = Vec::new();
        for column in &ready.columns {
            let name = quoted(&column.name);
            values.push(match column.sql_type {
                RsType::Timestamp => format!("{name} AT TIME ZONE 'UTC'"),
                RsType::Super => format!("JSON_PARSE({name})"),
                _ => name.clone(),
            });
            names.push(name);
        }
        names.push(quoted(RESCUED_COLUMN));
        values.push(quoted(RESCUED_COLUMN));
        let insert = format!(
            "INSERT INTO {} ({}) SELECT {} FROM {STAGE} WHERE NOT {}",
            work.name,
            names.join(", "),
            values.join(", "),
            quoted(GONE)
        );
        work.execute(transaction, &insert, "cannot insert the rows")
            .await?;
        let drop = format!("DROP TABLE {STAGE}");
        work.execute(transaction, &drop, "cannot drop the stage")
            .await
    }
}

#[async_trait]
impl Dialect for Redshift {
    type Type = RsType;
    type Ready = Staged;

    const SERVER: Server = Server::Redshift;
    const NAMES: NameRules = NameRules {
        max_bytes: 127,
        folds_case: true,
        system_columns: &[
            "cmax",
            "cmin",
            "ctid",
            "deletexid",
            "insertxid",
            "oid",
            "tableoid",
            "xmax",
            "xmin",
        ],
    };
    /// A table has at most 1,600, and a stage one more.
    const MAX_COLUMNS: usize = 1_590;

    async fn create_ledger(&self, pool: &Pool) -> Result<()> {
        self.options()?.stage.remove(staged::OWN, ABANDONED).await?;
        let client = pool.get().await?;
        let made = ledger::create(&client).await;
        made.map_err(|error| pool.failed("cannot make the ledger", error))?;
        pool.put(client);
        Ok(())
    }

    async fn create_schema(&self, pool: &Pool, schema: &str) -> Result<()> {
        let client = pool.get().await?;
        let failed = |error| {
            let failed = pool.failed("cannot create the schema", error);
            failed.on("schema", quoted(schema))
        };
        let there = format!(
            "SELECT table_name FROM svv_columns WHERE table_schema = {} LIMIT 1",
            literal(schema)
        );
        // Where there is a table, there is a schema, for which no right is needed then.
        if ledger::rows(&client, &there)
            .await
            .map_err(failed)?
            .is_empty()
        {
            let create = format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(schema));
            client.batch_execute(&create).await.map_err(failed)?;
        }
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
    ) -> Result<Option<Entry<RsType>>, tokio_postgres::Error> {
        ledger::read(client, name).await
    }

    async fn locked_entry(
        &self,
        pool: &Pool,
        transaction: &Transaction<'_>,
        name: &TableName,
    ) -> Result<Option<Entry<RsType>>> {
        let locked = transaction.batch_execute(&format!("LOCK {name}")).await;
        locked.map_err(|error| {
            pool.failed("cannot lock the table", error)
                .on("table", name)
        })?;
        self.entry(pool, name).await
    }

    async fn write_entry(
        &self,
        transaction: &Transaction<'_>,
        name: &TableName,
        entry: &Entry<RsType>,
    ) -> Result<(), tokio_postgres::Error> {
        ledger::write(transaction, name, entry).await
    }

    async fn columns_there<C: GenericClient + Sync>(
        &self,
        client: &C,
        name: &TableName,
    ) -> Result<Vec<(String, String)>, tokio_postgres::Error> {
        let columns = format!(
            "SELECT column_name, data_type, character_maximum_length, numeric_precision, \
             numeric_scale FROM svv_columns WHERE table_schema = {} AND table_name = {} \
             ORDER BY ordinal_position",
            literal(&name.schema),
            literal(&name.name)
        );
        let rows = ledger::rows(client, &columns).await?;
        let columns = rows.iter().map(|row| {
            let [name, kind, length, precision, scale] =
                [0, 1, 2, 3, 4].map(|column| ledger::text(row, column));
            let told = match kind.as_str() {
                "numeric" => format!("{kind}({precision},{scale})"),
                "character" | "character varying" | "binary varying" if !length.is_empty() => {
                    format!("{kind}({length})")
                }
                _ => kind,
            };
            (name, told)
        });
        Ok(columns.collect())
    }

    fn create_table(&self, table: &NewTable<'_, RsType>) -> Result<Vec<String>> {
        let laid_out = LaidOut::of(table.columns, table.layout)
            .map_err(|error| error.on("table", table.name))?;
        let mut parts: Vec<String> = table
            .columns
            .iter()
            .map(|column| {
                let is_key = laid_out.primary.contains(&column.name);
                declared(column, laid_out.sorted.contains(&column.name), is_key)
            })
            .collect();
        parts.push(declared(&Column::rescued(), false, false));
        if !laid_out.primary.is_empty() {
            parts.push(format!("PRIMARY KEY ({})", list(&laid_out.primary)));
        }
        let sorted = match laid_out.sorted.is_empty() {
            true => String::new(),
            false => format!(" COMPOUND SORTKEY ({})", list(&laid_out.sorted)),
        };
        let comment = table.comment.replace('\\', "/").replace('\'', "''");
        Ok(vec![
            format!(
                "CREATE TABLE {} ({}) {}{sorted}",
                table.name,
                parts.join(", "),
                laid_out.distributed
            ),
            format!("COMMENT ON TABLE {} IS '{comment}'", table.name),
        ])
    }

    /// One action a statement, and a column of another type in the place of the old one: Redshift
    /// changes no types.
    fn alter_table(
        &self,
        table: &TableName,
        plan: &Plan<RsType>,
        layout: &TableLayout,
    ) -> Option<Vec<String>> {
        let swapped = plan.cast.iter().chain(&plan.replaced);
        let mut fixed = vec![KEY];
        fixed.extend(layout.sort_key.iter().flatten().map(String::as_str));
        fixed.extend(layout.primary_key.iter().flatten().map(String::as_str));
        if let Distribution::Key(field) = &layout.distribution {
            fixed.push(field);
        }
        // Neither can a column of these be put in the place of another, nor become one of these.
        if swapped
            .chain(&plan.added)
            .any(|column| fixed.contains(&column.field.as_str()))
        {
            return None;
        }
        let mut statements: Vec<String> = plan
            .added
            .iter()
            .map(|column| {
                format!(
                    "ALTER TABLE {table} ADD COLUMN {}",
                    declared(column, false, false)
                )
            })
            .collect();
        let cast = plan.cast.iter().map(|column| (column, true));
        let replaced = plan.replaced.iter().map(|column| (column, false));
        for (column, keeps) in cast.chain(replaced) {
            let new = Column {
                name: Self::NAMES.shortened(&format!("{}_tributary_new", column.name)),
                ..column.clone()
            };
            let (old, name) = (quoted(&column.name), quoted(&new.name));
            statements.push(format!(
                "ALTER TABLE {table} ADD COLUMN {}",
                declared(&new, false, false)
            ));
            if keeps {
                let value = match column.sql_type {
                    // Of numbers, the only ones that become part of that.
                    RsType::Super => format!("JSON_PARSE(CAST({old} AS varchar))"),
                    // It has only become larger.
                    RsType::Varchar(_) | RsType::Varbyte(_) => old.clone(),
                    to => format!("CAST({old} AS {})", to.name()),
                };
                statements.push(format!("UPDATE {table} SET {name} = {value}"));
            }
            statements.push(format!("ALTER TABLE {table} DROP COLUMN {old}"));
            statements.push(format!("ALTER TABLE {table} RENAME COLUMN {name} TO {old}"));
        }
        Some(statements)
    }

    /// They are part of how a table is made, and enforced by nobody.
    async fn add_keys(
        &self,
        _work: &Work<'_, RsType>,
        _transaction: &Transaction<'_>,
        _layout: &TableLayout,
    ) -> Result<()> {
        Ok(())
    }

    async fn ready(&self, work: &Work<'_, RsType>, rows: Incoming) -> Result<Staged> {
        Staged::write(&self.options()?.stage, work, rows).await
    }

    fn grown(&self, ready: &Staged, columns: &[Column<RsType>]) -> Vec<Column<RsType>> {
        let grown = columns.iter().filter_map(|column| {
            let width = ready.widths.get(&column.field).copied().unwrap_or(0);
            let sql_type = column.sql_type.with_room_for(width);
            (sql_type != column.sql_type).then(|| Column {
                sql_type,
                ..column.clone()
            })
        });
        grown.collect()
    }

    /// Text gets larger in place, which Redshift does outside of transactions only.
    async fn grow(
        &self,
        work: &Work<'_, RsType>,
        grown: Vec<Column<RsType>>,
    ) -> Result<Vec<Column<RsType>>> {
        let client = work.pool.get().await?;
        let there = self.columns_there(&client, work.name).await;
        let there = there.map_err(|error| work.failed("cannot read the table's columns", error))?;
        let mut others = Vec::new();
        for column in grown {
            let found = there.iter().find(|(name, _)| *name == column.name);
            if found.is_some_and(|(_, found)| column.sql_type.is_as_left(found)) {
                continue;
            }
            if column.field == KEY || !matches!(column.sql_type, RsType::Varchar(_)) {
                others.push(column);
                continue;
            }
            let alter = format!(
                "ALTER TABLE {} ALTER COLUMN {} TYPE {}",
                work.name,
                quoted(&column.name),
                column.sql_type.name()
            );
            match client.batch_execute(&alter).await {
                Ok(()) => {}
                // What somebody has compressed in another way, or made part of a key.
                Err(error) if error.as_db_error().is_some() => others.push(column),
                Err(error) => return Err(work.failed("cannot make a column larger", error)),
            }
        }
        work.pool.put(client);
        Ok(others)
    }

    async fn append(
        &self,
        work: &Work<'_, RsType>,
        transaction: &Transaction<'_>,
        ready: &mut Staged,
        _is_new: bool,
    ) -> Result<Applied> {
        if !ready.is_empty() {
            self.copy(work, transaction, ready).await?;
            self.insert(work, transaction, ready).await?;
        }
        Ok(ready.applied)
    }

    async fn merge(
        &self,
        work: &Work<'_, RsType>,
        transaction: &Transaction<'_>,
        ready: &mut Staged,
        _layout: &TableLayout,
    ) -> Result<Applied> {
        // What has no key is no row here: nothing of it can be gone, and nothing comes.
        if let Some(key) = key_of(work.columns)
            && !ready.is_empty()
        {
            self.copy(work, transaction, ready).await?;
            let (table, key) = (work.name, quoted(&key.name));
            let delete =
                format!("DELETE FROM {table} USING {STAGE} WHERE {table}.{key} = {STAGE}.{key}");
            work.execute(transaction, &delete, "cannot replace the rows")
                .await?;
            self.insert(work, transaction, ready).await?;
        }
        Ok(ready.applied)
    }

    async fn discard(&self, ready: Staged) {
        ready.remove().await;
    }

    async fn tidy(&self, pool: &Pool, name: &TableName, sequence: u64) {
        // What cannot be done now is done another time.
        if let Ok(client) = pool.get().await {
            ledger::tidy(&client, name, sequence).await;
            pool.put(client);
        }
    }
}

/// How a table's columns are laid out: their names.
struct LaidOut {
    distributed: String,
    sorted: Vec<String>,
    primary: Vec<String>,
}

impl LaidOut {
    fn of(columns: &[Column<RsType>], layout: &TableLayout) -> Result<Self> {
        let key = key_of(columns);
        let Some(key) = key else {
            // Nothing is known of its documents yet.
            return Ok(Self {
                distributed: "DISTSTYLE AUTO".to_owned(),
                sorted: Vec::new(),
                primary: Vec::new(),
            });
        };
        let named = |option: &'static str, field: &String| -> Result<String> {
            let column = columns.iter().find(|column| column.field == *field);
            let wrong = |message| {
                Error::new(ErrorKind::Usage, message)
                    .on("option", option)
                    .on("field", field)
                    .remedy("name another field, or leave the option out")
            };
            match column {
                None => Err(wrong("the table has no column for the field")),
                Some(column) if !column.sql_type.orders() => Err(wrong(
                    "a column of that type can neither be a key nor sorted by",
                )),
                Some(column) => Ok(column.name.clone()),
            }
        };
        let by_key = key.sql_type.orders().then(|| key.name.clone());
        let distributed = match &layout.distribution {
            Distribution::Auto => "DISTSTYLE AUTO".to_owned(),
            Distribution::Even => "DISTSTYLE EVEN".to_owned(),
            Distribution::All => "DISTSTYLE ALL".to_owned(),
            Distribution::Key(field) => by(&named("--distribution", field)?),
            Distribution::Id => match &by_key {
                Some(name) => by(name),
                None => "DISTSTYLE AUTO".to_owned(),
            },
        };
        let all = |option, fields: &[String]| -> Result<Vec<String>> {
            fields.iter().map(|field| named(option, field)).collect()
        };
        let sorted = match &layout.sort_key {
            Some(fields) => all("--sort-key", fields)?,
            None => by_key.into_iter().collect(),
        };
        let primary = match &layout.primary_key {
            Some(fields) => all("--primary-key", fields)?,
            None => vec![key.name.clone()],
        };
        Ok(Self {
            distributed,
            sorted,
            primary,
        })
    }
}

fn by(column: &str) -> String {
    format!("DISTSTYLE KEY DISTKEY ({})", quoted(column))
}

fn list(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    names.join(", ")
}

/// A column as it is declared in a table that stays.
fn declared(column: &Column<RsType>, is_sorted: bool, is_key: bool) -> String {
    let not_null = if is_key { " NOT NULL" } else { "" };
    format!(
        "{}{not_null} ENCODE {}",
        column.declared(),
        column.sql_type.encoding(is_sorted)
    )
}

/// A text as it stands in a statement, whatever a backslash means to the server.
fn literal(text: &str) -> String {
    let pieces: Vec<String> = text
        .split('\\')
        .map(|piece| format!("'{}'", piece.replace('\'', "''")))
        .collect();
    pieces.join(" || chr(92) || ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backslashes_say_themselves() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\b"), r"'a' || chr(92) || 'b'");
    }
}
