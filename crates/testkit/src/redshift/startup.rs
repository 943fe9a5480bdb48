//! The start of a session, and its end.

use std::sync::Arc;

use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    Shared,
    backend::{Backend, Failure, Stream},
    session::Session,
    wire::{Frame, split_string, terminated},
};

/// Numbers in the place of the protocol's version that ask for something else.
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// What is set for every session: times in UTC, as in Redshift.
const SETUP: &str = "SET timezone TO 'UTC'";

/// Redshift says so of itself.
const VERSION: &str = "8.0.2";

/// Serves a connection until it ends.
pub(super) async fn serve(client: TcpStream, shared: Arc<Shared>) {
    let Ok(()) = client.set_nodelay(true) else {
        return;
    };
    let mut client = Stream::new(client);
    let started = start(&mut client, &shared).await;
    let ended = match started {
        Ok(Some(backend)) => {
            let mut session = Session::new(shared, client, backend);
            let ended = session.serve().await;
            client = session.client;
            ended
        }
        Ok(None) => return,
        Err(failure) => Err(failure),
    };
    if let Err(Failure::Fatal(frame)) = ended
        && frame.write(&mut client).await.is_ok()
    {
        client.flush().await.ok();
    }
}

/// Brings a client to where it may send statements; a request that is no session gets none.
async fn start(client: &mut Stream, shared: &Shared) -> Result<Option<Backend>, Failure> {
    let startup = loop {
        let frame = Frame::read_startup(client).await?;
        let version = frame
            .body
            .first_chunk()
            .map(|version| u32::from_be_bytes(*version));
        match version {
            Some(SSL_REQUEST | GSS_REQUEST) => {
                client.write_all(b"N").await?;
                client.flush().await?;
            }
            Some(CANCEL_REQUEST) => {
                // The server's own key, which its client has got as it is.
                let mut server = Backend::connect(shared.server).await?;
                server.send(&frame).await?;
                server.stream.flush().await?;
                return Ok(None);
            }
            _ => break frame,
        }
    };
    let mut backend = Backend::connect(shared.server).await?;
    backend.send(&startup).await?;
    loop {
        let frame = backend.receive().await?;
        match frame.tag {
            b'Z' => {
                backend.query(SETUP).await?;
                frame.write(client).await?;
                client.flush().await?;
                return Ok(Some(backend));
            }
            b'E' => return Err(Failure::Fatal(frame)),
            b'S' => redshifts(frame).write(client).await?,
            b'R' => {
                let waits = wants_answer(&frame);
                frame.write(client).await?;
                client.flush().await?;
                if waits {
                    backend.send(&Frame::read(client).await?).await?;
                }
            }
            _ => frame.write(client).await?,
        }
    }
}

/// Whether the client has to say something next: not after `AuthenticationOk` (0) and `AuthenticationSASLFinal` (12).
fn wants_answer(frame: &Frame) -> bool {
    let kind = frame
        .body
        .first_chunk()
        .map(|kind| u32::from_be_bytes(*kind));
    !matches!(kind, None | Some(0 | 12))
}

/// A `ParameterStatus`, where the version is Redshift's.
fn redshifts(frame: Frame) -> Frame {
    match split_string(&frame.body) {
        Some((name, _)) if name == "server_version" => {
            let mut body = terminated(&name);
            body.extend(terminated(VERSION));
            Frame::new(b'S', body)
        }
        _ => frame,
    }
}
