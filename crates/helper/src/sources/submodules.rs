//! Submodules (`runner-build-lifecycle.md` 2.5).
//!
//! Git does the work in upstream's order. Work trees that an earlier job has led elsewhere are gone by then
//! (`planted.rs`).

use courser_job::helper_request::Submodules;
use courser_job::messages;

use crate::HelperError;
use crate::git::Git;
use crate::output::Output;
use crate::sources::planted::{Tracked, remove_strangers};

/// Submodules of a checkout.
pub(super) struct Update<'a> {
    pub(super) git: Git<'a>,
    pub(super) chosen: &'a Submodules,
    /// `GIT_CLEAN_FLAGS`.
    pub(super) clean_flags: &'a [String],
    /// The configuration with the job's credentials, which submodules include.
    pub(super) external_config: &'a str,
    /// Whether there may be any at all.
    pub(super) any: bool,
    /// Nothing was there before: nothing to clean.
    pub(super) is_new: bool,
    /// Git LFS is there, and wanted.
    pub(super) lfs: bool,
}

impl Update<'_> {
    /// Everything after the checkout of the project itself.
    pub(super) fn run(&self, output: &mut Output<'_>) -> Result<(), HelperError> {
        let Submodules {
            recursive, depth, ..
        } = *self.chosen;
        output.say(&messages::updating_submodules(recursive, depth))?;
        let any = self.any && !Tracked::read(&self.git)?.submodules.is_empty();
        if any {
            self.bring_up_to_date(output)?;
        } else {
            output.say(&messages::updated_submodules())?;
        }
        output.say(&messages::configuring_submodules())?;
        if any {
            let include = [
                "config",
                "--replace-all",
                "include.path",
                self.external_config,
            ];
            foreach(&self.git, true, &[&["git"], &include[..]].concat(), output)?;
        }
        if self.lfs {
            output.say(&messages::pulling_lfs_files())?;
            if any {
                let pull = ["git", "lfs", "pull"];
                let arguments = self.with_credentials(&foreach_arguments(recursive, &pull));
                self.git.run_listening(output, &texts(&arguments))?;
            }
        }
        Ok(())
    }

    fn bring_up_to_date(&self, output: &mut Output<'_>) -> Result<(), HelperError> {
        let recursive = self.chosen.recursive;
        self.git.run(output, &["submodule", "init"])?;
        self.sync(output)?;
        if !self.is_new {
            self.clean(output)?;
            reset(&self.git, recursive, output)?;
        }
        if self.update(output).is_ok() {
            output.say(&messages::updated_submodules())?;
            self.sync(output)?;
        } else {
            output.say(&messages::retrying_submodules())?;
            let follows_branches = |flag: &String| flag.eq_ignore_ascii_case("--remote");
            if self.chosen.update_flags.iter().any(follows_branches) {
                let fetch = [
                    "git",
                    "fetch",
                    "origin",
                    "+refs/heads/*:refs/remotes/origin/*",
                ];
                let arguments = self.with_credentials(&foreach_arguments(recursive, &fetch));
                self.git.run(output, &texts(&arguments))?;
            }
            self.sync(output)?;
            self.update(output)?;
            reset(&self.git, recursive, output)?;
        }
        self.clean(output)
    }

    fn sync(&self, output: &mut Output<'_>) -> Result<(), HelperError> {
        let mut arguments = vec!["submodule", "sync"];
        if self.chosen.recursive {
            arguments.push("--recursive");
        }
        self.push_paths(&mut arguments);
        self.git.run(output, &arguments)
    }

    fn update(&self, output: &mut Output<'_>) -> Result<(), HelperError> {
        let depth = self.chosen.depth.to_string();
        let mut arguments = vec!["submodule", "update", "--init"];
        if self.chosen.recursive {
            arguments.push("--recursive");
        }
        if self.chosen.depth > 0 {
            arguments.extend(["--depth", depth.as_str()]);
        }
        arguments.extend(self.chosen.update_flags.iter().map(String::as_str));
        self.push_paths(&mut arguments);
        let arguments = self.with_credentials(&arguments);
        self.git.run_listening(output, &texts(&arguments))
    }

    fn push_paths<'b>(&'b self, arguments: &mut Vec<&'b str>) {
        if !self.chosen.paths.is_empty() {
            arguments.push("--");
            arguments.extend(self.chosen.paths.iter().map(String::as_str));
        }
    }

    /// Submodules are cleaned even where the project is not (`GIT_CLEAN_FLAGS: none`).
    fn clean(&self, output: &mut Output<'_>) -> Result<(), HelperError> {
        let default = ["-ffdx".to_owned()];
        let flags = match self.clean_flags {
            [] => &default[..],
            flags => flags,
        };
        clean(&self.git, self.chosen.recursive, flags, output)
    }

    /// For repositories that do not include the credentials yet. Each is updated on its own: a fetch into
    /// a submodule's submodules would come before their URLs are known.
    fn with_credentials(&self, arguments: &[&str]) -> Vec<String> {
        let include = format!("include.path={}", self.external_config);
        ["-c", &include, "-c", "fetch.recurseSubmodules=false"]
            .iter()
            .chain(arguments)
            .map(|argument| (*argument).to_owned())
            .collect()
    }
}

/// What `FF_ENABLE_JOB_CLEANUP` does to submodules.
pub(crate) fn clean_up(
    git: &Git<'_>,
    recursive: bool,
    clean_flags: &[String],
    output: &mut Output<'_>,
) -> Result<(), HelperError> {
    remove_strangers(git)?;
    if !clean_flags.is_empty() {
        clean(git, recursive, clean_flags, output)?;
    }
    reset(git, recursive, output)
}

fn clean(
    git: &Git<'_>,
    recursive: bool,
    flags: &[String],
    output: &mut Output<'_>,
) -> Result<(), HelperError> {
    let flags = flags.iter().map(String::as_str);
    let command: Vec<&str> = ["git", "clean"].into_iter().chain(flags).collect();
    foreach(git, recursive, &command, output)
}

fn reset(git: &Git<'_>, recursive: bool, output: &mut Output<'_>) -> Result<(), HelperError> {
    foreach(git, recursive, &["git", "reset", "--hard"], output)
}

fn foreach(
    git: &Git<'_>,
    recursive: bool,
    command: &[&str],
    output: &mut Output<'_>,
) -> Result<(), HelperError> {
    git.run(output, &foreach_arguments(recursive, command))
}

fn foreach_arguments<'a>(recursive: bool, command: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["submodule", "foreach"];
    if recursive {
        arguments.push("--recursive");
    }
    arguments.extend(command);
    arguments
}

fn texts(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}
