//! SNS: messages to topics, endpoints and phones.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bson::{Bson, Document};
use reqwest::Method;
use reqwest::header::HeaderMap;
use url::form_urlencoded;

use super::send::{AwsRequest, Errors, Service};
use super::{AwsClient, AwsError, only_known, unknown_action, xml};
use crate::services::arguments;

const SNS: Service = Service {
    signing: "sns",
    host: "sns",
    id: "SNS",
    errors: Errors::Xml,
};

const TEXTS: [&str; 8] = [
    "TopicArn",
    "TargetArn",
    "PhoneNumber",
    "Message",
    "Subject",
    "MessageStructure",
    "MessageGroupId",
    "MessageDeduplicationId",
];

/// Does `Publish`. Answers `{ MessageId, SequenceNumber? }`.
pub(super) async fn call(
    client: &AwsClient,
    action: &str,
    args: &Document,
    region: Option<&str>,
) -> Result<Bson, AwsError> {
    if action != "Publish" {
        return Err(unknown_action("sns", action, &["Publish"]));
    }
    let known: Vec<&str> = TEXTS.iter().copied().chain(["MessageAttributes"]).collect();
    only_known(args, &known)?;
    let mut request = AwsRequest {
        service: SNS,
        region,
        method: Method::POST,
        bucket: None,
        path: "/".to_owned(),
        query: Vec::new(),
        headers: HeaderMap::new(),
        body: form(args)?.into(),
    };
    request.header("content-type", "application/x-www-form-urlencoded")?;
    let response = client.send(request).await?;
    let said = String::from_utf8_lossy(&response.body);
    let mut result = Document::new();
    for name in ["MessageId", "SequenceNumber"] {
        if let Some(text) = xml::text(&said, name) {
            result.insert(name, text);
        }
    }
    Ok(Bson::Document(result))
}

fn form(args: &Document) -> Result<String, AwsError> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("Action", "Publish");
    form.append_pair("Version", "2010-03-31");
    for name in TEXTS {
        if let Some(text) = args.get(name).and_then(arguments::plain) {
            form.append_pair(name, &text);
        }
    }
    let attributes = match args.get("MessageAttributes") {
        Some(Bson::Document(attributes)) => Some(attributes),
        None | Some(Bson::Null | Bson::Undefined) => None,
        Some(_) => return Err(AwsError::of_parameter("`MessageAttributes` is no object")),
    };
    for (index, (name, attribute)) in attributes.into_iter().flatten().enumerate() {
        let at = format!("MessageAttributes.entry.{}", index + 1);
        form.append_pair(&format!("{at}.Name"), name);
        for (member, value) in attribute.as_document().into_iter().flatten() {
            let text = match value {
                Bson::Binary(binary) => Some(STANDARD.encode(&binary.bytes)),
                Bson::String(text) if member == "BinaryValue" => Some(STANDARD.encode(text)),
                value => arguments::plain(value),
            };
            if let Some(text) = text {
                form.append_pair(&format!("{at}.Value.{member}"), &text);
            }
        }
    }
    Ok(form.finish())
}
