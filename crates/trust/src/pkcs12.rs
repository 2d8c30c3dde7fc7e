//! PKCS#12 (RFC 7292) to be read: certificates and keys of `.p12` and `.pfx` files.

mod addition;
mod encryption;

use crate::certificate::Certificate;
use crate::certificate_file::{ItemContent, PrivateKey};
use crate::der::{self, Element, Malformed, Reader};
use crate::pkcs7::with_definite_lengths;

use self::encryption::Password;

pub(crate) use self::addition::add;
pub(crate) use self::encryption::Work;

/// Why a PKCS#12 file could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Pkcs12Error {
    /// It is something else.
    #[error("it is no PKCS#12 file")]
    NotPkcs12,
    /// No password was given and it needs one.
    #[error("it is protected by a password")]
    PasswordNeeded,
    /// The password that was given is not the one.
    #[error("the password is wrong, or the file is damaged")]
    WrongPassword,
    /// It is encrypted in a way that is not known here.
    #[error("it is encrypted with {0}, which is not supported")]
    Unsupported(String),
    /// Opening it would take longer than any honest file asks for.
    #[error("it asks for more work than any honest file ({0} rounds)")]
    TooMuchWork(u64),
    /// The bytes are not what they should be.
    #[error("{0}")]
    Malformed(String),
}

impl From<Malformed> for Pkcs12Error {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.to_string())
    }
}

const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
const ENCRYPTED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 6];
/// Bags lie below `pkcs-12PbeIds`' neighbour 1.2.840.113549.1.12.10.1.
const BAGS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1];

const WHAT: &str = "PKCS#12 file";

/// How many parts a file may have; an honest one has two or three.
const MOST_PARTS: usize = 64;

/// How deep bags may nest in bags.
const DEPTH: usize = 4;

/// Everything in the file. Without a password, none and the empty one are tried.
///
/// # Errors
///
/// [`Pkcs12Error::NotPkcs12`] when it is something else, and whatever keeps it closed.
pub(crate) fn read(bytes: &[u8], password: Option<&str>) -> Result<Vec<ItemContent>, Pkcs12Error> {
    let rewritten;
    let bytes = if outline(bytes).is_ok() {
        bytes
    } else {
        // BER, as NSS and older Java write it.
        rewritten = with_definite_lengths(bytes).map_err(|_| Pkcs12Error::NotPkcs12)?;
        &rewritten
    };
    let (safe, mac) = outline(bytes).map_err(|_| Pkcs12Error::NotPkcs12)?;
    let safe = octets(&safe)?;
    let candidates = match password {
        Some(text) => vec![Password::of(text)],
        None => vec![Password::none(), Password::of("")],
    };
    let mut work = Work::default();
    let mut failure = Pkcs12Error::WrongPassword;
    for candidate in &candidates {
        if let Some(mac) = &mac
            && !encryption::mac_fits(mac, &safe, candidate, &mut work)?
        {
            continue;
        }
        match contents(&safe, candidate, &mut work) {
            Ok(contents) => return Ok(contents),
            Err(error) => failure = error,
        }
    }
    Err(match (failure, password) {
        (Pkcs12Error::WrongPassword, None) => Pkcs12Error::PasswordNeeded,
        (failure, _) => failure,
    })
}

/// Whether it has the outline of one; nothing is opened.
pub(crate) fn is_pkcs12(bytes: &[u8]) -> bool {
    outline(bytes).is_ok()
        || with_definite_lengths(bytes).is_ok_and(|bytes| outline(&bytes).is_ok())
}

/// The authenticated safe, still in its octet string, and the MAC over it.
fn outline(bytes: &[u8]) -> Result<(Element<'_>, Option<Element<'_>>), Malformed> {
    let mut pfx = Reader::new(bytes).read(der::SEQUENCE, WHAT)?.reader();
    if pfx.integer(WHAT)? != [3] {
        return Err(Malformed(WHAT));
    }
    let mut info = pfx.read(der::SEQUENCE, WHAT)?.reader();
    if info.object_identifier(WHAT)? != DATA {
        return Err(Malformed(WHAT));
    }
    let mut explicit = info.read(der::context_constructed(0), WHAT)?.reader();
    let safe = explicit.any(WHAT)?;
    Ok((safe, pfx.optional(der::SEQUENCE, WHAT)?))
}

/// An octet string, which BER may cut into pieces.
fn octets(element: &Element<'_>) -> Result<Vec<u8>, Malformed> {
    const CONSTRUCTED: u8 = 0x20;
    if element.tag & CONSTRUCTED == 0 {
        return Ok(element.content().to_vec());
    }
    let mut pieces = element.reader();
    let mut whole = Vec::new();
    while !pieces.is_empty() {
        whole.extend_from_slice(pieces.read(der::OCTET_STRING, WHAT)?.content());
    }
    Ok(whole)
}

