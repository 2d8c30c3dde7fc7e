//! The payload that a runner would be handed for one job, for those who look at it (`courser secrets`).
//!
//! A coordinator evaluates the pipeline, signs the job's ID tokens and hands it out like any other; nothing of it runs.

use std::path::PathBuf;
use std::time::Duration;

use courser_config::RunnerConfig;
use courser_coordinator::{Beforehand, Handle};
use courser_net::{Client, ClientSettings, Legs, ProxySettings, TlsOptions};
use courser_pipeline::JobWhen;
use courser_protocol::JobResponse;
use courser_runner::client::{Api, info};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::containers::ContainerOptions;
use super::launch::{self, Request};
use super::project::Target;
use super::selection;
use super::state::{ProjectState, RunState};
use crate::event_options::EventOptions;
use crate::executors::executors;
use crate::failure::{Code, Failure};
use crate::oidc_options::LocalOidcOptions;
use crate::session::Session;
use crate::version;

/// Which pipeline.
#[derive(Debug, clap::Args)]
pub(crate) struct PipelineOptions {
    /// The pipeline of this directory
    #[arg(short = 'C', long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Another file than .gitlab-ci.yml
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Take the directory as it lies there, whatever Git knows of it
    #[arg(long)]
    no_git: bool,
    #[command(flatten)]
    event: EventOptions,
    #[command(flatten)]
    oidc: LocalOidcOptions,
}

/// A job that was handed out; its ID tokens are those of an issuer that answers until [`finish`](Self::finish).
pub(crate) struct HandedOut {
    pub(crate) payload: JobResponse,
    coordinator: Handle,
    run: RunState,
}

impl HandedOut {
    /// Hands out the job of that name.
    ///
    /// # Errors
    ///
    /// No pipeline, no such job, or the coordinator cannot give it to a runner: a variable of a provider is missing.
    pub(crate) async fn of(
        job: &str,
        options: &PipelineOptions,
        stop: &CancellationToken,
        session: &Session,
    ) -> Result<Self, Failure> {
        let mut names = vec![job.to_owned()];
        let target = Target::find(
            &session.environment.working_directory,
            options.directory.as_deref(),
            options.file.as_deref(),
            &mut names,
            !options.no_git,
        )?;
        if names.is_empty() {
            let message = format!("{job} is a directory, and no job is named");
            return Err(Failure::new(Code::Usage, message).hint("write -C DIR JOB"));
        }
        let event = options.event.clone();
        let request = Request {
            containers: ContainerOptions::in_shell(),
            variables: event.given_variables(&session.environment, || target.path())?,
            includes: event.includes(&session.environment)?,
            oidc: options.oidc.of_run(&session.environment),
            target,
            event,
            json: false,
        };
        let state = ProjectState::of(&session.environment, &request.target.project.root);
        let kept = |error| Failure::internal(format!("{}: {error}", state.root().display()));
        let run = state.begin_run(Timestamp::now()).map_err(kept)?;
        let handing_out = Box::pin(hand_out(job, request, &run, session));
        let handed_out = tokio::select! {
            handed_out = handing_out => handed_out,
            () = stop.cancelled() => Err(Failure::new(Code::Interrupted, "interrupted")),
        };
        match handed_out {
            Ok((payload, coordinator)) => Ok(Self {
                payload,
                coordinator,
                run,
            }),
            Err(failure) => {
                run.discard().map_err(kept)?;
                Err(failure)
            }
        }
    }

    /// Where the job would be, which is gone after [`finish`](Self::finish).
    pub(crate) fn directory(&self) -> String {
        self.run.root().display().to_string()
    }

    /// Forgets the job.
    pub(crate) async fn finish(self) -> Result<(), Failure> {
        let root = self.directory();
        self.coordinator.stop().await;
        let kept = |error| Failure::internal(format!("{root}: {error}"));
        self.run.discard().map_err(kept)
    }
}

async fn hand_out(
    job: &str,
    request: Request,
    run: &RunState,
    session: &Session,
) -> Result<(JobResponse, Handle), Failure> {
    let mut prepared = launch::prepare(&request, run).await?;
    let mut pipeline = prepared.evaluated.pipeline.clone();
    let found = selection::positions(&pipeline.jobs, job)?;
    let [place] = found[..] else {
        let names = found.iter().map(|place| pipeline.jobs[*place].name.clone());
        let names: Vec<_> = names.collect();
        let message = format!("{job:?} means {} jobs", names.len());
        return Err(
            Failure::new(Code::Usage, message).hint(format!("choose one of: {}", names.join(", ")))
        );
    };
    let mut chosen = pipeline.jobs.swap_remove(place);
    // Nothing has to go before: what others leave is not looked at.
    chosen.needs = Some(Vec::new());
    chosen.dependencies = Some(Vec::new());
    chosen.resource_group = None;
    chosen.when = JobWhen::Always;
    pipeline.jobs = vec![chosen];
    let beforehand = Beforehand {
        played: vec![0],
        passed: Vec::new(),
    };
    let began = prepared
        .begin(pipeline, beforehand, request.variables, None)
        .await?;
    let coordinator = prepared.coordinator;
    let token = began.tokens.shell;
    let token = token.ok_or_else(|| Failure::internal("no runner for jobs in a shell"))?;
    // The coordinator's own root and nothing else.
    let legs = Legs::only(
        coordinator.root_pem().map(str::to_owned),
        run.root().to_owned(),
    );
    let client = Client::new(ClientSettings {
        trust: legs.gitlab(TlsOptions::default()),
        proxy: ProxySettings {
            http: None,
            https: None,
            no_proxy: None,
        },
        user_agent: version::user_agent(),
        connection_max_age: Duration::ZERO,
    });
    let url = coordinator.url().to_string();
    let api = Api::new(client, &url, token, "r_coursersecrets".to_owned())
        .map_err(|error| Failure::from_error(Code::Internal, &error))?;
    let runner = RunnerConfig {
        executor: "shell".to_owned(),
        ..RunnerConfig::default()
    };
    let executors = executors(&session.environment, run.root(), None);
    let mut info = info::of_runner(&runner, &executors);
    // Whoever looks at the job does that.
    info.features.vault_secrets = true;
    let outcome = api.request_job(&info).await;
    if let Some(received) = outcome.job {
        return Ok((received.payload, coordinator));
    }
    let snapshot = coordinator.snapshot(began.pipeline).await;
    let ended = snapshot.and_then(|snapshot| snapshot.jobs.into_iter().next());
    let why = ended.and_then(|ended| {
        Some((
            ended.end.failure_reason.unwrap_or_default(),
            ended.end.message?,
        ))
    });
    coordinator.stop().await;
    let Some((reason, why)) = why else {
        let message = format!("{job:?} was given to no runner");
        return Err(Failure::new(Code::Failed, message));
    };
    let message = format!("GitLab would give {job:?} to no runner: {reason}: {why}");
    let failure = Failure::new(Code::Failed, message);
    Err(match reason.as_str() {
        "secrets_provider_not_found" => failure.hint(
            "what the project has in GitLab, --variable gives here, once for each: --variable VAULT_SERVER_URL=VALUE",
        ),
        _ => failure,
    })
}
