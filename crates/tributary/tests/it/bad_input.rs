//! Whatever is wrong, one clear error that says what to do, and the right exit code.

use std::time::{Duration, Instant};

use bson::doc;
use tributary_testkit::{FaultProxy, Mode, Mongod};

use crate::support::{Fixture, NOBODY, command, filler, run, run_command};

#[tokio::test]
async fn wrong_usage_is_told_with_exit_code_2() {
    let fixture = Fixture::new("usage").await;
    fixture.insert("c", vec![doc! { "x": 1 }]).await;
    let (uri, lake) = (fixture.uri(), fixture.lake());
    let copy = |arguments: &[&str]| run(&[&["copy"], arguments].concat());

    copy(&["mysql://localhost/x", &lake]).fails(
        2,
        &["not a MongoDB address", "mongodb://host:port/database"],
    );
    copy(&["mongodb://", &lake]).fails(2, &["MongoDB address cannot be used", "mongodb://["]);
    copy(&["mongodb://u:p@ss:w@host/db?x=1", &lake])
        .fails(2, &["MongoDB address cannot be used", "percent-encoded"]);
    copy(&["env:NO_SUCH_VARIABLE", &lake]).fails(2, &["NO_SUCH_VARIABLE"]);
    copy(&[&uri, "ftp://host/lake"]).fails(2, &["unknown scheme", "s3://bucket/prefix"]);
    copy(&[&uri, &lake, "--filter", "{status: 1"]).fails(2, &["malformed filter", "Extended JSON"]);
    copy(&[&uri, &lake, "--filter", "[1]"]).fails(2, &["not a document"]);
    copy(&[&uri, &lake, "--fields", "a,a.b"]).fails(2, &["`a.b` is already part of `a`"]);
    copy(&[&uri, &lake, "--fields", "$x"]).fails(2, &["malformed field path"]);
    copy(&[&uri, &lake, "--collection", "a[b"]).fails(2, &["malformed pattern"]);
    let unknown = copy(&[&uri, &lake, "--format", "orc"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("possible values"), "{unknown:#?}");
    assert!(!std::path::Path::new(&lake).exists());
}

#[tokio::test]
async fn what_does_not_exist_is_named() {
    let fixture = Fixture::new("absent").await;
    fixture.insert("c", vec![doc! { "x": 1 }]).await;
    let lake = fixture.lake();
    let other = fixture.mongod.uri_for("no_such_database");
    run(&["copy", &other, &lake]).fails(1, &["no such database", "no_such_database"]);
    fixture
        .copy(&["--collection", "absent"])
        .fails(1, &["no such collection", "absent"]);
    fixture
        .copy(&["--collection", "x*"])
        .fails(1, &["no collection matches"]);
    fixture
        .copy(&["--filter", r#"{"$nonsense":1}"#])
        .fails(1, &["unknown top level operator", "namespace"]);
}

#[tokio::test]
async fn an_unreachable_server_is_told_within_its_timeout() {
    let directory = tempfile::TempDir::new().unwrap();
    let lake = directory.path().join("lake").to_string_lossy().into_owned();
    let begun = Instant::now();
    let uri = format!("mongodb://user:hidden@{NOBODY}/db?serverSelectionTimeoutMS=2000");
    let down = run(&["copy", &uri, &lake]);
    down.fails(1, &[NOBODY, "refused", "that the server is up"]);
    assert!(!down.stderr.contains("hidden"), "{down:#?}");
    let unknown = run(&[
        "copy",
        "mongodb://no-such-host.invalid/db?serverSelectionTimeoutMS=2000",
        &lake,
    ]);
    unknown.fails(1, &["no-such-host.invalid", "check the host"]);
    assert!(begun.elapsed() < Duration::from_secs(60));
}

/// Puts one document into `shop.c`.
async fn insert_one(mongod: &Mongod) {
    let shop = mongod.client().await.unwrap().database("shop");
    let collection = shop.collection("c");
    collection.insert_one(doc! { "x": 1 }).await.unwrap();
}

#[tokio::test]
async fn credentials_that_do_not_suffice_are_told_apart() {
    let mongod = Mongod::builder().with_auth().start().await.unwrap();
    insert_one(&mongod).await;
    mongod
        .create_user("reader", "right", &[("read", "other")])
        .await
        .unwrap();
    let directory = tempfile::TempDir::new().unwrap();
    let lake = directory.path().join("lake").to_string_lossy().into_owned();

    let wrong = run(&["copy", &mongod.uri_as("reader", "wrong", "shop"), &lake]);
    wrong.fails(1, &["uthentication failed", "authSource"]);
    assert!(!wrong.stderr.contains("wrong@"), "{wrong:#?}");
    let lacking = run(&["copy", &mongod.uri_as("reader", "right", "shop"), &lake]);
    lacking.fails(1, &["not authorized", "`read` role"]);

    mongod
        .create_user("allowed", "secret", &[("read", "shop")])
        .await
        .unwrap();
    let mut hidden = command(&["copy", "env:SOURCE_URI", &lake, "--output", "json"]);
    hidden.env("SOURCE_URI", mongod.uri_as("allowed", "secret", "shop"));
    assert_eq!(run_command(hidden).ok().collection()["documents"], 1);
}

#[tokio::test]
async fn tls_is_spoken_with_a_server_that_wants_it() {
    let mongod = Mongod::builder().with_tls().start().await.unwrap();
    insert_one(&mongod).await;
    let directory = tempfile::TempDir::new().unwrap();
    let lake = directory.path().join("lake").to_string_lossy().into_owned();
    let collection = run(&["copy", &mongod.uri_for("shop"), &lake, "--output", "json"])
        .ok()
        .collection();
    assert_eq!(collection["documents"], 1);

    let plain = format!(
        "mongodb://{}/shop?directConnection=true&serverSelectionTimeoutMS=2000",
        mongod.address()
    );
    run(&["copy", &plain, &lake, "--overwrite"]).fails(1, &["TLS"]);
}

#[tokio::test]
async fn a_target_that_cannot_be_written_is_told_before_anything_is_read() {
    let fixture = Fixture::new("target").await;
    fixture.insert("c", vec![doc! { "x": 1 }]).await;
    let uri = fixture.uri();
    let file = fixture.path("file");
    std::fs::write(&file, "").unwrap();
    run(&["copy", &uri, &format!("{file}/lake")]).fails(1, &["cannot be written", &file]);
    run(&["copy", &uri, "/proc/tributary/lake"])
        .fails(1, &["cannot be written", "/proc/tributary"]);
}

#[tokio::test]
async fn a_disk_that_fills_up_fails_the_copy_and_not_the_data() {
    let fixture = Fixture::new("full").await;
    fixture
        .insert(
            "c",
            (0..3000)
                .map(|i| doc! { "_id": i, "text": filler(i as usize, 2000) })
                .collect(),
        )
        .await;
    let (uri, lake) = (fixture.uri(), fixture.lake());
    // A limit on the size of files stands in for a full disk: writes fail in the middle of one.
    let mut limited = std::process::Command::new("bash");
    limited
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 200; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_tributary"),
        ])
        .args(["copy", &uri, &lake])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    run_command(limited).fails(1, &["cannot write", "large", "start again"]);

    let collection = fixture.copy(&[]).ok().collection();
    assert_eq!(collection["documents"], 3000);
    let files = crate::support::files_below(&fixture.table("c"));
    assert_eq!(files.len(), 2, "{files:?}");
}

#[tokio::test]
async fn a_connection_cut_in_the_middle_is_made_again() {
    let fixture = Fixture::new("cut").await;
    fixture
        .insert(
            "c",
            (0..20_000)
                .map(|i| doc! { "_id": i, "text": filler(i as usize, 900) })
                .collect(),
        )
        .await;
    let address = fixture
        .mongod
        .uri()
        .split("//")
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    let address = address.rsplit('@').next().unwrap().parse().unwrap();
    let mut proxy = FaultProxy::start(address).await.unwrap();
    // Each connection breaks after some megabytes, in the middle of a reply.
    proxy.set_mode(Mode::CutAfter(6_000_000)).await.unwrap();
    let uri = format!(
        "mongodb://{}/{}?directConnection=true",
        proxy.addr(),
        fixture.name
    );
    let lake = fixture.lake();
    let child = command(&["copy", &uri, &lake, "--output", "json"])
        .spawn()
        .unwrap();
    let waiting = tokio::task::spawn_blocking(move || crate::support::wait(child));
    // Without a bound to go on from, the one partition begins anew each time: let it end at last.
    let deadline = Instant::now() + Duration::from_secs(30);
    while proxy.connections() < 4 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    proxy.set_mode(Mode::Pass).await.unwrap();
    let run = waiting.await.unwrap().ok();

    assert_eq!(run.collection()["documents"], 20_000);
    let row = &fixture.sql(&format!(
        "SELECT count(*) n, count(DISTINCT _id) d FROM {}.c",
        fixture.name
    ))[0];
    assert_eq!(row.to_string(), r#"{"n":20000,"d":20000}"#);
}
