//! Runs of functions.

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use tributary_orchestrator::status::{FunctionRunDetail, FunctionRunFilter, FunctionRunStatus};
use utoipa::IntoParams;

use super::{Answer, limit, named};
use crate::app::Shared;
use crate::problem::Problem;

/// Which runs are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// Of this application
    #[param(min_length = 1, max_length = 400)]
    app: Option<String>,
    /// Of this function
    #[param(min_length = 1, max_length = 400)]
    function: Option<String>,
    /// Of this trigger
    #[param(min_length = 1, max_length = 400)]
    trigger: Option<String>,
    /// Only those that failed
    #[param(default = false)]
    failed: Option<bool>,
    /// Those before the run of this id
    #[param(min_length = 1, max_length = 400)]
    before: Option<String>,
    /// How many at most
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u64>,
}

impl TryFrom<Asked> for FunctionRunFilter {
    type Error = Problem;

    fn try_from(asked: Asked) -> Result<Self, Problem> {
        Ok(Self {
            app: named("app", asked.app)?,
            function: named("function", asked.function)?,
            trigger: named("trigger", asked.trigger)?,
            failed: asked.failed == Some(true),
            before: named("before", asked.before)?,
            limit: limit(asked.limit)?,
        })
    }
}

/// Runs.
#[utoipa::path(
    get, path = "/function-runs", operation_id = "listFunctionRuns", tag = "triggers",
    summary = "Runs of functions that are remembered, the newest first",
    description = "Of those that succeed and write nothing there are none, unless they are to be logged.",
    params(Asked),
    responses((status = 200, description = "The runs", body = Vec<FunctionRunStatus>))
)]
pub(super) async fn list(
    State(app): State<Shared>,
    Query(asked): Query<Asked>,
) -> Answer<Vec<FunctionRunStatus>> {
    Ok(Json(app.control.function_runs(asked.try_into()?).await?))
}

/// One run.
#[utoipa::path(
    get, path = "/function-runs/{id}", operation_id = "getFunctionRun", tag = "triggers",
    summary = "One run of a function, with what it wrote",
    params(("id" = String, Path, description = "The run", min_length = 1, max_length = 100, example = "0199c2a0-0000-7000-8000-000000000003")),
    responses((status = 200, description = "The run", body = FunctionRunDetail))
)]
pub(super) async fn one(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Answer<FunctionRunDetail> {
    Ok(Json(app.control.function_run(&id).await?))
}
