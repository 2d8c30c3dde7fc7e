//! Every line that a job's log shows, one function a line (`runner-protocol.md` 5.4, lifecycle 1 to 5).
//!
//! Functions without a level in their name give the text only: lines that a script prints carry their
//! colour ([`notice`], [`script_warning`], [`script_error`]), lines of the runner itself go through
//! [`plain`], [`info`], [`warning`] and [`error`], lines of helper work through [`work_info`] and its
//! siblings.

use std::fmt::Write as _;
use std::time::Duration;

const BOLD_RED: &str = "\u{1b}[31;1m";
const BOLD_GREEN: &str = "\u{1b}[32;1m";
const BOLD_CYAN: &str = "\u{1b}[36;1m";
const YELLOW: &str = "\u{1b}[0;33m";
const RESET: &str = "\u{1b}[0;m";
const CLEAR: &str = "\u{1b}[0K";

// ---- levels of the runner's own lines, each with its line end

/// A plain line.
pub fn plain(text: &str) -> String {
    format!("{CLEAR}{text}{RESET}\n")
}

/// An information, green.
pub fn info(text: &str) -> String {
    format!("{BOLD_GREEN}{text}{RESET}\n")
}

/// A warning, yellow.
pub fn warning(text: &str) -> String {
    format!("{YELLOW}WARNING: {text}{RESET}\n")
}

/// An error, red.
pub fn error(text: &str) -> String {
    format!("{BOLD_RED}ERROR: {text}{RESET}\n")
}

// ---- levels of lines printed inside a stage's script, without line end

/// A notice, green.
pub fn notice(text: &str) -> String {
    format!("{BOLD_GREEN}{text}{RESET}")
}

/// A warning, yellow.
pub fn script_warning(text: &str) -> String {
    format!("{YELLOW}{text}{RESET}")
}

/// An error, red.
pub fn script_error(text: &str) -> String {
    format!("{BOLD_RED}{text}{RESET}")
}

// ---- levels of helper lines (`runner-cli.md` 1.7), for standard error, each with its line end

/// Informations of archiving and transfer. Fields are sorted by name here.
pub fn work_info(text: &str, fields: &[(&str, String)]) -> String {
    work_line("", "", text, fields)
}

/// Warnings of archiving and transfer.
pub fn work_warning(text: &str, fields: &[(&str, String)]) -> String {
    work_line(YELLOW, "WARNING: ", text, fields)
}

/// Errors of archiving and transfer.
pub fn work_error(text: &str, fields: &[(&str, String)]) -> String {
    work_line(BOLD_RED, "ERROR: ", text, fields)
}

/// The error that ends the helper with status 1.
pub fn work_fatal(text: &str, fields: &[(&str, String)]) -> String {
    work_line(BOLD_RED, "FATAL: ", text, fields)
}

fn work_line(color: &str, prefix: &str, text: &str, fields: &[(&str, String)]) -> String {
    let width = 50 - prefix.len();
    let mut line = format!("{color}{prefix}{text:<width$}{RESET} ");
    let mut sorted: Vec<&(&str, String)> = fields.iter().collect();
    sorted.sort_by_key(|(key, _)| *key);
    for (key, value) in sorted {
        let _ = write!(line, " {color}{key}{RESET}={value}");
    }
    line.push('\n');
    line
}

// ---- header of the job

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

// ---- stages

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

// ---- outcome

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

// ---- inside scripts

/// Echo of a command.
pub fn command(text: &str) -> String {
    notice(&format!("$ {text}"))
}

/// Echo of a command of several lines.
pub fn collapsed_command(first_line: &str) -> String {
    notice(&format!("$ {first_line} # collapsed multi-line command"))
}

/// First line of `after_script`.
pub fn running_after_script() -> String {
    notice("Running after script...")
}

/// First line of `prepare_script`; `via` empty = unknown.
pub fn running_on_host(host: &str, via: &str) -> String {
    if via.is_empty() {
        format!("Running on {host}...")
    } else {
        format!("Running on {host} via {via}...")
    }
}

/// What was done for the job's own tools: how many private CAs, how many of the system, in which file.
pub fn tool_trust(private: usize, system: usize, bundle: &str) -> String {
    let private = match private {
        1 => "1 private CA".to_owned(),
        many => format!("{many} private CAs"),
    };
    notice(&format!(
        "Trust for this job's tools: {private} beside the system's {system}, in {bundle} \
         (SSL_CERT_FILE, GIT_CONFIG_SYSTEM and others name it where unset; off: job_tools = false in [runners.trust])"
    ))
}

// ---- sources

/// What Git does not say about a TLS failure: which certificates, which trust, which remedy. Ends with a newline.
pub fn tls_explanation(place: &str, explanation: &str) -> String {
    format!(
        "{}\n{explanation}\n",
        script_warning(&format!("TLS with {place} as Git is set up here:"))
    )
}

