//! Flows and steps that pass changes on as they are, into files and into Kinesis, through kills.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bson::doc;
use reqwest::Method;

use super::{Api, Site};
use crate::publish::{Kinesis, assert_files, change, stir};
use crate::running::Running;
use crate::support::{Run, files_below, run_command};

const KILLS: i32 = 4;

/// The credentials alone: what else leads to the stream is in the file.
fn with_credentials(mut command: Command, kinesis: &Kinesis) -> Command {
    let environment = kinesis.server.env();
    let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
    let credentials = environment
        .iter()
        .filter(|(name, _)| keys.contains(&name.as_str()));
    command.envs(credentials.map(|(name, value)| (name, value)));
    command
}

fn write(site: &Site, kinesis: &Kinesis, stream: &str) {
    site.write_all(&format!(
        "\
sources: {{ shop: {{ uri: '{}' }} }}
streams: {{ events: {{ uri: 'kinesis://{stream}', region: us-east-1, endpoint: '{}' }} }}
files:
  audit: {{ path: changes, json: canonical, batch_events: 3 }}
  daily: {{ path: daily, batch_events: 1, gzip: true }}
server: {{ listen: '127.0.0.1:0' }}
flows:
  publish: {{ from: shop, to: events, options: {{ commit_interval: 20ms }} }}
  audit: {{ from: shop, to: audit, options: {{ commit_interval: 20ms }} }}
jobs: {{ daily: {{ steps: {{ keep: {{ sync: {{ from: shop, to: daily, collections: [c] }} }} }} }} }}
",
        site.fixture.uri(),
        kinesis.server.endpoint()
    ));
}

async fn start(site: &Site, kinesis: &Kinesis) -> (Running, Api) {
    let (running, api) = site
        .start_with(with_credentials(site.command(), kinesis))
        .await;
    for flow in ["publish", "audit"] {
        api.wait_for_flow(flow, "following").await;
    }
    (running, api)
}

