//! Where `courser exec` keeps things: `$XDG_STATE_HOME/courser/exec/<project>/` (`~/.local/state` where
//! that is not set), for the owner only.
//!
//! ```text
//! id                               tells this directory's things in Docker Engines from those of others
//! <project>/cache/                 local caches, kept between runs
//! <project>/engines                Docker Engines in which its containers ran
//! <project>/runs/<time>-<pid>/     one run; locked while it lasts
//!     git/                         snapshot repository, removed at the end
//!     builds/                      working copies, removed at the end unless they are to be kept
//!     run.json                     what became of the jobs, for `--retry-failed` and `shell`
//!     coordinator/traces/<id>.log  full logs
//!     coordinator/artifacts/<id>/  uploaded artifacts
//! ```
//!
//! The last [`KEPT_RUNS`] runs of a project stay; `courser clean` removes everything not in use.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::config_file::random_bytes;
use crate::environment::ProcessEnvironment;
use crate::platform;

/// Finished runs that are kept for their logs and artifacts.
const KEPT_RUNS: usize = 10;
const SPOOL: &str = "spool";
const LOCK: &str = "in-use";
const RECORD: &str = "run.json";
const ENGINES: &str = "engines";
const ID: &str = "id";

/// Everything kept for one project directory.
#[derive(Debug, Clone)]
pub(crate) struct ProjectState {
    root: PathBuf,
}

/// Directory of one run, locked until dropped.
#[derive(Debug)]
pub(crate) struct RunState {
    root: PathBuf,
    lock: File,
}

/// The directory that holds all projects' state.
pub(crate) fn all_projects(environment: &ProcessEnvironment) -> PathBuf {
    environment.user_state().join("exec")
}

impl ProjectState {
    /// The one whose directory this is.
    pub(crate) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// State of the project in `directory` (absolute, links resolved).
    pub(crate) fn of(environment: &ProcessEnvironment, directory: &Path) -> Self {
        let name = directory
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .replace(
                |c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_',
                "-",
            );
        // FNV-1a: it only has to tell directories of one name apart, and stay the same for ever.
        let hash = directory
            .as_os_str()
            .as_encoded_bytes()
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
        Self {
            root: all_projects(environment).join(format!("{name}-{hash:016x}")),
        }
    }

    /// The directory itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What the project is called in Docker Engines: others may have one in a directory of the same name.
    pub(crate) fn name_in_engines(&self) -> io::Result<String> {
        let name = self.root.file_name().unwrap_or_default().to_string_lossy();
        let id = id(self.root.parent().unwrap_or(&self.root))?;
        Ok(format!("{name}-{id}"))
    }

    /// Local caches.
    pub(crate) fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// Makes and locks the directory of a new run.
    pub(crate) fn begin_run(&self, now: Timestamp) -> io::Result<RunState> {
        let name = format!(
            "{}-{}",
            now.strftime("%Y%m%dT%H%M%S%.3f"),
            std::process::id()
        );
        let root = self.root.join("runs").join(name);
        create_private(&root)?;
        create_private(&self.cache())?;
        let lock = File::create(root.join(LOCK))?;
        lock.lock()?;
        Ok(RunState { root, lock })
    }

    /// Spools in which something of a runner's jobs lies: of runs that go on, of those that were killed, and of those that
    /// could not take everything away.
    pub(crate) fn spools(&self) -> io::Result<Vec<PathBuf>> {
        let runs = entries(&self.root.join("runs"))?.into_iter();
        let spools = runs.map(|run| run.join(SPOOL));
        Ok(spools.filter(|spool| has_jobs(spool)).collect())
    }

    /// Records of the runs that are over, newest first.
    pub(crate) fn records(&self) -> io::Result<Vec<PathBuf>> {
        let mut runs = entries(&self.root.join("runs"))?;
        runs.sort();
        let records = runs.into_iter().rev().map(|run| run.join(RECORD));
        Ok(records.filter(|record| record.is_file()).collect())
    }

    /// Removes runs that are over, all but the newest ones. Whether there were any.
    pub(crate) fn forget_old_runs(&self) -> io::Result<bool> {
        let mut runs = entries(&self.root.join("runs"))?;
        runs.sort();
        let old = runs.len().saturating_sub(KEPT_RUNS);
        for run in runs.drain(..old) {
            remove_when_over(&run)?;
        }
        Ok(old > 0)
    }

    /// Whether the directory of the run with that name is there.
    pub(crate) fn has_run(&self, name: &str) -> bool {
        self.root.join("runs").join(name).is_dir()
    }

