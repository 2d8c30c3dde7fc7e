//! The look at trust files between their uses: kept connections that rely on removed trust end, and logs and
//! metrics tell of a change at once.
//!
//! One watch serves the process. Every client and listener enters itself when it is made and leaves when it is
//! dropped; a command that ends after a call or two needs no watch.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::disk::Disk;
use crate::followed::{Contents, QUIET};

/// How often the files are looked at. A change that has to be left alone first is judged within
/// [`QUIET`] after that, less than a second in all.
const POLL: Duration = Duration::from_millis(500);

static WATCHED: Mutex<Vec<Weak<dyn Watched>>> = Mutex::new(Vec::new());

/// Whoever follows files.
pub(crate) trait Watched: Send + Sync {
    /// Looks at the files and acts on what changed.
    fn look(&self, disk: &mut Disk) -> Settled;
}

/// Whether a look left something to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    Yes,
    /// Something is to be looked at again soon.
    No,
}

impl Settled {
    pub(crate) fn of(contents: &Contents) -> Self {
        if contents.is_waiting() {
            Self::No
        } else {
            Self::Yes
        }
    }

    #[must_use]
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::No,
        }
    }
}

/// Has its files looked at for as long as it lives.
pub(crate) fn register<W: Watched + 'static>(watched: &Arc<W>) {
    let watched: Arc<dyn Watched> = Arc::clone(watched) as _;
    let mut all = all();
    all.retain(|known| known.strong_count() > 0);
    all.push(Arc::downgrade(&watched));
}

/// Looks at the trust files of all clients and listeners of this process, twice a second, until dropped.
/// For the processes that stay: `run`, a coordinator.
pub async fn watch_trust_files() {
    let mut pause = POLL;
    loop {
        tokio::time::sleep(pause).await;
        pause = match tokio::task::spawn_blocking(look).await {
            Ok(Settled::Yes) => POLL,
            Ok(Settled::No) => QUIET,
            Err(error) => {
                tracing::error!("looking at the trusted certificates: {error}");
                POLL
            }
        };
    }
}

/// One look for all.
fn look() -> Settled {
    let watched: Vec<_> = all().iter().filter_map(Weak::upgrade).collect();
    if watched.is_empty() {
        return Settled::Yes;
    }
    let mut disk = Disk::in_between();
    watched.iter().fold(Settled::Yes, |settled, watched| {
        settled.and(watched.look(&mut disk))
    })
}

/// The list is whole at every step, so a panic elsewhere does not spoil it.
fn all() -> std::sync::MutexGuard<'static, Vec<Weak<dyn Watched>>> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}
