//! Files and directories on Unix: every directory on the way is opened relative to a handle of the root.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode, Timespec, Timestamps};
use rustix::io::Errno;

use crate::destination::{Attributes, NotOpened};

/// A name as archives have it.
pub(crate) fn to_name(path: &OsStr) -> Cow<'_, [u8]> {
    Cow::Borrowed(path.as_bytes())
}

/// A path of a name in an archive.
pub(crate) fn from_name(name: &[u8]) -> Cow<'_, Path> {
    Cow::Borrowed(Path::new(OsStr::from_bytes(name)))
}

/// What separates the components of a name in an archive.
pub(crate) fn is_separator(byte: u8) -> bool {
    byte == b'/'
}

/// Why a component, which holds no separator, cannot be a name here.
pub(crate) fn unusable(_component: &[u8]) -> Option<&'static str> {
    None
}

/// Mode bits, then user and group.
pub(crate) fn mode_and_owner(metadata: &Metadata) -> (u32, (u32, u32)) {
    (metadata.mode() & 0o7777, (metadata.uid(), metadata.gid()))
}

/// Seconds since 1970.
pub(crate) fn modified(metadata: &Metadata) -> i64 {
    metadata.mtime()
}

/// Opens a file for reading. A link is not followed (`None`), a pipe not waited for.
pub(crate) fn open_no_follow(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => Ok(Some(File::from(file))),
        Err(Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads from a place, whatever other threads read.
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(buffer, offset)
}

/// Sets mode, times and owner of a file.
pub(crate) fn set_file(file: &File, attributes: Attributes) -> io::Result<()> {
    Ok(set(file.as_fd(), attributes)?)
}

/// An open directory.
pub(crate) struct Directory(OwnedFd);

impl Directory {
    /// Opens a directory wherever it lies.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(rustix::fs::open(path, DIRECTORY, Mode::empty())?))
    }

    /// Opens a directory below. Links on the way are followed only while they stay inside, or not at all.
    pub(crate) fn beneath(&self, name: &[u8]) -> Result<Self, NotOpened> {
        match open_beneath(self.0.as_fd(), name) {
            Ok(directory) => Ok(Self(directory)),
            Err(Errno::NOENT) => Err(NotOpened::Missing),
            Err(Errno::XDEV | Errno::LOOP) => Err(NotOpened::Elsewhere),
            Err(error) => Err(NotOpened::Other(error.into())),
        }
    }

    /// Makes a directory in it; one that is there is kept.
    pub(crate) fn make_directory(&self, base: &[u8]) -> io::Result<()> {
        match rustix::fs::mkdirat(&self.0, base, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a file in it that was not there.
    pub(crate) fn create_new(&self, base: &[u8]) -> io::Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o666);
        Ok(File::from(rustix::fs::openat(&self.0, base, flags, mode)?))
    }

    /// Makes a symbolic link in it that was not there.
    pub(crate) fn link(&self, target: &[u8], base: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, &self.0, base)?)
    }

    /// Removes a file, a link or an empty directory.
    pub(crate) fn remove(&self, base: &[u8]) -> io::Result<()> {
        let removed = match rustix::fs::unlinkat(&self.0, base, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => {
                rustix::fs::unlinkat(&self.0, base, AtFlags::REMOVEDIR)
            }
            other => other,
        };
        Ok(removed?)
    }

    /// Sets its mode, times and owner.
    pub(crate) fn set(&self, attributes: Attributes) -> io::Result<()> {
        Ok(set(self.0.as_fd(), attributes)?)
    }
}

/// Owner first: changing it would clear mode bits.
fn set(file: BorrowedFd<'_>, attributes: Attributes) -> Result<(), Errno> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stepwise_opening_follows_no_link() {
        let world = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir_all(world.path().join("a/b")).expect("directories");
        std::os::unix::fs::symlink("a", world.path().join("link")).expect("link");
        let root = Directory::open(world.path()).expect("opens").0;
        assert!(open_stepwise(root.as_fd(), b"a/b").is_ok());
        assert_eq!(
            open_stepwise(root.as_fd(), b"link/b").err(),
            Some(Errno::LOOP)
        );
    }
}
