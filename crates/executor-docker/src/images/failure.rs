//! Why a pull failed: whose fault it is (`executor-docker.md` 9.4), and what to do where.

use bollard::models::SystemInfo;
use courser_protocol::FailureReason;
use courser_trust::Remedy;

use super::credentials::Logins;
use super::reference::{DOCKER_HUB, Reference, is_host};
use crate::engine::EngineError;

/// One policy that gave no image.
#[derive(Debug)]
pub(super) struct PullError {
    pub(super) message: String,
    pub(super) reason: Option<FailureReason>,
    pub(super) remedy: Option<Remedy>,
}

/// Phrases of Engines and registries, in lower case. The first list that has one decides.
const OF_THE_NETWORK: [&str; 8] = [
    "dial tcp",
    "connection refused",
    "no such host",
    "i/o timeout",
    "tls handshake",
    "client.timeout exceeded",
    "request canceled",
    "connection reset",
];
const NOT_FOUND: [&str; 2] = ["not found", "manifest unknown"];
const DENIED: [&str; 6] = [
    "pull access denied",
    "access to the resource is denied",
    "no basic auth credentials",
    "repository does not exist or may require",
    "unauthorized",
    "authentication required",
];

/// Where the Engine runs that pulls.
pub(super) struct Place {
    /// On this machine, as far as its address tells.
    local: bool,
    /// Its host's name.
    host: Option<String>,
    rootless: bool,
}

impl PullError {
    /// Nobody is to blame: preparation is tried again.
    pub(super) fn of_nobody(message: String) -> Self {
        Self {
            message,
            reason: None,
            remedy: None,
        }
    }

    /// A name that is none, or something else that the job or the configuration says.
    pub(super) fn of_name(message: String) -> Self {
        Self {
            reason: Some(FailureReason::RunnerConfigurationError),
            ..Self::of_nobody(message)
        }
    }

    pub(super) fn of_pull(error: &EngineError) -> Self {
        let message = error.to_string();
        Self {
            reason: Some(reason(&message)),
            ..Self::of_nobody(message)
        }
    }

    /// Whether the next attempt may not meet it.
    pub(super) fn is_passing(&self) -> bool {
        self.reason == Some(FailureReason::RunnerExternalDependencyFailure)
    }

    /// With a remedy, where there is one. `used` is the source of the login that was shown to the registry.
    pub(super) fn explained(
        mut self,
        reference: &Reference,
        used: Option<&str>,
        logins: &Logins,
        place: &Place,
    ) -> Self {
        let lower = self.message.to_lowercase();
        let registry = reference.registry();
        self.remedy = if lower.contains("x509:") {
            Some(of_certificate(&self.message, registry, place))
        } else if contains_any(&lower, &DENIED) {
            Some(of_login(registry, reference.repository(), used, logins))
        } else {
            EngineError::Stream(lower).remedy().map(Remedy::advice)
        };
        self
    }
}

impl From<EngineError> for PullError {
    /// Of an inspection.
    fn from(error: EngineError) -> Self {
        Self::of_nobody(error.to_string())
    }
}

pub(super) fn reason(message: &str) -> FailureReason {
    let lower = message.to_lowercase();
    if contains_any(&lower, &OF_THE_NETWORK) {
        FailureReason::RunnerExternalDependencyFailure
    } else if contains_any(&lower, &NOT_FOUND) || contains_any(&lower, &DENIED) {
        FailureReason::RunnerConfigurationError
    } else {
        FailureReason::ImagePullFailure
    }
}

fn contains_any(lower: &str, phrases: &[&str]) -> bool {
    phrases.iter().any(|phrase| lower.contains(phrase))
}

/// The Engine does not trust the registry: which file is missing on which host, and what creates it.
pub(super) fn of_certificate(message: &str, registry: &str, place: &Place) -> Remedy {
    let asked = asked_host(message).unwrap_or(registry);
    let engine = place.shown();
    if !message.contains("unknown authority") {
        return Remedy::advice(format!(
            "the certificate of the registry {asked} is at fault, not the trust of {engine}; this tells more"
        ))
        .with_command(format!("courser trust check https://{asked}"));
    }
    let privilege = if place.rootless { "" } else { "sudo " };
    if registry == DOCKER_HUB {
        // The Engine reads no certs.d for Docker Hub.
        return Remedy::advice(format!(
            "{engine} does not trust what answers for {asked}, a proxy that replaces certificates most likely; this, typed \
             on its host, has it trusted"
        ))
        .with_command(format!(
            "sudo courser trust fetch {asked} --to /usr/local/share/ca-certificates/{}.crt && sudo \
             update-ca-certificates && sudo systemctl restart docker",
            asked.replace(':', "_")
        ));
    }
    let directory = if place.rootless {
        "~/.config/docker/certs.d"
    } else {
        "/etc/docker/certs.d"
    };
    let file = format!("{directory}/{registry}/ca.crt");
    Remedy::advice(format!(
        "{engine} does not trust the registry {registry}: on its host {file} is missing, or holds another CA than the one \
         that issued the certificate of {asked}; copy the CA's file there, or have it made by this, which shows what it is \
         first (no restart is needed)"
    ))
    .with_command(format!(
        "{privilege}mkdir -p {directory}/{registry} && {privilege}courser trust fetch {asked} --to {file}"
    ))
}

/// Advice, and the command in a line of its own.
pub(super) fn in_a_log(remedy: &Remedy) -> String {
    match &remedy.command {
        Some(command) => format!("{}:\n  $ {command}", remedy.advice),
        None => remedy.advice.clone(),
    }
}

/// Host and port in Go's `Get "https://host:port/v2/": …`. The registry may have written the text, and the host becomes
/// part of a command: anything else is nobody's name.
fn asked_host(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("\"https://")?;
    let host = rest.split(['/', '"']).next()?;
    is_host(host).then_some(host)
}

