//! Vault and OpenBao (`secrets.md` 5): one login a server, namespace, method, role and token; one read a path; both as
//! many side by side as there are.

mod advice;
mod answer;
mod login;
mod server;

use std::sync::Arc;

use courser_protocol::Secret;
use courser_protocol::secrets::{VaultEngine, VaultSecret};
use http::Method;

use crate::exchange::{Repeat, Reply};
use crate::refusal::step_of_read;
use crate::resolve::{Missing, Resolution};
use crate::session::Session;
use crate::shared::Shared;
use crate::{Failure, FailureClass, Step};
pub(crate) use advice::step_of_login;
use answer::Content;
pub(crate) use answer::{Fields, text_of};
use login::{Login, LoginKey, Token};
pub(crate) use server::{Certificate, Server, TOKEN, api_failure, clean, error_list, without_user};

const READING: &str = "reading secret: reading from Vault";

/// The secrets of one job at Vault and OpenBao.
pub(crate) struct Vault {
    session: Arc<Session>,
    logins: Shared<LoginKey, Login>,
    reads: Shared<(LoginKey, Path), Content>,
}

/// What is read, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Path {
    /// Below `/v1/`.
    path: String,
    engine: Engine,
}

/// How an engine answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Engine {
    /// Versions: the data lies in the data.
    KvV2,
    /// Reading it twice is the same.
    KvV1,
    /// Each read may make something new.
    Generic,
}

impl Path {
    /// The path of a secret. An engine without a name that is known is refused before anything is asked; that failure
    /// has the words of `finding` before it.
    pub(crate) fn of(engine: &VaultEngine, path: &str, finding: &str) -> Result<Self, Failure> {
        let kind = match engine.name.as_str() {
            "kv-v2" => Engine::KvV2,
            "kv-v1" => Engine::KvV1,
            "generic" => Engine::Generic,
            other => {
                return Err(Failure::system(format!(
                    "factory for secret engine {other:?} is not registered"
                ))
                .advise("write kv-v2, kv-v1 or generic as engine:name")
                .within(finding));
            }
        };
        let middle = if kind == Engine::KvV2 { "data" } else { "" };
        let path = clean(&[&engine.path, middle, path])?;
        Ok(Self { path, engine: kind })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.path
    }

    /// Whether its data may come with a lease.
    fn may_lend(&self) -> bool {
        self.engine != Engine::KvV2
    }

    fn repeat(&self) -> Repeat {
        match self.engine {
            Engine::KvV2 | Engine::KvV1 => Repeat::Always,
            Engine::Generic => Repeat::WhenNotProcessed,
        }
    }
}

impl Vault {
    pub(crate) fn new(session: &Arc<Session>) -> Self {
        Self {
            session: Arc::clone(session),
            logins: Shared::new(session),
            reads: Shared::new(session),
        }
    }

    /// Fetches one secret.
    pub(crate) async fn get(&self, secret: &VaultSecret) -> Result<Resolution, Failure> {
        let key = LoginKey::of(&secret.server)?;
        let path = Path::of(
            &secret.engine,
            &secret.path,
            "requesting SecretEngine factory",
        )?;
        let content = self
            .reads
            .get((key.clone(), path.clone()), || self.read(&key, &path));
        let content = content.await?;
        match content.field(&secret.field) {
            Some(value) => Ok(Resolution::Value(value)),
            None => Ok(Resolution::Missing(Missing {
                notes: content.notes_on(path.as_str(), &secret.field),
                ..Missing::at(content.lacking())
            })),
        }
    }

    async fn read(&self, key: &LoginKey, path: &Path) -> Result<Content, Failure> {
        let login = self
            .logins
            .get(key.clone(), || Login::new(&self.session, key));
        let login = login.await?;
        let mut renewed = false;
        loop {
            let token = login.token(&self.session).await?;
            let call = login
                .server()
                .call(Method::GET, path.as_str(), &key.namespace);
            let call = call.map_err(|failure| failure.within(READING))?;
            let call = call.secret_header(TOKEN, token.secret().expose());
            // What comes of it ends with its token, which therefore outlives the request.
            let _asking = path
                .may_lend()
                .then(|| self.session.leases.ask(&key.url, Some(token.secret())));
            let reply = login.server().send(call, path.repeat()).await;
            let reply = reply.map_err(|failure| failure.within(READING).at(Step::Read))?;
            if reply.status == http::StatusCode::FORBIDDEN && !renewed && token.may_have_ended() {
                login.forget(&token).await;
                renewed = true;
                continue;
            }
            return self.judge(&reply, &token, path);
        }
    }

    fn judge(&self, reply: &Reply, token: &Token, path: &Path) -> Result<Content, Failure> {
        if reply.status == http::StatusCode::FORBIDDEN {
            let failure = api_failure(reply, path.repeat())
                .within(READING)
                .at(step_of_read(reply));
            return Err(match failure.step {
                Step::Policy => failure.advise(advice::policy_line(path)),
                _ => failure,
            });
        }
        let content = Content::read(reply, path).map_err(|fault| {
            let context = if matches!(fault, answer::Fault::NoObject) {
                "reading secret"
            } else {
                READING
            };
            fault.of(reply, path).within(context).at(Step::Read)
        })?;
        if let Some(lease) = content.lease() {
            self.session.leases.leased(token.secret(), lease);
        }
        Ok(content)
    }
}

/// The fields of an answer as they came; nothing where there is no data.
pub(crate) fn fields(reply: &Reply, path: &Path) -> Result<Option<Fields>, Failure> {
    answer::fields(reply, path).map_err(|fault| fault.of(reply, path))
}

/// A key that must be there, of what a login sends.
fn required(data: &courser_protocol::secrets::VaultAuthData, key: &str) -> Result<Secret, Failure> {
    data.get(key).cloned().ok_or_else(|| {
        let text = format!(
            "initializing Vault service: preparing authenticated client: initializing auth method adapter: filtering auth method \
             configuration: missing required auth method configuration key {key:?}"
        );
        Failure::new(FailureClass::System, text)
    })
}
