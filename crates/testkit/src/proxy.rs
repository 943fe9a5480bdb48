//! A TCP proxy that breaks connections on demand.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::{
    error::{Context, Result},
    process::{free_port, loopback},
};

/// What a [`FaultProxy`] does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Forwards everything.
    Pass,
    /// Accepts and keeps connections and forwards nothing, as a network that drops packets; nothing is lost, and
    /// [`Mode::Pass`] delivers what was held back.
    Stall,
    /// Resets every connection, and every new one as soon as it is accepted.
    Reset,
    /// Resets every connection and refuses new ones, as a machine on which the server has died.
    Refuse,
    /// Resets each connection after so many more bytes of the server's replies.
    CutAfter(u64),
}

/// Forwards from an address of its own to a server, and fails as told. It works while the runtime it was started on
/// does, and ends with all its connections when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    applied: watch::Receiver<u64>,
    ordered: u64,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl FaultProxy {
    /// Listens on a free port of 127.0.0.1 and forwards to `server`, in [`Mode::Pass`].
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(server: SocketAddr) -> Result<Self> {
        // A port that the kernel does not give to anyone else while connections are being refused.
        let address = loopback(free_port()?);
        let listener = TcpListener::bind(address)
            .await
            .context(|| format!("cannot listen on {address}"))?;
        let (mode, modes) = watch::channel(Mode::Pass);
        let (done, applied) = watch::channel(0);
        let connections = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(accept(
            listener,
            server,
            modes,
            done,
            Arc::clone(&connections),
        ));
        Ok(Self {
            address,
            mode,
            applied,
            ordered: 0,
            connections,
            task,
        })
    }

    /// Where the proxy listens: give it to clients in place of the server's address.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// How many connections have been accepted since the start.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Switches to `mode`. When this returns the mode holds for new connections, and no byte that arrives from now on
    /// is treated by the old one.
    ///
    /// # Errors
    /// The port cannot be taken again after [`Mode::Refuse`].
    pub async fn set_mode(&mut self, mode: Mode) -> Result<()> {
        self.ordered += 1;
        self.mode.send_replace(mode);
        let ordered = self.ordered;
        self.applied
            .wait_for(|applied| *applied >= ordered)
            .await
            .context(|| format!("the proxy cannot listen on {} again", self.address))?;
        Ok(())
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    mut modes: watch::Receiver<Mode>,
    done: watch::Sender<u64>,
    accepted: Arc<AtomicUsize>,
) {
    let Ok(address) = listener.local_addr() else {
        return;
    };
    let mut listener = Some(listener);
    // Owned here, so that they end with the proxy.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            changed = modes.changed() => {
                if changed.is_err() {
                    return;
                }
                let mode = *modes.borrow_and_update();
                if matches!(mode, Mode::Reset | Mode::Refuse) {
                    // Every connection sees the mode and resets itself.
                    while connections.join_next().await.is_some() {}
                }
                if mode == Mode::Refuse {
                    listener = None;
                } else if listener.is_none() {
                    match TcpListener::bind(address).await {
                        Ok(bound) => listener = Some(bound),
                        Err(_) => return,
                    }
                }
                done.send_modify(|done| *done += 1);
            }
            Some(client) = accept_from(listener.as_ref()) => {
                accepted.fetch_add(1, Ordering::Relaxed);
                connections.spawn(forward(client, server, modes.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// `None` never comes while there is a listener; without one this waits for ever.
async fn accept_from(listener: Option<&TcpListener>) -> Option<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.ok().map(|(client, _)| client),
        None => std::future::pending().await,
    }
}

/// Why a connection ended otherwise than by both sides closing it.
enum End {
    Cut,
    Failed,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Failed
    }
}

async fn forward(mut client: TcpStream, server: SocketAddr, mut modes: watch::Receiver<Mode>) {
    let mut upstream = None;
    let watched = modes.clone();
    let traffic = async {
        let server = upstream.insert(TcpStream::connect(server).await?);
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::try_join!(
            pump(from_client, to_server, watched.clone(), false),
            pump(from_server, to_client, watched, true),
        )?;
        Result::<(), End>::Ok(())
    };
    let closed = tokio::select! {
        biased;
        _ = modes.wait_for(|mode| matches!(mode, Mode::Reset | Mode::Refuse)) => false,
        result = traffic => result.is_ok(),
    };
    if !closed {
        // With a linger time of zero, closing sends RST and drops what has not been sent.
        client.set_zero_linger().ok();
        if let Some(server) = upstream {
            server.set_zero_linger().ok();
        }
    }
}

/// Copies one direction until its sender closes it.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut modes: watch::Receiver<Mode>,
    replies: bool,
) -> Result<(), End> {
    let mut buffer = vec![0; 64 * 1024];
    let mut budget = budget(*modes.borrow_and_update(), replies);
    loop {
        let read = tokio::select! {
            biased;
            changed = modes.changed() => {
                if changed.is_err() {
                    return Err(End::Failed);
                }
                budget = self::budget(*modes.borrow_and_update(), replies);
                continue;
            }
            read = from.read(&mut buffer), if budget != Some(Budget::Nothing) => read?,
        };
        if read == 0 {
            to.shutdown().await?;
            return Ok(());
        }
        let mut rest = buffer.get(..read).unwrap_or_default();
        while !rest.is_empty() {
            // Looked at again for every part, because the mode may have changed while the last one was read or sent.
            if modes.has_changed().unwrap_or(true) {
                budget = self::budget(*modes.borrow_and_update(), replies);
            }
            let now = match &mut budget {
                None => rest.len(),
                Some(Budget::Nothing) => {
                    modes.changed().await.map_err(|_| End::Failed)?;
                    budget = self::budget(*modes.borrow_and_update(), replies);
                    continue;
                }
                Some(Budget::Bytes(left)) => {
                    let now = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= now as u64;
                    now
                }
            };
            let (part, later) = rest.split_at(now);
            to.write_all(part).await?;
            rest = later;
            if budget == Some(Budget::Bytes(0)) {
                return Err(End::Cut);
            }
        }
    }
}

/// What one direction may still forward; no budget is no limit.
#[derive(PartialEq, Eq)]
enum Budget {
    Nothing,
    Bytes(u64),
}

fn budget(mode: Mode, replies: bool) -> Option<Budget> {
    match mode {
        Mode::Stall => Some(Budget::Nothing),
        Mode::CutAfter(bytes) if replies => Some(Budget::Bytes(bytes)),
        Mode::Pass | Mode::CutAfter(_) | Mode::Reset | Mode::Refuse => None,
    }
}
