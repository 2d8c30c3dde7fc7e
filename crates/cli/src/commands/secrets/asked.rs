//! Which secrets are meant: those of a job of this pipeline, or one that flags describe.

use std::collections::HashMap;
use std::path::PathBuf;

use courser_pipeline::VaultSecret as ShortForm;
use courser_protocol::secrets::{VaultAuth, VaultEngine, VaultSecret, VaultServer};
use courser_protocol::{JobSecret, JobSecrets, JobVariable, Secret};
use courser_secrets::Surroundings;
use tokio_util::sync::CancellationToken;

use super::jwt;
use crate::commands::exec::handed_out::{HandedOut, PipelineOptions};
use crate::connection::surroundings_of_secrets;
use crate::failure::{Code, Failure};
use crate::session::Session;

/// One secret of Vault or OpenBao, and who asks for it.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "A secret that no job has")]
pub(super) struct VaultOptions {
    /// As in a job's `secrets:`: PATH/FIELD@MOUNT
    #[arg(long, value_name = "PATH/FIELD@MOUNT", requires = "token_file")]
    vault: Option<String>,
    /// The server
    #[arg(long, env = "VAULT_SERVER_URL", value_name = "URL")]
    server: Option<String>,
    /// Role to log in as [default: the auth method's own]
    #[arg(long, env = "VAULT_AUTH_ROLE", value_name = "NAME")]
    role: Option<String>,
    /// Where the JWT auth method is mounted
    #[arg(
        long,
        env = "VAULT_AUTH_PATH",
        default_value = "jwt",
        value_name = "PATH"
    )]
    auth_path: String,
    /// Namespace
    #[arg(
        long,
        env = "VAULT_NAMESPACE",
        default_value = "",
        hide_default_value = true,
        value_name = "PATH"
    )]
    namespace: String,
    /// Engine: kv-v2, kv-v1 or generic
    #[arg(long, default_value = "kv-v2", value_name = "NAME", value_parser = ["kv-v2", "kv-v1", "generic"])]
    engine: String,
    /// A file with the ID token; - is standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Name of the secret that flags describe.
const OF_FLAGS: &str = "secret";

/// What was asked for.
pub(super) struct Asked {
    pub(super) secrets: JobSecrets,
    /// Expanded, for references in them.
    variables: HashMap<String, Secret>,
    pub(super) surroundings: Surroundings,
    handed_out: Option<HandedOut>,
}

impl Asked {
    /// A job's, or that of flags.
    pub(super) async fn of(
        job: Option<&str>,
        pipeline: &PipelineOptions,
        vault: &VaultOptions,
        ca_file: Option<&str>,
        stop: &CancellationToken,
        session: &Session,
    ) -> Result<Self, Failure> {
        let working_directory = &session.environment.working_directory;
        let surroundings = Surroundings {
            ca_file: ca_file.map(str::to_owned),
            ..surroundings_of_secrets(&session.environment, working_directory)
        };
        match (job, &vault.vault) {
            (Some(job), None) => {
                let handed_out = HandedOut::of(job, pipeline, stop, session).await?;
                let Some(secrets) = handed_out.payload.secrets.clone() else {
                    handed_out.finish().await?;
                    let message = format!("{job:?} asks for no secrets: it has no `secrets:`");
                    return Err(Failure::new(Code::Failed, message));
                };
                Ok(Self {
                    secrets,
                    variables: expanded(&handed_out.payload.variables),
                    surroundings,
                    handed_out: Some(handed_out),
                })
            }
            (None, Some(short)) => Ok(Self {
                secrets: [(OF_FLAGS.to_owned(), vault.secret(short)?)]
                    .into_iter()
                    .collect(),
                variables: HashMap::new(),
                surroundings,
                handed_out: None,
            }),
            (None, None) => {
                let message = "neither a job is named nor a secret";
                Err(Failure::new(Code::Usage, message)
                    .hint("write JOB, or --vault PATH/FIELD@MOUNT --server URL --token-file FILE"))
            }
            (Some(_), Some(_)) => Err(Failure::new(
                Code::Usage,
                "a job and --vault: only one of them can be meant",
            )),
        }
    }

    /// The value of a reference.
    pub(super) fn expand(&self, text: &str) -> String {
        // What flags say is meant as it stands.
        if self.handed_out.is_none() {
            return text.to_owned();
        }
        courser_job::expand(text, |name| {
            self.variables.get(name).map(|value| value.expose().into())
        })
    }

    /// The issuer of its tokens may go.
    pub(super) async fn finish(self) -> Result<(), Failure> {
        match self.handed_out {
            Some(handed_out) => handed_out.finish().await,
            None => Ok(()),
        }
    }
}

impl VaultOptions {
    fn secret(&self, short: &str) -> Result<JobSecret, Failure> {
        let missing = |what: &str| Failure::new(Code::Usage, format!("--vault needs {what}"));
        let url = self.server.clone().ok_or_else(|| missing("--server"))?;
        let file = self.token_file.as_ref();
        let token = jwt::read(file.ok_or_else(|| missing("--token-file"))?)?;
        let role = self.role.clone().filter(|role| !role.is_empty());
        let role = role.map(|role| ("role", Secret::new(role)));
        let ShortForm {
            engine,
            path,
            field,
        } = ShortForm::of_short_form(short);
        Ok(JobSecret {
            vault: Some(VaultSecret {
                server: VaultServer {
                    url,
                    namespace: self.namespace.clone(),
                    auth: VaultAuth {
                        name: "jwt".to_owned(),
                        path: self.auth_path.clone(),
                        data: role.into_iter().chain([("jwt", token)]).collect(),
                    },
                },
                engine: VaultEngine {
                    name: self.engine.clone(),
                    path: engine.path,
                },
                path,
                field,
            }),
            ..JobSecret::default()
        })
    }
}

/// A job's variables by name, each expanded once with the others, as the runner does.
fn expanded(variables: &[JobVariable]) -> HashMap<String, Secret> {
    let plain: HashMap<&str, &str> = variables
        .iter()
        .map(|variable| (variable.key.as_str(), variable.value.expose()))
        .collect();
    let look_up = |name: &str| plain.get(name).map(|value| (*value).into());
    variables
        .iter()
        .map(|variable| {
            let value = variable.value.expose();
            let value = match variable.raw {
                true => value.to_owned(),
                false => courser_job::expand(value, look_up),
            };
            (variable.key.clone(), Secret::new(value))
        })
        .collect()
}
