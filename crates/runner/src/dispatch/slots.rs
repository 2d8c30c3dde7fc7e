//! `concurrent`: places for jobs that all runners share, whose number a reload can change.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The shared places. Waiting is first come, first served, so no runner starves another.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    free: Arc<Semaphore>,
    total: AtomicUsize,
    /// Places that are still in use but shall not come back.
    surplus: AtomicUsize,
}

/// One place; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Slot {
    permit: Option<OwnedSemaphorePermit>,
    slots: Slots,
}

impl Slots {
    pub(crate) fn new(total: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                free: Arc::new(Semaphore::new(total)),
                total: AtomicUsize::new(total),
                surplus: AtomicUsize::new(0),
            }),
        }
    }

    /// Waits for a place. Cancelling the wait loses the turn, nothing else.
    pub(crate) async fn take(&self) -> Slot {
        let permit = Arc::clone(&self.inner.free)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        Slot {
            permit: Some(permit),
            slots: self.clone(),
        }
    }

    /// Changes the number; too many places in use are not given back when they are free again.
    /// Called by one task only.
    pub(crate) fn resize(&self, total: usize) {
        let inner = &self.inner;
        let before = inner.total.swap(total, Ordering::SeqCst);
        if total > before {
            let added = total - before;
            let cancelled = reduce(&inner.surplus, added);
            inner.free.add_permits(added - cancelled);
        } else {
            let removed = before - total;
            let forgotten = inner.free.forget_permits(removed);
            inner
                .surplus
                .fetch_add(removed - forgotten, Ordering::SeqCst);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take()
            && reduce(&self.slots.inner.surplus, 1) == 1
        {
            permit.forget();
        }
    }
}

/// Takes up to `wanted` off `counter`; returns how many.
fn reduce(counter: &AtomicUsize, wanted: usize) -> usize {
    counter
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |value| {
            Some(value - value.min(wanted))
        })
        .map_or(0, |before| before.min(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(slots: &Slots) -> usize {
        slots.inner.free.available_permits()
    }

    #[tokio::test]
    async fn shrinking_takes_free_places_first_and_used_ones_when_they_come_back() {
        let slots = Slots::new(3);
        let (first, second) = (slots.take().await, slots.take().await);
        slots.resize(1);
        assert_eq!(free(&slots), 0);
        drop(first);
        assert_eq!(free(&slots), 0);
        drop(second);
        assert_eq!(free(&slots), 1);
    }

    #[tokio::test]
    async fn growing_again_cancels_what_was_still_to_be_taken() {
        let slots = Slots::new(2);
        let (first, second) = (slots.take().await, slots.take().await);
        slots.resize(1);
        slots.resize(4);
        assert_eq!(free(&slots), 2);
        drop((first, second));
        assert_eq!(free(&slots), 4);
    }
}
