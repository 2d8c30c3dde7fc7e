//! A temporary home, removed at the end of the test.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A directory of the test's own.
pub struct World {
    home: TempDir,
}

impl World {
    /// An empty one.
    #[expect(
        clippy::new_without_default,
        reason = "making a directory is no default"
    )]
    pub fn new() -> Self {
        Self {
            home: TempDir::new().expect("a temporary directory can be made"),
        }
    }

    /// Its path.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A path below it.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.home.path().join(relative)
    }

    /// Writes a file, directories included, as editors and package managers do: a new file takes the
    /// place of the old one in one step.
    pub fn write(&self, relative: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(relative);
        let directory = path.parent().expect("a file lies in a directory");
        std::fs::create_dir_all(directory).expect("directories can be made");
        let fresh = tempfile::NamedTempFile::new_in(directory).expect("a file can be made");
        std::fs::write(fresh.path(), content).expect("a file can be written");
        fresh.persist(&path).expect("a file can be replaced");
        path
    }
}