/// `GIT_SSL_NO_VERIFY` is set: whatever its value, Git checks nothing.
pub fn git_unverified() -> String {
    script_warning(
        "WARNING: GIT_SSL_NO_VERIFY is set: Git does not check whom it talks to, so anybody on the way can read the job's \
         token and change its sources. Name the CA of the server in tls-ca-file of the runner instead.",
    )
}

/// Strategy none.
pub fn skipping_repository_setup() -> String {
    notice("Skipping Git repository setup")
}

/// Strategy empty.
pub fn creating_empty_directory() -> String {
    notice("Skipping Git repository setup and creating an empty build directory")
}

/// Correlation id handed to Gitaly.
pub fn gitaly_correlation_id(id: &str) -> String {
    notice(&format!("Gitaly correlation ID: {id}"))
}

/// Before `git fetch`; depth 0 = everything.
pub fn fetching_changes(depth: i64) -> String {
    notice(&format!("Fetching changes{}...", with_depth(depth)))
}

/// The repository was not there before.
pub fn created_fresh_repository() -> String {
    notice("Created fresh repository.")
}

/// Git is new enough to clone by itself.
pub fn git_is_new_enough(version: &str) -> String {
    notice(&format!("Git version at least {version:?}"))
}

/// Before `git clone`; depth 0 = everything.
pub fn cloning_repository(ref_name: &str, depth: i64) -> String {
    let of = if ref_name.is_empty() {
        String::new()
    } else {
        format!(" for {}", printable(ref_name))
    };
    notice(&format!("Cloning repository{of}{}...", with_depth(depth)))
}

fn with_depth(depth: i64) -> String {
    if depth > 0 {
        format!(" with git depth set to {depth}")
    } else {
        String::new()
    }
}

/// A name that a server has sent, in one line.
fn printable(name: &str) -> String {
    let plain = |c: char| if c.is_control() { '?' } else { c };
    name.chars().map(plain).collect()
}

/// The credentials cannot be bound to the host they are for.
pub fn proactive_auth_everywhere() -> String {
    script_warning(
        "WARNING: the remote names no host: FF_USE_GIT_PROACTIVE_AUTH applies to every host Git talks to",
    )
}

/// Before `git checkout`. At most 8 characters of `sha` are shown.
pub fn checking_out(sha: &str, ref_name: &str) -> String {
    let short = sha.get(..8).unwrap_or(sha);
    notice(&format!(
        "Checking out {short} as detached HEAD (ref is {})...",
        printable(ref_name)
    ))
}

/// `GIT_CHECKOUT=false`.
pub fn skipping_checkout() -> String {
    notice("Skipping Git checkout")
}

/// No submodule strategy.
pub fn skipping_submodules() -> String {
    notice("Skipping Git submodules setup")
}

/// Before submodules are touched; depth 0 = everything.
pub fn updating_submodules(recursive: bool, depth: i64) -> String {
    let recursively = if recursive { " recursively" } else { "" };
    notice(&format!(
        "Updating/initializing submodules{recursively}{}...",
        with_depth(depth)
    ))
}

/// `git submodule update` worked.
pub fn updated_submodules() -> String {
    notice("Updated submodules")
}

/// It did not, and is tried once more.
pub fn retrying_submodules() -> String {
    script_warning("Updating submodules failed. Retrying...")
}

/// Before submodules include the configuration with the job's credentials.
pub fn configuring_submodules() -> String {
    notice("Configuring submodules to use parent git credentials...")
}

/// Before `git lfs pull` in submodules.
pub fn pulling_lfs_files() -> String {
    notice("Pulling LFS files...")
}

/// `clear_worktree`.
pub fn deleting_files() -> String {
    notice("Deleting tracked and untracked files...")
}

/// Job cleanup with strategy none.
pub fn skipping_cleanup() -> String {
    notice("Skipping build directory cleanup step")
}

// ---- caches

/// Before a candidate is tried.
pub fn checking_cache(key: &str) -> String {
    notice(&format!("Checking cache for {key}..."))
}

/// A candidate was extracted.
pub fn extracted_cache() -> String {
    notice("Successfully extracted cache")
}

/// A candidate was not extracted.
pub fn failed_to_extract_cache() -> String {
    script_warning("Failed to extract cache")
}

/// Policy does not allow restoring.
pub fn not_downloading_cache(key: &str) -> String {
    notice(&format!("Not downloading cache {key} due to policy"))
}

/// Policy does not allow saving.
pub fn not_uploading_cache(key: &str) -> String {
    notice(&format!("Not uploading cache {key} due to policy"))
}

/// A failed restore leaves nothing behind.
pub fn removing_cache_path(path: &str) -> String {
    notice(&format!("Removing {path}"))
}

/// Before a cache is saved.
pub fn creating_cache(key: &str) -> String {
    notice(&format!("Creating cache {key}..."))
}

/// A cache was saved.
pub fn created_cache() -> String {
    notice("Created cache")
}

