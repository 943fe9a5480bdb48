//! Every server starts, works and stops, and the proxy breaks connections as told.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a failed step fails the test"
)]

mod command_line;
mod mongod;
mod object_stores;
mod postgres;
mod proxy;
mod redshift;
mod replica_set;

use std::time::{Duration, Instant};

/// Whether a process exists and has not ended: a zombie is one that has.
fn is_running(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .trim_start()
            .starts_with('Z')
    })
}

/// A process and those that it has started.
fn family(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let children = tasks
        .flat_map(|task| std::fs::read_to_string(task.unwrap().path().join("children")))
        .collect::<String>();
    std::iter::once(pid)
        .chain(children.split_whitespace().map(|pid| pid.parse().unwrap()))
        .collect()
}

/// Polls until `condition` holds.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not after 60 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
