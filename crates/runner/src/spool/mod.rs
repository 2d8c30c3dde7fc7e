//! Jobs on disk, so that nothing is lost with the process: the log as it is sent, and a journal of what the
//! server has and what was decided.
//!
//! ```text
//! <directory>/lock                held while a job's directory is made, or jobs are looked for
//! <directory>/<job>-<random>/     0700, one job
//!     journal                     0600, see `journal.rs`; locked while a process works on the job
//!     log                         0600, masked, stamped, cut; holes where it was acknowledged and is long
//!     unfinished                  0600, while caches and artifacts are saved: see `unfinished.rs`
//! <directory>/leases-*.json       0600, tokens that a job left and that are to be revoked: see `leases.rs`
//! <directory>/remains-*.json      0600, what a job left that could not be removed: see `remains.rs`
//! ```
//!
//! A job's directory is removed once the server has acknowledged its final state. One that nobody has locked
//! is left over: its runner was killed, or gave up while the server was away. `resume.rs` sends the rest.

mod inventory;
pub(crate) mod journal;
mod leases;
mod remains;
mod room;
mod unfinished;

use std::fs::File;
use std::io::{self, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

pub use inventory::{KeptJob, KeptState, NotDropped, drop_kept, kept_jobs};
use journal::{JobRecord, Read, Record};
pub(crate) use leases::{KeptLeases, LeaseJournal};
pub(crate) use unfinished::Unfinished;

use crate::dispatch::HeldNumbers;

use crate::platform;

const LOCK: &str = "lock";
const JOURNAL: &str = "journal";
const LOG: &str = "log";

/// Taken on the disk for every journal at its beginning, and again whenever the last [`ROOM_FOR_END`] are reached.
const JOURNAL_ROOM: u64 = 16 * 1024;

/// Of a journal on a full disk, kept for what must not be missing: how the job ended.
const ROOM_FOR_END: u64 = 4 * 1024;

/// What a spool may take of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolLimits {
    /// Bytes of one job's log that are kept at a time.
    pub job: u64,
    /// The same of all jobs together.
    pub total: u64,
}

/// Where the jobs of this process are kept. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Spool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    /// Between processes the file's lock, between threads the mutex.
    lock: Mutex<File>,
    limits: SpoolLimits,
    /// Bytes of logs on the disk.
    used: AtomicU64,
    /// A job was given up by its task and is left over.
    handed_over: Notify,
    /// A job left what could not be removed.
    remains: Notify,
    /// A job left tokens that could not be revoked.
    leases: Notify,
    /// Those that wait for answers that came too late for their jobs.
    late: TaskTracker,
    boot: String,
    /// Of left-over jobs that still need their working copies.
    held: HeldNumbers,
}

/// The files of one job, locked for this process.
#[derive(Debug)]
pub(crate) struct JobFiles {
    directory: PathBuf,
    journal: File,
    /// Bytes of the journal that have their place on the disk.
    journal_room: u64,
    /// The log; read and written by position.
    pub(crate) log: Arc<File>,
    spool: Arc<Shared>,
    /// Bytes of the log that are on the disk.
    kept: u64,
    removed: bool,
}

/// A job that some process left behind.
#[derive(Debug)]
pub(crate) struct LeftOver {
    pub(crate) files: JobFiles,
    pub(crate) job: JobRecord,
    /// What the journal says after the job.
    pub(crate) records: Vec<Record>,
    /// Only caches and artifacts were still to be saved.
    pub(crate) unfinished: Option<Unfinished<'static>>,
}

