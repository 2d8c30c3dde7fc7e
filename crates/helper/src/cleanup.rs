//! The first and the last stage of a job (`runner-build-lifecycle.md` 2.9).

use std::fs;
use std::path::Path;

use courser_config::Environment;
use courser_job::helper_request::{CleanUp, GitStrategy, OldGitConfig};
use courser_job::messages;

use crate::HelperError;
use crate::git::{Git, may_have_credential_helper};
use crate::git_config;
use crate::leftovers::{is_directory, remove_directory, remove_file, remove_leftovers};
use crate::output::Output;
use crate::sources::{
    CA_BUNDLE, CREDENTIALS, EXTERNAL_CONFIG, GLOBAL_CONFIG, remove_template, submodules,
};
use crate::tool_trust;

/// Written by jobs for their later stages; a new job starts without them.
const OF_THE_JOB: [&str; 2] = ["gitlab_runner_env", "masking.db"];

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
        .chain([CA_BUNDLE, EXTERNAL_CONFIG, GLOBAL_CONFIG])
    {
        remove_file(&temporary_dir.join(name))?;
    }
    remove_directory(&temporary_dir.join(CREDENTIALS))?;
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
                // Upstream stumbles here over the lock of a Git that was killed with the job, and runs what
                // the job has configured.
                let repository = project_dir.join(".git");
                let kept = git_config::harmless_part(&repository);
                let drops = work.old_config != OldGitConfig::Kept;
                remove_leftovers(project_dir, drops)?;
                if drops && is_directory(&repository) {
                    let config = repository.join("config");
                    fs::write(&config, kept).map_err(HelperError::io(&config))?;
                }
                if !work.clean_flags.is_empty() {
                    let mut arguments = vec!["clean"];
                    arguments.extend(work.clean_flags.iter().map(String::as_str));
                    git.run(output, &arguments)?;
                }
                git.run(output, &["reset", "--hard"])?;
                if let Some(chosen) = &work.submodules {
                    submodules::clean_up(&git, chosen.recursive, &work.clean_flags, output)?;
                }
            }
            GitStrategy::None => output.say(&messages::skipping_cleanup())?,
        }
    }
    let drops = work.old_config == OldGitConfig::Dropped;
    if drops {
        remove_template(temporary_dir)?;
    }
    remove_leftovers(project_dir, drops)
}
