//! Events that are pushed.

use std::sync::Mutex;

use async_trait::async_trait;
use axum::body::Bytes;
use axum::http::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tributary_model::{Error, ErrorKind};

use super::{Fixture, OPERATOR, problem, server};
use crate::limits::Limits;
use crate::{Admitted, Ingests, Refusal, Taken};

/// The key of the one source that there is, `atlas`.
const KEY: &str = "the-key";
/// The largest request that it takes.
const LIMIT: usize = 4096;

/// Takes whatever comes with the key, and does what its body says.
#[derive(Default)]
pub(super) struct Pushed {
    bodies: Mutex<Vec<Bytes>>,
}

#[async_trait]
impl Ingests for Pushed {
    fn admit(&self, name: &str, headers: &HeaderMap) -> Option<Admitted> {
        let is_proven = headers.get("x-api-key").is_some_and(|key| key == KEY);
        let is_signed = headers.contains_key("x-signature-256");
        (name == "atlas" && (is_proven || is_signed)).then_some(Admitted {
            largest: LIMIT,
            is_proven,
        })
    }

    async fn take(&self, name: &str, _: &HeaderMap, body: Bytes) -> Result<Taken, Refusal> {
        assert_eq!(name, "atlas");
        let error = || Error::new(ErrorKind::Storage, "no room").on("file", "/secret/place");
        match &*body {
            b"form" => return Err(Refusal::UnknownForm),
            b"full" => return Err(Refusal::Full(error())),
            b"broken" => return Err(Refusal::Failed(error())),
            b"unsigned" => return Err(Refusal::Unauthenticated),
            b"wrong" => {
                let faults = vec![(Some(3), "no `_id`".to_owned()), (None, "more".to_owned())];
                return Err(Refusal::Wrong(faults));
            }
            _ => {}
        }
        self.bodies.lock().unwrap().push(body);
        Ok(Taken {
            accepted: 2,
            duplicates: 1,
        })
    }
}

impl Fixture {
    fn push(&self, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        let request = self.request(Method::POST, "/ingest/atlas");
        request.header("x-api-key", KEY).body(body)
    }
}

#[tokio::test]
async fn what_is_taken_is_counted() {
    // Tokens of the API are neither needed nor good for it.
    for fixture in [Fixture::new().await, Fixture::with_tokens().await] {
        let answer = fixture.push("events").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let taken: Value = answer.json().await.unwrap();
        assert_eq!(taken, json!({ "accepted": 2, "duplicates": 1 }));
        assert_eq!(
            *fixture.pushed.bodies.lock().unwrap(),
            [Bytes::from("events")]
        );
    }
    let fixture = Fixture::with_tokens().await;
    let request = fixture.request(Method::POST, "/ingest/atlas");
    let answer = request.bearer_auth(OPERATOR).send().await.unwrap();
    problem(answer, 401).await;
}

