//! How much, how many, and for how long.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::Shared;
use crate::problem::Problem;

/// What bodies in memory are counted in, in bytes.
pub(crate) const INGESTED_UNIT: usize = 1 << 10;

/// The limits that are not configured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How long a request may take. Nothing that is asked waits for work to be done.
    pub(crate) request: Duration,
    /// How long a client may take for the head of a request, and for agreeing on TLS. A client that sends
    /// a byte now and then would otherwise keep a connection for ever.
    pub(crate) head: Duration,
    /// How long open connections have after the stop.
    pub(crate) drain: Duration,
    /// Requests at once.
    pub(crate) in_flight: usize,
    /// What may be in memory at once of events that are pushed, in [`INGESTED_UNIT`]s.
    pub(crate) ingested: usize,
    /// Subscribers of events at once; each is a connection, and a copy of every event.
    pub(crate) subscribers: usize,
    /// Connections at once: more wait to be accepted. It is above the number of requests, so that those
    /// too many are told so.
    pub(crate) connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(60),
            head: Duration::from_secs(10),
            drain: Duration::from_secs(5),
            in_flight: 256,
            ingested: (256 << 20) / INGESTED_UNIT,
            subscribers: 100,
            connections: 1024,
        }
    }
}

/// Refuses what comes while too many requests are in flight. Whether this process lives is answered also
/// then: it is no reason to restart it.
pub(crate) async fn in_flight(State(app): State<Shared>, request: Request, next: Next) -> Response {
    if request.uri().path() == "/health" {
        return next.run(request).await;
    }
    match app.in_flight.try_acquire() {
        Ok(_permit) => next.run(request).await,
        Err(_) => busy("too many requests are in flight; try again later"),
    }
}

/// The answer to one too many.
pub(crate) fn busy(detail: &str) -> Response {
    let mut response = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

/// Reads the body, which no request needs, so that one that is too large is refused also where its length
/// was not announced, and the connection is good for the next request.
pub(crate) async fn read_body(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    // The limit is that of the body itself.
    match whole(body, usize::MAX).await {
        Ok(bytes) => {
            next.run(Request::from_parts(parts, Body::from(bytes)))
                .await
        }
        Err(problem) => problem.into_response(),
    }
}

/// Reads a body of so many bytes at most.
pub(crate) async fn whole(body: Body, limit: usize) -> Result<Bytes, Problem> {
    to_bytes(body, limit).await.map_err(|error| {
        let is_too_large =
            std::iter::successors(std::error::Error::source(&error), |error| error.source())
                .any(|error| error.to_string() == "length limit exceeded");
        let (status, detail) = if is_too_large {
            (StatusCode::PAYLOAD_TOO_LARGE, "the request is too large")
        } else {
            (
                StatusCode::BAD_REQUEST,
                "the request's body did not come whole",
            )
        };
        Problem::new(status, detail)
    })
}
