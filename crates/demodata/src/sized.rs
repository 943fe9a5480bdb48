//! Documents of a given size: a few fields and a payload of text and numbers.

use bson::RawDocumentBuf;
use bson::raw::{RawArrayBuf, cstr};
use rand::Rng;

use crate::{identity, text};

/// What the fields beside the payload take.
const OVERHEAD: usize = 130;

/// A document of about `bytes` bytes: two thirds prose, one third an array of doubles.
pub(crate) fn document(seed: u64, index: u64, rng: &mut impl Rng, bytes: usize) -> RawDocumentBuf {
    let payload = bytes.saturating_sub(OVERHEAD);
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("_id"), identity::object_id(seed, index));
    document.append(cstr!("sequence"), index as i64);
    document.append(cstr!("title"), text::words(rng, 3));
    document.append(
        cstr!("createdAt"),
        identity::created_at(index, rng.random()),
    );
    document.append(cstr!("body"), text::prose(rng, payload * 2 / 3));
    let mut readings = RawArrayBuf::new();
    let mut left = payload / 3;
    let mut position: usize = 0;
    while let Some(rest) = left.checked_sub(element_bytes(position)) {
        readings.push(rng.random_range(-1000.0..1000.0));
        left = rest;
        position += 1;
    }
    document.append(cstr!("readings"), readings);
    document
}

/// What a double takes in an array: its type, its position in decimal digits and a NUL, and eight bytes.
fn element_bytes(position: usize) -> usize {
    let digits = position.checked_ilog10().unwrap_or(0) as usize + 1;
    1 + digits + 1 + 8
}
