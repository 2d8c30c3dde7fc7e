//! A payload, made ready to run.

use std::time::Duration;

use courser_protocol::{FailureReason, JobResponse, JobVariable, Secret};

use crate::cache::{self, CacheWork};
use crate::directories::{Directories, Place};
use crate::helper_request::{
    CacheRequest, CleanUp, DownloadArtifacts, GitStrategy, HelperRequest, UploadArtifacts,
};
use crate::script::{Body, Shell, Style};
use crate::{
    Features, RunnerContext, Settings, Stage, StageScript, StageWork, Variables, messages, sources,
};

/// A job that can run: payload, context, variables, features and settings resolved once.
#[derive(Debug)]
pub struct Job {
    payload: JobResponse,
    context: RunnerContext,
    features: Features,
    settings: Settings,
    directories: Directories,
    variables: Variables,
    style: Style,
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
    pub fn accept(payload: JobResponse, context: RunnerContext) -> Result<Self, Rejection> {
        refuse_unsupported_options(&payload)?;
        refuse_unbuilt_payload(&payload)?;
        refuse_odd_names(&payload)?;
        let shell = Shell::parse(&context.shell)?;

        let mut warnings = Vec::new();
        let features = Features::resolve(&context.feature_flags, &payload.variables, &mut warnings);
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
            );
            Variables::expand_all(list, &directories.temporary)
        };
        let settings = Settings::read(
            &list(&standard),
            payload.allow_git_fetch,
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
        let style = Style::new(
            shell,
            &features,
            payload.features.trace_sections,
            settings.debug_trace,
        );
        let job = Self {
            payload,
            context,
            features,
            settings,
            directories,
            variables,
            style,
            warnings,
        };
        job.refuse_unbuilt_settings()?;
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

    /// What `stage` runs, or `None` when it has nothing to do (then it prints nothing either).
    ///
    /// `status` only decides `CI_JOB_STATUS`. [`Stage::PrepareExecutor`] runs in the runner and has no script.
    pub fn stage(&self, stage: &Stage, status: JobStatus) -> Option<StageScript> {
        let work = match stage {
            Stage::PrepareExecutor => return None,
            Stage::PrepareScript => StageWork::Helper(vec![HelperRequest::Prepare {
                temporary_dir: self.directories.temporary.clone(),
                via: self.via(),
            }]),
            Stage::GetSources => self.get_sources(status),
            Stage::ClearWorktree => {
                let mut body = Body::new(&self.style);
                let request = HelperRequest::ClearWorktree {
                    project_dir: self.directories.project.clone(),
                };
                body.helper(&self.context.helper_command, &request);
                StageWork::Shell(body.into_script())
            }
            Stage::RestoreCache => {
                self.caches(cache::restore(self), HelperRequest::RestoreCache, status)?
            }
            Stage::ArchiveCache => self.caches(
                cache::archive(self, false),
                HelperRequest::ArchiveCache,
                status,
            )?,
            Stage::ArchiveCacheOnFailure => self.caches(
                cache::archive(self, true),
                HelperRequest::ArchiveCache,
                status,
            )?,
            Stage::DownloadArtifacts => self.requests(self.downloads(), status)?,
            Stage::UploadArtifactsOnSuccess => self.requests(self.uploads(false), status)?,
            Stage::UploadArtifactsOnFailure => self.requests(self.uploads(true), status)?,
            Stage::Step(name) => self.step(name, status)?,
            Stage::AfterScript => self.after_script(status)?,
            Stage::CleanupFileVariables => {
                StageWork::Helper(vec![HelperRequest::CleanUp(self.clean_up())])
            }
        };
        Some(StageScript {
            stage: stage.clone(),
            work,
        })
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

    /// Project directory, absolute.
    pub fn project_dir(&self) -> &str {
        &self.directories.project
    }

    /// Expanded values to mask, longest first.
    pub fn masked_phrases(&self) -> Vec<Secret> {
        self.variables.masked()
    }

    /// Whether `config` and hooks of a reused repository are deleted (2.3 A 3).
    pub(crate) fn clean_git_config(&self) -> bool {
        let default =
            self.context.executor != "shell" && self.settings.git_strategy != GitStrategy::None;
        self.context.clean_git_config.unwrap_or(default)
    }

    /// Name after `via` in `Running on …`: executors that run on this very machine name none.
    fn via(&self) -> String {
        match self.context.executor.as_str() {
            "shell" | "custom" => String::new(),
            _ => self.context.hostname.clone(),
        }
    }

    fn has_repository(&self) -> bool {
        matches!(
            self.settings.git_strategy,
            GitStrategy::Clone | GitStrategy::Fetch
        )
    }

    /// A body that begins with the exports.
    fn body(&self, status: JobStatus) -> Body<'_> {
        let mut body = Body::new(&self.style);
        let temporary = &self.directories.temporary;
        if status == JobStatus::Running {
            body.export_variables(&self.variables, temporary);
        } else {
            let list = variable_list(
                &self.payload,
                &self.context,
                &self.features,
                &self.directories,
                status,
            );
            body.export_variables(&Variables::expand_all(list, temporary), temporary);
        }
        body
    }

    /// As [`Self::body`], inside the project directory.
    fn body_in_project(&self, status: JobStatus) -> Body<'_> {
        let mut body = self.body(status);
        body.command(&["cd", &self.directories.project]);
        body
    }

    fn get_sources(&self, status: JobStatus) -> StageWork {
        let request = HelperRequest::GetSources(Box::new(sources::request(self)));
        if !self.has_repository() {
            return StageWork::Helper(vec![request]);
        }
        let mut body = self.body(status);
        body.export("GIT_TERMINAL_PROMPT", "0");
        body.export("GCM_INTERACTIVE", "Never");
        let configured = &self.context.pre_get_sources_script;
        body.commands(
            "pre_clone_script",
            hook(configured).chain(self.job_hook("pre_get_sources_script")),
        );
        if !self.settings.git_lfs_skip_smudge {
            body.export("GIT_LFS_SKIP_SMUDGE", "1");
        }
        let external = format!("{}/{EXTERNAL_GIT_CONFIG}", self.directories.temporary);
        body.export("GLR_EXT_GIT_CONFIG_PATH", &external);
        body.helper(&self.context.helper_command, &request);
        let configured = &self.context.post_get_sources_script;
        let mut after = self
            .job_hook("post_get_sources_script")
            .chain(hook(configured))
            .peekable();
        if after.peek().is_some() {
            body.command(&["cd", &self.directories.project]);
            body.commands("post_clone_script", after);
        }
        StageWork::Shell(body.into_script())
    }

    fn job_hook<'a>(&'a self, name: &'static str) -> impl Iterator<Item = &'a str> {
        let hooks = self
            .payload
            .hooks
            .iter()
            .filter(move |hook| hook.name == name);
        hooks.flat_map(|hook| hook.script.iter().map(String::as_str))
    }

    fn caches(
        &self,
        work: Vec<CacheWork>,
        request: fn(CacheRequest) -> HelperRequest,
        status: JobStatus,
    ) -> Option<StageWork> {
        if work.is_empty() {
            return None;
        }
        let mut body = self.body_in_project(status);
        for piece in work {
            match piece {
                CacheWork::Say(line) => body.say(&line),
                CacheWork::Request(caches) => {
                    body.helper(&self.context.helper_command, &request(caches));
                }
            }
        }
        Some(StageWork::Shell(body.into_script()))
    }

    fn requests(&self, requests: Vec<HelperRequest>, status: JobStatus) -> Option<StageWork> {
        if requests.is_empty() {
            return None;
        }
        let mut body = self.body_in_project(status);
        for request in &requests {
            body.helper(&self.context.helper_command, request);
        }
        Some(StageWork::Shell(body.into_script()))
    }

    fn downloads(&self) -> Vec<HelperRequest> {
        let (tls_ca_file, tls_client_pair) = sources::tls_files(self);
        let dependencies = self.payload.dependencies.iter();
        dependencies
            .filter(|dependency| !dependency.artifacts_file.is_absent())
            .map(|dependency| {
                HelperRequest::DownloadArtifacts(DownloadArtifacts {
                    project_dir: self.directories.project.clone(),
                    url: self.context.url.clone(),
                    job_id: dependency.id,
                    job_name: dependency.name.clone(),
                    token: dependency.token.clone(),
                    direct_download: self.features.direct_download,
                    tls_ca_file: tls_ca_file.clone(),
                    tls_client_pair: tls_client_pair.clone(),
                })
            })
            .collect()
    }

    fn uploads(&self, after_failure: bool) -> Vec<HelperRequest> {
        if self.context.url.is_empty() {
            return Vec::new();
        }
        let (tls_ca_file, tls_client_pair) = sources::tls_files(self);
        let entries = self.payload.artifacts.iter();
        entries
            .filter(|entry| cache::applies(entry.when, after_failure))
            .filter(|entry| entry.untracked || !entry.paths.is_empty() || !entry.exclude.is_empty())
            .map(|entry| {
                HelperRequest::UploadArtifacts(UploadArtifacts {
                    project_dir: self.directories.project.clone(),
                    url: self.context.url.clone(),
                    job_id: self.payload.id,
                    token: self.payload.token.clone(),
                    name: entry.name.clone(),
                    paths: entry.paths.clone(),
                    exclude: entry.exclude.clone(),
                    untracked: entry.untracked,
                    expire_in: entry.expire_in.clone(),
                    format: entry.artifact_format.clone(),
                    artifact_type: entry.artifact_type.clone(),
                    timeout_seconds: self.context.artifact_upload_timeout.as_secs(),
                    response_header_timeout_seconds: self
                        .context
                        .artifact_response_header_timeout
                        .as_secs(),
                    tls_ca_file: tls_ca_file.clone(),
                    tls_client_pair: tls_client_pair.clone(),
                })
            })
            .collect()
    }

    fn step(&self, name: &str, status: JobStatus) -> Option<StageWork> {
        let steps = &self.payload.steps;
        let step = steps.iter().find(|step| step.name.to_lowercase() == name)?;
        if step.script.is_empty() {
            return None;
        }
        let mut body = self.body_in_project(status);
        body.commands("pre_build_script", hook(&self.context.pre_build_script));
        if name == "release" {
            let lines: Vec<String> = step
                .script
                .iter()
                .map(|line| self.variables.expand(line))
                .collect();
            body.commands("script_step", lines.iter().map(String::as_str));
        } else {
            body.commands("script_step", step.script.iter().map(String::as_str));
        }
        body.commands("post_build_script", hook(&self.context.post_build_script));
        Some(StageWork::Shell(body.into_script()))
    }

    fn after_script(&self, status: JobStatus) -> Option<StageWork> {
        let steps = &self.payload.steps;
        let step = steps
            .iter()
            .find(|step| step.name.to_lowercase() == AFTER_SCRIPT)?;
        if step.script.is_empty() {
            return None;
        }
        let mut body = self.body_in_project(status);
        body.say(&messages::running_after_script());
        body.commands("after_script_step", step.script.iter().map(String::as_str));
        Some(StageWork::Shell(body.into_script()))
    }

    fn clean_up(&self) -> CleanUp {
        CleanUp {
            strategy: self.settings.git_strategy,
            project_dir: self.directories.project.clone(),
            temporary_dir: self.directories.temporary.clone(),
            file_variables: self.variables.file_names(),
            job_cleanup: self.features.job_cleanup,
            clean_flags: self.settings.git_clean_flags.clone(),
            clean_git_config: self.clean_git_config(),
            credential_reject_url: sources::Remote::of(self).credential_reject_url,
        }
    }

    /// Settings that would change what happens and are not built yet.
    fn refuse_unbuilt_settings(&self) -> Result<(), Rejection> {
        if !self.has_repository() {
            return Ok(());
        }
        let strategy = &self.settings.git_submodule_strategy;
        match strategy.as_str() {
            "" => {}
            "normal" | "recursive" => {
                return Err(Rejection::configuration(format!(
                    "GIT_SUBMODULE_STRATEGY: {strategy} is not built yet, only \"none\" works"
                )));
            }
            _ => return Err(Rejection::configuration("unknown GIT_SUBMODULE_STRATEGY")),
        }
        for (set, name) in [
            (
                self.features.git_urls_without_tokens,
                "FF_GIT_URLS_WITHOUT_TOKENS",
            ),
            (
                self.features.git_native_clone && self.settings.git_strategy == GitStrategy::Clone,
                "FF_USE_GIT_NATIVE_CLONE",
            ),
        ] {
            if set {
                return Err(Rejection::configuration(format!(
                    "feature flag {name} is not built yet: switch it off"
                )));
            }
        }
        Ok(())
    }
}

