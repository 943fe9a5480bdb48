//! Triggers, functions and endpoints, by the file and through kills.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::{Document, doc};
use rand::Rng;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Api, Site};
use crate::support::{Run, run};

/// An application with these functions and triggers, as App Services exports it.
fn write_app(site: &Site, functions: &[(&str, &str)], triggers: &[(&str, Value)]) {
    let root = site.fixture.path("app");
    let write = |name: &str, text: String| {
        let path = std::path::Path::new(&root).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let _ = std::fs::remove_dir_all(&root);
    write("realm_config.json", json!({ "name": "shop" }).to_string());
    write(
        "data_sources/mongodb-atlas/config.json",
        json!({ "name": "mongodb-atlas", "type": "mongodb-atlas", "config": {} }).to_string(),
    );
    let listed: Vec<Value> = functions
        .iter()
        .map(|(name, _)| json!({ "name": name, "private": false, "run_as_system": true }))
        .collect();
    write("functions/config.json", json!(listed).to_string());
    for (name, source) in functions {
        write(&format!("functions/{name}.js"), (*source).to_owned());
    }
    for (name, trigger) in triggers {
        write(&format!("triggers/{name}.json"), trigger.to_string());
    }
}

/// A database trigger on `orders`, with more in its `config`.
fn on_orders(site: &Site, name: &str, function: &str, more: Value) -> Value {
    let mut config = json!({
        "service_name": "mongodb-atlas",
        "database": site.fixture.name,
        "collection": "orders",
        "operation_types": ["INSERT"],
    });
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    json!({
        "name": name,
        "type": "DATABASE",
        "disabled": false,
        "config": config,
        "event_processors": { "FUNCTION": { "config": { "function_name": function } } },
    })
}

/// The file with this application, and these options of it.
fn write_file(site: &Site, options: &str) {
    site.write(&format!(
        "apps: {{ shop: {{ path: app, source: shop, options: {options} }} }}\n"
    ));
}

fn trigger(site: &Site, arguments: &[&str]) -> Run {
    let file = site.file();
    run(&[&["trigger"], arguments, &["--config", &file]].concat())
}

impl Api {
    /// Waits until a trigger follows: what happens from then on is its.
    async fn wait_for_trigger(&self, name: &str) -> Value {
        let path = format!("/api/v1/triggers/{}", name.replace('/', "%2F"));
        self.wait(&path, "it runs", |trigger| {
            trigger["state"] == "running" && !trigger["positionAt"].is_null()
        })
        .await
    }
}

/// All documents of a collection, in the order in which they were put there.
async fn all(site: &Site, collection: &str) -> Vec<Document> {
    use futures::TryStreamExt;
    let collection = site.fixture.database.collection::<Document>(collection);
    let found = collection.find(doc! {}).sort(doc! { "$natural": 1 });
    found.await.unwrap().try_collect().await.unwrap()
}

async fn count(site: &Site, collection: &str) -> u64 {
    let collection = site.fixture.database.collection::<Document>(collection);
    collection.count_documents(doc! {}).await.unwrap()
}

/// Waits until a collection has so many documents.
async fn wait_for_count(site: &Site, collection: &str, expected: u64) {
    let deadline = std::time::Instant::now() + crate::support::LIMIT;
    loop {
        let found = count(site, collection).await;
        if found >= expected {
            return;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "{collection} has {found} of {expected}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const LOGS: &str = "exports = async function (event) {
  const log = context.services.get('mongodb-atlas').db(event.ns.db).collection('log');
  await log.insertOne({ key: event.documentKey._id, event: event._id._data });
};";

const ONCE: &str = "exports = async function (event) {
  const once = context.services.get('mongodb-atlas').db(event.ns.db).collection('once');
  await once.updateOne({ _id: event._id._data }, { $set: { key: event.documentKey._id } }, { upsert: true });
};";

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_application_runs_unchanged() {
    let site = Site::new("trigapp").await;
    let totals = "exports = async function (event) {
  const { fullDocument, ns, documentKey } = event;
  if (!(documentKey._id instanceof BSON.ObjectId)) throw new Error('no ObjectId');
  const totals = context.services.get('mongodb-atlas').db(ns.db).collection('totals');
  await totals.updateOne({ _id: fullDocument.customer }, { $inc: { n: 1, sum: fullDocument.total } }, { upsert: true });
  console.log('counted', fullDocument.customer);
  return context.functions.execute('double', fullDocument.total);
};";
    write_app(
        &site,
        &[
            ("totals", totals),
            ("double", "exports = (n) => n * 2;"),
            (
                "hello",
                "exports = ({ query }, response) => {
  if (query.name === 'ada') console.log('asked');
  response.setHeader('X-Hello', 'yes');
  return { hello: query.name };
};",
            ),
        ],
        &[("total", on_orders(&site, "total", "totals", json!({})))],
    );
    let endpoints = json!([{
        "route": "/hello", "http_method": "GET", "function_name": "hello",
        "validation_method": "NO_VALIDATION", "respond_result": true, "return_type": "JSON", "disabled": false,
    }]);
    let directory = site.fixture.path("app/http_endpoints");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(format!("{directory}/config.json"), endpoints.to_string()).unwrap();
    write_file(&site, "{}");

    // A database that is not there is told by `check`.
    site.fixture.insert("others", vec![doc! {}]).await;
    let checked = run(&["check", &site.file()]).ok().stdout;
    assert!(checked.contains("app shop: "), "{checked}");

    let (running, api) = site.start().await;
    api.wait_for_trigger("shop/total").await;
    for total in [5, 7] {
        let order = doc! { "customer": "ada", "total": total };
        site.fixture.insert("orders", vec![order]).await;
    }
    api.wait("/api/v1/triggers/shop%2Ftotal", "both ran", |trigger| {
        trigger["succeeded"] == 2
    })
    .await;
    assert_eq!(
        all(&site, "totals").await,
        [doc! { "_id": "ada", "n": 2, "sum": 12 }]
    );

    let answer = api
        .send(Method::GET, "/app/shop/endpoint/hello?name=ada")
        .await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-hello"], "yes");
    assert_eq!(
        answer.json::<Value>().await.unwrap(),
        json!({ "hello": "ada" })
    );

    // One that says nothing and succeeds is not logged.
    let answer = api
        .send(Method::GET, "/app/shop/endpoint/hello?name=eve")
        .await;
    assert_eq!(answer.status(), 200);
    let list = trigger(&site, &["list"]).ok().stdout;
    assert!(
        list.contains("shop/total") && list.contains("orders"),
        "{list}"
    );
    running.stop().ok();

    // What has ended is recorded before the process ends.
    let (running, _) = site.start().await;
    let runs = trigger(&site, &["runs", "--output", "json"]).ok().rows();
    let runs = runs[0]["runs"].as_array().unwrap().clone();
    let of = |function: &str| {
        runs.iter()
            .filter(|run| run["function"] == function)
            .count()
    };
    assert_eq!((of("totals"), of("hello")), (2, 1), "{runs:#?}");
    running.stop().ok();

    let file = site.file();
    let function =
        |arguments: &[&str]| run(&[&["function"], arguments, &["--config", &file]].concat());
    assert_eq!(
        function(&["run", "double", "--arg", "21"]).ok().stdout,
        "42\n"
    );
    function(&["run", "nope"]).fails(2, &["there is no such function", "double, hello, totals"]);
    function(&["run", "double", "--arg", "{"]).fails(2, &["an argument is not Extended JSON"]);
    let cases = site.fixture.path("cases");
    std::fs::create_dir_all(&cases).unwrap();
    let case = |name: &str, case: Value| {
        std::fs::write(format!("{cases}/{name}.json"), case.to_string()).unwrap();
    };
    case(
        "good",
        json!({ "function": "double", "args": [4], "returns": 8 }),
    );
    let tested = function(&["test", &cases]).ok().stdout;
    assert!(tested.contains("1 passed, 0 failed"), "{tested}");
    case(
        "bad",
        json!({ "function": "double", "args": [4], "returns": 9 }),
    );
    let tested = function(&["test", &cases]);
    assert_eq!(tested.code, Some(1));
    assert!(
        tested
            .stdout
            .contains("FAILED  bad: it returned 8 and not 9"),
        "{tested:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn triggers_lose_nothing_over_thirty_kills() {
    let site = Site::new("trigkill").await;
    write_app(
        &site,
        &[("logs", LOGS), ("once", ONCE)],
        &[
            ("ordered", on_orders(&site, "ordered", "logs", json!({}))),
            (
                "unordered",
                on_orders(&site, "unordered", "once", json!({ "unordered": true })),
            ),
        ],
    );
    write_file(&site, "{}");
    let (mut running, api) = site.start().await;
    api.wait_for_trigger("shop/ordered").await;
    api.wait_for_trigger("shop/unordered").await;
    let orders = site.fixture.database.collection::<Document>("orders");
    let writer = tokio::spawn(async move {
        let mut key = 0;
        loop {
            orders.insert_one(doc! { "_id": key }).await.unwrap();
            key += 1;
            if key % 10 == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            if key == 6_000 {
                return key;
            }
        }
    });
    for _ in 0..30 {
        let pause = rand::rng().random_range(20..400);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        running.kill();
        running = site.start().await.0;
    }
    let written: i32 = writer.await.unwrap();
    wait_for_count(&site, "once", written as u64).await;
    let keys: Vec<i32> = {
        let log = || async { all(&site, "log").await };
        let deadline = std::time::Instant::now() + crate::support::LIMIT;
        loop {
            let keys: Vec<i32> = log()
                .await
                .iter()
                .map(|entry| entry.get_i32("key").unwrap())
                .collect();
            if keys.last() == Some(&(written - 1)) {
                break keys;
            }
            assert!(std::time::Instant::now() < deadline, "{:?}", keys.last());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    running.stop().ok();
    // What was repeated was repeated in order: never does it jump ahead.
    let mut next = 0;
    for key in &keys {
        assert!(*key <= next, "{key} came before {next}");
        next = next.max(key + 1);
    }
    assert_eq!(next, written);
    // Each event had its effect once where that is by its id.
    let mut seen = BTreeMap::new();
    for entry in all(&site, "once").await {
        *seen.entry(entry.get_i32("key").unwrap()).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), written as usize);
    assert!(seen.values().all(|times| *times == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_changes_is_taken_into_use_and_dead_letters_are_tried_again() {
    let site = Site::new("trigdlq").await;
    let bad = "exports = function (event) {\n  throw new Error('not yet');\n};";
    let on = on_orders(&site, "t", "f", json!({}));
    write_app(&site, &[("f", bad)], &[("t", on.clone())]);
    let options = "{ retries: { times: 1, wait: 10ms } }";
    write_file(&site, options);
    let (running, api) = site.start().await;
    api.wait_for_trigger("shop/t").await;
    site.insert(0..3).await;
    api.wait("/api/v1/triggers/shop%2Ft", "three are dead", |trigger| {
        trigger["deadLetters"] == 3
    })
    .await;
    let letters = trigger(&site, &["dlq", "list", "shop/t", "--output", "json"]);
    let letters = letters.ok().rows()[0]["deadLetters"]
        .as_array()
        .unwrap()
        .clone();
    let id = letters[0]["id"].as_str().unwrap();
    let shown = trigger(&site, &["dlq", "show", id]).ok().stdout;
    assert!(
        shown.contains("not yet") && shown.contains("insert"),
        "{shown}"
    );
    let failed = trigger(&site, &["runs", "--failed", "--output", "json"])
        .ok()
        .rows();
    let run = &failed[0]["runs"][0];
    assert_eq!(
        (&run["error"]["file"], &run["error"]["line"]),
        (&json!("functions/f.js"), &json!(2)),
        "{run:#}"
    );

    // A file that is no JavaScript is told when it runs; one that is gone is told at once, and changes nothing.
    std::fs::remove_file(site.fixture.path("app/functions/f.js")).unwrap();
    let refused = api.send(Method::POST, "/api/v1/reload").await;
    assert!(!refused.status().is_success());
    let why = refused.text().await.unwrap();
    assert!(why.contains("`f`") || why.contains(" f"), "{why}");

    write_app(&site, &[("f", ONCE)], &[("t", on)]);
    api.post("/api/v1/reload").await;
    site.insert(3..4).await;
    wait_for_count(&site, "once", 1).await;
    trigger(&site, &["dlq", "discard", id]).ok();
    trigger(&site, &["dlq", "replay", "--all", "shop/t"]).ok();
    wait_for_count(&site, "once", 3).await;
    api.wait("/api/v1/triggers/shop%2Ft", "none is dead", |trigger| {
        trigger["deadLetters"] == 0
    })
    .await;
    assert_eq!(count(&site, "once").await, 3);
    running.stop().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn triggers_are_paused_resumed_and_replayed_by_hand() {
    let site = Site::new("trighand").await;
    let on = |name: &str, function: &str| on_orders(&site, name, function, json!({}));
    write_app(
        &site,
        &[("logs", LOGS), ("once", ONCE)],
        &[("t", on("t", "logs")), ("other", on("other", "once"))],
    );
    write_file(&site, "{}");
    let (running, api) = site.start().await;
    api.wait_for_trigger("shop/t").await;
    api.wait_for_trigger("shop/other").await;
    let began = chrono::Utc::now() - chrono::TimeDelta::seconds(1);
    site.insert(0..2).await;
    wait_for_count(&site, "log", 2).await;
    running.stop().ok();

    trigger(&site, &["pause", "shop/t"]).ok();
    let (running, _) = site.start().await;
    site.insert(2..4).await;
    // What the other one has been told of has passed the paused one by.
    wait_for_count(&site, "once", 4).await;
    assert_eq!(count(&site, "log").await, 2);
    trigger(&site, &["resume", "shop/t"]).ok();
    wait_for_count(&site, "log", 4).await;

    let from = began.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    trigger(&site, &["replay", "shop/t", "--from", &from]).ok();
    wait_for_count(&site, "log", 8).await;
    trigger(&site, &["pause", "shop/nope"]).fails(1, &["shop/nope"]);
    trigger(&site, &["replay", "shop/t", "--from", "yesterday"]).fails(2, &["this is no moment"]);
    running.stop().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_and_a_memory_bomb_harm_no_other_trigger() {
    let site = Site::new("trigbomb").await;
    let bomb =
        "exports = () => { const all = []; for (;;) all.push('x'.repeat(1 << 20) + all.length); };";
    let triggers = [
        ("loops", on_orders(&site, "loops", "loop", json!({}))),
        ("bombs", on_orders(&site, "bombs", "bomb", json!({}))),
        ("logs", on_orders(&site, "logs", "logs", json!({}))),
    ];
    let functions = [
        ("loop", "exports = () => { for (;;); };"),
        ("bomb", bomb),
        ("logs", LOGS),
    ];
    write_app(&site, &functions, &triggers);
    site.write(
        "apps: { shop: { path: app, source: shop, options: { memory: 64MB, retries: { times: 0 } }, triggers: { loops: { timeout: 1s } } } }\n",
    );
    let (running, api) = site.start().await;
    for (name, _) in &triggers {
        api.wait_for_trigger(&format!("shop/{name}")).await;
    }
    site.insert(0..3).await;
    wait_for_count(&site, "log", 3).await;
    for (name, why) in [("loops", "time"), ("bombs", "memory")] {
        let path = format!("/api/v1/triggers/shop%2F{name}");
        let trigger = api
            .wait(&path, "all three are dead", |trigger| {
                trigger["deadLetters"] == 3
            })
            .await;
        let error = trigger["lastError"]
            .as_str()
            .unwrap_or_default()
            .to_lowercase();
        assert!(error.contains(why), "{trigger:#}");
    }
    site.insert(3..4).await;
    wait_for_count(&site, "log", 4).await;
    running.stop().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_writes_to_its_own_collection_without_end_is_suspended() {
    let site = Site::new("trigself").await;
    let again = "exports = async function (event) {
  const own = context.services.get('mongodb-atlas').db(event.ns.db).collection('orders');
  await own.insertOne({ again: true });
};";
    let on = on_orders(&site, "t", "again", json!({}));
    write_app(&site, &[("again", again)], &[("t", on)]);
    write_file(&site, "{}");
    let (running, api) = site.start().await;
    api.wait_for_trigger("shop/t").await;
    site.insert(0..1).await;
    let trigger = api
        .wait("/api/v1/triggers/shop%2Ft", "it is suspended", |trigger| {
            trigger["state"] == "suspended"
        })
        .await;
    let reason = trigger["reason"].as_str().unwrap();
    assert!(reason.starts_with("it sets itself off"), "{trigger:#}");
    let written = count(&site, "orders").await;
    assert!((100..1_000).contains(&written), "{written}");
    running.stop().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_is_wrong_starts_nothing() {
    let site = Site::new("trigwrong").await;
    write_file(&site, "{}");
    run(&["run", &site.file()]).fails(2, &["app"]);
    let on = on_orders(&site, "t", "lgos", json!({}));
    write_app(&site, &[("logs", LOGS)], &[("t", on)]);
    run(&["run", &site.file()]).fails(2, &["triggers/t.json", "lgos", "logs"]);
    run(&["check", &site.file()]).fails(2, &["lgos"]);
    let path = site.fixture.path("app/triggers/t.json");
    std::fs::write(path, "{ \"name\": \"t\",").unwrap();
    run(&["run", &site.file()]).fails(2, &["triggers/t.json"]);
    let on = on_orders(&site, "t", "logs", json!({}));
    write_app(&site, &[("logs", LOGS)], &[("t", on)]);
    site.write("apps: { shop: { path: app } }\n");
    run(&["run", &site.file()]).fails(
        2,
        &["which source a data source of the application stands for"],
    );
    site.write(
        "apps: { shop: { path: app, source: shop, triggers: { tt: { disabled: true } } } }\n",
    );
    run(&["run", &site.file()]).fails(2, &["has no such trigger", "it has t"]);
}
