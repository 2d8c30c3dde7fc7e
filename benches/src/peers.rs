//! Programs to compare with that this workspace installs or builds for itself, in `target/peers`.

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

/// A small program of ours around Go's `crypto/x509` (`benches/go-x509`); none where there is no Go.
pub(crate) fn go_x509() -> Result<Option<PathBuf>> {
    let candidates = ["go", "/usr/local/go/bin/go"];
    let runs = |go: &&&str| Command::new(go).arg("version").output().is_ok();
    let Some(go) = candidates.iter().find(runs) else {
        return Ok(None);
    };
    let program = workspace().join("target/peers/go-x509");
    let status = Command::new(go)
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(workspace().join("benches/go-x509"))
        .status()
        .context("go build")?;
    if !status.success() {
        bail!("go could not build benches/go-x509");
    }
    Ok(Some(program))
}
