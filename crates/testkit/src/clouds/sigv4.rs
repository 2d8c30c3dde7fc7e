//! AWS Signature Version 4, the side that checks it.

use aws_lc_rs::{digest, hmac};

use crate::http_message::Request;

/// What the `Authorization` header claims.
pub(super) struct Claim {
    pub(super) access_key: String,
    /// `DATE/REGION/SERVICE/aws4_request`.
    pub(super) scope: [String; 4],
    signed_headers: String,
    signature: String,
}

/// The header in its parts.
pub(super) fn claim(request: &Request) -> Option<Claim> {
    let rest = request
        .header("authorization")
        .strip_prefix("AWS4-HMAC-SHA256 ")?;
    let part = |name: &str| {
        rest.split(',')
            .find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
            .map(ToOwned::to_owned)
    };
    let credential = part("Credential")?;
    let mut credential = credential.split('/').map(ToOwned::to_owned);
    let access_key = credential.next()?;
    let scope: Vec<_> = credential.collect();
    Some(Claim {
        access_key,
        scope: scope.try_into().ok()?,
        signed_headers: part("SignedHeaders")?,
        signature: part("Signature")?,
    })
}

/// Whether the request is signed with this key: all of its `X-Amz-` headers and its host, and its body.
pub(super) fn is_signed(request: &Request, claim: &Claim, secret_key: &str) -> bool {
    let signed: Vec<_> = claim.signed_headers.split(';').collect();
    let must_be_signed = request
        .headers
        .keys()
        .map(http::HeaderName::as_str)
        .filter(|name| *name == "host" || name.starts_with("x-amz-"));
    if !signed.is_sorted()
        || must_be_signed
            .into_iter()
            .any(|name| !signed.contains(&name))
    {
        return false;
    }
    let stamp = request.header("x-amz-date");
    if !stamp.starts_with(&claim.scope[0]) {
        return false;
    }
    let headers: String = signed
        .iter()
        .map(|name| {
            let words: Vec<_> = request.header(name).split_whitespace().collect();
            format!("{name}:{}\n", words.join(" "))
        })
        .collect();
    let canonical = format!(
        "{}\n{}\n{}\n{headers}\n{}\n{}",
        request.method,
        request.path,
        request.query.as_deref().unwrap_or_default(),
        claim.signed_headers,
        sha256(&request.body)
    );
    let text = format!(
        "AWS4-HMAC-SHA256\n{stamp}\n{}\n{}",
        claim.scope.join("/"),
        sha256(canonical.as_bytes())
    );
    signature(secret_key, &claim.scope, &text) == claim.signature
}

/// The signature of a "string to sign".
pub(crate) fn signature(secret_key: &str, scope: &[String; 4], text: &str) -> String {
    let key = scope
        .iter()
        .fold(format!("AWS4{secret_key}").into_bytes(), |key, part| {
            sign(&key, part)
        });
    hex::encode(sign(&key, text))
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

fn sign(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}
