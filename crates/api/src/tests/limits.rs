//! How much, how many, and for how long.

use std::time::{Duration, Instant};

use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tributary_model::ErrorKind;
use tributary_orchestrator::config::Server;

use super::{Fixture, PATIENCE, problem, server};
use crate::limits::Limits;
use crate::tests::fake::Fake;

#[tokio::test]
async fn a_request_that_is_too_large_is_refused() {
    let fixture = Fixture::new().await;
    let path = "/api/v1/reload";
    let sized = |size: usize| fixture.request(Method::POST, path).body("x".repeat(size));
    problem(sized(1025).send().await.unwrap(), 413).await;
    assert_eq!(sized(1024).send().await.unwrap().status(), 200);
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    let answer = fixture
        .raw(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{chunk}{chunk}0\r\n\r\n"
        ))
        .await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_a_problem() {
    let limits = Limits {
        request: Duration::from_millis(50),
        ..Limits::default()
    };
    let fixture = Fixture::with(server(), limits).await;
    fixture.fake.gate.forget_permits(usize::MAX);
    let detail = problem(fixture.get("/api/v1/alerts").await, 408).await;
    assert_eq!(detail, "the request took too long");
}

#[tokio::test]
async fn whether_it_is_ready_is_answered_before_a_body_has_come() {
    let fixture = Fixture::with_tokens().await;
    let rest = "HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n";
    for path in ["/health", "/ready"] {
        let answer = fixture.raw(&format!("GET {path} {rest}")).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[tokio::test]
async fn one_request_too_many_is_told_so_and_the_others_are_answered() {
    let fixture = Fixture::new().await;
    let permits = fixture.fake.gate.forget_permits(usize::MAX);
    let mut requests = Vec::new();
    for _ in 0..256 {
        let request = fixture.request(Method::GET, "/api/v1/alerts");
        requests.push(tokio::spawn(request.send()));
    }
    let since = Instant::now();
    let refused = loop {
        let response = fixture.get("/api/v1/overview").await;
        if response.status() != 200 {
            break response;
        }
        assert!(since.elapsed() < PATIENCE, "all are answered");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(refused.headers().contains_key("retry-after"));
    let detail = problem(refused, 503).await;
    assert!(detail.contains("too many requests"), "{detail}");
    assert_eq!(fixture.get("/health").await.status(), 200);
    fixture.fake.gate.add_permits(permits);
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(fixture.get("/api/v1/overview").await.status(), 200);
}

#[tokio::test]
async fn a_client_that_does_not_send_a_head_is_let_go_of() {
    let limits = Limits {
        head: Duration::from_millis(50),
        ..Limits::default()
    };
    let fixture = Fixture::with(server(), limits).await;
    for begun in ["", "GET /health HTTP/1.1\r\nHost: local"] {
        let answer = fixture.raw(begun).await;
        assert!(!answer.contains(" 200 "), "{answer}");
    }
}

#[tokio::test]
async fn a_request_that_is_being_answered_at_the_stop_is_answered() {
    let fixture = Fixture::new().await;
    let permits = fixture.fake.gate.forget_permits(usize::MAX);
    let address = fixture.served.address();
    let mut stream = TcpStream::connect(&address["http://".len()..])
        .await
        .unwrap();
    let request = b"GET /api/v1/alerts HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request).await.unwrap();
    // The second is answered when the first has been taken up.
    assert_eq!(fixture.get("/health").await.status(), 200);
    fixture.stop.cancel();
    let ended = tokio::spawn(fixture.served.ended());
    tokio::task::yield_now().await;
    fixture.fake.gate.add_permits(permits);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    ended.await.unwrap();
}

#[tokio::test]
async fn what_is_not_answered_in_time_after_the_stop_is_cut_off() {
    let limits = Limits {
        drain: Duration::from_millis(50),
        ..Limits::default()
    };
    let fixture = Fixture::with(server(), limits).await;
    fixture.fake.gate.forget_permits(usize::MAX);
    let request = tokio::spawn(fixture.request(Method::GET, "/api/v1/alerts").send());
    assert_eq!(fixture.get("/health").await.status(), 200);
    fixture.stop.cancel();
    let ended = tokio::time::timeout(PATIENCE, fixture.served.ended());
    ended.await.expect("it ends");
    assert!(request.await.unwrap().is_err());
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_that_says_so() {
    let fixture = Fixture::new().await;
    let address = fixture.served.address();
    let listen = address["http://".len()..].parse().unwrap();
    let server = Server { listen, ..server() };
    let stop = CancellationToken::new();
    let served = crate::serve(&server, Fake::new(), crate::Outside::default(), stop).await;
    let error = served.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let text = error.to_string();
    assert!(
        text.contains(&format!("cannot serve the API (address {listen})")),
        "{text}"
    );
    assert!(text.contains("in use"), "{text}");
    assert!(text.contains("`server.listen`"), "{text}");
}
