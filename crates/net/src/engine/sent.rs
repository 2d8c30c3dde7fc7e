//! When a request has gone out: its body has been let go of, and nothing is written any more.
//!
//! The first alone would not do: a body in one piece is let go of when its first byte goes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Whether something is being written, and when something was last, on any connection.
#[derive(Clone)]
pub(super) struct Writing {
    since: Instant,
    /// Milliseconds from then.
    last: Arc<AtomicU64>,
    /// Connections whose peer takes nothing at the moment.
    stalled: Arc<AtomicUsize>,
}

/// One connection's part in it.
pub(super) struct Writer {
    writing: Writing,
    is_stalled: bool,
}

impl Writing {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            last: Arc::default(),
            stalled: Arc::default(),
        }
    }

    pub(super) fn writer(&self) -> Writer {
        self.touch();
        Writer {
            writing: self.clone(),
            is_stalled: false,
        }
    }

    /// Until nothing has been written for so long, nor waits to be.
    pub(super) async fn idle(&self, patience: Duration) {
        loop {
            let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
            let idle = match self.stalled.load(Ordering::Relaxed) {
                0 => self.since.elapsed().saturating_sub(last),
                _ => Duration::ZERO,
            };
            if idle >= patience {
                return;
            }
            tokio::time::sleep(patience - idle).await;
        }
    }

    fn touch(&self) {
        let last = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(last, Ordering::Relaxed);
    }
}

impl Writer {
    /// What became of an attempt to write.
    pub(super) fn tried<T>(&mut self, polled: &Poll<T>) {
        let is_stalled = polled.is_pending();
        if is_stalled != self.is_stalled {
            self.is_stalled = is_stalled;
            let Writing { stalled, .. } = &self.writing;
            if is_stalled {
                stalled.fetch_add(1, Ordering::Relaxed);
            } else {
                stalled.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.writing.touch();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.tried(&Poll::Ready(()));
    }
}

/// A body whose end is told.
pub(super) struct Sent<B> {
    body: B,
    _told: oneshot::Sender<()>,
}

impl<B> Sent<B> {
    /// With what resolves once the body has gone out, or was given up.
    pub(super) fn new(body: B) -> (Self, impl Future<Output = ()> + Send) {
        let (told, sent) = oneshot::channel();
        let sent = async {
            // Dropped, not sent.
            drop(sent.await);
        };
        (Self { body, _told: told }, sent)
    }
}

impl<B: Body + Unpin> Body for Sent<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
