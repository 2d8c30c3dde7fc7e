//! What an ID token says, for people: nobody is believed here, and no signature is shown.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use courser_protocol::Secret;
use serde_json::{Map, Value};

use crate::Failure;

/// Longest claim that is shown, in bytes.
const SHOWN: usize = 300;
/// Claims that may be shown in the log of a job: what names a person's address is not among them.
const PUBLIC: [&str; 22] = [
    "iss",
    "aud",
    "sub",
    "exp",
    "nbf",
    "iat",
    "namespace_id",
    "namespace_path",
    "project_id",
    "project_path",
    "job_project_path",
    "user_login",
    "user_access_level",
    "pipeline_source",
    "ref",
    "ref_type",
    "ref_path",
    "ref_protected",
    "environment",
    "environment_protected",
    "deployment_tier",
    "runner_id",
];

/// What is wrong with a token before anybody has looked at its signature; nothing where it is a JWT.
pub(crate) fn fault(token: &Secret) -> Option<&'static str> {
    match IdToken::read(token) {
        Ok(_) => None,
        Err(NoIdToken::Empty) => Some(
            "the ID token is empty: let `token:` name one that the job declares with `id_tokens:`",
        ),
        Err(_) => Some(
            "the ID token is no JWT: `token:` takes a reference to a variable, with its `$`, such as `token: $ID_TOKEN`",
        ),
    }
}

/// Adds to a failure of a login what the token has to do with it.
pub(crate) fn advise(failure: Failure, token: &Secret) -> Failure {
    let claims = match (fault(token), of(token)) {
        (Some(fault), _) => return failure.advise(fault),
        (None, claims) => claims.unwrap_or_default(),
    };
    let said = ["iss", "sub", "aud"].into_iter().filter_map(|name| {
        let value = claims.get(name)?;
        Some(format!("{name} {}", written(value)))
    });
    let said: Vec<_> = said.collect();
    let end = claims.get("exp").and_then(Value::as_i64);
    let end = end.and_then(|end| jiff::Timestamp::from_second(end).ok());
    let end = end.map_or_else(String::new, |end| format!(", valid until {end}"));
    failure.advise(format!("the ID token says: {}{end}", said.join(", ")))
}

/// What a token says of one claim, with its type, which counts where it is compared.
pub(crate) fn shown(claims: &Map<String, Value>, name: &str) -> String {
    let Some(value) = claims.get(name) else {
        return format!("the token has no claim {name:?}");
    };
    if !PUBLIC.contains(&name) {
        return format!("the token's claim {name:?} has another value");
    }
    let kind = match value {
        Value::String(_) => "a string",
        Value::Number(_) => "a number",
        Value::Bool(_) => "a boolean",
        Value::Array(_) => "a list",
        Value::Object(_) | Value::Null => "an object",
    };
    format!("the token's claim {name:?} is {} ({kind})", written(value))
}

/// A value as it is written, cut.
fn written(value: &Value) -> String {
    let mut text = match value {
        // Control characters are escaped.
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    };
    text.truncate(text.floor_char_boundary(SHOWN));
    text
}

/// The claims of a JWT, unverified.
pub(crate) fn of(token: &Secret) -> Option<Map<String, Value>> {
    IdToken::read(token).ok().map(|token| token.claims)
}

/// An ID token without its signature: read, never verified.
#[derive(Debug, Clone, PartialEq)]
pub struct IdToken {
    /// `alg`, `kid`, `typ`.
    pub header: Map<String, Value>,
    /// What it says.
    pub claims: Map<String, Value>,
}

/// What is no ID token: why, and nothing of what it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoIdToken {
    /// Nothing at all.
    #[error("it is empty")]
    Empty,
    /// `$NAME`.
    #[error("it is a reference to a variable, not its value")]
    Reference,
    /// Not three parts.
    #[error("a JWT has three parts with points between them, this has {0}")]
    Parts(usize),
    /// A part that is not base64url of a JSON object.
    #[error("its part {0} is not base64url of a JSON object")]
    Part(usize),
}

impl IdToken {
    /// Takes a token apart.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn read(token: &Secret) -> Result<Self, NoIdToken> {
        let text = token.expose();
        if text.is_empty() {
            return Err(NoIdToken::Empty);
        }
        if text.starts_with('$') {
            return Err(NoIdToken::Reference);
        }
        let parts: Vec<&str> = text.split('.').collect();
        let [header, claims, _signature] = parts[..] else {
            return Err(NoIdToken::Parts(parts.len()));
        };
        let object = |number, part: &str| {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).ok();
            let object = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            object.ok_or(NoIdToken::Part(number))
        };
        Ok(Self {
            header: object(1, header)?,
            claims: object(2, claims)?,
        })
    }
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
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        let token = format!("{}.{}.signature", part(r#"{"alg":"RS256"}"#), part(payload));
        let read = IdToken::read(&token.as_str().into()).expect("a token");
        assert_eq!((read.header.len(), read.claims.len()), (1, 4));
        assert_eq!(IdToken::read(&"$T".into()), Err(NoIdToken::Reference));
        assert_eq!(IdToken::read(&"a.b".into()), Err(NoIdToken::Parts(2)));
        assert_eq!(IdToken::read(&"a.b.c".into()), Err(NoIdToken::Part(1)));
        assert_eq!(
            advice(&token),
            "the ID token says: iss \"https://ci.example\", sub \"a\\nb\", aud [\"x\",\"y\"], valid until \
             2026-11-22T04:55:00Z"
        );
    }
}
