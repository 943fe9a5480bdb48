//! Events passed on as they are, to streams of Amazon.

mod checkpoint;
mod kinesis;
mod partition;

pub use kinesis::{KinesisPublisher, KinesisSettings};
