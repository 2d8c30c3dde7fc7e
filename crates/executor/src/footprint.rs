//! What a job leaves behind when its runner dies: named by a record made while it ran, taken away by another process.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Names what of one job's [environment](crate::Environment) outlives this process. Holds no secret; to be kept (as
/// JSON, say) from before the job's first stage until it is reported, and handed to
/// [`Executors::sweep`](crate::Executors::sweep) by the process that finds the record of a dead one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footprint {
    /// Value of `executor` in `config.toml`: whoever has that name can read the record.
    executor: String,
    left: Value,
}

impl Footprint {
    /// A record of that executor's. One that is no plain data names nothing.
    pub fn new(executor: &str, record: &impl Serialize) -> Self {
        Self {
            executor: executor.to_owned(),
            left: serde_json::to_value(record).unwrap_or_default(),
        }
    }

    /// Who made it.
    pub fn executor(&self) -> &str {
        &self.executor
    }

    /// What it made; an error where another version made something else.
    pub fn record<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.left)
    }
}

/// What was found of a dead runner's job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Processes that were killed.
    pub killed: Vec<Orphan>,
    /// Processes that live nevertheless, ten seconds after they were killed (in an unending system call).
    pub left: Vec<Orphan>,
    /// Files and directories, containers, networks and volumes that were removed.
    pub removed: Vec<String>,
    /// What could not be removed, and why.
    pub not_removed: Vec<(String, String)>,
    /// Where it all is could not be reached: to be tried again.
    pub again: bool,
}

impl Swept {
    /// Whether nothing is left.
    pub fn is_complete(&self) -> bool {
        self.left.is_empty() && self.not_removed.is_empty() && !self.again
    }
}

/// A process of a job whose runner died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// Its number.
    pub pid: u32,
    /// Name of its program, cut by the kernel at 15 bytes.
    pub name: String,
}
