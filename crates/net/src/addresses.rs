//! Which addresses a client may connect to.
//!
//! A certificate may name any URL for its issuer. A runner fetches it wherever it lies, since the CAs of a company are
//! private hosts; a command that works on the certificates of a stranger must not be led into the own network. A job
//! names the server of its secrets, which may lie in the own network, but is no machine's own metadata service. Names
//! are judged by what they resolve to, and the very address that was judged is connected to: a name server that answers
//! differently the second time (DNS rebinding) is never asked a second time.

use std::error::Error;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower::Service;

/// Which addresses a client may connect to. A proxy may have any address: the administrator named it, and what it
/// resolves is its own affair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Addresses {
    /// All of them.
    #[default]
    Any,
    /// Those of the public internet: not private, not of this host or link, not reserved.
    PublicOnly,
    /// All but those of the link and others at which clouds tell a machine its own credentials.
    NoMetadata,
    /// The same for names. Addresses that a URL writes itself are allowed, as somebody has looked at them before.
    NoMetadataByName,
}

/// In what is said of an address of a metadata service.
pub const METADATA: &str = "where machines are told their own credentials";

impl Addresses {
    pub(crate) fn allow(self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::PublicOnly => is_public(address),
            Self::NoMetadata | Self::NoMetadataByName => !is_of_metadata(address),
        }
    }

    /// The same for an address that is no name's.
    pub(crate) fn allow_written(self, address: IpAddr) -> bool {
        self == Self::NoMetadataByName || self.allow(address)
    }

    /// What is wrong with an address that is not allowed.
    fn fault(self) -> String {
        match self {
            Self::Any | Self::PublicOnly => {
                "which is no address of the public internet: a certificate must not lead there"
                    .to_owned()
            }
            Self::NoMetadata | Self::NoMetadataByName => {
                format!("{METADATA}: a job must not lead there")
            }
        }
    }
}

/// The system's resolver, which gives out allowed addresses only.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    system: GaiResolver,
    allowed: Addresses,
}

/// A name none of whose addresses may be connected to.
#[derive(Debug, thiserror::Error)]
#[error("{host} is {address}, {}", allowed.fault())]
pub(crate) struct NotAllowed {
    pub(crate) host: String,
    pub(crate) address: IpAddr,
    pub(crate) allowed: Addresses,
}

impl Resolver {
    pub(crate) fn new(allowed: Addresses) -> Self {
        Self {
            system: GaiResolver::new(),
            allowed,
        }
    }
}

type Failure = Box<dyn Error + Send + Sync>;

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(ready!(self.system.poll_ready(context))?))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let allowed = self.allowed;
        let host = name.to_string();
        let resolving = self.system.call(name);
        Box::pin(async move { Ok(allowed_of(resolving.await?, &host, allowed)?.into_iter()) })
    }
}

fn allowed_of(
    resolved: impl Iterator<Item = SocketAddr>,
    host: &str,
    allowed: Addresses,
) -> Result<Vec<SocketAddr>, NotAllowed> {
    let (good, others): (Vec<_>, Vec<_>) =
        resolved.partition(|address| allowed.allow(address.ip()));
    match (good.is_empty(), others.first()) {
        (true, Some(refused)) => Err(NotAllowed {
            host: host.to_owned(),
            address: refused.ip(),
            allowed,
        }),
        _ => Ok(good),
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// By the registry of special addresses (RFC 6890 and its updates).
fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        || matches!(
            address.octets(),
            [0 | 240..=255, ..] | [100, 64..=127, ..] | [192, 0, 0, _] | [198, 18 | 19, ..]
        );
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(address) = embedded_v4(address) {
        return is_public_v4(address);
    }
    match address.segments() {
        // Teredo and other protocol assignments, documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Global unicast is 2000::/3 and nothing else.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// Link-local addresses, and what clouds have beside them: Amazon's, Google's, Oracle's and Scaleway's in IPv6, Alibaba's,
/// Azure's, Oracle's in IPv4.
fn is_of_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_link_local()
                || matches!(
                    address.octets(),
                    [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, 192]
                )
        }
        IpAddr::V6(address) => match embedded_v4(address) {
            Some(address) => is_of_metadata(address.into()),
            None => {
                let segments = address.segments();
                let is_amazons = segments[..7] == [0xfd00, 0xec2, 0, 0, 0, 0, 0];
                let is_anothers = matches!(
                    segments,
                    [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]
                        | [0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe]
                        | [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42]
                );
                let mut translated = locally_translated_v4(address).into_iter().flatten();
                address.is_unicast_link_local()
                    || is_amazons
                    || is_anothers
                    || translated.any(|address| is_of_metadata(address.into()))
            }
        },
    }
}

