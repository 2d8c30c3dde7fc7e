//! From a job of the evaluated pipeline to the payload a runner gets (`gitlab-ci-yaml.md` 22,
//! `runner-protocol.md` 3 and 10).
//!
//! What the file says becomes a [`JobTemplate`] when the pipeline is created and is stored; what is
//! known only when a runner asks (ids, token, runner, dependencies) is filled in by [`hand_out`].

mod keywords;
mod predefined;
mod secrets;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use courser_pipeline::{IdToken, PipelineJob, SecretSpec};
use courser_protocol::{
    ArtifactsFile, Dependency, FailureReason, GitInfo, JobFeatures, JobInfo, JobResponse,
    JobVariable, RefType, RunnerInfo, Secret,
};

use crate::bridge::Trigger;
use crate::oidc::{Claims, Issuer, Occasion};
use crate::pipeline_run::Position;
use crate::project::Project;
use crate::results::Declared;
use crate::store::{ArtifactRecord, JobRecord, PipelineContext, RunnerRecord};
use crate::variables;

pub(crate) use keywords::plans;
pub use predefined::server_variables;

/// The part of a payload that the file decides.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct JobTemplate {
    /// Steps, image, services, artifacts, caches, hooks, names.
    pub(crate) payload: JobResponse,
    /// Levels 2 to 6 of `gitlab-ci-yaml.md` 17.2.
    pub(crate) yaml_variables: Vec<JobVariable>,
    /// `CI_JOB_NAME`, `CI_NODE_INDEX`, `CI_ENVIRONMENT_NAME`, …
    pub(crate) job_variables: Vec<JobVariable>,
    /// Decide which runner gets it.
    pub(crate) tags: Vec<String>,
    /// Jobs whose artifacts and dotenv variables it is given.
    pub(crate) sources: Vec<Position>,
    /// Seconds.
    pub(crate) timeout: Option<u64>,
    /// Whether it has an `environment`, hence a slug.
    pub(crate) environment: bool,
    /// Needs of jobs in other pipelines, with `artifacts`.
    pub(crate) elsewhere: Vec<ForeignNeed>,
    /// Of a bridge.
    pub(crate) trigger: Option<Trigger>,
    /// Expanded.
    pub(crate) resource_group: Option<String>,
    /// What it leaves behind.
    pub(crate) declared: Declared,
    /// Tokens that are signed for it, by the variable's name.
    pub(crate) id_tokens: Vec<(String, IdToken)>,
    /// Secrets without the provider's server, by the variable's name.
    pub(crate) secrets: Vec<(String, SecretSpec)>,
}

/// `needs:pipeline` or `needs:project`, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ForeignNeed {
    /// A job of the parent or another pipeline of the family.
    Pipeline { pipeline: String, job: String },
    /// A job of another project.
    Project {
        project: String,
        reference: String,
        job: String,
    },
}

/// A job whose artifacts another one is given.
pub(crate) struct Source<'a> {
    pub(crate) job: &'a JobRecord,
    pub(crate) archive: Option<&'a ArtifactRecord>,
    pub(crate) dotenv: &'a [(String, String)],
}

/// Facts about the coordinator that payloads name.
#[derive(Debug, Clone)]
pub(crate) struct ServerFacts {
    /// `https://host:port`, without a trailing slash.
    pub(crate) url: url::Url,
    /// Seconds, for jobs without `timeout`.
    pub(crate) default_timeout: u64,
    pub(crate) issuer: Arc<Issuer>,
}

/// Commits a job fetches when `GIT_DEPTH` does not say otherwise, GitLab's default for new projects.
const DEFAULT_GIT_DEPTH: i64 = 20;

/// Everything [`hand_out`] needs.
pub(crate) struct HandOut<'a> {
    pub(crate) server: &'a ServerFacts,
    /// Where the job reaches the coordinator.
    pub(crate) url: &'a url::Url,
    pub(crate) project: &'a Project,
    pub(crate) pipeline_id: i64,
    pub(crate) context: &'a PipelineContext,
    pub(crate) job: &'a JobRecord,
    /// `None`: what is known of the variables before a runner asks, or of a bridge.
    pub(crate) runner: Option<&'a RunnerRecord>,
    pub(crate) sources: Vec<Source<'a>>,
    pub(crate) now: jiff::Timestamp,
    /// Jobs waiting in the queue.
    pub(crate) queue_size: usize,
}

impl JobTemplate {
    /// Builds the template. `cache_key` turns a cache's key into text.
    pub(crate) fn new(
        job: &PipelineJob,
        stages: &[String],
        jobs: &[PipelineJob],
        protected: bool,
        cache_key: impl Fn(usize, &courser_pipeline::JobCache) -> String,
    ) -> Self {
        keywords::template(job, stages, jobs, protected, cache_key)
    }
}

/// Why a job cannot be handed to any runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Undeliverable {
    /// GitLab's failure reason.
    pub(crate) reason: &'static str,
    /// What is missing.
    pub(crate) message: String,
}

