//! A strict DER reader over borrowed bytes, as much of X.690 as certificates use.
//!
//! It refuses what Go's reader refuses (indefinite and non-minimal lengths, tag numbers above 30), never recurses and
//! never copies; every [`Element`] knows where it lies in the whole input, so that a certificate can keep ranges.

use std::ops::Range;

/// Why bytes are no DER; names the part that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// The tag of `[n]` without an inner structure.
pub(crate) const fn context(number: u8) -> u8 {
    0x80 | number
}

/// The tag of `[n]` around other elements.
pub(crate) const fn context_constructed(number: u8) -> u8 {
    0xa0 | number
}

/// One tag, length and value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    whole: &'a [u8],
    pub(crate) tag: u8,
    start: usize,
    content: usize,
    end: usize,
}

impl<'a> Element<'a> {
    pub(crate) fn content(&self) -> &'a [u8] {
        &self.whole[self.content..self.end]
    }

    /// Tag, length and value.
    pub(crate) fn encoded(&self) -> &'a [u8] {
        &self.whole[self.start..self.end]
    }

    /// Where tag, length and value lie.
    pub(crate) fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// Where the value lies.
    pub(crate) fn content_range(&self) -> Range<usize> {
        self.content..self.end
    }

    pub(crate) fn reader(&self) -> Reader<'a> {
        Reader {
            whole: self.whole,
            position: self.content,
            end: self.end,
        }
    }
}

