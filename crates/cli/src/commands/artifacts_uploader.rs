//! `artifacts-uploader`: what upstream's scripts call for each entry of `artifacts` (`runner-cli.md` 8.2).

use std::process::ExitCode;
use std::time::Duration;

use courser_helper::{TransferCommand, UploadArtifacts};

use crate::failure::Failure;
use crate::session::Session;
use crate::transfer::{self, FileFlags, JobFlags, parse_duration};

/// Arguments of `artifacts-uploader`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    job: JobFlags,
    #[command(flatten)]
    files: FileFlags,
    /// The name of the archive
    #[arg(long, default_value = "artifacts")]
    name: String,
    /// When to expire artifacts
    #[arg(long, default_value = "")]
    expire_in: String,
    /// Format of generated artifacts
    #[arg(long, default_value = "")]
    artifact_format: String,
    /// Type of generated artifacts
    #[arg(long, default_value = "")]
    artifact_type: String,
    /// Overall timeout of the upload
    #[arg(long, default_value = "1h", value_parser = parse_duration)]
    timeout: Duration,
    /// Timeout until the response header is there
    #[arg(long, default_value = "10m", value_parser = parse_duration)]
    response_header_timeout: Duration,
    /// Write a provenance statement (not built yet)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = crate::go_flags::parse_bool, value_name = "BOOL")]
    generate_artifacts_metadata: bool,
}

/// Uploads.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    let Arguments { job, files, .. } = &arguments;
    if !job.are_complete() {
        return Err(Failure::invalid("Missing URL, token or job ID"));
    }
    if arguments.generate_artifacts_metadata {
        return Err(Failure::invalid(
            "--generate-artifacts-metadata is not built yet",
        ));
    }
    let command = TransferCommand::UploadArtifacts(UploadArtifacts {
        project_dir: transfer::working_directory(session)?,
        url: job.url.clone(),
        job_id: job.id,
        token: job.token.clone(),
        name: arguments.name.clone(),
        paths: files.path.clone(),
        exclude: files.exclude.clone(),
        untracked: files.untracked,
        expire_in: arguments.expire_in.clone(),
        format: arguments.artifact_format.clone(),
        artifact_type: arguments.artifact_type.clone(),
        timeout_seconds: arguments.timeout.as_secs(),
        response_header_timeout_seconds: arguments.response_header_timeout.as_secs(),
        tls_ca_file: job.ca_file(),
        tls_client_pair: job.client_pair(),
    });
    Ok(transfer::run(&command, session).await)
}
