//! Getting the sources, submodules and LFS included.

use super::{notice, script_warning};

/// What Git does not say about a TLS failure: which certificates, which trust, which remedy. Ends with a newline.
pub fn tls_explanation(place: &str, explanation: &str) -> String {
    format!(
        "{}\n{explanation}\n",
        script_warning(&format!("TLS with {place} as Git is set up here:"))
    )
}

/// `GIT_SSL_NO_VERIFY` is set: whatever its value, Git checks nothing.
pub fn git_unverified() -> String {
    script_warning(
        "WARNING: GIT_SSL_NO_VERIFY is set: Git does not check whom it talks to, so anybody on the way can read the job's \
         token and change its sources. Name the CA of the server in tls-ca-file of the runner instead.",
    )
}

/// Strategy none.
pub fn skipping_repository_setup() -> String {
    notice("Skipping Git repository setup")
}

/// Strategy empty.
pub fn creating_empty_directory() -> String {
    notice("Skipping Git repository setup and creating an empty build directory")
}

/// Correlation id handed to Gitaly.
pub fn gitaly_correlation_id(id: &str) -> String {
    notice(&format!("Gitaly correlation ID: {id}"))
}

/// Before `git fetch`; depth 0 = everything.
pub fn fetching_changes(depth: i64) -> String {
    notice(&format!("Fetching changes{}...", with_depth(depth)))
}

/// The repository was not there before.
pub fn created_fresh_repository() -> String {
    notice("Created fresh repository.")
}

/// Git is new enough to clone by itself.
pub fn git_is_new_enough(version: &str) -> String {
    notice(&format!("Git version at least {version:?}"))
}

/// Before `git clone`; depth 0 = everything.
pub fn cloning_repository(ref_name: &str, depth: i64) -> String {
    let of = if ref_name.is_empty() {
        String::new()
    } else {
        format!(" for {}", printable(ref_name))
    };
    notice(&format!("Cloning repository{of}{}...", with_depth(depth)))
}

fn with_depth(depth: i64) -> String {
    if depth > 0 {
        format!(" with git depth set to {depth}")
    } else {
        String::new()
    }
}

/// A name that a server has sent, in one line.
fn printable(name: &str) -> String {
    let plain = |c: char| if c.is_control() { '?' } else { c };
    name.chars().map(plain).collect()
}

/// The credentials cannot be bound to the host they are for.
pub fn proactive_auth_everywhere() -> String {
    script_warning(
        "WARNING: the remote names no host: FF_USE_GIT_PROACTIVE_AUTH applies to every host Git talks to",
    )
}

/// Before `git checkout`. At most 8 characters of `sha` are shown.
pub fn checking_out(sha: &str, ref_name: &str) -> String {
    let short = sha.get(..8).unwrap_or(sha);
    notice(&format!(
        "Checking out {short} as detached HEAD (ref is {})...",
        printable(ref_name)
    ))
}

/// `GIT_CHECKOUT=false`.
pub fn skipping_checkout() -> String {
    notice("Skipping Git checkout")
}

/// No submodule strategy.
pub fn skipping_submodules() -> String {
    notice("Skipping Git submodules setup")
}

/// Before submodules are touched; depth 0 = everything.
pub fn updating_submodules(recursive: bool, depth: i64) -> String {
    let recursively = if recursive { " recursively" } else { "" };
    notice(&format!(
        "Updating/initializing submodules{recursively}{}...",
        with_depth(depth)
    ))
}

/// `git submodule update` worked.
pub fn updated_submodules() -> String {
    notice("Updated submodules")
}

/// It did not, and is tried once more.
pub fn retrying_submodules() -> String {
    script_warning("Updating submodules failed. Retrying...")
}

/// Before submodules include the configuration with the job's credentials.
pub fn configuring_submodules() -> String {
    notice("Configuring submodules to use parent git credentials...")
}

/// Before `git lfs pull` in submodules.
pub fn pulling_lfs_files() -> String {
    notice("Pulling LFS files...")
}

/// `clear_worktree`.
pub fn deleting_files() -> String {
    notice("Deleting tracked and untracked files...")
}

/// Job cleanup with strategy none.
pub fn skipping_cleanup() -> String {
    notice("Skipping build directory cleanup step")
}
