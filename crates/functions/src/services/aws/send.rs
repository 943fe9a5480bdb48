//! Signing a request, sending it, and sending it again.

use std::time::{Duration, SystemTime};

use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningInstructions, SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use rand::Rng as _;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use url::Url;

use super::{AwsClient, AwsError, xml};
use crate::services::web::{WebRequest, WebResponse};

/// How often a request is sent again.
const RETRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Where a service is and what it is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Service {
    /// In signatures.
    pub(super) signing: &'static str,
    /// Before the region in its host's name.
    pub(super) host: &'static str,
    /// In the names of variables.
    pub(super) id: &'static str,
    /// How it says what is wrong.
    pub(super) errors: Errors,
}

/// How a service says what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errors {
    Json,
    Xml,
}

/// A request before it is signed.
pub(super) struct AwsRequest<'a> {
    pub(super) service: Service,
    pub(super) region: Option<&'a str>,
    pub(super) method: Method,
    /// The bucket, where it is about one.
    pub(super) bucket: Option<&'a str>,
    /// Begins with a slash, and is encoded.
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl AwsRequest<'_> {
    pub(super) fn header(&mut self, name: &str, value: &str) -> Result<(), AwsError> {
        let wrong = || AwsError::of_parameter(format!("the header {name} cannot have its value"));
        let header = HeaderName::try_from(name).map_err(|_| wrong())?;
        // Only such values can be signed.
        let value = HeaderValue::try_from(value)
            .ok()
            .filter(|value| value.to_str().is_ok());
        self.headers.insert(header, value.ok_or_else(wrong)?);
        Ok(())
    }
}

impl AwsClient {
    /// Sends a request; an answer with an error's status is the error.
    pub(super) async fn send(&self, request: AwsRequest<'_>) -> Result<WebResponse, AwsError> {
        let (region, url) = self.place(&request).await?;
        let mut pause = FIRST_PAUSE;
        let mut left = RETRIES;
        loop {
            // Signed anew each time: a signature is good for minutes only.
            let result = self.attempt(&request, &region, &url).await;
            match result {
                Err((error, true)) if left > 0 => {
                    tracing::debug!(service = request.service.id, %error, "trying again");
                    // Half of it at random, so that those who were refused together do not come back so.
                    let jitter = rand::rng().random_range(0.5..1.0);
                    tokio::time::sleep(pause.mul_f64(jitter)).await;
                    pause *= 2;
                    left -= 1;
                }
                Err((error, _)) => return Err(error),
                Ok(response) => return Ok(response),
            }
        }
    }

    /// The error says too whether sending again may be done here.
    async fn attempt(
        &self,
        request: &AwsRequest<'_>,
        region: &str,
        url: &Url,
    ) -> Result<WebResponse, (AwsError, bool)> {
        let mut headers = request.headers.clone();
        self.sign(request, region, url, &mut headers)
            .await
            .map_err(|error| (error, false))?;
        let sent = self.web.send(WebRequest {
            method: request.method.clone(),
            url: url.clone(),
            headers,
            body: request.body.clone(),
            follows_redirects: false,
        });
        let response = sent.await.map_err(|error| {
            let again = error.is_transient && error.is_unsent;
            let failed = AwsError {
                is_transient: error.is_transient,
                ..AwsError::new("RequestError", error.message)
            };
            (failed, again)
        })?;
        if response.status.is_success() {
            return Ok(response);
        }
        let error = refusal(request.service.errors, &response);
        let again = error.is_transient;
        Err((error, again))
    }

    /// The URL at which everybody who has it may do `request` for a while.
    pub(super) async fn presign(
        &self,
        request: AwsRequest<'_>,
        life: Duration,
    ) -> Result<Url, AwsError> {
        let (region, mut url) = self.place(&request).await?;
        let mut settings = settings(request.service);
        settings.signature_location = SignatureLocation::QueryParams;
        settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
        settings.expires_in = Some(life);
        let body = SignableBody::UnsignedPayload;
        let signed = self.signature(&request, &region, &url, &request.headers, body, settings);
        let (_, params) = signed.await?.into_parts();
        url.query_pairs_mut().extend_pairs(params);
        Ok(url)
    }

    async fn place(&self, request: &AwsRequest<'_>) -> Result<(String, Url), AwsError> {
        let region = self.identity.region(request.region).await?;
        let endpoint = self.identity.endpoint(request.service.id).await;
        let url = url(request, &region, endpoint.as_deref())?;
        Ok((region, url))
    }

    async fn sign(
        &self,
        request: &AwsRequest<'_>,
        region: &str,
        url: &Url,
        headers: &mut HeaderMap,
    ) -> Result<(), AwsError> {
        let body = SignableBody::Bytes(&request.body);
        let signed = self
            .signature(
                request,
                region,
                url,
                headers,
                body,
                settings(request.service),
            )
            .await?;
        for header in signed.into_parts().0 {
            let mut value = HeaderValue::try_from(header.value())
                .map_err(|_| AwsError::new("SignatureError", "the credentials cannot be sent"))?;
            value.set_sensitive(header.sensitive());
            headers.insert(HeaderName::from_static(header.name()), value);
        }
        Ok(())
    }

