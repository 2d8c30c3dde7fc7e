//! `artifacts-uploader`: what upstream's scripts call for each entry of `artifacts` (`runner-cli.md` 8.2).

use std::process::ExitCode;
use std::time::Duration;

use courser_helper::{Provenance, TransferCommand, UploadArtifacts};

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
    /// fastest, fast, default, slow or slowest
    #[arg(long, env = "ARTIFACT_COMPRESSION_LEVEL")]
    compression_level: Option<String>,
    /// Log details of the answer (has no effect)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = crate::go_flags::parse_bool, value_name = "BOOL")]
    ci_debug_trace: bool,
    /// Interval of progress lines (has no effect)
    #[arg(long)]
    transfer_meter_frequency: Option<String>,
    /// Add a provenance statement to the archive
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = crate::go_flags::parse_bool, value_name = "BOOL")]
    generate_artifacts_metadata: bool,
    #[command(flatten)]
    statement: Box<StatementFlags>,
}

/// What the provenance statement says.
#[derive(Debug, clap::Args)]
struct StatementFlags {
    /// Runner id
    #[arg(long, default_value = "")]
    runner_id: String,
    /// Repository URL
    #[arg(long, default_value = "")]
    repo_url: String,
    /// Commit
    #[arg(long, default_value = "")]
    repo_digest: String,
    /// Name of the job
    #[arg(long, default_value = "")]
    job_name: String,
    /// Name of the executor
    #[arg(long, default_value = "")]
    executor_name: String,
    /// Name of the runner
    #[arg(long, default_value = "")]
    runner_name: String,
    /// Name of a job variable
    #[arg(long)]
    metadata_parameter: Vec<String>,
    /// When the job started, RFC 3339
    #[arg(long, default_value = "")]
    started_at: String,
    /// When the job ended, RFC 3339
    #[arg(long, default_value = "")]
    ended_at: String,
    /// Version of the statement; v1 is the only one
    #[arg(long, default_value = "v1")]
    schema_version: String,
}

/// Uploads.
pub(crate) async fn run(arguments: Arguments, session: &Session) -> Result<ExitCode, Failure> {
    let Arguments { job, files, .. } = &arguments;
    if !job.are_complete() {
        return Err(Failure::invalid("Missing URL, token or job ID"));
    }
    let statement = &arguments.statement;
    let provenance = arguments.generate_artifacts_metadata.then(|| {
        Box::new(Provenance {
            runner_id: statement.runner_id.clone(),
            repo_url: statement.repo_url.clone(),
            repo_digest: statement.repo_digest.clone(),
            job_name: statement.job_name.clone(),
            executor_name: statement.executor_name.clone(),
            runner_name: statement.runner_name.clone(),
            started_at: statement.started_at.clone(),
            ended_at: statement.ended_at.clone(),
            schema_version: statement.schema_version.clone(),
            parameters: statement.metadata_parameter.clone(),
        })
    });
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
        provenance,
        tls_ca_file: job.ca_file(),
        tls_client_pair: job.client_pair(),
    });
    let level = ("ARTIFACT_COMPRESSION_LEVEL", arguments.compression_level);
    Ok(transfer::run(&command, [level], transfer::RETRY_PAUSE, session).await)
}
