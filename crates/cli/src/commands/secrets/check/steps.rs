//! The steps to one secret: what each is about, and which one failed.

use courser_protocol::secrets::{
    AwsSecret, AzureSecret, GitLabSecret, GoogleSecret, VaultEngine, VaultSecret,
};
use courser_protocol::{JobSecret, Secret};
use courser_secrets::{Failure as Refused, IdToken, Looked, Step as Reached};
use url::Url;

/// How far a look came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Passed,
    /// It failed, and the job wants to run without.
    Tolerated,
    Failed,
    NotReached,
}

/// What is looked at, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Name {
    Settings,
    Connect,
    LogIn,
    Claims,
    Policy,
    Path,
    Field,
}

impl Name {
    /// For people.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Connect => "connect",
            Self::LogIn => "log in",
            Self::Claims => "claims",
            Self::Policy => "policy",
            Self::Path => "path",
            Self::Field => "field",
        }
    }

    /// Where a look that failed there came to.
    fn reached(self) -> Reached {
        match self {
            Self::Settings => Reached::Settings,
            Self::Connect => Reached::Connect,
            Self::LogIn => Reached::LogIn,
            Self::Claims => Reached::Claims,
            Self::Policy => Reached::Policy,
            Self::Path => Reached::Path,
            Self::Field => Reached::Field,
        }
    }

    /// What a look that failed at `failed` says of this step.
    fn state(self, failed: Reached) -> State {
        match (self, failed) {
            // No usable answer: whether it was about policy or path nobody knows.
            (Self::Path, Reached::Read) => State::Failed,
            (step, failed) if step.reached() == failed => State::Failed,
            (step, failed) if step.reached() < failed => State::Passed,
            _ => State::NotReached,
        }
    }
}

/// One step.
#[derive(Debug, serde::Serialize)]
pub(super) struct Step {
    pub(super) step: Name,
    pub(super) state: State,
    /// What it is about.
    pub(super) detail: String,
    /// Why it failed.
    pub(super) reason: Option<String>,
    /// What to look at or to change.
    pub(super) advice: Vec<String>,
}

/// One secret.
#[derive(Debug, serde::Serialize)]
pub(super) struct Checked {
    pub(super) name: String,
    pub(super) provider: &'static str,
    pub(super) steps: Vec<Step>,
}

impl Checked {
    /// `secret` has its references replaced.
    pub(super) fn of(name: &str, secret: &JobSecret, got: &Result<Looked, Refused>) -> Self {
        let (provider, mut plan) = plan(secret);
        let (failed, in_vain) = match got {
            Ok(Looked::There(variable)) => {
                let form = if variable.file {
                    "a file"
                } else {
                    "a variable"
                };
                let size = match variable.value.expose().len() {
                    1 => "1 byte".to_owned(),
                    count => format!("{count} bytes"),
                };
                if let Some((_, detail)) = plan.last_mut() {
                    *detail = format!("{detail}, {size}, as {form}");
                }
                (None, State::Failed)
            }
            Ok(Looked::Empty(refused)) => (Some(refused), State::Tolerated),
            Err(refused) => (Some(refused), State::Failed),
            Ok(Looked::Unknown) => (None, State::Failed),
        };
        let steps = plan.into_iter().map(|(step, detail)| {
            let told = |state| Step {
                step,
                state,
                detail,
                reason: None,
                advice: Vec::new(),
            };
            match (got, failed) {
                (Ok(Looked::Unknown), _) => Step {
                    reason: Some("no provider that a runner knows".to_owned()),
                    ..told(State::Failed)
                },
                (_, None) => told(State::Passed),
                (_, Some(refused)) => match step.state(refused.step) {
                    State::Failed => Step {
                        reason: Some(refused.to_string()),
                        advice: refused.advice.clone(),
                        ..told(in_vain)
                    },
                    state => told(state),
                },
            }
        });
        let mut checked = Self {
            name: name.to_owned(),
            provider,
            steps: steps.collect(),
        };
        if in_vain == State::Tolerated {
            checked.advise(vec![
                "the job's variable is empty: FF_SECRET_RESOLVING_FAILS_IF_MISSING is false"
                    .to_owned(),
            ]);
        }
        checked
    }

