//! Any bytes as what a server answers: a job is read, made ready and composed, or refused; nothing of it panics or grows
//! beyond all bounds.

use std::time::Duration;

use courser_job::state::Plan;
use courser_job::{DirectoryLayout, Job, JobStatus, RunnerContext, Stage, StageWork};
use courser_protocol::{
    ContentRange, JobResponse, JobStatus as RemoteStatus, RegisterResponse, ResetTokenResponse,
};

/// What the work of one stage may come to, for inputs of a few KiB: each value may refer to others, once.
const LARGEST: usize = 64 << 20;

/// Runs one input.
pub(crate) fn check(bytes: &[u8]) {
    drop(RegisterResponse::from_json(bytes));
    drop(ResetTokenResponse::from_json(bytes));
    if let Ok(text) = std::str::from_utf8(bytes) {
        ContentRange::stored_size(Some(text));
        ContentRange::start_of(text);
        RemoteStatus::parse(text);
    }
    let payload = match JobResponse::from_json(bytes) {
        Ok(payload) => payload,
        Err(error) => {
            assert!(error.to_string().len() < 4096, "an error that can be read");
            return;
        }
    };
    let Ok(job) = Job::accept(payload, context()) else {
        return;
    };
    drop(Plan::of(&job));
    let fixed = [
        Stage::PrepareScript,
        Stage::GetSources,
        Stage::ClearWorktree,
        Stage::RestoreCache,
        Stage::DownloadArtifacts,
        Stage::AfterScript,
        Stage::ArchiveCache,
        Stage::ArchiveCacheOnFailure,
        Stage::UploadArtifactsOnSuccess,
        Stage::UploadArtifactsOnFailure,
        Stage::CleanupFileVariables,
    ];
    for stage in job.steps().iter().chain(&fixed) {
        let Some(script) = job.stage(stage, JobStatus::Running) else {
            continue;
        };
        match script.work {
            StageWork::Shell(script) => {
                assert!(script.len() < LARGEST);
                assert!(!script.contains('\0'), "a shell ends at a zero byte");
            }
            StageWork::Helper(requests) => assert!(!requests.is_empty()),
        }
    }
}

fn context() -> RunnerContext {
    RunnerContext {
        executor: "shell".to_owned(),
        shell: "bash".to_owned(),
        url: "https://gitlab.example".to_owned(),
        directories: DirectoryLayout {
            builds: "/builds".to_owned(),
            cache: "/cache".to_owned(),
            shared_builds: true,
        },
        custom_build_dir_enabled: true,
        artifact_upload_timeout: Duration::from_secs(3600),
        artifact_response_header_timeout: Duration::from_secs(600),
        helper_command: "/usr/bin/courser".to_owned(),
        ..RunnerContext::default()
    }
}
