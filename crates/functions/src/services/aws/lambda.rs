//! Lambda: calling functions.

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document};
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use reqwest::header::HeaderMap;

use super::send::{AwsRequest, Errors, Service};
use super::{AwsClient, AwsError, needed, only_known, unknown_action};
use crate::services::arguments;

const LAMBDA: Service = Service {
    signing: "lambda",
    host: "lambda",
    id: "Lambda",
    errors: Errors::Json,
};

/// What stays as it is in a part of a path.
const PART: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

pub(super) async fn call(
    client: &AwsClient,
    action: &str,
    args: &Document,
    region: Option<&str>,
) -> Result<Bson, AwsError> {
    if action != "Invoke" {
        return Err(unknown_action("lambda", action, &["Invoke"]));
    }
    let headers = [
        ("InvocationType", "x-amz-invocation-type"),
        ("LogType", "x-amz-log-type"),
        ("ClientContext", "x-amz-client-context"),
    ];
    only_known(
        args,
        &[
            "FunctionName",
            "Payload",
            "Qualifier",
            "InvocationType",
            "LogType",
            "ClientContext",
        ],
    )?;
    let function = utf8_percent_encode(needed(args, "FunctionName")?, PART);
    let mut request = AwsRequest {
        service: LAMBDA,
        region,
        method: Method::POST,
        bucket: None,
        path: format!("/2015-03-31/functions/{function}/invocations"),
        query: Vec::new(),
        headers: HeaderMap::new(),
        body: payload(args.get("Payload")),
    };
    request.header("content-type", "application/json")?;
    for (name, header) in headers {
        if let Some(value) = args.get(name).and_then(arguments::plain) {
            request.header(header, &value)?;
        }
    }
    if let Some(qualifier) = args.get("Qualifier").and_then(arguments::plain) {
        request.query.push(("Qualifier".to_owned(), qualifier));
    }
    let response = client.send(request).await?;
    let mut result = bson::doc! { "StatusCode": i32::from(response.status.as_u16()) };
    for (name, header) in [
        ("FunctionError", "x-amz-function-error"),
        ("LogResult", "x-amz-log-result"),
        ("ExecutedVersion", "x-amz-executed-version"),
    ] {
        let value = response.headers.get(header);
        if let Some(value) = value.and_then(|value| value.to_str().ok()) {
            result.insert(name, value);
        }
    }
    result.insert(
        "Payload",
        Binary {
            subtype: BinarySubtype::Generic,
            bytes: response.body.to_vec(),
        },
    );
    Ok(Bson::Document(result))
}

/// Text and bytes are JSON already; anything else is written as relaxed Extended JSON.
fn payload(given: Option<&Bson>) -> Bytes {
    match given {
        None | Some(Bson::Null | Bson::Undefined) => Bytes::new(),
        Some(Bson::String(text)) => Bytes::from(text.clone()),
        Some(Bson::Binary(binary)) => Bytes::from(binary.bytes.clone()),
        Some(value) => Bytes::from(value.clone().into_relaxed_extjson().to_string()),
    }
}
