//! PKCS#12 (RFC 7292) as Java reads a truststore: certificates in the clear, no integrity check, no password.
//!
//! A check with a password that everybody knows protects nothing, and its key derivation would cost each JVM more than
//! reading 150 roots. Java shows a certificate as trusted only with an attribute of its own; without it the store
//! looks empty.

use std::collections::BTreeMap;

use crate::certificate::Certificate;

/// PFX version 3.
const VERSION: &[u8] = &[3];
/// `pkcs7-data`.
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
/// `pkcs-12-certBag`.
const CERTIFICATE_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1, 3];
/// `x509Certificate` of PKCS#9.
const X509: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 22, 1];
/// `friendlyName`, which is Java's alias.
const FRIENDLY_NAME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 20];
/// Java's `trustedKeyUsage`, 2.16.840.1.113894.746875.1.1.
const TRUSTED_KEY_USAGE: &[u8] = &[
    0x60, 0x86, 0x48, 1, 0x86, 0xf9, 0x66, 0xad, 0xca, 0x7b, 1, 1,
];
const ANY_EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0];

const INTEGER: u8 = 2;
const OCTET_STRING: u8 = 4;
const OBJECT_IDENTIFIER: u8 = 6;
const BMP_STRING: u8 = 0x1e;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const EXPLICIT_0: u8 = 0xa0;

/// One trusted certificate.
pub(crate) struct Entry<'a> {
    /// Name in the store, ASCII; Java overwrites entries of the same name.
    pub(crate) alias: &'a str,
    /// DER.
    pub(crate) certificate: &'a [u8],
}

/// A truststore for Java with these certificates, without encryption and without a password; a fingerprint is the name
/// of each.
pub fn java_truststore<'a>(certificates: impl IntoIterator<Item = &'a Certificate>) -> Vec<u8> {
    let mut entries = BTreeMap::new();
    for certificate in certificates {
        entries.insert(certificate.fingerprint().to_string(), certificate);
    }
    encode(entries.iter().map(|(alias, certificate)| Entry {
        alias,
        certificate: certificate.der(),
    }))
}

/// The store as bytes.
pub(crate) fn encode<'a>(entries: impl Iterator<Item = Entry<'a>>) -> Vec<u8> {
    pfx(&part(entries), None)
}

/// One part of a store, in the clear: the entries as a `ContentInfo` of the authenticated safe.
pub(crate) fn part<'a>(entries: impl Iterator<Item = Entry<'a>>) -> Vec<u8> {
    let bags: Vec<u8> = entries.flat_map(|entry| bag(&entry)).collect();
    content_info(&element(SEQUENCE, &bags))
}

/// A store of these parts, with what proves them.
pub(crate) fn pfx(parts: &[u8], mac: Option<&[u8]>) -> Vec<u8> {
    let mut content = element(INTEGER, VERSION);
    content.extend(content_info(&authenticated_safe(parts)));
    content.extend(mac.unwrap_or_default());
    element(SEQUENCE, &content)
}

/// What a MAC is made over.
pub(crate) fn authenticated_safe(parts: &[u8]) -> Vec<u8> {
    element(SEQUENCE, parts)
}

fn content_info(content: &[u8]) -> Vec<u8> {
    let content = element(EXPLICIT_0, &element(OCTET_STRING, content));
    element(SEQUENCE, &[identifier(DATA), content].concat())
}

fn bag(entry: &Entry<'_>) -> Vec<u8> {
    let certificate = element(EXPLICIT_0, &element(OCTET_STRING, entry.certificate));
    let value = element(SEQUENCE, &[identifier(X509), certificate].concat());
    let alias: Vec<u8> = entry
        .alias
        .encode_utf16()
        .flat_map(u16::to_be_bytes)
        .collect();
    // The shorter encoding first, as DER orders a set.
    let attributes = [
        attribute(TRUSTED_KEY_USAGE, &identifier(ANY_EXTENDED_KEY_USAGE)),
        attribute(FRIENDLY_NAME, &element(BMP_STRING, &alias)),
    ];
    let content = [
        identifier(CERTIFICATE_BAG),
        element(EXPLICIT_0, &value),
        element(SET, &attributes.concat()),
    ];
    element(SEQUENCE, &content.concat())
}

fn attribute(kind: &[u8], value: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[identifier(kind), element(SET, value)].concat())
}

fn identifier(encoded: &[u8]) -> Vec<u8> {
    element(OBJECT_IDENTIFIER, encoded)
}

/// Tag, length, content in DER.
pub(crate) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut bytes = Vec::with_capacity(length + 6);
    bytes.push(tag);
    if let Some(short) = u8::try_from(length).ok().filter(|length| *length < 128) {
        bytes.push(short);
    } else {
        let encoded = length.to_be_bytes();
        let skipped = length.leading_zeros() as usize / 8;
        let significant = &encoded[skipped..];
        // At most eight bytes.
        bytes.push(0x80 | significant.len() as u8);
        bytes.extend_from_slice(significant);
    }
    bytes.extend_from_slice(content);
    bytes
}
