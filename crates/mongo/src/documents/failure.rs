//! Why operations are not done.

use mongodb::error::{Error as DriverError, TRANSIENT_TRANSACTION_ERROR};
use tributary_flow::DocumentError;

use crate::error::{code, is_transient, is_transient_code, message};

/// Why an operation was not done.
#[derive(Debug)]
pub(super) struct Failure(DocumentError);

impl Failure {
    /// Something that is wrong with the call.
    pub(super) fn of(message: impl Into<String>) -> Self {
        Self(DocumentError {
            message: message.into(),
            code: None,
            is_transient: false,
            labels: Vec::new(),
        })
    }

    /// What the server says of a part of a command.
    pub(super) fn told(message: impl Into<String>, code: i32, labels: Vec<String>) -> Self {
        Self(DocumentError {
            message: message.into(),
            code: Some(code),
            is_transient: is_transient_code(code),
            labels,
        })
    }

    /// The same, saying how many of several operations were done.
    pub(super) fn with_done(mut self, done: usize, of: usize) -> Self {
        let message = &self.0.message;
        self.0.message = format!("{message} ({done} of {of} operations were done)");
        self
    }
}

impl From<Failure> for DocumentError {
    fn from(failure: Failure) -> Self {
        failure.0
    }
}

impl From<DriverError> for Failure {
    fn from(error: DriverError) -> Self {
        let mut labels: Vec<String> = error.labels().iter().cloned().collect();
        labels.sort_unstable();
        Self(DocumentError {
            message: message(&error),
            code: code(&error),
            is_transient: is_transient(&error) || error.contains_label(TRANSIENT_TRANSACTION_ERROR),
            labels,
        })
    }
}

impl From<mongodb::bson::error::Error> for Failure {
    fn from(error: mongodb::bson::error::Error) -> Self {
        Self::of(error.to_string())
    }
}
