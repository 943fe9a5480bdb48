use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use tributary_testkit::{Signal, python_venv, send_signal, spawn};

use crate::{eventually, is_running};

fn testkit() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_testkit"));
    command.env_remove("MONGODB_URI");
    command
}

#[test]
fn run_gives_the_command_its_servers_and_passes_on_its_exit_code() {
    let script = r#"echo "$MONGODB_URI $TRIBUTARY_TEST_MONGODB_URI"; exit 7"#;
    let output = testkit()
        .args(["run", "--mongod", "--", "sh", "-c", script])
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(7),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let printed = String::from_utf8(output.stdout).unwrap();
    let (one, other) = printed.trim().split_once(' ').unwrap();
    assert!(
        one.starts_with("mongodb://127.0.0.1:") && one == other,
        "{printed}"
    );
    assert!(String::from_utf8_lossy(&output.stderr).contains(one));
}

#[test]
fn run_uses_a_server_that_is_given_and_keeps_its_password_to_itself() {
    let uri = "mongodb://user:pass@127.0.0.1:1/?replicaSet=other";
    let output = testkit()
        .args([
            "run",
            "--mongod",
            "--",
            "sh",
            "-c",
            r#"echo "$TRIBUTARY_TEST_MONGODB_URI""#,
        ])
        .env("MONGODB_URI", uri)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), uri);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains("mongodb://user:***@127.0.0.1:1/") && !told.contains("pass@"),
        "{told}"
    );
}

#[tokio::test]
async fn run_passes_sigterm_on_and_ends_with_the_code_of_the_command() {
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let mut command = testkit();
    command
        .args(["run", "--", "sh", "-c", script])
        .stdout(Stdio::piped());
    let mut child = spawn(command, Signal::KILL).unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    send_signal(&child, Signal::TERM).unwrap();
    let mut status = None;
    eventually("testkit ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    })
    .await;
    assert_eq!(status.unwrap().code(), Some(9));
}

#[tokio::test]
async fn servers_end_when_the_process_that_started_them_is_killed() {
    // The parent of the command is testkit, whose other child is the server.
    let script = r#"cat /proc/$PPID/task/*/children; echo; exec sleep 600"#;
    let mut command = testkit();
    command
        .args(["run", "--mongod", "--", "sh", "-c", script])
        .stdout(Stdio::piped());
    let mut child = spawn(command, Signal::KILL).unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let children: Vec<u32> = line
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect();
    assert_eq!(children.len(), 2, "{line:?}");
    assert!(children.iter().copied().all(is_running));
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the children are gone", || {
        !children.iter().copied().any(is_running)
    })
    .await;
}

#[test]
fn a_python_environment_is_made_once_and_found_again() {
    let first = python_venv("empty", &["# nothing"]).unwrap();
    assert!(first.exists());
    let directory = tempfile::tempdir().unwrap();
    let requirements = directory.path().join("requirements.txt");
    std::fs::write(&requirements, "# nothing\n").unwrap();
    let output = testkit()
        .args(["venv", "empty", "-r"])
        .arg(&requirements)
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        first.to_str().unwrap()
    );
}
