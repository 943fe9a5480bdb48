//! The settings of an S3 bucket that keep a lake safe: versioning, default encryption and access
//! logs. They are told, and set where that is asked for.

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Builder, Credentials, Region};
use aws_sdk_s3::error::{BuildError, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{
    BucketLoggingStatus, BucketVersioningStatus, LoggingEnabled, ServerSideEncryption,
    ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration, ServerSideEncryptionRule,
    VersioningConfiguration,
};
use object_store::ClientConfigKey;
use object_store::aws::AmazonS3ConfigKey;
use serde::Serialize;
use tributary_model::{Error, ErrorKind, Result};
use url::Url;

use crate::error::{CREDENTIALS, chain};
use crate::location::{Location, s3_settings};

/// How long one request, with its repetitions, may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A setting of a bucket, as far as it can be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Setting<T> {
    /// It is this.
    Known(T),
    /// The credentials lack this privilege, which seeing it takes.
    NotPermitted(&'static str),
    /// The store has no such setting.
    NotSupported,
}

/// Whether replaced and removed objects are kept as earlier versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Versioning {
    /// They are kept.
    Enabled,
    /// They were kept once, and are not now.
    Suspended,
    /// They never were.
    Off,
}

/// What objects are encrypted with unless their writer says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Encryption {
    /// `AES256`, `aws:kms` or `aws:kms:dsse`.
    pub algorithm: String,
    /// The key, where one was named.
    pub kms_key: Option<String>,
}

/// Where the logs of all requests to a bucket go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessLogs {
    /// The bucket.
    pub bucket: String,
    /// What the names of the logs begin with.
    pub prefix: String,
}

/// What is set of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BucketSettings {
    /// Whether earlier versions of objects are kept.
    pub versioning: Setting<Versioning>,
    /// The default encryption, if any.
    pub encryption: Setting<Option<Encryption>>,
    /// Where access is logged, if it is.
    pub access_logs: Setting<Option<AccessLogs>>,
}

impl Versioning {
    /// The privilege that changing it takes.
    pub const PRIVILEGE: &'static str = "s3:PutBucketVersioning";
}

impl Encryption {
    /// The privilege that changing it takes.
    pub const PRIVILEGE: &'static str = "s3:PutEncryptionConfiguration";

    /// Whether it uses a key, named by its ARN or its id alone.
    #[must_use]
    pub fn uses(&self, key: &str) -> bool {
        let id = |key: &str| key.rsplit_once(":key/").map(|(_, id)| id.to_owned());
        self.kms_key.as_deref().is_some_and(|ours| {
            ours == key || id(ours).as_deref() == Some(key) || id(key).as_deref() == Some(ours)
        })
    }
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.algorithm)?;
        match &self.kms_key {
            Some(key) => write!(f, " with {key}"),
            None => Ok(()),
        }
    }
}

impl AccessLogs {
    /// The privilege that changing it takes.
    pub const PRIVILEGE: &'static str = "s3:PutBucketLogging";

    /// Parses `s3://bucket/prefix`. The prefix ends with a slash, so that logs are in a directory.
    ///
    /// # Errors
    /// It is no such address.
    pub fn parse(text: &str) -> Result<Self> {
        let rest = text.strip_prefix("s3://");
        let (bucket, prefix) = rest.map_or(("", ""), |r| r.split_once('/').unwrap_or((r, "")));
        if bucket.is_empty() {
            return Err(Error::new(ErrorKind::Usage, "not a place for access logs")
                .on("place", text)
                .remedy("name a prefix of a bucket, s3://bucket/prefix"));
        }
        let prefix = match prefix.trim_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix,
        })
    }
}

impl fmt::Display for AccessLogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)
    }
}

/// The bucket of a lake in S3.
#[derive(Debug)]
pub struct Bucket {
    client: Client,
    name: String,
}

