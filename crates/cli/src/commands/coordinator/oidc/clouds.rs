//! Commands that make Google Cloud, Azure and AWS trust the issuer (`secrets.md` 7 to 9). All three fetch its keys over
//! public HTTPS, Google excepted, which takes them as a file.

use super::Subject;

/// Arguments of `google`.
#[derive(Debug, clap::Args)]
pub(super) struct Google {
    /// Number of the project
    #[arg(long, value_name = "NUMBER", default_value = "PROJECT_NUMBER")]
    project_number: String,
    /// Workload identity pool
    #[arg(long, value_name = "ID", default_value = "courser")]
    pool: String,
    /// Provider in the pool
    #[arg(long, value_name = "ID", default_value = "courser")]
    provider: String,
    /// Secret that jobs may read
    #[arg(long, value_name = "NAME", default_value = "SECRET")]
    secret: String,
}

/// Arguments of `azure`.
#[derive(Debug, clap::Args)]
pub(super) struct Azure {
    /// Application (client) id
    #[arg(long, value_name = "ID", default_value = "CLIENT_ID")]
    client_id: String,
    /// Key vault
    #[arg(long, value_name = "NAME", default_value = "VAULT")]
    vault: String,
}

/// Arguments of `aws`.
#[derive(Debug, clap::Args)]
pub(super) struct Aws {
    /// Number of the account
    #[arg(long, value_name = "NUMBER", default_value = "ACCOUNT")]
    account: String,
    /// Role that jobs take
    #[arg(long, value_name = "NAME", default_value = "courser")]
    role: String,
}

/// Text for a POSIX shell, between single quotes.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Text for a comment, which it does not end.
pub(super) fn commented(text: &str) -> String {
    text.replace(char::is_control, "?")
}

const PUBLIC: &str = "# The issuer has to be reached over public HTTPS with a public certificate: ";

impl Google {
    pub(super) fn commands(&self, subject: &Subject) -> String {
        let Self {
            project_number: number,
            pool,
            provider,
            secret,
        } = self;
        let project = subject.claim("project_path");
        // Google takes the provider's own name as audience, unless it is told of others.
        let (audience, allowed) = match &subject.audience {
            Some(audience) => {
                let allowed = quoted(&format!("--allowed-audiences={audience}"));
                (audience.clone(), format!(" \\\n  {allowed}"))
            }
            None => (
                format!(
                    "https://iam.googleapis.com/projects/{number}/locations/global/workloadIdentityPools/{pool}/providers/{provider}"
                ),
                String::new(),
            ),
        };
        let condition = quoted(&format!("assertion.project_path=={project:?}"));
        format!(
            "# With the keys in a file Google need not reach the issuer; give the file again after a rotation.
courser coordinator oidc keys > courser-jwks.json
gcloud iam workload-identity-pools create {pool_argument} --location=global
gcloud iam workload-identity-pools providers create-oidc {provider_argument} --location=global \\
  --workload-identity-pool={pool_argument} --issuer-uri={issuer} --jwk-json-path=courser-jwks.json \\
  --attribute-mapping={mapping} \\
  --attribute-condition={condition}{allowed}
gcloud secrets add-iam-policy-binding {secret_argument} --role=roles/secretmanager.secretAccessor \\
  --member={member}

# .gitlab-ci.yml
#   id_tokens: {{GCP_ID_TOKEN: {{aud: {audience}}}}}
#   secrets: {{KEY: {{gcp_secret_manager: {{name: {secret}}}, token: $GCP_ID_TOKEN}}}}
# CI/CD variables
#   GCP_PROJECT_NUMBER={number}
#   GCP_WORKLOAD_IDENTITY_FEDERATION_POOL_ID={pool}
#   GCP_WORKLOAD_IDENTITY_FEDERATION_PROVIDER_ID={provider}
",
            pool_argument = quoted(pool),
            provider_argument = quoted(provider),
            secret_argument = quoted(secret),
            audience = commented(&audience),
            secret = commented(secret),
            number = commented(number),
            pool = commented(pool),
            provider = commented(provider),
            issuer = quoted(subject.issuer.as_str()),
            mapping = quoted(
                "google.subject=assertion.project_id + \"::\" + assertion.ref_type,attribute.project_path=assertion.project_path"
            ),
            member = quoted(&format!(
                "principalSet://iam.googleapis.com/projects/{number}/locations/global/workloadIdentityPools/{pool}/attribute.project_path/{project}"
            )),
        )
    }
}

impl Azure {
    pub(super) fn commands(&self, subject: &Subject) -> String {
        let Self { client_id, vault } = self;
        let audience = subject
            .audience
            .as_deref()
            .unwrap_or("api://AzureADTokenExchange");
        let credential = serde_json::json!({
            "name": "courser", "issuer": subject.issuer.as_str(), "subject": subject.claim("sub"),
            "audiences": [audience],
        });
        format!(
            "{PUBLIC}{issuer}
# Issuer, subject and audience are compared as they are: one credential for each ref.
az ad app federated-credential create --id {client_argument} --parameters {credential}
az keyvault set-policy --name {vault_argument} --spn {client_argument} --secret-permissions get

# .gitlab-ci.yml
#   id_tokens: {{AZ_ID_TOKEN: {{aud: {audience}}}}}
#   secrets: {{KEY: {{azure_key_vault: {{name: NAME}}, token: $AZ_ID_TOKEN}}}}
# CI/CD variables
#   AZURE_KEY_VAULT_SERVER_URL=https://{vault}.vault.azure.net
#   AZURE_CLIENT_ID={client_id}
#   AZURE_TENANT_ID=...
",
            issuer = subject.issuer,
            client_argument = quoted(client_id),
            vault_argument = quoted(vault),
            credential = quoted(&credential.to_string()),
            audience = commented(audience),
            client_id = commented(client_id),
            vault = commented(vault),
        )
    }
}

