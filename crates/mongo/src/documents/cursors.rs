//! Cursors, and the batches that are read from them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use mongodb::bson::{RawArray, RawArrayBuf, RawBsonRef, RawDocument, RawDocumentBuf, cstr};
use mongodb::raw_batch_cursor::{RawBatchCursor, SessionRawBatchCursor};

use super::failure::Failure;
use super::sessions::{Held, SessionHandle};
use super::{Task, answer};
use crate::changes::reply::events_of;
use crate::snapshot::reply_bytes;

/// How many bytes of documents are passed on at once, unless one of them is larger. The server puts
/// up to 16 MB into a batch.
const BATCH_BYTES: usize = 4 << 20;

/// The cursors of a scope by their numbers.
#[derive(Default)]
pub(super) struct Cursors(Mutex<Numbered>);

#[derive(Default)]
struct Numbered {
    last: i32,
    cursors: HashMap<i32, Open>,
}

#[derive(Clone)]
struct Open {
    session: Option<SessionHandle>,
    cursor: Arc<tokio::sync::Mutex<Cursor>>,
}

impl Cursors {
    fn numbered(&self) -> MutexGuard<'_, Numbered> {
        // Nothing that can panic runs while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, number: i32) -> Result<Open, Failure> {
        let found = self.numbered().cursors.get(&number).cloned();
        found.ok_or_else(|| Failure::of("the cursor is closed or never was"))
    }

    /// The session that a cursor was opened in.
    pub(super) fn session_of(&self, number: i32) -> Result<Option<SessionHandle>, Failure> {
        Ok(self.get(number)?.session)
    }

    fn add(&self, cursor: Cursor, session: Option<SessionHandle>) -> i32 {
        let cursor = Arc::new(tokio::sync::Mutex::new(cursor));
        let mut numbered = self.numbered();
        numbered.last += 1;
        let number = numbered.last;
        numbered.cursors.insert(number, Open { session, cursor });
        number
    }

    fn remove(&self, number: i32) -> Option<Open> {
        self.numbered().cursors.remove(&number)
    }

    /// Closes all of them.
    pub(super) fn clear(&self) {
        let cursors = std::mem::take(&mut self.numbered().cursors);
        drop(cursors);
    }
}

/// The driver's cursor.
pub(super) enum Source {
    Plain(Box<RawBatchCursor>),
    OfSession(Box<SessionRawBatchCursor>),
}

impl Source {
    /// The next reply; none where there is no more.
    async fn next(&mut self, session: &mut Option<Held>) -> Result<Option<Bytes>, Failure> {
        let reply = match (self, session) {
            (Self::Plain(cursor), _) => cursor.next().await,
            (Self::OfSession(cursor), Some(held)) => cursor.stream(held.driver()).next().await,
            (Self::OfSession(_), None) => {
                return Err(Failure::of("the cursor belongs to a session"));
            }
        };
        Ok(reply.transpose()?.map(reply_bytes))
    }

    /// The first document, where there is no more than one.
    pub(super) async fn only(
        mut self,
        session: &mut Option<Held>,
    ) -> Result<Option<Bytes>, Failure> {
        let Some(reply) = self.next(session).await? else {
            return Ok(None);
        };
        let documents = documents_of(&reply)?;
        let first = documents.into_iter().next().transpose()?;
        let first = first.and_then(|first| first.as_document());
        Ok(first.map(|first| reply.slice_ref(first.as_bytes())))
    }
}

/// A cursor and the part of its last reply that was not passed on yet.
struct Cursor {
    source: Source,
    reply: Option<Bytes>,
    /// How many documents of the reply were passed on.
    passed: usize,
    /// Whether the server has no more.
    is_exhausted: bool,
}

impl Cursor {
    /// The next documents, and whether there may be more. Some, if there are any.
    async fn next(&mut self, session: &mut Option<Held>) -> Result<(RawArrayBuf, bool), Failure> {
        let reply = match self.reply.take() {
            Some(reply) => reply,
            None => {
                self.passed = 0;
                match self.source.next(session).await? {
                    Some(reply) => reply,
                    None => return Ok((RawArrayBuf::new(), false)),
                }
            }
        };
        let documents = documents_of(&reply)?;
        let cursor = RawDocument::from_bytes(&reply)?.get_document("cursor")?;
        self.is_exhausted = matches!(cursor.get("id")?, Some(RawBsonRef::Int64(0)));
        if self.passed == 0 && documents.as_bytes().len() <= BATCH_BYTES {
            return Ok((documents.to_owned(), !self.is_exhausted));
        }
        let mut batch = RawArrayBuf::new();
        let mut bytes = 0;
        for document in documents.into_iter().skip(self.passed) {
            let document = document?;
            let length = document.as_document().map_or(0, |d| d.as_bytes().len());
            if bytes > 0 && bytes + length > BATCH_BYTES {
                self.reply = Some(reply.clone());
                return Ok((batch, true));
            }
            batch.push(document);
            bytes += length;
            self.passed += 1;
        }
        Ok((batch, !self.is_exhausted))
    }
}

fn documents_of(reply: &Bytes) -> Result<&RawArray, Failure> {
    let cursor = RawDocument::from_bytes(reply)?.get_document("cursor")?;
    events_of(cursor).map_err(|error| Failure::of(error.to_string()))
}

/// Answers the first batch of a cursor, and keeps the cursor if there is more.
pub(super) async fn open(
    task: &Task,
    session: &mut Option<Held>,
    source: Source,
) -> Result<Bytes, Failure> {
    let mut cursor = Cursor {
        source,
        reply: None,
        passed: 0,
        is_exhausted: false,
    };
    let (batch, is_more) = cursor.next(session).await?;
    let number = is_more.then(|| {
        let session = match &cursor.source {
            Source::OfSession(_) => session.as_ref().map(Held::handle),
            Source::Plain(_) => None,
        };
        task.cursors.add(cursor, session)
    });
    Ok(batch_answer(&batch, number))
}

pub(super) async fn get_more(task: &Task, session: &mut Option<Held>) -> Result<Bytes, Failure> {
    let arguments = task.arguments(&["cursor"])?;
    task.options(&[])?;
    let number = arguments.required("cursor", arguments.number("cursor")?)?;
    let cursor = task.cursors.get(number)?.cursor;
    let next = cursor.lock().await.next(session).await;
    match next {
        Ok((batch, true)) => Ok(batch_answer(&batch, Some(number))),
        Ok((batch, false)) => {
            task.cursors.remove(number);
            Ok(batch_answer(&batch, None))
        }
        Err(failure) => {
            task.cursors.remove(number);
            Err(failure)
        }
    }
}

pub(super) fn close(task: &Task) -> Result<Bytes, Failure> {
    let arguments = task.arguments(&["cursor"])?;
    task.options(&[])?;
    let number = arguments.required("cursor", arguments.number("cursor")?)?;
    // The driver tells the server when it is dropped.
    drop(task.cursors.remove(number));
    Ok(answer::null())
}

fn batch_answer(batch: &RawArray, number: Option<i32>) -> Bytes {
    let mut result = RawDocumentBuf::new();
    result.append(cstr!("batch"), batch);
    match number {
        Some(number) => result.append(cstr!("cursor"), number),
        None => result.append(cstr!("cursor"), RawBsonRef::Null),
    }
    answer::of(&result)
}