impl Bucket {
    /// The bucket that a place is in; none where the place is not in S3. It is reached with the
    /// credentials and at the endpoint that the lake is.
    ///
    /// # Errors
    /// There are no credentials, or the endpoint may not be used.
    pub async fn of(place: &Location) -> Result<Option<Self>> {
        let Some(name) = place.bucket() else {
            return Ok(None);
        };
        let settings = s3_settings(name);
        let is_true = |key| settings.get_config_value(&key).as_deref() == Some("true");
        let mut config = Builder::new()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .timeout_config(TimeoutConfig::builder().operation_timeout(LIMIT).build());
        config = if is_true(AmazonS3ConfigKey::SkipSignature) {
            config.allow_no_auth()
        } else {
            let (_, keys) = Location::s3_with_keys(place.root_address())?;
            let keys = keys.get_credential().await;
            let keys = keys.map_err(|error| place.failed("there are no keys", error))?;
            config.credentials_provider(Credentials::new(
                keys.key_id.as_str(),
                keys.secret_key.as_str(),
                keys.token.clone(),
                None,
                "tributary",
            ))
        };
        let region = settings.get_config_value(&AmazonS3ConfigKey::Region);
        // What the lake's own requests take where none is given.
        config = config.region(Region::new(
            region.unwrap_or_else(|| "us-east-1".to_owned()),
        ));
        let endpoint = settings
            .get_config_value(&AmazonS3ConfigKey::S3Endpoint)
            .or_else(|| settings.get_config_value(&AmazonS3ConfigKey::Endpoint));
        if let Some(endpoint) = endpoint {
            let allow_http = AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp);
            if endpoint.starts_with("http://") && !is_true(allow_http) {
                return Err(
                    Error::new(ErrorKind::Usage, "the endpoint speaks plain HTTP")
                        .on("endpoint", endpoint)
                        .remedy("use https://, or set AWS_ALLOW_HTTP=true"),
                );
            }
            let hosted = is_true(AmazonS3ConfigKey::VirtualHostedStyleRequest);
            let endpoint = match hosted {
                true => without_bucket(&endpoint, name),
                false => endpoint,
            };
            config = config.endpoint_url(endpoint).force_path_style(!hosted);
        }
        Ok(Some(Self {
            client: Client::from_conf(config.build()),
            name: name.to_owned(),
        }))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Looks at what is set. What may not be seen is told as such.
    ///
    /// # Errors
    /// There is no such bucket, the credentials are not accepted, or the store does not answer.
    pub async fn settings(&self) -> Result<BucketSettings> {
        let (versioning, encryption, access_logs) =
            tokio::try_join!(self.versioning(), self.encryption(), self.access_logs())?;
        Ok(BucketSettings {
            versioning,
            encryption,
            access_logs,
        })
    }

    async fn versioning(&self) -> Result<Setting<Versioning>> {
        let asked = self.client.get_bucket_versioning().bucket(&self.name);
        let answer = asked.send().await;
        // Some stores name the root of their answer otherwise than S3 does, which cannot be parsed then.
        if let Err(unparsed) = &answer
            && let Some(response) = unparsed.raw_response()
            && response.status().is_success()
            && let Some(body) = response.body().bytes()
        {
            return Ok(Setting::Known(versioning_in(&String::from_utf8_lossy(
                body,
            ))));
        }
        self.seen(answer, "s3:GetBucketVersioning", |answer| {
            match answer.status() {
                Some(BucketVersioningStatus::Enabled) => Versioning::Enabled,
                Some(BucketVersioningStatus::Suspended) => Versioning::Suspended,
                _ => Versioning::Off,
            }
        })
    }

    async fn encryption(&self) -> Result<Setting<Option<Encryption>>> {
        const NONE: &str = "ServerSideEncryptionConfigurationNotFoundError";
        let asked = self.client.get_bucket_encryption().bucket(&self.name);
        let answer = asked.send().await;
        if answer
            .as_ref()
            .is_err_and(|error| error.code() == Some(NONE))
        {
            return Ok(Setting::Known(None));
        }
        self.seen(answer, "s3:GetEncryptionConfiguration", |answer| {
            let rules = answer.server_side_encryption_configuration()?.rules();
            let default = rules
                .iter()
                .find_map(ServerSideEncryptionRule::apply_server_side_encryption_by_default)?;
            Some(Encryption {
                algorithm: default.sse_algorithm().as_str().to_owned(),
                kms_key: default.kms_master_key_id().map(str::to_owned),
            })
        })
    }

    async fn access_logs(&self) -> Result<Setting<Option<AccessLogs>>> {
        let asked = self.client.get_bucket_logging().bucket(&self.name);
        self.seen(asked.send().await, "s3:GetBucketLogging", |answer| {
            answer.logging_enabled().map(|logs| AccessLogs {
                bucket: logs.target_bucket().to_owned(),
                prefix: logs.target_prefix().to_owned(),
            })
        })
    }

