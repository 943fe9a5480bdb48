//! The API over real connections, in front of a [`Fake`].

mod access;
mod document;
mod endpoints;
mod events;
mod fake;
mod ingest;
mod limits;
mod routes;
mod tls;

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tributary_orchestrator::config::{Role, Server, Token};

use crate::Outside;
use crate::limits::Limits;
use crate::server::{Served, serve};
use endpoints::Echo;
use fake::Fake;
use ingest::Pushed;

/// Whatever takes longer does not end.
const PATIENCE: Duration = Duration::from_secs(30);

const READER: &str = "reader-0123456789";
const OPERATOR: &str = "operator-0123456789-longer";

fn server() -> Server {
    Server {
        listen: "127.0.0.1:0".parse().unwrap(),
        tls: None,
        tokens: Vec::new(),
        largest_request: 1024,
    }
}

fn tokens() -> Vec<Token> {
    let token = |name: &str, token: &str, role| Token {
        name: name.to_owned(),
        token: token.into(),
        role,
    };
    vec![
        token("dashboard", READER, Role::Read),
        token("deployment", OPERATOR, Role::Operate),
    ]
}

struct Fixture {
    fake: Arc<Fake>,
    pushed: Arc<Pushed>,
    echo: Arc<Echo>,
    served: Served,
    stop: CancellationToken,
    client: Client,
}

impl Fixture {
    async fn new() -> Self {
        Self::with(server(), Limits::default()).await
    }

    async fn with_tokens() -> Self {
        let tokens = tokens();
        Self::with(Server { tokens, ..server() }, Limits::default()).await
    }

    async fn with(server: Server, limits: Limits) -> Self {
        let fake = Fake::new();
        let stop = CancellationToken::new();
        let control = Arc::clone(&fake) as _;
        let pushed = Arc::new(Pushed::default());
        let echo = Arc::new(Echo::default());
        let outside = Outside {
            ingests: Some(Arc::clone(&pushed) as _),
            endpoints: Some(Arc::clone(&echo) as _),
        };
        let served = serve(&server, control, outside, stop.clone(), limits);
        let served = served.await.unwrap();
        let client = Client::builder().no_proxy().timeout(PATIENCE).build();
        Self {
            fake,
            pushed,
            echo,
            served,
            stop,
            client: client.unwrap(),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let address = self.served.address();
        self.client.request(method, format!("{address}{path}"))
    }

    async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    async fn post(&self, path: &str) -> Response {
        self.request(Method::POST, path).send().await.unwrap()
    }

    /// Sends bytes as they are, and leaves the connection open.
    async fn open(&self, request: &str) -> TcpStream {
        let address = self.served.address();
        let address = address.split_once("://").unwrap().1;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Sends bytes as they are, and answers what comes back until the server closes.
    async fn raw(&self, request: &str) -> String {
        let mut stream = self.open(request).await;
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let read = tokio::time::timeout(PATIENCE, read).await;
        let _reset = read.expect("the server closes");
        String::from_utf8(answer).unwrap()
    }
}

/// Asks again and again until there is something.
async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Asserts that an answer is a problem of a status; answers its detail.
#[track_caller]
fn problem(response: Response, status: u16) -> impl Future<Output = String> {
    assert_eq!(response.status(), status);
    let headers = response.headers();
    assert_eq!(headers["content-type"], "application/problem+json");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    async move {
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["type"], "about:blank");
        assert_eq!(problem["status"], status);
        assert!(!problem["title"].as_str().unwrap().is_empty());
        problem["detail"].as_str().unwrap().to_owned()
    }
}
