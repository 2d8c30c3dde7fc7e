//! `aws_secrets_manager`: a role is taken with an ID token at the security token service, and with its credentials a
//! secret is read (`secrets.md` 9).
//!
//! Without token and role upstream reads with whatever identity the runner's machine has, so that any job may what the
//! machine may. Here that is so only where `config.toml` allows it.

mod answers;
mod identity;
mod signature;

use std::sync::Arc;
use std::time::Duration;

use courser_net::{Body, Call};
use courser_protocol::Secret;
use courser_protocol::secrets::AwsSecret;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::json;
use url::Url;
use url::form_urlencoded::Serializer;

use crate::exchange::{Repeat, Reply, is_passing};
use crate::refusal::{refused, shown, unanswered, unusable};
use crate::resolve::Resolution;
use crate::session::Session;
use crate::shared::Shared;
use crate::{Failure, FailureClass, Step, claims};

use answers::{Fault, SecretValue, credentials, field};
use signature::{Scope, sign};

/// For login and read of one secret, as upstream.
const LIMIT: Duration = Duration::from_secs(30);
const READ: &str = "operation error Secrets Manager: GetSecretValue";
const LOGIN: &str = "operation error Secrets Manager: GetSecretValue, get identity: get credentials: failed to retrieve \
     credentials, operation error STS: AssumeRoleWithWebIdentity";
const JSON: &str = "application/x-amz-json-1.1";
const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
/// Errors that AWS' SDK for Go knows as types: it tells of the others as `api error CODE: …`.
const TYPED: [&str; 12] = [
    "DecryptionFailure",
    "ExpiredTokenException",
    "IDPCommunicationError",
    "IDPRejectedClaim",
    "InternalServiceError",
    "InvalidIdentityToken",
    "InvalidParameterException",
    "InvalidRequestException",
    "MalformedPolicyDocument",
    "PackedPolicyTooLarge",
    "RegionDisabledException",
    "ResourceNotFoundException",
];

/// What requests are signed with.
#[derive(Clone)]
struct Credentials {
    access_key: String,
    secret_key: Secret,
    session_token: Option<Secret>,
}

/// As whom, in which region.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Identity {
    region: String,
    /// None: as the machine.
    role: Option<Role>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Role {
    arn: String,
    session_name: String,
    token: Secret,
}

/// A version of a secret. What is empty is not asked for.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Version {
    secret_id: String,
    id: String,
    stage: String,
}

/// The secrets of one job there.
pub(crate) struct Aws {
    session: Arc<Session>,
    logins: Shared<Identity, Credentials>,
    values: Shared<(Identity, Version), Secret>,
}

impl Aws {
    pub(crate) fn new(session: &Arc<Session>) -> Self {
        Self {
            session: Arc::clone(session),
            logins: Shared::new(session),
            values: Shared::new(session),
        }
    }

    /// Fetches one secret. Logins and reads that several secrets need are made once.
    pub(crate) async fn get(&self, secret: &AwsSecret) -> Result<Resolution, Failure> {
        let identity = self.identity(secret)?;
        let version = Version {
            secret_id: secret.secret_id.clone(),
            id: secret.version_id.clone(),
            stage: secret.version_stage.clone(),
        };
        let key = (identity.clone(), version.clone());
        let reading = self.values.get(key, || self.read(identity, version));
        let text = tokio::time::timeout(LIMIT, reading).await.unwrap_or_else(|_| {
            let text = format!("{READ}, https response error StatusCode: 0, RequestID: , canceled, context deadline exceeded");
            Err(Failure::new(FailureClass::ExternalDependency, text)
                .at(Step::Read)
                .transient(true))
        })?;
        let value = match secret.field.as_str() {
            "" => (*text).clone(),
            key => {
                field(&text, key, &secret.secret_id).map_err(|failure| failure.at(Step::Field))?
            }
        };
        Ok(Resolution::Value(value))
    }