    /// Lines to the step that failed.
    pub(super) fn advise(&mut self, lines: Vec<String>) {
        let mut steps = self.steps.iter_mut();
        if let Some(step) = steps.find(|step| step.reason.is_some()) {
            step.advice.extend(lines);
        }
    }

    pub(super) fn is_good(&self) -> bool {
        !self.steps.iter().any(|step| step.state == State::Failed)
    }
}

/// The keyword of `.gitlab-ci.yml`, and each step with what it is about.
fn plan(secret: &JobSecret) -> (&'static str, Vec<(Name, String)>) {
    if let Some(vault) = &secret.vault {
        ("vault", of_vault(vault))
    } else if let Some(google) = &secret.gcp_secret_manager {
        ("gcp_secret_manager", of_google(google))
    } else if let Some(azure) = &secret.azure_key_vault {
        ("azure_key_vault", of_azure(azure))
    } else if let Some(aws) = &secret.aws_secrets_manager {
        ("aws_secrets_manager", of_aws(aws))
    } else if let Some(gitlab) = &secret.gitlab_secrets_manager {
        ("gitlab_secrets_manager", of_gitlab(gitlab))
    } else {
        ("unknown", vec![(Name::Settings, "provider".to_owned())])
    }
}

fn of_vault(vault: &VaultSecret) -> Vec<(Name, String)> {
    let data = &vault.server.auth.data;
    let role = match data.get("role") {
        Some(role) => format!("role {}", role.expose()),
        None => "the default role".to_owned(),
    };
    let namespace = match vault.server.namespace.trim_matches('/') {
        "" => String::new(),
        namespace => format!(" in namespace {namespace}"),
    };
    let path = read_path(&vault.engine, &vault.path);
    vec![
        (Name::Settings, format!("engine {}", vault.engine.name)),
        (Name::Connect, shown(&vault.server.url)),
        (
            Name::LogIn,
            format!("{role} at auth/{}{namespace}", vault.server.auth.path),
        ),
        (Name::Claims, claims(data.get("jwt"))),
        (Name::Policy, format!("read on {path}")),
        (Name::Path, path),
        (Name::Field, format!("field {}", vault.field)),
    ]
}

fn of_gitlab(gitlab: &GitLabSecret) -> Vec<(Name, String)> {
    let login = &gitlab.server.inline_auth;
    let path = read_path(&gitlab.engine, &gitlab.path);
    vec![
        (Name::Settings, format!("engine {}", gitlab.engine.name)),
        (Name::Connect, shown(&gitlab.server.url)),
        (
            Name::LogIn,
            format!("role {} at {}", login.role, login.path),
        ),
        (Name::Claims, claims(Some(&login.jwt))),
        (Name::Policy, format!("read on {path}")),
        (Name::Path, path),
        (Name::Field, format!("field {}", gitlab.field)),
    ]
}

fn of_google(google: &GoogleSecret) -> Vec<(Name, String)> {
    let server = &google.server;
    let name = match google.name.starts_with("projects/") {
        true => google.name.clone(),
        false => format!("projects/{}/secrets/{}", server.project_number, google.name),
    };
    vec![
        (Name::Settings, format!("project {}", server.project_number)),
        (Name::Connect, "Google's token service".to_owned()),
        (
            Name::LogIn,
            format!(
                "provider {} of pool {}",
                server.workload_identity_federation_provider_id,
                server.workload_identity_federation_pool_id
            ),
        ),
        (Name::Claims, claims(Some(&server.jwt))),
        (
            Name::Policy,
            format!("secretmanager.versions.access on {name}"),
        ),
        (Name::Path, format!("{name}/versions/{}", google.version)),
        (Name::Field, "value".to_owned()),
    ]
}

