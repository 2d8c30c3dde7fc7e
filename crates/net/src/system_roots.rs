//! The platform's own roots, on Linux exactly where Go looks for them (`dependencies.md` 3.3). macOS and Windows have
//! a store that is no file (`native`); there the two variables replace it.

#[cfg(any(target_os = "macos", windows))]
mod native;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use courser_trust::{Reading, Source, Store};

use crate::disk::{Disk, Stamp, read};
use crate::followed::Anchors;
use crate::inventory;
use crate::watch::Settled;

/// Bundle files, in Go's order; the first that can be read counts.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Directories, every file of which counts beside the bundle.
const DIRECTORIES: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];

/// Whether this platform has a store that is no file.
const NATIVE: bool = cfg!(any(target_os = "macos", windows));
/// How often such a store is read again: it has no date, and reading it is work.
const NATIVE_EVERY: Duration = Duration::from_secs(60);

/// Where the platform's own roots come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SystemRoots {
    /// As Go finds them; each override replaces its own half (`SSL_CERT_FILE`, `SSL_CERT_DIR`).
    Platform {
        /// Value of `SSL_CERT_FILE`.
        file: Option<PathBuf>,
        /// Value of `SSL_CERT_DIR`, split at `:`.
        directories: Option<Vec<PathBuf>>,
    },
    /// None at all: for peers that we gave a certificate ourselves.
    None,
}

/// What was read for a setting.
#[derive(Default)]
struct Loaded {
    anchors: Anchors,
    /// Bundles and directories.
    places: Vec<Option<Stamp>>,
    /// The files that were read, by the directories' listing.
    files: Vec<(PathBuf, Option<Stamp>)>,
    /// When the platform's store that is no file was read.
    native_at: Option<Instant>,
}

/// What lies in the places of a setting.
struct Found {
    readings: Vec<(Source, Reading)>,
    /// Why a bundle could not be read.
    failure: Option<String>,
}

/// Hundreds of runners share one parsed store per setting.
static LOADED: LazyLock<Mutex<HashMap<SystemRoots, Loaded>>> = LazyLock::new(Mutex::default);

impl SystemRoots {
    /// Reads the roots now, on the calling thread, before the first connection needs them. A process that
    /// stays should: what reading leaves in the allocator then serves the rest of its start.
    pub fn read_ahead(&self) {
        self.load();
    }

    /// The roots, parsed once per process and again when a bundle or a directory has changed.
    pub fn load(&self) -> Arc<Store> {
        Disk::before_use().system(self)
    }

    /// The roots as of this look at the disk. Before a connection is used, files inside a directory are told by
    /// the directory's own time, which is enough for the tools that manage such stores; a look in between
    /// takes in each file.
    pub(crate) fn load_from(&self, disk: &mut Disk) -> Arc<Store> {
        let mut all = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = all.entry(self.clone()).or_default();
        let places = self.bundles().into_iter().chain(self.directories());
        let places: Vec<_> = places.map(|path| disk.stamp(&path)).collect();
        let contents = loaded.anchors.contents();
        // Not for each call of a process that has just begun: hundreds of files.
        let must_be_read =
            contents.is_waiting() || (disk.is_thorough() && contents.must_be_read_again(disk.at()));
        let mut is_current = places == loaded.places && !must_be_read;
        if is_current && disk.is_thorough() {
            let mut files = loaded.files.iter();
            is_current = files.all(|(path, stamp)| disk.stamp(path) == *stamp);
        }
        if self.is_native(NATIVE) {
            is_current &= loaded
                .native_at
                .is_some_and(|at| disk.at().saturating_duration_since(at) < NATIVE_EVERY);
        }
        if !is_current {
            loaded.native_at = Some(disk.at());
            loaded.places = places;
            let found = self.read(disk, &mut loaded.files);
            loaded.take(found, disk.at());
        }
        disk.note(Settled::of(loaded.anchors.contents()));
        Arc::clone(loaded.anchors.store())
    }

    /// Whether the platform is asked for its store, where it has one that is no file.
    fn is_native(&self, has_one: bool) -> bool {
        let named = |path: &PathBuf| !path.as_os_str().is_empty();
        match self {
            Self::None => false,
            Self::Platform { file, directories } => {
                has_one
                    && !file.as_ref().is_some_and(named)
                    && !directories.iter().flatten().any(named)
            }
        }
    }

    fn bundles(&self) -> Vec<PathBuf> {
        match self {
            Self::None => Vec::new(),
            Self::Platform { file, .. } => match file {
                Some(file) if !file.as_os_str().is_empty() => vec![file.clone()],
                _ if NATIVE => Vec::new(),
                _ => BUNDLES.map(PathBuf::from).into(),
            },
        }
    }

    fn directories(&self) -> Vec<PathBuf> {
        match self {
            Self::None => Vec::new(),
            Self::Platform { directories, .. } => match directories {
                Some(named) if named.iter().any(|path| !path.as_os_str().is_empty()) => {
                    named.clone()
                }
                _ if NATIVE => Vec::new(),
                _ => DIRECTORIES.map(PathBuf::from).into(),
            },
        }
    }

