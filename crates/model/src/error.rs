//! The one error that crosses crate boundaries, and what is done about each kind.

use std::fmt;
use std::sync::Arc;

/// The result of everything that can fail across a crate boundary.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure an [`Error`] is: decides whether it is retried, the exit code, and the
/// remedy told when the place of failure knows none better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The command line or configuration is wrong.
    Usage,
    /// A server, database, collection, bucket or file named does not exist.
    NotFound,
    /// Something is already there and was not to be replaced.
    AlreadyExists,
    /// The server does not accept the credentials.
    Unauthenticated,
    /// The credentials are accepted but lack a privilege.
    Forbidden,
    /// The server cannot be reached, or was lost.
    Unreachable,
    /// The server answered that it cannot serve now: throttled, stepping down, overloaded.
    Unavailable,
    /// Another writer changed the same thing first.
    Conflict,
    /// The data cannot be read as what it should be.
    InvalidData,
    /// The target cannot be written: disk full, read-only, broken.
    Storage,
    /// The source does not remember the changes that come next.
    HistoryLost,
    /// The source is not the one that the target has followed so far.
    OtherSource,
    /// Documents have another schema than their table, and that is to be approved first.
    SchemaChanged,
    /// Stopped on request before the end.
    Interrupted,
    /// A bug in Tributary.
    Internal,
}

impl ErrorKind {
    /// Whether trying again later may succeed without anybody doing anything.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Unreachable | Self::Unavailable | Self::Conflict)
    }

    fn remedy(self) -> Option<&'static str> {
        match self {
            Self::Usage => Some("see `tributary --help`"),
            Self::Unreachable | Self::Unavailable => Some(
                "check that the server is up and reachable, then start again; what was done is kept",
            ),
            Self::Internal => {
                Some("this is a bug in tributary: please report it with the lines above")
            }
            _ => None,
        }
    }
}

/// A failure: what failed, on what, why, and what to do about it.
///
/// Its `Display` is one line, `message (on key value, …): cause; remedy`, and carries no secret.
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    context: Vec<(&'static str, String)>,
    cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
    remedy: Option<String>,
}

impl Error {
    /// An error of `kind` that says what failed, in lower case and without a final period.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            context: Vec::new(),
            cause: None,
            remedy: None,
        }
    }

    /// Names one thing the failure was about: `server`, `namespace`, `file`, …
    ///
    /// The first value given for a key is kept: the place nearest to the failure knows best.
    #[must_use]
    pub fn on(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        if !self.context.iter().any(|(k, _)| *k == key) {
            self.context.push((key, value.to_string()));
        }
        self
    }

    /// Gives the error that caused this one.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(Arc::from(cause.into()));
        self
    }

    /// Says what the operator can do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// What sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What failed, without context, cause and remedy.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for (i, (key, value)) in self.context.iter().enumerate() {
            write!(f, "{}{key} {value}", if i == 0 { " (" } else { ", " })?;
        }
        if !self.context.is_empty() {
            f.write_str(")")?;
        }
        let mut cause = self.cause.as_deref().map(|c| c as &dyn std::error::Error);
        let mut said = String::new();
        while let Some(error) = cause {
            // Libraries often repeat their source's text inside their own.
            let text = error.to_string();
            if !said.contains(&text) {
                write!(f, ": {}", text.trim_end().replace('\n', " "))?;
                said.push_str(&text);
            }
            cause = error.source();
        }
        if let Some(remedy) = self.remedy.as_deref().or_else(|| self.kind.remedy()) {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The cause's text is already part of `Display`.
        None
    }
}
