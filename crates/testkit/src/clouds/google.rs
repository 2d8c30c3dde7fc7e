//! Google: the security token service (workload identity federation) and Secret Manager (`secrets.md` 7).

use std::sync::Mutex;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Cloud, Faults, Listening, given_out, is_for};
use crate::http_message::Request;
use crate::id_token::{Federation, TokenFault};
use crate::pki::Issued;
use crate::server::{Reply, locked};

const STS: &str = "sts.googleapis.com";
const SECRET_MANAGER: &str = "secretmanager.googleapis.com";
/// Longest `google.subject`, in bytes.
const LONGEST_SUBJECT: usize = 127;

/// A request that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `POST /v1/token`.
    Exchange,
    /// `GET /v1/…:access`.
    Access,
}

/// What is set up in the project.
#[derive(Debug, Clone)]
pub struct Project {
    /// Number of the project.
    pub number: String,
    /// Workload identity pool.
    pub pool: String,
    /// Its OIDC provider.
    pub provider: String,
    /// Whose tokens that provider takes.
    pub federation: Federation,
    /// Attribute condition: `project_path` of the token must be this.
    pub project_path: Option<String>,
    /// The secrets of Secret Manager.
    pub secrets: Vec<Secret>,
}

/// A secret with its versions.
#[derive(Debug, Clone)]
pub struct Secret {
    /// `projects/PROJECT/secrets/ID`.
    pub name: String,
    /// Payloads; the first is version 1. `None`: disabled.
    pub versions: Vec<Option<Vec<u8>>>,
    /// `sub` of the tokens that hold `roles/secretmanager.secretAccessor`.
    pub readers: Vec<String>,
}

/// A running fake.
pub type Google = Listening<Services>;

/// Token service and Secret Manager of one project.
pub struct Services {
    project: Project,
    faults: Faults<Step>,
    /// Access tokens that were given out, with their subjects.
    tokens: Mutex<Vec<(String, String)>>,
}

impl Google {
    /// Starts it with a certificate for the names of [`Self::NAMES`].
    pub fn start(leaf: &Issued, project: Project) -> Self {
        let services = Services {
            project,
            faults: Faults::default(),
            tokens: Mutex::default(),
        };
        Self::over_tls(leaf, services)
    }

    /// The names of the hosts it stands for.
    pub const NAMES: [&str; 3] = [STS, SECRET_MANAGER, "127.0.0.1"];

    /// Access tokens that were given out.
    pub fn tokens(&self) -> Vec<String> {
        given_out(&self.cloud.tokens)
    }
}

impl Cloud for Services {
    type Step = Step;

    fn faults(&self) -> &Faults<Step> {
        &self.faults
    }

    fn hosts(&self) -> Vec<String> {
        [STS, SECRET_MANAGER].map(str::to_owned).into()
    }

    fn answer(&self, request: &Request) -> Reply {
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/v1/token") if is_for(request, &[STS]) => {
                let fault = self.faults.take(Step::Exchange);
                fault.unwrap_or_else(|| self.exchange(request))
            }
            ("GET", path) if path.ends_with(":access") && is_for(request, &[SECRET_MANAGER]) => {
                let fault = self.faults.take(Step::Access);
                fault.unwrap_or_else(|| self.access(request))
            }
            _ => Reply::with(
                "text/html; charset=UTF-8",
                404,
                "<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>",
            ),
        }
    }
}

