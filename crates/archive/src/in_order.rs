//! Work on a few threads whose results are handed over in order, with a bound on what waits.
//!
//! There is no thread for handing over: whoever makes the result that is next does it, and goes on with
//! those that have been waiting behind it, while the others make more.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;

/// What one thread may make at most, and all results that wait together, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// A claim counts as this much until its size is known.
    pub(crate) claim: u64,
    /// Claimed and waiting.
    pub(crate) window: u64,
}

/// Makes the results `0..count` on at most `threads` threads, each with a function that `maker` gives it, and hands
/// them to `take` in order. The first error ends it; a panic goes on in the caller.
pub(crate) fn in_order<T, E, M>(
    threads: usize,
    count: usize,
    bounds: Bounds,
    maker: impl Fn() -> M + Sync,
    size: impl Fn(&T) -> u64 + Sync,
    take: impl FnMut(T) -> Result<(), E> + Send,
) -> Result<(), E>
where
    T: Send,
    E: Send,
    M: FnMut(usize) -> Result<T, E>,
{
    let shared = Shared {
        count,
        bounds,
        queue: Mutex::new(Queue {
            next_claim: 0,
            next_taken: 0,
            in_flight: 0,
            done: BTreeMap::new(),
            is_taking: false,
            waiting: 0,
            failed: None,
            stopped: false,
        }),
        changed: Condvar::new(),
        take: Mutex::new(take),
        size,
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            let spawned = Builder::new().spawn_scoped(scope, || shared.work(maker()));
            if spawned.is_err() {
                // The machine has no more threads for us: the others do the work, this one at least.
                break;
            }
        }
        shared.work(maker());
    });
    let mut queue = shared.locked();
    queue.failed.take().map_or(Ok(()), Err)
}

struct Shared<T, E, F, S> {
    count: usize,
    bounds: Bounds,
    queue: Mutex<Queue<T, E>>,
    changed: Condvar,
    /// Locked only by the one thread that has set [`Queue::is_taking`].
    take: Mutex<F>,
    size: S,
}

struct Queue<T, E> {
    /// First index that nobody has claimed.
    next_claim: usize,
    /// First index that has not been handed over.
    next_taken: usize,
    /// Bytes claimed or waiting to be handed over.
    in_flight: u64,
    done: BTreeMap<usize, T>,
    /// Some thread hands over.
    is_taking: bool,
    /// Threads that wait for room.
    waiting: usize,
    failed: Option<E>,
    /// An error or a panic.
    stopped: bool,
}

impl<T, E, F, S> Shared<T, E, F, S>
where
    F: FnMut(T) -> Result<(), E>,
    S: Fn(&T) -> u64,
{
    fn work(&self, mut make: impl FnMut(usize) -> Result<T, E>) {
        let _guard = StopOnPanic(self);
        while let Some(index) = self.claim() {
            let made = make(index);
            let mut queue = self.locked();
            queue.in_flight -= self.bounds.claim;
            match made {
                Err(error) => return self.stop(queue, Some(error)),
                Ok(made) => {
                    queue.in_flight += (self.size)(&made);
                    queue.done.insert(index, made);
                }
            }
            if queue.waiting > 0 {
                self.changed.notify_all();
            }
            if !queue.is_taking && queue.done.contains_key(&queue.next_taken) {
                self.hand_over(queue);
            }
        }
    }

    /// The next index to make, once there is room for it.
    fn claim(&self) -> Option<usize> {
        let Bounds { claim, window } = self.bounds;
        let mut queue = self.locked();
        // The first one always passes: it is the one that the others wait for.
        while !queue.stopped && queue.in_flight > 0 && queue.in_flight + claim > window {
            queue.waiting += 1;
            queue = self
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
            queue.waiting -= 1;
        }
        if queue.stopped || queue.next_claim == self.count {
            return None;
        }
        queue.in_flight += claim;
        queue.next_claim += 1;
        Some(queue.next_claim - 1)
    }

    fn hand_over<'a>(&'a self, mut queue: MutexGuard<'a, Queue<T, E>>) {
        queue.is_taking = true;
        let mut take = self.take.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let next = queue.next_taken;
            let Some(made) = queue.done.remove(&next).filter(|_| !queue.stopped) else {
                queue.is_taking = false;
                return;
            };
            drop(queue);
            let size = (self.size)(&made);
            let taken = take(made);
            queue = self.locked();
            if let Err(error) = taken {
                return self.stop(queue, Some(error));
            }
            queue.in_flight -= size;
            queue.next_taken += 1;
            if queue.waiting > 0 {
                self.changed.notify_all();
            }
        }
    }

    fn stop(&self, mut queue: MutexGuard<'_, Queue<T, E>>, error: Option<E>) {
        queue.stopped = true;
        if queue.failed.is_none() {
            queue.failed = error;
        }
        self.changed.notify_all();
    }
}

