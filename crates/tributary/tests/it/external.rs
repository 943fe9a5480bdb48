//! Tables that are read in place: the symlink manifest, and the statements by which warehouses know
//! of them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Timestamp, doc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use sqlparser::dialect::{Dialect, GenericDialect, PostgreSqlDialect};
use sqlparser::parser::Parser;
use tokio::task::JoinHandle;
use tributary_testkit::run_in_group;

use crate::readers::{foreign, python};
use crate::running::Running;
use crate::storage::Store;
use crate::support::{Fixture, LIMIT, Run, command, run, run_command, wait};
use crate::sync::{COPY_ON_WRITE, assert_same, catch_up, collection, sync, work};

/// Has tables with a manifest.
pub(crate) const SYMLINK_MANIFEST: &str = "--symlink-manifest";
const PROPERTY: &str = "delta.compatibility.symlinkFormatManifest.enabled";
const BOTH: &[&str] = &[COPY_ON_WRITE, SYMLINK_MANIFEST];

fn once(fixture: &Fixture, arguments: &[&str]) -> Run {
    run_command(sync(fixture, &[&["--once"], arguments].concat()))
}

/// The files of each version of a table, by its log.
fn versions(table: &Path) -> Vec<BTreeSet<String>> {
    let mut versions: Vec<BTreeSet<String>> = Vec::new();
    loop {
        let log = format!("_delta_log/{:020}.json", versions.len());
        let Ok(text) = std::fs::read_to_string(table.join(log)) else {
            return versions;
        };
        let mut files = versions.last().cloned().unwrap_or_default();
        for line in text.lines() {
            let action: Value = serde_json::from_str(line).unwrap();
            if let Some(path) = action["remove"]["path"].as_str() {
                files.remove(path);
            }
            if let Some(path) = action["add"]["path"].as_str() {
                files.insert(path.to_owned());
            }
        }
        versions.push(files);
    }
}

/// The text of a table's manifest.
fn manifest_text(table: &Path) -> Option<String> {
    std::fs::read_to_string(table.join("_symlink_format_manifest/manifest")).ok()
}

/// The files that a table's manifest names, below it.
fn manifest(table: &Path) -> Option<BTreeSet<String>> {
    let text = manifest_text(table)?;
    let start = format!("file:{}/", table.display());
    let name = |line: &str| line.strip_prefix(&start).expect("an address").to_owned();
    Some(text.lines().map(name).collect())
}

/// How many versions a table's manifest is behind. Its files must be there.
#[track_caller]
pub(crate) fn manifest_lag(table: &Path) -> usize {
    let versions = versions(table);
    let manifest = manifest(table).expect("a manifest");
    for name in &manifest {
        assert!(table.join(name).exists(), "no {name}");
    }
    let lag = versions.iter().rev().position(|files| *files == manifest);
    lag.unwrap_or_else(|| panic!("of no version: {manifest:?}"))
}

/// Asserts that the files of a collection's manifest, read as plain Parquet, hold its documents.
#[track_caller]
pub(crate) fn compare_manifest(fixture: &Fixture, collection: &str) {
    let table = fixture.table(collection);
    compare_manifest_at(fixture, collection, &table.to_string_lossy(), &[]);
}

#[track_caller]
fn compare_manifest_at(
    fixture: &Fixture,
    collection: &str,
    table: &str,
    environment: &[(String, String)],
) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/readers/compare.py");
    let mut command = Command::new(python());
    command
        .args([script, "manifest", fixture.mongod.uri(), &fixture.name])
        .args([collection, table])
        .envs(environment.iter().map(|(name, value)| (name, value)));
    let (status, text) = run_in_group(command, LIMIT).expect("python runs");
    let is_ok = status.is_some_and(|status| status.success());
    assert!(is_ok, "{collection}: {status:?} {text}");
    assert!(text.contains("documents agree"), "{text}");
}

/// A property of a table as it is now.
fn property(table: &Path, name: &str) -> Option<String> {
    let mut found = None;
    for version in 0..versions(table).len() {
        let log = table.join(format!("_delta_log/{version:020}.json"));
        for line in std::fs::read_to_string(log).unwrap().lines() {
            let action: Value = serde_json::from_str(line).unwrap();
            if let Some(metadata) = action.get("metaData") {
                found = metadata["configuration"][name].as_str().map(str::to_owned);
            }
        }
    }
    found
}

