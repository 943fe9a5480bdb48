//! What an event is in the stream.

use tributary_convert::event::{self, DISPENSABLE};
use tributary_convert::extjson::{Mode, write_document};
use tributary_flow::RawEvent;
use tributary_model::{Error, ErrorKind, Result};

use crate::publish::partition::KeyField;

/// A record.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) key: String,
    /// Extended JSON.
    pub(super) data: Vec<u8>,
    /// Of the event.
    pub(super) token: String,
    /// Whether the event is without some of its fields.
    pub(super) is_reduced: bool,
}

impl Record {
    /// As Kinesis counts them.
    pub(super) fn bytes(&self) -> usize {
        self.key.len() + self.data.len()
    }
}

/// The record of an event, of so many bytes at most. What is too large goes without the document before the
/// change and the description of the update, and if need be without the document, and says so.
pub(super) fn record_of(
    event: &RawEvent,
    key: &KeyField,
    mode: Mode,
    most: usize,
) -> Result<Record> {
    let unreadable = |error: tributary_convert::raw::MalformedBson| {
        Error::new(ErrorKind::InvalidData, "an event cannot be read")
            .on("namespace", event.namespace())
            .on("clusterTime", event.cluster_time)
            .because(error)
    };
    let whole = &event.document;
    let lacking = match event.is_reduced {
        true => event::lacking(whole).map_err(unreadable)?,
        false => Vec::new(),
    };
    let key = key.of(event);
    // The more of them are left out, the smaller; what the server left out is said in any case.
    for left_out in [0, 2, DISPENSABLE.len()] {
        let names: Vec<&str> = DISPENSABLE
            .iter()
            .enumerate()
            .filter(|(at, name)| *at < left_out || lacking.contains(name))
            .map(|(_, name)| *name)
            .collect();
        let mut data = Vec::with_capacity(whole.len() * 2);
        match names.is_empty() {
            true => write_document(&mut data, whole, mode),
            false => event::without(whole, &names)
                .and_then(|lighter| write_document(&mut data, &lighter, mode)),
        }
        .map_err(unreadable)?;
        let record = Record {
            key: key.clone(),
            data,
            token: event.token.clone(),
            is_reduced: !names.is_empty(),
        };
        if record.bytes() <= most {
            return Ok(record);
        }
    }
    Err(Error::new(
        ErrorKind::InvalidData,
        "a change is too large for the stream, even without its documents",
    )
    .on("namespace", event.namespace())
    .on("clusterTime", event.cluster_time)
    .on("bytes", whole.len())
    .on("limit", most)
    .remedy("let the stream take larger records (UpdateMaxRecordSize), then start again"))
}
