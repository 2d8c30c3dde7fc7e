//! The working tree as it is, as a commit that jobs can fetch.
//!
//! Uncommitted changes and untracked files that are not ignored belong to it. It is made in a bare
//! repository of its own: own index, own objects, the user's objects as alternates. The user's
//! repository, index and refs are only read.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use courser_coordinator::{Origin, ServedRepository};
use courser_executor::REPOSITORY_VARIABLES;
use jiff::Timestamp;
use tokio::process::Command;

use crate::repository::{SubmoduleError, Submodules};

/// A commit in a repository that jobs fetch from.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Where it lies.
    pub(crate) repository: ServedRepository,
    /// The commit: HEAD itself when the working tree is what HEAD says.
    pub(crate) commit: String,
    /// Submodules of the commit, at every depth, that are checked out here.
    pub(crate) submodules: Submodules,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// The program is missing or cannot be started.
    #[error("cannot run git: {0}")]
    Run(#[from] io::Error),
    /// It failed.
    #[error("git {command} failed in {directory}: {message}")]
    Git {
        command: String,
        directory: PathBuf,
        message: String,
    },
    /// What its submodules are cannot be told.
    #[error(transparent)]
    Submodules(#[from] SubmoduleError),
    /// The bare repository cannot be written.
    #[error(transparent)]
    Write(#[from] courser_coordinator::StoreError),
}

impl SnapshotError {
    /// Whether the program is not there at all.
    pub(crate) fn is_missing_git(&self) -> bool {
        matches!(self, Self::Run(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// Where the user's repository keeps things.
#[derive(Debug)]
struct Sources {
    top: PathBuf,
    objects: PathBuf,
    /// The directory of the repository itself, which work trees share.
    common: PathBuf,
    index: PathBuf,
    shallow: PathBuf,
    object_format: String,
    /// Commit and tree of HEAD; none before the first commit.
    head: Option<(String, String)>,
}

/// Snapshot of `directory`. Inside a repository, but not at its top, the directory becomes the root of
/// a commit without history; `with_git` off, or no repository: the same, `.gitignore` files still count.
pub(crate) async fn take(
    directory: &Path,
    git_dir: &Path,
    with_git: bool,
    now: Timestamp,
) -> Result<Snapshot, SnapshotError> {
    let sources = if with_git {
        sources(directory).await?
    } else {
        None
    };
    match sources {
        Some(sources) => of_repository(directory, git_dir, &sources, now).await,
        None => of_directory(directory, git_dir, now).await,
    }
}

/// A commit of the repository that `directory` is in, as it was committed. Below the top, that directory
/// becomes the root of a commit without history.
pub(crate) async fn of_commit(
    directory: &Path,
    git_dir: &Path,
    sha: &str,
    now: Timestamp,
) -> Result<Snapshot, SnapshotError> {
    let Some(sources) = sources(directory).await? else {
        return Err(SnapshotError::Git {
            command: "rev-parse".to_owned(),
            directory: directory.to_owned(),
            message: "not a working tree".to_owned(),
        });
    };
    let repository = sources.serve(git_dir)?;
    let prefix = sources.prefix(directory);
    if prefix.as_os_str().is_empty() {
        let submodules = Submodules::find(&sources.common, git_dir, sha, None).await?;
        return Ok(Snapshot {
            repository,
            commit: sha.to_owned(),
            submodules,
        });
    }
    let mut tree = git(directory);
    tree.args(["rev-parse", "--verify", "--end-of-options"]);
    tree.arg(format!("{sha}:./"));
    let tree = run(directory, &mut tree).await?;
    let commit = commit(directory, git_dir, &tree, None, now).await?;
    Ok(Snapshot {
        repository,
        commit,
        submodules: Submodules::default(),
    })
}

impl Sources {
    /// A repository with the user's objects, those of Git LFS too.
    fn serve(&self, git_dir: &Path) -> Result<ServedRepository, SnapshotError> {
        let served = ServedRepository::create(git_dir, &self.origin())?;
        Ok(served.with_lfs_objects(self.common.join("lfs/objects")))
    }

    fn origin(&self) -> Origin {
        Origin {
            objects: Some(self.objects.clone()),
            shallow: self.shallow.is_file().then(|| self.shallow.clone()),
            object_format: self.object_format.clone(),
        }
    }

    /// Where `directory` lies below the top.
    fn prefix<'a>(&self, directory: &'a Path) -> &'a Path {
        directory
            .strip_prefix(&self.top)
            .unwrap_or_else(|_| Path::new(""))
    }
}

async fn sources(directory: &Path) -> Result<Option<Sources>, SnapshotError> {
    let output = git(directory)
        .args(["rev-parse", "--path-format=absolute", "--show-toplevel"])
        .args([
            "--git-path",
            "objects",
            "--git-path",
            "index",
            "--git-path",
            "shallow",
            "--git-common-dir",
        ])
        .args(["--show-object-format", "HEAD", "HEAD^{tree}"])
        .output()
        .await?;
    // Without a commit the last two fail, after the others were printed.
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let mut path = || lines.next().map(PathBuf::from);
    let paths = [path(), path(), path(), path(), path()];
    let [
        Some(top),
        Some(objects),
        Some(index),
        Some(shallow),
        Some(common),
    ] = paths
    else {
        return Ok(None);
    };
    let object_format = lines.next().unwrap_or("sha1").to_owned();
    let is_id = |id: &&str| id.len() >= 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let head = match (lines.next().filter(is_id), lines.next().filter(is_id)) {
        (Some(commit), Some(tree)) => Some((commit.to_owned(), tree.to_owned())),
        _ => None,
    };
    Ok(Some(Sources {
        top,
        objects,
        common,
        index,
        shallow,
        object_format,
        head,
    }))
}

async fn of_repository(
    directory: &Path,
    git_dir: &Path,
    sources: &Sources,
    now: Timestamp,
) -> Result<Snapshot, SnapshotError> {
    let repository = sources.serve(git_dir)?;
    let index = git_dir.join("index");
    if sources.index.is_file() {
        // A copy keeps what Git knows of unchanged files, so that they are not read again. With the time of the
        // original: Git reads a file again that may have changed in the second in which the index was written.
        std::fs::copy(&sources.index, &index)?;
        let written = std::fs::metadata(&sources.index)?.modified()?;
        std::fs::File::options()
            .write(true)
            .open(&index)?
            .set_modified(written)?;
    }
    let beside = |command: &mut Command| {
        command
            .env("GIT_INDEX_FILE", &index)
            .env("GIT_OBJECT_DIRECTORY", git_dir.join("objects"))
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &sources.objects);
    };
    let mut add = git(directory);
    beside(&mut add);
    run(directory, add.args(ADD).args(["--sparse", "--", "."])).await?;
    let mut write_tree = git(directory);
    beside(&mut write_tree);
    write_tree.arg("write-tree");
    let prefix = sources.prefix(directory);
    let is_top = prefix.as_os_str().is_empty();
    if !is_top {
        let mut argument = OsStr::new("--prefix=").to_owned();
        argument.push(prefix);
        argument.push("/");
        write_tree.arg(argument);
    }
    let tree = run(directory, &mut write_tree).await?;
    let commit = match &sources.head {
        Some((head, head_tree)) if is_top && *head_tree == tree => head.clone(),
        head => {
            let parent = head.as_ref().filter(|_| is_top);
            let parent = parent.map(|(head, _)| head.as_str());
            commit(directory, git_dir, &tree, parent, now).await?
        }
    };
    let submodules = if is_top {
        Submodules::find(&sources.common, git_dir, &commit, Some(directory)).await?
    } else {
        Submodules::default()
    };
    Ok(Snapshot {
        repository,
        commit,
        submodules,
    })
}

async fn of_directory(
    directory: &Path,
    git_dir: &Path,
    now: Timestamp,
) -> Result<Snapshot, SnapshotError> {
    let repository = ServedRepository::create(git_dir, &Origin::default())?;
    let alone = |command: &mut Command| {
        command
            .env("GIT_DIR", git_dir)
            .env("GIT_WORK_TREE", directory)
            .env("GIT_INDEX_FILE", git_dir.join("index"));
    };
    let mut add = git(directory);
    alone(&mut add);
    run(
        directory,
        add.args(["-c", "core.bare=false"])
            .args(ADD)
            .args(["--", "."]),
    )
    .await?;
    let mut write_tree = git(directory);
    alone(&mut write_tree);
    let tree = run(
        directory,
        write_tree.args(["-c", "core.bare=false", "write-tree"]),
    )
    .await?;
    let commit = commit(directory, git_dir, &tree, None, now).await?;
    Ok(Snapshot {
        repository,
        commit,
        submodules: Submodules::default(),
    })
}

const ADD: [&str; 2] = ["add", "--all"];

async fn commit(
    directory: &Path,
    git_dir: &Path,
    tree: &str,
    parent: Option<&str>,
    now: Timestamp,
) -> Result<String, SnapshotError> {
    let mut command = git(directory);
    command.env("GIT_DIR", git_dir);
    for (name, value) in [
        ("GIT_AUTHOR_NAME", "Courser"),
        ("GIT_AUTHOR_EMAIL", "courser@localhost"),
        ("GIT_COMMITTER_NAME", "Courser"),
        ("GIT_COMMITTER_EMAIL", "courser@localhost"),
    ] {
        command.env(name, value);
    }
    let date = format!("@{} +0000", now.as_second());
    command
        .env("GIT_AUTHOR_DATE", &date)
        .env("GIT_COMMITTER_DATE", &date)
        .args(["commit-tree", "--no-gpg-sign", tree, "-m", "Working tree"]);
    if let Some(parent) = parent {
        command.args(["-p", parent]);
    }
    run(directory, &mut command).await
}

/// `git` in `directory`, not led elsewhere by the environment, and starting nothing in the background.
pub(super) fn git(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .args(["-c", "core.fsmonitor=false", "-c", "core.splitIndex=false"])
        .args([
            "-c",
            "advice.addEmbeddedRepo=false",
            "-c",
            "core.safecrlf=false",
        ])
        .current_dir(directory)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    for name in REPOSITORY_VARIABLES {
        command.env_remove(name);
    }
    command
}

/// Standard output without the last line's end.
async fn run(directory: &Path, command: &mut Command) -> Result<String, SnapshotError> {
    let output = command.output().await?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned());
    }
    let arguments = command.as_std().get_args().map(OsStr::to_string_lossy);
    let mut words = arguments.skip_while(|word| word.starts_with('-') || word.contains('='));
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(SnapshotError::Git {
        command: words.next().unwrap_or_default().into_owned(),
        directory: directory.to_owned(),
        message: stderr.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests;
