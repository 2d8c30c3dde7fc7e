//! `host` of `[runners.docker]` and `DOCKER_HOST`.

use std::path::PathBuf;

use url::Url;

use super::EngineSetupError;
use crate::client::without_brackets;
use crate::fault::Endpoint;

/// Ports of an Engine, as the Docker client assumes them.
const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

/// Where an Engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// A socket in the file system.
    Unix(PathBuf),
    /// `tcp://host:port/base`.
    Network {
        host: String,
        port: u16,
        /// `host:port`, IPv6 in brackets.
        authority: String,
        /// Goes before each path, without a slash at its end.
        base: String,
    },
}

impl Address {
    /// `secure`: `tls_verify` is on.
    pub(super) fn parse(host: &str, secure: bool) -> Result<Self, EngineSetupError> {
        let wrong = |reason: &str| EngineSetupError::Host {
            host: without_user(host),
            reason: reason.to_owned(),
        };
        let unsupported = |instead: &str| EngineSetupError::Unsupported {
            host: without_user(host),
            instead: instead.to_owned(),
        };
        let (scheme, rest) = host
            .split_once("://")
            .ok_or_else(|| wrong("it has no scheme, write unix:///PATH or tcp://HOST:PORT"))?;
        match scheme {
            "unix" if !cfg!(unix) => Err(unsupported(
                "this system has no Unix sockets for it; use tcp://",
            )),
            "unix" if rest.is_empty() => Err(wrong("the path of the socket is missing")),
            "unix" => Ok(Self::Unix(rest.into())),
            "https" if !secure => Err(wrong("https:// needs tls_verify = true and tls_cert_path")),
            "tcp" | "http" | "https" => {
                Self::network(rest, secure).ok_or_else(|| wrong("it should read tcp://HOST:PORT"))
            }
            "ssh" => {
                let target = rest.split('/').next().unwrap_or_default();
                // SSH takes a user here and no password.
                let target = match target.rsplit_once('@') {
                    Some((user, target)) => {
                        let user = user.split(':').next().unwrap_or_default();
                        format!("{user}@{target}")
                    }
                    None => target.to_owned(),
                };
                Err(unsupported(&format!(
                    "let SSH forward the socket and use that one: `ssh -nNT -L /run/courser-docker.sock:/var/run/docker.sock \
                     {target}`, then host = \"unix:///run/courser-docker.sock\""
                )))
            }
            "npipe" => Err(unsupported(
                "named pipes of Windows are not built; let the Engine listen on tcp:// with TLS",
            )),
            _ => Err(unsupported("unix:// and tcp:// are")),
        }
    }

    fn network(rest: &str, secure: bool) -> Option<Self> {
        let url = Url::parse(&format!("http://{rest}")).ok()?;
        let named = url.username().is_empty() && url.password().is_none();
        let host = url.host_str().filter(|host| !host.is_empty() && named)?;
        let default = if secure { TLS_PORT } else { PLAIN_PORT };
        // Port 80 is `None` to an http URL, so the text decides.
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let port = match (url.port(), authority.ends_with(":80")) {
            (Some(port), _) => port,
            (None, true) => 80,
            (None, false) => default,
        };
        Some(Self::Network {
            host: without_brackets(host).to_owned(),
            port,
            authority: format!("{host}:{port}"),
            base: url.path().trim_end_matches('/').to_owned(),
        })
    }

    pub(super) fn is_network(&self) -> bool {
        matches!(self, Self::Network { .. })
    }

    /// For texts about failures.
    pub(super) fn endpoint(&self) -> Endpoint {
        match self {
            Self::Unix(path) => Endpoint {
                host: path.display().to_string(),
                ..Endpoint::default()
            },
            Self::Network { host, port, .. } => Endpoint {
                host: host.clone(),
                port: *port,
                proxy: None,
            },
        }
    }
}

/// `host` as it may be shown: user and password are nobody's business.
pub(super) fn without_user(host: &str) -> String {
    let (scheme, rest) = host.split_once("://").unwrap_or(("", host));
    // A password may hold any character, and no host holds an `@`.
    match rest.rsplit_once('@') {
        Some((_, rest)) if scheme.is_empty() => rest.to_owned(),
        Some((_, rest)) if scheme != "unix" => format!("{scheme}://{rest}"),
        _ => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(host: &str, port: u16, base: &str) -> Address {
        Address::Network {
            host: without_brackets(host).to_owned(),
            port,
            authority: format!("{host}:{port}"),
            base: base.to_owned(),
        }
    }

    #[test]
    fn hosts_are_read_as_docker_reads_them() {
        let table = [
            (
                "unix:///run/d.sock",
                false,
                Address::Unix("/run/d.sock".into()),
            ),
            (
                "tcp://d.example:4243",
                false,
                network("d.example", 4243, ""),
            ),
            ("tcp://d.example", false, network("d.example", 2375, "")),
            ("tcp://d.example", true, network("d.example", 2376, "")),
            (
                "tcp://[::1]:2376/a/b/",
                true,
                network("[::1]", 2376, "/a/b"),
            ),
            ("http://d.example:80", false, network("d.example", 80, "")),
            ("https://d.example:443", true, network("d.example", 443, "")),
        ];
        for (host, secure, expected) in table {
            assert_eq!(Address::parse(host, secure).unwrap(), expected, "{host}");
        }
    }

    #[test]
    fn what_is_not_supported_is_told_with_what_to_do() {
        let table = [
            ("docker.example:2375", "no scheme"),
            ("unix://", "path of the socket"),
            ("tcp://", "should read tcp://HOST:PORT"),
            (
                "tcp://me:secret@d:1",
                "docker host `tcp://d:1`: it should read tcp://HOST:PORT",
            ),
            ("tcp://me:sec/secret@d:1", "docker host `tcp://d:1`: it"),
            ("me:secret@d:1", "no scheme"),
            ("ssh://me:secret@d:22", "docker.sock me@d:22`"),
            ("fd://me:secret@d", "`fd://d` is not supported"),
            ("https://d.example:2376", "tls_verify = true"),
            (
                "ssh://me@d.example:22/x",
                "ssh -nNT -L /run/courser-docker.sock:/var/run/docker.sock me@d.example:22`",
            ),
            ("npipe:////./pipe/docker_engine", "named pipes"),
            ("fd://", "unix:// and tcp:// are"),
        ];
        for (host, expected) in table {
            let error = Address::parse(host, false).unwrap_err().to_string();
            assert!(error.contains(expected), "{host}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
