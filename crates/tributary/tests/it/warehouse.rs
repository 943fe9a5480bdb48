//! Tables of a lake taken over into PostgreSQL, through kills and faults.

use std::ops::Range;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bson::{Bson, Document, doc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tributary_demodata::{Generator, Kind};
use tributary_testkit::{Postgres, Redshift, S3Server, SharedPostgres};

use crate::readers::compare;
use crate::running::Running;
use crate::support::{Fixture, LIMIT, Run, command, run, wait};
use crate::sync::{catch_up, collection, sync, work};

/// A role that may read what is staged, and the bucket where that is.
pub(crate) const ROLE: &str = "arn:aws:iam::123456789012:role/loader";
const BUCKET: &str = "staging";

/// A database of one test, beside the fixture's: of PostgreSQL, or of what stands in for Redshift in
/// front of it.
pub(crate) struct Warehouse {
    server: SharedPostgres,
    name: String,
    pub(crate) uri: String,
    redshift: Option<(Redshift, S3Server)>,
}

impl Warehouse {
    pub(crate) async fn postgres(fixture: &Fixture) -> Self {
        let server = Postgres::shared().await.expect("a PostgreSQL");
        Self::on(server, fixture).await
    }

    async fn on(server: SharedPostgres, fixture: &Fixture) -> Self {
        let name = fixture.name.clone();
        server.create_database(&name).await.expect("a database");
        Self {
            uri: server.uri_for(&name),
            server,
            name,
            redshift: None,
        }
    }

    pub(crate) async fn redshift(fixture: &Fixture) -> Self {
        let behind = Self::postgres(fixture).await;
        let s3 = S3Server::shared().await.expect("an S3");
        // Another test may have made it.
        let _ = s3.create_bucket(BUCKET).await;
        let redshift = Redshift::builder()
            .postgres(&behind.uri)
            .s3_endpoint(s3.endpoint())
            .role(ROLE, &[BUCKET])
            .key("testkit", "testkit", &[BUCKET])
            .start()
            .await
            .expect("a stand-in for Redshift");
        Self {
            uri: redshift.uri(),
            redshift: Some((redshift, s3)),
            ..behind
        }
    }

    /// The stand-in.
    pub(crate) fn stand_in(&self) -> &Redshift {
        let (redshift, _) = self.redshift.as_ref().expect("a Redshift");
        redshift
    }

    /// Where rows are staged.
    pub(crate) fn staging(&self) -> String {
        format!("s3://{BUCKET}/{}", self.name)
    }

    /// How many files are staged.
    pub(crate) async fn staged_files(&self) -> usize {
        let (_, s3) = self.redshift.as_ref().expect("a Redshift");
        s3.keys(BUCKET, &self.name).await.expect("keys").len()
    }

    /// The environment in which that is reached.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let (_, s3) = self.redshift.as_ref().expect("a Redshift");
        s3.env()
    }

    fn is_redshift(&self) -> bool {
        self.redshift.is_some()
    }

    /// A command whose target this is.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let staging = self.staging();
        let mut arguments = arguments.to_vec();
        if self.is_redshift() {
            arguments.extend(["--s3-staging", &staging, "--iam-role", ROLE]);
        }
        let mut command = command(&arguments);
        if let Some((_, s3)) = &self.redshift {
            command.envs(s3.env());
        }
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        wait(self.command(arguments).spawn().expect("the binary starts"))
    }

    /// Takes the fixture's lake over, and ends.
    pub(crate) fn take_over(&self, fixture: &Fixture, more: &[&str]) -> Run {
        let lake = fixture.lake();
        let fixed = ["sync", &lake, &self.uri, "--once", "--output", "json"];
        self.run(&[&fixed, more].concat())
    }

    /// Follows the fixture's lake.
    pub(crate) fn following(&self, fixture: &Fixture, more: &[&str]) -> Command {
        let lake = fixture.lake();
        let interval = ["--commit-interval", "20ms", "--output", "json"];
        self.command(&[&["sync", &lake, &self.uri], &interval[..], more].concat())
    }

    #[track_caller]
    pub(crate) fn assert_same(&self, fixture: &Fixture, collection: &str) {
        let reader = if self.is_redshift() {
            "redshift"
        } else {
            "postgres"
        };
        compare(reader, fixture, collection, &self.uri);
    }

    /// A client of the PostgreSQL behind it.
    pub(crate) async fn client(&self) -> tokio_postgres::Client {
        self.server.client(&self.name).await.expect("a client")
    }

    pub(crate) async fn execute(&self, statements: &str) {
        let client = self.client().await;
        client.batch_execute(statements).await.expect("executed");
    }

    pub(crate) async fn number(&self, query: &str) -> i64 {
        let client = self.client().await;
        client.query_one(query, &[]).await.expect("a row").get(0)
    }

    /// The version of the lake's table that the ledger says.
    pub(crate) async fn version(&self, collection: &str) -> i64 {
        let query = format!(
            "SELECT version FROM tributary.ledger WHERE table_name = '{collection}' \
             ORDER BY sequence DESC LIMIT 1"
        );
        self.number(&query).await
    }

    /// The columns of a table, each with its type.
    pub(crate) async fn columns(&self, schema: &str, table: &str) -> Vec<String> {
        let from = match self.is_redshift() {
            true => "redshift_standin.svv_columns",
            false => "information_schema.columns",
        };
        let query = format!(
            "SELECT column_name || ' ' || data_type FROM {from} \
             WHERE table_schema = $1 AND table_name = $2 ORDER BY ordinal_position"
        );
        let client = self.client().await;
        let rows = client
            .query(&query, &[&schema, &table])
            .await
            .expect("rows");
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// How [`columns`](Self::columns) tells columns, of which there are the name, and the types in
    /// PostgreSQL and in Redshift. There, names are in lower case.
    fn typed<const N: usize>(&self, columns: [(&str, &str, &str); N]) -> Vec<String> {
        let mut names = Vec::new();
        for (name, in_postgres, in_redshift) in columns {
            let told = match self.is_redshift() {
                false => format!("{name} {in_postgres}"),
                true if name == "case" => format!("case_2 {in_redshift}"),
                true => format!("{} {in_redshift}", name.to_lowercase()),
            };
            names.push(told);
        }
        names
    }
}

