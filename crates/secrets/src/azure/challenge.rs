//! What a vault answers to a request without credentials: for which resource it wants a token.

use http::{HeaderMap, header};
use url::Url;

/// `WWW-Authenticate: Bearer authorization="https://AUTHORITY/TENANT", resource="https://vault.azure.net"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    /// As it stands there, a `scope` without its `/.default`.
    pub(super) resource: String,
    authorization: String,
}

impl Challenge {
    /// The first challenge of the scheme `Bearer` that names a resource.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::WWW_AUTHENTICATE).into_iter();
        values
            .filter_map(|value| Self::parse(value.to_str().ok()?))
            .next()
    }

    fn parse(text: &str) -> Option<Self> {
        let (scheme, parameters) = text.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let parameter = |wanted: &str| {
            // Values are URLs, without commas and blanks.
            parameters.split([',', ' ']).find_map(|parameter| {
                let (name, value) = parameter.split_once('=')?;
                let is_it = name.trim().eq_ignore_ascii_case(wanted);
                is_it.then(|| value.trim().trim_matches('"').to_owned())
            })
        };
        let resource = parameter("resource").or_else(|| parameter("scope"))?;
        let resource = resource.strip_suffix("/.default").unwrap_or(&resource);
        Some(Self {
            resource: resource.to_owned(),
            authorization: parameter("authorization")
                .or_else(|| parameter("authorization_uri"))
                .unwrap_or_default(),
        })
    }

    /// Whether a token for the resource may be sent to `vault`: its host lies below that of the resource. Otherwise
    /// whoever chooses the vault's URL would be sent a token for somebody else's vaults.
    pub(super) fn is_of(&self, vault: &Url) -> bool {
        let resource = self.resource.parse::<Url>().ok();
        let resource = resource.as_ref().and_then(Url::host_str);
        match (vault.host_str(), resource) {
            (Some(vault), Some(resource)) => vault
                .strip_suffix(resource)
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            _ => false,
        }
    }

    /// The scope to ask for.
    pub(super) fn scope(&self) -> String {
        format!("{}/.default", self.resource)
    }

    /// Host of the authority that the vault names.
    pub(super) fn authority_host(&self) -> Option<String> {
        let url: Url = self.authorization.parse().ok()?;
        url.host_str().map(ToOwned::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(text: &str) -> Option<Challenge> {
        let value = text.parse().unwrap();
        Challenge::of(&HeaderMap::from_iter([(header::WWW_AUTHENTICATE, value)]))
    }

    #[test]
    fn forms_of_challenges() {
        let resource = "https://vault.azure.net";
        let table = [
            r#"Bearer authorization="https://login.microsoftonline.com/T", resource="https://vault.azure.net""#,
            r#"Bearer authorization="https://login.microsoftonline.com/T",scope="https://vault.azure.net/.default""#,
            r#"bearer resource=https://vault.azure.net authorization_uri="https://login.microsoftonline.com/T""#,
        ];
        for text in table {
            let challenge = challenge(text).unwrap();
            assert_eq!(challenge.resource, resource, "{text}");
            assert_eq!(challenge.scope(), "https://vault.azure.net/.default");
            assert_eq!(
                challenge.authority_host().as_deref(),
                Some("login.microsoftonline.com")
            );
        }
        for text in [
            "Basic realm=\"x\"",
            "Bearer",
            "Bearer authorization=\"https://a\"",
        ] {
            assert_eq!(challenge(text), None, "{text}");
        }
    }

    #[test]
    fn tokens_go_to_hosts_below_their_resource_only() {
        let table = [
            ("https://x.vault.azure.net", "https://vault.azure.net", true),
            (
                "https://x.vault.azure.net:8443",
                "https://vault.azure.net",
                true,
            ),
            ("https://vault.azure.net", "https://vault.azure.net", false),
            (
                "https://.vault.azure.net.evil.example",
                "https://vault.azure.net",
                false,
            ),
            (
                "https://evilvault.azure.net",
                "https://vault.azure.net",
                false,
            ),
            (
                "https://x.vault.azure.net",
                "https://management.azure.com",
                false,
            ),
            ("https://127.0.0.1", "https://vault.azure.net", false),
            ("https://x.vault.azure.net", "vault.azure.net", false),
            ("https://x.vault.azure.net", "", false),
        ];
        for (vault, resource, is_of) in table {
            let challenge = Challenge {
                resource: resource.to_owned(),
                authorization: String::new(),
            };
            assert_eq!(
                challenge.is_of(&vault.parse().unwrap()),
                is_of,
                "{vault} {resource}"
            );
        }
    }
}
