//! `[runners.secrets]`: Courser's own. What only the operator may say about where a job's secrets come from.
//!
//! Base URLs are checked while the file is loaded ([`fault`]): one that cannot be used must not end in tokens being
//! sent to the provider's usual place.

use std::time::Duration;

use url::{Host, Url};

use crate::setting::Section;

/// Providers of secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretsConfig {
    /// `timeout` of one attempt to get all secrets of a job; default 2 min.
    pub timeout: Duration,
    /// `revoke`: tokens and leases end with the job; default true.
    pub revoke: bool,
    /// `mask_parts`: lines, texts in JSON, quoted and base64 forms of secrets are masked too; default true.
    pub mask_parts: bool,
    /// `servers`: hosts that jobs may name, as URLs write them; without it all but metadata services.
    pub servers: Option<Vec<String>>,
    /// `[runners.secrets.google]`.
    pub google: GoogleConfig,
    /// `[runners.secrets.azure]`.
    pub azure: AzureConfig,
    /// `[runners.secrets.aws]`.
    pub aws: AwsConfig,
}

/// `[runners.secrets.google]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GoogleConfig {
    /// `sts_url`, instead of `https://sts.googleapis.com`.
    pub sts_url: Option<Url>,
    /// `secret_manager_url`, instead of `https://secretmanager.googleapis.com`.
    pub secret_manager_url: Option<Url>,
}

/// `[runners.secrets.azure]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AzureConfig {
    /// `authority_url`, instead of `https://login.microsoftonline.com` and its like.
    pub authority_url: Option<Url>,
    /// `trusted_vaults`: URLs of vaults that get tokens for whatever resource they name, although their host does not
    /// lie below it.
    pub trusted_vaults: Vec<Url>,
}

/// `[runners.secrets.aws]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AwsConfig {
    /// `sts_url`, instead of `https://sts.REGION.amazonaws.com`.
    pub sts_url: Option<Url>,
    /// `secrets_manager_url`, instead of `https://secretsmanager.REGION.amazonaws.com`.
    pub secrets_manager_url: Option<Url>,
    /// `allow_ambient_identity`: a job with neither ID token nor role reads as the runner's machine; default false.
    pub allow_ambient_identity: bool,
}

/// Keys that hold a URL, or several.
const URLS: [(&str, &str); 6] = [
    ("google", "sts_url"),
    ("google", "secret_manager_url"),
    ("azure", "authority_url"),
    ("azure", "trusted_vaults"),
    ("aws", "sts_url"),
    ("aws", "secrets_manager_url"),
];

impl Default for SecretsConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(120),
            revoke: true,
            mask_parts: true,
            servers: None,
            google: GoogleConfig::default(),
            azure: AzureConfig::default(),
            aws: AwsConfig::default(),
        }
    }
}

impl SecretsConfig {
    /// Whether jobs may name a server at this URL, as far as `servers` says.
    pub fn allows(&self, server: &Url) -> bool {
        let Some(allowed) = &self.servers else {
            return true;
        };
        let host = server.host_str().unwrap_or_default();
        let with_port = format!(
            "{host}:{}",
            server.port_or_known_default().unwrap_or_default()
        );
        allowed.iter().any(|entry| {
            let below = |name: &str| {
                let suffix = entry.strip_prefix('*');
                suffix.is_some_and(|suffix| name.len() > suffix.len() && name.ends_with(suffix))
            };
            [host, &with_port]
                .into_iter()
                .any(|name| name == entry || below(name))
        })
    }

    pub(super) fn read(secrets: &Section) -> Self {
        let default = Self::default();
        let urls = |table: &str, key: &str| -> Vec<Url> {
            let texts = secrets.table(table).map(|table| texts(table, key));
            let texts = texts.into_iter().flatten();
            texts.filter_map(|text| usable(text).ok()).collect()
        };
        let one = |table: &str, key: &str| urls(table, key).pop();
        Self {
            timeout: secrets
                .duration("timeout")
                .and_then(|timeout| timeout.positive())
                .unwrap_or(default.timeout),
            revoke: secrets.bool("revoke").unwrap_or(default.revoke),
            mask_parts: secrets.bool("mask_parts").unwrap_or(default.mask_parts),
            servers: secrets.setting("servers").map(|_| {
                let hosts = secrets.texts("servers").iter();
                hosts.filter_map(|host| listed(host)).collect()
            }),
            google: GoogleConfig {
                sts_url: one("google", "sts_url"),
                secret_manager_url: one("google", "secret_manager_url"),
            },
            azure: AzureConfig {
                authority_url: one("azure", "authority_url"),
                trusted_vaults: urls("azure", "trusted_vaults"),
            },
            aws: AwsConfig {
                sts_url: one("aws", "sts_url"),
                secrets_manager_url: one("aws", "secrets_manager_url"),
                allow_ambient_identity: secrets
                    .table("aws")
                    .and_then(|aws| aws.bool("allow_ambient_identity"))
                    .unwrap_or(false),
            },
        }
    }
}