const AFTER_SCRIPT: &str = "after_script";

/// Git configuration outside the repository that holds the credentials.
const EXTERNAL_GIT_CONFIG: &str = ".gitlab-runner.ext.conf";

/// A configured hook as script elements: one, or none.
fn hook(script: &str) -> impl Iterator<Item = &str> {
    Some(script)
        .filter(|script| !script.trim().is_empty())
        .into_iter()
}

fn timeout(payload: &JobResponse) -> Duration {
    match u64::try_from(payload.runner_info.timeout) {
        Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
        _ => DEFAULT_TIMEOUT,
    }
}

/// The ordered list, not yet expanded (lifecycle 1.10).
fn variable_list(
    payload: &JobResponse,
    context: &RunnerContext,
    features: &Features,
    directories: &Directories,
    status: JobStatus,
) -> Vec<JobVariable> {
    let mut list = Vec::with_capacity(features.all().len() + payload.variables.len() + 24);
    let public = |key: &str, value: &str| JobVariable {
        key: key.to_owned(),
        value: value.into(),
        public: true,
        ..JobVariable::default()
    };
    for (name, value) in features.all() {
        list.push(public(name, if *value { "true" } else { "false" }));
    }
    if !payload.image.name.is_empty() {
        list.push(public("CI_JOB_IMAGE", &payload.image.name));
    }
    list.push(public("CI_RUNNER_SHORT_TOKEN", &context.short_token));
    for entry in &context.environment {
        if let Some((key, value)) = entry.split_once('=') {
            list.push(JobVariable {
                public: false,
                ..public(key, value)
            });
        }
    }
    list.push(public("CI_BUILDS_DIR", &context.directories.builds));
    list.push(public("CI_PROJECT_DIR", &directories.project));
    list.push(public(
        "CI_CONCURRENT_ID",
        &context.concurrent_id.to_string(),
    ));
    list.push(public(
        "CI_CONCURRENT_PROJECT_ID",
        &context.concurrent_project_id.to_string(),
    ));
    list.push(public("CI_SERVER", "yes"));
    list.push(public("CI_JOB_STATUS", status.as_str()));
    list.push(public(
        "CI_JOB_TIMEOUT",
        &timeout(payload).as_secs().to_string(),
    ));
    let mut file = |key: &str, content: &str, public_too: bool| {
        list.push(JobVariable {
            public: public_too,
            file: true,
            // A certificate holds no references; its text stays as it is.
            raw: true,
            ..public(key, content)
        });
    };
    if !context.tls.ca_chain.is_empty() {
        file("CI_SERVER_TLS_CA_FILE", &context.tls.ca_chain, true);
    }
    if let Some((certificate, key)) = &context.tls.client_pair {
        file("CI_SERVER_TLS_CERT_FILE", certificate, true);
        file("CI_SERVER_TLS_KEY_FILE", key.expose(), false);
    }
    let is_flag = |key: &str| features.all().iter().any(|(name, _)| *name == key);
    list.extend(
        payload
            .variables
            .iter()
            .filter(|variable| !is_flag(&variable.key))
            .cloned(),
    );
    let environment = if context.shared {
        "CI_SHARED_ENVIRONMENT"
    } else {
        "CI_DISPOSABLE_ENVIRONMENT"
    };
    list.push(public(environment, "true"));
    list.push(public("CI_RUNNER_VERSION", &context.version));
    list.push(public("CI_RUNNER_REVISION", &context.revision));
    list.push(public(
        "CI_RUNNER_EXECUTABLE_ARCH",
        &context.executable_arch,
    ));
    list.push(public("RUNNER_TEMP_PROJECT_DIR", &directories.temporary));
    list
}

