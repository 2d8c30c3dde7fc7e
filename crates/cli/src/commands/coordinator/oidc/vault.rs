//! Vault and OpenBao: the commands that make them trust the issuer, or doing it (`secrets.md` 11).
//!
//! A role always binds issuer and project. What is there of another issuer is left alone; of this one it is only
//! added to.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::clouds::{commented, quoted};
use super::{Publishing, Subject, Trust};
use crate::failure::Failure;
use crate::session::Session;
use crate::stdout::print_text;
use crate::vault_server::VaultServer;

/// Claims that every role binds, to what issuer and project are.
const ALWAYS_BOUND: [&str; 2] = ["iss", "project_path"];

/// Arguments of `vault`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where the JWT method is mounted (VAULT_AUTH_PATH)
    #[arg(long, value_name = "PATH", default_value = "jwt", value_parser = parse_mount)]
    mount: String,
    /// Role [default: the project's path with dashes]
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// Policy of the role's tokens
    #[arg(long = "policy", value_name = "NAME")]
    policies: Vec<String>,
    /// Claim that the role binds, too, such as ref=main
    #[arg(long = "bind", value_name = "NAME=VALUE", value_parser = parse_bound)]
    bound: Vec<(String, String)>,
    /// Write method and role to the server that VAULT_ADDR names, with VAULT_TOKEN (and VAULT_NAMESPACE,
    /// VAULT_CACERT, ...; BAO_* come first); what is there of this issuer and project is added to
    #[arg(long)]
    write: bool,
    /// Keys that the method already has for this issuer are no longer trusted
    #[arg(long, requires = "write")]
    replace_keys: bool,
}

fn parse_mount(text: &str) -> Result<String, &'static str> {
    match text.trim_matches('/') {
        "" => Err("name the path of the method, such as jwt"),
        mount => Ok(mount.to_owned()),
    }
}

