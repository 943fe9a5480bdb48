use std::{
    fs::Permissions,
    io::{BufRead, BufReader},
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::{Command, Stdio},
};

use tributary_testkit::{Signal, python_venv, send_signal, spawn};

use crate::{eventually, family, is_running};

fn testkit() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_testkit"));
    command.env_remove("MONGODB_URI").env_remove("POSTGRES_URI");
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
fn run_gives_the_command_a_superuser_of_postgresql_whose_password_it_does_not_tell() {
    let script = r#"echo "$POSTGRES_URI $TRIBUTARY_TEST_POSTGRES_URI""#;
    let output = testkit()
        .args(["run", "--postgres", "--", "sh", "-c", script])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let (one, other) = printed.trim().split_once(' ').unwrap();
    assert_eq!(one, other);
    let password = one
        .strip_prefix("postgresql://postgres:")
        .and_then(|rest| rest.split('@').next())
        .unwrap();
    assert!(password.len() > 20, "{printed}");
    let shown = one.replace(password, "***");
    assert!(told.contains(&shown) && !told.contains(password), "{told}");
}

#[test]
fn a_postgresql_that_cannot_run_is_refused_with_what_to_do() {
    let run = |variable: &str, value: &std::path::Path| {
        let output = testkit()
            .args(["run", "--postgres", "--", "true"])
            .env(variable, value)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), told)
    };
    let directory = tempfile::tempdir().unwrap();
    let (success, told) = run("TRIBUTARY_POSTGRES", directory.path());
    assert!(!success && told.contains("TRIBUTARY_POSTGRES is not the directory of initdb"));

    // The server of root is another user's.
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
    let is_root = directory.path().metadata().unwrap().uid() == 0;
    let (success, told) = run("TMPDIR", directory.path());
    assert_eq!(
        (success, told.contains("set TMPDIR")),
        (!is_root, is_root),
        "{told}"
    );
}

#[test]
fn run_uses_a_server_that_is_given_and_keeps_its_password_to_itself() {
    for (flag, variable, uri, shown) in [
        (
            "--mongod",
            "MONGODB_URI",
            "mongodb://user:pass@127.0.0.1:1/?replicaSet=other",
            "mongodb://user:***@127.0.0.1:1/?replicaSet=other\n",
        ),
        (
            "--postgres",
            "POSTGRES_URI",
            "postgresql://user:pass@127.0.0.1:1/shop",
            "postgresql://user:***@127.0.0.1:1/shop\n",
        ),
        (
            "--postgres",
            "POSTGRES_URI",
            "postgresql://127.0.0.1:1/?user=user&password=pass",
            "postgresql://127.0.0.1:1/?***\n",
        ),
    ] {
        let script = format!(r#"echo "$TRIBUTARY_TEST_{variable}""#);
        let output = testkit()
            .args(["run", flag, "--", "sh", "-c", &script])
            .env(variable, uri)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), uri);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.ends_with(shown), "{told}");
    }
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
    // The parent of the command is testkit, whose other children are the servers.
    let script = r#"cat /proc/$PPID/task/*/children; echo; exec sleep 600"#;
    let mut command = testkit();
    command
        .args(["run", "--mongod", "--postgres", "--", "sh", "-c", script])
        .stdout(Stdio::piped());
    let mut child = spawn(command, Signal::KILL).unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let started: Vec<u32> = line
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect();
    assert_eq!(started.len(), 3, "{line:?}");
    // PostgreSQL is several processes.
    let children: Vec<u32> = started.into_iter().flat_map(family).collect();
    assert!(children.len() > 5, "{children:?}");
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
