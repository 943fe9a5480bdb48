//! The files of an application, read within limits, and what is found wrong with them on the way.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::AppSettings;
use super::problem::{Finding, Problem};
use super::secret::secret_variable;
use crate::services::Secret;

/// The largest file that is read, in bytes.
pub(super) const LARGEST_FILE: u64 = 8 << 20;
/// The most that is read of one application, in bytes.
pub(super) const LARGEST_APP: u64 = 64 << 20;
/// The most entries that are looked at; links inside of the directory may repeat what is behind them.
const MOST_ENTRIES: usize = 500_000;

/// A directory that is being read.
pub(super) struct Directory<'a> {
    root: PathBuf,
    pub(super) settings: &'a AppSettings<'a>,
    pub(super) problems: Vec<Problem>,
    pub(super) findings: Vec<Finding>,
    bytes: u64,
    entries: usize,
    is_over: bool,
}

/// Something in a directory.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    /// Its path below the application's directory, with `/` between the names.
    pub(super) path: String,
    pub(super) is_directory: bool,
}

impl<'a> Directory<'a> {
    /// `root` is canonical: what leads out of it is told by that.
    pub(super) fn new(root: PathBuf, settings: &'a AppSettings<'a>) -> Self {
        Self {
            root,
            settings,
            problems: Vec::new(),
            findings: Vec::new(),
            bytes: 0,
            entries: 0,
            is_over: false,
        }
    }

