//! From a configured runner to its connection: trust, proxies and name of this call's environment.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use courser_config::{Config, RunnerConfig, SpoolConfig};
use courser_executor::Host;
use courser_helper::LightEnvironment;
use courser_net::{Client, ClientSettings, TlsOptions, TrustSettings};
use courser_runner::client::{Api, BadUrl};
use courser_runner::metrics::Metrics;
use courser_runner::{InProcessHelper, RunnerSettings, Spool, SpoolLimits, WorkingCopies};
use courser_secrets::Surroundings;
use url::Url;

use crate::config_file::ConfigFile;
use crate::environment::ProcessEnvironment;
use crate::executors::executors;
use crate::failure::{Code, Failure};
use crate::session::Session;
use crate::version;

/// The API of the runner's GitLab, as that runner.
pub(crate) fn api(
    runner: &RunnerConfig,
    connection_max_age: Duration,
    system_id: &str,
    session: &Session,
) -> Result<Api, BadUrl> {
    let client = Client::new(client_settings(runner, connection_max_age, session));
    Api::new(
        client,
        &runner.url,
        runner.token.clone(),
        system_id.to_owned(),
    )
}

/// What the client of a runner is made of.
pub(crate) fn client_settings(
    runner: &RunnerConfig,
    connection_max_age: Duration,
    session: &Session,
) -> ClientSettings {
    let trust = session.environment.legs().gitlab(TlsOptions {
        ca_file: runner.tls_ca_file.as_deref(),
        cert_file: runner.tls_cert_file.as_deref(),
        key_file: runner.tls_key_file.as_deref(),
    });
    settings_with(trust, connection_max_age, session)
}

/// The settings of the runner that is configured for a host, else those of a runner without options.
pub(crate) fn settings_for_host(host: &str, config: &Config, session: &Session) -> ClientSettings {
    let is_host = |text: &str| {
        Url::parse(text).is_ok_and(|url| {
            let known = url.host_str().unwrap_or_default();
            known.trim_matches(['[', ']']).eq_ignore_ascii_case(host)
        })
    };
    let mut runners = config.runners.iter();
    let runner = runners.find(|one| is_host(&one.url) || is_host(&one.clone_url));
    let runner = runner.cloned().unwrap_or_default();
    client_settings(&runner, Duration::ZERO, session)
}

/// A client with this trust, through the proxies of this environment.
pub(crate) fn settings_with(
    trust: TrustSettings,
    connection_max_age: Duration,
    session: &Session,
) -> ClientSettings {
    ClientSettings {
        trust,
        proxy: session.environment.proxy.clone(),
        user_agent: version::user_agent(),
        connection_max_age,
    }
}

/// From the polite signal to force (`runner-build-lifecycle.md` 3.9).
const GRACE: Duration = Duration::from_secs(600);

/// What the runners of this process share.
pub(crate) fn runner_settings(
    session: &Session,
    working_directory: PathBuf,
    user: Option<String>,
    file: &ConfigFile,
) -> Result<RunnerSettings, Failure> {
    let environment = &session.environment;
    let program = std::env::current_exe()
        .map_err(|error| Failure::internal(format!("cannot tell where courser lies: {error}")))?;
    let host_name = environment.host_name();
    let system_id = file.system_id()?;
    let spool = spool(file, &working_directory)?;
    let legs = environment.legs_from(&working_directory);
    let host_directory = working_directory.clone();
    Ok(RunnerSettings {
        executors: executors(environment, &working_directory, user.as_deref()),
        host: Host {
            working_directory,
            user,
            helper_command: program.display().to_string(),
            light_helper: Arc::new(InProcessHelper(LightEnvironment {
                variables: environment.variables.clone(),
                host_name: host_name.clone(),
            })),
            grace: GRACE,
        },
        legs,
        proxy: environment.proxy.clone(),
        secrets: surroundings_of_secrets(environment, &host_directory),
        user_agent: version::user_agent(),
        system_id,
        host_name,
        spool,
        keep_alive: Duration::from_secs(30),
        metrics: Metrics::default(),
        working_copies: WorkingCopies::default(),
    })
}

/// What secrets of jobs are resolved with: trust, proxies and variables of this process.
pub(crate) fn surroundings_of_secrets(
    environment: &ProcessEnvironment,
    working_directory: &Path,
) -> Surroundings {
    Surroundings::new(
        environment.legs_from(working_directory),
        environment.proxy.clone(),
        version::user_agent(),
        courser_secrets::Environment::collect(environment.variables.iter()),
    )
}

/// The directory in which this file's runners keep jobs, unless it cannot be written.
pub(crate) fn spool_directory(file: &ConfigFile, working_directory: &Path) -> PathBuf {
    let directory = &file.config.spool.directory;
    if directory.is_empty() {
        file.beside(".spool")
    } else {
        working_directory.join(directory)
    }
}

/// Where the jobs of this file's runners are kept: every process with the same file finds them there.
fn spool(file: &ConfigFile, working_directory: &Path) -> Result<Spool, Failure> {
    let SpoolConfig {
        job_limit,
        total_limit,
        ..
    } = &file.config.spool;
    let limits = SpoolLimits {
        job: job_limit.saturating_mul(1024),
        total: total_limit.saturating_mul(1024),
    };
    let directory = spool_directory(file, working_directory);
    Spool::open(directory.clone(), limits).or_else(|error| {
        if !file.config.spool.directory.is_empty() {
            let message = format!("cannot keep jobs in {}: {error}", directory.display());
            return Err(Failure::new(Code::Surroundings, message)
                .hint("name a directory of this user as directory in [spool]"));
        }
        // A name that nobody can have made before.
        let fallback = tempfile::Builder::new().prefix("courser-spool-").tempdir();
        let fallback = fallback.map_err(|error| {
            let message = format!("cannot keep jobs in {}: {error}", std::env::temp_dir().display());
            Failure::new(Code::Surroundings, message)
        })?;
        let fallback = fallback.keep();
        tracing::warn!(
            "cannot keep jobs in {}: {error}; they are kept in {}, where the next start does not look. \
             Name a directory of this user as directory in [spool]",
            directory.display(),
            fallback.display()
        );
        Spool::open(fallback.clone(), limits).map_err(|error| {
            let message = format!("cannot keep jobs in {}: {error}", fallback.display());
            Failure::new(Code::Surroundings, message)
        })
    })
}