    /// Writes down that containers of the project ran in this Docker Engine.
    pub(crate) fn note_engine(&self, host: &str) -> io::Result<()> {
        let mut engines = self.engines()?;
        if !engines.iter().any(|known| known == host) {
            engines.push(host.to_owned());
            self.keep_engines(&engines)?;
        }
        Ok(())
    }

    /// Docker Engines in which something of the project may be.
    pub(crate) fn engines(&self) -> io::Result<Vec<String>> {
        match std::fs::read_to_string(self.root.join(ENGINES)) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Only these are to be remembered.
    pub(crate) fn keep_engines(&self, engines: &[String]) -> io::Result<()> {
        create_private(&self.root)?;
        let lines: String = engines.iter().map(|host| format!("{host}\n")).collect();
        std::fs::write(self.root.join(ENGINES), lines)
    }
}

impl Drop for RunState {
    /// Unlocks by name: a process that is being started just now still holds the file, and with it the
    /// lock, until its own program begins.
    fn drop(&mut self) {
        drop(self.lock.unlock());
    }
}

impl RunState {
    /// The directory itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Snapshot repository.
    pub(crate) fn git(&self) -> PathBuf {
        self.root.join("git")
    }

    /// Working copies of jobs.
    pub(crate) fn builds(&self) -> PathBuf {
        self.root.join("builds")
    }

    /// Database, logs and artifacts.
    pub(crate) fn coordinator(&self) -> PathBuf {
        self.root.join("coordinator")
    }

    /// Jobs of its runner.
    pub(crate) fn spool(&self) -> PathBuf {
        self.root.join(SPOOL)
    }

    /// What is remembered of the run when it is over.
    pub(crate) fn record(&self) -> PathBuf {
        self.root.join(RECORD)
    }

    /// Removes what only a run in progress needs, but not the working copies.
    pub(crate) fn end_with_copies(self) -> io::Result<()> {
        remove(&self.git())
    }

    /// Removes what only a run in progress needs: many small files, so on two threads at least.
    pub(crate) fn end(self) -> io::Result<()> {
        let (builds, git) = (self.builds(), self.git());
        let mut trees = vec![git];
        // Whatever else jobs have put there goes with the rest at the end.
        for of_runner in entries(&builds)? {
            let of_jobs = entries(&of_runner).unwrap_or_default();
            let is_tree = |path: &PathBuf| path.symlink_metadata().is_ok_and(|kind| kind.is_dir());
            trees.extend(of_jobs.into_iter().filter(is_tree));
        }
        std::thread::scope(|scope| {
            let (some, others) = trees.split_at(trees.len() / 2);
            let aside = scope.spawn(|| some.iter().try_for_each(|tree| remove(tree)));
            let here = others.iter().try_for_each(|tree| remove(tree));
            let aside = aside
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("removing files panicked")));
            aside.and(here)
        })?;
        remove(&builds)
    }
}

impl RunState {
    /// Whether a job of it said anything.
    pub(crate) fn has_logs(&self) -> bool {
        entries(&self.coordinator().join("traces")).is_ok_and(|logs| !logs.is_empty())
    }

    /// Removes everything: a run that never began leaves nothing behind.
    pub(crate) fn discard(self) -> io::Result<()> {
        remove(&self.root)
    }
}

/// Bytes of all files below a directory; links are not followed.
pub(crate) fn size(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// What `courser clean` did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Cleaned {
    /// Directories that are gone.
    pub(crate) removed: Vec<PathBuf>,
    /// Bytes that were in them.
    pub(crate) bytes: u64,
    /// Runs that are still going on.
    pub(crate) in_use: Vec<PathBuf>,
    /// Killed runs whose jobs' things could not be taken away.
    pub(crate) unswept: Vec<PathBuf>,
}

