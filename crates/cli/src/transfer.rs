//! What the commands that scripts call for artifacts and caches share (`runner-cli.md` 8.1).

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use courser_config::{Environment, GoDuration};
use courser_helper::{HelperEnvironment, HelperError, Output, Programs, TransferCommand};
use courser_protocol::Secret;

use crate::failure::Failure;
use crate::job_streams::Ordered;
use crate::session::Session;
use crate::version;

/// Pause before the second try of a transfer.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_secs(1);

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

/// How often a transfer is tried again.
#[derive(Debug, clap::Args)]
pub(crate) struct RetryFlags {
    /// How many times to retry after the first try
    #[arg(long, default_value_t = 2)]
    pub(crate) retry: u32,
    /// How long to wait between tries
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    pub(crate) retry_time: Duration,
    /// Interval of progress lines (has no effect)
    #[arg(long)]
    transfer_meter_frequency: Option<String>,
}

/// A cache's server, which is refused by name, and what would concern it.
#[derive(Debug, clap::Args)]
pub(crate) struct CacheServerFlags {
    /// URL of the cache (not built yet)
    #[arg(long)]
    url: Option<String>,
    /// Go Cloud URL of the cache (not built yet)
    #[arg(long)]
    gocloud_url: Option<String>,
    /// Minutes a transfer may take (no effect on local archives)
    #[arg(long, default_value_t = 0)]
    timeout: u64,
    /// File with credentials of the server (no effect on local archives)
    #[arg(long)]
    env_file: Option<PathBuf>,
    /// Bytes copied at once (no effect on local archives)
    #[arg(long, default_value_t = 0)]
    transfer_buffer_size: u64,
    /// Bytes of a part (no effect on local archives)
    #[arg(long, default_value_t = 0)]
    chunk_size: u64,
    /// Parts at once (no effect on local archives)
    #[arg(long, default_value_t = 0)]
    concurrency: u64,
    #[command(flatten)]
    pub(crate) retries: RetryFlags,
}

impl CacheServerFlags {
    /// An error that names the flag, when there is a server.
    pub(crate) fn refuse(&self) -> Result<(), Failure> {
        refuse_cache_server("--url", &self.url)?;
        refuse_cache_server("--gocloud-url", &self.gocloud_url)
    }
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
        started: jiff::Timestamp::now(),
        retry_pause: RETRY_PAUSE,
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
pub(crate) fn refuse_cache_server(flag: &str, value: &Option<String>) -> Result<(), Failure> {
    if value.as_ref().is_none_or(String::is_empty) {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "caches on a server ({flag}) are not built yet, only local ones"
    )))
}

/// Runs one command in the current directory. `variables` are those that flags stand for.
pub(crate) async fn run<const N: usize>(
    command: &TransferCommand,
    variables: [(&str, Option<String>); N],
    retry_pause: Duration,
    session: &Session,
) -> ExitCode {
    let mut environment = helper_environment(session);
    environment.retry_pause = retry_pause;
    let given = variables
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let captured = environment.variables.iter();
    environment.variables = Environment::new(
        captured
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .chain(given),
    );
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
