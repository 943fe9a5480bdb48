//! Functions as people write them for Atlas, all of them run: against a real MongoDB, stand-ins for AWS, and a
//! receiver of HTTP. What each is to do is a row of a table.

mod aws;
mod bson_values;
mod changes;
mod context;
mod documents;
mod events;
mod examples;
mod failures;
mod globals;
mod http;
mod language;
mod messages;
mod stage;
mod table;
mod totals;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use stage::Stage;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/atlas_app")
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples")
        .join(name)
        .join("app")
}

/// The fewest functions that are proof of anything.
const LEAST: usize = 45;

#[tokio::test]
async fn every_function_of_the_application_does_what_it_is_written_for() {
    let secrets = [
        ("aws_key", "hunter2"),
        ("github_secret", "hook secret"),
        ("phones_key", "phones key"),
        ("sms_token", "sms token"),
        ("token_secret", "0123456789abcdef0123456789abcdef"),
    ];
    let mut stage = Stage::start(&fixture(), "testing", &secrets).await;
    assert_eq!(stage.app.findings, [], "the application asks for no more");
    language::run(&mut stage).await;
    context::run(&mut stage).await;
    bson_values::run(&mut stage).await;
    globals::run(&mut stage).await;
    documents::run(&mut stage).await;
    events::run(&mut stage).await;
    http::run(&mut stage).await;
    aws::run(&mut stage).await;
    messages::run(&mut stage).await;
    failures::run(&mut stage).await;

    let written: BTreeSet<String> = stage.app.functions.keys().cloned().collect();
    let left: Vec<&String> = written.difference(&stage.ran).collect();
    assert!(left.is_empty(), "these were not run: {left:?}");
    assert!(written.len() >= LEAST, "{} functions", written.len());
    assert!(
        stage.wrong.is_empty(),
        "{} of {} functions or their effects are wrong:\n{}",
        stage.wrong.len(),
        written.len(),
        stage.wrong.join("\n")
    );
}
