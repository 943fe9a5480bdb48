//! A stand-in for Amazon Redshift: its protocol and SQL in front of a real PostgreSQL.

mod alter_table;
mod backend;
mod changes;
mod columns;
mod copy;
mod create_table;
mod cursor;
mod definitions;
mod extended;
mod faults;
mod lexer;
mod loading;
mod names;
mod plan;
mod query;
mod refusal;
mod session;
mod settings;
mod startup;
mod transactions;
mod types;
mod wire;

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};
use tokio_postgres::{Client, Config, config::Host};

use self::{
    copy::{
        Authority,
        objects::{Grant, Storage},
    },
    faults::{Fault, Faults},
    names::{LongNames, literal},
    refusal::Refusal,
    transactions::Transactions,
    types::SCHEMA,
};
use crate::{
    error::{Context, Result, TestkitError},
    postgres::{cause, connect},
    process::loopback,
    uri::ConnectionString,
};

/// What the stand-in keeps in the database.
const CATALOG: &str = include_str!("redshift/catalog.sql");

/// How a [`Redshift`] is to be started.
#[derive(Debug, Clone, Default)]
pub struct RedshiftBuilder {
    uri: Option<String>,
    storage: Storage,
}

impl RedshiftBuilder {
    /// The database behind it, as a superuser of a PostgreSQL without TLS names it, such as
    /// [`SharedPostgres::uri_for`](crate::SharedPostgres::uri_for).
    #[must_use]
    pub fn postgres(mut self, uri: &str) -> Self {
        self.uri = Some(uri.to_owned());
        self
    }

    /// Where `COPY` finds the buckets of `s3://`, such as [`S3Server::endpoint`](crate::S3Server::endpoint).
    #[must_use]
    pub fn s3_endpoint(mut self, endpoint: &str) -> Self {
        self.storage.endpoint = Some(endpoint.to_owned());
        self
    }

    /// An IAM role that the cluster may assume, and the buckets that it may read.
    #[must_use]
    pub fn role(self, arn: &str, buckets: &[&str]) -> Self {
        self.grant(Authority::Role(arn.to_owned()), buckets)
    }

    /// The buckets that the cluster's default role may read; without this it has none.
    #[must_use]
    pub fn default_role(self, buckets: &[&str]) -> Self {
        self.grant(Authority::DefaultRole, buckets)
    }

    /// An access key and the buckets that its user may read.
    #[must_use]
    pub fn key(self, id: &str, secret: &str, buckets: &[&str]) -> Self {
        let key = Authority::Key {
            id: id.to_owned(),
            secret: secret.to_owned(),
            token: None,
        };
        self.grant(key, buckets)
    }

    /// An access key with a session token, and the buckets that its user may read.
    #[must_use]
    pub fn temporary_key(self, id: &str, secret: &str, token: &str, buckets: &[&str]) -> Self {
        let key = Authority::Key {
            id: id.to_owned(),
            secret: secret.to_owned(),
            token: Some(token.to_owned()),
        };
        self.grant(key, buckets)
    }

    fn grant(mut self, authority: Authority, buckets: &[&str]) -> Self {
        self.storage.grants.push(Grant {
            authority,
            buckets: buckets.iter().map(|bucket| (*bucket).to_owned()).collect(),
        });
        self
    }