    /// Has replaced and removed objects kept as earlier versions.
    ///
    /// # Errors
    /// The privilege [`Versioning::PRIVILEGE`] is missing (`Forbidden`), or the store refuses.
    pub async fn enable_versioning(&self) -> Result<()> {
        let configuration = VersioningConfiguration::builder()
            .status(BucketVersioningStatus::Enabled)
            .build();
        let asked = self.client.put_bucket_versioning().bucket(&self.name);
        let answer = asked.versioning_configuration(configuration).send().await;
        self.set(answer, "cannot enable versioning", Versioning::PRIVILEGE)
    }

    /// Has objects encrypted by default: with keys of S3's own (`AES256`), or with this key of KMS.
    ///
    /// # Errors
    /// The privilege [`Encryption::PRIVILEGE`] is missing (`Forbidden`), or the store refuses.
    pub async fn set_encryption(&self, kms_key: Option<&str>) -> Result<()> {
        let algorithm = match kms_key {
            Some(_) => ServerSideEncryption::AwsKms,
            None => ServerSideEncryption::Aes256,
        };
        let default = ServerSideEncryptionByDefault::builder()
            .sse_algorithm(algorithm)
            .set_kms_master_key_id(kms_key.map(str::to_owned))
            .build()
            .map_err(incomplete)?;
        // The whole configuration is replaced: what else is said in it is kept.
        let asked = self.client.get_bucket_encryption().bucket(&self.name);
        let before = asked.send().await.ok();
        let blocked = before
            .as_ref()
            .and_then(|answer| answer.server_side_encryption_configuration())
            .and_then(|configuration| configuration.rules().first())
            .and_then(|rule| rule.blocked_encryption_types().cloned());
        let mut rule = ServerSideEncryptionRule::builder()
            .apply_server_side_encryption_by_default(default)
            // One request to KMS for many objects.
            .set_bucket_key_enabled(kms_key.map(|_| true));
        if let Some(blocked) = blocked {
            rule = rule.blocked_encryption_types(blocked);
        }
        let configuration = ServerSideEncryptionConfiguration::builder()
            .rules(rule.build())
            .build()
            .map_err(incomplete)?;
        let asked = self.client.put_bucket_encryption().bucket(&self.name);
        let asked = asked.server_side_encryption_configuration(configuration);
        let what = "cannot set the default encryption";
        self.set(asked.send().await, what, Encryption::PRIVILEGE)
    }

    /// Has access to the bucket logged.
    ///
    /// # Errors
    /// The privilege [`AccessLogs::PRIVILEGE`] is missing (`Forbidden`), or the logs cannot go there.
    pub async fn log_access(&self, logs: &AccessLogs) -> Result<()> {
        let enabled = LoggingEnabled::builder()
            .target_bucket(&logs.bucket)
            .target_prefix(&logs.prefix)
            .build()
            .map_err(incomplete)?;
        let status = BucketLoggingStatus::builder()
            .logging_enabled(enabled)
            .build();
        let asked = self.client.put_bucket_logging().bucket(&self.name);
        let answer = asked.bucket_logging_status(status).send().await;
        self.set(answer, "cannot have access logged", AccessLogs::PRIVILEGE)
            .map_err(|error| error.on("logs", logs))
    }

