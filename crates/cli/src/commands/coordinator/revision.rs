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
    pub(super) repository: Repository,
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
        let found = ["heads", "tags"].into_iter().find_map(|kind| {
            let revision = format!("refs/{kind}/{ref_name}");
            let repository = project.repository.clone().at(&revision).ok()??;
            Some((repository, kind == "tags"))
        });
        let (repository, tag) = found.ok_or("Reference not found")?;
        let mut event = repository.event(&Occasion {
            ref_name: Some(ref_name.to_owned()),
            tag,
            ..Occasion::from_source("api")
        });
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
            DownstreamTarget::Project { path, .. } => Err(DownstreamError::unknown_project(
                format!("project `{path}` is none of those given with --repository"),
            )),
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
