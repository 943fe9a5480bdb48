//! A real mongod: one member of a replica set, alone or with others.

mod install;
mod member;

use std::{env, net::SocketAddr, path::Path};

use bson::{Document, doc};
use mongodb::Client;

pub(crate) use install::executable;
pub(crate) use member::{Member, State};

use crate::{
    env as names,
    error::{Context, Result},
    process::{loopback, with_free_port},
    tls::Tls,
    uri::ConnectionString,
};

/// Name of every replica set that is started here.
pub(crate) const REPLICA_SET: &str = "rs0";

/// The user that [`MongodBuilder::with_auth`] creates, with the role `root`.
const ROOT: (&str, &str) = ("root", "root-password");

/// How a [`Mongod`] is to be started.
#[derive(Debug, Clone)]
pub struct MongodBuilder {
    pub(crate) auth: bool,
    pub(crate) tls: bool,
    pub(crate) cache_gib: f64,
    pub(crate) arguments: Vec<String>,
}

impl MongodBuilder {
    pub(crate) fn new() -> Self {
        Self {
            auth: false,
            tls: false,
            cache_gib: 0.5,
            arguments: Vec::new(),
        }
    }

    /// Requires users to authenticate. [`Mongod::uri`] then names a user with the role `root`.
    #[must_use]
    pub fn with_auth(mut self) -> Self {
        self.auth = true;
        self
    }

    /// Requires TLS, with a certificate for 127.0.0.1 and localhost that [`Tls::ca_file`] verifies.
    #[must_use]
    pub fn with_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Size of the storage engine's cache in GiB, 0.5 unless set.
    #[must_use]
    pub fn cache_gib(mut self, size: f64) -> Self {
        self.cache_gib = size;
        self
    }

    /// Sets a server parameter, such as `enableTestCommands` to `1` for a test that uses `configureFailPoint`.
    #[must_use]
    pub fn parameter(self, name: &str, value: &str) -> Self {
        self.argument("--setParameter")
            .argument(&format!("{name}={value}"))
    }

    /// Adds an argument to mongod's command line.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Starts the server, installing it first if need be, and waits until it is primary.
    ///
    /// # Errors
    /// There is no mongod and it cannot be installed, or it does not become primary in time.
    pub async fn start(self) -> Result<Mongod> {
        let executable = &executable().await?;
        let builder = &self;
        with_free_port(|port| async move {
            let mut member = Member::start(executable, builder, port).await?;
            member.initiate(&[loopback(port)]).await?;
            member.wait_for(&[State::Primary]).await?;
            let server = Mongod {
                member,
                auth: builder.auth,
            };
            if builder.auth {
                let (user, password) = ROOT;
                let create = doc! { "createUser": user, "pwd": password, "roles": ["root"] };
                // The first user is created without authentication, which mongod allows from localhost only.
                server
                    .member
                    .command(create)
                    .await
                    .context(|| "cannot create the root user".to_owned())?;
            }
            Ok(server)
        })
        .await
    }
}

/// A mongod with an empty data directory, the only member of its replica set. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct Mongod {
    member: Member,
    auth: bool,
}

impl Mongod {
    /// Starts a server of its own, without authentication and TLS.
    ///
    /// # Errors
    /// As [`MongodBuilder::start`].
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// A server with other options.
    pub fn builder() -> MongodBuilder {
        MongodBuilder::new()
    }

    /// The server of `testkit run --mongod`, or one of its own outside of it.
    ///
    /// # Errors
    /// As [`MongodBuilder::start`].
    pub async fn shared() -> Result<SharedMongod> {
        match env::var(names::MONGODB_URI) {
            Ok(uri) => Ok(SharedMongod { uri, own: None }),
            Err(_) => {
                let own = Self::start().await?;
                Ok(SharedMongod {
                    uri: own.uri(),
                    own: Some(own),
                })
            }
        }
    }

    /// Connection string, with the root user and the CA file where the server requires them.
    pub fn uri(&self) -> String {
        self.uri_for("")
    }

    /// Connection string that names a database.
    pub fn uri_for(&self, database: &str) -> String {
        let user = self.auth.then_some(ROOT);
        self.uri_with(
            user,
            self.address(),
            database,
            &format!("replicaSet={REPLICA_SET}"),
        )
    }

    /// Connection string of another user.
    pub fn uri_as(&self, user: &str, password: &str, database: &str) -> String {
        let option = format!("replicaSet={REPLICA_SET}");
        self.uri_with(Some((user, password)), self.address(), database, &option)
    }

    /// Connection string through `address`, where something such as a [`FaultProxy`](crate::FaultProxy) forwards to
    /// this server. It says `directConnection`, because a replica set tells its clients its own addresses.
    pub fn uri_through(&self, address: SocketAddr, database: &str) -> String {
        let user = self.auth.then_some(ROOT);
        self.uri_with(user, address, database, "directConnection=true")
    }

