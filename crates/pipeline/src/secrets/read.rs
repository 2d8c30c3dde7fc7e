//! Shapes of `id_tokens` and `secrets`, with GitLab's texts (`secrets.md` 1.2 to 1.8).

use crate::shape::{Shape, given};
use crate::source::Fault;
use crate::yaml::{Entry, Kind, Map, Node};

use super::lint;
use super::{
    Audience, AwsSecret, AzureSecret, GcpSecret, GitlabSecret, IdToken, SecretProvider, SecretSpec,
    VaultEngine, VaultSecret,
};

/// In the order of GitLab's text.
const PROVIDERS: [&str; 6] = [
    "vault",
    "azure_key_vault",
    "gcp_secret_manager",
    "akeyless",
    "gitlab_secrets_manager",
    "aws_secrets_manager",
];

/// Reads `id_tokens`, in the order of the file.
pub(crate) fn id_tokens(node: &Node, place: &str, shape: &mut Shape<'_>) -> Vec<(String, IdToken)> {
    let Some(map) = node.as_map() else {
        shape.error(node.span, format!("{place} config should be a hash"));
        return Vec::new();
    };
    let token = |entry: &Entry| {
        let place = format!("{place}:{}", entry.key);
        let map = shape.hash(&entry.value, &["aud"], &place)?;
        let Some(aud) = given(map, "aud") else {
            shape.required(map, entry.span, "aud", &place);
            return None;
        };
        let texts = shape.string_or_strings(aud, &format!("{place} aud"))?;
        lint::name(entry, &place, shape);
        lint::audience(aud, &place, shape);
        let aud = match (aud.as_text(), texts) {
            (Some(text), _) => Audience::One(text.to_owned()),
            (None, texts) => Audience::Many(texts),
        };
        Some((entry.key.text.to_string(), IdToken { aud }))
    };
    map.entries().iter().filter_map(token).collect()
}

/// Reads `secrets`, in the order of the file; `tokens` are the job's `id_tokens`.
pub(crate) fn secrets(
    node: &Node,
    place: &str,
    tokens: &[(String, IdToken)],
    shape: &mut Shape<'_>,
) -> Vec<(String, SecretSpec)> {
    let Some(map) = node.as_map() else {
        shape.error(node.span, format!("{place} config should be a hash"));
        return Vec::new();
    };
    let secret = |entry: &Entry| {
        let place = format!("{place}:{}", entry.key);
        let spec = secret(entry, &place, shape)?;
        lint::name(entry, &place, shape);
        lint::token(entry, &spec, tokens, &place, shape);
        Some((entry.key.text.to_string(), spec))
    };
    map.entries().iter().filter_map(secret).collect()
}

fn secret(entry: &Entry, place: &str, shape: &mut Shape<'_>) -> Option<SecretSpec> {
    let allowed = [&PROVIDERS[..], &["file", "token"]].concat();
    let map = shape.hash(&entry.value, &allowed, place)?;
    let named: Vec<&Entry> = map
        .entries()
        .iter()
        .filter(|entry| PROVIDERS.contains(&&*entry.key.text) && !is_empty(&entry.value))
        .collect();
    let [provider] = named[..] else {
        let keys = PROVIDERS.join(", ");
        let fault = Fault::new(
            entry.span,
            format!("{place} config must use exactly one of these keys: {keys}"),
        );
        shape.findings.push(match &*entry.key.text {
            "id_tokens" => fault.with_detail(
                "id_tokens is a keyword of the job and stands beside secrets, not below it"
                    .to_owned(),
            ),
            _ if map.entries().iter().any(|entry| is_of_ssm(&entry.key.text)) => {
                fault.with_detail(lint::NO_SSM.to_owned())
            }
            _ => fault,
        });
        return None;
    };
    let file = given(map, "file")
        .map(|node| shape.boolean(node, &format!("{place}:file config")))
        .unwrap_or_default();
    let token = given(map, "token").map(|node| shape.string(node, &format!("{place} token")));
    let keyword = &*provider.key.text;
    if keyword == "gcp_secret_manager"
        && token
            .as_ref()
            .is_none_or(|token| token.as_deref() == Some(""))
    {
        let span = entry.span;
        shape.error(
            span,
            format!("{place} token is required with gcp secrets manager"),
        );
    }
    let place = format!("{place}:{keyword}");
    Some(SecretSpec {
        provider: self::provider(keyword, &provider.value, &place, shape)?,
        file,
        token: token.flatten(),
    })
}

/// What somebody writes who wants a parameter of AWS Systems Manager.
fn is_of_ssm(key: &str) -> bool {
    key.contains("ssm") || key.contains("parameter_store")
}

/// An empty value counts as absent.
fn is_empty(node: &Node) -> bool {
    match &node.kind {
        Kind::Null => true,
        Kind::Text(text) => text.trim().is_empty(),
        Kind::Seq(items) => items.is_empty(),
        Kind::Map(map) => map.is_empty(),
        _ => false,
    }
}

fn provider(
    keyword: &str,
    node: &Node,
    place: &str,
    shape: &mut Shape<'_>,
) -> Option<SecretProvider> {
    Some(match keyword {
        "vault" => SecretProvider::Vault(vault(node, place, shape)?),
        "gcp_secret_manager" => SecretProvider::GcpSecretManager(gcp(node, place, shape)?),
        "azure_key_vault" => SecretProvider::AzureKeyVault(azure(node, place, shape)?),
        "aws_secrets_manager" => SecretProvider::AwsSecretsManager(aws(node, place, shape)?),
        "gitlab_secrets_manager" => {
            SecretProvider::GitlabSecretsManager(gitlab(node, place, shape)?)
        }
        _ => {
            shape.findings.warn(
                node.span,
                format!("{place} no runner resolves it: the job fails"),
            );
            SecretProvider::Akeyless(node.to_json())
        }
    })
}

