//! Documents as they come off the wire.

use bytes::Bytes;
use tributary_model::{Error, ErrorKind, Result};

use crate::snapshot::Bookmark;

/// A batch of raw BSON documents: the body of the array in a server's reply, uncopied.
#[derive(Debug, Clone)]
pub struct DocumentBatch {
    array: Bytes,
    /// Where reading can go on behind this batch, if the partition is read in an order that allows
    /// it.
    pub bookmark: Option<Bookmark>,
    /// How many leading documents were in the batch before and are to be passed over.
    pub skip: usize,
}

impl DocumentBatch {
    /// A batch of the documents in `array`, a BSON array of documents.
    #[must_use]
    pub fn new(array: Bytes) -> Self {
        Self {
            array,
            bookmark: None,
            skip: 0,
        }
    }

    /// The size of the batch in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.array.len()
    }

    /// The documents, in order.
    pub fn documents(&self) -> impl Iterator<Item = Result<&[u8]>> {
        Documents {
            rest: self.array.get(4..).unwrap_or_default(),
        }
        .skip(self.skip)
    }
}

struct Documents<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Documents<'a> {
    type Item = Result<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        match split_element(self.rest) {
            Split::End => None,
            Split::Document { document, rest } => {
                self.rest = rest;
                Some(Ok(document))
            }
            Split::Malformed => {
                self.rest = &[];
                Some(Err(Error::new(
                    ErrorKind::InvalidData,
                    "the server's reply is not an array of documents",
                )))
            }
        }
    }
}

enum Split<'a> {
    Document { document: &'a [u8], rest: &'a [u8] },
    End,
    Malformed,
}

fn split_element(bytes: &[u8]) -> Split<'_> {
    const DOCUMENT: u8 = 0x03;
    match bytes.first() {
        None | Some(0) => return Split::End,
        Some(&DOCUMENT) => {}
        Some(_) => return Split::Malformed,
    }
    let parts = || {
        let name = bytes.get(1..)?.iter().position(|b| *b == 0)?;
        let value = bytes.get(name + 2..)?;
        let length = i32::from_le_bytes(value.get(..4)?.try_into().ok()?);
        let length = usize::try_from(length).ok()?;
        value.split_at_checked(length)
    };
    match parts() {
        Some((document, rest)) if document.len() >= 5 => Split::Document { document, rest },
        _ => Split::Malformed,
    }
}
