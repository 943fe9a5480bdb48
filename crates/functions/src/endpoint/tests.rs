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

impl Runs {
    /// Those that have been recorded, when all have.
    async fn all(&self, endpoints: &Endpoints) -> Vec<FunctionRun> {
        endpoints.recorded().await;
        self.0.lock().unwrap().clone()
    }
}

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
    endpoints_with(source, options(), change)
}

fn options() -> EndpointOptions {
    EndpointOptions {
        limits: Limits {
            timeout: Duration::from_secs(5),
            ..Limits::default()
        },
        threads: 2,
        log_successes: false,
    }
}

fn endpoints_with(
    source: &str,
    options: EndpointOptions,
    change: impl FnOnce(&mut Endpoint),
) -> (Endpoints, Arc<Runs>) {
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
    let runs = Arc::new(Runs::default());
    let services = Arc::new(Reach::new(ReachSettings::default()).unwrap());
    let endpoints = Endpoints::new(
        "shop".to_owned(),
        vec![endpoint],
        &program,
        options,
        services,
        runs.clone(),
    );
    (endpoints, runs)
}

fn request() -> HttpRequest {
    HttpRequest {
        method: "POST".to_owned(),
        route: "/orders".to_owned(),
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
    let runs = runs.all(&endpoints).await;
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].cause, "endpoint POST /orders");
    assert_eq!(runs[0].console, [("log".to_owned(), "asked".to_owned())]);
}

#[tokio::test]
async fn a_function_is_not_given_the_secret_of_a_query() {
    let (endpoints, _) = endpoints(
        "exports = ({ query }) => {
            const { rawQueryString, webhookUrl } = context.request;
            return { query, rawQueryString, webhookUrl };
        };",
        |endpoint| {
            let secret = Secret::from("s3cr3t".to_owned());
            endpoint.validation = Validation::SecretAsQueryParam(secret);
        },
    );
    for (asked, raw) in [
        ("a=1&secret=s3cr3t&b=%C3%A4&a=2", "a=1&b=%C3%A4&a=2"),
        ("secret=s3cr3t&a=1&&b=%C3%A4", "a=1&&b=%C3%A4"),
        (
            "a=1&s%65cret=s3cr3t&secret=x&b=%C3%A4&secret",
            "a=1&b=%C3%A4",
        ),
    ] {
        let request = HttpRequest {
            raw_query: asked.to_owned(),
            ..request()
        };
        let response = endpoints.answer(request).await;
        assert_eq!(response.status, 200, "{}", text(&response));
        let said: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        let expected = serde_json::json!({
            "query": { "a": "1", "b": "ä" },
            "rawQueryString": raw,
            "webhookUrl": "/orders",
        });
        assert_eq!(said, expected, "{asked}");
    }
}

#[tokio::test]
async fn a_request_may_say_in_which_form_it_takes_the_result() {
    let source = "exports = () => BSON.Long.fromString('5');";
    let (json, _) = endpoints(source, |_| {});
    let (extended, _) = endpoints(source, |endpoint| endpoint.return_type = ReturnType::Ejson);
    for (accept, in_json, in_extended) in [
        ("application/ejson", true, true),
        ("application/json", false, false),
        ("*/*", false, true),
        (
            "text/html, Application/EJSON;q=0.9, application/json;q=0.8",
            true,
            true,
        ),
        ("application/ejson;q=0, */*", false, true),
        ("application/json, application/ejson", false, false),
    ] {
        for (endpoints, is_extended) in [(&json, in_json), (&extended, in_extended)] {
            let request = HttpRequest {
                headers: vec![("accept".to_owned(), accept.to_owned())],
                ..request()
            };
            let response = endpoints.answer(request).await;
            let (body, content_type) = match is_extended {
                true => (r#"{"$numberLong":"5"}"#, "application/ejson"),
                false => ("5", "application/json"),
            };
            assert_eq!(text(&response), body, "{accept}");
            assert_eq!(response.headers[0].1, content_type, "{accept}");
        }
    }
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
    let runs = runs.all(&endpoints).await;
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
    // GitHub sends it in a header of its own.
    for name in ["X-Hook-Signature", "X-Hub-Signature-256"] {
        let signed = header(name, &format!("sha256={signature}"));
        assert_eq!(by_signature.answer(signed).await.status, 200, "{name}");
    }
    for name in ["Endpoint-Signature", "X-Hub-Signature-256"] {
        let wrong = header(name, &format!("sha256={}", "0".repeat(64)));
        assert_eq!(by_signature.answer(wrong).await.status, 401, "{name}");
    }
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
    assert!(runs.all(&endpoints).await.is_empty());
}

#[tokio::test]
async fn an_empty_secret_lets_nobody_in() {
    let empty = || Secret::from(String::new());
    for validation in [
        Validation::SecretAsQueryParam(empty()),
        Validation::SecretAsHeader(empty()),
        Validation::VerifyPayload(empty()),
    ] {
        let (endpoints, _) = endpoints("exports = () => 1;", |endpoint| {
            endpoint.validation = validation.clone();
        });
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"");
        let signature = hex::encode(ring::hmac::sign(&key, &request().body));
        let open = HttpRequest {
            raw_query: "secret=".to_owned(),
            headers: vec![
                ("secret".to_owned(), String::new()),
                (
                    "endpoint-signature".to_owned(),
                    format!("sha256={signature}"),
                ),
            ],
            ..request()
        };
        assert_eq!(endpoints.answer(open).await.status, 401, "{validation:?}");
    }
}

