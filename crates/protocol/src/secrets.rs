//! `secrets` of a job: what to fetch, from which server, and as whom (`secrets.md` 3).
//!
//! Values may hold references to the job's variables, which the runner expands. Tokens are [`Secret`]s.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Secret;
use crate::decode::payload;

/// The secrets of a job by variable name, in the order in which the payload has them.
///
/// A payload without `secrets` is not the same as one with `{}`: the runner then says that it resolves secrets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobSecrets(Vec<(String, JobSecret)>);

impl JobSecrets {
    /// Names and secrets in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &JobSecret)> {
        self.0.iter().map(|(name, secret)| (name.as_str(), secret))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A name that comes twice keeps its place and takes the later value, as in a map.
impl FromIterator<(String, JobSecret)> for JobSecrets {
    fn from_iter<I: IntoIterator<Item = (String, JobSecret)>>(secrets: I) -> Self {
        let mut list: Vec<(String, JobSecret)> = Vec::new();
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        for (name, secret) in secrets {
            match places.get(&name) {
                Some(&place) => list[place].1 = secret,
                None => {
                    places.insert(name.clone(), list.len());
                    list.push((name, secret));
                }
            }
        }
        Self(list)
    }
}

impl Serialize for JobSecrets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, secret) in &self.0 {
            map.serialize_entry(name, secret)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for JobSecrets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = JobSecrets;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of secrets")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JobSecrets, A::Error> {
                let mut list = Vec::new();
                while let Some((name, secret)) = map.next_entry::<String, Option<JobSecret>>()? {
                    list.push((name, secret.unwrap_or_default()));
                }
                Ok(list.into_iter().collect())
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

payload! {
    /// One secret: one provider's block and how the value is handed to the job.
    JobSecret {
        /// Vault or OpenBao.
        #[serde(skip_serializing_if = "Option::is_none")]
        vault: Option<VaultSecret>,
        /// Google Secret Manager.
        #[serde(skip_serializing_if = "Option::is_none")]
        gcp_secret_manager: Option<GoogleSecret>,
        /// Azure Key Vault.
        #[serde(skip_serializing_if = "Option::is_none")]
        azure_key_vault: Option<AzureSecret>,
        /// AWS Secrets Manager.
        #[serde(skip_serializing_if = "Option::is_none")]
        aws_secrets_manager: Option<AwsSecret>,
        /// GitLab Secrets Manager.
        #[serde(skip_serializing_if = "Option::is_none")]
        gitlab_secrets_manager: Option<GitLabSecret>,
        /// Whether the variable holds the path of a file with the value; absent means yes.
        #[serde(skip_serializing_if = "Option::is_none")]
        file: Option<bool>,
        /// The token as the user wrote it. The runner reads the server block instead.
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<Secret>,
    }
}

impl JobSecret {
    /// Whether the job gets a file.
    pub fn is_file(&self) -> bool {
        self.file.unwrap_or(true)
    }
}

payload! {
    /// A field of a secret in Vault or OpenBao.
    VaultSecret {
        /// Where and as whom.
        server: VaultServer,
        /// Which engine.
        engine: VaultEngine,
        /// Path below the engine.
        path: String,
        /// Key in the data.
        field: String,
    }
}

payload! {
    /// A server, and how to log in there.
    VaultServer {
        /// Base URL.
        url: String,
        /// Namespace; null is none.
        namespace: String,
        /// Method of authentication.
        auth: VaultAuth,
    }
}

payload! {
    /// A method of authentication.
    VaultAuth {
        /// `jwt` is the only one.
        name: String,
        /// Where the method is mounted.
        path: String,
        /// What is sent: `jwt` and `role`.
        data: VaultAuthData,
    }
}

/// What a login sends, by key. Numbers and booleans count as their text, null as absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct VaultAuthData(BTreeMap<String, Secret>);

impl VaultAuthData {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Secret> {
        self.0.get(key)
    }

    /// All values with their keys, to be changed in place.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Secret> {
        self.0.values_mut()
    }
}

impl<K: Into<String>> FromIterator<(K, Secret)> for VaultAuthData {
    fn from_iter<I: IntoIterator<Item = (K, Secret)>>(data: I) -> Self {
        Self(
            data.into_iter()
                .map(|(key, value)| (key.into(), value))
                .collect(),
        )
    }
}

impl<'de> Deserialize<'de> for VaultAuthData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde_json::Value;
        let data = BTreeMap::<String, Value>::deserialize(deserializer)?;
        let present = data.into_iter().filter_map(|(key, value)| match value {
            Value::Null => None,
            Value::String(text) => Some((key, Secret::new(text))),
            other => Some((key, Secret::new(other.to_string()))),
        });
        Ok(present.collect())
    }
}

payload! {
    /// A secret engine.
    VaultEngine {
        /// `kv-v2`, `kv-v1` or `generic`.
        name: String,
        /// Where it is mounted.
        path: String,
    }
}

payload! {
    /// A version of a secret in Google Secret Manager.
    GoogleSecret {
        /// Its id, or `projects/P/secrets/ID`.
        name: String,
        /// `latest` or a number.
        version: String,
        /// As whom.
        server: GoogleServer,
    }
}

