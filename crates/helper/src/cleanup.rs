//! The first and the last stage of a job (`runner-build-lifecycle.md` 2.3 A, 2.9).

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use courser_config::Environment;
use courser_job::helper_request::{CleanUp, GitStrategy};
use courser_job::messages;

use crate::HelperError;
use crate::git::{Git, may_have_credential_helper};
use crate::output::Output;
use crate::sources::{CA_BUNDLE, EXTERNAL_CONFIG, TEMPLATE};
use crate::tool_trust;

/// Written by jobs for their later stages; a new job starts without them.
const OF_THE_JOB: [&str; 2] = ["gitlab_runner_env", "masking.db"];

/// Seed of the global configuration (`FF_GIT_URLS_WITHOUT_TOKENS`).
const GLOBAL_SEED: &str = ".glr.gconf";

/// What an interrupted Git leaves, below `.git`.
const LEFTOVERS: [&str; 5] = [
    "index.lock",
    "shallow.lock",
    "HEAD.lock",
    "hooks/post-checkout",
    "config.lock",
];

/// `prepare_script`.
pub(crate) fn prepare(
    temporary_dir: &Path,
    host_name: &str,
    via: &str,
    output: &mut Output<'_>,
) -> Result<(), HelperError> {
    output.say(&messages::running_on_host(host_name, via))?;
    for name in OF_THE_JOB {
        remove_file(&temporary_dir.join(name))?;
    }
    Ok(())
}

/// Whether [`clean_up`] starts Git.
pub(crate) fn needs_git(work: &CleanUp, variables: &Environment) -> bool {
    work.job_cleanup || rejected_url(work, variables).is_some()
}

/// Whose credentials are to be forgotten, if something could remember them.
fn rejected_url<'a>(work: &'a CleanUp, variables: &Environment) -> Option<&'a str> {
    let url = work.credential_reject_url.as_deref()?;
    let project_dir = Path::new(&work.project_dir);
    let may_be_stored = work.strategy.uses_git()
        && project_dir.is_dir()
        && may_have_credential_helper(variables, project_dir, &work.temporary_dir, url);
    may_be_stored.then_some(url)
}

/// `cleanup_file_variables`. The temporary directory itself stays.
pub(crate) fn clean_up(
    work: &CleanUp,
    variables: &Environment,
    output: &mut Output<'_>,
) -> Result<(), HelperError> {
    let project_dir = Path::new(&work.project_dir);
    let temporary_dir = Path::new(&work.temporary_dir);
    let git = Git {
        directory: project_dir,
        external_config: None,
        ca_bundle: None,
    };
    if let Some(url) = rejected_url(work, variables) {
        git.reject_credential(url);
    }
    for name in OF_THE_JOB
        .into_iter()
        .chain([CA_BUNDLE, EXTERNAL_CONFIG, GLOBAL_SEED])
    {
        remove_file(&temporary_dir.join(name))?;
    }
    tool_trust::remove(&work.temporary_dir)?;
    for name in &work.file_variables {
        // Names of variables come from the server: nothing but a name is a file of ours.
        if !name.is_empty() && !name.contains('/') && name != "." && name != ".." {
            remove_file(&temporary_dir.join(name))?;
        }
    }
    if work.job_cleanup {
        match work.strategy {
            GitStrategy::Clone | GitStrategy::Empty => remove_directory(project_dir)?,
            GitStrategy::Fetch => {
                // Upstream stumbles here over the lock of a Git that was killed with the job.
                remove_leftovers(project_dir, temporary_dir, false)?;
                if !work.clean_flags.is_empty() {
                    let mut arguments = vec!["clean"];
                    arguments.extend(work.clean_flags.iter().map(String::as_str));
                    git.run(output, &arguments)?;
                }
                git.run(output, &["reset", "--hard"])?;
            }
            GitStrategy::None => output.say(&messages::skipping_cleanup())?,
        }
    }
    remove_leftovers(project_dir, temporary_dir, work.clean_git_config)
}

/// Removes what an interrupted job left in the repository, and what it could have left on purpose
/// (`clean_config`): configuration and hooks.
pub(crate) fn remove_leftovers(
    project_dir: &Path,
    temporary_dir: &Path,
    clean_config: bool,
) -> Result<(), HelperError> {
    let repository = project_dir.join(".git");
    // A job may have put a link there; what it leads to is not ours.
    let is_ours = repository
        .symlink_metadata()
        .is_ok_and(|kind| kind.is_dir());
    if is_ours {
        for name in LEFTOVERS {
            remove_file(&repository.join(name))?;
        }
        remove_locks(&repository.join("refs"))?;
    }
    if clean_config {
        let template = temporary_dir.join(TEMPLATE);
        let repository = is_ours.then_some(&repository);
        for directory in std::iter::once(&template).chain(repository) {
            remove_file(&directory.join("config"))?;
            remove_directory(&directory.join("hooks"))?;
        }
    }
    Ok(())
}

/// `*.lock` below a directory.
fn remove_locks(directory: &Path) -> Result<(), HelperError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(HelperError::io(directory)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(HelperError::io(directory))?;
        let path = entry.path();
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_directory {
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

/// Removes a directory with everything in it, also where permissions were taken away. A link is
/// removed itself.
pub(crate) fn remove_directory(path: &Path) -> Result<(), HelperError> {
    let removed = match path.symlink_metadata() {
        Ok(metadata) if !metadata.is_dir() => return remove_file(path),
        Ok(_) => fs::remove_dir_all(path),
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
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).ok();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_and_hooks_of_an_interrupted_job_go_away() {
        let world = tempfile::tempdir().expect("temporary directory");
        let project = world.path().join("p");
        let git = project.join(".git");
        for name in [
            "index.lock",
            "shallow.lock",
            "HEAD.lock",
            "config.lock",
            "hooks/post-checkout",
            "hooks/pre-commit",
            "refs/heads/main",
            "refs/heads/deep/x.lock",
            "config",
            "objects/keep.lock",
        ] {
            let path = git.join(name);
            fs::create_dir_all(path.parent().expect("has one")).expect("directories");
            fs::write(path, "").expect("file");
        }
        remove_leftovers(&project, &world.path().join("p.tmp"), false).expect("removes");
        for (name, stays) in [
            ("index.lock", false),
            ("shallow.lock", false),
            ("HEAD.lock", false),
            ("config.lock", false),
            ("hooks/post-checkout", false),
            ("refs/heads/deep/x.lock", false),
            ("hooks/pre-commit", true),
            ("refs/heads/main", true),
            ("config", true),
            ("objects/keep.lock", true),
        ] {
            assert_eq!(git.join(name).exists(), stays, "{name}");
        }
        remove_leftovers(&project, &world.path().join("p.tmp"), true).expect("removes");
        assert!(!git.join("config").exists());
        assert!(!git.join("hooks").exists());
    }

    #[test]
    fn a_link_in_place_of_a_directory_is_not_followed() {
        let world = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(world.path().join("precious")).expect("directory");
        fs::write(world.path().join("precious/file"), "").expect("file");
        std::os::unix::fs::symlink("precious", world.path().join("link")).expect("link");
        remove_directory(&world.path().join("link")).expect("removes");
        assert!(world.path().join("precious/file").exists());
        assert!(world.path().join("link").symlink_metadata().is_err());
    }
}
