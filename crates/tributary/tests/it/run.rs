//! `tributary run` and the commands beside it: flows and jobs of one file, through kills, other files and faults.

mod api;
mod copies;
mod here;
mod objects;
mod publish;
mod silent;
mod triggers;
mod wrong;

use std::process::Command;
use std::time::{Duration, Instant};

use bson::doc;
use reqwest::Method;
use serde_json::Value;
use tributary_testkit::{Signal, send_signal};

use crate::running::Running;
use crate::support::{Fixture, LIMIT, Run, command, run};
use crate::warehouse::Warehouse;

/// A `tributary.yaml` with its directory and a database.
struct Site {
    fixture: Fixture,
}

impl Site {
    async fn new(name: &str) -> Self {
        Self {
            fixture: Fixture::new(name).await,
        }
    }

    fn file(&self) -> String {
        self.fixture.path("tributary.yaml")
    }

    /// Writes the file: a source, a lake, a server on a free port, and this.
    fn write(&self, rest: &str) {
        let uri = self.fixture.uri();
        self.write_all(&format!(
            "sources: {{ shop: {{ uri: '{uri}' }} }}\nlakes: {{ main: {{ path: lake }} }}\n\
             server: {{ listen: '127.0.0.1:0' }}\n{rest}"
        ));
    }

    fn write_all(&self, text: &str) {
        std::fs::write(self.file(), text).unwrap();
    }

    fn command(&self) -> Command {
        command(&["run", &self.file(), "--output", "json"])
    }

    /// Starts `tributary run`, and waits until its API listens.
    async fn start(&self) -> (Running, Api) {
        self.start_with(self.command()).await
    }

    async fn start_with(&self, command: Command) -> (Running, Api) {
        let mut running = Running::start(command);
        running.wait_for_events("listening", 1).await;
        let event = running.last_event("listening");
        let address = event["address"].as_str().unwrap().to_owned();
        (running, Api::new(address))
    }

    /// A command about jobs.
    fn job(&self, arguments: &[&str]) -> Run {
        let file = self.file();
        run(&[&["job"], arguments, &["--config", &file]].concat())
    }

    /// The lines that the steps of jobs have written into a file.
    fn lines(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.fixture.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    async fn insert(&self, keys: std::ops::Range<i32>) {
        let documents = keys.map(|key| doc! { "_id": key, "n": key }).collect();
        self.fixture.insert("orders", documents).await;
    }
}

impl Site {
    /// Changes some of these documents, and deletes ten.
    async fn change(&self, keys: std::ops::Range<i32>) {
        let orders = self.fixture.database.collection::<bson::Document>("orders");
        let of = |from: i32, to: i32| doc! { "_id": { "$gte": from, "$lt": to } };
        let deleted = orders.delete_many(of(keys.start, keys.start + 10)).await;
        assert_eq!(deleted.unwrap().deleted_count, 10);
        let more = doc! { "$inc": { "n": 1 } };
        let updated = orders
            .update_many(of(keys.start + 10, keys.end), more)
            .await;
        assert_eq!(updated.unwrap().modified_count, 40);
    }
}

/// The API of a process.
struct Api {
    address: String,
    client: reqwest::Client,
    token: Option<&'static str>,
}

impl Api {
    fn new(address: String) -> Self {
        Self {
            address,
            client: reqwest::Client::new(),
            token: None,
        }
    }

