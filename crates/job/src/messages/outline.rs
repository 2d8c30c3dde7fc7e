//! A job's outline in its log: header, stages, outcome.

use std::time::Duration;

use super::{BOLD_CYAN, CLEAR, RESET, error, info, plain, warning};
use crate::duration::go_duration;

/// First line.
pub fn running_with(version: &str, revision: &str) -> String {
    plain(&format!(
        "Running with gitlab-runner {version} ({revision})"
    ))
}

/// Second line.
pub fn running_on_runner(name: &str, short_token: &str, system_id: &str) -> String {
    plain(&format!(
        "  on {name} {short_token}, system ID: {system_id}"
    ))
}

/// Third line, only with flags that differ from their default.
pub fn feature_flags(flags: impl IntoIterator<Item = (&'static str, bool)>) -> Option<String> {
    let list: Vec<String> = flags
        .into_iter()
        .map(|(name, value)| format!("{name}:{value}"))
        .collect();
    (!list.is_empty()).then(|| plain(&format!("  feature flags: {}", list.join(", "))))
}

/// All warnings about settings, as one.
pub fn settings(warnings: &[String]) -> Option<String> {
    (!warnings.is_empty()).then(|| warning(&warnings.join("\n")))
}

/// Opens a section; no line end follows.
pub fn section_start(unix_seconds: i64, name: &str) -> String {
    format!("section_start:{unix_seconds}:{name}\r{CLEAR}")
}

/// Closes a section; no line end follows.
pub fn section_end(unix_seconds: i64, name: &str) -> String {
    format!("section_end:{unix_seconds}:{name}\r{CLEAR}")
}

/// Header line of a stage. The reset is there twice, as upstream's logger adds its own.
pub fn stage_title(title: &str) -> String {
    plain(&format!("{BOLD_CYAN}{title}{RESET}"))
}

/// Executor line of `prepare_executor`.
pub fn using_shell_executor(shell: &str) -> String {
    plain(&format!("Using Shell ({shell}) executor..."))
}

/// One failed preparation.
pub fn preparation_failed(reason: &str) -> String {
    error(&format!("Preparation failed: {reason}"))
}

/// After a failed preparation, also after the last.
pub fn will_be_retried() -> String {
    info("Will be retried in 3s ...")
}

/// Before another attempt of a stage.
pub fn retrying() -> String {
    warning("Retrying...")
}

/// The server went away during an upload.
pub fn upload_is_repeated(pause: Duration) -> String {
    warning(&format!(
        "The server cannot be reached, uploading again in {}",
        go_duration(pause)
    ))
}

/// Why a job failed before its scripts: often a profile of the login shell.
pub fn prepare_environment_failed(reason: &str) -> String {
    format!(
        "prepare environment: {reason}. Check https://docs.gitlab.com/runner/shells/#shell-profile-loading for more information"
    )
}

/// A stage was cut short by its timeout.
pub fn stage_timed_out(stage: &str) -> String {
    warning(&format!(
        "{stage} could not run to completion because the timeout was exceeded. For more control over job and script timeouts see: https://docs.gitlab.com/ci/runners/configure_runners/#set-script-and-after_script-timeouts"
    ))
}

/// The server cancelled the job while its scripts ran.
pub fn script_canceled() -> String {
    warning("script canceled externally (UI, API)")
}

/// `after_script` failed and that is ignored.
pub fn after_script_ignored(reason: &str) -> String {
    warning(&format!(
        "after_script failed, but job will continue unaffected: {reason}"
    ))
}

/// The job did not come to rest in time.
pub fn unwinding_timed_out() -> String {
    warning("Timed out waiting for the build to finish")
}

/// A process could not be told to end.
pub fn failed_to_terminate(reason: &str) -> String {
    warning(&format!("Failed to terminate process: {reason}"))
}

/// A timeout variable that cannot be read.
pub fn malformed_timeout(variable: &str, raw: &str) -> String {
    warning(&format!("Ignoring malformed {variable} timeout: {raw}"))
}

/// A negative timeout variable.
pub fn relative_timeout(variable: &str, raw: &str) -> String {
    warning(&format!("Ignoring relative {variable} timeout: {raw}"))
}

/// A timeout variable beyond the remaining time of the job.
pub fn overlong_timeout(variable: &str, raw: &str) -> String {
    warning(&format!(
        "{variable} timeout: {raw} is longer than job timeout. Setting to job timeout"
    ))
}

/// First line about the policy that made the job.
pub fn triggered_by_policy(name: &str) -> String {
    info(&format!("Job triggered by policy \"{name}\"."))
}

/// Second line: the policy does not speak of overrides.
pub fn policy_takes_precedence() -> String {
    info(
        "Variables defined in the policy take precedence over matching user-defined CI/CD variables for this job.",
    )
}

/// Second line: the policy allows or ignores overrides.
pub fn policy_overrides(allowed: bool, exceptions: &[String]) -> String {
    let verb = if allowed { "allowed" } else { "ignored" };
    let except = if exceptions.is_empty() {
        String::new()
    } else {
        format!(" (except for {})", exceptions.join(", "))
    };
    info(&format!(
        "User-defined CI/CD variables are {verb} in this job{except} according to the policy."
    ))
}

/// Last line of a good job.
pub fn job_succeeded() -> String {
    info("Job succeeded")
}

/// Last line of a failed job.
pub fn job_failed(reason: &str) -> String {
    error(&format!("Job failed: {reason}"))
}

/// Last line of a job that the runner or its surroundings failed.
pub fn job_failed_by_system(reason: &str) -> String {
    error(&format!("Job failed (system failure): {reason}"))
}

/// Why a job is over whose runner ended before it: a text for [`job_failed_by_system`].
pub fn runner_was_killed(machine_restarted: bool) -> &'static str {
    if machine_restarted {
        "the machine restarted while the job ran; the log before this line may lack its last lines"
    } else {
        "the runner was killed while the job ran; the log before this line may lack its last lines"
    }
}

/// A job is taken up whose runner ended while its caches and artifacts were saved.
pub fn saving_is_repeated(machine_restarted: bool) -> String {
    let what = if machine_restarted {
        "the machine restarted"
    } else {
        "the runner was killed"
    };
    warning(&format!(
        "{what} after the job's scripts had ended; caches and artifacts are saved again"
    ))
}
