//! Jobs that must not run: what no version could run, and by name what this one does not build.

use courser_protocol::JobResponse;

use crate::settings::SubmoduleStrategy;
use crate::{Job, Rejection};

/// Faults of the payload itself.
pub(crate) fn check_payload(payload: &JobResponse) -> Result<(), Rejection> {
    payload
        .check_executor_options()
        .map_err(|options| Rejection::unsupported(options.to_string()))?;
    payload
        .check_run()
        .map_err(|conflict| Rejection::unsupported(conflict.to_string()))?;
    refuse_unbuilt_payload(payload)
}

/// Settings with which no sources can be had.
pub(crate) fn check_settings(job: &Job) -> Result<(), Rejection> {
    let settings = job.settings();
    if !job.has_repository() {
        return Ok(());
    }
    match &settings.git_submodule_strategy {
        SubmoduleStrategy::None => Ok(()),
        SubmoduleStrategy::Unknown(raw) => Err(Rejection::configuration(format!(
            "unknown GIT_SUBMODULE_STRATEGY: expected either 'normal', 'recursive' or 'none' got {raw:?}"
        ))),
        SubmoduleStrategy::Normal | SubmoduleStrategy::Recursive => {
            let paths = &settings.git_submodule_paths;
            if paths.iter().any(|path| path == ":(exclude)") {
                return Err(Rejection::configuration(format!(
                    "GIT_SUBMODULE_PATHS: invalid submodule pathspec [{}]",
                    paths.join(" ")
                )));
            }
            Ok(())
        }
    }
}

/// Parts of the payload that would change what happens and are not built yet.
fn refuse_unbuilt_payload(payload: &JobResponse) -> Result<(), Rejection> {
    if !payload.run.is_empty() {
        return Err(Rejection::configuration(
            "`run` (CI steps) is not built yet: use `script`",
        ));
    }
    if !payload.suspend_options.runtime_environment_key.is_empty() {
        return Err(Rejection::configuration(
            "resuming a suspended environment is not built yet",
        ));
    }
    Ok(())
}
