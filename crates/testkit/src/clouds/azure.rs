//! Azure: the token endpoint of Entra ID (federated credentials) and Key Vault (`secrets.md` 8).

use std::sync::Mutex;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Cloud, Faults, Listening, field, form, given_out, is_for};
use crate::http_message::Request;
use crate::id_token::{Federation, TokenFault};
use crate::pki::Issued;
use crate::server::{Reply, locked};

const ENTRA: &str = "login.microsoftonline.com";
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A request that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A request of the vault without credentials.
    Challenge,
    /// `POST /TENANT/oauth2/v2.0/token`.
    Token,
    /// A request of the vault with a token.
    Read,
}

/// A tenant with an application and a vault.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Id of the tenant.
    pub id: String,
    /// Id of the application.
    pub client_id: String,
    /// Whose tokens its federated credential takes, for which audiences.
    pub federation: Federation,
    /// The one `sub` that the credential takes.
    pub subject: String,
    /// Host name of the vault.
    pub vault: String,
    /// What the vault says in its challenge: `https://vault.azure.net`.
    pub resource: String,
    /// Its secrets.
    pub secrets: Vec<Secret>,
    /// Whether the application may read them.
    pub may_read: bool,
}

/// A secret with its versions.
#[derive(Debug, Clone)]
pub struct Secret {
    /// Name.
    pub name: String,
    /// Id and value of each version, the last one the newest. `None`: disabled.
    pub versions: Vec<(String, Option<String>)>,
}

/// A running fake.
pub type Azure = Listening<Services>;

/// Token endpoint and vault of one tenant.
pub struct Services {
    tenant: Tenant,
    faults: Faults<Step>,
    /// Access tokens that were given out, with their scope.
    tokens: Mutex<Vec<(String, String)>>,
}

impl Azure {
    /// The host of the token endpoint.
    pub const AUTHORITY: &str = ENTRA;

    /// Starts it with a certificate for [`Self::AUTHORITY`], the vault and 127.0.0.1.
    pub fn start(leaf: &Issued, tenant: Tenant) -> Self {
        let services = Services {
            tenant,
            faults: Faults::default(),
            tokens: Mutex::default(),
        };
        Self::over_tls(leaf, services)
    }

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
        [ENTRA, &self.tenant.vault].map(str::to_owned).into()
    }

    fn answer(&self, request: &Request) -> Reply {
        let vault = self.tenant.vault.as_str();
        match request
            .path
            .trim_start_matches('/')
            .split('/')
            .collect::<Vec<_>>()[..]
        {
            [tenant, "oauth2", "v2.0", "token"]
                if request.method == "POST" && is_for(request, &[ENTRA]) =>
            {
                let fault = self.faults.take(Step::Token);
                fault.unwrap_or_else(|| self.token(tenant, request))
            }
            ["secrets", name, version] if request.method == "GET" && is_for(request, &[vault]) => {
                let step = match request.headers.contains_key("authorization") {
                    false => Step::Challenge,
                    true => Step::Read,
                };
                let fault = self.faults.take(step);
                fault.unwrap_or_else(|| self.secret(name, version, request))
            }
            _ => Reply::with(
                "text/html",
                404,
                "<html><title>404 - File or directory not found.</title></html>",
            ),
        }
    }
}

