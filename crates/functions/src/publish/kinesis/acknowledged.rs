//! How much of a batch is in the stream, from its beginning on without a gap.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;
use tributary_flow::RawEvent;
use tributary_model::Position;

/// How often the position that is reached within a batch is made durable: after a crash as much comes again.
const SAVED_EVERY: Duration = Duration::from_secs(1);

/// A batch on its way.
pub(super) struct Acknowledged<'a> {
    batch: &'a [RawEvent],
    /// That behind the batch.
    position: &'a Position,
    /// How many events at its beginning are in the stream.
    reached: usize,
    looked: Instant,
}

impl<'a> Acknowledged<'a> {
    pub(super) fn new(batch: &'a [RawEvent], position: &'a Position) -> Self {
        Self {
            batch,
            position,
            reached: 0,
            looked: Instant::now(),
        }
    }

    /// Whether it is time to make the position durable.
    pub(super) fn is_due(&self) -> bool {
        self.looked.elapsed() >= SAVED_EVERY
    }

    /// The position behind what is in the stream, where that has become more and is not all of the batch.
    pub(super) fn advance(&mut self, sent: &HashSet<String>) -> Option<Position> {
        self.looked = Instant::now();
        let ahead = self.batch.iter().skip(self.reached);
        let more = ahead.take_while(|event| sent.contains(&event.token));
        let more = more.count();
        self.reached += more;
        let last = self.batch.get(self.reached.checked_sub(1)?)?;
        (more > 0 && self.left() > 0).then(|| last.position(self.position))
    }

    /// How many events are left at its end, as of the last look.
    pub(super) fn left(&self) -> usize {
        self.batch.len() - self.reached
    }
}
