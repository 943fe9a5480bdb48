//! Endpoints of applications.

use async_trait::async_trait;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Fixture, problem};
use crate::{Answered, Asked, Endpoints};

/// The largest request that is answered.
const LIMIT: usize = 4096;

/// Answers at `shop` what it was asked, with the status that the header `x-status` asks for.
pub(super) struct Echo;

#[async_trait]
impl Endpoints for Echo {
    fn admit(&self, app: &str, route: &str) -> Option<usize> {
        (app == "shop" && route != "/none").then_some(LIMIT)
    }

    async fn answer(&self, app: &str, asked: Asked) -> Option<Answered> {
        assert_eq!(app, "shop");
        let status = asked.headers.get("x-status");
        let status = status.map_or(StatusCode::OK, |status| {
            StatusCode::from_bytes(status.as_bytes()).unwrap()
        });
        let said = json!({
            "method": asked.method.as_str(),
            "route": asked.route,
            "path": asked.path,
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
            "path": "/app/shop/endpoint/orders/a%20b",
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
