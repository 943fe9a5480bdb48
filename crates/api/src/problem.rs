//! Failures as problems of RFC 9457.

use axum::body::to_bytes;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tributary_model::{Error, ErrorKind};
use utoipa::ToSchema;

/// Why a request failed, as RFC 9457 has it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// What sort of problem: `about:blank`, the status says it all.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The words for the status.
    title: String,
    /// The status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What failed, on what, why, and what to do about it.
    detail: String,
}

/// The media type of a problem.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// What is told of an answer that is no problem yet; such a text is a line.
const LONGEST_DETAIL: usize = 16 << 10;

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
        }
    }
}

/// The status that stands for a kind of error.
fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Usage => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::AlreadyExists
        | ErrorKind::Conflict
        | ErrorKind::HistoryLost
        | ErrorKind::OtherSource
        | ErrorKind::SchemaChanged => StatusCode::CONFLICT,
        // The credentials that are wrong here are those of Tributary with a server behind it.
        ErrorKind::Unauthenticated
        | ErrorKind::Forbidden
        | ErrorKind::Unreachable
        | ErrorKind::Unavailable
        | ErrorKind::InvalidData
        | ErrorKind::Storage => StatusCode::BAD_GATEWAY,
        ErrorKind::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = status(error.kind());
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(%error, "a request failed");
        }
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self)).into_response();
        let media_type = HeaderValue::from_static(MEDIA_TYPE);
        response.headers_mut().insert(CONTENT_TYPE, media_type);
        response
    }
}

/// Makes a problem of a failure that is none yet, such as those of the router. Its headers stay.
pub(crate) async fn of(response: Response) -> Response {
    let status = response.status();
    let is_failure = status.is_client_error() || status.is_server_error();
    let is_problem = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value == MEDIA_TYPE);
    if !is_failure || is_problem {
        return response;
    }
    let (parts, body) = response.into_parts();
    let said = to_bytes(body, LONGEST_DETAIL).await.unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let detail = match (status, said.trim()) {
        (StatusCode::NOT_FOUND, "") => {
            "there is nothing at this path; /openapi.json says what there is"
        }
        (StatusCode::METHOD_NOT_ALLOWED, "") => {
            "this path does not know this method; the header Allow says which it knows"
        }
        (StatusCode::REQUEST_TIMEOUT, "") => "the request took too long",
        (StatusCode::PAYLOAD_TOO_LARGE, _) => "the request is too large",
        (_, "") => "the request was not answered",
        (_, said) => said,
    };
    let mut problem = Problem::new(status, detail).into_response();
    for (name, value) in &parts.headers {
        if name != CONTENT_TYPE && name != CONTENT_LENGTH {
            problem.headers_mut().append(name, value.clone());
        }
    }
    *problem.extensions_mut() = parts.extensions;
    problem
}