/// IPv4 in other words: mapped, translated (RFC 6052), and 6to4.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let (high, low) = match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => (high, low),
        [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    let [a, b] = high.to_be_bytes();
    let [c, d] = low.to_be_bytes();
    Some(Ipv4Addr::new(a, b, c, d))
}

/// What an address below the prefix of local translators (RFC 8215) may stand for: whose network it is decides how long its
/// own prefix is (RFC 6052 2.2).
fn locally_translated_v4(address: Ipv6Addr) -> Option<[Ipv4Addr; 4]> {
    const PLACES: [[usize; 4]; 4] = [
        [6, 7, 9, 10],
        [7, 9, 10, 11],
        [9, 10, 11, 12],
        [12, 13, 14, 15],
    ];
    if address.segments()[..3] != [0x64, 0xff9b, 1] {
        return None;
    }
    let octets = address.octets();
    Some(PLACES.map(|places| places.map(|place| octets[place]).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_not_public() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:a00:1::",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert!(!Addresses::PublicOnly.allow(address), "{address}");
            assert!(Addresses::Any.allow(address));
        }
        for address in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "198.20.0.1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert!(Addresses::PublicOnly.allow(address), "{address}");
        }
    }

    #[test]
    fn metadata_services_are_known_and_private_networks_are_none() {
        for (address, is_one) in [
            ("169.254.169.254", true),
            ("169.254.170.2", true),
            ("100.100.100.200", true),
            ("168.63.129.16", true),
            ("fe80::1", true),
            ("fd00:ec2::254", true),
            ("fd00:ec2::23", true),
            ("fd20:ce::254", true),
            ("::ffff:169.254.169.254", true),
            ("64:ff9b::169.254.169.254", true),
            ("2002:a9fe:a9fe::", true),
            ("fd00:42::42", true),
            ("fd00:c1::a9fe:a9fe", true),
            ("64:ff9b:1::169.254.169.254", true),
            ("64:ff9b:1:7::169.254.169.254", true),
            ("64:ff9b:1:a9fe:a9:fe00::", true),
            ("64:ff9b:1:a9:fe:a9fe::", true),
            ("64:ff9b:1:7:a9:fea9:fe00:0", true),
            ("64:ff9b:1::10.0.0.1", false),
            ("fd00:42::43", false),
            ("127.0.0.1", false),
            ("10.0.0.1", false),
            ("100.100.100.201", false),
            ("fd00::1", false),
            ("::1", false),
            ("::ffff:10.0.0.1", false),
            ("2606:4700::1111", false),
        ] {
            let allowed = Addresses::NoMetadata.allow(address.parse().unwrap());
            assert_eq!(allowed, !is_one, "{address}");
        }
        let link: SocketAddr = "169.254.169.254:80".parse().unwrap();
        for (allowed, is_written_allowed) in [
            (Addresses::NoMetadata, false),
            (Addresses::NoMetadataByName, true),
        ] {
            let refused = allowed_of([link].into_iter(), "metadata.test", allowed);
            let text = refused.unwrap_err().to_string();
            let wanted = "metadata.test is 169.254.169.254, where machines are told their own credentials: a job must not \
                          lead there";
            assert_eq!(text, wanted);
            assert_eq!(allowed.allow_written(link.ip()), is_written_allowed);
        }
    }

    #[test]
    fn a_name_is_as_public_as_its_addresses() {
        let (private, public) = ("10.0.0.1:80", "1.1.1.1:80");
        let resolved = |addresses: &[&str]| {
            let addresses: Vec<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
            allowed_of(addresses.into_iter(), "pki.test", Addresses::PublicOnly)
        };
        assert_eq!(
            resolved(&[private, public]).unwrap(),
            [public.parse().unwrap()]
        );
        let error = resolved(&[private]).unwrap_err().to_string();
        assert!(error.starts_with("pki.test is 10.0.0.1"), "{error}");
        assert!(resolved(&[]).unwrap().is_empty());
    }
}
