//! Uploading and downloading artifacts.

use super::{notice, work_error, work_info, work_warning};

/// Before an upload.
pub fn uploading_artifacts() -> String {
    notice("Uploading artifacts...")
}

/// Before a download.
pub fn downloading_artifacts(job_name: &str, job_id: i64) -> String {
    notice(&format!(
        "Downloading artifacts for {job_name} ({job_id})..."
    ))
}

/// Prefix of an upload's result; the type is empty for the plain archive.
pub fn upload_context(artifact_type: &str) -> String {
    if artifact_type.is_empty() {
        "Uploading artifacts to coordinator...".to_owned()
    } else {
        format!("Uploading artifacts as \"{artifact_type}\" to coordinator...")
    }
}

/// Prefix of a download's result.
pub const DOWNLOAD_CONTEXT: &str = "Downloading artifacts from coordinator...";

/// The coordinator sends an upload elsewhere.
pub fn upload_redirected(location: &str) -> String {
    work_info(
        "Upload request redirected",
        &[("location", location.to_owned())],
    )
}

/// The coordinator names a storage for a download.
pub fn direct_download_from(host: &str) -> String {
    work_info(&format!("Direct download from {host}"), &[])
}

/// Before another try of a transfer; `context` is the name of upstream's command.
pub fn retrying_transfer(context: &str, reason: &str) -> String {
    work_warning(
        "Retrying...",
        &[
            ("context", context.to_owned()),
            ("error", reason.to_owned()),
        ],
    )
}

/// What a pattern selected.
pub fn found_files(pattern: &str, count: usize) -> String {
    work_info(
        &format!("{pattern}: found {count} matching artifact files and directories"),
        &[],
    )
}

/// A pattern selected nothing.
pub fn no_matching_files(pattern: &str, working_dir: &str) -> String {
    work_warning(
        &format!(
            "{pattern}: no matching files. Ensure that the artifact path is relative to the working directory ({working_dir})"
        ),
        &[],
    )
}

/// A path that leads out of the project by way of a link.
pub fn path_behind_link(path: &str) -> String {
    work_warning(
        &format!("{path}: not supported: outside build directory"),
        &[],
    )
}

/// Any other trouble with a path.
pub fn path_problem(path: &str, reason: &str) -> String {
    work_warning(&format!("{path}: {reason}"), &[])
}

/// An empty pattern.
pub fn empty_path() -> String {
    work_warning("No matching files. Path is empty.", &[])
}

/// A pattern leads out of the project.
pub fn path_outside(path: &str) -> String {
    work_warning(
        &format!("processPath: artifact path is not a subpath of project directory: {path}"),
        &[],
    )
}

/// What an exclude dropped.
pub fn excluded_files(pattern: &str, count: usize) -> String {
    work_info(&format!("{pattern}: excluded {count} files"), &[])
}

/// What Git does not track.
pub fn untracked_files(count: usize) -> String {
    if count == 0 {
        work_warning("untracked: no files", &[])
    } else {
        work_info(&format!("untracked: found {count} files"), &[])
    }
}

/// An upload with nothing in it; the job goes on.
pub fn no_files_to_upload() -> String {
    work_error("No files to upload", &[])
}

/// Before a provenance statement is made.
pub fn generating_statement() -> String {
    work_info("Generating artifacts statement", &[])
}

/// A provenance version that nobody knows.
pub fn unknown_provenance_version(version: &str) -> String {
    work_warning(
        &format!("Unknown SLSA provenance version {version}, defaulting to v1"),
        &[],
    )
}

/// An archive name that cannot be expanded.
pub fn invalid_artifact_name(reason: &str) -> String {
    work_warning(&format!("invalid artifact name: {reason}"), &[])
}

/// A path that cannot be expanded.
pub fn invalid_path(reason: &str) -> String {
    work_warning(&format!("invalid path \"\": {reason}"), &[])
}

/// A compression level nobody knows.
pub fn invalid_compression_level(level: &str) -> String {
    work_warning(
        &format!("compression level \"{level}\" is invalid, falling back to default"),
        &[],
    )
}