/// The first URL or host of `[runners.secrets]` that cannot be used: its table, its key, and why.
pub(crate) fn fault(secrets: &Section) -> Option<(&Section, &'static str, String)> {
    const SERVERS: &str = "servers";
    let hosts = secrets.texts(SERVERS).iter();
    let host = hosts.into_iter().find(|host| listed(host).is_none());
    if let Some(host) = host {
        let text = format!(
            "runners.secrets.servers: {host:?} is no host: vault.example.com, *.example.com, 192.0.2.1, [2001:db8::1], each with \
             or without a :port"
        );
        return Some((secrets, SERVERS, text));
    }
    URLS.iter().find_map(|(name, key)| {
        let table = secrets.table(name)?;
        let mut faults = texts(table, key).filter_map(|text| {
            let why = usable(text).err()?;
            Some(format!("runners.secrets.{name}.{key}: {text:?} {why}"))
        });
        Some((table, *key, faults.next()?))
    })
}

/// A host as it stands in a URL, with or without a port, in the one form that URLs have when they are read: small letters,
/// ASCII, the shortest form of an address. `*.` before it means all names below. Nothing for what is no host.
fn listed(entry: &str) -> Option<String> {
    let host = entry.strip_prefix("*.").unwrap_or(entry);
    if host.contains(['@', '?', '#', '/', '\\', '*']) {
        return None;
    }
    let read = |scheme: &str| Url::parse(&format!("{scheme}://{host}/")).ok();
    let (url, other) = (read("https")?, read("http")?);
    let below = match url.host()? {
        _ if entry.len() == host.len() => "",
        Host::Domain(_) => "*.",
        Host::Ipv4(_) | Host::Ipv6(_) => return None,
    };
    let name = url.host_str()?;
    // A port that is a scheme's own is left out there.
    Some(match url.port().or_else(|| other.port()) {
        Some(port) => format!("{below}{name}:{port}"),
        None => format!("{below}{name}"),
    })
}

/// The text of a key, or its texts; empty counts as absent.
fn texts<'a>(table: &'a Section, key: &str) -> impl Iterator<Item = &'a str> {
    let several = table.texts(key).iter().map(String::as_str);
    let all = table.text(key).into_iter().chain(several);
    all.filter(|text| !text.is_empty())
}

