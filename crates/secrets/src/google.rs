//! `gcp_secret_manager`: an ID token is exchanged for an access token by workload identity federation, with which a
//! version of a secret is read (`secrets.md` 7).
//!
//! Upstream reads over gRPC; this is the REST form of the same call, and failures are told in gRPC's words.

mod checksum;

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use courser_net::{Body, Call};
use courser_protocol::Secret;
use courser_protocol::secrets::GoogleSecret;
use http::{Method, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use crate::exchange::{Repeat, Reply};
use crate::refusal::{refused, shown, step_of_read, unanswered, unusable};
use crate::resolve::{Missing, Resolution};
use crate::session::Session;
use crate::shared::Shared;
use crate::{Failure, FailureClass, Step, claims};

const STS: &str = "https://sts.googleapis.com";
const SECRET_MANAGER: &str = "https://secretmanager.googleapis.com";

/// The secrets of one job there.
pub(crate) struct Google {
    session: Arc<Session>,
    logins: Shared<Identity, Secret>,
    versions: Shared<(Identity, String), Option<Secret>>,
}

/// As whom: one exchange each.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Identity {
    /// The provider in the pool.
    audience: String,
    token: Secret,
}

#[derive(Deserialize)]
struct Exchanged {
    access_token: Secret,
}

/// What STS says where it gives no token.
#[derive(Deserialize)]
struct NotExchanged {
    error: String,
}

impl NotExchanged {
    /// Of the pool's provider and its attribute condition; the other codes say that the request is wrong.
    fn is_of_claims(&self) -> bool {
        matches!(self.error.as_str(), "invalid_grant" | "unauthorized_client")
    }
}

#[derive(Deserialize)]
struct Version {
    payload: Option<Payload>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    #[serde(default)]
    data: Secret,
    /// Decimal; 64 bits in JSON are a string.
    data_crc32c: Option<serde_json::Value>,
}

/// An error of Google's APIs.
#[derive(Deserialize)]
struct Refusal {
    error: Status,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    message: String,
    #[serde(default)]
    status: String,
}

impl Google {
    pub(crate) fn new(session: &Arc<Session>) -> Self {
        Self {
            session: Arc::clone(session),
            logins: Shared::new(session),
            versions: Shared::new(session),
        }
    }

    /// Fetches one secret. Logins and reads that several secrets need are made once.
    pub(crate) async fn get(&self, secret: &GoogleSecret) -> Result<Resolution, Failure> {
        let server = &secret.server;
        let identity = Identity {
            audience: format!(
                "//iam.googleapis.com/projects/{}/locations/global/workloadIdentityPools/{}/providers/{}",
                server.project_number,
                server.workload_identity_federation_pool_id,
                server.workload_identity_federation_provider_id
            ),
            token: server.jwt.clone(),
        };
        if secret.version.contains(['/', ':']) {
            let text = format!(
                "the version {:?} is neither a number nor an alias",
                secret.version
            );
            let failure = Failure::new(FailureClass::Configuration, text);
            return Err(failure.within("failed to get secret"));
        }
        let name = version_name(&server.project_number, &secret.name, &secret.version);
        let key = (identity.clone(), name.clone());
        let version = self
            .versions
            .get(key, || self.access(identity, name))
            .await?;
        Ok(match &*version {
            Some(value) => Resolution::Value(value.clone()),
            None => Resolution::Missing(Missing::at(Step::Field)),
        })
    }

    async fn access(&self, identity: Identity, name: String) -> Result<Option<Secret>, Failure> {
        let key = identity.clone();
        let token = self.logins.get(key, || self.exchange(identity)).await?;
        let settings = &self.session.surroundings.settings.google;
        let base = settings
            .secret_manager_url
            .as_ref()
            .map_or(SECRET_MANAGER, Url::as_str);
        let url = url_of(base, &format!("v1/{name}:access"))
            .map_err(|failure| failure.within("failed to get secret"))?;
        let bearer = Secret::new(format!("Bearer {}", token.expose()));
        let call =
            Call::new(Method::GET, url).secret_header(header::AUTHORIZATION, bearer.expose());
        let reply = self.session.exchange().send(call, Repeat::Always).await;
        let reply = reply.map_err(|error| {
            let failure = unanswered(&error);
            let code = if failure.is_transient {
                "Unavailable"
            } else {
                "Unknown"
            };
            failure
                .within(&format!(
                    "failed to get secret: rpc error: code = {code} desc = connection error"
                ))
                .at(Step::Read)
        })?;
        if reply.status != StatusCode::OK {
            return Err(access_refused(&reply, &name));
        }
        let version: Version = serde_json::from_slice(&reply.body).map_err(|_| {
            unusable(&reply, "no version of a secret")
                .within("failed to get secret")
                .at(Step::Read)
        })?;
        version
            .payload
            .map(|payload| payload.text(&name))
            .transpose()
    }