    /// Prepares the database and listens.
    ///
    /// # Errors
    /// No database was given, or it cannot be reached or prepared.
    pub async fn start(self) -> Result<Redshift> {
        let uri = self.uri.ok_or_else(|| {
            TestkitError::new("the stand-in for Redshift needs a database of PostgreSQL")
        })?;
        let config: Config = uri
            .parse()
            .map_err(cause)
            .context(|| "not a connection string of PostgreSQL".to_owned())?;
        let server = address_of(&config).await?;
        let client = connect(&config).await?;
        // Two that start at once would each create what the other creates.
        let prepare = format!("SELECT pg_advisory_xact_lock(7235); {CATALOG}");
        client
            .batch_execute(&prepare)
            .await
            .map_err(cause)
            .context(|| "cannot prepare the database for the stand-in for Redshift".to_owned())?;
        let names = LongNames::default();
        let known = format!("SELECT stored, name FROM {SCHEMA}.names");
        let known = client
            .query(&known, &[])
            .await
            .map_err(cause)
            .context(|| "cannot read the long names of the stand-in for Redshift".to_owned())?;
        names.note(
            &known
                .iter()
                .map(|row| (row.get(0), row.get(1)))
                .collect::<Vec<_>>(),
        );
        let listener = TcpListener::bind(loopback(0))
            .await
            .context(|| "cannot listen on 127.0.0.1".to_owned())?;
        let address = listener
            .local_addr()
            .context(|| "cannot listen on 127.0.0.1".to_owned())?;
        let shared = Arc::new(Shared {
            server,
            client,
            storage: self.storage,
            faults: Faults::default(),
            names,
            transactions: Arc::default(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Redshift {
            uri,
            address,
            shared,
            task,
        })
    }
}

/// A stand-in for an Amazon Redshift cluster with one database, in this process. It works while the runtime it was
/// started on does, and ends with all its connections when dropped; the tables stay in PostgreSQL, where they can be
/// looked at.
///
/// What follows AWS's documentation and what does not stands in the crate's README.
#[derive(Debug)]
pub struct Redshift {
    uri: String,
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Redshift {
    /// A stand-in without a database yet.
    pub fn builder() -> RedshiftBuilder {
        RedshiftBuilder::default()
    }

    /// `redshift://user:password@127.0.0.1:PORT/database`, with PostgreSQL's user and password.
    pub fn uri(&self) -> String {
        let user = ConnectionString::split(&self.uri)
            .authority
            .rsplit_once('@')
            .map_or("", |(user, _)| user);
        self.uri_with(user)
    }

    /// The same for another of PostgreSQL's users.
    pub fn uri_as(&self, user: &str, password: &str) -> String {
        self.uri_with(&format!("{user}:{password}"))
    }

    fn uri_with(&self, user: &str) -> String {
        let authority = &format!("{user}@{}", self.address);
        let database = ConnectionString::split(&self.uri).database;
        ConnectionString {
            scheme: "redshift",
            authority,
            database,
            options: "",
        }
        .join()
    }

    /// Where the stand-in listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The statements of all clients so far, as they were sent: one for each, with the secrets in them.
    pub fn statements(&self) -> Vec<String> {
        self.shared.faults.seen()
    }

    /// Fails the next statement that contains `text`, in whatever case, with this SQLSTATE and message.
    pub fn fail(&self, text: &str, code: &str, message: &str) {
        let refusal = Refusal::new(code, message);
        self.shared.faults.add(text, Fault::Fail(refusal));
    }

    /// Cuts the connection of who next sends a statement that contains `text`, before anything is done for it.
    pub fn cut_before(&self, text: &str) {
        self.shared.faults.add(text, Fault::CutBefore);
    }

    /// Cuts the connection of who next sends a statement that contains `text`, once it is done (and committed, if it is
    /// a transaction of its own), but before the client hears of it.
    pub fn cut_after(&self, text: &str) {
        self.shared.faults.add(text, Fault::CutAfter);
    }

    /// Takes back the faults that have not met their statements.
    pub fn heal(&self) {
        self.shared.faults.clear();
    }
}

impl Drop for Redshift {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What all sessions share.
#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    /// Of the superuser, for what is not part of any transaction.
    client: Client,
    storage: Storage,
    faults: Faults,
    names: LongNames,
    transactions: Arc<Transactions>,
}

impl Shared {
    /// Notes names that PostgreSQL keeps under others, so that the catalog shows Redshift's.
    async fn note_names(&self, names: &[(String, String)]) -> Result<(), Refusal> {
        for (stored, name) in self.names.note(names) {
            let (stored, name) = (literal(&stored), literal(&name));
            self.client
                .batch_execute(&format!(
                    "INSERT INTO {SCHEMA}.names VALUES ({stored}, {name}) ON CONFLICT DO NOTHING"
                ))
                .await
                .map_err(|error| {
                    Refusal::internal(format!("cannot note the name {name}: {error}"))
                })?;
        }
        Ok(())
    }
}

/// Owns the sessions, so that they end with the stand-in.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { return };
                sessions.spawn(startup::serve(client, Arc::clone(&shared)));
            }
            Some(_) = sessions.join_next() => {}
        }
    }
}

async fn address_of(config: &Config) -> Result<SocketAddr> {
    let host = match config.get_hosts() {
        [Host::Tcp(host)] => host.as_str(),
        _ => {
            return Err(TestkitError::new(
                "the stand-in for Redshift needs one host of PostgreSQL",
            ));
        }
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let mut found = tokio::net::lookup_host((host, port))
        .await
        .context(|| format!("cannot find the host {host}"))?;
    found
        .next()
        .ok_or_else(|| TestkitError::new(format!("the host {host} has no address")))
}
