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

/// An answer that is an application's, and is sent as it is.
#[derive(Clone, Copy)]
pub(crate) struct AsItIs;

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
    let mut response = match response.extensions().get::<AsItIs>() {
        Some(AsItIs) => response,
        None => problem::of(response).await,
    };
    let is_own = response.extensions().get::<AsItIs>().is_none();
    let headers = response.headers_mut();
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'"),
    ] {
        if is_own || !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
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