    async fn exchange(&self, identity: Identity) -> Result<Secret, Failure> {
        const CONTEXT: &str = "failed to exchange sts token";
        if identity.token.is_empty() {
            let failure = Failure::new(FailureClass::Configuration, "the ID token is empty");
            let failure = failure.within(CONTEXT).at(Step::LogIn);
            return Err(claims::advise(failure, &identity.token));
        }
        let settings = &self.session.surroundings.settings.google;
        let base = settings.sts_url.as_ref().map_or(STS, Url::as_str);
        let mut url = url_of(base, "v1/token").map_err(|failure| failure.within(CONTEXT))?;
        url.set_query(Some("alt=json&prettyPrint=false"));
        let body = json!({
            "audience": identity.audience,
            "grantType": "urn:ietf:params:oauth:grant-type:token-exchange",
            "requestedTokenType": "urn:ietf:params:oauth:token-type:access_token",
            "scope": "https://www.googleapis.com/auth/cloud-platform",
            "subjectToken": identity.token.expose(),
            "subjectTokenType": "urn:ietf:params:oauth:token-type:id_token",
        });
        self.session.exchange().hide(&identity.token);
        let call = Call {
            body: Body::Bytes(body.to_string().into(), "application/json"),
            ..Call::new(Method::POST, url)
        };
        let reply = self.session.exchange().send(call, Repeat::Always).await;
        let reply = reply.map_err(|error| unanswered(&error).within(CONTEXT))?;
        if reply.status.is_client_error() || reply.status.is_server_error() {
            let message = format!(
                "googleapi: got HTTP response code {} with body: {}",
                reply.status.as_u16(),
                shown(&reply.body)
            );
            let said = serde_json::from_slice::<NotExchanged>(&reply.body);
            let is_jwt = claims::fault(&identity.token).is_none();
            let step = match said {
                Ok(said) if is_jwt && said.is_of_claims() => Step::Claims,
                _ => Step::LogIn,
            };
            let failure = refused(reply.status, message).within(CONTEXT).at(step);
            return Err(match failure.class {
                FailureClass::Configuration => claims::advise(failure, &identity.token)
                    .advise(format!("it was presented to {}", identity.audience)),
                _ => failure,
            });
        }
        let exchanged = serde_json::from_slice::<Exchanged>(&reply.body).ok();
        exchanged
            .filter(|exchanged| {
                reply.status == StatusCode::OK && !exchanged.access_token.is_empty()
            })
            .map(|exchanged| exchanged.access_token)
            .ok_or_else(|| {
                unusable(&reply, "no access token")
                    .within(CONTEXT)
                    .at(Step::LogIn)
            })
    }
}

impl Payload {
    fn text(self, name: &str) -> Result<Secret, Failure> {
        let bytes = BASE64_STANDARD.decode(self.data.expose()).map_err(|_| {
            let text = "failed to get secret: the payload is no base64";
            Failure::new(FailureClass::ExternalDependency, text).at(Step::Field)
        })?;
        let bytes = zeroize::Zeroizing::new(bytes);
        // Upstream crashes where there is none.
        let told = match &self.data_crc32c {
            None | Some(serde_json::Value::Null) => None,
            Some(serde_json::Value::String(text)) => Some(text.parse().ok()),
            Some(number) => Some(number.as_i64()),
        };
        if told.is_some_and(|told| told != Some(i64::from(checksum::crc32c(&bytes)))) {
            return Err(
                Failure::new(FailureClass::ExternalDependency, "data corruption detected")
                    .at(Step::Field)
                    .transient(true),
            );
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Secret::new(text)),
            Err(error) => {
                let text = format!(
                    "failed to get secret: {name} holds {} bytes that are no text (byte {} is not UTF-8), which no variable \
                     can carry",
                    bytes.len(),
                    error.valid_up_to()
                );
                Err(Failure::new(FailureClass::Configuration, text)
                    .at(Step::Field)
                    .advise("store it as base64 and decode it in the job's script"))
            }
        }
    }
}

/// Full name of a version. What is not `projects/P/secrets/ID` is an id in the project of the pool.
fn version_name(project: &str, name: &str, version: &str) -> String {
    match name.split('/').collect::<Vec<_>>()[..] {
        ["projects", _, "secrets", _] => format!("{name}/versions/{version}"),
        _ => format!("projects/{project}/secrets/{name}/versions/{version}"),
    }
}

/// A path below a base URL of `config.toml`, or of ours. What a URL would take for query or escape is escaped.
/// A path that a URL would change is refused: it would lead out of the project that it names.
fn url_of(base: &str, path: &str) -> Result<Url, Failure> {
    let is_odd = |segment: &str| {
        matches!(segment, "." | "..") || segment.contains(|c: char| c.is_control() || c == '\\')
    };
    if path.split('/').any(is_odd) {
        let text = format!("the name {path:?} cannot be sent as it is");
        return Err(Failure::new(FailureClass::Configuration, text));
    }
    let path = path
        .replace('%', "%25")
        .replace('?', "%3F")
        .replace('#', "%23");
    format!("{}/{path}", base.trim_end_matches('/'))
        .parse()
        .map_err(|error| {
            Failure::new(
                FailureClass::Configuration,
                format!("{base:?} is no URL: {error}"),
            )
        })
}

