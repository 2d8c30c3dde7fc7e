//! Names of subjects and issuers: RFC 5280 `Name`, checked as Go checks it and printed for people.

use std::fmt;
use std::sync::Arc;

use crate::der::{self, Element, Malformed, Reader};

/// A subject or issuer, attributes in their order. Prints like `CN=gitlab.example.com, O=Example`.
///
/// Two names are the same when their encodings are; see [`Certificate::subject_der`](crate::Certificate::subject_der).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DistinguishedName {
    /// Shared, so that a self-signed certificate holds its name once.
    attributes: Arc<[Attribute]>,
}

/// Encoded object identifier and value.
type Attribute = (Box<[u8]>, Box<str>);

const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const ORGANIZATION: &[u8] = &[0x55, 4, 10];

impl DistinguishedName {
    pub(crate) fn parse(name: &Element<'_>) -> Result<Self, Malformed> {
        const WHAT: &str = "distinguished name";
        let mut attributes = Vec::new();
        let mut relative_names = name.reader();
        while !relative_names.is_empty() {
            let mut set = relative_names.read(der::SET, WHAT)?.reader();
            while !set.is_empty() {
                let mut attribute: Reader<'_> = set.read(der::SEQUENCE, WHAT)?.reader();
                let kind = attribute.object_identifier(WHAT)?;
                let value = attribute.any(WHAT)?;
                attributes.push((kind.into(), text(value.tag, value.content())?.into()));
            }
        }
        Ok(Self {
            attributes: attributes.into(),
        })
    }

    /// The last common name, as Go takes it.
    pub fn common_name(&self) -> Option<&str> {
        self.last(COMMON_NAME)
    }

    /// The first words by which people know this name: common name, else organization.
    pub(crate) fn short(&self) -> Option<&str> {
        self.common_name()
            .filter(|name| !name.is_empty())
            .or_else(|| self.last(ORGANIZATION))
    }

    fn last(&self, kind: &[u8]) -> Option<&str> {
        let mut found = self
            .attributes
            .iter()
            .rev()
            .filter(|(other, _)| **other == *kind);
        found.next().map(|(_, value)| &**value)
    }
}

impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.attributes.is_empty() {
            return f.write_str("(empty name)");
        }
        // As RFC 4514 and Go print it: the most specific attribute first.
        for (index, (kind, value)) in self.attributes.iter().rev().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            match label(kind) {
                Some(label) => f.write_str(label)?,
                None => f.write_str(&der::dotted(kind))?,
            }
            // A name comes from the peer: control characters would let it write into a log.
            write!(f, "={}", value.escape_debug())?;
        }
        Ok(())
    }
}

fn label(kind: &[u8]) -> Option<&'static str> {
    Some(match kind {
        [0x55, 4, 3] => "CN",
        [0x55, 4, 5] => "SERIALNUMBER",
        [0x55, 4, 6] => "C",
        [0x55, 4, 7] => "L",
        [0x55, 4, 8] => "ST",
        [0x55, 4, 9] => "STREET",
        [0x55, 4, 10] => "O",
        [0x55, 4, 11] => "OU",
        [0x55, 4, 17] => "POSTALCODE",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25] => "DC",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1] => "UID",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1] => "emailAddress",
        _ => return None,
    })
}

/// The string types that Go reads in names; any other type or a character outside its set spoils the certificate.
pub(crate) fn text(tag: u8, bytes: &[u8]) -> Result<String, Malformed> {
    let malformed = Malformed("string in a distinguished name");
    match tag {
        // UTF8String
        0x0c => String::from_utf8(bytes.to_vec()).map_err(|_| malformed),
        // NumericString
        0x12 => only(bytes, |byte| byte.is_ascii_digit() || byte == b' '),
        // PrintableString; `*` and `&` are not allowed by X.680 but real CAs write them.
        0x13 => only(bytes, |byte| {
            byte.is_ascii_alphanumeric() || b" '()+,-./:=?*&".contains(&byte)
        }),
        // T61String, read as Latin-1
        0x14 => Ok(bytes.iter().copied().map(char::from).collect()),
        // IA5String
        0x16 => only(bytes, |byte| byte.is_ascii()),
        // BMPString: UCS-2, perhaps with a terminator
        0x1e => {
            let bytes = bytes.strip_suffix(&[0, 0]).unwrap_or(bytes);
            let (units, rest) = bytes.as_chunks::<2>();
            if !rest.is_empty() {
                return Err(malformed);
            }
            units
                .iter()
                .map(|unit| {
                    let point = u16::from_be_bytes(*unit);
                    let reserved = point >= 0xfffe || (0xfdd0..=0xfdef).contains(&point);
                    char::from_u32(u32::from(point)).filter(|_| !reserved)
                })
                .collect::<Option<String>>()
                .ok_or(malformed)
        }
        _ => Err(malformed),
    }
}

fn only(bytes: &[u8], allowed: impl Fn(u8) -> bool) -> Result<String, Malformed> {
    if bytes.iter().all(|&byte| allowed(byte)) {
        Ok(bytes.iter().copied().map(char::from).collect())
    } else {
        Err(Malformed("string in a distinguished name"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn string_types_have_their_characters() {
        let cases: &[(u8, &[u8], Option<&str>)] = &[
            (0x0c, "é".as_bytes(), Some("é")),
            (0x0c, &[0xff], None),
            (0x12, b"12 3", Some("12 3")),
            (0x12, b"1a", None),
            (0x13, b"*.example.com", Some("*.example.com")),
            (0x13, b"a@b", None),
            (0x14, &[0xe9], Some("é")),
            (0x16, b"a@b", Some("a@b")),
            (0x16, &[0x80], None),
            (0x1e, &[0, b'a', 0, 0], Some("a")),
            (0x1e, &[0], None),
            (0x1e, &[0xd8, 0x00], None),
            (0x04, b"octets", None),
        ];
        for (tag, bytes, expected) in cases {
            assert_eq!(
                text(*tag, bytes).ok().as_deref(),
                *expected,
                "{tag:02x} {bytes:02x?}"
            );
        }
    }

    #[test]
    fn control_characters_do_not_reach_a_log() {
        let name = DistinguishedName {
            attributes: [(COMMON_NAME.into(), "a\nlevel=info \u{1b}[31m".into())].into(),
        };
        assert_eq!(name.to_string(), r"CN=a\nlevel=info \u{1b}[31m");
    }
}
