//! The directory that an archive is extracted into. Nothing an entry says can reach outside of it.
//!
//! Names are checked as text (no absolute ones, no `..`), and every directory on the way is opened
//! relative to a handle of the root: with `openat2` and `RESOLVE_BENEATH` where the kernel has it, else
//! component by component without following links. Files are made anew, never written through.
//! A link may point anywhere: links are made after all files, and nothing here follows one outside.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode, Timespec, Timestamps};
use rustix::io::Errno;

use crate::ArchiveError;
use crate::error::shown;

/// Bounds of one extraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most entries.
    pub entries: u64,
    /// Most bytes of all files together.
    pub bytes: u64,
    /// Most bytes extracted per byte of archive, once [`Limits::RATIO_FREE`] bytes are exceeded.
    pub ratio: u64,
}

impl Limits {
    /// Below this many extracted bytes the ratio is not looked at.
    pub const RATIO_FREE: u64 = 64 << 20;

    /// Most bytes that an archive of `archive_bytes` may become.
    pub(crate) fn total(&self, archive_bytes: u64) -> u64 {
        self.bytes.min(
            archive_bytes
                .saturating_mul(self.ratio)
                .max(Self::RATIO_FREE),
        )
    }
}

impl Default for Limits {
    /// Ten million entries, 1 TiB, and deflate's greatest ratio of 1032: only entries that share their
    /// bytes exceed that.
    fn default() -> Self {
        Self {
            entries: 10_000_000,
            bytes: 1 << 40,
            ratio: 1032,
        }
    }
}

/// What an entry says about a file beside its content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Permission bits; set-id and sticky bits are dropped.
    pub(crate) mode: Option<u32>,
    /// Seconds since 1970.
    pub(crate) modified: Option<i64>,
    /// User and group.
    pub(crate) owner: Option<(u32, u32)>,
}

/// An open root.
pub(crate) struct Destination {
    root: OwnedFd,
    path: PathBuf,
    /// Directory of the entry before: entries come sorted, so it is mostly the same.
    recent: Option<(Vec<u8>, OwnedFd)>,
    /// Directories whose mode would keep us from filling them; set last, deepest first.
    closed: Vec<(Vec<u8>, Attributes)>,
}

/// Bound of [`Destination::closed`]: real trees have a handful of them.
const MAX_CLOSED_DIRECTORIES: usize = 1 << 16;

/// Longest name (`PATH_MAX`).
const MAX_NAME: usize = 4096;

/// What is wrong with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameFault {
    /// Absolute, or it climbs.
    Outside,
    /// No system has such names.
    Unusable(&'static str),
}

/// A name that has been checked: components joined by `/`, no `.`, no `..`, not absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EntryName(Vec<u8>);

impl EntryName {
    /// Checks a name from an archive. The root itself is empty.
    pub(crate) fn new(raw: &[u8]) -> Result<Self, NameFault> {
        match raw {
            [] => return Err(NameFault::Unusable("it has no name")),
            [b'/', ..] => return Err(NameFault::Outside),
            _ if raw.contains(&0) => return Err(NameFault::Unusable("its name holds a zero byte")),
            _ if raw.len() > MAX_NAME => return Err(NameFault::Unusable("its name is too long")),
            _ => {}
        }
        let mut name = Vec::with_capacity(raw.len());
        for component in raw.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return Err(NameFault::Outside),
                component => {
                    if !name.is_empty() {
                        name.push(b'/');
                    }
                    name.extend_from_slice(component);
                }
            }
        }
        Ok(Self(name))
    }

    /// Whether it is the root.
    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (&[], &self.0),
        }
    }
}

impl Destination {
    /// Opens `path`, which has to exist.
    pub(crate) fn open(path: &Path) -> Result<Self, ArchiveError> {
        let root = rustix::fs::open(
            path,
            OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY,
            Mode::empty(),
        )
        .map_err(ArchiveError::errno(path))?;
        Ok(Self {
            root,
            path: path.to_owned(),
            recent: None,
            closed: Vec::new(),
        })
    }

