//! SES: mails, described as its first API does and sent by its second.

use bson::{Bson, Document};
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Map, Value, json};

use super::send::{AwsRequest, Errors, Service};
use super::{AwsClient, AwsError, needed, only_known, unknown_action, wire};

const SES: Service = Service {
    signing: "ses",
    host: "email",
    id: "SESv2",
    errors: Errors::Json,
};

/// Members that all actions have, and what the second API calls them.
const COMMON: [(&str, &str); 6] = [
    ("SourceArn", "FromEmailAddressIdentityArn"),
    ("ReplyToAddresses", "ReplyToAddresses"),
    ("ReturnPath", "FeedbackForwardingEmailAddress"),
    ("ReturnPathArn", "FeedbackForwardingEmailAddressIdentityArn"),
    ("ConfigurationSetName", "ConfigurationSetName"),
    ("Tags", "EmailTags"),
];

/// Does `SendEmail`, `SendRawEmail` or `SendTemplatedEmail`. Answers `{ MessageId }`.
pub(super) async fn call(
    client: &AwsClient,
    action: &str,
    args: &Document,
    region: Option<&str>,
) -> Result<Bson, AwsError> {
    let body = body(action, args)?;
    let mut request = AwsRequest {
        service: SES,
        region,
        method: Method::POST,
        bucket: None,
        path: "/v2/email/outbound-emails".to_owned(),
        query: Vec::new(),
        headers: HeaderMap::new(),
        body: Bytes::from(body.to_string()),
    };
    request.header("content-type", "application/json")?;
    let response = client.send(request).await?;
    let said: Value = serde_json::from_slice(&response.body).map_err(|error| {
        AwsError::new(
            "SerializationError",
            format!("the answer of SES is no JSON: {error}"),
        )
    })?;
    let id = said.get("MessageId").and_then(Value::as_str);
    Ok(Bson::Document(bson::doc! { "MessageId": id }))
}

fn body(action: &str, args: &Document) -> Result<Value, AwsError> {
    let (own, from): (&[&str], _) = match action {
        "SendEmail" => (&["Source", "Destination", "Message"], Some("Source")),
        "SendTemplatedEmail" => (
            &[
                "Source",
                "Destination",
                "Template",
                "TemplateArn",
                "TemplateData",
            ],
            Some("Source"),
        ),
        // The mail itself says whom it is from and to.
        "SendRawEmail" => (&["Source", "Destinations", "RawMessage"], None),
        _ => {
            return Err(unknown_action(
                "ses",
                action,
                &["SendEmail", "SendRawEmail", "SendTemplatedEmail"],
            ));
        }
    };
    let known: Vec<&str> = own
        .iter()
        .copied()
        .chain(COMMON.iter().map(|(name, _)| *name))
        .collect();
    only_known(args, &known)?;
    if let Some(from) = from {
        needed(args, from)?;
    }
    // Texts are texts here, but for a mail as a whole.
    let blobs: &[&str] = match action {
        "SendRawEmail" => &["Data"],
        _ => &[],
    };
    let given = wire::to_json(args, blobs)?;
    let member = |name: &str| given.get(name).cloned();
    let mut body = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    put("FromEmailAddress", member("Source"));
    put("Destination", member("Destination"));
    for (name, theirs) in COMMON {
        put(theirs, member(name));
    }
    let missing = |name: &str| AwsError::of_parameter(format!("`{name}` is missing"));
    let content = match action {
        "SendEmail" => json!({ "Simple": member("Message").ok_or_else(|| missing("Message"))? }),
        "SendTemplatedEmail" => {
            let mut template = Map::new();
            for (name, theirs) in [
                ("Template", "TemplateName"),
                ("TemplateArn", "TemplateArn"),
                ("TemplateData", "TemplateData"),
            ] {
                if let Some(value) = member(name) {
                    template.insert(theirs.to_owned(), value);
                }
            }
            json!({ "Template": template })
        }
        _ => {
            if let Some(to) = member("Destinations") {
                put("Destination", Some(json!({ "ToAddresses": to })));
            }
            json!({ "Raw": member("RawMessage").ok_or_else(|| missing("RawMessage"))? })
        }
    };
    put("Content", Some(content));
    Ok(Value::Object(body))
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn mails_are_described_in_the_words_of_the_second_api() {
        let args = doc! {
            "Source": "a@example.com",
            "Destination": { "ToAddresses": ["b@example.com"], "CcAddresses": ["c@example.com"] },
            "Message": {
                "Subject": { "Data": "Hi", "Charset": "UTF-8" },
                "Body": { "Text": { "Data": "text" }, "Html": { "Data": "<p>" } },
            },
            "ReplyToAddresses": ["d@example.com"],
            "ReturnPath": "e@example.com",
            "Tags": [{ "Name": "n", "Value": "v" }],
        };
        let expected = json!({
            "FromEmailAddress": "a@example.com",
            "Destination": { "ToAddresses": ["b@example.com"], "CcAddresses": ["c@example.com"] },
            "ReplyToAddresses": ["d@example.com"],
            "FeedbackForwardingEmailAddress": "e@example.com",
            "EmailTags": [{ "Name": "n", "Value": "v" }],
            "Content": { "Simple": {
                "Subject": { "Data": "Hi", "Charset": "UTF-8" },
                "Body": { "Text": { "Data": "text" }, "Html": { "Data": "<p>" } },
            } },
        });
        assert_eq!(body("SendEmail", &args).unwrap(), expected);
        let raw = doc! { "Destinations": ["b@example.com"], "RawMessage": { "Data": "From: a" } };
        let expected = json!({
            "Destination": { "ToAddresses": ["b@example.com"] },
            "Content": { "Raw": { "Data": "RnJvbTogYQ==" } },
        });
        assert_eq!(body("SendRawEmail", &raw).unwrap(), expected);
        let template = doc! { "Source": "a@example.com", "Template": "t", "TemplateData": "{}" };
        let expected = json!({
            "FromEmailAddress": "a@example.com",
            "Content": { "Template": { "TemplateName": "t", "TemplateData": "{}" } },
        });
        assert_eq!(body("SendTemplatedEmail", &template).unwrap(), expected);
    }

    #[test]
    fn what_is_not_known_is_not_left_out_in_silence() {
        let args = doc! { "Source": "a@example.com", "Messages": {} };
        let error = body("SendEmail", &args).unwrap_err();
        assert!(error.message.contains("Messages"), "{error}");
        let error = body("SendBulk", &Document::new()).unwrap_err();
        assert!(error.message.contains("SendRawEmail"), "{error}");
    }
}
