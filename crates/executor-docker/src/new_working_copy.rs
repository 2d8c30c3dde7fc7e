//! Predefined stages of a job whose working copy is new and goes with the job: what would be tidied there is not there yet,
//! or goes anyway. Such requests come to a few lines in the log, which are said here, without the helper container.

use courser_executor::{Output, Stream};
use courser_job::helper_request::GitStrategy;
use courser_job::{HelperRequest, Job, JobStatus, Stage, StageWork, messages};

use crate::container::ContainerDefinition;
use crate::volumes::Volumes;

/// Predefined stages that a job has whatever it is.
const OF_EVERY_JOB: [Stage; 3] = [
    Stage::PrepareScript,
    Stage::GetSources,
    Stage::CleanupFileVariables,
];

/// Those that some jobs have, before their scripts and after.
const BEFORE: [Stage; 2] = [Stage::RestoreCache, Stage::DownloadArtifacts];
const AFTER: [Stage; 4] = [
    Stage::ArchiveCache,
    Stage::ArchiveCacheOnFailure,
    Stage::UploadArtifactsOnSuccess,
    Stage::UploadArtifactsOnFailure,
];

/// Says what the helper container would.
pub(crate) struct NewWorkingCopy {
    /// The helper container's name for itself.
    host: String,
    /// Nothing is left for the helper once scripts run.
    pub(crate) helper_ends_before_scripts: bool,
    /// Nothing is left for it at all.
    pub(crate) without_helper: bool,
}

impl NewWorkingCopy {
    /// `None` where the working copy may hold something, or outlives the job.
    pub(crate) fn of(job: &Job, volumes: &Volumes, helper: &ContainerDefinition) -> Option<Self> {
        let mut this = Self {
            // Without a host name of its own it has another container's.
            host: helper.body.hostname.clone()?,
            helper_ends_before_scripts: false,
            without_helper: false,
        };
        if !volumes.is_new(job.project_dir()) {
            return None;
        }
        let has_any = |stages: &[Stage]| stages.iter().any(|stage| job.has_work(stage));
        this.helper_ends_before_scripts =
            !has_any(&AFTER) && this.says_all_of(job, &Stage::CleanupFileVariables);
        let says_all = OF_EVERY_JOB
            .iter()
            .all(|stage| this.says_all_of(job, stage));
        this.without_helper = says_all && !has_any(&BEFORE) && !has_any(&AFTER);
        Some(this)
    }

    fn says_all_of(&self, job: &Job, stage: &Stage) -> bool {
        let work = job
            .stage(stage, JobStatus::Running)
            .map(|script| script.work);
        match work {
            Some(StageWork::Helper(requests)) => {
                requests.iter().all(|request| self.lines(request).is_some())
            }
            Some(StageWork::Shell(_)) => false,
            None => true,
        }
    }

    /// What becomes of a request here; `None`: there is work in it.
    fn lines(&self, request: &HelperRequest) -> Option<Vec<String>> {
        match request {
            HelperRequest::Prepare(prepare) if prepare.tools.is_none() => {
                Some(vec![messages::running_on_host(&self.host, &prepare.via)])
            }
            HelperRequest::GetSources(sources)
                if sources.strategy == GitStrategy::None
                    && sources.credential_helper_for.is_none() =>
            {
                Some(vec![
                    messages::skipping_repository_setup(),
                    messages::skipping_checkout(),
                    messages::skipping_submodules(),
                ])
            }
            // What Git may have stored is in the helper container, and goes with it.
            HelperRequest::CleanUp(work) if !work.job_cleanup => Some(Vec::new()),
            _ => None,
        }
    }

    /// Says what these requests come to; whether that was all of them.
    pub(crate) fn say(&self, requests: &[HelperRequest], output: &mut dyn Output) -> bool {
        let lines: Option<Vec<_>> = requests.iter().map(|request| self.lines(request)).collect();
        for line in lines.iter().flatten().flatten() {
            output.write(Stream::Stdout, format!("{line}\n").as_bytes());
        }
        lines.is_some()
    }
}
