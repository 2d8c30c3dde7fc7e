//! ID tokens as GitLab signs them (`secrets.md` 10), and a judge of them as clouds are.
//!
//! An [`Issuer`] stands for a coordinator: it signs any claims, true or not. A [`Federation`] is what the fakes of
//! other people's servers hold a token against: key set, issuer, audiences, times. It takes its keys as the JSON of a
//! JWKS, so that those of a real coordinator do as well.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Somebody who signs ID tokens with RS256.
pub struct Issuer {
    url: String,
    key: KeyPair,
    key_id: String,
}

/// Whom a server believes, and for what.
#[derive(Clone)]
pub struct Federation {
    /// `iss`, compared exactly.
    pub issuer: String,
    /// Accepted values of `aud`.
    pub audiences: Vec<String>,
    /// The key set, as discovery leads to it.
    pub keys: Value,
}

/// Why a token is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenFault {
    /// No JWT signed with RS256.
    Malformed(&'static str),
    /// `kid` is not in the key set.
    UnknownKey,
    /// The signature is not of that key.
    Signature,
    /// `iss` is this one.
    Issuer(String),
    /// `aud` names these, none of which is accepted.
    Audience(Vec<String>),
    /// `exp` is over; `iat` as it stands in the token.
    Expired {
        /// Seconds since 1970.
        issued_at: i64,
    },
    /// `nbf` lies ahead; `iat` as it stands in the token.
    NotYetValid {
        /// Seconds since 1970.
        issued_at: i64,
    },
}

impl Issuer {
    /// One with a key of its own, of 2048 bits.
    pub fn new(url: &str) -> Self {
        let key = KeyPair::generate(KeySize::Rsa2048).expect("a key can be made");
        let digest = digest(&SHA256, key.public_key().as_ref());
        Self {
            url: url.to_owned(),
            key,
            key_id: BASE64_URL_SAFE_NO_PAD.encode(digest),
        }
    }

    /// Its `iss`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The key set (`GET /oauth/discovery/keys`).
    pub fn key_set(&self) -> Value {
        // PKCS #1 of a key of 2048 bits: sequence, integer with its leading zero, then the exponent 65537.
        let public = self.key.public_key().as_ref();
        assert_eq!(&public[..9], b"\x30\x82\x01\x0a\x02\x82\x01\x01\x00");
        assert_eq!(&public[265..], b"\x02\x03\x01\x00\x01");
        json!({"keys": [{
            "kty": "RSA", "kid": self.key_id, "use": "sig", "alg": "RS256",
            "n": BASE64_URL_SAFE_NO_PAD.encode(&public[9..265]), "e": "AQAB",
        }]})
    }

    /// Its key in PEM, for servers that are handed keys (`jwt_validation_pubkeys`).
    pub fn public_key_pem(&self) -> String {
        let der = AsDer::<PublicKeyX509Der<'_>>::as_der(self.key.public_key());
        let der = der.expect("the key has this form");
        let text = BASE64_STANDARD.encode(der.as_ref());
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    }

    /// Claims of a job of `group/project` on the branch `main`, valid for five minutes (10.4, the ones that policies are
    /// about).
    pub fn claims(&self, audience: &str, now: Timestamp) -> Value {
        let now = now.as_second();
        json!({
            "iss": self.url,
            "sub": "project_path:group/project:ref_type:branch:ref:main",
            "aud": audience,
            "iat": now, "nbf": now - 5, "exp": now + 300,
            "jti": "c8a1b2f0-0000-4000-8000-000000000001",
            "namespace_id": "7", "namespace_path": "group",
            "project_id": "42", "project_path": "group/project",
            "user_login": "ada", "user_email": "ada@example.com",
            "pipeline_id": "100", "pipeline_source": "push", "job_id": "1000",
            "ref": "main", "ref_type": "branch", "ref_path": "refs/heads/main", "ref_protected": "true",
            "runner_id": 3, "runner_environment": "self-hosted",
        })
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let header = json!({"typ": "JWT", "alg": "RS256", "kid": self.key_id});
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                signed.as_bytes(),
                &mut signature,
            )
            .expect("the key signs");
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    /// A token for a job (see [`Self::claims`]).
    pub fn token(&self, audience: &str) -> String {
        self.sign(&self.claims(audience, Timestamp::now()))
    }

    /// The same with these claims instead of its own: an object.
    pub fn token_with(&self, audience: &str, altered: &Value) -> String {
        let mut claims = self.claims(audience, Timestamp::now());
        for (name, value) in altered.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        self.sign(&claims)
    }

    /// A server's view of this issuer.
    pub fn federation(&self, audiences: &[&str]) -> Federation {
        Federation {
            issuer: self.url.clone(),
            audiences: audiences.iter().map(|&audience| audience.into()).collect(),
            keys: self.key_set(),
        }
    }
}

