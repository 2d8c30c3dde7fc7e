//! What an ID token says, for advice: nobody is believed here, and no signature is shown.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use courser_protocol::Secret;
use serde_json::{Map, Value};

use crate::Failure;

/// Longest claim that is shown, in bytes.
const SHOWN: usize = 300;

/// Adds to a failure of a login what the token has to do with it.
pub(crate) fn advise(failure: Failure, token: &Secret) -> Failure {
    if token.is_empty() {
        return failure.advise(
            "the ID token is empty: let `token:` name one that the job declares with `id_tokens:`",
        );
    }
    let Some(claims) = of(token) else {
        return failure.advise(
            "the ID token is no JWT: `token:` takes a reference to a variable, with its `$`, such as `token: $ID_TOKEN`",
        );
    };
    let shown = |name: &str| {
        let text = match claims.get(name)? {
            Value::String(text) => format!("{text:?}"),
            other => other.to_string(),
        };
        Some(format!(
            "{name} {}",
            &text[..text.floor_char_boundary(SHOWN)]
        ))
    };
    let said: Vec<_> = ["iss", "sub", "aud"]
        .into_iter()
        .filter_map(shown)
        .collect();
    let end = claims.get("exp").and_then(Value::as_i64);
    let end = end.and_then(|end| jiff::Timestamp::from_second(end).ok());
    let end = end.map_or_else(String::new, |end| format!(", valid until {end}"));
    failure.advise(format!("the ID token says: {}{end}", said.join(", ")))
}

/// The claims of a JWT, unverified.
pub(crate) fn of(token: &Secret) -> Option<Map<String, Value>> {
    let mut parts = token.expose().split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(token: &str) -> String {
        advise(Failure::system("no"), &token.into())
            .advice
            .join("\n")
    }

    #[test]
    fn tokens_are_told_of_by_what_they_claim() {
        assert!(advice("").contains("is empty"));
        assert!(advice("ID_TOKEN").contains("with its `$`"));
        let payload =
            r#"{"iss":"https://ci.example","sub":"a\nb","aud":["x","y"],"exp":1795323300}"#;
        let token = format!("h.{}.signature", BASE64_URL_SAFE_NO_PAD.encode(payload));
        assert_eq!(
            advice(&token),
            "the ID token says: iss \"https://ci.example\", sub \"a\\nb\", aud [\"x\",\"y\"], valid until \
             2026-11-22T04:55:00Z"
        );
    }
}