/// Completes the template for one runner.
///
/// # Errors
///
/// What the job asks for is not to be had: it fails before a runner sees it.
pub(crate) fn hand_out(request: HandOut<'_>) -> Result<JobResponse, Undeliverable> {
    let HandOut {
        project,
        pipeline_id,
        context,
        job,
        runner,
        ..
    } = &request;
    let mut payload = job.template.payload.clone();
    let timeout = timeout(
        job.template.timeout,
        *runner,
        request.server.default_timeout,
    );
    let repository_url = predefined::repository_url(request.url, project, &job.token);
    payload.id = job.id;
    payload.token = job.token.clone();
    payload.allow_git_fetch = true;
    payload.job_info = JobInfo {
        pipeline_id: *pipeline_id,
        project_id: project.id,
        project_name: project.name().to_owned(),
        project_full_path: project.path.clone(),
        namespace_id: 1,
        root_namespace_id: 1,
        organization_id: 1,
        user_id: 1,
        time_in_queue_seconds: seconds_since(job.run.queued_at, request.now),
        project_jobs_running_on_instance_runners_count: "+Inf".to_owned(),
        queue_size: request.queue_size as i64,
        queue_depth: 0,
        ..payload.job_info
    };
    payload.variables = variables(&request);
    let tokens = id_tokens(&request, &payload.variables, timeout)?;
    payload.secrets = secrets::secrets(
        &job.template.secrets,
        &job.template.id_tokens,
        &scoped_variables(&request),
    )?;
    add_tokens(&mut payload.variables, tokens);
    payload.git_info = git_info(
        *pipeline_id,
        context,
        project,
        repository_url,
        &payload.variables,
    );
    payload.runner_info = RunnerInfo {
        timeout: timeout as i64,
        uuid: String::new(),
    };
    for step in &mut payload.steps {
        step.timeout = timeout as i64;
    }
    payload.dependencies = request.sources.iter().map(dependency).collect();
    payload.features = JobFeatures {
        trace_sections: true,
        failure_reasons: known_failure_reasons(),
        ..JobFeatures::default()
    };
    Ok(payload)
}

/// Reasons the coordinator stores as they are; others become `unknown_failure`.
pub(crate) fn known_failure_reasons() -> Vec<FailureReason> {
    vec![
        FailureReason::UnknownFailure,
        FailureReason::ScriptFailure,
        FailureReason::RunnerSystemFailure,
        FailureReason::JobExecutionTimeout,
        FailureReason::ImagePullFailure,
        FailureReason::RunnerConfigurationError,
        FailureReason::RunnerExternalDependencyFailure,
        FailureReason::RunnerInterrupted,
        FailureReason::JobCanceled,
    ]
}

/// The smallest of what job, project default and runner say.
fn timeout(job: Option<u64>, runner: Option<&RunnerRecord>, default: u64) -> u64 {
    let wanted = job.unwrap_or(default);
    let limit = runner.and_then(|runner| u64::try_from(runner.maximum_timeout).ok());
    match limit {
        Some(limit) if limit > 0 => wanted.min(limit),
        _ => wanted,
    }
}

fn seconds_since(unix_milliseconds: i64, now: jiff::Timestamp) -> f64 {
    (now.as_millisecond().saturating_sub(unix_milliseconds)).max(0) as f64 / 1000.0
}

/// All variables in the order of `gitlab-ci-yaml.md` 17.2, expanded.
pub(crate) fn variables(request: &HandOut<'_>) -> Vec<JobVariable> {
    let of_reports = request.sources.iter().flat_map(|source| source.dotenv);
    resolved(request, of_reports)
}

/// Those that are known without running anything: the only ones that say where secrets are.
fn scoped_variables(request: &HandOut<'_>) -> Vec<JobVariable> {
    if request.job.template.secrets.is_empty() {
        return Vec::new();
    }
    resolved(request, [])
}

fn resolved<'a>(
    request: &HandOut<'_>,
    dotenv: impl IntoIterator<Item = &'a (String, String)>,
) -> Vec<JobVariable> {
    let (user, predefined): (Vec<_>, Vec<_>) = predefined::all(request)
        .into_iter()
        .partition(|variable| variable.key.starts_with("GITLAB_USER_"));
    let dotenv = dotenv.into_iter().map(|(key, value)| JobVariable {
        public: false,
        ..variables::public(key, value)
    });
    let template = &request.job.template;
    let mut all = predefined;
    all.extend(template.yaml_variables.iter().cloned());
    all.extend(user);
    all.extend(dotenv);
    all.extend(request.context.project_variables.iter().cloned());
    all.extend(request.context.variables.iter().cloned());
    let mut all = variables::resolve(all);
    if template.environment {
        predefined::add_environment_slug(&mut all);
    }
    all
}