    /// The error for a name that [`EntryName::new`] refused.
    pub(crate) fn refuse(&self, raw: &[u8], fault: NameFault) -> ArchiveError {
        match fault {
            NameFault::Outside => self.outside(raw),
            NameFault::Unusable(reason) => ArchiveError::DamagedEntry {
                // The end of a name that is too long tells nothing more.
                name: shown(&raw[..raw.len().min(MAX_NAME)]),
                reason: reason.to_owned(),
            },
        }
    }

    /// The error for an entry that would land outside.
    pub(crate) fn outside(&self, raw: &[u8]) -> ArchiveError {
        ArchiveError::Outside {
            name: shown(raw),
            root: self.path.clone(),
        }
    }

    /// Makes a new file in place of whatever has that name.
    pub(crate) fn create_file(&mut self, name: &EntryName) -> Result<File, ArchiveError> {
        let (parent, base) = name.split();
        let full = self.full(&name.0);
        let directory = self.directory(parent)?;
        let create = || {
            rustix::fs::openat(
                directory,
                base,
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::from_raw_mode(0o666),
            )
        };
        let file = match create() {
            Err(Errno::EXIST) => {
                remove(directory, base).map_err(ArchiveError::errno(&full))?;
                create()
            }
            other => other,
        };
        Ok(File::from(file.map_err(ArchiveError::errno(&full))?))
    }

    /// Sets mode, times and owner of a file that [`Self::create_file`] made.
    pub(crate) fn finish_file(
        &self,
        file: &File,
        name: &EntryName,
        attributes: Attributes,
    ) -> Result<(), ArchiveError> {
        apply(file.as_fd(), attributes).map_err(ArchiveError::errno(self.full(&name.0)))
    }

    /// Makes a directory; an existing one is kept.
    pub(crate) fn create_directory(&mut self, name: &EntryName) -> Result<(), ArchiveError> {
        if !name.is_root() {
            self.directory(&name.0)?;
        }
        Ok(())
    }

    /// Sets mode and times of a directory; for the end of an extraction. The root keeps its own.
    pub(crate) fn finish_directory(
        &mut self,
        name: &EntryName,
        attributes: Attributes,
    ) -> Result<(), ArchiveError> {
        if name.is_root() {
            return Ok(());
        }
        if attributes.mode.is_some_and(|mode| mode & 0o700 != 0o700) {
            // Told again: the last word counts.
            self.closed.pop_if(|(known, _)| *known == name.0);
            if self.closed.len() == MAX_CLOSED_DIRECTORIES {
                return Err(ArchiveError::Limit {
                    what: "directories without access",
                    limit: MAX_CLOSED_DIRECTORIES as u64,
                });
            }
            self.closed.push((name.0.clone(), attributes));
            return Ok(());
        }
        self.set_directory(&name.0, attributes)
    }

    fn set_directory(&self, name: &[u8], attributes: Attributes) -> Result<(), ArchiveError> {
        match open_beneath(self.root.as_fd(), name) {
            Ok(directory) => {
                apply(directory.as_fd(), attributes).map_err(ArchiveError::errno(self.full(name)))
            }
            // A link took its place: there is nothing of ours to change.
            Err(Errno::LOOP | Errno::NOTDIR | Errno::XDEV | Errno::NOENT) => Ok(()),
            Err(error) => Err(ArchiveError::errno(self.full(name))(error)),
        }
    }

    /// Makes a symbolic link in place of a file or link of that name. Only after all files.
    pub(crate) fn create_link(
        &mut self,
        name: &EntryName,
        target: &[u8],
    ) -> Result<(), ArchiveError> {
        let (parent, base) = name.split();
        let full = self.full(&name.0);
        let directory = self.directory(parent)?;
        match rustix::fs::symlinkat(target, directory, base) {
            Err(Errno::EXIST) => {
                remove(directory, base).map_err(ArchiveError::errno(&full))?;
                rustix::fs::symlinkat(target, directory, base)
            }
            other => other,
        }
        .map_err(ArchiveError::errno(&full))
    }

    /// Applies what had to wait.
    pub(crate) fn finish(mut self) -> Result<(), ArchiveError> {
        let mut closed = std::mem::take(&mut self.closed);
        closed.sort_by(|a, b| b.0.cmp(&a.0));
        for (name, attributes) in closed {
            self.set_directory(&name, attributes)?;
        }
        Ok(())
    }

