//! What is wrong with an application as a whole.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

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
    assert_eq!(app.metadata.name, "small");
    assert!(app.triggers.is_empty() && app.functions.is_empty());
    // Without a file that names it, it is called as its directory.
    let directory = app_of(&[("functions/f.js", EMPTY)]);
    let app = check(directory.path(), "").unwrap();
    let name = directory.path().file_name().unwrap();
    assert_eq!(app.metadata.name, name.to_str().unwrap());
    assert_eq!(app.metadata.id, "");
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
        ("trigger_files/t.json", "{}"),
    ]);
    let about = &app.metadata;
    assert_eq!(
        (about.name.as_str(), about.id.as_str()),
        ("new", "new-abcde")
    );
    assert_eq!(
        findings(&app),
        [
            "config.json: is not read beside realm_config.json (remove it)",
            "realm_config.json: `colour` is not a known setting, and is ignored (check how it is written, or remove it)",
            "trigger_files: this is no part of an application, and is not read (check its name, or put it elsewhere)",
        ]
    );
}

/// Any JSON whose names are mostly those of settings.
fn any_json() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        Just("name"),
        Just("type"),
        Just("config"),
        Just("value"),
        Just("function_name"),
        Just("event_processors"),
        Just("FUNCTION"),
        Just("AWS_EVENTBRIDGE"),
        Just("operation_types"),
        Just("match"),
        Just("schedule"),
        Just("route"),
        Just("options"),
        Just("action"),
        Just("secret_config"),
        Just("$oid"),
    ];
    let text = prop_oneof![
        Just("DATABASE"),
        Just("SCHEDULED"),
        Just("INSERT"),
        Just("aws"),
        Just("* * * * *"),
        Just("\u{0}ü/.."),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<f64>().prop_map(|number| json!(number)),
        text.prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((name.clone(), inner), 0..6).prop_map(|fields| {
                let fields = fields.into_iter();
                let object: Map<String, Value> = fields
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect();
                Value::Object(object)
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_files_hold_is_read_or_told(json in any_json()) {
        let text = json.to_string();
        let listed = format!("[{text}]");
        let files = [
            "root_config.json",
            "triggers/t.json",
            "values/v.json",
            "environments/qa.json",
            "data_sources/d/config.json",
            "services/s/config.json",
            "services/s/incoming_webhooks/w/config.json",
            "http_endpoints/data_api_config.json",
            "log_forwarders/l.json",
            "functions/package.json",
        ];
        let mut files: Vec<(&str, &str)> = files.map(|file| (file, text.as_str())).to_vec();
        files.push(("functions/config.json", &listed));
        files.push(("http_endpoints/config.json", &listed));
        files.push(("services/s/incoming_webhooks/w/source.js", EMPTY));
        // A trigger without a name, a type or a function is never right.
        let problems = check(app_of(&files).path(), "qa").unwrap_err();
        let has_all = ["name", "type"].iter().all(|key| json.get(key).is_some());
        prop_assert!(has_all || problems.iter().any(|problem| problem.file == "triggers/t.json"));
    }
}
