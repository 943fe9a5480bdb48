//! Files that are wrong, and what is not there: one clear error, and nothing is begun.

use std::path::Path;

use super::Site;
use crate::support::{NOBODY, Run, command, run};
use bson::doc;

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_file_starts_nothing_and_says_where_it_is_wrong() {
    let site = Site::new("runwrong").await;
    site.insert(0..1).await;
    let flow = "flows: { in: { from: shop, to: main } }\n";
    let cases: [(&str, &[&str]); 7] = [
        (
            "flowz: {}\n",
            &[
                ".yaml:5:1: ",
                "there is no key `flowz`; did you mean `flows`?",
            ],
        ),
        (
            "jobs: 3\n",
            &[".yaml:5:7: ", "`tributary check --schema` prints"],
        ),
        (
            "jobs:\n  a: { after: [b], steps: { x: { command: { run: [x] } } } }\n  \
             b: { after: [a], steps: { x: { command: { run: [x] } } } }\n",
            &[".yaml:6:16: ", "goes in a circle: a → b → a"],
        ),
        (
            "jobs:\n  a: { schedule: { cron: '0 0 30 2 *' }, steps: { x: { command: { run: [x] } } } }\n",
            &[".yaml:6:26: ", "a moment that never comes"],
        ),
        (
            "state: ${TRIBUTARY_TEST_NOWHERE}\n",
            &[
                ".yaml:5:8: ",
                "the environment variable TRIBUTARY_TEST_NOWHERE is not set",
            ],
        ),
        ("lakes: {}\n", &[".yaml:5:1: ", "`lakes` is there twice"]),
        (
            "jobs: {}\nalerts: { rules: { r: { when: run_failed } } }\n",
            &[".yaml:6:", "there is nobody to tell"],
        ),
    ];
    for (wrong, words) in cases {
        site.write(&format!("{flow}{wrong}"));
        run(&["run", &site.file()]).fails(2, words);
        run(&["job", "list", "--config", &site.file()]).fails(2, words);
        run(&["check", &site.file()]).fails(2, words);
    }
    let gone = run(&["run", &site.fixture.path("gone.yaml")]);
    gone.fails(2, &["cannot read the configuration", "gone.yaml"]);
    for made in ["lake", "tributary.state"] {
        let path = site.fixture.path(made);
        assert!(!Path::new(&path).exists(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_has_and_what_is_not_there_is_said() {
    let site = Site::new("runtaken").await;
    site.write("jobs: { a: { steps: { x: { command: { run: ['true'] } } } } }\n");
    let unknown = |run: Run| {
        run.fails(
            2,
            &["there is no such job (job nope)", "`tributary job list`"],
        )
    };
    unknown(site.job(&["run", "nope"]));
    let (running, api) = site.start().await;
    unknown(site.job(&["run", "nope", "--wait"]));
    run(&["run", &site.file()]).fails(
        1,
        &[
            "another process runs with this state",
            "give this one another directory with `state`",
        ],
    );
    let port = api.address.rsplit_once(':').unwrap().1;
    site.write_all(&format!(
        "state: other\nserver: {{ listen: '127.0.0.1:{port}' }}\n"
    ));
    run(&["run", &site.file()]).fails(2, &["cannot serve the API", port, "`server.listen`"]);
    site.write_all("state: /proc/nowhere/state\n");
    run(&["run", &site.file()]).fails(
        1,
        &["cannot make the directory of the state", "/proc/nowhere"],
    );
    running.stop().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_holds_up_its_own_flow_alone() {
    let site = Site::new("runaway").await;
    let uri = site.fixture.uri();
    site.write_all(&format!(
        "\
sources:
  shop: {{ uri: '{uri}' }}
  away: {{ uri: 'mongodb://user:hunter22@{NOBODY}/gone?serverSelectionTimeoutMS=500' }}
lakes: {{ main: {{ path: lake }} }}
server: {{ listen: '127.0.0.1:0' }}
flows:
  a: {{ from: shop, to: main, collections: [orders] }}
  b: {{ from: away, to: main }}
"
    ));
    site.fixture.insert("orders", vec![doc! { "_id": 1 }]).await;
    let (running, api) = site.start().await;
    let away = api
        .wait("/api/v1/flows/b", "its error", |flow| {
            !flow["error"].is_null()
        })
        .await;
    let error = away["error"].as_str().unwrap();
    assert!(error.contains(NOBODY), "{error}");
    assert!(!away.to_string().contains("hunter22"), "{away}");
    api.wait_for_flow("a", "following").await;
    site.fixture.wait_for_rows("orders", 1).await;
    let well = api.get("/api/v1/flows/a").await;
    assert_eq!(well["restarts"], 0, "{well}");
    let ended = running.stop().ok();
    assert!(ended.stdout.contains(NOBODY), "{ended:#?}");
    assert!(!format!("{ended:?}").contains("hunter22"), "{ended:#?}");

    let mut check = command(&["check", &site.file()]);
    check.env("NO_COLOR", "1");
    let checked = crate::support::run_command(check);
    assert_eq!(checked.code, Some(1), "{checked:#?}");
    for words in ["source away: WRONG", NOBODY, "source shop: MongoDB"] {
        assert!(checked.stdout.contains(words), "no `{words}`: {checked:#?}");
    }
    assert!(!checked.stdout.contains("hunter22"), "{checked:#?}");
}
