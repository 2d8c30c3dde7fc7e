//! AWS: the security token service (web identity) and Secrets Manager (`secrets.md` 9).

use std::sync::Mutex;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::sigv4::{claim, is_signed};
use super::{Cloud, Faults, Listening, field, form, is_for};
use crate::http_message::Request;
use crate::id_token::{Federation, TokenFault};
use crate::pki::Issued;
use crate::server::{Reply, locked};

const REQUEST_ID: &str = "4b6ad5a0-0000-4000-8000-000000000000";
const TARGET: &str = "secretsmanager.GetSecretValue";

/// A request that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `AssumeRoleWithWebIdentity`.
    Assume,
    /// `GetSecretValue`.
    Read,
}

/// An account, in one region.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its region.
    pub region: String,
    /// The OIDC provider of IAM.
    pub federation: Federation,
    /// The one role.
    pub role_arn: String,
    /// `sub`s that its trust policy lets in.
    pub subjects: Vec<String>,
    /// Access key and secret key of a user who may read everything: an identity of the machine's own.
    pub user: Option<(String, String)>,
    /// The secrets.
    pub secrets: Vec<Secret>,
}

/// A secret with its versions.
#[derive(Debug, Clone)]
pub struct Secret {
    /// Name.
    pub name: String,
    /// ARN, which is an id of it too.
    pub arn: String,
    /// Versions, the newest (`AWSCURRENT`) last, the one before it `AWSPREVIOUS`.
    pub versions: Vec<(String, Content)>,
    /// Whether the role may read it.
    pub readable: bool,
}

/// What a version holds.
#[derive(Debug, Clone)]
pub enum Content {
    /// `SecretString`.
    Text(String),
    /// `SecretBinary`.
    Binary(Vec<u8>),
    /// Neither.
    Nothing,
}

/// A running fake.
pub type Aws = Listening<Services>;

/// Token service and Secrets Manager of one account.
pub struct Services {
    account: Account,
    faults: Faults<Step>,
    sessions: Mutex<Vec<Session>>,
}

/// Temporary credentials that were given out.
#[derive(Debug, Clone)]
pub struct Session {
    /// Access key.
    pub access_key: String,
    /// Secret key.
    pub secret_key: String,
    /// Session token.
    pub token: String,
    /// `RoleSessionName`.
    pub name: String,
}

impl Aws {
    /// Starts it with a certificate for [`Self::names`].
    pub fn start(leaf: &Issued, account: Account) -> Self {
        let services = Services {
            account,
            faults: Faults::default(),
            sessions: Mutex::default(),
        };
        Self::over_tls(leaf, services)
    }

    /// The hosts of a region.
    pub fn names(region: &str) -> [String; 2] {
        ["sts", "secretsmanager"].map(|service| format!("{service}.{region}.amazonaws.com"))
    }

    /// Sessions that were given out.
    pub fn sessions(&self) -> Vec<Session> {
        locked(&self.cloud.sessions).clone()
    }
}

impl Cloud for Services {
    type Step = Step;

    fn faults(&self) -> &Faults<Step> {
        &self.faults
    }

    fn hosts(&self) -> Vec<String> {
        Aws::names(&self.account.region).into()
    }

    fn answer(&self, request: &Request) -> Reply {
        let [sts, secrets_manager] = Aws::names(&self.account.region);
        if (request.method.as_str(), request.path.as_str()) != ("POST", "/") {
            return Reply::with("text/html", 404, "<html><body>Not Found</body></html>");
        }
        if request.headers.contains_key("x-amz-target") {
            if !is_for(request, &[&secrets_manager]) {
                return Reply::status(404);
            }
            let fault = self.faults.take(Step::Read);
            fault.unwrap_or_else(|| self.read(request))
        } else if is_for(request, &[&sts]) {
            let fault = self.faults.take(Step::Assume);
            fault.unwrap_or_else(|| self.assume(request))
        } else {
            Reply::status(404)
        }
    }
}

