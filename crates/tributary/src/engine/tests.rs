//! The engine against real servers.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bson::{Document, doc};
use mongodb::Database;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tributary_flow::{Observer, Quiet};
use tributary_model::{Error, ErrorKind, Namespace, Result};
use tributary_orchestrator::config::{Plan, Work};
use tributary_orchestrator::engine::{Engine, Moved, Tell};
use tributary_testkit::{Mongod, Postgres, SharedMongod, SharedPostgres, unique_name};

use super::Pipes;

/// Nothing here may take longer.
const LIMIT: Duration = Duration::from_secs(120);

/// What a step has told.
#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    moved: Mutex<Moved>,
}

impl Log {
    fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    fn moved(&self) -> Moved {
        *self.moved.lock().unwrap()
    }
}

impl Tell for Log {
    fn tell(&self, line: &str) {
        self.lines.lock().unwrap().push(line.to_owned());
    }

    fn moved(&self, more: Moved) {
        *self.moved.lock().unwrap() += more;
    }
}

/// The collections that an observer was told of as failed.
#[derive(Default)]
struct Failures(Mutex<Vec<Namespace>>);

impl Observer for Failures {
    fn failed(&self, namespace: &Namespace, _error: &Error) {
        self.0.lock().unwrap().push(namespace.clone());
    }
}

/// A MongoDB database, a directory for lakes, and a PostgreSQL database where a test asks for one.
struct Place {
    mongod: SharedMongod,
    name: String,
    database: Database,
    directory: TempDir,
    postgres: Option<SharedPostgres>,
}

impl Place {
    async fn new(name: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mongod = Mongod::shared().await.unwrap();
        let name = unique_name(name);
        let database = mongod.client().await.unwrap().database(&name);
        Self {
            mongod,
            name,
            database,
            directory: TempDir::new().unwrap(),
            postgres: None,
        }
    }

    async fn with_postgres(mut self) -> Self {
        let server = Postgres::shared().await.unwrap();
        server.create_database(&self.name).await.unwrap();
        self.postgres = Some(server);
        self
    }

    async fn insert(&self, collection: &str, documents: Vec<Document>) {
        let collection = self.database.collection::<Document>(collection);
        collection.insert_many(documents).await.unwrap();
    }

    /// The plan of a file that begins with the places `shop`, `main` and `dwh`.
    fn plan(&self, rest: &str) -> Plan {
        let warehouse = match &self.postgres {
            Some(server) => {
                let uri = server.uri_for(&self.name);
                let uri = uri.replacen("postgresql://", "postgres://", 1);
                format!("warehouses: {{ dwh: {{ uri: '{uri}' }} }}\n")
            }
            None => String::new(),
        };
        let text = format!(
            "sources: {{ shop: {{ uri: '{}' }} }}\nlakes: {{ main: {{ path: lake }} }}\n{warehouse}{rest}",
            self.mongod.uri_for(&self.name)
        );
        let plan = Plan::parse(&text, self.directory.path(), &|_| None);
        plan.unwrap_or_else(|problems| panic!("{problems:?}\n{text}"))
    }

    fn index(&self) -> String {
        self.directory.path().join("index").display().to_string()
    }

    fn step(&self, step: &str) -> Work {
        let plan = self.plan(&format!("jobs: {{ j: {{ steps: {{ s: {step} }} }} }}\n"));
        plan.jobs["j"].steps["s"].work.clone()
    }

    async fn run(&self, step: &str) -> (Result<Moved>, Arc<Log>) {
        let log = Arc::new(Log::default());
        let work = self.step(step);
        let pipes = Pipes::default();
        let done = pipes.work(&work, log.clone(), CancellationToken::new());
        let done = tokio::time::timeout(LIMIT, done).await.expect("in time");
        (done, log)
    }

    async fn runs(&self, step: &str) -> Arc<Log> {
        let (done, log) = self.run(step).await;
        done.unwrap_or_else(|error| panic!("{error}\n{}", log.text()));
        log
    }

    async fn fails(&self, step: &str) -> (Error, Arc<Log>) {
        let (done, log) = self.run(step).await;
        (done.expect_err("it fails"), log)
    }

