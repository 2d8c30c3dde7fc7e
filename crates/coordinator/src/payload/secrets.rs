//! `id_tokens` and `secrets` of a job that is handed out: what the server adds to them (`secrets.md` 2).
//!
//! Values stay expressions, which the runner expands. On GitLab all secrets of one provider share the token of the
//! first one; here each has its own.

use courser_pipeline::{Audience, IdToken, SecretProvider, SecretSpec};
use courser_protocol::secrets::{
    AwsSecret, AwsServer, AzureSecret, AzureServer, GoogleSecret, GoogleServer, VaultAuth,
    VaultEngine, VaultSecret, VaultServer,
};
use courser_protocol::{JobSecret, JobSecrets, JobVariable, Secret};

use super::Undeliverable;
use crate::variables::expand_all;

/// Mount of the JWT method when `VAULT_AUTH_PATH` does not say.
const VAULT_AUTH_PATH: &str = "jwt";
/// What a secret in AWS authenticates with when it has no `token`; empty in a job that has no such token.
const AWS_TOKEN: &str = "$AWS_ID_TOKEN";
/// GitLab's token of old, for jobs without `id_tokens`: it is empty.
const LEGACY_TOKEN: &str = "${CI_JOB_JWT}";

/// The audience with the job's variables in it; unknown ones are empty, as on GitLab.
pub(super) fn audience(aud: &Audience, variables: &[JobVariable]) -> Audience {
    match aud {
        Audience::One(text) => Audience::One(expand_all(text, variables)),
        Audience::Many(texts) => {
            let texts = texts.iter().map(|text| expand_all(text, variables));
            Audience::Many(texts.collect())
        }
    }
}

/// The secrets as a runner gets them, in the order of the file; `None` of a job that has none.
///
/// `variables` are those that count here: what a dotenv report brought does not.
///
/// # Errors
///
/// Variables of providers are missing, or a provider itself: all of them are named.
pub(super) fn secrets(
    secrets: &[(String, SecretSpec)],
    tokens: &[(String, IdToken)],
    variables: &[JobVariable],
) -> Result<Option<JobSecrets>, Undeliverable> {
    if secrets.is_empty() {
        return Ok(None);
    }
    let known = Known(variables);
    let mut translated = Vec::new();
    // Why, and the secrets of which it is true.
    let mut faults: Vec<(String, Vec<&str>)> = Vec::new();
    for (name, spec) in secrets {
        match known.secret(spec, tokens) {
            Ok(secret) => translated.push((name.clone(), secret)),
            Err(why) => match faults.iter_mut().find(|(known, _)| *known == why) {
                Some((_, names)) => names.push(name),
                None => faults.push((why, vec![name])),
            },
        }
    }
    if faults.is_empty() {
        return Ok(Some(translated.into_iter().collect()));
    }
    let told = faults.iter().map(|(why, names)| {
        let noun = if names.len() == 1 {
            "secret"
        } else {
            "secrets"
        };
        format!("{noun} {}: {why}", names.join(", "))
    });
    Err(Undeliverable {
        reason: "secrets_provider_not_found",
        message: told.collect::<Vec<_>>().join("; "),
    })
}

/// Variables by name; an empty one counts as missing.
struct Known<'a>(&'a [JobVariable]);

