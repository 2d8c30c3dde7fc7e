//! The look at trust files between their uses: kept connections that rely on removed trust end, and logs and
//! metrics tell of a change at once.
//!
//! One watch serves the process. Every client and listener enters itself when it is made and leaves when it is
//! dropped; a command that ends after a call or two needs no watch.

use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::disk::Disk;
use crate::expiry::Warned;
use crate::followed::{Contents, QUIET};
use crate::inventory::{Inventory, trust_report};

/// How often the files are looked at. A change that has to be left alone first is judged within
/// [`QUIET`] after that, less than a second in all.
const POLL: Duration = Duration::from_millis(500);

/// How often it is looked for certificates that end.
const EXPIRY: Duration = Duration::from_secs(10);

/// Counts changes of what is trusted or shown.
static CHANGES: LazyLock<watch::Sender<u64>> = LazyLock::new(watch::Sender::default);

static WATCHED: Mutex<Vec<Weak<dyn Watched>>> = Mutex::new(Vec::new());

/// Whoever follows files.
pub(crate) trait Watched: Send + Sync {
    /// Looks at the files and acts on what changed.
    fn look(&self, disk: &mut Disk) -> Settled;

    /// Says what it trusts and shows.
    fn report(&self, inventory: &mut Inventory);
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

/// Changes when what a client of this process trusts or shows has changed: a call that was refused may be
/// worth another try. The number counts changes.
pub fn trust_changes() -> watch::Receiver<u64> {
    CHANGES.subscribe()
}

pub(crate) fn changed() {
    CHANGES.send_modify(|count| *count += 1);
}

pub(crate) fn changes() -> u64 {
    *CHANGES.borrow()
}

/// Has all say what they trust and show.
pub(crate) fn report(inventory: &mut Inventory) {
    for watched in living() {
        watched.report(inventory);
    }
}

/// Looks at the trust files of all clients and listeners of this process, twice a second, until dropped, and
/// warns of certificates that end. For the processes that stay: `run`, a coordinator.
pub async fn watch_trust_files() {
    let mut round = Round::default();
    loop {
        tokio::time::sleep(round.pause).await;
        round = match tokio::task::spawn_blocking(move || round.look()).await {
            Ok(round) => round,
            Err(error) => {
                tracing::error!("looking at the trusted certificates: {error}");
                Round::default()
            }
        };
    }
}

/// From one look to the next.
struct Round {
    pause: Duration,
    warned: Warned,
    last_warned: Option<Instant>,
}

impl Default for Round {
    fn default() -> Self {
        Self {
            pause: POLL,
            warned: Warned::default(),
            last_warned: None,
        }
    }
}

impl Round {
    /// One look for all.
    fn look(mut self) -> Self {
        let watched = living();
        let mut disk = Disk::in_between();
        let settled = watched.iter().fold(Settled::Yes, |settled, watched| {
            settled.and(watched.look(&mut disk))
        });
        self.pause = match settled.and(disk.settled()) {
            Settled::Yes => POLL,
            Settled::No => QUIET,
        };
        let at = disk.at();
        if self.last_warned.is_none_or(|last| at - last >= EXPIRY) {
            self.last_warned = Some(at);
            let now = Timestamp::now();
            for line in self.warned.due(&trust_report(now).certificates, now.into()) {
                tracing::warn!("{line}");
            }
        }
        self
    }
}

fn living() -> Vec<Arc<dyn Watched>> {
    all().iter().filter_map(Weak::upgrade).collect()
}

/// The list is whole at every step, so a panic elsewhere does not spoil it.
fn all() -> std::sync::MutexGuard<'static, Vec<Weak<dyn Watched>>> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}
