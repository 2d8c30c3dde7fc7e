//! Jobs that must not run: what no version could run, and by name what this one does not build.

use courser_protocol::JobResponse;

use crate::helper_request::GitStrategy;
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

/// Settings that would change what happens and are not built yet.
pub(crate) fn check_settings(job: &Job) -> Result<(), Rejection> {
    if !job.has_repository() {
        return Ok(());
    }
    let strategy = &job.settings().git_submodule_strategy;
    match strategy.as_str() {
        "" => {}
        "normal" | "recursive" => {
            return Err(Rejection::configuration(format!(
                "GIT_SUBMODULE_STRATEGY: {strategy} is not built yet, only \"none\" works"
            )));
        }
        _ => return Err(Rejection::configuration("unknown GIT_SUBMODULE_STRATEGY")),
    }
    for (set, name) in [
        (
            job.features().git_urls_without_tokens,
            "FF_GIT_URLS_WITHOUT_TOKENS",
        ),
        (
            job.features().git_native_clone && job.settings().git_strategy == GitStrategy::Clone,
            "FF_USE_GIT_NATIVE_CLONE",
        ),
    ] {
        if set {
            return Err(Rejection::configuration(format!(
                "feature flag {name} is not built yet: switch it off"
            )));
        }
    }
    Ok(())
}

/// Parts of the payload that would change what happens and are not built yet.
fn refuse_unbuilt_payload(payload: &JobResponse) -> Result<(), Rejection> {
    if !payload.run.is_empty() {
        return Err(Rejection::configuration(
            "`run` (CI steps) is not built yet: use `script`",
        ));
    }
    if let Some(name) = payload.secrets.keys().next() {
        return Err(Rejection::configuration(format!(
            "`secrets` are not built yet (first one: {name:?})"
        )));
    }
    if !payload.suspend_options.runtime_environment_key.is_empty() {
        return Err(Rejection::configuration(
            "resuming a suspended environment is not built yet",
        ));
    }
    Ok(())
}
