//! The work of each stage, put together from the job's values (`runner-build-lifecycle.md` 1.6, 2.2, 3.4).

use std::sync::Arc;

use crate::cache::{self, CacheWork};
use crate::helper_request::{
    CacheRequest, CleanUp, DownloadArtifacts, HelperRequest, Prepare, Provenance, RenewTrust,
    UploadArtifacts,
};
use crate::job::AFTER_SCRIPT;
use crate::job_variables::variable_list;
use crate::script::Body;
use crate::tool_trust::{self, ToolFiles, ToolTrust};
use crate::{Job, JobStatus, Stage, StageScript, StageWork, Variables, messages, sources};

/// File variables that follow the runner's own trust.
const TRUST_FILES: [&str; 3] = [
    "CI_SERVER_TLS_CA_FILE",
    "CI_SERVER_TLS_CERT_FILE",
    "CI_SERVER_TLS_KEY_FILE",
];

/// Tries of a download after the first one (4.7).
const DOWNLOAD_RETRIES: u32 = 2;

impl Job {
    /// What `stage` runs, or `None` when it has nothing to do (then it prints nothing either).
    ///
    /// `status` only decides `CI_JOB_STATUS`. [`Stage::ResolveSecrets`] and
    /// [`Stage::PrepareExecutor`] run in the runner and have no script.
    pub fn stage(&self, stage: &Stage, status: JobStatus) -> Option<StageScript> {
        if !self.has_work(stage) {
            return None;
        }
        let work = match stage {
            Stage::ResolveSecrets | Stage::PrepareExecutor => return None,
            Stage::PrepareScript => StageWork::Helper(vec![HelperRequest::Prepare(Prepare {
                temporary_dir: self.directories().temporary.clone(),
                via: self.context().hostname.clone(),
                tools: self.told_tools(),
                git_server: sources::git_server(self),
            })]),
            Stage::GetSources => self.get_sources(status),
            Stage::ClearWorktree => {
                let mut body = Body::new(&self.style);
                let request = HelperRequest::ClearWorktree {
                    project_dir: self.directories().project.clone(),
                };
                body.helper(&self.context().helper_command, &request);
                StageWork::Shell(body.into_script())
            }
            Stage::RestoreCache => {
                self.caches(cache::restore(self), HelperRequest::RestoreCache, status)
            }
            Stage::ArchiveCache => self.caches(
                cache::archive(self, false),
                HelperRequest::ArchiveCache,
                status,
            ),
            Stage::ArchiveCacheOnFailure => self.caches(
                cache::archive(self, true),
                HelperRequest::ArchiveCache,
                status,
            ),
            Stage::DownloadArtifacts => self.requests(self.downloads(), status),
            Stage::UploadArtifactsOnSuccess => self.requests(self.uploads(false), status),
            Stage::UploadArtifactsOnFailure => self.requests(self.uploads(true), status),
            Stage::Step(name) => self.step(name, status),
            Stage::AfterScript => self.after_script(status),
            Stage::CleanupFileVariables => {
                StageWork::Helper(vec![HelperRequest::CleanUp(self.clean_up())])
            }
        };
        Some(StageScript {
            stage: stage.clone(),
            work,
        })
    }

    /// What gives the files of trust, where the job has some, the content that this job says.
    pub fn renew_trust(&self) -> HelperRequest {
        let of_trust = |name: &&str| {
            let of_name = self.variables().iter().rfind(|one| one.key == **name);
            of_name.filter(|variable| variable.file)
        };
        let files = TRUST_FILES.iter().filter_map(of_trust);
        HelperRequest::RenewTrust(RenewTrust {
            temporary_dir: self.directories().temporary.clone(),
            files: files
                .map(|variable| (variable.key.clone(), variable.value.clone()))
                .collect(),
            tools: self.told_tools(),
            git_server: sources::git_server(self),
        })
    }

    /// Whether [`Self::stage`] gives work; the status has no influence on that.
    pub fn has_work(&self, stage: &Stage) -> bool {
        match stage {
            Stage::ResolveSecrets | Stage::PrepareExecutor => false,
            Stage::PrepareScript
            | Stage::GetSources
            | Stage::ClearWorktree
            | Stage::CleanupFileVariables => true,
            Stage::RestoreCache => !cache::restore(self).is_empty(),
            Stage::ArchiveCache => !cache::archive(self, false).is_empty(),
            Stage::ArchiveCacheOnFailure => !cache::archive(self, true).is_empty(),
            Stage::DownloadArtifacts => !self.downloads().is_empty(),
            Stage::UploadArtifactsOnSuccess => !self.uploads(false).is_empty(),
            Stage::UploadArtifactsOnFailure => !self.uploads(true).is_empty(),
            Stage::Step(name) => !self.lines(name).is_empty(),
            Stage::AfterScript => !self.lines(AFTER_SCRIPT).is_empty(),
        }
    }

