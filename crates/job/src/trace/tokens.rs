//! Masking of tokens by their prefix: `glpat-[MASKED]` (`runner-protocol.md` 5.2).

use std::sync::Arc;

use aho_corasick::automaton::StateID;

use super::MASK;
use super::phrases::Matcher;

/// State of one stream. Nothing is held back: a prefix is shown as it is.
#[derive(Debug)]
pub(super) struct TokenFilter {
    prefixes: Arc<Matcher>,
    place: Place,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// Looking for a prefix.
    Outside(StateID),
    /// Right after a prefix.
    AfterPrefix,
    /// In the tail of a token, `[MASKED]` written.
    Inside,
}

impl TokenFilter {
    pub(super) fn new(prefixes: Arc<Matcher>) -> Self {
        Self {
            place: Place::Outside(prefixes.start()),
            prefixes,
        }
    }

    pub(super) fn write(&mut self, data: &[u8], output: &mut Vec<u8>) {
        let start = self.prefixes.start();
        // Bytes of `data` before `shown` are in the output, or masked.
        let mut shown = 0;
        let mut position = 0;
        while position < data.len() {
            let byte = data[position];
            match self.place {
                Place::Outside(state) => {
                    if state == start {
                        let Some(skipped) = self.prefixes.next_candidate(&data[position..]) else {
                            break;
                        };
                        position += skipped;
                    }
                    let state = self.prefixes.next(state, data[position]);
                    position += 1;
                    let (_, whole) = self.prefixes.lengths(state);
                    self.place = if whole > 0 {
                        Place::AfterPrefix
                    } else {
                        Place::Outside(state)
                    };
                }
                Place::AfterPrefix if is_token_byte(byte) => {
                    output.extend_from_slice(&data[shown..position]);
                    output.extend_from_slice(MASK);
                    self.place = Place::Inside;
                    shown = position;
                }
                Place::Inside if is_token_byte(byte) => {
                    let rest = &data[position..];
                    let run = rest.iter().position(|byte| !is_token_byte(*byte));
                    position += run.unwrap_or(rest.len());
                    shown = position;
                }
                Place::AfterPrefix | Place::Inside => self.place = Place::Outside(start),
            }
        }
        output.extend_from_slice(&data[shown..]);
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'=' | b'-')
}
