//! Random tokens, and comparing them without telling how much of a guess was right.

use sha2::{Digest, Sha256};

use courser_protocol::Secret;

/// 128 random bits behind a prefix that says what the token is for.
pub(crate) fn random(prefix: &str) -> Secret {
    Secret::new(format!("{prefix}{}", uuid::Uuid::new_v4().simple()))
}

/// What is stored and compared in place of a token.
pub(crate) fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Whether two tokens are equal; the time taken depends on neither.
pub(crate) fn equal(given: &str, expected: &str) -> bool {
    let (given, expected) = (digest(given), digest(expected));
    let difference = given
        .iter()
        .zip(expected)
        .fold(0, |difference, (left, right)| difference | (left ^ right));
    difference == 0
}
