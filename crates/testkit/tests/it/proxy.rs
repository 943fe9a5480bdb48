use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tributary_testkit::{FaultProxy, Mode};

/// Long enough to tell that nothing comes.
const SILENCE: Duration = Duration::from_millis(200);

/// A server that sends back what it receives.
async fn echo() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                tokio::io::copy(&mut reader, &mut writer).await.ok();
            });
        }
    });
    (address, task)
}

async fn exchange(stream: &mut TcpStream, text: &[u8]) -> io::Result<()> {
    stream.write_all(text).await?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await?;
    assert_eq!(answer, text);
    Ok(())
}

#[tokio::test]
async fn passing_forwards_both_ways_and_closes_when_both_sides_do() {
    let (server, _echo) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    exchange(&mut stream, &vec![7; 1_000_000]).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn stalling_holds_bytes_back_and_passing_delivers_them() {
    let (server, _echo) = echo().await;
    let mut proxy = FaultProxy::start(server).await.unwrap();
    let mut old = TcpStream::connect(proxy.addr()).await.unwrap();
    exchange(&mut old, b"before").await.unwrap();
    proxy.set_mode(Mode::Stall).await.unwrap();
    let mut new = TcpStream::connect(proxy.addr()).await.unwrap();
    for stream in [&mut old, &mut new] {
        stream.write_all(b"held").await.unwrap();
        timeout(SILENCE, stream.read(&mut [0]))
            .await
            .expect_err("nothing is forwarded");
    }
    proxy.set_mode(Mode::Pass).await.unwrap();
    for stream in [&mut old, &mut new] {
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"held");
    }
}

#[tokio::test]
async fn resetting_breaks_old_and_new_connections() {
    let (server, _echo) = echo().await;
    let mut proxy = FaultProxy::start(server).await.unwrap();
    let mut old = TcpStream::connect(proxy.addr()).await.unwrap();
    exchange(&mut old, b"before").await.unwrap();
    proxy.set_mode(Mode::Reset).await.unwrap();
    let error = old
        .read(&mut [0])
        .await
        .expect_err("the connection was reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let mut new = TcpStream::connect(proxy.addr()).await.unwrap();
    let error = new
        .read(&mut [0])
        .await
        .expect_err("the connection was reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

    proxy.set_mode(Mode::Pass).await.unwrap();
    let mut healed = TcpStream::connect(proxy.addr()).await.unwrap();
    exchange(&mut healed, b"after").await.unwrap();
}

#[tokio::test]
async fn refusing_lets_nobody_connect_until_passing_again() {
    let (server, _echo) = echo().await;
    let mut proxy = FaultProxy::start(server).await.unwrap();
    let mut old = TcpStream::connect(proxy.addr()).await.unwrap();
    exchange(&mut old, b"before").await.unwrap();
    proxy.set_mode(Mode::Refuse).await.unwrap();
    old.read(&mut [0])
        .await
        .expect_err("the connection was reset");
    let error = TcpStream::connect(proxy.addr())
        .await
        .expect_err("the connection is refused");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);

    proxy.set_mode(Mode::Pass).await.unwrap();
    let mut healed = TcpStream::connect(proxy.addr()).await.unwrap();
    exchange(&mut healed, b"after").await.unwrap();
}

#[tokio::test]
async fn cutting_resets_each_connection_after_so_many_bytes_of_replies() {
    let (server, _echo) = echo().await;
    let mut proxy = FaultProxy::start(server).await.unwrap();
    let mut old = TcpStream::connect(proxy.addr()).await.unwrap();
    exchange(&mut old, b"before").await.unwrap();
    proxy.set_mode(Mode::CutAfter(10)).await.unwrap();
    for mut stream in [old, TcpStream::connect(proxy.addr()).await.unwrap()] {
        exchange(&mut stream, b"12345").await.unwrap();
        stream.write_all(b"67890 and more").await.unwrap();
        let mut received = Vec::new();
        let error = stream
            .read_to_end(&mut received)
            .await
            .expect_err("the connection was reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert!(b"67890".starts_with(&received), "{received:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_down_looks_reset_through_the_proxy() {
    let (server, echo) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    echo.abort();
    echo.await.expect_err("the server was aborted");
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    stream
        .read(&mut [0])
        .await
        .expect_err("the connection was reset");
}

#[tokio::test]
async fn the_driver_recovers_through_the_proxy() {
    use bson::doc;
    let mongod = tributary_testkit::Mongod::start().await.unwrap();
    let mut proxy = FaultProxy::start(mongod.address()).await.unwrap();
    let client = mongodb::Client::with_uri_str(mongod.uri_through(proxy.addr(), "test"))
        .await
        .unwrap();
    let admin = client.database("admin");
    admin.run_command(doc! { "ping": 1 }).await.unwrap();
    proxy.set_mode(Mode::Reset).await.unwrap();
    admin
        .run_command(doc! { "ping": 1 })
        .await
        .expect_err("connections are reset");
    proxy.set_mode(Mode::Pass).await.unwrap();
    admin.run_command(doc! { "ping": 1 }).await.unwrap();
}