    async fn send(&self, method: Method, path: &str) -> reqwest::Response {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.address));
        if let Some(token) = self.token {
            request = request.bearer_auth(token);
        }
        request.send().await.unwrap()
    }

    /// What is answered to GET; nothing where it is refused.
    async fn get(&self, path: &str) -> Value {
        let answer = self.send(Method::GET, path).await;
        answer.json().await.unwrap_or_default()
    }

    #[track_caller]
    fn post(&self, path: &str) -> impl Future<Output = Value> {
        let sent = self.send(Method::POST, path);
        async move {
            let answer = sent.await;
            let status = answer.status();
            let text = answer.text().await.unwrap();
            assert!(status.is_success(), "{status}: {text}");
            serde_json::from_str(&text).unwrap()
        }
    }

    /// Asks until the answer is as it is to be, and answers it.
    async fn wait(&self, path: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + LIMIT;
        loop {
            let answer = self.get(path).await;
            if is_so(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{what} in vain: {answer:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn wait_for_flow(&self, name: &str, state: &str) -> Value {
        let path = format!("/api/v1/flows/{name}");
        self.wait(&path, state, |flow| flow["state"] == state).await
    }

    async fn wait_for_run(&self, id: &str, state: &str) -> Value {
        let path = format!("/api/v1/runs/{id}");
        self.wait(&path, state, |run| run["state"] == state).await
    }
}

/// Waits until PostgreSQL answers a query with this number.
async fn wait_for_number(warehouse: &Warehouse, query: &str, expected: i64) {
    let client = warehouse.client().await;
    let deadline = Instant::now() + LIMIT;
    loop {
        let row = client.query_one(query, &[]).await;
        let number = row.map(|row| row.get::<_, i64>(0));
        if matches!(number, Ok(number) if number == expected) {
            return;
        }
        assert!(Instant::now() < deadline, "{query}: {number:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_keeps_flows_going_and_runs_jobs() {
    let site = Site::new("runall").await;
    let warehouse = Warehouse::postgres(&site.fixture).await;
    let (name, uri) = (&site.fixture.name, site.fixture.uri());
    site.write_all(&format!(
        "\
sources: {{ shop: {{ uri: '{uri}' }} }}
lakes: {{ main: {{ path: lake }}, copies: {{ path: copies }} }}
warehouses: {{ dwh: {{ uri: '{}' }} }}
server: {{ listen: '127.0.0.1:0' }}
flows:
  in: {{ from: shop, to: main, collections: [orders], options: {{ commit_interval: 50ms }} }}
  out: {{ from: main, to: dwh, options: {{ commit_interval: 50ms }} }}
jobs:
  totals:
    steps:
      load: {{ copy: {{ from: shop, to: copies, overwrite: true }} }}
      sum: {{ needs: [load], sql: {{ lake: copies, query: 'SELECT count(*) AS n FROM {name}.orders', into: {name}.totals }} }}
      tell: {{ needs: [sum], command: {{ run: [sh, -c, 'echo it is said; echo $TRIBUTARY_STEP >> lines'] }} }}
      same: {{ needs: [tell], verify: {{ from: shop, to: main, collections: [orders] }} }}
",
        warehouse.uri
    ));
    site.insert(0..20).await;
    let (running, api) = site.start().await;
    let count = format!("SELECT count(*) FROM \"{name}\".\"orders\"");
    wait_for_number(&warehouse, &count, 20).await;
    site.insert(20..30).await;
    wait_for_number(&warehouse, &count, 30).await;
    api.wait_for_flow("in", "following").await;

    let run = site.job(&["run", "totals", "--wait", "--output", "json"]);
    let rows = run.ok().rows();
    let run = &rows.last().unwrap()["run"];
    assert_eq!(run["state"], "succeeded", "{run:#}");
    let mut steps: Vec<&str> = Vec::new();
    for step in run["steps"].as_array().unwrap() {
        assert_eq!(step["state"], "succeeded", "{step:#}");
        steps.push(step["name"].as_str().unwrap());
    }
    assert_eq!(steps, ["load", "sum", "tell", "same"]);
    assert_eq!(run["steps"][0]["documents"], 30);
    assert_eq!(site.lines("lines"), ["tell"]);
    let totals = format!("SELECT n FROM {name}.totals");
    let rows = crate::support::sql_of(&site.fixture.path("copies"), &totals);
    assert_eq!(rows[0]["n"], 30);

    let id = run["id"].as_str().unwrap();
    let shown = site.job(&["show", id]).ok().stdout;
    assert!(shown.contains("it is said"), "{shown}");
    assert!(shown.contains("verify   succeeded"), "{shown}");
    let shown = site.job(&["show", id, "--output", "json"]).ok().rows();
    assert_eq!(&shown[0]["run"], run);
    let history = site.job(&["history", "--job", "totals"]).ok().stdout;
    assert!(
        history.contains(id) && history.contains("asked for by command line"),
        "{history}"
    );
    let history = site.job(&["history", "--state", "failed", "--output", "json"]);
    assert_eq!(history.ok().rows()[0]["runs"], serde_json::json!([]));
    let list = site.job(&["list"]).ok().stdout;
    assert!(
        list.contains("totals") && list.contains("when asked"),
        "{list}"
    );
    let list = site.job(&["list", "--output", "json"]).ok().rows();
    assert_eq!(list[0]["jobs"][0]["lastRun"]["id"], id);
    assert_eq!(list[0]["jobs"][0]["steps"], serde_json::json!(steps));

    let ended = running.stop().ok();
    assert!(ended.stdout.contains(r#""event":"stopped""#), "{ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_killed_goes_on_where_it_was() {
    let site = Site::new("runkill").await;
    site.write(
        "\
flows:
  in: { from: shop, to: main, collections: [orders], options: { commit_interval: 20ms } }
jobs:
  long:
    steps:
      first: { command: { run: [sh, -c, 'echo first >> lines'] } }
      second:
        needs: [first]
        command: { run: [sh, -c, 'echo second >> lines; for i in $(seq 3000); do [ -e go ] && exit 0; sleep 0.05; done; exit 1'] }
      third: { needs: [second], command: { run: [sh, -c, 'echo third >> lines'] } }
",
    );
    site.insert(0..50).await;
    let (mut running, api) = site.start().await;
    let run = api.post("/api/v1/jobs/long/runs").await;
    let id = run["id"].as_str().unwrap().to_owned();
    for round in 1..=2 {
        site.fixture
            .wait_until("the second step runs", || site.lines("lines").len() > round)
            .await;
        let key = round as i32 * 50;
        for part in 0..5 {
            site.insert(key + part * 10..key + part * 10 + 10).await;
            // The kill is among the writes, and what is written after it is not seen by the killed.
            if part == 2 {
                running.kill();
            }
        }
        site.change(key - 50..key).await;
        running = site.start().await.0;
    }
    std::fs::write(site.fixture.path("go"), "").unwrap();
    let file = site.file();
    let done = |run: &Run| run.code == Some(0) && run.stdout.contains(": succeeded");
    site.fixture
        .wait_until("the run has ended", || {
            done(&crate::support::run(&[
                "job", "show", &id, "--config", &file,
            ]))
        })
        .await;
    let lines = site.lines("lines");
    assert_eq!(lines.iter().filter(|line| *line == "first").count(), 1);
    assert_eq!(lines.iter().filter(|line| *line == "second").count(), 3);
    assert_eq!(lines.last().unwrap(), "third");
    site.fixture.wait_for_rows("orders", 130).await;
    running.stop().ok();
    let (uri, lake) = (site.fixture.uri(), site.fixture.lake());
    crate::support::run(&["verify", &uri, &lake, "--collection", "orders"]).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_through_a_lake_where_nothing_changes_says_that_it_follows_and_how_far_it_is() {
    let site = Site::new("runthrough").await;
    let warehouse = Warehouse::postgres(&site.fixture).await;
    let (name, uri) = (&site.fixture.name, site.fixture.uri());
    site.write_all(&format!(
        "\
sources: {{ shop: {{ uri: '{uri}' }} }}
lakes: {{ main: {{ path: lake }} }}
warehouses: {{ dwh: {{ uri: '{}' }} }}
server: {{ listen: '127.0.0.1:0' }}
flows:
  all: {{ from: shop, through: main, to: dwh, collections: [orders], options: {{ commit_interval: 50ms }} }}
",
        warehouse.uri
    ));
    site.insert(0..5).await;
    // The second time everything is there already.
    for _ in 0..2 {
        let (running, api) = site.start().await;
        let flow = api.wait_for_flow("all", "following").await;
        let count = format!("SELECT count(*) FROM \"{name}\".\"orders\"");
        wait_for_number(&warehouse, &count, 5).await;
        assert_eq!(flow["tables"][0]["state"], "following", "{flow:#}");
        assert!(flow["tables"][0]["lagSeconds"].is_number(), "{flow:#}");
        let is_read = |sources: &Value| {
            sources[0]["connected"] == true && sources[0]["oplogWindowSeconds"].is_number()
        };
        api.wait("/api/v1/sources", "read", is_read).await;
        running.stop().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_taken_into_use_without_touching_what_it_leaves() {
    let site = Site::new("runhup").await;
    let first = "flows:\n  a: { from: shop, to: main, collections: [orders] }\n";
    let second = format!("{first}  b: {{ from: shop, to: main, collections: [others] }}\n");
    site.write(first);
    site.insert(0..5).await;
    site.fixture.insert("others", vec![doc! { "_id": 1 }]).await;
    let (running, api) = site.start().await;
    let before = api.wait_for_flow("a", "following").await;

    site.write(&second);
    send_signal(&running.child, Signal::HUP).unwrap();
    api.wait_for_flow("b", "following").await;
    site.fixture.wait_for_rows("others", 1).await;
    let after = api.get("/api/v1/flows/a").await;
    assert_eq!(after["since"], before["since"]);
    assert_eq!(after["restarts"], 0);

    site.write(&second.replace("others]", "others], colour: red"));
    let refused = api.send(Method::POST, "/api/v1/reload").await;
    assert!(!refused.status().is_success(), "{}", refused.status());
    send_signal(&running.child, Signal::HUP).unwrap();
    // What is asked for next is done behind it.
    site.insert(5..10).await;
    site.fixture.wait_for_rows("orders", 10).await;
    let flows = api.get("/api/v1/flows").await;
    assert_eq!(flows.as_array().unwrap().len(), 2, "{flows:#}");
    assert_eq!(api.get("/api/v1/flows/a").await["since"], before["since"]);
    let ended = running.stop().ok();
    let told = "tributary.yaml:6:";
    assert!(
        ended.stderr.contains(told) && ended.stderr.contains("there is no key `colour`"),
        "{ended:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_to_read_the_file_again_ends_nothing_at_the_start() {
    let site = Site::new("runhupearly").await;
    // Who opens it waits for the other.
    let made = Command::new("mkfifo").arg(site.file()).status().unwrap();
    assert!(made.success());
    let mut running = Running::start(site.command());
    let file = site.file();
    let opened = tokio::task::spawn_blocking(move || std::fs::File::create(file));
    let mut file = opened.await.unwrap().unwrap();
    send_signal(&running.child, Signal::HUP).unwrap();
    std::io::Write::write_all(&mut file, b"state: state\n").unwrap();
    // What is read again is a file like others.
    let other = site.fixture.path("other");
    std::fs::write(&other, "state: state\n").unwrap();
    std::fs::rename(&other, site.file()).unwrap();
    drop(file);
    running.wait_for_events("reloaded", 1).await;
    running.stop().ok();
}
