//! Logging in with an ID token: the tokens of one role, made when they are needed.

use std::sync::atomic::Ordering;
use std::time::Duration;

use courser_protocol::Secret;
use courser_protocol::secrets::VaultServer;
use http::Method;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::server::{Server, api_failure, clean};
use super::{advice, required};
use crate::exchange::{Repeat, Reply};
use crate::leases::{Asking, Obtained};
use crate::session::Session;
use crate::{Failure, Step};

const PREPARING: &str = "initializing Vault service: preparing authenticated client";
const WRITING: &str = "authenticating Vault client: writing to Vault";
/// How long before its end a token is not used any more.
const MARGIN: Duration = Duration::from_secs(2);

/// Who logs in where: secrets with the same key share tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LoginKey {
    pub(super) url: String,
    pub(super) namespace: String,
    mount: String,
    role: Option<String>,
    jwt: Secret,
}

impl LoginKey {
    pub(super) fn of(server: &VaultServer) -> Result<Self, Failure> {
        let auth = &server.auth;
        if auth.name != "jwt" {
            let text = format!("factory for auth method {:?} is not registered", auth.name);
            return Err(Failure::system(text)
                .within("initializing auth method factory")
                .within(PREPARING));
        }
        let jwt = required(&auth.data, "jwt")?;
        let role = auth.data.get("role").map(|role| role.expose().to_owned());
        Ok(Self {
            url: server.url.clone(),
            namespace: server.namespace.trim_matches('/').to_owned(),
            mount: auth.path.clone(),
            role,
            jwt,
        })
    }
}

/// The tokens of one key.
pub(crate) struct Login {
    key: LoginKey,
    server: Server,
    path: String,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    token: Option<(Token, Uses)>,
    /// A login that failed is not tried again, but in another attempt and if it may pass; with the attempt's number.
    failure: Option<(Failure, u32)>,
}

/// How many requests a token is still good for.
#[derive(Debug, Clone, Copy)]
enum Uses {
    Any,
    Left(u64),
}

/// A token. Copies are the same token.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    secret: Secret,
    ends: Option<Instant>,
    is_counted: bool,
}

impl Token {
    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Whether a refusal may mean that it is used up or over, not that it may not do this.
    pub(super) fn may_have_ended(&self) -> bool {
        self.is_counted || self.ends.is_some_and(|end| Instant::now() + MARGIN >= end)
    }
}

/// What of the answer to a login counts.
#[derive(Deserialize, Default)]
#[serde(default)]
struct LoginAnswer {
    auth: Option<Auth>,
    data: Option<LoginData>,
}

/// What stands beside the token is read as far as it makes sense: the token is there, and has to be given back.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    client_token: Option<Secret>,
    #[serde(deserialize_with = "number")]
    lease_duration: u64,
    #[serde(deserialize_with = "text")]
    token_type: String,
    #[serde(deserialize_with = "number")]
    num_uses: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct LoginData {
    id: Option<Secret>,
}

/// A number, also one that is written as a text; 0 for anything else.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Number(number) => number.as_u64().unwrap_or_default(),
        Value::String(text) => text.trim().parse().unwrap_or_default(),
        _ => 0,
    })
}

/// A text; empty for anything else.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => text,
        _ => String::new(),
    })
}

