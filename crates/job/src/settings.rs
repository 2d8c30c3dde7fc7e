//! What job variables say about how the job is run, read once (`runner-build-lifecycle.md` 1.9).

use std::time::Duration;

use courser_protocol::JobResponse;

use crate::duration::parse_go_duration;
use crate::helper_request::GitStrategy;
use crate::variables::{Variables, strict_bool};

/// Settings of one job. Bad values take the default and leave a warning in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `CI_DEBUG_TRACE`: commands are traced by the shell.
    pub debug_trace: bool,
    /// `CI_DEBUG_SERVICES`: the log may show more than others should see.
    pub debug_services: bool,
    /// `GIT_STRATEGY`.
    pub git_strategy: GitStrategy,
    /// `GIT_CHECKOUT`.
    pub git_checkout: bool,
    /// `GIT_CLONE_PATH`, empty = none.
    pub git_clone_path: String,
    /// `GIT_CLEAN_FLAGS`, empty = do not clean.
    pub git_clean_flags: Vec<String>,
    /// `GIT_FETCH_EXTRA_FLAGS`.
    pub git_fetch_extra_flags: Vec<String>,
    /// `GIT_CLONE_EXTRA_FLAGS`.
    pub git_clone_extra_flags: Vec<String>,
    /// `GIT_SUBMODULE_STRATEGY`.
    pub git_submodule_strategy: SubmoduleStrategy,
    /// `GIT_SUBMODULE_PATHS`.
    pub git_submodule_paths: Vec<String>,
    /// `GIT_SUBMODULE_DEPTH`; `None` = that of the project.
    pub git_submodule_depth: Option<i64>,
    /// `GIT_SUBMODULE_UPDATE_FLAGS`.
    pub git_submodule_update_flags: Vec<String>,
    /// `GIT_SUBMODULE_FORCE_HTTPS`.
    pub git_submodule_force_https: bool,
    /// `GIT_LFS_SKIP_SMUDGE`.
    pub git_lfs_skip_smudge: bool,
    /// `GET_SOURCES_ATTEMPTS`.
    pub get_sources_attempts: u32,
    /// `RESTORE_CACHE_ATTEMPTS`.
    pub restore_cache_attempts: u32,
    /// `ARTIFACT_DOWNLOAD_ATTEMPTS`.
    pub artifact_download_attempts: u32,
    /// `EXECUTOR_JOB_SECTION_ATTEMPTS`: of a stage whose container is gone.
    pub executor_job_section_attempts: u32,
    /// `SECRETS_RETRIEVAL_ATTEMPTS`, 1 to 10.
    pub secrets_retrieval_attempts: u32,
    /// `AFTER_SCRIPT_IGNORE_ERRORS`.
    pub after_script_ignore_errors: bool,
    /// `RUNNER_GENERATE_ARTIFACTS_METADATA`: zip artifacts get a provenance statement.
    pub generate_artifacts_metadata: bool,
    /// `RUNNER_SCRIPT_TIMEOUT`, judged when the first step starts.
    pub script_timeout: TimeoutVariable,
    /// `RUNNER_AFTER_SCRIPT_TIMEOUT`, judged at the same time.
    pub after_script_timeout: TimeoutVariable,
}

/// `GIT_SUBMODULE_STRATEGY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmoduleStrategy {
    /// They are left alone.
    None,
    /// Those of the project.
    Normal,
    /// Those of submodules too.
    Recursive,
    /// Something else was written.
    Unknown(String),
}

/// A timeout variable as written; what it means depends on the time that is left for the job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimeoutVariable {
    /// Text, empty = default.
    pub raw: String,
}

/// Meaning of a [`TimeoutVariable`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimeoutSetting {
    /// Nothing set, or zero.
    Default,
    /// That long.
    Limit(Duration),
    /// Not a duration: warn, default.
    Malformed,
    /// Negative: warn, default.
    Negative,
    /// Longer than the job may still run: warn, default.
    BeyondJob,
}

impl TimeoutVariable {
    /// Judges the text with `remaining` time left for the job.
    pub fn judge(&self, remaining: Duration) -> TimeoutSetting {
        let text = self.raw.trim();
        if text.is_empty() {
            return TimeoutSetting::Default;
        }
        match parse_go_duration(text) {
            None => TimeoutSetting::Malformed,
            Some((true, limit)) if !limit.is_zero() => TimeoutSetting::Negative,
            Some((_, limit)) if limit.is_zero() => TimeoutSetting::Default,
            Some((_, limit)) if limit > remaining => TimeoutSetting::BeyondJob,
            Some((_, limit)) => TimeoutSetting::Limit(limit),
        }
    }
}

