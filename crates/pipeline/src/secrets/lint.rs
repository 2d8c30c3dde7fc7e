//! What GitLab accepts in `id_tokens` and `secrets` although it cannot work: warnings (`secrets.md` 14.14).

use std::collections::BTreeSet;

use crate::shape::{Shape, given};
use crate::variables::Scope;
use crate::yaml::{Entry, Map, Node};

use super::{IdToken, SecretProvider, SecretSpec};

/// The variable that AWS is authenticated with where a secret names none.
const AWS_TOKEN: &str = "AWS_ID_TOKEN";

/// The name of a token or secret is that of a variable in the job's shell.
pub(super) fn name(entry: &Entry, place: &str, shape: &mut Shape<'_>) {
    let name = &*entry.key.text;
    let fits = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !fits {
        let what = "is no name of a variable: the job's shell refuses it";
        shape.findings.warn(entry.span, format!("{place} {what}"));
    }
}

/// Nobody who reads secrets of AWS reads these.
pub(super) const NO_SSM: &str = "parameters of AWS Systems Manager (Parameter Store) are read by no runner: store it in Secrets \
     Manager and write aws_secrets_manager";

/// An ARN may be that of a parameter.
pub(super) fn secret_id(id: &str, node: &Node, place: &str, shape: &mut Shape<'_>) {
    let mut parts = id.split(':');
    if parts.next() == Some("arn") && parts.nth(1) == Some("ssm") {
        shape.findings.warn(node.span, format!("{place} {NO_SSM}"));
    }
}

/// A name that GitLab Secrets Manager has for no secret.
pub(super) fn name_of_gitlab(name: &str, node: &Node, place: &str, shape: &mut Shape<'_>) {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(fits) {
        let what = "name can be no secret's there: letters, digits and _ only";
        shape.findings.warn(node.span, format!("{place} {what}"));
    }
}

/// Keys with which people ask for the rights of a service account at Google.
pub(super) fn impersonation(node: &Node, place: &str, shape: &mut Shape<'_>) {
    let entries = node.as_map().map(Map::entries).unwrap_or_default();
    let asked = entries
        .iter()
        .find(|entry| entry.key.text.contains("service_account"));
    if let Some(entry) = asked {
        let what = "no runner reads as a service account of Google (impersonation): grant \
                    roles/secretmanager.secretAccessor to the principal of the workload identity pool itself";
        shape.findings.warn(entry.span, format!("{place} {what}"));
    }
}

/// Lists that say something else than they seem to.
pub(super) fn audience(aud: &Node, place: &str, shape: &mut Shape<'_>) {
    let what = match aud.as_seq() {
        Some([]) => "is empty: nobody accepts the token",
        Some([_]) => {
            "is a list of one and stays a list in the token; some providers compare it with a text, so write aud: TEXT"
        }
        _ => return,
    };
    shape.findings.warn(aud.span, format!("{place} aud {what}"));
}

/// Whether the provider will be handed a token at all.
pub(super) fn token(
    entry: &Entry,
    spec: &SecretSpec,
    tokens: &[(String, IdToken)],
    place: &str,
    shape: &mut Shape<'_>,
) {
    let span = entry
        .value
        .as_map()
        .and_then(|map| given(map, "token"))
        .map_or(entry.span, |node| node.span);
    let names = || {
        let names: Vec<&str> = tokens.iter().map(|(name, _)| name.as_str()).collect();
        names.join(", ")
    };
    let has = |name: &str| tokens.iter().any(|(known, _)| known == name);
    let what = match spec.token.as_deref() {
        Some(text) if !text.contains('$') => {
            format!("token has no $ and would be sent as it is: write ${text}")
        }
        Some(text) => match variable(text) {
            Some(name) if !has(name) && tokens.is_empty() => {
                format!("token names ${name}, but the job has no id_tokens")
            }
            Some(name) if !has(name) => {
                format!(
                    "token names ${name}, but id_tokens of the job are {}",
                    names()
                )
            }
            _ => return,
        },
        None => match &spec.provider {
            SecretProvider::Vault(_) | SecretProvider::AzureKeyVault(_) if tokens.is_empty() => {
                "has no token to authenticate with: the job has no id_tokens".to_owned()
            }
            SecretProvider::Vault(_) | SecretProvider::AzureKeyVault(_) if tokens.len() > 1 => {
                format!("has no token: the first one of {} is taken", names())
            }
            SecretProvider::AwsSecretsManager(_) if !has(AWS_TOKEN) => format!(
                "has no token, and the job has no ID token {AWS_TOKEN}: the runner's own identity in AWS would be used"
            ),
            _ => return,
        },
    };
    shape.findings.warn(span, format!("{place} {what}"));
}

/// The name in `$NAME` or `${NAME}`.
fn variable(text: &str) -> Option<&str> {
    let name = text.strip_prefix('$')?;
    let name = match name.strip_prefix('{') {
        Some(inner) => inner.strip_suffix('}')?,
        None => name,
    };
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then_some(name)
}

/// Tokens that no job will see, because a variable has their name: it stands above them, as on GitLab.
pub(crate) fn hidden_tokens(
    tokens: &[(String, IdToken)],
    scope: Scope<'_>,
) -> Vec<(String, &'static str)> {
    const WHAT: &str = "is hidden by the variable of the same name: the job gets the variable's value and no token; give one of \
         them another name";
    let hidden = tokens
        .iter()
        .filter(|(name, _)| scope.value(name).is_some());
    hidden.map(|(name, _)| (name.clone(), WHAT)).collect()
}

/// Variables of providers that nothing of a pipeline sets, so that a server drops the job: the first secret of
/// each provider, and what it lacks.
pub(crate) fn missing_variables(
    secrets: &[(String, SecretSpec)],
    scope: Scope<'_>,
) -> Vec<(String, String)> {
    let mut providers = BTreeSet::new();
    let mut found = Vec::new();
    for (name, secret) in secrets {
        let keyword = secret.provider.keyword();
        let is_unset = |variable: &str| scope.value(variable).is_none_or(|value| value.is_empty());
        let required = secret.provider.required_variables().iter().copied();
        let missing: Vec<&str> = required.filter(|variable| is_unset(variable)).collect();
        if missing.is_empty() || !providers.insert(keyword) {
            continue;
        }
        let (noun, it) = match missing.len() {
            1 => ("variable", "it"),
            _ => ("variables", "them"),
        };
        let missing = missing.join(", ");
        let what = format!(
            "{keyword} needs the CI/CD {noun} {missing}: without {it} the job fails (secrets_provider_not_found)"
        );
        found.push((name.clone(), what));
    }
    found
}
