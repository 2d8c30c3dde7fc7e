//! Names made fit for hosts and paths: `CI_COMMIT_REF_SLUG`, `CI_JOB_NAME_SLUG`, `CI_ENVIRONMENT_SLUG`.

use sha2::{Digest, Sha256};

const MAXIMUM_SLUG: usize = 63;
const MAXIMUM_ENVIRONMENT: usize = 24;
/// Characters left of a changed name, before a dash and the hash.
const KEPT: usize = 17;
const HASH: usize = 6;

/// `CI_JOB_NAME_SLUG` and `CI_COMMIT_REF_SLUG`: lower case, other characters become dashes, at most 63,
/// no dash at the ends.
pub fn slug(text: &str) -> String {
    let dashed: String = dashed(text).take(MAXIMUM_SLUG).collect();
    dashed.trim_matches('-').to_owned()
}

/// `CI_ENVIRONMENT_SLUG` (`gitlab-ci-yaml.md` 16.3): begins with a letter, at most 24 characters; a
/// changed name gets a hash so that it stays unique.
pub fn environment_slug(name: &str) -> String {
    let mut slug: String = dashed(name).collect();
    if !slug.starts_with(|c: char| c.is_ascii_lowercase()) {
        slug.insert_str(0, "env-");
    }
    let mut before = None;
    slug.retain(|c| !(before.replace(c) == Some('-') && c == '-'));
    if slug.len() <= MAXIMUM_ENVIRONMENT && slug == name {
        return slug.strip_suffix('-').unwrap_or(&slug).to_owned();
    }
    slug.truncate(KEPT);
    format!("{}-{}", slug.trim_end_matches('-'), hash(name))
}

fn dashed(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_lowercase).map(|c| {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            c
        } else {
            '-'
        }
    })
}

/// The last digits, to base 36, of the SHA-256.
fn hash(name: &str) -> String {
    let modulus = 36u64.pow(6);
    let mut number = Sha256::digest(name.as_bytes())
        .iter()
        .fold(0, |number, byte| {
            (number * 256 + u64::from(*byte)) % modulus
        });
    let mut digits = Vec::with_capacity(HASH);
    for _ in 0..HASH {
        let digit = u32::try_from(number % 36).unwrap_or_default();
        digits.push(char::from_digit(digit, 36).unwrap_or('0'));
        number /= 36;
    }
    digits.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_short_and_plain() {
        assert_eq!(slug("Feature/ABC_1"), "feature-abc-1");
        assert_eq!(slug("-x-"), "x");
        assert_eq!(slug("a--b: [c]"), "a--b---c");
        assert_eq!(slug(&"a".repeat(70)).len(), 63);
    }

    #[test]
    fn environment_slugs_stay_unique() {
        assert_eq!(environment_slug("production"), "production");
        let review = environment_slug("review/My--Feature-branch");
        assert!(review.starts_with("review-my-feature-"), "{review}");
        assert_eq!(review.len(), 24);
        assert_ne!(review, environment_slug("review/my-feature-branch"));
        assert!(environment_slug("1").starts_with("env-1-"));
    }
}