fn of_azure(azure: &AzureSecret) -> Vec<(Name, String)> {
    let server = &azure.server;
    let version = match azure.version.as_str() {
        "" => String::new(),
        version => format!(", version {version}"),
    };
    vec![
        (Name::Settings, format!("tenant {}", server.tenant_id)),
        (Name::Connect, shown(&server.url)),
        (Name::LogIn, format!("application {}", server.client_id)),
        (Name::Claims, claims(Some(&server.jwt))),
        (Name::Policy, "get on secrets of the vault".to_owned()),
        (Name::Path, format!("secret {}{version}", azure.name)),
        (Name::Field, "value".to_owned()),
    ]
}

fn of_aws(aws: &AwsSecret) -> Vec<(Name, String)> {
    let server = &aws.server;
    let or = |own: &String, of_server: &String| match own.is_empty() {
        true => of_server.clone(),
        false => own.clone(),
    };
    let role = match or(&aws.role_arn, &server.role_arn) {
        role if role.is_empty() => "no role".to_owned(),
        role => format!("role {role}"),
    };
    let field = match aws.field.as_str() {
        "" => "value".to_owned(),
        field => format!("key {field}"),
    };
    vec![
        (
            Name::Settings,
            format!("region {}", or(&aws.region, &server.region)),
        ),
        (Name::Connect, "AWS' token service".to_owned()),
        (Name::LogIn, role),
        (Name::Claims, claims(Some(&server.jwt))),
        (
            Name::Policy,
            format!("secretsmanager:GetSecretValue on {}", aws.secret_id),
        ),
        (Name::Path, format!("secret {}", aws.secret_id)),
        (Name::Field, field),
    ]
}

/// The path of the API, which is what policies name.
fn read_path(engine: &VaultEngine, path: &str) -> String {
    let between = match engine.name.as_str() {
        "kv-v2" => "data",
        _ => "",
    };
    let parts = [&engine.path, between, path];
    let segments = parts.iter().flat_map(|part| part.split('/'));
    let segments: Vec<_> = segments.filter(|segment| !segment.is_empty()).collect();
    segments.join("/")
}

/// A URL without user and password; what is no URL is not shown, as it may have them too.
fn shown(url: &str) -> String {
    match Url::parse(url) {
        Ok(url) => courser_net::shown_url(&url),
        Err(_) => "what is no URL".to_owned(),
    }
}

/// Who the job is by its token.
fn claims(token: Option<&Secret>) -> String {
    let Some(Ok(token)) = token.map(IdToken::read) else {
        return "no ID token".to_owned();
    };
    let said = ["sub", "aud"].into_iter().filter_map(|name| {
        let value = token.claims.get(name)?;
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        Some(format!("{name} {}", text.escape_debug()))
    });
    said.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_of_each_step_what_is_known() {
        let steps = [
            Name::Settings,
            Name::Connect,
            Name::LogIn,
            Name::Claims,
            Name::Policy,
            Name::Path,
            Name::Field,
        ];
        let marks = |failed| {
            let marks = steps.map(|step| match step.state(failed) {
                State::Passed => '+',
                State::Failed => 'x',
                State::NotReached => '-',
                State::Tolerated => '!',
            });
            String::from_iter(marks)
        };
        for (failed, expected) in [
            (Reached::Settings, "x------"),
            (Reached::Connect, "+x-----"),
            (Reached::LogIn, "++x----"),
            (Reached::Claims, "+++x---"),
            (Reached::Read, "++++-x-"),
            (Reached::Policy, "++++x--"),
            (Reached::Path, "+++++x-"),
            (Reached::Field, "++++++x"),
        ] {
            assert_eq!(marks(failed), expected, "{failed:?}");
        }
    }
}
