//! Where a measured program runs: an empty home, a cleared environment, directories of its own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// Gone when dropped.
pub(crate) struct World {
    directory: TempDir,
}

impl World {
    pub(crate) fn new() -> Result<Self> {
        Self::within(&std::env::temp_dir())
    }

    /// On a file system without a disk; temporary files of programs lie there too.
    pub(crate) fn in_memory() -> Result<Self> {
        Self::within(Path::new("/dev/shm"))
    }

    fn within(parent: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("courser-bench-")
            .tempdir_in(parent)
            .context("a temporary directory")?;
        for name in ["home", "work"] {
            let path = directory.path().join(name);
            std::fs::create_dir(&path).with_context(|| path.display().to_string())?;
        }
        Ok(Self { directory })
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    pub(crate) fn write(&self, relative: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path(relative);
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        }
        std::fs::write(&path, content).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// A program in this world, in its directory `work`. `node` may lie anywhere: PATH is kept.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        #[expect(clippy::disallowed_methods, reason = "there is no `cli` here")]
        let path =
            std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.path("home"))
            .env("LC_ALL", "C.UTF-8")
            .current_dir(self.path("work"))
            .stdin(Stdio::null());
        command
    }

    /// Makes `work` a repository with one commit of what lies in it.
    pub(crate) fn commit(&self) -> Result<()> {
        let identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"];
        for arguments in [
            &["init", "--quiet", "--initial-branch=main"][..],
            &["add", "--all"],
            &["commit", "--quiet", "--message=first"],
        ] {
            let mut git = self.command("git");
            let status = git.args(identity).args(arguments).status();
            if !status.context("git")?.success() {
                bail!(
                    "git {arguments:?} failed in {}",
                    self.path("work").display()
                );
            }
        }
        Ok(())
    }
}

/// The root of the workspace.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or_else(|| Path::new("."))
}
