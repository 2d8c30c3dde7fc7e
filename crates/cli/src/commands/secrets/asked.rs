//! Which secrets are meant: those of a job of this pipeline, or one that flags describe.

use std::path::PathBuf;

use courser_job::{DirectoryLayout, Job, RunnerContext};
use courser_pipeline::VaultSecret as ShortForm;
use courser_protocol::secrets::{VaultAuth, VaultEngine, VaultSecret, VaultServer};
use courser_protocol::{JobSecret, Secret};
use courser_secrets::{Request, Surroundings};
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
    /// As the runner would resolve it.
    pub(super) request: Request,
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
                match request_of(&handed_out, job) {
                    Ok(request) => Ok(Self {
                        request,
                        surroundings,
                        handed_out: Some(handed_out),
                    }),
                    Err(failure) => {
                        handed_out.finish().await?;
                        Err(failure)
                    }
                }
            }
            (None, Some(short)) => {
                let secret = (OF_FLAGS.to_owned(), vault.secret(short)?);
                let secrets = [secret].into_iter().collect();
                Ok(Self {
                    // What flags say is meant as it stands.
                    request: Request::new(&secrets, str::to_owned),
                    surroundings,
                    handed_out: None,
                })
            }
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

    /// The issuer of its tokens may go.
    pub(super) async fn finish(self) -> Result<(), Failure> {
        match self.handed_out {
            Some(handed_out) => handed_out.finish().await,
            None => Ok(()),
        }
    }
}

/// The secrets of a job with its variables and feature flags, read as the runner reads them.
fn request_of(handed_out: &HandedOut, name: &str) -> Result<Request, Failure> {
    let context = RunnerContext {
        directories: DirectoryLayout {
            builds: handed_out.directory(),
            cache: handed_out.directory(),
            shared_builds: false,
        },
        ..RunnerContext::default()
    };
    let job = Job::accept(handed_out.payload.clone(), context).map_err(|rejected| {
        let message = format!("a runner would refuse {name:?}: {}", rejected.message);
        Failure::new(Code::Failed, message)
    })?;
    Request::of(&job).ok_or_else(|| {
        let message = format!("{name:?} asks for no secrets: it has no `secrets:`");
        Failure::new(Code::Failed, message)
    })
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
