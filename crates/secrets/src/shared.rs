//! What several secrets need and one of them fetches: a login, the data of a path.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::Failure;
use crate::session::Session;

/// Values by key, each made once, by whoever asks first. A failure is shared too: it is not asked for again, but in
/// another attempt and if it is one that may pass.
pub(crate) struct Shared<K, V> {
    cells: Mutex<HashMap<K, Cell<V>>>,
    attempt: Arc<AtomicU32>,
}

struct Cell<V> {
    value: Arc<OnceCell<Result<Arc<V>, Failure>>>,
    /// The attempt that it was begun in.
    attempt: u32,
}

impl<K: Eq + Hash, V> Shared<K, V> {
    /// Nothing yet, for all attempts of a session.
    pub(crate) fn new(session: &Session) -> Self {
        Self::counting(session.attempt())
    }

    fn counting(attempt: Arc<AtomicU32>) -> Self {
        Self {
            cells: Mutex::default(),
            attempt,
        }
    }

    /// The value of `key`, made by `make` unless somebody has made it or is making it.
    pub(crate) async fn get<F>(&self, key: K, make: impl FnOnce() -> F) -> Result<Arc<V>, Failure>
    where
        F: Future<Output = Result<V, Failure>>,
    {
        let attempt = self.attempt.load(Ordering::Relaxed);
        let value = {
            let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Cell {
                value: Arc::default(),
                attempt,
            };
            let cell = cells.entry(key).or_insert_with(new);
            if cell.attempt < attempt
                && matches!(cell.value.get(), Some(Err(failure)) if failure.is_transient)
            {
                *cell = new();
            }
            Arc::clone(&cell.value)
        };
        let made = value.get_or_init(|| async { make().await.map(Arc::new) });
        made.await.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gets a value that fails as it is told to; counts how often it is made.
    async fn get(
        shared: &Shared<&str, u32>,
        key: &'static str,
        made: &AtomicU32,
        failure: Option<Failure>,
    ) -> Result<Arc<u32>, Failure> {
        let make = || async {
            tokio::task::yield_now().await;
            let number = made.fetch_add(1, Ordering::Relaxed);
            failure.map_or(Ok(number), Err)
        };
        shared.get(key, make).await
    }

    #[tokio::test]
    async fn each_key_is_made_once_also_when_it_fails() {
        let shared = Shared::counting(Arc::default());
        let made = AtomicU32::new(0);
        let get = |key, failure| get(&shared, key, &made, failure);
        let no = Failure::system("no").transient(true);
        let (a, b, c) = tokio::join!(get("a", None), get("a", None), get("b", Some(no)));
        assert_eq!(a.unwrap(), b.unwrap());
        assert_eq!(c.unwrap_err().to_string(), "no");
        assert!(get("b", None).await.is_err());
        assert_eq!(made.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn another_attempt_makes_anew_only_what_failed_and_may_pass() {
        let attempt = Arc::new(AtomicU32::new(0));
        let shared = Shared::counting(Arc::clone(&attempt));
        let made = AtomicU32::new(0);
        let get = |key, failure| get(&shared, key, &made, failure);
        let no = Failure::system("no");
        get("there", None).await.unwrap();
        get("never", Some(no.clone())).await.unwrap_err();
        get("later", Some(no.transient(true))).await.unwrap_err();
        attempt.store(1, Ordering::Relaxed);
        get("there", None).await.unwrap();
        get("never", None).await.unwrap_err();
        assert_eq!(made.load(Ordering::Relaxed), 3);
        get("later", None).await.unwrap();
        get("later", None).await.unwrap();
        assert_eq!(made.load(Ordering::Relaxed), 4);
    }
}
