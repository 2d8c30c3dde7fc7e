//! What several secrets need and one of them fetches: a login, the data of a path.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::Failure;

/// Values by key, each made once, by whoever asks first. A failure is shared too: it is not asked for again.
pub(crate) struct Shared<K, V>(Mutex<HashMap<K, Cell<V>>>);

type Cell<V> = Arc<OnceCell<Result<Arc<V>, Failure>>>;

impl<K, V> Default for Shared<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V> Shared<K, V> {
    /// The value of `key`, made by `make` unless somebody has made it or is making it.
    pub(crate) async fn get<F>(&self, key: K, make: impl FnOnce() -> F) -> Result<Arc<V>, Failure>
    where
        F: Future<Output = Result<V, Failure>>,
    {
        let cell = {
            let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(cells.entry(key).or_default())
        };
        let made = cell.get_or_init(|| async { make().await.map(Arc::new) });
        made.await.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn each_key_is_made_once_also_when_it_fails() {
        let shared = Shared::<&str, u32>::default();
        let made = AtomicU32::new(0);
        let get = |key: &'static str, fails: bool| {
            let made = &made;
            shared.get(key, move || async move {
                tokio::task::yield_now().await;
                let number = made.fetch_add(1, Ordering::Relaxed);
                if fails {
                    Err(Failure::system("no"))
                } else {
                    Ok(number)
                }
            })
        };
        let (a, b, c) = tokio::join!(get("a", false), get("a", false), get("b", true));
        assert_eq!(a.unwrap(), b.unwrap());
        assert_eq!(c.unwrap_err().to_string(), "no");
        assert!(get("b", false).await.is_err());
        assert_eq!(made.load(Ordering::Relaxed), 2);
    }
}
