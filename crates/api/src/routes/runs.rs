//! Runs of jobs.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use tributary_orchestrator::status::{Run, RunDetail, RunFilter, RunState};
use utoipa::IntoParams;

use super::{Answer, limit};
use crate::access::Caller;
use crate::app::Shared;
use crate::problem::Problem;

/// Names and ids are no longer.
const LONGEST: usize = 100;

/// Which runs are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// Of this job
    #[param(min_length = 1, max_length = 100)]
    job: Option<String>,
    /// In this state
    #[param(inline)]
    state: Option<RunState>,
    /// Those before the run of this id
    #[param(min_length = 1, max_length = 100)]
    before: Option<String>,
    /// How many at most
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u64>,
}

impl TryFrom<Asked> for RunFilter {
    type Error = Problem;

    fn try_from(asked: Asked) -> Result<Self, Problem> {
        let wrong = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
        for (name, value) in [("job", &asked.job), ("before", &asked.before)] {
            let length = value.as_ref().map(|value| value.chars().count());
            if length.is_some_and(|length| length == 0 || length > LONGEST) {
                return Err(wrong(format!("`{name}` has 1 to {LONGEST} characters")));
            }
        }
        Ok(Self {
            job: asked.job,
            state: asked.state,
            before: asked.before,
            limit: limit(asked.limit)?,
        })
    }
}

/// Runs.
#[utoipa::path(
    get, path = "/runs", operation_id = "listRuns", tag = "jobs",
    summary = "Runs of jobs, the newest first",
    params(Asked),
    responses((status = 200, description = "The runs", body = Vec<Run>))
)]
pub(super) async fn list(
    State(app): State<Shared>,
    Query(asked): Query<Asked>,
) -> Answer<Vec<Run>> {
    Ok(Json(app.control.runs(asked.try_into()?).await?))
}

/// One run.
#[utoipa::path(
    get, path = "/runs/{id}", operation_id = "getRun", tag = "jobs",
    summary = "One run with its steps",
    params(("id" = String, Path, description = "The run", min_length = 1, max_length = 100, example = "0199c2a0-0000-7000-8000-000000000001")),
    responses((status = 200, description = "The run", body = RunDetail))
)]
pub(super) async fn one(State(app): State<Shared>, Path(id): Path<String>) -> Answer<RunDetail> {
    Ok(Json(app.control.run(&id).await?))
}

/// Cancels a run.
#[utoipa::path(
    post, path = "/runs/{id}/cancel", operation_id = "cancelRun", tag = "jobs",
    summary = "Cancel a run that waits or runs",
    description = "It ends within seconds. One that has ended cannot be cancelled.",
    params(("id" = String, Path, description = "The run", min_length = 1, max_length = 100, example = "0199c2a0-0000-7000-8000-000000000001")),
    responses((status = 200, description = "The run", body = Run))
)]
pub(super) async fn cancel(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<Run> {
    Ok(Json(app.control.cancel_run(&id, caller.name()).await?))
}
