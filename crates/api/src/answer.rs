//! What is true of every answer, and the log of them.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;

use crate::access::Caller;
use crate::problem::{self, Problem};

/// Answers also where a handler panics, with the headers that every answer has, and logs it. The query is
/// not logged: there is nothing to learn from it that is worth a token that somebody put there by mistake.
pub(crate) async fn answer(request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let response = answered.unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<&str>()
            .map(|said| (*said).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        tracing::error!(%method, path, panic = said, "a request met a bug in tributary");
        let detail = "this is a bug in tributary: please report it with its log";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into_response()
    });
    let mut response = problem::of(response).await;
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let policy = HeaderValue::from_static("default-src 'none'");
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    tracing::debug!(
        %method,
        path,
        status = response.status().as_u16(),
        milliseconds = began.elapsed().as_secs_f64() * 1000.0,
        by = response.extensions().get::<Caller>().map(Caller::name),
        "answered"
    );
    response
}