impl Spool {
    /// Keeps jobs in `directory`, which is made where it is missing.
    ///
    /// # Errors
    ///
    /// Those of the file system, and a directory of somebody else, or in which others can write: what lies there is
    /// believed.
    pub fn open(directory: PathBuf, limits: SpoolLimits) -> io::Result<Self> {
        make_directory(&directory)?;
        platform::check_owner(&directory)?;
        let lock = platform::private_file()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join(LOCK))?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(Self {
            shared: Arc::new(Shared {
                directory,
                lock: Mutex::new(lock),
                limits,
                used: AtomicU64::new(0),
                handed_over: Notify::new(),
                remains: Notify::new(),
                leases: Notify::new(),
                late: TaskTracker::new(),
                boot: boot.trim().to_owned(),
                held: HeldNumbers::default(),
            }),
        })
    }

    /// Where it lies.
    pub fn directory(&self) -> &Path {
        &self.shared.directory
    }

    /// Numbers of jobs whose working copies must not be given to others.
    pub(crate) fn held_numbers(&self) -> &HeldNumbers {
        &self.shared.held
    }

    /// Names the machine's run, as far as the system tells.
    pub(crate) fn boot(&self) -> &str {
        &self.shared.boot
    }

    /// Makes the files of a job that begins.
    pub(crate) fn begin(&self, job: JobRecord) -> io::Result<JobFiles> {
        let name = format!("{}-{}", job.job, uuid::Uuid::new_v4().simple());
        let directory = self.shared.directory.join(name);
        let lock = self.shared.lock.lock();
        let lock = Held::take(lock.unwrap_or_else(PoisonError::into_inner))?;
        make_directory(&directory)?;
        let made = private_file(&directory.join(JOURNAL), true)
            .and_then(|journal| Ok((journal, private_file(&directory.join(LOG), true)?)));
        let (journal, log) = made.inspect_err(|_| clear(&directory))?;
        let mut files = JobFiles {
            journal,
            log: Arc::new(log),
            directory,
            spool: Arc::clone(&self.shared),
            kept: 0,
            removed: false,
            journal_room: JOURNAL_ROOM,
        };
        let begun = files
            .journal
            .lock()
            .and_then(|()| room::reserve(&files.journal, JOURNAL_ROOM))
            .and_then(|()| files.record(&Record::Job(Box::new(job))));
        drop(lock);
        if let Err(error) = begun {
            files.remove();
            return Err(error);
        }
        Ok(files)
    }

    /// Jobs that no process works on, locked for this one. What is unreadable is told of in the log.
    pub(crate) fn left_over(&self) -> Vec<LeftOver> {
        let lock = self.shared.lock.lock();
        let lock = Held::take(lock.unwrap_or_else(PoisonError::into_inner));
        let entries = lock.and_then(|lock| Ok((std::fs::read_dir(&self.shared.directory)?, lock)));
        let (entries, _lock) = match entries {
            Ok(entries) => entries,
            Err(error) => {
                let directory = self.shared.directory.display();
                tracing::error!("cannot look for jobs left over in {directory}: {error}");
                return Vec::new();
            }
        };
        let directories = entries.filter_map(|entry| {
            let entry = entry.ok()?;
            entry.file_type().ok()?.is_dir().then(|| entry.path())
        });
        directories
            .filter_map(|directory| {
                let shown = directory.display().to_string();
                self.take_over(directory).unwrap_or_else(|error| {
                    tracing::error!("cannot read the job left over in {shown}: {error}");
                    None
                })
            })
            .collect()
    }

    /// Waits until a job is handed over by its task.
    pub(crate) async fn handed_over(&self) {
        self.shared.handed_over.notified().await;
    }

    fn take_over(&self, directory: PathBuf) -> io::Result<Option<LeftOver>> {
        let journal = match private_file(&directory.join(JOURNAL), false) {
            Ok(journal) => journal,
            // Another process has just removed it, or was killed in the middle of that.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.shared.leave_leases(&directory);
                clear(&directory);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        match journal.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
        }
        // Between opening and locking, its owner may have finished.
        if !directory.join(JOURNAL).exists() {
            return Ok(None);
        }
        let (log, has_log) = match private_file(&directory.join(LOG), false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (private_file(&directory.join(LOG), true)?, false)
            }
            log => (log?, true),
        };
        let mut files = JobFiles {
            directory,
            journal,
            log: Arc::new(log),
            spool: Arc::clone(&self.shared),
            kept: 0,
            removed: false,
            // Not known: the next record asks for more.
            journal_room: 0,
        };
        let mut records = match journal::read(&mut files.journal)? {
            Read::Records(records) => records.into_iter(),
            Read::Nothing => {
                let directory = files.directory.display();
                tracing::warn!("{directory} is removed: its job had not begun");
                files.remove();
                return Ok(None);
            }
            Read::Version(version) => {
                let directory = files.directory.display();
                tracing::error!(
                    "{directory} was written by another version of Courser (format {version}) and is left \
                     alone: start that version once, or remove the directory"
                );
                files.removed = true;
                return Ok(None);
            }
        };
        let Some(Record::Job(job)) = records.next() else {
            return Ok(None);
        };
        let records: Vec<Record> = records.collect();
        let ended = |record: &Record| matches!(record, Record::Ended(_));
        // Its end was acknowledged; the process died while it removed the files.
        if !has_log && records.iter().any(ended) {
            files.remove();
            return Ok(None);
        }
        // A hole takes no room.
        let dropped = records.iter().filter_map(|record| match record {
            Record::Dropped { offset, .. } => Some(*offset),
            _ => None,
        });
        let length = files.log.metadata()?.len();
        files.grow(length.saturating_sub(dropped.max().unwrap_or(0)));
        files.leave_leases();
        Ok(Some(LeftOver {
            unfinished: Unfinished::read(&files.directory),
            files,
            job: *job,
            records,
        }))
    }
}

impl Shared {
    fn leave_leases(&self, directory: &Path) {
        match leases::leave(directory) {
            Ok(false) => {}
            Ok(true) => self.leases.notify_one(),
            Err(error) => {
                let directory = directory.display();
                tracing::error!("cannot keep the tokens of a job in {directory}: {error}");
            }
        }
    }
}

impl JobFiles {
    /// When the job was last at work, as far as is known.
    pub(crate) fn touched(&self) -> Option<SystemTime> {
        self.journal
            .metadata()
            .and_then(|data| data.modified())
            .ok()
    }

