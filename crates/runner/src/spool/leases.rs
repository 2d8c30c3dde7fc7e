//! Tokens and leases that a job obtained with its secrets: a file beside its journal while it runs, 0600, without any
//! secret value. What a job leaves there, its runner killed or the server away, is moved to the top of the spool and
//! kept until it is revoked or over.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use courser_secrets::{Account, Obtained};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Shared, Spool, private_file};

/// Name of the file of a job that runs.
const LEASES: &str = "leases";
/// Beginning and end of the names of those at the top.
const NAME: (&str, &str) = ("leases-", ".json");
/// End of the names of files that are being written, of both kinds.
const PART: &str = "part";
/// Whoever wrote a part that is older is gone: one that is being written is nobody else's, and may not have its lock yet.
const PART_AGE: Duration = Duration::from_secs(60);
/// Bytes of a token or of a lease's name; longer ones are not written down.
const LONGEST: usize = 16 * 1024;

/// Where one job's leases are written down.
#[derive(Debug)]
pub(crate) struct LeaseJournal {
    place: Mutex<Place>,
    job: i64,
    ca_file: Option<String>,
    spool: Arc<Shared>,
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// Where it lay while the job was there; to be removed.
    before: Option<PathBuf>,
    /// The job is over, and requests of it are under way: the files that were written since, locked, so that nobody
    /// else looks after them. Each, as they replace one another under one name.
    locked: Option<Vec<fs::File>>,
    /// Servers of logins without an answer were told of.
    without_logins: bool,
}

/// What a job left.
pub(crate) struct KeptLeases {
    /// Id of the job.
    pub(crate) job: i64,
    /// The runner's `tls-ca-file`.
    pub(crate) ca_file: Option<String>,
    /// Tokens and leases.
    pub(crate) obtained: Vec<Obtained>,
    /// Servers of logins whose answers the job's process did not live to see.
    pub(crate) logins: Vec<String>,
    /// When the job left it.
    pub(crate) since: Option<SystemTime>,
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Content {
    job: i64,
    ca_file: Option<String>,
    obtained: Vec<Obtained>,
    /// Servers of logins under way.
    #[serde(default)]
    logins: Vec<String>,
    /// When the job left it, in seconds since 1970; before that its file's time.
    #[serde(default)]
    since: Option<u64>,
}

impl LeaseJournal {
    /// In the directory of a job.
    pub(super) fn new(
        directory: &Path,
        job: i64,
        ca_file: Option<String>,
        spool: &Arc<Shared>,
    ) -> Self {
        Self {
            place: Mutex::new(Place {
                path: directory.join(LEASES),
                before: None,
                locked: None,
                without_logins: false,
            }),
            job,
            ca_file,
            spool: Arc::clone(spool),
        }
    }

    /// Writes down what there is now; without anything the file goes. Whether all of it is written down.
    pub(crate) fn write(&self, account: &Account<'_>) -> bool {
        let mut place = self.place();
        let Place {
            path,
            before,
            locked,
            without_logins,
        } = &mut *place;
        let logins = if *without_logins { &[] } else { account.logins };
        let (obtained, complete) = self.within_limits(account.obtained);
        let written = if obtained.is_empty() && logins.is_empty() {
            removed(path)
        } else {
            let content = Content {
                job: self.job,
                ca_file: self.ca_file.clone(),
                obtained,
                logins: logins
                    .iter()
                    .filter(|server| server.len() <= LONGEST)
                    .cloned()
                    .collect(),
                since: None,
            };
            write(path, &content, locked.as_mut())
        };
        // Only now: there is always one.
        let written =
            written.and_then(|()| before.take().map_or(Ok(()), |before| removed(&before)));
        if let Err(error) = &written {
            let path = path.display();
            tracing::error!(
                job = self.job,
                "cannot write {path}: {error}; should this process die, tokens stay until they end"
            );
        }
        complete && written.is_ok()
    }

    /// The job is over, its directory will go: what is written from now on lies at the top of the spool. Others leave it
    /// alone until [`Self::release`], or until this process is gone.
    pub(crate) fn outlive_job(&self) {
        let mut place = self.place();
        let path = self.spool.directory.join(kept_name());
        place.before = Some(std::mem::replace(&mut place.path, path));
        place.locked = Some(Vec::new());
    }

    /// Nobody waits for logins any more, and those without an answer were told of: none is written down from now on.
    pub(crate) fn tell_no_logins(&self) {
        self.place().without_logins = true;
    }

    /// What is there is for whoever looks after jobs that are over.
    pub(crate) fn release(&self) {
        for file in self.place().locked.take().into_iter().flatten() {
            // By name: a process that is being started just now holds the file, too.
            file.unlock().ok();
        }
        self.spool.leases.notify_one();
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a server may make the disk hold, and whether that is all.
    fn within_limits(&self, obtained: &[Obtained]) -> (Vec<Obtained>, bool) {
        let mut complete = true;
        let mut fits = |text: &str| {
            let fits = text.len() <= LONGEST;
            complete &= fits;
            fits
        };
        let mut kept = obtained.to_vec();
        kept.retain(|one| fits(one.token.expose()));
        for one in &mut kept {
            one.leases.retain(|lease| fits(lease));
        }
        if !complete {
            tracing::error!(
                job = self.job,
                "a token or a lease is longer than {LONGEST} bytes and not written down: should it not be revoked \
                 at the job's end, it stays until it ends"
            );
        }
        (kept, complete)
    }
}

impl KeptLeases {
    /// Only these are left.
    pub(crate) fn keep(&self, obtained: Vec<Obtained>) {
        let content = Content {
            job: self.job,
            ca_file: self.ca_file.clone(),
            obtained,
            // They are told of once.
            logins: Vec::new(),
            since: self.since.and_then(seconds),
        };
        if let Err(error) = write(&self.path, &content, None) {
            tracing::warn!("cannot write {}: {error}", self.path.display());
        }
    }

