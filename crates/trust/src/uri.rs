//! The host inside a URI name, as far as names and constraints need it.

use std::net::{IpAddr, Ipv6Addr};

use crate::certificate::CertificateError;
use crate::host_name;

/// Refuses URI names that Go's URL parser refuses: such a name spoils the whole certificate.
pub(crate) fn check(uri: &str) -> Result<(), CertificateError> {
    let sound = match authority(uri) {
        Ok(None) => true,
        Ok(Some(authority)) => host_is_sound(authority),
        Err(()) => false,
    };
    if sound {
        Ok(())
    } else {
        Err(CertificateError(format!("cannot parse URI {uri:?}")))
    }
}

/// The host of a URI name in lower case, for name constraints; an error text when it has none or it is an address.
pub(crate) fn constrained_host(uri: &str) -> Result<String, String> {
    let host = match authority(uri) {
        Ok(Some(host)) if !host.is_empty() => host.to_ascii_lowercase(),
        _ => {
            return Err(format!(
                "URI with empty host ({uri:?}) cannot be matched against constraints"
            ));
        }
    };
    let without_port = match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') && port.bytes().all(|b| b.is_ascii_digit()) => {
            name
        }
        _ => &host,
    };
    if without_port.starts_with('[') || without_port.parse::<IpAddr>().is_ok() {
        return Err(format!(
            "URI with IP ({uri:?}) cannot be matched against constraints"
        ));
    }
    Ok(without_port.to_owned())
}

/// Host and port between `//` and the path, without user information; `None` when there is no `//`.
fn authority(uri: &str) -> Result<Option<&str>, ()> {
    if uri.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Err(());
    }
    let (uri, fragment) = uri.split_once('#').unwrap_or((uri, ""));
    let before_query = uri.split_once('?').map_or(uri, |(before, _)| before);
    if !(escapes_are_whole(fragment) && escapes_are_whole(before_query)) {
        return Err(());
    }
    let rest = match uri.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c))) {
        // A colon before anything that ends a scheme: the scheme itself must start with a letter.
        Some(end) if uri[end..].starts_with(':') => {
            if !uri.starts_with(|c: char| c.is_ascii_alphabetic()) {
                return Err(());
            }
            &uri[end + 1..]
        }
        _ => {
            let first_segment = uri.split(['/', '?']).next().unwrap_or_default();
            if first_segment.contains(':') {
                return Err(());
            }
            uri
        }
    };
    let rest = rest.split_once('?').map_or(rest, |(before, _)| before);
    let Some(rest) = rest.strip_prefix("//") else {
        return Ok(None);
    };
    let authority = rest.split('/').next().unwrap_or_default();
    Ok(Some(
        authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host),
    ))
}

/// Whether every `%` is followed by two hexadecimal digits.
fn escapes_are_whole(part: &str) -> bool {
    part.split('%').skip(1).all(|after| {
        let digits = after.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

fn host_is_sound(host: &str) -> bool {
    let port_is_sound = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(inner) = host.strip_prefix('[') {
        let Some((address, after)) = inner.split_once(']') else {
            return false;
        };
        let address = address.split_once("%25").map_or(address, |(ip, _)| ip);
        return address.parse::<Ipv6Addr>().is_ok()
            && (after.is_empty() || after.strip_prefix(':').is_some_and(port_is_sound));
    }
    if let Some((_, port)) = host.split_once(':')
        && !port_is_sound(port)
    {
        return false;
    }
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]<>\"%".contains(&byte);
    host.bytes().all(allowed) && host_name::is_sound(host, false)
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
    }
}
