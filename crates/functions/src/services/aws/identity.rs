//! Credentials, regions and endpoints.

use std::time::{Duration, SystemTime};

use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use tokio::sync::{Mutex, OnceCell};

use super::{AwsError, AwsSettings};

/// Credentials are renewed this long before they end, as a request takes its time.
const MARGIN: Duration = Duration::from_secs(300);
/// Those without an end may be replaced, in a file say.
const LIFE: Duration = Duration::from_secs(900);

pub(super) struct Identity {
    settings: AwsSettings,
    config: OnceCell<SdkConfig>,
    provider: OnceCell<SharedCredentialsProvider>,
    current: Mutex<Option<(Credentials, SystemTime)>>,
}

impl Identity {
    pub(super) fn new(settings: AwsSettings) -> Self {
        Self {
            settings,
            config: OnceCell::new(),
            provider: OnceCell::new(),
            current: Mutex::new(None),
        }
    }

    pub(super) async fn credentials(&self) -> Result<Credentials, AwsError> {
        let mut current = self.current.lock().await;
        let now = SystemTime::now();
        if let Some((credentials, until)) = current.as_ref()
            && now < *until
        {
            return Ok(credentials.clone());
        }
        let credentials = self
            .provider()
            .await?
            .provide_credentials()
            .await
            .map_err(|error| {
                let mut text = error.to_string();
                if let Some(cause) = std::error::Error::source(&error) {
                    text.push_str(&format!(": {cause}"));
                }
                let said = format!(
                    "no credentials: {text}; give an access key in the configuration, the environment or ~/.aws, or a role to this machine"
                );
                AwsError::new("NoCredentialProviders", said)
            })?;
        let until = match credentials.expiry() {
            Some(expiry) => expiry.checked_sub(MARGIN).unwrap_or(now),
            None => now + LIFE,
        };
        *current = Some((credentials.clone(), until));
        Ok(credentials)
    }

    async fn provider(&self) -> Result<SharedCredentialsProvider, AwsError> {
        let provider = self.provider.get_or_try_init(|| async {
            let base = match self.given()? {
                Some(given) => SharedCredentialsProvider::new(given),
                None => {
                    let found = self.config().await.credentials_provider();
                    found.ok_or_else(|| {
                        AwsError::new("NoCredentialProviders", "there are no credentials")
                    })?
                }
            };
            let Some(role) = &self.settings.role_arn else {
                return Ok(base);
            };
            let role = AssumeRoleProvider::builder(role)
                .session_name("tributary")
                .configure(self.config().await)
                .build_from_provider(base)
                .await;
            Ok(SharedCredentialsProvider::new(role))
        });
        provider.await.cloned()
    }

    /// The credentials of the settings.
    fn given(&self) -> Result<Option<Credentials>, AwsError> {
        let AwsSettings {
            access_key_id,
            secret_access_key,
            session_token,
            ..
        } = &self.settings;
        match (access_key_id, secret_access_key) {
            (Some(id), Some(secret)) => Ok(Some(Credentials::new(
                id,
                secret.as_str(),
                session_token
                    .as_ref()
                    .map(|token| token.as_str().to_owned()),
                None,
                "configuration",
            ))),
            (None, None) => Ok(None),
            _ => Err(AwsError::new(
                "NoCredentialProviders",
                "the configuration has one of access key and secret access key; give both or neither",
            )),
        }
    }

    pub(super) async fn region(&self, named: Option<&str>) -> Result<String, AwsError> {
        let region = match named.or(self.settings.region.as_deref()) {
            Some(region) => Some(region.to_owned()),
            None => {
                let found = self.config().await.region();
                found.map(|region| region.as_ref().to_owned())
            }
        };
        let region = region.ok_or_else(|| {
            AwsError::new(
                "MissingRegion",
                "no region; name it in the configuration, in AWS_REGION, or where the service is called",
            )
        })?;
        // It becomes part of a host's name.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if region.is_empty() || !region.chars().all(is_plain) {
            return Err(AwsError::of_parameter("the region is no name of one"));
        }
        Ok(region)
    }

    /// Where a service is in place of Amazon's own address.
    pub(super) async fn endpoint(&self, id: &str) -> Option<String> {
        if let Some(endpoint) = &self.settings.endpoint {
            return Some(endpoint.clone());
        }
        let variable = std::env::var(variable(id)).ok();
        match variable.filter(|endpoint| !endpoint.is_empty()) {
            Some(endpoint) => Some(endpoint),
            None => self.config().await.endpoint_url().map(str::to_owned),
        }
    }

    /// What the environment and `~/.aws` say. Not read where the settings say all of it, as it may ask the machine's
    /// metadata service and wait for it.
    async fn config(&self) -> &SdkConfig {
        let read = || async {
            let mut loader = aws_config::defaults(BehaviorVersion::latest());
            if let Some(region) = &self.settings.region {
                loader = loader.region(Region::new(region.clone()));
            }
            if let Ok(Some(given)) = self.given() {
                loader = loader.credentials_provider(given);
            }
            if let Some(endpoint) = &self.settings.endpoint {
                loader = loader.endpoint_url(endpoint);
            }
            loader.load().await
        };
        self.config.get_or_init(read).await
    }
}

/// The variable that names the endpoint of one service, as Amazon's tools have it.
fn variable(id: &str) -> String {
    format!(
        "AWS_ENDPOINT_URL_{}",
        id.to_ascii_uppercase().replace(' ', "_")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn settings_come_before_the_environment() {
        let identity = Identity::new(AwsSettings {
            region: Some("eu-west-1".to_owned()),
            access_key_id: Some("id".to_owned()),
            secret_access_key: Some("secret".into()),
            session_token: Some("token".into()),
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            role_arn: None,
        });
        let credentials = identity.credentials().await.unwrap();
        assert_eq!(credentials.access_key_id(), "id");
        assert_eq!(credentials.session_token(), Some("token"));
        assert_eq!(identity.region(None).await.unwrap(), "eu-west-1");
        assert_eq!(
            identity.region(Some("us-east-2")).await.unwrap(),
            "us-east-2"
        );
        assert!(identity.region(Some("evil.example/#")).await.is_err());
        let endpoint = identity.endpoint("S3").await;
        assert_eq!(endpoint.as_deref(), Some("http://127.0.0.1:1"));
    }

    #[tokio::test]
    async fn half_of_the_keys_are_none() {
        let identity = Identity::new(AwsSettings {
            access_key_id: Some("id".to_owned()),
            ..AwsSettings::default()
        });
        let error = identity.credentials().await.unwrap_err();
        assert!(error.message.contains("give both or neither"), "{error}");
    }

    #[test]
    fn each_service_has_a_variable_for_its_endpoint() {
        assert_eq!(variable("Kinesis"), "AWS_ENDPOINT_URL_KINESIS");
        assert_eq!(
            variable("Secrets Manager"),
            "AWS_ENDPOINT_URL_SECRETS_MANAGER"
        );
    }
}