/// The tokens that the job asks for; none before a runner asks.
fn id_tokens(
    request: &HandOut<'_>,
    variables: &[JobVariable],
    timeout: u64,
) -> Result<Vec<JobVariable>, Undeliverable> {
    let HandOut {
        project,
        context,
        job,
        ..
    } = request;
    let (Some(runner), false) = (request.runner, job.template.id_tokens.is_empty()) else {
        return Ok(Vec::new());
    };
    let now = request.now.as_second();
    let issuer = &request.server.issuer;
    let is_child = context.upstream.as_ref().is_some_and(|by| by.child);
    let file = context.known("CI_CONFIG_PATH").unwrap_or(CONFIG_PATH);
    // A child's files may be made by jobs; an absolute path is outside of the project.
    let is_own = !is_child && std::path::Path::new(file).is_relative();
    let claims = Claims::of(&Occasion {
        predefined: &predefined::all(request),
        project_path: &project.path,
        project_id: project.id,
        project_url: &issuer.project_url(context.known("CI_PROJECT_URL"), &project.path),
        config_path: is_own.then_some(file),
        ref_name: &context.ref_name,
        tag: context.tag,
        sha: &context.sha,
        protected: context.is_protected(),
        pipeline_id: request.pipeline_id,
        job_id: job.id,
        runner_id: runner.id,
        environment: job.template.declared.deployment(variables, now),
    });
    let sign = |(name, token): &(String, IdToken)| {
        let aud = secrets::audience(&token.aud, variables);
        let timeout = i64::try_from(timeout).unwrap_or(i64::MAX);
        let token = issuer.mint(claims.clone(), &aud, now, timeout);
        let token = token.map_err(|error| Undeliverable {
            reason: "unmet_prerequisites",
            message: format!("ID token {name}: {error}"),
        })?;
        Ok(variables::masked(name, token.expose()))
    };
    job.template.id_tokens.iter().map(sign).collect()
}

/// Tokens stand below what a person or the file sets, as on GitLab: a variable of the same name wins.
fn add_tokens(variables: &mut Vec<JobVariable>, mut tokens: Vec<JobVariable>) {
    tokens.retain(|token| !variables.iter().any(|known| known.key == token.key));
    variables.extend(tokens);
}

fn git_info(
    pipeline_id: i64,
    context: &PipelineContext,
    project: &Project,
    repo_url: Secret,
    variables: &[JobVariable],
) -> GitInfo {
    let depth = variables
        .iter()
        .rev()
        .find(|variable| variable.key == "GIT_DEPTH")
        .and_then(|variable| variable.value.expose().trim().parse().ok())
        .filter(|depth| *depth >= 0)
        .unwrap_or(DEFAULT_GIT_DEPTH);
    let name = &context.ref_name;
    let pipeline = format!("+refs/pipelines/{pipeline_id}:refs/pipelines/{pipeline_id}");
    let refspecs = match (depth, context.tag) {
        // A merge request's commit is reached by the pipeline's own ref.
        (1.., _) if is_merge_request(name) => vec![pipeline],
        (0, _) => vec![
            pipeline,
            "+refs/heads/*:refs/remotes/origin/*".to_owned(),
            "+refs/tags/*:refs/tags/*".to_owned(),
        ],
        (_, false) => vec![
            pipeline,
            format!("+refs/heads/{name}:refs/remotes/origin/{name}"),
        ],
        (_, true) => vec![pipeline, format!("+refs/tags/{name}:refs/tags/{name}")],
    };
    GitInfo {
        repo_url,
        repo_object_format: project.repository.object_format().to_owned(),
        ref_name: name.clone(),
        sha: context.sha.clone(),
        before_sha: context.before_sha.clone(),
        ref_type: if context.tag {
            RefType::Tag
        } else {
            RefType::Branch
        },
        refspecs,
        depth,
        protected: Some(context.is_protected()),
    }
}

/// The file of a project that says nothing else.
pub(crate) const CONFIG_PATH: &str = ".gitlab-ci.yml";

/// A merge request's ref is written in full: `refs/merge-requests/7/head`.
pub(crate) fn is_merge_request(ref_name: &str) -> bool {
    ref_name.starts_with("refs/merge-requests/")
}

/// `refs/heads/main`, `refs/tags/v1`, `refs/merge-requests/7/head`.
pub(crate) fn full_ref(ref_name: &str, tag: bool) -> String {
    match tag {
        true => format!("refs/tags/{ref_name}"),
        false if is_merge_request(ref_name) => ref_name.to_owned(),
        false => format!("refs/heads/{ref_name}"),
    }
}

impl PipelineContext {
    /// A variable that the pipeline was evaluated with.
    fn known(&self, name: &str) -> Option<&str> {
        let known = self.predefined.iter().find(|(key, _)| key == name);
        known.map(|(_, value)| value.as_str())
    }

    /// Whether the ref is protected, as the repository's facts say.
    pub(crate) fn is_protected(&self) -> bool {
        self.known("CI_COMMIT_REF_PROTECTED") == Some("true")
    }
}

fn dependency(source: &Source<'_>) -> Dependency {
    Dependency {
        id: source.job.id,
        token: source.job.token.clone(),
        name: source.job.plan.name.clone(),
        artifacts_file: source
            .archive
            .map_or_else(ArtifactsFile::default, |archive| ArtifactsFile {
                filename: archive.file_name.clone(),
                size: archive.size as i64,
            }),
    }
}
