use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::*;
use crate::config::Secret;

const DEADLINE: Duration = Duration::from_secs(30);

fn shell(script: &str) -> Command {
    Command {
        program: "sh".to_owned(),
        arguments: vec!["-c".to_owned(), script.to_owned()],
        directory: std::env::temp_dir(),
        environment: BTreeMap::new(),
        secrets: Arc::default(),
    }
}

/// Runs it, and answers the lines that it printed.
async fn run_until(command: &Command, stop: &CancellationToken) -> (Result<()>, Vec<String>) {
    let printed = Mutex::new(Vec::new());
    let output = |stream, line: &str| {
        let mark = match stream {
            Stream::Output => "o",
            Stream::Error => "e",
        };
        printed.lock().unwrap().push(format!("{mark}:{line}"));
    };
    let invocation = Invocation {
        command,
        variables: vec![("TRIBUTARY_RUN", "r1".to_owned())],
        output: &output,
    };
    let ended = timeout(DEADLINE, run(invocation, stop)).await.unwrap();
    (ended, printed.into_inner().unwrap())
}

async fn run_it(command: &Command) -> (Result<()>, Vec<String>) {
    run_until(command, &CancellationToken::new()).await
}

/// Waits until a program has said by a file that it is ready.
async fn appears(file: &Path) {
    let deadline = Instant::now() + DEADLINE;
    while !file.exists() {
        assert!(Instant::now() < deadline, "{file:?} does not appear");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_program_prints_lines_and_sees_its_environment() {
    let mut command = shell(
        r#"pwd; echo "$GREETING,$TRIBUTARY_RUN,${PATH:+path}"; printf 'bad\377\r\n' >&2; cat; printf last"#,
    );
    command.directory = Path::new("/").to_owned();
    command
        .environment
        .insert("GREETING".to_owned(), Secret::from("hi"));
    let (ended, mut printed) = run_it(&command).await;
    ended.unwrap();
    printed.sort();
    assert_eq!(printed, ["e:bad\u{fffd}", "o:/", "o:hi,r1,path", "o:last"]);
}

#[tokio::test]
async fn long_lines_are_cut() {
    let script = "i=0; while [ $i -lt 1000 ]; do printf 'ä23456789 123456789'; i=$((i+1)); done; echo; echo end";
    let (ended, printed) = run_it(&shell(script)).await;
    ended.unwrap();
    assert_eq!(printed.len(), 2);
    assert!(printed[0].len() <= lines_limit() && printed[0].len() > lines_limit() - 8);
    assert_eq!(printed[1], "o:end");
}

/// With the mark of the stream.
fn lines_limit() -> usize {
    (8 << 10) + "o:".len()
}

#[tokio::test]
async fn a_failure_carries_the_last_of_standard_error() {
    let script = "i=0; while [ $i -lt 500 ]; do echo early$i >&2; i=$((i+1)); done; echo 'no such table' >&2; exit 3";
    let (ended, _) = run_it(&shell(script)).await;
    let error = ended.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    let text = error.to_string();
    assert!(text.contains("exit status 3"), "{text}");
    assert!(text.contains("program sh"), "{text}");
    assert!(text.contains("early499 no such table"), "{text}");
    assert!(!text.contains("early1 "), "{text}");
    assert!(text.len() < 2500, "{}", text.len());
}

#[tokio::test]
async fn a_death_by_a_signal_names_the_signal() {
    let (ended, _) = run_it(&shell("echo about to die >&2; kill -9 $$")).await;
    let text = ended.unwrap_err().to_string();
    assert!(text.contains("killed by signal 9"), "{text}");
    assert!(text.contains("about to die"), "{text}");
    assert!(text.contains("memory"), "{text}");
}

#[tokio::test]
async fn secrets_are_neither_in_errors_nor_in_output() {
    let mut command = shell(r#"echo "with $TOKEN"; echo "denied for $TOKEN" >&2; exit 1"#);
    let token = Secret::from("hunter2hunter2");
    // One that it has from elsewhere.
    let mut other = shell("echo in the file: hunter2hunter2");
    other.secrets = Arc::new([token.clone()].into());
    assert_eq!(run_it(&other).await.1, ["o:in the file: ***"]);

    command.environment.insert("TOKEN".to_owned(), token);
    let (ended, mut printed) = run_it(&command).await;
    let error = ended.unwrap_err();
    assert!(error.to_string().contains("denied for ***"), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    printed.sort();
    assert_eq!(printed, ["e:denied for ***", "o:with ***"]);

    command.program = "/no/such/program".to_owned();
    let (ended, _) = run_it(&command).await;
    assert!(!format!("{:?}", ended.unwrap_err()).contains("hunter2"));
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = shell("true");
    command.directory = directory.path().to_owned();
    let is = async |command: &Command, kind: ErrorKind, part: &str| {
        let error = run_it(command).await.0.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    };

    command.program = "no-such-program".to_owned();
    is(&command, ErrorKind::NotFound, "there is no such program").await;

    let script = directory.path().join("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    command.program = "./script".to_owned();
    is(&command, ErrorKind::Forbidden, "chmod +x").await;

    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    is(&command, ErrorKind::NotFound, "interpreter").await;

    command.arguments = vec!["a\0b".to_owned()];
    is(&command, ErrorKind::Usage, "arguments").await;

    command.directory = directory.path().join("missing");
    is(&command, ErrorKind::NotFound, "no directory to run").await;
}

#[tokio::test]
async fn a_stopped_program_ends_with_all_that_it_started() {
    let directory = tempfile::tempdir().unwrap();
    let (ready, done) = (
        directory.path().join("ready"),
        directory.path().join("done"),
    );
    let mut command = shell(
        "trap 'echo > done; exit 0' TERM; sleep 1000 & echo $! > ready.new; mv ready.new ready; wait",
    );
    command.directory = directory.path().to_owned();
    let stop = CancellationToken::new();
    let (run, ()) = tokio::join!(run_until(&command, &stop), async {
        appears(&ready).await;
        stop.cancel();
    });
    assert_eq!(run.0.unwrap_err().kind(), ErrorKind::Interrupted);
    assert!(done.exists(), "it was not asked to end");
    let sleeper: i32 = std::fs::read_to_string(&ready)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let deadline = Instant::now() + DEADLINE;
    while is_running(sleeper) {
        assert!(Instant::now() < deadline, "what it started goes on");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_program_that_does_not_want_to_end_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = shell("trap '' TERM; echo > ready; while :; do sleep 1; done");
    command.directory = directory.path().to_owned();
    let stop = CancellationToken::new();
    let (run, ()) = tokio::join!(run_until(&command, &stop), async {
        appears(&directory.path().join("ready")).await;
        stop.cancel();
    });
    assert_eq!(run.0.unwrap_err().kind(), ErrorKind::Interrupted);
}

#[tokio::test]
async fn a_program_that_was_dropped_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = shell("echo $$ > ready.new; mv ready.new ready; sleep 1000");
    command.directory = directory.path().to_owned();
    let stop = CancellationToken::new();
    let ready = directory.path().join("ready");
    tokio::select! {
        _ = run_until(&command, &stop) => panic!("it ended"),
        () = appears(&ready) => {}
    }
    let id: i32 = std::fs::read_to_string(&ready)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let deadline = Instant::now() + DEADLINE;
    while is_running(id) {
        assert!(Instant::now() < deadline, "it goes on");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_process_that_holds_the_output_does_not_hold_the_run() {
    let (ended, printed) = run_it(&shell("sleep 60 & echo $!; printf partial")).await;
    ended.unwrap();
    assert_eq!(printed.len(), 2, "{printed:?}");
    assert_eq!(printed[1], "o:partial");
    let sleeper: i32 = printed[0].trim_start_matches("o:").parse().unwrap();
    assert!(is_running(sleeper), "it was not left alone");
    let sleeper = Pid::from_raw(sleeper).unwrap();
    rustix::process::kill_process(sleeper, Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_run_that_is_stopped_already_starts_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = shell("echo > started");
    command.directory = directory.path().to_owned();
    let stop = CancellationToken::new();
    stop.cancel();
    let (ended, _) = run_until(&command, &stop).await;
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Interrupted);
    assert!(!directory.path().join("started").exists());
}

/// Whether a process is there that is no zombie.
fn is_running(id: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .and_then(|rest| rest.trim_start().chars().next())
        .is_some_and(|state| state != 'Z')
}
