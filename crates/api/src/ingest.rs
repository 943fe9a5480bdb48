//! What takes pushed events, behind the API.

use async_trait::async_trait;
use axum::body::Bytes;
use axum::http::HeaderMap;
use tributary_model::Error;

/// The sources that events can be pushed to. Each looks itself who pushes: tokens of the API have nothing to
/// do with that.
#[async_trait]
pub trait Ingests: Send + Sync {
    /// How the body of a request is to be read; none where it need not be, for its headers say that it may not
    /// push. A source that there is not is like one whose key is wrong.
    fn admit(&self, name: &str, headers: &HeaderMap) -> Option<Admitted>;

    /// Takes the events of a request, all of them or none. They are durable when it returns.
    ///
    /// # Errors
    /// Why none has been taken.
    async fn take(&self, name: &str, headers: &HeaderMap, body: Bytes) -> Result<Taken, Refusal>;
}

/// How the body of a request is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// How many bytes it may have.
    pub largest: usize,
    /// Whether a key that is right came before it. Otherwise the body itself has to prove that it may be pushed.
    pub is_proven: bool,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Events that are new.
    pub accepted: u64,
    /// Events that had been taken before.
    pub duplicates: u64,
}

/// Why nothing of a request was taken.
#[derive(Debug)]
pub enum Refusal {
    /// Who pushes may not, or there is no such source.
    Unauthenticated,
    /// It is larger than so many bytes.
    TooLarge(usize),
    /// It is of a media type, or encoded in a way, that is not known.
    UnknownForm,
    /// What is wrong with its events, by their number in it; none where it is the request as a whole.
    Wrong(Vec<(Option<usize>, String)>),
    /// The disk has no room.
    Full(Error),
    /// It could not be made durable.
    Failed(Error),
}
