//! What is asked of Kinesis.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tributary_model::{Error, ErrorKind};

use super::record::Record;
use crate::services::{AwsClient, AwsError};

/// A stream that records are put into.
#[async_trait]
pub(super) trait StreamApi: Send + Sync {
    /// How many bytes a record may have with its key; none where the stream does not say.
    async fn record_bytes(&self) -> Result<Option<usize>, AwsError>;

    /// Puts records into the stream in one request. Answers for each why it was not taken; none where it was.
    async fn put(&self, records: &[Record]) -> Result<Vec<Option<String>>, AwsError>;
}

/// The stream of this name.
pub(super) struct Kinesis {
    client: AwsClient,
    stream: String,
}

impl Kinesis {
    pub(super) fn new(client: AwsClient, stream: String) -> Self {
        Self { client, stream }
    }
}

#[async_trait]
impl StreamApi for Kinesis {
    async fn record_bytes(&self) -> Result<Option<usize>, AwsError> {
        let asked = json!({ "StreamName": self.stream });
        let answer = self
            .client
            .call_json("kinesis", "DescribeStreamSummary", asked)
            .await?;
        let kib = &answer["StreamDescriptionSummary"]["MaxRecordSizeInKiB"];
        let kib = kib.as_u64().and_then(|kib| usize::try_from(kib).ok());
        Ok(kib.map(|kib| kib * 1024))
    }

    async fn put(&self, records: &[Record]) -> Result<Vec<Option<String>>, AwsError> {
        let records: Vec<Value> = records
            .iter()
            .map(|record| {
                json!({ "PartitionKey": record.key, "Data": STANDARD.encode(&record.data) })
            })
            .collect();
        let asked = json!({ "StreamName": self.stream, "Records": records });
        let answer = self
            .client
            .call_json("kinesis", "PutRecords", asked)
            .await?;
        let results = answer["Records"].as_array();
        let results = results.map(Vec::as_slice).unwrap_or_default();
        Ok(results.iter().map(refusal).collect())
    }
}

/// Why a record was not taken.
fn refusal(result: &Value) -> Option<String> {
    let code = result["ErrorCode"].as_str()?;
    let message = result["ErrorMessage"].as_str().unwrap_or_default();
    Some(format!("{code}: {message}"))
}

/// Whether it is not allowed to be asked.
pub(super) fn is_forbidden(error: &AwsError) -> bool {
    matches!(
        error.code.as_str(),
        "AccessDenied" | "AccessDeniedException"
    )
}

/// The error of what was asked.
pub(super) fn failed(what: &str, error: AwsError) -> Error {
    let (kind, remedy) = match error.code.as_str() {
        "ResourceNotFoundException" => (
            ErrorKind::NotFound,
            "create the stream first, or correct its name or the region, AWS_REGION",
        ),
        _ if is_forbidden(&error) => (
            ErrorKind::Forbidden,
            "allow kinesis:PutRecords on the stream to these credentials, and kinesis:DescribeStreamSummary, which says \
             how large its records may be",
        ),
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "ExpiredTokenException"
        | "NoCredentialProviders"
        | "SignatureError" => (
            ErrorKind::Unauthenticated,
            "check the credentials in the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, \
             AWS_SESSION_TOKEN; or the role of this machine",
        ),
        "MissingRegion" => (
            ErrorKind::Usage,
            "set AWS_REGION, or name the region: kinesis://STREAM?region=REGION, or `region` of the stream in the file",
        ),
        "KMSDisabledException"
        | "KMSAccessDeniedException"
        | "KMSNotFoundException"
        | "KMSInvalidStateException"
        | "KMSOptInRequired" => (
            ErrorKind::Forbidden,
            "check the key of KMS that the stream is encrypted with, and that these credentials may use it",
        ),
        _ if error.is_transient => {
            let kind = match error.status {
                Some(_) => ErrorKind::Unavailable,
                None => ErrorKind::Unreachable,
            };
            (
                kind,
                "check the endpoint, the region and the network; what was done is kept",
            )
        }
        _ => (ErrorKind::Storage, "see what the service says"),
    };
    Error::new(kind, what).because(error).remedy(remedy)
}
