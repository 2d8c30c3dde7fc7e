//! `courser coordinator serve`: the embedded GitLab side as a service; `oidc`: its issuer of ID tokens.

mod oidc;
mod revision;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use courser_coordinator::{
    Certificate, Coordinator, Durability, Handle, Limits, Origin, Project, ServedRepository,
    Settings,
};
use courser_net::Clients;
use courser_protocol::Secret;
use jiff::Timestamp;

use self::revision::{Repositories, ServedProject};
use crate::failure::{Code, Failure};
use crate::oidc_options::OidcOptions;
use crate::platform;
use crate::repository::{Occasion, Repository, git};
use crate::session::Session;

/// Arguments of `coordinator`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

impl Arguments {
    /// Whether it serves until it is told to end.
    pub(super) fn stays(&self) -> bool {
        matches!(self.action, Action::Serve(_))
    }
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Serve the runner API over HTTPS
    Serve(Serve),
    /// Show the issuer of ID tokens and its keys, and what a provider has to be told
    Oidc(oidc::Arguments),
}

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
struct Serve {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:8443", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Host name under which runners reach it, beside the loopback names
    #[arg(long, value_name = "NAME")]
    external_host: Option<String>,
    /// PEM certificate chain, leaf first; watched for renewal
    #[arg(long, requires = "key", value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// PEM key of the certificate
    #[arg(long, requires = "certificate", value_name = "FILE")]
    key: Option<PathBuf>,
    /// PEM certificates of authorities: only clients with a certificate of theirs may connect; watched for changes
    #[arg(long, value_name = "FILE")]
    client_ca_file: Option<PathBuf>,
    /// Database, logs and artifacts [default: $XDG_STATE_HOME/courser/coordinator]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Token that registers runners [default: a random one]
    #[arg(
        long,
        env = "COURSER_REGISTRATION_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    registration_token: Option<Secret>,
    /// A Git repository whose pipelines can be run; it is only read
    #[arg(long = "repository", value_name = "PATH")]
    repositories: Vec<PathBuf>,
    #[command(flatten)]
    oidc: OidcOptions,
}

/// Runs it.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    let serve = match arguments.action {
        Action::Serve(serve) => serve,
        Action::Oidc(oidc) => return oidc::run(oidc, session).await,
    };
    let state = serve.state.clone().map_or_else(
        || session.environment.user_state().join("coordinator"),
        |state| session.environment.working_directory.join(state),
    );
    let mut projects = Vec::new();
    for (index, path) in serve.repositories.iter().enumerate() {
        let path = session.environment.working_directory.join(path);
        let opened = open(&path, index as i64 + 1, &state)?;
        let same = |(_, other): &(ServedProject, Project)| other.path == opened.1.path;
        if let Some(first) = projects.iter().position(same) {
            let [first, second] = [first, index].map(|at| serve.repositories[at].display());
            let text = format!(
                "--repository {first} and --repository {second} are both {}: their jobs would have the same ID tokens",
                opened.1.path
            );
            return Err(Failure::invalid(text));
        }
        projects.push(opened);
    }
    let served = projects.iter().map(|(served, _)| served.clone());
    let repositories = Arc::new(Repositories::new(served.collect()));
    let settings = Settings {
        address: serve.listen,
        external_host: serve.external_host.clone(),
        certificate: match (&serve.certificate, &serve.key) {
            (Some(certificate), Some(key)) => Certificate::Files {
                certificate: certificate.clone(),
                key: key.clone(),
            },
            _ => Certificate::Generated,
        },
        clients: serve
            .client_ca_file
            .clone()
            .map_or(Clients::Anybody, Clients::OfAuthorities),
        state_dir: state.clone(),
        durability: Durability::Durable,
        registration_token: serve.registration_token,
        pipelines: (!projects.is_empty()).then(|| Arc::clone(&repositories) as Arc<_>),
        limits: Limits::default(),
        default_timeout: 3600,
        oidc: serve.oidc.settings(state.join("oidc")),
        clock: Arc::new(Timestamp::now),
    };
    let coordinator = Coordinator::start(settings)
        .await
        .map_err(|error| Failure::from_error(Code::Surroundings, &error))?;
    repositories.are_at(coordinator.url().as_str());
    for (_, project) in &projects {
        coordinator
            .add_project(project.clone())
            .await
            .map_err(|error| Failure::from_error(Code::Internal, &error))?;
    }
    announce(&coordinator, &state, &projects)?;
    wait_for_the_end().await?;
    coordinator.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// The repository, and one of ours beside it that jobs fetch from.
