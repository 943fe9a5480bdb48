//! The service `twilio`: text messages and calls.

use bson::{Bson, Document};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value;
use url::{Url, form_urlencoded};

use super::web::{Web, WebRequest};
use super::{Secret, ServiceError, arguments, http, json};

/// An account with Twilio.
#[derive(Debug, Clone)]
pub struct TwilioSettings {
    /// The SID of the account.
    pub account_sid: String,
    /// Its auth token.
    pub auth_token: Secret,
    /// Where Twilio's API is, [`TWILIO`] in earnest.
    pub base_url: String,
}

/// Where Twilio's API is.
pub const TWILIO: &str = "https://api.twilio.com";

const NAME: &str = "TwilioError";

/// Does `send`, with `to`, `from`, `body` and `mediaUrl`, or `call`, with `to`, `from` and `url`. Answers what
/// Twilio says of the message or call.
pub(super) async fn call(
    web: &Web,
    settings: &TwilioSettings,
    operation: &str,
    args: &Document,
) -> Result<Bson, ServiceError> {
    let (resource, form) = match operation {
        "send" => ("Messages", message(args)?),
        "call" => (
            "Calls",
            form(args, &[("To", "to"), ("From", "from"), ("Url", "url")])?,
        ),
        _ => {
            return Err(ServiceError::of_arguments(format!(
                "twilio has no `{operation}`: there are send and call"
            )));
        }
    };
    let account = utf8_percent_encode(&settings.account_sid, NON_ALPHANUMERIC);
    let base = settings.base_url.trim_end_matches('/');
    let address = format!("{base}/2010-04-01/Accounts/{account}/{resource}.json");
    let url = Url::parse(&address).map_err(|error| {
        ServiceError::named(
            NAME,
            format!("the address of Twilio cannot be read: {error}"),
        )
    })?;
    let mut headers = HeaderMap::new();
    let credentials = http::basic(&settings.account_sid, settings.auth_token.as_str())?;
    headers.insert(AUTHORIZATION, credentials);
    let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
    headers.insert(CONTENT_TYPE, kind);
    let request = WebRequest {
        method: Method::POST,
        url,
        headers,
        body: form.into(),
        follows_redirects: false,
    };
    let response = web
        .send(request)
        .await
        .map_err(|error| ServiceError::from(error).renamed(NAME))?;
    let said: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let status = response.status;
    if status.is_success() {
        return Ok(json::to_bson(said));
    }
    let message = match said.get("message").and_then(Value::as_str) {
        Some(message) => message.to_owned(),
        None => format!("Twilio answered {}", status.as_u16()),
    };
    let code = said.get("code").and_then(Value::as_i64);
    Err(ServiceError {
        code: code.and_then(|code| i32::try_from(code).ok()),
        is_transient: status.is_server_error() || status.as_u16() == 429,
        ..ServiceError::named(NAME, message)
    })
}

fn form(args: &Document, fields: &[(&str, &str)]) -> Result<String, ServiceError> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    for (field, name) in fields {
        form.append_pair(field, arguments::needed(args, name)?);
    }
    Ok(form.finish())
}

/// Says something or shows something; either is enough.
fn message(args: &Document) -> Result<String, ServiceError> {
    let addressed = form(args, &[("To", "to"), ("From", "from")])?;
    let length = addressed.len();
    let mut form = form_urlencoded::Serializer::for_suffix(addressed, 0);
    if let Some(body) = arguments::text(args, "body")? {
        form.append_pair("Body", body);
    }
    let media = match args.get("mediaUrl") {
        None | Some(Bson::Null | Bson::Undefined) => Vec::new(),
        Some(Bson::Array(urls)) => urls.iter().collect(),
        Some(url) => vec![url],
    };
    for url in media {
        match url {
            Bson::String(url) => form.append_pair("MediaUrl", url),
            _ => return Err(ServiceError::of_arguments("`mediaUrl` is no string")),
        };
    }
    let form = form.finish();
    if form.len() == length {
        return Err(ServiceError::of_arguments("`body` is missing"));
    }
    Ok(form)
}