fn contents(
    safe: &[u8],
    password: &Password,
    work: &mut Work,
) -> Result<Vec<ItemContent>, Pkcs12Error> {
    let mut found = Vec::new();
    let mut parts = Reader::new(safe).read(der::SEQUENCE, WHAT)?.reader();
    let mut left = MOST_PARTS;
    while !parts.is_empty() {
        left = left
            .checked_sub(1)
            .ok_or_else(|| Pkcs12Error::Malformed("it has too many parts".to_owned()))?;
        let mut info = parts.read(der::SEQUENCE, WHAT)?.reader();
        let kind = info.object_identifier(WHAT)?;
        let mut explicit = info.read(der::context_constructed(0), WHAT)?.reader();
        match kind {
            DATA => {
                let plain = octets(&explicit.any(WHAT)?)?;
                bags(&plain, password, work, DEPTH, &mut found)?;
            }
            ENCRYPTED_DATA => {
                let mut data = explicit.read(der::SEQUENCE, WHAT)?.reader();
                data.integer(WHAT)?;
                let mut encrypted = data.read(der::SEQUENCE, WHAT)?.reader();
                encrypted.object_identifier(WHAT)?;
                let algorithm = encrypted.read(der::SEQUENCE, WHAT)?;
                let text = octets(&encrypted.any(WHAT)?)?;
                let plain = encryption::decrypt(&algorithm, &text, password, work)?;
                // A wrong password gives rubbish.
                bags(&plain, password, work, DEPTH, &mut found).map_err(|error| match error {
                    Pkcs12Error::Malformed(_) => Pkcs12Error::WrongPassword,
                    other => other,
                })?;
            }
            other => {
                let name = format!("content {}", der::dotted(other));
                return Err(Pkcs12Error::Unsupported(name));
            }
        }
    }
    Ok(found)
}

fn bags(
    safe_contents: &[u8],
    password: &Password,
    work: &mut Work,
    depth: usize,
    found: &mut Vec<ItemContent>,
) -> Result<(), Pkcs12Error> {
    let deeper = depth
        .checked_sub(1)
        .ok_or_else(|| Pkcs12Error::Malformed("bags nest too deep".to_owned()))?;
    let mut all = Reader::new(safe_contents)
        .read(der::SEQUENCE, WHAT)?
        .reader();
    while !all.is_empty() {
        let mut bag = all.read(der::SEQUENCE, WHAT)?.reader();
        let id = bag.object_identifier(WHAT)?;
        let value = bag.read(der::context_constructed(0), WHAT)?;
        match id.strip_prefix(BAGS) {
            Some([1]) => found.push(key(value.content())),
            Some([2]) => {
                let mut shrouded = value.reader().read(der::SEQUENCE, WHAT)?.reader();
                let algorithm = shrouded.read(der::SEQUENCE, WHAT)?;
                let text = octets(&shrouded.any(WHAT)?)?;
                let plain = encryption::decrypt(&algorithm, &text, password, work)?;
                found.push(key(&plain));
            }
            Some([3]) => {
                let mut certificate = value.reader().read(der::SEQUENCE, WHAT)?.reader();
                certificate.object_identifier(WHAT)?;
                let mut explicit = certificate
                    .read(der::context_constructed(0), WHAT)?
                    .reader();
                let der = octets(&explicit.any(WHAT)?)?;
                found.push(match Certificate::parse(&der) {
                    Ok(certificate) => ItemContent::Certificate(Box::new(certificate)),
                    Err(error) => ItemContent::BadCertificate(error),
                });
            }
            Some([4]) => found.push(ItemContent::RevocationList),
            Some([6]) => bags(value.content(), password, work, deeper, found)?,
            _ => found.push(ItemContent::Other(format!("bag {}", der::dotted(id)))),
        }
    }
    Ok(())
}

fn key(der: &[u8]) -> ItemContent {
    ItemContent::PrivateKey(PrivateKey::new("PRIVATE KEY", der.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pkcs7::tests::definite;

    fn content_info(content: &[u8]) -> Vec<u8> {
        let kind = definite(der::OBJECT_IDENTIFIER, &[DATA]);
        let content = definite(der::OCTET_STRING, &[content]);
        definite(der::SEQUENCE, &[&kind, &definite(0xa0, &[&content])])
    }

    fn with_parts(count: usize) -> Vec<u8> {
        let part = content_info(&definite(der::SEQUENCE, &[]));
        let safe = definite(der::SEQUENCE, &[&part.repeat(count)]);
        definite(der::SEQUENCE, &[&[2, 1, 3], &content_info(&safe)])
    }

    #[test]
    fn a_file_of_too_many_parts_is_refused_and_not_cut() {
        assert!(read(&with_parts(MOST_PARTS), None).is_ok());
        let error = read(&with_parts(MOST_PARTS + 1), None).unwrap_err();
        assert_eq!(error.to_string(), "it has too many parts");
    }
}
