//! Which connections of a generation carry a request, so that the idle ones can be closed when trust changes.
//!
//! hyper's pool cannot be told to let go while requests are under way. So a connection counts the requests that
//! began on it and those whose answer was read; between two, once its generation has ended, it reads as closed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Context;

use futures_util::task::AtomicWaker;

/// The connections of one generation.
#[derive(Default)]
pub(super) struct Opened {
    retired: AtomicBool,
    connections: Mutex<Vec<Weak<Counts>>>,
}

/// One connection's.
#[derive(Clone)]
pub(super) struct Usage {
    opened: Arc<Opened>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    begun: AtomicU64,
    answered: AtomicU64,
    reader: AtomicWaker,
}

/// An answer that is being read; dropped when it has been.
pub(super) struct Occupied(Arc<Counts>);

impl Opened {
    /// A connection that has just been opened.
    pub(super) fn enter(self: &Arc<Self>) -> Usage {
        let counts = Arc::new(Counts::default());
        let mut connections = self.connections();
        connections.retain(|known| known.strong_count() > 0);
        connections.push(Arc::downgrade(&counts));
        drop(connections);
        Usage {
            opened: Arc::clone(self),
            counts,
        }
    }

    /// From now on a connection without a request is over.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
        for counts in self.connections().iter().filter_map(Weak::upgrade) {
            counts.reader.wake();
        }
    }

    /// The list is whole at every step, so a panic elsewhere does not spoil it.
    fn connections(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Counts>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Usage {
    /// The first bytes of a request are about to be sent.
    pub(super) fn request_begins(&self) {
        self.counts.begun.fetch_add(1, Ordering::SeqCst);
    }

    /// The head of an answer is there; its request lasts until this is dropped.
    pub(super) fn occupied(&self) -> Occupied {
        Occupied(Arc::clone(&self.counts))
    }

    /// Whether nothing more shall be read. Otherwise the reader is woken when that changes.
    pub(super) fn is_over(&self, context: &Context<'_>) -> bool {
        // Before looking, so that no change is missed.
        self.counts.reader.register(context.waker());
        let begun = self.counts.begun.load(Ordering::SeqCst);
        // One that has not been used yet was opened for a request that is about to be sent.
        self.opened.retired.load(Ordering::SeqCst)
            && begun > 0
            && begun <= self.counts.answered.load(Ordering::SeqCst)
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.answered.fetch_add(1, Ordering::SeqCst);
        self.0.reader.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_connection_is_over_between_requests_of_an_ended_generation() {
        let context = Context::from_waker(Waker::noop());
        let opened = Arc::new(Opened::default());
        let (idle, busy) = (opened.enter(), opened.enter());
        for usage in [&idle, &busy] {
            usage.request_begins();
            drop(usage.occupied());
        }
        busy.request_begins();
        assert!(!idle.is_over(&context));
        opened.retire();
        assert!(idle.is_over(&context));
        assert!(!busy.is_over(&context));
        let answer = busy.occupied();
        assert!(!busy.is_over(&context), "its body is still read");
        drop(answer);
        assert!(busy.is_over(&context));
        let late = opened.enter();
        assert!(!late.is_over(&context), "opened for a request to come");
    }
}
