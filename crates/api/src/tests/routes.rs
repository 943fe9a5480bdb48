//! What each route answers.

use reqwest::Method;
use serde_json::{Value, json};
use tributary_model::ErrorKind;
use tributary_orchestrator::status::{RunFilter, RunState};

use super::{Fixture, fake, problem};

const RUN: &str = "/api/v1/runs/0199c2a0-0000-7000-8000-000000000001";

#[tokio::test]
async fn every_route_answers_what_there_is() {
    let fixture = Fixture::new().await;
    let flow = serde_json::to_value(fake::flow()).unwrap();
    let run = serde_json::to_value(fake::run()).unwrap();
    let cancel = format!("{RUN}/cancel");
    // The path, where in the answer, and what is there.
    let looks = [
        ("/api/v1/overview", "/version", json!("0.1.0")),
        ("/api/v1/flows", "/0", flow.clone()),
        ("/api/v1/flows/shop", "", flow.clone()),
        (
            "/api/v1/flows/shop/schemas",
            "/0/decisions/0/decision",
            json!("waiting"),
        ),
        ("/api/v1/sources", "/0/oplogWindowSeconds", json!(86_400)),
        ("/api/v1/jobs", "/0/lastRun", run.clone()),
        ("/api/v1/jobs/nightly", "/timeZone", json!("Europe/Berlin")),
        ("/api/v1/runs", "/0", run.clone()),
        (RUN, "/steps/0/attempts", json!(1)),
        (RUN, "/job", json!("nightly")),
        ("/api/v1/alerts", "/0/rule", json!("lag")),
        ("/health", "", json!({ "status": "ok" })),
        ("/ready", "", json!({ "status": "ok" })),
        ("/openapi.json", "/openapi", json!("3.1.0")),
    ];
    let steers = [
        ("/api/v1/flows/shop/start", "", flow.clone()),
        ("/api/v1/flows/shop/stop", "", flow),
        (
            "/api/v1/flows/shop/schemas/shop.orders/approve",
            "/waiting",
            json!(true),
        ),
        (cancel.as_str(), "", run),
        ("/api/v1/alerts/test", "/0/receiver", json!("chat")),
        ("/api/v1/reload", "/kept/0", json!("shop")),
    ];
    let looks = looks.map(|look| (Method::GET, look));
    let steers = steers.map(|steer| (Method::POST, steer));
    for (method, (path, pointer, expected)) in looks.into_iter().chain(steers) {
        let response = fixture.request(method, path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let headers = response.headers();
        assert_eq!(headers["content-type"], "application/json", "{path}");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(headers["content-security-policy"], "default-src 'none'");
        assert!(!headers.contains_key("server"));
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer.pointer(pointer), Some(&expected), "{path}");
    }
}

#[tokio::test]
async fn numbers_are_told_as_prometheus_reads_them() {
    let response = Fixture::new().await.get("/metrics").await;
    let media_type = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(response.headers()["content-type"], media_type);
    let text = response.text().await.unwrap();
    assert!(text.contains("\ntributary_flows 1\n"), "{text}");
}

#[tokio::test]
async fn a_job_that_is_asked_for_has_a_run_that_can_be_looked_at() {
    let fixture = Fixture::new().await;
    let response = fixture.post("/api/v1/jobs/nightly/runs").await;
    assert_eq!(response.status(), 202);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let run: Value = response.json().await.unwrap();
    assert_eq!(
        location,
        format!("/api/v1/runs/{}", run["id"].as_str().unwrap())
    );
    assert_eq!(fixture.get(&location).await.status(), 200);
    assert_eq!(*fixture.fake.asked_by.lock().unwrap(), ["anonymous"]);
}

