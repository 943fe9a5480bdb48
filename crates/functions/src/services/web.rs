//! Requests over HTTP, within limits, and only to where they may go.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::dns::Resolve;
use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderMap, LOCATION,
    PROXY_AUTHORIZATION, TRANSFER_ENCODING,
};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Method, StatusCode};
use tributary_model::{Error, ErrorKind, Result};
use url::Url;

use super::outbound::{GuardedResolver, OutboundRules, Refused};

/// What requests over HTTP may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// How long connecting may take.
    pub connect: Duration,
    /// How long a request may take with everything, redirects included. A run has a limit of its own.
    pub whole: Duration,
    /// The most bytes of a request's body.
    pub request: usize,
    /// The most bytes of an answer's body.
    pub response: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            whole: Duration::from_secs(300),
            request: 16 << 20,
            response: 16 << 20,
        }
    }
}

/// As many as browsers and other clients follow before they call it a loop.
const MOST_REDIRECTS: usize = 10;

/// A client.
pub(super) struct Web {
    client: Client,
    limits: HttpLimits,
    /// None where the addresses are the operator's own.
    rules: Option<Arc<OutboundRules>>,
}

/// A request.
#[derive(Clone)]
pub(super) struct WebRequest {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) follows_redirects: bool,
}

/// What came back, whatever its status.
pub(super) struct WebResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Why nothing came back. Says which host was asked, and no more of its URL, which may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WebError {
    pub(super) message: String,
    pub(super) is_transient: bool,
    /// Whether the server cannot have seen the request.
    pub(super) is_unsent: bool,
}

impl fmt::Display for WebError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl WebError {
    fn lasting(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            is_transient: false,
            is_unsent: true,
        }
    }
}

impl Web {
    /// A client for what functions name.
    ///
    /// It takes no proxy from the environment: a proxy resolves names by itself, and what it reaches is not known
    /// here.
    pub(super) fn guarded(
        rules: Arc<OutboundRules>,
        inner: Arc<dyn Resolve>,
        limits: HttpLimits,
    ) -> Result<Self> {
        let resolver = GuardedResolver {
            rules: Arc::clone(&rules),
            inner,
        };
        let client = base(limits).no_proxy().dns_resolver(Arc::new(resolver));
        Ok(Self {
            client: built(client)?,
            limits,
            rules: Some(rules),
        })
    }

    /// A client for addresses that the configuration names; through the proxy that the environment names, if any.
    pub(super) fn unrestricted(limits: HttpLimits) -> Result<Self> {
        Ok(Self {
            client: built(base(limits))?,
            limits,
            rules: None,
        })
    }

    /// Sends a request, and the ones that redirects lead to if it follows them.
    pub(super) async fn send(&self, request: WebRequest) -> Result<WebResponse, WebError> {
        let place = place(&request.url);
        match tokio::time::timeout(self.limits.whole, self.follow(request)).await {
            Ok(result) => result,
            Err(_) => Err(WebError {
                message: format!(
                    "{place} did not answer within {} s",
                    self.limits.whole.as_secs_f64()
                ),
                is_transient: true,
                is_unsent: false,
            }),
        }
    }

    async fn follow(&self, mut request: WebRequest) -> Result<WebResponse, WebError> {
        if request.body.len() > self.limits.request {
            return Err(WebError::lasting(format!(
                "the request's body has {} bytes, and may have {}",
                request.body.len(),
                self.limits.request
            )));
        }
        for _ in 0..=MOST_REDIRECTS {
            let response = self.exchange(&request).await?;
            let Some(next) = redirected(&request, &response)? else {
                return Ok(response);
            };
            request = next;
        }
        Err(WebError::lasting(format!(
            "{} led to more than {MOST_REDIRECTS} redirects",
            place(&request.url)
        )))
    }

    async fn exchange(&self, request: &WebRequest) -> Result<WebResponse, WebError> {
        if let Some(rules) = &self.rules {
            rules.check(&request.url).map_err(refused)?;
        }
        let place = place(&request.url);
        let sent = self
            .client
            .request(request.method.clone(), request.url.clone())
            .headers(request.headers.clone())
            .body(request.body.clone())
            .send()
            .await;
        let mut response = sent.map_err(|error| unreachable(&place, error))?;
        let too_large = || WebError {
            message: format!(
                "the answer of {place} is larger than {} bytes",
                self.limits.response
            ),
            is_transient: false,
            is_unsent: false,
        };
        let is_head = request.method == Method::HEAD;
        let announced = response.content_length().unwrap_or(0);
        if !is_head && announced > self.limits.response as u64 {
            return Err(too_large());
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| unreachable(&place, error))?
        {
            if body.len() + chunk.len() > self.limits.response {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(WebResponse {
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            body: body.freeze(),
        })
    }
}

fn base(limits: HttpLimits) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("tributary/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(limits.connect)
        // Each hop is to be checked, and what is secret is not for another host.
        .redirect(Policy::none())
}

fn built(builder: ClientBuilder) -> Result<Client> {
    builder.build().map_err(|error| {
        Error::new(ErrorKind::Internal, "cannot set up an HTTP client").because(error)
    })
}

/// The request that a redirect asks for.
fn redirected(
    request: &WebRequest,
    response: &WebResponse,
) -> Result<Option<WebRequest>, WebError> {
    let is_redirect = matches!(response.status.as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = response.headers.get(LOCATION);
    let Some(location) = location.filter(|_| is_redirect && request.follows_redirects) else {
        return Ok(None);
    };
    let target = location
        .to_str()
        .ok()
        .and_then(|location| request.url.join(location).ok());
    let Some(mut url) = target else {
        return Err(WebError::lasting(format!(
            "{} redirects to what is no URL",
            place(&request.url)
        )));
    };
    let mut next = request.clone();
    if url.fragment().is_none() {
        url.set_fragment(request.url.fragment());
    }
    next.headers.remove(HOST);
    if url.origin() != request.url.origin() {
        for secret in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION] {
            next.headers.remove(secret);
        }
    }
    let keeps_method = matches!(response.status.as_u16(), 307 | 308);
    if !keeps_method && !matches!(request.method, Method::GET | Method::HEAD) {
        next.method = Method::GET;
        next.body = Bytes::new();
        for of_body in [CONTENT_TYPE, CONTENT_LENGTH, TRANSFER_ENCODING] {
            next.headers.remove(of_body);
        }
    }
    next.url = url;
    Ok(Some(next))
}

fn refused(refused: Refused) -> WebError {
    WebError::lasting(refused.to_string())
}

/// The host and port of a URL: all of it that may be told.
pub(super) fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    }
}

fn unreachable(place: &str, error: reqwest::Error) -> WebError {
    let error = error.without_url();
    let is_unsent = error.is_connect();
    let mut text = String::new();
    let mut source: Option<&(dyn std::error::Error + 'static)> = error.source();
    while let Some(cause) = source {
        if let Some(of_rules) = cause.downcast_ref::<Refused>() {
            return refused(of_rules.clone());
        }
        let said = cause.to_string();
        // Some repeat their source's text.
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    let what = match (error.is_timeout(), is_unsent) {
        (true, true) => "cannot connect in time to",
        (true, false) => "no answer in time from",
        (false, true) => "cannot connect to",
        (false, false) => "no answer from",
    };
    WebError {
        message: format!("{what} {place}{text}"),
        is_transient: !error.is_builder(),
        is_unsent: is_unsent || error.is_builder(),
    }
}

#[cfg(test)]
mod tests;
