//! Warehouses that do not answer: what waits for them says so, and holds up nothing else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::Site;
use crate::support::LIMIT;
use crate::warehouse::Warehouse;

/// Nothing that is asked for may wait for a server that is silent.
const AT_ONCE: Duration = Duration::from_secs(30);

/// A server that accepts connections, and says nothing.
struct Silent {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Silent {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::default());
        let counts = Arc::clone(&accepted);
        let task = tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                kept.push(stream);
                counts.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self {
            address,
            accepted,
            _task: AbortOnDropHandle::new(task),
        }
    }

    fn uri(&self, options: &str) -> String {
        format!("postgres://user:password@{}/db?{options}", self.address)
    }

    async fn wait_for_connections(&self, count: usize) {
        let deadline = Instant::now() + LIMIT;
        while self.accepted.load(Ordering::Relaxed) < count {
            assert!(Instant::now() < deadline, "nobody has connected");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warehouse_that_is_silent_is_told_and_holds_up_nothing() {
    let site = Site::new("runsilent").await;
    let (hasty, patient) = (Silent::start().await, Silent::start().await);
    let (soon, late) = (
        hasty.uri("sslmode=disable&connect_timeout=1"),
        patient.uri("connect_timeout=600"),
    );
    let other = soon.replace("/db?", "/db_of_others?");
    let first = format!(
        "warehouses: {{ soon: {{ uri: '{soon}' }}, other: {{ uri: '{other}' }}, late: {{ uri: '{late}' }} }}\n\
         jobs: {{ j: {{ steps: {{ load: {{ copy: {{ from: main, to: late }}, timeout: 1s }} }} }} }}\n\
         flows:\n  told: {{ from: main, to: soon }}\n  staged: {{ from: shop, to: other, through: main }}\n"
    );
    site.write(&format!("{first}  waits: {{ from: main, to: late }}\n"));
    site.insert(0..5).await;
    let (running, api) = site.start().await;
    for flow in ["told", "staged"] {
        let told = api
            .wait(&format!("/api/v1/flows/{flow}"), "an error", |flow| {
                flow["state"] == "retrying" && flow["error"].is_string()
            })
            .await;
        let error = told["error"].as_str().unwrap();
        let server = format!("postgres://{}/db", hasty.address);
        assert!(
            error.contains("does not answer") && error.contains(&server),
            "{error}"
        );
    }
    // What comes into the lake before it goes on.
    site.fixture.wait_for_rows("orders", 5).await;

    patient.wait_for_connections(1).await;
    let begun = Instant::now();
    api.post("/api/v1/flows/waits/stop").await;
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    api.post("/api/v1/flows/waits/start").await;
    patient.wait_for_connections(2).await;
    site.write(&first);
    let begun = Instant::now();
    let reloaded = api.post("/api/v1/reload").await;
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert_eq!(reloaded["stopped"][0], "waits", "{reloaded:#}");

    let begun = Instant::now();
    let run = api.post("/api/v1/jobs/j/runs").await;
    let failed = api
        .wait_for_run(run["id"].as_str().unwrap(), "failed")
        .await;
    assert!(
        failed["error"].as_str().unwrap().contains("longer than"),
        "{failed:#}"
    );
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());

    let begun = Instant::now();
    running.stop().ok();
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
}

/// Passes everything on to a server but the answer to `COMMIT`, in whose place the connection ends.
async fn cuts_commits(server: String) -> (SocketAddr, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.unwrap();
            tokio::spawn(pass_until_commit(client, server));
        }
    });
    (address, AbortOnDropHandle::new(task))
}

async fn pass_until_commit(mut client: TcpStream, mut server: TcpStream) {
    let (mut said, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        tokio::select! {
            read = client.read(&mut said) => {
                let Ok(count @ 1..) = read else { return };
                server.write_all(&said[..count]).await.unwrap();
                if said[..count].windows(6).any(|part| part == b"COMMIT") {
                    // It has been done when that comes.
                    assert!(server.read(&mut answered).await.unwrap() > 0);
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(count @ 1..) = read else { return };
                client.write_all(&answered[..count]).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_whose_commit_is_not_answered_is_not_run_again() {
    let site = Site::new("runcommit").await;
    let warehouse = Warehouse::postgres(&site.fixture).await;
    warehouse.execute("CREATE TABLE totals (n int)").await;
    let mut uri = Url::parse(&warehouse.uri).unwrap();
    let server = format!("{}:{}", uri.host_str().unwrap(), uri.port().unwrap());
    let (proxy, _task) = cuts_commits(server).await;
    uri.set_host(Some(&proxy.ip().to_string())).unwrap();
    uri.set_port(Some(proxy.port())).unwrap();
    uri.set_query(Some("sslmode=disable"));
    let uri = uri.as_str().replacen("postgresql://", "postgres://", 1);
    site.write(&format!(
        "warehouses: {{ dwh: {{ uri: '{uri}' }} }}\n\
         jobs:\n  j:\n    steps:\n      s:\n        retries: {{ times: 2, wait: 10ms }}\n        \
         sql: {{ warehouse: dwh, script: 'insert into totals values (1)' }}\n"
    ));
    let ended = site.job(&["run", "j"]);
    let told = "it is not known whether the script has been done";
    assert!(
        ended.code == Some(1) && ended.stdout.contains(told),
        "{ended:#?}"
    );
    assert_eq!(warehouse.number("SELECT count(*) FROM totals").await, 1);
}
