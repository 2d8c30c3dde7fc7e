//! AWS Signature Version 4 of a request without a query.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use courser_protocol::Secret;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use jiff::Timestamp;
use url::Url;

use super::Credentials;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// What a signature is good for.
pub(super) struct Scope<'a> {
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    pub(super) now: Timestamp,
}

/// Adds date, session token and signature to `headers`, all of which are signed, and so is the host of `url`.
pub(super) fn sign(
    headers: &mut HeaderMap,
    method: &Method,
    url: &Url,
    body: &[u8],
    credentials: &Credentials,
    scope: &Scope<'_>,
) {
    let stamp = scope.now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = &stamp[..8];
    let mut insert = |name: HeaderName, value: &str| match HeaderValue::from_str(value) {
        Ok(mut value) => {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Err(_) => tracing::warn!("the value for header {name} is not sendable and left out"),
    };
    insert(DATE, &stamp);
    if let Some(token) = &credentials.session_token {
        insert(SECURITY_TOKEN, token.expose());
    }
    let host = match (url.host_str().unwrap_or_default(), url.port()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.to_owned(),
    };
    let mut signed: Vec<(&str, String)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), in_one_line(value.as_bytes())))
        .collect();
    signed.push((header::HOST.as_str(), host));
    signed.sort();
    let names: Vec<_> = signed.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = signed
        .iter()
        .flat_map(|(name, value)| [name, ":", value, "\n"])
        .collect();
    let request = format!(
        "{method}\n{}\n\n{lines}\n{names}\n{}",
        url.path(),
        sha256(body)
    );
    let Scope {
        region, service, ..
    } = scope;
    let place = format!("{day}/{region}/{service}/aws4_request");
    let text = format!(
        "{ALGORITHM}\n{stamp}\n{place}\n{}",
        sha256(request.as_bytes())
    );
    let first = Secret::new(format!("AWS4{}", credentials.secret_key.expose()));
    let key = place.split('/').fold(
        hmac::Key::new(hmac::HMAC_SHA256, first.expose().as_bytes()),
        |key, part| {
            let part = hmac::sign(&key, part.as_bytes());
            hmac::Key::new(hmac::HMAC_SHA256, part.as_ref())
        },
    );
    let signature = hex::encode(hmac::sign(&key, text.as_bytes()));
    let access_key = &credentials.access_key;
    let value = format!(
        "{ALGORITHM} Credential={access_key}/{place}, SignedHeaders={names}, Signature={signature}"
    );
    // All parts are visible ASCII: the access key has been a header's neighbour in `place` nowhere else, so it is tried.
    match HeaderValue::from_str(&value) {
        Ok(mut value) => {
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        Err(_) => tracing::warn!("the access key of AWS cannot be sent; the request goes unsigned"),
    }
}

/// A header's value as it is signed: runs of blanks are one.
fn in_one_line(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let words: Vec<_> = text
        .split([' ', '\t'])
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ")
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorization(
        method: Method,
        url: &str,
        headers: &[(&'static str, &str)],
        body: &str,
        (region, service, now, token): (&str, &str, &str, Option<&str>),
    ) -> String {
        let credentials = Credentials {
            access_key: "AKIDEXAMPLE".to_owned(),
            secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session_token: token.map(Into::into),
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let scope = Scope {
            region,
            service,
            now: now.parse().unwrap(),
        };
        sign(
            &mut map,
            &method,
            &url.parse().unwrap(),
            body.as_bytes(),
            &credentials,
            &scope,
        );
        map[header::AUTHORIZATION].to_str().unwrap().to_owned()
    }

    /// From the `aws-sig-v4-test-suite` that AWS publishes.
    #[test]
    fn published_vectors() {
        let table = [
            (
                "get-vanilla",
                Method::GET,
                None,
                "",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "post-vanilla",
                Method::POST,
                None,
                "",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "post-x-www-form-urlencoded",
                Method::POST,
                Some(("content-type", "application/x-www-form-urlencoded")),
                "Param1=value1",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
            (
                "post-sts-header-before",
                Method::POST,
                Some((
                    "x-amz-security-token",
                    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==",
                )),
                "",
                "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
            ),
        ];
        for (name, method, header, body, signature) in table {
            let headers: Vec<_> = header.into_iter().collect();
            let scope = ("us-east-1", "service", "2015-08-30T12:36:00Z", None);
            let found = authorization(
                method,
                "https://example.amazonaws.com/",
                &headers,
                body,
                scope,
            );
            assert!(
                found.ends_with(&format!("Signature={signature}")),
                "{name}: {found}"
            );
        }
    }

    /// Made with botocore 1.44.5.
    #[test]
    fn a_read_is_signed_as_by_aws_own_sdk() {
        let token = "AQoEXAMPLEH4aoAH0gNCAPyJxz4BlCFFxWNE1OPTgk5TthT+FvwqnKwRcOIfrRh3c/LTo6UDdyJwOOvEVPvLXCrrrUtdnniCEXAMPLE/IvU1dYUg2RVAJBanLiHb4IgRmpRV3zrkuWJOgQs8IZZaIv2BXIa2R4Olgk";
        let found = authorization(
            Method::POST,
            "https://secretsmanager.eu-west-1.amazonaws.com/",
            &[
                ("content-type", "application/x-amz-json-1.1"),
                ("x-amz-target", "secretsmanager.GetSecretValue"),
            ],
            r#"{"SecretId":"app/db"}"#,
            (
                "eu-west-1",
                "secretsmanager",
                "2026-11-22T05:30:00Z",
                Some(token),
            ),
        );
        assert_eq!(
            found,
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261122/eu-west-1/secretsmanager/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, \
             Signature=fd0f3de3abbf92488c03bfa9869e2da5218c61b91bdc68a1be78494dae96da07"
        );
    }
}