impl<T, E, F, S> Shared<T, E, F, S> {
    /// A thread that panicked leaves nothing half done in the queue.
    fn locked(&self) -> MutexGuard<'_, Queue<T, E>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that panics wakes the others, which would wait for its result for ever; the panic itself
/// then goes on in the caller of the scope.
struct StopOnPanic<'a, T, E, F, S>(&'a Shared<T, E, F, S>);

impl<T, E, F, S> Drop for StopOnPanic<'_, T, E, F, S> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.locked().stopped = true;
            self.0.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const BOUNDS: Bounds = Bounds {
        claim: 4,
        window: 16,
    };

    /// Runs 200 pieces of work of size 3; what was handed over, and how it ended.
    fn run(
        threads: usize,
        make: impl Fn(usize) -> Result<usize, String> + Sync,
        mut take: impl FnMut(usize) -> Result<(), String> + Send,
    ) -> (Vec<usize>, Result<(), String>) {
        let mut taken = Vec::new();
        let result = in_order(
            threads,
            200,
            BOUNDS,
            || &make,
            |_| 3,
            |index| {
                taken.push(index);
                take(index)
            },
        );
        (taken, result)
    }

    #[test]
    fn results_come_in_order_and_never_too_many_wait() {
        for threads in [1, 2, 5] {
            let (made, handed) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let most = AtomicUsize::new(0);
            let make = |index| {
                let waiting = made.fetch_add(1, Ordering::SeqCst) - handed.load(Ordering::SeqCst);
                most.fetch_max(waiting, Ordering::SeqCst);
                Ok(index)
            };
            let (taken, result) = run(threads, make, |_| {
                handed.fetch_add(1, Ordering::SeqCst);
                Ok(())
            });
            assert_eq!(result, Ok(()));
            assert!(taken.into_iter().eq(0..200));
            assert!(most.load(Ordering::SeqCst) <= 6, "{most:?}");
        }
    }

    #[test]
    fn an_error_while_making_or_taking_ends_the_work() {
        let bad = |index: usize| match index {
            20 => Err("twenty".to_owned()),
            index => Ok(index),
        };
        let (taken, result) = run(3, bad, |_| Ok(()));
        assert_eq!(result, Err("twenty".to_owned()));
        assert!(taken.len() <= 20);
        let (taken, result) = run(3, Ok, |index| bad(index).map(drop));
        assert_eq!(result, Err("twenty".to_owned()));
        assert_eq!(taken.len(), 21);
    }

    #[test]
    fn a_panic_while_making_or_taking_ends_the_work() {
        let never = |index: usize| assert!(index != 20, "twenty");
        let caught = |work: &(dyn Fn() + std::panic::RefUnwindSafe)| {
            assert!(std::panic::catch_unwind(work).is_err());
        };
        caught(&|| {
            let make = |index| {
                never(index);
                Ok(index)
            };
            run(3, make, |_| Ok(())).1.expect("never gets here");
        });
        caught(&|| {
            let take = |index| {
                never(index);
                Ok(())
            };
            run(3, Ok, take).1.expect("never gets here");
        });
    }
}
