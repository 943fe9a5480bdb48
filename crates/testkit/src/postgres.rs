//! A real PostgreSQL server.

mod cluster;
mod install;
mod packaged;

use std::{env, net::SocketAddr, path::Path};

use tokio_postgres::{Client, Config};

pub(crate) use self::cluster::{cause, connect};
use self::{cluster::Cluster, install::Installation};
use crate::{
    env as names,
    error::{Context, Result, TestkitError},
    process::with_free_port,
    tls::Tls,
    uri::ConnectionString,
};

/// The superuser of every server that is started here; also the name of the database that is always there.
const SUPERUSER: &str = "postgres";

/// How a [`Postgres`] is to be started.
#[derive(Debug, Clone, Default)]
pub struct PostgresBuilder {
    pub(crate) version: Option<String>,
    pub(crate) tls: bool,
    pub(crate) parameters: Vec<(String, String)>,
}

impl PostgresBuilder {
    /// Starts a server of a major version, `13`, `14`, `16` or `17`, instead of the machine's own or the one that
    /// [`env::POSTGRES`](crate::env::POSTGRES) names.
    #[must_use]
    pub fn version(mut self, major: &str) -> Self {
        self.version = Some(major.to_owned());
        self
    }

    /// Requires TLS, with a certificate for 127.0.0.1 and localhost that [`Tls::ca_file`] verifies.
    #[must_use]
    pub fn with_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Sets a server parameter, such as `max_connections` to `5`. Three connections are always kept for the superuser.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the server, installing it first if need be, and waits until it answers.
    ///
    /// # Errors
    /// There is no PostgreSQL and it cannot be installed, or it does not answer in time.
    pub async fn start(self) -> Result<Postgres> {
        let installation = &match self.version.clone() {
            Some(major) => Installation::of_version(major).await?,
            None => Installation::find().await?,
        };
        let builder = &self;
        with_free_port(|port| async move {
            let cluster = Cluster::start(installation, builder, port).await?;
            Ok(Postgres { cluster })
        })
        .await
    }
}

/// A PostgreSQL server with empty databases, which asks everyone for a password (SCRAM). Dropping it kills it and removes
/// its data.
#[derive(Debug)]
pub struct Postgres {
    cluster: Cluster,
}

impl Postgres {
    /// Starts a server of its own, without TLS.
    ///
    /// # Errors
    /// As [`PostgresBuilder::start`].
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// A server with other options.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::default()
    }

    /// The server of `testkit run --postgres`, or one of its own outside of it.
    ///
    /// # Errors
    /// As [`PostgresBuilder::start`].
    pub async fn shared() -> Result<SharedPostgres> {
        match env::var(names::POSTGRES_URI) {
            Ok(uri) => Ok(SharedPostgres { uri, own: None }),
            Err(_) => Self::start().await.map(SharedPostgres::from),
        }
    }

    /// Connection string of the superuser and the database `postgres`.
    pub fn uri(&self) -> String {
        self.uri_for(SUPERUSER)
    }

    /// Connection string of the superuser that names a database.
    pub fn uri_for(&self, database: &str) -> String {
        self.uri_through(self.address(), database)
    }

    /// Connection string of another user.
    pub fn uri_as(&self, user: &str, password: &str, database: &str) -> String {
        self.uri_with((user, password), self.address(), database)
    }

    /// Connection string of the superuser through `address`, where something such as a
    /// [`FaultProxy`](crate::FaultProxy) forwards to this server.
    pub fn uri_through(&self, address: SocketAddr, database: &str) -> String {
        self.uri_with((SUPERUSER, self.cluster.password()), address, database)
    }

    fn uri_with(
        &self,
        (user, password): (&str, &str),
        address: SocketAddr,
        database: &str,
    ) -> String {
        let tls = self
            .tls()
            .map(|tls| {
                let ca = tls.ca_file().display();
                format!("?sslmode=verify-full&sslrootcert={ca}")
            })
            .unwrap_or_default();
        format!("postgresql://{user}:{password}@{address}/{database}{tls}")
    }

    /// A client of the superuser. It comes over the server's socket, so that neither TLS nor a fault of the network
    /// concerns it, and has a connection when others have used up theirs.
    ///
    /// # Errors
    /// The server is down, or has no such database.
    pub async fn client(&self, database: &str) -> Result<Client> {
        connect(&self.cluster.config(database)).await
    }

    /// Creates an empty database of UTF-8, sorted by code points.
    ///
    /// # Errors
    /// There is one of that name.
    pub async fn create_database(&self, name: &str) -> Result<()> {
        create_database(&self.cluster.config(SUPERUSER), name).await
    }

    /// Removes a database, also while clients use it.
    ///
    /// # Errors
    /// There is none of that name.
    pub async fn drop_database(&self, name: &str) -> Result<()> {
        drop_database(&self.cluster.config(SUPERUSER), name).await
    }

    /// Creates a user who may log in and owns nothing.
    ///
    /// # Errors
    /// The server refuses the user.
    pub async fn create_user(&self, user: &str, password: &str) -> Result<()> {
        let statement = format!(
            "CREATE ROLE {} LOGIN PASSWORD '{}'",
            quoted(user),
            password.replace('\'', "''")
        );
        execute(&self.cluster.config(SUPERUSER), &statement)
            .await
            .context(|| format!("cannot create the user {user}"))
    }

    /// Makes the disk full as far as clients can tell: from now on no table or index becomes longer than `bytes`, and a
    /// statement that would make it so fails as on a full disk (SQLSTATE 53100, `disk_full`). Connections that are open
    /// are concerned as well; what is in the tables stays readable. Without rights over file systems, this is a limit of
    /// the processes, which PostgreSQL takes for a full disk; from version 16 on it has an error of its own (XX000, with
    /// the same hint) where `COPY` makes room for many rows at once.
    ///
    /// The server's own catalogs and log of changes need up to 2 MB a file.
    ///
    /// # Errors
    /// `bytes` are less than that, or the server is down.
    pub async fn fill_disk(&self, bytes: u64) -> Result<()> {
        /// A table grows by such blocks. Half of one still fits, which is how a disk gets full.
        const BLOCK: u64 = 8_192;
        if bytes < 2 << 20 {
            return Err(TestkitError::new(
                "a server needs files of 2 MB: give the disk at least so much room",
            ));
        }
        let limit = bytes - bytes % BLOCK + BLOCK / 2;
        self.cluster.limit_file_size(&limit.to_string()).await
    }

    /// Ends [`Postgres::fill_disk`], as a restart does.
    ///
    /// # Errors
    /// The server is down.
    pub async fn free_disk(&self) -> Result<()> {
        self.cluster.limit_file_size("unlimited").await
    }

    /// Certificates, if the server was started with TLS.
    pub fn tls(&self) -> Option<&Tls> {
        self.cluster.tls()
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.cluster.address()
    }

    /// The data directory.
    pub fn data_directory(&self) -> &Path {
        self.cluster.data_directory()
    }

    /// Process id, unless the server has been stopped or killed.
    pub fn pid(&self) -> Option<u32> {
        self.cluster.pid()
    }

    /// Shuts the server down as an administrator does: clients are told (SQLSTATE 57P01), and what they have not
    /// committed is rolled back. The data stays for [`Postgres::restart`].
    pub fn stop(&mut self) {
        self.cluster.stop();
    }

    /// Ends all the server's processes at once, as in a crash. The data stays for [`Postgres::restart`], which recovers
    /// it from the log.
    pub fn kill(&mut self) {
        self.cluster.kill();
    }

    /// Starts the server again on the same port and data, and waits until it answers. Kills it first if it runs.
    ///
    /// # Errors
    /// The server does not answer in time.
    pub async fn restart(&mut self) -> Result<()> {
        self.cluster.restart().await
    }
}

