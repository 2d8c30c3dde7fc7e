//! How an image got there (`executor-docker.md` 9 and 10).

use super::{info, plain, warning};

/// At every use of an image; `policies` as Go prints a list.
pub fn effective_pull_policy(policies: &str, image: &str) -> String {
    plain(&format!(
        "Using effective pull policy of {policies} for container {image}"
    ))
}

/// From the second policy on.
pub fn trying_pull_policy(attempt: usize, policy: &str) -> String {
    info(&format!(
        "Attempt #{attempt}: Trying {policy:?} pull policy"
    ))
}

/// The image was there.
pub fn using_locally_found_image(policy: &str) -> String {
    plain(&format!(
        "Using locally found image version due to {policy:?} pull policy"
    ))
}

/// Before a pull.
pub fn pulling_docker_image(image: &str, platform: Option<&str>) -> String {
    plain(&match platform {
        Some(platform) => format!("Pulling docker image {image} for platform {platform} ..."),
        None => format!("Pulling docker image {image} ..."),
    })
}

/// Where a login comes from.
pub fn authenticating_with(source: &str) -> String {
    plain(&format!("Authenticating with credentials from {source}"))
}

/// The network failed, and the same policy goes on.
pub fn pull_will_be_retried(image: &str, attempt: u32, error: &str) -> String {
    warning(&format!(
        "Failed to pull image {image:?} (attempt #{attempt}), retrying: {error}"
    ))
}

/// A policy that gave no image.
pub fn pull_policy_failed(policy: &str, error: &str) -> String {
    warning(&format!(
        "Failed to pull image with policy {policy:?}: {error}"
    ))
}

/// The image that is used.
pub fn using_docker_image(id: &str, name: &str, digest: Option<&str>) -> String {
    plain(&match digest {
        Some(digest) => format!("Using docker image {id} for {name} with digest {digest} ..."),
        None => format!("Using docker image {id} for {name} ..."),
    })
}
