//! `azure_key_vault`: an ID token is the assertion with which Entra ID gives an access token for a vault (`secrets.md` 8).
//!
//! The first request to a vault goes without credentials: its answer says which resource the token has to be for. The
//! authority is never taken from there, unless it is one of Microsoft's: a vault's URL is the job's choice.

mod challenge;
mod refusal;

use std::sync::Arc;

use courser_net::{Body, Call};
use courser_protocol::Secret;
use courser_protocol::secrets::{AzureSecret, AzureServer};
use http::{Method, StatusCode, header};
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::Serializer;

use crate::exchange::Repeat;
use crate::refusal::{refused, step_of_read, unanswered, unusable};
use crate::resolve::{Missing, Resolution};
use crate::session::Session;
use crate::shared::Shared;
use crate::{Failure, FailureClass, Step, claims};

use challenge::Challenge;
use refusal::response;

/// Any from 7.4 on would do; upstream's.
const API_VERSION: &str = "2025-07-01";
const AUTHORITY: &str = "https://login.microsoftonline.com";
/// Authorities of Microsoft's clouds, which a challenge may name.
const AUTHORITIES: [&str; 4] = [
    "login.microsoftonline.com",
    "login.windows.net",
    "login.chinacloudapi.cn",
    "login.microsoftonline.us",
];
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const CONTEXT: &str = "getting secret failed";

/// The secrets of one job there.
pub(crate) struct Azure {
    session: Arc<Session>,
    vaults: Shared<Url, Access>,
    logins: Shared<Identity, Secret>,
    secrets: Shared<(Identity, Url), Option<Secret>>,
}

/// What a vault demands.
enum Access {
    Open,
    Token(Challenge),
}

/// As whom, and at which vault.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Identity {
    vault: Url,
    tenant: String,
    client: String,
    token: Secret,
}

#[derive(Deserialize)]
struct Granted {
    access_token: Secret,
}

#[derive(Deserialize)]
struct Held {
    value: Option<Secret>,
}

impl Azure {
    pub(crate) fn new(session: &Arc<Session>) -> Self {
        Self {
            session: Arc::clone(session),
            vaults: Shared::new(session),
            logins: Shared::new(session),
            secrets: Shared::new(session),
        }
    }

    /// Fetches one secret. Logins and reads that several secrets need are made once.
    pub(crate) async fn get(&self, secret: &AzureSecret) -> Result<Resolution, Failure> {
        let identity = Identity::new(&secret.server)?;
        let surroundings = &self.session.surroundings;
        let mut trusted = surroundings.settings.azure.trusted_vaults.iter();
        if !trusted.any(|url| url.origin() == identity.vault.origin()) {
            let allowed = surroundings.check_server(&identity.vault);
            allowed.map_err(|failure| failure.within(CONTEXT))?;
        }
        if secret.name.is_empty() {
            let text = format!("{CONTEXT}: parameter name cannot be empty");
            return Err(Failure::new(FailureClass::Configuration, text));
        }
        for part in [&secret.name, &secret.version] {
            // A URL would leave them out, and with them what they stand for.
            if matches!(part.as_str(), "." | "..") || part.contains(char::is_control) {
                let text = format!("{CONTEXT}: {part:?} cannot be part of a secret's URL");
                return Err(Failure::new(FailureClass::Configuration, text));
            }
        }
        let url = secret_url(&identity.vault, &secret.name, &secret.version);
        let key = (identity.clone(), url.clone());
        let value = self.secrets.get(key, || self.read(identity, url)).await?;
        Ok(match &*value {
            Some(value) => Resolution::Value(value.clone()),
            None => Resolution::Missing(Missing::at(Step::Field)),
        })
    }

    async fn read(&self, identity: Identity, url: Url) -> Result<Option<Secret>, Failure> {
        let vault = identity.vault.clone();
        let access = self.vaults.get(vault, || self.challenge(&url)).await?;
        let mut call = Call::new(Method::GET, url.clone());
        let token = match &*access {
            Access::Open => None,
            Access::Token(challenge) => {
                let key = identity.clone();
                let logging_in = self.logins.get(key, || self.log_in(&identity, challenge));
                Some(logging_in.await?)
            }
        };
        if let Some(token) = &token {
            let bearer = Secret::new(format!("Bearer {}", token.expose()));
            call = call.secret_header(header::AUTHORIZATION, bearer.expose());
        }
        let reply = self.session.exchange().send(call, Repeat::Always).await;
        let reply = reply.map_err(|error| unanswered(&error).within(CONTEXT).at(Step::Read))?;
        if reply.status != StatusCode::OK {
            let failure = if reply.status.is_redirection() {
                unusable(&reply, "no secret").within(CONTEXT)
            } else {
                let text = response(&Method::GET, &url, &reply);
                refused(reply.status, format!("{CONTEXT}: {text}"))
            };
            let failure = failure.at(step_of_read(&reply));
            return Err(match reply.status {
                StatusCode::FORBIDDEN => failure.advise(format!(
                    "give the application {} the role \"Key Vault Secrets User\" on the vault, or the permission \"Get\" for \
                     secrets in its access policies; see also the vault's firewall and whether the secret is enabled",
                    identity.client
                )),
                _ => failure,
            });
        }
        serde_json::from_slice::<Held>(&reply.body)
            .map(|held| held.value)
            .map_err(|_| unusable(&reply, "no secret").within(CONTEXT).at(Step::Read))
    }

