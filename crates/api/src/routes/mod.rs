//! What can be asked, and of which part of the [`Control`](tributary_orchestrator::control::Control).

mod alerts;
mod events;
mod flows;
mod ingest;
mod jobs;
mod overview;
mod process;
mod runs;
mod schemas;

use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::{Json, Router};
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::access;
use crate::answer::answer;
use crate::app::Shared;
use crate::limits::{in_flight, read_body};
use crate::openapi;
use crate::problem::Problem;

/// What a handler answers.
type Answer<T> = Result<Json<T>, Problem>;

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
    // What neither knows is answered by the one that is merged, behind its access.
    ingested
        .merge(controlled)
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            app.limits.request,
        ))
        .layer(from_fn_with_state(app.clone(), in_flight))
        .layer(from_fn(answer))
        .with_state(app)
}
