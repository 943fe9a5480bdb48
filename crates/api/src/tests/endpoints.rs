//! Endpoints of applications.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use super::{Fixture, problem, server, until};
use crate::limits::Limits;
use crate::{Admission, Answered, Asked, Endpoints};

/// The largest request that is answered.
const LIMIT: usize = 4096;

/// Answers at `shop` what it was asked, with the status that the header `x-status` asks for; at `/held`, when it is
/// let go on.
pub(super) struct Echo {
    admitted: AtomicUsize,
    held: Semaphore,
    begun: AtomicUsize,
    ended: AtomicUsize,
}

impl Default for Echo {
    fn default() -> Self {
        Self {
            admitted: AtomicUsize::new(0),
            held: Semaphore::new(0),
            begun: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
        }
    }
}

#[async_trait]
impl Endpoints for Echo {
    fn admit(&self, app: &str, asked: &Asked) -> Admission {
        assert!(asked.body.is_empty());
        if app != "shop" || asked.route == "/none" {
            return Admission::Unknown;
        }
        if asked.query == "secret=wrong" {
            return Admission::Refused(Answered {
                status: StatusCode::UNAUTHORIZED,
                headers: HeaderMap::new(),
                body: Bytes::from_static(b"wrong"),
            });
        }
        self.admitted.fetch_add(1, Ordering::Relaxed);
        Admission::Read(LIMIT)
    }

    async fn answer(&self, app: &str, asked: Asked) -> Option<Answered> {
        assert_eq!(app, "shop");
        if asked.route == "/held" {
            self.begun.fetch_add(1, Ordering::Relaxed);
            self.held.acquire().await.unwrap().forget();
            self.ended.fetch_add(1, Ordering::Relaxed);
        }
        let status = asked.headers.get("x-status");
        let status = status.map_or(StatusCode::OK, |status| {
            StatusCode::from_bytes(status.as_bytes()).unwrap()
        });
        let said = json!({
            "method": asked.method.as_str(),
            "route": asked.route,
            "query": asked.query,
            "body": String::from_utf8_lossy(&asked.body),
            "remote": asked.remote.map(|remote| remote.to_string()),
        });
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "application/json".parse().unwrap());
        headers.insert("x-own", "yes".parse().unwrap());
        Some(Answered {
            status,
            headers,
            body: Bytes::from(said.to_string()),
        })
    }
}

#[tokio::test]
async fn an_endpoint_is_asked_with_everything_and_answers_for_itself() {
    // Tokens of the API are not its business.
    let fixture = Fixture::with_tokens().await;
    for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
        let path = "/app/shop/endpoint/orders/a%20b?x=1&y=%C3%A4";
        let request = fixture.request(method.clone(), path).body("text");
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-own"], "yes");
        let said: Value = response.json().await.unwrap();
        let expected = json!({
            "method": method.as_str(),
            "route": "/orders/a b",
            "query": "x=1&y=%C3%A4",
            "body": "text",
            "remote": "127.0.0.1",
        });
        assert_eq!(said, expected);
    }
}

#[tokio::test]
async fn what_an_endpoint_answers_is_sent_as_it_is_also_where_it_refuses() {
    let fixture = Fixture::new().await;
    for status in [201, 400, 401, 404, 405, 503] {
        let request = fixture.request(Method::POST, "/app/shop/endpoint/x");
        let response = request
            .header("x-status", status.to_string())
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["content-type"], "application/json");
        let said: Value = response.json().await.unwrap();
        assert_eq!(said["route"], "/x");
    }
}

#[tokio::test]
async fn what_is_no_application_or_too_large_is_refused() {
    let fixture = Fixture::new().await;
    let none = fixture.get("/app/other/endpoint/x").await;
    assert!(problem(none, 404).await.contains("no application"));
    let none = fixture.get("/app/shop/endpoint/none").await;
    assert!(problem(none, 404).await.contains("no endpoint"));
    let large = "x".repeat(LIMIT + 1);
    let request = fixture
        .request(Method::POST, "/app/shop/endpoint/x")
        .body(large);
    problem(request.send().await.unwrap(), 413).await;
}