    fn identity(&self, secret: &AwsSecret) -> Result<Identity, Failure> {
        let or =
            |own: &String, of_server: &String| if own.is_empty() { of_server } else { own }.clone();
        let server = &secret.server;
        let configuration = |text: &str| Failure::new(FailureClass::Configuration, text);
        let arn = or(&secret.role_arn, &server.role_arn);
        let role = match (arn.is_empty(), server.jwt.is_empty()) {
            (false, true) => {
                let failure = configuration(&format!("{LOGIN}, the ID token is empty"));
                let failure = failure.at(Step::LogIn);
                return Err(claims::advise(failure, &server.jwt));
            }
            (false, false) => Some(Role {
                arn,
                session_name: or(&secret.role_session_name, &server.role_session_name),
                token: server.jwt.clone(),
            }),
            (true, false) => {
                return Err(configuration(
                    "Role ARN is required when using JWT for AWS authentication",
                )
                .advise("set the CI/CD variable AWS_ROLE_ARN, or `role_arn` of the secret"));
            }
            (true, true)
                if self
                    .session
                    .surroundings
                    .settings
                    .aws
                    .allow_ambient_identity =>
            {
                None
            }
            (true, true) => {
                return Err(configuration(
                    "no ID token and no role: the secret would be read with the identity of the runner's machine, which this \
                     runner does not lend to jobs",
                )
                .advise("give the job an ID token named AWS_ID_TOKEN and set the CI/CD variable AWS_ROLE_ARN")
                .advise(
                    "or let every job of this runner use the machine's identity: `allow_ambient_identity = true` in \
                     `[runners.secrets.aws]` of its config.toml",
                ));
            }
        };
        let mut region = or(&secret.region, &server.region);
        if region.is_empty() && role.is_none() {
            let environment = &self.session.surroundings.environment;
            let of_process = ["AWS_REGION", "AWS_DEFAULT_REGION"]
                .into_iter()
                .find_map(|name| environment.get(name));
            of_process.unwrap_or_default().clone_into(&mut region);
        }
        // It becomes a part of a host's name.
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if region.is_empty() {
            let text = format!(
                "{READ}, failed to resolve service endpoint, endpoint rule error, Invalid Configuration: Missing Region"
            );
            return Err(configuration(&text)
                .advise("set the CI/CD variable AWS_REGION, or `region` of the secret"));
        }
        if region.len() > 63 || !region.bytes().all(fits) {
            return Err(configuration(&format!(
                "{READ}, {region:?} is no region of AWS"
            )));
        }
        Ok(Identity { region, role })
    }

    async fn read(&self, identity: Identity, version: Version) -> Result<Secret, Failure> {
        let key = identity.clone();
        let credentials = self.logins.get(key, || self.log_in(&identity)).await?;
        let surroundings = &self.session.surroundings;
        let url = self.endpoint("secretsmanager", &identity)?;
        let mut body = json!({"SecretId": version.secret_id});
        for (name, value) in [("VersionId", version.id), ("VersionStage", version.stage)] {
            if !value.is_empty() {
                body[name] = value.into();
            }
        }
        let body = body.to_string();
        let mut call = Call::new(Method::POST, url);
        let headers = &mut call.headers;
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(JSON));
        headers.insert(
            TARGET,
            HeaderValue::from_static("secretsmanager.GetSecretValue"),
        );
        let scope = Scope {
            region: &identity.region,
            service: "secretsmanager",
            now: (surroundings.ambience.now)(),
        };
        sign(
            headers,
            &call.method,
            &call.url,
            body.as_bytes(),
            &credentials,
            &scope,
        );
        call.body = Body::Bytes(body.into(), JSON);
        let exchange = self.session.exchange();
        let passes = |reply: &Reply| is_refusal(reply) && Fault::of_json(reply).may_pass();
        let reply = exchange.send_judged(call, Repeat::Always, passes).await;
        let reply = reply.map_err(|error| unsent(READ, &unanswered(&error)).at(Step::Read))?;
        if reply.status == StatusCode::OK {
            // Emulators say `text/html` of it.
            let value: SecretValue = serde_json::from_slice(&reply.body)
                .map_err(|_| unusable(&reply, "no secret").within(READ).at(Step::Read))?;
            return value.text().map_err(|failure| failure.at(Step::Field));
        }
        if !is_refusal(&reply) {
            return Err(unusable(&reply, "no secret").within(READ).at(Step::Read));
        }
        let fault = Fault::of_json(&reply);
        let failure = told(READ, &reply, &fault).at(match fault.code.as_str() {
            "AccessDeniedException" => Step::Policy,
            "ResourceNotFoundException" => Step::Path,
            _ => Step::Read,
        });
        let who = identity
            .role
            .as_ref()
            .map_or("the runner's machine", |role| &role.arn);
        Err(match fault.code.as_str() {
            "AccessDeniedException" => failure.advise(format!(
                "allow secretsmanager:GetSecretValue on {:?} (and kms:Decrypt where it has a key of its own) in the policies \
                 of {who}",
                version.secret_id
            )),
            "ResourceNotFoundException" => failure.advise(format!(
                "looked for {:?} in the region {}; a secret of another account is named by its ARN",
                version.secret_id, identity.region
            )),
            "InvalidSignatureException" | "RequestExpired" => {
                failure.advise("compare the clock of the runner's machine with AWS': requests are signed with its time")
            }
            _ => failure,
        })
    }

    async fn log_in(&self, identity: &Identity) -> Result<Credentials, Failure> {
        match &identity.role {
            Some(role) => self.assume(identity, role).await,
            None => identity::ambient(self, identity)
                .await
                .map_err(|failure| failure.at(Step::LogIn)),
        }
    }

    async fn assume(&self, identity: &Identity, role: &Role) -> Result<Credentials, Failure> {
        let form = Serializer::new(String::new())
            .append_pair("Action", "AssumeRoleWithWebIdentity")
            .append_pair("RoleArn", &role.arn)
            .append_pair("RoleSessionName", &role.session_name)
            .append_pair("Version", "2011-06-15")
            .append_pair("WebIdentityToken", role.token.expose())
            .finish();
        self.session.exchange().hide(&role.token);
        let call = Call {
            body: Body::Bytes(form.into(), "application/x-www-form-urlencoded"),
            ..Call::new(Method::POST, self.endpoint("sts", identity)?)
        };
        let passes = |reply: &Reply| is_refusal(reply) && Fault::of_xml(reply).may_pass();
        let exchange = self.session.exchange();
        let reply = exchange.send_judged(call, Repeat::Always, passes).await;
        let reply = reply.map_err(|error| unsent(LOGIN, &unanswered(&error)))?;
        let unusable = || {
            unusable(&reply, "no credentials")
                .within(LOGIN)
                .at(Step::LogIn)
        };
        if reply.status == StatusCode::OK {
            return credentials(&reply.body).ok_or_else(unusable);
        }
        if !is_refusal(&reply) {
            return Err(unusable());
        }
        let fault = Fault::of_xml(&reply);
        let failure = told(LOGIN, &reply, &fault).at(match fault.code.as_str() {
            "AccessDenied" | "ExpiredTokenException" | "IDPRejectedClaim" => Step::Claims,
            // Issuer and audience that no provider has, or what is no token.
            "InvalidIdentityToken" if claims::fault(&role.token).is_none() => Step::Claims,
            _ => Step::LogIn,
        });
        if failure.class != FailureClass::Configuration {
            return Err(failure);
        }
        let failure = claims::advise(failure, &role.token);
        Err(match fault.code.as_str() {
            "AccessDenied" => failure.advise(format!(
                "the trust policy of {} must allow sts:AssumeRoleWithWebIdentity to the issuer's OIDC provider, with \
                 conditions that this `aud` and `sub` meet",
                role.arn
            )),
            "InvalidIdentityToken" => failure.advise(
                "IAM needs an OIDC provider with exactly this issuer and audience, and must reach the issuer's keys over \
                 public HTTPS",
            ),
            _ => failure,
        })
    }

    /// Of a service in a region, or what the settings say instead.
    fn endpoint(&self, service: &str, identity: &Identity) -> Result<Url, Failure> {
        let settings = &self.session.surroundings.settings.aws;
        let configured = match service {
            "sts" => &settings.sts_url,
            _ => &settings.secrets_manager_url,
        };
        if let Some(url) = configured {
            return Ok(url.clone());
        }
        let environment = &self.session.surroundings.environment;
        let of_process = match identity.role {
            // As upstream: where a job presents a token of its own, the process has no say.
            Some(_) => None,
            None => ["AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL"]
                .into_iter()
                .find_map(|name| environment.get(name).filter(|value| !value.is_empty())),
        };
        let region = &identity.region;
        let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
        let url = of_process.map_or_else(
            || format!("https://{service}.{region}.amazonaws.com{suffix}/"),
            ToOwned::to_owned,
        );
        url.parse().map_err(|error| {
            Failure::new(
                FailureClass::Configuration,
                format!("{READ}, {url:?} is no URL: {error}"),
            )
        })
    }
}

