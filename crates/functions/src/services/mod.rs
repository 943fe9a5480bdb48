//! What functions reach beyond themselves: databases, HTTP, AWS and other services.
//!
//! [`Reach`] is all of it as the configuration has it. What goes wrong has a name: `TypeError` where a function gave
//! what a service cannot take, `MongoServerError` and `MongoError`, `HTTPError` where no answer came (an answer is
//! one whatever its status), the code that AWS gave its error, `TwilioError` and `PushError`.

mod arguments;
mod aws;
mod http;
mod json;
mod mongodb;
mod outbound;
mod push;
mod reach;
mod secret;
mod signature;
mod twilio;
mod web;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub use aws::{AwsClient, AwsError, AwsSettings, BusEvent};
pub(crate) use http::canonical_name;
pub use outbound::OutboundRules;
pub use push::{FCM, PushCredentials, PushSettings};
pub use reach::{Reach, ReachSettings, ServiceSettings};
pub use secret::Secret;
pub use signature::verify_signature;
pub use twilio::{TWILIO, TwilioSettings};
pub use web::HttpLimits;

/// All services of an application.
pub trait Services: Send + Sync {
    /// What one run of a function reaches, by the number of the run: what it leaves open is closed when this
    /// is dropped.
    fn scope(&self, run: u64) -> Arc<dyn ServiceScope>;
}

/// The services, to one run of a function.
#[async_trait]
pub trait ServiceScope: Send + Sync {
    /// Has a service do something, and answers a document of raw BSON whose field `v` is the result.
    ///
    /// # Errors
    /// What the function is to have thrown at it.
    async fn call(&self, call: ServiceCall) -> Result<Bytes, ServiceError>;
}

/// Something that a service is to do.
///
/// `operation` and `arguments`, a document of raw BSON, are, by the kind of the service:
///
/// - `mongodb`: an operation of [`DocumentCall`](tributary_flow::DocumentCall) and its arguments; beside
///   these, `db` and, unless it is about the database, `coll`.
/// - `aws`: `<service>.<Action>` such as `kinesis.PutRecord`; `args` is what the action is given, `region`
///   the region where one was named.
/// - `http`, and `context.http` as the service with the empty name: `get`, `post`, `put`, `patch`, `delete`
///   or `head`; `args` is what the function gave.
/// - `twilio`, `github`, `push`: the action, such as `send`; `args` is what the function gave.
#[derive(Debug, Clone)]
pub struct ServiceCall {
    /// The name of the service.
    pub service: String,
    /// What it is to do.
    pub operation: String,
    /// With what.
    pub arguments: Bytes,
}

/// Why a service did not do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceError {
    /// The `name` of what the function has thrown at it, such as `MongoError`.
    pub name: String,
    /// Its `message`.
    pub message: String,
    /// Its `code`, where it has one.
    pub code: Option<i32>,
    /// Its `errorLabels`.
    pub labels: Vec<String>,
    /// Whether trying again later may help.
    pub is_transient: bool,
}

impl ServiceError {
    /// An error that trying again does not help.
    fn named(name: &str, message: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            message: message.into(),
            code: None,
            labels: Vec::new(),
            is_transient: false,
        }
    }

    /// A function gave what a service cannot take.
    fn of_arguments(message: impl Into<String>) -> Self {
        Self::named("TypeError", message)
    }

    fn renamed(self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..self
        }
    }
}
