//! Who may ask what.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use reqwest::Method;

use super::{Fixture, OPERATOR, READER, problem};

const RUNS: &str = "/api/v1/jobs/nightly/runs";

#[tokio::test]
async fn a_token_of_the_role_read_sees_and_changes_nothing() {
    let fixture = Fixture::with_tokens().await;
    for path in [
        "/api/v1/flows",
        "/api/v1/overview",
        "/metrics",
        "/openapi.json",
    ] {
        let request = fixture.request(Method::GET, path).bearer_auth(READER);
        assert_eq!(request.send().await.unwrap().status(), 200, "{path}");
    }
    let changes = [
        RUNS,
        "/api/v1/reload",
        "/api/v1/flows/shop/stop",
        "/api/v1/triggers/billing%2Fcharge/pause",
        "/api/v1/none",
    ];
    let changes = changes.map(|path| (Method::POST, path));
    let discard = (Method::DELETE, "/api/v1/dead-letters/0199c2a0");
    for (method, path) in changes.into_iter().chain([discard]) {
        let request = fixture.request(method, path).bearer_auth(READER);
        let detail = problem(request.send().await.unwrap(), 403).await;
        assert!(detail.contains("the token dashboard"), "{detail}");
        assert!(!detail.contains(READER));
    }
    assert!(fixture.fake.asked_by.lock().unwrap().is_empty());
    assert!(fixture.fake.done.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_token_of_the_role_operate_may_do_all_and_what_it_did_bears_its_name() {
    let fixture = Fixture::with_tokens().await;
    let cancel = "/api/v1/runs/0199c2a0-0000-7000-8000-000000000001/cancel";
    for (path, status) in [(RUNS, 202), (cancel, 200), ("/api/v1/reload", 200)] {
        let request = fixture.request(Method::POST, path).bearer_auth(OPERATOR);
        assert_eq!(request.send().await.unwrap().status(), status, "{path}");
    }
    let request = fixture.request(Method::GET, "/api/v1/flows");
    let request = request.header("authorization", format!("bearer {OPERATOR}"));
    assert_eq!(request.send().await.unwrap().status(), 200);
    let by = fixture.fake.asked_by.lock().unwrap().clone();
    assert_eq!(by, ["deployment", "deployment"]);
}

#[tokio::test]
async fn without_a_known_token_nothing_is_told() {
    let fixture = Fixture::with_tokens().await;
    let paths = [
        "/api/v1/flows",
        "/api/v1/events",
        "/api/v1/none",
        "/none",
        "/metrics",
        "/openapi.json",
        "/health/",
    ];
    for path in paths {
        let response = fixture.get(path).await;
        let challenge = response.headers()["www-authenticate"].clone();
        assert_eq!(challenge, "Bearer realm=\"tributary\"", "{path}");
        problem(response, 401).await;
    }
    let wrong = [
        format!("Bearer {}", &READER[..READER.len() - 1]),
        format!("Bearer {READER}0"),
        format!("Bearer {}", "x".repeat(3000)),
        format!("Basic {READER}"),
        READER.to_owned(),
        "Bearer ".to_owned(),
        "Bearer".to_owned(),
        String::new(),
    ];
    for value in &wrong {
        let request = fixture.request(Method::GET, "/api/v1/flows");
        let response = request.header("authorization", value).send().await.unwrap();
        let challenge = response.headers()["www-authenticate"].to_str().unwrap();
        assert!(challenge.contains("invalid_token"), "{value}");
        problem(response, 401).await;
    }
    let twice = fixture.request(Method::GET, "/api/v1/flows");
    let twice = twice
        .bearer_auth(READER)
        .header("authorization", "Bearer x");
    problem(twice.send().await.unwrap(), 401).await;
}

#[tokio::test]
async fn whether_the_process_lives_and_is_ready_is_told_without_a_token() {
    let fixture = Fixture::with_tokens().await;
    for path in ["/health", "/ready"] {
        assert_eq!(fixture.get(path).await.status(), 200);
    }
}

#[tokio::test]
async fn without_tokens_only_an_address_or_localhost_is_answered() {
    let fixture = Fixture::new().await;
    let ask = async |head: &str| {
        let request = format!("{head}\r\nConnection: close\r\n\r\n");
        fixture.raw(&request).await
    };
    let answered = [
        "Host: 127.0.0.1",
        "Host: 127.0.0.1:7070",
        "Host: localhost:7070",
        "Host: LOCALHOST",
        "Host: [::1]:7070",
    ];
    for host in answered {
        let answer = ask(&format!("GET /api/v1/flows HTTP/1.1\r\n{host}")).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
    }
    let refused = [
        ("Host: evil.example", "403"),
        ("Host: localhost.evil.example:7070", "403"),
        ("Host: 127.0.0.1.evil.example", "403"),
        ("Host: ", "400"),
        ("Accept: */*", "400"),
        ("Host: localhost\r\nHost: evil.example", "400"),
    ];
    for (host, status) in refused {
        let answer = ask(&format!("GET /api/v1/flows HTTP/1.1\r\n{host}")).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{host}: {answer}"
        );
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
    let absolute = "GET http://evil.example/api/v1/flows HTTP/1.1\r\nHost: localhost";
    let answer = ask(absolute).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn without_tokens_pages_of_other_sites_change_nothing() {
    let fixture = Fixture::new().await;
    let own = fixture.served.address();
    let other_port = "http://127.0.0.1:1".to_owned();
    let other_scheme = own.replace("http:", "https:");
    for origin in [
        "http://evil.example",
        "null",
        "",
        &other_port,
        &other_scheme,
    ] {
        let request = fixture.request(Method::POST, RUNS).header("origin", origin);
        problem(request.send().await.unwrap(), 403).await;
    }
    assert!(fixture.fake.asked_by.lock().unwrap().is_empty());
    let request = fixture.request(Method::POST, RUNS).header("origin", own);
    assert_eq!(request.send().await.unwrap().status(), 202);
    let fixture = Fixture::with_tokens().await;
    let request = fixture.request(Method::POST, RUNS).bearer_auth(OPERATOR);
    let request = request.header("origin", "http://dashboard.example");
    assert_eq!(request.send().await.unwrap().status(), 202);
}

/// What is logged, in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_says_who_asked_what_and_holds_no_token() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("tributary_api=trace")
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let fixture = Fixture::with_tokens().await;
    let path = format!("/api/v1/runs?job={OPERATOR}");
    for token in [READER, OPERATOR, "an-unknown-token"] {
        let request = fixture.request(Method::GET, &path).bearer_auth(token);
        request.send().await.unwrap();
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for part in [
        "GET",
        "path=\"/api/v1/runs\"",
        "status=200",
        "status=401",
        "milliseconds=",
    ] {
        assert!(log.contains(part), "{part} is not in: {log}");
    }
    for by in ["by=\"dashboard\"", "by=\"deployment\""] {
        assert!(log.contains(by), "{by} is not in: {log}");
    }
    for secret in [READER, OPERATOR, "an-unknown-token"] {
        assert!(!log.contains(secret), "{log}");
    }
    assert!(!format!("{:?}", super::tokens()).contains(READER));
}
