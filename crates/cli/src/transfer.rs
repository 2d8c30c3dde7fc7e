//! What the commands that scripts call for artifacts and caches share (`runner-cli.md` 8.1).

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use courser_config::GoDuration;
use courser_helper::{HelperEnvironment, HelperError, Output, Programs, TransferCommand};
use courser_protocol::Secret;

use crate::failure::Failure;
use crate::job_streams::Ordered;
use crate::session::Session;
use crate::version;

/// Which job of which server.
#[derive(Debug, clap::Args)]
pub(crate) struct JobFlags {
    /// Job ID
    #[arg(long, env = "CI_JOB_ID", default_value_t = 0)]
    pub(crate) id: i64,
    /// Job token
    #[arg(long, env = "CI_JOB_TOKEN", default_value = "", hide_env_values = true)]
    pub(crate) token: Secret,
    /// GitLab CI URL
    #[arg(long, env = "CI_SERVER_URL", default_value = "")]
    pub(crate) url: String,
    /// File containing the certificates to verify the peer when using HTTPS
    #[arg(long, env = "CI_SERVER_TLS_CA_FILE")]
    pub(crate) tls_ca_file: Option<String>,
    /// File containing certificate for TLS client auth when using HTTPS
    #[arg(long, env = "CI_SERVER_TLS_CERT_FILE")]
    tls_cert_file: Option<String>,
    /// File containing private key for TLS client auth when using HTTPS
    #[arg(long, env = "CI_SERVER_TLS_KEY_FILE")]
    tls_key_file: Option<String>,
}

impl JobFlags {
    /// Certificate and key, when both are given.
    pub(crate) fn client_pair(&self) -> Option<(String, String)> {
        let certificate = self.tls_cert_file.clone().filter(|file| !file.is_empty())?;
        let key = self.tls_key_file.clone().filter(|file| !file.is_empty())?;
        Some((certificate, key))
    }

    /// The CA file, when one is given.
    pub(crate) fn ca_file(&self) -> Option<String> {
        self.tls_ca_file.clone().filter(|file| !file.is_empty())
    }

    /// Whether server, token and job are named.
    pub(crate) fn are_complete(&self) -> bool {
        !self.url.is_empty() && !self.token.is_empty() && self.id > 0
    }
}

/// Which files.
#[derive(Debug, clap::Args)]
pub(crate) struct FileFlags {
    /// Add paths to archive
    #[arg(long)]
    pub(crate) path: Vec<String>,
    /// Exclude paths from the archive
    #[arg(long)]
    pub(crate) exclude: Vec<String>,
    /// Add git untracked files
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = crate::go_flags::parse_bool, value_name = "BOOL")]
    pub(crate) untracked: bool,
    /// Detailed information (has no effect)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = crate::go_flags::parse_bool, value_name = "BOOL")]
    verbose: bool,
}

/// A duration in Go's notation that is not negative.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = GoDuration::parse(text).map_err(|error| error.to_string())?;
    u64::try_from(duration.nanoseconds())
        .map(Duration::from_nanos)
        .map_err(|_| format!("{text:?} is negative"))
}

/// The helper's view of this process.
pub(crate) fn helper_environment(session: &Session) -> HelperEnvironment {
    let environment = &session.environment;
    HelperEnvironment {
        variables: environment.variables.clone(),
        proxy: environment.proxy.clone(),
        legs: environment.legs(),
        host_name: environment.host_name(),
        user_agent: version::user_agent(),
        retry_pause: Duration::from_secs(1),
        temporary_directory: temporary_directory(),
    }
}

/// `TMPDIR`, or the system's.
fn temporary_directory() -> PathBuf {
    std::env::temp_dir()
}

/// The current directory as a request names it.
pub(crate) fn working_directory(session: &Session) -> Result<String, Failure> {
    let directory = &session.environment.working_directory;
    directory
        .to_str()
        .map(ToOwned::to_owned)
        .ok_or_else(|| Failure::invalid(format!("{} is no UTF-8", directory.display())))
}

/// Caches on a server come later: saying nothing would look like a cache that never hits.
pub(crate) fn refuse_cache_server(
    url: &Option<String>,
    gocloud_url: &Option<String>,
) -> Result<(), Failure> {
    for (flag, value) in [("--url", url), ("--gocloud-url", gocloud_url)] {
        if value.as_ref().is_some_and(|value| !value.is_empty()) {
            return Err(Failure::invalid(format!(
                "caches on a server ({flag}) are not built yet, only local ones"
            )));
        }
    }
    Ok(())
}

/// Runs one command in the current directory.
pub(crate) async fn run(command: &TransferCommand, session: &Session) -> ExitCode {
    let environment = helper_environment(session);
    let mut output = Output {
        out: &mut Ordered::new(std::io::stdout(), std::io::stderr()),
        err: &mut Ordered::new(std::io::stderr(), std::io::stdout()),
        programs: Programs::Inherit,
    };
    exit_code(courser_helper::run_command(command, &environment, &mut output).await)
}

/// The helper has printed why it failed.
pub(crate) fn exit_code(result: Result<(), HelperError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::debug!("{error}");
            ExitCode::from(Failure::EXIT_OF_RUNNER)
        }
    }
}