    /// Appends to the journal. On a full disk the last room is kept for the job's end, and what the server has is
    /// not written down any more: it says so itself when it is asked.
    pub(crate) fn record(&mut self, record: &Record) -> io::Result<()> {
        let length = self.journal.stream_position()?;
        if length + ROOM_FOR_END > self.journal_room {
            match room::reserve(&self.journal, length + JOURNAL_ROOM) {
                Ok(()) => self.journal_room = length + JOURNAL_ROOM,
                Err(_) if matches!(record, Record::Acknowledged { .. }) => return Ok(()),
                // There may be room for this one.
                Err(_) => {}
            }
        }
        journal::append(&mut self.journal, record)
    }

    /// Keeps what is needed to go on where the scripts are over.
    pub(crate) fn keep_unfinished(&self, job: &Unfinished<'_>) -> io::Result<()> {
        job.write(&self.directory)
    }

    /// It is not needed any more.
    pub(crate) fn forget_unfinished(&self) {
        unfinished::remove(&self.directory);
    }

    /// Whether the log may grow by that much: if not, why, as a clause.
    pub(crate) fn refuses(&self, bytes: u64) -> Option<String> {
        let SpoolLimits { job, total } = self.spool.limits;
        if self.kept.saturating_add(bytes) > job {
            return Some(format!(
                "more than {job} bytes of it are waiting to be sent"
            ));
        }
        let used = self.spool.used.load(Ordering::Relaxed);
        (used.saturating_add(bytes) > total)
            .then(|| format!("more than {total} bytes of the runner's jobs are waiting to be sent"))
    }

    /// Counts bytes that were appended to the log.
    pub(crate) fn grow(&mut self, bytes: u64) {
        self.kept += bytes;
        self.spool.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives the bytes `from..to` of the log back, as far as the file system can.
    pub(crate) fn give_back(&mut self, from: u64, to: u64) -> bool {
        let given = room::give_back(&self.log, from, to);
        if given {
            self.shrink(to - from);
        }
        given
    }

    fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.kept);
        self.kept -= bytes;
        self.spool.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Where the job's tokens and leases are written down.
    pub(crate) fn lease_journal(&self, job: i64, ca_file: Option<String>) -> LeaseJournal {
        LeaseJournal::new(&self.directory, job, ca_file, &self.spool)
    }

    /// The job is over or given up: what it has not given back is looked after without it.
    pub(crate) fn leave_leases(&self) {
        self.spool.leave_leases(&self.directory);
    }

    /// What a power failure must not take.
    pub(crate) fn unsynced(&self) -> io::Result<Unsynced> {
        Ok(Unsynced {
            journal: self.journal.try_clone()?,
            log: Arc::clone(&self.log),
            directory: self.directory.clone(),
        })
    }

    /// The server has acknowledged everything: nothing stays.
    pub(crate) fn remove(&mut self) {
        self.removed = true;
        self.leave_leases();
        clear(&self.directory);
        if self.directory.exists() {
            let directory = self.directory.display();
            tracing::warn!("cannot remove {directory}, its job is over");
        }
    }
}

/// Removes a job's directory, as far as it is known what lies there. The journal last: without it nobody takes the
/// directory for a job.
fn clear(directory: &Path) {
    unfinished::remove(directory);
    for name in [LOG, JOURNAL] {
        std::fs::remove_file(directory.join(name)).ok();
    }
    std::fs::remove_dir(directory).ok();
}

/// Files whose content may not have reached the disk.
#[derive(Debug)]
pub(crate) struct Unsynced {
    journal: File,
    log: Arc<File>,
    directory: PathBuf,
}

impl Unsynced {
    /// Waits for the disk.
    pub(crate) fn sync(self) -> io::Result<()> {
        self.log.sync_data()?;
        self.journal.sync_data()?;
        File::open(&self.directory)?.sync_all()?;
        match self.directory.parent() {
            Some(spool) => File::open(spool)?.sync_all(),
            None => Ok(()),
        }
    }
}

/// The lock of a spool, held.
struct Held<'a>(MutexGuard<'a, File>);

impl<'a> Held<'a> {
    fn take(file: MutexGuard<'a, File>) -> io::Result<Self> {
        file.lock()?;
        Ok(Self(file))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.unlock().ok();
    }
}

impl Drop for JobFiles {
    /// Unlocks by name: a process that is being started just now still holds the file, and with it the
    /// lock, until its own program begins.
    fn drop(&mut self) {
        self.shrink(self.kept);
        self.journal.unlock().ok();
        if !self.removed {
            self.spool.handed_over.notify_one();
        }
    }
}

fn make_directory(directory: &Path) -> io::Result<()> {
    platform::private_directories().create(directory)
}

fn private_file(path: &Path, new: bool) -> io::Result<File> {
    platform::private_file()
        .read(true)
        .write(true)
        .create_new(new)
        .open(path)
}
