//! A command that runs while a test goes on.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tributary_testkit::{Signal, send_signal};

use crate::support::{LIMIT, Run};

/// A sync that runs, and what it has said so far. Dropping it kills it.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) lines: Arc<Mutex<Vec<String>>>,
    /// What it has written to standard error so far.
    errors: Arc<Mutex<String>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (lines, errors): (Arc<Mutex<Vec<String>>>, Arc<Mutex<String>>) = Default::default();
        let (stdout, told) = (child.stdout.take().unwrap(), Arc::clone(&lines));
        let stdout = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                told.lock().unwrap().push(line);
            }
        });
        let (stderr, told) = (child.stderr.take().unwrap(), Arc::clone(&errors));
        let stderr = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut told = told.lock().unwrap();
                told.push_str(&line);
                told.push('\n');
            }
        });
        Self {
            child,
            lines,
            errors,
            readers: vec![stdout, stderr],
        }
    }

    /// How many events of this name it has told.
    pub(crate) fn events(&self, name: &str) -> usize {
        let word = format!("\"event\":\"{name}\"");
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|line| line.contains(&word)).count()
    }

    /// The last of the events of this name.
    pub(crate) fn last_event(&self, name: &str) -> Value {
        let word = format!("\"event\":\"{name}\"");
        let lines = self.lines.lock().unwrap();
        let line = lines.iter().rfind(|line| line.contains(&word)).unwrap();
        serde_json::from_str(line).unwrap()
    }

    pub(crate) async fn wait_for_events(&mut self, name: &str, count: usize) {
        let deadline = Instant::now() + LIMIT;
        while self.events(name) < count {
            assert!(
                Instant::now() < deadline && self.child.try_wait().unwrap().is_none(),
                "no {count} events `{name}`: {:#?}\n{}",
                self.lines.lock().unwrap(),
                self.errors.lock().unwrap()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until it ends by itself.
    pub(crate) fn end(mut self) -> Run {
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < deadline,
                "it does not end: {:#?}\n{}",
                self.lines.lock().unwrap(),
                self.errors.lock().unwrap()
            );
            std::thread::sleep(Duration::from_millis(10));
        };
        self.told_at(status)
    }

    /// All that it has told, now that it has ended.
    fn told_at(&mut self, status: ExitStatus) -> Run {
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        Run {
            code: status.code(),
            signal: status.signal(),
            stdout: self.lines.lock().unwrap().join("\n"),
            stderr: self.errors.lock().unwrap().clone(),
        }
    }

    /// Ends it as an operator does.
    pub(crate) fn stop(self) -> Run {
        send_signal(&self.child, Signal::TERM).unwrap();
        self.end()
    }

    /// Kills it, unless it has ended by itself, which it must not have. All that it told is there then.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("it ended by itself: {:#?}", self.told_at(status));
        }
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        self.told_at(status);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            return;
        }
        // What it told last says why a test has failed.
        if let Ok(lines) = self.lines.lock() {
            let first = lines.len().saturating_sub(20);
            let last = lines[first..].join("\n");
            let _ = writeln!(std::io::stderr(), "the sync told last:\n{last}");
        }
        if let Ok(errors) = self.errors.lock() {
            let _ = writeln!(std::io::stderr(), "and of errors:\n{errors}");
        }
    }
}
