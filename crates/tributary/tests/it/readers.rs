//! Readers that share no code with Tributary, agreeing with a driver that shares none either.

use std::path::{Path, PathBuf};
use std::process::Command;

use tributary_demodata::{Generator, Kind};
use tributary_testkit::{python_venv, run_in_group};

use crate::support::{Fixture, LIMIT, run};

const REQUIREMENTS: &[&str] = &[
    "delta-kernel-rust-sharing-wrapper==0.3.3",
    "deltalake==1.6.6",
    "duckdb==2.0.0",
    "fastavro==1.12.1",
    "polars==2.1.0",
    "psycopg[binary]==3.3.9",
    "pyarrow==25.0.0",
    "pymongo==4.20.0",
];

/// Sail wants other versions of some of them.
const SAIL_REQUIREMENTS: &[&str] = &[
    "pandas==3.1.1",
    "pyarrow==26.0.1",
    "pymongo==4.20.0",
    "pysail==0.7.2",
    "pyspark-client==4.2.0",
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
    let python = match reader {
        "sail" => python_venv("sail", SAIL_REQUIREMENTS).expect("a Python with Sail"),
        _ => python(),
    };
    let mut command = Command::new(python);
    command.args([script, reader, uri, database, collection, table]);
    let (status, text) = run_in_group(command, LIMIT).expect("python runs");
    let is_ok = status.is_some_and(|status| status.success());
    assert!(is_ok, "{reader} on {collection}: {status:?} {text}");
    assert!(text.contains("documents agree"), "{text}");
}

/// Another program writes to a table; answers the version it made.
pub(crate) fn foreign(table: &Path, arguments: &[&str]) -> Result<i64, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/readers/foreign.py");
    let output = Command::new(python())
        .arg(script)
        .arg(table)
        .args(arguments)
        .output()
        .expect("python runs");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout).trim().parse().expect("a version"))
    } else {
        Err(text(&output.stderr))
    }
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
