//! What lies in a spool, for its owner: to be looked at, and to be dropped.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use courser_protocol::FailureReason;

use super::journal::{self, FinalState, Read, Record};
use super::{JOURNAL, LOCK, LOG, leases, private_file, unfinished};

/// A job that is kept.
#[derive(Debug, Clone)]
pub struct KeptJob {
    /// What becomes of it.
    pub state: KeptState,
    /// Id at its server; of one that cannot be read, what its directory is called by.
    pub job: i64,
    /// The runner's `url`; empty when it cannot be read.
    pub url: String,
    /// The runner's short token.
    pub runner: String,
    /// Bytes of its log.
    pub log: u64,
    /// Those of them that the server has not acknowledged.
    pub unsent: u64,
    /// When something was written down of it last.
    pub touched: Option<SystemTime>,
    directory: PathBuf,
}

/// What becomes of a kept job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptState {
    /// A process works on it: it runs, or is being told of.
    InUse,
    /// It had not ended: the next start fails it.
    Interrupted,
    /// Its scripts are over: the next start saves its caches and artifacts, and tells its end.
    ToBeSaved,
    /// It has ended, well without a reason: the next start tells that.
    Ended(Option<FailureReason>),
    /// Nothing can be made of it, for the reason given.
    Unusable(String),
}

/// Why a job was not dropped.
#[derive(Debug, thiserror::Error)]
pub enum NotDropped {
    /// A process works on it.
    #[error("a runner works on job {0}")]
    InUse(i64),
    /// The file system.
    #[error("{}: {source}", path.display())]
    Io {
        /// The job's directory.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
}

/// The jobs in a spool's directory, by their ids. One that is not there is empty.
///
/// # Errors
///
/// Those of the file system.
pub fn kept_jobs(spool: &Path) -> io::Result<Vec<KeptJob>> {
    let lock = match File::open(spool.join(LOCK)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    lock.lock()?;
    let found = find(spool);
    // Whoever begins a job waits for this lock, and not for what is to be read.
    lock.unlock()?;
    let mut jobs: Vec<_> = found?.into_iter().filter_map(read).collect();
    jobs.sort_by_key(|job| job.job);
    Ok(jobs)
}

/// Removes a job: its log, its state and its artifacts are not sent any more. What it obtained with its secrets is
/// still revoked.
///
/// # Errors
///
/// See [`NotDropped`]; nothing is removed while a process works on it.
pub fn drop_kept(job: &KeptJob) -> Result<(), NotDropped> {
    let failed = |source| NotDropped::Io {
        path: job.directory.clone(),
        source,
    };
    let lock = job.directory.with_file_name(LOCK);
    let lock = File::open(lock).map_err(failed)?;
    lock.lock().map_err(failed)?;
    match private_file(&job.directory.join(JOURNAL), false) {
        Ok(journal) => match journal.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(NotDropped::InUse(job.job)),
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    leases::leave(&job.directory).map_err(failed)?;
    std::fs::remove_dir_all(&job.directory).map_err(failed)
}

/// A job's directory.
struct Found {
    directory: PathBuf,
    journal: io::Result<File>,
    /// A process works on it.
    in_use: bool,
}

/// What there is. A runner that starts meanwhile must not take the look for another process at work: the spool is
/// locked, and no journal is afterwards.
fn find(spool: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(spool)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let directory = entry.path();
        let journal = private_file(&directory.join(JOURNAL), false);
        let in_use = match &journal {
            Ok(journal) => journal.try_lock().map(|()| journal.unlock().ok()).is_err(),
            Err(_) => false,
        };
        found.push(Found {
            directory,
            journal,
            in_use,
        });
    }
    Ok(found)
}

/// What is known of a job; nothing when it went away.
fn read(found: Found) -> Option<KeptJob> {
    let Found {
        directory,
        journal,
        in_use,
    } = found;
    let named = directory.file_name().and_then(|name| name.to_str());
    let named = named.and_then(|name| name.split('-').next()?.parse().ok());
    let mut job = KeptJob {
        state: KeptState::Interrupted,
        job: named.unwrap_or_default(),
        url: String::new(),
        runner: String::new(),
        log: std::fs::metadata(directory.join(LOG)).map_or(0, |log| log.len()),
        unsent: 0,
        touched: None,
        directory,
    };
    let mut journal = match journal {
        Ok(journal) => journal,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            job.state = KeptState::Unusable(error.to_string());
            return Some(job);
        }
    };
    job.touched = journal.metadata().and_then(|data| data.modified()).ok();
    let records = match journal::look(&mut journal) {
        Ok((Read::Records(records), _)) => records,
        Ok((Read::Nothing, _)) => Vec::new(),
        Ok((Read::Version(version), _)) => {
            let why = format!("another version of Courser wrote it (format {version})");
            job.state = KeptState::Unusable(why);
            return Some(job);
        }
        Err(error) => {
            job.state = KeptState::Unusable(error.to_string());
            return Some(job);
        }
    };
    let mut acknowledged = 0;
    if unfinished::is_there(&job.directory) {
        job.state = KeptState::ToBeSaved;
    }
    for record in records {
        match record {
            Record::Job(of) => (job.job, job.url, job.runner) = (of.job, of.url, of.runner),
            Record::Acknowledged { offset } => acknowledged = offset,
            Record::Ended(FinalState::Success) => job.state = KeptState::Ended(None),
            Record::Ended(FinalState::Failed { reason, .. }) => {
                job.state = KeptState::Ended(Some(reason));
            }
            Record::Started
            | Record::Footprint(_)
            | Record::Swept
            | Record::Dropped { .. }
            | Record::Cut => {}
        }
    }
    job.unsent = job.log.saturating_sub(acknowledged);
    if in_use {
        job.state = KeptState::InUse;
    }
    Some(job)
}

impl fmt::Display for KeptState {
    /// What is to come, as a clause.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => f.write_str("a runner works on it"),
            Self::Interrupted => f.write_str("interrupted, will be failed"),
            Self::ToBeSaved => f.write_str("scripts are over, artifacts will be saved"),
            Self::Ended(None) => f.write_str("succeeded, will be reported"),
            Self::Ended(Some(reason)) => write!(f, "failed ({reason}), will be reported"),
            Self::Unusable(why) => write!(f, "left alone: {why}"),
        }
    }
}

