//! What to mask of a secret beside its whole value (`secrets.md` 4.4): its lines, the secrets in it where it is JSON, how
//! tools write it ([`crate::quoted`]), and what `base64` makes of it, alone or amid other text.

mod json;

use std::collections::{BTreeSet, HashSet};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use courser_protocol::Secret;
use zeroize::Zeroizing;

use crate::quoted;

/// Shorter ones occur by chance.
const SHORTEST: usize = 8;
/// Bytes of all phrases of a job that are derived: the search takes about a hundred times as much memory. What does
/// not fit is masked as a whole value only.
const BUDGET: usize = 1024 * 1024;
/// Columns of `base64` and of `openssl base64`.
const COLUMNS: [usize; 2] = [76, 64];

/// Lines, secrets in JSON, quoted forms, and encoded forms with and without a line's end, whole, wrapped, and amid other
/// text. What shows a secret as it is comes before what encodes it, and short values before long ones, until [`BUDGET`]
/// is spent.
pub(crate) fn derived<'a>(values: impl Iterator<Item = &'a Secret>) -> Vec<Secret> {
    let mut phrases = Phrases {
        left: BUDGET,
        found: HashSet::new(),
    };
    let values: BTreeSet<&str> = values.map(Secret::expose).collect();
    let in_json: Vec<Secret> = values
        .iter()
        .flat_map(|value| json::secrets(value))
        .collect();
    let in_json: BTreeSet<&str> = in_json.iter().map(Secret::expose).collect();
    let mut all: Vec<&str> = values.union(&in_json).copied().collect();
    all.sort_by_key(|value| value.len());
    for value in &all {
        if in_json.contains(value) {
            phrases.add(value.trim());
        }
        let value = value.trim();
        if value.contains(['\n', '\r']) {
            for line in value.split(['\n', '\r']) {
                phrases.add(line.trim());
            }
        }
    }
    for value in &all {
        if !phrases.may_hold(value) {
            break;
        }
        for form in quoted::forms(value.trim()) {
            phrases.add(&form);
        }
    }
    for value in &all {
        if !phrases.may_hold(value) {
            break;
        }
        phrases.add_encoded(value);
    }
    phrases.found.into_iter().collect()
}

/// Derived phrases, each once.
struct Phrases {
    /// Bytes that may still be added.
    left: usize,
    found: HashSet<Secret>,
}

impl Phrases {
    /// Whether a form of a value could still be added: each is at least about as long. Of longer values none is made.
    fn may_hold(&self, value: &str) -> bool {
        value.len() <= self.left && self.left >= SHORTEST
    }

    fn add(&mut self, phrase: &str) {
        if (SHORTEST..=self.left).contains(&phrase.len()) && self.found.insert(Secret::new(phrase))
        {
            self.left -= phrase.len();
        }
    }

    fn add_encoded(&mut self, value: &str) {
        let trimmed = value.trim();
        if trimmed.is_empty() {
            return;
        }
        for before in 0..3 {
            let mut bytes = Zeroizing::new(vec![0; before]);
            bytes.extend_from_slice(trimmed.as_bytes());
            for encoded in encodings(&bytes) {
                // Only what does not depend on the neighbours: six bits a character.
                self.add(&encoded[(before * 8).div_ceil(6)..bytes.len() * 8 / 6]);
            }
        }
        let ended = Zeroizing::new(format!("{trimmed}\n"));
        for form in [value, trimmed, &ended] {
            for encoded in encodings(form.as_bytes()) {
                self.add(&encoded);
                for columns in COLUMNS {
                    // Base64 is ASCII.
                    for line in encoded.as_bytes().chunks(columns) {
                        self.add(&String::from_utf8_lossy(line));
                    }
                }
            }
        }
    }
}

/// In the standard alphabet and that of URLs, without padding.
fn encodings(bytes: &[u8]) -> [Zeroizing<String>; 2] {
    [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD]
        .map(|alphabet| Zeroizing::new(alphabet.encode(bytes)))
}

