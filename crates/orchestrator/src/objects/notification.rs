//! What messages say that tell the creation of objects.

use chrono::{DateTime, Utc};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::CreatedObject;

/// How often one message may be wrapped into another.
const ENVELOPES: usize = 3;

/// Reads a notification of S3, as it is or from SNS, or an event of EventBridge. What is no creation
/// answers nothing; what is none of these is `None`.
pub(super) fn read(body: &str) -> Option<Vec<CreatedObject>> {
    let mut body: Value = serde_json::from_str(body).ok()?;
    for _ in 0..ENVELOPES {
        if body["Type"] != "Notification" {
            break;
        }
        body = serde_json::from_str(body["Message"].as_str()?).ok()?;
    }
    if body["Event"] == "s3:TestEvent" {
        return Some(Vec::new());
    }
    if let Some(kind) = body["detail-type"].as_str() {
        return match kind {
            "Object Created" => Some(vec![of_event_bridge(&body)?]),
            _ => Some(Vec::new()),
        };
    }
    body["Records"]
        .as_array()?
        .iter()
        .filter_map(|record| match record["eventName"].as_str() {
            // Some that imitate S3 put `s3:` in front.
            Some(name) => {
                let name = name.strip_prefix("s3:").unwrap_or(name);
                name.starts_with("ObjectCreated:").then(|| of_s3(record))
            }
            None => Some(None),
        })
        .collect()
}

fn of_s3(record: &Value) -> Option<CreatedObject> {
    let key = record["s3"]["object"]["key"].as_str()?.replace('+', " ");
    let key = percent_decode_str(&key).decode_utf8_lossy().into_owned();
    created(
        &record["s3"]["bucket"],
        &record["s3"]["object"],
        key,
        "versionId",
        &record["eventTime"],
    )
}

fn of_event_bridge(event: &Value) -> Option<CreatedObject> {
    let detail = &event["detail"];
    let key = detail["object"]["key"].as_str()?.to_owned();
    created(
        &detail["bucket"],
        &detail["object"],
        key,
        "version-id",
        &event["time"],
    )
}

fn created(
    bucket: &Value,
    object: &Value,
    key: String,
    version: &str,
    at: &Value,
) -> Option<CreatedObject> {
    let bucket = bucket["name"].as_str()?.to_owned();
    let time = at.as_str();
    let version = object[version]
        .as_str()
        // So S3 calls the version of an object of a bucket that keeps none.
        .filter(|version| !version.is_empty() && *version != "null");
    let creation = version.or(object["sequencer"].as_str()).or(time)?;
    let at = time.and_then(|time| DateTime::parse_from_rfc3339(time).ok());
    Some(CreatedObject {
        id: format!("{bucket}/{key}/{creation}"),
        size: object["size"].as_u64(),
        at: at.map_or_else(Utc::now, |at| at.to_utc()),
        bucket: Some(bucket),
        key,
    })
}