#[tokio::test]
async fn what_comes_before_the_body_is_enough_to_refuse_a_request() {
    let secret = || Secret::from("the-secret".to_owned());
    let head = |query: &str, headers: &[(&str, &str)]| {
        let headers = headers.iter();
        HttpRequest {
            raw_query: query.to_owned(),
            headers: headers
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body: Bytes::new(),
            ..request()
        }
    };
    for (validation, right, wrong) in [
        (
            Validation::SecretAsQueryParam(secret()),
            head("secret=the-secret", &[]),
            head("secret=wrong", &[]),
        ),
        (
            Validation::SecretAsHeader(secret()),
            head("", &[("secret", "the-secret")]),
            head("", &[("secret", "wrong")]),
        ),
        // Whether it is the right one is told by the body.
        (
            Validation::VerifyPayload(secret()),
            head("", &[("endpoint-signature", "sha256=00")]),
            head("", &[]),
        ),
    ] {
        let (endpoints, _) = endpoints("exports = () => 1;", |endpoint| {
            endpoint.validation = validation.clone();
        });
        assert_eq!(endpoints.admit(&right), Ok(()), "{validation:?}");
        let refusal = endpoints.admit(&wrong).unwrap_err();
        assert_eq!(refusal.status, 401, "{validation:?}");
        let get = HttpRequest {
            method: "GET".to_owned(),
            ..right
        };
        assert_eq!(endpoints.admit(&get).unwrap_err().status, 405);
    }
}

#[tokio::test]
async fn runs_are_logged_as_those_of_triggers_are() {
    let source = "exports = ({ query }) => {
        if (query.b === 'say') console.log('said');
        if (query.b === 'throw') throw new Error('thrown');
    };";
    for (log_successes, logged) in [(false, 2), (true, 3)] {
        let options = EndpointOptions {
            log_successes,
            ..options()
        };
        let (endpoints, runs) = endpoints_with(source, options, |_| {});
        for query in ["b=silent", "b=say", "b=throw"] {
            let asked = HttpRequest {
                raw_query: query.to_owned(),
                ..request()
            };
            endpoints.answer(asked).await;
        }
        let runs = runs.all(&endpoints).await;
        assert_eq!(runs.len(), logged, "{runs:#?}");
        assert!(runs.iter().any(|run| run.error.is_some()));
        assert!(runs.iter().any(|run| !run.console.is_empty()));
    }
}

#[tokio::test]
async fn a_body_is_given_back_when_the_function_has_it() {
    struct Owner(Vec<u8>, #[expect(dead_code)] Arc<()>);

    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    let options = EndpointOptions {
        limits: Limits {
            timeout: Duration::from_secs(120),
            ..Limits::default()
        },
        ..options()
    };
    let waits = "exports = () => new Promise((resolve) => setTimeout(resolve, 100000));";
    let (endpoints, _) = endpoints_with(waits, options, |_| {});
    let held = Arc::new(());
    let asked = HttpRequest {
        body: Bytes::from_owner(Owner(b"text".to_vec(), Arc::clone(&held))),
        ..request()
    };
    let answering = tokio::spawn(async move { endpoints.answer(asked).await });
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while Arc::strong_count(&held) > 1 {
        assert!(std::time::Instant::now() < deadline, "it is kept");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    answering.abort();
}
