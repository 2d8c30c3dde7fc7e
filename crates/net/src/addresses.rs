//! Which addresses a client may connect to.
//!
//! A certificate may name any URL for its issuer. A runner fetches it wherever it lies, since the CAs of a company are
//! private hosts; a command that works on the certificates of a stranger must not be led into the own network. Names
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
}

impl Addresses {
    pub(crate) fn allow(self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::PublicOnly => is_public(address),
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
#[error(
    "{host} is {address}, which is no address of the public internet: a certificate must not lead there"
)]
pub(crate) struct NotPublic {
    pub(crate) host: String,
    pub(crate) address: IpAddr,
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
) -> Result<Vec<SocketAddr>, NotPublic> {
    let (public, others): (Vec<_>, Vec<_>) =
        resolved.partition(|address| allowed.allow(address.ip()));
    match (public.is_empty(), others.first()) {
        (true, Some(refused)) => Err(NotPublic {
            host: host.to_owned(),
            address: refused.ip(),
        }),
        _ => Ok(public),
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
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // IPv4 in other words: mapped, translated (RFC 6052), and 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            embedded(high, low)
        }
        [0x2002, high, low, ..] => embedded(high, low),
        // Teredo and other protocol assignments, documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Global unicast is 2000::/3 and nothing else.
        [first, ..] => first & 0xe000 == 0x2000,
    }
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
