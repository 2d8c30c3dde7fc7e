//! Pipelines for a commit of a repository, without a checkout of it, with the submodules that it has here.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use courser_coordinator::{
    DownstreamError, DownstreamRequest, DownstreamTarget, Evaluated, NewPipeline, PipelineSource,
    Project, Submodule,
};
use courser_pipeline::ChangedFiles;
use courser_protocol::{JobVariable, Secret};
use tokio::runtime;

use crate::repository::{Occasion, Repository, Submodules};
use crate::{downstream, problems};

const FILE: &str = ".gitlab-ci.yml";

/// A repository by its project number.
#[derive(Debug, Clone)]
pub(super) struct ServedProject {
    /// Number, path, and the repository that jobs fetch from.
    pub(super) project: Project,
    pub(super) repository: Repository,
    /// The user's `.git`, which work trees share.
    pub(super) common: PathBuf,
}

impl ServedProject {
    /// The files of a branch or else a tag, and whether it is a tag.
    fn at_ref(&self, name: &str) -> Option<(Repository, bool)> {
        // `main~1` is a commit, and no name of a ref.
        if name.contains(['~', '^', ':']) || name.contains("@{") {
            return None;
        }
        ["heads", "tags"].into_iter().find_map(|kind| {
            let revision = format!("refs/{kind}/{name}");
            let repository = self.repository.clone().at(&revision).ok()??;
            Some((repository, kind == "tags"))
        })
    }

    fn default_branch(&self) -> String {
        let event = self.repository.event(&Occasion::from_source("pipeline"));
        let branch = event.predefined.get("CI_DEFAULT_BRANCH");
        branch.cloned().unwrap_or_default()
    }

    /// Its pipeline for a bridge of a project.
    fn downstream(
        &self,
        branch: Option<&str>,
        request: DownstreamRequest,
    ) -> Result<Evaluated, DownstreamError> {
        let name = branch.map_or_else(|| self.default_branch(), str::to_owned);
        let (repository, tag) = self.at_ref(&name).ok_or_else(|| {
            let text = format!(
                "project `{}` has no branch or tag `{name}`",
                self.project.path
            );
            DownstreamError::creation(text)
        })?;
        let event = repository.event(&Occasion {
            ref_name: Some(name),
            tag,
            ..Occasion::from_source("pipeline")
        });
        downstream::of_project(request, self.project.id, (FILE, &repository), event)
    }
}

/// All repositories given on the command line.
pub(super) struct Repositories {
    projects: Vec<ServedProject>,
    /// Submodules so far, by project. A number once given stays: running jobs have it in their URLs.
    submodules: Mutex<HashMap<i64, Vec<Submodule>>>,
    /// Where the coordinator is.
    url: OnceLock<String>,
}

impl Repositories {
    pub(super) fn new(projects: Vec<ServedProject>) -> Self {
        Self {
            projects,
            submodules: Mutex::default(),
            url: OnceLock::new(),
        }
    }

    /// Tells the coordinator's URL, with a slash at its end: relative URLs of submodules begin there.
    pub(super) fn are_at(&self, url: &str) {
        drop(self.url.set(url.to_owned()));
    }

    fn project(&self, id: i64) -> Option<&ServedProject> {
        self.projects.iter().find(|served| served.project.id == id)
    }

    /// The project with the submodules of a commit that lie here, besides those of other commits.
    fn with_submodules(&self, served: &ServedProject, sha: &str) -> Option<Project> {
        let Project {
            id,
            path,
            repository,
        } = &served.project;
        // Two at once would write the same repositories.
        let mut known = self
            .submodules
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let finding = Submodules::find(&served.common, repository.git_dir(), sha, None);
        let found = match runtime::Handle::current().block_on(finding) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(project = path, %error, "submodules are not served");
                return None;
            }
        };
        for note in &found.notes {
            tracing::info!(project = path, "{note}");
        }
        let url = format!("{}{path}.git", self.url.get().map_or("", String::as_str));
        let all = known.entry(*id).or_default();
        for submodule in found.served(&url) {
            match all.iter_mut().find(|other| other.url == submodule.url) {
                Some(other) => *other = submodule,
                None => all.push(submodule),
            }
        }
        let repository = repository.clone().with_submodules(all.clone());
        Some(Project {
            repository,
            ..served.project.clone()
        })
    }
}

impl PipelineSource for Repositories {
    fn pipeline(
        &self,
        project_id: i64,
        ref_name: &str,
        variables: &[(String, String)],
    ) -> Result<Evaluated, String> {
        let project = self.project(project_id).ok_or("404 Project Not Found")?;
        let (repository, tag) = project.at_ref(ref_name).ok_or("Reference not found")?;
        let mut event = repository.event(&Occasion {
            ref_name: Some(ref_name.to_owned()),
            tag,
            ..Occasion::from_source("api")
        });
        let id = project_id.to_string();
        event.of_server.insert("CI_PROJECT_ID".to_owned(), id);
        event.pipeline_variables = variables.to_vec();
        let sha = event
            .predefined
            .get("CI_COMMIT_SHA")
            .cloned()
            .unwrap_or_default();
        let pipeline = courser_pipeline::evaluate(FILE, &repository, &event)
            .map_err(|found| problems::one_line(&found.errors))?;
        if !pipeline.workflow.created {
            return Err("Pipeline filtered out by workflow rules.".to_owned());
        }
        let before = event.predefined.get("CI_COMMIT_BEFORE_SHA").cloned();
        let pipeline = NewPipeline {
            beforehand: Default::default(),
            project_id,
            pipeline,
            ref_name: ref_name.to_owned(),
            tag,
            before_sha: before.unwrap_or_else(|| "0".repeat(40)),
            predefined: event.predefined,
            project_variables: Vec::new(),
            variables: variables
                .iter()
                .map(|(key, value)| JobVariable {
                    key: key.clone(),
                    value: Secret::new(value.as_str()),
                    ..JobVariable::default()
                })
                .collect(),
            sha,
        };
        Ok(Evaluated {
            project: self.with_submodules(project, &pipeline.sha),
            pipeline,
        })
    }

    fn downstream(&self, request: DownstreamRequest) -> Result<Evaluated, DownstreamError> {
        match &request.target {
            DownstreamTarget::Child { .. } => {
                let project = self.project(request.project_id).ok_or_else(|| {
                    DownstreamError::creation("its project was given with --repository no more")
                })?;
                let files = at_commit(project, &request.sha)?;
                downstream::child(request, &files, ChangedFiles::Unknown)
            }
            DownstreamTarget::Project { path, branch, .. } => {
                let named =
                    |served: &&ServedProject| served.project.path.eq_ignore_ascii_case(path);
                let project = self.projects.iter().find(named).ok_or_else(|| {
                    let text = format!("project `{path}` is none of those given with --repository");
                    DownstreamError::unknown_project(text)
                })?;
                let made = project.downstream(branch.clone().as_deref(), request)?;
                Ok(Evaluated {
                    project: self.with_submodules(project, &made.pipeline.sha),
                    ..made
                })
            }
        }
    }
}

/// The project's files at a commit.
fn at_commit(project: &ServedProject, sha: &str) -> Result<Repository, DownstreamError> {
    let found = project.repository.clone().at(sha);
    found
        .map_err(|error| DownstreamError::creation(error.to_string()))?
        .ok_or_else(|| DownstreamError::creation(format!("commit {sha} is gone")))
}
