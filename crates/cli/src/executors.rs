//! The executors of this program, put together.

use std::path::Path;
use std::sync::Arc;

use courser_executor::Executors;
use courser_executor_docker::{DockerProvider, LocalRun};

use crate::environment::{ProcessEnvironment, home_of_user};

/// All that are built in. Relative paths of their configuration start at `directory`; `user` is the one that jobs'
/// shells run as, if another than this process's.
pub(crate) fn executors(
    environment: &ProcessEnvironment,
    directory: &Path,
    user: Option<&str>,
) -> Executors {
    local_executors(environment, directory, user, LocalRun::default())
}

/// The same for a local run, which wants more of containers.
pub(crate) fn local_executors(
    environment: &ProcessEnvironment,
    directory: &Path,
    user: Option<&str>,
    local: LocalRun,
) -> Executors {
    let home = match user {
        Some(user) => home_of_user(user),
        None => Some(environment.home.clone()),
    };
    // Without a path it says so when a helper container is needed.
    let program = std::env::current_exe().unwrap_or_default();
    let docker = DockerProvider::new(environment.legs_from(directory), &program, home, local);
    Executors::shell().with(Arc::new(docker))
}
