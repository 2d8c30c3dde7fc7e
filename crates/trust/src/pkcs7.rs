//! PKCS#7 "certs-only" messages (RFC 2315 section 9, RFC 5652 section 5): the form of `.p7b` and `.p7c` files, in which
//! CAs hand out issuers.
//!
//! Signatures of such a message are not looked at: the certificates in it are judged like any others. Files in the wild
//! are sometimes BER, with indefinite lengths; those are rewritten, the certificates inside are DER all the same.

use crate::certificate::{Certificate, CertificateError};
use crate::der::{self, Malformed, Reader};
use crate::pem;

const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];

/// How deep BER elements may nest. A certificate in a message is about 15 deep.
const DEPTH: usize = 40;

/// All certificates of a message, in order; none is no error. Takes DER, BER, and the first PEM block `PKCS7` or `CMS`.
///
/// # Errors
///
/// When the bytes are no signed-data message, or a certificate in it is none that Go would take.
pub fn certificates_of_pkcs7(bytes: &[u8]) -> Result<Vec<Certificate>, CertificateError> {
    let mut blocks = pem::blocks(bytes);
    match blocks.find(|(label, _)| matches!(label.as_str(), "PKCS7" | "CMS")) {
        Some((_, message)) => of_message(&message),
        None if pem::looks_like_pem(bytes) => Err("no PKCS7 block".into()),
        None => of_message(bytes),
    }
}

fn of_message(bytes: &[u8]) -> Result<Vec<Certificate>, CertificateError> {
    match read(bytes) {
        Err(Fault::Form(_)) => match read(&with_definite_lengths(bytes)?) {
            Ok(certificates) => Ok(certificates),
            Err(Fault::Form(malformed)) => Err(malformed.into()),
            Err(Fault::Certificate(error)) => Err(error),
        },
        Err(Fault::Certificate(error)) => Err(error),
        Ok(certificates) => Ok(certificates),
    }
}

enum Fault {
    /// The message around the certificates is no DER, or something else.
    Form(Malformed),
    Certificate(CertificateError),
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::Form(malformed)
    }
}

fn read(bytes: &[u8]) -> Result<Vec<Certificate>, Fault> {
    const WHAT: &str = "PKCS#7 message";
    let mut content_info = Reader::new(bytes).read(der::SEQUENCE, WHAT)?.reader();
    if content_info.object_identifier(WHAT)? != SIGNED_DATA {
        return Err(Malformed("PKCS#7 message: it is no signed-data").into());
    }
    let mut explicit = content_info
        .read(der::context_constructed(0), WHAT)?
        .reader();
    let mut signed_data = explicit.read(der::SEQUENCE, WHAT)?.reader();
    signed_data.integer(WHAT)?;
    signed_data.read(der::SET, WHAT)?;
    signed_data.read(der::SEQUENCE, WHAT)?;
    let Some(bag) = signed_data.optional(der::context_constructed(0), WHAT)? else {
        return Ok(Vec::new());
    };
    let mut choices = bag.reader();
    let mut certificates = Vec::new();
    while !choices.is_empty() {
        let choice = choices.any(WHAT)?;
        // The other choices are attribute certificates and forms that nobody uses.
        if choice.tag == der::SEQUENCE {
            let certificate = Certificate::parse(choice.encoded()).map_err(Fault::Certificate)?;
            certificates.push(certificate);
        }
    }
    Ok(certificates)
}

/// The first BER element with definite, minimal lengths throughout. What follows it is left out.
pub(crate) fn with_definite_lengths(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut rest = bytes;
    let mut rewritten = Vec::with_capacity(bytes.len());
    rewrite(&mut rest, DEPTH, &mut rewritten)?;
    Ok(rewritten)
}

const CONSTRUCTED: u8 = 0x20;
const END_OF_CONTENTS: &[u8] = &[0, 0];

fn rewrite(rest: &mut &[u8], depth: usize, target: &mut Vec<u8>) -> Result<(), Malformed> {
    const MALFORMED: Malformed = Malformed("BER element");
    let (&[tag, first], after) = rest.split_first_chunk().ok_or(MALFORMED)?;
    let deeper = depth.checked_sub(1).ok_or(MALFORMED)?;
    if tag & 0x1f == 0x1f {
        return Err(MALFORMED);
    }
    let is_constructed = tag & CONSTRUCTED != 0;
    if first == 0x80 {
        if !is_constructed {
            return Err(MALFORMED);
        }
        let mut inner = after;
        let mut content = Vec::new();
        loop {
            if let Some(behind) = inner.strip_prefix(END_OF_CONTENTS) {
                *rest = behind;
                break;
            }
            rewrite(&mut inner, deeper, &mut content)?;
        }
        push(target, tag, &content);
        return Ok(());
    }
    let octets = if first < 0x80 {
        0
    } else {
        usize::from(first & 0x7f)
    };
    if octets > 4 {
        return Err(MALFORMED);
    }
    let (length, after) = after.split_at_checked(octets).ok_or(MALFORMED)?;
    let length = match octets {
        0 => usize::from(first),
        _ => length
            .iter()
            .fold(0, |sum, &byte| (sum << 8) | usize::from(byte)),
    };
    let (mut inner, behind) = after.split_at_checked(length).ok_or(MALFORMED)?;
    *rest = behind;
    if !is_constructed {
        push(target, tag, inner);
        return Ok(());
    }
    let mut content = Vec::with_capacity(inner.len());
    while !inner.is_empty() {
        rewrite(&mut inner, deeper, &mut content)?;
    }
    push(target, tag, &content);
    Ok(())
}