#[tokio::test]
async fn runs_are_asked_for_by_job_state_place_and_number() {
    let fixture = Fixture::new().await;
    let asked = async |query: &str| {
        let response = fixture.get(&format!("/api/v1/runs{query}")).await;
        assert_eq!(response.status(), 200, "{query}");
        fixture.fake.filter.lock().unwrap().take().unwrap()
    };
    let none = RunFilter {
        limit: 50,
        ..RunFilter::default()
    };
    assert_eq!(asked("").await, none);
    let all = RunFilter {
        job: Some("nightly".to_owned()),
        state: Some(RunState::Failed),
        before: Some("r1".to_owned()),
        limit: 500,
    };
    assert_eq!(
        asked("?job=nightly&state=failed&before=r1&limit=500").await,
        all
    );
    let refused = [
        ("?limit=0", "1 to 500"),
        ("?limit=501", "1 to 500"),
        ("?limit=-1", "limit"),
        ("?limit=ten", "limit"),
        ("?state=asleep", "asleep"),
        ("?job=", "`job` has 1 to 100 characters"),
        ("?page=2", "page"),
        ("?job=a&job=b", "job"),
    ];
    for (query, part) in refused {
        let response = fixture.get(&format!("/api/v1/runs{query}")).await;
        let detail = problem(response, 400).await;
        assert!(detail.contains(part), "{query}: {detail}");
    }
    assert!(fixture.fake.filter.lock().unwrap().is_none());
}

#[tokio::test]
async fn every_kind_of_error_is_a_problem_of_its_status() {
    let fixture = Fixture::new().await;
    let statuses = [
        (ErrorKind::Usage, 400),
        (ErrorKind::NotFound, 404),
        (ErrorKind::AlreadyExists, 409),
        (ErrorKind::Conflict, 409),
        (ErrorKind::HistoryLost, 409),
        (ErrorKind::OtherSource, 409),
        (ErrorKind::SchemaChanged, 409),
        (ErrorKind::Unauthenticated, 502),
        (ErrorKind::Forbidden, 502),
        (ErrorKind::Unreachable, 502),
        (ErrorKind::Unavailable, 502),
        (ErrorKind::InvalidData, 502),
        (ErrorKind::Storage, 502),
        (ErrorKind::Interrupted, 503),
        (ErrorKind::Internal, 500),
    ];
    for (kind, status) in statuses {
        *fixture.fake.failure.lock().unwrap() = Some(kind);
        let detail = problem(fixture.get("/api/v1/overview").await, status).await;
        let expected = "cannot do it (server db1:27017): it said so; try something else";
        assert_eq!(detail, expected);
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_problem() {
    let fixture = Fixture::new().await;
    for path in ["/", "/api/v1", "/api/v1/none", "/api/v2/flows", "/health/"] {
        let detail = problem(fixture.get(path).await, 404).await;
        assert!(detail.contains("/openapi.json"), "{path}: {detail}");
    }
    let detail = problem(fixture.get("/api/v1/flows/none").await, 404).await;
    assert!(detail.contains("name none"), "{detail}");
    problem(fixture.get("/api/v1/flows/%ff").await, 400).await;
}

#[tokio::test]
async fn a_method_that_a_path_does_not_know_is_a_problem_that_names_those_it_knows() {
    let fixture = Fixture::new().await;
    let response = fixture.post("/api/v1/flows").await;
    assert_eq!(response.headers()["allow"], "GET,HEAD");
    problem(response, 405).await;
    let response = fixture.get("/api/v1/reload").await;
    assert_eq!(response.headers()["allow"], "POST");
    problem(response, 405).await;
}

#[tokio::test]
async fn a_process_that_cannot_do_its_work_lives_but_is_not_ready() {
    let fixture = Fixture::new().await;
    let reason = "cannot write the state: disk full";
    *fixture.fake.unready.lock().unwrap() = Some(reason.to_owned());
    assert_eq!(problem(fixture.get("/ready").await, 503).await, reason);
    assert_eq!(fixture.get("/health").await.status(), 200);
}

#[tokio::test]
async fn a_panic_is_answered_and_the_server_goes_on() {
    let fixture = Fixture::new().await;
    let response = fixture.get("/api/v1/flows/panics").await;
    let detail = problem(response, 500).await;
    assert!(detail.contains("a bug in tributary"), "{detail}");
    assert!(!detail.contains("the test wants it"), "{detail}");
    assert_eq!(fixture.get("/api/v1/flows/shop").await.status(), 200);
}
