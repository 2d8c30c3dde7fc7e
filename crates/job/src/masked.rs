//! What to mask of a secret beside its whole value: its lines, and what `base64` makes of it (`secrets.md` 4.4).

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use courser_protocol::Secret;

/// Shorter ones occur by chance.
const SHORTEST: usize = 8;
/// Of longer values only the whole is masked: a search for all parts of a file of a megabyte would take more memory than
/// the job.
const LONGEST: usize = 64 * 1024;
/// Columns of `base64` and of `openssl base64`.
const COLUMNS: [usize; 2] = [76, 64];

/// Lines, and encoded forms with and without a line's end, whole and wrapped.
pub(crate) fn derived(value: &Secret) -> Vec<Secret> {
    let value = value.expose();
    if value.len() > LONGEST {
        return Vec::new();
    }
    let mut phrases = Vec::new();
    let mut add = |phrase: &str| {
        if phrase.len() >= SHORTEST {
            phrases.push(Secret::new(phrase));
        }
    };
    let trimmed = value.trim();
    if trimmed.contains(['\n', '\r']) {
        trimmed
            .split(['\n', '\r'])
            .map(str::trim)
            .for_each(&mut add);
    }
    for form in [value.to_owned(), trimmed.to_owned(), format!("{trimmed}\n")] {
        let form = zeroize::Zeroizing::new(form);
        for encoded in [
            BASE64_STANDARD.encode(&*form),
            BASE64_URL_SAFE.encode(&*form),
        ] {
            let encoded = zeroize::Zeroizing::new(encoded);
            add(encoded.trim_end_matches('='));
            for columns in COLUMNS {
                if encoded.len() > columns {
                    // Base64 is ASCII.
                    for line in encoded.as_bytes().chunks(columns) {
                        add(&String::from_utf8_lossy(line));
                    }
                }
            }
        }
    }
    phrases
}

/// Orders phrases for the search, each once.
pub(crate) fn longest_first(phrases: &mut Vec<Secret>) {
    phrases.sort_by(|a, b| (b.expose().len(), a.expose()).cmp(&(a.expose().len(), b.expose())));
    phrases.dedup();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phrases(value: &str) -> Vec<String> {
        let derived = derived(&Secret::new(value));
        derived
            .iter()
            .map(|phrase| phrase.expose().to_owned())
            .collect()
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
        assert!(phrases(&"y".repeat(LONGEST + 1)).is_empty());
    }
}
