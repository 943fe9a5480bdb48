//! The whole of it.

use axum::Json;
use axum::extract::State;
use tributary_orchestrator::status::{Overview, Reloaded, SourceStatus};

use super::Answer;
use crate::app::Shared;

/// The whole of it.
#[utoipa::path(
    get, path = "/overview", operation_id = "getOverview", tag = "overview",
    summary = "The whole of it, in numbers",
    responses((status = 200, description = "The whole of it", body = Overview))
)]
pub(super) async fn overview(State(app): State<Shared>) -> Answer<Overview> {
    Ok(Json(app.control.overview().await?))
}

/// The sources.
#[utoipa::path(
    get, path = "/sources", operation_id = "listSources", tag = "flows",
    summary = "All sources, by name",
    responses((status = 200, description = "All sources", body = Vec<SourceStatus>))
)]
pub(super) async fn sources(State(app): State<Shared>) -> Answer<Vec<SourceStatus>> {
    Ok(Json(app.control.sources().await?))
}

/// Reads the configuration again.
#[utoipa::path(
    post, path = "/reload", operation_id = "reload", tag = "overview",
    summary = "Read the configuration again, and take it into use",
    description = "Nothing changes where it is wrong. Flows that end or change commit what they have read first; a request that ends \
                   before that changes nothing of it.",
    responses((status = 200, description = "What changed", body = Reloaded))
)]
pub(super) async fn reload(State(app): State<Shared>) -> Answer<Reloaded> {
    Ok(Json(app.control.reload().await?))
}
