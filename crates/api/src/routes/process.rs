//! What is asked of the process itself.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::Answer;
use crate::app::Shared;
use crate::problem::Problem;

/// That it is well.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`
    status: &'static str,
}

const OK: Health = Health { status: "ok" };

/// Whether it lives.
#[utoipa::path(
    get, path = "/health", operation_id = "getHealth", tag = "process",
    summary = "Whether the process lives",
    security(()),
    responses((status = 200, description = "It does", body = Health))
)]
pub(super) async fn health() -> Json<Health> {
    Json(OK)
}

/// Whether it can do its work.
#[utoipa::path(
    get, path = "/ready", operation_id = "getReadiness", tag = "process",
    summary = "Whether it can do its work",
    description = "Where it cannot, the status is 503, and the detail says why.",
    security(()),
    responses((status = 200, description = "It can", body = Health))
)]
pub(super) async fn ready(State(app): State<Shared>) -> Answer<Health> {
    match app.control.unready().await {
        None => Ok(Json(OK)),
        Some(reason) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason)),
    }
}

/// All numbers.
#[utoipa::path(
    get, path = "/metrics", operation_id = "getMetrics", tag = "process",
    summary = "All numbers, in Prometheus's text format",
    responses((status = 200, description = "The numbers", body = String, content_type = "text/plain"))
)]
pub(super) async fn metrics(
    State(app): State<Shared>,
) -> Result<([(HeaderName, &'static str); 1], String), Problem> {
    let media_type = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(CONTENT_TYPE, media_type)], app.control.metrics().await?))
}

/// What the API is.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "getOpenApi", tag = "process",
    summary = "This document",
    responses((status = 200, description = "This document", body = Object, content_type = "application/json"))
)]
pub(super) async fn document(
    State(app): State<Shared>,
) -> ([(HeaderName, &'static str); 1], String) {
    ([(CONTENT_TYPE, "application/json")], app.openapi.clone())
}