/// Takes the fixture's lake over, and ends.
fn take_over(fixture: &Fixture, uri: &str) -> Run {
    let lake = fixture.lake();
    run(&["sync", &lake, uri, "--once", "--output", "json"])
}

fn following(fixture: &Fixture, uri: &str) -> Command {
    let lake = fixture.lake();
    let interval = ["--commit-interval", "20ms", "--output", "json"];
    command(&[&["sync", &lake, uri], &interval[..]].concat())
}

/// The columns of a table in each warehouse.
const C_COLUMNS: [(&str, &str, &str); 7] = [
    ("_id", "integer", "integer"),
    ("n", "integer", "integer"),
    ("m", "integer", "integer"),
    ("in", "jsonb", "super"),
    ("Case", "integer", "integer"),
    ("case", "integer", "integer"),
    ("_rescued_data", "json", "super"),
];

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_every_type_agree_with_pymongo_document_by_document() {
    let fixture = Fixture::new("every").await;
    let warehouse = Warehouse::postgres(&fixture).await;
    every_type(&fixture, &warehouse).await;
}

pub(crate) async fn every_type(fixture: &Fixture, warehouse: &Warehouse) {
    for (kind, count) in [
        (Kind::Everything, 600),
        (Kind::Nested, 500),
        (Kind::Banking, 20),
        (Kind::Flat, 100),
    ] {
        let generator = Generator::new(kind, 7);
        let documents = (0..count).map(|i| generator.document(i).into_bytes());
        fixture.insert_raw(kind.name(), documents.collect()).await;
    }
    fixture.copy(&[]).ok();
    let lake = fixture.lake();
    let arguments = ["copy", &lake, &warehouse.uri, "--output", "json"];
    let copied = warehouse.run(&arguments).ok();
    let finished = copied.finished();
    let loaded: u64 = finished["collections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|collection| collection["documents"].as_u64().unwrap())
        .sum();
    assert_eq!(loaded, 1220, "{finished}");
    for name in ["everything", "nested", "banking", "flat"] {
        warehouse.assert_same(fixture, name);
    }
    // A second time there is nothing to do.
    let again = warehouse.take_over(fixture, &[]).ok();
    for collection in again.finished()["collections"].as_array().unwrap() {
        assert_eq!(
            (&collection["documents"], &collection["changes"]),
            (&0.into(), &0.into())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_rows_and_of_columns_arrive() {
    let fixture = Fixture::new("changes").await;
    let warehouse = Warehouse::postgres(&fixture).await;
    changes(&fixture, &warehouse).await;
}

pub(crate) async fn changes(fixture: &Fixture, warehouse: &Warehouse) {
    let c = collection(fixture, "c");
    let document =
        |i: i32| doc! { "_id": i, "n": i, "m": i, "in": { "a": i }, "Case": 1, "case": 2 };
    c.insert_many((0..50).map(document)).await.unwrap();
    // A collection that is empty at first, and one whose name and fields need quotes.
    fixture.database.create_collection("empty").await.unwrap();
    let odd = collection(fixture, "o'dd \"name\"");
    odd.insert_one(
        doc! { "_id": "a'b\\c", "select": 1, "x\"y": { "$ref": 1 }, "ctid": "mine", "": 5 },
    )
    .await
    .unwrap();
    catch_up(fixture);
    warehouse.take_over(fixture, &[]).ok();
    warehouse.assert_same(fixture, "c");
    warehouse.assert_same(fixture, "o'dd \"name\"");
    let columns = warehouse.columns(&fixture.name, "c").await;
    assert_eq!(columns, warehouse.typed(C_COLUMNS));

    // Updates, replacements, deletes; a new column, one that widens, and rows that come and go
    // between two looks.
    let set = |value: Document| doc! { "$set": value };
    c.update_one(doc! { "_id": 1 }, set(doc! { "n": 2.5, "new": "x" }))
        .await
        .unwrap();
    c.replace_one(doc! { "_id": 2 }, doc! { "other": true })
        .await
        .unwrap();
    c.delete_many(doc! { "_id": { "$gte": 40 } }).await.unwrap();
    collection(fixture, "empty")
        .insert_one(doc! { "_id": 7, "a": 1 })
        .await
        .unwrap();
    odd.update_one(doc! {}, set(doc! { "select": 2 }))
        .await
        .unwrap();
    catch_up(fixture);
    c.insert_one(document(60)).await.unwrap();
    c.insert_one(document(61)).await.unwrap();
    catch_up(fixture);
    c.delete_one(doc! { "_id": 60 }).await.unwrap();
    c.update_one(doc! { "_id": 61 }, set(doc! { "n": 7 }))
        .await
        .unwrap();
    c.update_one(doc! { "_id": 3 }, set(doc! { "n": 8 }))
        .await
        .unwrap();
    catch_up(fixture);
    let applied = warehouse.take_over(fixture, &[]).ok();
    let finished = applied.finished();
    let of_c = &finished["collections"][0];
    assert_eq!(
        (&of_c["documents"], &of_c["upserted"], &of_c["deleted"]),
        (&0.into(), &4.into(), &11.into()),
        "{finished}"
    );
    for name in ["c", "empty", "o'dd \"name\""] {
        warehouse.assert_same(fixture, name);
    }
    let columns = warehouse.columns(&fixture.name, "c").await;
    assert!(
        columns.contains(&"n double precision".to_owned()),
        "{columns:?}"
    );

    // A type to which PostgreSQL casts nothing: the rows are loaded anew.
    c.update_one(doc! { "_id": 4 }, set(doc! { "m": "four" }))
        .await
        .unwrap();
    catch_up(fixture);
    let widened = warehouse.take_over(fixture, &[]).ok();
    let loaded = if warehouse.is_redshift() { 0 } else { 41 };
    assert_eq!(widened.finished()["collections"][0]["documents"], loaded);
    assert_eq!(
        widened.stdout.contains("is loaded anew"),
        !warehouse.is_redshift(),
        "{widened:#?}"
    );
    warehouse.assert_same(fixture, "c");

    // Keys of other types.
    c.insert_one(doc! { "_id": "text", "n": 1 }).await.unwrap();
    catch_up(fixture);
    warehouse.take_over(fixture, &[]).ok();
    c.delete_one(doc! { "_id": 5 }).await.unwrap();
    c.delete_one(doc! { "_id": "text" }).await.unwrap();
    catch_up(fixture);
    warehouse.take_over(fixture, &[]).ok();
    warehouse.assert_same(fixture, "c");
}

/// The major versions of PostgreSQL beside that of the server that the other tests share.
const OTHER_VERSIONS: [&str; 4] = ["13", "14", "16", "17"];

/// Takes the lake over into servers of other versions, and asserts that all of them hold the same.
async fn take_over_everywhere(fixture: &Fixture, warehouses: &[Warehouse]) {
    std::thread::scope(|scope| {
        for warehouse in warehouses {
            scope.spawn(move || {
                take_over(fixture, &warehouse.uri).ok();
                for name in ["everything", "c"] {
                    warehouse.assert_same(fixture, name);
                }
            });
        }
    });
    for name in ["everything", "c"] {
        let first = warehouses[0].columns(&fixture.name, name).await;
        for warehouse in warehouses {
            assert_eq!(warehouse.columns(&fixture.name, name).await, first);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_other_versions_hold_every_type_and_change() {
    let fixture = Fixture::new("whversions").await;
    let start = async |version: &str| {
        let server = Postgres::builder().version(version).start().await;
        let server = SharedPostgres::from(server.expect("a PostgreSQL"));
        let warehouse = Warehouse::on(server, &fixture).await;
        let number = "SELECT current_setting('server_version_num')::bigint / 10000";
        assert_eq!(warehouse.number(number).await.to_string(), version);
        warehouse
    };
    let warehouses = futures::future::join_all(OTHER_VERSIONS.map(start)).await;
    let generator = Generator::new(Kind::Everything, 7);
    let documents = |range: std::ops::Range<u64>| {
        let documents = range.map(|i| generator.document(i).into_bytes());
        documents.collect::<Vec<_>>()
    };
    fixture.insert_raw("everything", documents(0..300)).await;
    let (everything, c) = (
        collection(&fixture, "everything"),
        collection(&fixture, "c"),
    );
    let document = |i: i32| doc! { "_id": i, "n": i, "m": i, "in": { "a": i } };
    c.insert_many((0..50).map(document)).await.unwrap();
    catch_up(&fixture);
    take_over_everywhere(&fixture, &warehouses).await;

    // Rows of every type come, change and go.
    fixture.insert_raw("everything", documents(300..330)).await;
    let strings = doc! { "_id": { "$type": "string" } };
    everything.delete_many(strings).await.unwrap();
    let numbers = doc! { "_id": { "$type": "number" } };
    let change = doc! { "$unset": { "twice": 1, "mixed": 1 } };
    everything.update_many(numbers, change).await.unwrap();
    c.replace_one(doc! { "_id": 2 }, doc! { "m": -2 })
        .await
        .unwrap();
    c.delete_many(doc! { "_id": { "$gte": 40 } }).await.unwrap();
    catch_up(&fixture);
    take_over_everywhere(&fixture, &warehouses).await;

    // Columns come, and get a type that theirs can be cast to, and one that it cannot.
    let some = doc! { "_id": { "$lt": 20 } };
    for set in [doc! { "n": 2.5, "new": { "b": [1] } }, doc! { "m": "text" }] {
        let change = doc! { "$set": set };
        c.update_many(some.clone(), change).await.unwrap();
        catch_up(&fixture);
        take_over_everywhere(&fixture, &warehouses).await;
    }
    let columns = warehouses[0].columns(&fixture.name, "c").await;
    let expected = [
        "_id integer",
        "n double precision",
        "m jsonb",
        "in jsonb",
        "_rescued_data json",
        "new jsonb",
    ];
    assert_eq!(columns, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_column_cannot_hold_is_rescued_and_its_neighbours_are_not() {
    let fixture = Fixture::new("unfit").await;
    let warehouse = Warehouse::postgres(&fixture).await;
    unfit(&fixture, &warehouse).await;
}

pub(crate) async fn unfit(fixture: &Fixture, warehouse: &Warehouse) {
    let ancient = bson::DateTime::from_millis(-250_000_000_000_000);
    collection(fixture, "c")
        .insert_many([
            doc! { "_id": 1, "text": "a\0b", "at": ancient, "n": 1, "in": { "bad": "x\0", "good": "y" } },
            doc! { "_id": 2, "text": "fine", "at": bson::DateTime::from_millis(0), "n": 2, "in": { "bad": "z" } },
            doc! { "_id": 3, "in": { "bad": ["a", "\0", { "deep": "\0\0" }], "good": "\\u0000" } },
        ])
        .await
        .unwrap();
    catch_up(fixture);
    let taken = warehouse.take_over(fixture, &[]).ok();
    assert_eq!(taken.collection()["rescued"], 5);
    warehouse.assert_same(fixture, "c");
    let kept = format!(
        "SELECT count(*) FROM \"{}\".c WHERE n = 1 AND \"in\"->>'good' = 'y' AND text IS NULL \
         AND _rescued_data::text LIKE '%/in/bad%'",
        fixture.name
    );
    assert_eq!(warehouse.number(&kept).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_take_over_that_is_killed_at_any_moment_loses_and_doubles_nothing() {
    let fixture = Arc::new(Fixture::new("whkill").await);
    let warehouse = Warehouse::postgres(&fixture).await;
    killed(fixture, warehouse, 50..900).await;
}

/// Kills a take-over after so many milliseconds, again and again, while documents change.
pub(crate) async fn killed(fixture: Arc<Fixture>, warehouse: Warehouse, after: Range<u64>) {
    const KILLS: u32 = 30;
    let names = ["plain", "mixed", "third"];
    for name in names {
        let documents = (0..200).map(|i| doc! { "_id": i, "n": i });
        collection(&fixture, name)
            .insert_many(documents)
            .await
            .unwrap();
    }
    catch_up(&fixture);
    let done = Arc::new(AtomicBool::new(false));
    let worker = {
        let (fixture, done) = (Arc::clone(&fixture), Arc::clone(&done));
        tokio::spawn(async move { work(&fixture, &names, 3, done).await })
    };
    let upstream = Running::start(sync(&fixture, &["--commit-interval", "20ms"]));
    let mut random = StdRng::from_rng(&mut rand::rng());
    for _ in 0..KILLS {
        let mut child = warehouse.following(&fixture, &[]).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(random.random_range(after.clone()))).await;
        if let Some(status) = child.try_wait().unwrap() {
            panic!("it ended by itself with {status}: {:#?}", wait(child));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    done.store(true, Ordering::Relaxed);
    worker.await.unwrap();
    upstream.stop().ok();
    catch_up(&fixture);
    warehouse.take_over(&fixture, &[]).ok();
    for name in names {
        warehouse.assert_same(&fixture, name);
        assert!(warehouse.version(name).await > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mongodb_is_taken_over_through_a_lake() {
    let fixture = Fixture::new("staged").await;
    let warehouse = Warehouse::postgres(&fixture).await;
    let c = collection(&fixture, "c");
    c.insert_one(doc! { "_id": 1, "n": 1 }).await.unwrap();
    let (uri, lake, index) = (fixture.uri(), fixture.lake(), fixture.path("index"));
    let arguments = [
        "sync",
        &uri,
        &warehouse.uri,
        "--stage",
        &lake,
        "--index",
        &index,
        "--output",
        "json",
    ];
    run(&[&arguments[..], &["--once"]].concat()).ok();
    warehouse.assert_same(&fixture, "c");
    let child = Running::start(command(
        &[&arguments[..], &["--commit-interval", "50ms"]].concat(),
    ));
    for n in 2..20 {
        c.insert_one(doc! { "_id": n, "n": n }).await.unwrap();
    }
    c.delete_one(doc! { "_id": 1 }).await.unwrap();
    collection(&fixture, "later")
        .insert_one(doc! { "_id": 1 })
        .await
        .unwrap();
    let count = format!("SELECT count(*) FROM \"{}\".c WHERE _id > 1", fixture.name);
    let deadline = Instant::now() + LIMIT;
    while warehouse.number(&count).await != 18 {
        assert!(Instant::now() < deadline, "not all rows arrive");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let ended = child.stop().ok();
    assert!(ended.stdout.contains("\"finished\""), "{ended:#?}");
    run(&[&arguments[..], &["--once"]].concat()).ok();
    warehouse.assert_same(&fixture, "c");
    warehouse.assert_same(&fixture, "later");

    // `copy` goes the same way.
    let other = fixture.path("other");
    run(&[
        "copy",
        &uri,
        &warehouse.uri,
        "--stage",
        &other,
        "--overwrite",
    ])
    .ok();
    warehouse.assert_same(&fixture, "c");
    run(&["sync", &uri, &warehouse.uri]).fails(2, &["through a lake", "--stage"]);
    run(&["sync", &lake, &warehouse.uri, "--stage", &lake]).fails(2, &["--stage is for a MongoDB"]);
    run(&["sync", &uri, &lake, "--stage", &other]).fails(2, &["--stage is for a warehouse"]);
    run(&["sync", &lake, &warehouse.uri, "--history"]).fails(2, &["--history", "no meaning"]);
    run(&["copy", &lake, &warehouse.uri, "--fields", "a"]).fails(2, &["--fields", "no meaning"]);
    run(&[
        "copy",
        &uri,
        &warehouse.uri,
        "--stage",
        &other,
        "--format",
        "csv",
    ])
    .fails(2, &["--format", "no meaning"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_been_changed_by_hand_is_said_and_overwritten_when_asked() {
    let fixture = Fixture::new("byhand").await;
    let warehouse = Warehouse::postgres(&fixture).await;
    let c = collection(&fixture, "c");
    c.insert_one(doc! { "_id": 1, "n": 1 }).await.unwrap();
    catch_up(&fixture);
    let table = format!("\"{}\".c", fixture.name);

    // A table that somebody else made.
    warehouse
        .execute(&format!(
            "CREATE SCHEMA \"{}\"; CREATE TABLE {table} (mine text)",
            fixture.name
        ))
        .await;
    warehouse
        .take_over(&fixture, &[])
        .fails(1, &["ledger does not know", &fixture.name, "--overwrite"]);
    assert_eq!(warehouse.columns(&fixture.name, "c").await, ["mine text"]);
    warehouse.take_over(&fixture, &["--overwrite"]).ok();
    warehouse.assert_same(&fixture, "c");

    // A column of another type, and one that is gone.
    for change in ["ALTER COLUMN n TYPE text", "DROP COLUMN n"] {
        warehouse
            .execute(&format!("ALTER TABLE {table} {change}"))
            .await;
        c.insert_one(doc! { "n": 2 }).await.unwrap();
        catch_up(&fixture);
        warehouse
            .take_over(&fixture, &[])
            .fails(1, &["not as it was left", "column n", "--overwrite"]);
        warehouse.take_over(&fixture, &["--overwrite"]).ok();
        warehouse.assert_same(&fixture, "c");
    }

    // Columns of one's own do no harm.
    warehouse
        .execute(&format!(
            "ALTER TABLE {table} ADD COLUMN mine int DEFAULT 1"
        ))
        .await;
    c.insert_one(doc! { "n": 3 }).await.unwrap();
    catch_up(&fixture);
    warehouse.take_over(&fixture, &[]).ok();

    // The ledger is gone.
    warehouse.execute("DROP SCHEMA tributary CASCADE").await;
    warehouse
        .take_over(&fixture, &[])
        .fails(1, &["ledger does not know"]);
    warehouse.take_over(&fixture, &["--overwrite"]).ok();
    warehouse.assert_same(&fixture, "c");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_full_or_locked_is_waited_for() {
    let fixture = Fixture::new("whfaults").await;
    let mut server = Postgres::builder()
        .parameter("max_connections", "5")
        .start()
        .await
        .expect("a PostgreSQL");
    let name = fixture.name.clone();
    server.create_database(&name).await.unwrap();
    let uri = server.uri_for(&name);
    let c = collection(&fixture, "c");
    c.insert_many((0..100).map(|i| doc! { "_id": i, "n": i }))
        .await
        .unwrap();
    let upstream = Running::start(sync(&fixture, &["--commit-interval", "20ms"]));
    fixture.wait_for_rows("c", 100).await;
    let mut child = Running::start(following(&fixture, &uri));
    let arrived = async |rows: i64, server: &Postgres| {
        let query = format!("SELECT count(*) FROM \"{name}\".c");
        let deadline = Instant::now() + LIMIT;
        loop {
            let found: Option<i64> = match server.client(&name).await {
                Ok(client) => client
                    .query_one(&query, &[])
                    .await
                    .ok()
                    .map(|row| row.get(0)),
                Err(_) => None,
            };
            if found == Some(rows) {
                break;
            }
            assert!(Instant::now() < deadline, "{found:?} of {rows} rows");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    arrived(100, &server).await;

    // Crashed, and shut down.
    server.kill();
    c.insert_one(doc! { "_id": 100, "n": 1 }).await.unwrap();
    server.restart().await.unwrap();
    arrived(101, &server).await;
    server.stop();
    c.insert_one(doc! { "_id": 101, "n": 1 }).await.unwrap();
    let retries = child.events("retrying");
    child.wait_for_events("retrying", retries + 1).await;
    server.restart().await.unwrap();
    arrived(102, &server).await;

    // A lock on the table.
    let mut client = server.client(&name).await.unwrap();
    let held = client.transaction().await.unwrap();
    held.batch_execute(&format!("LOCK TABLE \"{name}\".c IN ACCESS EXCLUSIVE MODE"))
        .await
        .unwrap();
    c.delete_one(doc! { "_id": 0 }).await.unwrap();
    let observer = server.client(&name).await.unwrap();
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    let deadline = Instant::now() + LIMIT;
    while observer
        .query_one(waiting, &[])
        .await
        .unwrap()
        .get::<_, i64>(0)
        == 0
    {
        assert!(Instant::now() < deadline, "nothing waits for the lock");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(observer);
    held.rollback().await.unwrap();
    arrived(101, &server).await;

    // A full disk.
    server.fill_disk(4 << 20).await.unwrap();
    let mut random = StdRng::seed_from_u64(1);
    let large = (0..1000).map(|i| {
        let text: String = (0..8000).map(|_| random.random_range('a'..='z')).collect();
        doc! { "_id": 1000 + i, "text": text }
    });
    let large: Vec<Document> = large.collect();
    c.insert_many(large).await.unwrap();
    let retries = child.events("retrying");
    child.wait_for_events("retrying", retries + 1).await;
    server.free_disk().await.unwrap();
    arrived(1101, &server).await;

    upstream.stop().ok();
    let ended = child.stop().ok();
    assert!(ended.stdout.contains("free space"), "{ended:#?}");
    catch_up(&fixture);
    take_over(&fixture, &uri).ok();
    compare("postgres", &fixture, "c", &uri);

    // No connection is left: that is told, and waited for.
    let (mut others, mut refusals) = (Vec::new(), 0);
    while refusals < 5 {
        match tokio_postgres::connect(&uri, tokio_postgres::NoTls).await {
            Ok((client, connection)) => {
                others.push((client, tokio::spawn(connection)));
                refusals = 0;
            }
            // A session that is about to end leaves its place a little later.
            Err(_) => {
                refusals += 1;
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
    }
    c.insert_one(doc! { "_id": 5000 }).await.unwrap();
    catch_up(&fixture);
    let mut child = Running::start(following(&fixture, &uri));
    child.wait_for_events("retrying", 1).await;
    drop(others);
    arrived(1102, &server).await;
    let ended = child.stop().ok();
    assert!(ended.stdout.contains("max_connections"), "{ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_and_privileges_that_do_not_do_are_said() {
    let fixture = Fixture::new("whbad").await;
    let server = Postgres::start().await.expect("a PostgreSQL");
    server.create_database(&fixture.name).await.unwrap();
    let uri = server.uri_for(&fixture.name);
    let lake = fixture.lake();
    take_over(&fixture, &uri).fails(1, &["there is no table in the lake"]);
    collection(&fixture, "c")
        .insert_one(doc! { "_id": 1 })
        .await
        .unwrap();
    collection(&fixture, "null")
        .insert_one(doc! { "_id": Bson::Null, "n": 1 })
        .await
        .unwrap();
    catch_up(&fixture);

    let wrong = server.uri_as("postgres", "wrong", &fixture.name);
    take_over(&fixture, &wrong).fails(1, &["password", "postgres://127.0.0.1"]);
    let without = wrong.replace(":wrong@", "@");
    take_over(&fixture, &without).fails(1, &["password missing", "put the user and the password"]);
    take_over(&fixture, &server.uri_for("nowhere")).fails(1, &["nowhere", "create the database"]);
    for address in [
        "postgres://",
        "postgres://127.0.0.1/",
        "postgres://host:port/db",
    ] {
        take_over(&fixture, address).fails(2, &["not an address of PostgreSQL"]);
    }
    let nobody = "postgres://a:secret@127.0.0.1:1/db";
    let away = command(&["sync", &lake, nobody, "--output", "json"]);
    let mut child = Running::start(away);
    child.wait_for_events("retrying", 1).await;
    let ended = child.stop().ok();
    assert!(ended.stdout.contains("cannot connect"), "{ended:#?}");
    assert!(!ended.stdout.contains("secret"), "{ended:#?}");

    server.create_user("weak", "weak").await.unwrap();
    let weak = server.uri_as("weak", "weak", &fixture.name);
    take_over(&fixture, &weak).fails(1, &["permission denied", "grant the user CREATE"]);
    // One table fails, and the other is taken over.
    take_over(&fixture, &uri).fails(1, &["whose _id is null", "null"]);
    compare("postgres", &fixture, "c", &uri);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_encrypted_as_the_address_says() {
    let fixture = Fixture::new("whtls").await;
    let server = Postgres::builder()
        .with_tls()
        .start()
        .await
        .expect("a PostgreSQL");
    server.create_database(&fixture.name).await.unwrap();
    collection(&fixture, "c")
        .insert_one(doc! { "_id": 1 })
        .await
        .unwrap();
    catch_up(&fixture);
    // It checks the certificate, against the authority that it names.
    let full = server.uri_for(&fixture.name);
    assert!(full.contains("sslmode=verify-full&sslrootcert="), "{full}");
    let (plain, options) = full.split_once('?').unwrap();
    take_over(&fixture, &full).ok();
    for query in [
        String::new(),
        "?sslmode=require".to_owned(),
        format!("?{}", options.replace("verify-full", "verify-ca")),
    ] {
        take_over(&fixture, &format!("{plain}{query}")).ok();
    }
    // The system trusts nobody who has signed this certificate.
    let untrusted = format!("{plain}?sslmode=verify-full");
    take_over(&fixture, &untrusted).fails(1, &["certificate", "sslrootcert"]);
    let unencrypted = format!("{plain}?sslmode=disable");
    take_over(&fixture, &unencrypted).fails(1, &["no encryption"]);
    take_over(&fixture, &format!("{plain}?sslmode=on")).fails(2, &["unknown sslmode"]);
    take_over(
        &fixture,
        &format!("{plain}?sslmode=verify-ca&sslrootcert=/none"),
    )
    .fails(2, &["cannot read the certificates", "/none"]);
}
