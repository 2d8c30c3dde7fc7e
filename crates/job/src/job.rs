//! A payload, made ready to run.

use std::collections::BTreeSet;
use std::time::Duration;

use courser_protocol::{FailureReason, JobResponse, JobVariable, Secret};
use serde::{Deserialize, Serialize};

use crate::directories::{Directories, Place};
use crate::helper_request::{GitStrategy, OldGitConfig};
use crate::job_variables::variable_list;
use crate::masked::{derived, longest_first};
use crate::script::{Shell, Style};
use crate::sources::repository_page;
use crate::{Features, JobTls, RunnerContext, Settings, Stage, Variables, cache, inputs, refusal};

/// A job that can run: payload, context, variables, features and settings resolved once.
#[derive(Debug)]
pub struct Job {
    payload: JobResponse,
    context: RunnerContext,
    features: Features,
    settings: Settings,
    directories: Directories,
    variables: Variables,
    /// Resolved; nothing before that.
    secrets: Option<Vec<JobVariable>>,
    pub(crate) style: Style,
    warnings: Vec<String>,
}

/// A job that must not run, with what its log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Text for the log.
    pub message: String,
    /// Reason, before mapping.
    pub reason: FailureReason,
    /// Exit code to report, 0 = none.
    pub exit_code: i32,
}

impl Rejection {
    /// The payload asks for what no runner of this kind can do: refused before it is acknowledged (1.8).
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            reason: FailureReason::RunnerSystemFailure,
            exit_code: 3,
        }
    }

    /// The runner's or the job's settings cannot work.
    pub(crate) fn configuration(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            reason: FailureReason::RunnerConfigurationError,
            exit_code: 0,
        }
    }
}

/// `CI_JOB_STATUS` for `after_script` and later stages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// Before `after_script`.
    #[default]
    Running,
    /// Script succeeded.
    Success,
    /// Script failed.
    Failed,
    /// Cancelled.
    Canceled,
    /// Script or job timeout.
    TimedOut,
}

impl JobStatus {
    /// Text of the variable.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::TimedOut => "timedout",
        }
    }
}

/// Job deadline where the server names none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(7200);

impl Job {
    /// Resolves the payload. Errors are those of lifecycle 1.2 step 1, 1.8 and 1.9 that end the job, and
    /// what this version does not build, by name.
    ///
    /// A rejection's text is free of masked values, as it also goes to the runner's own log.
    pub fn accept(payload: JobResponse, context: RunnerContext) -> Result<Self, Rejection> {
        Self::accept_with(payload, context, None)
    }

    /// The same with secrets, resolved before.
    pub(crate) fn accept_with(
        payload: JobResponse,
        context: RunnerContext,
        secrets: Option<Vec<JobVariable>>,
    ) -> Result<Self, Rejection> {
        let masked = payload.variables.iter().chain(secrets.iter().flatten());
        let masked = masked.filter(|variable| variable.masked);
        let mut masked: Vec<Secret> = masked.map(|variable| variable.value.clone()).collect();
        masked.sort_by_key(|value| std::cmp::Reverse(value.expose().len()));
        Self::resolve(payload, context, secrets).map_err(|mut rejection| {
            for value in masked.iter().filter(|value| !value.is_empty()) {
                rejection.message = rejection.message.replace(value.expose(), "[MASKED]");
            }
            rejection
        })
    }

    /// The same job, whose tools trust something else from now on.
    pub fn trusting(&self, tls: JobTls) -> Result<Self, Rejection> {
        let context = self.context.clone();
        self.again(RunnerContext { tls, ..context }, self.secrets.clone())
    }

    /// The same job with its secrets: further variables, by which settings are read anew.
    pub fn with_secrets(&self, secrets: Vec<JobVariable>) -> Result<Self, Rejection> {
        self.again(self.context.clone(), Some(secrets))
    }

    fn again(
        &self,
        context: RunnerContext,
        secrets: Option<Vec<JobVariable>>,
    ) -> Result<Self, Rejection> {
        let mut payload = self.payload.clone();
        // They are in their places already.
        payload.inputs.clear();
        Self::accept_with(payload, context, secrets)
    }

    fn resolve(
        mut payload: JobResponse,
        context: RunnerContext,
        secrets: Option<Vec<JobVariable>>,
    ) -> Result<Self, Rejection> {
        refusal::check_payload(&payload)?;
        let shell = Shell::parse(&context.shell)?;

        let mut warnings = Vec::new();
        let features = Features::resolve(
            &context.feature_flags,
            &payload.variables,
            secrets.as_deref().unwrap_or_default(),
            &mut warnings,
        );
        if features.job_inputs_interpolation {
            inputs::interpolate(&mut payload).map_err(Rejection::configuration)?;
        }
        let place = Place {
            short_token: &context.short_token,
            concurrent_project_id: context.concurrent_project_id,
            repo_url: payload.git_info.repo_url.expose(),
            project_id: payload.job_info.project_id,
        };
        let standard = Directories::standard(&context.directories, &place)?;
        let list = |directories: &Directories| {
            let list = variable_list(
                &payload,
                &context,
                &features,
                directories,
                JobStatus::Running,
                secrets.as_deref().unwrap_or_default(),
            );
            Variables::expand_all(list, &directories.temporary)
        };
        let settings = Settings::read(
            &list(&standard),
            &payload,
            context.debug_trace_disabled,
            &mut warnings,
        );
        let directories = standard.with_choice(
            &context.directories,
            settings.git_strategy,
            &settings.git_clone_path,
            context.custom_build_dir_enabled,
        )?;
        let variables = list(&directories);
        warn_of_unexported(shell, &variables, &mut warnings);
        let style = Style::new(
            shell,
            &features,
            payload.features.trace_sections,
            settings.debug_trace,
            &context.executable_arch,
        )
        .sharing_files(context.open_files && !features.disable_umask_for_docker);
        let job = Self {
            payload,
            context,
            features,
            settings,
            directories,
            variables,
            secrets,
            style,
            warnings,
        };
        refusal::check_settings(&job)?;
        cache::check(&job)?;
        Ok(job)
    }

