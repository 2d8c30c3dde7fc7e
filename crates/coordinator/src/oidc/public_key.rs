//! The public half of a signing key, in the forms in which providers take it (`secrets.md` 10.1, 10.2).

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// DER of an RSA public key (PKCS#1) of 2048 bits with the exponent 65537, around its modulus.
const BEFORE_MODULUS: [u8; 9] = [0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00];
const AFTER_MODULUS: [u8; 5] = [0x02, 0x03, 0x01, 0x00, 0x01];
/// 65537, as a JWK has it.
const EXPONENT: &str = "AQAB";

/// The public half of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    modulus: String,
    /// DER of `SubjectPublicKeyInfo`.
    spki: Vec<u8>,
}

impl PublicKey {
    /// `None`: not an RSA key of the kind that is made here.
    pub(super) fn of(key: &rsa::PublicKey) -> Option<Self> {
        let modulus = key
            .as_ref()
            .strip_prefix(&BEFORE_MODULUS)?
            .strip_suffix(&AFTER_MODULUS)?;
        let spki: PublicKeyX509Der<'_> = key.as_der().ok()?;
        Some(Self {
            modulus: URL_SAFE_NO_PAD.encode(modulus),
            spki: spki.as_ref().to_vec(),
        })
    }

    #[cfg(test)]
    pub(super) fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Its name in tokens and key sets: the thumbprint of RFC 7638.
    pub fn kid(&self) -> String {
        let canonical = format!(r#"{{"e":"{EXPONENT}","kty":"RSA","n":"{}"}}"#, self.modulus);
        URL_SAFE_NO_PAD.encode(Sha256::digest(canonical))
    }

    /// As a JSON Web Key.
    pub fn jwk(&self) -> Value {
        json!({
            "kty": "RSA", "kid": self.kid(), "use": "sig", "alg": "RS256",
            "n": self.modulus, "e": EXPONENT,
        })
    }

    /// As `-----BEGIN PUBLIC KEY-----`.
    pub fn pem(&self) -> String {
        let text = STANDARD.encode(&self.spki);
        let mut pem = "-----BEGIN PUBLIC KEY-----\n".to_owned();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem + "-----END PUBLIC KEY-----\n"
    }
}
