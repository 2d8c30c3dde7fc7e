//! What jobs that are over left where it could not be removed, as with a container engine that was away: kept in the
//! spool, a file a job's environment, until it is removed.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use courser_executor::{Footprint, Remains};
use serde::{Deserialize, Serialize};

use super::{Spool, private_file};

/// Beginning and end of the files' names.
const NAME: (&str, &str) = ("remains-", ".json");

/// One file.
#[derive(Debug)]
pub(crate) struct KeptRemains {
    /// Id of the job.
    pub(crate) job: i64,
    /// What finds it.
    pub(crate) footprint: Footprint,
    /// When the job left it.
    pub(crate) since: Option<SystemTime>,
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Content {
    job: i64,
    footprint: Footprint,
}

impl Spool {
    /// Keeps what a job left, to be removed later. Where even that fails, the runner's log says what is left.
    pub(crate) fn keep_remains(&self, job: i64, footprint: Footprint) {
        let content = Content { job, footprint };
        match self.write_remains(&content) {
            Ok(()) => self.shared.remains.notify_one(),
            Err(error) => {
                let left = serde_json::to_string(&content.footprint).unwrap_or_default();
                tracing::error!(job, "cannot write down what the job left: {error}: {left}");
            }
        }
    }

    /// The same for an executor.
    pub(crate) fn remains_of(&self, job: i64) -> Remains {
        let spool = self.clone();
        Arc::new(move |footprint| spool.keep_remains(job, footprint))
    }

    fn write_remains(&self, content: &Content) -> io::Result<()> {
        let name = format!("{}-{}", content.job, uuid::Uuid::new_v4().simple());
        let path = self.directory().join(format!("{}{name}{}", NAME.0, NAME.1));
        // Whole under its name, or not there.
        let new = path.with_extension("new");
        let mut file = private_file(&new, true)?;
        file.write_all(&serde_json::to_vec(content)?)?;
        file.sync_data()?;
        fs::rename(new, path)
    }

    /// All there are, also of other processes.
    pub(crate) fn remains(&self) -> Vec<KeptRemains> {
        let entries = fs::read_dir(self.directory());
        let paths = entries.into_iter().flatten().flatten().filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with(NAME.0) && name.ends_with(NAME.1)
        });
        let read = |path: PathBuf| {
            let content = fs::read(&path)
                .and_then(|content| Ok(serde_json::from_slice::<Content>(&content)?));
            match content {
                Ok(Content { job, footprint }) => Some(KeptRemains {
                    job,
                    footprint,
                    since: fs::metadata(&path).and_then(|data| data.modified()).ok(),
                    path,
                }),
                // Another process has just done it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => {
                    tracing::error!("cannot read {}: {error}", path.display());
                    None
                }
            }
        };
        paths.filter_map(|entry| read(entry.path())).collect()
    }

    /// Waits until there are new ones.
    pub(crate) async fn new_remains(&self) {
        self.shared.remains.notified().await;
    }
}

impl KeptRemains {
    /// Nothing is left of it.
    pub(crate) fn forget(&self) {
        match fs::remove_file(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!("cannot remove {}: {error}", self.path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::SpoolLimits;

    #[test]
    fn what_is_left_is_kept_over_processes_until_it_is_forgotten() {
        let directory = tempfile::tempdir().expect("a directory");
        let limits = SpoolLimits {
            job: u64::MAX,
            total: u64::MAX,
        };
        let open = || Spool::open(directory.path().join("spool"), limits).expect("a spool");
        let footprint = Footprint::new("docker", &"somewhere");
        open().keep_remains(7, footprint.clone());
        open().keep_remains(7, footprint.clone());
        let spool = open();
        assert!(spool.left_over().is_empty(), "no jobs");
        let kept = spool.remains();
        assert_eq!(kept.len(), 2);
        assert_eq!((kept[0].job, &kept[0].footprint), (7, &footprint));
        kept[0].forget();
        assert_eq!(open().remains().len(), 1);
    }
}
