//! Programs of others that this workspace installs for itself, in `target/peers`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::arguments::Arguments;
use crate::world::workspace;

/// The version that the goals were set against. It needs Node 20 and rsync.
const GITLAB_CI_LOCAL: &str = "gitlab-ci-local@4.66.1";

/// gitlab-ci-local: the one named, else one of our own, installed at first use.
pub(crate) fn gitlab_ci_local(arguments: &Arguments) -> Result<PathBuf> {
    if let Some(path) = &arguments.gitlab_ci_local {
        return Ok(path.clone());
    }
    let directory = workspace().join("target/peers");
    let program = directory.join("node_modules/.bin/gitlab-ci-local");
    if program.exists() {
        return Ok(program);
    }
    std::fs::create_dir_all(&directory).context("target/peers")?;
    let status = Command::new("npm")
        .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
        .arg(&directory)
        .arg(GITLAB_CI_LOCAL)
        .status()
        .context("npm, which installs the peer gitlab-ci-local")?;
    if !status.success() {
        bail!("npm could not install {GITLAB_CI_LOCAL}");
    }
    Ok(program)
}
