//! Servers and proxies that others wrote, each with directories, port and certificate of its own.
//!
//! `cargo xtask test-servers` installs them (`tests/servers/`). A test that needs one that is not there
//! fails and says so: a test that is left out proves nothing.

use std::path::{Path, PathBuf};

/// Where an installed program lies.
///
/// # Panics
///
/// When it is not installed.
pub fn program(name: &str) -> PathBuf {
    let installed = installed();
    let places = [installed.join("bin"), installed.join("venv").join("bin")];
    let system = [
        "/usr/local/bin",
        "/usr/bin",
        "/bin",
        "/usr/local/sbin",
        "/usr/sbin",
        "/sbin",
    ];
    places
        .into_iter()
        .chain(system.iter().map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed; run `cargo xtask test-servers`"))
}

/// What `cargo xtask test-servers` fills.
fn installed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-servers")
}
