//! Jobs that run when an object is created, and those who are told when jobs fail.

use serde_json::Value;
use tributary_testkit::HttpReceiver;

use super::Site;
use crate::support::{LIMIT, run};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_once_for_the_files_that_are_put_into_a_directory() {
    let site = Site::new("runobject").await;
    site.write(
        "\
jobs:
  loaded:
    on_object: { directory: in, matching: '**/*.csv', gather: 1s }
    steps: { x: { command: { run: [sh, -c, 'echo $TRIBUTARY_OBJECTS >> lines'] } } }
",
    );
    let put = |name: &str| {
        // It appears whole, as what is moved there does.
        let from = site.fixture.path("new");
        std::fs::write(&from, "a,b\n1,2\n").unwrap();
        std::fs::rename(from, site.fixture.path(&format!("in/{name}"))).unwrap();
    };
    std::fs::create_dir(site.fixture.path("in")).unwrap();
    let (running, api) = site.start().await;
    put("a.csv");
    put("ignored.txt");
    site.fixture
        .wait_until("the job ran", || site.lines("lines").len() == 1)
        .await;
    let objects: Value = serde_json::from_str(&site.lines("lines")[0]).unwrap();
    assert_eq!(objects.as_array().unwrap().len(), 1, "{objects}");
    assert!(objects.to_string().contains("a.csv"), "{objects}");
    api.wait("/api/v1/jobs/loaded", "its run ended", |job| {
        job["lastRun"]["state"] == "succeeded"
    })
    .await;
    running.stop().ok();

    // Those of before are not told again, and two at once are one run.
    let (running, _api) = site.start().await;
    // One move brings both, so that none looks between them.
    let two = site.fixture.path("two");
    std::fs::create_dir(&two).unwrap();
    for name in ["b.csv", "c.csv"] {
        std::fs::write(format!("{two}/{name}"), "a,b\n1,2\n").unwrap();
    }
    std::fs::rename(&two, site.fixture.path("in/two")).unwrap();
    site.fixture
        .wait_until("the job ran again", || site.lines("lines").len() == 2)
        .await;
    let second = site.lines("lines").pop().unwrap();
    assert!(
        second.contains("b.csv") && second.contains("c.csv") && !second.contains("a.csv"),
        "{second}"
    );
    running.stop().ok();
    assert_eq!(site.lines("lines").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_to_be_told_hears_of_failures_and_recoveries() {
    let site = Site::new("runalert").await;
    let receiver = HttpReceiver::start().await.unwrap();
    site.write(&format!(
        "\
jobs:
  shaky: {{ steps: {{ x: {{ command: {{ run: [test, -e, well] }} }} }} }}
alerts:
  notify: {{ ops: {{ webhook: {{ url: '{}' }} }} }}
  rules: {{ failed: {{ when: run_failed }} }}
",
        receiver.url()
    ));
    let file = site.file();
    let tested = run(&["alert", "test", "--config", &file]).ok();
    assert!(tested.stdout.contains("ops: told"), "{tested:#?}");
    receiver.wait_for(1, LIMIT).await;

    let (running, api) = site.start().await;
    let failed = site.job(&["run", "shaky", "--wait"]);
    assert_eq!(failed.code, Some(1), "{failed:#?}");
    let told = receiver.wait_for(2, LIMIT).await;
    let failed = String::from_utf8_lossy(told[1].body.as_ref()).into_owned();
    assert!(failed.contains("shaky"), "{failed}");
    std::fs::write(site.fixture.path("well"), "").unwrap();
    site.job(&["run", "shaky", "--wait"]).ok();
    let told = receiver.wait_for(3, LIMIT).await;
    let recovered = String::from_utf8_lossy(told[2].body.as_ref()).into_owned();
    assert!(recovered.contains("shaky"), "{recovered}");
    assert_ne!(failed, recovered);
    let alerts = api.get("/api/v1/alerts").await;
    assert!(!alerts[0]["recoveredAt"].is_null(), "{alerts:#}");
    running.stop().ok();

    receiver.answer_with(500, &[], "no");
    let tested = run(&["alert", "test", "--config", &file]);
    assert_eq!(tested.code, Some(1), "{tested:#?}");
    assert!(tested.stdout.contains("ops: NOT told"), "{tested:#?}");
}
