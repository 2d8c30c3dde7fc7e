//! A Vault that can be made to misbehave: kv-v2 with logins by JWT, or by headers of the request as GitLab Secrets
//! Manager has it. It believes any token; a real OpenBao is the judge of those ([`crate::servers::OpenBao`]).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Faults, is_for};
use crate::http_message::Request;
use crate::pki::Issued;
use crate::server::{FakeServer, Reply};

const TOKEN: &str = "s.fake-vault-token";

/// A request that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `PUT /v1/auth/jwt/login`.
    Login,
    /// `GET /v1/ops/data/…`.
    Read,
}

/// A running fake.
pub struct Vault {
    server: FakeServer,
    faults: Arc<Faults<Step>>,
}

impl Vault {
    /// Its name.
    pub const NAME: &str = "vault.example.com";

    /// Starts it with a certificate for [`Self::NAME`], and the data of paths below the mount `ops`.
    pub fn start(leaf: &Issued, data: BTreeMap<String, Value>) -> Self {
        let faults = Arc::<Faults<Step>>::default();
        let shared = Arc::clone(&faults);
        Self {
            server: FakeServer::https(leaf, move |request| answer(request, &shared, &data)),
            faults,
        }
    }

    /// `host:port`s that lead here.
    pub fn routes(&self) -> Vec<(String, SocketAddr)> {
        vec![(format!("{}:443", Self::NAME), self.server.address())]
    }

    /// Answers the next requests of a step so.
    pub fn next(&self, step: Step, replies: Vec<Reply>) {
        self.faults.queue(step, replies);
    }

    /// Answers all requests of a step so.
    pub fn always(&self, step: Step, reply: Reply) {
        self.faults.keep(step, reply);
    }

    /// What was received.
    pub fn requests(&self) -> Vec<Request> {
        self.server.requests()
    }
}

fn answer(request: &Request, faults: &Faults<Step>, data: &BTreeMap<String, Value>) -> Reply {
    let errors = |status, text: &str| Reply::json(status, &json!({"errors": [text]}));
    let path = request.path.as_str();
    match (request.method.as_str(), path) {
        _ if !is_for(request, &[Vault::NAME]) => errors(404, "not this host"),
        ("PUT" | "POST", "/v1/auth/jwt/login") => faults.take(Step::Login).unwrap_or_else(|| {
            Reply::json(
                200,
                &json!({"auth": {"client_token": TOKEN, "token_type": "service", "lease_duration": 3600, "num_uses": 0}}),
            )
        }),
        ("GET", path) if path.starts_with("/v1/ops/data/") => {
            faults.take(Step::Read).unwrap_or_else(|| {
                let inline = request.headers.contains_key("x-vault-inline-auth-path");
                if request.header("x-vault-token") != TOKEN && !inline {
                    return errors(403, "permission denied");
                }
                match path.strip_prefix("/v1/ops/data/").and_then(|path| data.get(path)) {
                    Some(data) => content(data),
                    None => Reply::json(404, &json!({"errors": []})),
                }
            })
        }
        _ => errors(404, "unsupported path"),
    }
}

/// The answer with this data.
pub fn content(data: &Value) -> Reply {
    Reply::json(
        200,
        &json!({"lease_id": "", "lease_duration": 0, "data": {"data": data, "metadata": {"version": 1}}}),
    )
}
