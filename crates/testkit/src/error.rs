//! The one error of this crate: a sentence, and what caused it.

use std::error::Error;

/// Result of everything in this crate.
pub type Result<T, E = TestkitError> = std::result::Result<T, E>;

/// A server could not be installed, started or used.
#[derive(Debug, thiserror::Error)]
#[error("{message}{}", .source.as_ref().map(|source| format!(": {source}")).unwrap_or_default())]
pub struct TestkitError {
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl TestkitError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            source: None,
        }
    }
}

/// Adds what was being done to an error.
pub(crate) trait Context<T> {
    fn context(self, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn context(self, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| TestkitError {
            message: message(),
            source: Some(source.into()),
        })
    }
}
