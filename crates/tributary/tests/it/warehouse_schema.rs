//! What becomes of a warehouse's tables when those of the lake get other schemas, and how they are
//! made.

use bson::doc;
use serde_json::Value;

use crate::running::Running;
use crate::support::{Fixture, Run, command, run, wait};
use crate::sync::{catch_up, collection};
use crate::warehouse::Warehouse;

const STOP: &[&str] = &["--on-schema-change", "stop"];
const RESCUE: &[&str] = &["--on-schema-change", "rescue"];

/// `tributary schema` of a warehouse, whose address comes from the environment.
fn schema(warehouse: &Warehouse, arguments: &[&str]) -> Run {
    let address = ["--warehouse", "env:WAREHOUSE", "--output", "json"];
    let mut command = command(&[&["schema"], arguments, &address].concat());
    wait(command.env("WAREHOUSE", &warehouse.uri).spawn().unwrap())
}

/// What was decided of a table, in order.
fn decisions(warehouse: &Warehouse, table: &str) -> Vec<String> {
    let told = schema(warehouse, &["show", table]).ok();
    let table: Value = serde_json::from_str(told.stdout.trim()).unwrap();
    let decisions = table["decisions"].as_array().unwrap().iter();
    let told = decisions.map(|decision| {
        let changes = decision["changes"].as_array().unwrap().iter();
        let paths: Vec<&str> = changes
            .map(|change| change["path"].as_str().unwrap())
            .collect();
        format!(
            "{} {}",
            decision["decision"].as_str().unwrap(),
            paths.join(" ")
        )
    });
    told.collect()
}