    /// The payload.
    pub fn payload(&self) -> &JobResponse {
        &self.payload
    }

    /// The context.
    pub fn context(&self) -> &RunnerContext {
        &self.context
    }

    /// Feature flags.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Settings from variables.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Variables as they are before `after_script`.
    pub fn variables(&self) -> &Variables {
        &self.variables
    }

    /// Directories.
    pub fn directories(&self) -> &Directories {
        &self.directories
    }

    /// Dialect of the job's scripts.
    pub fn shell(&self) -> Shell {
        self.style.shell
    }

    /// Stages of user steps in order, `after_script` excluded.
    pub fn steps(&self) -> Vec<Stage> {
        let names = self
            .payload
            .steps
            .iter()
            .map(|step| step.name.to_lowercase());
        names
            .filter(|name| name != AFTER_SCRIPT)
            .map(Stage::Step)
            .collect()
    }

    /// Attempts of a stage (1 to 10).
    pub fn attempts(&self, stage: &Stage) -> u32 {
        match stage {
            Stage::GetSources => self.settings.get_sources_attempts,
            Stage::RestoreCache => self.settings.restore_cache_attempts,
            Stage::DownloadArtifacts => self.settings.artifact_download_attempts,
            _ => 1,
        }
    }

    /// Job deadline.
    pub fn timeout(&self) -> Duration {
        timeout(&self.payload)
    }

    /// Warnings about settings, printed once.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Where people look at it.
    pub fn url(&self) -> String {
        let repository = repository_page(self.payload.git_info.repo_url.expose());
        format!("{repository}/-/jobs/{}", self.payload.id)
    }

    /// Project directory, absolute.
    pub fn project_dir(&self) -> &str {
        &self.directories.project
    }

    /// Expanded values to mask, longest first; of secrets also their lines and encoded forms.
    pub fn masked_phrases(&self) -> Vec<Secret> {
        let mut phrases = self.variables.masked();
        if self.context.masks_secrets_only_whole {
            return phrases;
        }
        let secrets = self.secrets.iter().flatten();
        phrases.extend(derived(secrets.map(|secret| &secret.value)));
        longest_first(&mut phrases);
        phrases
    }

    /// Resolved secrets as variables; nothing before that.
    pub(crate) fn secrets(&self) -> Option<&[JobVariable]> {
        self.secrets.as_deref()
    }

    /// Whether the job cannot go on before its secrets are resolved.
    pub fn lacks_secrets(&self) -> bool {
        self.payload.secrets.is_some() && self.secrets.is_none()
    }

    /// What becomes of the configuration of a reused repository (2.3 A 3). Upstream's shell executor keeps
    /// it; here no job inherits it, unless the runner's configuration says so.
    pub(crate) fn old_config(&self) -> OldGitConfig {
        let everywhere =
            self.context.cleans_git_config && self.settings.git_strategy != GitStrategy::None;
        match self.context.clean_git_config {
            Some(true) => OldGitConfig::Dropped,
            Some(false) => OldGitConfig::Kept,
            None if everywhere => OldGitConfig::Dropped,
            None => OldGitConfig::DroppedBefore,
        }
    }

    /// For which directories Git is told that their owner does not matter; in a container of the job's own, where submodules
    /// may be somebody else's too, all.
    pub(crate) fn safe_directory(&self) -> Option<String> {
        let context = &self.context;
        let here = || self.directories.project.clone();
        context.safe_directory.then(|| match context.shared {
            true => here(),
            false => "*".to_owned(),
        })
    }

    pub(crate) fn has_repository(&self) -> bool {
        matches!(
            self.settings.git_strategy,
            GitStrategy::Clone | GitStrategy::Fetch
        )
    }
}

pub(crate) const AFTER_SCRIPT: &str = "after_script";

/// A variable that the shell cannot have is left out, not the end of the job as with upstream.
fn warn_of_unexported(shell: Shell, variables: &Variables, warnings: &mut Vec<String>) {
    let mut names = BTreeSet::new();
    for variable in variables.iter() {
        if let Some(why) = shell.cannot_export(&variable.key)
            && names.insert(&variable.key)
        {
            warnings.push(format!("{}: variable is not exported, {why}", variable.key));
        }
    }
}

pub(crate) fn timeout(payload: &JobResponse) -> Duration {
    match u64::try_from(payload.runner_info.timeout) {
        Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
        _ => DEFAULT_TIMEOUT,
    }
}

#[cfg(test)]
pub(crate) mod tests;