    /// What an answer says of a setting.
    fn seen<A, S, E: ProvideErrorMetadata + std::error::Error + 'static>(
        &self,
        answer: std::result::Result<A, SdkError<E>>,
        privilege: &'static str,
        read: impl FnOnce(A) -> S,
    ) -> Result<Setting<S>> {
        match answer {
            Ok(answer) => Ok(Setting::Known(read(answer))),
            Err(error) => match Refusal::of(&error) {
                Refusal::NotPermitted => Ok(Setting::NotPermitted(privilege)),
                Refusal::NotSupported => Ok(Setting::NotSupported),
                other => Err(self.failed("cannot see the bucket's settings", other, &error)),
            },
        }
    }

    fn set<A, E: ProvideErrorMetadata + std::error::Error + 'static>(
        &self,
        answer: std::result::Result<A, SdkError<E>>,
        what: &'static str,
        privilege: &'static str,
    ) -> Result<()> {
        match answer {
            Ok(_) => Ok(()),
            Err(error) => match Refusal::of(&error) {
                Refusal::NotPermitted => {
                    let remedy = format!("grant the privilege {privilege}");
                    let told = self.failed(what, Refusal::NotPermitted, &error);
                    Err(told.remedy(remedy))
                }
                other => Err(self.failed(what, other, &error)),
            },
        }
    }

    fn failed<E: ProvideErrorMetadata + std::error::Error + 'static>(
        &self,
        what: &'static str,
        refusal: Refusal,
        error: &SdkError<E>,
    ) -> Error {
        let told = |kind| Error::new(kind, what).on("bucket", &self.name);
        let told = match refusal {
            Refusal::NotPermitted => told(ErrorKind::Forbidden),
            Refusal::NotSupported => told(ErrorKind::Storage)
                .remedy("this store has no such setting: leave it to the store's own means"),
            Refusal::Unauthenticated => told(ErrorKind::Unauthenticated).remedy(CREDENTIALS),
            Refusal::NoSuchBucket => told(ErrorKind::NotFound)
                .remedy("create the bucket or container first, or correct its name"),
            Refusal::OtherRegion => {
                told(ErrorKind::Usage).remedy("set AWS_REGION to the bucket's own region")
            }
            Refusal::NoPlaceForLogs => told(ErrorKind::Usage).remedy(
                "name a bucket of the same account and region, and let logging.s3.amazonaws.com write there: \
                 its bucket policy must allow that principal s3:PutObject below the prefix",
            ),
            Refusal::Unavailable => told(ErrorKind::Unavailable),
            Refusal::Unreachable => told(ErrorKind::Unreachable),
            Refusal::Other => told(ErrorKind::Storage),
        };
        match (error.code(), error.message()) {
            (Some(code), Some(message)) => told.because(format!("{message} ({code})")),
            (Some(code), None) => told.because(code.to_owned()),
            // The causes of what is no answer are not in its own text.
            _ => told.because(chain(error)),
        }
    }
}

/// Why a request was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    NotPermitted,
    NotSupported,
    Unauthenticated,
    NoSuchBucket,
    OtherRegion,
    NoPlaceForLogs,
    Unavailable,
    Unreachable,
    Other,
}

impl Refusal {
    fn of<E: ProvideErrorMetadata>(error: &SdkError<E>) -> Self {
        let Some(response) = error.raw_response() else {
            return Self::Unreachable;
        };
        // https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
        match error.code().unwrap_or_default() {
            "AccessDenied" | "AllAccessDisabled" | "UnauthorizedAccess" => Self::NotPermitted,
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "InvalidToken"
            | "TokenRefreshRequired" => Self::Unauthenticated,
            "NoSuchBucket" => Self::NoSuchBucket,
            "PermanentRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException" => Self::OtherRegion,
            "InvalidTargetBucketForLogging" | "CrossLocationLoggingProhibited" => {
                Self::NoPlaceForLogs
            }
            "NotImplemented" | "MethodNotAllowed" | "UnsupportedOperation" => Self::NotSupported,
            "SlowDown" | "ServiceUnavailable" | "InternalError" | "OperationAborted" => {
                Self::Unavailable
            }
            _ => match response.status().as_u16() {
                401 | 403 => Self::NotPermitted,
                404 => Self::NoSuchBucket,
                405 | 501 => Self::NotSupported,
                429 | 500..600 => Self::Unavailable,
                _ => Self::Other,
            },
        }
    }
}

/// What a store says of versioning, whatever it calls its answer.
fn versioning_in(answer: &str) -> Versioning {
    let status = answer.split_once("<Status>").map_or("", |(_, rest)| rest);
    match status.split('<').next().map(str::trim) {
        Some("Enabled") => Versioning::Enabled,
        Some("Suspended") => Versioning::Suspended,
        _ => Versioning::Off,
    }
}

fn incomplete(error: BuildError) -> Error {
    Error::new(ErrorKind::Internal, "a request to S3 is incomplete").because(error)
}

/// An endpoint without the bucket in its host, where it is there: the lake's requests want it there,
/// and these put it there themselves.
fn without_bucket(endpoint: &str, bucket: &str) -> String {
    let Ok(mut url) = Url::parse(endpoint) else {
        return endpoint.to_owned();
    };
    let host = url.host_str().unwrap_or_default().to_owned();
    let shorter = host.strip_prefix(bucket).and_then(|h| h.strip_prefix('.'));
    match shorter.map(|host| url.set_host(Some(host))) {
        Some(Ok(())) => url.as_str().trim_end_matches('/').to_owned(),
        _ => endpoint.to_owned(),
    }
}
