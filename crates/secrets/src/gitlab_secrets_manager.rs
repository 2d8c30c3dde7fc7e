//! GitLab Secrets Manager: an OpenBao that is logged in to with each request (`secrets.md` 6). No token is made, and
//! nothing is left to revoke.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use courser_protocol::secrets::{GitLabSecret, InlineAuth};
use http::{HeaderName, Method};
use serde_json::json;
use serde_json::value::RawValue;

use crate::exchange::Repeat;
use crate::refusal::step_of_read;
use crate::resolve::{Missing, Resolution};
use crate::session::Session;
use crate::shared::Shared;
use crate::vault::{Path, Server, api_failure, step_of_login};
use crate::{Failure, FailureClass, Step};

const AUTH_PATH: HeaderName = HeaderName::from_static("x-vault-inline-auth-path");
const JWT: HeaderName = HeaderName::from_static("x-vault-inline-auth-parameter-jwt");
const ROLE: HeaderName = HeaderName::from_static("x-vault-inline-auth-parameter-role");
const NAME: HeaderName = HeaderName::from_static("x-vault-inline-auth-parameter-name");
const CREATING: &str = "creating vault client";
const GETTING: &str = "getting secret";
const READING: &str = "getting secret: get secret data: reading from Vault";

/// The secrets of one job there.
pub(crate) struct GitLabSecretsManager {
    session: Arc<Session>,
    reads: Shared<Key, Option<Fields>>,
}

type Fields = std::collections::BTreeMap<String, Box<RawValue>>;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    url: String,
    login: String,
    jwt: courser_protocol::Secret,
    role: String,
    path: Path,
}

impl GitLabSecretsManager {
    pub(crate) fn new(session: &Arc<Session>) -> Self {
        Self {
            session: Arc::clone(session),
            reads: Shared::new(session),
        }
    }

    /// Fetches one secret. One request a path.
    pub(crate) async fn get(&self, secret: &GitLabSecret) -> Result<Resolution, Failure> {
        let InlineAuth {
            path,
            jwt,
            role,
            auth_mount,
        } = &secret.server.inline_auth;
        let mut lacking = Vec::new();
        if jwt.is_empty() {
            lacking.push("inline auth JWT is required");
        }
        if role.is_empty() {
            lacking.push("inline auth role is required");
        }
        if !lacking.is_empty() {
            let failure = Failure::system(lacking.join("\n"));
            return Err(failure
                .within("configuring inline auth")
                .within(CREATING)
                .advise(
                    "GitLab sends this when its Secrets Manager is not enabled for the project",
                ));
        }
        let login = if path.is_empty() {
            crate::vault::clean(&["auth", auth_mount, "login"])?
        } else {
            path.clone()
        };
        let path = Path::of(&secret.engine, &secret.path, "getting secret engine");
        let path = path.map_err(|failure| failure.within(GETTING))?;
        let key = Key {
            url: secret.server.url.clone(),
            login,
            jwt: jwt.clone(),
            role: role.clone(),
            path,
        };
        let fields = self.reads.get(key.clone(), || self.read(&key)).await?;
        let Some(fields) = fields.as_ref() else {
            return Ok(Resolution::Missing(Missing {
                context: "getting secret: ",
                notes: vec![format!("there is nothing at {}", key.path.as_str())],
                ..Missing::at(Step::Path)
            }));
        };
        let field = &secret.field;
        let Some(raw) = fields.get(field) else {
            let text = format!("field {field:?} not found in secret");
            return Err(Failure::system(text).within(GETTING).at(Step::Field));
        };
        let kind = match raw.get().as_bytes().first() {
            Some(b'"') => match crate::vault::text_of(raw) {
                Some(value) => return Ok(Resolution::Value(value)),
                None => "string",
            },
            Some(b'{') => "map[string]interface {}",
            Some(b'[') => "[]interface {}",
            Some(b't' | b'f') => "bool",
            Some(b'n') => "<nil>",
            _ => "json.Number",
        };
        let text = format!("field {field:?} has invalid type {kind} (expected string)");
        Err(Failure::system(text).within(GETTING).at(Step::Field))
    }

    async fn read(&self, key: &Key) -> Result<Option<Fields>, Failure> {
        let server = Server::new(&self.session, &key.url).await;
        let server = server.map_err(|failure| failure.within(CREATING))?;
        server
            .check_allowed(&self.session)
            .map_err(|failure| failure.within(CREATING))?;
        let login = server.refuse_certificate_login(&key.login);
        login.map_err(|failure| failure.within(CREATING))?;
        let call = server.call(Method::GET, key.path.as_str(), "");
        let call = call.map_err(|failure| failure.within(READING))?;
        let parameter = |name: &str, value: &str| {
            let object = json!({"key": name, "value": value});
            BASE64_URL_SAFE_NO_PAD.encode(object.to_string())
        };
        let call = call
            .secret_header(AUTH_PATH, &key.login)
            .secret_header(JWT, &parameter("jwt", key.jwt.expose()))
            .secret_header(ROLE, &parameter("role", &key.role));
        let call = match server.no_certificate_role() {
            Some((name, value)) => call.secret_header(NAME, &parameter(name, value)),
            None => call,
        };
        server.hide(&key.jwt);
        let reply = server.send(call, Repeat::Always).await;
        let reply = reply.map_err(|failure| failure.within(READING))?;
        let not_logged_in = reply.headers.contains_key("x-vault-inline-auth-failed");
        if !reply.status.is_success()
            && (reply.status != http::StatusCode::NOT_FOUND || not_logged_in)
        {
            let step = match not_logged_in {
                true => step_of_login(&reply, &key.jwt),
                false => step_of_read(&reply),
            };
            let mut failure = api_failure(&reply, Repeat::Always).within(READING).at(step);
            // Upstream counts all of them so.
            failure.class = FailureClass::System;
            return Err(failure);
        }
        crate::vault::fields(&reply, &key.path)
            .map_err(|failure| failure.within(READING).at(Step::Read))
    }
}
