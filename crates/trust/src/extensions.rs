//! The extensions of a certificate (RFC 5280 4.2) that decide about trust, read as strictly as Go reads them.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::certificate::CertificateError;
use crate::der::{self, Malformed, Reader};
use crate::name_constraints::NameConstraints;

/// What a certificate's extensions say; absent ones leave their default.
#[derive(Debug, Clone, Default)]
pub(crate) struct Extensions {
    pub(crate) basic_constraints: Option<BasicConstraints>,
    pub(crate) key_usage: KeyUsage,
    /// Encoded object identifiers of the extended key usages; empty when there is no such extension.
    pub(crate) extended_key_usages: Vec<Vec<u8>>,
    pub(crate) subject_alternative_names: Option<SubjectAlternativeNames>,
    pub(crate) name_constraints: Option<NameConstraints>,
    pub(crate) subject_key_id: Vec<u8>,
    pub(crate) authority_key_id: Vec<u8>,
    pub(crate) policies: Policies,
    pub(crate) issuing_urls: Vec<String>,
    /// Dotted object identifiers of critical extensions that nobody here understands.
    pub(crate) unknown_critical: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct BasicConstraints {
    pub(crate) ca: bool,
    pub(crate) path_length: Option<u64>,
}

/// Bits of keyUsage; no bit set counts as absent, as in Go.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct KeyUsage {
    any_bit: bool,
    key_cert_sign: bool,
}

impl KeyUsage {
    pub(crate) fn may_sign_certificates(self) -> bool {
        self.key_cert_sign || !self.any_bit
    }
}

/// The names for which a certificate stands. DNS names and mail addresses are ASCII.
#[derive(Debug, Clone, Default)]
pub(crate) struct SubjectAlternativeNames {
    /// The encoded extension, to tell two certificates of one subject apart.
    pub(crate) encoded: Vec<u8>,
    pub(crate) dns: Vec<String>,
    pub(crate) ip: Vec<IpAddr>,
    pub(crate) mail: Vec<String>,
    pub(crate) uri: Vec<String>,
}

/// What certificatePolicies and its three companions say (RFC 5280 4.2.1.4, 5, 11 and 14).
#[derive(Debug, Clone, Default)]
pub(crate) struct Policies {
    pub(crate) named: Vec<Vec<u8>>,
    pub(crate) mappings: Vec<PolicyMapping>,
    pub(crate) require_explicit: Option<u64>,
    pub(crate) inhibit_mapping: Option<u64>,
    pub(crate) inhibit_any: Option<u64>,
}

/// Identifiers of the extensions so far: a bit for each of RFC 5280's own arc, which are nearly all.
#[derive(Default)]
struct Seen<'a> {
    of_rfc_5280: u128,
    others: HashSet<&'a [u8]>,
}

impl<'a> Seen<'a> {
    /// Whether the identifier is new.
    fn insert(&mut self, id: &'a [u8]) -> bool {
        match *id {
            [0x55, 0x1d, number @ ..0x80] => {
                let bit = 1 << number;
                let new = self.of_rfc_5280 & bit == 0;
                self.of_rfc_5280 |= bit;
                new
            }
            _ => self.others.insert(id),
        }
    }
}

/// Issuer's policy, subject's policy; encoded object identifiers.
pub(crate) type PolicyMapping = (Vec<u8>, Vec<u8>);

impl Extensions {
    /// Reads the sequence inside `[3]`.
    pub(crate) fn parse(mut outer: Reader<'_>) -> Result<Self, CertificateError> {
        let mut extensions = Self::default();
        let mut seen = Seen::default();
        let mut list = outer.read(der::SEQUENCE, "extensions")?.reader();
        while !list.is_empty() {
            let mut extension = list.read(der::SEQUENCE, "extension")?.reader();
            let id = extension.object_identifier("extension OID field")?;
            let critical =
                extension.peek(der::BOOLEAN) && extension.boolean("extension critical field")?;
            let value = extension
                .read(der::OCTET_STRING, "extension value field")?
                .content();
            if !seen.insert(id) {
                return Err(CertificateError(format!(
                    "certificate contains duplicate extension with OID \"{}\"",
                    der::dotted(id)
                )));
            }
            let understood = extensions.take(id, critical, value)?;
            if critical && !understood {
                extensions.unknown_critical.push(der::dotted(id));
            }
        }
        Ok(extensions)
    }

