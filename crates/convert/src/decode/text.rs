//! Text and byte columns: values one behind the other, with offsets, as Arrow lays them out.

use arrow::array::{Array, ArrayRef, BinaryArray, StringArray};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use std::sync::Arc;

/// Growing values of a text or binary column. A null is an empty value.
#[derive(Debug)]
pub(super) struct Bytes {
    offsets: Vec<i32>,
    pub(super) data: Vec<u8>,
}

impl Default for Bytes {
    fn default() -> Self {
        Self {
            offsets: vec![0],
            data: Vec::new(),
        }
    }
}

impl Bytes {
    #[inline]
    pub(super) fn push(&mut self, value: &[u8]) {
        self.data.extend_from_slice(value);
        self.end_value();
    }

    /// Ends a value whose bytes have been put at the end of `data`.
    #[inline]
    pub(super) fn end_value(&mut self) {
        // A batch is cut long before 2 GiB, and one document is at most 16 MiB.
        self.offsets.push(self.data.len() as i32);
    }

    pub(super) fn push_empty(&mut self, count: usize) {
        let end = self.data.len() as i32;
        self.offsets.extend(std::iter::repeat_n(end, count));
    }

    fn take(&mut self) -> (OffsetBuffer<i32>, Vec<u8>) {
        let room = Self {
            offsets: Vec::with_capacity(self.offsets.len()),
            data: Vec::with_capacity(self.data.len()),
        };
        let Self { offsets, data } = std::mem::replace(self, room);
        self.offsets.push(0);
        (OffsetBuffer::new(ScalarBuffer::from(offsets)), data)
    }

    /// The values as text: every value pushed was checked to be UTF-8.
    pub(super) fn finish_text(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        let (offsets, data) = self.take();
        match StringArray::try_new(offsets.clone(), data.into(), nulls.clone()) {
            Ok(array) => Arc::new(array),
            // Unreachable while the invariant above holds; an empty column would lose data.
            Err(error) => unreachable!("text column of invalid text: {error}"),
        }
    }

    pub(super) fn finish_binary(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        let (offsets, data) = self.take();
        Arc::new(BinaryArray::new(offsets, data.into(), nulls))
    }
}

const HEX: [[u8; 2]; 256] = {
    let digits = *b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = [digits[i >> 4], digits[i & 15]];
        i += 1;
    }
    table
};

/// Puts `bytes` as lower-case hexadecimal digits.
#[inline]
pub(super) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        out.extend_from_slice(&HEX[usize::from(byte)]);
    }
}

/// Puts a UUID in its usual form with hyphens.
pub(super) fn push_uuid(out: &mut Vec<u8>, bytes: &[u8; 16]) {
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend_from_slice(&HEX[usize::from(*byte)]);
    }
}

/// `text` in each row that is not null.
pub(super) fn constant_text(text: &str, rows: usize, nulls: Option<NullBuffer>) -> ArrayRef {
    let valid = |row| nulls.as_ref().is_none_or(|n| n.is_valid(row));
    Arc::new(
        (0..rows)
            .map(|row| valid(row).then_some(text))
            .collect::<StringArray>(),
    )
}

/// Lists whose items have shown no type: nulls, or documents and lists that are empty themselves
/// (`items`, as text), written as Extended JSON.
pub(super) fn untyped_lists(
    offsets: &[i32],
    items: Option<&ArrayRef>,
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    let items = items.and_then(|items| items.as_any().downcast_ref::<StringArray>());
    let mut bytes = Bytes::default();
    for pair in offsets.windows(2) {
        bytes.data.push(b'[');
        for i in pair[0]..pair[1] {
            if i > pair[0] {
                bytes.data.push(b',');
            }
            let text = items
                .filter(|items| items.is_valid(i as usize))
                .map_or("null", |t| t.value(i as usize));
            bytes.data.extend_from_slice(text.as_bytes());
        }
        bytes.data.push(b']');
        bytes.end_value();
    }
    bytes.finish_text(nulls)
}
