//! Triggers, and the events that they have given up on.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use tributary_orchestrator::status::{
    DeadLetterDetail, DeadLetterStatus, LetterFilter, Letters, TriggerStatus,
};
use utoipa::{IntoParams, ToSchema};

use super::{Answer, limit, named};
use crate::app::Shared;
use crate::problem::Problem;

/// All triggers.
#[utoipa::path(
    get, path = "/triggers", operation_id = "listTriggers", tag = "triggers",
    summary = "All triggers, by name",
    description = "Those included that are remembered and not in the configuration any more.",
    responses((status = 200, description = "All triggers", body = Vec<TriggerStatus>))
)]
pub(super) async fn list(State(app): State<Shared>) -> Answer<Vec<TriggerStatus>> {
    Ok(Json(app.control.triggers().await?))
}

/// One trigger.
#[utoipa::path(
    get, path = "/triggers/{name}", operation_id = "getTrigger", tag = "triggers",
    summary = "One trigger",
    params(("name" = String, Path, description = "The trigger: the slash of one of an app is percent-encoded", min_length = 1, max_length = 400, example = "billing/charge")),
    responses((status = 200, description = "The trigger", body = TriggerStatus))
)]
pub(super) async fn one(
    State(app): State<Shared>,
    Path(name): Path<String>,
) -> Answer<TriggerStatus> {
    Ok(Json(app.control.trigger(&name).await?))
}

/// Pauses a trigger.
#[utoipa::path(
    post, path = "/triggers/{name}/pause", operation_id = "pauseTrigger", tag = "triggers",
    summary = "Have a trigger wait until it is resumed",
    description = "Runs that have begun end. It stays paused over a restart.",
    params(("name" = String, Path, description = "The trigger: the slash of one of an app is percent-encoded", min_length = 1, max_length = 400, example = "billing/charge")),
    responses((status = 200, description = "The trigger", body = TriggerStatus))
)]
pub(super) async fn pause(
    State(app): State<Shared>,
    Path(name): Path<String>,
) -> Answer<TriggerStatus> {
    Ok(Json(app.control.pause_trigger(&name).await?))
}

/// Resumes a trigger.
#[utoipa::path(
    post, path = "/triggers/{name}/resume", operation_id = "resumeTrigger", tag = "triggers",
    summary = "Have a trigger go on that is paused or suspended",
    description = "One that runs goes on.",
    params(("name" = String, Path, description = "The trigger: the slash of one of an app is percent-encoded", min_length = 1, max_length = 400, example = "billing/charge")),
    responses((status = 200, description = "The trigger", body = TriggerStatus))
)]
pub(super) async fn resume(
    State(app): State<Shared>,
    Path(name): Path<String>,
) -> Answer<TriggerStatus> {
    Ok(Json(app.control.resume_trigger(&name).await?))
}

/// From where a trigger is to run again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Replay {
    /// The moment, which has passed
    from: DateTime<Utc>,
}

/// Replays a trigger.
#[utoipa::path(
    post, path = "/triggers/{name}/replay", operation_id = "replayTrigger", tag = "triggers",
    summary = "Have a trigger run for all that happened from a moment on, again where it has",
    description = "One that is suspended is resumed; one that is paused begins there when it is.",
    params(("name" = String, Path, description = "The trigger: the slash of one of an app is percent-encoded", min_length = 1, max_length = 400, example = "billing/charge")),
    request_body(content = Replay, description = "From where"),
    responses((status = 200, description = "The trigger", body = TriggerStatus))
)]
pub(super) async fn replay(
    State(app): State<Shared>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer<TriggerStatus> {
    let replay: Replay = serde_json::from_slice(&body).map_err(|error| {
        let detail = format!("this is no moment, {{\"from\": \"2026-01-31T12:00:00Z\"}}: {error}");
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })?;
    Ok(Json(app.control.replay_trigger(&name, replay.from).await?))
}

/// Which dead letters are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// Of this trigger
    #[param(min_length = 1, max_length = 400)]
    trigger: Option<String>,
    /// Those before the dead letter of this id
    #[param(min_length = 1, max_length = 400)]
    before: Option<String>,
    /// How many at most
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u64>,
}

impl TryFrom<Asked> for LetterFilter {
    type Error = Problem;

    fn try_from(asked: Asked) -> Result<Self, Problem> {
        Ok(Self {
            trigger: named("trigger", asked.trigger)?,
            before: named("before", asked.before)?,
            limit: limit(asked.limit)?,
        })
    }
}

/// Dead letters.
#[utoipa::path(
    get, path = "/dead-letters", operation_id = "listDeadLetters", tag = "triggers",
    summary = "Events that triggers have given up on, the newest first",
    params(Asked),
    responses((status = 200, description = "The dead letters", body = Vec<DeadLetterStatus>))
)]
pub(super) async fn letters(
    State(app): State<Shared>,
    Query(asked): Query<Asked>,
) -> Answer<Vec<DeadLetterStatus>> {
    Ok(Json(app.control.dead_letters(asked.try_into()?).await?))
}

/// One dead letter.
#[utoipa::path(
    get, path = "/dead-letters/{id}", operation_id = "getDeadLetter", tag = "triggers",
    summary = "One dead letter, with what its function was called with",
    params(("id" = String, Path, description = "The dead letter", min_length = 1, max_length = 100, example = "0199c2a0-0000-7000-8000-000000000002")),
    responses((status = 200, description = "The dead letter", body = DeadLetterDetail))
)]
pub(super) async fn letter(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Answer<DeadLetterDetail> {
    Ok(Json(app.control.dead_letter(&id).await?))
}

/// Replays a dead letter.
#[utoipa::path(
    post, path = "/dead-letters/{id}/replay", operation_id = "replayDeadLetter", tag = "triggers",
    summary = "Have a dead letter be tried again",
    description = "It is gone when that succeeds, and otherwise stays with another error.",
    params(("id" = String, Path, description = "The dead letter", min_length = 1, max_length = 100, example = "0199c2a0-0000-7000-8000-000000000002")),
    responses((status = 202, description = "It is to be tried"))
)]
pub(super) async fn replay_letter(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let letters = Letters::These(vec![id]);
    app.control.replay_dead_letters(letters).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Discards a dead letter.
#[utoipa::path(
    delete, path = "/dead-letters/{id}", operation_id = "discardDeadLetter", tag = "triggers",
    summary = "Forget a dead letter",
    params(("id" = String, Path, description = "The dead letter", min_length = 1, max_length = 100, example = "0199c2a0-0000-7000-8000-000000000002")),
    responses((status = 204, description = "It is gone"))
)]
pub(super) async fn discard_letter(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let letters = Letters::These(vec![id]);
    app.control.discard_dead_letters(letters).await?;
    Ok(StatusCode::NO_CONTENT)
}
