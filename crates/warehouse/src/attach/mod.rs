//! PostgreSQL and Redshift as databases that a query reads beside the lake.
//!
//! Both are asked by the same statements and make the same columns of the same types. They differ in
//! what a session begins with, in how they describe their tables, and in how rows come: PostgreSQL
//! copies them out in binary; Redshift, which cannot, answers a plain query with texts.

mod batch;
mod binary;
mod catalog;
mod column;
mod error;
mod rows;
mod statement;
mod text;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use tokio_postgres::{Client, SimpleQueryMessage};
use tokio_util::task::AbortOnDropHandle;
use tributary_flow::{
    AttachedDatabase, AttachedName, AttachedTable, Filter, FilterSupport, RowStream, Scan,
};
use tributary_model::{Error, ErrorKind, Result};

use crate::client::{Pool, Server};
use column::Column;
use statement::Statement;

/// What a session begins with. Texts of dates and numbers are the same on every server, and nothing
/// can be written: to Redshift, each transaction says so itself.
fn greeting(server: Server) -> &'static str {
    match server {
        Server::Postgres => {
            "SET default_transaction_read_only = on; SET lock_timeout = '30s'; \
             SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; \
             SET extra_float_digits = 1; SET bytea_output = 'hex'"
        }
        Server::Redshift => {
            "SET datestyle TO ISO; SET timezone TO 'UTC'; SET extra_float_digits TO 2"
        }
    }
}

/// A PostgreSQL or Redshift database that queries read.
pub struct AttachedServer {
    database: Arc<Database>,
}

impl fmt::Debug for AttachedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AttachedServer")
            .field(&self.database.pool.place())
            .finish()
    }
}

impl AttachedServer {
    /// The database of an address, `postgres://user:password@host:port/database` or
    /// `redshift://…`. It is connected to when something is asked of it.
    ///
    /// # Errors
    /// The address is none.
    pub fn new(address: &str) -> Result<Self> {
        let server = Server::of(address).ok_or_else(|| {
            // Not a word of it is repeated, for it may have a password.
            Error::new(ErrorKind::Usage, "not an address that can be attached")
                .because("it is neither of PostgreSQL nor of Redshift")
                .remedy(
                    "write it as postgres://user:password@host:5432/database or \
                     redshift://user:password@host:5439/database",
                )
        })?;
        Ok(Self {
            database: Arc::new(Database {
                server,
                pool: Pool::new(server, address)?,
                idle: Mutex::default(),
            }),
        })
    }
}

#[async_trait]
impl AttachedDatabase for AttachedServer {
    fn place(&self) -> &str {
        self.database.pool.place()
    }

    async fn tables(&self) -> Result<Vec<AttachedName>> {
        let statement = catalog::tables(self.database.server);
        let rows = self.database.ask("cannot list the tables", &statement);
        Ok(rows.await?.into_iter().filter_map(catalog::name).collect())
    }

    async fn open(&self, name: &AttachedName) -> Result<Option<Arc<dyn AttachedTable>>> {
        let statement = catalog::columns(self.database.server, name);
        let asked = self.database.ask("cannot look the table up", &statement);
        let rows = asked.await.map_err(|error| error.on("table", name))?;
        let Some((estimated_rows, columns)) = catalog::described(rows) else {
            return Ok(None);
        };
        let fields: Vec<_> = columns.iter().map(Column::field).collect();
        Ok(Some(Arc::new(ServerTable {
            database: Arc::clone(&self.database),
            name: name.clone(),
            schema: Arc::new(Schema::new(fields)),
            columns,
            estimated_rows,
        })))
    }
}

/// A server, and sessions with it that are ready to read.
struct Database {
    server: Server,
    pool: Pool,
    idle: Mutex<Vec<Session>>,
}

/// A session, which ends when it is dropped.
struct Session {
    client: Client,
    _running: AbortOnDropHandle<()>,
}

impl Database {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        // Nothing that can panic runs while it is held.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn session(&self) -> Result<Session> {
        let idle = std::iter::from_fn(|| self.idle().pop());
        if let Some(session) = idle.into_iter().find(|open| !open.client.is_closed()) {
            return Ok(session);
        }
        let connected = self.pool.connect_alone(greeting(self.server)).await;
        let (client, running) = connected?;
        Ok(Session {
            client,
            _running: running,
        })
    }

    /// The rows of a short answer, as texts.
    async fn ask(&self, what: &str, statement: &str) -> Result<Vec<Vec<Option<String>>>> {
        let session = self.session().await?;
        let answered = session.client.simple_query(statement).await;
        let messages = answered.map_err(|error| self.failed(what, error))?;
        self.idle().push(session);
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|i| row.get(i).map(str::to_owned))
                    .collect(),
            ),
            _ => None,
        };
        Ok(messages.into_iter().filter_map(row).collect())
    }

    fn failed(&self, what: &str, error: tokio_postgres::Error) -> Error {
        error::failed(what, &self.pool, error)
    }
}

/// One table of a database.
struct ServerTable {
    database: Arc<Database>,
    name: AttachedName,
    schema: SchemaRef,
    columns: Vec<Column>,
    estimated_rows: Option<u64>,
}

impl fmt::Debug for ServerTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTable")
            .field("server", &self.database.pool.place())
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl ServerTable {
    fn statements(&self) -> Statement<'_> {
        Statement {
            server: self.database.server,
            name: &self.name,
            columns: &self.columns,
        }
    }
}

#[async_trait]
impl AttachedTable for ServerTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn estimated_rows(&self) -> Option<u64> {
        self.estimated_rows
    }

    fn support(&self, filter: &Filter) -> FilterSupport {
        self.statements().support(filter)
    }

    fn statement(&self, scan: &Scan) -> String {
        self.statements().select(scan)
    }

    async fn scan(&self, scan: &Scan) -> Result<RowStream> {
        let statement = self.statements().select(scan);
        let columns = scan.columns.iter().map(|&i| self.columns[i].clone());
        rows::read(
            Arc::clone(&self.database),
            self.name.clone(),
            Arc::new(self.schema.project(&scan.columns).map_err(|error| {
                Error::new(ErrorKind::Internal, "no such columns").because(error)
            })?),
            columns.collect(),
            &statement,
        )
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_credentials() {
        for (address, place) in [
            (
                "postgres://u:secret@h:1/d?sslmode=disable",
                "postgres://h:1/d",
            ),
            ("postgresql://u:secret@h/d", "postgres://h:5432/d"),
            ("redshift://u:secret@h/d", "redshift://h:5439/d"),
            (
                "redshift://u:secret@h:1/d?sslmode=require",
                "redshift://h:1/d",
            ),
        ] {
            let server = AttachedServer::new(address).expect("an address");
            assert_eq!(server.place(), place);
            assert!(!format!("{server:?}").contains("secret"));
        }
    }

    #[test]
    fn what_is_no_address_is_told_without_repeating_it() {
        for address in [
            "secret",
            "mysql://u:secret@h/d",
            "postgres://u:secret@h",
            "redshift://u:secret@h",
            "redshift:///d",
            "postgres://u:secret@h:port/d",
            "postgres://u:secret@h/d?sslmode=maybe",
            "postgres://u:secret@h/d?secrets=1&secret=2",
        ] {
            let error = AttachedServer::new(address).expect_err(address);
            assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
            let told = error.to_string();
            assert!(!told.contains("u:") && !told.contains("@h:p"), "{told}");
        }
    }
}