/// Reads elements one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    whole: &'a [u8],
    position: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(whole: &'a [u8]) -> Self {
        Self {
            whole,
            position: 0,
            end: whole.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.position >= self.end
    }

    pub(crate) fn peek(&self, tag: u8) -> bool {
        !self.is_empty() && self.whole[self.position] == tag
    }

    /// The next element, whatever its tag.
    pub(crate) fn any(&mut self, what: &'static str) -> Result<Element<'a>, Malformed> {
        let rest = &self.whole[self.position..self.end];
        let (&[tag, first], _) = rest.split_first_chunk().ok_or(Malformed(what))?;
        if tag & 0x1f == 0x1f {
            return Err(Malformed(what));
        }
        let (header, length) = if first < 0x80 {
            (2, usize::from(first))
        } else {
            let octets = usize::from(first & 0x7f);
            if octets == 0 || octets > 4 {
                return Err(Malformed(what));
            }
            let bytes = rest.get(2..2 + octets).ok_or(Malformed(what))?;
            let length = bytes
                .iter()
                .fold(0usize, |sum, &byte| (sum << 8) | usize::from(byte));
            if bytes[0] == 0 || length < 0x80 {
                return Err(Malformed(what));
            }
            (2 + octets, length)
        };
        if rest.len() - header < length {
            return Err(Malformed(what));
        }
        let element = Element {
            whole: self.whole,
            tag,
            start: self.position,
            content: self.position + header,
            end: self.position + header + length,
        };
        self.position = element.end;
        Ok(element)
    }

    pub(crate) fn read(&mut self, tag: u8, what: &'static str) -> Result<Element<'a>, Malformed> {
        if self.peek(tag) {
            self.any(what)
        } else {
            Err(Malformed(what))
        }
    }

    /// The next element when it has this tag.
    pub(crate) fn optional(
        &mut self,
        tag: u8,
        what: &'static str,
    ) -> Result<Option<Element<'a>>, Malformed> {
        if self.peek(tag) {
            self.any(what).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The value of an object identifier, still encoded.
    pub(crate) fn object_identifier(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        let bytes = self.read(OBJECT_IDENTIFIER, what)?.content();
        if is_object_identifier(bytes) {
            Ok(bytes)
        } else {
            Err(Malformed(what))
        }
    }

    pub(crate) fn boolean(&mut self, what: &'static str) -> Result<bool, Malformed> {
        match self.read(BOOLEAN, what)?.content() {
            [0] => Ok(false),
            [0xff] => Ok(true),
            _ => Err(Malformed(what)),
        }
    }

    /// The bytes of an integer of any size in its shortest form.
    pub(crate) fn integer(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        Ok(self.integer_tagged(INTEGER, what)?.content())
    }

    /// An integer under another tag.
    pub(crate) fn integer_tagged(
        &mut self,
        tag: u8,
        what: &'static str,
    ) -> Result<Element<'a>, Malformed> {
        let element = self.read(tag, what)?;
        match element.content() {
            [] => Err(Malformed(what)),
            [0, next, ..] if next & 0x80 == 0 => Err(Malformed(what)),
            [0xff, next, ..] if next & 0x80 != 0 => Err(Malformed(what)),
            _ => Ok(element),
        }
    }

    pub(crate) fn bit_string(&mut self, what: &'static str) -> Result<BitString<'a>, Malformed> {
        let element = self.read(BIT_STRING, what)?;
        let (&unused_bits, bytes) = element.content().split_first().ok_or(Malformed(what))?;
        let sound = match bytes.last() {
            None => unused_bits == 0,
            Some(last) => unused_bits < 8 && last.trailing_zeros() >= u32::from(unused_bits),
        };
        if !sound {
            return Err(Malformed(what));
        }
        let content = element.content_range();
        Ok(BitString {
            unused_bits,
            bytes,
            range: content.start + 1..content.end,
        })
    }
}

/// Bits, and where their bytes lie.
#[derive(Debug)]
pub(crate) struct BitString<'a> {
    /// How many bits at the end do not count; they are zero.
    pub(crate) unused_bits: u8,
    pub(crate) bytes: &'a [u8],
    pub(crate) range: Range<usize>,
}

/// A non-negative integer that fits.
pub(crate) fn small_integer(bytes: &[u8]) -> Option<u64> {
    let bytes = bytes.strip_prefix(&[0]).unwrap_or(bytes);
    if bytes.len() > 8 {
        return None;
    }
    Some(
        bytes
            .iter()
            .fold(0, |sum, &byte| (sum << 8) | u64::from(byte)),
    )
}

/// The arcs of an encoded object identifier; `None` when [`is_object_identifier`] would not take it.
fn arcs(bytes: &[u8]) -> Option<Vec<u32>> {
    if !is_object_identifier(bytes) {
        return None;
    }
    let mut arcs = Vec::new();
    let mut value = 0;
    for &byte in bytes {
        value = (value << 7) | u32::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if arcs.is_empty() {
                let first = (value / 40).min(2);
                arcs.push(first);
                value -= first * 40;
            }
            arcs.push(value);
            value = 0;
        }
    }
    Some(arcs)
}

/// Whether every arc of an encoded object identifier is minimal and ended, whatever its size.
pub(crate) fn has_whole_arcs(bytes: &[u8]) -> bool {
    let mut starts = true;
    for &byte in bytes {
        if starts && byte == 0x80 {
            return false;
        }
        starts = byte & 0x80 == 0;
    }
    starts && !bytes.is_empty()
}

/// Whether it is well formed and no arc exceeds 31 bits.
fn is_object_identifier(bytes: &[u8]) -> bool {
    let mut value: u64 = 0;
    let small = bytes.iter().all(|&byte| {
        value = (value << 7) | u64::from(byte & 0x7f);
        let fits = value <= i32::MAX as u64;
        if byte & 0x80 == 0 {
            value = 0;
        }
        fits
    });
    small && has_whole_arcs(bytes)
}

/// `1.2.840.113549` for people.
pub(crate) fn dotted(object_identifier: &[u8]) -> String {
    match arcs(object_identifier) {
        Some(arcs) => {
            let arcs: Vec<String> = arcs.iter().map(u32::to_string).collect();
            arcs.join(".")
        }
        None => hex::encode(object_identifier),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_must_be_definite_and_minimal() {
        let cases: &[(&[u8], bool)] = &[
            (&[0x04, 0x01, 0xaa], true),
            (&[0x04, 0x81, 0x01, 0xaa], false),
            (&[0x04, 0x80, 0xaa, 0, 0], false),
            (&[0x04, 0x02, 0xaa], false),
            (&[0x04, 0x84, 0xff, 0xff, 0xff, 0xff], false),
            (&[0x04, 0x85, 0, 0, 0, 0, 1, 0xaa], false),
            (&[0x1f, 0x01, 0xaa], false),
            (&[0x04], false),
            (&[], false),
        ];
        for (bytes, accepted) in cases {
            assert_eq!(
                Reader::new(bytes).any("x").is_ok(),
                *accepted,
                "{bytes:02x?}"
            );
        }
    }

    #[test]
    fn integers_must_be_minimal_and_bit_strings_padded_with_zeros() {
        let integer = |bytes: &[u8]| Reader::new(bytes).integer("x").is_ok();
        assert!(integer(&[2, 1, 0]));
        assert!(integer(&[2, 2, 0, 0x80]));
        assert!(!integer(&[2, 2, 0, 0x7f]));
        assert!(!integer(&[2, 2, 0xff, 0x80]));
        assert!(!integer(&[2, 0]));
        let bits = |bytes: &[u8]| Reader::new(bytes).bit_string("x").is_ok();
        assert!(bits(&[3, 2, 1, 0x06]));
        assert!(!bits(&[3, 2, 1, 0x07]));
        assert!(!bits(&[3, 1, 1]));
        assert!(!bits(&[3, 2, 8, 0]));
    }

    #[test]
    fn object_identifiers_print_dotted() {
        assert_eq!(dotted(&[0x55, 0x1d, 0x13]), "2.5.29.19");
        assert_eq!(
            dotted(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11]),
            "1.2.840.113549.1.1.11"
        );
        for broken in [&[0x55, 0x80, 0x01][..], &[0x55, 0x9d], &[]] {
            assert!(!is_object_identifier(broken) && !has_whole_arcs(broken));
        }
        let large = [0x55, 0x88, 0x80, 0x80, 0x80, 0x00];
        assert!(!is_object_identifier(&large) && has_whole_arcs(&large));
    }
}
