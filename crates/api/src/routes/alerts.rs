//! Alerts.

use axum::Json;
use axum::extract::State;
use tributary_orchestrator::status::{AlertStatus, Told};

use super::Answer;
use crate::app::Shared;

/// The alerts.
#[utoipa::path(
    get, path = "/alerts", operation_id = "listAlerts", tag = "alerts",
    summary = "The alerts that fire, and those that have recovered of late",
    responses((status = 200, description = "The alerts", body = Vec<AlertStatus>))
)]
pub(super) async fn list(State(app): State<Shared>) -> Answer<Vec<AlertStatus>> {
    Ok(Json(app.control.alerts().await?))
}

/// Tests the receivers.
#[utoipa::path(
    post, path = "/alerts/test", operation_id = "testAlerts", tag = "alerts",
    summary = "Tell every receiver that this is a test",
    responses((status = 200, description = "What came of it, for each receiver", body = Vec<Told>))
)]
pub(super) async fn test(State(app): State<Shared>) -> Answer<Vec<Told>> {
    Ok(Json(app.control.test_alerts().await?))
}
