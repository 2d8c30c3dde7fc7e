//! Git sources (`runner-build-lifecycle.md` 2.2 to 2.8).
//!
//! What upstream's script does in a dozen Git processes takes three here for a fresh clone (`init`,
//! `fetch`, `checkout`): configuration files are written directly, and steps that can change nothing
//! (cleaning a new tree, collecting its garbage, asking LFS about a tree without attributes) are left
//! out. Log lines stay as users know them. Credentials are in one file outside of the project directory.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use courser_job::helper_request::{GetSources, GitStrategy};
use courser_job::messages;

use crate::cleanup::{remove_directory, remove_file, remove_leftovers};
use crate::git::{Git, has_lfs, may_have_credential_helper, may_use_lfs};
use crate::git_config::{GitConfig, Remote, remote};
use crate::output::Output;
use crate::{HelperEnvironment, HelperError};

/// Template directory, below the temporary one.
pub(crate) const TEMPLATE: &str = "git-template";

/// CA certificates of the server and of the environment, below the temporary directory.
pub(crate) const CA_BUNDLE: &str = "git-ca-bundle.pem";

/// Configuration with credentials, below the temporary directory.
pub(crate) const EXTERNAL_CONFIG: &str = ".gitlab-runner.ext.conf";

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

/// Git lets `GIT_SSL_CAINFO` win over the configuration of a host (`runner-tls.md` 4.2), so that a
/// machine which sets it for everything could not fetch from a server with a CA of its own. Where both
/// are there, Git is given both.
fn ca_bundle(
    request: &GetSources,
    environment: &HelperEnvironment,
) -> Result<Option<PathBuf>, HelperError> {
    let named = environment.variables.get("GIT_SSL_CAINFO");
    let named = named.filter(|path| !path.is_empty());
    let (Some(named), Some(server)) = (named, &request.tls_ca_file) else {
        return Ok(None);
    };
    let mut bundle = fs::read_to_string(server).map_err(HelperError::io(Path::new(server)))?;
    // A file that is not there is left to the server's CA alone.
    if let Ok(others) = fs::read_to_string(named) {
        bundle.push('\n');
        bundle.push_str(&others);
    }
    let path = Path::new(&request.temporary_dir).join(CA_BUNDLE);
    write_private(&path, &bundle)?;
    Ok(Some(path))
}