    /// Whether the extension was understood.
    fn take(&mut self, id: &[u8], critical: bool, value: &[u8]) -> Result<bool, CertificateError> {
        const AUTHORITY_INFORMATION_ACCESS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 1];
        let mut reader = Reader::new(value);
        match id {
            [0x55, 0x1d, 14] => {
                never_critical("subject key identifier", critical)?;
                self.subject_key_id = reader
                    .read(der::OCTET_STRING, "subject key identifier")?
                    .content()
                    .to_vec();
            }
            [0x55, 0x1d, 15] => self.key_usage = key_usage(reader)?,
            [0x55, 0x1d, 17] => {
                let names = SubjectAlternativeNames::parse(value)?;
                let understood = !(names.dns.is_empty()
                    && names.ip.is_empty()
                    && names.mail.is_empty()
                    && names.uri.is_empty());
                self.subject_alternative_names = Some(names);
                return Ok(understood);
            }
            [0x55, 0x1d, 19] => self.basic_constraints = Some(basic_constraints(reader)?),
            [0x55, 0x1d, 30] => {
                let (constraints, understood) = NameConstraints::parse(reader)?;
                self.name_constraints = Some(constraints);
                return Ok(understood);
            }
            [0x55, 0x1d, 31] => distribution_points(reader)?,
            [0x55, 0x1d, 32] => self.policies.named = named_policies(reader)?,
            [0x55, 0x1d, 33] => self.policies.mappings = policy_mappings(reader)?,
            [0x55, 0x1d, 35] => {
                never_critical("authority key identifier", critical)?;
                let mut fields = reader
                    .read(der::SEQUENCE, "authority key identifier")?
                    .reader();
                if let Some(key_id) =
                    fields.optional(der::context(0), "authority key identifier")?
                {
                    self.authority_key_id = key_id.content().to_vec();
                }
            }
            [0x55, 0x1d, 36] => {
                const WHAT: &str = "policy constraints extension";
                let mut fields = reader.read(der::SEQUENCE, WHAT)?.reader();
                self.policies.require_explicit = skip_count(&mut fields, 0, WHAT)?;
                self.policies.inhibit_mapping = skip_count(&mut fields, 1, WHAT)?;
            }
            [0x55, 0x1d, 37] => self.extended_key_usages = extended_key_usages(reader)?,
            [0x55, 0x1d, 54] => {
                const WHAT: &str = "inhibit any policy extension";
                let count = der::small_integer(reader.integer(WHAT)?).ok_or(Malformed(WHAT))?;
                self.policies.inhibit_any = Some(count);
            }
            AUTHORITY_INFORMATION_ACCESS => {
                never_critical("authority info access", critical)?;
                self.issuing_urls = issuing_urls(reader)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn never_critical(what: &str, critical: bool) -> Result<(), CertificateError> {
    if critical {
        return Err(CertificateError(format!(
            "{what} incorrectly marked critical"
        )));
    }
    Ok(())
}

fn key_usage(mut reader: Reader<'_>) -> Result<KeyUsage, Malformed> {
    let bits = reader.bit_string("key usage")?.bytes;
    let first = bits.first().copied().unwrap_or_default();
    let ninth = bits.get(1).is_some_and(|byte| byte & 0x80 != 0);
    Ok(KeyUsage {
        any_bit: first != 0 || ninth,
        key_cert_sign: first & 0x04 != 0,
    })
}

fn basic_constraints(mut reader: Reader<'_>) -> Result<BasicConstraints, Malformed> {
    const WHAT: &str = "basic constraints";
    let mut fields = reader.read(der::SEQUENCE, WHAT)?.reader();
    let ca = fields.peek(der::BOOLEAN) && fields.boolean(WHAT)?;
    let path_length = if fields.peek(der::INTEGER) {
        let bytes = fields.integer(WHAT)?;
        let small = (bytes[0] & 0x80 == 0)
            .then(|| der::small_integer(bytes))
            .flatten()
            .filter(|&length| i64::try_from(length).is_ok());
        Some(small.ok_or(Malformed(WHAT))?)
    } else {
        None
    };
    Ok(BasicConstraints { ca, path_length })
}

fn extended_key_usages(mut reader: Reader<'_>) -> Result<Vec<Vec<u8>>, Malformed> {
    const WHAT: &str = "extended key usages";
    let mut list = reader.read(der::SEQUENCE, WHAT)?.reader();
    let mut usages = Vec::new();
    while !list.is_empty() {
        usages.push(list.object_identifier(WHAT)?.to_vec());
    }
    Ok(usages)
}

fn named_policies(mut reader: Reader<'_>) -> Result<Vec<Vec<u8>>, Malformed> {
    const WHAT: &str = "certificate policies";
    let mut list = reader.read(der::SEQUENCE, WHAT)?.reader();
    let mut seen = HashSet::new();
    let mut policies = Vec::new();
    while !list.is_empty() {
        let mut policy = list.read(der::SEQUENCE, WHAT)?.reader();
        let id = policy.read(der::OBJECT_IDENTIFIER, WHAT)?.content();
        if !der::has_whole_arcs(id) || !seen.insert(id) {
            return Err(Malformed(WHAT));
        }
        policies.push(id.to_vec());
    }
    Ok(policies)
}

fn policy_mappings(mut reader: Reader<'_>) -> Result<Vec<PolicyMapping>, Malformed> {
    const WHAT: &str = "policy mappings extension";
    let mut list = reader.read(der::SEQUENCE, WHAT)?.reader();
    let mut mappings = Vec::new();
    while !list.is_empty() {
        let mut mapping = list.read(der::SEQUENCE, WHAT)?.reader();
        let issuer = mapping.read(der::OBJECT_IDENTIFIER, WHAT)?.content();
        let subject = mapping.read(der::OBJECT_IDENTIFIER, WHAT)?.content();
        mappings.push((issuer.to_vec(), subject.to_vec()));
    }
    Ok(mappings)
}

fn skip_count(
    fields: &mut Reader<'_>,
    number: u8,
    what: &'static str,
) -> Result<Option<u64>, Malformed> {
    if !fields.peek(der::context(number)) {
        return Ok(None);
    }
    let count = fields.integer_tagged(der::context(number), what)?;
    der::small_integer(count.content())
        .map(Some)
        .ok_or(Malformed(what))
}

/// Only the form is checked: Courser fetches no revocation lists, but a form that Go refuses is refused.
fn distribution_points(mut reader: Reader<'_>) -> Result<(), Malformed> {
    const WHAT: &str = "CRL distribution point";
    let mut list = reader
        .read(der::SEQUENCE, "CRL distribution points")?
        .reader();
    while !list.is_empty() {
        let mut point = list.read(der::SEQUENCE, WHAT)?.reader();
        let Some(name) = point.optional(der::context_constructed(0), WHAT)? else {
            continue;
        };
        let mut names = name
            .reader()
            .read(der::context_constructed(0), WHAT)?
            .reader();
        while names.peek(der::context(6)) {
            names.any(WHAT)?;
        }
    }
    Ok(())
}

fn issuing_urls(mut reader: Reader<'_>) -> Result<Vec<String>, Malformed> {
    const WHAT: &str = "authority info access";
    const CA_ISSUERS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 2];
    let mut list = reader.read(der::SEQUENCE, WHAT)?.reader();
    let mut urls = Vec::new();
    while !list.is_empty() {
        let mut access = list.read(der::SEQUENCE, WHAT)?.reader();
        let method = access.object_identifier(WHAT)?;
        let location = access.optional(der::context(6), WHAT)?;
        if let Some(url) = location
            && method == CA_ISSUERS
        {
            urls.push(String::from_utf8_lossy(url.content()).into_owned());
        }
    }
    Ok(urls)
}

impl SubjectAlternativeNames {
    fn parse(encoded: &[u8]) -> Result<Self, CertificateError> {
        let mut list = Reader::new(encoded)
            .read(der::SEQUENCE, "subject alternative names")?
            .reader();
        let mut names = Self {
            encoded: encoded.to_vec(),
            ..Self::default()
        };
        while !list.is_empty() {
            let name = list.any("subject alternative name")?;
            match name.tag {
                0x81 => names
                    .mail
                    .push(ascii(name.content(), "SAN rfc822Name is malformed")?),
                0x82 => names
                    .dns
                    .push(ascii(name.content(), "SAN dNSName is malformed")?),
                0x86 => {
                    let uri = ascii(name.content(), "SAN uniformResourceIdentifier is malformed")?;
                    crate::uri::check(&uri)?;
                    names.uri.push(uri);
                }
                0x87 => names.ip.push(ip_address(name.content())?),
                // directoryName, otherName and the rest name no host.
                _ => {}
            }
        }
        Ok(names)
    }
}

pub(crate) fn ascii(bytes: &[u8], otherwise: &str) -> Result<String, CertificateError> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Ok(text.to_owned()),
        _ => Err(otherwise.into()),
    }
}

fn ip_address(bytes: &[u8]) -> Result<IpAddr, CertificateError> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::from(octets));
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(octets) => Ok(IpAddr::from(octets)),
        Err(_) => Err(CertificateError(format!(
            "cannot parse IP address of length {}",
            bytes.len()
        ))),
    }
}
