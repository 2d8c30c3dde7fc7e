//! Where there is no `/proc`, a job's processes cannot be told from others: they are stopped by their
//! leader (its process group on Unix), and those of a dead runner's job are not found.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Makes the names of jobs.
#[derive(Debug, Clone)]
pub(super) struct Marks;

impl Marks {
    pub(super) fn of_this_process() -> Self {
        Self
    }

    /// Those of a new job.
    pub(super) fn new_job(&self) -> JobProcesses {
        JobProcesses {
            mark: Uuid::new_v4(),
        }
    }
}

/// The name of a job's processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct JobProcesses {
    mark: Uuid,
}

impl JobProcesses {
    /// Part of a job's.
    pub(super) fn part() -> Self {
        Marks.new_job()
    }

    /// The variable that a process of the job is started with.
    pub(super) fn variable(&self) -> String {
        format!("COURSER_JOB_{}", self.mark.simple())
    }

    pub(super) fn adopt(&self, _leader: u32) {}

    /// None is found.
    pub(super) fn find(&self) -> Vec<Survivor> {
        Vec::new()
    }

    pub(super) fn terminate(&self, _asked: u32) {}

    pub(super) fn hold(&self) {}

    pub(super) fn kill(&self, _patience: Duration) -> Killed {
        Killed::default()
    }

    pub(super) fn forget(&self) {}
}

/// None.
#[derive(Debug, Default)]
pub(super) struct Killed {
    pub(super) killed: Vec<Survivor>,
    pub(super) left: Vec<Survivor>,
}

/// A living process of the job.
#[derive(Debug)]
pub(super) struct Survivor {
    pub(super) pid: i32,
    pub(super) name: String,
}