/// A cache was not saved.
pub fn failed_to_create_cache() -> String {
    script_warning("Failed to create cache")
}

/// A key had to be changed to be safe as a path.
pub fn cache_key_sanitized(raw: &str, key: &str) -> String {
    script_warning(&format!("cache key \"{raw}\" sanitized to \"{key}\""))
}

/// Nothing of a key was left.
pub fn cache_key_unusable(raw: &str) -> String {
    script_warning(&format!("cache key \"{raw}\" could not be sanitized"))
}

/// No usable key, restore.
pub fn skipping_cache_extraction() -> String {
    notice("Skipping cache extraction due to empty cache key")
}

/// No usable key, save.
pub fn skipping_cache_archiving() -> String {
    notice("Skipping cache archiving due to empty cache key")
}

/// A fallback key would give an unprotected job a protected cache.
pub fn protected_fallback_key(key: &str) -> String {
    script_warning(&format!(
        "CACHE_FALLBACK_KEY \"{key}\" not allowed to end in \"-protected\""
    ))
}

/// Restore without a cache server.
pub fn no_cache_url_for_download() -> String {
    work_info(
        "No URL provided, cache will not be downloaded from shared cache server. Instead a local version of cache will be extracted.",
        &[],
    )
}

/// Save without a cache server.
pub fn no_cache_url_for_upload() -> String {
    work_info(
        "No URL provided, cache will not be uploaded to shared cache server. Cache will be stored only locally.",
        &[],
    )
}

/// Nothing to restore.
pub fn cache_file_missing() -> String {
    work_warning("Cache file does not exist", &[])
}

/// Nothing to save.
pub fn no_files_to_cache() -> String {
    work_warning("No files to cache.", &[])
}

/// A cache that cannot be used or made; the job goes on.
pub fn cache_problem(reason: &str) -> String {
    work_warning(reason, &[])
}

/// The archive holds everything already.
pub fn archive_up_to_date() -> String {
    work_info("Archive is up to date!", &[])
}

// ---- artifacts

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

// ---- log

/// Appended, once, where the log is cut.
pub fn log_limit_exceeded(limit: u64) -> String {
    format!(
        "\n\u{1b}[33;1mJob's log exceeded limit of {limit} bytes.\nJob execution will continue but no more output will be collected.{RESET}\n"
    )
}

/// Appended, once, where the log is cut because it cannot be kept: `why` is a clause.
pub fn log_not_kept(why: &str) -> String {
    format!(
        "\n\u{1b}[33;1mJob's log is cut here: {why}.\nJob execution will continue but no more output will be collected.{RESET}\n"
    )
}

/// A duration as Go prints it: `1h0m0s`, `1.5s`, `20ms`, `0s`.
pub fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let fraction = |value: u128, unit: u128| {
        let text = format!(
            "{}.{:0width$}",
            value / unit,
            value % unit,
            width = unit.ilog10() as usize
        );
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => return format!("{nanos}ns"),
        1_000..1_000_000 => return format!("{}µs", fraction(nanos, 1_000)),
        1_000_000..1_000_000_000 => return format!("{}ms", fraction(nanos, 1_000_000)),
        _ => {}
    }
    let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
    let seconds = fraction(rest, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_upstream_bytes() {
        for (line, expected) in [
            (plain("p"), "\u{1b}[0Kp\u{1b}[0;m\n"),
            (info("i"), "\u{1b}[32;1mi\u{1b}[0;m\n"),
            (warning("w"), "\u{1b}[0;33mWARNING: w\u{1b}[0;m\n"),
            (error("e"), "\u{1b}[31;1mERROR: e\u{1b}[0;m\n"),
            (
                stage_title("Preparing environment"),
                "\u{1b}[0K\u{1b}[36;1mPreparing environment\u{1b}[0;m\u{1b}[0;m\n",
            ),
            (
                work_info("short", &[]),
                "short                                             \u{1b}[0;m \n",
            ),
            (
                work_warning("w", &[("token", "abc".to_owned()), ("id", "7".to_owned())]),
                "\u{1b}[0;33mWARNING: w                                        \u{1b}[0;m  \u{1b}[0;33mid\u{1b}[0;m=7 \u{1b}[0;33mtoken\u{1b}[0;m=abc\n",
            ),
            (
                work_fatal("permission denied", &[]),
                "\u{1b}[31;1mFATAL: permission denied                          \u{1b}[0;m \n",
            ),
            (
                section_start(12, "get_sources"),
                "section_start:12:get_sources\r\u{1b}[0K",
            ),
        ] {
            assert_eq!(line, expected);
        }
    }

    #[test]
    fn durations_read_as_go_prints_them() {
        for (millis, text) in [
            (0, "0s"),
            (20, "20ms"),
            (1500, "1.5s"),
            (60_000, "1m0s"),
            (3_600_000, "1h0m0s"),
            (7_384_005, "2h3m4.005s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(go_duration(Duration::from_nanos(1_250)), "1.25µs");
    }
}
