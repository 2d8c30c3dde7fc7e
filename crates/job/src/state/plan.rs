//! What the state machine must know of a job, computed once.

use std::time::Duration;

use crate::{Job, Stage, TimeoutVariable, messages};

/// The facts of a job that decide its course.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Lines before anything happens.
    pub(super) opening: String,
    /// Lines before the first step.
    pub(super) before_steps: String,
    /// Its secrets come first.
    pub(super) lacks_secrets: bool,
    /// Stages that have something to do.
    pub(super) with_work: Vec<Stage>,
    /// User steps in order.
    pub(super) steps: Vec<Stage>,
    pub(super) get_sources_attempts: u32,
    pub(super) restore_cache_attempts: u32,
    pub(super) artifact_download_attempts: u32,
    /// `FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY`.
    pub(super) long_backoff: bool,
    pub(super) timeout: Duration,
    /// For `prepare_executor` and `prepare_script` together.
    pub(super) prepare_timeout: Option<Duration>,
    /// For all attempts of `get_sources`.
    pub(super) get_sources_timeout: Option<Duration>,
    pub(super) script_timeout: TimeoutVariable,
    pub(super) after_script_timeout: TimeoutVariable,
    pub(super) ignore_after_script_errors: bool,
}

impl Plan {
    /// The plan of a job.
    pub fn of(job: &Job) -> Self {
        let context = job.context();
        let settings = job.settings();
        let timeout = job.timeout();
        let steps = job.steps();
        let candidates = [
            Stage::PrepareScript,
            Stage::GetSources,
            Stage::RestoreCache,
            Stage::DownloadArtifacts,
            Stage::AfterScript,
            Stage::ArchiveCache,
            Stage::ArchiveCacheOnFailure,
            Stage::UploadArtifactsOnSuccess,
            Stage::UploadArtifactsOnFailure,
            Stage::CleanupFileVariables,
        ];
        let has_work = |stage: &Stage| job.has_work(stage);
        let mut opening = messages::running_with(&context.version, &context.revision);
        opening +=
            &messages::running_on_runner(&context.name, &context.short_token, &context.system_id);
        opening += &messages::feature_flags(job.features().changed()).unwrap_or_default();
        opening += &messages::settings(job.warnings()).unwrap_or_default();
        let within_job =
            |limit: Option<Duration>| limit.filter(|limit| !limit.is_zero() && *limit <= timeout);
        Self {
            opening,
            before_steps: policy_lines(job),
            lacks_secrets: job.lacks_secrets(),
            with_work: candidates
                .into_iter()
                .chain(steps.clone())
                .filter(has_work)
                .collect(),
            steps,
            get_sources_attempts: settings.get_sources_attempts,
            restore_cache_attempts: settings.restore_cache_attempts,
            artifact_download_attempts: settings.artifact_download_attempts,
            long_backoff: job.features().exponential_backoff,
            timeout,
            prepare_timeout: within_job(context.prepare_timeout),
            get_sources_timeout: within_job(context.get_sources_timeout),
            script_timeout: settings.script_timeout.clone(),
            after_script_timeout: settings.after_script_timeout.clone(),
            ignore_after_script_errors: settings.after_script_ignore_errors,
        }
    }

    /// The plan of a job that another process began; `opening` is said instead of what the log says already.
    #[must_use]
    pub fn resumed(self, opening: String) -> Self {
        Self { opening, ..self }
    }

    pub(super) fn has_work(&self, stage: &Stage) -> bool {
        self.with_work.contains(stage)
    }

    pub(super) fn attempts(&self, stage: &Stage) -> u32 {
        match stage {
            Stage::GetSources => self.get_sources_attempts,
            Stage::RestoreCache => self.restore_cache_attempts,
            Stage::DownloadArtifacts => self.artifact_download_attempts,
            _ => 1,
        }
    }

    /// Wait after attempt number `failed` (1-based): 5 s doubling to 5 min, or 1 s doubling to 5 s.
    pub(super) fn backoff(&self, failed: u32) -> Duration {
        let (first, cap) = if self.long_backoff { (5, 300) } else { (1, 5) };
        let factor = 1_u64 << failed.saturating_sub(1).min(16);
        Duration::from_secs((first * factor).min(cap))
    }
}

fn policy_lines(job: &Job) -> String {
    let policy = &job.payload().policy_options;
    if !policy.execution_policy_job {
        return String::new();
    }
    let first = messages::triggered_by_policy(&policy.policy_name);
    let second = match policy.policy_variables_override_allowed {
        None => messages::policy_takes_precedence(),
        Some(allowed) => {
            messages::policy_overrides(allowed, &policy.policy_variables_override_exceptions)
        }
    };
    first + &second
}
