//! What the engine is asked for to make a job's containers (`executor-docker.md` 5 and 6).

pub(crate) mod environment;
mod host;
mod security;
pub(crate) mod shell;
mod user;

use bollard::models::ContainerCreateBody;

pub(crate) use host::{BUILD_AND_HELPER, HostSettings, Role, SERVICE};
pub(crate) use security::security_options;
pub(crate) use shell::{start_command, with_best_shell};
pub(crate) use user::build_user;

/// A container to be made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ContainerDefinition {
    /// Its name.
    pub(crate) name: String,
    /// Only where the job asks for one.
    pub(crate) platform: Option<String>,
    /// What the log shows when it is made.
    pub(crate) lines: Vec<String>,
    /// All the rest.
    pub(crate) body: ContainerCreateBody,
}

/// A list that is left out where it is empty.
pub(crate) fn filled<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}
