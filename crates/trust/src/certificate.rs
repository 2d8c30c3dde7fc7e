//! One certificate: its bytes and the facts that decide about trust.
//!
//! [`Certificate::parse`] accepts what Go's `x509.ParseCertificate` accepts (Go 1.26) and refuses what it refuses, since
//! a served certificate that Go cannot parse fails its whole handshake (`dependencies.md` 3.2). Facts are checked
//! here; what they mean for a path is decided in [`path`](crate::path).

use std::fmt;
use std::net::IpAddr;
use std::ops::Range;

use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use crate::der::{self, BitString, Malformed, Reader};
use crate::distinguished_name::DistinguishedName;
use crate::extensions::Extensions;
use crate::moment::Moment;
use crate::signature;

/// Why bytes are no certificate; a lower-case fragment such as `negative serial number`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CertificateError(pub(crate) String);

impl From<Malformed> for CertificateError {
    fn from(malformed: Malformed) -> Self {
        Self(malformed.to_string())
    }
}

impl From<&str> for CertificateError {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// SHA-256 over a certificate's DER. Prints as lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of a certificate's DER bytes.
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A public key as far as trust cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// Length of the modulus in bits, and the public exponent, which is not 0.
    Rsa { bits: usize, exponent: u64 },
    /// Length of a coordinate.
    EllipticCurve { octets: usize },
    /// Ed25519, or a kind that nobody here knows.
    Other,
}

/// A parsed certificate with its own bytes.
#[derive(Clone)]
pub struct Certificate {
    der: CertificateDer<'static>,
    fingerprint: Fingerprint,
    version: u8,
    serial: Range<usize>,
    signed: Range<usize>,
    signature_algorithm: Range<usize>,
    signature: Range<usize>,
    signature_is_whole: bool,
    issuer_der: Range<usize>,
    subject_der: Range<usize>,
    key_info: Range<usize>,
    key_algorithm: Range<usize>,
    key: Range<usize>,
    key_kind: KeyKind,
    issuer: DistinguishedName,
    subject: DistinguishedName,
    not_before: Moment,
    not_after: Moment,
    extensions: Extensions,
}

impl Certificate {
    /// Reads exactly one certificate.
    ///
    /// # Errors
    ///
    /// When Go would refuse it: bad DER, trailing bytes, negative serial number, duplicate extensions, inner and outer
    /// signature algorithm that differ, an IP SAN of the wrong length, empty name constraints and so on.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let mut input = Reader::new(der);
        let outer = input.read(der::SEQUENCE, "certificate")?;
        if !input.is_empty() {
            return Err("trailing data".into());
        }
        let mut fields = outer.reader();
        let signed = fields.read(der::SEQUENCE, "tbs certificate")?;
        let outer_algorithm = fields.read(der::SEQUENCE, "algorithm identifier")?;

        let mut tbs = signed.reader();
        let version = version(&mut tbs)?;
        let serial = serial(&mut tbs)?;
        let algorithm = tbs.read(der::SEQUENCE, "signature algorithm identifier")?;
        if algorithm.content() != outer_algorithm.content() {
            return Err("inner and outer signature algorithm identifiers don't match".into());
        }
        algorithm
            .reader()
            .object_identifier("signature algorithm identifier")?;
        let issuer = tbs.read(der::SEQUENCE, "issuer")?;
        let issuer_name = DistinguishedName::parse(&issuer)?;
        let mut validity = tbs.read(der::SEQUENCE, "validity")?.reader();
        let not_before = Moment::parse(&validity.any("validity")?)?;
        let not_after = Moment::parse(&validity.any("validity")?)?;
        let subject = tbs.read(der::SEQUENCE, "subject")?;
        let subject_name = if subject.content() == issuer.content() {
            issuer_name.clone()
        } else {
            DistinguishedName::parse(&subject)?
        };

        let key_info = tbs.read(der::SEQUENCE, "subject public key info")?;
        let mut key_fields = key_info.reader();
        let key_algorithm = key_fields.read(der::SEQUENCE, "public key algorithm identifier")?;
        let key = key_fields.bit_string("subject public key")?;
        let key_kind = key_kind(key_algorithm.reader(), &key)?;

        let mut extensions = Extensions::default();
        if version > 1 {
            // issuerUniqueID and subjectUniqueID
            tbs.optional(der::context(1), "issuer unique id")?;
            tbs.optional(der::context(2), "subject unique id")?;
        }
        if version == 3
            && let Some(found) = tbs.optional(der::context_constructed(3), "extensions")?
        {
            extensions = Extensions::parse(found.reader())?;
        }

        let signature = fields.bit_string("signature")?;

