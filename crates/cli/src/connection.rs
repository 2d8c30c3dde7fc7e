//! From a configured runner to its connection: trust, proxies and name of this call's environment.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use courser_config::RunnerConfig;
use courser_executor::Host;
use courser_helper::LightEnvironment;
use courser_net::{Client, ClientSettings, TlsOptions};
use courser_runner::client::{Api, BadUrl};
use courser_runner::{InProcessHelper, RunnerSettings};

use crate::failure::Failure;
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
    ClientSettings {
        trust: session.environment.legs().gitlab(TlsOptions {
            ca_file: runner.tls_ca_file.as_deref(),
            cert_file: runner.tls_cert_file.as_deref(),
            key_file: runner.tls_key_file.as_deref(),
        }),
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
    system_id: String,
) -> Result<RunnerSettings, Failure> {
    let environment = &session.environment;
    let program = std::env::current_exe()
        .map_err(|error| Failure::internal(format!("cannot tell where courser lies: {error}")))?;
    let host_name = environment.host_name();
    let legs = environment.legs_from(&working_directory);
    Ok(RunnerSettings {
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
        user_agent: version::user_agent(),
        system_id,
        host_name,
        temporary_directory: std::env::temp_dir(),
        keep_alive: Duration::from_secs(30),
    })
}
