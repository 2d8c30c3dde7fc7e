//! Name constraints (RFC 5280 4.2.1.10): DNS names, addresses, mail addresses and URI hosts, with Go's reading of the
//! unclear parts. Constraints on other name types (directoryName) are not enforced: critical ones refuse the
//! certificate, others are passed over, as in Go.

use std::net::IpAddr;

use crate::certificate::{Certificate, CertificateError};
use crate::der::{self, Element, Malformed, Reader};
use crate::extensions::{SubjectAlternativeNames, ascii};
use crate::work::{Exhausted, Work};
use crate::{host_name, uri};

/// What one certificate allows the certificates below it to be called.
#[derive(Debug, Clone, Default)]
pub(crate) struct NameConstraints {
    permitted: Subtrees,
    excluded: Subtrees,
}

#[derive(Debug, Clone, Default)]
struct Subtrees {
    dns: Vec<String>,
    ip: Vec<Network>,
    mail: Vec<MailConstraint>,
    uri: Vec<String>,
}

/// Base and mask, both of 4 or of 16 octets.
#[derive(Debug, Clone)]
struct Network {
    base: IpAddr,
    mask: IpAddr,
}

#[derive(Debug, Clone)]
enum MailConstraint {
    Mailbox(Mailbox),
    Domain(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mailbox {
    local: String,
    /// Lower case.
    domain: String,
}

/// Why a path breaks a constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Violation {
    /// The name and the rule, as in `DNS name "a.b" is not permitted by any constraint`.
    Name(String),
    /// More comparisons than [`Work`] allows.
    TooMuchWork,
}

impl From<Exhausted> for Violation {
    fn from(_: Exhausted) -> Self {
        Self::TooMuchWork
    }
}

impl NameConstraints {
    /// The constraints, and whether all of their name types are understood.
    pub(crate) fn parse(mut reader: Reader<'_>) -> Result<(Self, bool), CertificateError> {
        const WHAT: &str = "NameConstraints extension";
        let mut fields = reader.read(der::SEQUENCE, WHAT)?.reader();
        let permitted = fields.optional(der::context_constructed(0), WHAT)?;
        let excluded = fields.optional(der::context_constructed(1), WHAT)?;
        if !fields.is_empty() || !reader.is_empty() {
            return Err(Malformed(WHAT).into());
        }
        let is_empty =
            |list: &Option<Element<'_>>| list.is_none_or(|list| list.content().is_empty());
        if is_empty(&permitted) && is_empty(&excluded) {
            return Err("empty name constraints extension".into());
        }
        let mut understood = true;
        let mut read = |list: Option<Element<'_>>| {
            list.map_or_else(
                || Ok(Subtrees::default()),
                |list| Subtrees::parse(list.reader(), &mut understood),
            )
        };
        let constraints = Self {
            permitted: read(permitted)?,
            excluded: read(excluded)?,
        };
        Ok((constraints, understood))
    }

    fn check(&self, names: &Names<'_>, work: &mut Work) -> Result<(), Violation> {
        let (permitted, excluded) = (&self.permitted, &self.excluded);
        for address in names.ip {
            let matches = |rule: &Network, _| rule.contains(*address);
            let what: Named<'_> = ("IP address", address);
            enforce(what, &permitted.ip, &excluded.ip, work, matches)?;
        }
        for name in names.dns {
            work.compare(name.len() / 8)?;
            if !host_name::is_sound(name, false) {
                return Err(Violation::Name(format!("cannot parse dnsName {name:?}")));
            }
            let matches = |rule: &String, excluding| dns_matches(rule, name, excluding);
            let what: Named<'_> = ("DNS name", name);
            enforce(what, &permitted.dns, &excluded.dns, work, matches)?;
        }
        for (host, name) in &names.uri_hosts {
            let matches = |rule: &String, excluding| dns_matches(rule, host, excluding);
            let what: Named<'_> = ("URI", name);
            enforce(what, &permitted.uri, &excluded.uri, work, matches)?;
        }
        for (mailbox, name) in &names.mailboxes {
            let matches = |rule: &MailConstraint, excluding| match rule {
                MailConstraint::Mailbox(only) => only == mailbox,
                MailConstraint::Domain(domain) => dns_matches(domain, &mailbox.domain, excluding),
            };
            let what: Named<'_> = ("email address", name);
            enforce(what, &permitted.mail, &excluded.mail, work, matches)?;
        }
        Ok(())
    }
}