impl Services {
    fn token(&self, tenant: &str, request: &Request) -> Reply {
        if tenant != self.tenant.id {
            let text = format!(
                "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID."
            );
            return refusal(400, "invalid_request", 90002, &text);
        }
        let Some(form) = form(request) else {
            let text = "The request body must contain the following parameter: 'grant_type'.";
            return refusal(400, "invalid_request", 900_144, text);
        };
        let required = [
            "grant_type",
            "client_id",
            "scope",
            "client_assertion_type",
            "client_assertion",
        ];
        for name in required {
            if field(&form, name).is_empty() {
                let text =
                    format!("The request body must contain the following parameter: '{name}'.");
                return refusal(400, "invalid_request", 900_144, &text);
            }
        }
        if field(&form, "grant_type") != "client_credentials" {
            return refusal(
                400,
                "unsupported_grant_type",
                70003,
                "The app requested an unsupported grant type.",
            );
        }
        if field(&form, "client_assertion_type") != ASSERTION {
            return refusal(
                401,
                "invalid_client",
                7_000_216,
                "'client_assertion', 'client_secret' or 'request' is required.",
            );
        }
        let client = field(&form, "client_id");
        if client != self.tenant.client_id {
            let text = format!(
                "Application with identifier '{client}' was not found in the directory '{tenant}'."
            );
            return refusal(400, "unauthorized_client", 700_016, &text);
        }
        // The SDK adds OpenID scopes, which have no meaning here.
        let scopes: Vec<_> = field(&form, "scope")
            .split(' ')
            .filter(|scope| !["openid", "offline_access", "profile"].contains(scope))
            .collect();
        let [scope] = scopes[..] else {
            return refusal(
                400,
                "invalid_scope",
                70011,
                "The provided request must include a 'scope' input parameter.",
            );
        };
        if !scope.ends_with("/.default") {
            let text = format!(
                "The provided value for scope {scope} is not valid. Client credential flows must have a \
                 scope value with /.default suffixed to the resource identifier (application ID URI)."
            );
            return refusal(400, "invalid_scope", 1_002_012, &text);
        }
        if let Err(refusal) = self.judge(field(&form, "client_assertion")) {
            return refusal;
        }
        let mut tokens = locked(&self.tokens);
        let token = format!("fake-entra-access-token-{}", tokens.len() + 1);
        tokens.push((token.clone(), scope.to_owned()));
        let answer = json!({
            "token_type": "Bearer", "expires_in": 86399, "ext_expires_in": 86399, "access_token": token,
        });
        Reply::json(200, &answer)
    }

    fn judge(&self, assertion: &str) -> Result<(), Reply> {
        let unmatched = |code: u32, what: &str, value: &str| {
            let text = format!(
                "No matching federated identity record found for presented assertion {what} '{value}'. Check your \
                 federated identity credential Subject, Audience and Issuer against the presented assertion. \
                 https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
            );
            refusal(401, "invalid_client", code, &text)
        };
        let claims = self.tenant.federation.claims(assertion, Timestamp::now());
        let claims = claims.map_err(|fault| match fault {
            TokenFault::Malformed(_) => {
                refusal(401, "invalid_client", 50027, "JWT token is invalid or malformed.")
            }
            TokenFault::UnknownKey | TokenFault::Signature => refusal(
                401,
                "invalid_client",
                50013,
                "Assertion failed signature validation. [Reason - The key was not found.]",
            ),
            TokenFault::Issuer(issuer) => unmatched(700_211, "issuer", &issuer),
            TokenFault::Audience(audience) => unmatched(700_212, "audience", &audience.join(" ")),
            TokenFault::Expired { .. } | TokenFault::NotYetValid { .. } => refusal(
                401,
                "invalid_client",
                700_024,
                "Client assertion is not within its valid time range. Current time: 2026-11-22T05:00:00.0000000Z, \
                 assertion valid from 2026-11-22T04:00:00.0000000Z, expiry time of assertion 2026-11-22T04:05:00.0000000Z. \
                 Review the documentation at https://learn.microsoft.com/entra/identity-platform/certificate-credentials .",
            ),
        })?;
        let subject = claims["sub"].as_str().unwrap_or_default();
        if subject != self.tenant.subject {
            return Err(unmatched(700_213, "subject", subject));
        }
        Ok(())
    }