    /// Asks without credentials what the vault demands.
    async fn challenge(&self, url: &Url) -> Result<Access, Failure> {
        let call = Call::new(Method::GET, url.clone());
        let reply = self.session.exchange().send(call, Repeat::Always).await;
        let reply = reply.map_err(|error| unanswered(&error).within(CONTEXT))?;
        match reply.status {
            StatusCode::OK => return Ok(Access::Open),
            StatusCode::UNAUTHORIZED => {}
            status if status.is_redirection() => {
                let failure = unusable(&reply, "no challenge").within(CONTEXT);
                return Err(failure.at(Step::Connect));
            }
            status => {
                let text = response(&Method::GET, url, &reply);
                return Err(refused(status, format!("{CONTEXT}: {text}")).at(Step::Connect));
            }
        }
        let refusing = |text: String| {
            let text = format!("{CONTEXT}: {text}");
            Failure::new(FailureClass::Configuration, text).at(Step::Connect)
        };
        let challenge = Challenge::of(&reply.headers).ok_or_else(|| {
            refusing(
                "response has no WWW-Authenticate header for challenge authentication".to_owned(),
            )
        })?;
        let settings = &self.session.surroundings.settings.azure;
        let vouched_for = settings
            .trusted_vaults
            .iter()
            .any(|trusted| trusted.origin() == url.origin());
        if !vouched_for && !challenge.is_of(url) {
            let host = url.host_str().unwrap_or_default();
            return Err(refusing(format!(
                "challenge resource {:?} doesn't match the requested domain {host}",
                challenge.resource
            ))
            .advise(format!(
                "a token for that resource is not sent to {host}; if it is a vault of yours behind a name of its own, add \
                 {:?} to `trusted_vaults` in `[runners.secrets.azure]` of the runner's config.toml",
                url.origin().ascii_serialization()
            )));
        }
        Ok(Access::Token(challenge))
    }

    async fn log_in(&self, identity: &Identity, challenge: &Challenge) -> Result<Secret, Failure> {
        const FAILED: &str = "ClientAssertionCredential authentication failed. ";
        if identity.token.is_empty() {
            let text = format!("{CONTEXT}: {FAILED}the ID token is empty");
            let failure = Failure::new(FailureClass::Configuration, text).at(Step::LogIn);
            return Err(claims::advise(failure, &identity.token));
        }
        let authority = self.authority(challenge);
        let url = format!(
            "{}/{}/oauth2/v2.0/token",
            authority.trim_end_matches('/'),
            identity.tenant
        );
        let url: Url = url.parse().map_err(|error| {
            let text = format!(
                "getting credential failed: the authority {authority:?} is no URL: {error}"
            );
            Failure::new(FailureClass::Configuration, text)
        })?;
        let form = Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &identity.client)
            .append_pair("client_assertion_type", ASSERTION)
            .append_pair("client_assertion", identity.token.expose())
            .append_pair("scope", &challenge.scope())
            .finish();
        self.session.exchange().hide(&identity.token);
        let call = Call {
            body: Body::Bytes(form.into(), "application/x-www-form-urlencoded"),
            ..Call::new(Method::POST, url.clone())
        };
        let reply = self.session.exchange().send(call, Repeat::Always).await;
        let reply = reply.map_err(|error| {
            unanswered(&error)
                .within(&format!("{CONTEXT}: {}", FAILED.trim_end()))
                .at(Step::LogIn)
        })?;
        let unusable = || {
            unusable(&reply, "no access token")
                .within(CONTEXT)
                .at(Step::LogIn)
        };
        if reply.status == StatusCode::OK {
            let granted = serde_json::from_slice::<Granted>(&reply.body).ok();
            return granted
                .map(|granted| granted.access_token)
                .filter(|token| !token.is_empty())
                .ok_or_else(unusable);
        }
        if reply.status.is_redirection() {
            return Err(unusable());
        }
        let text = response(&Method::POST, &url, &reply);
        let failure = refused(reply.status, format!("{CONTEXT}: {FAILED}\n{text}"))
            .at(refusal::step_of_login(&reply));
        Err(match failure.class {
            FailureClass::Configuration => claims::advise(failure, &identity.token)
                .advise("the federated credential of the application compares issuer, subject and audience exactly"),
            _ => failure,
        })
    }

    /// Of the settings, of the process, of the challenge where it is Microsoft's.
    fn authority(&self, challenge: &Challenge) -> String {
        let surroundings = &self.session.surroundings;
        if let Some(url) = &surroundings.settings.azure.authority_url {
            return url.to_string();
        }
        let of_process = surroundings.environment.get("AZURE_AUTHORITY_HOST");
        if let Some(host) = of_process.filter(|host| !host.is_empty()) {
            return match host.contains("://") {
                true => host.to_owned(),
                false => format!("https://{host}"),
            };
        }
        match challenge.authority_host() {
            Some(host) if AUTHORITIES.contains(&host.as_str()) => format!("https://{host}"),
            _ => AUTHORITY.to_owned(),
        }
    }
}

