//! Which proxy a URL goes through, by Go's rules (`runner-protocol.md` 1.5).
//!
//! The rules differ from those of every Rust library (`dependencies.md` 4): `localhost` and loopback
//! addresses are never proxied, `NO_PROXY` knows ports and CIDR ranges, a leading dot matches
//! subdomains only, and `ALL_PROXY` does not exist.

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use http::HeaderValue;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// Proxy variables as captured once by `cli`. Upper-case names win there; `ALL_PROXY` is ignored.
///
/// The URLs may hold credentials, which `Debug` does not show.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// `HTTP_PROXY`.
    pub http: Option<String>,
    /// `HTTPS_PROXY`.
    pub https: Option<String>,
    /// `NO_PROXY`.
    pub no_proxy: Option<String>,
}

impl fmt::Debug for ProxySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.as_deref().map(shown_address);
        f.debug_struct("ProxySettings")
            .field("http", &shown(&self.http))
            .field("https", &shown(&self.https))
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

/// The settings, parsed once.
#[derive(Debug)]
pub(crate) struct ProxyRules {
    http: Option<Proxy>,
    https: Option<Proxy>,
    exceptions: Vec<Exception>,
}

/// One proxy to go through.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    url: Url,
}

#[derive(Debug, PartialEq, Eq)]
enum Exception {
    All,
    Network {
        address: IpAddr,
        prefix: u8,
    },
    Address {
        address: IpAddr,
        port: Option<u16>,
    },
    /// `suffix` starts with a dot.
    Domain {
        suffix: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl ProxyRules {
    /// Parses the settings. A proxy that is no URL is left out, as Go does, but with a warning.
    pub(crate) fn new(settings: &ProxySettings) -> Self {
        let parse = |name: &str, value: &Option<String>| {
            let text = value.as_deref().filter(|text| !text.is_empty())?;
            let proxy = Proxy::parse(text);
            if proxy.is_none() {
                tracing::warn!("{name} is not the address of a proxy and is ignored");
            }
            proxy
        };
        Self {
            http: parse("HTTP_PROXY", &settings.http),
            https: parse("HTTPS_PROXY", &settings.https),
            exceptions: parse_exceptions(settings.no_proxy.as_deref().unwrap_or_default()),
        }
    }

    /// The proxy for `url`; `None` = connect directly.
    pub(crate) fn proxy_for(&self, url: &Url) -> Option<&Proxy> {
        let proxy = match url.scheme() {
            "https" => self.https.as_ref(),
            "http" => self.http.as_ref(),
            _ => None,
        }?;
        let host = url.host()?;
        let port = url.port_or_known_default()?;
        (!is_local(&host) && !self.exceptions.iter().any(|e| e.matches(&host, port)))
            .then_some(proxy)
    }
}

impl Proxy {
    /// `scheme://[user[:password]@]host[:port]`; a bare `host:port` is an HTTP proxy.
    fn parse(text: &str) -> Option<Self> {
        let with_host = |text: &str| Url::parse(text).ok().filter(Url::has_host);
        let url = with_host(text).or_else(|| with_host(&format!("http://{text}")))?;
        Some(Self { url })
    }

    pub(crate) fn scheme(&self) -> &str {
        self.url.scheme()
    }

    /// Scheme, host and port, without credentials.
    pub(crate) fn address(&self) -> Result<http::Uri, http::Error> {
        let port = self.url.port_or_known_default().unwrap_or(1080);
        http::Uri::builder()
            .scheme(self.scheme())
            .authority(format!(
                "{}:{port}",
                self.url.host_str().unwrap_or_default()
            ))
            .path_and_query("/")
            .build()
    }

    /// User and password, percent-decoded.
    pub(crate) fn credentials(&self) -> Option<(String, String)> {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        (!self.url.username().is_empty() || self.url.password().is_some()).then(|| {
            (
                decode(self.url.username()),
                decode(self.url.password().unwrap_or_default()),
            )
        })
    }

    /// The proxy's URL with words where user and password belong.
    pub(crate) fn with_placeholders(&self) -> String {
        self.to_string().replacen("://", "://USER:PASSWORD@", 1)
    }

    /// Value of `Proxy-Authorization`.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        let (user, password) = self.credentials()?;
        basic_authorization(&user, &password)
    }
}

/// Shows no credentials.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}",
            self.scheme(),
            self.url.host_str().unwrap_or_default()
        )?;
        match self.url.port() {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl Exception {
    fn matches(&self, host: &Host<&str>, port: u16) -> bool {
        let same_port = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        match self {
            Self::All => true,
            Self::Network { address, prefix } => {
                address_of(host).is_some_and(|host| in_network(host, *address, *prefix))
            }
            Self::Address { address, port } => {
                address_of(host) == Some(*address) && same_port(port)
            }
            Self::Domain {
                suffix,
                itself,
                port,
            } => {
                let Host::Domain(name) = host else {
                    return false;
                };
                (name.ends_with(suffix.as_str()) || (*itself && *name == &suffix[1..]))
                    && same_port(port)
            }
        }
    }
}

/// Value of a Basic authorization header, marked sensitive. `None` if it cannot be a header.
pub(crate) fn basic_authorization(user: &str, password: &str) -> Option<HeaderValue> {
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let mut value = HeaderValue::try_from(format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn shown_address(text: &str) -> String {
    Proxy::parse(text).map_or_else(|| "(invalid)".to_owned(), |proxy| proxy.to_string())
}

fn is_local(host: &Host<&str>) -> bool {
    matches!(host, Host::Domain("localhost")) || address_of(host).is_some_and(|ip| ip.is_loopback())
}

/// Addresses written as IPv4-mapped IPv6 are the IPv4 address, as in Go.
fn address_of(host: &Host<&str>) -> Option<IpAddr> {
    match host {
        Host::Ipv4(address) => Some(IpAddr::V4(*address)),
        Host::Ipv6(address) => Some(IpAddr::V6(*address).to_canonical()),
        Host::Domain(_) => None,
    }
}

fn in_network(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    let same = |a: u128, b: u128, width: u32| {
        let shift = width - u32::from(prefix);
        a.checked_shr(shift).unwrap_or(0) == b.checked_shr(shift).unwrap_or(0)
    };
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
}

fn parse_exceptions(list: &str) -> Vec<Exception> {
    let mut exceptions = Vec::new();
    for entry in list.split(',') {
        let entry = entry.trim().to_lowercase();
        if entry == "*" {
            return vec![Exception::All];
        }
        if let Some(network) = parse_network(&entry) {
            exceptions.push(network);
            continue;
        }
        let (host, port) = split_port(&entry);
        let Ok(port) = port.map(str::parse).transpose() else {
            continue;
        };
        if let Ok(address) = host.parse::<IpAddr>() {
            exceptions.push(Exception::Address {
                address: address.to_canonical(),
                port,
            });
            continue;
        }
        let name = host.strip_prefix('*').filter(|rest| rest.starts_with('.'));
        let name = name.unwrap_or(host);
        if name.is_empty() {
            continue;
        }
        let (itself, bare) = match name.strip_prefix('.') {
            Some(rest) => (false, rest),
            None => (true, name),
        };
        let ascii = match Host::parse(bare) {
            Ok(Host::Domain(ascii)) => ascii,
            _ => bare.to_owned(),
        };
        exceptions.push(Exception::Domain {
            suffix: format!(".{ascii}"),
            itself,
            port,
        });
    }
    exceptions
}

fn parse_network(entry: &str) -> Option<Exception> {
    let (address, prefix) = entry.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let prefix: u8 = prefix.parse().ok()?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    (prefix <= width).then_some(Exception::Network { address, prefix })
}

/// Splits `host:port` and `[v6]:port`; a bare IPv6 address has no port.
fn split_port(entry: &str) -> (&str, Option<&str>) {
    if let Some(rest) = entry.strip_prefix('[')
        && let Some((address, after)) = rest.split_once(']')
    {
        return (address, after.strip_prefix(':'));
    }
    match entry.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        _ => (entry, None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(no_proxy: &str) -> ProxyRules {
        ProxyRules::new(&ProxySettings {
            http: Some("http://proxy.example:3128".to_owned()),
            https: Some("secure.example:3129".to_owned()),
            no_proxy: Some(no_proxy.to_owned()),
        })
    }

    fn chosen(no_proxy: &str, url: &str) -> Option<String> {
        let url = Url::parse(url).unwrap();
        rules(no_proxy).proxy_for(&url).map(ToString::to_string)
    }

    #[test]
    fn the_scheme_of_the_url_chooses_the_proxy() {
        let http = Some("http://proxy.example:3128".to_owned());
        let https = Some("http://secure.example:3129".to_owned());
        assert_eq!(chosen("", "http://gitlab.example/"), http);
        assert_eq!(chosen("", "https://gitlab.example/"), https);
        assert_eq!(chosen("", "ftp://gitlab.example/"), None);
        let only_http = ProxyRules::new(&ProxySettings {
            http: Some("http://p:1".to_owned()),
            ..ProxySettings::default()
        });
        let url = Url::parse("https://gitlab.example/").unwrap();
        assert_eq!(only_http.proxy_for(&url), None);
    }

    #[test]
    fn exceptions_follow_go() {
        let table = [
            // (NO_PROXY, URL, through the proxy)
            ("", "http://localhost/", false),
            ("", "http://localhost:8080/", false),
            ("", "http://127.0.0.1/", false),
            ("", "http://127.8.9.10/", false),
            ("", "http://[::1]:9/", false),
            ("", "http://[::ffff:127.0.0.1]/", false),
            ("", "http://sub.localhost/", true),
            ("", "http://192.168.1.1/", true),
            ("*", "http://anything.example/", false),
            ("a.example, *", "http://anything.example/", false),
            ("corp.lan", "http://corp.lan/", false),
            ("corp.lan", "http://a.b.corp.lan/", false),
            ("corp.lan", "http://notcorp.lan/", true),
            (".corp.lan", "http://corp.lan/", true),
            (".corp.lan", "http://git.corp.lan/", false),
            ("*.corp.lan", "http://git.corp.lan/", false),
            ("*.corp.lan", "http://corp.lan/", true),
            ("corp.lan:8080", "http://corp.lan:8080/", false),
            ("corp.lan:8080", "http://corp.lan/", true),
            ("corp.lan:80", "http://corp.lan/", false),
            ("corp.lan:443", "https://git.corp.lan/", false),
            (" CORP.lan ,", "http://Corp.LAN/", false),
            ("10.0.0.0/8", "http://10.20.30.40/", false),
            ("10.0.0.0/8", "http://11.0.0.1/", true),
            ("0.0.0.0/0", "http://8.8.8.8/", false),
            ("10.0.0.0/33", "http://10.0.0.1/", true),
            ("fd00::/8", "http://[fd12::1]/", false),
            ("fd00::/8", "http://[fe80::1]/", true),
            ("::/0", "http://[2001:db8::1]/", false),
            ("10.0.0.1", "http://10.0.0.1:99/", false),
            ("10.0.0.1:98", "http://10.0.0.1:99/", true),
            ("10.0.0.1:99", "http://10.0.0.1:99/", false),
            ("2001:db8::1", "http://[2001:db8::1]/", false),
            ("[2001:db8::1]:8080", "http://[2001:db8::1]:8080/", false),
            ("[2001:db8::1]:8080", "http://[2001:db8::1]/", true),
            ("::ffff:10.0.0.1", "http://10.0.0.1/", false),
            ("example.com:notaport", "http://example.com/", true),
            (":80", "http://example.com/", true),
            ("münchen.example", "http://xn--mnchen-3ya.example/", false),
        ];
        for (no_proxy, url, proxied) in table {
            assert_eq!(
                chosen(no_proxy, url).is_some(),
                proxied,
                "NO_PROXY={no_proxy:?} {url}"
            );
        }
    }

    #[test]
    fn credentials_are_used_and_never_shown() {
        let settings = ProxySettings {
            https: Some("http://me:s%40cret@proxy.example:3128".to_owned()),
            ..ProxySettings::default()
        };
        assert!(!format!("{settings:?}").contains("cret"));
        let rules = ProxyRules::new(&settings);
        let proxy = rules
            .proxy_for(&Url::parse("https://gitlab.example").unwrap())
            .unwrap();
        assert_eq!(
            proxy.credentials(),
            Some(("me".to_owned(), "s@cret".to_owned()))
        );
        assert_eq!(
            proxy.authorization().unwrap().to_str().unwrap(),
            "Basic bWU6c0BjcmV0"
        );
        assert!(!format!("{rules:?} {proxy}").contains("cret"));
        assert_eq!(
            proxy.address().unwrap().to_string(),
            "http://proxy.example:3128/"
        );
    }

    #[test]
    fn addresses_of_proxies_get_their_default_port() {
        let table = [
            ("proxy.example", "http://proxy.example:80/"),
            ("https://proxy.example", "https://proxy.example:443/"),
            ("socks5://proxy.example", "socks5://proxy.example:1080/"),
            ("10.0.0.1:3128", "http://10.0.0.1:3128/"),
        ];
        for (text, expected) in table {
            let address = Proxy::parse(text).unwrap().address().unwrap();
            assert_eq!(address.to_string(), expected, "{text}");
        }
        assert_eq!(Proxy::parse("["), None);
    }

    proptest! {
        #[test]
        fn any_list_of_exceptions_is_survived(list in "[ -~]{0,60}", host in "[a-z0-9.:-]{1,20}") {
            if let Ok(url) = Url::parse(&format!("http://{host}/")) {
                let _: Option<&Proxy> = rules(&list).proxy_for(&url);
            }
        }
    }
}
