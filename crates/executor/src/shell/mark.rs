//! What every process of a job carries, so that the whole tree is found: by this process when the job
//! is stopped, and by the next one when this one died.
//!
//! Two marks are inherited through `fork`, `exec`, a new session and the death of a parent:
//!
//! - an environment variable. Its name, not its value, is unique, so that Courser inside a job of Courser
//!   adds its own beside the outer one. `env -i` takes it away;
//! - the soft limit `RLIMIT_LOCKS`, set to a number of the job's own. Linux has not enforced it since
//!   2.4.25, nobody sets it, and a cleared environment does not clear it.
//!
//! `PR_SET_CHILD_SUBREAPER` would gather orphans too, but it is process-wide: several jobs, and strangers'
//! children in `courser exec`, share this process.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The marks of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark(Uuid);

impl Mark {
    /// Marks that no other process has.
    pub(super) fn new() -> Self {
        Self(Uuid::new_v4())
    }

    /// 32 hexadecimal digits.
    pub(super) fn identity(&self) -> String {
        self.0.simple().to_string()
    }

    /// Name of the environment variable.
    pub(super) fn variable(&self) -> String {
        format!("COURSER_JOB_{}", self.identity())
    }

    /// The number in `RLIMIT_LOCKS`: 62 bits of the identity, far above any limit somebody means.
    pub(super) fn limit(&self) -> u64 {
        (self.0.as_u64_pair().1 >> 1) | 1 << 62
    }

    /// Gives a process that was just started the mark that is not in its environment. What it starts
    /// from now on inherits it. Where it cannot be had the environment alone has to do.
    pub(super) fn put_on(&self, process: Pid) {
        let limit = Rlimit {
            current: Some(self.limit()),
            maximum: getrlimit(Resource::Locks).maximum,
        };
        if let Err(error) = prlimit(Some(process), Resource::Locks, limit) {
            tracing::debug!("a job's processes are marked by their environment only: {error}");
        }
    }

    /// Whether this block of `NAME=value\0` holds the variable.
    pub(super) fn is_in_environment(&self, environment: &[u8]) -> bool {
        let name = self.variable();
        environment.split(|byte| *byte == 0).any(|variable| {
            variable
                .strip_prefix(name.as_bytes())
                .is_some_and(|rest| rest.starts_with(b"="))
        })
    }

    /// Whether this text of `/proc/<pid>/limits` holds the number.
    pub(super) fn is_in_limits(&self, limits: &str) -> bool {
        limits
            .lines()
            .find_map(|line| line.strip_prefix("Max file locks"))
            .and_then(|values| values.split_whitespace().next())
            .is_some_and(|soft| soft.parse() == Ok(self.limit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_by_its_whole_name_and_number() {
        let mark = Mark(Uuid::from_u128(7));
        let name = mark.variable();
        for (environment, expected) in [
            (format!("A=b\0{name}=\0"), true),
            (format!("{name}=1"), true),
            (format!("X{name}=\0{name}x=\0A={name}="), false),
            (String::new(), false),
        ] {
            assert_eq!(
                mark.is_in_environment(environment.as_bytes()),
                expected,
                "{environment}"
            );
        }
        let number = mark.limit();
        assert!(number > 1 << 62 && number < 1 << 63);
        for (limits, expected) in [
            (
                format!("Max file locks            {number}  unlimited  locks"),
                true,
            ),
            (
                "Max file locks            unlimited  unlimited  locks".to_owned(),
                false,
            ),
            (format!("Max msgqueue size  {number} {number} bytes"), false),
        ] {
            assert_eq!(mark.is_in_limits(&limits), expected, "{limits}");
        }
    }
}
