//! Sizes and links.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{EMPTY, app_of, check, told};
use crate::app::directory::{LARGEST_APP, LARGEST_FILE};

fn problems(directory: &Path) -> Vec<String> {
    told(&check(directory, "").unwrap_err())
}

/// A file of so many zero bytes, which take no room on the disk.
fn zeros(path: &Path, length: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    File::create(path).unwrap().set_len(length).unwrap();
}

#[test]
fn a_file_that_is_too_large_is_told() {
    let directory = app_of(&[("functions/f.js", EMPTY)]);
    let path = directory.path().join("functions/large.js");
    zeros(&path, LARGEST_FILE);
    assert!(check(directory.path(), "").is_ok());
    zeros(&path, LARGEST_FILE + 1);
    assert_eq!(
        problems(directory.path()),
        ["functions/large.js: is larger than 8 MiB (make it smaller, or remove it)"]
    );
}

#[test]
fn files_that_are_too_large_together_are_told_once() {
    let directory = app_of(&[
        ("functions/z.js", EMPTY),
        (
            "triggers/t.json",
            r#"{"name": "t", "type": "SCHEDULED", "function_name": "z", "config": {"schedule": "* * * * *"}}"#,
        ),
    ]);
    for number in 0..=LARGEST_APP / LARGEST_FILE {
        let below = format!("functions/node_modules/p/{number}.js");
        zeros(&directory.path().join(below), LARGEST_FILE);
    }
    // Functions that were not read are not told as missing.
    assert_eq!(
        problems(directory.path()),
        [
            "its files are larger than 64 MiB together (remove what functions do not need, such as development dependencies)"
        ]
    );
}

#[test]
fn a_link_that_leads_out_of_the_directory_is_refused() {
    let outside = tempfile::tempdir().unwrap();
    let file = outside.path().join("file");
    fs::write(&file, r#"{"name": "v", "value": "from outside"}"#).unwrap();
    let directory = app_of(&[("functions/f.js", EMPTY), ("values/w.json", "{}")]);
    let at = |path: &str| directory.path().join(path);
    symlink(&file, at("values/v.json")).unwrap();
    symlink(&file, at("functions/g.js")).unwrap();
    symlink(outside.path(), at("functions/more")).unwrap();
    symlink(outside.path(), at("triggers")).unwrap();
    let told = problems(directory.path());
    for path in [
        "functions/g.js",
        "functions/more",
        "triggers",
        "values/v.json",
    ] {
        let line = format!("{path}: this link leads out of the application's directory");
        assert!(told.iter().any(|told| told.starts_with(&line)), "{told:#?}");
    }
    assert!(!told.join("").contains("from outside"));
}

#[test]
fn a_link_within_the_directory_is_followed() {
    let directory = app_of(&[("functions/f.js", EMPTY), ("shared/g.js", "exports = 7;")]);
    symlink("../shared", directory.path().join("functions/lib")).unwrap();
    let app = check(directory.path(), "").unwrap();
    assert_eq!(&*app.functions["lib/g"].source.text, "exports = 7;");
}

#[test]
fn links_that_lead_round_or_nowhere_are_told() {
    let directory = app_of(&[("functions/a/f.js", EMPTY), ("functions/b/g.js", EMPTY)]);
    let at = |path: &str| directory.path().join(path);
    symlink("../b", at("functions/a/b")).unwrap();
    symlink("../a", at("functions/b/a")).unwrap();
    symlink("gone.js", at("functions/broken.js")).unwrap();
    let told = problems(directory.path());
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told[0].starts_with("functions/a/b/a: this link leads to a directory that it is in"));
    assert!(told[1].starts_with("functions/b/a/b: this link leads to a directory that it is in"));
    assert!(told[2].starts_with("functions/broken.js: cannot be read"));
}

#[test]
fn a_pipe_is_not_waited_for() {
    let directory = app_of(&[("functions/f.js", EMPTY)]);
    let pipe = directory.path().join("functions/pipe.js");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let told = problems(directory.path());
    assert_eq!(
        told,
        ["functions/pipe.js: this is no file (put a file there)"]
    );
}
