//! The directory that an archive is extracted into. Nothing an entry says can reach outside of it.
//!
//! Names are checked as text (no absolute ones, no `..`), and every directory on the way is opened
//! below the root by `platform`: with `openat2` and `RESOLVE_BENEATH` where the kernel has it, else
//! component by component without following links. Files are made anew, never written through.
//! A link may point anywhere: links are made after all files, and nothing here follows one outside.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ArchiveError;
use crate::error::shown;
use crate::platform::{self, Directory};

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

/// Why a directory below another was not opened.
pub(crate) enum NotOpened {
    Missing,
    /// A link leads there, or outside.
    Elsewhere,
    Other(io::Error),
}

/// An open root.
pub(crate) struct Destination {
    root: Directory,
    path: PathBuf,
    /// Directory of the entry before: entries come sorted, so it is mostly the same.
    recent: Option<(Vec<u8>, Directory)>,
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
            [first, ..] if platform::is_separator(*first) => return Err(NameFault::Outside),
            _ if raw.contains(&0) => return Err(NameFault::Unusable("its name holds a zero byte")),
            _ if raw.len() > MAX_NAME => return Err(NameFault::Unusable("its name is too long")),
            _ => {}
        }
        let mut name = Vec::with_capacity(raw.len());
        for component in components(raw) {
            match component {
                b".." => return Err(NameFault::Outside),
                component => {
                    if let Some(reason) = platform::unusable(component) {
                        return Err(NameFault::Unusable(reason));
                    }
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

/// What of a name from an archive tells it from others.
pub(crate) fn components(raw: &[u8]) -> impl Iterator<Item = &[u8]> {
    raw.split(|byte| platform::is_separator(*byte))
        .filter(|component| !matches!(*component, b"" | b"."))
}

impl Destination {
    /// Opens `path`, which has to exist.
    pub(crate) fn open(path: &Path) -> Result<Self, ArchiveError> {
        let root = Directory::open(path).map_err(ArchiveError::io(path))?;
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
        let file = match directory.create_new(base) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let removed = directory.remove(base);
                removed.and_then(|()| directory.create_new(base))
            }
            other => other,
        };
        file.map_err(ArchiveError::io(full))
    }

    /// Sets mode, times and owner of a file that [`Self::create_file`] made.
    pub(crate) fn finish_file(
        &self,
        file: &File,
        name: &EntryName,
        attributes: Attributes,
    ) -> Result<(), ArchiveError> {
        platform::set_file(file, attributes).map_err(ArchiveError::io(self.full(&name.0)))
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
        match self.root.beneath(name) {
            Ok(directory) => directory
                .set(attributes)
                .map_err(ArchiveError::io(self.full(name))),
            // A link took its place: there is nothing of ours to change.
            Err(NotOpened::Missing | NotOpened::Elsewhere) => Ok(()),
            Err(NotOpened::Other(error)) if error.kind() == io::ErrorKind::NotADirectory => Ok(()),
            Err(NotOpened::Other(error)) => Err(ArchiveError::io(self.full(name))(error)),
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
        match directory.link(target, base) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let removed = directory.remove(base);
                removed.and_then(|()| directory.link(target, base))
            }
            other => other,
        }
        .map_err(ArchiveError::io(full))
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

    /// A directory below the root, made where it is missing.
    fn directory(&mut self, name: &[u8]) -> Result<&Directory, ArchiveError> {
        if name.is_empty() {
            return Ok(&self.root);
        }
        if self.recent.as_ref().is_none_or(|(known, _)| known != name) {
            let opened = self.open_or_make(name)?;
            self.recent = Some((name.to_vec(), opened));
        }
        let recent = self.recent.as_ref();
        Ok(recent.map_or(&self.root, |(_, directory)| directory))
    }

    fn open_or_make(&self, name: &[u8]) -> Result<Directory, ArchiveError> {
        match self.root.beneath(name) {
            Ok(directory) => return Ok(directory),
            Err(NotOpened::Missing) => {}
            Err(error) => return Err(self.unreachable(name, error)),
        }
        let mut above: Option<Directory> = None;
        let ends = (0..name.len())
            .filter(|at| name[*at] == b'/')
            .chain([name.len()]);
        for end in ends {
            let prefix = &name[..end];
            let opened = match self.root.beneath(prefix) {
                Err(NotOpened::Missing) => {
                    let base = prefix.rsplit(|byte| *byte == b'/').next().unwrap_or(prefix);
                    let parent = above.as_ref().unwrap_or(&self.root);
                    parent
                        .make_directory(base)
                        .map_err(ArchiveError::io(self.full(prefix)))?;
                    self.root.beneath(prefix)
                }
                other => other,
            };
            above = Some(opened.map_err(|error| self.unreachable(prefix, error))?);
        }
        above.ok_or_else(|| self.outside(name))
    }

    /// A link that leads outside is an escape; anything else is what the system says.
    fn unreachable(&self, name: &[u8], error: NotOpened) -> ArchiveError {
        match error {
            NotOpened::Elsewhere => self.outside(name),
            NotOpened::Missing => ArchiveError::io(self.full(name))(io::ErrorKind::NotFound.into()),
            NotOpened::Other(error) => ArchiveError::io(self.full(name))(error),
        }
    }

    fn full(&self, name: &[u8]) -> PathBuf {
        self.path.join(platform::from_name(name))
    }
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
}
