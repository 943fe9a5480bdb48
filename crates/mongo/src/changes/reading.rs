//! Reading a change stream reply by reply, and what is done where that fails.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use mongodb::bson::{Bson, Document, Timestamp, doc};
use mongodb::raw_batch_cursor::RawBatchCursor;
use tributary_model::{Error, ErrorKind, Position};

use super::deployment::other_source;
use crate::connect::Connection;
use crate::error::{BSON_OBJECT_TOO_LARGE, CHANGE_STREAM_FATAL_ERROR};
use crate::snapshot::reply_bytes;

/// How long an answer is waited for at most. A server that reads through millions of changes of
/// other collections is silent for minutes; the driver itself notices a server that is gone.
const SILENCE: Duration = Duration::from_secs(15 * 60);
/// The most events of a batch. The server ends one at 16 MB by itself.
const BATCH_EVENTS: u32 = 5_000;

/// How much of an event is asked for. An event with everything may be larger than the server can
/// send; it fails its whole batch then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Everything.
    All,
    /// Everything, in batches of one event: those before the one that is too large still come.
    OneByOne,
    /// One event without the document before it and the description of the update.
    WithoutImages,
    /// One event without any document, which is looked up.
    KeyOnly,
}

impl Detail {
    /// What is tried when this was too much.
    fn less(self) -> Option<Self> {
        match self {
            Self::All => Some(Self::OneByOne),
            Self::OneByOne => Some(Self::WithoutImages),
            Self::WithoutImages => Some(Self::KeyOnly),
            Self::KeyOnly => None,
        }
    }

    /// What is asked for next when reading has failed; none where less does not help.
    pub(crate) fn after(self, failure: &ReadFailure) -> Option<Self> {
        match failure {
            ReadFailure::TooLarge(_) => self.less(),
            _ => None,
        }
    }

    /// The most events of a batch, and after how many everything is asked for again.
    pub(crate) fn events(self) -> (u32, Option<usize>) {
        match self {
            Self::All => (BATCH_EVENTS, None),
            // The one that was too large is among so many.
            Self::OneByOne => (1, Some(BATCH_EVENTS as usize)),
            Self::WithoutImages | Self::KeyOnly => (1, Some(1)),
        }
    }

    pub(crate) fn is_reduced(self) -> bool {
        matches!(self, Self::WithoutImages | Self::KeyOnly)
    }

    /// The fields of events that are not asked for.
    pub(crate) fn left_out(self) -> &'static [&'static str] {
        match self {
            Self::All | Self::OneByOne => &[],
            Self::WithoutImages => &["fullDocumentBeforeChange", "updateDescription"],
            Self::KeyOnly => &[
                "fullDocumentBeforeChange",
                "updateDescription",
                "fullDocument",
            ],
        }
    }
}

/// Why reading has ended without a failure.
pub(crate) enum Read {
    /// Nobody listens any more, or the stream was invalidated.
    Ended,
    /// As many events were passed as were to be read in this way.
    Passed,
}

/// Why the changes cannot be read on.
pub(crate) enum ReadFailure {
    /// The stream has no event of that token.
    TokenNotFound(mongodb::error::Error),
    /// An event is larger than the server can send.
    TooLarge(mongodb::error::Error),
    Driver(mongodb::error::Error),
    Told(Error),
}

impl ReadFailure {
    pub(crate) fn of(error: mongodb::error::Error) -> Self {
        let mongodb::error::ErrorKind::Command(command) = error.kind.as_ref() else {
            return Self::Driver(error);
        };
        match command.code {
            CHANGE_STREAM_FATAL_ERROR if command.message.contains("resume token was not found") => {
                Self::TokenNotFound(error)
            }
            BSON_OBJECT_TOO_LARGE => Self::TooLarge(error),
            _ => Self::Driver(error),
        }
    }