    async fn signature(
        &self,
        request: &AwsRequest<'_>,
        region: &str,
        url: &Url,
        headers: &HeaderMap,
        body: SignableBody<'_>,
        settings: SigningSettings,
    ) -> Result<SigningInstructions, AwsError> {
        let unsigned = |error: &dyn std::fmt::Display| {
            AwsError::new(
                "SignatureError",
                format!("the request cannot be signed: {error}"),
            )
        };
        let credentials = self.identity.credentials().await?.into();
        let params = v4::SigningParams::builder()
            .identity(&credentials)
            .region(region)
            .name(request.service.signing)
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|error| unsigned(&error))?
            .into();
        let headers = headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let signable = SignableRequest::new(request.method.as_str(), url.as_str(), headers, body)
            .map_err(|error| unsigned(&error))?;
        let signed = sign(signable, &params).map_err(|error| unsigned(&error))?;
        Ok(signed.into_parts().0)
    }
}

/// S3 takes paths as they are and wants the hash of the body; the others are as the specification has them.
fn settings(service: Service) -> SigningSettings {
    let mut settings = SigningSettings::default();
    if service.signing == "s3" {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    settings
}

fn url(request: &AwsRequest<'_>, region: &str, endpoint: Option<&str>) -> Result<Url, AwsError> {
    let path = &request.path;
    let address = match (endpoint, request.bucket) {
        (Some(endpoint), None) => format!("{}{path}", endpoint.trim_end_matches('/')),
        (Some(endpoint), Some(bucket)) => {
            format!("{}/{bucket}{path}", endpoint.trim_end_matches('/'))
        }
        (None, bucket) => {
            let domain = match region.starts_with("cn-") {
                true => "amazonaws.com.cn",
                false => "amazonaws.com",
            };
            let host = format!("{}.{region}.{domain}", request.service.host);
            match bucket {
                None => format!("https://{host}{path}"),
                // A certificate is good for one label only.
                Some(bucket) if bucket.contains('.') => format!("https://{host}/{bucket}{path}"),
                Some(bucket) => format!("https://{bucket}.{host}{path}"),
            }
        }
    };
    let mut url = Url::parse(&address).map_err(|error| {
        AwsError::new(
            "InvalidEndpointURL",
            format!(
                "the endpoint of {} cannot be read: {error}",
                request.service.id
            ),
        )
    })?;
    if !request.query.is_empty() {
        url.query_pairs_mut().extend_pairs(&request.query);
        // In signatures a space is `%20`.
        let spaced = url.query().map(|query| query.replace('+', "%20"));
        url.set_query(spaced.as_deref());
    }
    Ok(url)
}

/// What an answer with an error's status says.
fn refusal(errors: Errors, response: &WebResponse) -> AwsError {
    let status = response.status;
    let (code, message) = match errors {
        Errors::Json => json_error(response),
        Errors::Xml => {
            let body = String::from_utf8_lossy(&response.body);
            (xml::text(&body, "Code"), xml::text(&body, "Message"))
        }
    };
    let reason = status.canonical_reason().unwrap_or("Unknown");
    let code = code.unwrap_or_else(|| reason.replace(' ', ""));
    let message = message.unwrap_or_else(|| format!("{} {reason}", status.as_u16()));
    AwsError {
        is_transient: status.is_server_error() || status.as_u16() == 429 || is_throttling(&code),
        status: Some(status.as_u16()),
        code,
        message,
    }
}

/// Codes are written as `namespace#Code` or `Code:address` at times.
fn json_error(response: &WebResponse) -> (Option<String>, Option<String>) {
    let said: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let text = |names: &[&str]| {
        let found = names.iter().find_map(|name| said.get(*name)?.as_str());
        found.map(str::to_owned)
    };
    let header = response.headers.get("x-amzn-errortype");
    let code = header
        .and_then(|value| value.to_str().ok().map(str::to_owned))
        .or_else(|| text(&["__type", "code", "Code"]));
    let code = code.map(|code| {
        let code = code.split(':').next().unwrap_or_default();
        code.rsplit('#').next().unwrap_or_default().to_owned()
    });
    let message = text(&["message", "Message", "errorMessage"]);
    (code.filter(|code| !code.is_empty()), message)
}

fn is_throttling(code: &str) -> bool {
    code.contains("Throttl")
        || matches!(
            code,
            "ProvisionedThroughputExceededException"
                | "RequestLimitExceeded"
                | "BandwidthLimitExceeded"
                | "TooManyRequestsException"
                | "PriorRequestNotComplete"
                | "TransactionInProgressException"
                | "SlowDown"
                | "RequestTimeout"
                | "RequestTimeoutException"
                | "ServiceUnavailable"
                | "ServiceUnavailableException"
                | "InternalFailure"
                | "InternalError"
        )
}

#[cfg(test)]
mod tests;
