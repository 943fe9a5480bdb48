mod layouts;
mod limits;
mod parts;
mod problems;
mod triggers;

use std::fs;
use std::path::{Path, PathBuf};

use bson::Document;
use tempfile::TempDir;

use super::{App, AppSettings, AppValue, Problem};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// An application of these files.
fn app_of(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (path, text) in files {
        write(directory.path(), path, text);
    }
    directory
}

fn write(directory: &Path, path: &str, text: &str) {
    let path = directory.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn secrets(name: &str) -> Option<String> {
    let known = ["hello_key", "mail_key", "sms_token", "token_secret"];
    match name {
        "empty" => Some(String::new()),
        _ => known.contains(&name).then(|| format!("hidden {name}")),
    }
}

fn check(directory: &Path, environment: &str) -> Result<App, Vec<Problem>> {
    let settings = AppSettings {
        environment: environment.to_owned(),
        secret: &secrets,
    };
    App::check(directory, &settings)
}

/// The application of these files, which are right.
fn right(files: &[(&str, &str)]) -> App {
    check(app_of(files).path(), "").unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// What is wrong with these files, a line each.
fn wrong(files: &[(&str, &str)]) -> Vec<String> {
    told(&check(app_of(files).path(), "").unwrap_err())
}

fn told(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(Problem::to_string).collect()
}

/// What an application asks for and does not get, a line each.
fn findings(app: &App) -> Vec<String> {
    app.findings.iter().map(ToString::to_string).collect()
}

fn document(bytes: &[u8]) -> Document {
    Document::from_reader(bytes).unwrap()
}

fn value(value: &AppValue) -> bson::Bson {
    document(&value.document).remove("v").unwrap()
}

/// A function that does nothing, at this name.
const EMPTY: &str = "exports = function () {};\n";
