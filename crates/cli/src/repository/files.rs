//! The files that the evaluator reads and lists.

use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;

use courser_pipeline::Files;

use super::{Repository, command, git, paths};

/// More than GitLab reads of one file (`gitlab-ci-yaml.md` 20), so that the evaluator sees the excess.
const MAXIMUM_FILE: u64 = 2 * 1024 * 1024 + 1;

/// Of a working tree: tracked files, and untracked ones that are not ignored. Of a commit: its own.
impl Files for Repository {
    fn read(&self, path: &str) -> Option<String> {
        match self.committed() {
            Some(commit) => {
                let object = format!("{}:./{path}", commit.sha);
                read_blob(&self.root, &["cat-file", "blob", &object])
            }
            None => read_inside(&self.root, Path::new(path)),
        }
    }

    fn list(&self) -> Vec<String> {
        if let Some(commit) = self.committed() {
            let listing = git(
                &self.root,
                ["ls-tree", "-r", "-z", "--name-only", &commit.sha],
            );
            return paths(&listing.unwrap_or_default()).collect();
        }
        let listed = self.git.as_ref().and_then(|_| {
            git(
                &self.root,
                [
                    "ls-files",
                    "-z",
                    "--cached",
                    "--others",
                    "--exclude-standard",
                    "--deduplicate",
                ],
            )
            .ok()
        });
        match listed {
            Some(listing) => paths(&listing)
                .filter(|path| self.root.join(path).symlink_metadata().is_ok())
                .collect(),
            None => walk(&self.root),
        }
    }
}

/// The files of a commit in a repository without a working tree.
#[derive(Debug)]
pub(crate) struct CommittedFiles<'a> {
    pub(crate) git_dir: &'a Path,
    pub(crate) sha: &'a str,
}

/// Said to Git, or a user's `safe.bareRepository` would have it refuse.
const HERE: &str = "--git-dir=.";

impl CommittedFiles<'_> {
    pub(crate) fn read(&self, path: &str) -> Option<String> {
        let object = format!("{}:{path}", self.sha);
        read_blob(self.git_dir, &[HERE, "cat-file", "blob", &object])
    }

    pub(crate) fn list(&self) -> Vec<String> {
        let arguments = [HERE, "ls-tree", "-r", "-z", "--name-only", self.sha];
        paths(&git(self.git_dir, arguments).unwrap_or_default()).collect()
    }
}

/// Reads a file below `root`; nothing outside, also not through a symbolic link.
fn read_inside(root: &Path, path: &Path) -> Option<String> {
    let plain = path
        .components()
        .all(|component| matches!(component, Component::Normal(_) | Component::CurDir));
    if !plain {
        return None;
    }
    let full = root.join(path).canonicalize().ok()?;
    if !full.starts_with(root.canonicalize().ok()?) {
        return None;
    }
    read_bounded(&full)
}

/// Reads a file as far as the evaluator looks at it.
pub(crate) fn read_bounded(path: &Path) -> Option<String> {
    let file = fs::File::open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MAXIMUM_FILE).read_to_end(&mut bytes).ok()?;
    Some(text(bytes))
}

/// Reads a file of a commit as far as the evaluator looks at it; Git ends when nobody reads on.
fn read_blob(root: &Path, arguments: &[&str]) -> Option<String> {
    let mut git = command(root);
    git.args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut git = git.spawn().ok()?;
    let mut bytes = Vec::new();
    let read = git
        .stdout
        .take()
        .and_then(|pipe| pipe.take(MAXIMUM_FILE).read_to_end(&mut bytes).ok());
    let ended = git.wait().ok()?;
    let is_cut = bytes.len() as u64 == MAXIMUM_FILE;
    (read.is_some() && (is_cut || ended.success())).then(|| text(bytes))
}

fn text(bytes: Vec<u8>) -> String {
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }
}

/// All files below a directory without Git, sorted.
fn walk(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        let Ok(entries) = fs::read_dir(root.join(&below)) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = below.join(entry.file_name());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && entry.file_name() != ".git" => open.push(path),
                Ok(kind) if !kind.is_dir() => found.extend(path.to_str().map(str::to_owned)),
                _ => {}
            }
        }
    }
    found.sort();
    found
}
