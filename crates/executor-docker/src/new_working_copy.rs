//! Predefined stages of a job whose working copy is new, goes with the job, and gets no sources: they come to a few lines
//! in the log. These are said here, and no container is started for them.

use courser_executor::{Output, Stream};
use courser_job::helper_request::GitStrategy;
use courser_job::{HelperRequest, Job, JobStatus, Stage, StageWork, messages};

use crate::container::ContainerDefinition;
use crate::volumes::Volumes;

/// Stages that a job has whatever it is. Others have work of their own.
const OF_EVERY_JOB: [Stage; 3] = [
    Stage::PrepareScript,
    Stage::GetSources,
    Stage::CleanupFileVariables,
];

/// The rest of what the helper may be needed for.
const OF_SOME_JOBS: [Stage; 6] = [
    Stage::RestoreCache,
    Stage::DownloadArtifacts,
    Stage::ArchiveCache,
    Stage::ArchiveCacheOnFailure,
    Stage::UploadArtifactsOnSuccess,
    Stage::UploadArtifactsOnFailure,
];

/// Says what the helper container would.
pub(crate) struct NewWorkingCopy {
    /// The helper container's name for itself.
    host: String,
}

impl NewWorkingCopy {
    /// Where nothing but lines is left to do for the helper, in any stage of the job.
    pub(crate) fn of(job: &Job, volumes: &Volumes, helper: &ContainerDefinition) -> Option<Self> {
        // Without a host name of its own it has another container's.
        let host = helper.body.hostname.clone()?;
        let this = Self { host };
        let says_all = |stage: &Stage| match job.stage(stage, JobStatus::Running)?.work {
            StageWork::Helper(requests) => {
                Some(requests.iter().all(|request| this.lines(request).is_some()))
            }
            StageWork::Shell(_) => Some(false),
        };
        let alone = volumes.is_new(job.project_dir())
            && OF_EVERY_JOB
                .iter()
                .all(|stage| says_all(stage) == Some(true))
            && !OF_SOME_JOBS.iter().any(|stage| job.has_work(stage));
        alone.then_some(this)
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
            HelperRequest::CleanUp(work)
                if work.strategy == GitStrategy::None && !work.job_cleanup =>
            {
                Some(Vec::new())
            }
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
