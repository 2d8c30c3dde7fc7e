//! Processes and private files that a job leaves behind when its runner dies, and taking them away: from a record made
//! while it ran, by another process.

#[cfg_attr(unix, path = "footprint/unix.rs")]
#[cfg_attr(windows, path = "footprint/windows.rs")]
mod platform;

#[cfg(target_os = "linux")]
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{JobProcesses, kill_orphans};
use crate::{RunError, Swept};

/// How long killed processes may take to disappear.
const PATIENCE: Duration = Duration::from_secs(10);

/// Names the processes and private files of one job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ShellFootprint {
    pub(super) processes: JobProcesses,
    /// Start of the machine at which they were started.
    pub(super) boot: String,
    /// Directories that are emptied: they hold file variables and credentials.
    pub(super) private: Vec<PathBuf>,
}

impl ShellFootprint {
    pub(super) fn new(processes: JobProcesses, private: Vec<PathBuf>) -> Self {
        Self {
            processes,
            boot: boot(),
            private,
        }
    }
}

/// Kills every process that a dead runner's job left behind, at once by SIGKILL, and removes its private
/// files. Its working copy stays, as after any job. Does nothing, quickly, where nothing was left, and
/// may be repeated.
///
/// Before a new job can be given the same directories: its files would be taken for the dead one's.
pub(super) async fn sweep(footprint: ShellFootprint) -> Swept {
    let work = move || {
        let mut swept = Swept::default();
        // Whatever ran before the machine was started again is gone.
        if footprint.boot == boot() {
            (swept.killed, swept.left) = kill_orphans(&footprint.processes, PATIENCE);
        }
        for directory in &footprint.private {
            empty(directory, &mut swept);
        }
        swept
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_default()
}

/// Removes what a job that ended without its clean-up stage left in its private directory.
pub(super) async fn remove_private_files(directory: PathBuf) -> Result<(), RunError> {
    let emptying = tokio::task::spawn_blocking(move || {
        let mut swept = Swept::default();
        empty(&directory, &mut swept);
        swept.not_removed.into_iter().next()
    });
    match emptying.await {
        Ok(Some((what, why))) => Err(RunError::Left { what, why }),
        Ok(None) | Err(_) => Ok(()),
    }
}

/// Removes what is in a directory, following no link that a job can have made.
fn empty(directory: &Path, swept: &mut Swept) {
    let shown = |path: PathBuf| path.display().to_string();
    let opened = platform::empty(directory, |path, result| match result {
        Ok(()) => swept.removed.push(shown(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => swept.not_removed.push((shown(path), error.to_string())),
    });
    if let Err(error) = opened
        && error.kind() != io::ErrorKind::NotFound
    {
        let why = error.to_string();
        swept.not_removed.push((shown(directory.to_owned()), why));
    }
}

/// Names the time between two starts of this machine.
#[cfg(target_os = "linux")]
fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// Unknown: orphans are looked for in any case.
#[cfg(not(target_os = "linux"))]
fn boot() -> String {
    String::new()
}
