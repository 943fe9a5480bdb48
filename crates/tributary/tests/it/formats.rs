//! Plain files: whole or not there at all.

use bson::doc;
use serde_json::Value;

use crate::support::{Fixture, files_below, filler, run};

#[tokio::test]
async fn every_format_appears_as_a_whole_and_is_replaced_when_told() {
    let fixture = Fixture::new("formats").await;
    fixture
        .insert(
            "c",
            (0..200)
                .map(|i| doc! { "_id": i, "a": { "b": [i, i + 1] }, "t": filler(i as usize, 50) })
                .collect(),
        )
        .await;
    let uri = fixture.uri();
    for (format, extension) in [
        ("parquet", ".zstd.parquet"),
        ("jsonl", ".jsonl"),
        ("csv", ".csv"),
        ("avro", ".avro"),
    ] {
        let lake = fixture.path(format);
        let copy = |more: &[&str]| {
            run(&[
                &["copy", &uri, &lake, "--format", format, "--output", "json"],
                more,
            ]
            .concat())
        };
        assert_eq!(copy(&[]).ok().collection()["documents"], 200);
        let directory = std::path::Path::new(&lake).join(&fixture.name);
        let files = files_below(&directory);
        assert_eq!(files.len(), 2, "{files:?}");
        assert_eq!(files[0], "c/_manifest.json");
        assert!(files[1].ends_with(extension), "{files:?}");
        let manifest = std::fs::read(directory.join(&files[0])).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["documents"], 200);
        assert_eq!(
            files[1],
            format!("c/{}", manifest["files"][0]["name"].as_str().unwrap())
        );

        copy(&[]).fails(1, &["already holds", "--overwrite"]);
        copy(&["--overwrite", "--filter", r#"{"_id":5}"#]).ok();
        let replaced = files_below(&directory);
        assert_eq!(replaced.len(), 2, "{replaced:?}");
        assert_ne!(replaced[1], files[1]);
        // Another kind of target in the same place is not replaced, even if told.
        let delta = run(&["copy", &uri, &lake, "--overwrite"]);
        delta.fails(1, &["plain files", "choose another target"]);
    }
}

#[tokio::test]
async fn csv_is_flattened_as_documented() {
    let fixture = Fixture::new("csv").await;
    fixture
        .insert(
            "c",
            vec![
                doc! { "_id": 1, "a": { "b": "x,y", "c": [1, 2] }, "empty": "", "bytes": bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![1, 2] } },
                doc! { "_id": 2, "a": bson::Bson::Null, "at": bson::DateTime::from_millis(1_700_000_000_123), "q": "say \"hi\"" },
            ],
        )
        .await;
    let (uri, lake) = (fixture.uri(), fixture.lake());
    run(&["copy", &uri, &lake, "--format", "csv"]).ok();
    let files = files_below(&fixture.table("c"));
    let text = std::fs::read_to_string(fixture.table("c").join(&files[1])).unwrap();
    assert_eq!(
        text,
        "_id,a.b,a.c,at,q,empty,bytes,_rescued_data\r\n\
         1,\"x,y\",\"[1,2]\",,,\"\",AQI=,\r\n\
         2,,,2023-11-14T22:13:20.123Z,\"say \"\"hi\"\"\",,,\r\n"
    );
}

#[tokio::test]
async fn parquet_files_have_one_schema_however_late_it_was_known() {
    let fixture = Fixture::new("late").await;
    for chunk in (0..44_000).collect::<Vec<i64>>().chunks(4000) {
        let documents = chunk
            .iter()
            .map(|&i| {
                let mut document =
                    doc! { "_id": i, "n": 1, "nested": { "a": 1 }, "t": filler(i as usize, 850) };
                if i == 43_999 {
                    document.insert("n", "text");
                    document.insert("nested", doc! { "a": 1, "b": 2 });
                    document.insert("new", 1);
                }
                document
            })
            .collect();
        fixture.insert("c", documents).await;
    }
    let (uri, lake) = (fixture.uri(), fixture.lake());
    let run = run(&[
        "copy",
        &uri,
        &lake,
        "--format",
        "parquet",
        "--parallel",
        "4",
        "--output",
        "json",
    ])
    .ok();
    let collection = run.collection();
    assert_eq!(collection["documents"], 44_000);
    assert!(
        collection["rewrittenBytes"].as_u64().unwrap() > 0,
        "{collection}"
    );
    let files = files_below(&fixture.table("c"));
    assert_eq!(
        files.len() as u64,
        collection["files"].as_u64().unwrap() + 1,
        "{files:?}"
    );
}