#[tokio::test]
async fn which_sources_there_are_is_not_told() {
    let fixture = Fixture::new().await;
    let mut told = Vec::new();
    for (name, key) in [
        ("atlas", "wrong"),
        ("other", KEY),
        ("other", "wrong"),
        ("a%2Fb", KEY),
    ] {
        let request = fixture.request(Method::POST, &format!("/ingest/{name}"));
        let answer = request.header("x-api-key", key).body("x").send().await;
        let answer = answer.unwrap();
        assert!(answer.headers().contains_key("www-authenticate"));
        told.push(problem(answer, 401).await);
    }
    // A signature that is wrong is told in the same words, and so is that nothing came with it.
    told.push(problem(fixture.push("unsigned").send().await.unwrap(), 401).await);
    told.push(problem(fixture.post("/ingest/atlas").await, 401).await);
    assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:?}");
    assert!(fixture.pushed.bodies.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_source_has_a_limit_of_its_own() {
    let fixture = Fixture::new().await;
    assert!(server().largest_request < LIMIT);
    let fits = fixture.push(vec![b'x'; LIMIT]).send().await.unwrap();
    assert_eq!(fits.status(), StatusCode::OK);
    let answer = fixture.push(vec![b'x'; LIMIT + 1]).send().await.unwrap();
    // The rest of it does not stand before the next request.
    assert_eq!(answer.headers()["connection"], "close");
    assert!(problem(answer, 413).await.contains("4096 bytes"));
    // Also where the length is not announced.
    let head = format!("POST /ingest/atlas HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\n");
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", LIMIT + 1, "x".repeat(LIMIT + 1));
    let rest = "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = fixture.raw(&format!("{head}{rest}{chunk}")).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!(fixture.pushed.bodies.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_wrong_is_told_of_each_event() {
    let fixture = Fixture::new().await;
    let answer = fixture.push("wrong").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let told: Value = answer.json().await.unwrap();
    assert_eq!(told["type"], "about:blank");
    assert_eq!(told["status"], 400);
    assert_eq!(
        told["errors"],
        json!([{ "index": 3, "detail": "no `_id`" }, { "index": null, "detail": "more" }])
    );
    problem(fixture.push("form").send().await.unwrap(), 415).await;
}

#[tokio::test]
async fn a_disk_that_is_full_is_told_without_its_place() {
    let fixture = Fixture::new().await;
    for (body, status) in [("full", 507), ("broken", 503)] {
        let answer = fixture.push(body).send().await.unwrap();
        assert!(answer.headers().contains_key("retry-after"));
        let told = problem(answer, status).await;
        assert!(!told.contains("/secret/place"), "{told}");
    }
}

#[tokio::test]
async fn bodies_wait_until_there_is_room_for_them() {
    let limits = Limits {
        ingested: 8,
        ..Limits::default()
    };
    let fixture = Fixture::with(server(), limits).await;
    // Each takes all of it while it is read.
    let request = || async {
        fixture
            .push(vec![b'x'; LIMIT])
            .send()
            .await
            .unwrap()
            .status()
    };
    let answers = futures::future::join_all((0..10).map(|_| request())).await;
    assert_eq!(answers, [StatusCode::OK; 10]);
    // One whose body does not come keeps others waiting, and they are told.
    let limits = Limits {
        head: std::time::Duration::from_millis(200),
        ..limits
    };
    let fixture = Fixture::with(server(), limits).await;
    let address = fixture.served.address();
    let address = address.split_once("://").unwrap().1.to_owned();
    let mut slow = tokio::net::TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST /ingest/atlas HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\nContent-Length: {LIMIT}\r\n\r\nx"
    );
    let mut other = tokio::net::TcpStream::connect(&address).await.unwrap();
    for stream in [&mut slow, &mut other] {
        tokio::io::AsyncWriteExt::write_all(stream, head.as_bytes())
            .await
            .unwrap();
    }
    let deadline = std::time::Instant::now() + super::PATIENCE;
    loop {
        let answer = fixture.push(vec![b'x'; LIMIT]).send().await.unwrap();
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
            break;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "there was always room"
        );
    }
}

#[tokio::test]
async fn pushes_that_are_not_proven_keep_no_key_from_pushing() {
    // All room for them is smaller than one of them, or there is one place.
    let bytes = Limits {
        unproven_bodies: 2,
        ..Limits::default()
    };
    let places = Limits {
        unproven: 1,
        ..Limits::default()
    };
    let head = format!(
        "POST /ingest/atlas HTTP/1.1\r\nHost: localhost\r\nX-Signature-256: sha256=00\r\nContent-Length: {LIMIT}\r\n\r\n"
    );
    let begun = format!("{head}{}", "x".repeat(1500));
    for limits in [bytes, places] {
        let fixture = Fixture::with(server(), limits).await;
        let signed = |body: &'static str| {
            let request = fixture.request(Method::POST, "/ingest/atlas");
            request
                .header("x-signature-256", "sha256=00")
                .body(body)
                .send()
        };
        assert_eq!(signed("x").await.unwrap().status(), StatusCode::OK);
        let mut stalled = Vec::new();
        let refused = super::until("there is no room for another", async || {
            let answer = signed("x").await.unwrap();
            if answer.status() != StatusCode::OK {
                return Some(answer);
            }
            // The one before may have come while there was no room for it.
            stalled.push(fixture.open(&begun).await);
            None
        })
        .await;
        assert!(refused.headers().contains_key("retry-after"));
        problem(refused, 503).await;
        let pushed = fixture.push(vec![b'x'; LIMIT]).send().await.unwrap();
        assert_eq!(pushed.status(), StatusCode::OK);
    }
}
