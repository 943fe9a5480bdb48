//! The older API of Firebase Cloud Messaging: one request for all devices.

use serde_json::{Map, Value, json};

use super::{Delivery, Push, data_text, failed, post};
use crate::services::web::Web;
use crate::services::{Secret, ServiceError};

pub(super) async fn send(
    web: &Web,
    base: &str,
    key: &Secret,
    push: &Push<'_>,
) -> Result<Delivery, ServiceError> {
    let address = format!("{}/fcm/send", base.trim_end_matches('/'));
    let authorization = format!("key={}", key.as_str());
    let (status, said) = post(web, &address, &authorization, &message(push)).await?;
    if !status.is_success() {
        return Err(failed(status, said.get("error").and_then(Value::as_str)));
    }
    let number = |name: &str| said.get(name).and_then(Value::as_i64).unwrap_or(0);
    let mut sent = Delivery {
        successes: i32::try_from(number("success")).unwrap_or(i32::MAX),
        failed: Vec::new(),
    };
    let results = said.get("results").and_then(Value::as_array);
    for (index, result) in results.into_iter().flatten().enumerate() {
        if let Some(error) = result.get("error").and_then(Value::as_str) {
            sent.failed.push((index, error.to_owned()));
        }
    }
    // A topic's answer has an id or an error, and no results.
    if said.get("message_id").is_some() {
        sent.successes = 1;
    } else if let Some(error) = said.get("error").and_then(Value::as_str) {
        sent.failed.push((0, error.to_owned()));
    }
    Ok(sent)
}

fn message(push: &Push<'_>) -> Value {
    let mut message = Map::new();
    let mut put = |name: &str, value: Value| {
        message.insert(name.to_owned(), value);
    };
    match push.to {
        Some(to) => put("to", json!(to)),
        None => put("registration_ids", json!(push.tokens)),
    }
    if let Some(notification) = push.notification {
        let fields = notification.iter().map(|(name, value)| {
            let value = value.clone().into_relaxed_extjson();
            (snake_case(name), value)
        });
        put("notification", Value::Object(fields.collect()));
    }
    if let Some(data) = push.data {
        let fields = data
            .iter()
            .map(|(name, value)| (name.clone(), json!(data_text(value))));
        put("data", Value::Object(fields.collect()));
    }
    if let Some(is_urgent) = push.is_urgent {
        put("priority", json!(if is_urgent { "high" } else { "normal" }));
    }
    if let Some(key) = push.collapse_key {
        put("collapse_key", json!(key));
    }
    for (name, flag) in [
        ("content_available", push.is_content_available),
        ("mutable_content", push.is_mutable_content),
        ("dry_run", push.is_dry_run),
    ] {
        if flag {
            put(name, json!(true));
        }
    }
    if let Some(seconds) = push.time_to_live {
        put("time_to_live", json!(seconds));
    }
    Value::Object(message)
}

/// `clickAction` as `click_action`.
fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 2);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}
