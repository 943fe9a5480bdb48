//! The API of a process that really runs.

use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::Site;
use bson::doc;

const READ: &str = "0123456789abcdef-read";
const OPERATE: &str = "0123456789abcdef-operate";

#[tokio::test(flavor = "multi_thread")]
async fn the_api_shows_and_does_what_is_asked_by_who_may() {
    let site = Site::new("runapi").await;
    let uri = site.fixture.uri();
    site.write_all(&format!(
        "\
sources: {{ shop: {{ uri: '{uri}' }} }}
lakes: {{ main: {{ path: lake }} }}
server:
  listen: '127.0.0.1:0'
  tokens:
    looks: {{ token: {READ}, role: read }}
    does: {{ token: {OPERATE}, role: operate }}
flows:
  in: {{ from: shop, to: main, collections: [orders], options: {{ commit_interval: 50ms }} }}
jobs:
  short: {{ steps: {{ x: {{ command: {{ run: ['true'] }} }} }} }}
  long: {{ steps: {{ x: {{ command: {{ run: [sleep, '600'] }} }} }} }}
"
    ));
    site.insert(0..5).await;
    let (running, mut api) = site.start().await;
    let status = async |api: &super::Api, method: Method, path: &str| {
        let answer = api.send(method, path).await;
        answer.status()
    };
    let (flows, short) = ("/api/v1/flows", "/api/v1/jobs/short/runs");
    assert_eq!(status(&api, Method::GET, "/health").await, StatusCode::OK);
    for path in [flows, "/metrics"] {
        let refused = status(&api, Method::GET, path).await;
        assert_eq!(refused, StatusCode::UNAUTHORIZED, "{path}");
    }
    api.token = Some("0123456789abcdef-wrong");
    let refused = status(&api, Method::GET, flows).await;
    assert_eq!(refused, StatusCode::UNAUTHORIZED);
    api.token = Some(READ);
    assert_eq!(status(&api, Method::GET, flows).await, StatusCode::OK);
    let refused = status(&api, Method::POST, short).await;
    assert_eq!(refused, StatusCode::FORBIDDEN);
    let none = api.get("/api/v1/runs").await;
    assert!(!none.to_string().contains("short"), "{none}");

    api.token = Some(OPERATE);
    let mut events = api.send(Method::GET, "/api/v1/events").await;
    api.wait_for_flow("in", "following").await;
    assert_eq!(status(&api, Method::GET, "/ready").await, StatusCode::OK);
    let run = api.post(short).await;
    assert_eq!(run["cause"]["by"], "does", "{run}");
    let id = run["id"].as_str().unwrap();
    api.wait_for_run(id, "succeeded").await;
    let mut heard = String::new();
    while !(heard.contains(id) && heard.contains(r#""state":"succeeded""#)) {
        let next = tokio::time::timeout(crate::support::LIMIT, events.chunk()).await;
        heard.push_str(&String::from_utf8_lossy(&next.unwrap().unwrap().unwrap()));
    }
    assert!(heard.contains("event: run"), "{heard}");

    let run = api.post("/api/v1/jobs/long/runs").await;
    let id = run["id"].as_str().unwrap();
    api.wait_for_run(id, "running").await;
    api.post(&format!("/api/v1/runs/{id}/cancel")).await;
    api.wait_for_run(id, "cancelled").await;
    let unknown = status(&api, Method::POST, "/api/v1/jobs/nope/runs").await;
    assert_eq!(unknown, StatusCode::NOT_FOUND);

    api.post("/api/v1/flows/in/stop").await;
    api.wait_for_flow("in", "stopped").await;
    site.insert(5..9).await;
    api.post("/api/v1/flows/in/start").await;
    site.fixture.wait_for_rows("orders", 9).await;

    let metrics = api.send(Method::GET, "/metrics").await.text().await;
    let metrics = metrics.unwrap();
    let of_run = |line: &str| {
        line.starts_with("tributary_job_runs_total")
            && line.contains(r#"job="short""#)
            && line.contains("succeeded")
            && line.ends_with(" 1")
    };
    assert!(metrics.lines().any(of_run), "{metrics}");
    let of_flow = |line: &str| {
        line.starts_with("tributary_flow_running") && line.contains("in") && line.ends_with(" 1")
    };
    assert!(metrics.lines().any(of_flow), "{metrics}");
    assert!(!metrics.contains("0123456789abcdef"));
    drop(events);
    running.stop().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_change_that_waits_is_approved_and_nothing_is_lost() {
    let site = Site::new("runschema").await;
    site.write(
        "flows:\n  in: { from: shop, to: main, collections: [orders], \
         options: { commit_interval: 50ms, on_schema_change: stop } }\n",
    );
    site.insert(0..5).await;
    let (running, api) = site.start().await;
    api.wait_for_flow("in", "following").await;
    site.fixture
        .insert("orders", vec![doc! { "_id": 100, "fresh": "yes" }])
        .await;
    api.wait_for_flow("in", "waiting").await;
    let waits = |schemas: &Value| schemas[0]["waiting"] == true;
    let schemas = "/api/v1/flows/in/schemas";
    let told = api.wait(schemas, "a change waits", waits).await;
    assert!(told.to_string().contains("fresh"), "{told}");
    let table = told[0]["namespace"].as_str().unwrap();
    api.post(&format!("{schemas}/{table}/approve")).await;
    site.fixture.wait_for_rows("orders", 6).await;
    let query = format!(
        "SELECT fresh FROM {}.orders WHERE _id = 100",
        site.fixture.name
    );
    assert_eq!(site.fixture.sql(&query)[0]["fresh"], "yes");
    api.wait_for_flow("in", "following").await;
    let told = api.get(schemas).await;
    assert_eq!(told[0]["waiting"], false, "{told}");
    running.stop().ok();
}
