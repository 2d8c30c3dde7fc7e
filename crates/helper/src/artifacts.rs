//! Uploading and downloading artifacts (`runner-build-lifecycle.md` 4.1, 4.5, 4.7;
//! `runner-protocol.md` 2.9, 2.10).

mod download;
mod provenance;
mod upload;

use std::path::PathBuf;

use courser_job::messages::work_error;
use courser_protocol::{Secret, short_token};
use http::HeaderName;

use crate::{HelperEnvironment, HelperError};

pub(crate) use download::{download, receive};
pub(crate) use upload::{send, upload};

const JOB_TOKEN: HeaderName = HeaderName::from_static("job-token");

/// What gitlab-runner says about a failure that has no better name.
const FAILED: &str = "invalid argument";

fn lost(error: tokio::task::JoinError) -> HelperError {
    HelperError::Request(format!("archiving ended early: {error}"))
}

fn staging_file(environment: &HelperEnvironment) -> Result<tempfile::NamedTempFile, HelperError> {
    let directory = environment
        .variables
        .get("ARCHIVER_STAGING_DIR")
        .filter(|path| !path.is_empty())
        .map_or_else(|| environment.temporary_directory.clone(), PathBuf::from);
    tempfile::Builder::new()
        .prefix("artifacts")
        .tempfile_in(&directory)
        .map_err(HelperError::io(directory))
}

/// The line about a transfer without an answer.
fn broken_off(
    context: &str,
    failure: &dyn std::error::Error,
    job_id: i64,
    token: &Secret,
) -> String {
    let fields = [
        ("error", failure.to_string()),
        ("id", job_id.to_string()),
        ("token", short_token(token.expose()).to_owned()),
    ];
    work_error(&format!("{context} error"), &fields)
}
