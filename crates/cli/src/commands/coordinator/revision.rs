//! Pipelines for a commit of a repository, without a checkout of it.

use std::sync::Mutex;

use courser_coordinator::{
    Downstream, DownstreamError, DownstreamRequest, DownstreamTarget, NewPipeline, PipelineSource,
};
use courser_pipeline::ChangedFiles;
use courser_protocol::{JobVariable, Secret};

use crate::repository::{Occasion, Repository};
use crate::{downstream, problems};

const FILE: &str = ".gitlab-ci.yml";

/// A repository by its project number.
#[derive(Debug, Clone)]
pub(super) struct ServedProject {
    pub(super) id: i64,
    /// `group/project`.
    pub(super) path: String,
    pub(super) repository: Repository,
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
    ) -> Result<Downstream, DownstreamError> {
        let name = branch.map_or_else(|| self.default_branch(), str::to_owned);
        let (repository, tag) = self.at_ref(&name).ok_or_else(|| {
            let text = format!("project `{}` has no branch or tag `{name}`", self.path);
            DownstreamError::creation(text)
        })?;
        let event = repository.event(&Occasion {
            ref_name: Some(name),
            tag,
            ..Occasion::from_source("pipeline")
        });
        downstream::of_project(request, self.id, (FILE, &repository), event)
    }
}

/// All repositories given on the command line.
pub(super) struct Repositories {
    projects: Vec<ServedProject>,
    /// One evaluation at a time: it is quick, and an endpoint should not start many processes at once.
    turn: Mutex<()>,
}

impl Repositories {
    pub(super) fn new(projects: Vec<ServedProject>) -> Self {
        Self {
            projects,
            turn: Mutex::new(()),
        }
    }
}

impl PipelineSource for Repositories {
    fn pipeline(
        &self,
        project_id: i64,
        ref_name: &str,
        variables: &[(String, String)],
    ) -> Result<NewPipeline, String> {
        let _turn = self.turn.lock().map_err(|error| error.to_string())?;
        let project = self
            .projects
            .iter()
            .find(|project| project.id == project_id)
            .ok_or("404 Project Not Found")?;
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
        Ok(NewPipeline {
            beforehand: Default::default(),
            project_id,
            pipeline,
            ref_name: ref_name.to_owned(),
            tag,
            before_sha: before.unwrap_or_else(|| "0".repeat(40)),
            predefined: event.predefined,
            variables: variables
                .iter()
                .map(|(key, value)| JobVariable {
                    key: key.clone(),
                    value: Secret::new(value.as_str()),
                    ..JobVariable::default()
                })
                .collect(),
            sha,
        })
    }

    fn downstream(&self, request: DownstreamRequest) -> Result<Downstream, DownstreamError> {
        let _turn = self
            .turn
            .lock()
            .map_err(|error| DownstreamError::creation(error.to_string()))?;
        match &request.target {
            DownstreamTarget::Child { .. } => {
                let known = |project: &&ServedProject| project.id == request.project_id;
                let project = self.projects.iter().find(known).ok_or_else(|| {
                    DownstreamError::creation("its project was given with --repository no more")
                })?;
                let files = at_commit(project, &request.sha)?;
                downstream::child(request, &files, ChangedFiles::Unknown)
            }
            DownstreamTarget::Project { path, branch, .. } => {
                let named = |project: &&ServedProject| project.path.eq_ignore_ascii_case(path);
                let project = self.projects.iter().find(named).ok_or_else(|| {
                    let text = format!("project `{path}` is none of those given with --repository");
                    DownstreamError::unknown_project(text)
                })?;
                project.downstream(branch.clone().as_deref(), request)
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
