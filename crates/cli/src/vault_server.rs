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
        let mut call = Call::new(method, place(&self.address, path)?)
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

/// The URL of `path`, which a pipeline's file may have given: it stays below what it is written after, as it stands.
fn place(address: &Url, path: &str) -> Result<Url, Failure> {
    // A URL drops some control characters, and then takes what is left for a parent.
    let leads_away =
        |segment: &str| matches!(segment, "." | "..") || segment.contains(char::is_control);
    let mut url = address.clone();
    url.set_query(None);
    url.set_fragment(None);
    match url.path_segments_mut() {
        Ok(mut segments) if !path.split('/').any(leads_away) => {
            let below = ["v1"].into_iter().chain(path.split('/'));
            segments.pop_if_empty().extend(below);
        }
        _ => {
            let text = format!("{path:?} is no path of {address}");
            return Err(Failure::new(Code::Usage, text));
        }
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_where_it_is_written() {
        let address = Url::parse("https://vault.example:8200/prefix/?a=b#c").expect("a URL");
        for (path, sent) in [
            ("auth/jwt/role/app", "auth/jwt/role/app"),
            ("auth/a b/ü", "auth/a%20b/%C3%BC"),
            (
                "auth/jwt/role/a?list=true#x",
                "auth/jwt/role/a%3Flist=true%23x",
            ),
            (
                "auth/jwt/role/%2e%2e/.%2E/x",
                "auth/jwt/role/%252e%252e/.%252E/x",
            ),
        ] {
            let url = place(&address, path).map(String::from);
            let sent = format!("https://vault.example:8200/prefix/v1/{sent}");
            assert_eq!(url.ok(), Some(sent), "{path:?}");
        }
        let url = place(&address, "auth/jwt/role/..\\..\\..\\sys").expect("a path");
        assert_eq!(url.path_segments().map(Iterator::count), Some(6), "{url}");
        for path in ["auth/../x", "a/./b", "a/.\t./b", "a/.\n.", ".", "a\u{85}b"] {
            assert!(place(&address, path).is_err(), "{path:?}");
        }
    }
}
