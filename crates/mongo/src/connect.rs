//! Connecting to a deployment.

use std::fmt;
use std::time::Duration;

use mongodb::Client;
use mongodb::options::{ClientOptions, ReadPreference, ReadPreferenceOptions, SelectionCriteria};
use tributary_model::{Error, ErrorKind, Result};

use crate::error::failed;

/// How long a server is looked for before the command says that there is none, unless the address
/// says otherwise. A replica set elects a new primary in about this time.
const SERVER_SELECTION: Duration = Duration::from_secs(15);
/// How long one connection may take to be made, unless the address says otherwise.
const CONNECT: Duration = Duration::from_secs(10);

/// Which members of a replica set are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// The primary.
    Primary,
    /// The primary, or a secondary while there is none.
    PrimaryPreferred,
    /// A secondary.
    Secondary,
    /// A secondary, or the primary while there is none.
    SecondaryPreferred,
    /// The member with the least latency.
    Nearest,
}

impl ReadFrom {
    fn criteria(self) -> SelectionCriteria {
        let options = Some(ReadPreferenceOptions::default());
        SelectionCriteria::ReadPreference(match self {
            Self::Primary => ReadPreference::Primary,
            Self::PrimaryPreferred => ReadPreference::PrimaryPreferred { options },
            Self::Secondary => ReadPreference::Secondary { options },
            Self::SecondaryPreferred => ReadPreference::SecondaryPreferred { options },
            Self::Nearest => ReadPreference::Nearest { options },
        })
    }
}

/// A deployment, and the database its address names.
#[derive(Clone)]
pub struct Connection {
    pub(crate) client: Client,
    /// Host names and ports: what messages may show.
    pub(crate) server: String,
    pub(crate) database: Option<String>,
    pub(crate) read_from: SelectionCriteria,
    /// Whether that was asked for, and is not merely what is done by default.
    pub(crate) read_from_asked: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("server", &self.server)
            .field("database", &self.database)
            .finish()
    }
}

impl Connection {
    /// Parses the address and prepares to connect. Nothing but a `mongodb+srv` name is looked up
    /// yet.
    ///
    /// `read_from` counts where it is given, else the address's `readPreference`, else secondaries
    /// are preferred.
    ///
    /// # Errors
    /// The address is malformed, or its name cannot be resolved.
    pub async fn open(uri: &str, read_from: Option<ReadFrom>) -> Result<Self> {
        let mut options = ClientOptions::parse(uri).await.map_err(|error| {
            let told = failed("the MongoDB address cannot be used", &without_credentials(uri), &error);
            if told.kind() == ErrorKind::Usage {
                told.remedy("write it as mongodb://[user:password@]host[:port][,host…]/database[?options], with special characters in the password percent-encoded")
            } else {
                told
            }
        })?;
        options
            .app_name
            .get_or_insert_with(|| "tributary".to_owned());
        options
            .server_selection_timeout
            .get_or_insert(SERVER_SELECTION);
        options.connect_timeout.get_or_insert(CONNECT);
        let read_from_asked = read_from.is_some() || options.selection_criteria.is_some();
        let read_from = match (read_from, options.selection_criteria.take()) {
            (Some(given), _) => given.criteria(),
            (None, Some(of_address)) => of_address,
            (None, None) => ReadFrom::SecondaryPreferred.criteria(),
        };
        let server = options
            .hosts
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",");
        let database = options.default_database.clone();
        let client = Client::with_options(options)
            .map_err(|error| failed("the MongoDB address cannot be used", &server, &error))?;
        Ok(Self {
            client,
            server,
            database,
            read_from,
            read_from_asked,
        })
    }

    /// The driver's client, for what this crate does not wrap.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The database that the address names, if any.
    #[must_use]
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// Host names and ports, without credentials.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Asks the deployment for a sign of life.
    ///
    /// # Errors
    /// No server answers in time, or the credentials are not accepted.
    pub async fn ping(&self) -> Result<()> {
        self.client
            .database(self.database().unwrap_or("admin"))
            .run_command(mongodb::bson::doc! { "ping": 1 })
            .selection_criteria(self.read_from.clone())
            .await
            .map_err(|error| self.failed("cannot connect", &error))?;
        Ok(())
    }

    /// Where single documents are read: the primary, unless something else was asked for.
    pub(crate) fn read_documents_from(&self) -> SelectionCriteria {
        match self.read_from_asked {
            true => self.read_from.clone(),
            false => ReadFrom::Primary.criteria(),
        }
    }

    pub(crate) fn failed(&self, what: &str, error: &mongodb::error::Error) -> Error {
        failed(what, &self.server, error)
    }
}

fn without_credentials(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else {
        return "(not a mongodb:// address)".to_owned();
    };
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    format!("{scheme}://{host}")
}
