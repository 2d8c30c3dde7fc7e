//! Which server names a certificate stands for: SAN only, Go's rules for wildcards and dots.

use std::net::IpAddr;

use crate::certificate::Certificate;

/// The name by which a server was called: what the URL's host says, or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PeerName {
    /// A host name, perhaps with a trailing dot.
    Dns(String),
    /// An address; it is matched with IP SANs only.
    Ip(IpAddr),
}

impl PeerName {
    /// Reads a host as it stands in a URL; an IPv6 address may be in brackets.
    pub fn from_host(host: &str) -> Self {
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host);
        match bare.parse() {
            Ok(address) => Self::Ip(address),
            Err(_) => Self::Dns(host.to_owned()),
        }
    }
}

impl std::fmt::Display for PeerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// How a certificate fails to stand for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// No SAN at all, but the common name would have matched.
    LegacyCommonName,
    /// An address was wanted and there is no IP SAN.
    NoIpNames,
    /// The names of the wanted kind that it has, none of which matches.
    OtherNames(Vec<String>),
}

/// Whether the certificate stands for the name.
pub(crate) fn check(certificate: &Certificate, wanted: &PeerName) -> Result<(), Mismatch> {
    let names = certificate.extensions().subject_alternative_names.as_ref();
    let matches = match wanted {
        PeerName::Ip(address) => names.is_some_and(|names| {
            let address = address.to_canonical();
            names.ip.iter().any(|name| name.to_canonical() == address)
        }),
        PeerName::Dns(host) => {
            let sound = is_host(host.strip_suffix('.').unwrap_or(host), false);
            let stands = |name: &String| matches(name, host, sound);
            names.is_some_and(|names| names.dns.iter().any(stands))
        }
    };
    if matches {
        return Ok(());
    }
    let legacy = names.is_none()
        && certificate
            .subject()
            .common_name()
            .is_some_and(|name| matches_labels(name, &wanted.to_string()));
    if legacy {
        return Err(Mismatch::LegacyCommonName);
    }
    let others: Vec<String> = match (wanted, names) {
        (PeerName::Ip(_), Some(names)) if !names.ip.is_empty() => {
            names.ip.iter().map(IpAddr::to_string).collect()
        }
        (PeerName::Ip(_), _) => return Err(Mismatch::NoIpNames),
        (PeerName::Dns(_), Some(names)) => names.dns.clone(),
        (PeerName::Dns(_), None) => Vec::new(),
    };
    Err(Mismatch::OtherNames(others))
}

/// One dNSName against one host, which may be a sound host name. Names that are none match only themselves, letter case
/// aside.
fn matches(name: &str, host: &str, sound: bool) -> bool {
    if sound && is_host(name, true) {
        return matches_labels(name, host);
    }
    let empty = |text: &str| text.is_empty() || text == ".";
    !empty(name) && !empty(host) && name.eq_ignore_ascii_case(host)
}

/// Label by label; `*` stands for exactly one left-most label, whatever follows it (`*.lan` is fine).
fn matches_labels(pattern: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let rest_equal = |pattern: &str, host: &str| pattern.eq_ignore_ascii_case(host);
    if pattern.is_empty() {
        return false;
    }
    match pattern.strip_prefix('*') {
        Some("") => !host.contains('.'),
        Some(parent) if parent.starts_with('.') => host
            .find('.')
            .is_some_and(|dot| rest_equal(parent, &host[dot..])),
        _ => rest_equal(pattern, host),
    }
}

fn is_host(name: &str, pattern: bool) -> bool {
    if name.is_empty() || name == "*" {
        return false;
    }
    name.split('.').enumerate().all(|(index, label)| {
        if pattern && index == 0 && label == "*" {
            return true;
        }
        !label.is_empty()
            && !label.starts_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    })
}

/// The loose form that SANs and constraints must have to be compared: printable labels, no empty one, no final dot.
/// A constraint may begin with a dot.
pub(crate) fn is_sound(name: &str, constraint: bool) -> bool {
    if name.is_empty() {
        return true;
    }
    let labels = match name.strip_prefix('.') {
        Some(rest) if constraint => rest,
        _ => name,
    };
    labels
        .split('.')
        .all(|label| !label.is_empty() && label.bytes().all(|byte| (33..=126).contains(&byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_go() {
        let cases = [
            ("gitlab.example.com", "gitlab.example.com", true),
            ("gitlab.example.com", "GITLAB.Example.com.", true),
            ("*.example.com", "gitlab.example.com", true),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.lan", "gitlab.lan", true),
            ("*.localhost", "x.localhost", true),
            ("*", "gitlab", false),
            ("g*.example.com", "gitlab.example.com", false),
            ("a.*.com", "a.b.com", false),
            ("gitlab", "gitlab", true),
            ("under_score.example", "under_score.example", true),
            ("ends-.example", "ends-.example", true),
            ("-starts.example", "-starts.example", true),
            ("gitlab.example.com.", "gitlab.example.com.", true),
            ("gitlab.example.com.", "gitlab.example.com", false),
            ("", "", false),
            ("192.0.2.1", "192.0.2.1", true),
        ];
        for (name, host, expected) in cases {
            let sound = is_host(host.strip_suffix('.').unwrap_or(host), false);
            assert_eq!(matches(name, host, sound), expected, "{name} for {host}");
        }
    }

    #[test]
    fn hosts_of_urls_are_names_or_addresses() {
        assert_eq!(
            PeerName::from_host("[::1]"),
            PeerName::Ip("::1".parse().expect("an address"))
        );
        assert_eq!(
            PeerName::from_host("192.0.2.1"),
            PeerName::Ip("192.0.2.1".parse().expect("an address"))
        );
        assert_eq!(PeerName::from_host("a.lan"), PeerName::Dns("a.lan".into()));
    }
}
