//! Jobs that must not run: what no version could run, and by name what this one does not build.

use courser_protocol::{FailureReason, JobResponse, Step};

use crate::helper_request::GitStrategy;
use crate::{Job, Rejection};

/// Faults of the payload itself.
pub(crate) fn check_payload(payload: &JobResponse) -> Result<(), Rejection> {
    refuse_unsupported_options(payload)?;
    refuse_unbuilt_payload(payload)?;
    refuse_odd_names(payload)
}

/// Settings that would change what happens and are not built yet.
pub(crate) fn check_settings(job: &Job) -> Result<(), Rejection> {
    // Inputs only matter where a script refers to them.
    let refers = |step: &Step| step.script.iter().any(|line| line.contains("${{"));
    let payload = job.payload();
    if job.features().job_inputs_interpolation
        && !payload.inputs.is_empty()
        && payload.steps.iter().any(refers)
    {
        return Err(Rejection::configuration(
            "interpolation of job `inputs` is not built yet",
        ));
    }
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

/// Options of image and services that no executor knows (`runner-protocol.md` 3.8).
fn refuse_unsupported_options(payload: &JobResponse) -> Result<(), Rejection> {
    let mut unsupported = Vec::new();
    for image in std::iter::once(&payload.image).chain(&payload.services) {
        let options = &image.executor_opts;
        unsupported.extend(options.unsupported.keys().cloned());
        if let Some(docker) = &options.docker {
            unsupported.extend(docker.unsupported.keys().map(|key| format!("docker.{key}")));
        }
        if let Some(kubernetes) = &options.kubernetes {
            unsupported.extend(
                kubernetes
                    .unsupported
                    .keys()
                    .map(|key| format!("kubernetes.{key}")),
            );
        }
    }
    if unsupported.is_empty() {
        return Ok(());
    }
    Err(Rejection {
        message: format!(
            "unsupported executor options: {}; supported are docker.platform, docker.user, kubernetes.user",
            unsupported.join(", ")
        ),
        reason: FailureReason::RunnerSystemFailure,
        exit_code: 3,
    })
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

/// A file variable's name is a file name.
fn refuse_odd_names(payload: &JobResponse) -> Result<(), Rejection> {
    let is_plain = |key: &str| {
        !key.is_empty()
            && key
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    match payload
        .variables
        .iter()
        .find(|variable| variable.file && !is_plain(&variable.key))
    {
        Some(variable) => Err(Rejection::configuration(format!(
            "file variable {:?}: its name may only have letters, digits and underscores",
            variable.key
        ))),
        None => Ok(()),
    }
}