fn is_refusal(reply: &Reply) -> bool {
    reply.status.is_client_error() || reply.status.is_server_error()
}

/// An error of AWS in the words of its SDK.
fn told(operation: &str, reply: &Reply, fault: &Fault) -> Failure {
    let may_pass = fault.may_pass() || is_passing(reply.status, Repeat::Always);
    let attempts = if may_pass {
        "exceeded maximum number of attempts, 3, "
    } else {
        ""
    };
    let api = if TYPED.contains(&fault.code.as_str()) {
        ""
    } else {
        "api error "
    };
    let Fault {
        code,
        message,
        request_id,
    } = fault;
    let said = shown(format!("{api}{code}: {message}").as_bytes());
    let text = format!(
        "{operation}, {attempts}https response error StatusCode: {}, RequestID: {}, {said}",
        reply.status.as_u16(),
        shown(request_id.as_bytes())
    );
    let mut failure = refused(reply.status, text);
    // A token that is not believed is asked about again, but it is not AWS that has to change.
    if fault.may_pass() && code != "InvalidIdentityToken" {
        failure.class = FailureClass::ExternalDependency;
        failure.is_transient = true;
    }
    failure
}

/// A request without an answer in the words of AWS' SDK.
fn unsent(operation: &str, failure: &Failure) -> Failure {
    let attempts = if failure.is_transient {
        "exceeded maximum number of attempts, 3, "
    } else {
        ""
    };
    let text = format!(
        "{operation}, {attempts}https response error StatusCode: 0, RequestID: , request send failed, {failure}"
    );
    Failure::new(failure.class, text)
        .at(failure.step)
        .transient(failure.is_transient)
}