/// Strategies `clone` and `fetch`.
struct Checkout<'a> {
    request: &'a GetSources,
    project_dir: &'a Path,
    temporary_dir: &'a Path,
    template_dir: PathBuf,
    external_config: PathBuf,
    /// Both CA files in one, where the environment names one and the server has its own.
    ca_bundle: Option<PathBuf>,
}

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
        let temporary_dir = Path::new(&request.temporary_dir);
        Ok(Self {
            request,
            project_dir: Path::new(&request.project_dir),
            temporary_dir,
            template_dir: temporary_dir.join(TEMPLATE),
            external_config: temporary_dir.join(EXTERNAL_CONFIG),
            ca_bundle: ca_bundle(request, environment)?,
        })
    }

    fn run(
        &self,
        environment: &HelperEnvironment,
        output: &mut Output<'_>,
    ) -> Result<(), HelperError> {
        remove_leftovers(
            self.project_dir,
            self.temporary_dir,
            self.request.clean_git_config,
        )?;
        let repository = self.project_dir.join(".git");
        if repository
            .symlink_metadata()
            .is_ok_and(|kind| !kind.is_dir())
        {
            // A link or `gitdir:` file that an earlier job left: Git would work somewhere else.
            remove_file(&repository)?;
        }
        // Any value at all switches it off, "false" too.
        if environment.variables.get("GIT_SSL_NO_VERIFY").is_some() {
            output.say(&messages::git_unverified())?;
        }
        self.write_configuration(output)?;
        if self.request.strategy == GitStrategy::Clone {
            remove_directory(self.project_dir)?;
        }
        // Nothing there before: nothing to clean afterwards.
        let is_new =
            fs::read_dir(self.project_dir).map_or(true, |mut entries| entries.next().is_none());
        let is_fresh = self.init(output)?;
        self.fetch(is_fresh && is_new, output)?;
        if self.request.checkout {
            self.check_out(is_new, environment, output)?;
        } else {
            output.say(&messages::skipping_checkout())?;
        }
        output.say(&messages::skipping_submodules())?;
        Ok(())
    }

    fn git(&self) -> Git<'_> {
        Git {
            directory: self.project_dir,
            external_config: Some(&self.external_config),
            ca_bundle: self.ca_bundle.as_deref(),
        }
    }

    /// Template and external configuration.
    fn write_configuration(&self, output: &mut Output<'_>) -> Result<(), HelperError> {
        let request = self.request;
        // Git copies what lies here; hooks of an earlier job must not run in this one.
        remove_directory(&self.template_dir)?;
        make_private_directory(&self.template_dir)?;
        let mut external = GitConfig::default();
        if !request.correlation_id.is_empty() {
            let header = format!("X-Gitaly-Correlation-ID: {}", request.correlation_id);
            external.section("http", "", &[("extraHeader", &header)])?;
            output.say(&messages::gitaly_correlation_id(&request.correlation_id))?;
        }
        if request.bundle_uris {
            external.section("transfer", "", &[("bundleURI", "true")])?;
        }
        if let Some(base) = &request.tls_base {
            let mut values = Vec::new();
            if let Some(ca) = &request.tls_ca_file {
                values.push(("sslCAInfo", ca.as_str()));
            }
            let no_roots = self.template_dir.display().to_string();
            if request.tls_ca_file_only {
                // A directory without certificates: libcurl reads all of its own default directory
                // before it connects, 150 roots on most machines.
                values.push(("sslCAPath", no_roots.as_str()));
            }
            if let Some((certificate, key)) = &request.tls_client_pair {
                values.extend([("sslCert", certificate.as_str()), ("sslKey", key.as_str())]);
            }
            external.section("http", base, &values)?;
        }
        for (new, old) in &request.instead_of {
            external.section("url", new.expose(), &[("insteadOf", old)])?;
        }
        write_private(&self.external_config, external.text())?;

        let mut template = GitConfig::default();
        template.section("init", "", &[("defaultBranch", "none")])?;
        template.section("fetch", "", &[("recurseSubmodules", "false")])?;
        template.section("credential", "", &[("interactive", "never")])?;
        template.section("gc", "", &[("autoDetach", "false")])?;
        template.section("include", "", &[("path", &self.include()?)])?;
        write_private(&self.template_dir.join("config"), template.text())
    }

    fn include(&self) -> Result<String, HelperError> {
        self.external_config
            .to_str()
            .map(ToOwned::to_owned)
            .ok_or_else(|| HelperError::Request("the builds directory is no UTF-8".to_owned()))
    }

    /// Makes or reuses the repository; whether its remote is new.
    fn init(&self, output: &mut Output<'_>) -> Result<bool, HelperError> {
        let request = self.request;
        output.say(&messages::fetching_changes(request.depth))?;
        fs::create_dir_all(self.project_dir).map_err(HelperError::io(self.project_dir))?;
        let template = format!("--template={}", self.template_dir.display());
        let mut arguments = vec!["init", request.project_dir.as_str(), template.as_str()];
        if !matches!(request.object_format.as_str(), "" | "sha1") {
            arguments.extend(["--object-format", &request.object_format]);
        }
        self.git().run(output, &arguments)?;

        let config = self.project_dir.join(".git/config");
        let text = fs::read_to_string(&config).map_err(HelperError::io(&config))?;
        let include = self.include()?;
        match remote(&text, &request.remote_url, &include) {
            Remote::Missing => {
                let mut section = GitConfig::default();
                section.section(
                    "remote",
                    "origin",
                    &[
                        ("url", &request.remote_url),
                        ("fetch", "+refs/heads/*:refs/remotes/origin/*"),
                    ],
                )?;
                fs::OpenOptions::new()
                    .append(true)
                    .open(&config)
                    .and_then(|mut file| file.write_all(section.text().as_bytes()))
                    .map_err(HelperError::io(&config))?;
                output.say(&messages::created_fresh_repository())?;
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
                let include = ["config", "--replace-all", "include.path", &include, old];
                git.run(output, &include)?;
                Ok(false)
            }
        }
    }

    fn fetch(&self, is_new: bool, output: &mut Output<'_>) -> Result<(), HelperError> {
        let request = self.request;
        let agent = format!("http.userAgent={}", request.user_agent);
        let depth = request.depth.to_string();
        let mut arguments = vec!["-c", agent.as_str()];
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

    fn check_out(
        &self,
        is_new: bool,
        environment: &HelperEnvironment,
        output: &mut Output<'_>,
    ) -> Result<(), HelperError> {
        let request = self.request;
        output.say(&messages::checking_out(&request.sha, &request.ref_name))?;
        let git = self.git();
        let checkout = ["-c", "submodule.recurse=false", "checkout", "-f", "-q"];
        git.run(output, &[&checkout[..], &[&request.sha]].concat())?;
        if !is_new && !request.clean_flags.is_empty() {
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
}

/// `mkdir -p` with directories nobody else can look into.
pub(crate) fn make_private_directory(path: &Path) -> Result<(), HelperError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(HelperError::io(path))
}

/// A new file that only the user can read, in place of an old one.
fn write_private(path: &Path, text: &str) -> Result<(), HelperError> {
    remove_file(path)?;
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(HelperError::io(path))
}
