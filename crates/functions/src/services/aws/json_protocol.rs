//! Services that take and answer JSON at one address, with the action in a header.

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::send::{AwsRequest, Errors, Service};
use super::{AwsClient, AwsError};

/// One of them.
#[derive(Debug)]
pub(super) struct JsonService {
    /// What functions call it.
    names: &'static [&'static str],
    signing: &'static str,
    host: &'static str,
    id: &'static str,
    target: &'static str,
    version: &'static str,
    /// Members that hold bytes.
    pub(super) blobs: &'static [&'static str],
    /// Members of answers that hold moments, in seconds since 1970.
    pub(super) times: &'static [&'static str],
}

const SERVICES: [JsonService; 10] = [
    JsonService {
        names: &["kinesis"],
        signing: "kinesis",
        host: "kinesis",
        id: "Kinesis",
        target: "Kinesis_20131202",
        version: "1.1",
        blobs: &["Data"],
        times: &[
            "ApproximateArrivalTimestamp",
            "StreamCreationTimestamp",
            "ConsumerCreationTimestamp",
        ],
    },
    JsonService {
        names: &["firehose"],
        signing: "firehose",
        host: "firehose",
        id: "Firehose",
        target: "Firehose_20150804",
        version: "1.1",
        blobs: &["Data"],
        times: &[
            "CreateTimestamp",
            "LastUpdateTimestamp",
            "DeliveryStartTimestamp",
        ],
    },
    JsonService {
        names: &["events", "eventbridge", "cloudwatchevents"],
        signing: "events",
        host: "events",
        id: "EventBridge",
        target: "AWSEvents",
        version: "1.1",
        blobs: &[],
        times: &[
            "CreationTime",
            "LastModifiedTime",
            "EventStartTime",
            "EventEndTime",
        ],
    },
    JsonService {
        names: &["sqs"],
        signing: "sqs",
        host: "sqs",
        id: "SQS",
        target: "AmazonSQS",
        version: "1.0",
        blobs: &["BinaryValue", "BinaryListValues"],
        times: &[],
    },
    JsonService {
        names: &["dynamodb"],
        signing: "dynamodb",
        host: "dynamodb",
        id: "DynamoDB",
        target: "DynamoDB_20120810",
        version: "1.0",
        blobs: &["B", "BS"],
        times: &["CreationDateTime", "LastUpdateDateTime"],
    },
    JsonService {
        names: &["secretsmanager"],
        signing: "secretsmanager",
        host: "secretsmanager",
        id: "Secrets Manager",
        target: "secretsmanager",
        version: "1.1",
        blobs: &["SecretBinary"],
        times: &[
            "CreatedDate",
            "DeletedDate",
            "DeletionDate",
            "LastAccessedDate",
            "LastChangedDate",
            "LastRotatedDate",
            "NextRotationDate",
        ],
    },
    JsonService {
        names: &["ssm"],
        signing: "ssm",
        host: "ssm",
        id: "SSM",
        target: "AmazonSSM",
        version: "1.1",
        blobs: &[],
        times: &["LastModifiedDate"],
    },
    JsonService {
        names: &["kms"],
        signing: "kms",
        host: "kms",
        id: "KMS",
        target: "TrentService",
        version: "1.1",
        blobs: &[
            "CiphertextBlob",
            "Mac",
            "Message",
            "Plaintext",
            "PrivateKeyCiphertextBlob",
            "PrivateKeyPlaintext",
            "PublicKey",
            "Signature",
        ],
        times: &["CreationDate", "DeletionDate", "ValidTo"],
    },
    JsonService {
        names: &["logs", "cloudwatchlogs"],
        signing: "logs",
        host: "logs",
        id: "CloudWatch Logs",
        target: "Logs_20140328",
        version: "1.1",
        blobs: &[],
        times: &[],
    },
    JsonService {
        names: &["states", "sfn", "stepfunctions"],
        signing: "states",
        host: "states",
        id: "SFN",
        target: "AWSStepFunctions",
        version: "1.0",
        blobs: &[],
        times: &[
            "creationDate",
            "startDate",
            "stopDate",
            "updateDate",
            "timestamp",
        ],
    },
];

/// The service that functions call so.
pub(super) fn service(name: &str) -> Option<&'static JsonService> {
    SERVICES
        .iter()
        .find(|service| service.names.contains(&name))
}

/// What functions call them, first of all.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    SERVICES
        .iter()
        .filter_map(|service| service.names.first().copied())
}

pub(super) async fn call(
    client: &AwsClient,
    service: &JsonService,
    action: &str,
    body: &Value,
    region: Option<&str>,
) -> Result<Value, AwsError> {
    let mut request = AwsRequest {
        service: Service {
            signing: service.signing,
            host: service.host,
            id: service.id,
            errors: Errors::Json,
        },
        region,
        method: Method::POST,
        bucket: None,
        path: "/".to_owned(),
        query: Vec::new(),
        headers: HeaderMap::new(),
        body: Bytes::from(body.to_string()),
    };
    let kind = format!("application/x-amz-json-{}", service.version);
    request.header("content-type", &kind)?;
    request.header("x-amz-target", &format!("{}.{action}", service.target))?;
    let response = client.send(request).await?;
    if response.body.is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    serde_json::from_slice(&response.body).map_err(|error| {
        AwsError::new(
            "SerializationError",
            format!("the answer of {} is no JSON: {error}", service.id),
        )
    })
}
