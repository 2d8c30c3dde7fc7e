//! What a DER element is, told by its shape.

use super::{ItemContent, PrivateKey, certificate};
use crate::der::{self, Element, Reader};

/// The first element with its header, and what follows it.
pub(super) fn first_element(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let bytes = bytes.trim_ascii_start();
    let element = Reader::new(bytes).any("element").ok()?;
    bytes.split_at_checked(element.range().end)
}

/// What one whole element is; none when it is nothing that has to do with certificates.
pub(super) fn content(der: &[u8]) -> Option<ItemContent> {
    let outer = Reader::new(der).read(der::SEQUENCE, "element").ok()?;
    let fields = elements(&outer)?;
    let tags: Vec<u8> = fields.iter().map(|field| field.tag).collect();
    let key = |label| {
        Some(ItemContent::PrivateKey(PrivateKey::new(
            label,
            der.to_vec(),
        )))
    };
    match tags[..] {
        // RFC 5208, RFC 8017 A.1.2, RFC 5915.
        [der::INTEGER, der::SEQUENCE, der::OCTET_STRING, ..] => key("PRIVATE KEY"),
        [der::INTEGER, der::INTEGER, der::INTEGER, der::INTEGER, ..] if tags.len() >= 9 => {
            key("RSA PRIVATE KEY")
        }
        [der::INTEGER, der::OCTET_STRING, ..] => key("EC PRIVATE KEY"),
        [der::SEQUENCE, der::OCTET_STRING] => key("ENCRYPTED PRIVATE KEY"),
        [der::SEQUENCE, der::BIT_STRING] => Some(ItemContent::PublicKey),
        [der::SEQUENCE, der::SEQUENCE, der::BIT_STRING] => Some(signed(der, &fields[0])),
        _ => None,
    }
}

/// Certificate, request and revocation list are all "something, algorithm, signature".
fn signed(der: &[u8], to_be_signed: &Element<'_>) -> ItemContent {
    let fields = elements(to_be_signed).unwrap_or_default();
    let tags: Vec<u8> = fields.iter().map(|field| field.tag).collect();
    match tags[..] {
        // RFC 2986: version, subject, key, attributes.
        [der::INTEGER, der::SEQUENCE, der::SEQUENCE, 0xa0] => ItemContent::Request,
        // RFC 5280 5.1: perhaps a version, algorithm, issuer, this update.
        [
            der::INTEGER,
            der::SEQUENCE,
            der::SEQUENCE,
            der::UTC_TIME | der::GENERALIZED_TIME,
            ..,
        ]
        | [
            der::SEQUENCE,
            der::SEQUENCE,
            der::UTC_TIME | der::GENERALIZED_TIME,
            ..,
        ] => ItemContent::RevocationList,
        _ => certificate(der),
    }
}

fn elements<'a>(outer: &Element<'a>) -> Option<Vec<Element<'a>>> {
    // No structure that is told apart here has more parts.
    const MOST: usize = 16;
    let mut reader = outer.reader();
    let mut all = Vec::new();
    while !reader.is_empty() && all.len() < MOST {
        all.push(reader.any("element").ok()?);
    }
    Some(all)
}

/// The label of a block with a private key.
pub(super) fn key_label(label: &str) -> &'static str {
    match label {
        "RSA PRIVATE KEY" => "RSA PRIVATE KEY",
        "EC PRIVATE KEY" => "EC PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY" => "ENCRYPTED PRIVATE KEY",
        _ => "PRIVATE KEY",
    }
}
