//! Tokens for Google's services, which a service account gets for a claim that it signs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use url::form_urlencoded;

use super::{NAME, parsed};
use crate::services::web::{Web, WebRequest};
use crate::services::{Secret, ServiceError};

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// As long as Google lets a claim be good for.
const CLAIM: Duration = Duration::from_secs(3600);
/// A token is not used in the last moments of its life.
const MARGIN: Duration = Duration::from_secs(60);

/// What is needed of the key of a service account.
#[derive(Deserialize)]
pub(super) struct Account {
    pub(super) project_id: String,
    client_email: String,
    private_key: String,
    #[serde(default)]
    private_key_id: Option<String>,
    token_uri: String,
}

impl Account {
    pub(super) fn read(json: &Secret) -> Result<Self, ServiceError> {
        // The error of the parser may repeat some of the key.
        serde_json::from_str(json.as_str()).map_err(|_| {
            ServiceError::named(
                NAME,
                "the key of the service account is no JSON with project_id, client_email, private_key and token_uri",
            )
        })
    }
}

/// The token in use.
#[derive(Debug, Default)]
pub(in crate::services) struct Tokens {
    current: Mutex<Option<(Secret, SystemTime)>>,
}

impl Tokens {
    pub(super) async fn get(&self, web: &Web, account: &Account) -> Result<Secret, ServiceError> {
        let mut current = self.current.lock().await;
        let now = SystemTime::now();
        if let Some((token, until)) = current.as_ref()
            && now < *until
        {
            return Ok(token.clone());
        }
        let (token, life) = fetch(web, account, now).await?;
        *current = Some((token.clone(), now + life.saturating_sub(MARGIN)));
        Ok(token)
    }
}

async fn fetch(
    web: &Web,
    account: &Account,
    now: SystemTime,
) -> Result<(Secret, Duration), ServiceError> {
    let body = form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", GRANT)
        .append_pair("assertion", &claim(account, now)?)
        .finish();
    let mut headers = HeaderMap::new();
    let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
    headers.insert(CONTENT_TYPE, kind);
    let request = WebRequest {
        method: Method::POST,
        url: parsed(&account.token_uri)?,
        headers,
        body: body.into(),
        follows_redirects: false,
    };
    let response = web
        .send(request)
        .await
        .map_err(|error| ServiceError::from(error).renamed(NAME))?;
    let said: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let text = |name: &str| said.get(name).and_then(Value::as_str);
    let token = text("access_token").filter(|_| response.status.is_success());
    let Some(token) = token else {
        let reason = text("error_description").or_else(|| text("error"));
        return Err(ServiceError {
            is_transient: response.status.is_server_error(),
            ..ServiceError::named(
                NAME,
                format!(
                    "the service account got no token: {} {}",
                    response.status.as_u16(),
                    reason.unwrap_or_default()
                ),
            )
        });
    };
    let seconds = said.get("expires_in").and_then(Value::as_u64).unwrap_or(0);
    Ok((Secret::from(token), Duration::from_secs(seconds)))
}

fn claim(account: &Account, now: SystemTime) -> Result<String, ServiceError> {
    let unusable = |_| {
        ServiceError::named(
            NAME,
            "the private key of the service account cannot be used",
        )
    };
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut header = Header::new(Algorithm::RS256);
    header.kid = account.private_key_id.clone();
    let claims = json!({
        "iss": account.client_email,
        "scope": SCOPE,
        "aud": account.token_uri,
        "iat": seconds,
        "exp": seconds + CLAIM.as_secs(),
    });
    let key = EncodingKey::from_rsa_pem(account.private_key.as_bytes()).map_err(unusable)?;
    jsonwebtoken::encode(&header, &claims, &key).map_err(unusable)
}