        Ok(Self {
            fingerprint: Fingerprint::of(der),
            version,
            serial,
            signed: signed.range(),
            signature_algorithm: algorithm.content_range(),
            signature_is_whole: signature.unused_bits == 0,
            signature: signature.range,
            issuer_der: issuer.range(),
            subject_der: subject.range(),
            key_info: key_info.range(),
            key_algorithm: key_algorithm.content_range(),
            key: key.range,
            key_kind,
            issuer: issuer_name,
            subject: subject_name,
            not_before,
            not_after,
            extensions,
            der: CertificateDer::from(der.to_vec()),
        })
    }

    /// The whole certificate.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// SHA-256 over the whole certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Whom it was given to.
    pub fn subject(&self) -> &DistinguishedName {
        &self.subject
    }

    /// Who signed it.
    pub fn issuer(&self) -> &DistinguishedName {
        &self.issuer
    }

    /// The encoded subject; issuers are found by equality of these bytes.
    pub fn subject_der(&self) -> &[u8] {
        &self.der[self.subject_der.clone()]
    }

    /// The encoded issuer.
    pub fn issuer_der(&self) -> &[u8] {
        &self.der[self.issuer_der.clone()]
    }

    /// Whether issuer and subject are the same name, as in a root (the signature is not looked at).
    pub fn is_self_issued(&self) -> bool {
        self.issuer_der() == self.subject_der()
    }

    /// First moment of validity.
    pub fn not_before(&self) -> Moment {
        self.not_before
    }

    /// Last moment of validity.
    pub fn not_after(&self) -> Moment {
        self.not_after
    }

    /// Serial number in hexadecimal digits.
    pub fn serial(&self) -> String {
        hex::encode(&self.der[self.serial.clone()])
    }

    /// Serial number in decimal digits, as Go's log fields have it.
    pub fn serial_decimal(&self) -> String {
        let mut digits = vec![0u8];
        for &byte in &self.der[self.serial.clone()] {
            let mut carry = u16::from(byte);
            for digit in &mut digits {
                let value = u16::from(*digit) * 256 + carry;
                *digit = (value % 10) as u8;
                carry = value / 10;
            }
            while carry > 0 {
                digits.push((carry % 10) as u8);
                carry /= 10;
            }
        }
        digits
            .iter()
            .rev()
            .map(|digit| char::from(b'0' + digit))
            .collect()
    }

    /// Whether it says `CA:TRUE`.
    pub fn is_ca(&self) -> bool {
        self.extensions
            .basic_constraints
            .is_some_and(|constraints| constraints.ca)
    }

    /// dNSName entries of its SAN.
    pub fn dns_names(&self) -> &[String] {
        self.extensions
            .subject_alternative_names
            .as_ref()
            .map_or(&[], |names| &names.dns)
    }

    /// iPAddress entries of its SAN.
    pub fn ip_addresses(&self) -> &[IpAddr] {
        self.extensions
            .subject_alternative_names
            .as_ref()
            .map_or(&[], |names| &names.ip)
    }

    /// Where its issuer can be fetched (`caIssuers` of the authority information access), in order.
    pub fn issuing_certificate_urls(&self) -> &[String] {
        &self.extensions.issuing_urls
    }

    /// The bits of its signature.
    pub fn signature(&self) -> &[u8] {
        &self.der[self.signature.clone()]
    }

    /// Whether the signature is made of octets, as those of all algorithms are.
    pub(crate) fn signature_is_whole(&self) -> bool {
        self.signature_is_whole
    }

    /// 1, 2 or 3.
    pub(crate) fn version(&self) -> u8 {
        self.version
    }

    /// The bytes that the signature covers.
    pub(crate) fn signed(&self) -> &[u8] {
        &self.der[self.signed.clone()]
    }

    /// Content of the signature's `AlgorithmIdentifier`.
    pub(crate) fn signature_algorithm(&self) -> &[u8] {
        &self.der[self.signature_algorithm.clone()]
    }

    /// The whole `SubjectPublicKeyInfo`.
    pub(crate) fn key_info(&self) -> &[u8] {
        &self.der[self.key_info.clone()]
    }

    /// Content of the key's `AlgorithmIdentifier`.
    pub(crate) fn key_algorithm(&self) -> &[u8] {
        &self.der[self.key_algorithm.clone()]
    }

    /// The raw public key.
    pub(crate) fn key(&self) -> &[u8] {
        &self.der[self.key.clone()]
    }

    pub(crate) fn key_kind(&self) -> KeyKind {
        self.key_kind
    }

    pub(crate) fn extensions(&self) -> &Extensions {
        &self.extensions
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.subject.to_string())
            .field("issuer", &self.issuer.to_string())
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

