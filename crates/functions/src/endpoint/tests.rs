//! Requests that real functions answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tributary_flow::{
    DeadLetter, FunctionRun, Progress, StartAt, TriggerLedger, TriggerRecord, TriggerState,
};
use tributary_model::Result;

use super::*;
use crate::services::{Reach, ReachSettings, Secret};

/// Remembers runs.
#[derive(Default)]
struct Runs(Mutex<Vec<FunctionRun>>);

#[async_trait]
impl TriggerLedger for Runs {
    async fn load(&self, _: &str) -> Result<TriggerRecord> {
        Ok(TriggerRecord::default())
    }

    async fn revisions(&self) -> Result<Vec<(String, u64)>> {
        Ok(Vec::new())
    }

    async fn advance(&self, _: &str, _: Progress) -> Result<()> {
        Ok(())
    }

    async fn set_state(&self, _: &str, _: u64, _: TriggerState, _: Option<StartAt>) -> Result<()> {
        Ok(())
    }

    async fn to_replay(&self, _: &str) -> Result<Vec<DeadLetter>> {
        Ok(Vec::new())
    }

    async fn replayed(&self, _: &str, _: Option<String>, _: FunctionRun) -> Result<()> {
        Ok(())
    }

    async fn record(&self, runs: Vec<FunctionRun>) -> Result<()> {
        self.0.lock().unwrap().extend(runs);
        Ok(())
    }
}

/// The one endpoint, `POST /orders`, whose function is `source`.
fn endpoints(source: &str, change: impl FnOnce(&mut Endpoint)) -> (Endpoints, Arc<Runs>) {
    let mut endpoint = Endpoint {
        route: "/orders".to_owned(),
        method: EndpointMethod::Post,
        function: "answers".to_owned(),
        validation: Validation::None,
        respond_result: true,
        return_type: ReturnType::Json,
        disabled: false,
        file: "http_endpoints/config.json".to_owned(),
    };
    change(&mut endpoint);
    let source = Source {
        file: "functions/answers.js".to_owned(),
        text: Arc::from(source),
    };
    let program = Program {
        functions: BTreeMap::from([("answers".to_owned(), source)]),
        ..Program::default()
    };
    let limits = Limits {
        timeout: Duration::from_secs(5),
        ..Limits::default()
    };
    let runs = Arc::new(Runs::default());
    let services = Arc::new(Reach::new(ReachSettings::default()).unwrap());
    let endpoints = Endpoints::new(
        "shop".to_owned(),
        vec![endpoint],
        &program,
        limits,
        services,
        2,
        runs.clone(),
    );
    (endpoints, runs)
}

fn request() -> HttpRequest {
    HttpRequest {
        method: "POST".to_owned(),
        route: "/orders".to_owned(),
        url: "/app/shop/endpoint/orders".to_owned(),
        raw_query: "a=1&a=2&b=%C3%A4".to_owned(),
        headers: vec![
            ("content-type".to_owned(), "application/json".to_owned()),
            ("x-many".to_owned(), "1".to_owned()),
            ("x-many".to_owned(), "2".to_owned()),
        ],
        body: Bytes::from_static(br#"{"total":5}"#),
        remote: Some("127.0.0.1".parse().unwrap()),
    }
}

fn text(response: &HttpResponse) -> &str {
    std::str::from_utf8(&response.body).unwrap()
}

#[tokio::test]
async fn a_function_is_given_the_request_and_what_it_returns_is_sent() {
    let (endpoints, runs) = endpoints(
        "exports = function (request) {
            const { query, headers, body } = request;
            const asked = context.request;
            console.log('asked');
            return {
                query,
                many: headers['X-Many'],
                total: JSON.parse(body.text()).total,
                method: asked.httpMethod,
                raw: asked.rawQueryString,
                remote: asked.remoteIPAddress,
            };
        };",
        |_| {},
    );
    let response = endpoints.answer(request()).await;
    assert_eq!(response.status, 200, "{}", text(&response));
    let said: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    let expected = serde_json::json!({
        "query": { "a": "1", "b": "ä" },
        "many": ["1", "2"],
        "total": 5,
        "method": "POST",
        "raw": "a=1&a=2&b=%C3%A4",
        "remote": "127.0.0.1",
    });
    assert_eq!(said, expected);
    let type_of = ("Content-Type".to_owned(), "application/json".to_owned());
    assert_eq!(response.headers, [type_of]);
    let runs = runs.0.lock().unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].cause, "endpoint POST /orders");
    assert_eq!(runs[0].console, [("log".to_owned(), "asked".to_owned())]);
}

