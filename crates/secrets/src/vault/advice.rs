//! What a refusal means and what to change where (`secrets.md` 5.8, 14.7).

use courser_protocol::Secret;
use http::StatusCode;

use super::Path;
use super::server::errors;
use crate::exchange::Reply;
use crate::{Failure, Step, claims};

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

/// Why a login was refused, as the texts of the server tell it (`secrets.md` 5.8).
enum Refusal<'a> {
    /// What was sent is no ID token; what it is instead.
    NoToken(&'static str),
    NoRole,
    UnknownRole,
    Issuer,
    Audience,
    Times,
    BoundClaim(&'a str),
    /// The role wants to know the user by it.
    UserClaim(&'a str),
    Signature,
    KeysOutOfReach,
    NoMethod,
    Namespace,
    Other,
}

impl<'a> Refusal<'a> {
    fn of(status: StatusCode, text: &'a str, jwt: &Secret) -> Self {
        let has = |part: &str| text.contains(part);
        let is_about_form = ["missing token", "malformed jwt", "must have three parts"];
        if let Some(fault) = claims::fault(jwt)
            && (jwt.is_empty() || is_about_form.iter().any(|part| has(part)))
        {
            Self::NoToken(fault)
        } else if has("missing role") {
            Self::NoRole
        } else if has("could not be found") {
            Self::UnknownRole
        } else if has("(iss)") {
            Self::Issuer
        } else if has("audience") {
            Self::Audience
        } else if has("(exp)") || has("(nbf)") || has("(iat)") {
            Self::Times
        } else if let Some(claim) = claim_of(text) {
            match has("not found in token") || has("could not be converted") {
                true => Self::UserClaim(claim),
                false => Self::BoundClaim(claim),
            }
        } else if has("signature") {
            Self::Signature
        } else if has("fetching keys") || has("get keys failed") {
            Self::KeysOutOfReach
        } else if status == StatusCode::FORBIDDEN {
            Self::NoMethod
        } else if has("namespace not found") {
            Self::Namespace
        } else {
            Self::Other
        }
    }

    fn step(&self) -> Step {
        match self {
            Self::Issuer
            | Self::Audience
            | Self::Times
            | Self::BoundClaim(_)
            | Self::UserClaim(_) => Step::Claims,
            _ => Step::LogIn,
        }
    }

    fn advice(&self, jwt: &Secret, mount: &str) -> Option<String> {
        let claims = claims::of(jwt).unwrap_or_default();
        let shown = |name: &str| claims::shown(&claims, name);
        Some(match self {
            Self::NoToken(fault) => (*fault).to_owned(),
            Self::NoRole => {
                "set the CI/CD variable VAULT_AUTH_ROLE, or default_role of the auth method"
                    .to_owned()
            }
            Self::UnknownRole => format!(
                "VAULT_AUTH_ROLE must name a role of auth/{mount}: list auth/{mount}/role shows them"
            ),
            Self::Issuer => format!(
                "{}; bound_issuer of auth/{mount}/config must be exactly this, with its scheme",
                shown("iss")
            ),
            Self::Audience => format!(
                "{}; bound_audiences of the role must have it, or aud in id_tokens another value",
                shown("aud")
            ),
            Self::Times => format!(
                "{}, {}; are the clocks right, and does the job wait long before it starts?",
                shown("iat"),
                shown("exp")
            ),
            Self::BoundClaim(claim) if !claims.contains_key(*claim) => {
                let only_there = match claim.split('_').next() {
                    Some("environment" | "deployment") => ": only a job with `environment:` has it",
                    _ => "",
                };
                format!("{}, which bound_claims of the role demand{only_there}", shown(claim))
            }
            Self::UserClaim(claim) => format!(
                "{}; user_claim of the role must name a claim that is there and is a string",
                shown(claim)
            ),
            Self::BoundClaim(claim) => format!(
                "{}; bound_claims of the role must allow this value, of this type",
                shown(claim)
            ),
            Self::Signature => format!(
                "{}; auth/{mount}/config must have the keys of this issuer",
                shown("iss")
            ),
            Self::KeysOutOfReach => {
                "the server cannot fetch the issuer's keys: it must reach and trust the issuer, or have \
                 jwt_validation_pubkeys"
                    .to_owned()
            }
            Self::NoMethod => format!(
                "is an auth method enabled at auth/{mount}? VAULT_AUTH_PATH names it, VAULT_NAMESPACE its namespace"
            ),
            Self::Namespace => "VAULT_NAMESPACE must name a namespace of the server".to_owned(),
            Self::Other => return None,
        })
    }
}

/// A login that was refused, with what to do.
pub(super) fn of_login(failure: Failure, reply: &Reply, jwt: &Secret, mount: &str) -> Failure {
    let text = errors(reply);
    let refusal = Refusal::of(reply.status, &text, jwt);
    let failure = failure.at(refusal.step());
    match refusal.advice(jwt, mount) {
        Some(advice) => failure.advise(advice),
        None => failure,
    }
}

/// The step at which a login that came with the read was refused.
pub(crate) fn step_of_login(reply: &Reply, jwt: &Secret) -> Step {
    Refusal::of(reply.status, &errors(reply), jwt).step()
}

/// The claim in `claim "C" does not match …`.
fn claim_of(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("claim \"")?;
    rest.split_once('"').map(|(claim, _)| claim)
}

#[cfg(test)]
mod tests {
    use courser_protocol::secrets::VaultEngine;

    use super::*;

    #[test]
    fn refusals_of_logins_belong_to_steps() {
        let step = |status: u16, text: &str, jwt: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            Refusal::of(status, text, &jwt.into()).step()
        };
        for text in [
            "error validating token: invalid issuer (iss) claim",
            "audience claim found in JWT but no audiences bound to the role",
            "invalid expiration time (exp) claim: token is expired",
            "error validating claims: claim \"ref\" does not match any associated bound claim values",
            "error validating claims: claim \"environment\" is missing",
        ] {
            assert_eq!(step(400, text, "a.b.c"), Step::Claims, "{text}");
        }
        for (status, text, jwt) in [
            (400, "missing token", ""),
            (400, "compact JWS format must have three parts", "TOKEN"),
            (400, "missing role", "a.b.c"),
            (400, "role \"x\" could not be found", "a.b.c"),
            (400, "failed to verify id token signature", "a.b.c"),
            (403, "permission denied", "a.b.c"),
            (503, "Vault is sealed", "a.b.c"),
        ] {
            assert_eq!(step(status, text, jwt), Step::LogIn, "{text}");
        }
    }

    #[test]
    fn a_job_does_not_write_policies() {
        let line = |path: &str| {
            let engine = VaultEngine {
                name: "kv-v1".to_owned(),
                path: "ops".to_owned(),
            };
            policy_line(&Path::of(&engine, path, "").unwrap())
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