impl Aws {
    pub(super) fn commands(&self, subject: &Subject) -> String {
        let Self { account, role } = self;
        let issuer = subject.issuer.as_str();
        let host = issuer.split_once("://").map_or(issuer, |(_, host)| host);
        let audience = subject.audience.as_deref().unwrap_or(issuer);
        let trust = serde_json::json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Allow",
                "Principal": {"Federated": format!("arn:aws:iam::{account}:oidc-provider/{host}")},
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": {"StringEquals": {
                    format!("{host}:aud"): audience,
                    format!("{host}:sub"): subject.claim("sub"),
                }},
            }],
        });
        format!(
            "{PUBLIC}{issuer}
aws iam create-open-id-connect-provider --url {url} --client-id-list {client}
aws iam create-role --role-name {role_argument} --assume-role-policy-document {trust}
# and a policy of the role that allows secretsmanager:GetSecretValue

# .gitlab-ci.yml
#   id_tokens: {{AWS_ID_TOKEN: {{aud: {audience}}}}}
#   secrets: {{KEY: {{aws_secrets_manager: NAME}}}}
# CI/CD variables
#   AWS_REGION=...
#   AWS_ROLE_ARN=arn:aws:iam::{account}:role/{role}
",
            url = quoted(issuer),
            client = quoted(audience),
            role_argument = quoted(role),
            audience = commented(audience),
            account = commented(account),
            role = commented(role),
            trust = quoted(&trust.to_string()),
        )
    }
}

#[cfg(test)]
mod tests {
    use courser_coordinator::{Keys, OidcSettings};
    use serde_json::json;

    use super::*;
    use crate::commands::coordinator::oidc::Trust;

    fn subject(audience: Option<&str>) -> Subject {
        Subject {
            settings: OidcSettings::new("/keys.json".into()),
            issuer: "https://ci.example.com:8443".parse().expect("an issuer"),
            keys: Keys::at("/keys.json".into()),
            trust: Trust::Keys,
            place: None,
            audience: audience.map(str::to_owned),
            project: "group/it's".to_owned(),
            claims: json!({"sub": "project_path:group/it's:ref_type:branch:ref:main", "project_path": "group/it's"}),
        }
    }

    #[test]
    fn texts_are_safe_in_a_shell() {
        for (text, shown) in [
            ("group/app", "group/app"),
            ("", "''"),
            ("a b", "'a b'"),
            ("$(reboot)", "'$(reboot)'"),
            ("it's", r"'it'\''s'"),
        ] {
            assert_eq!(quoted(text), shown);
        }
    }

    #[test]
    fn whatever_is_given_is_quoted_and_ends_no_comment() {
        let bad = "a;b\nc";
        let subject = subject(Some(bad));
        let given = || bad.to_owned();
        let google = Google {
            project_number: given(),
            pool: given(),
            provider: given(),
            secret: given(),
        };
        let azure = Azure {
            client_id: given(),
            vault: given(),
        };
        let aws = Aws {
            account: given(),
            role: given(),
        };
        for told in [
            google.commands(&subject),
            azure.commands(&subject),
            aws.commands(&subject),
        ] {
            let rest = told.replace(r"'\''", "");
            let outside: String = rest.split('\'').step_by(2).collect();
            assert!(!outside.contains(bad), "{told}");
        }
        // Google is told of the audience that the token has.
        let told = google.commands(&subject);
        assert!(told.contains("'--allowed-audiences=a;b\nc'"), "{told}");
        assert!(told.contains("{aud: a;b?c}"), "{told}");
    }

    #[test]
    fn every_cloud_binds_issuer_project_and_audience() {
        let google = Google {
            project_number: "42".to_owned(),
            pool: "pool".to_owned(),
            provider: "prov".to_owned(),
            secret: "key".to_owned(),
        };
        let told = google.commands(&subject(None));
        for part in [
            "--issuer-uri=https://ci.example.com:8443",
            r#"--attribute-condition='assertion.project_path=="group/it'\''s"'"#,
            "projects/42/locations/global/workloadIdentityPools/pool/attribute.project_path/",
            "aud: https://iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/pool/providers/prov}",
            "GCP_PROJECT_NUMBER=42",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        let azure = Azure {
            client_id: "c".to_owned(),
            vault: "v".to_owned(),
        };
        let told = azure.commands(&subject(Some("mine")));
        for part in [
            r#""audiences":["mine"]"#,
            r#""issuer":"https://ci.example.com:8443""#,
            "AZURE_CLIENT_ID=c",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        let aws = Aws {
            account: "1".to_owned(),
            role: "r".to_owned(),
        };
        let told = aws.commands(&subject(None));
        for part in [
            r#""ci.example.com:8443:aud":"https://ci.example.com:8443""#,
            r#""ci.example.com:8443:sub":"project_path:group/"#,
            "AWS_ROLE_ARN=arn:aws:iam::1:role/r",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}
