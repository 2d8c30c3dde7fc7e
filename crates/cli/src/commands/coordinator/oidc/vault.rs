//! Vault and OpenBao: the commands that make them trust the issuer, or doing it (`secrets.md` 11).
//!
//! A role always binds issuer and project. What is there of another issuer is left alone.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use courser_net::{Body, Call, Client, ClientSettings, Retry, Timeouts};
use http::{HeaderName, Method};
use serde_json::{Value, json};
use url::Url;

use super::clouds::quoted;
use super::{Subject, Trust};
use crate::failure::{Code, Failure};
use crate::session::Session;
use crate::stdout::print_text;
use crate::version;

/// Bytes of an answer that are read.
const LARGEST: usize = 1 << 20;
/// For one call.
const PATIENCE: Duration = Duration::from_secs(30);

/// Arguments of `vault`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where the JWT method is mounted (VAULT_AUTH_PATH)
    #[arg(long, value_name = "PATH", default_value = "jwt")]
    mount: String,
    /// Role [default: the project's path with dashes]
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// Policy of the role's tokens
    #[arg(long = "policy", value_name = "NAME")]
    policies: Vec<String>,
    /// Claim that the role binds, too, such as ref=main
    #[arg(long = "bind", value_name = "NAME=VALUE", value_parser = super::parse_pair)]
    bound: Vec<(String, String)>,
    /// Write method and role to the server that VAULT_ADDR names, with VAULT_TOKEN (and VAULT_NAMESPACE,
    /// VAULT_CACERT, ...; BAO_* come first)
    #[arg(long)]
    write: bool,
}

impl Arguments {
    pub(super) async fn run(&self, subject: &Subject, session: &Session) -> Result<(), Failure> {
        if self.write {
            return self.write(subject, session).await;
        }
        print_text(&self.commands(subject)?)
    }

    fn role_name(&self, subject: &Subject) -> String {
        self.role
            .clone()
            .unwrap_or_else(|| subject.project.replace('/', "-"))
    }

    fn role(&self, subject: &Subject, audience: &str) -> Value {
        let mut bound: serde_json::Map<String, Value> = ["iss", "project_path"]
            .map(|name| (name.to_owned(), subject.claim(name).into()))
            .into_iter()
            .collect();
        for (name, value) in &self.bound {
            bound.insert(name.clone(), value.as_str().into());
        }
        json!({
            "role_type": "jwt", "user_claim": "project_path", "bound_audiences": [audience],
            "bound_claims": bound, "token_policies": self.policies, "token_explicit_max_ttl": 3600,
        })
    }

    fn commands(&self, subject: &Subject) -> Result<String, Failure> {
        let (mount, role) = (&self.mount, self.role_name(subject));
        let issuer = quoted(subject.issuer.as_str());
        let configuration = match &subject.trust {
            Trust::Discovery(authority) => {
                let authority = authority.as_ref().map_or_else(String::new, |path| {
                    let path = quoted(&path.display().to_string());
                    format!(" \\\n  oidc_discovery_ca_pem=@{path}")
                });
                format!(
                    "# Vault asks the issuer for its keys, now and later.
vault write auth/{mount}/config oidc_discovery_url={issuer} bound_issuer={issuer}{authority}
"
                )
            }
            Trust::Keys => format!(
                "# Vault is given the key: it asks nobody. Again after a rotation.
vault write auth/{mount}/config bound_issuer={issuer} jwt_validation_pubkeys=- <<'PEM'
{}PEM
",
                subject.key()?.pem()
            ),
        };
        let definition = serde_json::to_string_pretty(&self.role(subject, subject.audience()))
            .unwrap_or_default();
        Ok(format!(
            "vault auth enable -path={mount} jwt
{configuration}vault write auth/{mount}/role/{role} - <<'JSON'
{definition}
JSON

# A policy of kv-v2 names data/: path \"MOUNT/data/PATH\" {{ capabilities = [\"read\"] }}
# .gitlab-ci.yml
#   id_tokens: {{VAULT_ID_TOKEN: {{aud: {audience}}}}}
#   secrets: {{PASSWORD: {{vault: PATH/FIELD@MOUNT, token: $VAULT_ID_TOKEN}}}}
# CI/CD variables
#   VAULT_SERVER_URL=https://...
#   VAULT_AUTH_ROLE={role}
#   VAULT_AUTH_PATH={mount}
",
            role = quoted(&role),
            mount = quoted(mount),
            audience = subject.audience(),
        ))
    }

