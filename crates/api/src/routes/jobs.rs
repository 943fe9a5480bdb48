//! Jobs.

use axum::extract::{Path, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderName, StatusCode};
use axum::{Extension, Json};
use tributary_orchestrator::status::{JobStatus, Run};

use super::Answer;
use crate::access::Caller;
use crate::app::Shared;
use crate::problem::Problem;

/// All jobs.
#[utoipa::path(
    get, path = "/jobs", operation_id = "listJobs", tag = "jobs",
    summary = "All jobs, by name",
    responses((status = 200, description = "All jobs", body = Vec<JobStatus>))
)]
pub(super) async fn list(State(app): State<Shared>) -> Answer<Vec<JobStatus>> {
    Ok(Json(app.control.jobs().await?))
}

/// One job.
#[utoipa::path(
    get, path = "/jobs/{name}", operation_id = "getJob", tag = "jobs",
    summary = "One job",
    params(("name" = String, Path, description = "The job", min_length = 1, max_length = 100, example = "nightly")),
    responses((status = 200, description = "The job", body = JobStatus))
)]
pub(super) async fn one(State(app): State<Shared>, Path(name): Path<String>) -> Answer<JobStatus> {
    Ok(Json(app.control.job(&name).await?))
}

/// Has a job run.
#[utoipa::path(
    post, path = "/jobs/{name}/runs", operation_id = "runJob", tag = "jobs",
    summary = "Have a job run now",
    description = "What becomes of it where a run is there already is as the job's overlap policy says: the run may be queued or skipped.",
    params(("name" = String, Path, description = "The job", min_length = 1, max_length = 100, example = "nightly")),
    responses((
        status = 202, description = "Its run", body = Run,
        headers(("Location" = String, description = "Where the run is"))
    ))
)]
pub(super) async fn run(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Run>), Problem> {
    let run = app.control.run_job(&name, caller.name()).await?;
    let place = format!("/api/v1/runs/{}", run.id);
    Ok((StatusCode::ACCEPTED, [(LOCATION, place)], Json(run)))
}