/// Names of a project's runs in progress.
pub(crate) fn in_use(project: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for run in entries(&project.join("runs"))? {
        if let Ok(lock) = File::open(run.join(LOCK))
            && matches!(lock.try_lock(), Err(TryLockError::WouldBlock))
        {
            let name = run.file_name().unwrap_or_default();
            names.push(name.to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// Removes a project's state, except runs in progress and, with them, the cache they use.
pub(crate) fn clean(project: &Path) -> io::Result<Cleaned> {
    let mut cleaned = Cleaned::default();
    for run in entries(&project.join("runs"))? {
        let bytes = size(&run);
        match remove_when_over(&run)? {
            Removal::Done => {
                cleaned.bytes += bytes;
                cleaned.removed.push(run);
            }
            Removal::InUse => cleaned.in_use.push(run),
            Removal::Unswept => cleaned.unswept.push(run),
        }
    }
    if cleaned.in_use.is_empty() && cleaned.unswept.is_empty() && project.exists() {
        cleaned.bytes += size(project);
        remove(project)?;
        cleaned.removed.push(project.to_owned());
    }
    Ok(cleaned)
}

/// State directories of all projects.
pub(crate) fn projects(environment: &ProcessEnvironment) -> io::Result<Vec<PathBuf>> {
    let mut projects = entries(&all_projects(environment))?;
    projects.retain(|project| project.is_dir());
    Ok(projects)
}

/// That of the directory of all projects, made when it is asked for first.
fn id(directory: &Path) -> io::Result<String> {
    create_private(directory)?;
    let mut file = platform::new_private_file()
        .create_new(false)
        .create(true)
        .read(true)
        .open(directory.join(ID))?;
    // Two runs may begin at once.
    file.lock()?;
    let mut id = String::new();
    file.read_to_string(&mut id)?;
    if id.trim().is_empty() {
        id = random_bytes().map(|byte| format!("{byte:02x}")).concat();
        file.write_all(id.as_bytes())?;
    }
    // By name, as a run's lock.
    file.unlock()?;
    Ok(id.trim().to_owned())
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// What became of a run's directory that was to be removed.
enum Removal {
    Done,
    /// A process holds its lock.
    InUse,
    /// It was killed, and what finds the things of its jobs again is still needed.
    Unswept,
}

/// A job has a directory there; what one left that could not be removed, a file.
fn has_jobs(spool: &Path) -> bool {
    let jobs = entries(spool).unwrap_or_default();
    jobs.iter()
        .any(|job| job.is_dir() || job.extension().is_some_and(|kind| kind == "json"))
}

fn remove_when_over(run: &Path) -> io::Result<Removal> {
    if let Ok(lock) = File::open(run.join(LOCK)) {
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Removal::InUse),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    if has_jobs(&run.join(SPOOL)) {
        return Ok(Removal::Unswept);
    }
    remove(run)?;
    Ok(Removal::Done)
}

/// Removes a tree; jobs leave directories that their owner may not write to.
fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(path)?;
            std::fs::remove_dir_all(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

fn make_writable(directory: &Path) -> io::Result<()> {
    platform::open_up(directory)?;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        // The entry's own type: links are not followed out of the tree.
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

fn create_private(directory: &Path) -> io::Result<()> {
    platform::private_directory()
        .recursive(true)
        .create(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(directory: &tempfile::TempDir) -> ProjectState {
        ProjectState {
            root: directory.path().join("project"),
        }
    }

    #[test]
    fn a_run_in_progress_and_its_cache_survive_clean() {
        let directory = tempfile::tempdir().expect("a directory");
        let project = project(&directory);
        let now = Timestamp::UNIX_EPOCH;
        let over = project.begin_run(now).expect("a run");
        let over_root = over.root().to_owned();
        drop(over);
        let running = project
            .begin_run("2026-11-21T10:00:00Z".parse().expect("a time"))
            .expect("another run");
        let cleaned = clean(project.root()).expect("cleaned");
        assert_eq!(cleaned.removed, [over_root]);
        assert_eq!(cleaned.in_use, [running.root().to_owned()]);
        assert!(project.cache().is_dir());
        drop(running);
        clean(project.root()).expect("cleaned");
        assert!(!project.root().exists());
    }

    #[test]
    fn projects_of_another_state_directory_have_other_names_in_engines() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a directory");
        let elsewhere = tempfile::tempdir().expect("a directory");
        let name = |directory| project(directory).name_in_engines().expect("a name");
        let first = name(&directory);
        assert!(first.starts_with("project-"), "{first}");
        assert_eq!(name(&directory), first);
        assert_ne!(name(&elsewhere), first);
        let id = directory.path().join(ID).metadata().expect("a file");
        assert_eq!(id.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn only_the_newest_runs_are_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let project = project(&directory);
        for second in 0..15 {
            let now = Timestamp::from_second(second).expect("a time");
            drop(project.begin_run(now).expect("a run"));
        }
        project.forget_old_runs().expect("forgotten");
        let mut left = entries(&project.root().join("runs")).expect("listed");
        left.sort();
        assert_eq!(left.len(), KEPT_RUNS);
        assert!(left[0].to_string_lossy().contains("T000005"));
    }

    #[test]
    fn directories_that_jobs_made_read_only_are_removed() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a directory");
        let run = project(&directory)
            .begin_run(Timestamp::UNIX_EPOCH)
            .expect("a run");
        let locked = run.builds().join("go/pkg");
        create_private(&locked).expect("made");
        std::fs::write(locked.join("file"), "x").expect("written");
        std::fs::write(run.builds().join("stray"), "x").expect("written");
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o500)).expect("set");
        let builds = run.builds();
        run.end().expect("ended");
        assert!(!builds.exists());
    }
}
