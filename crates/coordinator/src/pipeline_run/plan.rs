//! What the file says of a job that decides when it runs and what its end means.

use serde::{Deserialize, Serialize};

use courser_pipeline::{AllowFailure, JobWhen};

use super::Position;

/// What decides when a job runs and what its end means.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct JobPlan {
    /// Name, parallel suffix included.
    pub name: String,
    /// Position of its stage.
    pub stage: usize,
    /// Jobs it waits for; `None`: all jobs of earlier stages.
    pub needs: Option<Vec<Position>>,
    /// `when`.
    pub when: JobWhen,
    /// `allow_failure`.
    pub allow_failure: AllowFailure,
    /// `retry`.
    pub retry: Retry,
    /// Seconds a delayed job waits.
    pub start_in: u64,
    /// `trigger`: nothing for a runner to do.
    #[serde(default)]
    pub bridge: bool,
    /// Started beforehand by a person: a manual or delayed job runs when its turn comes.
    #[serde(default)]
    pub played: bool,
    /// `interruptible`.
    #[serde(default)]
    pub interruptible: bool,
}

/// `retry` of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Further attempts after the first.
    pub max: u32,
    /// Failure reasons that are retried; `always` stands for all. Empty together with no exit codes: all.
    pub when: Vec<String>,
    /// Exit codes that are retried.
    pub exit_codes: Vec<i64>,
}

impl Retry {
    pub(super) fn covers(&self, reason: &str, exit_code: Option<i64>) -> bool {
        let any = self.when.is_empty() && self.exit_codes.is_empty();
        any || self
            .when
            .iter()
            .any(|when| when == "always" || when == reason)
            || exit_code.is_some_and(|code| self.exit_codes.contains(&code))
    }
}