fn vault(node: &Node, place: &str, shape: &mut Shape<'_>) -> Option<VaultSecret> {
    if let Some(text) = node.as_text() {
        return Some(VaultSecret::of_short_form(text));
    }
    let map = shape.hash_or_string(node, &["engine", "path", "field"], place)?;
    required(map, node, &["engine", "path", "field"], place, shape)?;
    let place_of_engine = format!("{place}:engine");
    let engine = given(map, "engine")?;
    let of_engine = shape.hash(engine, &["name", "path"], &place_of_engine)?;
    required(
        of_engine,
        engine,
        &["name", "path"],
        &place_of_engine,
        shape,
    )?;
    Some(VaultSecret {
        engine: VaultEngine {
            name: text(of_engine, "name", &place_of_engine, shape)??,
            path: text(of_engine, "path", &place_of_engine, shape)??,
        },
        path: text(map, "path", place, shape)??,
        field: text(map, "field", place, shape)??,
    })
}

fn gcp(node: &Node, place: &str, shape: &mut Shape<'_>) -> Option<GcpSecret> {
    lint::impersonation(node, place, shape);
    let map = shape.hash(node, &["name", "version"], place)?;
    required(map, node, &["name"], place, shape)?;
    let version = match given(map, "version") {
        None => "latest".to_owned(),
        Some(node) => match (&node.kind, node.as_text()) {
            (Kind::Int(number), _) => number.to_string(),
            (_, Some(text))
                if !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric()) =>
            {
                text.to_owned()
            }
            _ => {
                let what = format!("{place} version must be an alphanumeric string");
                shape.error(node.span, what);
                return None;
            }
        },
    };
    Some(GcpSecret {
        name: text(map, "name", place, shape)??,
        version,
    })
}

fn azure(node: &Node, place: &str, shape: &mut Shape<'_>) -> Option<AzureSecret> {
    let map = shape.hash(node, &["name", "version"], place)?;
    required(map, node, &["name"], place, shape)?;
    Some(AzureSecret {
        name: text(map, "name", place, shape)??,
        version: text(map, "version", place, shape)?,
    })
}

fn aws(node: &Node, place: &str, shape: &mut Shape<'_>) -> Option<AwsSecret> {
    if let Some(text) = node.as_text() {
        let (secret_id, field) = match text.split_once('#') {
            Some((_, field)) if field.contains('#') => {
                let what = format!("{place} config must contain at most one '#'");
                shape.error(node.span, what);
                return None;
            }
            Some((secret_id, field)) => (secret_id, Some(field.to_owned())),
            None => (text, None),
        };
        lint::secret_id(secret_id, node, place, shape);
        return Some(AwsSecret {
            secret_id: secret_id.to_owned(),
            field,
            ..AwsSecret::default()
        });
    }
    let allowed = [
        "secret_id",
        "field",
        "region",
        "version_id",
        "version_stage",
        "role_arn",
        "role_session_name",
    ];
    let map = shape.hash_or_string(node, &allowed, place)?;
    required(map, node, &["secret_id"], place, shape)?;
    let secret_id = text(map, "secret_id", place, shape)??;
    let span_of = given(map, "secret_id").unwrap_or(node);
    lint::secret_id(&secret_id, span_of, place, shape);
    Some(AwsSecret {
        secret_id,
        field: text(map, "field", place, shape)?,
        region: text(map, "region", place, shape)?,
        version_id: text(map, "version_id", place, shape)?,
        version_stage: text(map, "version_stage", place, shape)?,
        role_arn: text(map, "role_arn", place, shape)?,
        role_session_name: text(map, "role_session_name", place, shape)?,
    })
}

fn gitlab(node: &Node, place: &str, shape: &mut Shape<'_>) -> Option<GitlabSecret> {
    let map = shape.hash(node, &["name", "source"], place)?;
    required(map, node, &["name"], place, shape)?;
    let name = text(map, "name", place, shape)??;
    lint::name_of_gitlab(&name, given(map, "name").unwrap_or(node), place, shape);
    let source = text(map, "source", place, shape)?;
    let fits = source.as_deref().is_none_or(|source| {
        let group = source.strip_prefix("group/").unwrap_or_default();
        source == "project" || !group.is_empty()
    });
    if !fits {
        let span = given(map, "source").map_or(node.span, |node| node.span);
        let what = "source must follow the format 'group/group_full_path' or 'project'";
        shape.error(span, format!("{place} {what}"));
        return None;
    }
    Some(GitlabSecret { name, source })
}

/// All keys that are missing, in one text.
fn required(
    map: &Map,
    node: &Node,
    keys: &[&str],
    place: &str,
    shape: &mut Shape<'_>,
) -> Option<()> {
    let missing: Vec<&str> = keys
        .iter()
        .copied()
        .filter(|key| given(map, key).is_none())
        .collect();
    if missing.is_empty() {
        return Some(());
    }
    let missing = missing.join(", ");
    let what = format!("{place} config missing required keys: {missing}");
    shape.error(node.span, what);
    None
}

/// The text at a key, if it is given; `None`: it is no text.
fn text(map: &Map, key: &str, place: &str, shape: &mut Shape<'_>) -> Option<Option<String>> {
    match given(map, key) {
        None => Some(None),
        Some(node) => {
            let what = format!("{place} {}", key.replace('_', " "));
            shape.string(node, &what).map(Some)
        }
    }
}