fn check(site: &Site, kinesis: &Kinesis, arguments: &[&str]) -> Run {
    let file = site.file();
    let arguments = [&["check", &file], arguments].concat();
    run_command(with_credentials(
        crate::support::command(&arguments),
        kinesis,
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_pass_changes_on_to_files_and_to_a_stream_through_kills() {
    let (site, kinesis) = (Site::new("runpublish").await, Kinesis::new().await);
    let fixture = &site.fixture;
    write(&site, &kinesis, &kinesis.stream);
    stir(fixture).await;
    let (mut running, _) = start(&site, &kinesis).await;
    let in_files = fixture.database.watch().await.unwrap();
    let in_stream = fixture.database.watch().await.unwrap();
    for round in 1..=KILLS {
        // The kill is among the writes.
        let wait = Duration::from_millis(u64::try_from(round).unwrap() * 40);
        let killed = async {
            tokio::time::sleep(wait).await;
            running.kill();
        };
        tokio::join!(change(fixture, round * 2), killed);
        change(fixture, round * 2 + 1).await;
        running = start(&site, &kinesis).await.0;
    }
    let address = running.last_event("listening")["address"].clone();
    let api = Api::new(address.as_str().unwrap().to_owned());
    // Changes go on in their order: what was before this one is there when this one is.
    let behind = fixture.database.collection::<bson::Document>("behind");
    behind.insert_one(doc! {}).await.unwrap();
    let behind = format!("{}.behind", fixture.name);
    for flow in ["publish", "audit"] {
        let path = format!("/api/v1/flows/{flow}");
        let arrived = |flow: &serde_json::Value| {
            let tables = flow["tables"].as_array().unwrap();
            tables
                .iter()
                .any(|table| table["namespace"] == behind.as_str() && table["changes"] == 1)
        };
        let status = api.wait(&path, "the last change is there", arrived).await;
        assert_eq!(status["state"], "following", "{status:#}");
        assert!(status["tables"][0]["lagSeconds"].is_number(), "{status:#}");
        let schemas = api.get(&format!("{path}/schemas")).await;
        assert_eq!(schemas, serde_json::json!([]));
        let approve = format!("{path}/schemas/{behind}/approve");
        let refused = api.send(Method::POST, &approve).await;
        assert_eq!(refused.status(), 404);
        let text = refused.text().await.unwrap();
        assert!(text.contains("passes changes on as they are"), "{text}");
    }
    running.stop().ok();
    assert_files(fixture, in_files, &["c", "d"]).await;
    kinesis.assert_events(fixture, in_stream, &["c", "d"]).await;
    let positions = files_below(Path::new(&fixture.path("tributary.state/positions")));
    let of_stream = format!("shop/kinesis-{}-", kinesis.stream);
    let is_position = |name: &&String| name.starts_with(&of_stream) && name.ends_with(".json");
    assert_eq!(
        positions.iter().filter(is_position).count(),
        1,
        "{positions:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_of_the_same_name_go_into_one_stream_from_each_source() {
    let (site, kinesis) = (Site::new("runstreams").await, Kinesis::new().await);
    let uri = site.fixture.uri();
    site.write_all(&format!(
        "\
sources: {{ europe: {{ uri: '{uri}' }}, america: {{ uri: '{uri}' }} }}
streams: {{ events: {{ uri: 'kinesis://{}', region: us-east-1, endpoint: '{}' }} }}
server: {{ listen: '127.0.0.1:0' }}
flows:
  here: {{ from: europe, to: events, options: {{ commit_interval: 20ms }} }}
  there: {{ from: america, to: events, options: {{ commit_interval: 20ms }} }}
",
        kinesis.stream,
        kinesis.server.endpoint()
    ));
    stir(&site.fixture).await;
    let (running, api) = site
        .start_with(with_credentials(site.command(), &kinesis))
        .await;
    for flow in ["here", "there"] {
        let path = format!("/api/v1/flows/{flow}");
        let is_settled =
            |flow: &serde_json::Value| flow["state"] == "following" || !flow["error"].is_null();
        let status = api.wait(&path, "it follows", is_settled).await;
        assert_eq!(status["state"], "following", "{status:#}");
    }
    running.stop().ok();
    let positions = files_below(Path::new(&site.fixture.path("tributary.state/positions")));
    for source in ["europe", "america"] {
        let of_source = format!("{source}/kinesis-{}-", kinesis.stream);
        let is_position = |name: &&String| name.starts_with(&of_source) && name.ends_with(".json");
        assert_eq!(
            positions.iter().filter(is_position).count(),
            1,
            "{positions:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_puts_what_has_happened_since_the_last_one_into_files() {
    let (site, kinesis) = (Site::new("runstep").await, Kinesis::new().await);
    write(&site, &kinesis, &kinesis.stream);
    stir(&site.fixture).await;
    let (running, api) = start(&site, &kinesis).await;
    let mut last = serde_json::Value::Null;
    for round in 0..2 {
        let run = api.post("/api/v1/jobs/daily/runs").await;
        last = api
            .wait_for_run(run["id"].as_str().unwrap(), "succeeded")
            .await;
        if round == 0 {
            change(&site.fixture, 1).await;
        }
    }
    // Five and four inserts, an update, a replacement and a deletion.
    assert_eq!(last["steps"][0]["documents"], 12, "{last:#}");
    running.stop().ok();
    let daily = Path::new(&site.fixture.path("daily")).join(&site.fixture.name);
    let files = files_below(&daily);
    assert_eq!(files.len(), 12, "{files:?}");
    assert!(
        files
            .iter()
            .all(|file| file.starts_with("c/") && file.ends_with(".json.gz")),
        "{files:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_reaches_streams_and_places_for_files() {
    let (site, kinesis) = (Site::new("runcheck").await, Kinesis::new().await);
    write(&site, &kinesis, &kinesis.stream);
    site.insert(0..1).await;
    let told = check(&site, &kinesis, &[]).ok().stdout;
    assert!(told.contains("stream events: can be reached"), "{told}");
    assert!(told.contains("place for files audit: "), "{told}");
    assert!(told.contains("changes can be written"), "{told}");
    assert!(
        !Path::new(&site.fixture.path("changes")).exists()
            && !Path::new(&site.fixture.path("tributary.state")).exists(),
        "a check leaves nothing behind"
    );

    write(&site, &kinesis, "missing");
    let told = check(&site, &kinesis, &[]);
    assert_eq!(told.code, Some(1), "{told:#?}");
    for words in ["stream events: WRONG", "create the stream first"] {
        assert!(told.stdout.contains(words), "no `{words}` in {told:#?}");
    }
    let told = check(&site, &kinesis, &["--output", "json"]).rows();
    let places = told[0]["places"].as_array().unwrap();
    let of = |name: &str| places.iter().find(|place| place["name"] == name).unwrap();
    assert_eq!(of("events")["kind"], "stream");
    let error = of("events")["error"].as_str().unwrap();
    assert!(error.contains("missing"), "{error}");
    assert_eq!(of("audit")["files"]["writable"], true);
    assert!(of("audit")["error"].is_null());
}
