//! The service `push`: notifications through Firebase Cloud Messaging.

mod legacy;
mod token;
mod v1;

use bson::{Bson, Document, doc};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use url::Url;

use super::web::{Web, WebRequest};
use super::{Secret, ServiceError, arguments};

pub(super) use token::Tokens;

/// How push notifications are sent.
#[derive(Debug, Clone)]
pub struct PushSettings {
    /// As whom.
    pub credentials: PushCredentials,
    /// Where Firebase Cloud Messaging is, [`FCM`] in earnest.
    pub base_url: String,
}

/// As whom push notifications are sent.
#[derive(Debug, Clone)]
pub enum PushCredentials {
    /// The JSON of a Google service account's key, for the HTTP v1 API. It also says where tokens are got.
    ServiceAccount(Secret),
    /// A server key, for the older API, which Google no longer serves; for what speaks it in its place.
    ServerKey(Secret),
}

/// Where Firebase Cloud Messaging is.
pub const FCM: &str = "https://fcm.googleapis.com";

const NAME: &str = "PushError";

/// What a notification is to say, and to whom.
#[derive(Debug, Default)]
struct Push<'a> {
    /// One device, topic (`/topics/<name>`) or group.
    to: Option<&'a str>,
    /// Devices.
    tokens: Vec<&'a str>,
    notification: Option<&'a Document>,
    data: Option<&'a Document>,
    is_urgent: Option<bool>,
    collapse_key: Option<&'a str>,
    is_content_available: bool,
    is_mutable_content: bool,
    /// Seconds.
    time_to_live: Option<i64>,
    is_dry_run: bool,
}

/// How many were sent, and why others were not.
#[derive(Debug, Default)]
struct Delivery {
    successes: i32,
    /// By the place among the tokens.
    failed: Vec<(usize, String)>,
}

/// Does `send`. Answers `{ successes, failures, failedTokens: [{ index, error }] }`.
pub(super) async fn call(
    web: &Web,
    settings: &PushSettings,
    tokens: &Tokens,
    operation: &str,
    args: &Document,
) -> Result<Bson, ServiceError> {
    if operation != "send" {
        return Err(ServiceError::of_arguments(format!(
            "push has no `{operation}`: there is send"
        )));
    }
    let push = Push::read(args)?;
    let sent = match &settings.credentials {
        PushCredentials::ServiceAccount(account) => {
            v1::send(web, &settings.base_url, account, tokens, &push).await?
        }
        PushCredentials::ServerKey(key) => {
            legacy::send(web, &settings.base_url, key, &push).await?
        }
    };
    let failures = i32::try_from(sent.failed.len()).unwrap_or(i32::MAX);
    let failed = sent.failed.into_iter().map(|(index, error)| {
        Bson::Document(doc! { "index": i32::try_from(index).unwrap_or(i32::MAX), "error": error })
    });
    Ok(Bson::Document(doc! {
        "successes": sent.successes,
        "failures": failures,
        "failedTokens": failed.collect::<Vec<Bson>>(),
    }))
}

impl<'a> Push<'a> {
    fn read(args: &'a Document) -> Result<Self, ServiceError> {
        let mut push = Self::default();
        for (name, value) in args {
            match name.as_str() {
                "to" => push.to = arguments::text(args, name)?,
                "registrationTokens" => push.tokens = strings(value, name)?,
                "notification" => push.notification = arguments::document(args, name)?,
                "data" => push.data = arguments::document(args, name)?,
                "priority" => {
                    push.is_urgent = match arguments::text(args, name)? {
                        None => None,
                        Some("high") => Some(true),
                        Some("normal") => Some(false),
                        Some(_) => {
                            return Err(ServiceError::of_arguments(
                                "`priority` is neither `high` nor `normal`",
                            ));
                        }
                    }
                }
                "collapseKey" => push.collapse_key = arguments::text(args, name)?,
                "contentAvailable" => push.is_content_available = arguments::flag(args, name)?,
                "mutableContent" => push.is_mutable_content = arguments::flag(args, name)?,
                "timeToLive" => push.time_to_live = arguments::whole(args, name)?,
                "dryRun" => push.is_dry_run = arguments::flag(args, name)?,
                // Firebase has not known it for years, and functions may still give it.
                "delayWhileIdle" => {}
                "userIds" => {
                    return Err(ServiceError::of_arguments(
                        "`userIds` is not supported, as there are no users to have devices; give `registrationTokens`",
                    ));
                }
                _ => {
                    return Err(ServiceError::of_arguments(format!(
                        "push knows no `{name}`: there are to, registrationTokens, notification, data, priority, collapseKey, contentAvailable, mutableContent, timeToLive and dryRun"
                    )));
                }
            }
        }
        if push.to.is_some() != push.tokens.is_empty() {
            return Err(ServiceError::of_arguments(
                "give either `to` or `registrationTokens`",
            ));
        }
        Ok(push)
    }
}

fn strings<'a>(value: &'a Bson, name: &str) -> Result<Vec<&'a str>, ServiceError> {
    let wrong = || ServiceError::of_arguments(format!("`{name}` is no array of strings"));
    let Bson::Array(values) = value else {
        return Err(wrong());
    };
    values
        .iter()
        .map(|value| value.as_str().ok_or_else(wrong))
        .collect()
}

/// Sends JSON, and answers the status and the JSON that came back; null where it was none.
async fn post(
    web: &Web,
    address: &str,
    authorization: &str,
    body: &Value,
) -> Result<(StatusCode, Value), ServiceError> {
    let mut headers = HeaderMap::new();
    let mut value = HeaderValue::try_from(authorization)
        .map_err(|_| ServiceError::named(NAME, "the credentials cannot be sent"))?;
    value.set_sensitive(true);
    headers.insert(AUTHORIZATION, value);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let request = WebRequest {
        method: Method::POST,
        url: parsed(address)?,
        headers,
        body: body.to_string().into(),
        follows_redirects: false,
    };
    let response = web
        .send(request)
        .await
        .map_err(|error| ServiceError::from(error).renamed(NAME))?;
    let said = serde_json::from_slice(&response.body).unwrap_or_default();
    Ok((response.status, said))
}

fn parsed(address: &str) -> Result<Url, ServiceError> {
    Url::parse(address).map_err(|error| {
        ServiceError::named(
            NAME,
            format!("the address of the service cannot be read: {error}"),
        )
    })
}

/// An answer that says nothing of single devices.
fn failed(status: StatusCode, message: Option<&str>) -> ServiceError {
    let message = match message {
        Some(message) => message.to_owned(),
        None => format!("Firebase Cloud Messaging answered {}", status.as_u16()),
    };
    ServiceError {
        is_transient: status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS,
        ..ServiceError::named(NAME, message)
    }
}

/// The text of a value of `data`, which has only texts.
fn data_text(value: &Bson) -> String {
    match arguments::plain(value) {
        Some(text) => text,
        None => value.clone().into_relaxed_extjson().to_string(),
    }
}