impl Services {
    fn assume(&self, request: &Request) -> Reply {
        let Some(form) = form(request) else {
            return sts_error(400, "MalformedInput", "Request is not a form");
        };
        if field(&form, "Action") != "AssumeRoleWithWebIdentity" {
            let text = format!("Could not find operation {}", field(&form, "Action"));
            return sts_error(400, "InvalidAction", &text);
        }
        if field(&form, "Version") != "2011-06-15" {
            return sts_error(400, "InvalidAction", "Could not find operation for version");
        }
        if request.headers.contains_key("authorization") {
            return sts_error(403, "AccessDenied", "This call is not to be signed");
        }
        let name = field(&form, "RoleSessionName");
        let violated = |what: &str, value: &str, text: &str| {
            let text = format!(
                "1 validation error detected: Value '{value}' at '{what}' failed to satisfy constraint: {text}"
            );
            sts_error(400, "ValidationError", &text)
        };
        if name.len() < 2 {
            return violated(
                "roleSessionName",
                name,
                "Member must have length greater than or equal to 2",
            );
        }
        if name.len() > 64 {
            return violated(
                "roleSessionName",
                name,
                "Member must have length less than or equal to 64",
            );
        }
        if !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte))
        {
            return violated(
                "roleSessionName",
                name,
                "Member must satisfy regular expression pattern: [\\w+=,.@-]*",
            );
        }
        let token = field(&form, "WebIdentityToken");
        if token.len() < 4 {
            return violated(
                "webIdentityToken",
                token,
                "Member must have length greater than or equal to 4",
            );
        }
        let arn = field(&form, "RoleArn");
        if !arn.starts_with("arn:") || arn.len() < 20 {
            return sts_error(400, "ValidationError", "Request ARN is invalid");
        }
        let claims = match self.account.federation.claims(token, Timestamp::now()) {
            Ok(claims) => claims,
            Err(fault) => return self.refused(&fault),
        };
        let subject = claims["sub"].as_str().unwrap_or_default();
        let trusted = self
            .account
            .subjects
            .iter()
            .any(|trusted| trusted == subject);
        if arn != self.account.role_arn || !trusted {
            return sts_error(
                403,
                "AccessDenied",
                "Not authorized to perform sts:AssumeRoleWithWebIdentity",
            );
        }
        let mut sessions = locked(&self.sessions);
        let number = sessions.len() + 1;
        let session = Session {
            access_key: format!("ASIAFAKE{number:08}"),
            secret_key: format!("fake-aws-secret-key-{number}"),
            token: format!("fake-aws-session-token-{number}=="),
            name: name.to_owned(),
        };
        let answer = format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  \
             <AssumeRoleWithWebIdentityResult>\n    <SubjectFromWebIdentityToken>{subject}</SubjectFromWebIdentityToken>\n    \
             <AssumedRoleUser><Arn>{arn}/{name}</Arn><AssumedRoleId>AROAFAKE:{name}</AssumedRoleId></AssumedRoleUser>\n    \
             <Credentials>\n      <AccessKeyId>{}</AccessKeyId>\n      <SecretAccessKey>{}</SecretAccessKey>\n      \
             <SessionToken>{}</SessionToken>\n      <Expiration>2044-01-01T00:00:00Z</Expiration>\n    </Credentials>\n  \
             </AssumeRoleWithWebIdentityResult>\n  <ResponseMetadata><RequestId>{REQUEST_ID}</RequestId></ResponseMetadata>\n\
             </AssumeRoleWithWebIdentityResponse>\n",
            session.access_key, session.secret_key, session.token
        );
        sessions.push(session);
        Reply::with("text/xml", 200, answer).header("x-amzn-RequestId", REQUEST_ID)
    }

    fn refused(&self, fault: &TokenFault) -> Reply {
        let (code, text) = match fault {
            TokenFault::Malformed(_) => (
                "InvalidIdentityToken",
                "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)".to_owned(),
            ),
            TokenFault::UnknownKey | TokenFault::Signature => (
                "InvalidIdentityToken",
                "Couldn't retrieve verification key from your identity provider,  please reference \
                 AssumeRoleWithWebIdentity documentation for requirements"
                    .to_owned(),
            ),
            TokenFault::Issuer(issuer) => (
                "InvalidIdentityToken",
                format!("No OpenIDConnect provider found in your account for {issuer}"),
            ),
            TokenFault::Audience(_) => ("InvalidIdentityToken", "Incorrect token audience".to_owned()),
            TokenFault::Expired { .. } => (
                "ExpiredTokenException",
                "Token expired: current date/time 1795323600 must be before the expiration date/time 1795323300".to_owned(),
            ),
            TokenFault::NotYetValid { .. } => ("InvalidIdentityToken", "Token is not yet valid".to_owned()),
        };
        sts_error(400, code, &text)
    }

    fn read(&self, request: &Request) -> Reply {
        if request.header("x-amz-target") != TARGET {
            return error("UnknownOperationException", "");
        }
        if request.header("content-type") != "application/x-amz-json-1.1" {
            return error("SerializationException", "");
        }
        let Some(claim) = claim(request) else {
            return error(
                "MissingAuthenticationTokenException",
                "Missing Authentication Token",
            );
        };
        let session = self
            .sessions()
            .into_iter()
            .find(|session| session.access_key == claim.access_key);
        let user = self.account.user.as_ref();
        let user = user.filter(|(access_key, _)| *access_key == claim.access_key);
        let (secret_key, all) = match (&session, user) {
            (Some(session), _) if request.header("x-amz-security-token") == session.token => {
                (&session.secret_key, false)
            }
            (None, Some((_, secret_key))) => (secret_key, true),
            _ => {
                return error(
                    "UnrecognizedClientException",
                    "The security token included in the request is invalid.",
                );
            }
        };
        let [_, region, service, end] = &claim.scope;
        if *region != self.account.region || service != "secretsmanager" || end != "aws4_request" {
            let text = format!("Credential should be scoped to a valid region, not '{region}'.");
            return error("InvalidSignatureException", &text);
        }
        if !is_signed(request, &claim, secret_key) {
            return error(
                "InvalidSignatureException",
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
                 Access Key and signing method. Consult the service documentation for details.",
            );
        }
        match serde_json::from_slice(&request.body) {
            Ok(body) => self.value(&body, all),
            Err(_) => error("SerializationException", ""),
        }
    }

    fn sessions(&self) -> Vec<Session> {
        locked(&self.sessions).clone()
    }

    fn value(&self, body: &Value, all: bool) -> Reply {
        let Some(id) = body["SecretId"].as_str().filter(|id| !id.is_empty()) else {
            return error(
                "ValidationException",
                "Invalid length for parameter SecretId",
            );
        };
        for name in ["VersionId", "VersionStage"] {
            if body
                .get(name)
                .is_some_and(|value| !value.is_string() || value == "")
            {
                let text = format!("Invalid length for parameter {name}");
                return error("ValidationException", &text);
            }
        }
        let secrets = &self.account.secrets;
        let Some(secret) = secrets
            .iter()
            .find(|secret| secret.name == id || secret.arn == id)
        else {
            return error(
                "ResourceNotFoundException",
                "Secrets Manager can't find the specified secret.",
            );
        };
        if !all && !secret.readable {
            let text = format!(
                "User: {}/session is not authorized to perform: secretsmanager:GetSecretValue on resource: {} because no \
                 identity-based policy allows the secretsmanager:GetSecretValue action",
                self.account.role_arn, secret.arn
            );
            return error("AccessDeniedException", &text);
        }
        let count = secret.versions.len();
        let stage_of = |index: usize| match count - index {
            1 => "AWSCURRENT",
            2 => "AWSPREVIOUS",
            _ => "",
        };
        let version = body["VersionId"].as_str();
        let stage = body["VersionStage"].as_str();
        let stage = stage.or_else(|| version.is_none().then_some("AWSCURRENT"));
        let found = secret.versions.iter().enumerate().find(|(index, (id, _))| {
            version.is_none_or(|version| version == id)
                && stage.is_none_or(|stage| stage == stage_of(*index))
        });
        let Some((index, (version, content))) = found else {
            let text = format!(
                "Secrets Manager can't find the specified secret value for {}",
                match (version, stage) {
                    (Some(version), _) => format!("VersionId: {version}"),
                    (None, stage) => format!("staging label: {}", stage.unwrap_or_default()),
                }
            );
            return error("ResourceNotFoundException", &text);
        };
        let mut answer = json!({
            "ARN": secret.arn, "Name": secret.name, "VersionId": version,
            "VersionStages": [stage_of(index)], "CreatedDate": 1_795_323_300.125,
        });
        match content {
            Content::Text(text) => answer["SecretString"] = text.as_str().into(),
            Content::Binary(bytes) => answer["SecretBinary"] = BASE64_STANDARD.encode(bytes).into(),
            Content::Nothing => {}
        }
        Reply::with("application/x-amz-json-1.1", 200, answer.to_string())
            .header("x-amzn-RequestId", REQUEST_ID)
    }
}

/// An error of STS.
pub fn sts_error(status: u16, code: &str, message: &str) -> Reply {
    let message = message
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let body = format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n    <Type>Sender</Type>\n    \
         <Code>{code}</Code>\n    <Message>{message}</Message>\n  </Error>\n  <RequestId>{REQUEST_ID}</RequestId>\n\
         </ErrorResponse>\n"
    );
    Reply::with("text/xml", status, body).header("x-amzn-RequestId", REQUEST_ID)
}

/// An error of Secrets Manager.
pub fn error(code: &str, message: &str) -> Reply {
    let body = json!({"__type": code, "Message": message});
    Reply::with("application/x-amz-json-1.1", 400, body.to_string())
        .header("x-amzn-RequestId", REQUEST_ID)
}