/// Every constraint of a path binds the names of all certificates below its own.
pub(crate) fn check_path(
    path: &[impl AsRef<Certificate>],
    work: &mut Work,
) -> Result<(), Violation> {
    for (position, certificate) in path.iter().enumerate() {
        let Some(names) = &certificate.as_ref().extensions().subject_alternative_names else {
            continue;
        };
        let mut constraints = path[position + 1..]
            .iter()
            .filter_map(|above| above.as_ref().extensions().name_constraints.as_ref())
            .peekable();
        if constraints.peek().is_none() {
            continue;
        }
        // Mail addresses and URIs are read letter by letter.
        let letters: usize = names.mail.iter().chain(&names.uri).map(String::len).sum();
        work.compare(letters)?;
        let names = Names::comparable(names)?;
        for constraint in constraints {
            constraint.check(&names, work)?;
        }
    }
    Ok(())
}

/// A kind of name and the name itself, for messages.
type Named<'a> = (&'static str, &'a dyn std::fmt::Display);

/// Passes when a permitted rule matches (or there is none for this type) and no excluded one does.
fn enforce<Rule>(
    (what, name): Named<'_>,
    permitted: &[Rule],
    excluded: &[Rule],
    work: &mut Work,
    matches: impl Fn(&Rule, bool) -> bool,
) -> Result<(), Violation> {
    work.compare(permitted.len() + excluded.len() + 1)?;
    // The name is the peer's: no control character of it may reach a log.
    let named = || format!("{what} \"{}\"", name.to_string().escape_debug());
    if !permitted.is_empty() && !permitted.iter().any(|rule| matches(rule, false)) {
        return Err(Violation::Name(format!(
            "{} is not permitted by any constraint",
            named()
        )));
    }
    if excluded.iter().any(|rule| matches(rule, true)) {
        return Err(Violation::Name(format!(
            "{} is excluded by a constraint",
            named()
        )));
    }
    Ok(())
}

