//! What can be asked, and of which part of the [`Control`](tributary_orchestrator::control::Control).

mod alerts;
mod endpoints;
mod events;
mod flows;
mod functions;
mod ingest;
mod jobs;
mod overview;
mod process;
mod runs;
mod schemas;
mod triggers;

use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::any;
use axum::{Json, Router};
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::access;
use crate::answer::answer;
use crate::app::Shared;
use crate::body::read_body;
use crate::limits::in_flight;
use crate::openapi;
use crate::problem::Problem;

/// What a handler answers.
type Answer<T> = Result<Json<T>, Problem>;

/// Names of triggers and functions, and ids, are no longer.
const LONGEST_NAME: usize = 400;

/// A name or id of a query.
fn named(key: &str, value: Option<String>) -> Result<Option<String>, Problem> {
    let length = value.as_ref().map(|value| value.chars().count());
    if length.is_some_and(|length| length == 0 || length > LONGEST_NAME) {
        let detail = format!("`{key}` has 1 to {LONGEST_NAME} characters");
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    Ok(value)
}

/// How many are answered at most.
fn limit(asked: Option<u64>) -> Result<usize, Problem> {
    let limit = usize::try_from(asked.unwrap_or(50)).ok();
    let limit = limit.filter(|limit| (1..=500).contains(limit));
    limit.ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "`limit` is 1 to 500"))
}

/// The routes with their documents.
pub(crate) fn documented() -> OpenApiRouter<Shared> {
    let mut router = controlled().merge(ingested());
    openapi::complete(router.get_openapi_mut());
    router
}

/// Those of events that are pushed.
fn ingested() -> OpenApiRouter<Shared> {
    OpenApiRouter::default().routes(routes!(ingest::push))
}

/// Those of the control.
fn controlled() -> OpenApiRouter<Shared> {
    let v1 = OpenApiRouter::default()
        .routes(routes!(overview::overview))
        .routes(routes!(overview::sources))
        .routes(routes!(overview::reload))
        .routes(routes!(events::events))
        .routes(routes!(flows::list))
        .routes(routes!(flows::one))
        .routes(routes!(flows::start))
        .routes(routes!(flows::stop))
        .routes(routes!(schemas::list))
        .routes(routes!(schemas::approve))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::one))
        .routes(routes!(jobs::run))
        .routes(routes!(runs::list))
        .routes(routes!(runs::one))
        .routes(routes!(runs::cancel))
        .routes(routes!(triggers::list))
        .routes(routes!(triggers::one))
        .routes(routes!(triggers::pause))
        .routes(routes!(triggers::resume))
        .routes(routes!(triggers::replay))
        .routes(routes!(triggers::letters))
        .routes(routes!(triggers::letter, triggers::discard_letter))
        .routes(routes!(triggers::replay_letter))
        .routes(routes!(functions::list))
        .routes(routes!(functions::one))
        .routes(routes!(alerts::list))
        .routes(routes!(alerts::test));
    OpenApiRouter::with_openapi(openapi::base())
        .nest("/api/v1", v1)
        .routes(routes!(process::health))
        .routes(routes!(process::ready))
        .routes(routes!(process::metrics))
        .routes(routes!(process::document))
}

/// The routes with all that is around them; what is added last comes first.
pub(crate) fn router(app: Shared, largest_request: usize) -> Router {
    let (controlled, _) = controlled().split_for_parts();
    let (ingested, _) = ingested().split_for_parts();
    let controlled = controlled
        .layer(from_fn(read_body))
        .layer(RequestBodyLimitLayer::new(largest_request))
        .layer(from_fn_with_state(app.clone(), access));
    // What none of them knows is answered by the one that is merged, behind its access.
    let limited = ingested
        .merge(controlled)
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            app.limits.request,
        ))
        .layer(from_fn_with_state(app.clone(), in_flight));
    // Endpoints have limits of their own.
    Router::new()
        .route("/app/{name}/endpoint/{*route}", any(endpoints::answer))
        .merge(limited)
        .layer(from_fn(answer))
        .with_state(app)
}
