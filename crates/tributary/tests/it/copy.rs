//! What `copy` makes of collections of all kinds.

use bson::{Bson, DateTime, doc, oid::ObjectId};
use mongodb::options::{
    ClusteredIndex, CreateCollectionOptions, TimeseriesGranularity, TimeseriesOptions,
};

use crate::support::{Fixture, files_below, filler, run};

#[tokio::test]
async fn all_collections_of_a_database_become_tables() {
    let fixture = Fixture::new("all").await;
    fixture
        .insert(
            "plain",
            (0..500)
                .map(|i| doc! { "_id": i, "name": format!("n{i}") })
                .collect(),
        )
        .await;
    fixture.database.create_collection("empty").await.unwrap();
    let view = CreateCollectionOptions::builder()
        .view_on("plain".to_owned())
        .pipeline(vec![doc! { "$match": { "_id": { "$lt": 100 } } }])
        .build();
    fixture
        .database
        .create_collection("seen")
        .with_options(view)
        .await
        .unwrap();
    let capped = CreateCollectionOptions::builder()
        .capped(true)
        .size(1 << 20)
        .build();
    fixture
        .database
        .create_collection("capped")
        .with_options(capped)
        .await
        .unwrap();
    fixture
        .insert("capped", (0..50).map(|i| doc! { "_id": i }).collect())
        .await;
    let series = CreateCollectionOptions::builder()
        .timeseries(
            TimeseriesOptions::builder()
                .time_field("at".to_owned())
                .meta_field(Some("sensor".to_owned()))
                .granularity(Some(TimeseriesGranularity::Minutes))
                .build(),
        )
        .build();
    fixture
        .database
        .create_collection("series")
        .with_options(series)
        .await
        .unwrap();
    let readings = (0..300)
        .map(|i| doc! { "at": DateTime::from_millis(i * 1000), "sensor": i % 3, "value": i as f64 / 2.0 })
        .collect();
    fixture.insert("series", readings).await;
    let clustered = CreateCollectionOptions::builder()
        .clustered_index(ClusteredIndex::default())
        .build();
    fixture
        .database
        .create_collection("clustered")
        .with_options(clustered)
        .await
        .unwrap();
    fixture
        .insert(
            "clustered",
            (0..70).map(|i| doc! { "_id": format!("k{i}") }).collect(),
        )
        .await;

    let event = fixture.copy(&[]).ok().finished();

    let counts: Vec<(String, u64)> = event["collections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| {
            let name = c["namespace"]
                .as_str()
                .unwrap()
                .split_once('.')
                .unwrap()
                .1
                .to_owned();
            (name, c["documents"].as_u64().unwrap())
        })
        .collect();
    let expected = [
        ("capped", 50),
        ("clustered", 70),
        ("empty", 0),
        ("plain", 500),
        ("seen", 100),
        ("series", 300),
    ];
    assert_eq!(
        counts,
        expected.map(|(name, count)| (name.to_owned(), count))
    );
    for (name, count) in expected {
        let table = format!("{}.{name}", fixture.name);
        assert_eq!(
            fixture.number(&format!("SELECT count(*) FROM {table}")),
            count as i64,
            "{name}"
        );
    }
}

/// Over the size at which a collection is cut into partitions, with keys of every type among them.
async fn mixed_keys(fixture: &Fixture, count: usize) {
    for chunk in (0..count).collect::<Vec<_>>().chunks(4000) {
        let documents = chunk
            .iter()
            .map(|&i| {
                let id: Bson = match i % 8 {
                    0 => Bson::Int32(i as i32),
                    1 => format!("key {i}").into(),
                    2 => ObjectId::from_bytes([
                        (i % 251) as u8,
                        (i >> 8) as u8,
                        i as u8,
                        0,
                        0,
                        0,
                        0,
                        0,
                        0,
                        0,
                        0,
                        1,
                    ])
                    .into(),
                    3 => DateTime::from_millis(i as i64).into(),
                    4 => Bson::Double(i as f64 + 0.5),
                    5 => doc! { "a": i as i32, "b": "x" }.into(),
                    6 => bson::Binary {
                        subtype: bson::spec::BinarySubtype::Generic,
                        bytes: i.to_be_bytes().to_vec(),
                    }
                    .into(),
                    _ => Bson::Int64(i as i64 + (1 << 40)),
                };
                doc! { "_id": id, "n": i as i64, "late": 1, "text": filler(i, 900) }
            })
            .collect();
        fixture.insert("mixed", documents).await;
    }
}