fn of_login(registry: &str, repository: &str, used: Option<&str>, logins: &Logins) -> Remedy {
    if let Some(used) = used {
        return Remedy::advice(format!(
            "the registry {registry} refuses the login of {used} for {repository}, or has no such image: check user and \
             password there, what they may read, and the image's name"
        ));
    }
    let looked_at = match logins.looked_at.as_slice() {
        [] => "no source of logins is there".to_owned(),
        sources => format!("no login for it is in {}", sources.join(", ")),
    };
    Remedy::advice(format!(
        "the registry {registry} wants a login, or has no such image; {looked_at}. Put one into the variable \
         DOCKER_AUTH_CONFIG of the project: {{\"auths\": {{\"{registry}\": {{\"auth\": \"…\"}}}}}}, where … is what \
         `printf USER:PASSWORD | base64` prints"
    ))
}

impl Place {
    /// `host` as configured, `info` what the Engine tells of itself.
    pub(super) fn of(host: &str, info: Option<&SystemInfo>) -> Self {
        let options = info.and_then(|info| info.security_options.as_deref());
        let rootless = options.unwrap_or_default();
        Self {
            local: host.starts_with("unix://"),
            host: info.and_then(|info| info.name.clone()),
            rootless: rootless.iter().any(|option| option.contains("rootless")),
        }
    }

    fn shown(&self) -> String {
        let host = self.host.as_deref().unwrap_or("an unnamed host");
        let here = if self.local {
            " (its socket is on this machine)"
        } else {
            ""
        };
        format!("the Docker Engine on {host}{here}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_phrase_decides_whose_fault_it_is() {
        use FailureReason::{
            ImagePullFailure, RunnerConfigurationError, RunnerExternalDependencyFailure,
        };
        let table = [
            (
                "Get \"https://reg.tld/v2/\": dial tcp: lookup reg.tld: no such host",
                RunnerExternalDependencyFailure,
            ),
            (
                "net/http: TLS handshake timeout",
                RunnerExternalDependencyFailure,
            ),
            (
                "dial tcp 1.2.3.4:443: not found",
                RunnerExternalDependencyFailure,
            ),
            (
                "manifest for x:1 not found: manifest unknown: manifest unknown",
                RunnerConfigurationError,
            ),
            ("Pull Access Denied for x", RunnerConfigurationError),
            (
                "Head \"https://r/v2/x/manifests/1\": no basic auth credentials",
                RunnerConfigurationError,
            ),
            (
                "Get \"https://r/v2/\": x509: certificate signed by unknown authority",
                ImagePullFailure,
            ),
            ("toomanyrequests: slow down", ImagePullFailure),
        ];
        for (message, expected) in table {
            assert_eq!(reason(message), expected, "{message}");
        }
    }

    #[test]
    fn a_registry_writes_no_commands() {
        let hosts = [
            "a;reboot",
            "$(reboot)",
            "`reboot`",
            "a b",
            "a&b",
            "a\nb",
            "--to=x",
            "a:1;b",
            "[::1];b",
            "",
        ];
        for host in hosts {
            for why in ["signed by unknown authority", "has expired"] {
                for registry in ["reg.tld", DOCKER_HUB] {
                    let message = format!("Get \"https://{host}/v2/\": x509: certificate {why}");
                    let place = Place::of("unix:///x", None);
                    let command = of_certificate(&message, registry, &place).command;
                    let command = command.expect("a command");
                    assert!(
                        command.contains(&format!(" {registry}"))
                            || command.contains(&format!("https://{registry}")),
                        "{command}"
                    );
                    assert!(host.is_empty() || !command.contains(host), "{command}");
                }
            }
        }
        for host in ["auth.tld:8443", "10.0.0.1", "[::1]:5000"] {
            let message = format!("Get \"https://{host}/v2/\": x509: …");
            assert_eq!(asked_host(&message), Some(host));
        }
    }

    #[test]
    fn a_missing_ca_file_is_named_with_its_host_and_a_command() {
        let place = |host: &str, rootless: &[&str]| {
            let info = SystemInfo {
                name: Some("builder7".to_owned()),
                security_options: Some(rootless.iter().map(ToString::to_string).collect()),
                ..SystemInfo::default()
            };
            Place::of(host, Some(&info))
        };
        let message =
            "Get \"https://auth.tld:8443/token?x\": x509: certificate signed by unknown authority";
        let told = |message: &str, registry: &str, place: &Place| {
            in_a_log(&of_certificate(message, registry, place))
        };
        let text = told(message, "reg.tld:5000", &place("tcp://builder7:2376", &[]));
        let command = "$ sudo mkdir -p /etc/docker/certs.d/reg.tld:5000 && sudo courser trust fetch auth.tld:8443 --to \
                       /etc/docker/certs.d/reg.tld:5000/ca.crt";
        assert!(text.ends_with(command), "{text}");
        assert!(
            text.contains("the Docker Engine on builder7 does not trust"),
            "{text}"
        );
        let text = told(message, "reg.tld", &place("unix:///x", &["name=rootless"]));
        assert!(
            text.contains("$ mkdir -p ~/.config/docker/certs.d/reg.tld &&"),
            "{text}"
        );
        let text = told(message, DOCKER_HUB, &place("unix:///x", &[]));
        assert!(
            text.contains("update-ca-certificates") && !text.contains("certs.d/"),
            "{text}"
        );
        let expired =
            "Get \"https://reg.tld/v2/\": x509: certificate has expired or is not yet valid";
        let text = told(expired, "reg.tld", &place("unix:///x", &[]));
        assert!(
            text.ends_with("$ courser trust check https://reg.tld"),
            "{text}"
        );
    }
}