    fn secret(&self, name: &str, version: &str, request: &Request) -> Reply {
        let Tenant { id, resource, .. } = &self.tenant;
        let challenge = |message: &str| {
            let header =
                format!("Bearer authorization=\"https://{ENTRA}/{id}\", resource=\"{resource}\"");
            error(401, "Unauthorized", message, None).header("WWW-Authenticate", &header)
        };
        let authorization = request.header("authorization");
        if authorization.is_empty() {
            return challenge("AKV10000: Request is missing a Bearer or PoP token.");
        }
        let scope = format!("{resource}/.default");
        let tokens = locked(&self.tokens);
        let found = tokens
            .iter()
            .find(|(token, _)| authorization.strip_prefix("Bearer ") == Some(token));
        match found {
            None => return challenge("AKV10001: Invalid bearer token."),
            Some((_, other)) if *other != scope => {
                return challenge("AKV10022: Invalid audience. Expected https://vault.azure.net.");
            }
            Some(_) => {}
        }
        drop(tokens);
        let api_version = request
            .query
            .iter()
            .flat_map(|query| query.split('&'))
            .find_map(|part| part.strip_prefix("api-version="));
        match api_version {
            None => return error(400, "BadParameter", "api-version must be specified", None),
            Some(version) if !is_known_version(version) => {
                let text = format!(
                    "The specified version ({version}) is not recognized. Consider using the latest supported version (2025-07-01)."
                );
                return error(400, "BadParameter", &text, None);
            }
            Some(_) => {}
        }
        let is_name = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if name.is_empty() || name.len() > 127 || !is_name(name) {
            let text = format!("The request URI contains an invalid name: {name}");
            return error(400, "BadParameter", &text, None);
        }
        if !self.tenant.may_read {
            return error(
                403,
                "Forbidden",
                "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role \
                 definitions were changed recently, please observe propagation time.\r\nAction: \
                 'Microsoft.KeyVault/vaults/secrets/getSecret/action'",
                Some("ForbiddenByRbac"),
            );
        }
        let secret = self
            .tenant
            .secrets
            .iter()
            .find(|secret| secret.name == name);
        let versions = secret.map_or(&[][..], |secret| &secret.versions);
        let found = match version {
            "" => versions.last(),
            version => versions.iter().find(|(id, _)| id == version),
        };
        match found {
            None => {
                let text = format!(
                    "A secret with (name/id) {name}{}{version} was not found in this key vault. If you recently deleted \
                     this secret you may be able to recover it using the correct recovery command. For help resolving this \
                     issue, please see https://go.microsoft.com/fwlink/?linkid=2125182",
                    if version.is_empty() { "" } else { "/" }
                );
                error(404, "SecretNotFound", &text, None)
            }
            Some((_, None)) => error(
                403,
                "Forbidden",
                "Operation get is not allowed on a disabled secret.",
                Some("SecretDisabled"),
            ),
            Some((version, Some(value))) => {
                let id = format!("https://{}/secrets/{name}/{version}", self.tenant.vault);
                Reply::json(
                    200,
                    &json!({"value": value, "id": id, "attributes": {"enabled": true}}),
                )
            }
        }
    }
}

fn is_known_version(version: &str) -> bool {
    ["2025-07-01", "7.6", "7.5", "7.4", "7.3"].contains(&version)
}

fn refusal(status: u16, error: &str, code: u32, text: &str) -> Reply {
    let description = format!(
        "AADSTS{code}: {text} Trace ID: 5b6ad5a0-0000-4000-8000-000000000000 Correlation ID: \
         3b6ad5a0-0000-4000-8000-000000000000 Timestamp: 2026-11-22 05:00:00Z"
    );
    let body = json!({
        "error": error, "error_description": description, "error_codes": [code],
        "timestamp": "2026-11-22 05:00:00Z", "trace_id": "5b6ad5a0-0000-4000-8000-000000000000",
        "correlation_id": "3b6ad5a0-0000-4000-8000-000000000000",
        "error_uri": format!("https://{ENTRA}/error?code={code}"),
    });
    Reply::json(status, &body)
}

fn error(status: u16, code: &str, message: &str, inner: Option<&str>) -> Reply {
    let mut error: Value = json!({"code": code, "message": message});
    if let Some(inner) = inner {
        error["innererror"] = json!({"code": inner});
    }
    Reply::json(status, &json!({"error": error}))
}
