//! The files that the evaluator reads and lists.

use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use courser_pipeline::Files;

use super::{Repository, git, paths};

/// More than GitLab reads of one file (`gitlab-ci-yaml.md` 20), so that the evaluator sees the excess.
const MAXIMUM_FILE: u64 = 2 * 1024 * 1024 + 1;

/// Of a working tree: tracked files, and untracked ones that are not ignored. Of a commit: its own.
impl Files for Repository {
    fn read(&self, path: &str) -> Option<String> {
        match self.committed() {
            Some(commit) => {
                let object = format!("{}:./{path}", commit.sha);
                git(&self.root, ["cat-file", "blob", &object]).ok()
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
    Some(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
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
