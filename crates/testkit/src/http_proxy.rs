//! An HTTP proxy that answers chosen requests with errors.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use crate::{
    error::{Context, Result},
    http,
    process::{free_port, loopback},
};

/// The first line of a request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Such as `PUT`.
    pub method: String,
    /// The path with its query.
    pub path: String,
}

/// What a [`HttpProxy`] does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Forwards it and its answer.
    Pass,
    /// Answers with this status; the server hears nothing of it.
    Answer(u16),
    /// Forwards it, and answers with this status instead of the server's answer.
    AnswerBehind(u16),
}

/// Forwards requests to a server, one a connection, and fails those that it is told to. It ends with all its
/// connections when dropped.
#[derive(Debug)]
pub struct HttpProxy {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl HttpProxy {
    /// Listens on a free port of 127.0.0.1 in front of the server at `endpoint`; `decide` is asked about each request.
    ///
    /// # Errors
    /// No port is free, or the endpoint is not of this machine.
    pub async fn start(
        endpoint: &str,
        decide: impl Fn(&Request) -> Fault + Send + Sync + 'static,
    ) -> Result<Self> {
        let server = http::address_of(endpoint)?;
        let address = loopback(free_port()?);
        let listener = TcpListener::bind(address)
            .await
            .context(|| format!("cannot listen on {address}"))?;
        let decide: Arc<Decide> = Arc::new(decide);
        let task = tokio::spawn(async move {
            // Owned here, so that they end with the proxy.
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        if let Ok((client, _)) = accepted {
                            connections.spawn(serve(client, server, Arc::clone(&decide)));
                        }
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self { address, task })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Decide = dyn Fn(&Request) -> Fault + Send + Sync;

/// A connection that breaks is the client's to notice.
async fn serve(client: TcpStream, server: SocketAddr, decide: Arc<Decide>) -> std::io::Result<()> {
    let mut client = BufReader::new(client);
    let (mut head, mut length, mut line) = (String::new(), 0, String::new());
    loop {
        line.clear();
        if client.read_line(&mut line).await? == 0 || line == "\r\n" {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            // The next request of the client comes on another connection, and is looked at too.
            "connection" => continue,
            _ => {}
        }
        head.push_str(&line);
    }
    let mut words = head.split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Ok(());
    };
    let fault = decide(&Request { method, path });
    head.push_str("connection: close\r\n\r\n");
    if fault == Fault::Pass {
        let mut upstream = TcpStream::connect(server).await?;
        upstream.write_all(head.as_bytes()).await?;
        copy_bidirectional(&mut client, &mut upstream).await?;
        return Ok(());
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body).await?;
    let status = match fault {
        Fault::Answer(status) | Fault::AnswerBehind(status) => status,
        Fault::Pass => return Ok(()),
    };
    if matches!(fault, Fault::AnswerBehind(_)) {
        let mut upstream = TcpStream::connect(server).await?;
        upstream.write_all(head.as_bytes()).await?;
        upstream.write_all(&body).await?;
        upstream.read_to_end(&mut Vec::new()).await?;
    }
    let answer =
        format!("HTTP/1.1 {status} Fault\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await
}
