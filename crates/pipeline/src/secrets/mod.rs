//! `id_tokens` and `secrets` of a job: their forms as values (`secrets.md` 1).
//!
//! What is written short stands here in its long form, the one that runners are sent. [`read`] checks the
//! shape, [`lint`](mod@lint) says what is allowed and yet cannot work.

mod lint;
mod read;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

pub(crate) use lint::{hidden_tokens, missing_variables};
pub(crate) use read::{id_tokens, secrets};

/// A token that the server signs for a job: one of `id_tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdToken {
    /// For whom it is; variables in it are not expanded yet.
    pub aud: Audience,
}

/// The `aud` of a token: a text stays a text in the claim and a list stays a list, also one of a single text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(String),
    /// A list.
    Many(Vec<String>),
}

impl Audience {
    /// All of them.
    pub fn texts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

/// One of `secrets`. Its JSON is what a runner is sent, without the provider's `server`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SecretSpec {
    /// Where it comes from.
    #[serde(flatten)]
    pub provider: SecretProvider,
    /// Whether the variable holds the path of a file; `None`: it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<bool>,
    /// The variable with the token that the runner authenticates with, as written: `$NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretProvider {
    /// HashiCorp Vault or OpenBao.
    Vault(VaultSecret),
    /// Google Secret Manager.
    GcpSecretManager(GcpSecret),
    /// Azure Key Vault.
    AzureKeyVault(AzureSecret),
    /// AWS Secrets Manager.
    AwsSecretsManager(AwsSecret),
    /// GitLab's own.
    GitlabSecretsManager(GitlabSecret),
    /// Akeyless, as written: GitLab takes the keyword, but no runner resolves it.
    Akeyless(Value),
}

impl SecretProvider {
    /// The keyword.
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::Vault(_) => "vault",
            Self::GcpSecretManager(_) => "gcp_secret_manager",
            Self::AzureKeyVault(_) => "azure_key_vault",
            Self::AwsSecretsManager(_) => "aws_secrets_manager",
            Self::GitlabSecretsManager(_) => "gitlab_secrets_manager",
            Self::Akeyless(_) => "akeyless",
        }
    }

    /// CI/CD variables without which a server cannot tell the runner where the provider is
    /// (`secrets.md` 2.1).
    pub fn required_variables(&self) -> &'static [&'static str] {
        match self {
            Self::Vault(_) => &["VAULT_SERVER_URL"],
            Self::GcpSecretManager(_) => &[
                "GCP_PROJECT_NUMBER",
                "GCP_WORKLOAD_IDENTITY_FEDERATION_POOL_ID",
                "GCP_WORKLOAD_IDENTITY_FEDERATION_PROVIDER_ID",
            ],
            Self::AzureKeyVault(_) => &[
                "AZURE_KEY_VAULT_SERVER_URL",
                "AZURE_CLIENT_ID",
                "AZURE_TENANT_ID",
            ],
            Self::AwsSecretsManager(_) => &["AWS_REGION"],
            Self::GitlabSecretsManager(_) | Self::Akeyless(_) => &[],
        }
    }
}

/// `vault`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultSecret {
    /// The engine.
    pub engine: VaultEngine,
    /// Below the engine's path.
    pub path: String,
    /// Key of the value.
    pub field: String,
}

/// Engine and mount of the short form: literally, whatever a server's mounts are called.
const SHORT_FORM_ENGINE: &str = "kv-v2";

impl VaultSecret {
    /// `PATH/FIELD[@MOUNT]`: the last `@`, then the last `/` (`secrets.md` 1.4).
    pub fn of_short_form(text: &str) -> Self {
        let (secret, mount) = text.rsplit_once('@').unwrap_or((text, SHORT_FORM_ENGINE));
        let (path, field) = secret.rsplit_once('/').unwrap_or(("", secret));
        Self {
            engine: VaultEngine {
                name: SHORT_FORM_ENGINE.to_owned(),
                path: mount.to_owned(),
            },
            path: path.to_owned(),
            field: field.to_owned(),
        }
    }
}

/// `vault:engine`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultEngine {
    /// `kv-v2`, `kv-v1` or `generic`.
    pub name: String,
    /// Where it is mounted.
    pub path: String,
}

/// `gcp_secret_manager`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcpSecret {
    /// Id, or `projects/P/secrets/ID`.
    pub name: String,
    /// `latest` where none is written; a number becomes a text.
    pub version: String,
}

/// `azure_key_vault`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AzureSecret {
    /// Name.
    pub name: String,
    /// `None`: the newest.
    pub version: Option<String>,
}

/// `aws_secrets_manager`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwsSecret {
    /// Name or ARN.
    pub secret_id: String,
    /// Key of a JSON object in the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Instead of `AWS_REGION`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// Version by label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_stage: Option<String>,
    /// Instead of `AWS_ROLE_ARN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// Instead of `AWS_ROLE_SESSION_NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_session_name: Option<String>,
}

/// `gitlab_secrets_manager`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitlabSecret {
    /// Name.
    pub name: String,
    /// `project` or `group/PATH`; `None`: the project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// A mapping in the order of the file; null where there is nothing.
pub(crate) fn as_map<T: Serialize, S: Serializer>(
    entries: &[(String, T)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if entries.is_empty() {
        return serializer.serialize_none();
    }
    serializer.collect_map(entries.iter().map(|(name, entry)| (name, entry)))
}