impl Settings {
    /// Reads the settings; `warnings` gets a line for each bad value.
    pub fn read(
        variables: &Variables,
        payload: &JobResponse,
        debug_trace_disabled: bool,
        warnings: &mut Vec<String>,
    ) -> Self {
        let mut reader = Reader {
            variables,
            git_depth: payload.git_info.depth,
            warnings,
        };
        let mut debug_trace = reader.bool("CI_DEBUG_TRACE", false);
        let mut debug_services = reader.bool("CI_DEBUG_SERVICES", false);
        if debug_trace_disabled {
            for (name, set) in [
                ("CI_DEBUG_TRACE", debug_trace),
                ("CI_DEBUG_SERVICES", debug_services),
            ] {
                if set {
                    reader
                        .warnings
                        .push(format!("{name}: usage is disabled on this Runner"));
                }
            }
            (debug_trace, debug_services) = (false, false);
        }
        Self {
            debug_trace,
            debug_services,
            git_strategy: reader.git_strategy(payload.allow_git_fetch),
            git_checkout: reader.bool("GIT_CHECKOUT", true),
            git_clone_path: variables.text("GIT_CLONE_PATH").trim().to_owned(),
            git_clean_flags: reader.flags("GIT_CLEAN_FLAGS", "-ffdx"),
            git_fetch_extra_flags: reader.flags("GIT_FETCH_EXTRA_FLAGS", "--prune --quiet"),
            git_clone_extra_flags: reader.flags("GIT_CLONE_EXTRA_FLAGS", ""),
            git_submodule_strategy: match variables.text("GIT_SUBMODULE_STRATEGY").trim() {
                "" | "none" => SubmoduleStrategy::None,
                "normal" => SubmoduleStrategy::Normal,
                "recursive" => SubmoduleStrategy::Recursive,
                other => SubmoduleStrategy::Unknown(other.to_owned()),
            },
            git_submodule_paths: words(&variables.text("GIT_SUBMODULE_PATHS")),
            git_submodule_depth: reader.submodule_depth(),
            git_submodule_update_flags: reader.flags("GIT_SUBMODULE_UPDATE_FLAGS", ""),
            git_submodule_force_https: reader.bool("GIT_SUBMODULE_FORCE_HTTPS", false),
            git_lfs_skip_smudge: reader.bool("GIT_LFS_SKIP_SMUDGE", false),
            get_sources_attempts: reader.attempts("GET_SOURCES_ATTEMPTS"),
            restore_cache_attempts: reader.attempts("RESTORE_CACHE_ATTEMPTS"),
            artifact_download_attempts: reader.attempts("ARTIFACT_DOWNLOAD_ATTEMPTS"),
            executor_job_section_attempts: reader.attempts("EXECUTOR_JOB_SECTION_ATTEMPTS"),
            secrets_retrieval_attempts: reader.attempts("SECRETS_RETRIEVAL_ATTEMPTS"),
            after_script_ignore_errors: reader.bool("AFTER_SCRIPT_IGNORE_ERRORS", true),
            generate_artifacts_metadata: reader.bool("RUNNER_GENERATE_ARTIFACTS_METADATA", false),
            script_timeout: reader.timeout(SCRIPT_TIMEOUT),
            after_script_timeout: reader.timeout(AFTER_SCRIPT_TIMEOUT),
        }
    }
}

/// Limits all user steps together.
pub(crate) const SCRIPT_TIMEOUT: &str = "RUNNER_SCRIPT_TIMEOUT";
/// Limits `after_script`.
pub(crate) const AFTER_SCRIPT_TIMEOUT: &str = "RUNNER_AFTER_SCRIPT_TIMEOUT";

struct Reader<'a> {
    variables: &'a Variables,
    git_depth: i64,
    warnings: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn bool(&mut self, name: &str, default: bool) -> bool {
        let raw = self.variables.text(name);
        if raw.trim().is_empty() {
            return default;
        }
        strict_bool(&raw).unwrap_or_else(|| {
            self.warnings.push(format!(
                "{name}: expected bool got \"{raw}\", using default value: {default}"
            ));
            default
        })
    }

    fn attempts(&mut self, name: &str) -> u32 {
        let raw = self.variables.text(name);
        if raw.trim().is_empty() {
            return 1;
        }
        let Ok(number) = raw.parse::<i64>() else {
            self.warnings.push(format!(
                "{name}: expected int got \"{raw}\", using default value: 1"
            ));
            return 1;
        };
        let clamped = number.clamp(1, 10);
        if clamped != number {
            self.warnings.push(format!(
                "{name}: number of attempts out of the range [1, 10], clamping to: {clamped}"
            ));
        }
        u32::try_from(clamped).unwrap_or(1)
    }

    fn flags(&self, name: &str, default: &str) -> Vec<String> {
        let raw = self.variables.text(name);
        let text = match raw.trim() {
            "" => default,
            "none" => "",
            text => text,
        };
        words(text)
    }

    fn submodule_depth(&mut self) -> Option<i64> {
        const NAME: &str = "GIT_SUBMODULE_DEPTH";
        let raw = self.variables.text(NAME);
        if raw.trim().is_empty() {
            return None;
        }
        let depth = raw.parse().ok();
        if depth.is_none() {
            self.warnings.push(format!(
                "{NAME}: expected int got \"{raw}\", using default value: {}",
                self.git_depth
            ));
        }
        depth
    }

    fn git_strategy(&mut self, allow_git_fetch: bool) -> GitStrategy {
        let (default, default_name) = if allow_git_fetch {
            (GitStrategy::Fetch, "fetch")
        } else {
            (GitStrategy::Clone, "clone")
        };
        let raw = self.variables.text("GIT_STRATEGY");
        match raw.trim() {
            "" => default,
            "clone" => GitStrategy::Clone,
            "fetch" => GitStrategy::Fetch,
            "none" => GitStrategy::None,
            "empty" => GitStrategy::Empty,
            _ => {
                self.warnings.push(format!(
                    "GIT_STRATEGY: expected either 'clone', 'fetch', 'none' or 'empty' got \"{raw}\", using default value '{default_name}'"
                ));
                default
            }
        }
    }

    fn timeout(&self, name: &str) -> TimeoutVariable {
        TimeoutVariable {
            raw: self.variables.text(name).trim().to_owned(),
        }
    }
}