/// A certificate's names in the form in which constraints compare them.
struct Names<'a> {
    dns: &'a [String],
    ip: &'a [IpAddr],
    uri_hosts: Vec<(String, &'a str)>,
    mailboxes: Vec<(Mailbox, &'a str)>,
}

impl<'a> Names<'a> {
    fn comparable(names: &'a SubjectAlternativeNames) -> Result<Self, Violation> {
        let mut uri_hosts = Vec::with_capacity(names.uri.len());
        for name in &names.uri {
            let host = uri::constrained_host(name).map_err(Violation::Name)?;
            uri_hosts.push((host, name.as_str()));
        }
        let mut mailboxes = Vec::with_capacity(names.mail.len());
        for name in &names.mail {
            let mailbox = Mailbox::parse(name)
                .filter(|mailbox| host_name::is_sound(&mailbox.domain, false))
                .ok_or_else(|| Violation::Name(format!("cannot parse rfc822Name {name:?}")))?;
            mailboxes.push((mailbox, name.as_str()));
        }
        Ok(Self {
            dns: &names.dns,
            ip: &names.ip,
            uri_hosts,
            mailboxes,
        })
    }
}

impl Subtrees {
    fn parse(mut list: Reader<'_>, understood: &mut bool) -> Result<Self, CertificateError> {
        const WHAT: &str = "NameConstraints extension";
        const OTHERWISE: &str = "invalid constraint value: not an IA5String";
        let mut subtrees = Self::default();
        while !list.is_empty() {
            let base = list.read(der::SEQUENCE, WHAT)?.reader().any(WHAT)?;
            match base.tag {
                0x81 => subtrees
                    .mail
                    .push(MailConstraint::parse(&ascii(base.content(), OTHERWISE)?)?),
                0x82 => subtrees
                    .dns
                    .push(domain("dnsName", ascii(base.content(), OTHERWISE)?)?),
                0x86 => {
                    let host = ascii(base.content(), OTHERWISE)?;
                    if host.parse::<IpAddr>().is_ok() {
                        return Err(CertificateError(format!(
                            "failed to parse URI constraint {host:?}: cannot be IP address"
                        )));
                    }
                    subtrees.uri.push(domain("URI", host)?);
                }
                0x87 => subtrees.ip.push(Network::parse(base.content())?),
                _ => *understood = false,
            }
        }
        Ok(subtrees)
    }
}

fn domain(what: &str, text: String) -> Result<String, CertificateError> {
    if host_name::is_sound(&text, true) {
        Ok(text)
    } else {
        Err(CertificateError(format!(
            "failed to parse {what} constraint {text:?}"
        )))
    }
}

/// Whether a constraint on DNS names takes in a name. `.example.com` wants at least one label more, the empty
/// constraint takes in everything. An excluded `foo.example.com` also takes in `*.example.com`, which could stand for it.
fn dns_matches(constraint: &str, name: &str, excluding: bool) -> bool {
    if constraint.is_empty() {
        return true;
    }
    let (constraint, name) = (constraint.as_bytes(), name.as_bytes());
    if let Some(start) = name.len().checked_sub(constraint.len())
        && name[start..].eq_ignore_ascii_case(constraint)
        && (start == 0 || constraint[0] == b'.' || name[start - 1] == b'.')
    {
        return true;
    }
    let parent = |name: &[u8]| name.iter().position(|&byte| byte == b'.');
    if excluding
        && name.first() == Some(&b'*')
        && let (Some(of_name), Some(of_constraint)) = (parent(name), parent(constraint))
    {
        return name[of_name..].eq_ignore_ascii_case(&constraint[of_constraint..]);
    }
    false
}

impl Network {
    fn parse(bytes: &[u8]) -> Result<Self, CertificateError> {
        let (base, mask) = bytes.split_at(bytes.len() / 2);
        let address = |half: &[u8]| match half.len() {
            4 => <[u8; 4]>::try_from(half).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(half).ok().map(IpAddr::from),
            _ => None,
        };
        let (Some(base_address), Some(mask_address), true) =
            (address(base), address(mask), base.len() == mask.len())
        else {
            return Err(CertificateError(format!(
                "IP constraint contained value of length {}",
                bytes.len()
            )));
        };
        let ones = mask
            .iter()
            .map(|byte| byte.leading_ones())
            .take_while(|&ones| ones > 0);
        let prefix = ones.fold((0, true), |(sum, go_on), ones| {
            if go_on {
                (sum + ones, ones == 8)
            } else {
                (sum, false)
            }
        });
        let set: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
        if prefix.0 != set {
            return Err(CertificateError(format!(
                "IP constraint contained invalid mask {}",
                hex::encode(mask)
            )));
        }
        Ok(Self {
            base: base_address,
            mask: mask_address,
        })
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.base, self.mask, address) {
            (IpAddr::V4(base), IpAddr::V4(mask), IpAddr::V4(address)) => {
                base.to_bits() & mask.to_bits() == address.to_bits() & mask.to_bits()
            }
            (IpAddr::V6(base), IpAddr::V6(mask), IpAddr::V6(address)) => {
                // An IPv4-mapped address is an IPv4 address for Go: no IPv6 network takes it in, unless that is mapped
                // as well.
                base.to_ipv4_mapped().is_some() == address.to_ipv4_mapped().is_some()
                    && base.to_bits() & mask.to_bits() == address.to_bits() & mask.to_bits()
            }
            _ => false,
        }
    }
}

