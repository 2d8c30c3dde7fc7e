//! The variables of the process that decide about trust, and no others.

use std::collections::BTreeMap;
use std::fmt;

/// Suffixes after `BAO_` and `VAULT_` (`runner-tls.md` 8.1).
const OF_SECRETS: [&str; 9] = [
    "CACERT",
    "CACERT_BYTES",
    "CAPATH",
    "CLIENT_CERT",
    "CLIENT_CERT_BYTES",
    "CLIENT_KEY",
    "CLIENT_KEY_BYTES",
    "SKIP_VERIFY",
    "TLS_SERVER_NAME",
];

const OTHERS: [&str; 8] = [
    "DOCKER_API_VERSION",
    "DOCKER_HOST",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
    "HOME",
    "KUBECONFIG",
    "KUBERNETES_SERVICE_HOST",
    "KUBERNETES_SERVICE_PORT",
];

/// Values by name. A private key may be among them: values stay out of `Debug`.
#[derive(Clone, Default)]
pub(super) struct Variables(BTreeMap<String, String>);

impl Variables {
    pub(super) fn collect<'a>(all: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let counts = |name: &str| {
            let suffix = name
                .strip_prefix("BAO_")
                .or_else(|| name.strip_prefix("VAULT_"));
            OTHERS.contains(&name) || suffix.is_some_and(|suffix| OF_SECRETS.contains(&suffix))
        };
        let kept = all.into_iter().filter(|(name, _)| counts(name));
        Self(
            kept.map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }

    /// A value that is not empty.
    pub(super) fn set(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// `BAO_<suffix>`, also where it is empty, else `VAULT_<suffix>`: the name that counts and its value.
    pub(super) fn of_secrets(&self, suffix: &str) -> Option<(String, &str)> {
        ["BAO_", "VAULT_"].into_iter().find_map(|prefix| {
            let name = format!("{prefix}{suffix}");
            let value = self.0.get(&name)?.as_str();
            Some((name, value))
        })
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}