fn parse_bound(text: &str) -> Result<(String, String), String> {
    let (name, value) = super::parse_pair(text)?;
    if ALWAYS_BOUND.contains(&name.as_str()) {
        return Err(format!(
            "{name} is always bound, to this issuer and project"
        ));
    }
    Ok((name, value))
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

    fn commands(&self, subject: &Subject) -> Result<String, Failure> {
        let (mount, role) = (&self.mount, self.role_name(subject));
        let issuer = quoted(subject.issuer.as_str());
        let place = quoted(&format!("auth/{mount}/config"));
        let configuration = match &subject.trust {
            Trust::Discovery(authority) => {
                let authority = authority.as_ref().map_or_else(String::new, |path| {
                    let file = quoted(&format!("oidc_discovery_ca_pem=@{}", path.display()));
                    format!(" \\\n  {file}")
                });
                format!(
                    "# Vault asks the issuer for its keys, now and later.
vault write {place} oidc_discovery_url={issuer} bound_issuer={issuer}{authority}
"
                )
            }
            Trust::Keys => format!(
                "# Vault is given the keys: it asks nobody. Again after a rotation. Keys that it has are replaced (--write adds to them).
vault write {place} - <<'JSON'
{}
JSON
",
                shown(&json!({
                    "bound_issuer": subject.issuer.as_str(), "jwt_validation_pubkeys": pems(subject)?,
                }))
            ),
        };
        let definition = shown(&self.role(subject, subject.audience(), None));
        Ok(format!(
            "vault auth enable {path} jwt
{configuration}vault write {role_place} - <<'JSON'
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
            path = quoted(&format!("-path={mount}")),
            role_place = quoted(&format!("auth/{mount}/role/{role}")),
            role = commented(&role),
            mount = commented(mount),
            audience = commented(subject.audience()),
        ))
    }

    /// The role, which has all that it had before.
    fn role(
        &self,
        subject: &Subject,
        audience: &str,
        before: Option<&Map<String, Value>>,
    ) -> Value {
        let mut role = before.map_or_else(
            || {
                let ours = json!({"user_claim": "project_path", "token_explicit_max_ttl": 3600});
                ours.as_object().cloned().unwrap_or_default()
            },
            |before| {
                let set = before.iter().filter(|(_, value)| !is_unset(value));
                set.map(|(name, value)| (name.clone(), value.clone()))
                    .collect()
            },
        );
        let bound = role.get("bound_claims").and_then(Value::as_object);
        let mut bound = bound.cloned().unwrap_or_default();
        for name in ALWAYS_BOUND {
            bound.insert(name.to_owned(), subject.claim(name).into());
        }
        for (name, value) in &self.bound {
            bound.insert(name.clone(), value.as_str().into());
        }
        let audiences = union(role.get("bound_audiences"), [audience.to_owned()]);
        let policies = union(role.get("token_policies"), self.policies.iter().cloned());
        for (name, value) in [
            ("role_type", "jwt".into()),
            ("bound_audiences", audiences.into()),
            ("bound_claims", bound.into()),
            ("token_policies", policies.into()),
        ] {
            role.insert(name.to_owned(), value);
        }
        role.into()
    }

    /// Reads and refuses first, and writes only then.
    async fn write(&self, subject: &Subject, session: &Session) -> Result<(), Failure> {
        let server = VaultServer::of(session, "--write")?;
        let (mount, role_name) = (&self.mount, self.role_name(subject));
        let audience = match &subject.audience {
            Some(audience) => audience.clone(),
            None => server.address.as_str().trim_end_matches('/').to_owned(),
        };
        let (method, configuration) = (format!("sys/auth/{mount}"), format!("auth/{mount}/config"));
        let role_place = format!("auth/{mount}/role/{role_name}");
        let mut done = Vec::new();
        let methods = server.read("sys/auth").await?.unwrap_or_default();
        let is_enabled = match methods["data"][format!("{mount}/")]["type"].as_str() {
            None => false,
            Some("jwt" | "oidc") => true,
            Some(other) => {
                let text = format!("auth/{mount} is of type {other:?}, and not jwt");
                return Err(Failure::invalid(text).hint("choose another place: --mount PATH"));
            }
        };
        let (mut trusted, mut role) = (None, None);
        if is_enabled {
            trusted = server.read(&configuration).await?;
            role = server.read(&role_place).await?;
        }
        let trusted = trusted.as_ref().and_then(|found| found["data"].as_object());
        let trust = self.trust(subject, trusted, &mut done)?;
        let before = role.as_ref().and_then(|found| found["data"].as_object());
        if let Some(before) = before {
            let is_ours = |name: &str| {
                let bound = before.get("bound_claims");
                bound.is_some_and(|bound| bound[name] == subject.claim(name))
            };
            if !ALWAYS_BOUND.into_iter().all(is_ours) {
                let text = format!(
                    "role {role_name:?} of auth/{mount} is another project's, and is left as it is"
                );
                return Err(Failure::invalid(text).hint("choose another name: --role NAME"));
            }
        }
        let role = self.role(subject, &audience, before);

        if !is_enabled {
            server.write(&method, &json!({"type": "jwt"})).await?;
        }
        // The server fetches the keys now.
        let publication = subject.publish().await?;
        let written = server.write(&configuration, &trust).await;
        let was_taken = matches!(publication, Publishing::Taken);
        if let Publishing::Here(publication) = publication {
            publication.stop().await;
        }
        if let Err(failure) = written {
            // A method without configuration is of no use to anybody.
            if !is_enabled {
                server.delete(&method).await?;
            }
            let issuer = &subject.issuer;
            return Err(match (&subject.trust, &subject.place) {
                (Trust::Keys, _) => failure,
                (Trust::Discovery(_), Some(place)) => failure
                    .hint(match was_taken {
                        false => format!(
                            "the server fetches the keys from {issuer}, which was published at {}: it has to reach it from where it is",
                            place.address
                        ),
                        true => format!(
                            "the server fetches the keys from {issuer}, and {} was taken, so that this command published nothing there: what listens there has to be a `courser exec` with the same --oidc-listen",
                            place.address
                        ),
                    })
                    .hint("without --oidc-listen it is given the keys, and has to reach nothing"),
                (Trust::Discovery(_), None) => failure.hint(format!(
                    "the server fetches the keys from {issuer}: is `courser coordinator serve` running, and reached from there?"
                )),
            });
        }
        if !is_enabled {
            done.insert(0, format!("enabled the JWT method at auth/{mount}"));
        }
        done.push(match &subject.place {
            None => format!("auth/{mount} trusts {}", subject.issuer),
            Some(place) => format!(
                "auth/{mount} trusts {}, and asks it for the keys: run with --oidc-listen {}",
                subject.issuer, place.address
            ),
        });
        server.write(&role_place, &role).await?;
        done.push(told(&role_name, &role, before.is_some()));
        if role["token_policies"].as_array().is_none_or(Vec::is_empty) {
            done.push("its tokens have no policy yet: --policy NAME".to_owned());
        }
        print_text(&(done.join("\n") + "\n"))
    }

    /// The method's configuration: `found` with this issuer, or a refusal if it is somebody else's.
    fn trust(
        &self,
        subject: &Subject,
        found: Option<&Map<String, Value>>,
        done: &mut Vec<String>,
    ) -> Result<Value, Failure> {
        let (issuer, mount) = (subject.issuer.as_str(), &self.mount);
        let none = Map::new();
        let found = found.unwrap_or(&none);
        let refused = |what: String| {
            let text = format!("auth/{mount} {what}, and is left as it is");
            Err(Failure::invalid(text)
                .hint("choose another place, and set VAULT_AUTH_PATH to it: --mount courser"))
        };
        let text = |name: &str| {
            let text = found.get(name).and_then(Value::as_str);
            text.filter(|text| !text.is_empty())
        };
        let is_ours = |name: &str, text: &str| match name {
            "jwks_url" => text.starts_with(&format!("{issuer}/")),
            _ => text.trim_end_matches('/') == issuer,
        };
        for name in ["bound_issuer", "oidc_discovery_url", "jwks_url"] {
            if let Some(other) = text(name).filter(|text| !is_ours(name, text)) {
                return refused(format!("trusts another issuer, {other}"));
            }
        }
        for name in ["oidc_client_id", "jwks_pairs"] {
            if found.get(name).is_some_and(|value| !is_unset(value)) {
                return refused(format!("is set up for something else ({name})"));
            }
        }
        let mut keys = texts(found.get("jwt_validation_pubkeys"));
        if !keys.is_empty() && text("bound_issuer").is_none() {
            return refused("has keys of whatever issuer (no bound_issuer)".to_owned());
        }
        let own = pems(subject)?;
        keys.retain(|key| !own.iter().any(|own| own.trim() == key.trim()));
        let mut trust = found.clone();
        trust.retain(|name, value| !is_unset(value) && !SOURCES.contains(&name.as_str()));
        trust.insert("bound_issuer".to_owned(), issuer.into());
        match &subject.trust {
            Trust::Discovery(_) if !keys.is_empty() && !self.replace_keys => {
                return refused(
                    "was given other keys of this issuer (--replace-keys drops them)".to_owned(),
                );
            }
            Trust::Discovery(authority) => {
                trust.insert("oidc_discovery_url".to_owned(), issuer.into());
                if let Some(authority) = authority {
                    let pem = text_of(authority)?;
                    trust.insert("oidc_discovery_ca_pem".to_owned(), pem.into());
                }
            }
            Trust::Keys => {
                if let Some(url) = text("oidc_discovery_url").or_else(|| text("jwks_url")) {
                    return refused(format!("fetches the keys of this issuer from {url}"));
                }
                let mut all = own;
                if self.replace_keys {
                    keys.clear();
                } else if !keys.is_empty() {
                    done.push(format!(
                        "keys of this issuer that auth/{mount} goes on to trust, a colleague's or rotated ones: {} (--replace-keys drops them)",
                        keys.len()
                    ));
                }
                all.append(&mut keys);
                trust.insert("jwt_validation_pubkeys".to_owned(), all.into());
            }
        }
        Ok(trust.into())
    }
}