    /// Reads bundle and directories; `files` becomes the list of what was read.
    fn read(&self, disk: &mut Disk, files: &mut Vec<(PathBuf, Option<Stamp>)>) -> Found {
        files.clear();
        let mut readings = Vec::new();
        let mut failure = None;
        #[cfg(any(target_os = "macos", windows))]
        if self.is_native(NATIVE) {
            readings.push((Source::System(native::NAME.into()), native::read()));
        }
        for path in self.bundles() {
            let stamp = disk.stamp(&path);
            match read(&path) {
                reading @ Reading::Bytes(_) => {
                    files.push((path.clone(), stamp));
                    readings.push((Source::System(path), reading));
                    break;
                }
                Reading::Unreadable(error) => {
                    failure.get_or_insert_with(|| format!("{}: {error}", path.display()));
                }
                Reading::Absent => {}
            }
        }
        let bundle = files.first().map(|(path, _)| path.clone());
        for directory in self.directories() {
            // Debian's bundle lies in the directory whose files it is made of.
            let others = unique_files(&directory).into_iter();
            for path in others.filter(|path| Some(path) != bundle.as_ref()) {
                // Go passes over single files that it cannot read, and so do we.
                let stamp = disk.stamp(&path);
                if let Reading::Bytes(bytes) = read(&path)
                    && mentions_certificates(&bytes)
                {
                    files.push((path.clone(), stamp));
                    readings.push((Source::System(path), Reading::Bytes(bytes)));
                }
            }
        }
        Found { readings, failure }
    }
}

impl Loaded {
    fn take(&mut self, found: Found, now: Instant) {
        let before = Arc::clone(self.anchors.store());
        let nothing = found.readings.is_empty();
        let Some(change) = self.anchors.take(found.readings, now) else {
            return;
        };
        if let (true, Some(failure)) = (nothing, found.failure) {
            tracing::warn!("Failed to load system CertPool: {failure}");
        }
        for kept in &change.kept {
            tracing::warn!("{kept}");
            if let Source::System(path) = &kept.source {
                inventory::file_refused(path, self.anchors.contents().fingerprint());
            }
        }
        if !change.waiting {
            for (path, _) in &self.files {
                if !change
                    .kept
                    .iter()
                    .any(|kept| kept.source.name() == path.display().to_string())
                    && inventory::file_settled(path)
                {
                    tracing::info!("{} is good again", path.display());
                }
            }
        }
        let store = self.anchors.store();
        if !Arc::ptr_eq(&before, store) {
            tracing::debug!(
                certificates = store.certificates().len(),
                "loaded the system store"
            );
        }
    }
}

/// A README or a key beside the roots is no part of the store.
fn mentions_certificates(bytes: &[u8]) -> bool {
    const LABEL: &[u8] = b"CERTIFICATE-----";
    bytes.windows(LABEL.len()).any(|window| window == LABEL)
}

/// Entries of a directory in order, without links to a neighbour (OpenSSL's hash names).
fn unique_files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let link = std::fs::read_link(path).ok();
            link.is_none_or(|target| target.components().count() > 1)
        })
        .collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use courser_testkit::pki::Authority;

    use super::*;

    fn names(roots: &SystemRoots) -> usize {
        roots.load().certificates().len()
    }

    #[test]
    fn file_and_directory_are_overridden_each_for_itself() {
        let home = tempfile::tempdir().unwrap();
        let (file, directory) = (home.path().join("bundle.pem"), home.path().join("certs"));
        std::fs::create_dir(&directory).unwrap();
        let root = |name: &str| Authority::root(name).issue().certificate_pem();
        std::fs::write(&file, root("one") + &root("two")).unwrap();
        std::fs::write(directory.join("three.pem"), root("three")).unwrap();
        std::fs::write(directory.join("README"), "no certificate").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("three.pem", directory.join("abcd.0")).unwrap();
        let only = |file: &Path, directory: &Path| SystemRoots::Platform {
            file: Some(file.to_owned()),
            directories: Some(vec![directory.to_owned()]),
        };
        let nowhere = home.path().join("nowhere");
        assert_eq!(names(&only(&file, &directory)), 3);
        assert_eq!(names(&only(&file, &nowhere)), 2);
        assert_eq!(names(&only(&nowhere, &directory)), 1);
        let inside = directory.join("bundle.pem");
        std::fs::rename(&file, &inside).unwrap();
        let sources = only(&inside, &directory).load().consulted().len();
        // The bundle once, and `three.pem`; the README holds none.
        assert_eq!((names(&only(&inside, &directory)), sources), (3, 2));
        assert_eq!(names(&SystemRoots::None), 0);
    }

    #[test]
    fn a_parsed_store_is_shared_until_its_files_change() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("bundle.pem");
        let roots = SystemRoots::Platform {
            file: Some(file.clone()),
            directories: Some(vec![home.path().join("nowhere")]),
        };
        std::fs::write(&file, Authority::root("one").issue().certificate_pem()).unwrap();
        let first = roots.load();
        assert!(Arc::ptr_eq(&first, &roots.load()));
        let two = Authority::root("two").issue().certificate_pem()
            + &Authority::root("three").issue().certificate_pem();
        std::fs::write(&file, two).unwrap();
        assert_eq!(roots.load().certificates().len(), 2);
    }

    #[test]
    fn t4_a_platform_with_a_store_of_its_own_is_asked_for_it_unless_a_variable_replaces_it() {
        let roots = |file: Option<&str>, directory: Option<&str>| SystemRoots::Platform {
            file: file.map(PathBuf::from),
            directories: directory.map(|path| vec![path.into()]),
        };
        assert!(roots(None, None).is_native(true));
        assert!(roots(Some(""), Some("")).is_native(true));
        assert!(!roots(Some("/bundle.pem"), None).is_native(true));
        assert!(!roots(None, Some("/certs")).is_native(true));
        assert!(!roots(None, None).is_native(false));
        assert!(!SystemRoots::None.is_native(true));
    }

    #[test]
    fn empty_overrides_are_none() {
        let roots = SystemRoots::Platform {
            file: Some(PathBuf::new()),
            directories: Some(vec![PathBuf::new()]),
        };
        assert_eq!(roots.bundles().len(), 6);
        assert_eq!(roots.directories().len(), 2);
    }
}