payload! {
    /// Workload identity federation at Google.
    GoogleServer {
        /// Number of the project.
        project_number: String,
        /// Pool.
        workload_identity_federation_pool_id: String,
        /// Provider in the pool.
        workload_identity_federation_provider_id: String,
        /// ID token.
        jwt: Secret,
    }
}

payload! {
    /// A secret in Azure Key Vault.
    AzureSecret {
        /// Its name.
        name: String,
        /// Its version; empty is the latest.
        version: String,
        /// Where and as whom.
        server: AzureServer,
    }
}

payload! {
    /// A key vault and the application that reads it. Only `jwt` is expanded by the runner.
    AzureServer {
        /// URL of the vault.
        url: String,
        /// Application.
        client_id: String,
        /// Tenant.
        tenant_id: String,
        /// ID token.
        jwt: Secret,
    }
}

payload! {
    /// A secret in AWS Secrets Manager. What is empty here is taken from `server`.
    AwsSecret {
        /// Name or ARN.
        secret_id: String,
        /// Version.
        version_id: String,
        /// Stage of the version.
        version_stage: String,
        /// Key in a secret that is a JSON object.
        field: String,
        /// Region.
        region: String,
        /// Role to take.
        role_arn: String,
        /// Name of the session.
        role_session_name: String,
        /// What holds for all secrets of the job.
        server: AwsServer,
    }
}

payload! {
    /// What the secrets of one job at AWS share.
    AwsServer {
        /// Region.
        region: String,
        /// Role to take.
        role_arn: String,
        /// Name of the session.
        role_session_name: String,
        /// ID token; empty where the runner's own identity is meant.
        jwt: Secret,
    }
}

payload! {
    /// A secret in GitLab Secrets Manager. Nothing is expanded.
    GitLabSecret {
        /// Where and as whom.
        server: GitLabSecretsServer,
        /// Which engine.
        engine: VaultEngine,
        /// Path below the engine.
        path: String,
        /// Key in the data.
        field: String,
    }
}

payload! {
    /// The OpenBao server of GitLab Secrets Manager.
    GitLabSecretsServer {
        /// Base URL.
        url: String,
        /// Login that goes with each request.
        inline_auth: InlineAuth,
    }
}

payload! {
    /// A login in the headers of a request.
    InlineAuth {
        /// Path of the login; empty: `auth/<auth_mount>/login`.
        path: String,
        /// ID token.
        jwt: Secret,
        /// Role.
        role: String,
        /// Mount of the method, from older servers.
        auth_mount: String,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_keep_the_order_of_the_payload_and_their_form() {
        let text = r#"{"Z":{"vault":{"server":{"url":"https://v","namespace":null,"auth":{"name":"jwt","path":"jwt",
            "data":{"jwt":"$T","role":null,"ttl":7,"deep":{"a":1}}}},"engine":{"name":"kv-v2","path":"ops"},"path":"p","field":"f"},
            "file":false,"token":"$T","of_tomorrow":1},"A":{"akeyless":{"name":"x"}},"M":null,"Z2":{"azure_key_vault":{"name":"c","version":null}}}"#;
        let secrets: JobSecrets = serde_json::from_str(text).unwrap();
        let names: Vec<_> = secrets.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["Z", "A", "M", "Z2"]);
        let (_, first) = secrets.iter().next().unwrap();
        assert!(!first.is_file());
        let data = &first.vault.as_ref().unwrap().server.auth.data;
        let given = |key: &str| data.get(key).map(|value| value.expose().to_owned());
        assert_eq!(given("jwt"), Some("$T".to_owned()));
        assert_eq!(given("role"), None);
        assert_eq!(given("ttl"), Some("7".to_owned()));
        assert_eq!(given("deep"), Some(r#"{"a":1}"#.to_owned()));
        assert!(secrets.iter().nth(1).unwrap().1 == &JobSecret::default());
        let again = serde_json::to_string(&secrets).unwrap();
        assert!(again.starts_with(r#"{"Z":{"vault""#), "{again}");
        assert_eq!(serde_json::from_str::<JobSecrets>(&again).unwrap(), secrets);
    }

    #[test]
    fn absent_and_empty_differ() {
        let parse = |text: &str| {
            crate::JobResponse::from_json(text.as_bytes())
                .unwrap()
                .secrets
        };
        assert_eq!(parse("{}"), None);
        assert_eq!(parse(r#"{"secrets":null}"#), None);
        assert_eq!(parse(r#"{"secrets":{}}"#), Some(JobSecrets::default()));
    }

    #[test]
    fn tokens_are_not_shown_by_debug() {
        let secrets: JobSecrets = serde_json::from_value(json!({
            "A": {"gitlab_secrets_manager": {"server": {"inline_auth": {"jwt": "s3cr"}}}},
            "B": {"vault": {"server": {"auth": {"data": {"jwt": "s3cr"}}}}},
            "C": {"aws_secrets_manager": {"server": {"jwt": "s3cr"}}},
            "D": {"token": "s3cr"},
        }))
        .unwrap();
        assert!(!format!("{secrets:?}").contains("s3cr"));
    }
}
