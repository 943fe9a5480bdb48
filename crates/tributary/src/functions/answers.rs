//! Endpoints of applications, behind the API.

use async_trait::async_trait;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tributary_api::{Admission, Answered, Asked, Endpoints};
use tributary_functions::endpoint::{HttpRequest, HttpResponse};

use super::FunctionHost;

/// The most bytes of a request's body, as Atlas has it.
const LARGEST_REQUEST: usize = 18 << 20;

#[async_trait]
impl Endpoints for FunctionHost {
    fn admit(&self, app: &str, asked: &Asked) -> Admission {
        let endpoints = self.endpoints_of(app);
        let Some(endpoints) = endpoints.filter(|endpoints| endpoints.has_route(&asked.route))
        else {
            return Admission::Unknown;
        };
        match endpoints.admit(&request_of(asked.clone())) {
            Ok(()) => Admission::Read(LARGEST_REQUEST),
            Err(refusal) => Admission::Refused(answered(refusal)),
        }
    }

    async fn answer(&self, app: &str, asked: Asked) -> Option<Answered> {
        let endpoints = self.endpoints_of(app)?;
        Some(answered(endpoints.answer(request_of(asked)).await))
    }
}

fn request_of(asked: Asked) -> HttpRequest {
    let headers = asked.headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.as_str().to_owned(), value)
    });
    HttpRequest {
        method: asked.method.as_str().to_owned(),
        route: asked.route,
        raw_query: asked.query,
        headers: headers.collect(),
        body: asked.body,
        remote: asked.remote,
    }
}

fn answered(response: HttpResponse) -> Answered {
    let mut headers = HeaderMap::new();
    for (name, value) in response.headers {
        // What is no header of HTTP cannot be sent; how long the body is, is known here.
        let (Ok(name), Ok(value)) = (
            HeaderName::try_from(name.as_str()),
            HeaderValue::try_from(value),
        ) else {
            tracing::warn!(
                header = name,
                "a function has set a header that cannot be sent"
            );
            continue;
        };
        if !HOP_BY_HOP.contains(&name.as_str()) {
            headers.append(name, value);
        }
    }
    Answered {
        status: StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        headers,
        body: response.body,
    }
}

/// Headers that are the connection's, and not a function's.
const HOP_BY_HOP: [&str; 6] = [
    "connection",
    "content-length",
    "keep-alive",
    "te",
    "transfer-encoding",
    "upgrade",
];
