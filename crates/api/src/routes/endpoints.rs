//! Endpoints of applications.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::ingest::read;
use crate::answer::AsItIs;
use crate::app::Shared;
use crate::outside::Asked;
use crate::problem::Problem;

/// Has an application answer. Routes, and who may ask, are the application's own; so the OpenAPI document says
/// nothing of them.
pub(super) async fn answer(
    State(app): State<Shared>,
    Path((name, route)): Path<(String, String)>,
    request: Request,
) -> Response {
    let none = || {
        Problem::new(
            StatusCode::NOT_FOUND,
            "there is no application of this name, or no endpoint of this route",
        )
        .into_response()
    };
    let Some(endpoints) = &app.outside.endpoints else {
        return none();
    };
    let (parts, body) = request.into_parts();
    let route = format!("/{route}");
    let Some(limit) = endpoints.admit(&name, &route) else {
        return none();
    };
    let (body, _room) = match read(&app, body, limit).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let remote = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let asked = Asked {
        method: parts.method,
        route,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body,
        remote: remote.map(|ConnectInfo(address)| address.ip()),
    };
    match endpoints.answer(&name, asked).await {
        Some(answered) => {
            let mut response = (answered.status, answered.headers, answered.body).into_response();
            response.extensions_mut().insert(AsItIs);
            response
        }
        None => none(),
    }
}
