//! Reading bodies, and the room that they take in memory.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::Request;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::access::is_open;
use crate::limits::busy;
use crate::problem::Problem;

/// What bodies in memory are counted in, in bytes.
pub(crate) const UNIT: usize = 1 << 10;

/// Room for bodies.
pub(crate) struct Memory {
    free: Arc<Semaphore>,
    /// How many [`UNIT`]s there are. A body that is larger than all of them takes all of them.
    all: usize,
}

/// Why a body has not been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It is larger than it may be.
    TooLarge,
    /// There is no room for it now.
    NoRoom,
    /// It did not come whole.
    Broken,
}

impl IntoResponse for Unread {
    fn into_response(self) -> Response {
        let (status, detail) = match self {
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the request is too large"),
            Self::NoRoom => return busy("too much is sent at once; try again later"),
            Self::Broken => (
                StatusCode::BAD_REQUEST,
                "the request's body did not come whole",
            ),
        };
        Problem::new(status, detail).into_response()
    }
}

impl Memory {
    /// Room of so many [`UNIT`]s.
    pub(crate) fn new(units: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(units)),
            all: units,
        }
    }

    /// What so many bytes take.
    fn units(&self, bytes: usize) -> usize {
        (bytes / UNIT + 1).min(self.all)
    }

    /// Reads a body of so many bytes at most, once there is room for as much as it says to have. It waits for that
    /// as long as it may: for those who have proven that they mean what they say.
    pub(crate) async fn read_reserved(
        &self,
        body: Body,
        limit: usize,
        patience: Duration,
    ) -> Result<(Bytes, OwnedSemaphorePermit), Unread> {
        let units = self.units(announced(&body, limit)?.unwrap_or(limit));
        let room = Arc::clone(&self.free).acquire_many_owned(count(units));
        let Ok(Ok(room)) = timeout(patience, room).await else {
            return Err(Unread::NoRoom);
        };
        Ok((whole(body, limit).await?, room))
    }

    /// Reads a body of so many bytes at most, and takes room for what has come of it, whatever it says to have.
    ///
    /// It does not wait for room: bodies of which a part has come would wait for one another.
    pub(crate) async fn read_arriving(
        &self,
        body: Body,
        limit: usize,
    ) -> Result<(Bytes, OwnedSemaphorePermit), Unread> {
        announced(&body, limit)?;
        let mut room = self.some(self.units(0))?;
        let mut read = Vec::new();
        let mut parts = body.into_data_stream();
        while let Some(part) = parts.next().await {
            let part = part.map_err(|_| Unread::Broken)?;
            let bytes = read.len().saturating_add(part.len());
            if bytes > limit {
                return Err(Unread::TooLarge);
            }
            let missing = self.units(bytes).saturating_sub(room.num_permits());
            if missing > 0 {
                room.merge(self.some(missing)?);
            }
            read.extend_from_slice(&part);
        }
        Ok((Bytes::from(read), room))
    }

    fn some(&self, units: usize) -> Result<OwnedSemaphorePermit, Unread> {
        let room = Arc::clone(&self.free).try_acquire_many_owned(count(units));
        room.map_err(|_| Unread::NoRoom)
    }
}

fn count(units: usize) -> u32 {
    u32::try_from(units).unwrap_or(u32::MAX)
}

/// How long a body says to be.
fn announced(body: &Body, limit: usize) -> Result<Option<usize>, Unread> {
    let Some(bytes) = body.size_hint().exact() else {
        return Ok(None);
    };
    let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= limit);
    bytes.map(Some).ok_or(Unread::TooLarge)
}

/// Reads the body, which no request needs, so that one that is too large is refused also where its length
/// was not announced, and the connection is good for the next request. Whoever may ask without a token is not waited
/// for.
pub(crate) async fn read_body(request: Request, next: Next) -> Response {
    if is_open(request.uri().path()) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    // The limit is that of the body itself.
    match whole(body, usize::MAX).await {
        Ok(bytes) => {
            next.run(Request::from_parts(parts, Body::from(bytes)))
                .await
        }
        Err(unread) => unread.into_response(),
    }
}

/// Reads a body of so many bytes at most.
async fn whole(body: Body, limit: usize) -> Result<Bytes, Unread> {
    to_bytes(body, limit).await.map_err(|error| {
        let is_too_large =
            std::iter::successors(std::error::Error::source(&error), |error| error.source())
                .any(|error| error.to_string() == "length limit exceeded");
        match is_too_large {
            true => Unread::TooLarge,
            false => Unread::Broken,
        }
    })
}

/// The answer to a request of which the body has not been read: over HTTP/1, what is left of it would stand before the
/// next request.
pub(crate) fn unread(version: Version, mut response: Response) -> Response {
    if version <= Version::HTTP_11 {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response
}
