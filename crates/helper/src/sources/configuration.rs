//! Configuration that the sources of a job bring with them: template, external file, global file
//! (`runner-build-lifecycle.md` 2.3 B, 2.6, 2.7).

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use courser_config::Environment;
use courser_job::helper_request::GetSources;
use courser_job::messages;

use super::credentials;
use crate::git_config::GitConfig;
use crate::leftovers::{remove_directory, remove_file};
use crate::output::Output;
use crate::{HelperEnvironment, HelperError, platform};

/// Template directory, below the temporary one.
const TEMPLATE: &str = "git-template";

/// CA certificates of the server and of the environment, below the temporary directory.
pub(crate) const CA_BUNDLE: &str = "git-ca-bundle.pem";

/// Configuration that leads to the credentials, below the temporary directory.
pub(crate) const EXTERNAL_CONFIG: &str = ".gitlab-runner.ext.conf";

/// Git's global configuration (`FF_GIT_URLS_WITHOUT_TOKENS`), below the temporary directory.
pub(crate) const GLOBAL_CONFIG: &str = ".glr.gconf";

/// Answers for the host it is configured for, from the environment: nothing secret is in a file.
const CREDENTIAL_HELPER: &str =
    "!f() { if [ \"$1\" = get ]; then echo \"password=${CI_JOB_TOKEN}\"; fi; }; f";

/// Files that one job's Git reads beside the repository's own.
pub(super) struct Configuration {
    pub(super) template_dir: PathBuf,
    pub(super) external_config: PathBuf,
    temporary_dir: PathBuf,
}

impl Configuration {
    pub(super) fn below(temporary_dir: &Path) -> Self {
        Self {
            template_dir: temporary_dir.join(TEMPLATE),
            external_config: temporary_dir.join(EXTERNAL_CONFIG),
            temporary_dir: temporary_dir.to_owned(),
        }
    }

    /// Writes template and external configuration.
    pub(super) fn write(
        &self,
        request: &GetSources,
        output: &mut Output<'_>,
    ) -> Result<(), HelperError> {
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
        credentials::write(request, &self.temporary_dir, &mut external)?;
        add_credential_helper(request, &mut external)?;
        write_private(&self.external_config, external.text())?;

        let mut template = GitConfig::default();
        template.section("init", "", &[("defaultBranch", "none")])?;
        template.section("fetch", "", &[("recurseSubmodules", "false")])?;
        template.section("credential", "", &[("interactive", "never")])?;
        template.section("gc", "", &[("autoDetach", "false")])?;
        template.section("include", "", &[("path", self.include()?)])?;
        write_private(&self.template_dir.join("config"), template.text())
    }

    /// For strategies without a repository: the job's own Git gets credentials, and none of an earlier job's.
    pub(super) fn write_without_repository(&self, request: &GetSources) -> Result<(), HelperError> {
        remove_file(&self.external_config)?;
        if request.credential_helper_for.is_none() {
            return Ok(());
        }
        let mut external = GitConfig::default();
        add_credential_helper(request, &mut external)?;
        write_private(&self.external_config, external.text())
    }

    /// Path of the external file, as a value.
    pub(super) fn include(&self) -> Result<&str, HelperError> {
        text(&self.external_config)
    }
}

fn add_credential_helper(
    request: &GetSources,
    external: &mut GitConfig,
) -> Result<(), HelperError> {
    let Some(base) = &request.credential_helper_for else {
        return Ok(());
    };
    let values = [
        // Helpers that others configured are left out.
        ("helper", ""),
        ("helper", CREDENTIAL_HELPER),
        ("username", "gitlab-ci-token"),
    ];
    external.section("credential", base, &values)
}

pub(super) fn text(path: &Path) -> Result<&str, HelperError> {
    path.to_str()
        .ok_or_else(|| HelperError::Request("the builds directory is no UTF-8".to_owned()))
}

/// The job's global configuration: the user's, as far as it can be read now, and the external file.
pub(crate) fn write_global_config(
    temporary_dir: &str,
    variables: &Environment,
) -> Result<(), HelperError> {
    let temporary_dir = Path::new(temporary_dir);
    make_private_directory(temporary_dir)?;
    let mut config = GitConfig::default();
    if let Some(home) = variables.get("HOME").filter(|home| !home.is_empty()) {
        for name in [".gitconfig", ".config/git/config"] {
            let file = Path::new(home).join(name);
            if fs::File::open(&file).is_ok_and(|file| file.metadata().is_ok_and(|of| of.is_file()))
            {
                config.section("include", "", &[("path", text(&file)?)])?;
            }
        }
    }
    let external = temporary_dir.join(EXTERNAL_CONFIG);
    config.section("include", "", &[("path", text(&external)?)])?;
    write_private(&temporary_dir.join(GLOBAL_CONFIG), config.text())
}

/// Forgets what a repository is made from.
pub(crate) fn remove_template(temporary_dir: &Path) -> Result<(), HelperError> {
    let template = temporary_dir.join(TEMPLATE);
    remove_file(&template.join("config"))?;
    remove_directory(&template.join("hooks"))
}

/// Git lets `GIT_SSL_CAINFO` win over the configuration of a host (`runner-tls.md` 4.2), so that a
/// machine which sets it for everything could not fetch from a server with a CA of its own. Where both
/// are there, Git is given both.
pub(super) fn ca_bundle(
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
    make_private_directory(Path::new(&request.temporary_dir))?;
    let path = Path::new(&request.temporary_dir).join(CA_BUNDLE);
    write_private(&path, &bundle)?;
    Ok(Some(path))
}

/// `mkdir -p` with directories nobody else can look into.
pub(crate) fn make_private_directory(path: &Path) -> Result<(), HelperError> {
    platform::private_directories()
        .create(path)
        .map_err(HelperError::io(path))
}

/// A new file that only the user can read, in place of an old one.
pub(super) fn write_private(path: &Path, text: &str) -> Result<(), HelperError> {
    remove_file(path)?;
    platform::new_file(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(HelperError::io(path))
}
