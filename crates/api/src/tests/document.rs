//! The OpenAPI document: it is the one in the repository, and true.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tributary_testkit::{python_venv, run_in_group};

use super::Fixture;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");

const REQUIREMENTS: &str = include_str!("requirements.txt");

#[test]
fn the_document_in_the_repository_is_that_of_the_code() {
    let current = crate::openapi();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(FILE, &current).unwrap();
    }
    let kept = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(
        kept == current,
        "{FILE} is not that of the code; update it: \
         UPDATE_OPENAPI=1 cargo nextest run --workspace -E 'test(the_document_in_the_repository)'"
    );
}

#[test]
fn every_operation_is_described() {
    let document: Value = serde_json::from_str(&crate::openapi()).unwrap();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let place = format!("{method} {path}");
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{place}: {id} is there twice");
            assert!(
                !operation["summary"].as_str().unwrap().is_empty(),
                "{place}"
            );
            assert_eq!(operation["tags"].as_array().unwrap().len(), 1, "{place}");
            let responses = operation["responses"].as_object().unwrap();
            for status in ["400", "403", "408", "413", "500", "502", "503"] {
                assert!(responses.contains_key(status), "{place}: {status}");
            }
            let is_open = ["/health", "/ready"].contains(&path.as_str());
            assert_eq!(responses.contains_key("401"), !is_open, "{place}");
            assert_eq!(responses.contains_key("404"), path.contains('{'), "{place}");
            assert_eq!(responses.contains_key("409"), method != "get", "{place}");
            let parameters = operation["parameters"].as_array();
            for parameter in parameters.into_iter().flatten() {
                assert!(parameter["description"].is_string(), "{place}: {parameter}");
            }
        }
    }
    assert_eq!(ids.len(), 34);
}

/// A client that makes requests of the document, right ones and wrong ones, finds nothing that the
/// document does not say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_is_as_its_document_says() {
    let fixture = Fixture::new().await;
    let address = fixture.served.address();
    let directory = tempfile::tempdir().unwrap();
    let from = directory.path().to_owned();
    let fuzz = move || {
        let requirements: Vec<&str> = REQUIREMENTS.lines().collect();
        let python = python_venv("schemathesis", &requirements).unwrap();
        let mut command = Command::new(python);
        command
            .args(["-m", "schemathesis.cli", "run", FILE])
            .args(["--url", &address])
            .arg("--checks=not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,unsupported_method")
            .args(["--phases", "examples,coverage,fuzzing"])
            .args(["--mode", "all"])
            // Its answer has no end.
            .args(["--exclude-path", "/api/v1/events"])
            .args(["--seed", "1", "--max-examples", "15", "--generation-deterministic"])
            .args(["--request-timeout", "10"])
            .arg("--no-color")
            .current_dir(from)
            .env("NO_PROXY", "*");
        run_in_group(command, Duration::from_secs(240)).unwrap()
    };
    let (status, text) = tokio::task::spawn_blocking(fuzz).await.unwrap();
    let is_ok = status.is_some_and(|status| status.success());
    assert!(is_ok, "{status:?} {text}");
    assert!(text.contains("33 selected / 34 total"), "{text}");
}
