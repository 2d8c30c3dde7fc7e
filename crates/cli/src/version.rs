//! `--version` and `User-Agent`, in upstream's shape.

pub(crate) use courser_protocol::info::{RUNNER_VERSION, architecture, platform, revision};

/// `--version` (`runner-cli.md` 1.2). Courser's own version is in the line of the revision.
pub(crate) fn text() -> String {
    format!(
        "Version:      {RUNNER_VERSION}\n\
         Git revision: {}\n\
         Git branch:   courser\n\
         GO version:   none (Rust)\n\
         Built:        from source\n\
         OS/Arch:      {}/{}\n",
        revision(),
        platform(),
        architecture(),
    )
}

/// `User-Agent` of every request: `gitlab-runner <version> (<branch>; <toolchain>; <os>/<arch>)`.
pub(crate) fn user_agent() -> String {
    format!(
        "gitlab-runner {RUNNER_VERSION} ({}; rust; {}/{})",
        revision(),
        platform(),
        architecture(),
    )
}