    /// What the job's own tools are told by variables and files.
    fn told_tools(&self) -> Option<Arc<ToolTrust>> {
        let tools = self.context().tls.tools.clone();
        tools.filter(|_| !self.context().tools_trust_by_executor)
    }

    /// A body that begins with the exports.
    fn body(&self, status: JobStatus) -> Body<'_> {
        let mut body = Body::new(&self.style);
        let temporary = &self.directories().temporary;
        if status == JobStatus::Running {
            body.export_variables(self.variables(), temporary);
        } else {
            let list = variable_list(
                self.payload(),
                self.context(),
                self.features(),
                self.directories(),
                status,
                self.secrets().unwrap_or_default(),
            );
            body.export_variables(&Variables::expand_all(list, temporary), temporary);
        }
        if self.features().git_urls_without_tokens {
            body.export(
                "GIT_CONFIG_GLOBAL",
                &format!("{temporary}/{GLOBAL_GIT_CONFIG}"),
            );
        }
        if self.told_tools().is_some() {
            body.export_where_unset(&tool_trust::presets(&ToolFiles::below(temporary)));
        }
        body
    }

    /// As [`Self::body`], inside the project directory.
    fn body_in_project(&self, status: JobStatus) -> Body<'_> {
        let mut body = self.body(status);
        body.change_directory(&self.directories().project);
        body
    }

    fn get_sources(&self, status: JobStatus) -> StageWork {
        let request = HelperRequest::GetSources(Box::new(sources::request(self)));
        let global =
            self.features()
                .git_urls_without_tokens
                .then(|| HelperRequest::GlobalGitConfig {
                    temporary_dir: self.directories().temporary.clone(),
                });
        if !self.has_repository() {
            return StageWork::Helper(global.into_iter().chain([request]).collect());
        }
        let mut body = self.body(status);
        body.export("GIT_TERMINAL_PROMPT", "0");
        body.export("GCM_INTERACTIVE", "Never");
        if let Some(global) = global {
            body.helper(&self.context().helper_command, &global);
        }
        let configured = &self.context().pre_get_sources_script;
        body.commands(
            "pre_clone_script",
            hook(configured).chain(self.job_hook("pre_get_sources_script")),
        );
        if !self.settings().git_lfs_skip_smudge {
            body.export("GIT_LFS_SKIP_SMUDGE", "1");
        }
        let external = format!("{}/{EXTERNAL_GIT_CONFIG}", self.directories().temporary);
        body.export("GLR_EXT_GIT_CONFIG_PATH", &external);
        body.helper(&self.context().helper_command, &request);
        let configured = &self.context().post_get_sources_script;
        let mut after = self
            .job_hook("post_get_sources_script")
            .chain(hook(configured))
            .peekable();
        if after.peek().is_some() {
            body.change_directory(&self.directories().project);
            body.commands("post_clone_script", after);
        }
        StageWork::Shell(body.into_script())
    }

    fn job_hook<'a>(&'a self, name: &'static str) -> impl Iterator<Item = &'a str> {
        let hooks = self
            .payload()
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
    ) -> StageWork {
        let mut body = self.body_in_project(status);
        for piece in work {
            match piece {
                CacheWork::Say(line) => body.say(&line),
                CacheWork::Request(caches) => {
                    body.helper(&self.context().helper_command, &request(caches));
                }
            }
        }
        StageWork::Shell(body.into_script())
    }

    fn requests(&self, requests: Vec<HelperRequest>, status: JobStatus) -> StageWork {
        let mut body = self.body_in_project(status);
        for request in &requests {
            body.helper(&self.context().helper_command, request);
        }
        StageWork::Shell(body.into_script())
    }

    pub(crate) fn downloads(&self) -> Vec<HelperRequest> {
        let (tls_ca_file, tls_client_pair) = sources::tls_files(self);
        let dependencies = self.payload().dependencies.iter();
        dependencies
            .filter(|dependency| !dependency.artifacts_file.is_absent())
            .map(|dependency| {
                HelperRequest::DownloadArtifacts(DownloadArtifacts {
                    project_dir: self.directories().project.clone(),
                    url: self.context().url.clone(),
                    job_id: dependency.id,
                    job_name: dependency.name.clone(),
                    token: dependency.token.clone(),
                    direct_download: self.features().direct_download,
                    retries: DOWNLOAD_RETRIES,
                    tls_ca_file: tls_ca_file.clone(),
                    tls_client_pair: tls_client_pair.clone(),
                })
            })
            .collect()
    }

    pub(crate) fn uploads(&self, after_failure: bool) -> Vec<HelperRequest> {
        if self.context().url.is_empty() {
            return Vec::new();
        }
        let (tls_ca_file, tls_client_pair) = sources::tls_files(self);
        let entries = self.payload().artifacts.iter();
        entries
            .filter(|entry| cache::applies(&entry.when, after_failure))
            .filter(|entry| entry.untracked || !entry.paths.is_empty() || !entry.exclude.is_empty())
            .map(|entry| {
                HelperRequest::UploadArtifacts(UploadArtifacts {
                    project_dir: self.directories().project.clone(),
                    url: self.context().url.clone(),
                    job_id: self.payload().id,
                    token: self.payload().token.clone(),
                    name: entry.name.clone(),
                    paths: entry.paths.clone(),
                    exclude: entry.exclude.clone(),
                    untracked: entry.untracked,
                    expire_in: entry.expire_in.clone(),
                    format: entry.artifact_format.clone(),
                    artifact_type: entry.artifact_type.clone(),
                    timeout_seconds: self.context().artifact_upload_timeout.as_secs(),
                    response_header_timeout_seconds: self
                        .context()
                        .artifact_response_header_timeout
                        .as_secs(),
                    provenance: self.provenance(&entry.artifact_format).map(Box::new),
                    tls_ca_file: tls_ca_file.clone(),
                    tls_client_pair: tls_client_pair.clone(),
                })
            })
            .collect()
    }

    /// Facts for a provenance statement, which only an entry gets whose format says `zip` (4.6).
    fn provenance(&self, format: &str) -> Option<Provenance> {
        if !self.settings().generate_artifacts_metadata || format != "zip" {
            return None;
        }
        let (context, payload) = (self.context(), self.payload());
        let version = self.variables().text("SLSA_PROVENANCE_SCHEMA_VERSION");
        Some(Provenance {
            runner_id: self.variables().text("CI_RUNNER_ID").into_owned(),
            repo_url: sources::repository_page(payload.git_info.repo_url.expose()),
            repo_digest: payload.git_info.sha.clone(),
            job_name: payload.job_info.name.clone(),
            executor_name: context.executor.clone(),
            runner_name: context.name.clone(),
            started_at: String::new(),
            ended_at: String::new(),
            schema_version: match version.as_ref() {
                "" => "unknown".to_owned(),
                version => version.to_owned(),
            },
            parameters: payload
                .variables
                .iter()
                .map(|variable| variable.key.clone())
                .collect(),
        })
    }

    fn step(&self, name: &str, status: JobStatus) -> StageWork {
        let script = self.lines(name);
        let mut body = self.body_in_project(status);
        body.commands("pre_build_script", hook(&self.context().pre_build_script));
        if name == "release" {
            let lines: Vec<String> = script
                .iter()
                .map(|line| self.variables().expand(line))
                .collect();
            body.commands("script_step", lines.iter().map(String::as_str));
        } else {
            body.commands("script_step", script.iter().map(String::as_str));
        }
        body.commands("post_build_script", hook(&self.context().post_build_script));
        StageWork::Shell(body.into_script())
    }

    fn after_script(&self, status: JobStatus) -> StageWork {
        let mut body = self.body_in_project(status);
        body.say(&messages::running_after_script());
        body.commands(
            "after_script_step",
            self.lines(AFTER_SCRIPT).iter().map(String::as_str),
        );
        StageWork::Shell(body.into_script())
    }

    /// Script of the step of that lower-cased name; empty when there is none.
    fn lines(&self, name: &str) -> &[String] {
        let mut steps = self.payload().steps.iter();
        let step = steps.find(|step| step.name.to_lowercase() == name);
        step.map_or(&[], |step| &step.script)
    }

    fn clean_up(&self) -> CleanUp {
        CleanUp {
            strategy: self.settings().git_strategy,
            project_dir: self.directories().project.clone(),
            temporary_dir: self.directories().temporary.clone(),
            file_variables: self.variables().file_names(),
            job_cleanup: self.features().job_cleanup,
            clean_flags: self.settings().git_clean_flags.clone(),
            old_config: self.old_config(),
            submodules: sources::submodules(self),
            credential_reject_url: sources::Remote::of(self).credential_reject_url,
        }
    }
}

/// Git configuration outside the repository that holds the credentials.
const EXTERNAL_GIT_CONFIG: &str = ".gitlab-runner.ext.conf";

/// Git's global configuration in stages of a job whose URLs hold no token.
const GLOBAL_GIT_CONFIG: &str = ".glr.gconf";

/// A configured hook as script elements: one, or none.
fn hook(script: &str) -> impl Iterator<Item = &str> {
    Some(script)
        .filter(|script| !script.trim().is_empty())
        .into_iter()
}
