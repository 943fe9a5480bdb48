//! Following a deployment's events as they are.

mod pipeline;
mod reply;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tributary_flow::{EventSource, HistoryWindow, RawEvents, Watch};
use tributary_model::{ClusterTime, Error, ErrorKind, Position, Result};

use crate::changes::IDLE;
use crate::changes::reading::{Detail, Opening, Read, ReadFailure, next_reply, start_of};
use crate::connect::Connection;
use pipeline::Stream;
use reply::RawReplies;

/// The events of a deployment.
#[derive(Debug)]
pub struct MongoEvents {
    connection: Connection,
}

impl MongoEvents {
    /// The events of the deployment behind `connection`. What is watched is said when they are
    /// followed; a database that the connection's address names does not matter.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// Sends the events behind `position`, and moves it on with them.
    async fn read(
        &self,
        stream: &Stream<'_>,
        position: &mut Position,
        detail: Detail,
        out: &mpsc::Sender<RawEvents>,
    ) -> Result<Read, ReadFailure> {
        let pipeline = stream.pipeline(start_of(position), detail);
        let (database, collection) = stream.target();
        let opening = Opening {
            database,
            collection,
            pipeline,
            idle: IDLE,
            detail,
            comment: "tributary events",
        };
        let mut cursor = opening.open(&self.connection).await?;
        let most_events = detail.events().1;
        let mut replies = RawReplies::new(position.clone(), detail.is_reduced());
        let mut events = 0;
        loop {
            let reply = tokio::select! {
                reply = next_reply(&self.connection, &mut cursor) => reply?,
                () = out.closed() => return Ok(Read::Ended),
            };
            let Some(reply) = reply else {
                return Ok(Read::Ended);
            };
            let batch = replies
                .parse(&reply)
                .map_err(|error| ReadFailure::malformed(&self.connection, error))?;
            events += batch.events.len();
            *position = batch.position.clone();
            if out.send(batch).await.is_err() {
                return Ok(Read::Ended);
            }
            if most_events.is_some_and(|most| events >= most) {
                return Ok(Read::Passed);
            }
        }
    }
}

/// Whether stages select events by what is looked up when they are read, and which may be another then.
fn selects_by_documents(watch: &Watch) -> bool {
    let has = |stage: &[u8], word: &[u8]| stage.windows(word.len()).any(|part| part == word);
    watch.stages.iter().any(|stage| {
        has(stage, b"$match") && (has(stage, b"fullDocument") || has(stage, b"$$ROOT"))
    })
}

#[async_trait]
impl EventSource for MongoEvents {
    fn place(&self) -> &str {
        self.connection.server()
    }

    async fn now(&self) -> Result<Position> {
        // What was acknowledged is at the present at the latest, and what is begun now behind it.
        let present = self.connection.present().await?.0;
        Ok(Position {
            deployment: self.connection.ask_deployment().await,
            ..Position::at(ClusterTime(present.saturating_add(1)))
        })
    }

    async fn follow(
        &self,
        watch: &Watch,
        from: &Position,
        out: mpsc::Sender<RawEvents>,
    ) -> Result<()> {
        let server = self.connection.ask_server().await?;
        self.connection
            .check_deployment(from, server.deployment.as_deref())?;
        let stream = Stream::new(watch, &server).map_err(|error| {
            Error::new(ErrorKind::Usage, "the events cannot be watched like that")
                .on("server", self.connection.server())
                .because(error)
        })?;
        let id = stream.id();
        let mut reached = match from.stream.as_ref() == Some(&id) {
            true => from.clone(),
            // The stream may not know the token. By their time, events come again that had come
            // before; whoever follows passes over those by their tokens.
            false => from.without_token(),
        };
        reached.stream = Some(id);
        if server.deployment.is_some() {
            reached.deployment = server.deployment;
        }
        let mut detail = Detail::All;
        loop {
            detail = match self.read(&stream, &mut reached, detail, &out).await {
                Ok(Read::Ended) => return Ok(()),
                Ok(Read::Passed) => Detail::All,
                // The event that was read last is not selected any more where its document has changed since,
                // and its token is not found then. By the time alone it is passed, and what comes behind it
                // is selected as ever.
                Err(ReadFailure::TokenNotFound(error))
                    if reached.resume_token.is_some() && selects_by_documents(watch) =>
                {
                    tracing::warn!(%error, "the event that was read last is not selected any more: goes on by its time");
                    reached.resume_token = None;
                    detail
                }
                Err(failure) => match detail.after(&failure) {
                    Some(less) => less,
                    None => return Err(failure.told(&self.connection)),
                },
            };
        }
    }

    async fn window(&self) -> Result<Option<HistoryWindow>> {
        Ok(self.connection.history_window().await)
    }
}
