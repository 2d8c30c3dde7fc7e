//! Keywords one by one (`gitlab-ci-yaml.md` 16): shape checks, and the form they have in a job.

mod delivery;
mod execution;
mod storage;

pub(crate) use delivery::{environment, job_inputs, pages, release, trigger, trigger_jobs};
pub(crate) use execution::{exit_codes, hooks, image, retry, run, services};
pub(crate) use storage::{artifacts, caches};
