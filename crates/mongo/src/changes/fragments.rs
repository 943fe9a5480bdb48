//! Events that the server has split, whole again.
//!
//! With `$changeStreamSplitLargeEvent` an event of more than 16 MB comes as several, each with some
//! of its fields, a `splitEvent` that says which one of how many it is, and a token of its own. The
//! token of the last is that of the whole.

use bytes::Bytes;
use mongodb::bson::raw::cstr;
use mongodb::bson::{RawBsonRef, RawDocument, RawDocumentBuf};

use super::reply::ParseError;

/// The fragments of an event that is not complete yet.
#[derive(Default)]
pub(super) struct Fragments {
    fields: RawDocumentBuf,
    /// How many have come.
    come: i64,
    of: i64,
}

/// What an event of the stream is.
pub(super) enum Joined {
    /// It was not split.
    Whole,
    /// It was the last fragment; this is the event.
    Assembled(Bytes),
    /// There are more to come.
    Incomplete,
}

impl Fragments {
    /// Takes the next event of the stream.
    pub(super) fn join(&mut self, event: &RawDocument) -> Result<Joined, ParseError> {
        let Some(split) = event.get("splitEvent")? else {
            return match self.come {
                0 => Ok(Joined::Whole),
                _ => Err("an event has come in the middle of one that was split".into()),
            };
        };
        let split = split.as_document().ok_or("splitEvent is not a document")?;
        let (fragment, of) = (number(split, "fragment")?, number(split, "of")?);
        if fragment != self.come + 1 || (self.come > 0 && of != self.of) || fragment > of {
            let come = self.come;
            return Err(
                format!("fragment {fragment} of {of} has come behind fragment {come}").into(),
            );
        }
        (self.come, self.of) = (fragment, of);
        let mut token = None;
        for field in event {
            let (name, value) = field?;
            match name.as_str() {
                "_id" => token = Some(value),
                "splitEvent" => {}
                _ => self.fields.append(name, value),
            }
        }
        if fragment < of {
            return Ok(Joined::Incomplete);
        }
        let mut whole = std::mem::take(self).fields;
        let token = token.ok_or("a fragment has no resume token")?;
        whole.append(cstr!("_id"), token);
        Ok(Joined::Assembled(whole.into_bytes().into()))
    }

    /// Whether the last event lacks some of its fragments.
    pub(super) fn are_pending(&self) -> bool {
        self.come > 0
    }
}

fn number(split: &RawDocument, name: &str) -> Result<i64, ParseError> {
    let number = match split.get(name)? {
        Some(RawBsonRef::Int32(number)) => Some(number.into()),
        Some(RawBsonRef::Int64(number)) => Some(number),
        _ => None,
    };
    number.ok_or_else(|| format!("splitEvent has no {name}").into())
}
