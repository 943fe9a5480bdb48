//! What a step tells of itself: the last lines of it are kept in the store.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use crate::engine::{Moved, Tell};
use crate::store::Store;

/// How much is kept of what a step told, in bytes.
const KEPT: usize = 64 << 10;
/// The longest line that is kept, in bytes.
const LONGEST_LINE: usize = 8 << 10;
/// How often it is written down.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// The log of one step.
pub(super) struct StepLog {
    kept: Arc<Kept>,
    _flusher: AbortOnDropHandle<()>,
}

struct Kept {
    store: Store,
    run: String,
    step: String,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    lines: VecDeque<String>,
    bytes: usize,
    moved: Moved,
    is_new: bool,
}

impl Kept {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, text: &str) {
        let mut end = text.len().min(LONGEST_LINE);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let now = chrono::Utc::now().format("%H:%M:%S");
        let line = format!("{now} {}\n", &text[..end]);
        let mut inner = self.inner();
        inner.bytes += line.len();
        inner.lines.push_back(line);
        while inner.bytes > KEPT {
            let Some(first) = inner.lines.pop_front() else {
                break;
            };
            inner.bytes -= first.len();
        }
        inner.is_new = true;
    }

    async fn flush(&self) {
        let (moved, text) = {
            let mut inner = self.inner();
            if !std::mem::take(&mut inner.is_new) {
                return;
            }
            let text: String = inner.lines.iter().map(String::as_str).collect();
            (inner.moved, text)
        };
        let told = self.store.tell_step(&self.run, &self.step, moved, text);
        if let Err(error) = told.await {
            // It is tried again with what comes next.
            self.inner().is_new = true;
            tracing::warn!(run = self.run, step = self.step, %error, "cannot keep what a step told");
        }
    }
}

impl Tell for Kept {
    fn tell(&self, line: &str) {
        self.line(line);
    }

    fn moved(&self, more: Moved) {
        let mut inner = self.inner();
        inner.moved += more;
        inner.is_new = true;
    }

    fn step(&self) -> Option<String> {
        Some(format!("{}/{}", self.run, self.step))
    }
}

impl StepLog {
    pub(super) fn open(store: Store, run: &str, step: &str) -> Self {
        let kept = Arc::new(Kept {
            store,
            run: run.to_owned(),
            step: step.to_owned(),
            inner: Mutex::default(),
        });
        let flushed = Arc::clone(&kept);
        let flusher = tokio::spawn(async move {
            loop {
                tokio::time::sleep(FLUSH_EVERY).await;
                flushed.flush().await;
            }
        });
        Self {
            kept,
            _flusher: AbortOnDropHandle::new(flusher),
        }
    }

    pub(super) fn line(&self, text: &str) {
        self.kept.line(text);
    }

    pub(super) fn teller(&self) -> Arc<dyn Tell> {
        Arc::clone(&self.kept) as Arc<dyn Tell>
    }

    /// How much was moved in all, which counts more than what was told on the way.
    pub(super) fn moved_in_all(&self, moved: Moved) {
        let mut inner = self.kept.inner();
        inner.moved = moved;
        inner.is_new = true;
    }

    pub(super) async fn flush(&self) {
        self.kept.flush().await;
    }

    /// Writes down what is left.
    pub(super) async fn close(self) {
        self.kept.flush().await;
    }
}