impl Services {
    fn exchange(&self, request: &Request) -> Reply {
        if request.headers.contains_key("authorization") {
            return refusal(401, "invalid_client", "The OAuth client was not found.");
        }
        if !request
            .header("content-type")
            .starts_with("application/json")
        {
            return refusal(400, "invalid_request", "Invalid JSON payload received.");
        }
        let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
            return refusal(400, "invalid_request", "Invalid JSON payload received.");
        };
        let constants = [
            (
                "grantType",
                "urn:ietf:params:oauth:grant-type:token-exchange",
            ),
            (
                "requestedTokenType",
                "urn:ietf:params:oauth:token-type:access_token",
            ),
            ("scope", "https://www.googleapis.com/auth/cloud-platform"),
            (
                "subjectTokenType",
                "urn:ietf:params:oauth:token-type:id_token",
            ),
        ];
        for (name, value) in constants {
            if body[name] != value {
                let text = format!("Invalid value for \"{name}\".");
                return refusal(400, "invalid_request", &text);
            }
        }
        let Project {
            number,
            pool,
            provider,
            ..
        } = &self.project;
        let audience = format!(
            "//iam.googleapis.com/projects/{number}/locations/global/workloadIdentityPools/{pool}/providers/{provider}"
        );
        if body["audience"] != audience {
            return refusal(
                400,
                "invalid_target",
                "The target service indicated by the \"audience\" parameters is invalid. This might either be because the \
                 pool or provider is disabled or deleted or because it doesn't exist.",
            );
        }
        match self.subject(body["subjectToken"].as_str().unwrap_or_default()) {
            Err(refusal) => refusal,
            Ok(subject) => {
                let mut tokens = locked(&self.tokens);
                let token = format!("ya29.fake-google-access-token-{}", tokens.len() + 1);
                tokens.push((token.clone(), subject));
                let answer = json!({
                    "access_token": token, "expires_in": 3599, "token_type": "Bearer",
                    "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                });
                Reply::json(200, &answer)
            }
        }
    }

    /// `google.subject` of an ID token.
    fn subject(&self, token: &str) -> Result<String, Reply> {
        let claims = self.project.federation.claims(token, Timestamp::now());
        let claims = claims.map_err(|fault| {
            let text = match fault {
                TokenFault::Malformed(_) => {
                    "Invalid token: unable to parse the ID Token.".to_owned()
                }
                // So it says of keys that the issuer does not publish.
                TokenFault::UnknownKey => {
                    "Error connecting to the given credential's issuer.".to_owned()
                }
                TokenFault::Signature => "Unable to verify the ID Token signature.".to_owned(),
                TokenFault::Issuer(issuer) => format!(
                    "The issuer in ID Token {issuer} does not match the expected one in config: {}.",
                    self.project.federation.issuer
                ),
                TokenFault::Audience(audience) => format!(
                    "The audience in ID Token [{}] does not match the expected audience.",
                    audience.join(", ")
                ),
                TokenFault::Expired { issued_at } | TokenFault::NotYetValid { issued_at } => {
                    format!("ID Token issued at {issued_at} is stale to sign-in.")
                }
            };
            refusal(400, "invalid_grant", &text)
        })?;
        let subject = claims["sub"].as_str().unwrap_or_default();
        if subject.len() > LONGEST_SUBJECT {
            return Err(refusal(
                400,
                "invalid_grant",
                "The size of mapped attribute google.subject exceeds the 127 bytes limit. Either modify your attribute \
                 mapping or the incoming assertion to produce a mapped attribute that is less than 127 bytes.",
            ));
        }
        let wanted = &self.project.project_path;
        if wanted
            .as_ref()
            .is_some_and(|path| claims["project_path"] != path.as_str())
        {
            return Err(refusal(
                400,
                "unauthorized_client",
                "The given credential is rejected by the attribute condition.",
            ));
        }
        Ok(subject.to_owned())
    }

    fn access(&self, request: &Request) -> Reply {
        let token = request.header("authorization").strip_prefix("Bearer ");
        let known = locked(&self.tokens)
            .iter()
            .find(|(known, _)| Some(known.as_str()) == token)
            .map(|(_, subject)| subject.clone());
        let Some(subject) = known else {
            return status(
                401,
                "UNAUTHENTICATED",
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other \
                 valid authentication credential. See \
                 https://developers.google.com/identity/sign-in/web/devconsole-project.",
            );
        };
        let name = request.path.strip_prefix("/v1/").unwrap_or_default();
        let name = name.strip_suffix(":access").unwrap_or_default();
        let segments: Vec<_> = name.split('/').collect();
        let &["projects", project, "secrets", id, "versions", version] = segments.as_slice() else {
            return status(404, "NOT_FOUND", "Method not found.");
        };
        if version.is_empty() {
            let text = format!(
                "The provided Secret Version ID [{name}] does not match the expected format \
                 [projects/*/secrets/*/versions/*]"
            );
            return status(400, "INVALID_ARGUMENT", &text);
        }
        let secret_name = format!("projects/{project}/secrets/{id}");
        let secret = self
            .project
            .secrets
            .iter()
            .find(|secret| secret.name == secret_name);
        if !secret.is_some_and(|secret| secret.readers.contains(&subject)) {
            // As the original, which tells strangers nothing.
            let text = format!(
                "Permission 'secretmanager.versions.access' denied for resource '{name}' (or it may not exist)."
            );
            return status(403, "PERMISSION_DENIED", &text);
        }
        let versions = secret.map_or(&[][..], |secret| &secret.versions);
        let number = match version {
            "latest" => versions.len(),
            number => number.parse().unwrap_or(0),
        };
        match number.checked_sub(1).and_then(|index| versions.get(index)) {
            None => {
                let text = format!("Secret Version [{name}] not found.");
                status(404, "NOT_FOUND", &text)
            }
            Some(None) => {
                let text = format!("Secret Version [{name}] is in DISABLED state.");
                status(400, "FAILED_PRECONDITION", &text)
            }
            Some(Some(payload)) => {
                let full = format!("{secret_name}/versions/{number}");
                Reply::json(200, &version_of(&full, payload, Some(crc32c(payload))))
            }
        }
    }
}

/// The answer with a payload, and the checksum as it is given.
pub fn version_of(name: &str, payload: &[u8], checksum: Option<u32>) -> Value {
    let mut payload = json!({"data": BASE64_STANDARD.encode(payload)});
    if let Some(checksum) = checksum {
        payload["dataCrc32c"] = checksum.to_string().into();
    }
    json!({"name": name, "payload": payload})
}

fn refusal(status: u16, error: &str, description: &str) -> Reply {
    Reply::json(
        status,
        &json!({"error": error, "error_description": description}),
    )
}

fn status(code: u16, status: &str, message: &str) -> Reply {
    let error = json!({"error": {"code": code, "message": message, "status": status}});
    Reply::json(code, &error)
}

/// CRC-32C (RFC 3720, B.4), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let sum = bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    });
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_rfc_3720() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