impl KeptState {
    /// One word for scripts.
    pub fn word(&self) -> &'static str {
        match self {
            Self::InUse => "in_use",
            Self::Interrupted => "interrupted",
            Self::ToBeSaved => "to_be_saved",
            Self::Ended(None) => "success",
            Self::Ended(Some(_)) => "failed",
            Self::Unusable(_) => "unusable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::journal::JobRecord;
    use crate::spool::{Spool, SpoolLimits};

    #[test]
    fn whoever_looks_holds_nothing_up_while_he_reads() {
        let directory = tempfile::tempdir().expect("a directory");
        let directory = directory.path().join("spool");
        let limits = SpoolLimits {
            job: u64::MAX,
            total: u64::MAX,
        };
        let spool = Spool::open(directory.clone(), limits).expect("a spool");
        let used = spool.begin(JobRecord::for_test()).expect("files of a job");
        drop(spool.begin(JobRecord::for_test()));
        let found = find(&directory).expect("both jobs");
        let mut in_use: Vec<_> = found.iter().map(|one| one.in_use).collect();
        in_use.sort_unstable();
        assert_eq!(in_use, [false, true]);
        // A runner takes what is left over, while it is still looked at.
        assert_eq!(spool.left_over().len(), 1);
        let states = found.into_iter().filter_map(read).map(|job| job.state);
        let states: Vec<_> = states.collect();
        assert!(states.contains(&KeptState::InUse) && states.contains(&KeptState::Interrupted));
        drop(used);
    }
}
