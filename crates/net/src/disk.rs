//! One look at the disk: what tells one version of a file from the next, and each path asked for once.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use courser_trust::{Reading, Store};

use crate::SystemRoots;
use crate::watch::Settled;

/// A bundle of all roots of the world has a quarter of this.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;

/// What tells one version of a file from the next. The time of change cannot be set, unlike that of
/// modification: a copy that keeps an old date (`cp -p`) is seen as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    identity: Identity,
}

/// Device, inode, and time of change in seconds and nanoseconds.
type Identity = (u64, u64, i64, i64);

/// The state of the disk at one moment. Paths are asked for once, however many clients name them: a
/// hundred runners of one host cost no more than one.
pub(crate) struct Disk {
    at: Instant,
    thorough: bool,
    stamps: HashMap<PathBuf, Option<Stamp>>,
    listings: HashMap<PathBuf, Arc<[String]>>,
    system: HashMap<SystemRoots, Arc<Store>>,
    settled: Settled,
}

impl Disk {
    /// The look before a connection is used: quick.
    pub(crate) fn before_use() -> Self {
        Self::look(false)
    }

    /// The look in between, which takes in every file of the system's store.
    pub(crate) fn in_between() -> Self {
        Self::look(true)
    }

    fn look(thorough: bool) -> Self {
        Self {
            at: Instant::now(),
            thorough,
            stamps: HashMap::new(),
            listings: HashMap::new(),
            system: HashMap::new(),
            settled: Settled::Yes,
        }
    }

    /// When it was looked.
    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    /// Whether the platform's roots have all been judged.
    pub(crate) fn settled(&self) -> Settled {
        self.settled
    }

    /// Notes that something of the platform's roots is still to be judged.
    pub(crate) fn note(&mut self, settled: Settled) {
        self.settled = self.settled.and(settled);
    }

    /// Whether every file of a directory is looked at, not the directory alone.
    pub(crate) fn is_thorough(&self) -> bool {
        self.thorough
    }

    /// The stamp of the file at a path, behind links; `None` if there is none to be had.
    pub(crate) fn stamp(&mut self, path: &Path) -> Option<Stamp> {
        if let Some(known) = self.stamps.get(path) {
            return *known;
        }
        let stamp = Stamp::of(path);
        self.stamps.insert(path.to_owned(), stamp);
        stamp
    }

    /// Names in a directory; none if it cannot be read.
    pub(crate) fn names(&mut self, directory: &Path) -> Arc<[String]> {
        if let Some(known) = self.listings.get(directory) {
            return Arc::clone(known);
        }
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let names: Arc<[String]> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        self.listings
            .insert(directory.to_owned(), Arc::clone(&names));
        names
    }

    /// The platform's roots now.
    pub(crate) fn system(&mut self, roots: &SystemRoots) -> Arc<Store> {
        if let Some(known) = self.system.get(roots) {
            return Arc::clone(known);
        }
        let store = roots.load_from(self);
        self.system.insert(roots.clone(), Arc::clone(&store));
        store
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            modified: metadata.modified().ok(),
            length: metadata.len(),
            identity: identity(&metadata),
        })
    }
}

#[cfg(unix)]
fn identity(metadata: &std::fs::Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt as _;
    (
        metadata.dev(),
        metadata.ino(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    )
}

#[cfg(not(unix))]
fn identity(_: &std::fs::Metadata) -> Identity {
    (0, 0, 0, 0)
}

/// What there is at a path: a regular file of bounded size, or why not.
pub fn read(path: &Path) -> Reading {
    let read = || {
        // Before it is opened: to open a pipe is to wait for its writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let file = std::fs::File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let mut bytes = Vec::new();
        let length = file.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
        if length as u64 > LARGEST_FILE {
            return Err(io::Error::other(format!(
                "larger than {LARGEST_FILE} bytes"
            )));
        }
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Reading::Bytes(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Reading::Absent,
        Err(error) => Reading::Unreadable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn readings_tell_missing_from_unreadable() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.crt");
        assert!(matches!(read(&path), Reading::Absent));
        assert!(matches!(read(directory.path()), Reading::Unreadable(_)));
        std::fs::write(&path, "text").unwrap();
        assert!(matches!(read(&path), Reading::Bytes(text) if text == b"text"));
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("ca.crt");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        assert_eq!(
            read(&pipe),
            Reading::Unreadable("not a regular file".to_owned())
        );
    }

    #[cfg(unix)]
    #[test]
    fn every_way_to_change_a_file_changes_its_stamp() {
        use std::os::unix::fs::symlink;
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        let path = place("ca.crt");
        std::fs::create_dir(place("v1")).unwrap();
        std::fs::create_dir(place("v2")).unwrap();
        for version in ["v1", "v2"] {
            std::fs::write(place(version).join("ca.crt"), "text").unwrap();
        }
        symlink("v1", place("..data")).unwrap();
        symlink("..data/ca.crt", &path).unwrap();

        let mut last = Stamp::of(&path);
        let mut changed = |how: &str| {
            let now = Stamp::of(&path);
            assert_ne!(now, last, "{how}");
            last = now;
        };
        symlink("v2", place("..tmp")).unwrap();
        std::fs::rename(place("..tmp"), place("..data")).unwrap();
        changed("a ConfigMap's double link that turns");

        std::fs::write(place("new"), "text").unwrap();
        std::fs::rename(place("new"), &path).unwrap();
        changed("another file under its name");

        // The clock of the file system ticks every few milliseconds.
        let before = Stamp::of(&path);
        let date = std::fs::metadata(&path).unwrap().modified().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while Stamp::of(&path) == before && Instant::now() < deadline {
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            io::Write::write_all(&mut &file, b"TEXT").unwrap();
            file.set_modified(date).unwrap();
        }
        changed("other text of the same length with the old date");

        std::fs::remove_file(&path).unwrap();
        changed("nothing");
    }
}
