//! What is wrong with an application as a whole.

use std::fs;
use std::path::Path;

use super::{EMPTY, app_of, check, findings, right, told, wrong};

#[test]
fn a_directory_without_an_application_is_told() {
    let empty = tempfile::tempdir().unwrap();
    let is = |directory: &Path, part: &str| {
        let told = told(&check(directory, "").unwrap_err());
        assert_eq!(told.len(), 1, "{told:#?}");
        assert!(told[0].contains(part), "{told:#?}");
    };
    is(empty.path(), "there is no application in this directory");
    is(&empty.path().join("gone"), "the directory cannot be read");
    let file = empty.path().join("file");
    fs::write(&file, "").unwrap();
    is(&file, "this is no directory");
}

#[test]
fn an_application_may_have_next_to_nothing() {
    let app = right(&[("root_config.json", r#"{"name": "small"}"#)]);
    assert_eq!(app.name, "small");
    assert!(app.triggers.is_empty() && app.functions.is_empty());
    // Without a file that names it, it is called as its directory.
    let directory = app_of(&[("functions/f.js", EMPTY)]);
    let app = check(directory.path(), "").unwrap();
    let name = directory.path().file_name().unwrap();
    assert_eq!(app.name.as_str(), name.to_str().unwrap());
    assert_eq!(app.id, "");
}

#[test]
fn malformed_json_is_told_with_its_place() {
    let told = wrong(&[
        ("functions/f.js", EMPTY),
        (
            "triggers/t.json",
            "{\n  \"name\": \"t\",\n  \"type\" \"DATABASE\"\n}\n",
        ),
    ]);
    assert_eq!(
        told,
        [
            "triggers/t.json:3:10: this is no JSON: expected `:` (correct it, or export the application again)"
        ]
    );
}

#[test]
fn all_problems_are_told_at_once() {
    let told = wrong(&[
        ("root_config.json", "[]"),
        ("functions/config.json", r#"[{"name": "gone"}]"#),
        ("http_endpoints/config.json", r#"[1, {"route": "/a"}]"#),
        ("log_forwarders/l.json", "{}"),
        ("services/s/config.json", "{"),
        ("triggers/a.json", "x"),
        (
            "triggers/b.json",
            r#"{"name": "b", "type": "DATABASE", "function_name": "gone", "config": {}}"#,
        ),
        ("values/v.json", r#"{"name": 1, "value": 2}"#),
    ]);
    let files: Vec<&str> = told
        .iter()
        .map(|line| line.split(':').next().unwrap())
        .collect();
    let mut distinct = files.clone();
    distinct.dedup();
    assert_eq!(
        distinct,
        [
            "functions/config.json",
            "http_endpoints/config.json",
            "log_forwarders/l.json",
            "root_config.json",
            "services/s/config.json",
            "triggers/a.json",
            "triggers/b.json",
            "values/v.json",
        ],
        "{told:#?}"
    );
}

#[test]
fn text_that_is_not_utf_8_is_told_and_a_byte_order_mark_is_left_out() {
    let directory = app_of(&[("functions/f.js", "\u{feff}exports = 1;")]);
    let app = check(directory.path(), "").unwrap();
    assert_eq!(&*app.functions["f"].source.text, "exports = 1;");
    let package = directory.path().join("functions/node_modules/p");
    fs::create_dir_all(&package).unwrap();
    fs::write(package.join("index.js"), b"\xff").unwrap();
    let app = check(directory.path(), "").unwrap();
    assert!(findings(&app)[0].contains("this is not UTF-8, and cannot be required"));
    fs::write(directory.path().join("functions/f.js"), b"\xff").unwrap();
    let told = told(&check(directory.path(), "").unwrap_err());
    assert_eq!(
        told,
        ["functions/f.js: this is not UTF-8 (save it as UTF-8)"]
    );
}

#[test]
fn what_is_no_part_of_an_application_is_a_finding() {
    let app = right(&[
        ("config.json", r#"{"name": "old"}"#),
        (
            "realm_config.json",
            r#"{"name": "new", "app_id": "new-abcde", "colour": "red"}"#,
        ),
        (".git/config", "not looked at"),
        ("README.md", "not looked at"),
        ("trigers/t.json", "{}"),
    ]);
    assert_eq!((app.name.as_str(), app.id.as_str()), ("new", "new-abcde"));
    assert_eq!(
        findings(&app),
        [
            "config.json: is not read beside realm_config.json (remove it)",
            "realm_config.json: `colour` is not a known setting, and is ignored (check how it is written, or remove it)",
            "trigers: this is no part of an application, and is not read (check its name, or put it elsewhere)",
        ]
    );
}
