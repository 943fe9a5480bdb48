//! The service `aws`: actions of Amazon's services by their names, signed and tried again where that helps.

mod event_bus;
mod identity;
mod json_protocol;
mod lambda;
mod s3;
mod send;
mod ses;
mod sns;
mod wire;
mod xml;

use std::fmt;

use bson::{Bson, Document};
use serde_json::Value;
use tributary_model::Result;

use super::web::{HttpLimits, Web};
use super::{Secret, ServiceError};
use identity::Identity;

pub use event_bus::BusEvent;

/// Where and as whom Amazon's services are used.
///
/// What is left out comes from where Amazon's own tools take it: the environment, `~/.aws`, the machine's role.
#[derive(Debug, Clone, Default)]
pub struct AwsSettings {
    /// The region where a function names none.
    pub region: Option<String>,
    /// The access key; it goes with the secret one.
    pub access_key_id: Option<String>,
    /// The secret access key.
    pub secret_access_key: Option<Secret>,
    /// The token of a session, where the keys are of one.
    pub session_token: Option<Secret>,
    /// Where all of the services are, in place of Amazon's own addresses. Not restricted by the rules for what
    /// functions may ask.
    pub endpoint: Option<String>,
    /// A role to assume, with the credentials above.
    pub role_arn: Option<String>,
}

/// A client for Amazon's services.
///
/// Requests that a service throttles, that it fails to serve or that cannot reach it are sent again, up to three
/// times; so an action may be done twice.
pub struct AwsClient {
    identity: Identity,
    web: Web,
}

/// Why an action was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsError {
    /// The code that the service gave it, such as `ResourceNotFoundException`; what Amazon's tools call it where it
    /// did not come from there.
    pub code: String,
    /// What it says.
    pub message: String,
    /// The HTTP status, where the service answered.
    pub status: Option<u16>,
    /// Whether trying again later may help.
    pub is_transient: bool,
}

impl AwsError {
    fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            status: None,
            is_transient: false,
        }
    }

    fn of_parameter(message: impl Into<String>) -> Self {
        Self::new("InvalidParameter", message)
    }
}

impl fmt::Display for AwsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for AwsError {}

impl From<AwsError> for ServiceError {
    fn from(error: AwsError) -> Self {
        Self {
            is_transient: error.is_transient,
            ..Self::named(&error.code, error.message)
        }
    }
}

impl AwsClient {
    /// A client. Credentials are looked for when they are first needed.
    ///
    /// # Errors
    /// `Internal`: TLS cannot be set up.
    pub fn new(settings: AwsSettings, limits: HttpLimits) -> Result<Self> {
        Ok(Self {
            identity: Identity::new(settings),
            web: Web::unrestricted(limits)?,
        })
    }

    /// Has a service that speaks JSON (Kinesis, Firehose, EventBridge, SQS, DynamoDB, Secrets Manager, …) do an
    /// action. `body` is as it goes over the wire, so blobs in it are in base64.
    ///
    /// # Errors
    /// What the service said, or why it could not be asked.
    pub async fn call_json(
        &self,
        service: &str,
        action: &str,
        body: Value,
    ) -> Result<Value, AwsError> {
        let service = json_protocol::service(service).ok_or_else(|| unknown_service(service))?;
        json_protocol::call(self, service, action, &body, None).await
    }

    /// Does what a function asks for: `operation` is `<service>.<Action>`.
    pub(super) async fn call(
        &self,
        operation: &str,
        region: Option<&str>,
        args: &Document,
    ) -> Result<Bson, AwsError> {
        let Some((name, action)) = operation.split_once('.') else {
            return Err(AwsError::of_parameter(format!(
                "`{operation}` is no action: it is <service>.<Action>"
            )));
        };
        match name {
            "s3" => s3::call(self, action, args, region).await,
            "lambda" => lambda::call(self, action, args, region).await,
            "ses" | "sesv2" | "email" => ses::call(self, action, args, region).await,
            "sns" => sns::call(self, action, args, region).await,
            _ => {
                let service = json_protocol::service(name).ok_or_else(|| unknown_service(name))?;
                let body = wire::to_json(args, service.blobs)?;
                let answer = json_protocol::call(self, service, action, &body, region).await?;
                Ok(wire::to_bson(answer, service.blobs, service.times))
            }
        }
    }
}

fn unknown_service(name: &str) -> AwsError {
    let known: Vec<&str> = json_protocol::names()
        .chain(["s3", "lambda", "ses", "sns"])
        .collect();
    AwsError::of_parameter(format!(
        "`{name}` is no service that is known here: there are {}",
        known.join(", ")
    ))
}

fn unknown_action(service: &str, action: &str, known: &[&str]) -> AwsError {
    AwsError::of_parameter(format!(
        "{service} has no `{action}` here: there are {}",
        known.join(", ")
    ))
}

/// Refuses what would be left out without a word.
fn only_known(args: &Document, known: &[&str]) -> Result<(), AwsError> {
    match args.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(AwsError::of_parameter(format!(
            "`{name}` is not known here: there are {}",
            known.join(", ")
        ))),
    }
}

/// A text that an action needs.
fn needed<'a>(args: &'a Document, name: &str) -> Result<&'a str, AwsError> {
    match args.get(name) {
        Some(Bson::String(text)) if !text.is_empty() => Ok(text),
        _ => Err(AwsError::of_parameter(format!(
            "`{name}` is missing, or no string"
        ))),
    }
}
