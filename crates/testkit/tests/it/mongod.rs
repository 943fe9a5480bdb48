use std::time::Duration;

use bson::{Document, doc};
use mongodb::{Client, options::ClientOptions};
use tributary_testkit::{Mongod, unique_name};

use crate::is_running;

#[tokio::test]
async fn a_server_starts_accepts_transactions_and_is_gone_when_dropped() {
    let server = Mongod::start().await.unwrap();
    let client = server.client().await.unwrap();
    let numbers = client.database("test").collection::<Document>("numbers");
    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    numbers
        .insert_one(doc! { "_id": 1 })
        .session(&mut session)
        .await
        .unwrap();
    session.commit_transaction().await.unwrap();
    assert_eq!(numbers.count_documents(doc! {}).await.unwrap(), 1);

    let (pid, data) = (server.pid().unwrap(), server.data_directory().to_owned());
    assert!(is_running(pid) && data.exists());
    drop(server);
    assert!(!is_running(pid) && !data.exists());
}

#[tokio::test]
async fn a_killed_server_comes_back_on_the_same_port_with_what_was_acknowledged() {
    let mut server = Mongod::start().await.unwrap();
    let client = server.client().await.unwrap();
    let kept = client.database("test").collection::<Document>("kept");
    kept.insert_one(doc! { "_id": 1 }).await.unwrap();
    let (pid, uri) = (server.pid().unwrap(), server.uri());

    server.kill();
    assert_eq!(server.pid(), None);
    assert!(!is_running(pid));

    server.restart().await.unwrap();
    assert_eq!(server.uri(), uri);
    assert_ne!(server.pid(), Some(pid));
    assert_eq!(
        kept.find_one(doc! {}).await.unwrap(),
        Some(doc! { "_id": 1 })
    );
}

#[tokio::test]
async fn with_tls_and_auth_only_known_users_over_tls_get_in() {
    let server = Mongod::builder()
        .with_auth()
        .with_tls()
        .start()
        .await
        .unwrap();
    let tls = server.tls().unwrap();
    assert!(tls.ca_file().exists() && tls.server_certificate_key_file().exists());
    let ping_within = async |uri: &str, limit: Option<Duration>| {
        let mut options = ClientOptions::parse(uri).await.unwrap();
        options.server_selection_timeout = limit;
        let client = Client::with_options(options).unwrap();
        client
            .database("shop")
            .collection::<Document>("orders")
            .find_one(doc! {})
            .await
    };
    let ping = async |uri: &str| ping_within(uri, None).await;
    ping(&server.uri()).await.unwrap();

    server
        .create_user("reader", "secret", &[("read", "shop")])
        .await
        .unwrap();
    let reader = server.uri_as("reader", "secret", "shop");
    ping(&reader).await.unwrap();
    let orders = Client::with_uri_str(&reader)
        .await
        .unwrap()
        .database("shop")
        .collection::<Document>("orders");
    orders
        .insert_one(doc! {})
        .await
        .expect_err("a reader cannot write");

    ping(&server.uri_as("reader", "wrong", "shop"))
        .await
        .expect_err("the password is wrong");
    let plain = server.uri().split("&tls=true").next().unwrap().to_owned();
    // Such a server is looked for again and again.
    ping_within(&plain, Some(Duration::from_secs(2)))
        .await
        .expect_err("the server requires TLS");
    let anonymous = server
        .uri()
        .replace("root:root-password@", "")
        .replace("&authSource=admin", "");
    ping(&anonymous)
        .await
        .expect_err("the server requires authentication");
}

#[tokio::test]
async fn parameters_reach_the_server() {
    let server = Mongod::builder()
        .parameter("enableTestCommands", "1")
        .start()
        .await
        .unwrap();
    let fail = doc! {
        "configureFailPoint": "failCommand",
        "mode": { "times": 1 },
        "data": { "failCommands": ["ping"], "errorCode": 11600 },
    };
    let admin = server.client().await.unwrap().database("admin");
    admin.run_command(fail).await.unwrap();
    let error = admin
        .run_command(doc! { "ping": 1 })
        .await
        .expect_err("the fail point is on");
    assert!(error.to_string().contains("11600"), "{error}");
}

#[tokio::test]
async fn an_executable_that_does_not_run_is_named_with_the_log() {
    let error = Mongod::builder()
        .argument("--no-such-option")
        .start()
        .await
        .expect_err("mongod refuses it");
    let message = error.to_string();
    assert!(
        message.contains("mongod ended by itself") && message.contains("no-such-option"),
        "{message}"
    );
}

#[tokio::test]
async fn the_shared_server_keeps_tests_apart_by_unique_names() {
    let server = Mongod::shared().await.unwrap();
    let (one, other) = (unique_name("shared"), unique_name("shared"));
    assert_ne!(one, other);
    let client = server.client().await.unwrap();
    client
        .database(&one)
        .collection("c")
        .insert_one(doc! { "_id": 1 })
        .await
        .unwrap();
    let mine = Client::with_uri_str(server.uri_for(&one))
        .await
        .unwrap()
        .default_database()
        .unwrap();
    assert_eq!(
        mine.collection::<Document>("c")
            .count_documents(doc! {})
            .await
            .unwrap(),
        1
    );
    let theirs = client.database(&other).collection::<Document>("c");
    assert_eq!(theirs.count_documents(doc! {}).await.unwrap(), 0);
    mine.drop().await.unwrap();
}
