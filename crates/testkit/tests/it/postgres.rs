use std::{net::TcpStream, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio_postgres::{Client, NoTls, error::SqlState};
use tributary_testkit::{FaultProxy, Mode, Postgres, Tls, unique_name};

use crate::{family, is_running};

/// A client through a connection string, as a program that is tested would make one.
async fn connect(uri: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(uri, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn count(client: &Client, table: &str) -> i64 {
    let statement = format!("SELECT count(*) FROM {table}");
    client.query_one(&statement, &[]).await.unwrap().get(0)
}

fn code(error: &tokio_postgres::Error) -> &SqlState {
    error.code().expect("the server has answered")
}

#[tokio::test]
async fn a_server_starts_keeps_databases_apart_and_is_gone_when_dropped() {
    let server = Postgres::start().await.unwrap();
    for name in ["one", "other \"ö\""] {
        server.create_database(name).await.unwrap();
    }
    server
        .create_database("one")
        .await
        .expect_err("there is one already");
    let one = connect(&server.uri_for("one")).await.unwrap();
    one.batch_execute("CREATE TABLE t (name text); INSERT INTO t VALUES ('ä€🎈')")
        .await
        .unwrap();
    assert_eq!(count(&one, "t").await, 1);
    let encoding: String = one
        .query_one("SHOW server_encoding", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(encoding, "UTF8");
    let other = server.client("other \"ö\"").await.unwrap();
    let error = other.query("SELECT * FROM t", &[]).await.unwrap_err();
    assert_eq!(code(&error), &SqlState::UNDEFINED_TABLE);

    let (processes, data) = (
        family(server.pid().unwrap()),
        server.data_directory().to_owned(),
    );
    // The postmaster, its helpers and two backends.
    assert!(processes.len() > 5, "{processes:?}");
    assert!(processes.iter().copied().all(is_running) && data.exists());
    drop(server);
    assert!(!processes.iter().copied().any(is_running) && !data.exists());
}

#[tokio::test]
async fn only_who_knows_a_password_gets_in() {
    let server = Postgres::start().await.unwrap();
    server.create_user("reader", "it's secret").await.unwrap();
    connect(&server.uri_as("reader", "it's secret", "postgres"))
        .await
        .unwrap();
    for uri in [
        server.uri_as("reader", "wrong", "postgres"),
        server.uri_as("nobody", "it's secret", "postgres"),
        server.uri_as("postgres", "postgres", "postgres"),
    ] {
        let error = connect(&uri).await.unwrap_err();
        assert_eq!(code(&error), &SqlState::INVALID_PASSWORD);
    }
    let error = connect(&format!("postgresql://postgres@{}/", server.address()))
        .await
        .unwrap_err();
    let cause = error.into_source().unwrap().to_string();
    assert!(cause.contains("password missing"), "{cause}");
}

#[tokio::test]
async fn a_server_that_is_killed_or_stopped_comes_back_with_what_was_committed() {
    let mut server = Postgres::start().await.unwrap();
    let uri = server.uri();
    let admin = server.client("postgres").await.unwrap();
    admin
        .batch_execute("CREATE TABLE t (id int)")
        .await
        .unwrap();
    let ends: [fn(&mut Postgres); 2] = [Postgres::kill, Postgres::stop];
    for (kept, end) in (1_i64..).zip(ends) {
        let mut client = connect(&uri).await.unwrap();
        client
            .execute("INSERT INTO t VALUES (1)", &[])
            .await
            .unwrap();
        let open = client.transaction().await.unwrap();
        open.execute("INSERT INTO t VALUES (2)", &[]).await.unwrap();
        let processes = family(server.pid().unwrap());
        end(&mut server);
        assert_eq!(server.pid(), None);
        assert!(!processes.into_iter().any(is_running));
        open.commit().await.expect_err("the server is gone");
        connect(&uri).await.expect_err("nobody listens");

        server.restart().await.unwrap();
        assert_eq!(server.uri(), uri);
        let client = connect(&uri).await.unwrap();
        assert_eq!(count(&client, "t").await, kept);
    }
}

#[tokio::test]
async fn stopping_tells_clients_why() {
    let mut server = Postgres::start().await.unwrap();
    let (client, connection) = tokio_postgres::connect(&server.uri(), NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    server.stop();
    let error = connection.await.unwrap().unwrap_err();
    assert_eq!(code(&error), &SqlState::ADMIN_SHUTDOWN);
    drop(client);
}

#[tokio::test]
async fn parameters_reach_the_server_and_testkit_gets_in_when_it_is_full() {
    let server = Postgres::builder()
        .parameter("max_connections", "5")
        .start()
        .await
        .unwrap();
    server.create_user("worker", "secret").await.unwrap();
    let uri = server.uri_as("worker", "secret", "postgres");
    let first = connect(&uri).await.unwrap();
    let second = connect(&uri).await.unwrap();
    let error = connect(&uri).await.unwrap_err();
    assert_eq!(code(&error), &SqlState::TOO_MANY_CONNECTIONS);
    server.create_database("more").await.unwrap();

    drop((first, second));
    let admin = server.client("postgres").await.unwrap();
    let mut left = 2_i64;
    while left > 0 {
        let workers = "(SELECT 1 FROM pg_stat_activity WHERE usename = 'worker') AS workers";
        left = count(&admin, workers).await;
    }
    connect(&uri).await.unwrap();
}

#[tokio::test]
async fn a_setting_that_it_refuses_is_named_with_the_log() {
    let error = Postgres::builder()
        .parameter("no_such_setting", "1")
        .start()
        .await
        .expect_err("postgres refuses it");
    let message = error.to_string();
    assert!(
        message.contains("postgres ended by itself") && message.contains("no_such_setting"),
        "{message}"
    );
}

/// Asks a server for TLS as PostgreSQL's protocol has it, and makes the handshake with what `authority` has signed.
fn handshake(server: &Postgres, authority: &Tls, host: &'static str) -> std::io::Result<()> {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(server.address())?;
    // The length of the request, and its code, 80877103.
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47])?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"S", "the server speaks TLS");
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(authority.ca_file()).unwrap();
    roots.add(authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), host.try_into().unwrap()).unwrap();
    StreamOwned::new(connection, stream).flush()
}

#[tokio::test]
async fn with_tls_nobody_gets_in_without() {
    let server = Postgres::builder().with_tls().start().await.unwrap();
    let tls = server.tls().unwrap();
    handshake(&server, tls, "127.0.0.1").unwrap();
    handshake(&server, tls, "localhost").unwrap();
    handshake(&server, tls, "elsewhere").expect_err("the certificate is not for that host");
    let stranger = Postgres::builder().with_tls().start().await.unwrap();
    handshake(&server, stranger.tls().unwrap(), "127.0.0.1")
        .expect_err("another authority has not signed it");

    let uri = server.uri();
    let (plain, options) = uri.split_once('?').unwrap();
    assert!(
        options.starts_with("sslmode=verify-full&sslrootcert=/"),
        "{options}"
    );
    let error = connect(plain).await.unwrap_err();
    assert_eq!(code(&error), &SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
    // Testkit itself comes over the socket.
    server.create_database("more").await.unwrap();
}

#[tokio::test]
async fn on_a_full_disk_tables_cannot_grow_until_there_is_room_again() {
    const MIB: u64 = 1 << 20;
    let server = Postgres::start().await.unwrap();
    let before = connect(&server.uri()).await.unwrap();
    before
        .batch_execute("CREATE TABLE t (text text); ALTER TABLE t ALTER text SET STORAGE PLAIN")
        .await
        .unwrap();
    // One row a page.
    let insert = |rows: u32| {
        format!("INSERT INTO t SELECT repeat('x', 5000) FROM generate_series(1, {rows})")
    };
    before.batch_execute(&insert(100)).await.unwrap();
    server.fill_disk(MIB).await.expect_err("too little");
    server.fill_disk(4 * MIB).await.unwrap();
    let after = connect(&server.uri()).await.unwrap();
    for client in [&before, &after] {
        let error = client.batch_execute(&insert(600)).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code(), &SqlState::DISK_FULL, "{error:?}");
        assert_eq!(count(client, "t").await, 100);
    }
    server.free_disk().await.unwrap();
    for client in [&before, &after] {
        client.batch_execute(&insert(600)).await.unwrap();
    }
    assert_eq!(count(&before, "t").await, 1_300);
}

#[tokio::test]
async fn the_shared_server_keeps_tests_apart_by_unique_names() {
    let server = Postgres::shared().await.unwrap();
    let (one, other) = (unique_name("shared"), unique_name("shared"));
    for name in [&one, &other] {
        server.create_database(name).await.unwrap();
    }
    let mine = server.client(&one).await.unwrap();
    mine.batch_execute("CREATE TABLE t (id int)").await.unwrap();
    let theirs = connect(&server.uri_for(&other)).await.unwrap();
    let error = theirs.query("SELECT * FROM t", &[]).await.unwrap_err();
    assert_eq!(code(&error), &SqlState::UNDEFINED_TABLE);
    for name in [&one, &other] {
        server.drop_database(name).await.unwrap();
    }
    let error = connect(&server.uri_for(&one)).await.unwrap_err();
    assert_eq!(code(&error), &SqlState::UNDEFINED_DATABASE);
}

#[tokio::test]
async fn a_connection_cut_within_a_copy_fails_and_leaves_nothing() {
    use bytes::Bytes;
    use futures::{SinkExt, TryStreamExt, pin_mut};
    let server = Postgres::start().await.unwrap();
    let admin = server.client("postgres").await.unwrap();
    admin
        .batch_execute("CREATE TABLE t (id int)")
        .await
        .unwrap();
    let mut proxy = FaultProxy::start(server.address()).await.unwrap();
    let uri = server.uri_through(proxy.addr(), "postgres");

    // Into the server.
    let client = connect(&uri).await.unwrap();
    let copy = client.copy_in("COPY t FROM STDIN").await.unwrap();
    pin_mut!(copy);
    let rows = Bytes::from("1\n".repeat(100_000));
    copy.send(rows.clone()).await.unwrap();
    proxy.set_mode(Mode::Reset).await.unwrap();
    // Those that are still on their way go nowhere.
    let end = async {
        copy.send(rows).await?;
        copy.finish().await
    };
    end.await.expect_err("the connection was reset");
    proxy.set_mode(Mode::Pass).await.unwrap();
    assert_eq!(count(&admin, "t").await, 0);

    // Out of it.
    admin
        .batch_execute("INSERT INTO t SELECT generate_series(1, 100000)")
        .await
        .unwrap();
    let client = connect(&uri).await.unwrap();
    proxy.set_mode(Mode::CutAfter(10_000)).await.unwrap();
    let copy = client.copy_out("COPY t TO STDOUT").await.unwrap();
    let rows: Result<Vec<Bytes>, _> = copy.try_collect().await;
    rows.expect_err("the connection was reset");
}

#[tokio::test]
async fn a_commit_whose_answer_is_cut_off_has_happened() {
    let server = Postgres::start().await.unwrap();
    let admin = server.client("postgres").await.unwrap();
    admin
        .batch_execute("CREATE TABLE t (id int)")
        .await
        .unwrap();
    let mut proxy = FaultProxy::start(server.address()).await.unwrap();
    let mut client = connect(&server.uri_through(proxy.addr(), "postgres"))
        .await
        .unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction
        .execute("INSERT INTO t VALUES (1)", &[])
        .await
        .unwrap();
    proxy.set_mode(Mode::CutAfter(0)).await.unwrap();
    let error = transaction.commit().await.unwrap_err();
    assert_eq!(error.code(), None, "{error:?}");
    assert_eq!(count(&admin, "t").await, 1);
}

#[tokio::test]
async fn a_stalled_server_answers_when_the_network_is_back() {
    let server = Postgres::start().await.unwrap();
    let mut proxy = FaultProxy::start(server.address()).await.unwrap();
    let client = connect(&server.uri_through(proxy.addr(), "postgres"))
        .await
        .unwrap();
    proxy.set_mode(Mode::Stall).await.unwrap();
    let query = client.query_one("SELECT 1", &[]);
    tokio::pin!(query);
    tokio::time::timeout(Duration::from_millis(200), &mut query)
        .await
        .expect_err("nothing is forwarded");
    proxy.set_mode(Mode::Pass).await.unwrap();
    assert_eq!(query.await.unwrap().get::<_, i32>(0), 1);
}
