//! What a refusal means and what to change where (`secrets.md` 5.8, 14.7). Shows claims that are no secrets, never a
//! token.

use courser_protocol::Secret;
use serde_json::{Map, Value};

use super::Path;
use super::server::errors;
use crate::exchange::Reply;
use crate::{Failure, claims};

/// Claims that may be shown.
const SHOWN: [&str; 22] = [
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

/// The line that a policy lacks.
///
/// The job chose the path: what a policy reads as a pattern or as the end of the line is not made ready to be pasted.
pub(super) fn policy_line(path: &Path) -> String {
    let is_special = |c: char| matches!(c, '*' | '+' | '"' | '\\') || c.is_control();
    if path.as_str().contains(is_special) {
        return "the policies of the role must allow it; the job's path has characters that mean more in a policy: if it is \
                right, write the rule by hand"
            .to_owned();
    }
    format!(
        "the policies of the role must allow it: path \"{}\" {{ capabilities = [\"read\"] }}",
        path.as_str()
    )
}

/// A login that was refused, with what to do.
pub(super) fn of_login(failure: Failure, reply: &Reply, jwt: &Secret, mount: &str) -> Failure {
    let text = errors(reply);
    let claims = claims::of(jwt).unwrap_or_default();
    let has = |part: &str| text.contains(part);
    let shown = |name: &str| shown(&claims, name);
    let advice = if jwt.is_empty() || has("missing token") {
        "the ID token is empty: the job must define it in id_tokens, and token: must name it"
            .to_owned()
    } else if has("malformed jwt") || has("must have three parts") {
        "what was sent is no JWT: write token: with a dollar sign, such as token: $VAULT_ID_TOKEN"
            .to_owned()
    } else if has("missing role") {
        "set the CI/CD variable VAULT_AUTH_ROLE, or default_role of the auth method".to_owned()
    } else if has("could not be found") {
        format!(
            "VAULT_AUTH_ROLE must name a role of auth/{mount}: list auth/{mount}/role shows them"
        )
    } else if has("(iss)") {
        format!(
            "{}; bound_issuer of auth/{mount}/config must be exactly this, with its scheme",
            shown("iss")
        )
    } else if has("audience") {
        format!(
            "{}; bound_audiences of the role must have it, or aud in id_tokens another value",
            shown("aud")
        )
    } else if has("(exp)") || has("(nbf)") || has("(iat)") {
        format!(
            "{}, {}; are the clocks right, and does the job wait long before it starts?",
            shown("iat"),
            shown("exp")
        )
    } else if let Some(claim) = claim_of(&text) {
        format!(
            "{}; bound_claims of the role must allow this value, of this type",
            shown(claim)
        )
    } else if has("signature") {
        format!(
            "{}; auth/{mount}/config must have the keys of this issuer",
            shown("iss")
        )
    } else if has("fetching keys") || has("get keys failed") {
        "the server cannot fetch the issuer's keys: it must reach and trust the issuer, or have jwt_validation_pubkeys".to_owned()
    } else if reply.status == http::StatusCode::FORBIDDEN {
        format!(
            "is an auth method enabled at auth/{mount}? VAULT_AUTH_PATH names it, VAULT_NAMESPACE its namespace"
        )
    } else if has("namespace not found") {
        "VAULT_NAMESPACE must name a namespace of the server".to_owned()
    } else {
        return failure;
    };
    failure.advise(advice)
}

/// The claim in `claim "C" does not match …`.
fn claim_of(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("claim \"")?;
    rest.split_once('"').map(|(claim, _)| claim)
}

fn shown(claims: &Map<String, Value>, name: &str) -> String {
    if !SHOWN.contains(&name) {
        return format!("the token's claim {name:?} has another value");
    }
    match claims.get(name) {
        None => format!("the token has no claim {name:?}"),
        Some(value) => {
            let kind = match value {
                Value::String(_) => "a string",
                Value::Number(_) => "a number",
                Value::Bool(_) => "a boolean",
                Value::Array(_) => "a list",
                Value::Object(_) | Value::Null => "an object",
            };
            format!("the token's claim {name:?} is {value} ({kind})")
        }
    }
}

#[cfg(test)]
mod tests {
    use courser_protocol::secrets::VaultEngine;

    use super::*;

    #[test]
    fn a_job_does_not_write_policies() {
        let line = |path: &str| {
            let engine = VaultEngine {
                name: "kv-v1".to_owned(),
                path: "ops".to_owned(),
            };
            policy_line(&Path::of(&engine, path).unwrap())
        };
        assert!(line("db/a-b c").contains("path \"ops/db/a-b c\" { capabilities = [\"read\"] }"));
        for path in [
            "*",
            "+/x",
            "a\" { capabilities = [\"sudo\"] } path \"b",
            "a\\b",
        ] {
            assert!(!line(path).contains("capabilities"), "{path}");
        }
    }
}
