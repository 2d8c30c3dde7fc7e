//! Offsets of the job log (`runner-protocol.md` 2.8).

use std::fmt;

/// `Content-Range` of a trace patch: `<first>-<last>`, last inclusive, no unit, no total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    /// Offset of the first byte.
    pub start: u64,
    /// Bytes in the patch, at least 1.
    pub length: u64,
}

impl ContentRange {
    /// The offset that a server names in `Range: 0-<n>`: the bytes it has. Absent or garbled: 0.
    pub fn stored_size(range_header: Option<&str>) -> u64 {
        range_header
            .and_then(|text| text.split_once('-'))
            .and_then(|(_, end)| end.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Start offset of a `Content-Range` header; the end is known from the body.
    pub fn start_of(header: &str) -> Option<u64> {
        header.split_once('-')?.0.trim().parse().ok()
    }
}

impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}-{}",
            self.start,
            self.start + self.length.saturating_sub(1)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_no_unit_and_an_inclusive_end() {
        let range = ContentRange {
            start: 10,
            length: 5,
        };
        assert_eq!(range.to_string(), "10-14");
        assert_eq!(ContentRange::start_of("10-14"), Some(10));
        assert_eq!(ContentRange::start_of("bytes"), None);
    }

    #[test]
    fn the_server_names_a_size_and_nonsense_is_zero() {
        assert_eq!(ContentRange::stored_size(Some("0-42")), 42);
        for header in [None, Some(""), Some("0-x"), Some("42")] {
            assert_eq!(ContentRange::stored_size(header), 0, "{header:?}");
        }
    }
}
