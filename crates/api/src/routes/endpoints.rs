//! Endpoints of applications.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use crate::answer::AsItIs;
use crate::app::Shared;
use crate::body::{Unread, unread};
use crate::limits::busy;
use crate::outside::{Admission, Answered, Asked};
use crate::problem::Problem;

/// Has an application answer. Routes, and who may ask, are the application's own; so the OpenAPI document says
/// nothing of them.
pub(super) async fn answer(
    State(app): State<Shared>,
    Path((name, route)): Path<(String, String)>,
    request: Request,
) -> Response {
    let Some(endpoints) = app.outside.endpoints.clone() else {
        return none();
    };
    let Ok(place) = Arc::clone(&app.answering).try_acquire_owned() else {
        return busy("too many requests to endpoints are in flight; try again later");
    };
    let (parts, body) = request.into_parts();
    let version = parts.version;
    let remote = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let mut asked = Asked {
        method: parts.method,
        route: format!("/{route}"),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body: Bytes::new(),
        remote: remote.map(|ConnectInfo(address)| address.ip()),
    };
    let limit = match endpoints.admit(&name, &asked) {
        Admission::Read(limit) => limit,
        Admission::Refused(answered) => return unread(version, as_it_is(answered)),
        Admission::Unknown => return unread(version, none()),
    };
    let read = app.asked.read_arriving(body, limit);
    let room = match timeout(app.limits.request, read).await {
        Ok(Ok((body, room))) => {
            asked.body = body;
            room
        }
        Ok(Err(why)) => return unread(version, refused(why, limit)),
        Err(_) => return unread(version, late()),
    };
    // What was begun is done, whether or not whoever asked still waits for it, and takes its room until then.
    let answering = tokio::spawn(async move {
        let answered = endpoints.answer(&name, asked).await;
        drop((place, room));
        answered
    });
    match answering.await {
        Ok(Some(answered)) => as_it_is(answered),
        Ok(None) => none(),
        Err(error) => {
            tracing::error!(%error, "an endpoint ended early by a bug in tributary");
            let detail = "this is a bug in tributary: please report it with its log";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into_response()
        }
    }
}

fn as_it_is(answered: Answered) -> Response {
    let mut response = (answered.status, answered.headers, answered.body).into_response();
    response.extensions_mut().insert(AsItIs);
    response
}

fn none() -> Response {
    Problem::new(
        StatusCode::NOT_FOUND,
        "there is no application of this name, or no endpoint of this route",
    )
    .into_response()
}

fn late() -> Response {
    let detail = "the request's body took too long";
    Problem::new(StatusCode::REQUEST_TIMEOUT, detail).into_response()
}

fn refused(why: Unread, limit: usize) -> Response {
    match why {
        Unread::TooLarge => {
            let detail = format!("the request is larger than {limit} bytes");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).into_response()
        }
        Unread::NoRoom | Unread::Broken => why.into_response(),
    }
}
