//! Whether an Engine trusts a registry, asked without pulling anything (`courser trust check`).

use std::path::PathBuf;

use courser_protocol::FailureReason;
use courser_trust::Remedy;

use super::failure::{Place, of_certificate, reason};
use super::reference::{DOCKER_HUB, Reference};
use crate::engine::{Engine, EngineError};

/// The Engine does not get through to a registry.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct RegistryRefused {
    /// The Engine's words.
    pub message: String,
    /// What to do about it, where.
    pub remedy: Option<Remedy>,
    /// The CA file below the Engine's `/etc/docker` that would make it trust the registry, if that is what is missing.
    pub missing: Option<PathBuf>,
}

/// Host and port of the registry of an image; nothing for what is no name, such as one with variables in it.
pub fn registry_of(image: &str) -> Option<String> {
    let reference = Reference::parse(image).ok()?;
    Some(reference.registry().to_owned())
}

/// Has the Engine ask a registry for an image, without a login. What the registry answers, also a refusal, means that it
/// is trusted.
///
/// # Errors
///
/// The Engine refuses the registry's certificate, or does not reach it.
pub async fn ask_registry(engine: &Engine, image: &str) -> Result<String, RegistryRefused> {
    let refused = |message: &str| RegistryRefused {
        message: message.to_owned(),
        remedy: None,
        missing: None,
    };
    let reference = Reference::parse(image).map_err(refused)?;
    let asking = engine.api().inspect_registry_image(image, None);
    let message = match asking.await {
        Ok(_) => return Ok("the image is there".to_owned()),
        Err(error) => EngineError::from(error).to_string(),
    };
    if message.contains("x509:") {
        let place = Place::of(engine.host(), engine.info().await.ok());
        let remedy = of_certificate(&message, reference.registry(), &place);
        let registry = reference.registry();
        let is_missing = message.contains("unknown authority") && registry != DOCKER_HUB;
        return Err(RegistryRefused {
            remedy: Some(remedy),
            missing: is_missing.then(|| ["certs.d", registry, "ca.crt"].iter().collect()),
            message,
        });
    }
    match reason(&message) {
        FailureReason::RunnerExternalDependencyFailure => Err(refused(&message)),
        _ => Ok(message),
    }
}
