//! What an earlier job planted in a work tree that is used again, so that Git or a script would work with a
//! repository or with files that the job chose.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::git::Git;
use crate::leftovers::{is_directory, is_link, is_out_of_place, remove_directory};
use crate::{HelperError, platform};

/// The longest `gitdir:` file that is read.
const LONGEST_LINK: u64 = 8192;

/// How deep submodules of submodules are looked at.
const DEPTH: usize = 32;

/// What the index says.
pub(super) struct Tracked {
    /// Paths of submodules.
    pub(super) submodules: Vec<PathBuf>,
    /// Directories that hold tracked files, the top excepted.
    directories: Vec<PathBuf>,
    /// Git was told not to look at some file (`update-index --assume-unchanged`, `--skip-worktree`): it would
    /// stay as the earlier job left it.
    pub(super) has_blind_spots: bool,
}

impl Tracked {
    pub(super) fn read(git: &Git<'_>) -> Result<Self, HelperError> {
        let listed = git
            .read(&["ls-files", "--stage", "-v", "-z"])
            .ok_or_else(|| {
                let directory = git.directory.display();
                HelperError::Request(format!("the index of {directory} cannot be read"))
            })?;
        let mut tracked = Self {
            submodules: Vec::new(),
            directories: Vec::new(),
            has_blind_spots: false,
        };
        let mut last = PathBuf::new();
        for entry in listed.split(|byte| *byte == 0) {
            // `H 100644 <id> 0<tab>path`
            let Some(tab) = entry.iter().position(|byte| *byte == b'\t') else {
                continue;
            };
            let (facts, path) = (&entry[..tab], platform::path_of(&entry[tab + 1..]));
            tracked.has_blind_spots |= facts
                .first()
                .is_some_and(|tag| tag.is_ascii_lowercase() || *tag == b'S');
            if facts
                .get(2..)
                .is_some_and(|facts| facts.starts_with(b"160000"))
            {
                tracked.submodules.push(path.clone());
            }
            // Sorted: most files lie beside the one before.
            let directory = path.parent().unwrap_or_else(|| Path::new(""));
            if directory != last {
                last = directory.to_owned();
                let above = directory.ancestors().map(Path::to_owned);
                let inside = above.filter(|directory| !directory.as_os_str().is_empty());
                tracked.directories.extend(inside);
            }
        }
        tracked.directories.sort_unstable();
        tracked.directories.dedup();
        Ok(tracked)
    }

    /// Removes repositories in directories of the project: `git clean` passes over them.
    pub(super) fn remove_repositories(&self, project_dir: &Path) -> Result<(), HelperError> {
        for directory in &self.directories {
            remove_directory(&project_dir.join(directory).join(".git"))?;
        }
        Ok(())
    }
}

/// Removes work trees of submodules that an earlier job has led elsewhere.
pub(super) fn remove_strangers(git: &Git<'_>) -> Result<(), HelperError> {
    let modules = git.directory.join(".git/modules");
    remove_strangers_in(git.directory, &modules, git, DEPTH)
}

fn remove_strangers_in(
    work_tree: &Path,
    modules: &Path,
    git: &Git<'_>,
    depth: usize,
) -> Result<(), HelperError> {
    let here = Git {
        directory: work_tree,
        external_config: git.external_config,
        ca_bundle: git.ca_bundle,
    };
    for path in Tracked::read(&here)?.submodules {
        let submodule = work_tree.join(&path);
        let mut parent = work_tree.to_owned();
        let mut led_away = false;
        for part in path.components() {
            // Git has checked the path; a link on the way to it is not Git's.
            parent.push(part);
            if is_link(&parent) {
                remove_directory(&parent)?;
                led_away = true;
                break;
            }
        }
        if led_away || submodule.join(".git").symlink_metadata().is_err() {
            continue;
        }
        let is_ours = depth > 0
            && leads_into(&submodule, modules)
            && remove_strangers_in(&submodule, modules, git, depth - 1).is_ok();
        if !is_ours {
            remove_directory(&submodule)?;
            fs::create_dir(&submodule).map_err(HelperError::io(&submodule))?;
        }
    }
    Ok(())
}

/// Whether the `.git` of a work tree is a file that names a repository below `modules`.
fn leads_into(work_tree: &Path, modules: &Path) -> bool {
    let link = work_tree.join(".git");
    let is_short_file = link
        .symlink_metadata()
        .is_ok_and(|kind| kind.is_file() && kind.len() <= LONGEST_LINK);
    if !is_short_file {
        return false;
    }
    let Ok(content) = fs::read(&link) else {
        return false;
    };
    let Some(target) = content.strip_prefix(b"gitdir: ") else {
        return false;
    };
    let target = target.strip_suffix(b"\n").unwrap_or(target);
    let Some(target) = cleaned(&work_tree.join(platform::path_of(target))) else {
        return false;
    };
    // Links below it have been removed.
    target != modules
        && target.starts_with(modules)
        && !is_out_of_place(modules, &target)
        && is_directory(&target)
}

/// An absolute path without `.` and `..`.
fn cleaned(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                if !clean.pop() {
                    return None;
                }
            }
            other => clean.push(other),
        }
    }
    Some(clean)
}