impl MailConstraint {
    fn parse(text: &str) -> Result<Self, CertificateError> {
        if text.contains('@') {
            return Mailbox::parse(text).map(Self::Mailbox).ok_or_else(|| {
                CertificateError(format!("failed to parse rfc822Name constraint {text:?}"))
            });
        }
        domain("rfc822Name", text.to_owned()).map(Self::Domain)
    }
}

impl Mailbox {
    /// A mailbox by RFC 2821 4.1.2, local part quoted or not; the domain may be anything that looks like one.
    fn parse(text: &str) -> Option<Self> {
        let (local, domain) = match text.strip_prefix('"') {
            Some(quoted) => quoted_local(quoted)?,
            None => plain_local(text)?,
        };
        let domain = domain.strip_prefix('@')?;
        let sound = host_name::is_sound(domain, false);
        sound.then(|| Self {
            local,
            domain: domain.to_ascii_lowercase(),
        })
    }
}

fn quoted_local(text: &str) -> Option<(String, &str)> {
    let mut local = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((local, &text[at + 1..])),
            '\\' => {
                let (_, escaped) = letters.next()?;
                if !escaped.is_ascii() || "\0\n\r".contains(escaped) {
                    return None;
                }
                local.push(escaped);
            }
            '\0' | '\t' | '\n' | '\r' => return None,
            other if other.is_ascii() => local.push(other),
            _ => return None,
        }
    }
    None
}

fn plain_local(text: &str) -> Option<(String, &str)> {
    let mut local = String::new();
    let mut letters = text.char_indices();
    let mut end = text.len();
    while let Some((at, letter)) = letters.next() {
        if letter == '\\' {
            local.push(letters.next()?.1);
        } else if letter.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(letter) {
            local.push(letter);
        } else {
            end = at;
            break;
        }
    }
    let dots = local.starts_with('.') || local.ends_with('.') || local.contains("..");
    (!local.is_empty() && !dots).then(|| (local, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_constraints_take_in_names_as_in_go() {
        let cases = [
            ("example.com", "example.com", false, true),
            ("example.com", "a.EXAMPLE.com", false, true),
            ("example.com", "notexample.com", false, false),
            (".example.com", "example.com", false, false),
            (".example.com", "a.example.com", false, true),
            ("", "anything", false, true),
            ("foo.example.com", "*.example.com", false, false),
            ("foo.example.com", "*.example.com", true, true),
            ("example.com", "*.example.com", false, true),
            ("com", "*.example.com", true, true),
        ];
        for (constraint, name, excluding, expected) in cases {
            assert_eq!(
                dns_matches(constraint, name, excluding),
                expected,
                "{constraint} {name} excluding: {excluding}"
            );
        }
    }

    #[test]
    fn networks_need_a_sound_mask_and_one_family() {
        let network = Network::parse(&[10, 0, 0, 0, 255, 0, 0, 0]).expect("a network");
        assert!(network.contains("10.1.2.3".parse().expect("an address")));
        assert!(!network.contains("11.1.2.3".parse().expect("an address")));
        assert!(!network.contains("::ffff:10.1.2.3".parse().expect("an address")));
        assert!(Network::parse(&[10, 0, 0, 0, 255, 0, 255, 0]).is_err());
        assert!(Network::parse(&[10, 0, 0, 0, 254, 128, 0, 0]).is_err());
        assert!(Network::parse(&[10, 0, 0, 0, 255]).is_err());
        assert!(Network::parse(&[0; 8]).is_ok());
    }

    #[test]
    fn mailboxes_are_split_at_the_right_at_sign() {
        let cases = [
            ("a.b@Example.com", Some(("a.b", "example.com"))),
            ("\"a@b\"@example.com", Some(("a@b", "example.com"))),
            (".a@example.com", None),
            ("a..b@example.com", None),
            ("@example.com", None),
            ("plain", None),
            ("a@exa mple", None),
        ];
        for (text, expected) in cases {
            let found = Mailbox::parse(text);
            assert_eq!(
                found
                    .as_ref()
                    .map(|m| (m.local.as_str(), m.domain.as_str())),
                expected,
                "{text}"
            );
        }
    }
}
