//! Emptying a directory on Unix. The runner may be root, and the directory and those above it another user's, who
//! may exchange them for links meanwhile: each is opened relative to the one before.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, fstat, openat, readlinkat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

/// How deep directories are removed: each takes an open file.
const DEPTH: usize = 128;

/// Links on the way to a directory, as Linux has it.
const MOST_LINKS: usize = 40;

const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// On the way a directory need not be readable.
#[cfg(target_os = "linux")]
const ON_THE_WAY: OFlags = DIRECTORY.union(OFlags::PATH);
#[cfg(not(target_os = "linux"))]
const ON_THE_WAY: OFlags = DIRECTORY;

/// Removes what is in a directory; tells `done` of each file or directory in it, and how that went.
pub(super) fn empty(
    directory: &Path,
    mut done: impl FnMut(PathBuf, io::Result<()>),
) -> io::Result<()> {
    let opened = open(directory)?;
    for name in names(&opened)? {
        let path = directory.join(OsStr::from_bytes(name.as_bytes()));
        done(path, remove(opened.as_fd(), &name, DEPTH));
    }
    Ok(())
}

/// Removes a file or a directory with everything in it; the first error, after all that can be removed.
fn remove(parent: BorrowedFd<'_>, name: &CString, depth: usize) -> io::Result<()> {
    let directory = match openat(parent, name, DIRECTORY, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOTDIR | Errno::LOOP | Errno::MLINK) => {
            return Ok(unlinkat(parent, name, AtFlags::empty())?);
        }
        Err(error) => return Err(error.into()),
    };
    if depth == 0 {
        return Err(io::Error::other("directories are nested too deep"));
    }
    let mut result = Ok(());
    for name in names(&directory)? {
        let removed = remove(directory.as_fd(), &name, depth - 1);
        result = result.and(removed);
    }
    result?;
    Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

fn names(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// Opens a directory. A link on the way is followed only where nobody but root and this user can have put it; the
/// directory itself is none.
fn open(path: &Path) -> io::Result<OwnedFd> {
    let start = |path: &Path| {
        let name = if path.is_absolute() { "/" } else { "." };
        rustix::fs::open(name, ON_THE_WAY, Mode::empty())
    };
    let mut at = start(path)?;
    let mut links = 0;
    // The next one is the last.
    let mut to_go = names_on_the_way(path);
    while let Some(name) = to_go.pop() {
        match openat(&at, &name, ON_THE_WAY, Mode::empty()) {
            Ok(next) => at = next,
            Err(error @ (Errno::NOTDIR | Errno::LOOP | Errno::MLINK)) => {
                let target = readlinkat(&at, &name, Vec::new()).map_err(|_| error)?;
                links += 1;
                if to_go.is_empty() || links > MOST_LINKS || !is_ours_alone(&at)? {
                    let name = name.display();
                    return Err(io::Error::other(format!("the link {name} is not followed")));
                }
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                if target.is_absolute() {
                    at = start(&target)?;
                }
                to_go.extend(names_on_the_way(&target));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(openat(&at, ".", DIRECTORY, Mode::empty())?)
}

/// The names of a path, the first one last.
fn names_on_the_way(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|part| match part {
        Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
        _ => None,
    });
    names.collect()
}

/// Whether only root and this user can put anything into a directory.
fn is_ours_alone(directory: &OwnedFd) -> io::Result<bool> {
    let by_others = Mode::WGRP | Mode::WOTH;
    let stat = fstat(directory)?;
    let owner_is_trusted = stat.st_uid == 0 || stat.st_uid == geteuid().as_raw();
    Ok(owner_is_trusted && !Mode::from_raw_mode(stat.st_mode).intersects(by_others))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// What could not be removed.
    fn emptied(directory: &Path) -> io::Result<Vec<PathBuf>> {
        let mut left = Vec::new();
        empty(directory, |path, result| {
            if result.is_err() {
                left.push(path);
            }
        })?;
        Ok(left)
    }

    #[test]
    fn a_link_is_followed_only_where_nobody_else_can_have_put_it() {
        let world = tempfile::tempdir().expect("a directory");
        let (precious, shared) = (world.path().join("precious"), world.path().join("shared"));
        fs::create_dir_all(precious.join("p.tmp/deep")).expect("writable");
        fs::create_dir(&shared).expect("writable");
        symlink("../precious", shared.join("link")).expect("writable");
        symlink(precious.join("p.tmp"), world.path().join("p.tmp")).expect("writable");

        emptied(&world.path().join("p.tmp")).expect_err("a link is no private directory");
        let by_others = fs::Permissions::from_mode(0o777);
        fs::set_permissions(&shared, by_others).expect("ours");
        emptied(&shared.join("link/p.tmp")).expect_err("somebody else's link, perhaps");
        assert!(precious.join("p.tmp/deep").exists());

        fs::set_permissions(&shared, fs::Permissions::from_mode(0o755)).expect("ours");
        let left = emptied(&shared.join("link/p.tmp")).expect("ours");
        assert!(left.is_empty(), "{left:?}");
        assert!(!precious.join("p.tmp/deep").exists());
        let missing = emptied(&world.path().join("missing/p.tmp")).expect_err("nothing there");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    /// The job's user exchanges directory and link while they are being emptied.
    #[test]
    fn a_directory_that_becomes_a_link_meanwhile_is_not_left() {
        let world = tempfile::tempdir().expect("a directory");
        let at = |name: &str| world.path().join(name);
        fs::create_dir_all(at("precious/deep")).expect("writable");
        fs::write(at("precious/deep/file"), "").expect("writable");
        fs::create_dir(at("p.tmp")).expect("writable");
        symlink("precious", at("link")).expect("writable");
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for (from, to) in [
                        ("p.tmp", "aside"),
                        ("link", "p.tmp"),
                        ("p.tmp", "link"),
                        ("aside", "p.tmp"),
                    ] {
                        fs::rename(at(from), at(to)).expect("nobody else does");
                    }
                }
            });
            for _ in 0..20_000 {
                emptied(&at("p.tmp")).ok();
            }
            done.store(true, Ordering::Relaxed);
        });
        assert!(at("precious/deep/file").exists());
    }

    #[test]
    fn directories_without_end_are_given_up() {
        let world = tempfile::tempdir().expect("a directory");
        let private = world.path().join("p.tmp");
        let deep: PathBuf = std::iter::repeat_n("d", DEPTH + 2).collect();
        fs::create_dir_all(private.join(deep)).expect("writable");
        fs::write(private.join("d/file"), "").expect("writable");
        assert_eq!(emptied(&private).expect("opens"), [private.join("d")]);
        assert!(!private.join("d/file").exists());
    }
}