    /// A handle of a directory below the root, made where it is missing.
    fn directory(&mut self, name: &[u8]) -> Result<BorrowedFd<'_>, ArchiveError> {
        if name.is_empty() {
            return Ok(self.root.as_fd());
        }
        if self.recent.as_ref().is_none_or(|(known, _)| known != name) {
            let opened = self.open_or_make(name)?;
            self.recent = Some((name.to_vec(), opened));
        }
        Ok(self
            .recent
            .as_ref()
            .map_or_else(|| self.root.as_fd(), |(_, directory)| directory.as_fd()))
    }

    fn open_or_make(&self, name: &[u8]) -> Result<OwnedFd, ArchiveError> {
        match open_beneath(self.root.as_fd(), name) {
            Ok(directory) => return Ok(directory),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(self.unreachable(name, error)),
        }
        let mut above: Option<OwnedFd> = None;
        let ends = (0..name.len())
            .filter(|at| name[*at] == b'/')
            .chain([name.len()]);
        for end in ends {
            let prefix = &name[..end];
            let opened = match open_beneath(self.root.as_fd(), prefix) {
                Err(Errno::NOENT) => {
                    let base = prefix.rsplit(|byte| *byte == b'/').next().unwrap_or(prefix);
                    let parent = above
                        .as_ref()
                        .map_or_else(|| self.root.as_fd(), AsFd::as_fd);
                    match rustix::fs::mkdirat(parent, base, Mode::from_raw_mode(0o777)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(ArchiveError::errno(self.full(prefix))(error)),
                    }
                    open_beneath(self.root.as_fd(), prefix)
                }
                other => other,
            };
            above = Some(opened.map_err(|error| self.unreachable(prefix, error))?);
        }
        above.ok_or_else(|| self.outside(name))
    }

    /// A link that leads outside is an escape; anything else is what the system says.
    fn unreachable(&self, name: &[u8], error: Errno) -> ArchiveError {
        match error {
            Errno::XDEV | Errno::LOOP => self.outside(name),
            other => ArchiveError::errno(self.full(name))(other),
        }
    }

    fn full(&self, name: &[u8]) -> PathBuf {
        self.path.join(std::ffi::OsStr::from_bytes(name))
    }
}

/// Removes a file, a link or an empty directory.
fn remove(directory: BorrowedFd<'_>, base: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(directory, base, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {
            rustix::fs::unlinkat(directory, base, AtFlags::REMOVEDIR)
        }
        other => other,
    }
}

/// Owner first: changing it would clear mode bits.
fn apply(file: BorrowedFd<'_>, attributes: Attributes) -> Result<(), Errno> {
    if let Some((user, group)) = attributes.owner {
        let user = rustix::fs::Uid::from_raw(user);
        let group = rustix::fs::Gid::from_raw(group);
        // Only root may give files away; upstream ignores the failure too.
        rustix::fs::fchown(file, Some(user), Some(group)).ok();
    }
    if let Some(mode) = attributes.mode {
        rustix::fs::fchmod(file, Mode::from_raw_mode((mode & 0o777) as RawMode))?;
    }
    if let Some(seconds) = attributes.modified {
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: rustix::fs::UTIME_NOW,
            },
            last_modification: Timespec {
                tv_sec: seconds,
                tv_nsec: 0,
            },
        };
        rustix::fs::futimens(file, &times)?;
    }
    Ok(())
}

const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::RDONLY)
    .union(OFlags::CLOEXEC);

/// Opens a directory below `root`. Links on the way are followed only while they stay inside.
#[cfg(target_os = "linux")]
fn open_beneath(root: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    use rustix::fs::ResolveFlags;

    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, name, DIRECTORY, Mode::empty(), resolve) {
        // Kernels before 5.6, and sandboxes that don't know the call.
        Err(Errno::NOSYS | Errno::PERM) => open_stepwise(root, name),
        other => other,
    }
}

#[cfg(not(target_os = "linux"))]
fn open_beneath(root: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    open_stepwise(root, name)
}

