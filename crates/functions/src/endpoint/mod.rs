//! HTTPS endpoints: routes of an application that functions answer.

mod request;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bson::raw::RawDocument;
use bson::spec::BinarySubtype;
use bson::{Bson, Document, RawBsonRef, doc};
use bytes::Bytes;
use tributary_flow::TriggerLedger;

use crate::app::{Endpoint, EndpointMethod, ReturnType, Validation};
use crate::script::{Call, FailureKind, Limits, Outcome, Pool, Program, Source};
use crate::services::{Services, verify_payload_signature};
use crate::trigger::run_of;

pub use request::{HttpRequest, HttpResponse};

/// The function that calls the others. No application can have one of this name.
const ANSWER: &str = "\0answer";

/// The endpoints of an application.
pub struct Endpoints {
    app: String,
    endpoints: Vec<Endpoint>,
    pool: Pool,
    runs: AtomicU64,
    ledger: Arc<dyn TriggerLedger>,
}

impl Endpoints {
    /// The endpoints of `app`, whose functions run on `threads` threads, at least one.
    #[must_use]
    pub fn new(
        app: String,
        endpoints: Vec<Endpoint>,
        program: &Program,
        limits: Limits,
        services: Arc<dyn Services>,
        threads: usize,
        ledger: Arc<dyn TriggerLedger>,
    ) -> Self {
        let mut program = program.clone();
        let answer = Source {
            file: "tributary/answer.js".to_owned(),
            text: Arc::from(include_str!("answer.js")),
        };
        program.functions.insert(ANSWER.to_owned(), answer);
        Self {
            app,
            endpoints,
            pool: Pool::new(Arc::new(program), limits, services, threads),
            runs: AtomicU64::new(0),
            ledger,
        }
    }

    /// Whether there is an endpoint of this route, for whatever method.
    #[must_use]
    pub fn has_route(&self, route: &str) -> bool {
        self.at(route).next().is_some()
    }

    /// The endpoints of a route.
    fn at<'a>(&'a self, route: &'a str) -> impl Iterator<Item = &'a Endpoint> {
        let endpoints = self.endpoints.iter();
        endpoints.filter(move |endpoint| endpoint.route == route && !endpoint.disabled)
    }

    /// Answers a request.
    pub async fn answer(&self, request: HttpRequest) -> HttpResponse {
        let mut known = self.at(&request.route).peekable();
        if known.peek().is_none() {
            return HttpResponse::error(404, "there is no endpoint of this route");
        }
        let Some(endpoint) = known.find(|endpoint| {
            endpoint.method == EndpointMethod::Any || endpoint.method.name() == request.method
        }) else {
            return HttpResponse::error(
                405,
                "the endpoint does not answer requests of this method",
            );
        };
        if !is_allowed(&endpoint.validation, &request) {
            return HttpResponse::error(401, "the request does not prove that it may be answered");
        }
        let outcome = self.call(endpoint, &request).await;
        let response = match &outcome.result {
            Ok(_) if !endpoint.respond_result => HttpResponse::status(204),
            Ok(result) => response_of(result).unwrap_or_else(|| {
                HttpResponse::error(500, "the function's response cannot be sent")
            }),
            Err(failure) => {
                let status = match failure.kind {
                    FailureKind::TimedOut => 504,
                    FailureKind::Lost | FailureKind::OutOfMemory => 503,
                    _ => 400,
                };
                HttpResponse::error(status, &failure.to_string())
            }
        };
        let cause = format!("endpoint {} {}", request.method, endpoint.route);
        let run = run_of(&self.app, &endpoint.function, cause, None, 1, &outcome);
        if let Err(error) = self.ledger.record(vec![run]).await {
            tracing::warn!(%error, "the run of an endpoint could not be recorded");
        }
        response
    }

    async fn call(&self, endpoint: &Endpoint, request: &HttpRequest) -> Outcome {
        let return_type = match endpoint.return_type {
            ReturnType::Json => "JSON",
            ReturnType::Ejson => "EJSON",
        };
        let given = doc! { "v": [&endpoint.function, request.argument(), return_type] };
        let call = Call {
            function: ANSWER.to_owned(),
            arguments: bytes_of(&given),
            request: Some(bytes_of(&request.context(&self.app, &endpoint.function))),
            run: self.runs.fetch_add(1, Ordering::Relaxed),
        };
        self.pool.run(call).await
    }
}

fn bytes_of(document: &Document) -> Bytes {
    // A request is smaller than a document may be, and all names in it are without NUL.
    bson::serialize_to_vec(document).map_or_else(|_| Bytes::new(), Bytes::from)
}

fn is_allowed(validation: &Validation, request: &HttpRequest) -> bool {
    let same = |given: Option<&str>, secret: &str| {
        given.is_some_and(|given| {
            bool::from(subtle::ConstantTimeEq::ct_eq(
                given.as_bytes(),
                secret.as_bytes(),
            ))
        })
    };
    match validation {
        Validation::None => true,
        Validation::SecretAsQueryParam(secret) => {
            same(request.query("secret").as_deref(), secret.as_str())
        }
        Validation::SecretAsHeader(secret) => same(request.header("secret"), secret.as_str()),
        Validation::VerifyPayload(secret) => {
            let header = request
                .header("endpoint-signature")
                .or_else(|| request.header("x-hook-signature"));
            header.is_some_and(|header| {
                verify_payload_signature(secret.as_str(), header, &request.body)
            })
        }
    }
}

/// What the function that calls the others has answered.
fn response_of(result: &Bytes) -> Option<HttpResponse> {
    let result = RawDocument::from_bytes(result).ok()?;
    let response = result.get_document("v").ok()?;
    let status = match response.get("statusCode").ok()?? {
        RawBsonRef::Int32(status) => u16::try_from(status).ok()?,
        _ => return None,
    };
    let mut headers = Vec::new();
    for header in response.get_array("headers").ok()? {
        let header = header.ok()?.as_array()?;
        let text = |place: usize| header.get(place).ok()??.as_str();
        headers.push((text(0)?.to_owned(), text(1)?.to_owned()));
    }
    let body = match response.get("body").ok()? {
        Some(RawBsonRef::String(text)) => Bytes::copy_from_slice(text.as_bytes()),
        Some(RawBsonRef::Binary(binary)) => Bytes::copy_from_slice(binary.bytes),
        _ => Bytes::new(),
    };
    Some(HttpResponse {
        status,
        headers,
        body,
    })
}

/// Bytes as functions are given them.
fn binary(bytes: &[u8]) -> Bson {
    Bson::Binary(bson::Binary {
        subtype: BinarySubtype::Generic,
        bytes: bytes.to_vec(),
    })
}