#[tokio::test]
async fn partitions_hold_keys_of_every_type_once_each_and_late_types_count() {
    let fixture = Fixture::new("mixed").await;
    let count = 44_000;
    mixed_keys(&fixture, count).await;
    // The last documents in the order of keys change a type and bring a field.
    let last = fixture
        .database
        .collection::<bson::Document>("mixed")
        .find_one(doc! {})
        .sort(doc! { "_id": -1 })
        .await
        .unwrap()
        .unwrap();
    fixture
        .database
        .collection::<bson::Document>("mixed")
        .update_one(
            doc! { "_id": last.get("_id").unwrap() },
            doc! { "$set": { "late": 2.5, "new": { "deep": [1] } } },
        )
        .await
        .unwrap();

    let run = fixture.copy(&["--parallel", "4"]).ok();

    let started: serde_json::Value =
        serde_json::from_str(run.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(started["partitions"], 4, "{started}");
    let collection = run.collection();
    assert_eq!(collection["documents"], count);
    let table = format!("{}.mixed", fixture.name);
    let row = &fixture.sql(&format!(
        "SELECT count(*) AS rows, count(DISTINCT _id) AS keys, count(DISTINCT n) AS numbers, sum(n) AS sum, \
         sum(late) AS late, count(new) AS new, arrow_typeof(max(late)) AS type FROM {table}"
    ))[0];
    assert_eq!(row["rows"], count);
    assert_eq!(row["keys"], count);
    assert_eq!(row["numbers"], count);
    assert_eq!(row["sum"], (count * (count - 1) / 2));
    assert_eq!(row["late"], count as f64 + 1.5);
    assert_eq!(row["new"], 1);
    assert_eq!(row["type"], "Float64");
    let deep = fixture.sql(&format!(
        "SELECT new['deep'][1] AS deep FROM {table} WHERE new IS NOT NULL"
    ));
    assert_eq!(deep[0]["deep"], 1);
}

#[tokio::test]
async fn filter_and_fields_are_pushed_down() {
    let fixture = Fixture::new("filter").await;
    let documents = (0..1000)
        .map(|i| doc! { "_id": i, "status": if i % 10 == 0 { "paid" } else { "open" }, "a": { "b": i, "c": 1 }, "x": "y" })
        .collect();
    fixture.insert("orders", documents).await;

    let filter = r#"{"status":"paid","_id":{"$gte":{"$numberInt":"500"}}}"#;
    let collection = fixture
        .copy(&[
            "--collection",
            "orders",
            "--filter",
            filter,
            "--fields",
            "status,a.b",
        ])
        .ok()
        .collection();

    assert_eq!(collection["documents"], 50);
    let row = &fixture.sql(&format!(
        "SELECT * FROM {}.orders ORDER BY _id LIMIT 1",
        fixture.name
    ))[0];
    assert_eq!(
        row.to_string(),
        r#"{"_id":500,"status":"paid","a":{"b":500}}"#
    );
}

#[tokio::test]
async fn collections_are_chosen_by_name_and_pattern() {
    let fixture = Fixture::new("globs").await;
    for name in ["orders", "orders_2023", "orders_2024", "customers"] {
        fixture.insert(name, vec![doc! { "_id": 1 }]).await;
    }
    let event = fixture
        .copy(&["--collection", "orders_*", "--collection", "customers"])
        .ok()
        .finished();
    assert_eq!(event["collections"].as_array().unwrap().len(), 3);
    assert!(!fixture.table("orders").exists());
}

#[tokio::test]
async fn a_table_is_replaced_only_when_told_and_then_at_once() {
    let fixture = Fixture::new("again").await;
    fixture
        .insert("c", vec![doc! { "_id": 1, "v": "one" }])
        .await;
    fixture.copy(&[]).ok();
    fixture
        .insert("c", vec![doc! { "_id": 2, "v": 2.5, "odd name": 1 }])
        .await;

    let refused = fixture.copy(&[]);
    refused.fails(1, &["already holds", "--overwrite"]);
    let table = format!("{}.c", fixture.name);
    assert_eq!(fixture.number(&format!("SELECT count(*) FROM {table}")), 1);

    fixture.copy(&["--overwrite"]).ok();
    let rows = fixture.sql(&format!("SELECT * FROM {table} ORDER BY _id"));
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["v"], r#""one""#);
    assert_eq!(rows[1]["odd name"], 1);
    let log = fixture.table("c").join("_delta_log");
    assert_eq!(
        files_below(&log),
        ["00000000000000000000.json", "00000000000000000001.json"]
    );
    assert!(!fixture.table("c").join("_tributary").exists());

    // And back to a schema that needs no column mapping.
    fixture.copy(&["--overwrite", "--fields", "_id"]).ok();
    assert_eq!(fixture.number(&format!("SELECT count(*) FROM {table}")), 2);
}

#[tokio::test]
async fn odd_documents_copy_whole() {
    let fixture = Fixture::new("odd").await;
    let mut twice = bson::RawDocumentBuf::new();
    twice.append(bson::cstr!("_id"), 1);
    twice.append(bson::cstr!("a"), 1);
    twice.append(bson::cstr!("a"), "again");
    let mut broken = doc! { "_id": 2, "text": "xy" }.to_vec().unwrap();
    let at = broken.windows(2).position(|w| w == b"xy").unwrap();
    broken[at] = 0xff;
    let mut nested = doc! { "leaf": true };
    for _ in 0..98 {
        nested = doc! { "n": nested };
    }
    fixture
        .insert_raw("odd", vec![twice.into_bytes(), broken])
        .await;
    let decimal = |text: &str| Bson::Decimal128(text.parse().unwrap());
    fixture
        .insert(
            "odd",
            vec![
                doc! { "_id": 3, "nested": nested },
                doc! { "_id": 4, "n": f64::NAN, "i": f64::NEG_INFINITY },
                doc! { "_id": 5, "at": DateTime::from_millis(i64::MAX), "was": DateTime::from_millis(i64::MIN) },
                doc! { "_id": 6, "d": decimal("1234567890123456789012345678901234"), "e": decimal("-Infinity") },
                doc! { "_id": 7, "a.b": 1, "$c": 2, "": 3, "Name": 4, "name": 5 },
                doc! { "_id": 8, "large": filler(1, 16 * 1024 * 1024 - 200) },
            ],
        )
        .await;

    let collection = fixture.copy(&[]).ok().collection();

    assert_eq!(collection["documents"], 8);
    assert_eq!(collection["rescued"], 5);
    let table = format!("{}.odd", fixture.name);
    let rows = fixture.sql(&format!(
        "SELECT * FROM {table} WHERE _id <> 8 ORDER BY _id"
    ));
    assert_eq!(
        rows[0]["_rescued_data"],
        r#"[{"path":"/a","value":"again"}]"#
    );
    assert_eq!(
        rows[1]["_rescued_data"],
        r#"[{"path":"/text","value":{"$invalidUTF8":"/3k="}}]"#
    );
    let at = r#"[{"path":"/at","value":{"$date":{"$numberLong":"9223372036854775807"}}},{"path":"/was","value":{"$date":{"$numberLong":"-9223372036854775808"}}}]"#;
    assert_eq!(rows[4]["_rescued_data"], at);
    assert_eq!(
        rows[5]["_rescued_data"],
        r#"[{"path":"/e","value":{"$numberDecimal":"-Infinity"}}]"#
    );
    let names = ["a.b", "$c", "_", "Name", "name_2"].map(|name| rows[6][name].as_i64());
    assert_eq!(names, [1, 2, 3, 4, 5].map(Some));
    let sql = format!("SELECT CAST(d AS VARCHAR) d FROM {table} WHERE _id = 6");
    assert_eq!(
        fixture.sql(&sql)[0]["d"],
        "1234567890123456789012345678901234"
    );
    assert_eq!(
        fixture.number(&format!("SELECT length(large) FROM {table} WHERE _id = 8")),
        16 * 1024 * 1024 - 200
    );
}

#[tokio::test]
async fn a_deployment_copies_without_its_own_databases() {
    let mongod = tributary_testkit::Mongod::start().await.unwrap();
    let client = mongod.client().await.unwrap();
    for database in ["one", "two"] {
        client
            .database(database)
            .collection("c")
            .insert_one(doc! { "x": 1 })
            .await
            .unwrap();
    }
    let directory = tempfile::TempDir::new().unwrap();
    let lake = directory.path().join("lake");
    let event = run(&[
        "copy",
        &mongod.uri(),
        &lake.to_string_lossy(),
        "--output",
        "json",
    ])
    .ok()
    .finished();
    let names: Vec<_> = event["collections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["namespace"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["one.c", "two.c"]);
}