#[tokio::test]
async fn a_function_may_fill_in_the_response() {
    let (endpoints, _) = endpoints(
        "exports = async function (request, response) {
            response.setStatusCode(201);
            response.setHeader('Content-Type', 'text/plain');
            response.addHeader('X-Own', '1');
            response.addHeader('X-Own', '2');
            response.setBody('made');
            return 'not sent';
        };",
        |_| {},
    );
    let response = endpoints.answer(request()).await;
    assert_eq!(response.status, 201);
    assert_eq!(text(&response), "made");
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let expected = [
        header("Content-Type", "text/plain"),
        header("X-Own", "1"),
        header("X-Own", "2"),
    ];
    assert_eq!(response.headers, expected);
}

#[tokio::test]
async fn results_are_json_or_extended_json_or_not_sent() {
    let source = "exports = () => ({ id: new BSON.ObjectId('65f000000000000000000001'), n: BSON.Long.fromString('5') });";
    let (json, _) = endpoints(source, |_| {});
    let response = json.answer(request()).await;
    assert_eq!(
        text(&response),
        r#"{"id":"65f000000000000000000001","n":5}"#
    );
    let (extended, _) = endpoints(source, |endpoint| endpoint.return_type = ReturnType::Ejson);
    let response = extended.answer(request()).await;
    assert_eq!(
        text(&response),
        r#"{"id":{"$oid":"65f000000000000000000001"},"n":{"$numberLong":"5"}}"#
    );
    let (silent, _) = endpoints(source, |endpoint| endpoint.respond_result = false);
    assert_eq!(silent.answer(request()).await, HttpResponse::status(204));
}

#[tokio::test]
async fn what_a_function_throws_is_told_and_recorded() {
    let (endpoints, runs) = endpoints(
        "exports = function () {\n  throw new TypeError('no such order');\n};",
        |_| {},
    );
    let response = endpoints.answer(request()).await;
    assert_eq!(response.status, 400);
    assert_eq!(text(&response), r#"{"error":"TypeError: no such order"}"#);
    let runs = runs.0.lock().unwrap();
    let error = runs[0].error.as_ref().unwrap();
    assert_eq!(error.file.as_deref(), Some("functions/answers.js"));
    assert_eq!(error.line, Some(2));
}

#[tokio::test]
async fn who_cannot_prove_that_it_may_ask_is_refused() {
    let secret = || Secret::from("the-secret".to_owned());
    let source = "exports = () => 1;";
    let (by_query, _) = endpoints(source, |endpoint| {
        endpoint.validation = Validation::SecretAsQueryParam(secret());
    });
    assert_eq!(by_query.answer(request()).await.status, 401);
    let query = |text: &str| HttpRequest {
        raw_query: text.to_owned(),
        ..request()
    };
    assert_eq!(by_query.answer(query("secret=wrong")).await.status, 401);
    assert_eq!(
        by_query.answer(query("secret=the-secret")).await.status,
        200
    );

    let (by_header, _) = endpoints(source, |endpoint| {
        endpoint.validation = Validation::SecretAsHeader(secret());
    });
    let header = |name: &str, value: &str| HttpRequest {
        headers: vec![(name.to_owned(), value.to_owned())],
        ..request()
    };
    assert_eq!(by_header.answer(header("secret", "x")).await.status, 401);
    assert_eq!(
        by_header
            .answer(header("Secret", "the-secret"))
            .await
            .status,
        200
    );

    let (by_signature, _) = endpoints(source, |endpoint| {
        endpoint.validation = Validation::VerifyPayload(secret());
    });
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"the-secret");
    let signature = hex::encode(ring::hmac::sign(&key, &request().body));
    let signed = header("Endpoint-Signature", &format!("sha256={signature}"));
    assert_eq!(by_signature.answer(signed).await.status, 200);
    let wrong = header("Endpoint-Signature", &format!("sha256={}", "0".repeat(64)));
    assert_eq!(by_signature.answer(wrong).await.status, 401);
    assert_eq!(by_signature.answer(request()).await.status, 401);
}

#[tokio::test]
async fn other_routes_and_methods_are_not_answered() {
    let (endpoints, runs) = endpoints("exports = () => 1;", |_| {});
    let other = HttpRequest {
        route: "/other".to_owned(),
        ..request()
    };
    assert_eq!(endpoints.answer(other).await.status, 404);
    let get = HttpRequest {
        method: "GET".to_owned(),
        ..request()
    };
    assert_eq!(endpoints.answer(get).await.status, 405);
    assert!(runs.0.lock().unwrap().is_empty());
}
