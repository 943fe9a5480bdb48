//! How much, how many, and for how long.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::Shared;
use crate::body::UNIT;
use crate::problem::Problem;

/// The limits that are not configured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How long a request may take. What a stop or a reload waits for, flows that commit what they have read,
    /// goes on without it.
    pub(crate) request: Duration,
    /// How long a client may take for the head of a request, and for agreeing on TLS. A client that sends
    /// a byte now and then would otherwise keep a connection for ever.
    pub(crate) head: Duration,
    /// How long open connections have after the stop.
    pub(crate) drain: Duration,
    /// Requests at once, without those to endpoints.
    pub(crate) in_flight: usize,
    /// How many of these may be pushes of whom only the body can prove that they may.
    pub(crate) unproven: usize,
    /// Requests to endpoints at once: of their own, as anybody may ask those of an application that wants it so,
    /// and a function may take long.
    pub(crate) answering: usize,
    /// What may be in memory at once of events that are pushed with a key, in [`UNIT`]s.
    pub(crate) ingested: usize,
    /// What may be of the pushes that are not proven yet.
    pub(crate) unproven_bodies: usize,
    /// What may be of requests to endpoints.
    pub(crate) asked: usize,
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
            unproven: 64,
            answering: 256,
            ingested: (128 << 20) / UNIT,
            unproven_bodies: (64 << 20) / UNIT,
            asked: (64 << 20) / UNIT,
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
