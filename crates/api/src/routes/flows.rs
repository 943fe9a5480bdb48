//! Flows.

use axum::Json;
use axum::extract::{Path, State};
use tributary_orchestrator::status::FlowStatus;

use super::Answer;
use crate::app::Shared;

/// All flows.
#[utoipa::path(
    get, path = "/flows", operation_id = "listFlows", tag = "flows",
    summary = "All flows, by name",
    responses((status = 200, description = "All flows", body = Vec<FlowStatus>))
)]
pub(super) async fn list(State(app): State<Shared>) -> Answer<Vec<FlowStatus>> {
    Ok(Json(app.control.flows().await?))
}

/// One flow.
#[utoipa::path(
    get, path = "/flows/{name}", operation_id = "getFlow", tag = "flows",
    summary = "One flow",
    params(("name" = String, Path, description = "The flow", min_length = 1, max_length = 100, example = "shop")),
    responses((status = 200, description = "The flow", body = FlowStatus))
)]
pub(super) async fn one(State(app): State<Shared>, Path(name): Path<String>) -> Answer<FlowStatus> {
    Ok(Json(app.control.flow(&name).await?))
}

/// Starts a flow.
#[utoipa::path(
    post, path = "/flows/{name}/start", operation_id = "startFlow", tag = "flows",
    summary = "Start a flow that was stopped",
    description = "One that runs goes on; one that waits to be tried again is tried now.",
    params(("name" = String, Path, description = "The flow", min_length = 1, max_length = 100, example = "shop")),
    responses((status = 200, description = "The flow", body = FlowStatus))
)]
pub(super) async fn start(
    State(app): State<Shared>,
    Path(name): Path<String>,
) -> Answer<FlowStatus> {
    Ok(Json(app.control.start_flow(&name).await?))
}

/// Stops a flow.
#[utoipa::path(
    post, path = "/flows/{name}/stop", operation_id = "stopFlow", tag = "flows",
    summary = "Stop a flow",
    description = "What it has read is committed first. It stays stopped until it is started, also over a restart. A request that \
                   ends before that changes nothing of it.",
    params(("name" = String, Path, description = "The flow", min_length = 1, max_length = 100, example = "shop")),
    responses((status = 200, description = "The flow", body = FlowStatus))
)]
pub(super) async fn stop(
    State(app): State<Shared>,
    Path(name): Path<String>,
) -> Answer<FlowStatus> {
    Ok(Json(app.control.stop_flow(&name).await?))
}
