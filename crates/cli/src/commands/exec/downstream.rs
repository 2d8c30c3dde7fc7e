//! Child pipelines of a local run: evaluated on the same files, for the same event.

use std::sync::OnceLock;

use courser_coordinator::{
    Downstream, DownstreamError, DownstreamRequest, DownstreamTarget, NewPipeline, PipelineSource,
};
use courser_pipeline::{ChangedFiles, Event};

use super::project::Target;
use crate::downstream;
use crate::event_options::EventOptions;
use crate::includes::Includes;

/// Makes the pipelines that bridges ask for.
pub(super) struct LocalPipelines {
    target: Target,
    options: EventOptions,
    includes: Includes,
    /// What the first pipeline compares with, once it is known.
    changed_files: OnceLock<ChangedFiles>,
}

impl LocalPipelines {
    pub(super) fn new(target: Target, options: EventOptions, includes: Includes) -> Self {
        Self {
            target,
            options,
            includes,
            changed_files: OnceLock::new(),
        }
    }

    /// Tells the event of the first pipeline: `rules:changes` of children compares as it does.
    pub(super) fn is_for(&self, event: &Event) {
        drop(self.changed_files.set(event.changed_files.clone()));
    }
}

impl PipelineSource for LocalPipelines {
    fn pipeline(
        &self,
        _project_id: i64,
        _ref_name: &str,
        _variables: &[(String, String)],
    ) -> Result<NewPipeline, String> {
        Err("courser exec runs the pipeline that it was started for".to_owned())
    }

    fn downstream(&self, request: DownstreamRequest) -> Result<Downstream, DownstreamError> {
        if let DownstreamTarget::Project { path, .. } = &request.target {
            return Err(DownstreamError::unknown_project(format!(
                "no checkout of project `{path}` is known here"
            )));
        }
        let refused = |error: String| DownstreamError::creation(error);
        let opened = self.target.project.open(self.target.with_git);
        let mut files = opened.map_err(|error| refused(error.to_string()))?;
        let placed = self.options.place(files.repository);
        (files.repository, ..) = placed.map_err(|failure| refused(failure.message().to_owned()))?;
        let files = files.including(&self.includes);
        let changed_files = self.changed_files.get().cloned();
        downstream::child(request, &files, changed_files.unwrap_or_default())
    }
}
