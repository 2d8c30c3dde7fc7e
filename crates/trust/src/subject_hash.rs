//! OpenSSL's hash of a subject, by which it finds a certificate in a directory: SHA-1 over a form of the name in which
//! case, spaces and string types do not count (`openssl x509 -subject_hash`).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::certificate::Certificate;
use crate::der::{self, Malformed, Reader};
use crate::distinguished_name::text;
use crate::truststore::element;

const UTF8_STRING: u8 = 0x0c;
/// UTF8String, PrintableString, T61String, IA5String, VisibleString, UniversalString, BMPString. Others count as they
/// are.
const COMPARED_AS_TEXT: [u8; 7] = [UTF8_STRING, 0x13, 0x14, 0x16, 0x1a, 0x1c, 0x1e];

impl Certificate {
    /// Eight hexadecimal digits: the name, before `.0`, of a file with this certificate in a directory of certificates.
    pub fn subject_hash(&self) -> String {
        // A subject that was parsed can be read again; the name of an unreadable one would only never be found.
        let form = canonical(self.subject_der()).unwrap_or_default();
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &form);
        let first = hash.as_ref().first_chunk().copied().unwrap_or_default();
        format!("{:08x}", u32::from_le_bytes(first))
    }
}

/// The relative names one after the other, without the sequence around them.
fn canonical(name: &[u8]) -> Result<Vec<u8>, Malformed> {
    const WHAT: &str = "distinguished name";
    let mut form = Vec::new();
    let mut relative_names = Reader::new(name).read(der::SEQUENCE, WHAT)?.reader();
    while !relative_names.is_empty() {
        let mut set = relative_names.read(der::SET, WHAT)?.reader();
        let mut attributes = Vec::new();
        while !set.is_empty() {
            let mut attribute = set.read(der::SEQUENCE, WHAT)?.reader();
            let kind = element(der::OBJECT_IDENTIFIER, attribute.object_identifier(WHAT)?);
            let value = attribute.any(WHAT)?;
            let value = if COMPARED_AS_TEXT.contains(&value.tag) {
                element(
                    UTF8_STRING,
                    plain(&text(value.tag, value.content())?).as_bytes(),
                )
            } else {
                value.encoded().to_vec()
            };
            attributes.push(element(der::SEQUENCE, &[kind, value].concat()));
        }
        attributes.sort();
        form.extend(element(der::SET, &attributes.concat()));
    }
    Ok(form)
}

/// Lower case and single spaces; only ASCII is touched.
fn plain(text: &str) -> String {
    let is_space = |letter: char| matches!(letter, ' ' | '\t'..='\r');
    let words = text.split(is_space).filter(|word| !word.is_empty());
    let joined = words.collect::<Vec<_>>().join(" ");
    joined.to_ascii_lowercase()
}
