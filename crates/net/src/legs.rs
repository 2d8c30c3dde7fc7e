//! Which trust each connection is handed: the one place that decides it (`runner-tls.md` section 1).
//!
//! In: what the machine, the process and a `[[runners]]` table say, as plain values. Out: the [`TrustSettings`] of each
//! leg, to be dialed with and to be printed (`courser trust show`). Nothing is read from the disk here.

mod docker;
mod kubernetes;
mod look;
mod secrets;
mod variables;

use std::path::{Path, PathBuf};

use crate::{SystemRoots, TrustSettings};

pub use docker::{DockerOptions, DockerTrust};
pub use kubernetes::{KubernetesOptions, KubernetesTrust};
pub use look::{Look, LookedPair, LookedSource, SourceState, Unusable};
pub use secrets::{SecretsPair, SecretsTrust};
use variables::Variables;

/// What every leg starts from.
#[derive(Debug, Clone)]
pub struct Legs {
    system: SystemRoots,
    certificate_directory: Option<PathBuf>,
    working_directory: PathBuf,
    inline_ca: Option<String>,
    variables: Variables,
}

/// The three `tls-*` options of a `[[runners]]` table, or what a job's variables say instead. Empty counts as absent,
/// relative paths start at the working directory.
#[derive(Debug, Clone, Copy, Default)]
pub struct TlsOptions<'a> {
    /// `tls-ca-file`.
    pub ca_file: Option<&'a str>,
    /// `tls-cert-file`.
    pub cert_file: Option<&'a str>,
    /// `tls-key-file`.
    pub key_file: Option<&'a str>,
}

impl Legs {
    /// From the platform's roots and the directory of predefined files.
    pub fn new(
        system: SystemRoots,
        certificate_directory: Option<PathBuf>,
        working_directory: PathBuf,
    ) -> Self {
        Self {
            system,
            certificate_directory,
            working_directory,
            inline_ca: None,
            variables: Variables::default(),
        }
    }

    /// Nothing is trusted but PEM text that we made ourselves (`courser exec`).
    pub fn only(inline_ca: Option<String>, working_directory: PathBuf) -> Self {
        Self {
            inline_ca,
            ..Self::new(SystemRoots::None, None, working_directory)
        }
    }

    /// Takes from the process environment what decides about trust (`VAULT_*`, `BAO_*`, `DOCKER_*`, `KUBE*`).
    #[must_use]
    pub fn with_variables<'a>(
        mut self,
        variables: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        self.variables = Variables::collect(variables);
        self
    }

    /// The platform's roots.
    pub fn system(&self) -> &SystemRoots {
        &self.system
    }

    /// The runner's calls to GitLab's API: the system's roots and `tls-ca-file`, for options that are empty the
    /// predefined files of the host (2.3).
    pub fn gitlab(&self, options: TlsOptions<'_>) -> TrustSettings {
        let path = |given: Option<&str>| {
            given
                .filter(|given| !given.is_empty())
                .map(|given| self.working_directory.join(given))
        };
        TrustSettings {
            system: self.system.clone(),
            ca_file: path(options.ca_file),
            cert_file: path(options.cert_file),
            key_file: path(options.key_file),
            certificate_directory: self.certificate_directory.clone(),
            inline_ca: self.inline_ca.clone(),
        }
    }

    /// Servers of issuer certificates, which the certificates themselves name (3.3): as the system trusts.
    pub fn issuers(&self) -> TrustSettings {
        TrustSettings {
            certificate_directory: None,
            ..self.gitlab(TlsOptions::default())
        }
    }

    /// The job router (KAS): as the API, the predefined files being those of the router's host (10.3).
    pub fn job_router(&self, options: TlsOptions<'_>) -> TrustSettings {
        self.gitlab(options)
    }

    /// Artifacts and caches of a job, redirects to object storage included: the system's roots and the job's own CA
    /// file, with the job's client pair. `options` are the job's (`CI_SERVER_TLS_*`).
    pub fn transfers(&self, options: TlsOptions<'_>) -> TrustSettings {
        self.gitlab(options)
    }

    /// Git in a job: a CA file takes the place of Git's own bundle (4.2); without one the system's roots count.
    /// `options` are the job's (`CI_SERVER_TLS_*`).
    pub fn git(&self, options: TlsOptions<'_>) -> TrustSettings {
        let mut trust = self.gitlab(options);
        trust.certificate_directory = None;
        if trust.ca_file.is_some() {
            trust.system = SystemRoots::None;
        }
        trust
    }

    /// What the runner itself asks of a cache's provider (signatures, roles): as the API, but nobody else's server is
    /// shown the client certificate.
    pub fn cache_provider(&self, options: TlsOptions<'_>) -> TrustSettings {
        TrustSettings {
            cert_file: None,
            key_file: None,
            certificate_directory: None,
            ..self.gitlab(options)
        }
    }

    /// The Docker daemon (section 6): `ca.pem` and nothing else.
    pub fn docker(&self, options: DockerOptions<'_>) -> DockerTrust {
        docker::resolve(self, options)
    }

    /// The Kubernetes API (section 7).
    pub fn kubernetes(&self, options: KubernetesOptions<'_>) -> KubernetesTrust {
        kubernetes::resolve(self, options)
    }

    /// Vault and OpenBao (8.1).
    pub fn secrets(&self) -> SecretsTrust {
        secrets::resolve(self)
    }

    fn path(&self, given: impl AsRef<Path>) -> PathBuf {
        self.working_directory.join(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn legs() -> Legs {
        let system = SystemRoots::Platform {
            file: None,
            directories: None,
        };
        Legs::new(system, Some("/certs".into()), "/work".into())
    }

    #[test]
    fn the_api_has_the_system_the_options_and_the_predefined_files() {
        let trust = legs().gitlab(TlsOptions {
            ca_file: Some("ca.crt"),
            cert_file: Some("/abs/own.crt"),
            key_file: Some(""),
        });
        assert_eq!(trust.ca_file, Some("/work/ca.crt".into()));
        assert_eq!(trust.cert_file, Some("/abs/own.crt".into()));
        assert_eq!(trust.key_file, None);
        assert_eq!(trust.certificate_directory, Some("/certs".into()));
        assert_ne!(trust.system, SystemRoots::None);
    }

    #[test]
    fn a_cache_provider_is_trusted_like_gitlab_and_not_shown_who_we_are() {
        let options = TlsOptions {
            ca_file: Some("/ca"),
            cert_file: Some("/crt"),
            key_file: Some("/key"),
        };
        let trust = legs().cache_provider(options);
        assert_eq!(trust.ca_file, Some("/ca".into()));
        assert_eq!((trust.cert_file, trust.key_file), (None, None));
    }

    #[test]
    fn what_exec_starts_trusts_its_own_root_only() {
        let trust = Legs::only(Some("PEM".into()), "/work".into()).gitlab(TlsOptions::default());
        assert_eq!(trust.system, SystemRoots::None);
        assert_eq!(trust.inline_ca.as_deref(), Some("PEM"));
        assert_eq!(trust.certificate_directory, None);
    }
}