    /// An event that is not what one should be.
    pub(crate) fn malformed(
        connection: &Connection,
        error: Box<dyn std::error::Error + Send + Sync>,
    ) -> Self {
        let malformed = Error::new(
            ErrorKind::InvalidData,
            "an event of the change stream cannot be read",
        );
        Self::Told(malformed.because(error).on("server", &connection.server))
    }

    pub(crate) fn told(self, connection: &Connection) -> Error {
        const WHAT: &str = "cannot read the changes";
        match self {
            Self::TokenNotFound(error) => other_source(
                "the source does not know the event that was read last",
                connection,
            )
            .because(error.to_string()),
            Self::TooLarge(error) => Error::new(
                ErrorKind::InvalidData,
                "a change is larger than an event of the change stream can be, even without its documents",
            )
            .on("server", &connection.server)
            .because(error.to_string())
            .remedy("its `_id` takes several megabytes: delete that document, and load the collection anew with --overwrite"),
            Self::Driver(error) => connection.failed(WHAT, &error),
            Self::Told(error) => error,
        }
    }
}

/// A change stream that is to be opened.
pub(crate) struct Opening<'a> {
    pub(crate) database: &'a str,
    /// The collection; none for all of the database.
    pub(crate) collection: Option<&'a str>,
    pub(crate) pipeline: Vec<Document>,
    /// How long the server waits for an event before it answers that there is none.
    pub(crate) idle: Duration,
    pub(crate) detail: Detail,
    /// What the server's operators see.
    pub(crate) comment: &'static str,
}

impl Opening<'_> {
    pub(crate) async fn open(self, connection: &Connection) -> Result<RawBatchCursor, ReadFailure> {
        let target = match self.collection {
            Some(collection) => Bson::from(collection),
            None => Bson::Int32(1),
        };
        // Without a first batch the answer comes at once, however much there is to read through.
        connection
            .client
            .database(self.database)
            .run_cursor_command(doc! {
                "aggregate": target,
                "pipeline": self.pipeline,
                "cursor": { "batchSize": 0 },
                "readConcern": { "level": "majority" },
                "comment": self.comment,
            })
            .selection_criteria(connection.read_from.clone())
            .batch_size(self.detail.events().0)
            .max_time(self.idle)
            .batch()
            .await
            .map_err(ReadFailure::of)
    }
}

/// The next reply of a stream; none where it has ended.
pub(crate) async fn next_reply(
    connection: &Connection,
    cursor: &mut RawBatchCursor,
) -> Result<Option<Bytes>, ReadFailure> {
    match tokio::time::timeout(SILENCE, cursor.next()).await {
        Ok(Some(reply)) => Ok(Some(reply_bytes(reply.map_err(ReadFailure::of)?))),
        Ok(None) => Ok(None),
        Err(_) => {
            let silent = Error::new(
                ErrorKind::Unreachable,
                "the server does not answer any more",
            );
            Err(ReadFailure::Told(silent.on("server", &connection.server)))
        }
    }
}

/// Where a stream begins, as its first stage says it.
pub(crate) fn start_of(position: &Position) -> Document {
    match &position.resume_token {
        // Also behind an event that has ended its stream.
        Some(token) => doc! { "startAfter": { "_data": token } },
        None => {
            let time = position.cluster_time;
            let time = Timestamp {
                time: time.seconds(),
                increment: time.ordinal(),
            };
            doc! { "startAtOperationTime": time }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Detail;

    #[test]
    fn less_and_less_is_asked_for_until_nothing_is_left_out() {
        let mut detail = Detail::All;
        let mut ways = vec![detail];
        while let Some(less) = detail.less() {
            ways.push(less);
            detail = less;
        }
        assert_eq!(ways.len(), 4);
        // Only what was too large is asked for in part.
        assert!(
            ways.iter()
                .all(|way| !way.is_reduced() || way.events().1 == Some(1))
        );
        assert!(
            ways.iter()
                .all(|way| way.is_reduced() != way.left_out().is_empty())
        );
    }
}
