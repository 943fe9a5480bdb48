//! Reading the stream of events, through as many interruptions as it takes.

use std::sync::Arc;

use tokio::sync::mpsc;
use tributary_model::{Position, Result};

use crate::events::{EventSource, RawEvents, Watch};
use crate::observe::Observer;
use crate::retry::Backoff;

/// The event with which a stream tells that it ends, because what it watched is gone. It is about the
/// stream and about nothing else.
const INVALIDATE: &str = "invalidate";

/// Reads on from `position` until nobody listens any more. What is at or before the position is left out, as
/// a source that goes on by time alone tells it again.
pub(super) async fn read_on(
    source: Arc<dyn EventSource>,
    watch: Watch,
    mut position: Position,
    out: mpsc::Sender<RawEvents>,
    observer: Arc<dyn Observer>,
    for_ever: bool,
) -> Result<()> {
    let mut backoff = Backoff::default();
    loop {
        let (inner, mut batches) = mpsc::channel::<RawEvents>(1);
        let from = position.clone();
        let read = source.follow(&watch, &from, inner);
        let forward = async {
            // The first batch may say no more than that the stream has been opened.
            let mut opened = false;
            while let Some(mut batch) = batches.recv().await {
                let reached = batch.position.clone();
                let is_progress = opened || !batch.events.is_empty();
                batch.events.retain(|event| {
                    event.operation != INVALIDATE
                        && !from.has_passed(&event.token, event.cluster_time)
                });
                if out.send(batch).await.is_err() {
                    break;
                }
                if is_progress {
                    backoff.reset();
                }
                opened = true;
                position = reached;
            }
            // Closed, so that the source sees that nobody listens.
            drop(batches);
        };
        let result = tokio::select! {
            (result, ()) = async { tokio::join!(read, forward) } => result,
            () = out.closed() => return Ok(()),
        };
        if out.is_closed() {
            return Ok(());
        }
        let error = match result {
            // The stream was invalidated: a new one begins behind.
            Ok(()) => continue,
            Err(error) => error,
        };
        let Some(wait) = backoff.wait_after(&error, for_ever) else {
            return Err(error);
        };
        observer.source_retrying(&error, wait);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = out.closed() => return Ok(()),
        }
    }
}
