//! A Vault that can be made to misbehave: kv-v2 with logins by JWT, or by headers of the request as GitLab Secrets
//! Manager has it. It believes any token; a real OpenBao is the judge of those ([`crate::servers::OpenBao`]).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Cloud, Faults, Listening, is_for};
use crate::http_message::Request;
use crate::pki::Issued;
use crate::server::Reply;

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
pub type Vault = Listening<Mount>;

/// A server with one mount.
pub struct Mount {
    faults: Faults<Step>,
    data: BTreeMap<String, Value>,
}

impl Vault {
    /// Its name.
    pub const NAME: &str = "vault.example.com";

    /// Starts it with a certificate for [`Self::NAME`], and the data of paths below the mount `ops`.
    pub fn start(leaf: &Issued, data: BTreeMap<String, Value>) -> Self {
        let faults = Faults::default();
        Self::over_tls(leaf, Mount { faults, data })
    }
}

impl Cloud for Mount {
    type Step = Step;

    fn faults(&self) -> &Faults<Step> {
        &self.faults
    }

    fn hosts(&self) -> Vec<String> {
        vec![Vault::NAME.to_owned()]
    }

    fn answer(&self, request: &Request) -> Reply {
        let errors = |status, text: &str| Reply::json(status, &json!({"errors": [text]}));
        let path = request.path.as_str();
        match (request.method.as_str(), path) {
            _ if !is_for(request, &[Vault::NAME]) => errors(404, "not this host"),
            ("PUT" | "POST", "/v1/auth/jwt/login") => self.faults.take(Step::Login).unwrap_or_else(|| {
                Reply::json(
                    200,
                    &json!({"auth": {"client_token": TOKEN, "token_type": "service", "lease_duration": 3600, "num_uses": 0}}),
                )
            }),
            ("GET", path) if path.starts_with("/v1/ops/data/") => {
                self.faults.take(Step::Read).unwrap_or_else(|| {
                    let inline = request.headers.contains_key("x-vault-inline-auth-path");
                    if request.header("x-vault-token") != TOKEN && !inline {
                        return errors(403, "permission denied");
                    }
                    match path.strip_prefix("/v1/ops/data/").and_then(|path| self.data.get(path)) {
                        Some(data) => content(data),
                        None => Reply::json(404, &json!({"errors": []})),
                    }
                })
            }
            _ => errors(404, "unsupported path"),
        }
    }
}

/// The answer with this data.
pub fn content(data: &Value) -> Reply {
    Reply::json(
        200,
        &json!({"lease_id": "", "lease_duration": 0, "data": {"data": data, "metadata": {"version": 1}}}),
    )
}