/// A request of which the body has yet to come.
fn begun(target: &str, announced: usize) -> String {
    format!(
        "POST /app/shop/endpoint{target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {announced}\r\n\r\n"
    )
}

impl Fixture {
    /// What an endpoint answers to a body of so many bytes.
    async fn ask(&self, bytes: usize) -> reqwest::Response {
        let request = self.request(Method::POST, "/app/shop/endpoint/x");
        request.body("x".repeat(bytes)).send().await.unwrap()
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for_without_end() {
    let limits = Limits {
        request: Duration::from_millis(50),
        ..Limits::default()
    };
    let fixture = Fixture::with(server(), limits).await;
    let answer = fixture.raw(&begun("/x", LIMIT)).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn who_is_refused_by_the_head_is_not_asked_for_the_body() {
    let fixture = Fixture::new().await;
    let answer = fixture.raw(&begun("/x?secret=wrong", LIMIT)).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(answer.ends_with("wrong"), "{answer}");
    let answer = fixture.raw(&begun("/none", LIMIT)).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test]
async fn requests_to_endpoints_keep_nothing_else_from_being_answered() {
    let limits = Limits {
        in_flight: 2,
        answering: 2,
        asked: 2,
        ingested: 1,
        ..Limits::default()
    };
    let fixture = Fixture::with(server(), limits).await;
    let mut stalled = Vec::new();
    for _ in 0..2 {
        stalled.push(fixture.open(&format!("{}x", begun("/x", LIMIT))).await);
    }
    until("the heads have come", async || {
        (fixture.echo.admitted.load(Ordering::Relaxed) == 2).then_some(())
    })
    .await;
    let refused = fixture.ask(1).await;
    assert!(refused.headers().contains_key("retry-after"));
    problem(refused, 503).await;
    assert_eq!(fixture.get("/api/v1/overview").await.status(), 200);
    let push = fixture.request(Method::POST, "/ingest/atlas");
    let push = push.header("x-api-key", "the-key").body("x");
    assert_eq!(push.send().await.unwrap().status(), 200);
    drop(stalled);
    until("endpoints answer again", async || {
        (fixture.ask(1).await.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_body_takes_the_room_of_what_has_come_of_it() {
    let limits = Limits {
        asked: 8,
        ..Limits::default()
    };
    let fixture = Fixture::with(server(), limits).await;
    let mut stalled = Vec::new();
    for _ in 0..3 {
        stalled.push(fixture.open(&begun("/x", LIMIT)).await);
    }
    until("the heads have come", async || {
        (fixture.echo.admitted.load(Ordering::Relaxed) == 3).then_some(())
    })
    .await;
    // They have one unit each, and five are left for this one.
    assert_eq!(fixture.ask(LIMIT).await.status(), 200);
    let large = format!("{}{}", begun("/x", LIMIT), "x".repeat(LIMIT - 1));
    let refused = until("there is no room", async || {
        let answer = fixture.ask(LIMIT).await;
        if answer.status() == 503 {
            return Some(answer);
        }
        // The one before may have come while there was no room for it.
        stalled.push(fixture.open(&large).await);
        None
    })
    .await;
    let detail = problem(refused, 503).await;
    assert!(detail.contains("too much is sent"), "{detail}");
}

#[tokio::test]
async fn a_run_takes_its_place_until_it_ends_whether_or_not_it_is_waited_for() {
    let limits = Limits {
        answering: 1,
        ..Limits::default()
    };
    let fixture = Fixture::with(server(), limits).await;
    let mut gone = fixture.open(&begun("/held", 0)).await;
    let count = |counted: &AtomicUsize| counted.load(Ordering::Relaxed);
    until("it has begun", async || {
        (count(&fixture.echo.begun) == 1).then_some(())
    })
    .await;
    gone.shutdown().await.unwrap();
    // The server has let go of the connection when it closes it.
    let mut rest = Vec::new();
    gone.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    problem(fixture.ask(1).await, 503).await;
    fixture.echo.held.add_permits(1);
    until("its place is free", async || {
        (fixture.ask(1).await.status() == 200).then_some(())
    })
    .await;
    assert_eq!(count(&fixture.echo.ended), 1);
}