/// The same without `openat2`: no link is followed at all.
fn open_stepwise(root: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let mut directory: Option<OwnedFd> = None;
    for component in name.split(|byte| *byte == b'/') {
        let parent = directory.as_ref().map_or(root, AsFd::as_fd);
        let next = rustix::fs::openat(
            parent,
            component,
            DIRECTORY | OFlags::NOFOLLOW,
            Mode::empty(),
        );
        directory = Some(match next {
            // With O_DIRECTORY a link may be reported as "not a directory".
            Err(Errno::NOTDIR) if is_link(parent, component) => return Err(Errno::LOOP),
            other => other?,
        });
    }
    directory.ok_or(Errno::NOENT)
}

fn is_link(parent: BorrowedFd<'_>, component: &[u8]) -> bool {
    rustix::fs::statat(parent, component, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

/// Counts extracted bytes of all threads against a bound.
pub(crate) struct Budget {
    left: AtomicU64,
    limit: u64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            left: AtomicU64::new(limit),
            limit,
        }
    }

    /// Takes `bytes` out; an error when they are not there.
    pub(crate) fn take(&self, bytes: u64) -> Result<(), ArchiveError> {
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(bytes)
            });
        taken.map(drop).map_err(|_| ArchiveError::Limit {
            what: "bytes",
            limit: self.limit,
        })
    }
}

/// Copies until the end, within the budget. The error says which side failed.
pub(crate) fn copy_within(
    budget: &Budget,
    reader: &mut dyn io::Read,
    output: &mut impl io::Write,
    read_error: impl Fn(io::Error) -> ArchiveError,
    write_error: impl Fn(io::Error) -> ArchiveError,
) -> Result<(), ArchiveError> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(read_error(error)),
        };
        budget.take(count as u64)?;
        output.write_all(&buffer[..count]).map_err(&write_error)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_outside_are_refused() {
        for raw in ["/etc/passwd", "..", "a/../b", "../x", "a/.."] {
            let outside = Err(NameFault::Outside);
            assert_eq!(EntryName::new(raw.as_bytes()), outside, "{raw:?}");
        }
        for raw in ["", "a\0b", &"a/".repeat(3000)] {
            let refused = EntryName::new(raw.as_bytes());
            assert!(matches!(refused, Err(NameFault::Unusable(_))), "{raw:?}");
        }
        for (raw, clean) in [("./a", "a"), ("a//b/", "a/b"), ("./", ""), ("..a", "..a")] {
            let name = EntryName::new(raw.as_bytes()).expect("inside");
            assert_eq!(name.0, clean.as_bytes(), "{raw:?}");
        }
    }

    #[test]
    fn no_file_is_written_through_a_link_that_leads_outside() {
        let world = tempfile::tempdir().expect("temporary directory");
        let root = world.path().join("root");
        std::fs::create_dir_all(root.join("inside")).expect("root");
        std::fs::create_dir(world.path().join("outside")).expect("outside");
        std::os::unix::fs::symlink(world.path().join("outside"), root.join("absolute"))
            .expect("link");
        std::os::unix::fs::symlink("../outside", root.join("relative")).expect("link");
        let mut destination = Destination::open(&root).expect("opens");
        for name in ["absolute/x", "relative/x", "absolute/d/e"] {
            let name = EntryName::new(name.as_bytes()).expect("a name");
            let error = destination.create_file(&name).expect_err("escapes");
            assert!(matches!(error, ArchiveError::Outside { .. }), "{error}");
        }
        assert_eq!(
            std::fs::read_dir(world.path().join("outside"))
                .expect("readable")
                .count(),
            0
        );
    }

    #[test]
    fn stepwise_opening_follows_no_link() {
        let world = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir_all(world.path().join("a/b")).expect("directories");
        std::os::unix::fs::symlink("a", world.path().join("link")).expect("link");
        let root = Destination::open(world.path()).expect("opens").root;
        assert!(open_stepwise(root.as_fd(), b"a/b").is_ok());
        assert_eq!(
            open_stepwise(root.as_fd(), b"link/b").err(),
            Some(Errno::LOOP)
        );
    }
}