impl Identity {
    fn new(server: &AzureServer) -> Result<Self, Failure> {
        let configuration = |text: String| Failure::new(FailureClass::Configuration, text);
        let is_tenant = |text: &str| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
            !text.is_empty() && text.bytes().all(fits)
        };
        if !is_tenant(&server.tenant_id) {
            return Err(configuration(format!("getting credential failed: invalid tenantID {:?}", server.tenant_id))
                .advise("set the CI/CD variable AZURE_TENANT_ID; references in it are not expanded by the runner"));
        }
        if server.client_id.is_empty() {
            return Err(configuration(
                "getting credential failed: the client ID is empty".to_owned(),
            )
            .advise("set the CI/CD variable AZURE_CLIENT_ID"));
        }
        let vault: Url = server.url.trim_end_matches('/').parse().map_err(|error| {
            configuration(format!("initializing azure key Vault service: parse {:?}: {error}", server.url))
                .advise("set the CI/CD variable AZURE_KEY_VAULT_SERVER_URL; references in it are not expanded by the runner")
        })?;
        if vault.scheme() != "https" || !vault.has_host() {
            let text =
                "authenticated requests are not permitted for non TLS protected (https) endpoints";
            return Err(configuration(format!("{CONTEXT}: {text}")));
        }
        Ok(Self {
            vault,
            tenant: server.tenant_id.clone(),
            client: server.client_id.clone(),
            token: server.jwt.clone(),
        })
    }
}

/// An empty version is the latest.
fn secret_url(vault: &Url, name: &str, version: &str) -> Url {
    let mut url = vault.clone();
    url.set_fragment(None);
    if let Ok(mut segments) = url.path_segments_mut() {
        segments
            .pop_if_empty()
            .push("secrets")
            .push(name)
            .push(version);
    }
    url.set_query(Some(&format!("api-version={API_VERSION}")));
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_secrets() {
        let vault = "https://x.vault.azure.net".parse().unwrap();
        let table = [
            ("cert", "", "/secrets/cert/"),
            ("cert", "0a1b", "/secrets/cert/0a1b"),
            ("a/../b?c", "#", "/secrets/a%2F..%2Fb%3Fc/%23"),
        ];
        for (name, version, path) in table {
            let url = secret_url(&vault, name, version);
            assert_eq!(
                url.as_str(),
                format!("https://x.vault.azure.net{path}?api-version=2025-07-01")
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said_before_anything_is_asked() {
        let server = |url: &str, client: &str, tenant: &str| AzureServer {
            url: url.to_owned(),
            client_id: client.to_owned(),
            tenant_id: tenant.to_owned(),
            jwt: "t".into(),
        };
        let table = [
            (
                server("https://v", "c", "$TENANT"),
                "getting credential failed: invalid tenantID \"$TENANT\"",
            ),
            (
                server("https://v", "c", ""),
                "getting credential failed: invalid tenantID \"\"",
            ),
            (
                server("https://v", "", "t"),
                "getting credential failed: the client ID is empty",
            ),
            (
                server("$URL", "c", "t"),
                "initializing azure key Vault service: parse \"$URL\": relative URL without a base",
            ),
            (
                server("http://v", "c", "t"),
                "getting secret failed: authenticated requests are not permitted for non TLS protected (https) endpoints",
            ),
        ];
        for (server, text) in table {
            let failure = Identity::new(&server).map(|_| ()).unwrap_err();
            assert_eq!(
                (failure.to_string().as_str(), failure.class),
                (text, FailureClass::Configuration)
            );
        }
    }
}