/// Orders phrases for the search, each once.
pub(crate) fn longest_first(phrases: &mut Vec<Secret>) {
    phrases.sort_by(|a, b| (b.expose().len(), a.expose()).cmp(&(a.expose().len(), b.expose())));
    phrases.dedup();
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    fn phrases_of(values: &[Secret]) -> Vec<String> {
        let found = derived(values.iter());
        found
            .iter()
            .map(|found| found.expose().to_owned())
            .collect()
    }

    fn phrases(value: &str) -> Vec<String> {
        phrases_of(&[Secret::new(value)])
    }

    #[test]
    fn lines_and_encodings_are_masked_unless_they_are_short() {
        let found = phrases("-----BEGIN KEY-----\nMIIabcdefgh\nshort\n-----END KEY-----\n");
        for line in ["-----BEGIN KEY-----", "MIIabcdefgh", "-----END KEY-----"] {
            assert!(found.contains(&line.to_owned()), "{line}: {found:?}");
        }
        assert!(!found.contains(&"short".to_owned()));
        // echo -n pass?word | base64; echo pass?word | base64
        let found = phrases("pass?word");
        assert!(found.contains(&"cGFzcz93b3Jk".to_owned()), "{found:?}");
        assert!(found.contains(&"cGFzcz93b3JkCg".to_owned()), "{found:?}");
        assert!(phrases("1").is_empty());
        let long = "x".repeat(100);
        let wrapped = &BASE64_STANDARD.encode(&long)[..76];
        assert!(phrases(&long).contains(&wrapped.to_owned()));
    }

    #[test]
    fn secrets_in_json_are_masked_as_values_are() {
        let key = "-----BEGIN KEY-----\nMIIabcdefgh\n-----END KEY-----\n";
        let json = serde_json::json!({"private_key": key, "id": 12_345_678_901_i64, "short": "abc",
            "users": [{"password": "hunter2 hunter2", "name": "somebody"}, true, null, 1.5]});
        let found = phrases(&json.to_string());
        for text in [
            key.trim(),
            "MIIabcdefgh",
            "hunter2 hunter2",
            "hunter2%20hunter2",
        ] {
            assert!(found.contains(&text.to_owned()), "{text}: {found:?}");
        }
        // As `jq .private_key` shows it.
        let escaped = "-----BEGIN KEY-----\\nMIIabcdefgh\\n-----END KEY-----";
        assert!(found.contains(&escaped.to_owned()), "{found:?}");
        for text in ["private_key", "abc", "12345678901", "somebody"] {
            assert!(!found.contains(&text.to_owned()), "{text}");
        }
    }

    #[test]
    fn an_encoding_amid_other_text_shows_at_most_the_characters_that_mix_with_it() {
        for secret in ["hunter2hunter2", "hunter2?hunter2", "hunter2>>hunter2"] {
            let found = phrases(secret);
            for before in ["", "u", "me", "me:", "user:"] {
                for after in ["", "x", "@h", "\n"] {
                    let encoded = BASE64_STANDARD.encode(format!("{before}{secret}{after}"));
                    let longest = found.iter().filter(|found| encoded.contains(*found));
                    let longest = longest.map(String::len).max().unwrap_or(0);
                    let wanted = secret.len() * 8 / 6 - 1;
                    assert!(longest >= wanted, "{before}{secret}{after}: {longest}");
                }
            }
        }
    }

    #[test]
    fn many_and_long_values_spend_a_budget_short_ones_first() {
        let file: String = (0..300_000)
            .map(|line| format!("line {line:07}\n"))
            .collect();
        let values = [Secret::new(&file), Secret::new("pass?word")];
        let total = |found: &[String]| found.iter().map(String::len).sum::<usize>();
        assert!(total(&phrases_of(&values)) <= BUDGET);
        // Of a file of 100 KiB each line is masked still.
        let file = &file[..100 * 1024 - 6];
        let found = phrases_of(&[Secret::new(file), Secret::new("pass?word")]);
        assert!(total(&found) <= BUDGET);
        assert!(found.contains(&"cGFzcz93b3Jk".to_owned()));
        for line in file.lines().filter(|line| line.len() == 12) {
            assert!(found.contains(&line.to_owned()), "{line}");
        }
        // Large documents come after small keys.
        let document =
            |n: usize| Secret::new(format!("{{\"key\": \"{n}{}\"}}", "z".repeat(250 * 1024)));
        let mut values: Vec<_> = (0..8).map(document).collect();
        values.push(Secret::new("-----BEGIN-----\nline one\n-----END-----"));
        assert!(phrases_of(&values).contains(&"line one".to_owned()));
        // The same value many times is one.
        let many = vec![Secret::new("y".repeat(5000)); 200];
        assert_eq!(total(&phrases_of(&many)), total(&phrases_of(&many[..1])));
    }

    proptest::proptest! {
        #[test]
        fn any_value_has_phrases_a_blank_one_none(value in "\\PC{0,12}|[ \n\r\t]{0,40}|(?s).{0,200}") {
            for phrase in phrases(&value) {
                proptest::prop_assert!(phrase.len() >= SHORTEST);
            }
            proptest::prop_assert!(!value.trim().is_empty() || phrases(&value).is_empty());
        }
    }
}