fn version(tbs: &mut Reader<'_>) -> Result<u8, CertificateError> {
    let Some(explicit) = tbs.optional(der::context_constructed(0), "version")? else {
        return Ok(1);
    };
    match explicit.reader().integer("version")? {
        [version @ 0..=2] => Ok(version + 1),
        _ => Err("invalid version".into()),
    }
}

fn serial(tbs: &mut Reader<'_>) -> Result<Range<usize>, CertificateError> {
    let serial = tbs.integer_tagged(der::INTEGER, "serial number")?;
    if serial.content()[0] & 0x80 != 0 {
        return Err("negative serial number".into());
    }
    Ok(serial.content_range())
}

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const ELLIPTIC_CURVE: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const DSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x38, 4, 1];
const ED25519: &[u8] = &[0x2b, 101, 112];

/// Checks the key's form for the kinds that Go knows; any other kind is kept and refused only where it is used.
fn key_kind(mut algorithm: Reader<'_>, key: &BitString<'_>) -> Result<KeyKind, CertificateError> {
    let kind = algorithm.object_identifier("public key algorithm identifier")?;
    let parameters = if algorithm.is_empty() {
        None
    } else {
        Some(algorithm.any("public key algorithm parameters")?)
    };
    match kind {
        RSA => {
            if parameters.is_none_or(|null| null.tag != 5 || !null.content().is_empty()) {
                return Err("RSA key missing NULL parameters".into());
            }
            let mut numbers = Reader::new(key.bytes)
                .read(der::SEQUENCE, "RSA public key")?
                .reader();
            let modulus = numbers.integer("RSA modulus")?;
            let exponent = numbers.integer("RSA public exponent")?;
            for (number, what) in [(modulus, "modulus"), (exponent, "public exponent")] {
                if !is_positive(number) {
                    return Err(CertificateError(format!(
                        "RSA {what} is not a positive number"
                    )));
                }
            }
            let modulus = modulus.strip_prefix(&[0]).unwrap_or(modulus);
            let leading = modulus.first().map_or(0, |byte| byte.leading_zeros());
            let bits = modulus.len() * 8 - leading as usize;
            let exponent = der::small_integer(exponent)
                .filter(|&exponent| i64::try_from(exponent).is_ok())
                .ok_or("invalid RSA public exponent")?;
            Ok(KeyKind::Rsa { bits, exponent })
        }
        ELLIPTIC_CURVE => {
            let curve = parameters
                .filter(|parameters| parameters.tag == der::OBJECT_IDENTIFIER)
                .ok_or("invalid ECDSA parameters")?;
            let octets = match curve.content() {
                [0x2b, 0x81, 4, 0, 33] => 28,                  // P-224
                [0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7] => 32, // P-256
                [0x2b, 0x81, 4, 0, 34] => 48,                  // P-384
                [0x2b, 0x81, 4, 0, 35] => 66,                  // P-521
                _ => return Err("unsupported elliptic curve".into()),
            };
            if key.unused_bits != 0 || key.bytes.len() != 1 + 2 * octets || key.bytes[0] != 4 {
                return Err("invalid elliptic curve point".into());
            }
            if !signature::is_on_curve(octets, key.bytes) {
                return Err("elliptic curve point is not on its curve".into());
            }
            Ok(KeyKind::EllipticCurve { octets })
        }
        ED25519 => {
            if parameters.is_some() {
                return Err("Ed25519 key encoded with illegal parameters".into());
            }
            if key.bytes.len() != 32 || key.unused_bits != 0 {
                return Err("wrong Ed25519 public key size".into());
            }
            Ok(KeyKind::Other)
        }
        DSA => {
            // Nobody here verifies with it, but a malformed one spoils the certificate.
            let mut parameters = parameters
                .filter(|parameters| parameters.tag == der::SEQUENCE)
                .ok_or("invalid DSA parameters")?
                .reader();
            let mut key = Reader::new(key.bytes);
            let numbers = [
                key.integer("DSA public key")?,
                parameters.integer("DSA parameters")?,
                parameters.integer("DSA parameters")?,
                parameters.integer("DSA parameters")?,
            ];
            if numbers.iter().any(|number| !is_positive(number)) {
                return Err("zero or negative DSA parameter".into());
            }
            Ok(KeyKind::Other)
        }
        _ => Ok(KeyKind::Other),
    }
}

/// Whether an integer in its shortest form is greater than 0.
fn is_positive(number: &[u8]) -> bool {
    number[0] & 0x80 == 0 && number != [0]
}