fn push(target: &mut Vec<u8>, tag: u8, content: &[u8]) {
    target.push(tag);
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => target.push(short),
        _ => {
            let length = content.len().to_be_bytes();
            let zeros = length.iter().take_while(|byte| **byte == 0).count();
            let length = &length[zeros..];
            // At most eight octets.
            target.push(0x80 | length.len() as u8);
            target.extend_from_slice(length);
        }
    }
    target.extend_from_slice(content);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A DER message with these certificates.
    pub(crate) fn bag(certificates: &[&[u8]]) -> Vec<u8> {
        message(definite, Some(certificates))
    }

    fn certificate(name: &str) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    pub(crate) fn definite(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let mut element = Vec::new();
        push(&mut element, tag, &parts.concat());
        element
    }

    fn indefinite(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        [&[tag, 0x80], parts.concat().as_slice(), &[0, 0]].concat()
    }

    type Wrap = fn(u8, &[&[u8]]) -> Vec<u8>;

    fn message(wrap: Wrap, certificates: Option<&[&[u8]]>) -> Vec<u8> {
        let data = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
        let bag = certificates.map(|parts| wrap(0xa0, parts));
        let signed_data = wrap(
            der::SEQUENCE,
            &[
                &[2, 1, 1],
                &wrap(der::SET, &[]),
                &wrap(der::SEQUENCE, &[&data]),
                bag.as_deref().unwrap_or_default(),
                &wrap(der::SET, &[]),
            ],
        );
        let kind = definite(der::OBJECT_IDENTIFIER, &[SIGNED_DATA]);
        wrap(der::SEQUENCE, &[&kind, &wrap(0xa0, &[&signed_data])])
    }

    fn names(bytes: &[u8]) -> Vec<String> {
        certificates_of_pkcs7(bytes)
            .unwrap()
            .iter()
            .map(|certificate| certificate.subject().to_string())
            .collect()
    }

    #[test]
    fn der_ber_and_pem_hold_the_same_certificates() {
        let (one, two) = (certificate("one"), certificate("two"));
        let bag: &[&[u8]] = &[&one, &two];
        for wrap in [definite as Wrap, indefinite] {
            let message = message(wrap, Some(bag));
            assert_eq!(names(&message), ["CN=one", "CN=two"]);
            for label in ["PKCS7", "CMS"] {
                let pem = pem::encode(&message).replace("CERTIFICATE", label);
                assert_eq!(names(pem.as_bytes()), ["CN=one", "CN=two"]);
            }
        }
    }

    #[test]
    fn a_message_without_certificates_is_empty() {
        for wrap in [definite as Wrap, indefinite] {
            assert!(names(&message(wrap, None)).is_empty());
            assert!(names(&message(wrap, Some(&[]))).is_empty());
        }
    }

    #[test]
    fn other_things_are_refused_with_the_reason() {
        let one = certificate("one");
        let broken = definite(der::SEQUENCE, &[&[2, 1, 1]]);
        let table: [(Vec<u8>, &str); 6] = [
            (Vec::new(), "malformed BER element"),
            (one.clone(), "malformed PKCS#7 message"),
            (
                message(definite, Some(&[&broken])),
                "malformed tbs certificate",
            ),
            (
                message(indefinite, Some(&[&one]))[..40].to_vec(),
                "malformed BER element",
            ),
            ([0x30, 0x80].repeat(100), "malformed BER element"),
            (pem::encode(&one).into_bytes(), "no PKCS7 block"),
        ];
        for (bytes, expected) in table {
            let error = certificates_of_pkcs7(&bytes).unwrap_err().to_string();
            assert_eq!(error, expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(0u8.., 0..200), at in 0usize..100) {
            let mut message = message(indefinite, Some(&[&bytes]));
            let at = at % message.len();
            if let Some(&byte) = bytes.first() {
                message[at] = byte;
            }
            certificates_of_pkcs7(&message).ok();
            certificates_of_pkcs7(&bytes).ok();
        }
    }
}
