//! The Vault or OpenBao that the environment names, asked as whoever has the token in it.

use std::time::Duration;

use bytes::Bytes;
use courser_net::{Body, Call, Client, ClientSettings, Retry, Timeouts};
use http::{HeaderName, Method};
use serde_json::Value;
use url::Url;

use crate::failure::{Code, Failure};
use crate::session::Session;
use crate::version;

/// Bytes of an answer that are read.
const LARGEST: usize = 1 << 20;
/// For one call.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server with somebody's token.
pub(crate) struct VaultServer {
    client: Client,
    pub(crate) address: Url,
    token: String,
    namespace: Option<String>,
}

impl VaultServer {
    /// That of `VAULT_ADDR`, with `VAULT_TOKEN` and `VAULT_NAMESPACE`; `BAO_*` come first. `what` needs it.
    pub(crate) fn of(session: &Session, what: &str) -> Result<Self, Failure> {
        let variables = &session.environment.variables;
        let given = |suffix: &str| {
            let named = ["BAO", "VAULT"].map(|prefix| variables.get(&format!("{prefix}_{suffix}")));
            named
                .into_iter()
                .flatten()
                .find(|text| !text.is_empty())
                .map(str::to_owned)
        };
        let missing = |suffix: &str| {
            Failure::new(
                Code::Usage,
                format!("{what} needs VAULT_{suffix} (or BAO_{suffix})"),
            )
        };
        let address = given("ADDR").ok_or_else(|| missing("ADDR"))?;
        let address = Url::parse(&address)
            .map_err(|error| Failure::new(Code::Usage, format!("VAULT_ADDR: {error}")))?;
        let client = Client::new(ClientSettings {
            trust: session.environment.legs().secrets().trust,
            proxy: session.environment.proxy.clone(),
            user_agent: version::user_agent(),
            connection_max_age: Duration::ZERO,
        });
        Ok(Self {
            client,
            address,
            token: given("TOKEN").ok_or_else(|| missing("TOKEN"))?,
            namespace: given("NAMESPACE"),
        })
    }

    /// The same in another namespace; empty: in none.
    pub(crate) fn in_namespace(self, namespace: &str) -> Self {
        let namespace = namespace.trim_matches('/');
        Self {
            namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
            ..self
        }
    }

    /// `None`: there is nothing.
    pub(crate) async fn read(&self, path: &str) -> Result<Option<Value>, Failure> {
        let (status, body) = self.ask(Method::GET, path, None).await?;
        match status {
            200 => Ok(Some(body)),
            404 => Ok(None),
            _ => Err(self.refused(path, status, &body)),
        }
    }

    pub(crate) async fn write(&self, path: &str, value: &Value) -> Result<(), Failure> {
        let (status, body) = self.ask(Method::POST, path, Some(value)).await?;
        match status {
            200..=299 => Ok(()),
            _ => Err(self.refused(path, status, &body)),
        }
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<(), Failure> {
        let (status, body) = self.ask(Method::DELETE, path, None).await?;
        match status {
            200..=299 => Ok(()),
            _ => Err(self.refused(path, status, &body)),
        }
    }

    fn refused(&self, path: &str, status: u16, body: &Value) -> Failure {
        let errors = body["errors"].as_array().into_iter().flatten();
        let errors: Vec<&str> = errors.filter_map(Value::as_str).map(str::trim).collect();
        let text = format!("{} at {path}: {status} {}", self.address, errors.join("; "));
        Failure::new(Code::Surroundings, text)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        value: Option<&Value>,
    ) -> Result<(u16, Value), Failure> {
        let mut url = self.address.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/v1/{path}"));
        let mut call = Call::new(method, url)
            .secret_header(HeaderName::from_static("x-vault-token"), &self.token);
        if let Some(namespace) = &self.namespace {
            call = call.secret_header(HeaderName::from_static("x-vault-namespace"), namespace);
        }
        if let Some(value) = value {
            call.body = Body::Bytes(Bytes::from(value.to_string()), "application/json");
        }
        call.retry = Retry::Never;
        call.timeouts = Timeouts {
            response_header: PATIENCE,
            total: PATIENCE,
        };
        let failed = |error| Failure::from_error(Code::Surroundings, &error);
        let answer = self.client.send(call).await.map_err(failed)?;
        let status = answer.status.as_u16();
        let body = answer.bytes(LARGEST).await.map_err(failed)?;
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }
}
