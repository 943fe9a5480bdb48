//! Events that are pushed.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, SemaphorePermit};
use tributary_model::Error;
use utoipa::ToSchema;

use crate::app::{App, Shared};
use crate::body::{Unread, unread};
use crate::ingest::{Admitted, Ingests, Refusal, Taken};
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
    let Some((ingests, admitted)) = admitted(&app, &name, &parts.headers) else {
        return unread(parts.version, refused(Refusal::Unauthenticated));
    };
    // Both are held until the answer.
    let (body, _room, _place) = match read(&app, body, admitted).await {
        Ok(read) => read,
        Err(Unread::TooLarge) => {
            let refusal = Refusal::TooLarge(admitted.largest);
            return unread(parts.version, refused(refusal));
        }
        Err(why) => return unread(parts.version, why.into_response()),
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

/// What takes events, and how the body is to be read; none where it need not be.
fn admitted<'a>(
    app: &'a App,
    name: &str,
    headers: &HeaderMap,
) -> Option<(&'a Arc<dyn Ingests>, Admitted)> {
    let ingests = app.outside.ingests.as_ref()?;
    Some((ingests, ingests.admit(name, headers)?))
}

/// Reads a body, with the room and the place that it takes. One that has to prove itself gets a part of both, so that
/// nobody is kept from pushing by who may not.
async fn read(
    app: &App,
    body: Body,
    admitted: Admitted,
) -> Result<(Bytes, OwnedSemaphorePermit, Option<SemaphorePermit<'_>>), Unread> {
    let Admitted { largest, is_proven } = admitted;
    if is_proven {
        let patience = app.limits.head;
        let read = app.ingested.read_reserved(body, largest, patience).await;
        return read.map(|(body, room)| (body, room, None));
    }
    let place = app.unproven.try_acquire().map_err(|_| Unread::NoRoom)?;
    let (body, room) = app.unproven_bodies.read_arriving(body, largest).await?;
    Ok((body, room, Some(place)))
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
