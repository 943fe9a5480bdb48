//! Jobs that run where no `tributary run` does, in several processes.

use super::Site;
use crate::running::Running;
use crate::support::command;

const JOBS: &str = "\
jobs:
  a: { steps: { x: { command: { run: [sh, -c, 'echo a >> lines; for i in $(seq 1200); do [ -e go ] && exit 0; sleep 0.05; done; exit 1'] } } } }
  b: { overlap: skip, steps: { x: { command: { run: [sh, -c, 'echo b >> lines'] } } } }
";

impl Site {
    fn start_job(&self, arguments: &[&str]) -> Running {
        let file = self.file();
        Running::start(command(
            &[&["job", "run"], arguments, &["--config", &file]].concat(),
        ))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_beside_a_job_that_runs_is_done_behind_it() {
    let site = Site::new("runhere").await;
    site.write(JOBS);
    let first = site.start_job(&["a"]);
    site.fixture
        .wait_until("the first runs", || site.lines("lines") == ["a"])
        .await;
    let second = site.job(&["run", "b"]).ok();
    assert!(second.stdout.contains(": queued"), "{second:#?}");
    // It has not ended, and is what is waited for.
    let skipped = site.job(&["run", "b", "--wait"]);
    assert_eq!(skipped.code, Some(1), "{skipped:#?}");
    let behind = site.start_job(&["a", "--wait"]);
    std::fs::write(site.fixture.path("go"), "").unwrap();
    assert!(first.end().ok().stdout.contains(": succeeded"));
    assert!(behind.end().ok().stdout.contains(": succeeded"));
    let lines = site.lines("lines");
    assert_eq!(lines[..2], ["a", "b"]);
    assert_eq!(lines.len(), 3, "{lines:?}");
    // Nothing is left that another run would be left out for.
    site.job(&["run", "b"]).ok();
    assert_eq!(site.lines("lines").len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_process_that_is_killed_takes_its_place() {
    let site = Site::new("runherekill").await;
    site.write(JOBS);
    let mut first = site.start_job(&["a"]);
    site.fixture
        .wait_until("the first runs", || site.lines("lines") == ["a"])
        .await;
    let second = site.start_job(&["b", "--wait"]);
    let queued = || {
        let history = site.job(&["history", "--job", "b"]).ok().stdout;
        history.contains("queued")
    };
    site.fixture.wait_until("the second waits", queued).await;
    first.kill();
    assert!(second.end().ok().stdout.contains(": succeeded"));
    std::fs::write(site.fixture.path("go"), "").unwrap();
    assert_eq!(site.lines("lines"), ["a", "b"]);
}