fn open(path: &Path, id: i64, state: &Path) -> Result<(ServedProject, Project), Failure> {
    let named =
        |message: String| Failure::invalid(format!("--repository {}: {message}", path.display()));
    let repository = Repository::discover(path).map_err(|error| named(error.to_string()))?;
    if repository.git.is_none() {
        return Err(named("not a Git working tree".to_owned()));
    }
    let ask = |question: &[&str]| {
        let arguments = ["rev-parse", "--path-format=absolute"]
            .iter()
            .chain(question);
        git(&repository.root, arguments).map_err(|error| named(error.to_string()))
    };
    let objects = ask(&["--git-path", "objects"])?;
    let shallow = PathBuf::from(ask(&["--git-path", "shallow"])?.trim_end());
    let origin = Origin {
        objects: Some(PathBuf::from(objects.trim_end())),
        shallow: shallow.is_file().then_some(shallow),
        object_format: ask(&["--show-object-format"])?.trim_end().to_owned(),
    };
    let git_dir = state.join(format!("repositories/{id}.git"));
    let beside =
        ServedRepository::create(&git_dir, &origin).map_err(|error| named(error.to_string()))?;
    let common = PathBuf::from(ask(&["--git-common-dir"])?.trim_end());
    let event = repository.event(&Occasion::from_source("api"));
    let path = event
        .predefined
        .get("CI_PROJECT_PATH")
        .cloned()
        .unwrap_or_default();
    let path = Project::plain_path(&path);
    let project = Project {
        id,
        path,
        repository: beside.with_lfs_objects(common.join("lfs/objects")),
    };
    let served = ServedProject {
        project: project.clone(),
        repository,
        common,
    };
    Ok((served, project))
}

/// What a runner's administrator needs, on standard output.
fn announce(
    coordinator: &Handle,
    state: &Path,
    projects: &[(ServedProject, Project)],
) -> Result<(), Failure> {
    if let Some(root) = coordinator.root_pem() {
        let path = state.join("root.crt");
        std::fs::write(&path, root)
            .map_err(|error| Failure::invalid(format!("{}: {error}", path.display())))?;
        println!("root certificate    {}", path.display());
    }
    let numbers = projects
        .iter()
        .map(|(_, project)| (project.path.clone(), project.id));
    oidc::leave(&state.join("oidc"), coordinator, state, numbers.collect())?;
    println!(
        "registration token  {}",
        coordinator.registration_token().expose()
    );
    println!(
        "private token       {}",
        coordinator.private_token().expose()
    );
    for (_, project) in projects {
        println!("project {:<11} {}", project.id, project.path);
    }
    // Last: whoever waits for this line finds everything ready.
    println!("url                 {}", coordinator.url());
    std::io::stdout()
        .flush()
        .map_err(|error| Failure::internal(format!("standard output: {error}")))
}

async fn wait_for_the_end() -> Result<(), Failure> {
    let failed = |error| Failure::internal(format!("cannot listen for signals: {error}"));
    let mut interrupt = platform::interrupts().map_err(failed)?;
    let mut terminate = platform::terminations().map_err(failed)?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        // Renewed certificates are told of at once, not when somebody connects.
        () = courser_net::watch_trust_files() => {}
    }
    Ok(())
}

/// What `--help` says below the options.
const HELP: &str = "\
Serves the runner API to any GitLab runner, the official one included.

At start it prints its URL, the registration token and a private token. With --repository,
pipelines are created for the committed .gitlab-ci.yml of a branch or tag:

  curl -g --cacert STATE/root.crt -X POST -H \"PRIVATE-TOKEN: $TOKEN\" \\
    \"https://localhost:8443/api/v4/projects/1/pipeline?ref=main&variables[KEY]=VALUE\"

GET .../projects/1/pipelines/ID shows one, POST .../projects/1/pipelines/ID/cancel stops it.
POST .../projects/1/jobs/ID/play starts a manual job, GET .../projects/1/jobs/ID/trace is a log.
Projects are numbered in the order of --repository.

Without --certificate a throw-away authority is made at each start: its keys stay in memory, its
root certificate is written to STATE/root.crt, for `tls-ca-file` of runners (they read it again
when it changes).";
