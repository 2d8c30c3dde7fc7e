//! Vault and OpenBao: what the runner's own environment says (`runner-tls.md` 8.1). A job's variables have no say.

use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;

use super::Legs;
use crate::TrustSettings;

/// How secret servers are trusted.
#[derive(Debug, Clone)]
pub struct SecretsTrust {
    /// The system's roots, `CACERT` as file and `CACERT_BYTES` as text; a client pair out of files.
    pub trust: TrustSettings,
    /// `CAPATH`: every PEM file in it is trusted too.
    pub ca_directory: Option<PathBuf>,
    /// Who we are there.
    pub pair: Option<SecretsPair>,
    /// `TLS_SERVER_NAME`: the name the server's certificate must have instead of the URL's.
    pub server_name: Option<String>,
    /// `SKIP_VERIFY` asks for no verification at all.
    pub skip_verify: bool,
    /// The variables that decided, empty ones included.
    pub decided_by: Vec<String>,
}

/// A client certificate and its key, each a file or text.
#[derive(Clone)]
pub enum SecretsPair {
    /// `CLIENT_CERT` and `CLIENT_KEY`; also in the settings.
    Files(PathBuf, PathBuf),
    /// `CLIENT_CERT_BYTES` and `CLIENT_KEY_BYTES`.
    Text(String, SecretString),
}

impl fmt::Debug for SecretsPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(certificate, key) => f
                .debug_tuple("Files")
                .field(certificate)
                .field(key)
                .finish(),
            Self::Text(..) => f.write_str("Text"),
        }
    }
}

pub(super) fn resolve(legs: &Legs) -> SecretsTrust {
    let mut decided_by = Vec::new();
    let mut take = |suffix: &str| {
        let (name, value) = legs.variables.of_secrets(suffix)?;
        decided_by.push(name);
        (!value.is_empty()).then(|| value.to_owned())
    };
    let ca_file = take("CACERT").map(|path| legs.path(path));
    let inline_ca = take("CACERT_BYTES");
    let ca_directory = take("CAPATH").map(|path| legs.path(path));
    let files = take("CLIENT_CERT").zip(take("CLIENT_KEY"));
    let text = take("CLIENT_CERT_BYTES").zip(take("CLIENT_KEY_BYTES"));
    let server_name = take("TLS_SERVER_NAME");
    let skip_verify = take("SKIP_VERIFY")
        .is_some_and(|text| matches!(text.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"));
    let pair = match (files, text) {
        (Some((certificate, key)), _) => {
            Some(SecretsPair::Files(legs.path(certificate), legs.path(key)))
        }
        (None, Some((certificate, key))) => Some(SecretsPair::Text(certificate, key.into())),
        (None, None) => None,
    };
    let (cert_file, key_file) = match &pair {
        Some(SecretsPair::Files(certificate, key)) => {
            (Some(certificate.clone()), Some(key.clone()))
        }
        _ => (None, None),
    };
    SecretsTrust {
        trust: TrustSettings {
            system: legs.system.clone(),
            ca_file,
            cert_file,
            key_file,
            certificate_directory: None,
            inline_ca,
        },
        ca_directory,
        pair,
        server_name,
        skip_verify,
        decided_by,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemRoots;

    fn resolved(variables: &[(&str, &str)]) -> SecretsTrust {
        let system = SystemRoots::Platform {
            file: None,
            directories: None,
        };
        Legs::new(system, Some("/certs".into()), "/work".into())
            .with_variables(variables.iter().copied())
            .secrets()
    }

    #[test]
    fn bao_beats_vault_even_when_it_is_empty() {
        let trust = resolved(&[
            ("VAULT_CACERT", "/vault.crt"),
            ("BAO_CAPATH", "bao"),
            ("VAULT_CAPATH", "/vault"),
        ]);
        assert_eq!(trust.trust.ca_file, Some("/vault.crt".into()));
        assert_eq!(trust.ca_directory, Some("/work/bao".into()));
        assert_eq!(trust.trust.certificate_directory, None);
        let trust = resolved(&[("VAULT_CACERT", "/vault.crt"), ("BAO_CACERT", "")]);
        assert_eq!(trust.trust.ca_file, None);
        assert_eq!(trust.decided_by, ["BAO_CACERT"]);
    }

    #[test]
    fn a_client_pair_needs_both_halves_and_its_key_is_not_shown() {
        assert!(resolved(&[("VAULT_CLIENT_CERT", "/c")]).pair.is_none());
        let files = resolved(&[("VAULT_CLIENT_CERT", "/c"), ("BAO_CLIENT_KEY", "/k")]);
        assert_eq!(files.trust.cert_file, Some("/c".into()));
        let text = resolved(&[
            ("VAULT_CLIENT_CERT_BYTES", "CERT"),
            ("VAULT_CLIENT_KEY_BYTES", "s3cr"),
        ]);
        assert!(matches!(text.pair, Some(SecretsPair::Text(..))));
        assert!(!format!("{text:?}").contains("s3cr"));
    }

    #[test]
    fn debug_of_the_resolver_shows_no_values() {
        let legs = Legs::only(None, "/work".into())
            .with_variables([("VAULT_CLIENT_KEY_BYTES", "s3cr"), ("VAULT_TOKEN", "s3cr")]);
        let shown = format!("{legs:?}");
        assert!(shown.contains("VAULT_CLIENT_KEY_BYTES"), "{shown}");
        assert!(
            !shown.contains("s3cr") && !shown.contains("VAULT_TOKEN"),
            "{shown}"
        );
    }
}
