//! What the Docker executor says (`executor-docker.md` 5 to 14 and 22).

use super::{RESET, YELLOW, error, info, plain, warning};

/// Executor line of `prepare_executor`.
pub fn using_docker_executor(image: &str) -> String {
    plain(&format!("Using Docker executor with image {image} ..."))
}

/// The job names no image.
pub fn using_default_image() -> String {
    info("Using default image")
}

/// Ours, before the container fails with "exec format error".
pub fn image_for_other_machines(image: &str, architecture: &str, machine: &str) -> String {
    warning(&format!(
        "Image {image} is for {architecture}, and the Docker Engine's machine is {machine}: unless it emulates that \
         (binfmt_misc), no program of the image starts. An image with that name for this machine is pulled with \
         `image: {{docker: {{platform: …}}}}` or `pull_policy: always`"
    ))
}

/// gitlab-runner's helper image, where Courser came without its own (11.2).
pub fn using_upstreams_helper_image(image: &str) -> String {
    plain(&format!("Using helper image:  {image}"))
}

/// A configured helper image; the double blanks are upstream's.
pub fn using_helper_image(image: &str, default: &str) -> String {
    plain(&format!(
        "Using helper image:  {image}  (overridden, default would be  {default} )"
    ))
}

/// `FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR` (15).
pub fn not_using_umask() -> String {
    plain("Not using umask - FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR is set!")
}

/// Where that flag is set, before the first script.
pub fn changing_ownership(directory: &str, uid: u32, gid: u32) -> String {
    plain(&format!(
        "Changing ownership of files at \"{directory}\" to {uid}:{gid}"
    ))
}

/// `volume_keep` is set.
pub fn volume_keep_enabled() -> String {
    warning(
        "volume_keep is enabled: Docker volumes will not be removed after job completion and may accumulate on disk",
    )
}

/// A job chose an entrypoint and may not.
pub fn entrypoint_override_disabled() -> String {
    warning("Entrypoint override disabled")
}

/// `mac_address` on an old daemon.
pub fn mac_address_needs_newer_daemon() -> String {
    warning(
        "mac_address is configured, but the Docker daemon's API version is older than 1.44; \
         it cannot be applied to this container",
    )
}

/// What may be used instead of an image (`images`) or a service (`services`) that may not.
pub fn disallowed_image(image: &str, list: &str, globs: &[String]) -> Vec<String> {
    let title = error(&format!(
        "The \"{image}\" image is not present on list of allowed {list}:"
    ));
    let globs = globs.iter().map(|glob| plain(&format!("- {glob}")));
    // Upstream names `allowed_images` for services too.
    let remedy = plain(
        "Please check runner's allowed_images configuration: \
         https://docs.gitlab.com/runner/configuration/advanced-configuration/",
    );
    std::iter::once(title)
        .chain(globs)
        .chain([remedy])
        .collect()
}

/// Before a service is started; `service` with its version.
pub fn starting_service(service: &str) -> String {
    plain(&format!("Starting service {service}..."))
}

/// A host name that another service has.
pub fn skipping_alias(alias: &str, service: &str, index: usize) -> String {
    warning(&format!(
        "Skipping alias \"{alias}\" for service \"{service}\" (services[{index}]): alias is already in use by \
         another service."
    ))
}

/// Before the health checks.
pub fn waiting_for_services(seconds: u64) -> String {
    plain(&format!(
        "Waiting for services to be up and running (timeout {seconds} seconds)..."
    ))
}

/// A service that did not answer: what was wrong, what the check printed, what the service printed. For standard error.
pub fn service_not_ready(
    container: &str,
    fault: &str,
    check_log: &str,
    service_log: &str,
) -> String {
    let block = |log: &str| {
        let end = if log.is_empty() || log.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        format!("{log}{end}")
    };
    format!(
        "\n{YELLOW}*** WARNING:{RESET} Service {container} probably didn't start properly.\n\n\
         Health check error:\n{fault}\n\n\
         Health check container logs:\n{}\n\
         Service container logs:\n{}\n\
         {YELLOW}*********{RESET}\n\n",
        block(check_log),
        block(service_log),
    )
}

/// The check did not end in time.
pub fn health_check_timeout(service_container: &str) -> String {
    format!("service \"{service_container}-wait-for-service\" timeout")
}

/// The check ended with a status.
pub fn health_check_failed(service_container: &str, code: i64) -> String {
    format!("service \"{service_container}\" health check: exit code {code}")
}

/// The service has nothing that could be checked.
pub fn service_without_ports(service_container: &str) -> String {
    format!("service \"{service_container}\" has no exposed ports")
}

/// A line of a service's log (`CI_DEBUG_SERVICES`), in grey.
pub fn service_line(aliases: &[String], line: &str) -> String {
    const GREY: &str = "\u{1b}[0;90m";
    format!("{GREY}[service:{}] {line}{RESET}\n", aliases.join("-"))
}

/// A service's log cannot be followed.
pub fn service_log_not_opened(container: &str, why: &str) -> String {
    warning(&format!(
        "failed to open log stream for container {container}: {why}"
    ))
}

/// A service's log ended early.
pub fn service_log_broken(container: &str, why: &str) -> String {
    warning(&format!(
        "error streaming logs for container {container}: {why}"
    ))
}

/// A container that still ran when it was removed.
pub fn disconnected(container: &str, network: &str) -> String {
    info(&format!(
        "Container {container} disconnected from network {network}"
    ))
}

/// The engine does not know a container any more (7).
pub fn container_gone(id: &str) -> String {
    error(&format!(
        "Container {id:?} not found or removed. Will retry..."
    ))
}

/// Before a stage is run again in a new container.
pub fn retrying_stage(stage: &str) -> String {
    info(&format!("Retrying {stage}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disallowed_image_is_told_with_what_is_allowed() {
        let globs = ["ruby:*".to_owned(), "alpine:*".to_owned()];
        let text: String = disallowed_image("x:1", "services", &globs).concat();
        assert_eq!(
            text,
            "\u{1b}[31;1mERROR: The \"x:1\" image is not present on list of allowed services:\u{1b}[0;m\n\
             \u{1b}[0K- ruby:*\u{1b}[0;m\n\u{1b}[0K- alpine:*\u{1b}[0;m\n\
             \u{1b}[0KPlease check runner's allowed_images configuration: \
             https://docs.gitlab.com/runner/configuration/advanced-configuration/\u{1b}[0;m\n"
        );
    }

    #[test]
    fn a_service_that_is_not_ready_is_a_block() {
        let fault = health_check_timeout("c-redis-0");
        assert_eq!(
            service_not_ready("c-redis-0", &fault, "2026 waiting\n", "2026 dead"),
            "\n\u{1b}[0;33m*** WARNING:\u{1b}[0;m Service c-redis-0 probably didn't start properly.\n\n\
             Health check error:\nservice \"c-redis-0-wait-for-service\" timeout\n\n\
             Health check container logs:\n2026 waiting\n\n\
             Service container logs:\n2026 dead\n\n\
             \u{1b}[0;33m*********\u{1b}[0;m\n\n"
        );
    }
}
