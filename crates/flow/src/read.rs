//! Reading a stream, through as many interruptions as it takes.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tributary_model::{Position, Result};

use crate::changes::EventBatch;
use crate::events::RawEvents;
use crate::observe::Observer;
use crate::retry::Backoff;

/// What comes off a stream at once.
pub(crate) trait Batch: Send {
    /// How far the stream has got with it.
    fn position(&self) -> &Position;

    /// Whether it has no events.
    fn is_empty(&self) -> bool;
}

impl Batch for EventBatch {
    fn position(&self) -> &Position {
        &self.position
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

impl Batch for RawEvents {
    fn position(&self) -> &Position {
        &self.position
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

/// Reads on from `position` until nobody listens any more. `follow` reads from a position once; `sift` sees
/// each batch before it is passed on, and the position that its stream was opened at.
pub(crate) async fn read_on<B: Batch>(
    follow: impl Fn(Position, mpsc::Sender<B>) -> BoxFuture<'static, Result<()>>,
    sift: impl Fn(&mut B, &Position),
    mut position: Position,
    out: mpsc::Sender<B>,
    observer: Arc<dyn Observer>,
    for_ever: bool,
) -> Result<()> {
    let mut backoff = Backoff::default();
    loop {
        let (inner, mut batches) = mpsc::channel::<B>(1);
        let from = position.clone();
        let read = follow(from.clone(), inner);
        let forward = async {
            // The first batch may say no more than that the stream has been opened.
            let mut opened = false;
            while let Some(mut batch) = batches.recv().await {
                let reached = batch.position().clone();
                let is_progress = opened || !batch.is_empty();
                sift(&mut batch, &from);
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
