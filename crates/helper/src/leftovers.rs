//! What an earlier job left in a repository that is used again (`runner-build-lifecycle.md` 2.3 A).
//!
//! Locks of a Git that was killed would stop this job's Git. Configuration, hooks, attributes and links to
//! other repositories would make it run programs that the earlier job chose, with this job's token: they are
//! dropped in the repository and in the repositories of its submodules, `.git/modules`.

use std::fs;
use std::io;
use std::path::Path;

use crate::git_config;
use crate::{HelperError, platform};

/// What an interrupted Git leaves, below `.git`.
const LOCKS: [&str; 4] = ["index.lock", "shallow.lock", "HEAD.lock", "config.lock"];

/// The hook that upstream always removes: Git LFS puts one there.
const CHECKOUT_HOOK: &str = "post-checkout";

/// Files and directories below `.git` that tell Git what to do. `commondir` leads to another repository,
/// `info` holds attributes, grafts and sparse patterns.
const INSTRUCTIONS: [&str; 5] = ["config", "config.worktree", "commondir", "hooks", "info"];

/// Directories of a repository in which no submodule's repository belongs.
const NO_MODULES: [&str; 6] = ["objects", "refs", "logs", "lfs", "hooks", "info"];

/// How deep submodules are looked for. Git's own names rarely have more than a few parts.
const DEPTH: usize = 64;

/// Removes locks, and with `instructions` what could change what Git does.
pub(crate) fn remove_leftovers(project_dir: &Path, instructions: bool) -> Result<(), HelperError> {
    let repository = project_dir.join(".git");
    // A job may have put a link there; what it leads to is not ours.
    if !is_directory(&repository) {
        return Ok(());
    }
    tidy(&repository, instructions)?;
    if instructions {
        remove_instructions(&repository)?;
    }
    let modules = repository.join("modules");
    if modules.symlink_metadata().is_ok() {
        tidy_modules(&modules, instructions, Within::Modules, DEPTH)?;
    }
    Ok(())
}

/// What a directory below `.git/modules` is part of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    /// Directories on the way to repositories, and those themselves.
    Modules,
    /// [`NO_MODULES`] of a repository. An earlier job can have put another there, or a `HEAD` above one.
    OwnDirectory,
}

/// Whether no submodule's repository belongs at `path`, which is below `modules`: in the objects of another,
/// say.
pub(crate) fn is_out_of_place(modules: &Path, path: &Path) -> bool {
    path.ancestors()
        .take_while(|below| *below != modules)
        .any(|below| {
            let is_own = below
                .file_name()
                .is_some_and(|name| NO_MODULES.iter().any(|own| name.eq_ignore_ascii_case(own)));
            is_own && below.parent().is_some_and(|above| has(above, "HEAD"))
        })
}

fn has(directory: &Path, name: &str) -> bool {
    directory.join(name).symlink_metadata().is_ok()
}

/// Locks of one repository.
fn tidy(repository: &Path, links: bool) -> Result<(), HelperError> {
    for name in LOCKS {
        remove_file(&repository.join(name))?;
    }
    for name in ["hooks", "refs"] {
        // What a link leads to is not ours.
        if links && is_link(&repository.join(name)) {
            remove_file(&repository.join(name))?;
        }
    }
    if is_directory(&repository.join("hooks")) {
        remove_file(&repository.join("hooks").join(CHECKOUT_HOOK))?;
    }
    remove_locks(&repository.join("refs"))
}

fn remove_instructions(repository: &Path) -> Result<(), HelperError> {
    for name in INSTRUCTIONS {
        remove_directory(&repository.join(name))?;
    }
    Ok(())
}

/// All repositories below a directory of `.git/modules`.
fn tidy_modules(
    directory: &Path,
    instructions: bool,
    within: Within,
    depth: usize,
) -> Result<(), HelperError> {
    if !is_directory(directory) || depth == 0 {
        // A link would lead Git, and us, out of the project.
        return remove_directory(directory);
    }
    let is_repository = has(directory, "HEAD");
    if within == Within::OwnDirectory
        && is_repository
        && (has(directory, "commondir") || (has(directory, "objects") && has(directory, "refs")))
    {
        // `HEAD` alone is a ref or its log; this is what Git takes for a repository.
        return remove_directory(directory);
    }
    let is_repository = is_repository && within == Within::Modules;
    if is_repository {
        tidy(directory, instructions)?;
        if instructions {
            // `git init`, which writes it anew for the project itself, does not come by here.
            let kept = git_config::harmless_part(directory);
            remove_instructions(directory)?;
            if !kept.is_empty() {
                let config = directory.join("config");
                fs::write(&config, kept).map_err(HelperError::io(&config))?;
            }
        }
    }
    for entry in fs::read_dir(directory).map_err(HelperError::io(directory))? {
        let entry = entry.map_err(HelperError::io(directory))?;
        let name = entry.file_name();
        let is_own = is_repository && NO_MODULES.iter().any(|own| name == *own);
        if is_own && !instructions {
            continue;
        }
        let within = if is_own { Within::OwnDirectory } else { within };
        let kind = entry.file_type().map_err(HelperError::io(entry.path()))?;
        if kind.is_dir() || (kind.is_symlink() && entry.path().is_dir()) {
            tidy_modules(&entry.path(), instructions, within, depth - 1)?;
        }
    }
    Ok(())
}