    fn uri_with(
        &self,
        user: Option<(&str, &str)>,
        address: SocketAddr,
        database: &str,
        option: &str,
    ) -> String {
        let user_info = user
            .map(|(user, password)| format!("{user}:{password}@"))
            .unwrap_or_default();
        let source = if user.is_some() {
            "&authSource=admin"
        } else {
            ""
        };
        let tls = self.tls().map(uri_options).unwrap_or_default();
        format!("mongodb://{user_info}{address}/{database}?{option}{source}{tls}")
    }

    /// A client of this server.
    ///
    /// # Errors
    /// The driver refuses [`Mongod::uri`].
    pub async fn client(&self) -> Result<Client> {
        connect(&self.uri()).await
    }

    /// Creates a user in `admin`; `roles` are pairs of a role and its database, such as `("read", "shop")`.
    ///
    /// # Errors
    /// The server refuses the user.
    pub async fn create_user(
        &self,
        user: &str,
        password: &str,
        roles: &[(&str, &str)],
    ) -> Result<()> {
        let roles: Vec<Document> = roles
            .iter()
            .map(|(role, db)| doc! { "role": *role, "db": *db })
            .collect();
        let create = doc! { "createUser": user, "pwd": password, "roles": roles };
        let client = self.client().await?;
        client
            .database("admin")
            .run_command(create)
            .await
            .context(|| format!("cannot create the user {user}"))?;
        Ok(())
    }

    /// Certificates, if the server was started with TLS.
    pub fn tls(&self) -> Option<&Tls> {
        self.member.tls()
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.member.address()
    }

    /// The data directory.
    pub fn data_directory(&self) -> &Path {
        self.member.data_directory()
    }

    /// Process id, unless the server has been killed.
    pub fn pid(&self) -> Option<u32> {
        self.member.pid()
    }

    /// SIGKILL, as in a crash. The data stays for [`Mongod::restart`].
    pub fn kill(&mut self) {
        self.member.kill();
    }

    /// Starts the server again on the same port and data, and waits until it is primary. Kills it first if it runs.
    ///
    /// # Errors
    /// The server does not become primary in time.
    pub async fn restart(&mut self) -> Result<()> {
        self.member.restart()?;
        self.member.wait_for(&[State::Primary]).await
    }
}

/// A server that other tests use as well: keep to databases with a [`unique_name`](crate::unique_name).
#[derive(Debug)]
pub struct SharedMongod {
    uri: String,
    own: Option<Mongod>,
}

impl SharedMongod {
    /// Connection string.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Connection string that names a database.
    pub fn uri_for(&self, database: &str) -> String {
        with_database(&self.uri, database)
    }

    /// A client of this server.
    ///
    /// # Errors
    /// The driver refuses [`SharedMongod::uri`].
    pub async fn client(&self) -> Result<Client> {
        connect(&self.uri).await
    }

    /// Process id, if this is not the server of `testkit run`.
    pub fn pid(&self) -> Option<u32> {
        self.own.as_ref().and_then(Mongod::pid)
    }
}

pub(crate) async fn connect(uri: &str) -> Result<Client> {
    Client::with_uri_str(uri)
        .await
        .context(|| "cannot make a MongoDB client".to_owned())
}

fn uri_options(tls: &Tls) -> String {
    // A path of a temporary directory has nothing to escape but the separator.
    format!(
        "&tls=true&tlsCAFile={}",
        tls.ca_file().display().to_string().replace('/', "%2F")
    )
}

/// Replaces the database in a connection string. One that was named to authenticate against stays its `authSource`.
fn with_database(uri: &str, database: &str) -> String {
    let mut parts = ConnectionString::split(uri);
    let mut options = parts.options.to_owned();
    if parts.authority.contains('@')
        && !parts.database.is_empty()
        && !options.contains("authSource=")
    {
        options = format!("authSource={}&{options}", parts.database);
    }
    parts.database = database;
    parts.options = &options;
    parts.join()
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn a_database_is_put_into_any_connection_string() {
        for (uri, expected) in [
            ("mongodb://h:1", "mongodb://h:1/db"),
            (
                "mongodb://h:1/?replicaSet=r",
                "mongodb://h:1/db?replicaSet=r",
            ),
            ("mongodb://a,b/old?w=1", "mongodb://a,b/db?w=1"),
            ("mongodb://u:p@h/old", "mongodb://u:p@h/db?authSource=old"),
            (
                "mongodb+srv://u:p@h/old?authSource=admin",
                "mongodb+srv://u:p@h/db?authSource=admin",
            ),
        ] {
            assert_eq!(with_database(uri, "db"), expected);
        }
    }
}
