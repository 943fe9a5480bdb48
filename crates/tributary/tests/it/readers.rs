//! Readers that share no code with Tributary, agreeing with a driver that shares none either.

use std::path::PathBuf;
use std::process::Command;

use tributary_demodata::{Generator, Kind};
use tributary_testkit::python_venv;

use crate::support::{Fixture, run};

const REQUIREMENTS: &[&str] = &[
    "deltalake==1.6.6",
    "duckdb==2.0.0",
    "fastavro==1.12.1",
    "polars==2.1.0",
    "pyarrow==25.0.0",
    "pymongo==4.20.0",
];

/// A Python that has the readers.
pub(crate) fn python() -> PathBuf {
    python_venv("readers", REQUIREMENTS).expect("a Python with the readers")
}

#[track_caller]
pub(crate) fn compare(reader: &str, fixture: &Fixture, collection: &str, table: &str) {
    let uri = fixture.mongod.uri();
    compare_at(reader, uri, &fixture.name, collection, table);
}

/// Asserts that a reader finds the documents of a collection in a table.
#[track_caller]
pub(crate) fn compare_at(reader: &str, uri: &str, database: &str, collection: &str, table: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/readers/compare.py");
    let output = Command::new(python())
        .args([script, reader, uri, database, collection, table])
        .output()
        .expect("python runs");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{reader} on {collection}: {text}");
    assert!(text.contains("documents agree"), "{text}");
}

async fn generated(kinds: &[(Kind, u64)]) -> Fixture {
    let fixture = Fixture::new("readers").await;
    for (kind, count) in kinds {
        let generator = Generator::new(*kind, 7);
        let documents = (0..*count)
            .map(|i| generator.document(i).into_bytes())
            .collect();
        fixture.insert_raw(kind.name(), documents).await;
    }
    fixture
}

#[tokio::test]
async fn delta_tables_agree_with_pymongo_document_by_document() {
    let fixture = generated(&[
        (Kind::Everything, 600),
        (Kind::Nested, 500),
        (Kind::Banking, 20),
    ])
    .await;
    fixture.copy(&[]).ok();
    for collection in ["everything", "nested", "banking"] {
        let table = fixture.table(collection);
        compare("deltalake", &fixture, collection, &table.to_string_lossy());
    }
    // Polars reads no tables with column mapping, which the odd names of `everything` need.
    for collection in ["nested", "banking"] {
        let table = fixture.table(collection);
        compare("polars", &fixture, collection, &table.to_string_lossy());
    }
}

#[tokio::test]
async fn plain_files_agree_with_pymongo_document_by_document() {
    let fixture = generated(&[(Kind::Everything, 600), (Kind::Nested, 500)]).await;
    let uri = fixture.uri();
    for (format, reader) in [
        ("parquet", "duckdb"),
        ("parquet", "pyarrow"),
        ("avro", "avro"),
        ("csv", "csv"),
        ("jsonl", "jsonl"),
    ] {
        let lake = fixture.path(&format!("{format}-{reader}"));
        run(&["copy", &uri, &lake, "--format", format]).ok();
        for collection in ["everything", "nested"] {
            compare(
                reader,
                &fixture,
                collection,
                &format!("{lake}/{}/{collection}", fixture.name),
            );
        }
    }
    let lake = fixture.path("canonical");
    run(&[
        "copy",
        &uri,
        &lake,
        "--format",
        "jsonl",
        "--json",
        "canonical",
    ])
    .ok();
    compare(
        "jsonl-canonical",
        &fixture,
        "everything",
        &format!("{lake}/{}/everything", fixture.name),
    );
}