    /// What a query tells.
    async fn told(&self, query: &str) -> Result<String> {
        let query = query.replace('\'', "''");
        let (done, log) = self
            .run(&format!("{{ sql: {{ lake: main, query: '{query}' }} }}"))
            .await;
        done.map(|_| log.text())
    }

    async fn wait_for(&self, query: &str, part: &str) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let told = self.told(query).await;
            if told.as_ref().is_ok_and(|told| told.contains(part)) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "waited in vain for {part}: {told:?}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The first value of a query of PostgreSQL, as text; none where it fails.
    async fn in_postgres(&self, query: &str) -> Option<String> {
        let server = self.postgres.as_ref().unwrap();
        let client = server.client(&self.name).await.unwrap();
        let row = client.query_one(query, &[]).await.ok()?;
        row.get(0)
    }

    async fn wait_in_postgres(&self, query: &str, expected: &str) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let found = self.in_postgres(query).await;
            if found.as_deref() == Some(expected) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "waited in vain for {expected}: {found:?}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn follow(&self, flow: &str, observer: Arc<dyn Observer>) -> Following {
        let plan = self.plan(&format!("flows: {{ f: {flow} }}\n"));
        let flow = plan.flows["f"].clone();
        let stop = CancellationToken::new();
        let ends = stop.clone();
        let task =
            tokio::spawn(async move { Pipes::default().follow(&flow, observer, ends).await });
        Following { stop, task }
    }
}

