//! The HTTP v1 API of Firebase Cloud Messaging: one request for each device.

use bson::Document;
use futures::StreamExt as _;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::StatusCode;
use serde_json::{Map, Value, json};

use super::token::{Account, Tokens};
use super::{Delivery, Push, arguments, data_text, failed, post};
use crate::services::web::Web;
use crate::services::{Secret, ServiceError};

/// Devices that are told at the same time.
const AT_ONCE: usize = 16;

pub(super) async fn send(
    web: &Web,
    base: &str,
    account: &Secret,
    tokens: &Tokens,
    push: &Push<'_>,
) -> Result<Delivery, ServiceError> {
    let account = Account::read(account)?;
    let authorization = format!("Bearer {}", tokens.get(web, &account).await?.as_str());
    let address = format!(
        "{}/v1/projects/{}/messages:send",
        base.trim_end_matches('/'),
        utf8_percent_encode(&account.project_id, NON_ALPHANUMERIC)
    );
    let targets: Vec<(&str, &str)> = match push.to {
        Some(to) => vec![match to.strip_prefix("/topics/") {
            Some(topic) => ("topic", topic),
            None => ("token", to),
        }],
        None => push.tokens.iter().map(|token| ("token", *token)).collect(),
    };
    let message = message(push)?;
    let mut requests = Vec::with_capacity(targets.len());
    for (kind, target) in targets {
        let mut message = message.clone();
        message.insert(kind.to_owned(), json!(target));
        let mut body = json!({ "message": message });
        if push.is_dry_run {
            body["validate_only"] = json!(true);
        }
        requests.push(body);
    }
    let answers: Vec<_> = futures::stream::iter(requests)
        .map(|body| {
            let (address, authorization) = (&address, &authorization);
            async move { post(web, address, authorization, &body).await }
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut sent = Delivery::default();
    let mut refused = None;
    for (index, answer) in answers.into_iter().enumerate() {
        match answer.and_then(|(status, said)| judged(status, &said)) {
            Ok(None) => sent.successes += 1,
            Ok(Some(reason)) => sent.failed.push((index, reason)),
            Err(error) => {
                sent.failed.push((index, error.message.clone()));
                refused = Some(error);
            }
        }
    }
    match refused {
        // Where some were told, doing it all again would tell them twice.
        Some(error) if sent.successes == 0 => Err(error),
        _ => Ok(sent),
    }
}

/// Why this device was not told: it is gone, or no device. Anything else is of all of them, and an error.
fn judged(status: StatusCode, said: &Value) -> Result<Option<String>, ServiceError> {
    let error = said.get("error");
    let text = |name: &str| error?.get(name)?.as_str();
    match status {
        status if status.is_success() => Ok(None),
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => {
            let reason = fcm_code(said).or_else(|| text("status"));
            Ok(Some(reason.unwrap_or("UNKNOWN").to_owned()))
        }
        status => Err(failed(status, text("message"))),
    }
}

/// What Firebase itself calls the failure, such as `UNREGISTERED`.
fn fcm_code(said: &Value) -> Option<&str> {
    let details = said.get("error")?.get("details")?.as_array()?;
    details
        .iter()
        .find_map(|detail| detail.get("errorCode")?.as_str())
}

/// The message without its receiver.
fn message(push: &Push<'_>) -> Result<Map<String, Value>, ServiceError> {
    let mut message = Map::new();
    let mut android = Map::new();
    let mut aps = Map::new();
    if let Some(data) = push.data {
        let fields = data
            .iter()
            .map(|(name, value)| (name.clone(), json!(data_text(value))));
        message.insert("data".to_owned(), Value::Object(fields.collect()));
    }
    if let Some(notification) = push.notification {
        let (common, of_android) = notification_of(notification, &mut aps)?;
        message.insert("notification".to_owned(), Value::Object(common));
        if !of_android.is_empty() {
            android.insert("notification".to_owned(), Value::Object(of_android));
        }
    }
    let mut apns_headers = Map::new();
    if let Some(is_urgent) = push.is_urgent {
        let (word, number) = if is_urgent {
            ("high", "10")
        } else {
            ("normal", "5")
        };
        android.insert("priority".to_owned(), json!(word));
        apns_headers.insert("apns-priority".to_owned(), json!(number));
    }
    if let Some(key) = push.collapse_key {
        android.insert("collapse_key".to_owned(), json!(key));
        apns_headers.insert("apns-collapse-id".to_owned(), json!(key));
    }
    if let Some(seconds) = push.time_to_live {
        android.insert("ttl".to_owned(), json!(format!("{seconds}s")));
    }
    for (name, flag) in [
        ("content-available", push.is_content_available),
        ("mutable-content", push.is_mutable_content),
    ] {
        if flag {
            aps.insert(name.to_owned(), json!(1));
        }
    }
    let mut apns = Map::new();
    if !apns_headers.is_empty() {
        apns.insert("headers".to_owned(), Value::Object(apns_headers));
    }
    if !aps.is_empty() {
        apns.insert("payload".to_owned(), json!({ "aps": aps }));
    }
    for (name, part) in [("android", android), ("apns", apns)] {
        if !part.is_empty() {
            message.insert(name.to_owned(), Value::Object(part));
        }
    }
    Ok(message)
}

type Fields = Map<String, Value>;

/// What all systems show, and what only Android does; what only Apple's do goes to `aps`.
fn notification_of(given: &Document, aps: &mut Fields) -> Result<(Fields, Fields), ServiceError> {
    let mut common = Fields::new();
    let mut android = Fields::new();
    for (name, value) in given {
        let android_name = match name.as_str() {
            "title" | "body" | "image" => {
                common.insert(name.clone(), json!(data_text(value)));
                continue;
            }
            "badge" => {
                aps.insert(name.clone(), badge(given)?);
                continue;
            }
            "sound" => {
                aps.insert(name.clone(), json!(data_text(value)));
                "sound"
            }
            "icon" | "tag" | "color" => name,
            "clickAction" | "click_action" => "click_action",
            "bodyLocKey" | "body_loc_key" => "body_loc_key",
            "bodyLocArgs" | "body_loc_args" => "body_loc_args",
            "titleLocKey" | "title_loc_key" => "title_loc_key",
            "titleLocArgs" | "title_loc_args" => "title_loc_args",
            _ => {
                return Err(ServiceError::of_arguments(format!(
                    "a notification knows no `{name}`"
                )));
            }
        };
        let value = match value.as_array() {
            Some(values) => json!(values.iter().map(data_text).collect::<Vec<_>>()),
            None => json!(data_text(value)),
        };
        android.insert(android_name.to_owned(), value);
    }
    Ok((common, android))
}

/// Apple's systems want a number, which the older API took as a text.
fn badge(given: &Document) -> Result<Value, ServiceError> {
    if let Some(number) = given
        .get_str("badge")
        .ok()
        .and_then(|text| text.parse::<i64>().ok())
    {
        return Ok(json!(number));
    }
    Ok(json!(arguments::whole(given, "badge")?))
}