/// Looks at a table's manifest again and again, until it is told to stop: it must be of the newest
/// version or of the one before, never go back, and all its files must be there. Tells how many
/// versions it has seen.
fn watch(table: &Path, seen: &AtomicUsize, stop: &AtomicBool) {
    let mut last = None;
    while !stop.load(Ordering::Relaxed) {
        // The log is read as a whole each time: what is watched needs the processor too.
        std::thread::sleep(Duration::from_millis(20));
        let newest = versions(table).len().saturating_sub(1);
        let Some(named) = manifest(table) else {
            assert_eq!(last, None, "the manifest is gone");
            continue;
        };
        let missing = named.iter().find(|name| !table.join(name).exists());
        if let Some(missing) = missing
            && manifest(table).as_ref() == Some(&named)
        {
            panic!("{missing} is named and gone");
        }
        let versions = versions(table);
        let at = versions.iter().rposition(|files| *files == named);
        let at = at.unwrap_or_else(|| panic!("of no version: {named:?}"));
        assert!(at + 1 >= newest, "of {at}, and the table was at {newest}");
        assert!(Some(at) >= last, "of {at} again, after {last:?}");
        if last.replace(at) != Some(at) {
            seen.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_follows_every_version_of_its_table() {
    const NAMES: &[&str] = &["plain", "mixed"];
    let fixture = Arc::new(Fixture::new("manifest").await);
    for name in NAMES {
        let documents = (0..200).map(|i| doc! { "_id": i, "n": i });
        collection(&fixture, name)
            .insert_many(documents)
            .await
            .unwrap();
    }
    let arguments = [BOTH, &["--commit-interval", "20ms", "--history"]].concat();
    let mut child = sync(&fixture, &arguments);
    child.env("TRIBUTARY_EAGER_UPKEEP", "1");
    let child = Running::start(child);
    fixture.wait_for_rows("mixed", 200).await;

    let done = Arc::new(AtomicBool::new(false));
    let tables = ["plain", "mixed", "plain__history"].map(|name| fixture.table(name));
    let seen = Arc::new([const { AtomicUsize::new(0) }; 3]);
    let watchers: Vec<_> = tables
        .iter()
        .enumerate()
        .map(|(number, table)| {
            let (table, seen, done) = (table.clone(), Arc::clone(&seen), Arc::clone(&done));
            tokio::task::spawn_blocking(move || watch(&table, &seen[number], &done))
        })
        .collect();
    let worker = {
        let (fixture, done) = (Arc::clone(&fixture), Arc::clone(&done));
        tokio::spawn(async move { work(&fixture, NAMES, 1, done).await })
    };
    let deadline = Instant::now() + LIMIT;
    let is_enough = || seen.iter().all(|seen| seen.load(Ordering::Relaxed) >= 12);
    let is_wrong = || watchers.iter().any(JoinHandle::is_finished);
    while !is_enough() && !is_wrong() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Those who watch end before the directory is gone.
    done.store(true, Ordering::Relaxed);
    worker.await.unwrap();
    assert!(is_enough() || is_wrong(), "{seen:?} versions were seen");
    for watcher in watchers {
        watcher.await.unwrap();
    }
    child.stop().ok();
    for table in &tables {
        assert_eq!(manifest_lag(table), 0);
        assert_eq!(property(table, PROPERTY).as_deref(), Some("true"));
    }
    // It has stopped where it was, and not at the last change.
    once(&fixture, &[BOTH, &["--history"]].concat()).ok();
    for name in NAMES {
        compare_manifest(&fixture, name);
    }

    // Once there, it is kept without being asked for, also where the table is loaded anew.
    for arguments in [&[] as &[&str], &["--overwrite"]] {
        let change = doc! { "$set": { "n": -1 } };
        let some = doc! { "_id": { "$lt": 50 } };
        collection(&fixture, "plain")
            .update_many(some, change)
            .await
            .unwrap();
        once(&fixture, arguments).ok();
        assert_eq!(manifest_lag(&tables[0]), 0);
        compare_manifest(&fixture, "plain");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_in_s3_name_what_plain_readers_are_to_read() {
    let (_server, store) = Store::s3().await;
    let fixture = Fixture::new("manifest").await;
    let name = "with space";
    let c = collection(&fixture, name);
    c.insert_many((0..300).map(|i| doc! { "_id": i, "n": i, "in": { "a": i } }))
        .await
        .unwrap();
    let (uri, index) = (fixture.uri(), fixture.path("index"));
    let table = format!("{}/{}/{name}", store.lake, fixture.name);
    let catch_up = |eager: bool| {
        let fixed = ["sync", &uri, &store.lake, "--index", &index, "--once"];
        let mut sync = command(&[&fixed, BOTH].concat());
        sync.envs(store.environment.iter().map(|(name, value)| (name, value)));
        if eager {
            sync.env("TRIBUTARY_EAGER_UPKEEP", "1");
        }
        run_command(sync).ok();
        compare_manifest_at(&fixture, name, &table, &store.environment);
    };
    catch_up(false);
    for round in 0..2 {
        c.update_many(
            doc! { "_id": { "$lt": 40 } },
            doc! { "$set": { "n": -round } },
        )
        .await
        .unwrap();
        c.delete_many(doc! { "_id": { "$gte": 40 + round, "$lt": 90, "$mod": [5, round] } })
            .await
            .unwrap();
        let (field, deeper) = (format!("f{round}"), format!("b{round}"));
        c.insert_one(doc! { "_id": 1000 + round, field: round, "in": { deeper: true } })
            .await
            .unwrap();
        catch_up(round % 2 == 1);
    }
    // A column that becomes wider has all files written again.
    c.insert_one(doc! { "_id": 2000, "n": 0.5 }).await.unwrap();
    catch_up(false);
    c.delete_many(doc! {}).await.unwrap();
    catch_up(true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_is_killed_leaves_a_manifest_of_one_of_two_versions() {
    let fixture = Arc::new(Fixture::new("manifest").await);
    let c = collection(&fixture, "c");
    c.insert_many((0..200).map(|i| doc! { "_id": i, "n": i }))
        .await
        .unwrap();
    once(&fixture, BOTH).ok();
    let done = Arc::new(AtomicBool::new(false));
    let worker = {
        let (fixture, done) = (Arc::clone(&fixture), Arc::clone(&done));
        tokio::spawn(async move { work(&fixture, &["c"], 2, done).await })
    };
    let table = fixture.table("c");
    let mut random = StdRng::from_rng(&mut rand::rng());
    for _ in 0..15 {
        let mut child = sync(&fixture, &["--commit-interval", "20ms"]);
        child.env("TRIBUTARY_EAGER_UPKEEP", "1");
        let mut child = child.spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(random.random_range(300..1200))).await;
        if let Some(status) = child.try_wait().unwrap() {
            panic!("it ended by itself with {status}: {:#?}", wait(child));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(manifest_lag(&table) <= 1);
    }
    done.store(true, Ordering::Relaxed);
    worker.await.unwrap();
    // What a kill in the middle of writing it leaves is no manifest to anybody.
    let unfinished = table.join("_symlink_format_manifest/manifest#1");
    std::fs::write(&unfinished, "file:/some/where\n").unwrap();
    once(&fixture, &[]).ok();
    assert!(!unfinished.exists());
    assert_eq!(manifest_lag(&table), 0);
    compare_manifest(&fixture, "c");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commits_of_other_writers_come_into_the_manifest() {
    let fixture = Fixture::new("manifest").await;
    let c = collection(&fixture, "c");
    c.insert_many((0..100).map(|i| doc! { "_id": i, "n": i }))
        .await
        .unwrap();
    once(&fixture, BOTH).ok();
    let table = fixture.table("c");
    // While nothing runs: the next start finds it.
    foreign(&table, &["delete", "n >= 90"]).unwrap();
    assert_eq!(manifest_lag(&table), 1);
    once(&fixture, &[]).ok();
    assert_eq!(manifest_lag(&table), 0);
    c.delete_many(doc! { "n": { "$gte": 90 } }).await.unwrap();
    once(&fixture, &[]).ok();
    compare_manifest(&fixture, "c");

    // While it runs: the next commit does.
    let mut child = Running::start(sync(&fixture, &["--commit-interval", "20ms"]));
    child.wait_for_events("following", 1).await;
    c.insert_one(doc! { "_id": 200, "n": 0 }).await.unwrap();
    fixture.wait_for_rows("c", 91).await;
    foreign(&table, &["compact"]).unwrap();
    c.insert_one(doc! { "_id": 201, "n": 0 }).await.unwrap();
    fixture.wait_for_rows("c", 92).await;
    child.stop().ok();
    assert_eq!(manifest_lag(&table), 0);
    compare_manifest(&fixture, "c");

    // Whoever says that there is none any more is heard.
    foreign(&table, &["property", &format!("{PROPERTY}=false")]).unwrap();
    let before = manifest(&table);
    c.insert_one(doc! { "_id": 202, "n": 0 }).await.unwrap();
    once(&fixture, &[]).ok();
    assert_same(&fixture, "c");
    assert_eq!(manifest(&table), before);
    assert_ne!(before.as_ref(), versions(&table).last());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_tables_without_deletion_vectors_have_a_manifest() {
    let fixture = Fixture::new("manifest").await;
    let c = collection(&fixture, "c");
    c.insert_many((0..100).map(|i| doc! { "_id": i, "n": i }))
        .await
        .unwrap();
    once(&fixture, &[SYMLINK_MANIFEST]).fails(2, &["--no-deletion-vectors"]);
    let csv = fixture.copy(&[SYMLINK_MANIFEST, "--format", "csv"]);
    csv.fails(2, &["--symlink-manifest is of Delta tables"]);
    catch_up(&fixture);
    c.delete_many(doc! { "_id": { "$lt": 10 } }).await.unwrap();
    catch_up(&fixture);
    assert!(!fixture.files("c", "bin").is_empty());

    // One that has some is written without them first.
    once(&fixture, BOTH).ok();
    compare_manifest(&fixture, "c");
    // And keeps the manifest that it has where somebody wants both.
    let table = fixture.table("c");
    let before = manifest_text(&table);
    foreign(&table, &["property", "delta.enableDeletionVectors=true"]).unwrap();
    c.delete_one(doc! { "_id": 50 }).await.unwrap();
    once(&fixture, &[]).fails(
        1,
        &["symlink manifest cannot tell", COPY_ON_WRITE, PROPERTY],
    );
    assert_eq!(manifest_text(&table), before);
    once(&fixture, &[COPY_ON_WRITE]).ok();
    assert_eq!(manifest_lag(&table), 0);
    compare_manifest(&fixture, "c");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifest_of_a_table_without_rows_is_empty() {
    let fixture = Fixture::new("manifest").await;
    let c = collection(&fixture, "c");
    c.insert_one(doc! { "_id": 1 }).await.unwrap();
    let arguments = [BOTH, &["--on-drop", "clear"]].concat();
    once(&fixture, &arguments).ok();
    let table = fixture.table("c");
    assert_eq!(manifest(&table).unwrap().len(), 1);
    c.drop().await.unwrap();
    once(&fixture, &arguments).ok();
    assert_eq!(manifest_text(&table).as_deref(), Some(""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_has_a_manifest_once_it_is_there() {
    let fixture = Fixture::new("manifest").await;
    let c = collection(&fixture, "c");
    c.insert_many((0..100).map(|i| doc! { "_id": i, "n": i }))
        .await
        .unwrap();
    let (uri, lake) = (fixture.uri(), fixture.lake());
    let mut copy = command(&["copy", &uri, &lake, SYMLINK_MANIFEST]);
    copy.env("TRIBUTARY_FAILPOINT", "manifest.before");
    let ended = run_command(copy);
    assert_eq!(ended.signal, Some(6), "{ended:#?}");
    let table = fixture.table("c");
    assert_eq!(manifest(&table), None);
    fixture.copy(&[SYMLINK_MANIFEST]).ok();
    assert_eq!(versions(&table).len(), 1);
    compare_manifest(&fixture, "c");

    // What replaces it has one too.
    c.delete_many(doc! { "_id": { "$lt": 50 } }).await.unwrap();
    fixture.copy(&["--overwrite"]).ok();
    assert_eq!(property(&table, PROPERTY).as_deref(), Some("true"));
    compare_manifest(&fixture, "c");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_mapped_columns_has_a_manifest_that_spark_does_not_stumble_over() {
    let fixture = Fixture::new("manifest").await;
    let c = collection(&fixture, "c");
    c.insert_one(doc! { "_id": 1, "n": 1 }).await.unwrap();
    once(&fixture, BOTH).ok();
    let table = fixture.table("c");
    assert_eq!(property(&table, PROPERTY).as_deref(), Some("true"));
    c.insert_one(doc! { "_id": 2, "odd name": 1 })
        .await
        .unwrap();
    once(&fixture, &[]).ok();
    assert_eq!(property(&table, PROPERTY), None);
    let own = property(&table, "tributary.symlinkManifest");
    assert_eq!(own.as_deref(), Some("true"));
    c.delete_one(doc! { "_id": 1 }).await.unwrap();
    once(&fixture, &[]).ok();
    assert_eq!(manifest_lag(&table), 0);
    assert_same(&fixture, "c");
}

/// One document of every type, and of names that engines have their troubles with.
async fn of_every_type(fixture: &Fixture) {
    let binary = |subtype, bytes: &[u8]| {
        Bson::Binary(Binary {
            subtype,
            bytes: bytes.to_vec(),
        })
    };
    let document = doc! {
        "_id": ObjectId::from_bytes([7; 12]),
        "flag": true,
        "small": 1,
        "large": 5_000_000_000_i64,
        "ratio": 0.1,
        "price": Bson::Decimal128("12.345".parse().unwrap()),
        "text": "it's",
        "at": DateTime::from_millis(0),
        "bytes": binary(BinarySubtype::Generic, b"abc"),
        "uuid": binary(BinarySubtype::Uuid, &[1; 16]),
        "Address": { "City": "Vienna", "geo": { "lat": 48.2, "lon": 16.4 } },
        "tags": ["a", "b"],
        "items": [{ "sku": "a", "n": 1 }],
        "matrix": [[1, 2], [3]],
        "mixed": [1, "two"],
        "moment": Bson::Timestamp(Timestamp { time: 1, increment: 1 }),
        "first name": "Ada",
        "say \"hi\"\n": 1,
        "odd": { "2nd": 1 },
        "$path": 1,
        "n": 1,
        "N": 2,
    };
    fixture.insert("Orders", vec![document]).await;
}

/// Asserts that another parser of SQL takes statements for what they are to be, and answers those.
#[track_caller]
fn parsed(dialect: &dyn Dialect, statements: &str) -> Vec<String> {
    let parsed = Parser::parse_sql(dialect, statements);
    let parsed = parsed.unwrap_or_else(|error| panic!("{error}: {statements}"));
    parsed.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn spectrum_is_told_of_a_table_by_its_manifest() {
    let (_server, store) = Store::s3().await;
    let fixture = Fixture::new("ddl").await;
    of_every_type(&fixture).await;
    let (uri, database) = (fixture.uri(), &fixture.name);
    let table = format!("{database}.Orders");
    let external = |arguments: &[&str]| {
        let fixed = ["schema", "external", "--lake", &store.lake];
        store.run(&[&fixed, arguments].concat())
    };
    let sync = |arguments: &[&str]| {
        let index = fixture.path("index");
        let fixed = ["sync", &uri, &store.lake, "--index", &index, "--once"];
        store.run(&[&fixed, arguments].concat()).ok();
    };
    sync(&[]);
    let refused = external(&["--for", "spectrum", &table]);
    refused.fails(
        1,
        &["has deletion vectors", COPY_ON_WRITE, SYMLINK_MANIFEST],
    );
    sync(&[COPY_ON_WRITE]);
    let refused = external(&["--for", "spectrum"]);
    refused.fails(1, &["has no symlink manifest", SYMLINK_MANIFEST]);
    sync(BOTH);

    let told = external(&["--for", "spectrum", &table]).ok().stdout;
    let lake = &store.lake;
    let expected = format!(
        r#"-- {database}.Orders
-- to be run again when the table's schema changes: `tributary schema list` says when that was
-- without the column matrix: Redshift has no arrays of arrays
-- without the column odd: Redshift cannot spell its field 2nd
-- without the column $path: Redshift has a column of its own of this name
-- col-0115e7b13060f18c is the column first name
-- col-f3cdde8e1b8e0849 is the column say "hi" 
DROP TABLE IF EXISTS "spectrum"."orders";
CREATE EXTERNAL TABLE "spectrum"."orders" (
  "_id" varchar(24),
  "flag" boolean,
  "small" int,
  "large" bigint,
  "ratio" double precision,
  "price" decimal(38,3),
  "text" varchar(65535),
  "at" timestamp,
  "bytes" varbyte(1024000),
  "uuid" varchar(36),
  "address" struct<city:varchar(65535),geo:struct<lat:double precision,lon:double precision>>,
  "tags" array<varchar(65535)>,
  "items" array<struct<sku:varchar(65535),n:int>>,
  "mixed" varchar(65535),
  "moment" varchar(65535),
  "col-0115e7b13060f18c" varchar(65535),
  "col-f3cdde8e1b8e0849" int,
  "n" int,
  "n_2" int,
  "_rescued_data" varchar(65535)
)
ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'
STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'
LOCATION '{lake}/{database}/Orders/_symlink_format_manifest/';
"#
    );
    assert_eq!(told, expected);
    let statements = parsed(&GenericDialect {}, &told);
    assert_eq!(statements.len(), 2, "{statements:?}");
    assert!(statements[1].starts_with("CREATE EXTERNAL TABLE \"spectrum\".\"orders\""));

    let arguments = [
        "--for",
        "spectrum",
        "--external-schema",
        "Lake",
        "--output",
        "json",
    ];
    let told = external(&arguments).ok().stdout;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["table"], table);
    assert_eq!(told["leftOut"][0]["column"], "matrix");
    let statements = told["statements"].as_str().unwrap();
    assert!(statements.contains("CREATE EXTERNAL TABLE \"lake\".\"orders\""));

    // Names that Redshift takes for one.
    fixture.insert("orders", vec![doc! { "_id": 1 }]).await;
    sync(BOTH);
    external(&["--for", "spectrum"]).fails(2, &["the same name", "--external-schema"]);
    external(&["--for", "spectrum", "no.such"]).fails(1, &["no such table", "no.such"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_told_of_a_table_by_a_view() {
    let fixture = Fixture::new("ddl").await;
    of_every_type(&fixture).await;
    catch_up(&fixture);
    let (lake, database) = (fixture.lake(), &fixture.name);
    let external = |engine: &str, arguments: &[&str]| {
        let fixed = ["schema", "external", "--lake", &lake, "--for", engine];
        run(&[&fixed, arguments].concat())
    };
    external("spectrum", &[]).fails(2, &["reads tables in S3 only", "s3://bucket/prefix"]);
    let told = external("postgres", &[]).ok().stdout;
    let expected = format!(
        r#"-- {database}.Orders
-- for the extension pg_duckdb; to be run again when the table's schema changes: `tributary schema list` says when that was
CREATE SCHEMA IF NOT EXISTS "{database}";
DROP VIEW IF EXISTS "{database}"."Orders";
CREATE VIEW "{database}"."Orders" AS SELECT
  r['_id']::text AS "_id",
  r['flag']::boolean AS "flag",
  r['small']::integer AS "small",
  r['large']::bigint AS "large",
  r['ratio']::double precision AS "ratio",
  r['price']::numeric(38,3) AS "price",
  r['text']::text AS "text",
  r['at']::timestamptz AS "at",
  r['bytes']::bytea AS "bytes",
  r['uuid']::uuid AS "uuid",
  r['Address']::json AS "Address",
  r['tags']::json AS "tags",
  r['items']::json AS "items",
  r['matrix']::json AS "matrix",
  r['mixed']::json AS "mixed",
  r['moment']::text AS "moment",
  r['first name']::text AS "first name",
  r['say "hi"
']::integer AS "say ""hi""
",
  r['odd']::json AS "odd",
  r['$path']::integer AS "$path",
  r['n']::integer AS "n",
  r['N_2']::integer AS "N_2",
  r['_rescued_data']::json AS "_rescued_data"
FROM delta_scan('{lake}/{database}/Orders') r;
"#
    );
    assert_eq!(told, expected);
    assert_eq!(parsed(&PostgreSqlDialect {}, &told).len(), 3);
    let told = external("postgres", &["--external-schema", "lake"]).ok();
    assert!(told.stdout.contains("CREATE VIEW \"lake\".\"Orders\""));
}
