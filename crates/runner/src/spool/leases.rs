//! Tokens and leases that a job obtained with its secrets: a file beside its journal while it runs, 0600, without any
//! secret value. What a job leaves there, its runner killed or the server away, is moved to the top of the spool and
//! kept until it is revoked or over.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use courser_secrets::Obtained;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Spool, private_file};

/// Name of the file of a job that runs.
const LEASES: &str = "leases";
/// Beginning and end of the names of those at the top.
const NAME: (&str, &str) = ("leases-", ".json");

/// Where one job's leases are written down.
#[derive(Debug, Clone)]
pub(crate) struct LeaseJournal {
    path: PathBuf,
    job: i64,
    ca_file: Option<String>,
}

/// What a job left.
pub(crate) struct KeptLeases {
    /// Id of the job.
    pub(crate) job: i64,
    /// The runner's `tls-ca-file`.
    pub(crate) ca_file: Option<String>,
    /// Tokens and leases.
    pub(crate) obtained: Vec<Obtained>,
    /// When the job left it.
    pub(crate) since: Option<SystemTime>,
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Content {
    job: i64,
    ca_file: Option<String>,
    obtained: Vec<Obtained>,
}

impl LeaseJournal {
    /// In the directory of a job.
    pub(super) fn new(directory: &Path, job: i64, ca_file: Option<String>) -> Self {
        Self {
            path: directory.join(LEASES),
            job,
            ca_file,
        }
    }

    /// Writes down what there is now; without anything the file goes.
    pub(crate) fn write(&self, obtained: &[Obtained]) {
        let written = if obtained.is_empty() {
            removed(&self.path)
        } else {
            let content = Content {
                job: self.job,
                ca_file: self.ca_file.clone(),
                obtained: obtained.to_vec(),
            };
            write(&self.path, &content)
        };
        if let Err(error) = written {
            let path = self.path.display();
            tracing::error!(
                job = self.job,
                "cannot write {path}: {error}; should this process die, tokens stay until they end"
            );
        }
    }
}

impl KeptLeases {
    /// Only these are left.
    pub(crate) fn keep(&self, obtained: Vec<Obtained>) {
        let content = Content {
            job: self.job,
            ca_file: self.ca_file.clone(),
            obtained,
        };
        if let Err(error) = write(&self.path, &content) {
            tracing::warn!("cannot write {}: {error}", self.path.display());
        }
    }

    /// Nothing is left of it.
    pub(crate) fn forget(&self) {
        if let Err(error) = removed(&self.path) {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

impl Spool {
    /// All that jobs left, also of other processes.
    pub(crate) fn kept_leases(&self) -> Vec<KeptLeases> {
        let entries = fs::read_dir(self.directory());
        let paths = entries.into_iter().flatten().flatten().filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with(NAME.0) && name.ends_with(NAME.1)
        });
        paths.filter_map(|entry| read(entry.path())).collect()
    }

    /// Waits until there are new ones.
    pub(crate) async fn new_leases(&self) {
        self.shared.leases.notified().await;
    }
}

/// The file of a job that is over, or whose process is, goes to the top of the spool, where it is looked for. Whether
/// there was one.
pub(super) fn leave(directory: &Path) -> bool {
    let path = directory.join(LEASES);
    let Some(spool) = directory.parent().filter(|_| path.exists()) else {
        return false;
    };
    let name = format!("{}{}{}", NAME.0, uuid::Uuid::new_v4().simple(), NAME.1);
    match fs::rename(&path, spool.join(name)) {
        Ok(()) => true,
        Err(error) => {
            tracing::error!("cannot keep {}: {error}", path.display());
            false
        }
    }
}

fn read(path: PathBuf) -> Option<KeptLeases> {
    let content = private_file(&path, false).and_then(|mut file| {
        let mut text = Zeroizing::new(Vec::new());
        io::Read::read_to_end(&mut file, &mut text)?;
        Ok(serde_json::from_slice::<Content>(&text)?)
    });
    match content {
        Ok(Content {
            job,
            ca_file,
            obtained,
        }) => Some(KeptLeases {
            job,
            ca_file,
            obtained,
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
}

/// Whole under its name, or not there.
fn write(path: &Path, content: &Content) -> io::Result<()> {
    let part = path.with_extension("part");
    removed(&part)?;
    let text = Zeroizing::new(serde_json::to_vec(content)?);
    private_file(&part, true)?.write_all(&text)?;
    fs::rename(part, path)
}

fn removed(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
