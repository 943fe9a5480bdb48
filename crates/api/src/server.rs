//! Listening, TLS, and the end of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tributary_model::{Error, ErrorKind, Result};
use tributary_orchestrator::config;
use tributary_orchestrator::control::Control;

use crate::app::App;
use crate::limits::Limits;
use crate::outside::Outside;
use crate::{routes, tls};

/// How long to wait after a connection could not be accepted: mostly, there are too many open files.
const BREATHER: Duration = Duration::from_millis(100);

/// How often a silent HTTP/2 connection is asked whether it is still there.
const PING: Duration = Duration::from_secs(20);

/// An API that is being served.
#[derive(Debug)]
pub struct Served {
    address: String,
    task: JoinHandle<()>,
}

impl Served {
    /// Where it is served: `http://127.0.0.1:7070`, or `https://…`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// Returns when it has ended, within seconds after it was told to stop: new connections are not
    /// taken then, those that are open have five seconds for what they are at, and subscriptions end.
    pub async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the API ended by a bug in tributary");
        }
    }
}

pub(crate) async fn serve(
    server: &config::Server,
    control: Arc<dyn Control>,
    outside: Outside,
    stop: CancellationToken,
    limits: Limits,
) -> Result<Served> {
    let acceptor = match &server.tls {
        Some((certificate, key)) => Some(tls::acceptor(certificate, key).await?),
        None => None,
    };
    let failed = |error: std::io::Error| cannot_listen(server.listen, error);
    let listener = TcpListener::bind(server.listen).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let scheme = if acceptor.is_some() { "https" } else { "http" };
    let app = App::new(server, control, outside, stop.clone(), limits);
    let listening = Listening {
        acceptor,
        router: routes::router(app, server.largest_request),
        stop,
        limits,
    };
    Ok(Served {
        address: format!("{scheme}://{bound}"),
        task: tokio::spawn(listening.run(listener)),
    })
}

fn cannot_listen(address: SocketAddr, error: std::io::Error) -> Error {
    use std::io::ErrorKind as Io;

    let remedy = match error.kind() {
        Io::AddrInUse => {
            "another process listens there: end it, or set `server.listen` to another port"
        }
        Io::PermissionDenied => {
            "set `server.listen` to a port above 1023, or allow this user that port"
        }
        _ => "set `server.listen` to an address of this machine",
    };
    Error::new(ErrorKind::Usage, "cannot serve the API")
        .on("address", address)
        .because(error)
        .remedy(remedy)
}

struct Listening {
    acceptor: Option<TlsAcceptor>,
    router: Router,
    stop: CancellationToken,
    limits: Limits,
}

impl Listening {
    async fn run(self, listener: TcpListener) {
        let drain = self.limits.drain;
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        let this = Arc::new(self);
        loop {
            // Those that have ended are let go of.
            while connections.try_join_next().is_some() {}
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                biased;
                () = this.stop.cancelled() => break,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, remote)) => {
                    let connection =
                        Arc::clone(&this).connection(stream, remote, graceful.watcher());
                    connections.spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection to the API");
                    tokio::time::sleep(BREATHER).await;
                }
            }
        }
        drop(listener);
        if timeout(drain, graceful.shutdown()).await.is_err() {
            tracing::warn!("connections to the API were cut off, for they did not end in time");
        }
        connections.shutdown().await;
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, remote: SocketAddr, watcher: Watcher) {
        // Answers are small, and each is waited for.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let Some(acceptor) = &self.acceptor else {
            return self.http(stream, remote, false, watcher).await;
        };
        let agreed = tokio::select! {
            agreed = timeout(self.limits.head, acceptor.accept(stream)) => agreed,
            () = self.stop.cancelled() => return,
        };
        match agreed {
            Ok(Ok(stream)) => {
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(tls::PROTOCOLS[0]);
                self.http(stream, remote, is_http2, watcher).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "a client did not agree on TLS"),
            Err(_) => tracing::debug!("a client took too long to agree on TLS"),
        }
    }

    async fn http<S>(&self, stream: S, remote: SocketAddr, is_http2: bool, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let builder = Builder::new(TokioExecutor::new());
        // Which it is has been agreed on. To find out by what comes first, one would have to wait for
        // that without a limit.
        let mut builder = match is_http2 {
            true => builder.http2_only(),
            false => builder.http1_only(),
        };
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(self.limits.head)
            .max_concurrent_streams(128);
        // HTTP/2 has no limit of its own for what comes before the first request.
        let has_asked = CancellationToken::new();
        let asked = has_asked.clone();
        let service = self
            .router
            .clone()
            .map_request(move |mut request: Request<Incoming>| {
                asked.cancel();
                request.extensions_mut().insert(ConnectInfo(remote));
                request
            });
        let service = TowerToHyperService::new(service);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let silent = async {
            match timeout(self.limits.head, has_asked.cancelled()).await {
                Ok(()) => std::future::pending().await,
                Err(elapsed) => elapsed,
            }
        };
        tokio::select! {
            ended = watcher.watch(connection.into_owned()) => if let Err(error) = ended {
                tracing::debug!(%error, "a connection to the API ended before its time");
            },
            _ = silent => tracing::debug!("a client asked nothing for too long"),
        }
    }
}