/// Tokens are sent there: never in the clear but on this machine.
fn usable(text: &str) -> Result<Url, String> {
    let url: Url = text
        .parse()
        .map_err(|error| format!("is no URL: {error}"))?;
    let is_here = match url.host() {
        None => return Err("names no host".to_owned()),
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
    };
    let is_bare = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    match url.scheme() {
        _ if !is_bare => Err("may have no user, query or fragment".to_owned()),
        "https" => Ok(url),
        "http" if is_here => Ok(url),
        _ => Err("has to begin with https:// (http:// for this machine only)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Environment, lint, load};

    const TEXT: &str = "[[runners]]\nurl = \"https://gitlab.example\"\ntoken = \"t\"\n[runners.secrets]\ntimeout = \"30s\"\nrevoke = false\n[runners.secrets.google]\n\
        sts_url = \"https://sts.example\"\nsecret_manager_url = \"http://127.0.0.1:8080/sm/\"\n[runners.secrets.azure]\n\
        authority_url = \"https://login.example\"\ntrusted_vaults = [\"https://127.0.0.1:8443\", \"https://v.example\"]\n\
        [runners.secrets.aws]\nsts_url = \"http://localhost:5000\"\nsecrets_manager_url = \"http://[::1]:5000\"\n\
        allow_ambient_identity = true\n";

    fn loaded(text: &str) -> SecretsConfig {
        let loaded = load(text, "config.toml", &Environment::default()).unwrap();
        assert_eq!(loaded.warnings, []);
        loaded.config.runners[0].secrets.clone()
    }

    #[test]
    fn all_keys_are_read() {
        let secrets = loaded(TEXT);
        assert_eq!(
            (secrets.timeout, secrets.revoke),
            (Duration::from_secs(30), false)
        );
        let text = |url: &Option<Url>| url.as_ref().map(Url::to_string).unwrap_or_default();
        assert_eq!(text(&secrets.google.sts_url), "https://sts.example/");
        assert_eq!(
            text(&secrets.google.secret_manager_url),
            "http://127.0.0.1:8080/sm/"
        );
        assert_eq!(text(&secrets.azure.authority_url), "https://login.example/");
        assert_eq!(secrets.azure.trusted_vaults.len(), 2);
        assert_eq!(text(&secrets.aws.sts_url), "http://localhost:5000/");
        assert_eq!(text(&secrets.aws.secrets_manager_url), "http://[::1]:5000/");
        assert!(secrets.aws.allow_ambient_identity);
        assert_eq!(loaded("[[runners]]\n"), SecretsConfig::default());
        assert_eq!(
            loaded("[[runners]]\n[runners.secrets.aws]\nsts_url = \"\"\n"),
            SecretsConfig::default()
        );
        assert_eq!(
            lint(TEXT, "config.toml", &Environment::default()).map_err(|error| error.to_string()),
            Ok(())
        );
    }

    #[test]
    fn hosts_are_allowed_by_name_below_a_name_and_with_a_port() {
        let secrets = |servers: &str| {
            loaded(&format!(
                "[[runners]]\n[runners.secrets]\nservers = [{servers}]\n"
            ))
        };
        let listed =
            secrets(r#""Vault.example.com", "*.corp.example", "10.0.0.1:8200", "[fd00::1]""#);
        for (url, allowed) in [
            ("https://vault.example.com:8200", true),
            ("https://VAULT.example.com", true),
            ("https://evil.vault.example.com", false),
            ("https://a.b.corp.example", true),
            ("https://corp.example", false),
            ("https://evilcorp.example", false),
            ("https://10.0.0.1:8200", true),
            ("https://10.0.0.1", false),
            ("https://[fd00::1]:8200", true),
            ("https://169.254.169.254", false),
        ] {
            let url: Url = url.parse().unwrap();
            assert_eq!(listed.allows(&url), allowed, "{url}");
            assert!(!secrets("").allows(&url));
            assert!(SecretsConfig::default().allows(&url));
        }
        let written = secrets(
            r#""[2001:DB8:0::1]", "bücher.example:443", "0x7f.1", "*.BÜCHER.example:8200", "h.example:80""#,
        );
        for (url, allowed) in [
            ("https://[2001:db8::1]:8200", true),
            ("https://bücher.example", true),
            ("https://xn--bcher-kva.example/", true),
            ("https://bücher.example:8200", false),
            ("https://a.bücher.example:8200", true),
            ("https://127.0.0.1", true),
            ("http://h.example", true),
            ("https://h.example", false),
        ] {
            let url: Url = url.parse().unwrap();
            assert_eq!(written.allows(&url), allowed, "{url}");
        }
        for bad in ["https://vault", "", "a/b", "*", "a*b", "me@h", "*.10.0.0.1"] {
            let text = format!("[[runners]]\n[runners.secrets]\nservers = [\"{bad}\"]\n");
            let error = load(&text, "config.toml", &Environment::default());
            let error = error.unwrap_err().to_string();
            assert!(
                error.starts_with("config.toml:3:1: runners.secrets.servers: "),
                "{error}"
            );
        }
    }

    #[test]
    fn a_url_that_cannot_be_used_fails_the_load() {
        let table = [
            ("google", "sts_url = \"sts.example\"", "is no URL"),
            (
                "google",
                "secret_manager_url = \"http://sm.example\"",
                "has to begin with https://",
            ),
            (
                "azure",
                "trusted_vaults = [\"https://ok.example\", \"https://v.example/?a\"]",
                "no user, query or fragment",
            ),
            ("aws", "sts_url = \"file:///x\"", "names no host"),
        ];
        for (provider, line, why) in table {
            let text = format!("[[runners]]\n[runners.secrets.{provider}]\n{line}\n");
            let error = load(&text, "config.toml", &Environment::default())
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("config.toml:3:1: runners.secrets."),
                "{error}"
            );
            assert!(error.contains(why), "{error}");
        }
    }
}