impl Federation {
    /// The claims of a token that is believed.
    ///
    /// # Errors
    ///
    /// The first of the checks, in the order of [`TokenFault`], that it does not pass.
    pub fn claims(&self, token: &str, now: Timestamp) -> Result<Value, TokenFault> {
        let parts: Vec<_> = token.split('.').collect();
        let &[header, payload, signature] = parts.as_slice() else {
            return Err(TokenFault::Malformed("three parts"));
        };
        let header = decoded(header)?;
        let claims = decoded(payload)?;
        if header["alg"] != "RS256" {
            return Err(TokenFault::Malformed("RS256"));
        }
        let key = self.keys["keys"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|key| key["kid"].is_string() && key["kid"] == header["kid"])
            .ok_or(TokenFault::UnknownKey)?;
        let part = |name: &str| {
            let text = key[name].as_str().expect("keys of a JWKS are RSA keys");
            BASE64_URL_SAFE_NO_PAD
                .decode(text)
                .expect("keys of a JWKS are base64url")
        };
        let public = PublicKeyComponents {
            n: part("n"),
            e: part("e"),
        };
        let signed = &token[..token.len() - signature.len() - 1];
        let signature = BASE64_URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| TokenFault::Signature)?;
        public
            .verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature)
            .map_err(|_| TokenFault::Signature)?;
        self.judge(claims, now)
    }

    fn judge(&self, claims: Value, now: Timestamp) -> Result<Value, TokenFault> {
        let issuer = claims["iss"].as_str().unwrap_or_default();
        if issuer != self.issuer {
            return Err(TokenFault::Issuer(issuer.to_owned()));
        }
        let audiences: Vec<String> = match &claims["aud"] {
            Value::String(one) => vec![one.clone()],
            Value::Array(list) => list
                .iter()
                .filter_map(|one| Some(one.as_str()?.to_owned()))
                .collect(),
            _ => Vec::new(),
        };
        if !audiences
            .iter()
            .any(|audience| self.audiences.contains(audience))
        {
            return Err(TokenFault::Audience(audiences));
        }
        let time = |name: &str| claims[name].as_i64();
        let now = now.as_second();
        let issued_at = time("iat").unwrap_or_default();
        if time("exp").is_none_or(|end| end <= now) {
            return Err(TokenFault::Expired { issued_at });
        }
        if time("nbf").is_some_and(|start| start > now) {
            return Err(TokenFault::NotYetValid { issued_at });
        }
        Ok(claims)
    }
}

fn decoded(part: &str) -> Result<Value, TokenFault> {
    let bytes = BASE64_URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenFault::Malformed("base64url"))?;
    serde_json::from_slice(&bytes).map_err(|_| TokenFault::Malformed("JSON"))
}

impl fmt::Debug for Federation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {:?}", self.issuer, self.audiences)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_has_its_fault() {
        let issuer = Issuer::new("https://ci.example.com");
        let other = Issuer::new("https://ci.example.com");
        let federation = issuer.federation(&["vault"]);
        let now = Timestamp::now();
        let changed = |name: &str, value: Value| {
            let mut claims = issuer.claims("vault", now);
            claims[name] = value;
            issuer.sign(&claims)
        };
        let good = issuer.token("vault");
        let (head, _) = good.rsplit_once('.').unwrap();
        let strange = other.token("vault");
        let (_, strange_signature) = strange.rsplit_once('.').unwrap();
        let table = [
            (
                "$VAULT_ID_TOKEN".to_owned(),
                TokenFault::Malformed("three parts"),
            ),
            ("YQ.YQ.YQ".to_owned(), TokenFault::Malformed("JSON")),
            (strange.clone(), TokenFault::UnknownKey),
            (format!("{head}.{strange_signature}"), TokenFault::Signature),
            (
                changed("iss", "ci.example.com".into()),
                TokenFault::Issuer("ci.example.com".into()),
            ),
            (
                changed("aud", json!(["a", "b"])),
                TokenFault::Audience(vec!["a".into(), "b".into()]),
            ),
            (
                changed("exp", (now.as_second() - 1).into()),
                TokenFault::Expired {
                    issued_at: now.as_second(),
                },
            ),
            (
                changed("nbf", (now.as_second() + 60).into()),
                TokenFault::NotYetValid {
                    issued_at: now.as_second(),
                },
            ),
        ];
        for (token, fault) in table {
            assert_eq!(federation.claims(&token, now), Err(fault));
        }
        let claims = federation.claims(&good, now).unwrap();
        assert_eq!(claims["project_path"], "group/project");
        let listed = changed("aud", json!(["vault", "b"]));
        assert!(federation.claims(&listed, now).is_ok());
    }
}
