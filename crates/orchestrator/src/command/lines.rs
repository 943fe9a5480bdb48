//! The lines that a program prints.

use tokio::io::{AsyncRead, AsyncReadExt};

use super::{Output, Stream};
use crate::config::Secret;

/// What is longer is cut: a line is to be read, and memory is bounded.
const LONGEST_LINE: usize = 8 << 10;
/// How much of what a program wrote to standard error is part of its failure.
const LONGEST_TAIL: usize = 2 << 10;
/// Shorter values are no secrets, and would make holes into every line.
const SHORTEST_SECRET: usize = 6;

/// Hides secrets.
pub(super) struct Mask(Vec<String>);

impl Mask {
    pub(super) fn of<'a>(secrets: impl Iterator<Item = &'a Secret>) -> Self {
        let mut parts: Vec<String> = secrets
            .flat_map(|secret| secret.as_str().lines())
            .filter(|line| line.len() >= SHORTEST_SECRET)
            .map(str::to_owned)
            .collect();
        // One may be part of another.
        parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
        Self(parts)
    }

    fn longest(&self) -> usize {
        self.0.first().map_or(0, String::len)
    }

    fn apply(&self, mut line: String) -> String {
        for part in &self.0 {
            if line.contains(part) {
                line = line.replace(part, "***");
            }
        }
        line
    }
}

/// One of the streams that a program writes to.
pub(super) struct Lines<'a> {
    stream: Stream,
    output: Output<'a>,
    mask: &'a Mask,
    /// The beginning of the line that has not ended yet.
    begun: Vec<u8>,
    tail: String,
}

impl<'a> Lines<'a> {
    pub(super) fn new(stream: Stream, output: Output<'a>, mask: &'a Mask) -> Self {
        Self {
            stream,
            output,
            mask,
            begun: Vec::new(),
            tail: String::new(),
        }
    }

    /// Reads to the end.
    pub(super) async fn follow(&mut self, reader: Option<impl AsyncRead + Unpin>) {
        let Some(mut reader) = reader else { return };
        let mut chunk = vec![0; 8 << 10];
        // A pipe that cannot be read is one that has ended.
        while let Ok(count @ 1..) = reader.read(&mut chunk).await {
            self.take(chunk.get(..count).unwrap_or_default());
        }
    }

    fn take(&mut self, chunk: &[u8]) {
        // A secret that begins before the cut is to be seen as a whole.
        let limit = LONGEST_LINE + self.mask.longest();
        for (i, piece) in chunk.split(|&byte| byte == b'\n').enumerate() {
            if i > 0 {
                self.tell();
            }
            let room = limit.saturating_sub(self.begun.len()).min(piece.len());
            self.begun
                .extend_from_slice(piece.get(..room).unwrap_or_default());
        }
    }

    /// Tells the last line even if it has no end.
    pub(super) fn finish(&mut self) {
        if !self.begun.is_empty() {
            self.tell();
        }
    }

    fn tell(&mut self) {
        let line = self.begun.strip_suffix(b"\r").unwrap_or(&self.begun);
        let mut line = self.mask.apply(String::from_utf8_lossy(line).into_owned());
        line.truncate(line.floor_char_boundary(LONGEST_LINE));
        self.begun.clear();
        (self.output)(self.stream, &line);
        if self.stream == Stream::Error {
            self.tail.push_str(&line);
            self.tail.push('\n');
            if let Some(excess) = self.tail.len().checked_sub(LONGEST_TAIL) {
                self.tail.drain(..self.tail.ceil_char_boundary(excess));
            }
        }
    }

    /// The last of what was written to standard error.
    pub(super) fn tail(&self) -> &str {
        &self.tail
    }
}
