//! Events that are pushed.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Path, Request, State};
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tributary_model::Error;
use utoipa::ToSchema;

use crate::app::{App, Shared};
use crate::ingest::{Ingests, Refusal, Taken};
use crate::limits::{INGESTED_UNIT, busy, whole};
use crate::problem::{MEDIA_TYPE, Problem};

/// What came of a request.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Pushed {
    /// Events that are new. They are durable.
    accepted: u64,
    /// Events that had been taken before, by their `_id`.
    duplicates: u64,
}

/// Why a request was refused, and with it what is wrong with each of its events.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WrongEvents {
    #[serde(flatten)]
    problem: Problem,
    /// What is wrong; a hundred things at most.
    errors: Vec<WrongEvent>,
}

/// What is wrong with an event.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WrongEvent {
    /// Which of the request's events, from 0; nothing where it is the request as a whole.
    index: Option<usize>,
    /// What is wrong with it.
    detail: String,
}

/// Takes events.
#[utoipa::path(
    post, path = "/ingest/{name}", operation_id = "pushEvents", tag = "ingest",
    summary = "Take change events that are pushed",
    description = "Takes events of MongoDB change streams as Extended JSON, canonical or relaxed: one, or an array \
        (`application/json`, `application/ejson`), or one a line (`application/x-ndjson`); or as BSON, one behind \
        the other (`application/bson`). All of them are taken or none, and durable when that is answered. An event \
        whose `_id` has been taken before is counted, and not taken again: a request whose answer was lost can be \
        sent again. What has to come with a request is said by `key` and `hmac` of the source, whichever it has: the \
        key as `X-API-Key` or `Authorization: Bearer`, and `X-Signature-256: sha256=…`, the HMAC-SHA-256 of the body \
        in hexadecimal. Tokens of the API are not good for it.",
    security(("ingestKey" = []), ("ingestBearer" = []), ("ingestSignature" = [])),
    params(("name" = String, Path, description = "The source, one with `ingest`")),
    request_body(description = "The events", content(
        (Object = "application/json"), (Object = "application/ejson"),
        (String = "application/x-ndjson"), (Vec<u8> = "application/bson"),
    )),
    responses(
        (status = 200, description = "All of them are durable", body = Pushed),
        (status = 400, description = "Some of them are wrong, and none is taken", body = WrongEvents,
            content_type = "application/problem+json"),
        (status = 401, description = "What has to come with a request is not there or wrong, or there is no such source",
            body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is in no form that is known", body = Problem,
            content_type = "application/problem+json"),
        (status = 507, description = "The disk is full, and none is taken", body = Problem,
            content_type = "application/problem+json"),
    )
)]
pub(super) async fn push(
    State(app): State<Shared>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let is_http1 = parts.version <= Version::HTTP_11;
    let read = match admitted(&app, &name, &parts.headers) {
        Some((ingests, limit)) => read(&app, body, limit).await.map(|read| (ingests, read)),
        None => Err(refused(Refusal::Unauthenticated)),
    };
    let (ingests, (body, _room)) = match read {
        Ok(read) => read,
        Err(mut refusal) => {
            // What is left of the body would stand before the next request.
            if is_http1 {
                let close = HeaderValue::from_static("close");
                refusal.headers_mut().insert(CONNECTION, close);
            }
            return refusal;
        }
    };
    match ingests.take(&name, &parts.headers, body).await {
        Ok(Taken {
            accepted,
            duplicates,
        }) => Json(Pushed {
            accepted,
            duplicates,
        })
        .into_response(),
        Err(refusal) => refused(refusal),
    }
}

/// What takes events, and the largest body that it takes; none where the body need not be read.
fn admitted<'a>(
    app: &'a App,
    name: &str,
    headers: &HeaderMap,
) -> Option<(&'a Arc<dyn Ingests>, usize)> {
    let ingests = app.outside.ingests.as_ref()?;
    Some((ingests, ingests.admit(name, headers)?))
}

/// Reads a body once there is room for it in memory, which is taken until the answer.
pub(super) async fn read(
    app: &App,
    body: Body,
    limit: usize,
) -> Result<(Bytes, OwnedSemaphorePermit), Response> {
    let announced = body.size_hint().exact();
    let largest = announced.map_or(limit, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if largest > limit {
        return Err(refused(Refusal::TooLarge(limit)));
    }
    let units = (largest / INGESTED_UNIT + 1).min(app.limits.ingested);
    let room =
        Arc::clone(&app.ingested).acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX));
    let Ok(Ok(room)) = timeout(app.limits.head, room).await else {
        return Err(busy("too much is pushed at once; try again later"));
    };
    match whole(body, limit).await {
        Ok(body) => Ok((body, room)),
        Err(problem) => Err(problem.into_response()),
    }
}

fn refused(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Unauthenticated => {
            let detail = "the key or the signature is missing or wrong, or there is no such source";
            let mut response = Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
            let challenge = HeaderValue::from_static("Bearer realm=\"tributary ingest\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            response
        }
        Refusal::TooLarge(limit) => {
            let detail = format!(
                "the request is larger than {limit} bytes: push fewer events at once, or set `largest_request` of the source"
            );
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).into_response()
        }
        Refusal::UnknownForm => Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "push events as application/json, application/ejson, application/x-ndjson or application/bson, without an encoding",
        )
        .into_response(),
        Refusal::Wrong(faults) => {
            let detail = "some events are not events of a MongoDB change stream that can be kept; none was taken";
            let errors = faults.into_iter();
            let answer = WrongEvents {
                problem: Problem::new(StatusCode::BAD_REQUEST, detail),
                errors: errors
                    .map(|(index, detail)| WrongEvent { index, detail })
                    .collect(),
            };
            let mut response = (StatusCode::BAD_REQUEST, Json(answer)).into_response();
            let media_type = HeaderValue::from_static(MEDIA_TYPE);
            response.headers_mut().insert(CONTENT_TYPE, media_type);
            response
        }
        Refusal::Full(error) => failed(StatusCode::INSUFFICIENT_STORAGE, &error),
        Refusal::Failed(error) => failed(StatusCode::SERVICE_UNAVAILABLE, &error),
    }
}

/// Where the log lies and what its disk says is for who runs it, and not for who pushes.
fn failed(status: StatusCode, error: &Error) -> Response {
    tracing::error!(%error, "events that were pushed could not be taken");
    let detail = "the events cannot be made durable now, and none was taken; push them again later";
    let mut response = Problem::new(status, detail).into_response();
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
    response
}