fn access_refused(reply: &Reply, name: &str) -> Failure {
    const CONTEXT: &str = "failed to get secret";
    if !(reply.status.is_client_error() || reply.status.is_server_error()) {
        return unusable(reply, "no version of a secret")
            .within(CONTEXT)
            .at(Step::Read);
    }
    let refusal = serde_json::from_slice::<Refusal>(&reply.body).ok();
    let (code, message) = match refusal {
        Some(Refusal { error }) if !error.status.is_empty() => {
            (code_name(&error.status), shown(error.message.as_bytes()))
        }
        _ => (
            code_of(reply.status).to_owned(),
            format!(
                "unexpected HTTP status code received from server: {}; content type {:?}",
                reply.status,
                reply.content_type()
            ),
        ),
    };
    let text = format!("{CONTEXT}: rpc error: code = {code} desc = {message}");
    let failure = refused(reply.status, text).at(step_of_read(reply));
    match reply.status {
        StatusCode::FORBIDDEN => failure.advise(format!(
            "grant roles/secretmanager.secretAccessor on {} to the principal of the ID token's subject, and see that the \
             secret exists",
            name.split("/versions/").next().unwrap_or(name)
        )),
        _ => failure,
    }
}

/// `PERMISSION_DENIED` as gRPC's Go library calls it.
fn code_name(status: &str) -> String {
    if status == "CANCELLED" {
        return "Canceled".to_owned();
    }
    let words = status
        .split('_')
        .filter(|word| word.bytes().all(|byte| byte.is_ascii_uppercase()));
    words
        .filter_map(|word| {
            Some(format!(
                "{}{}",
                word.get(..1)?,
                word.get(1..)?.to_ascii_lowercase()
            ))
        })
        .collect()
}

/// gRPC's code for an answer without one.
fn code_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "Internal",
        401 => "Unauthenticated",
        403 => "PermissionDenied",
        404 => "Unimplemented",
        429 | 502..=504 => "Unavailable",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_versions() {
        let table = [
            (
                "api-key",
                "latest",
                "projects/12/secrets/api-key/versions/latest",
            ),
            (
                "projects/7/secrets/k",
                "3",
                "projects/7/secrets/k/versions/3",
            ),
            // As upstream: neither is a name of four segments.
            (
                "projects/7/secrets/k/versions/3",
                "1",
                "projects/12/secrets/projects/7/secrets/k/versions/3/versions/1",
            ),
            ("a", "", "projects/12/secrets/a/versions/"),
        ];
        for (name, version, full) in table {
            assert_eq!(version_name("12", name, version), full);
        }
    }

    #[test]
    fn names_cannot_leave_their_place_in_the_url() {
        let url = url_of(
            "https://h.example/",
            "v1/projects/1/secrets/a?b#c%2e/versions/1:access",
        )
        .unwrap();
        assert_eq!(
            url.as_str(),
            "https://h.example/v1/projects/1/secrets/a%3Fb%23c%252e/versions/1:access"
        );
        assert!(url_of("h.example", "v1/token").is_err());
        for path in ["v1/a/../b", "v1/.\t./b", "v1/a\\..\\b", "v1/./b", "v1/a\nb"] {
            assert!(url_of("https://h.example", path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn codes_are_called_as_in_go() {
        let table = [
            ("NOT_FOUND", "NotFound"),
            ("PERMISSION_DENIED", "PermissionDenied"),
            ("CANCELLED", "Canceled"),
            ("OK", "Ok"),
            ("é_\n", ""),
        ];
        for (status, name) in table {
            assert_eq!(code_name(status), name);
        }
    }

    #[test]
    fn payloads_are_checked() {
        let payload = |json: serde_json::Value| {
            let payload: Payload = serde_json::from_value(json).unwrap();
            payload.text("n").map(|text| text.expose().to_owned())
        };
        assert_eq!(
            payload(json!({"data": "MTIzNDU2Nzg5", "dataCrc32c": "3808858755"})).unwrap(),
            "123456789"
        );
        assert_eq!(
            payload(json!({"data": "MTIzNDU2Nzg5", "dataCrc32c": 3_808_858_755_u32})).unwrap(),
            "123456789"
        );
        assert_eq!(
            payload(json!({"data": "MTIzNDU2Nzg5"})).unwrap(),
            "123456789"
        );
        assert_eq!(payload(json!({})).unwrap(), "");
        for wrong in ["3808858756", "x", ""] {
            let failure =
                payload(json!({"data": "MTIzNDU2Nzg5", "dataCrc32c": wrong})).unwrap_err();
            assert_eq!(failure.to_string(), "data corruption detected");
        }
        let binary = payload(json!({"data": "YWL/"})).unwrap_err();
        assert!(
            binary
                .to_string()
                .contains("3 bytes that are no text (byte 2"),
            "{binary}"
        );
    }
}
