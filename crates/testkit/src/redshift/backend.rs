//! The connection to PostgreSQL behind a session.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncWriteExt, BufStream},
    net::TcpStream,
};

use super::{
    names::LongNames,
    refusal::Refusal,
    wire::{Frame, renamed, values},
};

/// A side of a session.
pub(super) type Stream = BufStream<TcpStream>;

/// Rows of a query in the text format.
pub(super) type Rows = Vec<Vec<Option<String>>>;

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// The client is told, and the session goes on.
    Refused(Refusal),
    /// The session ends, as the client or the server went away, or because a test has asked for it.
    Gone,
    /// The session ends with what the server said last.
    Fatal(Frame),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// The connection to PostgreSQL.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) stream: Stream,
    /// The state of the transaction by the last `ReadyForQuery`: `I`, `T` or `E`.
    pub(super) status: u8,
}

impl Backend {
    pub(super) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufStream::new(stream),
            status: b'I',
        })
    }

    pub(super) async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        frame.write(&mut self.stream).await
    }

    /// The next message. What ends the session, this says as an error.
    pub(super) async fn receive(&mut self) -> Result<Frame, Failure> {
        self.stream.flush().await?;
        let frame = Frame::read(&mut self.stream).await?;
        if frame.tag == b'Z' {
            self.status = frame.body.first().copied().unwrap_or(b'I');
        }
        if frame.tag == b'E' && frame.field(b'V').as_deref() == Some("FATAL") {
            return Err(Failure::Fatal(frame));
        }
        Ok(frame)
    }

    /// Runs statements that the client does not hear of.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Rows, Failure> {
        self.send(&Frame::text(b'Q', sql)).await?;
        let (mut rows, mut error) = (Rows::new(), None);
        loop {
            let frame = self.receive().await?;
            match frame.tag {
                b'D' => rows.extend(values(&frame)),
                b'E' => error = Some(frame.refusal()),
                b'Z' => return error.map_or(Ok(rows), |error| Err(error.into())),
                _ => {}
            }
        }
    }

    /// Runs a statement whose answers the client hears, but for the last: that it is complete.
    pub(super) async fn relay(
        &mut self,
        sql: &str,
        client: &mut Stream,
        names: &LongNames,
    ) -> Result<Option<Frame>, Failure> {
        self.send(&Frame::text(b'Q', sql)).await?;
        let (mut complete, mut error) = (None, None);
        loop {
            let frame = self.receive().await?;
            match frame.tag {
                b'C' | b'I' => complete = Some(frame),
                b'E' => error = Some(frame.refusal()),
                b'Z' => return error.map_or(Ok(complete), |error| Err(error.into())),
                _ => pass(frame, client, names).await?,
            }
        }
    }
}

/// Passes a message of the server on, with the names of columns that are Redshift's.
pub(super) async fn pass(frame: Frame, client: &mut Stream, names: &LongNames) -> io::Result<()> {
    let changed = (frame.tag == b'T' && !names.is_empty())
        .then(|| renamed(&frame, |stored| names.name_of(stored)))
        .flatten();
    changed.unwrap_or(frame).write(client).await
}
