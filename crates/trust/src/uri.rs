//! The host inside a URI name, as far as names and constraints need it.

use std::net::{IpAddr, Ipv6Addr};

use crate::certificate::CertificateError;
use crate::host_name;

/// Refuses URI names that Go's URL parser refuses: such a name spoils the whole certificate.
pub(crate) fn check(uri: &str) -> Result<(), CertificateError> {
    let sound = match Authority::of(uri) {
        Ok(None) => true,
        Ok(Some(authority)) => authority.is_sound(),
        Err(Malformed) => false,
    };
    if sound {
        Ok(())
    } else {
        Err(CertificateError(format!("cannot parse URI {uri:?}")))
    }
}

/// The host of a URI name in lower case, for name constraints; an error text when it has none or it is an address.
pub(crate) fn constrained_host(uri: &str) -> Result<String, String> {
    let cannot =
        |why: &str| format!("URI with {why} ({uri:?}) cannot be matched against constraints");
    let host = match Authority::of(uri) {
        Ok(Some(authority)) if !authority.host.is_empty() => authority.host.to_ascii_lowercase(),
        _ => return Err(cannot("empty host")),
    };
    if host.starts_with('[') {
        return Err(cannot("IP"));
    }
    let (name, port) = host.split_once(':').unwrap_or((&host, ""));
    if port.contains(':') {
        return Err(cannot("several ports"));
    }
    if name.parse::<IpAddr>().is_ok() {
        return Err(cannot("IP"));
    }
    Ok(name.to_owned())
}

/// What stands between `//` and the path.
struct Authority<'a> {
    scheme: &'a str,
    user: &'a str,
    /// With its port.
    host: &'a str,
}

/// No URI, as Go's parser sees it.
struct Malformed;

impl<'a> Authority<'a> {
    /// `None` when there is no `//`.
    fn of(uri: &'a str) -> Result<Option<Self>, Malformed> {
        let (uri, fragment) = uri.split_once('#').unwrap_or((uri, ""));
        if !escapes_are_whole(fragment) || uri.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
            return Err(Malformed);
        }
        let (scheme, rest) = split_scheme(uri)?;
        let rest = rest.split_once('?').map_or(rest, |(before, _)| before);
        if !scheme.is_empty() && !rest.starts_with('/') {
            // `mailto:` and the like: what follows is not looked at.
            return Ok(None);
        }
        if !escapes_are_whole(rest) {
            return Err(Malformed);
        }
        let Some(rest) = rest.strip_prefix("//") else {
            return Ok(None);
        };
        let authority = rest.split('/').next().unwrap_or_default();
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        Ok(Some(Self { scheme, user, host }))
    }

    fn is_sound(&self) -> bool {
        let host = self.host;
        if !self
            .user
            .bytes()
            .all(|byte| is_unreserved(byte) || b":@%".contains(&byte))
        {
            return false;
        }
        if let Some(inner) = host.strip_prefix('[') {
            let Some((address, after)) = inner.split_once(']') else {
                return false;
            };
            let (address, zone) = address.split_once("%25").unwrap_or((address, "zone"));
            return address.parse::<Ipv6Addr>().is_ok()
                && !zone.is_empty()
                && zone.bytes().all(is_of_host)
                && (after.is_empty() || after.strip_prefix(':').is_some_and(is_port));
        }
        if host.contains('[') {
            return false;
        }
        // Databases have lists of hosts with ports in their URIs: only the last port counts there.
        let port = match self.scheme {
            "http" | "https" => host.split_once(':'),
            _ => host.rsplit_once(':'),
        };
        if port.is_some_and(|(_, port)| !is_port(port)) {
            return false;
        }
        // A host may escape nothing but the percent sign, in the range that names have.
        let host = host.replace("%25", "");
        host.bytes().all(is_of_host) && host_name::is_sound(&host, false)
    }
}

/// The scheme, or none, and what follows its colon.
fn split_scheme(uri: &str) -> Result<(&str, &str), Malformed> {
    match uri.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c))) {
        Some(end) if uri[end..].starts_with(':') => {
            if uri.starts_with(|c: char| c.is_ascii_alphabetic()) {
                Ok((&uri[..end], &uri[end + 1..]))
            } else {
                Err(Malformed)
            }
        }
        _ => {
            let first_segment = uri.split(['/', '?']).next().unwrap_or_default();
            if first_segment.contains(':') {
                return Err(Malformed);
            }
            Ok(("", uri))
        }
    }
}

/// Whether every `%` is followed by two hexadecimal digits.
fn escapes_are_whole(part: &str) -> bool {
    part.split('%').skip(1).all(|after| {
        let digits = after.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Letters that need no escape, and those that separate parts of a component.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

fn is_of_host(byte: u8) -> bool {
    is_unreserved(byte) || b":[]<>\"".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_that_go_cannot_parse_spoil_the_certificate() {
        let cases = [
            ("https://example.com/x", true),
            ("https://example.com:8443", true),
            ("spiffe://trust/workload", true),
            ("mailto:someone@example.com", true),
            ("example.com", true),
            ("urn:uuid:1", true),
            ("https://[::1]:8443/", true),
            ("https://[::1/", false),
            ("https://a b/", false),
            ("https://example.com:port/", false),
            ("https://example.com./", false),
            ("https://a..b/", false),
            ("1http://example.com", false),
            ("bad.example.com, http://x", false),
            ("http://x\u{7f}", false),
            ("http://x/%41?%", true),
            ("http://x/%4", false),
            ("http://x/#%zz", false),
            ("http://x/#\u{1}", true),
            ("mailto:a%zz", true),
            ("http://u er@x/", false),
            ("http://u%20er:p@ss@x/", true),
            ("http://a%41b/", false),
            ("http://a%25b/", true),
            ("http://a[b/", false),
            ("http://[fe80::1%25en0]/", true),
            ("http://[fe80::1%25]/", false),
            ("http://a:1,b:2/", false),
            ("db://a:1,b:2/", true),
        ];
        for (uri, sound) in cases {
            assert_eq!(check(uri).is_ok(), sound, "{uri}");
        }
    }

    #[test]
    fn the_constrained_host_is_a_name_without_port() {
        assert_eq!(
            constrained_host("https://User@Example.com:8443/a").as_deref(),
            Ok("example.com")
        );
        assert!(constrained_host("https://192.0.2.1/").is_err());
        assert!(constrained_host("https://[::1]/").is_err());
        assert!(constrained_host("mailto:a@b").is_err());
        assert!(constrained_host("db://a:1,b:2/").is_err());
    }
}
