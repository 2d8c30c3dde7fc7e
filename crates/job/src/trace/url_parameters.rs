//! Masking of confidential URL parameters: `?private_token=[MASKED]` (`runner-protocol.md` 5.2).

use super::MASK;

const KEYS: [&[u8]; 6] = [
    b"private_token",
    b"authenticity_token",
    b"rss_token",
    b"x-amz-signature",
    b"x-amz-credential",
    b"x-amz-security-token",
];

/// Longest key.
const KEY_LENGTH: usize = 20;

/// State of one stream. Nothing is held back: keys are shown as they are.
#[derive(Debug, Default)]
pub(super) struct UrlParameterFilter {
    place: Place,
    /// Key so far, in lower case.
    key: [u8; KEY_LENGTH],
    length: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Place {
    #[default]
    Text,
    Key,
    /// `[MASKED]` written.
    Value,
}

impl UrlParameterFilter {
    pub(super) fn write(&mut self, data: &[u8], output: &mut Vec<u8>) {
        // Bytes of `data` before `shown` are in the output, or masked.
        let mut shown = 0;
        let mut position = 0;
        while position < data.len() {
            match self.place {
                Place::Text => {
                    let Some(skipped) = memchr::memchr2(b'?', b'&', &data[position..]) else {
                        break;
                    };
                    position += skipped + 1;
                    self.begin_key();
                }
                Place::Key => {
                    let byte = data[position];
                    position += 1;
                    if is_separator(byte) {
                        self.begin_key();
                    } else if byte == b'=' && KEYS.contains(&&self.key[..self.length]) {
                        output.extend_from_slice(&data[shown..position]);
                        output.extend_from_slice(MASK);
                        shown = position;
                        self.place = Place::Value;
                    } else if self.length < KEY_LENGTH && byte != b'=' {
                        self.key[self.length] = byte.to_ascii_lowercase();
                        self.length += 1;
                    } else {
                        self.place = Place::Text;
                    }
                }
                Place::Value => {
                    let ends = |byte: &u8| {
                        is_separator(*byte) || byte.is_ascii_whitespace() || byte.is_ascii_control()
                    };
                    let rest = &data[position..];
                    match rest.iter().position(ends) {
                        Some(run) => {
                            position += run;
                            self.place = Place::Text;
                        }
                        None => position = data.len(),
                    }
                    shown = position;
                }
            }
        }
        output.extend_from_slice(&data[shown..]);
    }

    fn begin_key(&mut self) {
        self.place = Place::Key;
        self.length = 0;
    }
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'?' | b'&')
}
