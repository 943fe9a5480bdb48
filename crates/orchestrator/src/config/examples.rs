//! The examples of the repository are read as they stand.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};

use super::Plan;

#[test]
fn the_example_for_compose_is_a_plan_without_problems() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/compose");
    let read = |name| std::fs::read_to_string(directory.join(name)).unwrap();
    // What Compose gives to the process: no more is set there.
    let compose = read("compose.yaml");
    let variables = |name: &str| {
        let is_given = compose.contains(&format!("\n      {name}: "));
        let value = match name {
            "MONGODB_URI" => "mongodb://root:secret@mongodb:27017/shop?replicaSet=rs0",
            "WAREHOUSE_URI" => "postgres://tributary:secret@postgres:5432/warehouse",
            _ => "0123456789abcdef",
        };
        is_given.then(|| value.to_owned())
    };
    let plan = Plan::parse(
        &read("tributary.yaml"),
        Path::new("/etc/tributary"),
        &variables,
    );
    let plan = plan.unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert_eq!((plan.flows.len(), plan.jobs.len()), (2, 1));
    assert!(plan.server.is_some());
}

/// What stands for the variables of the examples.
fn variable(name: &str) -> Option<String> {
    let value = match name {
        "MONGODB_URI" => "mongodb://tributary:secret@db.example.net/shop?replicaSet=rs0",
        "POSTGRES_URI" | "WAREHOUSE_URI" | "WAREHOUSE" => {
            "postgres://tributary:secret@db.example.net/reports"
        }
        "REDSHIFT_URI" => "redshift://tributary:secret@db.example.net/analytics",
        "S3_STAGING" => "s3://staging/tributary",
        "QUEUE_URL" => "https://sqs.eu-central-1.amazonaws.com/123456789012/objects",
        name if name.ends_with("_URL") || name.ends_with("_WEBHOOK") => {
            "https://hooks.example.net/services/secret"
        }
        // Their defaults are what is read.
        "EXTRACT_CRON" | "IAM_ROLE" => return None,
        _ => "0123456789abcdef",
    };
    Some(value.to_owned())
}

/// All files of Tributary below a directory: those of other programs have neither of these keys.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut lines = text.lines();
            if lines.any(|line| ["sources:", "flows:", "jobs:", "triggers:"].contains(&line)) {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn the_functions_of_the_example_with_triggers_are_there() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/configurations");
    let text = std::fs::read_to_string(directory.join("triggers.yaml")).unwrap();
    let plan = Plan::parse(&text, &directory, &variable).unwrap();
    assert!(plan.triggers.len() >= 2 && plan.apps.len() == 1);
    for trigger in plan.triggers.values() {
        assert!(trigger.function.is_file(), "{}", trigger.function.display());
    }
}

#[test]
fn every_example_is_a_plan_without_problems() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let files = files(&directory);
    assert!(files.len() >= 6, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let plan = Plan::parse(&text, Path::new("/etc/tributary"), &variable);
        let plan = plan.unwrap_or_else(|problems| panic!("{}: {problems:#?}", file.display()));
        let does_something = !plan.flows.is_empty()
            || !plan.jobs.is_empty()
            || !plan.triggers.is_empty()
            || !plan.apps.is_empty();
        assert!(does_something, "{}", file.display());
    }
}

#[test]
fn every_configuration_of_the_readme_is_a_plan_without_problems() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let blocks = readme.split("```yaml\n").skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().unwrap());
    // The others are parts of one.
    let whole = blocks.filter(|block| block.lines().any(|line| line == "sources:"));
    let whole: Vec<_> = whole.collect();
    assert!(whole.len() >= 2, "{whole:?}");
    for text in whole {
        let plan = Plan::parse(text, Path::new("/etc/tributary"), &variable);
        let plan = plan.unwrap_or_else(|problems| panic!("{text}: {problems:#?}"));
        assert!(!plan.flows.is_empty(), "{text}");
    }
}