/// Options of image and services that no executor knows (`runner-protocol.md` 3.8).
fn refuse_unsupported_options(payload: &JobResponse) -> Result<(), Rejection> {
    let mut unsupported = Vec::new();
    for image in std::iter::once(&payload.image).chain(&payload.services) {
        let options = &image.executor_opts;
        unsupported.extend(options.unsupported.keys().cloned());
        if let Some(docker) = &options.docker {
            unsupported.extend(docker.unsupported.keys().map(|key| format!("docker.{key}")));
        }
        if let Some(kubernetes) = &options.kubernetes {
            unsupported.extend(
                kubernetes
                    .unsupported
                    .keys()
                    .map(|key| format!("kubernetes.{key}")),
            );
        }
    }
    if unsupported.is_empty() {
        return Ok(());
    }
    Err(Rejection {
        message: format!(
            "unsupported executor options: {}; supported are docker.platform, docker.user, kubernetes.user",
            unsupported.join(", ")
        ),
        reason: FailureReason::RunnerSystemFailure,
        exit_code: 3,
    })
}

/// Parts of the payload that would change what happens and are not built yet.
fn refuse_unbuilt_payload(payload: &JobResponse) -> Result<(), Rejection> {
    if !payload.run.is_empty() {
        return Err(Rejection::configuration(
            "`run` (CI steps) is not built yet: use `script`",
        ));
    }
    if let Some(name) = payload.secrets.keys().next() {
        return Err(Rejection::configuration(format!(
            "`secrets` are not built yet (first one: {name:?})"
        )));
    }
    // Inputs only matter where a script refers to them.
    let refers =
        |step: &courser_protocol::Step| step.script.iter().any(|line| line.contains("${{"));
    if !payload.inputs.is_empty() && payload.steps.iter().any(refers) {
        return Err(Rejection::configuration(
            "interpolation of job `inputs` is not built yet",
        ));
    }
    if !payload.suspend_options.runtime_environment_key.is_empty() {
        return Err(Rejection::configuration(
            "resuming a suspended environment is not built yet",
        ));
    }
    Ok(())
}

/// A file variable's name is a file name.
fn refuse_odd_names(payload: &JobResponse) -> Result<(), Rejection> {
    let is_plain = |key: &str| {
        !key.is_empty()
            && key
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    match payload
        .variables
        .iter()
        .find(|variable| variable.file && !is_plain(&variable.key))
    {
        Some(variable) => Err(Rejection::configuration(format!(
            "file variable {:?}: its name may only have letters, digits and underscores",
            variable.key
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