/// A list without quoting.
fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use courser_protocol::JobVariable;

    fn read(pairs: &[(&str, &str)]) -> (Settings, Vec<String>) {
        let list = pairs
            .iter()
            .map(|(key, value)| JobVariable {
                key: (*key).to_owned(),
                value: (*value).into(),
                ..JobVariable::default()
            })
            .collect();
        let mut warnings = Vec::new();
        let variables = Variables::of_test(list, "/t");
        let mut payload = JobResponse {
            allow_git_fetch: true,
            ..JobResponse::default()
        };
        payload.git_info.depth = 20;
        let settings = Settings::read(&variables, &payload, false, &mut warnings);
        (settings, warnings)
    }

    #[test]
    fn defaults_are_upstreams() {
        let (settings, warnings) = read(&[]);
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(settings.git_strategy, GitStrategy::Fetch);
        assert_eq!(settings.git_clean_flags, ["-ffdx"]);
        assert_eq!(settings.git_fetch_extra_flags, ["--prune", "--quiet"]);
        assert!(settings.git_checkout && settings.after_script_ignore_errors);
        assert_eq!(settings.get_sources_attempts, 1);
    }

    #[test]
    fn bad_values_take_the_default_and_say_so() {
        for (name, value, expected) in [
            (
                "GIT_CHECKOUT",
                "maybe",
                "GIT_CHECKOUT: expected bool got \"maybe\", using default value: true",
            ),
            (
                "GIT_STRATEGY",
                "pull",
                "GIT_STRATEGY: expected either 'clone', 'fetch', 'none' or 'empty' got \"pull\", using default value 'fetch'",
            ),
            (
                "GET_SOURCES_ATTEMPTS",
                "x",
                "GET_SOURCES_ATTEMPTS: expected int got \"x\", using default value: 1",
            ),
            (
                "GET_SOURCES_ATTEMPTS",
                "11",
                "GET_SOURCES_ATTEMPTS: number of attempts out of the range [1, 10], clamping to: 10",
            ),
            (
                "GIT_SUBMODULE_DEPTH",
                "deep",
                "GIT_SUBMODULE_DEPTH: expected int got \"deep\", using default value: 20",
            ),
            (
                "RESTORE_CACHE_ATTEMPTS",
                "0",
                "RESTORE_CACHE_ATTEMPTS: number of attempts out of the range [1, 10], clamping to: 1",
            ),
        ] {
            assert_eq!(read(&[(name, value)]).1, [expected]);
        }
    }

    #[test]
    fn flag_lists_split_on_blanks_and_none_is_empty() {
        assert_eq!(
            read(&[("GIT_CLEAN_FLAGS", " -ffdx  -e x ")])
                .0
                .git_clean_flags,
            ["-ffdx", "-e", "x"]
        );
        assert!(
            read(&[("GIT_CLEAN_FLAGS", "none")])
                .0
                .git_clean_flags
                .is_empty()
        );
        assert_eq!(
            read(&[("GIT_CLEAN_FLAGS", " ")]).0.git_clean_flags,
            ["-ffdx"]
        );
    }

    #[test]
    fn timeouts_are_judged_against_the_remaining_time() {
        let hour = Duration::from_secs(3600);
        for (raw, expected) in [
            ("", TimeoutSetting::Default),
            ("  ", TimeoutSetting::Default),
            ("0", TimeoutSetting::Default),
            ("0s", TimeoutSetting::Default),
            ("90s", TimeoutSetting::Limit(Duration::from_secs(90))),
            (
                "1m30.5s",
                TimeoutSetting::Limit(Duration::from_millis(90_500)),
            ),
            (".5s", TimeoutSetting::Limit(Duration::from_millis(500))),
            ("1h", TimeoutSetting::Limit(hour)),
            ("61m", TimeoutSetting::BeyondJob),
            ("-1m", TimeoutSetting::Negative),
            ("10", TimeoutSetting::Malformed),
            ("1x", TimeoutSetting::Malformed),
            (".s", TimeoutSetting::Malformed),
            ("1.2.3s", TimeoutSetting::Malformed),
            ("-", TimeoutSetting::Malformed),
            ("99999999999999999999h", TimeoutSetting::Malformed),
        ] {
            let variable = TimeoutVariable {
                raw: raw.to_owned(),
            };
            assert_eq!(variable.judge(hour), expected, "{raw}");
        }
    }
}