/// A flow that runs.
struct Following {
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl Following {
    async fn ended(self) -> Result<()> {
        tokio::time::timeout(LIMIT, self.task)
            .await
            .expect("in time")
            .unwrap()
    }

    async fn stopped(self) {
        self.stop.cancel();
        self.ended().await.unwrap();
    }
}

fn orders(ids: std::ops::Range<i32>) -> Vec<Document> {
    ids.map(|id| doc! { "_id": id, "total": f64::from(id) * 1.5 })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_into_a_lake_goes_on_until_it_is_stopped() {
    let place = Place::new("engine_follow").await;
    place.insert("orders", orders(0..3)).await;
    let flow = format!(
        "{{ from: shop, to: main, options: {{ commit_interval: 100ms, index: '{}' }} }}",
        place.index()
    );
    let count = format!("SELECT count(*) AS n FROM {}.orders", place.name);
    let following = place.follow(&flow, Arc::new(Quiet));
    place.wait_for(&count, "| 3 ").await;
    place.insert("orders", orders(3..5)).await;
    place.wait_for(&count, "| 5 ").await;
    following.stopped().await;
    place.insert("orders", orders(5..6)).await;
    let following = place.follow(&flow, Arc::new(Quiet));
    place.wait_for(&count, "| 6 ").await;
    following.stopped().await;

    let flow = flow.replace("to: main,", "to: main, collections: [orders],");
    let plan = place.plan(&format!(
        "flows: {{ f: {flow}, g: {{ from: shop, to: main, collections: [other] }} }}\n"
    ));
    let tables = Pipes::default().tables(&plan.flows["f"]).await.unwrap();
    assert_eq!(tables.len(), 1);
    assert_eq!(tables[0].namespace, Namespace::new(&place.name, "orders"));
    assert!(
        Pipes::default()
            .tables(&plan.flows["g"])
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_whose_collections_have_all_failed_fails_and_one_of_nothing_does_too() {
    let place = Place::new("engine_failed").await;
    let flow = format!(
        "{{ from: shop, to: main, options: {{ index: '{}' }} }}",
        place.index()
    );
    let error = place
        .follow(&flow, Arc::new(Quiet))
        .ended()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    place.insert("orders", orders(0..3)).await;
    place.runs("{ copy: { from: shop, to: main } }").await;
    // A table that was copied has no position to go on from.
    let failures = Arc::new(Failures::default());
    let error = place
        .follow(&flow, failures.clone())
        .ended()
        .await
        .unwrap_err();
    assert_ne!(error.kind(), ErrorKind::Interrupted, "{error}");
    assert!(error.to_string().contains("orders"), "{error}");
    assert_eq!(failures.0.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_goes_through_a_lake_into_a_warehouse() {
    let place = Place::new("engine_through").await.with_postgres().await;
    place.insert("orders", orders(0..3)).await;
    let options = format!(
        "options: {{ commit_interval: 100ms, index: '{}' }}",
        place.index()
    );
    let count = format!("SELECT count(*)::text FROM {}.orders", place.name);
    let flow = format!("{{ from: shop, through: main, to: dwh, {options} }}");
    let following = place.follow(&flow, Arc::new(Quiet));
    place.wait_in_postgres(&count, "3").await;
    place.insert("orders", orders(3..5)).await;
    place.wait_in_postgres(&count, "5").await;
    following.stopped().await;
    let plan = place.plan(&format!("flows: {{ f: {flow} }}\n"));
    assert_eq!(
        Pipes::default()
            .tables(&plan.flows["f"])
            .await
            .unwrap()
            .len(),
        1
    );

    // From the lake alone.
    place.insert("orders", orders(5..6)).await;
    let sync = format!(
        "{{ sync: {{ from: shop, to: main, options: {{ index: '{}' }} }} }}",
        place.index()
    );
    let log = place.runs(&sync).await;
    assert_eq!(log.moved().documents, 1, "{}", log.text());
    let following = place.follow("{ from: main, to: dwh }", Arc::new(Quiet));
    place.wait_in_postgres(&count, "6").await;
    following.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_copy_catch_up_and_compare() {
    let place = Place::new("engine_steps").await;
    place.insert("orders", orders(0..10)).await;
    let log = place
        .runs("{ copy: { from: shop, to: main, format: jsonl } }")
        .await;
    assert_eq!(log.moved().documents, 10);
    assert!(log.moved().bytes > 0);
    assert!(
        log.text().contains("orders: 10 documents"),
        "{}",
        log.text()
    );
    std::fs::remove_dir_all(place.directory.path().join("lake")).unwrap();

    let sync = format!(
        "{{ sync: {{ from: shop, to: main, options: {{ index: '{}' }} }} }}",
        place.index()
    );
    // What was inserted at the moment that the load begins from may come as a change again.
    assert!(place.runs(&sync).await.moved().documents >= 10);
    place.insert("orders", orders(10..12)).await;
    assert_eq!(place.runs(&sync).await.moved().documents, 2);
    let verify = "{ verify: { from: shop, to: main, wait: 1s } }";
    let log = place.runs(verify).await;
    assert!(
        log.text().contains("orders: agrees, 12 rows"),
        "{}",
        log.text()
    );

    let table = place
        .directory
        .path()
        .join("lake")
        .join(&place.name)
        .join("orders");
    lose_rows(&table);
    let (error, log) = place.fails(verify).await;
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    let text = error.to_string();
    assert!(
        text.contains("orders (") && text.contains(" missing"),
        "{text}"
    );
    assert!(
        log.text().contains("missing in the table:"),
        "{}",
        log.text()
    );
    assert!(log.text().contains("_id "), "{}", log.text());

    let (error, _) = place.fails("{ command: { run: [x] } }").await;
    assert_eq!(error.kind(), ErrorKind::Internal);
}

/// Has a commit remove every file of a table, as another writer might.
fn lose_rows(table: &Path) {
    let log = table.join("_delta_log");
    let version = |number: usize| log.join(format!("{number:020}.json"));
    let next = (0..).find(|number| !version(*number).exists()).unwrap();
    let mut removes = String::new();
    for number in 0..next {
        for line in std::fs::read_to_string(version(number)).unwrap().lines() {
            let action: Value = serde_json::from_str(line).unwrap();
            let add = &action["add"];
            if add.is_object() {
                // A file is another one with another deletion vector.
                let remove = json!({
                    "path": add["path"], "deletionVector": add["deletionVector"],
                    "dataChange": true, "deletionTimestamp": 1,
                });
                removes.push_str(&format!("{}\n", json!({ "remove": remove })));
            }
        }
    }
    std::fs::write(version(next), removes).unwrap();
}

fn into(query: &str, table: &str) -> String {
    let query = query.replace('\'', "''");
    format!("{{ sql: {{ lake: main, query: '{query}', into: {table} }} }}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_result_of_a_query_becomes_a_table_of_its_own() {
    let place = Place::new("engine_into").await;
    place.insert("orders", orders(0..10)).await;
    let sync = format!(
        "{{ sync: {{ from: shop, to: main, options: {{ index: '{}' }} }} }}",
        place.index()
    );
    place.runs(&sync).await;
    let name = &place.name;
    let totals = format!(
        "SELECT _id % 2 AS \"odd one; (or not)\", sum(total) AS \"sum.total\", count(*) AS n, \
         CAST(1.25 AS DECIMAL(5,2)) AS price, DATE '2024-02-03' AS day, \
         TIMESTAMP '2024-02-03T04:05:06.000007' AS at, [1, 2] AS list, NULL AS nothing, \
         named_struct('a b', 'x') AS inner \
         FROM {name}.orders GROUP BY 1"
    );
    for _ in 0..2 {
        let log = place.runs(&into(&totals, "marts.totals")).await;
        assert_eq!(log.moved().documents, 2, "{}", log.text());
        assert!(log.moved().bytes > 0);
    }
    let told = place
        .told(
            "SELECT * FROM marts.totals WHERE price = 1.25 AND day > DATE '2024-02-02' ORDER BY 1",
        )
        .await
        .unwrap();
    for part in [
        "odd one; (or not)",
        "sum.total",
        "| 30.0 ",
        "| 37.5 ",
        "1.25",
        "2024-02-03",
        "04:05:06.000007",
        "[1, 2]",
        "a b: x",
        "2 rows",
    ] {
        assert!(told.contains(part), "no {part} in {told}");
    }
    // Other columns, none of the rows, and the very table that is read.
    place
        .runs(&into(
            &format!("SELECT _id FROM {name}.orders"),
            "marts.totals",
        ))
        .await;
    let more = "SELECT _id FROM marts.totals UNION ALL SELECT _id + 100 FROM marts.totals";
    place.runs(&into(more, "marts.totals")).await;
    let told = place
        .told("SELECT count(*) AS n, max(_id) AS most FROM marts.totals")
        .await
        .unwrap();
    assert!(told.contains("| 20 | 109 "), "{told}");
    place
        .runs(&into(
            "SELECT * FROM marts.totals WHERE _id < 0",
            "marts.totals",
        ))
        .await;
    let told = place
        .told("SELECT count(*) AS n FROM marts.totals")
        .await
        .unwrap();
    assert!(told.contains("| 0 "), "{told}");

    // What cannot be leaves everything as it was.
    let (error, _) = place
        .fails(&into("SELECT 1 AS a", &format!("{name}.orders")))
        .await;
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    let failing = format!("SELECT 1 / (_id - 5) AS a FROM {name}.orders");
    place.fails(&into(&failing, "marts.other")).await;
    assert!(place.told("SELECT * FROM marts.other").await.is_err());
    let (error, _) = place.fails(&into("SELECT 1 AS a", "_marts.a")).await;
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_joins_the_lake_with_a_warehouse() {
    let place = Place::new("engine_join").await.with_postgres().await;
    place.insert("orders", orders(0..3)).await;
    place.runs("{ copy: { from: shop, to: main } }").await;
    let script = "CREATE TABLE names (id int PRIMARY KEY, name text); \
                  INSERT INTO names VALUES (1, ''Ada''), (2, ''Bob'')";
    place
        .runs(&format!(
            "{{ sql: {{ warehouse: dwh, script: '{script}' }} }}"
        ))
        .await;
    let query = format!(
        "SELECT n.name, o.total FROM {}.orders o JOIN dwh.public.names n ON n.id = o._id",
        place.name
    );
    let step =
        format!("{{ sql: {{ lake: main, attach: [dwh], query: '{query}', into: marts.named }} }}");
    assert_eq!(place.runs(&step).await.moved().documents, 2);
    let told = place
        .told("SELECT * FROM marts.named ORDER BY name")
        .await
        .unwrap();
    assert!(
        told.contains("| Ada  | 1.5 ") && told.contains("| Bob  | 3.0 "),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_is_done_as_a_whole_or_not_at_all() {
    let place = Place::new("engine_script").await.with_postgres().await;
    let script = |script: &str| {
        let lines = script.lines().map(|line| format!("          {line}\n"));
        format!(
            "\n      sql:\n        warehouse: dwh\n        script: |\n{}",
            lines.collect::<String>()
        )
    };
    let in_steps = |text: String| text;
    let plan = |text: &str| {
        let text = format!("jobs:\n  j:\n   steps:\n     s:{}", in_steps(script(text)));
        place.plan(&text).jobs["j"].steps["s"].work.clone()
    };
    let run = async |text: &str| {
        let log = Arc::new(Log::default());
        let done = Pipes::default()
            .work(&plan(text), log.clone(), CancellationToken::new())
            .await;
        done.map(|_| log.text())
    };
    let told = run("CREATE TABLE a (n int);\n-- one; two\nINSERT INTO a VALUES (1), (2);\n").await;
    assert_eq!(told.unwrap(), "2 statements");
    let count = "SELECT count(*)::text FROM a";
    assert_eq!(place.in_postgres(count).await.as_deref(), Some("2"));

    let error = run("INSERT INTO a VALUES (3);\n\nINSERT INTO a\nVALUES (nothing);\n")
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("line 4") && text.contains("nothing"),
        "{text}"
    );
    let error = run("INSERT INTO a VALUES (4);\nCOMMIT;\nINSERT INTO b VALUES (1)")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    assert!(error.to_string().contains("line 2"), "{error}");
    assert_eq!(place.in_postgres(count).await.as_deref(), Some("2"));

    // One that is stopped in the middle of a statement.
    let (work, stop) = (
        plan("INSERT INTO a VALUES (5);\nSELECT pg_sleep(1000);"),
        CancellationToken::new(),
    );
    let ends = stop.clone();
    let running = tokio::spawn(async move {
        Pipes::default()
            .work(&work, Arc::new(Log::default()), ends)
            .await
    });
    let sleeping = "SELECT count(*)::text FROM pg_stat_activity \
                    WHERE datname = current_database() AND query LIKE 'SELECT pg_sleep%' AND state = 'active'";
    place.wait_in_postgres(sleeping, "1").await;
    stop.cancel();
    let error = tokio::time::timeout(LIMIT, running)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    place.wait_in_postgres(sleeping, "0").await;
    assert_eq!(place.in_postgres(count).await.as_deref(), Some("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_a_table_waits_with_is_approved() {
    let place = Place::new("engine_approve").await;
    place.insert("orders", orders(0..3)).await;
    let options = format!(
        "options: {{ commit_interval: 100ms, on_schema_change: stop, index: '{}' }}",
        place.index()
    );
    let flow = format!("{{ from: shop, to: main, {options} }}");
    let sync = format!("{{ sync: {flow} }}");
    place.runs(&sync).await;
    place
        .insert(
            "orders",
            vec![doc! { "_id": 100, "total": 1.0, "added": "x" }],
        )
        .await;
    let (error, _) = place.fails(&sync).await;
    assert_eq!(error.kind(), ErrorKind::SchemaChanged, "{error}");

    let plan = place.plan(&format!("flows: {{ f: {flow} }}\n"));
    let flow = &plan.flows["f"];
    let table = Namespace::new(&place.name, "orders");
    let tables = Pipes::default().tables(flow).await.unwrap();
    assert!(tables[0].is_waiting);
    Pipes::default().approve(flow, &table).await.unwrap();
    let error = Pipes::default().approve(flow, &table).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let other = Namespace::new(&place.name, "others");
    assert_eq!(
        Pipes::default()
            .approve(flow, &other)
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::NotFound
    );
    place.runs(&sync).await;
    let told = place
        .told(&format!(
            "SELECT added FROM {}.orders WHERE _id = 100",
            place.name
        ))
        .await;
    assert!(told.unwrap().contains("| x "));
}
