//! Schema changes.

use axum::Json;
use axum::extract::{Path, State};
use tributary_orchestrator::status::SchemaStatus;

use super::Answer;
use crate::app::Shared;

/// The schema changes of a flow's tables.
#[utoipa::path(
    get, path = "/flows/{name}/schemas", operation_id = "listSchemas", tag = "schemas",
    summary = "The schema changes of a flow's tables, and what was decided",
    params(("name" = String, Path, description = "The flow", min_length = 1, max_length = 100, example = "shop")),
    responses((status = 200, description = "The tables that had any", body = Vec<SchemaStatus>))
)]
pub(super) async fn list(
    State(app): State<Shared>,
    Path(name): Path<String>,
) -> Answer<Vec<SchemaStatus>> {
    Ok(Json(app.control.schemas(&name).await?))
}

/// Approves a schema change.
#[utoipa::path(
    post, path = "/flows/{name}/schemas/{table}/approve", operation_id = "approveSchema", tag = "schemas",
    summary = "Approve the schema change that a table waits with",
    params(
        ("name" = String, Path, description = "The flow", min_length = 1, max_length = 100, example = "shop"),
        ("table" = String, Path, description = "The table, as database.collection", min_length = 1, max_length = 255, example = "shop.orders"),
    ),
    responses((status = 200, description = "The table", body = SchemaStatus))
)]
pub(super) async fn approve(
    State(app): State<Shared>,
    Path((name, table)): Path<(String, String)>,
) -> Answer<SchemaStatus> {
    Ok(Json(app.control.approve_schema(&name, &table).await?))
}
