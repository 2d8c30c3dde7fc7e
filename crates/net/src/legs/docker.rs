//! The Docker daemon: only `ca.pem` is trusted, and the environment counts where no host is configured
//! (`runner-tls.md` section 6).

use super::Legs;
use crate::{SystemRoots, TrustSettings};

/// Keys of `[runners.docker]`.
#[derive(Debug, Clone, Copy, Default)]
pub struct DockerOptions<'a> {
    /// `host`. Without it the three values are those of the process environment.
    pub host: &'a str,
    /// `tls_cert_path`: directory of `ca.pem`, `cert.pem` and `key.pem`.
    pub cert_path: &'a str,
    /// `tls_verify`.
    pub verify: bool,
}

/// How the daemon is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerTrust {
    /// `DOCKER_HOST` or the configured one; the platform's socket otherwise.
    pub host: String,
    /// The values are those of the environment.
    pub from_environment: bool,
    /// Absent: no TLS, `tls_verify` is off.
    pub tls: Option<TrustSettings>,
    /// `DOCKER_API_VERSION`, wherever the host comes from. Absent: the version is agreed on.
    pub api_version: Option<String>,
}

const SOCKET: &str = "unix:///var/run/docker.sock";

pub(super) fn resolve(legs: &Legs, options: DockerOptions<'_>) -> DockerTrust {
    let variable = |name| legs.variables.set(name).unwrap_or_default();
    let from_environment = options.host.is_empty();
    let options = if from_environment {
        DockerOptions {
            host: variable("DOCKER_HOST"),
            cert_path: variable("DOCKER_CERT_PATH"),
            verify: is_true(variable("DOCKER_TLS_VERIFY")),
        }
    } else {
        options
    };
    let file = |name: &str| {
        let named = !options.cert_path.is_empty();
        named.then(|| legs.path(options.cert_path).join(name))
    };
    let tls = options.verify.then(|| TrustSettings {
        system: SystemRoots::None,
        ca_file: file("ca.pem"),
        cert_file: file("cert.pem"),
        key_file: file("key.pem"),
        certificate_directory: None,
        inline_ca: None,
    });
    DockerTrust {
        host: match options.host {
            "" => SOCKET.to_owned(),
            host => host.to_owned(),
        },
        from_environment,
        tls,
        api_version: legs.variables.set("DOCKER_API_VERSION").map(str::to_owned),
    }
}

/// Go's `strconv.ParseBool`; anything else is no.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn legs(variables: &[(&str, &str)]) -> Legs {
        let system = SystemRoots::Platform {
            file: None,
            directories: None,
        };
        Legs::new(system, Some("/certs".into()), "/work".into())
            .with_variables(variables.iter().copied())
    }

    #[test]
    fn only_ca_pem_is_trusted() {
        let trust = legs(&[("DOCKER_CERT_PATH", "/ignored")]).docker(DockerOptions {
            host: "tcp://d:2376",
            cert_path: "/tls",
            verify: true,
        });
        assert!(!trust.from_environment);
        let tls = trust.tls.expect("verified");
        assert_eq!(tls.system, SystemRoots::None);
        assert_eq!(tls.ca_file, Some("/tls/ca.pem".into()));
        assert_eq!(tls.key_file, Some("/tls/key.pem".into()));
        assert_eq!(tls.certificate_directory, None);
    }

    #[test]
    fn without_a_host_the_environment_wins_over_the_configured_files() {
        let configured = DockerOptions {
            host: "",
            cert_path: "/configured",
            verify: true,
        };
        let variables = [
            ("DOCKER_HOST", "tcp://e:2376"),
            ("DOCKER_CERT_PATH", "/e"),
            ("DOCKER_TLS_VERIFY", "1"),
        ];
        let trust = legs(&variables).docker(configured);
        assert_eq!(trust.host, "tcp://e:2376");
        assert_eq!(
            trust.tls.and_then(|tls| tls.ca_file),
            Some("/e/ca.pem".into())
        );
        let bare = legs(&[]).docker(configured);
        assert_eq!((bare.host.as_str(), bare.tls), (SOCKET, None));
    }

    #[test]
    fn verification_without_a_path_trusts_nobody() {
        let options = DockerOptions {
            host: "tcp://d:2376",
            cert_path: "",
            verify: true,
        };
        let tls = legs(&[]).docker(options).tls.expect("verified");
        assert_eq!((tls.ca_file, tls.system), (None, SystemRoots::None));
    }
}
