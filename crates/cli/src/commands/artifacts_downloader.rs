//! `artifacts-downloader`: what upstream's scripts call for each dependency (`runner-cli.md` 8.3).

use std::process::ExitCode;

use courser_helper::{DownloadArtifacts, TransferCommand};

use crate::failure::Failure;
use crate::session::Session;
use crate::transfer::{self, JobFlags, RetryFlags};

/// Arguments of `artifacts-downloader`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    job: JobFlags,
    /// Ask the server for a redirect to its object storage
    #[arg(long, env = "FF_USE_DIRECT_DOWNLOAD", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = crate::go_flags::parse_bool, value_name = "BOOL")]
    direct_download: bool,
    /// Directory that keeps the archive while it is extracted
    #[arg(long, env = "ARCHIVER_STAGING_DIR")]
    archiver_staging_dir: Option<String>,
    #[command(flatten)]
    retries: RetryFlags,
}

/// Downloads and extracts into the working directory.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    let job = &arguments.job;
    if !job.are_complete() {
        return Err(Failure::invalid("Incomplete arguments"));
    }
    let command = TransferCommand::DownloadArtifacts(DownloadArtifacts {
        project_dir: transfer::working_directory(session)?,
        url: job.url.clone(),
        job_id: job.id,
        job_name: String::new(),
        token: job.token.clone(),
        direct_download: arguments.direct_download,
        retries: arguments.retries.retry,
        tls_ca_file: job.ca_file(),
        tls_client_pair: job.client_pair(),
    });
    let staging = ("ARCHIVER_STAGING_DIR", arguments.archiver_staging_dir);
    Ok(transfer::run(&command, [staging], arguments.retries.retry_time, session).await)
}