async fn a_table_stops_alone(fixture: &Fixture, warehouse: &Warehouse) {
    let (c, other) = (collection(fixture, "c"), collection(fixture, "other"));
    c.insert_one(doc! { "_id": 1, "n": 1 }).await.unwrap();
    other.insert_one(doc! { "_id": 1, "n": 1 }).await.unwrap();
    catch_up(fixture);
    let mut child = Running::start(warehouse.following(fixture, STOP));
    let table = format!("{}.c", fixture.name);
    let rows = |table: &str| format!("SELECT count(*) FROM \"{}\".{table}", fixture.name);
    let arrived = async |table: &str, count: i64| {
        let deadline = std::time::Instant::now() + crate::support::LIMIT;
        // It may not be there yet.
        let exists = format!(
            "SELECT count(*) FROM information_schema.tables \
             WHERE table_schema = '{}' AND table_name = '{table}'",
            fixture.name
        );
        while warehouse.number(&exists).await == 0 || warehouse.number(&rows(table)).await != count
        {
            assert!(
                std::time::Instant::now() < deadline,
                "no {count} rows in {table}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    arrived("c", 1).await;
    arrived("other", 1).await;

    // One table stops, and the other goes on.
    c.insert_one(doc! { "_id": 2, "n": 2, "new": "x" })
        .await
        .unwrap();
    catch_up(fixture);
    child.wait_for_events("failed", 1).await;
    let failed = child.last_event("failed");
    let error = failed["error"].as_str().unwrap();
    assert!(
        error.contains("/new new, string") && error.contains("schema approve"),
        "{failed}"
    );
    other.insert_one(doc! { "_id": 2, "n": 2 }).await.unwrap();
    c.insert_one(doc! { "_id": 3, "n": 3 }).await.unwrap();
    catch_up(fixture);
    arrived("other", 2).await;
    assert_eq!(warehouse.number(&rows("c")).await, 1);
    assert_eq!(decisions(warehouse, &table), ["waiting /new"]);

    // Also for a process that starts anew, which says so and fails.
    warehouse.take_over(fixture, STOP).fails(
        1,
        &["another schema than their table", "/new", &fixture.name],
    );

    // Once approved, it goes on by itself, and nothing is lost.
    let approved = schema(warehouse, &["approve", &table]).ok();
    assert!(approved.stdout.contains("\"approved\""), "{approved:#?}");
    arrived("c", 3).await;
    let ended = child.stop().ok();
    assert!(ended.stdout.contains("was approved"), "{ended:#?}");
    warehouse.assert_same(fixture, "c");
    assert_eq!(decisions(warehouse, &table), ["approved /new"]);
    schema(warehouse, &["approve", &table]).fails(1, &["no schema change waits"]);

    // The next change waits again.
    c.update_one(doc! { "_id": 1 }, doc! { "$set": { "n": 0.5 } })
        .await
        .unwrap();
    catch_up(fixture);
    warehouse
        .take_over(fixture, STOP)
        .fails(1, &["/n int32 → double"]);
    warehouse.take_over(fixture, &[]).ok();
    warehouse.assert_same(fixture, "c");
    assert_eq!(
        decisions(warehouse, &table),
        ["approved /new", "evolved /n"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_stops_waits_for_approval_while_others_go_on() {
    let fixture = Fixture::new("whstop").await;
    let warehouse = Warehouse::postgres(&fixture).await;
    a_table_stops_alone(&fixture, &warehouse).await;
    let name = format!("{}.none", fixture.name);
    schema(&warehouse, &["show", &name]).fails(1, &["knows no such table", "schema list"]);
    run(&["schema", "list", "--warehouse", "postgres://h/"])
        .fails(2, &["not an address of PostgreSQL"]);
    let listed = schema(&warehouse, &["list"]).ok();
    assert_eq!(listed.stdout.lines().count(), 2, "{listed:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_redshift_that_stops_waits_for_approval_while_others_go_on() {
    let fixture = Fixture::new("rsstop").await;
    let warehouse = Warehouse::redshift(&fixture).await;
    a_table_stops_alone(&fixture, &warehouse).await;
}

async fn a_schema_is_kept(fixture: &Fixture, warehouse: &Warehouse) {
    let c = collection(fixture, "c");
    c.insert_many([
        doc! { "_id": 1, "n": 1, "in": { "a": 1 }, "text": "a" },
        doc! { "_id": 2, "n": 2, "in": { "a": 2 }, "text": "b" },
    ])
    .await
    .unwrap();
    catch_up(fixture);
    warehouse.take_over(fixture, RESCUE).ok();
    let before = warehouse.columns(&fixture.name, "c").await;

    c.insert_many([
        doc! { "_id": 3, "n": 2.5, "in": { "a": 3, "b": "deep" }, "text": "c", "new": [1, "x"] },
        doc! { "_id": 4, "n": 4, "in": { "a": "four" }, "text": 4 },
    ])
    .await
    .unwrap();
    c.update_one(doc! { "_id": 1 }, doc! { "$set": { "text": "aa" } })
        .await
        .unwrap();
    c.delete_one(doc! { "_id": 2 }).await.unwrap();
    catch_up(fixture);
    warehouse.take_over(fixture, RESCUE).ok();
    assert_eq!(warehouse.columns(&fixture.name, "c").await, before);
    warehouse.assert_same(fixture, "c");
    let table = format!("{}.c", fixture.name);
    let decided = decisions(warehouse, &table);
    assert!(
        decided.len() == 1 && decided[0].starts_with("rescued "),
        "{decided:?}"
    );
    for path in ["/n", "/new", "/text", "/in/b"] {
        assert!(decided[0].contains(path), "{decided:?}");
    }
    let kept = format!(
        "SELECT count(*) FROM \"{}\".c WHERE n = 4 AND text IS NULL",
        fixture.name
    );
    assert_eq!(warehouse.number(&kept).await, 1);

    // A key of another type always has its column.
    c.insert_one(doc! { "_id": "five", "n": 5 }).await.unwrap();
    catch_up(fixture);
    warehouse.take_over(fixture, RESCUE).ok();
    warehouse.assert_same(fixture, "c");
    assert_eq!(
        warehouse.columns(&fixture.name, "c").await[1..],
        before[1..]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_keeps_its_schema_rescues_what_does_not_fit() {
    let fixture = Fixture::new("whrescue").await;
    let warehouse = Warehouse::postgres(&fixture).await;
    a_schema_is_kept(&fixture, &warehouse).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_redshift_that_keeps_its_schema_rescues_what_does_not_fit() {
    let fixture = Fixture::new("rsrescue").await;
    let warehouse = Warehouse::redshift(&fixture).await;
    a_schema_is_kept(&fixture, &warehouse).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn primary_keys_are_as_is_asked_and_names_that_cannot_be_are_said() {
    let fixture = Fixture::new("whkeys").await;
    let warehouse = Warehouse::postgres(&fixture).await;
    let c = collection(&fixture, "c");
    c.insert_many((0..5).map(|i| doc! { "_id": i, "tenant": i % 2, "n": i }))
        .await
        .unwrap();
    collection(&fixture, "d")
        .insert_one(doc! { "_id": 1 })
        .await
        .unwrap();
    catch_up(&fixture);
    let key = format!("{}.c=tenant,_id", fixture.name);
    warehouse.take_over(&fixture, &["--primary-key", &key]).ok();
    let keys = async |table: &str| -> Vec<String> {
        let client = warehouse.client().await;
        let query = "SELECT pg_get_constraintdef(oid) FROM pg_constraint \
                     WHERE conrelid = $1::text::regclass AND contype IN ('p', 'u') ORDER BY contype";
        let table = format!("\"{}\".{table}", fixture.name);
        let rows = client.query(query, &[&table]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(
        keys("c").await,
        ["PRIMARY KEY (tenant, _id)", "UNIQUE (_id)"]
    );
    assert_eq!(keys("d").await, ["PRIMARY KEY (_id)"]);
    // Changes are merged by `_id`, whatever the key.
    c.update_one(doc! { "_id": 1 }, doc! { "$set": { "tenant": 7 } })
        .await
        .unwrap();
    c.delete_one(doc! { "_id": 2 }).await.unwrap();
    catch_up(&fixture);
    warehouse.take_over(&fixture, &[]).ok();
    warehouse.assert_same(&fixture, "c");

    let wrong = format!("{}.c=nothing", fixture.name);
    warehouse
        .take_over(&fixture, &["--overwrite", "--primary-key", &wrong])
        .fails(
            1,
            &[
                "names a field that no document has",
                "nothing",
                "--primary-key",
            ],
        );
    warehouse
        .take_over(&fixture, &["--sort-key", "n"])
        .fails(2, &["--sort-key", "is for Redshift"]);

    // A lake whose table has the ledger's own name, and one whose schema the server keeps to itself.
    let lake = fixture.path("odd");
    for (database, table) in [("tributary", "ledger"), ("pg_mine", "c")] {
        let place = std::path::Path::new(&lake).join(database);
        std::fs::create_dir_all(&place).unwrap();
        let copied = std::process::Command::new("cp")
            .arg("-r")
            .arg(fixture.table("d"))
            .arg(place.join(table))
            .status();
        assert!(copied.unwrap().success());
    }
    let taken = run(&["sync", &lake, &warehouse.uri, "--once", "--overwrite"]);
    taken.fails(
        1,
        &["pg_mine", "unacceptable schema name", "begin with pg_"],
    );
    let ledger = "SELECT count(*) FROM tributary.ledger WHERE table_schema = 'tributary'";
    assert_eq!(warehouse.number(ledger).await, 1);
}