impl Login {
    /// Asks nothing yet.
    pub(super) async fn new(session: &Session, key: &LoginKey) -> Result<Self, Failure> {
        let preparing = |failure: Failure| failure.within(PREPARING);
        let server = Server::new(session, &key.url).await.map_err(preparing)?;
        server.check_allowed(session).map_err(preparing)?;
        let path = clean(&["auth", &key.mount, "login"]).map_err(preparing)?;
        server.refuse_certificate_login(&path).map_err(preparing)?;
        Ok(Self {
            key: key.clone(),
            server,
            path,
            current: Mutex::default(),
        })
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// A token for one request: the one that is there, or a new one.
    pub(super) async fn token(&self, session: &Session) -> Result<Token, Failure> {
        let mut current = self.current.lock().await;
        let attempt = session.attempt().load(Ordering::Relaxed);
        if let Some((failure, then)) = &current.failure
            && (*then == attempt || !failure.is_transient)
        {
            return Err(failure.clone());
        }
        if let Some((token, uses)) = &mut current.token
            && token.ends.is_none_or(|end| Instant::now() + MARGIN < end)
        {
            match uses {
                Uses::Any => return Ok(token.clone()),
                Uses::Left(0) => {}
                Uses::Left(left) => {
                    *left -= 1;
                    return Ok(token.clone());
                }
            }
        }
        match self.log_in(session).await {
            Ok((token, uses)) => {
                let uses = match uses {
                    Uses::Any => Uses::Any,
                    Uses::Left(left) => Uses::Left(left.saturating_sub(1)),
                };
                current.token = Some((token.clone(), uses));
                Ok(token)
            }
            Err(failure) => {
                let failure = failure.within(PREPARING);
                current.failure = Some((failure.clone(), attempt));
                Err(failure)
            }
        }
    }

    /// The server does not take this token any more.
    pub(super) async fn forget(&self, token: &Token) {
        let mut current = self.current.lock().await;
        if let Some((known, _)) = &current.token
            && known.secret == token.secret
        {
            current.token = None;
        }
    }

    async fn log_in(&self, session: &Session) -> Result<(Token, Uses), Failure> {
        let key = &self.key;
        let mut body = json!({"jwt": key.jwt.expose()});
        if let Some(role) = &key.role {
            body["role"] = role.as_str().into();
        }
        if let Some((parameter, value)) = self.server.no_certificate_role() {
            body[parameter] = value.into();
        }
        let call = self.server.call(Method::PUT, &self.path, &key.namespace);
        let call = call.map_err(|failure| failure.within(WRITING))?;
        let call = Server::with_json(call, body.to_string().into_bytes());
        self.server.hide(&key.jwt);
        // Before it is sent: whoever gives the job up waits for the answer, or can tell that there was none.
        let asking = session.leases.ask(self.server.url(), None);
        let sent = self.server.send(call, Repeat::Always).await;
        let auth = sent
            .as_ref()
            .map_err(|failure| failure.clone().within(WRITING))
            .and_then(|reply| self.judge(reply));
        let may_be_processed = match &sent {
            Ok(reply) => reply.may_be_processed || (reply.status.is_success() && auth.is_err()),
            Err(failure) => failure.may_be_processed,
        };
        if may_be_processed {
            asking.lost();
        }
        let (token, auth) = auth?;
        Ok(self.obtained(session, asking, token, &auth))
    }

    /// The token that an answer brings.
    fn judge(&self, reply: &Reply) -> Result<(Secret, Auth), Failure> {
        let key = &self.key;
        let no_result = || {
            Failure::system("getting token from the authentication response: no result from Vault")
                .at(Step::LogIn)
                .within("authenticating Vault client")
        };
        let no_json = |text| Failure::system(text).within(WRITING).at(Step::LogIn);
        let is_blank = reply.body.iter().all(u8::is_ascii_whitespace);
        if !reply.status.is_success() {
            // A page that says 404 is no answer of Vault's; an empty one is (`secrets.md` 5.1).
            if reply.status == http::StatusCode::NOT_FOUND && !reply.body.is_empty() {
                if is_blank {
                    return Err(no_result());
                }
                super::answer::json::<IgnoredAny>(reply).map_err(no_json)?;
            }
            let failure = advice::of_login(
                api_failure(reply, Repeat::Always),
                reply,
                &key.jwt,
                &key.mount,
            );
            return Err(failure.within(WRITING));
        }
        if is_blank {
            return Err(no_result());
        }
        let answer: LoginAnswer = super::answer::json(reply).map_err(no_json)?;
        let mut auth = match answer {
            LoginAnswer {
                auth: Some(auth), ..
            } => auth,
            LoginAnswer {
                data: Some(data), ..
            } => Auth {
                client_token: data.id,
                ..Auth::default()
            },
            _ => Auth::default(),
        };
        match auth.client_token.take() {
            Some(token) if !token.is_empty() => Ok((token, auth)),
            _ => Err(no_result()),
        }
    }

    fn obtained(
        &self,
        session: &Session,
        asking: Asking,
        secret: Secret,
        auth: &Auth,
    ) -> (Token, Uses) {
        let lives = Duration::from_secs(auth.lease_duration);
        let now = (session.surroundings.ambience.now)();
        let expires = match auth.lease_duration {
            0 => 0,
            seconds => now
                .as_second()
                .saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX)),
        };
        // Before it is used: whoever ends this process now leaves a token that is known.
        asking.obtained(Obtained {
            server: self.server.url().to_owned(),
            namespace: self.key.namespace.clone(),
            token: secret.clone(),
            batch: auth.token_type == "batch",
            expires,
            leases: Vec::new(),
        });
        let token = Token {
            secret,
            ends: (!lives.is_zero())
                .then(|| Instant::now().checked_add(lives))
                .flatten(),
            is_counted: auth.num_uses > 0,
        };
        // The last use ends a token and the leases made with it: it is left for the revocation.
        let uses = match auth.num_uses {
            0 => Uses::Any,
            1 => Uses::Left(1),
            more => Uses::Left(more - 1),
        };
        (token, uses)
    }
}
