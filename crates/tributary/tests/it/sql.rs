//! Querying the lake.

use bson::{DateTime, doc};

use crate::support::{Fixture, run};

async fn shop() -> Fixture {
    let fixture = Fixture::new("shop").await;
    fixture
        .insert(
            "orders",
            vec![
                doc! { "_id": 1, "customerName": "Ada", "items": [{ "sku": "a", "n": 2 }, { "sku": "b", "n": 1 }], "at": DateTime::from_millis(0) },
                doc! { "_id": 2, "customerName": "Bob, \"Jr\"", "items": [{ "sku": "a", "n": 5 }] },
            ],
        )
        .await;
    fixture.copy(&[]).ok();
    fixture
}

#[tokio::test]
async fn structs_lists_and_case_sensitive_names_are_reached() {
    let fixture = shop().await;
    let table = format!("{}.orders", fixture.name);
    let rows = fixture.sql(&format!(
        "SELECT item['sku'] AS sku, sum(item['n']) AS n \
         FROM (SELECT unnest(items) AS item FROM {table}) GROUP BY 1 ORDER BY 1"
    ));
    assert_eq!(rows[0].to_string(), r#"{"sku":"a","n":7}"#);
    assert_eq!(rows[1].to_string(), r#"{"sku":"b","n":1}"#);
    let first =
        fixture.sql("SELECT items[1]['sku'] AS sku, customerName FROM orders ORDER BY _id LIMIT 1");
    assert_eq!(first[0].to_string(), r#"{"sku":"a","customerName":"Ada"}"#);
}

#[tokio::test]
async fn results_are_tables_json_or_csv() {
    let fixture = shop().await;
    let lake = fixture.lake();
    let query = "SELECT _id, customerName, items FROM orders ORDER BY _id";
    let table = run(&["sql", "--lake", &lake, query]).ok().stdout;
    assert!(table.contains("| 1   | Ada"), "{table}");
    assert!(table.ends_with("2 rows\n"), "{table}");
    let csv = run(&["sql", "--lake", &lake, "--output", "csv", query])
        .ok()
        .stdout;
    let expected = "_id,customerName,items\n\
                    1,Ada,\"[{\"\"sku\"\":\"\"a\"\",\"\"n\"\":2},{\"\"sku\"\":\"\"b\"\",\"\"n\"\":1}]\"\n\
                    2,\"Bob, \"\"Jr\"\"\",\"[{\"\"sku\"\":\"\"a\"\",\"\"n\"\":5}]\"\n";
    assert_eq!(csv, expected);
    let tables = run(&["sql", "--lake", &lake, "SHOW TABLES"]).ok().stdout;
    assert!(tables.contains("orders"), "{tables}");
}

#[tokio::test]
async fn errors_point_at_the_query() {
    let fixture = shop().await;
    let lake = fixture.lake();
    let query = |text: &str| run(&["sql", "--lake", &lake, text]);
    let unknown = query("SELECT _id,\n  nothing FROM orders");
    unknown.fails(2, &["nothing", "  nothing FROM orders\n    ^"]);
    query("SELECT _id FRM orders").fails(2, &["Expected", "SELECT _id FRM orders\n             "]);
    query("SELECT 1 FROM missing").fails(2, &["missing", "SHOW TABLES"]);
    query("CREATE TABLE t AS SELECT 1").fails(2, &["DDL not supported"]);
    query("COPY (SELECT 1) TO '/tmp/never.csv'").fails(2, &["DML not supported"]);
    run(&["sql", "--lake", &fixture.path("nowhere"), "SELECT 1"])
        .fails(1, &["no table in the lake", "--lake"]);
}
