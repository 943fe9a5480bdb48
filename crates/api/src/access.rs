//! Who may ask what.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use tributary_orchestrator::config::{Role, Token};

use crate::app::Shared;
use crate::problem::Problem;

/// What anybody may ask: whoever restarts or routes to this process has no token.
const OPEN: [&str; 2] = ["/health", "/ready"];

/// Whether anybody may ask for this path.
pub(crate) fn is_open(path: &str) -> bool {
    OPEN.contains(&path)
}

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Caller(Arc<str>);

impl Caller {
    /// The name of the token; `anonymous` where there are none.
    pub(crate) fn name(&self) -> &str {
        &self.0
    }
}

/// The tokens. It has no `Debug`.
pub(crate) struct Tokens {
    all: Vec<Known>,
    /// The length of the longest, to which all are padded.
    width: usize,
}

struct Known {
    caller: Caller,
    role: Role,
    padded: Vec<u8>,
    length: u64,
}

/// Bytes of a certain length, cut or with zeros behind.
fn padded(bytes: &[u8], width: usize) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.resize(width, 0);
    padded
}

impl Tokens {
    pub(crate) fn new(tokens: &[Token]) -> Self {
        let lengths = tokens.iter().map(|token| token.token.as_str().len());
        let width = lengths.max().unwrap_or(0);
        let known = |token: &Token| Known {
            caller: Caller(token.name.as_str().into()),
            role: token.role,
            padded: padded(token.token.as_str().as_bytes(), width),
            length: token.token.as_str().len() as u64,
        };
        Self {
            all: tokens.iter().map(known).collect(),
            width,
        }
    }

    /// The one that was presented. It takes as long whichever it is, whatever part of it is right, and
    /// whether it is one at all.
    fn find(&self, presented: &[u8]) -> Option<&Known> {
        let length = presented.len() as u64;
        let presented = padded(presented, self.width);
        let mut found = u64::MAX;
        for (i, known) in (0u64..).zip(&self.all) {
            let is_it: Choice = known.padded.ct_eq(&presented) & known.length.ct_eq(&length);
            found.conditional_assign(&i, is_it);
        }
        self.all.get(usize::try_from(found).ok()?)
    }
}

/// The token of a request: there has to be one, and no two.
fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.as_bytes();
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

fn unauthenticated(headers: &HeaderMap) -> Response {
    let (detail, challenge) = if headers.contains_key(AUTHORIZATION) {
        (
            "this is no token of this server; present one as `Authorization: Bearer TOKEN`",
            "Bearer realm=\"tributary\", error=\"invalid_token\"",
        )
    } else {
        (
            "a token is needed; present it as `Authorization: Bearer TOKEN`",
            "Bearer realm=\"tributary\"",
        )
    };
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
    let challenge = HeaderValue::from_static(challenge);
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

fn forbidden(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, detail)
}

/// Whether a method only looks.
fn is_reading(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Lets pass who may ask that.
pub(crate) async fn access(
    State(app): State<Shared>,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = if app.tokens.all.is_empty() {
        if let Err(refusal) = local(&request, app.is_tls) {
            return refusal.into_response();
        }
        Caller("anonymous".into())
    } else if is_open(request.uri().path()) {
        Caller("anonymous".into())
    } else {
        let known = presented(request.headers()).and_then(|token| app.tokens.find(token));
        let Some(known) = known else {
            return unauthenticated(request.headers());
        };
        let needed = match is_reading(request.method()) {
            true => Role::Read,
            false => Role::Operate,
        };
        if known.role < needed {
            let name = known.caller.name();
            let mut response = forbidden(format!(
                "the token {name} is good for seeing only; use one whose role is `operate`"
            ))
            .into_response();
            response.extensions_mut().insert(known.caller.clone());
            return response;
        }
        known.caller.clone()
    };
    request.extensions_mut().insert(caller.clone());
    let mut response = next.run(request).await;
    response.extensions_mut().insert(caller);
    response
}

/// Without tokens, only this machine is answered. What a browser runs is on this machine too: so the
/// server must be meant by name or address and not by a name that somebody else let point here, and what
/// changes something must not come from another site's page.
fn local(request: &Request, is_tls: bool) -> Result<(), Problem> {
    let named = named(request.uri(), request.headers())?;
    let host = named.host();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    if address.parse::<IpAddr>().is_err() && !host.eq_ignore_ascii_case("localhost") {
        return Err(forbidden(
            "without tokens, this server answers only to its address and to localhost; configure tokens to reach it by another name",
        ));
    }
    if is_reading(request.method()) {
        return Ok(());
    }
    let scheme = if is_tls { "https" } else { "http" };
    let own = format!("{scheme}://{named}");
    for origin in request.headers().get_all(ORIGIN) {
        if !origin.as_bytes().eq_ignore_ascii_case(own.as_bytes()) {
            return Err(forbidden(
                "without tokens, this server takes no requests from the pages of other sites; configure tokens",
            ));
        }
    }
    Ok(())
}

/// The server that a request names. HTTP/2 and proxies name it in the target, and it is named once.
fn named(uri: &Uri, headers: &HeaderMap) -> Result<Authority, Problem> {
    let of_headers = headers
        .get_all(HOST)
        .iter()
        .map(|host| Authority::try_from(host.as_bytes()).ok());
    let mut all = uri
        .authority()
        .cloned()
        .map(Some)
        .into_iter()
        .chain(of_headers);
    match all.next() {
        Some(Some(first)) if all.all(|other| other.as_ref() == Some(&first)) => Ok(first),
        _ => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "the request names no server, or several: it needs one header Host",
        )),
    }
}