    /// The last name of its path.
    pub(super) fn name(&self) -> String {
        let name = self.root.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Whether a limit was passed, so that what is missing says nothing about the application.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) fn wrong(&mut self, file: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem {
            file: file.to_owned(),
            at: None,
            what: what.into(),
            remedy: remedy.into(),
        });
    }

    pub(super) fn found(&mut self, file: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.findings.push(Finding {
            file: file.to_owned(),
            what: what.into(),
            remedy: remedy.into(),
        });
    }

    /// What is at a path, if anything is and it is inside of the directory.
    fn resolve(&mut self, path: &str) -> Option<PathBuf> {
        let full = self.root.join(path);
        match full.canonicalize() {
            Ok(real) if real.starts_with(&self.root) => Some(real),
            Ok(_) => {
                self.wrong(
                    path,
                    "this link leads out of the application's directory",
                    "put there what it leads to",
                );
                None
            }
            Err(error)
                if error.kind() == ErrorKind::NotFound && full.symlink_metadata().is_err() =>
            {
                None
            }
            Err(error) => {
                self.unreadable(path, &error);
                None
            }
        }
    }

    fn unreadable(&mut self, path: &str, error: &std::io::Error) {
        self.wrong(
            path,
            format!("cannot be read: {error}"),
            "make it readable, or remove it",
        );
    }

    /// What is in a directory, by name; nothing where there is no such directory.
    pub(super) fn entries(&mut self, path: &str) -> Vec<Entry> {
        match self.resolve(path) {
            Some(real) => self.entries_of(path, &real),
            None => Vec::new(),
        }
    }

    fn entries_of(&mut self, path: &str, real: &Path) -> Vec<Entry> {
        let names = fs::read_dir(real).and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect::<std::io::Result<Vec<_>>>()
        });
        let names = match names {
            Ok(names) => names,
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                self.wrong(path, "this is no directory", "put a directory there");
                return Vec::new();
            }
            Err(error) => {
                self.unreadable(path, &error);
                return Vec::new();
            }
        };
        self.entries += names.len();
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            let Some(name) = name.to_str() else {
                let shown = name.to_string_lossy();
                let what =
                    format!("the name `{shown}` is not UTF-8, and what it names is not read");
                self.found(path, what, "give it another name");
                continue;
            };
            entries.push(Entry {
                name: name.to_owned(),
                path: match path.is_empty() {
                    true => name.to_owned(),
                    false => format!("{path}/{name}"),
                },
                is_directory: real.join(name).is_dir(),
            });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries
    }

    /// The files of a directory that end in `.json`, by path. What else is there is noted as not read.
    pub(super) fn json_files(&mut self, path: &str) -> Vec<String> {
        let mut files = Vec::new();
        for entry in self.entries(path) {
            if entry.name.starts_with('.') {
                continue;
            }
            match !entry.is_directory && entry.name.ends_with(".json") {
                true => files.push(entry.path),
                false => self.found(
                    &entry.path,
                    format!("is not read: {path} has JSON files, and no directories"),
                    format!("put it into {path} as a JSON file of its own, or remove it"),
                ),
            }
        }
        files
    }

    /// The files of a directory and of the directories in it, by path.
    pub(super) fn files_below(&mut self, path: &str) -> Vec<String> {
        let mut files = Vec::new();
        self.walk(path, &mut Vec::new(), &mut files);
        files
    }

    fn walk(&mut self, path: &str, above: &mut Vec<PathBuf>, files: &mut Vec<String>) {
        let Some(real) = self.resolve(path) else {
            return;
        };
        if above.contains(&real) {
            self.wrong(
                path,
                "this link leads to a directory that it is in itself",
                "remove the link",
            );
            return;
        }
        let entries = self.entries_of(path, &real);
        if self.entries > MOST_ENTRIES {
            if !self.is_over {
                self.is_over = true;
                let what = format!("there are more than {MOST_ENTRIES} files");
                self.wrong("", what, "remove what functions do not need");
            }
            return;
        }
        above.push(real);
        for entry in entries {
            match entry.is_directory {
                true => self.walk(&entry.path, above, files),
                false => files.push(entry.path),
            }
        }
        above.pop();
    }

    /// Whether there is a file at a path.
    pub(super) fn has(&self, path: &str) -> bool {
        self.root.join(path).is_file()
    }

    /// The bytes of a file; none where there is no such file, or it is not to be read.
    pub(super) fn bytes(&mut self, path: &str) -> Option<Vec<u8>> {
        if self.is_over {
            return None;
        }
        let real = self.resolve(path)?;
        if !real.is_file() {
            // A pipe would be waited for without end.
            self.wrong(path, "this is no file", "put a file there");
            return None;
        }
        let mut bytes = Vec::new();
        let read =
            File::open(real).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes));
        if let Err(error) = read {
            self.unreadable(path, &error);
            return None;
        }
        let length = bytes.len() as u64;
        if length > LARGEST_FILE {
            self.wrong(
                path,
                format!("is larger than {} MiB", LARGEST_FILE >> 20),
                "make it smaller, or remove it",
            );
            return None;
        }
        self.bytes += length;
        if self.bytes > LARGEST_APP {
            self.is_over = true;
            self.wrong(
                "",
                format!(
                    "its files are larger than {} MiB together",
                    LARGEST_APP >> 20
                ),
                "remove what functions do not need, such as development dependencies",
            );
            return None;
        }
        Some(bytes)
    }

    /// The text of a file.
    pub(super) fn text(&mut self, path: &str) -> Option<String> {
        let bytes = self.bytes(path)?;
        match String::from_utf8(bytes) {
            Ok(text) => Some(without_mark(text)),
            Err(_) => {
                self.wrong(path, "this is not UTF-8", "save it as UTF-8");
                None
            }
        }
    }

    /// The value that a file holds as JSON.
    pub(super) fn json(&mut self, path: &str) -> Option<Value> {
        let text = self.text(path)?;
        match serde_json::from_str(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                let what = error.to_string();
                let what = what.split(" at line ").next().unwrap_or_default();
                self.problems.push(Problem {
                    file: path.to_owned(),
                    at: Some((error.line(), error.column())),
                    what: format!("this is no JSON: {what}"),
                    remedy: "correct it, or export the application again".to_owned(),
                });
                None
            }
        }
    }

    /// The object that a file holds as JSON.
    pub(super) fn object(&mut self, path: &str) -> Option<Map<String, Value>> {
        match self.json(path)? {
            Value::Object(object) => Some(object),
            _ => {
                self.wrong(path, "this is no JSON object", "write `{ … }`");
                None
            }
        }
    }

    /// The objects of the array that a file holds as JSON.
    pub(super) fn objects(&mut self, path: &str) -> Option<Vec<Map<String, Value>>> {
        let Value::Array(values) = self.json(path)? else {
            self.wrong(path, "this is no JSON array", "write `[ { … }, … ]`");
            return None;
        };
        let mut objects = Vec::with_capacity(values.len());
        for value in values {
            match value {
                Value::Object(object) => objects.push(object),
                _ => self.wrong(path, "an entry is no JSON object", "write `[ { … }, … ]`"),
            }
        }
        Some(objects)
    }

    /// The secret of a name.
    pub(super) fn secret(&mut self, file: &str, name: &str) -> Option<Secret> {
        let variable = secret_variable(name);
        let value = (self.settings.secret)(name)
            .or_else(|| (variable != name).then(|| (self.settings.secret)(&variable))?);
        if value.is_none() {
            self.wrong(
                file,
                format!("the secret `{name}` is not known"),
                format!("set the environment variable {variable}"),
            );
        }
        value.map(Secret::from)
    }
}

/// Without the byte order mark that some editors put first.
fn without_mark(text: String) -> String {
    match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    }
}