/// `*.lock` below a directory.
fn remove_locks(directory: &Path) -> Result<(), HelperError> {
    if !is_directory(directory) {
        return Ok(());
    }
    for entry in fs::read_dir(directory).map_err(HelperError::io(directory))? {
        let entry = entry.map_err(HelperError::io(directory))?;
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_locks(&path)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "lock")
        {
            remove_file(&path)?;
        }
    }
    Ok(())
}

/// Whether it is a directory itself, not a link to one.
pub(crate) fn is_directory(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|kind| kind.is_dir())
}

/// Whether it is a link.
pub(crate) fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|kind| kind.is_symlink())
}

/// Removes a file or link; one that is not there is as good.
pub(crate) fn remove_file(path: &Path) -> Result<(), HelperError> {
    match fs::remove_file(path) {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Err(HelperError::io(path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes a directory with everything in it, also where permissions were taken away. A link or file is
/// removed itself.
pub(crate) fn remove_directory(path: &Path) -> Result<(), HelperError> {
    let removed = match path.symlink_metadata() {
        Ok(metadata) if !metadata.is_dir() => return remove_file(path),
        Ok(_) => fs::remove_dir_all(path),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(()),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path);
            fs::remove_dir_all(path).map_err(HelperError::io(path))
        }
        other => other.map_err(HelperError::io(path)),
    }
}

/// `chmod -R u+rwX` for directories; what fails shows when removing.
fn open_up(directory: &Path) {
    platform::open_up(directory).ok();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn repository(git: &Path) {
        for name in [
            "HEAD",
            "index.lock",
            "shallow.lock",
            "HEAD.lock",
            "config.lock",
            "hooks/post-checkout",
            "hooks/pre-commit",
            "info/attributes",
            "refs/heads/main",
            "refs/heads/config",
            "refs/heads/deep/x.lock",
            "config",
            "config.worktree",
            "commondir",
            "objects/keep.lock",
        ] {
            let path = git.join(name);
            fs::create_dir_all(path.parent().expect("has one")).expect("directories");
            fs::write(path, "").expect("file");
        }
    }

    fn assert_tidy(git: &Path, instructions: bool) {
        for (name, stays) in [
            ("index.lock", false),
            ("shallow.lock", false),
            ("HEAD.lock", false),
            ("config.lock", false),
            ("hooks/post-checkout", false),
            ("refs/heads/deep/x.lock", false),
            ("hooks/pre-commit", !instructions),
            ("info/attributes", !instructions),
            ("config", !instructions),
            ("config.worktree", !instructions),
            ("commondir", !instructions),
            ("refs/heads/main", true),
            ("refs/heads/config", true),
            ("objects/keep.lock", true),
        ] {
            assert_eq!(git.join(name).exists(), stays, "{git:?} {name}");
        }
    }

    #[test]
    fn locks_and_instructions_go_away_in_submodules_too() {
        let world = tempfile::tempdir().expect("temporary directory");
        let git = world.path().join("p/.git");
        let all: Vec<PathBuf> = ["", "modules/a", "modules/libs/b", "modules/a/modules/c"]
            .iter()
            .map(|place| git.join(place))
            .collect();
        for instructions in [false, true] {
            all.iter().for_each(|git| repository(git));
            remove_leftovers(&world.path().join("p"), instructions).expect("removes");
            all.iter().for_each(|git| assert_tidy(git, instructions));
        }
    }

    #[test]
    fn a_link_in_place_of_a_directory_is_not_followed() {
        let world = tempfile::tempdir().expect("temporary directory");
        let precious = world.path().join("precious");
        repository(&precious);
        fs::create_dir_all(world.path().join("p/.git/modules")).expect("directory");
        for link in ["link", "p/.git/modules/x", "p/.git/refs", "p/.git/hooks"] {
            let link = world.path().join(link);
            std::os::unix::fs::symlink(&precious, &link).expect("link");
        }
        remove_directory(&world.path().join("link")).expect("removes");
        remove_leftovers(&world.path().join("p"), true).expect("removes");
        for name in [
            "config",
            "index.lock",
            "refs/heads/deep/x.lock",
            "hooks/post-checkout",
        ] {
            assert!(precious.join(name).exists(), "{name}");
        }
        for link in ["link", "p/.git/modules/x", "p/.git/refs", "p/.git/hooks"] {
            assert!(!is_link(&world.path().join(link)), "{link}");
        }
    }

    #[test]
    fn what_a_submodule_is_made_of_stays_known() {
        let world = tempfile::tempdir().expect("temporary directory");
        let module = world.path().join("p/.git/modules/m");
        repository(&module);
        fs::write(
            module.join("config"),
            "[core]\n\tfsmonitor = evil\n[extensions]\n\tobjectFormat = sha256\n\
             [remote \"origin\"]\n\turl = https://h/x\n\tuploadpack = evil\n\
             \tfetch = +refs/heads/*:refs/remotes/origin/*\n\turl = ext::evil\n\turl = \"a\n",
        )
        .expect("file");
        remove_leftovers(&world.path().join("p"), true).expect("removes");
        assert_eq!(
            fs::read_to_string(module.join("config")).expect("stays"),
            "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tobjectFormat = sha256\n\
             [remote \"origin\"]\n\turl = https://h/x\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n"
        );
    }
}