/// A server that other tests use as well: keep to databases with a [`unique_name`](crate::unique_name), and drop them.
#[derive(Debug)]
pub struct SharedPostgres {
    uri: String,
    own: Option<Postgres>,
}

impl From<Postgres> for SharedPostgres {
    /// A server of its own, for what is written for one that is shared.
    fn from(own: Postgres) -> Self {
        Self {
            uri: own.uri(),
            own: Some(own),
        }
    }
}

impl SharedPostgres {
    /// Connection string of a superuser.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Connection string of a superuser that names a database.
    pub fn uri_for(&self, database: &str) -> String {
        with_database(&self.uri, database)
    }

    /// A client of the superuser, without TLS.
    ///
    /// # Errors
    /// The server is away, or has no such database.
    pub async fn client(&self, database: &str) -> Result<Client> {
        connect(&parse(&self.uri_for(database))?).await
    }

    /// Creates an empty database of UTF-8, sorted by code points.
    ///
    /// # Errors
    /// There is one of that name.
    pub async fn create_database(&self, name: &str) -> Result<()> {
        create_database(&parse(&self.uri)?, name).await
    }

    /// Removes a database, also while clients use it.
    ///
    /// # Errors
    /// There is none of that name.
    pub async fn drop_database(&self, name: &str) -> Result<()> {
        drop_database(&parse(&self.uri)?, name).await
    }

    /// Process id, if this is not the server of `testkit run`.
    pub fn pid(&self) -> Option<u32> {
        self.own.as_ref().and_then(Postgres::pid)
    }
}

fn parse(uri: &str) -> Result<Config> {
    // What is wrong with it; the string itself, which holds a password, is not shown.
    uri.parse()
        .map_err(cause)
        .context(|| "not a connection string of PostgreSQL".to_owned())
}

async fn create_database(config: &Config, name: &str) -> Result<()> {
    let name = quoted(name);
    let statement = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'");
    execute(config, &statement)
        .await
        .context(|| format!("cannot create the database {name}"))
}

async fn drop_database(config: &Config, name: &str) -> Result<()> {
    let name = quoted(name);
    execute(config, &format!("DROP DATABASE {name} WITH (FORCE)"))
        .await
        .context(|| format!("cannot drop the database {name}"))
}

async fn execute(config: &Config, statement: &str) -> Result<()> {
    let client = connect(config).await?;
    client
        .batch_execute(statement)
        .await
        .map_err(cause)
        .context(|| "the server refuses".to_owned())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Replaces the database in a connection string.
fn with_database(uri: &str, database: &str) -> String {
    let parts = ConnectionString::split(uri);
    ConnectionString { database, ..parts }.join()
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn a_database_is_put_into_any_connection_string() {
        for (uri, expected) in [
            ("postgres://h:1", "postgres://h:1/db"),
            ("postgresql://u:p@a,b/old", "postgresql://u:p@a,b/db"),
            (
                "postgresql://u:p@h/old?sslmode=require",
                "postgresql://u:p@h/db?sslmode=require",
            ),
        ] {
            assert_eq!(with_database(uri, "db"), expected);
        }
    }
}
