//! What each route answers.

use reqwest::Method;
use serde_json::{Value, json};
use tributary_model::ErrorKind;
use tributary_orchestrator::status::{FunctionRunFilter, LetterFilter, RunFilter, RunState};

use super::{Fixture, fake, problem};

const RUN: &str = "/api/v1/runs/0199c2a0-0000-7000-8000-000000000001";

const LETTER: &str = "/api/v1/dead-letters/0199c2a0-0000-7000-8000-000000000002";

const FUNCTION_RUN: &str = "/api/v1/function-runs/0199c2a0-0000-7000-8000-000000000003";

#[tokio::test]
async fn every_route_answers_what_there_is() {
    let fixture = Fixture::new().await;
    let flow = serde_json::to_value(fake::flow()).unwrap();
    let run = serde_json::to_value(fake::run()).unwrap();
    let trigger = serde_json::to_value(fake::trigger()).unwrap();
    let letter = serde_json::to_value(fake::letter()).unwrap();
    let function_run = serde_json::to_value(fake::function_run()).unwrap();
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
        ("/api/v1/triggers", "/0", trigger.clone()),
        ("/api/v1/triggers/billing%2Fcharge", "", trigger.clone()),
        ("/api/v1/dead-letters", "/0", letter),
        (LETTER, "/arguments/0/operationType", json!("insert")),
        (LETTER, "/trigger", json!("billing/charge")),
        ("/api/v1/function-runs", "/0", function_run),
        (FUNCTION_RUN, "/console/0/text", json!("charging")),
        (FUNCTION_RUN, "/error/line", json!(7)),
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
        (
            "/api/v1/triggers/billing%2Fcharge/pause",
            "",
            trigger.clone(),
        ),
        ("/api/v1/triggers/billing%2Fcharge/resume", "", trigger),
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
async fn a_trigger_is_replayed_from_a_moment() {
    let fixture = Fixture::new().await;
    let replay = async |body: &str| {
        let path = "/api/v1/triggers/billing%2Fcharge/replay";
        let request = fixture.request(Method::POST, path).body(body.to_owned());
        request.send().await.unwrap()
    };
    let response = replay(r#"{"from":"2026-01-31T13:00:00+01:00"}"#).await;
    assert_eq!(response.status(), 200);
    assert_eq!(
        *fixture.fake.done.lock().unwrap(),
        ["replay billing/charge from 2026-01-31 12:00:00 UTC"]
    );
    let refused = [
        ("", "this is no moment"),
        ("{}", "missing field `from`"),
        (r#"{"from":"yesterday"}"#, "this is no moment"),
        (r#"{"from":"2026-01-31T12:00:00Z","to":1}"#, "`to`"),
    ];
    for (body, part) in refused {
        let detail = problem(replay(body).await, 400).await;
        assert!(detail.contains(part), "{body}: {detail}");
    }
    assert_eq!(fixture.fake.done.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn dead_letters_are_tried_again_and_discarded() {
    let fixture = Fixture::new().await;
    let id = fake::letter().id;
    let response = fixture.post(&format!("{LETTER}/replay")).await;
    assert_eq!(response.status(), 202);
    let discard = async |path: &str| {
        let request = fixture.request(Method::DELETE, path);
        request.send().await.unwrap()
    };
    let response = discard(LETTER).await;
    assert_eq!(response.status(), 204);
    assert_eq!(response.text().await.unwrap(), "");
    assert_eq!(
        *fixture.fake.done.lock().unwrap(),
        [format!("replay {id}"), format!("discard {id}")]
    );
    problem(discard("/api/v1/dead-letters/none").await, 404).await;
}

#[tokio::test]
async fn dead_letters_and_runs_of_functions_are_asked_for_by_what_they_are_of() {
    let fixture = Fixture::new().await;
    let get = async |path: &str| fixture.get(&format!("/api/v1/{path}")).await;
    assert_eq!(get("dead-letters").await.status(), 200);
    let none = LetterFilter {
        limit: 50,
        ..LetterFilter::default()
    };
    assert_eq!(
        fixture.fake.letter_filter.lock().unwrap().take(),
        Some(none)
    );
    let path = "dead-letters?trigger=billing/charge&before=l1&limit=2";
    assert_eq!(get(path).await.status(), 200);
    let all = LetterFilter {
        trigger: Some("billing/charge".to_owned()),
        before: Some("l1".to_owned()),
        limit: 2,
    };
    assert_eq!(fixture.fake.letter_filter.lock().unwrap().take(), Some(all));

    assert_eq!(get("function-runs").await.status(), 200);
    let none = FunctionRunFilter {
        limit: 50,
        ..FunctionRunFilter::default()
    };
    let taken = || fixture.fake.function_filter.lock().unwrap().take();
    assert_eq!(taken(), Some(none));
    let path = "function-runs?app=a&function=f&trigger=a%2Ft&failed=true&before=r1&limit=500";
    assert_eq!(get(path).await.status(), 200);
    let all = FunctionRunFilter {
        app: Some("a".to_owned()),
        function: Some("f".to_owned()),
        trigger: Some("a/t".to_owned()),
        failed: true,
        before: Some("r1".to_owned()),
        limit: 500,
    };
    assert_eq!(taken(), Some(all));
    let refused = [
        ("dead-letters?limit=0", "1 to 500"),
        ("dead-letters?trigger=", "`trigger` has 1 to 400 characters"),
        ("dead-letters?page=2", "page"),
        ("function-runs?failed=perhaps", "failed"),
        ("function-runs?limit=501", "1 to 500"),
        ("function-runs?function=", "`function` has 1 to 400"),
    ];
    for (path, part) in refused {
        let detail = problem(get(path).await, 400).await;
        assert!(detail.contains(part), "{path}: {detail}");
    }
    assert_eq!(taken(), None);
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
