//! Running the binary, and a database and a directory of one's own.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bson::{Document, RawDocumentBuf};
use mongodb::{Collection, Database};
use serde_json::Value;
use tempfile::TempDir;
use tributary_testkit::{Mongod, SharedMongod, unique_name};

/// No command of these tests may take longer: a hang is a failure.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);

/// An address at which nothing listens: a port that was free a moment ago may be another test's by now.
pub(crate) const NOBODY: &str = "127.0.0.1:1";

/// What a command printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// The result of a command that must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// What was printed, an object a line.
    #[track_caller]
    pub(crate) fn rows(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {self:#?}")))
            .collect()
    }

    /// The last event of `--output json`.
    #[track_caller]
    pub(crate) fn finished(&self) -> Value {
        let line = self.stdout.lines().last().unwrap_or_default();
        let event: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {self:#?}"));
        assert_eq!(event["event"], "finished", "{self:#?}");
        event
    }

    /// The only collection of the last event.
    #[track_caller]
    pub(crate) fn collection(&self) -> Value {
        let event = self.finished();
        let collections = event["collections"].as_array().expect("a list");
        assert_eq!(collections.len(), 1, "{self:#?}");
        collections[0].clone()
    }

    /// Asserts one clear error: this exit code, all of these words, no panic and no backtrace.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for word in words {
            assert!(self.stderr.contains(word), "no `{word}` in {self:#?}");
        }
        let errors = self
            .stderr
            .lines()
            .filter(|line| line.contains("error:"))
            .count();
        assert_eq!(errors, 1, "{self:#?}");
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
    }
}

/// A command of the binary, with no credentials but those given later.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tributary"));
    for (name, _) in std::env::vars() {
        if name.starts_with("AWS_") || name.starts_with("AZURE_") || name.starts_with("TRIBUTARY_L")
        {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub(crate) fn run(arguments: &[&str]) -> Run {
    run_command(command(arguments))
}

pub(crate) fn run_command(mut command: Command) -> Run {
    wait(command.spawn().expect("the binary starts"))
}

/// Waits for a command to end, and ends it itself when it takes too long.
pub(crate) fn wait(mut child: Child) -> Run {
    let stdout = child.stdout.take().map(read_all);
    let stderr = child.stderr.take().map(read_all);
    let deadline = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break Some(status);
        }
        if Instant::now() > deadline {
            child.kill().expect("a child");
            child.wait().expect("a child");
            break None;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let text = |thread: Option<std::thread::JoinHandle<String>>| {
        thread
            .map(|thread| thread.join().expect("a reader"))
            .unwrap_or_default()
    };
    let run = Run {
        code: status.and_then(|s| s.code()),
        signal: status.and_then(|s| s.signal()),
        stdout: text(stdout),
        stderr: text(stderr),
    };
    assert!(status.is_some(), "the command hangs: {run:#?}");
    run
}

fn read_all(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A database and a directory of one test.
pub(crate) struct Fixture {
    pub(crate) mongod: SharedMongod,
    pub(crate) name: String,
    pub(crate) database: Database,
    directory: TempDir,
}

impl Fixture {
    pub(crate) async fn new(name: &str) -> Self {
        let mongod = Mongod::shared().await.expect("a mongod");
        let name = unique_name(name);
        let database = mongod.client().await.expect("a client").database(&name);
        Self {
            mongod,
            name,
            database,
            directory: TempDir::new().expect("a directory"),
        }
    }

    /// The database's address.
    pub(crate) fn uri(&self) -> String {
        self.mongod.uri_for(&self.name)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory
            .path()
            .join(name)
            .to_string_lossy()
            .into_owned()
    }

    pub(crate) fn lake(&self) -> String {
        self.path("lake")
    }

    pub(crate) fn table(&self, collection: &str) -> PathBuf {
        Path::new(&self.lake()).join(&self.name).join(collection)
    }

    pub(crate) async fn insert(&self, collection: &str, documents: Vec<Document>) {
        self.database
            .collection::<Document>(collection)
            .insert_many(documents)
            .await
            .expect("inserted");
    }

    /// Documents that the driver would not let pass, inserted as they are.
    pub(crate) async fn insert_raw(&self, collection: &str, documents: Vec<Vec<u8>>) {
        let collection: Collection<RawDocumentBuf> = self.database.collection(collection);
        let documents = documents
            .into_iter()
            .map(|bytes| RawDocumentBuf::from_bytes(bytes).expect("a document"));
        collection.insert_many(documents).await.expect("inserted");
    }

    pub(crate) fn copy(&self, arguments: &[&str]) -> Run {
        let (uri, lake) = (self.uri(), self.lake());
        run(&[&["copy", &uri, &lake, "--output", "json"], arguments].concat())
    }

    /// The files of a collection's table whose names end in `.extension`.
    pub(crate) fn files(&self, collection: &str, extension: &str) -> Vec<String> {
        let mut files = files_below(&self.table(collection));
        files.retain(|name| name.ends_with(&format!(".{extension}")));
        files
    }

    /// Waits until a table has so many rows.
    pub(crate) async fn wait_for_rows(&self, collection: &str, rows: i64) {
        let query = format!("SELECT count(*) AS n FROM {}.{collection}", self.name);
        self.wait_until(&format!("{collection} has {rows} rows"), || {
            let run = run(&["sql", "--lake", &self.lake(), "--output", "json", &query]);
            run.code == Some(0) && run.stdout.trim() == format!("{{\"n\":{rows}}}")
        })
        .await;
    }

    pub(crate) async fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !is_so() {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The rows of a query over the lake.
    pub(crate) fn sql(&self, query: &str) -> Vec<Value> {
        sql_of(&self.lake(), query)
    }

    /// One number out of a query.
    pub(crate) fn number(&self, query: &str) -> i64 {
        let rows = self.sql(query);
        let row = rows[0].as_object().expect("a row");
        row.values()
            .next()
            .and_then(Value::as_i64)
            .unwrap_or_else(|| panic!("no number: {row:?}"))
    }
}

pub(crate) fn sql_of(lake: &str, query: &str) -> Vec<Value> {
    run(&["sql", "--lake", lake, "--output", "json", query])
        .ok()
        .rows()
}

/// Names of all files below a directory, relative to it.
pub(crate) fn files_below(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in std::fs::read_dir(&next).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                todo.push(path);
            } else {
                found.push(
                    path.strip_prefix(directory)
                        .expect("below")
                        .to_string_lossy()
                        .into_owned(),
                );
            }
        }
    }
    found.sort();
    found
}

/// A text of `length` bytes that differs from key to key.
pub(crate) fn filler(key: usize, length: usize) -> String {
    let mut text = String::with_capacity(length + 20);
    let mut state = key as u64;
    while text.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!("{state:016x}"));
    }
    text.truncate(length);
    text
}
