//! From a configured runner to its connection: trust, proxies and name of this call's environment.

use std::path::PathBuf;
use std::time::Duration;

use courser_config::RunnerConfig;
use courser_net::{Client, ClientSettings, TrustSettings};
use courser_runner::client::{Api, BadUrl};

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
    let file = |path: &Option<String>| path.as_ref().map(PathBuf::from);
    ClientSettings {
        trust: TrustSettings {
            system: session.environment.system_roots.clone(),
            ca_file: file(&runner.tls_ca_file),
            cert_file: file(&runner.tls_cert_file),
            key_file: file(&runner.tls_key_file),
            certificate_directory: Some(session.environment.certificate_directory()),
            inline_ca: None,
        },
        proxy: session.environment.proxy.clone(),
        user_agent: version::user_agent(),
        connection_max_age,
    }
}