impl Known<'_> {
    fn get(&self, key: &str) -> Option<String> {
        let variable = self.0.iter().rev().find(|variable| variable.key == key)?;
        let value = variable.value.expose();
        (!value.trim().is_empty()).then(|| value.to_owned())
    }

    fn optional(&self, key: &str) -> String {
        self.get(key).unwrap_or_default()
    }

    fn secret(&self, spec: &SecretSpec, tokens: &[(String, IdToken)]) -> Result<JobSecret, String> {
        let keyword = spec.provider.keyword();
        let required = spec.provider.required_variables();
        let missing: Vec<&str> = required
            .iter()
            .copied()
            .filter(|key| self.get(key).is_none())
            .collect();
        if !missing.is_empty() {
            let (noun, missing) = (
                if missing.len() == 1 {
                    "variable"
                } else {
                    "variables"
                },
                missing.join(", "),
            );
            return Err(format!(
                "{keyword} needs the CI/CD {noun} {missing}, in the project, the pipeline or the file; those of a dotenv report do not count"
            ));
        }
        let given = |token: &Option<String>| token.clone().filter(|token| !token.is_empty());
        let token = given(&spec.token);
        let or_first = || {
            let first = tokens.first().map(|(name, _)| format!("${name}"));
            Secret::new(first.unwrap_or_else(|| LEGACY_TOKEN.to_owned()))
        };
        let mut secret = JobSecret {
            file: spec.file,
            token: spec.token.clone().map(Into::into),
            ..JobSecret::default()
        };
        match &spec.provider {
            SecretProvider::Vault(vault) => {
                let jwt = token.map_or_else(or_first, Secret::new);
                secret.vault = Some(self.vault(vault, jwt));
            }
            SecretProvider::GcpSecretManager(google) => {
                secret.gcp_secret_manager = Some(GoogleSecret {
                    name: google.name.clone(),
                    version: google.version.clone(),
                    server: GoogleServer {
                        project_number: self.optional("GCP_PROJECT_NUMBER"),
                        workload_identity_federation_pool_id: self
                            .optional("GCP_WORKLOAD_IDENTITY_FEDERATION_POOL_ID"),
                        workload_identity_federation_provider_id: self
                            .optional("GCP_WORKLOAD_IDENTITY_FEDERATION_PROVIDER_ID"),
                        jwt: token.unwrap_or_default().into(),
                    },
                });
            }
            SecretProvider::AzureKeyVault(azure) => {
                secret.azure_key_vault = Some(AzureSecret {
                    name: azure.name.clone(),
                    version: azure.version.clone().unwrap_or_default(),
                    server: AzureServer {
                        url: self.optional("AZURE_KEY_VAULT_SERVER_URL"),
                        client_id: self.optional("AZURE_CLIENT_ID"),
                        tenant_id: self.optional("AZURE_TENANT_ID"),
                        jwt: token.map_or_else(or_first, Secret::new),
                    },
                });
            }
            SecretProvider::AwsSecretsManager(aws) => {
                let jwt = token.unwrap_or_else(|| AWS_TOKEN.to_owned());
                secret.aws_secrets_manager = Some(self.aws(aws, jwt.into()));
            }
            SecretProvider::GitlabSecretsManager(_) => {
                return Err(format!(
                    "{keyword} is a service of GitLab's own server, which this coordinator does not have"
                ));
            }
            SecretProvider::Akeyless(_) => {
                return Err(format!("{keyword}: no runner resolves secrets of it"));
            }
        }
        Ok(secret)
    }

    fn vault(&self, vault: &courser_pipeline::VaultSecret, jwt: Secret) -> VaultSecret {
        let role = self.get("VAULT_AUTH_ROLE");
        let role = role.map(|role| ("role", Secret::new(role)));
        VaultSecret {
            server: VaultServer {
                url: self.optional("VAULT_SERVER_URL"),
                namespace: self.optional("VAULT_NAMESPACE"),
                auth: VaultAuth {
                    name: "jwt".to_owned(),
                    path: self
                        .get("VAULT_AUTH_PATH")
                        .unwrap_or_else(|| VAULT_AUTH_PATH.to_owned()),
                    data: [("jwt", jwt)].into_iter().chain(role).collect(),
                },
            },
            engine: VaultEngine {
                name: vault.engine.name.clone(),
                path: vault.engine.path.clone(),
            },
            path: vault.path.clone(),
            field: vault.field.clone(),
        }
    }

    fn aws(&self, aws: &courser_pipeline::AwsSecret, jwt: Secret) -> AwsSecret {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        AwsSecret {
            secret_id: aws.secret_id.clone(),
            version_id: text(&aws.version_id),
            version_stage: text(&aws.version_stage),
            field: text(&aws.field),
            region: text(&aws.region),
            role_arn: text(&aws.role_arn),
            role_session_name: text(&aws.role_session_name),
            server: AwsServer {
                region: self.optional("AWS_REGION"),
                role_arn: self.optional("AWS_ROLE_ARN"),
                role_session_name: self.optional("AWS_ROLE_SESSION_NAME"),
                jwt,
            },
        }
    }
}
