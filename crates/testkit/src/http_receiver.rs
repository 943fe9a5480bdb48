//! An HTTP server that keeps what it is sent.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};

use crate::error::{Context, Result};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct ReceivedRequest {
    /// Such as `POST`.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl ReceivedRequest {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Clone)]
enum Answer {
    With(String),
    HangUp,
    Never,
}

#[derive(Debug)]
struct State {
    requests: Vec<ReceivedRequest>,
    answer: Answer,
}

/// Takes requests on a free port of 127.0.0.1, one a connection, and answers each as it is told to, at first with 200
/// and `ok`. It ends with all its connections when dropped.
#[derive(Debug)]
pub struct HttpReceiver {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl HttpReceiver {
    /// Starts one.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> Result<Self> {
        let what = || "cannot start an HTTP receiver".to_owned();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context(what)?;
        let address = listener.local_addr().context(what)?;
        let state = Arc::new(Mutex::new(State {
            requests: Vec::new(),
            answer: Answer::With(answer(200, &[], "ok")),
        }));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            // Owned here, so that they end with the receiver.
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        if let Ok((client, _)) = accepted {
                            connections.spawn(serve(client, Arc::clone(&shared)));
                        }
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self {
            address,
            state,
            task,
        })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What came so far.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        lock(&self.state).requests.clone()
    }

    /// Waits until so many requests have come, or the time has passed, and answers those that have.
    pub async fn wait_for(&self, count: usize, limit: Duration) -> Vec<ReceivedRequest> {
        let deadline = Instant::now() + limit;
        loop {
            let requests = self.requests();
            if requests.len() >= count || Instant::now() >= deadline {
                return requests;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Answers all that comes from now on in this way.
    pub fn answer_with(&self, status: u16, headers: &[(&str, &str)], body: &str) {
        lock(&self.state).answer = Answer::With(answer(status, headers, body));
    }

    /// Closes connections without an answer from now on.
    pub fn hang_up(&self) {
        lock(&self.state).answer = Answer::HangUp;
    }

    /// Holds connections open without an answer from now on.
    pub fn never_answer(&self) {
        lock(&self.state).answer = Answer::Never;
    }
}

impl Drop for HttpReceiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!(
        "HTTP/1.1 {status} Answer\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text
}

/// A connection that breaks is the client's to notice.
async fn serve(client: TcpStream, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    let mut client = BufReader::new(client);
    let mut first = String::new();
    client.read_line(&mut first).await?;
    let mut words = first.split_ascii_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Ok(());
    };
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if client.read_line(&mut line).await? == 0 || line == "\r\n" {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = ReceivedRequest {
        method,
        path,
        headers,
        body: Vec::new(),
    };
    let length = request
        .header("content-length")
        .and_then(|n| n.parse().ok());
    request.body.resize(length.unwrap_or(0), 0);
    client.read_exact(&mut request.body).await?;
    let answer = {
        let mut state = lock(&state);
        state.requests.push(request);
        state.answer.clone()
    };
    match answer {
        Answer::With(text) => {
            client.write_all(text.as_bytes()).await?;
            client.shutdown().await
        }
        Answer::HangUp => Ok(()),
        Answer::Never => std::future::pending().await,
    }
}
