//! `PUT jobs/:id` and the answers that steer a job (`runner-protocol.md` 2.7 and 6.3).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::decode::null_as_default;
use crate::{Info, Secret};

/// State on the wire; a runner never sends anything else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Accepted and running, also the keep-alive.
    #[default]
    Running,
    /// Over, well.
    Success,
    /// Over, badly; cancelled jobs too.
    Failed,
}

/// Why a job failed (6.3). Unknown texts are kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum FailureReason {
    /// The script exited non-zero.
    ScriptFailure,
    /// The runner or its surroundings failed.
    RunnerSystemFailure,
    /// Job, script, prepare or sources timeout.
    JobExecutionTimeout,
    /// Image could not be pulled.
    ImagePullFailure,
    /// Fallback.
    UnknownFailure,
    /// The runner's or the job's settings cannot work.
    RunnerConfigurationError,
    /// A registry or secret store failed.
    RunnerExternalDependencyFailure,
    /// Forced shutdown of the runner.
    RunnerInterrupted,
    /// Cancelled by the server.
    JobCanceled,
    /// A reason of the server's that the runner has no name for.
    Other(String),
}

const REASONS: [(&str, FailureReason); 9] = [
    ("script_failure", FailureReason::ScriptFailure),
    ("runner_system_failure", FailureReason::RunnerSystemFailure),
    ("job_execution_timeout", FailureReason::JobExecutionTimeout),
    ("image_pull_failure", FailureReason::ImagePullFailure),
    ("unknown_failure", FailureReason::UnknownFailure),
    (
        "runner_configuration_error",
        FailureReason::RunnerConfigurationError,
    ),
    (
        "runner_external_dependency_failure",
        FailureReason::RunnerExternalDependencyFailure,
    ),
    ("runner_interrupted", FailureReason::RunnerInterrupted),
    ("job_canceled", FailureReason::JobCanceled),
];

impl FailureReason {
    /// Wire text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Other(text) => text,
            known => REASONS
                .iter()
                .find(|(_, reason)| reason == known)
                .map_or("unknown_failure", |(text, _)| text),
        }
    }

    /// The reason to send to a server that understands `supported` (6.3, "Mapping before sending").
    pub fn for_server(&self, supported: &[Self]) -> Self {
        let mut reason = self.clone();
        for _ in 0..10 {
            let known = matches!(
                reason,
                Self::ScriptFailure | Self::RunnerSystemFailure | Self::JobExecutionTimeout
            );
            if known || supported.contains(&reason) {
                return reason;
            }
            reason = match reason {
                Self::ImagePullFailure | Self::RunnerExternalDependencyFailure => {
                    Self::RunnerSystemFailure
                }
                Self::RunnerConfigurationError => Self::ScriptFailure,
                _ => return Self::UnknownFailure,
            };
        }
        Self::UnknownFailure
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<String> for FailureReason {
    fn from(text: String) -> Self {
        match REASONS.iter().find(|(name, _)| *name == text) {
            Some((_, reason)) => reason.clone(),
            None => Self::Other(text),
        }
    }
}

impl From<FailureReason> for String {
    fn from(reason: FailureReason) -> Self {
        reason.as_str().to_owned()
    }
}

/// Body of `PUT jobs/:id`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdateRequest {
    /// Self-description, complete each time.
    pub info: Info,
    /// Job token.
    pub token: Secret,
    /// New state.
    pub state: JobState,
    /// Reason, with `failed` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<FailureReason>,
    /// Deprecated copy of `output.checksum`.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub checksum: String,
    /// What the log holds; `{}` when nothing is said of it.
    #[serde(deserialize_with = "null_as_default")]
    pub output: TraceSummary,
    /// Exit status of the failing process; 0 is never sent.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "null_as_default")]
    pub exit_code: i32,
    /// Suspended environment.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub runtime_environment_key: String,
}

/// Checksum and size of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TraceSummary {
    /// `crc32:` and 8 lower-case hex digits.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub checksum: String,
    /// Bytes; 0 is not sent.
    #[serde(skip_serializing_if = "is_none_or_zero")]
    pub bytesize: Option<u64>,
}

/// Header `Job-Status` of the server's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobStatus {
    /// Stop softly: `after_script` still runs.
    Canceling,
    /// Stop now.
    Canceled,
    /// Stop now.
    Failed,
    /// Any other value: no effect.
    Other,
}

impl JobStatus {
    /// Header name.
    pub const HEADER: &str = "Job-Status";

    /// Reads the header's value.
    pub fn parse(value: &str) -> Self {
        match value {
            "canceling" => Self::Canceling,
            "canceled" => Self::Canceled,
            "failed" => Self::Failed,
            _ => Self::Other,
        }
    }
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

fn is_none_or_zero(number: &Option<u64>) -> bool {
    number.is_none_or(|bytes| bytes == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_mapped_to_what_the_server_knows() {
        use FailureReason as R;
        let some = [R::RunnerConfigurationError, R::ImagePullFailure];
        for (reason, supported, sent) in [
            (R::ScriptFailure, &[][..], R::ScriptFailure),
            (R::ImagePullFailure, &some, R::ImagePullFailure),
            (R::ImagePullFailure, &[], R::RunnerSystemFailure),
            (
                R::RunnerExternalDependencyFailure,
                &some,
                R::RunnerSystemFailure,
            ),
            (
                R::RunnerConfigurationError,
                &some,
                R::RunnerConfigurationError,
            ),
            (R::RunnerConfigurationError, &[], R::ScriptFailure),
            (R::JobCanceled, &some, R::UnknownFailure),
        ] {
            assert_eq!(reason.for_server(supported), sent, "{reason}");
        }
    }

    #[test]
    fn an_update_leaves_out_what_is_zero_and_always_has_its_output() {
        let json = serde_json::to_value(UpdateRequest {
            state: JobState::Failed,
            failure_reason: Some(FailureReason::JobCanceled),
            ..UpdateRequest::default()
        })
        .expect("serialises");
        assert_eq!(json["state"], "failed");
        assert_eq!(json["failure_reason"], "job_canceled");
        assert_eq!(json["output"], serde_json::json!({}));
        assert_eq!(json.get("exit_code"), None);
    }

    #[test]
    fn only_three_job_states_steer_the_runner() {
        assert_eq!(JobStatus::parse("canceling"), JobStatus::Canceling);
        assert_eq!(JobStatus::parse("canceled"), JobStatus::Canceled);
        assert_eq!(JobStatus::parse("failed"), JobStatus::Failed);
        assert_eq!(JobStatus::parse("running"), JobStatus::Other);
    }
}
