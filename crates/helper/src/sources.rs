//! Git sources (`runner-build-lifecycle.md` 2.2 to 2.8).
//!
//! What upstream's script does in a dozen Git processes takes three here for a fresh clone (`init`,
//! `fetch`, `checkout`): configuration files are written directly, and steps that can change nothing
//! (cleaning a new tree, collecting its garbage, asking LFS about a tree without attributes) are left
//! out. Log lines stay as users know them. Credentials are in files outside of the project directory.

mod configuration;
mod credentials;
mod planted;
pub(crate) mod submodules;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use courser_job::helper_request::{GetSources, GitStrategy, OldGitConfig};
use courser_job::messages;

use crate::git::{Git, has_lfs, may_have_credential_helper, may_have_submodules, may_use_lfs};
use crate::git_config::{GitConfig, Remote, has_remote, is_partial, remote};
use crate::leftovers::{is_directory, remove_directory, remove_file, remove_leftovers};
use crate::output::Output;
use crate::{HelperEnvironment, HelperError};
pub(crate) use configuration::{
    CA_BUNDLE, EXTERNAL_CONFIG, GLOBAL_CONFIG, make_private_directory, remove_template,
    write_global_config,
};
use configuration::{Configuration, ca_bundle};
pub(crate) use credentials::CREDENTIALS;
use planted::{Tracked, remove_strangers};

/// `get_sources` between its hooks.
pub(crate) fn get(
    request: &GetSources,
    environment: &HelperEnvironment,
    output: &mut Output<'_>,
) -> Result<(), HelperError> {
    let project_dir = Path::new(&request.project_dir);
    if !request.strategy.uses_git() {
        return without_git(request, output);
    }
    Checkout::new(request, environment)?.run(environment, output)?;
    if let Some(url) = &request.credential_reject_url
        && may_have_credential_helper(
            &environment.variables,
            project_dir,
            &request.temporary_dir,
            url,
        )
    {
        let git = Git {
            directory: project_dir,
            external_config: None,
            ca_bundle: None,
        };
        git.reject_credential(url);
    }
    Ok(())
}

/// Strategies `none` and `empty`.
pub(crate) fn without_git(
    request: &GetSources,
    output: &mut Output<'_>,
) -> Result<(), HelperError> {
    let project_dir = Path::new(&request.project_dir);
    if request.strategy == GitStrategy::Empty {
        output.say(&messages::creating_empty_directory())?;
        remove_directory(project_dir)?;
    } else {
        output.say(&messages::skipping_repository_setup())?;
    }
    if let Some(parent) = project_dir.parent() {
        make_private_directory(parent)?;
    }
    fs::create_dir_all(project_dir).map_err(HelperError::io(project_dir))?;
    Configuration::below(Path::new(&request.temporary_dir)).write_without_repository(request)?;
    output.say(&messages::skipping_checkout())?;
    output.say(&messages::skipping_submodules())?;
    Ok(())
}

/// `clear_worktree`, before the second attempt.
pub(crate) fn clear(project_dir: &Path, output: &mut Output<'_>) -> Result<(), HelperError> {
    output.say(&messages::deleting_files())?;
    if !project_dir.is_dir() {
        return Ok(());
    }
    let git = Git {
        directory: project_dir,
        external_config: None,
        ca_bundle: None,
    };
    git.run(output, &["rm", "-rf", "--ignore-unmatch", "--quiet", "."])?;
    git.run(output, &["clean", "-ffdx", "-q"])
}

/// Strategies `clone` and `fetch`.
struct Checkout<'a> {
    request: &'a GetSources,
    project_dir: &'a Path,
    temporary_dir: &'a Path,
    configuration: Configuration,
    /// Both CA files in one, where the environment names one and the server has its own.
    ca_bundle: Option<PathBuf>,
    /// `-c …` of calls that talk to the server.
    authentication: Option<String>,
    /// `-c …`: who we are.
    agent: String,
}

/// What was in the project directory before this job.
#[derive(Clone, Copy)]
struct Before {
    /// Nothing at all: nothing to clean afterwards.
    is_new: bool,
    /// A repository with a remote, which upstream would have used as it was.
    had_remote: bool,
}

