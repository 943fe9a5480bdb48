//! HTTPS endpoints: routes of an application that functions answer.

mod recorder;
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
use crate::services::{Services, verify_signature};
use crate::trigger::run_of;
use recorder::Recorder;

pub use request::{HttpRequest, HttpResponse};

/// The function that calls the others. No application can have one of this name.
const ANSWER: &str = "\0answer";

/// The headers of a signature: of an endpoint, of a webhook before there were endpoints, and of GitHub's webhooks.
const SIGNATURES: [&str; 3] = [
    "endpoint-signature",
    "x-hook-signature",
    "x-hub-signature-256",
];

/// How the functions of endpoints run.
#[derive(Debug, Clone, Copy)]
pub struct EndpointOptions {
    /// What each may take.
    pub limits: Limits,
    /// How many threads they are spread over, at least one.
    pub threads: usize,
    /// Runs that succeed are logged, and not only those that fail or write to their console.
    pub log_successes: bool,
}

/// The endpoints of an application.
pub struct Endpoints {
    app: String,
    endpoints: Vec<Endpoint>,
    pool: Pool,
    runs: AtomicU64,
    recorder: Recorder,
}

impl Endpoints {
    /// The endpoints of `app`, whose runs are recorded in `ledger`.
    #[must_use]
    pub fn new(
        app: String,
        endpoints: Vec<Endpoint>,
        program: &Program,
        options: EndpointOptions,
        services: Arc<dyn Services>,
        ledger: Arc<dyn TriggerLedger>,
    ) -> Self {
        let EndpointOptions {
            limits,
            threads,
            log_successes,
        } = options;
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
            recorder: Recorder::new(ledger, log_successes),
        }
    }

    /// Whether there is an endpoint of this route, for whatever method.
    #[must_use]
    pub fn has_route(&self, route: &str) -> bool {
        self.at(route).next().is_some()
    }

    /// The endpoints of a route.
    fn at<'a>(&'a self, route: &str) -> impl Iterator<Item = &'a Endpoint> {
        let endpoints = self.endpoints.iter();
        endpoints.filter(move |endpoint| endpoint.route == route && !endpoint.disabled)
    }

    /// Whether a request is to be answered, by what comes before its body.
    ///
    /// # Errors
    /// What is answered in place of that.
    pub fn admit(&self, request: &HttpRequest) -> Result<(), HttpResponse> {
        self.admitting(request).map(|_| ())
    }

    /// The endpoint that a request is to be answered by, unless its body tells against it.
    fn admitting(&self, request: &HttpRequest) -> Result<&Endpoint, HttpResponse> {
        let mut known = self.at(&request.route).peekable();
        if known.peek().is_none() {
            let message = "there is no endpoint of this route";
            return Err(HttpResponse::error(404, message));
        }
        let endpoint = known.find(|endpoint| {
            endpoint.method == EndpointMethod::Any || endpoint.method.name() == request.method
        });
        let Some(endpoint) = endpoint else {
            let message = "the endpoint does not answer requests of this method";
            return Err(HttpResponse::error(405, message));
        };
        match is_admitted(&endpoint.validation, request) {
            true => Ok(endpoint),
            false => Err(unproven()),
        }
    }

    /// Answers a request.
    pub async fn answer(&self, request: HttpRequest) -> HttpResponse {
        let endpoint = match self.admitting(&request) {
            Ok(endpoint) => endpoint,
            Err(refusal) => return refusal,
        };
        if !is_signed(&endpoint.validation, &request) {
            return unproven();
        }
        let cause = format!("endpoint {} {}", request.method, endpoint.route);
        let outcome = self.call(endpoint, request).await;
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
        self.recorder.ended(&outcome, || {
            run_of(&self.app, &endpoint.function, cause, None, 1, &outcome)
        });
        response
    }

    /// Returns when all runs that have ended are recorded.
    pub async fn recorded(&self) {
        self.recorder.recorded().await;
    }

    async fn call(&self, endpoint: &Endpoint, request: HttpRequest) -> Outcome {
        let return_type = match request.accepted().unwrap_or(endpoint.return_type) {
            ReturnType::Json => "JSON",
            ReturnType::Ejson => "EJSON",
        };
        let arguments = doc! { "v": [&endpoint.function, request.argument(), return_type] };
        let call = Call {
            function: ANSWER.to_owned(),
            arguments: bytes_of(&arguments),
            request: Some(bytes_of(&request.context(&self.app, &endpoint.function))),
            run: self.runs.fetch_add(1, Ordering::Relaxed),
        };
        // The function may wait for its turn, and take long. Until then the body is there once.
        drop((arguments, request));
        self.pool.run(call).await
    }
}

fn unproven() -> HttpResponse {
    HttpResponse::error(401, "the request does not prove that it may be answered")
}

fn bytes_of(document: &Document) -> Bytes {
    // A request is smaller than a document may be, and all names in it are without NUL.
    bson::serialize_to_vec(document).map_or_else(|_| Bytes::new(), Bytes::from)
}

/// Whether what comes before the body of a request tells that it may be answered, or that its body may tell.
fn is_admitted(validation: &Validation, request: &HttpRequest) -> bool {
    match validation {
        Validation::None => true,
        Validation::SecretAsQueryParam(secret) => {
            is_same(request.secret_of_query().as_deref(), secret.as_str())
        }
        Validation::SecretAsHeader(secret) => is_same(request.header("secret"), secret.as_str()),
        Validation::VerifyPayload(_) => signature(request).is_some(),
    }
}

/// Whether the body of a request is signed, where it is to be.
fn is_signed(validation: &Validation, request: &HttpRequest) -> bool {
    let Validation::VerifyPayload(secret) = validation else {
        return true;
    };
    let signature = signature(request);
    signature.is_some_and(|signature| verify_signature(secret.as_str(), signature, &request.body))
}

/// The signature of a request.
fn signature(request: &HttpRequest) -> Option<&str> {
    SIGNATURES.iter().find_map(|name| request.header(name))
}

/// Whether a secret was given. It takes as long for a wrong one as for the right one; an empty one is no secret.
fn is_same(given: Option<&str>, secret: &str) -> bool {
    let given = given.unwrap_or_default().as_bytes();
    !secret.is_empty() && bool::from(subtle::ConstantTimeEq::ct_eq(given, secret.as_bytes()))
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
