//! Facts of the repository that a command runs in: its files, and the event a pipeline is for.
//!
//! Facts come from `git`; without a repository (or with `--no-git`) the directory stands for itself.

mod changes;
mod commit;
mod event;
mod files;
mod refs;
mod remote;
mod submodules;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use courser_executor::REPOSITORY_VARIABLES;

pub(crate) use commit::{Commit, GitFacts};
pub(crate) use event::Occasion;
pub(crate) use files::{CommittedFiles, read_bounded};
pub(crate) use refs::{RefKind, Reference};
pub(crate) use submodules::{SubmoduleError, Submodules};

/// What can go wrong with a repository.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RepositoryError {
    #[error("cannot run git in {}: {source}", directory.display())]
    Start {
        directory: PathBuf,
        source: std::io::Error,
    },
    #[error("git {command} failed in {}: {message}", directory.display())]
    Git {
        command: String,
        directory: PathBuf,
        message: String,
    },
}

/// A working tree, or a commit of its repository.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    /// Root of the working tree or a directory inside; the directory itself without Git.
    pub(crate) root: PathBuf,
    /// What Git knows, `None` without Git.
    pub(crate) git: Option<GitFacts>,
    tree: Tree,
}

/// Which files count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tree {
    /// Those of the working tree, uncommitted and untracked ones included.
    Working,
    /// Those of [`GitFacts::commit`].
    Committed,
}

impl Repository {
    /// The repository that `directory` is in; the directory alone when there is none.
    pub(crate) fn discover(directory: &Path) -> Result<Self, RepositoryError> {
        if !directory
            .ancestors()
            .any(|above| above.join(".git").exists())
        {
            return Ok(Self::without_git(directory));
        }
        let root = git(directory, ["rev-parse", "--show-toplevel"])?;
        let root = PathBuf::from(root.trim_end_matches('\n'));
        let facts = GitFacts::read(&root)?;
        Ok(Self {
            root,
            git: Some(facts),
            tree: Tree::Working,
        })
    }

    /// As [`Self::discover`], but with `directory` as the root: files outside of it do not count.
    pub(crate) fn of_directory(directory: &Path) -> Result<Self, RepositoryError> {
        Ok(Self {
            root: directory.to_owned(),
            ..Self::discover(directory)?
        })
    }

    /// The directory alone.
    pub(crate) fn without_git(directory: &Path) -> Self {
        Self {
            root: directory.to_owned(),
            git: None,
            tree: Tree::Working,
        }
    }

    /// A commit of the same repository instead of the working tree; `None` when the revision names none.
    pub(crate) fn at(mut self, revision: &str) -> Result<Option<Self>, RepositoryError> {
        let Some(git) = &mut self.git else {
            return Ok(None);
        };
        git.commit = Commit::read(&self.root, revision)?;
        self.tree = Tree::Committed;
        Ok(git.commit.is_some().then_some(self))
    }

    /// Whether the files are those of a commit.
    pub(crate) fn is_committed(&self) -> bool {
        self.committed().is_some()
    }

    /// The commit whose files count, `None` for the working tree.
    fn committed(&self) -> Option<&Commit> {
        let facts = self.git.as_ref().filter(|_| self.tree == Tree::Committed);
        facts.and_then(|git| git.commit.as_ref())
    }
}

fn short_sha(sha: &str) -> String {
    sha.chars().take(8).collect()
}

fn paths(listing: &str) -> impl Iterator<Item = String> {
    listing
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(str::to_owned)
}

/// Runs `git` with the settings off that could make it start other programs.
pub(crate) fn git<I, S>(directory: &Path, arguments: I) -> Result<String, RepositoryError>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = command(directory);
    let fixed = command.get_args().count();
    let output = command
        .args(arguments)
        .output()
        .map_err(|source| RepositoryError::Start {
            directory: directory.to_owned(),
            source,
        })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(RepositoryError::Git {
        command: command
            .get_args()
            .nth(fixed)
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        directory: directory.to_owned(),
        message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// `git` in a directory, so that neither the user's settings nor the environment make it do something else.
fn command(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .args([
            "-c",
            "core.fsmonitor=false",
            "-c",
            "core.hooksPath=/dev/null",
        ])
        .arg("--no-pager");
    for name in REPOSITORY_VARIABLES {
        command.env_remove(name);
    }
    command
        .current_dir(directory)
        .env("LC_ALL", "C")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .stdin(Stdio::null());
    command
}

#[cfg(test)]
mod tests;