/// How often a configuration that another job changes is tried, and after which pauses.
const LOCKED_TRIES: u32 = 20;
const LOCKED_PAUSE: Duration = Duration::from_millis(50);

/// The oldest Git with `clone --revision`.
const NATIVE_CLONE: (u32, u32) = (2, 49);

impl<'a> Checkout<'a> {
    /// What the server sent must not become options of Git.
    fn new(request: &'a GetSources, environment: &HelperEnvironment) -> Result<Self, HelperError> {
        let sha = &request.sha;
        if sha.len() < 8 || !sha.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(HelperError::Request(format!("{sha:?} is no commit id")));
        }
        if let Some(refspec) = request.refspecs.iter().find(|spec| spec.starts_with('-')) {
            return Err(HelperError::Request(format!("{refspec:?} is no refspec")));
        }
        let (url, name) = (&request.remote_url, &request.ref_name);
        if url.starts_with('-') {
            return Err(HelperError::Request(format!("{url:?} is no URL")));
        }
        if name.starts_with('-') {
            return Err(HelperError::Request(format!("{name:?} is no ref")));
        }
        let temporary_dir = Path::new(&request.temporary_dir);
        Ok(Self {
            request,
            project_dir: Path::new(&request.project_dir),
            temporary_dir,
            configuration: Configuration::below(temporary_dir),
            ca_bundle: ca_bundle(request, environment)?,
            authentication: request.proactive_auth.then(|| match &request.remote_base {
                Some(base) => format!("http.{base}.proactiveAuth=basic"),
                None => "http.proactiveAuth=basic".to_owned(),
            }),
            agent: format!("http.userAgent={}", request.user_agent),
        })
    }

    fn run(
        &self,
        environment: &HelperEnvironment,
        output: &mut Output<'_>,
    ) -> Result<(), HelperError> {
        let request = self.request;
        let repository = self.project_dir.join(".git");
        let config = fs::read_to_string(repository.join("config")).unwrap_or_default();
        remove_leftovers(self.project_dir, request.old_config != OldGitConfig::Kept)?;
        if repository.symlink_metadata().is_ok() && !is_directory(&repository) {
            // A link or `gitdir:` file that an earlier job left: Git would work somewhere else.
            remove_file(&repository)?;
        }
        // Any value at all switches it off, "false" too.
        if environment.variables.get("GIT_SSL_NO_VERIFY").is_some() {
            output.say(&messages::git_unverified())?;
        }
        if request.proactive_auth && request.remote_base.is_none() {
            output.say(&messages::proactive_auth_everywhere())?;
        }
        self.configuration.write(request, output)?;
        if let Some(directory) = &request.safe_directory {
            self.make_safe(directory, output)?;
        }
        if request.strategy == GitStrategy::Clone {
            remove_directory(self.project_dir)?;
        }
        let before = Before {
            is_new: fs::read_dir(self.project_dir)
                .map_or(true, |mut entries| entries.next().is_none()),
            had_remote: request.strategy == GitStrategy::Fetch
                && request.old_config == OldGitConfig::DroppedBefore
                && is_directory(&repository)
                && has_remote(&config),
        };
        if request.native_clone && self.git_is_new_enough() {
            self.clone(output)?;
        } else {
            let is_fresh = self.init(before, output)?;
            self.fetch(is_fresh && before.is_new, output)?;
        }
        if request.checkout {
            self.check_out(before, environment, output)?;
        } else {
            output.say(&messages::skipping_checkout())?;
        }
        self.set_up_submodules(before, environment, output)
    }

    /// Has Git work there whoever owns it.
    fn make_safe(&self, directory: &str, output: &mut Output<'_>) -> Result<(), HelperError> {
        const KEY: &str = "safe.directory";
        let git = Git {
            directory: self.temporary_dir,
            ..self.git()
        };
        let add = ["config", "--global", "--add", KEY, directory];
        for _ in 0..LOCKED_TRIES {
            let known = git.read(&["config", "--global", "--get-all", KEY]);
            let known = known.unwrap_or_default();
            let mut known = known.split(|byte| *byte == b'\n');
            if known.any(|known| known == directory.as_bytes()) || git.read(&add).is_some() {
                return Ok(());
            }
            // Another job of the same user has the file locked.
            thread::sleep(LOCKED_PAUSE);
        }
        git.run(output, &add)
    }

    fn git(&self) -> Git<'_> {
        Git {
            directory: self.project_dir,
            external_config: Some(&self.configuration.external_config),
            ca_bundle: self.ca_bundle.as_deref(),
        }
    }

    /// Makes or reuses the repository; whether its remote is new.
    fn init(&self, before: Before, output: &mut Output<'_>) -> Result<bool, HelperError> {
        let request = self.request;
        output.say(&messages::fetching_changes(request.depth))?;
        fs::create_dir_all(self.project_dir).map_err(HelperError::io(self.project_dir))?;
        let template = self.template();
        let mut arguments = vec!["init", request.project_dir.as_str(), template.as_str()];
        if !matches!(request.object_format.as_str(), "" | "sha1") {
            arguments.extend(["--object-format", &request.object_format]);
        }
        self.git().run(output, &arguments)?;

        let config = self.project_dir.join(".git/config");
        let text = fs::read_to_string(&config).map_err(HelperError::io(&config))?;
        let include = self.configuration.include()?;
        match remote(&text, &request.remote_url, include) {
            Remote::Missing => {
                let mut section = GitConfig::default();
                let mut values = vec![
                    ("url", request.remote_url.as_str()),
                    ("fetch", "+refs/heads/*:refs/remotes/origin/*"),
                ];
                if is_partial(&self.project_dir.join(".git")) {
                    values.push(("promisor", "true"));
                }
                section.section("remote", "origin", &values)?;
                fs::OpenOptions::new()
                    .append(true)
                    .open(&config)
                    .and_then(|mut file| file.write_all(section.text().as_bytes()))
                    .map_err(HelperError::io(&config))?;
                if !before.had_remote {
                    output.say(&messages::created_fresh_repository())?;
                }
                Ok(true)
            }
            Remote::AsWanted => Ok(false),
            Remote::Other => {
                let git = self.git();
                git.run(
                    output,
                    &["remote", "set-url", "origin", &request.remote_url],
                )?;
                let old = r"\.gitlab-runner\.ext\.conf$";
                let include = ["config", "--replace-all", "include.path", include, old];
                git.run(output, &include)?;
                Ok(false)
            }
        }
    }

    fn fetch(&self, is_new: bool, output: &mut Output<'_>) -> Result<(), HelperError> {
        let request = self.request;
        let depth = request.depth.to_string();
        let mut arguments = self.to_the_server();
        if is_new {
            // There is no garbage yet; this saves two processes.
            arguments.extend(["-c", "maintenance.auto=false"]);
        }
        arguments.extend(["fetch", "origin", "--no-recurse-submodules"]);
        arguments.extend(request.refspecs.iter().map(String::as_str));
        if request.depth > 0 {
            arguments.extend(["--depth", depth.as_str()]);
        }
        arguments.extend(request.fetch_flags.iter().map(String::as_str));
        self.git().run_listening(output, &arguments)?;
        if request.depth <= 0 && self.project_dir.join(".git/shallow").exists() {
            arguments.push("--unshallow");
            self.git().run(output, &arguments)?;
        }
        Ok(())
    }

    fn git_is_new_enough(&self) -> bool {
        let git = Git {
            directory: self.temporary_dir,
            ..self.git()
        };
        let version = git.read(&["version"]).unwrap_or_default();
        is_at_least(&String::from_utf8_lossy(&version), NATIVE_CLONE)
    }

    /// `git clone` in place of `init` and `fetch`: refspecs and `GIT_FETCH_EXTRA_FLAGS` don't count.
    fn clone(&self, output: &mut Output<'_>) -> Result<(), HelperError> {
        let request = self.request;
        let (major, minor) = NATIVE_CLONE;
        output.say(&messages::git_is_new_enough(&format!("{major}.{minor}")))?;
        output.say(&messages::cloning_repository(
            &request.ref_name,
            request.depth,
        ))?;
        let (template, depth) = (self.template(), request.depth.to_string());
        let mut arguments = self.to_the_server();
        arguments.extend(["clone", "--no-checkout", &request.remote_url]);
        arguments.extend([request.project_dir.as_str(), template.as_str()]);
        if request.depth > 0 {
            arguments.extend(["--depth", depth.as_str()]);
        }
        if request.ref_name.starts_with("refs/") {
            arguments.extend(["--revision", &request.ref_name]);
        } else if !request.ref_name.is_empty() {
            arguments.extend(["--branch", &request.ref_name]);
        }
        arguments.extend(request.clone_flags.iter().map(String::as_str));
        let git = Git {
            directory: self.temporary_dir,
            ..self.git()
        };
        git.run_listening(output, &arguments)
    }

    fn template(&self) -> String {
        format!("--template={}", self.configuration.template_dir.display())
    }

    /// Options before a command that talks to the server.
    fn to_the_server(&self) -> Vec<&str> {
        let mut options = vec!["-c", self.agent.as_str()];
        if let Some(authentication) = &self.authentication {
            options.extend(["-c", authentication]);
        }
        options
    }

    fn check_out(
        &self,
        before: Before,
        environment: &HelperEnvironment,
        output: &mut Output<'_>,
    ) -> Result<(), HelperError> {
        let request = self.request;
        output.say(&messages::checking_out(&request.sha, &request.ref_name))?;
        let git = self.git();
        let mut checkout = vec!["-c", "submodule.recurse=false"];
        if let Some(authentication) = &self.authentication {
            checkout.extend(["-c", authentication]);
        }
        checkout.extend(["checkout", "-f", "-q", &request.sha]);
        git.run(output, &checkout)?;
        if !before.is_new && request.old_config != OldGitConfig::Kept {
            let tracked = Tracked::read(&git)?;
            if tracked.has_blind_spots {
                remove_file(&self.project_dir.join(".git/index"))?;
                git.run(output, &checkout)?;
            }
            tracked.remove_repositories(self.project_dir)?;
        }
        if !before.is_new && !request.clean_flags.is_empty() {
            let mut arguments = vec!["clean"];
            arguments.extend(request.clean_flags.iter().map(String::as_str));
            git.run(output, &arguments)?;
        }
        if !request.lfs_skip_smudge && has_lfs(&environment.variables) {
            if may_use_lfs(self.project_dir) {
                git.run_listening(output, &["lfs", "pull"])?;
            }
            output.say("")?;
        }
        Ok(())
    }

    fn set_up_submodules(
        &self,
        before: Before,
        environment: &HelperEnvironment,
        output: &mut Output<'_>,
    ) -> Result<(), HelperError> {
        let request = self.request;
        let git = self.git();
        let any = may_have_submodules(self.project_dir);
        if any && !before.is_new && request.old_config != OldGitConfig::Kept {
            remove_strangers(&git)?;
        }
        let Some(chosen) = &request.submodules else {
            output.say(&messages::skipping_submodules())?;
            return Ok(());
        };
        let lfs = !request.lfs_skip_smudge && has_lfs(&environment.variables);
        let update = submodules::Update {
            git,
            chosen,
            clean_flags: &request.clean_flags,
            external_config: self.configuration.include()?,
            any,
            is_new: before.is_new,
            lfs,
        };
        update.run(output)
    }
}

/// Whether what `git version` says is that version or a later one.
fn is_at_least(said: &str, wanted: (u32, u32)) -> bool {
    let mut numbers = said
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok());
    numbers
        .next()
        .zip(numbers.next())
        .is_some_and(|found: (u32, u32)| found >= wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        for (said, expected) in [
            ("git version 2.39.5\n", false),
            ("git version 2.49.0", true),
            ("git version 2.50.1 (Apple Git-155)", true),
            ("git version 2.5.0.windows.1", false),
            ("git version 3.0", true),
            ("", false),
        ] {
            assert_eq!(is_at_least(said, NATIVE_CLONE), expected, "{said}");
        }
    }
}