/// Fields of the configuration that say whom it trusts, and one that can only be read. Others are carried over.
const SOURCES: [&str; 9] = [
    "bound_issuer",
    "oidc_discovery_url",
    "oidc_discovery_ca_pem",
    "oidc_client_id",
    "jwks_url",
    "jwks_ca_pem",
    "jwks_pairs",
    "jwt_validation_pubkeys",
    "status",
];

fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn union(found: Option<&Value>, more: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut all = texts(found);
    for text in more {
        if !all.contains(&text) {
            all.push(text);
        }
    }
    all
}

/// What the role that was written admits.
fn told(name: &str, role: &Value, is_kept: bool) -> String {
    let bound = role["bound_claims"].as_object().into_iter().flatten();
    let others = bound.filter(|(claim, _)| !ALWAYS_BOUND.contains(&claim.as_str()));
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let others: Vec<String> = others
        .map(|(claim, value)| format!("{claim}={}", text(value)))
        .collect();
    let mut line = format!(
        "role {name} admits jobs of {} with aud {}",
        text(&role["bound_claims"]["project_path"]),
        texts(role.get("bound_audiences")).join(" or "),
    );
    if !others.is_empty() {
        line.extend([" and ", &others.join(", ")]);
    }
    let policies = texts(role.get("token_policies"));
    if !policies.is_empty() {
        line.extend(["; policies ", &policies.join(", ")]);
    }
    if is_kept {
        line += " (it was there: what it had stays)";
    }
    line
}

/// All keys of tokens that may be valid, as PEM.
fn pems(subject: &Subject) -> Result<Vec<String>, Failure> {
    Ok(subject.keys()?.iter().map(|key| key.pem()).collect())
}

fn shown(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn text_of(path: &Path) -> Result<String, Failure> {
    let named = |error| Failure::invalid(format!("{}: {error}", path.display()));
    std::fs::read_to_string(path).map_err(named)
}
