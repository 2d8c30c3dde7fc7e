//! Register, verify, unregister, reset (`runner-protocol.md` 2.2 to 2.5).

use serde::{Deserialize, Serialize};

use crate::decode::{DecodeError, first_value, null_as_default};
use crate::{Info, Secret};

/// Body of `POST runners` (legacy registration token).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegisterRequest {
    /// Name shown by the server.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub description: String,
    /// Note for administrators.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub maintenance_note: String,
    /// One text, comma separated.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub tag_list: String,
    /// Whether it takes jobs without tags.
    pub run_untagged: bool,
    /// Locked to its project.
    pub locked: bool,
    /// `not_protected` or `ref_protected`.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub access_level: String,
    /// Seconds, 0 = not set.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_as_default")]
    pub maximum_timeout: i64,
    /// Registered, but takes no jobs.
    pub paused: bool,
    /// Self-description, from an empty configuration.
    pub info: Info,
    /// Registration token.
    pub token: Secret,
}

/// 201 of register and 200 of verify.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegisterResponse {
    /// Runner id; 0 = not told.
    #[serde(deserialize_with = "null_as_default")]
    pub id: i64,
    /// Authentication token.
    #[serde(deserialize_with = "null_as_default")]
    pub token: Secret,
    /// RFC 3339, absent = never.
    pub token_expires_at: Option<String>,
}

impl RegisterResponse {
    /// Reads the body.
    pub fn from_json(body: &[u8]) -> Result<Self, DecodeError> {
        first_value(body)
    }
}

/// Body of `POST runners/verify`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VerifyRequest {
    /// Real features of this runner.
    pub info: Info,
    /// Authentication token.
    pub token: Secret,
    /// `s_…` or `r_…`.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub system_id: String,
}

/// Body of `DELETE runners`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnregisterRequest {
    /// Authentication token.
    pub token: Secret,
}

/// Body of `DELETE runners/managers`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnregisterManagerRequest {
    /// Authentication token.
    pub token: Secret,
    /// Always present.
    pub system_id: String,
}

/// Body of `POST runners/reset_authentication_token`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResetTokenRequest {
    /// Current token.
    pub token: Secret,
}

/// 201 of a reset.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResetTokenResponse {
    /// New token.
    #[serde(deserialize_with = "null_as_default")]
    pub token: Secret,
    /// RFC 3339, absent = never.
    pub token_expires_at: Option<String>,
}

impl ResetTokenResponse {
    /// Reads the body.
    pub fn from_json(body: &[u8]) -> Result<Self, DecodeError> {
        first_value(body)
    }
}

/// The part of a runner token that may be shown (`runner-protocol.md` 9.5).
pub fn short_token(token: &str) -> &str {
    let mut rest = token;
    let typed = |text: &str| {
        ["t1_", "t2_", "t3_"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
    };
    if let Some(after) = rest.strip_prefix("glrt-") {
        rest = if typed(after) { &after[3..] } else { after };
    } else if typed(rest) {
        rest = &rest[3..];
    } else if let Some(after) = rest.strip_prefix("glrtr-") {
        rest = after;
    }
    rest = rest.strip_prefix("glcbt-").unwrap_or(rest);
    if let Some(after) = rest.strip_prefix("GR")
        && after.len() >= 7
        && after.as_bytes()[..7].iter().all(u8::is_ascii_hexdigit)
    {
        rest = &after[7..];
    }
    rest.char_indices()
        .nth(9)
        .map_or(rest, |(end, _)| &rest[..end])
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_tokens_lose_their_prefixes_and_keep_nine_characters() {
        for (token, expected) in [
            ("glrt-abcdefghijkl", "abcdefghi"),
            ("glrt-t1_abcdefghijkl", "abcdefghi"),
            ("t3_abcdefghijkl", "abcdefghi"),
            ("glrtr-abcdefghijkl", "abcdefghi"),
            ("glcbt-abcdefghijkl", "abcdefghi"),
            ("GR1348941abcdefghijkl", "abcdefghi"),
            ("GR134894zabcdefgh", "GR134894z"),
            ("glrt-t4_abcdefgh", "t4_abcdef"),
            ("short", "short"),
            ("", ""),
            ("ééééééééééé", "ééééééééé"),
        ] {
            assert_eq!(short_token(token), expected, "{token}");
        }
    }

    #[test]
    fn a_registration_leaves_out_what_is_not_set() {
        let json = serde_json::to_value(RegisterRequest {
            token: "t".into(),
            locked: true,
            ..RegisterRequest::default()
        })
        .expect("serialises");
        let mut keys: Vec<_> = json
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect();
        keys.sort();
        assert_eq!(keys, ["info", "locked", "paused", "run_untagged", "token"]);
    }

    #[test]
    fn answers_may_leave_everything_but_the_token_out() {
        let answer =
            RegisterResponse::from_json(br#"{"token":"x","id":null,"later":1}"#).expect("valid");
        assert_eq!(
            (answer.id, answer.token.expose(), answer.token_expires_at),
            (0, "x", None)
        );
        assert!(RegisterResponse::from_json(b"not json").is_err());
    }
}