    /// Nothing is left of it.
    pub(crate) fn forget(&self) {
        for path in [self.path.with_extension(PART), self.path.clone()] {
            if let Err(error) = removed(&path) {
                tracing::warn!("cannot remove {}: {error}", path.display());
            }
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
            name.starts_with(NAME.0) && (name.ends_with(NAME.1) || name.ends_with(PART))
        });
        let mut paths: Vec<PathBuf> = paths.map(|entry| entry.path()).collect();
        for path in &mut paths {
            let whole = path.with_extension("json");
            if path.extension().is_some_and(|end| end == PART)
                && is_abandoned(path)
                && !whole.exists()
            {
                // Whoever wrote it was killed.
                match whole_or_removed(path, &whole) {
                    Ok(true) => *path = whole,
                    Ok(false) => {}
                    Err(error) => tracing::warn!("cannot keep {}: {error}", path.display()),
                }
            }
        }
        paths.retain(|path| path.extension().is_some_and(|end| end != PART));
        paths.into_iter().filter_map(read).collect()
    }

    /// Runs what waits for answers that jobs do not live to see.
    pub(crate) fn spawn_late(&self, waiting: impl Future<Output = ()> + Send + 'static) {
        self.shared.late.spawn(waiting);
    }

    /// Waits until there are no such answers to come any more, some more than 30 s at the longest.
    pub async fn late_answers(&self) {
        let late = &self.shared.late;
        if late.is_empty() {
            return;
        }
        tracing::info!(
            jobs = late.len(),
            "waiting for logins of jobs that are over: their tokens are to be revoked"
        );
        late.close();
        late.wait().await;
        late.reopen();
    }

    /// Waits until there are new ones.
    pub(crate) async fn new_leases(&self) {
        self.shared.leases.notified().await;
    }
}

/// The file of a job that is over, or whose process is, goes to the top of the spool, where it is looked for; so does
/// one that its process was writing when it was killed. Whether there was any.
///
/// # Errors
///
/// Those of the file system: something stays where it is.
pub(super) fn leave(directory: &Path) -> io::Result<bool> {
    let Some(spool) = directory.parent() else {
        return Ok(false);
    };
    let kept = || spool.join(kept_name());
    let path = directory.join(LEASES);
    let whole = match fs::rename(&path, kept()) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    // It may hold a token that the other does not: who revokes it twice is told that it had ended.
    Ok(whole_or_removed(&path.with_extension(PART), &kept())? || whole)
}

/// A new one at the top of the spool.
fn kept_name() -> String {
    format!("{}{}{}", NAME.0, uuid::Uuid::new_v4().simple(), NAME.1)
}

fn seconds(time: SystemTime) -> Option<u64> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    Some(since.as_secs())
}

/// Whether nobody writes this part any more.
fn is_abandoned(part: &Path) -> bool {
    let modified = fs::metadata(part).and_then(|data| data.modified()).ok();
    let age = modified.and_then(|modified| modified.elapsed().ok());
    age.is_some_and(|age| age > PART_AGE)
}

/// Gives a file its `name` that was being written; one that is not whole is removed. Whether there is one of that name.
fn whole_or_removed(part: &Path, name: &Path) -> io::Result<bool> {
    match content(part) {
        Ok(_) => fs::rename(part, name).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        // Cut off.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            removed(part).map(|()| false)
        }
        Err(error) => Err(error),
    }
}

fn content(path: &Path) -> io::Result<Content> {
    let mut text = Zeroizing::new(Vec::new());
    let mut file = private_file(path, false)?;
    match file.try_lock() {
        Ok(()) => {}
        // The process of its job still waits for more.
        Err(fs::TryLockError::WouldBlock) => return Err(io::ErrorKind::ResourceBusy.into()),
        Err(fs::TryLockError::Error(error)) => return Err(error),
    }
    file.read_to_end(&mut text)?;
    file.unlock()?;
    Ok(serde_json::from_slice(&text)?)
}

fn read(path: PathBuf) -> Option<KeptLeases> {
    match content(&path) {
        Ok(Content {
            job,
            ca_file,
            obtained,
            logins,
            since,
        }) => Some(KeptLeases {
            job,
            ca_file,
            obtained,
            logins,
            since: match since {
                Some(since) => UNIX_EPOCH.checked_add(Duration::from_secs(since)),
                None => fs::metadata(&path).and_then(|data| data.modified()).ok(),
            },
            path,
        }),
        // Another process has just done it, or will.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ResourceBusy
            ) =>
        {
            None
        }
        Err(error) => {
            tracing::error!("cannot read {}: {error}", path.display());
            None
        }
    }
}

/// Whole under its name, or not there; locked where that is asked for.
fn write(path: &Path, content: &Content, locked: Option<&mut Vec<fs::File>>) -> io::Result<()> {
    let part = path.with_extension(PART);
    removed(&part)?;
    let text = Zeroizing::new(serde_json::to_vec(content)?);
    let mut file = private_file(&part, true)?;
    if locked.is_some() {
        file.lock()?;
    }
    file.write_all(&text)?;
    if !content.obtained.is_empty() {
        file.sync_data()?;
    }
    if let Some(locked) = locked {
        locked.push(file);
    }
    fs::rename(part, path)
}

fn removed(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
