//! Job inputs: `${{ job.inputs.NAME }}` in scripts, images, artifacts and caches (`runner-protocol.md` 3.4).
//!
//! What an expression may be is in [`moa`].

use courser_protocol::{Image, JobResponse, When};

use crate::job::AFTER_SCRIPT;
use crate::moa::{self, Scope};

/// Interpolates every field that may refer to inputs. Errors are texts for the job's log.
pub(crate) fn interpolate(payload: &mut JobResponse) -> Result<(), String> {
    if payload.inputs.is_empty() {
        return Ok(());
    }
    let scope = Scope::of_inputs(&payload.inputs);
    let one = |place: &str, text: &mut String| replace(&scope, place, text);
    let many = |place: &str, texts: &mut [String]| {
        texts
            .iter_mut()
            .try_for_each(|text| replace(&scope, place, text))
    };
    let when = |place: &str, when: &mut When| {
        if let When::Unknown(text) = when {
            replace(&scope, place, text)?;
            *when = When::from(std::mem::take(text));
        }
        Ok::<(), String>(())
    };
    for step in &mut payload.steps {
        if step.name == "script" || step.name == AFTER_SCRIPT {
            many(&step.name, &mut step.script)?;
        }
    }
    interpolate_image(&scope, "image", &mut payload.image)?;
    for service in &mut payload.services {
        interpolate_image(&scope, "services", service)?;
    }
    for entry in &mut payload.artifacts {
        one("artifacts name", &mut entry.name)?;
        many("artifacts paths", &mut entry.paths)?;
        many("artifacts exclude", &mut entry.exclude)?;
        one("artifacts expire_in", &mut entry.expire_in)?;
        when("artifacts when", &mut entry.when)?;
    }
    for entry in &mut payload.cache {
        one("cache key", &mut entry.key)?;
        one("cache policy", &mut entry.policy)?;
        when("cache when", &mut entry.when)?;
        many("cache paths", &mut entry.paths)?;
        many("cache fallback_keys", &mut entry.fallback_keys)?;
    }
    Ok(())
}

fn interpolate_image(scope: &Scope, place: &str, image: &mut Image) -> Result<(), String> {
    let options = &mut image.executor_opts;
    let docker = options.docker.iter_mut();
    let texts = std::iter::once(&mut image.name)
        .chain(&mut image.command)
        .chain(&mut image.entrypoint)
        .chain(&mut image.pull_policy)
        .chain(docker.flat_map(|docker| [&mut docker.platform, &mut docker.user.0]))
        .chain(options.kubernetes.iter_mut().map(|pod| &mut pod.user.0));
    for text in texts {
        replace(scope, place, text)?;
    }
    Ok(())
}

fn replace(scope: &Scope, place: &str, text: &mut String) -> Result<(), String> {
    *text = moa::interpolate(scope, text).map_err(|error| format!("{place}: {error}"))?;
    Ok(())
}
