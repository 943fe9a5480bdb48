//! Connections to one server that speaks PostgreSQL's protocol: as many as work at once, used again.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_postgres::{CancelToken, Client, Config, Transaction};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::AbortOnDropHandle;
use tributary_model::{Error, ErrorKind, Result};
use url::Url;

use crate::error;
use crate::tls::Tls;

/// How long a connection to one address of a server is waited for, unless the address says `connect_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How many times that a host gets until it has greeted: its name may have several addresses.
const TO_GREET: u32 = 2;

/// Which server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// PostgreSQL.
    Postgres,
    /// Amazon Redshift.
    Redshift,
}

impl Server {
    /// The server of an address, by its scheme; none where that is no warehouse's.
    #[must_use]
    pub fn of(address: &str) -> Option<Self> {
        match address.split_once("://")?.0 {
            "postgres" | "postgresql" => Some(Self::Postgres),
            "redshift" => Some(Self::Redshift),
            _ => None,
        }
    }

    /// The scheme of its addresses.
    pub(crate) fn scheme(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redshift => "redshift",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Redshift => "Redshift",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Postgres => 5432,
            Self::Redshift => 5439,
        }
    }

    /// What is said first on every connection.
    fn greeting(self) -> Option<&'static str> {
        match self {
            // How long a lock that another session holds is waited for.
            Self::Postgres => {
                Some("SET lock_timeout = '30s'; SET idle_in_transaction_session_timeout = '10min'")
            }
            // It waits for locks as long as its own settings say, and knows neither of these.
            Self::Redshift => None,
        }
    }
}

/// The connections to one database.
pub(crate) struct Pool {
    server: Server,
    config: Config,
    tls: MakeRustlsConnect,
    /// Its address without credentials.
    place: String,
    /// How long it is waited until a connection can be used.
    patience: Duration,
    idle: Mutex<Vec<Client>>,
}

impl Pool {
    /// Connections to the database of an address such as `postgres://user:password@host/database`.
    pub(crate) fn new(server: Server, address: &str) -> Result<Self> {
        let scheme = server.scheme();
        let wrong = |why: String| {
            Error::new(
                ErrorKind::Usage,
                format!("not an address of {}", server.name()),
            )
            .because(why)
            .remedy(format!(
                "write it as {scheme}://user:password@host:{}/database",
                server.port()
            ))
        };
        // The client's library knows the one scheme only.
        let known = match address.split_once("://") {
            Some((_, rest)) if server == Server::Redshift => format!("postgres://{rest}"),
            _ => address.to_owned(),
        };
        let mut url = Url::parse(&known).map_err(|error| wrong(error.to_string()))?;
        let tls = Tls::take(&mut url)?;
        if url.port().is_none() {
            // Where there is no host either, that is told below.
            let _ = url.set_port(Some(server.port()));
        }
        let mut config: Config = url
            .as_str()
            .parse()
            .map_err(|error: tokio_postgres::Error| wrong(error.to_string()))?;
        let database = match config.get_dbname() {
            Some(name) => name.to_owned(),
            None => return Err(wrong("it names no database".to_owned())),
        };
        let host = match config.get_hosts().first() {
            Some(tokio_postgres::config::Host::Tcp(host)) => host.clone(),
            Some(tokio_postgres::config::Host::Unix(path)) => path.display().to_string(),
            None => return Err(wrong("it names no host".to_owned())),
        };
        let port = config.get_ports().first().copied();
        let port = port.unwrap_or_else(|| server.port());
        let timeout = config.get_connect_timeout().copied();
        let timeout = timeout.unwrap_or(CONNECT_TIMEOUT);
        let hosts = u32::try_from(config.get_hosts().len()).unwrap_or(1);
        config
            .ssl_mode(tls.mode)
            .application_name("tributary")
            .connect_timeout(timeout)
            .keepalives_idle(Duration::from_secs(30));
        Ok(Self {
            server,
            config,
            tls: tls.connector()?,
            place: format!("{scheme}://{host}:{port}/{database}"),
            patience: timeout.saturating_mul(TO_GREET.saturating_mul(hosts)),
            idle: Mutex::default(),
        })
    }

    /// The address without credentials.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    pub(crate) fn failed(&self, what: &str, error: tokio_postgres::Error) -> Error {
        error::failed(what, self.server, &self.place, error)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Client>> {
        // Nothing that can panic runs while it is held.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection. One on which nothing has failed is given back.
    pub(crate) async fn get(&self) -> Result<Client> {
        while let Some(client) = self.next_idle() {
            // Behind one that has gone silent there may be another server by now.
            let answers = self.in_time(client.check_connection()).await;
            if matches!(answers, Ok(Ok(()))) {
                return Ok(client);
            }
        }
        let (client, running) = self.greeted(self.server.greeting()).await?;
        // It ends with its client.
        drop(running.detach());
        Ok(client)
    }

    fn next_idle(&self) -> Option<Client> {
        std::iter::from_fn(|| self.idle().pop()).find(|client| !client.is_closed())
    }

    /// A connection beside those that are used again, for sessions of another sort. It ends, whatever
    /// the server is doing, when the handle is dropped.
    pub(crate) async fn connect_alone(
        &self,
        session: &str,
    ) -> Result<(Client, AbortOnDropHandle<()>)> {
        self.greeted(Some(session)).await
    }

    /// A new connection, on which something has been said first.
    async fn greeted(&self, greeting: Option<&str>) -> Result<(Client, AbortOnDropHandle<()>)> {
        let connect = async {
            let (client, connection) = self.config.connect(self.tls.clone()).await?;
            // What ends it is seen by the statement that it carries.
            let running = AbortOnDropHandle::new(tokio::spawn(async {
                let _ = connection.await;
            }));
            if let Some(greeting) = greeting {
                client.batch_execute(greeting).await?;
            }
            Ok((client, running))
        };
        let connected = self.in_time(connect).await?;
        connected.map_err(|error| self.failed("cannot connect", error))
    }

    /// What the server answers at once, if it answers at all.
    async fn in_time<T>(&self, asked: impl Future<Output = T>) -> Result<T> {
        let answered = tokio::time::timeout(self.patience, asked).await;
        answered.map_err(|_| {
            Error::new(ErrorKind::Unreachable, "the server does not answer")
                .on("server", &self.place)
                .because(format!("it was waited for {:?}", self.patience))
        })
    }

    /// Asks the server to cancel what it does on a connection.
    pub(crate) async fn cancel(&self, token: CancelToken) -> Result<()> {
        let cancelled = self.in_time(token.cancel_query(self.tls.clone())).await?;
        cancelled.map_err(|error| self.failed("cannot cancel a statement", error))
    }

    /// Gives a connection back.
    pub(crate) fn put(&self, client: Client) {
        self.idle().push(client);
    }

    /// A transaction, which is rolled back when it is dropped.
    pub(crate) async fn begin<'c>(&self, client: &'c mut Client) -> Result<Transaction<'c>> {
        let begun = client.transaction().await;
        begun.map_err(|error| self.failed("cannot begin a transaction", error))
    }
}