    async fn write(&self, subject: &Subject, session: &Session) -> Result<(), Failure> {
        let server = Server::of(session)?;
        let (mount, role) = (&self.mount, self.role_name(subject));
        let audience = match &subject.audience {
            Some(audience) => audience.clone(),
            None => server.address.as_str().trim_end_matches('/').to_owned(),
        };
        let mut done = Vec::new();
        let issuer = subject.issuer.as_str();
        let configuration = format!("auth/{mount}/config");
        let methods = server.read("sys/auth").await?.unwrap_or_default();
        let method = &methods["data"][format!("{mount}/")]["type"];
        match method.as_str() {
            None => {
                server
                    .write(&format!("sys/auth/{mount}"), &json!({"type": "jwt"}))
                    .await?;
                done.push(format!("enabled the JWT method at auth/{mount}"));
            }
            Some("jwt" | "oidc") => {}
            Some(other) => {
                let text = format!("auth/{mount} is of type {other:?}, and not jwt");
                return Err(Failure::invalid(text).hint("choose another place: --mount PATH"));
            }
        }
        if let Some(found) = server.read(&configuration).await? {
            let found = &found["data"];
            let text = |key: &str| found[key].as_str().filter(|text| !text.is_empty());
            let others = ["bound_issuer", "oidc_discovery_url", "jwks_url"].map(text);
            let is_ours = |text: &str| text == issuer || text.starts_with(&format!("{issuer}/"));
            if let Some(other) = others.into_iter().flatten().find(|text| !is_ours(text)) {
                let text =
                    format!("auth/{mount} trusts another issuer, {other}, and is left as it is");
                return Err(Failure::invalid(text)
                    .hint("choose another place, and set VAULT_AUTH_PATH to it: --mount courser"));
            }
        }
        let mut trust = json!({"bound_issuer": issuer});
        match &subject.trust {
            Trust::Discovery(authority) => {
                trust["oidc_discovery_url"] = issuer.into();
                if let Some(authority) = authority {
                    trust["oidc_discovery_ca_pem"] = text_of(authority)?.into();
                }
            }
            Trust::Keys => {
                let keys: Vec<String> = subject.keys()?.iter().map(|key| key.pem()).collect();
                trust["jwt_validation_pubkeys"] = keys.into();
            }
        }
        server.write(&configuration, &trust).await?;
        done.push(format!("auth/{mount} trusts {issuer}"));
        let path = format!("auth/{mount}/role/{role}");
        if let Some(found) = server.read(&path).await? {
            let bound = &found["data"]["bound_claims"];
            if bound["iss"] != subject.claim("iss")
                || bound["project_path"] != subject.claim("project_path")
            {
                let text = format!(
                    "role {role:?} of auth/{mount} is another project's, and is left as it is"
                );
                return Err(Failure::invalid(text).hint("choose another name: --role NAME"));
            }
        }
        server.write(&path, &self.role(subject, &audience)).await?;
        done.push(format!(
            "role {role} admits jobs of {} with aud {audience}",
            subject.claim("project_path")
        ));
        if self.policies.is_empty() {
            done.push("its tokens have no policy yet: --policy NAME".to_owned());
        }
        print_text(&(done.join("\n") + "\n"))
    }
}

fn text_of(path: &Path) -> Result<String, Failure> {
    let named = |error| Failure::invalid(format!("{}: {error}", path.display()));
    std::fs::read_to_string(path).map_err(named)
}

/// A server that is written to, as the environment names it.
struct Server {
    client: Client,
    address: Url,
    token: String,
    namespace: Option<String>,
}

impl Server {
    fn of(session: &Session) -> Result<Self, Failure> {
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
                format!("--write needs VAULT_{suffix} (or BAO_{suffix})"),
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

    /// `None`: there is nothing.
    async fn read(&self, path: &str) -> Result<Option<Value>, Failure> {
        let (status, body) = self.ask(Method::GET, path, None).await?;
        match status {
            200 => Ok(Some(body)),
            404 => Ok(None),
            _ => Err(self.refused(path, status, &body)),
        }
    }

    async fn write(&self, path: &str, value: &Value) -> Result<(), Failure> {
        let (status, body) = self.ask(Method::POST, path, Some(value)).await?;
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
